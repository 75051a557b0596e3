//! Lookups: a byte for each byte.

use crate::elementwise::Elements;
use crate::layout::PART;
use crate::operator::Run;
use crate::simd::{Job, Simd};

/// A lookup.
#[derive(Debug)]
pub(crate) struct Lookup {
    pub(crate) elements: Elements,
    pub(crate) table: [u8; 256],
}

/// A lookup of some rows.
pub(crate) struct RunLookup<'a> {
    pub(crate) layer: &'a Lookup,
    pub(crate) run: Run<'a>,
}

impl Job for RunLookup<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let (layer, rows) = (self.layer, self.run.rows.clone());
        if rows.is_empty() {
            return;
        }
        let (first, end) = layer.elements.written(&rows);
        let to = self.run.to.bytes(first, end);
        for span in layer.elements.spans(rows) {
            let from = &self.run.from[0][span.from[0]..][..span.count];
            // SAFETY: the output has as many bytes as the span counts.
            unsafe { look_up(simd, &layer.table, from.as_ptr(), to.wrapping_add(span.to), span.count) };
        }
    }
}

/// Looks up some bytes that lie side by side.
///
/// # Safety
/// As many must be readable at `from` and writable at `to`, which may be the same.
#[inline(always)]
pub(crate) unsafe fn look_up<S: Simd>(simd: S, table: &[u8; 256], from: *const u8, to: *mut u8, count: usize) {
    let vector = 4 * S::LANES;
    let (whole, parts) = (count / vector * vector, count / PART * PART);
    // SAFETY: as the caller promises.
    unsafe {
        for at in (0..whole).step_by(vector) {
            let found = simd.look_up(table, simd.load_pieces([from.wrapping_add(at)]));
            simd.store_pieces([to.wrapping_add(at)], found);
        }
        if whole < parts {
            let last = (from.wrapping_add(whole), to.wrapping_add(whole), parts - whole);
            match S::LANES {
                16 => look_up_parts::<S, 4>(simd, table, last),
                _ => look_up_parts::<S, 2>(simd, table, last),
            }
        }
        for at in parts..count {
            to.wrapping_add(at).write(table[usize::from(from.wrapping_add(at).read())]);
        }
    }
}

/// Fewer parts than a vector's `N`.
///
/// # Safety
/// As for [`look_up`].
#[inline(always)]
unsafe fn look_up_parts<S: Simd, const N: usize>(
    simd: S,
    table: &[u8; 256],
    (from, to, count): (*const u8, *mut u8, usize),
) {
    let mut nowhere = [0u8; PART];
    let (mut read, mut written) = ([from; N], [nowhere.as_mut_ptr(); N]);
    for part in 0..count / PART {
        (read[part], written[part]) = (from.wrapping_add(PART * part), to.wrapping_add(PART * part));
    }
    // SAFETY: as the caller promises; what has no place of its own is the first part, and goes nowhere.
    unsafe { simd.store_pieces(written, simd.look_up(table, simd.load_pieces(read))) };
}
