//! `submit --csv`: any number of pictures, a few dozen at a time, each batch in the table before the next is asked.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ocelli_consensus::block::Classes;
use ocelli_consensus::network::Network;
use ocelli_consensus::{Amount, TxId};
use ocelli_model::{Attachment, Model};
use ocelli_program::signals::stop_flag;
use ocelli_protocol::message::Submission;
use serde_json::json;

use super::super::error::CommandError;
use super::super::network_model::Offered;
use super::super::output::Printer;
use super::super::table::{self, BEST, Row, Table};
use super::super::{evidence, pictures};
use super::journal::{Journal, JournalEntry};
use super::{Args, BATCH, Offer, Picture, Progress, check_price, join, keep_what_is_sent, price, run_model, sign};
use crate::client::confirmation::Found;
use crate::client::{Client, ClientError};
use crate::wallet::Wallet;

/// Between two looks at what was under way, and between two tries to join the network again.
const PAUSE: Duration = Duration::from_secs(2);

/// Who asks about pictures for a table.
pub(super) struct Asker<'a> {
    pub(super) args: &'a Args,
    pub(super) network: &'a Network,
    pub(super) addresses: &'a [String],
    pub(super) offered: Offered,
    pub(super) wallet: Wallet,
    pub(super) client: Client,
    pub(super) progress: Progress,
}

#[derive(Debug, Default)]
struct Counts {
    answered: usize,
    problems: usize,
    /// Answers of the chain that are not this machine's own.
    different: usize,
}

