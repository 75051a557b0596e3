//! AArch64: NEON, and NEON with the dot product instructions (`FEAT_DotProd`).

use core::arch::aarch64::*;

use super::{Job, Simd};

/// NEON, which every AArch64 processor has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Neon;

/// NEON with `sdot`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NeonDot(());

impl NeonDot {
    /// The proof that this processor has the dot product instructions, if it has.
    pub(crate) fn detect() -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("dotprod").then_some(Self(()))
    }
}

/// What both share: all but the products of bytes.
macro_rules! operations_of_neon {
    () => {
        const LANES: usize = 4;
        const VECTORS: usize = 4;
        const FEW_PIXELS_VECTORS: usize = 4;
        const PIXELS: usize = 4;
        const DOT2: u64 = 3;

        type Words = int32x4_t;
        type Halves = int16x8_t;

        #[inline(always)]
        unsafe fn load(self, from: *const i32) -> int32x4_t {
            // SAFETY: every AArch64 processor has NEON, here and below; the caller has 16 bytes there.
            unsafe { vld1q_s32(from) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut i32, words: int32x4_t) {
            // SAFETY: the caller has 16 bytes there.
            unsafe { vst1q_s32(to, words) }
        }

        #[inline(always)]
        unsafe fn broadcast(self, from: *const u8) -> int32x4_t {
            // SAFETY: the caller has 4 bytes there.
            unsafe { vdupq_n_s32(from.cast::<i32>().read_unaligned()) }
        }

        #[inline(always)]
        unsafe fn load_bytes(self, from: *const u8) -> int32x4_t {
            // SAFETY: the caller has 4 bytes there.
            unsafe {
                let bytes = vreinterpret_u8_u32(vdup_n_u32(from.cast::<u32>().read_unaligned()));
                vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(bytes))))
            }
        }

        #[inline(always)]
        unsafe fn load_bytes_as_halves(self, from: *const u8) -> int16x8_t {
            // SAFETY: the caller has 8 bytes there.
            unsafe { vreinterpretq_s16_u16(vmovl_u8(vld1_u8(from))) }
        }

        #[inline(always)]
        unsafe fn store_halves(self, to: *mut i16, halves: int16x8_t) {
            // SAFETY: the caller has 16 bytes there.
            unsafe { vst1q_s16(to, halves) }
        }

        #[inline(always)]
        unsafe fn store_clamped(self, to: *mut u8, words: int32x4_t) {
            // SAFETY: the caller has 4 bytes there. Both narrowings saturate, the second at 127, which is the upper clamp.
            unsafe {
                let halves = vqmovn_s32(vmaxq_s32(words, vdupq_n_s32(0)));
                let bytes = vqmovn_s16(vcombine_s16(halves, halves));
                to.cast::<i32>().write_unaligned(vget_lane_s32::<0>(vreinterpret_s32_s8(bytes)));
            }
        }

        #[inline(always)]
        fn splat(self, word: i32) -> int32x4_t {
            // SAFETY: every AArch64 processor has NEON, for this and all that follows.
            unsafe { vdupq_n_s32(word) }
        }

        #[inline(always)]
        fn dot2(self, sums: int32x4_t, halves: int32x4_t, weights: int32x4_t) -> int32x4_t {
            // SAFETY: as for `splat`.
            unsafe {
                let (a, b) = (vreinterpretq_s16_s32(halves), vreinterpretq_s16_s32(weights));
                let low = vmull_s16(vget_low_s16(a), vget_low_s16(b));
                vaddq_s32(sums, vpaddq_s32(low, vmull_high_s16(a, b)))
            }
        }

        #[inline(always)]
        fn add(self, a: int32x4_t, b: int32x4_t) -> int32x4_t {
            // SAFETY: as for `splat`.
            unsafe { vaddq_s32(a, b) }
        }

        #[inline(always)]
        fn sub(self, a: int32x4_t, b: int32x4_t) -> int32x4_t {
            // SAFETY: as for `splat`.
            unsafe { vsubq_s32(a, b) }
        }

        #[inline(always)]
        fn mul(self, a: int32x4_t, b: int32x4_t) -> int32x4_t {
            // SAFETY: as for `splat`.
            unsafe { vmulq_s32(a, b) }
        }

        #[inline(always)]
        fn max(self, a: int32x4_t, b: int32x4_t) -> int32x4_t {
            // SAFETY: as for `splat`.
            unsafe { vmaxq_s32(a, b) }
        }

        #[inline(always)]
        fn shl<const BITS: u32>(self, words: int32x4_t) -> int32x4_t {
            // SAFETY: as for `splat`.
            unsafe { vshlq_s32(words, vdupq_n_s32(BITS as i32)) }
        }

        #[inline(always)]
        fn sar(self, words: int32x4_t, counts: int32x4_t) -> int32x4_t {
            // SAFETY: as for `splat`. A shift by a negative count is one to the right.
            unsafe { vshlq_s32(words, vnegq_s32(counts)) }
        }

        #[inline(always)]
        fn add_halves(self, a: int16x8_t, b: int16x8_t) -> int16x8_t {
            // SAFETY: as for `splat`.
            unsafe { vaddq_s16(a, b) }
        }

        #[inline(always)]
        fn sub_halves(self, a: int16x8_t, b: int16x8_t) -> int16x8_t {
            // SAFETY: as for `splat`.
            unsafe { vsubq_s16(a, b) }
        }

        #[inline(always)]
        fn shl_halves<const BITS: u32>(self, halves: int16x8_t) -> int16x8_t {
            // SAFETY: as for `splat`.
            unsafe { vshlq_s16(halves, vdupq_n_s16(BITS as i16)) }
        }
    };
}

