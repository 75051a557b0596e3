//! What follows the products of a layer: bias, clamp and maximum pool, in one pass over memory.
//!
//! Clamping is monotone, so it may as well follow the pool, where there is less to clamp; the outputs are the same.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::im2col::{Window, contiguous};

/// Adds `bias (C)` to `input (N, H, W, C)`, takes the maximum of each window, and clamps to `0..=ceiling`. The gradient
/// goes to the first maximum of each window, and to nothing where the clamp took hold. The window has no padding.
///
/// # Errors
/// Candle's, where a dtype, a device or a shape is another.
pub fn activate(input: &Tensor, bias: &Tensor, pool: Window, ceiling: f32) -> Result<Tensor> {
    input.contiguous()?.apply_op2(&bias.contiguous()?, Activation { pool, ceiling })
}

#[derive(Debug, Clone, Copy)]
struct Activation {
    pool: Window,
    ceiling: f32,
}

impl Activation {
    /// Calls `visit` with the place of every output of an image and, for its channels, the maxima and the place in the
    /// image (of the window's first channel) each came from.
    fn pool(&self, input: &[f32], size: [usize; 3], mut visit: impl FnMut(usize, &[f32], &[u32])) {
        let [height, width, channels] = size;
        let (rows, places) = (self.pool.outputs(height), self.pool.outputs(width));
        let mut maxima = vec![0f32; channels];
        let mut origins = vec![0u32; channels];
        for output in 0..rows * places {
            let (top, left) = (output / places * self.pool.stride, output % places * self.pool.stride);
            for offset in 0..self.pool.kernel * self.pool.kernel {
                let (y, x) = (top + offset / self.pool.kernel, left + offset % self.pool.kernel);
                let origin = (y * width + x) * channels;
                let values = &input[origin..][..channels];
                if offset == 0 {
                    maxima.copy_from_slice(values);
                    origins.fill(origin as u32);
                    continue;
                }
                for ((maximum, from), value) in maxima.iter_mut().zip(&mut origins).zip(values) {
                    let above = value > maximum;
                    *maximum = if above { *value } else { *maximum };
                    *from = if above { origin as u32 } else { *from };
                }
            }
            visit(output, &maxima, &origins);
        }
    }
}

impl CustomOp2 for Activation {
    fn name(&self) -> &'static str {
        "bias-pool-clamp"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (input, bias) = (contiguous(s1, l1)?, contiguous(s2, l2)?);
        let (images, height, width, channels) = l1.shape().dims4()?;
        let (rows, places) = (self.pool.outputs(height), self.pool.outputs(width));
        let mut output = vec![0f32; images * rows * places * channels];
        output.par_chunks_mut((rows * places * channels).max(1)).enumerate().for_each(|(image, output)| {
            let input = &input[image * height * width * channels..][..height * width * channels];
            self.pool(input, [height, width, channels], |place, maxima, _| {
                let output = &mut output[place * channels..][..channels];
                for ((value, maximum), bias) in output.iter_mut().zip(maxima).zip(bias) {
                    *value = (maximum + bias).clamp(0.0, self.ceiling);
                }
            });
        });
        Ok((CpuStorage::F32(output), Shape::from((images, rows, places, channels))))
    }

    fn bwd(
        &self,
        input: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let input_grad = input.apply_op3_no_bwd(bias, &grad.contiguous()?, &Backward(*self))?;
        // Whatever reaches an input has passed its bias, and nothing else has.
        let bias_grad = input_grad.apply_op1_no_bwd(&ChannelSums)?;
        Ok((Some(input_grad), Some(bias_grad)))
    }
}

/// The gradient of the input, of arguments input, bias and the output's gradient.
struct Backward(Activation);

