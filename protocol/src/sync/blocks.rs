//! Which blocks are asked of whom.
//!
//! Wanted are those of the first [`WINDOW`] blocks after the validated ones whose data are not here; the window moves as
//! blocks are validated. They are asked of several peers at once, the lowest first, each block of one peer. Where a peer
//! lets the others wait, somebody who has nothing else to do is asked for the same blocks as well, and what comes first
//! counts. How long that takes adapts: it doubles each time, so that a slow line of our own does not double all traffic,
//! and shrinks as blocks come (Bitcoin Core's stalling time-out, which disconnects instead, adapts the same way).
//!
//! How many requests are under way adapts to what our own line takes: half as many after one that was not answered in time,
//! one more after each that was. Many at a time would share a slow line so that none of them ever ends.

use std::collections::BTreeSet;

use ocelli_consensus::BlockHash;

use super::peer::{Peer, backoff};
use super::{ChainView, FIRST_BACKOFF, Offence, Output, Question, Sync};
use crate::message::{BlockData, Request};

/// Blocks from the first that is not validated on among which missing ones are asked for, and so remembered as lacking or
/// unavailable.
pub const WINDOW: usize = 512;
/// Requests for blocks under way with one peer: one is answered while the next travels.
pub const MAX_REQUESTS_PER_PEER: usize = 2;
/// Requests for blocks under way in all: what their responses may hold in memory.
pub const MAX_BLOCK_REQUESTS: usize = 8;
/// Blocks handed over and not yet validated beyond which no more are asked for.
pub const MAX_IN_VALIDATION: usize = 64;
/// Milliseconds after which blocks that a peer has not sent are asked of another too.
pub const FIRST_STALL_TIMEOUT: u64 = 2_000;
/// The most that these become.
pub const MAX_STALL_TIMEOUT: u64 = 30_000;

/// A block that is under way: of whom it was asked, and when.
pub(super) type Askers<P> = Vec<(P, u64)>;

#[derive(Debug)]
pub(super) struct Unavailable {
    attempts: u32,
    pub(super) retry_at: u64,
    /// Peers are being asked again.
    retrying: bool,
}

impl<P: Copy + Ord> Sync<P> {
    #[expect(clippy::too_many_arguments, reason = "the fields of one response, and what every on_ method gets")]
    pub(super) fn on_blocks(
        &mut self,
        from: P,
        asked: &[BlockHash],
        since: u64,
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
        peer.on_blocks(blocks.len(), asked.len(), now.saturating_sub(since));
        self.stall_timeout = (self.stall_timeout * 17 / 20).max(FIRST_STALL_TIMEOUT);
        self.block_requests = (self.block_requests + 1).min(MAX_BLOCK_REQUESTS);
        for (hash, data) in asked.iter().zip(blocks) {
            // Without pixels only where every peer was asked for them before.
            let may_lack_pixels = || self.unavailable.contains_key(hash) && view.may_lack_pixels(hash);
            match data.filter(|data| has_all_pixels(data) || may_lack_pixels()) {
                // Another may have been faster.
                Some(data) if view.wants(hash) && self.handed.insert(*hash) => {
                    out.push(Output::ImportBlock { peer: from, hash: *hash, data });
                }
                Some(_) => {}
                None => {
                    peer.lacks.insert(*hash);
                }
            }
        }
    }

