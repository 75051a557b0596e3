//! What of old blocks is kept, and forgetting the rest.

use rocksdb::{FlushOptions, WriteBatch};

use super::options::Step;
use super::write::Durability;
use super::{Store, StoreError, columns, rows};

/// From which heights on the main chain a store has what. All of them are 1 where nothing is missing: the genesis has
/// neither tasks nor an undo record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Kept {
    /// The first height from which on the pixels of all tasks are here.
    pub pixels_from: u64,
    /// The first height from which on bodies and undo records are here.
    pub bodies_from: u64,
    /// The first height from which on this node has checked every answer itself.
    pub answers_from: u64,
}

impl Kept {
    /// Of a store that lacks nothing.
    pub const ALL: Kept = Kept { pixels_from: 1, bodies_from: 1, answers_from: 1 };
}

impl Store {
    /// From which heights on there is what.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn kept(&self) -> Result<Kept, StoreError> {
        self.require(columns::METADATA, rows::KEPT_KEY, rows::kept)
    }

    /// Forgets the pixels of all blocks below one height, and the bodies and undo records of those below another; blocks
    /// that stand on no main chain go too. Bodies never outlive their pixels' turn: what has no body needs no pixels. The
    /// rows are gone, and [`Store::kept`] says so, in one write; then the files that held them are freed, as far as they
    /// hold nothing else.
    ///
    /// # Errors
    /// If it cannot be written; nothing is forgotten then.
    pub fn prune(&self, pixels_below: u64, bodies_below: u64) -> Result<Kept, StoreError> {
        let _writing = self.lock();
        let before = self.kept()?;
        let bodies_from = before.bodies_from.max(bodies_below);
        let pixels_from = before.pixels_from.max(pixels_below).max(bodies_from);
        let kept = Kept { pixels_from, bodies_from, ..before };
        if kept == before {
            return Ok(kept);
        }
        self.options.observed(Step::Prune, || {
            let mut batch = WriteBatch::default();
            let (first, pixels_end, bodies_end) =
                (rows::number_key(1), rows::number_key(pixels_from), rows::number_key(bodies_from));
            batch.delete_range_cf(self.column(columns::PIXELS), first, pixels_end);
            if bodies_from > before.bodies_from {
                for column in [columns::BODIES, columns::UNDO] {
                    batch.delete_range_cf(self.column(column), first, bodies_end);
                }
            }
            batch.put_cf(self.column(columns::METADATA), rows::KEPT_KEY, rows::kept_bytes(&kept));
            self.write(batch, Durability::Logged)?;
            // Files are freed when a compaction has dropped the last row that they hold. Only those of the range are read.
            self.database.compact_range_cf(self.column(columns::PIXELS), Some(first), Some(pixels_end));
            if bodies_from > before.bodies_from {
                for column in [columns::BODIES, columns::UNDO] {
                    self.database.compact_range_cf(self.column(column), Some(first), Some(bodies_end));
                }
            }
            Ok(kept)
        })
    }

    /// Frees the write-ahead log, which reaches back to the oldest row that is in no sorted file: puts all of them into some.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn free_log(&self) -> Result<(), StoreError> {
        let columns = columns::ALL.map(|column| self.column(column));
        Ok(self.database.flush_cfs_opt(&columns.each_ref(), &FlushOptions::default())?)
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
