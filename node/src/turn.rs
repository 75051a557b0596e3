//! Programs of one user that sign with one key take turns, so that two of them, asking for the next nonce at once, do not both take
//! it: commands, and nodes that pay from a wallet of their owner.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::PathBuf;

use ocelli_consensus::Address;

/// Where the turns of a user's keys are taken.
#[derive(Debug, Clone)]
pub struct Turns {
    /// Without one there is nobody to wait for.
    folder: Option<PathBuf>,
}

/// One program's turn: from asking for the nonce until what was signed is handed in. Over when it is dropped, or the program ends.
#[must_use = "it is over when it is dropped"]
#[derive(Debug)]
pub struct Turn {
    /// Locked.
    _file: Option<File>,
}

impl Turns {
    /// With a file for each key in this folder, which is made when it is needed; nowhere for a user without a folder.
    pub fn in_folder(folder: Option<PathBuf>) -> Self {
        Self { folder }
    }

    /// The turn of the key of that address, unless another program has it.
    ///
    /// # Errors
    /// If its file cannot be made or locked: then others are not kept apart.
    pub fn take(&self, address: Address) -> io::Result<Option<Turn>> {
        let Some(folder) = &self.folder else { return Ok(Some(Turn::without_others())) };
        fs::create_dir_all(folder)?;
        let file = File::create(folder.join(hex::encode(address.0)))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Turn { _file: Some(file) })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl Turn {
    /// Where turns cannot be taken: nodes refuse the second of two transactions with one nonce.
    pub fn without_others() -> Self {
        Self { _file: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_has_one_turn() {
        let folder = tempfile::tempdir().unwrap();
        let turns = Turns::in_folder(Some(folder.path().join("turns")));
        let take = |number| turns.take(Address([number; 20])).unwrap();
        let first = take(1);
        assert!(first.is_some() && take(1).is_none());
        assert!(take(2).is_some());
        drop(first);
        assert!(take(1).is_some());
    }

    #[cfg(unix)]
    #[test]
    fn where_there_can_be_no_file_there_is_no_turn() {
        assert!(Turns::in_folder(Some("/dev/null/turns".into())).take(Address([1; 20])).is_err());
    }
}
