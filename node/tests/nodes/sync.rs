//! Nodes that come late, and nodes that were killed.

use std::process::{Child, Command, Stdio};

use ocelli_consensus::{Address, Amount};
use ocelli_protocol::message::{BlockId, Request, Response};
use tempfile::TempDir;

use super::harness::{Maker, RawPeer, TestNode, easy_network, wait};

#[test]
fn a_late_node_syncs_from_genesis_and_runs_every_answer_again() {
    let network = easy_network();
    let early = TestNode::start(&network, &[], None);
    let (peer, _) = RawPeer::connect(&network, &early);
    let mut maker = Maker::new(&network);
    for number in 0..20 {
        let submissions = [maker.classify(0, number), maker.transfer(1, Address([number; 20]), Amount(1_000_000))];
        let (header, data) = maker.make(&submissions);
        peer.announce(&header, &data.body);
        peer.serve_until(&data, header.hash(), || early.status().tip.hash == header.hash());
    }
    peer.handle.shutdown();

    let late = TestNode::start(&network, &[early.address()], None);
    late.wait_for_tip(early.status().tip.hash);
    assert_eq!(late.status().tip.state_root, early.status().tip.state_root);
    for height in 0..=20 {
        assert_eq!(late.block(BlockId::Height(height)), early.block(BlockId::Height(height)));
    }
}

#[test]
fn a_restarted_node_goes_on_where_it_was() {
    let network = easy_network();
    let mut node = TestNode::start(&network, &[], Some(Address([1; 20])));
    wait("a few blocks", || (node.status().tip.height >= 3).then_some(()));
    let before = node.status();
    node.restart(&[], None);
    let after = node.status();
    assert!(after.tip.height >= before.tip.height);
    assert_eq!(after.identity.peer_id, before.identity.peer_id);
    let block = node.block(BlockId::Height(before.tip.height)).unwrap();
    assert_eq!(block.header.hash(), before.tip.hash);
}

/// A node as a process of its own, which can be killed.
struct Process(Child);

impl Process {
    fn start(folder: &TempDir, bootstrap: Option<&str>, mine: bool) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ocelli"));
        command.args(["node", "--network", "local", "--device", "cpu", "--no-mdns"]);
        command.args(["--listen", "/ip4/127.0.0.1/tcp/0", "--data"]).arg(folder.path());
        if let Some(bootstrap) = bootstrap {
            command.args(["--peer", bootstrap]);
        }
        if mine {
            command.args(["--mine", &Address([1; 20]).to_text("toc")]);
        }
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// How far it has come, as `ocelli status` says.
    fn height(folder: &TempDir) -> Option<u64> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ocelli"));
        let output = command.args(["status", "--json", "--data"]).arg(folder.path()).output().unwrap();
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        status["height"].as_u64()
    }

    /// SIGKILL: no handler runs, nothing is flushed.
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_node_killed_while_blocks_arrive_needs_no_repair_and_catches_up() {
    let network = ocelli_consensus::Network::builtin("local").unwrap();
    let miner = TestNode::start(&network, &[], Some(Address([1; 20])));
    let bootstrap = miner.address();
    let folder = TempDir::new().unwrap();
    let mut reached = 0;
    for round in 0..4 {
        let process = Process::start(&folder, Some(&bootstrap), false);
        let height = wait("the process to follow", || Process::height(&folder).filter(|height| *height > reached));
        reached = height;
        process.kill();
        wait("the miner to notice", || (miner.status().peers.total() == 0).then_some(()));
        assert!(reached >= round);
    }
    // The same folder, opened in this process: the chain is the miner's, up to a tip that it knows.
    let survivor = TestNode::on_folder(&network, folder, &[bootstrap]);
    let tip = survivor.status();
    assert!(tip.tip.height >= reached, "{} is below {reached}, which was told to a peer before", tip.tip.height);
    wait("the survivor to catch up", || {
        let (own, other) = (survivor.status(), miner.status());
        (own.tip.height >= reached + 2 && own.tip.hash == other.tip.hash).then_some(())
    });
    match survivor.ask(Request::Status) {
        Response::Status(status) => assert_eq!(status.genesis, network.genesis_hash()),
        other => panic!("{other:?}"),
    }
}
