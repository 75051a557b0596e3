//! Why a transaction is not taken.

use ocelli_consensus::{Amount, TxId};

use super::FeeRate;

/// The reason for which a mempool refuses a transaction, one variant a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MempoolError {
    /// It is here, maybe with another signature: nothing to do, and no reason to forward it again.
    #[error("transaction {0} is already here")]
    AlreadyKnown(TxId),
    /// A task without its pixels.
    #[error("a task without its pixels")]
    MissingPixels,
    /// Pixels beside a transaction that names none.
    #[error("{0} bytes of pixels beside a transaction that names no image")]
    UnexpectedPixels(usize),
    /// Amount and fee exceed 64 bits together.
    #[error("amount and fee exceed 64 bits together")]
    TotalOverflow,
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
    /// The sender has as many pending as it may have.
    #[error("sender has {limit} pending transactions already")]
    TooManyPending {
        /// [`super::MAX_PENDING`].
        limit: usize,
    },
    /// The sender cannot pay this besides its other pending transactions.
    #[error("sender holds {found}, its pending transactions and this one need {expected}")]
    InsufficientBalance {
        /// The account's balance.
        found: Amount,
        /// What is needed; the largest amount when the sum exceeds 64 bits.
        expected: Amount,
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

/// Whether the peer that sent a transaction is to blame for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// No honest node would have forwarded it.
    Peer,
    /// An honest node with another tip, other contents or another policy might have forwarded it.
    Nobody,
}

impl MempoolError {
    /// Whom the refusal blames.
    pub fn misbehaviour(&self) -> Blame {
        match self {
            Self::MissingPixels | Self::UnexpectedPixels(_) | Self::TotalOverflow => Blame::Peer,
            Self::AlreadyKnown(_)
            | Self::Expired { .. }
            | Self::FeeTooLow { .. }
            | Self::NonceUsed { .. }
            | Self::NonceTooFarAhead { .. }
            | Self::TooManyPending { .. }
            | Self::InsufficientBalance { .. }
            | Self::ReplacementFeeTooLow { .. }
            | Self::Full { .. }
            | Self::TooLarge { .. } => Blame::Nobody,
        }
    }
}
