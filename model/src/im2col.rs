//! Convolution for training, as im2col and a matrix product.
//!
//! Activations are `(N, H, W, C)` here, other than in model files: then a window's row is one contiguous run of
//! `kernel * C` numbers, which makes gathering and scattering plain copies. Weights are `(kernel * kernel * C, O)` in the
//! order of such a row. K. Chellapilla, S. Puri, P. Simard, "High Performance Convolutional Neural Networks for Document
//! Processing", 2006, section 3, is where the unrolling comes from.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, Error, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// How many numbers are unrolled at once: 1 MiB of them.
const GROUP_NUMBERS: usize = 1 << 18;
/// Into how many parts the images are split for the gradient of the weight: enough for as many threads.
const WEIGHT_PARTS: usize = 8;

/// A square window that slides over rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Rows and columns.
    pub kernel: usize,
    /// Step between outputs.
    pub stride: usize,
    /// Zeros around the input on every side.
    pub padding: usize,
}

impl Window {
    /// How often the window fits into `size` rows or columns, which must hold it at least once.
    pub fn outputs(&self, size: usize) -> usize {
        (size + 2 * self.padding - self.kernel) / self.stride + 1
    }
}

/// Whether a convolution passes a gradient on to its input. The first layer's input is the picture, which needs none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputGradient {
    /// The gradient of the input is computed.
    Needed,
    /// It is not.
    Skipped,
}

/// Cross-correlates `input (N, H, W, C)` with `weight (kernel * kernel * C, O)`, giving `(N, OH, OW, O)` in f32 on the
/// CPU, with gradients for both.
///
/// # Errors
/// Candle's, where a dtype, a device or a shape is another.
pub fn convolve(input: &Tensor, weight: &Tensor, window: Window, input_gradient: InputGradient) -> Result<Tensor> {
    input.contiguous()?.apply_op2(weight, Convolution { window, input_gradient })
}

struct Convolution {
    window: Window,
    input_gradient: InputGradient,
}

impl CustomOp2 for Convolution {
    fn name(&self) -> &'static str {
        "im2col-convolution"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let input = contiguous(s1, l1)?;
        let unrolling = Unrolling::new(self.window, l1.shape())?;
        let (weight_depth, outputs) = l2.shape().dims2()?;
        if weight_depth != unrolling.depth {
            let depth = unrolling.depth;
            return Err(Error::Msg(format!("im2col: {depth} numbers a window, {weight_depth} weights a channel")));
        }
        let Unrolling { images, windows, depth, of_image, group, .. } = unrolling;
        let mut output = vec![0f32; images * windows * outputs];
        let groups = output.par_chunks_mut((group * windows * outputs).max(1)).zip(input.par_chunks(group * of_image));
        groups.try_for_each_init(Vec::new, |buffer, (output, input)| {
            let columns = unrolling.gather(input, std::mem::take(buffer));
            let count = columns.len() / depth;
            let columns = CpuStorage::F32(columns);
            let product = columns.matmul(s2, (1, count, outputs, depth), &Layout::contiguous((count, depth)), l2)?;
            output.copy_from_slice(product.as_slice()?);
            *buffer = into_numbers(columns);
            Ok::<(), Error>(())
        })?;
        let [_, rows, places, _] = unrolling.output(outputs);
        Ok((CpuStorage::F32(output), Shape::from((images, rows, places, outputs))))
    }

    fn bwd(
        &self,
        input: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        // The columns are gathered again rather than kept: they are nine times the input, and gathering is cheap.
        let weight_grad = input.apply_op2_no_bwd(&grad, &WeightBackward { window: self.window })?;
        let input_grad = match self.input_gradient {
            InputGradient::Skipped => None,
            InputGradient::Needed => {
                let back = InputBackward { window: self.window, input: input.shape().clone() };
                Some(grad.apply_op2_no_bwd(&weight.t()?.contiguous()?, &back)?)
            }
        };
        Ok((input_grad, Some(weight_grad)))
    }
}

