//! Headers: of whom they are asked, and which of them are stored.
//!
//! A claim of more work makes a peer worth asking, and is worth nothing else: who has brought headers comes before who has
//! not, whatever they claim. As long as headers come, one peer is asked. When they do not, others are asked beside it, of
//! each address group one, and one place is kept for a peer that we dialled, which waits for nobody that has brought nothing.

use ocelli_consensus::{BlockHash, Header, RuleError, U256, Work};

use super::peer::Peer;
use super::presync::{HeaderPlace, Presync, Progress};
use super::{ChainView, HeaderImport, Offence, Purpose, Question, Sync, SyncAction};
use crate::message::{MAX_HEADERS, MAX_LOCATOR, Request};
use crate::origin::Direction;

/// Full batches of new headers from one peer that add nothing to our best work: a fork of 64,000 blocks.
pub const MAX_BARREN_BATCHES: u32 = 32;
/// Full batches from one peer that were known when they were asked for: the part that is known of its fork.
pub const MAX_KNOWN_BATCHES: u32 = 3;
/// Peers that are asked for headers at a time; all but one of them may be such as dialled us.
pub const MAX_HEADER_SYNCS: usize = 4;
/// Milliseconds without new headers after which a second peer is asked, doubled with each further one.
pub const HEADER_STALL: u64 = 1_500;

/// One peer that is asked for headers, batch after batch.
#[derive(Debug)]
pub(super) struct HeaderSync<P> {
    pub(super) peer: P,
    /// Our best work when it was begun.
    first_work: U256,
    /// When it was begun, or last brought new headers.
    since: u64,
    has_brought: bool,
    /// Whether a batch has failed to connect.
    retried: bool,
    /// Batches in a row of new headers with no more work than our best.
    barren: u32,
    /// Batches that were known already.
    known: u32,
    /// When the batch was asked for, and our best work then.
    asked_at: u64,
    best_work: U256,
    /// Work up to the last header of the batch that is being imported.
    batch_work: U256,
    /// While its chain has yet to show enough work.
    presync: Option<Presync>,
    /// Since its headers have a version that is not expected.
    other: Option<Other>,
    /// Where to go on after the import under way; nowhere if that was all.
    next: Option<BlockHash>,
}

/// A chain whose headers have a version that this node does not expect: followed, and not stored.
#[derive(Debug)]
struct Other {
    version: u32,
    height: u64,
    fork: BlockHash,
    last: HeaderPlace,
}

impl<P: Copy + Ord> Sync<P> {
    /// Asks for headers if somebody claims to have more of them.
    pub(super) fn poll_headers(&mut self, now: u64, view: &dyn ChainView, out: &mut Vec<SyncAction<P>>) {
        while let Some(peer) = self.choose_for_headers(now, view) {
            let best_work = view.best_work();
            self.header_syncs.push(HeaderSync {
                peer,
                first_work: best_work,
                since: now,
                has_brought: false,
                retried: false,
                barren: 0,
                known: 0,
                asked_at: now,
                best_work,
                batch_work: best_work,
                presync: None,
                other: None,
                next: None,
            });
            self.ask_headers(peer, None, now, view, out);
        }
    }

