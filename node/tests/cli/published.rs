//! Models that strangers have published: listed, fetched, asked, and what publishing costs.

use std::fs;

use serde_json::json;

use crate::environment::Environment;
use crate::scripted_node::{Lie, NOBODY, ROYALTY, Script, ScriptedNode, published};

#[test]
fn a_published_model_is_listed_fetched_and_asked() {
    let environment = Environment::new();
    let (file, network) = environment.network();
    let node = ScriptedNode::start(&network, 61, &[], Script::default());
    let at = ["--network", &file, "--peer", &node.address];
    let id = published().id().to_string();

    let listed = environment.run(&[&["model", "list"][..], &at].concat()).ok().stdout;
    let line = listed.lines().find(|line| line.contains("stranger")).unwrap();
    assert!(line.starts_with(&id[..8]) && line.contains("0.00007 credits") && line.contains("3 uses"), "{line}");
    let listed = environment.run(&[&["model", "list", "--json"][..], &at].concat()).ok().json();
    let stranger = listed.as_array().unwrap().iter().find(|model| model["id"] == id.as_str()).unwrap();
    assert_eq!((&stranger["royalty"], &stranger["uses"]), (&json!("7000"), &json!("3")));
    assert_eq!(stranger["author"], NOBODY.to_text("toc"));

    for name in [&id, &id[..8], "stranger"] {
        environment.run(&[&["model", "fetch", name, "-o", "fetched"][..], &at].concat()).ok();
        assert_eq!(fs::read(environment.path("fetched")).unwrap(), published().bytes());
        fs::remove_file(environment.path("fetched")).unwrap();
    }

    let picture = environment.picture("picture.bmp", 1).display().to_string();
    let asked = ["submit", "--wallet", "dev", "--json", "--model", "stranger", &picture];
    let answer = environment.run(&[&asked[..], &at].concat()).ok().json();
    assert_eq!((&answer[0]["royalty"], &answer[0]["identical"]), (&json!(ROYALTY.0.to_string()), &json!(true)));
    let shown = environment.run(&[&["chain", "tx", answer[0]["txid"].as_str().unwrap(), "--json"][..], &at].concat());
    assert_eq!(shown.ok().json()["transaction"]["action"]["model"], id.as_str());
    let none = ["submit", "--wallet", "dev", "--model", "nobodys", &picture];
    let run = environment.run(&[&none[..], &at].concat());
    assert!(run.code == 1 && run.stderr.contains("has no model nobodys"), "{}", run.stderr);
}

#[test]
fn a_file_that_is_not_the_models_is_not_written() {
    let environment = Environment::new();
    let (file, network) = environment.network();
    for (lie, seed, expected) in [
        (Lie::OtherFile, 62, "it shows the file of model"),
        (Lie::EndlessModels, 63, "that are not in the order of their ids"),
    ] {
        let node = ScriptedNode::start(&network, seed, &[], Script { lie: Some(lie), ..Script::default() });
        let at = ["--network", &file, "--peer", &node.address];
        let name = if lie == Lie::OtherFile { published().id().to_string() } else { "stranger".into() };
        let run = environment.run(&[&["model", "fetch", &name, "-o", "fetched"][..], &at].concat());
        assert!(run.code == 1 && run.stderr.contains(expected), "{lie:?}: {}", run.stderr);
        assert!(!environment.path("fetched").exists());
    }
}

#[test]
fn a_dry_run_says_what_publishing_costs_and_sends_nothing() {
    let environment = Environment::new();
    let (file, network) = environment.network();
    let node = ScriptedNode::start(&network, 64, &[], Script::default());
    let at = ["--wallet", "dev", "--network", &file, "--peer", &node.address];
    environment.run(&["model", "export", "cifar10-resnet", "-o", "model"]).ok();
    let publish = ["model", "publish", "model", "--royalty", "0.5", "--dry-run"];
    let said = environment.run(&[&publish[..], &at].concat()).ok().stdout;
    for words in ["costs ", "owes you no royalty", "pays 0.5 credits to", "nothing was sent"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let json = environment.run(&[&publish[..], &["--json"], &at].concat()).ok().json();
    let bytes = fs::metadata(environment.path("model")).unwrap().len();
    assert_eq!(json["burned"], (1_000 * (bytes + 65_536)).to_string());
    assert_eq!((&json["parts"], &json["bytes"]), (&json!(bytes.div_ceil(262_144)), &json!(bytes)));

    // What the network has is not published again, and what is no model not at all.
    let run = environment.run(&[&["model", "publish", "cifar10-cnn", "--royalty", "1"][..], &at].concat());
    assert!(run.code == 1 && run.stderr.contains("cannot read the model file"), "{}", run.stderr);
    environment.run(&["model", "export", "cifar10-cnn", "-o", "known"]).ok();
    let run = environment.run(&[&["model", "publish", "known", "--royalty", "1"][..], &at].concat());
    assert!(run.code == 1 && run.stderr.contains("already"), "{}", run.stderr);
}
