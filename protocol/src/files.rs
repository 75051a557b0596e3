//! Files of published models, fetched from peers that have them.
//!
//! Every node keeps the file of every model of its chain. One that was off while the parts came, or whose peers have them no
//! longer, asks for the whole file by the model's id, in chunks. A file is fetched whole from one peer, so that who sent
//! something else is known; one file at a time, which is what this holds in memory.
//!
//! A machine without I/O, as [`crate::sync`] is: [`Files::handle`] takes what happened and the time in monotonic milliseconds, and
//! returns what is to be done. A peer that does not have a file says so, and is asked again after a while: it may be
//! fetching it itself. Failures count for the address group, as everywhere.

use std::collections::{BTreeMap, BTreeSet};

use ocelli_consensus::ModelId;
use ocelli_consensus::object::MAX_FILE_BYTES;

use crate::Offence;
use crate::message::{FILE_CHUNK_BYTES, Request, Response};
use crate::origin::{Failures, Groups, Origin};
use crate::sync::Failure;

/// Peers that take part.
pub const MAX_FILE_PEERS: usize = 256;
/// Files that are wanted at a time; of more, the first ones.
pub const MAX_FILES: usize = 256;
/// Chunks asked for at a time: one travels while the next is asked for.
pub const CHUNKS_UNDER_WAY: usize = 4;
/// Milliseconds that a peer has for a chunk: 262,144 bytes at 0.2 Mbit/s.
pub const CHUNK_TIMEOUT: u64 = 10_000;
/// Milliseconds after which peers that lacked a file are asked for it again.
pub const LACK_TIME: u64 = 10_000;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input<P> {
    /// A full node connected.
    PeerConnected { peer: P, origin: Origin },
    /// It is gone, and so are the requests to it.
    PeerDisconnected(P),
    /// All files that lack, by the model's id with the size that its record says, the most urgent first. Takes the place of what was
    /// said before.
    Wanted(Vec<(ModelId, u32)>),
    /// A request has its end.
    Response {
        peer: P,
        /// The id that [`FilesAction::Send`] gave.
        id: u64,
        result: Result<Response, Failure>,
    },
    /// The time that [`FilesAction::WakeAt`] named has come.
    Woken,
}

/// What is to be done, in order, before the next input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilesAction<P> {
    /// Ask a peer; what comes of it is to be told under this id.
    Send { peer: P, id: u64, request: Request },
    /// A file is here: it has the model's id and size.
    File { model: ModelId, peer: P, bytes: Vec<u8> },
    /// Nobody who is connected has a file. They are asked again.
    Unavailable(ModelId),
    /// A peer did what an honest one does not.
    Penalize { peer: P, offence: Offence },
    /// Say [`Input::Woken`] at this time; replaces the time named before.
    WakeAt(u64),
}

/// The machine; `P` names a peer.
#[derive(Debug)]
pub struct Files<P> {
    peers: BTreeMap<P, Peer>,
    groups: Groups,
    wanted: Vec<(ModelId, u32)>,
    /// Files that nobody has.
    unavailable: BTreeSet<ModelId>,
    fetch: Option<Fetch<P>>,
    next_id: u64,
    wake_at: Option<u64>,
}

#[derive(Debug)]
struct Peer {
    origin: Origin,
    /// Wanted files that it does not have, and when it is asked for them again.
    lacks: BTreeMap<ModelId, u64>,
    failures: Failures,
}

/// The file that is being fetched.
#[derive(Debug)]
struct Fetch<P> {
    model: ModelId,
    size: u32,
    peer: P,
    /// In order; those that have not come yet are empty.
    chunks: Vec<Vec<u8>>,
    /// The next to ask for.
    next: u32,
    /// Chunks under way by the id of their request, and until when.
    asked: BTreeMap<u64, (u32, u64)>,
}

/// How a fetch ends before its time.
enum End {
    /// The peer does not have the file.
    Lacks,
    /// It has failed.
    Fails(Option<Offence>),
}

impl<P: Copy + Ord> Files<P> {
    /// A machine without peers that wants nothing.
    pub fn new() -> Self {
        Self {
            peers: BTreeMap::new(),
            groups: Groups::default(),
            wanted: Vec::new(),
            unavailable: BTreeSet::new(),
            fetch: None,
            next_id: 0,
            wake_at: None,
        }
    }

