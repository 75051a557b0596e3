//! The few operations that the kernels are written in, and what carries them out.
//!
//! A kernel is generic over a [`Simd`], so that there is one convolution and not one per processor. A value of a type that
//! implements it is a proof that the processor has the instructions (it can be made only after asking), which is why the
//! arithmetic is safe to call. Memory operations take pointers and are not: their callers state why they stay in bounds.
//!
//! Every method is `inline(always)`: the compiler may use an instruction only inside a function that enables it, which is
//! what [`Simd::vectorize`] is, and all of a kernel must end up in there.

mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "aarch64")]
mod neon;

#[cfg(target_arch = "aarch64")]
pub(crate) use neon::{Neon, NeonDot};
pub(crate) use portable::Portable;
#[cfg(all(test, target_arch = "x86_64"))]
pub(crate) use x86::EvexVnni;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512Vnni, AvxVnni};

/// Something to do with one set of instructions.
pub(crate) trait Job {
    /// What comes out.
    type Output;

    /// Does it. Must be `inline(always)`, and so must all that it calls with `simd`.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// A set of vector instructions: words are i32, halves are i16, and a vector of either, or of bytes, has the same number of
/// bits.
///
/// Arithmetic wraps. "Word `i`" of a vector of bytes or halves is the four bytes or two halves that lie where word `i` of a
/// vector of words lies. A *part* is 128 bits: four words, 16 bytes.
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// Words in a vector; there are twice as many halves and four times as many bytes.
    const LANES: usize;
    /// How many pixels a block of convolution by 1, 2 and 4 vectors of output channels has at most.
    const PIXELS: [usize; 3];
    /// How many vectors of output channels such a block has, if there are as many: 2 or 4.
    const VECTORS: usize;
    /// How many pixels a depthwise block has.
    const DEPTHWISE_PIXELS: usize;
    /// Whether weights are read from memory for every pixel, for want of registers.
    const READS_WEIGHTS: bool = false;
    /// Whether [`Simd::dot8`] costs less than two [`Simd::dot4`].
    const HAS_PAIRS: bool = false;
    /// Whether the usual shapes are worth code of their own.
    const IS_COMPILED: bool = true;
    /// Vectors of weights that a product of four bytes takes, if those may exceed 127: 1 or 2.
    const WIDE_PARTS: usize;
    /// Whether [`Simd::dot4`] takes such bytes as `x - 128`.
    const IS_SIGNED: bool;
    /// What [`Simd::dot4`] costs for bytes of at most 127, in instructions of the port that is short; for others.
    const DOT4: [u64; 2];
    /// What [`Simd::dot2`] costs, likewise.
    const DOT2: u64;

    /// A vector of i32.
    type Words: Copy;
    /// A vector of i16.
    type Halves: Copy;
    /// A vector of u8.
    type Bytes: Copy;

    /// Runs a job in a function that the instructions are enabled in.
    fn vectorize<J: Job>(self, job: J) -> J::Output;

    /// Says that the bytes at some place, which may be any, are read soon.
    #[inline(always)]
    fn prefetch(self, _: *const u8) {}

    /// Reads a vector of words.
    ///
    /// # Safety
    /// [`Simd::LANES`] words must be readable at `from`; alignment is free.
    unsafe fn load(self, from: *const i32) -> Self::Words;

    /// Writes a vector of words.
    ///
    /// # Safety
    /// [`Simd::LANES`] words must be writable at `to`; alignment is free.
    unsafe fn store(self, to: *mut i32, words: Self::Words);

    /// Reads four bytes, which may lie anywhere, into every word.
    ///
    /// # Safety
    /// Four bytes must be readable at `from`.
    unsafe fn broadcast(self, from: *const u8) -> Self::Words;

    /// Reads [`Simd::LANES`] bytes, each into a word.
    ///
    /// # Safety
    /// [`Simd::LANES`] bytes must be readable at `from`.
    unsafe fn load_bytes(self, from: *const u8) -> Self::Words;

    /// Reads twice [`Simd::LANES`] bytes, each into a half.
    ///
    /// # Safety
    /// Twice [`Simd::LANES`] bytes must be readable at `from`.
    unsafe fn load_bytes_as_halves(self, from: *const u8) -> Self::Halves;

    /// Writes a vector of halves.
    ///
    /// # Safety
    /// Twice [`Simd::LANES`] halves must be writable at `to`; alignment is free.
    unsafe fn store_halves(self, to: *mut i16, halves: Self::Halves);

    /// Reads a vector of bytes, in `N` pieces of whole parts.
    ///
    /// # Safety
    /// An `N`th of a vector must be readable at each of them.
    unsafe fn load_pieces<const N: usize>(self, from: [*const u8; N]) -> Self::Bytes;

