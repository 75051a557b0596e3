//! The graph of a model: which layers there are, what each reads, and of which shapes. Integers and names only.
//!
//! Layers run one after the other; each names the activations that it reads. Activation 0 is the input, activation `i + 1`
//! the output of layer `i`; a layer's name names its output too, and `input` names activation 0.

mod error;
mod text;

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

pub use self::error::GraphError;
use crate::cost::Cost;
use crate::json::quote;

/// The version of the graph format.
pub const VERSION: u64 = 2;
/// The most layers a model has.
pub const MAX_LAYERS: usize = 512;
/// The most classes a model has.
pub const MAX_CLASSES: usize = 32_768;
/// The most activations that a `concat` reads.
pub const MAX_CONCAT: usize = 64;
/// The largest number of channels, rows, columns, kernel, stride or groups.
pub const MAX_DIMENSION: usize = 65_535;
/// The largest crop.
pub const MAX_CROP: u16 = 256;
/// The largest multiplier of an addition.
pub const MAX_MULTIPLIER: u32 = 1 << 21;
/// The largest shift of an addition.
pub const MAX_SHIFT: u8 = 30;
/// The longest name of a layer, in bytes.
pub const MAX_NAME: usize = 32;
/// The name of the input where a layer names what it reads.
pub const INPUT: &str = "input";

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

/// What is known of an activation from the graph alone. The bounds of its values are [`crate::proof::Bounds`], since those of
/// a lookup are in its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activation {
    /// Channels, rows and columns.
    pub shape: Shape,
    /// The zero point of all channels, or, of an input whose channels differ, of each.
    pub(crate) zero_points: Vec<u8>,
}

impl Activation {
    pub(crate) fn of_input(input: &Input) -> Self {
        let mut zero_points = input.zero_points.clone();
        zero_points.dedup();
        if zero_points.len() > 1 {
            zero_points.clone_from(&input.zero_points);
        }
        Self { shape: input.shape, zero_points }
    }

    /// The zero point of a channel.
    ///
    /// # Panics
    /// If the input's zero points differ and there is no such channel.
    pub fn zero_point(&self, channel: usize) -> u8 {
        match self.zero_points[..] {
            [all] => all,
            _ => self.zero_points[channel],
        }
    }

    /// The zero point of all channels, if it is one.
    pub fn one_zero_point(&self) -> Option<u8> {
        match self.zero_points[..] {
            [all] => Some(all),
            _ => None,
        }
    }
}

/// A checked graph: every shape fits, every name is resolved, the last layer gives logits, and it costs no more than it may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    input: Input,
    layers: Vec<Layer>,
    /// The input, then every layer's output.
    activations: Vec<Activation>,
    /// For every layer the activations that it reads.
    sources: Vec<Vec<usize>>,
    cost: Cost,
}

impl Graph {
    /// Checks layers over an input.
    ///
    /// # Errors
    /// The first rule that is broken, in the order of the layers.
    pub fn new(input: Input, layers: Vec<Layer>) -> Result<Self, GraphError> {
        check_input(&input)?;
        if layers.is_empty() {
            return Err(GraphError::NoLayers);
        }
        if layers.len() > MAX_LAYERS {
            return Err(GraphError::TooManyLayers { found: layers.len() });
        }
        let mut graph = Self {
            activations: vec![Activation::of_input(&input)],
            input,
            layers: Vec::new(),
            sources: Vec::new(),
            cost: Cost::default(),
        };
        let mut places = BTreeMap::from([(INPUT.to_owned(), 0)]);
        let last = layers.len() - 1;
        for (index, layer) in layers.into_iter().enumerate() {
            graph.push(layer, index == last, &mut places)?;
        }
        graph.check_read()?;
        graph.cost.add_classes(graph.logits());
        graph.cost.check(&graph.layers[last].name)?;
        Ok(graph)
    }

    /// What the model sees.
    pub fn input(&self) -> &Input {
        &self.input
    }

    /// The layers, in order.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// All activations: the input, then every layer's output, one more than there are layers. Layer `i` writes activation
    /// `i + 1`.
    pub fn activations(&self) -> &[Activation] {
        &self.activations
    }

    /// The activations that a layer reads, each at most `layer`, in the order of its `from`.
    pub fn sources(&self, layer: usize) -> &[usize] {
        &self.sources[layer]
    }

    /// The shape of what a layer reads first.
    pub fn source_shape(&self, layer: usize) -> Shape {
        self.activations[self.sources[layer][0]].shape
    }

    /// The shape of a layer's output.
    pub fn output_shape(&self, layer: usize) -> Shape {
        self.activations[layer + 1].shape
    }

    /// For every activation the last layer that reads it; for the logits the number of layers.
    pub fn last_reads(&self) -> Vec<usize> {
        let mut last = vec![self.layers.len(); self.activations.len()];
        for (layer, sources) in self.sources.iter().enumerate() {
            for source in sources {
                last[*source] = layer;
            }
        }
        last
    }

    /// The number of logits.
    pub fn logits(&self) -> usize {
        self.output_shape(self.layers.len() - 1).channels
    }

