//! The example of the documentation: from a picture's file to what a block says of it, with others' programs.

use std::path::Path;
use std::process::Command;

use ocelli_consensus::block::Classes;
use ocelli_model::{reference, zoo};

/// Where Python lacks what the example needs there is nothing to run.
#[test]
fn pillow_and_onnx_runtime_say_what_a_block_says() {
    let python = std::env::var("PYTHON").unwrap_or("python3".into());
    let modules = "import numpy, onnx, onnxruntime, PIL.features as f, sys; sys.exit(not f.check('libjpeg_turbo'))";
    if !Command::new(&python).args(["-c", modules]).status().is_ok_and(|status| status.success()) {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = tempfile::tempdir().unwrap();
    let model = zoo::get("cifar10-cnn").unwrap();
    let file = folder.path().join("model.safetensors");
    std::fs::write(&file, model.bytes()).unwrap();
    let picture = root.join("model/picture/tests/vectors/good/scene_320x240.jpg");
    let run = Command::new(&python).arg(root.join("docs/examples/answer.py")).args([&file, &picture]).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));

    let pixels = ocelli_picture::pixels(&std::fs::read(&picture).unwrap(), model.graph().input().into()).unwrap();
    let logits = reference::logits(&model, &pixels);
    let Classes { best, digest } = Classes::of(&logits);
    let logits: Vec<_> = logits.iter().map(i32::to_string).collect();
    let best: Vec<_> = best.iter().map(|(class, logit)| format!("{class}:{logit}")).collect();
    let expected = format!("{}\n{}\n{digest}\n", logits.join(" "), best.join(" "));
    assert_eq!(String::from_utf8(run.stdout).unwrap(), expected);
}
