//! Depthwise convolutions: each channel by itself.
//!
//! A product of four bytes takes four rows of a column, or four columns of a row. So what some rows of outputs read is
//! interleaved first: one word for every channel and place, which lies in the first-level cache and serves all windows that
//! meet it. A kernel of 3 rows makes two rows of outputs of four rows:
//!
//! ```text
//! word of a column:   r0 r1 r2 r3          three columns of words, for each of the two rows
//! weights of row 0:   w0 w1 w2 0           sums += word(x) . w(0) + word(x + 1) . w(1) + word(x + 2) . w(2)
//! weights of row 1:   0  w0 w1 w2
//! ```
//!
//! A kernel of one row, or of few rows and many columns, takes words of four columns: a window's are that of its first column, that of
//! its fifth, and so on. [`Form`] is what costs least.
//!
//! A block is as many bytes as a vector has: a group of channels of one pixel, or of two or four neighbours where fewer channels are
//! left. It has four vectors of words, in the order in which unpacking leaves channels, which packing undoes; those that no channel
//! is in are left out. Words of a vector lie side by side along a row, so that a block may begin at any pixel; with strides, pixels
//! that are as far apart as windows do, in lines of their own. Registers with 32 of them: 4 blocks of 4 vectors of results, 4 sums,
//! weights, the words; with 16: a block, weights from memory.
//!
//! A large kernel is cut into bands whose words fit into the cache, and whose sums are added in memory.

use crate::aligned::Aligned;
use crate::conv::{Sums, folded_bias, offset, parts, weights_word, written_out};
use crate::layout::{Layout, PART, View};
use crate::network::{Finish, Window};
use crate::operator::{Clamp, Room, Run, Work, load};
use crate::simd::{Job, Simd};

/// Rows of outputs that are made together, at most.
const MOST_TOGETHER: usize = 8;
/// Words that a window has in a row of them within a band, at most.
const MOST_COLUMNS: usize = 16;
/// Words that a window has in a band, at most, unless it has as many in two rows of them.
const MOST_WORDS: usize = 32;
/// Blocks of a strip, whose words are kept together: a multiple of [`Simd::DEPTHWISE_PIXELS`], and at least [`FEWEST`].
const STRIP: usize = 28;
const FEWEST: usize = 4;
/// The bytes of words that should be kept: less than a first-level cache.
const KEPT: usize = 20 << 10;

/// A depthwise convolution, packed.
#[derive(Debug)]
pub(crate) struct Depthwise {
    /// With each group the blocks of its strips.
    groups: Vec<(Group, usize)>,
    form: Form,
    bands: Vec<Band>,
    /// Blocks of a strip, at most.
    strip: usize,
    /// Of every group, of every band `[row of outputs][row of words][column][part][vector][lane]`.
    weights: Aligned,
    /// Of every group the bias of four vectors, then their scales.
    constants: Aligned,
    from: Windows,
    to: View,
    height: usize,
    width: usize,
    channels: usize,
    finish: Finish,
    wide: bool,
}

/// What windows read.
#[derive(Debug)]
struct Windows {
    /// Where they begin.
    first: View,
    kernel: [usize; 2],
    stride: [usize; 2],
    /// Bytes between rows and pixels of the input.
    row: usize,
    pixel: usize,
    /// The last column after the first window's that is read: it stands for those after it, which no window has.
    last: usize,
    /// Bytes that the buffer must have.
    reach: usize,
}

/// How words are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Of four rows; so many rows of outputs are made together.
    Rows { together: usize },
    /// Of four columns.
    Columns,
}

/// A part of the kernel.
#[derive(Debug)]
struct Band {
    /// Where it begins.
    row: usize,
    column: usize,
    /// Rows of words.
    rows: usize,
    /// The words of a window in each of them.
    columns: Vec<Place>,
    lines: Vec<Line>,
    /// Pixels by which windows reach into a line beyond their own.
    shift: usize,
    /// Where its weights begin, in words, for parts of one.
    weights: usize,
}

/// Words that lie side by side, as windows do.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Line {
    /// The first one's column.
    column: usize,
    /// How many blocks of one pixel, of two and of four, from the first of a row on, can be read as they are.
    plain: [usize; 3],
}

