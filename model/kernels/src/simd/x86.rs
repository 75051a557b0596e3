//! x86-64: AVX2, AVX-VNNI (256 bits) and AVX-512 VNNI.

use core::arch::x86_64::*;

use super::{Job, Simd};

/// AVX2. `maddubs` adds two products in 16 bits and saturates, which it never does here: activations are at most 127 and
/// weights at least -127, so a pair of products is within +-32,258.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2(());

/// AVX-VNNI: the instructions of VNNI on 256 bits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AvxVnni(());

/// The same instructions as [`AvxVnni`] in the encoding of AVX-512, so that what is made for that is tested where there is this.
#[cfg(test)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct EvexVnni(());

/// AVX-512 F, BW and VNNI.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512Vnni(());

impl Avx2 {
    /// The proof that this processor has AVX2, if it has.
    pub(crate) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }
}

impl AvxVnni {
    /// The proof that this processor has AVX2 and AVX-VNNI, if it has.
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("avxvnni")).then_some(Self(()))
    }
}

#[cfg(test)]
impl EvexVnni {
    /// The proof that this processor has AVX2, and VNNI in AVX-512 on 256 bits, if it has.
    pub(crate) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni");
        has.then_some(Self(()))
    }
}

impl Avx512Vnni {
    /// The proof that this processor has AVX-512 F, BW and VNNI, if it has.
    pub(crate) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vnni");
        has.then_some(Self(()))
    }
}

