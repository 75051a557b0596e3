//! Which blocks are asked of whom.
//!
//! Wanted are those of the first [`WINDOW`] blocks after the validated ones whose data are not here; the window moves as
//! blocks are validated. They are asked of several peers at once, each block of one peer. The peers that stand best (by what
//! they have brought, see `peer`) get the lowest, for which validation waits; the others are tried with few blocks, and
//! with the highest, so that nothing waits for them. Where a peer lets the others wait, another is asked for the same blocks as
//! well, and what comes first counts: not before that other one could have sent them several times over, so that where all are
//! slow, little is asked for twice; and not before a time-out which adapts. It doubles when the first one sends the blocks after
//! all, and shrinks as others come (Bitcoin Core's stalling time-out, which disconnects instead, adapts the same way). Peers that
//! have brought nothing yet are not given so much time.
//!
//! Places are kept: one peer's for somebody whom we dialled, and one for somebody who has brought blocks, so that neither
//! waits until those that are silent time out. Of one address group one peer at a time is tried.
//!
//! How many requests are under way adapts to what our own line takes: half as many after one that was not answered in time
//! while no block came from anybody else, one more after each that was. Many at a time would share a slow line so that none
//! of them ever ends. What one peer lets time out makes that peer's own requests smaller, and nobody else's.

use std::collections::BTreeSet;

use ocelli_consensus::BlockHash;

use super::line::{FIRST_STALL_TIMEOUT, MAX_BLOCK_REQUESTS, MAX_STALL_TIMEOUT};
use super::peer::Peer;
use super::{ChainView, Offence, Purpose, Question, Sent, Sync, SyncAction};
use crate::message::{BlockData, Request};
use crate::origin::{Direction, FIRST_BACKOFF, backoff};

