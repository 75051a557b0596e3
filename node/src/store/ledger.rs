//! What has happened to each account: a row for each entry of the main chain, from a height on.
//!
//! A chain move writes the entries of the blocks that it connects, and takes back those of the blocks that it disconnects, with all
//! else ([`Overlay`](super::Overlay)). What a store has had before it kept any is added from above downwards, beside the moves of the
//! tip ([`Store::extend_ledger`]), so that one height says what is there.

use std::sync::Arc;

use ocelli_consensus::codec::encode;
use ocelli_consensus::object::StateReader;
use ocelli_consensus::parameters::Parameters;
use ocelli_consensus::{Address, BlockHash, ModelId};
use ocelli_protocol::ledger::{self, Entry, Place};
use rocksdb::{CompactOptions, IteratorMode, ReadOptions, WriteBatch};

use super::options::{LedgerOption, Step};
use super::write::Durability;
use super::{Rows, Source, Store, StoreError, columns, decoded, rows};

/// Entries after which one write of [`Store::extend_ledger`] ends, with the block that it is at: some 2 MB.
const ENTRIES_A_WRITE: usize = 16_384;
/// Blocks of one write, which a reorganisation may make vain.
const BLOCKS_A_WRITE: u64 = 256;

/// The author of a model of the state, who gets its royalties.
pub(super) fn author<R: StateReader<Error = StoreError>>(reader: &R, model: &ModelId) -> Result<Address, StoreError> {
    let record = reader.model(model)?.ok_or_else(|| StoreError::missing(columns::OBJECTS, model.as_bytes()))?;
    Ok(record.author)
}

impl<S: Source> Rows<S> {
    /// The first height from which on the entries of accounts are here, which may be the one after the tip; `None` where none
    /// are kept.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn ledger_from(&self) -> Result<Option<u64>, StoreError> {
        self.get(columns::METADATA, rows::LEDGER_KEY, rows::count)
    }

    /// An account's entries, the latest first, of those before a place; of none where none are kept.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn entries(
        &self,
        account: &Address,
        before: Option<&Place>,
    ) -> impl Iterator<Item = Result<Entry, StoreError>> + use<'_, S> {
        // All bytes of an account's keys are below this.
        let mut end = [0xff; 33];
        end[..20].copy_from_slice(&account.0);
        if let Some(before) = before {
            end = rows::entry_key(account, before);
        }
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(account.0.to_vec());
        options.set_iterate_upper_bound(end.to_vec());
        let entries = self.source.iterate(self.column(columns::LEDGER), options, IteratorMode::End);
        entries.map(|row| {
            let (key, value) = row?;
            decoded(columns::LEDGER, &key, rows::account_entry(&key, &value)).map(|(_, entry)| entry)
        })
    }
}

impl Store {
    /// Does what the option says when the store is opened.
    pub(super) fn take_ledger_option(&self) -> Result<(), StoreError> {
        match (self.options.ledger, self.ledger_from()?) {
            (LedgerOption::Kept, None) => {
                let mut batch = WriteBatch::default();
                self.put_ledger_from(&mut batch, self.tip()?.height.saturating_add(1));
                self.write(batch, Durability::Logged)
            }
            (LedgerOption::Dropped, Some(_)) => self.drop_ledger(),
            _ => Ok(()),
        }
    }

    /// Deletes all entries, and that there are any.
    pub(super) fn drop_ledger(&self) -> Result<(), StoreError> {
        let (column, first, end) = (self.column(columns::LEDGER), [0u8; 33], [0xff_u8; 33]);
        let mut batch = WriteBatch::default();
        batch.delete_cf(self.column(columns::METADATA), rows::LEDGER_KEY);
        batch.delete_range_cf(column, first.as_slice(), end.as_slice());
        self.write(batch, Durability::Logged)?;
        self.database().delete_file_in_range_cf(column, first, end)?;
        self.database().compact_range_cf_opt(column, Some(first), Some(end), &CompactOptions::default());
        Ok(())
    }

    pub(super) fn put_ledger_from(&self, batch: &mut WriteBatch, height: u64) {
        batch.put_cf(self.column(columns::METADATA), rows::LEDGER_KEY, height.to_le_bytes());
    }

    /// Adds entries of blocks that were connected before the store kept any, the highest first, as far as their bodies are
    /// here; some at a time, in one write. It reads beside the moves of the tip, and what a move has made vain is not written,
    /// so that it may run on any thread. Returns whether there is more to add.
    ///
    /// # Errors
    /// If they cannot be read or written.
    pub fn extend_ledger(self: &Arc<Self>, parameters: &Parameters) -> Result<bool, StoreError> {
        let Some(older) = self.older_entries(parameters)? else { return Ok(false) };
        self.add_older(older)?;
        Ok(true)
    }

    /// Reads what [`Store::extend_ledger`] is to write; `None` where nothing is left.
    pub(super) fn older_entries(self: &Arc<Self>, parameters: &Parameters) -> Result<Option<Older>, StoreError> {
        let read = self.snapshot();
        let Some(from) = read.ledger_from()? else { return Ok(None) };
        let top = from.min(read.tip()?.height.saturating_add(1));
        let end = read.kept()?.bodies_from.max(1);
        let (mut highest, mut lowest) = (None, top);
        let (mut batch, mut count) = (WriteBatch::default(), 0);
        while lowest > end && count < ENTRIES_A_WRITE && top - lowest < BLOCKS_A_WRITE {
            let height = lowest - 1;
            let (hash, header) = read.main_header(height)?;
            // Pruned meanwhile: no snapshot holds the files of that.
            let Some(body) = read.body(height, &hash)? else { break };
            let entries = ledger::entries(parameters, &header, &body, |model| author(&*read, model))?;
            count += entries.len();
            for (account, entry) in entries {
                let key = rows::entry_key(&account, &entry.place);
                batch.put_cf(self.column(columns::LEDGER), key, encode(&entry.event));
            }
            highest.get_or_insert((height, hash));
            lowest = height;
        }
        self.put_ledger_from(&mut batch, lowest);
        Ok(highest.map(|highest| Older { from, highest, batch }))
    }

    /// Writes them, unless a move has changed what they are of.
    pub(super) fn add_older(&self, older: Older) -> Result<(), StoreError> {
        let Older { from, highest: (height, hash), batch } = older;
        let _writing = self.lock();
        // The same highest block stands on the same blocks.
        if self.ledger_from()? != Some(from) || self.hash_at(height)? != Some(hash) {
            return Ok(());
        }
        self.options.observed(Step::Ledger, || self.write(batch, Durability::Logged))
    }
}

/// Entries of blocks below those that have theirs.
pub(super) struct Older {
    /// What the store said when they were read.
    from: u64,
    /// The highest block that they are of.
    highest: (u64, BlockHash),
    batch: WriteBatch,
}
