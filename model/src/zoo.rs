//! The models that are built into the program.

use crate::graph::{Graph, Layer, Shape};
use crate::model::Model;

/// The classes of CIFAR-10, in the order of its labels.
pub const CIFAR10_CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// The built-in models: name and file.
const MODELS: [(&str, &[u8]); 2] = [
    ("cifar10-cnn", include_bytes!("../zoo/cifar10-cnn.safetensors")),
    ("cifar10-resnet", include_bytes!("../zoo/cifar10-resnet.safetensors")),
];

/// The names of the built-in models.
pub fn names() -> Vec<&'static str> {
    MODELS.iter().map(|(name, _)| *name).collect()
}

/// The file of a built-in model.
pub fn bytes(name: &str) -> Option<&'static [u8]> {
    MODELS.iter().find(|(found, _)| *found == name).map(|(_, bytes)| *bytes)
}

/// A built-in model, loaded.
pub fn get(name: &str) -> Option<Model> {
    bytes(name).map(|bytes| Model::from_bytes(bytes).expect("a test loads every built-in model"))
}

/// The reference network for CIFAR-10: three convolutions, two linear layers, 122,570 parameters.
pub fn cifar10_cnn() -> Graph {
    let input = Shape { channels: 3, height: 32, width: 32 };
    let layers = vec![
        Layer::conv("conv1", 32, 3, 1, 0),
        Layer::max_pool("pool1", 2, 2),
        Layer::conv("conv2", 64, 3, 1, 0),
        Layer::max_pool("pool2", 2, 2),
        Layer::conv("conv3", 64, 3, 1, 0),
        Layer::linear("linear1", 64),
        Layer::linear("linear2", 10),
    ];
    Graph::new(input, layers).expect("the shapes were worked out by hand and fit")
}

/// The residual network for CIFAR-10, after D. Page's ("How to Train Your ResNet", 2018) and K. Jordan's ("94% on CIFAR-10 in
/// 3.29 Seconds on a Single GPU", 2024): few layers, wide where pictures are small, each stage a convolution that widens, a
/// max-pool and one or two blocks with a skip.
pub fn cifar10_resnet() -> Graph {
    let input = Shape { channels: 3, height: 32, width: 32 };
    let layers = vec![
        Layer::conv("stem", 24, 2, 1, 0),
        Layer::conv("wide", 48, 3, 1, 1),
        Layer::max_pool("wide_pool", 2, 2),
        Layer::conv("block1", 48, 3, 1, 1).with_skip("wide_pool"),
        Layer::conv("block1_b", 48, 3, 1, 1),
        Layer::conv("block1_c", 48, 3, 1, 1).with_skip("block1"),
        Layer::conv("wider", 128, 3, 1, 1),
        Layer::max_pool("wider_pool", 2, 2),
        Layer::conv("block2_a", 128, 3, 1, 1),
        Layer::conv("block2_b", 128, 3, 1, 1).with_skip("wider_pool"),
        Layer::conv("widest", 192, 3, 1, 1),
        Layer::max_pool("widest_pool", 2, 2),
        Layer::conv("block3", 192, 3, 1, 1).with_skip("widest_pool"),
        Layer::max_pool("pool", 3, 3),
        Layer::linear("out", 10),
    ];
    Graph::new(input, layers).expect("the shapes were worked out by hand and fit")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ModelId;

    #[test]
    fn built_in_models_load() {
        for name in names() {
            let model = get(name).expect("listed");
            assert_eq!(model.name(), name);
            assert_eq!(model.id(), ModelId::of(bytes(name).expect("listed")));
        }
        assert!(get("cifar11-cnn").is_none());
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
}
