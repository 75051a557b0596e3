//! A float network on one picture, on one thread.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use ocelli_model::graph::{Shape, Window};

use super::network::{LayerKind, Network, Sums};

/// How many numbers are unrolled at once: 1 MiB of them.
const COLUMNS: usize = 1 << 18;

impl Network {
    /// Runs a picture, `pixels` in CHW order, and shows every activation, in order: its number and its elements in CHW order. The
    /// last one is the logits.
    pub fn run(&self, pixels: &[u8], visit: &mut dyn FnMut(usize, &[f32])) {
        let step = self.input.grid.map_or(1.0, |grid| grid.scale);
        let plane = self.input.shape.plane();
        let counted = |(place, byte): (usize, &u8)| {
            (f64::from(step) * (f64::from(*byte) - self.input.zeros[place / plane])) as f32
        };
        let mut activations = vec![pixels.iter().enumerate().map(counted).collect::<Vec<f32>>()];
        visit(0, &activations[0]);
        let mut last_reads = vec![0; self.layers.len() + 1];
        for (index, layer) in self.layers.iter().enumerate() {
            layer.from.iter().for_each(|from| last_reads[*from] = index);
        }
        for (index, layer) in self.layers.iter().enumerate() {
            let (read, from) = (&activations[layer.from[0]], self.shape(layer.from[0]));
            let bias = || layer.counted_bias(&self.input, &self.input.zeros);
            let mut output = match &layer.kind {
                LayerKind::Conv { sums, groups, window } => {
                    convolve(read, from, layer.shape, sums, &bias(), *groups, *window)
                }
                LayerKind::Linear(sums) => {
                    let rows = sums.weight.chunks_exact(read.len()).zip(bias());
                    let dot = |weights: &[f32]| weights.iter().zip(read).map(|(w, x)| w * x).sum::<f32>();
                    rows.map(|(weights, bias)| dot(weights) + bias as f32).collect()
                }
                LayerKind::Add => read.iter().zip(&activations[layer.from[1]]).map(|(a, b)| a + b).collect(),
                LayerKind::Multiply => {
                    let second = &activations[layer.from[1]];
                    let shared = read.len() / second.len();
                    read.iter().enumerate().map(|(place, a)| a * second[place / shared]).collect()
                }
                LayerKind::AveragePool(window) => {
                    let share = 1.0 / window.taps() as f32;
                    pool(read, from, layer.shape, *window, 0.0, &|sum, x| sum + x * share)
                }
                LayerKind::MaxPool(window) => pool(read, from, layer.shape, *window, f32::NEG_INFINITY, &f32::max),
                LayerKind::Concat => layer.from.iter().flat_map(|from| &activations[*from]).copied().collect(),
                LayerKind::Function(function) if layer.reads_pixels(&self.input) => {
                    pixels.iter().map(|byte| function.of(f64::from(*byte)) as f32).collect()
                }
                LayerKind::Function(function) => read.iter().map(|x| function.of(f64::from(*x)) as f32).collect(),
            };
            // Where the file gives integers, the numbers end where these do; logits have no end.
            let ends = layer.grid.filter(|_| index + 1 < self.layers.len());
            let (least, most) = ends.map_or((layer.low, layer.high), |grid| (grid.value(0), grid.value(u8::MAX)));
            let (low, high) = (layer.low.max(least) as f32, layer.high.min(most) as f32);
            output.iter_mut().for_each(|value| *value = value.clamp(low, high));
            for from in &layer.from {
                if last_reads[*from] == index {
                    activations[*from] = Vec::new();
                }
            }
            visit(index + 1, &output);
            activations.push(output);
        }
    }

    /// The logits of a picture.
    pub fn logits(&self, pixels: &[u8]) -> Vec<f32> {
        let mut logits = Vec::new();
        self.run(pixels, &mut |activation, values| {
            if activation == self.layers.len() {
                logits = values.to_vec();
            }
        });
        logits
    }
}

/// The places of an activation that an element of the kernel meets in a row or column of outputs: the first output, the place it
/// meets, and for how many outputs.
fn met(tap: usize, stride: usize, padding: usize, size: usize, outputs: usize) -> (usize, usize, usize) {
    let first = padding.saturating_sub(tap).div_ceil(stride);
    let place = first * stride + tap - padding.min(first * stride + tap);
    let count = if place < size { (size - place).div_ceil(stride) } else { 0 };
    (first, place, count.min(outputs.saturating_sub(first)))
}

