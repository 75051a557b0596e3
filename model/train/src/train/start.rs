//! The float network that an integer model stands for, to train on from.

use ocelli_model::graph::{Graph, Operation};
use ocelli_model::model::Model;

use super::network::is_clamped;
use super::{FloatNetwork, LayerWeights, TrainError};

impl FloatNetwork {
    /// A float network that answers as a model does, but for what integers round and clip. A step of the pictures' integers is
    /// what it is in training, and one of other activations `ceiling` over the most of them, but for activations that are added:
    /// their steps are those with which both multipliers become 1. Logits are those whose softmax the model shows as
    /// probabilities.
    ///
    /// # Errors
    /// For a model of layers that training does not know, or a lookup that does not halve.
    pub fn of_model(model: &Model, ceiling: f32) -> Result<Self, TrainError> {
        let graph = model.graph();
        let steps = steps(model, ceiling)?;
        let mut layers = Vec::new();
        for (index, layer) in graph.layers().iter().enumerate() {
            let parameters = model.parameters(index);
            let before = steps[graph.sources(index)[0]];
            let halves = || (0..=255u8).zip(&parameters.table).all(|(byte, entry)| *entry == byte >> 1);
            if matches!(layer.operation, Operation::Lookup { .. }) && !halves() {
                return Err(TrainError::Start {
                    layer: layer.name.clone(),
                    reason: "its table does not halve the pixels",
                });
            }
            let Some(inputs) = parameters.weight.len().checked_div(parameters.bias.len()) else {
                layers.push(None);
                continue;
            };
            // What one unit of a channel's sum is.
            let unit = |channel: usize| {
                let scale = parameters.scale.get(channel).map_or(1.0, |scale| f64::from(*scale));
                scale * if graph.is_last(index) { model.display().scale } else { steps[index + 1] }
            };
            let weight = parameters.weight.iter().enumerate();
            let weight = weight.map(|(place, weight)| (f64::from(*weight) * unit(place / inputs) / before) as f32);
            let bias = parameters.bias.iter().enumerate();
            let bias = bias.map(|(channel, bias)| (f64::from(*bias) * unit(channel)) as f32);
            layers.push(Some(LayerWeights { weight: weight.collect(), bias: bias.collect() }));
        }
        // As much as the integers reach.
        let ceilings = graph.layers().iter().enumerate().map(|(index, layer)| match layer.operation.finish() {
            Some(finish) if is_clamped(layer) => f64::from(finish.high - finish.zero_point).max(1.0) * steps[index + 1],
            _ => f64::INFINITY,
        });
        let ceilings = ceilings.map(|ceiling| ceiling as f32).collect();
        Self::from_layers(graph.clone(), model.classes().to_vec(), ceilings, layers)
    }
}

/// What a step of the input and of every layer's output is.
fn steps(model: &Model, ceiling: f32) -> Result<Vec<f64>, TrainError> {
    let graph = model.graph();
    let mut steps: Vec<Option<f64>> = vec![None; graph.activations().len()];
    steps[0] = Some(1.0 / 255.0);
    // Of each two activations how large a step of the second is beside one of the first.
    let mut ties = Vec::new();
    for (index, layer) in graph.layers().iter().enumerate() {
        let (sources, output) = (graph.sources(index), index + 1);
        match layer.operation {
            Operation::Lookup { .. } => steps[output] = Some(1.0 / 127.0),
            Operation::MaxPool { .. } => ties.push((index, sources[0], output, 1.0)),
            Operation::AveragePool { window, .. } => {
                let scale = f64::from(model.parameters(index).scale[0]);
                ties.push((index, sources[0], output, 1.0 / (scale * window.taps() as f64)));
            }
            Operation::Add { multipliers, shift, .. } => {
                for (source, multiplier) in sources.iter().zip(multipliers) {
                    ties.push((index, *source, output, f64::from(shift).exp2() / f64::from(multiplier)));
                }
            }
            _ => {}
        }
    }
    for activation in 0..steps.len() {
        if steps[activation].is_none() {
            let finish = activation.checked_sub(1).and_then(|layer| graph.layers()[layer].operation.finish());
            let most = finish.map_or(127, |finish| finish.high - finish.low).max(1);
            steps[activation] = Some(f64::from(ceiling) / f64::from(most));
        }
        // As often as there are ties, what is known reaches all that is tied to it.
        for _ in 0..ties.len() {
            let before = steps.iter().flatten().count();
            for (layer, first, second, ratio) in &ties {
                match (steps[*first], steps[*second]) {
                    (Some(first), None) => steps[*second] = Some(first * ratio),
                    (None, Some(second)) => steps[*first] = Some(second / ratio),
                    (Some(first), Some(second)) if (second / (first * ratio) - 1.0).abs() > 1e-4 => {
                        let (layer, reason) = (graph.layers()[*layer].name.clone(), "what it adds is of several sizes");
                        return Err(TrainError::Start { layer, reason });
                    }
                    _ => {}
                }
            }
            if steps.iter().flatten().count() == before {
                break;
            }
        }
    }
    Ok(steps.into_iter().flatten().collect())
}

