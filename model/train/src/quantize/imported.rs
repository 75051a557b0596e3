//! From a float network of a file to an exact integer model: with the file's own integers where it has them, and by calibration
//! where it has none.
//!
//! What is calibrated has activations of at most 127 wherever products are taken of them, so that two products fit 16 bits. How
//! much a step is follows from where the network clamps, from its batch normalisations, and from pictures; several ways are
//! tried on pictures kept back, and the one whose answers are nearest to the float network's is taken. Labels decide nothing.
//! Weights that are rounded move the means of sums, and biases move them back (M. Nagel et al., "Data-Free Quantization Through
//! Weight Equalization and Bias Correction", 2019, section 4.2).

use std::sync::atomic::{AtomicUsize, Ordering};

use ocelli_model::backend::Backend;
use ocelli_model::display::Display;
use ocelli_model::file::{ModelFile, Parameters};
use ocelli_model::graph::{Finish, Graph, INPUT, Input, Layer, MAX_NAME, Operation, Window};
use ocelli_model::model::Model;
use ocelli_model::proof::{MAX_SCALED, MAX_SUM, SCALES};
use rayon::prelude::*;
use serde::Serialize;

use super::{
    Grid, Histogram, KEPT, LayerReport, MAX_WEIGHT, Naming, QuantizeError, check_scale, to_one_step, with_unit,
};
use crate::dataset::Dataset;
use crate::evaluate::logits;
use crate::onnx::network::{GivenGrid, GivenSums, LayerKind, Network, NetworkLayer, Sums};

/// Into how many parts pictures are cut that are counted side by side: no matter how many threads there are, so that sums of
/// floats do not depend on it.
const SHARDS: usize = 16;
/// The largest activation that products are taken of.
const FOR_PRODUCTS: u8 = 127;
/// The powers of errors that are made least.
const POWERS: [f64; 4] = [2.0, 2.5, 3.0, 4.0];
/// What logits that have a scale stay within.
const MAX_LOGIT: f64 = (1u64 << 24) as f64;

/// An integer model of an imported network, and how it came about.
#[derive(Debug, Clone)]
pub struct Imported {
    pub model: Model,
    pub report: ImportReport,
}

/// What came of an import. Shares are of the pictures kept back.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ImportReport {
    /// The layers whose outputs are sums.
    pub layers: Vec<LayerReport>,
    /// All that was tried for clipping; empty where the file has all integers.
    pub trials: Vec<ImportTrial>,
    /// What was taken of it.
    pub clipping: Option<Clipping>,
    /// How many layers have the file's own integers.
    pub given: usize,
    /// How many pictures were kept back.
    pub pictures: usize,
    /// The share of them on which the integers' label is that of the float network.
    pub same_labels: Option<f64>,
    /// The accuracy of the float network, where the pictures' classes are its own.
    pub float_accuracy: Option<f64>,
    /// The accuracy of the integer model, likewise.
    pub integer_accuracy: Option<f64>,
    /// What a logit stands for in the float network, and is multiplied by before the softmax.
    pub scale: f64,
}

/// Where activations are clipped that the file gives no integers for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Clipping {
    /// Where the network clamps, and at what its batch normalisations make likely; elsewhere nowhere.
    Known,
    /// Where the network clamps; elsewhere nowhere.
    Clamped,
    /// So that this share of what pictures gave is not clipped.
    Kept(f64),
    /// Where the mean of this power of the errors of clipping and rounding is least.
    LeastError(f64),
}

/// One way to clip.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ImportTrial {
    pub clipping: Clipping,
    /// The share of the pictures on which the label is that of the float network.
    pub same_labels: f64,
    /// By how much the probabilities differ from the float network's: the mean Kullback-Leibler divergence, in nats. What is
    /// chosen by.
    pub divergence: f64,
}

/// Pictures to calibrate with, and others to choose by.
#[derive(Debug, Clone, Copy)]
pub struct Pictures<'a> {
    pub calibration: &'a Dataset,
    pub validation: &'a Dataset,
}

