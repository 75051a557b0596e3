//! The graph of a model: which layers there are, in which order, and of which shapes. Integers and names only.
//!
//! Layers run one after the other; each reads the activation before it, and a convolution or linear layer may add one
//! further, earlier activation of its output's shape (a skip). Activation 0 is the input, activation `i + 1` the output of
//! layer `i`; a layer's name names its output too, and `input` names activation 0.

use std::fmt;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::json::{self, Fields, Json, JsonError, quote};

/// The version of the graph format.
pub const VERSION: u64 = 1;
/// The most layers a model has.
pub const MAX_LAYERS: usize = 256;
/// The most elements that input and layer outputs of one image have together; each is one byte wide in an integer kernel.
pub const MAX_ACTIVATIONS: u64 = 4 << 20;
/// The largest number of channels, rows, columns, kernel or stride.
pub const MAX_DIMENSION: u64 = 65_535;
/// The largest shift.
pub const MAX_SHIFT: u8 = 24;
/// The longest name of a layer, in bytes.
pub const MAX_NAME: usize = 32;
/// The name of the input where a layer names what it adds.
pub const INPUT: &str = "input";

/// Channels, rows and columns of an activation, laid out in this order (CHW). A linear layer's output is `(n, 1, 1)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
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

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.channels, self.height, self.width)
    }
}

/// A named step of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The name, 1 to 32 characters of `a-z`, `0-9` and `_`: of the layer, its output, and its tensors
    /// (`NAME.weight`, …).
    pub name: String,
    /// What the layer does.
    pub operation: Operation,
}

/// What a layer does. Kernels are square, and strides and paddings the same in both directions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Cross-correlation with weights `(channels, input channels, kernel, kernel)`.
    Conv {
        /// Output channels.
        channels: usize,
        /// Rows and columns of the kernel.
        kernel: usize,
        /// Step between outputs.
        stride: usize,
        /// Zeros around the input on every side, fewer than `kernel`.
        padding: usize,
        /// The earlier activation that is added before the clamp.
        skip: Option<String>,
    },
    /// A matrix product with weights `(channels, input elements)`; the input is flattened in CHW order.
    Linear {
        /// Output channels.
        channels: usize,
        /// The earlier activation that is added before the clamp.
        skip: Option<String>,
    },
    /// The maximum of each window.
    MaxPool {
        /// Rows and columns of the window.
        kernel: usize,
        /// Step between outputs.
        stride: usize,
    },
    /// The sum of each window, scaled by a power of two: with `shift = log2(kernel * kernel)`, the rounded mean.
    SumPool {
        /// Rows and columns of the window.
        kernel: usize,
        /// Step between outputs.
        stride: usize,
        /// By how many bits the sum is shifted right, 0..=24.
        shift: u8,
    },
}