/// Input and the output's gradient to the gradient of the weight.
struct WeightBackward {
    window: Window,
}

impl CustomOp2 for WeightBackward {
    fn name(&self) -> &'static str {
        "im2col-weight-backward"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let input = contiguous(s1, l1)?;
        let unrolling = Unrolling::new(self.window, l1.shape())?;
        let Unrolling { images, windows, depth, of_image, group, .. } = unrolling;
        let outputs = l2.shape().dims4()?.3;
        // Each part is added up in the order of its images, and the parts in their order, so that the sum does not depend
        // on the number of threads.
        let part = images.div_ceil(WEIGHT_PARTS).max(1);
        let sums: Vec<Vec<f32>> = input
            .par_chunks((part * of_image).max(1))
            .enumerate()
            .map(|(index, input)| {
                let (mut sum, mut buffer) = (Vec::new(), Vec::new());
                let mut place = l2.start_offset() + index * part * windows * outputs;
                for input in input.chunks(group * of_image) {
                    let columns = unrolling.gather(input, buffer);
                    let count = columns.len() / depth;
                    let columns = CpuStorage::F32(columns);
                    let transposed = Layout::contiguous((count, depth)).transpose(0, 1)?;
                    let rhs = Layout::contiguous_with_offset((count, outputs), place);
                    let product = columns.matmul(s2, (1, depth, outputs, count), &transposed, &rhs)?;
                    place += count * outputs;
                    sum = add(sum, into_numbers(product));
                    buffer = into_numbers(columns);
                }
                Ok(sum)
            })
            .collect::<Result<_>>()?;
        Ok((CpuStorage::F32(sums.into_iter().fold(Vec::new(), add)), Shape::from((depth, outputs))))
    }
}

/// The sum of two lists, of which the first may be empty.
fn add(mut sum: Vec<f32>, more: Vec<f32>) -> Vec<f32> {
    if sum.is_empty() {
        return more;
    }
    sum.iter_mut().zip(&more).for_each(|(sum, value)| *sum += value);
    sum
}

/// The output's gradient and the transposed weight to the gradient of the input.
struct InputBackward {
    window: Window,
    input: Shape,
}

impl CustomOp2 for InputBackward {
    fn name(&self) -> &'static str {
        "im2col-input-backward"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let unrolling = Unrolling::new(self.window, &self.input)?;
        let Unrolling { images, windows, depth, of_image, group, .. } = unrolling;
        let outputs = l1.shape().dims4()?.3;
        let mut input = vec![0f32; images * of_image];
        input.par_chunks_mut((group * of_image).max(1)).enumerate().try_for_each(|(index, input)| {
            let count = input.len() / of_image * windows;
            let place = l1.start_offset() + index * group * windows * outputs;
            let layout = Layout::contiguous_with_offset((count, outputs), place);
            let columns = s1.matmul(s2, (1, count, depth, outputs), &layout, l2)?;
            unrolling.scatter(columns.as_slice()?, input);
            Ok::<(), Error>(())
        })?;
        Ok((CpuStorage::F32(input), self.input.clone()))
    }
}

/// How images become the rows of a matrix, some images at a time, so that the matrix stays in the processor's caches.
#[derive(Debug, Clone, Copy)]
struct Unrolling {
    window: Window,
    /// Rows, columns and channels of an image.
    image: [usize; 3],
    images: usize,
    /// Numbers of an image.
    of_image: usize,
    /// Windows in an image.
    windows: usize,
    /// Numbers of a window.
    depth: usize,
    /// Images in a group.
    group: usize,
}

impl Unrolling {
    fn new(window: Window, input: &Shape) -> Result<Self> {
        let (images, height, width, channels) = input.dims4()?;
        let windows = window.outputs(height) * window.outputs(width);
        let depth = window.kernel * window.kernel * channels;
        let group = (GROUP_NUMBERS / (windows * depth).max(1)).max(1);
        let of_image = height * width * channels;
        Ok(Self { window, image: [height, width, channels], images, of_image, windows, depth, group })
    }

