//! Copies of an activation: one of the inputs of a concatenation into its place, and an activation into a wider border.

use crate::layout::{Layout, PART, View, rows_of};
use crate::operator::Run;
use crate::simd::{Job, Simd};

/// A copy.
#[derive(Debug)]
pub(crate) struct Copy {
    from: View,
    to: View,
    height: usize,
    width: usize,
    /// Bytes that are copied of a pixel: whole parts where what lies after the channels is written later or means nothing.
    count: usize,
}

impl Copy {
    /// Copies to channel `first` of the output. What is after the last channel is written later, if it means anything.
    pub(crate) fn new(from: &Layout, to: (&Layout, View), first: usize) -> Self {
        let (channels, whole) = (from.channels, from.channels.next_multiple_of(PART));
        let count = if first + whole <= to.0.pitch { whole } else { channels };
        let to = View { first: to.1.first + first, ..to.1 };
        Self { from: from.view(), to, height: from.height, width: from.width, count }
    }

    /// Rows of an image.
    pub(crate) fn height(&self) -> usize {
        self.height
    }
}

/// Some copies, one after the other, of some rows.
pub(crate) struct RunCopy<'a> {
    pub(crate) layers: &'a [Copy],
    pub(crate) run: Run<'a>,
}

impl Job for RunCopy<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, _: S) {
        for layer in self.layers {
            self.run.copy(layer);
        }
    }
}

impl Run<'_> {
    #[inline(always)]
    fn copy(&mut self, layer: &Copy) {
        let rows = self.rows.clone();
        if rows.is_empty() {
            return;
        }
        let last = layer.to.row(layer.height, rows.end - 1) + (layer.width - 1) * layer.to.pixel;
        let to = self.to.bytes(layer.to.row(layer.height, rows.start), last + layer.count);
        // Pixels side by side may be written whole, all but the last, if what follows is written later.
        let is_tight = layer.to.pixel == layer.count;
        let last = if is_tight { layer.width.saturating_sub(followers(layer.count)) } else { 0 };
        for (image, y) in rows_of(rows, layer.height) {
            let (mut from, mut at) = (layer.from.at(image, y, 0), layer.to.at(image, y, 0));
            for x in 0..layer.width {
                let bytes = &self.from[0][from..][..layer.count.max(PART)];
                let (to, whole) = (to.wrapping_add(at), layer.count / PART * PART);
                // SAFETY: `count` bytes of every pixel were found writable, or a part if pixels follow; and buffers are apart.
                unsafe {
                    for part in (0..whole).step_by(PART) {
                        let part_of = bytes.as_ptr().add(part).cast::<[u8; PART]>();
                        to.add(part).cast::<[u8; PART]>().write(*part_of);
                    }
                    if whole < layer.count {
                        // The last part overlaps the one before.
                        let first = layer.count.saturating_sub(PART);
                        let part_of = bytes.as_ptr().add(first).cast::<[u8; PART]>();
                        let count = if x < last { PART } else { layer.count };
                        write(&*part_of, count, to.add(first));
                    }
                }
                (from, at) = (from + layer.from.pixel, at + layer.to.pixel);
            }
        }
    }
}

/// How many pixels of so many bytes, side by side, a part reaches into beyond the one that it begins with.
pub(crate) fn followers(count: usize) -> usize {
    PART.saturating_sub(count).div_ceil(count)
}

/// Writes the first `count` of some bytes, or all of them: in two pieces that overlap.
///
/// # Safety
/// As many must be writable at `to`.
#[inline(always)]
pub(crate) unsafe fn write(bytes: &[u8; PART], count: usize, to: *mut u8) {
    macro_rules! two {
        ($size:literal) => {{
            let from = bytes.as_ptr();
            // SAFETY: `count` is between the size and twice of it.
            unsafe {
                to.cast::<[u8; $size]>().write(from.cast::<[u8; $size]>().read());
                let last = count - $size;
                to.add(last).cast::<[u8; $size]>().write(from.add(last).cast::<[u8; $size]>().read());
            }
        }};
    }
    match count {
        PART.. => {
            // SAFETY: as the caller promises.
            unsafe { to.cast::<[u8; PART]>().write(*bytes) }
        }
        8.. => two!(8),
        4.. => two!(4),
        2.. => two!(2),
        _ => two!(1),
    }
}
