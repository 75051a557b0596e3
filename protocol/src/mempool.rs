//! Pending transactions: what may wait here, who gives way when room is short, what runs and what is mined next.
//!
//! A transaction becomes *ready* by the function that a block's transactions go through ([`Changes::transact`]), on the state
//! of the tip with the sender's ready transactions before it. Others' transactions, and a miner's pay, only add to the
//! accounts that it reads, and of those that create the same object one is ready, so it still follows with any of them before it, in
//! any order: **every template connects**. What another's pending transaction would have to pay or create first is refused until
//! it is in a block. Where a block is taken back, every sender is applied anew who touches what that block did; where one is
//! connected, who would create what it did; and with every block who uploads a model, for the time to do so ends.
//!
//! Those beyond a missing nonce *wait*: neither forwarded nor run, in room of their own, and not for long. Nobody knows
//! whether the missing one will ever come, so they take nothing from those that are ready.
//!
//! Who had to give way for others to be taken sets a *rolling minimum*: less is not worth sending again before it has
//! decayed (Bitcoin Core's `GetMinFee`; counted in blocks here).
//!
//! [`Mempool::check`] costs a look at an account; [`CheckedTransaction::check`] verifies signatures, needs no mempool and is
//! for all cores at once; [`Mempool::insert`] takes only what has been through it.
//!
//! [`Changes::transact`]: ocelli_consensus::transition::Changes::transact

mod admission;
mod entry;
mod error;
mod follow;
mod order;
mod pending;
mod rate;
mod selection;

use std::collections::{BTreeMap, BTreeSet};

use ocelli_consensus::block::Answer;
use ocelli_consensus::header::{ParentBlock, Place};
use ocelli_consensus::object::{ObjectId, StateReader};
use ocelli_consensus::rules::TransactionError;
use ocelli_consensus::transition::{self};
use ocelli_consensus::{Address, Amount, AttachmentHash, CheckedTransaction, Network, Transaction, TxId, WtxId};

use crate::message::{MAX_INLINE_ATTACHMENT, ShortId, Submission};
use admission::{Admission, Candidate, Room};
use order::{Order, Sender};
use selection::{Change, HandedOut};

pub use entry::{MempoolEntry, PendingTask, bytes_with, ripe_age};
pub use error::{AdmitError, Blame, Holds, MempoolError};
pub use follow::{Changes, Disconnected, Returned};
pub use pending::{FeeRates, Pending};
pub use rate::FeeRate;

/// Grains that each weight unit costs at least. A first choice: a CIFAR-10 task pays about 0.0001 credits.
pub const MIN_FEE_RATE: u64 = 1;
/// Pending transactions of one sender.
pub const MAX_PENDING: usize = 64;
/// Nonces beyond the first missing one that are kept: as many as a sender may have pending, for they are fetched from
/// several peers at once and in any order.
pub const MAX_GAP: u64 = MAX_PENDING as u64;
/// Bytes held, attachments included, unless another bound is given.
pub const DEFAULT_LIMIT_BYTES: usize = 64 << 20;
/// The share of these for what waits for a missing nonce, one in so many: 8 MiB unless another bound is given. A first choice.
pub const WAITING_SHARE: usize = 8;
/// One sender's share of that, one in so many: 2 MiB, which holds 63 CIFAR-10 tasks many times. A first choice.
pub const SENDER_SHARE: usize = 4;
/// Blocks that a transaction waits for a missing nonce: two minutes on the testnet, where an honest one comes within seconds.
/// A first choice.
pub const WAITING_BLOCKS: u64 = 16;
/// Milliseconds after which a miner takes what is ready, at most: 99 of a hundred mempools have it by then, and what a block holds
/// that others lack costs them a question each, and the block their time (`docs/scaling.md`, measured).
pub const RIPE_MILLIS: u64 = 2_000;
/// Where blocks come faster, so much of the time between them, one part in so many. A first choice.
pub const RIPE_SHARE: u64 = 5;
/// Blocks in which the rolling minimum halves: five minutes on the testnet. A first choice.
pub const ROLLING_HALF_LIFE: u64 = 32;

