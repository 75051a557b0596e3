//! The wall clock is stepped by an hour, either way and under load: nobody waits longer, nobody is blamed, nothing is lost.

use ocelli_consensus::block::Body;
use ocelli_consensus::{Address, Amount};
use ocelli_node::chain::MAX_AHEAD_SECONDS;
use ocelli_node::clock::Clock;
use ocelli_node::network::NetworkEvent;
use ocelli_protocol::message::{Request, Response, SubmitReply};

use super::harness::{Maker, RawPeer, TestNode, easy_network, mine, wait};

const HOUR: i64 = 3600;

#[test]
fn relay_sync_and_limits_go_on_while_the_wall_clock_steps() {
    let network = easy_network();
    let clocks = [Clock::system(), Clock::system()];
    let one = TestNode::with_clock(&network, &[], clocks[0].clone());
    let two = TestNode::with_clock(&network, &[one.address()], clocks[1].clone());
    wait("a line", || (one.status().peers.total() > 0 && two.status().peers.total() > 0).then_some(()));
    let mut maker = Maker::new(&network);
    let (miner, at) = RawPeer::connect(&network, &one);
    // The first step is back: what was set to be done soon must not wait for an hour. Each moves one clock alone.
    for (round, (clock, hours)) in [(0, -1), (1, -1), (0, 2), (1, 2), (0, -3), (1, 3)].into_iter().enumerate() {
        let task = maker.classify(0, round as u8);
        let txid = task.transaction.txid();
        assert!(matches!(one.submit(task.clone()), SubmitReply::Accepted { answer: Some(_) }));
        clocks[clock].step_wall(hours * HOUR);
        wait("the task to be relayed", || two.is_pending(txid).then_some(()));
        let (header, data) = maker.make(&[task]);
        miner.announce(&header, &data.body);
        let hash = header.hash();
        miner.serve("both nodes to follow", &data, hash, || {
            one.status().tip.hash == hash && two.status().tip.hash == hash
        });
        // A bucket that stood still would be empty before the last round.
        for _ in 0..700 {
            miner.handle.request(at, Request::Status.to_bytes());
            miner.until("a status", |event| match event {
                NetworkEvent::Response { result, .. } => {
                    let response = Response::from_bytes(result.as_ref().expect("an answer")).unwrap();
                    assert!(matches!(response, Response::Status(_)), "{response:?}");
                    Some(())
                }
                _ => None,
            });
        }
    }
    // Nobody was blamed for anything.
    for node in [&one, &two] {
        let list = node.peers();
        assert!(list.bans.is_empty() && list.peers.iter().all(|peer| peer.points == 0), "{list:?}");
    }
}

#[test]
fn a_held_block_is_taken_when_its_time_has_come_however_the_clock_gets_there() {
    let network = easy_network();
    let clock = Clock::system();
    let node = TestNode::with_clock(&network, &[], clock.clone());
    let (miner, _) = RawPeer::connect(&network, &node);
    let maker = Maker::new(&network);
    let mut header = maker.header(&Body::default());
    header.time = clock.unix_seconds() + MAX_AHEAD_SECONDS + 3000;
    let held = mine(header);
    miner.announce(&held, &Body::default());
    clock.step_wall(-HOUR);
    // Meanwhile the node goes on with what is not too early.
    let transfer = maker.transfer(0, Address([5; 20]), Amount(1_000_000));
    assert!(matches!(node.submit(transfer), SubmitReply::Accepted { answer: None }));
    assert_eq!(node.status().tip.height, 0);
    clock.step_wall(2 * HOUR);
    let data = maker.data(&[]);
    miner.serve_until(&data, held.hash(), || node.status().tip.hash == held.hash());
    clock.step_wall(-2 * HOUR);
    assert_eq!(node.status().tip.hash, held.hash());
}
