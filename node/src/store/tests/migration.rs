//! Stores of earlier schema versions.
//!
//! `version-1` holds a store that the last program of that version wrote, by the steps of [`fill`].

use std::fs;
use std::path::Path;

use super::*;

/// Three blocks, the last replaced by two others; a refused block; a peer.
fn fill(store: &Store, network: &Network) {
    grow(store, network, 3, 3);
    let branch = {
        let mut overlay = Overlay::new(store).unwrap();
        overlay.disconnect_tip().unwrap();
        [200, 201].map(|pixel| {
            let block = Maker::new(network, &overlay).transfer(0, address(1), 9).classify(1, pixel).mine(address(1));
            overlay.connect(&network.parameters, &block.0, &block.1).unwrap();
            block
        })
    };
    reorganise(store, network, 1, &branch);
    let bad = Maker::new(network, &Overlay::new(store).unwrap()).classify(3, 7).mine(address(2));
    add(store, &bad);
    store.set_status(&bad.0.hash(), BlockStatus::Invalid, Some("a reason")).unwrap();
    store.set_known_peers(&["/ip4/192.0.2.1/tcp/1".into()]).unwrap();
}

/// A copy of the store of version 1.
fn version_1() -> Folder {
    let folder = Folder::new();
    fs::create_dir(folder.path()).unwrap();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/tests/version-1")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    folder
}

/// That a store holds, row for row, what this version writes by the same steps.
fn assert_filled(store: &Store, network: &Network) {
    let place = Folder::new();
    let expected = Store::open(&place.path(), network).unwrap();
    fill(&expected, network);
    for column in columns::ALL {
        assert_eq!(dump(store, column), dump(&expected, column), "column {column}");
    }
}

#[test]
fn a_store_of_version_1_becomes_what_this_version_writes() {
    let (folder, network) = (version_1(), network());
    let store = Store::open(&folder.path(), &network).unwrap();
    assert_filled(&store, &network);
    assert_state_root(&store);
    let mut overlay = Overlay::new(&store).unwrap();
    for _ in 0..4 {
        overlay.disconnect_tip().unwrap();
    }
    assert_eq!(overlay.tip().hash, network.genesis_hash());
    drop(overlay);
    drop(store);
    assert_filled(&Store::open(&folder.path(), &network).unwrap(), &network);
}

#[test]
fn a_migration_goes_on_where_it_was_interrupted() {
    let network = network();
    // Nothing done yet, some rows of one column, and all rows of both.
    for (bodies, undo) in [(0, 0), (2, 0), (usize::MAX, 1), (usize::MAX, usize::MAX)] {
        let folder = version_1();
        {
            let options = StoreOptions::default();
            let found = rocksdb::DB::list_cf(&columns::database_options(&options), folder.path()).unwrap();
            let descriptors = columns::descriptors(found.iter().map(String::as_str), &options);
            let database =
                rocksdb::DB::open_cf_descriptors(&columns::database_options(&options), folder.path(), descriptors)
                    .unwrap();
            let handle = |column| database.cf_handle(column).unwrap();
            for (key, value) in [(rows::SCHEMA_KEY, rows::SCHEMA), (rows::MIGRATION_KEY, 1)] {
                database.put_cf(handle(columns::METADATA), key, value.to_le_bytes()).unwrap();
            }
            for (column, count) in [(columns::BODIES, bodies), (columns::UNDO, undo)] {
                let all: Vec<_> =
                    database.iterator_cf(handle(column), IteratorMode::Start).map(Result::unwrap).collect();
                for (key, value) in all.into_iter().take(count) {
                    let hash = rows::block_hash(&key).expect("version 1 has the hash alone");
                    let arrival = database.get_cf(handle(columns::ARRIVALS), hash.0).unwrap().unwrap();
                    let header = database.get_cf(handle(columns::HEADERS), arrival).unwrap().unwrap();
                    let height = rows::header(&header).unwrap().0.height;
                    database.put_cf(handle(column), rows::block_key(height, &hash), value).unwrap();
                    database.delete_cf(handle(column), key).unwrap();
                }
            }
        }
        assert_filled(&Store::open(&folder.path(), &network).unwrap(), &network);
    }
}

#[test]
fn a_store_of_another_network_is_not_migrated() {
    let folder = version_1();
    let other = Network::builtin("local").unwrap();
    for _ in 0..2 {
        assert!(matches!(Store::open(&folder.path(), &other), Err(StoreError::Network(_))));
    }
    assert_filled(&Store::open(&folder.path(), &network()).unwrap(), &network());
}
