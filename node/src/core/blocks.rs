//! Blocks: checked, stored, connected.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use ocelli_consensus::block::Classes;
use ocelli_consensus::fork_choice::BlockStatus;
use ocelli_consensus::{BlockHash, RuleError, WtxId};
use ocelli_protocol::assembly::{self, CLOSE_BLOCKS};
use ocelli_protocol::message::{Announcement, Assembled, BlockData};
use ocelli_protocol::sync;

use super::{Core, RETRY_MILLIS};
use crate::chain::{AcceptError, Advance, BodyError, Moved, tasks};
use crate::error::NodeError;
use crate::full_message::full_message;
use crate::inference::{AnswerCheck, InferenceError, PictureFault};
use crate::network::{Misbehaviour, Peer};
use crate::pool::{Found, TipMove};
use crate::store::{Extent, StoreError};
use crate::validation::{Checked, CheckedBody, Claims, Held, Unanswered, broken_rule};

impl Core {
    /// Takes the data of a block: they enter the pipeline.
    ///
    /// # Errors
    /// The store's.
    pub(super) fn begin_block(
        &mut self,
        peer: Option<Peer>,
        hash: BlockHash,
        data: BlockData,
    ) -> Result<(), StoreError> {
        if self.validation.contains(&hash) {
            return Ok(());
        }
        let Some(header) = self.chain.wanted(&hash)? else { return Ok(()) };
        let Some(setting) = self.chain.setting(&header, &data.body.models())? else {
            self.validation.hold(hash, header.height, Held::Data(peer, data));
            return Ok(());
        };
        let known = self.known_of(data.body.transactions.iter().map(|(transaction, _)| transaction.wtxid()));
        let extent = self.chain.extent(&hash, &data);
        self.validation.begin(peer, header, data, extent, setting, known);
        Ok(())
    }

    /// Takes a block that was put together from its announcement, whose answers are still to be computed.
    ///
    /// # Errors
    /// The store's.
    pub(super) fn begin_assembled(&mut self, hash: BlockHash, assembled: Assembled) -> Result<(), StoreError> {
        if self.validation.contains(&hash) {
            return Ok(());
        }
        let Some(header) = self.chain.wanted(&hash)? else { return Ok(()) };
        let transactions = assembled.submissions.iter().map(|submission| &submission.transaction);
        let models = transactions.clone().filter_map(|transaction| transaction.unsigned.action.model()).collect();
        let Some(setting) = self.chain.setting(&header, &models)? else {
            self.validation.hold(hash, header.height, Held::Assembled(assembled));
            return Ok(());
        };
        let known = self.known_of(transactions.map(|transaction| transaction.wtxid()));
        self.validation.begin_unanswered(Unanswered { header, assembled, setting }, known);
        Ok(())
    }

    /// The transactions whose signatures have been checked: those that are pending.
    fn known_of(&self, wtxids: impl Iterator<Item = WtxId>) -> BTreeSet<WtxId> {
        let pending = &self.others.views.view().pool.pending;
        if pending.is_empty() { BTreeSet::new() } else { wtxids.filter(|wtxid| pending.get(wtxid).is_some()).collect() }
    }

    /// Goes on with blocks that were held until others had come.
    fn begin_held(&mut self) -> Result<(), StoreError> {
        if self.validation.holds() {
            for (hash, held) in self.validation.take_held() {
                match held {
                    Held::Data(peer, data) => self.begin_block(peer, hash, data)?,
                    Held::Assembled(assembled) => self.begin_assembled(hash, assembled)?,
                }
            }
        }
        Ok(())
    }

    pub(super) fn on_checked(&mut self, checked: Checked) -> Result<(), NodeError> {
        match checked {
            Checked::Body(body) => self.on_body(*body),
            Checked::Answers { hash, places, result } => self.on_answers(hash, &places, result),
            Checked::Unanswered(unanswered, result) => self.on_unanswered(unanswered, result),
            Checked::Answered(unanswered, result) => self.on_answered(*unanswered, result),
        }
    }

