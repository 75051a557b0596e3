//! Average pools: the sum of each window, requantised.
//!
//! The rows of a row of windows are added first, byte by byte along a row, in words; then the columns of each window. Where the
//! windows of two rows share rows, or two windows columns, what has left is subtracted and what is new is added, if that is less.
//! So a large window costs little more than a small one. Padding counts as the zero point, and so adds nothing: it is left out,
//! and zero points are taken off for what is inside.

use std::ops::Range;

use crate::elementwise::{Span, for_span};
use crate::layout::{Layout, View, rows_of};
use crate::network::{Finish, Window};
use crate::operator::{Clamp, Room, Run, load};
use crate::simd::{Job, Simd};

/// Windows of so many columns are added up each by itself.
const FEW: usize = 4;
/// So many rows are added or subtracted together.
const FEW_ROWS: usize = 8;

/// An average pool.
#[derive(Debug)]
pub(crate) struct AveragePool {
    pub(crate) places: Places,
    scale: f32,
    /// Of the input.
    zero_point: u8,
    finish: Finish,
}

/// The windows of a pool, padding left out.
#[derive(Debug)]
pub(crate) struct Places {
    window: Window,
    /// Of the input.
    height: usize,
    width: usize,
    from: View,
    to: View,
    /// Rows and columns of the output.
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Bytes of a pixel of the output.
    pub(crate) pitch: usize,
}

impl Places {
    pub(crate) fn new(window: Window, from: &Layout, to: (&Layout, View)) -> Self {
        let Window { kernel, stride, padding } = window;
        Self {
            window,
            height: from.height,
            width: from.width,
            from: from.view(),
            to: to.1,
            rows: (padding[0] + from.height + padding[2] - kernel[0]) / stride[0] + 1,
            columns: (padding[1] + from.width + padding[3] - kernel[1]) / stride[1] + 1,
            pitch: to.0.pitch,
        }
    }

    /// Bytes from the first of a row of the input to the last that a load from one of its pixels may reach, if it is one of the
    /// output's whole parts.
    pub(crate) fn line(&self) -> usize {
        (self.width - 1) * self.from.pixel + self.pitch.max(self.from.pixel)
    }

    /// The bytes of a row of the input that windows have, from its first, in ranges of `piece` bytes; or those of each window, where more
    /// columns lie between windows than in them.
    #[inline(always)]
    pub(crate) fn pieces(&self, piece: usize) -> impl Iterator<Item = Range<usize>> + '_ {
        let is_sparse = self.window.stride[1] > 2 * self.window.kernel[1] && self.from.pixel >= self.pitch;
        let (line, pixel) = (self.line(), self.from.pixel);
        (0..if is_sparse { self.columns } else { line.div_ceil(piece) }).map(move |index| match is_sparse {
            true => {
                let columns = self.columns_of(index);
                columns.start * pixel..columns.end * pixel
            }
            false => index * piece..line.min((index + 1) * piece),
        })
    }

    /// The input's rows of a row of windows.
    #[inline(always)]
    pub(crate) fn rows_of(&self, row: usize) -> Range<usize> {
        let first = row * self.window.stride[0];
        let above = self.window.padding[0];
        first.saturating_sub(above)..(first + self.window.kernel[0]).saturating_sub(above).min(self.height)
    }

    /// The first byte of a row of the input.
    #[inline(always)]
    pub(crate) fn row(&self, image: usize, y: usize) -> usize {
        self.from.at(image, y, 0)
    }

    /// The input's columns of a window.
    #[inline(always)]
    pub(crate) fn columns_of(&self, column: usize) -> Range<usize> {
        let first = column * self.window.stride[1];
        let left = self.window.padding[1];
        first.saturating_sub(left)..(first + self.window.kernel[1]).saturating_sub(left).min(self.width)
    }

    /// Bytes between pixels of the input.
    pub(crate) fn pixel(&self) -> usize {
        self.from.pixel
    }

    /// Bytes of the input between windows.
    pub(crate) fn step(&self) -> usize {
        self.window.stride[1] * self.from.pixel
    }

    /// Columns of padding on the left, and from the first window's first column to the last one's end.
    pub(crate) fn padded(&self) -> (usize, usize) {
        let Window { kernel: [_, kernel], stride: [_, stride], padding: [_, left, ..] } = self.window;
        (left, (self.columns - 1) * stride + kernel)
    }

    /// Whether windows follow each other as pixels do, and so do their outputs, of as many bytes.
    pub(crate) fn is_flat(&self) -> bool {
        self.window.stride[1] == 1 && self.from.pixel == self.pitch && self.to.pixel == self.pitch
    }

    /// Columns of the input.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Where in a row of the input the window at column `first` begins, if no window from there to `last` has padding.
    #[inline(always)]
    pub(crate) fn inside(&self, first: usize, last: usize) -> Option<usize> {
        let start = (first * self.window.stride[1]).checked_sub(self.window.padding[1])?;
        let end = last * self.window.stride[1] + self.window.kernel[1] - self.window.padding[1];
        (end <= self.width).then_some(start * self.from.pixel)
    }

    /// Columns of a window.
    pub(crate) fn kernel(&self) -> usize {
        self.window.kernel[1]
    }

    /// Bytes from the first output of a row to another.
    #[inline(always)]
    pub(crate) fn to_column(&self, column: usize) -> usize {
        column * self.to.pixel
    }

    /// The first byte of an output.
    #[inline(always)]
    pub(crate) fn to(&self, image: usize, row: usize, column: usize) -> usize {
        self.to.at(image, row, column)
    }

    /// The output's bytes of a row, if each comes of the byte in its place, of every row of the window.
    pub(crate) fn span(&self, image: usize, row: usize) -> Option<Span> {
        let Window { kernel: [_, columns], stride: [_, right], padding: [_, left, _, after] } = self.window;
        let is_same = (columns, right, left + after) == (1, 1, 0);
        let is_tight = self.from.pixel == self.pitch && self.to.pixel == self.pitch;
        let (to, count) = (self.to(image, row, 0), self.columns * self.pitch);
        (is_same && is_tight).then_some(Span { from: [0; 2], to, count })
    }

    /// The first and the end of the output's bytes of some rows, counted through all images.
    pub(crate) fn written(&self, rows: &Range<usize>) -> (usize, usize) {
        let last = self.to.row(self.rows, rows.end - 1) + (self.columns - 1) * self.to.pixel;
        (self.to.row(self.rows, rows.start), last + self.pitch)
    }
}

