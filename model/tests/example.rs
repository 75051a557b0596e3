//! The example that `docs/inference.md` gives: the logits it prints, and the program that prints them.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use ocelli_model::{reference, sample, zoo};

const PAGE: &str = include_str!("../../docs/inference.md");
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/run_model.py");

/// Each starts Python, which takes a tenth of a second.
const RANDOM_MODELS: u64 = 24;

/// The pixels that the page describes.
fn pixels(count: usize) -> Vec<u8> {
    (0..count).map(|i| ((7 * i * i + 31 * i + 5) % 256) as u8).collect()
}

fn line(logits: &[i32]) -> String {
    logits.iter().map(i32::to_string).collect::<Vec<_>>().join(" ")
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
    let found = Command::new(python()).args(["-c", "import numpy"]).output();
    if !found.is_ok_and(|output| output.status.success()) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let (file, image) = (folder.path().join("model"), folder.path().join("pixels"));
    let mut kinds = BTreeSet::new();
    let random = (0..RANDOM_MODELS).map(|seed| sample::model(&mut sample::seeded(seed)));
    for model in random.chain([zoo::get("cifar10-cnn").expect("built in")]) {
        std::fs::write(&file, model.bytes()).expect("written");
        std::fs::write(&image, pixels(model.pixels())).expect("written");
        let expected = line(&reference::logits(&model, &pixels(model.pixels())));
        assert_eq!(run(&file, &image), expected, "{}", model.graph().to_json());
        kinds.extend(model.graph().layers().iter().map(|layer| layer.operation.kind()));
    }
    assert_eq!(kinds.len(), 8, "{kinds:?}");
}

/// The Python that `PYTHON` names.
fn python() -> OsString {
    std::env::var_os("PYTHON").unwrap_or("python3".into())
}

fn run(model: &Path, image: &Path) -> String {
    let output = Command::new(python()).arg(SCRIPT).args([model, image]).output().expect("it was there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("digits").trim().to_owned()
}
