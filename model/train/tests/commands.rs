//! The way of a model through the command line: train, quantise, evaluate and import.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ocelli_model::picture::to_pixels;
use ocelli_model::{Model, reference};
use serde_json::Value;

#[path = "../../../node/tests/cli/numbers.rs"]
mod numbers;

/// A small network for two classes of CIFAR-10.
const GRAPH: &str = r#"
version = 2
input = { channels = 3, height = 32, width = 32 }
[[layers]]
name = "conv"
kind = "conv"
channels = 4
kernel = 5
stride = 3
[[layers]]
name = "pool"
kind = "max_pool"
kernel = 2
stride = 2
[[layers]]
name = "out"
kind = "linear"
channels = 2
"#;

/// A residual block before the last layer of it.
const BLOCK: &str = r#"
[[layers]]
name = "branch"
kind = "conv"
channels = 4
kernel = 3
padding = 1
zero_point = 128
high = 255
[[layers]]
name = "block"
kind = "add"
from = ["branch", "pool"]
[[layers]]
name = "out""#;

/// Copies of each picture, so that some can be kept back.
const COPIES: usize = 10;

fn assets() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/cifar10")
}

fn ocelli_train(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ocelli-train"));
    command.env_clear().env("HOME", folder).current_dir(folder).args(arguments);
    command.output().expect("the binary was built for this test")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("all output is UTF-8")
}

/// Runs a command that must succeed, and reads its one line of JSON.
fn json(folder: &Path, arguments: &[&str]) -> Value {
    let output = ocelli_train(folder, &[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    let value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output.stdout)));
    numbers::check(&value);
    value
}

/// Runs a command that must fail, and gives what it says.
fn failure(folder: &Path, arguments: &[&str]) -> String {
    let output = ocelli_train(folder, arguments);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
    assert!(output.stdout.is_empty(), "{arguments:?}: {}", text(&output.stdout));
    said
}

fn model(path: &Path) -> Model {
    Model::from_bytes(&fs::read(path).expect("it was written")).expect("it is a model")
}

/// Class folders of copies of two pictures, and a file that is no picture.
fn data(folder: &Path) {
    for class in ["horse", "ship"] {
        let class_folder = folder.join("data/train").join(class);
        fs::create_dir_all(&class_folder).expect("writable");
        let file = fs::read_dir(assets()).expect("the repository has pictures");
        let picture = file
            .map(|entry| entry.expect("readable").path())
            .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(class)))
            .expect("there is a picture of every class");
        for copy in 0..COPIES {
            fs::copy(&picture, class_folder.join(format!("{copy}.jpg"))).expect("writable");
        }
    }
    fs::write(folder.join("data/train/ship/broken.jpg"), "no picture").expect("writable");
    fs::write(folder.join("graph.toml"), GRAPH).expect("writable");
}

