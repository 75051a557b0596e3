//! From float weights to an exact integer model.
//!
//! An activation `a` of a layer becomes the integer `q` with `a = q * step`; the input's step is 1 / 127. A channel's
//! weights are scaled by `step before / step after * 2^shift`, with the largest shift for which they fit 8 bits and the
//! exactness proof holds: so the shift takes the place of a multiplication, as in B. Jacob et al., "Quantization and
//! Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018, section 2.2, but the scale's
//! remainder goes into the weights, where each channel has its own. A skip's multiplier is `skip's step / step after *
//! 2^shift`, so that what is added is of the same scale as the sum. Where to clip activations is chosen on pictures kept
//! back, and so is the scale that turns logits into probabilities. [`fine_tune`] then trains the float network to answer
//! well as integers.

mod fine_tune;

use ocelli_model::backend::Backend;
use ocelli_model::file::{Display, ModelFile, Parameters};
use ocelli_model::graph::{Graph, MAX_SHIFT};
use ocelli_model::model::{Model, ModelError};
use ocelli_model::proof::{BOUND, MAX_ACTIVATION, bound, half, slack};
use serde::Serialize;

pub use self::fine_tune::{FineTuned, Progress, fine_tune, fine_tuning};
use crate::dataset::{Dataset, DatasetError};
use crate::evaluate::{EvaluateError, logits};
use crate::train::{self, FloatNetwork, LayerWeights, Rounded, TrainError};

/// The shares of the positive activations that the tried steps leave below the clip.
pub const KEPT: [f64; 6] = [1.0, 0.9999, 0.9995, 0.999, 0.998, 0.995];
/// How finely activations are counted, from 0 to the ceiling.
const BINS: usize = 4096;
/// How many pictures are calibrated with at once.
const BATCH: usize = 250;
/// The largest magnitude of a weight.
const MAX_WEIGHT: f64 = 127.0;
/// The largest multiplier of a skip.
const MAX_MULTIPLIER: i16 = i16::MAX;
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
    NotFinite {
        /// The layer.
        layer: String,
        /// The channel.
        channel: usize,
    },
    /// No shift makes a channel exact.
    #[error(
        "layer {layer:?}, channel {channel}: cannot be made exact: its weights reach {largest} in units of the \
         activations, expected at most {MAX_WEIGHT}, and a skip at most {MAX_MULTIPLIER}"
    )]
    NotExact {
        /// The layer.
        layer: String,
        /// The channel.
        channel: usize,
        /// The largest weight, in steps of the output a step of the input.
        largest: f64,
    },
    /// The model that came out is not allowed.
    #[error("the integer model is not allowed")]
    Model(#[from] ModelError),
}

/// An integer model and how it came about.
#[derive(Debug, Clone)]
pub struct Quantized {
    /// The model.
    pub model: Model,
    /// What to know about it.
    pub report: Report,
    /// Where activations are clipped.
    steps: Vec<Option<f64>>,
    histograms: Vec<Option<Histogram>>,
}

/// What came of a quantisation. Accuracies are on the pictures kept back.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The layers with weights.
    pub layers: Vec<LayerReport>,
    /// All that was tried for clipping.
    pub trials: Vec<Trial>,
    /// The share of the positive activations that the chosen steps leave below the clip.
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
    /// Its name.
    pub layer: String,
    /// What one step of its output stands for in the float network; of a logit for the last layer.
    pub step: f64,
    /// The share of its positive activations that are clipped to 127; 0 for the last layer.
    pub clipped: f64,
    /// The smallest and the largest shift of its channels; 0 for the last layer.
    pub shifts: (u8, u8),
    /// The smallest and the largest multiplier of its skip, if it adds one.
    pub multipliers: Option<(i16, i16)>,
    /// The share of 2^24 that no partial sum of any of its channels can reach.
    pub proof_slack: f64,
}

/// One way to clip.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trial {
    /// The share of the positive activations left below the clip.
    pub kept: f64,
    /// The accuracy of the integer model.
    pub accuracy: f64,
    /// The mean negative logarithm of the probability of the right class, with a fitted scale: what is chosen by.
    pub loss: f64,
}

