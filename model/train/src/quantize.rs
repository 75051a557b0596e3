//! From float weights to an exact integer model.
//!
//! An activation `a` of a layer becomes the integer `q` with `a = (q - zero point) * step`. The graph says between which integers
//! each layer's output lies, 0 to 127 for what convolutions read; how much one of their steps is, and, where nothing clamps at
//! zero, which of them stands for zero, is measured on pictures. A channel's weights are divided by a unit of its own, so that
//! the largest becomes 127, and its sums are multiplied by `unit * step before / step after`, as in B. Jacob et al.,
//! "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018, section 2.2, but with
//! a scale that is a float. An addition brings both of its inputs to its own step. Where to clip activations is chosen on
//! pictures kept back, and so is the scale that turns logits into probabilities. [`fine_tune`] then trains the float network
//! to answer well as integers. [`quantize_imported`] does the same with networks of files, which labels have no part in.

mod fine_tune;
mod imported;

use ocelli_model::backend::Backend;
use ocelli_model::display::Display;
use ocelli_model::file::{ModelFile, Parameters};
use ocelli_model::graph::{Finish, Graph, GraphError, MAX_MULTIPLIER, MAX_SHIFT, Operation};
use ocelli_model::model::{Model, ModelError};
use ocelli_model::proof::SCALES;
use serde::Serialize;

pub use self::fine_tune::{FineTuned, Progress, fine_tune, fine_tuning};
pub use self::imported::{Clipping, ImportProgress, ImportReport, ImportTrial, Imported, Pictures, quantize_imported};
use crate::dataset::{Dataset, DatasetError};
use crate::evaluate::{EvaluateError, logits};
use crate::train::{self, FloatNetwork, LayerWeights, Rounded, Rounding, TrainError, is_clamped};

/// The shares of the activations that the tried steps leave unclipped; of clamped layers those of what is above zero.
pub const KEPT: [f64; 6] = [1.0, 0.9999, 0.9995, 0.999, 0.998, 0.995];
/// How finely activations are counted, from the one end of what a histogram covers to the other.
const BINS: usize = 8192;
/// How many bounds are tried at either end of what was seen.
const ERROR_TRIALS: usize = 64;
/// How many pictures are calibrated with at once.
const BATCH: usize = 250;
/// The largest magnitude of a weight.
const MAX_WEIGHT: f64 = 127.0;
/// Biases stay below this in magnitude, far from where the proof refuses them: a channel whose weights are nearly zero has a
/// coarser unit.
const MAX_BIAS: f64 = (1u64 << 22) as f64;
/// A channel without weights has a unit by which its bias is this fine a part of the output's step.
const BIAS_PARTS: f64 = (1u64 << 16) as f64;
/// How many times the interval of the probability scale is narrowed, by a golden section each.
const SCALE_STEPS: usize = 60;

/// A quantisation that cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum QuantizeError {
    /// The float network failed.
    #[error("the float network cannot be run")]
    Float(#[from] TrainError),
    /// The integer model failed.
    #[error("the integer model cannot be run")]
    Evaluate(#[from] EvaluateError),
    /// The classes of the data are not the network's.
    #[error(transparent)]
    Classes(#[from] DatasetError),
    /// The data has no picture.
    #[error("found no picture to {purpose} with, expected some")]
    Empty {
        /// What the pictures are for.
        purpose: &'static str,
    },
    /// A weight or bias is no number.
    #[error("layer {layer:?}, channel {channel}: a weight or the bias is not a finite number")]
    NotFinite { layer: String, channel: usize },
    /// A channel has no scale.
    #[error(
        "layer {layer:?}, channel {channel}: its sums would be multiplied by {scale:e}, expected {:e} to below {}; its weights \
         are too small or too large beside its activations", SCALES.start, SCALES.end
    )]
    Scale {
        layer: String,
        channel: usize,
        /// The scale it would have.
        scale: f64,
    },
    /// An addition's inputs are of too different sizes.
    #[error("layer {layer:?}: its inputs would be multiplied by {ratios:?} to be added, expected at most {}", 1u32 << 20)]
    Add {
        layer: String,
        /// What each would be multiplied by.
        ratios: [f64; 2],
    },
    /// The graph that came out is not allowed.
    #[error("the integer graph is not allowed")]
    Graph(#[from] GraphError),
    /// The model that came out is not allowed.
    #[error("the integer model is not allowed")]
    Model(#[from] ModelError),
}

/// An integer model and how it came about.
#[derive(Debug, Clone)]
pub struct Quantized {
    pub model: Model,
    /// What to know about it.
    pub report: Report,
    /// Where activations are clipped.
    grids: Vec<Grid>,
    histograms: Vec<Option<Histogram>>,
}

/// What came of a quantisation. Accuracies are on the pictures kept back.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The layers whose outputs are sums.
    pub layers: Vec<LayerReport>,
    /// All that was tried for clipping.
    pub trials: Vec<Trial>,
    /// The share of the activations that the chosen steps leave unclipped.
    pub kept: f64,
    /// How fine-tuning went, epoch by epoch; empty without it.
    pub fine_tuning: Vec<FineTuned>,
    /// The accuracy of the float network, before any fine-tuning.
    pub float_accuracy: f64,
    /// The accuracy of the integer model.
    pub integer_accuracy: f64,
    /// What a logit is multiplied by before the softmax, as fitted.
    pub scale: f64,
    /// What the scale is by construction: what a logit stands for in the float network.
    pub unfitted_scale: f64,
}

/// What became of a layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerReport {
    pub layer: String,
    /// What one step of its output stands for in the float network; of a logit for the last layer.
    pub step: f64,
    /// Which integer stands for zero; 0 for the last layer.
    pub zero_point: u8,
    /// The share of its activations that are clipped; 0 for the last layer.
    pub clipped: f64,
    /// The smallest and the largest scale of its channels, of layers that have scales.
    pub scales: Option<(f32, f32)>,
    /// What no partial sum of any of its channels exceeds; 0 of an addition.
    pub bound: i64,
}

