//! Forgetting attachments and bodies of old blocks.

use std::fs;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use super::*;

/// Blocks of tasks on random attachments, which do not compress, with the attachments in files of a few blocks each.
fn grow_tasks(store: &Store, network: &Network, blocks: u64, tasks: u8) -> Vec<Made> {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut made = Vec::new();
    for number in 0..blocks {
        let overlay = Overlay::new(store).unwrap();
        let mut maker = Maker::new(network, &overlay);
        for task in 0..tasks {
            let mut pixels = vec![0; PIXELS];
            random.fill_bytes(&mut pixels);
            maker = maker.classify_image(task % 4, pixels);
        }
        made.push(maker.mine(address(0)));
        reorganise(store, network, 0, &made[made.len() - 1..]);
        if number % 4 == 3 {
            store.database().flush_cf(store.column(columns::ATTACHMENTS)).unwrap();
        }
    }
    made
}

fn files(folder: &Folder, extension: &str) -> usize {
    let paths = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|found| found == extension)).count()
}

#[test]
fn pruned_pixels_free_their_files_and_nothing_else_goes() {
    let (folder, network) = (Folder::new(), network());
    let store = Store::open(&folder.path(), &network).unwrap();
    let blocks = grow_tasks(&store, &network, 40, 30);
    let bytes = 40 * 30 * PIXELS as u64;
    let (before, blobs) = (store.disk_bytes().unwrap(), files(&folder, "blob"));
    assert!(before > bytes && blobs >= 10, "{before} bytes, {blobs} files");

    let kept = store.prune(31, 0).unwrap();
    assert_eq!(kept, Kept { attachments_from: 31, bodies_from: 1, answers_from: 1 });
    assert_eq!(files(&folder, "blob"), blobs, "forgetting touches no file");
    store.free_pruned(Kept::ALL).unwrap();
    let (after, blobs) = (store.disk_bytes().unwrap(), files(&folder, "blob"));
    // Block 31 lies in a file with 29 and 30, which stays.
    assert!(blobs <= 4, "{blobs} files");
    assert!(before - after >= bytes * 28 / 40, "{before} bytes before, {after} after");

    let check = |store: &Store| {
        assert_eq!(store.kept(), Ok(kept));
        for (header, body, attachments) in &blocks {
            let (height, hash) = (header.height, header.hash());
            assert_eq!(store.body(height, &hash), Ok(Some(body.clone())));
            let expected = if height < 31 { vec![None; attachments.len()] } else { attachments.clone() };
            assert_eq!(store.attachments(height, &hash, body), Ok(expected), "block {height}");
        }
        assert_state_root(store);
        let mut overlay = Overlay::new(store).unwrap();
        while overlay.tip().height > 0 {
            overlay.disconnect_tip().unwrap();
        }
    };
    check(&store);
    // Less than that is no news.
    for below in [0, 1, 31] {
        assert_eq!(store.prune(below, 0), Ok(kept));
    }
    drop(store);
    check(&Store::open(&folder.path(), &network).unwrap());
}

#[test]
fn pruned_bodies_take_the_way_back_with_them() {
    let (folder, network) = (Folder::new(), network());
    let store = Store::open(&folder.path(), &network).unwrap();
    let blocks = grow_tasks(&store, &network, 10, 2);
    let kept = store.prune(0, 6).unwrap();
    assert_eq!(kept, Kept { attachments_from: 6, bodies_from: 6, answers_from: 1 });
    for (header, body, _) in &blocks {
        let (height, hash) = (header.height, header.hash());
        assert_eq!(store.body(height, &hash).unwrap().is_some(), height >= 6);
        assert_eq!(store.undo(height, &hash).unwrap().is_some(), height >= 6);
        // Headers, the history and where each transaction is stay.
        assert_eq!(store.hash_at(height), Ok(Some(hash)));
        let location = store.transaction_location(&body.transactions[0].0.txid()).unwrap();
        assert_eq!(location.unwrap().height, height);
    }
    let genesis = network.genesis_hash();
    assert_eq!(store.body(0, &genesis), Ok(Some(Body::default())));
    assert_state_root(&store);

    let mut overlay = Overlay::new(&store).unwrap();
    for _ in 6..=10 {
        overlay.disconnect_tip().unwrap();
    }
    let block = blocks[4].0.hash();
    assert_eq!(overlay.disconnect_tip(), Err(StoreError::Pruned { block, height: 5 }));
    let text = StoreError::Pruned { block, height: 5 }.to_string();
    assert!(text.contains("cannot follow") && text.contains("new data folder"), "{text}");
}

#[test]
fn a_block_taken_on_work_is_verified_and_said() {
    let (folder, network) = (Folder::new(), network());
    let store = Store::open(&folder.path(), &network).unwrap();
    let mut overlay = Overlay::new(&store).unwrap();
    for (height, checked) in [(1, Extent::OnWork), (2, Extent::OnWork), (3, Extent::Body)] {
        let block = Maker::new(&network, &overlay).classify(0, 1).mine(address(2));
        overlay.connect(&network.parameters, &block.0, &block.1).unwrap();
        let hash = block.0.hash();
        store.add_header(&block.0).unwrap();
        store.add_block(&hash, &block.1, &[], checked).unwrap();
        let expected = if checked == Extent::OnWork { BlockStatus::Verified } else { BlockStatus::Received };
        assert_eq!(store.header(&hash).unwrap().unwrap().1, expected);
        let from = (height + 1).min(3);
        assert_eq!(store.kept(), Ok(Kept { attachments_from: from, bodies_from: 1, answers_from: from }));
        // The next one stands on it, for the maker as well.
        let mut single = Overlay::new(&store).unwrap();
        single.connect(&network.parameters, &block.0, &block.1).unwrap();
        store.commit(single.into_move(), Durability::Logged).unwrap();
        overlay = Overlay::new(&store).unwrap();
    }
}
