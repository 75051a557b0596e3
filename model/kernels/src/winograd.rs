//! Winograd's convolution F(4x4, 3x3) in integers: 36 products where the direct one needs 144, and the same sums.
//!
//! Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015), section 4.3: a tile of 4x4 outputs is
//! `Aᵀ[(G g Gᵀ) ∘ (Bᵀ d B)]A` of a kernel `g` and the 6x6 inputs `d`. Their `G` has fractions and their `A` large
//! numbers; here every row of `G` is multiplied by 24 and divided by what it then has in common (4 in rows 1, 2 and 5),
//! which goes into `A`, and every row of `A` is divided by what *it* has in common. So only small integers are left, and
//! output `(i, j)` of a tile comes out multiplied by `9 * 2^(EXPONENT[i] + EXPONENT[j])`:
//!
//! ```text
//! G =  6  0  0    Bᵀ = 4  0 -5  0  1  0    Aᵀ = 1  4  4  1  1  0    EXPONENT = 3
//!     -1 -1 -1         0 -4 -4  1  1  0         0  2 -2  1 -1  0                2
//!     -1  1 -1         0  4 -4 -1  1  0         0  1  1  1  1  0                1
//!      1  2  4         0 -2 -1  2  1  0         0  1 -1  2 -2  1                1
//!      1 -2  4         0  2 -1 -2  1  0
//!      0  0  6         0  4  0 -5  0  1
//! ```
//!
//! Why that is exact. Inputs are in 0..=255, so `Bᵀ d` is within +-2,040 and `Bᵀ d B` within +-20,400; weights are within
//! +-127, so `G g Gᵀ` is within +-49 * 127 = 6,223: both fit 16 bits. From there on everything is modulo 2^32, where sums
//! and products lose nothing that matters: the factor 9 is divided out by multiplying with its inverse, and what is left, the
//! sum of products that is wanted times `2^e` with `e <= 6`, is below `2^25 * 2^6 = 2^31` in magnitude ([`fits`] asks for
//! that), so it is that number and not only congruent to it, and an arithmetic shift by `e` gives the sum.

use crate::aligned::Aligned;
use crate::conv::{Sums, folded_bias};
use crate::layout::{Layout, View};
use crate::network::Finish;
use crate::operator::{Clamp, Room, Run, load};
use crate::simd::{Job, Simd};

/// A list of an expression for each of six or four constants. Written out, so that nothing goes through memory that need not;
/// macros and no closures, since a closure cannot be told to be inlined, and instructions are available only where it is.
macro_rules! each {
    (6, $i:ident => $value:expr) => {
        [each!(@0, $i => $value), each!(@1, $i => $value), each!(@2, $i => $value), each!(@3, $i => $value),
         each!(@4, $i => $value), each!(@5, $i => $value)]
    };
    (4, $i:ident => $value:expr) => {
        [each!(@0, $i => $value), each!(@1, $i => $value), each!(@2, $i => $value), each!(@3, $i => $value)]
    };
    (@$at:literal, $i:ident => $value:expr) => {{
        const $i: usize = $at;
        $value
    }};
}

/// Products in a tile.
const POSITIONS: usize = 36;
/// `G`, scaled.
const G: [[i32; 3]; 6] = [[6, 0, 0], [-1, -1, -1], [-1, 1, -1], [1, 2, 4], [1, -2, 4], [0, 0, 6]];
/// The inverse of 9 modulo 2^32.
const INVERSE_OF_9: i32 = 954_437_177;
/// Powers of two that rows and columns of a tile of outputs come out multiplied by.
const EXPONENT: [i32; 4] = [3, 2, 1, 1];
/// The bytes that transformed inputs may take before a chunk of tiles is multiplied: a part of a second-level cache.
const CHUNK_BYTES: usize = 160 << 10;
/// Most tiles in a chunk.
const MAX_CHUNK: usize = 96;
/// Vectors of output channels in a group.
const VECTORS: usize = 2;

