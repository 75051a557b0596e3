//! The graph of a model: which layers there are, what each reads, and of which shapes. Integers and names only.
//!
//! Layers run one after the other; each names the activations that it reads. Activation 0 is the input, activation `i + 1`
//! the output of layer `i`; a layer's name names its output too, and `input` names activation 0.

mod cost;
mod error;
mod layer;
mod limits;
mod text;

use std::collections::BTreeMap;

pub use self::cost::{Cost, products};
pub use self::error::GraphError;
pub use self::layer::{Finish, Input, Layer, Operation, Shape, Window};
pub use self::limits::{
    INPUT, MAX_CLASSES, MAX_CONCAT, MAX_COST, MAX_CROP, MAX_DIMENSION, MAX_LAYERS, MAX_MOVED, MAX_MULTIPLIER, MAX_NAME,
    MAX_PACKED_WEIGHTS, MAX_SHIFT, VERSION,
};
use crate::json::quote;

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
