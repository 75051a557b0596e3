//! What runs models on a device. Every backend returns the same bits as the scalar reference.

mod candle;
mod device;

use crate::model::Model;
use crate::reference;

pub use candle::CandleBackend;
pub use device::{DeviceChoice, ParseDeviceError};

/// Runs models on images, on a device of its own.
pub trait Backend: Send {
    /// The device and the library, for people.
    fn name(&self) -> String;

    /// The logits of each image, in order; an image is `model.pixels()` bytes in CHW order. How images are batched never
    /// changes a logit.
    ///
    /// # Errors
    /// If an image has another number of bytes, or the device fails.
    fn logits(&mut self, model: &Model, images: &[&[u8]]) -> Result<Vec<Vec<i32>>, BackendError>;
}

/// Why a backend has no answer.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// An image has another number of bytes than the model takes.
    #[error("image {index} has {found} bytes, the model takes {expected}")]
    Pixels {
        /// The image, from 0.
        index: usize,
        /// Bytes the model takes.
        expected: usize,
        /// Bytes the image has.
        found: usize,
    },
    /// The device that was asked for cannot be used.
    #[error("the device '{choice}' cannot be used")]
    Device {
        /// What was asked for.
        choice: DeviceChoice,
        /// Why.
        #[source]
        source: candle_core::Error,
    },
    /// One image needs more of the device's memory than is allowed.
    #[error("one image needs {needed} bytes of the device's memory, more than {allowed}")]
    Memory {
        /// An estimate of the bytes needed.
        needed: u64,
        /// The bytes allowed.
        allowed: u64,
    },
    /// The device or its library failed.
    #[error("the device failed")]
    Candle(#[from] candle_core::Error),
}

/// The scalar reference as a backend: slow, and right by definition.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReferenceBackend;

impl Backend for ReferenceBackend {
    fn name(&self) -> String {
        "CPU (scalar reference)".into()
    }

    fn logits(&mut self, model: &Model, images: &[&[u8]]) -> Result<Vec<Vec<i32>>, BackendError> {
        check_images(model, images)?;
        Ok(images.iter().map(|pixels| reference::logits(model, pixels)).collect())
    }
}

fn check_images(model: &Model, images: &[&[u8]]) -> Result<(), BackendError> {
    let expected = model.pixels();
    match images.iter().enumerate().find(|(_, image)| image.len() != expected) {
        Some((index, image)) => Err(BackendError::Pixels { index, expected, found: image.len() }),
        None => Ok(()),
    }
}
