//! What of old blocks is kept, and forgetting the rest.

use rocksdb::{CompactOptions, FlushOptions, WriteBatch};

use super::options::Step;
use super::write::Durability;
use super::{Rows, Source, Store, StoreError, columns, rows};

/// From which heights on the main chain a store has what. All of them are 1 where nothing is missing: the genesis has
/// neither tasks nor an undo record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Kept {
    /// The first height from which on the attachments of all tasks are here.
    pub attachments_from: u64,
    /// The first height from which on bodies and undo records are here.
    pub bodies_from: u64,
    /// The first height from which on this node has checked every answer itself.
    pub answers_from: u64,
}

impl Kept {
    /// Of a store that lacks nothing.
    pub const ALL: Kept = Kept { attachments_from: 1, bodies_from: 1, answers_from: 1 };
}

impl<S: Source> Rows<S> {
    /// From which heights on there is what.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn kept(&self) -> Result<Kept, StoreError> {
        self.require(columns::METADATA, rows::KEPT_KEY, rows::kept)
    }
}

impl Store {
    /// Forgets the attachments of all blocks below one height, and the bodies and undo records of those below another; blocks
    /// that stand on no main chain go too. Bodies never outlive their attachments' turn: what has no body needs no attachments. The
    /// rows are gone, and [`Rows::kept`](super::Rows::kept) says so, in one write of a few bytes; their files stay until [`Store::free_pruned`].
    ///
    /// # Errors
    /// If it cannot be written; nothing is forgotten then.
    pub fn prune(&self, attachments_below: u64, bodies_below: u64) -> Result<Kept, StoreError> {
        let _writing = self.lock();
        let before = self.kept()?;
        let bodies_from = before.bodies_from.max(bodies_below);
        let attachments_from = before.attachments_from.max(attachments_below).max(bodies_from);
        let kept = Kept { attachments_from, bodies_from, ..before };
        if kept == before {
            return Ok(kept);
        }
        let mut batch = WriteBatch::default();
        let forget = |batch: &mut WriteBatch, column, end| {
            batch.delete_range_cf(self.column(column), rows::number_key(1), rows::number_key(end));
        };
        forget(&mut batch, columns::ATTACHMENTS, attachments_from);
        if bodies_from > before.bodies_from {
            forget(&mut batch, columns::BODIES, bodies_from);
            forget(&mut batch, columns::UNDO, bodies_from);
        }
        batch.put_cf(self.column(columns::METADATA), rows::KEPT_KEY, rows::kept_bytes(&kept));
        self.options.observed(Step::Prune, || self.write(batch, Durability::Logged))?;
        Ok(kept)
    }

    /// Frees the files that held what was pruned after `before`, as far as they hold nothing else. It reads and writes files for
    /// up to seconds; writes go on beside it, so that it may run on any thread.
    ///
    /// # Errors
    /// If what is kept cannot be read.
    pub fn free_pruned(&self, before: Kept) -> Result<(), StoreError> {
        let kept = self.kept()?;
        self.options.observed(Step::Free, || {
            self.compact(columns::ATTACHMENTS, kept.attachments_from);
            if kept.bodies_from > before.bodies_from {
                self.compact(columns::BODIES, kept.bodies_from);
                self.compact(columns::UNDO, kept.bodies_from);
            }
        });
        Ok(())
    }

    /// Files are freed when a compaction has dropped the last row that they hold. Only those of the range are read.
    fn compact(&self, column: &'static str, end: u64) {
        let mut options = CompactOptions::default();
        options.set_exclusive_manual_compaction(false);
        let (first, end) = (rows::number_key(1), rows::number_key(end));
        self.database().compact_range_cf_opt(self.column(column), Some(first), Some(end), &options);
    }

    /// Frees the write-ahead log, which reaches back to the oldest row that is in no sorted file: puts all of them into some.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn free_log(&self) -> Result<(), StoreError> {
        let columns: Vec<_> =
            columns::ALL.into_iter().chain(columns::BESIDE).map(|column| self.column(column)).collect();
        Ok(self.database().flush_cfs_opt(&columns.iter().collect::<Vec<_>>(), &FlushOptions::default())?)
    }

    /// As [`Store::disk_bytes`], up to 10 s old: measuring looks at every file.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn recent_disk_bytes(&self) -> Result<u64, StoreError> {
        self.folder.recent_disk_bytes()
    }

    /// Bytes that the folder takes on the disk.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn disk_bytes(&self) -> Result<u64, StoreError> {
        self.folder.disk_bytes()
    }
}
