//! The sum of each window, scaled and clamped: what a sum-pool is in the float network.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::activation::round;
use crate::im2col::{Window, contiguous};

/// Gives `clamp(scale * sum, 0, ceiling)` of every window of `input (N, H, W, C)`, whose numbers are 0 or more, rounded to
/// multiples of `step` if there is one. The window has no padding. No gradient passes where the ceiling took hold.
///
/// # Errors
/// Candle's, where a dtype, a device or a shape is another.
pub fn sum_pool(input: &Tensor, window: Window, scale: f32, ceiling: f32, step: Option<f32>) -> Result<Tensor> {
    input.contiguous()?.apply_op1(SumPool { window, scale, ceiling, step })
}

#[derive(Debug, Clone, Copy)]
struct SumPool {
    window: Window,
    scale: f32,
    ceiling: f32,
    step: Option<f32>,
}

impl SumPool {
    /// The places in an image (of the first channel) that a window covers.
    fn places(&self, width: usize, window: usize, channels: usize) -> impl Iterator<Item = usize> {
        let Window { kernel, stride, .. } = self.window;
        let across = self.window.outputs(width);
        let (top, left) = (window / across * stride, window % across * stride);
        (0..kernel * kernel).map(move |offset| ((top + offset / kernel) * width + left + offset % kernel) * channels)
    }
}

impl CustomOp1 for SumPool {
    fn name(&self) -> &'static str {
        "sum-pool"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let input = contiguous(storage, layout)?;
        let (images, height, width, channels) = layout.shape().dims4()?;
        let (rows, across) = (self.window.outputs(height), self.window.outputs(width));
        let of_image = height * width * channels;
        let mut output = vec![0f32; images * rows * across * channels];
        output.par_chunks_mut((rows * across * channels).max(1)).enumerate().for_each(|(image, output)| {
            let input = &input[image * of_image..][..of_image];
            for (window, output) in output.chunks_exact_mut(channels).enumerate() {
                for place in self.places(width, window, channels) {
                    output.iter_mut().zip(&input[place..]).for_each(|(sum, value)| *sum += value);
                }
                output.iter_mut().for_each(|sum| *sum = (*sum * self.scale).clamp(0.0, self.ceiling));
                if let Some(step) = self.step {
                    output.iter_mut().for_each(|mean| *mean = round(*mean, step));
                }
            }
        });
        Ok((CpuStorage::F32(output), Shape::from((images, rows, across, channels))))
    }

    fn bwd(&self, input: &Tensor, output: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let back = Backward { pool: *self, input: input.dims4()?.into() };
        Ok(Some(output.apply_op2_no_bwd(&grad.contiguous()?, &back)?))
    }
}

/// The gradient of the input, of the output and its gradient.
struct Backward {
    pool: SumPool,
    input: [usize; 4],
}

impl CustomOp2 for Backward {
    fn name(&self) -> &'static str {
        "sum-pool-backward"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (output, grad) = (contiguous(s1, l1)?, contiguous(s2, l2)?);
        let [images, height, width, channels] = self.input;
        let of_image = height * width * channels;
        let of_output = self.pool.window.outputs(height) * self.pool.window.outputs(width) * channels;
        let mut input_grad = vec![0f32; images * of_image];
        input_grad.par_chunks_mut(of_image.max(1)).enumerate().for_each(|(image, input_grad)| {
            let rows = output[image * of_output..][..of_output].chunks_exact(channels);
            let grads = grad[image * of_output..][..of_output].chunks_exact(channels);
            for (window, (output, grad)) in rows.zip(grads).enumerate() {
                for place in self.pool.places(width, window, channels) {
                    for ((sum, output), grad) in input_grad[place..].iter_mut().zip(output).zip(grad) {
                        *sum += if *output < self.pool.ceiling { grad * self.pool.scale } else { 0.0 };
                    }
                }
            }
        });
        Ok((CpuStorage::F32(input_grad), Shape::from(self.input.to_vec())))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn sums_and_gradients_by_hand() {
        // Two channels, two rows, three columns; windows of 2 that overlap.
        let input: Vec<f32> = (0..12).map(|number| number as f32).collect();
        let input = Var::from_vec(input, (1, 2, 3, 2), &Device::Cpu).unwrap();
        let window = Window { kernel: 2, stride: 1, padding: 0 };
        let output = sum_pool(&input, window, 0.25, 6.5, None).unwrap();
        // Channel 0: (0 + 2 + 6 + 8) / 4 and (2 + 4 + 8 + 10) / 4; channel 1: one more each, the last one clamped.
        assert_eq!(output.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [4.0, 5.0, 6.0, 6.5]);
        let rounded = sum_pool(&input, window, 0.25, 6.5, Some(2.0)).unwrap();
        assert_eq!(rounded.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [4.0, 6.0, 6.0, 6.0]);
        let grads = output.sum_all().unwrap().backward().unwrap();
        let grad = grads.get(&input).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(grad, [0.25, 0.25, 0.5, 0.25, 0.25, 0.0, 0.25, 0.25, 0.5, 0.25, 0.25, 0.0]);
    }
}
