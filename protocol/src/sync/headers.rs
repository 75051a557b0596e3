//! Headers: of whom they are asked, and which of them are stored.

use std::cmp::Reverse;

use ocelli_consensus::rules::Blame;
use ocelli_consensus::{BlockHash, Header, U256, Work};

use super::peer::Peer;
use super::presync::{Place, Presync, Progress};
use super::{ChainView, HeaderImport, Offence, Output, Question, Sync};
use crate::message::{MAX_HEADERS, MAX_LOCATOR, Request};

/// Full batches of headers from one peer that add nothing to our best work: a fork of 64,000 blocks.
pub const MAX_BARREN_BATCHES: u32 = 32;

#[derive(Debug)]
pub(super) struct HeaderSync<P> {
    pub(super) peer: P,
    /// Whether a batch has failed to connect.
    retried: bool,
    barren: u32,
    best_work: U256,
    /// While its chain has yet to show enough work.
    presync: Option<Presync>,
    /// Where to go on after the import under way; nowhere if that was all.
    next: Option<BlockHash>,
}

impl<P: Copy + Ord> Sync<P> {
    /// Begins with headers if somebody has more of them: who has failed least first, and of these who claims most work.
    /// Claims cost nothing: by these alone, some that claim all work and never answer would take turns for ever.
    pub(super) fn poll_headers(&mut self, now: u64, view: &dyn ChainView, out: &mut Vec<Output<P>>) {
        if self.headers.is_some() {
            return;
        }
        let free = |peer: &Peer| !peer.asked_headers && peer.is_rested(now);
        let candidates = (self.peers.iter())
            .filter(|(_, peer)| free(peer) && (peer.ahead || has_more(peer, view)))
            .map(|(id, peer)| ((Reverse(peer.failures), peer.claimed_work()), *id));
        // The first of equals, as `rev` makes it: `max_by_key` takes the last.
        let Some((_, peer)) = candidates.rev().max_by_key(|(order, _)| *order) else { return };
        let best_work = view.best_work();
        self.headers = Some(HeaderSync { peer, retried: false, barren: 0, best_work, presync: None, next: None });
        self.ask_headers(peer, None, now, view, out);
    }

