//! Import of ONNX files that PyTorch and Keras exported, against what onnxruntime answers for them. The scripts beside the
//! files wrote both.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use ocelli_model::graph::Operation;
use ocelli_model::{CandleBackend, DeviceChoice, Shape};
use ocelli_train::dataset::Dataset;
use ocelli_train::evaluate::evaluate;
use ocelli_train::onnx::{Imported, OnnxError, Preprocessing, import};
use ocelli_train::quantize::{Naming, quantize};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

fn file(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn expected() -> BTreeMap<String, Value> {
    let files = ["torch_expected.json", "keras_expected.json"];
    let read = |name| serde_json::from_slice::<BTreeMap<String, Value>>(&file(name)).expect("it is JSON");
    files.into_iter().flat_map(read).collect()
}

fn read(bytes: &[u8]) -> Result<Imported, OnnxError> {
    import(bytes, &Preprocessing::default(), &mut |name| panic!("no tensors are kept in {name}"))
}

/// The pixels of docs/inference.md, with another beginning for every picture.
fn pixels(shape: Shape, count: usize, classes: usize) -> Dataset {
    let of_one =
        |n: usize| (0..shape.elements()).map(move |i| ((7 * i * i + 31 * i + 5 + 41 * n * (i + 1)) % 256) as u8);
    let pictures = (0..count).map(|n| (n.to_string(), (n % classes) as u32, of_one(n).collect())).collect();
    Dataset::from_pixels(shape, (0..classes).map(|class| class.to_string()).collect(), pictures)
}

#[test]
fn the_float_network_gives_the_logits_of_onnxruntime() {
    let mut compared = 0;
    for (name, expected) in expected() {
        let Some(rows) = expected["logits"].as_array() else { continue };
        let rows: Vec<Vec<f64>> = serde_json::from_value(rows.clone().into()).expect("numbers");
        let imported = read(&file(&name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let shape: [usize; 3] = serde_json::from_value(expected["shape"].clone()).expect("three numbers");
        let found = imported.graph.input().shape;
        assert_eq!([found.channels, found.height, found.width], shape, "{name}");
        let data = pixels(found, rows.len(), rows[0].len());
        let network = imported.network(data.classes().to_vec()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let indexes: Vec<usize> = (0..data.len()).collect();
        let logits = network.logits(&data, &indexes);
        let mut logits: Vec<Vec<f32>> = logits.chunks(rows[0].len()).map(<[f32]>::to_vec).collect();
        let mut rows = rows;
        if expected["centred"] == true {
            // The network ends in a softmax, which leaves logits known up to what all have in common.
            rows.iter_mut().for_each(|row| centre(row));
            logits.iter_mut().for_each(|row| centre(row));
        }
        // Far below what pictures differ by.
        let spread = rows.iter().flatten().fold(0f64, |spread, logit| spread.max((logit - rows[0][0]).abs()));
        for (found, expected) in logits.iter().flatten().zip(rows.iter().flatten()) {
            assert!((f64::from(*found) - expected).abs() < 1e-4 * spread.max(1.0), "{name}: {logits:?} and {rows:?}");
        }
        assert_ne!(rows[0], rows[1], "{name}: logits depend on the picture");
        compared += 1;
    }
    assert_eq!(compared, 7);
}

fn centre<T: Copy + std::iter::Sum + std::ops::Sub<Output = T> + std::ops::Div<Output = T> + From<u8>>(row: &mut [T]) {
    let mean = row.iter().copied().sum::<T>() / T::from(row.len() as u8);
    row.iter_mut().for_each(|value| *value = *value - mean);
}

#[test]
fn layers_are_what_the_network_has_and_no_more() {
    let layers = |name: &str| -> Vec<String> {
        let graph = read(&file(name)).unwrap_or_else(|error| panic!("{name}: {error}")).graph;
        let text = |layer: &ocelli_model::Layer| match layer.operation {
            Operation::Add { .. } => format!("{} = {}", layer.name, layer.from.join(" + ")),
            _ => layer.name.clone(),
        };
        graph.layers().iter().map(text).collect()
    };
    let plain = ["half", "conv1", "pool1", "conv2", "pool2", "linear1", "linear2"];
    // Around the normalised pixels zeros are not ours, hence the first layer.
    let before = ["half", "scale1", "conv1", "conv2", "conv3", "add1 = conv3 + conv1"];
    let after = ["conv4", "conv5", "add2 = conv5 + add1", "conv6", "mean1", "linear1"];
    let residual = [&before[..], &after].concat();
    for kind in ["", "_dynamo"] {
        assert_eq!(layers(&format!("torch_plain{kind}.onnx")), plain);
        assert_eq!(layers(&format!("torch_residual{kind}.onnx")), residual);
    }
}

/// Records of a label and 64 pixels.
fn digits(name: &str) -> Dataset {
    let records = file(name);
    let pictures = records
        .chunks_exact(65)
        .zip(0..)
        .map(|(record, index)| (format!("{index:04}"), u32::from(record[0]), record[1..].to_vec()));
    let shape = Shape { channels: 1, height: 8, width: 8 };
    Dataset::from_pixels(shape, (0..10).map(|class| class.to_string()).collect(), pictures.collect())
}

#[test]
fn a_trained_network_keeps_its_accuracy_as_integers() {
    let expected = &expected()["torch_digits.onnx"];
    let number = |key: &str| expected[key].as_f64().expect("a number");
    let imported = read(&file("torch_digits.onnx")).expect("it is imported");
    let (calibration, validation) = digits("digits_calibration.bin").split(0.5, 1);
    let network = imported.network(calibration.classes().to_vec()).expect("the shapes fit");
    let (mut backend, _) = CandleBackend::open(DeviceChoice::Cpu).expect("there is a CPU");
    let naming = Naming { name: "digits".into(), card: String::new() };
    let quantized = quantize(&network, &naming, &calibration, &validation, &mut backend, &mut |_| ())
        .expect("it can be made exact");
    let unseen = digits("digits_test.bin");
    let evaluation = evaluate(&quantized.model, &mut backend, &unseen, &mut |_| ()).expect("it runs");
    assert_eq!(evaluation.images as f64, number("images"));
    let float = number("float_right") / number("images");
    assert!(float > 0.95, "{float}");
    // Half a point, as for a network that was trained here.
    assert!(evaluation.top1 > float - 0.005, "{} and {float}", evaluation.top1);
}

#[test]
fn damaged_files_are_refused_and_nothing_panics() {
    let whole = file("torch_residual.onnx");
    for length in (0..whole.len()).step_by(37) {
        assert!(read(&whole[..length]).is_err(), "{length}");
    }
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut refused = 0;
    for name in ["torch_residual.onnx", "torch_plain.onnx", "by_hand.onnx", "keras_plain.onnx"] {
        let whole = file(name);
        for _ in 0..1500 {
            let mut bytes = whole.clone();
            for _ in 0..rng.random_range(1..6) {
                let place = rng.random_range(0..bytes.len());
                bytes[place] = rng.random();
            }
            let open = &mut |_: &str| Err(std::io::ErrorKind::NotFound.into());
            refused += usize::from(import(&bytes, &Preprocessing::default(), open).is_err());
        }
    }
    assert!(refused > 300, "{refused}");
}
