//! Pending transactions: what may wait here, who gives way when room is short, what runs and what is mined next.
//!
//! A transaction becomes *ready* by the function that a block's transactions go through ([`Overlay::transact`]), on the state
//! of the tip with the sender's ready transactions before it. Others' transactions, and a miner's pay, only add to the
//! accounts that it reads, so it still follows with any of them before it, in any order: **every template connects**. What
//! another's pending transaction would have to pay or create first is refused until it is in a block. Where a block is taken
//! back, every sender is applied anew who touches what that block did.
//!
//! Those beyond a missing nonce *wait*: neither forwarded nor run, in room of their own, and not for long. Nobody knows
//! whether the missing one will ever come, so they take nothing from those that are ready.
//!
//! Who had to give way for others to be taken sets a *rolling minimum*: less is not worth sending again before it has
//! decayed (Bitcoin Core's `GetMinFee`; counted in blocks here, for nothing in this crate reads a clock).
//!
//! [`Mempool::check`] costs a look at an account; [`CheckedTransaction::check`] verifies signatures, needs no mempool and is
//! for all cores at once; [`Mempool::insert`] takes only what has been through it.

mod entry;
mod error;
mod pending;
mod rate;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use ocelli_consensus::block::Output;
use ocelli_consensus::rules::weight;
use ocelli_consensus::transaction::Touch;
use ocelli_consensus::transition::{Overlay, StateReader, TransactionError};
use ocelli_consensus::{Address, Amount, CheckedTransaction, Parameters, Transaction, TxId, WtxId};

use crate::message::{MAX_INLINE_PIXELS, ShortId, Submission};
use rate::RateIndex;

pub use entry::{Entry, PendingTask, bytes_with};
pub use error::{Blame, Holds, InsertError, MempoolError};
pub use pending::{FeeRates, Pending};
pub use rate::FeeRate;

/// Grains that each weight unit costs at least. A first choice: a CIFAR-10 task pays about 0.0001 credits.
pub const MIN_FEE_RATE: u64 = 1;
/// Pending transactions of one sender.
pub const MAX_PENDING: usize = 64;
/// Nonces beyond the first missing one that are kept: as many as a sender may have pending, for they are fetched from
/// several peers at once and in any order.
pub const MAX_GAP: u64 = MAX_PENDING as u64;
/// Bytes held, pixels included, unless another bound is given.
pub const DEFAULT_LIMIT_BYTES: usize = 64 << 20;
/// The share of these for what waits for a missing nonce, one in so many: 8 MiB unless another bound is given. A first choice.
pub const WAITING_SHARE: usize = 8;
/// One sender's share of that, one in so many: 2 MiB, which holds 63 CIFAR-10 tasks many times. A first choice.
pub const SENDER_SHARE: usize = 4;
/// Blocks that a transaction waits for a missing nonce: two minutes on the testnet, where an honest one comes within seconds.
/// A first choice.
pub const WAITING_BLOCKS: u64 = 16;
/// Blocks in which the rolling minimum halves: five minutes on the testnet. A first choice.
pub const ROLLING_HALF_LIFE: u64 = 32;
/// Senders whose next transaction did not fit, one after the other, after which packing stops.
const MAX_MISSES: usize = 1000;

/// The chain as admission sees it: at the tip that the mempool has followed last.
#[derive(Debug)]
pub struct Tip<'a, R> {
    /// The network's.
    pub parameters: &'a Parameters,
    /// Of the tip.
    pub height: u64,
    /// Accounts at the tip.
    pub state: &'a R,
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

/// What a new tip changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Gone: included, stale, expired, no longer possible, or for want of room.
    pub removed: Vec<TxId>,
    /// Ready that were not before, those of disconnected blocks among them: to be forwarded now.
    pub promoted: Vec<TxId>,
}

/// A block that was taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disconnected {
    /// Whose pay went with it.
    pub miner: Address,
    /// In its order.
    pub transactions: Vec<Returned>,
}

/// A transaction of a disconnected block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Returned {
    /// What the block held.
    pub transaction: Transaction,
    /// Its pixels, if they are kept.
    pub pixels: Option<Arc<[u8]>>,
    /// Its output in the block, which this node has checked.
    pub output: Output,
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
    /// Sender and nonce by the account that is credited.
    credits: BTreeSet<(Address, Address, u64)>,
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

/// What follows from what each sender has pending.
#[derive(Debug, Default, PartialEq, Eq)]
struct Order {
    /// Each sender by the fee rate of its last ready transaction: the order in which to make room.
    tails: BTreeSet<(FeeRate, Address)>,
    /// Each sender by the fee rate of its first transaction that can be mined, dearest last: the order of packing.
    heads: BTreeSet<(FeeRate, Reverse<Address>)>,
    /// Each sender by the bytes that it has waiting.
    queues: BTreeSet<(usize, Address)>,
    /// The weight of what is ready, by what has to be paid to come before it.
    rates: RateIndex,
    ready_bytes: usize,
    waiting_bytes: usize,
}

/// All tasks within a budget have been handed out.
#[derive(Debug, Clone, Copy)]
struct HandedOut {
    budget: u64,
    /// The lowest fee rate within it; `None` while all that is ready fits, so that whatever comes does too.
    lowest: Option<FeeRate>,
}

