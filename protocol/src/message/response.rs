//! What a peer answers.

use std::sync::Arc;

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use ocelli_consensus::block::{Answer, Body, BodyProof, MAX_ANSWER_BYTES};
use ocelli_consensus::header::HEADER_BYTES;
use ocelli_consensus::merkle::MerkleError;
use ocelli_consensus::object::{self, Account, ModelRecord, Object, ObjectId, UploadRecord};
use ocelli_consensus::state::{self, Proof, ProofError, Terminal};
use ocelli_consensus::transaction::MAX_TRANSACTION_BYTES;
use ocelli_consensus::{Address, Amount, Header, ModelId, Root, WtxId};

use super::block::{decode_answer, decode_attachment};
use super::{
    BlockData, ChainStatus, FILE_CHUNK_BYTES, FaucetReply, LedgerPage, MAX_ADDRESSES, MAX_BANS, MAX_BLOCKS,
    MAX_BODY_PATH, MAX_ENTRIES, MAX_HEADERS, MAX_IDS, MAX_INDEXES, MAX_INVALID, MAX_MODELS, MAX_PEERS,
    MAX_RESPONSE_BYTES, MAX_STATE_PATH, MAX_SUBMISSION_BYTES, MAX_TEXT_BYTES, MAX_TRANSACTIONS, MAX_WAITING,
    NodeStatus, PeerList, RELAY_BYTES, SignedAnswer, Submission, TAG_BYTES, TRANSACTIONS_BYTES,
};
use crate::ledger::MAX_EVENT_BYTES;
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
    /// Tag 4: in the order of the request, `None` for those that the peer does not have yet; a response of
    /// [`super::TRANSACTIONS_BYTES`] ends early, after at least one, and one without any says that the peer does not know the block.
    Transactions(Vec<Option<Submission>>),
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
    Announce { noted: u32 },
    /// Tag 16: in the order of the request, `None` for those the peer does not have; attachments above
    /// [`super::MAX_INLINE_ATTACHMENT`] are left out. A response that would be large ends early, after at least one.
    Pending(Vec<Option<Submission>>),
    /// Tag 17: in the order of the request, `None` for those the peer does not have. A response that would be large ends
    /// early, after at least one.
    Attachments(Vec<Option<Arc<[u8]>>>),
    /// Tag 18.
    NewTip,
    /// Tag 19: in the block's order, at most [`super::MAX_TRANSACTIONS`]; `None` where the peer does not have them all.
    TransactionIds(Option<Vec<WtxId>>),
    /// Tag 20: at most [`FILE_CHUNK_BYTES`]; `None` where the peer does not have the file, or the file has no such chunk.
    File(Option<Vec<u8>>),
    /// Tag 21: in ascending order of ids; fewer than asked for, and than [`MAX_MODELS`], are the last.
    Models(Vec<NetworkModel>),
    /// Tag 22: `None` where there is none.
    Upload(Option<UploadRecord>),
    /// Tag 23.
    Ledger(Box<LedgerPage>),
}

/// The most bytes of a response by its tag, the tag included.
pub(super) fn max_bytes(tag: u32) -> usize {
    const LIST: usize = 8;
    const TEXT: usize = LIST + MAX_TEXT_BYTES;
    const ACCOUNT: usize = 8 + 8 + 8 + HEADER_BYTES + 1 + LIST + 32 * MAX_STATE_PATH;
    // The longest event, and its transaction with an answer and the paths.
    const PATH: usize = LIST + 32 * MAX_BODY_PATH;
    const ENTRY: usize =
        4 + MAX_EVENT_BYTES + 1 + LIST + MAX_TRANSACTION_BYTES + MAX_ANSWER_BYTES + 4 + 4 + 32 + 2 * PATH;
    TAG_BYTES
        + match tag {
            1 => ChainStatus::MAX_BYTES,
            2 => LIST + HEADER_BYTES * MAX_HEADERS,
            3 | 7 => MAX_RESPONSE_BYTES - TAG_BYTES,
            4 => TRANSACTIONS_BYTES + MAX_SUBMISSION_BYTES + MAX_INDEXES,
            5 => 4 + 1 + MAX_ANSWER_BYTES + 32 + 64 + TEXT,
            // Beside the transaction, what shows where it is.
            6 => 4 + MAX_SUBMISSION_BYTES + MAX_ANSWER_BYTES + (16 << 10),
            8 => ACCOUNT,
            // Its texts in all lists, and its numbers.
            9 => TEXT * (2 * MAX_ADDRESSES + MAX_WAITING + MAX_INVALID + 8) + (4 << 10),
            10 | 13 => TEXT,
            11 => 8 + 8,
            12 => MAX_PEERS * (3 * TEXT + 64) + MAX_BANS * (2 * TEXT + 16) + 2 * LIST + 8,
            14 => 4 + LIST + MAX_TRANSACTION_BYTES,
            15 => 4,
            16 | 17 => RELAY_BYTES + MAX_SUBMISSION_BYTES + MAX_IDS,
            18 => 0,
            19 => 1 + LIST + 32 * MAX_TRANSACTIONS,
            20 => 1 + LIST + FILE_CHUNK_BYTES,
            21 => LIST + MAX_MODELS * (32 + 58 + 8 + TEXT),
            22 => 1 + 86,
            23 => ACCOUNT + 8 + LIST + 1 + MAX_ENTRIES * (HEADER_BYTES + LIST + ENTRY),
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
    /// Its place in the block, and what leads from there to the root of the block's body; paths of at most [`MAX_BODY_PATH`].
    pub proof: BodyProof,
    /// The transaction, with its attachment if that is kept.
    pub submission: Submission,
    /// The answer that the block holds for it.
    pub answer: Answer,
}

impl Confirmation {
    /// Of the transaction at `index` of a block; `None` where it has none there.
    pub fn of(header: Header, body: &Body, index: u32, attachment: Option<Arc<[u8]>>) -> Option<Self> {
        let place = index as usize;
        let (transaction, answer) = body.transactions.get(place)?.clone();
        let proof = body.prove(&header.parent, place)?;
        Some(Self { header, proof, submission: Submission { transaction, attachment }, answer })
    }

    /// The body root to which the paths lead, to be compared with the header's.
    ///
    /// # Errors
    /// If the block has no such place, or a path has the wrong length for it.
    pub fn body_root(&self) -> Result<Root, MerkleError> {
        self.proof.root(&self.submission.transaction.wtxid(), &self.answer)
    }
}

/// A model of the network.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct NetworkModel {
    pub id: ModelId,
    /// In the state of the tip.
    pub record: ModelRecord,
    /// Transactions of the main chain that use it, as far as the node has counted.
    pub uses: u64,
    /// What its author calls it, at most [`MAX_TEXT_BYTES`]: not unique. Empty where the node lacks the file.
    pub name: String,
}

