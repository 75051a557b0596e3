//! Import of an image classifier from a TFLite file of full-integer int8, as it is: its arithmetic is ours.
//!
//! Each operator becomes a layer of the same integers. The logits are those of LiteRT (with XNNPACK, which it runs int8 networks
//! by) before their softmax, and so is each activation on the way, with one exception: LiteRT rounds the halves of an
//! AVERAGE_POOL_2D away from zero, and we round them to even.

mod arithmetic;
mod file;
mod lower;

use std::collections::BTreeMap;

use ocelli_model::display::Display;
use ocelli_model::file::ModelFile;
use ocelli_model::graph::{Graph, GraphError, Layer, MAX_CROP, Shape};
use ocelli_model::{Model, ModelError, Parameters};

use self::arithmetic::Line;
pub use self::file::is_tflite;
use self::file::{File, kind};
use self::lower::{AVERAGE_POOL, Built, lower};

/// The largest TFLite file, in bytes: four times the largest model file.
pub const MAX_TFLITE_BYTES: usize = 256 << 20;

/// A TFLite file that cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum TfliteError {
    /// The file is too large.
    #[error("the file has {found} bytes, more than {MAX_TFLITE_BYTES}")]
    TooLarge {
        /// Its bytes.
        found: usize,
    },
    /// The file does not say that it is one.
    #[error("found no TFLite file, expected one with \"TFL3\" at its fifth byte")]
    NotTflite,
    /// The file's tables are not what they should be.
    #[error("the file is damaged, or too large in one of its parts: {reason}")]
    Broken {
        /// What was found.
        reason: String,
    },
    /// An operator that has no counterpart.
    #[error("operator {index}, {operator}, which gives {name:?}: {}", fault.reason)]
    Operator {
        /// Its place in the file, from 0.
        index: usize,
        operator: String,
        /// The name of its output.
        name: String,
        fault: Fault,
    },
    /// The network does not read a picture.
    #[error("the input: {}", fault.reason)]
    Input { fault: Fault },
    /// The network does not give logits.
    #[error("the output: {}", fault.reason)]
    Output { fault: Fault },
    /// Numbers that pixels are to be changed by.
    #[error("{name} has {found} numbers, expected 1 or {channels}, none of them 0 where it divides or scales")]
    Pixels {
        name: &'static str,
        /// How many numbers there are.
        found: usize,
        /// The channels of the input.
        channels: usize,
    },
    /// The layers make no graph of ours. A layer's name ends in the number of its operator.
    #[error("the layers are not allowed")]
    Graph(#[from] GraphError),
    /// The layers make no model of ours.
    #[error("the layers make no exact model")]
    Model(#[from] ModelError),
}

/// Why an operator has no counterpart, and what to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What was found, and what was expected.
    pub reason: String,
    /// As an imperative.
    pub hint: &'static str,
}

impl Fault {
    fn new(reason: impl Into<String>, hint: &'static str) -> Self {
        Self { reason: reason.into(), hint }
    }
}

impl From<TfliteError> for Fault {
    fn from(error: TfliteError) -> Self {
        Self::new(error.to_string(), "convert or download the file again")
    }
}

/// How a pixel, 0..=255, becomes the real number that the network reads: `(pixel * scale - mean) / deviation`. Where nothing is
/// given, pixels are the bytes that the network reads: so are nearly all networks quantised.
#[derive(Debug, Clone, PartialEq)]
pub struct Pixels {
    /// What a pixel is multiplied by; 1 / 255 where only others are given.
    pub scale: Option<f64>,
    /// The mean of every channel, one for all, or none for 0.
    pub mean: Vec<f64>,
    /// The deviation of every channel, one for all, or none for 1.
    pub deviation: Vec<f64>,
    /// How much of a picture's sides the network is shown, in 256ths, 1..=256.
    pub crop: u16,
}

impl Default for Pixels {
    /// The bytes that the network reads, of whole pictures.
    fn default() -> Self {
        Self { scale: None, mean: Vec::new(), deviation: Vec::new(), crop: MAX_CROP }
    }
}

/// What was read from a TFLite file: a network of ours.
#[derive(Debug)]
pub struct Imported {
    pub graph: Graph,
    /// Who wrote the file, as it says.
    pub description: String,
    /// What the logits are multiplied by before a softmax.
    pub scale: f64,
    /// The real numbers that pixels of 0 and of 255 are to the network, in the first channel.
    pub range: [f64; 2],
    /// For each channel what LiteRT is given for each pixel: a number of the input's type.
    pub given: Vec<Vec<f32>>,
    /// The tensors of the file that are activations or the logits.
    pub tensors: Vec<TensorOfLayer>,
    /// The number of the tensor that the logits are, counted from its zero point.
    pub logits: usize,
    parameters: Vec<Parameters>,
}

