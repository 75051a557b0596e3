//! What follows the products of a layer: bias or batch normalisation, the skip, maximum pool and clamp, in one pass over
//! memory, as these passes cost as much as the products otherwise.
//!
//! Batch normalisation is over the channels (S. Ioffe, C. Szegedy, "Batch Normalization", 2015, section 3); its shift
//! `beta` is the layer's bias.

use candle_core::{CpuStorage, CustomOp1, CustomOp3, Device, Error, Layout, Result, Shape, Storage, Tensor};
use rayon::prelude::*;

use crate::im2col::{Window, contiguous};

/// What is added to variances, so that a channel that never changes is not divided by zero.
pub const EPSILON: f32 = 1e-5;

/// A half and a little more. Before its shift an integer sum lies on the edge between two activations quite often, where
/// integers are rounded up, and an f32 falls to either side; what lies below the edge is 2^-13 of a step away from it, or
/// more, with shifts of up to 13 bits.
const HALF: f32 = 0.5 + 1.0 / 16384.0;

/// How sums become activations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clamp {
    /// The maximum of each of these windows is taken; the window has no padding.
    pub pool: Window,
    /// Activations are clamped to `0..=ceiling`.
    pub ceiling: f32,
    /// What activations are rounded to multiples of, halves up. Gradients pass as if they were not (Y. Bengio et al.,
    /// "Estimating or Propagating Gradients Through Stochastic Neurons", 2013, the straight-through estimator).
    pub step: Option<f32>,
}

impl Clamp {
    fn apply(&self, values: &mut [f32]) {
        match self.step {
            None => values.iter_mut().for_each(|value| *value = value.clamp(0.0, self.ceiling)),
            Some(step) => values.iter_mut().for_each(|value| *value = round(value.clamp(0.0, self.ceiling), step)),
        }
    }
}

/// The nearest multiple of a step, of a number that is not negative and fewer than 2^31 steps.
pub fn round(value: f32, step: f32) -> f32 {
    (value / step + HALF) as i32 as f32 * step
}

/// Mean and variance (of the batch, divided by the count) of every channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    /// The means.
    pub mean: Vec<f32>,
    /// The variances.
    pub variance: Vec<f32>,
}

/// Adds `bias (C)` and, if there is one, `skip` of the same shape to `input (N, H, W, C)`, takes the maximum of each
/// window, and clamps. The gradient goes to the first maximum of each window, and to nothing where the clamp took hold.
///
/// # Errors
/// Candle's, where a dtype, a device or a shape is another.
pub fn activate(input: &Tensor, bias: &Tensor, skip: Option<&Tensor>, clamp: Clamp) -> Result<Tensor> {
    Activation { clamp, inverse: None }.apply(input, &bias.unsqueeze(0)?, skip)
}

/// As [`activate`], of `gamma * (input - mean) / sqrt(variance + epsilon)`, with the statistics of the batch, through which
/// gradients flow too.
///
/// # Errors
/// Candle's, where a dtype, a device or a shape is another.
pub fn normalize_and_activate(
    input: &Tensor,
    gamma: &Tensor,
    bias: &Tensor,
    skip: Option<&Tensor>,
    clamp: Clamp,
) -> Result<(Tensor, Statistics)> {
    let input = input.contiguous()?;
    let moments = input.apply_op1_no_bwd(&Moments)?.to_vec2::<f32>()?;
    let statistics = Statistics { mean: moments[0].clone(), variance: moments[1].clone() };
    let inverse = statistics.variance.iter().map(|variance| 1.0 / (variance + EPSILON).sqrt()).collect();
    let activation = Activation { clamp, inverse: Some((statistics.mean.clone(), inverse)) };
    Ok((activation.apply(&input, &Tensor::stack(&[bias, gamma], 0)?, skip)?, statistics))
}

#[derive(Debug, Clone)]
struct Activation {
    clamp: Clamp,
    /// The means, and one over the deviations, if the sums are normalised.
    inverse: Option<(Vec<f32>, Vec<f32>)>,
}

/// What a sum is multiplied by, and what is added then, for every channel.
struct Affine {
    factor: Vec<f32>,
    offset: Vec<f32>,
}

impl Activation {
    /// The parameters are `(1, C)`, the bias, or `(2, C)`, the bias and gamma.
    fn apply(self, input: &Tensor, parameters: &Tensor, skip: Option<&Tensor>) -> Result<Tensor> {
        // An operation has a fixed number of arguments, so nothing to add is an empty list.
        let skip = skip.map_or_else(|| Tensor::zeros(0, candle_core::DType::F32, &Device::Cpu), Tensor::contiguous)?;
        input.contiguous()?.apply_op3(&parameters.contiguous()?, &skip, self)
    }

