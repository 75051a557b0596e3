//! What a store is opened with.

use std::fmt;

/// The least memory for [`StoreOptions::cache_bytes`]: below it RocksDB reads the same blocks over and over.
pub const MIN_CACHE_BYTES: usize = 8 << 20;
/// Memory for [`StoreOptions::cache_bytes`] unless told otherwise: a guess for a node on a small machine.
pub const DEFAULT_CACHE_BYTES: usize = 96 << 20;

/// What a store is opened with.
#[derive(Clone, Copy)]
pub struct StoreOptions {
    /// Bounds the bytes of memory for blocks of files with their indexes and filters (two thirds) and for rows that are
    /// not in a sorted file yet (one third). At least [`MIN_CACHE_BYTES`].
    pub cache_bytes: usize,
    /// What becomes of the entries of accounts.
    pub ledger: LedgerOption,
    /// Told of each [`Step`], for tests that end the process in the midst of one; `None` costs nothing.
    pub observer: Option<Observer>,
}

/// Whether a store keeps what has happened to each account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LedgerOption {
    /// As it was found, and in a new store.
    #[default]
    AsFound,
    /// From now on; what came before is for [`Store::extend_ledger`](super::Store::extend_ledger).
    Kept,
    /// What there is of it goes.
    Dropped,
}

/// Called on the thread that does the step.
pub type Observer = fn(Step, Edge);

/// What a store does that a dying process can interrupt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// Opening, with the replay of the write-ahead log.
    Open,
    /// Adding headers.
    Headers,
    /// Adding a block's body and attachments.
    Block,
    /// Adding the file of a model.
    File,
    /// Writing a chain move that only connects blocks.
    Connect,
    /// Writing a chain move that disconnects blocks.
    Reorganise,
    /// Forgetting attachments or bodies of old blocks.
    Prune,
    /// The compaction that frees their files.
    Free,
    /// Adding the entries of accounts in blocks that are there already.
    Ledger,
}

/// Which end of a [`Step`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// It begins.
    Begin,
    /// It has ended, well or not.
    End,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { cache_bytes: DEFAULT_CACHE_BYTES, ledger: LedgerOption::default(), observer: None }
    }
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let observed = self.observer.is_some();
        let mut debug = f.debug_struct("StoreOptions");
        debug
            .field("cache_bytes", &self.cache_bytes)
            .field("ledger", &self.ledger)
            .field("observed", &observed)
            .finish()
    }
}

impl StoreOptions {
    /// Does a step, with the observer told before and after.
    pub(super) fn observed<T>(&self, step: Step, work: impl FnOnce() -> T) -> T {
        if let Some(observer) = self.observer {
            observer(step, Edge::Begin);
            let result = work();
            observer(step, Edge::End);
            return result;
        }
        work()
    }
}
