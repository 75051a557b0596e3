//! Max-pools by themselves, which no convolution takes along.
//!
//! The maximum of the rows of a row of windows comes first, column by column; then that of the columns of each window. Padding
//! is left out.

use crate::average_pool::Places;
use crate::layout::PART;
use crate::operator::{Room, Run};
use crate::simd::{Job, Simd};

/// A max-pool.
#[derive(Debug)]
pub(crate) struct MaxPool {
    pub(crate) places: Places,
}

impl MaxPool {
    /// Room for the maxima of a row's columns, of as many channels as a vector has bytes.
    pub(crate) fn room<S: Simd>(&self) -> Room {
        Room { first: self.places.width() * 4 * S::LANES, second: 0 }
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
        let (first, end) = (places.to(rows.start, 0), places.to(rows.end - 1, places.columns - 1) + places.pitch);
        let to = self.run.to.bytes(first, end);
        let width = 4 * S::LANES;
        let maxima = &mut self.run.work.first.bytes_mut()[..places.width() * width];
        for row in rows {
            let (first, height, step) = places.rows_of(row);
            for channel in (0..places.pitch).step_by(width) {
                for (column, maximum) in maxima.chunks_exact_mut(width).enumerate() {
                    let first = first + column * places.pixel() + channel;
                    let mut most = simd.splat_bytes(0);
                    for y in 0..height {
                        let bytes = &from[first + y * step..][..width];
                        // SAFETY: the slice has as many bytes as are read.
                        most = simd.max_bytes(most, unsafe { simd.load_pieces([bytes.as_ptr()]) });
                    }
                    // SAFETY: a chunk has as many bytes as a vector.
                    unsafe { simd.store_pieces([maximum.as_mut_ptr()], most) };
                }
                for column in 0..places.columns {
                    let columns = places.columns_of(column);
                    let mut most = simd.splat_bytes(0);
                    for maximum in maxima[columns.start * width..columns.end * width].chunks_exact(width) {
                        // SAFETY: a chunk has as many bytes as a vector.
                        most = simd.max_bytes(most, unsafe { simd.load_pieces([maximum.as_ptr()]) });
                    }
                    let at = to.wrapping_add(places.to(row, column) + channel);
                    let left = (places.pitch - channel).min(width);
                    // SAFETY: a pixel of the output has `pitch` bytes, whole parts, which were found writable.
                    unsafe {
                        if left == width {
                            simd.store_pieces([at], most);
                        } else {
                            let mut all = [0u8; 64];
                            simd.store_pieces([all.as_mut_ptr()], most);
                            for part in (0..left).step_by(PART) {
                                at.add(part).cast::<[u8; PART]>().write(*all.as_ptr().add(part).cast::<[u8; PART]>());
                            }
                        }
                    }
                }
            }
        }
    }
}
