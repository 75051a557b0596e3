//! What a peer answers.

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use ocelli_consensus::block::{Body, Output, body_root_by_path};
use ocelli_consensus::header::HEADER_BYTES;
use ocelli_consensus::merkle::MerkleError;
use ocelli_consensus::state::{self, Proof, ProofError, Terminal};
use ocelli_consensus::transaction::MAX_TRANSACTION_BYTES;
use ocelli_consensus::transition::Account;
use ocelli_consensus::{Address, Amount, Header, Root};

use super::block::{decode_image, decode_output};
use super::{
    BlockData, ChainStatus, FaucetReply, MAX_ADDRESSES, MAX_BANS, MAX_BLOCKS, MAX_BODY_PATH, MAX_HEADERS, MAX_IDS,
    MAX_INDEXES, MAX_INVALID, MAX_LOGITS, MAX_PEERS, MAX_RESPONSE_BYTES, MAX_STATE_PATH, MAX_SUBMISSION_BYTES,
    MAX_TEXT_BYTES, MAX_WAITING, NodeStatus, PeerList, RELAY_BYTES, SignedAnswer, Submission, TAG_BYTES,
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
    Account(Box<AccountStatus>),
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
            8 => 8 + 8 + 8 + HEADER_BYTES + 1 + LIST + 32 * MAX_STATE_PATH,
            // Its texts in all lists, and its numbers.
            9 => TEXT * (2 * MAX_ADDRESSES + MAX_WAITING + MAX_INVALID + 8) + (4 << 10),
            10 | 13 => TEXT,
            11 => 8 + 8,
            12 => MAX_PEERS * (3 * TEXT + 64) + MAX_BANS * (2 * TEXT + 16) + 2 * LIST + 8,
            14 => 4 + MAX_TRANSACTION_BYTES,
            15 => 4,
            16 | 17 => RELAY_BYTES + 2 * MAX_SUBMISSION_BYTES + MAX_IDS * (MAX_TRANSACTION_BYTES + LIST + 2),
            18 => 0,
            // Refused for its tag.
            _ => 0,
        }
}

/// The most bytes of a response to a request of this tag: of the response of the same tag, but for two.
pub(super) fn max_bytes_to(request: u32) -> usize {
    const FAILED: u32 = 10;
    let answer = match request {
        // To the one that asks for peers; to all others it is a text.
        13 => 12,
        // Asked for by [`super::Control`] alone.
        12 => 0,
        tag => tag,
    };
    max_bytes(answer).max(max_bytes(FAILED))
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
    /// Tag 4: it was in the mempool, and left it without being in a block. It may be handed in again.
    Dropped {
        /// Why, for people, at most [`MAX_TEXT_BYTES`].
        reason: String,
    },
}

/// Where a transaction is confirmed, with what binds it to the block's header.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct Confirmation {
    /// Of the block that holds it.
    pub header: Header,
    /// Its place in the block, from 0.
    pub index: u32,
    /// The transactions of the block.
    pub count: u32,
    /// The hashes from its leaf to the root of the block's body, lowest first, at most [`MAX_BODY_PATH`].
    pub path: Vec<[u8; 32]>,
    /// The transaction, with its pixels if they are kept.
    pub submission: Submission,
    /// The output that the block holds for it.
    pub output: Output,
}

impl Confirmation {
    /// Of the transaction at `index` of a block; `None` where it has none there.
    pub fn of(header: Header, body: &Body, index: u32, pixels: Option<Vec<u8>>) -> Option<Self> {
        let place = index as usize;
        let (transaction, output) = body.transactions.get(place)?.clone();
        let count = u32::try_from(body.transactions.len()).ok()?;
        let path = body.path(place)?;
        Some(Self { header, index, count, path, submission: Submission { transaction, pixels }, output })
    }

    /// The body root to which the path leads, to be compared with the header's.
    ///
    /// # Errors
    /// If the block has no such place, or the path has the wrong length for it.
    pub fn body_root(&self) -> Result<Root, MerkleError> {
        let entry = (self.submission.transaction.wtxid(), &self.output);
        body_root_by_path(entry, self.index, self.count, &self.path)
    }
}

/// A block with its header.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct FoundBlock {
    pub header: Header,
    /// Its body and the pixels kept.
    pub data: BlockData,
}

/// An account after the tip; one that does not exist has zeros.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct AccountStatus {
    /// Transactions confirmed from it.
    pub nonce: u64,
    /// What it holds.
    pub balance: Amount,
    /// The nonce for its next transaction, those pending in the mempool counted.
    pub next_nonce: u64,
    /// The tip's.
    pub header: Header,
    /// The hashes of the subtrees beside the way from the state's root to the account, highest first, at most
    /// [`MAX_STATE_PATH`]; `None` for one that does not exist.
    pub path: Option<Vec<[u8; 32]>>,
}

impl AccountStatus {
    /// Whether the header's state holds the account like that, or, without a path, whether nothing is claimed of it.
    ///
    /// # Errors
    /// If the path does not lead from the account to the state's root.
    pub fn check(&self, address: &Address) -> Result<(), ProofError> {
        let account = Account { nonce: self.nonce, balance: self.balance };
        let Some(path) = &self.path else {
            return if account == Account::default() { Ok(()) } else { Err(ProofError::WrongKind) };
        };
        let (key, leaf) = account.leaf(address);
        let proof = Proof { siblings: path.clone(), terminal: Terminal::Found };
        state::verify(&self.header.state.0, &key, Some(&leaf), &proof)
    }
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
            8 => Self::Account(Box::new(AccountStatus::decode(decoder)?)),
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
            Self::Dropped { reason } => (4u32, reason).encode(encoder),
        }
    }
}

impl<C> Decode<C> for TransactionStatus {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        match u32::decode(decoder)? {
            1 => Ok(Self::Unknown),
            2 => Ok(Self::Pending),
            3 => Ok(Self::Confirmed(Box::new(Confirmation::decode(decoder)?))),
            4 => Ok(Self::Dropped { reason: decode_reason(decoder)? }),
            tag => wire::unknown_tag("transaction status", tag),
        }
    }
}

impl<C> Decode<C> for Confirmation {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Self {
            header: Decode::decode(decoder)?,
            index: Decode::decode(decoder)?,
            count: Decode::decode(decoder)?,
            path: wire::list(decoder, "hashes of a path", MAX_BODY_PATH, <[u8; 32]>::decode)?,
            submission: Decode::decode(decoder)?,
            output: decode_output(decoder)?,
        })
    }
}

impl<C> Decode<C> for AccountStatus {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Self {
            nonce: Decode::decode(decoder)?,
            balance: Decode::decode(decoder)?,
            next_nonce: Decode::decode(decoder)?,
            header: Decode::decode(decoder)?,
            path: wire::optional(decoder, |decoder| {
                wire::list(decoder, "hashes of a path", MAX_STATE_PATH, <[u8; 32]>::decode)
            })?,
        })
    }
}

fn decode_reason<D: Decoder>(decoder: &mut D) -> Result<String, DecodeError> {
    wire::text(decoder, "bytes of text", MAX_TEXT_BYTES)
}
