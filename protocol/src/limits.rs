//! What one peer may ask for: token buckets for requests, for bytes and for submissions, and what happens beyond them.
//!
//! A peer that asks for more is *told* so at once, with the limit and when to ask again. One that goes on is *slowed*: the
//! same is said, but late, and since a peer has only so many requests open at a time, it gets fewer in. One that still
//! goes on is *penalised*, until the network disconnects it. Refusals are forgiven with time.
//!
//! A machine without I/O: time is monotonic milliseconds since any start, never the wall clock; peers are any ordered id. The limits are far above what an honest node or
//! client needs: a sync asks for at most two responses of 4 MiB at a time, and a client for 256 statuses a second.

use std::collections::BTreeMap;
use std::fmt;

use crate::message::Request;

/// Requests of one peer a second, and at once.
pub const REQUESTS: Limit = Limit { rate: 400, burst: 4_000 };
/// Bytes of responses to one peer a second, and at once.
pub const BYTES: Limit = Limit { rate: 64 << 20, burst: 128 << 20 };
/// Submissions of one peer a second, and at once: each costs a check of a signature, and inference if it is good. A sender
/// may have 64 pending, so that even on a network with a block every two seconds it does not need more for long.
pub const SUBMISSIONS: Limit = Limit { rate: 50, burst: 1_000 };
/// Bytes of responses to all peers together.
pub const ALL_BYTES: Limit = Limit { rate: 128 << 20, burst: 512 << 20 };
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
pub enum Refusal {
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
    /// The limit.
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
    /// Bytes of responses to all peers.
    AllBytes,
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.what {
            What::Requests => "requests of a peer",
            What::Bytes => "bytes to a peer",
            What::Submissions => "submissions of a peer",
            What::AllBytes => "bytes to all peers together",
        };
        let Limit { rate, burst } = self.limit;
        let seconds = self.wait.div_ceil(1000);
        write!(f, "more than {burst} {what} at once and {rate} a second: ask again in {seconds} s")
    }
}

/// The limits of all peers; `P` names one. Time is monotonic milliseconds since any start.
#[derive(Debug)]
pub struct Limits<P> {
    peers: BTreeMap<P, Account>,
    bytes: Bucket,
}

#[derive(Debug)]
struct Account {
    requests: Bucket,
    bytes: Bucket,
    submissions: Bucket,
    refusals: Bucket,
}

impl Account {
    fn new(now: u64) -> Self {
        Self {
            requests: Bucket::new(REQUESTS, now),
            bytes: Bucket::new(BYTES, now),
            submissions: Bucket::new(SUBMISSIONS, now),
            refusals: Bucket::new(REFUSALS, now),
        }
    }

    fn is_full(&mut self, now: u64) -> bool {
        [&mut self.requests, &mut self.bytes, &mut self.submissions, &mut self.refusals]
            .into_iter()
            .all(|bucket| bucket.is_full(now))
    }
}

impl<P: Copy + Ord> Limits<P> {
    /// Limits of which nothing is used.
    pub fn new(now: u64) -> Self {
        Self { peers: BTreeMap::new(), bytes: Bucket::new(ALL_BYTES, now) }
    }

    /// Whether a peer's request is to be served at `now` (monotonic milliseconds).
    ///
    /// # Errors
    /// What to do instead.
    pub fn admit(&mut self, peer: P, request: &Request, now: u64) -> Result<(), Refusal> {
        let all = self.bytes.check(1, now).map_err(|wait| (What::AllBytes, ALL_BYTES, wait));
        let account = self.account(peer, now);
        let mut result = account.requests.check(1, now).map_err(|wait| (What::Requests, REQUESTS, wait));
        if is_heavy(request) {
            let bytes = account.bytes.check(1, now).map_err(|wait| (What::Bytes, BYTES, wait));
            result = result.and(bytes).and(all);
        }
        if matches!(request, Request::Submit(_)) {
            let submissions = account.submissions.check(1, now);
            result = result.and(submissions.map_err(|wait| (What::Submissions, SUBMISSIONS, wait)));
        }
        let Err((what, limit, wait)) = result else {
            account.requests.charge(1, now);
            account.submissions.charge(u64::from(matches!(request, Request::Submit(_))), now);
            return Ok(());
        };
        let excess = Excess { what, limit, wait };
        if account.refusals.check(1, now).is_err() {
            return Err(Refusal::Penalize(excess));
        }
        account.refusals.charge(1, now);
        match account.refusals.check(REFUSALS.burst - TOLD, now) {
            Ok(()) => Err(Refusal::Tell(excess)),
            Err(_) => Err(Refusal::Slow(excess)),
        }
    }

    /// Counts the bytes of a response to a peer.
    pub fn charge(&mut self, peer: P, bytes: usize, now: u64) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.bytes.charge(bytes, now);
        self.account(peer, now).bytes.charge(bytes, now);
    }

    fn account(&mut self, peer: P, now: u64) -> &mut Account {
        if self.peers.len() >= MAX_LIMITED && !self.peers.contains_key(&peer) {
            // Who has a full bucket is as good as new.
            self.peers.retain(|_, account| !account.is_full(now));
            if self.peers.len() >= MAX_LIMITED {
                let latest = |account: &Account| account.requests.at.max(account.bytes.at);
                let oldest = self.peers.iter().min_by_key(|(_, account)| latest(account)).map(|(peer, _)| *peer);
                oldest.and_then(|oldest| self.peers.remove(&oldest));
            }
        }
        self.peers.entry(peer).or_insert_with(|| Account::new(now))
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
        | Request::Pending { .. }
        | Request::Pixels { .. } => true,
        Request::Status
        | Request::Submit(_)
        | Request::Account { .. }
        | Request::NodeStatus
        | Request::Fee { .. }
        | Request::Peers
        | Request::Control { .. }
        | Request::Faucet(_)
        | Request::Announce { .. }
        | Request::NewTip(_) => false,
    }
}

#[cfg(test)]
mod tests;
