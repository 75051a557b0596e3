//! What one peer may ask for: token buckets for requests, for what they cost in work and in bytes, and for submissions; and
//! what happens beyond them.
//!
//! A request costs what it costs: each kind has its work, by the size of the question, and its response's bytes are charged when
//! it is made. Of both there is so much for one peer, and so much for all together. When all of that is used, whoever has used
//! less than its *share*, an equal part, is served all the same: what some peers use up, however many tokens each of
//! them has left, is not taken from the others.
//!
//! A peer that asks for more is *told* so at once, with the limit and when to ask again. One that goes on is *slowed*: the
//! same is said, but late, and since a peer has only so many requests open at a time, it gets fewer in. One that still
//! goes on is *penalised*, until the network disconnects it. Refusals are forgiven with time.
//!
//! A machine without I/O: time is monotonic milliseconds, peers are any ordered id. The limits are far above what an honest node
//! or client needs: a sync asks for at most two responses of 4 MiB at a time, and a client for 256 statuses a second.

use std::collections::BTreeMap;
use std::fmt;

use crate::message::{MAX_ENTRIES, Request};

/// Requests of one peer a second, and at once.
pub const REQUESTS: Limit = Limit { rate: 400, burst: 4_000 };
/// Bytes of responses to one peer a second, and at once.
pub const BYTES: Limit = Limit { rate: 64 << 20, burst: 128 << 20 };
/// Submissions of one peer a second, and at once: each costs a check of a signature, and inference if it is good. A sender
/// may have 64 pending, so that even on a network with a block every two seconds it does not need more for long.
pub const SUBMISSIONS: Limit = Limit { rate: 50, burst: 1_000 };
/// Transactions of one peer a second, and at once, that no block on this tip could hold. Each costs a look at an account. An
/// honest peer whose tip differs sends some, for as long as it differs. A guess.
pub const IN_VAIN: Limit = Limit { rate: 2, burst: 512 };
/// Bytes of transactions with an action that this node does not know, of one peer. It may be newer than we are, so it is not to
/// blame; what exceeds this is not fetched from it.
pub const UNKNOWN_BYTES: Limit = Limit { rate: 64 << 10, burst: 4 << 20 };
/// Bytes of responses to all peers together.
pub const ALL_BYTES: Limit = Limit { rate: 128 << 20, burst: 512 << 20 };
/// Microseconds of work for one peer a second, and at once; by [`work`].
pub const WORK: Limit = Limit { rate: 250_000, burst: 2_000_000 };
/// Microseconds of work for all peers together: most of what one thread can do.
pub const ALL_WORK: Limit = Limit { rate: 750_000, burst: 4_000_000 };
/// Bytes of a response that are read and encoded in a microsecond.
pub const BYTES_A_MICROSECOND: u64 = 1 << 10;
/// Peers that have asked for something within this time share what there is for all.
pub const SHARING_MILLIS: u64 = 10_000;
/// As many share at most: a share is never less.
pub const MAX_SHARES: u32 = 64;
/// Refusals of one peer that are forgiven a second, and that it may have before it is penalised.
pub const REFUSALS: Limit = Limit { rate: 1, burst: 48 };
/// Refusals that are said at once; later ones are said after [`SLOW_MILLIS`].
pub const TOLD: u64 = 16;
/// Milliseconds that a slowed peer waits for a refusal.
pub const SLOW_MILLIS: u64 = 2_000;
/// Peers that are remembered.
pub const MAX_LIMITED: usize = 4_096;

/// So much a second, and so much at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Tokens a second.
    pub rate: u32,
    /// Tokens in a full bucket.
    pub burst: u64,
}

/// A bucket of tokens, which fills with time. Holds thousandths, so that no millisecond is lost.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    limit: Limit,
    /// Thousandths of tokens; below zero by what was charged and not yet earned.
    level: i128,
    /// When the level was right, in monotonic milliseconds.
    at: u64,
}

impl Bucket {
    /// A full bucket.
    pub fn new(limit: Limit, now: u64) -> Self {
        Self { limit, level: 1000 * i128::from(limit.burst), at: now }
    }

    /// Whether as many tokens are there; how many milliseconds it takes until they are, if not.
    ///
    /// # Errors
    /// The time.
    pub fn check(&mut self, tokens: u64, now: u64) -> Result<(), u64> {
        self.fill(now);
        let missing = 1000 * i128::from(tokens) - self.level;
        if missing <= 0 {
            return Ok(());
        }
        let rate = i128::from(self.limit.rate.max(1));
        Err(u64::try_from((missing + rate - 1) / rate).unwrap_or(u64::MAX))
    }