    /// Who has failed least first; a dialled peer if its place is free; who has brought headers, the fastest first; and who
    /// was not asked for the longest time.
    fn choose_for_headers(&self, now: u64, view: &dyn ChainView) -> Option<P> {
        if self.header_syncs.len() >= MAX_HEADER_SYNCS {
            return None;
        }
        let is_moving = self.header_syncs.iter().any(|sync| sync.has_brought && sync.since + HEADER_STALL > now);
        let is_stalled = self.headers_stall_at().is_none_or(|at| at <= now);
        let under_way = self.header_syncs.iter().filter_map(|sync| self.peers.get(&sync.peer));
        let inbound = under_way.clone().filter(|peer| !peer.is_dialled()).count();
        let has_dialled = under_way.clone().any(Peer::is_dialled);
        let may_begin = |peer: &Peer| {
            let is_tried = peer.headers.response().is_none();
            match peer.origin.direction {
                Direction::Dialled if !has_dialled && !is_moving => true,
                Direction::Inbound if inbound + 1 >= MAX_HEADER_SYNCS => false,
                _ => is_stalled && !(is_tried && under_way.clone().any(|other| other.origin == peer.origin)),
            }
        };
        let candidates =
            self.peers.iter().filter(|(id, peer)| self.has_headers(**id, peer, now, view) && may_begin(peer));
        let order = |peer: &Peer| {
            let failures = peer.headers.failures(peer.origin, &self.groups, now);
            let is_kept = peer.is_dialled() && !has_dialled;
            (failures, !is_kept, peer.headers.order(), peer.number)
        };
        candidates.min_by_key(|(_, peer)| order(peer)).map(|(id, _)| *id)
    }

    /// Whether a peer that is not asked for headers could be.
    fn has_headers(&self, id: P, peer: &Peer, now: u64, view: &dyn ChainView) -> bool {
        let is_free = !peer.asked_headers && self.header_syncs.iter().all(|sync| sync.peer != id);
        is_free && (peer.ahead || has_more(peer, view)) && self.is_rested(peer, Purpose::Headers, now)
    }

    /// When all that are asked for headers have let us wait for too long; nothing if nobody is asked.
    fn headers_stall_at(&self) -> Option<u64> {
        let further = self.header_syncs.len().checked_sub(1)?;
        Some(self.header_syncs.iter().map(|sync| sync.since).max()? + (HEADER_STALL << further))
    }

    /// When another peer is to be asked for headers, if there is one.
    pub(super) fn next_headers_at(&self, now: u64, view: &dyn ChainView) -> Option<u64> {
        let at = self.headers_stall_at().filter(|_| self.header_syncs.len() < MAX_HEADER_SYNCS)?;
        self.peers.iter().any(|(id, peer)| self.has_headers(*id, peer, now, view)).then_some(at)
    }

    /// Whether headers come, or may come soon.
    pub(super) fn headers_come(&self, now: u64) -> bool {
        self.header_syncs.iter().any(|sync| sync.since + HEADER_STALL > now)
    }

    fn header_sync(&mut self, peer: P) -> Option<&mut HeaderSync<P>> {
        self.header_syncs.iter_mut().find(|sync| sync.peer == peer)
    }

    pub(super) fn on_headers(
        &mut self,
        peer: P,
        headers: Vec<Header>,
        now: u64,
        view: &dyn ChainView,
        out: &mut Vec<SyncAction<P>>,
    ) {
        if headers.len() > MAX_HEADERS {
            let offence = Offence::TooManyHeaders { found: headers.len(), limit: MAX_HEADERS };
            return self.fail(peer, Purpose::All, Some(offence), now, out);
        }
        if headers.windows(2).any(|pair| pair[1].parent != pair[0].hash()) {
            return self.fail(peer, Purpose::All, Some(Offence::UnlinkedHeaders), now, out);
        }
        let Some(sync) = self.header_sync(peer) else { return };
        if let Some(other) = sync.other.take_if(|other| headers.first().is_none_or(|it| it.parent == other.last.hash)) {
            return self.follow_other(peer, other, Vec::new(), &headers, headers.len() >= MAX_HEADERS, now, view, out);
        }
        match (headers.first(), &sync.presync) {
            (None, None) => self.finish_headers(peer, now, view, out),
            (None, Some(presync)) => {
                let shown = presync.last().work;
                self.give_up_poor(peer, shown, now, out);
            }
            (Some(first), Some(presync)) if presync.last().hash == first.parent => {
                self.count(peer, &headers, headers.len() >= MAX_HEADERS, now, view, out);
            }
            (Some(_), Some(_)) => self.on_unconnected(peer, now, view, out),
            (Some(first), None) => match view.place(&first.parent) {
                Some(parent) => self.on_connected_headers(peer, parent, headers, now, view, out),
                None => self.on_unconnected(peer, now, view, out),
            },
        }
    }

