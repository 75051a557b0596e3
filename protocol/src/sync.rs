//! Sync: headers first, then blocks, from one peer at a time.
//!
//! A machine without I/O: [`Sync::handle`] takes what happened, the time in milliseconds and a view of the chain, and
//! returns what is to be done. Peers are any ordered id. `on_*` methods treat one input; `poll_*` methods see what can be
//! asked for next, and run after each input.
//!
//! Who claims more work than our headers have is asked for headers, in batches, until there are no more. Then missing
//! blocks are asked for in windows. Who stalls or fails rests for a while, so that another is asked. A block that nobody
//! has is *unavailable*, never invalid, and asked for again and again as long as it is wanted. One that is only to be had
//! without its pixels is unavailable too, unless it is deep enough for the work above it to stand for them.

mod event;

use std::collections::{BTreeMap, BTreeSet};

use ocelli_consensus::{BlockHash, Header, U256};

use crate::message::{BlockData, ChainStatus, MAX_BLOCKS, MAX_HEADERS, MAX_LOCATOR, Request, Response};

pub use event::{ChainView, Failure, HeaderImport, Input, Offence, Output, Parent, State, Timer};

/// Milliseconds between a peer's status and the question for the next.
pub const STATUS_INTERVAL: u64 = 30_000;
/// Milliseconds that a peer has for a response.
pub const REQUEST_TIMEOUT: u64 = 10_000;
/// Milliseconds after the first failure; doubled with each further one.
pub const FIRST_BACKOFF: u64 = 1_000;
/// Milliseconds after many failures.
pub const MAX_BACKOFF: u64 = 30_000;
/// Peers known to sync; further ones are not asked for anything.
pub const MAX_SYNC_PEERS: usize = 256;
/// Missing blocks looked at, and so (with one window more) remembered as lacking or unavailable.
pub const LOOKAHEAD: usize = 256;
/// Blocks handed over and not yet validated beyond which no more are asked for.
pub const MAX_IN_VALIDATION: usize = 32;
/// Full batches of headers from one peer that add nothing to our best work: a fork of 64,000 blocks.
pub const MAX_BARREN_BATCHES: u32 = 32;

/// The sync machine; `P` names a peer.
#[derive(Debug)]
pub struct Sync<P> {
    genesis: BlockHash,
    peers: BTreeMap<P, Peer>,
    requests: BTreeMap<u64, Sent<P>>,
    next_id: u64,
    headers: Option<HeaderSync<P>>,
    /// Blocks wanted that all peers lack; only such as [`LOOKAHEAD`] and one window more cover.
    unavailable: BTreeMap<BlockHash, Unavailable>,
    /// Blocks handed over during the current input: the view does not show them yet.
    handed: BTreeSet<BlockHash>,
    wake_at: Option<u64>,
    state: State<P>,
}

#[derive(Debug)]
struct Peer {
    /// Where its chain stands, by its own word; `None` before its first status and after an offence.
    claim: Option<ChainStatus>,
    /// Its headers have not shown, or could not show now, the work that it claims: not asked for more before it tells
    /// its status again.
    doubted: bool,
    /// It announced a block whose parent we do not have.
    ahead: bool,
    /// Blocks that it said it does not have, among those wanted.
    lacks: BTreeSet<BlockHash>,
    /// Whether a request for headers or blocks is under way.
    busy: bool,
    /// Blocks asked for at once: fewer after time-outs.
    window: usize,
    /// Failures in a row.
    failures: u32,
    rests_until: u64,
    /// Claims of more work in a row that its headers did not show.
    unproven: u32,
}

#[derive(Debug)]
struct Sent<P> {
    peer: P,
    question: Question,
}

#[derive(Debug)]
enum Question {
    Status,
    Headers,
    Blocks(Vec<BlockHash>),
}

#[derive(Debug)]
struct HeaderSync<P> {
    peer: P,
    /// Whether a batch has failed to connect.
    retried: bool,
    barren: u32,
    best_work: U256,
}

#[derive(Debug)]
struct Unavailable {
    attempts: u32,
    retry_at: u64,
    /// Peers are being asked again.
    retrying: bool,
}

impl<P: Copy + Ord> Sync<P> {
    /// Sync for the network of a genesis, without peers.
    pub fn new(genesis: BlockHash) -> Self {
        Self {
            genesis,
            peers: BTreeMap::new(),
            requests: BTreeMap::new(),
            next_id: 0,
            headers: None,
            unavailable: BTreeMap::new(),
            handed: BTreeSet::new(),
            wake_at: None,
            state: State::Waiting,
        }
    }

