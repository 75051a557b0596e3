//! What a block's body and attachments show by themselves: for any thread, for it needs nothing of the chain but what is given
//! along.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use ocelli_consensus::header::Place;
use ocelli_consensus::object::ModelRecord;
use ocelli_consensus::rules::{self, AttachmentError};
use ocelli_consensus::{BlockHash, Body, Header, ModelId, Network, RuleError, Transaction, WtxId};
use ocelli_protocol::message::{BlockData, Submission};
use rayon::prelude::*;

use crate::store::Extent;

/// What a body is checked by, beside the rules: its place on a branch.
#[derive(Debug, Clone)]
pub struct Setting {
    pub place: Place,
    /// Those of the body's models that the branch has.
    pub models: BTreeMap<ModelId, ModelRecord>,
}

/// What is wrong with a block's data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// These are not the bytes that the block hash commits to: whoever sent them is to blame, and the block is not.
    #[error("transaction {index}")]
    Attachment {
        /// Which transaction.
        index: usize,
        source: AttachmentError,
    },
    /// The block breaks a rule; with [`RuleError::BodyRoot`] the bytes are not its own.
    #[error(transparent)]
    Rule(#[from] RuleError),
}

impl BodyError {
    /// The rule, if that says something about the block.
    pub fn into_verdict(self) -> Result<RuleError, Self> {
        match self {
            Self::Rule(rule) if !matches!(rule, RuleError::BodyRoot { .. }) => Ok(rule),
            other => Err(other),
        }
    }
}

/// Checks bodies and attachments on all cores.
#[derive(Debug, Clone)]
pub struct BodyCheck {
    pub(super) network: Arc<Network>,
    pub(super) genesis: BlockHash,
}

impl BodyCheck {
    /// What checks the bodies of a network.
    pub fn new(network: &Network) -> Self {
        Self { network: Arc::new(network.clone()), genesis: network.genesis_hash() }
    }

    /// Checks all that body and attachments show by themselves. `is_known` says which transactions' signatures have been
    /// checked before. With [`Extent::OnWork`], attachments may be missing.
    ///
    /// # Errors
    /// [`BodyError::into_verdict`] tells what condemns the block from what says that these bytes are not what the block hash
    /// commits to.
    pub fn check(
        &self,
        header: &Header,
        data: &BlockData,
        extent: Extent,
        setting: &Setting,
        is_known: &(dyn Fn(&WtxId) -> bool + Sync),
    ) -> Result<(), BodyError> {
        let BlockData { body, attachments } = data;
        rules::check_body_root(header, body.root(&header.parent))?;
        // Bytes that the hash does not commit to are told apart before any rule: they must not condemn the block.
        let attachment = |index: usize| attachments.get(index).and_then(Option::as_deref);
        if let Some(index) = attachments.iter().skip(body.transactions.len()).position(Option::is_some) {
            let source = AttachmentError::Presence { expected: false };
            return Err(BodyError::Attachment { index: body.transactions.len() + index, source });
        }
        let checks = body.transactions.par_iter().enumerate().map(|(index, (transaction, _))| {
            match rules::check_attachment(transaction, attachment(index)) {
                Err(AttachmentError::Presence { expected: true }) if extent == Extent::OnWork => Ok(None),
                Err(AttachmentError::Length(error)) => Ok(Some((index, error))),
                Err(source) => Err(BodyError::Attachment { index, source }),
                Ok(()) => Ok(None),
            }
        });
        // Of several the first: another might be found sooner.
        let lengths = checks.collect::<Vec<_>>().into_iter().collect::<Result<Vec<_>, _>>()?;
        self.check_body(setting, body)?;
        let length = lengths.into_iter().flatten().next();
        let signature = body.transactions.par_iter().enumerate().find_map_first(|(index, (transaction, _))| {
            Some((index, self.check_signature(transaction, is_known).err()?))
        });
        // Rule by rule, and not transaction by transaction.
        match length.or(signature) {
            Some((index, error)) => Err(error.at(index).into()),
            None => Ok(()),
        }
    }

    /// Checks a body's rules that need neither attachments nor signatures: what is left of a block after
    /// [`BodyCheck::check_unanswered`], once its answers have been filled in.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check_body(&self, setting: &Setting, body: &Body) -> Result<(), RuleError> {
        let checked: Result<_, Infallible> =
            rules::check_body(&self.network.parameters, &setting.place, body, &setting.models);
        checked.unwrap_or_else(|never| match never {})
    }

    /// Checks the transactions of a block whose answers are still to be computed, of which each has its attachment: all rules
    /// but those about answers. So nothing is run for a block that could not be valid.
    ///
    /// # Errors
    /// A rule that the block breaks.
    pub fn check_unanswered(
        &self,
        submissions: &[Submission],
        setting: &Setting,
        is_known: &(dyn Fn(&WtxId) -> bool + Sync),
    ) -> Result<(), RuleError> {
        let (limit, mut found) = (self.network.parameters.weight_limit, 0u64);
        for (index, Submission { transaction, .. }) in submissions.iter().enumerate() {
            let model = transaction.unsigned.action.model().and_then(|model| setting.models.get(&model));
            rules::check_transaction(&setting.place, transaction, model).map_err(|error| error.at(index))?;
            let weight = rules::weight(transaction, model.map(|model| &model.facts)).unwrap_or(u64::MAX);
            found = found.saturating_add(weight);
        }
        if found > limit {
            return Err(RuleError::Weight { found, limit });
        }
        for (index, Submission { transaction, attachment }) in submissions.iter().enumerate() {
            let length = attachment.as_ref().map(|attachment| attachment.len());
            let checked = length.map_or(Ok(()), |length| rules::check_attachment_length(transaction, length));
            checked.map_err(|error| error.at(index))?;
        }
        let broken = submissions.par_iter().enumerate().find_map_first(|(index, Submission { transaction, .. })| {
            Some(self.check_signature(transaction, is_known).err()?.at(index))
        });
        broken.map_or(Ok(()), Err)
    }

    fn check_signature(
        &self,
        transaction: &Transaction,
        is_known: &(dyn Fn(&WtxId) -> bool + Sync),
    ) -> Result<(), rules::TransactionError> {
        if is_known(&transaction.wtxid()) { Ok(()) } else { rules::check_signature(transaction, self.genesis) }
    }
}
