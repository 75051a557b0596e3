//! Dense and grouped convolutions and linear layers: products of bytes, summed in registers.
//!
//! A block is some pixels by some vectors of output channels, all of whose sums stay in registers. Each step reads four
//! neighbouring bytes of every pixel's window into all lanes and multiplies them by a vector of weights for each vector of
//! channels:
//!
//! ```text
//! for four bytes of the window:   weights w0 w1 w2 w3 (a vector of channels each)
//!     pixel 0: a = broadcast      sums[0][0] += a . w0    sums[0][1] += a . w1    …
//!     pixel 1: a = broadcast      sums[1][0] += a . w0    sums[1][1] += a . w1    …
//!     …
//! ```
//!
//! Where bytes are at most 127 and the processor has no product of four bytes, words go in pairs, whose products are added in
//! 16 bits before they are widened (5 instructions for eight bytes, not 6), as long as the positive and the negative products of
//! each half stay within 16 bits in every lane. Any two words may be a pair, since each finds its bytes by an offset of its own;
//! so the packer chooses those that fit, and exactness never depends on weights, only speed does.
//!
//! Groups of few output channels are joined, as many as fill a vector: see [`joined`].
//!
//! A run is as much of a window as lies side by side in memory: the channels of one pixel, or a row of the kernel where pixels
//! follow each other without a gap. Pixels are taken in chunks, which may go through several rows and images; every tile of
//! output channels is multiplied with a chunk while that is in the first-level cache. A 2x2 max-pool that follows takes the
//! maximum of sums: requantising keeps their order, as scales are positive.

use std::ops::Range;

use crate::aligned::Aligned;
use crate::layout::{Layout, View};
use crate::network::{Finish, Window};
use crate::operator::{Clamp, Room, Run, To, load};
use crate::simd::{Job, Simd};

/// Runs a block of code for every index below a constant, at most 12. Not a loop, which the compiler might not unroll: then sums
/// would lie in memory, and every product would be written there.
macro_rules! written_out {
    ($index:ident < 4 => $body:block) => {
        // Without larger numbers, which the compiler would refuse as indices of four.
        written_out!(@ $index, 4, $body, 0 1 2 3)
    };
    ($index:ident < $count:expr => $body:block) => {
        written_out!(@ $index, $count, $body, 0 1 2 3 4 5 6 7 8 9 10 11)
    };
    (@ $index:ident, $count:expr, $body:block, $($value:literal)*) => {
        $(if const { $value < $count } {
            const $index: usize = $value;
            $body
        })*
    };
}
pub(crate) use written_out;

/// Pixels in a chunk: whole blocks of 12, 8, 6, 4 and 2, and whole windows of a pool.
const CHUNK: usize = 96;

/// The integers of a convolution or linear layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sums<'a> {
    /// `(O, I / groups, rows, columns)`.
    pub(crate) weight: &'a [i8],
    pub(crate) bias: &'a [i32],
    /// Empty if the sums are the logits.
    pub(crate) scale: &'a [f32],
    pub(crate) groups: usize,
    /// Zero point and clamp; none if the results are logits.
    pub(crate) finish: Option<Finish>,
    /// The largest byte of the input.
    pub(crate) high: u8,
}

impl Sums<'_> {
    /// Whether bytes of the input may exceed 127.
    pub(crate) fn is_wide(&self) -> bool {
        self.high > 127
    }
}

/// A convolution or a linear layer, packed.
#[derive(Debug)]
pub(crate) struct Conv {
    tiles: Vec<Tile>,
    /// Words of four bytes in a window, and for each its first byte, from the window's. Tiles have orders of their own where
    /// words go in pairs.
    words: usize,
    offsets: Vec<u32>,
    /// Of every tile `[word][part][vector][lane]`, four weights a word (or two of them, if a word takes two parts).
    weights: Aligned,
    /// Of every tile a bias for every lane, then the bits of its scale.
    constants: Aligned,
    /// Windows, and pixels of the output after pooling.
    from: View,
    to: View,
    /// Of the output, after pooling.
    height: usize,
    width: usize,
    /// Whether each 2x2 outputs become their maximum.
    pooled: bool,
    wide: bool,
    finish: Option<Finish>,
    /// Output channels, and the scales of logits, if they have any.
    channels: usize,
    scales: Vec<f32>,
    /// Bytes that the buffer of the input must have.
    reach: usize,
}

/// Output channels whose sums fit into registers.
#[derive(Debug, Clone, Copy)]
struct Tile {
    /// The first channel.
    first: usize,
    /// Vectors: 1, 2 or 4.
    vectors: usize,
    /// Bytes that may be written: fewer than there are lanes where another group follows.
    count: usize,
    /// The byte of a pixel at which its input channels begin.
    input: usize,
    /// Where its weights begin, and its constants, in words; and its offsets.
    weights: usize,
    constants: usize,
    offsets: usize,
    /// How many pairs the first of its words make: see [`Simd::dot8`].
    pairs: usize,
}

