//! What a block lacks: looked for, waited for, asked for.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use ocelli_consensus::BlockHash;
use ocelli_consensus::block::BlockShortId;

use super::partial::{Lack, Partial};
use super::{
    ALONE_TIME, ASSEMBLY_TIME, Assembly, AssemblyAction, AssemblyView, Brought, LOOK_INTERVAL, MAX_BRINGING,
    MAX_PARTIAL, MAX_PATIENCE, MAX_QUESTIONS_PER_PEER, MAX_SOURCES, MIN_SHARE, NEAR_BLOCKS, Offence, PATIENCE,
    PATIENCE_PER_TRANSACTION, Peer, QUESTION_TIME, ROUND_PAUSE, TRIAL_PATIENCE,
};
use crate::message::{Announcement, MAX_INDEXES, Request, Response, ShortId, Submission, TRANSACTIONS_BYTES};
use crate::sync::Failure;

/// The most that [`Peer::lateness`] becomes.
const MAX_LATENESS: u32 = 2;

/// A peer that is being asked for what a block lacks.
#[derive(Debug)]
pub(super) struct Question<P> {
    pub(super) peer: P,
    pub(super) block: BlockHash,
    /// Places in the block; none where its wtxids are asked for.
    places: Vec<u32>,
    since: u64,
    /// When others are asked as well. The answer counts all the same.
    pub(super) due: u64,
    /// That time has passed.
    pub(super) is_late: bool,
}

/// What came of a question.
enum Answer {
    /// All that was asked for, or as much as one response holds.
    Whole,
    /// Some of it, or nothing, of a peer that knows the block: it may have more later.
    Part,
    /// The peer does not know the block, or says nothing of it.
    Nothing,
    /// Something else.
    Wrong,
}

impl<P: Copy + Ord, G> Assembly<P, G> {
    /// Takes up a new block whose header and body root are good.
    pub(super) fn begin(
        &mut self,
        hash: BlockHash,
        announcement: Announcement,
        from: P,
        now: u64,
        view: &impl AssemblyView,
        out: &mut Vec<AssemblyAction<P, G>>,
    ) {
        let mut partial = Partial::new(announcement, from, now);
        partial.fill(view);
        let has_another = self.partial.values().any(|other| other.from == from);
        if partial.lack() != Lack::Nothing && (has_another || self.partial.len() >= MAX_PARTIAL) {
            return leave_to_sync(out);
        }
        self.go_on(hash, partial, now, view, out);
    }

    /// Does what is next for a block, once it has been looked for what has come meanwhile: into the mempool, or with a block that is
    /// connected by now.
    pub(super) fn pursue(
        &mut self,
        hash: BlockHash,
        now: u64,
        view: &impl AssemblyView,
        out: &mut Vec<AssemblyAction<P, G>>,
    ) {
        let Some(mut partial) = self.partial.remove(&hash) else { return };
        partial.fill(view);
        self.go_on(hash, partial, now, view, out);
    }

    /// A block is complete; or what it lacks, and nobody is asked for nor another block brings, is asked of several at once; or it
    /// waits for that, or for the next round; or nobody is left to be asked.
    fn go_on(
        &mut self,
        hash: BlockHash,
        mut partial: Partial<P>,
        now: u64,
        view: &impl AssemblyView,
        out: &mut Vec<AssemblyAction<P, G>>,
    ) {
        let lack = partial.lack();
        if lack == Lack::Nothing {
            let from = partial.from;
            if let Some(block) = partial.into_assembled() {
                self.handed.insert(hash);
                out.push(AssemblyAction::Complete { hash, from, block });
            }
            return;
        }
        if self.ask_for(lack, hash, &mut partial, now, view, out) {
            self.partial.insert(hash, partial);
        }
    }

    /// Asks for what a block lacks. Whether it is still put together.
    fn ask_for(
        &mut self,
        lack: Lack,
        hash: BlockHash,
        partial: &mut Partial<P>,
        now: u64,
        view: &impl AssemblyView,
        out: &mut Vec<AssemblyAction<P, G>>,
    ) -> bool {
        let (mut places, lacks_ids) = match lack {
            Lack::Transactions(places) => (places, false),
            Lack::Wtxids | Lack::Nothing => (Vec::new(), true),
        };
        let awaited: BTreeSet<u32> = self.awaited(&hash, now).flat_map(|question| &question.places).copied().collect();
        places.retain(|place| !awaited.contains(place));
        if places.is_empty() && self.is_awaited(&hash, now) {
            return true;
        }
        places.retain(|place| !self.is_coming_with_another(partial, *place, &hash, now, view));
        if places.is_empty() && !lacks_ids {
            self.look(now + LOOK_INTERVAL);
            return true;
        }
        if now < partial.round.rests_until {
            self.look(partial.round.rests_until);
            return true;
        }
        let sources = self.sources(&hash, partial, now);
        let shares = if lacks_ids {
            sources.first().map(|peer| (*peer, Vec::new())).into_iter().collect()
        } else {
            share(places, &sources, &partial.round.lacked)
        };
        if shares.is_empty() {
            return self.is_awaited(&hash, now) || self.end_round(&hash, partial, now, out);
        }
        for (peer, places) in shares {
            partial.round.asked.insert(peer);
            self.ask(peer, hash, partial, places, now, out);
        }
        true
    }

