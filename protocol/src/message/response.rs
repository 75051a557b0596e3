//! What a peer answers.

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use ocelli_consensus::block::Output;
use ocelli_consensus::header::HEADER_BYTES;
use ocelli_consensus::transaction::MAX_TRANSACTION_BYTES;
use ocelli_consensus::{Amount, Header};

use super::block::{decode_image, decode_output};
use super::{
    BlockData, ChainStatus, FaucetReply, MAX_ADDRESSES, MAX_BANS, MAX_BLOCKS, MAX_HEADERS, MAX_IDS, MAX_INDEXES,
    MAX_INVALID, MAX_LOGITS, MAX_PEERS, MAX_RESPONSE_BYTES, MAX_SUBMISSION_BYTES, MAX_TEXT_BYTES, MAX_WAITING,
    NodeStatus, PeerList, RELAY_BYTES, SignedAnswer, Submission, TAG_BYTES,
};
use crate::wire;

/// The answer to a [`super::Request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// Tag 1.
    Status(ChainStatus),
    /// Tag 2: in ascending order, each the parent of the next, at most [`MAX_HEADERS`].
    Headers(Vec<Header>),
    /// Tag 3: in the order of the request, `None` for those the peer does not have; a response that would be large ends
    /// early, after at least one.
    Blocks(Vec<Option<BlockData>>),
    /// Tag 4: in the order of the request; a response that would be large ends early, after at least one, and one without
    /// any says that the peer does not have the block.
    Transactions(Vec<Submission>),
    /// Tag 5.
    Submitted(SubmitReply),
    /// Tag 6.
    Transaction(TransactionStatus),
    /// Tag 7: `None` when there is no such block, or its body is not kept.
    Block(Option<Box<FoundBlock>>),
    /// Tag 8.
    Account(AccountStatus),
    /// Tag 9.
    NodeStatus(Box<NodeStatus>),
    /// Tag 10: the request could not be answered.
    Failed {
        /// Why, for people, at most [`MAX_TEXT_BYTES`].
        reason: String,
    },
    /// Tag 11.
    Fee(FeeSuggestion),
    /// Tag 12, to [`super::Control::Peers`].
    Peers(Box<PeerList>),
    /// Tag 13: the change that any other [`super::Control`] asks for is made.
    Controlled {
        /// What was done, for people, at most [`MAX_TEXT_BYTES`].
        done: String,
    },
    /// Tag 14.
    Faucet(FaucetReply),
    /// Tag 15: how many of those announced, from the first on, the peer has noted; the rest are to be announced again.
    Announce {
        /// How many.
        noted: u32,
    },
    /// Tag 16: in the order of the request, `None` for those the peer does not have; images above
    /// [`super::MAX_INLINE_PIXELS`] are left out. A response that would be large ends early, after at least one.
    Pending(Vec<Option<Submission>>),
    /// Tag 17: in the order of the request, `None` for those the peer does not have. A response that would be large ends
    /// early, after at least one.
    Pixels(Vec<Option<Vec<u8>>>),
    /// Tag 18.
    NewTip,
}

/// The most bytes of a response by its tag, the tag included.
pub(super) fn max_bytes(tag: u32) -> usize {
    const LIST: usize = 8;
    const TEXT: usize = LIST + MAX_TEXT_BYTES;
    const LOGITS: usize = 1 + LIST + 4 * MAX_LOGITS;
    TAG_BYTES
        + match tag {
            1 => 32 + 8 + 32 + 32,
            2 => LIST + HEADER_BYTES * MAX_HEADERS,
            3 | 4 | 7 => MAX_RESPONSE_BYTES - TAG_BYTES,
            5 => 4 + 1 + LOGITS + 32 + 64 + TEXT,
            // Beside the transaction, what shows where it is.
            6 => 4 + MAX_SUBMISSION_BYTES + LOGITS + (16 << 10),
            8 => 8 + 8 + 8 + 8,
            // Its texts in all lists, and its numbers.
            9 => TEXT * (2 * MAX_PEERS + 3 * MAX_ADDRESSES + MAX_WAITING + MAX_INVALID + 8) + (32 << 10),
            10 | 13 => TEXT,
            11 => 8 + 8,
            12 => MAX_PEERS * (3 * TEXT + 64) + MAX_BANS * (2 * TEXT + 16) + 2 * LIST + 8,
            14 => 4 + 32 + 16 + 32,
            15 => 4,
            16 | 17 => RELAY_BYTES + 2 * MAX_SUBMISSION_BYTES + MAX_IDS * (MAX_TRANSACTION_BYTES + LIST + 2),
            18 => 0,
            // Refused for its tag.
            _ => 0,
        }
}

