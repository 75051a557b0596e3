//! Commands that sign with one key take turns, so that two of them, asking for the next nonce at once, do not both take it.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use ocelli_consensus::Address;

use super::error::CommandError;
use super::folders;

/// Between two looks whether the other is done.
const POLL: Duration = Duration::from_millis(50);

/// One command's turn: from asking for the nonce until what was signed is handed in. Over when it is dropped, or the program ends.
#[must_use = "it is over when it is dropped"]
#[derive(Debug)]
pub struct Turn {
    /// Locked.
    _file: Option<File>,
}

impl Turn {
    /// Waits until no other command of this user signs with the key of that address. Without a folder for its file there is nobody
    /// to wait for: then nodes refuse the second of two with one nonce.
    ///
    /// # Errors
    /// If another one takes longer than `time`.
    pub fn wait(address: Address, time: Duration) -> Result<Self, CommandError> {
        match folders::base() {
            Ok(base) => Self::wait_in(&base.join("turns"), address, time),
            Err(_) => Ok(Self { _file: None }),
        }
    }

    fn wait_in(folder: &Path, address: Address, time: Duration) -> Result<Self, CommandError> {
        let path = folder.join(hex::encode(address.0));
        let file = match fs::create_dir_all(folder).and_then(|()| File::create(&path)) {
            Ok(file) => file,
            Err(error) => return Ok(Self::without(&path, &error)),
        };
        let deadline = Instant::now() + time;
        let mut is_said = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: Some(file) }),
                Err(TryLockError::Error(error)) => return Ok(Self::without(&path, &error)),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    return Err(CommandError::failed(format!(
                        "another command has been sending from the same wallet for {} s",
                        time.as_secs()
                    ))
                    .with_hint("wait until it is done, or end it"));
                }
                Err(TryLockError::WouldBlock) => {
                    if !is_said {
                        is_said = true;
                        say("another command sends from the same wallet: waiting for its turn to end");
                    }
                    thread::sleep(POLL);
                }
            }
        }
    }

    fn without(path: &Path, error: &io::Error) -> Self {
        say(&format!(
            "warning: other commands that send from the same wallet are not kept apart: {}: {error}",
            path.display()
        ));
        Self { _file: None }
    }
}

/// There is nobody to tell that stderr is closed.
fn say(text: &str) {
    drop(writeln!(io::stderr(), "{text}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_has_one_turn() {
        let folder = tempfile::tempdir().unwrap();
        let turn = |number| Turn::wait_in(&folder.path().join("turns"), Address([number; 20]), Duration::ZERO);
        let first = turn(1).unwrap();
        let error = turn(1).unwrap_err().one_line();
        assert!(error.contains("another command has been sending from the same wallet"), "{error}");
        let _other = turn(2).unwrap();
        drop(first);
        let _second = turn(1).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn without_a_folder_for_it_the_work_goes_on() {
        let turn = Turn::wait_in(Path::new("/dev/null/turns"), Address([1; 20]), Duration::ZERO).unwrap();
        assert!(turn._file.is_none());
    }
}