/// A model, the grids of its activations, and its scale.
type Built = (Model, Vec<Grid>, f64);

/// How far an import has come: pictures that were run, and how many there will be. Each is run in floats, and once for each way to clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportProgress {
    pub done: usize,
    pub total: usize,
}

/// Counts pictures as they are run, on any thread.
struct Run<'a> {
    done: AtomicUsize,
    total: usize,
    tell: &'a (dyn Fn(ImportProgress) + Sync),
}

impl Run<'_> {
    fn add(&self, pictures: usize) {
        let done = self.done.fetch_add(pictures, Ordering::Relaxed) + pictures;
        (self.tell)(ImportProgress { done, total: self.total });
    }

    /// The logits of a model, counted.
    fn logits(&self, model: &Model, backend: &mut dyn Backend, data: &Dataset) -> Result<Vec<Vec<i32>>, QuantizeError> {
        let mut before = 0;
        Ok(logits(model, backend, data, &mut |now| {
            self.add(now - before);
            before = now;
        })?)
    }
}

/// All ways to clip that are tried, in this order.
fn clippings() -> impl Iterator<Item = Clipping> {
    let known = [Clipping::Known, Clipping::Clamped];
    known.into_iter().chain(KEPT.map(Clipping::Kept)).chain(POWERS.map(Clipping::LeastError))
}

/// Makes a model of an imported network. `crop` is what the model shall see of a picture's sides, in 256ths. Pictures may be
/// missing where the [file has all integers](Network::needs_pictures). `progress` is told after each picture that was run, on any thread.
///
/// # Errors
/// If the network cannot be made exact, or needs pictures and there are none.
pub fn quantize_imported(
    network: &Network,
    classes: Vec<String>,
    naming: &Naming,
    crop: u16,
    pictures: Option<Pictures>,
    backend: &mut dyn Backend,
    progress: &(dyn Fn(ImportProgress) + Sync),
) -> Result<Imported, QuantizeError> {
    let tries = if network.needs_pictures() { clippings().count() } else { 0 };
    let total = pictures.map_or(0, |pictures| {
        let Pictures { calibration, validation } = pictures;
        calibration.len() + (2 + tries) * validation.len()
    });
    let run = Run { done: AtomicUsize::new(0), total, tell: progress };
    let seen = match pictures {
        Some(Pictures { calibration, validation }) => {
            for (data, purpose) in [(calibration, "calibrate"), (validation, "validate")] {
                if data.is_empty() {
                    return Err(QuantizeError::Empty { purpose });
                }
            }
            Some(observe(network, calibration, &run))
        }
        None if network.needs_pictures() => return Err(QuantizeError::Empty { purpose: "calibrate" }),
        None => None,
    };
    let build = |clipping: Clipping| -> Result<(Model, Vec<Grid>, f64), QuantizeError> {
        let grids = grids(network, seen.as_ref(), clipping);
        let emitted = Emission::of(network, &grids, seen.as_ref(), crop)?;
        let display = Display {
            name: naming.name.clone(),
            classes: classes.clone(),
            scale: emitted.scale,
            card: naming.card.clone(),
        };
        let file = ModelFile { graph: emitted.graph, parameters: emitted.parameters, display };
        Ok((file.build()?, grids, emitted.scale))
    };
    let floats = pictures.map(|pictures| float_logits(network, pictures.validation, &run));
    let (mut trials, mut clipping) = (Vec::new(), None);
    // By the divergence that it has.
    let mut best: Option<(f64, Built)> = None;
    if let (Some(pictures), Some(floats), true) = (pictures, &floats, network.needs_pictures()) {
        for tried in clippings() {
            let built = build(tried)?;
            let integers = run.logits(&built.0, backend, pictures.validation)?;
            let (same_labels, divergence) = compare(&built.0, &integers, floats);
            trials.push(ImportTrial { clipping: tried, same_labels, divergence });
            if best.as_ref().is_none_or(|(least, _)| divergence < *least) {
                (best, clipping) = (Some((divergence, built)), Some(tried));
            }
        }
    }
    let (model, grids, scale) = match best {
        Some((_, built)) => built,
        None => build(Clipping::Known)?,
    };
    let mut report = ImportReport {
        layers: layer_reports(network, &model, &grids, seen.as_ref(), scale),
        trials,
        clipping,
        given: network.layers.iter().filter(|layer| layer.grid.is_some()).count(),
        pictures: pictures.map_or(0, |pictures| pictures.validation.len()),
        same_labels: None,
        float_accuracy: None,
        integer_accuracy: None,
        scale,
    };
    if let (Some(pictures), Some(floats)) = (pictures, &floats) {
        let integers = run.logits(&model, backend, pictures.validation)?;
        report.same_labels = Some(compare(&model, &integers, floats).0);
        if let Ok(labels) = pictures.validation.labels_among(&classes) {
            let right = |given: &dyn Fn(usize) -> usize| {
                let right = labels.iter().enumerate().filter(|(place, label)| given(*place) == **label as usize);
                right.count() as f64 / labels.len() as f64
            };
            report.float_accuracy = Some(right(&|place| largest(&floats[place])));
            report.integer_accuracy = Some(right(&|place| model.label(&integers[place])));
        }
    }
    Ok(Imported { model, report })
}