/// Words are paired with one of so many, the largest with the smallest.
const CANDIDATES: usize = 24;
/// Windows of more words go without pairs: finding them takes more than linear time.
const MOST_PAIRED: usize = 4096;

/// Puts words into an order in which the first are pairs whose products of halves add up within 16 bits, in every lane, and
/// returns how many pairs these are. `parts` has for every word the positive and negative parts of all its halves.
fn pair(order: &mut Vec<usize>, parts: &[Vec<[i32; 2]>], high: u8) -> usize {
    let (most, least) = (32_767 / i32::from(high).max(1), 32_768 / i32::from(high).max(1));
    let largest = |word: usize| parts[word].iter().map(|[plus, minus]| plus.max(minus)).max().copied().unwrap_or(0);
    order.sort_by_cached_key(|word| largest(*word));
    let (mut pairs, mut singles) = (Vec::new(), Vec::new());
    while let Some(word) = order.pop() {
        let fits = |other: &usize| {
            let all = parts[word].iter().zip(&parts[*other]);
            all.into_iter().all(|([a, b], [c, d])| a + c <= most && b + d <= least)
        };
        match order.iter().take(CANDIDATES).position(fits) {
            Some(other) => pairs.extend([word, order.remove(other)]),
            None => singles.push(word),
        }
    }
    let count = pairs.len() / 2;
    order.extend(pairs.into_iter().chain(singles));
    count
}

/// What a sum needs beside its products, so that padding and offsets come out right: the bias of a channel less what its
/// weights make of zero points, modulo 2^32, where the sum itself lies within i32.
pub(crate) fn folded_bias(bias: i32, weight: &[i8], taps: usize, zero_points: &[u8], offset: i32) -> i32 {
    weight.chunks_exact(taps).zip(zero_points).fold(bias, |bias, (weight, zero_point)| {
        let sum: i32 = weight.iter().map(|weight| i32::from(*weight)).sum();
        bias.wrapping_sub(sum.wrapping_mul(i32::from(*zero_point) - offset))
    })
}

/// How many groups of so many inputs and outputs are computed as one: as many as take least time each. Inputs of the others have weights
/// of zero, which costs nothing where four bytes are multiplied, or a vector is finished, whether they are one group's or several'.
pub(crate) fn joined<S: Simd>(groups: usize, inputs: usize, outputs: usize, taps: usize) -> usize {
    // About how long a group takes, in hundredths of a product: beside the products, vectors are finished and tiles begun.
    let time = |joined: &usize| {
        let vectors = (joined * outputs).div_ceil(S::LANES);
        let products = vectors * (joined * inputs).div_ceil(4) * taps;
        100 * (products + 6 * vectors + 10 * vectors.div_ceil(4)) / joined
    };
    let most = (1..=groups.min(4 * S::LANES)).min_by_key(time).unwrap_or(1);
    groups.div_ceil(groups.div_ceil(most))
}

/// What [`Simd::dot4`] takes from bytes.
pub(crate) fn offset<S: Simd>(wide: bool) -> i32 {
    if wide && S::IS_SIGNED { 128 } else { 0 }
}

/// Vectors of weights for four bytes.
pub(crate) fn parts<S: Simd>(wide: bool) -> usize {
    if wide { S::WIDE_PARTS } else { 1 }
}

/// A word of part `part` of four weights.
pub(crate) fn weights_word(weights: [i8; 4], parts: usize, part: usize) -> i32 {
    if parts == 1 {
        return i32::from_ne_bytes(weights.map(|weight| weight as u8));
    }
    let [a, b] = [weights[part], weights[2 + part]].map(|weight| i16::from(weight).to_ne_bytes());
    i32::from_ne_bytes([a[0], a[1], b[0], b[1]])
}

