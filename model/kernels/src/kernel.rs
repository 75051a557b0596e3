//! Which instructions a plan is made for.

use std::fmt;
use std::str::FromStr;

use crate::simd::{self, Job, Portable, Simd as _};

/// A set of instructions that the kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kernel {
    /// Plain Rust with the geometry of NEON (4 words a vector), so that it is tested on every machine.
    #[cfg(test)]
    Portable4,
    /// Plain Rust with the geometry of AVX-512 (16 words a vector), so that it is tested on every machine.
    #[cfg(test)]
    Portable16,
    /// Plain Rust, on any processor.
    Portable,
    /// AArch64 NEON.
    Neon,
    /// AArch64 NEON with the dot product instructions.
    NeonDot,
    /// AVX2.
    Avx2,
    /// AVX-VNNI, on 256 bits.
    AvxVnni,
    /// The same in the encoding of AVX-512.
    #[cfg(test)]
    EvexVnni,
    /// AVX-512 with VNNI.
    Avx512Vnni,
}

/// A text that names no kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseKernelError {
    /// What was found, at most 80 characters of it.
    pub text: String,
}

impl Kernel {
    /// All of them, the slowest first.
    pub const ALL: &[Self] = &[
        #[cfg(test)]
        Self::Portable4,
        #[cfg(test)]
        Self::Portable16,
        Self::Portable,
        Self::Neon,
        Self::NeonDot,
        Self::Avx2,
        Self::AvxVnni,
        #[cfg(test)]
        Self::EvexVnni,
        Self::Avx512Vnni,
    ];

    /// Whether this processor can run it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(test)]
            Self::Portable4 | Self::Portable16 => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => simd::Avx2::detect().is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => simd::AvxVnni::detect().is_some(),
            #[cfg(all(test, target_arch = "x86_64"))]
            Self::EvexVnni => simd::EvexVnni::detect().is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => simd::Avx512Vnni::detect().is_some(),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => true,
            #[cfg(target_arch = "aarch64")]
            Self::NeonDot => simd::NeonDot::detect().is_some(),
            #[allow(unreachable_patterns)]
            _ => false,
        }
    }

    /// Does a job with these instructions; `None` if this processor does not have them.
    pub(crate) fn run<J: Job>(self, job: J) -> Option<J::Output> {
        match self {
            #[cfg(test)]
            Self::Portable4 => Some(Portable::<4>.vectorize(job)),
            #[cfg(test)]
            Self::Portable16 => Some(Portable::<16>.vectorize(job)),
            Self::Portable => Some(Portable::<8>.vectorize(job)),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => simd::Avx2::detect().map(|simd| simd.vectorize(job)),
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => simd::AvxVnni::detect().map(|simd| simd.vectorize(job)),
            #[cfg(all(test, target_arch = "x86_64"))]
            Self::EvexVnni => simd::EvexVnni::detect().map(|simd| simd.vectorize(job)),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => simd::Avx512Vnni::detect().map(|simd| simd.vectorize(job)),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => Some(simd::Neon.vectorize(job)),
            #[cfg(target_arch = "aarch64")]
            Self::NeonDot => simd::NeonDot::detect().map(|simd| simd.vectorize(job)),
            #[allow(unreachable_patterns)]
            _ => None,
        }
    }

    /// Those that this processor can run, the slowest first; the portable one is always among them.
    pub fn available() -> impl DoubleEndedIterator<Item = Self> {
        Self::ALL.iter().copied().filter(|kernel| kernel.is_available())
    }

    /// The fastest that this processor can run.
    pub fn best() -> Self {
        Self::available().next_back().unwrap_or(Self::Portable)
    }

    /// Its name, by which it is also parsed.
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(test)]
            Self::Portable4 => "portable4",
            #[cfg(test)]
            Self::Portable16 => "portable16",
            Self::Portable => "portable",
            Self::Neon => "neon",
            Self::NeonDot => "neondot",
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avxvnni",
            #[cfg(test)]
            Self::EvexVnni => "evexvnni",
            Self::Avx512Vnni => "avx512vnni",
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kernel {
    type Err = ParseKernelError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.iter().copied().find(|kernel| kernel.name() == text);
        found.ok_or_else(|| ParseKernelError { text: text.chars().take(80).collect() })
    }
}

impl fmt::Display for ParseKernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a kernel: expected", self.text)?;
        for (index, kernel) in Kernel::ALL.iter().enumerate() {
            let separator = if index == 0 {
                " "
            } else if index + 1 == Kernel::ALL.len() {
                " or "
            } else {
                ", "
            };
            write!(f, "{separator}{kernel}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ParseKernelError {}
