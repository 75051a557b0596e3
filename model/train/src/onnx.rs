//! Import of an image classifier from an ONNX file: float networks as PyTorch and Keras export them, and quantised ones of both
//! forms ([`lower`]).
//!
//! What is read becomes a [`network::Network`], which [`crate::quantize`] makes integers of: the file's own, or by calibration.
//! Batch normalisation and all other scaling and moving by constants is folded into weights and biases, in floats without loss.

mod builder;
mod lower;
pub mod network;
mod node;
mod operators;
pub(crate) mod proto;
mod run;
mod tensor;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use ocelli_model::graph::{MAX_DIMENSION, Shape};
use prost::Message as _;

use self::lower::{Lowering, Read, name_of};
use self::network::Network;
use self::operators::{VERSIONS, advice};
use self::proto::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, element};
use self::value::{Affine, Layout};

/// The largest ONNX file, and the largest file of tensors beside it, in bytes.
pub const MAX_ONNX_BYTES: usize = 512 << 20;
/// The most nodes of a graph.
const MAX_NODES: usize = 4096;
/// The most files of tensors.
const MAX_EXTERNAL_FILES: usize = 64;
/// A network whose first constant divides by this or more, or subtracts this share of it, reads bytes.
const BYTES_FROM: f64 = 100.0;

/// An ONNX file that cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// The file is too large.
    #[error("the file has {found} bytes, more than {MAX_ONNX_BYTES}")]
    TooLarge {
        /// Its bytes.
        found: usize,
    },
    /// The file is no ONNX model.
    #[error("found no ONNX model")]
    Decode(#[from] prost::DecodeError),
    /// The file has no graph.
    #[error("found no graph in the file, expected an ONNX model")]
    NoGraph,
    /// There are too many nodes.
    #[error("the graph has {found} nodes, more than {MAX_NODES}")]
    TooManyNodes {
        /// The number found.
        found: usize,
    },
    /// The file's operators are of no version that is read.
    #[error("found {} of ONNX's operators, expected one from {} to {}", said(.found), VERSIONS.start(), VERSIONS.end())]
    Version {
        /// The versions found.
        found: Vec<i64>,
    },
    /// A node runs what the file defines itself.
    #[error("operator {operator:?} (node {node:?}) is a function of the file itself, expected ONNX's own operator")]
    Function { operator: String, node: String },
    /// An operator that is not read: the first in the order of the graph.
    #[error(
        "operator {operator:?} (node {node:?}) is not supported; supported are {supported}",
        supported = operators::names().collect::<Vec<_>>().join(", ")
    )]
    Unsupported {
        /// The operator, with its domain where that is not ONNX's own.
        operator: String,
        node: String,
    },
    /// An operator that is read, but not as the node has it.
    #[error("operator {operator:?} (node {node:?}): {reason}")]
    Node {
        operator: String,
        node: String,
        /// What was found and what was expected.
        reason: String,
    },
    /// A constant that cannot be read.
    #[error("{reason}")]
    Tensor {
        /// What was found and what was expected.
        reason: String,
    },
    /// A file of tensors that cannot be read.
    #[error("cannot read {file:?}, in which the model keeps tensors")]
    External {
        /// The file, as the model names it.
        file: String,
        #[source]
        source: io::Error,
    },
    /// The graph does not read pictures.
    #[error(
        "{reason}; expected one input of (pictures, channels, rows, columns) or (pictures, rows, columns, channels), with 1 or 3 channels and fixed numbers of rows and columns"
    )]
    Input {
        /// What was found.
        reason: String,
    },
    /// The graph does not give logits.
    #[error("{reason}; expected one output, a number for each class, or their Softmax")]
    Output {
        /// What was found.
        reason: String,
    },
    /// A number that pixels are to be changed by.
    #[error("{name} has {found} numbers, expected 1 or {channels}, none of them 0 where it divides or scales")]
    Preprocessing {
        name: &'static str,
        /// How many numbers there are.
        found: usize,
        /// The channels of the input.
        channels: usize,
    },
}

