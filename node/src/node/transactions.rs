//! Transactions: submitted and relayed, run ahead of any block, answered, and what becomes of them as the chain moves.

use std::collections::BTreeMap;
use std::sync::Arc;

use ocelli_consensus::checked::CheckError;
use ocelli_consensus::{CheckedTransaction, ImageHash, ModelId, TxId};
use ocelli_protocol::mempool::{Blame, Disconnected, InsertError, Inserted, MempoolError, Readiness, Returned, Tip};
use ocelli_protocol::message::{Response, ShortId, SignedAnswer, Submission, SubmitReply};
use ocelli_protocol::relay;

use super::input::{Input, ReplyTo};
use super::service::{RETRY_MILLIS, Service};
use super::{NodeError, mempool_file};
use crate::chain::{Chain, Moved, full_message};
use crate::inference::{InferenceError, Task};
use crate::network::{Misbehaviour, Peer};
use crate::store::{Store, StoreError};

/// Tasks run ahead of any block at a time, in one batch.
pub const RUN_AHEAD: usize = 256;
/// Batches of them that are under way at a time: one computes, one waits.
const RUNNING: usize = 2;
/// Blocks whose worth of tasks is run ahead.
pub const BLOCKS_AHEAD: u64 = 3;
/// Transactions that a restart has left and that are taken up between two inputs.
const LEFT_OVER_AT_ONCE: usize = 16;
/// Submitters that wait for an answer.
const MAX_WAITING: usize = 4096;

/// Why a transaction is not taken.
pub(super) type Refusal = InsertError<StoreError>;

/// The numbers that a refused submitter gets; described in `docs/protocol.md`.
mod code {
    pub const RULE: u32 = 1;
    pub const PIXELS: u32 = 2;
    pub const MODEL: u32 = 3;
    pub const MEMPOOL: u32 = 4;
    pub const BUSY: u32 = 5;
}

fn code_of(refusal: &Refusal) -> u32 {
    let Refusal::Refused(refusal) = refusal else { return code::BUSY };
    match refusal {
        MempoolError::Check(CheckError::Rule(_)) | MempoolError::TotalOverflow | MempoolError::TooHeavy { .. } => {
            code::RULE
        }
        MempoolError::Check(CheckError::Pixels(_)) => code::PIXELS,
        MempoolError::UnknownModel { .. } => code::MODEL,
        _ => code::MEMPOOL,
    }
}

/// The chain as the mempool sees it.
pub(super) fn tip(chain: &Chain) -> Tip<'_, Store> {
    Tip { parameters: chain.parameters(), height: chain.tip().header.height, state: chain.store() }
}

impl Service {
    pub(super) fn on_submit(&mut self, submission: Submission, to: ReplyTo) -> Result<(), NodeError> {
        let txid = submission.transaction.txid();
        let task = submission.transaction.task();
        // It may come late, from a submitter that asks many nodes: then the chain has the answer.
        if let Some(location) = self.chain.store().transaction_location(&txid)? {
            let body = self.chain.store().body(location.height, &location.block)?;
            let entry = body.as_ref().and_then(|body| body.transactions.get(location.index as usize));
            let output = entry.and_then(|(_, output)| output.clone());
            let answer = task.zip(output).map(|((model, image), logits)| self.sign(txid, model, image, logits));
            self.reply(to, &Response::Submitted(SubmitReply::Accepted { answer }));
            return Ok(());
        }
        let taken = self.take_transaction(submission);
        match taken {
            Ok(inserted) => {
                if inserted.readiness == Readiness::Ready {
                    self.forward(&[txid]);
                }
                self.forward(&inserted.promoted);
            }
            Err(Refusal::Refused(MempoolError::AlreadyKnown(_))) => {}
            Err(refusal) => {
                let reply = SubmitReply::refused(code_of(&refusal), full_message(&refusal));
                let peer = to.peer();
                self.reply(to, &Response::Submitted(reply));
                // Told first: who has made a mistake gets to know of it, and who floods is gone with the second.
                if let Some(peer) = peer {
                    self.blame(peer, &refusal);
                }
                return Ok(());
            }
        }
        if task.is_none() {
            self.reply(to, &Response::Submitted(SubmitReply::Accepted { answer: None }));
        } else if self.mempool.get(&txid).is_some_and(|entry| entry.output().is_some()) {
            self.answer(&txid, to);
        } else if !self.has_room_to_wait() {
            let reply =
                SubmitReply::refused(code::BUSY, "too many wait for an answer: the task is taken, ask again for it");
            self.reply(to, &Response::Submitted(reply));
        } else {
            self.waiting.entry(txid).or_default().push(to);
        }
        Ok(())
    }

