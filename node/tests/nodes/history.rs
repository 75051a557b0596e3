//! What has happened to accounts, on nodes that keep it and on such that did not.

use ocelli_consensus::{Address, Amount, Network};
use ocelli_node::chain::{MissingAttachments, Prune};
use ocelli_node::client::Client;
use ocelli_node::client::ledger::{Evidence, Statement};
use ocelli_node::node::Storage;
use ocelli_node::store::{LedgerOption, StoreOptions};
use ocelli_protocol::ledger::Event;
use ocelli_protocol::message::{LedgerPage, Proofs, Request, Response};

use super::harness::{Maker, TestNode, easy_network, rich, wait};

/// Of what is [`made`].
pub const BLOCKS: u64 = 16;

/// A network that has its nodes keep no more than the last 8 blocks.
pub fn network() -> Network {
    let mut parameters = easy_network().parameters;
    (parameters.retention, parameters.attachment_retention) = (8, 8);
    Network::new(parameters, Vec::new())
}

pub fn rich_address() -> Address {
    Address::of(&rich().public_key())
}

pub fn miner() -> Address {
    Address([9; 20])
}

/// Blocks of a transfer each, and a task now and then.
pub fn made(network: &Network) -> Maker {
    let mut maker = Maker::new(network);
    for number in 0..BLOCKS {
        let mut submissions = vec![maker.transfer(0, Address([number as u8 % 5; 20]), Amount(1_000_000))];
        if number % 8 == 0 {
            submissions.push(maker.classify(1, number as u8));
        }
        maker.make(&submissions);
    }
    maker
}

pub fn keeping(ledger: LedgerOption) -> Storage {
    Storage { store: StoreOptions { ledger, ..StoreOptions::default() }, ..Storage::default() }
}

fn page(node: &TestNode, address: Address, limit: u32, proofs: Proofs) -> LedgerPage {
    match node.ask(Request::Ledger { address, before: None, limit, proofs }) {
        Response::Ledger(page) => *page,
        other => panic!("{other:?}"),
    }
}

fn statement_of(network: &Network, node: &TestNode, address: Address) -> Statement {
    Client::connect(std::slice::from_ref(network), &[node.address()]).unwrap().statement(address, 0).unwrap()
}

/// The changes of all entries.
fn changes(statement: &Statement) -> i128 {
    statement.entries.iter().map(|known| known.entry.event.change()).sum()
}

#[test]
fn a_node_without_an_index_gets_one_while_it_mines() {
    let network = network();
    let node =
        TestNode::on_folder_with(&network, made(&network).into_folder(), &[], None, keeping(LedgerOption::Dropped));
    let request = Request::Ledger { address: miner(), before: None, limit: 9, proofs: Proofs::With };
    match node.ask(request) {
        Response::Failed { reason } => assert!(reason.contains("--no-index"), "{reason}"),
        other => panic!("{other:?}"),
    }
    let error = Client::connect(std::slice::from_ref(&network), &[node.address()]).unwrap().statement(miner(), 0);
    assert!(error.unwrap_err().to_string().contains("--no-index"));

    let own = Address([77; 20]);
    let kept = keeping(LedgerOption::Kept);
    let node = TestNode::on_folder_with(&network, node.into_folder(), &[], Some(own), kept);
    wait("all entries", || (page(&node, own, 1, Proofs::Without).from == 1).then_some(()));
    wait("a block of its own", || (page(&node, own, 1, Proofs::Without).blocks.len() == 1).then_some(()));
    for address in [own, miner(), rich_address(), Address([3; 20])] {
        let statement = statement_of(&network, &node, address);
        assert!(statement.is_whole && statement.is_checked && !statement.entries.is_empty(), "{address:?}");
        let given = network.parameters.balances().get(&address).copied().unwrap_or_default();
        assert_eq!(i128::from(given.0) + changes(&statement), statement.balance.0.into());
        let proven = |evidence: Evidence| match address {
            // Its blocks are empty.
            _ if address != miner() => evidence == Evidence::Proven,
            _ => evidence == Evidence::FeesByWord,
        };
        assert!(statement.entries.iter().all(|known| proven(known.evidence)), "{address:?}");
        assert!(statement.entries.windows(2).all(|two| two[0].entry.place < two[1].entry.place));
    }
    let status = node.status();
    assert!(status.mining.found >= 1 && status.mining.stale <= status.mining.found);

    // As long as the folder is the same, it is there at once.
    let node = TestNode::on_folder_with(&network, node.into_folder(), &[], None, kept);
    assert_eq!(page(&node, own, 1, Proofs::Without).from, 1);
}