/// A graph that is not allowed. `layer` is a layer's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// The text is not the expected JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The text is no TOML.
    #[error("graph: no valid TOML at line {line}: {message}")]
    Toml {
        /// The line of the fault, from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// The graph is of a version this program does not know.
    #[error("graph version {found} is not known, only {VERSION} is")]
    Version {
        /// The version found.
        found: u64,
    },
    /// The graph has no layers.
    #[error("the graph has no layers")]
    NoLayers,
    /// The graph has too many layers.
    #[error("the graph has {found} layers, more than {MAX_LAYERS}")]
    TooManyLayers {
        /// The number found.
        found: usize,
    },
    /// A layer's name is empty, too long, of other characters than `a-z`, `0-9` and `_`, or `input`.
    #[error("layer {index}: the name {name:?} is not 1 to {MAX_NAME} of a-z, 0-9 and _, or is {INPUT:?}")]
    Name {
        /// The place of the layer, from 0.
        index: usize,
        /// The name.
        name: String,
    },
    /// Two layers have one name.
    #[error("two layers are named {name:?}")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A layer is of an unknown kind.
    #[error("layer {layer:?}: unknown kind {kind:?}")]
    Kind {
        /// The layer.
        layer: String,
        /// The kind found.
        kind: String,
    },
    /// A number of channels, rows, columns, or a kernel or stride, is 0 or too large.
    #[error("{at}: {key} is {found}, not within 1..={MAX_DIMENSION}")]
    Dimension {
        /// `input`, or `layer` and the layer's name.
        at: String,
        /// Which number.
        key: &'static str,
        /// Its value.
        found: u64,
    },
    /// A padding is not smaller than the kernel.
    #[error("layer {layer:?}: padding {padding} is not below the kernel {kernel}")]
    Padding {
        /// The layer.
        layer: String,
        /// The padding.
        padding: u64,
        /// The kernel.
        kernel: usize,
    },
    /// A kernel is larger than the (padded) input of its layer.
    #[error("layer {layer:?}: kernel {kernel} is larger than the {height}x{width} it runs over")]
    Kernel {
        /// The layer.
        layer: String,
        /// The kernel.
        kernel: usize,
        /// Rows, padding included.
        height: usize,
        /// Columns, padding included.
        width: usize,
    },
    /// A sum-pool's shift is too large.
    #[error("layer {layer:?}: shift {shift} is above {MAX_SHIFT}")]
    Shift {
        /// The layer.
        layer: String,
        /// The shift.
        shift: u64,
    },
    /// A skip names no activation before its layer.
    #[error("layer {layer:?}: the skip {skip:?} is neither the input nor an earlier layer")]
    UnknownSkip {
        /// The layer.
        layer: String,
        /// The name given.
        skip: String,
    },
    /// A skip is of another shape than the output it is added to.
    #[error("layer {layer:?}: the skip {skip:?} is {found}, the output {expected}")]
    SkipShape {
        /// The layer.
        layer: String,
        /// The skip.
        skip: String,
        /// The shape of the layer's output.
        expected: Shape,
        /// The shape of the skip.
        found: Shape,
    },
    /// The last layer, which gives the logits, is not a linear layer without a skip.
    #[error("the last layer {layer:?} is not linear without a skip")]
    LastLayer {
        /// The layer.
        layer: String,
    },
    /// Input and outputs of the layers have too many elements together.
    #[error("input and outputs have {found} elements an image by layer {layer:?}, more than {MAX_ACTIVATIONS}")]
    TooManyActivations {
        /// The layer, or `input`, whose elements are too many.
        layer: String,
        /// The elements up to there.
        found: u64,
    },
}

/// A checked graph: every shape fits, every skip is resolved, the last layer gives logits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    layers: Vec<Layer>,
    /// The input's shape, then the shape of every layer's output.
    activations: Vec<Shape>,
    /// For every layer the activation that it adds.
    skips: Vec<Option<usize>>,
}

impl Graph {
    /// Checks layers over an input.
    ///
    /// # Errors
    /// The first rule that is broken, in the order of the layers.
    pub fn new(input: Shape, layers: Vec<Layer>) -> Result<Self, GraphError> {
        for (key, value) in [("channels", input.channels), ("height", input.height), ("width", input.width)] {
            dimension(INPUT, key, value as u64)?;
        }
        if layers.is_empty() {
            return Err(GraphError::NoLayers);
        }
        if layers.len() > MAX_LAYERS {
            return Err(GraphError::TooManyLayers { found: layers.len() });
        }
        let mut graph = Self { layers: Vec::new(), activations: vec![input], skips: Vec::new() };
        let mut elements = 0;
        count(&mut elements, INPUT, input)?;
        for layer in layers {
            let output = graph.push(layer)?;
            count(&mut elements, &graph.layers[graph.layers.len() - 1].name, output)?;
        }
        match graph.layers.last() {
            Some(Layer { operation: Operation::Linear { skip: None, .. }, .. }) => Ok(graph),
            last => {
                Err(GraphError::LastLayer { layer: last.map(|layer| layer.name.clone()).expect("layers were counted") })
            }
        }
    }

