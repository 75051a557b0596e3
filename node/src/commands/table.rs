//! `--csv FILE`: a row for each picture, written as it is known, so that a run that was ended goes on where it was.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};

use ocelli_consensus::Amount;
use ocelli_model::Model;
use serde::{Deserialize, Serialize};

use super::error::{CommandError, Explain as _};

/// How many classes of a picture have columns.
pub const BEST: usize = 5;

/// The columns: the same whoever has answered, so that free answers and paid ones stand in one table.
pub const HEADER: [&str; 19] = [
    "file",
    "model",
    "taken",
    "label",
    "probability",
    "label_2",
    "probability_2",
    "label_3",
    "probability_3",
    "label_4",
    "probability_4",
    "label_5",
    "probability_5",
    "file_sha256",
    "sent_sha256",
    "txid",
    "block",
    "paid",
    "problem",
];

/// The column of transactions.
const TXID: usize = 15;

/// What the table has of one picture. What is empty is not known.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// As it was named on the command line or found below a folder.
    pub file: String,
    /// The model's id.
    pub model: String,
    /// When the picture was taken ([`super::pictures::Seen`]).
    pub taken: Option<String>,
    /// The most probable classes, most probable first.
    pub best: Vec<(String, f64)>,
    /// Of the file, and of what the model has seen of it as a task carries it.
    pub hashes: Option<([u8; 32], [u8; 32])>,
    /// Of a paid task the transaction.
    pub txid: String,
    /// Of a confirmed task its block's height.
    pub block: Option<u64>,
    /// Of a paid task fee and royalty together, in grains.
    pub paid: Option<u64>,
    /// Why there is no answer.
    pub problem: Option<String>,
}

/// Pictures that have an answer of a model, by file and model, and whether that was paid for.
type Done = HashMap<(String, String), bool>;

/// What a table has.
#[derive(Debug, Default)]
pub struct Answers {
    done: Done,
    paid: Amount,
}