/// A word of a window: the line that it is in, and the pixels there after the window's own.
#[derive(Debug, Clone, Copy)]
struct Place {
    line: usize,
    shift: usize,
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

impl Form {
    /// What is least work for a kernel over an output of some size, by pieces of the first group of channels.
    fn best(windows: &Windows, size: [usize; 2], pieces: usize) -> Self {
        let rows = (1..=MOST_TOGETHER.min(size[0])).map(|together| Self::Rows { together });
        let forms = rows.chain([Self::Columns]);
        forms.min_by_key(|form| form.cost(windows, size, pieces)).expect("an image has a row")
    }

    /// About how long a vector of words takes for an image, in quarters of a cycle: to begin with rows that are made together, to make their words, and to multiply.
    fn cost(self, windows: &Windows, size: [usize; 2], pieces: usize) -> usize {
        let (bands, blocks) = (self.bands(windows), size[1].div_ceil(pieces));
        let of = |band: &Band| {
            let words = match self {
                // Of a row of outputs those that its windows meet.
                Self::Rows { .. } => band.rows.min(windows.kernel[0].div_ceil(4) + 1),
                Self::Columns => band.rows,
            };
            let columns = words * band.columns.len();
            let made = band.rows * band.lines.len() * (blocks + band.shift.div_ceil(pieces));
            200 + 20 * made + 6 * columns * blocks * self.together()
        };
        size[0].div_ceil(self.together()) * bands.iter().map(of).sum::<usize>()
    }

    /// Rows of outputs that are made together.
    fn together(self) -> usize {
        match self {
            Self::Rows { together } => together,
            Self::Columns => 1,
        }
    }

    /// Columns from a word of a window to the next.
    fn step(self) -> usize {
        match self {
            Self::Rows { .. } => 1,
            Self::Columns => 4,
        }
    }

    /// Rows from a word to the next.
    fn rows(self) -> usize {
        match self {
            Self::Rows { .. } => 4,
            Self::Columns => 1,
        }
    }

    /// Cuts a kernel.
    fn bands(self, windows: &Windows) -> Vec<Band> {
        let Windows { kernel: [rows, columns], stride: [down, right], .. } = *windows;
        let rows = (rows + (self.together() - 1) * down).div_ceil(self.rows());
        let columns = columns.div_ceil(self.step());
        let most = (MOST_WORDS / columns.min(MOST_COLUMNS)).max(2);
        let mut bands = Vec::new();
        let mut weights = 0;
        for row in (0..rows).step_by(most) {
            for column in (0..columns).step_by(MOST_COLUMNS) {
                let rows = most.min(rows - row);
                let mut band = Band {
                    row: row * self.rows(),
                    column: column * self.step(),
                    rows,
                    columns: Vec::new(),
                    lines: Vec::new(),
                    shift: 0,
                    weights,
                };
                for place in (0..MOST_COLUMNS.min(columns - column)).map(|column| column * self.step()) {
                    let first = band.column + place % right;
                    let line = band.lines.iter().position(|line| line.column == first).unwrap_or(band.lines.len());
                    if line == band.lines.len() {
                        let plain = [1, 2, 4].map(|pixels: usize| {
                            let end = first + (pixels - 1) * right + self.step() - 1;
                            (windows.last + 1).saturating_sub(end).div_ceil(pixels * right)
                        });
                        band.lines.push(Line { column: first, plain });
                    }
                    band.shift = place / right;
                    band.columns.push(Place { line, shift: band.shift });
                }
                weights += self.together() * rows * band.columns.len();
                bands.push(band);
            }
        }
        bands
    }
}

impl Band {
    /// Bytes of the words that are kept of a strip, of so many vectors with channels.
    fn kept<S: Simd>(&self, strip: usize, vectors: usize) -> usize {
        self.rows * self.lines.len() * (strip + self.shift) * vectors * S::LANES * size_of::<i32>()
    }