impl Conv {
    /// Packs a layer that reads windows of `from` and writes to `to`, or logits if that is none; `images` is how many the
    /// buffers have. Outputs are pooled by 2x2 if `pooled`.
    pub(crate) fn new<S: Simd>(
        sums: &Sums<'_>,
        window: Window,
        from: &Layout,
        to: Option<(&Layout, View)>,
        images: usize,
        pooled: bool,
    ) -> Self {
        let Window { kernel: [rows, columns], stride, padding } = window;
        let channels = sums.bias.len();
        let (group_inputs, group_outputs) = (from.channels / sums.groups, channels / sums.groups);
        let taps = rows * columns;
        let joined = joined::<S>(sums.groups, group_inputs, group_outputs, taps);
        let (inputs, outputs) = (joined * group_inputs, joined * group_outputs);
        let height = (padding[0] + from.height + padding[2] - rows) / stride[0] + 1;
        let width = (padding[1] + from.width + padding[3] - columns) / stride[1] + 1;
        // As long as possible, since a run is rounded up to whole words.
        let merged = from.pitch == inputs;
        let (runs, length) = if merged { (1, columns * inputs) } else { (columns, inputs) };
        let words = length.div_ceil(4);
        let parts = parts::<S>(sums.is_wide());
        let windows = from.windows(padding, stride);
        // Where there are few pixels, sums of one pixel depend on each other: more vectors keep the processor busy.
        let most = if height * width * images <= 4 { 4 } else { S::VECTORS };
        // A block of a pool has a whole window.
        let most = if pooled && S::PIXELS[2] < 4 { 2 } else { most };
        let mut tiles = Vec::new();
        let (mut at, mut constant) = (0, 0);
        for group in 0..sums.groups.div_ceil(joined) {
            let end = channels.min((group + 1) * outputs);
            let mut first = group * outputs;
            while first < end {
                let vectors = match (end - first).div_ceil(S::LANES) {
                    4.. if most == 4 => 4,
                    2.. => 2,
                    _ => 1,
                };
                let input = group * inputs;
                // Lanes after a group's last channel fall into what is written later, or means nothing, if they do not
                // leave the pixel.
                let count = vectors * S::LANES;
                let leaves = to.is_some_and(|(layout, _)| first + count > layout.pitch);
                let count = if leaves { count.min(end - first) } else { count };
                let (weights, constants) = (at, constant);
                tiles.push(Tile { first, vectors, count, input, weights, constants, offsets: 0, pairs: 0 });
                at += rows * runs * words * parts * vectors * S::LANES;
                constant += 2 * vectors * S::LANES;
                first += vectors * S::LANES;
            }
        }
        let group_end = |tile: &Tile| channels.min((tile.first / outputs + 1) * outputs);
        let mut weights = Aligned::zeros(at * size_of::<i32>());
        let mut constants = Aligned::zeros(constant * size_of::<i32>());
        let all = rows * runs * words;
        let place = |word: usize| (word / words / runs, word / words % runs, word % words);
        let offset_of = |word: usize| {
            let (row, run, word) = place(word);
            (row * from.row() + run * from.pitch + 4 * word) as u32
        };
        // Of the bytes of a word the inputs, counted over the groups that are joined, and the taps: all channels have them alike, and
        // strangers' models have so many weights that nothing may be divided for each.
        let bytes_of = |word: usize| -> [(usize, usize); 4] {
            let (row, run, word) = place(word);
            std::array::from_fn(|j| {
                let byte = 4 * word + j;
                let (column, input) = if merged { (byte / inputs, byte % inputs) } else { (run, byte) };
                // What only fills a word is nobody's input.
                if byte < length { (input, row * columns + column) } else { (usize::MAX, 0) }
            })
        };
        // The first input of a channel's own group, and the channel's weights: for all others it has weights of 0.
        let own = |channel: usize| {
            let first = channel / group_outputs % joined * group_inputs;
            (first, &sums.weight[channel * group_inputs * taps..][..group_inputs * taps])
        };
        let four = |(first, weights): (usize, &[i8]), bytes: [(usize, usize); 4]| {
            bytes.map(|(input, tap)| match input.wrapping_sub(first) {
                input if input < group_inputs => weights[input * taps + tap],
                _ => 0,
            })
        };
        let mut offsets: Vec<u32> = Vec::new();
        for tile in &mut tiles {
            let lanes = tile.vectors * S::LANES;
            let channels: Vec<(usize, &[i8])> =
                (tile.first..(tile.first + lanes).min(group_end(tile))).map(own).collect();
            let mut order: Vec<usize> = (0..all).collect();
            if S::HAS_PAIRS && !sums.is_wide() && all <= MOST_PAIRED {
                let halves = |word: usize| {
                    let bytes = bytes_of(word);
                    let four = channels.iter().map(|channel| four(*channel, bytes).map(i32::from));
                    four.flat_map(|[a, b, c, d]| [[a, b], [c, d]])
                        .map(|[a, b]| [a.max(0) + b.max(0), (-a).max(0) + (-b).max(0)])
                        .collect()
                };
                let halves: Vec<Vec<[i32; 2]>> = order.iter().map(|word| halves(*word)).collect();
                tile.pairs = pair(&mut order, &halves, sums.high);
                tile.offsets = offsets.len();
            }
            if offsets.len() == tile.offsets {
                offsets.extend(order.iter().map(|word| offset_of(*word)));
            }
            let packed = weights.words_mut()[tile.weights..][..all * parts * lanes].chunks_exact_mut(parts * lanes);
            for (word, packed) in order.iter().zip(packed) {
                let bytes = bytes_of(*word);
                for (lane, channel) in channels.iter().enumerate() {
                    let four = four(*channel, bytes);
                    for part in 0..parts {
                        packed[part * lanes + lane] = weights_word(four, parts, part);
                    }
                }
            }
            let (bias, scale) = constants.words_mut()[tile.constants..][..2 * lanes].split_at_mut(lanes);
            for (lane, channel) in (tile.first..tile.first + channels.len()).enumerate() {
                let weight = &sums.weight[channel * group_inputs * taps..][..group_inputs * taps];
                let zero_points = &from.zero_points[channel / group_outputs * group_inputs..][..group_inputs];
                bias[lane] = folded_bias(sums.bias[channel], weight, taps, zero_points, offset::<S>(sums.is_wide()));
                if sums.finish.is_some() {
                    scale[lane] = sums.scale[channel].to_bits() as i32;
                }
            }
        }
        let pool = if pooled { 2 } else { 1 };
        let (height, width) = (height / pool, width / pool);
        let last = windows.at(images - 1, height * pool - 1, width * pool - 1);
        let input = tiles.iter().map(|tile| tile.input).max().unwrap_or_default();
        let reach = last + (rows - 1) * from.row() + (runs - 1) * from.pitch + input + 4 * words;
        let logits = View { first: 0, image: channels, row: 0, pixel: 0 };
        Self {
            tiles,
            words: all,
            offsets,
            weights,
            constants,
            from: windows,
            to: to.map_or(logits, |(_, view)| view),
            height,
            width,
            pooled,
            wide: sums.is_wide(),
            finish: sums.finish,
            channels,
            scales: if sums.finish.is_none() { sums.scale.to_vec() } else { Vec::new() },
            reach,
        }
    }

