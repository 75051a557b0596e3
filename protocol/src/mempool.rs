//! Pending transactions: what may wait here, who gives way when room is short, what runs and what is mined next.
//!
//! Transactions of one sender are applied in the order of their nonces. Those without a gap after the account's nonce are
//! *ready*: forwarded, run and mined. Those beyond a gap are kept for a while, neither forwarded nor run.
//!
//! Who had to give way for others to be taken sets a *rolling minimum*: less is not worth sending again before it has
//! decayed (Bitcoin Core's `GetMinFee`; counted in blocks here, for nothing in this crate reads a clock).
//!
//! Policy only: what a block may hold is for `ocelli_consensus`. The caller has checked, before [`Mempool::insert`], all
//! that does not depend on accounts: signature, model, and that the pixels are of the right length and hash.

mod entry;
mod error;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use ocelli_consensus::block::Output;
use ocelli_consensus::{Address, Amount, Transaction, TxId, WtxId};

use crate::message::{MAX_INLINE_PIXELS, ShortId, Submission};

pub use entry::{Entry, FeeRate, PendingTask};
pub use error::{Blame, MempoolError};

/// Grains that each weight unit costs at least. A first choice: a CIFAR-10 task pays about 0.0001 credits.
pub const MIN_FEE_RATE: u64 = 1;
/// Pending transactions of one sender.
pub const MAX_PENDING: usize = 64;
/// Nonces beyond the first missing one that are kept: as many as a sender may have pending, for they are fetched from
/// several peers at once and in any order.
pub const MAX_GAP: u64 = MAX_PENDING as u64;
/// Bytes held, pixels included, unless another bound is given.
pub const DEFAULT_LIMIT_BYTES: usize = 64 << 20;
/// Blocks in which the rolling minimum halves: five minutes on the testnet. A first choice.
pub const ROLLING_HALF_LIFE: u64 = 32;
/// Senders whose next transaction did not fit, one after the other, after which packing stops.
const MAX_MISSES: usize = 1000;

/// Accounts at the tip.
pub trait AccountReader {
    /// Nonce and balance; zeros for an account that does not exist.
    fn account(&self, address: Address) -> (u64, Amount);
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
    /// Gone: included, stale, or no longer affordable.
    pub removed: Vec<TxId>,
    /// Ready that were not before: to be forwarded now.
    pub promoted: Vec<TxId>,
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
    /// What it takes of a block's weight.
    pub weight: u64,
}

/// The pending transactions.
#[derive(Debug)]
pub struct Mempool {
    senders: BTreeMap<Address, Sender>,
    /// Sender and nonce by id.
    places: BTreeMap<TxId, (Address, u64)>,
    wtxids: BTreeMap<WtxId, TxId>,
    /// Each sender by the fee rate of its last transaction: the order in which to make room.
    tails: BTreeSet<(FeeRate, Address)>,
    /// Each sender by the fee rate of its first transaction that can be mined, dearest last: the order of packing.
    heads: BTreeSet<(FeeRate, Reverse<Address>)>,
    bytes: usize,
    limit: usize,
    /// The fee rate that outbids the last that was evicted for room, and the tip's height then.
    rolling: Option<(FeeRate, u64)>,
    /// Set while [`Mempool::tasks_to_run`] would find nothing, so that asking again costs nothing.
    handed_out: Option<HandedOut>,
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
    nonce: u64,
    balance: Amount,
    pending: BTreeMap<u64, Entry>,
}

/// What taking an entry would mean.
struct Admission<'a> {
    /// Of the sender's account.
    nonce: u64,
    /// Of the sender's account.
    balance: Amount,
    /// Those that have to go for it.
    victims: Vec<&'a Entry>,
    /// The best fee rate of those that go for want of room.
    dearest: Option<FeeRate>,
}

static NOTHING_PENDING: BTreeMap<u64, Entry> = BTreeMap::new();

