//! Sync: headers first, then blocks, from several peers at once.
//!
//! A machine without I/O: [`Sync::handle`] takes what happened, the time in monotonic milliseconds and a view of the chain,
//! and returns what is to be done. Peers are any ordered id. `on_*` methods treat one input; `poll_*` methods see what can be
//! asked for next, and run after each input.
//!
//! A peer that claims more work than our headers have is asked for headers, in batches, until there are no more (`headers`).
//! All rules of a header are checked before anything is stored; a chain that has shown too little work is counted first and
//! stored when it has more (`presync`). Meanwhile missing blocks are asked for (`blocks`).
//!
//! Headers of a version that this node does not expect are followed as far as it takes to see their work, and not stored.
//!
//! A claim costs nothing, so it counts for nothing: peers are ranked by what they have brought (`peer`). A peer that stalls
//! or fails rests for a while, and its address group is remembered for it (`crate::origin`), so that a new identity from the same place
//! is no better than the last. For peers that we dialled, places are kept in all that is asked for. (Bitcoin Core disconnects
//! who stalls and protects some outbound peers, `net_processing.cpp`; Lighthouse asks pools of peers by the chain that they
//! claim, `sync/manager.rs`; here nobody is disconnected for being slow.)
//!
//! A block that nobody has is *unavailable*, never invalid, and asked for again and again
//! as long as it is wanted. One that is only to be had without its attachments is unavailable too, unless it is deep enough for
//! the work above it to stand for them.

mod blocks;
mod event;
mod headers;
mod line;
mod peer;
mod presync;

use std::collections::{BTreeMap, BTreeSet};

use ocelli_consensus::{BlockHash, Network};

use crate::Offence;
use crate::message::{ChainStatus, Request, Response};
use crate::origin::Groups;
pub use crate::origin::{Direction, FADE, Group, MAX_FAILURES, MAX_GROUPS, Origin};
use blocks::{Askers, Unavailable};
use headers::HeaderSync;
use line::Line;
use peer::Peer;

pub use blocks::{KEPT_BLOCK_REQUESTS, MAX_IN_VALIDATION, MAX_REQUESTS_PER_PEER, TRIAL_WINDOW, WINDOW};
pub use event::{ChainView, Failure, HeaderImport, Input, Parent, SyncAction, SyncState, Timer};
pub use headers::{HEADER_STALL, MAX_BARREN_BATCHES, MAX_HEADER_SYNCS, MAX_KNOWN_BATCHES};
pub use line::{FIRST_STALL_TIMEOUT, MAX_BLOCK_REQUESTS, MAX_STALL_TIMEOUT, MIN_STALL_TIMEOUT};
pub use presync::{CONFIRMING, HeaderPlace, MAX_COUNTED};

/// Milliseconds between a peer's status and the question for the next.
pub const STATUS_INTERVAL: u64 = 30_000;
/// Milliseconds that a peer has for a response at first; after time-outs it has longer.
pub const REQUEST_TIMEOUT: u64 = 10_000;
/// The most that these become.
pub const MAX_REQUEST_TIMEOUT: u64 = 30_000;
/// Peers known to sync; further ones are not asked for anything.
pub const MAX_SYNC_PEERS: usize = 256;
/// Of these, only such as we dialled.
pub const KEPT_SYNC_PEERS: usize = 32;

/// The sync machine; `P` names a peer.
///
/// Its time is monotonic milliseconds since any start, never the wall clock: nothing in it is compared with header times, which
/// whoever imports headers holds against a clock.
#[derive(Debug)]
pub struct Sync<P> {
    genesis: BlockHash,
    network: Network,
    /// Secret, for [`presync`].
    salt: [u8; 32],
    peers: BTreeMap<P, Peer>,
    requests: BTreeMap<u64, Sent<P>>,
    next_id: u64,
    /// How many peers have connected.
    connected: u64,
    groups: Groups,
    /// Who is asked for headers; at most [`MAX_HEADER_SYNCS`].
    header_syncs: Vec<HeaderSync<P>>,
    /// Blocks under way.
    in_flight: BTreeMap<BlockHash, Askers<P>>,
    line: Line,
    /// Blocks wanted that all peers lack; only such as [`WINDOW`] covers.
    unavailable: BTreeMap<BlockHash, Unavailable>,
    /// Blocks handed over during the current input: the view does not show them yet.
    handed: BTreeSet<BlockHash>,
    wake_at: Option<u64>,
    state: SyncState<P>,
}

#[derive(Debug)]
struct Sent<P> {
    peer: P,
    question: Question,
    since: u64,
    /// Another was asked for some of the same blocks since, for it took too long.
    is_overtaken: bool,
}

#[derive(Debug)]
enum Question {
    Status,
    Headers,
    Blocks(Vec<BlockHash>),
}

