//! Blocks from a file, checked as if a peer had sent them.

use std::path::Path;

use ocelli_consensus::Header;
use ocelli_consensus::fork_choice::Status;

use super::answers::Answers;
use super::export::Blocks;
use super::{BadBlock, ExportError, Progress};
use crate::chain::{AcceptError, Chain, HeaderError};
use crate::inference::{Handle, InferenceError};
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
    /// A block in it is not valid.
    #[error("the file holds a block that is not valid")]
    Bad(#[from] BadBlock),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The answers cannot be computed here.
    #[error("the answers cannot be checked")]
    Inference(#[from] InferenceError),
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
    let mut import = Import { chain, answers: Answers::new(inference), tasks: 0 };
    let (mut done, mut new) = (0, 0);
    while let Some((header, data)) = blocks.next_block()? {
        let (hash, height) = (header.hash(), header.height);
        if import.chain.tree().get(&hash).is_some_and(|node| node.status == Status::Header) {
            match import.chain.accept_block(hash, &data, &|_| false) {
                Ok(()) => {}
                Err(AcceptError::Store(error)) => return Err(error.into()),
                Err(AcceptError::NotTheBlock { source, .. }) => {
                    return Err(blocks.damaged(format!("not the data of block {height}: {source}")).into());
                }
                Err(AcceptError::Refused { source, .. }) => return Err(BadBlock::new(hash, height, source).into()),
                Err(error @ AcceptError::NotWanted(_)) => return Err(BadBlock::new(hash, height, error).into()),
            }
            import.answers.check(hash, height, &data);
            new += 1;
        }
        while import.answers.is_full() {
            import.settle()?;
        }
        done += 1;
        progress(Progress { blocks: done, of, tasks: import.tasks });
    }
    while import.settle()? {}
    import.advance()?;
    progress(Progress { blocks: done, of, tasks: import.tasks });
    Ok(Imported { blocks: done, new, height: import.chain.tip().header.height })
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

struct Import<'a> {
    chain: &'a mut Chain,
    answers: Answers<'a>,
    tasks: u64,
}

impl Import<'_> {
    /// Takes the verdict on the oldest answers and moves the tip; `false` if none are out.
    fn settle(&mut self) -> Result<bool, ImportError> {
        let Some(checked) = self.answers.next() else { return Ok(false) };
        let checked = checked?;
        self.tasks += checked.tasks;
        let node = self.chain.tree().get(&checked.hash);
        // One that was taken on work is verified already.
        if node.is_some_and(|node| node.status == Status::Received) {
            self.chain.set_answers(checked.hash, checked.answers.clone())?;
        }
        checked.answers.map_err(|rule| BadBlock::new(checked.hash, checked.height, rule))?;
        self.advance()?;
        Ok(true)
    }

    fn advance(&mut self) -> Result<(), ImportError> {
        let advance = self.chain.advance()?;
        self.chain.prune()?;
        match advance.refused.into_iter().next() {
            Some((hash, height, rule)) => Err(BadBlock::new(hash, height, rule).into()),
            None => Ok(()),
        }
    }
}
