//! CIFAR-10's binary version (A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009): the files
//! of `cifar-10-binary.tar.gz`.
//!
//! A batch is records of 3,073 bytes: a label, then 32 rows of 32 red pixels, the green ones and the blue ones. The file
//! `batches.meta.txt` names a class on each line. CIFAR-100's records have two labels and are something else.

use image::{Rgb, RgbImage};
use ocelli_model::graph::Shape;
use ocelli_model::zoo::CIFAR10_CLASSES;

use super::{TEST, TRAIN, composed};

/// The shape of every picture.
const SHAPE: Shape = Shape { channels: 3, height: 32, width: 32 };
/// The bytes of a record.
const RECORD: usize = 1 + 3 * 32 * 32;
/// The largest number of classes that a label, a byte, can name.
const MAX_CLASSES: usize = 256;

/// What a file is by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `data_batch_*.bin` or `test_batch.bin`: records of a part.
    Batch(&'static str),
    /// `batches.meta.txt`: the names of the classes.
    ClassNames,
}

impl Role {
    /// The role of a file by its name without folders; none if it has none.
    pub fn of(name: &str) -> Option<Self> {
        match name {
            "test_batch.bin" => Some(Self::Batch(TEST[0])),
            "batches.meta.txt" => Some(Self::ClassNames),
            _ if name.starts_with("data_batch_") && name.ends_with(".bin") => Some(Self::Batch(TRAIN[0])),
            _ => None,
        }
    }
}

/// The labels and pixels of a batch, or why the file is none.
pub fn records(bytes: &[u8]) -> Result<impl Iterator<Item = (u8, &[u8])>, String> {
    if bytes.is_empty() || !bytes.len().is_multiple_of(RECORD) {
        return Err(format!(
            "it has {} bytes, expected records of {RECORD} as CIFAR-10's binary batches have",
            bytes.len()
        ));
    }
    Ok(bytes.chunks_exact(RECORD).map(|record| (record[0], &record[1..])))
}

/// The names of the classes, or why the file has none.
pub fn class_names(bytes: &[u8]) -> Result<Vec<String>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())?;
    let text = text.trim_start_matches('\u{feff}');
    let names: Vec<String> = text.lines().map(str::trim).filter(|name| !name.is_empty()).map(composed).collect();
    if names.is_empty() || names.len() > MAX_CLASSES {
        return Err(format!(
            "it has {} lines, expected the name of a class on each of 1 to {MAX_CLASSES}",
            names.len()
        ));
    }
    Ok(names)
}

/// The names where there is no file of names.
pub fn default_class_names() -> Vec<String> {
    CIFAR10_CLASSES.map(String::from).to_vec()
}

/// The pixels of a record in another shape, resampled where it is another.
pub fn pixels(record: &[u8], shape: Shape) -> Result<Vec<u8>, ocelli_model::PictureError> {
    if shape == SHAPE {
        return Ok(record.to_vec());
    }
    let plane = SHAPE.height * SHAPE.width;
    let picture = RgbImage::from_fn(SHAPE.width as u32, SHAPE.height as u32, |x, y| {
        let place = y as usize * SHAPE.width + x as usize;
        Rgb([0, 1, 2].map(|channel| record[channel * plane + place]))
    });
    ocelli_model::picture::from_rgb(picture, shape)
}