    /// Nobody is left to be asked in this round. Whether the block is still put together.
    fn end_round(
        &mut self,
        hash: &BlockHash,
        partial: &mut Partial<P>,
        now: u64,
        out: &mut Vec<AssemblyAction<P, G>>,
    ) -> bool {
        // Who is late may still answer, and who does not know the block yet may hear of it.
        let may_come = self.questions.values().any(|question| question.block == *hash);
        let has_hope = std::mem::take(&mut partial.round.is_known) || may_come;
        if (!has_hope || now >= partial.round.progress_at + ALONE_TIME)
            && !std::mem::replace(&mut partial.is_left, true)
        {
            leave_to_sync(out);
        }
        if has_hope {
            partial.round.asked.clear();
            partial.round.useless.clear();
            partial.round.lacked.clear();
            partial.round.rests_until = now + ROUND_PAUSE;
            self.look(partial.round.rests_until);
        }
        has_hope
    }

    pub(super) fn look(&mut self, at: u64) {
        self.look_at = Some(self.look_at.map_or(at, |other| other.min(at)));
    }

    fn ask(
        &mut self,
        peer: P,
        block: BlockHash,
        partial: &Partial<P>,
        places: Vec<u32>,
        now: u64,
        out: &mut Vec<AssemblyAction<P, G>>,
    ) {
        let (lateness, most) = match self.peers.get(&peer) {
            Some(peer) if peer.has_answered => (peer.lateness, MAX_PATIENCE),
            _ => (0, TRIAL_PATIENCE),
        };
        let due = now + patience(places.len(), lateness, most);
        let id = self.next_id;
        self.next_id += 1;
        let request = if places.is_empty() {
            Request::TransactionIds { block }
        } else {
            Request::Transactions { block, indexes: places.clone() }
        };
        out.push(AssemblyAction::Send { peer, id, request });
        if self.bringing.blocks.len() < MAX_BRINGING || self.bringing.blocks.contains_key(&block) {
            let ids = places.iter().filter_map(|place| partial.id(*place));
            self.bringing.blocks.entry(block).or_insert_with(|| Brought::new(partial.parent())).asked.extend(ids);
        }
        self.questions.insert(id, Question { peer, block, places, since: now, due, is_late: false });
    }

    /// Whom to ask for what a block lacks: first who announced it, then those that have answered before, the fastest first, those that
    /// we dialled, and those that are known to be furthest. Who is silent comes last, and so does a newcomer where others were.
    fn sources(&self, hash: &BlockHash, partial: &Partial<P>, now: u64) -> Vec<P> {
        let near = partial.height().saturating_sub(NEAR_BLOCKS);
        let may_have = |id: P, peer: &Peer| id == partial.from || peer.height.is_some_and(|height| height >= near);
        let is_free = |id: P| {
            let open = self.questions.values().filter(|question| question.peer == id);
            // Who lets a question for it wait is asked for no more of it.
            !partial.round.useless.contains(&id)
                && open.clone().all(|question| question.block != *hash)
                && open.count() < MAX_QUESTIONS_PER_PEER
        };
        let order = |id: P, peer: &Peer| {
            let height = Reverse(peer.height.min(Some(partial.height())));
            let is_failing = peer.is_failing(&self.groups, now);
            let pace = peer.pace.unwrap_or(u64::MAX);
            (is_failing, id != partial.from, !peer.has_answered, pace, !peer.origin.is_dialled(), height)
        };
        let candidates = self.peers.iter().filter(|(id, peer)| may_have(**id, peer) && is_free(**id));
        let mut candidates: Vec<_> = candidates.map(|(id, peer)| (order(*id, peer), *id)).collect();
        candidates.sort_unstable();
        let candidates = candidates.into_iter().map(|(_, id)| id);
        let (known, new): (Vec<P>, Vec<P>) = candidates.partition(|id| partial.round.asked.contains(id));
        let more = MAX_SOURCES.saturating_sub(partial.round.asked.len());
        known.into_iter().chain(new.into_iter().take(more)).collect()
    }

