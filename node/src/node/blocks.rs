//! Blocks: announced, fetched, checked, connected.

use std::collections::BTreeSet;
use std::time::Instant;

use ocelli_consensus::block::Body;
use ocelli_consensus::fork_choice::{InsertError, Status};
use ocelli_consensus::rules::{Blame, check_body_root, check_output};
use ocelli_consensus::{BlockHash, Header};
use ocelli_protocol::message::{Announcement, BlockData, ChainStatus, Request};
use ocelli_protocol::sync;

use super::NodeError;
use super::service::{Asked, RETRY_MILLIS, Service};
use crate::chain::{AcceptError, Advance, HeaderError, MAX_AHEAD_SECONDS, Moved, full_message, tasks};
use crate::inference::{InferenceError, Verdict};
use crate::network::{Acceptance, GossipId, Misbehaviour, Peer};
use crate::store;
use crate::validation::{Checked, CheckedBody, Claims};

/// Blocks from the future that are kept. Further ones come through sync when their time has come.
const MAX_HELD: usize = 16;

/// Announcements that wait until the block that the same peer announced before is validated, one a peer. Further ones come
/// through sync.
const MAX_IN_TURN: usize = 16;
/// Blocks remembered as gossiped.
const MAX_GOSSIPED: usize = 64;

/// So close to the best header, each block that is connected is told; before, only how far it is.
const CLOSE_BLOCKS: u64 = 3;

/// What is to be said of a gossiped block, and the block where it is to be fetched.
enum Announced {
    /// A block that is to be passed on, and whose data are to be had.
    New,
    /// A block that is to be passed on, and whose data are here or under way.
    Known,
    /// Nothing new, or nothing that can be judged now.
    Ignored,
    /// Its parent is not here.
    Orphan,
    /// What an honest forwarder would have noticed.
    Broken(String),
}

impl Service {
    pub(super) fn on_announcement(&mut self, id: GossipId, source: Peer, data: &[u8]) -> Result<(), NodeError> {
        let announcement = match Announcement::from_bytes(data) {
            Ok(announcement) => announcement,
            Err(error) => {
                if self.complaints.has_room() {
                    tracing::warn!(%source, %error, "a gossiped block does not decode");
                }
                self.network.report(id, Acceptance::Reject);
                self.network.penalize(source, Misbehaviour::Malformed);
                return Ok(());
            }
        };
        if self.is_validating_for(source) {
            return self.wait_in_turn(id, source, announcement);
        }
        self.judge(id, source, announcement)
    }

    /// Whether a block that the peer has announced is not yet validated. One at a time: whoever finds invalid blocks keeps
    /// us busy with one of them, however fast they come.
    fn is_validating_for(&self, peer: Peer) -> bool {
        let is_open = |hash: &BlockHash| self.partial.contains_key(hash) || self.validation.contains(hash);
        self.announced.get(&peer).is_some_and(is_open)
    }

    fn wait_in_turn(&mut self, id: GossipId, source: Peer, announcement: Announcement) -> Result<(), NodeError> {
        if self.in_turn.len() < MAX_IN_TURN && self.in_turn.iter().all(|(_, peer, _)| *peer != source) {
            self.in_turn.push_back((id, source, announcement));
            return Ok(());
        }
        self.network.report(id, Acceptance::Ignore);
        let (hash, height) = (announcement.header.hash(), announcement.header.height);
        self.drive_sync(sync::Input::Announced { peer: source, hash, height, parent: sync::Parent::Unknown })
    }

    /// Takes up announcements whose turn has come.
    pub(super) fn take_next_in_turn(&mut self) -> Result<(), NodeError> {
        while let Some(next) = self.in_turn.iter().position(|(_, peer, _)| !self.is_validating_for(*peer)) {
            let Some((id, source, announcement)) = self.in_turn.remove(next) else { break };
            self.judge(id, source, announcement)?;
        }
        Ok(())
    }

