//! Announcements: whose turn it is, what is passed on, what is held.

use ocelli_consensus::fork_choice::Status;
use ocelli_consensus::{BlockHash, CompactTarget, Header, U256};

use super::{
    Announced, Assembly, GossipVerdict, HELD_RETRY, HeaderVerdict, Held, MAX_HELD, MAX_IN_TURN, ORPHAN_WORK_PART,
    Offence, Output, View,
};
use crate::message::Announcement;
use crate::sync::Parent;

impl<P: Copy + Ord, G> Assembly<P, G> {
    pub(super) fn on_announced(
        &mut self,
        gossip: G,
        from: P,
        announcement: Announcement,
        now: u64,
        view: &impl View,
        out: &mut Vec<Output<P, G>>,
    ) {
        let header = &announcement.header;
        let hash = header.hash();
        let announced = Announced { gossip: Some(gossip), from, hash, announcement };
        if !has_own_work(&announced.announcement.header, &hash) {
            return reject(announced, Offence::NoWork, out);
        }
        if self.judging.is_none() && !self.is_busy(from, view) {
            return self.judge(announced, now, view, out);
        }
        let is_first = self.in_turn.iter().all(|waiting| waiting.from != from);
        if is_first && self.in_turn.len() < MAX_IN_TURN {
            self.in_turn.push_back(announced);
        } else {
            leave_headers_to_sync(announced, view, out);
        }
    }

    /// Whether a block that the peer has announced is not yet validated.
    fn is_busy(&self, peer: P, view: &impl View) -> bool {
        let turn = self.peers.get(&peer).and_then(|peer| peer.turn);
        turn.is_some_and(|hash| self.is_open(&hash, view))
    }

    /// Takes up announcements whose turn has come, and held ones whose time has.
    pub(super) fn poll_announced(&mut self, now: u64, view: &impl View, out: &mut Vec<Output<P, G>>) {
        while self.judging.is_none()
            && let Some(next) = self.in_turn.iter().position(|waiting| !self.is_busy(waiting.from, view))
            && let Some(announced) = self.in_turn.remove(next)
        {
            self.judge(announced, now, view, out);
        }
        while self.judging.is_none()
            && let Some(hash) = self.held.iter().find(|(_, held)| held.retry_at <= now).map(|(hash, _)| *hash)
            && let Some(held) = self.held.remove(&hash)
        {
            self.judge(held.announced, now, view, out);
        }
    }

    /// Checks all of a block that an announcement shows: parent, header, proof of work, body root. Only then is it passed on,
    /// long before its answers are checked: faking it costs work.
    fn judge(&mut self, announced: Announced<P, G>, now: u64, view: &impl View, out: &mut Vec<Output<P, G>>) {
        let header = &announced.announcement.header;
        if view.tree().contains(&announced.hash) {
            self.settle(announced, now, view, out);
        } else if view.tree().contains(&header.parent) {
            out.push(Output::ImportHeader { from: announced.from, header: header.clone() });
            self.judging = Some(announced);
        } else {
            leave_headers_to_sync(announced, view, out);
        }
    }

    pub(super) fn on_header_imported(
        &mut self,
        hash: &BlockHash,
        verdict: HeaderVerdict,
        now: u64,
        view: &impl View,
        out: &mut Vec<Output<P, G>>,
    ) {
        let Some(announced) = self.judging.take_if(|judging| judging.hash == *hash) else { return };
        match verdict {
            HeaderVerdict::Stored => self.settle(announced, now, view, out),
            HeaderVerdict::Early { wait } => self.hold(announced, now.saturating_add(wait.clamp(1, HELD_RETRY)), out),
            HeaderVerdict::Unwanted => report(announced.gossip, GossipVerdict::Ignore, out),
            HeaderVerdict::Broken => reject(announced, Offence::BrokenHeader, out),
        }
    }

    /// Takes up a block whose header is good, so that this block exists; with another body it is not this block.
    fn settle(&mut self, announced: Announced<P, G>, now: u64, view: &impl View, out: &mut Vec<Output<P, G>>) {
        if announced.announcement.body_root() != announced.announcement.header.body {
            return reject(announced, Offence::BodyRoot, out);
        }
        let Announced { gossip, from, hash, announcement } = announced;
        let worthy = view.tree().get(&hash).filter(|node| view.is_worth_forwarding(node));
        let Some(node) = worthy.filter(|_| !view.tree().is_condemned(&hash)) else {
            return report(gossip, GossipVerdict::Ignore, out);
        };
        self.note_height(from, announcement.header.height);
        // Sync may have been faster than gossip; whoever waits for gossip from us has nothing of that.
        let is_new = node.status == Status::Header && !self.is_open(&hash, view);
        if gossip.is_some() {
            self.note_gossiped(hash);
            if let Some(peer) = self.peers.get_mut(&from).filter(|_| is_new) {
                peer.turn = Some(hash);
            }
        }
        report(gossip, GossipVerdict::Accept, out);
        if is_new {
            self.begin(hash, announcement, from, now, view, out);
        }
    }

    /// Keeps a block from the future. Gossip will have forgotten it when its time comes, so that peers are told when it is the
    /// tip.
    fn hold(&mut self, mut announced: Announced<P, G>, retry_at: u64, out: &mut Vec<Output<P, G>>) {
        if announced.announcement.body_root() != announced.announcement.header.body {
            return reject(announced, Offence::BodyRoot, out);
        }
        report(announced.gossip.take(), GossipVerdict::Ignore, out);
        self.held.insert(announced.hash, Held { announced, retry_at });
        if self.held.len() > MAX_HELD {
            let time = |held: &Held<P, G>| held.announced.announcement.header.time;
            let last = self.held.iter().max_by_key(|(_, held)| time(held)).map(|(hash, _)| *hash);
            last.and_then(|hash| self.held.remove(&hash));
        }
    }
}

fn report<P, G>(gossip: Option<G>, verdict: GossipVerdict, out: &mut Vec<Output<P, G>>) {
    out.extend(gossip.map(|gossip| Output::Report { gossip, verdict }));
}

fn reject<P, G>(announced: Announced<P, G>, offence: Offence, out: &mut Vec<Output<P, G>>) {
    let Announced { gossip, from, hash, .. } = announced;
    report(gossip, GossipVerdict::Reject, out);
    out.push(Output::Penalize { peer: from, hash, offence });
}

/// Has sync ask for the headers up to a block, if that has cost its maker something: not passed on, and nobody to blame.
fn leave_headers_to_sync<P, G>(announced: Announced<P, G>, view: &impl View, out: &mut Vec<Output<P, G>>) {
    let Announced { gossip, from, hash, announcement } = announced;
    report(gossip, GossipVerdict::Ignore, out);
    let header = announcement.header;
    if is_serious(&header, view) {
        let parent = if view.tree().contains(&hash) { Parent::Known } else { Parent::Unknown };
        out.push(Output::Announced { peer: from, hash, height: header.height, parent });
    }
}

/// Whether a header's hash meets the target that the header names.
fn has_own_work(header: &Header, hash: &BlockHash) -> bool {
    header.target.to_target().is_ok_and(|target| target.is_met_by(hash.0))
}

/// Whether a header names at least a part of the work that our tip's block has. Its own target alone says nothing: it may
/// name the easiest.
fn is_serious(header: &Header, view: &impl View) -> bool {
    let work = |target: CompactTarget| target.to_target().map_or(U256::ZERO, |target| target.work().0);
    work(header.target) >= work(view.tip().target) / U256::from(ORPHAN_WORK_PART)
}