    /// Words of a window.
    fn words(&self) -> usize {
        self.rows * self.columns.len()
    }
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
        let Window { kernel: [rows, columns], stride, padding } = window;
        let [height, width] = [0, 1].map(|way| {
            let from = [from.height, from.width][way];
            (padding[way] + from + padding[way + 2] - window.kernel[way]) / stride[way] + 1
        });
        let (channels, pitch) = (sums.bias.len(), to.0.pitch);
        let groups = groups::<S>(pitch);
        let first = from.windows(padding, stride);
        let (row, pixel) = (from.row(), from.pitch);
        let reach = |last: usize| first.at(images - 1, height - 1, 0) + (rows - 1) * row + last * pixel + pitch;
        // Where the last blocks of the last row may read on, as far as they would, no column needs to stand for another.
        let far = (width + 6) * stride[1] + columns + 3;
        let is_far = reach(far) <= from.buffer(images);
        let last = if is_far { far } else { (width - 1) * stride[1] + columns - 1 };
        let reach = reach(last);
        let windows = Windows { first, kernel: window.kernel, stride, row, pixel, last, reach };
        let form = Form::best(&windows, [height, width], groups[0].pieces);
        let bands = form.bands(&windows);
        let vectors = channels.div_ceil(4).min(4);
        let fits = |strip: &usize| bands.iter().all(|band| band.kept::<S>(*strip, vectors) <= KEPT);
        let strip = (FEWEST..=STRIP).rev().step_by(FEWEST).find(fits).unwrap_or(FEWEST);
        // As long as each other.
        let long = |group: Group| {
            let blocks = width.div_ceil(group.pieces);
            (group, blocks.div_ceil(blocks.div_ceil(strip)).next_multiple_of(S::DEPTHWISE_PIXELS))
        };
        // The channel of a lane: see [`Simd::interleave`].
        let channel = |group: &Group, vector: usize, lane: usize| {
            group.first + (16 * (lane / 4) + 4 * vector + lane % 4) % (4 * S::LANES / group.pieces)
        };
        let weight = |channel: usize, [y, x]: [usize; 2]| match channel < channels && y < rows && x < columns {
            true => sums.weight[(channel * rows + y) * columns + x],
            false => 0,
        };
        let parts = parts::<S>(sums.is_wide());
        let lanes = 4 * S::LANES;
        let size = bands.iter().map(|band| form.together() * band.words() * parts * lanes).sum::<usize>();
        let mut weights = Aligned::zeros(groups.len() * size * size_of::<i32>());
        let mut constants = Aligned::zeros(groups.len() * 2 * lanes * size_of::<i32>());
        for (index, group) in groups.iter().enumerate() {
            let mut place = weights.words_mut()[index * size..].iter_mut();
            for (band, row) in bands.iter().flat_map(|band| (0..form.together()).map(move |row| (band, row))) {
                for (word, column, part) in places(band.rows, band.columns.len(), parts) {
                    for (vector, lane) in (0..4).flat_map(|v| (0..S::LANES).map(move |lane| (v, lane))) {
                        let channel = channel(group, vector, lane);
                        let (y, x) = (band.row + form.rows() * word, band.column + form.step() * column);
                        let four = std::array::from_fn(|i| match form {
                            // Where the window of output row `row` has not begun, there is no weight.
                            Form::Rows { .. } => {
                                (y + i).checked_sub(row * stride[0]).map_or(0, |y| weight(channel, [y, x]))
                            }
                            Form::Columns => weight(channel, [y, x + i]),
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
        Self {
            groups: groups.into_iter().map(long).collect(),
            form,
            bands,
            strip,
            weights,
            constants,
            from: windows,
            to: to.1,
            height,
            width,
            channels,
            finish,
            wide: sums.is_wide(),
        }
    }

    /// Rows of the output of one image.
    pub(crate) fn height(&self) -> usize {
        self.height
    }

    /// Vector products of one image, those of two parts counted once.
    pub(crate) fn products(&self) -> usize {
        let vectors = |group: &Group| self.vectors(group) * self.width.div_ceil(group.pieces);
        self.height * self.words() * self.groups.iter().map(|(group, _)| vectors(group)).sum::<usize>()
    }

    /// The words of a window.
    fn words(&self) -> usize {
        self.bands.iter().map(Band::words).sum()
    }

    /// Vectors of words that have channels.
    fn vectors(&self, group: &Group) -> usize {
        (self.channels - group.first).div_ceil(4).min(4)
    }

    /// Whether bytes above 127 are multiplied.
    pub(crate) fn is_wide(&self) -> bool {
        self.wide
    }

    /// Memory, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let band =
            |band: &Band| size_of::<Band>() + size_of_val(band.columns.as_slice()) + size_of_val(band.lines.as_slice());
        let lists = size_of_val(self.groups.as_slice()) + self.bands.iter().map(band).sum::<usize>();
        self.weights.len() + self.constants.len() + lists
    }

    /// The rows that are made together.
    pub(crate) fn unit(&self) -> usize {
        self.form.together()
    }

    /// Room for the words of a strip.
    pub(crate) fn room<S: Simd>(&self) -> Room {
        let vectors = self.channels.div_ceil(4).min(4);
        let first = self.bands.iter().map(|band| band.kept::<S>(self.strip, vectors)).max().unwrap_or_default();
        let is_one = self.bands.len() == 1;
        let sums = self.form.together() * self.strip * 4 * S::LANES * size_of::<i32>();
        Room { first, second: if is_one { 0 } else { sums } }
    }
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
        let (from, windows) = (self.run.from[0], &layer.from);
        assert!(windows.reach <= from.len(), "windows end at {}, the buffer at {}", windows.reach, from.len());
        let (first, last) = (layer.to.row(layer.height, rows.start), layer.to.row(layer.height, rows.end - 1));
        let pitch = layer.channels.next_multiple_of(PART);
        let to = self.run.to.bytes(first, last + (layer.width - 1) * layer.to.pixel + pitch);
        let clamp = Clamp::new(simd, layer.finish);
        let (together, lanes) = (layer.form.together(), 4 * S::LANES);
        let size = together * layer.words() * parts::<S>(WIDE) * lanes;
        let Windows { kernel, stride, .. } = *windows;
        let mut row = rows.start;
        while row < rows.end {
            let (image, y) = (row / layer.height, row % layer.height);
            let count = together.min(rows.end - row).min(layer.height - y);
            for (index, (group, strip)) in layer.groups.iter().enumerate() {
                let some = Rows {
                    layer,
                    weights: &layer.weights.words()[index * size..][..size],
                    constants: &layer.constants.words()[index * 2 * lanes..][..2 * lanes],
                    from: from.as_ptr().wrapping_add(windows.first.at(image, y, 0) + group.first),
                    last: (count - 1) * stride[0] + kernel[0] - 1,
                    vectors: layer.vectors(group),
                    to: to.wrapping_add(layer.to.at(image, y, 0) + group.first),
                    count,
                };
                // SAFETY: windows end at `reach` or before, and results within what was just found writable.
                unsafe {
                    match group.pieces {
                        1 => some.strips::<S, 1, WIDE>(simd, self.run.work, *strip, &clamp),
                        2 if S::LANES >= 8 => some.strips::<S, 2, WIDE>(simd, self.run.work, *strip, &clamp),
                        4 if S::LANES >= 16 => some.strips::<S, 4, WIDE>(simd, self.run.work, *strip, &clamp),
                        pieces => unreachable!("{pieces} pieces of a vector"),
                    }
                }
            }
            row += count;
        }
    }
}

/// Some blocks of a row of outputs, and what a band adds to them.
struct Strip<'a> {
    /// Whether it is the first band, and the last.
    is_ends: [bool; 2],
    /// Of the kernel, where the band begins.
    row: usize,
    /// Of the band.
    weights: &'a [i32],
    /// The words that it reads: `[row of words][vector with channels][line][pixel]`.
    kept: &'a [i32],
    /// Where lines begin, and vectors.
    line: usize,
    vector: usize,
    /// Of every row and block four vectors, if there is more than one band.
    sums: &'a mut [i32],
    /// The first block, and how many.
    first: usize,
    count: usize,
}

/// The words that a band has of a window.
#[derive(Clone, Copy)]
struct Shape {
    rows: usize,
    columns: usize,
    /// Columns between windows, where it is a constant of the code and each column has a word.
    stride: Option<usize>,
    /// Else where the words of a row of them begin, from the window's first.
    places: [usize; MOST_COLUMNS],
}

impl Rows<'_> {
    /// # Safety
    /// All windows must be readable, and all outputs writable.
    #[inline(always)]
    unsafe fn strips<S: Simd, const N: usize, const WIDE: bool>(
        &self,
        simd: S,
        work: &mut Work,
        strip: usize,
        clamp: &Clamp<S>,
    ) {
        let blocks = self.layer.width.div_ceil(N);
        let mut first = 0;
        while first < blocks {
            let count = strip.min(blocks - first);
            for (index, band) in self.layer.bands.iter().enumerate() {
                let is_ends = [index == 0, index + 1 == self.layer.bands.len()];
                // SAFETY: as the caller promises.
                unsafe { self.band::<S, N, WIDE>(simd, work, band, is_ends, (first, count), clamp) };
            }
            first += count;
        }
    }

    /// What a band adds to a strip.
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
        let blocks = count + band.shift.div_ceil(N);
        let line = blocks * S::LANES;
        let vector = band.lines.len() * line;
        let size = band.rows * self.vectors * vector;
        let kept = &mut work.first.words_mut()[..size];
        // SAFETY: as the caller promises.
        unsafe {
            match self.layer.form {
                Form::Rows { .. } => self.lines::<S, N, false>(simd, band, first, blocks, kept),
                Form::Columns => self.lines::<S, N, true>(simd, band, first, blocks, kept),
            }
        }
        let parts = parts::<S>(WIDE);
        let weights = self.layer.form.together() * band.words() * parts * 4 * S::LANES;
        let strip = Strip {
            is_ends,
            row: band.row,
            weights: &self.weights[band.weights * parts * 4 * S::LANES..][..weights],
            kept: &work.first.words()[..size],
            line,
            vector,
            sums: work.second.words_mut(),
            first,
            count,
        };
        let (rows, columns) = (band.rows, band.columns.len());
        let stride = match self.layer.form {
            Form::Rows { .. } if is_ends == [true, true] => Some(self.layer.from.stride[1]),
            _ => None,
        };
        let mut places = [0; MOST_COLUMNS];
        for (place, of) in places.iter_mut().zip(&band.columns) {
            *place = of.line * line + of.shift * (S::LANES / N);
        }
        macro_rules! shapes {
            ($($shape:pat, $written:expr, [$($pieces:literal)*];)*) => {
                match (columns, rows, stride) {
                    // SAFETY: as the caller promises.
                    $($shape if const { S::IS_COMPILED && (false $(|| N == $pieces)*) } => unsafe {
                        let (columns, rows, stride) = $written;
                        let strip = Strip { is_ends: [true, true], ..strip };
                        self.blocks::<S, N, WIDE>(simd, strip, Shape { rows, columns, stride, places }, clamp);
                    },)*
                    // SAFETY: as before.
                    _ => unsafe { self.blocks::<S, N, WIDE>(simd, strip, Shape { rows, columns, stride: None, places }, clamp) },
                }
            };
        }
        // Written out for the usual kernels, which makes these numbers constants.
        shapes! {
            (3, 1, Some(1)), (3, 1, Some(1)), [1 2 4];
            (3, 1, Some(2)), (3, 1, Some(2)), [1 2 4];
            (5, 2, Some(1)), (5, 2, Some(1)), [1 2];
            (5, 2, Some(2)), (5, 2, Some(2)), [1 2];
        }
    }

