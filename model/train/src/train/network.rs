//! The float network that is trained, over the same graph as the integer network it becomes.
//!
//! Activations are `(N, H, W, C)`. The input is `(pixel - zero point) / 255`, or, where a graph begins with a lookup of the input,
//! `((pixel >> 1) - zero point) / 127`, as the lookup's table will be. Layers whose lowest integer is their zero point are
//! clamped to `0..=ceiling`, the others are not clamped, and what integers their outputs become is up to [`crate::quantize`].

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use ocelli_model::file::ModelFile;
use ocelli_model::graph::{Graph, Layer, Operation, Window};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use super::TrainError;
use super::activation::{EPSILON, Statistics};
use super::batch::Reading;
use super::pass::{NormPlaces, Numbers, Pass, Places, Rounding, only_reader, source};
use super::shards::of_plain;
use super::whitening::directions;
use crate::dataset::{Dataset, composed};

/// The key of the description in the metadata of a file of float weights.
const DESCRIPTION: &str = "ocelli-float";
/// By how much of a batch's statistics the running ones move; PyTorch's default.
const STATISTICS_SHARE: f32 = 0.1;

/// What every channel of the pictures is like, so that training can work with centred inputs. It is folded into the
/// first layer's weights and bias wherever these are read out.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalization {
    /// The mean of each channel of the input.
    pub mean: Vec<f32>,
    /// The standard deviation of each channel of the input.
    pub deviation: Vec<f32>,
}

impl Normalization {
    /// Leaves the input as it is.
    pub fn identity(channels: usize) -> Self {
        Self { mean: vec![0.0; channels], deviation: vec![1.0; channels] }
    }
}

/// The numbers of a layer, as they lie in a file.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerWeights {
    /// `(O, I, kernel, kernel)` or `(O, I)` with the inputs in CHW order, row-major.
    pub weight: Vec<f32>,
    /// `(O)`.
    pub bias: Vec<f32>,
}

/// A graph with float weights.
#[derive(Debug, Clone)]
pub struct FloatNetwork {
    graph: Graph,
    classes: Vec<String>,
    /// What the output of each layer that is clamped is clamped to; infinite where nothing is.
    ceilings: Vec<f32>,
    reading: Reading,
    /// All that training changes: weights, then biases and factors of batch normalisation, then running statistics.
    numbers: Vec<f32>,
    /// Of the layers that have any, where their numbers lie.
    places: Vec<Option<Places>>,
    /// How many of the numbers are weights.
    weights: usize,
    /// How many of the numbers follow gradients: all but the running statistics.
    trained: usize,
    centring: Option<Centring>,
}

/// What every row of the weights of a layer that reads the pictures is multiplied by, one over the deviation, and the means that
/// are subtracted.
#[derive(Debug, Clone)]
struct Centring {
    layer: usize,
    mean: Vec<f32>,
    scale: Vec<f32>,
}

/// What the integers of a layer stand for in the float network.
#[derive(Debug, Clone)]
pub(crate) struct Rounded {
    /// Weights and biases, of layers that have any.
    pub(crate) weights: Option<LayerWeights>,
    /// How the output is clamped and rounded; of the last layer it is not used.
    pub(crate) rounding: Rounding,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    graph: String,
    classes: Vec<String>,
    ceilings: Vec<Option<f32>>,
}

