//! Peers that withhold, and peers that swap.

use ocelli_consensus::{Address, Amount};
use ocelli_protocol::message::{Request, Response, Submission, SubmitReply, TransactionStatus};

use super::harness::{Maker, RawPeer, TestNode, easy_network, submission_of, wait};

#[test]
fn a_block_whose_pictures_are_withheld_is_unavailable_and_connected_once_they_can_be_had() {
    let network = easy_network();
    let node = TestNode::start(&network, &[], None);
    let (peer, _) = RawPeer::connect(&network, &node);
    let mut maker = Maker::new(&network);
    let (header, data) = maker.make(&[maker.classify(0, 1)]);
    let hash = header.hash();
    peer.announce(&header, &data.body);
    // It is asked for again and again, and there is none.
    peer.answer("the transactions", |request| {
        matches!(request, Request::Transactions { .. }).then(|| Response::Transactions(Vec::new()))
    });
    for _ in 0..2 {
        peer.answer("the block", |request| match request {
            Request::Blocks { hashes } => Some(Response::Blocks(vec![None; hashes.len()])),
            _ => None,
        });
    }
    let status = node.status();
    assert_eq!((status.tip.height, status.sync.header_height), (0, 1));
    assert_eq!(node.verdict(hash), None, "unavailable is not invalid");
    assert!(status.sync.waiting_for.contains(&"the data of block 1".to_owned()), "{:?}", status.sync.waiting_for);

    // Somebody else has them.
    let (other, _) = RawPeer::connect(&network, &node);
    other.serve_until(&data, hash, || node.status().tip.hash == hash);
    assert_eq!(peer.handle.status().peers.len(), 1, "withholding costs nothing: an honest forwarder may not have them");
}

#[test]
fn a_peer_that_swaps_a_signature_in_a_good_block_is_blamed_and_the_block_is_not() {
    let network = easy_network();
    let node = TestNode::start(&network, &[], None);
    let mut maker = Maker::new(&network);
    let (header, data) = maker.make(&[maker.classify(0, 1)]);
    let hash = header.hash();

    let mut signature_swapped = data.clone();
    signature_swapped.body.transactions[0].0.signature[0] ^= 1;
    let mut attachment_swapped = data.clone();
    attachment_swapped.attachments[0] = maker.classify(1, 2).attachment;
    for swapped in [signature_swapped, attachment_swapped] {
        let (peer, _) = RawPeer::connect(&network, &node);
        peer.announce(&header, &data.body);
        peer.answer("what the block lacks", |request| match request {
            Request::Transactions { .. } => Some(Response::Transactions(vec![Some(submission_of(&swapped, 0))])),
            Request::Blocks { .. } => Some(Response::Blocks(vec![Some(swapped.clone())])),
            _ => None,
        });
        peer.until_gone("swapped bytes");
        assert_eq!(node.verdict(hash), None);
    }

    let (honest, _) = RawPeer::connect(&network, &node);
    honest.announce(&header, &data.body);
    honest.serve_until(&data, hash, || node.status().tip.hash == hash);
}

#[test]
fn a_peer_that_swaps_the_picture_of_a_good_task_is_blamed_and_the_task_is_not() {
    let network = easy_network();
    let node = TestNode::start(&network, &[], None);
    let maker = Maker::new(&network);
    let (first, second) = (maker.classify(0, 1), maker.classify(0, 2));
    let swapped = Submission { transaction: first.transaction.clone(), attachment: second.attachment.clone() };
    let (peer, at) = RawPeer::connect(&network, &node);
    peer.relay(at, &first, Some(swapped.clone()));
    peer.until_gone("a swapped picture");
    // The same as if they were large, and so asked for by themselves.
    let (peer, at) = RawPeer::connect(&network, &node);
    peer.relay(at, &first, Some(Submission { attachment: None, ..swapped }));
    peer.answer("the picture to be asked for", |request| {
        matches!(request, Request::Attachments { .. }).then(|| Response::Attachments(vec![second.attachment.clone()]))
    });
    peer.until_gone("a swapped picture");
    assert_eq!(node.transaction(first.transaction.txid()), TransactionStatus::Unknown);

    // The task itself is as good as ever.
    let (honest, at) = RawPeer::connect(&network, &node);
    honest.relay(at, &first, Some(first.clone()));
    wait("the task to arrive", || node.is_pending(first.transaction.txid()).then_some(()));
    assert!(matches!(node.submit(first), SubmitReply::Accepted { answer: Some(_) }));
}

#[test]
fn a_task_reaches_nodes_that_its_sender_does_not_know() {
    let network = easy_network();
    let first = TestNode::start(&network, &[], None);
    let second = TestNode::start(&network, &[first.address()], None);
    let third = TestNode::start(&network, &[first.address()], None);
    wait("the two to find each other through the first", || {
        ([&second, &third].iter().all(|node| node.status().peers.total() == 2)).then_some(())
    });
    let maker = Maker::new(&network);
    let task = maker.classify(0, 1);
    let transfer = maker.transfer(1, Address([5; 20]), Amount(1_000_000));
    assert!(matches!(second.submit(task.clone()), SubmitReply::Accepted { answer: Some(_) }));
    assert!(matches!(second.submit(transfer.clone()), SubmitReply::Accepted { answer: None }));
    for submission in [task, transfer] {
        for node in [&first, &third] {
            wait("the transaction to arrive", || node.is_pending(submission.transaction.txid()).then_some(()));
        }
    }
}
