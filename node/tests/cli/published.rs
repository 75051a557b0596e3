//! Models that strangers have published: listed, fetched, asked, and what publishing costs.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::environment::Environment;
use crate::real_node::Node;
use crate::scripted_node::{FEE_RATES, Lie, NOBODY, ROYALTY, Script, ScriptedNode, published};

/// Waits for what takes blocks.
fn wait(is_time: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(240);
    while !is_time() {
        assert!(Instant::now() < deadline, "no blocks come");
        std::thread::sleep(Duration::from_millis(100));
    }
}

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
    // Another may have the name: the id tells which it was.
    assert_eq!((&answer[0]["model"], &answer[0]["model_id"]), (&json!("stranger"), &json!(id)));
    let named = format!("stranger ({})", &id[..8]);
    let text = ["submit", "--wallet", "dev", "--model", "stranger", &picture];
    for more in [&[][..], &["--estimate"], &["--dry-run"]] {
        let said = environment.run(&[&text[..], more, &at].concat()).ok().stdout;
        assert!(said.contains(&named), "{more:?}: {said}");
        if !more.is_empty() {
            let said = environment.run(&[&text[..], more, &["--json"], &at].concat()).ok().json();
            assert_eq!(said["model_id"], id.as_str(), "{said}");
        }
    }
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
    let script = Script { fee_rate: FEE_RATES[0], ..Script::default() };
    let node = ScriptedNode::start(&network, 64, &[], script);
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
    assert_eq!((&json["checked"], &json["nodes"]), (&json!(true), &json!(1)));
    assert_eq!((&json["parts"], &json["bytes"]), (&json!(bytes.div_ceil(262_144)), &json!(bytes)));

    // What the network has is not published again, and what is no model not at all.
    let run = environment.run(&[&["model", "publish", "cifar10-cnn", "--royalty", "1"][..], &at].concat());
    assert!(run.code == 1 && run.stderr.contains("cannot read the model file"), "{}", run.stderr);
    environment.run(&["model", "export", "cifar10-cnn", "-o", "known"]).ok();
    let run = environment.run(&[&["model", "publish", "known", "--royalty", "1"][..], &at].concat());
    assert!(run.code == 1 && run.stderr.contains("already"), "{}", run.stderr);
}

/// From the author's file to a stranger's answer, through a node that mines a block a second; the author's program is killed twice
/// meanwhile, and the node once, and what was begun goes on.
#[test]
fn a_model_is_published_on_a_running_network_and_asked() {
    let environment = Environment::new();
    let (file, _) = environment.network();
    let text = fs::read_to_string(&file).unwrap();
    // Some blocks come at once, until the difficulty has caught up.
    let text = text.replace("spacing = 2", "spacing = 1").replace("half_life = 60", "half_life = 4");
    fs::write(&file, text).unwrap();
    let address = environment.run(&["wallet", "address", "--wallet", "dev"]).ok().stdout;
    let mining = ["--mine", address.trim()];
    let node = Node::start_on(&environment, &file, "data", &mining);
    let at = ["--network", &file, "--data", "data"];
    let json = |args: &[&str]| environment.run(&[args, &["--json"], &at].concat()).ok().json();
    environment.run(&["model", "export", "cifar10-resnet", "-o", "model"]).ok();

    let of_wallet =
        |key: &str| json(&["wallet", "balance", "--wallet", "dev"])[key].as_str().unwrap().parse::<u64>().unwrap();
    let of_node = |key: &str| json(&["status"])[key].as_u64().unwrap();
    // The miner has to have something first.
    wait(|| of_wallet("grains") >= 5_000_000_000);
    let publish = ["model", "publish", "model", "--royalty", "0.5", "--wallet", "dev"];
    let killed_when = |is_time: &dyn Fn() -> bool| {
        let mut command = environment.command(&[&publish[..], &at].concat());
        let mut author = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait(is_time);
        author.kill().unwrap();
        author.wait().unwrap();
    };
    killed_when(&|| of_wallet("nonce") == 1);
    // Parts may come eight blocks later.
    let begun = of_node("height");
    wait(|| of_node("height") >= begun + 8);
    drop(node);
    let node = Node::start_on(&environment, &file, "data", &[]);
    killed_when(&|| of_node("mempool_transactions") > 0);
    drop(node);
    let _node = Node::start_on(&environment, &file, "data", &mining);
    let published = json(&publish);
    // The upload was begun once, and its four parts and the publication are all that has followed.
    assert_eq!(of_wallet("nonce"), 6);
    let evidence = &published["evidence"];
    assert_eq!((&evidence["checked_from"], &evidence["nodes"]), (&json!(0), &json!(1)), "{published}");
    let (id, first) = (published["model"].as_str().unwrap(), published["first"].as_u64().unwrap());
    wait(|| of_node("height") + 1 >= first);
    let picture = environment.picture("picture.bmp", 7).display().to_string();
    let node = fs::read_to_string(environment.path("data/node.json")).unwrap();
    let node: serde_json::Value = serde_json::from_str(&node).unwrap();
    let peer = node["addresses"][0].as_str().unwrap();
    let asked =
        ["submit", "--network", &file, "--peer", peer, "--wallet", "dev", "--model", &id[..8], "--json", &picture];
    let answer = environment.run(&asked).ok().json();
    assert_eq!((&answer[0]["identical"], &answer[0]["model"]), (&json!(true), &json!("cifar10-resnet")));
    assert_eq!((&answer[0]["royalty"], &answer[0]["answers"]), (&json!("50000000"), &json!(1)));
    let listed = json(&["model", "list"]);
    let listed = listed.as_array().unwrap().iter().find(|model| model["id"] == id).unwrap();
    assert_eq!((&listed["name"], &listed["uses"]), (&json!("cifar10-resnet"), &json!("1")));
    environment.run(&[&["model", "fetch", id, "-o", "fetched"][..], &at].concat()).ok();
    assert_eq!(fs::read(environment.path("fetched")).unwrap(), fs::read(environment.path("model")).unwrap());
    let again =
        environment.run(&[&["model", "publish", "model", "--royalty", "1", "--wallet", "dev"][..], &at].concat());
    assert!(again.code == 1 && again.stderr.contains("already"), "{}", again.stderr);
}