impl FloatNetwork {
    /// Draws the weights of a new network by a seed, as He et al., "Delving Deep into Rectifiers", 2015, section 2.2:
    /// normal, of variance 2 / inputs. The last layer's are smaller, so that the first losses are not wild, and so are those
    /// of branches that are added, so that activations do not grow with every one.
    ///
    /// # Errors
    /// If the graph has another number of logits than there are classes, or a layer that cannot be trained.
    pub fn new(
        graph: Graph,
        classes: Vec<String>,
        ceiling: f32,
        normalization: &Normalization,
        seed: u64,
    ) -> Result<Self, TrainError> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let branches = (0..graph.layers().len()).filter(|layer| is_branch(&graph, *layer)).count();
        let mut draw = |graph: &Graph, layer: usize, inputs: usize, outputs: usize| {
            let variance = if graph.is_last(layer) {
                1.0 / inputs as f64 / 4.0
            } else if is_branch(graph, layer) {
                2.0 / inputs as f64 / (branches as f64 + 1.0)
            } else {
                2.0 / inputs as f64
            };
            let weight = (0..inputs * outputs).map(|_| (normal(&mut rng) * variance.sqrt()) as f32).collect();
            LayerWeights { weight, bias: vec![0.0; outputs] }
        };
        let ceilings = vec![ceiling; graph.layers().len()];
        let mut network = Self::build(graph, classes, ceilings, &mut draw)?;
        let channels = network.graph.input().shape.channels;
        if *normalization != Normalization::identity(channels)
            && let Some((layer, first)) = network.first()
        {
            let rows = 0..first.weight.len() / first.bias.len();
            network.centring = Some(Centring {
                layer,
                mean: rows.clone().map(|row| normalization.mean[row % channels]).collect(),
                scale: rows.map(|row| 1.0 / normalization.deviation[row % channels]).collect(),
            });
        }
        Ok(network)
    }

    /// The same network with a first convolution that tells apart in which directions the windows of pictures vary, one pair
    /// of channels with both signs for each; channels that are left keep their weights.
    pub fn with_whitening(mut self, data: &Dataset, normalization: &Normalization) -> Self {
        let Some((layer, Places { weight, bias, .. })) = self.first() else { return self };
        let Operation::Conv { window: Window { kernel, .. }, .. } = self.graph.layers()[layer].operation else {
            return self;
        };
        let shape = self.graph.input().shape;
        if kernel[0] > shape.height || kernel[1] > shape.width {
            return self;
        }
        let directions = directions(data, &self.reading, kernel, normalization);
        let (weight, outputs) = (&mut self.numbers[weight], bias.len());
        for (pair, direction) in directions.iter().take(outputs / 2).enumerate() {
            for (row, x) in weight.chunks_exact_mut(outputs).zip(direction) {
                (row[2 * pair], row[2 * pair + 1]) = (*x, -x);
            }
        }
        self
    }

    /// The same network with zeros for the weights of branches that are added, so that each block begins as what it skips (H. Zhang
    /// et al., "Fixup Initialization", 2019, section 3). Without normalisation random weights there drown the pictures in
    /// what does not depend on them, and some seeds never leave chance.
    pub fn with_silent_branches(mut self) -> Self {
        for (index, places) in self.places.iter().enumerate() {
            if let Some(places) = places.as_ref().filter(|_| is_branch(&self.graph, index)) {
                self.numbers[places.weight.clone()].fill(0.0);
            }
        }
        self
    }

    /// The same network with batch normalisation in every layer with weights but the last. In branches that are added the factor
    /// begins at 0, so that each block begins as what it skips (P. Goyal et al., "Accurate, Large Minibatch SGD", 2017,
    /// section 5.1).
    pub fn with_batch_norm(mut self) -> Self {
        let last = self.places.len().saturating_sub(1);
        let mut statistics = Vec::new();
        for (index, places) in self.places.iter_mut().enumerate().filter(|(index, _)| *index != last) {
            let Some(places) = places else { continue };
            let outputs = places.bias.len();
            let gamma = if is_branch(&self.graph, index) { 0.0 } else { 1.0 };
            let gamma = append(&mut self.numbers, vec![gamma; outputs]);
            let [mean, variance] = [0.0, 1.0].map(|value| append(&mut statistics, vec![value; outputs]));
            places.norm = Some(NormPlaces { gamma, statistics: [mean, variance] });
        }
        // The statistics follow all that is trained.
        self.trained = self.numbers.len();
        self.numbers.extend(statistics);
        for NormPlaces { statistics, .. } in self.places.iter_mut().flatten().filter_map(|places| places.norm.as_mut())
        {
            for range in statistics {
                *range = range.start + self.trained..range.end + self.trained;
            }
        }
        self
    }

    /// The same network with the weights and biases of [those layers of another one](Self::layer_to_take) that it has.
    pub(super) fn with_numbers_of(mut self, other: &Self) -> Self {
        for layer in 0..self.places.len() {
            let Some(learnt) = self.layer_to_take(layer, other).and_then(|same| other.layer(same)) else { continue };
            let Some(places) = self.places[layer].clone() else { continue };
            let (mut weight, mut bias) = (self.rows(layer, &learnt.weight), learnt.bias);
            // The pictures are centred, and these weights are of pictures that are not.
            if let Some(Centring { mean, scale, .. }) =
                self.centring.as_ref().filter(|centring| centring.layer == layer)
            {
                for ((row, mean), scale) in weight.chunks_exact_mut(bias.len()).zip(mean).zip(scale) {
                    // With batch normalisation the means are not subtracted.
                    let mean = if places.norm.is_some() { 0.0 } else { *mean };
                    for (weight, bias) in row.iter_mut().zip(&mut bias) {
                        *bias += mean * *weight;
                        *weight /= scale;
                    }
                }
            }
            self.numbers[places.weight].copy_from_slice(&weight);
            self.numbers[places.bias].copy_from_slice(&bias);
        }
        self
    }

    /// The layer of another network whose weights a layer can take over: it has the same name and size, and if it is the last
    /// one the classes are the same. Added layers are told from old ones by their names, so that a network can grow and go on
    /// from where it stood (T. Chen, I. Goodfellow, J. Shlens, "Net2Net", 2016).
    fn layer_to_take(&self, layer: usize, other: &Self) -> Option<usize> {
        let (graph, learnt) = (&self.graph, &other.graph);
        let name = &graph.layers()[layer].name;
        let same = learnt.layers().iter().position(|layer| layer.name == *name)?;
        let channels = |graph: &Graph, layer: usize| {
            [graph.source_shape(layer), graph.output_shape(layer)].map(|shape| shape.channels)
        };
        let windows = |graph: &Graph, layer: usize| match graph.layers()[layer].operation {
            Operation::Conv { window, .. } => Some(window),
            _ => None,
        };
        let places = |network: &Self, layer: usize| network.places[layer].as_ref().map(|places| places.weight.len());
        let is_like = windows(graph, layer) == windows(learnt, same)
            && channels(graph, layer) == channels(learnt, same)
            && places(self, layer) == places(other, same)
            && graph.is_last(layer) == learnt.is_last(same)
            && (!graph.is_last(layer) || self.classes == other.classes);
        is_like.then_some(same)
    }

    /// The same network answering as it did before it was [normalised](Self::with_batch_norm): each layer's running statistics
    /// are those of some pictures, and its factor and bias undo them. Weights get the size that random ones have, since
    /// normalised sums do not depend on it, but how fast they turn does. Layers that are not those of another network keep
    /// factor and bias.
    pub(super) fn with_statistics_of(mut self, data: &Dataset, learnt: &Self) -> Self {
        let indexes: Vec<usize> = (0..data.len()).collect();
        for layer in 0..self.places.len() {
            let Some(places) = self.places[layer].clone() else { continue };
            let Some(NormPlaces { gamma, statistics: [means, variances] }) = places.norm else { continue };
            let is_learnt = self.layer_to_take(layer, learnt).is_some();
            let (weight, outputs) = (&mut self.numbers[places.weight], places.bias.len());
            let squares: f64 = weight.iter().map(|weight| f64::from(*weight).powi(2)).sum();
            let size = (squares / 2.0 / outputs as f64).sqrt().max(f64::from(f32::MIN_POSITIVE)) as f32;
            weight.iter_mut().for_each(|weight| *weight /= size);
            // Only the layers before have an influence on these sums, and answer as they should already.
            let (mut total, mut total_squares, mut count) = (vec![0f64; outputs], vec![0f64; outputs], 0.0);
            let pass = self.training_pass();
            let seen = of_plain(&pass, data, &indexes, |work, _| {
                pass.statistics(work).find(|(norm, _)| norm.gamma == gamma).map(|(_, statistics)| statistics.clone())
            });
            drop(pass);
            for Statistics { mean, variance, count: of_shard } in seen.into_iter().flatten() {
                let of_shard = of_shard as f64;
                count += of_shard;
                for channel in 0..outputs {
                    let (mean, variance) = (f64::from(mean[channel]), f64::from(variance[channel]));
                    total[channel] += mean * of_shard;
                    total_squares[channel] += (variance + mean * mean) * of_shard;
                }
            }
            for channel in 0..outputs {
                let mean = total[channel] / count;
                let variance = (total_squares[channel] / count - mean * mean).max(0.0);
                self.numbers[means.start + channel] = mean as f32;
                self.numbers[variances.start + channel] = variance as f32;
                if is_learnt {
                    self.numbers[gamma.start + channel] = size * (variance as f32 + EPSILON).sqrt();
                    self.numbers[places.bias.start + channel] += size * mean as f32;
                }
            }
        }
        self
    }

    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The names of the classes.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The first layer with weights that reads the pictures, and where its numbers lie.
    fn first(&self) -> Option<(usize, Places)> {
        let mut layers = self.places.iter().enumerate();
        layers.find_map(|(layer, places)| Some((layer, places.clone().filter(|_| source(&self.graph, layer, 0) == 0)?)))
    }

    /// All that training changes: weights, then biases and factors of batch normalisation, then running statistics.
    pub(crate) fn numbers(&self) -> &[f32] {
        &self.numbers
    }

    /// As [`FloatNetwork::numbers`], to change.
    pub(crate) fn numbers_mut(&mut self) -> &mut Vec<f32> {
        &mut self.numbers
    }

    /// How many of the numbers follow gradients.
    pub(crate) fn trained(&self) -> usize {
        self.trained
    }

    /// How many of the numbers are weights, which decay.
    pub(crate) fn weights(&self) -> usize {
        self.weights
    }

    /// The same network with the centring of the pictures and batch normalisation folded into weights and biases.
    pub(crate) fn folded(&self) -> Self {
        let mut folded = Self { centring: None, ..self.clone() };
        folded.trained = self.weights;
        for (layer, places) in self.places.iter().enumerate() {
            let Some(places) = places else { continue };
            let (weight, bias) = self.effective(layer, places);
            folded.numbers[places.weight.clone()].copy_from_slice(&weight);
            folded.numbers[places.bias.clone()].copy_from_slice(&bias);
            folded.trained += bias.len();
            folded.places[layer] = Some(Places { norm: None, ..places.clone() });
        }
        // What follows the biases is folded.
        folded.numbers.truncate(folded.trained);
        folded
    }

    /// Gives the logits `(N, classes)` of pictures, as the network answers once trained.
    pub fn logits(&self, data: &Dataset, indexes: &[usize]) -> Vec<f32> {
        of_plain(&self.pass(), data, indexes, |_, logits| logits.to_vec()).concat()
    }

    /// Runs pictures, and shows the output of every layer that has a finish of its own: the layer's index and the activation of
    /// some of the pictures, after the max-pool where one follows.
    pub fn observe(&self, data: &Dataset, indexes: &[usize], visit: &mut dyn FnMut(usize, &[f32])) {
        let pass = self.pass();
        let seen = of_plain(&pass, data, indexes, |work, _| {
            let mut seen = Vec::new();
            pass.observe(work, &mut |layer, activation| seen.push((layer, activation.to_vec())));
            seen
        });
        seen.into_iter().flatten().for_each(|(layer, activation)| visit(layer, &activation));
    }

    /// The network as it answers once trained.
    fn pass(&self) -> Pass<'_> {
        self.pass_of(|layer, places| {
            let (weight, bias) = self.effective(layer, places);
            (weight, bias, None)
        })
    }

    /// The network as it is trained: batch normalisation takes its statistics from the pictures it is shown.
    pub(crate) fn training_pass(&self) -> Pass<'_> {
        self.pass_of(|layer, places| {
            let gamma = places.norm.as_ref().map(|norm| &self.numbers[norm.gamma.clone()]);
            let (weight, bias) = self.centred(layer, places);
            (weight, bias, gamma)
        })
    }

    /// The network with the numbers that integers stand for, one item a layer. It answers as the integer model does, but for
    /// what f32 rounds; gradients pass to the numbers that were rounded. The network is a folded one.
    pub(crate) fn rounded_pass<'a>(&'a self, rounded: &'a [Rounded]) -> Pass<'a> {
        let numbers = self.places.iter().zip(rounded).enumerate().map(|(layer, (places, rounded))| {
            let (places, values) = (places.as_ref()?, rounded.weights.as_ref()?);
            Some(Numbers {
                weight: Cow::Owned(self.rows(layer, &values.weight)),
                bias: Cow::Borrowed(&values.bias),
                gamma: None,
                places,
            })
        });
        Pass::new(&self.graph, &self.reading, numbers.collect(), |layer| rounded[layer].rounding)
    }

    /// A pass with the weight, the bias and, if statistics are to be taken, the factor that are given for a layer.
    fn pass_of<'a>(
        &'a self,
        of_layer: impl Fn(usize, &'a Places) -> (Cow<'a, [f32]>, Cow<'a, [f32]>, Option<&'a [f32]>),
    ) -> Pass<'a> {
        let numbers = self.places.iter().enumerate().map(|(layer, places)| {
            let places = places.as_ref()?;
            let (weight, bias, gamma) = of_layer(layer, places);
            Some(Numbers { weight, bias, gamma, places })
        });
        Pass::new(&self.graph, &self.reading, numbers.collect(), |layer| self.rounding(layer))
    }

    fn rounding(&self, layer: usize) -> Rounding {
        let (low, high) = if is_clamped(&self.graph.layers()[layer]) {
            (0.0, self.ceilings[layer])
        } else {
            (f32::NEG_INFINITY, f32::INFINITY)
        };
        let factors = match self.graph.layers()[layer].operation {
            Operation::AveragePool { window, .. } => [1.0 / window.taps() as f32, 0.0],
            _ => [1.0, 1.0],
        };
        Rounding { low, high, step: None, factors }
    }

    /// Turns the gradient of what [`FloatNetwork::training_pass`] works with into that of the numbers.
    pub(crate) fn through_centring(&self, gradient: &mut [f32]) {
        let Some(Centring { layer, mean, scale }) = &self.centring else { return };
        let Some(places) = &self.places[*layer] else { return };
        let bias = gradient[places.bias.clone()].to_vec();
        let rows = gradient[places.weight.clone()].chunks_exact_mut(bias.len());
        for ((row, mean), scale) in rows.zip(mean).zip(scale) {
            // With batch normalisation the means are not subtracted.
            let mean = if places.norm.is_some() { 0.0 } else { *mean };
            row.iter_mut().zip(&bias).for_each(|(slope, bias)| *slope = (*slope - mean * bias) * scale);
        }
    }

    /// Moves the running statistics towards those of a batch's shards.
    pub(crate) fn follow(&mut self, shards: &[Vec<(NormPlaces, Statistics)>]) {
        let share = STATISTICS_SHARE / shards.len() as f32;
        for NormPlaces { statistics, .. } in self.places.iter().flatten().filter_map(|places| places.norm.as_ref()) {
            for range in statistics {
                self.numbers[range.clone()].iter_mut().for_each(|running| *running *= 1.0 - STATISTICS_SHARE);
            }
        }
        for (NormPlaces { statistics: [means, variances], .. }, batch) in shards.iter().flatten() {
            // The variance of all pictures is estimated without bias, as PyTorch does.
            let unbiased = batch.count as f32 / (batch.count.max(2) - 1) as f32;
            let numbers = self.numbers[means.clone()].iter_mut().zip(&batch.mean);
            numbers.for_each(|(running, mean)| *running += share * mean);
            let numbers = self.numbers[variances.clone()].iter_mut().zip(&batch.variance);
            numbers.for_each(|(running, variance)| *running += share * unbiased * variance);
        }
    }

    /// Weights as they lie in a file, as `(K, O)`.
    fn rows(&self, index: usize, weight: &[f32]) -> Vec<f32> {
        let mut rows = vec![0.0; weight.len()];
        self.reorder(index, |row, of_file| rows[row] = weight[of_file]);
        rows
    }

    /// Calls `visit` with the place of every weight of a layer in `(K, O)`, and in a file.
    fn reorder(&self, index: usize, mut visit: impl FnMut(usize, usize)) {
        let [rows, columns, channels, outputs] = self.weight_dimensions(index);
        for output in 0..outputs {
            for channel in 0..channels {
                for place in 0..rows * columns {
                    let of_file = (output * channels + channel) * rows * columns + place;
                    visit((place * channels + channel) * outputs + output, of_file);
                }
            }
        }
    }

    /// The numbers of a layer that has any, without centring and batch normalisation.
    pub fn layer(&self, index: usize) -> Option<LayerWeights> {
        let (rows, bias) = self.effective(index, self.places[index].as_ref()?);
        let mut weight = vec![0.0; rows.len()];
        self.reorder(index, |row, of_file| weight[of_file] = rows[row]);
        Some(LayerWeights { weight, bias: bias.into_owned() })
    }

    /// The network as a safetensors file: `NAME.weight` and `NAME.bias` in f32, shaped as in a model file, with the graph,
    /// the classes and the ceilings in the metadata.
    ///
    /// # Errors
    /// Safetensors'.
    pub fn to_bytes(&self) -> Result<Vec<u8>, TrainError> {
        let mut tensors = Vec::new();
        for (index, layer) in self.graph.layers().iter().enumerate() {
            let Some(LayerWeights { weight, bias }) = self.layer(index) else { continue };
            let shape = self.graph.weight_shape(index).expect("a layer with weights has a shape of weights");
            tensors.push((format!("{}.bias", layer.name), vec![bias.len()], little_endian(&bias)));
            tensors.push((format!("{}.weight", layer.name), shape, little_endian(&weight)));
        }
        let views: Vec<(&str, TensorView)> = tensors
            .iter()
            .map(|(name, shape, bytes)| Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
            .collect::<Result<_, safetensors::SafeTensorError>>()?;
        let ceilings = self.ceilings.iter().map(|ceiling| Some(*ceiling).filter(|ceiling| ceiling.is_finite()));
        let (graph, classes) = (self.graph.to_json(), self.classes.clone());
        let description = Description { graph, classes, ceilings: ceilings.collect() };
        let description = serde_json::to_string(&description).expect("names and numbers can be JSON");
        let metadata = HashMap::from([(DESCRIPTION.to_owned(), description)]);
        Ok(safetensors::serialize(views, Some(metadata))?)
    }

    /// Reads what [`FloatNetwork::to_bytes`] wrote.
    ///
    /// # Errors
    /// If the bytes are something else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TrainError> {
        let (_, metadata) = SafeTensors::read_metadata(bytes)?;
        let description = metadata.metadata().as_ref().and_then(|map| map.get(DESCRIPTION));
        let description = description.ok_or(TrainError::NoFloatNetwork { key: DESCRIPTION })?;
        let Description { graph, classes, ceilings } = serde_json::from_str(description)?;
        let graph = Graph::from_json(&graph)?;
        let ceilings = ceilings.into_iter().map(|ceiling| ceiling.unwrap_or(f32::INFINITY)).collect();
        let file = SafeTensors::deserialize(bytes)?;
        let layers = graph.layers().iter().enumerate().map(|(index, layer)| {
            let Some(shape) = graph.weight_shape(index) else { return Ok(None) };
            let weight = floats(&file, &format!("{}.weight", layer.name), &shape)?;
            let bias = floats(&file, &format!("{}.bias", layer.name), &shape[..1])?;
            Ok(Some(LayerWeights { weight, bias }))
        });
        let layers = layers.collect::<Result<_, TrainError>>()?;
        Self::from_layers(graph, classes, ceilings, layers)
    }

    /// A network of weights that came from elsewhere, and of what layers are clamped to: an entry a layer, none for those without
    /// weights.
    ///
    /// # Errors
    /// If a layer has no weights or others than the graph says, or cannot be trained, or there is another number of logits than
    /// classes.
    pub fn from_layers(
        graph: Graph,
        classes: Vec<String>,
        ceilings: Vec<f32>,
        layers: Vec<Option<LayerWeights>>,
    ) -> Result<Self, TrainError> {
        let mut zeros = |_: &Graph, _: usize, inputs: usize, outputs: usize| LayerWeights {
            weight: vec![0.0; inputs * outputs],
            bias: vec![0.0; outputs],
        };
        let mut network = Self::build(graph, classes, ceilings, &mut zeros)?;
        for index in 0..network.places.len() {
            let Some(places) = network.places[index].clone() else { continue };
            let layer = layers.get(index).and_then(Option::as_ref);
            let found = layer.map_or((0, 0), |layer| (layer.weight.len(), layer.bias.len()));
            let expected = (places.weight.len(), places.bias.len());
            let Some(LayerWeights { weight, bias }) = layer.filter(|_| found == expected) else {
                return Err(TrainError::Tensor {
                    name: network.graph.layers()[index].name.clone(),
                    found: format!("{} weights and {} biases", found.0, found.1),
                    expected: format!("{} and {}", expected.0, expected.1),
                });
            };
            let rows = network.rows(index, weight);
            network.numbers[places.weight].copy_from_slice(&rows);
            network.numbers[places.bias].copy_from_slice(bias);
        }
        Ok(network)
    }

    /// Lays out the numbers of a graph; `fill` gives biases, and weights in the order `(inputs, outputs)`.
    fn build(
        graph: Graph,
        classes: Vec<String>,
        ceilings: Vec<f32>,
        fill: &mut dyn FnMut(&Graph, usize, usize, usize) -> LayerWeights,
    ) -> Result<Self, TrainError> {
        if graph.logits() != classes.len() {
            return Err(TrainError::Classes { found: classes.len(), expected: graph.logits() });
        }
        if ceilings.len() != graph.layers().len() {
            return Err(TrainError::Ceilings { found: ceilings.len(), expected: graph.layers().len() });
        }
        if let Some(found) = ceilings.iter().copied().find(|ceiling| ceiling.is_nan() || *ceiling <= 0.0) {
            return Err(TrainError::Ceiling { found });
        }
        let reading = reading(&graph)?;
        let classes: Vec<String> = classes.iter().map(|class| composed(class)).collect();
        // Before anything is learnt for nothing.
        ModelFile::check_fits(&graph, &classes).map_err(TrainError::NoModelFile)?;
        let (mut numbers, mut biases, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..graph.layers().len() {
            let layer = graph.weight_shape(index).map(|shape| {
                let LayerWeights { weight, bias } = fill(&graph, index, shape[1..].iter().product(), shape[0]);
                Places { weight: append(&mut numbers, weight), bias: append(&mut biases, bias), norm: None }
            });
            places.push(layer);
        }
        let weights = numbers.len();
        numbers.extend(biases);
        for Places { bias, .. } in places.iter_mut().flatten() {
            *bias = bias.start + weights..bias.end + weights;
        }
        let trained = numbers.len();
        Ok(Self { graph, classes, ceilings, reading, numbers, places, weights, trained, centring: None })
    }

    /// Rows, columns and channels that a layer's weights span, and its outputs.
    fn weight_dimensions(&self, index: usize) -> [usize; 4] {
        let (input, outputs) = (self.graph.source_shape(index), self.graph.output_shape(index).channels);
        match self.graph.layers()[index].operation {
            Operation::Conv { window, .. } => [window.kernel[0], window.kernel[1], input.channels, outputs],
            _ => [input.height, input.width, input.channels, outputs],
        }
    }

    /// Weight and bias with the centring of the pictures folded in, `W (x - mean) / deviation + b`. Padding stands for pixels of
    /// the zero points, as in the integer network, so it is folded with the rest. Batch normalisation would subtract the means again
    /// with those of the batch.
    fn centred(&self, layer: usize, places: &Places) -> (Cow<'_, [f32]>, Cow<'_, [f32]>) {
        let (weight, bias) = (&self.numbers[places.weight.clone()], &self.numbers[places.bias.clone()]);
        let Some(Centring { mean, scale, .. }) = self.centring.as_ref().filter(|centring| centring.layer == layer)
        else {
            return (Cow::Borrowed(weight), Cow::Borrowed(bias));
        };
        let (mut weight, mut bias) = (weight.to_vec(), bias.to_vec());
        for ((row, mean), scale) in weight.chunks_exact_mut(bias.len()).zip(mean).zip(scale) {
            row.iter_mut().for_each(|weight| *weight *= scale);
            if places.norm.is_none() {
                bias.iter_mut().zip(row).for_each(|(bias, weight)| *bias -= mean * *weight);
            }
        }
        (Cow::Owned(weight), Cow::Owned(bias))
    }

    /// As [`FloatNetwork::centred`], with batch normalisation folded in, too.
    fn effective(&self, layer: usize, places: &Places) -> (Cow<'_, [f32]>, Cow<'_, [f32]>) {
        let (weight, bias) = self.centred(layer, places);
        let Some(NormPlaces { gamma, statistics: [mean, variance] }) = &places.norm else { return (weight, bias) };
        let [gamma, mean, variance] = [gamma, mean, variance].map(|range| &self.numbers[range.clone()]);
        let factors: Vec<f32> =
            gamma.iter().zip(variance).map(|(gamma, variance)| gamma / (variance + EPSILON).sqrt()).collect();
        let (mut weight, mut bias) = (weight.into_owned(), bias.into_owned());
        for ((bias, mean), factor) in bias.iter_mut().zip(mean).zip(&factors) {
            *bias -= mean * factor;
        }
        for row in weight.chunks_exact_mut(factors.len()) {
            row.iter_mut().zip(&factors).for_each(|(weight, factor)| *weight *= factor);
        }
        (Cow::Owned(weight), Cow::Owned(bias))
    }
}