    fn judge(&mut self, id: GossipId, source: Peer, announcement: Announcement) -> Result<(), NodeError> {
        let (hash, height) = (announcement.header.hash(), announcement.header.height);
        let found = self.look_at(&announcement)?;
        if matches!(found, Announced::New | Announced::Known) {
            self.peers.entry(source).and_modify(|known| *known = (*known).max(Some(height)));
        }
        match found {
            Announced::New => {
                self.note_gossiped(hash);
                self.network.report(id, Acceptance::Accept);
                self.announced.insert(source, hash);
                self.put_together(announcement, source)?;
            }
            Announced::Known => {
                self.note_gossiped(hash);
                self.network.report(id, Acceptance::Accept);
            }
            Announced::Ignored => self.network.report(id, Acceptance::Ignore),
            Announced::Orphan => {
                self.network.report(id, Acceptance::Ignore);
                let parent = sync::Parent::Unknown;
                self.drive_sync(sync::Input::Announced { peer: source, hash, height, parent })?;
            }
            Announced::Broken(reason) => {
                if self.complaints.has_room() {
                    tracing::warn!(%source, %hash, reason, "a gossiped block is refused");
                }
                self.network.report(id, Acceptance::Reject);
                self.network.penalize(source, Misbehaviour::BrokenRule);
            }
        }
        Ok(())
    }

    /// Checks all of a block that an announcement shows: parent, header, proof of work, body root. Only then is it passed
    /// on, long before its answers are checked: faking it costs work.
    fn look_at(&mut self, announcement: &Announcement) -> Result<Announced, NodeError> {
        let header = &announcement.header;
        let hash = header.hash();
        let known = self.chain.tree().get(&hash).is_some();
        if !known && self.chain.tree().get(&header.parent).is_none() {
            // Without a parent nothing can be checked but that it cost something.
            let met = header.target.to_target().is_ok_and(|target| target.is_met_by(hash.0));
            return Ok(if met { Announced::Orphan } else { Announced::Broken("proof of work".into()) });
        }
        let root = announcement.body_root();
        if !known {
            let seconds = self.clock.unix_seconds();
            match self.chain.insert_announced(header, seconds)? {
                None => {}
                Some(HeaderError::Ahead { .. }) => {
                    if root == header.body && self.held.len() < MAX_HELD {
                        self.held.push_back(announcement.clone());
                    }
                    return Ok(Announced::Ignored);
                }
                Some(error) => return Ok(verdict_on(&error)),
            }
        }
        // The header is good, so this block exists; with another body it is not this block.
        if let Err(error) = check_body_root(header, root) {
            return Ok(Announced::Broken(error.to_string()));
        }
        let tree = self.chain.tree();
        let Some(node) = tree.get(&hash) else { return Ok(Announced::Ignored) };
        if tree.is_condemned(&hash) || !self.chain.is_worth_forwarding(node) {
            return Ok(Announced::Ignored);
        }
        let is_open = self.partial.contains_key(&hash) || self.validation.contains(&hash);
        // Sync may have been faster than gossip; whoever waits for gossip from us has nothing of that.
        Ok(if node.status == Status::Header && !is_open { Announced::New } else { Announced::Known })
    }

    /// Takes the data of a block from a peer: they enter the pipeline.
    pub(super) fn take_block(&mut self, peer: Option<Peer>, hash: BlockHash, data: BlockData) -> Result<(), NodeError> {
        self.begin_block(peer, hash, data);
        self.drive_sync(sync::Input::BlocksChanged)
    }

    pub(super) fn begin_block(&mut self, peer: Option<Peer>, hash: BlockHash, data: BlockData) {
        self.partial.remove(&hash);
        let Some(header) = self.chain.wanted(&hash).filter(|_| !self.validation.contains(&hash)) else { return };
        let mut known = BTreeSet::new();
        if !self.mempool.is_empty() {
            let wtxids = data.body.transactions.iter().map(|(transaction, _)| transaction.wtxid());
            known.extend(wtxids.filter(|wtxid| self.mempool.get_by_wtxid(wtxid).is_some()));
        }
        let extent = self.chain.extent(&hash, &data);
        self.validation.begin(peer, header.clone(), data, extent, known);
    }

    pub(super) fn on_checked(&mut self, checked: Checked) -> Result<(), NodeError> {
        match checked {
            Checked::Body(body) => self.on_body(*body),
            Checked::Answers { hash, places, result } => self.on_answers(hash, &places, result),
        }
    }

