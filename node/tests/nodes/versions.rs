//! Rules that change at a height, and nodes that were not told.

use ocelli_consensus::Network;
use ocelli_consensus::schedule::{Schedule, ScheduledVersion, TEST_VERSION};
use ocelli_protocol::message::NextRules;

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

#[test]
fn what_comes_next_is_said() {
    let node = TestNode::start(&told(), &[], None);
    let rules = node.status().rules;
    assert_eq!((rules.version, rules.next), (1, Some(NextRules { height: CHANGE, version: TEST_VERSION })));
}