/// Blocks from the first that is not validated on among which missing ones are asked for, and so remembered as lacking or
/// unavailable.
pub const WINDOW: usize = 512;
/// Requests for blocks under way with one peer: one is answered while the next travels.
pub const MAX_REQUESTS_PER_PEER: usize = 2;
/// Blocks handed over and not yet validated beyond which no more are asked for.
pub const MAX_IN_VALIDATION: usize = 64;
/// Requests for blocks that only somebody whom we dialled may have under way, and as many that only somebody may who has
/// brought blocks before.
pub const KEPT_BLOCK_REQUESTS: usize = MAX_REQUESTS_PER_PEER;
/// Blocks that a peer is tried with that has not brought any, while others have.
pub const TRIAL_WINDOW: usize = 4;
/// Peers that may be asked for the same block at a time.
const MAX_ASKERS: usize = 3;

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
        out: &mut Vec<SyncAction<P>>,
    ) {
        if blocks.len() > asked.len() {
            let offence = Offence::TooManyBlocks { found: blocks.len(), limit: asked.len() };
            return self.fail(from, Purpose::All, Some(offence), now, out);
        }
        if blocks.is_empty() {
            return self.fail(from, Purpose::All, Some(Offence::NoBlocks), now, out);
        }
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let (answered, mut came) = (blocks.len(), false);
        for (hash, data) in asked.iter().zip(blocks) {
            came |= data.is_some();
            // Without attachments only where every peer was asked for them before.
            let may_lack = || self.unavailable.contains_key(hash) && view.may_lack_attachments(hash);
            match data.filter(|data| !data.lacks_attachments() || may_lack()) {
                // Another may have been faster.
                Some(data) if view.wants(hash) && self.handed.insert(*hash) => {
                    out.push(SyncAction::ImportBlock { peer: from, hash: *hash, data });
                }
                Some(_) => {}
                None => {
                    peer.lacks.insert(*hash);
                }
            }
        }
        if came {
            peer.on_blocks(answered, asked.len(), now.saturating_sub(since));
            self.line.on_blocks(now);
        } else if peer.claims(&asked[0], view) {
            // It told of them, and does not have them.
            peer.blocks.disappoint(now);
            self.groups.entry(peer.origin, now).add(now);
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
    pub(super) fn poll_blocks(
        &mut self,
        now: u64,
        view: &dyn ChainView,
        out: &mut Vec<SyncAction<P>>,
    ) -> Vec<BlockHash> {
        let mut wanted = view.missing(WINDOW);
        self.forget_unwanted(&wanted);
        if !self.handed.is_empty() {
            wanted.retain(|hash| !self.handed.contains(hash));
        }
        self.poll_unavailable(&wanted, now);
        while !wanted.is_empty() && view.in_validation() + self.handed.len() < MAX_IN_VALIDATION {
            let Some((id, hashes)) = self.choose(&wanted, now) else { break };
            self.mark_slow(id, &hashes, now);
            for hash in &hashes {
                self.in_flight.entry(*hash).or_default().push((id, now));
            }
            self.send(id, Question::Blocks(hashes.clone()), Request::Blocks { hashes }, now, out);
        }
        wanted
    }

    /// Whom to ask next, and for what.
    fn choose(&self, wanted: &[BlockHash], now: u64) -> Option<(P, Vec<BlockHash>)> {
        let patience = self.best_stall_timeout(now);
        let asked =
            self.peers.values().filter(|peer| peer.claim.is_some() && self.is_rested(peer, Purpose::Blocks, now));
        let asked = asked.map(|peer| (peer, peer.standing(&self.groups, patience, now)));
        let best = asked.clone().map(|(_, standing)| standing).min()?;
        let places = Places::count(self.peers.values());
        let free = (self.peers.iter())
            .filter(|(_, peer)| peer.claim.is_some() && self.is_rested(peer, Purpose::Blocks, now))
            .filter(|(_, peer)| places.has_one_for(peer, self.line.requests()))
            .map(|(id, peer)| (peer.standing(&self.groups, patience, now), *id, peer));
        let mut free: Vec<_> = free.collect();
        // Of those that have brought nothing, rather one that has brought headers.
        free.sort_by_cached_key(|(standing, _, peer)| {
            (*standing, peer.asked_blocks, peer.blocks.order(), peer.headers.response().is_none(), peer.number)
        });
        free.into_iter().find_map(|(standing, id, peer)| {
            let open = |hash: &&BlockHash| !peer.lacks.contains(*hash) && self.is_open(hash, id, peer, now);
            let is_tried = standing > best && peer.blocks.response().is_none();
            let count = if is_tried { peer.window.min(TRIAL_WINDOW) } else { peer.window };
            let mut hashes: Vec<BlockHash> = if standing == best {
                wanted.iter().filter(open).take(count).copied().collect()
            } else {
                wanted.iter().rev().filter(open).take(count).copied().collect()
            };
            if standing != best {
                hashes.reverse();
            }
            (!hashes.is_empty()).then_some((id, hashes))
        })
    }

    /// Whether a peer may be asked for a block: nobody else is, or not for too long for this peer.
    fn is_open(&self, hash: &BlockHash, id: P, peer: &Peer, now: u64) -> bool {
        let Some(askers) = self.in_flight.get(hash) else { return true };
        let is_overdue = |(asked, since): &(P, u64)| *asked != id && self.overdue_at(*asked, *since, peer) <= now;
        askers.len() < MAX_ASKERS && askers.iter().all(is_overdue)
    }

    /// When what was asked of one peer may be asked of another too.
    fn overdue_at(&self, asked: P, since: u64, other: &Peer) -> u64 {
        let asked = self.peers.get(&asked).and_then(|asked| asked.blocks.stall_timeout());
        let patience = match (asked, other.blocks.stall_timeout()) {
            // Who has brought nothing does not take over from who has, as long as that one only takes its time.
            (Some(asked), None) => asked.max(self.line.stall_timeout()),
            (Some(_), Some(own)) => own.max(self.line.stall_timeout()),
            (None, Some(own)) => own,
            (None, None) => FIRST_STALL_TIMEOUT,
        };
        since.saturating_add(patience)
    }

    /// Those that were asked for the blocks before have been too slow for the peer that is asked now.
    fn mark_slow(&mut self, id: P, hashes: &[BlockHash], now: u64) {
        if self.peers.get(&id).is_none_or(|peer| peer.blocks.response().is_none()) {
            return;
        }
        let slow: BTreeSet<(P, u64)> =
            hashes.iter().filter_map(|hash| self.in_flight.get(hash)).flatten().copied().collect();
        for (asked, since) in slow {
            if let Some(peer) = self.peers.get_mut(&asked) {
                peer.on_slow();
                peer.blocks.waited(now.saturating_sub(since));
            }
            let is_slow = |sent: &&mut Sent<P>| sent.peer == asked && sent.since == since;
            self.requests.values_mut().filter(is_slow).for_each(|sent| sent.is_overtaken = true);
        }
    }

    /// Milliseconds after which blocks are overdue for the fastest of those that have brought some.
    fn best_stall_timeout(&self, now: u64) -> u64 {
        let serving = self.peers.values().filter(|peer| {
            let is_good = peer.blocks.failures(peer.origin, &self.groups, now) == 0;
            peer.claim.is_some() && is_good && peer.blocks.response().is_some()
        });
        serving.filter_map(|peer| peer.blocks.stall_timeout()).min().unwrap_or(MAX_STALL_TIMEOUT)
    }

    /// When blocks under way may next be asked of another.
    pub(super) fn stalled_at(&self, now: u64) -> Option<u64> {
        let asked = self.requests.values().filter(|sent| matches!(sent.question, Question::Blocks(_)));
        let times = asked.flat_map(|sent| {
            let others = self.peers.iter().filter(|(id, peer)| **id != sent.peer && peer.claim.is_some());
            others.map(|(_, other)| self.overdue_at(sent.peer, sent.since, other))
        });
        times.filter(|at| *at > now).min()
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
        if self.peers.values().all(|peer| peer.lacks.is_empty()) {
            return;
        }
        let serving: Vec<&Peer> = self.peers.values().filter(|peer| peer.claim.is_some()).collect();
        // Who fails is not waited for.
        let fails = |peer: &Peer| peer.blocks.failures(peer.origin, &self.groups, now) > 0;
        let (failing, good): (Vec<&Peer>, Vec<&Peer>) = serving.into_iter().partition(|peer| fails(peer));
        let is_lacking = |peer: &&Peer, hash: &BlockHash| peer.lacks.contains(hash);
        let lacked = wanted.iter().filter(|hash| {
            good.iter().all(|peer| is_lacking(peer, hash))
                && (!good.is_empty() || failing.iter().any(|peer| is_lacking(peer, hash)))
        });
        for hash in lacked.copied().collect::<Vec<_>>() {
            let entry = self.unavailable.entry(hash).or_insert(Unavailable {
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
                    peer.lacks.remove(&hash);
                });
            }
        }
    }
}