    /// Has it fill at another rate from now on, and hold no more than that.
    fn change(&mut self, limit: Limit, now: u64) {
        self.fill(now);
        self.limit = limit;
        self.fill(now);
    }

    /// Takes tokens, there or not.
    pub fn charge(&mut self, tokens: u64, now: u64) {
        self.fill(now);
        self.level -= 1000 * i128::from(tokens);
    }

    /// Whether it is full.
    pub fn is_full(&mut self, now: u64) -> bool {
        self.fill(now);
        self.level == 1000 * i128::from(self.limit.burst)
    }

    fn fill(&mut self, now: u64) {
        let earned = i128::from(now.saturating_sub(self.at)) * i128::from(self.limit.rate);
        self.level = (self.level + earned).min(1000 * i128::from(self.limit.burst));
        self.at = self.at.max(now);
    }
}

/// What is to be done with a request beyond the limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestRefusal {
    /// Say why, at once.
    Tell(Excess),
    /// Say why, after [`SLOW_MILLIS`].
    Slow(Excess),
    /// Say nothing, and give it penalty points.
    Penalize(Excess),
}

/// Which limit was exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Excess {
    /// Of what.
    pub what: What,
    pub limit: Limit,
    /// Milliseconds after which the request would be served.
    pub wait: u64,
}

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Requests of a peer.
    Requests,
    /// Bytes of responses to a peer.
    Bytes,
    /// Submissions of a peer.
    Submissions,
    /// Transactions of a peer that no block on this tip could hold.
    InVain,
    /// Bytes of responses to all peers.
    AllBytes,
    /// Work for a peer.
    Work,
    /// Work for all peers.
    AllWork,
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.what {
            What::Requests => "requests of a peer",
            What::Bytes => "bytes to a peer",
            What::Submissions => "submissions of a peer",
            What::InVain => "transactions of a peer that no block could hold",
            What::AllBytes => "bytes to all peers together",
            What::Work => "microseconds of work for a peer",
            What::AllWork => "microseconds of work for all peers together",
        };
        let Limit { rate, burst } = self.limit;
        let seconds = self.wait.div_ceil(1000);
        write!(f, "more than {burst} {what} at once and {rate} a second: ask again in {seconds} s")
    }
}

/// The limits of all peers; `P` names one. Time is monotonic milliseconds since any start.
#[derive(Debug)]
pub struct RequestLimits<P> {
    peers: BTreeMap<P, Account>,
    bytes: Common,
    work: Common,
    /// Among how many it is shared, and when that was counted.
    sharing: (u32, u64),
}

/// What there is of something for all peers together.
#[derive(Debug)]
struct Common {
    all: Bucket,
    /// What names the bucket of one peer, and that of all.
    names: (What, What),
}

/// What one peer may use of something.
#[derive(Debug)]
struct Own {
    bucket: Bucket,
    /// An equal part of what there is for all.
    share: Bucket,
}

#[derive(Debug)]
struct Account {
    requests: Bucket,
    submissions: Bucket,
    refusals: Bucket,
    bytes: Own,
    work: Own,
    /// When it last asked.
    asked_at: u64,
}

impl Own {
    fn new(limit: Limit, all: Limit, sharing: u32, now: u64) -> Self {
        Self { bucket: Bucket::new(limit, now), share: Bucket::new(share(all, sharing), now) }
    }

    fn check(&mut self, common: &mut Common, sharing: u32, now: u64) -> Result<(), (What, Limit, u64)> {
        let (own, all) = common.names;
        let (limit, all_limit) = (self.bucket.limit, common.all.limit);
        self.bucket.check(1, now).map_err(|wait| (own, limit, wait))?;
        self.share.change(share(all_limit, sharing), now);
        let Err(until_share) = self.share.check(1, now) else { return Ok(()) };
        common.all.check(1, now).map_err(|wait| (all, all_limit, wait.min(until_share)))
    }

    fn charge(&mut self, common: &mut Common, tokens: u64, now: u64) {
        self.bucket.charge(tokens, now);
        self.share.charge(tokens, now);
        common.all.charge(tokens, now);
        // What is served by shares alone is no debt: those who share less some day need not pay it back.
        common.all.level = common.all.level.max(-1000 * i128::from(common.all.limit.rate));
        self.share.level = self.share.level.max(-1000 * i128::from(self.bucket.limit.burst));
    }

    fn is_full(&mut self, now: u64) -> bool {
        self.bucket.is_full(now)
    }
}