    fn on_body(&mut self, body: CheckedBody) -> Result<(), NodeError> {
        let CheckedBody { hash, from, data, extent, result, claims } = body;
        match self.chain.accept_checked(hash, &data, extent, result) {
            Ok(()) => {
                // One that is taken on work has nothing to be checked.
                if extent == store::Checked::OnWork {
                    self.validation.finish(&hash);
                    self.advance()?;
                    return self.drive_sync(sync::Input::BlocksChanged);
                }
                let height = self.chain.tree().get(&hash).map_or(0, |node| node.header.height);
                self.validation.check_answers(hash, height, claims);
                return Ok(());
            }
            Err(AcceptError::Store(error)) => return Err(error.into()),
            Err(AcceptError::NotWanted(_)) => {}
            Err(error @ AcceptError::NotTheBlock { .. }) => {
                tracing::warn!(
                    peer = from.map(tracing::field::display),
                    reason = full_message(&error),
                    "not the block's data"
                );
                if let Some(peer) = from {
                    self.network.penalize(peer, Misbehaviour::NotTheBlock);
                    self.validation.finish(&hash);
                    return self.drive_sync(sync::Input::BlockRefused { peer, hash });
                }
            }
            // Noted and logged by the chain. Whoever sent it only passed it on.
            Err(AcceptError::Refused { .. }) => {}
        }
        self.validation.finish(&hash);
        self.drive_sync(sync::Input::BlocksChanged)
    }

    /// Has the answers of stored blocks checked that a restart or a busy service has left, the lowest first.
    pub(super) fn check_left_over(&mut self) -> Result<(), NodeError> {
        while self.validation.has_room() && self.clock.now() >= self.retry_at {
            let tree = self.chain.tree();
            let place = |hash: &BlockHash| tree.get(hash).map_or(0, |node| node.header.height);
            let Some(index) = (0..self.to_check.len()).min_by_key(|&index| place(&self.to_check[index])) else {
                return Ok(());
            };
            let Some(hash) = self.to_check.remove(index) else { return Ok(()) };
            if tree.is_condemned(&hash) || tree.get(&hash).is_none_or(|node| node.status != Status::Received) {
                continue;
            }
            let height = place(&hash);
            let Some(data) = self.chain.block_data(&hash)? else { continue };
            self.validation.check_answers(hash, height, Claims::of(&data.body, &data.pixels));
        }
        Ok(())
    }