impl Answers {
    /// Reads a table and changes nothing, also while another command writes to it. One that is not there has nothing.
    ///
    /// # Errors
    /// If the file cannot be read, or holds something else.
    pub fn read(path: &Path) -> Result<Self, CommandError> {
        match fs::read(path) {
            Ok(text) => Ok(Self::parse(path, &text)?.0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(CommandError::from(error).with_context(format!("cannot read {}", path.display()))),
        }
    }

    /// The same of a table's text, and how many bytes of it are whole rows.
    fn parse(path: &Path, text: &[u8]) -> Result<(Self, u64), CommandError> {
        let (done, paid, whole) = read(text).map_err(|found| {
            CommandError::failed(format!("{} is another table: {found}", path.display()))
                .with_hint("name a new file, or one that --csv has written")
        })?;
        Ok((Self { done, paid }, whole))
    }

    /// Whether a picture has an answer of a model already.
    pub fn has(&self, file: &str, model: &str) -> bool {
        self.done.contains_key(&(file.to_owned(), model.to_owned()))
    }

    /// Whether it has one that was paid for.
    pub fn has_paid(&self, file: &str, model: &str) -> bool {
        self.done.get(&(file.to_owned(), model.to_owned())) == Some(&true)
    }

    /// What all rows together have cost.
    pub fn paid(&self) -> Amount {
        self.paid
    }
}

/// The table's file.
#[derive(Debug)]
pub struct Table {
    writer: csv::Writer<File>,
    path: PathBuf,
    answers: Answers,
}

impl Table {
    /// Begins a table, or goes on with the one that is there: pictures with an answer in it are done. A row that was cut short
    /// when it was written is taken off the end.
    ///
    /// # Errors
    /// If the file cannot be read and written, or holds something else.
    pub fn open(path: &Path) -> Result<Self, CommandError> {
        let failed = || format!("cannot write the table {}", path.display());
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).context(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            // A file system without locks has tables all the same.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::WouldBlock) => {
                return Err(CommandError::failed(format!("another command writes to the table {}", path.display()))
                    .with_hint("wait until it is done, or name another file"));
            }
            Err(TryLockError::Error(error)) => return Err(CommandError::from(error).with_context(failed())),
        }
        if !file.metadata().context(failed)?.is_file() {
            return Err(CommandError::failed(format!("{} is no regular file", path.display()))
                .with_hint("a table is read again so that it can go on: name a file of a disk"));
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text).context(failed)?;
        let (answers, whole) = Answers::parse(path, &text)?;
        if whole < text.len() as u64 {
            file.set_len(whole).context(failed)?;
        }
        file.seek(io::SeekFrom::End(0)).context(failed)?;
        let mut table = Self { writer: csv::WriterBuilder::new().from_writer(file), path: path.into(), answers };
        if whole == 0 {
            table.write(&HEADER.map(str::to_owned))?;
            table.flush()?;
        }
        Ok(table)
    }

    /// What it has by now.
    pub fn answers(&self) -> &Answers {
        &self.answers
    }

    /// Adds a row.
    ///
    /// # Errors
    /// If the file cannot be written, such as when the disk is full.
    pub fn add(&mut self, row: &Row) -> Result<(), CommandError> {
        let Answers { done, paid } = &mut self.answers;
        *paid = Amount(paid.0.saturating_add(row.paid.unwrap_or_default()));
        note(done, row.file.clone(), row.model.clone(), !row.txid.is_empty(), row.problem.is_some());
        let mut cells = vec![row.file.clone(), row.model.clone(), row.taken.clone().unwrap_or_default()];
        for place in 0..BEST {
            let best = row.best.get(place);
            cells.push(best.map(|(label, _)| label.clone()).unwrap_or_default());
            cells.push(best.map(|(_, probability)| format!("{probability:.6}")).unwrap_or_default());
        }
        let [file, sent] = match &row.hashes {
            Some((file, sent)) => [hex::encode(file), hex::encode(sent)],
            None => Default::default(),
        };
        cells.extend([file, sent, row.txid.clone(), row.block.map(|block| block.to_string()).unwrap_or_default()]);
        cells.push(row.paid.map(|paid| Amount(paid).to_string()).unwrap_or_default());
        cells.push(row.problem.clone().unwrap_or_default());
        self.write(&cells)
    }

    /// Hands what was added to the system.
    ///
    /// # Errors
    /// As [`Table::add`].
    pub fn flush(&mut self) -> Result<(), CommandError> {
        self.writer.flush().map_err(|error| self.failed(error))
    }

    /// Has what was added outlive a power failure.
    ///
    /// # Errors
    /// As [`Table::add`].
    pub fn sync(&mut self) -> Result<(), CommandError> {
        self.flush()?;
        self.writer.get_ref().sync_data().map_err(|error| self.failed(error))
    }

    fn write(&mut self, cells: &[String]) -> Result<(), CommandError> {
        self.writer.write_record(cells).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: impl Into<io::Error>) -> CommandError {
        CommandError::from(error.into())
            .with_context(format!("cannot write the table {}", self.path.display()))
            .with_hint("make room, and give the same command again: it goes on after the last row")
    }
}

/// Pictures that have an answer, what all rows have cost, and how many bytes are whole rows; or what was found where a table
/// was expected.
fn read(text: &[u8]) -> Result<(Done, Amount, u64), String> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text);
    let (mut done, mut paid, mut whole, mut record) = (Done::new(), 0u64, 0, csv::ByteRecord::new());
    loop {
        match reader.read_byte_record(&mut record) {
            Ok(false) => return Ok((done, Amount(paid), whole)),
            Ok(true) => {}
            Err(error) => return Err(error.to_string()),
        }
        let end = reader.position().byte();
        // The last row counts if its line has an end.
        if record.len() != HEADER.len() || text.get(end as usize - 1) != Some(&b'\n') {
            let is_last = end == text.len() as u64;
            let begins_so = whole > 0 || HEADER.join(",").as_bytes().starts_with(text);
            if is_last && begins_so {
                return Ok((done, Amount(paid), whole));
            }
            return Err(format!(
                "{} columns in line {}, expected {}",
                record.len(),
                reader.position().line(),
                HEADER.len()
            ));
        }
        // What was cut may end within a letter; whole rows are UTF-8, as they were written.
        let text_of = |column: usize| String::from_utf8_lossy(&record[column]).into_owned();
        if whole == 0 {
            if record != HEADER[..] {
                return Err(format!("the first line does not begin with {}", HEADER[..4].join(",")));
            }
        } else {
            let cost = text_of(HEADER.len() - 2);
            if !cost.is_empty() {
                let cost: Amount =
                    cost.parse().map_err(|error| format!("paid in line {}: {error}", reader.position().line()))?;
                paid = paid.saturating_add(cost.0);
            }
            note(&mut done, text_of(0), text_of(1), !text_of(TXID).is_empty(), !text_of(HEADER.len() - 1).is_empty());
        }
        whole = end;
    }
}

