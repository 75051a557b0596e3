//! Layers whose output is one pixel of few channels, such as the logits of two classes: every sum by itself.
//!
//! In a block of convolution the lanes of a vector are output channels. With few of them most lanes would be idle, and most of the
//! weights that are read would be zeros: such a layer takes as long as its weights take to come from memory. Here lanes are inputs: a
//! vector of their bytes is multiplied by one of weights for each channel, and at last the lanes of each sum are added.

use crate::aligned::Aligned;
use crate::conv::{Sums, folded_bias, logit, offset, parts, weights_word};
use crate::layout::{Layout, View};
use crate::network::{Finish, Window};
use crate::operator::{Run, To};
use crate::simd::{Job, Simd};

/// The most channels.
const MOST: usize = 8;

/// Such a layer, packed.
#[derive(Debug)]
pub(crate) struct Dot {
    /// Of every run of bytes that lie side by side `[vector][channel][part][lane]`, four weights a word.
    weights: Aligned,
    runs: usize,
    /// Vectors of bytes in a run.
    vectors: usize,
    /// Bytes from one run to the next.
    row: usize,
    from: View,
    to: Option<View>,
    /// One for each channel.
    bias: Vec<i32>,
    scale: Vec<f32>,
    finish: Option<Finish>,
    wide: bool,
    /// Bytes that the buffer of the input must have.
    reach: usize,
}

impl Dot {
    /// Packs a layer of one output pixel; `None` if a block of convolution does it with fewer products.
    pub(crate) fn new<S: Simd>(
        sums: &Sums<'_>,
        window: Window,
        from: &Layout,
        to: Option<View>,
        images: usize,
    ) -> Option<Self> {
        let Window { kernel: [rows, columns], stride, padding } = window;
        let (channels, inputs, taps) = (sums.bias.len(), from.channels, rows * columns);
        // Rows without a gap between them are one.
        let (length, row) = (columns * from.pitch, from.row());
        let (runs, length) = if length == row { (1, rows * length) } else { (rows, length) };
        let vectors = length.div_ceil(4 * S::LANES);
        if channels > MOST || channels * vectors >= length.div_ceil(4) {
            return None;
        }
        let weight = |channel: usize, run: usize, byte: usize| {
            let (y, column) = (run + byte / row, byte % row);
            let (x, input) = (column / from.pitch, column % from.pitch);
            let is_one = byte < length && x < columns && input < inputs;
            if is_one { sums.weight[(channel * inputs + input) * taps + y * columns + x] } else { 0 }
        };
        let parts = parts::<S>(sums.is_wide());
        let mut weights = Aligned::zeros(runs * vectors * channels * parts * S::LANES * size_of::<i32>());
        let mut place = weights.words_mut().iter_mut();
        for (run, vector) in (0..runs).flat_map(|run| (0..vectors).map(move |vector| (run, vector))) {
            for (channel, part) in (0..channels).flat_map(|channel| (0..parts).map(move |part| (channel, part))) {
                for lane in 0..S::LANES {
                    let first = 4 * (vector * S::LANES + lane);
                    let four = std::array::from_fn(|i| weight(channel, run, first + i));
                    *place.next().expect("as many as counted") = weights_word(four, parts, part);
                }
            }
        }
        let bias = sums.bias.iter().zip(sums.weight.chunks_exact(inputs * taps));
        let bias =
            bias.map(|(bias, weight)| folded_bias(*bias, weight, taps, &from.zero_points, offset::<S>(sums.is_wide())));
        let windows = from.windows(padding, stride);
        let reach = windows.at(images - 1, 0, 0) + (runs - 1) * row + vectors * 4 * S::LANES;
        let (bias, scale) = (bias.collect(), sums.scale.to_vec());
        let (finish, wide) = (sums.finish, sums.is_wide());
        Some(Self { weights, runs, vectors, row, from: windows, to, bias, scale, finish, wide, reach })
    }

    /// Vector products of one image, those of two parts counted once.
    pub(crate) fn products(&self) -> usize {
        self.runs * self.vectors * self.bias.len()
    }

    /// Whether bytes above 127 are multiplied.
    pub(crate) fn is_wide(&self) -> bool {
        self.wide
    }

