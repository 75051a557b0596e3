//! Which device runs the models.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use candle_core::Device;

use super::failure::guarded;
use super::{BackendError, DeviceFailure};

/// The device that a user asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The first GPU that this build can use, else the CPU.
    #[default]
    Auto,
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
    /// Opens the device; for `Auto`, also says why a GPU that this machine has, or that this build is for, is not used.
    pub(super) fn open(self) -> Result<(Device, Option<String>), BackendError> {
        let failed = |source| BackendError::Device { choice: self, source };
        match self {
            Self::Cpu => Ok((Device::Cpu, None)),
            Self::Cuda => Ok((open_cuda().map_err(failed)?, None)),
            Self::Metal => Ok((open_metal().map_err(failed)?, None)),
            Self::Auto if cfg!(feature = "cuda") => Ok(or_cpu("CUDA", open_cuda())),
            Self::Auto if cfg!(feature = "metal") => Ok(or_cpu("Metal", open_metal())),
            Self::Auto => Ok((Device::Cpu, Gpu::find().map(|gpu| why_cpu(Some(gpu), None)))),
        }
    }
}

fn open_cuda() -> Result<Device, DeviceFailure> {
    if cfg!(feature = "cuda") { guarded(|| Device::new_cuda(0)) } else { Err(not_built_for("cuda")) }
}

fn open_metal() -> Result<Device, DeviceFailure> {
    if cfg!(feature = "metal") { guarded(|| Device::new_metal(0)) } else { Err(not_built_for("metal")) }
}

fn not_built_for(feature: &str) -> DeviceFailure {
    DeviceFailure::new(format!("this program was built without the feature `{feature}`"))
}

/// A GPU that the system shows, whether or not this build can use it.
#[derive(Debug, Clone, Copy)]
enum Gpu {
    /// One that CUDA runs on; the file by which it was found.
    Nvidia(&'static str),
    /// The one in every Apple processor.
    Apple,
}

impl Gpu {
    /// What NVIDIA's driver leaves on Linux, in Windows' Linux, and on Windows.
    const NVIDIA: [&str; 4] =
        ["/dev/nvidia0", "/dev/nvidiactl", "/usr/lib/wsl/lib/libcuda.so.1", r"C:\Windows\System32\nvcuda.dll"];

    fn find() -> Option<Self> {
        let nvidia = Self::NVIDIA.into_iter().find(|path| Path::new(path).exists());
        let has_apple = cfg!(all(target_os = "macos", target_arch = "aarch64"));
        nvidia.map(Self::Nvidia).or(has_apple.then_some(Self::Apple))
    }
}

fn or_cpu(library: &str, device: Result<Device, DeviceFailure>) -> (Device, Option<String>) {
    match device {
        Ok(device) => (device, None),
        Err(error) => (Device::Cpu, Some(why_cpu(Gpu::find(), Some((library, &error.to_string()))))),
    }
}

/// Why the CPU is used: `failure` is what the library of this build said, if it is built for GPUs.
fn why_cpu(gpu: Option<Gpu>, failure: Option<(&str, &str)>) -> String {
    let (found, feature) = match gpu {
        Some(Gpu::Nvidia(sign)) => (format!("this machine has an NVIDIA GPU ({sign}), but "), "cuda"),
        Some(Gpu::Apple) => ("this machine has an Apple GPU, but ".into(), "metal"),
        None => (String::new(), "cuda"),
    };
    match failure {
        Some((library, error)) => format!("{found}{library} cannot be used: {error}"),
        None => format!("{found}this program was built without the feature `{feature}`"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_that_is_not_used_is_told_with_the_reason() {
        let nvidia = Some(Gpu::Nvidia("/dev/nvidia0"));
        let failure = Some(("CUDA", "no driver"));
        let rows = [
            (
                nvidia,
                None,
                "this machine has an NVIDIA GPU (/dev/nvidia0), but this program was built without the feature `cuda`",
            ),
            (
                Some(Gpu::Apple),
                None,
                "this machine has an Apple GPU, but this program was built without the feature `metal`",
            ),
            (nvidia, failure, "this machine has an NVIDIA GPU (/dev/nvidia0), but CUDA cannot be used: no driver"),
            (None, failure, "CUDA cannot be used: no driver"),
        ];
        for (gpu, failure, expected) in rows {
            assert_eq!(why_cpu(gpu, failure), expected);
        }
    }

    #[test]
    fn auto_gives_a_reason_exactly_where_a_gpu_is_passed_over() {
        let (device, reason) = DeviceChoice::Auto.open().expect("the CPU is always there");
        let expected = device.is_cpu() && (cfg!(any(feature = "cuda", feature = "metal")) || Gpu::find().is_some());
        assert_eq!(reason.is_some(), expected, "{reason:?}");
        assert_eq!(DeviceChoice::Cpu.open().expect("the CPU is always there").1, None);
    }
}
