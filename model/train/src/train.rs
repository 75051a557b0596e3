//! Training of a float network on labelled pictures, on the CPU: AdamW or SGD with warm-up and a cosine schedule, label
//! smoothing, random shifts and flips, averaged weights. The same seed gives the same network on the same machine, also
//! where the training is stopped and continued.

mod activation;
mod average_pool;
pub(crate) mod batch;
#[cfg(test)]
mod beside_candle;
mod checkpoint;
mod network;
mod optimizer;
mod pass;
mod product;
mod seed_in_json;
mod shards;
mod start;
mod whitening;
mod widest;
mod window;

use std::ops::ControlFlow;
use std::time::Instant;

use ocelli_model::file::FileError;
use ocelli_model::graph::{Graph, GraphError, Shape};
use ocelli_model::model::Model;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use self::batch::{Augmentation, Reading, Target};
use self::checkpoint::{Checkpoint, Description, Position, data_hash};
pub use self::network::{FloatNetwork, LayerWeights, Normalization};
pub(crate) use self::network::{Rounded, is_clamped};
pub use self::optimizer::{Method, ParseMethodError};
pub(crate) use self::optimizer::{Optimizer, StepSize};
pub(crate) use self::pass::Rounding;
#[cfg(test)]
pub(crate) use self::shards::of_plain;
pub(crate) use self::shards::{Lesson, Shards};
use self::shards::{Score, cross_entropy};
use crate::dataset::{Dataset, shuffled};

/// How many pictures the mean and deviation of the channels are taken from.
const NORMALIZATION_SAMPLE: usize = 10_000;
/// How many pictures the directions of the first convolution's windows are taken from.
const WHITENING_SAMPLE: usize = 1_000;
/// How many pictures the statistics of batch normalisation are taken from where a model's weights get some.
const STATISTICS_SAMPLE: usize = 1_000;

/// A training that cannot be done, or a file of float weights that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The graph is not allowed.
    #[error("the graph is not allowed")]
    Graph(#[from] GraphError),
    /// The graph has another number of logits than the data has classes.
    #[error("found {found} classes in the data, expected {expected} as the graph has logits")]
    Classes {
        /// Classes in the data.
        found: usize,
        /// Logits of the graph.
        expected: usize,
    },
    /// What is learnt could not be written as a model.
    #[error("no model file can hold this network")]
    NoModelFile(#[source] FileError),
    /// The data is of another shape than the graph reads.
    #[error("found pictures of {found}, expected {expected} as the graph reads")]
    Shape {
        /// The shape of the data.
        found: Shape,
        /// The shape the graph reads.
        expected: Shape,
    },
    /// There are too few pictures to train on and to validate with.
    #[error("found {training} pictures to train on and {validation} to validate with, expected at least one of each")]
    TooFew {
        /// Pictures to train on.
        training: usize,
        /// Pictures to validate with.
        validation: usize,
    },
    /// A number of the recipe is out of range.
    #[error("recipe: {name} is {found}, expected {expected}")]
    Recipe {
        /// The name of the number.
        name: &'static str,
        found: f64,
        /// What it may be.
        expected: &'static str,
    },
    /// The loss is no number any more.
    #[error("the loss is {loss} in epoch {epoch}; try a lower learning rate")]
    Diverged {
        /// The epoch, from 1.
        epoch: usize,
        loss: f32,
    },
    /// A file is no safetensors file.
    #[error("found no safetensors file of float weights")]
    File(#[from] safetensors::SafeTensorError),
    /// A file of float weights is not described.
    #[error("found no {key:?} in the metadata; expected a file of float weights as training writes it")]
    NoFloatNetwork {
        /// The key that is missing.
        key: &'static str,
    },
    /// A file is no checkpoint.
    #[error("found no {key:?} in the metadata; expected a checkpoint as training writes it")]
    NoCheckpoint {
        /// The key that is missing.
        key: &'static str,
    },
    /// A checkpoint is of a training on other pictures.
    #[error("the pictures are not those of the checkpoint: their hash is {found}, expected {expected}")]
    OtherData {
        /// The hash of the pictures.
        found: String,
        /// That in the checkpoint.
        expected: String,
    },
    /// The description of a file of float weights or of a checkpoint is broken.
    #[error("the description in the file is broken")]
    Description(#[from] serde_json::Error),
    /// What activations are clamped to is no positive number.
    #[error("found a ceiling of {found}, expected a positive number")]
    Ceiling { found: f32 },
    /// There is not a ceiling for each layer.
    #[error("found {found} ceilings, expected {expected} as there are layers")]
    Ceilings {
        /// Ceilings.
        found: usize,
        /// Layers.
        expected: usize,
    },
    /// A layer cannot be trained.
    #[error("layer {layer:?} is {kind}, which training does not take so; expected {expected}")]
    Layer {
        layer: String,
        kind: &'static str,
        /// What it takes.
        expected: &'static str,
    },
    /// A model's numbers are no floats that training can begin with.
    #[error("training cannot begin with layer {layer:?}: {reason}")]
    Start {
        layer: String,
        /// Why not.
        reason: &'static str,
    },
    /// A tensor of a file of float weights has another type or shape than its layer.
    #[error("tensor {name:?}: found {found}, expected {expected}")]
    Tensor {
        name: String,
        /// Its type and shape.
        found: String,
        /// Those of the layer.
        expected: String,
    },
}

/// How a network is trained. The defaults are those that the built-in `cifar10-cnn` was made with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// How often every picture is shown.
    pub epochs: usize,
    /// Pictures a step.
    pub batch: usize,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// How weights follow gradients.
    pub optimizer: Method,
    /// The momentum of stochastic gradient descent.
    pub momentum: f64,
    /// How much of the running mean of all weights a step leaves: validated and kept are then the mean weights. With 0 the
    /// weights are taken as they are.
    pub averaging: f64,
    /// How many epochs the learning rate rises before it falls as a cosine to zero.
    pub warmup: f64,
    /// By how much of the learning rate weights (not biases) shrink a step.
    pub weight_decay: f64,
    /// The share of every label that is spread over all classes.
    pub label_smoothing: f64,
    /// How pictures are changed each time they are shown.
    pub changes: Changes,
    /// What activations are clamped to.
    pub ceiling: f32,
    /// Whether every layer with weights but the last normalises its sums over some pictures at a time; it is folded into the
    /// weights once training is over.
    pub batch_norm: bool,
    /// The share of the data that is kept back to choose the best epoch.
    pub validation: f64,
    /// The seed of everything random; in JSON a string of its digits, since it may exceed what JavaScript and jq read exactly.
    #[serde(with = "seed_in_json")]
    pub seed: u64,
    /// The id of the model whose weights training begins with; without one they are drawn by the seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            epochs: 12,
            batch: 64,
            learning_rate: 2e-3,
            optimizer: Method::AdamW,
            momentum: 0.9,
            averaging: 0.0,
            warmup: 1.0,
            weight_decay: 0.02,
            label_smoothing: 0.05,
            changes: Changes::default(),
            ceiling: 6.0,
            batch_norm: false,
            validation: 0.05,
            seed: 1,
            start: None,
        }
    }
}

