//! `--device auto|cpu|cuda|metal`: where models run.

use std::thread;

use ocelli_model::{Backend, DeviceChoice, Model, backend, golden};

use crate::error::{CommandError, Explain as _};

/// What to try where a device cannot be opened.
pub const OTHER_DEVICE: &str = "try --device cpu, and unset OCELLI_KERNEL if it is set";

/// Which device.
#[derive(Debug, clap::Args)]
pub struct DeviceOption {
    /// Where models run; the answers are the same
    #[arg(long, value_name = "auto|cpu|cuda|metal", default_value = "auto")]
    device: DeviceChoice,
}

impl DeviceOption {
    /// As it is written on a command line.
    pub fn text(&self) -> &'static str {
        match self.device {
            DeviceChoice::Auto => "auto",
            DeviceChoice::Cpu => "cpu",
            DeviceChoice::Cuda => "cuda",
            DeviceChoice::Metal => "metal",
        }
    }

    /// Opens the device, and makes sure that it is exact on the models. `auto` goes on with the CPU, and says so, where
    /// another device is not.
    ///
    /// # Errors
    /// For a device that cannot be used, or that differs from the scalar reference.
    pub fn open(&self, models: &[Model]) -> Result<Box<dyn Backend>, CommandError> {
        let (device, why_no_gpu) = backend::open(self.device).hint(|| OTHER_DEVICE)?;
        if let Some(why) = why_no_gpu {
            tracing::warn!("no GPU is used: {why}");
        }
        match check(device, models) {
            Err(error) if self.device == DeviceChoice::Auto => {
                tracing::error!("{error}");
                let (cpu, _) = backend::open(DeviceChoice::Cpu)?;
                check(cpu, models)
            }
            checked => checked,
        }
    }
}

fn check(mut backend: Box<dyn Backend>, models: &[Model]) -> Result<Box<dyn Backend>, CommandError> {
    // On a thread of its own: whichever runs a backend is one of its threads from then on, and would have it work for blocks.
    let check = || {
        models.iter().try_for_each(|model| {
            golden::check(&mut *backend, model)
                .context(|| format!("{} is not exact and must not be used", backend.name()))
                .hint(|| "try --device cpu")
        })
    };
    thread::scope(|scope| scope.spawn(check).join().expect("backends answer or fail, and do not panic"))?;
    Ok(backend)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_opens_a_device_is_not_one_of_its_threads() {
        let models = [ocelli_model::zoo::get("cifar10-cnn").expect("built in")];
        let mut backend = DeviceOption { device: DeviceChoice::Cpu }.open(&models).expect("exact");
        assert_eq!(rayon::current_thread_index(), None);
        // Whoever runs it is.
        let pixels = vec![0; models[0].pixels()];
        let run = || (backend.logits(&models[0], &[&pixels, &pixels]).expect("runs"), rayon::current_thread_index());
        let (_, index) = thread::scope(|scope| scope.spawn(run).join().expect("no panic"));
        assert_eq!(index, (backend.threads() > 1).then_some(0));
    }
}
