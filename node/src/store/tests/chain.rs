//! Chain moves: connecting, disconnecting, reorganising.

use ocelli_consensus::history::{HistoryReader, Position};
use ocelli_consensus::rules::RuleError;
use ocelli_consensus::transition::ConnectError;
use ocelli_consensus::{BlockHash, Root};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::*;
use crate::store::TransactionLocation;

/// Where each transaction of a chain is, and that the store has it so.
fn assert_indexed(store: &Store, blocks: &[Made]) {
    let mut count = 0;
    for (header, body, _) in blocks {
        let (block, height) = (header.hash(), header.height);
        assert_eq!(store.hash_at(height), Ok(Some(block)));
        assert!(store.undo(height, &block).unwrap().is_some());
        for (index, (transaction, _)) in (0u32..).zip(&body.transactions) {
            let location = store.transaction_location(&transaction.txid());
            assert_eq!(location, Ok(Some(TransactionLocation { block, height, index })));
            count += 1;
        }
    }
    assert_eq!(store.hash_at(blocks.len() as u64 + 1), Ok(None));
    assert_eq!(dump(store, columns::HEIGHTS).len(), blocks.len() + 1);
    assert_eq!(dump(store, columns::UNDO).len(), blocks.len());
    assert_eq!(dump(store, columns::TRANSACTIONS).len(), count, "and no transaction more");
}

#[test]
fn two_branches() {
    let (folder, network) = (Folder::new(), network());
    let store = Store::open(&folder.path(), &network).unwrap();
    let common = grow(&store, &network, 0, 3);
    let one = grow(&store, &network, 1, 4);
    let chain_one = [common.clone(), one.clone()].concat();
    assert_indexed(&store, &chain_one);
    assert_as_from_scratch(&store, &network, &chain_one);

    // The other branch, made in a store of its own.
    let other_folder = Folder::new();
    let other_store = Store::open(&other_folder.path(), &network).unwrap();
    for block in &common {
        reorganise(&other_store, &network, 0, std::slice::from_ref(block));
    }
    let two = grow(&other_store, &network, 2, 5);
    let chain_two = [common, two.clone()].concat();

    let (account, gone) = (Address([1; 20]), one[0].1.transactions[0].0.txid());
    assert!(store.account(&account).unwrap().is_some() && store.transaction_location(&gone).unwrap().is_some());
    let before = store.entry(Position { level: 3, index: 0 }).unwrap();
    reorganise(&store, &network, 4, &two);
    assert_indexed(&store, &chain_two);
    assert_as_from_scratch(&store, &network, &chain_two);
    assert_state_root(&store);
    assert_ne!(store.entry(Position { level: 3, index: 0 }).unwrap(), before, "rewritten by the other branch");
    assert_eq!(store.transaction_location(&gone), Ok(None));
    // The headers keep the rules, and the tree of all of them agrees which branch is the best.
    let mut tree = HeaderTree::new(&network.genesis);
    for row in store.headers() {
        tree.insert(&network, &row.unwrap().0).unwrap();
    }
    assert_eq!(tree.len(), 1 + 3 + 4 + 5);
    assert_eq!(tree.best_header().hash, store.tip().unwrap().hash);
    assert_eq!(header_tree(&store).best_candidate().hash, store.tip().unwrap().hash);

    drop(store);
    let store = Store::open(&folder.path(), &network).unwrap();
    assert_indexed(&store, &chain_two);
    // And back, to the branch of fewer blocks: bodies and attachments of stale blocks are still there.
    let (header, body, attachments) = &one[3];
    assert_eq!(store.body(header.height, &header.hash()), Ok(Some(body.clone())));
    assert_eq!(store.attachments(header.height, &header.hash(), body), Ok(attachments.clone()));
    reorganise(&store, &network, 5, &one);
    assert_indexed(&store, &chain_one);
    assert_as_from_scratch(&store, &network, &chain_one);
    assert_eq!(store.hash_at(8), Ok(None));
}

#[test]
fn everything_can_be_taken_back() {
    let (folder, network) = (Folder::new(), network());
    let store = Store::open(&folder.path(), &network).unwrap();
    let blocks = grow(&store, &network, 1, 9);
    let mut overlay = Overlay::new(&store).unwrap();
    for (header, body, _) in blocks.iter().rev() {
        assert_eq!(overlay.header(), header);
        assert_eq!(overlay.disconnect_tip(), Ok((header.clone(), body.clone())));
        assert_eq!(overlay.peaks().leaves(), header.height);
    }
    assert_eq!(overlay.disconnect_tip(), Err(StoreError::AtGenesis));
    store.commit(overlay.into_move(), Durability::Logged).unwrap();
    assert_as_from_scratch(&store, &network, &[]);
    // Connected again within one overlay, taken back within it in part, and connected again.
    let mut overlay = Overlay::new(&store).unwrap();
    for (header, body, _) in &blocks {
        overlay.connect(&network.parameters, header, body).unwrap();
    }
    for _ in 0..5 {
        overlay.disconnect_tip().unwrap();
    }
    for (header, body, _) in &blocks[4..] {
        overlay.connect(&network.parameters, header, body).unwrap();
    }
    store.commit(overlay.into_move(), Durability::Logged).unwrap();
    assert_as_from_scratch(&store, &network, &blocks);
}