impl Default for Mempool {
    fn default() -> Self {
        Self::new(DEFAULT_LIMIT_BYTES)
    }
}

impl Mempool {
    /// An empty mempool that holds at most `limit` bytes, counted as [`Entry::bytes`] does.
    pub fn new(limit: usize) -> Self {
        Self {
            senders: BTreeMap::new(),
            places: BTreeMap::new(),
            wtxids: BTreeMap::new(),
            tails: BTreeSet::new(),
            heads: BTreeSet::new(),
            bytes: 0,
            limit,
            rolling: None,
            handed_out: None,
        }
    }

    /// Takes a transaction whose signature, model and pixels the caller has checked. `weight` is by the rules of
    /// consensus, `height` the tip's.
    ///
    /// # Errors
    /// [`MempoolError`] names the rule; nothing has changed then.
    pub fn insert(
        &mut self,
        transaction: Transaction,
        pixels: Option<Arc<[u8]>>,
        weight: u64,
        accounts: &impl AccountReader,
        height: u64,
    ) -> Result<Inserted, MempoolError> {
        let entry = Entry::new(transaction, pixels, weight);
        match (&entry.pixels, entry.transaction.task()) {
            (None, Some(_)) => return Err(MempoolError::MissingPixels),
            (Some(pixels), None) => return Err(MempoolError::UnexpectedPixels(pixels.len())),
            _ => {}
        }
        let Admission { nonce, balance, victims, dearest } = self.admit(&entry, entry.bytes(), accounts, height)?;
        let evicted: Vec<TxId> = victims.iter().map(|victim| victim.txid).collect();
        let (txid, sender) = (entry.txid, entry.sender);
        let before = self.ready_of(sender);
        for victim in &evicted {
            self.take(victim);
        }
        self.put(entry, nonce, balance);
        if let Some(rate) = dearest {
            self.rolling = Some((rate.above().max(self.minimum_rate(height)), height));
        }
        let ready = self.ready_of(sender);
        let readiness = if ready.contains(&txid) { Readiness::Ready } else { Readiness::Gap };
        let promoted = ready.into_iter().filter(|id| *id != txid && !before.contains(id)).collect();
        Ok(Inserted { readiness, promoted, evicted })
    }

    /// Whether [`Mempool::insert`] would take a transaction, before its pixels are fetched; there will be `pixels` bytes
    /// of them.
    ///
    /// # Errors
    /// [`MempoolError`] names the rule.
    pub fn check(
        &self,
        transaction: &Transaction,
        pixels: usize,
        weight: u64,
        accounts: &impl AccountReader,
        height: u64,
    ) -> Result<(), MempoolError> {
        let entry = Entry::new(transaction.clone(), None, weight);
        self.admit(&entry, entry.bytes().saturating_add(pixels), accounts, height).map(|_| ())
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
    /// output is left out, and so are its sender's later transactions.
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

    /// The fee rate that is taken at least, while the tip has that height.
    pub fn minimum_rate(&self, height: u64) -> FeeRate {
        let rolling = self.rolling.map_or(FeeRate::default(), |(rate, since)| {
            let halvings = height.saturating_sub(since) / ROLLING_HALF_LIFE;
            rate.halved(u32::try_from(halvings).unwrap_or(u32::MAX))
        });
        rolling.max(FeeRate::of(Amount(MIN_FEE_RATE), 1))
    }

    /// The fee rate with which a transaction would be among the first of so much weight, as things stand while the tip has
    /// that height.
    pub fn rate_within(&self, weight: u64, height: u64) -> FeeRate {
        let (mut taken, mut lowest) = (0u64, None);
        self.walk(u64::MAX, |entry| {
            taken = taken.saturating_add(entry.weight);
            if taken > weight {
                return Step::Stop;
            }
            lowest = Some(lowest.map_or(entry.fee_rate(), |lowest: FeeRate| lowest.min(entry.fee_rate())));
            Step::Take
        });
        let minimum = self.minimum_rate(height);
        if taken > weight { lowest.map_or(minimum, FeeRate::above).max(minimum) } else { minimum }
    }

    /// Follows blocks that were connected: `transactions` are theirs, `accounts` those at the new tip.
    pub fn on_connected<'a>(
        &mut self,
        transactions: impl IntoIterator<Item = &'a Transaction>,
        accounts: &impl AccountReader,
    ) -> Changes {
        let senders: BTreeSet<Address> = transactions.into_iter().map(Transaction::sender).collect();
        let mut changes = Changes::default();
        for sender in senders {
            let before = self.ready_of(sender);
            changes.removed.extend(self.refresh(sender, accounts));
            changes.promoted.extend(self.ready_of(sender).into_iter().filter(|id| !before.contains(id)));
        }
        changes
    }

