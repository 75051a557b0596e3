//! How Ocelli nodes see fast: exact integer kernels for convolutional networks.
//!
//! A [`Plan`] is a network, packed once for the instructions of a processor ([`Kernel`]); running it gives the same i32
//! logits as the scalar reference of `ocelli-model`, bit for bit. Every operator has a file of its own. Convolutions multiply
//! unsigned bytes by signed bytes (`vpdpbusd`, `maddubs`, `madd`, `sdot`); which instruction is exact follows from the bounds
//! of what a layer reads. [`winograd`] needs a quarter of the products, of 16-bit numbers modulo 2^32, and gives the same
//! integers: what it divides by is divided out exactly.
//!
//! The meaning of the layers and the bounds that are taken for granted here are those of `docs/inference.md`: weights in
//! -127..=127, every bound of a sum below 2^31, and below 2^30 times its scale. A network beyond them gives wrong numbers; it
//! cannot make a kernel read or write out of bounds, as bounds are checked on their own.
//!
//! This crate depends on nothing, so that it can be built and tried wherever a Rust compiler is.

mod add;
mod aligned;
mod average_pool;
mod chain;
mod conv;
mod copy;
mod depthwise;
mod dot;
mod elementwise;
mod input;
mod kernel;
mod layout;
mod lookup;
mod max_pool;
mod multiply;
mod network;
mod operator;
mod plan;
mod profile;
mod simd;
#[cfg(test)]
mod tests;
mod winograd;

pub use kernel::{Kernel, ParseKernelError};
pub use network::{Finish, Layer, Operation, Shape, Window};
pub use plan::{Join, Memory, Plan, PlanError, Scratch};
pub use profile::{Method, StepProfile, limit};