/// The share of pictures with one label, and the mean divergence of the integers' probabilities from the floats'.
fn compare(model: &Model, integers: &[Vec<i32>], floats: &[Vec<f32>]) -> (f64, f64) {
    let (mut same, mut divergence) = (0, 0.0);
    for (integers, floats) in integers.iter().zip(floats) {
        same += usize::from(model.label(integers) == largest(floats));
        let scale = model.display().scale;
        let found = log_probabilities(integers.iter().map(|logit| f64::from(*logit) * scale));
        let expected = log_probabilities(floats.iter().map(|logit| f64::from(*logit)));
        divergence += expected.iter().zip(found).map(|(e, f)| e.exp() * (e - f)).sum::<f64>();
    }
    (same as f64 / integers.len() as f64, divergence / integers.len() as f64)
}

fn log_probabilities(logits: impl Iterator<Item = f64>) -> Vec<f64> {
    let logits: Vec<f64> = logits.collect();
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum = logits.iter().map(|logit| (logit - most).exp()).sum::<f64>().ln();
    logits.iter().map(|logit| logit - most - sum).collect()
}

/// The lowest index among the largest logits.
fn largest(logits: &[f32]) -> usize {
    (0..logits.len()).fold(0, |best, class| if logits[class] > logits[best] { class } else { best })
}

fn float_logits(network: &Network, data: &Dataset, run: &Run) -> Vec<Vec<f32>> {
    let of_one = |index| {
        let logits = network.logits(data.pixels(index));
        run.add(1);
        logits
    };
    (0..data.len()).into_par_iter().map(of_one).collect()
}

/// What pictures have shown of an activation.
#[derive(Debug, Clone)]
struct Seen {
    histogram: Histogram,
    /// Of each channel.
    mean: Vec<f64>,
}

/// Runs pictures; for every activation what it was like.
fn observe(network: &Network, data: &Dataset, run: &Run) -> Vec<Seen> {
    let begin = || -> Vec<Seen> {
        let of_one =
            |activation| Seen { histogram: Histogram::new(), mean: vec![0.0; network.shape(activation).channels] };
        (0..=network.layers.len()).map(of_one).collect()
    };
    let indexes: Vec<usize> = (0..data.len()).collect();
    let shards: Vec<Vec<Seen>> = indexes
        .par_chunks(data.len().div_ceil(SHARDS).max(1))
        .map(|indexes| {
            let mut seen = begin();
            for index in indexes {
                network.run(data.pixels(*index), &mut |activation, values| {
                    let Seen { histogram, mean } = &mut seen[activation];
                    histogram.add(values);
                    let plane = values.len() / mean.len();
                    for (mean, values) in mean.iter_mut().zip(values.chunks_exact(plane)) {
                        let sum: f64 = values.iter().map(|value| f64::from(*value)).sum();
                        *mean += sum / (plane * data.len()) as f64;
                    }
                });
                run.add(1);
            }
            seen
        })
        .collect();
    let mut all = begin();
    for shard in shards {
        for (all, one) in all.iter_mut().zip(shard) {
            all.histogram.merge(&one.histogram);
            all.mean.iter_mut().zip(one.mean).for_each(|(all, one)| *all += one);
        }
    }
    all
}

