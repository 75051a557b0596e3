//! The products of convolutions and linear layers, and their gradients, on one thread.
//!
//! Activations are `(N, H, W, C)` here, other than in model files: then a window's row is one contiguous run of
//! `kernel * C` numbers, which makes gathering and scattering plain copies. Weights are `(kernel * kernel * C, O)` in the
//! order of such a row. K. Chellapilla, S. Puri, P. Simard, "High Performance Convolutional Neural Networks for Document
//! Processing", 2006, section 3, is where the unrolling comes from.

use std::ops::Range;

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use super::widest::widest;
use super::window::{POINT, Slide as _, Window};

/// How many numbers are unrolled at once: 256 KiB of them, which stay in the processor's second cache.
const GROUP_NUMBERS: usize = 1 << 16;

/// A layer that multiplies windows `(N * H * W, K)` of its input with weights `(K, O)`.
#[derive(Debug, Clone, Copy)]
pub struct Product {
    /// The window that slides over an image; none where the windows are the input as it lies.
    window: Option<Window>,
    /// Rows, columns and channels of an image.
    image: [usize; 3],
    /// Windows in an image.
    windows: usize,
    /// Numbers of a window.
    depth: usize,
    outputs: usize,
}

impl Product {
    /// Cross-correlation of images `(H, W, C)`.
    pub fn convolution(image: [usize; 3], window: Window, outputs: usize) -> Self {
        Self {
            window: Some(window).filter(|window| *window != POINT),
            image,
            windows: window.outputs(image).iter().product(),
            depth: window.taps() * image[2],
            outputs,
        }
    }

    /// A linear layer: one window that is the whole input.
    pub fn linear(inputs: usize, outputs: usize) -> Self {
        Self { window: None, image: [1, 1, inputs], windows: 1, depth: inputs, outputs }
    }

    /// Sums of an image.
    pub fn sums(&self) -> usize {
        self.windows * self.outputs
    }

    /// Writes the sums `(N, H, W, O)` of an input. `columns` is room to work in.
    pub fn forward(&self, input: &[f32], weight: &[f32], columns: &mut Vec<f32>, sums: &mut [f32]) {
        let weight = rows(weight, self.outputs);
        for group in self.groups(sums.len()) {
            let columns = self.columns(input, group.clone(), columns);
            let sums = rows_mut(self.of(sums, group), self.outputs);
            matmul(sums, Accum::Replace, columns, weight, 1.0, Par::Seq);
        }
    }

    /// Writes the gradient of the weights, given that of the sums.
    pub fn weight_gradient(&self, input: &[f32], slopes: &[f32], columns: &mut Vec<f32>, gradient: &mut [f32]) {
        for group in self.groups(slopes.len()) {
            let accum = if group.start == 0 { Accum::Replace } else { Accum::Add };
            let slopes = &slopes[group.start * self.outputs..group.end * self.outputs];
            // The columns are gathered again rather than kept: they are nine times the input, and gathering is cheap.
            let columns = self.columns(input, group, columns).transpose();
            matmul(rows_mut(gradient, self.outputs), accum, columns, rows(slopes, self.outputs), 1.0, Par::Seq);
        }
    }

    /// Adds to the gradient of the input, given that of the sums.
    pub fn input_gradient(&self, weight: &[f32], slopes: &[f32], columns: &mut Vec<f32>, gradient: &mut [f32]) {
        let weight = rows(weight, self.outputs).transpose();
        for group in self.groups(slopes.len()) {
            let slopes = rows(&slopes[group.start * self.outputs..group.end * self.outputs], self.outputs);
            let Some(window) = self.window else {
                let gradient = &mut gradient[group.start * self.depth..group.end * self.depth];
                matmul(rows_mut(gradient, self.depth), Accum::Add, slopes, weight, 1.0, Par::Seq);
                continue;
            };
            let columns = room(columns, group.len() * self.depth);
            matmul(rows_mut(columns, self.depth), Accum::Replace, slopes, weight, 1.0, Par::Seq);
            self.scatter(window, columns, group, gradient);
        }
    }

    /// The windows of all images, some at a time.
    fn groups(&self, sums: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let (count, group) = (sums / self.outputs, (GROUP_NUMBERS / self.depth).max(1));
        (0..count).step_by(group).map(move |begin| begin..count.min(begin + group))
    }

