//! The direct convolution: products of bytes, summed in registers.
//!
//! A block is some pixels by some vectors of output channels, all of whose sums stay in registers. Each step reads four
//! neighbouring bytes of every pixel's window into all lanes and multiplies them by a vector of weights for each vector of
//! channels:
//!
//! ```text
//! for run of the window, for four bytes of it:   weights w0 w1 (a vector of channels each)
//!     pixel 0: a = broadcast                     sums[0][0] += a . w0    sums[0][1] += a . w1
//!     pixel 1: a = broadcast                     sums[1][0] += a . w0    sums[1][1] += a . w1
//!     …
//! ```
//!
//! A run is as much of a window as lies side by side in memory: the channels of one pixel; where pixels follow each other
//! without a gap, a row of the kernel; for a linear layer the whole input. Where tails are laid out ([`Layout::tail`]), runs
//! end with their last whole word, and one word more has what is left of them. Pixels are found by tables of offsets made with
//! the plan, so that a block may take them from several rows and images, in the order in which a 2x2 max-pool wants them.

use std::ops::Range;

use crate::aligned::Aligned;
use crate::finish::{Finish, Skip, groups, store};
use crate::layout::Layout;
use crate::network::Sums;
use crate::simd::{Job, Simd};

/// As many pixels of a whole group of images, or fewer, are few: a layer that has one pixel an image.
const FEW_PIXELS: usize = 8;

/// A convolution or a linear layer, packed.
#[derive(Debug)]
pub(crate) struct Direct {
    finish: Finish,
    /// Output channels.
    channels: usize,
    /// Offsets of the runs from a window's first byte.
    runs: Vec<u32>,
    /// Words in a run.
    words: usize,
    /// `[group][run][word][vector][lane]`, then `[vector][lane]` of the tail if there are tails; four weights a word.
    weights: Aligned,
    /// Vectors of output channels in a block.
    vectors: usize,
    sites: Sites,
    /// Where the last window, or tail, of all sites ends: the bytes that the buffer must have.
    end: usize,
}

/// Where the windows of the output's pixels begin, and where their results go.
#[derive(Debug, Default)]
pub(crate) struct Sites {
    /// For each pixel its window's first byte.
    pub(crate) from: Vec<u32>,
    /// For each pixel its window's tail, if there are tails.
    pub(crate) tail: Vec<u32>,
    /// For each pixel, or four pixels if they are pooled, the output's first byte (or, of logits, the image).
    pub(crate) to: Vec<u32>,
    /// For each pixel the first byte of what is added, if anything is.
    pub(crate) skip: Vec<u32>,
    /// Whether each four pixels become their maximum.
    pub(crate) pooled: bool,
}

/// A window in terms of the layout it lies in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    /// Rows.
    pub(crate) height: usize,
    /// Columns.
    pub(crate) width: usize,
}

impl Direct {
    /// Packs a layer whose windows lie in `from`. Weights are `(O, I, window.height, window.width)`.
    pub(crate) fn new<S: Simd>(sums: &Sums<'_>, from: &Layout, window: Window, sites: Sites) -> Self {
        let finish = Finish::new(sums, S::LANES);
        let (channels, inputs) = (sums.bias.len(), from.channels);
        let taps = window.height * window.width;
        // As long as possible, since a run is rounded up to whole words.
        let per_run = if from.pitch > inputs {
            1
        } else if window.width < from.width + 2 * from.border {
            window.width
        } else {
            taps
        };
        let run = |index: usize| {
            let tap = index * per_run;
            (tap / window.width * from.row() + tap % window.width * from.pitch) as u32
        };
        let runs: Vec<u32> = (0..taps / per_run).map(run).collect();
        let has_tails = from.has_tails;
        assert!(!has_tails || (per_run, taps, inputs % 4) == (3, 9, 3), "windows of 3x3 in runs of a row");
        let words = if has_tails { per_run * inputs / 4 } else { (per_run * inputs).div_ceil(4) };
        let vectors = if sites.from.len() <= FEW_PIXELS { S::FEW_PIXELS_VECTORS } else { S::VECTORS };
        let weight = |channel: usize, byte: usize| {
            // HWC, as in memory.
            let (tap, input) = (byte / inputs, byte % inputs);
            sums.weight[(channel * inputs + input) * taps + tap]
        };
        let word = |channel: usize, run: usize, word: usize| {
            let mut bytes = [0; 4];
            for (j, byte) in bytes.iter_mut().enumerate() {
                // Of a tail, byte `j` is the last of run `j`.
                let (run, within) = if run < runs.len() { (run, word * 4 + j) } else { (j, per_run * inputs - 1) };
                if channel < channels && run < runs.len() && within < per_run * inputs {
                    *byte = weight(channel, run * per_run * inputs + within) as u8;
                }
            }
            i32::from_ne_bytes(bytes)
        };
        let total = finish.vectors();
        let steps = runs.len() * words + usize::from(has_tails);
        let packed = groups(total, vectors).flat_map(|(first, count)| {
            (0..steps).flat_map(move |step| {
                (first * S::LANES..(first + count) * S::LANES).map(move |channel| (channel, step / words, step % words))
            })
        });
        let packed = packed.map(|(channel, run, at)| word(channel, run, at));
        let weights = Aligned::collect(total * steps * S::LANES, packed);
        let reach = runs.last().map_or(0, |last| *last as usize) + 4 * words;
        let last = |offsets: &[u32], reach: usize| offsets.iter().max().map_or(0, |last| *last as usize + reach);
        let end = last(&sites.from, reach).max(last(&sites.tail, 4));
        Self { finish, channels, runs, words, weights, vectors, sites, end }
    }