/// The chain as admission sees it, at the tip that the mempool has followed last; and what time it is.
#[derive(Debug)]
pub struct Tip<'a, R> {
    pub network: &'a Network,
    /// Of the tip.
    pub height: u64,
    /// The tip's, in seconds since 1970.
    pub time: u64,
    /// At the tip.
    pub state: &'a R,
    /// Monotonic milliseconds since any start, never less than before.
    pub now: u64,
}

impl<R> Tip<'_, R> {
    /// The next block's place. Who mines it does not matter to its transactions.
    pub fn place(&self) -> Place {
        self.network.place_after(ParentBlock { height: self.height, time: self.time }, Address([0; 20]))
    }
}

impl<R: StateReader> Tip<'_, R> {
    /// Lets a transaction follow on changes to the state, as the next block would.
    fn transact(
        &self,
        changes: &mut transition::Changes,
        transaction: &Transaction,
    ) -> Result<Result<(), TransactionError>, R::Error> {
        changes.transact(&self.network.parameters, &self.place(), transaction, self.state)
    }
}

/// Whether a transaction can be mined now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// All nonces before it are confirmed or here.
    Ready,
    /// A nonce before it is missing: not to be forwarded yet.
    Gap,
}

/// A transaction was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inserted {
    /// Whether it can be mined.
    pub readiness: Readiness,
    /// Those after it that it made ready, in order: to be forwarded now.
    pub promoted: Vec<TxId>,
    /// Those that had to go for it.
    pub evicted: Vec<TxId>,
}

/// The pending transactions.
#[derive(Debug)]
pub struct Mempool {
    senders: BTreeMap<Address, Sender>,
    /// Sender and nonce by id.
    places: BTreeMap<TxId, (Address, u64)>,
    wtxids: BTreeMap<WtxId, TxId>,
    /// Sender and nonce by the last height.
    expiries: BTreeSet<(u64, Address, u64)>,
    /// Sender and nonce by what they touch beside the sender's account and do not only read.
    touched: BTreeSet<(ObjectId, Address, u64)>,
    /// Of those that are ready, who creates what only one transaction can.
    creators: BTreeMap<ObjectId, TxId>,
    order: Order,
    shown: Pending,
    limit: usize,
    /// Of the tip.
    height: u64,
    /// Moves of the tip that were followed.
    moves: u64,
    /// The fee rate that outbids the last that was evicted for room, and the tip's height then.
    rolling: Option<(FeeRate, u64)>,
    /// Set while [`Mempool::tasks_to_run`] would find nothing, so that asking again costs nothing.
    handed_out: Option<HandedOut>,
}

impl Default for Mempool {
    fn default() -> Self {
        Self::new(DEFAULT_LIMIT_BYTES, 0)
    }
}

impl Mempool {
    /// An empty mempool that holds at most `limit` bytes, counted as [`MempoolEntry::bytes`] does, at a tip of that height.
    pub fn new(limit: usize, height: u64) -> Self {
        Self {
            senders: BTreeMap::new(),
            places: BTreeMap::new(),
            wtxids: BTreeMap::new(),
            expiries: BTreeSet::new(),
            touched: BTreeSet::new(),
            creators: BTreeMap::new(),
            order: Order::default(),
            shown: Pending::default(),
            limit,
            height,
            moves: 0,
            rolling: None,
            handed_out: None,
        }
    }

