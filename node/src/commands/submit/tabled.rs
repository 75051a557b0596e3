//! `submit --csv`: any number of pictures, a few dozen at a time, each batch in the table before the next is asked.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ocelli_consensus::{Amount, Transaction};
use ocelli_model::Model;
use ocelli_protocol::ledger::Side;
use ocelli_protocol::message::{Confirmation, Submission};
use serde_json::json;

use super::super::error::{CommandError, Explain as _};
use super::super::output::Printer;
use super::super::pictures::Seen;
use super::super::table::{self, BEST, Row, Table};
use super::super::{evidence, pictures};
use super::asker::{Asker, HandedIn, PAUSE, all_refused, stop_on_signal};
use super::journal::{Journal, JournalEntry};
use super::{BATCH, Picture, check_price, price};
use crate::client::confirmation::{Confirmed, Found, TransactionState};

#[derive(Debug, Default)]
struct Counts {
    answered: usize,
    problems: usize,
    /// Answers of the chain that are not this machine's own.
    different: usize,
    /// Answers in blocks before which the chain was not checked.
    unchecked: usize,
}

/// What a run writes to.
struct Run {
    table: Table,
    journal: Journal,
    counts: Counts,
    stop: Arc<AtomicBool>,
}

impl Asker<'_> {
    /// Asks about all pictures that the table has no paid answer of.
    ///
    /// # Errors
    /// If the table cannot be written, all nodes are lost for good, money or time runs out; the same command goes on. At the end,
    /// if there are pictures that cannot be asked about, answers that are not this machine's own, or pictures left as it was stopped.
    pub(super) fn table(
        mut self,
        path: &Path,
        mut files: Vec<PathBuf>,
        output: &mut Printer,
    ) -> Result<(), CommandError> {
        let stop = stop_on_signal()?;
        let model = self.offered.model.id().to_string();
        let table = Table::open(path)?;
        let asked = files.len();
        let (journal, under_way) = Journal::open(path)?;
        let mut run = Run { table, journal, counts: Counts::default(), stop };
        self.settle(under_way, &mut run)?;
        files.retain(|file| !run.table.answers().has_paid(&pictures::name(file), &model));
        let (done, settled, mut left) = (asked - files.len(), run.counts.answered, files.len());
        self.progress.go_on_from(done);

        for batch in files.chunks(BATCH) {
            self.progress.set(asked - left);
            // Those that came too late are asked about anew.
            let mut open = batch.to_vec();
            while !open.is_empty() && !run.stop.load(Ordering::Relaxed) {
                open = self.ask(&open, &mut run)?;
            }
            left -= batch.len() - open.len();
            if !open.is_empty() {
                break;
            }
        }
        self.progress.finish();
        evidence::warn_of_left(&self.client);
        let Run { table, counts, .. } = run;
        let summary = Summary { path, asked, before: done.saturating_sub(settled), left, paid: table.answers().paid() };
        if counts.unchecked > 0 {
            self.progress.note(&format!(
                "warning: {} answers are in blocks before which the chain was not checked, as it is too long: they are by the nodes' word",
                counts.unchecked
            ));
        }
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
        if left > 0 {
            return Err(CommandError::failed(format!("stopped: {left} of {asked} pictures are left"))
                .with_hint("the same command goes on, and pays nothing twice"));
        }
        Ok(())
    }

    /// Asks about one batch; returns those whose tasks came too late.
    fn ask(&mut self, files: &[PathBuf], run: &mut Run) -> Result<Vec<PathBuf>, CommandError> {
        self.progress.say("reading pictures");
        let model = self.offered.model.id().to_string();
        let (mut readable, mut sources) = (Vec::new(), Vec::new());
        for (path, read) in files.iter().zip(pictures::read_all(files, &self.offered.model)) {
            let file = pictures::name(path);
            let priced = read.and_then(|seen| {
                let (_, fee) = price(self.args, &self.offered.model, self.offered.royalty, &seen.attachment);
                check_price(self.args, &self.offered, fee).map(|()| seen)
            });
            match priced {
                Ok(Seen { attachment, taken }) => {
                    readable.push((file, attachment));
                    sources.push((path, taken));
                }
                Err(problem) => {
                    run.counts.problems += 1;
                    run.table.add(&Row { file, model: model.clone(), problem: Some(problem), ..Row::default() })?;
                }
            }
        }
        run.table.flush()?;
        if readable.is_empty() {
            return Ok(Vec::new());
        }
        let asked = self.run_model(readable)?;
        let entries = |asker: &Self, submissions: &[Submission]| -> Vec<JournalEntry> {
            let entries = asked.iter().zip(&sources).zip(submissions);
            entries.map(|((picture, (_, taken)), submission)| asker.entry(picture, taken, submission)).collect()
        };
        let HandedIn { submissions, replies } =
            self.send(&asked, run.table.answers().paid(), |asker, submissions| {
                run.journal.begin(&entries(asker, submissions))
            })?;
        if let Some(&first) = all_refused(&replies).first() {
            // Those before it are on their way.
            return Err(CommandError::failed("no node takes the next task")
                .with_causes(replies[first].iter().filter_map(|reply| reply.outcome.problem()))
                .with_hint("give the same command again, with a higher --fee if that is what is said"));
        }
        let entries = entries(self, &submissions).into_iter().zip(submissions).collect();
        let late = self.see_through(entries, run)?;
        let is_late = |file: &str| late.iter().any(|entry| entry.row.file == file);
        let files = asked.iter().zip(sources).filter(|(picture, _)| is_late(&picture.file));
        Ok(files.map(|(_, (path, _))| path.clone()).collect())
    }

    fn entry(&self, picture: &Picture, taken: &Option<String>, submission: &Submission) -> JournalEntry {
        let model: &Model = &self.offered.model;
        let paid = submission.transaction.total(&self.network.parameters).unwrap_or(Amount(u64::MAX));
        let row = Row {
            file: picture.file.clone(),
            model: model.id().to_string(),
            taken: taken.clone(),
            best: table::best(model, &picture.logits, BEST, 0.0),
            hashes: Some((picture.attachment.file_hash, picture.attachment.sent_hash)),
            txid: submission.transaction.txid().to_string(),
            paid: Some(paid.0),
            ..Row::default()
        };
        JournalEntry::of(row, picture.classes().digest.to_string(), submission)
    }

    /// What was under way when a run was ended is handed in again as it was signed, by whichever key: so it is paid once, whatever
    /// nodes have made of it. What none of them takes and whose nonce is still to come is asked about anew: its successor has its
    /// nonce, so only one of them can ever be paid.
    fn settle(&mut self, under_way: Vec<JournalEntry>, run: &mut Run) -> Result<(), CommandError> {
        let is_open = |entry: &JournalEntry| !run.table.answers().has_paid(&entry.row.file, &entry.row.model);
        let open = under_way.into_iter().filter(is_open);
        let open = open.map(|entry| entry.submission().map(|submission| (entry, submission)));
        let mut open = open.collect::<Result<Vec<_>, _>>()?;
        if !open.is_empty() {
            self.progress.note(&format!("{} tasks were under way: handing them in again", open.len()));
            let submissions: Vec<_> = open.iter().map(|(_, submission)| submission.clone()).collect();
            let mut refused = all_refused(&self.hand_in(&submissions)?);
            if let Some(&first) = refused.first() {
                let account = self.client.account(submissions[first].transaction.sender())?;
                refused.retain(|&index| submissions[index].transaction.unsigned.nonce >= account.next_nonce);
            }
            let mut index = 0..;
            open.retain(|_| index.next().is_none_or(|index| !refused.contains(&index)));
        }
        self.see_through(open, run)?;
        Ok(())
    }

    /// Waits until tasks have the confirmations that are waited for, and writes their rows; returns those that are void by then. What
    /// has less when the time is up is left to the next run.
    fn see_through(
        &mut self,
        mut open: Vec<(JournalEntry, Submission)>,
        run: &mut Run,
    ) -> Result<Vec<JournalEntry>, CommandError> {
        let (depth, deadline) = (self.args.wait.max(1), Instant::now() + self.patience());
        let (mut late, mut is_said) = (Vec::new(), false);
        while !open.is_empty() {
            let submissions: Vec<_> = open.iter().map(|(_, submission)| submission.clone()).collect();
            let states = self.wait(&submissions, depth, deadline, |progress, states| {
                if run.stop.load(Ordering::Relaxed) && !is_said {
                    is_said = true;
                    let under_way = states.iter().filter(|tracked| !tracked.state.is_deep(depth)).count();
                    progress.note(&format!(
                        "stopping: {under_way} tasks that are under way are waited for; Ctrl-C again does not wait for them. \
                         The same command goes on in both cases, and pays nothing twice."
                    ));
                }
            })?;
            let is_late = Instant::now() >= deadline;
            let mut left = Vec::new();
            for ((entry, submission), tracked) in std::mem::take(&mut open).into_iter().zip(states) {
                match &tracked.state {
                    // Before, a reorganisation may take it back: then a row would say what is not so, and nobody would ask again.
                    TransactionState::Confirmed(confirmed) if tracked.state.is_deep(depth) => {
                        run.add(&entry, confirmed)?
                    }
                    TransactionState::Void(why) => match self.same_task_again(&submission)? {
                        Some((transaction, confirmed)) => {
                            let paid = transaction.total(&self.network.parameters).map(|paid| paid.0);
                            let row = Row { txid: transaction.txid().to_string(), paid, ..entry.row.clone() };
                            run.add(&JournalEntry { row, ..entry }, &confirmed)?;
                        }
                        None => {
                            self.progress.note(&format!("{}: too late: {why}; asking anew", entry.row.file));
                            late.push(entry);
                        }
                    },
                    // Every node may refuse it, and yet a block may come that has it.
                    _ => {
                        open.push((entry, submission));
                        left.push(tracked);
                    }
                }
            }
            run.table.sync()?;
            if is_late {
                super::check_depth(&left, depth, self.args.timeout)?;
                break;
            }
            if !open.is_empty() {
                self.client.pause((Instant::now() + PAUSE).min(deadline))?;
            }
        }
        run.journal.end()?;
        Ok(late)
    }

    /// The confirmed transaction with a task's nonce, where it is the same task, as after `ocelli wallet bump`.
    fn same_task_again(&mut self, task: &Submission) -> Result<Option<(Transaction, Confirmed)>, CommandError> {
        let (sender, unsigned) = (task.transaction.sender(), &task.transaction.unsigned);
        let statement = self.client.statement(sender, 0).context(|| {
            format!("cannot see whether what has the nonce of transaction {} is the same task", task.transaction.txid())
        })?;
        let Some(later) = statement.nonce.checked_sub(unsigned.nonce + 1) else { return Ok(None) };
        let mut debits = statement.entries.iter().rev().filter(|known| known.entry.place.side == Side::Debit);
        let found = debits.nth(later as usize).and_then(|known| known.entry.event.txid());
        let Some(txid) = found else { return Ok(None) };
        let Found::Confirmed(confirmation, evidence) = self.client.find(txid)? else { return Ok(None) };
        let Confirmation { header, submission, answer, .. } = *confirmation;
        let is_same = submission.transaction.unsigned.action == unsigned.action;
        Ok(is_same.then_some((submission.transaction, Confirmed { header, answer, evidence })))
    }
}

impl Run {
    /// Adds the row of a confirmed task.
    fn add(&mut self, entry: &JournalEntry, confirmed: &Confirmed) -> Result<(), CommandError> {
        let found = confirmed.answer.classes().map(|classes| classes.digest.to_string());
        let is_own = found.as_ref() == Some(&entry.digest);
        let problem = (!is_own).then(|| {
            let found = found.as_deref().unwrap_or("no answer");
            format!("ANSWERS DIFFER: the block has {found}, this machine computes {}", entry.digest)
        });
        self.counts.answered += 1;
        self.counts.different += usize::from(!is_own);
        self.counts.unchecked += usize::from(confirmed.evidence.checked_from > 0);
        self.table.add(&Row { block: Some(confirmed.header.height), problem, ..entry.row.clone() })
    }
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
        let (Counts { answered, problems, unchecked, .. }, Self { path, asked, before, left, paid }) = (counts, self);
        if output.is_json() {
            return output.json(&json!({
                "table": path, "pictures": asked, "answered": answered, "answered_before": before, "problems": problems,
                "left": left, "paid": paid.to_string(), "unchecked": unchecked,
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