    /// Treats one input at `now` (monotonic milliseconds since any start, never less than before).
    pub fn handle(&mut self, input: Input<P>, now: u64) -> Vec<FilesAction<P>> {
        let mut out = Vec::new();
        match input {
            Input::PeerConnected { peer, origin } => {
                if self.peers.len() < MAX_FILE_PEERS {
                    let new = || Peer { origin, lacks: BTreeMap::new(), failures: Failures::default() };
                    self.peers.entry(peer).or_insert_with(new);
                }
            }
            Input::PeerDisconnected(peer) => {
                self.peers.remove(&peer);
                self.fetch.take_if(|fetch| fetch.peer == peer);
            }
            Input::Wanted(wanted) => self.on_wanted(wanted),
            Input::Response { peer, id, result } => self.on_response(peer, id, result, now, &mut out),
            Input::Woken => self.wake_at = None,
        }
        self.poll_late(now, &mut out);
        self.poll_fetch(now, &mut out);
        self.poll_chunks(now, &mut out);
        self.poll_wake(now, &mut out);
        #[cfg(test)]
        self.check_invariants();
        out
    }

    fn on_wanted(&mut self, mut wanted: Vec<(ModelId, u32)>) {
        wanted.truncate(MAX_FILES);
        wanted.retain(|(_, size)| (1..=MAX_FILE_BYTES).contains(size));
        self.wanted = wanted;
        let is_wanted = |model: &ModelId| self.wanted.iter().any(|(wanted, _)| wanted == model);
        self.unavailable.retain(is_wanted);
        self.peers.values_mut().for_each(|peer| peer.lacks.retain(|model, _| is_wanted(model)));
        self.fetch.take_if(|fetch| !is_wanted(&fetch.model));
    }

    fn on_response(
        &mut self,
        peer: P,
        id: u64,
        result: Result<Response, Failure>,
        now: u64,
        out: &mut Vec<FilesAction<P>>,
    ) {
        // One that comes after its fetch has ended, or from another than was asked, answers nothing.
        let Some(fetch) = self.fetch.as_mut().filter(|fetch| fetch.peer == peer) else { return };
        let Some((chunk, _)) = fetch.asked.remove(&id) else { return };
        match result {
            Ok(Response::File(Some(bytes))) if bytes.len() == fetch.length(chunk) => {
                fetch.chunks[chunk as usize] = bytes;
                if fetch.chunks.iter().all(|chunk| !chunk.is_empty()) {
                    self.finish(now, out);
                }
            }
            Ok(Response::File(None)) => self.give_up(End::Lacks, now, out),
            Ok(Response::Failed { .. }) | Err(Failure::Network) => self.give_up(End::Fails(None), now, out),
            Ok(_) | Err(Failure::Malformed) => {
                self.give_up(End::Fails(Some(Offence::WrongResponse)), now, out);
            }
        }
    }

    /// All chunks are here.
    fn finish(&mut self, now: u64, out: &mut Vec<FilesAction<P>>) {
        let Some(Fetch { model, peer, chunks, .. }) = self.fetch.as_mut() else { return };
        let bytes = std::mem::take(chunks).concat();
        if ModelId::of(&bytes) != *model {
            return self.give_up(End::Fails(Some(Offence::WrongFile)), now, out);
        }
        out.push(FilesAction::File { model: *model, peer: *peer, bytes });
        self.wanted.retain(|(wanted, _)| wanted != model);
        self.unavailable.remove(model);
        for peer in self.peers.values_mut() {
            peer.lacks.remove(model);
        }
        self.fetch = None;
    }

    fn give_up(&mut self, end: End, now: u64, out: &mut Vec<FilesAction<P>>) {
        let Some(Fetch { model, peer: id, .. }) = self.fetch.take() else { return };
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.lacks.insert(model, now + LACK_TIME);
        if let End::Fails(offence) = end {
            peer.failures.add_with_rest(now);
            self.groups.entry(peer.origin, now).add(now);
            out.extend(offence.map(|offence| FilesAction::Penalize { peer: id, offence }));
        }
    }