/// Requests for blocks under way, by who has them.
#[derive(Debug, Default)]
pub(super) struct Places {
    all: usize,
    dialled: usize,
    inbound: usize,
    /// With peers that have brought no blocks yet.
    tried: usize,
    tried_inbound: usize,
    /// Where these are that dialled us.
    tried_groups: BTreeSet<super::Group>,
}

impl Places {
    pub(super) fn count<'a>(peers: impl Iterator<Item = &'a Peer>) -> Self {
        let mut places = Self::default();
        for peer in peers.filter(|peer| peer.asked_blocks > 0) {
            let is_tried = peer.blocks.response().is_none();
            places.all += peer.asked_blocks;
            match peer.origin.direction {
                Direction::Dialled => places.dialled += peer.asked_blocks,
                Direction::Inbound => places.inbound += peer.asked_blocks,
            }
            if is_tried {
                places.tried += peer.asked_blocks;
            }
            if is_tried && !peer.is_dialled() {
                places.tried_inbound += peer.asked_blocks;
                places.tried_groups.insert(peer.origin.group);
            }
        }
        places
    }

    /// Whether a peer may have one more, where our line takes `limit` of those that have brought blocks.
    fn has_one_for(&self, peer: &Peer, limit: usize) -> bool {
        if self.all >= MAX_BLOCK_REQUESTS || peer.asked_blocks >= MAX_REQUESTS_PER_PEER {
            return false;
        }
        let is_tried = peer.blocks.response().is_none();
        // Those that are tried take nothing from those that have brought blocks, nor from a dialled peer its place.
        let is_kept = !is_tried || peer.is_dialled() && self.dialled < limit.min(KEPT_BLOCK_REQUESTS);
        let fits = self.all < limit || is_kept && self.all - self.tried < limit;
        if is_tried {
            // A place for one that has brought blocks, among those that dialled us too.
            let is_kept = self.tried + KEPT_BLOCK_REQUESTS >= MAX_BLOCK_REQUESTS
                || !peer.is_dialled() && self.tried_inbound + 2 * KEPT_BLOCK_REQUESTS >= MAX_BLOCK_REQUESTS;
            if is_kept || !peer.is_dialled() && self.tried_groups.contains(&peer.origin.group) {
                return false;
            }
        }
        match peer.origin.direction {
            Direction::Dialled => fits,
            Direction::Inbound => fits && self.inbound + KEPT_BLOCK_REQUESTS < MAX_BLOCK_REQUESTS,
        }
    }
}
