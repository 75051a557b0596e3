//! What has happened to an account.

use ocelli_consensus::block::BodyProver;
use ocelli_consensus::{Address, Body};
use ocelli_protocol::ledger::{Place, REWARD};
use ocelli_protocol::message::{
    LedgerBlock, LedgerPage, MAX_ENTRIES, MAX_PROVEN, Proofs, ShownEntry, TransactionProof,
};

use super::View;
use crate::store::StoreError;

impl View {
    /// An account's entries before a place, the latest first, with the account at the same tip. Where they are to be proven, the
    /// page ends after [`MAX_PROVEN`] transactions of bodies, with the block that it is at. Also how many transactions of bodies
    /// were gone through. `None` where the node keeps none.
    ///
    /// # Errors
    /// The store's.
    pub fn ledger(
        &self,
        address: Address,
        before: Option<&Place>,
        limit: u32,
        proofs: Proofs,
    ) -> Result<Option<(LedgerPage, usize)>, StoreError> {
        let (mut rows, live) = (&self.chain.rows, self.chain.rows.store());
        let mut from = rows.ledger_from()?;
        let newer;
        // More may have been added of old blocks since the tip was shown.
        if live.ledger_from()? != from {
            newer = live.snapshot();
            if newer.tip()?.hash == self.chain.tip.hash {
                (rows, from) = (&newer, newer.ledger_from()?);
            }
        }
        let Some(from) = from else { return Ok(None) };
        let limit = (limit as usize).clamp(1, MAX_ENTRIES);
        let (mut blocks, mut taken, mut gone_through): (Vec<LedgerBlock>, _, _) = (Vec::new(), 0, 0);
        // Of the latest block, once an entry needs it; a reward has no transaction that could prove it.
        let (mut proving, mut has_more) = (None, false);
        for entry in rows.entries(&address, before) {
            let entry = entry?;
            let height = entry.place.height;
            // Of a block that is being taken in: rows below are those of an index that is not there yet.
            if height < from {
                break;
            }
            let is_new = blocks.last().is_none_or(|block| block.header.height != height);
            if taken >= limit || is_new && gone_through >= MAX_PROVEN {
                has_more = true;
                break;
            }
            if is_new {
                let (_, header) = rows.main_header(height)?;
                proving = None;
                blocks.push(LedgerBlock { header, entries: Vec::new() });
            }
            let Some(block) = blocks.last_mut() else { continue };
            let proof = if proofs == Proofs::With && entry.place.index != REWARD {
                if proving.is_none() {
                    // What is pruned is gone at once, whatever a snapshot still shows of it.
                    let body = rows.store().body(height, &block.header.hash())?;
                    gone_through += body.as_ref().map_or(0, |body| body.transactions.len());
                    proving = Some(body.map(|body| (body.prover(&block.header.parent), body)));
                }
                proving.as_ref().and_then(Option::as_ref).and_then(|proving| prove(proving, entry.place.index))
            } else {
                None
            };
            block.entries.push(ShownEntry { index: entry.place.index, event: entry.event, proof });
            taken += 1;
        }
        Ok(Some((LedgerPage { account: self.account(address)?, from, blocks, has_more }, gone_through)))
    }
}

/// The transaction of that index with what leads to its block's header; `None` if the body has none.
fn prove((prover, body): &(BodyProver, Body), index: u32) -> Option<Box<TransactionProof>> {
    let index = usize::try_from(index).ok()?;
    let (transaction, answer) = body.transactions.get(index)?.clone();
    Some(Box::new(TransactionProof { transaction, answer, proof: prover.prove(index)? }))
}
