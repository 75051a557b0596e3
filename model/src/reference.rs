//! What a model means: a short program on i32. Every backend must return what this returns.
//!
//! Nothing here can overflow: the proof keeps every sum below 2^24.

use crate::file::Parameters;
use crate::graph::{Graph, Operation, Shape};
use crate::model::Model;
use crate::proof::half;

/// The logits of one image, `pixels` u8 in CHW order.
///
/// # Panics
/// If the image has not exactly [`Model::pixels`] bytes.
pub fn logits(model: &Model, pixels: &[u8]) -> Vec<i32> {
    assert_eq!(pixels.len(), model.pixels(), "an image has as many bytes as its model takes");
    let graph = model.graph();
    let mut activations: Vec<Vec<i32>> = vec![pixels.iter().map(|pixel| i32::from(pixel >> 1)).collect()];
    for (index, layer) in graph.layers().iter().enumerate() {
        let (from, to) = (graph.activations()[index], graph.activations()[index + 1]);
        let (x, parameters) = (&activations[index], model.parameters(index));
        let output = match layer.operation {
            Operation::Conv { kernel, stride, padding, .. } => {
                let sums = convolve(x, from, to, parameters, kernel, stride, padding);
                finish(sums, graph, index, parameters, &activations)
            }
            Operation::Linear { .. } => finish(multiply(x, parameters), graph, index, parameters, &activations),
            Operation::MaxPool { kernel, stride } => {
                let fold = |window: &mut dyn Iterator<Item = i32>| window.max().expect("a window has an element");
                pool(x, from, to, kernel, stride, fold)
            }
            Operation::SumPool { kernel, stride, shift } => {
                let fold = |window: &mut dyn Iterator<Item = i32>| {
                    ((window.sum::<i32>() + half(shift)) >> shift).clamp(0, 127)
                };
                pool(x, from, to, kernel, stride, fold)
            }
        };
        activations.push(output);
    }
    activations.pop().expect("a graph has a layer")
}

/// The sums of a convolution with its bias, in CHW order; weights are OIHW, what lies outside of the input is zero.
fn convolve(
    x: &[i32],
    from: Shape,
    to: Shape,
    parameters: &Parameters,
    kernel: usize,
    stride: usize,
    padding: usize,
) -> Vec<i32> {
    let mut sums = Vec::with_capacity(to.elements());
    for o in 0..to.channels {
        for row in 0..to.height {
            for column in 0..to.width {
                let mut sum = parameters.bias[o];
                for c in 0..from.channels {
                    for i in 0..kernel {
                        for j in 0..kernel {
                            let (y, z) = (row * stride + i, column * stride + j);
                            if y < padding || z < padding || y - padding >= from.height || z - padding >= from.width {
                                continue;
                            }
                            let weight = parameters.weight[((o * from.channels + c) * kernel + i) * kernel + j];
                            let value = x[(c * from.height + y - padding) * from.width + z - padding];
                            sum += i32::from(weight) * value;
                        }
                    }
                }
                sums.push(sum);
            }
        }
    }
    sums
}

/// The sums of a linear layer with its bias.
fn multiply(x: &[i32], parameters: &Parameters) -> Vec<i32> {
    let rows = parameters.weight.chunks_exact(x.len());
    let dot = |row: &[i8]| row.iter().zip(x).map(|(weight, value)| i32::from(*weight) * value).sum::<i32>();
    rows.zip(&parameters.bias).map(|(row, bias)| bias + dot(row)).collect()
}

/// Makes a layer's sums its output: adds the skip, shifts and clamps; the last layer's sums are the logits as they are.
fn finish(
    mut sums: Vec<i32>,
    graph: &Graph,
    layer: usize,
    parameters: &Parameters,
    activations: &[Vec<i32>],
) -> Vec<i32> {
    if graph.is_last(layer) {
        return sums;
    }
    let plane = sums.len() / parameters.bias.len();
    for (i, sum) in sums.iter_mut().enumerate() {
        let channel = i / plane;
        if let Some(skip) = graph.skip(layer) {
            *sum += i32::from(parameters.multiplier[channel]) * activations[skip][i];
        }
        *sum = (*sum >> parameters.shift[channel]).clamp(0, 127);
    }
    sums
}

/// Folds every window of every channel into one element.
fn pool(
    x: &[i32],
    from: Shape,
    to: Shape,
    kernel: usize,
    stride: usize,
    fold: impl Fn(&mut dyn Iterator<Item = i32>) -> i32,
) -> Vec<i32> {
    let mut output = Vec::with_capacity(to.elements());
    for c in 0..to.channels {
        for row in 0..to.height {
            for column in 0..to.width {
                let at = |k: usize| {
                    let (i, j) = (k / kernel, k % kernel);
                    x[(c * from.height + row * stride + i) * from.width + column * stride + j]
                };
                output.push(fold(&mut (0..kernel * kernel).map(at)));
            }
        }
    }
    output
}
