//! Batch normalisation over the channels (S. Ioffe, C. Szegedy, "Batch Normalization", 2015, section 3), without the shift
//! `beta`: that is the bias, which is added later.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::im2col::contiguous;

/// What is added to variances, so that a channel that never changes is not divided by zero.
pub const EPSILON: f32 = 1e-5;

/// Mean and variance (of the batch, divided by the count) of every channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    /// The means.
    pub mean: Vec<f32>,
    /// The variances.
    pub variance: Vec<f32>,
}

/// Gives `gamma * (input - mean) / sqrt(variance + epsilon)` of `input (N, H, W, C)` and `gamma (C)`, and the statistics
/// of the batch, through which gradients flow too.
///
/// # Errors
/// Candle's, where a dtype, a device or a shape is another.
pub fn normalize(input: &Tensor, gamma: &Tensor) -> Result<(Tensor, Statistics)> {
    let input = input.contiguous()?;
    let sums = input.apply_op1_no_bwd(&Moments)?.to_vec2::<f32>()?;
    let statistics = Statistics { mean: sums[0].clone(), variance: sums[1].clone() };
    let inverse = statistics.variance.iter().map(|variance| 1.0 / (variance + EPSILON).sqrt()).collect();
    let output = input.apply_op2(gamma, Normalize { mean: statistics.mean.clone(), inverse })?;
    Ok((output, statistics))
}

/// Sums two numbers for every channel in f64. Each image is summed apart and the sums in order, so that the result does
/// not depend on the number of threads. `row` is given the place of a row of channels, and what to add to.
fn sum_rows(
    [images, of_image, channels]: [usize; 3],
    row: impl Fn(usize, &mut [f64], &mut [f64]) + Sync,
) -> [Vec<f64>; 2] {
    let of_images: Vec<[Vec<f64>; 2]> = (0..images)
        .into_par_iter()
        .map(|image| {
            let [mut first, mut second] = [vec![0f64; channels], vec![0f64; channels]];
            for place in (image * of_image..(image + 1) * of_image).step_by(channels) {
                row(place, &mut first, &mut second);
            }
            [first, second]
        })
        .collect();
    let mut sums = [vec![0f64; channels], vec![0f64; channels]];
    for of_image in &of_images {
        for (sums, values) in sums.iter_mut().zip(of_image) {
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        }
    }
    sums
}

/// `(N, H, W, C)` to `(2, C)`: mean and variance.
struct Moments;

impl CustomOp1 for Moments {
    fn name(&self) -> &'static str {
        "channel-moments"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let input = contiguous(storage, layout)?;
        let (images, height, width, channels) = layout.shape().dims4()?;
        let count = (images * height * width) as f64;
        let [mut mean, mut variance] =
            sum_rows([images, height * width * channels, channels], |place, sum, squares| {
                for ((value, sum), squares) in input[place..][..channels].iter().zip(sum).zip(squares) {
                    let value = f64::from(*value);
                    *sum += value;
                    *squares += value * value;
                }
            });
        for (mean, variance) in mean.iter_mut().zip(&mut variance) {
            *mean /= count;
            *variance = (*variance / count - *mean * *mean).max(0.0);
        }
        let both = mean.iter().chain(&variance).map(|value| *value as f32).collect();
        Ok((CpuStorage::F32(both), Shape::from((2, channels))))
    }
}

struct Normalize {
    mean: Vec<f32>,
    inverse: Vec<f32>,
}

impl CustomOp2 for Normalize {
    fn name(&self) -> &'static str {
        "batch-normalize"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (input, gamma) = (contiguous(s1, l1)?, contiguous(s2, l2)?);
        let (_, height, width, channels) = l1.shape().dims4()?;
        let factor: Vec<f32> = gamma.iter().zip(&self.inverse).map(|(gamma, inverse)| gamma * inverse).collect();
        let mut output = vec![0f32; input.len()];
        let of_image = (height * width * channels).max(1);
        output.par_chunks_mut(of_image).zip(input.par_chunks(of_image)).for_each(|(output, input)| {
            for (output, input) in output.chunks_exact_mut(channels).zip(input.chunks_exact(channels)) {
                for (((output, input), mean), factor) in output.iter_mut().zip(input).zip(&self.mean).zip(&factor) {
                    *output = (input - mean) * factor;
                }
            }
        });
        Ok((CpuStorage::F32(output), l1.shape().clone()))
    }

    fn bwd(
        &self,
        input: &Tensor,
        gamma: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let sums = input.apply_op2_no_bwd(&grad, &GradientSums { of: self })?;
        let gamma_grad = sums.get(1)?;
        let numbers = sums.to_vec2::<f32>()?;
        let gradient =
            InputGradient { of: self, gamma: gamma.to_vec1()?, sum: &numbers[0], normalized_sum: &numbers[1] };
        Ok((Some(input.apply_op2_no_bwd(&grad, &gradient)?), Some(gamma_grad)))
    }
}