/// What AVX2 and AVX-VNNI share: all but the products.
macro_rules! operations_of_256_bits {
    () => {
        type Words = __m256i;
        type Halves = __m256i;
        type Bytes = __m256i;

        #[inline(always)]
        fn prefetch(self, from: *const u8) {
            // SAFETY: it touches nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
        }

        #[inline(always)]
        unsafe fn load(self, from: *const i32) -> __m256i {
            // SAFETY: `self` proves AVX2; the caller has 32 bytes there.
            unsafe { _mm256_loadu_si256(from.cast()) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut i32, words: __m256i) {
            // SAFETY: `self` proves AVX2; the caller has 32 bytes there.
            unsafe { _mm256_storeu_si256(to.cast(), words) }
        }

        #[inline(always)]
        unsafe fn broadcast(self, from: *const u8) -> __m256i {
            // SAFETY: `self` proves AVX2; the caller has 4 bytes there.
            unsafe { _mm256_set1_epi32(from.cast::<i32>().read_unaligned()) }
        }

        #[inline(always)]
        unsafe fn load_bytes(self, from: *const u8) -> __m256i {
            // SAFETY: `self` proves AVX2; the caller has 8 bytes there.
            unsafe { _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast())) }
        }

        #[inline(always)]
        unsafe fn load_bytes_as_halves(self, from: *const u8) -> __m256i {
            // SAFETY: `self` proves AVX2; the caller has 16 bytes there.
            unsafe { _mm256_cvtepu8_epi16(_mm_loadu_si128(from.cast())) }
        }

        #[inline(always)]
        unsafe fn store_halves(self, to: *mut i16, halves: __m256i) {
            // SAFETY: `self` proves AVX2; the caller has 32 bytes there.
            unsafe { _mm256_storeu_si256(to.cast(), halves) }
        }

        #[inline(always)]
        unsafe fn load_pieces<const N: usize>(self, from: [*const u8; N]) -> __m256i {
            // SAFETY: `self` proves AVX2; the caller has 32 bytes there, or 16 at each.
            unsafe {
                match N {
                    1 => _mm256_loadu_si256(from[0].cast()),
                    _ => _mm256_loadu2_m128i(from[1 % N].cast(), from[0].cast()),
                }
            }
        }

        #[inline(always)]
        unsafe fn store_pieces<const N: usize>(self, to: [*mut u8; N], bytes: __m256i) {
            // SAFETY: `self` proves AVX2; the caller has 32 bytes there, or 16 or 8 at each.
            unsafe {
                let (a, b) = (_mm256_castsi256_si128(bytes), _mm256_extracti128_si256::<1>(bytes));
                match N {
                    1 => _mm256_storeu_si256(to[0].cast(), bytes),
                    2 => {
                        _mm_storeu_si128(to[0].cast(), a);
                        _mm_storeu_si128(to[1 % N].cast(), b);
                    }
                    _ => {
                        _mm_storel_epi64(to[0].cast(), a);
                        _mm_storeh_pd(to[1 % N].cast(), _mm_castsi128_pd(a));
                        _mm_storel_epi64(to[2 % N].cast(), b);
                        _mm_storeh_pd(to[3 % N].cast(), _mm_castsi128_pd(b));
                    }
                }
            }
        }

        #[inline(always)]
        fn splat(self, word: i32) -> __m256i {
            // SAFETY: `self` proves AVX2, for this and all that follows.
            unsafe { _mm256_set1_epi32(word) }
        }

        #[inline(always)]
        fn splat_halves(self, half: i16) -> __m256i {
            // SAFETY: as for `splat`.
            unsafe { _mm256_set1_epi16(half) }
        }

        #[inline(always)]
        fn splat_bytes(self, byte: u8) -> __m256i {
            // SAFETY: as for `splat`.
            unsafe { _mm256_set1_epi8(byte as i8) }
        }

        #[inline(always)]
        fn requantise(self, words: __m256i, scale: __m256i) -> __m256i {
            // SAFETY: as for `splat`.
            unsafe { _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_cvtepi32_ps(words), _mm256_castsi256_ps(scale))) }
        }

        #[inline(always)]
        fn narrow(self, words: [__m256i; 4], zero_point: __m256i, low: __m256i, high: __m256i) -> __m256i {
            // SAFETY: as for `splat`. Saturation only shortens what the clamp cuts off.
            unsafe {
                let a = _mm256_adds_epi16(_mm256_packs_epi32(words[0], words[1]), zero_point);
                let b = _mm256_adds_epi16(_mm256_packs_epi32(words[2], words[3]), zero_point);
                _mm256_min_epu8(_mm256_max_epu8(_mm256_packus_epi16(a, b), low), high)
            }
        }

        #[inline(always)]
        fn unshuffle(self, bytes: __m256i) -> __m256i {
            // SAFETY: as for `splat`.
            unsafe { _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)) }
        }

        #[inline(always)]
        fn interleave(self, rows: [__m256i; 4]) -> [__m256i; 4] {
            // SAFETY: as for `splat`.
            unsafe {
                let [a, b, c, d] = rows;
                let (ab, cd) = (_mm256_unpacklo_epi8(a, b), _mm256_unpacklo_epi8(c, d));
                let (ab_high, cd_high) = (_mm256_unpackhi_epi8(a, b), _mm256_unpackhi_epi8(c, d));
                [
                    _mm256_unpacklo_epi16(ab, cd),
                    _mm256_unpackhi_epi16(ab, cd),
                    _mm256_unpacklo_epi16(ab_high, cd_high),
                    _mm256_unpackhi_epi16(ab_high, cd_high),
                ]
            }
        }

        #[inline(always)]
        fn bytes(self, words: __m256i) -> __m256i {
            words
        }

        #[inline(always)]
        fn look_up(self, table: &[u8; 256], bytes: __m256i) -> __m256i {
            // SAFETY: as for `splat`; a row of the table has 16 bytes.
            unsafe {
                let mut found = _mm256_setzero_si256();
                for (index, row) in table.as_chunks::<16>().0.iter().enumerate() {
                    // 0x70 and a place for bytes that are in this row, at least 0x80 for others, which give 0.
                    let place = _mm256_xor_si256(bytes, _mm256_set1_epi8((index << 4) as i8));
                    let place = _mm256_adds_epu8(place, _mm256_set1_epi8(0x70));
                    let row = _mm256_broadcastsi128_si256(_mm_loadu_si128(row.as_ptr().cast()));
                    found = _mm256_or_si256(found, _mm256_shuffle_epi8(row, place));
                }
                found
            }
        }

        #[inline(always)]
        fn unzip<const N: usize>(self, [a, b]: [__m256i; 2]) -> [__m256i; 2] {
            // SAFETY: as for `splat`.
            unsafe { [_mm256_permute2x128_si256::<0x20>(a, b), _mm256_permute2x128_si256::<0x31>(a, b)] }
        }

        #[inline(always)]
        fn max_bytes(self, a: __m256i, b: __m256i) -> __m256i {
            // SAFETY: as for `splat`.
            unsafe { _mm256_max_epu8(a, b) }
        }

        #[inline(always)]
        fn add(self, a: __m256i, b: __m256i) -> __m256i {
            // SAFETY: as for `splat`.
            unsafe { _mm256_add_epi32(a, b) }
        }

        #[inline(always)]
        fn sub(self, a: __m256i, b: __m256i) -> __m256i {
            // SAFETY: as for `splat`.
            unsafe { _mm256_sub_epi32(a, b) }
        }

        #[inline(always)]
        fn mul(self, a: __m256i, b: __m256i) -> __m256i {
            // SAFETY: as for `splat`.
            unsafe { _mm256_mullo_epi32(a, b) }
        }

        #[inline(always)]
        fn max(self, a: __m256i, b: __m256i) -> __m256i {
            // SAFETY: as for `splat`.
            unsafe { _mm256_max_epi32(a, b) }
        }

        #[inline(always)]
        fn shl<const BITS: u32>(self, words: __m256i) -> __m256i {
            // SAFETY: as for `splat`.
            unsafe { _mm256_sll_epi32(words, _mm_cvtsi32_si128(BITS as i32)) }
        }

        #[inline(always)]
        fn sar(self, words: __m256i, counts: __m256i) -> __m256i {
            // SAFETY: as for `splat`.
            unsafe { _mm256_srav_epi32(words, counts) }
        }

        #[inline(always)]
        fn add_halves(self, a: __m256i, b: __m256i) -> __m256i {
            // SAFETY: as for `splat`.
            unsafe { _mm256_add_epi16(a, b) }
        }

        #[inline(always)]
        fn sub_halves(self, a: __m256i, b: __m256i) -> __m256i {
            // SAFETY: as for `splat`.
            unsafe { _mm256_sub_epi16(a, b) }
        }

        #[inline(always)]
        fn shl_halves<const BITS: u32>(self, halves: __m256i) -> __m256i {
            // SAFETY: as for `splat`.
            unsafe { _mm256_sll_epi16(halves, _mm_cvtsi32_si128(BITS as i32)) }
        }
    };
}

