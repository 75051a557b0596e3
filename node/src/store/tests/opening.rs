//! Creating, opening and what is refused.

use std::fs;
use std::io::ErrorKind;

use ocelli_consensus::genesis::genesis_state;
use ocelli_consensus::history::{HistoryReader, Position};
use ocelli_consensus::object::Account;
use rocksdb::Options;

use super::*;
use crate::store::{MAX_KNOWN_PEERS, WrongNetwork};

#[test]
fn a_new_store_holds_the_genesis() {
    let (folder, network) = (Folder::new(), network());
    let store = Store::open(&folder.path(), &network).unwrap();
    let (hash, (state, branches, _)) = (network.genesis_hash(), genesis_state(&network.parameters));

    let tip = store.tip().unwrap();
    assert_eq!((tip.hash, tip.height, tip.state), (hash, 0, state));
    assert_eq!(network.genesis.state.0, tip.state.hash());
    assert_eq!(store.genesis(), &network.genesis);
    assert!(store.headers().next().is_none());
    assert_eq!(store.header(&hash), Ok(Some((network.genesis.clone(), BlockStatus::Verified))));
    assert_eq!(store.body(0, &hash), Ok(Some(Body::default())));
    assert_eq!(store.attachments(0, &hash, &Body::default()), Ok(vec![]));
    assert_eq!((store.hash_at(0), store.hash_at(1)), (Ok(Some(hash)), Ok(None)));
    assert_eq!(store.kept(), Ok(Kept::ALL));
    assert_eq!((store.undo(0, &hash), store.verdicts(9), store.known_peers()), (Ok(None), Ok(vec![]), Ok(vec![])));
    let expected = Account { nonce: 0, balance: Amount(1_000_000_000) };
    assert_eq!((store.account(&address(3)), store.account(&address(4))), (Ok(Some(expected)), Ok(None)));
    for (path, branch) in branches {
        assert_eq!(store.branch(&path), Ok(branch));
    }
    assert_eq!(store.entry(Position { level: 0, index: 0 }).unwrap().hash, hash.0);
    assert_eq!(store.peaks().unwrap().leaves(), 1);
    assert_state_root(&store);
}

#[test]
fn it_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Store>();
}

#[test]
fn every_step_is_there_after_reopening() {
    let (folder, network) = (Folder::new(), network());
    let mut blocks = Vec::new();
    for step in 0..8 {
        let store = Store::open(&folder.path(), &network).unwrap();
        assert_eq!(store.tip().unwrap().height, step);
        assert_as_from_scratch(&store, &network, &blocks);
        blocks.extend(grow(&store, &network, 3, 1));
        let tip = store.tip();
        drop(store);
        let store = Store::open(&folder.path(), &network).unwrap();
        assert_eq!(store.tip(), tip);
        assert_state_root(&store);
        assert_eq!(header_tree(&store).best_candidate().hash, tip.unwrap().hash);
    }
}

#[test]
fn a_store_of_another_network_is_refused_with_both_names() {
    let (folder, network) = (Folder::new(), network());
    drop(Store::open(&folder.path(), &network).unwrap());
    let local = Network::builtin("local").unwrap();
    let error = Store::open(&folder.path(), &local).err().unwrap();
    let expected = WrongNetwork {
        path: folder.path(),
        found: "test".into(),
        found_genesis: network.genesis_hash(),
        expected: "local".into(),
        expected_genesis: local.genesis_hash(),
    };
    assert_eq!(error, StoreError::Network(Box::new(expected)));
    let text = error.to_string();
    assert!(text.contains("'test'") && text.contains("'local'"), "{text}");
    Store::open(&folder.path(), &network).unwrap();
}

#[test]
fn another_layout_is_refused_whatever_its_columns() {
    let (folder, network) = (Folder::new(), network());
    let (path, expected) = (folder.path(), rows::SCHEMA);
    for (found, word) in [(expected + 1, "newer"), (0, "older")] {
        let mut store = Store::open(&path, &network).unwrap();
        store.rows.source.0.create_cf("later", &Options::default()).unwrap();
        store.database().put_cf(store.column(columns::METADATA), rows::SCHEMA_KEY, found.to_le_bytes()).unwrap();
        drop(store);
        let error = Store::open(&path, &network).err().unwrap();
        assert_eq!(error, StoreError::Schema { path: path.clone(), found, expected });
        assert!(error.to_string().contains(word));
        fs::remove_dir_all(&path).unwrap();
    }
}

