//! What sync knows of a peer, how it ranks it, and how patient it is with it.
//!
//! A peer is judged by what it has brought: headers that were new, blocks that were asked for. What it claims decides only
//! whether there is something to ask for. Headers and blocks are judged apart, for a peer that has forgotten old blocks is as
//! good as any for headers. One that has brought nothing yet stands behind all that have, and begins with the failures of its
//! address group.

use std::collections::BTreeSet;

use ocelli_consensus::{BlockHash, U256};

use super::line::{MAX_STALL_TIMEOUT, MIN_STALL_TIMEOUT};
use super::{ChainView, MAX_REQUEST_TIMEOUT, Question, REQUEST_TIMEOUT};
use crate::message::{ChainStatus, MAX_BLOCKS};
use crate::origin::{Failures, Groups, Origin};

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) origin: Origin,
    /// Peers are numbered as they connect.
    pub(super) number: u64,
    /// Where its chain stands, by its own word; `None` before its first status and after an offence.
    pub(super) claim: Option<ChainStatus>,
    /// The tip of its last status. It has all blocks up to there, and perhaps not those that it announced since: blocks are
    /// passed on before they are validated.
    pub(super) validated: Option<BlockHash>,
    /// Its headers have not shown, or could not show now, the work that it claims: not asked for more before it tells
    /// its status again.
    pub(super) doubted: bool,
    /// It announced a block whose parent we do not have.
    pub(super) ahead: bool,
    /// Blocks that it said it does not have, among those wanted.
    pub(super) lacks: BTreeSet<BlockHash>,
    pub(super) headers: Record,
    pub(super) blocks: Record,
    /// Whether a request for headers is under way.
    pub(super) asked_headers: bool,
    /// Requests for blocks under way.
    pub(super) asked_blocks: usize,
    /// Blocks asked for at once: fewer after time-outs.
    pub(super) window: usize,
    /// Milliseconds that it has for a response: more after time-outs.
    pub(super) patience: u64,
    /// Claims of more work in a row that its headers did not show.
    pub(super) unproven: u32,
}

/// How a peer has served one kind of request.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Since it last brought something.
    failures: Failures,
    /// Milliseconds that a response took which brought something, smoothed; `None` as long as none did.
    response: Option<u64>,
    asked_at: Option<u64>,
}

/// How good a peer is to ask, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// It has brought something, and not much slower than the best.
    Proven,
    /// It has brought something. Whatever it is asked for, the best would have it sooner.
    Slow,
    /// It has brought nothing yet, and we dialled it.
    Dialled,
    /// It has brought nothing yet.
    Inbound,
    /// So many failures, its own since it last brought something, and its group's if it never did.
    Failing(u32),
}

impl Record {
    /// What it was asked for has come, after so many milliseconds.
    pub(super) fn succeed(&mut self, took: u64) {
        self.failures = Failures::default();
        self.response = Some(self.response.map_or(took, |response| (3 * response + took) / 4));
    }

    pub(super) fn fail(&mut self, now: u64) {
        self.failures.add_with_rest(now);
    }

    /// It answered, but with nothing of use.
    pub(super) fn disappoint(&mut self, now: u64) {
        self.failures.add(now);
    }

    pub(super) fn asked(&mut self, now: u64) {
        self.asked_at = Some(now);
    }

    /// What it brought was not what it seemed.
    pub(super) fn forget(&mut self) {
        self.response = None;
    }

    /// It has let us wait for so long by now.
    pub(super) fn waited(&mut self, time: u64) {
        self.response = self.response.map(|response| response.max(time));
    }

    pub(super) fn response(&self) -> Option<u64> {
        self.response
    }

    /// Who comes first of those that stand equal: the fastest; of those that have brought nothing, who was not asked for the
    /// longest time.
    pub(super) fn order(&self) -> (bool, u64, Option<u64>) {
        (self.response.is_none(), self.response.unwrap_or(0), self.asked_at)
    }

    fn inherited(&self, origin: Origin, groups: &Groups) -> Failures {
        if self.response.is_some() { Failures::default() } else { groups.of(origin) }
    }

    pub(super) fn failures(&self, origin: Origin, groups: &Groups, now: u64) -> u32 {
        self.failures.count(now) + self.inherited(origin, groups).count(now)
    }

    pub(super) fn rests_until(&self, origin: Origin, groups: &Groups) -> u64 {
        self.failures.rests_until().max(self.inherited(origin, groups).rests_until())
    }

    /// Milliseconds in which this peer would have brought what another lets us wait for; `None` if it has brought nothing.
    pub(super) fn stall_timeout(&self) -> Option<u64> {
        Some((3 * self.response?).clamp(MIN_STALL_TIMEOUT, MAX_STALL_TIMEOUT))
    }
}

impl Peer {
    pub(super) fn new(origin: Origin, number: u64) -> Self {
        Self {
            origin,
            number,
            claim: None,
            validated: None,
            doubted: false,
            ahead: false,
            lacks: BTreeSet::new(),
            headers: Record::default(),
            blocks: Record::default(),
            asked_headers: false,
            asked_blocks: 0,
            window: MAX_BLOCKS,
            patience: REQUEST_TIMEOUT,
            unproven: 0,
        }
    }

    /// How it has served what is asked; its status is no service.
    pub(super) fn record(&self, question: &Question) -> Option<&Record> {
        match question {
            Question::Status => None,
            Question::Headers => Some(&self.headers),
            Question::Blocks(_) => Some(&self.blocks),
        }
    }

    /// Whether it claims to have a block, one whose header is stored. Where its tip is unknown here, it claims all.
    pub(super) fn claims(&self, hash: &BlockHash, view: &dyn ChainView) -> bool {
        let Some(tip) = &self.validated else { return false };
        !view.tree().contains(tip) || view.tree().is_ancestor(hash, tip)
    }

    pub(super) fn is_dialled(&self) -> bool {
        self.origin.is_dialled()
    }

    /// What it claims, unless that is doubted.
    pub(super) fn claimed_work(&self) -> U256 {
        self.claim.as_ref().filter(|_| !self.doubted).map_or(U256::ZERO, |claim| claim.work)
    }

    /// How it stands for blocks, where the best peer's blocks are overdue after `patience` milliseconds.
    pub(super) fn standing(&self, groups: &Groups, patience: u64, now: u64) -> Standing {
        match (self.blocks.failures(self.origin, groups, now), self.blocks.response) {
            (0, Some(response)) if response <= patience => Standing::Proven,
            (0, Some(_)) => Standing::Slow,
            (0, None) if self.is_dialled() => Standing::Dialled,
            (0, None) => Standing::Inbound,
            (failures, _) => Standing::Failing(failures),
        }
    }

    /// So many blocks came of those asked for, after so many milliseconds.
    pub(super) fn on_blocks(&mut self, count: usize, asked: usize, took: u64) {
        self.blocks.succeed(took);
        self.patience = (self.patience / 2).max(REQUEST_TIMEOUT);
        // Large blocks end a response early: what it leaves out is better asked of others at once.
        self.window = if count < asked { count + 1 } else { self.window * 2 }.min(MAX_BLOCKS);
    }

    /// Blocks were too long in coming.
    pub(super) fn on_slow(&mut self) {
        self.window = (self.window / 2).max(1);
    }

    /// A response did not come in time: it is smaller next time, and has longer.
    pub(super) fn on_timeout(&mut self) {
        self.on_slow();
        self.patience = (self.patience * 2).min(MAX_REQUEST_TIMEOUT);
    }
}
