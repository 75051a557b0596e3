//! Models as ONNX networks, against ONNX Runtime where there is a Python with it (`scripts/test` makes one).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ocelli_consensus::block::Classes;
use ocelli_model::graph::Operation;
use ocelli_model::{Graph, Model, ModelFile, reference, sample, zoo};
use ocelli_program::model_export::WeightType;
use ocelli_train::export::to_onnx;

/// Random networks of all operators.
const NETWORKS: u64 = 300;
/// Of these so many once more, with additions of equal steps.
const PLAIN: usize = 40;
/// Pictures for each of them; for a built-in model as many as well.
const PICTURES: usize = 3;

/// The Python that `PYTHON` names, if it has these modules.
fn python(modules: &str) -> Option<PathBuf> {
    let python = PathBuf::from(std::env::var_os("PYTHON").unwrap_or("python3".into()));
    let found = Command::new(&python).args(["-c", &format!("import {modules}")]).output();
    found.is_ok_and(|output| output.status.success()).then_some(python)
}

/// Runs every network of a folder.
fn run(python: &Path, folder: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx/run.py");
    let output = Command::new(python).arg(script).arg(folder).output().expect("it was found");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Pixels of all kinds, by a seed: noise, black, white.
fn pixels(model: &Model, seed: u64) -> Vec<Vec<u8>> {
    let mut chance = sample::seeded(seed);
    let mut pictures: Vec<Vec<u8>> =
        (2..PICTURES).map(|_| (0..model.pixels()).map(|_| chance() as u8).collect()).collect();
    pictures.extend([0, 255].map(|byte| vec![byte; model.pixels()]));
    pictures
}

/// The models of the zoo, built in or not, by name.
fn zoo_files() -> Vec<(String, Model)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../zoo");
    let files = fs::read_dir(folder).expect("the zoo is there").map(|entry| entry.expect("readable").path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|e| e == "safetensors")).collect();
    files.sort();
    let load = |path: PathBuf| {
        let bytes = fs::read(&path).expect("readable");
        let model = Model::from_bytes(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path.file_stem().expect("it has a name").to_string_lossy().into_owned(), model)
    };
    files.into_iter().map(load).collect()
}

#[test]
fn models_of_the_zoo_are_small_and_say_what_they_are() {
    for (name, model) in zoo_files() {
        assert_eq!(model.name(), name);
        assert!(model.bytes().len() < 6_000_000, "{name}: {} bytes", model.bytes().len());
        assert!(model.display().card.starts_with(&format!("# {name}\n")), "{name}: {}", model.display().card);
    }
}

/// The model with each addition that it has as one of equal steps, if it has any.
fn with_plain_additions(model: &Model) -> Option<Model> {
    let graph = model.graph();
    let mut layers = graph.layers().to_vec();
    let mut count = 0;
    for layer in &mut layers {
        if let Operation::Add { multipliers, shift, .. } = &mut layer.operation {
            *multipliers = [1 << (*shift).min(20); 2];
            *shift = (*shift).min(20);
            count += 1;
        }
    }
    let parameters = (0..layers.len()).map(|layer| model.parameters(layer).clone()).collect();
    let graph = Graph::new(graph.input().clone(), layers).expect("it was one before");
    let file = ModelFile { graph, parameters, display: model.display().clone() };
    (count > 0).then(|| file.build().ok()).flatten()
}

/// Whether products of bytes are added in 32 bits.
fn adds_in_32_bits() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512vnni") || is_x86_feature_detected!("avxvnni");
    #[cfg(not(target_arch = "x86_64"))]
    return cfg!(target_arch = "aarch64");
}

