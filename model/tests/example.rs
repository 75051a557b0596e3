//! The example that `docs/inference.md` gives: the logits it prints, and the program that prints them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use ocelli_model::{Display, Graph, Layer, Model, ModelFile, Parameters, Shape, reference, zoo};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

const PAGE: &str = include_str!("../../docs/inference.md");
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/run_model.py");

/// The pixels that the page describes.
fn pixels(count: usize) -> Vec<u8> {
    (0..count).map(|i| ((7 * i * i + 31 * i + 5) % 256) as u8).collect()
}

fn line(logits: &[i32]) -> String {
    logits.iter().map(i32::to_string).collect::<Vec<_>>().join(" ")
}

/// All kinds of layers, with what the built-in model has none of: padding, strides, skips, sum-pools, a wide input.
fn every_kind() -> Model {
    let input = Shape { channels: 2, height: 9, width: 12 };
    let layers = vec![
        Layer::conv("conv1", 5, 3, 2, 1),
        Layer::conv("conv2", 5, 3, 1, 1).with_skip("conv1"),
        Layer::sum_pool("pool1", 2, 1, 2),
        Layer::conv("conv3", 4, 2, 1, 0),
        Layer::max_pool("pool2", 2, 1),
        Layer::linear("linear1", 7),
        Layer::linear("linear2", 7).with_skip("linear1"),
        Layer::linear("linear3", 3),
    ];
    let graph = Graph::new(input, layers).expect("the shapes fit");
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let mut parameters = Vec::new();
    for layer in 0..graph.layers().len() {
        let Some(shape) = graph.weight_shape(layer) else {
            parameters.push(Parameters::default());
            continue;
        };
        let mut numbers = |count: usize, from: i32, to: i32| -> Vec<i32> {
            (0..count).map(|_| from + (random.next_u32() % (to - from) as u32) as i32).collect()
        };
        let (weights, channels) = (shape.iter().product(), shape[0]);
        parameters.push(Parameters {
            weight: numbers(weights, -60, 61).into_iter().map(|weight| weight as i8).collect(),
            bias: numbers(channels, -900, 900),
            shift: if graph.is_last(layer) {
                Vec::new()
            } else {
                numbers(channels, 5, 8).into_iter().map(|shift| shift as u8).collect()
            },
            multiplier: if graph.skip(layer).is_some() {
                numbers(channels, 0, 60).into_iter().map(|multiplier| multiplier as i16).collect()
            } else {
                Vec::new()
            },
        });
    }
    ModelFile { graph, parameters, display: Display::numbered(3) }.build().expect("small sums pass the proof")
}

#[test]
fn the_page_has_the_logits_of_the_reference() {
    let model = zoo::get("cifar10-cnn").expect("built in");
    let logits = reference::logits(&model, &pixels(model.pixels()));
    let line = format!("\n    {}\n", line(&logits));
    assert!(PAGE.contains(&line), "docs/inference.md lacks the line {line:?}");
    let label = format!("the label is {0}, `{1}`", model.label(&logits), model.classes()[model.label(&logits)]);
    assert!(PAGE.contains(&label), "docs/inference.md lacks {label:?}");
}

/// Where Python lacks numpy there is nothing to run; the page's numbers are checked by the test above in any case.
#[test]
fn the_script_prints_the_logits_of_the_reference() {
    let found = Command::new("python3").args(["-c", "import numpy"]).output();
    if !found.is_ok_and(|output| output.status.success()) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    for model in [zoo::get("cifar10-cnn").expect("built in"), every_kind()] {
        let (file, image) = (folder.path().join("model"), folder.path().join("pixels"));
        std::fs::write(&file, model.bytes()).expect("written");
        let mut seen = BTreeSet::new();
        for scale in [1, 3, 5] {
            let pixels: Vec<u8> = pixels(model.pixels()).into_iter().map(|pixel| pixel.wrapping_mul(scale)).collect();
            std::fs::write(&image, &pixels).expect("written");
            let expected = line(&reference::logits(&model, &pixels));
            assert_eq!(run(&file, &image), expected, "{}", model.graph().to_json());
            seen.insert(expected);
        }
        assert_eq!(seen.len(), 3, "the logits depend on the image");
    }
}

fn run(model: &Path, image: &Path) -> String {
    let output = Command::new("python3").arg(SCRIPT).args([model, image]).output().expect("python3 was there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("digits").trim().to_owned()
}
