//! A loaded model: parsed, proven exact, ready to run.

use std::sync::Arc;

use crate::display::{Display, DisplayError};
use crate::file::{FileError, ModelFile, Parameters};
use crate::graph::{Graph, Shape};
use crate::id::ModelId;
use crate::proof::{self, Proof, ProofError};

/// A model that was proven exact, with the bytes of its file. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Model(Arc<Loaded>);

#[derive(Debug)]
struct Loaded {
    bytes: Vec<u8>,
    id: ModelId,
    file: ModelFile,
    display_error: Option<DisplayError>,
    proof: Proof,
}

/// Why bytes are not a model that can be run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ModelError {
    /// The bytes are not a model file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The model is not exact.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

impl Model {
    /// Reads a model file and proves the model exact.
    ///
    /// # Errors
    /// The first rule that is broken, with layer and channel where there are such.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ModelError> {
        let (file, display_error) = ModelFile::from_bytes(bytes)?;
        let proof = proof::prove(&file)?;
        Ok(Self(Arc::new(Loaded { bytes: bytes.to_vec(), id: ModelId::of(bytes), file, display_error, proof })))
    }

    /// The bytes of the model's file.
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    /// The hash of the model's file.
    pub fn id(&self) -> ModelId {
        self.0.id
    }

    /// What the file holds.
    pub fn file(&self) -> &ModelFile {
        &self.0.file
    }

    pub fn graph(&self) -> &Graph {
        &self.0.file.graph
    }

    /// The bounds of activations and sums.
    pub fn proof(&self) -> &Proof {
        &self.0.proof
    }

    /// The numbers of a layer.
    pub fn parameters(&self, layer: usize) -> &Parameters {
        &self.0.file.parameters[layer]
    }

    /// The number of weights and biases of all layers: what is usually called a network's parameters.
    pub fn parameter_count(&self) -> usize {
        self.0.file.parameters.iter().map(|layer| layer.weight.len() + layer.bias.len()).sum()
    }

    /// The shape of the pixels, u8 in CHW order.
    pub fn input(&self) -> Shape {
        self.graph().input().shape
    }

    /// The number of bytes that an image has.
    pub fn pixels(&self) -> usize {
        self.input().elements()
    }

    /// The number of logits, which is that of classes.
    pub fn logits(&self) -> usize {
        self.graph().logits()
    }

    /// What running the model on one image costs, in integer operations.
    pub fn cost(&self) -> u64 {
        self.graph().cost().operations
    }

    /// What is shown to people, as if the file had none where it cannot be read.
    pub fn display(&self) -> &Display {
        &self.0.file.display
    }

    /// Why the file's display cannot be read.
    pub fn display_error(&self) -> Option<&DisplayError> {
        self.0.display_error.as_ref()
    }

    /// The model's name, for display; may be empty.
    pub fn name(&self) -> &str {
        &self.display().name
    }

    /// The names of the classes, for display.
    pub fn classes(&self) -> &[String] {
        &self.display().classes
    }

    /// The label: the lowest index among the largest logits.
    pub fn label(&self, logits: &[i32]) -> usize {
        let best = (0..logits.len()).reduce(|best, class| if logits[class] > logits[best] { class } else { best });
        best.unwrap_or(0)
    }

    /// The indices of the `count` largest logits, the largest first and among equals the lowest index first: so the first is
    /// the label.
    pub fn best(&self, logits: &[i32], count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..logits.len()).collect();
        // Stable.
        order.sort_by_key(|class| std::cmp::Reverse(logits[*class]));
        order.truncate(count);
        order
    }

    /// The probabilities that the logits stand for: softmax of the scaled logits. For display only: floats differ between
    /// machines.
    pub fn probabilities(&self, logits: &[i32]) -> Vec<f64> {
        let largest = logits.iter().copied().max().unwrap_or(0);
        let scale = self.display().scale;
        let powers: Vec<f64> =
            logits.iter().map(|logit| ((f64::from(*logit) - f64::from(largest)) * scale).exp()).collect();
        let sum: f64 = powers.iter().sum();
        powers.into_iter().map(|power| power / sum).collect()
    }
}

impl ModelFile {
    /// Writes the file and loads it, and so proves it exact.
    ///
    /// # Errors
    /// If the parts do not fit each other, or the model is not exact.
    pub fn build(&self) -> Result<Model, ModelError> {
        Model::from_bytes(&self.to_bytes()?)
    }
}
