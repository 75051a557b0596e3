//! What `submit --csv` has under way: written before it is handed in and gone when its rows stand in the table, so that whoever
//! goes on after a crash hands in the same again, and pays nothing twice, whatever became of it and whoever has the key by then.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ocelli_program::input_file::read_bounded;
use ocelli_program::output_file::{Readers, write};
use ocelli_protocol::message::{Request, Submission};
use serde::{Deserialize, Serialize};

use super::super::error::{CommandError, Explain as _};
use super::super::table::Row;

/// Bounds the file: a few dozen tasks with their attachments are under way at a time.
const MAX_BYTES: usize = 32 << 20;

/// A task that was signed, and may have been handed in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// What the table will have of it, but for the block.
    pub row: Row,
    /// Of this machine's own answer, in hexadecimal, as a block holds it.
    pub digest: String,
    /// The request that hands it in, with its attachment, as base64.
    pub request: String,
}

impl JournalEntry {
    /// What is handed in.
    pub fn of(row: Row, digest: String, submission: &Submission) -> Self {
        let request = BASE64_STANDARD.encode(Request::Submit(submission.clone()).to_bytes());
        Self { row, digest, request }
    }

    /// The same again.
    ///
    /// # Errors
    /// If the file was changed.
    pub fn submission(&self) -> Result<Submission, CommandError> {
        let request = BASE64_STANDARD.decode(&self.request).ok().and_then(|bytes| Request::from_bytes(&bytes).ok());
        match request {
            Some(Request::Submit(submission)) if submission.transaction.txid().to_string() == self.row.txid => {
                Ok(submission)
            }
            _ => Err(CommandError::failed(format!(
                "what is written down of {}, transaction {}, is not what was signed",
                self.row.file, self.row.txid
            ))
            .with_hint(
                "see with `ocelli chain tx` what became of it; without the file of what is under way all is asked anew",
            )),
        }
    }
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
    use ocelli_consensus::{Action, Address, Amount, Transaction, Unsigned};

    use super::*;

    #[test]
    fn what_is_under_way_outlives_the_program() {
        let folder = tempfile::tempdir().unwrap();
        let table = folder.path().join("night ‘1’.csv");
        let (journal, before) = Journal::open(&table).unwrap();
        assert_eq!(before, []);
        journal.end().unwrap();
        let action = Action::Transfer { to: Address([1; 20]), amount: Amount(1) };
        let unsigned = Unsigned { nonce: 7, fee: Amount(2), expires: 9, action };
        let transaction = Transaction { unsigned, public_key: [1; 32], signature: [2; 64] };
        let row = Row {
            file: "a \"b\".jpg".into(),
            best: vec![("cat".into(), 0.1 + 0.2)],
            hashes: Some(([1; 32], [2; 32])),
            txid: transaction.txid().to_string(),
            ..Row::default()
        };
        let submission = Submission { transaction, attachment: None };
        let entries = [JournalEntry::of(row, "ab".into(), &submission)];
        journal.begin(&entries).unwrap();
        let [found] = &Journal::open(&table).unwrap().1[..] else { panic!("one entry") };
        assert_eq!((found, found.submission().unwrap()), (&entries[0], submission));
        let other = JournalEntry { row: Row { txid: "ab".repeat(32), ..found.row.clone() }, ..found.clone() };
        assert!(other.submission().unwrap_err().one_line().contains("is not what was signed"));
        journal.end().unwrap();
        assert_eq!(Journal::open(&table).unwrap().1, []);

        fs::write(folder.path().join("night ‘1’.csv.pending"), "[{").unwrap();
        let error = Journal::open(&table).unwrap_err().one_line();
        assert!(error.contains("which says what was under way"), "{error}");
    }
}