/// One way to clip.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trial {
    /// The share of the activations left unclipped.
    pub kept: f64,
    /// The accuracy of the integer model.
    pub accuracy: f64,
    /// The mean negative logarithm of the probability of the right class, with a fitted scale: what is chosen by.
    pub loss: f64,
}

/// What a model is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naming {
    pub name: String,
    pub card: String,
}

/// Quantises a float network. Steps are measured on `calibration` (training pictures), chosen on `validation` (pictures
/// kept back from training). `progress` is told each trial.
///
/// # Errors
/// If the network cannot be made exact, or network and data do not fit together.
pub fn quantize(
    network: &FloatNetwork,
    naming: &Naming,
    calibration: &Dataset,
    validation: &Dataset,
    backend: &mut dyn Backend,
    progress: &mut dyn FnMut(&Trial),
) -> Result<Quantized, QuantizeError> {
    for (data, purpose) in [(calibration, "calibrate"), (validation, "validate")] {
        if data.is_empty() {
            return Err(QuantizeError::Empty { purpose });
        }
    }
    let labels = validation.labels_among(network.classes())?;
    let histograms = calibrate(network, calibration);
    let mut trials: Vec<Trial> = Vec::new();
    let mut best: Option<(Trial, Vec<Grid>, Integers, Assessment)> = None;
    for kept in KEPT {
        let grids = grids(network.graph(), &histograms, kept);
        let integers = integers(network, &grids)?;
        let assessment = integers.assess(network, naming, backend, validation, &labels)?;
        let trial = Trial { kept, accuracy: assessment.accuracy, loss: assessment.loss };
        progress(&trial);
        if best.as_ref().is_none_or(|(best, ..)| trial.loss < best.loss) {
            best = Some((trial.clone(), grids, integers, assessment));
        }
        trials.push(trial);
    }
    let (trial, grids, integers, Assessment { model, scale, .. }) =
        best.ok_or(QuantizeError::Empty { purpose: "validate" })?;
    let report = Report {
        layers: report(&model, &grids, &integers, &histograms),
        kept: trial.kept,
        fine_tuning: Vec::new(),
        float_accuracy: train::evaluate(network, validation)?.accuracy,
        integer_accuracy: trial.accuracy,
        scale,
        unfitted_scale: integers.scale,
        trials,
    };
    Ok(Quantized { model, report, grids, histograms })
}

/// How often a layer's activations were how large.
#[derive(Debug, Clone)]
struct Histogram {
    /// Counts from `-reach` to `reach`.
    bins: Vec<u64>,
    reach: f64,
    least: f64,
    largest: f64,
}

impl Histogram {
    fn new() -> Self {
        Self { bins: vec![0; BINS], reach: 1.0 / 1024.0, least: 0.0, largest: 0.0 }
    }

    fn add(&mut self, values: &[f32]) {
        // What is exactly zero tells nothing about sizes.
        let told = values.iter().map(|value| f64::from(*value)).filter(|value| *value != 0.0 && value.is_finite());
        for value in told {
            while value.abs() >= self.reach {
                self.widen();
            }
            let bin = (value / self.reach + 1.0) / 2.0 * BINS as f64;
            self.bins[(bin as usize).min(BINS - 1)] += 1;
            (self.least, self.largest) = (self.least.min(value), self.largest.max(value));
        }
    }

    /// Counts what another one has counted.
    fn merge(&mut self, other: &Self) {
        let mut other = other.clone();
        while self.reach < other.reach {
            self.widen();
        }
        while other.reach < self.reach {
            other.widen();
        }
        self.bins.iter_mut().zip(&other.bins).for_each(|(bin, count)| *bin += count);
        (self.least, self.largest) = (self.least.min(other.least), self.largest.max(other.largest));
    }

