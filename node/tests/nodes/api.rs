//! The API over real sockets.

mod chain;
mod classify;
mod description;
mod guard;
mod history;
mod inference;
mod models;
mod operations;
mod orders;
mod timeouts;

use std::time::Duration;

use ocelli_model::Backend;
use ocelli_node::api::{Config, Timeouts};

use super::harness::{TestNode, cpu, easy_network, wait};
use super::http::get;

/// On a free port of this machine.
fn config() -> Config {
    Config::at("127.0.0.1:0".parse().unwrap())
}

/// The same, where no client of a test is too slow.
fn patient() -> Config {
    let long = Duration::from_secs(3_600);
    let timeouts = Timeouts { head: long, silence: long, behind: long, unread: long, ..Timeouts::default() };
    Config { timeouts, ..config() }
}

/// A node that answers over HTTP, its device checked.
fn node() -> TestNode {
    node_with(config(), cpu())
}

fn node_with(config: Config, backend: Box<dyn Backend>) -> TestNode {
    let node = TestNode::with_api(&easy_network(), config, backend);
    wait_until_ready(&node);
    node
}

fn wait_until_ready(node: &TestNode) {
    wait("the device to be checked", || (get(node.api(), "/v2/health/ready").status == 200).then_some(()));
}

/// The token of a node.
fn token(node: &TestNode) -> String {
    let token = std::fs::read_to_string(node.folder().join(ocelli_node::api::TOKEN_FILE)).unwrap();
    format!("Bearer {}", token.trim_end())
}

/// A file of the repository.
fn file(name: &str) -> Vec<u8> {
    let path = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
