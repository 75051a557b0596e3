//! What this node has paid for at the wish of clients of its API.

use std::sync::Arc;

use ocelli_consensus::codec::{decode, encode};
use ocelli_consensus::{Amount, Transaction, TxId};
use ocelli_protocol::message::Submission;
use rocksdb::{IteratorMode, WriteBatch};

use super::write::Durability;
use super::{Store, StoreError, columns};

/// An order's row in bytes: a transaction, and some numbers.
const MAX_ORDER_BYTES: usize = 1_024;

/// A task that was paid for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptOrder {
    /// Binds what was asked: another request with the same key is another order.
    pub asked: [u8; 32],
    /// When, in milliseconds since 1970 by the wall clock.
    pub at: u64,
    /// Fee and royalty.
    pub cost: Amount,
    pub transaction: Transaction,
}

#[derive(bincode::Encode, bincode::Decode)]
struct Row {
    asked: [u8; 32],
    at: u64,
    cost: u64,
    transaction: Vec<u8>,
}

impl Store {
    /// All orders by their keys, in no order of note.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn orders(&self) -> impl Iterator<Item = Result<(Arc<[u8]>, KeptOrder), StoreError>> {
        self.iterate(columns::ORDERS, IteratorMode::Start).map(|row| {
            let (key, value) = row?;
            let damaged = || StoreError::damaged(columns::ORDERS, &key);
            let Row { asked, at, cost, transaction } = decode(&value, MAX_ORDER_BYTES).map_err(|_| damaged())?;
            let transaction = Transaction::from_bytes(&transaction).map_err(|_| damaged())?;
            Ok((key[..].into(), KeptOrder { asked, at, cost: Amount(cost), transaction }))
        })
    }

    /// Adds an order, forgets others, and adds its transaction to those that are pending: all of it or nothing, and on the disk when
    /// this returns.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn add_order<'a>(
        &self,
        key: &[u8],
        order: &KeptOrder,
        attachment: Arc<[u8]>,
        gone: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), StoreError> {
        let KeptOrder { asked, at, cost, transaction } = order;
        let row = Row { asked: *asked, at: *at, cost: cost.0, transaction: transaction.to_bytes() };
        let mut batch = WriteBatch::default();
        gone.into_iter().for_each(|key| batch.delete_cf(self.column(columns::ORDERS), key));
        batch.put_cf(self.column(columns::ORDERS), key, encode(&row));
        let pending = Submission { transaction: transaction.clone(), attachment: Some(attachment) };
        batch.put_cf(self.column(columns::MEMPOOL), transaction.txid().as_bytes(), pending.to_bytes());
        self.write(batch, Durability::Synced)
    }

    /// Forgets an order that came to nothing, and with it its transaction: left among what is pending, it would be sent after a
    /// restart, and nobody would know that it was paid for.
    ///
    /// # Errors
    /// If that cannot be written.
    pub fn remove_order(&self, key: &[u8], txid: &TxId) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        batch.delete_cf(self.column(columns::ORDERS), key);
        batch.delete_cf(self.column(columns::MEMPOOL), txid.as_bytes());
        self.write(batch, Durability::Synced)
    }
}