/// Input and the output's gradient to `(2, C)`: the sums of the gradient, and of the gradient times the normalised input.
struct GradientSums<'a> {
    of: &'a Normalize,
}

impl CustomOp2 for GradientSums<'_> {
    fn name(&self) -> &'static str {
        "batch-normalize-sums"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (input, grad) = (contiguous(s1, l1)?, contiguous(s2, l2)?);
        let (images, height, width, channels) = l1.shape().dims4()?;
        let Normalize { mean, inverse } = self.of;
        let sums = sum_rows([images, height * width * channels, channels], |place, sum, normalized_sum| {
            let (input, grad) = (&input[place..][..channels], &grad[place..][..channels]);
            for channel in 0..channels {
                let normalized = (input[channel] - mean[channel]) * inverse[channel];
                sum[channel] += f64::from(grad[channel]);
                normalized_sum[channel] += f64::from(grad[channel] * normalized);
            }
        });
        let both = sums.iter().flatten().map(|value| *value as f32).collect();
        Ok((CpuStorage::F32(both), Shape::from((2, channels))))
    }
}

/// Input and the output's gradient to the input's gradient.
struct InputGradient<'a> {
    of: &'a Normalize,
    gamma: Vec<f32>,
    sum: &'a [f32],
    normalized_sum: &'a [f32],
}

impl CustomOp2 for InputGradient<'_> {
    fn name(&self) -> &'static str {
        "batch-normalize-backward"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (input, grad) = (contiguous(s1, l1)?, contiguous(s2, l2)?);
        let (images, height, width, channels) = l1.shape().dims4()?;
        let Normalize { mean, inverse } = self.of;
        let share = 1.0 / (images * height * width) as f32;
        let mut output = vec![0f32; input.len()];
        let of_image = (height * width * channels).max(1);
        output.par_chunks_mut(of_image).enumerate().for_each(|(image, output)| {
            for (row, output) in output.chunks_exact_mut(channels).enumerate() {
                let place = image * of_image + row * channels;
                let (input, grad) = (&input[place..][..channels], &grad[place..][..channels]);
                for channel in 0..channels {
                    let normalized = (input[channel] - mean[channel]) * inverse[channel];
                    let common = (self.sum[channel] + normalized * self.normalized_sum[channel]) * share;
                    output[channel] = self.gamma[channel] * inverse[channel] * (grad[channel] - common);
                }
            }
        });
        Ok((CpuStorage::F32(output), l1.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn agrees_with_candle_forward_and_backward() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut random = |shape: &[usize]| {
            let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..2.0)).collect();
            Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
        };
        let input = Var::from_tensor(&random(&[3, 4, 5, 6])).unwrap();
        let gamma = Var::from_tensor(&random(&[6])).unwrap();
        let slope = random(&[3, 4, 5, 6]);
        let (ours, statistics) = normalize(&input, &gamma).unwrap();
        let rows = input.flatten_to(2).unwrap();
        let mean = rows.mean_keepdim(0).unwrap();
        let centred = rows.broadcast_sub(&mean).unwrap();
        let variance = centred.sqr().unwrap().mean_keepdim(0).unwrap();
        let deviation = (&variance + f64::from(EPSILON)).unwrap().sqrt().unwrap();
        let theirs = centred.broadcast_div(&deviation).unwrap().broadcast_mul(&gamma).unwrap();
        let theirs = theirs.reshape((3, 4, 5, 6)).unwrap();
        let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let same = |ours: &[f32], theirs: &[f32]| {
            assert_eq!(ours.len(), theirs.len());
            ours.iter().zip(theirs).for_each(|(a, b)| assert!((a - b).abs() < 2e-5, "{a} and {b}"));
        };
        same(&flat(&ours), &flat(&theirs));
        same(&statistics.mean, &flat(&mean));
        same(&statistics.variance, &flat(&variance));
        let ours = (ours * &slope).unwrap().sum_all().unwrap().backward().unwrap();
        let theirs = (theirs * &slope).unwrap().sum_all().unwrap().backward().unwrap();
        for var in [&input, &gamma] {
            same(&flat(ours.get(var).unwrap()), &flat(theirs.get(var).unwrap()));
        }
    }
}
