//! Import of ONNX files that PyTorch and Keras exported, against what onnxruntime answers for them. The scripts beside the
//! files wrote both.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;

use ocelli_model::graph::Operation;
use ocelli_model::{CandleBackend, DeviceChoice, ReferenceBackend, Shape};
use ocelli_train::dataset::Dataset;
use ocelli_train::evaluate::{evaluate, logits};
use ocelli_train::onnx::{OnnxError, OnnxNetwork, Preprocessing, import};
use ocelli_train::quantize::{Naming, Pictures, quantize_imported};
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

fn read(bytes: &[u8]) -> Result<OnnxNetwork, OnnxError> {
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
        let found = imported.input();
        assert_eq!([found.channels, found.height, found.width], shape, "{name}");
        let data = pixels(found, rows.len(), rows[0].len());
        let mut logits: Vec<Vec<f32>> = (0..data.len()).map(|index| imported.run(data.pixels(index))).collect();
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
        let layers = read(&file(name)).unwrap_or_else(|error| panic!("{name}: {error}")).layers();
        let text = |(name, from): (String, Vec<String>)| {
            if name.starts_with("add") { format!("{name} = {}", from.join(" + ")) } else { name }
        };
        layers.into_iter().map(text).collect()
    };
    let plain = ["conv1", "pool1", "conv2", "pool2", "linear1", "linear2"];
    let before = ["conv1", "conv2", "conv3", "add1 = conv3 + conv1", "conv4", "conv5", "add2 = add1 + conv5"];
    let residual = [&before[..], &["conv6", "mean1", "linear1"]].concat();
    for kind in ["", "_dynamo"] {
        assert_eq!(layers(&format!("torch_plain{kind}.onnx")), plain);
        assert_eq!(layers(&format!("torch_residual{kind}.onnx")), residual);
    }
}

/// What ONNX Runtime answers for quantised networks; where it computes by our rule, to the last bit.
#[test]
fn quantised_networks_keep_their_integers() {
    let expected: BTreeMap<String, Value> = serde_json::from_slice(&file("quantised_expected.json")).expect("JSON");
    assert_eq!(expected.len(), 10);
    for (name, expected) in expected {
        let rows: Vec<Vec<f64>> = serde_json::from_value(expected["logits"].clone()).expect("numbers");
        let network = read(&file(&name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!network.needs_pictures(), "{name}");
        let data = pixels(network.input(), rows.len(), rows[0].len());
        let naming = Naming { name: "net".into(), card: String::new() };
        let made = quantize_imported(
            &network.network,
            data.classes().to_vec(),
            &naming,
            256,
            None,
            &mut ReferenceBackend,
            &|_| (),
        );
        let model = made.unwrap_or_else(|error| panic!("{name}: {error:?}")).model;
        let scale = model.display().scale;
        let integers = logits(&model, &mut ReferenceBackend, &data, &mut |_| ()).expect("it runs");
        let all = || rows.iter().flatten().copied();
        let found = || integers.iter().flatten().map(|logit| f64::from(*logit) * scale);
        let steps: Vec<f64> = found().zip(all()).map(|(found, expected)| ((found - expected) / scale).abs()).collect();
        let largest = steps.iter().copied().fold(0.0, f64::max);
        // Additions, means and products differ by a step here and there, on each of its platforms in other places.
        let allowed = if expected["exact"] == true { 1e-3 } else { 4.0 };
        assert!(largest <= allowed, "{name}: {steps:?} steps of {scale}");
        // And floats are what the integers stand for.
        for (index, expected) in rows.iter().enumerate() {
            let floats = network.run(data.pixels(index));
            for (float, expected) in floats.iter().zip(expected) {
                assert!((f64::from(*float) - expected).abs() < 16.0 * scale, "{name}: {floats:?} and {expected}");
            }
        }
        let first = &rows[0];
        assert!(rows.iter().any(|row| row != first), "{name}: logits depend on the picture");
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
    let (mut backend, _) = CandleBackend::open(DeviceChoice::Cpu).expect("there is a CPU");
    let naming = Naming { name: "digits".into(), card: String::new() };
    let (classes, pictures) =
        (calibration.classes().to_vec(), Pictures { calibration: &calibration, validation: &validation });
    // Each picture once in floats, those to choose by once for each way to clip, and once for the report.
    let told = Mutex::new(Vec::new());
    let tell = |progress| told.lock().expect("nobody panics with it").push(progress);
    let quantized = quantize_imported(&imported.network, classes, &naming, 256, Some(pictures), &mut backend, &tell)
        .expect("it can be made exact");
    let total = calibration.len() + (2 + quantized.report.trials.len()) * validation.len();
    let told = told.into_inner().expect("nobody panics with it");
    assert!(told.iter().all(|progress| progress.total == total && progress.done <= total));
    assert_eq!(told.iter().map(|progress| progress.done).max(), Some(total));
    assert!(quantized.report.same_labels >= Some(0.98), "{:?}", quantized.report);
    // Two products of what convolutions read fit 16 bits.
    let graph = quantized.model.graph();
    for (index, layer) in graph.layers().iter().enumerate() {
        let source = graph.sources(index)[0];
        if let (Operation::Conv { .. } | Operation::Linear { .. }, true) = (layer.operation, source > 0) {
            assert!(quantized.model.proof().activations[source].high <= 127, "{layer:?}");
        }
    }
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
    let all = ["torch_residual.onnx", "torch_plain.onnx", "by_hand.onnx", "keras_plain.onnx", "mixed_qdq_i8.onnx"];
    for name in all.into_iter().chain(["mixed_operators_u8.onnx"]) {
        let whole = file(name);
        for _ in 0..1000 {
            let mut bytes = whole.clone();
            for _ in 0..rng.random_range(1..6) {
                let place = rng.random_range(0..bytes.len());
                bytes[place] = rng.random();
            }
            let open = &mut |_: &str| Err(std::io::ErrorKind::NotFound.into());
            let Ok(network) = import(&bytes, &Preprocessing::default(), open) else {
                refused += 1;
                continue;
            };
            // Those that need no pictures become models or are refused as well.
            let naming = Naming { name: String::new(), card: String::new() };
            let classes = (0..network.logits()).map(|class| class.to_string()).collect();
            let made = quantize_imported(&network.network, classes, &naming, 256, None, &mut ReferenceBackend, &|_| ());
            refused += usize::from(made.is_err() && !network.needs_pictures());
        }
    }
    assert!(refused > 300, "{refused}");
}
