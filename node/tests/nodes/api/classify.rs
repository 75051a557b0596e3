//! `/v1/classify`.

use std::path::Path;
use std::process::Command;

use ocelli_consensus::block::Classes;
use ocelli_consensus::{Address, Amount, transaction};
use ocelli_model::attachment::Form;
use ocelli_model::{Attachment, reference, zoo};
use ocelli_node::api::Config;
use serde_json::{Value, json};

use super::super::harness::{Maker, TestNode, easy_network, rich};
use super::super::http::{ask, form, get, post};
use super::orders::payer;
use super::{config, file, node, token, wait_until_ready};

const CAT: &str = "assets/cifar10/cat-0000.jpg";

/// What a model says of a file, by the reference.
fn logits(model: &str, file: &[u8]) -> Vec<i32> {
    let model = zoo::get(model).unwrap();
    let attachment = Attachment::from_file(file, model.graph().input().into()).unwrap();
    reference::logits(&model, &attachment.pixels)
}

#[test]
fn a_picture_by_curl_is_answered_with_names() {
    let node = node();
    let cat = file(CAT);
    // As `curl --data-binary` sends it.
    let headers = [("Content-Type", "application/x-www-form-urlencoded"), ("Accept", "*/*")];
    let answer = ask(node.api(), "POST", "/v1/classify?logits=1", &headers, &cat).ok();
    let model = zoo::get("cifar10-cnn").unwrap();
    let logits = logits("cifar10-cnn", &cat);
    assert_eq!(answer["label"], "cat");
    assert_eq!(answer["logits"], json!(logits));
    assert_eq!(answer["model"], json!({ "name": "cifar10-cnn", "id": model.id().to_string() }));
    let top = answer["top"].as_array().unwrap();
    assert_eq!(top.len(), 5);
    assert_eq!(top[0]["label"], "cat");
    assert_eq!(top[0]["probability"], answer["probability"]);
    for (found, index) in top.iter().zip(model.best(&logits, 5)) {
        assert_eq!((&found["index"], &found["label"]), (&json!(index), &json!(model.classes()[index])));
    }
    let picture = &answer["picture"];
    assert_eq!(picture["done"], "as_it_is");
    assert_eq!(picture["what"], "the file as it is");
    assert_eq!((&picture["width"], &picture["height"]), (&json!(32), &json!(32)));
    assert_eq!(picture["file_bytes"], cat.len());
    assert_eq!(picture["sha256"], picture["file_sha256"]);
    // Less is said unless it is asked for.
    let answer = post(node.api(), "/v1/classify?top=1&model=cifar10-resnet", &cat);
    match answer.status {
        200 => {
            let answer = answer.ok();
            assert_eq!(answer["top"].as_array().unwrap().len(), 1);
            assert_eq!(answer.get("logits"), None);
            assert_eq!(answer["model"]["name"], "cifar10-resnet");
        }
        // Where the network has one model only.
        _ => drop(answer.problem(404)),
    }
}

#[test]
fn every_format_is_told_by_its_content() {
    let node = node();
    for (folder, form) in [("png", "pixels"), ("gif", "pixels"), ("bmp", "pixels"), ("webp", "any"), ("jpeg", "any")] {
        let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../model/tests/pictures")).join(folder);
        let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for path in files.into_iter().take(3) {
            let file = std::fs::read(&path).unwrap();
            let answer = post(node.api(), "/v1/classify?logits=1", &file).ok();
            assert_eq!(answer["logits"], json!(logits("cifar10-cnn", &file)), "{}", path.display());
            assert!(form == "any" || answer["picture"]["form"] == form, "{}: {answer}", path.display());
        }
    }
}

#[test]
fn several_pictures_are_answered_in_their_order() {
    let node = node();
    let names = ["cat-0000.jpg", "dog-0001.jpg", "ship-0001.jpg"];
    let files = names.map(|name| file(&format!("assets/cifar10/{name}")));
    let parts: Vec<_> = names.iter().zip(&files).map(|(name, file)| (*name, file.as_slice())).collect();
    let (kind, body) = form(&parts);
    let headers = [("Content-Type", kind.as_str())];
    let answers = ask(node.api(), "POST", "/v1/classify", &headers, &body).ok();
    let answers = answers["answers"].as_array().unwrap();
    let found: Vec<&Value> = answers.iter().map(|answer| &answer["file"]).collect();
    assert_eq!(json!(found), json!(names));
    assert_eq!(answers[0]["label"], "cat");

    // One that is no picture is said, and nothing is run.
    let (kind, body) = form(&[("good.jpg", &files[0]), ("bad.txt", b"words"), ("cut.jpg", &files[1][..300])]);
    let problem = ask(node.api(), "POST", "/v1/classify", &[("Content-Type", &kind)], &body).problem(422);
    assert_eq!(problem["detail"], "2 of 3 pictures cannot be used");
    let causes = problem["causes"].as_array().unwrap();
    assert_eq!(causes[0], "bad.txt: not a picture: expected PNG, JPEG, WebP, GIF or BMP");
    assert!(causes[1].as_str().unwrap().starts_with("cut.jpg: "), "{problem}");
}

