//! Transactions and announcements between real nodes: each fetched once, passed on, and kept within limits.

use std::time::{Duration, Instant};

use ocelli_consensus::{Address, Amount, BlockHash};
use ocelli_node::network::NetworkEvent;
use ocelli_protocol::assembly::PATIENCE;
use ocelli_protocol::limits::SUBMISSIONS;
use ocelli_protocol::message::{Announcement, ChainStatus, Request, Response, Submission, SubmitReply};

use super::harness::{Maker, RawPeer, TestNode, blocks_of, easy_network, submission_of, transactions_of, wait};

#[test]
fn four_nodes_fetch_each_task_once() {
    let network = easy_network();
    let mut nodes = vec![TestNode::start(&network, &[], None)];
    for _ in 0..3 {
        let before = nodes.last().unwrap().address();
        nodes.push(TestNode::start(&network, &[before], None));
    }
    wait("a line at least", || nodes.iter().all(|node| node.status().peers.total() > 0).then_some(()));
    let maker = Maker::new(&network);
    let tasks: Vec<Submission> = (0..8).map(|number| maker.classify(number, number as u8)).collect();
    for task in &tasks {
        assert!(matches!(nodes[0].submit(task.clone()), SubmitReply::Accepted { answer: Some(_) }));
    }
    for node in &nodes {
        wait("the tasks to arrive", || (node.status().mempool.transactions == 8).then_some(()));
    }
    for (at, node) in nodes.iter().enumerate() {
        let (traffic, expected) = (node.status().traffic, if at == 0 { 0 } else { 8 });
        assert_eq!((traffic.relayed, traffic.relayed_attachments), (expected, 3072 * expected), "node {at}");
    }
}

#[test]
fn another_announcer_is_asked_when_the_first_never_serves() {
    let network = easy_network();
    let node = TestNode::start(&network, &[], None);
    let task = Maker::new(&network).classify(0, 1);
    let arrived = || node.is_pending(task.transaction.txid()).then_some(());
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
        NetworkEvent::Response { result, .. } => {
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
        NetworkEvent::Disconnected { .. } => Some(()),
        _ => None,
    });
    assert!(served >= SUBMISSIONS.burst, "{served}");
    let told = told.expect("it was told");
    assert!(told.starts_with("more than 1000 submissions of a peer at once and 50 a second: ask again in"), "{told}");
    // Nobody else has noticed.
    let (other, at) = RawPeer::connect(&network, &node);
    other.handle.request(at, Request::Status.to_bytes());
    other.until("a status", |event| matches!(event, NetworkEvent::Response { result: Ok(_), .. }).then_some(()));
}

/// Waits until a peer is gossiped a block.
fn until_gossiped(peer: &RawPeer, hash: BlockHash) {
    peer.until("the block's announcement", |event| is_gossip_of(event, hash).then_some(()));
}

