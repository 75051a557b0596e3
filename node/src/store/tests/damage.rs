//! Rows and files that are not what was written.

use std::fs;

use ocelli_consensus::history::{HistoryReader, Position};
use ocelli_consensus::state::{Path, UpdateError};
use ocelli_consensus::transition::{ConnectError, Undo};

use super::*;

fn put(store: &Store, column: &'static str, key: &[u8], value: &[u8]) {
    store.database().put_cf(store.column(column), key, value).unwrap();
}

#[test]
fn a_malformed_row_is_named() {
    let (folder, network) = (Folder::new(), network());
    let store = Store::open(&folder.path(), &network).unwrap();
    let (header, body, _) = grow(&store, &network, 1, 1).remove(0);
    let (hash, txid) = (header.hash(), body.transactions[0].0.txid());
    store.set_known_peers(&["peer".into()]).unwrap();
    store.set_status(&hash, BlockStatus::Invalid, Some("reason")).unwrap();
    let leaf = Position { level: 0, index: 1 };
    type Read<'a> = Box<dyn Fn() -> Option<StoreError> + 'a>;
    let table: Vec<(&'static str, Vec<u8>, Read)> = vec![
        (columns::VERDICTS, rows::number_key(1).into(), Box::new(|| store.verdict(&hash).err())),
        (columns::VERDICTS, rows::number_key(1).into(), Box::new(|| store.verdicts(1).err())),
        (columns::HEADERS, rows::number_key(1).into(), Box::new(|| store.header(&hash).err())),
        (columns::HEADERS, rows::number_key(1).into(), Box::new(|| store.headers().find_map(Result::err))),
        (columns::HEADERS, rows::number_key(1).into(), Box::new(|| Overlay::new(&store).err())),
        (columns::ARRIVALS, hash.0.into(), Box::new(|| store.header(&hash).err())),
        (columns::ARRIVALS, hash.0.into(), Box::new(|| store.add_header(&header).err())),
        (columns::BODIES, rows::block_key(1, &hash).into(), Box::new(|| store.body(1, &hash).err())),
        (columns::UNDO, rows::block_key(1, &hash).into(), Box::new(|| store.undo(1, &hash).err())),
        (columns::HEIGHTS, rows::number_key(1).into(), Box::new(|| store.hash_at(1).err())),
        (columns::OBJECTS, ObjectId::Account(address(0)).to_bytes(), Box::new(|| store.account(&address(0)).err())),
        (columns::STATE, Path::ROOT.to_bytes().into(), Box::new(|| store.branch(&Path::ROOT).err())),
        (columns::HISTORY, rows::position_key(leaf).into(), Box::new(|| store.entry(leaf).err())),
        (columns::TRANSACTIONS, txid.0.into(), Box::new(|| store.transaction_location(&txid).err())),
        (columns::METADATA, rows::PEERS_KEY.into(), Box::new(|| store.known_peers().err())),
        (columns::METADATA, rows::TIP_KEY.into(), Box::new(|| store.tip().err())),
        (columns::METADATA, rows::TIP_KEY.into(), Box::new(|| Overlay::new(&store).err())),
    ];
    for (column, key, read) in table {
        let good = store.database().get_cf(store.column(column), &key).unwrap().expect("the row is there");
        for bad in [&[][..], &[0xff; 3], &good[1..], &[&good[..], &[0]].concat()] {
            put(&store, column, &key, bad);
            assert_eq!(read(), Some(StoreError::damaged(column, &key)), "column {column}, {} bytes", bad.len());
        }
        put(&store, column, &key, &good);
        assert_eq!(read(), None, "column {column}");
    }
    for (key, bad) in [(rows::SCHEMA_KEY, &b"x"[..]), (rows::GENESIS_KEY, b"x"), (rows::TIP_KEY, b"x")] {
        let folder = Folder::new();
        let store = Store::open(&folder.path(), &network).unwrap();
        put(&store, columns::METADATA, key, bad);
        drop(store);
        let error = Store::open(&folder.path(), &network).err();
        assert_eq!(error, Some(StoreError::damaged(columns::METADATA, key)));
    }
}

#[test]
fn a_missing_row_is_named() {
    let (folder, network) = (Folder::new(), network());
    let store = Store::open(&folder.path(), &network).unwrap();
    let hash = grow(&store, &network, 1, 1)[0].0.hash();
    let delete = |column, key: &[u8]| store.database().delete_cf(store.column(column), key).unwrap();
    let leaf = rows::position_key(Position { level: 1, index: 0 });
    delete(columns::HISTORY, &leaf);
    assert_eq!(Overlay::new(&store).err(), Some(StoreError::missing(columns::HISTORY, &leaf)));
    delete(columns::HEADERS, &rows::number_key(1));
    assert_eq!(store.header(&hash), Err(StoreError::missing(columns::HEADERS, &rows::number_key(1))));
    delete(columns::METADATA, rows::TIP_KEY);
    assert_eq!(store.tip(), Err(StoreError::missing(columns::METADATA, rows::TIP_KEY)));
}