/// What a peer is judged for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Headers,
    Blocks,
    All,
}

impl Question {
    fn purpose(&self) -> Purpose {
        match self {
            Self::Status => Purpose::All,
            Self::Headers => Purpose::Headers,
            Self::Blocks(_) => Purpose::Blocks,
        }
    }
}

impl<P: Copy + Ord> Sync<P> {
    /// Sync for a network, without peers. `salt` is random and secret: it keeps [`CONFIRMING`]'s promise.
    pub fn new(network: &Network, salt: [u8; 32]) -> Self {
        Self {
            genesis: network.genesis_hash(),
            network: network.clone(),
            salt,
            peers: BTreeMap::new(),
            requests: BTreeMap::new(),
            next_id: 0,
            connected: 0,
            groups: Groups::default(),
            header_syncs: Vec::new(),
            in_flight: BTreeMap::new(),
            line: Line::new(),
            unavailable: BTreeMap::new(),
            handed: BTreeSet::new(),
            wake_at: None,
            state: SyncState::Waiting,
        }
    }

    pub fn state(&self) -> SyncState<P> {
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

    /// Treats one input at `now` (monotonic milliseconds since any start, never less than before). All outputs must be carried out, as far as the
    /// view shows them, before the next input.
    pub fn handle(&mut self, input: Input<P>, now: u64, view: &dyn ChainView) -> Vec<SyncAction<P>> {
        self.handed.clear();
        let mut out = Vec::new();
        match input {
            Input::PeerConnected { peer, group, direction } => {
                self.on_connected(peer, Origin { direction, group }, now, &mut out);
            }
            Input::PeerDisconnected(peer) => self.on_disconnected(peer, now),
            Input::Response { peer, id, result } => self.on_response(peer, id, result, now, view, &mut out),
            Input::Announced { peer, hash, height, parent } => self.on_announced(peer, hash, height, parent),
            Input::HeadersImported { peer, result } => self.on_headers_imported(peer, result, now, view, &mut out),
            Input::BlockRefused { peer, hash } => {
                if let Some(peer) = self.peers.get_mut(&peer) {
                    peer.lacks.insert(hash);
                    peer.blocks.forget();
                }
                // What it costs is for whoever found out.
                self.fail(peer, Purpose::Blocks, None, now, &mut out);
            }
            Input::BlocksChanged => {}
            Input::TimerFired(timer) => self.on_timer(timer, now, &mut out),
        }
        self.poll_headers(now, view, &mut out);
        let wanted = self.poll_blocks(now, view, &mut out);
        self.poll_wake(now, view, &mut out);
        self.poll_state(&wanted, now, view, &mut out);
        #[cfg(test)]
        self.check_invariants();
        out
    }

    fn on_connected(&mut self, peer: P, origin: Origin, now: u64, out: &mut Vec<SyncAction<P>>) {
        let room = MAX_SYNC_PEERS - if origin.direction == Direction::Inbound { KEPT_SYNC_PEERS } else { 0 };
        if self.peers.len() >= room || self.peers.contains_key(&peer) {
            return;
        }
        self.connected += 1;
        self.peers.insert(peer, Peer::new(origin, self.connected));
        self.send(peer, Question::Status, Request::Status, now, out);
    }

    fn on_disconnected(&mut self, id: P, now: u64) {
        let peer = self.peers.remove(&id);
        self.header_syncs.retain(|sync| sync.peer != id);
        let (ended, left): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.requests).into_iter().partition(|(_, sent)| sent.peer == id);
        self.requests = left;
        for Sent { question, .. } in ended.into_values() {
            let record = peer.as_ref().map(|peer| (peer.origin, peer.record(&question)));
            // It leaves before the time-out, and without having answered anything.
            if let Some((origin, Some(record))) = record
                && record.response().is_none()
            {
                self.groups.entry(origin, now).add_with_rest(now);
            }
            if let Question::Blocks(hashes) = &question {
                self.release(id, hashes);
            }
        }
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
        out: &mut Vec<SyncAction<P>>,
    ) {
        // One that comes after its time-out, or from another than was asked, answers nothing.
        if self.requests.get(&id).is_none_or(|sent| sent.peer != peer) {
            return;
        }
        let Some(Sent { question, since, is_overtaken, .. }) = self.requests.remove(&id) else { return };
        self.settle(peer, &question, now, out);
        match (question, result) {
            (question, Err(Failure::Network) | Ok(Response::Failed { .. })) => {
                self.fail(peer, question.purpose(), None, now, out);
            }
            (Question::Status, Ok(Response::Status(status))) => self.on_status(peer, status, now, out),
            (Question::Headers, Ok(Response::Headers(headers))) => self.on_headers(peer, headers, now, view, out),
            (Question::Blocks(asked), Ok(Response::Blocks(blocks))) => {
                if is_overtaken && blocks.iter().any(Option::is_some) {
                    self.line.on_overtaken();
                }
                self.on_blocks(peer, &asked, since, blocks, now, view, out);
            }
            _ => self.fail(peer, Purpose::All, Some(Offence::WrongResponse), now, out),
        }
    }

