//! The largest that strangers may publish: what such models take to be prepared follows from the limits of `docs/inference.md`,
//! and kernels run them as the reference does.

use std::num::NonZeroUsize;

use ocelli_model::graph::MAX_MOVED;
use ocelli_model::{
    Backend as _, Display, Finish, Graph, Input, Kernel, KernelBackend, Layer, Model, ModelFile, Operation, Parameters,
    Window, reference,
};

/// A model of these layers, with weights that differ.
fn build(input: Input, layers: Vec<Layer>) -> Model {
    let graph = Graph::new(input, layers).unwrap();
    let parameters = (0..graph.layers().len()).map(|layer| {
        let count = graph.weight_shape(layer).map_or(0, |shape| shape.iter().product());
        let channels = graph.output_shape(layer).channels;
        let has_weights = count > 0;
        let is_scaled =
            has_weights && !graph.is_last(layer) || graph.layers()[layer].operation.kind() == "average_pool";
        Parameters {
            weight: (0..count).map(|at| (at * 7 % 5) as i8 - 2).collect(),
            bias: if has_weights { vec![3; channels] } else { Vec::new() },
            scale: if is_scaled { vec![0.01; if has_weights { channels } else { 1 }] } else { Vec::new() },
            ..Parameters::default()
        }
    });
    let (parameters, classes) = (parameters.collect(), graph.logits());
    ModelFile { graph, parameters, display: Display::numbered(classes) }.build().unwrap()
}

/// The largest picture, as many channels as may be moved, and all of it pooled.
fn wide() -> Model {
    let pool = Operation::AveragePool { window: Window::square(1_024, 1_024, 0), finish: Finish::RELU };
    let layers = vec![
        Layer::conv("conv", "input", 24, Window::square(1, 1, 0), Finish::RELU),
        Layer::new("pool", &["conv"], pool),
        Layer::logits("out", "pool", 2),
    ];
    build(Input::new(3, 1_024, 1_024), layers)
}

/// One activation that many convolutions read, each with a padding of its own, so that none finds it where another did.
fn padded() -> Model {
    let names: Vec<String> = (0..64).map(|number| format!("conv{number}")).collect();
    let conv = |(number, name): (usize, &String)| {
        let padding = [number / 7, number % 7, 13 - number / 7, 6 - number % 7];
        Layer::conv(name, "input", 8, Window { kernel: [16, 8], stride: [40, 40], padding }, Finish::RELU)
    };
    let mut layers: Vec<Layer> = names.iter().enumerate().map(conv).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    layers.push(Layer::new("all", &names, Operation::Concat));
    layers.push(Layer::logits("out", "all", 3));
    build(Input::new(8, 200, 200), layers)
}

/// As many weights of 3x3 as make plans larger than files.
fn heavy() -> Model {
    let conv =
        |name: &str, from: &str, channels| Layer::conv(name, from, channels, Window::square(3, 1, 1), Finish::RELU);
    let layers = vec![conv("a", "input", 512), conv("b", "a", 512), conv("c", "b", 512), Layer::logits("out", "c", 2)];
    build(Input::new(3, 8, 8), layers)
}

#[test]
fn what_strangers_may_publish_is_prepared_within_bounds_and_run_exactly() {
    for (name, model) in [("wide", wide()), ("padded", padded()), ("heavy", heavy())] {
        let pixels: Vec<u8> = (0..model.pixels()).map(|at| (at * 31 % 251) as u8).collect();
        let threads = NonZeroUsize::new(2).unwrap();
        let mut backend = KernelBackend::with(Kernel::best(), threads).unwrap();
        let logits = backend.logits(&model, &[&pixels]).unwrap();
        assert_eq!(logits, [reference::logits(&model, &pixels)], "{name}");
        // Two bytes at most for each that is moved, in each thread; eight for each packed weight.
        let cost = model.graph().cost();
        let bound = 2 * 2 * cost.moved + 8 * cost.packed_weights + (1 << 20);
        let found = backend.prepared_bytes();
        assert!(found <= bound && cost.moved <= MAX_MOVED, "{name}: {found} bytes, {bound} at most; {cost:?}");
    }
}
