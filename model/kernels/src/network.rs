//! What a plan is made from. The meaning of every operator, and the bounds that are taken for granted, are those of
//! `docs/inference.md`.

/// Channels, rows and columns of an activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
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

/// A layer with its integers. Layer `i` writes activation `i + 1`; activation 0 is the input.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    /// The activations that it reads, all of earlier layers: two for an addition and a multiplication, two or more for a
    /// concatenation, else one.
    pub from: &'a [usize],
    /// What it computes.
    pub operation: Operation<'a>,
}

/// The zero point of an activation, and what it is clamped to: `low <= zero_point <= high`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finish {
    /// The byte that stands for zero.
    pub zero_point: u8,
    /// The smallest byte.
    pub low: u8,
    /// The largest byte.
    pub high: u8,
}

/// Rows and columns of a window, the steps between windows, and what is added around the input: above, left, below, right; on
/// each side less than the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Rows and columns.
    pub kernel: [usize; 2],
    /// Rows and columns between windows.
    pub stride: [usize; 2],
    /// Rows above, columns on the left, rows below, columns on the right.
    pub padding: [usize; 4],
}

/// What a layer computes.
#[derive(Debug, Clone, Copy)]
pub enum Operation<'a> {
    /// A cross-correlation; padding counts as the zero point.
    Conv {
        /// Groups of channels, which divide those of the input and of the output.
        groups: usize,
        window: Window,
        /// `(O, I / groups, rows, columns)`.
        weight: &'a [i8],
        /// One for each output channel.
        bias: &'a [i32],
        /// One for each output channel.
        scale: &'a [f32],
        /// Zero point and clamp.
        finish: Finish,
    },
    /// A matrix product over the input in CHW order.
    Linear {
        /// `(O, I * H * W)`.
        weight: &'a [i8],
        /// One for each output channel.
        bias: &'a [i32],
        /// One for each output channel; in the last layer also empty.
        scale: &'a [f32],
        /// Zero point and clamp; none in the last layer and only there, whose outputs are the logits.
        finish: Option<Finish>,
    },
    /// `(multipliers[0] * (a - z_a) + multipliers[1] * (b - z_b) + 2^(shift - 1)) >> shift`.
    Add {
        /// In 1..=2^21.
        multipliers: [i32; 2],
        /// In 1..=30.
        shift: u8,
        /// Zero point and clamp.
        finish: Finish,
    },
    /// `(a - z_a) * (b - z_b)`; the second input has the first's shape, or one row and one column.
    Multiply {
        scale: f32,
        /// Zero point and clamp.
        finish: Finish,
    },
    /// The sum of each window; padding counts as the zero point.
    AveragePool {
        window: Window,
        scale: f32,
        /// Zero point and clamp.
        finish: Finish,
    },
    /// The maximum of each window, padding left out.
    MaxPool { window: Window },
    /// All channels of the inputs, which have one zero point.
    Concat,
    /// A byte for each byte.
    Lookup {
        /// What stands for each byte.
        table: &'a [u8; 256],
        /// The zero point of the result.
        zero_point: u8,
    },
}