/// An equal part of a limit; at once, what comes in a second.
fn share(all: Limit, sharing: u32) -> Limit {
    let rate = all.rate / sharing.clamp(1, MAX_SHARES);
    Limit { rate, burst: rate.into() }
}

impl Account {
    fn new(sharing: u32, now: u64) -> Self {
        Self {
            requests: Bucket::new(REQUESTS, now),
            submissions: Bucket::new(SUBMISSIONS, now),
            refusals: Bucket::new(REFUSALS, now),
            bytes: Own::new(BYTES, ALL_BYTES, sharing, now),
            work: Own::new(WORK, ALL_WORK, sharing, now),
            asked_at: now,
        }
    }

    fn is_full(&mut self, now: u64) -> bool {
        let buckets = [&mut self.requests, &mut self.submissions, &mut self.refusals];
        buckets.into_iter().all(|bucket| bucket.is_full(now)) && self.bytes.is_full(now) && self.work.is_full(now)
    }
}

impl<P: Copy + Ord> RequestLimits<P> {
    /// Limits of which nothing is used.
    pub fn new(now: u64) -> Self {
        Self {
            peers: BTreeMap::new(),
            bytes: Common { all: Bucket::new(ALL_BYTES, now), names: (What::Bytes, What::AllBytes) },
            work: Common { all: Bucket::new(ALL_WORK, now), names: (What::Work, What::AllWork) },
            sharing: (0, now),
        }
    }

    /// Whether a peer's request is to be served at `now` (milliseconds). Its work is charged if it is.
    ///
    /// # Errors
    /// What to do instead.
    pub fn admit(&mut self, peer: P, request: &Request, now: u64) -> Result<(), RequestRefusal> {
        self.count_sharing(now);
        self.meet(peer, now);
        let sharing = self.sharing.0;
        let Some(account) = self.peers.get_mut(&peer) else { return Ok(()) };
        account.asked_at = now;
        let mut result = account.requests.check(1, now).map_err(|wait| (What::Requests, REQUESTS, wait));
        if is_heavy(request) {
            result = result.and_then(|()| account.bytes.check(&mut self.bytes, sharing, now));
        }
        if matches!(request, Request::Submit(_)) {
            let submissions = account.submissions.check(1, now);
            result = result.and(submissions.map_err(|wait| (What::Submissions, SUBMISSIONS, wait)));
        }
        result = result.and_then(|()| account.work.check(&mut self.work, sharing, now));
        let Err((what, limit, wait)) = result else {
            account.requests.charge(1, now);
            account.submissions.charge(u64::from(matches!(request, Request::Submit(_))), now);
            account.work.charge(&mut self.work, work(request), now);
            return Ok(());
        };
        let excess = Excess { what, limit, wait };
        if account.refusals.check(1, now).is_err() {
            return Err(RequestRefusal::Penalize(excess));
        }
        account.refusals.charge(1, now);
        match account.refusals.check(REFUSALS.burst - TOLD, now) {
            Ok(()) => Err(RequestRefusal::Tell(excess)),
            Err(_) => Err(RequestRefusal::Slow(excess)),
        }
    }

    /// Counts the bytes of a response to a peer, and the work of making it.
    pub fn charge(&mut self, peer: P, bytes: usize, now: u64) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.meet(peer, now);
        let Some(account) = self.peers.get_mut(&peer) else { return };
        account.bytes.charge(&mut self.bytes, bytes, now);
        account.work.charge(&mut self.work, bytes / BYTES_A_MICROSECOND, now);
    }

    /// Counts work for a peer that its request did not tell of before.
    pub fn charge_work(&mut self, peer: P, micros: u64, now: u64) {
        self.meet(peer, now);
        let Some(account) = self.peers.get_mut(&peer) else { return };
        account.work.charge(&mut self.work, micros, now);
    }

    /// Counts, once a second, those that have asked lately.
    fn count_sharing(&mut self, now: u64) {
        if now.saturating_sub(self.sharing.1) >= 1000 {
            let asks = |account: &&Account| now.saturating_sub(account.asked_at) < SHARING_MILLIS;
            let asking = self.peers.values().filter(asks).count();
            self.sharing = (u32::try_from(asking).unwrap_or(u32::MAX), now);
        }
    }

    /// Opens an account for a peer that has none.
    fn meet(&mut self, peer: P, now: u64) {
        if self.peers.contains_key(&peer) {
            return;
        }
        if self.peers.len() >= MAX_LIMITED {
            self.make_room(now);
        }
        // It shares from now on, not only when that is counted again.
        self.sharing.0 = self.sharing.0.saturating_add(1);
        self.peers.insert(peer, Account::new(self.sharing.0, now));
    }

    fn make_room(&mut self, now: u64) {
        // Who has a full bucket is as good as new.
        self.peers.retain(|_, account| !account.is_full(now));
        if self.peers.len() >= MAX_LIMITED {
            let oldest = self.peers.iter().min_by_key(|(_, account)| account.asked_at).map(|(peer, _)| *peer);
            oldest.and_then(|oldest| self.peers.remove(&oldest));
        }
    }
}