#[test]
fn a_dropped_overlay_changes_nothing() {
    let (folder, network) = (Folder::new(), network());
    let store = Store::open(&folder.path(), &network).unwrap();
    grow(&store, &network, 1, 4);
    let before = columns::ALL.map(|column| dump(&store, column));
    let mut overlay = Overlay::new(&store).unwrap();
    overlay.disconnect_tip().unwrap();
    overlay.disconnect_tip().unwrap();
    let (header, body, _) = Maker::new(&network, &overlay).transfer(3, address(9), 9_000_000).mine(address(2));
    overlay.connect(&network.parameters, &header, &body).unwrap();
    assert_eq!(overlay.account(&address(9)).unwrap().unwrap().balance, Amount(9_000_000));
    assert_eq!(overlay.entry(Position { level: 0, index: 3 }).unwrap().hash, header.hash().0);
    let gone = Position { level: 0, index: 4 };
    assert_eq!(overlay.entry(gone), Err(StoreError::missing(columns::HISTORY, &rows::position_key(gone))));
    assert!(store.entry(gone).is_ok());
    assert_eq!((overlay.tip().height, store.tip().unwrap().height), (3, 4));
    drop(overlay);
    assert_eq!(columns::ALL.map(|column| dump(&store, column)), before);
}

#[test]
fn a_refused_block_leaves_the_overlay_as_it_was() {
    let (folder, network) = (Folder::new(), network());
    let store = Store::open(&folder.path(), &network).unwrap();
    grow(&store, &network, 1, 2);
    let parameters = &network.parameters;
    let mut overlay = Overlay::new(&store).unwrap();
    let (header, body, _) = Maker::new(&network, &overlay).transfer(3, address(2), 9).mine(address(2));

    let wrong = Header { state: Root([1; 32]), ..header.clone() };
    let error = RuleError::StateRoot { found: Root([1; 32]), expected: header.state };
    assert_eq!(overlay.connect(parameters, &wrong, &body), Err(ConnectError::Rule(error)));
    let wrong = Header { history: Root([2; 32]), ..header.clone() };
    let error = RuleError::HistoryRoot { found: Root([2; 32]), expected: header.history };
    assert_eq!(overlay.connect(parameters, &wrong, &body), Err(ConnectError::Rule(error)));
    let tip = *overlay.tip();
    let not_on_tip = |header: &Header| {
        let (block, height) = (header.hash(), header.height);
        Err(ConnectError::Reader(StoreError::NotOnTip { block, height, tip: tip.hash, tip_height: 2 }))
    };
    let wrong = Header { parent: BlockHash([3; 32]), ..header.clone() };
    assert_eq!(overlay.connect(parameters, &wrong, &body), not_on_tip(&wrong));
    let wrong = Header { height: 4, ..header.clone() };
    assert_eq!(overlay.connect(parameters, &wrong, &body), not_on_tip(&wrong));

    assert_eq!(*overlay.tip(), tip);
    overlay.connect(parameters, &header, &body).unwrap();
    store.add_header(&header).unwrap();
    store.commit(overlay.into_move(), Durability::Logged).unwrap();
    assert_state_root(&store);
}

#[test]
fn a_move_from_a_tip_that_is_no_more_is_refused() {
    let (folder, network) = (Folder::new(), network());
    let store = Store::open(&folder.path(), &network).unwrap();
    let late = Overlay::new(&store).unwrap().into_move();
    let blocks = grow(&store, &network, 1, 1);
    let (found, expected) = (blocks[0].0.hash(), network.genesis_hash());
    assert_eq!(store.commit(late, Durability::Logged), Err(StoreError::TipMoved { found, expected }));
    assert_as_from_scratch(&store, &network, &blocks);
}

/// Whatever branches are left for others, the store ends as if the last one had been all there ever was.
#[test]
fn random_branches() {
    for seed in 0..4 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let (folder, network) = (Folder::new(), network());
        let mut store = Store::open(&folder.path(), &network).unwrap();
        let mut chain: Vec<Made> = Vec::new();
        for step in 0..40 {
            let depth = random.random_range(0..=chain.len().min(6));
            let mut next = chain[..chain.len() - depth].to_vec();
            let mut overlay = Overlay::new(&store).unwrap();
            for (header, body, _) in chain.iter().rev().take(depth) {
                assert_eq!(overlay.disconnect_tip(), Ok((header.clone(), body.clone())), "seed {seed}, step {step}");
            }
            for _ in 0..random.random_range(0..=6) {
                let mut maker = Maker::new(&network, &overlay);
                for _ in 0..random.random_range(0..5) {
                    // Old accounts and new ones; sometimes to itself.
                    let (from, to) = (random.random_range(0..4), random.random_range(0..12));
                    maker = match random.random_range(0..4) {
                        0 => maker.classify(from, random.random()),
                        _ => maker.transfer(from, address(to), random.random_range(200_000..2_000_000)),
                    };
                }
                let block = maker.mine(address(random.random_range(0..40)));
                add(&store, &block);
                overlay.connect(&network.parameters, &block.0, &block.1).unwrap();
                next.push(block);
            }
            if random.random_ratio(4, 5) {
                store.commit(overlay.into_move(), Durability::Logged).unwrap();
                chain = next;
            }
            assert_state_root(&store);
            assert_indexed(&store, &chain);
            if step % 10 == 9 {
                assert_as_from_scratch(&store, &network, &chain);
                drop(store);
                store = Store::open(&folder.path(), &network).unwrap();
            }
        }
    }
}
