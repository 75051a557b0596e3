//! What all operators are run with.

use std::ops::Range;

use crate::aligned::Aligned;
use crate::simd::Simd;

/// What a step of a plan is run with.
pub(crate) struct Run<'a> {
    /// Rows of the output, counted through all images.
    pub(crate) rows: Range<usize>,
    /// The whole buffers of the first and the second input; where there is one input, both are its.
    pub(crate) from: [&'a [u8]; 2],
    /// Where the results go.
    pub(crate) to: To<'a>,
    /// Memory for what is between.
    pub(crate) work: &'a mut Work,
}

/// Where results go.
pub(crate) enum To<'a> {
    /// Into the buffer of an activation, of which this is the part that begins at byte `base`.
    Activation { bytes: &'a mut [u8], base: usize },
    /// Into logits, one image after the other, of which this is the part that begins at `base`.
    Logits { logits: &'a mut [i32], base: usize },
}

impl To<'_> {
    /// The place of the first byte of the whole buffer, of which `first..end` are about to be written.
    ///
    /// # Panics
    /// If they are not all in this part.
    pub(crate) fn bytes(&mut self, first: usize, end: usize) -> *mut u8 {
        let Self::Activation { bytes, base } = self else { panic!("logits are no activation") };
        assert!(*base <= first && end <= *base + bytes.len(), "{first}..{end} of {} bytes from {base}", bytes.len());
        bytes.as_mut_ptr().wrapping_sub(*base)
    }
}

/// Memory of one thread, as large as the greediest operator of a plan needs.
#[derive(Debug)]
pub(crate) struct Work {
    /// Where operators that need two lists have the first.
    pub(crate) first: Aligned,
    /// And the second.
    pub(crate) second: Aligned,
}

/// How much of it an operator needs, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Room {
    pub(crate) first: usize,
    pub(crate) second: usize,
}

impl Work {
    pub(crate) fn new(room: Room) -> Self {
        Self { first: Aligned::zeros(room.first), second: Aligned::zeros(room.second) }
    }
}

impl Room {
    pub(crate) fn max(self, other: Self) -> Self {
        Self { first: self.first.max(other.first), second: self.second.max(other.second) }
    }

    pub(crate) fn bytes(self) -> usize {
        self.first + self.second
    }
}

/// The zero point and the clamp of an activation, in vectors.
#[derive(Clone, Copy)]
pub(crate) struct Clamp<S: Simd> {
    zero_point: S::Halves,
    low: S::Bytes,
    high: S::Bytes,
}

impl<S: Simd> Clamp<S> {
    #[inline(always)]
    pub(crate) fn new(simd: S, finish: crate::network::Finish) -> Self {
        Self {
            zero_point: simd.splat_halves(finish.zero_point.into()),
            low: simd.splat_bytes(finish.low),
            high: simd.splat_bytes(finish.high),
        }
    }

    /// Four vectors as bytes, in the order of [`Simd::narrow`].
    #[inline(always)]
    pub(crate) fn narrow(&self, simd: S, words: [S::Words; 4]) -> S::Bytes {
        simd.narrow(words, self.zero_point, self.low, self.high)
    }

    /// Four vectors as bytes, one vector after the other.
    #[inline(always)]
    pub(crate) fn bytes(&self, simd: S, words: [S::Words; 4]) -> S::Bytes {
        simd.unshuffle(self.narrow(simd, words))
    }
}

/// Reads a vector of words of a list.
#[inline(always)]
pub(crate) fn load<S: Simd>(simd: S, words: &[i32], at: usize) -> S::Words {
    let words = &words[at..][..S::LANES];
    // SAFETY: the slice has as many words as are read.
    unsafe { simd.load(words.as_ptr()) }
}
