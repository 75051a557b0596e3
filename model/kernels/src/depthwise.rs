//! Depthwise convolutions: each channel by itself.
//!
//! A product of four bytes takes four rows of a column. So the rows that some rows of outputs read, at most eight, are
//! interleaved first: for every column and channel one or two words of four rows, which lie in the first-level cache and serve
//! all rows of outputs and all columns of kernels that meet them. A kernel of 3 rows makes two rows of outputs of four rows:
//!
//! ```text
//! word of a column:   r0 r1 r2 r3          three columns of words, for each of the two rows
//! weights of row 0:   w0 w1 w2 0           sums += word(x) . w(0) + word(x + 1) . w(1) + word(x + 2) . w(2)
//! weights of row 1:   0  w0 w1 w2
//! ```
//!
//! A block is a group of channels (four vectors of words, so as many bytes as a vector has) of some pixels of a row. Where
//! fewer channels are left, a row is cut into two or four pieces, and a group has a pixel of each; with four, those vectors are left out
//! that no channel is in. Registers with 32 of them: 8 sums,
//! 12 weights of a 3x3 kernel, the words; with 16: 4 sums, weights from memory. Sums lie in the order in which unpacking leaves
//! channels, which packing undoes.
//!
//! An image of few columns, or under a kernel of few rows, is turned, so that its rows are columns: only strides change by that.
//!
//! A kernel of more than eight rows or 16 columns is cut into bands of at most so many, whose sums are added in memory.

use crate::aligned::Aligned;
use crate::conv::{Sums, folded_bias, offset, parts, weights_word};
use crate::layout::{Layout, View};
use crate::network::{Finish, Window};
use crate::operator::{Clamp, Room, Run, Work, load};
use crate::simd::{Job, Simd};

/// Rows of a band, at most.
const MOST: usize = 8;
/// Columns of a band, at most.
const MOST_COLUMNS: usize = 16;
/// Images of fewer columns are turned, if they have more rows: columns go together, in pieces of a vector and in a strip.
const NARROW: usize = 4;
/// Groups of pixels in a strip, whose words are kept together.
const STRIP: usize = 28;

/// A depthwise convolution, packed.
#[derive(Debug)]
pub(crate) struct Depthwise {
    groups: Vec<Group>,
    bands: Vec<Band>,
    /// Rows and columns of the kernel.
    kernel: [usize; 2],
    /// Columns between windows.
    stride: usize,
    /// Rows of outputs that are made together, and the words of a column that they read.
    together: usize,
    words: usize,
    /// Of every group, of every band `[row of outputs][word][column][part][vector][lane]`.
    weights: Aligned,
    /// Of every group the bias of four vectors, then their scales.
    constants: Aligned,
    from: View,
    /// Bytes between rows and pixels of the input.
    row: usize,
    pixel: usize,
    to: View,
    /// Whether rows are columns and columns are rows here, in all of this.
    is_turned: bool,
    height: usize,
    width: usize,
    channels: usize,
    finish: Finish,
    wide: bool,
    reach: usize,
}

/// A part of the kernel.
#[derive(Debug, Clone, Copy)]
struct Band {
    /// Where it begins.
    row: usize,
    column: usize,
    /// Words of four rows, and columns.
    words: usize,
    columns: usize,
    /// Where its weights begin, in words, for parts of one.
    weights: usize,
}

/// Channels that go into a vector of bytes, of one pixel or of some.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group {
    /// The first channel.
    pub(crate) first: usize,
    /// Pixels: 1, 2 or 4.
    pub(crate) pieces: usize,
}

/// The groups of pixels of so many bytes, whole parts.
pub(crate) fn groups<S: Simd>(pitch: usize) -> Vec<Group> {
    let mut groups = Vec::new();
    let mut first = 0;
    while first < pitch {
        let left = (pitch - first) / 16;
        let pieces = match (S::LANES / 4, left) {
            (4, 4..) | (2, 2..) | (1, _) => 1,
            (4, 2..) | (2, _) => 2,
            _ => 4,
        };
        groups.push(Group { first, pieces });
        first += 4 * S::LANES / pieces;
    }
    groups
}

