//! Lookups: a byte for each byte.

use crate::elementwise::Elements;
use crate::operator::Run;
use crate::simd::{Job, Simd};

/// A lookup.
#[derive(Debug)]
pub(crate) struct Lookup {
    pub(crate) elements: Elements,
    pub(crate) table: [u8; 256],
    /// Channels of the output, and the bytes of its pixels.
    pub(crate) channels: usize,
    pub(crate) pitch: usize,
}

/// A lookup of some rows.
pub(crate) struct RunLookup<'a> {
    pub(crate) layer: &'a Lookup,
    pub(crate) run: Run<'a>,
}

impl Job for RunLookup<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, _: S) {
        let (layer, rows) = (self.layer, self.run.rows.clone());
        if rows.is_empty() {
            return;
        }
        let (first, end) = layer.elements.written(&rows);
        let to = self.run.to.bytes(first, end);
        // Of few channels, those only; of many, all bytes of a row, which is less to count.
        let (pixel, count) = if 2 * layer.channels <= layer.pitch { (layer.pitch, layer.channels) } else { (1, 1) };
        for span in layer.elements.spans(rows) {
            let from = &self.run.from[0][span.from[0]..][..span.count];
            for place in (0..span.count).step_by(pixel).flat_map(|pixel| pixel..pixel + count) {
                // SAFETY: the output has as many bytes as the span counts, whole pixels.
                unsafe { to.wrapping_add(span.to + place).write(layer.table[usize::from(from[place])]) };
            }
        }
    }
}