/// A picture is done with an answer, and whatever came of it, when it was paid for.
fn note(done: &mut Done, file: String, model: String, is_paid: bool, is_problem: bool) {
    if is_paid || !is_problem {
        *done.entry((file, model)).or_default() |= is_paid;
    }
}

/// The most probable classes by logits, most probable first, but those below `least`; among equals the lowest class is first,
/// as for the answer itself.
pub fn best(model: &Model, logits: &[i32], most: usize, least: f64) -> Vec<(String, f64)> {
    let probabilities = model.probabilities(logits);
    model
        .best(logits, most)
        .into_iter()
        .map(|class| (model.classes()[class].clone(), probabilities[class]))
        .take_while(|(_, probability)| *probability >= least)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(file: &str, problem: Option<&str>) -> Row {
        Row {
            file: file.into(),
            model: "77".into(),
            best: vec![("cat, tabby".into(), 0.5), ("dog".into(), 0.25)],
            hashes: Some(([1; 32], [2; 32])),
            txid: "abc".into(),
            block: Some(9),
            paid: Some(1_500_000),
            problem: problem.map(str::to_owned),
            ..Row::default()
        }
    }

    #[test]
    fn a_table_goes_on_wherever_it_was_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.csv");
        let mut table = Table::open(&path).unwrap();
        let names = ["a.jpg", "with \"quotes\", and\na line.jpg", "ünïcode 图.jpg"];
        for name in names {
            table.add(&row(name, None)).unwrap();
        }
        table.add(&Row { txid: String::new(), ..row("bad.jpg", Some("damaged")) }).unwrap();
        drop(table);
        let whole = fs::read(&path).unwrap();
        for cut in 0..=whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let mut table = Table::open(&path).unwrap_or_else(|error| panic!("{cut}: {}", error.one_line()));
            let left: Vec<_> = names.iter().filter(|name| !table.answers().has(name, "77")).collect();
            assert!(!table.answers().has("bad.jpg", "77") && !table.answers().has("a.jpg", "78"));
            for name in left {
                table.add(&row(name, None)).unwrap();
            }
            drop(table);
            let table = Table::open(&path).unwrap();
            assert!(
                names.iter().all(|name| table.answers().has(name, "77") && table.answers().has_paid(name, "77")),
                "{cut}"
            );
            assert!(table.answers().paid() >= Amount(3 * 1_500_000));
            drop(table);
            let again = fs::read(&path).unwrap();
            assert!(again.starts_with(&whole[..cut]) || cut < whole.len());
        }
    }

    #[test]
    fn a_free_answer_is_not_a_paid_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.csv");
        assert_eq!(HEADER[TXID], "txid");
        let open = || Table::open(&path).unwrap();
        open().add(&Row { txid: String::new(), paid: None, ..row("a.jpg", None) }).unwrap();
        let told = || {
            let table = open();
            (table.answers().has("a.jpg", "77"), table.answers().has_paid("a.jpg", "77"), table.answers().paid())
        };
        assert_eq!(told(), (true, false, Amount::ZERO));
        open().add(&row("a.jpg", None)).unwrap();
        open().add(&Row { txid: String::new(), ..row("a.jpg", None) }).unwrap();
        assert_eq!(told(), (true, true, Amount(3_000_000)));
    }

    #[test]
    fn what_is_no_such_table_stays_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.csv");
        for text in ["a,b\n1,2\n", "secret", "\n\nx", "file,model\n", "\u{feff}file", "\"open"] {
            fs::write(&path, text).unwrap();
            let error = Table::open(&path).unwrap_err().one_line();
            assert!(error.contains("is another table"), "{text}: {error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn a_table_has_one_writer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.csv");
        let table = Table::open(&path).unwrap();
        let error = Table::open(&path).unwrap_err().one_line();
        assert!(error.contains("another command writes to the table"), "{error}");
        drop(table);
        Table::open(&path).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn what_cannot_be_read_again_is_refused() {
        let error = Table::open(Path::new("/dev/null")).unwrap_err().one_line();
        assert!(error.contains("/dev/null is no regular file"), "{error}");
    }
}
