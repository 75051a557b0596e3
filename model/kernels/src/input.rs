//! From pixels to the first activation: CHW to HWC, so that the channels of a pixel lie side by side.
//!
//! Sixteen channels of as many pixels as a vector has bytes go together. Four rows of channels are interleaved to words of a pixel's
//! four bytes; four such vectors are interleaved once more. Where the first time rows `j`, `j + 4`, `j + 8`, `j + 12` went together, the
//! second leaves each pixel's sixteen bytes in order, in a part of a vector. Four channels are in order after the first time.

use std::ops::Range;

use crate::copy::{followers, write};
use crate::layout::{Layout, PART, View};
use crate::lookup::look_up;
use crate::simd::{Job, Simd};

/// Which rows or columns of an image are stored: of every `stride` of them the first `kernel`, of the first as many less by `before`,
/// which are padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) before: usize,
    /// How many are stored, at most.
    pub(crate) count: usize,
}

impl Kept {
    pub(crate) const ALL: Self = Self { kernel: 1, stride: 1, before: 0, count: usize::MAX };

    /// Where one that is stored is in the image.
    fn source(self, stored: usize) -> usize {
        let place = stored + self.before;
        place / self.kernel * self.stride + place % self.kernel - self.before
    }

    /// Where all of `size` are in the image that are stored.
    pub(crate) fn sources(self, size: usize) -> impl Iterator<Item = usize> {
        (0..self.count.min(size)).map(move |stored| self.source(stored))
    }

    /// Where one of the image is stored, unless it is not.
    fn stored(self, source: usize) -> Option<usize> {
        let (window, place) = ((source + self.before) / self.stride, (source + self.before) % self.stride);
        (place < self.kernel).then(|| window * self.kernel + place - self.before)
    }
}

/// How images are stored.
#[derive(Debug)]
pub(crate) struct Form {
    /// Rows and columns of an image.
    pub(crate) size: [usize; 2],
    /// Which rows are stored.
    pub(crate) rows: Kept,
    /// The columns that are stored, unless all are.
    pub(crate) columns: Option<Vec<usize>>,
    /// Whether rows are stored as columns.
    pub(crate) is_turned: bool,
    /// What stands for each byte, if not itself.
    pub(crate) table: Option<Box<[u8; 256]>>,
}

/// Some rows of an image into the buffer of the first activation.
pub(crate) struct Pack<'a> {
    pub(crate) form: &'a Form,
    pub(crate) layout: &'a Layout,
    /// Of an image, in CHW order.
    pub(crate) pixels: &'a [u8],
    /// Of the image's rows that are stored; all of them if it is turned.
    pub(crate) rows: Range<usize>,
    /// The image in the buffer, and its row, where they go.
    pub(crate) image: usize,
    pub(crate) first: usize,
    pub(crate) to: &'a mut [u8],
}

/// So many pixels in rows between windows are worth leaving out; fewer are gone through with the others.
const GAP: usize = 64;

impl Job for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { form, layout, pixels, rows, image, first, to } = self;
        let ([height, width], kept) = (form.size, form.rows);
        let is_tight = !form.is_turned && layout.pitch == layout.channels && form.columns.is_none();
        // Where few columns are stored, what is between them is not worth reading; a few pixels are not worth a vector.
        let is_sparse = form.columns.as_ref().is_some_and(|columns| 8 * columns.len() <= width);
        let is_few = layout.channels <= 3 || height * width == 1 || (layout.channels < PART && height * width < PART);
        let is_picture = is_tight && layout.channels == 3;
        let goes_through = (kept.stride - kept.kernel) * width < GAP;
        let mut row = rows.start;
        while row < rows.end {
            let window = kept.kernel - (row + kept.before) % kept.kernel;
            let end = if goes_through { rows.end } else { rows.end.min(row + window) };
            let sources = kept.source(row)..kept.source(end - 1) + 1;
            assert!(sources.end <= height, "row {} of {height}", sources.end);
            let some = Rows { form, layout, pixels, sources, image, shift: (rows.start, first) };
            match &form.table {
                Some(table) if is_picture => some.pictures(to, |byte| table[usize::from(byte)]),
                None if is_picture => some.pictures(to, |byte| byte),
                _ if is_sparse || is_few => some.one_by_one(is_tight, to),
                _ if layout.channels == 4 && is_tight && width >= 4 * S::LANES => some.fours(simd, to),
                _ => some.transpose(simd, to),
            }
            row = end;
        }
        if let (Some(table), false) = (&form.table, is_picture) {
            for y in if form.is_turned { 0..layout.height } else { first..first + rows.len() } {
                let row = &mut to[row_of(layout, image, y)];
                // SAFETY: the slice has as many bytes.
                unsafe { look_up(simd, table, row.as_ptr(), row.as_mut_ptr(), row.len()) };
            }
        }
    }
}

