//! Pools that are not part of a convolution's pass.

use crate::simd::{Job, Simd};

/// A max-pool or a sum-pool.
#[derive(Debug)]
pub(crate) struct Pool {
    /// What becomes of a window.
    pub(crate) fold: Fold,
    /// Offsets of a window's pixels from its first byte; the first is 0 and the last the largest.
    pub(crate) taps: Vec<u32>,
    /// For each pixel of the output its window's first byte, and its own first byte.
    pub(crate) sites: Vec<(u32, u32)>,
    /// Channels.
    pub(crate) channels: usize,
}

/// What becomes of a window.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fold {
    /// Its maximum.
    Max,
    /// `clamp((sum + half) >> shift, 0, 127)`.
    Sum {
        /// What is added before the shift.
        half: i32,
        /// By how many bits the sum is shifted right.
        shift: i32,
    },
}

/// A pool of some pixels.
pub(crate) struct RunPool<'a> {
    /// The layer.
    pub(crate) layer: &'a Pool,
    /// Pixels of the output, of all images.
    pub(crate) pixels: usize,
    /// The buffer of the layer's input.
    pub(crate) from: &'a [u8],
    /// The buffer of its output.
    pub(crate) to: &'a mut [u8],
}

impl Job for RunPool<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let layer = self.layer;
        for (from, to) in &layer.sites[..self.pixels] {
            for channel in (0..layer.channels).step_by(S::LANES) {
                let first = *from as usize + channel;
                let mut value = match layer.fold {
                    Fold::Max => simd.splat(0),
                    Fold::Sum { half, .. } => simd.splat(half),
                };
                for tap in &layer.taps {
                    let bytes = &self.from[first + *tap as usize..][..S::LANES];
                    // SAFETY: the slice has as many bytes as are read.
                    let bytes = unsafe { simd.load_bytes(bytes.as_ptr()) };
                    value = match layer.fold {
                        Fold::Max => simd.max(value, bytes),
                        Fold::Sum { .. } => simd.add(value, bytes),
                    };
                }
                if let Fold::Sum { shift, .. } = layer.fold {
                    value = simd.sar(value, simd.splat(shift));
                }
                let bytes = &mut self.to[*to as usize + channel..][..S::LANES];
                // SAFETY: the slice has as many bytes as are written.
                unsafe { simd.store_clamped(bytes.as_mut_ptr(), value) };
            }
        }
    }
}