/// Registers of a block: 4 x 4 sums, 4 weights, a broadcast and products: 24 of 32.
impl Simd for Neon {
    const DOT4: u64 = 6;

    #[inline(always)]
    fn vectorize<J: Job>(self, job: J) -> J::Output {
        job.run(self)
    }

    #[inline(always)]
    fn dot4(self, sums: int32x4_t, bytes: int32x4_t, weights: int32x4_t) -> int32x4_t {
        // SAFETY: every AArch64 processor has NEON. Bytes are at most 127 and so may be taken as signed; products fit 16
        // bits, and pairs of them are widened before they are added.
        unsafe {
            let (a, b) = (vreinterpretq_s8_s32(bytes), vreinterpretq_s8_s32(weights));
            let low = vpaddlq_s16(vmull_s8(vget_low_s8(a), vget_low_s8(b)));
            let high = vpaddlq_s16(vmull_high_s8(a, b));
            vaddq_s32(sums, vpaddq_s32(low, high))
        }
    }

    operations_of_neon!();
}

/// Registers of a block: 4 x 4 sums, 4 weights and a broadcast: 21 of 32.
impl Simd for NeonDot {
    const DOT4: u64 = 1;

    #[inline(always)]
    fn vectorize<J: Job>(self, job: J) -> J::Output {
        #[target_feature(enable = "neon,dotprod")]
        fn run<J: Job>(simd: NeonDot, job: J) -> J::Output {
            job.run(simd)
        }
        // SAFETY: `self` proves the dot product instructions.
        unsafe { run(self, job) }
    }

    #[inline(always)]
    fn dot4(self, mut sums: int32x4_t, bytes: int32x4_t, weights: int32x4_t) -> int32x4_t {
        // SAFETY: `self` proves the dot product instructions; `sdot` reads and writes nothing but these registers. Assembly,
        // since the intrinsic is not stable yet. Bytes are at most 127 and so may be taken as signed.
        unsafe {
            core::arch::asm!(
                ".arch_extension dotprod",
                "sdot {sums:v}.4s, {bytes:v}.16b, {weights:v}.16b",
                sums = inout(vreg) sums,
                bytes = in(vreg) bytes,
                weights = in(vreg) weights,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        sums
    }

    operations_of_neon!();
}
