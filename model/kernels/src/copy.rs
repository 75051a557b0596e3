//! Copies of an activation: one of the inputs of a concatenation into its place, and an activation into a wider border.

use crate::layout::{Layout, PART, View};
use crate::operator::Run;
use crate::simd::{Job, Simd};

/// A copy.
#[derive(Debug)]
pub(crate) struct Copy {
    from: View,
    to: View,
    height: usize,
    width: usize,
    channels: usize,
    /// Bytes that are copied of a pixel: whole parts where what lies after the channels is written later or means nothing.
    count: usize,
}

impl Copy {
    /// Copies to channel `first` of the output. What is after the last channel is written later, if it means anything.
    pub(crate) fn new(from: &Layout, to: (&Layout, View), first: usize) -> Self {
        let (channels, whole) = (from.channels, from.channels.next_multiple_of(PART));
        let count = if first + whole <= to.0.pitch { whole } else { channels };
        let to = View { first: to.1.first + first, ..to.1 };
        Self { from: from.view(), to, height: from.height, width: from.width, channels, count }
    }

    /// Rows of an image.
    pub(crate) fn height(&self) -> usize {
        self.height
    }
}

/// A copy of some rows.
pub(crate) struct RunCopy<'a> {
    pub(crate) layer: &'a Copy,
    pub(crate) run: Run<'a>,
}

impl Job for RunCopy<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, _: S) {
        let (layer, rows) = (self.layer, self.run.rows.clone());
        if rows.is_empty() {
            return;
        }
        let last = layer.to.row(layer.height, rows.end - 1) + (layer.width - 1) * layer.to.pixel;
        let to = self.run.to.bytes(layer.to.row(layer.height, rows.start), last + layer.count);
        for row in rows {
            let (mut from, mut at) = (layer.from.row(layer.height, row), layer.to.row(layer.height, row));
            for _ in 0..layer.width {
                let bytes = &self.run.from[0][from..][..layer.count];
                let to = to.wrapping_add(at);
                // SAFETY: `count` bytes of every pixel were found writable, and buffers are apart.
                unsafe {
                    if layer.count.is_multiple_of(PART) {
                        for part in (0..layer.count).step_by(PART) {
                            let part_of = bytes.as_ptr().add(part).cast::<[u8; PART]>();
                            to.add(part).cast::<[u8; PART]>().write(*part_of);
                        }
                    } else {
                        std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, layer.channels);
                    }
                }
                (from, at) = (from + layer.from.pixel, at + layer.to.pixel);
            }
        }
    }
}
