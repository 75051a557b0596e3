//! Who waits for what was handed in, while the chain and the nodes do what they may: it comes into a block, or it is said why not.

use ocelli_consensus::{Address, Amount, BlockHash, Header};
use ocelli_node::client::Client;
use ocelli_node::client::confirmation::{Incidents, Tracked, TransactionState, Void};
use ocelli_node::clock::Clock;
use ocelli_protocol::message::{BlockData, Request, Response, Submission};

use super::harness::{Maker, PATIENCE, RawPeer, TestNode, blocks_of, easy_network, rich, transactions_of, wait};

/// Waits for one transaction; `between` is told of its state after each round, and of which step is next. What was said meanwhile.
fn follow(
    client: &mut Client,
    submission: &Submission,
    depth: u64,
    mut between: impl FnMut(usize, &TransactionState) -> bool,
) -> (TransactionState, Vec<String>) {
    let (mut step, mut said) = (0, Vec::new());
    let told = |tracked: &[Tracked], incidents: &Incidents| {
        said.extend(incidents.iter().map(|(incident, &count)| incident.words(count)));
        step += usize::from(between(step, &tracked[0].state));
    };
    let states = client.wait(std::slice::from_ref(submission), depth, PATIENCE, told).unwrap();
    (states[0].state.clone(), said)
}

/// Has nodes follow a peer to the last of some blocks.
fn give(peer: &RawPeer, nodes: &[&TestNode], blocks: &[(Header, BlockData)]) {
    let known: Vec<(BlockHash, &BlockData)> = blocks.iter().map(|(header, data)| (header.hash(), data)).collect();
    for (header, data) in blocks {
        peer.announce(header, &data.body);
    }
    let tip = known.last().unwrap().0;
    let headers = || blocks.iter().map(|(header, _)| header.clone()).collect();
    peer.respond_until(
        "the blocks to be taken",
        || nodes.iter().all(|node| node.status().tip.hash == tip),
        |request| match request {
            Request::Headers { .. } => Some(Response::Headers(headers())),
            Request::Blocks { hashes } => Some(blocks_of(&known, hashes)),
            Request::Transactions { block, indexes } => {
                let (_, data) = known.iter().find(|(hash, _)| hash == block)?;
                Some(transactions_of(data, indexes))
            }
            _ => None,
        },
    );
}

fn client_of(nodes: &[&TestNode]) -> Client {
    let addresses: Vec<_> = nodes.iter().map(|node| node.address()).collect();
    let mut client = Client::connect(&[easy_network()], &addresses).unwrap();
    client.await_named(&addresses).unwrap();
    assert_eq!(client.connections().len(), nodes.len());
    client
}

#[test]
fn a_block_that_is_disconnected_confirms_nothing_and_it_is_said() {
    let network = easy_network();
    let node = TestNode::start(&network, &[], None);
    let (peer, _) = RawPeer::connect(&network, &node);
    let (mut maker, mut other) = (Maker::new(&network), Maker::new(&network));
    let task = maker.classify(0, 1);
    let mut client = client_of(&[&node]);
    client.hand_in(&task).unwrap();
    let (state, said) = follow(&mut client, &task, 2, |step, state| match (step, state) {
        (0, TransactionState::Pending) => {
            give(&peer, &[&node], &[maker.make(std::slice::from_ref(&task))]);
            true
        }
        (1, TransactionState::Confirmed(confirmed)) => {
            assert_eq!((confirmed.header.height, confirmed.evidence.confirmations), (1, 1));
            let branch = [other.make(&[]), other.make(&[])];
            give(&peer, &[&node], &branch);
            true
        }
        (2, TransactionState::Pending) => {
            give(&peer, &[&node], &[other.make(std::slice::from_ref(&task)), other.make(&[])]);
            true
        }
        _ => false,
    });
    let confirmed = state.confirmed().expect("it is in a block again");
    assert_eq!((confirmed.header.height, confirmed.evidence.confirmations), (3, 2));
    let expected =
        "block 1, which had a transaction, is no longer on the chain with the most work: handed in again".to_owned();
    assert!(said.contains(&expected), "{said:?}");
}

#[test]
fn a_nonce_that_was_used_elsewhere_is_said() {
    let network = easy_network();
    let node = TestNode::start(&network, &[], None);
    let (peer, _) = RawPeer::connect(&network, &node);
    let mut maker = Maker::new(&network);
    let task = maker.classify(0, 1);
    let mut client = client_of(&[&node]);
    client.hand_in(&task).unwrap();
    let elsewhere = maker.transfer(0, Address([5; 20]), Amount(1_000_000));
    let (state, said) = follow(&mut client, &task, 1, |step, state| match (step, state) {
        (0, TransactionState::Pending) => {
            give(&peer, &[&node], &[maker.make(std::slice::from_ref(&elsewhere))]);
            true
        }
        _ => false,
    });
    assert_eq!(state, TransactionState::Void(Void::NonceUsed(0)));
    assert!(said.iter().any(|line| line.contains("has dropped a transaction (no longer possible")), "{said:?}");
    assert_eq!(state.to_string(), "too late: another transaction of its sender has its nonce, 0");
}

