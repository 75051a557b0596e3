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
//! Why that is exact. Inputs are in 0..=127, so `Bᵀ d` is within +-1016 and `Bᵀ d B` within +-10,160; weights are within
//! +-127, so `G g Gᵀ` is within +-49 * 127 = 6,223: both fit 16 bits. From there on everything is modulo 2^32, where sums
//! and products lose nothing that matters: the factor 9 is divided out by multiplying with its inverse, and what is left, the
//! sum that is wanted times `2^e` with `e <= 6`, is below `2^24 * 2^6 = 2^30` in magnitude by the proof of exactness, so it
//! is that number and not only congruent to it, and an arithmetic shift by `e` gives the sum.

use crate::aligned::Aligned;
use crate::finish::{Finish, Skip, groups, store};
use crate::layout::Layout;
use crate::network::Sums;
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

/// A 3x3 convolution of stride 1, packed.
#[derive(Debug)]
pub(crate) struct Winograd {
    finish: Finish,
    /// `[group][position][pair of input channels][vector][lane]`, two 16-bit weights a word.
    weights: Aligned,
    /// Bytes between rows, and between pixels, of the input.
    row: usize,
    pitch: usize,
    /// Input channels, in pairs.
    pairs: usize,
    /// Input channels, rounded up to whole vectors of halves.
    halves: usize,
    tiles: Vec<Tile>,
    /// Bytes between rows and pixels of the output, and of what is added.
    to: Steps,
    skip: Option<Steps>,
    pooled: bool,
}

/// Bytes between rows, and between pixels.
#[derive(Debug, Clone, Copy)]
struct Steps {
    row: usize,
    pixel: usize,
}

/// A tile of up to 4x4 outputs.
#[derive(Debug, Clone, Copy)]
struct Tile {
    image: u32,
    /// The first bytes of its inputs, of its outputs after pooling, and of what is added.
    from: u32,
    to: u32,
    skip: u32,
    /// Rows and columns of outputs that are wanted, before pooling.
    rows: u8,
    columns: u8,
}

/// Memory for transformed tiles.
#[derive(Debug, Default)]
pub(crate) struct Tiles {
    /// `[position][tile][channel]`.
    inputs: Vec<i16>,
    /// `[position][tile][vector][lane]` of one group of output channels.
    products: Vec<i32>,
}

impl Winograd {
    /// Packs a layer. `to` is where its outputs go, after pooling if they are pooled; `height` and `width` are those of the
    /// outputs before.
    pub(crate) fn new<S: Simd>(
        sums: &Sums<'_>,
        from: &Layout,
        to: &Layout,
        skip: Option<&Layout>,
        (height, width): (usize, usize),
        images: usize,
        pooled: bool,
    ) -> Self {
        let finish = Finish::new(sums, S::LANES);
        let (channels, inputs) = (sums.bias.len(), from.channels);
        let pairs = inputs.div_ceil(2);
        let weight = |channel: usize, input: usize, position: usize| {
            if channel >= channels || input >= inputs {
                return 0;
            }
            let kernel = &sums.weight[(channel * inputs + input) * 9..][..9];
            let (left, right) = (G[position / 6], G[position % 6]);
            let row = |y: usize| (0..3).map(|x| right[x] * i32::from(kernel[y * 3 + x])).sum::<i32>();
            (0..3).map(|y| left[y] * row(y)).sum::<i32>() as i16
        };
        let total = finish.vectors();
        let packed = groups(total, S::VECTORS).flat_map(|(first, count)| {
            (0..POSITIONS).flat_map(move |position| {
                (0..pairs).flat_map(move |pair| {
                    (first * S::LANES..(first + count) * S::LANES).map(move |channel| (channel, pair, position))
                })
            })
        });
        let packed = packed.map(|(channel, pair, position)| {
            let [a, b] = [2 * pair, 2 * pair + 1].map(|input| weight(channel, input, position).to_ne_bytes());
            i32::from_ne_bytes([a[0], a[1], b[0], b[1]])
        });
        let weights = Aligned::collect(total * POSITIONS * pairs * S::LANES, packed);
        let mut tiles = Vec::new();
        for image in 0..images {
            for row in (0..height).step_by(4) {
                for column in (0..width).step_by(4) {
                    let half = if pooled { 2 } else { 1 };
                    tiles.push(Tile {
                        image: image as u32,
                        from: from.bordered(image, row, column) as u32,
                        to: to.at(image, row / half, column / half) as u32,
                        skip: skip.map_or(0, |skip| skip.at(image, row, column) as u32),
                        rows: (height - row).min(4) as u8,
                        columns: (width - column).min(4) as u8,
                    });
                }
            }
        }
        Self {
            finish,
            weights,
            row: from.row(),
            pitch: from.pitch,
            pairs,
            halves: inputs.next_multiple_of(2 * S::LANES),
            tiles,
            to: Steps { row: to.row(), pixel: to.pitch },
            skip: skip.map(|skip| Steps { row: skip.row(), pixel: skip.pitch }),
            pooled,
        }
    }