#[test]
fn onnxruntime_gives_the_same_logits() {
    let Some(python) = python("numpy, onnxruntime") else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let zoo = zoo_files();
    let count = zoo.len();
    assert!(count > zoo::names().len(), "{count}");
    let random = (0..NETWORKS).map(|seed| (format!("random-{seed}"), sample::model(&mut sample::seeded(seed))));
    let plain = (0..NETWORKS).filter_map(|seed| {
        let model = with_plain_additions(&sample::model(&mut sample::seeded(seed)))?;
        Some((format!("plain-{seed}"), model))
    });
    let plain: Vec<_> = plain.take(PLAIN).collect();
    assert_eq!(plain.len(), PLAIN);
    let mut types = vec![WeightType::U8, WeightType::I8];
    types.extend(adds_in_32_bits().then_some(WeightType::I8Everywhere));
    let mut expected = Vec::new();
    for (seed, (name, model)) in zoo.into_iter().chain(plain).chain(random).enumerate() {
        let pictures = pixels(&model, seed as u64);
        let logits: Vec<i32> = pictures.iter().flat_map(|pixels| reference::logits(&model, pixels)).collect();
        for weights in types.clone() {
            let stem = folder.path().join(format!("{name}-{weights:?}"));
            fs::write(stem.with_extension("onnx"), to_onnx(&model, weights)).expect("writable");
            fs::write(stem.with_extension("in"), pictures.concat()).expect("writable");
            expected.push((stem, logits.clone()));
        }
    }
    run(&python, folder.path());
    for (stem, logits) in &expected {
        let bytes = fs::read(stem.with_extension("out")).expect("it was written");
        let found: Vec<i32> = bytes.as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect();
        // With what ONNX Runtime changes, and without.
        assert_eq!(found, [logits.as_slice(), logits].concat(), "{}", stem.display());
    }
    assert_eq!(expected.len(), types.len() * (NETWORKS as usize + PLAIN + count));
}

#[test]
fn the_ending_says_what_is_written() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = zoo::get("cifar10-cnn").expect("built in");
    let onnx = |weights| to_onnx(&model, weights);
    let rows: [(&[&str], Vec<u8>); 6] = [
        (&["a.onnx"], onnx(WeightType::I8)),
        (&["b.onnx", "--weights", "u8"], onnx(WeightType::U8)),
        (&["f.onnx", "--weights", "i8-everywhere"], onnx(WeightType::I8Everywhere)),
        (&["c.safetensors"], model.bytes().to_vec()),
        (&["d", "--format", "onnx"], onnx(WeightType::I8)),
        (&["e.onnx", "--format", "safetensors"], model.bytes().to_vec()),
    ];
    assert_ne!(rows[0].1, rows[1].1);
    for (arguments, expected) in rows {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ocelli-train"));
        command.env_clear().current_dir(folder.path()).args(["export", "cifar10-cnn", "-o"]).args(arguments);
        let output = command.output().expect("the binary was built for this test");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(fs::read(folder.path().join(arguments[0])).expect("it was written") == expected, "{arguments:?}");
    }
}

/// The example of the README: from a picture's file to what a block says of it, with others' programs.
#[test]
fn the_example_says_what_a_block_says() {
    let Some(python) = python("numpy, onnxruntime, PIL.features as f; assert f.check('libjpeg_turbo')") else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, picture) in [("cifar10-cnn", "scene_320x240.jpg"), ("person-96", "scene_375x500.jpg")] {
        let model = zoo::get(name).expect("built in");
        let [file, onnx] = ["safetensors", "onnx"].map(|ending| folder.path().join(name).with_extension(ending));
        fs::write(&file, model.bytes()).expect("writable");
        fs::write(&onnx, to_onnx(&model, WeightType::U8)).expect("writable");
        let picture = root.join("model/picture/tests/vectors/good").join(picture);
        let mut command = Command::new(&python);
        let output = command
            .arg(root.join("docs/examples/answer.py"))
            .args([&file, &onnx, &picture])
            .output()
            .expect("it was found");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

        let bytes = fs::read(&picture).expect("readable");
        let pixels = ocelli_picture::pixels(&bytes, model.graph().input().into()).expect("a JPEG that is taken");
        let logits = reference::logits(&model, &pixels);
        let Classes { best, digest } = Classes::of(&logits);
        let logits: Vec<_> = logits.iter().map(i32::to_string).collect();
        let best: Vec<_> = best.iter().map(|(class, logit)| format!("{class}:{logit}")).collect();
        let expected = format!("{}\n{}\n{digest}\n", logits.join(" "), best.join(" "));
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{name}");
    }
}
