//! Sync: headers first, then blocks, from several peers at once.
//!
//! A machine without I/O: [`Sync::handle`] takes what happened, the time in milliseconds and a view of the chain, and
//! returns what is to be done. Peers are any ordered id. `on_*` methods treat one input; `poll_*` methods see what can be
//! asked for next, and run after each input.
//!
//! Who claims more work than our headers have is asked for headers, in batches, until there are no more (`headers`). All
//! rules of a header are checked before anything is stored; a chain that has shown too little work is counted first and
//! stored when it has more (`presync`). Meanwhile missing blocks are asked for (`blocks`). Who stalls or fails rests for a
//! while, so that another is asked. A block that nobody has is *unavailable*, never invalid, and asked for again and again
//! as long as it is wanted. One that is only to be had without its pixels is unavailable too, unless it is deep enough for
//! the work above it to stand for them.

mod blocks;
mod event;
mod headers;
mod peer;
mod presync;

use std::collections::{BTreeMap, BTreeSet};

use ocelli_consensus::{BlockHash, Network, Parameters};

use crate::message::{ChainStatus, Request, Response};
use blocks::{Askers, Unavailable};
use headers::HeaderSync;
use peer::{Peer, backoff};

pub use blocks::{
    FIRST_STALL_TIMEOUT, MAX_BLOCK_REQUESTS, MAX_IN_VALIDATION, MAX_REQUESTS_PER_PEER, MAX_STALL_TIMEOUT, WINDOW,
};
pub use event::{ChainView, Failure, HeaderImport, Input, Offence, Output, Parent, State, Timer};
pub use headers::MAX_BARREN_BATCHES;
pub use presync::{CONFIRMING, MAX_COUNTED, Place};

/// Milliseconds between a peer's status and the question for the next.
pub const STATUS_INTERVAL: u64 = 30_000;
/// Milliseconds that a peer has for a response at first; after time-outs it has longer.
pub const REQUEST_TIMEOUT: u64 = 10_000;
/// The most that these become.
pub const MAX_REQUEST_TIMEOUT: u64 = 30_000;
/// Milliseconds after the first failure; doubled with each further one.
pub const FIRST_BACKOFF: u64 = 1_000;
/// Milliseconds after many failures.
pub const MAX_BACKOFF: u64 = 30_000;
/// Peers known to sync; further ones are not asked for anything.
pub const MAX_SYNC_PEERS: usize = 256;

/// The sync machine; `P` names a peer.
#[derive(Debug)]
pub struct Sync<P> {
    genesis: BlockHash,
    parameters: Parameters,
    /// Secret, for [`presync`].
    salt: [u8; 32],
    peers: BTreeMap<P, Peer>,
    requests: BTreeMap<u64, Sent<P>>,
    next_id: u64,
    headers: Option<HeaderSync<P>>,
    /// Blocks under way.
    in_flight: BTreeMap<BlockHash, Askers<P>>,
    stall_timeout: u64,
    /// Requests for blocks that may be under way at a time, at most [`MAX_BLOCK_REQUESTS`]: as many as get through in time.
    block_requests: usize,
    /// Blocks wanted that all peers lack; only such as [`WINDOW`] covers.
    unavailable: BTreeMap<BlockHash, Unavailable>,
    /// Blocks handed over during the current input: the view does not show them yet.
    handed: BTreeSet<BlockHash>,
    wake_at: Option<u64>,
    state: State<P>,
}

#[derive(Debug)]
struct Sent<P> {
    peer: P,
    question: Question,
    since: u64,
}

#[derive(Debug)]
enum Question {
    Status,
    Headers,
    Blocks(Vec<BlockHash>),
}

