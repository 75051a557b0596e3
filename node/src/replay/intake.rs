//! Blocks taken as fast as they come: while the answers of some are with inference and another is stored, the next are checked
//! by themselves.

use std::collections::{BTreeSet, VecDeque};
use std::sync::mpsc::{self, Receiver};

use ocelli_consensus::BlockHash;
use ocelli_consensus::fork_choice::Status;
use ocelli_consensus::rules::PixelsError;
use ocelli_protocol::message::BlockData;

use super::BadBlock;
use super::answers::Answers;
use crate::chain::{AcceptError, Chain};
use crate::inference::{Handle, InferenceError};
use crate::store::StoreError;
use crate::validation::CheckedBody;

/// Why a block is not taken. Those before it are on the chain, or will be by [`Intake::finish`].
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// These bytes are not what the block hash commits to.
    #[error("not the data of block {height}")]
    NotTheBlock {
        /// The block's height.
        height: u64,
        /// What differs.
        source: PixelsError,
    },
    /// A block is not valid.
    #[error("found a block that is not valid")]
    Bad(#[from] BadBlock),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The answers cannot be computed here.
    #[error("the answers cannot be checked")]
    Inference(#[from] InferenceError),
}

/// Blocks that are checked by themselves at a time: enough that all cores have something to check while one block is stored and
/// connected.
const MAX_BODIES: usize = 6;

/// Takes block after block whose headers are on the chain already.
pub struct Intake<'a> {
    chain: &'a mut Chain,
    bodies: VecDeque<Body>,
    answers: Answers<'a>,
    tasks: u64,
}

/// A block that is being checked by itself.
struct Body {
    hash: BlockHash,
    height: u64,
    checked: Receiver<CheckedBody>,
}

impl<'a> Intake<'a> {
    /// Begins at the chain's tip.
    pub fn new(chain: &'a mut Chain, inference: &'a Handle) -> Self {
        Self { chain, bodies: VecDeque::new(), answers: Answers::new(inference), tasks: 0 }
    }

    /// Whether a block's header is here and its data are not, nor have been given.
    pub fn wants(&self, hash: &BlockHash) -> bool {
        self.chain.wants(hash) && self.bodies.iter().all(|body| body.hash != *hash)
    }

    /// Answers that have been checked.
    pub fn tasks(&self) -> u64 {
        self.tasks
    }

    /// Takes a block, the parent of the next.
    ///
    /// # Errors
    /// [`IntakeError`], also of a block that was taken before and is known to be bad by now.
    pub fn take(&mut self, hash: BlockHash, height: u64, data: BlockData) -> Result<(), IntakeError> {
        let header = if self.wants(&hash) { self.chain.wanted(&hash)? } else { None };
        let Some(header) = header else {
            return Err(BadBlock::new(hash, height, AcceptError::NotWanted(hash)).into());
        };
        let (extent, check) = (self.chain.extent(&hash, &data), self.chain.body_check().clone());
        let (send, checked) = mpsc::channel();
        rayon::spawn_fifo(move || {
            // An error only says that nobody waits any more.
            drop(send.send(CheckedBody::of(&check, None, &header, data, extent, &BTreeSet::new())));
        });
        self.bodies.push_back(Body { hash, height, checked });
        while self.bodies.len() >= MAX_BODIES {
            self.store()?;
        }
        Ok(())
    }

    /// Waits until all is on the chain, and says how many answers were checked.
    ///
    /// # Errors
    /// As [`Intake::take`].
    pub fn finish(mut self) -> Result<u64, IntakeError> {
        while self.store()? {}
        while self.settle()? {}
        self.advance()?;
        Ok(self.tasks)
    }

    /// Stores the oldest block that was checked by itself, and has its answers checked; `false` if there is none.
    fn store(&mut self) -> Result<bool, IntakeError> {
        let Some(Body { hash, height, checked }) = self.bodies.pop_front() else { return Ok(false) };
        let CheckedBody { data, extent, result, claims, .. } =
            checked.recv().expect("a check ends, and does not panic");
        match self.chain.accept_checked(hash, &data, extent, result) {
            Ok(()) => {}
            Err(AcceptError::Store(error)) => return Err(error.into()),
            Err(AcceptError::NotTheBlock { source, .. }) => return Err(IntakeError::NotTheBlock { height, source }),
            Err(AcceptError::Refused { source, .. }) => return Err(BadBlock::new(hash, height, source).into()),
            Err(error @ AcceptError::NotWanted(_)) => return Err(BadBlock::new(hash, height, error).into()),
        }
        self.answers.check(hash, height, claims);
        while self.answers.is_full() {
            self.settle()?;
        }
        Ok(true)
    }

    /// Takes the verdict on the oldest answers and moves the tip; `false` if none are out.
    fn settle(&mut self) -> Result<bool, IntakeError> {
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

    fn advance(&mut self) -> Result<(), IntakeError> {
        let advance = self.chain.advance()?;
        self.chain.prune()?;
        match advance.refused.into_iter().next() {
            Some((hash, height, rule)) => Err(BadBlock::new(hash, height, rule).into()),
            None => Ok(()),
        }
    }
}