impl OnnxError {
    /// What to try.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unsupported { operator, .. } | Self::Node { operator, .. } => advice(operator),
            Self::Tensor { .. } => "export the network anew, as floats of 32 bits",
            Self::External { .. } => "put the files of its tensors beside the model, as they were written",
            Self::Input { .. } => {
                "export the network for one picture of a fixed size: torch.onnx.export without dynamic_axes"
            }
            Self::Output { .. } => "export the network up to its logits, as its only output",
            Self::Decode(_) | Self::NoGraph => "export it with torch.onnx.export or tf2onnx",
            Self::Version { .. } => "export it again with opset 17, or convert it with onnx.version_converter",
            Self::Function { .. } => {
                "put what its functions do in their place with onnx.inliner.inline_local_functions"
            }
            Self::TooLarge { .. } | Self::TooManyNodes { .. } => "take a smaller network",
            Self::Preprocessing { .. } => "give one number, or one for each channel",
        }
    }
}

fn said(versions: &[i64]) -> String {
    match versions {
        [] => "no version".into(),
        [version] => format!("version {version}"),
        versions => format!("versions {versions:?}"),
    }
}

/// How a pixel, 0..=255, becomes what the network reads: `(pixel * scale - mean) / deviation`, as torchvision's `ToTensor`
/// and `Normalize` do.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Preprocessing {
    /// What a pixel is multiplied by; where none is given, 1 for a network that scales bytes itself, else 1 / 255.
    pub scale: Option<f64>,
    /// The mean of every channel, one for all, or none for 0.
    pub mean: Vec<f64>,
    /// The deviation of every channel, one for all, or none for 1.
    pub deviation: Vec<f64>,
}

/// What was read from an ONNX file.
#[derive(Debug, Clone)]
pub struct OnnxNetwork {
    /// The layers, with float weights and the file's integers.
    pub network: Network,
    /// The program that wrote the file, as it says.
    pub producer: String,
    /// What a pixel is multiplied by, as given or found.
    pub scale: f64,
    /// Whether the file itself says that its input is bytes.
    pub reads_bytes: bool,
}

/// Reads an ONNX file. `open` is asked for the files of tensors that lie beside it, by their plain names.
///
/// # Errors
/// The first operator that is not supported, or the first thing that is not as expected.
pub fn import(
    bytes: &[u8],
    preprocessing: &Preprocessing,
    open: &mut dyn FnMut(&str) -> io::Result<Vec<u8>>,
) -> Result<OnnxNetwork, OnnxError> {
    if bytes.len() > MAX_ONNX_BYTES {
        return Err(OnnxError::TooLarge { found: bytes.len() });
    }
    let model = ModelProto::decode(bytes)?;
    let graph = model.graph.ok_or(OnnxError::NoGraph)?;
    let versions = model.opset_import.iter().filter(|set| is_own(&set.domain)).map(|set| set.version);
    let versions: Vec<i64> = versions.collect();
    if graph.node.len() > MAX_NODES {
        return Err(OnnxError::TooManyNodes { found: graph.node.len() });
    }
    if let Some(node) = graph.node.iter().find(|node| !is_supported(node)) {
        let domain = if is_own(&node.domain) { String::new() } else { format!("{}.", node.domain) };
        return Err(OnnxError::Unsupported { operator: format!("{domain}{}", node.op_type), node: name_of(node) });
    }
    let version = match versions[..] {
        [version] if VERSIONS.contains(&version) => version,
        _ => return Err(OnnxError::Version { found: versions }),
    };
    let is_function = |node: &&NodeProto| {
        let same = |domain: &str| domain == node.domain || is_own(domain) && is_own(&node.domain);
        model.functions.iter().any(|function| function.name == node.op_type && same(&function.domain))
    };
    if let Some(node) = graph.node.iter().find(is_function) {
        return Err(OnnxError::Function { operator: node.op_type.clone(), node: name_of(node) });
    }
    let external = External::open(&graph, open)?;
    let InputOfGraph { name, shape, layout, pictures, least } = input(&graph)?;
    let by_type = least.map(|_| 1.0);
    let found = || if reads_bytes(&graph, name, &external) { 1.0 } else { 1.0 / 255.0 };
    let scale = preprocessing.scale.or(by_type).unwrap_or_else(found);
    let pixels = preprocessing.affine(scale, shape.channels)?;
    let moved = Affine { scale: vec![1.0; shape.channels], offset: vec![least.unwrap_or(0.0); shape.channels] };
    let read = Read { name, shape, layout, pictures, version, affine: pixels.then(&moved), least };
    let lowering = Lowering::new(&graph, read, &external)?;
    let network = lowering.finish(&graph)?;
    Ok(OnnxNetwork { network, producer: model.producer_name, scale, reads_bytes: least.is_some() })
}

impl OnnxNetwork {
    /// Channels, rows and columns of the pictures that it reads.
    pub fn input(&self) -> Shape {
        self.network.input.shape
    }