/// How pictures are changed each time they are shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Changes {
    /// By how many pixels at most a picture is moved in each direction; what comes in from outside is black.
    pub shift: usize,
    /// The side in pixels of a square that is painted black, somewhere around a pixel of the picture, so that part of it may fall
    /// outside (T. DeVries, G. Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017); 0 for none.
    pub cutout: usize,
    /// The share of pictures that get a rectangle of another one instead, and as much of its label (S. Yun et al., "CutMix",
    /// 2019, algorithm A1).
    pub cutmix: f64,
    /// Whether every picture is mirrored, left to right, in every other epoch.
    pub flip: bool,
}

impl Default for Changes {
    fn default() -> Self {
        Self { shift: 2, cutout: 0, cutmix: 0.0, flip: true }
    }
}

/// How an epoch went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochMetrics {
    /// The epoch, from 1.
    pub epoch: usize,
    /// The learning rate at its end.
    pub learning_rate: f64,
    /// The mean loss over the steps.
    pub loss: f64,
    /// The share of the changed training pictures that were right, as they were shown.
    pub accuracy: f64,
    /// The mean loss (without smoothing) on the validation pictures.
    pub validation_loss: f64,
    /// The share of the validation pictures that were right.
    pub validation_accuracy: f64,
    /// Pictures trained on a second.
    pub images_per_second: f64,
    /// Whether no epoch was better on the validation pictures so far.
    pub best: bool,
}

/// A step that was done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// The epoch, from 1.
    pub epoch: usize,
    /// Steps done in all epochs.
    pub step: usize,
    /// Steps there will be in all epochs.
    pub steps: usize,
    /// The loss of the step.
    pub loss: f32,
}

/// How [`Trainer::epoch`] ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The epoch is done.
    Epoch(EpochMetrics),
    /// It was stopped before its end; another call goes on.
    Stopped,
}

/// A network and how it came about.
#[derive(Debug)]
pub struct Trained {
    /// The network after the epoch that was best on the validation pictures.
    pub network: FloatNetwork,
    /// All epochs.
    pub epochs: Vec<EpochMetrics>,
}

