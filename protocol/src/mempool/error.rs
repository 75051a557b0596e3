//! Why a transaction is not taken, how long that holds, and who is blamed.

use ocelli_consensus::checked::CheckError;
use ocelli_consensus::rules::{AttachmentError, Sum, TransactionError};
use ocelli_consensus::{Amount, AttachmentHash, ModelId, TxId};

use super::FeeRate;

/// The reason for which a mempool refuses a transaction, one variant a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MempoolError {
    /// It is here, maybe with another signature: nothing to do, and no reason to forward it again.
    #[error("transaction {0} is already here")]
    AlreadyKnown(TxId),
    /// It is not valid by itself, whatever the state.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// No block on this tip could hold it: by itself, or on the state of the tip with the sender's pending transactions before it.
    #[error("no block on this tip could hold it")]
    Rule(#[source] TransactionError),
    /// It creates what only one transaction can, and another that is ready does.
    #[error("transaction {0}, which is pending, creates the same")]
    CreatedByAnother(TxId),
    /// It publishes a model whose file is still being checked here.
    #[error("the file of model {0} is still being checked here: try again in some seconds")]
    FileUnchecked(ModelId),
    /// The owner of this node will not have its attachment here.
    #[error("the owner of this node has it refuse attachment {0}")]
    Forgotten(AttachmentHash),
    /// It weighs more than a whole block may.
    #[error("weight {found}, a block holds {limit}")]
    TooHeavy {
        /// Its weight.
        found: u64,
        /// The network's.
        limit: u64,
    },
    /// The fee is below the minimum for the weight.
    #[error("fee of {found} is below the minimum of {expected} for its weight")]
    FeeTooLow {
        /// The fee offered.
        found: Amount,
        /// The least that is taken.
        expected: Amount,
    },
    /// The account has used the nonce.
    #[error("nonce {found} is used: the account's next is {expected}")]
    NonceUsed {
        /// The transaction's nonce.
        found: u64,
        /// The account's nonce.
        expected: u64,
    },
    /// Too many nonces before it are missing.
    #[error("nonce {found} is too far ahead: the next missing is {next}, at most {limit} beyond it are kept")]
    NonceTooFarAhead {
        /// The transaction's nonce.
        found: u64,
        /// The lowest nonce neither confirmed nor here.
        next: u64,
        /// [`super::MAX_GAP`].
        limit: u64,
    },
    /// The room for what waits for a missing nonce is taken by others that need no more of it.
    #[error("nonce {found} has to wait for {next}, and there is no room for it: send {next} first")]
    NoRoomToWait {
        /// The transaction's nonce.
        found: u64,
        /// The lowest nonce neither confirmed nor here.
        next: u64,
    },
    /// The sender has as many pending as it may have.
    #[error("sender has {limit} pending transactions already")]
    TooManyPending {
        /// [`super::MAX_PENDING`].
        limit: usize,
    },
    /// The fee does not pay for what it would replace.
    #[error("fee of {found} is too low to replace: {expected} pays for what it replaces and for its own weight")]
    ReplacementFeeTooLow {
        /// The fee offered.
        found: Amount,
        /// The fees of all that it evicts and the minimum for its weight.
        expected: Amount,
    },
    /// The mempool is full of transactions that pay at least as much.
    #[error("mempool is full: fee rate {found} is not above the lowest here, {lowest}")]
    Full {
        /// The fee rate offered.
        found: FeeRate,
        /// The lowest that could have made room.
        lowest: FeeRate,
    },
    /// It would not even fit an empty mempool.
    #[error("{found} bytes, the whole mempool holds {limit}")]
    TooLarge {
        /// Bytes it would take.
        found: usize,
        /// Bytes the mempool holds.
        limit: usize,
    },
}

/// A transaction is not taken, or the state could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdmitError<E> {
    /// It is refused.
    #[error(transparent)]
    Refused(#[from] MempoolError),
    /// Nothing is known of it.
    #[error("reading the state")]
    Reader(#[source] E),
}

/// Whether the peer that sent a transaction is to blame for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// No honest node would have forwarded it.
    Peer,
    /// An honest node with another tip might have forwarded it, and a few like it: it counts against what a peer may send in
    /// vain ([`crate::limits::InVain`]).
    InVain,
    /// An honest node with other contents or another policy might have forwarded it.
    Nobody,
}