    /// Rows of the output of one image.
    pub(crate) fn height(&self) -> usize {
        self.height
    }

    /// Tiles of output channels.
    pub(crate) fn tiles(&self) -> usize {
        self.tiles.len()
    }

    /// The tiles that are about half of those of a single pixel, and where the others' channels begin.
    pub(crate) fn half(&self) -> Option<(usize, usize)> {
        let half = self.tiles.len().div_ceil(2);
        let tile = self.tiles.get(half)?;
        // Tiles of a group may write over the next one's channels, before those are written.
        (self.height * self.width == 1 && tile.input == 0).then_some((half, tile.first))
    }

    /// Vector products of one image, those of two parts counted once.
    pub(crate) fn products(&self) -> usize {
        let pixels = self.height * self.width * if self.pooled { 4 } else { 1 };
        pixels * self.words * self.tiles.iter().map(|tile| tile.vectors).sum::<usize>()
    }

    /// Whether bytes above 127 are multiplied.
    pub(crate) fn is_wide(&self) -> bool {
        self.wide
    }

    /// Room for the results of a chunk that are staged.
    pub(crate) fn room<S: Simd>(&self) -> Room {
        let is_staged = |tile: &Tile| tile.count < tile.vectors * S::LANES;
        let first = match self.finish {
            None => 4 * STAGE * CHUNK,
            Some(_) if self.tiles.iter().any(is_staged) => STAGE * CHUNK,
            Some(_) => 0,
        };
        Room { first, second: 0 }
    }

    /// What running a dense layer costs for one pixel, in instructions of the port that is short.
    pub(crate) fn cost<S: Simd>(from: &Layout, channels: usize, taps: usize, wide: bool) -> u64 {
        (from.channels.div_ceil(4) * taps * channels.div_ceil(S::LANES)) as u64 * S::DOT4[usize::from(wide)]
    }

    /// Memory, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let lists = self.tiles.len() * size_of::<Tile>() + 4 * (self.scales.len() + self.offsets.len());
        self.weights.len() + self.constants.len() + lists
    }
}

/// A convolution of some rows.
pub(crate) struct RunConv<'a> {
    pub(crate) layer: &'a Conv,
    /// Some of its tiles.
    pub(crate) tiles: Range<usize>,
    pub(crate) run: Run<'a>,
}

impl Job for RunConv<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if self.layer.wide && (S::WIDE_PARTS > 1 || S::IS_SIGNED) {
            self.chunks::<S, true>(simd);
        } else {
            self.chunks::<S, false>(simd);
        }
    }
}

/// Some pixels: where their windows begin, and where their results go, which are as many, or a quarter if they are pooled.
struct Chunk {
    from: [usize; CHUNK],
    to: [usize; CHUNK],
    pixels: usize,
    outputs: usize,
}

