//! Quantisation-aware training: the float network is trained on while it answers as its integers do.
//!
//! Every step rounds weights, biases, factors of additions and activations as the integer model does, and gradients pass the rounding as
//! if it were not there (B. Jacob et al., "Quantization and Training of Neural Networks for Efficient
//! Integer-Arithmetic-Only Inference", 2018, section 3). Where activations are clipped stays as calibration has chosen it.
//! Batch normalisation is folded before.

use std::time::Instant;

use ocelli_model::backend::Backend;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::{Naming, QuantizeError, Quantized, integers, report};
use crate::dataset::{Dataset, shuffled};
use crate::train::batch::Augmentation;
use crate::train::{
    FloatNetwork, Lesson, Method, Optimizer, Recipe, Shards, Step, StepSize, TrainError, learning_rate,
};

/// The highest learning rate of fine-tuning, unless another is given: a guess that did well on the built-in networks.
const LEARNING_RATE: f64 = 1e-4;

/// How an epoch of fine-tuning went. Accuracy and loss are the integer model's, on the pictures kept back.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FineTuned {
    /// The epoch, from 1.
    pub epoch: usize,
    /// The mean loss over its steps.
    pub training_loss: f64,
    /// The accuracy of the integer model.
    pub accuracy: f64,
    /// The mean negative logarithm of the probability of the right class, with a fitted scale: what is chosen by.
    pub loss: f64,
    /// Pictures trained on a second.
    pub images_per_second: f64,
}

/// What fine-tuning tells while it goes on.
#[derive(Debug)]
pub enum Progress<'a> {
    /// A step is done.
    Step(Step),
    /// An epoch is done.
    Epoch(&'a FineTuned),
}

/// The recipe of fine-tuning a network that was trained by another one: pictures are changed as then, but the steps are
/// AdamW's and small.
pub fn fine_tuning(training: &Recipe, epochs: usize) -> Recipe {
    Recipe {
        epochs,
        learning_rate: LEARNING_RATE,
        optimizer: Method::AdamW,
        averaging: 0.0,
        warmup: 0.0,
        weight_decay: 0.0,
        batch_norm: false,
        ..training.clone()
    }
}

/// Goes on from a quantised network, and gives the best of it and of the integer models after each epoch.
///
/// # Errors
/// If the training diverges, or the network cannot be made exact any more.
pub fn fine_tune(
    network: &FloatNetwork,
    mut quantized: Quantized,
    training: &Dataset,
    validation: &Dataset,
    recipe: &Recipe,
    backend: &mut dyn Backend,
    progress: &mut dyn FnMut(Progress),
) -> Result<Quantized, QuantizeError> {
    recipe.check()?;
    if training.is_empty() {
        return Err(QuantizeError::Empty { purpose: "train" });
    }
    let display = quantized.model.display();
    let naming = Naming { name: display.name.clone(), card: display.card.clone() };
    let known = validation.labels_among(network.classes())?;
    let mut best = quantized.report.trials.iter().map(|trial| trial.loss).fold(f64::INFINITY, f64::min);
    let mut network = network.folded();
    let mut optimizer = Optimizer::new(recipe.optimizer, network.trained(), network.weights());
    let (augmentation, mut shards) = (Augmentation::new(recipe, training.len()), Shards::default());
    let mut gradient = vec![0.0; network.trained()];
    let mut rng = ChaCha8Rng::seed_from_u64(recipe.seed);
    let steps_an_epoch = training.len().div_ceil(recipe.batch);
    let (mut step, steps) = (0, steps_an_epoch * recipe.epochs);
    for epoch in 1..=recipe.epochs {
        let (start, mut sum) = (Instant::now(), 0.0);
        for indexes in shuffled(training.len(), &mut rng).chunks(recipe.batch) {
            let rounded = integers(&network, &quantized.grids)?.rounded(&quantized.grids);
            let changes = augmentation.draw(indexes, training.shape(), epoch, &mut rng);
            let label_smoothing = recipe.label_smoothing;
            let lesson = Lesson { data: training, indexes, changes: &changes, label_smoothing };
            let loss = shards.gradient(&network.rounded_pass(&rounded), lesson, &mut gradient).loss;
            let size = StepSize {
                learning_rate: learning_rate(recipe, step, steps_an_epoch, steps),
                weight_decay: recipe.weight_decay,
                momentum: recipe.momentum,
            };
            optimizer.step(network.numbers_mut(), &gradient, size);
            if !loss.is_finite() {
                return Err(TrainError::Diverged { epoch, loss }.into());
            }
            sum += f64::from(loss) * indexes.len() as f64;
            step += 1;
            progress(Progress::Step(Step { epoch, step, steps, loss }));
        }
        let seconds = start.elapsed().as_secs_f64();
        let integers = integers(&network, &quantized.grids)?;
        let assessment = integers.assess(&network, &naming, backend, validation, &known)?;
        let tuned = FineTuned {
            epoch,
            training_loss: sum / training.len() as f64,
            accuracy: assessment.accuracy,
            loss: assessment.loss,
            images_per_second: training.len() as f64 / seconds.max(1e-9),
        };
        progress(Progress::Epoch(&tuned));
        quantized.report.fine_tuning.push(tuned);
        if assessment.loss < best {
            best = assessment.loss;
            quantized.model = assessment.model;
            quantized.report.layers = report(&quantized.model, &quantized.grids, &integers, &quantized.histograms);
            quantized.report.integer_accuracy = assessment.accuracy;
            quantized.report.scale = assessment.scale;
            quantized.report.unfitted_scale = integers.scale;
        }
    }
    Ok(quantized)
}

#[cfg(test)]
mod tests {
    use ocelli_model::backend::ReferenceBackend;
    use ocelli_model::graph::{Finish, Graph, Layer, Operation, Window};