#[test]
fn from_pictures_to_answers() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    data(folder);
    let train = ["train", "--data", "data", "--graph", "graph.toml", "-o", "run", "--epochs", "30", "--batch", "4"];
    let options = ["--validation", "0.2", "--learning-rate", "0.01", "--shift", "0"];
    let trained = json(folder, &[&train[..], &options[..]].concat());
    assert_eq!(trained["epochs"].as_array().map(Vec::len), Some(30));
    assert_eq!(trained["skipped"], 1);
    assert_eq!(trained["best"]["validation_accuracy"], 1.0);
    let metrics = fs::read_to_string(folder.join("run/metrics.jsonl")).expect("metrics are written");
    assert_eq!(metrics.lines().count(), 30);
    // Another training does not write over this one.
    let weights = fs::read(folder.join("run/weights.safetensors")).expect("weights are written");
    let said = failure(folder, &train);
    assert!(said.contains("found checkpoint.safetensors of another training in run"), "{said}");
    assert!(said.contains("--resume") && said.contains("--output"), "{said}");
    assert_eq!(fs::read(folder.join("run/weights.safetensors")).expect("weights are there"), weights);

    let quantized = json(folder, &["quantize", "run", "--data", "data", "-o", "tiny.safetensors"]);
    assert_eq!(quantized["report"]["integer_accuracy"], 1.0);
    assert_eq!(quantized["report"]["layers"].as_array().map(Vec::len), Some(2));

    let evaluation = json(folder, &["evaluate", "--model", "tiny.safetensors", "--data", "data"]);
    assert_eq!((&evaluation["model"], &evaluation["images"]), (&"tiny".into(), &(2 * COPIES).into()));
    assert_eq!((&evaluation["top1"], &evaluation["per_class"]["ship"]), (&1.0.into(), &1.0.into()));
    assert_eq!(evaluation["skipped"][0][0], "train/ship/broken.jpg");

    // A training may begin with a model, in its graph or in a larger one, which answers as the model does.
    let start = ["train", "--data", "data", "--start", "tiny.safetensors", "-o", "tuned", "--epochs", "1"];
    let tuned = json(folder, &[&start[..], &["--batch", "4", "--learning-rate", "0.000001", "--shift", "0"]].concat());
    assert_eq!((&tuned["recipe"]["start"], &tuned["best"]["validation_accuracy"]), (&quantized["id"], &1.0.into()));
    let grown = GRAPH.replace("[[layers]]\nname = \"out\"", BLOCK);
    fs::write(folder.join("grown.toml"), grown).expect("writable");
    let grow = ["train", "--data", "data", "--start", "tiny.safetensors", "--graph", "grown.toml", "-o", "grown"];
    let slow = ["--epochs", "1", "--batch", "4", "--learning-rate", "0.000001", "--shift", "0"];
    let grown = json(folder, &[&grow[..], &slow[..]].concat());
    assert_eq!((&grown["recipe"]["start"], &grown["best"]["validation_accuracy"]), (&quantized["id"], &1.0.into()));
    // A training that goes on has its graph and its beginning.
    assert_eq!(ocelli_train(folder, &[&start[..], &["--resume"]].concat()).status.code(), Some(2));

    let model = model(&folder.join("tiny.safetensors"));
    assert_eq!(quantized["id"], model.id().to_string());
    // 4 * 3 * 5 * 5 + 4 and 4 * 5 * 5 * 2 + 2.
    assert_eq!(model.parameter_count(), 304 + 202);

    // What the training kept back: a fifth of every class. Two drawings.
    let kept_back = ["--validation", "0.2", "--plots", "plots"];
    let evaluation =
        json(folder, &[&["evaluate", "--model", "tiny.safetensors", "--data", "data"], &kept_back[..]].concat());
    assert_eq!(evaluation["images"], 2 * COPIES / 5);
    for plot in ["confusion.svg", "mistakes.svg"] {
        let svg = fs::read_to_string(folder.join("plots").join(plot)).expect("it was drawn");
        assert!(svg.starts_with("<svg"), "{plot}");
    }

    for class in ["horse", "ship"] {
        let picture = fs::read(folder.join("data/train").join(class).join("0.jpg")).expect("it was copied");
        let pixels = to_pixels(&picture, model.input()).expect("it is a picture");
        assert_eq!(model.classes()[model.label(&reference::logits(&model, &pixels))], class);
    }
}

#[test]
fn a_network_of_pytorch_becomes_a_model() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    data(folder);
    for (class, picture) in [("cat", "cat-0000.jpg"), ("dog", "dog-0001.jpg")] {
        let class_folder = folder.join("data/train").join(class);
        fs::create_dir_all(&class_folder).expect("writable");
        for copy in 0..4 {
            fs::copy(assets().join(picture), class_folder.join(format!("{copy}.jpg")))
                .expect("there is a picture of every class");
        }
    }
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx");
    fs::copy(fixtures.join("torch_plain.onnx"), folder.join("net.onnx")).expect("it is in the repository");
    let import = ["import", "net.onnx", "--calibration", "data", "-o", "imported.safetensors"];
    let imported = json(folder, &import);
    assert_eq!(imported["report"]["layers"].as_array().map(Vec::len), Some(4));
    let model = model(&folder.join("imported.safetensors"));
    assert_eq!((imported["id"].as_str(), model.name()), (Some(&*model.id().to_string()), "imported"));
    assert_eq!(model.classes(), ["cat", "dog", "horse", "ship"]);

    let other = json(folder, &[&import[..], &["--mean", "0.5,0.5,0.4", "--std", "0.25", "--scale", "0.004"]].concat());
    assert_ne!(other["id"], imported["id"]);
    fs::write(folder.join("names"), "ship\nhorse\ndog\n").expect("writable");
    let said = failure(folder, &[&import[..], &["--classes", "names"]].concat());
    assert!(said.contains("found 3 classes in names, expected 4") && said.contains("--classes FILE"), "{said}");
    let said = failure(folder, &["import", "data/train/ship/broken.jpg", "--calibration", "data", "-o", "x"]);
    assert!(said.contains("cannot import data/train/ship/broken.jpg") && said.contains("hint: "), "{said}");
}