/// How many transactions that no block on this tip could hold each peer has sent; `P` names one.
#[derive(Debug)]
pub struct InVain<P>(BTreeMap<P, Bucket>);

impl<P: Copy + Ord> Default for InVain<P> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<P: Copy + Ord> InVain<P> {
    /// Counts one.
    ///
    /// # Errors
    /// If it is more than an honest peer sends.
    pub fn sent(&mut self, peer: P, now: u64) -> Result<(), Excess> {
        if self.0.len() >= MAX_LIMITED && !self.0.contains_key(&peer) {
            self.0.retain(|_, bucket| !bucket.is_full(now));
            let oldest = self.0.iter().min_by_key(|(_, bucket)| bucket.at).map(|(peer, _)| *peer);
            oldest.filter(|_| self.0.len() >= MAX_LIMITED).and_then(|oldest| self.0.remove(&oldest));
        }
        let bucket = self.0.entry(peer).or_insert_with(|| Bucket::new(IN_VAIN, now));
        bucket.check(1, now).map_err(|wait| Excess { what: What::InVain, limit: IN_VAIN, wait })?;
        bucket.charge(1, now);
        Ok(())
    }
}

/// Whether the response may be large. What it weighs is counted for all; only these are refused for it.
fn is_heavy(request: &Request) -> bool {
    match request {
        Request::Headers { .. }
        | Request::Blocks { .. }
        | Request::Transactions { .. }
        | Request::Transaction { .. }
        | Request::Block { .. }
        | Request::NodeStatus
        | Request::Control { .. }
        | Request::Pending { .. }
        | Request::Attachments { .. }
        | Request::TransactionIds { .. }
        | Request::File { .. }
        | Request::Models { .. }
        | Request::Ledger { .. } => true,
        Request::Status
        | Request::Submit(_)
        | Request::Account { .. }
        | Request::Fee { .. }
        | Request::Faucet(_)
        | Request::Announce { .. }
        | Request::NewTip(_)
        | Request::Upload { .. } => false,
    }
}

/// About how many microseconds of a processor a request takes, by what it asks for; reading and encoding the response comes on
/// top, by [`BYTES_A_MICROSECOND`]. Guesses from one core of a Xeon: what counts is that each kind stands in proportion to the others.
pub fn work(request: &Request) -> u64 {
    let each = |count: usize, micros: u64| u64::try_from(count).unwrap_or(u64::MAX).saturating_mul(micros);
    match request {
        Request::Status => 10,
        // Three rows a header, in steps of the most that is given.
        Request::Headers { locator, limit } => 20 + each(locator.len(), 5) + 5 * u64::from((*limit).min(2_000)),
        Request::Blocks { hashes } => 20 + each(hashes.len(), 50),
        Request::Block { .. } => 100,
        // A body, and one attachment each.
        Request::Transactions { indexes, .. } => 200 + each(indexes.len(), 5),
        Request::Transaction { .. } => 200,
        Request::Account { .. } => 20,
        Request::NodeStatus => 200,
        Request::Fee { .. } => 10,
        Request::Control { .. } => 500,
        Request::Faucet(_) => 100,
        // A signature.
        Request::Submit(_) => 100,
        Request::Announce { ids } => 10 + each(ids.len(), 1),
        Request::Pending { ids } | Request::Attachments { ids } => 10 + each(ids.len(), 2),
        Request::NewTip(_) | Request::Upload { .. } => 20,
        // A body, and two hashes each.
        Request::TransactionIds { .. } => 1_000,
        Request::File { .. } => 100,
        Request::Models { limit, .. } => 20 + 10 * u64::from((*limit).min(64)),
        // Two rows each; what proves them comes on top, by [`proving`].
        Request::Ledger { limit, .. } => 50 + 10 * u64::from((*limit).min(MAX_ENTRIES as u32)),
    }
}

/// The same of reading bodies of so many transactions and making the trees that prove some of them.
pub fn proving(transactions: usize) -> u64 {
    5 * u64::try_from(transactions).unwrap_or(u64::MAX / 5)
}

#[cfg(test)]
mod tests;
