//! What is done to elements one by one goes along rows: whole rows at once where pixels of all buffers lie alike, else pixel by
//! pixel.

use std::ops::Range;

use crate::layout::{Layout, View, rows_of};

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
        let together = if self.goes_by_rows() { self.width } else { 1 };
        rows_of(rows, self.height).flat_map(move |(image, y)| {
            (0..self.width).step_by(together).map(move |x| {
                let other = match self.broadcast {
                    true if together == self.width => 0,
                    true => self.from[1].at(image, 0, 0),
                    false => self.from[1].at(image, y, x),
                };
                let from = [self.from[0].at(image, y, x), other];
                Span { from, to: self.to.at(image, y, x), count: together * self.pitch }
            })
        })
    }

    /// Whether a span is a row.
    fn goes_by_rows(&self) -> bool {
        let same = |view: &View| view.pixel == self.pitch;
        same(&self.from[0]) && same(&self.to) && (self.broadcast || same(&self.from[1]))
    }

    /// The bytes of a row of the second input, if that has one pixel for all and spans are rows: it is repeated then, and spans begin at
    /// its first byte.
    pub(crate) fn repeated(&self) -> Option<usize> {
        (self.broadcast && self.goes_by_rows()).then_some(self.width * self.pitch)
    }

    /// Repeats the pixel of an image for a row.
    pub(crate) fn repeat(&self, image: usize, from: &[u8], to: &mut [u8]) {
        let pixel = &from[self.from[1].at(image, 0, 0)..][..self.pitch];
        to.chunks_exact_mut(self.pitch).for_each(|to| to.copy_from_slice(pixel));
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
