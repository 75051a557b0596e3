//! What a model means: a short program on i32. Every backend must return what this returns.
//!
//! Nothing here can overflow: the proof keeps every sum below 2^31, and every other term is smaller.

use crate::file::Parameters;
use crate::graph::{Activation, Finish, Operation, Shape, Window};
use crate::model::Model;

/// The logits of one image, `pixels` u8 in CHW order.
///
/// # Panics
/// If the image has not exactly [`Model::pixels`] bytes.
pub fn logits(model: &Model, pixels: &[u8]) -> Vec<i32> {
    observe(model, pixels, &mut |_| ())
}

/// As [`logits`], and shows the bytes of each layer's output but the last's, in the order of the layers.
///
/// # Panics
/// If the image has not exactly [`Model::pixels`] bytes.
pub fn observe(model: &Model, pixels: &[u8], see: &mut dyn FnMut(&[u8])) -> Vec<i32> {
    assert_eq!(pixels.len(), model.pixels(), "an image has as many bytes as its model takes");
    let graph = model.graph();
    let last_reads = graph.last_reads();
    let mut activations = vec![pixels.to_vec()];
    for (index, layer) in graph.layers().iter().enumerate() {
        let parameters = model.parameters(index);
        let (sources, from, to) = (graph.sources(index), graph.source_shape(index), graph.output_shape(index));
        let bytes = |n: usize| &activations[sources[n]];
        let values = |n: usize| values(&graph.activations()[sources[n]], bytes(n));
        let output = match layer.operation {
            Operation::Conv { groups, window, finish, .. } => {
                requantise(convolve(&values(0), from, to, groups, window, parameters), parameters, finish)
            }
            Operation::Linear { finish: Some(finish), .. } => {
                requantise(multiply(&values(0), parameters), parameters, finish)
            }
            Operation::Linear { finish: None, .. } => return rescale(multiply(&values(0), parameters), parameters),
            Operation::Add { multipliers, shift, finish } => {
                let pairs = values(0).into_iter().zip(values(1));
                pairs.map(|(a, b)| add(multipliers, shift, finish, a, b)).collect()
            }
            Operation::Multiply { finish } => {
                let (a, b) = (values(0), values(1));
                // Of a second with one row and column, all elements of a channel meet the same.
                let shared = a.len() / b.len();
                let products = a.iter().enumerate().map(|(i, a)| a * b[i / shared]);
                requantise(products.collect(), parameters, finish)
            }
            Operation::AveragePool { window, finish } => {
                requantise(pool(&values(0), from, to, window, |window| window.sum()), parameters, finish)
            }
            Operation::MaxPool { window } => {
                pool(bytes(0), from, to, window, |window| window.max().expect("a window has a real element"))
            }
            Operation::Concat => sources.iter().flat_map(|source| activations[*source].clone()).collect(),
            Operation::Lookup { .. } => bytes(0).iter().map(|byte| parameters.table[usize::from(*byte)]).collect(),
        };
        for source in sources.iter().filter(|source| last_reads[**source] == index) {
            activations[*source] = Vec::new();
        }
        see(&output);
        activations.push(output);
    }
    unreachable!("the last layer has returned the logits")
}

/// An activation of a sum. One float multiplication, clamped, and rounded to the nearest integer, ties to even.
pub fn activation(sum: i32, scale: f32, Finish { zero_point, low, high }: Finish) -> u8 {
    let z = i32::from(zero_point);
    let (low, high) = ((i32::from(low) - z) as f32, (i32::from(high) - z) as f32);
    (z + (sum as f32 * scale).clamp(low, high).round_ties_even() as i32) as u8
}

/// A logit of a sum.
pub fn logit(sum: i32, scale: f32) -> i32 {
    const MOST: f32 = (1 << 24) as f32;
    (sum as f32 * scale).clamp(-MOST, MOST).round_ties_even() as i32
}

