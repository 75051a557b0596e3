//! What can go wrong with the store.

use std::fmt;
use std::io;
use std::path::PathBuf;

use ocelli_consensus::state::UpdateError;
use ocelli_consensus::{BlockHash, Root};

use super::columns;

/// Why the store cannot be opened, read or written. None of these says anything about a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The folder cannot be created, read or written.
    #[error("data folder {}: {kind}", path.display())]
    Folder { path: PathBuf, kind: io::ErrorKind },
    /// Somebody has it open.
    #[error("data folder {} is in use: another node runs on it", path.display())]
    Locked { path: PathBuf },
    /// The folder was deleted, moved or made anew while the store was open.
    #[error(
        "data folder {} is no longer the one that was opened: it was deleted, moved or replaced under the running node; \
         put it back, or start the node anew to sync again", path.display()
    )]
    FolderGone { path: PathBuf },
    /// There is no store yet, where one is needed.
    #[error("data folder {} holds no chain yet; name the folder of a node that has run", path.display())]
    NoStore { path: PathBuf },
    /// The folder holds something, and no store.
    #[error("data folder {} holds something else than a node's data; give an empty or a new folder", path.display())]
    Foreign { path: PathBuf },
    /// The store has another layout.
    #[error(
        "data folder {} has layout version {found}, expected {expected}: {}", path.display(),
        if found > expected { "a newer version of this program wrote it; update this one" }
        else { "an older version of this program wrote it; give a new folder to sync again" }
    )]
    Schema {
        path: PathBuf,
        /// Its version.
        found: u32,
        /// This program's.
        expected: u32,
    },
    /// The store is another network's.
    #[error(transparent)]
    Network(Box<WrongNetwork>),
    /// A column that every store has is not there.
    #[error("the data folder is damaged: column {0} is missing; give a new folder to sync again")]
    MissingColumn(&'static str),
    /// A stored row cannot be what was written.
    #[error("the data folder is damaged: row {key} of column {column} is malformed; give a new folder to sync again")]
    Damaged {
        column: &'static str,
        /// Its key in hex.
        key: String,
    },
    /// A row that others rely on is not there.
    #[error("the data folder is damaged: row {key} of column {column} is missing; give a new folder to sync again")]
    Missing {
        column: &'static str,
        /// Its key in hex.
        key: String,
    },
    /// The files do not hold what their checksums say.
    #[error("the data folder is damaged; give a new folder to sync again")]
    Corrupt(#[source] Cause),
    /// The disk is full.
    #[error(
        "the disk is full, or a quota or limit is reached: what was confirmed is kept; make room and start the node again, or keep less with --prune SIZE"
    )]
    DiskFull(#[source] Cause),
    /// The folder can be read and no longer written.
    #[error("the data folder cannot be written: what was confirmed is kept; make it writable and start the node again")]
    ReadOnly(#[source] Cause),
    /// The database failed in another way.
    #[error("the database")]
    Database(#[source] Cause),
    /// The header of a block was not added before the rest of it.
    #[error("block {0} is not known")]
    UnknownBlock(BlockHash),
    /// A block was to be connected where it does not belong.
    #[error("block {block} at height {height} does not stand on the tip {tip} at height {tip_height}")]
    NotOnTip {
        block: BlockHash,
        height: u64,
        /// The tip of the overlay.
        tip: BlockHash,
        /// Its height.
        tip_height: u64,
    },
    /// The genesis was to be taken back.
    #[error("the genesis cannot be disconnected")]
    AtGenesis,
    /// What is needed to take a block back is no longer kept.
    #[error(
        "a better chain leaves this one below block {block} at height {height}, which would have to be taken back and was \
         pruned: this node cannot follow. Start it on a new data folder to sync again, with a larger --prune or none"
    )]
    Pruned { block: BlockHash, height: u64 },
    /// A block was taken back, and the state is not the one it was connected to.
    #[error("block {block} taken back gives state root {found}, expected its parent's {expected}: the data is damaged")]
    Undone {
        block: BlockHash,
        /// The root found.
        found: Root,
        /// In the parent's header.
        expected: Root,
    },
    /// The tip has moved since a chain move was begun.
    #[error("a chain move from tip {expected} cannot be written: the tip is {found}")]
    TipMoved {
        /// The tip now.
        found: BlockHash,
        /// The tip then.
        expected: BlockHash,
    },
}

/// The store is another network's. By itself, so that the other errors stay small.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "data folder {} belongs to network '{found}' (genesis {found_genesis}), expected '{expected}' (genesis \
     {expected_genesis}); give another folder for another network",
    path.display()
)]
pub struct WrongNetwork {
    pub path: PathBuf,
    /// The name of the network it was made for.
    pub found: String,
    /// That network's genesis hash.
    pub found_genesis: BlockHash,
    /// The name of the network that was asked for.
    pub expected: String,
    /// That network's genesis hash.
    pub expected_genesis: BlockHash,
}

/// What the database says of its own failure.
#[derive(Clone, PartialEq, Eq)]
pub struct Cause(rocksdb::Error);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Cause {}

impl StoreError {
    pub(super) fn damaged(column: &'static str, key: &[u8]) -> Self {
        Self::Damaged { column, key: hex::encode(key) }
    }

    pub(crate) fn missing(column: &'static str, key: &[u8]) -> Self {
        Self::Missing { column, key: hex::encode(key) }
    }
}

impl From<rocksdb::Error> for StoreError {
    fn from(error: rocksdb::Error) -> Self {
        // The system's reason is only in the message, and its text is the same on all systems that we know.
        let says = |texts: &[&str]| texts.iter().any(|text| error.as_ref().contains(text));
        match error.kind() {
            _ if says(&["No space left on device", "Disk quota exceeded", "File too large"]) => {
                Self::DiskFull(Cause(error))
            }
            _ if says(&["Read-only file system"]) => Self::ReadOnly(Cause(error)),
            rocksdb::ErrorKind::Corruption => Self::Corrupt(Cause(error)),
            _ => Self::Database(Cause(error)),
        }
    }
}

impl From<UpdateError<StoreError>> for StoreError {
    fn from(error: UpdateError<StoreError>) -> Self {
        match error {
            UpdateError::Reader(error) => error,
            UpdateError::Missing(path) => Self::missing(columns::STATE, &path.to_bytes()),
            UpdateError::Damaged(path) => Self::damaged(columns::STATE, &path.to_bytes()),
            // Only proofs read values.
            UpdateError::Value => Self::damaged(columns::OBJECTS, &[]),
        }
    }
}
