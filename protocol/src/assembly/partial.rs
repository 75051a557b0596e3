//! An announced block whose transactions are being put together.

use std::collections::{BTreeMap, BTreeSet};

use ocelli_consensus::block::{BlockShortId, BodyCommitment, ShortIds, transaction_root};
use ocelli_consensus::rules::{RuleError, check_body_root};
use ocelli_consensus::{BlockHash, Header, WtxId};

use super::AssemblyView;
use crate::message::{Announcement, Assembled, BlockData, Submission};

#[derive(Debug)]
pub(super) struct Partial<P> {
    header: Header,
    commitment: BodyCommitment,
    short_ids: ShortIds,
    /// Who announced it.
    pub(super) from: P,
    pub(super) since: u64,
    /// Places in the order of their ids.
    by_id: Vec<u32>,
    /// Of each place, what is here; its wtxid has the place's id.
    found: Vec<Option<(WtxId, Submission)>>,
    wtxids: Wtxids,
    pub(super) round: Round<P>,
    /// Whether sync may fetch it as well.
    pub(super) is_left: bool,
    /// Connected blocks in which it has been looked for what is missing.
    looked_into: BTreeSet<BlockHash>,
    /// A transaction that has another's short id. To find one takes 2^32 signatures.
    #[cfg(test)]
    collision: Option<(WtxId, BlockShortId)>,
}

/// Who is asked for what a block lacks, until all have been.
#[derive(Debug)]
pub(super) struct Round<P> {
    /// Who has been asked; at most [`super::MAX_SOURCES`].
    pub(super) asked: BTreeSet<P>,
    /// Those of them that do not know it, or have sent something else.
    pub(super) useless: BTreeSet<P>,
    /// Places that others of them do not have yet.
    pub(super) lacked: BTreeMap<P, BTreeSet<u32>>,
    /// Whether somebody who was asked knows the block.
    pub(super) is_known: bool,
    /// When the last transaction came that was asked for.
    pub(super) progress_at: u64,
    /// When the next round begins.
    pub(super) rests_until: u64,
}

/// What is known of the whole ids.
#[derive(Debug)]
enum Wtxids {
    /// Nothing: short ids have been enough until now.
    Open,
    /// What was found for the short ids gives the transaction root.
    Found,
    /// What was found for the short ids does not give the transaction root.
    Wanted,
    /// They give the transaction root.
    Known(Vec<WtxId>),
}

/// What came instead of a transaction, or of wtxids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mismatch;

/// What a block lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lack {
    /// The transactions at these places.
    Transactions(Vec<u32>),
    Wtxids,
    Nothing,
}

impl<P: Copy + Ord> Partial<P> {
    pub(super) fn new(announcement: Announcement, from: P, since: u64) -> Self {
        let Announcement { header, commitment } = announcement;
        let ids = &commitment.ids;
        let mut by_id: Vec<u32> = (0..).take(ids.len()).collect();
        by_id.sort_unstable_by_key(|place| (ids[*place as usize], *place));
        Self {
            short_ids: ShortIds::new(&header.parent),
            from,
            since,
            by_id,
            found: vec![None; ids.len()],
            wtxids: Wtxids::Open,
            round: Round {
                asked: BTreeSet::new(),
                useless: BTreeSet::new(),
                lacked: BTreeMap::new(),
                is_known: false,
                progress_at: since,
                rests_until: since,
            },
            is_left: false,
            looked_into: BTreeSet::new(),
            #[cfg(test)]
            collision: None,
            header,
            commitment,
        }
    }

    pub(super) fn height(&self) -> u64 {
        self.header.height
    }

    pub(super) fn parent(&self) -> BlockHash {
        self.header.parent
    }

    pub(super) fn id(&self, place: u32) -> Option<BlockShortId> {
        self.commitment.ids.get(place as usize).copied()
    }

    fn id_of(&self, wtxid: &WtxId) -> BlockShortId {
        #[cfg(test)]
        if let Some((_, id)) = self.collision.filter(|(other, _)| other == wtxid) {
            return id;
        }
        self.short_ids.of(wtxid)
    }

    pub(super) fn submission(&self, index: usize) -> Option<&Submission> {
        self.found.get(index)?.as_ref().map(|(_, submission)| submission)
    }

    /// The ids of all its transactions, if they are known.
    pub(super) fn wtxids(&self) -> Option<&[WtxId]> {
        if let Wtxids::Known(wtxids) = &self.wtxids { Some(wtxids) } else { None }
    }

    /// What it lacks now. That all was found that its short ids name is not enough: they may name others.
    pub(super) fn lack(&mut self) -> Lack {
        let missing: Vec<u32> = self.missing().collect();
        if !missing.is_empty() {
            return Lack::Transactions(missing);
        }
        if let Wtxids::Open = self.wtxids {
            let found = self.found.iter().flatten().map(|(wtxid, _)| *wtxid);
            let is_right = transaction_root(found) == self.commitment.transactions;
            self.wtxids = if is_right { Wtxids::Found } else { Wtxids::Wanted };
        }
        if let Wtxids::Wanted = self.wtxids { Lack::Wtxids } else { Lack::Nothing }
    }

    /// The places of the transactions that are not here.
    pub(super) fn missing(&self) -> impl Iterator<Item = u32> {
        self.found.iter().zip(0..).filter(|(found, _)| found.is_none()).map(|(_, place)| place)
    }