#[test]
fn a_block_without_its_undo_record_stays() {
    let (folder, network) = (Folder::new(), network());
    let store = Store::open(&folder.path(), &network).unwrap();
    let block = grow(&store, &network, 1, 2)[1].0.hash();
    for column in [columns::BODIES, columns::UNDO] {
        let key = rows::block_key(2, &block);
        let good = store.database().get_cf(store.column(column), key).unwrap().unwrap();
        store.database().delete_cf(store.column(column), key).unwrap();
        let mut overlay = Overlay::new(&store).unwrap();
        assert_eq!(overlay.disconnect_tip(), Err(StoreError::Pruned { block, height: 2 }));
        assert_eq!(overlay.tip(), &store.tip().unwrap());
        put(&store, column, &key, &good);
        overlay.disconnect_tip().unwrap();
    }
}

#[test]
fn a_wrong_undo_record_is_noticed() {
    let (folder, network) = (Folder::new(), network());
    let store = Store::open(&folder.path(), &network).unwrap();
    let blocks = grow(&store, &network, 1, 2);
    let (block, expected) = (blocks[1].0.hash(), blocks[0].0.state);
    put(&store, columns::UNDO, &rows::block_key(2, &block), &ocelli_consensus::codec::encode(&Undo::default()));
    let found = blocks[1].0.state;
    let mut overlay = Overlay::new(&store).unwrap();
    assert_eq!(overlay.disconnect_tip(), Err(StoreError::Undone { block, found, expected }));
    assert_eq!(overlay.tip().hash, block);
}

#[test]
fn a_wrong_branch_is_noticed_and_no_fault_of_the_block() {
    let (folder, network) = (Folder::new(), network());
    let store = Store::open(&folder.path(), &network).unwrap();
    grow(&store, &network, 1, 2);
    let mut overlay = Overlay::new(&store).unwrap();
    let (header, body, _) = Maker::new(&network, &overlay).transfer(0, address(1), 5).mine(address(2));
    let good = store.branch(&Path::ROOT).unwrap().unwrap();
    put(&store, columns::STATE, &Path::ROOT.to_bytes(), &Branch { left: good.right, right: good.left }.to_bytes());
    let error = overlay.connect(&network.parameters, &header, &body);
    assert_eq!(error, Err(ConnectError::Tree(UpdateError::Damaged(Path::ROOT))));
    assert_eq!(overlay.disconnect_tip(), Err(StoreError::damaged(columns::STATE, &Path::ROOT.to_bytes())));
    store.database().delete_cf(store.column(columns::STATE), Path::ROOT.to_bytes()).unwrap();
    assert_eq!(overlay.disconnect_tip(), Err(StoreError::missing(columns::STATE, &Path::ROOT.to_bytes())));
}

#[test]
fn flipped_bytes_in_files_are_noticed() {
    let (folder, network) = (Folder::new(), network());
    let store = Store::open(&folder.path(), &network).unwrap();
    let headers = grow(&store, &network, 1, 20);
    for column in columns::ALL {
        store.database().flush_cf(store.column(column)).unwrap();
    }
    drop(store);
    let mut files = 0;
    for entry in fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "sst" || extension == "blob") {
            let mut bytes = fs::read(&path).unwrap();
            let last = bytes.len().min(200);
            bytes[20..last].iter_mut().for_each(|byte| *byte ^= 0x55);
            fs::write(&path, bytes).unwrap();
            files += 1;
        }
    }
    assert!(files >= columns::ALL.len() - 1, "all but the empty column have files");
    let read = || {
        let store = Store::open(&folder.path(), &network)?;
        store.headers().collect::<Result<Vec<_>, _>>()?;
        for (header, body, _) in &headers {
            store.attachments(header.height, &header.hash(), body)?;
        }
        Ok(())
    };
    let result: Result<(), StoreError> = read();
    assert!(matches!(result, Err(StoreError::Corrupt(_))), "{result:?}");
}

#[test]
fn missing_files_are_noticed() {
    let network = network();
    for kind in ["MANIFEST", "CURRENT", "sst"] {
        let folder = Folder::new();
        let store = Store::open(&folder.path(), &network).unwrap();
        store.database().flush_cf(store.column(columns::HEADERS)).unwrap();
        drop(store);
        for entry in fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with(kind) || name.ends_with(kind) {
                fs::remove_file(path).unwrap();
            }
        }
        let error = Store::open(&folder.path(), &network).err();
        let expected = matches!(
            (kind, &error),
            ("CURRENT", Some(StoreError::Foreign { .. }))
                | ("MANIFEST" | "sst", Some(StoreError::Corrupt(_) | StoreError::Database(_)))
        );
        assert!(expected, "{kind}: {error:?}");
    }
}