/// A 3x3 convolution of stride 1, packed.
#[derive(Debug)]
pub(crate) struct Winograd {
    /// The first vector of output channels of every tile of them, and how many it has.
    groups: Vec<(usize, usize)>,
    /// `[group][position][pair of input channels][vector][lane]`, two 16-bit weights a word.
    weights: Aligned,
    /// A bias for every output channel, and then the bits of its scale.
    bias: Aligned,
    scale: Aligned,
    /// Windows, and bytes between rows and pixels of the input.
    from: View,
    /// Input channels, in pairs.
    pairs: usize,
    /// Input channels, rounded up to whole vectors of halves.
    halves: usize,
    to: View,
    /// Of the output, before pooling.
    height: usize,
    width: usize,
    pooled: bool,
    finish: Finish,
    images: usize,
    /// Bytes that the buffer of the input must have.
    reach: usize,
}

/// A tile of up to 4x4 outputs.
#[derive(Debug, Clone, Copy)]
struct Tile {
    image: usize,
    /// Of its first output, before pooling.
    row: usize,
    column: usize,
    /// Rows and columns of outputs that are wanted.
    rows: usize,
    columns: usize,
}

/// Whether sums of products are small enough: positive and negative parts of each channel's weights, times the largest byte.
pub(crate) fn fits(weight: &[i8], inputs: usize, high: u8) -> bool {
    weight.chunks_exact(inputs * 9).all(|weight| {
        let part = |sign: i64| weight.iter().map(|weight| (sign * i64::from(*weight)).max(0)).sum::<i64>();
        part(1).max(part(-1)) * i64::from(high) < 1 << 25
    })
}

/// The most output channels in a group.
const MAX_LANES: usize = 32;
/// One 16-bit number for each output channel of a group.
type Lanes = [i16; MAX_LANES];

/// Kernels of one input channel, one for each output channel of a group: its nine weights. A stranger's model has millions of them, so
/// all channels are transformed together, in what the compiler makes vectors of.
struct Taps([Lanes; 9]);

impl Taps {
    /// Of weights `[channel][input][9]`, for as many channels as there are; zeros beyond the last input.
    fn of(weight: &[i8], inputs: usize, input: usize) -> Self {
        let mut taps = [[0; MAX_LANES]; 9];
        if input < inputs {
            for (lane, weight) in weight.chunks_exact(inputs * 9).enumerate() {
                for (tap, weight) in taps.iter_mut().zip(&weight[input * 9..][..9]) {
                    tap[lane] = i16::from(*weight);
                }
            }
        }
        Self(taps)
    }

    /// `G g Gᵀ`, position by position.
    fn transformed(&self) -> [Lanes; POSITIONS] {
        // All are within 16 bits: see above.
        let sum = |by: [i32; 3], of: [&Lanes; 3]| -> Lanes {
            std::array::from_fn(|lane| (0..3).map(|at| by[at] as i16 * of[at][lane]).sum())
        };
        let rows: [[Lanes; 6]; 3] =
            std::array::from_fn(|y| G.map(|right| sum(right, std::array::from_fn(|x| &self.0[3 * y + x]))));
        std::array::from_fn(|at| sum(G[at / 6], std::array::from_fn(|y| &rows[y][at % 6])))
    }
}

impl Winograd {
    /// Packs a layer. `from` are its windows, and `height` and `width` those of the outputs before pooling.
    pub(crate) fn new<S: Simd>(
        sums: &Sums<'_>,
        finish: Finish,
        (layout, from): (&Layout, View),
        to: View,
        (height, width): (usize, usize),
        images: usize,
        pooled: bool,
    ) -> Self {
        let (channels, inputs) = (sums.bias.len(), layout.channels);
        let pairs = inputs.div_ceil(2);
        let total = channels.div_ceil(S::LANES);
        let full = total / VECTORS * VECTORS;
        let groups: Vec<(usize, usize)> = (0..full)
            .step_by(VECTORS)
            .map(|first| (first, VECTORS))
            .chain((full..total).map(|first| (first, 1)))
            .collect();
        let mut weights = Aligned::zeros(total * POSITIONS * pairs * S::LANES * size_of::<i32>());
        for (first, count) in &groups {
            let lanes = count * S::LANES;
            let group = &mut weights.words_mut()[first * S::LANES * POSITIONS * pairs..][..POSITIONS * pairs * lanes];
            let channel = first * S::LANES;
            let there = &sums.weight[channel * inputs * 9..][..lanes.min(channels - channel) * inputs * 9];
            for pair in 0..pairs {
                let [a, b] = [2 * pair, 2 * pair + 1].map(|input| Taps::of(there, inputs, input).transformed());
                for (position, (a, b)) in a.into_iter().zip(b).enumerate() {
                    let words = &mut group[(position * pairs + pair) * lanes..][..lanes];
                    for (word, (a, b)) in words.iter_mut().zip(a.into_iter().zip(b)) {
                        let ([a, b], [c, d]) = (a.to_ne_bytes(), b.to_ne_bytes());
                        *word = i32::from_ne_bytes([a, b, c, d]);
                    }
                }
            }
        }
        let per_channel = |of: &dyn Fn(usize) -> i32| {
            let words = (0..total * S::LANES).map(|channel| if channel < channels { of(channel) } else { 0 });
            Aligned::collect(total * S::LANES, words)
        };
        let bias = |channel: usize| {
            let weight = &sums.weight[channel * inputs * 9..][..inputs * 9];
            folded_bias(sums.bias[channel], weight, 9, &layout.zero_points, 0)
        };
        let halves = inputs.next_multiple_of(2 * S::LANES);
        // The last tile, and 6 rows and columns of inputs.
        let last = from.at(images - 1, (height - 1) / 4 * 4, (width - 1) / 4 * 4);
        Self {
            groups,
            weights,
            bias: per_channel(&bias),
            scale: per_channel(&|channel| sums.scale[channel].to_bits() as i32),
            from,
            pairs,
            halves,
            to,
            height,
            width,
            pooled,
            finish,
            images,
            reach: last + 5 * (from.row + from.pixel) + halves,
        }
    }

