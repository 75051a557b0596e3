//! Where a plan's time goes, and what the processor could do at most.

use std::time::{Duration, Instant};

use crate::aligned::Aligned;
use crate::kernel::Kernel;
use crate::simd::{Job, Simd};

/// What one step of a plan took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepProfile {
    /// The layer, from 0; a max-pool after it may be part of the step.
    pub layer: usize,
    /// How it is done.
    pub method: Method,
    /// Vector products for the images that it was run on; 0 for pools.
    pub products: u64,
    /// The shortest time of all rounds.
    pub time: Duration,
}

/// How a layer is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Laying out the pixels, before the first layer.
    Pack,
    /// Products of four bytes of at most 127.
    Direct,
    /// Products of four bytes of up to 255.
    DirectWide,
    /// Products of four rows of a channel, of at most 127.
    Depthwise,
    /// Products of four rows of a channel, of up to 255.
    DepthwiseWide,
    /// Winograd's F(4x4, 3x3): products of two halves.
    Winograd,
    /// A pool by itself.
    Pool,
    /// Element by element: addition, multiplication, lookup, copies.
    Elementwise,
}

impl Method {
    pub fn name(self) -> &'static str {
        match self {
            Self::Pack => "pack",
            Self::Direct => "direct",
            Self::DirectWide => "direct, 8 bits",
            Self::Depthwise => "depthwise",
            Self::DepthwiseWide => "depthwise, 8 bits",
            Self::Winograd => "winograd",
            Self::Pool => "pool",
            Self::Elementwise => "elementwise",
        }
    }
}

/// The vector products a second that one thread makes at most with a method's instructions, when all operands are in the
/// first-level cache and all sums in registers. The best of some short runs; `None` for methods without products, and if this
/// processor cannot run the kernel.
pub fn limit(kernel: Kernel, method: Method) -> Option<f64> {
    let run = || match method {
        Method::Direct | Method::Depthwise => kernel.run(Limit::<BYTES>),
        Method::DirectWide | Method::DepthwiseWide => kernel.run(Limit::<WIDE_BYTES>),
        Method::Winograd => kernel.run(Limit::<HALVES>),
        Method::Pack | Method::Pool | Method::Elementwise => None,
    };
    let mut best: f64 = 0.0;
    for _ in 0..20 {
        let begun = Instant::now();
        let products = run()?;
        best = best.max(products as f64 / begun.elapsed().as_secs_f64());
    }
    Some(best)
}

/// Makes many products of a kind. Returns how many.
struct Limit<const KIND: u8>;

const BYTES: u8 = 0;
const WIDE_BYTES: u8 = 1;
const HALVES: u8 = 2;

/// Steps of a block of pixels by two vectors.
const STEPS: usize = 32;
const VECTORS: usize = 2;
const ROUNDS: usize = 4000;

impl<const KIND: u8> Job for Limit<KIND> {
    type Output = u64;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> u64 {
        // As many sums as blocks have: fewer than a product takes cycles would wait for each other.
        match S::PIXELS[1] {
            8 => products::<S, KIND, 8>(simd),
            6 => products::<S, KIND, 6>(simd),
            _ => products::<S, KIND, 4>(simd),
        }
    }
}

#[inline(always)]
#[allow(clippy::needless_range_loop)]
fn products<S: Simd, const KIND: u8, const PIXELS: usize>(simd: S) -> u64 {
    assert!(PIXELS <= 12, "there are bytes for 12 pixels");
    let pixels = [1u8; 4 * STEPS + 4 * 12];
    // Two parts, so that there is a second where bytes are wide.
    let size = STEPS * VECTORS * S::LANES * 2;
    let weights = Aligned::collect(size, std::iter::repeat_n(0x0101_0101, size));
    let mut sums = [[simd.splat(0); VECTORS]; PIXELS];
    for _ in 0..ROUNDS {
        // Opaque, so that no product is made once for all rounds.
        let (pixels, weights) = (std::hint::black_box(&pixels), std::hint::black_box(weights.words()));
        for step in 0..STEPS {
            let mut row = [[simd.splat(0); 2]; VECTORS];
            for (vector, row) in row.iter_mut().enumerate() {
                for (part, place) in row.iter_mut().enumerate() {
                    // SAFETY: there are as many words as steps, vectors, parts and lanes.
                    *place =
                        unsafe { simd.load(weights.as_ptr().add(((step * VECTORS + vector) * 2 + part) * S::LANES)) };
                }
            }
            for (pixel, sums) in sums.iter_mut().enumerate() {
                // SAFETY: the last step and pixel begin eight bytes before the end, or more.
                let bytes = unsafe { simd.broadcast(pixels.as_ptr().add(4 * step + 4 * pixel)) };
                for (sum, weights) in sums.iter_mut().zip(row) {
                    *sum = match KIND {
                        BYTES => simd.dot4::<false>(*sum, simd.prepare::<false>(bytes), weights),
                        WIDE_BYTES => simd.dot4::<true>(*sum, simd.prepare::<true>(bytes), weights),
                        _ => simd.dot2(*sum, bytes, weights[0]),
                    };
                }
            }
        }
    }
    let mut words = [0; 16];
    assert!(S::LANES <= words.len(), "the widest vectors have 16 words");
    // By indices: an iterator would keep sums in memory.
    for pixel in 0..PIXELS {
        for vector in 0..VECTORS {
            // SAFETY: a vector has at most 16 words.
            unsafe { simd.store(words.as_mut_ptr(), sums[pixel][vector]) };
            std::hint::black_box(&words);
        }
    }
    (PIXELS * VECTORS * STEPS * ROUNDS) as u64
}