/// The sum of two values, counted from their zero points.
pub fn add(multipliers: [u32; 2], shift: u8, finish: Finish, first: i32, second: i32) -> u8 {
    let [ma, mb] = multipliers.map(|multiplier| multiplier as i32);
    let sum = (ma * first + mb * second + (1 << (shift - 1))) >> shift;
    (i32::from(finish.zero_point) + sum).clamp(finish.low.into(), finish.high.into()) as u8
}

/// The elements of an activation, counted from their zero points.
fn values(activation: &Activation, bytes: &[u8]) -> Vec<i32> {
    let channels = bytes.chunks_exact(activation.shape.plane()).enumerate();
    let value = |channel: usize, byte: u8| i32::from(byte) - i32::from(activation.zero_point(channel));
    channels.flat_map(|(channel, bytes)| bytes.iter().map(move |byte| value(channel, *byte))).collect()
}

/// The sums of a convolution with its bias, in CHW order; weights are (O, I / groups, rows, columns).
fn convolve(x: &[i32], from: Shape, to: Shape, groups: usize, window: Window, parameters: &Parameters) -> Vec<i32> {
    let (per_group, outputs) = (from.channels / groups, to.channels / groups);
    let mut sums = vec![0; to.elements()];
    for place in 0..to.plane() {
        let taps: Vec<(usize, usize)> = taps(window, from, place / to.width, place % to.width).collect();
        for o in 0..to.channels {
            let first = o / outputs * per_group;
            let sum = &mut sums[o * to.plane() + place];
            *sum = parameters.bias[o];
            for i in 0..per_group {
                let weights = &parameters.weight[(o * per_group + i) * window.taps()..];
                let x = &x[(first + i) * from.plane()..];
                *sum += taps.iter().map(|(tap, at)| i32::from(weights[*tap]) * x[*at]).sum::<i32>();
            }
        }
    }
    sums
}

/// The sums of a linear layer with its bias.
fn multiply(x: &[i32], parameters: &Parameters) -> Vec<i32> {
    let dot = |row: &[i8]| row.iter().zip(x).map(|(weight, x)| i32::from(*weight) * x).sum::<i32>();
    parameters.weight.chunks_exact(x.len()).zip(&parameters.bias).map(|(row, bias)| bias + dot(row)).collect()
}

/// Folds what lies in every window of every channel into one element.
fn pool<T: Copy>(
    x: &[T],
    from: Shape,
    to: Shape,
    window: Window,
    fold: fn(&mut dyn Iterator<Item = T>) -> T,
) -> Vec<T> {
    let element = |i: usize| {
        let x = &x[i / to.plane() * from.plane()..];
        let place = i % to.plane();
        fold(&mut taps(window, from, place / to.width, place % to.width).map(|(_, at)| x[at]))
    };
    (0..to.elements()).map(element).collect()
}

/// The elements of the kernel that meet the input, at an output's row and column: which element, and its place in a channel of
/// the input. Padding counts for nothing.
fn taps(window: Window, from: Shape, row: usize, column: usize) -> impl Iterator<Item = (usize, usize)> {
    let [top, left, ..] = window.padding;
    (0..window.taps()).filter_map(move |tap| {
        let y = (row * window.stride[0] + tap / window.kernel[1]).checked_sub(top)?;
        let x = (column * window.stride[1] + tap % window.kernel[1]).checked_sub(left)?;
        (y < from.height && x < from.width).then_some((tap, y * from.width + x))
    })
}

/// Activations of sums, with one scale or one a channel.
fn requantise(sums: Vec<i32>, parameters: &Parameters, finish: Finish) -> Vec<u8> {
    let plane = sums.len() / parameters.scale.len();
    sums.into_iter().enumerate().map(|(i, sum)| activation(sum, parameters.scale[i / plane], finish)).collect()
}

/// The logits: the sums of the last layer, or, with a scale a class, these rounded.
fn rescale(sums: Vec<i32>, parameters: &Parameters) -> Vec<i32> {
    let scales = &parameters.scale;
    sums.into_iter().enumerate().map(|(o, sum)| scales.get(o).map_or(sum, |scale| logit(sum, *scale))).collect()
}