    /// Writes a vector of bytes in `N` pieces: 1, 2 or 4.
    ///
    /// # Safety
    /// An `N`th of a vector must be writable at each of them.
    unsafe fn store_pieces<const N: usize>(self, to: [*mut u8; N], bytes: Self::Bytes);

    /// The same word everywhere.
    fn splat(self, word: i32) -> Self::Words;
    /// The same half everywhere.
    fn splat_halves(self, half: i16) -> Self::Halves;
    /// The same byte everywhere.
    fn splat_bytes(self, byte: u8) -> Self::Bytes;
    /// Four bytes a word, as [`Simd::dot4`] wants them.
    fn prepare<const WIDE: bool>(self, bytes: Self::Words) -> [Self::Words; 2];
    /// `sums` plus, in every word, the four products of bytes, which are unsigned, with `weights`, signed and at least -127.
    /// Bytes are at most 127 unless `WIDE`.
    fn dot4<const WIDE: bool>(
        self,
        sums: Self::Words,
        bytes: [Self::Words; 2],
        weights: [Self::Words; 2],
    ) -> Self::Words;
    /// `sums` plus, in every word, the products of eight bytes of at most 127. Of each half the four products of positive
    /// weights must sum to at most 32,767, and those of negative ones to -32,768 or more.
    #[inline(always)]
    fn dot8(self, sums: Self::Words, bytes: [Self::Words; 2], weights: [Self::Words; 2]) -> Self::Words {
        let sums = self.dot4::<false>(sums, [bytes[0]; 2], [weights[0]; 2]);
        self.dot4::<false>(sums, [bytes[1]; 2], [weights[1]; 2])
    }
    /// The same pointer, of which the compiler does not know that it is.
    #[inline(always)]
    fn hide(self, pointer: *const i32) -> *const i32 {
        pointer
    }
    /// `sums` plus, in every word, the two products of halves; both signed, not all four -2^15.
    fn dot2(self, sums: Self::Words, halves: Self::Words, weights: Self::Words) -> Self::Words;
    /// The sum of words.
    fn add(self, a: Self::Words, b: Self::Words) -> Self::Words;
    /// The difference of words.
    fn sub(self, a: Self::Words, b: Self::Words) -> Self::Words;
    /// The low 32 bits of the product of words.
    fn mul(self, a: Self::Words, b: Self::Words) -> Self::Words;
    /// The larger word.
    fn max(self, a: Self::Words, b: Self::Words) -> Self::Words;
    /// Words shifted left.
    fn shl<const BITS: u32>(self, words: Self::Words) -> Self::Words;
    /// Words shifted right, keeping the sign, each by its own count in 0..=31.
    fn sar(self, words: Self::Words, counts: Self::Words) -> Self::Words;
    /// Words as f32, times `scale` (whose words are the bits of f32), rounded to integers, ties to even. The products must be
    /// within +-2^30.
    fn requantise(self, words: Self::Words, scale: Self::Words) -> Self::Words;
    /// Words plus `zero_point`, clamped to bytes in `low..=high`. Part `i` has, of each of the four vectors in turn, the four
    /// words of part `i`: the order that [`Simd::interleave`] undoes.
    fn narrow(
        self,
        words: [Self::Words; 4],
        zero_point: Self::Halves,
        low: Self::Bytes,
        high: Self::Bytes,
    ) -> Self::Bytes;
    /// Puts what [`Simd::narrow`] gives into the order of its vectors: all of the first, all of the second, …
    fn unshuffle(self, bytes: Self::Bytes) -> Self::Bytes;
    /// Words of a byte of each vector. Part `i` of vector `v` has the four words of bytes `4 * v..` of part `i`.
    fn interleave(self, rows: [Self::Bytes; 4]) -> [Self::Words; 4];
    /// The bytes of words.
    fn bytes(self, words: Self::Words) -> Self::Bytes;
    /// What a table has for each byte.
    fn look_up(self, table: &[u8; 256], bytes: Self::Bytes) -> Self::Bytes;
    /// The even and the odd pieces of two vectors, each of `N` pieces: 2 or 4, of whole parts.
    #[inline(always)]
    fn unzip<const N: usize>(self, two: [Self::Bytes; 2]) -> [Self::Bytes; 2] {
        unreachable!("a vector of one part has no {N} of them; {}", two.len())
    }
    /// The larger byte.
    fn max_bytes(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    /// The sum of halves.
    fn add_halves(self, a: Self::Halves, b: Self::Halves) -> Self::Halves;
    /// The difference of halves.
    fn sub_halves(self, a: Self::Halves, b: Self::Halves) -> Self::Halves;
    /// Halves shifted left.
    fn shl_halves<const BITS: u32>(self, halves: Self::Halves) -> Self::Halves;
}

#[cfg(test)]
mod tests;