    /// Covers twice as much: of two bins one is made.
    fn widen(&mut self) {
        let mut wider = vec![0; BINS];
        for (place, count) in self.bins.iter().enumerate() {
            wider[BINS / 4 + place / 2] += count;
        }
        (self.bins, self.reach) = (wider, 2.0 * self.reach);
    }

    /// What the lower edge of a bin stands for.
    fn edge(&self, bin: usize) -> f64 {
        (bin as f64 / BINS as f64 * 2.0 - 1.0) * self.reach
    }

    /// Between which numbers a share of the activations lies: of those above zero alone, or of all.
    fn range(&self, kept: f64, is_clamped: bool) -> (f64, f64) {
        let first = if is_clamped { BINS / 2 } else { 0 };
        let bins = &self.bins[first..];
        let all: u64 = bins.iter().sum();
        let cut = if is_clamped { 1.0 - kept } else { (1.0 - kept) / 2.0 } * all as f64;
        let high = first_beyond(cut, bins.iter().rev()).map_or(0.0, |from_above| self.edge(BINS - from_above));
        let low = first_beyond(cut, bins.iter()).map_or(0.0, |from_below| self.edge(first + from_below));
        let low = if is_clamped { 0.0 } else { low.max(self.least).min(0.0) };
        (low, high.min(self.largest).max(0.0))
    }

    /// Between which numbers clipping and rounding to `levels` steps err least, by the mean of this power of the errors; parts of
    /// what was seen are tried at either end (after Y. Nahshan et al., "Loss Aware Post-training Quantization", 2019).
    fn least_error(&self, power: f64, levels: f64) -> (f64, f64) {
        let seen: Vec<(f64, f64)> = self
            .bins
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
            .map(|(bin, count)| ((self.edge(bin) + self.edge(bin + 1)) / 2.0, *count as f64))
            .collect();
        let all: f64 = seen.iter().map(|(_, count)| count).sum();
        // At each end some bounds, with the error of what is beyond them.
        let ends = |most: f64| -> Vec<(f64, f64)> {
            let bounds = (0..ERROR_TRIALS).map(|part| most * (1.0 - part as f64 / ERROR_TRIALS as f64));
            let beyond = |bound: f64| {
                let over = seen.iter().map(|(value, count)| ((value - bound) * most.signum(), count));
                over.filter(|(over, _)| *over > 0.0).map(|(over, count)| over.powf(power) * count).sum::<f64>()
            };
            bounds.map(|bound| (bound, beyond(bound))).collect()
        };
        let lows = if self.least < 0.0 { ends(self.least) } else { vec![(0.0, 0.0)] };
        let highs = if self.largest > 0.0 { ends(self.largest) } else { vec![(0.0, 0.0)] };
        // What is rounded errs alike from none to half a step.
        let rounding = |span: f64| all * (span / levels / 2.0).powf(power) / (power + 1.0);
        let mut best = (f64::INFINITY, (self.least, self.largest));
        for (low, below) in &lows {
            for (high, above) in &highs {
                let error = below + above + rounding(high - low);
                if error < best.0 {
                    best = (error, (*low, *high));
                }
            }
        }
        best.1
    }

    /// The share of the activations outside of two numbers, but for what lies on them as far as bins tell.
    fn outside(&self, low: f64, high: f64) -> f64 {
        let all: u64 = self.bins.iter().sum();
        let width = 2.0 * self.reach / BINS as f64;
        let bin =
            |value: f64| ((value / self.reach + 1.0) / 2.0 * BINS as f64).round().clamp(0.0, BINS as f64) as usize;
        let below = if low <= self.least + width { 0 } else { bin(low) };
        let above = if high >= self.largest - width { BINS } else { bin(high).max(below) };
        let out = self.bins[..below].iter().chain(&self.bins[above..]).sum::<u64>();
        out as f64 / all.max(1) as f64
    }
}

/// The place of the first count that more than `cut` are counted with.
fn first_beyond<'a>(cut: f64, mut counts: impl Iterator<Item = &'a u64>) -> Option<usize> {
    let mut counted = 0;
    counts.position(|count| {
        counted += count;
        counted as f64 > cut
    })
}

/// What the integers of an activation stand for.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Grid {
    step: f64,
    finish: Finish,
}

impl Grid {
    /// The integers that a graph allows, laid over what a histogram has seen.
    fn over(finish: Finish, is_clamped: bool, histogram: &Histogram, kept: f64) -> Self {
        let levels = f64::from(finish.high - finish.low).max(1.0);
        let (low, high) = histogram.range(kept, is_clamped);
        // A layer that is always zero has no size of its own.
        let step = if high > low { (high - low) / levels } else { 1.0 / levels };
        let zero = if is_clamped { finish.low } else { finish.low + (-low / step).round().clamp(0.0, levels) as u8 };
        Self { step, finish: Finish { zero_point: zero, ..finish } }
    }