/// The graph of a model, with another number of logits.
///
/// # Errors
/// If such a graph is not allowed.
pub fn graph_for(model: &Model, logits: usize) -> Result<Graph, TrainError> {
    let mut layers = model.graph().layers().to_vec();
    if let Some(Operation::Linear { channels, .. }) = layers.last_mut().map(|layer| &mut layer.operation) {
        *channels = logits;
    }
    Ok(Graph::new(model.graph().input().clone(), layers)?)
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use ocelli_model::backend::ReferenceBackend;
    use ocelli_model::graph::{Finish, Layer, Window};

    use super::super::tests::{SHAPE, added, bars, input};
    use super::super::{Changes, Outcome, Recipe, Trainer, evaluate, train};
    use super::*;
    use crate::dataset::Dataset;
    use crate::evaluate::evaluate as evaluate_model;
    use crate::quantize::{Naming, quantize};

    const THREE: Window = Window::square(3, 1, 1);

    /// A trained model with all that integers know: additions of a pool and of a layer, and both pools.
    fn model(recipe: &Recipe) -> Model {
        let mean = Operation::AveragePool { window: Window::square(2, 2, 0), finish: Finish::RELU };
        let layers = vec![
            Layer::new("half", &["input"], Operation::Lookup { zero_point: 0 }),
            Layer::conv("stem", "half", 8, THREE, Finish::RELU),
            Layer::max_pool("pool", "stem", Window::square(2, 2, 0)),
            Layer::conv("block_a", "pool", 8, THREE, Finish::RELU),
            Layer::conv("block_b", "block_a", 8, THREE, Finish::bytes(128)),
            added("block", ["block_b", "pool"]),
            Layer::new("mean", &["block"], mean),
            Layer::linear("hidden", "mean", 12, Finish::RELU),
            Layer::linear("deeper_a", "hidden", 12, Finish::bytes(128)),
            added("deeper", ["deeper_a", "hidden"]),
            Layer::logits("out", "deeper", 3),
        ];
        let trained = train(Graph::new(input(), layers).unwrap(), &bars(600, 1), recipe).unwrap();
        let (naming, data) = (Naming { name: "bars".into(), card: String::new() }, bars(120, 3));
        quantize(&trained.network, &naming, &data, &data, &mut ReferenceBackend, &mut |_| ()).unwrap().model
    }

    fn recipe() -> Recipe {
        Recipe {
            epochs: 6,
            batch: 32,
            learning_rate: 1e-2,
            changes: Changes { shift: 0, flip: false, ..Changes::default() },
            validation: 0.2,
            ..Recipe::default()
        }
    }

    /// Shows the bars to be told apart by their two directions only.
    fn two_classes(data: &Dataset) -> Dataset {
        let pictures = (0..data.len()).filter(|index| data.labels()[*index] != 1);
        let pictures =
            pictures.map(|index| (index.to_string(), data.labels()[index] / 2, data.pixels(index).to_vec())).collect();
        Dataset::from_pixels(SHAPE, ["lying", "standing"].map(String::from).to_vec(), pictures)
    }

    #[test]
    fn floats_answer_as_their_model() {
        let (model, data) = (model(&recipe()), bars(300, 2));
        let network = FloatNetwork::of_model(&model, 2.0).unwrap();
        let integers = evaluate_model(&model, &mut ReferenceBackend, &data, &mut |_| ()).unwrap();
        assert!(integers.top1 > 0.9, "{}", integers.top1);
        let indexes: Vec<usize> = (0..data.len()).collect();
        let (scale, mut apart, mut size) = (model.display().scale, 0f64, 0f64);
        for (floats, index) in network.logits(&data, &indexes).chunks(3).zip(0..) {
            let logits = ocelli_model::reference::logits(&model, data.pixels(index));
            for (float, integer) in floats.iter().zip(logits) {
                let integer = f64::from(integer) * scale;
                apart += (f64::from(*float) - integer).abs();
                size += integer.abs();
            }
        }
        // What rounding to 7 bits does in six layers.
        assert!(apart < 0.05 * size, "{}", apart / size);
    }

    #[test]
    fn training_begins_where_the_model_stands() {
        let (model, data) = (model(&recipe()), bars(600, 1));
        let integers = evaluate_model(&model, &mut ReferenceBackend, &bars(300, 2), &mut |_| ()).unwrap().top1;
        // So slow that nothing is learnt.
        let slow = Recipe { epochs: 1, learning_rate: 1e-9, ..recipe() };
        for recipe in [slow.clone(), Recipe { batch_norm: true, ..slow }] {
            let mut trainer = Trainer::from_model(&model, None, &data, &recipe).unwrap();
            assert_eq!(trainer.recipe().start, Some(model.id().to_string()));
            let outcome = trainer.epoch(&mut |_| ControlFlow::Continue(())).unwrap();
            assert!(matches!(outcome, Outcome::Epoch(_)));
            let checkpoint = trainer.checkpoint().unwrap();
            let floats = evaluate(&trainer.finish().network, &bars(300, 2)).unwrap().accuracy;
            assert!((floats - integers).abs() < 0.03, "{floats} and {integers} with {recipe:?}");
            let resumed = Trainer::resume(&checkpoint, &data).unwrap();
            let again = evaluate(&resumed.finish().network, &bars(300, 2)).unwrap().accuracy;
            assert_eq!(again, floats);
        }
    }

    #[test]
    fn other_classes_are_learnt_from_few_pictures() {
        let model = model(&recipe());
        let data = two_classes(&bars(90, 7));
        let short = Recipe { epochs: 6, batch: 8, ..recipe() };
        let mut trainer = Trainer::from_model(&model, None, &data, &short).unwrap();
        let graph = trainer.network.graph().clone();
        assert_eq!((graph.logits(), graph.layers().len()), (2, model.graph().layers().len()));
        while !trainer.is_done() {
            trainer.epoch(&mut |_| ControlFlow::Continue(())).unwrap();
        }
        let unseen = two_classes(&bars(300, 8));
        let tuned = evaluate(&trainer.finish().network, &unseen).unwrap().accuracy;
        assert!(tuned > 0.9, "{tuned}");
    }

    #[test]
    fn a_network_grows_without_forgetting() {
        let (model, data) = (model(&recipe()), bars(600, 1));
        let integers = evaluate_model(&model, &mut ReferenceBackend, &bars(300, 2), &mut |_| ()).unwrap().top1;
        let mut layers = model.graph().layers().to_vec();
        let block = [
            Layer::conv("new_a", "block", 8, THREE, Finish::RELU),
            Layer::conv("new_b", "new_a", 8, THREE, Finish::bytes(128)),
            added("new", ["new_b", "block"]),
        ];
        layers.splice(6..6, block);
        layers[9].from = vec!["new".into()];
        let graph = Graph::new(input(), layers).unwrap();
        let slow = Recipe { epochs: 1, learning_rate: 1e-9, ..recipe() };
        for recipe in [slow.clone(), Recipe { batch_norm: true, ..slow }] {
            let mut trainer = Trainer::from_model(&model, Some(graph.clone()), &data, &recipe).unwrap();
            trainer.epoch(&mut |_| ControlFlow::Continue(())).unwrap();
            let network = trainer.finish().network;
            assert_eq!(*network.graph(), graph);
            let floats = evaluate(&network, &bars(300, 2)).unwrap().accuracy;
            assert!((floats - integers).abs() < 0.03, "{floats} and {integers} with {recipe:?}");
        }
    }

    #[test]
    fn layers_of_another_size_begin_anew() {
        let (model, data, recipe) = (model(&recipe()), bars(600, 1), recipe());
        let mut layers = model.graph().layers().to_vec();
        layers[3] = Layer::conv("block_a", "pool", 6, THREE, Finish::RELU);
        let graph = Graph::new(input(), layers).unwrap();
        let network = Trainer::from_model(&model, Some(graph), &data, &recipe).unwrap().network;
        let learnt = FloatNetwork::of_model(&model, recipe.ceiling).unwrap();
        let is_taken = |layer: usize| network.layer(layer).unwrap().weight == learnt.layer(layer).unwrap().weight;
        assert_eq!([3, 4, 7, 8].map(is_taken), [false, false, true, true]);
    }
}