    /// A request for blocks has ended, one way or another.
    pub(super) fn release(&mut self, id: P, hashes: &[BlockHash]) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.asked_blocks = peer.asked_blocks.saturating_sub(1);
        }
        for hash in hashes {
            let Some(askers) = self.in_flight.get_mut(hash) else { continue };
            askers.retain(|(asked, _)| *asked != id);
            if askers.is_empty() {
                self.in_flight.remove(hash);
            }
        }
    }

    /// Asks for missing blocks. Returns what is wanted.
    pub(super) fn poll_blocks(&mut self, now: u64, view: &dyn ChainView, out: &mut Vec<Output<P>>) -> Vec<BlockHash> {
        let mut wanted = view.missing(WINDOW);
        self.forget_unwanted(&wanted);
        if !self.handed.is_empty() {
            wanted.retain(|hash| !self.handed.contains(hash));
        }
        self.poll_unavailable(&wanted, now);
        let room = |sync: &Self| {
            view.in_validation() + sync.handed.len() < MAX_IN_VALIDATION
                && sync.peers.values().map(|peer| peer.asked_blocks).sum::<usize>() < sync.block_requests
        };
        while room(self) {
            let Some((id, hashes)) = self.choose(&wanted, now).or_else(|| self.choose_again(&wanted, now)) else {
                break;
            };
            for hash in &hashes {
                self.in_flight.entry(*hash).or_default().push((id, now));
            }
            self.send(id, Question::Blocks(hashes.clone()), Request::Blocks { hashes }, now, out);
        }
        wanted
    }

    /// For the lowest block that is not under way and that somebody free may have: whom to ask, and for what.
    fn choose(&self, wanted: &[BlockHash], now: u64) -> Option<(P, Vec<BlockHash>)> {
        let free: Vec<_> = self.peers.iter().filter(|(_, peer)| may_ask(peer, now)).collect();
        if free.is_empty() {
            return None;
        }
        let open = |hash: &&BlockHash| !self.in_flight.contains_key(*hash);
        let (at, id, peer) = wanted.iter().enumerate().filter(|(_, hash)| open(hash)).find_map(|(at, hash)| {
            // Who is least busy, has failed least, is fastest.
            let having = free.iter().filter(|(_, peer)| !peer.lacks.contains(hash));
            let (id, peer) = having.min_by_key(|(_, peer)| (peer.asked_blocks, peer.failures, peer.pace))?;
            Some((at, **id, *peer))
        })?;
        let hashes = wanted[at..].iter().filter(open).filter(|hash| !peer.lacks.contains(hash));
        Some((id, hashes.take(peer.window).copied().collect()))
    }

    /// Somebody who has nothing to do, and the blocks that others let wait for too long.
    fn choose_again(&mut self, wanted: &[BlockHash], now: u64) -> Option<(P, Vec<BlockHash>)> {
        let is_idle = |peer: &Peer| may_ask(peer, now) && peer.asked_blocks == 0;
        if !self.peers.values().any(is_idle) {
            return None;
        }
        let overdue = |hash: &&BlockHash| match self.in_flight.get(hash).map(Vec::as_slice) {
            Some([(_, since)]) => since.saturating_add(self.stall_timeout) <= now,
            _ => false,
        };
        let overdue: Vec<BlockHash> = wanted.iter().filter(overdue).copied().collect();
        let idle = self.peers.iter().filter(|(_, peer)| is_idle(peer));
        let asked = |hash: &BlockHash, id: P| self.in_flight[hash].iter().any(|(asked, _)| *asked == id);
        let choices = idle.filter_map(|(id, peer)| {
            let hashes = overdue.iter().filter(|hash| !peer.lacks.contains(hash) && !asked(hash, *id));
            let hashes: Vec<_> = hashes.take(peer.window).copied().collect();
            (!hashes.is_empty()).then_some(((peer.failures, peer.pace), *id, hashes))
        });
        let (_, id, hashes) = choices.min_by_key(|(order, ..)| *order)?;
        let slow: BTreeSet<P> = hashes.iter().flat_map(|hash| &self.in_flight[hash]).map(|(id, _)| *id).collect();
        for id in slow {
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.on_slow();
            }
        }
        self.stall_timeout = (self.stall_timeout * 2).min(MAX_STALL_TIMEOUT);
        Some((id, hashes))
    }

    /// When blocks under way are to be asked of another, if there is one.
    pub(super) fn stalled_at(&self) -> Option<u64> {
        let serving = self.peers.values().filter(|peer| peer.claim.is_some()).count();
        let asked_once = self.in_flight.values().filter(|askers| askers.len() == 1 && serving > 1);
        asked_once.flatten().map(|(_, since)| since.saturating_add(self.stall_timeout)).min()
    }

    fn forget_unwanted(&mut self, wanted: &[BlockHash]) {
        if self.unavailable.is_empty() && self.peers.values().all(|peer| peer.lacks.is_empty()) {
            return;
        }
        // Those handed over are kept in mind too: they may yet be refused.
        let mut sorted = wanted.to_vec();
        sorted.sort_unstable();
        let is_wanted = |hash: &BlockHash| sorted.binary_search(hash).is_ok();
        self.unavailable.retain(|hash, _| is_wanted(hash));
        self.peers.values_mut().for_each(|peer| peer.lacks.retain(is_wanted));
    }

    /// Finds wanted blocks that all peers lack, and lets them be asked again when it is time.
    fn poll_unavailable(&mut self, wanted: &[BlockHash], now: u64) {
        let serving: Vec<P> = self.peers.iter().filter(|(_, peer)| peer.claim.is_some()).map(|(id, _)| *id).collect();
        let Some((first, rest)) = serving.split_first() else { return };
        // What all lack, each lacks.
        if self.peers[first].lacks.is_empty() {
            return;
        }
        for hash in wanted {
            let lacking = |id: &P| self.peers[id].lacks.contains(hash);
            if !lacking(first) || !rest.iter().all(lacking) {
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
}

fn may_ask(peer: &Peer, now: u64) -> bool {
    peer.claim.is_some() && peer.is_rested(now) && peer.asked_blocks < MAX_REQUESTS_PER_PEER
}

/// A peer that has pruned pixels can serve the rest, which is not enough to validate.
fn has_all_pixels(data: &BlockData) -> bool {
    data.body
        .transactions
        .iter()
        .zip(&data.pixels)
        .all(|((transaction, _), pixels)| transaction.task().is_none() || pixels.is_some())
}