/// What the integers of the input and of every layer's output stand for; of the last layer it is not used.
fn grids(network: &Network, seen: Option<&Vec<Seen>>, clipping: Clipping) -> Vec<Grid> {
    let mut ranges = vec![(0.0, 0.0)];
    let input =
        network.input.grid.map_or(Grid { step: 1.0, finish: Finish::bytes(network.input.zero_points()[0]) }, |grid| {
            Grid { step: grid.scale.into(), finish: Finish::bytes(grid.zero_point) }
        });
    let mut grids = vec![input];
    for (index, layer) in network.layers.iter().enumerate() {
        let activation = index + 1;
        let histogram = seen.map(|seen| &seen[activation].histogram);
        let range = match (&layer.kind, layer.grid) {
            (LayerKind::Concat, None) => layer.from.iter().fold((0.0, 0.0), |(low, high): (f64, f64), from| {
                let (a, b) = ranges[*from];
                (low.min(a), high.max(b))
            }),
            (LayerKind::MaxPool(_), _) => ranges[layer.from[0]],
            (_, Some(_)) => (0.0, 0.0),
            (_, None) => range(layer, histogram, clipping, most(network, activation)),
        };
        let grid = match (&layer.kind, layer.grid) {
            (LayerKind::MaxPool(_), _) => grids[layer.from[0]],
            (_, Some(given)) => Grid { step: given.scale.into(), finish: given_finish(layer, given) },
            _ => Grid::of_range(range, most(network, activation)),
        };
        ranges.push((grid.bounds().0.min(range.0), grid.bounds().1.max(range.1)));
        grids.push(grid);
        if let LayerKind::Concat = layer.kind {
            layer.from.iter().for_each(|from| adopt(network, *from, grid, &mut grids));
        }
    }
    grids
}

/// Gives an activation that only one layer reads the integers of that one's output, so that they need no lookup.
fn adopt(network: &Network, activation: usize, grid: Grid, grids: &mut [Grid]) {
    let Some(layer) = activation.checked_sub(1).map(|layer| &network.layers[layer]) else { return };
    if layer.grid.is_some() || network.readers(activation).count() != 1 {
        return;
    }
    match layer.kind {
        LayerKind::MaxPool(_) => {
            let from = layer.from[0];
            adopt(network, from, grid, grids);
            if from > 0 && grids[from] == grid {
                grids[activation] = grid;
            }
        }
        LayerKind::Concat => {
            grids[activation] = grid;
            layer.from.iter().for_each(|from| adopt(network, *from, grid, grids));
        }
        _ => {
            // What is clamped at zero stays so.
            let low = if layer.low >= 0.0 { grid.finish.zero_point } else { grid.finish.low };
            grids[activation] = Grid { finish: Finish { low, ..grid.finish }, ..grid };
        }
    }
}

/// The largest integer of an activation: less where products are taken of it.
fn most(network: &Network, activation: usize) -> u8 {
    fn is_multiplied(network: &Network, activation: usize) -> bool {
        network.layers.iter().enumerate().filter(|(_, layer)| layer.from.contains(&activation)).any(|(index, layer)| {
            match layer.kind {
                LayerKind::Conv { .. } | LayerKind::Linear(_) | LayerKind::AveragePool(_) => true,
                LayerKind::MaxPool(_) | LayerKind::Concat => is_multiplied(network, index + 1),
                LayerKind::Add | LayerKind::Multiply | LayerKind::Function(_) => false,
            }
        })
    }
    if is_multiplied(network, activation) { FOR_PRODUCTS } else { u8::MAX }
}

