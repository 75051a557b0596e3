//! What a plan is made from.

/// Channels, rows and columns of an activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Channels.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Shape {
    /// The number of elements.
    pub fn elements(&self) -> usize {
        self.channels * self.height * self.width
    }
}

/// A layer with its integers. Layer `i` reads activation `i` and writes activation `i + 1`; activation 0 is the input.
#[derive(Debug, Clone, Copy)]
pub enum Layer<'a> {
    /// Cross-correlation with weights `(O, I, kernel, kernel)`.
    Conv {
        /// Rows and columns of the kernel.
        kernel: usize,
        /// Step between outputs.
        stride: usize,
        /// Zeros around the input on every side, fewer than `kernel`.
        padding: usize,
        /// The integers.
        sums: Sums<'a>,
    },
    /// A matrix product with weights `(O, I * H * W)`, over the input in CHW order.
    Linear {
        /// The integers.
        sums: Sums<'a>,
    },
    /// The maximum of each window.
    MaxPool {
        /// Rows and columns of the window.
        kernel: usize,
        /// Step between outputs.
        stride: usize,
    },
    /// `clamp((sum of each window + half) >> shift, 0, 127)`, where half is `2^(shift - 1)`, or 0 for shift 0.
    SumPool {
        /// Rows and columns of the window.
        kernel: usize,
        /// Step between outputs.
        stride: usize,
        /// By how many bits the sum is shifted right.
        shift: u8,
    },
}

/// The integers of a convolution or linear layer: `clamp((acc + bias + multiplier * skip) >> shift, 0, 127)`.
#[derive(Debug, Clone, Copy)]
pub struct Sums<'a> {
    /// Weights, the output channel first.
    pub weight: &'a [i8],
    /// One for each output channel.
    pub bias: &'a [i32],
    /// One for each output channel, in 0..=24; empty in the last layer, whose sums are the logits.
    pub shift: &'a [u8],
    /// The activation that is added; it has the shape of the output.
    pub skip: Option<usize>,
    /// One for each output channel where there is a skip, else empty.
    pub multiplier: &'a [i16],
}