impl AveragePool {
    pub(crate) fn new(places: Places, scale: f32, zero_point: u8, finish: Finish) -> Self {
        Self { places, scale, zero_point, finish }
    }

    /// Room for the sums of a row's bytes.
    pub(crate) fn room<S: Simd>(&self) -> Room {
        Room { first: self.places.line().next_multiple_of(S::LANES) * size_of::<i32>(), second: 0 }
    }
}

/// What a sum over a range needs to become one over another: the parts of the old that leave it, and those of the new that are
/// added to it; or all of the new, to nothing. Neither end of a range comes before that of an earlier one.
struct Slide {
    leave: Range<usize>,
    enter: Range<usize>,
    is_new: bool,
}

impl Slide {
    #[inline(always)]
    fn new(old: &Range<usize>, new: &Range<usize>) -> Self {
        let (left, entered) = (new.start - old.start, new.end - old.end);
        match new.start < old.end && left + entered < new.len() {
            true => Self { leave: old.start..new.start, enter: old.end..new.end, is_new: false },
            false => Self { leave: 0..0, enter: new.clone(), is_new: true },
        }
    }
}

/// An average pool of some rows.
pub(crate) struct RunAveragePool<'a> {
    pub(crate) layer: &'a AveragePool,
    pub(crate) run: Run<'a>,
}