/// Between which numbers a layer's output is kept.
fn range(layer: &NetworkLayer, histogram: Option<&Histogram>, clipping: Clipping, most: u8) -> (f64, f64) {
    let is_clamped = layer.low >= 0.0;
    let observed = |kept| histogram.map_or((0.0, 0.0), |histogram| histogram.range(kept, is_clamped));
    let (low, high) = match (clipping, layer.likely) {
        (Clipping::Known, Some(likely)) => likely,
        (Clipping::Known | Clipping::Clamped, _) => {
            let (low, high) = observed(1.0);
            // What clamps is a range of its own.
            let clamps = |bound: f64, observed: f64| if bound.is_finite() { bound } else { observed };
            (clamps(layer.low, low), clamps(layer.high, high))
        }
        (Clipping::Kept(kept), _) => observed(kept),
        (Clipping::LeastError(power), _) => {
            histogram.map_or((0.0, 0.0), |histogram| histogram.least_error(power, f64::from(most)))
        }
    };
    (low.max(layer.low).min(0.0), high.min(layer.high).max(0.0))
}

/// The bounds of bytes that a file gives.
fn given_finish(layer: &NetworkLayer, grid: GivenGrid) -> Finish {
    let bound = |value: f64, none: u8| if value.is_finite() { grid.byte(value) } else { none };
    Finish { zero_point: grid.zero_point, low: bound(layer.low, 0), high: bound(layer.high, u8::MAX) }
}

fn layer_reports(
    network: &Network,
    model: &Model,
    grids: &[Grid],
    seen: Option<&Vec<Seen>>,
    scale: f64,
) -> Vec<LayerReport> {
    let of_layer = |(index, layer): (usize, &NetworkLayer)| {
        let place = model.graph().layers().iter().position(|found| found.name == layer.name)?;
        let scales = &model.parameters(place).scale;
        let scales = scales.iter().copied().reduce(f32::min).zip(scales.iter().copied().reduce(f32::max));
        let is_last = index + 1 == network.layers.len();
        let grid = &grids[index + 1];
        let clipped = |seen: &Vec<Seen>| {
            let (low, high) = grid.bounds();
            seen[index + 1].histogram.outside(low, high)
        };
        Some(LayerReport {
            layer: layer.name.clone(),
            step: if is_last { scale } else { grid.step },
            zero_point: if is_last { 0 } else { grid.finish.zero_point },
            clipped: if is_last { 0.0 } else { seen.map_or(0.0, clipped) },
            scales,
            bound: model.proof().sums[place],
        })
    };
    network
        .layers
        .iter()
        .enumerate()
        .filter(|(_, layer)| layer.kind.is_clamped_in_passing())
        .filter_map(of_layer)
        .collect()
}

/// Layers of integers, as they are made one after the other.
struct Emission<'a> {
    network: &'a Network,
    grids: &'a [Grid],
    seen: Option<&'a Vec<Seen>>,
    layers: Vec<Layer>,
    parameters: Vec<Parameters>,
    scale: f64,
}

/// What was made.
struct Emitted {
    graph: Graph,
    parameters: Vec<Parameters>,
    /// What a logit stands for.
    scale: f64,
}

/// The integers of one output channel.
struct Channel {
    /// Counted from their zero point, perhaps more than a byte holds.
    weight: Vec<i16>,
    bias: i32,
    /// What one unit of its sum stands for.
    unit: f64,
}

impl<'a> Emission<'a> {
    fn of(
        network: &'a Network,
        grids: &'a [Grid],
        seen: Option<&'a Vec<Seen>>,
        crop: u16,
    ) -> Result<Emitted, QuantizeError> {
        let mut emission = Self { network, grids, seen, layers: Vec::new(), parameters: Vec::new(), scale: 1.0 };
        for index in 0..network.layers.len() {
            emission.layer(index)?;
        }
        let input = Input { shape: network.input.shape, zero_points: network.input.zero_points(), crop };
        let Self { layers, parameters, scale, .. } = emission;
        Ok(Emitted { graph: Graph::new(input, layers)?, parameters, scale })
    }