/// Registers of a block: 2 x 4 or 4 x 2 sums, 2 broadcasts, 2 products and the ones; weights from memory: 13 of 16.
impl Simd for Avx2 {
    const LANES: usize = 8;
    const PIXELS: [usize; 3] = [4, 4, 2];
    const VECTORS: usize = 4;
    const DEPTHWISE_PIXELS: usize = 1;
    const READS_WEIGHTS: bool = true;
    const HAS_PAIRS: bool = true;
    const WIDE_PARTS: usize = 2;
    const IS_SIGNED: bool = false;
    const DOT4: [u64; 2] = [2, 2];
    const DOT2: u64 = 1;

    #[inline(always)]
    fn vectorize<J: Job>(self, job: J) -> J::Output {
        #[target_feature(enable = "avx2")]
        #[inline(never)]
        fn run<J: Job>(simd: Avx2, job: J) -> J::Output {
            job.run(simd)
        }
        // SAFETY: `self` proves AVX2.
        unsafe { run(self, job) }
    }

    #[inline(always)]
    fn prepare<const WIDE: bool>(self, bytes: __m256i) -> [__m256i; 2] {
        // SAFETY: `self` proves AVX2.
        unsafe {
            if WIDE {
                [_mm256_and_si256(bytes, _mm256_set1_epi16(0xff)), _mm256_srli_epi16::<8>(bytes)]
            } else {
                [bytes, bytes]
            }
        }
    }