impl Conv {
    /// Fills a chunk with the pixels from column `x` of row `row` on, and returns those that follow.
    #[inline(always)]
    fn fill(&self, chunk: &mut Chunk, mut row: usize, mut x: usize, end: usize) -> (usize, usize) {
        let each = if self.pooled { 4 } else { 1 };
        chunk.outputs = 0;
        while row < end && chunk.outputs < CHUNK / each {
            let (image, y) = (row / self.height, row % self.height);
            let (first, count) = (chunk.outputs, (self.width - x).min(CHUNK / each - chunk.outputs));
            let to = self.to.at(image, y, x);
            for (i, place) in chunk.to[first..first + count].iter_mut().enumerate() {
                *place = to + i * self.to.pixel;
            }
            let from = &mut chunk.from[each * first..each * (first + count)];
            if self.pooled {
                let View { row, pixel, .. } = self.from;
                let window = self.from.at(image, 2 * y, 2 * x);
                for (i, four) in from.chunks_exact_mut(4).enumerate() {
                    let first = window + 2 * i * pixel;
                    four.copy_from_slice(&[first, first + pixel, first + row, first + row + pixel]);
                }
            } else {
                let window = self.from.at(image, y, x);
                for (i, place) in from.iter_mut().enumerate() {
                    *place = window + i * self.from.pixel;
                }
            }
            chunk.outputs += count;
            (row, x) = if x + count == self.width { (row + 1, 0) } else { (row, x + count) };
        }
        chunk.pixels = each * chunk.outputs;
        (row, x)
    }
}

impl RunConv<'_> {
    #[inline(always)]
    fn chunks<S: Simd, const WIDE: bool>(mut self, simd: S) {
        let (layer, rows) = (self.layer, self.run.rows.clone());
        let tiles = &layer.tiles[self.tiles.clone()];
        let (Some(last), false) = (tiles.last(), rows.is_empty()) else { return };
        let from = self.run.from[0];
        assert!(layer.reach <= from.len(), "windows end at {}, the buffer at {}", layer.reach, from.len());
        let first = layer.to.row(layer.height, rows.start) + tiles[0].first;
        let end = layer.to.row(layer.height, rows.end - 1) + (layer.width - 1) * layer.to.pixel;
        let end = end + last.first + last.count;
        let to = match layer.finish {
            Some(finish) => Destination::Activation(self.run.to.bytes(first, end), Clamp::new(simd, finish)),
            None => Destination::Logits,
        };
        let mut chunk = Chunk { from: [0; CHUNK], to: [0; CHUNK], pixels: 0, outputs: 0 };
        let (mut row, mut x) = (rows.start, 0);
        while row < rows.end {
            (row, x) = layer.fill(&mut chunk, row, x, rows.end);
            for tile in tiles {
                // SAFETY: windows end at `reach` or before, and results within what was just found writable.
                unsafe {
                    match tile.vectors {
                        4 => self.tile::<S, 4, WIDE>(simd, tile, &chunk, from.as_ptr(), &to),
                        2 => self.tile::<S, 2, WIDE>(simd, tile, &chunk, from.as_ptr(), &to),
                        _ => self.tile::<S, 1, WIDE>(simd, tile, &chunk, from.as_ptr(), &to),
                    }
                }
            }
        }
    }

    /// All pixels of a chunk for a tile, block by block. Results that are no whole vectors of an activation are staged: a block calls
    /// nothing, since around a call all sums would go through memory.
    ///
    /// # Safety
    /// Windows must be readable after `from`, and results writable.
    #[inline(always)]
    unsafe fn tile<S: Simd, const V: usize, const WIDE: bool>(
        &mut self,
        simd: S,
        tile: &Tile,
        chunk: &Chunk,
        from: *const u8,
        to: &Destination<S>,
    ) {
        let lanes = V * S::LANES;
        let staged = match to {
            Destination::Activation(..) if tile.count == lanes => std::ptr::null_mut(),
            Destination::Activation(..) => self.run.work.first.bytes_mut()[..STAGE * CHUNK].as_mut_ptr(),
            Destination::Logits => self.run.work.first.bytes_mut()[..4 * STAGE * CHUNK].as_mut_ptr(),
        };
        let results = match to {
            Destination::Activation(to, clamp) if staged.is_null() => {
                Results::Bytes { to: to.wrapping_add(tile.first), places: &chunk.to, clamp }
            }
            Destination::Activation(_, clamp) => Results::Bytes { to: staged, places: &STAGED, clamp },
            Destination::Logits => Results::Sums(staged.cast()),
        };
        let mut at = 0;
        // The largest blocks that registers hold, then smaller ones. A window of a pool, of 4 pixels, is never cut.
        macro_rules! blocks {
            ($($pixels:literal)*) => {{
                $(if const { $pixels <= S::PIXELS[V.trailing_zeros() as usize] } {
                    while chunk.pixels - at >= $pixels && !(self.layer.pooled && $pixels % 4 != 0) {
                        // SAFETY: as the caller promises; what is staged has room for a chunk.
                        unsafe { self.layer.block::<S, V, $pixels, WIDE>(simd, tile, chunk, at, from, &results) };
                        at += $pixels;
                    }
                })*
            }};
        }
        match V {
            4 => blocks!(6 4 2 1),
            2 => blocks!(8 6 4 2 1),
            _ => blocks!(12 4 1),
        }
        match to {
            Destination::Activation(to, _) if !staged.is_null() => {
                let staged = self.run.work.first.bytes();
                for (bytes, place) in staged.chunks_exact(STAGE).zip(&chunk.to[..chunk.outputs]) {
                    // SAFETY: as the caller promises.
                    unsafe { copy(&bytes[..tile.count], to.wrapping_add(tile.first + place)) };
                }
            }
            Destination::Activation(..) => {}
            Destination::Logits => {
                let To::Logits { logits, base } = &mut self.run.to else { panic!("logits are no activation") };
                let sums = self.run.work.first.words().chunks_exact(lanes);
                for (sums, place) in sums.zip(&chunk.to[..chunk.outputs]) {
                    self.layer.logits_of(tile.first, &mut logits[place + tile.first - *base..], sums);
                }
            }
        }
    }
}