fn convolve(x: &[f32], from: Shape, to: Shape, sums: &Sums, bias: &[f64], groups: usize, window: Window) -> Vec<f32> {
    let mut output = vec![0.0; to.elements()];
    let (inputs, outputs, places) = (from.channels / groups, to.channels / groups, to.plane());
    let depth = inputs * window.taps();
    for (plane, bias) in output.chunks_exact_mut(places).zip(bias) {
        plane.fill(*bias as f32);
    }
    if inputs == 1 && outputs == 1 {
        for (channel, plane) in output.chunks_exact_mut(places).enumerate() {
            let weights = &sums.weight[channel * depth..];
            slide(&x[channel * from.plane()..], from, to, window, &mut |tap, outputs, x, stride| {
                let weight = weights[tap];
                let reads = x.iter().step_by(stride);
                plane[outputs].iter_mut().zip(reads).for_each(|(sum, x)| *sum += weight * x);
            });
        }
        return output;
    }
    let rows_at_once = (COLUMNS / (depth * to.width)).clamp(1, to.height);
    let mut columns = Vec::new();
    for group in 0..groups {
        let x = &x[group * inputs * from.plane()..][..inputs * from.plane()];
        let weight = &sums.weight[group * outputs * depth..][..outputs * depth];
        let weight = MatRef::from_row_major_slice(weight, outputs, depth);
        let output = &mut output[group * outputs * places..][..outputs * places];
        for first in (0..to.height).step_by(rows_at_once) {
            let rows = rows_at_once.min(to.height - first);
            let width = rows * to.width;
            let columns = if window == Window::square(1, 1, 0) && rows == to.height {
                x
            } else {
                columns.clear();
                columns.resize(depth * width, 0.0);
                unroll(x, from, to, window, first..first + rows, &mut columns);
                &columns
            };
            let columns = MatRef::from_row_major_slice(columns, depth, width);
            let mut all = MatMut::from_row_major_slice_mut(output, outputs, places);
            let sums = all.as_mut().subcols_mut(first * to.width, width);
            matmul(sums, Accum::Add, weight, columns, 1.0, Par::Seq);
        }
    }
    output
}

/// Writes what every element of every channel's kernel meets for some rows of outputs, `(channels * taps, places)`.
fn unroll(x: &[f32], from: Shape, to: Shape, window: Window, rows: std::ops::Range<usize>, columns: &mut [f32]) {
    let width = rows.len() * to.width;
    let [top, left, ..] = window.padding;
    for (row, columns) in columns.chunks_exact_mut(width).enumerate() {
        let (channel, tap) = (row / window.taps(), row % window.taps());
        let x = &x[channel * from.plane()..][..from.plane()];
        let [tap_row, tap_column] = [tap / window.kernel[1], tap % window.kernel[1]];
        let (first, place, count) = met(tap_column, window.stride[1], left, from.width, to.width);
        if count == 0 {
            continue;
        }
        for output in rows.clone() {
            let Some(y) = (output * window.stride[0] + tap_row).checked_sub(top).filter(|y| *y < from.height) else {
                continue;
            };
            let columns = &mut columns[(output - rows.start) * to.width + first..][..count];
            let reads = x[y * from.width + place..].iter().step_by(window.stride[1]);
            columns.iter_mut().zip(reads).for_each(|(column, x)| *column = *x);
        }
    }
}

/// Calls `visit` for every element of the kernel and every row of outputs, with the element's number, the outputs that meet one of
/// the activation's channel, what they meet, and at which stride.
fn slide(
    x: &[f32],
    from: Shape,
    to: Shape,
    window: Window,
    visit: &mut impl FnMut(usize, std::ops::Range<usize>, &[f32], usize),
) {
    let [top, left, ..] = window.padding;
    for tap in 0..window.taps() {
        let [tap_row, tap_column] = [tap / window.kernel[1], tap % window.kernel[1]];
        let (first, place, count) = met(tap_column, window.stride[1], left, from.width, to.width);
        if count == 0 {
            continue;
        }
        for row in 0..to.height {
            let Some(y) = (row * window.stride[0] + tap_row).checked_sub(top).filter(|y| *y < from.height) else {
                continue;
            };
            let start = row * to.width + first;
            let reads = &x[y * from.width + place..(y + 1) * from.width];
            visit(tap, start..start + count, reads, window.stride[1]);
        }
    }
}

fn pool(x: &[f32], from: Shape, to: Shape, window: Window, begin: f32, fold: &dyn Fn(f32, f32) -> f32) -> Vec<f32> {
    let mut output = vec![begin; to.elements()];
    for (channel, plane) in output.chunks_exact_mut(to.plane()).enumerate() {
        slide(&x[channel * from.plane()..], from, to, window, &mut |_, outputs, x, stride| {
            let reads = x.iter().step_by(stride);
            plane[outputs].iter_mut().zip(reads).for_each(|(value, x)| *value = fold(*value, *x));
        });
    }
    output
}