fn is_gossip_of(event: &NetworkEvent, hash: BlockHash) -> bool {
    matches!(event, NetworkEvent::Gossip { data, .. }
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
    let task = submission_of(&first_data, 0);
    peer.handle.respond(token, Response::Transactions(vec![Some(task)]).to_bytes());
    peer.serve_until(&first_data, first.hash(), || node.status().tip.hash == first.hash());
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
    let status =
        ChainStatus { genesis: network.genesis_hash(), height: 2, tip: tip.hash, work: tip.work.0, next_rules: None };
    // The peer tells of its tip by itself, as a node does whose gossip got lost; the node fetches what it lacks.
    peer.handle.request(at, Request::NewTip(status.clone()).to_bytes());
    serve_chain(&peer, &status, &blocks, || node.status().tip.hash == tip.hash);
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
        let NetworkEvent::Request { token, data, .. } = event else { continue };
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

/// A neighbour that announces a task and never sends it: the block's announcer is asked, and the task not fetched again.
#[test]
fn a_block_does_not_wait_for_a_peer_that_never_answers() {
    let network = easy_network();
    let node = TestNode::start(&network, &[], None);
    let (miner, at_miner) = RawPeer::connect(&network, &node);
    let (liar, at) = RawPeer::connect(&network, &node);
    let mut maker = Maker::new(&network);
    let task = maker.classify(0, 1);
    let (header, data) = maker.make(std::slice::from_ref(&task));
    liar.announce_transaction(at, &task);
    let _open = liar.hold("the question for the task", |request| matches!(request, Request::Pending { .. }));
    miner.announce(&header, &data.body);
    miner.serve_until(&data, header.hash(), || node.status().tip.hash == header.hash());
    // Whoever announces it from now on is not asked for it.
    miner.announce_transaction(at_miner, &task);
    miner.until("the announcement to be noted", |event| match event {
        NetworkEvent::Request { data, .. } => {
            let request = Request::from_bytes(data).unwrap();
            assert!(!matches!(request, Request::Pending { .. }), "fetched once more");
            None
        }
        NetworkEvent::Response { result, .. } => result.is_ok().then_some(()),
        _ => None,
    });
    assert_eq!(node.status().traffic.relayed, 0);
}

/// Who announces a block need not have all of it, or may be silent: another peer that is as far is asked for the same, and only
/// for that.
#[test]
fn what_a_block_lacks_is_asked_of_a_second_peer() {
    for is_silent in [false, true] {
        ask_a_second_peer(is_silent);
    }
}

fn ask_a_second_peer(is_silent: bool) {
    let network = easy_network();
    let node = TestNode::start(&network, &[], None);
    let (first, _) = RawPeer::connect(&network, &node);
    let (second, at) = RawPeer::connect(&network, &node);
    let mut maker = Maker::new(&network);
    let status = |maker: &Maker| {
        let tip = maker.chain.tip();
        let genesis = network.genesis_hash();
        ChainStatus { genesis, height: tip.height, tip: tip.hash, work: tip.work.0, next_rules: None }
    };
    let old = status(&maker);
    let (header, data) = maker.make(&[maker.classify(0, 1)]);
    let old_question = second.hold("the question for a status", |request| matches!(request, Request::Status));
    let began = Instant::now();
    first.announce(&header, &data.body);
    let is_question = |request: &Request| matches!(request, Request::Transactions { .. });
    let token = first.hold("the question for what the block lacks", is_question);
    second.handle.request(at, Request::NewTip(status(&maker)).to_bytes());
    second.until("the new tip to be heard", |event| matches!(event, NetworkEvent::Response { .. }).then_some(()));
    // Otherwise the first has kept the node waiting for so long that sync may have the block.
    let in_time = began.elapsed() < Duration::from_millis(PATIENCE / 2);
    // An answer that was under way when the tip changed takes nothing back.
    second.handle.respond(old_question, Response::Status(old).to_bytes());
    second.handle.request(at, Request::Status.to_bytes());
    second.until("a later answer", |event| matches!(event, NetworkEvent::Response { .. }).then_some(()));
    if !is_silent {
        first.handle.respond(token, Response::Transactions(Vec::new()).to_bytes());
    }
    // Left to sync, it would be asked for as a whole.
    let (mut asked, tip) = (false, header.hash());
    second.respond_until(
        "the block",
        || node.status().tip.hash == tip,
        |request| match request {
            Request::Transactions { indexes, .. } => {
                assert_eq!(*indexes, [0]);
                asked = true;
                Some(transactions_of(&data, indexes))
            }
            Request::Blocks { hashes } => Some(blocks_of(&[(tip, &data)], hashes)),
            other => Some(Response::failed(format!("not asked in this test: {other:?}"))),
        },
    );
    assert!(asked || !in_time, "asked for the whole block");
}

/// Two miners find a block at the same time, both with the same task: it is asked for with the first of them only.
#[test]
fn blocks_that_compete_bring_a_task_once() {
    let network = easy_network();
    let node = TestNode::start(&network, &[], None);
    let (miner, _) = RawPeer::connect(&network, &node);
    let (rival, _) = RawPeer::connect(&network, &node);
    let (mut maker, mut other) = (Maker::new(&network), Maker::new(&network));
    let task = maker.classify(0, 1);
    let (first, first_data) = maker.make(std::slice::from_ref(&task));
    // Of this one the node lacks something else, too.
    let transfer = other.transfer(1, Address([5; 20]), Amount(1_000_000));
    let (second, second_data) = other.make(&[task.clone(), transfer.clone()]);
    let (third, third_data) = other.make(&[]);
    let began = Instant::now();
    miner.announce(&first, &first_data.body);
    let is_question = |request: &Request| matches!(request, Request::Transactions { .. });
    let token = miner.hold("the question for the task", is_question);
    rival.announce(&second, &second_data.body);
    let mut asked = Vec::new();
    let answer = |request: &Request, asked: &mut Vec<u32>| {
        // The miner keeps the node waiting: so it may ask the rival for the first block's task, which has nothing of that block.
        let Request::Transactions { block, indexes } = request else { return None };
        if *block != second.hash() {
            return Some(Response::Transactions(Vec::new()));
        }
        asked.extend(indexes);
        Some(transactions_of(&second_data, indexes))
    };
    rival.answer("the question for the transfer", |request| answer(request, &mut asked));
    miner.handle.respond(token, Response::Transactions(vec![Some(task.clone())]).to_bytes());
    node.wait_for_tip(first.hash());
    // Otherwise the miner has kept the node waiting, and the rival is asked for the task.
    let in_time = began.elapsed() < Duration::from_millis(PATIENCE);
    rival.announce(&third, &third_data.body);
    let known = [(second.hash(), &second_data), (third.hash(), &third_data)];
    rival.respond_until(
        "the better block",
        || node.status().tip.hash == third.hash(),
        |request| match request {
            // What takes longer than it should is left to sync.
            Request::Blocks { hashes } => Some(blocks_of(&known, hashes)),
            request => answer(request, &mut asked).or(Some(Response::failed("not asked in this test"))),
        },
    );
    // It is in the first block, which is connected.
    assert!(!in_time || asked == [1], "{asked:?}");
}

/// The block that was to bring a task does not: the rival's miner, who has sent all that it was asked for, is asked for that too.
#[test]
fn a_peer_that_answers_is_asked_for_the_rest() {
    let network = easy_network();
    let node = TestNode::start(&network, &[], None);
    let (miner, _) = RawPeer::connect(&network, &node);
    let (rival, _) = RawPeer::connect(&network, &node);
    let (mut maker, mut other) = (Maker::new(&network), Maker::new(&network));
    let task = maker.classify(0, 1);
    let (first, first_data) = maker.make(std::slice::from_ref(&task));
    let transfer = other.transfer(1, Address([5; 20]), Amount(1_000_000));
    let (second, second_data) = other.make(&[task.clone(), transfer]);
    miner.announce(&first, &first_data.body);
    let is_question = |request: &Request| matches!(request, Request::Transactions { .. });
    let _never_answered = miner.hold("the question for the task", is_question);
    let began = Instant::now();
    rival.announce(&second, &second_data.body);
    let mut questions = 0;
    let tip = second.hash();
    rival.respond_until(
        "the block",
        || node.status().tip.hash == tip,
        |request| match request {
            Request::Transactions { block, indexes } if *block == tip => {
                questions += 1;
                Some(transactions_of(&second_data, indexes))
            }
            // The miner is silent, so the rival is asked for its block, too, of which it has nothing.
            Request::Transactions { .. } => Some(Response::Transactions(Vec::new())),
            Request::Blocks { hashes } => Some(blocks_of(&[(tip, &second_data)], hashes)),
            other => Some(Response::failed(format!("not asked in this test: {other:?}"))),
        },
    );
    // Where it all takes too long, sync has brought the block.
    assert!(questions > 1 || began.elapsed() > Duration::from_secs(2), "asked {questions} times");
}