    /// What it does.
    pub fn state(&self) -> State<P> {
        self.state
    }

    /// Where a peer's chain stands, by its own word; `None` before its first status, and after an offence.
    pub fn claim(&self, peer: P) -> Option<&ChainStatus> {
        self.peers.get(&peer)?.claim.as_ref()
    }

    /// Blocks that are wanted and that no peer has.
    pub fn unavailable(&self) -> impl Iterator<Item = &BlockHash> {
        self.unavailable.keys()
    }

    /// Treats one input at `now` (milliseconds, never less than before). All outputs must be carried out, as far as the
    /// view shows them, before the next input.
    pub fn handle(&mut self, input: Input<P>, now: u64, view: &dyn ChainView) -> Vec<Output<P>> {
        self.handed.clear();
        let mut out = Vec::new();
        match input {
            Input::PeerConnected(peer) => self.on_connected(peer, now, &mut out),
            Input::PeerDisconnected(peer) => self.on_disconnected(peer),
            Input::Response { peer, id, result } => self.on_response(peer, id, result, now, view, &mut out),
            Input::Announced { peer, hash, height, parent } => self.on_announced(peer, hash, height, parent),
            Input::HeadersImported { peer, count, tip, result } => {
                self.on_headers_imported(peer, count, tip, result, now, view, &mut out);
            }
            Input::BlockRefused { peer, hash } => {
                if let Some(peer) = self.peers.get_mut(&peer) {
                    peer.lacks.insert(hash);
                }
                // What it costs is for whoever found out.
                self.fail(peer, None, now, &mut out);
            }
            Input::BlocksChanged => {}
            Input::TimerFired(timer) => self.on_timer(timer, now, &mut out),
        }
        self.poll_headers(now, view, &mut out);
        let wanted = self.poll_blocks(now, view, &mut out);
        self.poll_wake(now, &mut out);
        self.poll_state(&wanted, view, &mut out);
        out
    }

    fn on_connected(&mut self, peer: P, now: u64, out: &mut Vec<Output<P>>) {
        if self.peers.len() >= MAX_SYNC_PEERS || self.peers.contains_key(&peer) {
            return;
        }
        let fresh = Peer {
            claim: None,
            doubted: false,
            ahead: false,
            lacks: BTreeSet::new(),
            busy: false,
            window: MAX_BLOCKS,
            failures: 0,
            rests_until: 0,
            unproven: 0,
        };
        self.peers.insert(peer, fresh);
        self.send(peer, Question::Status, Request::Status, now, out);
    }

    fn on_disconnected(&mut self, peer: P) {
        self.peers.remove(&peer);
        self.requests.retain(|_, sent| sent.peer != peer);
        self.headers.take_if(|headers| headers.peer == peer);
    }