/// What a model is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naming {
    /// Its name.
    pub name: String,
    /// Its card.
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
    let mut best: Option<(Trial, Integers, Model, f64)> = None;
    for kept in KEPT {
        let integers = integers(network, &steps(network.graph(), &histograms, kept))?;
        let Assessment { model, scale, accuracy, loss } =
            integers.assess(network, naming, backend, validation, &labels)?;
        let trial = Trial { kept, accuracy, loss };
        progress(&trial);
        if best.as_ref().is_none_or(|(best, ..)| loss < best.loss) {
            best = Some((trial.clone(), integers, model, scale));
        }
        trials.push(trial);
    }
    let (trial, integers, model, scale) = best.ok_or(QuantizeError::Empty { purpose: "validate" })?;
    let report = Report {
        layers: integers.report(network.graph(), &histograms),
        kept: trial.kept,
        fine_tuning: Vec::new(),
        float_accuracy: train::evaluate(network, validation)?.accuracy,
        integer_accuracy: trial.accuracy,
        scale,
        unfitted_scale: integers.scale,
        trials,
    };
    let steps = steps(network.graph(), &histograms, trial.kept);
    Ok(Quantized { model, report, steps, histograms })
}

/// How often a layer's activations were how large.
#[derive(Debug, Clone)]
struct Histogram {
    ceiling: f64,
    /// Counts of the positive activations, by size.
    bins: Vec<u64>,
    largest: f64,
}

impl Histogram {
    fn add(&mut self, values: &[f32]) {
        for value in values.iter().map(|value| f64::from(*value)).filter(|value| *value > 0.0) {
            let bin = (value / self.ceiling * BINS as f64) as usize;
            self.bins[bin.min(BINS - 1)] += 1;
            self.largest = self.largest.max(value);
        }
    }

    /// The step for which a share of the activations is not clipped.
    fn step(&self, kept: f64) -> f64 {
        let all: u64 = self.bins.iter().sum();
        let wanted = (all as f64 * kept).ceil() as u64;
        let mut below = 0;
        let bin = self.bins.iter().position(|count| {
            below += count;
            below >= wanted
        });
        let clip = bin.map_or(self.ceiling, |bin| (bin + 1) as f64 * self.ceiling / BINS as f64);
        // A layer that is never active has no size of its own.
        let clip = if self.largest > 0.0 { clip.min(self.largest) } else { self.ceiling };
        clip / MAX_ACTIVATION as f64
    }

    /// The share of the activations above a clip.
    fn above(&self, clip: f64) -> f64 {
        let all: u64 = self.bins.iter().sum();
        let first = (clip / self.ceiling * BINS as f64).round() as usize;
        self.bins[first.min(BINS)..].iter().sum::<u64>() as f64 / all.max(1) as f64
    }
}

/// The step of every layer's output. A pool has no step of its own, so a layer's step has to do for the sum-pools that
/// follow it as well.
fn steps(graph: &Graph, histograms: &[Option<Histogram>], kept: f64) -> Vec<Option<f64>> {
    let mut steps: Vec<Option<f64>> =
        histograms.iter().map(|layer| layer.as_ref().map(|layer| layer.step(kept))).collect();
    for layer in (1..steps.len()).rev().filter(|layer| graph.weight_shape(*layer).is_none()) {
        steps[layer - 1] = match (steps[layer - 1], steps[layer]) {
            (Some(before), Some(after)) => Some(before.max(after)),
            (before, after) => before.or(after),
        };
    }
    steps
}

fn calibrate(network: &FloatNetwork, data: &Dataset) -> Vec<Option<Histogram>> {
    let ceiling = f64::from(network.ceiling());
    let mut histograms: Vec<Option<Histogram>> = network.graph().layers().iter().map(|_| None).collect();
    let indexes: Vec<usize> = (0..data.len()).collect();
    for indexes in indexes.chunks(BATCH) {
        network.observe(data, indexes, &mut |layer, activation| {
            let empty = || Histogram { ceiling, bins: vec![0; BINS], largest: 0.0 };
            histograms[layer].get_or_insert_with(empty).add(activation);
        });
    }
    histograms
}

