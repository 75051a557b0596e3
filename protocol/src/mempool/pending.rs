//! What is pending, as others see it.

use ocelli_consensus::{Address, CheckedTransaction, TxId, WtxId};
use rpds::HashTrieMapSync;

use super::FeeRate;

/// All that is pending at one moment. Its parts are shared with what the mempool goes on to change, so that a clone costs
/// nothing, however much is pending, and never changes: for any thread to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    transactions: HashTrieMapSync<WtxId, CheckedTransaction>,
    ids: HashTrieMapSync<TxId, WtxId>,
    /// Of each sender with something pending, the lowest nonce that is neither confirmed nor here.
    nonces: HashTrieMapSync<Address, u64>,
}

impl Pending {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.transactions.size()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.transactions.is_empty()
    }

    /// The ids of all, with their signatures.
    pub fn wtxids(&self) -> impl Iterator<Item = WtxId> {
        self.transactions.keys().copied()
    }

    /// The id with signature of a transaction that is pending.
    pub fn wtxid(&self, txid: &TxId) -> Option<WtxId> {
        self.ids.get(txid).copied()
    }

    /// By id with signature.
    pub fn get(&self, wtxid: &WtxId) -> Option<&CheckedTransaction> {
        self.transactions.get(wtxid)
    }

    /// The lowest nonce of a sender that is neither confirmed nor here; `None` if it has nothing pending.
    pub fn next_nonce(&self, sender: &Address) -> Option<u64> {
        self.nonces.get(sender).copied()
    }

    pub(super) fn insert(&mut self, checked: &CheckedTransaction) {
        self.ids.insert_mut(checked.txid(), checked.wtxid());
        self.transactions.insert_mut(checked.wtxid(), checked.clone());
    }

    pub(super) fn remove(&mut self, checked: &CheckedTransaction) {
        self.ids.remove_mut(&checked.txid());
        self.transactions.remove_mut(&checked.wtxid());
    }

    pub(super) fn set_next(&mut self, sender: Address, next: Option<u64>) {
        match next {
            Some(next) if self.next_nonce(&sender) == Some(next) => {}
            Some(next) => self.nonces.insert_mut(sender, next),
            None => {
                self.nonces.remove_mut(&sender);
            }
        }
    }
}

/// What it costs to be mined soon, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeeRates {
    /// Dearest first: so much weight pays so much or more, and what outbids the last of it.
    steps: Vec<(u64, FeeRate)>,
    minimum: FeeRate,
}

impl FeeRates {
    pub(super) fn new(steps: Vec<(u64, FeeRate)>, minimum: FeeRate) -> Self {
        Self { steps, minimum }
    }

    /// The rate with which a transaction would be among the first of so much weight.
    pub fn within(&self, weight: u64) -> FeeRate {
        let fits = self.steps.partition_point(|(sum, _)| *sum <= weight);
        if fits == self.steps.len() {
            return self.minimum;
        }
        // Where the last that fits ends with the weight, that is what has to be outbid.
        let is_full = fits > 0 && self.steps[fits - 1].0 == weight;
        self.steps[fits - usize::from(is_full)].1.max(self.minimum)
    }

    /// The least that gets in.
    pub fn minimum(&self) -> FeeRate {
        self.minimum
    }
}