    fn affine(&self, parameters: &[f32]) -> Affine {
        let Some((mean, inverse)) = &self.inverse else {
            return Affine { factor: vec![1.0; parameters.len()], offset: parameters.to_vec() };
        };
        let (bias, gamma) = parameters.split_at(mean.len());
        let factor: Vec<f32> = gamma.iter().zip(inverse).map(|(gamma, inverse)| gamma * inverse).collect();
        let offset = bias.iter().zip(mean).zip(&factor).map(|((bias, mean), factor)| bias - mean * factor).collect();
        Affine { factor, offset }
    }

    /// Calls `visit` with the place of every output of an image and, for its channels, the maxima before the clamp and the
    /// place in the image (of the window's first channel) each came from.
    fn pool(&self, image: Image, affine: &Affine, mut visit: impl FnMut(usize, &[f32], &[u32])) {
        let Window { kernel, stride, .. } = self.clamp.pool;
        let channels = affine.factor.len();
        let (rows, places) = (self.clamp.pool.outputs(image.height), self.clamp.pool.outputs(image.width));
        let [mut maxima, mut values] = [vec![0f32; channels], vec![0f32; channels]];
        let mut origins = vec![0u32; channels];
        for output in 0..rows * places {
            let (top, left) = (output / places * stride, output % places * stride);
            for offset in 0..kernel * kernel {
                let (y, x) = (top + offset / kernel, left + offset % kernel);
                let origin = (y * image.width + x) * channels;
                if offset == 0 {
                    affine.apply(image.input, image.skip, origin, &mut maxima);
                    origins.fill(origin as u32);
                    continue;
                }
                affine.apply(image.input, image.skip, origin, &mut values);
                for ((maximum, from), value) in maxima.iter_mut().zip(&mut origins).zip(&values) {
                    let above = value > maximum;
                    *maximum = if above { *value } else { *maximum };
                    *from = if above { origin as u32 } else { *from };
                }
            }
            visit(output, &maxima, &origins);
        }
    }

    fn is_pooling(&self) -> bool {
        (self.clamp.pool.kernel, self.clamp.pool.stride) != (1, 1)
    }
}

impl Affine {
    /// The values of all channels at a place.
    fn apply(&self, input: &[f32], skip: &[f32], place: usize, values: &mut [f32]) {
        let channels = self.factor.len();
        let sums = input[place..][..channels].iter().zip(&self.factor).zip(&self.offset);
        if skip.is_empty() {
            values.iter_mut().zip(sums).for_each(|(value, ((sum, factor), offset))| *value = sum * factor + offset);
            return;
        }
        for ((value, ((sum, factor), offset)), skip) in values.iter_mut().zip(sums).zip(&skip[place..][..channels]) {
            *value = sum * factor + offset + skip;
        }
    }
}

/// An image's sums, and what is added to them, which may be nothing.
#[derive(Clone, Copy)]
struct Image<'a> {
    input: &'a [f32],
    skip: &'a [f32],
    height: usize,
    width: usize,
}

/// The part of a list that belongs to an image; of an empty list, nothing.
fn of_image(list: &[f32], image: usize, size: usize) -> &[f32] {
    if list.is_empty() { list } else { &list[image * size..][..size] }
}