impl Depthwise {
    /// Packs a layer with as many groups as channels.
    pub(crate) fn new<S: Simd>(
        sums: &Sums<'_>,
        finish: Finish,
        window: Window,
        from: &Layout,
        to: (&Layout, View),
        images: usize,
    ) -> Self {
        let Window { kernel, stride, padding } = window;
        let size = [0, 1].map(|way| {
            let from = [from.height, from.width][way];
            (padding[way] + from + padding[way + 2] - kernel[way]) / stride[way] + 1
        });
        let windows = from.windows(padding, stride);
        let (mut read, mut written) = (View { row: from.row(), pixel: from.pitch, ..windows }, to.1);
        // Words are of four rows, so that a kernel of a row is worth turning.
        let words = |ways: [usize; 2]| ways[0].div_ceil(4) * ways[1];
        let is_flat = 2 * words([kernel[1], kernel[0]]) <= words(kernel) && size[0] >= NARROW;
        let is_turned = is_flat || size[1] < NARROW && size[0] > size[1];
        let turned = |ways: [usize; 2]| if is_turned { [ways[1], ways[0]] } else { ways };
        let ([rows, columns], stride, [height, width]) = (turned(kernel), turned(stride), turned(size));
        for view in [&mut read, &mut written] {
            [view.row, view.pixel] = turned([view.row, view.pixel]);
        }
        let kernel = [rows, columns];
        let words = rows.div_ceil(4);
        let is_small = rows <= MOST && columns <= MOST_COLUMNS;
        let together = if is_small { (4 * words - rows) / stride[0] + 1 } else { 1 };
        let mut bands: Vec<Band> = Vec::new();
        for (row, column) in
            starts(rows, MOST).flat_map(|row| starts(columns, MOST_COLUMNS).map(move |column| (row, column)))
        {
            let (words, columns) = ((rows - row).min(MOST).div_ceil(4), (columns - column).min(MOST_COLUMNS));
            let weights =
                bands.last().map_or(0, |last| last.weights + together * last.words * last.columns * 4 * S::LANES);
            bands.push(Band { row, column, words, columns, weights });
        }
        let (channels, pitch) = (sums.bias.len(), to.0.pitch);
        let groups = groups::<S>(pitch);
        // The channel of a lane: see [`Simd::interleave`].
        let channel = |group: &Group, vector: usize, lane: usize| {
            group.first + (16 * (lane / 4) + 4 * vector + lane % 4) % (4 * S::LANES / group.pieces)
        };
        let parts = parts::<S>(sums.is_wide());
        let lanes = 4 * S::LANES;
        let size = together * words * columns * parts * lanes;
        let mut weights = Aligned::zeros(groups.len() * size * size_of::<i32>());
        let mut constants = Aligned::zeros(groups.len() * 2 * lanes * size_of::<i32>());
        for (index, group) in groups.iter().enumerate() {
            let mut place = weights.words_mut()[index * size..].iter_mut();
            for (band, row) in bands.iter().flat_map(|band| (0..together).map(move |row| (band, row))) {
                for (word, column, part) in places(band.words, band.columns, parts) {
                    for (vector, lane) in (0..4).flat_map(|v| (0..S::LANES).map(move |lane| (v, lane))) {
                        let channel = channel(group, vector, lane);
                        let four = std::array::from_fn(|i| {
                            // Input row `4 * word + i` is row `y` of the window of output row `row`.
                            match (band.row + 4 * word + i).checked_sub(row * stride[0]) {
                                Some(y) if y < rows && channel < channels => {
                                    let [y, x] = turned([y, band.column + column]);
                                    sums.weight[channel * rows * columns + y * window.kernel[1] + x]
                                }
                                _ => 0,
                            }
                        });
                        *place.next().expect("as many as counted") = weights_word(four, parts, part);
                    }
                }
            }
            let constants = &mut constants.words_mut()[index * 2 * lanes..][..2 * lanes];
            for at in 0..lanes {
                let channel = channel(group, at / S::LANES, at % S::LANES);
                if channel < channels {
                    let weight = &sums.weight[channel * rows * columns..][..rows * columns];
                    let zero_point = &from.zero_points[channel..=channel];
                    let offset = offset::<S>(sums.is_wide());
                    constants[at] = folded_bias(sums.bias[channel], weight, weight.len(), zero_point, offset);
                    constants[lanes + at] = sums.scale[channel].to_bits() as i32;
                }
            }
        }
        let windows = View { row: stride[0] * read.row, pixel: stride[1] * read.pixel, ..windows };
        let last = windows.at(images - 1, height - 1, width - 1);
        let reach = last + (rows - 1) * read.row + (columns - 1) * read.pixel + pitch;
        Self {
            groups,
            bands,
            kernel,
            stride: stride[1],
            together,
            words,
            weights,
            constants,
            from: windows,
            row: read.row,
            pixel: read.pixel,
            to: written,
            is_turned,
            height,
            width,
            channels,
            finish,
            wide: sums.is_wide(),
            reach,
        }
    }