impl CustomOp3 for Backward {
    fn name(&self) -> &'static str {
        "bias-pool-clamp-backward"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (input, bias, grad) = (contiguous(s1, l1)?, contiguous(s2, l2)?, contiguous(s3, l3)?);
        let (images, height, width, channels) = l1.shape().dims4()?;
        let of_image = height * width * channels;
        let of_output = self.0.pool.outputs(height) * self.0.pool.outputs(width) * channels;
        let mut input_grad = vec![0f32; images * of_image];
        input_grad.par_chunks_mut(of_image.max(1)).enumerate().for_each(|(image, input_grad)| {
            let grad = &grad[image * of_output..][..of_output];
            self.0.pool(&input[image * of_image..][..of_image], [height, width, channels], |place, maxima, origins| {
                let grad = &grad[place * channels..][..channels];
                for channel in 0..channels {
                    let value = maxima[channel] + bias[channel];
                    let passes = value > 0.0 && value < self.0.ceiling;
                    input_grad[origins[channel] as usize + channel] += if passes { grad[channel] } else { 0.0 };
                }
            });
        });
        Ok((CpuStorage::F32(input_grad), l1.shape().clone()))
    }
}

/// `(N, H, W, C)` to `(C)`. Each image is summed apart and the sums in order, so that the result does not depend on the
/// number of threads.
struct ChannelSums;

impl CustomOp1 for ChannelSums {
    fn name(&self) -> &'static str {
        "channel-sums"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let input = contiguous(storage, layout)?;
        let (_, height, width, channels) = layout.shape().dims4()?;
        let add = |mut sums: Vec<f32>, values: &[f32]| {
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            sums
        };
        let of_images: Vec<Vec<f32>> = input
            .par_chunks((height * width * channels).max(1))
            .map(|image| image.chunks_exact(channels).fold(vec![0f32; channels], add))
            .collect();
        let sums = of_images.iter().fold(vec![0f32; channels], |sums, image| add(sums, image));
        Ok((CpuStorage::F32(sums), Shape::from(channels)))
    }
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

    #[test]
    fn agrees_with_candle_forward_and_backward() {
        // Candle's own max-pool passes back a share of the gradient only, so that maxima along axes stand in for it.
        for (size, kernel) in [([2, 6, 6, 5], 2), ([3, 7, 5, 4], 2), ([2, 4, 4, 3], 1), ([1, 9, 9, 2], 3)] {
            let input = Var::from_tensor(&random(&size, 7)).unwrap();
            let bias = Var::from_tensor(&random(&[size[3]], 8)).unwrap();
            let pool = Window { kernel, stride: kernel, padding: 0 };
            let ours = activate(&input, &bias, pool, 0.6).unwrap();
            let (rows, columns) = (size[1] / kernel, size[2] / kernel);
            let whole = input.narrow(1, 0, rows * kernel).unwrap().narrow(2, 0, columns * kernel).unwrap();
            let windows =
                whole.contiguous().unwrap().reshape((size[0], rows, kernel, columns, kernel, size[3])).unwrap();
            let theirs = windows.max(4).unwrap().max(2).unwrap().broadcast_add(&bias).unwrap();
            let theirs = theirs.clamp(0f32, 0.6f32).unwrap();
            let slope = random(ours.dims(), 9);
            let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(flat(&ours), flat(&theirs), "kernel {kernel}");
            let ours = (ours * &slope).unwrap().sum_all().unwrap().backward().unwrap();
            let theirs = (theirs * &slope).unwrap().sum_all().unwrap().backward().unwrap();
            assert_eq!(flat(ours.get(&input).unwrap()), flat(theirs.get(&input).unwrap()), "kernel {kernel}");
            for (ours, theirs) in flat(ours.get(&bias).unwrap()).iter().zip(flat(theirs.get(&bias).unwrap())) {
                assert!((ours - theirs).abs() < 1e-5, "kernel {kernel}: {ours} and {theirs}");
            }
        }
    }

    #[test]
    fn overlapping_windows_add_their_gradients() {
        let input = Var::from_vec(vec![1f32, 3., 2.], (1, 1, 3, 1), &Device::Cpu).unwrap();
        let input =
            Var::from_tensor(&Tensor::cat(&[input.as_tensor(), &input.zeros_like().unwrap()], 1).unwrap()).unwrap();
        let bias = Var::from_vec(vec![0f32], 1, &Device::Cpu).unwrap();
        let output = activate(&input, &bias, Window { kernel: 2, stride: 1, padding: 0 }, 9.0).unwrap();
        assert_eq!(output.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [3.0, 3.0]);
        let grads = output.sum_all().unwrap().backward().unwrap();
        let grad = grads.get(&input).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(grad, [0.0, 2.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(grads.get(&bias).unwrap().to_vec1::<f32>().unwrap(), [2.0]);
    }
}