/// The first byte of a row of a layout's image, and of the one after its last pixel.
fn row_of(layout: &Layout, image: usize, y: usize) -> Range<usize> {
    let first = layout.view().at(image, y, 0);
    first..first + layout.width * layout.pitch
}

/// Rows that follow each other in an image.
struct Rows<'a> {
    form: &'a Form,
    layout: &'a Layout,
    pixels: &'a [u8],
    /// Of the image; the first and the last are stored.
    sources: Range<usize>,
    image: usize,
    /// Of the rows that are stored, one, and the row of the buffer that it goes to.
    shift: (usize, usize),
}

impl Rows<'_> {
    /// Pixels of a channel.
    fn plane(&self) -> usize {
        self.form.size[0] * self.form.size[1]
    }

    /// A channel's bytes of a row of the image.
    #[inline(always)]
    fn line(&self, channel: usize, y: usize) -> &[u8] {
        let width = self.form.size[1];
        &self.pixels[channel * self.plane() + y * width..][..width]
    }

    /// Where rows and columns of the image lie.
    fn view(&self) -> View {
        if self.form.is_turned { self.layout.view().turned() } else { self.layout.view() }
    }

    /// The row of the buffer, counted as the image's are, of each row of the image that is stored.
    #[inline(always)]
    fn places(&self) -> impl Iterator<Item = (usize, Option<usize>)> {
        let (stored, place) = self.shift;
        let rows = self.form.rows;
        self.sources.clone().map(move |y| (y, rows.stored(y).map(|row| row - stored + place)))
    }

    /// The same of the rows that are stored.
    #[inline(always)]
    fn stored(&self) -> impl Iterator<Item = (usize, usize)> {
        self.places().filter_map(|(y, place)| Some((y, place?)))
    }

    /// What most pictures are, in a form that the compiler makes shuffles of.
    #[inline(always)]
    fn pictures(&self, to: &mut [u8], of: impl Fn(u8) -> u8) {
        for (y, place) in self.stored() {
            let (red, green, blue) = (self.line(0, y), self.line(1, y), self.line(2, y));
            let to = to[row_of(self.layout, self.image, place)].as_chunks_mut::<3>().0;
            for (((pixel, red), green), blue) in to.iter_mut().zip(red).zip(green).zip(blue) {
                *pixel = [of(*red), of(*green), of(*blue)];
            }
        }
    }

    /// Few channels, or few pixels.
    #[inline(always)]
    fn one_by_one(&self, is_tight: bool, to: &mut [u8]) {
        let (channels, view) = (self.layout.channels, self.view());
        if self.plane() == 1 {
            let to = &mut to[view.at(self.image, 0, 0)..];
            return to[..channels].copy_from_slice(self.pixels);
        }
        for (y, place) in self.stored() {
            let to = &mut to[view.at(self.image, place, 0)..];
            match channels {
                1 if is_tight => to[..self.form.size[1]].copy_from_slice(self.line(0, y)),
                2 if is_tight => {
                    let pixels = to.as_chunks_mut::<2>().0.iter_mut().zip(self.line(0, y)).zip(self.line(1, y));
                    pixels.for_each(|((pixel, first), second)| *pixel = [*first, *second]);
                }
                _ => {
                    for channel in 0..channels {
                        let line = self.line(channel, y);
                        match &self.form.columns {
                            None => {
                                for (x, byte) in line.iter().enumerate() {
                                    to[x * view.pixel + channel] = *byte;
                                }
                            }
                            Some(columns) => {
                                for (x, source) in columns.iter().enumerate() {
                                    to[x * view.pixel + channel] = line[*source];
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    /// Four channels: as many pixels as a vector has bytes, the last of a row with some of those before.
    #[inline(always)]
    fn fours<S: Simd>(&self, simd: S, to: &mut [u8]) {
        let (width, block) = (self.form.size[1], 4 * S::LANES);
        for (y, place) in self.stored() {
            let lines = [self.line(0, y), self.line(1, y), self.line(2, y), self.line(3, y)];
            let to = &mut to[row_of(self.layout, self.image, place)];
            for first in (0..width).step_by(block) {
                let first = first.min(width - block);
                let to = to[4 * first..][..4 * block].as_mut_ptr();
                let mut rows = [simd.splat_bytes(0); 4];
                for (row, line) in rows.iter_mut().zip(lines) {
                    // SAFETY: the slice has as many bytes as a vector.
                    *row = unsafe { simd.load_pieces([line[first..][..block].as_ptr()]) };
                }
                for (vector, words) in simd.interleave(rows).into_iter().enumerate() {
                    let part = to.wrapping_add(PART * vector);
                    let parts = [part, part.wrapping_add(64), part.wrapping_add(128), part.wrapping_add(192)];
                    // SAFETY: part `i` is of the four pixels from `16 * i + 4 * vector` on, all in the slice.
                    unsafe { store_parts(simd, parts, words) };
                }
            }
        }
    }

    /// Sixteen channels of as many pixels as a vector has bytes, again and again.
    #[inline(always)]
    fn transpose<S: Simd>(&self, simd: S, to: &mut [u8]) {
        let Self { form, layout, pixels, image, .. } = *self;
        let (channels, plane, block, view) = (layout.channels, self.plane(), 4 * S::LANES, self.view());
        let last = if form.is_turned {
            layout.height - 1
        } else {
            self.places().filter_map(|(_, place)| place).last().unwrap_or_default()
        };
        assert!(row_of(layout, image, last).end <= to.len(), "all pixels are in the buffer");
        let to = to.as_mut_ptr();
        // Rows without a gap are one.
        let is_one = form.rows == Kept::ALL && form.columns.is_none() && view.row == form.size[1] * view.pixel;
        let sources = self.sources.start * form.size[1]..self.sources.end * form.size[1];
        let (width, end) = if is_one { (sources.len(), sources.len()) } else { (form.size[1], layout.width) };
        // A part may be written whole if what it covers beside its pixel's channels are pixels that are written later.
        let more = followers(layout.pitch);
        let mut rows = self.places().map(|(_, place)| place);
        let (mut x, mut y) = (0, rows.next().flatten());
        // The next column that is stored.
        let mut next = 0;
        let (mut places, mut is_roomy) = ([NOWHERE; STRETCH], [true; STRETCH]);
        // How many pixels of a block are stored.
        let mut stored = [0; STRETCH / 16];
        let mut staged = [0u8; 64 * PART];
        for start in sources.clone().step_by(STRETCH) {
            let count = STRETCH.min(sources.end - start);
            let mut done = 0;
            while done < count {
                let run = (width - x).min(count - done);
                let (places, is_roomy) = (&mut places[done..][..run], &mut is_roomy[done..][..run]);
                match (y, &form.columns) {
                    (None, _) => places.fill(NOWHERE),
                    (Some(y), None) => {
                        let first = view.at(image, y, x);
                        for (i, place) in places.iter_mut().enumerate() {
                            *place = first + i * view.pixel;
                        }
                        if more > 0 {
                            for (i, is_roomy) in is_roomy.iter_mut().enumerate() {
                                *is_roomy = (if form.is_turned { y } else { x + i }) + more < end;
                            }
                        }
                    }
                    (Some(y), Some(columns)) => {
                        places.fill(NOWHERE);
                        while let Some(column) = columns.get(next).filter(|column| **column < x + run) {
                            places[column - x] = view.at(image, y, next);
                            is_roomy[column - x] = (if form.is_turned { y } else { next }) + more < end;
                            next += 1;
                        }
                    }
                }
                (x, done) = (x + run, done + run);
                if x == width {
                    (x, y, next) = (0, rows.next().flatten(), 0);
                }
            }
            places[count..].fill(NOWHERE);
            for (stored, places) in stored.iter_mut().zip(places[..count].chunks(block)) {
                *stored = places.iter().filter(|place| **place != NOWHERE).count();
            }
            for (channel, first) in (0..channels)
                .step_by(PART)
                .flat_map(|channel| (0..count).step_by(block).map(move |first| (channel, first)))
            {
                let stored = stored[first / block];
                if stored == 0 {
                    continue;
                }
                let (all, first) = (first..first + block, start + first);
                let (places, is_roomy) = (&places[all.clone()], &is_roomy[all]);
                let is_wide = layout.pitch >= PART;
                let is_whole = is_wide && stored == block;
                // The last ones overlap those before.
                let channel = channel.min(channels.saturating_sub(PART));
                // Channels lie so far apart, and so little of each is read at a time, that no processor foresees what comes next.
                let ahead = if channel + PART < channels { (channel + PART) * plane + first } else { first + STRETCH };
                for channel in 0..channels.min(PART) {
                    simd.prefetch(pixels.as_ptr().wrapping_add(ahead + channel * plane));
                }
                // Written out: arrays of vectors that are indexed lie in memory.
                macro_rules! row {
                    ($channel:expr) => {
                        if channel + $channel < channels {
                            let line = &pixels[(channel + $channel) * plane + first..];
                            let last;
                            let from = if line.len() < block {
                                last = rest(line);
                                last.as_ptr()
                            } else {
                                line.as_ptr()
                            };
                            // SAFETY: there is a vector's bytes, of the pixels or of the copy of their last ones.
                            unsafe { simd.load_pieces([from]) }
                        } else {
                            simd.splat_bytes(0)
                        }
                    };
                }
                let a = simd.interleave([row!(0), row!(4), row!(8), row!(12)]);
                let b = simd.interleave([row!(1), row!(5), row!(9), row!(13)]);
                let c = simd.interleave([row!(2), row!(6), row!(10), row!(14)]);
                let d = simd.interleave([row!(3), row!(7), row!(11), row!(15)]);
                let to = to.wrapping_add(channel);
                macro_rules! pixels_of {
                ($($vector:literal)*) => {$(
                    let rows = [a[$vector], b[$vector], c[$vector], d[$vector]];
                    let rows = [simd.bytes(rows[0]), simd.bytes(rows[1]), simd.bytes(rows[2]), simd.bytes(rows[3])];
                    for (word, words) in simd.interleave(rows).into_iter().enumerate() {
                        // Part `i` is pixel `16 * i + 4 * vector + word`.
                        let mut parts = [to; 4];
                        for (i, part) in parts.iter_mut().enumerate().take(S::LANES / 4) {
                            let pixel = 16 * i + 4 * $vector + word;
                            *part = match is_whole || (is_wide && places[pixel] != NOWHERE) {
                                true => to.wrapping_add(places[pixel]),
                                false => staged[PART * pixel..][..PART].as_mut_ptr(),
                            };
                        }
                        // SAFETY: pixels have `PART` bytes from this channel on, and are in the buffer; or there is room for them.
                        unsafe { store_parts(simd, parts, words) };
                    }
                )*};
            }
                pixels_of!(0 1 2 3);
                if !is_wide {
                    for ((bytes, place), is_roomy) in staged.as_chunks::<PART>().0.iter().zip(places).zip(is_roomy) {
                        if *place != NOWHERE {
                            let count = if *is_roomy { PART } else { channels };
                            // SAFETY: pixels are in the buffer, with as many bytes as are written.
                            unsafe { write(bytes, count, to.wrapping_add(*place)) };
                        }
                    }
                }
            }
        }
    }
}

/// Stands for the place of a pixel that is not stored.
const NOWHERE: usize = usize::MAX;
/// The pixels of a channel that are read before those of the next: some cache lines, which lie far from the next channel's.
const STRETCH: usize = 256;

/// The last bytes of all pixels, and zeros up to a vector.
#[inline(always)]
fn rest(line: &[u8]) -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes[..line.len()].copy_from_slice(line);
    bytes
}

/// Writes each part of a vector somewhere else.
///
/// # Safety
/// [`PART`] bytes must be writable at as many of the places as a vector has parts.
#[inline(always)]
unsafe fn store_parts<S: Simd>(simd: S, to: [*mut u8; 4], words: S::Words) {
    let ([a, b, ..], bytes) = (to, simd.bytes(words));
    // SAFETY: as the caller promises.
    unsafe {
        match S::LANES {
            16 => simd.store_pieces(to, bytes),
            8 => simd.store_pieces([a, b], bytes),
            _ => simd.store_pieces([a], bytes),
        }
    }
}