    /// Whether somebody has been asked for some of a block, not long ago.
    pub(super) fn is_awaited(&self, hash: &BlockHash, now: u64) -> bool {
        self.awaited(hash, now).next().is_some()
    }

    fn awaited(&self, hash: &BlockHash, now: u64) -> impl Iterator<Item = &Question<P>> {
        self.questions.values().filter(move |question| question.block == *hash && now < question.due)
    }

    /// Whether a transaction was asked for with another block of the same parent, not long ago or with success: it will be found
    /// there.
    fn is_coming_with_another(
        &self,
        partial: &Partial<P>,
        place: u32,
        hash: &BlockHash,
        now: u64,
        view: &impl AssemblyView,
    ) -> bool {
        let Some(id) = partial.id(place) else { return false };
        let is_under_way = |other: &BlockHash| self.is_handed_over(other, view) || self.is_awaited(other, now);
        let brings = |brought: &Brought| brought.parent == partial.parent() && brought.asked.contains(&id);
        let mut others = self.bringing.blocks.iter().filter(|(other, brought)| *other != hash && brings(brought));
        others.any(|(other, _)| is_under_way(other))
    }

    pub(super) fn on_response(
        &mut self,
        peer: P,
        id: u64,
        result: Result<Response, Failure>,
        now: u64,
        view: &impl AssemblyView,
        out: &mut Vec<AssemblyAction<P, G>>,
    ) {
        // One from another than was asked answers nothing.
        if self.questions.get(&id).is_none_or(|question| question.peer != peer) {
            return;
        }
        let Some(Question { block: hash, places, since, is_late, .. }) = self.questions.remove(&id) else { return };
        let took = now.saturating_sub(since);
        let answer = match result {
            Ok(Response::Transactions(found)) if !places.is_empty() && found.len() <= places.len() => {
                self.on_transactions(&hash, &places, found, now)
            }
            Ok(Response::TransactionIds(Some(wtxids))) if places.is_empty() => match self.partial.get_mut(&hash) {
                None => Answer::Whole,
                Some(partial) => match partial.take_wtxids(wtxids) {
                    Ok(Ok(())) => Answer::Whole,
                    Ok(Err(rule)) => {
                        self.partial.remove(&hash);
                        out.push(AssemblyAction::Condemn { hash, rule });
                        Answer::Whole
                    }
                    Err(_) => Answer::Wrong,
                },
            },
            // It does not have it yet.
            Ok(Response::TransactionIds(None)) if places.is_empty() => Answer::Part,
            Ok(_) => Answer::Nothing,
            Err(failure) => {
                let offence = match failure {
                    Failure::Malformed => Some(Offence::WrongResponse),
                    Failure::Network => is_late.then_some(Offence::Stalled),
                };
                out.extend(offence.map(|offence| AssemblyAction::Penalize { peer, hash, offence }));
                if let Some(partial) = self.partial.get_mut(&hash) {
                    partial.round.useless.insert(peer);
                }
                return self.pursue(hash, now, view, out);
            }
        };
        if let Some(peer) = self.peers.get_mut(&peer) {
            let is_late = is_late && matches!(answer, Answer::Whole | Answer::Wrong);
            peer.note_answer(is_late);
            match answer {
                Answer::Whole => {
                    peer.has_answered = true;
                    peer.pace = Some(peer.pace.map_or(took, |pace| (3 * pace + took) / 4));
                }
                Answer::Wrong => (peer.has_answered, peer.pace) = (false, None),
                Answer::Part | Answer::Nothing => {}
            }
        }
        if let Some(partial) = self.partial.get_mut(&hash) {
            partial.round.is_known |= matches!(answer, Answer::Whole | Answer::Part);
            match answer {
                Answer::Whole => {}
                Answer::Part if !places.is_empty() => {
                    let missing: BTreeSet<u32> = partial.missing().collect();
                    let lacked = places.into_iter().filter(|place| missing.contains(place));
                    partial.round.lacked.entry(peer).or_default().extend(lacked);
                }
                Answer::Part | Answer::Nothing | Answer::Wrong => drop(partial.round.useless.insert(peer)),
            }
        }
        // The block is not to blame for what was sent in its name.
        if matches!(answer, Answer::Wrong) {
            out.push(AssemblyAction::Penalize { peer, hash, offence: Offence::WrongTransaction });
        }
        self.pursue(hash, now, view, out);
    }

