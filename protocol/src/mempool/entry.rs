//! A pending transaction.

use std::sync::Arc;

use ocelli_consensus::block::Output;
use ocelli_consensus::transaction::MAX_TRANSACTION_BYTES;
use ocelli_consensus::{Amount, CheckedTransaction, ImageHash, ModelId, Transaction, TxId};

use super::FeeRate;

/// Bytes counted for an entry besides encoding and pixels: roughly what its places in maps take.
const OVERHEAD_BYTES: usize = 512;

/// A pending transaction. Only a mempool makes one, and calls it ready only after it has followed on the state of the tip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    checked: CheckedTransaction,
    weight: u64,
    pub(super) output: Output,
    pub(super) running: bool,
    /// The tip's height since which a nonce before it is missing; `None` while it is ready.
    pub(super) waits_since: Option<u64>,
}

/// A task to run: what inference needs, and where the result goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingTask {
    /// For [`super::Mempool::set_output`].
    pub txid: TxId,
    /// The model to run.
    pub model: ModelId,
    /// The hash of the pixels.
    pub image: ImageHash,
    /// u8, C×H×W.
    pub pixels: Arc<[u8]>,
}

impl Entry {
    pub(super) fn new(checked: CheckedTransaction, weight: u64, output: Output, since: u64) -> Self {
        Self { checked, weight, output, running: false, waits_since: Some(since) }
    }

    /// What is asked for, with its ids and pixels.
    pub fn checked(&self) -> &CheckedTransaction {
        &self.checked
    }

    /// What is asked for.
    pub fn transaction(&self) -> &Transaction {
        self.checked.transaction()
    }

    /// Its id.
    pub fn txid(&self) -> TxId {
        self.checked.txid()
    }

    /// Of a task the image: u8, C×H×W.
    pub fn pixels(&self) -> Option<&Arc<[u8]>> {
        self.checked.pixels()
    }

    /// What it takes of a block's weight.
    pub fn weight(&self) -> u64 {
        self.weight
    }

    /// Of a task the logits, once they are known.
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// The nonce.
    pub fn nonce(&self) -> u64 {
        self.transaction().unsigned.nonce
    }

    /// The fee.
    pub fn fee(&self) -> Amount {
        self.transaction().unsigned.fee
    }

    /// Fee per weight.
    pub fn fee_rate(&self) -> FeeRate {
        FeeRate::of(self.fee(), self.weight)
    }

    /// What it counts against the mempool's bound: encoding, pixels, and a fixed part for keeping it.
    pub fn bytes(&self) -> usize {
        bytes(self.transaction(), self.pixels().map_or(0, |pixels| pixels.len()))
    }

    /// Whether all nonces before it are confirmed or here.
    pub fn is_ready(&self) -> bool {
        self.waits_since.is_none()
    }

    /// Whether a block may hold it: a task may only with its output.
    pub(super) fn is_answered(&self) -> bool {
        self.output.is_some() || self.transaction().task().is_none()
    }

    pub(super) fn task(&self) -> Option<PendingTask> {
        let (model, image) = self.transaction().task()?;
        Some(PendingTask { txid: self.txid(), model, image, pixels: Arc::clone(self.pixels()?) })
    }
}

/// The most that a transaction with so many bytes of pixels counts against the mempool's bound.
pub fn bytes_with(pixels: usize) -> usize {
    (MAX_TRANSACTION_BYTES + OVERHEAD_BYTES).saturating_add(pixels)
}

/// What a transaction with so many bytes of pixels counts against the mempool's bound.
pub(super) fn bytes(transaction: &Transaction, pixels: usize) -> usize {
    (transaction.encoded_len() + OVERHEAD_BYTES).saturating_add(pixels)
}
