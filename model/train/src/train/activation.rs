//! What follows the products of a layer: bias or batch normalisation, what is added, maximum pool and clamp, in one pass over
//! memory, as these passes cost as much as the products otherwise.
//!
//! Batch normalisation is over the channels (S. Ioffe, C. Szegedy, "Batch Normalization", 2015, section 3); its shift
//! `beta` is the layer's bias.

use super::widest::widest;
use super::window::{Slide as _, Window};

/// What is added to variances, so that a channel that never changes is not divided by zero.
pub const EPSILON: f32 = 1e-5;

/// Instead of an origin, where the clamp took hold and no gradient passes.
const BLOCKED: u32 = u32::MAX;

/// How sums become activations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clamp {
    /// The maximum of each of these windows is taken; the window has no padding.
    pub pool: Window,
    /// What activations are clamped to, either of which may be infinite.
    pub low: f32,
    /// As `low`.
    pub high: f32,
    /// What activations are rounded to multiples of. Gradients pass as if they were not (Y. Bengio et al.,
    /// "Estimating or Propagating Gradients Through Stochastic Neurons", 2013, the straight-through estimator).
    pub step: Option<f32>,
}

/// The nearest multiple of a step.
#[inline(always)]
pub fn round(value: f32, step: f32) -> f32 {
    (value / step).round_ties_even() * step
}

/// Mean and variance (of the pictures, divided by the count) of every channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    pub mean: Vec<f32>,
    pub variance: Vec<f32>,
    /// How many numbers of a channel they are of.
    pub count: usize,
}

impl Statistics {
    /// Measures sums `(N, H, W, C)`, an image's numbers at a time.
    pub fn of(sums: &[f32], of_image: usize, channels: usize) -> Self {
        // A number of the pictures is subtracted first, so that the squares do not drown the variance.
        let pivot = &sums[..channels];
        let [mut totals, mut total_squares] = [vec![0f64; channels], vec![0f64; channels]];
        let [mut sum, mut squares] = [vec![0f32; channels], vec![0f32; channels]];
        widest!({
            for image in sums.chunks_exact(of_image) {
                for row in image.chunks_exact(channels) {
                    for (((sum, squares), value), pivot) in sum.iter_mut().zip(&mut squares).zip(row).zip(pivot) {
                        let value = value - pivot;
                        *sum += value;
                        *squares += value * value;
                    }
                }
                drain(&mut sum, &mut totals);
                drain(&mut squares, &mut total_squares);
            }
        });
        let count = sums.len() / channels;
        let mean = totals.iter().zip(pivot).map(|(sum, pivot)| pivot + (sum / count as f64) as f32);
        let variance = totals.iter().zip(&total_squares).map(|(sum, squares)| {
            let mean = sum / count as f64;
            (squares / count as f64 - mean * mean).max(0.0) as f32
        });
        Self { mean: mean.collect(), variance: variance.collect(), count }
    }

    fn inverse_deviations(&self) -> Vec<f32> {
        self.variance.iter().map(|variance| 1.0 / (variance + EPSILON).sqrt()).collect()
    }
}

/// Moves sums in f32 to totals in f64.
#[inline(always)]
fn drain(sums: &mut [f32], totals: &mut [f64]) {
    for (total, sum) in totals.iter_mut().zip(sums) {
        *total += f64::from(std::mem::take(sum));
    }
}

/// What a sum is multiplied by, and what is added then, for every channel.
#[derive(Debug, Clone)]
pub struct Affine {
    factor: Vec<f32>,
    offset: Vec<f32>,
}

impl Affine {
    /// Adds the bias.
    pub fn bias(bias: &[f32]) -> Self {
        Self { factor: vec![1.0; bias.len()], offset: bias.to_vec() }
    }

    /// Multiplies by a factor.
    pub fn factor(factor: f32, channels: usize) -> Self {
        Self { factor: vec![factor; channels], offset: vec![0.0; channels] }
    }

    /// Gives `gamma * (sum - mean) / sqrt(variance + epsilon) + bias`.
    pub fn normalization(statistics: &Statistics, gamma: &[f32], bias: &[f32]) -> Self {
        let inverse = statistics.inverse_deviations();
        let factor: Vec<f32> = gamma.iter().zip(inverse).map(|(gamma, inverse)| gamma * inverse).collect();
        let offset = bias.iter().zip(&statistics.mean).zip(&factor);
        let offset = offset.map(|((bias, mean), factor)| bias - mean * factor).collect();
        Self { factor, offset }
    }
}

/// Another activation that is added, and its factor for every channel.
#[derive(Debug, Clone, Copy)]
pub struct Added<'a> {
    /// Numbers in the order of the sums.
    pub values: &'a [f32],
    /// One for each channel.
    pub factor: &'a [f32],
}