/// What has the nonce may be taken back, and then the transaction is possible again: who has signed it anew meanwhile pays twice.
#[test]
fn a_nonce_is_used_when_that_is_confirmed_as_often_as_is_waited_for() {
    let network = easy_network();
    for is_taken_back in [false, true] {
        let node = TestNode::start(&network, &[], None);
        let (peer, _) = RawPeer::connect(&network, &node);
        let (mut maker, mut other) = (Maker::new(&network), Maker::new(&network));
        let task = maker.classify(0, 1);
        let mut client = client_of(&[&node]);
        client.hand_in(&task).unwrap();
        let elsewhere = maker.transfer(0, Address([5; 20]), Amount(1_000_000));
        let (mut refused, height) = (0, if is_taken_back { 3 } else { 2 });
        let (state, _) = follow(&mut client, &task, 2, |step, state| match (step, state) {
            (0, TransactionState::Pending) => {
                give(&peer, &[&node], &[maker.make(std::slice::from_ref(&elsewhere))]);
                true
            }
            (1, TransactionState::Dropped { refused: Some(_), .. }) => {
                refused += 1;
                if refused < 3 {
                    return false;
                }
                match is_taken_back {
                    true => give(
                        &peer,
                        &[&node],
                        &[other.make(&[]), other.make(std::slice::from_ref(&task)), other.make(&[])],
                    ),
                    false => give(&peer, &[&node], &[maker.make(&[])]),
                }
                true
            }
            (1, TransactionState::Void(_)) => panic!("it is void after one confirmation"),
            _ => false,
        });
        assert_eq!(node.status().tip.height, height);
        match is_taken_back {
            true => assert_eq!(state.confirmed().map(|confirmed| confirmed.header.height), Some(2), "{state}"),
            false => assert_eq!(state, TransactionState::Void(Void::NonceUsed(0))),
        }
    }
}

#[test]
fn what_a_vanished_node_had_is_handed_to_another() {
    let network = easy_network();
    let (one, two) = (TestNode::start(&network, &[], None), TestNode::start(&network, &[], None));
    let mut maker = Maker::new(&network);
    let task = maker.classify(0, 1);
    let txid = task.transaction.txid();
    let mut client = client_of(&[&one, &two]);
    client.limit_receivers(1);
    client.hand_in(&task).unwrap();
    let (gone, left) = if one.is_pending(txid) { (one, two) } else { (two, one) };
    assert!(gone.is_pending(txid) && !left.is_pending(txid), "they do not know each other");
    let (peer, _) = RawPeer::connect(&network, &left);
    let mut gone = Some(gone);
    let (state, said) = follow(&mut client, &task, 1, |step, state| match (step, state) {
        (0, TransactionState::Pending) => gone.take().is_some(),
        (1, _) if left.is_pending(txid) => {
            give(&peer, &[&left], &[maker.make(std::slice::from_ref(&task))]);
            true
        }
        _ => false,
    });
    assert_eq!(state.confirmed().map(|confirmed| confirmed.header.height), Some(1));
    assert!(said.iter().any(|line| line.contains("has not passed it on to the one at ")), "{said:?}");
}

#[test]
fn clocks_that_are_hours_apart_change_nothing() {
    let network = easy_network();
    let clocks = [Clock::system(), Clock::system()];
    let fast = TestNode::with_clock(&network, &[], clocks[0].clone());
    let slow = TestNode::with_clock(&network, &[fast.address()], clocks[1].clone());
    wait("a line", || (slow.status().peers.total() > 0).then_some(()));
    clocks[0].step_wall(3600);
    clocks[1].step_wall(-3600);
    let (peer, _) = RawPeer::connect_to_all(&network, &[&fast, &slow]);
    let mut maker = Maker::new(&network);
    let task = maker.classify(0, 1);
    let mut client = client_of(&[&fast, &slow]);
    client.hand_in(&task).unwrap();
    let (state, said) = follow(&mut client, &task, 1, |step, state| match (step, state) {
        (0, TransactionState::Pending) => {
            give(&peer, &[&fast, &slow], &[maker.make(std::slice::from_ref(&task))]);
            true
        }
        _ => false,
    });
    let confirmed = state.confirmed().expect("it is in a block");
    assert_eq!((confirmed.header.height, confirmed.evidence.nodes), (1, 2));
    assert_eq!(said, Vec::<String>::new());
    let statement = client.statement(Address::of(&rich().public_key()), 0).unwrap();
    assert_eq!((statement.entries.len(), statement.is_checked), (1, true));
}
