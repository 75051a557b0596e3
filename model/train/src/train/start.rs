//! The float network that an integer model stands for, to train on from.

use ocelli_model::graph::{Graph, Operation};
use ocelli_model::model::Model;
use ocelli_model::proof::{MAX_ACTIVATION, half};

use super::{FloatNetwork, LayerWeights, TrainError};

impl FloatNetwork {
    /// A float network that answers as a model does, but for what integers round and clip. Each channel of an activation has
    /// a factor, what a step of its integers is: 1/127 for the picture, `ceiling / 127` elsewhere, and where a skip is added
    /// the one with which the skip's multiplier becomes 1. Logits are those whose softmax the model shows as probabilities.
    ///
    /// # Errors
    /// None for a model that was loaded.
    pub fn of_model(model: &Model, ceiling: f32) -> Result<Self, TrainError> {
        let graph = model.graph();
        let mut steps = vec![vec![1.0 / MAX_ACTIVATION as f64; graph.input().channels]];
        let mut layers = Vec::new();
        for (index, layer) in graph.layers().iter().enumerate() {
            let (shape, outputs) = (graph.activations()[index], graph.activations()[index + 1].channels);
            if matches!(layer.operation, Operation::MaxPool { .. } | Operation::SumPool { .. }) {
                steps.push(steps[index].clone());
                layers.push(None);
                continue;
            }
            let parameters = model.parameters(index);
            // What one unit of a channel's sum is, and a step of its output.
            let unit = |channel: usize| {
                if graph.is_last(index) {
                    let scale = model.display().scale;
                    return (scale, scale, 0.0);
                }
                let shift = f64::from(parameters.shift[channel]).exp2();
                let step = match graph.skip(index) {
                    Some(skip) if parameters.multiplier[channel] > 0 => {
                        steps[skip][channel] * shift / f64::from(parameters.multiplier[channel])
                    }
                    _ => f64::from(ceiling) / MAX_ACTIVATION as f64,
                };
                // A shift rounds down, and half a step is in the bias for it.
                (step / shift, step, f64::from(half(parameters.shift[channel])))
            };
            let units: Vec<(f64, f64, f64)> = (0..outputs).map(unit).collect();
            let inputs = parameters.weight.len() / outputs;
            let of_channel = inputs / shape.channels;
            let weight = parameters.weight.iter().enumerate().map(|(place, weight)| {
                let (output, channel) = (place / inputs, place % inputs / of_channel);
                (f64::from(*weight) * units[output].0 / steps[index][channel]) as f32
            });
            let bias = parameters.bias.iter().zip(&units);
            let bias = bias.map(|(bias, (unit, _, half))| ((f64::from(*bias) - half) * unit) as f32);
            layers.push(Some(LayerWeights { weight: weight.collect(), bias: bias.collect() }));
            steps.push(units.iter().map(|(_, step, _)| *step).collect());
        }
        Self::from_layers(graph.clone(), model.classes().to_vec(), ceiling, layers)
    }
}

/// The graph of a model, with another number of logits.
///
/// # Errors
/// If such a graph is not allowed.
pub fn graph_for(model: &Model, logits: usize) -> Result<Graph, TrainError> {
    let mut layers = model.graph().layers().to_vec();
    if let Some(Operation::Linear { channels, .. } | Operation::Conv { channels, .. }) =
        layers.last_mut().map(|layer| &mut layer.operation)
    {
        *channels = logits;
    }
    Ok(Graph::new(model.graph().input(), layers)?)
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use ocelli_model::backend::ReferenceBackend;
    use ocelli_model::graph::Layer;

    use super::super::tests::{SHAPE, bars};
    use super::super::{Outcome, Recipe, Trainer, evaluate, train};
    use super::*;
    use crate::dataset::Dataset;
    use crate::evaluate::evaluate as evaluate_model;
    use crate::quantize::{Naming, quantize};

    /// A trained model with all that integers know: skips from a pool and from a layer, and both pools.
    fn model(recipe: &Recipe) -> Model {
        let layers = vec![
            Layer::conv("stem", 8, 3, 1, 1),
            Layer::max_pool("pool", 2, 2),
            Layer::conv("block_a", 8, 3, 1, 1),
            Layer::conv("block_b", 8, 3, 1, 1).with_skip("pool"),
            Layer::sum_pool("mean", 2, 2, 2),
            Layer::linear("hidden", 12),
            Layer::linear("deeper", 12).with_skip("hidden"),
            Layer::linear("out", 3),
        ];
        let trained = train(Graph::new(SHAPE, layers).unwrap(), &bars(600, 1), recipe).unwrap();
        let (naming, data) = (Naming { name: "bars".into(), card: String::new() }, bars(120, 3));
        quantize(&trained.network, &naming, &data, &data, &mut ReferenceBackend, &mut |_| ()).unwrap().model
    }

    fn recipe() -> Recipe {
        Recipe {
            epochs: 6,
            batch: 32,
            learning_rate: 1e-2,
            shift: 0,
            flip: false,
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
        let added = [Layer::conv("new_a", 8, 3, 1, 1), Layer::conv("new_b", 8, 3, 1, 1).with_skip("block_b")];
        layers.splice(4..4, added);
        let graph = Graph::new(SHAPE, layers).unwrap();
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
        layers[2] = Layer::conv("block_a", 6, 3, 1, 1);
        let graph = Graph::new(SHAPE, layers).unwrap();
        let network = Trainer::from_model(&model, Some(graph), &data, &recipe).unwrap().network;
        let learnt = FloatNetwork::of_model(&model, recipe.ceiling).unwrap();
        let is_taken = |layer: usize| network.layer(layer).unwrap().weight == learnt.layer(layer).unwrap().weight;
        assert_eq!([2, 3, 5, 6].map(is_taken), [false, false, true, true]);
    }
}