/// What maxima are taken of.
#[derive(Debug, Clone, Copy)]
struct Sources<'a> {
    sums: &'a [f32],
    affine: &'a Affine,
    added: Option<Added<'a>>,
    /// The places of a window, from its corner.
    steps: &'a [usize],
}

/// How many channels are worked on at once: as many as fit the widest vectors that are common.
const LANES: usize = 8;

/// How the sums of images `(H, W, C)` become activations.
#[derive(Debug, Clone, Copy)]
pub struct Activation {
    /// Rows, columns and channels of the sums.
    pub image: [usize; 3],
    /// What becomes of them.
    pub clamp: Clamp,
}

impl Activation {
    /// Activations of an image.
    pub fn outputs(&self) -> usize {
        self.clamp.pool.outputs(self.image).iter().product::<usize>() * self.image[2]
    }

    /// Writes the activations, and which place of its window each came from.
    pub fn forward(
        &self,
        sums: &[f32],
        affine: &Affine,
        added: Option<Added>,
        activations: &mut [f32],
        origins: &mut [u32],
    ) {
        let channels = self.image[2];
        let steps = self.clamp.pool.steps(self.image);
        let sources = Sources { sums, affine, added, steps: &steps };
        widest!({
            let outputs = activations.chunks_exact_mut(channels).zip(origins.chunks_exact_mut(channels));
            for ((maxima, origins), corner) in outputs.zip(self.clamp.pool.corners(self.image)) {
                let whole = channels - channels % LANES;
                for channel in (0..whole).step_by(LANES) {
                    self.maxima::<LANES>(sources, corner, channel, maxima, origins);
                }
                for channel in whole..channels {
                    self.maxima::<1>(sources, corner, channel, maxima, origins);
                }
            }
        });
    }

    /// Writes what of the activations' gradient reaches the sums behind the affine map (and what is added): it goes to the first
    /// maximum of each window, and to nothing where the clamp took hold. Writes the gradient of the bias, too.
    pub fn backward(&self, origins: &[u32], slopes: &[f32], passed: &mut [f32], bias: &mut [f32]) {
        let channels = self.image[2];
        let steps = self.clamp.pool.steps(self.image);
        let of_image = self.outputs() / channels;
        let (mut sum, mut total) = (vec![0f32; channels], vec![0f64; channels]);
        widest!({
            passed.fill(0.0);
            let outputs = origins.chunks_exact(channels).zip(slopes.chunks_exact(channels));
            for (index, ((origins, slopes), corner)) in outputs.zip(self.clamp.pool.corners(self.image)).enumerate() {
                let whole = channels - channels % LANES;
                for channel in (0..whole).step_by(LANES) {
                    pass_back::<LANES>(origins, slopes, &steps, corner, channel, passed, &mut sum);
                }
                for channel in whole..channels {
                    pass_back::<1>(origins, slopes, &steps, corner, channel, passed, &mut sum);
                }
                if index % of_image == of_image - 1 {
                    drain(&mut sum, &mut total);
                }
            }
        });
        bias.iter_mut().zip(total).for_each(|(bias, total)| *bias = total as f32);
    }

    /// The maxima of some channels of the window at a corner.
    #[inline(always)]
    fn maxima<const L: usize>(
        &self,
        Sources { sums, affine, added, steps }: Sources,
        corner: usize,
        channel: usize,
        maxima: &mut [f32],
        origins: &mut [u32],
    ) {
        // Everything is read before anything is written, so that the compiler need not ask whether lists overlap, and nothing
        // is a branch: so all channels are worked on at once.
        let [factor, offset] = [&affine.factor, &affine.offset].map(|list| lanes::<f32, L>(list, channel));
        let (mut maximum, mut origin) = ([f32::NEG_INFINITY; L], [0u32; L]);
        for (index, step) in steps.iter().enumerate() {
            let place = corner + step + channel;
            let sums = lanes::<f32, L>(sums, place);
            let mut values: [f32; L] = std::array::from_fn(|lane| sums[lane] * factor[lane] + offset[lane]);
            if let Some(Added { values: added, factor }) = added {
                let (added, factor) = (lanes::<f32, L>(added, place), lanes::<f32, L>(factor, channel));
                (0..L).for_each(|lane| values[lane] += added[lane] * factor[lane]);
            }
            for lane in 0..L {
                let above = values[lane] > maximum[lane];
                maximum[lane] = if above { values[lane] } else { maximum[lane] };
                origin[lane] = if above { index as u32 } else { origin[lane] };
            }
        }
        for lane in 0..L {
            let passes = (maximum[lane] > self.clamp.low) & (maximum[lane] < self.clamp.high);
            origin[lane] = if passes { origin[lane] } else { BLOCKED };
            maximum[lane] = maximum[lane].clamp(self.clamp.low, self.clamp.high);
        }
        if let Some(step) = self.clamp.step {
            maximum = maximum.map(|maximum| round(maximum, step));
        }
        maxima[channel..][..L].copy_from_slice(&maximum);
        origins[channel..][..L].copy_from_slice(&origin);
    }
}

