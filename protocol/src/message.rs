//! Messages as they travel: one on a gossip topic ([`Announcement`]) and the [`Request`]s that a [`Response`] answers.
//!
//! All are encoded by [`ocelli_consensus::codec`]; enum tags are u32 with the values given here. What a decode may read
//! is bounded twice: the whole by its `MAX_…_BYTES`, each list and text by a limit of its own.

mod answer;
mod block;
mod faucet;
mod ledger;
mod peers;
mod relay;
mod request;
mod response;
mod status;

use ocelli_consensus::header::HEADER_BYTES;
use ocelli_consensus::object::MAX_ATTACHMENT_BYTES;

pub use answer::SignedAnswer;
pub use block::{Announcement, Assembled, BlockData, Submission, take_blocks, take_transactions};
pub use faucet::{FaucetClaim, FaucetReply, FaucetRequest, FaucetTerms};
pub use ledger::{LedgerBlock, LedgerPage, Proofs, ShownEntry, TransactionProof};
pub use peers::{Ban, BanSubject, ConnectedPeer, Control, Cookie, PeerList};
pub use relay::{ShortId, take_attachments, take_pending};
pub use request::{BlockId, Request};
pub use response::{
    AccountStatus, Confirmation, FeeSuggestion, FoundBlock, NetworkModel, Response, SubmitReply, TransactionStatus,
};
pub use status::{
    ChainStatus, DeviceStatus, InferenceStatus, InvalidBlock, MempoolStatus, MiningStatus, NextRules, NodeIdentity,
    NodeStatus, PeerCounts, Reachability, RulesStatus, StorageStatus, SyncStatus, TipStatus, Traffic, TrafficStatus,
};

/// An [`Announcement`] in bytes: a header, two roots and the ids of [`MAX_TRANSACTIONS`]. One of 1,000 tasks has 8,252.
pub const MAX_ANNOUNCEMENT_BYTES: usize = HEADER_BYTES + 32 + 32 + 8 + 8 * MAX_TRANSACTIONS;
/// A transaction in bytes, of whatever version.
pub const MAX_UNKNOWN_TRANSACTION_BYTES: usize = 4_096;
/// Attachments that may come with a transaction whose action this program does not know; together they are no longer than one.
pub const MAX_ATTACHMENTS: usize = 4;
/// A [`Submission`] in bytes: a transaction, of a later version maybe, and its attachments, each with its length.
pub const MAX_SUBMISSION_BYTES: usize =
    8 + MAX_UNKNOWN_TRANSACTION_BYTES + 8 + 8 * MAX_ATTACHMENTS + MAX_ATTACHMENT_BYTES;
/// A [`Request`] in bytes: the largest is a submission.
pub const MAX_REQUEST_BYTES: usize = 4 + MAX_SUBMISSION_BYTES;
/// A [`Response`] in bytes: [`BLOCKS_BYTES`] and one block of the largest weight that a network may have, 12,000,000, which counts
/// all bytes of a block but its answers, and more than these.
pub const MAX_RESPONSE_BYTES: usize = 16 << 20;
/// Headers in a response: 360 kB.
pub const MAX_HEADERS: usize = 2000;
/// Hashes in a locator: dense near the tip, then in doubling steps, which for 2^50 blocks is enough.
pub const MAX_LOCATOR: usize = 64;
/// Blocks asked for at once.
pub const MAX_BLOCKS: usize = 16;
/// Bytes after which [`take_blocks`] stops: the response then holds at most this and one block more.
pub const BLOCKS_BYTES: usize = 4 << 20;
/// Transactions of a block asked for by index at once.
pub const MAX_INDEXES: usize = 4096;
/// Bytes after which [`take_transactions`] stops: the response then holds at most this and one more.
pub const TRANSACTIONS_BYTES: usize = 1 << 20;
/// Transactions in a block: of the largest weight that a network may have, 29,411 have room.
pub const MAX_TRANSACTIONS: usize = 32_768;
/// Hashes between a leaf and a root over [`MAX_TRANSACTIONS`].
pub const MAX_BODY_PATH: usize = 15;
/// Bytes of a chunk of a model's file: as many as a part has.
pub const FILE_CHUNK_BYTES: usize = MAX_ATTACHMENT_BYTES;
/// Models of the chain in a response.
pub const MAX_MODELS: usize = 64;
/// Entries of an account in a response: with what proves them 450 kB.
pub const MAX_ENTRIES: usize = 256;
/// Transactions that a node goes through at most to prove the entries of one response, but for one block's: 20 ms.
pub const MAX_PROVEN: usize = 4_096;
/// Hashes between an account and the root of the state: the bits of a key.
pub const MAX_STATE_PATH: usize = 256;
/// Short ids in an announcement of transactions, and asked for at once.
pub const MAX_IDS: usize = 256;
/// An attachment of at most so many bytes travels beside the transaction that names it; a larger one is asked for when the
/// transaction has been checked.
pub const MAX_INLINE_ATTACHMENT: usize = 16 << 10;
/// Bytes after which [`take_pending`] and [`take_attachments`] stop: the response then holds at most this and one more.
pub const RELAY_BYTES: usize = 1 << 20;
/// Classes in an answer that decodes: more than an answer may have, for a block with such a one is invalid and no gibberish.
pub const MAX_CLASSES: usize = 32_768;
/// A reason or name meant for people, in bytes.
pub const MAX_TEXT_BYTES: usize = 500;
/// Addresses that a node tells of itself.
pub const MAX_ADDRESSES: usize = 32;
/// Peers that a node tells of.
pub const MAX_PEERS: usize = 256;
/// Bans that a node tells of.
pub const MAX_BANS: usize = 2048;
/// Things that a node says it waits for.
pub const MAX_WAITING: usize = 16;
/// Latest refused blocks that a node tells of.
pub const MAX_INVALID: usize = 16;

/// What a message takes beside what its kind can, at most: its tag, and some more, so that a list or a text that is a little too
/// long is found to be just that.
const TAG_BYTES: usize = 4 + 60;

/// Gives a message `to_bytes` and a `from_bytes` that enforces its limit, which may depend on the kind that it says it is.
macro_rules! message {
    ($name:ident, $limit:expr) => {
        impl $name {
            pub fn to_bytes(&self) -> Vec<u8> {
                ocelli_consensus::codec::encode(self)
            }

            /// Reads what [`Self::to_bytes`] wrote.
            ///
            /// # Errors
            /// If there are too many bytes, bytes left over, a list or text above its limit, or no such message.
            pub fn from_bytes(bytes: &[u8]) -> Result<Self, ocelli_consensus::codec::DecodeError> {
                ocelli_consensus::codec::decode(bytes, $limit(bytes))
            }
        }
        bincode::impl_borrow_decode!($name);
    };
}

message!(Announcement, |_: &[u8]| MAX_ANNOUNCEMENT_BYTES);
message!(Submission, |_: &[u8]| MAX_SUBMISSION_BYTES);
message!(Request, |bytes| request::max_bytes(tag(bytes)));
message!(Response, |bytes| response::max_bytes(tag(bytes)));

impl Request {
    /// The most bytes of a request that begins with these four, which say what kind it is.
    pub fn max_bytes(head: &[u8; 4]) -> usize {
        request::max_bytes(tag(head))
    }
}

impl Response {
    /// The most bytes of a response to an encoded request: of its kind, or of one that says why there is none.
    pub fn max_bytes(request: &[u8]) -> usize {
        response::max_bytes_to(tag(request))
    }
}

/// The kind that an encoded message says it is.
fn tag(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |tag| u32::from_le_bytes(*tag))
}

#[cfg(test)]
mod tests;