impl Asker<'_> {
    /// Asks about all pictures that the table has no paid answer of.
    ///
    /// # Errors
    /// If the table cannot be written, a node is lost for good, money or time runs out; the same command goes on. At the end,
    /// if there are pictures that cannot be asked about, or answers that are not this machine's own.
    pub(super) fn run(
        mut self,
        path: &Path,
        mut files: Vec<PathBuf>,
        output: &mut Printer,
    ) -> Result<(), CommandError> {
        let stop = stop_flag().map_err(|error| CommandError::from(error).with_context("cannot listen for Ctrl-C"))?;
        let model = self.offered.model.id().to_string();
        let mut table = Table::open(path)?;
        let mut counts = Counts::default();
        let asked = files.len();
        let (journal, under_way) = Journal::open(path)?;
        self.settle(&under_way, &mut table, &mut counts)?;
        journal.end()?;
        files.retain(|file| !table.has_paid(&file.display().to_string(), &model));
        let (done, settled, mut left) = (asked - files.len(), counts.answered, files.len());

        for batch in files.chunks(BATCH) {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            self.progress.set(asked - left);
            self.ask(batch, &journal, &mut table, &mut counts, &stop)?;
            left -= batch.len();
        }
        self.progress.finish();
        evidence::warn_of_left(&self.client);
        let summary = Summary { path, asked, before: done.saturating_sub(settled), left, paid: table.paid() };
        summary.say(&counts, output)?;
        if counts.different > 0 {
            return Err(CommandError::failed(format!(
                "ANSWERS DIFFER: {} are not what this machine computes; the column `problem` tells which",
                counts.different
            ))
            .with_hint("one of the two computes wrongly or lies: compare with another machine, and report it"));
        }
        if counts.problems > 0 {
            return Err(CommandError::failed(format!("{} of {asked} pictures were not asked about", counts.problems))
                .with_hint("the column `problem` of the table tells why of each"));
        }
        Ok(())
    }

    /// Asks about one batch.
    fn ask(
        &mut self,
        files: &[PathBuf],
        journal: &Journal,
        table: &mut Table,
        counts: &mut Counts,
        stop: &AtomicBool,
    ) -> Result<(), CommandError> {
        self.progress.say("reading pictures");
        let model = self.offered.model.id().to_string();
        let (mut readable, mut offers, mut taken) = (Vec::new(), Vec::new(), Vec::new());
        for path in files {
            let file = path.display().to_string();
            match self.read(path) {
                Ok((attachment, offer, time)) => {
                    readable.push((file, attachment));
                    offers.push(offer);
                    taken.push(time);
                }
                Err(problem) => {
                    counts.problems += 1;
                    table.add(&Row { file, model: model.clone(), problem: Some(problem), ..Row::default() })?;
                }
            }
        }
        table.flush()?;
        if readable.is_empty() {
            return Ok(());
        }
        self.progress.say("running the model here");
        let asked = run_model(readable, offers, &self.offered.model)?;
        let (args, network, offered) = (self.args, self.network, &self.offered);
        let submissions = sign(args, &mut self.client, network, offered, &asked, &self.wallet, table.paid())?;
        let entries: Vec<JournalEntry> = asked
            .iter()
            .zip(taken)
            .zip(&submissions)
            .map(|((picture, taken), submission)| self.entry(picture, taken, submission))
            .collect();
        journal.begin(&entries)?;
        keep_what_is_sent(&asked, &submissions, &self.progress);
        self.hand_in(&submissions)?;
        self.await_blocks(&entries, &submissions, table, counts, stop)?;
        journal.end()
    }

    fn read(&self, path: &Path) -> Result<(Attachment, Offer, Option<String>), String> {
        let (attachment, bytes) = pictures::read(path, &self.offered.model).map_err(|error| error.one_line())?;
        let offer = price(self.args, &self.offered, &attachment);
        check_price(self.args, &self.offered, offer.1)?;
        Ok((attachment, offer, pictures::time_taken(&bytes)))
    }

    fn entry(&self, picture: &Picture, taken: Option<String>, submission: &Submission) -> JournalEntry {
        let model: &Model = &self.offered.model;
        let paid = submission.transaction.total(&self.network.parameters).unwrap_or(Amount(u64::MAX));
        let row = Row {
            file: picture.file.clone(),
            model: model.id().to_string(),
            taken,
            best: table::best(model, &picture.logits, BEST, 0.0),
            hashes: Some((picture.attachment.file_hash, picture.attachment.sent_hash)),
            txid: submission.transaction.txid().to_string(),
            paid: Some(paid.0),
            ..Row::default()
        };
        JournalEntry { row, digest: picture.classes().digest.to_string() }
    }

    /// Hands tasks in; where no node is left, joins the network again for as long as confirmations are waited for.
    fn hand_in(&mut self, submissions: &[Submission]) -> Result<(), CommandError> {
        let deadline = Instant::now() + Duration::from_secs(self.args.timeout);
        loop {
            self.progress.say("waiting for preliminary answers");
            match self.client.submit(submissions, |_, _| {}) {
                Ok(replies) if replies.iter().all(|replies| !replies.is_empty()) => {
                    let refused = replies.iter().find_map(|replies| {
                        let problems: Vec<_> = replies.iter().filter_map(|reply| reply.outcome.problem()).collect();
                        (problems.len() == replies.len()).then_some(problems)
                    });
                    return match refused {
                        // Those before it are on their way.
                        Some(problems) => Err(CommandError::failed("no node takes the next task")
                            .with_causes(problems)
                            .with_hint("give the same command again, with a higher --fee if that is what is said")),
                        None => Ok(()),
                    };
                }
                Ok(_) | Err(ClientError::Alone) if Instant::now() < deadline => self.join_again(deadline)?,
                Ok(_) => return Err(ClientError::Alone.into()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn join_again(&mut self, deadline: Instant) -> Result<(), CommandError> {
        self.progress.say("joining the network again");
        loop {
            thread::sleep(PAUSE);
            match join(self.args, self.network, self.addresses) {
                Ok(client) => {
                    self.client = client;
                    return Ok(());
                }
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => {}
            }
        }
    }

    fn await_blocks(
        &mut self,
        entries: &[JournalEntry],
        submissions: &[Submission],
        table: &mut Table,
        counts: &mut Counts,
        stop: &AtomicBool,
    ) -> Result<(), CommandError> {
        self.progress.say("waiting for confirmations");
        let (progress, depth) = (&self.progress, self.args.wait.max(1));
        let mut is_said = false;
        let states = self.client.wait(submissions, depth, Duration::from_secs(self.args.timeout), |states| {
            if stop.load(Ordering::Relaxed) && !is_said {
                is_said = true;
                let under_way = states.iter().filter(|tracked| !tracked.state.is_deep(depth)).count();
                progress.note(&format!(
                    "stopping: {under_way} tasks that are under way are waited for; Ctrl-C again does not wait for them. The \
                     same command goes on in both cases, and pays nothing twice."
                ));
            }
        })?;
        for (entry, tracked) in entries.iter().zip(&states) {
            if let Some(confirmed) = tracked.state.confirmed() {
                add(entry, confirmed.header.height, confirmed.answer.classes(), table, counts)?;
            }
        }
        table.flush()?;
        super::check_depth(&states, depth, self.args.timeout)
    }

    /// What became of the tasks that were under way when a run was ended. One that no node knows is asked about anew: its
    /// successor has its nonce, so only one of them can ever be paid.
    fn settle(
        &mut self,
        under_way: &[JournalEntry],
        table: &mut Table,
        counts: &mut Counts,
    ) -> Result<(), CommandError> {
        let deadline = Instant::now() + Duration::from_secs(self.args.timeout);
        for entry in under_way {
            if table.has_paid(&entry.row.file, &entry.row.model) {
                continue;
            }
            self.progress.say("looking for what was under way");
            let txid: TxId = entry.row.txid.parse()?;
            loop {
                match self.client.find(txid)? {
                    Found::Confirmed(confirmation, _) => {
                        add(entry, confirmation.header.height, confirmation.answer.classes(), table, counts)?;
                        break;
                    }
                    Found::Unknown | Found::Dropped(_) => break,
                    Found::Pending if Instant::now() >= deadline => {
                        return Err(CommandError::failed(format!(
                            "{}, transaction {txid}, of the run before is in no block yet",
                            entry.row.file
                        ))
                        .with_hint(
                            "wait, and give the same command again; `ocelli status` tells whether blocks come",
                        ));
                    }
                    Found::Pending => self.client.pause(Instant::now() + PAUSE)?,
                }
            }
        }
        table.flush()
    }
}

/// Adds the row of a confirmed task.
fn add(
    entry: &JournalEntry,
    height: u64,
    found: Option<&Classes>,
    table: &mut Table,
    counts: &mut Counts,
) -> Result<(), CommandError> {
    let found = found.map(|classes| classes.digest.to_string());
    let is_own = found.as_ref() == Some(&entry.digest);
    let problem = (!is_own).then(|| {
        let found = found.as_deref().unwrap_or("no answer");
        format!("ANSWERS DIFFER: the block has {found}, this machine computes {}", entry.digest)
    });
    counts.answered += 1;
    counts.different += usize::from(!is_own);
    table.add(&Row { block: Some(height), problem, ..entry.row.clone() })
}

/// What a run came to.
struct Summary<'a> {
    path: &'a Path,
    asked: usize,
    /// Answered by earlier runs.
    before: usize,
    /// Not asked about, as it was stopped.
    left: usize,
    /// For all rows of the table.
    paid: Amount,
}

impl Summary<'_> {
    fn say(&self, counts: &Counts, output: &mut Printer) -> Result<(), CommandError> {
        let (Counts { answered, problems, .. }, Self { path, asked, before, left, paid }) = (counts, self);
        if output.is_json() {
            return output.json(&json!({
                "table": path, "pictures": asked, "answered": answered, "answered_before": before, "problems": problems,
                "left": left, "paid": paid.to_string(),
            }));
        }
        let before = if *before > 0 { format!(", {before} were there already") } else { String::new() };
        let left = if *left > 0 { format!(", {left} are left: the same command goes on") } else { String::new() };
        let path = path.display();
        output.line(format_args!(
            "{path}: {answered} pictures answered{before}{left}; {paid} credits paid for the whole table"
        ))
    }
}