    /// What running it costs for one image, in instructions of the port that is short: the products, what begins and ends
    /// their sums, the transforms, and reading the weights if they do not stay in a second-level cache. All but the products
    /// are estimates, from counted instructions.
    pub(crate) fn cost<S: Simd>(inputs: usize, channels: usize, (height, width): (usize, usize), images: usize) -> u64 {
        let (halves, vectors) = (inputs.div_ceil(2 * S::LANES) as u64, channels.div_ceil(S::LANES) as u64);
        let products = POSITIONS as u64 * (inputs.div_ceil(2) as u64 * S::DOT2 + 3);
        let tiles = (height.div_ceil(4) * width.div_ceil(4)) as u64;
        let loads = POSITIONS as u64 * inputs.div_ceil(2) as u64 * vectors;
        let streamed = if loads * S::LANES as u64 * 4 > 1 << 20 { 4 * loads / images as u64 } else { 0 };
        tiles * (vectors * (products + 180) + halves * 180) + streamed
    }

    /// Rows of the output of one image, after pooling.
    pub(crate) fn height(&self) -> usize {
        if self.pooled { self.height / 2 } else { self.height }
    }

    /// Rows of the output, after pooling, in a row of tiles.
    pub(crate) fn unit(&self) -> usize {
        if self.pooled { 2 } else { 4 }
    }

    /// Vector products of one image.
    pub(crate) fn products(&self) -> usize {
        let vectors: usize = self.groups.iter().map(|(_, count)| count).sum();
        self.height.div_ceil(4) * self.width.div_ceil(4) * POSITIONS * self.pairs * vectors
    }

    /// Memory, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.weights.len() + self.bias.len() + self.scale.len()
    }

    /// Tiles that are transformed together.
    fn chunk(&self) -> usize {
        let all = self.images * self.height.div_ceil(4) * self.width.div_ceil(4);
        (CHUNK_BYTES / (POSITIONS * self.halves * size_of::<i16>())).clamp(1, MAX_CHUNK.min(all))
    }

    /// Room for transformed inputs, `[position][tile][channel]`, and for products of one group of output channels,
    /// `[position][tile][vector][lane]`.
    pub(crate) fn room<S: Simd>(&self) -> Room {
        let places = POSITIONS * self.chunk();
        let second = places * VECTORS * S::LANES * size_of::<i32>();
        Room { first: places * self.halves * size_of::<i16>(), second }
    }
}

/// Winograd's convolution of some rows, which begin with a row of tiles.
pub(crate) struct RunWinograd<'a> {
    pub(crate) layer: &'a Winograd,
    pub(crate) run: Run<'a>,
}