    /// Follows blocks that were disconnected: puts their transactions back, except those that `accounts` (at the new tip)
    /// no longer allow. They need not pay the minimum fee, and what else has the same sender and nonce gives way to them.
    /// Returns what had to go.
    pub fn on_disconnected(
        &mut self,
        returned: impl IntoIterator<Item = Returned>,
        accounts: &impl AccountReader,
        height: u64,
    ) -> Vec<TxId> {
        let mut senders = BTreeSet::new();
        let mut removed = Vec::new();
        for Returned { transaction, pixels, output, weight } in returned {
            let mut entry = Entry::new(transaction, pixels, weight);
            entry.output = output;
            let (nonce, balance) = accounts.account(entry.sender);
            // Taken back or not, its nonce is missing now before those after it.
            senders.insert(entry.sender);
            let lacks_pixels = entry.transaction.task().is_some() && entry.pixels.is_none();
            let expired = entry.transaction.unsigned.expires <= height;
            if entry.nonce() < nonce || lacks_pixels || expired || self.places.contains_key(&entry.txid) {
                continue;
            }
            let conflict = self.senders.get(&entry.sender).and_then(|sender| sender.pending.get(&entry.nonce()));
            removed.extend(conflict.map(|entry| entry.txid));
            let conflict = conflict.map(|entry| entry.txid);
            conflict.and_then(|txid| self.take(&txid));
            self.put(entry, nonce, balance);
        }
        for sender in senders {
            removed.extend(self.refresh(sender, accounts));
        }
        while self.bytes > self.limit {
            let Some(&(_, sender)) = self.tails.first() else { break };
            removed.extend(self.take_tail(sender));
        }
        removed
    }

    /// Removes what can no longer be included after the tip's `height`, and returns it.
    pub fn expire(&mut self, height: u64) -> Vec<TxId> {
        let expired: Vec<TxId> =
            self.iter().filter(|entry| entry.transaction.unsigned.expires <= height).map(|entry| entry.txid).collect();
        for txid in &expired {
            self.take(txid);
        }
        expired
    }

    /// Removes one, such as one that a template turned out not to bear. Those after it have a gap then.
    pub fn remove(&mut self, txid: &TxId) -> Option<Entry> {
        self.take(txid)
    }

    /// The lowest nonce of a sender that is neither confirmed (`nonce` is its account's) nor here.
    pub fn next_nonce(&self, sender: Address, nonce: u64) -> u64 {
        self.senders.get(&sender).map_or(nonce, |sender| first_missing(nonce, &sender.pending))
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
        let is_ready = |txid: &TxId| {
            let place = self.places.get(txid).and_then(|(sender, nonce)| Some((self.senders.get(sender)?, *nonce)));
            place.is_some_and(|(sender, nonce)| nonce < first_missing(sender.nonce, &sender.pending))
        };
        let ready = self.wtxids.range(from.first()..).filter(|(_, txid)| is_ready(txid));
        ready.map(|(wtxid, _)| ShortId::of(wtxid)).take(limit).collect()
    }

