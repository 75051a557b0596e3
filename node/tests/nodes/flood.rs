//! A node that many peers flood with what is invalid goes on taking blocks and answering.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ocelli_protocol::message::SubmitReply;

use super::attacker::Flood;
use super::harness::{Maker, RawPeer, TestNode, easy_network, wait};

/// Fewer than there are slots, so that all get in; `scripts/bench flood` has a thousand.
const ATTACKERS: usize = 50;
const MESSAGES_A_SECOND: u64 = 500;

#[test]
fn a_flooded_node_takes_blocks_and_answers() {
    let network = easy_network();
    let node = TestNode::start(&network, &[], None);
    let (miner, _) = RawPeer::connect(&network, &node);
    let mut maker = Maker::new(&network);
    let flood = Arc::new(Flood::new(node.address().parse().unwrap(), network.clone(), MESSAGES_A_SECOND));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for number in 0..ATTACKERS {
        let flood = flood.clone();
        runtime.spawn(async move { flood.attack(number).await });
    }
    let sent = |flood: &Flood| flood.sent.each_ref().map(|sent| sent.load(Ordering::Relaxed));
    wait("something of each kind to be sent", || sent(&flood).iter().all(|sent| *sent > 0).then_some(()));
    for round in 0..5 {
        let before = flood.all_sent();
        let task = maker.classify(0, round);
        assert!(matches!(node.submit(task.clone()), SubmitReply::Accepted { answer: Some(_) }));
        let (header, data) = maker.make(&[task]);
        miner.announce(&header, &data.body);
        miner.serve_until(&data, header.hash(), || node.status().tip == header.hash());
        wait("the flood to go on", || (flood.all_sent() > before).then_some(()));
    }
    // Those whose messages no honest program sends are thrown out, and the miner is not.
    wait("some to be thrown out", || (flood.thrown_out.load(Ordering::Relaxed) >= 3).then_some(()));
    assert_eq!(miner.handle.status().peers.len(), 1);
    flood.end();
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
}
