//! A node that many peers flood, with what is invalid or with what is allowed, goes on taking blocks and answering.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ocelli_consensus::parameters::StartingAccount;
use ocelli_consensus::{Address, Network};
use ocelli_protocol::message::SubmitReply;

use super::attacker::{Flood, Kind};
use super::harness::{Maker, RawPeer, TestNode, easy_network, wait};
use super::lawful::{self, ACCOUNTS, FUNDS};

/// Fewer than there are slots, so that all get in; `scripts/bench flood` has a thousand.
const ATTACKERS: usize = 50;
const MESSAGES_A_SECOND: u64 = 500;

/// A network on which the attackers have something from genesis on.
fn network() -> Network {
    let mut parameters = easy_network().parameters;
    parameters.accounts.extend(
        (0..ACCOUNTS).map(|number| StartingAccount {
            address: Address::of(&lawful::wallet(number).public_key()),
            balance: FUNDS,
        }),
    );
    parameters.accounts.sort_by_key(|account| account.address);
    Network::new(parameters, Vec::new())
}

/// Floods a node that takes five blocks meanwhile, and a task before each. How many attackers it has thrown out.
fn flooded(kinds: &'static [Kind]) -> u64 {
    let network = network();
    let node = TestNode::start(&network, &[], None);
    let (miner, _) = RawPeer::connect(&network, &node);
    let mut maker = Maker::new(&network);
    let address = node.address().parse().unwrap();
    let flood = Arc::new(Flood::new(address, network.clone(), kinds, MESSAGES_A_SECOND));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for number in 0..ATTACKERS {
        let flood = flood.clone();
        runtime.spawn(async move { flood.attack(number).await });
    }
    let is_sent = |flood: &Flood| flood.sent.iter().all(|sent| sent.load(Ordering::Relaxed) > 0);
    wait("something of each kind to be sent", || is_sent(&flood).then_some(()));
    for round in 0..5 {
        let before = flood.all_sent();
        let task = maker.classify(0, round);
        assert!(matches!(node.submit(task.clone()), SubmitReply::Accepted { .. }));
        let (header, data) = maker.make(&[task]);
        miner.announce(&header, &data.body);
        miner.serve_until(&data, header.hash(), || node.status().tip.hash == header.hash());
        wait("the flood to go on", || (flood.all_sent() > before).then_some(()));
    }
    let thrown_out = || flood.thrown_out.load(Ordering::Relaxed);
    if kinds == Kind::INVALID {
        // Those whose messages no honest program sends are thrown out.
        wait("some to be thrown out", || (thrown_out() >= 3).then_some(()));
    }
    let found = thrown_out();
    assert_eq!(miner.handle.status().peers.len(), 1, "the miner is not");
    flood.end();
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    found
}

#[test]
fn a_node_that_is_flooded_with_what_is_invalid_takes_blocks_and_answers() {
    assert!(flooded(Kind::INVALID) >= 3);
}

/// Who does what is allowed stays.
#[test]
fn a_node_that_is_flooded_with_what_is_allowed_takes_blocks_and_answers() {
    assert_eq!(flooded(Kind::ALLOWED), 0);
}