    /// What layers call an activation.
    fn name(&self, activation: usize) -> String {
        activation.checked_sub(1).map_or(INPUT.to_owned(), |layer| self.network.layers[layer].name.clone())
    }

    fn push(&mut self, name: String, from: Vec<String>, operation: Operation, parameters: Parameters) {
        let mut name = name;
        name.truncate(MAX_NAME);
        self.layers.push(Layer { name, from, operation });
        self.parameters.push(parameters);
    }

    fn layer(&mut self, index: usize) -> Result<(), QuantizeError> {
        let layer = &self.network.layers[index];
        let (name, grid, before) = (layer.name.clone(), self.grids[index + 1], self.grids[layer.from[0]]);
        let from: Vec<String> = layer.from.iter().map(|from| self.name(*from)).collect();
        let finish = grid.finish;
        let one_scale = |scale: f64| -> Result<Parameters, QuantizeError> {
            check_scale(&layer.title(), 0, scale)?;
            Ok(Parameters { scale: vec![scale as f32], ..Parameters::default() })
        };
        match &layer.kind {
            LayerKind::Conv { sums, groups, window } => self.sums(index, sums, Some((*groups, *window)))?,
            LayerKind::Linear(sums) => self.sums(index, sums, None)?,
            LayerKind::Add => {
                let ratios = [0, 1].map(|place| {
                    let step = self.grids[layer.from[place]].step;
                    f64::from(step as f32 / grid.step as f32)
                });
                let (multipliers, shift) =
                    to_one_step(ratios).ok_or_else(|| QuantizeError::Add { layer: layer.title(), ratios })?;
                self.push(name, from, Operation::Add { multipliers, shift, finish }, Parameters::default());
            }
            LayerKind::Multiply => {
                let second = self.grids[layer.from[1]].step;
                let product = before.step as f32 * second as f32;
                let parameters = one_scale(f64::from(product / grid.step as f32))?;
                self.push(name, from, Operation::Multiply { finish }, parameters);
            }
            LayerKind::AveragePool(window) => {
                let parameters = one_scale(before.step / grid.step / window.taps() as f64)?;
                self.push(name, from, Operation::AveragePool { window: *window, finish }, parameters);
            }
            LayerKind::MaxPool(window) => {
                self.push(name, from, Operation::MaxPool { window: *window }, Parameters::default());
            }
            LayerKind::Function(function) => {
                let table = (0..=255u8).map(|byte| {
                    let x = if layer.reads_pixels(&self.network.input) { f64::from(byte) } else { before.value(byte) };
                    let y = function.of(x);
                    match layer.grid {
                        Some(given) => given.byte(y).clamp(finish.low, finish.high),
                        None => grid.byte(y),
                    }
                });
                let parameters = Parameters { table: table.collect(), ..Parameters::default() };
                self.push(name, from, Operation::Lookup { zero_point: finish.zero_point }, parameters);
            }
            LayerKind::Concat => {
                let mut read = Vec::new();
                for (place, (source, from)) in layer.from.iter().zip(from).enumerate() {
                    let theirs = self.grids[*source];
                    if (theirs.step, theirs.finish.zero_point) == (grid.step, finish.zero_point) {
                        read.push(from);
                        continue;
                    }
                    // The integers of another step become those of this one.
                    let table = (0..=255u8).map(|byte| grid.byte(theirs.value(byte))).collect();
                    let lookup = format!("{name}_from{place}");
                    let operation = Operation::Lookup { zero_point: finish.zero_point };
                    self.push(lookup.clone(), vec![from], operation, Parameters { table, ..Parameters::default() });
                    read.push(lookup);
                }
                self.push(name, read, Operation::Concat, Parameters::default());
            }
        }
        Ok(())
    }

