//! Transactions passed from node to node: announced by short ids, fetched once.

use std::fmt;
use std::sync::Arc;

use bincode::{Decode, Encode};
use ocelli_consensus::WtxId;

use super::block::take;
use super::{RELAY_BYTES, Submission};

/// The first 8 bytes of a wtxid: what a transaction is announced and asked for by.
///
/// Two that somebody makes share one after 2^32 tries, and then hinder each other; to hinder somebody else's takes 2^64
/// tries in the seconds that it travels. Blocks name their transactions by ids of their own
/// ([`ocelli_consensus::block::BlockShortId`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct ShortId(pub [u8; 8]);

impl ShortId {
    /// All zeros.
    pub const LOWEST: Self = Self([0; 8]);

    /// Of a transaction.
    pub fn of(wtxid: &WtxId) -> Self {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&wtxid.0[..8]);
        Self(bytes)
    }

    /// The one after it in order; none after the highest.
    pub fn next(self) -> Option<Self> {
        u64::from_be_bytes(self.0).checked_add(1).map(|next| Self(next.to_be_bytes()))
    }

    /// The lowest wtxid that has this short id.
    pub fn first(self) -> WtxId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&self.0);
        WtxId(bytes)
    }
}

impl fmt::Display for ShortId {
    /// Hex, as a wtxid begins.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Takes transactions for a response in the order of the request, stopping when [`RELAY_BYTES`] are reached: at least one,
/// if there is one. Pulls nothing from the iterator that it does not return.
pub fn take_pending(found: impl IntoIterator<Item = Option<Submission>>) -> Vec<Option<Submission>> {
    take(found, RELAY_BYTES, |submission| 1 + submission.encoded_len())
}

/// Takes attachments for a response as [`take_pending`] takes transactions.
pub fn take_attachments(found: impl IntoIterator<Item = Option<Arc<[u8]>>>) -> Vec<Option<Arc<[u8]>>> {
    take(found, RELAY_BYTES, |bytes| 9 + bytes.len())
}