    fn of<'a>(&self, sums: &'a mut [f32], group: Range<usize>) -> &'a mut [f32] {
        &mut sums[group.start * self.outputs..group.end * self.outputs]
    }

    /// The numbers of a group of windows, a row a window.
    fn columns<'a>(&self, input: &'a [f32], group: Range<usize>, columns: &'a mut Vec<f32>) -> MatRef<'a, f32> {
        let Some(window) = self.window else {
            return rows(&input[group.start * self.depth..group.end * self.depth], self.depth);
        };
        let columns = room(columns, group.len() * self.depth);
        widest!({
            let mut places = window.places(self.image, group.start);
            for column in columns.chunks_exact_mut(self.depth) {
                let place = places.advance();
                if place.whole.is_none() {
                    // Some of the window lies in the padding.
                    column.fill(0.0);
                }
                window.visit_runs(
                    self.image,
                    place,
                    #[inline(always)]
                    |begin, range| copy(&mut column[range], &input[begin..]),
                );
            }
        });
        rows(columns, self.depth)
    }

    /// The transpose of gathering: adds every column's numbers where they were gathered from.
    fn scatter(&self, window: Window, columns: &[f32], group: Range<usize>, input: &mut [f32]) {
        widest!({
            let mut places = window.places(self.image, group.start);
            for column in columns.chunks_exact(self.depth) {
                let place = places.advance();
                window.visit_runs(
                    self.image,
                    place,
                    #[inline(always)]
                    |begin, range| add(&mut input[begin..], &column[range]),
                );
            }
        });
    }
}

/// The first numbers of a buffer, which only grows, as what grows is written twice.
fn room(buffer: &mut Vec<f32>, numbers: usize) -> &mut [f32] {
    if buffer.len() < numbers {
        buffer.resize(numbers, 0.0);
    }
    &mut buffer[..numbers]
}

/// How many numbers are copied at once: runs are short, and so a call to copy each would cost as much as the copying.
const LANES: usize = 8;

/// Fills a run with the first numbers of a line.
#[inline(always)]
fn copy(run: &mut [f32], line: &[f32]) {
    let line = &line[..run.len()];
    let (runs, run_rest) = run.as_chunks_mut::<LANES>();
    let (lines, line_rest) = line.as_chunks::<LANES>();
    for (run, line) in runs.iter_mut().zip(lines) {
        *run = *line;
    }
    for (run, line) in run_rest.iter_mut().zip(line_rest) {
        *run = *line;
    }
}

/// Adds a run to the first numbers of a line.
#[inline(always)]
fn add(line: &mut [f32], run: &[f32]) {
    for (sum, value) in line.iter_mut().zip(run) {
        *sum += value;
    }
}

/// A matrix of rows of some length.
fn rows(numbers: &[f32], length: usize) -> MatRef<'_, f32> {
    MatRef::from_row_major_slice(numbers, numbers.len() / length, length)
}

fn rows_mut(numbers: &mut [f32], length: usize) -> MatMut<'_, f32> {
    let count = numbers.len() / length;
    MatMut::from_row_major_slice_mut(numbers, count, length)
}

#[cfg(test)]
mod tests {
    use super::super::beside_candle::{close, random, var};
    use super::*;

