//! Transactions that have passed every check which needs no state: the type says so, and nobody makes these checks again.

use std::sync::Arc;

use crate::address::Address;
use crate::hash::{BlockHash, TxId, WtxId};
use crate::network::Parameters;
use crate::rules::{PixelsError, RuleError, check_pixels, check_signature};
use crate::transaction::Transaction;

/// A transaction whose signatures are valid on its network, with the pixels that it names, in its model's shape. A clone
/// shares them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedTransaction(Arc<Parts>);

#[derive(Debug, PartialEq, Eq)]
struct Parts {
    transaction: Transaction,
    pixels: Option<Arc<[u8]>>,
    txid: TxId,
    wtxid: WtxId,
    sender: Address,
}

/// Why a transaction is not one that a block may hold, whatever the state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// The pixels beside it.
    #[error("the picture does not fit the transaction")]
    Pixels(#[source] PixelsError),
    /// The transaction.
    #[error("the transaction breaks a rule")]
    Rule(#[source] RuleError),
}

impl CheckedTransaction {
    /// Checks a transaction by itself, for a block at `height`: its pixels, then, which costs most, its signatures. To be
    /// called on all cores at once, after whatever is cheaper.
    ///
    /// # Errors
    /// [`CheckError`] tells the sender's fault from the transaction's.
    pub fn check(
        transaction: Transaction,
        pixels: Option<Arc<[u8]>>,
        parameters: &Parameters,
        genesis: BlockHash,
        height: u64,
    ) -> Result<Self, CheckError> {
        check_pixels(parameters, height, 0, &transaction, pixels.as_deref()).map_err(CheckError::Pixels)?;
        check_signature(0, &transaction, genesis).map_err(CheckError::Rule)?;
        Ok(Self::of(transaction, pixels))
    }

    /// A transaction of a block that was connected here, so that all of this has been checked. `None` for a task without its
    /// pixels, which were not kept.
    pub fn from_connected(transaction: Transaction, pixels: Option<Arc<[u8]>>) -> Option<Self> {
        (transaction.task().is_some() == pixels.is_some()).then(|| Self::of(transaction, pixels))
    }

    fn of(transaction: Transaction, pixels: Option<Arc<[u8]>>) -> Self {
        let (txid, wtxid, sender) = (transaction.txid(), transaction.wtxid(), transaction.sender());
        Self(Arc::new(Parts { transaction, pixels, txid, wtxid, sender }))
    }

    /// The transaction.
    pub fn transaction(&self) -> &Transaction {
        &self.0.transaction
    }

    /// Of a task the image: u8, C×H×W.
    pub fn pixels(&self) -> Option<&Arc<[u8]>> {
        self.0.pixels.as_ref()
    }

    /// Its id, computed once.
    pub fn txid(&self) -> TxId {
        self.0.txid
    }

    /// Its id with the signature, computed once.
    pub fn wtxid(&self) -> WtxId {
        self.0.wtxid
    }

    /// The account that sends it, computed once.
    pub fn sender(&self) -> Address {
        self.0.sender
    }
}