/// The integers of a network.
#[derive(Debug, Clone)]
struct Integers {
    parameters: Vec<Parameters>,
    /// What one step of every layer's output stands for.
    steps: Vec<f64>,
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
    fn rounded(&self, graph: &Graph) -> Vec<Rounded> {
        let mut before = 1.0 / MAX_ACTIVATION as f64;
        let mut layers = Vec::new();
        for (index, parameters) in self.parameters.iter().enumerate() {
            let step = self.steps[index];
            let channels = parameters.bias.len();
            if channels == 0 {
                layers.push(Rounded { weights: None, skip: Vec::new(), step: step as f32 });
                continue;
            }
            // What one unit of a channel's sum stands for; a logit's is the step itself.
            let shift = |channel: usize| parameters.shift.get(channel).copied().unwrap_or(0);
            let unit = |channel: usize| step / f64::from(1u32 << shift(channel));
            let inputs = parameters.weight.len() / channels;
            let weight = parameters.weight.iter().enumerate();
            let weight = weight.map(|(place, weight)| (f64::from(*weight) * unit(place / inputs) / before) as f32);
            let bias = parameters.bias.iter().enumerate().map(|(channel, bias)| {
                let half = if graph.is_last(index) { 0 } else { half(shift(channel)) };
                ((f64::from(*bias) - f64::from(half)) * unit(channel)) as f32
            });
            let skip_step = self.skip_step(graph, index).unwrap_or(1.0);
            let skip = parameters.multiplier.iter().enumerate();
            let skip = skip.map(|(channel, multiplier)| (f64::from(*multiplier) * unit(channel) / skip_step) as f32);
            let weights = LayerWeights { weight: weight.collect(), bias: bias.collect() };
            layers.push(Rounded { weights: Some(weights), skip: skip.collect(), step: step as f32 });
            before = step;
        }
        layers
    }

    /// The step of the activation that a layer adds, if it adds one.
    fn skip_step(&self, graph: &Graph, index: usize) -> Option<f64> {
        // Activation 0 is the input, activation `i + 1` the output of layer `i`.
        graph.skip(index).map(|skip| match skip {
            0 => 1.0 / MAX_ACTIVATION as f64,
            skip => self.steps[skip - 1],
        })
    }

    fn build(&self, network: &FloatNetwork, naming: &Naming, scale: f64) -> Result<Model, QuantizeError> {
        let display = Display {
            name: naming.name.clone(),
            classes: network.classes().to_vec(),
            scale,
            card: naming.card.clone(),
        };
        let file = ModelFile { graph: network.graph().clone(), parameters: self.parameters.clone(), display };
        Ok(file.build()?)
    }

    fn report(&self, graph: &Graph, histograms: &[Option<Histogram>]) -> Vec<LayerReport> {
        let with_weights = (0..self.parameters.len()).filter(|layer| !self.parameters[*layer].bias.is_empty());
        let of_layer = |layer: usize| {
            let parameters = &self.parameters[layer];
            let shifts = (parameters.shift.iter().min(), parameters.shift.iter().max());
            LayerReport {
                layer: graph.layers()[layer].name.clone(),
                step: self.steps[layer],
                clipped: histograms[layer]
                    .as_ref()
                    .map_or(0.0, |histogram| histogram.above(self.steps[layer] * MAX_ACTIVATION as f64)),
                shifts: (shifts.0.copied().unwrap_or(0), shifts.1.copied().unwrap_or(0)),
                multipliers: parameters
                    .multiplier
                    .iter()
                    .copied()
                    .min()
                    .zip(parameters.multiplier.iter().copied().max()),
                proof_slack: slack(parameters).unwrap_or(1.0),
            }
        };
        with_weights.map(of_layer).collect()
    }
}

