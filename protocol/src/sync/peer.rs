//! What sync knows of a peer, and how patient it is with it.

use std::collections::BTreeSet;

use ocelli_consensus::{BlockHash, U256};

use super::{FIRST_BACKOFF, MAX_BACKOFF, MAX_REQUEST_TIMEOUT, REQUEST_TIMEOUT};
use crate::message::{ChainStatus, MAX_BLOCKS};

#[derive(Debug)]
pub(super) struct Peer {
    /// Where its chain stands, by its own word; `None` before its first status and after an offence.
    pub(super) claim: Option<ChainStatus>,
    /// Its headers have not shown, or could not show now, the work that it claims: not asked for more before it tells
    /// its status again.
    pub(super) doubted: bool,
    /// It announced a block whose parent we do not have.
    pub(super) ahead: bool,
    /// Blocks that it said it does not have, among those wanted.
    pub(super) lacks: BTreeSet<BlockHash>,
    /// Whether a request for headers is under way.
    pub(super) asked_headers: bool,
    /// Requests for blocks under way.
    pub(super) asked_blocks: usize,
    /// Blocks asked for at once: fewer after time-outs.
    pub(super) window: usize,
    /// Milliseconds that it has for a response: more after time-outs.
    pub(super) patience: u64,
    /// Milliseconds that it takes for a block, smoothed.
    pub(super) pace: u64,
    /// Failures in a row.
    pub(super) failures: u32,
    pub(super) rests_until: u64,
    /// Claims of more work in a row that its headers did not show.
    pub(super) unproven: u32,
}

impl Peer {
    pub(super) fn new() -> Self {
        Self {
            claim: None,
            doubted: false,
            ahead: false,
            lacks: BTreeSet::new(),
            asked_headers: false,
            asked_blocks: 0,
            window: MAX_BLOCKS,
            patience: REQUEST_TIMEOUT,
            pace: 0,
            failures: 0,
            rests_until: 0,
            unproven: 0,
        }
    }

    /// What it claims, unless that is doubted.
    pub(super) fn claimed_work(&self) -> U256 {
        self.claim.as_ref().filter(|_| !self.doubted).map_or(U256::ZERO, |claim| claim.work)
    }

    pub(super) fn is_rested(&self, now: u64) -> bool {
        self.rests_until <= now
    }

    /// So many blocks came of those asked for, after so many milliseconds.
    pub(super) fn on_blocks(&mut self, count: usize, asked: usize, took: u64) {
        let pace = took / (count as u64).max(1);
        self.pace = if self.pace == 0 { pace } else { (3 * self.pace + pace) / 4 };
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

/// Milliseconds to wait after `before` failures and one more.
pub(super) fn backoff(before: u32) -> u64 {
    FIRST_BACKOFF.checked_shl(before.min(16)).unwrap_or(MAX_BACKOFF).min(MAX_BACKOFF)
}