impl Conv {
    /// `P` pixels by `V` vectors of channels.
    ///
    /// # Safety
    /// As for [`RunConv::tile`].
    #[inline(always)]
    unsafe fn block<S: Simd, const V: usize, const P: usize, const WIDE: bool>(
        &self,
        simd: S,
        tile: &Tile,
        chunk: &Chunk,
        at: usize,
        from: *const u8,
        results: &Results<'_, S>,
    ) {
        let constants = &self.constants.words()[tile.constants..][..2 * V * S::LANES];
        let mut bias = [simd.splat(0); V];
        for (vector, bias) in bias.iter_mut().enumerate() {
            *bias = load(simd, constants, vector * S::LANES);
        }
        let mut sums = [bias; P];
        let parts = parts::<S>(WIDE);
        let weights = self.weights.words()[tile.weights..][..self.words * parts * V * S::LANES].as_ptr();
        let offsets = &self.offsets[tile.offsets..][..self.words];
        let windows: &[usize; P] = chunk.from[at..][..P].try_into().expect("as many as asked for");
        let mut pixels = [from; P];
        for (pixel, window) in pixels.iter_mut().zip(windows) {
            *pixel = from.wrapping_add(tile.input + window);
        }
        // SAFETY: the windows are readable as the caller promises, and weights were just found to be as many as are read.
        unsafe {
            if const { S::READS_WEIGHTS } {
                sums_from_memory::<S, V, P, WIDE>(simd, &pixels, offsets, tile.pairs, weights, &mut sums);
            } else if const { P == 1 && V <= 2 } {
                sums_of_one::<S, V, WIDE>(simd, pixels[0], offsets, weights, &mut sums[0]);
            } else {
                sums_from_registers::<S, V, P, WIDE>(simd, &pixels, offsets, weights, &mut sums);
            }
        }
        let scales = &constants[V * S::LANES..];
        match results {
            // SAFETY: as the caller promises.
            Results::Bytes { to, places, clamp } => unsafe {
                self.put::<S, V, P>(simd, scales, places, at, &sums, *to, clamp);
            },
            Results::Sums(to) => {
                written_out!(PIXEL < P => {
                    for (vector, sum) in sums[PIXEL].into_iter().enumerate() {
                        // SAFETY: as before.
                        unsafe { simd.store(to.wrapping_add(((at + PIXEL) * V + vector) * S::LANES), sum) };
                    }
                });
            }
        }
    }