    /// The integers from 0 to `most`, laid over a range that zero is in.
    fn of_range((low, high): (f64, f64), most: u8) -> Self {
        let levels = f64::from(most);
        // What is always zero has no size of its own.
        let step = if high > low { (high - low) / levels } else { 1.0 / levels };
        let zero_point = (-low / step).round().clamp(0.0, levels) as u8;
        Self { step, finish: Finish { zero_point, low: 0, high: most } }
    }

    /// The least and the largest number.
    fn bounds(&self) -> (f64, f64) {
        (self.value(self.finish.low), self.value(self.finish.high))
    }

    /// What an integer stands for.
    fn value(&self, integer: u8) -> f64 {
        (f64::from(integer) - f64::from(self.finish.zero_point)) * self.step
    }

    /// The integer that stands for the nearest number.
    fn byte(&self, value: f64) -> u8 {
        let Finish { zero_point, low, high } = self.finish;
        ((value / self.step).round_ties_even() + f64::from(zero_point)).clamp(low.into(), high.into()) as u8
    }
}

/// What the integers of the input and of every layer's output stand for.
fn grids(graph: &Graph, histograms: &[Option<Histogram>], kept: f64) -> Vec<Grid> {
    let bytes = |zero_point| Finish { zero_point, low: 0, high: 255 };
    // Of an input whose zero points differ the finish is not used.
    let mut grids = vec![Grid { step: 1.0 / 255.0, finish: bytes(graph.input().zero_points[0]) }];
    for (index, layer) in graph.layers().iter().enumerate() {
        grids.push(match (layer.operation, &histograms[index]) {
            (Operation::Lookup { zero_point }, _) => {
                Grid { step: 1.0 / 127.0, finish: Finish { zero_point, low: 0, high: 127 } }
            }
            (operation, Some(histogram)) => match operation.finish() {
                Some(finish) => Grid::over(finish, is_clamped(layer), histogram, kept),
                None => grids[graph.sources(index)[0]],
            },
            // What keeps what it reads; of the logits it is not used.
            _ => grids[graph.sources(index)[0]],
        });
    }
    grids
}

fn calibrate(network: &FloatNetwork, data: &Dataset) -> Vec<Option<Histogram>> {
    let mut histograms: Vec<Option<Histogram>> = network.graph().layers().iter().map(|_| None).collect();
    let indexes: Vec<usize> = (0..data.len()).collect();
    for indexes in indexes.chunks(BATCH) {
        network.observe(data, indexes, &mut |layer, activation| {
            histograms[layer].get_or_insert_with(Histogram::new).add(activation);
        });
    }
    histograms
}

/// The integers of a network.
#[derive(Debug, Clone)]
struct Integers {
    graph: Graph,
    parameters: Vec<Parameters>,
    /// What one unit of each channel's sums stands for, of layers with weights.
    units: Vec<Vec<f64>>,
    /// What a logit stands for.
    scale: f64,
}

/// An integer model and how it does on pictures, with the scale of the probabilities fitted to them.
struct Assessment {
    model: Model,
    scale: f64,
    accuracy: f64,
    loss: f64,
}

impl Integers {
    fn assess(
        &self,
        network: &FloatNetwork,
        naming: &Naming,
        backend: &mut dyn Backend,
        validation: &Dataset,
        labels: &[u32],
    ) -> Result<Assessment, QuantizeError> {
        let model = self.build(network, naming, self.scale)?;
        let logits = logits(&model, backend, validation, &mut |_| ())?;
        let (scale, loss) = fit_scale(&logits, labels, self.scale);
        let right = logits.iter().zip(labels).filter(|(logits, label)| model.label(logits) == **label as usize).count();
        let accuracy = right as f64 / labels.len().max(1) as f64;
        Ok(Assessment { model: self.build(network, naming, scale)?, scale, accuracy, loss })
    }

    /// What the integers stand for in the float network.
    fn rounded(&self, grids: &[Grid]) -> Vec<Rounded> {
        let of_layer = |index: usize| {
            let (parameters, units) = (&self.parameters[index], &self.units[index]);
            let sources = self.graph.sources(index);
            let before = grids[sources[0]].step;
            let weights = (!units.is_empty()).then(|| {
                let inputs = parameters.weight.len() / units.len();
                let weight = parameters.weight.iter().enumerate();
                let weight = weight.map(|(place, weight)| (f64::from(*weight) * units[place / inputs] / before) as f32);
                let bias = parameters.bias.iter().zip(units).map(|(bias, unit)| (f64::from(*bias) * unit) as f32);
                LayerWeights { weight: weight.collect(), bias: bias.collect() }
            });
            let grid = grids[index + 1];
            let factors = match self.graph.layers()[index].operation {
                // In the steps of the output, over those of the inputs.
                Operation::Add { multipliers, shift, .. } => [0, 1].map(|place| {
                    let of_step = f64::from(multipliers[place]) * (-f64::from(shift)).exp2();
                    (of_step * grid.step / grids[sources[place]].step) as f32
                }),
                Operation::AveragePool { .. } => [(f64::from(parameters.scale[0]) * grid.step / before) as f32, 0.0],
                _ => [1.0, 1.0],
            };
            let (low, high) = grid.bounds();
            let rounding = Rounding { low: low as f32, high: high as f32, step: Some(grid.step as f32), factors };
            Rounded { weights, rounding }
        };
        (0..self.parameters.len()).map(of_layer).collect()
    }