fn integers(network: &FloatNetwork, steps: &[Option<f64>]) -> Result<Integers, QuantizeError> {
    let graph = network.graph();
    let mut integers = Integers { parameters: Vec::new(), steps: Vec::new(), scale: 1.0 };
    let mut before = 1.0 / MAX_ACTIVATION as f64;
    for (index, layer) in graph.layers().iter().enumerate() {
        let Some(LayerWeights { weight, bias }) = network.layer(index) else {
            integers.parameters.push(Parameters::default());
            integers.steps.push(before);
            continue;
        };
        let name = &layer.name;
        let inputs = weight.len() / bias.len();
        let channels: Vec<(&[f32], f32)> = weight.chunks_exact(inputs).zip(bias.iter().copied()).collect();
        let broken = channels.iter().position(|(weights, bias)| !weights.iter().chain([bias]).all(|x| x.is_finite()));
        if let Some(channel) = broken {
            return Err(QuantizeError::NotFinite { layer: name.clone(), channel });
        }
        let mut parameters = Parameters::default();
        if graph.is_last(index) {
            (parameters, integers.scale) = last_layer(name, &channels, before)?;
            integers.steps.push(integers.scale);
        } else {
            let after = steps[index].unwrap_or(before);
            let skip = integers.skip_step(graph, index);
            for (channel, (weights, bias)) in channels.iter().enumerate() {
                let found = with_shift(weights, *bias, Steps { before, skip, after })
                    .map_err(|largest| QuantizeError::NotExact { layer: name.clone(), channel, largest })?;
                parameters.weight.extend(found.weights);
                parameters.bias.push(found.bias);
                parameters.shift.push(found.shift);
                parameters.multiplier.extend(skip.map(|_| found.multiplier));
            }
            integers.steps.push(after);
            before = after;
        }
        integers.parameters.push(parameters);
    }
    Ok(integers)
}

/// The steps of a layer's input, of the activation it adds, if any, and of its output.
#[derive(Debug, Clone, Copy)]
struct Steps {
    before: f64,
    skip: Option<f64>,
    after: f64,
}

/// The integers of a channel.
#[derive(Debug, Clone, PartialEq)]
struct Channel {
    weights: Vec<i8>,
    bias: i32,
    /// 0 without a skip.
    multiplier: i16,
    shift: u8,
}

/// The integers of a channel with the largest shift that is allowed, or the size of its largest weight if none is.
fn with_shift(weights: &[f32], bias: f32, steps: Steps) -> Result<Channel, f64> {
    let Steps { before, skip, after } = steps;
    let largest = largest(weights) * before / after;
    for shift in (0..=MAX_SHIFT).rev() {
        let power = f64::from(1u32 << shift);
        let multiplier = (skip.unwrap_or(0.0) / after * power).round();
        if multiplier > f64::from(MAX_MULTIPLIER) || largest * power > MAX_WEIGHT + 0.5 {
            continue;
        }
        let multiplier = multiplier as i16;
        let rounded = round(weights, before / after * power);
        let bias = (f64::from(bias) / after * power).round() + f64::from(half(shift));
        if let Some((weights, bias)) = rounded.zip(exact_bias(bias))
            && bound(&weights, multiplier, bias) < BOUND
        {
            return Ok(Channel { weights, bias, multiplier, shift });
        }
    }
    Err(largest)
}

/// The integers of the last layer, with the largest scale that is allowed to all channels, and what a logit stands for.
fn last_layer(name: &str, channels: &[(&[f32], f32)], before: f64) -> Result<(Parameters, f64), QuantizeError> {
    let largest_weight = channels.iter().map(|(weights, _)| largest(weights)).fold(0.0, f64::max);
    // Without any weight the biases are the logits, and a small step keeps them apart.
    let mut step = if largest_weight > 0.0 { largest_weight * before / MAX_WEIGHT } else { before / MAX_WEIGHT };
    let mut refused = 0;
    // Doubled 64 times, a step is larger than any sum by far.
    for _ in 0..64 {
        let mut parameters = Parameters::default();
        let fits = channels.iter().position(|(weights, bias)| {
            let rounded = round(weights, before / step).zip(exact_bias((f64::from(*bias) / step).round()));
            let Some((weights, bias)) = rounded.filter(|(weights, bias)| bound(weights, 0, *bias) < BOUND) else {
                return true;
            };
            parameters.weight.extend(weights);
            parameters.bias.push(bias);
            false
        });
        match fits {
            None => return Ok((parameters, step)),
            Some(channel) => (refused, step) = (channel, step * 2.0),
        }
    }
    let largest = largest(channels[refused].0) * before / step;
    Err(QuantizeError::NotExact { layer: name.into(), channel: refused, largest })
}

