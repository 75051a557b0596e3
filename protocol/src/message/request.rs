//! What a peer may ask.

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use ocelli_consensus::{Address, BlockHash, ModelId, TxId};

use super::{
    ChainStatus, Control, Cookie, FaucetRequest, MAX_BLOCKS, MAX_IDS, MAX_INDEXES, MAX_LOCATOR, MAX_SUBMISSION_BYTES,
    MAX_TEXT_BYTES, Proofs, ShortId, Submission, TAG_BYTES,
};
use crate::ledger::Place;
use crate::wire;

/// A question to a peer. The response of the same name answers it, or [`super::Response::Failed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Tag 1: where the peer's chain stands.
    Status,
    /// Tag 2: headers of the peer's best chain after the first locator hash that is on it.
    Headers {
        /// Hashes of the asker's best chain, from its tip back to genesis, at most [`MAX_LOCATOR`].
        locator: Vec<BlockHash>,
        /// At most so many, and never more than [`super::MAX_HEADERS`].
        limit: u32,
    },
    /// Tag 3: blocks, at most [`MAX_BLOCKS`].
    Blocks { hashes: Vec<BlockHash> },
    /// Tag 4: transactions of a block with their attachments.
    Transactions {
        /// Of which block.
        block: BlockHash,
        /// Which of its transactions, counted from 0, at most [`MAX_INDEXES`].
        indexes: Vec<u32>,
    },
    /// Tag 5: a transaction to take into the mempool, to forward and, if it is a task, to answer.
    Submit(Submission),
    /// Tag 6: what became of a transaction.
    Transaction { txid: TxId },
    /// Tag 7: one block with its header.
    Block { by: BlockId },
    /// Tag 8: an account at the tip.
    Account {
        /// Whose.
        address: Address,
    },
    /// Tag 9: how the node itself is.
    NodeStatus,
    /// Tag 11: the fee with which a transaction is likely to be in one of the next blocks.
    Fee {
        /// How many, at least 1.
        blocks: u32,
    },
    /// Tag 13: a change that only the node's owner may make.
    Control {
        /// Shows that the sender is the owner.
        cookie: Cookie,
        /// What to do.
        control: Control,
    },
    /// Tag 14: something to begin with, from a node that gives.
    Faucet(FaucetRequest),
    /// Tag 15: transactions are to be had here.
    Announce {
        /// Which, at most [`MAX_IDS`].
        ids: Vec<ShortId>,
    },
    /// Tag 16: transactions that the peer has announced.
    Pending {
        /// Which, at most [`MAX_IDS`].
        ids: Vec<ShortId>,
    },
    /// Tag 17: the attachments of transactions that came without.
    Attachments {
        /// Of which, at most [`MAX_IDS`].
        ids: Vec<ShortId>,
    },
    /// Tag 18: the asker's tip has moved, and gossip may not have told.
    NewTip(ChainStatus),
    /// Tag 19: the wtxids of a block's transactions, where its short ids are not enough.
    TransactionIds { block: BlockHash },
    /// Tag 20: a part of a published model's file.
    File {
        /// Whose.
        model: ModelId,
        /// Which: [`super::FILE_CHUNK_BYTES`] from as many times this on, fewer at the file's end.
        chunk: u32,
    },
    /// Tag 21: models of the tip's state in the order of their ids.
    Models {
        /// The first id, whether there is such a model or not.
        from: ModelId,
        /// At most so many, and never more than [`super::MAX_MODELS`].
        limit: u32,
    },
    /// Tag 22: the upload that an account has under way at the tip.
    Upload { sender: Address },
    /// Tag 23: what has happened to an account, the latest first.
    Ledger {
        address: Address,
        /// Only what stands before; nothing for the latest.
        before: Option<Place>,
        /// At most so many entries, and never more than [`super::MAX_ENTRIES`].
        limit: u32,
        proofs: Proofs,
    },
}

/// Names a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockId {
    /// Tag 1: the block of the best chain at a height.
    Height(u64),
    /// Tag 2: the block of this hash, on the best chain or not.
    Hash(BlockHash),
}

/// The most bytes of a request by its tag, the tag included.
pub(super) fn max_bytes(tag: u32) -> usize {
    // Of a list, its length; of an optional, a byte.
    const LIST: usize = 8;
    TAG_BYTES
        + match tag {
            1 | 9 => 0,
            2 => LIST + 32 * MAX_LOCATOR + 4,
            3 => LIST + 32 * MAX_BLOCKS,
            4 => 32 + LIST + 4 * MAX_INDEXES,
            5 => MAX_SUBMISSION_BYTES + 4 - TAG_BYTES,
            6 => 32,
            7 => 4 + 32,
            8 => 20,
            11 => 4,
            // A cookie, and a subject with a reason.
            13 => 32 + 4 + 4 + 2 * (LIST + MAX_TEXT_BYTES) + 8,
            14 => 4 + 20 + 32 + 8,
            15..=17 => LIST + 8 * MAX_IDS,
            18 => ChainStatus::MAX_BYTES,
            19 => 32,
            20 | 21 => 32 + 4,
            22 => 20,
            23 => 20 + 1 + 13 + 4 + 1,
            // Refused for its tag.
            _ => 0,
        }
}