#[test]
fn a_store_in_use_is_locked() {
    let (folder, network) = (Folder::new(), network());
    let store = Store::open(&folder.path(), &network).unwrap();
    let locked = StoreError::Locked { path: folder.path() };
    assert_eq!(Store::open(&folder.path(), &network).err(), Some(locked));
    drop(store);
    Store::open(&folder.path(), &network).unwrap();
}

#[test]
fn what_is_no_store_is_left_alone() {
    let (folder, network) = (Folder::new(), network());
    let path = folder.path();
    fs::create_dir(&path).unwrap();
    fs::write(path.join("letter.txt"), "dear").unwrap();
    assert_eq!(Store::open(&path, &network).err(), Some(StoreError::Foreign { path: path.clone() }));
    assert_eq!(fs::read_dir(&path).unwrap().count(), 1);

    // A database of another program.
    let other = folder.0.path().join("other");
    let mut options = Options::default();
    options.create_if_missing(true);
    drop(rocksdb::DB::open(&options, &other).unwrap());
    assert_eq!(Store::open(&other, &network).err(), Some(StoreError::Foreign { path: other }));

    let file = folder.0.path().join("file");
    fs::write(&file, "").unwrap();
    let expected = StoreError::Folder { path: file.clone(), kind: ErrorKind::NotADirectory };
    assert_eq!(Store::open(&file, &network).err(), Some(expected));
    let below = file.join("store");
    let error = Store::open(&below, &network).err();
    assert_eq!(error, Some(StoreError::Folder { path: below, kind: ErrorKind::NotADirectory }));
}

#[test]
fn an_empty_folder_and_missing_parents_will_do() {
    let (folder, network) = (Folder::new(), network());
    fs::create_dir(folder.path()).unwrap();
    Store::open(&folder.path(), &network).unwrap();
    let deep = folder.0.path().join("a/b/c");
    Store::open(&deep, &network).unwrap();
    assert!(!folder.0.path().join("a/b/c.new").exists());
}

#[test]
fn creating_begins_anew_where_it_was_interrupted() {
    let (folder, network) = (Folder::new(), network());
    let staging = folder.0.path().join("store.new");
    // Killed just before the rename, and while the database was being made.
    for interrupted in
        [|_: &std::path::Path| {}, |staging: &std::path::Path| fs::remove_file(staging.join("CURRENT")).unwrap()]
    {
        let store = Store::open(&folder.path(), &network).unwrap();
        grow(&store, &network, 3, 1);
        drop(store);
        fs::rename(folder.path(), &staging).unwrap();
        interrupted(&staging);
        let store = Store::open(&folder.path(), &network).unwrap();
        assert_eq!(store.tip().unwrap().height, 0);
        assert!(store.headers().next().is_none());
        assert!(!staging.exists());
        drop(store);
        fs::remove_dir_all(folder.path()).unwrap();
    }
}

#[test]
fn a_store_without_a_column_is_refused() {
    let (folder, network) = (Folder::new(), network());
    let mut store = Store::open(&folder.path(), &network).unwrap();
    store.rows.source.0.drop_cf(columns::UNDO).unwrap();
    drop(store);
    assert_eq!(Store::open(&folder.path(), &network).err(), Some(StoreError::MissingColumn(columns::UNDO)));
}

#[test]
fn peers_are_remembered_within_bounds() {
    let (folder, network) = (Folder::new(), network());
    let store = Store::open(&folder.path(), &network).unwrap();
    let peers: Vec<String> = (0..MAX_KNOWN_PEERS + 5).map(|number| format!("/ip4/192.0.2.1/tcp/{number}")).collect();
    let long = ["x".repeat(513)];
    store.set_known_peers(&[&long, &peers[..]].concat()).unwrap();
    drop(store);
    let store = Store::open(&folder.path(), &network).unwrap();
    assert_eq!(store.known_peers().unwrap(), peers[..MAX_KNOWN_PEERS]);
    store.set_known_peers(&[]).unwrap();
    assert_eq!(store.known_peers(), Ok(vec![]));
}
