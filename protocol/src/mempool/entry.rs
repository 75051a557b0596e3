//! A pending transaction, and what it pays.

use std::fmt;
use std::sync::Arc;

use ocelli_consensus::block::Output;
use ocelli_consensus::{Address, Amount, ImageHash, ModelId, Transaction, TxId, WtxId};

/// Bytes counted for an entry besides encoding and pixels: roughly what its places in maps take.
const OVERHEAD_BYTES: usize = 512;

/// Grains per weight unit, with 32 binary digits after the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FeeRate(u128);

/// A pending transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What is asked for, its signature checked.
    pub transaction: Transaction,
    /// Its id.
    pub txid: TxId,
    /// Its id with the signature.
    pub wtxid: WtxId,
    /// The account that sends it.
    pub sender: Address,
    /// Of a task the image: u8, C×H×W.
    pub pixels: Option<Arc<[u8]>>,
    /// What it takes of a block's weight.
    pub weight: u64,
    /// Of a task the logits, once they are known.
    pub output: Output,
    pub(super) running: bool,
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

impl FeeRate {
    /// The rate of a fee for a weight; of no weight, as for one unit.
    pub fn of(fee: Amount, weight: u64) -> Self {
        Self((u128::from(fee.0) << 32) / u128::from(weight.max(1)))
    }

    /// The least fee that has this rate for a weight, as far as 64 bits reach.
    pub fn fee(self, weight: u64) -> Amount {
        let scaled = self.0.saturating_mul(u128::from(weight.max(1)));
        Amount(u64::try_from(scaled.div_ceil(1 << 32)).unwrap_or(u64::MAX))
    }

    /// A little more: what outbids it.
    pub(super) fn above(self) -> Self {
        Self(self.0.saturating_add(self.0 >> 6).max(self.0.saturating_add(1)))
    }

    /// Halved so many times.
    pub(super) fn halved(self, times: u32) -> Self {
        Self(self.0.checked_shr(times).unwrap_or(0))
    }
}

impl fmt::Display for FeeRate {
    /// Grains per weight unit, three decimals.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let thousandths = ((self.0 & 0xffff_ffff) * 1000) >> 32;
        write!(f, "{}.{thousandths:03}", self.0 >> 32)
    }
}

impl Entry {
    pub(super) fn new(transaction: Transaction, pixels: Option<Arc<[u8]>>, weight: u64) -> Self {
        let (txid, wtxid, sender) = (transaction.txid(), transaction.wtxid(), transaction.sender());
        Self { transaction, txid, wtxid, sender, pixels, weight, output: None, running: false }
    }

    /// The nonce.
    pub fn nonce(&self) -> u64 {
        self.transaction.unsigned.nonce
    }

    /// The fee.
    pub fn fee(&self) -> Amount {
        self.transaction.unsigned.fee
    }

    /// Fee per weight.
    pub fn fee_rate(&self) -> FeeRate {
        FeeRate::of(self.fee(), self.weight)
    }

    /// What it counts against the mempool's bound: encoding, pixels, and a fixed part for keeping it.
    pub fn bytes(&self) -> usize {
        self.transaction.encoded_len() + self.pixels.as_ref().map_or(0, |pixels| pixels.len()) + OVERHEAD_BYTES
    }

    /// What it costs its sender. Amounts that exceed 64 bits are refused before they get here.
    pub(super) fn total(&self) -> u128 {
        u128::from(self.transaction.total().map_or(u64::MAX, |total| total.0))
    }

    /// Whether a block may hold it: a task may only with its output.
    pub(super) fn is_answered(&self) -> bool {
        self.output.is_some() || self.transaction.task().is_none()
    }

    pub(super) fn task(&self) -> Option<PendingTask> {
        let (model, image) = self.transaction.task()?;
        Some(PendingTask { txid: self.txid, model, image, pixels: self.pixels.clone()? })
    }
}
