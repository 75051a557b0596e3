//! Announcements: whose turn it is, what is passed on, what is held.

use ocelli_consensus::fork_choice::BlockStatus;
use ocelli_consensus::{BlockHash, CompactTarget, Header, Target, U256};

use super::{
    Announced, Assembly, AssemblyAction, AssemblyView, GossipVerdict, HELD_RETRY, HeaderVerdict, Held, MAX_HELD,
    MAX_IN_TURN, ORPHAN_WORK_PART, Offence,
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
        view: &impl AssemblyView,
        out: &mut Vec<AssemblyAction<P, G>>,
    ) {
        let header = &announcement.header;
        let hash = header.hash();
        let is_possible = has_work(header, &hash, view.tree().genesis().target);
        let is_serious = is_serious(header, view);
        let announced = Announced { gossip: Some(gossip), from, hash, announcement };
        if !is_possible {
            return reject(announced, Offence::NoWork, out);
        }
        if self.judging.is_none() && !self.is_busy(from, view) {
            return self.judge(announced, now, view, out);
        }
        let is_first = self.in_turn.iter().all(|waiting| waiting.from != from);
        // Places are few: what has cost its maker next to nothing takes none.
        if is_first && is_serious && self.in_turn.len() < MAX_IN_TURN {
            self.in_turn.push_back(announced);
        } else {
            leave_headers_to_sync(announced, view, out);
        }
    }

    /// Whether a block that the peer has announced is not yet validated.
    fn is_busy(&self, peer: P, view: &impl AssemblyView) -> bool {
        let turn = self.peers.get(&peer).and_then(|peer| peer.turn);
        turn.is_some_and(|hash| self.is_open(&hash, view))
    }

    /// Takes up announcements whose turn has come, and held ones whose time has.
    pub(super) fn poll_announced(&mut self, now: u64, view: &impl AssemblyView, out: &mut Vec<AssemblyAction<P, G>>) {
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
    fn judge(
        &mut self,
        announced: Announced<P, G>,
        now: u64,
        view: &impl AssemblyView,
        out: &mut Vec<AssemblyAction<P, G>>,
    ) {
        let header = &announced.announcement.header;
        if self.held.contains_key(&announced.hash) {
            // The first announcement of it stays: who repeats it delays nothing, and has nobody check its header again.
            pass_over(announced, out);
        } else if view.tree().contains(&announced.hash) {
            self.settle(announced, now, view, out);
        } else if view.tree().contains(&header.parent) {
            out.push(AssemblyAction::ImportHeader { from: announced.from, header: header.clone() });
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
        view: &impl AssemblyView,
        out: &mut Vec<AssemblyAction<P, G>>,
    ) {
        let Some(announced) = self.judging.take_if(|judging| judging.hash == *hash) else { return };
        match verdict {
            HeaderVerdict::Stored => self.settle(announced, now, view, out),
            HeaderVerdict::Early { wait } => self.hold(announced, now.saturating_add(wait.clamp(1, HELD_RETRY)), out),
            HeaderVerdict::Unwanted => report(announced.gossip, GossipVerdict::Ignore, out),
            HeaderVerdict::Broken => reject(announced, Offence::InvalidHeader, out),
        }
    }

    /// Takes up a block whose header is good, so that this block exists; with another body it is not this block.
    fn settle(
        &mut self,
        announced: Announced<P, G>,
        now: u64,
        view: &impl AssemblyView,
        out: &mut Vec<AssemblyAction<P, G>>,
    ) {
        if !has_own_body(&announced.announcement) {
            return reject(announced, Offence::BodyRoot, out);
        }
        let Announced { gossip, from, hash, announcement } = announced;
        let worthy = view.tree().get(&hash).filter(|node| view.is_worth_forwarding(node));
        let Some(node) = worthy.filter(|_| !view.tree().is_condemned(&hash)) else {
            return report(gossip, GossipVerdict::Ignore, out);
        };
        self.note_height(from, announcement.header.height);
        // Sync may have been faster than gossip; whoever waits for gossip from us has nothing of that.
        let is_new = node.status == BlockStatus::Header && !self.is_open(&hash, view);
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
    fn hold(&mut self, mut announced: Announced<P, G>, retry_at: u64, out: &mut Vec<AssemblyAction<P, G>>) {
        if !has_own_body(&announced.announcement) {
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

fn report<P, G>(gossip: Option<G>, verdict: GossipVerdict, out: &mut Vec<AssemblyAction<P, G>>) {
    out.extend(gossip.map(|gossip| AssemblyAction::Report { gossip, verdict }));
}

fn reject<P, G>(announced: Announced<P, G>, offence: Offence, out: &mut Vec<AssemblyAction<P, G>>) {
    let Announced { gossip, from, hash, .. } = announced;
    report(gossip, GossipVerdict::Reject, out);
    out.push(AssemblyAction::Penalize { peer: from, hash, offence });
}

/// Does not pass a block on: nobody is to blame, unless it comes with another body than its header's. So a header, however much
/// it has cost, is announced once, for the same message is not heard twice. Returns whether nobody is.
fn pass_over<P, G>(announced: Announced<P, G>, out: &mut Vec<AssemblyAction<P, G>>) -> bool {
    if !has_own_body(&announced.announcement) {
        reject(announced, Offence::BodyRoot, out);
        return false;
    }
    report(announced.gossip, GossipVerdict::Ignore, out);
    true
}

/// Has sync ask for the headers up to a block, if that has cost its maker something.
fn leave_headers_to_sync<P: Copy, G>(
    announced: Announced<P, G>,
    view: &impl AssemblyView,
    out: &mut Vec<AssemblyAction<P, G>>,
) {
    let (peer, hash, height) = (announced.from, announced.hash, announced.announcement.header.height);
    if !is_serious(&announced.announcement.header, view) {
        return report(announced.gossip, GossipVerdict::Ignore, out);
    }
    if pass_over(announced, out) {
        let parent = if view.tree().contains(&hash) { Parent::Known } else { Parent::Unknown };
        out.push(AssemblyAction::Announced { peer, hash, height, parent });
    }
}

/// Whether a header's hash meets the target that the header names, and that is one that a header of the network may have.
fn has_work(header: &Header, hash: &BlockHash, easiest: CompactTarget) -> bool {
    let easiest = easiest.to_target().unwrap_or(Target::MAX);
    header.target.to_target().is_ok_and(|target| target <= easiest && target.is_met_by(hash.0))
}

fn has_own_body(announcement: &Announcement) -> bool {
    announcement.commitment.root() == announcement.header.body
}

/// Whether a header whose ancestors are not known has at least a part of the work that the best header's block has, which is what
/// the chain asks for now. Its own target says nothing: it may be the easiest. Nor does that of the tip, which is far behind
/// while blocks are fetched.
fn is_serious(header: &Header, view: &impl AssemblyView) -> bool {
    let work = |target: CompactTarget| target.to_target().map_or(U256::ZERO, |target| target.work().0);
    work(header.target) >= work(view.tree().best_header().target) / U256::from(ORPHAN_WORK_PART)
}
