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
        const PIXELS: [usize; 3] = [8, 8, 4];
        const VECTORS: usize = 4;
        const DEPTHWISE_PIXELS: usize = 2;
        const WIDE_PARTS: usize = 1;
        const IS_SIGNED: bool = true;
        const DOT2: u64 = 3;

        type Words = int32x4_t;
        type Halves = int16x8_t;
        type Bytes = uint8x16_t;

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
        unsafe fn load_pieces<const N: usize>(self, from: [*const u8; N]) -> uint8x16_t {
            // SAFETY: the caller has 16 bytes there; a part is the whole vector.
            unsafe { vld1q_u8(from[0]) }
        }

        #[inline(always)]
        unsafe fn store_pieces<const N: usize>(self, to: [*mut u8; N], bytes: uint8x16_t) {
            // SAFETY: the caller has 16 bytes there, or 8 or 4 at each.
            unsafe {
                match N {
                    1 => vst1q_u8(to[0], bytes),
                    2 => {
                        vst1_u8(to[0], vget_low_u8(bytes));
                        vst1_u8(to[1 % N], vget_high_u8(bytes));
                    }
                    _ => {
                        let words = vreinterpretq_u32_u8(bytes);
                        to[0].cast::<u32>().write_unaligned(vgetq_lane_u32::<0>(words));
                        to[1 % N].cast::<u32>().write_unaligned(vgetq_lane_u32::<1>(words));
                        to[2 % N].cast::<u32>().write_unaligned(vgetq_lane_u32::<2>(words));
                        to[3 % N].cast::<u32>().write_unaligned(vgetq_lane_u32::<3>(words));
                    }
                }
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
        fn splat_halves(self, half: i16) -> int16x8_t {
            // SAFETY: as for `splat`.
            unsafe { vdupq_n_s16(half) }
        }

        #[inline(always)]
        fn splat_bytes(self, byte: u8) -> uint8x16_t {
            // SAFETY: as for `splat`.
            unsafe { vdupq_n_u8(byte) }
        }

        #[inline(always)]
        fn prepare<const WIDE: bool>(self, bytes: int32x4_t) -> [int32x4_t; 2] {
            // SAFETY: as for `splat`. The bytes minus 128, as signed ones.
            let bytes = if WIDE { unsafe { veorq_s32(bytes, vreinterpretq_s32_u8(vdupq_n_u8(128))) } } else { bytes };
            [bytes, bytes]
        }

        #[inline(always)]
        fn requantise(self, words: int32x4_t, scale: int32x4_t) -> int32x4_t {
            // SAFETY: as for `splat`.
            unsafe { vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(words), vreinterpretq_f32_s32(scale))) }
        }

        #[inline(always)]
        fn narrow(self, words: [int32x4_t; 4], zero_point: int16x8_t, low: uint8x16_t, high: uint8x16_t) -> uint8x16_t {
            // SAFETY: as for `splat`. Saturation only shortens what the clamp cuts off.
            unsafe {
                let a = vqaddq_s16(vcombine_s16(vqmovn_s32(words[0]), vqmovn_s32(words[1])), zero_point);
                let b = vqaddq_s16(vcombine_s16(vqmovn_s32(words[2]), vqmovn_s32(words[3])), zero_point);
                let bytes = vcombine_u8(vqmovun_s16(a), vqmovun_s16(b));
                vminq_u8(vmaxq_u8(bytes, low), high)
            }
        }

        #[inline(always)]
        fn unshuffle(self, bytes: uint8x16_t) -> uint8x16_t {
            bytes
        }

        #[inline(always)]
        fn interleave(self, rows: [uint8x16_t; 4]) -> [int32x4_t; 4] {
            // SAFETY: as for `splat`.
            unsafe {
                let [a, b, c, d] = rows;
                let (ab, cd) = (vzipq_u8(a, b), vzipq_u8(c, d));
                let low = vzipq_u16(vreinterpretq_u16_u8(ab.0), vreinterpretq_u16_u8(cd.0));
                let high = vzipq_u16(vreinterpretq_u16_u8(ab.1), vreinterpretq_u16_u8(cd.1));
                [
                    vreinterpretq_s32_u16(low.0),
                    vreinterpretq_s32_u16(low.1),
                    vreinterpretq_s32_u16(high.0),
                    vreinterpretq_s32_u16(high.1),
                ]
            }
        }

        #[inline(always)]
        fn bytes(self, words: int32x4_t) -> uint8x16_t {
            // SAFETY: as for `splat`.
            unsafe { vreinterpretq_u8_s32(words) }
        }

        #[inline(always)]
        fn look_up(self, table: &[u8; 256], bytes: uint8x16_t) -> uint8x16_t {
            // SAFETY: as for `splat`; a quarter of the table is 64 bytes.
            unsafe {
                // A byte that is in another quarter gives 0.
                macro_rules! quarter {
                    ($first:literal) => {
                        vqtbl4q_u8(vld1q_u8_x4(table.as_ptr().add($first)), vsubq_u8(bytes, vdupq_n_u8($first)))
                    };
                }
                vorrq_u8(vorrq_u8(quarter!(0), quarter!(64)), vorrq_u8(quarter!(128), quarter!(192)))
            }
        }

        #[inline(always)]
        fn max_bytes(self, a: uint8x16_t, b: uint8x16_t) -> uint8x16_t {
            // SAFETY: as for `splat`.
            unsafe { vmaxq_u8(a, b) }
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
    const DOT4: [u64; 2] = [6, 6];

    #[inline(never)]
    fn vectorize<J: Job>(self, job: J) -> J::Output {
        job.run(self)
    }

    #[inline(always)]
    fn dot4<const WIDE: bool>(self, sums: int32x4_t, bytes: [int32x4_t; 2], weights: [int32x4_t; 2]) -> int32x4_t {
        // SAFETY: every AArch64 processor has NEON. Bytes are at most 127, or have lost 128, and so may be taken as signed;
        // products fit 16 bits, and pairs of them are widened before they are added.
        unsafe {
            let (a, b) = (vreinterpretq_s8_s32(bytes[0]), vreinterpretq_s8_s32(weights[0]));
            let low = vpaddlq_s16(vmull_s8(vget_low_s8(a), vget_low_s8(b)));
            let high = vpaddlq_s16(vmull_high_s8(a, b));
            vaddq_s32(sums, vpaddq_s32(low, high))
        }
    }

    operations_of_neon!();
}