#[test]
fn what_cannot_be_answered_says_what_was_found_and_what_to_try() {
    let node = node();
    let cat = file(CAT);
    let ask = |path: &str, body: &[u8]| post(node.api(), path, body);
    for (path, body, status, detail) in [
        ("/v1/classify", &b""[..], 400, "the file is empty"),
        ("/v1/classify", b"words", 415, "not a picture: expected PNG, JPEG, WebP, GIF or BMP"),
        ("/v1/classify", &cat[..300], 422, "truncated"),
        ("/v1/classify?model=resnet-1000", &cat, 404, "found no model `resnet-1000`, expected cifar10-cnn"),
        (
            "/v1/classify?modle=cifar10-cnn",
            &cat,
            400,
            "unknown field `modle`, expected one of `model`, `top`, `logits`",
        ),
        ("/v1/classify?top=many", &cat, 400, "invalid digit"),
        ("/v1/classify?logits=yes", &cat, 400, "found \"yes\", expected 1 or 0"),
        ("/v1/classfiy", &cat, 404, "found no /v1/classfiy"),
    ] {
        let problem = ask(path, body).problem(status);
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{path}: {problem}");
    }
    let problem = get(node.api(), "/v1/classify").problem(405);
    assert_eq!(problem["detail"], "/v1/classify does not take GET");
    // Small as a file and large as a picture: a BMP whose header says so.
    let mut bomb = b"BM".to_vec();
    bomb.extend(
        [54 + 3072, 0, 54, 40, 20_000, 20_000, 1 + (24 << 16), 0, 3072, 0, 0, 0, 0].map(u32::to_le_bytes).concat(),
    );
    bomb.resize(54 + 3072, 7);
    let problem = ask("/v1/classify", &bomb).problem(413);
    assert_eq!(problem["detail"], "the picture is too large: 20000x20000 pixels");
    // The node goes on.
    assert_eq!(ask("/v1/classify", &cat).ok()["label"], "cat");
}

#[test]
fn a_free_answer_is_what_is_paid_for() {
    let network = easy_network();
    let (node, maker) = (node(), Maker::new(&network));
    let model = zoo::get("cifar10-cnn").unwrap();
    let files = [file(CAT), file("model/picture/tests/vectors/good/scene_320x240.jpg"), with_comment(&file(CAT))];
    for (ahead, file) in (0..).zip(&files) {
        let free = post(node.api(), "/v1/classify?logits=1", file).ok();
        let attachment = Attachment::from_file(file, model.graph().input().into()).unwrap();
        let Form::Jpeg(sides) = attachment.form else { panic!("{attachment:?}") };
        let form = transaction::Form::Jpeg { width: sides.columns, height: sides.rows };
        let task = maker.task(ahead, form, attachment.bytes.clone());
        let paid = post(node.api(), "/v1/transactions", &task.to_bytes()).ok();
        let logits: Vec<i32> = serde_json::from_value(free["logits"].clone()).unwrap();
        assert_eq!(paid["answer"]["digest"], json!(Classes::of(&logits).digest));
        assert_eq!(paid["answer"]["best"][0]["class"], free["top"][0]["index"]);
        let picture = &free["picture"];
        assert_eq!(picture["what"], attachment.done.to_string());
        assert_eq!(picture["sha256"], hex::encode(attachment.sent_hash));
        assert_eq!(picture["bytes"], attachment.bytes.len());
    }
}

/// The same JPEG with a comment, which the network does not take.
fn with_comment(jpeg: &[u8]) -> Vec<u8> {
    [&jpeg[..2], &[0xff, 0xfe, 0, 7], b"hello", &jpeg[2..]].concat()
}

/// The client of clients/python, used where there is nothing but Python; with mypy its types are checked, and it is installed.
#[test]
fn the_python_client_is_answered() {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let run = |command: &mut Command| {
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{command:?}: {said}");
        said
    };
    let has = |code: &str| {
        let output = Command::new(&python).args(["-c", code]).output();
        output.is_ok_and(|output| output.status.success())
    };
    if !has("") {
        return;
    }
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../clients/python"));
    let work = tempfile::tempdir().unwrap();
    let [built, installed, cache] = ["built", "installed", "cache"].map(|name| work.path().join(name));
    // Found, not imported: pip and setuptools do not bear each other in one process.
    let package = if has("import importlib.util as u; assert all(map(u.find_spec, ('mypy', 'pip', 'setuptools')))") {
        run(Command::new(&python)
            .args(["-m", "mypy", "--strict", "--cache-dir"])
            .arg(cache)
            .args(["src/ocelli", "tests/test_node.py"])
            .current_dir(folder));
        // Setuptools writes where it reads.
        run(Command::new("cp").arg("-r").args([folder, &built]));
        run(Command::new(&python)
            .args(["-m", "pip", "install", "--no-build-isolation", "--no-deps", "--no-index", "--target"])
            .args([&installed, &built]));
        installed
    } else {
        folder.join("src")
    };

    let payer = Some(payer(rich(), Amount(100_000_000)));
    let node = TestNode::with_api_mining(&easy_network(), Config { payer, ..config() }, Address([1; 20]));
    wait_until_ready(&node);
    // `-S`: without the packages of this Python.
    let said = run(Command::new(&python)
        .args(["-S", "-B", "-m", "unittest", "discover", "tests"])
        .env("PYTHONPATH", &package)
        .env("OCELLI_URL", format!("http://{}", node.api()))
        .env("OCELLI_TOKEN", token(&node).strip_prefix("Bearer ").unwrap())
        .current_dir(folder));
    assert!(said.contains("OK") && !said.contains("skipped"), "{said}");
}
