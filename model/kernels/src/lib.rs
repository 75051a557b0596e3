//! How Ocelli nodes see fast: exact integer kernels for convolutional networks.
//!
//! A [`Plan`] is a network, packed once for the instructions of a processor ([`Kernel`]); running it gives the same i32
//! logits as the scalar reference of `ocelli-model`, bit for bit. There are two ways to convolve. The [`direct`] one
//! multiplies unsigned bytes by signed bytes (`vpdpbusd`, `maddubs`, `sdot`). [`winograd`] needs a quarter of the products,
//! of 16-bit numbers modulo 2^32, and gives the same integers: what it divides by is divided out exactly. Convolution,
//! bias, skip, 2x2 max-pool, shift and clamp are one pass over registers, and what a pool leaves out is never computed.
//!
//! The meaning of the layers and the bounds that are taken for granted here are those of `docs/inference.md`: activations in
//! 0..=127, weights in -127..=127, and every sum with its bias and skip below 2^24 in magnitude. A network beyond them gives
//! wrong numbers; it cannot make a kernel read or write out of bounds, as bounds are checked on their own.
//!
//! This crate depends on nothing, so that it can be built and tried wherever a Rust compiler is.

mod aligned;
mod direct;
mod finish;
mod input;
mod kernel;
mod layout;
mod network;
mod plan;
mod pool;
mod profile;
mod simd;
#[cfg(test)]
mod tests;
mod winograd;

pub use kernel::{Kernel, ParseKernelError};
pub use network::{Layer, Shape, Sums};
pub use plan::{Join, Plan, PlanError, Scratch};
pub use profile::{Method, StepProfile, limit};
