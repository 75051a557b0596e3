//! The models that are built into the program.

use std::sync::LazyLock;

use crate::graph::{Finish, Graph, Input, Layer, Operation, Window};
use crate::id::ModelId;
use crate::model::Model;

/// The classes of CIFAR-10, in the order of its labels.
pub const CIFAR10_CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// The built-in models: name and file.
const MODELS: [(&str, &[u8]); 3] = [
    ("cifar10-cnn", include_bytes!("../zoo/cifar10-cnn.safetensors")),
    ("cifar10-resnet", include_bytes!("../zoo/cifar10-resnet.safetensors")),
    ("person-96", include_bytes!("../zoo/person-96.safetensors")),
];

/// The names of the built-in models.
pub fn names() -> Vec<&'static str> {
    MODELS.iter().map(|(name, _)| *name).collect()
}

/// The file of a built-in model.
pub fn bytes(name: &str) -> Option<&'static [u8]> {
    MODELS.iter().find(|(found, _)| *found == name).map(|(_, bytes)| *bytes)
}

/// Name and file of the built-in model with this id.
pub fn by_id(id: &ModelId) -> Option<(&'static str, &'static [u8])> {
    static IDS: LazyLock<[ModelId; MODELS.len()]> = LazyLock::new(|| MODELS.map(|(_, bytes)| ModelId::of(bytes)));
    IDS.iter().zip(MODELS).find(|(built_in, _)| *built_in == id).map(|(_, model)| model)
}

/// A built-in model, loaded.
pub fn get(name: &str) -> Option<Model> {
    bytes(name).map(|bytes| Model::from_bytes(bytes).expect("a test loads every built-in model"))
}

/// The reference network for CIFAR-10: three convolutions, two linear layers, 122,570 weights and biases. Pixels are halved
/// first, so that all activations have 7 bits.
pub fn cifar10_cnn() -> Graph {
    let (kernel, halves) = (Window::square(3, 1, 0), Window::square(2, 2, 0));
    let layers = vec![
        Layer::new("half", &["input"], Operation::Lookup { zero_point: 0 }),
        Layer::conv("conv1", "half", 32, kernel, Finish::RELU),
        Layer::max_pool("pool1", "conv1", halves),
        Layer::conv("conv2", "pool1", 64, kernel, Finish::RELU),
        Layer::max_pool("pool2", "conv2", halves),
        Layer::conv("conv3", "pool2", 64, kernel, Finish::RELU),
        Layer::linear("linear1", "conv3", 64, Finish::RELU),
        Layer::logits("linear2", "linear1", 10),
    ];
    Graph::new(Input::new(3, 32, 32), layers).expect("the shapes were worked out by hand and fit")
}

/// The residual network for CIFAR-10, after D. Page's ("How to Train Your ResNet", 2018) and K. Jordan's ("94% on CIFAR-10 in
/// 3.29 Seconds on a Single GPU", 2024): few layers, wide where pictures are small, each stage a convolution that widens, a
/// max-pool and one or two blocks with a skip. What is added has 8 bits around 128, with the step of what it is added to.
pub fn cifar10_resnet() -> Graph {
    let (kernel, halves) = (Window::square(3, 1, 1), Window::square(2, 2, 0));
    let conv = |name, from, channels| Layer::conv(name, from, channels, kernel, Finish::RELU);
    let branch = |name, from, channels| Layer::conv(name, from, channels, kernel, Finish::bytes(128));
    let sum = |name, branch, skip| {
        Layer::new(name, &[branch, skip], Operation::Add { multipliers: [1 << 20; 2], shift: 20, finish: Finish::RELU })
    };
    let layers = vec![
        Layer::new("half", &["input"], Operation::Lookup { zero_point: 0 }),
        Layer::conv("stem", "half", 24, Window::square(2, 1, 0), Finish::RELU),
        conv("wide", "stem", 48),
        Layer::max_pool("wide_pool", "wide", halves),
        branch("block1", "wide_pool", 48),
        sum("sum1", "block1", "wide_pool"),
        conv("block1_b", "sum1", 48),
        branch("block1_c", "block1_b", 48),
        sum("sum2", "block1_c", "sum1"),
        conv("wider", "sum2", 128),
        Layer::max_pool("wider_pool", "wider", halves),
        conv("block2_a", "wider_pool", 128),
        branch("block2_b", "block2_a", 128),
        sum("sum3", "block2_b", "wider_pool"),
        conv("widest", "sum3", 192),
        Layer::max_pool("widest_pool", "widest", halves),
        branch("block3", "widest_pool", 192),
        sum("sum4", "block3", "widest_pool"),
        Layer::max_pool("pool", "sum4", Window::square(3, 3, 0)),
        Layer::logits("out", "pool", 10),
    ];
    Graph::new(Input::new(3, 32, 32), layers).expect("the shapes were worked out by hand and fit")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_models_load() {
        for name in names() {
            let model = get(name).expect("listed");
            assert_eq!(model.name(), name);
            assert_eq!(model.id(), ModelId::of(bytes(name).expect("listed")));
            assert_eq!(by_id(&model.id()), Some((name, model.bytes())));
        }
        assert!(get("cifar11-cnn").is_none() && by_id(&ModelId::of(b"another")).is_none());
    }

    #[test]
    fn reference_network() {
        let model = get("cifar10-cnn").expect("built in");
        assert_eq!(*model.graph(), cifar10_cnn());
        assert_eq!(model.parameter_count(), 122_570);
        assert_eq!(model.classes(), CIFAR10_CLASSES);
        assert_eq!((model.pixels(), model.logits()), (3072, 10));
    }

    #[test]
    fn residual_network() {
        let model = get("cifar10-resnet").expect("built in");
        assert_eq!(*model.graph(), cifar10_resnet());
        assert_eq!(model.parameter_count(), 978_946);
        assert_eq!(model.classes(), CIFAR10_CLASSES);
        assert!(model.bytes().len() < 1_000_000 && model.cost() < 100_000_000);
    }

    /// What `scripts/zoo/person-96` makes of the network of others.
    #[test]
    fn imported_network() {
        let model = get("person-96").expect("built in");
        assert_eq!(model.classes(), ["no person", "person"]);
        assert_eq!((model.pixels(), model.graph().layers().len()), (3 * 96 * 96, 30));
        assert!(model.bytes().len() < 300_000 && model.cost() < 10_000_000);
        assert!(model.display().card.contains("Apache License, Version 2.0"));
    }
}
