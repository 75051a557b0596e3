//! A small residual network, from training to exact integers.

use ocelli_model::graph::{Graph, Operation, Shape};
use ocelli_model::{CandleBackend, DeviceChoice, Model};
use ocelli_train::dataset::Dataset;
use ocelli_train::evaluate;
use ocelli_train::quantize::{Naming, fine_tune, fine_tuning, quantize};
use ocelli_train::train::{self, Changes, Recipe, split, train};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const SHAPE: Shape = Shape { channels: 1, height: 8, width: 8 };

/// Bars on noise, which stand, lie, or lean one way or the other.
fn bars(count: usize, seed: u64) -> Dataset {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let pictures = (0..count).map(|index| {
        let (label, place) = (index % 4, rng.random_range(0..8));
        let pixels = (0..64).map(|pixel| {
            let (row, column) = (pixel / 8, pixel % 8);
            let across = match label {
                0 => row,
                1 => column,
                2 => (row + column) % 8,
                _ => (8 + row - column) % 8,
            };
            rng.random_range(0..120) + if across == place { 60 } else { 0 }
        });
        (format!("{index}"), label as u32, pixels.collect())
    });
    let pictures = pictures.collect();
    Dataset::from_pixels(SHAPE, ["lying", "standing", "rising", "falling"].map(String::from).to_vec(), pictures)
}

/// The graph that the page shows: two residual blocks, one of them over a pool's input, and an average pool instead of a large
/// linear layer.
const GRAPH: &str = include_str!("../../../docs/examples/residual.toml");

#[test]
fn a_residual_network_is_trained_and_made_exact() {
    let data = bars(1200, 1);
    let recipe = Recipe {
        epochs: 10,
        batch: 32,
        learning_rate: 5e-3,
        changes: Changes { shift: 0, flip: false, ..Changes::default() },
        batch_norm: true,
        validation: 0.2,
        ..Recipe::default()
    };
    let graph = Graph::from_text(GRAPH).expect("the shapes fit");
    let trained = train(graph, &data, &recipe).expect("it trains");
    let (calibration, validation) = split(&data, &recipe);
    let (mut backend, _) = CandleBackend::open(DeviceChoice::Cpu).expect("there is a CPU");
    let naming = Naming { name: "residual".into(), card: String::new() };
    let quantized = quantize(&trained.network, &naming, &calibration, &validation, &mut backend, &mut |_| ())
        .expect("it can be made exact");
    let adds = quantized.model.graph().layers().iter().filter(|layer| matches!(layer.operation, Operation::Add { .. }));
    assert_eq!(adds.count(), 3, "three blocks");

    let unseen = bars(400, 2);
    let float = train::evaluate(&trained.network, &unseen).expect("the shapes fit").accuracy;
    assert!(float > 0.9, "{float}");
    // Half a point of 400 pictures is two of them.
    let check = |model: &Model, backend: &mut CandleBackend| {
        let integer = evaluate::evaluate(model, backend, &unseen, &mut |_| ()).expect("it runs").top1;
        assert!(integer > float - 0.005 - 1e-9, "{float} and {integer}");
    };
    check(&quantized.model, &mut backend);

    let recipe = fine_tuning(&recipe, 2);
    let loss = quantized.report.trials.iter().map(|trial| trial.loss).fold(f64::INFINITY, f64::min);
    let tuned = fine_tune(&trained.network, quantized, &calibration, &validation, &recipe, &mut backend, &mut |_| ())
        .expect("it stays exact");
    check(&tuned.model, &mut backend);
    let epochs = &tuned.report.fine_tuning;
    assert!(epochs.len() == 2 && epochs.iter().any(|epoch| epoch.loss < loss), "{loss} and {epochs:?}");
}

#[test]
fn a_residual_network_learns_without_batch_normalisation() {
    let data = bars(1200, 1);
    // With random weights in the branches, this seed stayed at chance.
    let recipe = Recipe {
        epochs: 6,
        batch: 32,
        learning_rate: 5e-3,
        changes: Changes { shift: 0, flip: false, ..Changes::default() },
        validation: 0.2,
        seed: 2,
        ..Recipe::default()
    };
    let graph = Graph::from_text(GRAPH).expect("the shapes fit");
    let trained = train(graph, &data, &recipe).expect("it trains");
    let accuracy = train::evaluate(&trained.network, &bars(400, 2)).expect("the shapes fit").accuracy;
    assert!(accuracy > 0.6, "{accuracy}");
}