    /// The number of classes.
    pub fn logits(&self) -> usize {
        self.network.shape(self.network.layers.len()).channels
    }

    /// The logits in floats, `pixels` u8 in CHW order.
    pub fn run(&self, pixels: &[u8]) -> Vec<f32> {
        self.network.logits(pixels)
    }

    /// Layers by name, with the names of what they read.
    pub fn layers(&self) -> Vec<(String, Vec<String>)> {
        let name =
            |from: &usize| from.checked_sub(1).map_or("input", |layer| &self.network.layers[layer].name).to_owned();
        let layers = self.network.layers.iter();
        layers.map(|layer| (layer.name.clone(), layer.from.iter().map(name).collect())).collect()
    }

    /// Whether activations have to be measured, since the file gives no integers for some of them.
    pub fn needs_pictures(&self) -> bool {
        self.network.needs_pictures()
    }
}

impl Preprocessing {
    /// As a function of a pixel's byte.
    fn affine(&self, scale: f64, channels: usize) -> Result<Affine, OnnxError> {
        let each = |name, values: &[f64], default: f64, zero: bool| {
            let fine = |values: &&[f64]| {
                [0, 1, channels].contains(&values.len())
                    && values.iter().all(|value| value.is_finite() && (zero || *value != 0.0))
            };
            let values =
                Some(values).filter(fine).ok_or(OnnxError::Preprocessing { name, found: values.len(), channels })?;
            Ok::<_, OnnxError>(
                (0..channels)
                    .map(|channel| values.get(channel).or(values.first()).copied().unwrap_or(default))
                    .collect::<Vec<f64>>(),
            )
        };
        let scale = each("scale", &[scale], 1.0, false)?;
        let (mean, deviation) = (each("mean", &self.mean, 0.0, true)?, each("std", &self.deviation, 1.0, false)?);
        let numbers = scale.iter().zip(&mean).zip(&deviation);
        let (scale, offset) = numbers.map(|((scale, mean), deviation)| (scale / deviation, -mean / deviation)).unzip();
        Ok(Affine { scale, offset })
    }
}

/// Why a node or tensor is not as expected; whoever knows which one adds that.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    reason: String,
}

impl Fault {
    fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// The files of tensors beside the model.
#[derive(Debug, Default)]
struct External {
    files: BTreeMap<String, Vec<u8>>,
}

impl External {
    fn open(graph: &GraphProto, open: &mut dyn FnMut(&str) -> io::Result<Vec<u8>>) -> Result<Self, OnnxError> {
        let of_nodes = graph.node.iter().flat_map(|node| &node.attribute).filter_map(|attribute| attribute.t.as_ref());
        let tensors = graph.initializer.iter().chain(of_nodes).filter(|tensor| tensor.data_location == 1);
        let names: BTreeSet<&str> = tensors.map(|tensor| entry(tensor, "location")).collect();
        let mut external = Self::default();
        for name in names {
            let failed = |source| OnnxError::External { file: name.into(), source };
            let wrong = |reason: String| failed(io::Error::new(io::ErrorKind::InvalidInput, reason));
            if !is_beside(name) {
                return Err(wrong("expected a file in the model's own folder or below it".into()));
            }
            if external.files.len() == MAX_EXTERNAL_FILES {
                return Err(wrong(format!("it is one of more than {MAX_EXTERNAL_FILES} such files")));
            }
            external.files.insert(name.into(), open(name).map_err(failed)?);
        }
        Ok(external)
    }

    fn read(&self, tensor: &TensorProto) -> Result<&[u8], Fault> {
        let number = |key| match entry(tensor, key) {
            "" => Some(None),
            text => text.parse::<usize>().ok().map(Some),
        };
        let found = self.files.get(entry(tensor, "location")).zip(number("offset")).zip(number("length"));
        let bytes = found.and_then(|((file, offset), length)| {
            let rest = file.get(offset.unwrap_or(0)..)?;
            length.map_or(Some(rest), |length| rest.get(..length))
        });
        bytes.ok_or_else(|| {
            Fault::new(format!("tensor {:?} lies outside of the file that is said to hold it", tensor.name))
        })
    }
}

fn entry<'a>(tensor: &'a TensorProto, key: &str) -> &'a str {
    tensor.external_data.iter().find(|entry| entry.key == key).map_or("", |entry| entry.value.as_str())
}

/// Whether a file lies in the model's folder, or one below that.
fn is_beside(name: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part != ".." && !part.contains(['\\', ':']);
    name.strip_prefix("./").unwrap_or(name).split('/').all(part)
}

