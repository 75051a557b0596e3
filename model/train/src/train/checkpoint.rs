//! A training that was stopped, as a file: everything that a continuation needs to end as if it had not been.
//!
//! It is a safetensors file of f32 lists, with the rest as JSON in its metadata. The pictures are not in it, only their
//! hash, so that a training is not continued on others.

use std::collections::HashMap;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::network::{floats, little_endian};
use super::{EpochMetrics, FloatScore, Recipe, TrainError};
use crate::dataset::Dataset;

/// The key of the description in the metadata.
const DESCRIPTION: &str = "ocelli-checkpoint";

/// What is known of a stopped training besides its numbers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Description {
    pub(super) recipe: Recipe,
    pub(super) graph: String,
    /// [`data_hash`] of the pictures.
    pub(super) data: String,
    pub(super) epochs: Vec<EpochMetrics>,
    pub(super) best: Option<FloatScore>,
    pub(super) position: Position,
    /// Steps of the optimizer.
    pub(super) optimizer_steps: u64,
}

/// Where in an epoch a training is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Position {
    /// Words that the generator had given when the epoch began; its next numbers are the order of the pictures.
    pub(super) epoch_word: u64,
    /// Words that the generator has given.
    pub(super) word: u64,
    /// Steps done in the epoch.
    pub(super) step: usize,
    /// The sum of the losses of the epoch's pictures.
    pub(super) loss_sum: f64,
    /// How many of the epoch's pictures were right.
    pub(super) right: usize,
}

/// A hash of shape, classes, labels and pixels, in hex.
pub(super) fn data_hash(data: &Dataset) -> String {
    let mut hash = Sha256::new();
    hash.update(data.shape().to_string());
    for class in data.classes() {
        hash.update((class.len() as u64).to_le_bytes());
        hash.update(class);
    }
    for (index, label) in data.labels().iter().enumerate() {
        hash.update(label.to_le_bytes());
        hash.update(data.pixels(index));
    }
    hex::encode(hash.finalize())
}

/// Writes a checkpoint of named lists.
pub(super) fn write(description: &Description, lists: &[(String, Vec<f32>)]) -> Result<Vec<u8>, TrainError> {
    let bytes: Vec<Vec<u8>> = lists.iter().map(|(_, values)| little_endian(values)).collect();
    let views: Vec<(&str, TensorView)> = lists
        .iter()
        .zip(&bytes)
        .map(|((name, values), bytes)| {
            Ok((name.as_str(), TensorView::new(Dtype::F32, vec![values.len()], bytes.as_slice())?))
        })
        .collect::<Result<_, safetensors::SafeTensorError>>()?;
    let description = serde_json::to_string(description)?;
    let metadata = HashMap::from([(DESCRIPTION.to_owned(), description)]);
    Ok(safetensors::serialize(views, Some(metadata))?)
}

/// A checkpoint that is read.
pub(super) struct Checkpoint<'a> {
    file: SafeTensors<'a>,
}

impl<'a> Checkpoint<'a> {
    /// Reads the description and opens the lists.
    pub(super) fn read(bytes: &'a [u8]) -> Result<(Self, Description), TrainError> {
        let (_, metadata) = SafeTensors::read_metadata(bytes)?;
        let description = metadata.metadata().as_ref().and_then(|map| map.get(DESCRIPTION));
        let description = description.ok_or(TrainError::NoCheckpoint { key: DESCRIPTION })?;
        let description = serde_json::from_str(description)?;
        Ok((Self { file: SafeTensors::deserialize(bytes)? }, description))
    }

    /// A list, which must be of a length.
    pub(super) fn list(&self, name: &str, length: usize) -> Result<Vec<f32>, TrainError> {
        floats(&self.file, name, &[length])
    }
}