/// Loss and accuracy of a float network.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FloatScore {
    /// The mean cross-entropy in nats.
    pub loss: f64,
    /// The share of pictures that were right.
    pub accuracy: f64,
}

/// Splits the data as a recipe says into what is trained on and what validates.
pub fn split(data: &Dataset, recipe: &Recipe) -> (Dataset, Dataset) {
    data.split(recipe.validation, recipe.seed)
}

/// Trains a graph from begin to end.
///
/// # Errors
/// If data, graph and recipe do not fit together, or the training diverges.
pub fn train(graph: Graph, data: &Dataset, recipe: &Recipe) -> Result<Trained, TrainError> {
    let mut trainer = Trainer::new(graph, data, recipe)?;
    while !trainer.is_done() {
        trainer.epoch(&mut |_| ControlFlow::Continue(()))?;
    }
    Ok(trainer.finish())
}

/// A training that can be stopped after any step and continued, also from a file.
#[derive(Debug)]
pub struct Trainer {
    recipe: Recipe,
    training: Dataset,
    validation: Dataset,
    data_hash: String,
    network: FloatNetwork,
    optimizer: Optimizer,
    augmentation: Augmentation,
    shards: Shards,
    /// The mean of the network's numbers over the steps, if the recipe asks for it.
    average: Option<Vec<f32>>,
    rng: ChaCha8Rng,
    position: Position,
    epochs: Vec<EpochMetrics>,
    best: Option<(FloatScore, Vec<f32>)>,
}

impl Trainer {
    /// Prepares a training.
    ///
    /// # Errors
    /// If data, graph and recipe do not fit together.
    pub fn new(graph: Graph, data: &Dataset, recipe: &Recipe) -> Result<Self, TrainError> {
        Self::prepare(graph, data, recipe, None)
    }

    /// Prepares a training that begins with what a model has learnt ("fine-tuning"), in its graph or in another one, where
    /// layers of the same name and size take over the model's weights and the others begin anew. Without another graph the
    /// last layer has a logit for each class of the data, and begins anew where these are others than the model's.
    ///
    /// # Errors
    /// If data, graph and recipe do not fit together.
    pub fn from_model(
        model: &Model,
        graph: Option<Graph>,
        data: &Dataset,
        recipe: &Recipe,
    ) -> Result<Self, TrainError> {
        let graph = graph.map_or_else(|| start::graph_for(model, data.classes().len()), Ok)?;
        let learnt = FloatNetwork::of_model(model, recipe.ceiling)?;
        let recipe = Recipe { start: Some(model.id().to_string()), ..recipe.clone() };
        Self::prepare(graph, data, &recipe, Some(&learnt))
    }

    fn prepare(
        graph: Graph,
        data: &Dataset,
        recipe: &Recipe,
        learnt: Option<&FloatNetwork>,
    ) -> Result<Self, TrainError> {
        recipe.check()?;
        if data.shape() != graph.input().shape {
            return Err(TrainError::Shape { found: data.shape(), expected: graph.input().shape });
        }
        let (training, validation) = split(data, recipe);
        if training.is_empty() || validation.is_empty() {
            return Err(TrainError::TooFew { training: training.len(), validation: validation.len() });
        }
        let sample = training.sample(NORMALIZATION_SAMPLE, recipe.seed);
        let normalization = normalization(&sample, &network::reading(&graph)?);
        let classes = data.classes().to_vec();
        let network = FloatNetwork::new(graph, classes, recipe.ceiling, &normalization, recipe.seed)?;
        let network = network.with_whitening(&training.sample(WHITENING_SAMPLE, recipe.seed), &normalization);
        let network = match (recipe.batch_norm, learnt) {
            (false, None) => network.with_silent_branches(),
            (true, None) => network.with_batch_norm(),
            (false, Some(learnt)) => network.with_silent_branches().with_numbers_of(learnt),
            (true, Some(learnt)) => {
                let sample = training.sample(STATISTICS_SAMPLE, recipe.seed);
                network.with_batch_norm().with_numbers_of(learnt).with_statistics_of(&sample, learnt)
            }
        };
        let optimizer = Optimizer::new(recipe.optimizer, network.trained(), network.weights());
        let average = (recipe.averaging > 0.0).then(|| network.numbers().to_vec());
        let augmentation = Augmentation::new(recipe, training.len());
        Ok(Self {
            recipe: recipe.clone(),
            training,
            validation,
            data_hash: data_hash(data),
            network,
            optimizer,
            augmentation,
            shards: Shards::default(),
            average,
            rng: ChaCha8Rng::seed_from_u64(recipe.seed),
            position: Position { epoch_word: 0, word: 0, step: 0, loss_sum: 0.0, right: 0 },
            epochs: Vec::new(),
            best: None,
        })
    }