    /// Rows of the output of one image.
    pub(crate) fn height(&self) -> usize {
        self.height
    }

    /// Vector products of one image, those of two parts counted once.
    pub(crate) fn products(&self) -> usize {
        let vectors: usize = self.groups.iter().map(|group| 4 * self.width.div_ceil(group.pieces)).sum();
        self.height * self.words * self.kernel[1] * vectors
    }

    /// Whether bytes above 127 are multiplied.
    pub(crate) fn is_wide(&self) -> bool {
        self.wide
    }

    /// Memory, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.weights.len() + self.constants.len() + self.groups.len() * size_of::<Group>()
    }

    /// Whether its rows are the image's columns.
    pub(crate) fn is_turned(&self) -> bool {
        self.is_turned
    }

    /// The rows that are made together.
    pub(crate) fn unit(&self) -> usize {
        self.together
    }

    /// Room for the words of a strip.
    pub(crate) fn room<S: Simd>(&self) -> Room {
        let columns = self.kernel[1].min(MOST_COLUMNS);
        let slots = (STRIP - 1) * self.stride.min(columns) + columns;
        let vector = 4 * S::LANES;
        let second = if self.bands.len() > 1 { STRIP * 4 * vector } else { 0 };
        Room { first: slots * self.words.min(MOST / 4) * 4 * vector, second }
    }
}

fn starts(size: usize, step: usize) -> impl Iterator<Item = usize> {
    (0..size).step_by(step)
}

fn places(words: usize, columns: usize, parts: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..words)
        .flat_map(move |word| (0..columns).flat_map(move |column| (0..parts).map(move |part| (word, column, part))))
}

/// A depthwise convolution of some rows.
pub(crate) struct RunDepthwise<'a> {
    pub(crate) layer: &'a Depthwise,
    pub(crate) run: Run<'a>,
}

impl Job for RunDepthwise<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if self.layer.wide && (S::WIDE_PARTS > 1 || S::IS_SIGNED) {
            self.rows::<S, true>(simd);
        } else {
            self.rows::<S, false>(simd);
        }
    }
}

/// Some rows of outputs of a group.
struct Rows<'a> {
    layer: &'a Depthwise,
    weights: &'a [i32],
    constants: &'a [i32],
    /// Where the group's channels of the first window begin.
    from: *const u8,
    /// The last row from there that a window has: it stands for those after it.
    last: usize,
    /// Vectors of words that have channels.
    vectors: usize,
    /// The first output of the first row.
    to: *mut u8,
    /// How many rows of outputs are wanted.
    count: usize,
}

