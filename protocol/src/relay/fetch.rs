//! Getting what peers have announced, each from one of them.

use std::sync::Arc;

use ocelli_consensus::{Action, AttachmentHash, Transaction};

use super::{
    FetchVerdict, Kind, MAX_FETCH, MAX_FETCHES, MAX_NOTED, Offence, Pool, Relay, RelayAction, Stage, TIDY_PAUSE,
    TRIAL_FETCH, UnderWay, Wanted,
};
use crate::mempool::{Blame, Holds};
use crate::message::{Response, ShortId, Submission};
use crate::sync::Failure;

impl<P: Copy + Ord> Relay<P> {
    pub(super) fn on_announced(
        &mut self,
        id: P,
        ids: &[ShortId],
        now: u64,
        pool: &impl Pool,
        out: &mut Vec<RelayAction<P>>,
    ) {
        let mut count = 0;
        for &announced in ids {
            let is_known = self.is_known(announced, pool);
            let Some(peer) = self.peers.get_mut(&id) else { break };
            // It need not be told what it tells.
            peer.queue.remove(&announced);
            if !is_known {
                let announcers = self.wanted.get(&announced).map(|wanted| &wanted.announcers);
                if announcers.is_none_or(|announcers| !announcers.contains(&id)) {
                    if peer.noted.len() >= MAX_NOTED && peer.tidy_at <= now {
                        peer.tidy_at = now + TIDY_PAUSE;
                        self.tidy(id);
                    }
                    let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.noted.len() < MAX_NOTED) else { break };
                    peer.noted.push_back(announced);
                    peer.is_barren = false;
                    let new = || Wanted { announcers: Default::default(), stage: Stage::Open };
                    self.wanted.entry(announced).or_insert_with(new).announcers.insert(id);
                }
            }
            count += 1;
        }
        out.push(RelayAction::Noted { peer: id, count });
    }

    /// Forgets of a peer's noted transactions those that are no longer wanted.
    fn tidy(&mut self, id: P) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let wanted = |noted: &ShortId| self.wanted.get(noted).is_some_and(|wanted| wanted.announcers.contains(&id));
        peer.noted.retain(wanted);
    }

    pub(super) fn on_fetched(
        &mut self,
        id: P,
        fetch: UnderWay,
        result: Result<Response, Failure>,
        now: u64,
        pool: &impl Pool,
        out: &mut Vec<RelayAction<P>>,
    ) {
        let took = now.saturating_sub(fetch.since);
        let offence = match (fetch.kind, result) {
            (Kind::Transactions, Ok(Response::Pending(found))) if fits(found.len(), &fetch) => {
                self.take_all(id, &fetch.ids, found, pool, out, |relay, id, wanted, submission, pool, out| {
                    relay.on_transaction(id, wanted, submission, now, pool, out)
                })
            }
            (Kind::Attachments, Ok(Response::Attachments(found))) if fits(found.len(), &fetch) => {
                self.take_all(id, &fetch.ids, found, pool, out, |relay, id, wanted, attachment, _, out| {
                    relay.on_attachment(id, wanted, attachment, out)
                })
            }
            (_, Ok(Response::Failed { .. }) | Err(Failure::Network)) => {
                self.end(&fetch.ids);
                return self.fail(id, None, now, out);
            }
            _ => Some(Offence::WrongResponse),
        };
        self.end(&fetch.ids);
        if let Some(offence) = offence.filter(|offence| *offence != Offence::Unserved) {
            return self.fail(id, Some(offence), now, out);
        }
        out.extend(offence.map(|offence| RelayAction::Penalize { peer: id, offence }));
        let Some(peer) = self.peers.get_mut(&id) else { return };
        match offence {
            None => peer.service.succeed(took),
            // It answers, though with less than it has announced.
            Some(_) => peer.service.disappoint(),
        }
    }

    /// Takes what a response holds for the ids asked for. The worst of what the peer did, if it did anything.
    fn take_all<T, O: Pool>(
        &mut self,
        id: P,
        asked: &[ShortId],
        found: Vec<Option<T>>,
        pool: &O,
        out: &mut Vec<RelayAction<P>>,
        mut take: impl FnMut(&mut Self, P, ShortId, T, &O, &mut Vec<RelayAction<P>>) -> Option<Offence>,
    ) -> Option<Offence> {
        let mut worst = None;
        for (&wanted, found) in asked.iter().zip(found) {
            let offence = match found {
                Some(found) => take(self, id, wanted, found, pool, out),
                None => Some(Offence::Unserved),
            };
            let Some(offence) = offence else { continue };
            // Another may have it, and have it right.
            self.forget_announcer(wanted, id);
            if worst.is_none_or(|worst| worst == Offence::Unserved) {
                worst = Some(offence);
            }
        }
        worst
    }

    /// A transaction has come, with its attachment unless that is large.
    fn on_transaction(
        &mut self,
        id: P,
        asked: ShortId,
        submission: Submission,
        now: u64,
        pool: &impl Pool,
        out: &mut Vec<RelayAction<P>>,
    ) -> Option<Offence> {
        if ShortId::of(&submission.transaction.wtxid()) != asked {
            return Some(Offence::WrongTransaction);
        }
        let wanted = self.wanted.get_mut(&asked).filter(|wanted| matches!(wanted.stage, Stage::Asked(_)))?;
        if let Action::Unknown(_) = submission.transaction.unsigned.action {
            self.wanted.remove(&asked);
            self.refused.insert(asked, Holds::Forever);
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.service.on_unknown(submission.encoded_len(), now);
            }
            return None;
        }
        match (submission.transaction.attachment(), &submission.attachment) {
            (Some(_), None) => match pool.would_take(&submission.transaction) {
                FetchVerdict::Take => wanted.stage = Stage::Asked(Some(Box::new(submission.transaction))),
                FetchVerdict::Refuse { holds, blame } => {
                    self.wanted.remove(&asked);
                    self.refused.insert(asked, holds);
                    match blame {
                        Blame::Peer => return Some(Offence::BrokenTransaction),
                        // It has answered as it should: it may be asked for more.
                        Blame::InVain => out.push(RelayAction::CountInVain(id)),
                        Blame::Nobody => {}
                    }
                }
            },
            _ if submission.has_its_attachment() => {
                wanted.stage = Stage::Handed;
                out.push(RelayAction::Take { peer: id, submission });
            }
            _ => return Some(Offence::WrongAttachment),
        }
        None
    }

    /// The attachment of a transaction that was here without.
    fn on_attachment(
        &mut self,
        id: P,
        asked: ShortId,
        attachment: Arc<[u8]>,
        out: &mut Vec<RelayAction<P>>,
    ) -> Option<Offence> {
        let wanted = self.wanted.get_mut(&asked)?;
        let Stage::Asked(Some(transaction)) = &wanted.stage else { return None };
        if transaction.attachment().is_none_or(|named| AttachmentHash::of(&attachment) != named.hash) {
            return Some(Offence::WrongAttachment);
        }
        let transaction = Transaction::clone(transaction);
        wanted.stage = Stage::Handed;
        out.push(RelayAction::Take { peer: id, submission: Submission { transaction, attachment: Some(attachment) } });
        None
    }

    /// A fetch has its end: of what was asked for, that which has not come may be asked of another.
    pub(super) fn end(&mut self, ids: &[ShortId]) {
        for id in ids {
            let Some(wanted) = self.wanted.get_mut(id) else { continue };
            if let Stage::Asked(transaction) = &mut wanted.stage {
                wanted.stage = transaction.take().map_or(Stage::Open, Stage::WithoutAttachment);
            }
            for announcer in &wanted.announcers {
                if let Some(peer) = self.peers.get_mut(announcer) {
                    peer.is_barren = false;
                }
            }
            if wanted.announcers.is_empty() && !matches!(wanted.stage, Stage::Handed) {
                self.wanted.remove(id);
            }
        }
    }

    /// Somebody does not have what it announced, or is gone.
    pub(super) fn forget_announcer(&mut self, id: ShortId, peer: P) {
        let Some(wanted) = self.wanted.get_mut(&id) else { return };
        wanted.announcers.remove(&peer);
        // One that somebody is asked for ends with the request.
        if wanted.announcers.is_empty() && matches!(wanted.stage, Stage::Open | Stage::WithoutAttachment(_)) {
            self.wanted.remove(&id);
        }
    }

    /// Lets a peer rest after a failure.
    pub(super) fn fail(&mut self, id: P, offence: Option<Offence>, now: u64, out: &mut Vec<RelayAction<P>>) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.service.fail(&mut self.groups, now);
        }
        out.extend(offence.map(|offence| RelayAction::Penalize { peer: id, offence }));
    }

    /// Asks those that have nothing to do for what they have announced, the best first.
    pub(super) fn poll_fetches(&mut self, now: u64, pool: &impl Pool, out: &mut Vec<RelayAction<P>>) {
        let mut under_way = self.peers.values().filter(|peer| peer.fetch.is_some()).count();
        let is_free = |peer: &super::Peer| {
            peer.fetch.is_none()
                && peer.service.rests_until(&self.groups) <= now
                && !peer.noted.is_empty()
                && !peer.is_barren
        };
        let free = self.peers.iter().filter(|(_, peer)| is_free(peer));
        let mut free: Vec<_> = free.map(|(id, peer)| (peer.service.rank(&self.groups, now), *id)).collect();
        free.sort_unstable();
        for (_, id) in free {
            if under_way >= MAX_FETCHES {
                return;
            }
            if let Some((kind, ids)) = self.choose(id, pool) {
                under_way += 1;
                self.send(id, kind, ids, now, out);
            }
        }
    }

    /// What to ask a peer for: the first that it has announced and that nobody is asked for, and more of the same kind.
    fn choose(&mut self, id: P, pool: &impl Pool) -> Option<(Kind, Vec<ShortId>)> {
        let peer = self.peers.get_mut(&id)?;
        let is_proven = peer.service.is_proven();
        let mut noted = std::mem::take(&mut peer.noted);
        let (mut kind, mut ids) = (None, Vec::new());
        noted.retain(|&noted| {
            if ids.len() == kind.map_or(MAX_FETCH, |kind| most_at_once(kind, is_proven)) {
                return true;
            }
            let is_known = self.is_known(noted, pool);
            let Some(wanted) = self.wanted.get_mut(&noted).filter(|wanted| wanted.announcers.contains(&id)) else {
                return false;
            };
            // It has come another way: from a submitter, or in a block.
            if is_known && !matches!(wanted.stage, Stage::Handed) {
                self.wanted.remove(&noted);
                return false;
            }
            if self.in_blocks.contains(&noted) {
                return true;
            }
            let (needs, transaction) = match std::mem::replace(&mut wanted.stage, Stage::Open) {
                Stage::Open => (Kind::Transactions, None),
                Stage::WithoutAttachment(transaction) => (Kind::Attachments, Some(transaction)),
                busy @ (Stage::Asked(_) | Stage::Handed) => {
                    wanted.stage = busy;
                    return true;
                }
            };
            if *kind.get_or_insert(needs) == needs {
                wanted.stage = Stage::Asked(transaction);
                ids.push(noted);
            } else {
                wanted.stage = transaction.map_or(Stage::Open, Stage::WithoutAttachment);
            }
            true
        });
        let peer = self.peers.get_mut(&id)?;
        (peer.noted, peer.is_barren) = (noted, kind.is_none());
        Some((kind?, ids))
    }
}

/// What is asked for at once.
fn most_at_once(kind: Kind, is_proven: bool) -> usize {
    match (is_proven, kind) {
        (true, _) => MAX_FETCH,
        (false, Kind::Attachments) => 1,
        (false, _) => TRIAL_FETCH,
    }
}

fn fits(found: usize, fetch: &UnderWay) -> bool {
    (1..=fetch.ids.len()).contains(&found)
}
