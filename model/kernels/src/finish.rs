//! What follows a sum: bias, skip, shift and clamp, for a vector of output channels.

use crate::aligned::Aligned;
use crate::network::Sums;
use crate::simd::Simd;

/// Bias, multipliers and shifts of a layer, one vector of output channels after the other, zeros after the last channel.
#[derive(Debug)]
pub(crate) struct Finish {
    lanes: usize,
    bias: Aligned,
    shift: Aligned,
    multiplier: Option<Aligned>,
}

/// The activation that is added.
#[derive(Clone, Copy)]
pub(crate) struct Skip<'a> {
    /// The buffer.
    pub(crate) from: &'a [u8],
}

impl Finish {
    /// Lays out a layer's numbers for vectors of `lanes` words.
    pub(crate) fn new(sums: &Sums<'_>, lanes: usize) -> Self {
        let length = sums.bias.len().next_multiple_of(lanes);
        let pad =
            |words: Vec<i32>| Aligned::collect(length, words.into_iter().chain(std::iter::repeat(0)).take(length));
        Self {
            lanes,
            bias: pad(sums.bias.to_vec()),
            shift: pad(sums.shift.iter().map(|shift| i32::from(*shift)).collect()),
            multiplier: sums.skip.map(|_| pad(sums.multiplier.iter().map(|value| i32::from(*value)).collect())),
        }
    }

    /// Vectors of output channels.
    pub(crate) fn vectors(&self) -> usize {
        self.bias.words().len() / self.lanes
    }

    /// The bias of a vector of channels.
    #[inline(always)]
    pub(crate) fn bias<S: Simd>(&self, simd: S, vector: usize) -> S::Words {
        load(simd, &self.bias, vector)
    }

    /// The shifts of a vector of channels.
    #[inline(always)]
    pub(crate) fn shift<S: Simd>(&self, simd: S, vector: usize) -> S::Words {
        load(simd, &self.shift, vector)
    }

    /// Adds the skip to the sums of a vector of channels; `pixel` is the first byte of the skip's pixel.
    #[inline(always)]
    pub(crate) fn add_skip<S: Simd>(
        &self,
        simd: S,
        vector: usize,
        sums: S::Words,
        skip: Skip<'_>,
        pixel: usize,
    ) -> S::Words {
        let Some(multiplier) = &self.multiplier else { return sums };
        let bytes = &skip.from[pixel + vector * S::LANES..][..S::LANES];
        // SAFETY: the slice has as many bytes as are read.
        let bytes = unsafe { simd.load_bytes(bytes.as_ptr()) };
        simd.add(sums, simd.mul(bytes, load(simd, multiplier, vector)))
    }
}

/// How a layer's vectors of output channels are blocked: groups of `vectors`, then single ones: the first of each and how many.
pub(crate) fn groups(total: usize, vectors: usize) -> impl Iterator<Item = (usize, usize)> + Clone {
    let full = total / vectors * vectors;
    let many = (0..full).step_by(vectors).map(move |first| (first, vectors));
    many.chain((full..total).map(|first| (first, 1)))
}

/// Shifts and clamps a vector of sums and writes them at `at`.
#[inline(always)]
pub(crate) fn store<S: Simd>(simd: S, sums: S::Words, shift: S::Words, to: &mut [u8], at: usize) {
    let bytes = &mut to[at..][..S::LANES];
    // SAFETY: the slice has as many bytes as are written.
    unsafe { simd.store_clamped(bytes.as_mut_ptr(), simd.sar(sums, shift)) }
}

#[inline(always)]
fn load<S: Simd>(simd: S, list: &Aligned, vector: usize) -> S::Words {
    let words = &list.words()[vector * S::LANES..][..S::LANES];
    // SAFETY: the slice has as many words as are read.
    unsafe { simd.load(words.as_ptr()) }
}
