//! Transactions between real nodes: announced, fetched once, and what becomes of announcers that do not serve.

use ocelli_protocol::message::{Request, Response, TransactionStatus};

use super::harness::{Maker, RawPeer, TestNode, easy_network, wait};

#[test]
fn another_announcer_is_asked_when_the_first_never_serves() {
    let network = easy_network();
    let node = TestNode::start(&network, &[], None);
    let task = Maker::new(&network).classify(0, 1);
    let arrived = || (node.transaction(task.transaction.txid()) == TransactionStatus::Pending).then_some(());
    // One takes the question and says nothing, one says that it has nothing.
    let (silent, at) = RawPeer::connect(&network, &node);
    silent.announce_transaction(at, &task);
    let (empty, at) = RawPeer::connect(&network, &node);
    empty.relay(at, &task, None);
    assert_eq!(arrived(), None);
    let (honest, at) = RawPeer::connect(&network, &node);
    honest.relay(at, &task, Some(task.clone()));
    wait("the task to arrive", arrived);
    // It passes the task on, and to those too that did not have it.
    empty.answer("the announcement", |request| {
        matches!(request, Request::Announce { ids } if ids.len() == 1).then(|| Response::Announce { noted: 1 })
    });
    assert_eq!(
        (silent.handle.status().peers.len(), empty.handle.status().peers.len()),
        (1, 1),
        "neither is banned yet"
    );
}