/// Weights times a factor, if they all are in -127..=127.
fn round(weights: &[f32], factor: f64) -> Option<Vec<i8>> {
    let round = |weight: &f32| {
        let weight = (f64::from(*weight) * factor).round();
        (weight.abs() <= MAX_WEIGHT).then_some(weight as i8)
    };
    weights.iter().map(round).collect()
}

fn exact_bias(bias: f64) -> Option<i32> {
    (bias.abs() < BOUND as f64).then_some(bias as i32)
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
    use ocelli_model::graph::{Layer, Shape};
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::train::Normalization;

    const SHAPE: Shape = Shape { channels: 2, height: 9, width: 8 };

    fn network() -> FloatNetwork {
        let layers = vec![
            Layer::conv("conv1", 6, 3, 1, 1),
            Layer::max_pool("pool1", 2, 2),
            Layer::conv("conv2", 8, 3, 2, 0),
            Layer::linear("hidden", 12),
            Layer::linear("out", 3),
        ];
        let normalization = Normalization { mean: vec![0.4, 0.6], deviation: vec![0.3, 0.2] };
        let classes = ["a", "b", "c"].map(String::from).to_vec();
        FloatNetwork::new(Graph::new(SHAPE, layers).unwrap(), classes, 6.0, &normalization, 11).unwrap()
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
            assert!(layer.proof_slack > 0.0 && layer.step > 0.0 && layer.clipped <= 0.006, "{layer:?}");
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
        assert_eq!((read.classes(), read.graph(), read.ceiling()), (network.classes(), network.graph(), 6.0));
        assert!(matches!(FloatNetwork::from_bytes(&[0; 20]), Err(TrainError::File(_))));
    }

    #[test]
    fn the_largest_exact_shift_is_found() {
        let table: [(&[f32], f32, f64, i8, u8); 4] = [
            // 1 * 64 is the largest power that fits; 1 * 128 does not.
            (&[1.0, -0.5], 0.0, 1.0, 64, 6),
            // 127.4 rounds to 127 and fits, 127.6 does not.
            (&[127.4], 0.0, 1.0, 127, 0),
            // The bias takes most of the room, at shift 5 as well: 500,000 * 32 + 16 + 127 * 32 is below 2^24.
            (&[1.0], 500_000.0, 1.0, 32, 5),
            // Nothing but a bias: as precise as there is room.
            (&[0.0], 0.25, 1.0, 0, 24),
        ];
        for (weights, bias, ratio, weight, shift) in table {
            let found = with_shift(weights, bias, Steps { before: ratio, skip: None, after: 1.0 }).unwrap();
            assert_eq!((found.weights[0], found.shift), (weight, shift), "{weights:?} and {bias}");
        }
        let steps = Steps { before: 1.0, skip: None, after: 1.0 };
        assert_eq!(with_shift(&[127.6, 0.0], 0.0, steps), Err(f64::from(127.6f32)));
    }

    #[test]
    fn a_skip_is_added_in_the_scale_of_the_sum() {
        let find = |weights: &[f32], before, skip| {
            let found = with_shift(weights, 0.0, Steps { before, skip: Some(skip), after: 0.5 });
            found.map(|found| (found.weights[0], found.multiplier, found.shift))
        };
        // Ratios 2 and 3: 1 * 2 * 32 fits 127, and 3 * 32 is added.
        assert_eq!(find(&[1.0], 1.0, 1.5), Ok((64, 96, 5)));
        // Weights leave room for any shift, but the multiplier ends at 32767.
        assert_eq!(find(&[0.0], 1.0, 0.5), Ok((0, 16384, 14)));
        // A skip that no multiplier can bring to the scale.
        assert_eq!(find(&[1.0], 1.0, 1e5), Err(2.0));
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
            FloatNetwork::from_layers(network.graph().clone(), network.classes().to_vec(), 6.0, layers).unwrap()
        };
        let error = refuse(&with(1e9));
        assert!(matches!(&error, QuantizeError::NotExact { layer, channel: 7, .. } if layer == "hidden"), "{error}");
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