    /// Prepares to go on from a checkpoint, with the pictures that the training began with.
    ///
    /// # Errors
    /// If the bytes are no checkpoint, or one of other pictures.
    pub fn resume(checkpoint: &[u8], data: &Dataset) -> Result<Self, TrainError> {
        let (checkpoint, description) = Checkpoint::read(checkpoint)?;
        let mut trainer = Self::new(Graph::from_json(&description.graph)?, data, &description.recipe)?;
        if trainer.data_hash != description.data {
            return Err(TrainError::OtherData { found: trainer.data_hash, expected: description.data });
        }
        let read = |kind: &str| checkpoint.list(kind, trainer.network.numbers().len());
        let (numbers, best) = (read("numbers")?, description.best.map(|_| read("best")).transpose()?);
        let average = trainer.average.is_some().then(|| read("average")).transpose()?;
        for (index, list) in trainer.optimizer.memory().enumerate() {
            *list = checkpoint.list(&format!("optimizer.{index}"), list.len())?;
        }
        *trainer.optimizer.steps_mut() = description.optimizer_steps;
        *trainer.network.numbers_mut() = numbers;
        trainer.average = average;
        trainer.best = description.best.zip(best);
        trainer.epochs = description.epochs;
        trainer.position = description.position;
        Ok(trainer)
    }

    /// Makes the training end after another number of epochs. The learning rate goes on as if it had been planned so from
    /// the beginning, so it rises again where a training that was done is prolonged (as in I. Loshchilov, F. Hutter, "SGDR",
    /// 2017).
    ///
    /// # Errors
    /// If more epochs are done already.
    pub fn set_epochs(&mut self, epochs: usize) -> Result<(), TrainError> {
        let begun = self.epochs.len() + usize::from(self.position.step > 0);
        if epochs < begun.max(1) {
            let expected = "at least as many as have begun";
            return Err(TrainError::Recipe { name: "epochs", found: epochs as f64, expected });
        }
        self.recipe.epochs = epochs;
        Ok(())
    }

    /// The training as it is now, for [`Trainer::resume`]: a safetensors file.
    ///
    /// # Errors
    /// Safetensors'.
    pub fn checkpoint(&mut self) -> Result<Vec<u8>, TrainError> {
        let best = self.best.as_ref().map(|(_, numbers)| numbers.as_slice());
        let kinds = [("numbers", Some(self.network.numbers())), ("average", self.average.as_deref()), ("best", best)];
        let lists = kinds.into_iter().filter_map(|(kind, list)| Some((kind.to_owned(), list?.to_vec())));
        let mut lists: Vec<(String, Vec<f32>)> = lists.collect();
        let memory = self.optimizer.memory().enumerate();
        lists.extend(memory.map(|(index, list)| (format!("optimizer.{index}"), list.clone())));
        let description = Description {
            recipe: self.recipe.clone(),
            graph: self.network.graph().to_json(),
            data: self.data_hash.clone(),
            epochs: self.epochs.clone(),
            best: self.best.as_ref().map(|(score, _)| *score),
            position: self.position,
            optimizer_steps: *self.optimizer.steps_mut(),
        };
        checkpoint::write(&description, &lists)
    }

    /// The shape of the pictures that a checkpoint's network reads.
    ///
    /// # Errors
    /// If the bytes are no checkpoint.
    pub fn shape(checkpoint: &[u8]) -> Result<Shape, TrainError> {
        let (_, description) = Checkpoint::read(checkpoint)?;
        Ok(Graph::from_json(&description.graph)?.input().shape)
    }

    /// How many files of the data gave no picture.
    pub fn skipped(&self) -> usize {
        self.training.skipped().len()
    }

    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The epochs that are done.
    pub fn epochs(&self) -> &[EpochMetrics] {
        &self.epochs
    }

    /// Whether all epochs are done.
    pub fn is_done(&self) -> bool {
        self.epochs.len() >= self.recipe.epochs
    }

    /// The pictures kept back, on which the best epoch is chosen.
    pub fn validation(&self) -> &Dataset {
        &self.validation
    }

    /// The network that was best on the validation pictures, as [`FloatNetwork::to_bytes`]; none before the first epoch's
    /// end.
    ///
    /// # Errors
    /// Safetensors'.
    pub fn best(&self) -> Result<Option<Vec<u8>>, TrainError> {
        self.best.as_ref().map(|(_, best)| self.with(best).to_bytes()).transpose()
    }

    /// The network that was best on the validation pictures, or the network as it is if no epoch is done.
    pub fn finish(mut self) -> Trained {
        if let Some((_, best)) = self.best {
            *self.network.numbers_mut() = best;
        }
        Trained { network: self.network, epochs: self.epochs }
    }

