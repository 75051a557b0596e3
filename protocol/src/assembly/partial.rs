//! An announced block whose transactions are being put together.

use std::collections::{BTreeMap, BTreeSet};

use ocelli_consensus::block::{Body, Output};
use ocelli_consensus::{BlockHash, ImageHash, WtxId};

use super::View;
use crate::message::{Announcement, BlockData, ShortId, Submission};

#[derive(Debug)]
pub(super) struct Partial<P> {
    pub(super) height: u64,
    /// Who announced it.
    pub(super) from: P,
    pub(super) since: u64,
    outputs: Vec<Output>,
    wtxids: Vec<WtxId>,
    found: Vec<Option<Submission>>,
    /// Who has been asked and has not sent all that it was asked for; at most [`super::MAX_SOURCES`].
    pub(super) asked: Vec<P>,
    /// Whether sync may fetch it as well: nobody is left to be asked, and who was asked is late.
    pub(super) is_left: bool,
    /// Connected blocks in which it has been looked for what is missing.
    looked_into: BTreeSet<BlockHash>,
}

/// What came instead of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mismatch;

impl<P: Copy> Partial<P> {
    pub(super) fn new(announcement: Announcement, from: P, since: u64) -> Self {
        let height = announcement.header.height;
        let (wtxids, outputs): (Vec<_>, Vec<_>) = announcement.entries.into_iter().unzip();
        let found = vec![None; wtxids.len()];
        let (asked, looked_into) = (Vec::new(), BTreeSet::new());
        Self { height, from, since, outputs, wtxids, found, asked, is_left: false, looked_into }
    }

    pub(super) fn submission(&self, index: usize) -> Option<&Submission> {
        self.found.get(index)?.as_ref()
    }

    /// The places of the transactions that are not here, with their short ids.
    pub(super) fn missing(&self) -> impl Iterator<Item = (u32, ShortId)> {
        let places = self.found.iter().zip(&self.wtxids).zip(0..);
        places.filter(|((found, _), _)| found.is_none()).map(|((_, wtxid), index)| (index, ShortId::of(wtxid)))
    }

    /// Takes what is here already. Miners that find blocks at the same time take the same transactions, which leave the
    /// mempool with the first of these blocks that is connected.
    pub(super) fn fill(&mut self, view: &impl View) {
        self.fill_with(|wtxid| view.pending(wtxid));
        for height in self.height.saturating_sub(1)..=self.height.saturating_add(1) {
            if self.missing().next().is_none() {
                return;
            }
            let Some(hash) = view.connected_at(height).filter(|hash| self.looked_into.insert(*hash)) else { continue };
            let Some(BlockData { body, pixels }) = view.block_data(&hash) else { continue };
            let here = body.transactions.into_iter().zip(pixels);
            let mut here: BTreeMap<WtxId, Submission> = here
                .map(|((transaction, _), pixels)| (transaction.wtxid(), Submission { transaction, pixels }))
                .collect();
            self.fill_with(|wtxid| here.remove(wtxid));
        }
    }

    fn fill_with(&mut self, mut find: impl FnMut(&WtxId) -> Option<Submission>) {
        for (wtxid, found) in self.wtxids.iter().zip(&mut self.found).filter(|(_, found)| found.is_none()) {
            *found = find(wtxid);
        }
    }

    /// Takes an answer, as many as were asked for, up to the first that is not what was asked for.
    pub(super) fn take(&mut self, indexes: &[u32], submissions: Vec<Submission>) -> Result<(), Mismatch> {
        for (index, submission) in indexes.iter().zip(submissions) {
            let image = submission.transaction.task().map(|(_, image)| image);
            let place = *index as usize;
            let is_right = self.wtxids.get(place) == Some(&submission.transaction.wtxid())
                && submission.pixels.as_deref().map(ImageHash::of) == image;
            if !is_right {
                return Err(Mismatch);
            }
            // Another may have sent it before.
            self.found[place].get_or_insert(submission);
        }
        Ok(())
    }

    /// The whole block, if nothing is missing.
    pub(super) fn into_data(self) -> Option<BlockData> {
        let mut data = BlockData { body: Body::default(), pixels: Vec::with_capacity(self.found.len()) };
        for (found, output) in self.found.into_iter().zip(self.outputs) {
            let Submission { transaction, pixels } = found?;
            data.body.transactions.push((transaction, output));
            data.pixels.push(pixels);
        }
        Some(data)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.wtxids.len()
    }
}
