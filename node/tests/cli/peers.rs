//! `ocelli peers` against nodes that are processes.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::environment::Environment;
use crate::real_node::Node;
use crate::scripted_node::{Script, ScriptedNode};

const NOBODY: &str = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X";

#[test]
fn peers_are_listed_added_banned_and_let_in_again() {
    let environment = Environment::new();
    let first = Node::start_in(&environment, "first");
    let _second = Node::start_in(&environment, "second");
    let (id, address) = identity(&environment, "second");

    let run = environment.run(&["peers", "add", &address, "--data", "first"]).ok();
    assert!(run.stdout.starts_with(&format!("dialling {address}")), "{}", run.stdout);
    let list = until(&environment, "first", |list| connected(list).contains(&id));
    let peer = list["peers"].as_array().unwrap().iter().find(|peer| peer["id"] == id.as_str()).unwrap();
    assert_eq!((&peer["inbound"], &peer["light"], &peer["points"]), (&false.into(), &false.into(), &0.into()));
    assert!(peer["agent"].as_str().unwrap().starts_with("ocelli/"), "{peer}");
    let text = environment.run(&["peers", "list", "--data", "first"]).ok().stdout;
    assert!(text.contains(&format!("to    {id}")), "{text}");

    let run = environment.run(&["peers", "ban", &id, "--for", "2h", "--reason", "a test", "--data", "first"]).ok();
    assert_eq!(run.stdout, format!("banned {id} for 7200 s\n"));
    let list = until(&environment, "first", |list| !connected(list).contains(&id));
    assert_eq!((&list["bans"][0]["subject"], &list["bans"][0]["reason"]), (&id.as_str().into(), &"a test".into()));
    let left = list["bans"][0]["seconds_left"].as_u64().unwrap();
    assert!((7100..=7200).contains(&left), "{left}");
    environment.run(&["peers", "ban", "192.0.2.1", "--data", "first"]).ok();

    // A ban outlives even a node that is killed, once it is written down.
    wait(|| is_logged(&environment.path("first/chain"), &[&id, "192.0.2.1"]));
    drop(first);
    let _first = Node::start_in(&environment, "first");
    let list = until(&environment, "first", |list| list["bans"].as_array().unwrap().len() == 2);
    assert!(!connected(&list).contains(&id));

    environment.run(&["peers", "unban", "192.0.2.1", "--data", "first"]).ok();
    let run = environment.run(&["peers", "unban", &id, "--data", "first", "--json"]).ok();
    assert_eq!(run.json()["done"], format!("{id} may connect again"));
    environment.run(&["peers", "add", &address, "--data", "first"]).ok();
    until(&environment, "first", |list| connected(list).contains(&id) && list["bans"].as_array().unwrap().is_empty());
}

#[test]
fn only_the_owner_commands_a_node() {
    let environment = Environment::new();
    let _node = Node::start_in(&environment, "first");
    let (own, _) = identity(&environment, "first");
    for (args, error) in [
        (&["unban", NOBODY][..], "is not banned"),
        (&["ban", &own], "that is this node itself"),
        (&["add", "1.2.3.4:5"], "is not a multiaddr"),
    ] {
        let run = environment.run(&[&["peers"], args, &["--data", "first"]].concat());
        assert_eq!(run.code, 1, "{args:?}: {}", run.stderr);
        assert!(run.stderr.contains(error), "{args:?}: {}", run.stderr);
    }
    for args in [&["ban", "127.0.0.1"][..], &["ban", "nobody"], &["ban", NOBODY, "--for", "1w"], &["unban"]] {
        assert_eq!(environment.run(&[&["peers"], args, &["--data", "first"]].concat()).code, 2, "{args:?}");
    }

    let cookie = environment.path("first/cookie");
    std::fs::write(&cookie, "00".repeat(32)).unwrap();
    let run = environment.run(&["peers", "ban", NOBODY, "--data", "first"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("not the owner of this node"), "{}", run.stderr);
    std::fs::remove_file(&cookie).unwrap();
    // Nobody else is told who the peers are, either.
    for args in [&["ban", NOBODY][..], &["list"]] {
        let run = environment.run(&[&["peers"], args, &["--data", "first"]].concat());
        assert!(run.stderr.contains("cannot read the cookie"), "{args:?}: {}", run.stderr);
    }
}

/// Another peer answers where the node's file says that the node is.
#[test]
fn the_cookie_goes_to_the_node_of_the_file_alone() {
    let environment = Environment::new();
    let (file, network) = environment.network();
    let other = ScriptedNode::start(&network, 83, &[], Script::default());
    environment.write("cookie", "ab".repeat(32));
    let (address, own) = other.address.split_once("/p2p/").unwrap();
    let genesis = network.genesis_hash();
    environment.write(
        "node.json",
        format!(
            r#"{{"peer_id":"{NOBODY}","addresses":["{address}"],"network":"local","genesis":"{genesis}","pid":1}}"#
        ),
    );
    let data = ["--data", ".", "--network", &file];
    for args in [&["list"][..], &["unban", NOBODY]] {
        let run = environment.run(&[&["peers"], args, &data].concat());
        assert_eq!(run.code, 1, "{args:?}: {}", run.stdout);
        let expected = format!("expected {NOBODY}: the cookie is not sent");
        assert!(run.stderr.contains(own) && run.stderr.contains(&expected), "{args:?}: {}", run.stderr);
    }
    // The same peer under its own name is told.
    environment.write("node.json", other.node_file(&network));
    let list = environment.run(&[&["peers", "list", "--json"], &data[..]].concat()).ok().json();
    assert_eq!(list["known_addresses"], 1);
}

fn identity(environment: &Environment, folder: &str) -> (String, String) {
    let text = std::fs::read_to_string(environment.path(&format!("{folder}/node.json"))).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    (file["peer_id"].as_str().unwrap().into(), file["addresses"][0].as_str().unwrap().into())
}

/// Whether the store's log holds these words.
fn is_logged(store: &Path, words: &[&str]) -> bool {
    let files = std::fs::read_dir(store).unwrap().map(|file| file.unwrap().path());
    let logs: Vec<u8> = files
        .filter(|file| file.extension().is_some_and(|extension| extension == "log"))
        .flat_map(|file| std::fs::read(file).unwrap_or_default())
        .collect();
    words.iter().all(|word| logs.windows(word.len()).any(|part| part == word.as_bytes()))
}

fn connected(list: &Value) -> Vec<String> {
    list["peers"].as_array().unwrap().iter().map(|peer| peer["id"].as_str().unwrap().to_owned()).collect()
}

fn until(environment: &Environment, folder: &str, good: impl Fn(&Value) -> bool) -> Value {
    let mut list = Value::Null;
    wait(|| {
        list = environment.run(&["peers", "list", "--data", folder, "--json"]).ok().json();
        good(&list)
    });
    list
}

fn wait(mut good: impl FnMut() -> bool) {
    let start = Instant::now();
    while !good() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain");
        std::thread::sleep(Duration::from_millis(50));
    }
}