    /// Requantises and writes.
    ///
    /// # Safety
    /// As for [`RunConv::tile`].
    #[inline(always)]
    #[allow(clippy::too_many_arguments, clippy::needless_range_loop)]
    unsafe fn put<S: Simd, const V: usize, const P: usize>(
        &self,
        simd: S,
        scales: &[i32],
        places: &[usize; CHUNK],
        at: usize,
        sums: &[[S::Words; V]; P],
        to: *mut u8,
        clamp: &Clamp<S>,
    ) {
        let mut scale = [simd.splat(0); V];
        for (vector, scale) in scale.iter_mut().enumerate() {
            *scale = load(simd, scales, vector * S::LANES);
        }
        if self.pooled {
            written_out!(WINDOW < P / 4 => {
                let mut words = [simd.splat(0); V];
                for vector in 0..V {
                    let above = simd.max(sums[4 * WINDOW][vector], sums[4 * WINDOW + 1][vector]);
                    let below = simd.max(sums[4 * WINDOW + 2][vector], sums[4 * WINDOW + 3][vector]);
                    words[vector] = simd.requantise(simd.max(above, below), scale[vector]);
                }
                // SAFETY: as the caller promises.
                unsafe { store::<S, V, 1>(simd, [words], [to.wrapping_add(places[at / 4 + WINDOW])], clamp) };
            });
            return;
        }
        // As many pixels together as four vectors hold.
        macro_rules! store {
            ($together:literal) => {
                written_out!(FIRST < P / $together => {
                    let mut some = [[simd.splat(0); V]; $together];
                    let mut places_of = [to; $together];
                    for other in 0..$together {
                        for vector in 0..V {
                            some[other][vector] =
                                simd.requantise(sums[$together * FIRST + other][vector], scale[vector]);
                        }
                        places_of[other] = to.wrapping_add(places[at + $together * FIRST + other]);
                    }
                    // SAFETY: as the caller promises.
                    unsafe { store::<S, V, $together>(simd, some, places_of, clamp) };
                });
            };
        }
        if const { V == 1 && P.is_multiple_of(4) } {
            store!(4);
        } else if const { V == 2 && P.is_multiple_of(2) } {
            store!(2);
        } else {
            store!(1);
        }
    }

    /// Writes the logits from channel `first` on, as many as there are.
    #[inline(never)]
    fn logits_of(&self, first: usize, logits: &mut [i32], sums: &[i32]) {
        let count = (self.channels - first).min(sums.len());
        for (channel, (to, sum)) in logits[..count].iter_mut().zip(sums).enumerate() {
            *to = logit(*sum, self.scales.get(first + channel));
        }
    }
}

/// A logit: a sum, or what its scale makes of it.
pub(crate) fn logit(sum: i32, scale: Option<&f32>) -> i32 {
    scale.map_or(sum, |scale| (sum as f32 * scale).clamp(-LARGEST_LOGIT, LARGEST_LOGIT).round_ties_even() as i32)
}

/// Adds the products of all words, each weight read once for all pixels.
///
/// # Safety
/// Four bytes must be readable at every offset from every pixel, and a vector of weights for each product.
#[inline(always)]
unsafe fn sums_from_registers<S: Simd, const V: usize, const P: usize, const WIDE: bool>(
    simd: S,
    pixels: &[*const u8; P],
    offsets: &[u32],
    mut weights: *const i32,
    sums: &mut [[S::Words; V]; P],
) {
    let parts = parts::<S>(WIDE);
    for offset in offsets {
        let mut vectors = [[simd.splat(0); 2]; V];
        for (vector, two) in vectors.iter_mut().enumerate() {
            for (part, place) in two.iter_mut().enumerate().take(parts) {
                // SAFETY: as the caller promises.
                *place = unsafe { simd.load(weights.add((part * V + vector) * S::LANES)) };
            }
        }
        for (pixel, sums) in pixels.iter().zip(&mut *sums) {
            // SAFETY: as the caller promises.
            let bytes = simd.prepare::<WIDE>(unsafe { simd.broadcast(pixel.wrapping_add(*offset as usize)) });
            for (sum, weights) in sums.iter_mut().zip(&vectors) {
                *sum = simd.dot4::<WIDE>(*sum, bytes, *weights);
            }
        }
        weights = weights.wrapping_add(parts * V * S::LANES);
    }
}

/// The same for one pixel, whose few sums would wait for each other: words take turns with four of each, which are added at last.
///
/// # Safety
/// As for [`sums_from_registers`].
#[inline(always)]
unsafe fn sums_of_one<S: Simd, const V: usize, const WIDE: bool>(
    simd: S,
    pixel: *const u8,
    offsets: &[u32],
    weights: *const i32,
    sums: &mut [S::Words; V],
) {
    let size = parts::<S>(WIDE) * V * S::LANES;
    let mut four = [[[simd.splat(0); V]; 1]; 4];
    four[0] = [*sums];
    let (whole, last) = offsets.as_chunks::<4>();
    for (at, offsets) in whole.iter().enumerate() {
        for (turn, sums) in four.iter_mut().enumerate() {
            let weights = weights.wrapping_add((4 * at + turn) * size);
            // SAFETY: as the caller promises.
            unsafe { sums_from_registers::<S, V, 1, WIDE>(simd, &[pixel], &offsets[turn..=turn], weights, sums) };
        }
    }
    let weights = weights.wrapping_add(4 * whole.len() * size);
    // SAFETY: as the caller promises.
    unsafe { sums_from_registers::<S, V, 1, WIDE>(simd, &[pixel], last, weights, &mut four[0]) };
    for (vector, sum) in sums.iter_mut().enumerate() {
        let [[a], [b], [c], [d]] = four;
        *sum = simd.add(simd.add(a[vector], b[vector]), simd.add(c[vector], d[vector]));
    }
}