    fn on_unanswered(&mut self, unanswered: Box<Unanswered>, result: Result<(), RuleError>) -> Result<(), NodeError> {
        let header = &unanswered.header;
        match result {
            Ok(()) => {
                self.validation.answer(unanswered);
                Ok(())
            }
            // Its transactions are those that the header commits to.
            Err(rule) => {
                let hash = header.hash();
                self.chain.refuse(hash, header.height, &rule)?;
                self.validation.finish(&hash);
                self.blocks_changed()
            }
        }
    }

    /// Fills the answers into a block. If they are not those that were announced, sync fetches the block with its own, and only these
    /// can condemn it.
    fn on_answered(
        &mut self,
        unanswered: Unanswered,
        result: Result<Vec<Result<Classes, PictureFault>>, InferenceError>,
    ) -> Result<(), NodeError> {
        let (hash, height, setting) = (unanswered.header.hash(), unanswered.header.height, unanswered.setting.clone());
        self.validation.answered(&hash);
        let data = match result {
            Ok(answers) => {
                let answers = answers.into_iter().collect::<Result<Vec<_>, _>>();
                answers.ok().and_then(|answers| unanswered.with_answers(answers))
            }
            // Whole, it is kept until its answers can be checked.
            Err(InferenceError::Busy { .. } | InferenceError::UnknownModel { .. }) => None,
            Err(error) => return Err(cannot_check(hash, error)),
        };
        let Some(data) = data else {
            tracing::debug!(%hash, "the answers of an announced block are not this node's: it is fetched whole");
            return self.blocks_changed();
        };
        if self.chain.wants(&hash) {
            let result = self.chain.body_check().check_body(&setting, &data.body).map_err(BodyError::from);
            match self.chain.accept_checked(hash, &data, Extent::Body, result) {
                Ok(()) => {
                    self.chain.set_answers(hash, Ok(()))?;
                    self.begin_held()?;
                    self.is_advance_due = true;
                }
                Err(AcceptError::Store(error)) => return Err(error.into()),
                Err(error) => {
                    tracing::debug!(%hash, height, reason = full_message(&error), "an announced block is not taken");
                }
            }
        }
        self.blocks_changed()
    }

    fn on_body(&mut self, body: CheckedBody) -> Result<(), NodeError> {
        let CheckedBody { hash, from, data, extent, result, claims } = body;
        match self.chain.accept_checked(hash, &data, extent, result) {
            Ok(()) => {
                // One that is taken on work has nothing to be checked.
                self.begin_held()?;
                if extent == Extent::OnWork {
                    self.validation.finish(&hash);
                    self.advance()?;
                    return self.blocks_changed();
                }
                let height = self.chain.tree().get(&hash).map_or(0, |node| node.height);
                self.validation.check_answers(hash, height, claims);
                return Ok(());
            }
            Err(AcceptError::Store(error)) => return Err(error.into()),
            Err(AcceptError::NotWanted(_) | AcceptError::Early(_)) => {}
            Err(error @ AcceptError::NotTheBlock { .. }) => {
                tracing::warn!(
                    peer = from.map(tracing::field::display),
                    reason = full_message(&error),
                    "not the block's data"
                );
                if let Some(peer) = from {
                    self.penalize(peer, Misbehaviour::NotTheBlock);
                    self.validation.finish(&hash);
                    self.assembling.inputs.push_back(assembly::Input::BlocksChanged);
                    return self.drive_sync(sync::Input::BlockRefused { peer, hash });
                }
            }
            // Noted and logged by the chain. Whoever sent it only passed it on.
            Err(AcceptError::Refused { .. }) => {}
        }
        self.validation.finish(&hash);
        self.blocks_changed()
    }

    /// Has the answers of stored blocks checked that a restart or a busy service has left, the lowest first.
    pub(super) fn check_left_over(&mut self) -> Result<(), NodeError> {
        let unchecked = &mut self.unchecked;
        while self.validation.has_room() && self.others.clock.now() >= unchecked.retry_at {
            let tree = self.chain.tree();
            let place = |hash: &BlockHash| tree.get(hash).map_or(0, |node| node.height);
            let blocks = &mut unchecked.blocks;
            let Some(index) = (0..blocks.len()).min_by_key(|&index| place(&blocks[index])) else { return Ok(()) };
            let Some(hash) = blocks.remove(index) else { return Ok(()) };
            if tree.is_condemned(&hash) || tree.get(&hash).is_none_or(|node| node.status != BlockStatus::Received) {
                continue;
            }
            let height = place(&hash);
            let Some(data) = self.chain.block_data(&hash)? else { continue };
            self.validation.check_answers(hash, height, Claims::of(&data));
        }
        Ok(())
    }