    /// Takes a transaction.
    ///
    /// # Errors
    /// [`MempoolError`] names the rule, and nothing has changed then; or the reader's error, after which this mempool is of no use.
    pub fn insert<R: StateReader>(
        &mut self,
        checked: CheckedTransaction,
        tip: &Tip<'_, R>,
    ) -> Result<Inserted, AdmitError<R::Error>> {
        let candidate = Candidate::of(checked.transaction(), (checked.txid(), checked.sender()), tip)?;
        let Admission { victims: mut evicted, dearest, nonce, after } = self.admit(&candidate, tip)?;
        let (txid, address, size) = (candidate.txid, candidate.sender, candidate.size);
        let before: BTreeSet<TxId> = self.ready_of(address).collect();
        for victim in &evicted {
            self.take(victim);
        }
        self.raise_minimum(dearest);
        let new = MempoolEntry::new(checked, size, Answer::None, self.height);
        let rate = new.fee_rate();
        self.put(new, nonce);
        if let Some(after) = after {
            self.set_ready(address, after, tip.now);
            self.changed_at(rate, Change::New);
            evicted.extend(self.promote(address, Room::Made, tip).map_err(AdmitError::Reader)?);
        }
        let ready: Vec<TxId> = self.ready_of(address).collect();
        let readiness = if ready.contains(&txid) { Readiness::Ready } else { Readiness::Gap };
        let promoted = ready.into_iter().filter(|id| *id != txid && !before.contains(id)).collect();
        Ok(Inserted { readiness, promoted, evicted })
    }

    /// Whether [`Mempool::insert`] would take a transaction: all that is cheap, before its signatures are verified and its
    /// attachment is looked at or even fetched.
    ///
    /// # Errors
    /// As there.
    pub fn check<R: StateReader>(
        &self,
        transaction: &Transaction,
        tip: &Tip<'_, R>,
    ) -> Result<(), AdmitError<R::Error>> {
        let candidate = Candidate::of(transaction, (transaction.txid(), transaction.sender()), tip)?;
        self.admit(&candidate, tip).map(|_| ())
    }

    /// Drops what carries an attachment; what comes after it of the same sender waits from now on. The ids of what is gone.
    pub fn drop_attachment(&mut self, attachment: &AttachmentHash) -> Vec<TxId> {
        let carries_it = |entry: &&MempoolEntry| entry.transaction().carries(attachment);
        let gone: Vec<TxId> = self.iter().filter(carries_it).map(MempoolEntry::txid).collect();
        gone.iter().for_each(|txid| drop(self.take(txid)));
        gone
    }

    /// Notes a task's answer.
    pub fn set_answer(&mut self, txid: &TxId, answer: Answer) {
        if let Some(entry) = self.get_mut(txid) {
            entry.answer = answer;
            entry.running = false;
        }
    }

    /// Notes that a task handed out by [`Mempool::tasks_to_run`] gave no result: it is handed out again.
    pub fn task_failed(&mut self, txid: &TxId) {
        if let Some(entry) = self.get_mut(txid) {
            entry.running = false;
            self.handed_out = None;
        }
    }

    /// Forgets all answers: the device that gave them turned out faulty. Every task is handed out again.
    pub fn clear_answers(&mut self) {
        for entry in self.senders.values_mut().flat_map(|sender| sender.pending.values_mut()) {
            entry.answer = Answer::None;
            entry.running = false;
        }
        self.handed_out = None;
    }

    /// The fee rate at which a ready transaction of so many bytes, counted as [`MempoolEntry::bytes`] does, gets in: nothing that
    /// pays less does.
    pub fn minimum_rate(&self, bytes: usize) -> FeeRate {
        let mut excess = (self.order.ready_bytes + bytes).saturating_sub(self.ready_limit());
        let dearest = self.for_room(None).take_while(|victim| {
            let is_needed = excess > 0;
            excess = excess.saturating_sub(victim.bytes());
            is_needed
        });
        let dearest = dearest.map(MempoolEntry::fee_rate).max();
        dearest.map_or(FeeRate::default(), FeeRate::above).max(self.rolling_minimum())
    }

    /// The fee rate with which a transaction of so many bytes would be among the first of so much weight, as things stand.
    pub fn rate_within(&self, weight: u64, bytes: usize) -> FeeRate {
        self.order.rates.within(weight).unwrap_or_default().max(self.minimum_rate(bytes))
    }

    /// The lowest nonce of a sender that is neither confirmed (`nonce` is its account's) nor here.
    pub fn next_nonce(&self, sender: Address, nonce: u64) -> u64 {
        self.senders.get(&sender).map_or(nonce, |sender| sender.next)
    }