    /// What running it costs for one tile, in instructions of the port that is short: the products, what begins and ends
    /// their sums, and the transforms. The last two are estimates, from counted instructions.
    pub(crate) fn cost<S: Simd>(inputs: usize, channels: usize) -> u64 {
        let (halves, vectors) = (inputs.div_ceil(2 * S::LANES) as u64, channels.div_ceil(S::LANES) as u64);
        let products = POSITIONS as u64 * (inputs.div_ceil(2) as u64 * S::DOT2 + 3);
        vectors * (products + 180) + halves * 180
    }

    /// Vector products of one image.
    pub(crate) fn work(&self) -> usize {
        let tiles = self.tiles.partition_point(|tile| tile.image == 0);
        tiles * POSITIONS * self.pairs * self.finish.vectors()
    }

    /// Tiles of one image.
    pub(crate) fn tiles(height: usize, width: usize) -> usize {
        height.div_ceil(4) * width.div_ceil(4)
    }

    /// The vectors of output channels that are about half of them and end with a group.
    pub(crate) fn half<S: Simd>(&self) -> usize {
        (self.finish.vectors() / 2).next_multiple_of(S::VECTORS).min(self.finish.vectors())
    }

    /// Tiles that are transformed together.
    fn chunk(&self) -> usize {
        (CHUNK_BYTES / (POSITIONS * self.halves * size_of::<i16>())).clamp(1, MAX_CHUNK)
    }

    /// The most memory that running it takes, in words of 32 bits.
    pub(crate) fn reserve<S: Simd>(&self, tiles: &mut Tiles) {
        let chunk = self.chunk().min(self.tiles.len());
        let inputs = POSITIONS * chunk * self.halves;
        let products = POSITIONS * chunk * S::VECTORS * S::LANES;
        if tiles.inputs.len() < inputs {
            tiles.inputs.resize(inputs, 0);
        }
        if tiles.products.len() < products {
            tiles.products.resize(products, 0);
        }
    }
}

/// Winograd's convolution of some images.
pub(crate) struct RunWinograd<'a> {
    /// The layer.
    pub(crate) layer: &'a Winograd,
    /// Images, from the first.
    pub(crate) images: usize,
    /// The buffer of the layer's input.
    pub(crate) from: &'a [u8],
    /// The buffer of what is added, if anything is.
    pub(crate) skip: Option<Skip<'a>>,
    /// The buffer of its output.
    pub(crate) to: &'a mut [u8],
    /// Memory for transformed tiles.
    pub(crate) tiles: &'a mut Tiles,
    /// Which output channels, in vectors: as many as [`Winograd::half`] says, or all others, or all.
    pub(crate) part: Part,
}

/// A part of a layer's output channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// All.
    All,
    /// The first half.
    First,
    /// The rest.
    Second,
}

impl Job for RunWinograd<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let layer = self.layer;
        let all = &layer.tiles[..layer.tiles.partition_point(|tile| (tile.image as usize) < self.images)];
        for tiles in all.chunks(layer.chunk()) {
            self.transform_inputs(simd, tiles);
            let depth = POSITIONS * layer.pairs * S::LANES;
            let half = layer.half::<S>();
            for (first, count) in groups(layer.finish.vectors(), S::VECTORS) {
                match self.part {
                    Part::First if first >= half => continue,
                    Part::Second if first < half => continue,
                    _ => {}
                }
                let weights = &layer.weights.words()[first * depth..][..count * depth];
                match count {
                    4 => self.group::<S, 4>(simd, tiles, first, weights),
                    2 => self.group::<S, 2>(simd, tiles, first, weights),
                    _ => self.group::<S, 1>(simd, tiles, first, weights),
                }
            }
        }
    }
}