    /// Interleaves the words of some blocks of a band: of four rows, or of four `COLUMNS`.
    ///
    /// # Safety
    /// As for [`Rows::strips`].
    #[inline(always)]
    unsafe fn lines<S: Simd, const N: usize, const COLUMNS: bool>(
        &self,
        simd: S,
        band: &Band,
        first: usize,
        blocks: usize,
        kept: &mut [i32],
    ) {
        let Windows { stride: [_, stride], row: height, pixel, last, .. } = self.layer.from;
        let (piece, length) = (4 * S::LANES / N, blocks * S::LANES);
        let vector = band.lines.len() * length;
        let more: [usize; 4] = if COLUMNS { [0, 1, 2, 3] } else { [0; 4] };
        for (row, kept) in kept.chunks_exact_mut(self.vectors * vector).enumerate() {
            let row = band.row + row * if COLUMNS { 1 } else { 4 };
            let rows = [0, 1, 2, 3].map(|i: usize| match COLUMNS {
                true => self.from.wrapping_add(row * height),
                false => self.from.wrapping_add((row + i).min(self.last) * height),
            });
            let mut done = 0;
            // Every second pixel is a line's, and those between are another's.
            if let (true, false, 2, [even, odd]) = (N > 1 && pixel == piece, COLUMNS, stride, band.lines.as_slice()) {
                done = odd.plain[N.ilog2() as usize].saturating_sub(first).min(blocks);
                for block in 0..done {
                    let at = ((first + block) * N * stride + even.column) * pixel;
                    let (mut evens, mut odds) = ([simd.splat_bytes(0); 4], [simd.splat_bytes(0); 4]);
                    for ((even, odd), row) in evens.iter_mut().zip(&mut odds).zip(rows) {
                        let at = row.wrapping_add(at);
                        // SAFETY: as the caller promises.
                        let two =
                            unsafe { [simd.load_pieces([at]), simd.load_pieces([at.wrapping_add(4 * S::LANES)])] };
                        [*even, *odd] = simd.unzip::<N>(two);
                    }
                    let to = &mut kept[block * S::LANES..];
                    self.put_words(simd, simd.interleave(evens), to, vector);
                    self.put_words(simd, simd.interleave(odds), &mut to[length..], vector);
                }
            }
            for (index, line) in band.lines.iter().enumerate() {
                let plain = line.plain[N.ilog2() as usize].saturating_sub(first);
                for block in done..blocks {
                    let column = (first + block) * N * stride + line.column;
                    let mut bytes = [simd.splat_bytes(0); 4];
                    for ((bytes, row), more) in bytes.iter_mut().zip(rows).zip(more) {
                        let mut pieces = [row; N];
                        for (piece, from) in pieces.iter_mut().enumerate() {
                            let column = column + piece * stride + more;
                            *from = from.wrapping_add(if block < plain { column } else { column.min(last) } * pixel);
                        }
                        // SAFETY: as the caller promises.
                        *bytes = unsafe {
                            match N > 1 && stride * pixel == piece && block < plain {
                                true => simd.load_pieces([pieces[0]]),
                                false => simd.load_pieces::<N>(pieces),
                            }
                        };
                    }
                    self.put_words(
                        simd,
                        simd.interleave(bytes),
                        &mut kept[index * length + block * S::LANES..],
                        vector,
                    );
                }
            }
        }
    }