    /// A transaction as it is given to who asks for it by its short id: without its pixels if they are large.
    pub fn to_relay(&self, id: ShortId) -> Option<Submission> {
        let entry = self.get_by_short_id(id)?;
        let pixels = entry.pixels.as_deref().filter(|pixels| pixels.len() <= MAX_INLINE_PIXELS);
        Some(Submission { transaction: entry.transaction.clone(), pixels: pixels.map(<[u8]>::to_vec) })
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
        self.bytes
    }

    /// All, by sender and nonce.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.senders.values().flat_map(|sender| sender.pending.values())
    }

    /// All without a gap before them, by sender and nonce.
    pub fn ready_to_forward(&self) -> impl Iterator<Item = &Entry> {
        self.senders.values().flat_map(Sender::ready)
    }

    /// What taking an entry that counts as so many bytes would mean.
    fn admit(
        &self,
        entry: &Entry,
        bytes: usize,
        accounts: &impl AccountReader,
        height: u64,
    ) -> Result<Admission<'_>, MempoolError> {
        self.check_alone(entry, bytes, height)?;
        let (nonce, balance) = accounts.account(entry.sender);
        let pending = self.senders.get(&entry.sender).map_or(&NOTHING_PENDING, |sender| &sender.pending);
        let next = first_missing(nonce, pending);
        if entry.nonce() < nonce {
            return Err(MempoolError::NonceUsed { found: entry.nonce(), expected: nonce });
        }
        if entry.nonce().saturating_sub(next) > MAX_GAP {
            return Err(MempoolError::NonceTooFarAhead { found: entry.nonce(), next, limit: MAX_GAP });
        }
        let replaced = pending.get(&entry.nonce());
        if replaced.is_none() && pending.len() >= MAX_PENDING {
            return Err(MempoolError::TooManyPending { limit: MAX_PENDING });
        }
        let mut victims: Vec<&Entry> = replaced.into_iter().collect();
        victims.extend(unaffordable(pending, entry, replaced.is_some(), balance)?);
        let room = self.victims_for_room(entry, bytes, victims.iter().map(|victim| victim.bytes()).sum())?;
        let dearest = room.iter().map(|victim| victim.fee_rate()).max();
        victims.extend(room);
        if replaced.is_some() {
            let own = minimum_fee(entry.weight).0;
            let fees = victims.iter().map(|victim| victim.fee().0).fold(own, u64::saturating_add);
            if entry.fee().0 < fees {
                return Err(MempoolError::ReplacementFeeTooLow { found: entry.fee(), expected: Amount(fees) });
            }
        }
        Ok(Admission { nonce, balance, victims, dearest })
    }

    /// The checks that need no other transaction.
    fn check_alone(&self, entry: &Entry, bytes: usize, height: u64) -> Result<(), MempoolError> {
        if self.places.contains_key(&entry.txid) {
            return Err(MempoolError::AlreadyKnown(entry.txid));
        }
        if entry.transaction.total().is_none() {
            return Err(MempoolError::TotalOverflow);
        }
        let (expires, next) = (entry.transaction.unsigned.expires, height.saturating_add(1));
        if expires < next {
            return Err(MempoolError::Expired { expires, next });
        }
        let least = minimum_fee(entry.weight).max(self.minimum_rate(height).fee(entry.weight));
        if entry.fee() < least {
            return Err(MempoolError::FeeTooLow { found: entry.fee(), expected: least });
        }
        if bytes > self.limit {
            return Err(MempoolError::TooLarge { found: bytes, limit: self.limit });
        }
        Ok(())
    }

    /// Whom `entry` must displace so that the bound holds, when `freed` bytes go anyway: the last of other senders, the
    /// lowest fee rate first. Its own sender's are spared: it may depend on them.
    fn victims_for_room(&self, entry: &Entry, bytes: usize, freed: usize) -> Result<Vec<&Entry>, MempoolError> {
        let mut excess = (self.bytes - freed + bytes).saturating_sub(self.limit);
        let mut victims = Vec::new();
        if excess == 0 {
            return Ok(victims);
        }
        let mut spare: BTreeMap<Address, _> = BTreeMap::new();
        let mut tails = self.tails.iter().copied().peekable();
        // The next to last of those whose last goes already, and so on.
        let mut uncovered = BTreeSet::new();
        while excess > 0 {
            let from_uncovered = uncovered.first().is_some_and(|rest| tails.peek().is_none_or(|tail| rest < tail));
            let lowest = if from_uncovered { uncovered.pop_first() } else { tails.next() };
            let Some((_, sender)) = lowest.filter(|(rate, _)| *rate < entry.fee_rate()) else {
                let lowest = lowest.map_or(entry.fee_rate(), |(rate, _)| rate);
                return Err(MempoolError::Full { found: entry.fee_rate(), lowest });
            };
            if sender == entry.sender {
                continue;
            }
            let rest = spare.entry(sender).or_insert_with(|| self.senders[&sender].pending.values().rev());
            if let Some(victim) = rest.next() {
                excess = excess.saturating_sub(victim.bytes());
                victims.push(victim);
                if let Some(next) = rest.clone().next() {
                    uncovered.insert((next.fee_rate(), sender));
                }
            }
        }
        Ok(victims)
    }

    /// Visits ready entries by fee rate, a sender's in the order of nonces, while their weights fit `budget`.
    fn walk<'a>(&'a self, budget: u64, mut visit: impl FnMut(&'a Entry) -> Step) -> End {
        let mut left = budget;
        let mut misses = 0;
        let mut end = End::All;
        let mut firsts = self.heads.iter().rev().peekable();
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
            if entry.weight > left {
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
            left -= entry.weight;
            if let Some(next) = nonce.checked_add(1).and_then(|nonce| sender.pending.get(&nonce)) {
                nexts.push((next.fee_rate(), Reverse(address), next.nonce()));
            }
        }
    }

    /// An entry comes or goes that pays so much: a task may have come within the budget.
    fn changed_at(&mut self, rate: FeeRate, change: Change) {
        self.handed_out.take_if(|handed_out| match (handed_out.lowest, change) {
            // What goes makes room only where there is none.
            (None, Change::Gone) => false,
            (None, Change::New) => true,
            (Some(lowest), Change::New) => rate > lowest,
            (Some(lowest), Change::Gone) => rate >= lowest,
        });
    }

    fn ready_of(&self, sender: Address) -> Vec<TxId> {
        self.senders.get(&sender).map_or(vec![], |sender| sender.ready().map(|entry| entry.txid).collect())
    }

    fn get_mut(&mut self, txid: &TxId) -> Option<&mut Entry> {
        let (sender, nonce) = self.places.get(txid)?;
        self.senders.get_mut(sender)?.pending.get_mut(nonce)
    }

    /// Reads a sender's account anew: drops what is stale, what it cannot pay, and what is too far ahead or too much.
    fn refresh(&mut self, address: Address, accounts: &impl AccountReader) -> Vec<TxId> {
        if !self.senders.contains_key(&address) {
            return vec![];
        }
        self.leave_order(address);
        let Some(sender) = self.senders.get_mut(&address) else { return vec![] };
        (sender.nonce, sender.balance) = accounts.account(address);
        self.handed_out = None;
        let limit = first_missing(sender.nonce, &sender.pending).saturating_add(MAX_GAP);
        let mut cost = 0;
        let mut keep = 0;
        let mut removed = Vec::new();
        for (nonce, entry) in &sender.pending {
            if *nonce < sender.nonce {
                removed.push(entry.txid);
                continue;
            }
            cost += entry.total();
            keep += 1;
            if cost > u128::from(sender.balance.0) || *nonce > limit || keep > MAX_PENDING {
                removed.push(entry.txid);
            }
        }
        self.enter_order(address);
        for txid in &removed {
            self.take(txid);
        }
        removed
    }

    fn put(&mut self, entry: Entry, nonce: u64, balance: Amount) {
        let address = entry.sender;
        self.changed_at(entry.fee_rate(), Change::New);
        self.bytes += entry.bytes();
        self.places.insert(entry.txid, (address, entry.nonce()));
        self.wtxids.insert(entry.wtxid, entry.txid);
        self.leave_order(address);
        let sender = self.senders.entry(address).or_default();
        (sender.nonce, sender.balance) = (nonce, balance);
        sender.pending.insert(entry.nonce(), entry);
        self.enter_order(address);
    }

    /// A sender is about to change.
    fn leave_order(&mut self, address: Address) {
        let Some(sender) = self.senders.get(&address) else { return };
        if let Some(rate) = sender.tail_rate() {
            self.tails.remove(&(rate, address));
        }
        if let Some(rate) = sender.head_rate() {
            self.heads.remove(&(rate, Reverse(address)));
        }
    }

    /// A sender has changed.
    fn enter_order(&mut self, address: Address) {
        let Some(sender) = self.senders.get(&address) else { return };
        self.tails.extend(sender.tail_rate().map(|rate| (rate, address)));
        self.heads.extend(sender.head_rate().map(|rate| (rate, Reverse(address))));
    }

    fn take(&mut self, txid: &TxId) -> Option<Entry> {
        let (address, nonce) = self.places.remove(txid)?;
        self.leave_order(address);
        let sender = self.senders.get_mut(&address)?;
        let entry = sender.pending.remove(&nonce)?;
        if sender.pending.is_empty() {
            self.senders.remove(&address);
        }
        self.enter_order(address);
        self.wtxids.remove(&entry.wtxid);
        self.bytes -= entry.bytes();
        self.changed_at(entry.fee_rate(), Change::Gone);
        Some(entry)
    }

    fn take_tail(&mut self, sender: Address) -> Option<TxId> {
        let txid = self.senders.get(&sender)?.pending.last_key_value()?.1.txid;
        self.take(&txid).map(|entry| entry.txid)
    }
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
    fn ready(&self) -> impl Iterator<Item = &Entry> + Clone {
        let end = first_missing(self.nonce, &self.pending);
        self.pending.range(self.nonce..end).map(|(_, entry)| entry)
    }

    /// Of the first that can be mined.
    fn head_rate(&self) -> Option<FeeRate> {
        self.pending.get(&self.nonce).map(Entry::fee_rate)
    }

    fn tail_rate(&self) -> Option<FeeRate> {
        self.pending.last_key_value().map(|(_, entry)| entry.fee_rate())
    }
}