fn is_own(domain: &str) -> bool {
    ["", "ai.onnx"].contains(&domain)
}

/// Whether an operator is read; those of ONNX Runtime that quantise, too.
fn is_supported(node: &NodeProto) -> bool {
    let operator = node.op_type.as_str();
    let is_quantised = operator.starts_with('Q') || ["DequantizeLinear", "Gelu"].contains(&operator);
    operators::names().any(|name| name == operator)
        && (is_own(&node.domain) || node.domain == "com.microsoft" && is_quantised)
}

/// The pictures that a graph reads.
struct InputOfGraph<'a> {
    name: &'a str,
    shape: Shape,
    layout: Layout,
    /// How many there are at once, or 0 where the file leaves that open.
    pictures: i64,
    /// What a pixel of 0 is, where the elements are bytes.
    least: Option<f64>,
}

fn input(graph: &GraphProto) -> Result<InputOfGraph<'_>, OnnxError> {
    let constants: BTreeSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let inputs: Vec<&ValueInfoProto> =
        graph.input.iter().filter(|input| !constants.contains(input.name.as_str())).collect();
    let [input] = inputs[..] else {
        return Err(OnnxError::Input { reason: format!("found {} inputs", inputs.len()) });
    };
    let tensor = input.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
    let least = match tensor.map_or(element::FLOAT, |tensor| tensor.elem_type) {
        element::UINT8 => Some(0.0),
        element::INT8 => Some(-128.0),
        element::FLOAT | element::FLOAT16 | element::BFLOAT16 | element::DOUBLE => None,
        other => {
            let name = &input.name;
            return Err(OnnxError::Input {
                reason: format!("input {name:?} has elements of type {other}, not floats or bytes"),
            });
        }
    };
    let shape = tensor.and_then(|tensor| tensor.shape.as_ref());
    let dims: Vec<i64> = shape.map(|shape| shape.dim.iter().map(|dim| dim.dim_value).collect()).unwrap_or_default();
    let is_picture = |channels: i64, height: i64, width: i64| {
        let size = 1..=MAX_DIMENSION as i64;
        (channels == 1 || channels == 3) && size.contains(&height) && size.contains(&width)
    };
    let found = |pictures: i64, [channels, height, width]: [i64; 3], layout: Layout| InputOfGraph {
        pictures,
        name: &input.name,
        shape: Shape { channels: channels as usize, height: height as usize, width: width as usize },
        layout,
        least,
    };
    match dims[..] {
        [pictures, channels, height, width] if is_picture(channels, height, width) => {
            Ok(found(pictures, [channels, height, width], Layout::Nchw))
        }
        [pictures, height, width, channels] if is_picture(channels, height, width) => {
            Ok(found(pictures, [channels, height, width], Layout::Nhwc))
        }
        _ => Err(OnnxError::Input { reason: format!("input {:?} is {dims:?} (0: not fixed)", input.name) }),
    }
}

/// Whether the first thing that is done to the pictures makes sense only for numbers up to 255.
fn reads_bytes(graph: &GraphProto, input: &str, external: &External) -> bool {
    let mut name = input;
    for node in &graph.node {
        if !node.input.iter().any(|input| input == name) {
            continue;
        }
        let constant = || {
            let other = node.input.iter().find(|input| *input != name)?;
            let of_node =
                graph.node.iter().find(|node| node.output.first() == Some(other) && node.op_type == "Constant");
            let attribute = of_node.and_then(|node| node.attribute.iter().find_map(|attribute| attribute.t.as_ref()));
            let tensor = graph.initializer.iter().find(|tensor| tensor.name == *other).or(attribute)?;
            let values = tensor::Constant::read(tensor, external).ok()?.floats();
            Some(values.into_iter().map(f64::abs).fold(0.0, f64::max))
        };
        match node.op_type.as_str() {
            "Cast" | "Identity" | "Transpose" => match node.output.first() {
                Some(output) => name = output,
                None => return false,
            },
            "Div" => return constant().is_some_and(|largest| largest >= BYTES_FROM),
            "Mul" => return constant().is_some_and(|largest| largest <= 1.0 / BYTES_FROM),
            "Sub" | "Add" => return constant().is_some_and(|largest| largest >= 2.0),
            // 255 steps reach as far as the numbers do.
            "QuantizeLinear" => return constant().is_some_and(|largest| 255.0 * largest >= BYTES_FROM),
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod beside_onnxruntime;
#[cfg(test)]
mod tests;
