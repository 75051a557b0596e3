//! Lifting a verdict.

use ocelli_consensus::BlockHash;
use ocelli_consensus::fork_choice::BlockStatus;

use super::Chain;
use crate::store::{RefusedBlock, StoreError};

/// Why there is no verdict to be lifted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReconsiderError {
    /// There is no such block.
    #[error("this node knows no block {0}")]
    Unknown(BlockHash),
    /// It was not refused.
    #[error("block {0} was not refused")]
    NotRefused(BlockHash),
    /// It only stands on a block that was.
    #[error("block {block} was not refused itself: it stands on block {refused} at height {height}, which was")]
    StandsOn {
        block: BlockHash,
        /// The refused block.
        refused: BlockHash,
        /// That one's height.
        height: u64,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Chain {
    /// Lifts the verdict on a refused block and returns it. The block is checked again as if it had just come, or fetched
    /// first if its data was not kept; if it still breaks a rule, it is refused again.
    ///
    /// # Errors
    /// [`ReconsiderError`].
    pub fn reconsider(&mut self, hash: &BlockHash) -> Result<RefusedBlock, ReconsiderError> {
        let mut node = self.tree.get(hash).ok_or(ReconsiderError::Unknown(*hash))?;
        if node.status != BlockStatus::Invalid {
            while node.status != BlockStatus::Invalid {
                node = self.tree.parent(&node.hash).ok_or(ReconsiderError::NotRefused(*hash))?;
            }
            return Err(ReconsiderError::StandsOn { block: *hash, refused: node.hash, height: node.height });
        }
        let height = node.height;
        let verdict = self.store.verdict(hash)?;
        let status = if self.block_data(hash)?.is_some() { BlockStatus::Received } else { BlockStatus::Header };
        self.store.set_status(hash, status, None)?;
        self.tree.set_status(*hash, status);
        Ok(verdict.unwrap_or_else(|| RefusedBlock { block: *hash, height, reason: String::new() }))
    }
}