    /// Headers on a known one: to be stored if their chain has enough work, which counts only as far as they keep all
    /// rules.
    fn on_connected_headers(
        &mut self,
        id: P,
        parent: HeaderPlace,
        mut headers: Vec<Header>,
        now: u64,
        view: &dyn ChainView,
        out: &mut Vec<SyncAction<P>>,
    ) {
        let known = headers.iter().map_while(|header| view.place(&header.hash())).enumerate().last();
        let (skip, start) = known.map_or((0, parent), |(index, place)| (index + 1, place));
        let full = headers.len() >= MAX_HEADERS;
        if skip == headers.len() {
            return self.on_known(id, &start, full, now, view, out);
        }
        let mut end = start;
        for index in skip..headers.len() {
            match end.child(&self.network, &headers[index]) {
                Ok(place) => end = place,
                Err(RuleError::Version { found, height, .. }) => {
                    let rest = headers.split_off(index);
                    // What is good before may be stored, if it has the work.
                    let good = if index > skip && end.work.0 >= view.minimum_work() { headers } else { Vec::new() };
                    let other = Other { version: found, height, fork: end.hash, last: end };
                    return self.follow_other(id, other, good, &rest, full, now, view, out);
                }
                Err(_) => return self.fail(id, Purpose::All, Some(Offence::InvalidHeader), now, out),
            }
        }
        let Some(sync) = self.header_syncs.iter_mut().find(|sync| sync.peer == id) else { return };
        if end.work.0 >= view.minimum_work() {
            (sync.next, sync.batch_work) = (full.then_some(end.hash), end.work.0);
            self.on_brought(id, now);
            out.push(SyncAction::ImportHeaders { peer: id, headers });
        } else {
            sync.presync = Some(Presync::new(self.salt, start));
            headers.drain(..skip);
            self.count(id, &headers, full, now, view, out);
        }
    }

    /// Follows headers of another version: until they have more work than ours, which is all that there is to know, or to their end.
    /// `good` are those before them that are to be stored.
    #[expect(clippy::too_many_arguments, reason = "a chain, a batch of it, and what every on_ method gets")]
    fn follow_other(
        &mut self,
        id: P,
        mut other: Other,
        good: Vec<Header>,
        headers: &[Header],
        full: bool,
        now: u64,
        view: &dyn ChainView,
        out: &mut Vec<SyncAction<P>>,
    ) {
        for header in headers {
            match other.last.child_of_any_version(&self.network, header) {
                Ok(place) => other.last = place,
                Err(_) => return self.fail(id, Purpose::All, Some(Offence::InvalidHeader), now, out),
            }
        }
        let (last, is_dialled) = (other.last, self.peers.get(&id).is_some_and(Peer::is_dialled));
        let goes_on = full && last.work.0 <= view.best_work().max(view.minimum_work());
        if !goes_on && last.work.0 < view.minimum_work() {
            // Too cheap for us to be what is out of date.
            return self.fail(id, Purpose::All, Some(Offence::InvalidHeader), now, out);
        }
        let Other { version, height, fork, .. } = other;
        let Some(sync) = self.header_sync(id) else { return };
        (sync.other, sync.presync) = (Some(other), None);
        sync.next = goes_on.then_some(last.hash);
        if is_dialled {
            sync.since = now;
        }
        if !good.is_empty() {
            self.on_brought(id, now);
            out.push(SyncAction::ImportHeaders { peer: id, headers: good });
        } else if goes_on {
            self.ask_headers(id, Some(last.hash), now, view, out);
        } else {
            self.doubt(id);
        }
        // After the headers that lead to it, of which the last is where the chains part.
        if !goes_on {
            out.push(SyncAction::OtherVersion { peer: id, version, height, fork, work: last.work });
        }
    }

