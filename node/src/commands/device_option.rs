//! `--device auto|cpu|cuda|metal`: where models run.

use ocelli_model::{Backend, DeviceChoice, Model, backend, golden};

use super::error::{CommandError, Explain as _};

/// Which device.
#[derive(Debug, clap::Args)]
pub struct DeviceOption {
    /// Where the models run: auto, cpu, cuda or metal; the answers are the same
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
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
        let (device, why_no_gpu) =
            backend::open(self.device).hint(|| "try --device cpu, and unset OCELLI_KERNEL if it is set")?;
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
    for model in models {
        golden::check(&mut *backend, model)
            .context(|| format!("{} is not exact and must not be used", backend.name()))
            .hint(|| "try --device cpu")?;
    }
    Ok(backend)
}
