//! A copy of a store, and the comparison of two.

use std::path::Path;

use rocksdb::IteratorMode;
use rocksdb::checkpoint::Checkpoint;

use super::{Store, StoreError, columns};

impl Store {
    /// Makes a copy in the folder `path`, which does not exist yet. On the same disk the large files are linked, not copied.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn copy_to(&self, path: &Path) -> Result<(), StoreError> {
        Ok(Checkpoint::new(self.database())?.create_checkpoint(path)?)
    }

    /// The first row, with its column, in which what two stores derived from their main chains differs; entries of accounts are
    /// compared where both have them from the same height on.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn first_difference(&self, other: &Store) -> Result<Option<(&'static str, Vec<u8>)>, StoreError> {
        let ledger = (self.ledger_from()? == other.ledger_from()?).then_some(columns::LEDGER);
        for column in columns::OF_THE_CHAIN.into_iter().chain(ledger) {
            let mut ours = self.iterate(column, IteratorMode::Start);
            let mut theirs = other.iterate(column, IteratorMode::Start);
            loop {
                match (ours.next().transpose()?, theirs.next().transpose()?) {
                    (None, None) => break,
                    (one, another) if one == another => {}
                    // The lower of the two keys is the one that the other store lacks, or has with another value.
                    (one, another) => {
                        let key = [one, another].into_iter().flatten().map(|(key, _)| key.to_vec()).min();
                        return Ok(Some((column, key.unwrap_or_default())));
                    }
                }
            }
        }
        Ok(None)
    }
}
