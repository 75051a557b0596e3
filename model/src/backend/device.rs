//! Which device runs the models.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;

use super::BackendError;

/// The device that a user asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The first GPU that this build can use, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The first CUDA GPU.
    Cuda,
    /// The first Metal GPU.
    Metal,
}

/// A text that names no device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a device: expected auto, cpu, cuda or metal")]
pub struct ParseDeviceError {
    /// What was found, at most 80 characters of it.
    pub text: String,
}

impl DeviceChoice {
    /// Opens the device; for `Auto`, also says why a GPU is not used.
    pub(super) fn open(self) -> Result<(Device, Option<String>), BackendError> {
        let failed = |source| BackendError::Device { choice: self, source };
        match self {
            Self::Cpu => Ok((Device::Cpu, None)),
            Self::Cuda => Ok((Device::new_cuda(0).map_err(failed)?, None)),
            Self::Metal => Ok((Device::new_metal(0).map_err(failed)?, None)),
            Self::Auto if cfg!(feature = "cuda") => Ok(or_cpu(Device::new_cuda(0))),
            Self::Auto if cfg!(feature = "metal") => Ok(or_cpu(Device::new_metal(0))),
            Self::Auto => Ok((Device::Cpu, Some("this program was built without support for GPUs".into()))),
        }
    }
}

fn or_cpu(device: candle_core::Result<Device>) -> (Device, Option<String>) {
    match device {
        Ok(device) => (device, None),
        Err(error) => (Device::Cpu, Some(error.to_string())),
    }
}

impl FromStr for DeviceChoice {
    type Err = ParseDeviceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda),
            "metal" => Ok(Self::Metal),
            _ => Err(ParseDeviceError { text: text.chars().take(80).collect() }),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Metal => "metal",
        })
    }
}