    /// Reads a graph from its JSON. Keys come in any order, each once; none may be missing (only `skip` may) or unknown;
    /// every number is a whole number.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn from_json(text: &str) -> Result<Self, GraphError> {
        Self::read(json::parse("graph", text.as_bytes())?)
    }

    /// Reads a graph as people write it: the JSON of [`Graph::from_json`], or the same keys as TOML, where every layer is a
    /// `[[layers]]`. Model files have JSON only.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn from_text(text: &str) -> Result<Self, GraphError> {
        if text.trim_start().starts_with('{') {
            return Self::from_json(text);
        }
        let value = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or("");
            GraphError::Toml { line: before.matches('\n').count() + 1, message: quote(error.message()) }
        })?;
        Self::read(value)
    }

    fn read(value: Json) -> Result<Self, GraphError> {
        let mut fields = value.object("graph")?;
        let version = fields.integer("version")?;
        if version != VERSION {
            return Err(GraphError::Version { found: version });
        }
        let input = read_shape(fields.take("input")?)?;
        let list = fields.take("layers")?.list("graph.layers")?;
        fields.finish()?;
        if list.len() > MAX_LAYERS {
            return Err(GraphError::TooManyLayers { found: list.len() });
        }
        let layers =
            list.into_iter().enumerate().map(|(index, value)| read_layer(index, value)).collect::<Result<_, _>>()?;
        Self::new(input, layers)
    }

    /// The graph as JSON without white space, keys in the order of the format's description: one graph, one text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a graph holds only numbers and names, which JSON can hold")
    }

    /// The shape of the pixels.
    pub fn input(&self) -> Shape {
        self.activations[0]
    }

    /// The layers, in order.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The shapes of all activations: the input, then every layer's output, one more than there are layers. Layer `i`
    /// reads activation `i` and writes activation `i + 1`.
    pub fn activations(&self) -> &[Shape] {
        &self.activations
    }

    /// The activation that a layer adds before its clamp, as an index into [`Graph::activations`], at most `layer`.
    pub fn skip(&self, layer: usize) -> Option<usize> {
        self.skips[layer]
    }

    /// The number of logits.
    pub fn logits(&self) -> usize {
        self.activations[self.layers.len()].channels
    }

    /// The shape of a layer's weights: `(O, I, kernel, kernel)` for a convolution, `(O, I)` for a linear layer, none for
    /// a pool.
    pub fn weight_shape(&self, layer: usize) -> Option<Vec<usize>> {
        let input = self.activations[layer];
        match self.layers[layer].operation {
            Operation::Conv { channels, kernel, .. } => Some(vec![channels, input.channels, kernel, kernel]),
            Operation::Linear { channels, .. } => Some(vec![channels, input.elements()]),
            Operation::MaxPool { .. } | Operation::SumPool { .. } => None,
        }
    }

    /// Whether a layer is the last, whose sums are the logits.
    pub fn is_last(&self, layer: usize) -> bool {
        layer + 1 == self.layers.len()
    }

    fn push(&mut self, layer: Layer) -> Result<Shape, GraphError> {
        let index = self.layers.len();
        let name = &layer.name;
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
        if name.is_empty() || name.len() > MAX_NAME || name == INPUT || !name.bytes().all(allowed) {
            return Err(GraphError::Name { index, name: quote(name) });
        }
        if self.layers.iter().any(|earlier| earlier.name == *name) {
            return Err(GraphError::DuplicateName { name: name.clone() });
        }
        let input = self.activations[index];
        let output = layer.output(input)?;
        let skip = match layer.operation.skip() {
            None => None,
            Some(skip) => {
                let found = if skip == INPUT {
                    Some(0)
                } else {
                    self.layers.iter().position(|earlier| earlier.name == skip).map(|place| place + 1)
                };
                let found = found.ok_or_else(|| GraphError::UnknownSkip { layer: name.clone(), skip: quote(skip) })?;
                if self.activations[found] != output {
                    return Err(GraphError::SkipShape {
                        layer: name.clone(),
                        skip: quote(skip),
                        expected: output,
                        found: self.activations[found],
                    });
                }
                Some(found)
            }
        };
        self.layers.push(layer);
        self.activations.push(output);
        self.skips.push(skip);
        Ok(output)
    }
}