/// The same where there are too few registers for weights: every pixel has its own pointer to them, equal but not to the
/// compiler's knowledge, so that multiplications read them from memory. Words that go in pairs come first.
///
/// # Safety
/// As for [`sums_from_registers`].
#[inline(always)]
unsafe fn sums_from_memory<S: Simd, const V: usize, const P: usize, const WIDE: bool>(
    simd: S,
    pixels: &[*const u8; P],
    offsets: &[u32],
    pairs: usize,
    weights: *const i32,
    sums: &mut [[S::Words; V]; P],
) {
    let parts = parts::<S>(WIDE);
    let mut own = [weights; P];
    for own in &mut own {
        *own = simd.hide(*own);
    }
    let (pairs, singles) = offsets.split_at(if WIDE { 0 } else { 2 * pairs });
    for two in pairs.as_chunks::<2>().0 {
        for ((pixel, sums), own) in pixels.iter().zip(&mut *sums).zip(&mut own) {
            // SAFETY: as the caller promises.
            unsafe {
                let first = simd.broadcast(pixel.wrapping_add(two[0] as usize));
                let bytes = [first, simd.broadcast(pixel.wrapping_add(two[1] as usize))];
                for (vector, sum) in sums.iter_mut().enumerate() {
                    let weights = [simd.load(own.add(vector * S::LANES)), simd.load(own.add((V + vector) * S::LANES))];
                    *sum = simd.dot8(*sum, bytes, weights);
                }
            }
            *own = own.wrapping_add(2 * V * S::LANES);
        }
    }
    for offset in singles {
        for ((pixel, sums), own) in pixels.iter().zip(&mut *sums).zip(&mut own) {
            // SAFETY: as the caller promises.
            unsafe {
                let bytes = simd.prepare::<WIDE>(simd.broadcast(pixel.wrapping_add(*offset as usize)));
                for (vector, sum) in sums.iter_mut().enumerate() {
                    let first = simd.load(own.add(vector * S::LANES));
                    let second = if parts == 2 { simd.load(own.add((V + vector) * S::LANES)) } else { first };
                    *sum = simd.dot4::<WIDE>(*sum, bytes, [first, second]);
                }
            }
            *own = own.wrapping_add(parts * V * S::LANES);
        }
    }
}

/// Where a chunk's results go.
enum Destination<S: Simd> {
    /// The first byte of the whole buffer.
    Activation(*mut u8, Clamp<S>),
    Logits,
}

/// Where a block's results go.
enum Results<'a, S: Simd> {
    /// Of each output the tile's first channel.
    Bytes { to: *mut u8, places: &'a [usize; CHUNK], clamp: &'a Clamp<S> },
    /// One pixel's after the other.
    Sums(*mut i32),
}

/// Bytes of a staged output: those of the widest tile.
const STAGE: usize = 64;
/// Where staged outputs lie.
static STAGED: [usize; CHUNK] = {
    let mut places = [0; CHUNK];
    let mut i = 0;
    while i < CHUNK {
        places[i] = i * STAGE;
        i += 1;
    }
    places
};

/// Logits with a scale are clamped to this.
const LARGEST_LOGIT: f32 = 16_777_216.0;

/// Narrows the vectors of some pixels, which are 4 together or fewer, and writes them.
///
/// # Safety
/// `V` times as many bytes as a vector has words must be writable at each place.
#[inline(always)]
unsafe fn store<S: Simd, const V: usize, const N: usize>(
    simd: S,
    words: [[S::Words; V]; N],
    to: [*mut u8; N],
    clamp: &Clamp<S>,
) {
    let mut all = [simd.splat(0); 4];
    for (index, vector) in all.iter_mut().enumerate() {
        *vector = words[index / V % N][index % V];
    }
    let bytes = clamp.bytes(simd, all);
    let mut nowhere = [0u8; STAGE];
    let rest = nowhere.as_mut_ptr();
    // SAFETY: as the caller promises; a piece is at most 64 bytes.
    unsafe {
        match (V * N, N) {
            (4, _) => simd.store_pieces(to, bytes),
            (2, _) => simd.store_pieces([to[0], rest], bytes),
            _ => simd.store_pieces([to[0], rest, rest, rest], bytes),
        }
    }
}

/// Copies bytes.
///
/// # Safety
/// As many must be writable at `to`.
#[inline(always)]
unsafe fn copy(bytes: &[u8], to: *mut u8) {
    // SAFETY: as the caller promises; what is staged is not there.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
}
