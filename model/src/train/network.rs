//! The float network that is trained, over the same graph as the integer network it becomes.
//!
//! Activations are `(N, H, W, C)`. The input is `(pixel >> 1) / 127`, so that float and integers see the same picture, and
//! every activation is clamped to `0..=ceiling`, as the integers are to `0..=127`.

use std::collections::HashMap;

use candle_core::{CpuStorage, CustomOp1, Device, Layout, Shape as TensorShape, Tensor, Var};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use super::TrainError;
use super::activation::{self, Clamp, EPSILON, activate, normalize_and_activate};
use super::sum_pool::sum_pool;
use crate::graph::{Graph, Layer, Operation};
use crate::im2col::{InputGradient, Window, convolve};
use crate::proof::MAX_ACTIVATION;

/// The key of the description in the metadata of a file of float weights.
const DESCRIPTION: &str = "ocelli-float";
/// By how much of a batch's statistics the running ones move; PyTorch's default.
const STATISTICS_SHARE: f64 = 0.1;

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
#[derive(Debug)]
pub struct FloatNetwork {
    graph: Graph,
    classes: Vec<String>,
    ceiling: f32,
    /// Of the layers that have any.
    parameters: Vec<Option<Parameters>>,
    /// Over the rows of the first layer's weight: mean `(1, K)` and one over the deviation `(K, 1)`.
    centring: Option<(Tensor, Tensor)>,
}

/// `weight (K, O)`, `K` in the order (row, column, channel) of the window or of the whole input, and `bias (O)`.
#[derive(Debug)]
struct Parameters {
    weight: Var,
    bias: Var,
    batch_norm: Option<BatchNorm>,
}

/// Of a layer whose sums are normalised before the bias is added, all `(O)`: the factor, and the running statistics that
/// stand in for the batch's once training is over.
#[derive(Debug)]
struct BatchNorm {
    gamma: Var,
    mean: Var,
    variance: Var,
}

/// How a network is run.
#[derive(Debug, Clone, Copy)]
enum Mode<'a> {
    /// Sums are normalised by the statistics of the batch, which the running ones follow.
    Training,
    /// Sums are normalised by the running statistics, folded into the weights.
    Plain,
    /// As plain, with the numbers that the integers stand for.
    Rounded(&'a [Rounded]),
}

/// What the integers of a layer stand for in the float network.
#[derive(Debug, Clone)]
pub(crate) struct Rounded {
    /// Weights and biases; none for a pool.
    pub(crate) weights: Option<LayerWeights>,
    /// What each channel's skip is multiplied by, close to 1; empty without a skip.
    pub(crate) skip: Vec<f32>,
    /// What one step of the output is; of the last layer it is not used.
    pub(crate) step: f32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    graph: String,
    classes: Vec<String>,
    ceiling: f32,
}

