//! What is submitted and relayed, checked and taken; who waits for an answer; and what becomes of it as the chain moves.

use std::sync::mpsc;

use ocelli_consensus::block::{Answer, Classes};
use ocelli_consensus::checked::CheckError;
use ocelli_consensus::object::StateReader as _;
use ocelli_consensus::rules::TransactionError;
use ocelli_consensus::transaction::Task;
use ocelli_consensus::{AttachmentHash, CheckedTransaction, Transaction, TxId};
use ocelli_protocol::mempool::{AdmitError, Blame, Disconnected, Inserted, MempoolError, Readiness, Returned};
use ocelli_protocol::message::{Response, ShortId, SignedAnswer, Submission, SubmitReply};
use ocelli_protocol::relay;

use super::{Awaited, Pool, failed, tip};
use crate::chain::{FinishedUpload, Moved};
use crate::dropped::Reason;
use crate::full_message::full_message;
use crate::inference::{self, PictureFault};
use crate::network::{Misbehaviour, Peer};
use crate::reply::ReplyTo;
use crate::store::StoreError;

/// Transactions that a restart has left and that are taken up between two inputs.
const LEFT_OVER_AT_ONCE: usize = 16;
/// Submitters that wait for an answer.
const MAX_WAITING: usize = 4096;

/// Why a transaction is not taken.
pub(super) type Refusal = AdmitError<StoreError>;

/// The numbers that a refused submitter gets; described in `docs/protocol.md`.
mod code {
    pub const RULE: u32 = 1;
    pub const ATTACHMENT: u32 = 2;
    pub const MODEL: u32 = 3;
    pub const MEMPOOL: u32 = 4;
    pub const BUSY: u32 = super::SubmitReply::BUSY;
}

fn code_of(refusal: &Refusal) -> u32 {
    let Refusal::Refused(refusal) = refusal else { return code::BUSY };
    match refusal {
        MempoolError::Rule(TransactionError::UnknownModel { .. }) => code::MODEL,
        MempoolError::Check(CheckError::Rule(_)) | MempoolError::TooHeavy { .. } => code::RULE,
        MempoolError::Check(CheckError::Attachment(_)) => code::ATTACHMENT,
        MempoolError::FileUnchecked(_) | MempoolError::TooManyPending { .. } => code::BUSY,
        _ => code::MEMPOOL,
    }
}

/// Who waits for the answer of which task, at most [`MAX_WAITING`] in all.
#[derive(Default)]
pub(super) struct Waiting {
    awaited: Awaited,
    count: usize,
}

impl Waiting {
    /// Has somebody wait; hands them back if there is no room, once those that have given up are forgotten.
    fn wait(&mut self, txid: TxId, to: ReplyTo) -> Result<(), ReplyTo> {
        if self.count >= MAX_WAITING {
            self.awaited.retain(|_, replies| {
                replies.retain(ReplyTo::is_awaited);
                !replies.is_empty()
            });
            self.count = self.awaited.values().map(Vec::len).sum();
        }
        if self.count >= MAX_WAITING {
            return Err(to);
        }
        self.count += 1;
        self.awaited.entry(txid).or_default().push(to);
        Ok(())
    }

    /// Those who wait for a task wait no longer.
    pub(super) fn end(&mut self, txid: &TxId) -> Vec<ReplyTo> {
        let ended = self.awaited.remove(txid).unwrap_or_default();
        self.count -= ended.len();
        ended
    }
}

impl Pool {
    pub(super) fn on_submit(&mut self, submission: Submission, to: ReplyTo) {
        let txid = submission.transaction.txid();
        let task = submission.transaction.task();
        // It may come late, from a submitter that asks many nodes: then the chain has the answer.
        match self.confirmed(&txid) {
            Ok(None) => {}
            Ok(Some(answer)) => {
                let answer = task.zip(answer.classes()).map(|(task, answer)| self.sign(txid, &task, answer.clone()));
                return self.reply(to, Response::Submitted(SubmitReply::Accepted { answer }));
            }
            Err(error) => return self.reply(to, failed(&error)),
        }
        match self.take_transaction(submission) {
            Ok(inserted) => {
                if inserted.readiness == Readiness::Ready {
                    self.forward(&[txid]);
                }
                self.forward(&inserted.promoted);
            }
            Err(Refusal::Refused(MempoolError::AlreadyKnown(_))) => {}
            Err(refusal) => {
                let peer = to.peer();
                // Told first: who has made a mistake gets to know of it, and who floods is gone with the second.
                to.send(&Response::Submitted(SubmitReply::refused(code_of(&refusal), full_message(&refusal))));
                if let Some(peer) = peer {
                    self.blame(peer, &refusal);
                }
                return;
            }
        }
        if task.is_none() {
            self.reply(to, Response::Submitted(SubmitReply::Accepted { answer: None }));
        } else if self.mempool.get(&txid).is_some_and(|entry| *entry.answer() != Answer::None) {
            self.answer(&txid, to);
        } else if let Err(to) = self.waiting.wait(txid, to) {
            let words = "too many wait for an answer: the task is taken, ask again for it";
            self.reply(to, Response::Submitted(SubmitReply::refused(code::BUSY, words)));
        }
    }

