//! What a node remembers over a restart beside the chain: whom it keeps out, and what is pending.
//!
//! Nothing of it is needed to open a store: where its columns are missing they are made, and what cannot be read is told, so that
//! the node can go on without it.

use ocelli_consensus::TxId;
use ocelli_consensus::codec::{decode, encode};
use rocksdb::{IteratorMode, WriteBatch};

use super::write::Durability;
use super::{Store, StoreError, columns};

/// A ban's row in bytes: a reason, and two peer ids.
const MAX_BAN_BYTES: usize = 2_048;
/// Bytes of pending transactions that are written at once.
const BATCH_BYTES: usize = 4 << 20;

/// A ban.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct KeptBan {
    /// A peer id or an IP address.
    pub subject: String,
    /// When it ends, in seconds since 1970.
    pub until: u64,
    pub reason: String,
    /// The peer for whose sake an address is banned.
    pub of: Option<String>,
}

impl Store {
    /// The bans, in the order in which they were written.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn bans(&self) -> Result<Vec<KeptBan>, StoreError> {
        let rows = self.iterate(columns::BANS, IteratorMode::Start);
        let bans = rows.map(|row| {
            let (key, value) = row?;
            decode(&value, MAX_BAN_BYTES).map_err(|_| StoreError::damaged(columns::BANS, &key))
        });
        bans.collect()
    }

    /// Replaces the bans.
    ///
    /// # Errors
    /// If they cannot be written; those of before stay then.
    pub fn set_bans(&self, bans: &[KeptBan]) -> Result<(), StoreError> {
        let column = self.column(columns::BANS);
        let mut batch = WriteBatch::default();
        for row in self.iterate(columns::BANS, IteratorMode::Start) {
            batch.delete_cf(column, row?.0);
        }
        for (place, ban) in (0..u32::MAX).zip(bans) {
            batch.put_cf(column, place.to_be_bytes(), encode(ban));
        }
        self.write(batch, Durability::Logged)
    }

    /// The pending transactions, in no order of note: their ids, and the bytes given for each.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn pending(&self) -> impl Iterator<Item = Result<(TxId, Vec<u8>), StoreError>> {
        self.iterate(columns::MEMPOOL, IteratorMode::Start).map(|row| {
            let (key, value) = row?;
            let id = key[..].try_into().map_err(|_| StoreError::damaged(columns::MEMPOOL, &key))?;
            Ok((TxId(id), value.into()))
        })
    }

    /// Forgets pending transactions, and adds others.
    ///
    /// # Errors
    /// If they cannot be written; some may be then, each whole.
    pub fn change_pending(
        &self,
        gone: impl IntoIterator<Item = TxId>,
        new: impl IntoIterator<Item = (TxId, Vec<u8>)>,
    ) -> Result<(), StoreError> {
        let column = self.column(columns::MEMPOOL);
        let mut batch = WriteBatch::default();
        gone.into_iter().for_each(|id| batch.delete_cf(column, id.as_bytes()));
        for (id, bytes) in new {
            batch.put_cf(column, id.as_bytes(), bytes);
            if batch.size_in_bytes() >= BATCH_BYTES {
                self.write(std::mem::take(&mut batch), Durability::Logged)?;
            }
        }
        self.write(batch, Durability::Logged)
    }
}