impl RunWinograd<'_> {
    /// `Bᵀ d B` of every tile.
    #[inline(always)]
    fn transform_inputs<S: Simd>(&mut self, simd: S, tiles: &[Tile]) {
        let layer = self.layer;
        let width = 2 * S::LANES;
        for (index, tile) in tiles.iter().enumerate() {
            for channel in (0..layer.halves).step_by(width) {
                let first = tile.from as usize + channel;
                let last = first + 5 * (layer.row + layer.pitch);
                assert!(last + width <= self.from.len(), "a tile ends at {}", last + width);
                let from = self.from.as_ptr();
                let columns = each!(6, X => inputs(simd, each!(6, Y => {
                    // SAFETY: at most `last`, which was just found to be a vector before the buffer's end.
                    unsafe { simd.load_bytes_as_halves(from.add(first + Y * layer.row + X * layer.pitch)) }
                })));
                let stride = tiles.len() * layer.halves;
                let to = &mut self.tiles.inputs[index * layer.halves + channel..];
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
    #[inline(always)]
    fn group<S: Simd, const V: usize>(&mut self, simd: S, tiles: &[Tile], first: usize, weights: &[i32]) {
        let layer = self.layer;
        for (position, weights) in weights.chunks_exact(layer.pairs * V * S::LANES).enumerate() {
            let from = &self.tiles.inputs[position * tiles.len() * layer.halves..][..tiles.len() * layer.halves];
            let to = position * tiles.len() * V * S::LANES;
            let to = &mut self.tiles.products[to..][..tiles.len() * V * S::LANES];
            multiply::<S, V>(simd, tiles.len(), layer.halves, layer.pairs, from, weights, to);
        }
        for (index, tile) in tiles.iter().enumerate() {
            for vector in 0..V {
                let at = (index * V + vector) * S::LANES;
                let sums = outputs(simd, &self.tiles.products, at, tiles.len() * V * S::LANES);
                self.finish(simd, tile, first + vector, sums);
            }
        }
    }

    /// Bias, skip, pool, shift and clamp of a tile.
    #[inline(always)]
    fn finish<S: Simd>(&mut self, simd: S, tile: &Tile, vector: usize, sums: [[S::Words; 4]; 4]) {
        if (tile.rows, tile.columns) == (4, 4) {
            // Known sizes keep the sums in registers.
            self.finish_part(simd, tile, vector, sums, 4, 4);
        } else {
            self.finish_part(simd, tile, vector, sums, tile.rows.into(), tile.columns.into());
        }
    }

    #[inline(always)]
    fn finish_part<S: Simd>(
        &mut self,
        simd: S,
        tile: &Tile,
        vector: usize,
        mut sums: [[S::Words; 4]; 4],
        rows: usize,
        columns: usize,
    ) {
        let layer = self.layer;
        let bias = layer.finish.bias(simd, vector);
        if let (Some(skip), Some(steps)) = (self.skip, layer.skip) {
            for (y, sums) in sums.iter_mut().enumerate().take(rows) {
                for (x, sum) in sums.iter_mut().enumerate().take(columns) {
                    let at = tile.skip as usize + y * steps.row + x * steps.pixel;
                    *sum = layer.finish.add_skip(simd, vector, *sum, skip, at);
                }
            }
        }
        let shift = layer.finish.shift(simd, vector);
        let (first, step) = (tile.to as usize + vector * S::LANES, layer.to);
        if layer.pooled {
            for (y, two) in sums.as_chunks::<2>().0.iter().enumerate().take(rows / 2) {
                for x in 0..columns / 2 {
                    let above = simd.max(two[0][2 * x], two[0][2 * x + 1]);
                    let below = simd.max(two[1][2 * x], two[1][2 * x + 1]);
                    let sum = simd.add(simd.max(above, below), bias);
                    store(simd, sum, shift, self.to, first + y * step.row + x * step.pixel);
                }
            }
        } else {
            for (y, sums) in sums.iter().enumerate().take(rows) {
                for (x, sum) in sums.iter().enumerate().take(columns) {
                    store(simd, simd.add(*sum, bias), shift, self.to, first + y * step.row + x * step.pixel);
                }
            }
        }
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
    let most = S::PIXELS * S::VECTORS / V;
    let mut tile = 0;
    while tile < tiles {
        let left = tiles - tile;
        let (from, to) = (&from[tile * halves..], &mut to[tile * V * S::LANES..]);
        if most >= 12 && left >= 12 {
            block::<S, V, 12>(simd, halves, pairs, from, weights, to);
            tile += 12;
        } else if most >= 4 && left >= 4 {
            block::<S, V, 4>(simd, halves, pairs, from, weights, to);
            tile += 4;
        } else {
            block::<S, V, 1>(simd, halves, pairs, from, weights, to);
            tile += 1;
        }
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
