//! What a command fails with: a message, its causes, what to try next, and an exit code.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::io;
use std::process::ExitCode;

/// Nothing went wrong.
pub const EXIT_OK: u8 = 0;
/// What was asked for could not be done.
pub const EXIT_FAILED: u8 = 1;
/// The command line itself makes no sense.
pub const EXIT_USAGE: u8 = 2;

/// The network follows rules that this program or the node asked does not know: nothing is confirmed.
pub const EXIT_OUTDATED: u8 = 3;

/// Bounds the causes that are shown, so that an error stays readable.
const MAX_CAUSES: usize = 8;

/// Bounds the characters of the message and of each cause: they may quote a file or a peer.
const MAX_CHARACTERS: usize = 2000;

/// A failed command, as a person reads it.
///
/// Every error converts into one with `?`: its message first, its sources as causes. It is no [`Error`] itself, as
/// nothing comes after it but the terminal.
#[derive(Debug)]
pub struct CommandError {
    kind: Kind,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
    /// What it was made of, if not of words.
    error: Option<Box<dyn Error + Send + Sync>>,
}

/// What a program knows of one of its own errors, and this crate does not.
#[derive(Debug, Default)]
pub struct Advice {
    /// Only another command line helps.
    pub is_usage: bool,
    /// Only a newer program helps.
    pub is_outdated: bool,
    /// What to try next, as an imperative.
    pub hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Failed,
    Usage,
    Outdated,
    /// Whoever read our output has closed it; there is nobody to tell and nothing wrong.
    BrokenPipe,
}

impl CommandError {
    /// Exit code 1: what was asked for could not be done.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { kind: Kind::Failed, message: message.into(), causes: Vec::new(), hint: None, error: None }
    }

    /// Exit code 2: the arguments make no sense together, which the parser of the command line cannot see.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { kind: Kind::Usage, ..Self::failed(message) }
    }

    /// Exit code 3: the network follows rules that this program or the node asked does not know.
    pub fn outdated(message: impl Into<String>) -> Self {
        Self { kind: Kind::Outdated, ..Self::failed(message) }
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

    /// Adds what the program knows of the error that it was made of, or of the outermost of that one's sources that it knows
    /// something of. A hint that is there stays.
    #[must_use]
    pub fn advised(mut self, advise: impl Fn(&(dyn Error + 'static)) -> Advice) -> Self {
        for error in self.error.as_deref().into_iter().flat_map(|error| chain(error)) {
            let advice = advise(error);
            if advice.is_usage && self.kind == Kind::Failed {
                self.kind = Kind::Usage;
            }
            if advice.is_outdated {
                self.kind = Kind::Outdated;
            }
            self.hint = self.hint.or(advice.hint);
        }
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
            Kind::Failed | Kind::Usage | Kind::Outdated => {
                drop(io::Write::write_all(&mut io::stderr(), self.to_string().as_bytes()));
            }
        }
        ExitCode::from(match self.kind {
            Kind::Usage => EXIT_USAGE,
            Kind::Outdated => EXIT_OUTDATED,
            _ => EXIT_FAILED,
        })
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
        let hint = self.hint.as_deref().or_else(|| self.error.as_deref().and_then(|error| chain(error).find_map(room)));
        if let Some(hint) = hint {
            writeln!(text, "hint: {hint}")?;
        }
        f.write_str(&text)
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for CommandError {
    fn from(error: E) -> Self {
        let mut causes: Vec<String> = Vec::new();
        let mut said = String::new();
        for cause in chain(&error) {
            // Some errors repeat their source in their own text.
            let text = cause.to_string();
            if causes.is_empty() || !said.contains(&text) {
                said.push_str(&text);
                causes.push(text);
            }
        }
        let message = causes.remove(0);
        Self { kind: Kind::Failed, message, causes, hint: None, error: Some(Box::new(error)) }
    }
}

/// An error and its sources, the outermost first.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// What to try where a file finds no room.
fn room(error: &(dyn Error + 'static)) -> Option<&'static str> {
    match error.downcast_ref::<io::Error>()?.kind() {
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
    fn a_program_advises_on_its_own_errors() {
        let advise = |error: &(dyn Error + 'static)| Advice {
            is_usage: error.is::<Outer>(),
            is_outdated: false,
            hint: error.downcast_ref::<io::Error>().map(|error| format!("mind {error}")),
        };
        let outer = |kind: io::ErrorKind| CommandError::from(Outer(kind.into()));
        let advised = outer(io::ErrorKind::StorageFull).with_context("it failed").advised(advise);
        assert_eq!(advised.kind, Kind::Usage);
        assert!(advised.to_string().ends_with("hint: mind no storage space\n"), "{advised}");
        let told = outer(io::ErrorKind::StorageFull).with_hint("leave").advised(advise);
        assert!(told.to_string().ends_with("hint: leave\n"), "{told}");
        let by_itself = outer(io::ErrorKind::StorageFull).advised(|_| Advice::default());
        assert!(by_itself.to_string().contains("hint: make room on the disk"), "{by_itself}");
        assert_eq!(CommandError::failed("words").advised(advise).kind, Kind::Failed);
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