impl FloatNetwork {
    /// Draws the weights of a new network by a seed, as He et al., "Delving Deep into Rectifiers", 2015, section 2.2:
    /// normal, of variance 2 / inputs. The last layer's are smaller, so that the first losses are not wild, and so are those
    /// of layers that add a skip, so that activations do not grow with every one.
    ///
    /// # Errors
    /// If the graph has a layer that cannot be trained, or another number of logits than there are classes.
    pub fn new(
        graph: Graph,
        classes: Vec<String>,
        ceiling: f32,
        normalization: &Normalization,
        seed: u64,
    ) -> Result<Self, TrainError> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let skips = (0..graph.layers().len()).filter(|layer| graph.skip(*layer).is_some()).count();
        let mut draw = |graph: &Graph, layer: usize, inputs: usize, outputs: usize| {
            let variance = if graph.is_last(layer) {
                1.0 / inputs as f64 / 4.0
            } else if graph.skip(layer).is_some() {
                2.0 / inputs as f64 / (skips as f64 + 1.0)
            } else {
                2.0 / inputs as f64
            };
            let weight = (0..inputs * outputs).map(|_| (normal(&mut rng) * variance.sqrt()) as f32).collect();
            LayerWeights { weight, bias: vec![0.0; outputs] }
        };
        let mut network = Self::build(graph, classes, ceiling, &mut draw)?;
        let channels = network.graph.input().channels;
        if *normalization != Normalization::identity(channels)
            && let Some(Some(first)) = network.parameters.first()
        {
            let depth = first.weight.dim(0)?;
            let mean: Vec<f32> = (0..depth).map(|row| normalization.mean[row % channels]).collect();
            let scale: Vec<f32> = (0..depth).map(|row| 1.0 / normalization.deviation[row % channels]).collect();
            network.centring = Some((
                Tensor::from_vec(mean, (1, depth), &Device::Cpu)?,
                Tensor::from_vec(scale, (depth, 1), &Device::Cpu)?,
            ));
        }
        Ok(network)
    }

    /// The same network with zeros for the weights of layers that add a skip, so that each begins as what it skips (H. Zhang
    /// et al., "Fixup Initialization", 2019, section 3). Without normalisation random weights there drown the pictures in
    /// what does not depend on them, and some seeds never leave chance.
    ///
    /// # Errors
    /// Candle's.
    pub fn with_silent_branches(self) -> Result<Self, TrainError> {
        for (index, parameters) in self.parameters.iter().enumerate() {
            if let Some(Parameters { weight, .. }) = parameters
                && self.graph.skip(index).is_some()
            {
                weight.set(&weight.zeros_like()?)?;
            }
        }
        Ok(self)
    }

    /// The same network with batch normalisation in every layer with weights but the last. Where a skip is added the factor
    /// begins at 0, so that such a layer begins as what it skips (P. Goyal et al., "Accurate, Large Minibatch SGD", 2017,
    /// section 5.1).
    ///
    /// # Errors
    /// Candle's.
    pub fn with_batch_norm(mut self) -> Result<Self, TrainError> {
        for (index, parameters) in self.parameters.iter_mut().enumerate() {
            let Some(parameters) = parameters.as_mut().filter(|_| !self.graph.is_last(index)) else { continue };
            let outputs = parameters.bias.dim(0)?;
            let gamma = if self.graph.skip(index).is_some() { 0f32 } else { 1f32 };
            let filled = |value: f32| Var::from_vec(vec![value; outputs], outputs, &Device::Cpu);
            parameters.batch_norm =
                Some(BatchNorm { gamma: filled(gamma)?, mean: filled(0.0)?, variance: filled(1.0)? });
        }
        Ok(self)
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The names of the classes.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// What activations are clamped to.
    pub fn ceiling(&self) -> f32 {
        self.ceiling
    }

    /// The weights, without biases.
    pub fn weights(&self) -> Vec<Var> {
        self.parameters.iter().flatten().map(|parameters| parameters.weight.clone()).collect()
    }

    /// The biases, and the factors of batch normalisation after them.
    pub fn biases(&self) -> Vec<Var> {
        let biases = self.parameters.iter().flatten().map(|parameters| parameters.bias.clone());
        biases.chain(self.batch_norms().map(|batch_norm| batch_norm.gamma.clone())).collect()
    }

    /// All that training changes: weights, biases and factors, then the running statistics.
    pub(crate) fn state(&self) -> Vec<Var> {
        let statistics = self.batch_norms().flat_map(|norm| [norm.mean.clone(), norm.variance.clone()]);
        self.weights().into_iter().chain(self.biases()).chain(statistics).collect()
    }

    fn batch_norms(&self) -> impl Iterator<Item = &BatchNorm> {
        self.parameters.iter().flatten().filter_map(|parameters| parameters.batch_norm.as_ref())
    }

    /// Gives the logits `(N, classes)` of pictures `(N, H, W, C)`, as the network answers once trained.
    ///
    /// # Errors
    /// Candle's, where the pictures are of another shape.
    pub fn forward(&self, pictures: &Tensor) -> Result<Tensor, TrainError> {
        self.observe(pictures, &mut |_, _| Ok(()))
    }

    /// As [`FloatNetwork::forward`], but batch normalisation takes its statistics from these pictures, and the running
    /// statistics follow them.
    ///
    /// # Errors
    /// Candle's, where the pictures are of another shape.
    pub fn forward_training(&self, pictures: &Tensor) -> Result<Tensor, TrainError> {
        self.run(pictures, Mode::Training, &mut |_, _| Ok(()))
    }

    /// As [`FloatNetwork::forward`], with the numbers that integers stand for, one item a layer. It answers as the integer
    /// model does, but for what f32 rounds; gradients pass to the numbers that were rounded.
    pub(crate) fn forward_rounded(&self, pictures: &Tensor, rounded: &[Rounded]) -> Result<Tensor, TrainError> {
        self.run(pictures, Mode::Rounded(rounded), &mut |_, _| Ok(()))
    }

    /// As [`FloatNetwork::forward`], and shows the clamped output of every layer with weights but the last and of every
    /// sum-pool: the layer's index and the activation, after the max-pool where one follows.
    ///
    /// # Errors
    /// Candle's, or what `visit` returns.
    pub fn observe(
        &self,
        pictures: &Tensor,
        visit: &mut dyn FnMut(usize, &Tensor) -> Result<(), TrainError>,
    ) -> Result<Tensor, TrainError> {
        self.run(pictures, Mode::Plain, visit)
    }

    fn run(
        &self,
        pictures: &Tensor,
        mode: Mode,
        visit: &mut dyn FnMut(usize, &Tensor) -> Result<(), TrainError>,
    ) -> Result<Tensor, TrainError> {
        let layers = self.graph.layers();
        let skipped_to: Vec<usize> = (0..layers.len()).filter_map(|layer| self.graph.skip(layer)).collect();
        let mut kept: HashMap<usize, Tensor> = HashMap::new();
        let mut activation = pictures.clone();
        let mut index = 0;
        while index < layers.len() {
            if skipped_to.contains(&index) {
                kept.insert(index, activation.clone());
            }
            match layers[index].operation {
                Operation::MaxPool { kernel, stride } => {
                    let zeros = Tensor::zeros(activation.dim(3)?, candle_core::DType::F32, &Device::Cpu)?;
                    let window = Window { kernel, stride, padding: 0 };
                    let clamp = Clamp { pool: window, ceiling: f32::INFINITY, step: None };
                    activation = activate(&activation, &zeros, None, clamp)?;
                    index += 1;
                    continue;
                }
                Operation::SumPool { kernel, stride, shift } => {
                    let (window, scale) = (Window { kernel, stride, padding: 0 }, (-f32::from(shift)).exp2());
                    let (ceiling, step) = self.range(index, mode);
                    activation = sum_pool(&activation, window, scale, ceiling, step)?;
                    visit(index, &activation)?;
                    index += 1;
                    continue;
                }
                Operation::Conv { .. } | Operation::Linear { .. } => {}
            }
            if self.graph.is_last(index) {
                let (weight, bias) = self.numbers(index, mode)?;
                return Ok(self.product(&activation, &weight, index)?.flatten_from(1)?.broadcast_add(&bias)?);
            }
            let skip = self.graph.skip(index).map(|skip| kept.get(&skip).ok_or(TrainError::NoLogits)).transpose()?;
            // A pool is done in the same pass, unless its input is needed later.
            let pool = layers.get(index + 1).filter(|_| !skipped_to.contains(&(index + 1))).and_then(max_pool_window);
            let (ceiling, step) = self.range(index, mode);
            let clamp = Clamp { pool: pool.unwrap_or(POINT), ceiling, step };
            activation = self.activation(&activation, index, skip, clamp, mode)?;
            visit(index, &activation)?;
            index += if pool.is_some() { 2 } else { 1 };
        }
        Err(TrainError::NoLogits)
    }

    /// What a layer with weights makes of the activation before it.
    fn activation(
        &self,
        before: &Tensor,
        index: usize,
        skip: Option<&Tensor>,
        clamp: Clamp,
        mode: Mode,
    ) -> Result<Tensor, TrainError> {
        if let Some(Parameters { weight, bias, batch_norm: Some(norm) }) = self.parameters[index].as_ref()
            && matches!(mode, Mode::Training)
        {
            // What the pictures are centred by would be subtracted again with the mean of the batch.
            let sums = match &self.centring {
                Some((_, scale)) if index == 0 => self.product(before, &weight.broadcast_mul(scale)?, index)?,
                _ => self.product(before, weight, index)?,
            };
            let (output, batch) = normalize_and_activate(&sums, &norm.gamma, bias, skip, clamp)?;
            norm.follow(&batch, sums.elem_count() / batch.mean.len())?;
            return Ok(output);
        }
        let (weight, bias) = self.numbers(index, mode)?;
        let sums = self.product(before, &weight, index)?;
        match (mode, skip) {
            (Mode::Rounded(rounded), Some(skip)) => {
                let factor = Tensor::new(rounded[index].skip.as_slice(), &Device::Cpu)?;
                Ok(activate(&sums, &bias, Some(&skip.broadcast_mul(&factor)?), clamp)?)
            }
            _ => Ok(activate(&sums, &bias, skip, clamp)?),
        }
    }

    /// The ceiling of a layer's output, and what it is rounded to multiples of.
    fn range(&self, index: usize, mode: Mode) -> (f32, Option<f32>) {
        match mode {
            Mode::Rounded(rounded) => (rounded[index].step * MAX_ACTIVATION as f32, Some(rounded[index].step)),
            _ => (self.ceiling, None),
        }
    }

    /// Weight and bias of a layer that has them, normalisation folded in.
    fn numbers(&self, index: usize, mode: Mode) -> Result<(Tensor, Tensor), TrainError> {
        let (weight, bias) = self.effective(index)?.ok_or(TrainError::NoLogits)?;
        let Mode::Rounded(rounded) = mode else { return Ok((weight, bias)) };
        let values = rounded[index].weights.as_ref().ok_or(TrainError::NoLogits)?;
        let rows = self.rows(index, values.weight.clone())?;
        let weight = weight.apply_op1(Replaced(rows.flatten_all()?.to_vec1()?))?;
        Ok((weight, bias.apply_op1(Replaced(values.bias.clone()))?))
    }

    /// Weights as they lie in a file, as `(K, O)`.
    fn rows(&self, index: usize, weight: Vec<f32>) -> Result<Tensor, TrainError> {
        let [rows, columns, channels, outputs] = self.weight_dimensions(index);
        let weight = Tensor::from_vec(weight, (outputs, channels, rows, columns), &Device::Cpu)?;
        Ok(weight.permute((2, 3, 1, 0))?.contiguous()?.flatten_to(2)?)
    }

    /// The sums `(N, H, W, O)` of a layer with weights.
    fn product(&self, before: &Tensor, weight: &Tensor, index: usize) -> Result<Tensor, TrainError> {
        if let Operation::Conv { kernel, stride, padding, .. } = self.graph.layers()[index].operation {
            let gradient = if index == 0 { InputGradient::Skipped } else { InputGradient::Needed };
            return Ok(convolve(before, weight, Window { kernel, stride, padding }, gradient)?);
        }
        Ok(before.flatten_from(1)?.matmul(weight)?.unsqueeze(1)?.unsqueeze(1)?)
    }

    /// The numbers of a layer that has any: those that apply to an input of `(pixel >> 1) / 127`.
    ///
    /// # Errors
    /// Candle's.
    pub fn layer(&self, index: usize) -> Result<Option<LayerWeights>, TrainError> {
        let Some((weight, bias)) = self.effective(index)? else { return Ok(None) };
        let [rows, columns, channels, outputs] = self.weight_dimensions(index);
        let weight = weight.detach().reshape((rows, columns, channels, outputs))?.permute((3, 2, 0, 1))?;
        Ok(Some(LayerWeights { weight: weight.flatten_all()?.to_vec1()?, bias: bias.detach().to_vec1()? }))
    }

    /// A copy of all that training changes, to come back to.
    ///
    /// # Errors
    /// Candle's.
    pub fn snapshot(&self) -> Result<Vec<Tensor>, TrainError> {
        Ok(self.state().iter().map(|var| var.as_tensor().copy()).collect::<Result<_, _>>()?)
    }

    /// Comes back to a snapshot of this network.
    ///
    /// # Errors
    /// Candle's, if the snapshot is of another network.
    pub fn restore(&self, snapshot: &[Tensor]) -> Result<(), TrainError> {
        for (var, value) in self.state().iter().zip(snapshot) {
            var.set(value)?;
        }
        Ok(())
    }

    /// The network as a safetensors file: `NAME.weight` and `NAME.bias` in f32, shaped as in a model file, with the graph,
    /// the classes and the ceiling in the metadata.
    ///
    /// # Errors
    /// Candle's or safetensors'.
    pub fn to_bytes(&self) -> Result<Vec<u8>, TrainError> {
        let mut tensors = Vec::new();
        for (index, layer) in self.graph.layers().iter().enumerate() {
            let Some(LayerWeights { weight, bias }) = self.layer(index)? else { continue };
            let shape = self.graph.weight_shape(index).expect("a layer with weights has a shape of weights");
            tensors.push((format!("{}.bias", layer.name), vec![bias.len()], little_endian(&bias)));
            tensors.push((format!("{}.weight", layer.name), shape, little_endian(&weight)));
        }
        let views: Vec<(&str, TensorView)> = tensors
            .iter()
            .map(|(name, shape, bytes)| Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
            .collect::<Result<_, safetensors::SafeTensorError>>()?;
        let description =
            Description { graph: self.graph.to_json(), classes: self.classes.clone(), ceiling: self.ceiling };
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
        let Description { graph, classes, ceiling } = serde_json::from_str(description)?;
        if !(ceiling.is_finite() && ceiling > 0.0) {
            return Err(TrainError::Ceiling { found: ceiling });
        }
        let graph = Graph::from_json(&graph)?;
        let file = SafeTensors::deserialize(bytes)?;
        let names: Vec<String> = graph.layers().iter().map(|layer| layer.name.clone()).collect();
        let shapes: Vec<_> = (0..names.len()).map(|layer| graph.weight_shape(layer)).collect();
        let mut zeros = |_: &Graph, _: usize, inputs: usize, outputs: usize| LayerWeights {
            weight: vec![0.0; inputs * outputs],
            bias: vec![0.0; outputs],
        };
        let network = Self::build(graph, classes, ceiling, &mut zeros)?;
        for (index, (name, shape)) in names.iter().zip(shapes).enumerate() {
            let (Some(shape), Some(parameters)) = (shape, &network.parameters[index]) else { continue };
            let weight = floats(&file, &format!("{name}.weight"), &shape)?;
            parameters.weight.set(&network.rows(index, weight)?)?;
            let outputs = shape[0];
            let bias = floats(&file, &format!("{name}.bias"), &[outputs])?;
            parameters.bias.set(&Tensor::from_vec(bias, outputs, &Device::Cpu)?)?;
        }
        Ok(network)
    }

    /// A network of weights that came from elsewhere: an entry a layer, none for a pool. They apply to an input of
    /// `(pixel >> 1) / 127`.
    ///
    /// # Errors
    /// If a layer has no weights or others than the graph says, or there is another number of logits than classes.
    pub fn from_layers(
        graph: Graph,
        classes: Vec<String>,
        ceiling: f32,
        layers: Vec<Option<LayerWeights>>,
    ) -> Result<Self, TrainError> {
        let mut zeros = |_: &Graph, _: usize, inputs: usize, outputs: usize| LayerWeights {
            weight: vec![0.0; inputs * outputs],
            bias: vec![0.0; outputs],
        };
        let network = Self::build(graph, classes, ceiling, &mut zeros)?;
        for (index, parameters) in network.parameters.iter().enumerate() {
            let Some(parameters) = parameters else { continue };
            let [rows, columns, channels, outputs] = network.weight_dimensions(index);
            let layer = layers.get(index).and_then(Option::as_ref);
            let (weights, biases) = layer.map_or((0, 0), |layer| (layer.weight.len(), layer.bias.len()));
            if (weights, biases) != (rows * columns * channels * outputs, outputs) {
                return Err(TrainError::Tensor {
                    name: network.graph.layers()[index].name.clone(),
                    found: format!("{weights} weights and {biases} biases"),
                    expected: format!("{} and {outputs}", rows * columns * channels * outputs),
                });
            }
            let Some(LayerWeights { weight, bias }) = layer.cloned() else { continue };
            let weight = Tensor::from_vec(weight, (outputs, channels, rows, columns), &Device::Cpu)?;
            parameters.weight.set(&weight.permute((2, 3, 1, 0))?.contiguous()?.flatten_to(2)?)?;
            parameters.bias.set(&Tensor::from_vec(bias, outputs, &Device::Cpu)?)?;
        }
        Ok(network)
    }

    /// Lays out the parameters of a graph; `fill` gives biases, and weights in the order `(inputs, outputs)`.
    fn build(
        graph: Graph,
        classes: Vec<String>,
        ceiling: f32,
        fill: &mut dyn FnMut(&Graph, usize, usize, usize) -> LayerWeights,
    ) -> Result<Self, TrainError> {
        if graph.logits() != classes.len() {
            return Err(TrainError::Classes { found: classes.len(), expected: graph.logits() });
        }
        let mut parameters = Vec::new();
        for index in 0..graph.layers().len() {
            let Some(shape) = graph.weight_shape(index) else {
                parameters.push(None);
                continue;
            };
            let (outputs, inputs) = (shape[0], shape[1..].iter().product());
            let LayerWeights { weight, bias } = fill(&graph, index, inputs, outputs);
            parameters.push(Some(Parameters {
                weight: Var::from_vec(weight, (inputs, outputs), &Device::Cpu)?,
                bias: Var::from_vec(bias, outputs, &Device::Cpu)?,
                batch_norm: None,
            }));
        }
        Ok(Self { graph, classes, ceiling, parameters, centring: None })
    }

    /// Rows, columns and channels that a layer's weights span, and its outputs.
    fn weight_dimensions(&self, index: usize) -> [usize; 4] {
        let (input, outputs) = (self.graph.activations()[index], self.graph.activations()[index + 1].channels);
        match self.graph.layers()[index].operation {
            Operation::Conv { kernel, .. } => [kernel, kernel, input.channels, outputs],
            _ => [input.height, input.width, input.channels, outputs],
        }
    }

    /// Weight and bias with the centring of the pictures folded in, `W (x - mean) / deviation + b`, and then batch
    /// normalisation. Padding stands for black pixels, as in the integer network, so it is folded with the rest.
    fn effective(&self, index: usize) -> Result<Option<(Tensor, Tensor)>, TrainError> {
        let Some(Parameters { weight, bias, batch_norm }) = &self.parameters[index] else { return Ok(None) };
        let (mut weight, mut bias) = (weight.as_tensor().clone(), bias.as_tensor().clone());
        if let Some((mean, scale)) = self.centring.as_ref().filter(|_| index == 0) {
            weight = weight.broadcast_mul(scale)?;
            if batch_norm.is_none() {
                bias = (bias - mean.matmul(&weight)?.flatten_all()?)?;
            }
        }
        if let Some(BatchNorm { gamma, mean, variance }) = batch_norm {
            let factor = (gamma.as_tensor() / (variance.as_tensor() + f64::from(EPSILON))?.sqrt()?)?;
            bias = (bias - (mean.as_tensor() * &factor)?)?;
            weight = weight.broadcast_mul(&factor)?;
        }
        Ok(Some((weight, bias)))
    }
}

impl BatchNorm {
    /// Moves the running statistics towards those of a batch, of so many numbers a channel.
    fn follow(&self, batch: &activation::Statistics, count: usize) -> Result<(), TrainError> {
        // The variance of all pictures is estimated without bias, as PyTorch does.
        let unbiased = count as f32 / (count.max(2) - 1) as f32;
        let variance: Vec<f32> = batch.variance.iter().map(|variance| variance * unbiased).collect();
        for (running, new) in [(&self.mean, batch.mean.clone()), (&self.variance, variance)] {
            let count = new.len();
            let new = (Tensor::from_vec(new, count, &Device::Cpu)? * STATISTICS_SHARE)?;
            running.set(&((running.as_tensor() * (1.0 - STATISTICS_SHARE))? + new)?)?;
        }
        Ok(())
    }
}

/// Puts other numbers in the place of a tensor's; gradients pass as if it had not.
struct Replaced(Vec<f32>);

impl CustomOp1 for Replaced {
    fn name(&self) -> &'static str {
        "straight-through"
    }

    fn cpu_fwd(&self, _: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, TensorShape)> {
        if layout.shape().elem_count() != self.0.len() {
            return Err(candle_core::Error::Msg(format!("{:?} numbers replaced by {}", layout.shape(), self.0.len())));
        }
        Ok((CpuStorage::F32(self.0.clone()), layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        Ok(Some(grad.clone()))
    }
}

/// The window of no pool.
const POINT: Window = Window { kernel: 1, stride: 1, padding: 0 };

fn max_pool_window(layer: &Layer) -> Option<Window> {
    match layer.operation {
        Operation::MaxPool { kernel, stride } => Some(Window { kernel, stride, padding: 0 }),
        _ => None,
    }
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