/// Registers of a block: 4 x 4 sums, 4 weights and a broadcast: 21 of 32.
impl Simd for NeonDot {
    const DOT4: [u64; 2] = [1, 1];

    #[inline(always)]
    fn vectorize<J: Job>(self, job: J) -> J::Output {
        #[target_feature(enable = "neon,dotprod")]
        #[inline(never)]
        fn run<J: Job>(simd: NeonDot, job: J) -> J::Output {
            job.run(simd)
        }
        // SAFETY: `self` proves the dot product instructions.
        unsafe { run(self, job) }
    }

    #[inline(always)]
    fn dot4<const WIDE: bool>(self, mut sums: int32x4_t, bytes: [int32x4_t; 2], weights: [int32x4_t; 2]) -> int32x4_t {
        // SAFETY: `self` proves the dot product instructions; `sdot` reads and writes nothing but these registers. Assembly,
        // since the intrinsic is not stable yet. Bytes are at most 127, or have lost 128, and so may be taken as signed.
        unsafe {
            core::arch::asm!(
                ".arch_extension dotprod",
                "sdot {sums:v}.4s, {bytes:v}.16b, {weights:v}.16b",
                sums = inout(vreg) sums,
                bytes = in(vreg) bytes[0],
                weights = in(vreg) weights[0],
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        sums
    }

    operations_of_neon!();
}