    /// Goes on to the end of the epoch, unless `progress` stops it after a step.
    ///
    /// # Errors
    /// If the training diverges.
    pub fn epoch(&mut self, progress: &mut dyn FnMut(Step) -> ControlFlow<()>) -> Result<Outcome, TrainError> {
        let epoch = self.epochs.len() + 1;
        let steps_an_epoch = self.training.len().div_ceil(self.recipe.batch);
        let steps = steps_an_epoch * self.recipe.epochs;
        self.rng.set_word_pos(self.position.epoch_word.into());
        let order = shuffled(self.training.len(), &mut self.rng);
        if self.position.step > 0 {
            self.rng.set_word_pos(self.position.word.into());
        }
        let mut gradient = vec![0.0; self.network.trained()];
        let (start, mut shown, mut rate) = (Instant::now(), 0, 0.0);
        for indexes in order.chunks(self.recipe.batch).skip(self.position.step) {
            let step = (epoch - 1) * steps_an_epoch + self.position.step;
            rate = learning_rate(&self.recipe, step, steps_an_epoch, steps);
            let changes = self.augmentation.draw(indexes, self.training.shape(), epoch, &mut self.rng);
            let Recipe { weight_decay, momentum, label_smoothing, .. } = self.recipe;
            let lesson = Lesson { data: &self.training, indexes, changes: &changes, label_smoothing };
            let answered = self.shards.gradient(&self.network.training_pass(), lesson, &mut gradient);
            self.network.through_centring(&mut gradient);
            self.network.follow(&answered.statistics);
            let size = StepSize { learning_rate: rate, weight_decay, momentum };
            self.optimizer.step(self.network.numbers_mut(), &gradient, size);
            let loss = answered.loss;
            if !loss.is_finite() {
                return Err(TrainError::Diverged { epoch, loss });
            }
            self.average(step);
            shown += indexes.len();
            self.position.loss_sum += f64::from(loss) * indexes.len() as f64;
            self.position.right += answered.right;
            self.position.step += 1;
            self.position.word = words(&self.rng);
            let stop = progress(Step { epoch, step: step + 1, steps, loss }).is_break();
            if stop && self.position.step < steps_an_epoch {
                return Ok(Outcome::Stopped);
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        let numbers = self.average.clone().unwrap_or_else(|| self.network.numbers().to_vec());
        let score = evaluate(&self.with(&numbers), &self.validation)?;
        let better =
            self.best.as_ref().is_none_or(|(best, _)| (score.accuracy, -score.loss) > (best.accuracy, -best.loss));
        if better {
            self.best = Some((score, numbers));
        }
        let metrics = EpochMetrics {
            epoch,
            learning_rate: rate,
            loss: self.position.loss_sum / self.training.len() as f64,
            accuracy: self.position.right as f64 / self.training.len() as f64,
            validation_loss: score.loss,
            validation_accuracy: score.accuracy,
            images_per_second: shown as f64 / seconds.max(1e-9),
            best: better,
        };
        self.epochs.push(metrics.clone());
        let word = words(&self.rng);
        self.position = Position { epoch_word: word, word, step: 0, loss_sum: 0.0, right: 0 };
        Ok(Outcome::Epoch(metrics))
    }

    /// Moves the mean weights towards the weights after a step. While there are few steps, the mean forgets faster, as it
    /// would hold on to the random beginning otherwise.
    fn average(&mut self, step: usize) {
        let Some(average) = &mut self.average else { return };
        let keep = self.recipe.averaging.min((1.0 + step as f64) / (10.0 + step as f64));
        let (keep, take) = (keep as f32, (1.0 - keep) as f32);
        for (mean, value) in average.iter_mut().zip(self.network.numbers()) {
            *mean = *mean * keep + value * take;
        }
    }

    /// The network with other numbers.
    fn with(&self, numbers: &[f32]) -> FloatNetwork {
        let mut network = self.network.clone();
        network.numbers_mut().copy_from_slice(numbers);
        network
    }
}

/// How many words a generator has given: far fewer than 2^64 in any training.
fn words(rng: &ChaCha8Rng) -> u64 {
    rng.get_word_pos() as u64
}

/// Evaluates a float network.
///
/// # Errors
/// If the data is of another shape.
pub fn evaluate(network: &FloatNetwork, data: &Dataset) -> Result<FloatScore, TrainError> {
    let expected = network.graph().input().shape;
    if data.shape() != expected {
        return Err(TrainError::Shape { found: data.shape(), expected });
    }
    let indexes: Vec<usize> = (0..data.len()).collect();
    let logits = network.logits(data, &indexes);
    let targets: Vec<Target> = data.labels().iter().map(|label| Target::whole(*label)).collect();
    let Score { loss, right } = cross_entropy(&logits, &targets, 0.0, 1.0, &mut vec![0.0; logits.len()]);
    let count = data.len().max(1) as f64;
    Ok(FloatScore { loss: loss / count, accuracy: right as f64 / count })
}

impl Recipe {
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        let share = "a share from 0 to below 1";
        let Changes { shift, cutout, cutmix, .. } = self.changes;
        let table: [(&'static str, f64, bool, &'static str); 13] = [
            ("epochs", self.epochs as f64, self.epochs > 0, "at least 1"),
            ("batch", self.batch as f64, self.batch > 0, "at least 1"),
            ("learning_rate", self.learning_rate, self.learning_rate > 0.0, "a positive number"),
            ("momentum", self.momentum, (0.0..1.0).contains(&self.momentum), share),
            ("averaging", self.averaging, (0.0..1.0).contains(&self.averaging), share),
            ("warmup", self.warmup, self.warmup >= 0.0, "a number of epochs"),
            ("weight_decay", self.weight_decay, self.weight_decay >= 0.0, "0 or more"),
            ("label_smoothing", self.label_smoothing, (0.0..1.0).contains(&self.label_smoothing), share),
            ("shift", shift as f64, shift < 1 << 16, "below 65536"),
            ("cutout", cutout as f64, cutout < 1 << 16, "below 65536"),
            ("cutmix", cutmix, (0.0..=1.0).contains(&cutmix), "a share from 0 to 1"),
            ("ceiling", self.ceiling.into(), self.ceiling > 0.0 && self.ceiling.is_finite(), "a positive number"),
            ("validation", self.validation, self.validation > 0.0 && self.validation < 1.0, "a share between 0 and 1"),
        ];
        match table.into_iter().find(|(_, _, fine, _)| !fine) {
            Some((name, found, _, expected)) => Err(TrainError::Recipe { name, found, expected }),
            None => Ok(()),
        }
    }
}

/// Rises from the first step on, then falls as half a cosine to zero at the end.
pub(crate) fn learning_rate(recipe: &Recipe, step: usize, steps_an_epoch: usize, steps: usize) -> f64 {
    let (step, steps) = (step as f64 + 1.0, steps as f64);
    let warmup = (recipe.warmup * steps_an_epoch as f64).min(steps / 2.0);
    if step < warmup {
        return recipe.learning_rate * step / warmup;
    }
    let done = (step - warmup) / (steps - warmup).max(1.0);
    recipe.learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
}

/// Mean and deviation of every channel. A channel that never changes keeps its size.
fn normalization(data: &Dataset, reading: &Reading) -> Normalization {
    let Shape { channels, height, width } = data.shape();
    let mut normalization = Normalization::identity(channels);
    let count = (data.len() * height * width) as f64;
    for channel in 0..channels {
        let (mut sum, mut squares) = (0f64, 0f64);
        for index in 0..data.len() {
            for pixel in &data.pixels(index)[channel * height * width..][..height * width] {
                let value = f64::from(reading.number(channel, *pixel));
                sum += value;
                squares += value * value;
            }
        }
        let mean = sum / count;
        let deviation = (squares / count - mean * mean).max(0.0).sqrt();
        normalization.mean[channel] = mean as f32;
        normalization.deviation[channel] = if deviation > 1e-3 { deviation as f32 } else { 1.0 };
    }
    normalization
}

#[cfg(test)]
pub(crate) mod tests {
    use ocelli_model::graph::{Finish, Input, Layer, Operation, Window};
    use rand::RngExt;