#[test]
fn a_page_is_bounded_and_goes_on() {
    let network = network();
    let node = TestNode::on_folder(&network, made(&network).into_folder(), &[]);
    let whole = page(&node, rich_address(), u32::MAX, Proofs::With);
    let entries: Vec<_> = whole.blocks.iter().flat_map(|block| &block.entries).collect();
    assert_eq!((entries.len() as u64, whole.has_more), (BLOCKS + BLOCKS / 8, false));
    assert!(entries.iter().all(|shown| shown.proof.is_some()));
    // One by one it is the same.
    let (mut before, mut seen) = (None, 0);
    loop {
        let request = Request::Ledger { address: rich_address(), before, limit: 1, proofs: Proofs::Without };
        let Response::Ledger(page) = node.ask(request) else { panic!("no page") };
        let Some(block) = page.blocks.first() else { break };
        assert_eq!(block.entries[0].event, entries[seen].event);
        seen += 1;
        assert_eq!(page.has_more, seen < entries.len());
        before = Some(block.entries[0].entry(block.header.height).place);
    }
    assert_eq!(seen, entries.len());
    assert_eq!(page(&node, Address([0xee; 20]), 9, Proofs::With).blocks, []);
}

#[test]
fn what_is_pruned_is_told_and_still_adds_up() {
    let network = network();
    let archive = TestNode::on_folder(&network, made(&network).into_folder(), &[]);
    let tip = archive.status().tip;
    let storage = Storage {
        prune: Some(Prune::Size(1)),
        missing_attachments: MissingAttachments::AcceptOnWork,
        ..keeping(LedgerOption::Kept)
    };
    let pruned = TestNode::with_storage(&network, &[archive.address()], storage);
    pruned.wait_for_tip(tip.hash);
    let first = BLOCKS - 8 + 1;
    wait("the node to prune", || (pruned.status().storage.bodies_from == first).then_some(()));
    let (of_all, of_some) =
        (statement_of(&network, &archive, rich_address()), statement_of(&network, &pruned, rich_address()));
    assert!(of_some.is_whole && of_some.is_checked);
    assert_eq!((of_some.balance, of_some.entries.len()), (of_all.balance, of_all.entries.len()));
    for (one, other) in of_all.entries.iter().zip(&of_some.entries) {
        let is_kept = one.entry.place.height >= first;
        assert_eq!((one.entry, one.balance, one.evidence), (other.entry, other.balance, Evidence::Proven));
        assert_eq!(other.evidence == Evidence::Proven, is_kept);
    }

    // Made anew, it begins where the bodies do, and the rest is left over.
    let folder = TestNode::on_folder_with(
        &network,
        pruned.into_folder(),
        &[],
        None,
        Storage { store: keeping(LedgerOption::Dropped).store, ..storage },
    )
    .into_folder();
    let pruned = TestNode::on_folder_with(&network, folder, &[], None, storage);
    wait("all that there is", || (page(&pruned, miner(), 1, Proofs::Without).from == first).then_some(()));
    let late = statement_of(&network, &pruned, rich_address());
    assert!(!late.is_whole && late.is_checked && late.from == first);
    assert_eq!(i128::from(late.opening.0) + changes(&late), late.balance.0.into());
    assert!(late.entries.iter().all(|known| matches!(known.entry.event, Event::Sent { .. } | Event::Task { .. })));
    // Beside one that has all, that one is shown.
    let addresses = [pruned.address(), archive.address()];
    let both = Client::connect(std::slice::from_ref(&network), &addresses).and_then(|mut client| {
        client.await_named(&addresses)?;
        client.statement(rich_address(), 0)
    });
    assert_eq!(both.unwrap(), of_all);
}
