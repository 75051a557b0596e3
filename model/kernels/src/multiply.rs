//! Multiplications, also of a channel by one number: products in words, requantised.

use crate::elementwise::{Elements, for_span};
use crate::network::Finish;
use crate::operator::{Clamp, Run};
use crate::simd::{Job, Simd};

/// A multiplication.
#[derive(Debug)]
pub(crate) struct Multiply {
    pub(crate) elements: Elements,
    /// Of the inputs.
    pub(crate) zero_points: [u8; 2],
    pub(crate) scale: f32,
    pub(crate) finish: Finish,
}

/// A multiplication of some rows.
pub(crate) struct RunMultiply<'a> {
    pub(crate) layer: &'a Multiply,
    pub(crate) run: Run<'a>,
}

impl Job for RunMultiply<'_> {
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
        let [a, b] = layer.zero_points;
        let zero_points = [simd.splat(a.into()), simd.splat(b.into())];
        let scale = simd.splat(layer.scale.to_bits() as i32);
        for span in layer.elements.spans(rows) {
            let [a, b] = [0, 1].map(|i| self.run.from[i][span.from[i]..][..span.count].as_ptr());
            for_span!(simd, S, span, to, clamp, at => {
                // SAFETY: the slices have as many bytes as the span counts.
                let (a, b) = unsafe { (simd.load_bytes(a.add(at)), simd.load_bytes(b.add(at))) };
                let product = simd.mul(simd.sub(a, zero_points[0]), simd.sub(b, zero_points[1]));
                simd.requantise(product, scale)
            });
        }
    }
}