    /// Whether one more can wait for an answer, once those that have given up are forgotten.
    fn has_room_to_wait(&mut self) -> bool {
        let waiting = |waiting: &BTreeMap<TxId, Vec<ReplyTo>>| waiting.values().map(Vec::len).sum::<usize>();
        if waiting(&self.waiting) >= MAX_WAITING {
            self.waiting.retain(|_, replies| {
                replies.retain(ReplyTo::is_awaited);
                !replies.is_empty()
            });
        }
        waiting(&self.waiting) < MAX_WAITING
    }

    /// Checks a transaction as every forwarder does, and puts it into the mempool.
    pub(super) fn take_transaction(&mut self, submission: Submission) -> Result<Inserted, Refusal> {
        let Submission { transaction, pixels } = submission;
        let tip = tip(&self.chain);
        // What is cheap comes first: a transaction that nobody could pay costs no check of a signature.
        self.mempool.check(&transaction, pixels.as_ref().map_or(0, Vec::len), &tip)?;
        let (pixels, genesis) = (pixels.map(Arc::from), self.chain.genesis());
        let checked = CheckedTransaction::check(transaction, pixels, tip.parameters, genesis, tip.height + 1)
            .map_err(MempoolError::Check)?;
        let inserted = self.mempool.insert(checked, &tip)?;
        for txid in &inserted.evicted {
            self.refuse_waiting(txid, "replaced, or evicted by others that pay more");
        }
        self.mempool_changed();
        self.run_ahead();
        Ok(inserted)
    }

    /// Has a peer answer for a transaction that it has sent. Whether it is to blame.
    pub(super) fn blame(&mut self, peer: Peer, refusal: &Refusal) -> bool {
        let Refusal::Refused(refusal) = refusal else { return false };
        match refusal.misbehaviour() {
            Blame::Peer => {
                self.network.penalize(peer, Misbehaviour::BadTransaction);
                true
            }
            Blame::InVain => self.blame_in_vain(peer),
            Blame::Nobody => false,
        }
    }

    /// Counts a transaction that no block on this tip could hold. Whether its sender is to blame.
    pub(super) fn blame_in_vain(&mut self, peer: Peer) -> bool {
        let Err(excess) = self.in_vain.sent(peer, self.clock.now()) else { return false };
        tracing::debug!(%peer, %excess, "a peer sends transactions that nobody can mine");
        self.network.penalize(peer, Misbehaviour::Flood);
        true
    }