fn minimum_fee(weight: u64) -> Amount {
    Amount(weight.saturating_mul(MIN_FEE_RATE))
}

fn first_missing(nonce: u64, pending: &BTreeMap<u64, Entry>) -> u64 {
    let present = pending.range(nonce..).zip(nonce..).take_while(|((found, _), expected)| *found == expected).count();
    nonce.saturating_add(present as u64)
}

/// Those of a sender that it could not pay besides `entry`: none for an addition, which is refused instead; for a
/// replacement as many of the last ones as it takes.
fn unaffordable<'a>(
    pending: &'a BTreeMap<u64, Entry>,
    entry: &Entry,
    replaces: bool,
    balance: Amount,
) -> Result<Vec<&'a Entry>, MempoolError> {
    let others = || pending.values().filter(|other| other.nonce() != entry.nonce());
    let mut cost = others().map(Entry::total).sum::<u128>() + entry.total();
    let mut victims = Vec::new();
    if replaces {
        for victim in others().rev().take_while(|other| other.nonce() > entry.nonce()) {
            if cost <= u128::from(balance.0) {
                break;
            }
            cost -= victim.total();
            victims.push(victim);
        }
    }
    if cost > u128::from(balance.0) {
        let expected = Amount(u64::try_from(cost).unwrap_or(u64::MAX));
        return Err(MempoolError::InsufficientBalance { found: balance, expected });
    }
    Ok(victims)
}

#[cfg(test)]
mod tests;
