//! Announced blocks whose transactions are put together: from the mempool, from the blocks that they compete with, from what
//! relay or such a block is fetching anyway, and for the rest by asking who announced the block, and then others that have it.
//! The whole block is the last resort, and sync's.

use std::collections::{BTreeMap, BTreeSet};

use ocelli_consensus::block::{Body, Output};
use ocelli_consensus::{BlockHash, ImageHash, Transaction, WtxId};
use ocelli_protocol::message::{Announcement, BlockData, MAX_INDEXES, Request, Response, ShortId, Submission};
use ocelli_protocol::relay::{self, BLOCK_PATIENCE};
use ocelli_protocol::sync;

use super::NodeError;
use super::service::{Asked, Service};
use crate::network::{Misbehaviour, Peer};

/// Announced blocks that are put together at a time. Further ones come through sync.
const MAX_PARTIAL: usize = 16;
/// After this time sync fetches an announced block as a whole, from whoever has it.
const PARTIAL_MILLIS: u64 = 5_000;
/// Peers that are asked for what a block lacks, one after the other. An honest one that has just passed the block on may
/// still be waiting for the same transactions.
const MAX_SOURCES: usize = 3;
/// How often it is looked whether what a block waits for has come, in milliseconds.
pub(super) const LOOK_MILLIS: u64 = 20;

/// An announced block whose transactions are being put together.
pub(super) struct Partial {
    height: u64,
    outputs: Vec<Output>,
    wtxids: Vec<WtxId>,
    found: Vec<Option<(Transaction, Option<Vec<u8>>)>>,
    pub(super) from: Peer,
    since: u64,
    /// Who has been asked for what is missing and has not sent it, the last of them perhaps still to do so.
    asked: Vec<Peer>,
    /// The places of the transactions that the last of them is being asked for.
    question: Option<Vec<u32>>,
    /// Since when.
    asked_at: u64,
    /// Connected blocks in which it has been looked for what is missing.
    looked_into: BTreeSet<BlockHash>,
}

impl Partial {
    /// A transaction that is here already, with its pixels.
    pub(super) fn submission(&self, index: usize) -> Option<Submission> {
        let (transaction, pixels) = self.found.get(index)?.clone()?;
        Some(Submission { transaction, pixels })
    }

    /// Whether it waits for relay, and nobody is being asked.
    fn is_waiting(&self) -> bool {
        self.question.is_none()
    }

    fn missing(&self) -> impl Iterator<Item = u32> {
        self.found.iter().zip(0..).filter(|(found, _)| found.is_none()).map(|(_, index)| index)
    }

    fn short_id(&self, index: u32) -> Option<ShortId> {
        self.wtxids.get(index as usize).map(ShortId::of)
    }

    /// Looks for each missing transaction somewhere.
    fn fill_with(&mut self, mut find: impl FnMut(&WtxId) -> Option<(Transaction, Option<Vec<u8>>)>) {
        for (wtxid, found) in self.wtxids.iter().zip(&mut self.found).filter(|(_, found)| found.is_none()) {
            *found = find(wtxid);
        }
    }

    /// Takes an answer; on failure what came instead of the transaction at which place.
    fn take(&mut self, question: Vec<u32>, submissions: Vec<Submission>) -> Result<(), (u32, WtxId)> {
        for (index, Submission { transaction, pixels }) in question.into_iter().zip(submissions) {
            let found = transaction.wtxid();
            let image = transaction.task().map(|(_, image)| image);
            let place = index as usize;
            if found != self.wtxids[place] || pixels.as_deref().map(ImageHash::of) != image {
                return Err((index, found));
            }
            self.found[place] = Some((transaction, pixels));
        }
        Ok(())
    }
}

