//! What a block lacks: looked for, waited for, asked for.

use std::cmp::Reverse;

use ocelli_consensus::BlockHash;

use super::partial::Partial;
use super::{
    ASSEMBLY_TIME, Assembly, LOOK_INTERVAL, MAX_BRINGING, MAX_PARTIAL, MAX_PATIENCE, MAX_QUESTIONS_PER_PEER,
    MAX_SOURCES, NEAR_BLOCKS, Offence, Output, PATIENCE, PATIENCE_PER_TRANSACTION, Peer, QUESTION_TIME, TRIAL_PATIENCE,
    View,
};
use crate::message::{Announcement, MAX_INDEXES, Request, Response, ShortId};
use crate::sync::Failure;

/// The most that [`Peer::lateness`] becomes.
const MAX_LATENESS: u32 = 2;

/// A peer that is being asked for what a block lacks.
#[derive(Debug)]
pub(super) struct Question<P> {
    pub(super) peer: P,
    pub(super) block: BlockHash,
    indexes: Vec<u32>,
    since: u64,
    /// When others are asked as well. The answer counts all the same.
    pub(super) due: u64,
    /// That time has passed.
    pub(super) is_late: bool,
}

impl<P: Copy + Ord, G> Assembly<P, G> {
    /// Takes up a new block whose header and body root are good.
    pub(super) fn begin(
        &mut self,
        hash: BlockHash,
        announcement: Announcement,
        from: P,
        now: u64,
        view: &impl View,
        out: &mut Vec<Output<P, G>>,
    ) {
        let mut partial = Partial::new(announcement, from, now);
        partial.fill(view);
        let missing = partial.missing().count();
        let has_another = self.partial.values().any(|other| other.from == from);
        if missing > 0 && (has_another || self.partial.len() >= MAX_PARTIAL || missing > MAX_INDEXES) {
            return leave_to_sync(out);
        }
        self.partial.insert(hash, partial);
        self.pursue(hash, now, view, out);
    }

    /// Does what is next for a block: it is complete; or some of what it lacks is asked for, unless relay or another block is
    /// bringing it; or all that it lacks is waited for; or nobody is left to be asked.
    pub(super) fn pursue(&mut self, hash: BlockHash, now: u64, view: &impl View, out: &mut Vec<Output<P, G>>) {
        let Some(mut partial) = self.partial.remove(&hash) else { return };
        let missing: Vec<(u32, ShortId)> = partial.missing().collect();
        if missing.is_empty() {
            let from = partial.from;
            if let Some(data) = partial.into_data() {
                self.handed.insert(hash);
                out.push(Output::Complete { hash, from, data });
            }
            return;
        }
        if self.is_awaited(&hash, now) {
            self.partial.insert(hash, partial);
            return;
        }
        let mut lacking = missing;
        lacking.retain(|(_, id)| !view.is_coming(*id) && !self.is_coming_with_another(*id, &hash, now, view));
        if lacking.is_empty() {
            self.look_at.get_or_insert(now + LOOK_INTERVAL);
        } else if let Some(peer) = self.next_source(&partial, now) {
            partial.asked.push(peer);
            self.ask(peer, hash, &lacking, now, out);
        } else {
            if !std::mem::replace(&mut partial.is_left, true) {
                leave_to_sync(out);
            }
            // A late answer may still be faster.
            if self.questions.values().all(|question| question.block != hash) {
                return;
            }
        }
        self.partial.insert(hash, partial);
    }

    fn ask(&mut self, peer: P, block: BlockHash, lacking: &[(u32, ShortId)], now: u64, out: &mut Vec<Output<P, G>>) {
        let indexes: Vec<u32> = lacking.iter().map(|(index, _)| *index).collect();
        let (lateness, most) = match self.peers.get(&peer) {
            Some(peer) if peer.has_answered => (peer.lateness, MAX_PATIENCE),
            _ => (0, TRIAL_PATIENCE),
        };
        let due = now + patience(indexes.len(), lateness, most);
        let id = self.next_id;
        self.next_id += 1;
        out.push(Output::Send { peer, id, request: Request::Transactions { block, indexes: indexes.clone() } });
        self.questions.insert(id, Question { peer, block, indexes, since: now, due, is_late: false });
        if self.bringing.blocks.len() < MAX_BRINGING || self.bringing.blocks.contains_key(&block) {
            self.bringing.blocks.entry(block).or_default().extend(lacking.iter().map(|(_, id)| *id));
            self.bringing.has_changed = true;
        }
    }

    /// Whom to ask for what a block lacks: first who announced it, then those that have answered before, those that we dialled,
    /// and those that are known to be furthest. Who is silent comes last, and so does a newcomer where others were.
    fn next_source(&self, partial: &Partial<P>, now: u64) -> Option<P> {
        if partial.asked.len() >= MAX_SOURCES {
            return None;
        }
        let near = partial.height.saturating_sub(NEAR_BLOCKS);
        let may_have = |id: P, peer: &Peer| id == partial.from || peer.height.is_some_and(|height| height >= near);
        let is_free = |id: P| {
            let open = self.questions.values().filter(|question| question.peer == id).count();
            !partial.asked.contains(&id) && open < MAX_QUESTIONS_PER_PEER
        };
        let candidates = self.peers.iter().filter(|(id, peer)| may_have(**id, peer) && is_free(**id));
        let order = |id: P, peer: &Peer| {
            let height = Reverse(peer.height.min(Some(partial.height)));
            let is_failing = peer.is_failing(&self.groups, now);
            (is_failing, id != partial.from, !peer.has_answered, !peer.origin.is_dialled(), height)
        };
        candidates.min_by_key(|(id, peer)| order(**id, peer)).map(|(id, _)| *id)
    }