    /// Writes those of four vectors of words that have channels, each to its line.
    #[inline(always)]
    fn put_words<S: Simd>(&self, simd: S, words: [S::Words; 4], to: &mut [i32], vector: usize) {
        assert!((self.vectors - 1) * vector + S::LANES <= to.len(), "there is room for each vector");
        written_out!(VECTOR < 4 => {
            if VECTOR < self.vectors {
                // SAFETY: that is within what was just found to be there.
                unsafe { simd.store(to.as_mut_ptr().wrapping_add(VECTOR * vector), words[VECTOR]) };
            }
        });
    }

    /// All outputs of a strip.
    ///
    /// # Safety
    /// As for [`Rows::strips`].
    #[inline(always)]
    unsafe fn blocks<S: Simd, const N: usize, const WIDE: bool>(
        &self,
        simd: S,
        mut strip: Strip<'_>,
        shape: Shape,
        clamp: &Clamp<S>,
    ) {
        for row in 0..self.count {
            let (mut block, count) = (0, strip.count);
            // SAFETY: as the caller promises.
            unsafe {
                if const { S::DEPTHWISE_PIXELS >= 4 } {
                    while block + 4 <= count {
                        self.block::<S, N, 4, WIDE>(simd, &mut strip, (row, block), shape, clamp);
                        block += 4;
                    }
                }
                if const { S::DEPTHWISE_PIXELS >= 2 } {
                    while block + 2 <= count {
                        self.block::<S, N, 2, WIDE>(simd, &mut strip, (row, block), shape, clamp);
                        block += 2;
                    }
                }
                while block < count {
                    self.block::<S, N, 1, WIDE>(simd, &mut strip, (row, block), shape, clamp);
                    block += 1;
                }
            }
        }
    }