impl Service {
    /// Takes up an announced block whose header and body root have been checked.
    pub(super) fn put_together(&mut self, announcement: Announcement, source: Peer) -> Result<(), NodeError> {
        let (hash, height) = (announcement.header.hash(), announcement.header.height);
        let (wtxids, outputs): (Vec<_>, Vec<_>) = announcement.entries.into_iter().unzip();
        let found = vec![None; wtxids.len()];
        let mut partial = Partial {
            height,
            outputs,
            wtxids,
            found,
            from: source,
            since: self.clock.now(),
            asked: Vec::new(),
            question: None,
            asked_at: 0,
            looked_into: BTreeSet::new(),
        };
        self.fill(&mut partial)?;
        let missing = partial.missing().count();
        let busy = self.partial.values().any(|other| other.from == source);
        if missing > 0 && (busy || self.partial.len() >= MAX_PARTIAL || missing > MAX_INDEXES) {
            return self.drive_sync(sync::Input::BlocksChanged);
        }
        self.pursue(hash, partial)
    }

    /// Takes the transactions that an announced block lacked.
    pub(super) fn on_transactions(
        &mut self,
        hash: BlockHash,
        peer: Peer,
        response: Option<Response>,
    ) -> Result<(), NodeError> {
        let is_awaited = |partial: &Partial| partial.asked.last() == Some(&peer) && partial.question.is_some();
        if !self.partial.get(&hash).is_some_and(is_awaited) {
            return Ok(());
        }
        let Some(mut partial) = self.partial.remove(&hash) else { return Ok(()) };
        let question = partial.question.take().unwrap_or_default();
        match response {
            Some(Response::Transactions(found)) if found.len() == question.len() => {
                if let Err((index, found)) = partial.take(question, found) {
                    // The block is not to blame for what was sent in its name.
                    if self.complaints.has_room() {
                        tracing::warn!(%peer, %hash, index, %found, "a peer sent a transaction that is not the block's");
                    }
                    self.network.penalize(peer, Misbehaviour::NotTheBlock);
                } else {
                    // Whoever has sent all that it was asked for may be asked for the rest, if that does not come by itself.
                    partial.asked.pop();
                }
            }
            // It does not have them: an honest forwarder may not. Another may.
            _ => tracing::debug!(%peer, %hash, "a peer does not have the transactions of a block that it announced"),
        }
        self.pursue(hash, partial)
    }

    /// Looks whether what announced blocks wait for has come, or will not.
    pub(super) fn look_at_waiting(&mut self) -> Result<(), NodeError> {
        let waiting = self.partial.iter().filter(|(_, partial)| partial.is_waiting()).map(|(hash, _)| *hash);
        for hash in waiting.collect::<Vec<_>>() {
            if let Some(mut partial) = self.partial.remove(&hash) {
                self.fill(&mut partial)?;
                self.pursue(hash, partial)?;
            }
        }
        Ok(())
    }

    /// Whether a block waits for what relay fetches.
    pub(super) fn is_a_block_waiting(&self) -> bool {
        self.partial.values().any(Partial::is_waiting)
    }

    /// Leaves to sync what could not be put together in time, and to relay what no block brings any more.
    pub(super) fn forget_partial(&mut self, now: u64) {
        self.partial.retain(|_, partial| now.saturating_sub(partial.since) < PARTIAL_MILLIS);
        let before = self.in_blocks.len();
        let (partial, validation) = (&self.partial, &self.validation);
        self.in_blocks.retain(|hash, _| partial.contains_key(hash) || validation.contains(hash));
        if self.in_blocks.len() < before {
            self.tell_relay_of_blocks();
        }
    }

