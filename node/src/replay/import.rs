//! Blocks from a file, checked as if a peer had sent them.

use std::error::Error;
use std::path::Path;

use ocelli_consensus::fork_choice::{BlockStatus, InsertError};
use ocelli_consensus::{BlockHash, Header};

use super::export::Blocks;
use super::{BadBlock, ExportError, Intake, IntakeError, Progress};
use crate::chain::{Chain, CheckedFile, HeaderError};
use crate::inference::InferenceHandle;
use crate::store::StoreError;

/// Headers that are checked and stored together.
const HEADERS_AT_ONCE: usize = 2000;

/// What was imported.
#[derive(Debug)]
pub struct Imported {
    /// Blocks of the file that are here now, from its first on.
    pub blocks: u64,
    /// Of these, the ones that were not here before.
    pub new: u64,
    /// The tip's height now.
    pub height: u64,
    /// Why that is not the whole file.
    pub stopped: Option<Stopped>,
}

/// Why a file's blocks are not all taken. Those before are.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// One of them cannot be.
    #[error("block {number} of the file, {hash} at height {height}, {why}")]
    AtBlock {
        /// Its place in the file, from 1.
        number: u64,
        hash: BlockHash,
        height: u64,
        why: Why,
        /// What there is to say of that.
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// The file is damaged, or ends too early.
    #[error(transparent)]
    Damaged(ExportError),
    /// Whoever has asked for the import wants it to end.
    #[error("interrupted after {blocks} blocks of {of}")]
    Interrupted {
        /// Blocks that are here.
        blocks: u64,
        /// Blocks of the file, as far as they are good by their headers.
        of: u64,
    },
}

/// Why a block is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// It breaks a rule.
    #[error("is not valid")]
    NotValid,
    /// It was found to break a rule before.
    #[error("was refused here before")]
    Refused,
    /// One below it breaks a rule.
    #[error("stands on a block that is not valid")]
    OnRefused,
    /// It is from the future.
    #[error("is held: its time is {seconds} s ahead of this clock")]
    Held {
        /// How far.
        seconds: u64,
    },
    /// The block below it is neither here nor before it in the file.
    #[error("has a parent that is not known here, {0}")]
    ParentUnknown(BlockHash),
    /// What the file has of it is not what its hash commits to.
    #[error("comes with data that are not its own")]
    OtherData,
    /// Anything else that a header can be refused for.
    #[error("cannot be taken")]
    Other,
}

