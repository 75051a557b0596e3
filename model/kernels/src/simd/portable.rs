//! The operations in plain Rust: what runs where nothing better is known, and what the others are tested against.

use super::{Job, Simd};

/// Vectors of `N` words as arrays. Different `N` give the kernels the geometry of different processors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portable<const N: usize>;

impl<const N: usize> Simd for Portable<N> {
    const LANES: usize = N;
    const VECTORS: usize = 2;
    const FEW_PIXELS_VECTORS: usize = 2;
    const PIXELS: usize = if N == 16 { 12 } else { 4 };
    const DOT4: u64 = 4;
    const DOT2: u64 = 2;

    type Words = [i32; N];
    /// Halves `2 * i` and `2 * i + 1`.
    type Halves = [[i16; 2]; N];

    #[inline(always)]
    fn vectorize<J: Job>(self, job: J) -> J::Output {
        job.run(self)
    }

    #[inline(always)]
    unsafe fn load(self, from: *const i32) -> [i32; N] {
        // SAFETY: the caller has N words there; an array of them needs no other alignment than the unaligned read asks.
        unsafe { from.cast::<[i32; N]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut i32, words: [i32; N]) {
        // SAFETY: as for `load`.
        unsafe { to.cast::<[i32; N]>().write_unaligned(words) }
    }

    #[inline(always)]
    unsafe fn broadcast(self, from: *const u8) -> [i32; N] {
        // SAFETY: the caller has four bytes there.
        [unsafe { from.cast::<i32>().read_unaligned() }; N]
    }

    #[inline(always)]
    unsafe fn load_bytes(self, from: *const u8) -> [i32; N] {
        // SAFETY: the caller has N bytes there.
        unsafe { from.cast::<[u8; N]>().read() }.map(i32::from)
    }

    #[inline(always)]
    unsafe fn load_bytes_as_halves(self, from: *const u8) -> [[i16; 2]; N] {
        // SAFETY: the caller has 2 N bytes there.
        unsafe { from.cast::<[[u8; 2]; N]>().read() }.map(|pair| pair.map(i16::from))
    }

    #[inline(always)]
    unsafe fn store_halves(self, to: *mut i16, halves: [[i16; 2]; N]) {
        // SAFETY: the caller has 2 N halves there.
        unsafe { to.cast::<[[i16; 2]; N]>().write_unaligned(halves) }
    }

    #[inline(always)]
    unsafe fn store_clamped(self, to: *mut u8, words: [i32; N]) {
        // SAFETY: the caller has N bytes there.
        unsafe { to.cast::<[u8; N]>().write(words.map(|word| word.clamp(0, 127) as u8)) }
    }

    #[inline(always)]
    fn splat(self, word: i32) -> [i32; N] {
        [word; N]
    }

    #[inline(always)]
    fn dot4(self, sums: [i32; N], bytes: [i32; N], weights: [i32; N]) -> [i32; N] {
        let mut sums = sums;
        for ((sum, bytes), weights) in sums.iter_mut().zip(bytes).zip(weights) {
            for (byte, weight) in bytes.to_ne_bytes().into_iter().zip(weights.to_ne_bytes()) {
                *sum = sum.wrapping_add(i32::from(byte) * i32::from(weight as i8));
            }
        }
        sums
    }

    #[inline(always)]
    fn dot2(self, sums: [i32; N], halves: [i32; N], weights: [i32; N]) -> [i32; N] {
        let mut sums = sums;
        for ((sum, halves), weights) in sums.iter_mut().zip(halves).zip(weights) {
            for (half, weight) in split(halves).into_iter().zip(split(weights)) {
                *sum = sum.wrapping_add(i32::from(half) * i32::from(weight));
            }
        }
        sums
    }

    #[inline(always)]
    fn add(self, a: [i32; N], b: [i32; N]) -> [i32; N] {
        zip(a, b, i32::wrapping_add)
    }

    #[inline(always)]
    fn sub(self, a: [i32; N], b: [i32; N]) -> [i32; N] {
        zip(a, b, i32::wrapping_sub)
    }

    #[inline(always)]
    fn mul(self, a: [i32; N], b: [i32; N]) -> [i32; N] {
        zip(a, b, i32::wrapping_mul)
    }

    #[inline(always)]
    fn max(self, a: [i32; N], b: [i32; N]) -> [i32; N] {
        zip(a, b, i32::max)
    }

    #[inline(always)]
    fn shl<const BITS: u32>(self, words: [i32; N]) -> [i32; N] {
        words.map(|word| word << BITS)
    }

    #[inline(always)]
    fn sar(self, words: [i32; N], counts: [i32; N]) -> [i32; N] {
        zip(words, counts, |word, count| word >> count)
    }

    #[inline(always)]
    fn add_halves(self, a: Self::Halves, b: Self::Halves) -> Self::Halves {
        zip(a, b, |a, b| zip(a, b, i16::wrapping_add))
    }

    #[inline(always)]
    fn sub_halves(self, a: Self::Halves, b: Self::Halves) -> Self::Halves {
        zip(a, b, |a, b| zip(a, b, i16::wrapping_sub))
    }

    #[inline(always)]
    fn shl_halves<const BITS: u32>(self, halves: Self::Halves) -> Self::Halves {
        halves.map(|pair| pair.map(|half| half << BITS))
    }
}

/// The two halves of a word, in the order of memory.
#[inline(always)]
fn split(word: i32) -> [i16; 2] {
    let [a, b, c, d] = word.to_ne_bytes();
    [i16::from_ne_bytes([a, b]), i16::from_ne_bytes([c, d])]
}

#[inline(always)]
fn zip<T: Copy, const M: usize>(mut a: [T; M], b: [T; M], operation: impl Fn(T, T) -> T) -> [T; M] {
    for (a, b) in a.iter_mut().zip(b) {
        *a = operation(*a, b);
    }
    a
}