/// What one account has pending; never empty in the map.
#[derive(Debug, Default)]
struct Sender {
    /// Of its account at the tip.
    nonce: u64,
    /// The lowest that is missing: those before it are ready, those after it wait.
    next: u64,
    pending: BTreeMap<u64, Entry>,
    /// Accounts after those that are ready, and after how many moves of the tip that was so.
    after: Option<(u64, Overlay)>,
}

/// What is to be taken, or might be.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    transaction: &'a Transaction,
    txid: TxId,
    sender: Address,
    weight: u64,
    bytes: usize,
}

/// What taking it would mean.
struct Admission {
    /// Those that have to go for it.
    victims: Vec<TxId>,
    /// The best fee rate of those that go for want of room.
    dearest: Option<FeeRate>,
    /// Of the sender's account.
    nonce: u64,
    /// Accounts after it; `None` where it has to wait.
    after: Option<Overlay>,
}

/// Whether those that become ready have to make room for themselves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    Made,
    /// It is looked for when all have.
    Later,
}

static NOTHING_PENDING: BTreeMap<u64, Entry> = BTreeMap::new();

impl Default for Mempool {
    fn default() -> Self {
        Self::new(DEFAULT_LIMIT_BYTES, 0)
    }
}

impl Mempool {
    /// An empty mempool that holds at most `limit` bytes, counted as [`Entry::bytes`] does, at a tip of that height.
    pub fn new(limit: usize, height: u64) -> Self {
        Self {
            senders: BTreeMap::new(),
            places: BTreeMap::new(),
            wtxids: BTreeMap::new(),
            expiries: BTreeSet::new(),
            credits: BTreeSet::new(),
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
    /// [`MempoolError`] names the rule, or the reader's error; nothing has changed then.
    pub fn insert<R: StateReader>(
        &mut self,
        checked: CheckedTransaction,
        tip: &Tip<'_, R>,
    ) -> Result<Inserted, InsertError<R::Error>> {
        let candidate = Candidate::of(&checked, tip)?;
        let Admission { victims: mut evicted, dearest, nonce, after } = self.admit(&candidate, tip)?;
        let (txid, address, weight) = (candidate.txid, candidate.sender, candidate.weight);
        let before: BTreeSet<TxId> = self.ready_of(address).collect();
        for victim in &evicted {
            self.take(victim);
        }
        self.raise_minimum(dearest);
        let new = Entry::new(checked, weight, None, self.height);
        let rate = new.fee_rate();
        self.put(new, nonce);
        if let Some(after) = after {
            self.set_ready(address, after);
            self.changed_at(rate, Change::New);
            evicted.extend(self.promote(address, Room::Made, tip).map_err(InsertError::Reader)?);
        }
        let ready: Vec<TxId> = self.ready_of(address).collect();
        let readiness = if ready.contains(&txid) { Readiness::Ready } else { Readiness::Gap };
        let promoted = ready.into_iter().filter(|id| *id != txid && !before.contains(id)).collect();
        Ok(Inserted { readiness, promoted, evicted })
    }

    /// Whether [`Mempool::insert`] would take a transaction: all that is cheap, before its signatures are verified and its
    /// pixels, of which there will be so many bytes, are looked at or even fetched.
    ///
    /// # Errors
    /// As there.
    pub fn check<R: StateReader>(
        &self,
        transaction: &Transaction,
        pixels: usize,
        tip: &Tip<'_, R>,
    ) -> Result<(), InsertError<R::Error>> {
        let (txid, sender) = (transaction.txid(), transaction.sender());
        let weight = weight_at(transaction, tip)?;
        let candidate = Candidate { transaction, txid, sender, weight, bytes: entry::bytes(transaction, pixels) };
        self.admit(&candidate, tip).map(|_| ())
    }

    /// Follows the chain to a new tip: what is in a block leaves, what is in none any more comes back, whatever it pays, and
    /// what else has the same sender and nonce gives way to it; what cannot be mined any more goes.
    ///
    /// `disconnected` are the blocks taken back and `connected` the transactions of those that took their place, both the
    /// lowest first.
    ///
    /// # Errors
    /// The reader's. Then this mempool is of no use any more.
    pub fn on_tip_moved<'a, R: StateReader>(
        &mut self,
        disconnected: Vec<Disconnected>,
        connected: impl IntoIterator<Item = &'a Transaction>,
        tip: &Tip<'_, R>,
    ) -> Result<Changes, R::Error> {
        let is_lower = tip.height < self.height;
        (self.height, self.moves, self.handed_out) = (tip.height, self.moves + 1, None);
        let before: BTreeSet<TxId> = match disconnected.is_empty() {
            true => BTreeSet::new(),
            false => self.iter().filter(|entry| entry.is_ready()).map(Entry::txid).collect(),
        };
        let mut changes = Changes::default();
        let mut senders: BTreeSet<Address> = connected.into_iter().map(Transaction::sender).collect();
        for block in disconnected {
            self.who_touches(block.miner, &mut senders);
            for returned in block.transactions {
                for touch in returned.transaction.touches() {
                    self.who_touches(touch.address(), &mut senders);
                }
                changes.removed.extend(self.take_back(returned, tip)?);
            }
        }
        changes.removed.extend(self.expire());
        if is_lower {
            // Below an upgrade its models are not offered.
            let is_early = |entry: &&Entry| weight_at(entry.transaction(), tip).is_err();
            let early: Vec<TxId> = self.iter().filter(is_early).map(Entry::txid).collect();
            changes.removed.extend(early.iter().filter_map(|txid| self.take(txid)).map(|entry| entry.txid()));
        }
        for sender in senders {
            self.apply_anew(sender, tip, &mut changes)?;
        }
        changes.removed.extend(self.end_waiting());
        while self.order.ready_bytes > self.ready_limit() {
            let Some(&(_, sender)) = self.order.tails.first() else { break };
            let tail = self.senders[&sender].ready().next_back().map(Entry::txid);
            let Some(txid) = tail.and_then(|txid| self.take(&txid)).map(|entry| entry.txid()) else { break };
            changes.removed.push(txid);
        }
        let gone: BTreeSet<TxId> = changes.removed.iter().copied().collect();
        changes.promoted.retain(|txid| !gone.contains(txid) && !before.contains(txid));
        Ok(changes)
    }

    /// Notes a task's logits.
    pub fn set_output(&mut self, txid: &TxId, logits: Vec<i32>) {
        if let Some(entry) = self.get_mut(txid) {
            entry.output = Some(logits);
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

    /// Forgets all outputs: the device that gave them turned out faulty. Every task is handed out again.
    pub fn clear_outputs(&mut self) {
        for entry in self.senders.values_mut().flat_map(|sender| sender.pending.values_mut()) {
            entry.output = None;
            entry.running = false;
        }
        self.handed_out = None;
    }

    /// Hands out tasks to run, best fee rate first: those without output among what fits `weight_budget` (the next few
    /// blocks), at most `max`. A task is handed out once, until it has an output or [`Mempool::task_failed`].
    ///
    /// To be called after every change, however small: it looks through the budget only when the last change can have brought a
    /// task into it. Where more is ready than fits, what pays no more than the last that fits waits until something within the budget
    /// goes.
    pub fn tasks_to_run(&mut self, weight_budget: u64, max: usize) -> Vec<PendingTask> {
        if self.handed_out.is_some_and(|handed_out| handed_out.budget == weight_budget) {
            return Vec::new();
        }
        let (mut tasks, mut lowest) = (Vec::new(), None);
        let end = self.walk(weight_budget, |entry| {
            if tasks.len() == max {
                return Step::Stop;
            }
            if entry.output.is_none() && !entry.running {
                tasks.extend(entry.task());
            }
            lowest = Some(lowest.map_or(entry.fee_rate(), |lowest: FeeRate| lowest.min(entry.fee_rate())));
            Step::Take
        });
        self.handed_out = match end {
            End::Stopped => None,
            End::All => Some(HandedOut { budget: weight_budget, lowest: None }),
            End::Full => Some(HandedOut { budget: weight_budget, lowest: Some(lowest.unwrap_or_default()) }),
        };
        for task in &tasks {
            if let Some(entry) = self.get_mut(&task.txid) {
                entry.running = true;
            }
        }
        tasks
    }

    /// What to mine: the best fee rates first, nonces of a sender in order, in all at most `weight_limit`. A task without
    /// output is left out, and so are its sender's later transactions. All of it follows on the state of the tip.
    pub fn template(&self, weight_limit: u64) -> Vec<&Entry> {
        let mut entries = Vec::new();
        self.walk(weight_limit, |entry| {
            if !entry.is_answered() {
                return Step::SkipSender;
            }
            entries.push(entry);
            Step::Take
        });
        entries
    }

    /// The fee rate at which a ready transaction of so many bytes, counted as [`Entry::bytes`] does, gets in: nothing that
    /// pays less does.
    pub fn minimum_rate(&self, bytes: usize) -> FeeRate {
        let mut excess = (self.order.ready_bytes + bytes).saturating_sub(self.ready_limit());
        let dearest = self.for_room(None).take_while(|victim| {
            let is_needed = excess > 0;
            excess = excess.saturating_sub(victim.bytes());
            is_needed
        });
        let dearest = dearest.map(Entry::fee_rate).max();
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
    pub fn get(&self, txid: &TxId) -> Option<&Entry> {
        let (sender, nonce) = self.places.get(txid)?;
        self.senders.get(sender)?.pending.get(nonce)
    }

    /// By id with signature.
    pub fn get_by_wtxid(&self, wtxid: &WtxId) -> Option<&Entry> {
        self.get(self.wtxids.get(wtxid)?)
    }

    /// By the first bytes of its id with signature.
    pub fn get_by_short_id(&self, id: ShortId) -> Option<&Entry> {
        let (wtxid, txid) = self.wtxids.range(id.first()..).next()?;
        if ShortId::of(wtxid) == id { self.get(txid) } else { None }
    }

    /// The short ids of those without a gap before them, in the order of ids, from one on, at most `limit`.
    pub fn ready_from(&self, from: ShortId, limit: usize) -> Vec<ShortId> {
        let is_ready = |txid: &TxId| self.get(txid).is_some_and(Entry::is_ready);
        let ready = self.wtxids.range(from.first()..).filter(|(_, txid)| is_ready(txid));
        ready.map(|(wtxid, _)| ShortId::of(wtxid)).take(limit).collect()
    }

    /// A transaction as it is given to who asks for it by its short id: without its pixels if they are large.
    pub fn to_relay(&self, id: ShortId) -> Option<Submission> {
        let entry = self.get_by_short_id(id)?;
        let pixels = entry.pixels().filter(|pixels| pixels.len() <= MAX_INLINE_PIXELS);
        Some(Submission { transaction: entry.transaction().clone(), pixels: pixels.map(|pixels| pixels.to_vec()) })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Bytes held, counted as [`Entry::bytes`] does.
    pub fn bytes(&self) -> usize {
        self.order.ready_bytes + self.order.waiting_bytes
    }

    /// All, by sender and nonce.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.senders.values().flat_map(|sender| sender.pending.values())
    }

    /// All without a gap before them, by sender and nonce.
    pub fn ready_to_forward(&self) -> impl Iterator<Item = &Entry> {
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

    /// What taking a transaction would mean.
    fn admit<R: StateReader>(&self, new: &Candidate<'_>, tip: &Tip<'_, R>) -> Result<Admission, InsertError<R::Error>> {
        self.check_alone(new, tip)?;
        let (nonce, next, pending) = match self.senders.get(&new.sender) {
            Some(sender) => (sender.nonce, sender.next, &sender.pending),
            None => {
                let account = tip.state.account(&new.sender).map_err(InsertError::Reader)?.unwrap_or_default();
                (account.nonce, account.nonce, &NOTHING_PENDING)
            }
        };
        if new.nonce() < nonce {
            return Err(MempoolError::NonceUsed { found: new.nonce(), expected: nonce }.into());
        }
        let replaced = pending.get(&new.nonce());
        let mut victims: Vec<&Entry> = replaced.into_iter().collect();
        if replaced.is_none() && pending.len() >= MAX_PENDING {
            // The last gives way to what comes before it, unless that would cost one that is ready.
            let last = pending.last_key_value().map(|(_, last)| last);
            let last = last.filter(|last| !last.is_ready() && last.nonce() > new.nonce());
            victims.push(last.ok_or(MempoolError::TooManyPending { limit: MAX_PENDING })?);
        }
        let (mut after, mut dearest) = (None, None);
        if new.nonce() <= next {
            let mut accounts = self.accounts_before(new.sender, new.nonce(), tip).map_err(InsertError::Reader)?;
            let mut transact = |transaction: &Transaction| {
                accounts.transact(tip.parameters, transaction, tip.state).map_err(InsertError::Reader)
            };
            transact(new.transaction)?.map_err(MempoolError::Transition)?;
            after = Some(accounts.clone());
            // Those after it follow again, or go with the first that does not.
            let mut transact = |transaction: &Transaction| {
                accounts.transact(tip.parameters, transaction, tip.state).map_err(InsertError::Reader)
            };
            let mut follows = true;
            for entry in pending.range(new.nonce().saturating_add(1)..next.max(new.nonce().saturating_add(1))) {
                follows = follows && transact(entry.1.transaction())?.is_ok();
                if !follows {
                    victims.push(entry.1);
                }
            }
            let freed = victims.iter().filter(|victim| victim.is_ready()).map(|victim| victim.bytes()).sum();
            let room = self.victims_for_room(new, freed)?;
            dearest = room.iter().map(|victim| victim.fee_rate()).max();
            victims.extend(room);
        } else {
            self.check_gap(new, next)?;
            self.check_promise(new, pending, next, tip)?;
            self.make_room_to_wait(new, next, pending, &mut victims)?;
        }
        if replaced.is_some() {
            let own = minimum_fee(new.weight).0;
            let fees = victims.iter().map(|victim| victim.fee().0).fold(own, u64::saturating_add);
            if new.fee().0 < fees {
                return Err(MempoolError::ReplacementFeeTooLow { found: new.fee(), expected: Amount(fees) }.into());
            }
        }
        Ok(Admission { victims: victims.iter().map(|victim| victim.txid()).collect(), dearest, nonce, after })
    }

    /// The checks that need neither the state nor another transaction.
    fn check_alone<R>(&self, new: &Candidate<'_>, tip: &Tip<'_, R>) -> Result<(), MempoolError> {
        if self.places.contains_key(&new.txid) {
            return Err(MempoolError::AlreadyKnown(new.txid));
        }
        if new.transaction.total().is_none() {
            return Err(MempoolError::TotalOverflow);
        }
        let (expires, next) = (new.transaction.unsigned.expires, tip.height.saturating_add(1));
        if expires < next {
            return Err(MempoolError::Expired { expires, next });
        }
        if new.weight > tip.parameters.weight_limit {
            return Err(MempoolError::TooHeavy { found: new.weight, limit: tip.parameters.weight_limit });
        }
        if new.bytes > self.ready_limit() {
            return Err(MempoolError::TooLarge { found: new.bytes, limit: self.ready_limit() });
        }
        let least = minimum_fee(new.weight).max(self.rolling_minimum().fee(new.weight));
        if new.fee() < least {
            return Err(MempoolError::FeeTooLow { found: new.fee(), expected: least });
        }
        Ok(())
    }

    fn check_gap(&self, new: &Candidate<'_>, next: u64) -> Result<(), MempoolError> {
        if new.nonce() - next > MAX_GAP {
            return Err(MempoolError::NonceTooFarAhead { found: new.nonce(), next, limit: MAX_GAP });
        }
        Ok(())
    }

    /// Whether a sender could pay what is to wait besides all that it has waiting.
    fn check_promise<R: StateReader>(
        &self,
        new: &Candidate<'_>,
        pending: &BTreeMap<u64, Entry>,
        next: u64,
        tip: &Tip<'_, R>,
    ) -> Result<(), InsertError<R::Error>> {
        let accounts = self.accounts_before(new.sender, next, tip).map_err(InsertError::Reader)?;
        let account = accounts.account(&new.sender, tip.state).map_err(InsertError::Reader)?;
        let balance = account.unwrap_or_default().balance;
        let others = pending.range(next..).filter(|(nonce, _)| **nonce != new.nonce());
        let waiting = others.map(|(_, entry)| entry.transaction()).chain([new.transaction]);
        let total = |transaction: &Transaction| u128::from(transaction.total().map_or(u64::MAX, |total| total.0));
        let needed = waiting.map(total).sum::<u128>();
        if needed > u128::from(balance.0) {
            let needed = Amount(u64::try_from(needed).unwrap_or(u64::MAX));
            return Err(MempoolError::Transition(TransactionError::Balance { balance, needed }).into());
        }
        Ok(())
    }

    /// Adds those that must go so that `new` may wait: later ones of its sender where that has its share, and of whoever has
    /// most waiting where all have theirs, as long as that is more than `new`'s sender would have.
    fn make_room_to_wait<'a>(
        &'a self,
        new: &Candidate<'_>,
        next: u64,
        pending: &'a BTreeMap<u64, Entry>,
        victims: &mut Vec<&'a Entry>,
    ) -> Result<(), MempoolError> {
        let no_room = MempoolError::NoRoomToWait { found: new.nonce(), next };
        let is_spared = |entry: &&Entry, victims: &[&Entry]| victims.iter().all(|victim| victim.txid() != entry.txid());
        let mut freed: usize = victims.iter().map(|victim| victim.bytes()).sum();
        let held: usize = pending.range(next..).map(|(_, entry)| entry.bytes()).sum();
        let mut later = pending.range(next..).rev().map(|(_, entry)| entry).take_while(|e| e.nonce() > new.nonce());
        while held - freed + new.bytes > self.waiting_limit() / SENDER_SHARE {
            let last = later.find(|entry| is_spared(entry, victims)).ok_or_else(|| no_room.clone())?;
            freed += last.bytes();
            victims.push(last);
        }
        let own = held - freed + new.bytes;
        let mut excess = (self.order.waiting_bytes - freed + new.bytes).saturating_sub(self.waiting_limit());
        for (length, address) in self.order.queues.iter().rev().filter(|(_, address)| *address != new.sender) {
            let mut left = *length;
            for entry in self.senders[address].waiting().rev() {
                if excess == 0 || left <= own {
                    break;
                }
                left -= entry.bytes();
                excess = excess.saturating_sub(entry.bytes());
                victims.push(entry);
            }
            if excess == 0 || *length <= own {
                break;
            }
        }
        if excess > 0 { Err(no_room) } else { Ok(()) }
    }

    /// Accounts after a sender's ready transactions before a nonce.
    fn accounts_before<R: StateReader>(
        &self,
        address: Address,
        nonce: u64,
        tip: &Tip<'_, R>,
    ) -> Result<Overlay, R::Error> {
        let Some(sender) = self.senders.get(&address) else { return Ok(Overlay::default()) };
        if let Some((_, after)) =
            sender.after.as_ref().filter(|(moves, _)| *moves == self.moves && nonce == sender.next)
        {
            return Ok(after.clone());
        }
        let mut accounts = Overlay::default();
        for (_, entry) in sender.pending.range(sender.nonce..nonce) {
            let followed = accounts.transact(tip.parameters, entry.transaction(), tip.state)?;
            debug_assert_eq!(followed, Ok(()), "what is ready has followed");
        }
        Ok(accounts)
    }

    /// Ready transactions in the order in which they go for want of room: the last of a sender, the lowest fee rate first, then
    /// the one before it. Those of `spared` stay: what is to come may depend on them.
    fn for_room(&self, spared: Option<Address>) -> impl Iterator<Item = &Entry> {
        let mut tails =
            self.order.tails.iter().copied().filter(move |(_, address)| Some(*address) != spared).peekable();
        let mut rests: BTreeMap<Address, _> = BTreeMap::new();
        // The next to last of those whose last goes already, and so on.
        let mut uncovered: BTreeSet<(FeeRate, Address)> = BTreeSet::new();
        std::iter::from_fn(move || {
            let from_uncovered = uncovered.first().is_some_and(|rest| tails.peek().is_none_or(|tail| rest < tail));
            let (_, address) = if from_uncovered { uncovered.pop_first() } else { tails.next() }?;
            let rest = rests.entry(address).or_insert_with(|| self.senders[&address].ready().rev().peekable());
            let victim = rest.next()?;
            uncovered.extend(rest.peek().map(|next| (next.fee_rate(), address)));
            Some(victim)
        })
    }

    /// Whom a transaction that is ready must displace so that the bound holds, when `freed` bytes go anyway.
    fn victims_for_room(&self, new: &Candidate<'_>, freed: usize) -> Result<Vec<&Entry>, MempoolError> {
        let mut excess = (self.order.ready_bytes - freed + new.bytes).saturating_sub(self.ready_limit());
        let (mut victims, mut all) = (Vec::new(), self.for_room(Some(new.sender)));
        while excess > 0 {
            let victim = all.next();
            let Some(victim) = victim.filter(|victim| victim.fee_rate() < new.fee_rate()) else {
                let lowest = victim.map_or(new.fee_rate(), Entry::fee_rate);
                return Err(MempoolError::Full { found: new.fee_rate(), lowest });
            };
            excess = excess.saturating_sub(victim.bytes());
            victims.push(victim);
        }
        Ok(victims)
    }

    /// Makes those of a sender ready that follow on the ones that are, and returns what had to go: the first that does not
    /// follow, and what gave way for room.
    fn promote<R: StateReader>(
        &mut self,
        address: Address,
        room: Room,
        tip: &Tip<'_, R>,
    ) -> Result<Vec<TxId>, R::Error> {
        let mut gone = Vec::new();
        let Some(next) = self.senders.get(&address).map(|sender| sender.next) else { return Ok(gone) };
        let mut after = self.accounts_before(address, next, tip)?;
        while let Some(entry) = self.senders.get(&address).and_then(|sender| sender.pending.get(&sender.next)) {
            let (txid, rate) = (entry.txid(), entry.fee_rate());
            let follows = after.transact(tip.parameters, entry.transaction(), tip.state)?.is_ok();
            let candidate = Candidate::of_entry(entry);
            let victims = match room {
                Room::Made if follows => self.victims_for_room(&candidate, 0).ok(),
                Room::Made | Room::Later => follows.then(Vec::new),
            };
            let Some(victims) = victims else {
                gone.extend(self.take(&txid).map(|entry| entry.txid()));
                return Ok(gone);
            };
            let dearest = victims.iter().map(|victim| victim.fee_rate()).max();
            let victims: Vec<TxId> = victims.iter().map(|victim| victim.txid()).collect();
            gone.extend(victims.iter().filter_map(|victim| self.take(victim)).map(|victim| victim.txid()));
            self.raise_minimum(dearest);
            self.set_ready(address, after.clone());
            self.changed_at(rate, Change::New);
        }
        Ok(gone)
    }

    /// Reads a sender's account anew and applies all that it has pending.
    fn apply_anew<R: StateReader>(
        &mut self,
        address: Address,
        tip: &Tip<'_, R>,
        changes: &mut Changes,
    ) -> Result<(), R::Error> {
        if !self.senders.contains_key(&address) {
            return Ok(());
        }
        let nonce = tip.state.account(&address)?.unwrap_or_default().nonce;
        let before: BTreeSet<TxId> = self.ready_of(address).collect();
        self.leave_order(address);
        let Some(sender) = self.senders.get_mut(&address) else { return Ok(()) };
        (sender.nonce, sender.next, sender.after) = (nonce, nonce, None);
        for entry in sender.pending.values_mut() {
            entry.waits_since.get_or_insert(self.height);
        }
        let stale: Vec<TxId> = sender.pending.range(..nonce).map(|(_, entry)| entry.txid()).collect();
        self.enter_order(address);
        changes.removed.extend(stale.iter().filter_map(|txid| self.take(txid)).map(|entry| entry.txid()));
        changes.removed.extend(self.promote(address, Room::Later, tip)?);
        changes.promoted.extend(self.ready_of(address).filter(|txid| !before.contains(txid)));
        // What came back may be more than one may have.
        if let Some(sender) = self.senders.get(&address) {
            let limit = sender.next.saturating_add(MAX_GAP);
            let surplus = sender
                .pending
                .values()
                .enumerate()
                .filter(|(index, entry)| *index >= MAX_PENDING || entry.nonce() > limit);
            let surplus: Vec<TxId> = surplus.map(|(_, entry)| entry.txid()).collect();
            changes.removed.extend(surplus.iter().rev().filter_map(|txid| self.take(txid)).map(|entry| entry.txid()));
        }
        Ok(())
    }

    /// Has a transaction of a disconnected block wait for its sender to be applied anew. What had to go for it.
    fn take_back<R: StateReader>(&mut self, returned: Returned, tip: &Tip<'_, R>) -> Result<Option<TxId>, R::Error> {
        let Ok(weight) = weight_at(&returned.transaction, tip) else { return Ok(None) };
        let Some(checked) = CheckedTransaction::from_connected(returned.transaction, returned.pixels) else {
            return Ok(None);
        };
        let nonce = tip.state.account(&checked.sender())?.unwrap_or_default().nonce;
        let unsigned = &checked.transaction().unsigned;
        if unsigned.nonce < nonce || unsigned.expires <= tip.height || self.places.contains_key(&checked.txid()) {
            return Ok(None);
        }
        let sender = self.senders.get(&checked.sender());
        let conflict = sender.and_then(|sender| sender.pending.get(&unsigned.nonce)).map(Entry::txid);
        let conflict = conflict.and_then(|txid| self.take(&txid)).map(|entry| entry.txid());
        self.put(Entry::new(checked, weight, returned.output, self.height), nonce);
        Ok(conflict)
    }

    /// Whose transactions read or write an account.
    fn who_touches(&self, address: Address, senders: &mut BTreeSet<Address>) {
        senders.insert(address);
        let (first, last) = (Address([0; 20]), Address([u8::MAX; 20]));
        let credits = self.credits.range((address, first, 0)..=(address, last, u64::MAX));
        senders.extend(credits.map(|(_, sender, _)| *sender));
    }

    /// Removes what no later block can hold.
    fn expire(&mut self) -> Vec<TxId> {
        let mut expired = Vec::new();
        while let Some((_, address, nonce)) = self.expiries.first().filter(|(expires, ..)| *expires <= self.height) {
            let txid = self.senders.get(address).and_then(|sender| sender.pending.get(nonce)).map(Entry::txid);
            let Some(entry) = txid.and_then(|txid| self.take(&txid)) else { break };
            expired.push(entry.txid());
        }
        expired
    }

    /// Removes what has waited too long, and what does not fit the room for what waits: the last of who has most.
    fn end_waiting(&mut self) -> Vec<TxId> {
        let since = self.height.saturating_sub(WAITING_BLOCKS);
        let waiting = self.order.queues.iter().flat_map(|(_, address)| self.senders[address].waiting());
        let late = waiting.filter(|entry| entry.waits_since.is_some_and(|from| from < since));
        let mut gone: Vec<TxId> = late.map(Entry::txid).collect();
        gone.iter().for_each(|txid| drop(self.take(txid)));
        let share = self.waiting_limit() / SENDER_SHARE;
        while let Some(&(length, address)) = self.order.queues.last()
            && (length > share || self.order.waiting_bytes > self.waiting_limit())
        {
            let last = self.senders[&address].waiting().next_back().map(Entry::txid);
            let Some(entry) = last.and_then(|txid| self.take(&txid)) else { break };
            gone.push(entry.txid());
        }
        gone
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

    /// The best of those that went for want of room paid so much.
    fn raise_minimum(&mut self, dearest: Option<FeeRate>) {
        if let Some(rate) = dearest {
            self.rolling = Some((rate.above().max(self.rolling_minimum()), self.height));
        }
    }

    /// Visits ready entries by fee rate, a sender's in the order of nonces, while their weights fit `budget`.
    fn walk<'a>(&'a self, budget: u64, mut visit: impl FnMut(&'a Entry) -> Step) -> End {
        let mut left = budget;
        let mut misses = 0;
        let mut end = End::All;
        let mut firsts = self.order.heads.iter().rev().peekable();
        // What follows on those that were taken.
        let mut nexts: BinaryHeap<(FeeRate, Reverse<Address>, u64)> = BinaryHeap::new();
        loop {
            let first = firsts.peek().map(|(rate, address)| (*rate, *address));
            let next = nexts.peek().map(|(rate, address, _)| (*rate, *address));
            let Some((_, Reverse(address))) = first.max(next) else { return end };
            let sender = &self.senders[&address];
            let nonce = if first > next {
                firsts.next();
                sender.nonce
            } else {
                nexts.pop().map_or(sender.nonce, |(.., nonce)| nonce)
            };
            let Some(entry) = sender.pending.get(&nonce) else { continue };
            if entry.weight() > left {
                end = End::Full;
                misses += 1;
                if misses == MAX_MISSES {
                    return end;
                }
                continue;
            }
            match visit(entry) {
                Step::Stop => return End::Stopped,
                Step::SkipSender => continue,
                Step::Take => {}
            }
            misses = 0;
            left -= entry.weight();
            let next = nonce.checked_add(1).and_then(|nonce| sender.pending.get(&nonce));
            if let Some(next) = next.filter(|next| next.is_ready()) {
                nexts.push((next.fee_rate(), Reverse(address), next.nonce()));
            }
        }
    }

    /// An entry becomes ready or goes that pays so much: a task may have come within the budget.
    fn changed_at(&mut self, rate: FeeRate, change: Change) {
        self.handed_out.take_if(|handed_out| match (handed_out.lowest, change) {
            // What goes makes room only where there is none.
            (None, Change::Gone) => false,
            (None, Change::New) => true,
            (Some(lowest), Change::New) => rate > lowest,
            (Some(lowest), Change::Gone) => rate >= lowest,
        });
    }

    fn ready_of(&self, sender: Address) -> impl Iterator<Item = TxId> {
        self.senders.get(&sender).into_iter().flat_map(Sender::ready).map(Entry::txid)
    }

    fn get_mut(&mut self, txid: &TxId) -> Option<&mut Entry> {
        let (sender, nonce) = self.places.get(txid)?;
        self.senders.get_mut(sender)?.pending.get_mut(nonce)
    }

    /// Adds one that waits; `nonce` is its sender's at the tip.
    fn put(&mut self, entry: Entry, nonce: u64) {
        let (address, unsigned) = (entry.checked().sender(), &entry.transaction().unsigned);
        self.places.insert(entry.txid(), (address, unsigned.nonce));
        self.wtxids.insert(entry.checked().wtxid(), entry.txid());
        self.shown.insert(entry.checked());
        self.expiries.insert((unsigned.expires, address, unsigned.nonce));
        self.credits.extend(credits(&entry));
        self.leave_order(address);
        let new = || Sender { nonce, next: nonce, ..Sender::default() };
        self.senders.entry(address).or_insert_with(new).pending.insert(entry.nonce(), entry);
        self.enter_order(address);
    }

    /// The first of a sender that waits is ready, with accounts as they are after it: it has just followed.
    fn set_ready(&mut self, address: Address, after: Overlay) {
        self.leave_order(address);
        if let Some(sender) = self.senders.get_mut(&address)
            && let Some(entry) = sender.pending.get_mut(&sender.next)
        {
            entry.waits_since = None;
            (sender.next, sender.after) = (sender.next.saturating_add(1), Some((self.moves, after)));
        }
        self.enter_order(address);
    }

    /// Removes one. Those after it wait from now on.
    fn take(&mut self, txid: &TxId) -> Option<Entry> {
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
        for credit in credits(&entry) {
            self.credits.remove(&credit);
        }
        if entry.is_ready() {
            self.changed_at(entry.fee_rate(), Change::Gone);
        }
        Some(entry)
    }

    /// A sender is about to change.
    fn leave_order(&mut self, address: Address) {
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
    }

    /// A sender has changed.
    fn enter_order(&mut self, address: Address) {
        self.shown.set_next(address, self.senders.get(&address).map(|sender| sender.next));
        let Some(sender) = self.senders.get(&address) else { return };
        let Ranks { tail, head, waiting, ready, rates } = sender.ranks();
        self.order.tails.extend(tail.map(|rate| (rate, address)));
        self.order.heads.extend(head.map(|rate| (rate, Reverse(address))));
        self.order.queues.extend((waiting > 0).then_some((waiting, address)));
        self.order.ready_bytes += ready;
        self.order.waiting_bytes += waiting;
        rates.for_each(|(rate, weight)| self.order.rates.add(rate, weight));
    }
}

/// Where a sender stands among all.
struct Ranks<I> {
    tail: Option<FeeRate>,
    head: Option<FeeRate>,
    waiting: usize,
    ready: usize,
    rates: I,
}

/// What to do after a visit to an entry.
enum Step {
    /// It counts against the budget; its sender's next follows.
    Take,
    /// Neither it nor its sender's later ones.
    SkipSender,
    /// No more.
    Stop,
}

/// How a walk ended.
enum End {
    /// All that is ready was visited.
    All,
    /// Some of it did not fit.
    Full,
    /// A visit wanted no more.
    Stopped,
}

/// What happened to an entry.
#[derive(Clone, Copy)]
enum Change {
    New,
    Gone,
}

impl Sender {
    /// Those without a gap, from the account's nonce on.
    fn ready(&self) -> impl DoubleEndedIterator<Item = &Entry> + Clone {
        self.pending.range(self.nonce..self.next).map(|(_, entry)| entry)
    }

    /// Those beyond a gap.
    fn waiting(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.pending.values().filter(|entry| !entry.is_ready())
    }

    fn ranks(&self) -> Ranks<impl Iterator<Item = (FeeRate, u64)>> {
        // What comes after a cheap one has to wait for it.
        let rates = self.ready().scan(None, |lowest: &mut Option<FeeRate>, entry| {
            let rate = lowest.map_or(entry.fee_rate(), |lowest| lowest.min(entry.fee_rate()));
            *lowest = Some(rate);
            Some((rate, entry.weight()))
        });
        Ranks {
            tail: self.ready().next_back().map(Entry::fee_rate),
            head: self.ready().next().map(Entry::fee_rate),
            waiting: self.waiting().map(Entry::bytes).sum(),
            ready: self.ready().map(Entry::bytes).sum(),
            rates,
        }
    }
}

impl<'a> Candidate<'a> {
    fn of<R>(checked: &'a CheckedTransaction, tip: &Tip<'_, R>) -> Result<Self, MempoolError> {
        let transaction = checked.transaction();
        Ok(Self {
            transaction,
            txid: checked.txid(),
            sender: checked.sender(),
            weight: weight_at(transaction, tip)?,
            bytes: entry::bytes(transaction, checked.pixels().map_or(0, |pixels| pixels.len())),
        })
    }

    fn of_entry(entry: &'a Entry) -> Self {
        let (txid, sender) = (entry.txid(), entry.checked().sender());
        Self { transaction: entry.transaction(), txid, sender, weight: entry.weight(), bytes: entry.bytes() }
    }

    fn nonce(&self) -> u64 {
        self.transaction.unsigned.nonce
    }

    fn fee(&self) -> Amount {
        self.transaction.unsigned.fee
    }

    fn fee_rate(&self) -> FeeRate {
        FeeRate::of(self.fee(), self.weight)
    }
}

fn weight_at<R>(transaction: &Transaction, tip: &Tip<'_, R>) -> Result<u64, MempoolError> {
    let height = tip.height.saturating_add(1);
    let model = transaction.task().map(|(model, _)| model).unwrap_or_default();
    weight(transaction, tip.parameters, height).ok_or(MempoolError::UnknownModel { model, height })
}

/// The places of an entry in [`Mempool::credits`].
fn credits(entry: &Entry) -> impl Iterator<Item = (Address, Address, u64)> {
    let credited = entry.transaction().touches().filter(|touch| matches!(touch, Touch::Credits(_)));
    credited.map(|touch| (touch.address(), entry.checked().sender(), entry.nonce()))
}

fn minimum_fee(weight: u64) -> Amount {
    Amount(weight.saturating_mul(MIN_FEE_RATE))
}

#[cfg(test)]
mod tests;
