//! What each sender has pending, and where that puts it among all.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use ocelli_consensus::object::ObjectId;
use ocelli_consensus::transaction::Access;
use ocelli_consensus::transition::Changes as Objects;
use ocelli_consensus::{Address, TxId};

use super::rate::RateIndex;
use super::selection::Change;
use super::{FeeRate, Mempool, MempoolEntry};

/// What follows from what each sender has pending.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Order {
    /// Each sender by the fee rate of its last ready transaction: the order in which to make room.
    pub(super) tails: BTreeSet<(FeeRate, Address)>,
    /// Each sender by the fee rate of its first transaction that can be mined, dearest last: the order of packing.
    pub(super) heads: BTreeSet<(FeeRate, Reverse<Address>)>,
    /// Each sender by the bytes that it has waiting.
    pub(super) queues: BTreeSet<(usize, Address)>,
    /// The weight of what is ready, by what has to be paid to come before it.
    pub(super) rates: RateIndex,
    pub(super) ready_bytes: usize,
    pub(super) waiting_bytes: usize,
}

/// What one account has pending; never empty in the map.
#[derive(Debug, Default)]
pub(super) struct Sender {
    /// Of its account at the tip.
    pub(super) nonce: u64,
    /// The lowest that is missing: those before it are ready, those after it wait.
    pub(super) next: u64,
    pub(super) pending: BTreeMap<u64, MempoolEntry>,
    /// The state after those that are ready, and after how many moves of the tip that was so.
    pub(super) after: Option<(u64, Objects)>,
}

impl Mempool {
    /// Adds one that waits; `nonce` is its sender's at the tip.
    pub(super) fn put(&mut self, entry: MempoolEntry, nonce: u64) {
        let (address, unsigned) = (entry.checked().sender(), &entry.transaction().unsigned);
        self.places.insert(entry.txid(), (address, unsigned.nonce));
        self.wtxids.insert(entry.checked().wtxid(), entry.txid());
        self.shown.insert(entry.checked());
        self.expiries.insert((unsigned.expires, address, unsigned.nonce));
        self.touched.extend(touched(&entry));
        self.leave_order(address);
        let new = || Sender { nonce, next: nonce, ..Sender::default() };
        self.senders.entry(address).or_insert_with(new).pending.insert(entry.nonce(), entry);
        self.enter_order(address);
    }

    /// The first of a sender that waits is ready, with the state as it is after it: it has just followed.
    pub(super) fn set_ready(&mut self, address: Address, after: Objects, now: u64) {
        self.leave_order(address);
        if let Some(sender) = self.senders.get_mut(&address)
            && let Some(entry) = sender.pending.get_mut(&sender.next)
        {
            entry.waits_since = None;
            entry.ready_since.get_or_insert(now);
            (sender.next, sender.after) = (sender.next.saturating_add(1), Some((self.moves, after)));
        }
        self.enter_order(address);
    }

    /// Removes one. Those after it wait from now on.
    pub(super) fn take(&mut self, txid: &TxId) -> Option<MempoolEntry> {
        let (address, nonce) = self.places.remove(txid)?;
        self.leave_order(address);
        let sender = self.senders.get_mut(&address)?;
        let entry = sender.pending.remove(&nonce)?;
        if entry.is_ready() {
            for after in sender.pending.range_mut(nonce..sender.next) {
                after.1.waits_since = Some(self.height);
            }
            (sender.next, sender.after) = (nonce, None);
        }
        if sender.pending.is_empty() {
            self.senders.remove(&address);
        }
        self.enter_order(address);
        self.wtxids.remove(&entry.checked().wtxid());
        self.shown.remove(entry.checked());
        self.expiries.remove(&(entry.transaction().unsigned.expires, address, nonce));
        for place in touched(&entry) {
            self.touched.remove(&place);
        }
        if entry.is_ready() {
            self.changed_at(entry.fee_rate(), Change::Gone);
        }
        Some(entry)
    }

    /// A sender is about to change.
    pub(super) fn leave_order(&mut self, address: Address) {
        let Some(sender) = self.senders.get(&address) else { return };
        let Ranks { tail, head, waiting, ready, rates } = sender.ranks();
        if let Some(rate) = tail {
            self.order.tails.remove(&(rate, address));
        }
        if let Some(rate) = head {
            self.order.heads.remove(&(rate, Reverse(address)));
        }
        self.order.queues.remove(&(waiting, address));
        self.order.ready_bytes -= ready;
        self.order.waiting_bytes -= waiting;
        rates.for_each(|(rate, weight)| self.order.rates.remove(rate, weight));
        for object in sender.ready().flat_map(MempoolEntry::created) {
            self.creators.remove(&object);
        }
    }

    /// A sender has changed.
    pub(super) fn enter_order(&mut self, address: Address) {
        self.shown.set_next(address, self.senders.get(&address).map(|sender| sender.next));
        let Some(sender) = self.senders.get(&address) else { return };
        let Ranks { tail, head, waiting, ready, rates } = sender.ranks();
        self.order.tails.extend(tail.map(|rate| (rate, address)));
        self.order.heads.extend(head.map(|rate| (rate, Reverse(address))));
        self.order.queues.extend((waiting > 0).then_some((waiting, address)));
        self.order.ready_bytes += ready;
        self.order.waiting_bytes += waiting;
        rates.for_each(|(rate, weight)| self.order.rates.add(rate, weight));
        let created = sender.ready().flat_map(|entry| entry.created().map(|object| (object, entry.txid())));
        self.creators.extend(created);
    }
}

/// Where a sender stands among all.
pub(super) struct Ranks<I> {
    pub(super) tail: Option<FeeRate>,
    pub(super) head: Option<FeeRate>,
    pub(super) waiting: usize,
    pub(super) ready: usize,
    pub(super) rates: I,
}

impl Sender {
    /// Those without a gap, from the account's nonce on.
    pub(super) fn ready(&self) -> impl DoubleEndedIterator<Item = &MempoolEntry> + Clone {
        self.pending.range(self.nonce..self.next).map(|(_, entry)| entry)
    }

    /// Those beyond a gap.
    pub(super) fn waiting(&self) -> impl DoubleEndedIterator<Item = &MempoolEntry> {
        self.pending.values().filter(|entry| !entry.is_ready())
    }

    pub(super) fn ranks(&self) -> Ranks<impl Iterator<Item = (FeeRate, u64)>> {
        // What comes after a cheap one has to wait for it.
        let rates = self.ready().scan(None, |lowest: &mut Option<FeeRate>, entry| {
            let rate = lowest.map_or(entry.fee_rate(), |lowest| lowest.min(entry.fee_rate()));
            *lowest = Some(rate);
            Some((rate, entry.weight()))
        });
        Ranks {
            tail: self.ready().next_back().map(MempoolEntry::fee_rate),
            head: self.ready().next().map(MempoolEntry::fee_rate),
            waiting: self.waiting().map(MempoolEntry::bytes).sum(),
            ready: self.ready().map(MempoolEntry::bytes).sum(),
            rates,
        }
    }
}

/// The places of an entry in [`Mempool::touched`].
fn touched(entry: &MempoolEntry) -> impl Iterator<Item = (ObjectId, Address, u64)> {
    let touches = entry.touches.iter().filter(|touch| touch.access != Access::Reads);
    touches.map(|touch| (touch.object, entry.checked().sender(), entry.nonce()))
}