impl CustomOp3 for Activation {
    fn name(&self) -> &'static str {
        "normalize-skip-pool-clamp"
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
        let (input, affine, skip) = (contiguous(s1, l1)?, self.affine(contiguous(s2, l2)?), contiguous(s3, l3)?);
        let (images, height, width, channels) = l1.shape().dims4()?;
        let (rows, places) = (self.clamp.pool.outputs(height), self.clamp.pool.outputs(width));
        let size = height * width * channels;
        if (!skip.is_empty() && skip.len() != input.len()) || affine.factor.len() != channels {
            return Err(Error::Msg(format!("{}: the shapes of the arguments do not fit", self.name())));
        }
        let mut output = vec![0f32; images * rows * places * channels];
        output.par_chunks_mut((rows * places * channels).max(1)).enumerate().for_each(|(image, output)| {
            let image = Image { input: of_image(input, image, size), skip: of_image(skip, image, size), height, width };
            if self.is_pooling() {
                self.pool(image, &affine, |place, maxima, _| {
                    output[place * channels..][..channels].copy_from_slice(maxima);
                });
            } else {
                for (row, output) in output.chunks_exact_mut(channels).enumerate() {
                    affine.apply(image.input, image.skip, row * channels, output);
                }
            }
            self.clamp.apply(output);
        });
        Ok((CpuStorage::F32(output), Shape::from((images, rows, places, channels))))
    }

    fn bwd(
        &self,
        input: &Tensor,
        parameters: &Tensor,
        skip: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let shape = input.shape();
        let (images, height, width, channels) = shape.dims4()?;
        let size = height * width * channels;
        let grad = grad.contiguous()?;
        let [(input, input_layout), (parameters, parameter_layout), (skip, skip_layout), (grad, grad_layout)] =
            [input, parameters, skip, &grad].map(Tensor::storage_and_layout);
        let (input, parameters) = (numbers(&input, input_layout)?, numbers(&parameters, parameter_layout)?);
        let (skip, grad) = (numbers(&skip, skip_layout)?, numbers(&grad, grad_layout)?);
        let affine = self.affine(parameters);
        let of_output = grad.len() / images.max(1);
        // What reaches a sum before it is normalised; that is what reaches the skip too.
        let mut passed = vec![0f32; images * size];
        let sums: Vec<[Vec<f32>; 2]> = passed
            .par_chunks_mut(size.max(1))
            .enumerate()
            .map(|(index, passed)| {
                let (input, grad) = (of_image(input, index, size), of_image(grad, index, of_output));
                let image = Image { input, skip: of_image(skip, index, size), height, width };
                self.pass(image, &affine, grad, passed);
                self.parameter_sums(input, passed, channels)
            })
            .collect();
        let [bias_grad, gamma_grad] = add_up(&sums, channels);
        let mut parameter_grad = bias_grad.clone();
        let skip_grad = |passed: &[f32]| {
            if skip.is_empty() { Ok(None) } else { Tensor::from_slice(passed, shape, &Device::Cpu).map(Some) }
        };
        let skip_grad = skip_grad(&passed)?;
        if let Some((mean, inverse)) = &self.inverse {
            parameter_grad.extend(&gamma_grad);
            let share = 1.0 / (images * height * width) as f32;
            // gamma * inverse * (passed - (bias_grad + normalised * gamma_grad) / count), as one factor for each.
            let slope: Vec<f32> =
                (0..channels).map(|c| -affine.factor[c] * inverse[c] * gamma_grad[c] * share).collect();
            let constant: Vec<f32> =
                (0..channels).map(|c| -affine.factor[c] * bias_grad[c] * share - slope[c] * mean[c]).collect();
            passed.par_chunks_mut(size.max(1)).zip(input.par_chunks(size.max(1))).for_each(|(passed, input)| {
                for (passed, input) in passed.chunks_exact_mut(channels).zip(input.chunks_exact(channels)) {
                    let numbers = affine.factor.iter().zip(&slope).zip(&constant);
                    for ((passed, input), ((factor, slope), constant)) in passed.iter_mut().zip(input).zip(numbers) {
                        *passed = *passed * factor + input * slope + constant;
                    }
                }
            });
        }
        let rows = parameter_grad.len() / channels.max(1);
        let parameter_grad = Tensor::from_vec(parameter_grad, (rows, channels), &Device::Cpu)?;
        Ok((Some(Tensor::from_vec(passed, shape, &Device::Cpu)?), Some(parameter_grad), skip_grad))
    }
}

impl Activation {
    /// Writes the part of an output's gradient that passes clamp and pool.
    fn pass(&self, image: Image, affine: &Affine, grad: &[f32], passed: &mut [f32]) {
        let channels = affine.factor.len();
        // Without a branch, so that it is done for several numbers at once.
        let passes = |value: f32| (value > 0.0) & (value < self.clamp.ceiling);
        if self.is_pooling() {
            self.pool(image, affine, |place, maxima, origins| {
                let grad = &grad[place * channels..][..channels];
                for channel in 0..channels {
                    let value = if passes(maxima[channel]) { grad[channel] } else { 0.0 };
                    passed[origins[channel] as usize + channel] += value;
                }
            });
            return;
        }
        for (row, (passed, grad)) in passed.chunks_exact_mut(channels).zip(grad.chunks_exact(channels)).enumerate() {
            affine.apply(image.input, image.skip, row * channels, passed);
            for (passed, grad) in passed.iter_mut().zip(grad) {
                *passed = if passes(*passed) { *grad } else { 0.0 };
            }
        }
    }