impl Layer {
    /// A convolution without a skip.
    pub fn conv(name: &str, channels: usize, kernel: usize, stride: usize, padding: usize) -> Self {
        Self { name: name.into(), operation: Operation::Conv { channels, kernel, stride, padding, skip: None } }
    }

    /// A linear layer without a skip.
    pub fn linear(name: &str, channels: usize) -> Self {
        Self { name: name.into(), operation: Operation::Linear { channels, skip: None } }
    }

    /// A max-pool.
    pub fn max_pool(name: &str, kernel: usize, stride: usize) -> Self {
        Self { name: name.into(), operation: Operation::MaxPool { kernel, stride } }
    }

    /// A sum-pool.
    pub fn sum_pool(name: &str, kernel: usize, stride: usize, shift: u8) -> Self {
        Self { name: name.into(), operation: Operation::SumPool { kernel, stride, shift } }
    }

    /// The same layer with the named earlier activation added. A pool stays as it is.
    #[must_use]
    pub fn with_skip(mut self, earlier: &str) -> Self {
        match &mut self.operation {
            Operation::Conv { skip, .. } | Operation::Linear { skip, .. } => *skip = Some(earlier.into()),
            Operation::MaxPool { .. } | Operation::SumPool { .. } => {}
        }
        self
    }

    /// The shape of the output over an input.
    fn output(&self, input: Shape) -> Result<Shape, GraphError> {
        match self.operation {
            Operation::Conv { channels, kernel, stride, padding, .. } => {
                self.dimension("channels", channels as u64)?;
                self.dimension("kernel", kernel as u64)?;
                if padding >= kernel {
                    return Err(GraphError::Padding { layer: self.name.clone(), padding: padding as u64, kernel });
                }
                self.slide(Shape { channels, ..input }, kernel, stride, padding)
            }
            Operation::Linear { channels, .. } => {
                self.dimension("channels", channels as u64)?;
                Ok(Shape { channels, height: 1, width: 1 })
            }
            Operation::MaxPool { kernel, stride } => self.slide(input, kernel, stride, 0),
            Operation::SumPool { kernel, stride, shift } => {
                if shift > MAX_SHIFT {
                    return Err(GraphError::Shift { layer: self.name.clone(), shift: shift.into() });
                }
                self.slide(input, kernel, stride, 0)
            }
        }
    }

    fn dimension(&self, key: &'static str, found: u64) -> Result<usize, GraphError> {
        dimension(&format!("layer {:?}", self.name), key, found)
    }

    /// How often a window fits: `floor((size + 2 * padding - kernel) / stride) + 1` in each direction.
    fn slide(&self, over: Shape, kernel: usize, stride: usize, padding: usize) -> Result<Shape, GraphError> {
        self.dimension("kernel", kernel as u64)?;
        self.dimension("stride", stride as u64)?;
        let (height, width) = (over.height + 2 * padding, over.width + 2 * padding);
        if kernel > height || kernel > width {
            return Err(GraphError::Kernel { layer: self.name.clone(), kernel, height, width });
        }
        Ok(Shape { height: (height - kernel) / stride + 1, width: (width - kernel) / stride + 1, ..over })
    }
}

impl Operation {
    /// The name of the kind, as in the JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Conv { .. } => "conv",
            Self::Linear { .. } => "linear",
            Self::MaxPool { .. } => "max_pool",
            Self::SumPool { .. } => "sum_pool",
        }
    }

    /// The name of the activation that is added.
    pub fn skip(&self) -> Option<&str> {
        match self {
            Self::Conv { skip, .. } | Self::Linear { skip, .. } => skip.as_deref(),
            Self::MaxPool { .. } | Self::SumPool { .. } => None,
        }
    }
}

impl Serialize for Graph {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("version", &VERSION)?;
        map.serialize_entry("input", &self.input())?;
        map.serialize_entry("layers", &self.layers)?;
        map.end()
    }
}

