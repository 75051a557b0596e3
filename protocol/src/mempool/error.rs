//! Why a transaction is not taken, how long that holds, and who is blamed.

use ocelli_consensus::checked::CheckError;
use ocelli_consensus::rules::PixelsError;
use ocelli_consensus::transition::TransactionError;
use ocelli_consensus::{Amount, ModelId, RuleError, TxId};

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
    /// Amount and fee exceed 64 bits together.
    #[error("amount and fee exceed 64 bits together")]
    TotalOverflow,
    /// It weighs more than a whole block may.
    #[error("weight {found}, a block holds {limit}")]
    TooHeavy {
        /// Its weight.
        found: u64,
        /// The network's.
        limit: u64,
    },
    /// The network has no such model yet.
    #[error("the network does not offer model {model} at height {height}")]
    UnknownModel {
        /// The model asked for.
        model: ModelId,
        /// Height of the next block.
        height: u64,
    },
    /// It cannot follow on the state of the tip with the sender's pending transactions before it.
    #[error("no block on this tip could hold it")]
    Transition(#[source] TransactionError),
    /// The block that could include it first is too high for it.
    #[error("expires at height {expires}, the next block has height {next}")]
    Expired {
        /// The last height for it.
        expires: u64,
        /// Height of the next block.
        next: u64,
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
pub enum InsertError<E> {
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
            // Who offers it follows a newer table of upgrades than ours, if any.
            Self::Check(CheckError::Pixels(PixelsError::Rule(RuleError::UnknownModel { .. }))) => Blame::InVain,
            Self::Check(_)
            | Self::TotalOverflow
            | Self::TooHeavy { .. }
            | Self::Transition(TransactionError::AmountOverflow) => Blame::Peer,
            Self::Transition(_) | Self::Expired { .. } | Self::NonceUsed { .. } | Self::UnknownModel { .. } => {
                Blame::InVain
            }
            Self::AlreadyKnown(_)
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
            // Whoever sent other pixels, or none, is to blame; the transaction's own may be good.
            Self::Check(CheckError::Pixels(PixelsError::Hash { .. } | PixelsError::Presence { .. })) => Holds::Not,
            Self::AlreadyKnown(_) => Holds::Not,
            Self::Check(CheckError::Pixels(PixelsError::Rule(RuleError::UnknownModel { .. }))) => Holds::Tip,
            Self::Check(CheckError::Pixels(PixelsError::Rule(_)) | CheckError::Rule(_))
            | Self::TotalOverflow
            | Self::TooHeavy { .. }
            | Self::TooLarge { .. } => Holds::Forever,
            Self::Expired { .. } | Self::NonceUsed { .. } => Holds::Branch,
            Self::Transition(_)
            | Self::UnknownModel { .. }
            | Self::FeeTooLow { .. }
            | Self::NonceTooFarAhead { .. }
            | Self::NoRoomToWait { .. }
            | Self::TooManyPending { .. }
            | Self::ReplacementFeeTooLow { .. }
            | Self::Full { .. } => Holds::Tip,
        }
    }
}