    /// Sums for every channel what passed and, if the sums are normalised, what passed times the normalised sum.
    fn parameter_sums(&self, input: &[f32], passed: &[f32], channels: usize) -> [Vec<f32>; 2] {
        let [mut first, mut second] = [vec![0f32; channels], vec![0f32; channels]];
        let Some((mean, inverse)) = &self.inverse else {
            for passed in passed.chunks_exact(channels) {
                first.iter_mut().zip(passed).for_each(|(sum, passed)| *sum += passed);
            }
            return [first, second];
        };
        for (input, passed) in input.chunks_exact(channels).zip(passed.chunks_exact(channels)) {
            let sums = first.iter_mut().zip(&mut second);
            for (((first, second), passed), (input, mean)) in sums.zip(passed).zip(input.iter().zip(mean)) {
                *first += passed;
                *second += passed * (input - mean);
            }
        }
        second.iter_mut().zip(inverse).for_each(|(sum, inverse)| *sum *= inverse);
        [first, second]
    }
}

/// Adds the sums of images in order and in f64, so that the result does not depend on the number of threads.
fn add_up(of_images: &[[Vec<f32>; 2]], channels: usize) -> [Vec<f32>; 2] {
    [0, 1].map(|which| {
        let mut sums = vec![0f64; channels];
        for of_image in of_images {
            sums.iter_mut().zip(&of_image[which]).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        sums.into_iter().map(|sum| sum as f32).collect()
    })
}

fn numbers<'a>(storage: &'a Storage, layout: &Layout) -> Result<&'a [f32]> {
    match storage {
        Storage::Cpu(storage) => contiguous(storage, layout),
        _ => Err(Error::Msg("expected numbers on the CPU".into())),
    }
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
        // A number of the batch is subtracted first, so that the squares do not drown the variance.
        let pivot = input.get(..channels).unwrap_or_default();
        let of_images: Vec<[Vec<f32>; 2]> = input
            .par_chunks((height * width * channels).max(1))
            .map(|image| {
                let [mut sum, mut squares] = [vec![0f32; channels], vec![0f32; channels]];
                for row in image.chunks_exact(channels) {
                    let sums = sum.iter_mut().zip(&mut squares);
                    for (((sum, squares), value), pivot) in sums.zip(row).zip(pivot) {
                        let value = value - pivot;
                        *sum += value;
                        *squares += value * value;
                    }
                }
                [sum, squares]
            })
            .collect();
        let [sums, squares] = add_up(&of_images, channels);
        let count = (images * height * width) as f32;
        let mean = sums.iter().zip(pivot).map(|(sum, pivot)| pivot + sum / count);
        let variance = sums.iter().zip(&squares).map(|(sum, squares)| {
            let mean = sum / count;
            (squares / count - mean * mean).max(0.0)
        });
        Ok((CpuStorage::F32(mean.chain(variance).collect()), Shape::from((2, channels))))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const POINT: Window = Window { kernel: 1, stride: 1, padding: 0 };

    fn random(shape: &[usize], seed: u64) -> Tensor {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn flat(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn same(ours: &[f32], theirs: &[f32], what: &str) {
        assert_eq!(ours.len(), theirs.len(), "{what}");
        ours.iter().zip(theirs).for_each(|(a, b)| assert!((a - b).abs() < 3e-5, "{what}: {a} and {b}"));
    }

    /// The same with candle's operations, whose max-pool passes back a share of the gradient only, so that maxima along
    /// axes stand in for it.
    fn by_candle(values: &Tensor, skip: Option<&Tensor>, kernel: usize) -> Tensor {
        let values = skip.map_or_else(|| values.clone(), |skip| (values + skip).unwrap());
        let (images, height, width, channels) = values.dims4().unwrap();
        let (rows, columns) = (height / kernel, width / kernel);
        let whole = values.narrow(1, 0, rows * kernel).unwrap().narrow(2, 0, columns * kernel).unwrap();
        let windows = whole.contiguous().unwrap().reshape((images, rows, kernel, columns, kernel, channels)).unwrap();
        windows.max(4).unwrap().max(2).unwrap().clamp(0f32, 0.6f32).unwrap()
    }

    #[test]
    fn agrees_with_candle_forward_and_backward() {
        let table = [([2, 6, 6, 5], 2), ([3, 7, 5, 4], 2), ([2, 4, 4, 3], 1), ([1, 9, 9, 2], 3)];
        for ((size, kernel), (with_skip, with_norm)) in table
            .into_iter()
            .flat_map(|row| [(false, false), (true, false), (false, true), (true, true)].map(|how| (row, how)))
        {
            let what = format!("kernel {kernel}, skip {with_skip}, normalised {with_norm}");
            let input = Var::from_tensor(&random(&size, 7)).unwrap();
            let bias = Var::from_tensor(&random(&[size[3]], 8)).unwrap();
            let gamma = Var::from_tensor(&random(&[size[3]], 9)).unwrap();
            let added = Var::from_tensor(&random(&size, 10)).unwrap();
            let skip = with_skip.then_some(added.as_tensor());
            let clamp = Clamp { pool: Window { kernel, stride: kernel, padding: 0 }, ceiling: 0.6, step: None };
            let (ours, theirs) = if with_norm {
                let (ours, statistics) = normalize_and_activate(&input, &gamma, &bias, skip, clamp).unwrap();
                let rows = input.flatten_to(2).unwrap();
                let mean = rows.mean_keepdim(0).unwrap();
                let centred = rows.broadcast_sub(&mean).unwrap();
                let variance = centred.sqr().unwrap().mean_keepdim(0).unwrap();
                let deviation = (&variance + f64::from(EPSILON)).unwrap().sqrt().unwrap();
                let values = centred.broadcast_div(&deviation).unwrap().broadcast_mul(&gamma).unwrap();
                let values = values.broadcast_add(&bias).unwrap().reshape(input.shape()).unwrap();
                same(&statistics.mean, &flat(&mean), &what);
                same(&statistics.variance, &flat(&variance), &what);
                (ours, by_candle(&values, skip, kernel))
            } else {
                let values = input.broadcast_add(&bias).unwrap();
                (activate(&input, &bias, skip, clamp).unwrap(), by_candle(&values, skip, kernel))
            };
            same(&flat(&ours), &flat(&theirs), &what);
            let slope = random(ours.dims(), 11);
            let ours = (ours * &slope).unwrap().sum_all().unwrap().backward().unwrap();
            let theirs = (theirs * &slope).unwrap().sum_all().unwrap().backward().unwrap();
            for (var, used) in [(&input, true), (&bias, true), (&gamma, with_norm), (&added, with_skip)] {
                assert_eq!(ours.get(var).is_some(), used, "{what}");
                if used {
                    same(&flat(ours.get(var).unwrap()), &flat(theirs.get(var).unwrap()), &what);
                }
            }
        }
    }

    #[test]
    fn overlapping_windows_add_their_gradients() {
        let input = Tensor::from_vec(vec![1f32, 3., 2., 0., 0., 0.], (1, 2, 3, 1), &Device::Cpu).unwrap();
        let input = Var::from_tensor(&input).unwrap();
        let bias = Var::from_vec(vec![0f32], 1, &Device::Cpu).unwrap();
        let clamp = Clamp { pool: Window { kernel: 2, ..POINT }, ceiling: 9.0, step: None };
        let output = activate(&input, &bias, None, clamp).unwrap();
        assert_eq!(flat(&output), [3.0, 3.0]);
        let grads = output.sum_all().unwrap().backward().unwrap();
        assert_eq!(flat(grads.get(&input).unwrap()), [0.0, 2.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(flat(grads.get(&bias).unwrap()), [2.0]);
    }

    #[test]
    fn rounding_is_passed_by_gradients() {
        let input = Var::from_vec(vec![-0.3f32, 0.1, 0.25, 0.74, 1.9, 2.1], (1, 1, 6, 1), &Device::Cpu).unwrap();
        let bias = Var::from_vec(vec![0f32], 1, &Device::Cpu).unwrap();
        let output = activate(&input, &bias, None, Clamp { pool: POINT, ceiling: 2.0, step: Some(0.5) }).unwrap();
        assert_eq!(flat(&output), [0.0, 0.0, 0.5, 0.5, 2.0, 2.0]);
        let grads = output.sum_all().unwrap().backward().unwrap();
        assert_eq!(flat(grads.get(&input).unwrap()), [0.0, 1.0, 1.0, 1.0, 1.0, 0.0]);
    }

    #[test]
    fn a_variance_beside_a_large_mean_is_found() {
        let input: Vec<f32> = (0..4096).map(|index| 1000.0 + (index % 2) as f32).collect();
        let input = Tensor::from_vec(input, (4, 32, 32, 1), &Device::Cpu).unwrap();
        let one = Tensor::ones(1, candle_core::DType::F32, &Device::Cpu).unwrap();
        let (_, statistics) =
            normalize_and_activate(&input, &one, &one, None, Clamp { pool: POINT, ceiling: 6.0, step: None }).unwrap();
        assert_eq!((statistics.mean[0], statistics.variance[0]), (1000.5, 0.25));
    }
}
