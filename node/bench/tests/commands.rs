//! `ocelli bench` as a person meets it: with nothing in its environment, in a home folder of its own.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ocelli_consensus::Address;
use ocelli_consensus::network::{DEV_WALLET_SEED, Network};
use ocelli_model::{DeviceChoice, Model, backend, reference};
use ocelli_node::clock::Clock;
use ocelli_node::inference::InferenceLimits;
use ocelli_node::network::Traversal;
use ocelli_node::node::{Addresses, Capacity, Discovery, Mining, Node, NodeConfig, Storage, models};
use ocelli_node::wallet::Wallet;
use serde_json::Value;

#[path = "../../tests/cli/numbers.rs"]
mod numbers;

fn bench(home: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ocelli-bench"));
    command.env_clear().env("HOME", home).current_dir(home).args(arguments).arg("--json").stdin(Stdio::null());
    command.output().unwrap()
}

/// Runs what must succeed; its one line of JSON keeps to what all JSON keeps to.
fn json(home: &Path, arguments: &[&str]) -> (Value, String) {
    let output = bench(home, arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    let value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"));
    numbers::check(&value);
    (value, stderr)
}

/// A node of the network `local` that mines, and where it listens.
fn miner(data: &Path) -> (Node, String) {
    let network = Network::builtin("local").unwrap();
    let (backend, _) = backend::open(DeviceChoice::Cpu).unwrap();
    let node = Node::start(NodeConfig {
        models: models(&network).unwrap(),
        files: Vec::new(),
        network,
        data: data.into(),
        addresses: Addresses { listen: vec!["/ip4/127.0.0.1/tcp/0".into()], ..Addresses::default() },
        discovery: Discovery::BootstrapOnly,
        capacity: Capacity::default(),
        traversal: Traversal::default(),
        backend,
        inference: InferenceLimits::default(),
        mining: Some(Mining { address: Address::of(&Wallet::from_seed(DEV_WALLET_SEED).public_key()), threads: 1 }),
        storage: Storage::default(),
        api: None,
        faucet: None,
        clock: Clock::system(),
    });
    let (node, begin) = (node.unwrap(), Instant::now());
    loop {
        if let Some(address) = node.addresses().into_iter().next() {
            return (node, address);
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "the node says where it listens");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_load_of_tasks_is_followed_to_its_blocks() {
    let home = tempfile::tempdir().unwrap();
    let (node, address) = miner(home.path());
    let load = ["network", "--wallet", "dev", "--seconds", "1", "--rate", "40", "--senders", "3", "--device", "cpu"];
    let (report, said) = json(home.path(), &[&load[..], &["--peer", &address]].concat());
    node.stop().unwrap();
    assert_eq!(
        (&report["nodes"], &report["same_tip"], &report["balances_add_up"]),
        (&1.into(), &true.into(), &true.into())
    );
    let submitted = report["submitted_tasks"].as_u64().unwrap();
    assert!((1..=60).contains(&submitted), "{report}");
    assert_eq!(report["confirmed_tasks"], submitted, "{report}");
    assert!(report["preliminary_ms_p50"].as_f64().unwrap() > 0.0, "{report}");
    assert!(report["confirmed_s_p50"].as_f64().unwrap() > 0.0, "{report}");
    assert!(said.contains("paying 3 senders"), "{said}");
}

#[test]
fn figures_are_json() {
    let home = tempfile::tempdir().unwrap();
    let (mining, _) = json(home.path(), &["mining", "--seconds", "1"]);
    assert!(mining["hashes_per_second"].as_u64() > Some(0), "{mining}");
    let (layers, _) = json(home.path(), &["layers", "--rounds", "1", "--kernel", "portable"]);
    let nanoseconds = |of: &str| -> u64 {
        layers[of].as_array().unwrap().iter().map(|row| row["nanoseconds"].as_u64().unwrap()).sum()
    };
    assert!(nanoseconds("steps") > 0 && nanoseconds("methods").abs_diff(nanoseconds("steps")) < 100, "{layers}");
}

/// What it writes is the model, and logits of it that the model has.
#[test]
fn networks_are_measured_and_written() {
    let home = tempfile::tempdir().unwrap();
    let arguments = ["networks", "--network", "cifar10-cnn", "--threads", "1", "--milliseconds", "1"];
    let (report, _) = json(home.path(), &[&arguments[..], &["--batch", "1", "--batch", "3"]].concat());
    let batches: Vec<_> =
        report["results"].as_array().unwrap().iter().map(|row| row["batch"].as_u64().unwrap()).collect();
    assert_eq!(batches, [1, 3], "{report}");
    json(home.path(), &[&arguments[..], &["--write", "."]].concat());
    let read = |kind: &str| std::fs::read(home.path().join(format!("cifar10-cnn.{kind}"))).unwrap();
    let model = Model::from_bytes(&read("safetensors")).unwrap();
    let pixels = read("pixels");
    let images = pixels.chunks_exact(model.pixels());
    let expected: Vec<u8> =
        images.flat_map(|image| reference::logits(&model, image)).flat_map(i32::to_le_bytes).collect();
    assert_eq!(read("logits"), expected);
}

/// Few seconds find little, but what is found was accepted and has a figure.
#[test]
fn a_search_finds_graphs() {
    let home = tempfile::tempdir().unwrap();
    let (report, _) = json(home.path(), &["weights", "--seconds", "1", "--worst", "2", "--seed", "3"]);
    let worst = report["worst"].as_array().unwrap();
    assert_eq!(worst.len(), 2, "{report}");
    for found in worst {
        assert!(found["ratio"].as_f64().unwrap() > 0.0 && found["cost"].as_u64().unwrap() > 0, "{report}");
        assert!(found["graph"].as_str().unwrap().contains("logits"), "{report}");
    }
}

#[test]
fn mistakes_are_named() {
    let home = tempfile::tempdir().unwrap();
    let refused = |arguments: &[&str]| {
        let output = bench(home.path(), arguments);
        assert!(output.stdout.is_empty(), "{arguments:?}");
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = refused(&["layers", "--model", "vgg"]);
    assert!(code == Some(1) && said.contains("vgg"), "{said}");
    // What is known of a node's errors is told here too.
    let (code, said) = refused(&["network", "--network", "local", "--wallet", "dev", "--peer", "nowhere"]);
    assert!(code == Some(2) && said.contains("`nowhere` is not a multiaddr"), "{code:?}: {said}");
}