    /// `P` blocks of a row.
    ///
    /// # Safety
    /// As for [`Rows::strips`].
    #[inline(always)]
    unsafe fn block<S: Simd, const N: usize, const P: usize, const WIDE: bool>(
        &self,
        simd: S,
        strip: &mut Strip<'_>,
        (row, block): (usize, usize),
        shape: Shape,
        clamp: &Clamp<S>,
    ) {
        let (parts, lanes) = (parts::<S>(WIDE), 4 * S::LANES);
        let size = shape.rows * shape.columns * parts * lanes;
        let weights = strip.weights[row * size..][..size].as_ptr();
        let words = strip.kept[block * S::LANES..].as_ptr();
        let constants = &self.constants[..2 * lanes];
        let [is_first, is_last] = strip.is_ends;
        // Where the sums of a vector of a block are kept between bands.
        let kept = |block: usize, vector: usize| (row * self.layer.strip + block) * lanes + vector * S::LANES;
        // The rows of words that windows of this row of outputs meet: weights of the others are zero.
        let met = match self.layer.form {
            Form::Rows { .. } if shape.stride.is_none() => {
                let first = row * self.layer.from.stride[0];
                let end = first + self.layer.from.kernel[0];
                let within = |word: usize| word.saturating_sub(strip.row / 4).min(shape.rows);
                within(first / 4)..within(end.div_ceil(4))
            }
            _ => 0..shape.rows,
        };
        let mut sums = [[simd.splat(0); 4]; P];
        written_out!(VECTOR < 4 => {
            if VECTOR < self.vectors {
                let mut some = [load(simd, constants, VECTOR * S::LANES); P];
                if !is_first {
                    for (index, sum) in some.iter_mut().enumerate() {
                        *sum = load(simd, strip.sums, kept(block + index, VECTOR));
                    }
                }
                for word in met.clone() {
                    let words = words.wrapping_add((self.vectors * word + VECTOR) * strip.vector);
                    for column in 0..shape.columns {
                        let place = match shape.stride {
                            Some(stride) => column % stride * strip.line + column / stride * (S::LANES / N),
                            None => shape.places[column],
                        };
                        let mut both = [simd.splat(0); 2];
                        for (part, weight) in both.iter_mut().enumerate().take(parts) {
                            let at = ((word * shape.columns + column) * parts + part) * lanes + VECTOR * S::LANES;
                            // SAFETY: that is below the number of weights, which the slice has.
                            *weight = unsafe { simd.load(weights.wrapping_add(at)) };
                        }
                        for (index, sum) in some.iter_mut().enumerate() {
                            // SAFETY: a line has a strip's blocks, and as many more as windows reach into it.
                            let bytes = unsafe { simd.load(words.wrapping_add(place + index * S::LANES)) };
                            *sum = simd.dot4::<WIDE>(*sum, simd.prepare::<WIDE>(bytes), both);
                        }
                    }
                }
                if is_last {
                    let scale = load(simd, constants, lanes + VECTOR * S::LANES);
                    for (sums, sum) in sums.iter_mut().zip(some) {
                        sums[VECTOR] = simd.requantise(sum, scale);
                    }
                } else {
                    for (index, sum) in some.into_iter().enumerate() {
                        let to = &mut strip.sums[kept(block + index, VECTOR)..][..S::LANES];
                        // SAFETY: the slice has as many words as a vector.
                        unsafe { simd.store(to.as_mut_ptr(), sum) };
                    }
                }
            }
        });
        if is_last {
            for (index, words) in sums.into_iter().enumerate() {
                // SAFETY: as the caller promises.
                unsafe { self.put::<S, N>(simd, row, (strip.first + block + index) * N, clamp.narrow(simd, words)) };
            }
        }
    }

    /// Writes a block's pixels from `pixel` of row `row` on, those of them that the row has.
    ///
    /// # Safety
    /// As for [`Rows::strips`].
    #[inline(always)]
    unsafe fn put<S: Simd, const N: usize>(&self, simd: S, row: usize, pixel: usize, bytes: S::Bytes) {
        let View { row: line, pixel: step, .. } = self.layer.to;
        let to = self.to.wrapping_add(row * line + pixel * step);
        let has_all = pixel + N <= self.layer.width;
        // SAFETY: as the caller promises; a piece is at most 64 bytes, and what is after the row's last pixel goes nowhere.
        unsafe {
            if N == 1 || (has_all && step == 4 * S::LANES / N) {
                return simd.store_pieces([to], bytes);
            }
            let mut nowhere = [0u8; 64];
            let mut pieces = [to; N];
            for (piece, to) in pieces.iter_mut().enumerate().skip(1) {
                let is_there = pixel + piece < self.layer.width;
                *to = if is_there { to.wrapping_add(piece * step) } else { nowhere.as_mut_ptr() };
            }
            simd.store_pieces::<N>(pieces, bytes);
        }
    }
}