    /// The peer has brought headers that are to be stored.
    fn on_brought(&mut self, id: P, now: u64) {
        let Some(sync) = self.header_syncs.iter_mut().find(|sync| sync.peer == id) else { return };
        (sync.since, sync.has_brought) = (now, true);
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.headers.succeed(now.saturating_sub(sync.asked_at));
        }
    }

    /// A batch that brings nothing new. It may be a part that is known of a longer fork, or have been new when it was asked
    /// for; a few are taken.
    fn on_known(
        &mut self,
        id: P,
        end: &HeaderPlace,
        full: bool,
        now: u64,
        view: &dyn ChainView,
        out: &mut Vec<SyncAction<P>>,
    ) {
        let Some(sync) = self.header_sync(id) else { return };
        if end.work.0 <= sync.best_work {
            sync.known += 1;
        }
        if full && sync.known < MAX_KNOWN_BATCHES {
            self.ask_headers(id, Some(end.hash), now, view, out);
        } else {
            self.finish_headers(id, now, view, out);
        }
    }

    /// Counts headers of a chain that has not shown enough work, or fetches them again when it has.
    fn count(
        &mut self,
        peer: P,
        headers: &[Header],
        full: bool,
        now: u64,
        view: &dyn ChainView,
        out: &mut Vec<SyncAction<P>>,
    ) {
        let Some(sync) = self.header_syncs.iter_mut().find(|sync| sync.peer == peer) else { return };
        let Some(presync) = sync.presync.as_mut() else { return };
        let progress = presync.take(&self.network, headers, full, view.minimum_work());
        let place = *presync.last();
        let last = place.hash;
        let shown = presync.last().work;
        (sync.next, sync.batch_work) = (Some(last), shown.0);
        // Headers of little work are cheap: others are asked too, unless we chose the peer.
        if self.peers.get(&peer).is_some_and(Peer::is_dialled) || !matches!(progress, Progress::More) {
            sync.since = now;
        }
        match progress {
            Progress::More => self.ask_headers(peer, Some(last), now, view, out),
            Progress::Proven(headers) => out.push(SyncAction::ImportHeaders { peer, headers }),
            Progress::Done(headers) => {
                (sync.presync, sync.barren) = (None, 0);
                if !full {
                    sync.next = None;
                }
                self.on_brought(peer, now);
                out.push(SyncAction::ImportHeaders { peer, headers });
            }
            Progress::Poor => self.give_up_poor(peer, shown, now, out),
            // A reorganisation between both passes looks the same.
            Progress::Changed => self.fail(peer, Purpose::Headers, None, now, out),
            Progress::Broken(RuleError::Version { found, height, .. }) => {
                let begun = headers.iter().position(|header| header.parent == last).unwrap_or(headers.len());
                let other = Other { version: found, height, fork: last, last: place };
                self.follow_other(peer, other, Vec::new(), &headers[begun..], full, now, view, out);
            }
            Progress::Broken(_) => self.fail(peer, Purpose::All, Some(Offence::InvalidHeader), now, out),
        }
    }

    /// The peer's best chain may have changed since we asked: a fresh locator, once.
    fn on_unconnected(&mut self, peer: P, now: u64, view: &dyn ChainView, out: &mut Vec<SyncAction<P>>) {
        match self.header_sync(peer) {
            Some(sync) if !sync.retried => {
                (sync.retried, sync.presync, sync.other) = (true, None, None);
                self.ask_headers(peer, None, now, view, out);
            }
            _ => self.fail(peer, Purpose::All, Some(Offence::UnconnectedHeaders), now, out),
        }
    }

    pub(super) fn on_headers_imported(
        &mut self,
        peer: P,
        result: HeaderImport,
        now: u64,
        view: &dyn ChainView,
        out: &mut Vec<SyncAction<P>>,
    ) {
        let Some(sync) = self.header_sync(peer) else { return };
        match result {
            HeaderImport::Invalid => self.fail(peer, Purpose::All, Some(Offence::InvalidHeader), now, out),
            HeaderImport::Unconnected => self.on_unconnected(peer, now, view, out),
            HeaderImport::Held => self.doubt(peer),
            HeaderImport::Connected => {
                let is_barren = sync.batch_work <= sync.best_work && sync.presync.is_none();
                sync.barren = if is_barren { sync.barren + 1 } else { 0 };
                let is_other = sync.other.is_some();
                match sync.next.take().filter(|_| is_other || sync.barren < MAX_BARREN_BATCHES) {
                    Some(after) => self.ask_headers(peer, Some(after), now, view, out),
                    // They showed their work, though not to be stored.
                    None if is_other => self.doubt(peer),
                    None => self.finish_headers(peer, now, view, out),
                }
            }
        }
    }

    /// Asks for the headers after `after`, if given, else after what we have.
    fn ask_headers(
        &mut self,
        peer: P,
        after: Option<BlockHash>,
        now: u64,
        view: &dyn ChainView,
        out: &mut Vec<SyncAction<P>>,
    ) {
        if let Some(sync) = self.header_sync(peer) {
            (sync.asked_at, sync.best_work) = (now, view.best_work());
        }
        let locator = after.into_iter().chain(view.locator()).take(MAX_LOCATOR).collect();
        let limit = u32::try_from(MAX_HEADERS).expect("a constant below 2^32");
        self.send(peer, Question::Headers, Request::Headers { locator, limit }, now, out);
    }

    /// The peer has no more headers. Did they show the work that it claims?
    fn finish_headers(&mut self, id: P, now: u64, view: &dyn ChainView, out: &mut Vec<SyncAction<P>>) {
        let Some(place) = self.header_syncs.iter().position(|sync| sync.peer == id) else { return };
        let sync = self.header_syncs.swap_remove(place);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        // It announced what it does not show. The honest do that too, for a block is passed on before it is validated; but to
        // be slow as well costs the rank.
        let is_slow = sync.asked_at + HEADER_STALL <= now;
        if std::mem::take(&mut peer.ahead) && is_slow && !sync.has_brought && view.best_work() <= sync.first_work {
            peer.headers.disappoint(now);
            self.groups.entry(peer.origin, now).add(now);
        }
        self.judge_claim(id, Work(view.best_work()), now, out);
    }

    /// The peer's chain is not worth storing: it may be honest and have no more, unless it claims more.
    fn give_up_poor(&mut self, id: P, shown: Work, now: u64, out: &mut Vec<SyncAction<P>>) {
        self.doubt(id);
        self.judge_claim(id, shown, now, out);
    }

    /// A claim that headers did not show is a failure, and twice in a row an offence.
    fn judge_claim(&mut self, id: P, shown: Work, now: u64, out: &mut Vec<SyncAction<P>>) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.claim.as_ref().is_none_or(|claim| claim.work <= shown.0) {
            peer.unproven = 0;
            return;
        }
        peer.doubted = true;
        peer.unproven += 1;
        let offence = (peer.unproven >= 2).then_some(Offence::UnprovenWork);
        peer.headers.fail(now);
        self.groups.entry(peer.origin, now).add_with_rest(now);
        out.extend(offence.map(|offence| SyncAction::Penalize { peer: id, offence }));
    }

    /// The peer's headers cannot be used now: not before its next status.
    fn doubt(&mut self, id: P) {
        self.header_syncs.retain(|sync| sync.peer != id);
        if let Some(peer) = self.peers.get_mut(&id) {
            (peer.doubted, peer.ahead) = (true, false);
        }
    }
}

/// Whether a peer claims a chain that is better than ours and worth storing.
pub(super) fn has_more(peer: &Peer, view: &dyn ChainView) -> bool {
    let claimed = peer.claimed_work();
    claimed > view.best_work() && claimed >= view.minimum_work()
}