    fn build(&self, network: &FloatNetwork, naming: &Naming, scale: f64) -> Result<Model, QuantizeError> {
        let display = Display {
            name: naming.name.clone(),
            classes: network.classes().to_vec(),
            scale,
            card: naming.card.clone(),
        };
        let file = ModelFile { graph: self.graph.clone(), parameters: self.parameters.clone(), display };
        Ok(file.build()?)
    }
}

fn report(model: &Model, grids: &[Grid], integers: &Integers, histograms: &[Option<Histogram>]) -> Vec<LayerReport> {
    let graph = model.graph();
    let with_sums = (0..graph.layers().len()).filter(|layer| histograms[*layer].is_some() || graph.is_last(*layer));
    let of_layer = |layer: usize| {
        let scales = &model.parameters(layer).scale;
        let scales = scales.iter().copied().reduce(f32::min).zip(scales.iter().copied().reduce(f32::max));
        let (grid, name) = (grids[layer + 1], graph.layers()[layer].name.clone());
        let bound = model.proof().sums[layer];
        let Some(histogram) = &histograms[layer] else {
            return LayerReport { layer: name, step: integers.scale, zero_point: 0, clipped: 0.0, scales, bound };
        };
        let (low, high) = grid.bounds();
        let clipped = histogram.outside(low, high);
        LayerReport { layer: name, step: grid.step, zero_point: grid.finish.zero_point, clipped, scales, bound }
    };
    with_sums.map(of_layer).collect()
}

fn integers(network: &FloatNetwork, grids: &[Grid]) -> Result<Integers, QuantizeError> {
    let graph = network.graph();
    let (mut layers, mut parameters, mut units) = (Vec::new(), Vec::new(), Vec::new());
    let mut scale = 1.0;
    for (index, layer) in graph.layers().iter().enumerate() {
        let (mut layer, mut found, mut of_channels) = (layer.clone(), Parameters::default(), Vec::new());
        let name = &layer.name;
        let (sources, after) = (graph.sources(index), grids[index + 1]);
        let before = grids[sources[0]].step;
        match &mut layer.operation {
            Operation::Conv { finish, .. } | Operation::Linear { finish: Some(finish), .. } => {
                *finish = after.finish;
                let weights = finite(network, index)?;
                for (channel, (weights, bias)) in channels(&weights).enumerate() {
                    let (unit, integers, bias) = with_unit(weights, bias, before, after.step);
                    let scale = unit / after.step;
                    check_scale(name, channel, scale)?;
                    found.weight.extend(integers);
                    found.bias.push(bias);
                    found.scale.push(scale as f32);
                    of_channels.push(unit);
                }
            }
            Operation::Linear { finish: None, .. } => {
                let weights = finite(network, index)?;
                scale = logit_unit(&weights, before);
                for (weights, bias) in channels(&weights) {
                    found.weight.extend(rounded(weights, before / scale));
                    found.bias.push((f64::from(bias) / scale).round() as i32);
                    of_channels.push(scale);
                }
            }
            Operation::Add { multipliers, shift, finish } => {
                *finish = after.finish;
                let ratios = [0, 1].map(|place| grids[sources[place]].step / after.step);
                (*multipliers, *shift) =
                    to_one_step(ratios).ok_or_else(|| QuantizeError::Add { layer: name.clone(), ratios })?;
            }
            Operation::AveragePool { window, finish } => {
                *finish = after.finish;
                let scale = before / after.step / window.taps() as f64;
                check_scale(name, 0, scale)?;
                found.scale.push(scale as f32);
            }
            Operation::Lookup { .. } => found.table.extend((0..=255u8).map(|byte| byte >> 1)),
            // The others have no numbers, or no training knows them.
            Operation::MaxPool { .. } | Operation::Multiply { .. } | Operation::Concat => {}
        }
        layers.push(layer);
        parameters.push(found);
        units.push(of_channels);
    }
    Ok(Integers { graph: Graph::new(graph.input().clone(), layers)?, parameters, units, scale })
}

/// That a channel's scale is one that models may have.
fn check_scale(layer: &str, channel: usize, scale: f64) -> Result<(), QuantizeError> {
    if (f64::from(SCALES.start)..f64::from(SCALES.end)).contains(&scale) {
        return Ok(());
    }
    Err(QuantizeError::Scale { layer: layer.into(), channel, scale })
}

