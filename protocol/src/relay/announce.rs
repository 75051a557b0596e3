//! Telling peers what is here.

use std::collections::BTreeSet;

use rand::RngExt as _;

use super::{
    ANNOUNCE_DELAY, BUSY_PAUSE, Kind, MAX_ANNOUNCEMENTS, MAX_QUEUE, Offence, Peer, Pool, Relay, RelayAction, UnderWay,
    rest,
};
use crate::message::{MAX_IDS, Response, ShortId};
use crate::sync::Failure;

impl Peer {
    /// Has a transaction announced to it, or, if too many are, everything later.
    pub(super) fn enqueue(&mut self, id: ShortId) {
        if self.queue.len() < MAX_QUEUE {
            self.queue.insert(id);
        } else {
            self.sweep = Some(ShortId::LOWEST);
        }
    }

    /// What to announce next: what is new, then what the sweep finds.
    fn next_ids(&mut self, pool: &impl Pool) -> Vec<ShortId> {
        let mut ids = Vec::new();
        while ids.len() < MAX_IDS
            && let Some(id) = self.queue.pop_first()
        {
            // It may have left since.
            if pool.has(id) {
                ids.push(id);
            }
        }
        let room = MAX_IDS - ids.len();
        if let Some(from) = self.sweep.take_if(|_| room > 0) {
            let found = pool.ready_from(from, room);
            if found.len() == room {
                self.sweep = found.last().and_then(|last| last.next());
            }
            // What is new is there as well: once is enough.
            let new: BTreeSet<ShortId> = ids.iter().copied().collect();
            ids.extend(found.into_iter().filter(|id| !new.contains(id)));
        }
        ids
    }
}

impl<P: Copy + Ord> Relay<P> {
    /// A peer has said how much of an announcement it has noted.
    pub(super) fn on_announcement_answered(
        &mut self,
        id: P,
        sent: UnderWay,
        result: Result<Response, Failure>,
        now: u64,
        out: &mut Vec<RelayAction<P>>,
    ) {
        let noted = match result {
            Ok(Response::Announce { noted }) => noted as usize,
            Ok(Response::Failed { .. }) | Err(Failure::Network) => return self.on_unheard(id, sent.ids, now),
            Ok(_) | Err(_) => {
                out.push(RelayAction::Penalize { peer: id, offence: Offence::WrongResponse });
                return self.on_unheard(id, sent.ids, now);
            }
        };
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.unheard = 0;
        let rest = sent.ids.get(noted..).unwrap_or_default();
        if !rest.is_empty() {
            rest.iter().for_each(|id| peer.enqueue(*id));
            peer.announce_at = Some(now + BUSY_PAUSE);
        }
    }

    /// An announcement has failed: it is made again after a pause.
    pub(super) fn on_unheard(&mut self, id: P, ids: Vec<ShortId>, now: u64) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.unheard = peer.unheard.saturating_add(1);
        ids.into_iter().for_each(|id| peer.enqueue(id));
        peer.announce_at = Some(now + rest(peer.unheard));
    }

    pub(super) fn poll_announcements(&mut self, now: u64, pool: &impl Pool, out: &mut Vec<RelayAction<P>>) {
        let mut under_way = self.peers.values().filter(|peer| peer.announcement.is_some()).count();
        let mut due = Vec::new();
        for (id, peer) in &mut self.peers {
            if peer.announcement.is_some() {
                continue;
            }
            if peer.queue.is_empty() && peer.sweep.is_none() {
                peer.announce_at = None;
                continue;
            }
            let at = *peer.announce_at.get_or_insert_with(|| now + self.random.random_range(0..=ANNOUNCE_DELAY));
            if at > now || under_way >= MAX_ANNOUNCEMENTS {
                continue;
            }
            peer.announce_at = None;
            let ids = peer.next_ids(pool);
            if !ids.is_empty() {
                under_way += 1;
                due.push((*id, ids));
            }
        }
        for (id, ids) in due {
            self.send(id, Kind::Announcement, ids, now, out);
        }
    }
}
