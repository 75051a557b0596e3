//! From one schema version to the next. Each step can be interrupted anywhere and begun again: as long as it is under way,
//! a row in the metadata says from which version, and programs of that version refuse the store.

use rocksdb::{IteratorMode, WriteBatch};

use super::options::Step;
use super::write::Durability;
use super::{Kept, Store, StoreError, columns, rows};
use ocelli_consensus::BlockHash;

/// The oldest version that can be migrated.
pub(super) const OLDEST: u32 = 1;
/// Bytes of rows that are rewritten at once: what an interruption has to do again.
const BATCH_BYTES: usize = 256 << 10;

/// Brings a store of version `from` to [`rows::SCHEMA`].
pub(super) fn migrate(store: &Store, from: u32) -> Result<(), StoreError> {
    store.options.observed(Step::Migrate, || {
        let metadata = store.column(columns::METADATA);
        tracing::info!(from, to = rows::SCHEMA, "the data folder is brought to this version's layout");
        let mut batch = WriteBatch::default();
        batch.put_cf(metadata, rows::MIGRATION_KEY, from.to_le_bytes());
        batch.put_cf(metadata, rows::SCHEMA_KEY, rows::SCHEMA.to_le_bytes());
        store.write(batch, Durability::Synced)?;

        if from <= 1 {
            for column in [columns::BODIES, columns::UNDO] {
                key_by_height(store, column)?;
            }
        }

        let mut batch = WriteBatch::default();
        batch.put_cf(metadata, rows::KEPT_KEY, rows::kept_bytes(&Kept::ALL));
        batch.delete_cf(metadata, rows::MIGRATION_KEY);
        store.write(batch, Durability::Synced)?;
        tracing::info!("the data folder has this version's layout");
        Ok(())
    })
}

/// Version 1 had bodies and undo records under the block hash alone, where pruning would have to delete them one by one.
fn key_by_height(store: &Store, column: &'static str) -> Result<(), StoreError> {
    let handle = store.column(column);
    let mut batch = WriteBatch::default();
    let write = |batch| store.options.observed(Step::Rewrite, || store.write(batch, Durability::Logged));
    for row in store.iterate(column, IteratorMode::Start) {
        let (key, value) = row?;
        // Those with longer keys were rewritten before an interruption.
        let Some(hash) = rows::block_hash(&key) else { continue };
        let height = height_of(store, &hash)?;
        batch.put_cf(handle, rows::block_key(height, &hash), value);
        batch.delete_cf(handle, key);
        if batch.size_in_bytes() >= BATCH_BYTES {
            write(std::mem::take(&mut batch))?;
        }
    }
    write(batch)
}

fn height_of(store: &Store, hash: &BlockHash) -> Result<u64, StoreError> {
    let header = store.header(hash)?;
    header.map(|(header, _)| header.height).ok_or_else(|| StoreError::missing(columns::ARRIVALS, hash.as_bytes()))
}