    /// A convolution, or without a window a linear layer.
    fn sums(&mut self, index: usize, sums: &Sums, window: Option<(usize, Window)>) -> Result<(), QuantizeError> {
        let layer = &self.network.layers[index];
        let is_last = index + 1 == self.network.layers.len();
        let (source, grid) = (layer.from[0], self.grids[index + 1]);
        let before = self.grids[source];
        let groups = window.map_or(1, |(groups, _)| groups);
        let shape = self.network.shape(source);
        let plane = window.map_or(shape.plane(), |(_, window)| window.taps());
        let zero_points = self.network.input.zero_points();
        let zeros: Vec<f64> = zero_points.iter().copied().map(f64::from).collect();
        let bias = layer.counted_bias(&self.network.input, &zeros);
        let row = sums.weight.len() / bias.len();
        // The greatest distances of what a channel reads from its zero point.
        let inputs = row / plane;
        let distance = |output: usize, input: usize| -> f64 {
            let channel = output / (bias.len() / groups) * inputs + input;
            let Finish { zero_point, low, high } = before.finish;
            let (zero, low, high) =
                if source == 0 { (zero_points[channel], 0, u8::MAX) } else { (zero_point, low, high) };
            f64::from((zero - low).max(high - zero))
        };
        let bound = |output: usize, channel: &Channel| -> f64 {
            let weights = channel.weight.chunks_exact(plane).enumerate();
            let sum = |weights: &[i16]| weights.iter().map(|weight| f64::from(weight.unsigned_abs())).sum::<f64>();
            weights.map(|(input, weights)| sum(weights) * distance(output, input)).sum::<f64>()
                + f64::from(channel.bias.unsigned_abs())
        };
        let given = sums.given.as_ref().filter(|_| self.is_given(source));
        let given = given.filter(|_| is_last || layer.grid.is_some());
        let mut after = if is_last { layer.grid.map_or(before.step, |grid| grid.scale.into()) } else { grid.step };
        let mut channels = Vec::new();
        for (output, (weights, bias)) in sums.weight.chunks_exact(row).zip(&bias).enumerate() {
            if !weights.iter().all(|weight| weight.is_finite()) || !bias.is_finite() {
                return Err(QuantizeError::NotFinite { layer: layer.title(), channel: output });
            }
            let exact = given.and_then(|given| of_file(given, output, row, before.step, *bias)).filter(|channel| {
                let (bound, scale) = (bound(output, channel), channel.unit / after);
                bound < MAX_SUM as f64 && (is_last || bound * scale < MAX_SCALED) && scale >= f64::from(SCALES.start)
            });
            channels.push(exact.unwrap_or_else(|| self.rounded(layer, weights, *bias, output, groups, after)));
        }
        let mut parameters = Parameters::default();
        if is_last && layer.grid.is_none() {
            let same = channels.iter().all(|channel| channel.unit == channels[0].unit);
            if same {
                after = channels[0].unit;
            } else {
                // As fine as logits may be, and scales are allowed to be.
                let most = |most: f64, value: f64| most.max(value);
                let reach = channels.iter().enumerate().map(|(output, channel)| bound(output, channel) * channel.unit);
                let unit = channels.iter().map(|channel| channel.unit).fold(0.0, most);
                after = (reach.fold(0.0, most) / MAX_LOGIT).max(unit / 128.0);
            }
            self.scale = after;
            if !same {
                parameters.scale = scales(layer, &channels, after)?;
            }
        } else {
            self.scale = after;
            parameters.scale = scales(layer, &channels, after)?;
        }
        let copies = channels.iter().flat_map(|channel| &channel.weight).map(|weight| weight.unsigned_abs()).max();
        let copies = usize::from(copies.unwrap_or(0)).div_ceil(MAX_WEIGHT as usize).max(1);
        let mut from = self.name(source);
        if copies > 1 {
            from = self.copied(index, copies, before);
        }
        for channel in &channels {
            parameters.bias.push(channel.bias);
            for weights in channel.weight.chunks_exact(plane) {
                let mut rest = weights.to_vec();
                for _ in 0..copies {
                    for rest in &mut rest {
                        let part = (*rest).clamp(-(MAX_WEIGHT as i16), MAX_WEIGHT as i16);
                        *rest -= part;
                        parameters.weight.push(part as i8);
                    }
                }
            }
        }
        let outputs = channels.len();
        let operation = match window {
            Some((groups, window)) => Operation::Conv { channels: outputs, groups, window, finish: grid.finish },
            None => Operation::Linear { channels: outputs, finish: (!is_last).then_some(grid.finish) },
        };
        self.push(layer.name.clone(), vec![from], operation, parameters);
        Ok(())
    }