    use super::*;

    pub(crate) const SHAPE: Shape = Shape { channels: 1, height: 8, width: 8 };

    pub(crate) fn input() -> Input {
        Input::new(1, 8, 8)
    }

    /// The sum of two layers, clamped at zero.
    pub(crate) fn added(name: &str, from: [&str; 2]) -> Layer {
        Layer::new(name, &from, Operation::Add { multipliers: [1, 1], shift: 1, finish: Finish::RELU })
    }

    /// Bright bars on noise: standing, lying, or none.
    pub(crate) fn bars(count: usize, seed: u64) -> Dataset {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let pictures = (0..count).map(|index| {
            let label = index as u32 % 3;
            let place = rng.random_range(1..7);
            let pixels = (0..64).map(|pixel| {
                let bar = match label {
                    0 => pixel % 8 == place,
                    1 => pixel / 8 == place,
                    _ => false,
                };
                rng.random_range(0..100) + if bar { 120 } else { 0 }
            });
            (format!("{index}"), label, pixels.collect())
        });
        let pictures = pictures.collect();
        Dataset::from_pixels(SHAPE, ["lying", "none", "standing"].map(String::from).to_vec(), pictures)
    }

    fn graph() -> Graph {
        let layers = vec![
            Layer::conv("conv", "input", 8, Window::square(3, 1, 1), Finish::RELU),
            Layer::max_pool("pool", "conv", Window::square(2, 2, 0)),
            Layer::linear("hidden", "pool", 16, Finish::RELU),
            Layer::logits("out", "hidden", 3),
        ];
        Graph::new(input(), layers).unwrap()
    }

