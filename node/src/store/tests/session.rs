use ocelli_consensus::{Action, Address, Amount, Transaction, TxId, Unsigned};

use super::{Folder, network};
use crate::store::session::KeptBan;
use crate::store::{KeptOrder, Store, StoreError, columns};

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

fn order(nonce: u64) -> KeptOrder {
    let action = Action::Transfer { to: Address([1; 20]), amount: Amount(7) };
    let unsigned = Unsigned { nonce, fee: Amount(9), expires: 10, action };
    let transaction = Transaction { unsigned, public_key: [6; 32], signature: [7; 64] };
    KeptOrder { asked: [nonce as u8; 32], at: 1_000 + nonce, cost: Amount(16), transaction }
}

#[test]
fn an_order_and_its_transaction_come_and_go_together() {
    let (folder, network) = (Folder::new(), network());
    let store = Store::open(&folder.path(), &network).unwrap();
    let all: Vec<_> = (1..=3).map(|nonce| (vec![nonce as u8; 4], order(nonce))).collect();
    for (key, order) in &all {
        store.add_order(key, order, vec![1; 9].into(), []).unwrap();
    }
    drop(store);

    let store = Store::open(&folder.path(), &network).unwrap();
    let orders = |store: &Store| -> Vec<_> {
        store.orders().map(|row| row.map(|(key, order)| (key.to_vec(), order)).unwrap()).collect()
    };
    let ids = |orders: &[(Vec<u8>, KeptOrder)]| -> Vec<_> {
        let mut ids: Vec<_> = orders.iter().map(|(_, order)| order.transaction.txid()).collect();
        ids.sort();
        ids
    };
    let pending = |store: &Store| -> Vec<_> { pending(store).into_iter().map(|(id, _)| id).collect() };
    assert_eq!((orders(&store), pending(&store)), (all.clone(), ids(&all)));
    // What came to nothing is sent by no later run: nobody would know any more that it was paid for.
    store.remove_order(&all[0].0, &all[0].1.transaction.txid()).unwrap();
    assert_eq!((orders(&store), pending(&store)), (all[1..].to_vec(), ids(&all[1..])));
    // An order that makes room has its transaction in a block, or never will.
    let (key, fourth) = (vec![4; 4], order(4));
    store.add_order(&key, &fourth, vec![1; 9].into(), [&all[1].0[..]]).unwrap();
    assert_eq!(orders(&store), [all[2].clone(), (key, fourth)]);
    store.damage(columns::ORDERS, b"key", Some(b"torn"));
    assert!(store.orders().any(|row| row == Err(StoreError::damaged(columns::ORDERS, b"key"))));
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