    fn poll_late(&mut self, now: u64, out: &mut Vec<FilesAction<P>>) {
        let is_late = |fetch: &Fetch<P>| fetch.asked.values().any(|(_, until)| *until <= now);
        if self.fetch.as_ref().is_some_and(is_late) {
            self.give_up(End::Fails(Some(Offence::Stalled)), now, out);
        }
    }

    /// Begins with the most urgent file that somebody may have.
    fn poll_fetch(&mut self, now: u64, out: &mut Vec<FilesAction<P>>) {
        for peer in self.peers.values_mut() {
            peer.lacks.retain(|_, until| *until > now);
        }
        if self.fetch.is_some() {
            return;
        }
        for &(model, size) in &self.wanted {
            if let Some(peer) = self.choose(&model, now) {
                let count = size.div_ceil(FILE_CHUNK_BYTES as u32) as usize;
                let (chunks, asked) = (vec![Vec::new(); count], BTreeMap::new());
                self.fetch = Some(Fetch { model, size, peer, chunks, next: 0, asked });
                return;
            }
            let is_lacked = !self.peers.is_empty() && self.peers.values().all(|peer| peer.lacks.contains_key(&model));
            if is_lacked && self.unavailable.insert(model) {
                out.push(FilesAction::Unavailable(model));
            }
        }
    }

    /// Who has failed least, and whom we dialled.
    fn choose(&self, model: &ModelId, now: u64) -> Option<P> {
        let may_have = |peer: &Peer| !peer.lacks.contains_key(model) && peer.failures.rests_until() <= now;
        let candidates = self.peers.iter().filter(|(_, peer)| may_have(peer));
        let order = |peer: &Peer| {
            let failures = peer.failures.count(now).max(self.groups.of(peer.origin).count(now));
            (failures, !peer.origin.is_dialled())
        };
        candidates.min_by_key(|(id, peer)| (order(peer), **id)).map(|(id, _)| *id)
    }

    fn poll_chunks(&mut self, now: u64, out: &mut Vec<FilesAction<P>>) {
        let Some(fetch) = self.fetch.as_mut() else { return };
        while fetch.asked.len() < CHUNKS_UNDER_WAY && (fetch.next as usize) < fetch.chunks.len() {
            let (id, chunk) = (self.next_id, fetch.next);
            self.next_id += 1;
            fetch.next += 1;
            fetch.asked.insert(id, (chunk, now + CHUNK_TIMEOUT));
            out.push(FilesAction::Send { peer: fetch.peer, id, request: Request::File { model: fetch.model, chunk } });
        }
    }

    fn poll_wake(&mut self, now: u64, out: &mut Vec<FilesAction<P>>) {
        let late = self.fetch.iter().flat_map(|fetch| fetch.asked.values().map(|(_, until)| *until));
        let waits = self.fetch.is_none() && !self.wanted.is_empty();
        let again = self.peers.values().filter(|_| waits).flat_map(|peer| {
            let lacks = peer.lacks.values().copied();
            lacks.chain([peer.failures.rests_until()])
        });
        let Some(at) = late.chain(again).filter(|at| *at > now).min() else { return };
        if self.wake_at != Some(at) {
            self.wake_at = Some(at);
            out.push(FilesAction::WakeAt(at));
        }
    }

    /// What must hold between inputs.
    #[cfg(test)]
    fn check_invariants(&self) {
        assert!(self.peers.len() <= MAX_FILE_PEERS && self.wanted.len() <= MAX_FILES);
        assert!(self.peers.values().all(|peer| peer.lacks.len() <= self.wanted.len()));
        assert!(self.unavailable.len() <= self.wanted.len());
        if let Some(fetch) = &self.fetch {
            assert!(self.peers.contains_key(&fetch.peer) && self.wanted.contains(&(fetch.model, fetch.size)));
            assert!((1..=CHUNKS_UNDER_WAY).contains(&fetch.asked.len()), "something is under way");
        }
    }
}

impl<P: Copy + Ord> Default for Files<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P> Fetch<P> {
    /// Bytes of a chunk of the file.
    fn length(&self, chunk: u32) -> usize {
        let begin = chunk as usize * FILE_CHUNK_BYTES;
        (self.size as usize).saturating_sub(begin).min(FILE_CHUNK_BYTES)
    }
}

#[cfg(test)]
mod tests;
