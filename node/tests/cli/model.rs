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

/// A camera-trap researcher's first afternoon, in small.
#[test]
fn a_folder_becomes_a_table_that_goes_on() {
    let environment = Environment::new();
    let folder = environment.path("traps/night ‘1’");
    std::fs::create_dir_all(&folder).unwrap();
    for (name, seed) in [("a, b.bmp", 1), ("c \"d\".bmp", 2), ("図.bmp", 3)] {
        std::fs::rename(environment.picture("made.bmp", seed), folder.join(name)).unwrap();
    }
    std::fs::copy(picture(), folder.join("horse.jpg")).unwrap();
    std::fs::write(folder.join("torn.jpg"), b"\xff\xd8\xff\xe0").unwrap();
    std::fs::write(folder.join("notes.txt"), "not asked").unwrap();

    let run = ["model", "run", "traps", "--csv", "table.csv"];
    let first = environment.run(&run);
    assert_eq!(first.code, 1, "one cannot be used: {}", first.stderr);
    assert_eq!(first.stdout, "table.csv: 4 pictures answered\n");
    assert!(first.stderr.contains("1 of 5 pictures") && first.stderr.contains("torn.jpg"), "{}", first.stderr);

    let rows = || {
        let mut reader = csv::Reader::from_path(environment.path("table.csv")).unwrap();
        let columns = reader.headers().unwrap().clone();
        let rows = reader.records().map(|row| row.unwrap().deserialize(Some(&columns)).unwrap());
        rows.collect::<Vec<std::collections::BTreeMap<String, String>>>()
    };
    let found = rows();
    assert_eq!(found.len(), 5);
    let horse = found.iter().find(|row| row["file"].ends_with("horse.jpg")).unwrap();
    assert_eq!((horse["label"].as_str(), horse["txid"].as_str()), ("horse", ""));
    // The same answer about the same bytes as of one picture alone.
    let alone = environment.run(&["--json", "model", "run", picture().to_str().unwrap()]).ok().json();
    assert_eq!(horse["probability"].parse::<f64>().ok(), alone[0]["probability"].as_f64());
    assert_eq!(horse["label_5"], alone[0]["best"][4]["label"].as_str().unwrap());
    let torn = found.iter().find(|row| row["file"].ends_with("torn.jpg")).unwrap();
    assert!(torn["label"].is_empty() && !torn["problem"].is_empty(), "{torn:?}");

    // What has an answer is not run again; what had none is, and what has come since.
    std::fs::rename(environment.picture("made.bmp", 4), folder.join("later.bmp")).unwrap();
    std::fs::copy(picture(), folder.join("torn.jpg")).unwrap();
    let second = environment.run(&[&run[..], &["--json"]].concat()).ok().json();
    assert_eq!((second["answered"].as_u64(), second["answered_before"].as_u64()), (Some(2), Some(4)));
    assert_eq!(rows().len(), 7, "the row of the torn one stays");
    assert_eq!(environment.run(&run).ok().stdout, "table.csv: 0 pictures answered, 6 were there already\n");

    // A list on stdin and a pattern mean the same files.
    let pattern = environment.run(&["model", "run", "traps/*/*.jpg", "--csv", "table.csv"]).ok().stdout;
    assert_eq!(pattern, "table.csv: 0 pictures answered, 2 were there already\n");
    let unsure =
        environment.run(&["model", "run", "traps/*/h*.jpg", "--min-probability", "1", "--top", "1"]).ok().stdout;
    assert!(unsure.ends_with("horse.jpg: nothing so probable\n"), "{unsure}");
    assert_eq!(environment.run(&["model", "run", "traps", "--min-probability", "1.5"]).code, 2);
}
