//! Blocks taken one after the other with the node stopped: [`verify`] replays what a data folder holds, [`export`] writes
//! it to a file, [`import`] takes such a file; [`Intake`] takes blocks from wherever they come.

mod answers;
mod export;
mod import;
mod intake;
#[cfg(test)]
mod tests;
mod verify;

pub use export::{ExportError, Exported, export};
pub use import::{ImportError, Imported, Stopped, Why, import};
pub use intake::{Intake, IntakeError};
pub use verify::{Verified, VerifyError, verify};

use std::error::Error;

use ocelli_consensus::BlockHash;

/// How far a replay has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Blocks done.
    pub blocks: u64,
    /// Blocks in all.
    pub of: u64,
    /// Answers checked.
    pub tasks: u64,
}

/// A block that is not what it should be, and why.
#[derive(Debug, thiserror::Error)]
#[error("block {hash} at height {height}")]
pub struct BadBlock {
    pub hash: BlockHash,
    pub height: u64,
    /// What is wrong with it.
    pub source: Box<dyn Error + Send + Sync>,
}

impl BadBlock {
    fn new(hash: BlockHash, height: u64, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { hash, height, source: source.into() }
    }
}
