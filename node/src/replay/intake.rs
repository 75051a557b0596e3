//! Blocks taken as fast as they come: while the answers of some are with inference, the next are checked by themselves.

use ocelli_consensus::BlockHash;
use ocelli_consensus::fork_choice::Status;
use ocelli_consensus::rules::PixelsError;
use ocelli_protocol::message::BlockData;

use super::BadBlock;
use super::answers::Answers;
use crate::chain::{AcceptError, Chain};
use crate::inference::{Handle, InferenceError};
use crate::store::StoreError;

/// Why a block is not taken. Those before it are on the chain, or will be by [`Intake::finish`].
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// These bytes are not what the block hash commits to.
    #[error("not the data of the block")]
    NotTheBlock {
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

/// Takes block after block whose headers are on the chain already.
pub struct Intake<'a> {
    chain: &'a mut Chain,
    answers: Answers<'a>,
    tasks: u64,
}

impl<'a> Intake<'a> {
    /// Begins at the chain's tip.
    pub fn new(chain: &'a mut Chain, inference: &'a Handle) -> Self {
        Self { chain, answers: Answers::new(inference), tasks: 0 }
    }

    /// The chain as far as it has come.
    pub fn chain(&self) -> &Chain {
        self.chain
    }

    /// Answers that have been checked.
    pub fn tasks(&self) -> u64 {
        self.tasks
    }

    /// Takes a block, the parent of the next.
    ///
    /// # Errors
    /// [`IntakeError`], also of a block that was taken before and whose answers have come by now.
    pub fn take(&mut self, hash: BlockHash, height: u64, data: &BlockData) -> Result<(), IntakeError> {
        match self.chain.accept_block(hash, data, &|_| false) {
            Ok(()) => {}
            Err(AcceptError::Store(error)) => return Err(error.into()),
            Err(AcceptError::NotTheBlock { source, .. }) => return Err(IntakeError::NotTheBlock { source }),
            Err(AcceptError::Refused { source, .. }) => return Err(BadBlock::new(hash, height, source).into()),
            Err(error @ AcceptError::NotWanted(_)) => return Err(BadBlock::new(hash, height, error).into()),
        }
        self.answers.check(hash, height, data);
        while self.answers.is_full() {
            self.settle()?;
        }
        Ok(())
    }

    /// Waits until all is on the chain, and says how many answers were checked.
    ///
    /// # Errors
    /// As [`Intake::take`].
    pub fn finish(mut self) -> Result<u64, IntakeError> {
        while self.settle()? {}
        self.advance()?;
        Ok(self.tasks)
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
