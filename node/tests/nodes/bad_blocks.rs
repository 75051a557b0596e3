//! Blocks that break a rule: refused by every node with that rule's own error, and never built on.

use ocelli_consensus::block::{Answer, Classes};
use ocelli_consensus::transaction::Form;
use ocelli_consensus::{Action, Address, Amount, CompactTarget, Header, Root};
use ocelli_protocol::message::{Announcement, BlockData};

use super::harness::{Maker, RawPeer, TestNode, easy_network, mine, signed, unmine, wait};

/// A block with one thing wrong: how to spoil it, and what every node must say.
type Row = (&'static str, fn(&mut Header, &mut BlockData), &'static str);

/// A header with one thing wrong.
type HeaderRow = (&'static str, fn(&mut Header));

/// The answer to the task of a block.
fn classes(data: &mut BlockData) -> &mut Classes {
    match &mut data.body.transactions[0].1 {
        Answer::Classes(classes) => classes,
        Answer::None => panic!("the first transaction is a task"),
    }
}

/// What only shows once the block is checked whole: forwarded, for no forwarder could have known.
const REFUSED: [Row; 15] = [
    ("a logit is wrong by one", |_, data| classes(data).best[0].1 += 1, "(Answer)"),
    ("a digest of other logits", |_, data| classes(data).digest = Classes::of(&[1, 2]).digest, "(Answer)"),
    ("a class too few", |_, data| classes(data).best.truncate(4), "(AnswerForm)"),
    ("classes out of order", |_, data| classes(data).best.swap(0, 1), "(AnswerForm)"),
    ("no answer", |_, data| data.body.transactions[0].1 = Answer::None, "(AnswerMissing)"),
    (
        "an answer to a transfer",
        |_, data| data.body.transactions[1].1 = Answer::Classes(Classes::of(&[1])),
        "(AnswerUnexpected)",
    ),
    (
        "a JPEG that is none",
        |_, data| {
            let transaction = &mut data.body.transactions[0].0;
            let Action::Classify { form, .. } = &mut transaction.unsigned.action else { panic!("a task") };
            *form = Form::Jpeg { width: 32, height: 32 };
            *transaction = signed(transaction.clone());
        },
        "(Picture)",
    ),
    ("another state root", |header, _| header.state = Root([1; 32]), "state root"),
    ("another history root", |header, _| header.history = Root([1; 32]), "history root"),
    // The reward is in no field: paying another miner than the state says is a wrong state root.
    ("another reward", |header, _| header.miner = Address([3; 20]), "state root"),
    (
        "nonces out of order",
        |_, data| {
            data.body.transactions.swap(0, 1);
            data.attachments.swap(0, 1);
        },
        "(Nonce)",
    ),
    (
        "a transaction twice",
        |_, data| {
            data.body.transactions.push(data.body.transactions[1].clone());
            data.attachments.push(None);
        },
        "(Nonce)",
    ),
    (
        "a signature over something else",
        |_, data| {
            data.body.transactions[1].0.unsigned.fee = Amount(7);
        },
        "(Signature)",
    ),
    (
        "expired",
        |_, data| {
            let transaction = &mut data.body.transactions[1].0;
            transaction.unsigned.expires = 0;
        },
        "(Expired)",
    ),
    (
        "too heavy",
        |_, data| {
            for _ in 0..1_200 {
                data.body.transactions.push(data.body.transactions[0].clone());
                data.attachments.push(data.attachments[0].clone());
            }
        },
        "(Weight)",
    ),
];

/// What every forwarder checks: not even forwarded, and it costs the sender its place.
const NOT_FORWARDED: [HeaderRow; 6] = [
    ("too little work", |header| *header = unmine(header.clone())),
    ("a time that is the parent's", |header| header.time -= 1),
    ("a time beyond all bounds", |header| header.time = 1 << 40),
    ("another target", |header| header.target = CompactTarget(0x207f_fffe)),
    ("another height", |header| header.height += 1),
    ("another body", |header| header.body = Root([1; 32])),
];

#[test]
fn a_bad_block_is_refused_by_every_node_with_its_own_error_and_never_built_on() {
    let network = easy_network();
    let first = TestNode::start(&network, &[], None);
    let second = TestNode::start(&network, &[first.address()], None);
    // Nobody else can give the second node what the first has refused.
    let (peer, _) = RawPeer::connect_to_all(&network, &[&first, &second]);
    wait("the nodes to meet", || (second.status().peers.total() == 2).then_some(()));

    let mut maker = Maker::new(&network);
    let submissions = [maker.classify(0, 1), maker.transfer(1, Address([5; 20]), Amount(1_000_000))];
    for (what, spoil, expected) in REFUSED {
        let mut data = maker.data(&submissions);
        let mut header = maker.header(&data.body);
        spoil(&mut header, &mut data);
        header.body = data.body.root(&header.parent);
        let header = mine(header);
        let hash = header.hash();
        peer.announce(&header, &data.body);
        peer.serve(what, &data, hash, || [&first, &second].iter().all(|node| node.verdict(hash).is_some()));
        for node in [&first, &second] {
            let reason = node.verdict(hash).unwrap();
            assert!(reason.contains(expected), "{what}: {reason}");
            assert_eq!(node.status().tip.height, 0, "{what}");
        }

        // A block on it is not built on either, however much work it has.
        let child = mine(Header { parent: hash, height: header.height + 1, time: header.time + 1, ..header });
        peer.announce(&child, &data.body);
    }

    // The peer only passed them on: it is still there, and a good block of its is taken.
    let (header, data) = maker.make(&submissions);
    peer.announce(&header, &data.body);
    peer.serve_until(&data, header.hash(), || {
        [&first, &second].iter().all(|node| node.status().tip.hash == header.hash())
    });
    assert_eq!(peer.handle.status().peers.len(), 2);
}

#[test]
fn what_a_forwarder_would_notice_is_not_forwarded_and_costs_the_sender() {
    let network = easy_network();
    let first = TestNode::start(&network, &[], None);
    let second = TestNode::start(&network, &[first.address()], None);
    wait("the nodes to meet", || (second.status().peers.total() == 1).then_some(()));
    let maker = Maker::new(&network);
    let data = maker.data(&[maker.transfer(0, Address([5; 20]), Amount(1_000_000))]);
    for (what, spoil) in NOT_FORWARDED {
        let (peer, _) = RawPeer::connect(&network, &first);
        let mut header = maker.header(&data.body);
        spoil(&mut header);
        let header = if what == "too little work" { header } else { mine(header) };
        peer.publish_block(&Announcement::of(header.clone(), &data.body));
        peer.until_gone(what);
        assert_eq!(second.status().sync.header_height, 0, "{what} was forwarded");
    }
}
