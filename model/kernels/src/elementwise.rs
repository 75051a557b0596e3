//! What is done to elements one by one goes along rows: whole rows at once where pixels of all buffers lie alike, else pixel by
//! pixel.

use std::ops::Range;

use crate::layout::{Layout, View};

/// Where the elements of two inputs and an output lie.
#[derive(Debug)]
pub(crate) struct Elements {
    from: [View; 2],
    to: View,
    height: usize,
    width: usize,
    /// Bytes of a pixel of the output, whole parts.
    pitch: usize,
    /// Whether the second input has one pixel for all.
    broadcast: bool,
}

/// Bytes that lie side by side: the first of each input and of the output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) from: [usize; 2],
    pub(crate) to: usize,
    /// How many bytes, whole parts of 16.
    pub(crate) count: usize,
}

impl Elements {
    /// The second input may have one row and one column.
    pub(crate) fn new(from: [&Layout; 2], to: (&Layout, View)) -> Self {
        let (height, width) = (from[0].height, from[0].width);
        let broadcast = (from[1].height, from[1].width) != (height, width);
        Self { from: from.map(Layout::view), to: to.1, height, width, pitch: to.0.pitch, broadcast }
    }

    /// Rows of an image.
    pub(crate) fn height(&self) -> usize {
        self.height
    }

    /// The first and the end of the output's bytes of some rows.
    pub(crate) fn written(&self, rows: &Range<usize>) -> (usize, usize) {
        let last = self.to.row(self.height, rows.end - 1) + (self.width - 1) * self.to.pixel;
        (self.to.row(self.height, rows.start), last + self.pitch)
    }

    /// The spans of some rows.
    #[inline(always)]
    pub(crate) fn spans(&self, rows: Range<usize>) -> impl Iterator<Item = Span> + '_ {
        let same = [self.from[0].pixel, self.from[1].pixel, self.to.pixel].iter().all(|pixel| *pixel == self.pitch);
        let together = if same && !self.broadcast { self.width } else { 1 };
        rows.flat_map(move |row| {
            let (image, y) = (row / self.height, row % self.height);
            (0..self.width).step_by(together).map(move |x| {
                let other = if self.broadcast { self.from[1].at(image, 0, 0) } else { self.from[1].at(image, y, x) };
                let from = [self.from[0].at(image, y, x), other];
                Span { from, to: self.to.at(image, y, x), count: together * self.pitch }
            })
        })
    }
}

/// Runs `$body` for every vector of words of a span, four at a time and then one by one, and writes what it makes of them.
/// `$at` is the byte from the span's first. A macro and no closure, since a closure cannot be told to be inlined.
macro_rules! for_span {
    ($simd:expr, $S:ident, $span:expr, $to:expr, $clamp:expr, $at:ident => $body:expr) => {{
        let (simd, span, to) = ($simd, $span, $to);
        let mut done = 0;
        while done + 4 * $S::LANES <= span.count {
            let mut words = [simd.splat(0); 4];
            for (vector, words) in words.iter_mut().enumerate() {
                let $at = done + vector * $S::LANES;
                *words = $body;
            }
            // SAFETY: the output has as many bytes as the span counts.
            unsafe { simd.store_pieces([to.wrapping_add(span.to + done)], $clamp.bytes(simd, words)) };
            done += 4 * $S::LANES;
        }
        while done < span.count {
            let $at = done;
            let words = $body;
            let mut nowhere = [0u8; 48];
            let nowhere = nowhere.as_mut_ptr();
            let pieces = [to.wrapping_add(span.to + done), nowhere, nowhere, nowhere];
            // SAFETY: the output has as many bytes as the span counts, whole vectors of words, which are at most 16.
            unsafe { simd.store_pieces(pieces, $clamp.bytes(simd, [words; 4])) };
            done += $S::LANES;
        }
    }};
}
pub(crate) use for_span;
