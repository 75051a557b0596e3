//! What runs models on a device. Every backend returns the same bits as the scalar reference.

mod candle;
mod device;
mod failure;
mod kernels;
mod prepared;

use crate::model::Model;
use crate::reference;

pub use candle::CandleBackend;
pub use device::{DeviceChoice, ParseDeviceError};
pub use failure::DeviceFailure;
pub use kernels::KernelBackend;
pub use ocelli_kernels::{Kernel, Method, StepProfile, limit};

/// The environment variable that forces a kernel on the CPU: the name of a [`Kernel`], or [`CANDLE`].
pub const KERNEL_VARIABLE: &str = "OCELLI_KERNEL";
/// What [`KERNEL_VARIABLE`] says for candle's own operations.
pub const CANDLE: &str = "candle";

/// Opens a device: a GPU with candle, or the CPU with the fastest of our kernels that it can run, unless the environment
/// variable `OCELLI_KERNEL` names another one (to compare and to find faults). For [`DeviceChoice::Auto`], the second value
/// says why no GPU is used.
///
/// # Errors
/// If a device was asked for by name and cannot be used, or the variable names no kernel of this processor.
pub fn open(choice: DeviceChoice) -> Result<(Box<dyn Backend>, Option<String>), BackendError> {
    let (candle, reason) = CandleBackend::open(choice)?;
    if !candle.is_cpu() {
        return Ok((Box::new(candle), reason));
    }
    let kernel = match std::env::var(KERNEL_VARIABLE) {
        Err(_) => Kernel::best(),
        Ok(name) if name == CANDLE => return Ok((Box::new(candle), reason)),
        Ok(name) => name.parse().map_err(BackendError::KernelVariable)?,
    };
    Ok((Box::new(KernelBackend::with(kernel, KernelBackend::cores())?), reason))
}

/// Runs models on images, on a device of its own.
pub trait Backend: Send {
    /// The device and the library, for people.
    fn name(&self) -> String;

    /// What computes there: the name of the kernel, or of the library.
    fn kernel_name(&self) -> String;

    /// The threads of this process that compute.
    fn threads(&self) -> usize;

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
        #[source]
        source: DeviceFailure,
    },
    /// The environment names no kernel.
    #[error("{KERNEL_VARIABLE} is to name a kernel, or {CANDLE:?}")]
    KernelVariable(#[source] ocelli_kernels::ParseKernelError),
    /// This processor cannot run the kernel that was asked for.
    #[error("this processor cannot run the kernel {kernel}")]
    Kernel {
        /// What was asked for.
        kernel: Kernel,
    },
    /// The kernels cannot run a model.
    #[error("no plan for the model")]
    Plan(#[source] ocelli_kernels::PlanError),
    /// The system starts no more threads.
    #[error("no threads for inference")]
    Threads(#[source] rayon::ThreadPoolBuildError),
    /// The device or its library failed.
    #[error("the device failed")]
    Candle(#[source] DeviceFailure),
}

impl From<candle_core::Error> for BackendError {
    fn from(error: candle_core::Error) -> Self {
        Self::Candle(error.into())
    }
}

/// The scalar reference as a backend: slow, and right by definition.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReferenceBackend;

impl Backend for ReferenceBackend {
    fn name(&self) -> String {
        "CPU (scalar reference)".into()
    }

    fn kernel_name(&self) -> String {
        "reference".into()
    }

    fn threads(&self) -> usize {
        1
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