impl Job for RunAveragePool<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let (layer, rows) = (self.layer, self.run.rows.clone());
        if rows.is_empty() {
            return;
        }
        let places = &layer.places;
        let from = self.run.from[0];
        let (first, end) = places.written(&rows);
        let to = self.run.to.bytes(first, end);
        let clamp = Clamp::new(simd, layer.finish);
        let scale = simd.splat(layer.scale.to_bits() as i32);
        let line = places.line().next_multiple_of(S::LANES);
        let sums = &mut self.run.work.first.words_mut()[..line];
        let zero = |rows: usize, columns: usize| ((rows * columns) as i32).wrapping_mul(layer.zero_point.into());
        let (mut of, mut rows_in) = (usize::MAX, 0..0);
        for (image, row) in rows_of(rows, places.rows) {
            let new = places.rows_of(row);
            let old = if image == of { rows_in } else { 0..0 };
            let slide = Slide::new(&old, &new);
            (of, rows_in) = (image, new);
            // Where rows begin, as many as are gone through together; those of a larger window are found again for each vector.
            let mut firsts = [[0; FEW_ROWS]; 2];
            let changes = [slide.enter.clone(), slide.leave.clone()];
            for (firsts, rows) in firsts.iter_mut().zip(&changes) {
                firsts.iter_mut().zip(rows.clone()).for_each(|(first, y)| *first = places.row(image, y));
            }
            let is_few = changes.iter().all(|rows| rows.len() <= FEW_ROWS);
            for at in places.pieces(line).flat_map(|range| range.step_by(S::LANES)) {
                let sum = &mut sums[at..][..S::LANES];
                let mut total = if slide.is_new { simd.splat(0) } else { load(simd, sum, 0) };
                macro_rules! bytes {
                    ($first:expr) => {{
                        let bytes = &from[$first + at..][..S::LANES];
                        // SAFETY: the slice has as many bytes as are read.
                        unsafe { simd.load_bytes(bytes.as_ptr()) }
                    }};
                }
                if is_few {
                    for first in &firsts[0][..changes[0].len()] {
                        total = simd.add(total, bytes!(*first));
                    }
                    for first in &firsts[1][..changes[1].len()] {
                        total = simd.sub(total, bytes!(*first));
                    }
                } else {
                    for y in slide.enter.clone() {
                        total = simd.add(total, bytes!(places.row(image, y)));
                    }
                    for y in slide.leave.clone() {
                        total = simd.sub(total, bytes!(places.row(image, y)));
                    }
                }
                // SAFETY: the slice has as many words as a vector.
                unsafe { simd.store(sum.as_mut_ptr(), total) };
            }
            if let Some(span) = places.span(image, row) {
                let zero = simd.splat(zero(rows_in.len(), 1));
                for_span!(simd, S, span, to, clamp, at => simd.requantise(simd.sub(load(simd, sums, at), zero), scale));
                continue;
            }
            for channel in (0..places.pitch).step_by(S::LANES) {
                let (mut total, mut columns) = (simd.splat(0), 0..0);
                for first in (0..places.columns).step_by(4) {
                    // Four outputs are as many bytes as a vector has. Those after the last go nowhere.
                    let mut nowhere = [0u8; 16];
                    let (mut words, mut at) = ([simd.splat(0); 4], [nowhere.as_mut_ptr(); 4]);
                    let count = (places.columns - first).min(4);
                    if let (Some(start), true, 4) = (places.inside(first, first + 3), places.kernel() <= FEW, count) {
                        let zero = simd.splat(zero(rows_in.len(), places.kernel()));
                        for (i, (words, at)) in words.iter_mut().zip(&mut at).enumerate() {
                            let start = start + i * places.step() + channel;
                            let mut sum = simd.sub(load(simd, sums, start), zero);
                            for x in 1..places.kernel() {
                                sum = simd.add(sum, load(simd, sums, start + x * places.pixel()));
                            }
                            *words = simd.requantise(sum, scale);
                            *at = to.wrapping_add(places.to(image, row, first + i) + channel);
                        }
                        // SAFETY: as below.
                        unsafe { simd.store_pieces(at, clamp.bytes(simd, words)) };
                        columns = 0..0;
                        continue;
                    }
                    // Windows without padding after one that they share columns with.
                    let stride = places.step() / places.pixel();
                    if let (Some(start), 4, true) =
                        (places.inside(first, first + 3), count, 2 * stride < places.kernel())
                        && !columns.is_empty()
                        && (columns.start + stride) * places.pixel() == start
                        && columns.len() == places.kernel()
                    {
                        let zero = simd.splat(zero(rows_in.len(), places.kernel()));
                        let old = columns.start * places.pixel() + channel;
                        let new = old + places.kernel() * places.pixel();
                        for (i, (words, at)) in words.iter_mut().zip(&mut at).enumerate() {
                            for more in (i * stride..(i + 1) * stride).map(|column| column * places.pixel()) {
                                let entered = simd.add(total, load(simd, sums, new + more));
                                total = simd.sub(entered, load(simd, sums, old + more));
                            }
                            *words = simd.requantise(simd.sub(total, zero), scale);
                            *at = to.wrapping_add(places.to(image, row, first + i) + channel);
                        }
                        columns = columns.start + 4 * stride..columns.end + 4 * stride;
                        // SAFETY: as below.
                        unsafe { simd.store_pieces(at, clamp.bytes(simd, words)) };
                        continue;
                    }
                    for (i, (words, at)) in words.iter_mut().zip(&mut at).enumerate().take(count) {
                        let new = places.columns_of(first + i);
                        let slide = Slide::new(&columns, &new);
                        columns = new;
                        if slide.is_new {
                            total = simd.splat(0);
                        }
                        for column in slide.enter {
                            total = simd.add(total, load(simd, sums, column * places.pixel() + channel));
                        }
                        for column in slide.leave {
                            total = simd.sub(total, load(simd, sums, column * places.pixel() + channel));
                        }
                        let sum = simd.sub(total, simd.splat(zero(rows_in.len(), columns.len())));
                        *words = simd.requantise(sum, scale);
                        *at = to.wrapping_add(places.to(image, row, first + i) + channel);
                    }
                    // SAFETY: a pixel of the output has `pitch` bytes, whole vectors of words, which were found writable; such a
                    // vector is at most 16 bytes.
                    unsafe { simd.store_pieces(at, clamp.bytes(simd, words)) };
                }
            }
        }
    }
}
