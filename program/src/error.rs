//! What a command fails with: a message, its causes, what to try next, and an exit code.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::io;
use std::process::ExitCode;

use crate::client::ClientError;
use crate::network::NetworkError;
use crate::node::NodeError;

/// Nothing went wrong.
pub const EXIT_OK: u8 = 0;
/// What was asked for could not be done.
pub const EXIT_FAILED: u8 = 1;
/// The command line itself makes no sense.
pub const EXIT_USAGE: u8 = 2;

/// Bounds the causes that are shown, so that an error stays readable.
const MAX_CAUSES: usize = 8;

/// Bounds the characters of the message and of each cause: they may quote a file or a peer.
const MAX_CHARACTERS: usize = 2000;

/// A failed command, as a person reads it.
///
/// Every error converts into one with `?`: its message first, its sources as causes. It is no [`Error`] itself, as
/// nothing comes after it but the terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandError {
    kind: Kind,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Failed,
    Usage,
    /// Whoever read our output has closed it; there is nobody to tell and nothing wrong.
    BrokenPipe,
}

impl CommandError {
    /// Exit code 1: what was asked for could not be done.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { kind: Kind::Failed, message: message.into(), causes: Vec::new(), hint: None }
    }

    /// Exit code 2: the arguments make no sense together, which the parser of the command line cannot see.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { kind: Kind::Usage, ..Self::failed(message) }
    }

    /// What failed when stdout was written: a closed pipe is no failure.
    pub fn stdout(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self { kind: Kind::BrokenPipe, ..Self::from(error) };
        }
        Self::from(error)
            .with_context("cannot write the result to standard output")
            .with_hint("look at what it is redirected to")
    }

    /// Adds what to try next, as an imperative.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says what was being done; the former message becomes a cause.
    #[must_use]
    pub fn with_context(mut self, message: impl Into<String>) -> Self {
        let cause = std::mem::replace(&mut self.message, message.into());
        self.causes.insert(0, cause);
        self
    }

    /// Adds what led to it, each a line.
    #[must_use]
    pub fn with_causes(mut self, causes: impl IntoIterator<Item = String>) -> Self {
        self.causes.extend(causes);
        self
    }

    /// The message and its causes in one line, to be a cause itself.
    pub fn one_line(&self) -> String {
        std::iter::once(&self.message).chain(&self.causes).map(String::as_str).collect::<Vec<_>>().join(": ")
    }

    /// Writes it to stderr and returns the exit code. A closed pipe is no failure and says nothing.
    pub fn report(&self) -> ExitCode {
        match self.kind {
            Kind::BrokenPipe => return ExitCode::from(EXIT_OK),
            // There is nowhere left to say that stderr is closed.
            Kind::Failed | Kind::Usage => drop(io::Write::write_all(&mut io::stderr(), self.to_string().as_bytes())),
        }
        ExitCode::from(if self.kind == Kind::Usage { EXIT_USAGE } else { EXIT_FAILED })
    }
}

/// The lines that a person reads, the last one ended.
impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!("error: {}\n", shortened(&self.message));
        for cause in self.causes.iter().take(MAX_CAUSES) {
            writeln!(text, "  caused by: {}", shortened(cause))?;
        }
        if self.causes.len() > MAX_CAUSES {
            writeln!(text, "  and {} more", self.causes.len() - MAX_CAUSES)?;
        }
        if let Some(hint) = &self.hint {
            writeln!(text, "hint: {hint}")?;
        }
        f.write_str(&text)
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for CommandError {
    fn from(error: E) -> Self {
        let mut causes: Vec<String> = Vec::new();
        let mut hint = None;
        let mut next: Option<&(dyn Error + 'static)> = Some(&error);
        let mut kind = Kind::Failed;
        let mut said = String::new();
        while let Some(cause) = next {
            if is_about_arguments(cause) {
                kind = Kind::Usage;
            }
            if let Some(error) = cause.downcast_ref::<ClientError>() {
                hint = error.hint().map(str::to_owned);
            }
            if let Some(error) = cause.downcast_ref::<io::Error>() {
                hint = hint.or(what_a_full_disk_needs(error.kind()).map(str::to_owned));
            }
            // Some errors repeat their source in their own text.
            let text = cause.to_string();
            if causes.is_empty() || !said.contains(&text) {
                said.push_str(&text);
                causes.push(text);
            }
            next = cause.source();
        }
        let message = causes.remove(0);
        Self { kind, message, causes, hint }
    }
}

/// What to try where a file finds no room.
fn what_a_full_disk_needs(kind: io::ErrorKind) -> Option<&'static str> {
    match kind {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some("make room on the disk, or name a file on another")
        }
        io::ErrorKind::FileTooLarge => Some("raise the limit on the size of files with `ulimit -f`"),
        _ => None,
    }
}

