//! Nodes that keep less than everything, and their peers.

use ocelli_consensus::Network;
use ocelli_node::chain::{MissingAttachments, Prune};
use ocelli_node::node::{NodeError, Storage};
use ocelli_node::store::StoreError;
use ocelli_protocol::message::{BlockId, Request, Response, TransactionStatus};

use super::harness::{Maker, RawPeer, TestNode, easy_network, wait};

const BLOCKS: u64 = 12;

fn network() -> Network {
    let mut parameters = easy_network().parameters;
    (parameters.retention, parameters.attachment_retention) = (4, 4);
    Network::new(parameters, Vec::new())
}

/// A maker with a chain of one task a block.
fn made(network: &Network) -> Maker {
    let mut maker = Maker::new(network);
    for seed in 0..BLOCKS {
        let task = maker.classify(0, seed as u8);
        maker.make(&[task]);
    }
    maker
}

fn storage(prune: Option<Prune>, missing_attachments: MissingAttachments) -> Storage {
    Storage { prune, missing_attachments, ..Storage::default() }
}

#[test]
fn what_everybody_has_pruned_is_taken_on_work_and_said_unless_all_is_insisted_on() {
    let network = network();
    let archive = TestNode::on_folder(&network, made(&network).into_folder(), &[]);
    let tip = archive.status().tip.hash;
    let pruned = TestNode::with_storage(
        &network,
        &[archive.address()],
        storage(Some(Prune::Age(0)), MissingAttachments::AcceptOnWork),
    );
    pruned.wait_for_tip(tip);
    // The last four and the tip's own.
    let kept = wait("the node to prune", || {
        let storage = pruned.status().storage;
        (storage.attachments_from == BLOCKS - 4 + 1).then_some(storage)
    });
    assert_eq!((kept.bodies_from, kept.answers_from), (1, 1));
    assert!(kept.disk_bytes > 0);
    let archive_folder = archive.into_folder();

    // What it still has is served, and proven as before.
    let found = pruned.block(BlockId::Height(3)).unwrap();
    assert_eq!(found.data.attachments, [None]);
    let txid = found.data.body.transactions[0].0.txid();
    let TransactionStatus::Confirmed(confirmation) = pruned.transaction(txid) else { panic!("it is confirmed") };
    assert_eq!(confirmation.submission.attachment, None);
    assert_eq!(confirmation.answer, found.data.body.transactions[0].1);

    let late = TestNode::start(&network, &[pruned.address()], None);
    let full = TestNode::with_storage(&network, &[pruned.address()], storage(None, MissingAttachments::Insist));
    late.wait_for_tip(tip);
    let status = late.status();
    assert_eq!(status.storage.answers_from, BLOCKS - 4 + 1);
    assert_eq!(status.tip.state_root, pruned.status().tip.state_root);
    wait("the full node to know the headers", || (full.status().sync.header_height == BLOCKS).then_some(()));
    let waits = wait("it to say what it waits for", || full.status().sync.waiting_for.into_iter().next());
    assert_eq!(waits, "the data of block 1");
    assert_eq!(full.status().tip.height, 0);

    // Once somebody has all, it goes on.
    let archive = TestNode::on_folder(&network, archive_folder, &[full.address()]);
    full.wait_for_tip(tip);
    assert_eq!((full.status().storage.answers_from, full.status().storage.attachments_from), (1, 1));
    assert_eq!(archive.status().tip.hash, tip);
}

#[test]
fn a_node_without_old_bodies_says_so_and_a_late_one_asks_others() {
    let network = network();
    let archive = TestNode::on_folder(&network, made(&network).into_folder(), &[]);
    let tip = archive.status().tip.hash;
    let bodies = storage(Some(Prune::Size(1)), MissingAttachments::AcceptOnWork);
    let pruned = TestNode::with_storage(&network, &[archive.address()], bodies);
    pruned.wait_for_tip(tip);
    let first = BLOCKS - 4 + 1;
    wait("the node to prune", || (pruned.status().storage.bodies_from == first).then_some(()));
    assert_eq!(pruned.block(BlockId::Height(first - 1)), None);
    assert!(pruned.block(BlockId::Height(first)).is_some());
    let txid = archive.block(BlockId::Height(3)).unwrap().data.body.transactions[0].0.txid();
    match pruned.ask(Request::Transaction { txid }) {
        Response::Failed { reason } => {
            assert!(reason.contains("block 3") && reason.contains("has pruned"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    let hashes = vec![archive.block(BlockId::Height(3)).unwrap().header.hash(), tip];
    match pruned.ask(Request::Blocks { hashes }) {
        Response::Blocks(blocks) => assert_eq!([blocks[0].is_some(), blocks[1].is_some()], [false, true]),
        other => panic!("{other:?}"),
    }

    let late = TestNode::start(&network, &[pruned.address(), archive.address()], None);
    late.wait_for_tip(tip);
    assert_eq!(late.status().storage.answers_from, 1);
}

#[test]
fn a_pruned_node_that_cannot_follow_a_better_chain_stops_and_says_what_to_do() {
    let network = network();
    let (mut one, mut other) = (Maker::new(&network), Maker::new(&network));
    for seed in 0..BLOCKS {
        let (task, another) = (one.classify(0, seed as u8), other.classify(0, 100 + seed as u8));
        one.make(&[task]);
        other.make(&[another]);
    }
    let task = other.classify(0, 99);
    let better = other.make(&[task]).0.hash();
    let weaker = one.chain.tip().hash;
    let archive = TestNode::on_folder(&network, one.into_folder(), &[]);
    let bodies = storage(Some(Prune::Size(1)), MissingAttachments::AcceptOnWork);
    let mut pruned = TestNode::with_storage(&network, &[archive.address()], bodies);
    pruned.wait_for_tip(weaker);
    wait("the node to prune", || (pruned.status().storage.bodies_from > 1).then_some(()));

    let stronger = TestNode::on_folder(&network, other.into_folder(), &[pruned.address()]);
    let error = pruned.wait_for_end();
    assert!(matches!(error, NodeError::Store(StoreError::Pruned { .. })), "{error:?}");
    assert!(error.to_string().contains("Start it on a new data folder"), "{error}");
    assert_eq!(stronger.status().tip.hash, better);
}

#[test]
fn a_node_whose_folder_is_deleted_stops_and_says_so() {
    let network = network();
    let mut node = TestNode::start(&network, &[], None);
    let (peer, _) = RawPeer::connect(&network, &node);
    let mut maker = Maker::new(&network);
    std::fs::remove_dir_all(node.folder().join("chain")).unwrap();
    let (header, data) = maker.make(&[]);
    peer.announce(&header, &data.body);
    let error = node.wait_for_end();
    assert!(matches!(error, NodeError::Store(StoreError::FolderGone { .. })), "{error:?}");
    assert!(error.to_string().contains("deleted, moved or replaced"), "{error}");
}