/// The numbers of a layer, if they all are numbers.
fn finite(network: &FloatNetwork, layer: usize) -> Result<LayerWeights, QuantizeError> {
    let weights = network.layer(layer).expect("a convolution or linear layer has weights");
    let broken = channels(&weights).position(|(weights, bias)| !weights.iter().chain([&bias]).all(|x| x.is_finite()));
    match broken {
        Some(channel) => {
            let layer = network.graph().layers()[layer].name.clone();
            Err(QuantizeError::NotFinite { layer, channel })
        }
        None => Ok(weights),
    }
}

/// The weights and the bias of every channel.
fn channels(LayerWeights { weight, bias }: &LayerWeights) -> impl Iterator<Item = (&[f32], f32)> {
    weight.chunks_exact(weight.len() / bias.len()).zip(bias.iter().copied())
}

/// What one unit of a channel's sums stands for, and the channel's integers: the finest unit for which weights are at most 127, and
/// the bias is not out of all bounds.
fn with_unit(weights: &[f32], bias: f32, before: f64, after: f64) -> (f64, Vec<i8>, i32) {
    let largest = largest(weights);
    let unit = if largest > 0.0 { largest * before / MAX_WEIGHT } else { after / BIAS_PARTS };
    let unit = unit.max(f64::from(bias).abs() / MAX_BIAS).max(after * f64::from(SCALES.start));
    (unit, rounded(weights, before / unit).collect(), (f64::from(bias) / unit).round() as i32)
}

/// What a logit stands for: the finest unit that all channels can have.
fn logit_unit(weights: &LayerWeights, before: f64) -> f64 {
    let (weight, bias) = (largest(&weights.weight), largest(&weights.bias));
    // Without any weight the biases are the logits, and a small step keeps them apart.
    let unit = if weight > 0.0 { weight * before / MAX_WEIGHT } else { before / MAX_WEIGHT };
    unit.max(bias / MAX_BIAS)
}

/// Multipliers and the shift by which two activations come to one step, given how many of its steps one of theirs is; none if
/// that is too many.
fn to_one_step(ratios: [f64; 2]) -> Option<([u32; 2], u8)> {
    let most = ratios[0].max(ratios[1]);
    let shift = (20.0 - most.log2().floor()).clamp(0.0, f64::from(MAX_SHIFT)) as u8;
    let multipliers = ratios.map(|ratio| (ratio * f64::from(shift).exp2()).round().max(1.0));
    let fits = shift >= 1 && multipliers.iter().all(|multiplier| *multiplier <= f64::from(MAX_MULTIPLIER));
    fits.then_some((multipliers.map(|multiplier| multiplier as u32), shift))
}

/// Weights times a factor, by which none exceeds 127 but for what rounding of floats adds.
fn rounded(weights: &[f32], factor: f64) -> impl Iterator<Item = i8> {
    weights.iter().map(move |weight| (f64::from(*weight) * factor).round().clamp(-MAX_WEIGHT, MAX_WEIGHT) as i8)
}

fn largest(weights: &[f32]) -> f64 {
    weights.iter().map(|weight| f64::from(weight.abs())).fold(0.0, f64::max)
}