    use super::super::quantize;
    use super::*;
    use crate::evaluate;
    use crate::train::tests::{added, bars, input};
    use crate::train::{Changes, Normalization, of_plain};

    /// A network that no one has trained, with all that integers know: additions of each kind of activation, and both pools.
    fn network() -> FloatNetwork {
        let three = Window::square(3, 1, 1);
        let mean = Operation::AveragePool { window: Window::square(4, 4, 0), finish: Finish::RELU };
        let layers = vec![
            Layer::new("half", &["input"], Operation::Lookup { zero_point: 0 }),
            Layer::conv("stem", "half", 6, three, Finish::RELU),
            Layer::max_pool("pool", "stem", Window::square(2, 2, 0)),
            Layer::conv("block_a", "pool", 6, three, Finish::RELU),
            Layer::conv("block_b", "block_a", 6, three, Finish::bytes(128)),
            added("block", ["block_b", "pool"]),
            Layer::new("mean", &["block"], mean),
            Layer::linear("hidden_a", "mean", 6, Finish::bytes(128)),
            added("hidden", ["hidden_a", "mean"]),
            Layer::logits("out", "hidden", 3),
        ];
        let classes = ["lying", "none", "standing"].map(String::from).to_vec();
        let normalization = Normalization { mean: vec![0.3], deviation: vec![0.2] };
        FloatNetwork::new(Graph::new(input(), layers).unwrap(), classes, 6.0, &normalization, 5).unwrap()
    }

    fn naming() -> Naming {
        Naming { name: "bars".into(), card: "A test.".into() }
    }

    #[test]
    fn rounded_floats_answer_as_the_integers() {
        let (network, data) = (network(), bars(120, 1));
        let quantized = quantize(&network, &naming(), &data, &data, &mut ReferenceBackend, &mut |_| ()).unwrap();
        let rounded = integers(&network, &quantized.grids).unwrap().rounded(&quantized.grids);
        let indexes: Vec<usize> = (0..data.len()).collect();
        let folded = network.folded();
        let floats = of_plain(&folded.rounded_pass(&rounded), &data, &indexes, |_, logits| logits.to_vec()).concat();
        let integers = evaluate::logits(&quantized.model, &mut ReferenceBackend, &data, &mut |_| ()).unwrap();
        let unit = quantized.report.unfitted_scale as f32;
        let same = floats.chunks(3).zip(&integers).filter(|(floats, integers)| {
            floats.iter().zip(*integers).all(|(float, integer)| (float / unit - *integer as f32).abs() < 0.5)
        });
        // Sums of floats may still fall to the other side of an edge.
        let same = same.count();
        assert!(same >= 118, "{same} of 120");
    }

    #[test]
    fn a_network_learns_through_its_integers() {
        let (network, data, validation) = (network(), bars(300, 1), bars(90, 2));
        let recipe = Recipe {
            batch: 16,
            changes: Changes { shift: 0, ..Changes::default() },
            learning_rate: 1e-2,
            ..fine_tuning(&Recipe::default(), 6)
        };
        let run = || {
            let network = self::network();
            let before = quantize(&network, &naming(), &data, &validation, &mut ReferenceBackend, &mut |_| ()).unwrap();
            let (mut steps, mut epochs) = (0, Vec::new());
            let after =
                fine_tune(&network, before.clone(), &data, &validation, &recipe, &mut ReferenceBackend, &mut |now| {
                    match now {
                        Progress::Step(step) => {
                            steps += 1;
                            assert_eq!((step.step, step.steps), (steps, 6 * 19));
                        }
                        Progress::Epoch(epoch) => epochs.push(epoch.clone()),
                    }
                });
            let after = after.unwrap();
            assert_eq!((steps, &after.report.fine_tuning), (6 * 19, &epochs));
            (before, after)
        };
        let (before, after) = run();
        assert!(before.report.integer_accuracy < 0.7, "{}", before.report.integer_accuracy);
        assert!(after.report.integer_accuracy > 0.9, "{:?}", after.report.fine_tuning);
        // The report is of the epoch with the least loss, and of the model that is given.
        let losses = after.report.fine_tuning.iter().map(|epoch| epoch.loss);
        let least = losses.fold(f64::INFINITY, f64::min);
        let best = after.report.fine_tuning.iter().find(|epoch| epoch.loss == least).unwrap();
        assert_eq!(best.accuracy, after.report.integer_accuracy);
        let again = evaluate::evaluate(&after.model, &mut ReferenceBackend, &validation, &mut |_| ()).unwrap();
        assert_eq!(again.top1, after.report.integer_accuracy);
        assert_eq!(run().1.model.id(), after.model.id(), "a seed repeats it");
        // A step that is too small to change an integer gives nothing better, and the model is the one from before.
        let idle = Recipe { learning_rate: 1e-12, epochs: 1, ..recipe };
        let kept = fine_tune(&network, before.clone(), &data, &validation, &idle, &mut ReferenceBackend, &mut |_| ());
        assert_eq!(kept.unwrap().model.id(), before.model.id());
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused() {
        let (network, data) = (network(), bars(30, 1));
        let quantized = quantize(&network, &naming(), &data, &data, &mut ReferenceBackend, &mut |_| ()).unwrap();
        let recipe = Recipe { learning_rate: 0.0, ..fine_tuning(&Recipe::default(), 1) };
        let error =
            fine_tune(&network, quantized, &data, &data, &recipe, &mut ReferenceBackend, &mut |_| ()).unwrap_err();
        assert!(matches!(error, QuantizeError::Float(TrainError::Recipe { name: "learning_rate", .. })), "{error}");
    }
}
