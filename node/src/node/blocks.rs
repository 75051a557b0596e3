//! Blocks: their data checked, connected, and what follows from that.

use std::collections::BTreeSet;
use std::time::Instant;

use ocelli_consensus::block::Body;
use ocelli_consensus::fork_choice::Status;
use ocelli_consensus::rules::check_output;
use ocelli_consensus::{BlockHash, Header};
use ocelli_protocol::assembly::{self, CLOSE_BLOCKS};
use ocelli_protocol::message::{Announcement, BlockData};
use ocelli_protocol::sync;

use super::NodeError;
use super::assembly::AssemblyView;
use super::service::{RETRY_MILLIS, Service, unix_millis};
use crate::chain::{AcceptError, Advance, Moved, full_message, tasks};
use crate::inference::{InferenceError, Verdict};
use crate::network::{Misbehaviour, Peer};
use crate::store;
use crate::validation::{Checked, CheckedBody, Claims};

impl Service {
    /// Takes the data of a block: they enter the pipeline.
    pub(super) fn begin_block(
        &mut self,
        peer: Option<Peer>,
        hash: BlockHash,
        data: BlockData,
    ) -> Result<(), NodeError> {
        let Some(header) = self.chain.wanted(&hash).filter(|_| !self.validation.contains(&hash)) else { return Ok(()) };
        let mut known = BTreeSet::new();
        if !self.mempool.is_empty() {
            let wtxids = data.body.transactions.iter().map(|(transaction, _)| transaction.wtxid());
            known.extend(wtxids.filter(|wtxid| self.mempool.get_by_wtxid(wtxid).is_some()));
        }
        let extent = self.chain.extent(&hash, &data);
        self.validation.begin(peer, header.clone(), data, extent, known);
        self.drive_assembly(assembly::Input::BlocksChanged)
    }

    /// Tells assembly and sync that a block's validation has ended, or that the tip has moved.
    pub(super) fn blocks_changed(&mut self) -> Result<(), NodeError> {
        self.drive_assembly(assembly::Input::BlocksChanged)?;
        self.drive_sync(sync::Input::BlocksChanged)
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
                    return self.blocks_changed();
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
                    self.drive_assembly(assembly::Input::BlocksChanged)?;
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
        while self.validation.has_room() && unix_millis() >= self.retry_at {
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
                self.retry_at = unix_millis() + RETRY_MILLIS;
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
        self.drive_assembly(assembly::Input::TipMoved)?;
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
    pub(super) fn announce(&mut self, header: Header, body: &Body) -> Result<(), NodeError> {
        let hash = header.hash();
        self.network.publish(&self.blocks_topic, Announcement::of(header, body).to_bytes());
        self.drive_assembly(assembly::Input::Published(hash))
    }

    /// Whether blocks are being caught up with.
    pub(super) fn is_far_behind(&self) -> bool {
        let Self { chain, mempool, validation, relay, .. } = self;
        assembly::is_far_behind(&AssemblyView { chain, mempool, validation, relay })
    }
}