    /// Does what is next for a block: it is complete; or some of what it lacks is asked for, unless relay has just asked a peer
    /// for it, or another block brings it; or all that it lacks is waited for; or nobody is left to be asked.
    fn pursue(&mut self, hash: BlockHash, mut partial: Partial) -> Result<(), NodeError> {
        let missing: BTreeMap<u32, ShortId> =
            partial.missing().filter_map(|index| Some((index, partial.short_id(index)?))).collect();
        if missing.is_empty() {
            return self.complete(hash, partial);
        }
        let now = self.clock.now();
        let mut lacking = missing;
        lacking.retain(|_, id| !self.relay.is_coming(*id, now) && !self.is_coming_with_another(*id, &hash, now));
        if lacking.is_empty() {
            self.partial.insert(hash, partial);
            return Ok(());
        }
        let Some(peer) = self.next_source(&partial) else {
            tracing::debug!(%hash, lacking = lacking.len(), "a block is left to sync: nobody else has what it lacks");
            return self.drive_sync(sync::Input::BlocksChanged);
        };
        let indexes: Vec<u32> = lacking.keys().copied().collect();
        tracing::debug!(%peer, %hash, lacking = indexes.len(), of = partial.found.len(), "a peer is asked for what a block lacks");
        partial.asked.push(peer);
        partial.question = Some(indexes.clone());
        partial.asked_at = now;
        self.partial.insert(hash, partial);
        self.in_blocks.entry(hash).or_default().extend(lacking.into_values());
        self.tell_relay_of_blocks();
        self.ask(peer, &Request::Transactions { block: hash, indexes }, Asked::Transactions(hash));
        Ok(())
    }

    /// Whom to ask for what a block lacks: first who announced it, then those that are known to be as far.
    fn next_source(&self, partial: &Partial) -> Option<Peer> {
        if partial.asked.len() >= MAX_SOURCES {
            return None;
        }
        let others = self.peers.iter().filter(|(_, height)| height.is_some_and(|height| height >= partial.height));
        let mut candidates = std::iter::once(partial.from).chain(others.map(|(peer, _)| *peer));
        candidates.find(|peer| !partial.asked.contains(peer))
    }

    /// Whether a transaction was asked for with another block, not long ago or with success: it will be found there.
    fn is_coming_with_another(&self, id: ShortId, hash: &BlockHash, now: u64) -> bool {
        let is_under_way = |other: &BlockHash| {
            let is_asked = |partial: &Partial| !partial.is_waiting() && now < partial.asked_at + BLOCK_PATIENCE;
            self.validation.contains(other) || self.partial.get(other).is_some_and(is_asked)
        };
        self.in_blocks.iter().any(|(other, ids)| other != hash && ids.contains(&id) && is_under_way(other))
    }

    /// Takes what is here already. Miners that find blocks at the same time take the same transactions, which leave the mempool
    /// with the first of these blocks.
    fn fill(&self, partial: &mut Partial) -> Result<(), NodeError> {
        partial.fill_with(|wtxid| {
            let entry = self.mempool.get_by_wtxid(wtxid)?;
            Some((entry.transaction().clone(), entry.pixels().map(|pixels| pixels.to_vec())))
        });
        for height in partial.height.saturating_sub(1)..=partial.height + 1 {
            if partial.missing().next().is_none() {
                break;
            }
            let Some(hash) = self.chain.store().hash_at(height)? else { continue };
            if !partial.looked_into.insert(hash) {
                continue;
            }
            let Some(BlockData { body, pixels }) = self.chain.block_data(&hash)? else { continue };
            let here = body.transactions.into_iter().zip(pixels);
            let mut here: BTreeMap<WtxId, _> =
                here.map(|((transaction, _), pixels)| (transaction.wtxid(), (transaction, pixels))).collect();
            partial.fill_with(|wtxid| here.remove(wtxid));
        }
        Ok(())
    }

    fn complete(&mut self, hash: BlockHash, partial: Partial) -> Result<(), NodeError> {
        let Partial { outputs, found, from, .. } = partial;
        let (mut transactions, mut pixels) = (Vec::new(), Vec::new());
        for (found, output) in found.into_iter().zip(outputs) {
            let Some((transaction, image)) = found else { return self.drive_sync(sync::Input::BlocksChanged) };
            transactions.push((transaction, output));
            pixels.push(image);
        }
        self.take_block(Some(from), hash, BlockData { body: Body { transactions }, pixels })
    }

    fn tell_relay_of_blocks(&mut self) {
        let ids: BTreeSet<ShortId> = self.in_blocks.values().flatten().copied().collect();
        self.drive_relay(relay::Input::InBlocks(ids));
    }
}