impl RunDepthwise<'_> {
    #[inline(always)]
    fn rows<S: Simd, const WIDE: bool>(mut self, simd: S) {
        let (layer, rows) = (self.layer, self.run.rows.clone());
        if rows.is_empty() {
            return;
        }
        let from = self.run.from[0];
        assert!(layer.reach <= from.len(), "windows end at {}, the buffer at {}", layer.reach, from.len());
        let (first, last) = (layer.to.row(layer.height, rows.start), layer.to.row(layer.height, rows.end - 1));
        let to = self.run.to.bytes(first, last + layer.width * layer.to.pixel);
        let clamp = Clamp::new(simd, layer.finish);
        let size = layer.together * layer.words * layer.kernel[1] * parts::<S>(WIDE) * 4 * S::LANES;
        let mut row = rows.start;
        while row < rows.end {
            let (image, y) = (row / layer.height, row % layer.height);
            let count = layer.together.min(rows.end - row).min(layer.height - y);
            for (index, group) in layer.groups.iter().enumerate() {
                let window = layer.from.at(image, y, 0) + group.first;
                let some = Rows {
                    layer,
                    weights: &layer.weights.words()[index * size..][..size],
                    constants: &layer.constants.words()[index * 8 * S::LANES..][..8 * S::LANES],
                    from: from.as_ptr().wrapping_add(window),
                    last: (count - 1) * (layer.from.row / layer.row) + layer.kernel[0] - 1,
                    vectors: (layer.channels - group.first).div_ceil(4).min(4),
                    to: to.wrapping_add(layer.to.at(image, y, 0) + group.first),
                    count,
                };
                // SAFETY: windows end at `reach` or before, and results within what was just found writable.
                unsafe {
                    match group.pieces {
                        1 => some.strips::<S, 1, WIDE>(simd, self.run.work, &clamp),
                        2 if S::LANES >= 8 => some.strips::<S, 2, WIDE>(simd, self.run.work, &clamp),
                        4 if S::LANES >= 16 => some.strips::<S, 4, WIDE>(simd, self.run.work, &clamp),
                        pieces => unreachable!("{pieces} pieces of a vector"),
                    }
                }
            }
            row += count;
        }
    }
}

/// Some groups of pixels of a row: a band's weights and the words that it reads.
struct Strip<'a> {
    weights: &'a [i32],
    kept: &'a [i32],
    /// Of every group of pixels four vectors, if there is more than one band.
    sums: &'a mut [i32],
    /// Vectors of words that have channels.
    vectors: usize,
    /// The first group, and how many.
    first: usize,
    count: usize,
}