/// A block with its header.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct FoundBlock {
    pub header: Header,
    /// Its body and the attachments kept.
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
        let (key, leaf) = object::leaf(&ObjectId::Account(*address), &Object::Account(account).to_bytes());
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

impl NetworkModel {
    /// With its name cut to the limit.
    pub fn new(id: ModelId, record: ModelRecord, uses: u64, name: impl Into<String>) -> Self {
        Self { id, record, uses, name: wire::shorten(name.into(), MAX_TEXT_BYTES) }
    }
}

impl SubmitReply {
    /// The code of a node that does not take it now, and may later.
    pub const BUSY: u32 = 5;

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
            Self::Attachments(found) => (17u32, found).encode(encoder),
            Self::NewTip => 18u32.encode(encoder),
            Self::TransactionIds(ids) => (19u32, ids).encode(encoder),
            Self::File(chunk) => (20u32, chunk).encode(encoder),
            Self::Models(models) => (21u32, models).encode(encoder),
            Self::Upload(record) => (22u32, record).encode(encoder),
            Self::Ledger(page) => (23u32, page).encode(encoder),
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
            4 => Self::Transactions(wire::list(decoder, "transactions", MAX_INDEXES, |decoder| {
                wire::optional(decoder, Submission::decode)
            })?),
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
            17 => Self::Attachments(wire::list(decoder, "attachments", MAX_IDS, |decoder| {
                wire::optional(decoder, decode_attachment)
            })?),
            18 => Self::NewTip,
            19 => Self::TransactionIds(wire::optional(decoder, |decoder| {
                wire::list(decoder, "transactions", MAX_TRANSACTIONS, WtxId::decode)
            })?),
            20 => Self::File(wire::optional(decoder, |decoder| {
                wire::bytes(decoder, "bytes of a file", FILE_CHUNK_BYTES)
            })?),
            21 => Self::Models(wire::list(decoder, "models", MAX_MODELS, NetworkModel::decode)?),
            22 => Self::Upload(Decode::decode(decoder)?),
            23 => Self::Ledger(Box::new(LedgerPage::decode(decoder)?)),
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
            proof: decode_body_proof(decoder)?,
            submission: Decode::decode(decoder)?,
            answer: decode_answer(decoder)?,
        })
    }
}

pub(super) fn decode_body_proof<D: Decoder>(decoder: &mut D) -> Result<BodyProof, DecodeError> {
    let path = |decoder: &mut D| wire::list(decoder, "hashes of a path", MAX_BODY_PATH, <[u8; 32]>::decode);
    Ok(BodyProof {
        index: Decode::decode(decoder)?,
        count: Decode::decode(decoder)?,
        ids: Decode::decode(decoder)?,
        transaction_path: path(decoder)?,
        answer_path: path(decoder)?,
    })
}

impl<C> Decode<C> for NetworkModel {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Self {
            id: Decode::decode(decoder)?,
            record: Decode::decode(decoder)?,
            uses: Decode::decode(decoder)?,
            name: decode_reason(decoder)?,
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