    /// The shape of the output.
    fn output(&self, outputs: usize) -> [usize; 4] {
        let [height, width, _] = self.image;
        [self.images, self.window.outputs(height), self.window.outputs(width), outputs]
    }

    /// Gathers the windows of images into columns, in a buffer that is empty or was filled here: what stands for padding
    /// is never written, and so stays 0.
    fn gather(&self, input: &[f32], mut buffer: Vec<f32>) -> Vec<f32> {
        buffer.resize(input.len() / self.of_image * self.windows * self.depth, 0.0);
        let of_columns = self.windows * self.depth;
        for (image, columns) in input.chunks_exact(self.of_image).zip(buffer.chunks_exact_mut(of_columns)) {
            for (index, column) in columns.chunks_exact_mut(self.depth).enumerate() {
                for (place, target) in runs(self.window, self.image, index) {
                    let length = target.len();
                    column[target].copy_from_slice(&image[place..][..length]);
                }
            }
        }
        buffer
    }

    /// The transpose of gathering: adds every column's numbers where they were gathered from.
    fn scatter(&self, columns: &[f32], input: &mut [f32]) {
        let of_columns = self.windows * self.depth;
        for (image, columns) in input.chunks_exact_mut(self.of_image).zip(columns.chunks_exact(of_columns)) {
            for (index, column) in columns.chunks_exact(self.depth).enumerate() {
                for (place, source) in runs(self.window, self.image, index) {
                    let target = &mut image[place..][..source.len()];
                    target.iter_mut().zip(&column[source]).for_each(|(sum, value)| *sum += value);
                }
            }
        }
    }
}

fn into_numbers(storage: CpuStorage) -> Vec<f32> {
    match storage {
        CpuStorage::F32(numbers) => numbers,
        _ => Vec::new(),
    }
}