/// The gradient of some channels of the window at a corner, added to where it came from, and to its sum.
#[inline(always)]
fn pass_back<const L: usize>(
    origins: &[u32],
    slopes: &[f32],
    steps: &[usize],
    corner: usize,
    channel: usize,
    passed: &mut [f32],
    sum: &mut [f32],
) {
    let (origins, mut kept): ([u32; L], [f32; L]) = (lanes(origins, channel), lanes(slopes, channel));
    let mut sums = lanes::<f32, L>(sum, channel);
    for lane in 0..L {
        kept[lane] = if origins[lane] == BLOCKED { 0.0 } else { kept[lane] };
        sums[lane] += kept[lane];
    }
    sum[channel..][..L].copy_from_slice(&sums);
    for (index, step) in steps.iter().enumerate() {
        let passed = &mut passed[corner + step + channel..][..L];
        for lane in 0..L {
            passed[lane] += if origins[lane] == index as u32 { kept[lane] } else { 0.0 };
        }
    }
}

/// Some numbers of a list, from a place on.
#[inline(always)]
fn lanes<T: Copy, const L: usize>(list: &[T], place: usize) -> [T; L] {
    let numbers = &list[place..][..L];
    std::array::from_fn(|lane| numbers[lane])
}

impl Affine {
    /// Turns the gradient of normalised sums into that of the sums, through the statistics as well, and writes the gradient
    /// of gamma. `bias` is that of the bias.
    pub fn through_statistics(
        &self,
        statistics: &Statistics,
        sums: &[f32],
        bias: &[f32],
        passed: &mut [f32],
        gamma: &mut [f32],
    ) {
        let channels = self.factor.len();
        let inverse = statistics.inverse_deviations();
        let (mut sum, mut total) = (vec![0f32; channels], vec![0f64; channels]);
        widest!({
            for (sums, passed) in sums.chunks(channels * ROWS).zip(passed.chunks(channels * ROWS)) {
                for (sums, passed) in sums.chunks_exact(channels).zip(passed.chunks_exact(channels)) {
                    for (((sum, passed), value), mean) in sum.iter_mut().zip(passed).zip(sums).zip(&statistics.mean) {
                        *sum += passed * (value - mean);
                    }
                }
                drain(&mut sum, &mut total);
            }
        });
        for ((gamma, total), inverse) in gamma.iter_mut().zip(&total).zip(&inverse) {
            *gamma = *total as f32 * inverse;
        }
        let share = 1.0 / statistics.count as f32;
        // factor * (passed - (bias + normalised * gamma) / count), as one factor for each.
        let slope = (0..channels).map(|c| -self.factor[c] * inverse[c] * gamma[c] * share).collect::<Vec<f32>>();
        let constant = (0..channels).map(|c| -self.factor[c] * bias[c] * share - slope[c] * statistics.mean[c]);
        let constant: Vec<f32> = constant.collect();
        widest!({
            for (passed, sums) in passed.chunks_exact_mut(channels).zip(sums.chunks_exact(channels)) {
                let numbers = self.factor.iter().zip(&slope).zip(&constant);
                for ((passed, sum), ((factor, slope), constant)) in passed.iter_mut().zip(sums).zip(numbers) {
                    *passed = *passed * factor + sum * slope + constant;
                }
            }
        });
    }
}

