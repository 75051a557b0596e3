//! Blocks from a file, checked as if a peer had sent them.

use std::path::Path;

use ocelli_consensus::Header;

use super::export::Blocks;
use super::{BadBlock, ExportError, Intake, IntakeError, Progress};
use crate::chain::{Chain, HeaderError};
use crate::inference::Handle;
use crate::store::StoreError;

/// Headers that are checked and stored together.
const HEADERS_AT_ONCE: usize = 2000;

/// What was imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    /// Blocks in the file.
    pub blocks: u64,
    /// Of these, the ones that were not here before.
    pub new: u64,
    /// The tip's height now.
    pub height: u64,
}

/// Why a file's blocks cannot be taken, or only in part: those before the bad one are on the chain.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file.
    #[error(transparent)]
    File(#[from] ExportError),
    /// A header in it is not valid.
    #[error("the file holds a block that is not valid")]
    Bad(#[from] BadBlock),
    /// A block in it is not valid, or cannot be checked.
    #[error(transparent)]
    Intake(#[from] IntakeError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Takes the blocks of a file that [`export`](super::export) wrote: first all headers, then block after block, answers
/// included. What is here already is passed over. `now` is in seconds since 1970.
///
/// # Errors
/// [`ImportError`]; what came before it is kept.
pub fn import(
    chain: &mut Chain,
    path: &Path,
    now: u64,
    inference: &Handle,
    progress: &mut dyn FnMut(Progress),
) -> Result<Imported, ImportError> {
    let mut blocks = Blocks::open(path, chain.network())?;
    let of = take_headers(chain, &mut blocks, now)?;
    blocks.rewind()?;
    let mut intake = Intake::new(chain, inference);
    let (mut done, mut new, mut last) = (0, 0, 0);
    while let Some((header, data)) = blocks.next_block()? {
        let hash = header.hash();
        last = header.height;
        if intake.wants(&hash) {
            intake.take(hash, header.height, data).map_err(|error| explain(error, &blocks, last))?;
            new += 1;
        }
        done += 1;
        progress(Progress { blocks: done, of, tasks: intake.tasks() });
    }
    let tasks = intake.finish().map_err(|error| explain(error, &blocks, last))?;
    progress(Progress { blocks: done, of, tasks });
    Ok(Imported { blocks: done, new, height: chain.tip().height })
}

/// Data that are not a block's are the file's fault, which is read up to the block at height `last`.
fn explain(error: IntakeError, blocks: &Blocks, last: u64) -> ImportError {
    match error {
        IntakeError::NotTheBlock { height, source } => blocks
            .damaged_before(last.saturating_sub(height), format!("not the data of block {height}: {source}"))
            .into(),
        error => error.into(),
    }
}

/// Takes all headers of the file, and says how many there are.
fn take_headers(chain: &mut Chain, blocks: &mut Blocks, now: u64) -> Result<u64, ImportError> {
    let mut count = 0;
    loop {
        let mut headers: Vec<Header> = Vec::new();
        while headers.len() < HEADERS_AT_ONCE {
            let Some(header) = blocks.next_header()? else { break };
            headers.push(header);
        }
        if headers.is_empty() {
            return Ok(count);
        }
        let (taken, error) = chain.insert_headers(&headers, now)?;
        if let (Some(error), Some(header)) = (error, headers.get(taken)) {
            if let HeaderError::Store(error) = error {
                return Err(error.into());
            }
            return Err(BadBlock::new(header.hash(), header.height, error).into());
        }
        count += headers.len() as u64;
    }
}