    /// The shape of a layer's weights: `(O, I / groups, rows, columns)` for a convolution, `(O, I)` for a linear layer, none
    /// for the others.
    pub fn weight_shape(&self, layer: usize) -> Option<Vec<usize>> {
        let input = self.source_shape(layer);
        match self.layers[layer].operation {
            Operation::Conv { channels, groups, window, .. } => {
                Some(vec![channels, input.channels / groups, window.kernel[0], window.kernel[1]])
            }
            Operation::Linear { channels, .. } => Some(vec![channels, input.elements()]),
            _ => None,
        }
    }

    /// Whether a layer is the last, whose outputs are the logits.
    pub fn is_last(&self, layer: usize) -> bool {
        layer + 1 == self.layers.len()
    }

    /// What running the graph on one image costs.
    pub fn cost(&self) -> Cost {
        self.cost
    }

    fn push(&mut self, layer: Layer, is_last: bool, places: &mut BTreeMap<String, usize>) -> Result<(), GraphError> {
        let index = self.layers.len();
        let name = &layer.name;
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
        if name.is_empty() || name.len() > MAX_NAME || name == INPUT || !name.bytes().all(allowed) {
            return Err(GraphError::Name { index, name: quote(name) });
        }
        if places.contains_key(name) {
            return Err(GraphError::DuplicateName { name: name.clone() });
        }
        layer.check_source_count()?;
        let place = |from: &String| {
            let unknown = || GraphError::UnknownSource { layer: name.clone(), from: quote(from) };
            places.get(from).copied().ok_or_else(unknown)
        };
        let sources = layer.from.iter().map(place).collect::<Result<Vec<usize>, _>>()?;
        let reads: Vec<&Activation> = sources.iter().map(|source| &self.activations[*source]).collect();
        layer.check_last(is_last)?;
        layer.check_finish()?;
        let output = layer.output(&reads)?;
        let shapes: Vec<Shape> = reads.iter().map(|read| read.shape).collect();
        self.cost.add(&layer.operation, &shapes, output.shape);
        self.cost.check(name)?;
        places.insert(name.clone(), index + 1);
        self.layers.push(layer);
        self.activations.push(output);
        self.sources.push(sources);
        Ok(())
    }

