//! Models that a node has, or is given: listed, exported, inspected and run.

use std::path::{Path, PathBuf};

use crate::environment::Environment;

fn picture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/cifar10/horse-0000.jpg")
}

#[test]
fn the_built_in_model_is_listed_exported_inspected_and_run() {
    let environment = Environment::new();
    let json = |arguments: &[&str]| environment.run(&[&["--json", "model"], arguments].concat()).ok().json();
    let listed = json(&["list"]);
    assert_eq!(listed[0]["name"], "cifar10-cnn");
    let exported = json(&["export", "cifar10-cnn", "-o", "exported.safetensors"]);
    assert_eq!(exported["id"], listed[0]["id"]);

    let inspected = json(&["inspect", "exported.safetensors"]);
    assert_eq!(inspected["id"], listed[0]["id"]);
    // The greater of its bytes, pixels and those of a signed task, and its computing; and the base.
    let cost = inspected["cost"].as_u64().expect("a number");
    assert_eq!(inspected["weight"], 256 + (3072 + 204).max(cost / 12_288));
    let layers = inspected["layers"].as_array().expect("a list");
    let parameters: u64 = layers.iter().filter_map(|layer| layer["parameters"].as_u64()).sum();
    assert_eq!((&inspected["parameters"], parameters > 0), (&parameters.into(), true));

    let picture = picture();
    let picture = picture.to_str().expect("the path is UTF-8");
    let built_in = json(&["run", picture]);
    assert_eq!(built_in, json(&["run", picture, "--model", "exported.safetensors"]));
    assert_eq!((&built_in[0]["label"], &built_in[0]["file"]), (&"horse".into(), &picture.into()));
    assert_eq!(built_in[0]["logits"].as_array().map(Vec::len), Some(10));
    assert!(environment.run(&["model", "run", picture]).ok().stdout.contains('%'));
}

#[test]
fn mistakes_are_named() {
    let environment = Environment::new();
    environment.write("notes.txt", "no picture");
    let table: [(&[&str], &[&str]); 5] = [
        (&["run", "missing.png", "notes.txt"], &["2 of 2", "missing.png", "notes.txt: not a picture", "hint"]),
        (&["run", "notes.txt", "--model", "vgg"], &["`vgg`", "cifar10-cnn", "model list"]),
        (&["inspect", "./none.safetensors"], &["cannot read the model file ./none.safetensors"]),
        (&["inspect", "notes.txt"], &["notes.txt is not a model", "hint"]),
        (&["export", "cifar10-cnn", "-o", "no/such/folder"], &["cannot write no/such/folder"]),
    ];
    for (arguments, expected) in table {
        let run = environment.run(&[&["model"], arguments].concat());
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{arguments:?}: {}", run.stderr);
        for part in expected {
            assert!(run.stderr.contains(part), "{arguments:?} says {:?}, not {part:?}", run.stderr);
        }
    }
    assert_eq!(environment.run(&["model", "run"]).code, 2);
}