/// The numbers of an f32 tensor that lies in one piece.
pub(crate) fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let (start, end) = layout.contiguous_offsets().ok_or(Error::RequiresContiguous { op: "im2col" })?;
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// The runs of a window, counted row by row: where each begins in the image, and its range in the column. What lies in the
/// padding is left out.
fn runs(window: Window, image: [usize; 3], index: usize) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> {
    let [height, width, channels] = image;
    let Window { kernel, stride, padding } = window;
    let places = window.outputs(width);
    let (top, left) = (index / places * stride, index % places * stride);
    // Columns of the kernel that fall inside the image.
    let first = padding.saturating_sub(left);
    let last = kernel.min((width + padding).saturating_sub(left)).max(first);
    (0..kernel).filter_map(move |row| {
        let y = (top + row).checked_sub(padding).filter(|y| *y < height)?;
        let x = left + first - padding;
        let begin = (row * kernel + first) * channels;
        Some(((y * width + x) * channels, begin..begin + (last - first) * channels))
    })
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn random(shape: &[usize], seed: u64) -> Tensor {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn difference(a: &Tensor, b: &Tensor) -> f32 {
        assert_eq!(a.dims(), b.dims());
        (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
    }

    #[test]
    fn agrees_with_candle_forward_and_backward() {
        // Images, rows, columns, channels, outputs, then the window.
        let table = [
            (2, 6, 7, 3, 4, Window { kernel: 3, stride: 1, padding: 0 }),
            (3, 5, 4, 2, 5, Window { kernel: 3, stride: 1, padding: 1 }),
            (1, 9, 7, 1, 2, Window { kernel: 3, stride: 2, padding: 1 }),
            (2, 7, 7, 2, 3, Window { kernel: 5, stride: 2, padding: 4 }),
            (2, 4, 4, 3, 2, Window { kernel: 1, stride: 1, padding: 0 }),
            (1, 1, 1, 2, 2, Window { kernel: 3, stride: 1, padding: 2 }),
            // Several groups of images, the last one smaller, and several of them in a part.
            (35, 32, 32, 8, 2, Window { kernel: 3, stride: 1, padding: 1 }),
        ];
        let large = Unrolling::new(table[6].5, &Shape::from((35, 32, 32, 8))).unwrap();
        assert!(large.group > 1 && large.group < 35usize.div_ceil(WEIGHT_PARTS), "{large:?}");
        for (seed, (images, height, width, channels, outputs, window)) in table.into_iter().enumerate() {
            let seed = seed as u64 * 3;
            let input = Var::from_tensor(&random(&[images, height, width, channels], seed)).unwrap();
            let weight =
                Var::from_tensor(&random(&[window.kernel, window.kernel, channels, outputs], seed + 1)).unwrap();
            let (rows, places) = (window.outputs(height), window.outputs(width));
            let slope = random(&[images, rows, places, outputs], seed + 2);

            let ours = convolve(&input, &weight.flatten_to(2).unwrap(), window, InputGradient::Needed).unwrap();
            let nchw = input.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap();
            let oihw = weight.permute((3, 2, 0, 1)).unwrap().contiguous().unwrap();
            let theirs = nchw.conv2d(&oihw, window.padding, window.stride, 1, 1).unwrap();
            let theirs = theirs.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap();
            assert!(difference(&ours, &theirs) < 1e-4, "{window:?}");

            let ours = (ours * &slope).unwrap().sum_all().unwrap().backward().unwrap();
            let theirs = (theirs * &slope).unwrap().sum_all().unwrap().backward().unwrap();
            for var in [&input, &weight] {
                let (ours, theirs) = (ours.get(var).unwrap(), theirs.get(var).unwrap());
                assert!(difference(ours, theirs) < 1e-3, "{window:?}");
            }
        }
    }

    #[test]
    fn gradients_are_the_adjoint_where_the_stride_leaves_a_rest() {
        // Candle refuses these. A convolution is linear in each argument, so <slope, f(d)> = <gradient, d> for any d.
        let window = Window { kernel: 3, stride: 2, padding: 1 };
        let input = Var::from_tensor(&random(&[2, 6, 8, 3], 1)).unwrap();
        let weight = Var::from_tensor(&random(&[27, 4], 2)).unwrap();
        let output = convolve(&input, &weight, window, InputGradient::Needed).unwrap();
        assert_eq!(output.dims(), [2, 3, 4, 4]);
        let slope = random(output.dims(), 3);
        let inner = |a: &Tensor, b: &Tensor| (a * b).unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
        let grads = (output * &slope).unwrap().sum_all().unwrap().backward().unwrap();
        let (other_input, other_weight) = (random(input.dims(), 4), random(weight.dims(), 5));
        let along_input = convolve(&other_input, &weight, window, InputGradient::Needed).unwrap();
        let along_weight = convolve(&input, &other_weight, window, InputGradient::Needed).unwrap();
        for (along, grad, other) in [
            (along_input, grads.get(&input).unwrap(), other_input),
            (along_weight, grads.get(&weight).unwrap(), other_weight),
        ] {
            let (left, right) = (inner(&slope, &along), inner(grad, &other));
            assert!((left - right).abs() < 1e-3 * left.abs().max(1.0), "{left} and {right}");
        }
    }

    #[test]
    fn the_first_layer_passes_no_gradient_on() {
        let input = Var::from_tensor(&random(&[1, 4, 4, 1], 1)).unwrap();
        let weight = Var::from_tensor(&random(&[9, 1], 2)).unwrap();
        let window = Window { kernel: 3, stride: 1, padding: 0 };
        let output = convolve(&input, &weight, window, InputGradient::Skipped).unwrap();
        let grads = output.sum_all().unwrap().backward().unwrap();
        assert!(grads.get(&input).is_none());
        assert!(grads.get(&weight).is_some());
    }
}