#[test]
fn mistakes_are_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    fs::write(folder.join("notes.txt"), "no picture").expect("writable");
    let table: [(&[&str], &[&str]); 5] = [
        (&["evaluate", "--data", "x", "--model", "vgg"], &["`vgg`", "cifar10-cnn", "model list"]),
        (&["train", "--data", "x", "-o", "run", "--start", "notes.txt"], &["notes.txt is not a model", "hint"]),
        (&["evaluate", "--data", "nowhere"], &["nowhere", "hint"]),
        (&["train", "--data", "notes.txt", "-o", "run"], &["notes.txt", "expected", "hint"]),
        (&["quantize", "nothing", "--data", "notes.txt", "-o", "x"], &["nothing/weights.safetensors", "model train"]),
    ];
    for (arguments, expected) in table {
        let said = failure(folder, arguments);
        for part in expected {
            assert!(said.contains(part), "{arguments:?} says {said:?}, not {part:?}");
        }
    }
    assert_eq!(ocelli_train(folder, &["evaluate"]).status.code(), Some(2));
}

/// Starts a training that would take long, and waits until an epoch is over.
#[cfg(unix)]
fn long_training(folder: &Path, arguments: &[&str]) -> std::process::Child {
    data(folder);
    let ocelli = env!("CARGO_BIN_EXE_ocelli-train");
    let mut command = if cfg!(target_os = "linux") {
        // Whoever runs the tests may ignore signals, which the training would then ignore, too.
        let mut command = Command::new("/usr/bin/env");
        command.args(["--default-signal=INT,HUP", ocelli]);
        command
    } else {
        Command::new(ocelli)
    };
    command.env_clear().env("HOME", folder).current_dir(folder);
    command.args(["train", "--data", "data", "--graph", "graph.toml", "-o", "run", "--json"]);
    command.args(["--epochs", "1000000", "--batch", "4", "--validation", "0.2", "--shift", "0"]).args(arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the binary was built");
    while !folder.join("run/checkpoint.safetensors").exists() {
        assert_eq!(child.try_wait().expect("it is our child"), None, "it ends too soon");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    child
}

#[cfg(unix)]
#[test]
fn signals_end_a_training_in_order() {
    use rustix::process::{Pid, Signal, kill_process};
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let folder = folder.path();
        let child = long_training(folder, &[]);
        // As `timeout` and terminals that close do; a second Ctrl-C would end it at once.
        let times = if signal == Signal::INT { 1 } else { 2 };
        for _ in 0..times {
            kill_process(Pid::from_child(&child), signal).expect("it runs");
        }
        let output = child.wait_with_output().expect("it is our child");
        assert!(output.status.success(), "{signal:?}: {}", output.status);
        let trained: Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
        assert_eq!(trained["stopped"], true, "{signal:?}");
        let epochs = trained["epochs"].as_array().map_or(0, Vec::len);
        let metrics = fs::read_to_string(folder.join("run/metrics.jsonl")).expect("metrics are written");
        assert_eq!((epochs > 0, metrics.lines().count()), (true, epochs), "{signal:?}");
        let until = (epochs + 1).to_string();
        let resumed = json(folder, &["train", "--resume", "--data", "data", "-o", "run", "--epochs", &until]);
        assert_eq!(resumed["epochs"].as_array().map(Vec::len), Some(epochs + 1), "{signal:?}");
    }
}

/// The folders of `tests/fixtures/data/folders.tar.gz`.
fn folders(folder: &Path) {
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data/folders.tar.gz");
    let unpacked = Command::new("tar").arg("xzf").arg(archive).arg("-C").arg(folder).status().expect("there is a tar");
    assert!(unpacked.success());
    let graph = |classes: usize| GRAPH.replace("channels = 2", &format!("channels = {classes}"));
    fs::write(folder.join("graph.toml"), graph(2)).expect("writable");
    fs::write(folder.join("four.toml"), graph(4)).expect("writable");
}

#[test]
fn folders_are_understood_or_refused_before_training() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    folders(folder);
    let train = |data: &str, run: &str, more: &[&str]| {
        let graph = if more.is_empty() { "graph.toml" } else { "four.toml" };
        let arguments =
            ["train", "--data", data, "--graph", graph, "-o", run, "--epochs", "1", "--shift", "0", "--json"];
        ocelli_train(folder, &[&arguments[..], more].concat())
    };
    // Parts are not mixed: 2 classes of 20 pictures are trained on, and of 5 evaluated.
    let output = train("d1-train-val", "parts", &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("note: the part train is taken, not val"), "{}", text(&output.stderr));
    json(folder, &["quantize", "parts", "--data", "d1-train-val", "-o", "parts.safetensors"]);
    let evaluated = json(folder, &["evaluate", "--model", "parts.safetensors", "--data", "d1-train-val"]);
    assert_eq!(evaluated["images"], 10);

    // Names that are taken apart, and the same composed.
    assert!(train("d2-NFD", "apart", &[]).status.success());
    json(folder, &["quantize", "apart", "--data", "d2-NFD", "-o", "apart.safetensors"]);
    assert_eq!(model(&folder.join("apart.safetensors")).classes(), ["caf\u{e9}", "th\u{e9}"]);
    for (apart, composed) in [("cafe\u{301}", "caf\u{e9}"), ("the\u{301}", "th\u{e9}")] {
        fs::rename(folder.join("d2-NFD").join(apart), folder.join("d2-NFD").join(composed)).expect("it is there");
    }
    let evaluated = json(folder, &["evaluate", "--model", "apart.safetensors", "--data", "d2-NFD"]);
    assert_eq!(evaluated["images"], 40);

    let output = train("d3-long", "long", &[]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("no model file can hold this network") && said.contains("猫") && said.contains("1 to 100 bytes"),
        "{said}"
    );
    assert!(!folder.join("long").exists(), "nothing is begun");

    let arguments = ["train", "--data", "d7-empty", "--graph", "four.toml", "-o", "empty", "--epochs", "1"];
    let said = failure(folder, &arguments);
    // The pictures of the fish are all damaged.
    assert!(said.contains("found no readable picture of bird, fish, expected some in each class folder"), "{said}");
    assert!(said.contains("--allow-empty-classes"), "{said}");
    let output = train("d7-empty", "empty", &["--allow-empty-classes"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    json(folder, &["quantize", "empty", "--data", "d7-empty", "-o", "empty.safetensors"]);
    assert_eq!(model(&folder.join("empty.safetensors")).classes(), ["bird", "cat", "dog", "fish"]);
}

/// Files like those that people reported, with what is right for each.
#[test]
fn onnx_files_of_all_kinds_are_imported() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx/cases");
    let calibration = cases.join("calibration.tar.gz").display().to_string();
    let import = |file: &str, more: &[&str]| {
        let file = cases.join(file).display().to_string();
        json(folder, &[&["import", &file, "--calibration", &calibration, "-o", "out.safetensors"][..], more].concat())
    };
    // The same network in other words, and of other weights: float and integers are right on nearly all pictures.
    let files = ["07-flatten-negative.onnx", "10-fp16-cast.onnx", "11-fp16.onnx", "ext-constants/43-constants.onnx"];
    let named = ["60-classes-bom.onnx", "24-uint8-input.onnx"];
    let names = cases.join("classes-bom.txt").display().to_string();
    for file in files.into_iter().chain(named) {
        let more = ["--classes", &names];
        let imported = import(file, if named.contains(&file) { &more } else { &[] });
        let report = &imported["report"];
        for key in ["same_labels", "float_accuracy", "integer_accuracy"] {
            assert!(report[key].as_f64() >= Some(0.9), "{file}: {key} {}", report[key]);
        }
        let bytes = file.starts_with("24");
        assert_eq!(imported["scale"], if bytes { 1.0 } else { 1.0 / 255.0 }, "{file}");
        assert_eq!(
            model(&folder.join("out.safetensors")).classes(),
            ["class0", "class1", "class2", "class3"],
            "{file}"
        );
    }
}