/// Whether a layer's output is never below zero.
pub(crate) fn is_clamped(layer: &Layer) -> bool {
    layer.operation.finish().is_some_and(|finish| finish.low == finish.zero_point)
}

/// Whether a layer with weights is the end of a branch that is added to what it skips: of an addition's two inputs the later one,
/// if nothing clamps it and nothing else reads it.
fn is_branch(graph: &Graph, layer: usize) -> bool {
    let Some(reader) = only_reader(graph, layer + 1) else { return false };
    matches!(graph.layers()[reader].operation, Operation::Add { .. })
        && graph.weight_shape(layer).is_some()
        && !is_clamped(&graph.layers()[layer])
        && graph.sources(reader).iter().max() == Some(&(layer + 1))
        && graph.sources(reader).iter().min() != Some(&(layer + 1))
}

/// What a graph's pixels stand for.
///
/// # Errors
/// For a layer that cannot be trained.
pub(super) fn reading(graph: &Graph) -> Result<Reading, TrainError> {
    let mut halved = None;
    for (index, layer) in graph.layers().iter().enumerate() {
        let refuse =
            |expected| Err(TrainError::Layer { layer: layer.name.clone(), kind: layer.operation.kind(), expected });
        match layer.operation {
            Operation::Conv { groups, .. } if groups != 1 => return refuse("convolutions of one group"),
            Operation::MaxPool { window } | Operation::AveragePool { window, .. } if window.padding != [0; 4] => {
                return refuse("pools without padding");
            }
            Operation::Lookup { zero_point } => {
                let reads_alone = only_reader(graph, 0) == Some(index);
                if !reads_alone {
                    return refuse("a lookup of the input alone, which halves it for all that reads it");
                }
                halved = Some(vec![zero_point; graph.input().shape.channels]);
            }
            Operation::Multiply { .. } | Operation::Concat => {
                return refuse("conv, linear, add, average_pool, max_pool, and a lookup of the input");
            }
            _ => {}
        }
    }
    Ok(Reading::new(halved.as_ref().unwrap_or(&graph.input().zero_points), halved.is_some()))
}

/// Adds numbers to a list, and says where they lie in it.
fn append(list: &mut Vec<f32>, numbers: Vec<f32>) -> Range<usize> {
    let start = list.len();
    list.extend(numbers);
    start..list.len()
}

/// A number of the standard normal distribution (Box and Muller, "A Note on the Generation of Random Normal Deviates",
/// 1958).
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (radius, angle): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

pub(super) fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

pub(super) fn floats(file: &SafeTensors, name: &str, shape: &[usize]) -> Result<Vec<f32>, TrainError> {
    let view = file.tensor(name)?;
    if view.dtype() != Dtype::F32 || view.shape() != shape {
        return Err(TrainError::Tensor {
            name: name.into(),
            found: format!("{:?} {:?}", view.dtype(), view.shape()),
            expected: format!("{:?} {shape:?}", Dtype::F32),
        });
    }
    let numbers = view.data().chunks_exact(4);
    Ok(numbers.map(|bytes| f32::from_le_bytes(bytes.try_into().expect("chunks of four bytes"))).collect())
}