    /// The answer to a transaction of the chain; `None` if the chain has none such.
    fn confirmed(&self, txid: &TxId) -> Result<Option<Answer>, StoreError> {
        let rows = &self.chain.rows;
        let Some(location) = rows.transaction_location(txid)? else { return Ok(None) };
        let body = rows.body(location.height, &location.block)?;
        let entry = body.as_ref().and_then(|body| body.transactions.get(location.index as usize));
        Ok(Some(entry.map_or(Answer::None, |(_, answer)| answer.clone())))
    }

    /// Checks a transaction as every forwarder does, and puts it into the mempool.
    pub(super) fn take_transaction(&mut self, submission: Submission) -> Result<Inserted, Refusal> {
        // What is cheap comes first: a transaction that nobody could pay costs no check of a signature.
        self.check(&submission.transaction)?;
        self.take_signed(submission)
    }

    /// All of admission that costs no check of a signature.
    pub(super) fn check(&self, transaction: &Transaction) -> Result<(), Refusal> {
        let tip = tip(&self.others.views.network, &self.chain, self.others.clock.now());
        super::check(&self.mempool, transaction, &tip, self.chain.rows.store())
    }

    /// The rest of [`Pool::take_transaction`], and all of it for what this node has signed itself.
    pub(super) fn take_signed(&mut self, submission: Submission) -> Result<Inserted, Refusal> {
        let Submission { transaction, attachment } = submission;
        let tip = tip(&self.others.views.network, &self.chain, self.others.clock.now());
        let genesis = self.others.views.genesis;
        let checked = CheckedTransaction::check(transaction, attachment, genesis).map_err(MempoolError::Check)?;
        check_picture(&checked)?;
        self.check_file(checked.transaction())?;
        let inserted = self.mempool.insert(checked, &tip)?;
        for txid in &inserted.evicted {
            self.drop_waiting(txid, Reason::Outbid);
        }
        self.mempool_changed();
        self.run_ahead();
        Ok(inserted)
    }

    /// Whether the file that a transaction publishes is what it says.
    fn check_file(&self, transaction: &Transaction) -> Result<(), Refusal> {
        let Some((model, facts)) = transaction.unsigned.action.published() else { return Ok(()) };
        let upload = self.chain.rows.upload(&transaction.sender()).map_err(AdmitError::Reader)?;
        // Without an upload the state refuses it.
        let Some(upload) = upload else { return Ok(()) };
        match self.others.views.files.verdict(&model, facts, upload.parts) {
            Some(verdict) => Ok(verdict.map_err(|error| MempoolError::Check(CheckError::Rule(error)))?),
            None => {
                // It is not checked by itself where its last part came before a restart, and a part may still be missing.
                if let Some(finished) = FinishedUpload::of(transaction.sender(), upload) {
                    (self.others.unchecked)(finished);
                }
                Err(MempoolError::FileUnchecked(model).into())
            }
        }
    }

    /// Has a peer answer for a transaction that it has sent. Whether it is to blame.
    pub(super) fn blame(&mut self, peer: Peer, refusal: &Refusal) -> bool {
        let Refusal::Refused(refusal) = refusal else { return false };
        match refusal.misbehaviour() {
            Blame::Peer => {
                self.others.network.penalize(peer, Misbehaviour::BadTransaction);
                true
            }
            Blame::InVain => self.blame_in_vain(peer),
            Blame::Nobody => false,
        }
    }

    /// Takes some of what a restart has left.
    pub(super) fn take_up_left_over(&mut self) {
        for submission in self.left_over.drain(..self.left_over.len().min(LEFT_OVER_AT_ONCE)).collect::<Vec<_>>() {
            let txid = submission.transaction.txid();
            match self.take_transaction(submission) {
                Ok(inserted) => {
                    if inserted.readiness == Readiness::Ready {
                        self.forward(&[txid]);
                    }
                    self.forward(&inserted.promoted);
                }
                Err(refusal) => {
                    tracing::debug!(%txid, reason = full_message(&refusal), "not taken into the mempool again");
                }
            }
        }
    }

