//! What a block's body and pixels show by themselves: for any thread, for it needs nothing of the chain.

use std::sync::Arc;

use ocelli_consensus::rules::{self, PixelsError};
use ocelli_consensus::{BlockHash, Header, Network, Parameters, WtxId};
use ocelli_protocol::message::BlockData;
use rayon::prelude::*;

use crate::store::Extent;

/// Checks bodies and pixels on all cores.
#[derive(Debug, Clone)]
pub struct BodyCheck {
    pub(super) parameters: Arc<Parameters>,
    pub(super) genesis: BlockHash,
}

impl BodyCheck {
    /// What checks the bodies of a network.
    pub fn new(network: &Network) -> Self {
        Self { parameters: Arc::new(network.parameters.clone()), genesis: network.genesis_hash() }
    }

    /// Checks all that body and pixels show by themselves. `is_known` says which transactions' signatures have been
    /// checked before. With [`Extent::OnWork`], pixels may be missing.
    ///
    /// # Errors
    /// [`PixelsError::Rule`] other than [`RuleError::BodyRoot`](rules::RuleError::BodyRoot) condemns the block; all else says that these bytes are not
    /// what the block hash commits to.
    pub fn check(
        &self,
        header: &Header,
        data: &BlockData,
        extent: Extent,
        is_known: &(dyn Fn(&WtxId) -> bool + Sync),
    ) -> Result<(), PixelsError> {
        let BlockData { body, pixels } = data;
        rules::check_body_root(header, body.root())?;
        // Bytes that the hash does not commit to are told apart before any rule: they must not condemn the block.
        let pixels_at = |index: usize| pixels.get(index).and_then(|pixels| pixels.as_deref());
        if let Some(index) = pixels.iter().skip(body.transactions.len()).position(Option::is_some) {
            return Err(PixelsError::Presence { index: body.transactions.len() + index, expected: false });
        }
        let checks =
            body.transactions.par_iter().enumerate().map(|(index, (transaction, _))| {
                match rules::check_pixels(&self.parameters, header.height, index, transaction, pixels_at(index)) {
                    Err(PixelsError::Presence { expected: true, .. }) if extent == Extent::OnWork => Ok(()),
                    other => other,
                }
            });
        let mut broken = None;
        for check in checks.collect::<Vec<_>>() {
            match check {
                Err(PixelsError::Rule(rule)) => broken = broken.or(Some(rule)),
                other => other?,
            }
        }
        rules::check_body(&self.parameters, header.height, body)?;
        if let Some(rule) = broken {
            return Err(rule.into());
        }
        // Of several bad ones the first: another might be found sooner.
        let signatures = body.transactions.par_iter().enumerate().find_map_first(|(index, (transaction, _))| {
            let is_new = !is_known(&transaction.wtxid());
            is_new.then(|| rules::check_signature(index, transaction, self.genesis).err()).flatten()
        });
        signatures.map_or(Ok(()), |rule| Err(rule.into()))
    }
}