    fn on_announced(&mut self, from: P, hash: BlockHash, height: u64, parent: Parent) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        peer.lacks.remove(&hash);
        if let Some(claim) = peer.claim.as_mut().filter(|claim| claim.height < height) {
            (claim.height, claim.tip) = (height, hash);
        }
        peer.ahead |= parent == Parent::Unknown;
    }

    fn on_response(
        &mut self,
        peer: P,
        id: u64,
        result: Result<Response, Failure>,
        now: u64,
        view: &dyn ChainView,
        out: &mut Vec<Output<P>>,
    ) {
        // One that comes after its time-out, or from another than was asked, answers nothing.
        if self.requests.get(&id).is_none_or(|sent| sent.peer != peer) {
            return;
        }
        let Some(Sent { question, .. }) = self.requests.remove(&id) else { return };
        self.settle(peer, &question, now, out);
        match (question, result) {
            (_, Err(Failure::Network) | Ok(Response::Failed { .. })) => self.fail(peer, None, now, out),
            (Question::Status, Ok(Response::Status(status))) => self.on_status(peer, status, now, out),
            (Question::Headers, Ok(Response::Headers(headers))) => self.on_headers(peer, headers, now, view, out),
            (Question::Blocks(asked), Ok(Response::Blocks(blocks))) => {
                self.on_blocks(peer, &asked, blocks, now, view, out);
            }
            _ => self.fail(peer, Some(Offence::WrongResponse), now, out),
        }
    }

    fn on_status(&mut self, from: P, status: ChainStatus, now: u64, out: &mut Vec<Output<P>>) {
        if status.genesis != self.genesis {
            self.fail(from, Some(Offence::WrongNetwork), now, out);
        } else if let Some(peer) = self.peers.get_mut(&from) {
            peer.claim = Some(status);
            peer.doubted = false;
        }
    }

    fn on_headers(&mut self, peer: P, headers: Vec<Header>, now: u64, view: &dyn ChainView, out: &mut Vec<Output<P>>) {
        let Some(first) = headers.first() else { return self.finish_headers(peer, view, out) };
        let connects = view.knows(&first.parent);
        if headers.len() > MAX_HEADERS {
            let offence = Offence::TooManyHeaders { found: headers.len(), limit: MAX_HEADERS };
            self.fail(peer, Some(offence), now, out);
        } else if headers.windows(2).any(|pair| pair[1].parent != pair[0].hash()) {
            self.fail(peer, Some(Offence::BrokenHeaders), now, out);
        } else if !connects {
            self.on_unconnected(peer, now, view, out);
        } else {
            self.succeed(peer);
            out.push(Output::ImportHeaders { peer, headers });
        }
    }

    /// The peer's best chain may have changed since we asked: a fresh locator, once.
    fn on_unconnected(&mut self, peer: P, now: u64, view: &dyn ChainView, out: &mut Vec<Output<P>>) {
        match &mut self.headers {
            Some(headers) if headers.peer == peer && !headers.retried => {
                headers.retried = true;
                self.ask_headers(peer, None, now, view, out);
            }
            _ => self.fail(peer, Some(Offence::UnconnectedHeaders), now, out),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one input, and what every on_ method gets")]
    fn on_headers_imported(
        &mut self,
        peer: P,
        count: usize,
        tip: BlockHash,
        result: HeaderImport,
        now: u64,
        view: &dyn ChainView,
        out: &mut Vec<Output<P>>,
    ) {
        let Some(headers) = self.headers.as_mut().filter(|headers| headers.peer == peer) else { return };
        match result {
            HeaderImport::Invalid => self.fail(peer, Some(Offence::InvalidHeaders), now, out),
            HeaderImport::Unconnected => self.on_unconnected(peer, now, view, out),
            HeaderImport::Held => self.doubt(peer),
            HeaderImport::Connected => {
                let best_work = view.best_work();
                headers.barren = if best_work > headers.best_work { 0 } else { headers.barren + 1 };
                headers.best_work = best_work;
                if count >= MAX_HEADERS && headers.barren < MAX_BARREN_BATCHES {
                    self.ask_headers(peer, Some(tip), now, view, out);
                } else {
                    self.finish_headers(peer, view, out);
                }
            }
        }
    }

    fn on_blocks(
        &mut self,
        from: P,
        asked: &[BlockHash],
        blocks: Vec<Option<BlockData>>,
        now: u64,
        view: &dyn ChainView,
        out: &mut Vec<Output<P>>,
    ) {
        if blocks.len() > asked.len() {
            let offence = Offence::TooManyBlocks { found: blocks.len(), limit: asked.len() };
            return self.fail(from, Some(offence), now, out);
        }
        if blocks.is_empty() {
            return self.fail(from, Some(Offence::NoBlocks), now, out);
        }
        self.succeed(from);
        let Some(peer) = self.peers.get_mut(&from) else { return };
        peer.window = (peer.window * 2).min(MAX_BLOCKS);
        for (hash, data) in asked.iter().zip(blocks) {
            // Without pixels only where every peer was asked for them before.
            let may_lack_pixels = || self.unavailable.contains_key(hash) && view.may_lack_pixels(hash);
            match data.filter(|data| has_all_pixels(data) || may_lack_pixels()) {
                Some(data) => {
                    self.handed.insert(*hash);
                    out.push(Output::ImportBlock { peer: from, hash: *hash, data });
                }
                None => {
                    peer.lacks.insert(*hash);
                }
            }
        }
    }

    fn on_timer(&mut self, timer: Timer<P>, now: u64, out: &mut Vec<Output<P>>) {
        match timer {
            Timer::Status(peer) => {
                let asking =
                    self.requests.values().any(|sent| sent.peer == peer && matches!(sent.question, Question::Status));
                if self.peers.contains_key(&peer) && !asking {
                    self.send(peer, Question::Status, Request::Status, now, out);
                }
            }
            Timer::Request(id) => {
                let Some(Sent { peer, question }) = self.requests.remove(&id) else { return };
                self.settle(peer, &question, now, out);
                if let (Question::Blocks(_), Some(peer)) = (&question, self.peers.get_mut(&peer)) {
                    peer.window = (peer.window / 2).max(1);
                }
                self.fail(peer, Some(Offence::Stalled), now, out);
            }
            Timer::Wake => self.wake_at = None,
        }
    }

    /// Begins with headers if somebody has more of them: who claims most work first.
    fn poll_headers(&mut self, now: u64, view: &dyn ChainView, out: &mut Vec<Output<P>>) {
        if self.headers.is_some() {
            return;
        }
        let best_work = view.best_work();
        let candidates = (self.peers.iter())
            .filter(|(_, peer)| peer.is_free(now) && (peer.ahead || peer.claimed_work() > best_work))
            .map(|(id, peer)| (peer.claimed_work(), *id));
        // The first of equals, as `rev` makes it: `max_by_key` takes the last.
        let Some((_, peer)) = candidates.rev().max_by_key(|(work, _)| *work) else { return };
        self.headers = Some(HeaderSync { peer, retried: false, barren: 0, best_work });
        self.ask_headers(peer, None, now, view, out);
    }

    /// Asks for missing blocks, unless headers come first or blocks are already under way. Returns what is wanted.
    fn poll_blocks(&mut self, now: u64, view: &dyn ChainView, out: &mut Vec<Output<P>>) -> Vec<BlockHash> {
        let mut wanted = view.missing(LOOKAHEAD + self.handed.len());
        // Those handed over are kept in mind too: they may yet be refused.
        let set: BTreeSet<_> = wanted.iter().copied().collect();
        self.unavailable.retain(|hash, _| set.contains(hash));
        self.peers.values_mut().for_each(|peer| peer.lacks.retain(|hash| set.contains(hash)));
        wanted.retain(|hash| !self.handed.contains(hash));
        wanted.truncate(LOOKAHEAD);
        self.poll_unavailable(&wanted, now);
        let asking = self.requests.values().any(|sent| matches!(sent.question, Question::Blocks(_)));
        let full = view.in_validation() + self.handed.len() >= MAX_IN_VALIDATION;
        if self.headers.is_some() || asking || full {
            return wanted;
        }
        // Who has failed least, for the lowest block that somebody free may have.
        let Some((id, peer)) = wanted.iter().find_map(|hash| {
            let may_have = |peer: &Peer| peer.claim.is_some() && peer.is_free(now) && !peer.lacks.contains(hash);
            self.peers.iter().filter(|(_, peer)| may_have(peer)).min_by_key(|(_, peer)| peer.failures)
        }) else {
            return wanted;
        };
        let hashes: Vec<_> =
            wanted.iter().filter(|hash| !peer.lacks.contains(hash)).take(peer.window).copied().collect();
        self.send(*id, Question::Blocks(hashes.clone()), Request::Blocks { hashes }, now, out);
        wanted
    }

    /// Finds wanted blocks that all peers lack, and lets them be asked again when it is time.
    fn poll_unavailable(&mut self, wanted: &[BlockHash], now: u64) {
        for hash in wanted {
            let mut serving = self.peers.values().filter(|peer| peer.claim.is_some()).peekable();
            if serving.peek().is_none() || !serving.all(|peer| peer.lacks.contains(hash)) {
                continue;
            }
            let entry = self.unavailable.entry(*hash).or_insert(Unavailable {
                attempts: 0,
                retry_at: now + FIRST_BACKOFF,
                retrying: false,
            });
            if entry.retrying {
                entry.attempts = entry.attempts.saturating_add(1);
                entry.retry_at = now + backoff(entry.attempts);
                entry.retrying = false;
            } else if entry.retry_at <= now {
                entry.retrying = true;
                self.peers.values_mut().for_each(|peer| {
                    peer.lacks.remove(hash);
                });
            }
        }
    }

    fn poll_wake(&mut self, now: u64, out: &mut Vec<Output<P>>) {
        let rests = self.peers.values().map(|peer| peer.rests_until);
        let retries = self.unavailable.values().map(|entry| entry.retry_at);
        let Some(at) = rests.chain(retries).filter(|at| *at > now).min() else { return };
        if self.wake_at.is_none_or(|set| at < set || set <= now) {
            self.wake_at = Some(at);
            out.push(Output::SetTimer { timer: Timer::Wake, at });
        }
    }

    fn poll_state(&mut self, wanted: &[BlockHash], view: &dyn ChainView, out: &mut Vec<Output<P>>) {
        let best_work = view.best_work();
        let state = if self.peers.is_empty() {
            State::Waiting
        } else if let Some(headers) = &self.headers {
            State::Headers { peer: headers.peer }
        } else if let Some(peer) =
            self.peers.iter().find(|(_, peer)| peer.claimed_work() > best_work).map(|(id, _)| *id)
        {
            State::Headers { peer }
        } else if self.peers.values().all(|peer| peer.claim.is_none()) {
            State::Contacting
        } else if let Some(hash) = wanted.first() {
            let unavailable = wanted.iter().all(|hash| self.unavailable.contains_key(hash));
            if unavailable { State::Unavailable { hash: *hash } } else { State::Blocks }
        } else if view.in_validation() + self.handed.len() > 0 {
            State::Blocks
        } else {
            State::Synced
        };
        if state != self.state {
            self.state = state;
            out.push(Output::State(state));
        }
    }

    /// Asks for the headers after `after`, if given, else after what we have.
    fn ask_headers(
        &mut self,
        peer: P,
        after: Option<BlockHash>,
        now: u64,
        view: &dyn ChainView,
        out: &mut Vec<Output<P>>,
    ) {
        let locator = after.into_iter().chain(view.locator()).take(MAX_LOCATOR).collect();
        let limit = u32::try_from(MAX_HEADERS).expect("a constant below 2^32");
        self.send(peer, Question::Headers, Request::Headers { locator, limit }, now, out);
    }

    /// The peer has no more headers. Did they show the work that it claims?
    fn finish_headers(&mut self, id: P, view: &dyn ChainView, out: &mut Vec<Output<P>>) {
        self.headers.take_if(|headers| headers.peer == id);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.failures = 0;
        peer.ahead = false;
        if peer.claim.as_ref().is_none_or(|claim| claim.work <= view.best_work()) {
            peer.unproven = 0;
            return;
        }
        peer.doubted = true;
        peer.unproven += 1;
        if peer.unproven >= 2 {
            out.push(Output::Penalize { peer: id, offence: Offence::UnprovenWork });
        }
    }

    /// The peer's headers cannot be used now: not before its next status.
    fn doubt(&mut self, id: P) {
        self.headers.take_if(|headers| headers.peer == id);
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.doubted = true;
            peer.ahead = false;
        }
    }

    fn send(&mut self, peer: P, question: Question, request: Request, now: u64, out: &mut Vec<Output<P>>) {
        let id = self.next_id;
        self.next_id += 1;
        if let (Question::Headers | Question::Blocks(_), Some(peer)) = (&question, self.peers.get_mut(&peer)) {
            peer.busy = true;
        }
        self.requests.insert(id, Sent { peer, question });
        out.push(Output::Send { peer, id, request });
        out.push(Output::SetTimer { timer: Timer::Request(id), at: now + REQUEST_TIMEOUT });
    }

    /// A request has ended, one way or another.
    fn settle(&mut self, id: P, question: &Question, now: u64, out: &mut Vec<Output<P>>) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        match question {
            Question::Status => out.push(Output::SetTimer { timer: Timer::Status(id), at: now + STATUS_INTERVAL }),
            Question::Headers | Question::Blocks(_) => peer.busy = false,
        }
    }

    fn succeed(&mut self, peer: P) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.failures = 0;
        }
    }

    /// Lets a peer rest after a failure, and gives up on its headers.
    fn fail(&mut self, id: P, offence: Option<Offence>, now: u64, out: &mut Vec<Output<P>>) {
        self.headers.take_if(|headers| headers.peer == id);
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.rests_until = now + backoff(peer.failures);
            peer.failures = peer.failures.saturating_add(1);
            match offence {
                None | Some(Offence::Stalled) => {}
                // It may not serve what it claims.
                Some(_) => (peer.claim, peer.ahead) = (None, false),
            }
        }
        out.extend(offence.map(|offence| Output::Penalize { peer: id, offence }));
    }
}

impl Peer {
    /// What it claims, unless that is doubted.
    fn claimed_work(&self) -> U256 {
        self.claim.as_ref().filter(|_| !self.doubted).map_or(U256::ZERO, |claim| claim.work)
    }

    fn is_free(&self, now: u64) -> bool {
        !self.busy && self.rests_until <= now
    }
}

/// Milliseconds to wait after `before` failures and one more.
fn backoff(before: u32) -> u64 {
    FIRST_BACKOFF.checked_shl(before.min(16)).unwrap_or(MAX_BACKOFF).min(MAX_BACKOFF)
}

/// A peer that has pruned pixels can serve the rest, which is not enough to check the answers.
fn has_all_pixels(data: &BlockData) -> bool {
    data.body
        .transactions
        .iter()
        .zip(&data.pixels)
        .all(|((transaction, _), pixels)| transaction.task().is_none() || pixels.is_some())
}

#[cfg(test)]
mod tests;