impl Job for RunWinograd<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let (layer, rows) = (self.layer, self.run.rows.clone());
        let (height, width) = (layer.height, layer.width);
        if rows.is_empty() {
            return;
        }
        let from = self.run.from[0];
        assert!(layer.reach <= from.len(), "tiles end at {}, the buffer at {}", layer.reach, from.len());
        let (pool, after) = (if layer.pooled { 2 } else { 1 }, layer.height());
        let last = layer.to.row(after, rows.end - 1) + width / pool * layer.to.pixel;
        let to = self.run.to.bytes(layer.to.row(after, rows.start), last);
        let clamp = Clamp::new(simd, layer.finish);
        let mut tiles = [Tile { image: 0, row: 0, column: 0, rows: 0, columns: 0 }; MAX_CHUNK];
        let (most, mut count) = (layer.chunk(), 0);
        let mut row = rows.start;
        while row < rows.end {
            let (image, y) = (row / after, row % after * pool);
            let size = (height - y).min((rows.end - row) * pool).min(4);
            for column in (0..width).step_by(4) {
                tiles[count] = Tile { image, row: y, column, rows: size, columns: (width - column).min(4) };
                count += 1;
                if count == most {
                    // SAFETY: tiles end at `reach` or before, and results within what was just found writable.
                    unsafe { self.chunk(simd, &tiles[..count], to, &clamp) };
                    count = 0;
                }
            }
            row += size / pool;
        }
        if count > 0 {
            // SAFETY: as before.
            unsafe { self.chunk(simd, &tiles[..count], to, &clamp) };
        }
    }
}

impl RunWinograd<'_> {
    /// # Safety
    /// Tiles must be readable, and outputs writable after `to`.
    #[inline(always)]
    unsafe fn chunk<S: Simd>(&mut self, simd: S, tiles: &[Tile], to: *mut u8, clamp: &Clamp<S>) {
        let layer = self.layer;
        self.transform_inputs(simd, tiles);
        let depth = POSITIONS * layer.pairs * S::LANES;
        for (first, count) in layer.groups.iter().copied() {
            let weights = &layer.weights.words()[first * depth..][..count * depth];
            // SAFETY: as the caller promises.
            unsafe {
                match count {
                    VECTORS => self.group::<S, VECTORS>(simd, tiles, first, weights, to, clamp),
                    _ => self.group::<S, 1>(simd, tiles, first, weights, to, clamp),
                }
            }
        }
    }

    /// `Bᵀ d B` of every tile.
    #[inline(always)]
    fn transform_inputs<S: Simd>(&mut self, simd: S, tiles: &[Tile]) {
        let layer = self.layer;
        let width = 2 * S::LANES;
        let from = self.run.from[0];
        let View { row, pixel, .. } = layer.from;
        for (index, tile) in tiles.iter().enumerate() {
            for channel in (0..layer.halves).step_by(width) {
                let first = layer.from.at(tile.image, tile.row, tile.column) + channel;
                let last = first + 5 * (row + pixel);
                assert!(last + width <= from.len(), "a tile ends at {}", last + width);
                let from = from.as_ptr();
                let columns = each!(6, X => inputs(simd, each!(6, Y => {
                    // SAFETY: at most `last`, which was just found to be a vector before the buffer's end.
                    unsafe { simd.load_bytes_as_halves(from.add(first + Y * row + X * pixel)) }
                })));
                let stride = tiles.len() * layer.halves;
                let to = &mut self.run.work.first.halves_mut()[index * layer.halves + channel..];
                assert!((POSITIONS - 1) * stride + width <= to.len(), "36 vectors of inputs");
                let to = to.as_mut_ptr();
                each!(6, Y => {
                    let row = inputs(simd, each!(6, X => columns[X][Y]));
                    each!(6, X => {
                        // SAFETY: position `6 * Y + X` is at most 35, whose vector was just found to end within the slice.
                        unsafe { simd.store_halves(to.add((6 * Y + X) * stride), row[X]) }
                    });
                });
            }
        }
    }

    /// The products of all tiles for `V` vectors of output channels, and what they make of them.
    ///
    /// # Safety
    /// As for [`RunWinograd::chunk`].
    #[inline(always)]
    unsafe fn group<S: Simd, const V: usize>(
        &mut self,
        simd: S,
        tiles: &[Tile],
        first: usize,
        weights: &[i32],
        to: *mut u8,
        clamp: &Clamp<S>,
    ) {
        let layer = self.layer;
        let work = &mut *self.run.work;
        for (position, weights) in weights.chunks_exact(layer.pairs * V * S::LANES).enumerate() {
            let from = &work.first.halves()[position * tiles.len() * layer.halves..][..tiles.len() * layer.halves];
            let to = position * tiles.len() * V * S::LANES;
            let to = &mut work.second.words_mut()[to..][..tiles.len() * V * S::LANES];
            multiply::<S, V>(simd, tiles.len(), layer.halves, layer.pairs, from, weights, to);
        }
        for (index, tile) in tiles.iter().enumerate() {
            for vector in 0..V {
                let at = (index * V + vector) * S::LANES;
                let sums = outputs(simd, work.second.words(), at, tiles.len() * V * S::LANES);
                // SAFETY: as the caller promises.
                unsafe { finish(simd, layer, tile, first + vector, sums, to, clamp) };
            }
        }
    }
}

