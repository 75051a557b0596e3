//! The device that runs models, what is known to be wrong with it, and what replaces it then.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ocelli_consensus::block::Classes;
use ocelli_consensus::{AttachmentHash, ModelId};
use ocelli_model::golden::{self, GoldenError};
use ocelli_model::{
    Backend, BackendError, CandleBackend, DeviceChoice, Kernel, KernelBackend, Model, ReferenceBackend, reference,
};
use rayon::prelude::*;

use crate::full_message::full_message;

/// Makes a backend to fall back to.
pub type Opener = fn() -> Result<Box<dyn Backend>, BackendError>;

/// What replaces a faulty device, in this order. After these comes the scalar reference.
pub const FALLBACKS: &[Opener] = &[open_kernels, open_portable, open_candle];

/// What a device did that cost it its place.
#[derive(Debug, thiserror::Error)]
pub enum DeviceFault {
    /// It returned an error.
    #[error("the device failed")]
    Failed(#[source] BackendError),
    /// Its code panicked.
    #[error("the device's code panicked: {message}")]
    Panicked {
        /// What the panic said.
        message: String,
    },
    /// It failed on the golden inputs.
    #[error("model {model}: the device is not exact")]
    Golden {
        /// The model that it ran.
        model: ModelId,
        /// What was wrong.
        #[source]
        source: Box<GoldenError>,
    },
    /// It answered for another number of images than it was given.
    #[error("model {model}: the device answered for {found} of {expected} images")]
    Count {
        /// The model that it ran.
        model: ModelId,
        /// Images given.
        expected: usize,
        /// Answers returned.
        found: usize,
    },
    /// An answer of it has another number of logits than the model.
    #[error("model {model}: the device returned {found} logits, the model has {expected}")]
    Logits {
        /// The model that it ran.
        model: ModelId,
        /// Logits that the model has.
        expected: usize,
        /// Logits returned.
        found: usize,
    },
    /// It disagrees with the scalar reference.
    #[error("model {model}, picture {attachment}: the device says {found:?}, the scalar reference {expected:?}")]
    Wrong {
        /// The model that it ran.
        model: ModelId,
        /// The picture that it was given.
        attachment: AttachmentHash,
        /// The reference's answer.
        expected: Box<Classes>,
        /// The device's answer.
        found: Box<Classes>,
    },
}

/// A backend and what stands behind it.
pub struct Device {
    backend: Box<dyn Backend>,
    fallbacks: std::slice::Iter<'static, Opener>,
    is_last: bool,
}

impl Device {
    /// Takes the backend as it is; see [`Device::check`].
    pub fn new(backend: Box<dyn Backend>, fallbacks: &'static [Opener]) -> Self {
        Self { backend, fallbacks: fallbacks.iter(), is_last: false }
    }

    /// Takes the backend as one that nothing stands behind.
    #[cfg(test)]
    pub fn last(backend: Box<dyn Backend>) -> Self {
        Self { backend, fallbacks: [].iter(), is_last: true }
    }

    /// The backend's name.
    pub fn name(&self) -> String {
        self.backend.name()
    }

    /// Whether this is the scalar reference that stands behind all others: nothing replaces it.
    pub fn is_last(&self) -> bool {
        self.is_last
    }

    /// Runs the golden inputs of every model.
    pub fn check(&mut self, models: &BTreeMap<ModelId, Model>) -> Result<(), DeviceFault> {
        let backend = &mut *self.backend;
        models.iter().try_for_each(|(id, model)| {
            guarded(|| golden::check(backend, model).map_err(Box::new))?
                .map_err(|source| DeviceFault::Golden { model: *id, source })
        })
    }

    /// The logits of each image: as many as there are images, each with as many logits as the model has.
    pub fn logits(&mut self, id: ModelId, model: &Model, images: &[&[u8]]) -> Result<Vec<Vec<i32>>, DeviceFault> {
        let answers = match guarded(|| self.backend.logits(model, images))? {
            // Some lawful model does not fit the kernels, which says nothing of the device. The reference runs every model.
            Err(BackendError::Plan(_)) => images.par_iter().map(|pixels| reference::logits(model, pixels)).collect(),
            answers => answers.map_err(DeviceFault::Failed)?,
        };
        if answers.len() != images.len() {
            return Err(DeviceFault::Count { model: id, expected: images.len(), found: answers.len() });
        }
        if let Some(answer) = answers.iter().find(|answer| answer.len() != model.logits()) {
            return Err(DeviceFault::Logits { model: id, expected: model.logits(), found: answer.len() });
        }
        Ok(answers)
    }

    /// Replaces the backend by the next one that opens and is exact on every model.
    pub fn fall_back(&mut self, models: &BTreeMap<ModelId, Model>) {
        while let Some(open) = self.fallbacks.next() {
            let opened = guarded(open).and_then(|result| result.map_err(DeviceFault::Failed));
            let checked = opened.and_then(|backend| {
                self.replace(backend);
                self.check(models)
            });
            match checked {
                Ok(()) => return,
                Err(fault) => {
                    tracing::error!(fault = full_message(&fault), "a device to fall back to is of no use either");
                }
            }
        }
        self.replace(Box::new(ReferenceBackend));
        self.is_last = true;
    }

    fn replace(&mut self, backend: Box<dyn Backend>) {
        let old = std::mem::replace(&mut self.backend, backend);
        // A device in a bad state may fail even at being closed.
        if let Err(fault) = guarded(|| drop(old)) {
            tracing::error!(fault = full_message(&fault), "closing the old device failed");
        }
    }
}

fn open_kernels() -> Result<Box<dyn Backend>, BackendError> {
    KernelBackend::open().map(|backend| Box::new(backend) as Box<dyn Backend>)
}

/// Without the vector instructions, which may be what is wrong.
fn open_portable() -> Result<Box<dyn Backend>, BackendError> {
    KernelBackend::with(Kernel::Portable, KernelBackend::cores()).map(|backend| Box::new(backend) as Box<dyn Backend>)
}

fn open_candle() -> Result<Box<dyn Backend>, BackendError> {
    CandleBackend::open(DeviceChoice::Cpu).map(|(backend, _)| Box::new(backend) as Box<dyn Backend>)
}

/// Turns a panic into a fault. What panicked may be left half done: the caller drops the backend, or replaces it.
fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, DeviceFault> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| DeviceFault::Panicked { message: message(&*panic) })
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}
