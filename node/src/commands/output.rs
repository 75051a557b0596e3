//! The one way to stdout.

use std::fmt;
use std::io::{self, StdoutLock, Write as _};

use serde::Serialize;
use serde_json::{Value, json};

use super::error::{CommandError, Explain as _};
use crate::client::Client;
use crate::client::chains::Evidence;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// For programs: one JSON value on one line.
    Json,
}

/// Results go through this locked handle to stdout, and nothing else does: a script sees results only.
#[derive(Debug)]
pub struct Output {
    stdout: StdoutLock<'static>,
    format: Format,
}

impl Output {
    /// Locks stdout.
    pub fn lock(format: Format) -> Self {
        Self { stdout: io::stdout().lock(), format }
    }

    /// Whether `--json` was given.
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Writes a line.
    ///
    /// # Errors
    /// When stdout cannot be written; a closed pipe ends the command quietly.
    pub fn line(&mut self, text: impl fmt::Display) -> Result<(), CommandError> {
        self.write(format!("{text}\n").as_bytes())
    }

    /// Writes a value as JSON on one line, so that line-wise tools can read it.
    ///
    /// # Errors
    /// When stdout cannot be written; a closed pipe ends the command quietly.
    pub fn json(&mut self, value: &impl Serialize) -> Result<(), CommandError> {
        let mut text = serde_json::to_vec(value).context(|| "cannot write the result as JSON")?;
        text.push(b'\n');
        self.write(&text)
    }

    /// Writes aligned rows of a name and a value.
    ///
    /// # Errors
    /// When stdout cannot be written; a closed pipe ends the command quietly.
    pub fn rows(&mut self, rows: &[(&str, String)]) -> Result<(), CommandError> {
        let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, value) in rows {
            self.line(format_args!("{name:<width$}  {value}"))?;
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), CommandError> {
        // Flushed at once: whoever reads a pipe sees each result when it is there.
        self.stdout.write_all(bytes).and_then(|()| self.stdout.flush()).map_err(CommandError::stdout)
    }
}

/// Says on stderr which nodes were left, and why. There is nobody to tell that stderr is closed.
pub fn warn_of_left(client: &Client) {
    for why in client.left() {
        drop(writeln!(io::stderr(), "warning: {why}; it was left"));
    }
}

/// What speaks for a block, for scripts: work in hexadecimal.
pub fn evidence(evidence: &Evidence) -> Value {
    json!({
        "work": format!("{:#x}", evidence.work.0),
        "checked_from": evidence.checked_from,
        "nodes": evidence.nodes,
    })
}

/// By whose word something is said that was not checked.
pub fn by_word_of(nodes: usize) -> String {
    if nodes == 1 {
        "according to 1 node, not checked".into()
    } else {
        format!("according to {nodes} nodes, not checked")
    }
}

/// A number of confirmations, as people say it.
pub fn confirmations(count: u64) -> String {
    if count == 1 { "1 confirmation".into() } else { format!("{count} confirmations") }
}
