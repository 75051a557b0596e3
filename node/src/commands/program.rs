//! Commands that another program of this release carries out: what no node needs, none has to link.

use std::convert::Infallible;
use std::env;
use std::ffi::OsString;
use std::process::Command;

use ocelli_program::beside;

use super::error::{CommandError, Explain as _};

/// A program, and the commands that it carries out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `ocelli model train` and others; its own commands are those after `model`.
    Train,
    /// `ocelli bench`; its own commands are those after that.
    Bench,
}

/// What comes after the name of such a command, for the program to read.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true, disable_version_flag = true)]
pub struct Arguments {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl Program {
    /// Runs this program instead, on the command line of the running one.
    ///
    /// # Errors
    /// If it is not there, or does not start.
    pub fn start(self) -> Result<Infallible, CommandError> {
        let (name, group) = match self {
            Self::Train => ("ocelli-train", "model"),
            Self::Bench => ("ocelli-bench", "bench"),
        };
        let mut arguments: Vec<OsString> = env::args_os().skip(1).collect();
        // Options before it take no values, so that nothing else can be of this name.
        if let Some(place) = arguments.iter().position(|argument| argument == group) {
            arguments.remove(place);
        }
        let mut command = Command::new(beside::find(name)?);
        become_it(command.args(arguments)).context(|| format!("cannot start {name}"))
    }

    /// Whose help a command line asks for that begins with `help`, or has it after `model`.
    pub fn of_help(arguments: &[OsString]) -> Option<Self> {
        let words = arguments.iter().filter_map(|word| word.to_str()).filter(|word| !word.starts_with('-'));
        match words.collect::<Vec<_>>()[..] {
            ["help", "bench", ..] => Some(Self::Bench),
            ["help", "model", command, ..] | ["model", "help", command, ..] => {
                ["train", "quantize", "evaluate", "import", "check"].contains(&command).then_some(Self::Train)
            }
            _ => None,
        }
    }
}

/// Whoever waits for this process or sends it signals has the program, and its exit code.
#[cfg(unix)]
fn become_it(command: &mut Command) -> std::io::Result<Infallible> {
    use std::os::unix::process::CommandExt as _;
    Err(command.exec())
}

#[cfg(not(unix))]
fn become_it(command: &mut Command) -> std::io::Result<Infallible> {
    std::process::exit(command.status()?.code().unwrap_or(i32::from(super::error::EXIT_FAILED)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_is_of_the_program_that_carries_it_out() {
        let rows = [
            ("help bench", Some(Program::Bench)),
            ("--json help bench sync", Some(Program::Bench)),
            ("help model train", Some(Program::Train)),
            ("model help evaluate", Some(Program::Train)),
            ("help model", None),
            ("help model run", None),
            ("model help run", None),
            ("help", None),
            ("model --help train", None),
            ("", None),
        ];
        for (line, expected) in rows {
            let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
            assert_eq!(Program::of_help(&arguments), expected, "{line}");
        }
    }
}
