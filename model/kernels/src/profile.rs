//! Where a plan's time goes, and what the processor could do at most.

use std::time::{Duration, Instant};

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

/// Steps of four pixels by two vectors, as blocks have them.
const STEPS: usize = 32;
const ROUNDS: usize = 4000;

impl<const HALVES: bool> Job for Limit<HALVES> {
    type Output = u64;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> u64 {
        let pixels = [1u8; 4 * STEPS + 16];
        let weights = [0x0101_0101; 16 * 2 * STEPS];
        assert!(S::LANES <= 16, "the weights are made for vectors of 16 words");
        let mut sums = [[simd.splat(0); 2]; 4];
        for _ in 0..ROUNDS {
            // Opaque, so that no product is made once for all rounds.
            let (pixels, weights) = (std::hint::black_box(&pixels), std::hint::black_box(&weights));
            for step in 0..STEPS {
                for (pixel, sums) in sums.iter_mut().enumerate() {
                    // SAFETY: the last step and pixel begin at byte 4 * (STEPS - 1) + 12, four before the end.
                    let bytes = unsafe { simd.broadcast(pixels.as_ptr().add(4 * step + 4 * pixel)) };
                    for (vector, sum) in sums.iter_mut().enumerate() {
                        // SAFETY: a vector has at most 16 words, and there are 2 * STEPS times as many.
                        let weights = unsafe { simd.load(weights.as_ptr().add((2 * step + vector) * S::LANES)) };
                        *sum = if HALVES { simd.dot2(*sum, bytes, weights) } else { simd.dot4(*sum, bytes, weights) };
                    }
                }
            }
        }
        let mut words = [0; 16];
        for sum in sums.iter().flatten() {
            // SAFETY: a vector has at most 16 words.
            unsafe { simd.store(words.as_mut_ptr(), *sum) };
            std::hint::black_box(&words);
        }
        (8 * STEPS * ROUNDS) as u64
    }
}
