//! Additions: two products and a shift in words, packed as sums are.

use crate::elementwise::{Elements, for_span};
use crate::network::Finish;
use crate::operator::{Clamp, Run};
use crate::simd::{Job, Simd};

/// `(multipliers[0] * a + multipliers[1] * b + constant) >> shift`, and a zero point.
#[derive(Debug)]
pub(crate) struct Add {
    pub(crate) elements: Elements,
    multipliers: [i32; 2],
    /// Half of the divisor, less what the zero points of the inputs make.
    constant: i32,
    shift: u8,
    finish: Finish,
}

impl Add {
    pub(crate) fn new(
        elements: Elements,
        multipliers: [i32; 2],
        shift: u8,
        zero_points: [u8; 2],
        finish: Finish,
    ) -> Self {
        let product = |i: usize| multipliers[i].wrapping_mul(zero_points[i].into());
        let half = 1i32.wrapping_shl(u32::from(shift).wrapping_sub(1));
        let constant = half.wrapping_sub(product(0)).wrapping_sub(product(1));
        Self { elements, multipliers, constant, shift, finish }
    }
}

/// An addition of some rows.
pub(crate) struct RunAdd<'a> {
    pub(crate) layer: &'a Add,
    pub(crate) run: Run<'a>,
}

impl Job for RunAdd<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let (layer, rows) = (self.layer, self.run.rows.clone());
        if rows.is_empty() {
            return;
        }
        let (first, end) = layer.elements.written(&rows);
        let to = self.run.to.bytes(first, end);
        let clamp = Clamp::new(simd, layer.finish);
        let multipliers = [simd.splat(layer.multipliers[0]), simd.splat(layer.multipliers[1])];
        let (constant, shift) = (simd.splat(layer.constant), simd.splat(i32::from(layer.shift)));
        for span in layer.elements.spans(rows) {
            let [a, b] = [0, 1].map(|i| self.run.from[i][span.from[i]..][..span.count].as_ptr());
            for_span!(simd, S, span, to, clamp, at => {
                // SAFETY: the slices have as many bytes as the span counts.
                let (a, b) = unsafe { (simd.load_bytes(a.add(at)), simd.load_bytes(b.add(at))) };
                let sum = simd.add(simd.mul(a, multipliers[0]), simd.mul(b, multipliers[1]));
                simd.sar(simd.add(sum, constant), shift)
            });
        }
    }
}