    /// Takes some of what a restart has left.
    pub(super) fn take_up_mempool(&mut self) {
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

    /// Writes the mempool down.
    pub(super) fn save_mempool(&self) {
        let submissions = self.mempool.snapshot().into_iter().map(|checked| Submission {
            transaction: checked.transaction().clone(),
            pixels: checked.pixels().map(|pixels| pixels.to_vec()),
        });
        // What has not been taken up yet is not lost either.
        let submissions = submissions.chain(self.left_over.iter().cloned());
        match mempool_file::write(&self.data, self.chain.genesis(), submissions) {
            Ok(transactions) => tracing::debug!(transactions, "mempool saved"),
            Err(error) => tracing::warn!(%error, "the mempool could not be saved"),
        }
    }

    /// Has tasks run that will be in one of the next blocks.
    pub(super) fn run_ahead(&mut self) {
        while self.running < RUNNING && self.clock.now() >= self.retry_at {
            let budget = self.chain.parameters().weight_limit.saturating_mul(BLOCKS_AHEAD);
            let tasks = self.mempool.tasks_to_run(budget, RUN_AHEAD);
            if tasks.is_empty() {
                return;
            }
            let txids = tasks.iter().map(|task| task.txid).collect();
            let batch =
                tasks.into_iter().map(|task| Task { model: task.model, image: task.image, pixels: task.pixels });
            let batch = batch.collect();
            self.running += 1;
            let results = self.results.clone();
            self.inference.run(batch, move |result| results.leave(Input::Outputs(txids, result)));
        }
    }

    pub(super) fn on_outputs(
        &mut self,
        txids: &[TxId],
        result: Result<Vec<Vec<i32>>, InferenceError>,
    ) -> Result<(), NodeError> {
        self.running = self.running.saturating_sub(1);
        match result {
            Ok(outputs) => {
                for (txid, logits) in txids.iter().zip(outputs) {
                    self.mempool.set_output(txid, logits);
                    for to in self.waiting.remove(txid).unwrap_or_default() {
                        self.answer(txid, to);
                    }
                }
                self.mempool_changed();
            }
            Err(error) => {
                tracing::warn!(
                    reason = full_message(&error),
                    tasks = txids.len(),
                    "tasks were not run; they are tried again"
                );
                txids.iter().for_each(|txid| self.mempool.task_failed(txid));
                self.retry_at = self.clock.now() + RETRY_MILLIS;
            }
        }
        self.run_ahead();
        Ok(())
    }

    /// What the device said is worth nothing: all of it is computed again.
    pub(super) fn on_device_fault(&mut self) {
        self.mempool.clear_outputs();
        self.tip_moved();
        self.run_ahead();
    }

    /// Gives a preliminary answer, signed by this node.
    fn answer(&mut self, txid: &TxId, to: ReplyTo) {
        let entry = self.mempool.get(txid);
        let task = entry.and_then(|entry| Some((entry.transaction().task()?, entry.output().clone()?)));
        let reply = match task {
            Some(((model, image), logits)) => {
                SubmitReply::Accepted { answer: Some(self.sign(*txid, model, image, logits)) }
            }
            None => SubmitReply::refused(code::MEMPOOL, "the task is no longer in the mempool"),
        };
        self.reply(to, &Response::Submitted(reply));
    }

    fn sign(&self, txid: TxId, model: ModelId, image: ImageHash, logits: Vec<i32>) -> SignedAnswer {
        let hash = SignedAnswer::signing_hash(self.chain.genesis(), txid, model, image, &logits);
        let (public_key, signature) = (self.network.public_key(), self.network.sign(&hash));
        SignedAnswer { logits, public_key, signature }
    }

    fn refuse_waiting(&mut self, txid: &TxId, reason: &str) {
        for to in self.waiting.remove(txid).unwrap_or_default() {
            self.reply(to, &Response::Submitted(SubmitReply::refused(code::MEMPOOL, reason)));
        }
    }

    /// Has the mempool follow the chain: what is in a block leaves it, what is in none any more comes back.
    pub(super) fn follow_chain(&mut self, disconnected: &[Moved], connected: &[Moved]) -> Result<(), StoreError> {
        // Lowest first, so that nonces come in order.
        let mut returned = Vec::new();
        for Moved { hash, header, body } in disconnected.iter().rev() {
            let pixels = self.chain.store().pixels(header.height, hash, body)?;
            let transactions = body.transactions.iter().zip(pixels).map(|((transaction, output), pixels)| Returned {
                transaction: transaction.clone(),
                pixels: pixels.map(Arc::from),
                output: output.clone(),
            });
            returned.push(Disconnected { miner: header.miner, transactions: transactions.collect() });
        }
        let included: Vec<_> = connected.iter().flat_map(|block| &block.body.transactions).collect();
        for (transaction, output) in &included {
            if self.waiting.is_empty() {
                break;
            }
            let txid = transaction.txid();
            // It was in the mempool, and a block came before its answer here: the block's has been checked.
            if let (Some(logits), true) = (output, self.waiting.contains_key(&txid)) {
                self.mempool.set_output(&txid, logits.clone());
                for to in self.waiting.remove(&txid).unwrap_or_default() {
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
        let changes = self.mempool.on_tip_moved(returned, included, &tip(&self.chain))?;
        for txid in &changes.removed {
            self.refuse_waiting(txid, "no longer possible after the latest block, or expired before it was in one");
        }
        self.forward(&changes.promoted);
        self.mempool_changed();
        self.run_ahead();
        Ok(())
    }
}