    fn on_status(&mut self, from: P, status: ChainStatus, now: u64, out: &mut Vec<SyncAction<P>>) {
        if status.genesis != self.genesis {
            self.fail(from, Purpose::All, Some(Offence::WrongNetwork), now, out);
        } else if let Some(peer) = self.peers.get_mut(&from) {
            peer.validated = Some(status.tip);
            peer.claim = Some(status);
            peer.doubted = false;
        }
    }

    fn on_timer(&mut self, timer: Timer<P>, now: u64, out: &mut Vec<SyncAction<P>>) {
        match timer {
            Timer::Status(peer) => {
                let asking =
                    self.requests.values().any(|sent| sent.peer == peer && matches!(sent.question, Question::Status));
                if self.peers.contains_key(&peer) && !asking {
                    self.send(peer, Question::Status, Request::Status, now, out);
                }
            }
            Timer::Request(id) => {
                let Some(Sent { peer: id, question, since, .. }) = self.requests.remove(&id) else { return };
                self.settle(id, &question, now, out);
                let Some(peer) = self.peers.get_mut(&id) else { return };
                peer.on_timeout();
                if matches!(question, Question::Blocks(_)) {
                    self.line.on_timeout(since);
                }
                self.fail(id, question.purpose(), Some(Offence::Stalled), now, out);
            }
            Timer::Wake => self.wake_at = None,
        }
    }

    fn poll_wake(&mut self, now: u64, view: &dyn ChainView, out: &mut Vec<SyncAction<P>>) {
        let rests = self
            .peers
            .values()
            .flat_map(|peer| [&peer.headers, &peer.blocks].map(|record| record.rests_until(peer.origin, &self.groups)));
        let retries = self.unavailable.values().map(|entry| entry.retry_at);
        let stalls = self.stalled_at(now).into_iter().chain(self.next_headers_at(now, view));
        let Some(at) = rests.chain(retries).chain(stalls).filter(|at| *at > now).min() else { return };
        if self.wake_at.is_none_or(|set| at < set || set <= now) {
            self.wake_at = Some(at);
            out.push(SyncAction::SetTimer { timer: Timer::Wake, at });
        }
    }

    fn poll_state(&mut self, wanted: &[BlockHash], now: u64, view: &dyn ChainView, out: &mut Vec<SyncAction<P>>) {
        let state = if self.peers.is_empty() {
            SyncState::Waiting
        } else if let Some(sync) = self.header_syncs.first().filter(|_| wanted.is_empty() || self.headers_come(now)) {
            SyncState::Headers { peer: sync.peer }
        } else if let Some((peer, _)) =
            self.peers.iter().find(|(_, peer)| wanted.is_empty() && headers::has_more(peer, view))
        {
            SyncState::Headers { peer: *peer }
        } else if self.peers.values().all(|peer| peer.claim.is_none()) {
            SyncState::Contacting
        } else if let Some(hash) = wanted.first() {
            let unavailable = wanted.iter().all(|hash| self.unavailable.contains_key(hash));
            if unavailable { SyncState::Unavailable { hash: *hash } } else { SyncState::Blocks }
        } else if view.in_validation() + self.handed.len() > 0 {
            SyncState::Blocks
        } else {
            SyncState::Synced
        };
        if state != self.state {
            self.state = state;
            out.push(SyncAction::State(state));
        }
    }

    fn send(&mut self, peer: P, question: Question, request: Request, now: u64, out: &mut Vec<SyncAction<P>>) {
        let id = self.next_id;
        self.next_id += 1;
        let mut patience = REQUEST_TIMEOUT;
        if let Some(peer) = self.peers.get_mut(&peer) {
            patience = peer.patience;
            match question {
                Question::Status => {}
                Question::Headers => {
                    peer.asked_headers = true;
                    peer.headers.asked(now);
                }
                Question::Blocks(_) => {
                    peer.asked_blocks += 1;
                    peer.blocks.asked(now);
                }
            }
        }
        self.requests.insert(id, Sent { peer, question, since: now, is_overtaken: false });
        out.push(SyncAction::Send { peer, id, request });
        out.push(SyncAction::SetTimer { timer: Timer::Request(id), at: now + patience });
    }

