//! What `submit --csv` has under way: written before it is handed in and gone when its rows stand in the table, so that whoever
//! goes on after a crash asks what became of it, and pays nothing twice.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ocelli_program::input_file::read_bounded;
use ocelli_program::output_file::{Readers, write};
use serde::{Deserialize, Serialize};

use super::super::error::{CommandError, Explain as _};
use super::super::table::Row;

/// Bounds the file: a few dozen tasks are under way at a time.
const MAX_BYTES: usize = 16 << 20;

/// A task that was signed, and may have been handed in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// What the table will have of it, but for the block.
    pub row: Row,
    /// Of this machine's own answer, in hexadecimal, as a block holds it.
    pub digest: String,
}

/// The file beside a table.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
}

impl Journal {
    /// The journal of a table, and what was under way when that was left.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    pub fn open(table: &Path) -> Result<(Self, Vec<JournalEntry>), CommandError> {
        let mut name = table.as_os_str().to_owned();
        name.push(".pending");
        let path = PathBuf::from(name);
        let failed = || format!("cannot read {}, which says what was under way", path.display());
        let entries = match read_bounded(&path, MAX_BYTES) {
            Ok(bytes) => serde_json::from_slice(&bytes).context(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(CommandError::from(error).with_context(failed())),
        };
        Ok((Self { path }, entries))
    }

    /// Writes down what is about to be handed in, in place of what was.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn begin(&self, entries: &[JournalEntry]) -> Result<(), CommandError> {
        let text = serde_json::to_vec(entries).context(|| "cannot write JSON")?;
        write(&self.path, &text, Readers::Owner)
            .context(|| format!("cannot write {}, without which nothing is sent", self.path.display()))
    }

    /// Nothing is under way any more.
    ///
    /// # Errors
    /// If the file cannot be removed.
    pub fn end(&self) -> Result<(), CommandError> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(CommandError::from(error).with_context(format!("cannot remove {}", self.path.display())))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_under_way_outlives_the_program() {
        let folder = tempfile::tempdir().unwrap();
        let table = folder.path().join("night ‘1’.csv");
        let (journal, before) = Journal::open(&table).unwrap();
        assert_eq!(before, []);
        journal.end().unwrap();
        let row = Row {
            file: "a \"b\".jpg".into(),
            best: vec![("cat".into(), 0.1 + 0.2)],
            hashes: Some(([1; 32], [2; 32])),
            ..Row::default()
        };
        let entries = [JournalEntry { row, digest: "ab".into() }];
        journal.begin(&entries).unwrap();
        assert_eq!(Journal::open(&table).unwrap().1, entries);
        journal.end().unwrap();
        assert_eq!(Journal::open(&table).unwrap().1, []);

        fs::write(folder.path().join("night ‘1’.csv.pending"), "[{").unwrap();
        let error = Journal::open(&table).unwrap_err().one_line();
        assert!(error.contains("which says what was under way"), "{error}");
    }
}