/// The beginning of a text, if it is long.
fn shortened(text: &str) -> String {
    let mut characters = text.chars();
    let mut shown: String = characters.by_ref().take(MAX_CHARACTERS).collect();
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}

/// Whether only another command line helps.
fn is_about_arguments(error: &(dyn Error + 'static)) -> bool {
    // The first two pass on the text of the network's error, and do not name it as their source.
    let network = match (error.downcast_ref::<ClientError>(), error.downcast_ref::<NodeError>()) {
        (Some(ClientError::Network(error)), _) | (_, Some(NodeError::Network(error))) => Some(error),
        _ => error.downcast_ref::<NetworkError>(),
    };
    matches!(network, Some(NetworkError::BadAddress { .. } | NetworkError::UnsupportedTransport { .. }))
}

/// Adds to the errors of any result what the command knows.
pub trait Explain<T> {
    /// Says what was being done; the error becomes a cause.
    ///
    /// # Errors
    /// The same, explained.
    fn context<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T, CommandError>;

    /// Adds what to try next, as an imperative.
    ///
    /// # Errors
    /// The same, with the hint.
    fn hint<M: Into<String>>(self, hint: impl FnOnce() -> M) -> Result<T, CommandError>;
}

impl<T, E: Into<CommandError>> Explain<T> for Result<T, E> {
    fn context<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T, CommandError> {
        self.map_err(|error| error.into().with_context(message()))
    }

    fn hint<M: Into<String>>(self, hint: impl FnOnce() -> M) -> Result<T, CommandError> {
        self.map_err(|error| error.into().with_hint(hint()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] io::Error);

    #[test]
    fn causes_and_hint_are_lines() {
        let result: Result<(), _> = Err(Outer(io::Error::other("inner")));
        let error = result.context(|| "cannot do it").hint(|| "do something else").unwrap_err();
        assert_eq!(
            error.to_string(),
            "error: cannot do it\n  caused by: outer\n  caused by: inner\nhint: do something else\n"
        );
    }

    #[test]
    fn a_cause_that_was_said_is_not_said_again() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer: {0}")]
        struct Repeats(#[source] io::Error);
        let error = CommandError::from(Repeats(io::Error::other("inner")));
        assert_eq!(error.to_string(), "error: outer: inner\n");
    }

    #[test]
    fn exit_codes_follow_the_kind() {
        let code = |error: CommandError| format!("{:?}", error.report());
        let expected = |code| format!("{:?}", ExitCode::from(code));
        assert_eq!(code(CommandError::failed("x")), expected(1));
        assert_eq!(code(CommandError::usage("x")), expected(2));
        assert_eq!(code(CommandError::stdout(io::ErrorKind::BrokenPipe.into())), expected(0));
        assert_eq!(code(CommandError::stdout(io::ErrorKind::StorageFull.into())), expected(1));
        // A pipe of somebody else, such as a connection to a node.
        assert_eq!(code(Outer(io::ErrorKind::BrokenPipe.into()).into()), expected(1));
    }

    #[test]
    fn what_is_quoted_is_shortened() {
        let text = CommandError::failed("ä".repeat(1 << 20)).with_causes(["b".repeat(1 << 20)]).to_string();
        assert_eq!(text, format!("error: {}…\n  caused by: {}…\n", "ä".repeat(2000), "b".repeat(2000)));
    }
}
