//! What has happened to accounts in blocks that were here before that was kept: added beside all else.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use ocelli_consensus::Parameters;

use crate::full_message::full_message;
use crate::store::Store;

/// A thread that adds to the store until nothing is left. Dropping it ends it after what it is at, some milliseconds.
pub(super) struct Indexing {
    is_to_end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Indexing {
    /// # Errors
    /// If no thread can be started.
    pub(super) fn start(store: Arc<Store>, parameters: Parameters) -> io::Result<Self> {
        let is_to_end = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_to_end);
        let thread = std::thread::Builder::new().name("indexing".into()).spawn(move || {
            let mut is_said = false;
            while !ends.load(Ordering::Relaxed) {
                match store.extend_ledger(&parameters) {
                    Ok(true) if is_said => {}
                    Ok(true) => {
                        is_said = true;
                        tracing::info!("the ledger of accounts is made of the blocks that are here, beside all else");
                    }
                    Ok(false) if is_said => return tracing::info!("the ledger of accounts is made"),
                    Ok(false) => return,
                    // Whether the node can go on is for its core to find.
                    Err(error) => {
                        return tracing::error!(reason = full_message(&error), "the ledger of accounts ends here");
                    }
                }
            }
        })?;
        Ok(Self { is_to_end, thread: Some(thread) })
    }
}

impl Drop for Indexing {
    fn drop(&mut self) {
        self.is_to_end.store(true, Ordering::Relaxed);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that makes the ledger of accounts had panicked");
        }
    }
}
