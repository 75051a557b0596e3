//! The operations in plain Rust: what runs where nothing better is known, and what the others are tested against.

use super::{Job, Simd};

/// Vectors of `N` words as arrays. Different `N` give the kernels the geometry of different processors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portable<const N: usize>;

impl<const N: usize> Simd for Portable<N> {
    const LANES: usize = N;
    const PIXELS: [usize; 3] = [4, 4, 2];
    const VECTORS: usize = if N == 8 { 2 } else { 4 };
    const DEPTHWISE_PIXELS: usize = if N == 16 { 2 } else { 1 };
    const IS_COMPILED: bool = false;
    // Tests go the ways of all processors.
    const READS_WEIGHTS: bool = N == 16;
    const HAS_PAIRS: bool = N == 16;
    const WIDE_PARTS: usize = if N == 16 { 2 } else { 1 };
    const IS_SIGNED: bool = N == 4;
    const DOT4: [u64; 2] = [4, 4];
    const DOT2: u64 = 2;

    type Words = [i32; N];
    /// Halves `2 * i` and `2 * i + 1`.
    type Halves = [[i16; 2]; N];
    /// Bytes from `4 * i`.
    type Bytes = [[u8; 4]; N];

    #[inline(never)]
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
    unsafe fn load_pieces<const M: usize>(self, from: [*const u8; M]) -> [[u8; 4]; N] {
        let mut bytes = [[0; 4]; N];
        for (piece, from) in bytes.as_flattened_mut().chunks_exact_mut(4 * N / M).zip(from) {
            // SAFETY: the caller has a piece there, and `bytes` is not there.
            unsafe { std::ptr::copy_nonoverlapping(from, piece.as_mut_ptr(), piece.len()) };
        }
        bytes
    }

    #[inline(always)]
    unsafe fn store_pieces<const M: usize>(self, to: [*mut u8; M], bytes: [[u8; 4]; N]) {
        for (piece, to) in bytes.as_flattened().chunks_exact(4 * N / M).zip(to) {
            // SAFETY: as for `load_pieces`.
            unsafe { std::ptr::copy_nonoverlapping(piece.as_ptr(), to, piece.len()) };
        }
    }

    #[inline(always)]
    fn splat(self, word: i32) -> [i32; N] {
        [word; N]
    }

    #[inline(always)]
    fn splat_halves(self, half: i16) -> [[i16; 2]; N] {
        [[half; 2]; N]
    }

    #[inline(always)]
    fn splat_bytes(self, byte: u8) -> [[u8; 4]; N] {
        [[byte; 4]; N]
    }

    #[inline(always)]
    fn prepare<const WIDE: bool>(self, bytes: [i32; N]) -> [[i32; N]; 2] {
        if !WIDE {
            [bytes; 2]
        } else if Self::IS_SIGNED {
            [bytes.map(|word| word ^ i32::from_ne_bytes([0x80; 4])); 2]
        } else if Self::WIDE_PARTS == 2 {
            // Even and odd bytes, each in a half.
            let part = |odd: usize| {
                bytes.map(|word| {
                    let bytes = word.to_ne_bytes();
                    join([bytes[odd].into(), bytes[2 + odd].into()])
                })
            };
            [part(0), part(1)]
        } else {
            [bytes; 2]
        }
    }