/// A tensor of the file, and the layer that gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorOfLayer {
    /// The number of the tensor.
    pub tensor: usize,
    /// Its layer's number; none for the input.
    pub layer: Option<usize>,
    pub shape: Shape,
    /// The byte that stands for zero.
    pub zero_point: u8,
    /// The number that the file has for a byte of 0: -128, or 0 where its numbers have no sign.
    pub least: i32,
}

/// Reads a TFLite file.
///
/// # Errors
/// The first operator that has no counterpart, or the first thing that is not as expected.
pub fn import(bytes: &[u8], pixels: &Pixels) -> Result<Imported, TfliteError> {
    if bytes.len() > MAX_TFLITE_BYTES {
        return Err(TfliteError::TooLarge { found: bytes.len() });
    }
    let file = File::read(bytes)?;
    let Built { input, layers, parameters, values, logits, scale, pixels: given, range } = lower(&file, pixels)?;
    let names: BTreeMap<&str, usize> =
        layers.iter().zip(0..).map(|(layer, index)| (layer.name.as_str(), index)).collect();
    // What a PAD gives has no layer of its own.
    let tensors = values.iter().filter(|(_, value)| value.padding == [0; 4]).map(|(tensor, value)| TensorOfLayer {
        tensor: *tensor,
        layer: names.get(value.from.as_str()).copied(),
        shape: value.shape,
        zero_point: value.quantisation.zero_byte(),
        least: if file.tensors[*tensor].kind == kind::UINT8 { 0 } else { -128 },
    });
    let tensors = tensors.collect();
    let graph = Graph::new(input, layers)?;
    let description = file.description;
    Ok(Imported { graph, description, scale, range, given, tensors, logits, parameters })
}

/// The file that ends with one of its tensors: LiteRT gives that, which otherwise may never be in memory.
///
/// # Errors
/// For a file without such a tensor, or that is no TFLite file.
pub fn ending_with(bytes: &[u8], tensor: usize) -> Result<Vec<u8>, TfliteError> {
    let file = File::read(bytes)?;
    if tensor >= file.tensors.len() {
        let reason = format!("found {} tensors, expected one of the number {tensor}", file.tensors.len());
        return Err(TfliteError::Broken { reason });
    }
    Ok(file.ending_with(bytes, tensor))
}

impl Imported {
    /// The model, proven exact.
    ///
    /// # Errors
    /// If there are not as many classes as outputs, or sums could become too large.
    pub fn model(&self, name: String, classes: Vec<String>, card: String) -> Result<Model, TfliteError> {
        let display = Display { name, classes, scale: self.scale, card };
        let file = ModelFile { graph: self.graph.clone(), parameters: self.parameters.clone(), display };
        Ok(file.build()?)
    }

    /// The number of the file's last tensor that logits of 0 are.
    pub fn zero_point(&self) -> i32 {
        let last = self.tensors.iter().find(|found| found.tensor == self.logits);
        last.map_or(0, |last| i32::from(last.zero_point) + last.least)
    }

    /// Whether LiteRT may round some halves otherwise: those of an AVERAGE_POOL_2D of an even number of elements.
    pub fn has_halves(&self) -> bool {
        let even = |layer: &Layer| layer.operation.window().is_some_and(|window| window.taps().is_multiple_of(2));
        self.graph.layers().iter().any(|layer| layer.name.starts_with(AVERAGE_POOL) && even(layer))
    }
}

impl Pixels {
    /// Checks the numbers against the channels of a network.
    fn check(&self, channels: usize) -> Result<(), TfliteError> {
        let scale: Vec<f64> = self.scale.into_iter().collect();
        for (name, values, may_be_zero) in
            [("scale", &scale, false), ("mean", &self.mean, true), ("std", &self.deviation, false)]
        {
            let fine = [0, 1, channels].contains(&values.len())
                && values.iter().all(|value| value.is_finite() && (may_be_zero || *value != 0.0));
            if !fine {
                return Err(TfliteError::Pixels { name, found: values.len(), channels });
            }
        }
        Ok(())
    }

    /// How each channel is scaled and moved, or how all are; nothing where pixels are the bytes that the network reads.
    fn lines(&self, channels: usize) -> Vec<Line> {
        if self.scale.is_none() && self.mean.is_empty() && self.deviation.is_empty() {
            return Vec::new();
        }
        let scale = self.scale.unwrap_or(1.0 / 255.0);
        let of = |values: &[f64], channel: usize, default: f64| {
            values.get(channel).or(values.first()).copied().unwrap_or(default)
        };
        let line = |channel: usize| {
            let (mean, deviation) = (of(&self.mean, channel, 0.0), of(&self.deviation, channel, 1.0));
            Line { slope: scale / deviation, offset: -mean / deviation }
        };
        let mut lines: Vec<_> = (0..channels).map(line).collect();
        if lines.iter().all(|line| *line == lines[0]) {
            lines.truncate(1);
        }
        lines
    }
}
