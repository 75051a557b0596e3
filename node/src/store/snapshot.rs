//! The rows as they were at one moment.

use std::ops::Deref;
use std::sync::Arc;

use rocksdb::{ColumnFamily, DB, DBIterator, DBPinnableSlice, Error, IteratorMode, ReadOptions};
use self_cell::self_cell;

use super::source::Source;
use super::{Rows, Store};

type Taken<'a> = rocksdb::Snapshot<'a>;

self_cell!(
    struct Held {
        owner: Arc<Store>,
        #[covariant]
        dependent: Taken,
    }
);

/// All rows as they were when it was taken, whatever is written since. It costs next to nothing to take; what is overwritten while
/// it is held stays on the disk, so it is not to be held for long beyond the tip that it shows. Files that pruning frees go
/// nevertheless: a pruned row may be missing here.
pub struct Snapshot(Rows<Frozen>);

/// The rows of a snapshot.
pub struct Frozen(Held);

impl Store {
    /// The rows as they are now, for as long as they are needed.
    pub fn snapshot(self: &Arc<Self>) -> Snapshot {
        let held = Held::new(Arc::clone(self), |store| store.database().snapshot());
        Snapshot(Rows { source: Frozen(held), genesis: self.genesis.clone() })
    }
}

impl Snapshot {
    /// The store that it is of, as it is now.
    pub fn store(&self) -> &Arc<Store> {
        self.0.source.0.borrow_owner()
    }
}

impl Deref for Snapshot {
    type Target = Rows<Frozen>;

    fn deref(&self) -> &Rows<Frozen> {
        &self.0
    }
}

impl Source for Frozen {
    fn database(&self) -> &DB {
        self.0.borrow_owner().database()
    }

    fn row(&self, column: &ColumnFamily, key: &[u8]) -> Result<Option<DBPinnableSlice<'_>>, Error> {
        self.0.borrow_dependent().get_pinned_cf(column, key)
    }

    fn iterate(&self, column: &ColumnFamily, options: ReadOptions, mode: IteratorMode<'_>) -> DBIterator<'_> {
        self.0.borrow_dependent().iterator_cf_opt(column, options, mode)
    }
}