    #[inline(always)]
    fn dot4<const WIDE: bool>(self, sums: __m256i, bytes: [__m256i; 2], weights: [__m256i; 2]) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe {
            if WIDE {
                let even = _mm256_add_epi32(sums, _mm256_madd_epi16(bytes[0], weights[0]));
                _mm256_add_epi32(even, _mm256_madd_epi16(bytes[1], weights[1]))
            } else {
                let pairs = _mm256_maddubs_epi16(bytes[0], weights[0]);
                _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
            }
        }
    }

    #[inline(always)]
    fn dot8(self, sums: __m256i, bytes: [__m256i; 2], weights: [__m256i; 2]) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe {
            let pairs = _mm256_maddubs_epi16(bytes[0], weights[0]);
            let pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(bytes[1], weights[1]));
            _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }

    #[inline(always)]
    fn hide(self, mut pointer: *const i32) -> *const i32 {
        // SAFETY: does nothing; what the pointer leads to is not touched here.
        #[allow(clippy::pointers_in_nomem_asm_block)]
        unsafe {
            core::arch::asm!("/* {0} */", inout(reg) pointer, options(nomem, nostack, preserves_flags))
        };
        pointer
    }

    #[inline(always)]
    fn dot2(self, sums: __m256i, halves: __m256i, weights: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_add_epi32(sums, _mm256_madd_epi16(halves, weights)) }
    }

    operations_of_256_bits!();
}

/// Products of VNNI on 256 bits. Registers of a block: 6 x 2 sums, 2 weights and a broadcast: 15 of 16.
macro_rules! vnni_of_256_bits {
    ($name:ident, $features:literal, $dot4:ident, $dot2:literal) => {
        impl Simd for $name {
            const LANES: usize = 8;
            const PIXELS: [usize; 3] = [8, 6, 2];
            const VECTORS: usize = 2;
            const DEPTHWISE_PIXELS: usize = 1;
            const WIDE_PARTS: usize = 1;
            const IS_SIGNED: bool = false;
            const DOT4: [u64; 2] = [1, 1];
            const DOT2: u64 = 1;

            #[inline(always)]
            fn vectorize<J: Job>(self, job: J) -> J::Output {
                #[target_feature(enable = $features)]
                #[inline(never)]
                fn run<J: Job>(simd: $name, job: J) -> J::Output {
                    job.run(simd)
                }
                // SAFETY: `self` proves these features.
                unsafe { run(self, job) }
            }

            #[inline(always)]
            fn prepare<const WIDE: bool>(self, bytes: __m256i) -> [__m256i; 2] {
                [bytes, bytes]
            }

            #[inline(always)]
            fn dot4<const WIDE: bool>(self, sums: __m256i, bytes: [__m256i; 2], weights: [__m256i; 2]) -> __m256i {
                // SAFETY: `self` proves the features.
                unsafe { $dot4(sums, bytes[0], weights[0]) }
            }

            #[inline(always)]
            fn dot2(self, sums: __m256i, halves: __m256i, weights: __m256i) -> __m256i {
                #[target_feature(enable = $features)]
                #[inline]
                fn dot2(mut sums: __m256i, halves: __m256i, weights: __m256i) -> __m256i {
                    // SAFETY: the instruction is one of the features'. In words, as LLVM makes two instructions of the intrinsic.
                    unsafe {
                        core::arch::asm!(
                            $dot2, inout(ymm_reg) sums, in(ymm_reg) halves, in(ymm_reg) weights,
                            options(pure, nomem, nostack, preserves_flags),
                        )
                    };
                    sums
                }
                // SAFETY: `self` proves the features.
                unsafe { dot2(sums, halves, weights) }
            }

            operations_of_256_bits!();
        }
    };
}

vnni_of_256_bits!(AvxVnni, "avx2,avxvnni", _mm256_dpbusd_avx_epi32, "{{vex}} vpdpwssd {}, {}, {}");
#[cfg(test)]
vnni_of_256_bits!(EvexVnni, "avx2,avx512f,avx512vl,avx512vnni", _mm256_dpbusd_epi32, "{{evex}} vpdpwssd {}, {}, {}");

