//! What pruning does beside the chain's thread: for up to seconds it reads and writes files that nobody else needs.

use std::sync::Arc;
use std::thread::JoinHandle;

use crate::store::{Kept, Store, StoreError};

/// The name of the thread.
pub(in crate::chain) const THREAD: &str = "prune";

/// One piece of work at a time, on a thread of its own. Dropping it waits for that, so that the store is closed when the chain
/// is gone.
#[derive(Debug, Default)]
pub(super) struct Freeing(Option<JoinHandle<Result<u64, StoreError>>>);

impl Freeing {
    /// Measures the folder; where it takes more than `enough` bytes, once more without the write-ahead log, which can be had back
    /// without forgetting anything.
    pub(super) fn measure(&mut self, store: &Arc<Store>, enough: u64) {
        self.start(store, move |store| measured(store, enough));
    }

    /// Frees the files of what was pruned after `before`, then measures.
    pub(super) fn free(&mut self, store: &Arc<Store>, before: Kept, enough: u64) {
        self.start(store, move |store| {
            store.free_pruned(before)?;
            measured(store, enough)
        });
    }

    /// Whether work is under way, or its result not yet taken.
    pub(super) fn is_busy(&self) -> bool {
        self.0.is_some()
    }

    /// The bytes that the folder took when the last work had ended, once.
    ///
    /// # Errors
    /// Those of that work.
    pub(super) fn result(&mut self) -> Result<Option<u64>, StoreError> {
        match self.0.take_if(|work| work.is_finished()).map(JoinHandle::join) {
            None => Ok(None),
            Some(Ok(result)) => result.map(Some),
            Some(Err(panic)) => std::panic::resume_unwind(panic),
        }
    }

    /// Waits until a result is there.
    #[cfg(test)]
    pub(super) fn wait(&self) {
        while self.0.as_ref().is_some_and(|work| !work.is_finished()) {
            std::thread::yield_now();
        }
    }

    fn start(&mut self, store: &Arc<Store>, work: impl FnOnce(&Store) -> Result<u64, StoreError> + Send + 'static) {
        let store = Arc::clone(store);
        match std::thread::Builder::new().name(THREAD.into()).spawn(move || work(&store)) {
            Ok(thread) => self.0 = Some(thread),
            // Measuring is tried again, and what is not freed now is with the next pruning.
            Err(error) => tracing::warn!(%error, "no thread can be started to free the files of old blocks"),
        }
    }
}

fn measured(store: &Store, enough: u64) -> Result<u64, StoreError> {
    let disk = store.disk_bytes()?;
    if disk <= enough {
        return Ok(disk);
    }
    store.free_log()?;
    store.disk_bytes()
}

impl Drop for Freeing {
    fn drop(&mut self) {
        // What it has not done, the next pruning does.
        drop(self.0.take().map(JoinHandle::join));
    }
}