/// Why a file cannot be imported at all, or this node not go on.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error(transparent)]
    File(#[from] ExportError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The answers cannot be computed here, or their blocks not be stored.
    #[error(transparent)]
    Intake(#[from] IntakeError),
}

/// Takes the blocks of a file that [`export`](super::export) wrote: first all headers, then block after block, answers
/// included, up to the first that cannot be taken. What is here already is passed over, and what an import that was cut off has left
/// unchecked is checked. `now` is in seconds since 1970; whether to end is asked before each block.
///
/// # Errors
/// [`ImportError`]; what came before it is kept.
pub fn import(
    chain: &mut Chain,
    path: &Path,
    now: u64,
    inference: &InferenceHandle,
    is_to_end: &dyn Fn() -> bool,
    progress: &mut dyn FnMut(Progress),
) -> Result<Imported, ImportError> {
    let mut file = Blocks::open(path, chain.network(), |file| -> Result<(), ImportError> {
        // Whatever it is, its id says which model's.
        let checked = CheckedFile::of(&file);
        let name = checked.facts.as_ref().map_or("", |(_, name)| name);
        chain.store().add_file(&file, name)?;
        chain.checked_files().add(checked);
        Ok(())
    })?;
    let (of, mut stopped) = take_headers(chain, &mut file, now)?;
    file.rewind()?;
    let mut intake = Intake::new(chain, inference);
    intake.take_left_over()?;
    let mut blocks = 0;
    let taken = loop {
        if blocks == of {
            break intake.finish();
        }
        if is_to_end() {
            stopped = Some(Stopped::Interrupted { blocks, of });
            break intake.finish();
        }
        let (header, data) = match file.next_block() {
            Ok(Some(block)) => block,
            Ok(None) => {
                stopped = Some(Stopped::Damaged(file.damaged("it has become shorter while it was read")));
                break intake.finish();
            }
            Err(error @ ExportError::Damaged { .. }) => {
                stopped = Some(Stopped::Damaged(error));
                break intake.finish();
            }
            Err(error) => return Err(error.into()),
        };
        let hash = header.hash();
        if let Some((why, source)) = refused_before(intake.chain(), &hash)? {
            stopped = Some(Stopped::AtBlock { number: blocks + 1, hash, height: header.height, why, source });
            break intake.finish();
        }
        if intake.wants(&hash)
            && let Err(error) = intake.take(hash, header.height, data)
        {
            break Err(error);
        }
        blocks += 1;
        progress(Progress { blocks, of, tasks: intake.tasks() });
    };
    let new = intake.blocks();
    progress(Progress { blocks, of, tasks: intake.tasks() });
    if let Err(error) = taken {
        let (hash, height, why, source): (_, _, _, Box<dyn Error + Send + Sync>) = match error {
            IntakeError::Bad(BadBlock { hash, height, source }) => (hash, height, Why::NotValid, source),
            IntakeError::NotTheBlock { hash, height, source } => (hash, height, Why::OtherData, source),
            other => return Err(other.into()),
        };
        // Blocks are checked while the file is read on.
        blocks = file.before(&hash)?;
        stopped = Some(Stopped::AtBlock { number: blocks + 1, hash, height, why, source: Some(source) });
    }
    Ok(Imported { blocks, new, height: chain.tip().height, stopped })
}

/// Why a block is not taken, and what there is to say of that.
type Reason = (Why, Option<Box<dyn Error + Send + Sync>>);

fn refused_before(chain: &Chain, hash: &BlockHash) -> Result<Option<Reason>, StoreError> {
    if !chain.tree().is_condemned(hash) {
        return Ok(None);
    }
    let is_itself = chain.tree().get(hash).is_some_and(|node| node.status == BlockStatus::Invalid);
    let verdict = if is_itself { chain.store().verdict(hash)? } else { None };
    let why = if is_itself { Why::Refused } else { Why::OnRefused };
    Ok(Some((why, verdict.map(|verdict| verdict.reason.into()))))
}

/// Takes the headers of the file up to the first that cannot be, and says how many these are, and why they are not all.
fn take_headers(chain: &mut Chain, file: &mut Blocks, now: u64) -> Result<(u64, Option<Stopped>), ImportError> {
    let mut count = 0;
    loop {
        let (mut headers, mut stopped): (Vec<Header>, _) = (Vec::new(), None);
        while headers.len() < HEADERS_AT_ONCE {
            match file.next_header() {
                Ok(Some(header)) => headers.push(header),
                Ok(None) => break,
                Err(error @ ExportError::Damaged { .. }) => {
                    stopped = Some(Stopped::Damaged(error));
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        let (taken, error) = chain.insert_headers(&headers, now)?;
        count += taken as u64;
        if let (Some(error), Some(header)) = (error, headers.get(taken)) {
            stopped = Some(at_header(count + 1, header, error)?);
        }
        if stopped.is_some() || headers.len() < HEADERS_AT_ONCE {
            return Ok((count, stopped));
        }
    }
}

fn at_header(number: u64, header: &Header, error: HeaderError) -> Result<Stopped, StoreError> {
    let (why, source): Reason = match error {
        HeaderError::Store(error) => return Err(error),
        HeaderError::Ahead { seconds, .. } => (Why::Held { seconds }, None),
        HeaderError::Insert(InsertError::ParentUnknown { parent, .. }) => (Why::ParentUnknown(parent), None),
        HeaderError::Insert(InsertError::ParentInvalid { .. }) => (Why::OnRefused, None),
        HeaderError::Insert(InsertError::Rule { source, .. }) => (Why::NotValid, Some(source.into())),
        error @ (HeaderError::Insert(InsertError::Full) | HeaderError::LowWork { .. }) => {
            (Why::Other, Some(error.into()))
        }
    };
    Ok(Stopped::AtBlock { number, hash: header.hash(), height: header.height, why, source })
}