/// The scale of the logits for which the right classes are the most probable (C. Guo et al., "On Calibration of Modern
/// Neural Networks", 2017, section 4.2, temperature scaling), and the loss then; sought from a 30th of `guess` to 30
/// times that. The loss is convex in the scale, so that a golden section finds it.
fn fit_scale(logits: &[Vec<i32>], labels: &[u32], guess: f64) -> (f64, f64) {
    let loss = |exponent: f64| {
        let scale = guess * exponent.exp();
        let of_one = |(logits, label): (&Vec<i32>, &u32)| {
            let largest = f64::from(logits.iter().copied().max().unwrap_or(0));
            let sum: f64 = logits.iter().map(|logit| ((f64::from(*logit) - largest) * scale).exp()).sum();
            sum.ln() - (f64::from(logits[*label as usize]) - largest) * scale
        };
        logits.iter().zip(labels).map(of_one).sum::<f64>() / labels.len() as f64
    };
    let section = (5f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = (-30f64.ln(), 30f64.ln());
    for _ in 0..SCALE_STEPS {
        let (left, right) = (high - (high - low) * section, low + (high - low) * section);
        if loss(left) < loss(right) { high = right } else { low = left }
    }
    let exponent = (low + high) / 2.0;
    (guess * exponent.exp(), loss(exponent))
}

#[cfg(test)]
mod tests {
    use ocelli_model::backend::ReferenceBackend;
    use ocelli_model::graph::{Input, Layer, Shape, Window};
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::train::Normalization;

    const SHAPE: Shape = Shape { channels: 2, height: 9, width: 8 };

    fn network() -> FloatNetwork {
        let open = Finish { zero_point: 64, low: 0, high: 127 };
        let add = Operation::Add { multipliers: [1, 1], shift: 1, finish: Finish::RELU };
        let mean = Operation::AveragePool { window: Window::square(2, 1, 0), finish: Finish::RELU };
        let layers = vec![
            Layer::new("half", &["input"], Operation::Lookup { zero_point: 3 }),
            Layer::conv("conv1", "half", 6, Window::square(3, 1, 1), Finish::RELU),
            Layer::max_pool("pool1", "conv1", Window::square(2, 2, 0)),
            Layer::conv("branch", "pool1", 6, Window::square(3, 1, 1), Finish::bytes(128)),
            Layer::new("sum", &["branch", "pool1"], add),
            Layer::conv("conv2", "sum", 8, Window { kernel: [2, 3], stride: [1, 2], padding: [1, 0, 0, 1] }, open),
            Layer::new("mean", &["conv2"], mean),
            Layer::linear("hidden", "mean", 12, Finish::RELU),
            Layer::logits("out", "hidden", 3),
        ];
        let normalization = Normalization { mean: vec![0.4, 0.6], deviation: vec![0.3, 0.2] };
        let classes = ["a", "b", "c"].map(String::from).to_vec();
        let graph = Graph::new(Input::new(2, 9, 8), layers).unwrap();
        FloatNetwork::new(graph, classes, 6.0, &normalization, 11).unwrap()
    }

    fn noise(count: usize, seed: u64) -> Dataset {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let pictures = (0..count).map(|index| {
            let pixels = (0..SHAPE.elements()).map(|_| rng.random()).collect();
            (format!("{index}"), rng.random_range(0..3), pixels)
        });
        Dataset::from_pixels(SHAPE, ["a", "b", "c"].map(String::from).to_vec(), pictures.collect())
    }

    #[test]
    fn integers_follow_floats() {
        let (network, data) = (network(), noise(200, 1));
        let naming = Naming { name: "tiny".into(), card: "A test.".into() };
        let mut trials = 0;
        let quantized =
            quantize(&network, &naming, &data, &noise(100, 2), &mut ReferenceBackend, &mut |_| trials += 1).unwrap();
        assert_eq!(trials, KEPT.len());
        assert_eq!((quantized.model.name(), quantized.model.classes()), ("tiny", network.classes()));

        let unseen = noise(100, 3);
        let indexes: Vec<usize> = (0..unseen.len()).collect();
        let floats = network.logits(&unseen, &indexes);
        let integers = logits(&quantized.model, &mut ReferenceBackend, &unseen, &mut |_| ()).unwrap();
        let spread = floats.iter().fold(0f32, |largest, logit| largest.max(logit.abs()));
        let mut same = 0;
        for (floats, integers) in floats.chunks(3).zip(&integers) {
            let label = (0..3).fold(0, |best, class| if floats[class] > floats[best] { class } else { best });
            same += usize::from(quantized.model.label(integers) == label);
            for (float, integer) in floats.iter().zip(integers) {
                let integer = f64::from(*integer) * quantized.report.unfitted_scale;
                assert!((integer - f64::from(*float)).abs() < 0.05 * f64::from(spread), "{integer} for {float}");
            }
        }
        assert!(same >= 95, "{same} of 100 labels are the same");
        for layer in &quantized.report.layers {
            assert!(layer.bound < 1 << 24 && layer.step > 0.0 && layer.clipped <= 0.006, "{layer:?}");
        }
        // The graph's bounds are kept; which integer is zero is found, and a scale for every channel.
        let (graph, layers) = (quantized.model.graph(), &quantized.report.layers);
        assert_eq!(
            layers.iter().map(|layer| layer.layer.as_str()).collect::<Vec<_>>(),
            ["conv1", "branch", "sum", "conv2", "mean", "hidden", "out"]
        );
        for layer in layers {
            let index = graph.layers().iter().position(|found| found.name == layer.layer).unwrap();
            let Some(asked) = network.graph().layers()[index].operation.finish() else { continue };
            let finish = graph.layers()[index].operation.finish().unwrap();
            assert_eq!((finish.low, finish.high, finish.zero_point), (asked.low, asked.high, layer.zero_point));
            assert_eq!(finish.zero_point == finish.low, asked.zero_point == asked.low, "{layer:?}");
            let scales = &quantized.model.parameters(index).scale;
            assert!(layer.layer == "sum" || layer.layer == "mean" || (1..scales.len()).all(|i| scales[i] != scales[0]));
        }
    }

    #[test]
    fn float_weights_survive_their_file() {
        let network = network();
        let read = FloatNetwork::from_bytes(&network.to_bytes().unwrap()).unwrap();
        let logits = |network: &FloatNetwork| network.logits(&noise(3, 4), &[0, 1, 2]);
        for (a, b) in logits(&network).iter().zip(logits(&read)) {
            assert!((a - b).abs() < 1e-4, "{a} and {b}");
        }
        assert_eq!((read.classes(), read.graph()), (network.classes(), network.graph()));
        assert!(matches!(FloatNetwork::from_bytes(&[0; 20]), Err(TrainError::File(_))));
    }

    #[test]
    fn the_finest_unit_is_found() {
        // The largest weight becomes 127, and one unit of the sums is as much of the input's step.
        assert_eq!(with_unit(&[0.5, -1.0, 0.004], 0.25, 0.127, 1.0), (0.001, vec![64, -127, 1], 250));
        // The bias needs a coarser unit than the weights would have.
        let (unit, weights, bias) = with_unit(&[1e-9], 1024.0, 1.0, 1.0);
        assert_eq!((unit, weights, bias), (1024.0 / MAX_BIAS, vec![0], 1 << 22));
        // Nothing but a bias.
        assert_eq!(with_unit(&[0.0], 0.25, 1.0, 0.5), (0.5 / BIAS_PARTS, vec![0], 1 << 15));
        let weights = LayerWeights { weight: vec![0.5, 1.0, 0.0, -0.25], bias: vec![0.0, 1.0] };
        assert_eq!(logit_unit(&weights, 0.127), 0.001);
    }

    #[test]
    fn additions_come_to_one_step() {
        assert_eq!(to_one_step([1.0, 0.5]), Some(([1 << 20, 1 << 19], 20)));
        assert_eq!(to_one_step([3.0, 0.1]), Some(([3 << 19, 52_429], 19)));
        // As fine as there are shifts, and as coarse.
        assert_eq!(to_one_step([1e-6, 2e-9]), Some(([1_074, 2], 30)));
        assert_eq!(to_one_step([1e-12, 1.0]), Some(([1, 1 << 20], 20)));
        assert_eq!(to_one_step([f64::from(1u32 << 19), 1.0]), Some(([1 << 20, 2], 1)));
        assert_eq!(to_one_step([f64::from(1u32 << 21), 1.0]), None);
    }

    #[test]
    fn a_histogram_finds_what_to_clip() {
        let mut histogram = Histogram::new();
        // 1 to 1000, and as many numbers below zero of a tenth of the size.
        let values: Vec<f32> = (1..=1000).flat_map(|i| [i as f32, i as f32 * -0.1, 0.0]).collect();
        values.chunks(100).for_each(|values| histogram.add(values));
        let close = |(low, high): (f64, f64), expected: (f64, f64)| {
            assert!(
                (low - expected.0).abs() < 0.5 && (high - expected.1).abs() < 0.5,
                "{low} to {high}, not {expected:?}"
            );
        };
        close(histogram.range(1.0, false), (-100.0, 1000.0));
        close(histogram.range(0.99, false), (-99.0, 990.0));
        close(histogram.range(0.99, true), (0.0, 990.0));
        assert!((histogram.outside(-99.0, 990.0) - 0.01).abs() < 1e-3, "{}", histogram.outside(-99.0, 990.0));
        let open = Grid::over(Finish::bytes(128), false, &histogram, 1.0);
        assert_eq!((open.finish, (open.step * 255.0).round()), (Finish::bytes(23), 1100.0));
        let closed = Grid::over(Finish::RELU, true, &histogram, 1.0);
        assert_eq!((closed.finish, (closed.step * 127.0).round()), (Finish::RELU, 1000.0));
        let silent = Grid::over(Finish::RELU, true, &Histogram::new(), 1.0);
        assert_eq!(silent.step, 1.0 / 127.0);
    }

    #[test]
    fn what_cannot_be_exact_is_refused_by_layer_and_channel() {
        let data = noise(4, 5);
        let naming = Naming { name: String::new(), card: String::new() };
        let refuse = |network: &FloatNetwork| {
            quantize(network, &naming, &data, &data, &mut ReferenceBackend, &mut |_| ()).unwrap_err()
        };
        let with = |value: f32| {
            let network = network();
            let mut layers: Vec<_> = (0..network.graph().layers().len()).map(|layer| network.layer(layer)).collect();
            let hidden = network.graph().layers().iter().position(|layer| layer.name == "hidden").unwrap();
            let LayerWeights { weight, bias } = layers[hidden].as_mut().unwrap();
            weight.fill(0.0);
            let inputs = weight.len() / bias.len();
            weight[7 * inputs] = value;
            let ceilings = vec![6.0; layers.len()];
            FloatNetwork::from_layers(network.graph().clone(), network.classes().to_vec(), ceilings, layers).unwrap()
        };
        let error = refuse(&with(1e9));
        assert!(matches!(&error, QuantizeError::Scale { layer, channel: 7, .. } if layer == "hidden"), "{error}");
        let error = refuse(&with(f32::NAN));
        assert!(matches!(&error, QuantizeError::NotFinite { layer, channel: 7 } if layer == "hidden"), "{error}");
    }

    #[test]
    fn the_scale_that_is_fitted_is_the_best() {
        // Right in three of four, and sure alike: probability 3 / 4 is best, so 10 * scale = ln 3.
        let logits = vec![vec![10, 0]; 4];
        let (scale, _) = fit_scale(&logits, &[0, 0, 0, 1], 0.1);
        assert!((scale - 3f64.ln() / 10.0).abs() < 1e-6, "{scale}");
    }
}
