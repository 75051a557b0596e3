//! The schedule of rules that the stored headers were checked with, and what becomes of them when another comes.

use ocelli_consensus::schedule::Schedule;
use rocksdb::{IteratorMode, WriteBatch};

use super::write::Durability;
use super::{Overlay, Store, StoreError, columns, rows};

/// Blocks that are taken back in one write.
const BLOCKS_A_WRITE: usize = 64;

impl Store {
    /// Brings a store to a schedule other than the one that its headers were checked with: from the first height on at which
    /// versions differ, the tip goes back and headers go, whose version is the former one's. What now belongs there has to be
    /// fetched, and nothing else. An interruption leaves it to be done again.
    ///
    /// # Errors
    /// If it cannot be read or written, or the way back is no longer kept.
    pub(super) fn take_schedule(&self, schedule: &Schedule) -> Result<(), StoreError> {
        let before = self.require(columns::METADATA, rows::SCHEDULE_KEY, rows::schedule)?;
        if before == *schedule {
            return Ok(());
        }
        let mut batch = WriteBatch::default();
        if let Some(height) = before.first_difference(schedule) {
            self.go_below(height)?;
            let mut gone = 0;
            for row in self.iterate(columns::HEADERS, IteratorMode::Start) {
                let (key, value) = row?;
                let (header, _) = rows::header(&value).ok_or_else(|| StoreError::damaged(columns::HEADERS, &key))?;
                if header.height >= height {
                    batch.delete_cf(self.column(columns::HEADERS), &key);
                    batch.delete_cf(self.column(columns::ARRIVALS), header.hash().as_bytes());
                    batch.delete_cf(self.column(columns::VERDICTS), &key);
                    gone += 1;
                }
            }
            tracing::info!(height, gone, "the rules are others from this height on: what was there is fetched again");
        }
        batch.put_cf(self.column(columns::METADATA), rows::SCHEDULE_KEY, rows::schedule_bytes(schedule));
        self.write(batch, Durability::Synced)
    }

    /// Takes back the blocks of the main chain from a height on.
    fn go_below(&self, height: u64) -> Result<(), StoreError> {
        while self.tip()?.height >= height {
            let mut overlay = Overlay::new(self)?;
            for _ in 0..BLOCKS_A_WRITE {
                if overlay.tip().height < height {
                    break;
                }
                overlay.disconnect_tip()?;
            }
            self.commit(overlay.into_move(), Durability::Logged)?;
        }
        Ok(())
    }
}