    /// By id.
    pub fn get(&self, txid: &TxId) -> Option<&MempoolEntry> {
        let (sender, nonce) = self.places.get(txid)?;
        self.senders.get(sender)?.pending.get(nonce)
    }

    /// By id with signature.
    pub fn get_by_wtxid(&self, wtxid: &WtxId) -> Option<&MempoolEntry> {
        self.get(self.wtxids.get(wtxid)?)
    }

    /// By the first bytes of its id with signature.
    pub fn get_by_short_id(&self, id: ShortId) -> Option<&MempoolEntry> {
        let (wtxid, txid) = self.wtxids.range(id.first()..).next()?;
        if ShortId::of(wtxid) == id { self.get(txid) } else { None }
    }

    /// The short ids of those without a gap before them, in the order of ids, from one on, at most `limit`.
    pub fn ready_from(&self, from: ShortId, limit: usize) -> Vec<ShortId> {
        let is_ready = |txid: &TxId| self.get(txid).is_some_and(MempoolEntry::is_ready);
        let ready = self.wtxids.range(from.first()..).filter(|(_, txid)| is_ready(txid));
        ready.map(|(wtxid, _)| ShortId::of(wtxid)).take(limit).collect()
    }

    /// A transaction as it is given to who asks for it by its short id: without its attachment if that is large.
    pub fn to_relay(&self, id: ShortId) -> Option<Submission> {
        let entry = self.get_by_short_id(id)?;
        let attachment = entry.attachment().filter(|attachment| attachment.len() <= MAX_INLINE_ATTACHMENT);
        Some(Submission { transaction: entry.transaction().clone(), attachment: attachment.cloned() })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Bytes held, counted as [`MempoolEntry::bytes`] does.
    pub fn bytes(&self) -> usize {
        self.order.ready_bytes + self.order.waiting_bytes
    }

    /// All, by sender and nonce.
    pub fn iter(&self) -> impl Iterator<Item = &MempoolEntry> {
        self.senders.values().flat_map(|sender| sender.pending.values())
    }

    /// All without a gap before them, by sender and nonce.
    pub fn ready_to_forward(&self) -> impl Iterator<Item = &MempoolEntry> {
        self.senders.values().flat_map(Sender::ready)
    }

    /// All as it is now, for others to look at.
    pub fn pending(&self) -> Pending {
        self.shown.clone()
    }

    /// What it costs now for a transaction of so many bytes, as [`Mempool::rate_within`] and [`Mempool::minimum_rate`] say.
    pub fn fee_rates(&self, bytes: usize) -> FeeRates {
        FeeRates::new(self.order.rates.steps(), self.minimum_rate(bytes))
    }

    /// All, in an order in which a sender's nonces ascend. They are shared, not copied: for another thread to write down.
    pub fn snapshot(&self) -> Vec<CheckedTransaction> {
        self.iter().map(|entry| entry.checked().clone()).collect()
    }

    fn waiting_limit(&self) -> usize {
        self.limit / WAITING_SHARE
    }

    fn ready_limit(&self) -> usize {
        self.limit - self.waiting_limit()
    }

    /// The fee rate below which nothing is looked at.
    fn rolling_minimum(&self) -> FeeRate {
        let rolling = self.rolling.map_or(FeeRate::default(), |(rate, since)| {
            let halvings = self.height.saturating_sub(since) / ROLLING_HALF_LIFE;
            rate.halved(u32::try_from(halvings).unwrap_or(u32::MAX))
        });
        rolling.max(FeeRate::of(Amount(MIN_FEE_RATE), 1))
    }

    fn ready_of(&self, sender: Address) -> impl Iterator<Item = TxId> {
        self.senders.get(&sender).into_iter().flat_map(Sender::ready).map(MempoolEntry::txid)
    }

    fn get_mut(&mut self, txid: &TxId) -> Option<&mut MempoolEntry> {
        let (sender, nonce) = self.places.get(txid)?;
        self.senders.get_mut(sender)?.pending.get_mut(nonce)
    }
}

#[cfg(test)]
mod tests;