    /// Takes transactions of a block. What is right of them counts, whatever else came.
    fn on_transactions(
        &mut self,
        hash: &BlockHash,
        places: &[u32],
        found: Vec<Option<Submission>>,
        now: u64,
    ) -> Answer {
        let (sent, bytes) = (found.len(), found.iter().flatten().map(Submission::encoded_len).sum::<usize>());
        let mut came: BTreeSet<ShortId> = BTreeSet::new();
        let result = match self.partial.get_mut(hash) {
            Some(partial) => partial.take(places, found, |wtxid| came.extend([ShortId::of(wtxid)])),
            // It was complete without this.
            None => Ok(sent),
        };
        if !came.is_empty() {
            if let Some(partial) = self.partial.get_mut(hash) {
                partial.round.progress_at = now;
            }
            if let Some(brought) = self.bringing.blocks.get_mut(hash) {
                brought.came.append(&mut came);
                self.bringing.has_changed = true;
            }
        }
        match result {
            // A response ends early only if it is large: nobody makes us ask for each transaction alone.
            Ok(count) if count == sent && (sent == places.len() || bytes >= TRANSACTIONS_BYTES) => Answer::Whole,
            Ok(_) if sent == 0 => Answer::Nothing,
            Ok(_) => Answer::Part,
            Err(_) => Answer::Wrong,
        }
    }

    /// Asks others where an answer is late, and gives up what takes too long.
    pub(super) fn poll_late(&mut self, now: u64, view: &impl AssemblyView, out: &mut Vec<AssemblyAction<P, G>>) {
        let mut late = Vec::new();
        self.questions.retain(|_, question| {
            let may_come = now < question.since + QUESTION_TIME;
            if !may_come {
                late.push(question.block);
                let (peer, hash) = (question.peer, question.block);
                out.push(AssemblyAction::Penalize { peer, hash, offence: Offence::Stalled });
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
        for hash in late {
            // Where peers are silent, sync does not wait for the last of them.
            if let Some(partial) =
                self.partial.get_mut(&hash).filter(|partial| now >= partial.round.progress_at + ALONE_TIME)
                && !std::mem::replace(&mut partial.is_left, true)
            {
                leave_to_sync(out);
            }
            self.pursue(hash, now, view, out);
        }
    }

    /// Looks whether what blocks wait for has come, or will not, and begins their next rounds.
    pub(super) fn poll_waiting(&mut self, now: u64, view: &impl AssemblyView, out: &mut Vec<AssemblyAction<P, G>>) {
        if self.look_at.take_if(|at| *at <= now).is_none() {
            return;
        }
        for hash in self.partial.keys().copied().collect::<Vec<_>>() {
            self.pursue(hash, now, view, out);
        }
    }
}

impl Peer {
    fn note_answer(&mut self, is_late: bool) {
        self.is_silent = false;
        self.lateness = if is_late { (self.lateness + 1).min(MAX_LATENESS) } else { self.lateness.saturating_sub(1) };
    }
}

impl Brought {
    fn new(parent: BlockHash) -> Self {
        Self { parent, asked: BTreeSet::<BlockShortId>::new(), came: BTreeSet::new() }
    }
}

/// Gives each of some peers an equal share of places, of those that it is not known to lack; what is left goes to whoever may have it.
fn share<P: Copy + Ord>(
    mut places: Vec<u32>,
    sources: &[P],
    lacked: &BTreeMap<P, BTreeSet<u32>>,
) -> Vec<(P, Vec<u32>)> {
    let lacks = |peer: &P, place: &u32| lacked.get(peer).is_some_and(|lacked| lacked.contains(place));
    let count = sources.len().min(places.len().div_ceil(MIN_SHARE)).max(1);
    let size = places.len().div_ceil(count);
    let mut shares: Vec<(P, Vec<u32>)> = sources.iter().map(|peer| (*peer, Vec::new())).collect();
    for most in [size, usize::MAX] {
        for (peer, share) in &mut shares {
            places.retain(|place| {
                let takes = share.len() < most.min(MAX_INDEXES) && !lacks(peer, place);
                if takes {
                    share.push(*place);
                }
                !takes
            });
        }
    }
    shares.retain(|(_, share)| !share.is_empty());
    shares.iter_mut().for_each(|(_, share)| share.sort_unstable());
    shares
}

fn leave_to_sync<P, G>(out: &mut Vec<AssemblyAction<P, G>>) {
    if !out.iter().any(|output| matches!(output, AssemblyAction::LeftToSync)) {
        out.push(AssemblyAction::LeftToSync);
    }
}

/// Milliseconds that a block waits for an answer before another peer is asked as well.
pub(super) fn patience(transactions: usize, lateness: u32, most: u64) -> u64 {
    let fair = PATIENCE + PATIENCE_PER_TRANSACTION * transactions as u64;
    (fair << lateness).min(most)
}
