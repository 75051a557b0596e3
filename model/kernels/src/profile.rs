//! Where a plan's time goes, and what the processor could do at most.

use std::time::{Duration, Instant};

use crate::aligned::Aligned;
use crate::kernel::Kernel;
use crate::plan::with;
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
    /// Products of four bytes.
    Direct,
    /// Winograd's F(4x4, 3x3): products of two halves.
    Winograd,
    /// A pool by itself.
    Pool,
}

impl Method {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pack => "pack",
            Self::Direct => "direct",
            Self::Winograd => "winograd",
            Self::Pool => "pool",
        }
    }
}

/// The vector products a second that one thread makes at most with a method's instruction, when all operands are in the
/// first-level cache and all sums in registers. The best of some short runs; `None` for methods without products, and if this
/// processor cannot run the kernel.
pub fn limit(kernel: Kernel, method: Method) -> Option<f64> {
    let halves = match method {
        Method::Direct => false,
        Method::Winograd => true,
        Method::Pack | Method::Pool => return None,
    };
    let mut best: f64 = 0.0;
    for _ in 0..20 {
        let begun = Instant::now();
        let products = if halves { with(kernel, Limit::<true>)? } else { with(kernel, Limit::<false>)? };
        best = best.max(products as f64 / begun.elapsed().as_secs_f64());
    }
    Some(best)
}

/// Makes many products, of halves or of bytes. Returns how many.
struct Limit<const HALVES: bool>;

/// Steps of a block of pixels by two vectors.
const STEPS: usize = 32;
const VECTORS: usize = 2;
const ROUNDS: usize = 4000;

impl<const HALVES: bool> Job for Limit<HALVES> {
    type Output = u64;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> u64 {
        // As many sums as blocks have: fewer than a product takes cycles would wait for each other.
        if S::PIXELS * S::VECTORS / VECTORS >= 12 {
            products::<S, HALVES, 12>(simd)
        } else {
            products::<S, HALVES, 4>(simd)
        }
    }
}

#[inline(always)]
fn products<S: Simd, const HALVES: bool, const PIXELS: usize>(simd: S) -> u64 {
    assert!(PIXELS <= 12, "there are bytes for 12 pixels");
    let pixels = [1u8; 4 * STEPS + 4 * 12];
    let weights =
        Aligned::collect(STEPS * VECTORS * S::LANES, std::iter::repeat_n(0x0101_0101, STEPS * VECTORS * S::LANES));
    let mut sums = [[simd.splat(0); VECTORS]; PIXELS];
    for _ in 0..ROUNDS {
        // Opaque, so that no product is made once for all rounds.
        let (pixels, weights) = (std::hint::black_box(&pixels), std::hint::black_box(weights.words()));
        for step in 0..STEPS {
            let mut row = [simd.splat(0); VECTORS];
            for (vector, row) in row.iter_mut().enumerate() {
                // SAFETY: there are as many words as steps, vectors and lanes.
                *row = unsafe { simd.load(weights.as_ptr().add((step * VECTORS + vector) * S::LANES)) };
            }
            for (pixel, sums) in sums.iter_mut().enumerate() {
                // SAFETY: the last step and pixel begin eight bytes before the end, or more.
                let bytes = unsafe { simd.broadcast(pixels.as_ptr().add(4 * step + 4 * pixel)) };
                for (sum, weights) in sums.iter_mut().zip(row) {
                    *sum = if HALVES { simd.dot2(*sum, bytes, weights) } else { simd.dot4(*sum, bytes, weights) };
                }
            }
        }
    }
    let mut words = [0; 16];
    assert!(S::LANES <= words.len(), "the widest vectors have 16 words");
    for sum in sums.iter().flatten() {
        // SAFETY: a vector has at most 16 words.
        unsafe { simd.store(words.as_mut_ptr(), *sum) };
        std::hint::black_box(&words);
    }
    (PIXELS * VECTORS * STEPS * ROUNDS) as u64
}
