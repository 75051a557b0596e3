//! Max-pools by themselves, which no convolution takes along.
//!
//! The maximum of the rows of a row of windows comes first, in bytes that lie side by side; then that of the columns of each window.
//! Where few channels are left, two or four windows go together, each in a piece of a vector. Padding is left out: the nearest column
//! stands for it, which every window with padding has.

use crate::average_pool::Places;
use crate::depthwise::{Group, groups};
use crate::layout::rows_of;
use crate::operator::{Room, Run};
use crate::simd::{Job, Simd};

/// A max-pool.
#[derive(Debug)]
pub(crate) struct MaxPool {
    pub(crate) places: Places,
    groups: Vec<Group>,
}

impl MaxPool {
    pub(crate) fn new<S: Simd>(places: Places) -> Self {
        Self { groups: groups::<S>(places.pitch), places }
    }

    /// Room for the maxima of a row's columns, and for what is read beyond them.
    pub(crate) fn room<S: Simd>(&self) -> Room {
        Room { first: self.places.line().next_multiple_of(4 * S::LANES), second: 0 }
    }
}

/// A max-pool of some rows.
pub(crate) struct RunMaxPool<'a> {
    pub(crate) layer: &'a MaxPool,
    pub(crate) run: Run<'a>,
}

impl Job for RunMaxPool<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let (places, rows) = (&self.layer.places, self.run.rows.clone());
        if rows.is_empty() {
            return;
        }
        let from = self.run.from[0];
        let (first, end) = places.written(&rows);
        let to = self.run.to.bytes(first, end);
        let (bytes, vector) = (places.line(), 4 * S::LANES);
        let maxima = &mut self.run.work.first.bytes_mut()[..bytes.next_multiple_of(vector)];
        let step = places.row(0, 1) - places.row(0, 0);
        for (image, row) in rows_of(rows, places.rows) {
            let rows = places.rows_of(row);
            let (first, height) = (places.row(image, rows.start), rows.len());
            // Four rows at once, each of them along its bytes: rows may lie so far apart that a cache holds few of one place.
            for y in (0..height).step_by(4) {
                let from = &from[first + y * step..];
                let lines = [0, 1, 2, 3].map(|more: usize| &from[more.min(height - 1 - y) * step..]);
                for (at, maximum) in (0..bytes).step_by(vector).zip(maxima.chunks_exact_mut(vector)) {
                    let to = maximum.as_mut_ptr();
                    // SAFETY: a chunk has as many bytes as a vector, and so have the slices.
                    unsafe {
                        let mut most = if y == 0 { simd.splat_bytes(0) } else { simd.load_pieces([to.cast_const()]) };
                        for line in lines {
                            most = simd.max_bytes(most, simd.load_pieces([line[at..][..vector].as_ptr()]));
                        }
                        simd.store_pieces([to], most);
                    }
                }
            }
            for group in &self.layer.groups {
                let from = maxima.as_ptr().wrapping_add(group.first);
                let to = to.wrapping_add(places.to(image, row, 0) + group.first);
                // SAFETY: columns are below the width, so that pieces end within the maxima; a pixel of the output has `pitch` bytes,
                // whole pieces, which were found writable.
                unsafe {
                    match group.pieces {
                        1 => columns::<S, 1>(simd, places, from, to),
                        2 if S::LANES >= 8 => columns::<S, 2>(simd, places, from, to),
                        4 if S::LANES >= 16 => columns::<S, 4>(simd, places, from, to),
                        pieces => unreachable!("{pieces} pieces of a vector"),
                    }
                }
            }
        }
    }
}

/// The maxima of the columns of each window of a row, for some channels.
///
/// # Safety
/// An `N`th of a vector must be readable at every column after `from`, and writable at every output after `to`.
#[inline(always)]
unsafe fn columns<S: Simd, const N: usize>(simd: S, places: &Places, from: *const u8, to: *mut u8) {
    // Windows that follow each other without a gap, as pieces do in a vector.
    let is_tight = places.step() == 4 * S::LANES / N;
    for first in (0..places.columns).step_by(N) {
        let last = (first + N).min(places.columns) - 1;
        let mut most = simd.splat_bytes(0);
        if let (Some(start), true) = (places.inside(first, last), last + 1 == first + N) {
            let from = from.wrapping_add(start);
            for x in 0..places.kernel() {
                let from = from.wrapping_add(x * places.pixel());
                let mut pieces = [from; N];
                for (piece, from) in pieces.iter_mut().enumerate() {
                    *from = from.wrapping_add(piece * places.step());
                }
                // SAFETY: as the caller promises.
                let bytes = unsafe { if is_tight { simd.load_pieces([from]) } else { simd.load_pieces(pieces) } };
                most = simd.max_bytes(most, bytes);
            }
        } else {
            for x in 0..places.kernel() {
                let mut pieces = [from; N];
                for (piece, from) in pieces.iter_mut().enumerate() {
                    let column = (first + piece).min(last);
                    *from = from.wrapping_add(places.column(column, x) * places.pixel());
                }
                // SAFETY: as the caller promises.
                most = simd.max_bytes(most, unsafe { simd.load_pieces(pieces) });
            }
        }
        let mut nowhere = [0u8; 64];
        let mut pieces = [nowhere.as_mut_ptr(); N];
        for (piece, at) in pieces.iter_mut().enumerate().take(places.columns - first) {
            *at = to.wrapping_add(places.to_column(first + piece));
        }
        // SAFETY: as the caller promises; a piece is at most 64 bytes.
        unsafe { simd.store_pieces(pieces, most) };
    }
}