    #[inline(always)]
    fn dot4<const WIDE: bool>(self, sums: [i32; N], bytes: [[i32; N]; 2], weights: [[i32; N]; 2]) -> [i32; N] {
        if WIDE && Self::WIDE_PARTS == 2 {
            return self.dot2(self.dot2(sums, bytes[0], weights[0]), bytes[1], weights[1]);
        }
        let mut sums = sums;
        for ((sum, bytes), weights) in sums.iter_mut().zip(bytes[0]).zip(weights[0]) {
            for (byte, weight) in bytes.to_ne_bytes().into_iter().zip(weights.to_ne_bytes()) {
                let byte = if WIDE && Self::IS_SIGNED { i32::from(byte as i8) } else { i32::from(byte) };
                *sum = sum.wrapping_add(byte * i32::from(weight as i8));
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
    fn requantise(self, words: [i32; N], scale: [i32; N]) -> [i32; N] {
        zip(words, scale, |word, scale| round(word as f32 * f32::from_bits(scale as u32)))
    }

    #[inline(always)]
    fn narrow(
        self,
        words: [[i32; N]; 4],
        zero_point: [[i16; 2]; N],
        low: [[u8; 4]; N],
        high: [[u8; 4]; N],
    ) -> [[u8; 4]; N] {
        let mut bytes = [[0; 4]; N];
        for (place, bytes) in bytes.iter_mut().enumerate() {
            let (part, vector) = (place / 4, place % 4);
            for (i, byte) in bytes.iter_mut().enumerate() {
                let word = words[vector][4 * part + i].saturating_add(zero_point[0][0].into());
                *byte = word.clamp(low[0][0].into(), high[0][0].into()) as u8;
            }
        }
        bytes
    }

    #[inline(always)]
    fn unshuffle(self, bytes: [[u8; 4]; N]) -> [[u8; 4]; N] {
        let mut ordered = bytes;
        for (place, four) in ordered.iter_mut().enumerate() {
            let (vector, part) = (place / (N / 4), place % (N / 4));
            *four = bytes[4 * part + vector];
        }
        ordered
    }

    #[inline(always)]
    fn interleave(self, rows: [[[u8; 4]; N]; 4]) -> [[i32; N]; 4] {
        let mut words = [[0; N]; 4];
        for (vector, words) in words.iter_mut().enumerate() {
            for (place, word) in words.iter_mut().enumerate() {
                let (part, i) = (place / 4, place % 4);
                *word = i32::from_ne_bytes(rows.map(|row| row[4 * part + vector][i]));
            }
        }
        words
    }

    #[inline(always)]
    fn bytes(self, words: [i32; N]) -> [[u8; 4]; N] {
        words.map(i32::to_ne_bytes)
    }

    #[inline(always)]
    fn look_up(self, table: &[u8; 256], bytes: [[u8; 4]; N]) -> [[u8; 4]; N] {
        bytes.map(|four| four.map(|byte| table[usize::from(byte)]))
    }

    #[inline(always)]
    fn unzip<const M: usize>(self, two: [[[u8; 4]; N]; 2]) -> [[[u8; 4]; N]; 2] {
        let (all, piece) = (two.as_flattened(), N / M);
        [0, 1].map(|odd| std::array::from_fn(|place| all[(2 * (place / piece) + odd) * piece + place % piece]))
    }

    #[inline(always)]
    fn max_bytes(self, a: [[u8; 4]; N], b: [[u8; 4]; N]) -> [[u8; 4]; N] {
        zip(a, b, |a, b| zip(a, b, u8::max))
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

/// The integer nearest to a number within +-2^30, ties to even: without the call of a library that `round_ties_even` is on a
/// processor without SSE4.1. Adding 1.5 * 2^23 leaves no bits for a fraction, and it is rounded away as the sum is.
#[inline(always)]
fn round(value: f32) -> i32 {
    const SHIFT: f32 = 12_582_912.0;
    if value.abs() < 4_194_304.0 { (value + SHIFT - SHIFT) as i32 } else { value.round_ties_even() as i32 }
}

/// The two halves of a word, in the order of memory.
#[inline(always)]
fn split(word: i32) -> [i16; 2] {
    let [a, b, c, d] = word.to_ne_bytes();
    [i16::from_ne_bytes([a, b]), i16::from_ne_bytes([c, d])]
}

/// A word of two halves.
#[inline(always)]
fn join(halves: [i16; 2]) -> i32 {
    let [a, b] = halves.map(i16::to_ne_bytes);
    i32::from_ne_bytes([a[0], a[1], b[0], b[1]])
}

#[inline(always)]
fn zip<T: Copy, U: Copy, const M: usize>(mut a: [T; M], b: [U; M], operation: impl Fn(T, U) -> T) -> [T; M] {
    for (a, b) in a.iter_mut().zip(b) {
        *a = operation(*a, b);
    }
    a
}