    pub(super) fn on_headers(
        &mut self,
        peer: P,
        headers: Vec<Header>,
        now: u64,
        view: &dyn ChainView,
        out: &mut Vec<Output<P>>,
    ) {
        if headers.len() > MAX_HEADERS {
            let offence = Offence::TooManyHeaders { found: headers.len(), limit: MAX_HEADERS };
            return self.fail(peer, Some(offence), now, out);
        }
        if headers.windows(2).any(|pair| pair[1].parent != pair[0].hash()) {
            return self.fail(peer, Some(Offence::BrokenHeaders), now, out);
        }
        let Some(sync) = self.headers.as_ref().filter(|sync| sync.peer == peer) else { return };
        match (headers.first(), &sync.presync) {
            (None, None) => self.finish_headers(peer, view, out),
            (None, Some(presync)) => {
                let shown = presync.last().work;
                self.give_up_poor(peer, shown, out);
            }
            (Some(first), Some(presync)) if presync.last().hash == first.parent => {
                self.on_counted(peer, &headers, now, view, out);
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
        peer: P,
        parent: Place,
        mut headers: Vec<Header>,
        now: u64,
        view: &dyn ChainView,
        out: &mut Vec<Output<P>>,
    ) {
        let known = headers.iter().map_while(|header| view.place(&header.hash())).enumerate().last();
        let (skip, start) = known.map_or((0, parent), |(index, place)| (index + 1, place));
        let mut end = start.clone();
        for header in &headers[skip..] {
            match end.child(&self.parameters, header) {
                Ok(place) => end = place,
                // Of a later version than this node knows: the good part goes on, and whoever imports it says so.
                Err(rule) if rule.blame() == Blame::Nobody => break,
                Err(_) => return self.fail(peer, Some(Offence::InvalidHeaders), now, out),
            }
        }
        let Some(sync) = self.headers.as_mut() else { return };
        if end.work.0 >= view.minimum_work() {
            sync.next = (headers.len() >= MAX_HEADERS).then_some(end.hash);
            self.succeed(peer);
            out.push(Output::ImportHeaders { peer, headers });
        } else {
            sync.presync = Some(Presync::new(self.salt, start));
            let full = headers.len() >= MAX_HEADERS;
            headers.drain(..skip);
            self.count(peer, &headers, full, now, view, out);
        }
    }

    fn on_counted(&mut self, peer: P, headers: &[Header], now: u64, view: &dyn ChainView, out: &mut Vec<Output<P>>) {
        self.count(peer, headers, headers.len() >= MAX_HEADERS, now, view, out);
    }

    /// Counts headers of a chain that has not shown enough work, or fetches them again when it has.
    fn count(
        &mut self,
        peer: P,
        headers: &[Header],
        full: bool,
        now: u64,
        view: &dyn ChainView,
        out: &mut Vec<Output<P>>,
    ) {
        let Some(sync) = self.headers.as_mut() else { return };
        let Some(presync) = sync.presync.as_mut() else { return };
        let progress = presync.take(&self.parameters, headers, full, view.minimum_work());
        let last = presync.last().hash;
        let shown = presync.last().work;
        sync.next = Some(last);
        match progress {
            Progress::More => {
                self.succeed(peer);
                self.ask_headers(peer, Some(last), now, view, out);
            }
            Progress::Proven(headers) => {
                self.succeed(peer);
                out.push(Output::ImportHeaders { peer, headers });
            }
            Progress::Done(headers) => {
                (sync.presync, sync.barren) = (None, 0);
                if !full {
                    sync.next = None;
                }
                self.succeed(peer);
                out.push(Output::ImportHeaders { peer, headers });
            }
            Progress::Poor => self.give_up_poor(peer, shown, out),
            // A reorganisation between both passes looks the same.
            Progress::Changed => self.fail(peer, None, now, out),
            Progress::Broken(rule) if rule.blame() == Blame::Nobody => self.doubt(peer),
            Progress::Broken(_) => self.fail(peer, Some(Offence::InvalidHeaders), now, out),
        }
    }

    /// The peer's best chain may have changed since we asked: a fresh locator, once.
    fn on_unconnected(&mut self, peer: P, now: u64, view: &dyn ChainView, out: &mut Vec<Output<P>>) {
        match &mut self.headers {
            Some(headers) if headers.peer == peer && !headers.retried => {
                (headers.retried, headers.presync) = (true, None);
                self.ask_headers(peer, None, now, view, out);
            }
            _ => self.fail(peer, Some(Offence::UnconnectedHeaders), now, out),
        }
    }

    pub(super) fn on_headers_imported(
        &mut self,
        peer: P,
        result: HeaderImport,
        now: u64,
        view: &dyn ChainView,
        out: &mut Vec<Output<P>>,
    ) {
        let Some(headers) = self.headers.as_mut().filter(|headers| headers.peer == peer) else { return };
        match result {
            HeaderImport::Invalid => self.fail(peer, Some(Offence::InvalidHeaders), now, out),
            HeaderImport::Unconnected => self.on_unconnected(peer, now, view, out),
            HeaderImport::Held => self.doubt(peer),
            HeaderImport::Connected => {
                let best_work = view.best_work();
                let is_barren = best_work <= headers.best_work && headers.presync.is_none();
                headers.barren = if is_barren { headers.barren + 1 } else { 0 };
                headers.best_work = best_work;
                match headers.next.take().filter(|_| headers.barren < MAX_BARREN_BATCHES) {
                    Some(after) => self.ask_headers(peer, Some(after), now, view, out),
                    None => self.finish_headers(peer, view, out),
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
        out: &mut Vec<Output<P>>,
    ) {
        let locator = after.into_iter().chain(view.locator()).take(MAX_LOCATOR).collect();
        let limit = u32::try_from(MAX_HEADERS).expect("a constant below 2^32");
        self.send(peer, Question::Headers, Request::Headers { locator, limit }, now, out);
    }

    /// The peer has no more headers. Did they show the work that it claims?
    fn finish_headers(&mut self, id: P, view: &dyn ChainView, out: &mut Vec<Output<P>>) {
        self.headers.take_if(|headers| headers.peer == id);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        (peer.failures, peer.ahead) = (0, false);
        self.judge_claim(id, Work(view.best_work()), out);
    }

    /// The peer's chain is not worth storing: it may be honest and have no more, unless it claims more.
    fn give_up_poor(&mut self, id: P, shown: Work, out: &mut Vec<Output<P>>) {
        self.doubt(id);
        self.judge_claim(id, shown, out);
    }

    fn judge_claim(&mut self, id: P, shown: Work, out: &mut Vec<Output<P>>) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.claim.as_ref().is_none_or(|claim| claim.work <= shown.0) {
            peer.unproven = 0;
            return;
        }
        peer.doubted = true;
        peer.unproven += 1;
        if peer.unproven >= 2 {
            out.push(Output::Penalize { peer: id, offence: Offence::UnprovenWork });
        }
    }

    /// The peer's headers cannot be used now: not before its next status.
    fn doubt(&mut self, id: P) {
        self.headers.take_if(|headers| headers.peer == id);
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