    /// Every channel of what a layer reads, several times: weights of more than a byte are several weights.
    fn copied(&mut self, index: usize, copies: usize, grid: Grid) -> String {
        let layer = &self.network.layers[index];
        let (source, name) = (layer.from[0], format!("{}_copies", layer.name));
        let channels = self.network.shape(source).channels;
        let all = channels * copies;
        let finish = if source == 0 { Finish::bytes(grid.finish.zero_point) } else { grid.finish };
        let operation = Operation::Conv { channels: all, groups: channels, window: Window::square(1, 1, 0), finish };
        let parameters =
            Parameters { weight: vec![1; all], bias: vec![0; all], scale: vec![1.0; all], ..Parameters::default() };
        let from = vec![self.name(source)];
        self.push(name.clone(), from, operation, parameters);
        name
    }

    /// Whether the integers of an activation are those of the file.
    fn is_given(&self, activation: usize) -> bool {
        let Some(layer) = activation.checked_sub(1).map(|layer| &self.network.layers[layer]) else {
            return self.network.input.grid.is_some();
        };
        match layer.kind {
            LayerKind::MaxPool(_) => self.is_given(layer.from[0]),
            _ => layer.grid.is_some(),
        }
    }

    /// The integers of a channel that the file gives none for, with the bias that keeps its mean.
    fn rounded(
        &self,
        layer: &NetworkLayer,
        weights: &[f32],
        bias: f64,
        output: usize,
        groups: usize,
        after: f64,
    ) -> Channel {
        let source = layer.from[0];
        let before = self.grids[source].step;
        let (unit, integers, _) = with_unit(weights, bias as f32, before, after);
        let mut moved = bias;
        if let Some(seen) = self.seen {
            let means = &seen[source].mean;
            let outputs = layer.shape.channels;
            let (of_group, inputs) = (outputs / groups, means.len() / groups);
            let taps = weights.len() / inputs;
            let first = output / of_group * inputs;
            for (place, (weight, integer)) in weights.iter().zip(&integers).enumerate() {
                let stands_for = f64::from(*integer) * unit / before;
                moved -= (stands_for - f64::from(*weight)) * means[first + place / taps];
            }
        }
        let bias = (moved / unit).round() as i32;
        Channel { weight: integers.into_iter().map(i16::from).collect(), bias, unit }
    }
}

/// The integers that a file gives a channel, over an input of this step.
fn of_file(given: &GivenSums, output: usize, row: usize, before: f64, bias: f64) -> Option<Channel> {
    let unit = before as f32 * given.scale[output];
    let weight = given.weight[output * row..][..row].to_vec();
    // Biases in other steps than the sums have are rounded to those.
    let in_steps = |scale: f32| ((scale - unit) / unit).abs() < 1e-5;
    let bias = match &given.bias {
        Some(found) if found.scale.as_ref().is_none_or(|scale| in_steps(scale[output])) => found.values[output],
        _ => {
            let steps = (bias / f64::from(unit)).round_ties_even();
            (steps.abs() < f64::from(i32::MAX)).then_some(steps as i32)?
        }
    };
    Some(Channel { weight, bias, unit: unit.into() })
}

fn scales(layer: &NetworkLayer, channels: &[Channel], after: f64) -> Result<Vec<f32>, QuantizeError> {
    let of_one = |(number, channel): (usize, &Channel)| {
        let scale = channel.unit as f32 / after as f32;
        check_scale(&layer.title(), number, scale.into())?;
        Ok(scale)
    };
    channels.iter().enumerate().map(of_one).collect()
}
