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
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512Vnni, AvxVnni};

/// Something to do with one set of instructions.
pub(crate) trait Job {
    /// What comes out.
    type Output;

    /// Does it. Must be `inline(always)`, and so must all that it calls with `simd`.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// A set of vector instructions: words are i32, halves are i16, and a vector of either has the same number of bits.
///
/// Arithmetic wraps. "Word `i`" of a vector of bytes or halves is the four bytes or two halves that lie where word `i` of a
/// vector of words lies.
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// Words in a vector; there are twice as many halves.
    const LANES: usize;
    /// How many vectors of output channels a block of the direct convolution holds in registers.
    const VECTORS: usize;
    /// The same where there are few pixels. Sums of one pixel depend on each other: where adding a product takes several
    /// cycles, more vectors keep the processor busy.
    const FEW_PIXELS_VECTORS: usize;
    /// How many pixels a block of [`Simd::VECTORS`] has at most; one of more vectors has fewer.
    const PIXELS: usize;
    /// What [`Simd::dot4`] costs, in instructions of the port that is short.
    const DOT4: u64;
    /// What [`Simd::dot2`] costs, likewise.
    const DOT2: u64;

    /// A vector of i32.
    type Words: Copy;
    /// A vector of i16.
    type Halves: Copy;

    /// Runs a job in a function that the instructions are enabled in.
    fn vectorize<J: Job>(self, job: J) -> J::Output;

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

    /// Clamps every word to 0..=127 and writes it as a byte.
    ///
    /// # Safety
    /// [`Simd::LANES`] bytes must be writable at `to`.
    unsafe fn store_clamped(self, to: *mut u8, words: Self::Words);

    /// The same word everywhere.
    fn splat(self, word: i32) -> Self::Words;
    /// `sums` plus, in every word, the four products of bytes: `bytes` are unsigned and at most 127, `weights` signed and at
    /// least -127.
    fn dot4(self, sums: Self::Words, bytes: Self::Words, weights: Self::Words) -> Self::Words;
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
    /// The sum of halves.
    fn add_halves(self, a: Self::Halves, b: Self::Halves) -> Self::Halves;
    /// The difference of halves.
    fn sub_halves(self, a: Self::Halves, b: Self::Halves) -> Self::Halves;
    /// Halves shifted left.
    fn shl_halves<const BITS: u32>(self, halves: Self::Halves) -> Self::Halves;
}

#[cfg(test)]
mod tests;