/// Registers of a block: 6 x 4 sums, 4 weights and a broadcast, 29 of 32; or 8 x 2 sums, 2 weights and 8 broadcasts, 26, as the
/// compiler reads all pixels first (with 12 x 2 sums it keeps some in memory, at half the speed).
impl Simd for Avx512Vnni {
    const LANES: usize = 16;
    const PIXELS: [usize; 3] = [12, 8, 6];
    const VECTORS: usize = 4;
    const DEPTHWISE_PIXELS: usize = 4;
    const WIDE_PARTS: usize = 1;
    const IS_SIGNED: bool = false;
    const DOT4: [u64; 2] = [1, 1];
    const DOT2: u64 = 1;

    type Words = __m512i;
    type Halves = __m512i;
    type Bytes = __m512i;

    #[inline(always)]
    fn prefetch(self, from: *const u8) {
        // SAFETY: it touches nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
    }

    #[inline(always)]
    fn vectorize<J: Job>(self, job: J) -> J::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
        #[inline(never)]
        fn run<J: Job>(simd: Avx512Vnni, job: J) -> J::Output {
            job.run(simd)
        }
        // SAFETY: `self` proves these features.
        unsafe { run(self, job) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const i32) -> __m512i {
        // SAFETY: `self` proves AVX-512 F, here and below; the caller has 64 bytes there.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut i32, words: __m512i) {
        // SAFETY: the caller has 64 bytes there.
        unsafe { _mm512_storeu_si512(to.cast(), words) }
    }