/// How many numbers of a channel are added in f32 before the sum goes on in f64.
const ROWS: usize = 1024;

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::super::beside_candle::{close, random, var};
    use super::super::window::POINT;
    use super::*;

    /// How far sums in another order may be apart.
    const BOUND: f32 = 3e-5;

    /// The same with candle's operations, whose max-pool passes back a share of the gradient only, so that maxima along
    /// axes stand in for it.
    fn by_candle(values: &Tensor, kernel: usize) -> Tensor {
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
            let [images, height, width, channels] = size;
            let count = size.iter().product();
            let (sums, added) = (random(count, 7), random(count, 10));
            let [bias, gamma, of_skip] = [8, 9, 12].map(|seed| random(channels, seed));
            let clamp = Clamp { pool: Window::square(kernel, kernel, 0), low: 0.0, high: 0.6, step: None };
            let activation = Activation { image: [height, width, channels], clamp };
            let statistics = Statistics::of(&sums, count / images, channels);
            let affine =
                if with_norm { Affine::normalization(&statistics, &gamma, &bias) } else { Affine::bias(&bias) };
            let skip = with_skip.then_some(Added { values: &added, factor: &of_skip });
            let mut ours = vec![f32::NAN; images * activation.outputs()];
            let mut origins = vec![7; ours.len()];
            activation.forward(&sums, &affine, skip, &mut ours, &mut origins);

            let vars = [var(&sums, &size), var(&bias, &[channels]), var(&gamma, &[channels]), var(&added, &size)];
            let [input, of_bias, of_gamma, of_added] = &vars;
            let mut values = input.as_tensor().clone();
            if with_norm {
                let rows = input.flatten_to(2).unwrap();
                let mean = rows.mean_keepdim(0).unwrap();
                let centred = rows.broadcast_sub(&mean).unwrap();
                let variance = centred.sqr().unwrap().mean_keepdim(0).unwrap();
                close(&statistics.mean, &mean, BOUND, &what);
                close(&statistics.variance, &variance, BOUND, &what);
                let deviation = (&variance + f64::from(EPSILON)).unwrap().sqrt().unwrap();
                let normal = centred.broadcast_div(&deviation).unwrap().broadcast_mul(of_gamma).unwrap();
                values = normal.reshape(input.shape()).unwrap();
            }
            values = values.broadcast_add(of_bias).unwrap();
            if with_skip {
                let factor = Tensor::from_slice(&of_skip, channels, &Device::Cpu).unwrap();
                values = (values + of_added.broadcast_mul(&factor).unwrap()).unwrap();
            }
            let theirs = by_candle(&values, kernel);
            close(&ours, &theirs, BOUND, &what);

            let slopes = random(ours.len(), 11);
            let theirs = (theirs.flatten_all().unwrap() * var(&slopes, &[slopes.len()]).as_tensor()).unwrap();
            let grads = theirs.sum_all().unwrap().backward().unwrap();
            let [mut passed, mut bias_gradient] = [vec![f32::NAN; count], vec![f32::NAN; channels]];
            activation.backward(&origins, &slopes, &mut passed, &mut bias_gradient);
            close(&bias_gradient, grads.get(of_bias).unwrap(), BOUND, &what);
            if with_skip {
                let through = passed.iter().enumerate().map(|(place, passed)| passed * of_skip[place % channels]);
                close(&through.collect::<Vec<f32>>(), grads.get(of_added).unwrap(), BOUND, &what);
            }
            if with_norm {
                let mut gradient = vec![f32::NAN; channels];
                affine.through_statistics(&statistics, &sums, &bias_gradient, &mut passed, &mut gradient);
                close(&gradient, grads.get(of_gamma).unwrap(), BOUND, &what);
            }
            close(&passed, grads.get(input).unwrap(), BOUND, &what);
        }
    }

    /// Activations of a single channel, and what passes back of slopes of 1: to the sums, and to the bias.
    fn by_hand(sums: &[f32], image: [usize; 3], clamp: Clamp) -> (Vec<f32>, Vec<f32>, f32) {
        let activation = Activation { image, clamp };
        let mut activations = vec![0.0; activation.outputs()];
        let (mut origins, mut passed, mut bias) = (vec![0; activations.len()], vec![0.0; sums.len()], [0.0]);
        activation.forward(sums, &Affine::bias(&[0.0]), None, &mut activations, &mut origins);
        activation.backward(&origins, &vec![1.0; activations.len()], &mut passed, &mut bias);
        (activations, passed, bias[0])
    }

    #[test]
    fn overlapping_windows_add_their_gradients() {
        let clamp = Clamp { pool: Window::square(2, 1, 0), low: 0.0, high: 9.0, step: None };
        let (activations, passed, bias) = by_hand(&[1., 3., 2., 0., 0., 0.], [2, 3, 1], clamp);
        assert_eq!(activations, [3.0, 3.0]);
        assert_eq!((passed, bias), (vec![0.0, 2.0, 0.0, 0.0, 0.0, 0.0], 2.0));
    }

    #[test]
    fn rounding_is_passed_by_gradients() {
        let clamp = Clamp { pool: POINT, low: -1.0, high: 2.0, step: Some(0.5) };
        // Halves go to the even multiple.
        let (activations, passed, _) = by_hand(&[-1.3, -0.3, 0.25, 0.75, 1.9, 2.1], [1, 6, 1], clamp);
        assert_eq!(activations, [-1.0, -0.5, 0.0, 1.0, 2.0, 2.0]);
        assert_eq!(passed, [0.0, 1.0, 1.0, 1.0, 1.0, 0.0]);
    }

    #[test]
    fn a_variance_beside_a_large_mean_is_found() {
        let sums: Vec<f32> = (0..4096).map(|index| 1000.0 + (index % 2) as f32).collect();
        let statistics = Statistics::of(&sums, 1024, 1);
        assert_eq!((statistics.mean[0], statistics.variance[0], statistics.count), (1000.5, 0.25, 4096));
    }
}
