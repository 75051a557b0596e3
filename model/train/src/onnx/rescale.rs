//! Bringing all activations to one ceiling, as the float network that is quantised has it.
//!
//! A Relu lets a positive factor through: activations are multiplied by one and the next weights divided by it, and nothing
//! changes (M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019, section 4.1).
//! Activations that are pooled or added to each other have one factor together; the input's is 1.

use ocelli_model::graph::{Graph, Operation};

use super::{Imported, OnnxError};
use crate::dataset::Dataset;
use crate::train::{FloatNetwork, LayerWeights};

/// How many pictures are run at once.
const BATCH: usize = 250;
/// A ceiling that no activation reaches.
const UNBOUNDED: f32 = f32::MAX;

/// The network with its activations rescaled by what they reach on pictures.
pub fn network(imported: &Imported, classes: Vec<String>, data: &Dataset) -> Result<FloatNetwork, OnnxError> {
    let graph = &imported.graph;
    if data.is_empty() {
        return Err(OnnxError::NoPictures);
    }
    let plain = FloatNetwork::from_layers(graph.clone(), classes.clone(), UNBOUNDED, imported.weights.clone())?;
    let reached = reached(&plain, data);
    let groups = groups(graph);
    // What each group reaches, and the ceiling: what the input's group reaches, which keeps its factor of 1.
    let mut largest = vec![0f64; groups.len()];
    largest[groups[0]] = 1.0;
    for (activation, group) in groups.iter().enumerate() {
        largest[*group] = largest[*group].max(reached[activation]);
    }
    let capped = imported.caps.iter().enumerate().filter_map(|(layer, cap)| cap.map(|cap| (layer, cap)));
    for (layer, cap) in capped.clone() {
        let group = groups[layer + 1];
        // Without the cap it would reach further; what else is in the group must not.
        let others = (0..groups.len()).filter(|other| groups[*other] == group && !is_of(graph, imported, *other, cap));
        let reach = others.map(|other| reached[other]).fold(0.0, f64::max);
        if reach > cap || group == groups[0] {
            return Err(OnnxError::Cap { layer: graph.layers()[layer].name.clone(), cap, largest: reach.max(1.0) });
        }
        largest[group] = cap;
    }
    let ceiling = largest[groups[0]];
    let factor = |activation: usize| match largest[groups[activation]] {
        _ if groups[activation] == groups[0] => 1.0,
        largest if largest > 0.0 => ceiling / largest,
        // Never active on any picture.
        _ => 1.0,
    };
    let mut weights = imported.weights.clone();
    for (layer, weights) in weights.iter_mut().enumerate() {
        let Some(LayerWeights { weight, bias }) = weights else { continue };
        let before = factor(layer);
        // Logits keep their size.
        let after = if graph.is_last(layer) { 1.0 } else { factor(layer + 1) };
        weight.iter_mut().for_each(|weight| *weight = (f64::from(*weight) * after / before) as f32);
        bias.iter_mut().for_each(|bias| *bias = (f64::from(*bias) * after) as f32);
    }
    Ok(FloatNetwork::from_layers(graph.clone(), classes, ceiling as f32, weights)?)
}

/// The largest value of every activation.
fn reached(network: &FloatNetwork, data: &Dataset) -> Vec<f64> {
    let mut reached = vec![0f64; network.graph().activations().len()];
    let indexes: Vec<usize> = (0..data.len()).collect();
    for indexes in indexes.chunks(BATCH) {
        network.observe(data, indexes, &mut |layer, activation| {
            let largest = activation.iter().copied().fold(0f32, f32::max);
            reached[layer + 1] = reached[layer + 1].max(f64::from(largest));
        });
    }
    reached
}

/// For every activation the first one that shares its factor.
fn groups(graph: &Graph) -> Vec<usize> {
    let mut groups: Vec<usize> = (0..graph.activations().len()).collect();
    let mut join = |a: usize, b: usize| {
        let (from, to) = (groups[a].max(groups[b]), groups[a].min(groups[b]));
        groups.iter_mut().filter(|group| **group == from).for_each(|group| *group = to);
    };
    for (layer, step) in graph.layers().iter().enumerate() {
        if matches!(step.operation, Operation::MaxPool { .. } | Operation::SumPool { .. }) {
            join(layer, layer + 1);
        }
        if let Some(skip) = graph.skip(layer) {
            join(skip, layer + 1);
        }
    }
    groups
}

/// Whether an activation is clipped at a cap, or pooled from one that is.
fn is_of(graph: &Graph, imported: &Imported, activation: usize, cap: f64) -> bool {
    let Some(layer) = activation.checked_sub(1) else { return false };
    imported.caps[layer] == Some(cap)
        || (graph.weight_shape(layer).is_none() && is_of(graph, imported, activation - 1, cap))
}
