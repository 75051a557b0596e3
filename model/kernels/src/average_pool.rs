//! Average pools: the sum of each window, requantised.
//!
//! The rows of a row of windows are added first, column by column, in words; then the columns of each window. So a large
//! window costs little more than a small one, and windows that overlap share the sums of their columns. Padding counts as the
//! zero point, and so adds nothing: it is left out, and zero points are taken off for what is inside.

use std::ops::Range;

use crate::layout::{Layout, View, rows_of};
use crate::network::{Finish, Window};
use crate::operator::{Clamp, Room, Run};
use crate::simd::{Job, Simd};

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

    /// Columns of the input.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// The first byte of the input's rows of a row of windows, how many there are, and the bytes between them.
    #[inline(always)]
    pub(crate) fn rows_of(&self, image: usize, y: usize) -> (usize, usize, usize) {
        let first = y * self.window.stride[0];
        let [above, ..] = self.window.padding;
        let end = (first + self.window.kernel[0]).saturating_sub(above).min(self.height);
        let first = first.saturating_sub(above);
        (self.from.at(image, first, 0), end.saturating_sub(first), self.from.row)
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

    /// The input's column that a window has at its column `x`: where that is padding, the nearest that it has.
    #[inline(always)]
    pub(crate) fn column(&self, column: usize, x: usize) -> usize {
        (column * self.window.stride[1] + x).saturating_sub(self.window.padding[1]).min(self.width - 1)
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

    /// Room for the sums of a row's columns, of as many channels as a vector has words.
    pub(crate) fn room<S: Simd>(&self) -> Room {
        Room { first: self.places.width * S::LANES * size_of::<i32>(), second: 0 }
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
        let sums = &mut self.run.work.first.words_mut()[..places.width * S::LANES];
        for (image, row) in rows_of(rows, places.rows) {
            let (first, height, step) = places.rows_of(image, row);
            for channel in (0..places.pitch).step_by(S::LANES) {
                for (column, sum) in sums.chunks_exact_mut(S::LANES).enumerate() {
                    let first = first + column * places.pixel() + channel;
                    let mut total = simd.splat(0);
                    for y in 0..height {
                        let bytes = &from[first + y * step..][..S::LANES];
                        // SAFETY: the slice has as many bytes as are read.
                        total = simd.add(total, unsafe { simd.load_bytes(bytes.as_ptr()) });
                    }
                    // SAFETY: a chunk has as many words as a vector.
                    unsafe { simd.store(sum.as_mut_ptr(), total) };
                }
                for first in (0..places.columns).step_by(4) {
                    // Four outputs are as many bytes as a vector has. Those after the last go nowhere.
                    let mut nowhere = [0u8; 16];
                    let (mut words, mut at) = ([simd.splat(0); 4], [nowhere.as_mut_ptr(); 4]);
                    let count = (places.columns - first).min(4);
                    for (i, (words, at)) in words.iter_mut().zip(&mut at).enumerate().take(count) {
                        let columns = places.columns_of(first + i);
                        let inside = (height * columns.len()) as i32;
                        let mut total = simd.splat(inside.wrapping_mul(-i32::from(layer.zero_point)));
                        for sum in sums[columns.start * S::LANES..columns.end * S::LANES].chunks_exact(S::LANES) {
                            // SAFETY: a chunk has as many words as a vector.
                            total = simd.add(total, unsafe { simd.load(sum.as_ptr()) });
                        }
                        (*words, *at) = (
                            simd.requantise(total, scale),
                            to.wrapping_add(places.to(image, row, first + i) + channel),
                        );
                    }
                    // SAFETY: a pixel of the output has `pitch` bytes, whole vectors of words, which were found writable; such a
                    // vector is at most 16 bytes.
                    unsafe { simd.store_pieces(at, clamp.bytes(simd, words)) };
                }
            }
        }
    }
}