    fn on_answers(
        &mut self,
        hash: BlockHash,
        places: &[usize],
        result: Result<AnswerCheck, InferenceError>,
    ) -> Result<(), NodeError> {
        self.validation.answered(&hash);
        // The tip moves when all answers that are here have been taken.
        self.is_advance_due = true;
        match result {
            Ok(verdict) => self.chain.set_answers(hash, broken_rule(verdict, places))?,
            // Until the file is here.
            Err(InferenceError::UnknownModel { model, .. }) => self.wait_for_file(model, hash),
            // Nothing is known of the block: tried again when the service has room.
            Err(InferenceError::Busy { .. }) => {
                self.unchecked.blocks.push_back(hash);
                self.unchecked.retry_at = self.others.clock.now() + RETRY_MILLIS;
            }
            Err(error) => return Err(cannot_check(hash, error)),
        }
        Ok(())
    }

    /// Moves the tip as far as it goes, and has everybody follow.
    pub(super) fn advance(&mut self) -> Result<(), NodeError> {
        let Advance { disconnected, connected, refused } = self.chain.advance()?;
        self.follow_files(&connected)?;
        if disconnected.is_empty() && connected.is_empty() && refused.is_empty() {
            return Ok(());
        }
        if let (Some(first), Some(last)) = (disconnected.last(), disconnected.first()) {
            let (from, to) = (first.header.height, last.header.height);
            tracing::info!(from, to, "reorganisation: blocks disconnected");
        }
        self.tell_progress(&connected);
        for (moved, is_off) in [(&disconnected, true), (&connected, false)] {
            moved.iter().for_each(|Moved { hash, .. }| self.mined.moved(hash, is_off));
        }
        if !(disconnected.is_empty() && connected.is_empty()) {
            self.begin_held()?;
            // Shown first: who is told of it may ask for it.
            let chain = Arc::new(self.chain.at_tip()?);
            self.others.views.show_tip(Arc::clone(&chain));
            self.show();
            self.others.pool.tell(TipMove { disconnected, connected, chain });
            self.assembling.inputs.push_back(assembly::Input::TipMoved);
        }
        self.blocks_changed()
    }

    /// Says which blocks were connected; where many are to come, how far it is instead.
    fn tell_progress(&mut self, connected: &[Moved]) {
        let best = self.chain.tree().best_header().height;
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

    /// Takes a block of our own: its answers are this node's, so nothing is left to check but the state.
    pub(super) fn on_mined(&mut self, found: Found) -> Result<(), NodeError> {
        let Found { header, data } = found;
        let (hash, wall) = (header.hash(), self.others.clock.unix_seconds());
        self.mined.found(hash);
        if header.parent != self.chain.tip().hash {
            return Ok(());
        }
        if let (_, Some(error)) = self.chain.insert_headers(std::slice::from_ref(&header), wall)? {
            tracing::error!(%hash, reason = full_message(&error), "our own block is refused");
            return Ok(());
        }
        // All of it was in the mempool, which takes nothing whose signature was not checked.
        if let Err(error) = self.chain.accept_block(hash, &data, &|_| true) {
            tracing::error!(%hash, reason = full_message(&error), "our own block is refused");
            return Ok(());
        }
        tracing::info!(height = header.height, %hash, "block found");
        self.chain.set_answers(hash, Ok(()))?;
        self.assembling.inputs.push_back(assembly::Input::Published(hash));
        self.others.network.publish(&self.blocks_topic, Announcement::of(header, &data.body).to_bytes());
        self.advance()
    }
}

/// Says that answers cannot be computed here at all: then the node ends.
fn cannot_check(hash: BlockHash, error: InferenceError) -> NodeError {
    tracing::error!(%hash, reason = full_message(&error), "the answers of a block cannot be checked here");
    error.into()
}