    /// The last layer is read by no other, since it would have to be by an earlier one.
    fn check_read(&self) -> Result<(), GraphError> {
        let last = self.last_reads();
        match (1..self.layers.len()).find(|activation| last[*activation] == self.layers.len()) {
            Some(unread) => Err(GraphError::Unread { layer: self.layers[unread - 1].name.clone() }),
            None => Ok(()),
        }
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

    /// How many activations a layer of this kind reads.
    fn check_source_count(&self) -> Result<(), GraphError> {
        let (allowed, expected) = match self.operation {
            Operation::Add { .. } | Operation::Multiply { .. } => (2..=2, "2"),
            Operation::Concat => (2..=MAX_CONCAT, "2 to 64"),
            _ => (1..=1, "1"),
        };
        if allowed.contains(&self.from.len()) {
            return Ok(());
        }
        let (layer, kind, found) = (self.name.clone(), self.operation.kind(), self.from.len());
        Err(GraphError::SourceCount { layer, kind, expected, found })
    }

    fn check_last(&self, is_last: bool) -> Result<(), GraphError> {
        let layer = || self.name.clone();
        match self.operation {
            Operation::Linear { finish: Some(_), .. } if is_last => Err(GraphError::LastFinish { layer: layer() }),
            Operation::Linear { finish: None, .. } if !is_last => Err(GraphError::MissingFinish { layer: layer() }),
            Operation::Linear { channels, finish: None } if channels > MAX_CLASSES => {
                Err(GraphError::Classes { found: channels })
            }
            Operation::Linear { .. } => Ok(()),
            _ if is_last => Err(GraphError::LastKind { layer: layer(), kind: self.operation.kind() }),
            _ => Ok(()),
        }
    }

    fn check_finish(&self) -> Result<(), GraphError> {
        match self.operation.finish() {
            Some(Finish { zero_point, low, high }) if low > zero_point || zero_point > high => {
                Err(GraphError::Finish { layer: self.name.clone(), zero_point, low, high })
            }
            _ => Ok(()),
        }
    }

    /// The output, of what is read.
    pub(crate) fn output(&self, reads: &[&Activation]) -> Result<Activation, GraphError> {
        let of = |shape: Shape, zero_point: u8| Activation { shape, zero_points: vec![zero_point] };
        let first = reads[0].shape;
        let zero_points = self.one_zero_point_each(reads)?;
        let output = match self.operation {
            Operation::Conv { channels, groups, window, finish } => {
                self.within("channels", channels, 1, MAX_DIMENSION)?;
                self.within("groups", groups, 1, MAX_DIMENSION)?;
                if !first.channels.is_multiple_of(groups) || !channels.is_multiple_of(groups) {
                    let (layer, inputs) = (self.name.clone(), first.channels);
                    return Err(GraphError::Groups { layer, groups, inputs, outputs: channels });
                }
                of(self.slide(Shape { channels, ..first }, window)?, finish.zero_point)
            }
            Operation::Linear { channels, finish } => {
                self.within("channels", channels, 1, MAX_DIMENSION)?;
                // Logits are no bytes and have no zero point.
                of(Shape { channels, height: 1, width: 1 }, finish.map_or(0, |finish| finish.zero_point))
            }
            Operation::Add { multipliers, shift, finish } => {
                for multiplier in multipliers {
                    self.within("multipliers", multiplier as usize, 1, MAX_MULTIPLIER as usize)?;
                }
                self.within("shift", shift.into(), 1, MAX_SHIFT.into())?;
                if reads[1].shape != first {
                    return Err(GraphError::AddShape { layer: self.name.clone(), first, second: reads[1].shape });
                }
                of(first, finish.zero_point)
            }
            Operation::Multiply { finish } => {
                let second = reads[1].shape;
                if second != first && second != (Shape { height: 1, width: 1, ..first }) {
                    return Err(GraphError::MultiplyShape { layer: self.name.clone(), first, second });
                }
                of(first, finish.zero_point)
            }
            Operation::AveragePool { window, finish } => of(self.slide(first, window)?, finish.zero_point),
            Operation::MaxPool { window } => of(self.slide(first, window)?, zero_points[0]),
            Operation::Concat => {
                for ((read, from), zero_point) in reads.iter().zip(&self.from).zip(&zero_points) {
                    let (layer, from) = (self.name.clone(), from.clone());
                    if (read.shape.height, read.shape.width) != (first.height, first.width) {
                        return Err(GraphError::ConcatShape { layer, from, expected: first, found: read.shape });
                    }
                    if *zero_point != zero_points[0] {
                        let (expected, found) = (zero_points[0], *zero_point);
                        return Err(GraphError::ConcatZeroPoint { layer, from, expected, found });
                    }
                }
                of(Shape { channels: reads.iter().map(|read| read.shape.channels).sum(), ..first }, zero_points[0])
            }
            Operation::Lookup { zero_point } => of(first, zero_point),
        };
        let Shape { channels, height, width } = output.shape;
        if channels.max(height).max(width) > MAX_DIMENSION {
            return Err(GraphError::OutputShape { layer: self.name.clone(), found: output.shape });
        }
        Ok(output)
    }

    /// The zero point of each activation that is read; empty for the kinds that also take an input whose zero points differ.
    fn one_zero_point_each(&self, reads: &[&Activation]) -> Result<Vec<u8>, GraphError> {
        if let Operation::Conv { .. } | Operation::Linear { .. } | Operation::Lookup { .. } = self.operation {
            return Ok(Vec::new());
        }
        let differ = || GraphError::InputZeroPoints { layer: self.name.clone(), kind: self.operation.kind() };
        reads.iter().map(|read| read.one_zero_point().ok_or_else(differ)).collect()
    }

    fn within(&self, key: &'static str, found: usize, low: usize, high: usize) -> Result<(), GraphError> {
        within(&format!("layer {:?}", self.name), key, found as u64, low, high).map(drop)
    }

    /// How often a window fits: `floor((size + padding - kernel) / stride) + 1` in each direction.
    fn slide(&self, over: Shape, window: Window) -> Result<Shape, GraphError> {
        let Window { kernel, stride, padding } = window;
        for direction in 0..2 {
            self.within("kernel", kernel[direction], 1, MAX_DIMENSION)?;
            self.within("stride", stride[direction], 1, MAX_DIMENSION)?;
        }
        for (side, padding) in ["top", "left", "bottom", "right"].into_iter().enumerate().map(|(i, s)| (s, padding[i]))
        {
            let kernel = kernel[usize::from(matches!(side, "left" | "right"))];
            if padding >= kernel {
                let (layer, padding) = (self.name.clone(), padding as u64);
                return Err(GraphError::Padding { layer, side, padding, kernel });
            }
        }
        let [height, width] = window.padded(over);
        if kernel[0] > height || kernel[1] > width {
            return Err(GraphError::Kernel { layer: self.name.clone(), kernel, height, width });
        }
        Ok(Shape { height: (height - kernel[0]) / stride[0] + 1, width: (width - kernel[1]) / stride[1] + 1, ..over })
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

fn check_input(input: &Input) -> Result<(), GraphError> {
    let Shape { channels, height, width } = input.shape;
    for (key, size) in [("channels", channels), ("height", height), ("width", width)] {
        within(INPUT, key, size as u64, 1, MAX_DIMENSION)?;
    }
    if input.zero_points.len() != channels {
        return Err(GraphError::ZeroPointCount { expected: channels, found: input.zero_points.len() });
    }
    within(INPUT, "crop", input.crop.into(), 1, MAX_CROP.into()).map(drop)
}

/// Checks a number; `at` is `input`, or `layer` and the layer's name.
fn within(at: &str, key: &'static str, found: u64, low: usize, high: usize) -> Result<usize, GraphError> {
    match usize::try_from(found) {
        Ok(number) if (low..=high).contains(&number) => Ok(number),
        _ => Err(GraphError::Range { at: at.into(), key, low, high, found }),
    }
}