/// Bias, pool, scale and clamp of a tile.
///
/// # Safety
/// As for [`RunWinograd::chunk`].
#[inline(always)]
unsafe fn finish<S: Simd>(
    simd: S,
    layer: &Winograd,
    tile: &Tile,
    vector: usize,
    mut sums: [[S::Words; 4]; 4],
    to: *mut u8,
    clamp: &Clamp<S>,
) {
    let bias = load(simd, layer.bias.words(), vector * S::LANES);
    let scale = load(simd, layer.scale.words(), vector * S::LANES);
    let pool = if layer.pooled { 2 } else { 1 };
    let to = to.wrapping_add(layer.to.at(tile.image, tile.row / pool, tile.column / pool) + vector * S::LANES);
    let (rows, columns) = (tile.rows / pool, tile.columns / pool);
    let place = |y: usize, x: usize| to.wrapping_add(y * layer.to.row + x * layer.to.pixel);
    // What is outside of the image goes nowhere.
    let mut nowhere = [0u8; 16];
    let nowhere = nowhere.as_mut_ptr();
    let place = |y: usize, x: usize| if y < rows && x < columns { place(y, x) } else { nowhere };
    if layer.pooled {
        let mut most = [simd.splat(0); 4];
        for (i, most) in most.iter_mut().enumerate() {
            let (y, x) = (i / 2 * 2, i % 2 * 2);
            let above = simd.max(sums[y][x], sums[y][x + 1]);
            let below = simd.max(sums[y + 1][x], sums[y + 1][x + 1]);
            *most = simd.requantise(simd.add(simd.max(above, below), bias), scale);
        }
        let to = [place(0, 0), place(0, 1), place(1, 0), place(1, 1)];
        // SAFETY: as the caller promises; a vector of words is at most 16 bytes.
        unsafe { simd.store_pieces::<4>(to, clamp.bytes(simd, most)) };
        return;
    }
    for (y, sums) in sums.iter_mut().enumerate().take(rows) {
        for sum in sums.iter_mut() {
            *sum = simd.requantise(simd.add(*sum, bias), scale);
        }
        let to = [place(y, 0), place(y, 1), place(y, 2), place(y, 3)];
        // SAFETY: as before.
        unsafe { simd.store_pieces::<4>(to, clamp.bytes(simd, *sums)) };
    }
}

/// `Bᵀ` times a column of halves.
#[inline(always)]
fn inputs<S: Simd>(simd: S, d: [S::Halves; 6]) -> [S::Halves; 6] {
    let even = simd.sub_halves(d[4], d[2]);
    let difference = simd.sub_halves(d[3], d[1]);
    let odd = simd.add_halves(difference, difference);
    let even4 = simd.sub_halves(d[4], simd.shl_halves::<2>(d[2]));
    let odd4 = simd.sub_halves(d[3], simd.shl_halves::<2>(d[1]));
    [
        simd.add_halves(simd.shl_halves::<2>(simd.sub_halves(d[0], d[2])), even),
        simd.add_halves(even4, odd4),
        simd.sub_halves(even4, odd4),
        simd.add_halves(even, odd),
        simd.sub_halves(even, odd),
        simd.sub_halves(simd.sub_halves(d[5], d[3]), simd.add_halves(odd, odd)),
    ]
}

/// `Aᵀ` times a column of words.
#[inline(always)]
fn rows<S: Simd>(simd: S, m: [S::Words; 6]) -> [S::Words; 4] {
    let (sum12, difference12) = (simd.add(m[1], m[2]), simd.sub(m[1], m[2]));
    let (sum34, difference34) = (simd.add(m[3], m[4]), simd.sub(m[3], m[4]));
    [
        simd.add(simd.add(m[0], sum34), simd.shl::<2>(sum12)),
        simd.add(simd.add(difference12, difference12), difference34),
        simd.add(sum12, sum34),
        simd.add(simd.add(difference12, m[5]), simd.add(difference34, difference34)),
    ]
}