    fn recipe() -> Recipe {
        let changes = Changes { shift: 0, ..Changes::default() };
        Recipe { epochs: 8, batch: 16, learning_rate: 1e-2, changes, validation: 0.2, seed: 3, ..Recipe::default() }
    }

    #[test]
    fn a_small_set_is_learnt_and_a_seed_repeats_it() {
        let data = bars(600, 1);
        let trained = train(graph(), &data, &recipe()).unwrap();
        assert_eq!(trained.epochs.len(), 8);
        let score = evaluate(&trained.network, &bars(300, 2)).unwrap();
        assert!(score.accuracy > 0.95, "{score:?}");
        let best = trained.epochs.iter().map(|epoch| epoch.validation_accuracy).fold(0.0, f64::max);
        let (_, validation) = split(&data, &recipe());
        assert_eq!(evaluate(&trained.network, &validation).unwrap().accuracy, best);
        let again = train(graph(), &data, &recipe()).unwrap();
        assert_eq!(again.network.to_bytes().unwrap(), trained.network.to_bytes().unwrap());
    }

    /// The epochs without what depends on the clock.
    fn timeless(epochs: &[EpochMetrics]) -> Vec<EpochMetrics> {
        epochs.iter().map(|epoch| EpochMetrics { images_per_second: 0.0, ..epoch.clone() }).collect()
    }

    #[test]
    fn a_training_that_was_stopped_ends_as_if_it_had_not_been() {
        let data = bars(150, 1);
        let plain = Recipe { epochs: 4, changes: Changes { shift: 1, ..Changes::default() }, ..recipe() };
        let sgd = Recipe { optimizer: Method::Sgd, learning_rate: 0.05, ..plain.clone() };
        let full = Recipe { batch_norm: true, averaging: 0.95, ..plain.clone() };
        // There are 8 steps an epoch: stopped in its middle, after its first step, at its very end, before its first.
        for (recipe, stop) in [(&plain, 11), (&sgd, 1), (&full, 20), (&full, 16), (&plain, 0)] {
            let whole = train(graph(), &data, recipe).unwrap();
            let mut trainer = Trainer::new(graph(), &data, recipe).unwrap();
            let mut done = 0;
            while done < stop {
                let outcome = trainer.epoch(&mut |step| {
                    assert_eq!((step.step, step.steps), (done + 1, 32));
                    done = step.step;
                    if done == stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                });
                assert_eq!(outcome.unwrap() == Outcome::Stopped, done == stop && stop % 8 != 0);
            }
            let checkpoint = trainer.checkpoint().unwrap();
            drop(trainer);
            let mut trainer = Trainer::resume(&checkpoint, &data).unwrap();
            assert_eq!((trainer.recipe(), trainer.epochs().len()), (recipe, stop / 8));
            while !trainer.is_done() {
                assert!(matches!(trainer.epoch(&mut |_| ControlFlow::Continue(())).unwrap(), Outcome::Epoch(_)));
            }
            let best = trainer.best().unwrap();
            let continued = trainer.finish();
            assert_eq!(timeless(&continued.epochs), timeless(&whole.epochs), "{stop}");
            assert_eq!(continued.network.to_bytes().unwrap(), whole.network.to_bytes().unwrap(), "{stop}");
            assert_eq!(best, Some(whole.network.to_bytes().unwrap()), "{stop}");
        }
    }

    #[test]
    fn a_training_may_be_prolonged() {
        let data = bars(150, 1);
        let planned = Recipe { epochs: 3, warmup: 1.0, ..recipe() };
        let long = train(graph(), &data, &planned).unwrap();
        // While the learning rate still rises, the end does not matter.
        let short = Recipe { epochs: 2, ..planned.clone() };
        let mut trainer = Trainer::new(graph(), &data, &short).unwrap();
        trainer.epoch(&mut |_| ControlFlow::Continue(())).unwrap();
        let error = trainer.set_epochs(0).unwrap_err();
        assert!(matches!(error, TrainError::Recipe { name: "epochs", .. }), "{error}");
        trainer.set_epochs(3).unwrap();
        let mut trainer = Trainer::resume(&trainer.checkpoint().unwrap(), &data).unwrap();
        assert_eq!(trainer.recipe(), &planned);
        while !trainer.is_done() {
            trainer.epoch(&mut |_| ControlFlow::Continue(())).unwrap();
        }
        assert_eq!(trainer.finish().network.to_bytes().unwrap(), long.network.to_bytes().unwrap());
    }