impl<P: Copy + Ord> Sync<P> {
    /// Sync for a network, without peers. `salt` is random and secret: it keeps [`CONFIRMING`]'s promise.
    pub fn new(network: &Network, salt: [u8; 32]) -> Self {
        Self {
            genesis: network.genesis_hash(),
            parameters: network.parameters.clone(),
            salt,
            peers: BTreeMap::new(),
            requests: BTreeMap::new(),
            next_id: 0,
            headers: None,
            in_flight: BTreeMap::new(),
            stall_timeout: FIRST_STALL_TIMEOUT,
            block_requests: MAX_BLOCK_REQUESTS,
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
            Input::HeadersImported { peer, result } => self.on_headers_imported(peer, result, now, view, &mut out),
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
        self.peers.insert(peer, Peer::new());
        self.send(peer, Question::Status, Request::Status, now, out);
    }

    fn on_disconnected(&mut self, peer: P) {
        self.peers.remove(&peer);
        self.headers.take_if(|headers| headers.peer == peer);
        let mut ended = Vec::new();
        self.requests.retain(|_, sent| {
            let stays = sent.peer != peer;
            if let (false, Question::Blocks(hashes)) = (stays, &mut sent.question) {
                ended.append(hashes);
            }
            stays
        });
        self.release(peer, &ended);
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
        let Some(Sent { question, since, .. }) = self.requests.remove(&id) else { return };
        self.settle(peer, &question, now, out);
        match (question, result) {
            (_, Err(Failure::Network) | Ok(Response::Failed { .. })) => self.fail(peer, None, now, out),
            (Question::Status, Ok(Response::Status(status))) => self.on_status(peer, status, now, out),
            (Question::Headers, Ok(Response::Headers(headers))) => self.on_headers(peer, headers, now, view, out),
            (Question::Blocks(asked), Ok(Response::Blocks(blocks))) => {
                self.on_blocks(peer, &asked, since, blocks, now, view, out);
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
                let Some(Sent { peer, question, .. }) = self.requests.remove(&id) else { return };
                self.settle(peer, &question, now, out);
                if let Question::Blocks(_) = question {
                    self.block_requests = (self.block_requests / 2).max(1);
                }
                if let Some(peer) = self.peers.get_mut(&peer) {
                    peer.on_timeout();
                }
                self.fail(peer, Some(Offence::Stalled), now, out);
            }
            Timer::Wake => self.wake_at = None,
        }
    }

    fn poll_wake(&mut self, now: u64, out: &mut Vec<Output<P>>) {
        let rests = self.peers.values().map(|peer| peer.rests_until);
        let retries = self.unavailable.values().map(|entry| entry.retry_at);
        let Some(at) = rests.chain(retries).chain(self.stalled_at()).filter(|at| *at > now).min() else { return };
        if self.wake_at.is_none_or(|set| at < set || set <= now) {
            self.wake_at = Some(at);
            out.push(Output::SetTimer { timer: Timer::Wake, at });
        }
    }

    fn poll_state(&mut self, wanted: &[BlockHash], view: &dyn ChainView, out: &mut Vec<Output<P>>) {
        let state = if self.peers.is_empty() {
            State::Waiting
        } else if let Some(headers) = &self.headers {
            State::Headers { peer: headers.peer }
        } else if let Some((peer, _)) = self.peers.iter().find(|(_, peer)| headers::has_more(peer, view)) {
            State::Headers { peer: *peer }
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

    fn send(&mut self, peer: P, question: Question, request: Request, now: u64, out: &mut Vec<Output<P>>) {
        let id = self.next_id;
        self.next_id += 1;
        let mut patience = REQUEST_TIMEOUT;
        if let Some(peer) = self.peers.get_mut(&peer) {
            patience = peer.patience;
            match question {
                Question::Status => {}
                Question::Headers => peer.asked_headers = true,
                Question::Blocks(_) => peer.asked_blocks += 1,
            }
        }
        self.requests.insert(id, Sent { peer, question, since: now });
        out.push(Output::Send { peer, id, request });
        out.push(Output::SetTimer { timer: Timer::Request(id), at: now + patience });
    }

    /// A request has ended, one way or another.
    fn settle(&mut self, id: P, question: &Question, now: u64, out: &mut Vec<Output<P>>) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        match question {
            Question::Status => out.push(Output::SetTimer { timer: Timer::Status(id), at: now + STATUS_INTERVAL }),
            Question::Headers => peer.asked_headers = false,
            Question::Blocks(hashes) => self.release(id, hashes),
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

#[cfg(test)]
mod tests;
