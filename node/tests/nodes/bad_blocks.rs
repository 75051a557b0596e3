//! Blocks that break a rule: refused by every node with that rule's own error, and never built on.

use ocelli_consensus::{Address, Amount, CompactTarget, Header, Root};
use ocelli_protocol::message::{Announcement, BlockData};

use super::harness::{Maker, RawPeer, TestNode, easy_network, mine, unmine, wait};

/// A block with one thing wrong: how to spoil it, and what every node must say.
type Row = (&'static str, fn(&mut Header, &mut BlockData), &'static str);

/// A header with one thing wrong.
type HeaderRow = (&'static str, fn(&mut Header));

/// What only shows once the block is checked whole: forwarded, for no forwarder could have known.
const REFUSED: [Row; 12] = [
    (
        "a logit is wrong by one",
        |_, data| data.body.transactions[0].1.as_mut().unwrap()[3] += 1,
        "transaction 0: logit 3 is",
    ),
    (
        "a logit too few",
        |_, data| data.body.transactions[0].1.as_mut().unwrap().truncate(9),
        "transaction 0: 9 logits, expected 10",
    ),
    ("no logits", |_, data| data.body.transactions[0].1 = None, "transaction 0: a task without its logits"),
    (
        "logits of a transfer",
        |_, data| data.body.transactions[1].1 = Some(vec![1]),
        "transaction 1: logits where nothing was asked",
    ),
    ("another state root", |header, _| header.state = Root([1; 32]), "state root"),
    ("another history root", |header, _| header.history = Root([1; 32]), "history root"),
    // The reward is in no field: paying another miner than the state says is a wrong state root.
    ("another reward", |header, _| header.miner = Address([3; 20]), "state root"),
    (
        "nonces out of order",
        |_, data| {
            data.body.transactions.swap(0, 1);
            data.pixels.swap(0, 1);
        },
        "transaction 0: nonce 1, the account is at 0",
    ),
    (
        "a transaction twice",
        |_, data| {
            data.body.transactions.push(data.body.transactions[1].clone());
            data.pixels.push(None);
        },
        "transaction 2: nonce 1, the account is at 2",
    ),
    (
        "a signature over something else",
        |_, data| {
            data.body.transactions[1].0.unsigned.fee = Amount(7);
        },
        "transaction 1: signature: signature is not the key's over this message",
    ),
    (
        "expired",
        |_, data| {
            let transaction = &mut data.body.transactions[1].0;
            transaction.unsigned.expires = 0;
        },
        "transaction 1: expired at height 0, the block is at 1",
    ),
    (
        "too heavy",
        |_, data| {
            for _ in 0..500 {
                data.body.transactions.push(data.body.transactions[0].clone());
                data.pixels.push(data.pixels[0].clone());
            }
        },
        "weight",
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
        header.body = data.body.root();
        let header = mine(header);
        let hash = header.hash();
        peer.announce(&header, &data.body);
        peer.serve(what, &data, hash, || [&first, &second].iter().all(|node| node.verdict(hash).is_some()));
        for node in [&first, &second] {
            let reason = node.verdict(hash).unwrap();
            assert!(reason.contains(expected), "{what}: {reason}");
            assert_eq!(node.status().height, 0, "{what}");
        }

        // A block on it is not built on either, however much work it has.
        let child = mine(Header { parent: hash, height: header.height + 1, time: header.time + 1, ..header });
        peer.announce(&child, &data.body);
    }

    // The peer only passed them on: it is still there, and a good block of its is taken.
    let (header, data) = maker.make(&submissions);
    peer.announce(&header, &data.body);
    peer.serve_until(&data, header.hash(), || [&first, &second].iter().all(|node| node.status().tip == header.hash()));
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
        assert_eq!(second.status().header_height, 0, "{what} was forwarded");
    }
}