/// How long a refusal holds: the transaction is not fetched again meanwhile, from anybody (as Zebra's `mempool/storage.rs`
/// tells rejections apart).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holds {
    /// It says nothing about the transaction, which may be fetched from another at once.
    Not,
    /// Until the tip moves.
    Tip,
    /// Until a block is taken back: no block that follows on this branch changes it.
    Branch,
    /// On every chain of this network.
    Forever,
}

impl MempoolError {
    /// Whom the refusal blames.
    pub fn misbehaviour(&self) -> Blame {
        match self {
            Self::Check(CheckError::Rule(error) | CheckError::Attachment(AttachmentError::Length(error)))
            | Self::Rule(error) => blame(error),
            Self::Check(CheckError::Attachment(_)) | Self::TooHeavy { .. } => Blame::Peer,
            Self::NonceUsed { .. } => Blame::InVain,
            Self::AlreadyKnown(_)
            | Self::CreatedByAnother(_)
            | Self::FileUnchecked(_)
            | Self::Forgotten(_)
            | Self::FeeTooLow { .. }
            | Self::NonceTooFarAhead { .. }
            | Self::NoRoomToWait { .. }
            | Self::TooManyPending { .. }
            | Self::ReplacementFeeTooLow { .. }
            | Self::Full { .. }
            | Self::TooLarge { .. } => Blame::Nobody,
        }
    }

    /// How long it holds.
    pub fn holds(&self) -> Holds {
        match self {
            Self::Check(CheckError::Rule(error) | CheckError::Attachment(AttachmentError::Length(error)))
            | Self::Rule(error) => holds(error),
            // Whoever sent another attachment, or none, is to blame; the transaction's own may be good.
            Self::Check(CheckError::Attachment(_)) | Self::AlreadyKnown(_) => Holds::Not,
            Self::Forgotten(_) | Self::TooHeavy { .. } | Self::TooLarge { .. } => Holds::Forever,
            Self::NonceUsed { .. } => Holds::Branch,
            Self::CreatedByAnother(_)
            | Self::FileUnchecked(_)
            | Self::FeeTooLow { .. }
            | Self::NonceTooFarAhead { .. }
            | Self::NoRoomToWait { .. }
            | Self::TooManyPending { .. }
            | Self::ReplacementFeeTooLow { .. }
            | Self::Full { .. } => Holds::Tip,
        }
    }
}

/// Whether honest nodes see the same, whatever their tip.
fn blame(error: &TransactionError) -> Blame {
    match error {
        // Who sent it may be newer than we are.
        TransactionError::UnknownAction { .. } => Blame::Nobody,
        TransactionError::Range { .. }
        | TransactionError::Form(_)
        | TransactionError::AnswerUnexpected
        | TransactionError::AnswerMissing
        | TransactionError::AnswerForm(_)
        | TransactionError::AttachmentLength { .. }
        | TransactionError::Signature(_)
        | TransactionError::Picture { .. }
        | TransactionError::Answer(_)
        | TransactionError::AmountOverflow { sum: Sum::Total } => Blame::Peer,
        TransactionError::Expired { .. }
        | TransactionError::UnknownModel { .. }
        | TransactionError::File { .. }
        | TransactionError::Nonce { .. }
        | TransactionError::AmountOverflow { .. }
        | TransactionError::Balance { .. }
        | TransactionError::MinimumBalance { .. }
        | TransactionError::Royalty { .. }
        | TransactionError::NoUpload
        | TransactionError::PartNumber { .. }
        | TransactionError::PartLength { .. }
        | TransactionError::UploadFile { .. }
        | TransactionError::UploadSize { .. }
        | TransactionError::PartsMissing { .. }
        | TransactionError::UploadWindow { .. }
        | TransactionError::ModelExists { .. } => Blame::InVain,
    }
}

fn holds(error: &TransactionError) -> Holds {
    match error {
        // Another version of the rules may allow it, from another height on.
        TransactionError::UnknownAction { .. } => Holds::Tip,
        TransactionError::Expired { .. } => Holds::Branch,
        other if blame(other) == Blame::Peer => Holds::Forever,
        _ => Holds::Tip,
    }
}
