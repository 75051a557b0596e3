use ocelli_consensus::TxId;

use super::{Folder, network};
use crate::store::session::KeptBan;
use crate::store::{Store, StoreError, columns};

fn ban(subject: &str, until: u64) -> KeptBan {
    KeptBan { subject: subject.into(), until, reason: "a \"reason\"".into(), of: Some("peer".into()) }
}

fn pending(store: &Store) -> Vec<(TxId, Vec<u8>)> {
    store.pending().collect::<Result<_, _>>().unwrap()
}

#[test]
fn bans_and_what_is_pending_are_read_back() {
    let (folder, network) = (Folder::new(), network());
    let store = Store::open(&folder.path(), &network).unwrap();
    assert_eq!((store.bans(), pending(&store)), (Ok(vec![]), vec![]));
    let bans = [ban("one", 7), ban("another", 5), ban("1.2.3.4", u64::MAX)];
    store.set_bans(&bans).unwrap();
    let rows: Vec<_> = (1..=3u8).map(|number| (TxId([number; 32]), vec![number; 3 << 20])).collect();
    store.change_pending([], rows.clone()).unwrap();
    drop(store);

    let store = Store::open(&folder.path(), &network).unwrap();
    assert_eq!(store.bans().unwrap(), bans);
    assert!(pending(&store) == rows);
    store.set_bans(&bans[1..2]).unwrap();
    store.change_pending([rows[0].0, TxId([9; 32])], [(TxId([4; 32]), vec![4])]).unwrap();
    assert_eq!(store.bans().unwrap(), bans[1..2]);
    let left: Vec<_> = pending(&store).into_iter().map(|(id, _)| id.0[0]).collect();
    assert_eq!(left, [2, 3, 4]);
}

#[test]
fn what_is_damaged_is_told() {
    let (folder, network) = (Folder::new(), network());
    let store = Store::open(&folder.path(), &network).unwrap();
    store.set_bans(&[ban("one", 7)]).unwrap();
    store.damage(columns::BANS, &0u32.to_be_bytes(), Some(b"torn"));
    assert_eq!(store.bans(), Err(StoreError::damaged(columns::BANS, &0u32.to_be_bytes())));
    store.damage(columns::MEMPOOL, b"short", Some(b"row"));
    assert!(store.pending().any(|row| row.is_err()));
    // It is gone with the next that are written.
    store.set_bans(&[]).unwrap();
    assert_eq!(store.bans(), Ok(vec![]));
}

/// A store that was made before there were these columns, or has lost them.
#[test]
fn missing_columns_are_made() {
    let (folder, network) = (Folder::new(), network());
    for column in columns::BESIDE {
        let mut store = Store::open(&folder.path(), &network).unwrap();
        store.set_bans(&[ban("one", 7)]).unwrap();
        store.rows.source.0.drop_cf(column).unwrap();
        drop(store);
        let store = Store::open(&folder.path(), &network).unwrap();
        assert_eq!((store.bans().unwrap().len(), pending(&store)), (usize::from(column != columns::BANS), vec![]));
    }
}
