//! Multiplications, also of a channel by one number: products in words, requantised.

use crate::elementwise::{Elements, for_span};
use crate::network::Finish;
use crate::operator::{Clamp, Room, Run};
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

impl Multiply {
    /// Room for a row of the second input.
    pub(crate) fn room(&self) -> Room {
        Room { first: self.elements.repeated().unwrap_or_default(), second: 0 }
    }
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
        let (height, repeated) = (layer.elements.height(), layer.elements.repeated());
        let Run { from, work, .. } = self.run;
        let mut done = rows.start;
        while done < rows.end {
            // The second input may be repeated for each image.
            let (image, end) = (done / height, rows.end.min((done / height + 1) * height));
            let second = match repeated {
                Some(bytes) => {
                    let row = &mut work.first.bytes_mut()[..bytes];
                    layer.elements.repeat(image, from[1], row);
                    &*row
                }
                None => from[1],
            };
            for span in layer.elements.spans(done..end) {
                let a = from[0][span.from[0]..][..span.count].as_ptr();
                let b = second[span.from[1]..][..span.count].as_ptr();
                for_span!(simd, S, span, to, clamp, at => {
                    // SAFETY: the slices have as many bytes as the span counts.
                    let (a, b) = unsafe { (simd.load_bytes(a.add(at)), simd.load_bytes(b.add(at))) };
                    let product = simd.mul(simd.sub(a, zero_points[0]), simd.sub(b, zero_points[1]));
                    simd.requantise(product, scale)
                });
            }
            done = end;
        }
    }
}
