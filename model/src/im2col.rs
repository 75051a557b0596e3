//! Convolution for training, as im2col and a matrix product.
//!
//! Activations are `(N, H, W, C)` here, other than in model files: then a window's row is one contiguous run of
//! `kernel * C` numbers, which makes gathering and scattering plain copies. Weights are `(kernel * kernel * C, O)` in the
//! order of such a row. K. Chellapilla, S. Puri, P. Simard, "High Performance Convolutional Neural Networks for Document
//! Processing", 2006, section 3, is where the unrolling comes from.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Error, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

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
        let (columns, [images, rows, width, depth]) = unroll(s1, l1, self.window)?;
        let (weight_depth, outputs) = l2.shape().dims2()?;
        if weight_depth != depth {
            return Err(Error::Msg(format!("im2col: {depth} numbers a window, {weight_depth} weights a channel")));
        }
        let count = images * rows * width;
        let layout = Layout::contiguous((count, depth));
        let product = columns.matmul(s2, (1, count, outputs, depth), &layout, l2)?;
        Ok((product, Shape::from((images, rows, width, outputs))))
    }

    fn bwd(
        &self,
        input: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (images, height, width, channels) = input.dims4()?;
        let grad = grad.contiguous()?.flatten_to(2)?;
        // The columns are gathered again rather than kept: they are nine times the input, and gathering is cheap.
        let columns = input.apply_op1_no_bwd(&Im2Col { window: self.window })?;
        let weight_grad = columns.t()?.matmul(&grad)?;
        drop(columns);
        let input_grad = match self.input_gradient {
            InputGradient::Skipped => None,
            InputGradient::Needed => {
                let columns = grad.matmul(&weight.t()?)?;
                let back = Col2Im { window: self.window, shape: [images, height, width, channels] };
                Some(columns.apply_op1_no_bwd(&back)?)
            }
        };
        Ok((input_grad, Some(weight_grad)))
    }
}

/// `(N, H, W, C)` to `(N * OH * OW, kernel * kernel * C)`.
struct Im2Col {
    window: Window,
}

impl CustomOp1 for Im2Col {
    fn name(&self) -> &'static str {
        "im2col"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (columns, [images, rows, width, depth]) = unroll(storage, layout, self.window)?;
        Ok((columns, Shape::from((images * rows * width, depth))))
    }
}

/// The transpose of [`Im2Col`]: adds every column's numbers where they were gathered from.
struct Col2Im {
    window: Window,
    shape: [usize; 4],
}

impl CustomOp1 for Col2Im {
    fn name(&self) -> &'static str {
        "col2im"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let columns = contiguous(storage, layout)?;
        let [images, height, width, channels] = self.shape;
        let mut input = vec![0f32; images * height * width * channels];
        let (rows, run) = (self.window.outputs(height), self.window.kernel * channels);
        let of_image = rows * self.window.outputs(width) * self.window.kernel * run;
        input.par_chunks_mut((height * width * channels).max(1)).enumerate().for_each(|(image, input)| {
            let columns = &columns[image * of_image..][..of_image];
            for (window, column) in columns.chunks_exact(self.window.kernel * run).enumerate() {
                for (place, source) in runs(self.window, [height, width, channels], window) {
                    let target = &mut input[place..][..source.len()];
                    target.iter_mut().zip(&column[source]).for_each(|(sum, value)| *sum += value);
                }
            }
        });
        Ok((CpuStorage::F32(input), Shape::from(self.shape.to_vec())))
    }
}

/// The numbers of an f32 tensor that lies in one piece.
pub(crate) fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let (start, end) = layout.contiguous_offsets().ok_or(Error::RequiresContiguous { op: "im2col" })?;
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// Gathers the windows; also returns `[N, OH, OW, kernel * kernel * C]`.
fn unroll(storage: &CpuStorage, layout: &Layout, window: Window) -> Result<(CpuStorage, [usize; 4])> {
    let input = contiguous(storage, layout)?;
    let (images, height, width, channels) = layout.shape().dims4()?;
    let (rows, places) = (window.outputs(height), window.outputs(width));
    let depth = window.kernel * window.kernel * channels;
    let mut columns = vec![0f32; images * rows * places * depth];
    columns.par_chunks_mut((rows * places * depth).max(1)).enumerate().for_each(|(image, columns)| {
        let input = &input[image * height * width * channels..][..height * width * channels];
        for (index, column) in columns.chunks_exact_mut(depth).enumerate() {
            for (place, target) in runs(window, [height, width, channels], index) {
                let length = target.len();
                column[target].copy_from_slice(&input[place..][..length]);
            }
        }
    });
    Ok((CpuStorage::F32(columns), [images, rows, places, depth]))
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
        ];
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
                assert!(difference(ours.get(var).unwrap(), theirs.get(var).unwrap()) < 1e-3, "{window:?}");
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
