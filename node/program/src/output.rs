//! The one way to stdout.

use std::fmt;
use std::io::{self, StdoutLock, Write as _};
use std::path::Path;

use serde::{Serialize, Serializer};
use serde_json::ser::Formatter;

use crate::error::{CommandError, Explain as _};
use crate::output_file;

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
pub struct Printer {
    stdout: StdoutLock<'static>,
    format: Format,
    /// Whether stdout is left to a file.
    aside: bool,
}

impl Printer {
    /// Locks stdout.
    pub fn lock(format: Format) -> Self {
        Self { stdout: io::stdout().lock(), format, aside: false }
    }

    /// Whether `--json` was given.
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Writes to stderr from here on, if a file that a command writes is stdout itself, such as `/dev/stdout`: whoever reads
    /// it wants the file and nothing else.
    pub fn leave_stdout_to(&mut self, file: &Path) {
        self.aside = output_file::is_standard_output(file);
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
        let mut text = to_json(value).context(|| "cannot write the result as JSON")?;
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
        if self.aside {
            return Ok(io::stderr().write_all(bytes)?);
        }
        // Flushed at once: whoever reads a pipe sees each result when it is there.
        self.stdout.write_all(bytes).and_then(|()| self.stdout.flush()).map_err(CommandError::stdout)
    }
}

/// A whole number that may exceed 2^53 - 1, such as an amount or a nonce: in JSON its decimal digits in a string, however
/// small it is. JavaScript and jq read numbers as doubles, and would round it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole(pub u64);

impl Serialize for Whole {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// The largest number up to which a double holds every whole number.
const MAX_EXACT: u64 = (1 << 53) - 1;

fn to_json(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut text = Vec::new();
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, ExactNumbers))?;
    Ok(text)
}

/// Compact JSON. What stays below 2^53 on an honest node, such as a height, is a number; a node that lies about it makes
/// it a string rather than another number.
struct ExactNumbers;

impl Formatter for ExactNumbers {
    fn write_u64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: u64) -> io::Result<()> {
        if value > MAX_EXACT { write!(writer, "\"{value}\"") } else { write!(writer, "{value}") }
    }

    fn write_i64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: i64) -> io::Result<()> {
        if value.unsigned_abs() > MAX_EXACT { write!(writer, "\"{value}\"") } else { write!(writer, "{value}") }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_number_is_rounded_by_who_reads_doubles() {
        let text = |value: serde_json::Value| String::from_utf8(to_json(&value).unwrap()).unwrap();
        assert_eq!(text(json!([Whole(0), Whole(u64::MAX)])), r#"["0","18446744073709551615"]"#);
        assert_eq!(text(json!([MAX_EXACT, MAX_EXACT + 1])), r#"[9007199254740991,"9007199254740992"]"#);
        assert_eq!(text(json!([i64::MIN, -1, 0.5])), r#"["-9223372036854775808",-1,0.5]"#);
        assert_eq!(text(json!({ "a": [1, {}], "b": null })), r#"{"a":[1,{}],"b":null}"#);
    }
}
