//! Rules that change at a height, and nodes that were not told.

use ocelli_consensus::schedule::{Schedule, ScheduledVersion, TEST_VERSION};
use ocelli_consensus::{Address, CompactTarget, Network};
use ocelli_protocol::message::{BlockId, NextRules};

use super::harness::{Maker, TestNode, easy_network, wait};

/// From here on the other rules hold.
const CHANGE: u64 = 5;

/// The network as those know it who were told.
fn told() -> Network {
    let schedule = Schedule::new(vec![ScheduledVersion { height: CHANGE, version: TEST_VERSION }]).unwrap();
    Network { schedule, ..easy_network() }
}

#[test]
fn who_was_not_told_stops_says_so_bans_nobody_and_goes_on_after_its_update() {
    let mut maker = Maker::new(&told());
    for _ in 1..=12 {
        maker.make(&[]);
    }
    let tip = maker.chain.tip().hash;
    let knows = TestNode::on_folder(&told(), maker.into_folder(), &[]);
    let rules = knows.status().rules;
    assert_eq!((rules.version, rules.next, rules.update), (TEST_VERSION, None, None));

    let old = TestNode::start(&easy_network(), &[knows.address()], None);
    let update = wait("it to say that it is old", || old.status().rules.update);
    assert!(update.contains("update this node") && update.contains(&format!("height {CHANGE}")), "{update}");
    wait("the blocks that both share", || (old.status().tip.height == CHANGE - 1).then_some(()));
    let status = old.status();
    assert_eq!((status.sync.header_height, status.rules.version), (CHANGE - 1, 1));
    // Nobody is to blame, and nobody is gone.
    for node in [&old, &knows] {
        assert_eq!((node.peers().peers.len(), node.peers().bans.len()), (1, 0));
    }

    // After the update it goes on from where it was.
    let updated = TestNode::on_folder(&told(), old.into_folder(), &[knows.address()]);
    updated.wait_for_tip(tip);
    assert_eq!(updated.status().rules.update, None);
}

/// One that has a chain of its own beyond the change takes it back when it is told.
#[test]
fn a_chain_of_the_former_rules_is_taken_back() {
    let (mut old, mut new) = (Maker::new(&easy_network()), Maker::new(&told()));
    for height in 1..=8 {
        if height < CHANGE {
            let (header, data) = old.make(&[]);
            new.connect(&header, &data);
        } else {
            old.make(&[]);
            new.make(&[]);
        }
    }
    let tip = new.chain.tip().hash;
    let folder = old.into_folder();
    let knows = TestNode::on_folder(&told(), new.into_folder(), &[]);
    let updated = TestNode::on_folder(&told(), folder, &[knows.address()]);
    updated.wait_for_tip(tip);
    assert_eq!(updated.status().storage.bodies_from, 1);
}

/// Three nodes mine across the change, all of them from genesis on. One was not told of it: it mines on by the former rules until it has
/// seen more work by the others, who have two thirds of the hash rate.
#[test]
fn nodes_live_through_the_change_and_who_was_not_told_takes_up_the_chain_after_its_update() {
    let mut parameters = easy_network().parameters;
    // Four million hashes a block: whoever has more hash rate has more work.
    parameters.easiest_target = CompactTarget(0x1e03_ffff);
    let not_told = Network::new(parameters, Vec::new());
    let told = Network { schedule: told().schedule, ..not_told.clone() };
    let one = TestNode::start(&told, &[], Some(Address([1; 20])));
    let other = TestNode::start(&told, &[one.address()], Some(Address([2; 20])));
    let old = TestNode::start(&not_told, &[one.address(), other.address()], Some(Address([3; 20])));

    let update = wait("it to say that it is old", || old.status().rules.update);
    assert!(update.contains(&format!("rules of version {TEST_VERSION} from height {CHANGE} on")), "{update}");
    let stopped = wait("its miner to stop", || Some(old.status()).filter(|status| status.mining.hash_rate == 0));
    assert!(stopped.tip.height + 1 >= CHANGE, "{:?}", stopped.tip);
    wait("those who know to go on", || {
        let heights = [&one, &other].map(|node| node.status().tip.height);
        heights.iter().all(|height| *height > CHANGE.max(stopped.tip.height) + 2).then_some(())
    });
    for node in [&one, &other] {
        let rules = node.status().rules;
        assert_eq!((rules.version, rules.next, rules.update), (TEST_VERSION, None, None));
    }
    assert_eq!(old.status().tip, stopped.tip, "it mines no more");
    // Nobody is to blame, and nobody is gone.
    for node in [&one, &other, &old] {
        assert_eq!((node.peers().peers.len(), node.peers().bans.len()), (2, 0));
    }

    // After the update it has what both share before it has met anybody, and takes up the rest.
    let updated = TestNode::on_folder(&told, old.into_folder(), &[]);
    assert_eq!(updated.status().tip.height, CHANGE - 1);
    updated.add(&one.address());
    let hash = |node: &TestNode| node.block(BlockId::Height(CHANGE + 2)).map(|block| block.header.hash());
    wait("the chain after the change", || hash(&updated).filter(|found| Some(*found) == hash(&one)));
    let status = updated.status();
    assert_eq!((status.rules.version, status.rules.update, status.storage.bodies_from), (TEST_VERSION, None, 1));
}

#[test]
fn what_comes_next_is_said() {
    let node = TestNode::start(&told(), &[], None);
    let rules = node.status().rules;
    assert_eq!((rules.version, rules.next), (1, Some(NextRules { height: CHANGE, version: TEST_VERSION })));
}
