//! What a layer is, and what it reads and writes.

use std::fmt;

use serde::Serialize;

use super::limits::MAX_CROP;

/// Channels, rows and columns of an activation, laid out in this order (CHW). A linear layer's output is `(n, 1, 1)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
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

    /// The number of elements of one channel.
    pub fn plane(&self) -> usize {
        self.height * self.width
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.channels, self.height, self.width)
    }
}

/// What a model sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// The shape of the pixels.
    pub shape: Shape,
    /// For each channel the byte that stands for zero, with which padding is filled.
    pub zero_points: Vec<u8>,
    /// How much of a picture's sides the model was made to see, in 256ths, 1..=256. For whoever makes pixels of a picture.
    pub crop: u16,
}

impl Input {
    /// An input whose zero points are 0 and that sees the whole picture.
    pub fn new(channels: usize, height: usize, width: usize) -> Self {
        Self { shape: Shape { channels, height, width }, zero_points: vec![0; channels], crop: MAX_CROP }
    }

    /// The same input with one zero point for all channels.
    #[must_use]
    pub fn with_zero_point(mut self, zero_point: u8) -> Self {
        self.zero_points.fill(zero_point);
        self
    }
}

/// A named step of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The name, 1 to 32 characters of `a-z`, `0-9` and `_`: of the layer, its output, and its tensors
    /// (`NAME.weight`, …).
    pub name: String,
    /// The names of what it reads: earlier layers, or `input`.
    pub from: Vec<String>,
    /// What the layer does.
    pub operation: Operation,
}

/// What a layer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Cross-correlation with weights `(channels, input channels / groups, kernel rows, kernel columns)`.
    Conv {
        /// Output channels.
        channels: usize,
        /// Into how many groups input and output channels are divided, each of which reads its own.
        groups: usize,
        /// How the kernel runs.
        window: Window,
        /// The output's values.
        finish: Finish,
    },
    /// A matrix product with weights `(channels, input elements)`; what it reads is flattened in CHW order.
    Linear {
        /// Output channels.
        channels: usize,
        /// The output's values; none for the last layer, whose outputs are the logits.
        finish: Option<Finish>,
    },
    /// The sum of two activations of one shape, each times its multiplier, over `2^shift`.
    Add {
        /// What each is multiplied by, 1..=2^21.
        multipliers: [u32; 2],
        /// By how many bits the sum is shifted right, 1..=30.
        shift: u8,
        /// The output's values.
        finish: Finish,
    },
    /// The product of two activations of one shape; the second may have a single row and column for each channel.
    Multiply {
        /// The output's values.
        finish: Finish,
    },
    /// The sum of each window, scaled.
    AveragePool {
        /// How the window runs.
        window: Window,
        /// The output's values.
        finish: Finish,
    },
    /// The maximum of each window.
    MaxPool {
        /// How the window runs.
        window: Window,
    },
    /// The channels of several activations, one after the other.
    Concat,
    /// Each byte by a table of 256.
    Lookup {
        /// The output's zero point.
        zero_point: u8,
    },
}

/// How a kernel or window runs over rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Steps between outputs, along the rows' and the columns' direction: (rows, columns).
    pub stride: [usize; 2],
    /// Elements around the input: top, left, bottom, right, each fewer than the kernel has in that direction.
    pub padding: [usize; 4],
}

impl Window {
    /// A square kernel, the same stride in both directions, and the same padding on all sides.
    pub const fn square(kernel: usize, stride: usize, padding: usize) -> Self {
        Self { kernel: [kernel; 2], stride: [stride; 2], padding: [padding; 4] }
    }

    /// The number of elements of the kernel.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Rows and columns of what the kernel runs over: the input with its padding.
    pub fn padded(&self, over: Shape) -> [usize; 2] {
        let [top, left, bottom, right] = self.padding;
        [over.height + top + bottom, over.width + left + right]
    }
}

/// The values of an activation: the byte that stands for zero, and the bounds, `low <= zero_point <= high`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finish {
    /// The byte that stands for zero.
    pub zero_point: u8,
    /// The least value.
    pub low: u8,
    /// The greatest value.
    pub high: u8,
}

impl Finish {
    /// What follows a ReLU in 7 bits, so that two products of an activation and a weight fit 16 bits.
    pub const RELU: Self = Self { zero_point: 0, low: 0, high: 127 };

    /// Every byte, around this zero point.
    pub const fn bytes(zero_point: u8) -> Self {
        Self { zero_point, low: 0, high: 255 }
    }
}

impl Layer {
    /// A layer that reads these.
    pub fn new(name: &str, from: &[&str], operation: Operation) -> Self {
        Self { name: name.into(), from: from.iter().map(|name| (*name).into()).collect(), operation }
    }

    /// A convolution of one group.
    pub fn conv(name: &str, from: &str, channels: usize, window: Window, finish: Finish) -> Self {
        Self::new(name, &[from], Operation::Conv { channels, groups: 1, window, finish })
    }

    /// A linear layer that is not the last.
    pub fn linear(name: &str, from: &str, channels: usize, finish: Finish) -> Self {
        Self::new(name, &[from], Operation::Linear { channels, finish: Some(finish) })
    }

    /// The last layer.
    pub fn logits(name: &str, from: &str, classes: usize) -> Self {
        Self::new(name, &[from], Operation::Linear { channels: classes, finish: None })
    }

    /// A max-pool.
    pub fn max_pool(name: &str, from: &str, window: Window) -> Self {
        Self::new(name, &[from], Operation::MaxPool { window })
    }
}

impl Operation {
    /// The name of the kind, as in the JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Conv { .. } => "conv",
            Self::Linear { .. } => "linear",
            Self::Add { .. } => "add",
            Self::Multiply { .. } => "multiply",
            Self::AveragePool { .. } => "average_pool",
            Self::MaxPool { .. } => "max_pool",
            Self::Concat => "concat",
            Self::Lookup { .. } => "lookup",
        }
    }

    /// The values of the output, of the kinds that say so.
    pub fn finish(&self) -> Option<Finish> {
        match *self {
            Self::Conv { finish, .. }
            | Self::Add { finish, .. }
            | Self::Multiply { finish }
            | Self::AveragePool { finish, .. } => Some(finish),
            Self::Linear { finish, .. } => finish,
            Self::MaxPool { .. } | Self::Concat | Self::Lookup { .. } => None,
        }
    }

    /// How the kernel or window runs, of the kinds that have one.
    pub fn window(&self) -> Option<Window> {
        match *self {
            Self::Conv { window, .. } | Self::AveragePool { window, .. } | Self::MaxPool { window } => Some(window),
            _ => None,
        }
    }
}