/// A fee by the weight of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct FeeSuggestion {
    /// Grains for a weight of 1,000,000.
    pub rate: u64,
    /// What the node takes at least, in the same unit.
    pub minimum: u64,
}

impl FeeSuggestion {
    /// Of which weight the rates are.
    pub const WEIGHT: u64 = 1_000_000;

    /// The fee for a weight, as far as 64 bits reach.
    pub fn fee(&self, weight: u64) -> Amount {
        let fee = (u128::from(self.rate) * u128::from(weight)).div_ceil(u128::from(Self::WEIGHT));
        Amount(u64::try_from(fee).unwrap_or(u64::MAX))
    }
}

/// What became of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubmitReply {
    /// Tag 1: it is in the mempool, and forwarded.
    Accepted {
        /// The node's preliminary answer, where the transaction is a task and the node ran it in time.
        answer: Option<SignedAnswer>,
    },
    /// Tag 2: the node does not take it.
    Refused {
        /// Which rule it breaks.
        code: u32,
        /// The same for people, at most [`MAX_TEXT_BYTES`].
        reason: String,
    },
}

/// What a node knows of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransactionStatus {
    /// Tag 1: nothing.
    Unknown,
    /// Tag 2: it is in the mempool.
    Pending,
    /// Tag 3: it is in a block of the best chain.
    Confirmed(Box<Confirmation>),
}

/// Where a transaction is confirmed, with all that is needed to check the claim.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct Confirmation {
    /// Of the block that holds it.
    pub header: Header,
    /// Its place in the block, from 0.
    pub index: u32,
    /// Height of the best chain's tip.
    pub tip_height: u64,
    /// The transaction, with its pixels if they are kept.
    pub submission: Submission,
    /// The output that the block holds for it.
    pub output: Output,
}

impl Confirmation {
    /// Blocks from the one that holds it to the tip, itself counted.
    pub fn confirmations(&self) -> u64 {
        self.tip_height.saturating_sub(self.header.height).saturating_add(1)
    }
}

/// A block with its header.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct FoundBlock {
    /// Its header.
    pub header: Header,
    /// Its body and the pixels kept.
    pub data: BlockData,
    /// Whether it is on the best chain.
    pub main_chain: bool,
    /// Height of the best chain's tip.
    pub tip_height: u64,
}

/// An account at the tip; one that does not exist has zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AccountStatus {
    /// Transactions confirmed from it.
    pub nonce: u64,
    /// What it holds.
    pub balance: Amount,
    /// The nonce for its next transaction, those pending in the mempool counted.
    pub next_nonce: u64,
    /// Height of the tip.
    pub height: u64,
}

impl Response {
    /// A [`Response::Controlled`] with its text cut to the limit.
    pub fn controlled(done: impl Into<String>) -> Self {
        Self::Controlled { done: wire::shorten(done.into(), MAX_TEXT_BYTES) }
    }

    /// A [`Response::Failed`] with its reason cut to the limit.
    pub fn failed(reason: impl Into<String>) -> Self {
        Self::Failed { reason: wire::shorten(reason.into(), MAX_TEXT_BYTES) }
    }
}

impl SubmitReply {
    /// A [`SubmitReply::Refused`] with its reason cut to the limit.
    pub fn refused(code: u32, reason: impl Into<String>) -> Self {
        Self::Refused { code, reason: wire::shorten(reason.into(), MAX_TEXT_BYTES) }
    }
}

