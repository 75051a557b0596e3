//! Tasks that carry a JPEG, which every node decodes for itself.

use ocelli_consensus::transaction::Form;
use ocelli_protocol::message::{BlockId, SubmitReply, TransactionStatus};

use super::harness::{Maker, RawPeer, TestNode, easy_network, right, wait};

const JPEG: &[u8] = include_bytes!("../../../model/picture/tests/vectors/good/scene_320x240.jpg");
const FORM: Form = Form::Jpeg { width: 320, height: 240 };

#[test]
fn a_jpeg_is_relayed_run_and_confirmed() {
    let network = easy_network();
    let first = TestNode::start(&network, &[], None);
    let second = TestNode::start(&network, &[first.address()], None);
    wait("the nodes to meet", || (second.status().peers.total() == 1).then_some(()));
    let mut maker = Maker::new(&network);
    let task = maker.task(0, FORM, JPEG.to_vec());
    let reply = second.submit(task.clone());
    let SubmitReply::Accepted { answer: Some(answer) } = reply else { panic!("{reply:?}") };
    assert_eq!(answer.answer, right(&task));
    wait("the task to arrive", || first.is_pending(task.transaction.txid()).then_some(()));

    let (miner, _) = RawPeer::connect(&network, &first);
    let (header, data) = maker.make(std::slice::from_ref(&task));
    miner.announce(&header, &data.body);
    miner.serve_until(&data, header.hash(), || {
        [&first, &second].iter().all(|node| node.status().tip.hash == header.hash())
    });
    let found = second.block(BlockId::Hash(header.hash())).unwrap();
    assert_eq!(found.data, data);
}

#[test]
fn a_jpeg_that_no_node_decodes_is_its_senders_fault() {
    let network = easy_network();
    let node = TestNode::start(&network, &[], None);
    let maker = Maker::new(&network);
    let torn = maker.task(0, FORM, JPEG[..JPEG.len() - 9].to_vec());
    let other_sides = maker.task(0, Form::Jpeg { width: 240, height: 320 }, JPEG.to_vec());
    for bad in [&torn, &other_sides] {
        let reply = node.submit(bad.clone());
        assert!(matches!(&reply, SubmitReply::Refused { reason, .. } if reason.contains("(Picture)")), "{reply:?}");
        assert_eq!(node.transaction(bad.transaction.txid()), TransactionStatus::Unknown);
    }
    let mut peers = Vec::new();
    for (number, bad) in [&torn, &other_sides].into_iter().enumerate() {
        let (peer, at) = RawPeer::connect(&network, &node);
        peer.relay(at, bad, Some(bad.clone()));
        // Two such cost a peer its place; one costs it points.
        let another = maker.task(0, FORM, JPEG[..JPEG.len() - 11 - number].to_vec());
        peer.relay(at, &another, Some(another.clone()));
        peer.until_gone("pictures that are none");
        peers.push(peer);
    }
    assert!(node.status().invalid.is_empty());
}
