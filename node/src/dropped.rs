//! What has left the mempool without being in a block, and why: for submitters that ask later.

use std::collections::VecDeque;

use ocelli_consensus::TxId;

/// Transactions that are remembered: those of some minutes of a full mempool that turns over.
pub(crate) const MAX_DROPPED: usize = 16_384;

/// Why a transaction was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Another of its sender took its place, or others that pay more took its room.
    Outbid,
    /// The chain has moved on.
    Impossible,
    /// The node's owner will not have its attachment.
    Forgotten,
}

impl Reason {
    /// The same for people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Outbid => "replaced, or evicted by others that pay more",
            Self::Impossible => "no longer possible after the latest block, or expired before it was in one",
            Self::Forgotten => "the owner of this node has it refuse the attachment",
        }
    }
}

/// Reasons by id: a clone costs nothing and never changes.
pub type Reasons = rpds::HashTrieMapSync<TxId, Reason>;

/// The transactions dropped last.
#[derive(Default)]
pub(crate) struct Dropped {
    reasons: Reasons,
    order: VecDeque<TxId>,
}

impl Dropped {
    pub(crate) fn note(&mut self, txid: TxId, reason: Reason) {
        if !self.reasons.contains_key(&txid) {
            self.order.push_back(txid);
        }
        self.reasons.insert_mut(txid, reason);
        if self.order.len() > MAX_DROPPED
            && let Some(oldest) = self.order.pop_front()
        {
            self.reasons.remove_mut(&oldest);
        }
    }

    /// What others may look at.
    pub(crate) fn reasons(&self) -> Reasons {
        self.reasons.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_remembered_with_their_last_reason() {
        let mut dropped = Dropped::default();
        let id = |number: usize| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&number.to_le_bytes());
            TxId(id)
        };
        dropped.note(id(0), Reason::Outbid);
        dropped.note(id(0), Reason::Impossible);
        let before = dropped.reasons();
        for number in 1..=MAX_DROPPED {
            dropped.note(id(number), Reason::Outbid);
        }
        assert_eq!(before.get(&id(0)), Some(&Reason::Impossible));
        let reasons = dropped.reasons();
        assert_eq!((reasons.size(), dropped.order.len()), (MAX_DROPPED, MAX_DROPPED));
        assert_eq!((reasons.get(&id(0)), reasons.get(&id(MAX_DROPPED))), (None, Some(&Reason::Outbid)));
    }
}
