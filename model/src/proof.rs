//! The exactness proof: that no partial sum of a model, in any order, leaves the integers that f32 holds exactly.
//!
//! Activations lie in 0..=127. If `127 * (Σ|w| + m) + |bias| < 2^24` for every output channel, every subset of the terms
//! of its sum is below 2^24 in magnitude, and f32 holds all integers up to there (IEEE 754 binary32 has 24 significant
//! bits). So no addition rounds, whatever the order, the tiling, or the fusing of multiply and add.

use crate::file::{ModelFile, Parameters};
use crate::graph::{Graph, MAX_SHIFT, Operation};

/// What every partial sum stays below.
pub const BOUND: i64 = 1 << 24;
/// The largest activation.
pub const MAX_ACTIVATION: i64 = 127;

/// Why a model is not exact: the layer by name, and the output channel from 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// A weight is -128, whose magnitude no 7 bits hold.
    #[error("layer {layer:?}, channel {channel}: a weight is -128, below -127")]
    Weight {
        /// The layer.
        layer: String,
        /// The channel.
        channel: usize,
    },
    /// A shift is too large.
    #[error("layer {layer:?}, channel {channel}: shift {shift} is above {MAX_SHIFT}")]
    Shift {
        /// The layer.
        layer: String,
        /// The channel.
        channel: usize,
        /// The shift.
        shift: u8,
    },
    /// A multiplier is negative.
    #[error("layer {layer:?}, channel {channel}: multiplier {multiplier} is negative")]
    Multiplier {
        /// The layer.
        layer: String,
        /// The channel.
        channel: usize,
        /// The multiplier.
        multiplier: i16,
    },
    /// A channel's sum can reach 2^24.
    #[error("layer {layer:?}, channel {channel}: a sum can reach {bound}, not below {BOUND}")]
    Sum {
        /// The layer.
        layer: String,
        /// The channel.
        channel: usize,
        /// `127 * (Σ|w| + m) + |bias|`.
        bound: i64,
    },
    /// A sum-pool's sum can reach 2^24, in every channel alike.
    #[error("layer {layer:?}, channel 0: a sum can reach {bound}, not below {BOUND}")]
    SumPool {
        /// The layer.
        layer: String,
        /// `127 * kernel * kernel + half`.
        bound: i64,
    },
}

/// What is added to a sum before it is shifted right by `shift` bits, so that it rounds half up: `2^(shift - 1)`, or 0.
pub fn half(shift: u8) -> i32 {
    if shift == 0 { 0 } else { 1 << (shift - 1) }
}

/// Proves every layer of a model exact.
///
/// # Errors
/// The first fault, in the order of layers and channels.
pub fn prove(file: &ModelFile) -> Result<(), ProofError> {
    for index in 0..file.graph.layers().len() {
        prove_layer(&file.graph, index, &file.parameters[index])?;
    }
    Ok(())
}

fn prove_layer(graph: &Graph, index: usize, parameters: &Parameters) -> Result<(), ProofError> {
    let layer = &graph.layers()[index];
    let name = || layer.name.clone();
    match layer.operation {
        Operation::MaxPool { .. } => return Ok(()),
        Operation::SumPool { kernel, shift, .. } => {
            let bound = MAX_ACTIVATION * (kernel as i64 * kernel as i64) + i64::from(half(shift));
            return if bound < BOUND { Ok(()) } else { Err(ProofError::SumPool { layer: name(), bound }) };
        }
        Operation::Conv { .. } | Operation::Linear { .. } => {}
    }
    let inputs = parameters.weight.len() / parameters.bias.len();
    for (channel, (weights, bias)) in parameters.weight.chunks_exact(inputs).zip(&parameters.bias).enumerate() {
        if weights.contains(&i8::MIN) {
            return Err(ProofError::Weight { layer: name(), channel });
        }
        if let Some(&shift) = parameters.shift.get(channel).filter(|shift| **shift > MAX_SHIFT) {
            return Err(ProofError::Shift { layer: name(), channel, shift });
        }
        let multiplier = parameters.multiplier.get(channel).copied().unwrap_or(0);
        if multiplier < 0 {
            return Err(ProofError::Multiplier { layer: name(), channel, multiplier });
        }
        let bound = bound(weights, multiplier, *bias);
        if bound >= BOUND {
            return Err(ProofError::Sum { layer: name(), channel, bound });
        }
    }
    Ok(())
}

/// The share of 2^24 that no partial sum of any channel of a layer can reach; none for a layer without weights.
pub fn slack(parameters: &Parameters) -> Option<f64> {
    let inputs = parameters.weight.len().checked_div(parameters.bias.len())?;
    let channels = parameters.weight.chunks_exact(inputs).zip(&parameters.bias).zip(0..);
    let bounds = channels.map(|((weights, bias), channel)| {
        let multiplier = parameters.multiplier.get::<usize>(channel).copied().unwrap_or(0);
        bound(weights, multiplier, *bias)
    });
    bounds.max().map(|bound| 1.0 - bound as f64 / BOUND as f64)
}

/// What no partial sum of a channel exceeds.
pub fn bound(weights: &[i8], multiplier: i16, bias: i32) -> i64 {
    let weights: i64 = weights.iter().map(|weight| i64::from(weight.unsigned_abs())).sum();
    MAX_ACTIVATION * (weights + i64::from(multiplier)) + i64::from(bias.unsigned_abs())
}