    #[test]
    fn agrees_with_candle_forward_and_backward() {
        // Images, rows, columns, channels, outputs, then the window.
        let table = [
            (2, 6, 7, 3, 4, Window::square(3, 1, 0)),
            (3, 5, 4, 2, 5, Window::square(3, 1, 1)),
            (1, 9, 7, 1, 2, Window::square(3, 2, 1)),
            (2, 7, 7, 2, 3, Window::square(5, 2, 4)),
            (2, 4, 4, 3, 2, POINT),
            (1, 1, 1, 2, 2, Window::square(3, 1, 2)),
            // Several groups of windows, which begin and end inside of images.
            (3, 32, 32, 8, 2, Window::square(3, 1, 1)),
        ];
        const { assert!(GROUP_NUMBERS / 72 < 1024) };
        for (seed, (images, height, width, channels, outputs, window)) in table.into_iter().enumerate() {
            let (seed, what) = (seed as u64 * 4, format!("{window:?}"));
            let kernel = window.kernel[0];
            let input = random(images * height * width * channels, seed);
            let weight = random(kernel * kernel * channels * outputs, seed + 1);
            let product = Product::convolution([height, width, channels], window, outputs);
            let (input_var, weight_var) =
                (var(&input, &[images, height, width, channels]), var(&weight, &[kernel, kernel, channels, outputs]));
            let nchw = input_var.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap();
            let oihw = weight_var.permute((3, 2, 0, 1)).unwrap().contiguous().unwrap();
            let theirs = nchw.conv2d(&oihw, window.padding[0], window.stride[0], 1, 1).unwrap();
            let theirs = theirs.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap();

            // What lies in the buffers from before does not matter.
            let mut columns = vec![f32::NAN; 1000];
            let mut sums = vec![f32::NAN; images * product.sums()];
            product.forward(&input, &weight, &mut columns, &mut sums);
            close(&sums, &theirs, 1e-4, &what);

            let slopes = random(sums.len(), seed + 2);
            let grads = (theirs.flatten_all().unwrap() * var(&slopes, &[slopes.len()]).as_tensor()).unwrap();
            let grads = grads.sum_all().unwrap().backward().unwrap();
            let mut gradient = vec![f32::NAN; weight.len()];
            product.weight_gradient(&input, &slopes, &mut columns, &mut gradient);
            close(&gradient, grads.get(&weight_var).unwrap(), 1e-3, &what);
            // The gradient of the input is added to what is there.
            let mut gradient = vec![1.0; input.len()];
            product.input_gradient(&weight, &slopes, &mut columns, &mut gradient);
            close(&gradient, &(grads.get(&input_var).unwrap() + 1.0).unwrap(), 1e-3, &what);
        }
    }

    /// Another number in every direction and on every side.
    const UNEVEN: Window = Window { kernel: [2, 3], stride: [2, 1], padding: [1, 0, 0, 2] };

    #[test]
    fn every_side_has_a_padding_of_its_own() {
        let ([height, width, channels], outputs) = ([6, 8, 3], 4);
        let product = Product::convolution([height, width, channels], UNEVEN, outputs);
        let (input, weight) = (random(height * width * channels, 1), random(2 * 3 * channels * outputs, 2));
        let mut sums = vec![f32::NAN; product.sums()];
        product.forward(&input, &weight, &mut Vec::new(), &mut sums);
        for (place, sum) in sums.iter().enumerate() {
            let (row, column, output) = (place / outputs / 8, place / outputs % 8, place % outputs);
            let mut expected = 0.0;
            for (tap, weight) in weight[output..].iter().step_by(outputs).enumerate() {
                let (y, x) = (2 * row + tap / channels / 3, column + tap / channels % 3);
                if y >= 1 && y - 1 < height && x < width {
                    expected += weight * input[((y - 1) * width + x) * channels + tap % channels];
                }
            }
            assert!((sum - expected).abs() < 1e-5, "{place}: {sum} and {expected}");
        }
    }

    #[test]
    fn gradients_are_the_adjoint_where_the_stride_leaves_a_rest() {
        // Candle refuses these. A product is linear in each argument, so <slopes, f(d)> = <gradient, d> for any d.
        let strided = Product::convolution([6, 8, 3], Window::square(3, 2, 1), 4);
        assert_eq!(strided.sums(), 3 * 4 * 4);
        let uneven = Product::convolution([6, 8, 3], UNEVEN, 4);
        assert_eq!(uneven.sums(), 3 * 8 * 4);
        for (product, inputs, weights) in [(strided, 144, 108), (uneven, 144, 72), (Product::linear(7, 4), 7, 28)] {
            let (input, weight) = (random(2 * inputs, 1), random(weights, 2));
            let slopes = random(2 * product.sums(), 3);
            let inner = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
            let mut columns = Vec::new();
            let (mut of_input, mut of_weight) = (vec![0.0; input.len()], vec![0.0; weight.len()]);
            product.input_gradient(&weight, &slopes, &mut columns, &mut of_input);
            product.weight_gradient(&input, &slopes, &mut columns, &mut of_weight);
            let (other_input, other_weight) = (random(input.len(), 4), random(weight.len(), 5));
            for (input, weight, gradient, other) in
                [(&other_input, &weight, &of_input, &other_input), (&input, &other_weight, &of_weight, &other_weight)]
            {
                let mut along = vec![0.0; slopes.len()];
                product.forward(input, weight, &mut columns, &mut along);
                let (left, right) = (inner(&slopes, &along), inner(gradient, other));
                assert!((left - right).abs() < 1e-3 * left.abs().max(1.0), "{left} and {right}");
            }
        }
    }
}