impl Encode for Response {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        match self {
            Self::Status(status) => (1u32, status).encode(encoder),
            Self::Headers(headers) => (2u32, headers).encode(encoder),
            Self::Blocks(blocks) => (3u32, blocks).encode(encoder),
            Self::Transactions(submissions) => (4u32, submissions).encode(encoder),
            Self::Submitted(reply) => (5u32, reply).encode(encoder),
            Self::Transaction(status) => (6u32, status).encode(encoder),
            Self::Block(block) => (7u32, block).encode(encoder),
            Self::Account(account) => (8u32, account).encode(encoder),
            Self::NodeStatus(status) => (9u32, status).encode(encoder),
            Self::Failed { reason } => (10u32, reason).encode(encoder),
            Self::Fee(suggestion) => (11u32, suggestion).encode(encoder),
            Self::Peers(list) => (12u32, list).encode(encoder),
            Self::Controlled { done } => (13u32, done).encode(encoder),
            Self::Faucet(reply) => (14u32, reply).encode(encoder),
            Self::Announce { noted } => (15u32, noted).encode(encoder),
            Self::Pending(submissions) => (16u32, submissions).encode(encoder),
            Self::Pixels(images) => (17u32, images).encode(encoder),
            Self::NewTip => 18u32.encode(encoder),
        }
    }
}

impl<C> Decode<C> for Response {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(match u32::decode(decoder)? {
            1 => Self::Status(Decode::decode(decoder)?),
            2 => Self::Headers(wire::list(decoder, "headers", MAX_HEADERS, Header::decode)?),
            3 => Self::Blocks(wire::list(decoder, "blocks", MAX_BLOCKS, |decoder| {
                wire::optional(decoder, BlockData::decode)
            })?),
            4 => Self::Transactions(wire::list(decoder, "transactions", MAX_INDEXES, Submission::decode)?),
            5 => Self::Submitted(Decode::decode(decoder)?),
            6 => Self::Transaction(Decode::decode(decoder)?),
            7 => Self::Block(wire::optional(decoder, |decoder| Ok(Box::new(FoundBlock::decode(decoder)?)))?),
            8 => Self::Account(Decode::decode(decoder)?),
            9 => Self::NodeStatus(Box::new(NodeStatus::decode(decoder)?)),
            10 => Self::Failed { reason: decode_reason(decoder)? },
            11 => Self::Fee(Decode::decode(decoder)?),
            12 => Self::Peers(Box::new(PeerList::decode(decoder)?)),
            13 => Self::Controlled { done: decode_reason(decoder)? },
            14 => Self::Faucet(Decode::decode(decoder)?),
            15 => Self::Announce { noted: Decode::decode(decoder)? },
            16 => Self::Pending(wire::list(decoder, "transactions", MAX_IDS, |decoder| {
                wire::optional(decoder, Submission::decode)
            })?),
            17 => {
                Self::Pixels(wire::list(decoder, "images", MAX_IDS, |decoder| wire::optional(decoder, decode_image))?)
            }
            18 => Self::NewTip,
            tag => return wire::unknown_tag("response", tag),
        })
    }
}

impl Encode for SubmitReply {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        match self {
            Self::Accepted { answer } => (1u32, answer).encode(encoder),
            Self::Refused { code, reason } => (2u32, code, reason).encode(encoder),
        }
    }
}

impl<C> Decode<C> for SubmitReply {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        match u32::decode(decoder)? {
            1 => Ok(Self::Accepted { answer: wire::optional(decoder, SignedAnswer::decode)? }),
            2 => Ok(Self::Refused { code: Decode::decode(decoder)?, reason: decode_reason(decoder)? }),
            tag => wire::unknown_tag("submit reply", tag),
        }
    }
}

impl Encode for TransactionStatus {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        match self {
            Self::Unknown => 1u32.encode(encoder),
            Self::Pending => 2u32.encode(encoder),
            Self::Confirmed(confirmation) => (3u32, confirmation).encode(encoder),
        }
    }
}

impl<C> Decode<C> for TransactionStatus {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        match u32::decode(decoder)? {
            1 => Ok(Self::Unknown),
            2 => Ok(Self::Pending),
            3 => Ok(Self::Confirmed(Box::new(Confirmation::decode(decoder)?))),
            tag => wire::unknown_tag("transaction status", tag),
        }
    }
}

impl<C> Decode<C> for Confirmation {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Self {
            header: Decode::decode(decoder)?,
            index: Decode::decode(decoder)?,
            tip_height: Decode::decode(decoder)?,
            submission: Decode::decode(decoder)?,
            output: decode_output(decoder)?,
        })
    }
}

fn decode_reason<D: Decoder>(decoder: &mut D) -> Result<String, DecodeError> {
    wire::text(decoder, "bytes of text", MAX_TEXT_BYTES)
}
