//! Attachments that the node's owner will not have here.

use ocelli_consensus::{AttachmentHash, Transaction};
use rocksdb::{IteratorMode, WriteBatch};

use super::write::Durability;
use super::{Rows, Source, Store, StoreError, columns, rows};

impl<S: Source> Rows<S> {
    /// Whether an attachment is not to be kept, nor given to anybody.
    ///
    /// # Errors
    /// If that cannot be read.
    pub fn is_forgotten(&self, attachment: &AttachmentHash) -> Result<bool, StoreError> {
        Ok(self.get(columns::FORGOTTEN, attachment.as_bytes(), |_| Some(()))?.is_some())
    }

    /// The same of what travels beside a transaction, if anything does.
    ///
    /// # Errors
    /// As [`Rows::is_forgotten`].
    pub fn refuses(&self, transaction: &Transaction) -> Result<bool, StoreError> {
        transaction.attachment().map_or(Ok(false), |named| self.is_forgotten(&named.hash))
    }
}

impl Store {
    /// Keeps an attachment no more when another block comes with it: it is checked then as any other, and not written.
    ///
    /// # Errors
    /// If that cannot be written.
    pub fn refuse(&self, attachment: &AttachmentHash) -> Result<(), StoreError> {
        // A block that is being added has been by then, or has it no more.
        let _writing = self.lock();
        let mut batch = WriteBatch::default();
        batch.put_cf(self.column(columns::FORGOTTEN), attachment.as_bytes(), []);
        self.write(batch, Durability::Synced)
    }

    /// Deletes an attachment that is [refused](Store::refuse) wherever a block has it. Reads all bodies, which may take minutes, beside
    /// which other writes go on. Returns how many were deleted.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn delete_refused(&self, attachment: &AttachmentHash) -> Result<u64, StoreError> {
        let mut deleted = 0;
        for row in self.iterate(columns::BODIES, IteratorMode::Start) {
            let (key, value) = row?;
            let body = rows::body(&value).ok_or_else(|| StoreError::damaged(columns::BODIES, &key))?;
            let place = key
                .split_first_chunk()
                .and_then(|(height, hash)| Some((u64::from_be_bytes(*height), rows::block_hash(hash)?)));
            let (height, hash) = place.ok_or_else(|| StoreError::damaged(columns::BODIES, &key))?;
            for (index, (transaction, _)) in (0u32..).zip(&body.transactions) {
                if transaction.carries(attachment) && self.attachment_at(height, &hash, index)?.is_some() {
                    let mut batch = WriteBatch::default();
                    batch.delete_cf(self.column(columns::ATTACHMENTS), rows::attachment_key(height, &hash, index));
                    self.write(batch, Durability::Synced)?;
                    deleted += 1;
                }
            }
        }
        Ok(deleted)
    }
}
