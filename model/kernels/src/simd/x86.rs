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
        unsafe fn store_clamped(self, to: *mut u8, words: __m256i) {
            // SAFETY: `self` proves AVX2; the caller has 8 bytes there. Both packs saturate, which is the upper clamp; each
            // works within 128 bits, so that bytes 0 to 3 of either half of the register are what belongs there.
            unsafe {
                let halves = _mm256_packs_epi32(words, words);
                let bytes = _mm256_packs_epi16(halves, halves);
                let bytes = _mm_unpacklo_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256::<1>(bytes));
                _mm_storel_epi64(to.cast(), _mm_max_epi8(bytes, _mm_setzero_si128()));
            }
        }

        #[inline(always)]
        fn splat(self, word: i32) -> __m256i {
            // SAFETY: `self` proves AVX2, for this and all that follows.
            unsafe { _mm256_set1_epi32(word) }
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

/// Registers of a block: 4 x 2 sums, 2 weights, a broadcast, the ones and two products: 14 of 16.
impl Simd for Avx2 {
    const LANES: usize = 8;
    const VECTORS: usize = 2;
    const FEW_PIXELS_VECTORS: usize = 2;
    const PIXELS: usize = 4;
    const DOT4: u64 = 2;
    const DOT2: u64 = 1;

    #[inline(always)]
    fn vectorize<J: Job>(self, job: J) -> J::Output {
        #[target_feature(enable = "avx2")]
        fn run<J: Job>(simd: Avx2, job: J) -> J::Output {
            job.run(simd)
        }
        // SAFETY: `self` proves AVX2.
        unsafe { run(self, job) }
    }

    #[inline(always)]
    fn dot4(self, sums: __m256i, bytes: __m256i, weights: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe {
            let pairs = _mm256_maddubs_epi16(bytes, weights);
            _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }

    #[inline(always)]
    fn dot2(self, sums: __m256i, halves: __m256i, weights: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_add_epi32(sums, _mm256_madd_epi16(halves, weights)) }
    }

    operations_of_256_bits!();
}

/// Registers of a block: 4 x 2 sums, 2 weights and a broadcast: 11 of 16.
impl Simd for AvxVnni {
    const LANES: usize = 8;
    const VECTORS: usize = 2;
    const FEW_PIXELS_VECTORS: usize = 4;
    const PIXELS: usize = 4;
    const DOT4: u64 = 1;
    const DOT2: u64 = 1;

    #[inline(always)]
    fn vectorize<J: Job>(self, job: J) -> J::Output {
        #[target_feature(enable = "avx2,avxvnni")]
        fn run<J: Job>(simd: AvxVnni, job: J) -> J::Output {
            job.run(simd)
        }
        // SAFETY: `self` proves AVX2 and AVX-VNNI.
        unsafe { run(self, job) }
    }

    #[inline(always)]
    fn dot4(self, sums: __m256i, bytes: __m256i, weights: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX-VNNI.
        unsafe { _mm256_dpbusd_avx_epi32(sums, bytes, weights) }
    }

    #[inline(always)]
    fn dot2(self, sums: __m256i, halves: __m256i, weights: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX-VNNI.
        unsafe { _mm256_dpwssd_avx_epi32(sums, halves, weights) }
    }

    operations_of_256_bits!();
}

/// Registers of a block: 12 x 2 sums, 2 weights and a broadcast: 27 of 32.
impl Simd for Avx512Vnni {
    const LANES: usize = 16;
    const VECTORS: usize = 2;
    const FEW_PIXELS_VECTORS: usize = 4;
    const PIXELS: usize = 12;
    const DOT4: u64 = 1;
    const DOT2: u64 = 1;

    type Words = __m512i;
    type Halves = __m512i;

    #[inline(always)]
    fn vectorize<J: Job>(self, job: J) -> J::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
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
    unsafe fn store_clamped(self, to: *mut u8, words: __m512i) {
        // SAFETY: the caller has 16 bytes there. The conversion saturates at 127, which is the upper clamp.
        unsafe {
            let bytes = _mm512_cvtsepi32_epi8(_mm512_max_epi32(words, _mm512_setzero_si512()));
            _mm_storeu_si128(to.cast(), bytes);
        }
    }

    #[inline(always)]
    fn splat(self, word: i32) -> __m512i {
        // SAFETY: `self` proves AVX-512 F, BW and VNNI, for this and all that follows.
        unsafe { _mm512_set1_epi32(word) }
    }

    #[inline(always)]
    fn dot4(self, sums: __m512i, bytes: __m512i, weights: __m512i) -> __m512i {
        // SAFETY: as for `splat`.
        unsafe { _mm512_dpbusd_epi32(sums, bytes, weights) }
    }

    #[inline(always)]
    fn dot2(self, sums: __m512i, halves: __m512i, weights: __m512i) -> __m512i {
        // SAFETY: as for `splat`.
        unsafe { _mm512_dpwssd_epi32(sums, halves, weights) }
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