/// The sums of a tile of 4x4 outputs from its products, which lie `stride` words apart.
#[inline(always)]
fn outputs<S: Simd>(simd: S, products: &[i32], first: usize, stride: usize) -> [[S::Words; 4]; 4] {
    assert!(first + (POSITIONS - 1) * stride + S::LANES <= products.len(), "36 vectors of products");
    let products = products[first..].as_ptr();
    let columns = each!(6, X => rows(simd, each!(6, Y => {
        // SAFETY: position `6 * Y + X` is at most 35, whose vector was just found to end within the slice.
        unsafe { simd.load(products.add((6 * Y + X) * stride)) }
    })));
    let inverse = simd.splat(INVERSE_OF_9);
    each!(4, Y => {
        let row = rows(simd, each!(6, X => columns[X][Y]));
        each!(4, X => simd.sar(simd.mul(row[X], inverse), simd.splat(EXPONENT[Y] + EXPONENT[X])))
    })
}

/// For one position: `to[tile][vector][lane] = Σ from[tile][pair] . weights[pair][vector][lane]`.
#[inline(always)]
fn multiply<S: Simd, const V: usize>(
    simd: S,
    tiles: usize,
    halves: usize,
    pairs: usize,
    from: &[i16],
    weights: &[i32],
    to: &mut [i32],
) {
    let most = S::PIXELS[usize::from(V > 1)].min(8);
    // Blocks of about one size: a single tile left over would take as long as several, as its sums wait for each other.
    let mut blocks = tiles.div_ceil(most);
    let mut tile = 0;
    while tile < tiles {
        let size = (tiles - tile).div_ceil(blocks);
        let (from, to) = (&from[tile * halves..], &mut to[tile * V * S::LANES..]);
        macro_rules! sizes {
            ($($size:literal)*) => {
                match size {
                    $($size if const { $size <= S::PIXELS[if V > 1 { 1 } else { 0 }] } => {
                        block::<S, V, $size>(simd, halves, pairs, from, weights, to);
                    })*
                    _ => unreachable!("{size} tiles in a block"),
                }
            };
        }
        sizes!(1 2 3 4 5 6 7 8);
        (tile, blocks) = (tile + size, blocks - 1);
    }
}

/// `T` tiles by `V` vectors, whose sums stay in registers: as a block of the direct convolution, with pairs of channels for
/// four bytes.
#[inline(always)]
fn block<S: Simd, const V: usize, const T: usize>(
    simd: S,
    halves: usize,
    pairs: usize,
    from: &[i16],
    weights: &[i32],
    to: &mut [i32],
) {
    assert!(2 * pairs <= halves && T * halves <= from.len(), "{T} tiles of {halves} channels");
    assert!(pairs * V * S::LANES <= weights.len() && T * V * S::LANES <= to.len(), "{T} tiles by {V} vectors");
    let mut sums = [[simd.splat(0); V]; T];
    for pair in 0..pairs {
        let mut row = [simd.splat(0); V];
        for (vector, row) in row.iter_mut().enumerate() {
            // SAFETY: `pair` is below `pairs` and `vector` below `V`, and that many weights were asserted.
            *row = unsafe { simd.load(weights.as_ptr().add((pair * V + vector) * S::LANES)) };
        }
        for (tile, sums) in sums.iter_mut().enumerate() {
            // SAFETY: `tile` is below `T` and `2 * pair + 1` below `halves`, and that many were asserted.
            let halves = unsafe { simd.broadcast(from.as_ptr().add(tile * halves + 2 * pair).cast()) };
            for (sum, weights) in sums.iter_mut().zip(&row) {
                *sum = simd.dot2(*sum, halves, *weights);
            }
        }
    }
    for (tile, sums) in sums.iter().enumerate() {
        for (vector, sum) in sums.iter().enumerate() {
            // SAFETY: `tile` is below `T` and `vector` below `V`, and room for that many vectors was asserted.
            unsafe { simd.store(to.as_mut_ptr().add((tile * V + vector) * S::LANES), *sum) };
        }
    }
}
