//! Transactions that have passed every check which needs no state: the type says so, and nobody makes these checks again.

use std::sync::Arc;

use crate::address::Address;
use crate::hash::{BlockHash, TxId, WtxId};
use crate::rules::{AttachmentError, TransactionError, check_attachment, check_signature};
use crate::transaction::Transaction;

/// A transaction whose signatures are valid on its network, with the attachment that it names. A clone shares it. Whether the
/// attachment is a picture is not said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedTransaction(Arc<Parts>);

#[derive(Debug, PartialEq, Eq)]
struct Parts {
    transaction: Transaction,
    attachment: Option<Arc<[u8]>>,
    txid: TxId,
    wtxid: WtxId,
    sender: Address,
}

/// Why a transaction is not one that a block may hold, whatever the state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// The attachment beside it.
    #[error("the attachment does not fit the transaction")]
    Attachment(#[source] AttachmentError),
    #[error("the transaction breaks a rule")]
    Rule(#[source] TransactionError),
}

impl CheckedTransaction {
    /// Checks a transaction by itself: whether it has its attachment, then its signatures, then the attachment's hash. To be
    /// called on all cores at once, after whatever is cheaper.
    ///
    /// # Errors
    /// [`CheckError`] tells the sender's fault from the transaction's.
    pub fn check(
        transaction: Transaction,
        attachment: Option<Arc<[u8]>>,
        genesis: BlockHash,
    ) -> Result<Self, CheckError> {
        let expected = transaction.attachment().is_some();
        if expected != attachment.is_some() {
            return Err(CheckError::Attachment(AttachmentError::Presence { expected }));
        }
        check_signature(&transaction, genesis).map_err(CheckError::Rule)?;
        check_attachment(&transaction, attachment.as_deref()).map_err(|error| match error {
            AttachmentError::Length(rule) => CheckError::Rule(rule),
            other => CheckError::Attachment(other),
        })?;
        Ok(Self::of(transaction, attachment))
    }

    /// A transaction of a block that was connected here, so that all of this has been checked. `None` for one without its
    /// attachment, which was not kept.
    pub fn from_connected(transaction: Transaction, attachment: Option<Arc<[u8]>>) -> Option<Self> {
        (transaction.attachment().is_some() == attachment.is_some()).then(|| Self::of(transaction, attachment))
    }

    fn of(transaction: Transaction, attachment: Option<Arc<[u8]>>) -> Self {
        let (txid, wtxid, sender) = (transaction.txid(), transaction.wtxid(), transaction.sender());
        Self(Arc::new(Parts { transaction, attachment, txid, wtxid, sender }))
    }

    pub fn transaction(&self) -> &Transaction {
        &self.0.transaction
    }

    /// What travels beside it.
    pub fn attachment(&self) -> Option<&Arc<[u8]>> {
        self.0.attachment.as_ref()
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