    /// Vector products of so many pixels.
    pub(crate) fn work(&self, pixels: usize) -> usize {
        pixels * self.steps() * self.finish.vectors()
    }

    /// Vectors of weights for each vector of channels.
    fn steps(&self) -> usize {
        self.runs.len() * self.words + usize::from(!self.sites.tail.is_empty())
    }

    /// What running it costs for one pixel, in instructions of the port that is short.
    pub(crate) fn cost<S: Simd>(from: &Layout, channels: usize, taps: usize) -> u64 {
        let words = if from.has_tails { 9 * from.channels / 4 + 1 } else { from.channels.div_ceil(4) * taps };
        (words * channels.div_ceil(S::LANES)) as u64 * S::DOT4
    }
}

/// Where the results go.
pub(crate) enum To<'a> {
    /// Into the buffer of an activation.
    Activation(&'a mut [u8]),
    /// Into logits, `channels` an image.
    Logits(&'a mut [i32]),
}

/// A direct convolution of some pixels.
pub(crate) struct RunDirect<'a> {
    /// The layer.
    pub(crate) layer: &'a Direct,
    /// Pixels before pooling, of all images; pooled ones in whole windows.
    pub(crate) pixels: Range<usize>,
    /// The buffer of the layer's input.
    pub(crate) from: &'a [u8],
    /// The buffer of what is added, if anything is.
    pub(crate) skip: Option<Skip<'a>>,
    /// Where the results go.
    pub(crate) to: To<'a>,
    /// How far into its whole buffer `to` begins.
    pub(crate) base: usize,
}

impl Job for RunDirect<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let layer = self.layer;
        assert!(layer.end <= self.from.len(), "windows end at {}, the buffer at {}", layer.end, self.from.len());
        let depth = layer.steps() * S::LANES;
        for (first, count) in groups(layer.finish.vectors(), layer.vectors) {
            let weights = &layer.weights.words()[first * depth..][..count * depth];
            match count {
                4 => self.pixels::<S, 4>(simd, first, weights),
                2 => self.pixels::<S, 2>(simd, first, weights),
                _ => self.pixels::<S, 1>(simd, first, weights),
            }
        }
    }
}

/// Vectors of output channels that a block has.
struct Group<S: Simd, const V: usize> {
    /// The first of them.
    first: usize,
    bias: [S::Words; V],
    shift: [S::Words; V],
}

