//! What would be sent of a picture.

use std::fs;
use std::path::{Path, PathBuf};

use ocelli_model::Shape;
use ocelli_model::picture::to_pixels;
use serde_json::json;

use crate::environment::Environment;

/// A golden file that the network takes.
fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/picture/tests/vectors/good").join(name)
}

#[test]
fn a_check_says_what_would_be_sent_and_writes_what_is_seen() {
    let environment = Environment::new();
    let path = golden("scene_320x240.jpg");
    let file = fs::read(&path).unwrap();
    let name = path.display().to_string();
    let run = environment.run(&["picture", "check", &name, "--size", "224", "-o", "seen.png"]).ok();
    assert!(run.stdout.starts_with(&format!("{name}: would be sent as the file as it is\n")), "{}", run.stdout);
    assert!(run.stdout.contains("  sent   13714 bytes, JPEG 320x240, SHA-256 "), "{}", run.stdout);
    assert!(run.stdout.ends_with("  seen   224x224, colour\n"), "{}", run.stdout);
    assert_eq!(run.stderr, "");
    let input = ocelli_picture::Input { channels: 3, height: 224, width: 224, crop: ocelli_picture::WHOLE };
    let seen =
        to_pixels(&fs::read(environment.path("seen.png")).unwrap(), Shape { channels: 3, height: 224, width: 224 });
    assert_eq!(seen.unwrap(), ocelli_picture::pixels(&file, input).unwrap());

    // With a comment behind its APP0.
    let commented = [&file[..20], &[0xFF, 0xFE, 0, 4, b'h', b'i'], &file[20..]].concat();
    let commented = environment.write("commented.jpg", commented).display().to_string();
    let told = environment.run(&["picture", "check", &commented, "--json"]).ok().json();
    assert_eq!(told["done"], "without_metadata");
    assert_eq!(told["what"], "the file without 6 bytes of metadata, its picture untouched");
    assert_eq!((&told["file_bytes"], &told["bytes"]), (&json!(13_720), &json!(13_714)));
    assert_eq!(told["input"], json!([3, 32, 32]), "the model that is used where none is named");
    assert_ne!(told["file_sha256"], told["sha256"]);
}

#[test]
fn a_check_of_what_cannot_be_sent_fails_with_a_hint() {
    let environment = Environment::new();
    let text = environment.write("notes.txt", "What is in this picture?\n").display().to_string();
    let run = environment.run(&["picture", "check", &text]);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""));
    let expected = "notes.txt cannot be sent\n  caused by: not a picture: expected PNG, JPEG, WebP, GIF or BMP\nhint: ";
    assert!(run.stderr.contains(expected), "{}", run.stderr);
    let run = environment.run(&["picture", "check", "none.jpg"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("cannot read none.jpg"), "{}", run.stderr);
    assert_eq!(environment.run(&["picture", "check", &text, "--size", "0"]).code, 2);
    assert_eq!(environment.run(&["picture", "check", &text, "--size", "9", "--model", "cifar10-cnn"]).code, 2);
}