impl Encode for Request {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        match self {
            Self::Status => 1u32.encode(encoder),
            Self::Headers { locator, limit } => (2u32, locator, limit).encode(encoder),
            Self::Blocks { hashes } => (3u32, hashes).encode(encoder),
            Self::Transactions { block, indexes } => (4u32, block, indexes).encode(encoder),
            Self::Submit(submission) => (5u32, submission).encode(encoder),
            Self::Transaction { txid } => (6u32, txid).encode(encoder),
            Self::Block { by } => (7u32, by).encode(encoder),
            Self::Account { address } => (8u32, address).encode(encoder),
            Self::NodeStatus => 9u32.encode(encoder),
            Self::Fee { blocks } => (11u32, blocks).encode(encoder),
            Self::Control { cookie, control } => (13u32, cookie, control).encode(encoder),
            Self::Faucet(request) => (14u32, request).encode(encoder),
            Self::Announce { ids } => (15u32, ids).encode(encoder),
            Self::Pending { ids } => (16u32, ids).encode(encoder),
            Self::Attachments { ids } => (17u32, ids).encode(encoder),
            Self::NewTip(status) => (18u32, status).encode(encoder),
            Self::TransactionIds { block } => (19u32, block).encode(encoder),
            Self::File { model, chunk } => (20u32, model, chunk).encode(encoder),
            Self::Models { from, limit } => (21u32, from, limit).encode(encoder),
            Self::Upload { sender } => (22u32, sender).encode(encoder),
            Self::Ledger { address, before, limit, proofs } => (23u32, address, before, limit, proofs).encode(encoder),
        }
    }
}

impl<C> Decode<C> for Request {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(match u32::decode(decoder)? {
            1 => Self::Status,
            2 => Self::Headers {
                locator: wire::list(decoder, "locator hashes", MAX_LOCATOR, BlockHash::decode)?,
                limit: Decode::decode(decoder)?,
            },
            3 => Self::Blocks { hashes: wire::list(decoder, "block hashes", MAX_BLOCKS, BlockHash::decode)? },
            4 => Self::Transactions {
                block: Decode::decode(decoder)?,
                indexes: wire::list(decoder, "indexes", MAX_INDEXES, u32::decode)?,
            },
            5 => Self::Submit(Decode::decode(decoder)?),
            6 => Self::Transaction { txid: Decode::decode(decoder)? },
            7 => Self::Block { by: Decode::decode(decoder)? },
            8 => Self::Account { address: Decode::decode(decoder)? },
            9 => Self::NodeStatus,
            11 => Self::Fee { blocks: Decode::decode(decoder)? },
            13 => Self::Control { cookie: Decode::decode(decoder)?, control: Decode::decode(decoder)? },
            14 => Self::Faucet(Decode::decode(decoder)?),
            15 => Self::Announce { ids: decode_ids(decoder)? },
            16 => Self::Pending { ids: decode_ids(decoder)? },
            17 => Self::Attachments { ids: decode_ids(decoder)? },
            18 => Self::NewTip(Decode::decode(decoder)?),
            19 => Self::TransactionIds { block: Decode::decode(decoder)? },
            20 => Self::File { model: Decode::decode(decoder)?, chunk: Decode::decode(decoder)? },
            21 => Self::Models { from: Decode::decode(decoder)?, limit: Decode::decode(decoder)? },
            22 => Self::Upload { sender: Decode::decode(decoder)? },
            23 => Self::Ledger {
                address: Decode::decode(decoder)?,
                before: wire::optional(decoder, Place::decode)?,
                limit: Decode::decode(decoder)?,
                proofs: Decode::decode(decoder)?,
            },
            tag => return wire::unknown_tag("request", tag),
        })
    }
}

fn decode_ids<D: Decoder>(decoder: &mut D) -> Result<Vec<ShortId>, DecodeError> {
    wire::list(decoder, "short ids", MAX_IDS, ShortId::decode)
}

impl Encode for BlockId {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        match self {
            Self::Height(height) => (1u32, height).encode(encoder),
            Self::Hash(hash) => (2u32, hash).encode(encoder),
        }
    }
}

impl<C> Decode<C> for BlockId {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        match u32::decode(decoder)? {
            1 => Ok(Self::Height(Decode::decode(decoder)?)),
            2 => Ok(Self::Hash(Decode::decode(decoder)?)),
            tag => wire::unknown_tag("block id", tag),
        }
    }
}