    #[inline(always)]
    unsafe fn broadcast(self, from: *const u8) -> __m512i {
        // SAFETY: the caller has 4 bytes there.
        unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn load_bytes(self, from: *const u8) -> __m512i {
        // SAFETY: the caller has 16 bytes there.
        unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast())) }
    }

    #[inline(always)]
    unsafe fn load_bytes_as_halves(self, from: *const u8) -> __m512i {
        // SAFETY: `self` proves AVX-512 BW too; the caller has 32 bytes there.
        unsafe { _mm512_cvtepu8_epi16(_mm256_loadu_si256(from.cast())) }
    }

    #[inline(always)]
    unsafe fn store_halves(self, to: *mut i16, halves: __m512i) {
        // SAFETY: the caller has 64 bytes there.
        unsafe { _mm512_storeu_si512(to.cast(), halves) }
    }

    #[inline(always)]
    unsafe fn load_pieces<const N: usize>(self, from: [*const u8; N]) -> __m512i {
        // SAFETY: the caller has 64 bytes there, or 32 or 16 at each.
        unsafe {
            match N {
                1 => _mm512_loadu_si512(from[0].cast()),
                2 => {
                    let low = _mm512_castsi256_si512(_mm256_loadu_si256(from[0].cast()));
                    _mm512_inserti64x4::<1>(low, _mm256_loadu_si256(from[1 % N].cast()))
                }
                _ => {
                    let first = _mm512_castsi128_si512(_mm_loadu_si128(from[0].cast()));
                    let two = _mm512_inserti32x4::<1>(first, _mm_loadu_si128(from[1 % N].cast()));
                    let three = _mm512_inserti32x4::<2>(two, _mm_loadu_si128(from[2 % N].cast()));
                    _mm512_inserti32x4::<3>(three, _mm_loadu_si128(from[3 % N].cast()))
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn store_pieces<const N: usize>(self, to: [*mut u8; N], bytes: __m512i) {
        // SAFETY: the caller has 64 bytes there, or 32 or 16 at each.
        unsafe {
            match N {
                1 => _mm512_storeu_si512(to[0].cast(), bytes),
                2 => {
                    _mm256_storeu_si256(to[0].cast(), _mm512_castsi512_si256(bytes));
                    _mm256_storeu_si256(to[1 % N].cast(), _mm512_extracti64x4_epi64::<1>(bytes));
                }
                _ => {
                    _mm_storeu_si128(to[0].cast(), _mm512_castsi512_si128(bytes));
                    _mm_storeu_si128(to[1 % N].cast(), _mm512_extracti32x4_epi32::<1>(bytes));
                    _mm_storeu_si128(to[2 % N].cast(), _mm512_extracti32x4_epi32::<2>(bytes));
                    _mm_storeu_si128(to[3 % N].cast(), _mm512_extracti32x4_epi32::<3>(bytes));
                }
            }
        }
    }

    #[inline(always)]
    fn splat(self, word: i32) -> __m512i {
        // SAFETY: `self` proves AVX-512 F, BW and VNNI, for this and all that follows.
        unsafe { _mm512_set1_epi32(word) }
    }

    #[inline(always)]
    fn splat_halves(self, half: i16) -> __m512i {
        // SAFETY: as for `splat`.
        unsafe { _mm512_set1_epi16(half) }
    }

    #[inline(always)]
    fn splat_bytes(self, byte: u8) -> __m512i {
        // SAFETY: as for `splat`.
        unsafe { _mm512_set1_epi8(byte as i8) }
    }

    #[inline(always)]
    fn prepare<const WIDE: bool>(self, bytes: __m512i) -> [__m512i; 2] {
        [bytes, bytes]
    }

    #[inline(always)]
    fn dot4<const WIDE: bool>(self, sums: __m512i, bytes: [__m512i; 2], weights: [__m512i; 2]) -> __m512i {
        // SAFETY: as for `splat`.
        unsafe { _mm512_dpbusd_epi32(sums, bytes[0], weights[0]) }
    }

    #[inline(always)]
    fn requantise(self, words: __m512i, scale: __m512i) -> __m512i {
        // SAFETY: as for `splat`.
        unsafe { _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(words), _mm512_castsi512_ps(scale))) }
    }

    #[inline(always)]
    fn narrow(self, words: [__m512i; 4], zero_point: __m512i, low: __m512i, high: __m512i) -> __m512i {
        // SAFETY: as for `splat`. Saturation only shortens what the clamp cuts off.
        unsafe {
            let a = _mm512_adds_epi16(_mm512_packs_epi32(words[0], words[1]), zero_point);
            let b = _mm512_adds_epi16(_mm512_packs_epi32(words[2], words[3]), zero_point);
            _mm512_min_epu8(_mm512_max_epu8(_mm512_packus_epi16(a, b), low), high)
        }
    }

    #[inline(always)]
    fn unshuffle(self, bytes: __m512i) -> __m512i {
        // SAFETY: as for `splat`.
        unsafe {
            let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            _mm512_permutexvar_epi32(order, bytes)
        }
    }

    #[inline(always)]
    fn interleave(self, rows: [__m512i; 4]) -> [__m512i; 4] {
        // SAFETY: as for `splat`.
        unsafe {
            let [a, b, c, d] = rows;
            let (ab, cd) = (_mm512_unpacklo_epi8(a, b), _mm512_unpacklo_epi8(c, d));
            let (ab_high, cd_high) = (_mm512_unpackhi_epi8(a, b), _mm512_unpackhi_epi8(c, d));
            [
                _mm512_unpacklo_epi16(ab, cd),
                _mm512_unpackhi_epi16(ab, cd),
                _mm512_unpacklo_epi16(ab_high, cd_high),
                _mm512_unpackhi_epi16(ab_high, cd_high),
            ]
        }
    }

    #[inline(always)]
    fn bytes(self, words: __m512i) -> __m512i {
        words
    }

    #[inline(always)]
    fn look_up(self, table: &[u8; 256], bytes: __m512i) -> __m512i {
        // SAFETY: as for `splat`; a quarter of the table is 64 bytes.
        unsafe {
            // Two neighbours of the table are a half, of which there are 32 in a vector.
            let table = table.as_ptr();
            let (a, b) = (_mm512_loadu_si512(table.cast()), _mm512_loadu_si512(table.add(64).cast()));
            let (c, d) = (_mm512_loadu_si512(table.add(128).cast()), _mm512_loadu_si512(table.add(192).cast()));
            // A macro and no closure, since a closure cannot be told to be inlined.
            macro_rules! of {
                ($halves:expr) => {{
                    let halves = $halves;
                    let place = _mm512_srli_epi16::<1>(halves);
                    let (low, high) = (_mm512_permutex2var_epi16(a, place, b), _mm512_permutex2var_epi16(c, place, d));
                    let is_high = _mm512_test_epi16_mask(halves, _mm512_set1_epi16(0x80));
                    let found = _mm512_mask_blend_epi16(is_high, low, high);
                    let shift = _mm512_slli_epi16::<3>(_mm512_and_si512(halves, _mm512_set1_epi16(1)));
                    _mm512_srlv_epi16(found, shift)
                }};
            }
            let (even, odd) = (of!(bytes), of!(_mm512_srli_epi16::<8>(bytes)));
            let even = _mm512_and_si512(even, _mm512_set1_epi16(0xff));
            _mm512_or_si512(even, _mm512_slli_epi16::<8>(odd))
        }
    }

    #[inline(always)]
    fn unzip<const N: usize>(self, [a, b]: [__m512i; 2]) -> [__m512i; 2] {
        // SAFETY: as for `splat`.
        unsafe {
            match N {
                2 => [_mm512_shuffle_i64x2::<0x44>(a, b), _mm512_shuffle_i64x2::<0xee>(a, b)],
                _ => [_mm512_shuffle_i64x2::<0x88>(a, b), _mm512_shuffle_i64x2::<0xdd>(a, b)],
            }
        }
    }

    #[inline(always)]
    fn max_bytes(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: as for `splat`.
        unsafe { _mm512_max_epu8(a, b) }
    }

    #[inline(always)]
    fn dot2(self, sums: __m512i, halves: __m512i, weights: __m512i) -> __m512i {
        #[target_feature(enable = "avx512f,avx512vnni")]
        #[inline]
        fn dot2(mut sums: __m512i, halves: __m512i, weights: __m512i) -> __m512i {
            // SAFETY: the instruction is one of the features'. In words, as LLVM makes two instructions of the intrinsic, which
            // takes half as long again.
            unsafe {
                core::arch::asm!(
                    "vpdpwssd {}, {}, {}", inout(zmm_reg) sums, in(zmm_reg) halves, in(zmm_reg) weights,
                    options(pure, nomem, nostack, preserves_flags),
                )
            };
            sums
        }
        // SAFETY: as for `splat`.
        unsafe { dot2(sums, halves, weights) }
    }

    #[inline(always)]
    fn add(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: as for `splat`.
        unsafe { _mm512_add_epi32(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: as for `splat`.
        unsafe { _mm512_sub_epi32(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: as for `splat`.
        unsafe { _mm512_mullo_epi32(a, b) }
    }

    #[inline(always)]
    fn max(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: as for `splat`.
        unsafe { _mm512_max_epi32(a, b) }
    }

    #[inline(always)]
    fn shl<const BITS: u32>(self, words: __m512i) -> __m512i {
        // SAFETY: as for `splat`.
        unsafe { _mm512_slli_epi32::<BITS>(words) }
    }

    #[inline(always)]
    fn sar(self, words: __m512i, counts: __m512i) -> __m512i {
        // SAFETY: as for `splat`.
        unsafe { _mm512_srav_epi32(words, counts) }
    }

    #[inline(always)]
    fn add_halves(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: as for `splat`.
        unsafe { _mm512_add_epi16(a, b) }
    }

    #[inline(always)]
    fn sub_halves(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: as for `splat`.
        unsafe { _mm512_sub_epi16(a, b) }
    }

    #[inline(always)]
    fn shl_halves<const BITS: u32>(self, halves: __m512i) -> __m512i {
        // SAFETY: as for `splat`.
        unsafe { _mm512_slli_epi16::<BITS>(halves) }
    }
}
