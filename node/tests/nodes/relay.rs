//! Transactions and announcements between real nodes: each fetched once, passed on, and kept within limits.

use std::time::{Duration, Instant};

use ocelli_consensus::{Address, Amount, BlockHash};
use ocelli_node::network::Event;
use ocelli_protocol::limits::SUBMISSIONS;
use ocelli_protocol::message::{
    Announcement, ChainStatus, Request, Response, Submission, SubmitReply, TransactionStatus,
};

use super::harness::{Maker, RawPeer, TestNode, easy_network, wait};

#[test]
fn four_nodes_fetch_each_task_once() {
    let network = easy_network();
    let mut nodes = vec![TestNode::start(&network, &[], None)];
    for _ in 0..3 {
        let before = nodes.last().unwrap().address();
        nodes.push(TestNode::start(&network, &[before], None));
    }
    wait("a line at least", || nodes.iter().all(|node| !node.status().peers.is_empty()).then_some(()));
    let maker = Maker::new(&network);
    let tasks: Vec<Submission> = (0..8).map(|number| maker.classify(number, number as u8)).collect();
    for task in &tasks {
        assert!(matches!(nodes[0].submit(task.clone()), SubmitReply::Accepted { answer: Some(_) }));
    }
    for node in &nodes {
        wait("the tasks to arrive", || (node.status().mempool_transactions == 8).then_some(()));
    }
    for (at, node) in nodes.iter().enumerate() {
        let (traffic, expected) = (node.status().traffic, if at == 0 { 0 } else { 8 });
        assert_eq!((traffic.relayed, traffic.relayed_pixels), (expected, 3072 * expected), "node {at}");
    }
}

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

#[test]
fn who_floods_a_node_is_told_then_slowed_then_banned() {
    let network = easy_network();
    let node = TestNode::start(&network, &[], None);
    let transfer = Maker::new(&network).transfer(0, Address([5; 20]), Amount(1_000_000));
    let (peer, at) = RawPeer::connect(&network, &node);
    let request = Request::Submit(transfer).to_bytes();
    // As many at a time as the peer's own network takes.
    for _ in 0..100 {
        peer.handle.request(at, request.clone());
    }
    let (mut served, mut told) = (0, None);
    peer.until("the ban", |event| match event {
        Event::Response { result, .. } => {
            if let Ok(data) = result {
                match Response::from_bytes(data).unwrap() {
                    Response::Submitted(SubmitReply::Accepted { .. }) => served += 1,
                    Response::Failed { reason } => told = Some(reason),
                    other => panic!("{other:?}"),
                }
            }
            peer.handle.request(at, request.clone());
            None
        }
        Event::Disconnected { .. } => Some(()),
        _ => None,
    });
    assert!(served >= SUBMISSIONS.burst, "{served}");
    let told = told.expect("it was told");
    assert!(told.starts_with("more than 1000 submissions of a peer at once and 50 a second: ask again in"), "{told}");
    // Nobody else has noticed.
    let (other, at) = RawPeer::connect(&network, &node);
    other.handle.request(at, Request::Status.to_bytes());
    other.until("a status", |event| matches!(event, Event::Response { result: Ok(_), .. }).then_some(()));
}

/// Waits until a peer is gossiped a block.
fn until_gossiped(peer: &RawPeer, hash: BlockHash) {
    peer.until("the block's announcement", |event| is_gossip_of(event, hash).then_some(()));
}

fn is_gossip_of(event: &Event, hash: BlockHash) -> bool {
    matches!(event, Event::Gossip { data, .. }
        if Announcement::from_bytes(data).is_ok_and(|announcement| announcement.header.hash() == hash))
}

#[test]
fn a_peers_next_block_waits_until_its_last_one_is_validated() {
    let network = easy_network();
    let node = TestNode::start(&network, &[], None);
    let (peer, at) = RawPeer::connect(&network, &node);
    let (witness, _) = RawPeer::connect(&network, &node);
    let (mut maker, mut other) = (Maker::new(&network), Maker::new(&network));
    let (first, first_data) = maker.make(&[maker.classify(0, 1)]);
    let (second, second_data) = other.make(&[other.classify(0, 2)]);
    let began = Instant::now();
    peer.announce(&first, &first_data.body);
    until_gossiped(&witness, first.hash());
    // The node waits for this block's task; meanwhile the same peer has another.
    peer.announce(&second, &second_data.body);
    peer.handle.request(at, Request::Status.to_bytes());
    let token = peer.until_status_and_question(first.hash());
    // After five seconds the first block is left to sync, and the peer has its turn.
    let is_waiting = began.elapsed() < Duration::from_secs(4);
    while let Ok(event) = witness.events.try_recv() {
        assert!(!is_waiting || !is_gossip_of(&event, second.hash()), "passed on before its turn");
    }
    let task =
        Submission { transaction: first_data.body.transactions[0].0.clone(), pixels: first_data.pixels[0].clone() };
    peer.handle.respond(token, Response::Transactions(vec![task]).to_bytes());
    peer.serve_until(&first_data, first.hash(), || node.status().tip == first.hash());
    until_gossiped(&witness, second.hash());
}

#[test]
fn a_tip_that_gossip_did_not_bring_is_told() {
    let network = easy_network();
    let node = TestNode::start(&network, &[], None);
    let (witness, _) = RawPeer::connect(&network, &node);
    let (peer, at) = RawPeer::connect(&network, &node);
    let mut maker = Maker::new(&network);
    let blocks = [maker.make(&[]), maker.make(&[])];
    let tip = maker.chain.tip();
    let status = ChainStatus { genesis: network.genesis_hash(), height: 2, tip: tip.hash, work: tip.work.0 };
    // The peer tells of its tip by itself, as a node does whose gossip got lost; the node fetches what it lacks.
    peer.handle.request(at, Request::NewTip(status.clone()).to_bytes());
    serve_chain(&peer, &status, &blocks, || node.status().tip == tip.hash);
    // The witness has heard nothing by gossip, and is told; of the first block too, if that was connected by itself.
    let mut told = None;
    while told.as_ref() != Some(&status) {
        witness.answer("the new tip", |request| match request {
            Request::NewTip(new) => {
                assert!(*new == status || (told.is_none() && new.tip == blocks[0].0.hash()), "{new:?}");
                told = Some(new.clone());
                Some(Response::NewTip)
            }
            _ => None,
        });
    }
}

/// Answers as a node that has these blocks, until `done`.
fn serve_chain(
    peer: &RawPeer,
    status: &ChainStatus,
    blocks: &[(ocelli_consensus::Header, ocelli_protocol::message::BlockData)],
    mut done: impl FnMut() -> bool,
) {
    while !done() {
        let Ok(event) = peer.events.recv_timeout(Duration::from_millis(20)) else { continue };
        let Event::Request { token, data, .. } = event else { continue };
        let response = match Request::from_bytes(&data).unwrap() {
            Request::Status => Response::Status(status.clone()),
            Request::Headers { .. } => Response::Headers(blocks.iter().map(|(header, _)| header.clone()).collect()),
            Request::Blocks { hashes } => Response::Blocks(
                hashes
                    .iter()
                    .map(|hash| blocks.iter().find(|(header, _)| header.hash() == *hash).map(|(_, data)| data.clone()))
                    .collect(),
            ),
            other => Response::failed(format!("not asked in this test: {other:?}")),
        };
        peer.handle.respond(token, response.to_bytes());
    }
}