    #[test]
    fn a_checkpoint_of_something_else_is_refused() {
        let data = bars(150, 1);
        let mut trainer = Trainer::new(graph(), &data, &recipe()).unwrap();
        let checkpoint = trainer.checkpoint().unwrap();
        assert_eq!(trainer.best().unwrap(), None);
        let error = Trainer::resume(&checkpoint, &bars(150, 2)).unwrap_err();
        assert!(matches!(error, TrainError::OtherData { .. }), "{error}");
        let error = Trainer::resume(&checkpoint[..checkpoint.len() - 1], &data).unwrap_err();
        assert!(matches!(error, TrainError::File(_)), "{error}");
        let weights = trainer.finish().network.to_bytes().unwrap();
        let error = Trainer::resume(&weights, &data).unwrap_err();
        assert!(matches!(error, TrainError::NoCheckpoint { .. }), "{error}");
    }

    #[test]
    fn other_ways_learn_too() {
        let data = bars(600, 1);
        let sgd = Recipe { optimizer: Method::Sgd, learning_rate: 0.05, ..recipe() };
        for recipe in [sgd, Recipe { averaging: 0.98, ..recipe() }] {
            let trained = train(graph(), &data, &recipe).unwrap();
            let score = evaluate(&trained.network, &bars(300, 2)).unwrap();
            assert!(score.accuracy > 0.9, "{score:?} of {recipe:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let train = |graph, data: &Dataset, recipe: Recipe| train(graph, data, &recipe).unwrap_err();
        let data = bars(30, 1);
        let flat = |input, classes| Graph::new(input, vec![Layer::logits("out", "input", classes)]).unwrap();
        let other = flat(input(), 4);
        assert!(matches!(train(other, &data, recipe()), TrainError::Classes { found: 3, expected: 4 }));
        let other = flat(Input::new(3, 8, 8), 3);
        assert!(matches!(train(other, &data, recipe()), TrainError::Shape { .. }));
        assert!(matches!(train(graph(), &bars(3, 1), recipe()), TrainError::TooFew { training: 3, validation: 0 }));
        let three = Window::square(3, 1, 1);
        let refused: [(Layer, &str); 4] = [
            (
                Layer::new(
                    "odd",
                    &["input"],
                    Operation::Conv { channels: 2, groups: 2, window: three, finish: Finish::RELU },
                ),
                "layer \"odd\" is conv, which training does not take so; expected convolutions of one group",
            ),
            (Layer::max_pool("odd", "input", three), "layer \"odd\" is max_pool, which"),
            (Layer::new("odd", &["input", "input"], Operation::Concat), "layer \"odd\" is concat, which"),
            (
                Layer::new("odd", &["input", "input"], Operation::Multiply { finish: Finish::RELU }),
                "layer \"odd\" is multiply",
            ),
        ];
        for (layer, expected) in refused {
            let graph = Graph::new(Input::new(2, 8, 8), vec![layer, Layer::logits("out", "odd", 3)]).unwrap();
            let said = FloatNetwork::new(graph, vec![String::from("a"); 3], 6.0, &Normalization::identity(2), 1);
            let said = said.unwrap_err().to_string();
            assert!(said.starts_with(expected), "{said}");
        }
        // What is looked up is the picture, for all that read it.
        let layers = vec![
            Layer::new("half", &["input"], Operation::Lookup { zero_point: 0 }),
            added("both", ["half", "input"]),
            Layer::logits("out", "both", 3),
        ];
        assert!(matches!(train(Graph::new(input(), layers).unwrap(), &data, recipe()), TrainError::Layer { .. }));
        let wild = Recipe { learning_rate: -1.0, ..recipe() };
        assert!(matches!(train(graph(), &data, wild), TrainError::Recipe { name: "learning_rate", .. }));
    }

    #[test]
    fn the_learning_rate_rises_and_falls() {
        let recipe = Recipe { learning_rate: 1.0, warmup: 2.0, ..Recipe::default() };
        let rates: Vec<f64> = (0..100).map(|step| learning_rate(&recipe, step, 10, 100)).collect();
        assert_eq!((rates[0], rates[9], rates[19]), (1.0 / 20.0, 0.5, 1.0));
        assert!((rates[59] - 0.5).abs() < 1e-9 && rates[99].abs() < 1e-9);
    }
}