    /// Whether somebody has been asked for some of a block, not long ago.
    pub(super) fn is_awaited(&self, hash: &BlockHash, now: u64) -> bool {
        self.questions.values().any(|question| question.block == *hash && now < question.due)
    }

    /// Whether a transaction was asked for with another block, not long ago or with success: it will be found there.
    fn is_coming_with_another(&self, id: ShortId, hash: &BlockHash, now: u64, view: &impl View) -> bool {
        let is_under_way = |other: &BlockHash| self.is_handed_over(other, view) || self.is_awaited(other, now);
        let mut others = self.bringing.blocks.iter().filter(|(other, ids)| *other != hash && ids.contains(&id));
        others.any(|(other, _)| is_under_way(other))
    }

    pub(super) fn on_response(
        &mut self,
        peer: P,
        id: u64,
        result: Result<Response, Failure>,
        now: u64,
        view: &impl View,
        out: &mut Vec<Output<P, G>>,
    ) {
        // One from another than was asked answers nothing.
        if self.questions.get(&id).is_none_or(|question| question.peer != peer) {
            return;
        }
        let Some(Question { block: hash, indexes, is_late, .. }) = self.questions.remove(&id) else { return };
        match result {
            Ok(Response::Transactions(found)) if found.len() == indexes.len() => {
                self.note_answer(peer, is_late);
                if let Some(peer) = self.peers.get_mut(&peer) {
                    peer.has_answered = true;
                }
                if let Some(partial) = self.partial.get_mut(&hash) {
                    match partial.take(&indexes, found) {
                        // Whoever has sent all that it was asked for may be asked for the rest, if that does not come by itself.
                        Ok(()) => partial.asked.retain(|asked| *asked != peer),
                        // The block is not to blame for what was sent in its name.
                        Err(_) => {
                            if let Some(peer) = self.peers.get_mut(&peer) {
                                peer.has_answered = false;
                            }
                            out.push(Output::Penalize { peer, hash, offence: Offence::WrongTransaction });
                        }
                    }
                }
            }
            // It does not have them: an honest forwarder may not. Another may.
            Ok(_) => self.note_answer(peer, false),
            Err(Failure::Network) if is_late => out.push(Output::Penalize { peer, hash, offence: Offence::Stalled }),
            Err(Failure::Network) => {}
            Err(Failure::Malformed) => out.push(Output::Penalize { peer, hash, offence: Offence::Malformed }),
        }
        self.pursue(hash, now, view, out);
    }

    fn note_answer(&mut self, peer: P, is_late: bool) {
        let Some(peer) = self.peers.get_mut(&peer) else { return };
        peer.is_silent = false;
        peer.lateness = if is_late { (peer.lateness + 1).min(MAX_LATENESS) } else { peer.lateness.saturating_sub(1) };
    }

    /// Asks others where an answer is late, and gives up what takes too long.
    pub(super) fn poll_late(&mut self, now: u64, view: &impl View, out: &mut Vec<Output<P, G>>) {
        let mut late = Vec::new();
        self.questions.retain(|_, question| {
            let may_come = now < question.since + QUESTION_TIME;
            if !may_come {
                late.push(question.block);
                let (peer, hash) = (question.peer, question.block);
                out.push(Output::Penalize { peer, hash, offence: Offence::Stalled });
            }
            may_come
        });
        for question in self.questions.values_mut().filter(|question| !question.is_late && question.due <= now) {
            question.is_late = true;
            late.push(question.block);
            if let Some(peer) = self.peers.get_mut(&question.peer) {
                peer.is_silent = true;
                if !peer.has_answered {
                    self.groups.entry(peer.origin, now).add(now);
                }
            }
        }
        self.partial.retain(|_, partial| {
            let has_time = now < partial.since + ASSEMBLY_TIME;
            if !has_time && !partial.is_left {
                leave_to_sync(out);
            }
            has_time
        });
        late.into_iter().for_each(|hash| self.pursue(hash, now, view, out));
    }

    /// Looks whether what blocks wait for has come, or will not.
    pub(super) fn poll_waiting(&mut self, now: u64, view: &impl View, out: &mut Vec<Output<P, G>>) {
        if self.look_at.take_if(|at| *at <= now).is_none() {
            return;
        }
        let waiting = self.partial.keys().filter(|hash| !self.is_awaited(hash, now));
        for hash in waiting.copied().collect::<Vec<_>>() {
            if let Some(partial) = self.partial.get_mut(&hash) {
                partial.fill(view);
            }
            self.pursue(hash, now, view, out);
        }
    }
}

fn leave_to_sync<P, G>(out: &mut Vec<Output<P, G>>) {
    if !out.iter().any(|output| matches!(output, Output::LeftToSync)) {
        out.push(Output::LeftToSync);
    }
}

/// Milliseconds that a block waits for an answer before another peer is asked as well.
pub(super) fn patience(transactions: usize, lateness: u32, most: u64) -> u64 {
    let fair = PATIENCE + PATIENCE_PER_TRANSACTION * transactions as u64;
    (fair << lateness).min(most)
}