    /// Takes what is here already. Miners that find blocks at the same time take the same transactions, which leave the
    /// mempool with the first of these blocks that is connected.
    pub(super) fn fill(&mut self, view: &impl AssemblyView) {
        if self.missing().next().is_none() {
            return;
        }
        self.fill_with(view.pending_ids(), |wtxid| view.pending(wtxid));
        for height in self.height().saturating_sub(1)..=self.height().saturating_add(1) {
            if self.missing().next().is_none() {
                return;
            }
            let Some(hash) = view.connected_at(height).filter(|hash| self.looked_into.insert(*hash)) else { continue };
            let Some(BlockData { body, attachments }) = view.block_data(&hash) else { continue };
            let here = body.transactions.into_iter().zip(attachments);
            let here = here.map(|((transaction, _), attachment)| Submission { transaction, attachment });
            let mut here: BTreeMap<WtxId, Submission> =
                here.map(|submission| (submission.transaction.wtxid(), submission)).collect();
            let ids: Vec<WtxId> = here.keys().copied().collect();
            self.fill_with(ids, |wtxid| here.remove(wtxid).filter(Submission::has_its_attachment));
        }
    }

    fn fill_with(
        &mut self,
        candidates: impl IntoIterator<Item = WtxId>,
        mut find: impl FnMut(&WtxId) -> Option<Submission>,
    ) {
        // Where two have the id of one place, neither is taken: it is asked for.
        let mut matches: BTreeMap<u32, Option<WtxId>> = BTreeMap::new();
        for wtxid in candidates {
            if let Some(place) = self.place_of(&wtxid) {
                matches.entry(place).and_modify(|other| *other = None).or_insert(Some(wtxid));
            }
        }
        for (place, wtxid) in matches {
            if let Some(wtxid) = wtxid
                && let Some(submission) = find(&wtxid)
            {
                self.found[place as usize] = Some((wtxid, submission));
            }
        }
    }

    /// The place without a transaction that this one can be meant for, if there is one and no other.
    fn place_of(&self, wtxid: &WtxId) -> Option<u32> {
        let (ids, id) = (&self.commitment.ids, self.id_of(wtxid));
        let first = self.by_id.partition_point(|place| ids[*place as usize] < id);
        let same = self.by_id[first..].iter().copied().take_while(|place| ids[*place as usize] == id);
        let is_open = |place: &u32| self.found[*place as usize].is_none();
        match &self.wtxids {
            Wtxids::Known(wtxids) => same.filter(is_open).find(|place| wtxids[*place as usize] == *wtxid),
            Wtxids::Open | Wtxids::Found | Wtxids::Wanted => {
                let mut same = same;
                let place = same.next()?;
                (same.next().is_none() && is_open(&place)).then_some(place)
            }
        }
    }

    /// Takes an answer in the order of the places asked for, up to the first that is not what was asked for. How many there were.
    pub(super) fn take(
        &mut self,
        places: &[u32],
        submissions: Vec<Option<Submission>>,
        mut came: impl FnMut(&WtxId),
    ) -> Result<usize, Mismatch> {
        let mut count = 0;
        for (place, submission) in places.iter().zip(submissions) {
            let Some(submission) = submission else { continue };
            let wtxid = submission.transaction.wtxid();
            let is_right = match &self.wtxids {
                Wtxids::Known(wtxids) => wtxids.get(*place as usize) == Some(&wtxid),
                Wtxids::Open | Wtxids::Found | Wtxids::Wanted => self.id(*place) == Some(self.id_of(&wtxid)),
            };
            if !is_right || !submission.has_its_attachment() {
                return Err(Mismatch);
            }
            came(&wtxid);
            count += 1;
            // Another may have sent it before.
            self.found[*place as usize].get_or_insert((wtxid, submission));
        }
        Ok(count)
    }

    /// Takes all wtxids. What was found for others with the same short ids goes.
    ///
    /// # Errors
    /// That they do not give the transaction root: who sent them is to blame.
    pub(super) fn take_wtxids(&mut self, wtxids: Vec<WtxId>) -> Result<Result<(), RuleError>, Mismatch> {
        if transaction_root(wtxids.iter().copied()) != self.commitment.transactions {
            return Err(Mismatch);
        }
        let ids: Vec<BlockShortId> = wtxids.iter().map(|wtxid| self.id_of(wtxid)).collect();
        if ids != self.commitment.ids {
            // Only these transactions give the transaction root, which the header binds together with other ids.
            let found = BodyCommitment { ids, ..self.commitment.clone() }.root();
            return Ok(check_body_root(&self.header, found));
        }
        for (found, wtxid) in self.found.iter_mut().zip(&wtxids) {
            found.take_if(|(found, _)| found != wtxid);
        }
        self.wtxids = Wtxids::Known(wtxids);
        Ok(Ok(()))
    }

    /// All transactions, if none is missing.
    pub(super) fn into_assembled(self) -> Option<Assembled> {
        let submissions = self.found.into_iter().map(|found| found.map(|(_, submission)| submission));
        Some(Assembled { submissions: submissions.collect::<Option<_>>()?, answer_root: self.commitment.answers })
    }

    /// Has a transaction pass for the one at a place: as if both had the same short id.
    #[cfg(test)]
    pub(super) fn collide(&mut self, wtxid: WtxId, place: u32) {
        self.collision = Some((wtxid, self.commitment.ids[place as usize]));
    }

    #[cfg(test)]
    pub(super) fn needs_wtxids(&self) -> bool {
        matches!(self.wtxids, Wtxids::Wanted)
    }
}