    /// Memory, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.weights.len() + 4 * (self.bias.len() + self.scale.len())
    }
}

/// The layer for some images.
pub(crate) struct RunDot<'a> {
    pub(crate) layer: &'a Dot,
    pub(crate) run: Run<'a>,
}

impl Job for RunDot<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if self.layer.wide && (S::WIDE_PARTS > 1 || S::IS_SIGNED) {
            self.images::<S, true>(simd);
        } else {
            self.images::<S, false>(simd);
        }
    }
}

impl RunDot<'_> {
    #[inline(always)]
    fn images<S: Simd, const WIDE: bool>(mut self, simd: S) {
        let (layer, from) = (self.layer, self.run.from[0]);
        assert!(layer.reach <= from.len(), "windows end at {}, the buffer at {}", layer.reach, from.len());
        for image in self.run.rows.clone() {
            let from = from[layer.from.at(image, 0, 0)..].as_ptr();
            let mut sums = [0; MOST];
            macro_rules! channels {
                ($($channels:literal)*) => {
                    match layer.bias.len() {
                        // SAFETY: `reach` is in the buffer, where the last run of the last image ends.
                        $($channels => unsafe { self.sums::<S, $channels, WIDE>(simd, from, &mut sums) },)*
                        channels => unreachable!("{channels} channels are not few"),
                    }
                };
            }
            channels!(1 2 3 4 5 6 7 8);
            self.finish(image, &sums[..layer.bias.len()]);
        }
    }

    /// # Safety
    /// All runs must be readable, in whole vectors.
    #[inline(always)]
    unsafe fn sums<S: Simd, const C: usize, const WIDE: bool>(&self, simd: S, from: *const u8, to: &mut [i32; MOST]) {
        let layer = self.layer;
        let parts = parts::<S>(WIDE);
        let mut sums = [simd.splat(0); C];
        let mut weights = layer.weights.words().chunks_exact(C * parts * S::LANES);
        for run in 0..layer.runs {
            for vector in 0..layer.vectors {
                let at = from.wrapping_add(run * layer.row + vector * 4 * S::LANES);
                // SAFETY: as the caller promises.
                let bytes = simd.prepare::<WIDE>(unsafe { simd.load(at.cast()) });
                let weights = weights.next().expect("as many as runs and vectors").as_ptr();
                for (channel, sum) in sums.iter_mut().enumerate() {
                    let mut both = [simd.splat(0); 2];
                    for (part, place) in both.iter_mut().enumerate().take(parts) {
                        // SAFETY: a chunk has as many words as channels, parts and lanes.
                        *place = unsafe { simd.load(weights.wrapping_add((channel * parts + part) * S::LANES)) };
                    }
                    *sum = simd.dot4::<WIDE>(*sum, bytes, both);
                }
            }
        }
        for ((sum, to), bias) in sums.into_iter().zip(to).zip(&layer.bias) {
            let mut lanes = [0i32; 16];
            assert!(S::LANES <= lanes.len(), "the widest vectors have 16 words");
            // SAFETY: a vector has at most as many words.
            unsafe { simd.store(lanes.as_mut_ptr(), sum) };
            *to = lanes.into_iter().fold(*bias, i32::wrapping_add);
        }
    }

    #[inline(never)]
    fn finish(&mut self, image: usize, sums: &[i32]) {
        let layer = self.layer;
        match (&mut self.run.to, layer.finish, layer.to) {
            (To::Logits { logits, base }, None, _) => {
                let first = image * sums.len() - *base;
                for (channel, (to, sum)) in logits[first..].iter_mut().zip(sums).enumerate() {
                    *to = logit(*sum, layer.scale.get(channel));
                }
            }
            (To::Activation { bytes, base }, Some(Finish { zero_point, low, high }), Some(to)) => {
                let first = to.at(image, 0, 0) - *base;
                for ((to, sum), scale) in bytes[first..].iter_mut().zip(sums).zip(&layer.scale) {
                    // The product is within +-2^30.
                    let value = (*sum as f32 * scale).round_ties_even() as i32 + i32::from(zero_point);
                    *to = value.clamp(low.into(), high.into()) as u8;
                }
            }
            _ => panic!("logits are no activation"),
        }
    }
}
