//! The exactness proof: that no sum of a model leaves 31 bits, and what its scale makes of it converts to an i32.
//!
//! Every activation lies within its bounds, so every term of a sum is at most a weight times the greatest distance of the
//! activation from its zero point. Where the bound of a layer is below 2^24, plain f32 operations compute it exactly, since f32
//! holds all integers up to there (IEEE 754 binary32 has 24 significant bits): no addition rounds, whatever the order, the
//! tiling, or the fusing of multiply and add.

use std::ops::Range;

use crate::file::{ModelFile, Parameters};
use crate::graph::{Graph, Operation};

/// What every sum stays below.
pub const MAX_SUM: i64 = 1 << 31;
/// What every sum times its scale stays below, but in the last layer.
pub const MAX_SCALED: f64 = (1u64 << 30) as f64;
/// Sums whose bound is below this one are exact in f32.
pub const EXACT_IN_F32: i64 = 1 << 24;
/// What scales are.
pub const SCALES: Range<f32> = f32::from_bits((127 - 64) << 23)..256.0;

/// The least and the greatest value of an activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The least value.
    pub low: u8,
    /// The greatest value.
    pub high: u8,
}

/// What the proof found of a model. Kernels choose their arithmetic by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Of every activation but the logits.
    pub activations: Vec<Bounds>,
    /// For every layer the greatest bound of a channel's sum; 0 where nothing is summed.
    pub sums: Vec<i64>,
}

/// Why a model is not exact: the layer by name, and the output channel from 0.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ProofError {
    /// A weight is -128, whose magnitude no 7 bits hold.
    #[error("layer {layer:?}, channel {channel}: a weight is -128, below -127")]
    Weight { layer: String, channel: usize },
    /// A scale is not finite, or too small or too large.
    #[error("layer {layer:?}, channel {channel}: the scale {scale:e} is not within 2^-64 and 2^8, or is 2^8")]
    Scale { layer: String, channel: usize, scale: f32 },
    /// A sum can reach 2^31.
    #[error("layer {layer:?}, channel {channel}: a sum can reach {bound}, not below {MAX_SUM}")]
    Sum {
        layer: String,
        channel: usize,
        /// What the magnitude of a sum can be.
        bound: i64,
    },
    /// A sum times its scale can reach 2^30.
    #[error("layer {layer:?}, channel {channel}: a sum of {bound} times {scale:e} is not below {MAX_SCALED}")]
    Scaled {
        layer: String,
        channel: usize,
        /// What the magnitude of a sum can be.
        bound: i64,
        scale: f32,
    },
}

/// Proves every layer of a model exact.
///
/// # Errors
/// The first fault, in the order of layers and channels.
pub fn prove(file: &ModelFile) -> Result<Proof, ProofError> {
    let mut proof = Proof { activations: vec![Bounds { low: 0, high: 255 }], sums: Vec::new() };
    for (index, parameters) in file.parameters.iter().enumerate() {
        let sum = prove_layer(&file.graph, index, parameters, &proof.activations)?;
        proof.sums.push(sum);
        let reads = file.graph.sources(index).iter().map(|source| proof.activations[*source]);
        proof.activations.extend(output_bounds(file.graph.layers()[index].operation, parameters, reads));
    }
    Ok(proof)
}

/// The bounds of a layer's output; none of logits.
pub(crate) fn output_bounds(
    operation: Operation,
    parameters: &Parameters,
    reads: impl Iterator<Item = Bounds>,
) -> Option<Bounds> {
    let join = |one: Bounds, other: Bounds| Bounds { low: one.low.min(other.low), high: one.high.max(other.high) };
    match operation {
        Operation::MaxPool { .. } | Operation::Concat => reads.reduce(join),
        Operation::Lookup { zero_point } => {
            let entries = parameters.table.iter().chain([&zero_point]);
            entries.map(|entry| Bounds { low: *entry, high: *entry }).reduce(join)
        }
        _ => operation.finish().map(|finish| Bounds { low: finish.low, high: finish.high }),
    }
}

/// The greatest bound of the layer's sums.
fn prove_layer(graph: &Graph, index: usize, parameters: &Parameters, bounds: &[Bounds]) -> Result<i64, ProofError> {
    let layer = &graph.layers()[index];
    let is_last = graph.is_last(index);
    // The greatest distance of an activation from its zero point.
    let distance = |source: usize, channel: usize| {
        let zero_point = graph.activations()[source].zero_point(channel);
        i64::from((zero_point - bounds[source].low).max(bounds[source].high - zero_point))
    };
    let check = |channel: usize, bound: i64, scale: Option<f32>| {
        let layer = || layer.name.clone();
        if let Some(scale) = scale.filter(|scale| !SCALES.contains(scale)) {
            return Err(ProofError::Scale { layer: layer(), channel, scale });
        }
        if bound >= MAX_SUM {
            return Err(ProofError::Sum { layer: layer(), channel, bound });
        }
        match scale {
            Some(scale) if !is_last && bound as f64 * f64::from(scale) >= MAX_SCALED => {
                Err(ProofError::Scaled { layer: layer(), channel, bound, scale })
            }
            _ => Ok(bound),
        }
    };
    let source = graph.sources(index)[0];
    match layer.operation {
        Operation::Conv { channels, groups, window, .. } => {
            let per_group = graph.source_shape(index).channels / groups;
            let first = |channel: usize| channel / (channels / groups) * per_group;
            prove_channels(
                &layer.name,
                parameters,
                window.taps(),
                |channel, i| distance(source, first(channel) + i),
                check,
            )
        }
        Operation::Linear { .. } => {
            let plane = graph.source_shape(index).plane();
            prove_channels(&layer.name, parameters, plane, |_, i| distance(source, i), check)
        }
        Operation::AveragePool { window, .. } => {
            check(0, window.taps() as i64 * distance(source, 0), Some(parameters.scale[0]))
        }
        Operation::Multiply { .. } => {
            let second = graph.sources(index)[1];
            check(0, distance(source, 0) * distance(second, 0), Some(parameters.scale[0]))
        }
        Operation::Add { .. } | Operation::MaxPool { .. } | Operation::Concat | Operation::Lookup { .. } => Ok(0),
    }
}

/// Proves a layer with weights; `plane` of these read one input channel, whose distance is that of (output channel, its number
/// among those that are read).
fn prove_channels(
    layer: &str,
    parameters: &Parameters,
    plane: usize,
    distance: impl Fn(usize, usize) -> i64,
    check: impl Fn(usize, i64, Option<f32>) -> Result<i64, ProofError>,
) -> Result<i64, ProofError> {
    let inputs = parameters.weight.len() / parameters.bias.len();
    let mut greatest = 0;
    for (channel, (weights, bias)) in parameters.weight.chunks_exact(inputs).zip(&parameters.bias).enumerate() {
        if weights.contains(&i8::MIN) {
            return Err(ProofError::Weight { layer: layer.into(), channel });
        }
        let sum = |weights: &[i8]| weights.iter().map(|weight| i64::from(weight.unsigned_abs())).sum::<i64>();
        let terms = weights.chunks_exact(plane).enumerate().map(|(i, weights)| sum(weights) * distance(channel, i));
        let bound = terms.sum::<i64>() + i64::from(bias.unsigned_abs());
        greatest = greatest.max(check(channel, bound, parameters.scale.get(channel).copied())?);
    }
    Ok(greatest)
}