    fn on_answers(
        &mut self,
        hash: BlockHash,
        places: &[usize],
        result: Result<Verdict, InferenceError>,
    ) -> Result<(), NodeError> {
        self.validation.answered(&hash);
        // The tip moves when all results that are here have been taken.
        self.is_advance_due = true;
        match result {
            Ok(Verdict::Right) => self.chain.set_answers(hash, Ok(()))?,
            Ok(Verdict::Wrong { index, claimed, expected }) => {
                let place = places.get(index).copied().unwrap_or(index);
                self.chain.set_answers(hash, check_output(place, &claimed, &expected))?;
            }
            // Nothing is known of the block: tried again when the service has room.
            Err(InferenceError::Busy { .. }) => {
                self.to_check.push_back(hash);
                self.retry_at = self.clock.now() + RETRY_MILLIS;
            }
            Err(error) => {
                tracing::error!(%hash, reason = full_message(&error), "the answers of a block cannot be checked here");
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Moves the tip as far as it goes, and has everybody follow.
    pub(super) fn advance(&mut self) -> Result<(), NodeError> {
        let Advance { disconnected, connected, refused } = self.chain.advance()?;
        if disconnected.is_empty() && connected.is_empty() && refused.is_empty() {
            return Ok(());
        }
        if let (Some(first), Some(last)) = (disconnected.last(), disconnected.first()) {
            let (from, to) = (first.header.height, last.header.height);
            tracing::info!(from, to, "reorganisation: blocks disconnected");
        }
        self.tell_progress(&connected);
        self.follow_chain(&disconnected, &connected)?;
        self.tip_moved();
        if !self.is_far_behind() && !self.gossiped.contains(&self.chain.tip().hash) {
            self.tell_tip(|_| true);
        }
        self.drive_sync(sync::Input::BlocksChanged)
    }

    /// Says which blocks were connected; where many are to come, how far it is instead.
    fn tell_progress(&mut self, connected: &[Moved]) {
        let best = self.chain.tree().best_header().header.height;
        let now = Instant::now();
        for Moved { hash, header, body } in connected {
            let (height, transactions) = (header.height, body.transactions.len());
            if best > height + CLOSE_BLOCKS {
                tracing::debug!(height, %hash, transactions, "block connected");
                self.progress.connected(height, tasks(body).count() as u64);
            } else {
                tracing::info!(height, %hash, transactions, "block connected");
            }
        }
        if let Some(text) = self.progress.text(best, now) {
            tracing::info!("{text}");
        }
    }

    /// Announces a block of our own.
    pub(super) fn announce(&mut self, header: Header, body: &Body) {
        self.note_gossiped(header.hash());
        self.network.publish(&self.blocks_topic, Announcement::of(header, body).to_bytes());
    }

    /// Tries blocks from the future again whose time has come.
    pub(super) fn try_held(&mut self) -> Result<(), NodeError> {
        let limit = self.clock.unix_seconds().saturating_add(MAX_AHEAD_SECONDS);
        while let Some(index) = self.held.iter().position(|held| held.header.time <= limit) {
            let Some(announcement) = self.held.remove(index) else { break };
            let hash = announcement.header.hash();
            if matches!(self.look_at(&announcement)?, Announced::New) {
                tracing::info!(%hash, "the time of a block has come");
                // Whoever announced it may be gone; sync asks those that are there. Gossip has forgotten it, or remembers
                // that it was not passed on: peers are told when it is the tip.
                self.drive_sync(sync::Input::BlocksChanged)?;
            }
        }
        Ok(())
    }

    /// Whether blocks are being caught up with.
    pub(super) fn is_far_behind(&self) -> bool {
        self.chain.tree().best_header().header.height > self.chain.tip().header.height + CLOSE_BLOCKS
    }

    fn note_gossiped(&mut self, hash: BlockHash) {
        self.gossiped.push_back(hash);
        if self.gossiped.len() > MAX_GOSSIPED {
            self.gossiped.pop_front();
        }
    }

    /// Tells peers of the tip that they may not know: those that `whom` picks and that are not known to be as far.
    pub(super) fn tell_tip(&mut self, whom: impl Fn(Peer) -> bool) {
        let status = self.chain_status();
        let behind = self.peers.iter().filter(|(_, height)| height.is_none_or(|height| height < status.height));
        let peers: Vec<Peer> = behind.map(|(peer, _)| *peer).filter(|peer| whom(*peer)).collect();
        for peer in peers {
            self.ask(peer, &Request::NewTip(status.clone()), Asked::NewTip);
        }
    }

    /// A peer tells of its tip.
    pub(super) fn on_new_tip(&mut self, peer: Peer, status: &ChainStatus) -> Result<(), NodeError> {
        if status.genesis != self.chain.genesis() || !self.peers.contains_key(&peer) {
            return Ok(());
        }
        let (hash, height) = (status.tip, status.height);
        self.peers.entry(peer).and_modify(|known| *known = (*known).max(Some(height)));
        let parent = if self.chain.tree().get(&hash).is_some() { sync::Parent::Known } else { sync::Parent::Unknown };
        self.drive_sync(sync::Input::Announced { peer, hash, height, parent })
    }
}

/// Whose fault it is that a header is not taken.
fn verdict_on(error: &HeaderError) -> Announced {
    let reason = full_message(error);
    match error {
        HeaderError::Insert(InsertError::Rule { source, .. }) => match source.blame() {
            Blame::Sender | Blame::SenderOnly => Announced::Broken(reason),
            Blame::Nobody => {
                tracing::warn!(reason, "a block of a later version: update this node");
                Announced::Ignored
            }
            Blame::Block => Announced::Ignored,
        },
        HeaderError::Insert(InsertError::ParentUnknown { .. }) => Announced::Orphan,
        // Not even an honest forwarder need know which blocks we have found invalid.
        HeaderError::Insert(InsertError::ParentInvalid { .. })
        | HeaderError::Ahead { .. }
        | HeaderError::LowWork { .. }
        | HeaderError::Store(_) => Announced::Ignored,
    }
}