impl Serialize for Layer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("kind", self.operation.kind())?;
        match &self.operation {
            Operation::Conv { channels, kernel, stride, padding, .. } => {
                map.serialize_entry("channels", channels)?;
                map.serialize_entry("kernel", kernel)?;
                map.serialize_entry("stride", stride)?;
                map.serialize_entry("padding", padding)?;
            }
            Operation::Linear { channels, .. } => map.serialize_entry("channels", channels)?,
            Operation::MaxPool { kernel, stride } => {
                map.serialize_entry("kernel", kernel)?;
                map.serialize_entry("stride", stride)?;
            }
            Operation::SumPool { kernel, stride, shift } => {
                map.serialize_entry("kernel", kernel)?;
                map.serialize_entry("stride", stride)?;
                map.serialize_entry("shift", shift)?;
            }
        }
        if let Some(skip) = self.operation.skip() {
            map.serialize_entry("skip", skip)?;
        }
        map.end()
    }
}

fn read_shape(value: Json) -> Result<Shape, GraphError> {
    let mut fields = value.object("graph.input")?;
    let shape = Shape {
        channels: dimension(INPUT, "channels", fields.integer("channels")?)?,
        height: dimension(INPUT, "height", fields.integer("height")?)?,
        width: dimension(INPUT, "width", fields.integer("width")?)?,
    };
    fields.finish()?;
    Ok(shape)
}

fn read_layer(index: usize, value: Json) -> Result<Layer, GraphError> {
    let mut fields = value.object(&format!("graph.layers[{index}]"))?;
    let name = fields.text("name")?;
    let kind = fields.text("kind")?;
    let at = format!("layer {:?}", quote(&name));
    let size = |fields: &mut Fields, key| dimension(&at, key, fields.integer(key)?);
    let operation = match kind.as_str() {
        "conv" => {
            let channels = size(&mut fields, "channels")?;
            let kernel = size(&mut fields, "kernel")?;
            let stride = size(&mut fields, "stride")?;
            let padding = fields.integer("padding")?;
            if padding >= kernel as u64 {
                return Err(GraphError::Padding { layer: quote(&name), padding, kernel });
            }
            Operation::Conv { channels, kernel, stride, padding: padding as usize, skip: read_skip(&mut fields)? }
        }
        "linear" => Operation::Linear { channels: size(&mut fields, "channels")?, skip: read_skip(&mut fields)? },
        "max_pool" => Operation::MaxPool { kernel: size(&mut fields, "kernel")?, stride: size(&mut fields, "stride")? },
        "sum_pool" => {
            let kernel = size(&mut fields, "kernel")?;
            let stride = size(&mut fields, "stride")?;
            let shift = fields.integer("shift")?;
            let shift = u8::try_from(shift).map_err(|_| GraphError::Shift { layer: quote(&name), shift })?;
            Operation::SumPool { kernel, stride, shift }
        }
        _ => return Err(GraphError::Kind { layer: quote(&name), kind: quote(&kind) }),
    };
    fields.finish()?;
    Ok(Layer { name, operation })
}

fn read_skip(fields: &mut Fields) -> Result<Option<String>, JsonError> {
    let at = fields.place("skip");
    fields.take_optional("skip").map(|value| value.text(&at)).transpose()
}

fn dimension(at: &str, key: &'static str, found: u64) -> Result<usize, GraphError> {
    if found == 0 || found > MAX_DIMENSION {
        return Err(GraphError::Dimension { at: at.into(), key, found });
    }
    Ok(found as usize)
}

fn count(elements: &mut u64, layer: &str, shape: Shape) -> Result<(), GraphError> {
    // Every dimension is at most 2 * 65535 + 65535 (padded), so the product stays far below 2^64.
    *elements += shape.channels as u64 * shape.height as u64 * shape.width as u64;
    if *elements > MAX_ACTIVATIONS {
        return Err(GraphError::TooManyActivations { layer: layer.into(), found: *elements });
    }
    Ok(())
}
