//! A pending transaction.

use std::sync::Arc;

use ocelli_consensus::block::Answer;
use ocelli_consensus::object::ObjectId;
use ocelli_consensus::transaction::{Access, MAX_TRANSACTION_BYTES, Task, Touch};
use ocelli_consensus::{Amount, CheckedTransaction, ModelId, Transaction, TxId};

use super::{FeeRate, RIPE_MILLIS, RIPE_SHARE};

/// Bytes counted for an entry besides encoding and attachment: roughly what its places in maps take.
const OVERHEAD_BYTES: usize = 512;

/// A pending transaction. Only a mempool makes one, and calls it ready only after it has followed on the state of the tip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MempoolEntry {
    checked: CheckedTransaction,
    pub(super) size: Size,
    /// What it touches beside its sender's account.
    pub(super) touches: Vec<Touch>,
    pub(super) answer: Answer,
    pub(super) running: bool,
    /// The tip's height since which a nonce before it is missing; `None` while it is ready.
    pub(super) waits_since: Option<u64>,
    /// When it was ready first, and so passed on, by the clock of [`super::Tip::now`].
    pub(super) ready_since: Option<u64>,
}

/// What a transaction takes of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) weight: u64,
    /// The model that it uses, and what that counts of the bytes of models.
    pub(super) model: Option<(ModelId, u64)>,
}

/// A task to run: what inference needs, and where the result goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingTask {
    /// For [`super::Mempool::set_answer`].
    pub txid: TxId,
    pub task: Task,
    /// The task's attachment.
    pub bytes: Arc<[u8]>,
}

impl MempoolEntry {
    pub(super) fn new(checked: CheckedTransaction, size: Size, answer: Answer, since: u64) -> Self {
        let own = ObjectId::Account(checked.sender());
        let touches = checked.transaction().touches().filter(|touch| touch.object != own).collect();
        Self { checked, size, touches, answer, running: false, waits_since: Some(since), ready_since: None }
    }

    /// What is asked for, with its ids and attachment.
    pub fn checked(&self) -> &CheckedTransaction {
        &self.checked
    }

    /// What is asked for.
    pub fn transaction(&self) -> &Transaction {
        self.checked.transaction()
    }

    pub fn txid(&self) -> TxId {
        self.checked.txid()
    }

    /// The bytes that travel beside it.
    pub fn attachment(&self) -> Option<&Arc<[u8]>> {
        self.checked.attachment()
    }

    /// What it takes of a block's weight.
    pub fn weight(&self) -> u64 {
        self.size.weight
    }

    /// What a block is to answer it; none as long as that is not known.
    pub fn answer(&self) -> &Answer {
        &self.answer
    }

    pub fn nonce(&self) -> u64 {
        self.transaction().unsigned.nonce
    }

    pub fn fee(&self) -> Amount {
        self.transaction().unsigned.fee
    }

    /// Fee per weight.
    pub fn fee_rate(&self) -> FeeRate {
        FeeRate::of(self.fee(), self.weight())
    }

    /// What it counts against the mempool's bound: encoding, attachment, and a fixed part for keeping it.
    pub fn bytes(&self) -> usize {
        bytes(self.transaction())
    }

    /// Whether all nonces before it are confirmed or here.
    pub fn is_ready(&self) -> bool {
        self.waits_since.is_none()
    }

    /// When it may be mined, by the clock of [`super::Tip::now`], where it has been passed on for so many milliseconds; `None` of
    /// one that never was.
    pub fn ripe_at(&self, age: u64) -> Option<u64> {
        self.ready_since.map(|since| since.saturating_add(age))
    }

    /// Whether a block may hold it: with an answer of the kind that it asks for.
    pub(super) fn is_answered(&self) -> bool {
        self.answer.kind() == self.transaction().unsigned.action.answer_kind()
    }

    /// What only one transaction can create.
    pub(super) fn created(&self) -> impl Iterator<Item = ObjectId> {
        self.touches.iter().filter(|touch| touch.access == Access::Creates).map(|touch| touch.object)
    }

    pub(super) fn task(&self) -> Option<PendingTask> {
        let task = self.transaction().task()?;
        Some(PendingTask { txid: self.txid(), task, bytes: Arc::clone(self.attachment()?) })
    }
}

/// Milliseconds that a miner lets pass from having a transaction ready to taking it, by the seconds between blocks.
pub fn ripe_age(spacing: u64) -> u64 {
    (spacing.saturating_mul(1_000) / RIPE_SHARE).min(RIPE_MILLIS)
}

/// The most that a transaction with so many bytes of attachment counts against the mempool's bound.
pub fn bytes_with(attachment: usize) -> usize {
    (MAX_TRANSACTION_BYTES + OVERHEAD_BYTES).saturating_add(attachment)
}

/// What a transaction counts against the mempool's bound; its attachment is as long as it says.
pub(super) fn bytes(transaction: &Transaction) -> usize {
    let attachment = transaction.attachment().map_or(0, |attachment| attachment.bytes);
    (transaction.encoded_len() + OVERHEAD_BYTES).saturating_add(usize::try_from(attachment).unwrap_or(usize::MAX))
}