impl RunDirect<'_> {
    /// All pixels for `V` vectors of channels, in blocks of as many pixels as registers hold.
    #[inline(always)]
    fn pixels<S: Simd, const V: usize>(&mut self, simd: S, first: usize, weights: &[i32]) {
        let most = S::PIXELS * S::VECTORS / V;
        let finish = &self.layer.finish;
        let mut group = Group { first, bias: [simd.splat(0); V], shift: [simd.splat(0); V] };
        for vector in 0..V {
            group.bias[vector] = finish.bias(simd, first + vector);
            group.shift[vector] = finish.shift(simd, first + vector);
        }
        let Range { start: mut site, end } = self.pixels;
        while site < end {
            let left = end - site;
            if most >= 12 && left >= 12 {
                self.block::<S, V, 12>(simd, &group, weights, site);
                site += 12;
            } else if most >= 4 && left >= 4 {
                self.block::<S, V, 4>(simd, &group, weights, site);
                site += 4;
            } else {
                self.block::<S, V, 1>(simd, &group, weights, site);
                site += 1;
            }
        }
    }

    /// `P` pixels by `V` vectors of channels.
    #[inline(always)]
    fn block<S: Simd, const V: usize, const P: usize>(
        &mut self,
        simd: S,
        group: &Group<S, V>,
        weights: &[i32],
        site: usize,
    ) {
        let (layer, sites) = (self.layer, &self.layer.sites);
        let mut sums = [group.bias; P];
        let windows: &[u32; P] = sites.from[site..][..P].try_into().expect("as many as asked for");
        let from = self.from.as_ptr();
        let mut weights = weights.as_ptr();
        for run in &layer.runs {
            for word in 0..layer.words {
                // SAFETY: windows end at `Direct::end` or before, and `run` has found that within the buffer; there are
                // as many weights as steps, vectors and lanes, and each is read once.
                unsafe {
                    let from = from.add(*run as usize).add(4 * word);
                    step(simd, from, windows, weights, &mut sums);
                }
                weights = weights.wrapping_add(V * S::LANES);
            }
        }
        if !sites.tail.is_empty() {
            let tails: &[u32; P] = sites.tail[site..][..P].try_into().expect("as many as asked for");
            // SAFETY: as for windows; these are the last weights.
            unsafe { step(simd, from, tails, weights, &mut sums) };
        }
        self.finish(simd, group, site, sums);
    }

    #[inline(always)]
    fn finish<S: Simd, const V: usize, const P: usize>(
        &mut self,
        simd: S,
        group: &Group<S, V>,
        site: usize,
        mut sums: [[S::Words; V]; P],
    ) {
        let (finish, sites, first) = (&self.layer.finish, &self.layer.sites, group.first);
        if let Some(skip) = self.skip {
            for (pixel, sums) in sums.iter_mut().enumerate() {
                let at = sites.skip[site + pixel] as usize;
                for (vector, sum) in sums.iter_mut().enumerate() {
                    *sum = finish.add_skip(simd, first + vector, *sum, skip, at);
                }
            }
        }
        match &mut self.to {
            To::Activation(to) if sites.pooled => {
                for (window, [a, b, c, d]) in sums.as_chunks::<4>().0.iter().enumerate() {
                    let at = sites.to[site / 4 + window] as usize - self.base + first * S::LANES;
                    for (vector, shift) in group.shift.iter().enumerate() {
                        let above = simd.max(a[vector], b[vector]);
                        let below = simd.max(c[vector], d[vector]);
                        store(simd, simd.max(above, below), *shift, to, at + vector * S::LANES);
                    }
                }
            }
            To::Activation(to) => {
                for (pixel, sums) in sums.iter().enumerate() {
                    let at = sites.to[site + pixel] as usize - self.base + first * S::LANES;
                    for (vector, sum) in sums.iter().enumerate() {
                        store(simd, *sum, group.shift[vector], to, at + vector * S::LANES);
                    }
                }
            }
            To::Logits(to) => {
                for (pixel, sums) in sums.iter().enumerate() {
                    let image = sites.to[site + pixel] as usize;
                    let logits = &mut to[image * self.layer.channels..][..self.layer.channels];
                    for (vector, sum) in sums.iter().enumerate() {
                        store_some(simd, *sum, logits.get_mut((first + vector) * S::LANES..).unwrap_or_default());
                    }
                }
            }
        }
    }
}

/// Adds the products of four bytes of every window, which begin `windows` bytes after `from`, with a vector of weights for
/// each vector of channels.
///
/// # Safety
/// Four bytes must be readable there, and `V` vectors at `weights`.
#[inline(always)]
unsafe fn step<S: Simd, const V: usize, const P: usize>(
    simd: S,
    from: *const u8,
    windows: &[u32; P],
    weights: *const i32,
    sums: &mut [[S::Words; V]; P],
) {
    let mut row = [simd.splat(0); V];
    for (vector, row) in row.iter_mut().enumerate() {
        // SAFETY: as the caller promises.
        *row = unsafe { simd.load(weights.add(vector * S::LANES)) };
    }
    for (window, sums) in windows.iter().zip(sums) {
        // SAFETY: as the caller promises.
        let bytes = unsafe { simd.broadcast(from.add(*window as usize)) };
        for (sum, weights) in sums.iter_mut().zip(&row) {
            *sum = simd.dot4(*sum, bytes, *weights);
        }
    }
}

/// Writes as many words as there is room for.
#[inline(always)]
fn store_some<S: Simd>(simd: S, words: S::Words, to: &mut [i32]) {
    let mut all = [0; 16];
    assert!(S::LANES <= all.len(), "no vector is wider");
    // SAFETY: there is room for every word, as just asserted.
    unsafe { simd.store(all.as_mut_ptr(), words) };
    let count = to.len().min(S::LANES);
    to[..count].copy_from_slice(&all[..count]);
}
