//! `ocelli model import` and `ocelli model check` of TFLite files.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use ocelli_model::{Model, reference, sample, zoo};
use ocelli_train::runtime::RuntimeKind;
use serde_json::Value;

use super::networks::{self, AVERAGE_POOL, Maker};
use super::writer::Network;
use super::{litert, plain, read, runtime};

fn ocelli_train(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ocelli-train"));
    command.env_clear().env("HOME", folder).current_dir(folder).args(arguments);
    // A Python may need to be found by its name.
    for name in ["PATH", "PYTHON"] {
        command.envs(env::var_os(name).map(|value| (name, value)));
    }
    command.output().expect("the binary was built for this test")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("all output is UTF-8")
}

/// Runs a command that must end with a code, and gives its result and what it says.
fn run(folder: &Path, arguments: &[&str], code: i32) -> (String, String) {
    let output = ocelli_train(folder, arguments);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    (text(&output.stdout), said)
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_file_becomes_a_model() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    fs::write(folder.join("net.tflite"), plain().to_bytes()).expect("writable");
    let import = ["import", "net.tflite", "-o", "small.safetensors"];
    let (stdout, said) = run(folder, &[&import[..], &["--json"]].concat(), 0);
    assert!(said.contains("pixels of 0 to 255 are 0.0000 to 1.0000 to the network"), "{said}");
    assert!(said.contains("--classes FILE names them"), "{said}");
    let model =
        Model::from_bytes(&fs::read(folder.join("small.safetensors")).expect("it was written")).expect("a model");
    assert_eq!(json(&stdout)["id"], model.id().to_string());
    assert_eq!((model.name(), model.classes()), ("small", &["0", "1", "2", "3", "4"].map(String::from)[..]));
    assert!(model.display().card.contains("net.tflite, a TFLite file"), "{}", model.display().card);
    let expected = super::model(&read(&plain().to_bytes()));
    let picture: Vec<u8> = (0..model.pixels()).map(|at| (at * 37) as u8).collect();
    assert_eq!(reference::logits(&model, &picture), reference::logits(&expected, &picture));

    fs::write(folder.join("names"), "a\nb\nc\nd\ne\n").expect("writable");
    fs::write(folder.join("card"), "What it is.\n").expect("writable");
    run(folder, &[&import[..], &["--classes", "names", "--card", "card", "--name", "five"]].concat(), 0);
    let model =
        Model::from_bytes(&fs::read(folder.join("small.safetensors")).expect("it was written")).expect("a model");
    assert_eq!((model.name(), model.classes()[4].as_str(), &*model.display().card), ("five", "e", "What it is.\n"));
}

#[test]
fn mistakes_are_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let mut network = plain();
    network.operators[0].code = 41;
    fs::write(folder.join("sub.tflite"), network.to_bytes()).expect("writable");
    fs::write(folder.join("net.tflite"), plain().to_bytes()).expect("writable");
    fs::write(folder.join("half.tflite"), &plain().to_bytes()[..300]).expect("writable");
    fs::write(folder.join("names"), "a\nb\n").expect("writable");
    let table: [(&[&str], i32, &[&str]); 8] = [
        (
            &["import", "sub.tflite", "-o", "x"],
            1,
            &["cannot import sub.tflite", "operator 0, SUB", "hint: `docs/models.md`"],
        ),
        (&["import", "half.tflite", "-o", "x"], 1, &["cannot import half.tflite", "the file is damaged", "hint: "]),
        (&["import", "net.tflite", "-o", "x", "--classes", "names"], 1, &["found 2 classes in names, expected 5"]),
        (&["import", "net.tflite", "-o", "x", "--calibration", "y"], 2, &["found --calibration", "leave it out"]),
        (&["import", "names", "-o", "x"], 1, &["cannot import names", "hint: "]),
        (&["check", "net.tflite", "--python", "./none"], 1, &["cannot start ./none", "--python PROGRAM"]),
        (&["check", "net.tflite", "--python", "true"], 1, &["true has no LiteRT", "pip install ai-edge-litert"]),
        (&["check", "cifar10-cnn", "--with", "litert"], 1, &["cifar10-cnn is no TFLite file", "--with onnxruntime"]),
    ];
    for (arguments, code, expected) in table {
        let (stdout, said) = run(folder, arguments, code);
        assert_eq!(stdout, "", "{arguments:?}");
        for part in expected {
            assert!(said.contains(part), "{arguments:?} says {said:?}, not {part:?}");
        }
    }
}