    /// Gives a preliminary answer, signed by this node.
    pub(super) fn answer(&mut self, txid: &TxId, to: ReplyTo) {
        let entry = self.mempool.get(txid);
        let task = entry.and_then(|entry| Some((entry.transaction().task()?, entry.answer().classes()?.clone())));
        let reply = match task {
            Some((task, answer)) => SubmitReply::Accepted { answer: Some(self.sign(*txid, &task, answer)) },
            None => SubmitReply::refused(code::MEMPOOL, "the task is no longer in the mempool"),
        };
        self.reply(to, Response::Submitted(reply));
    }

    fn sign(&self, txid: TxId, task: &Task, answer: Classes) -> SignedAnswer {
        let network = &self.others.network;
        let hash = SignedAnswer::signing_hash(self.others.views.genesis, txid, task, &answer);
        let (public_key, signature) = (network.public_key(), network.sign(&hash));
        SignedAnswer { answer, public_key, signature }
    }

    /// A transaction has left the mempool: who waits for it is told now, and who asks for it later then.
    fn drop_waiting(&mut self, txid: &TxId, reason: Reason) {
        self.dropped.note(*txid, reason);
        for to in self.waiting.end(txid) {
            self.reply(to, Response::Submitted(SubmitReply::refused(code::MEMPOOL, reason.text())));
        }
    }

    /// Drops what carries an attachment that the owner will not have here. Of what comes later the store tells.
    pub(super) fn on_forget(&mut self, attachment: &AttachmentHash, to: mpsc::Sender<usize>) {
        let before = self.left_over.len();
        self.left_over.retain(|left| !left.transaction.carries(attachment));
        let gone = self.mempool.drop_attachment(attachment);
        for txid in &gone {
            self.drop_waiting(txid, Reason::Forgotten);
        }
        if !gone.is_empty() {
            // No template holds it any more.
            self.tip_moved();
        }
        let count = gone.len() + before - self.left_over.len();
        if count > 0 {
            self.save();
        }
        self.due.forgotten.push((to, count));
    }

    /// Has the mempool follow the chain: what is in a block leaves it, what is in none any more comes back.
    pub(super) fn follow_chain(&mut self, disconnected: &[Moved], connected: &[Moved]) -> Result<(), StoreError> {
        // Lowest first, so that nonces come in order.
        let mut returned = Vec::new();
        for Moved { hash, header, body } in disconnected.iter().rev() {
            let attachments = self.chain.rows.attachments(header.height, hash, body)?;
            let transactions = body.transactions.iter().zip(attachments);
            let transactions = transactions.map(|((transaction, answer), attachment)| {
                // The rows are of the tip, and may be older than what the owner has said since.
                let is_refused = self.chain.rows.store().refuses(transaction)?;
                let attachment = attachment.filter(|_| !is_refused);
                Ok(Returned { transaction: transaction.clone(), attachment, answer: answer.clone() })
            });
            let transactions = transactions.collect::<Result<_, StoreError>>()?;
            returned.push(Disconnected { miner: header.miner, transactions });
        }
        let included: Vec<_> = connected.iter().flat_map(|block| &block.body.transactions).collect();
        for (transaction, answer) in &included {
            if self.waiting.count == 0 {
                break;
            }
            let txid = transaction.txid();
            // It was in the mempool, and a block came before its answer here: the block's has been checked.
            if *answer != Answer::None && self.waiting.awaited.contains_key(&txid) {
                self.mempool.set_answer(&txid, answer.clone());
                for to in self.waiting.end(&txid) {
                    self.answer(&txid, to);
                }
            }
        }
        let moved = |blocks: &[Moved]| -> Vec<ShortId> {
            let transactions = blocks.iter().flat_map(|block| &block.body.transactions);
            transactions.map(|(transaction, _)| ShortId::of(&transaction.wtxid())).collect()
        };
        self.drive_relay(relay::Input::TipMoved {
            included: moved(connected),
            returned: moved(disconnected),
            disconnected: disconnected.len(),
        });
        let included = included.iter().map(|(transaction, _)| transaction);
        let tip = tip(&self.others.views.network, &self.chain, self.others.clock.now());
        let changes = self.mempool.on_tip_moved(returned, included, &tip)?;
        for txid in &changes.removed {
            self.drop_waiting(txid, Reason::Impossible);
        }
        self.forward(&changes.promoted);
        self.mempool_changed();
        self.run_ahead();
        Ok(())
    }
}

/// Whether a picture that is sent as a file is one that the network takes: decoding it costs most, and comes last.
fn check_picture(checked: &CheckedTransaction) -> Result<(), MempoolError> {
    let (Some(task), Some(bytes)) = (checked.transaction().task(), checked.attachment()) else { return Ok(()) };
    let refused = |fault: PictureFault| CheckError::Rule(TransactionError::Picture { reason: fault.to_string() });
    Ok(inference::check_picture(task.form, bytes).map_err(refused)?)
}
