//! Writes the reference network with seeded random weights, untrained, to a file: `random_model SEED FILE`.

use std::error::Error;
use std::fs;

use ocelli_model::{Display, ModelFile, Parameters, zoo};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [seed, path] = &arguments[..] else { return Err("usage: random_model SEED FILE".into()) };
    let mut random = ChaCha8Rng::seed_from_u64(seed.parse()?);
    let graph = zoo::cifar10_cnn();
    let mut parameters = Vec::new();
    for layer in 0..graph.layers().len() {
        let Some(shape) = graph.weight_shape(layer) else {
            parameters.push(Parameters::default());
            continue;
        };
        let weight = (0..shape.iter().product()).map(|_| (random.next_u32() % 63) as i8 - 31).collect();
        let shift = if graph.is_last(layer) { Vec::new() } else { vec![9; shape[0]] };
        parameters.push(Parameters { weight, bias: vec![1 << 8; shape[0]], shift, multiplier: Vec::new() });
    }
    let display = Display {
        name: "cifar10-cnn".into(),
        classes: zoo::CIFAR10_CLASSES.map(String::from).to_vec(),
        scale: 1.0 / 4096.0,
        card: "Random weights: the graph of the reference network, untrained.".into(),
    };
    fs::write(path, ModelFile { graph, parameters, display }.build()?.bytes())?;
    Ok(())
}
