//! What a node has of an account's entries, and what proves them.

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use ocelli_consensus::block::{Answer, BodyProof};
use ocelli_consensus::merkle::MerkleError;
use ocelli_consensus::{Header, Root, Transaction};

use super::block::{decode_answer, decode_transaction};
use super::response::decode_body_proof;
use super::{AccountStatus, MAX_ENTRIES};
use crate::ledger::{Entry, Event, Place};
use crate::wire;

/// What an account's entries are to be shown with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proofs {
    /// Byte 0: nothing; the node reads no block for that.
    Without,
    /// Byte 1: what proves them, as far as the node keeps it.
    With,
}

/// Entries of an account, the latest first.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct LedgerPage {
    /// The account at the tip at which the entries were read.
    pub account: AccountStatus,
    /// The first height from which on the node has entries: 1 where it has them all.
    pub from: u64,
    /// By block, the highest first; together at most [`MAX_ENTRIES`] entries.
    pub blocks: Vec<LedgerBlock>,
    /// Whether the node has more of them.
    pub has_more: bool,
}

/// Entries of one block.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct LedgerBlock {
    pub header: Header,
    /// The latest first.
    pub entries: Vec<ShownEntry>,
}

/// An entry of a block whose header stands beside it.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct ShownEntry {
    /// As in [`Place`].
    pub index: u32,
    pub event: Event,
    /// None of a reward, which the header shows but for the fees; and none where the body is pruned, or nobody has asked.
    pub proof: Option<Box<TransactionProof>>,
}

/// A transaction with what leads from it to its block's header.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct TransactionProof {
    pub transaction: Transaction,
    /// What the block holds as its answer.
    pub answer: Answer,
    /// Its place; paths of at most [`super::MAX_BODY_PATH`].
    pub proof: BodyProof,
}

impl ShownEntry {
    /// In a block at that height.
    pub fn entry(&self, height: u64) -> Entry {
        let Self { index, event, .. } = *self;
        Entry { place: Place { height, index, side: event.side() }, event }
    }
}

impl TransactionProof {
    /// The body root to which the paths lead, to be compared with the header's.
    ///
    /// # Errors
    /// If the block has no such place, or a path has the wrong length for it.
    pub fn body_root(&self) -> Result<Root, MerkleError> {
        self.proof.root(&self.transaction.wtxid(), &self.answer)
    }
}

impl Encode for Proofs {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        (*self == Self::With).encode(encoder)
    }
}

impl<C> Decode<C> for Proofs {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(if bool::decode(decoder)? { Self::With } else { Self::Without })
    }
}

impl<C> Decode<C> for LedgerPage {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Self {
            account: Decode::decode(decoder)?,
            from: Decode::decode(decoder)?,
            blocks: wire::list(decoder, "blocks", MAX_ENTRIES, LedgerBlock::decode)?,
            has_more: Decode::decode(decoder)?,
        })
    }
}

impl<C> Decode<C> for LedgerBlock {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Self {
            header: Decode::decode(decoder)?,
            entries: wire::list(decoder, "entries", MAX_ENTRIES, ShownEntry::decode)?,
        })
    }
}

impl<C> Decode<C> for ShownEntry {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Self {
            index: Decode::decode(decoder)?,
            event: Decode::decode(decoder)?,
            proof: wire::optional(decoder, |decoder| Ok(Box::new(TransactionProof::decode(decoder)?)))?,
        })
    }
}

impl<C> Decode<C> for TransactionProof {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Self {
            transaction: decode_transaction(decoder)?,
            answer: decode_answer(decoder)?,
            proof: decode_body_proof(decoder)?,
        })
    }
}