impl Rows<'_> {
    /// # Safety
    /// All windows must be readable, and all outputs writable.
    #[inline(always)]
    unsafe fn strips<S: Simd, const N: usize, const WIDE: bool>(&self, simd: S, work: &mut Work, clamp: &Clamp<S>) {
        let pixels = self.pixels::<N>();
        let mut first = 0;
        while first < pixels {
            let strip = (first, STRIP.min(pixels - first));
            for (index, band) in self.layer.bands.iter().enumerate() {
                let is_ends = [index == 0, index + 1 == self.layer.bands.len()];
                // SAFETY: as the caller promises.
                unsafe { self.band::<S, N, WIDE>(simd, work, band, is_ends, strip, clamp) };
            }
            first += strip.1;
        }
    }

    /// Pixels of a piece of a row.
    #[inline(always)]
    fn pixels<const N: usize>(&self) -> usize {
        self.layer.width.div_ceil(N)
    }

    /// What a band adds to a strip: `is_ends` says whether it is the first and the last.
    ///
    /// # Safety
    /// As for [`Rows::strips`].
    #[inline(always)]
    unsafe fn band<S: Simd, const N: usize, const WIDE: bool>(
        &self,
        simd: S,
        work: &mut Work,
        band: &Band,
        is_ends: [bool; 2],
        (first, count): (usize, usize),
        clamp: &Clamp<S>,
    ) {
        let (layer, stride) = (self.layer, self.layer.stride);
        let Band { words: whole, columns, .. } = *band;
        let vectors = if N * 4 == S::LANES { self.vectors } else { 4 };
        let mut lines = [self.from.wrapping_add(band.column * layer.pixel); MOST];
        for (i, line) in lines.iter_mut().enumerate() {
            *line = line.wrapping_add((band.row + i).min(self.last) * layer.row);
        }
        // Of the columns from one pixel to the next, so many are kept.
        let step = stride.min(columns);
        let skip = stride - step;
        let last = (layer.width - 1) * stride + columns - 1;
        let slots = (count - 1) * step + columns;
        let kept = &mut work.first.words_mut()[..slots * whole * 4 * S::LANES];
        let piece_columns = self.pixels::<N>() * stride;
        for (word, lines) in lines.as_chunks::<4>().0.iter().enumerate().take(whole) {
            let (mut column, mut left) = (first * stride, step);
            for kept in kept.chunks_exact_mut(whole * 4 * S::LANES) {
                // The last column that a window has stands for those after it.
                let mut places = [column * layer.pixel; N];
                for (piece, place) in places.iter_mut().enumerate().skip(1) {
                    *place = (column + piece * piece_columns).min(last) * layer.pixel;
                }
                let mut rows = [simd.splat_bytes(0); 4];
                for (row, line) in rows.iter_mut().zip(lines) {
                    let mut pieces = [*line; N];
                    for (from, place) in pieces.iter_mut().zip(places) {
                        *from = from.wrapping_add(place);
                    }
                    // SAFETY: as the caller promises.
                    *row = unsafe { simd.load_pieces::<N>(pieces) };
                }
                let to = kept[word * 4 * S::LANES..][..4 * S::LANES].as_mut_ptr();
                for (vector, words) in simd.interleave(rows).into_iter().enumerate().take(vectors) {
                    // SAFETY: the slice has four vectors of words.
                    unsafe { simd.store(to.wrapping_add(vector * S::LANES), words) };
                }
                // Where columns are left out, every `columns` belong to a pixel.
                (column, left) = if left == 1 { (column + 1 + skip, step) } else { (column + 1, left - 1) };
            }
        }
        let kept = &work.first.words()[..slots * whole * 4 * S::LANES];
        let size = layer.together * whole * columns * parts::<S>(WIDE) * 4 * S::LANES;
        let strip = Strip {
            weights: &self.weights[band.weights * parts::<S>(WIDE)..][..size],
            kept,
            sums: work.second.words_mut(),
            vectors,
            first,
            count,
        };
        macro_rules! shapes {
            ($($shape:pat, $written:expr, [$($pieces:literal)*];)*) => {
                match (columns, whole, step, is_ends) {
                    // SAFETY: as the caller promises.
                    $($shape if const { S::IS_COMPILED && (false $(|| N == $pieces)*) } => unsafe {
                        self.blocks::<S, N, WIDE>(simd, strip, $written, clamp);
                    },)*
                    // SAFETY: as before.
                    shape => unsafe { self.blocks::<S, N, WIDE>(simd, strip, shape, clamp) },
                }
            };
        }
        // Written out for the usual kernels, which makes these numbers constants.
        shapes! {
            (3, 1, 1, [true, true]), (3, 1, 1, [true, true]), [1 2 4];
            (3, 1, 2, [true, true]), (3, 1, 2, [true, true]), [1 2 4];
            (5, 2, 1, [true, true]), (5, 2, 1, [true, true]), [1 2];
            (5, 2, 2, [true, true]), (5, 2, 2, [true, true]), [1 2];
        }
    }

    /// All outputs of a strip, whose shape has columns, words, columns between pixels, and whether the band is the first and
    /// the last.
    ///
    /// # Safety
    /// As for [`Rows::strips`].
    #[inline(always)]
    unsafe fn blocks<S: Simd, const N: usize, const WIDE: bool>(
        &self,
        simd: S,
        mut strip: Strip<'_>,
        shape: (usize, usize, usize, [bool; 2]),
        clamp: &Clamp<S>,
    ) {
        for row in 0..self.count {
            let (mut pixel, count) = (0, strip.count);
            // SAFETY: as the caller promises.
            unsafe {
                if const { S::DEPTHWISE_PIXELS >= 4 } {
                    while pixel + 4 <= count {
                        self.block::<S, N, 4, WIDE>(simd, &mut strip, row, pixel, shape, clamp);
                        pixel += 4;
                    }
                }
                if const { S::DEPTHWISE_PIXELS >= 2 } {
                    while pixel + 2 <= count {
                        self.block::<S, N, 2, WIDE>(simd, &mut strip, row, pixel, shape, clamp);
                        pixel += 2;
                    }
                }
                while pixel < count {
                    self.block::<S, N, 1, WIDE>(simd, &mut strip, row, pixel, shape, clamp);
                    pixel += 1;
                }
            }
        }
    }

    /// `P` groups of pixels of a row.
    ///
    /// # Safety
    /// As for [`Rows::strips`].
    #[inline(always)]
    unsafe fn block<S: Simd, const N: usize, const P: usize, const WIDE: bool>(
        &self,
        simd: S,
        strip: &mut Strip<'_>,
        row: usize,
        pixel: usize,
        (columns, whole, step, [is_first, is_last]): (usize, usize, usize, [bool; 2]),
        clamp: &Clamp<S>,
    ) {
        let parts = parts::<S>(WIDE);
        let lanes = 4 * S::LANES;
        let weights = &strip.weights[row * whole * columns * parts * lanes..][..whole * columns * parts * lanes];
        let words = &strip.kept[pixel * step * whole * lanes..][..((P - 1) * step + columns) * whole * lanes];
        let constants = &self.constants[..2 * lanes];
        let mut sums = [[simd.splat(0); 4]; P];
        let vectors = if N * 4 == S::LANES { strip.vectors } else { 4 };
        for vector in 0..vectors {
            let mut some = [load(simd, constants, vector * S::LANES); P];
            if !is_first {
                for (index, sum) in some.iter_mut().enumerate() {
                    *sum = load(simd, strip.sums, (pixel + index) * lanes + vector * S::LANES);
                }
            }
            for word in 0..whole {
                for column in 0..columns {
                    let mut both = [simd.splat(0); 2];
                    for (part, place) in both.iter_mut().enumerate().take(parts) {
                        let at = ((word * columns + column) * parts + part) * lanes + vector * S::LANES;
                        // SAFETY: that is below the number of weights, which the slice has.
                        *place = unsafe { simd.load(weights.as_ptr().add(at)) };
                    }
                    for (pixel, sum) in some.iter_mut().enumerate() {
                        let at = ((pixel * step + column) * whole + word) * lanes + vector * S::LANES;
                        // SAFETY: that is below the number of words, which the slice has.
                        let bytes = simd.prepare::<WIDE>(unsafe { simd.load(words.as_ptr().add(at)) });
                        *sum = simd.dot4::<WIDE>(*sum, bytes, both);
                    }
                }
            }
            if !is_last {
                for (index, sum) in some.into_iter().enumerate() {
                    let to = &mut strip.sums[(pixel + index) * lanes + vector * S::LANES..][..S::LANES];
                    // SAFETY: the slice has as many words as a vector.
                    unsafe { simd.store(to.as_mut_ptr(), sum) };
                }
                continue;
            }
            let scale = load(simd, constants, lanes + vector * S::LANES);
            for (sums, sum) in sums.iter_mut().zip(some) {
                sums[vector] = simd.requantise(sum, scale);
            }
        }
        if is_last {
            for (index, words) in sums.into_iter().enumerate() {
                // SAFETY: as the caller promises.
                unsafe { self.put::<S, N>(simd, row, strip.first + pixel + index, words, clamp) };
            }
        }
    }

    /// Writes a pixel of each piece of row `row`, those of them that the row has.
    ///
    /// # Safety
    /// As for [`Rows::strips`].
    #[inline(always)]
    unsafe fn put<S: Simd, const N: usize>(
        &self,
        simd: S,
        row: usize,
        pixel: usize,
        words: [S::Words; 4],
        clamp: &Clamp<S>,
    ) {
        let layer = self.layer;
        let to = self.to.wrapping_add(row * layer.to.row + pixel * layer.to.pixel);
        // What is after the row's last pixel goes nowhere.
        let mut nowhere = [0u8; 64];
        let mut pieces = [to; N];
        for (piece, to) in pieces.iter_mut().enumerate().skip(1) {
            let first = piece * self.pixels::<N>();
            let is_there = pixel + first < layer.width;
            *to = if is_there { to.wrapping_add(first * layer.to.pixel) } else { nowhere.as_mut_ptr() };
        }
        // SAFETY: as the caller promises; a piece is at most 64 bytes.
        unsafe { simd.store_pieces::<N>(pieces, clamp.narrow(simd, words)) };
    }
}
