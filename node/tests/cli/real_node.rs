//! The node itself, as a process.

use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStderr, Stdio};
use std::time::{Duration, Instant};

use crate::environment::Environment;

/// Ends the process with the test.
struct Node(Child);

impl Node {
    /// Starts a node in the folder `data` and waits until it listens; also what it logs from then on.
    fn start(environment: &Environment, network: &str) -> (Self, Lines<BufReader<ChildStderr>>) {
        let mut child = environment
            .command(&["node", "--network", network, "--data", "data", "--device", "cpu", "--no-mdns"])
            .args(["--listen", "/ip4/127.0.0.1/tcp/0"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let node = Self(child);
        assert!(log.any(|line| line.unwrap().contains("listening")), "the node says when it listens");
        (node, log)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_node_outlives_its_terminal() {
    let environment = Environment::new();
    let (mut node, log) = Node::start(&environment, "local");
    // From here on whatever the node logs, such as who connects, goes nowhere.
    drop(log);
    wait_for(&environment);
    for _ in 0..3 {
        environment.run(&["status", "--data", "data"]).ok();
    }
    assert_eq!(node.0.try_wait().unwrap(), None, "the node still runs");
}

#[test]
fn a_slow_clock_is_said() {
    let environment = Environment::new();
    let (file, _) = environment.network();
    let text = std::fs::read_to_string(&file).unwrap().replace("1790000000", "500000000000");
    std::fs::write(&file, text).unwrap();
    let (_node, _log) = Node::start(&environment, &file);
    wait_for(&environment);
    let status = environment.run(&["status", "--data", "data", "--network", &file, "--json"]).ok().json();
    let waits = status["waiting_for"].to_string();
    assert!(waits.contains("the clock of this machine"), "{waits}");
}

/// The node's own thread writes `node.json` right after the log has said that it listens.
fn wait_for(environment: &Environment) {
    let file = environment.path("data/node.json");
    let start = Instant::now();
    while !file.exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "the node writes node.json");
        std::thread::sleep(Duration::from_millis(10));
    }
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains("/ip4/127.0.0.1/tcp/"), "the file has the address: {text}");
}
