//! An attachment that the node's owner will not have there.

use ocelli_consensus::AttachmentHash;
use ocelli_node::store::Store;
use ocelli_protocol::message::{Control, Request, Response, ShortId, SubmitReply, TransactionStatus};

use super::harness::{Maker, RawPeer, TestNode, easy_network, wait};

/// What the node's owner is told.
fn forget(node: &TestNode, attachment: AttachmentHash) -> String {
    let cookie = ocelli_node::node::cookie::read(node.folder()).unwrap();
    match node.ask(Request::Control { cookie, control: Control::Forget { attachment } }) {
        Response::Controlled { done } => done,
        other => panic!("{other:?}"),
    }
}

/// Which of some pending transactions the node gives, and which of their attachments.
fn given(node: &TestNode, ids: &[ShortId]) -> [Vec<bool>; 2] {
    let Response::Pending(pending) = node.ask(Request::Pending { ids: ids.to_vec() }) else { panic!("no answer") };
    let Response::Attachments(attachments) = node.ask(Request::Attachments { ids: ids.to_vec() }) else {
        panic!("no answer")
    };
    [pending.iter().map(Option::is_some).collect(), attachments.iter().map(Option::is_some).collect()]
}

#[test]
fn what_is_forgotten_is_neither_taken_nor_given() {
    let network = easy_network();
    let mut node = TestNode::start(&network, &[], None);
    let mut maker = Maker::new(&network);
    let [unwanted, next, third] = [0, 1, 2].map(|number| maker.classify(number, number as u8));
    let txid = unwanted.transaction.txid();
    let ids = [&unwanted, &next].map(|task| ShortId::of(&task.transaction.wtxid()));
    let only_next = || [vec![false, true], vec![false, true]];
    for task in [&unwanted, &next] {
        assert!(matches!(node.submit(task.clone()), SubmitReply::Accepted { answer: Some(_) }));
    }
    assert_eq!(given(&node, &ids), [vec![true, true], vec![true, true]]);

    let done = forget(&node, unwanted.transaction.attachment().unwrap().hash);
    assert!(done.contains("deleted in 0 places, 1 pending transactions with it were dropped"), "{done}");
    assert_eq!(given(&node, &ids), only_next());
    let reason = "the owner of this node has it refuse the attachment".into();
    assert_eq!(node.transaction(txid), TransactionStatus::Dropped { reason });

    // Who hands it in again is refused, and who passes it on is not to blame.
    let refused = node.submit(unwanted.clone());
    assert!(
        matches!(&refused, SubmitReply::Refused { reason, .. } if reason.contains("has it refuse attachment")),
        "{refused:?}"
    );
    let (peer, at) = RawPeer::connect(&network, &node);
    peer.relay(at, &unwanted, Some(unwanted.clone()));
    peer.relay(at, &third, Some(third.clone()));
    wait("what came after it", || node.is_pending(third.transaction.txid()).then_some(()));
    assert_eq!(node.peers().peers.iter().map(|peer| peer.points).collect::<Vec<_>>(), [0]);
    assert_eq!(given(&node, &ids), only_next());

    // A restart brings back the others.
    drop(peer);
    node.restart(&[], None);
    wait("what has waited", || node.is_pending(third.transaction.txid()).then_some(()));
    assert_eq!(given(&node, &ids), only_next());

    // The node follows a chain that has it, and gives its block without it.
    let (peer, _) = RawPeer::connect(&network, &node);
    let (header, data) = maker.make(&[unwanted, next.clone()]);
    peer.announce(&header, &data.body);
    peer.serve_until(&data, header.hash(), || node.status().tip.hash == header.hash());
    let Response::Blocks(blocks) = node.ask(Request::Blocks { hashes: vec![header.hash()] }) else {
        panic!("no answer")
    };
    let block = blocks.into_iter().next().flatten().unwrap();
    assert_eq!((block.body, block.attachments), (data.body, vec![None, next.attachment]));
    let asked = Request::Transactions { block: header.hash(), indexes: vec![0, 1] };
    let Response::Transactions(found) = node.ask(asked) else { panic!("no answer") };
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true]);
    let TransactionStatus::Confirmed(found) = node.transaction(txid) else { panic!("it is in a block") };
    assert_eq!(found.submission.attachment, None);

    // A better chain takes the block back: what else was in it comes back.
    let mut other = Maker::new(&network);
    other.make(&[]);
    let tip = other.make(&[]).0.hash();
    let _other = TestNode::on_folder(&network, other.into_folder(), &[node.address()]);
    node.wait_for_tip(tip);
    wait("what was taken back", || node.is_pending(next.transaction.txid()).then_some(()));
    assert_eq!(given(&node, &ids), only_next());
    drop(peer);
    let folder = node.into_folder();
    let store = Store::open(&folder.path().join("chain"), &network).unwrap();
    let kept: Vec<_> = store.pending().map(|row| row.unwrap().0).collect();
    assert!(!kept.contains(&txid) && kept.contains(&next.transaction.txid()), "{kept:?}");
}
