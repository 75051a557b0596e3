//! Commands wait for their turn to sign with a key.

use std::io::{self, Write as _};
use std::thread;
use std::time::{Duration, Instant};

use ocelli_consensus::Address;

use super::error::CommandError;
use super::folders;
use crate::turn::{Turn, Turns};

/// Between two looks whether the other is done.
const POLL: Duration = Duration::from_millis(50);

/// Waits until no other program of this user signs with the key of that address.
///
/// # Errors
/// If another one takes longer than `time`.
pub fn wait(address: Address, time: Duration) -> Result<Turn, CommandError> {
    wait_for(&folders::turns(), address, time)
}

fn wait_for(turns: &Turns, address: Address, time: Duration) -> Result<Turn, CommandError> {
    let deadline = Instant::now() + time;
    let mut is_said = false;
    loop {
        match turns.take(address) {
            Ok(Some(turn)) => return Ok(turn),
            Ok(None) if Instant::now() >= deadline => {
                return Err(CommandError::failed(format!(
                    "another program has been sending from the same wallet for {} s",
                    time.as_secs()
                ))
                .with_hint("wait until it is done, or end it"));
            }
            Ok(None) => {
                if !is_said {
                    is_said = true;
                    say("another program sends from the same wallet: waiting for its turn to end");
                }
                thread::sleep(POLL);
            }
            Err(error) => {
                say(&format!("warning: other programs that send from the same wallet are not kept apart: {error}"));
                return Ok(Turn::without_others());
            }
        }
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
    fn a_turn_is_not_waited_for_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let turns = Turns::in_folder(Some(folder.path().join("turns")));
        let turn = || wait_for(&turns, Address([1; 20]), Duration::ZERO);
        let first = turn().unwrap();
        let error = turn().unwrap_err().one_line();
        assert!(error.contains("another program has been sending from the same wallet"), "{error}");
        drop(first);
        let _second = turn().unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn without_a_folder_for_it_the_work_goes_on() {
        let turns = Turns::in_folder(Some("/dev/null/turns".into()));
        let _turns = [(); 2].map(|()| wait_for(&turns, Address([1; 20]), Duration::ZERO).unwrap());
    }
}