/// A network whose halves LiteRT rounds otherwise.
fn with_an_average_pool() -> Network {
    let mut chance = sample::seeded(5);
    let mut maker = Maker { network: Network::default(), chance: &mut chance };
    let x = maker.activation([1, 4, 4, 3], 1.0 / 255.0, -128);
    maker.network.inputs = vec![x.tensor];
    let y = maker.pool(AVERAGE_POOL, &x, ([2, 2], [2, 2], networks::VALID), 0).expect("it fits");
    let flat = maker.network.activation(&[1, 12], y.scale, y.zero_point);
    let shape = maker.network.integers(&[2], &[1, 12]);
    maker.network.operator(networks::RESHAPE, &[y.tensor, shape], flat, 17, &[]);
    maker.network.outputs = vec![flat];
    maker.network
}

#[test]
fn a_file_is_checked_with_litert() {
    if litert().is_none() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    fs::write(folder.join("net.tflite"), plain().to_bytes()).expect("writable");
    let checked = json(&run(folder, &["check", "net.tflite", "--json"], 0).0);
    assert_eq!(
        (&checked["runtime"], &checked["differing"], &checked["first"]),
        (&"LiteRT".into(), &0.into(), &Value::Null)
    );
    assert_eq!(checked["logits"], checked["pictures"].as_u64().expect("a number") * 5);

    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/cifar10");
    let assets = assets.to_str().expect("the path is UTF-8");
    fs::write(folder.join("pool.tflite"), with_an_average_pool().to_bytes()).expect("writable");
    let (stdout, said) = run(folder, &["check", "pool.tflite", "--pictures", assets, "--json"], 1);
    let checked = json(&stdout);
    assert!(checked["differing"].as_u64().expect("a number") > 0, "{checked}");
    let first = &checked["first"];
    assert!(first["picture"].as_str().expect("a name").contains("cifar10"), "{first}");
    assert_eq!(
        (first["found"].as_i64().expect("a number") - first["other"].as_i64().expect("a number")).abs(),
        1,
        "{first}"
    );
    assert!(said.contains("logits differ") && said.contains("rounds halves in AVERAGE_POOL_2D"), "{said}");
    assert!(run(folder, &["check", "pool.tflite"], 1).0.contains("\nfirst: input "));
}

#[test]
fn a_model_is_checked_with_onnxruntime() {
    if runtime(RuntimeKind::OnnxRuntime).is_none() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    fs::write(folder.join("net.tflite"), plain().to_bytes()).expect("writable");
    for arguments in [&["check", "cifar10-cnn"][..], &["check", "net.tflite", "--with", "onnxruntime"]] {
        let checked = json(&run(folder, &[arguments, &["--json"]].concat(), 0).0);
        assert_eq!((&checked["runtime"], &checked["differing"]), (&"ONNX Runtime".into(), &0.into()), "{arguments:?}");
    }
}

/// The model that is built in is what its parent gives.
#[test]
fn a_built_in_model_is_as_its_parent() {
    let Some(folder) = env::var_os("OCELLI_TFLITE") else { return };
    let Ok(parent) = fs::read(Path::new(&folder).join("vww_96_int8.tflite")) else { return };
    let model = super::model(&read(&parent));
    let built_in = zoo::get("person-96").expect("built in");
    assert_eq!((built_in.graph(), built_in.logits()), (model.graph(), 2));
    assert_eq!(built_in.file().parameters, model.file().parameters);
}