    /// A request has ended, one way or another.
    fn settle(&mut self, id: P, question: &Question, now: u64, out: &mut Vec<SyncAction<P>>) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        match question {
            Question::Status => out.push(SyncAction::SetTimer { timer: Timer::Status(id), at: now + STATUS_INTERVAL }),
            Question::Headers => peer.asked_headers = false,
            Question::Blocks(hashes) => self.release(id, hashes),
        }
    }

    fn is_rested(&self, peer: &Peer, purpose: Purpose, now: u64) -> bool {
        let record = if purpose == Purpose::Headers { &peer.headers } else { &peer.blocks };
        record.rests_until(peer.origin, &self.groups) <= now
    }

    /// Lets a peer rest after a failure, and those of its group that have brought nothing; gives up on its headers.
    fn fail(&mut self, id: P, purpose: Purpose, offence: Option<Offence>, now: u64, out: &mut Vec<SyncAction<P>>) {
        if purpose != Purpose::Blocks {
            self.header_syncs.retain(|sync| sync.peer != id);
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            let (headers, blocks) = (purpose != Purpose::Blocks, purpose != Purpose::Headers);
            if headers {
                peer.headers.fail(now);
            }
            if blocks {
                peer.blocks.fail(now);
            }
            self.groups.entry(peer.origin, now).add_with_rest(now);
            match offence {
                None | Some(Offence::Stalled) => {}
                // It may not serve what it claims.
                Some(_) => (peer.claim, peer.ahead) = (None, false),
            }
        }
        out.extend(offence.map(|offence| SyncAction::Penalize { peer: id, offence }));
    }

    /// What must hold between inputs.
    #[cfg(test)]
    fn check_invariants(&self) {
        let inbound = self.peers.values().filter(|peer| !peer.is_dialled()).count();
        assert!(self.peers.len() <= MAX_SYNC_PEERS && inbound <= MAX_SYNC_PEERS - KEPT_SYNC_PEERS);
        assert!(self.groups.len() <= MAX_GROUPS);
        assert!(self.unavailable.len() <= WINDOW);
        assert!((1..=MAX_BLOCK_REQUESTS).contains(&self.line.requests()));

        let asked = |id: P, is_kind: fn(&Question) -> bool| {
            self.requests.values().filter(|sent| sent.peer == id && is_kind(&sent.question)).count()
        };
        for (id, peer) in &self.peers {
            let blocks = asked(*id, |question| matches!(question, Question::Blocks(_)));
            assert!(blocks == peer.asked_blocks && blocks <= MAX_REQUESTS_PER_PEER);
            assert_eq!(asked(*id, |question| matches!(question, Question::Headers)), usize::from(peer.asked_headers));
            assert!(asked(*id, |question| matches!(question, Question::Status)) <= 1);
            assert!((1..=crate::message::MAX_BLOCKS).contains(&peer.window));
            assert!((REQUEST_TIMEOUT..=MAX_REQUEST_TIMEOUT).contains(&peer.patience));
            assert!(peer.lacks.len() <= WINDOW + MAX_BLOCK_REQUESTS * crate::message::MAX_BLOCKS);
        }
        assert!(self.requests.values().all(|sent| self.peers.contains_key(&sent.peer)));

        let syncing = self.header_syncs.iter().map(|sync| sync.peer).collect::<BTreeSet<_>>();
        assert_eq!(syncing.len(), self.header_syncs.len(), "of each peer once");
        let dialled = syncing.iter().filter(|id| self.peers[*id].is_dialled()).count();
        assert!(syncing.len() <= MAX_HEADER_SYNCS && syncing.len() - dialled < MAX_HEADER_SYNCS, "a place is kept");

        let requests = self.requests.values().filter_map(|sent| match &sent.question {
            Question::Blocks(hashes) => Some((sent.peer, hashes)),
            _ => None,
        });
        let mut in_flight: BTreeMap<BlockHash, BTreeSet<P>> = BTreeMap::new();
        for (peer, hashes) in requests {
            for hash in hashes {
                in_flight.entry(*hash).or_default().insert(peer);
            }
        }
        assert!(self.in_flight.keys().eq(in_flight.keys()));
        for (askers, asked) in self.in_flight.values().zip(in_flight.values()) {
            assert_eq!(askers.len(), asked.len());
            assert!(askers.iter().all(|(peer, _)| asked.contains(peer)));
        }
        let with = |is_dialled| self.peers.values().filter(move |peer| peer.is_dialled() == is_dialled);
        let blocks = |is_dialled| with(is_dialled).map(|peer| peer.asked_blocks).sum::<usize>();
        assert!(blocks(false) <= MAX_BLOCK_REQUESTS - KEPT_BLOCK_REQUESTS, "places are kept");
        assert!(blocks(true) + blocks(false) <= MAX_BLOCK_REQUESTS);
    }
}

#[cfg(test)]
mod tests;
