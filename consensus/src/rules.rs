//! The rules that a block must keep, with their numbers in `docs/protocol.md`, and the checks that need no state.
//!
//! They are checked in this order: the header against its parent ([`check_header`]), that body and attachments are the
//! block's ([`check_body_root`], [`check_attachment`]), the body by itself and the models it uses ([`check_body`], then
//! lengths of attachments, then [`check_signature`]), what has to be run ([`check_answer`], [`check_file`], and whether a
//! picture decodes), then state, history and state root ([`crate::transition::connect`]).

mod error;

use std::collections::BTreeMap;

pub use error::{AnswerDifference, Blame, FormError, Rule, RuleError, Sum, TransactionError};

use crate::block::{Answer, Body, Classes};
use crate::difficulty::{Anchor, next_target};
use crate::hash::{AttachmentHash, BlockHash, ModelId, PartsHash, Root};
use crate::header::{Header, ParentBlock, Place, TIME_LIMIT};
use crate::network::Network;
use crate::object::{FILE, MAX_ATTACHMENT_BYTES, MAX_SIDE, ModelFacts, ModelRecord, StateReader, facts_out_of_range};
use crate::parameters::Parameters;
use crate::target::{CompactTarget, Target, Work};
use crate::transaction::{Action, Form, MIN_TRANSACTION_BYTES, Transaction};

/// What every transaction weighs beside its bytes and its work.
pub const BASE_WEIGHT: u64 = 256;
/// The most bytes of models that a block may make a node load.
pub const MAX_BLOCK_MODEL_BYTES: u64 = 134_217_728;
/// What a model counts at least of these.
pub const MODEL_BYTES_AT_LEAST: u32 = 262_144;
/// The most transactions that a block can hold.
pub const fn max_transactions(weight_limit: u64) -> u64 {
    weight_limit / (BASE_WEIGHT + MIN_TRANSACTION_BYTES as u64)
}

/// Block 1 of a branch, from which its difficulty is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnchorBlock {
    pub target: CompactTarget,
    /// Its time, in seconds since 1970.
    pub time: u64,
}

/// The target of the block after `parent`. `anchor` is block 1 of the branch, which there is from height 1 on.
pub fn expected_target(
    parameters: &Parameters,
    parent: impl Into<ParentBlock>,
    anchor: Option<AnchorBlock>,
) -> CompactTarget {
    let parent = parent.into();
    let Some(anchor) = anchor else { return parameters.easiest_target };
    let decoded = |compact: CompactTarget| compact.to_target().unwrap_or(Target::MAX);
    let anchor = Anchor {
        height: 1,
        target: decoded(anchor.target),
        // Times are below 2^40; a spacing that is not is a network of one block.
        parent_time: i64::try_from(anchor.time).unwrap_or(i64::MAX).saturating_sub_unsigned(parameters.spacing),
    };
    let easiest = decoded(parameters.easiest_target);
    next_target(anchor, parent.height, parent.time, parameters.spacing, parameters.half_life, easiest)
}

/// Checks a header against its parent, whose chain has `work`, and returns the work of its own chain. The version is looked
/// at last: who is found to have another has shown valid work.
///
/// # Errors
/// The first rule that it breaks.
pub fn check_header(
    network: &Network,
    parent: impl Into<ParentBlock>,
    anchor: Option<AnchorBlock>,
    work: Work,
    header: &Header,
) -> Result<Work, RuleError> {
    let parent = parent.into();
    let expected = parent.height.saturating_add(1);
    if header.height != expected {
        return Err(RuleError::Height { found: header.height, expected });
    }
    if header.time <= parent.time {
        return Err(RuleError::TimeNotAfterParent { found: header.time, parent: parent.time });
    }
    if header.time >= TIME_LIMIT {
        return Err(RuleError::TimeTooLarge { found: header.time });
    }
    let compact = expected_target(&network.parameters, parent, anchor);
    if header.target != compact {
        return Err(RuleError::Target { found: header.target, expected: compact });
    }
    let hash = header.hash();
    let target = compact.to_target().ok().filter(|target| target.is_met_by(hash.0));
    let target = target.ok_or(RuleError::ProofOfWork { hash, target: compact })?;
    let work = work.checked_add(target.work()).ok_or(RuleError::WorkOverflow)?;
    let version = network.schedule.version_at(header.height);
    if header.version != version {
        return Err(RuleError::Version { found: header.version, expected: version, height: header.height });
    }
    Ok(work)
}

/// Checks that a body's root is the header's.
///
/// # Errors
/// [`RuleError::BodyRoot`], which says nothing about the block: the body may be another's.
pub fn check_body_root(header: &Header, found: Root) -> Result<(), RuleError> {
    if found == header.body { Ok(()) } else { Err(RuleError::BodyRoot { found, expected: header.body }) }
}

/// Where the models come from that a block may use: any state of its branch from the one after block
/// `height - model delay` (genesis at least) on. Records never change and never go, and those that came too late for a block
/// say so.
pub trait Models {
    /// What can go wrong.
    type Error;

    /// The record of a model; `None` where there is none.
    ///
    /// # Errors
    /// If it cannot be read.
    fn model(&self, id: &ModelId) -> Result<Option<ModelRecord>, Self::Error>;
}

impl<R: StateReader> Models for R {
    type Error = R::Error;

    fn model(&self, id: &ModelId) -> Result<Option<ModelRecord>, R::Error> {
        StateReader::model(self, id)
    }
}

impl Models for BTreeMap<ModelId, ModelRecord> {
    type Error = std::convert::Infallible;

    fn model(&self, id: &ModelId) -> Result<Option<ModelRecord>, Self::Error> {
        Ok(self.get(id).copied())
    }
}

/// What a transaction uses of a block's room: 256, and its bytes with its attachment's or its work, whichever is more.
/// `None` where that takes its model's facts and they are not given.
pub fn weight(transaction: &Transaction, model: Option<&ModelFacts>) -> Option<u64> {
    let attached = transaction.attachment().map_or(0, |attachment| attachment.bytes.into());
    let bytes = transaction.encoded_len() as u64 + attached;
    Some(BASE_WEIGHT + bytes.max(transaction.unsigned.action.work(model)?))
}

/// Checks what a body shows by itself and by the models that it may use: the rules *UnknownAction* to *AnswerForm* for each
/// transaction, then *ModelBytes* and *Weight*. Attachments and signatures are for [`check_attachment`] and
/// [`check_signature`], so that a node can check many at once.
///
/// # Errors
/// The reader's; inside, the first rule that the body breaks.
pub fn check_body<M: Models>(
    parameters: &Parameters,
    place: &Place,
    body: &Body,
    models: &M,
) -> Result<Result<(), RuleError>, M::Error> {
    let mut used: BTreeMap<ModelId, Option<ModelRecord>> = BTreeMap::new();
    for id in body.models() {
        used.insert(id, models.model(&id)?);
    }
    Ok(check_body_with(parameters, place, body, &used))
}

fn check_body_with(
    parameters: &Parameters,
    place: &Place,
    body: &Body,
    models: &BTreeMap<ModelId, Option<ModelRecord>>,
) -> Result<(), RuleError> {
    let mut total = 0u64;
    for (index, (transaction, answer)) in body.transactions.iter().enumerate() {
        let model = transaction.unsigned.action.model().and_then(|id| models.get(&id)?.as_ref());
        check_transaction(place, transaction, model).map_err(|error| error.at(index))?;
        let facts = model.map(|model| &model.facts);
        check_answer_form(transaction, answer, facts).map_err(|error| error.at(index))?;
        // The model is known: it was just looked at.
        total = total.saturating_add(weight(transaction, facts).unwrap_or(u64::MAX));
    }
    let bytes = |model: &ModelRecord| u64::from(model.facts.size.max(MODEL_BYTES_AT_LEAST));
    let found = models.values().flatten().map(bytes).sum();
    if found > MAX_BLOCK_MODEL_BYTES {
        return Err(RuleError::ModelBytes { found, limit: MAX_BLOCK_MODEL_BYTES });
    }
    if total > parameters.weight_limit {
        return Err(RuleError::Weight { found: total, limit: parameters.weight_limit });
    }
    Ok(())
}

/// Checks what a transaction shows by itself and by the record of the model that it uses, for a block at a place: the rules
/// *UnknownAction* to *Form*.
///
/// # Errors
/// The first rule that it breaks.
pub fn check_transaction(
    place: &Place,
    transaction: &Transaction,
    model: Option<&ModelRecord>,
) -> Result<(), TransactionError> {
    let action = &transaction.unsigned.action;
    if !action.is_allowed(place.version) {
        return Err(TransactionError::UnknownAction { tag: action.tag(), version: place.version });
    }
    check_range(action)?;
    let (expires, height) = (transaction.unsigned.expires, place.height);
    if expires < height {
        return Err(TransactionError::Expired { expires, height });
    }
    let Action::Classify { model: id, bytes, form, .. } = action else { return Ok(()) };
    let offered = model.filter(|model| model.first <= height);
    let facts = offered.ok_or(TransactionError::UnknownModel { model: *id, height })?.facts;
    match form {
        Form::Pixels if u64::from(*bytes) != facts.pixels() => {
            Err(TransactionError::Form(FormError::Pixels { found: *bytes, expected: facts.pixels() }))
        }
        Form::Jpeg { .. } if !facts.takes_jpeg() => Err(TransactionError::Form(FormError::Jpeg {
            channels: facts.channels,
            height: facts.height,
            width: facts.width,
        })),
        _ => Ok(()),
    }
}

/// The rule *Range*.
fn check_range(action: &Action) -> Result<(), TransactionError> {
    let within = |field: &'static str, found: u64, (least, most): (u64, u64)| {
        if (least..=most).contains(&found) {
            Ok(())
        } else {
            Err(TransactionError::Range { field, found, least, most })
        }
    };
    let attachment = (1, MAX_ATTACHMENT_BYTES as u64);
    match action {
        Action::Classify { bytes, form, .. } => {
            within("bytes", (*bytes).into(), attachment)?;
            let Form::Jpeg { width, height } = form else { return Ok(()) };
            let side = (1, MAX_SIDE.into());
            within("width", (*width).into(), side)?;
            within("height", (*height).into(), side)
        }
        Action::Upload { size, .. } => within("size", (*size).into(), FILE),
        Action::Part { bytes, .. } => within("bytes", (*bytes).into(), attachment),
        Action::Publish { facts, .. } => {
            facts_out_of_range(facts).map_or(Ok(()), |(field, found, range)| within(field, found, range))
        }
        Action::Transfer { .. } | Action::Unknown(_) => Ok(()),
    }
}

/// The rules *AnswerUnexpected*, *AnswerMissing* and *AnswerForm*.
fn check_answer_form(
    transaction: &Transaction,
    answer: &Answer,
    model: Option<&ModelFacts>,
) -> Result<(), TransactionError> {
    match (transaction.task(), answer) {
        (None, Answer::None) => Ok(()),
        (None, Answer::Classes(_)) => Err(TransactionError::AnswerUnexpected),
        (Some(_), Answer::None) => Err(TransactionError::AnswerMissing),
        (Some(_), Answer::Classes(classes)) => {
            classes.check_form(model.map_or(0, |model| model.classes)).map_err(TransactionError::AnswerForm)
        }
    }
}

/// Checks the signatures of a transaction.
///
/// # Errors
/// [`TransactionError::Signature`].
pub fn check_signature(transaction: &Transaction, genesis: BlockHash) -> Result<(), TransactionError> {
    transaction.verify_signatures(genesis).map_err(TransactionError::Signature)
}

/// What is wrong with an attachment that came for a transaction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttachmentError {
    /// It lacks, or comes where none is named: whoever sent this is to blame, never the transaction.
    #[error("the attachment {}", if *.expected { "is missing" } else { "belongs to no action" })]
    Presence {
        /// Whether there should be one.
        expected: bool,
    },
    /// It is not the one that the transaction names: whoever sent it is to blame, never the transaction.
    #[error("the attachment hashes to {found}, expected {expected}")]
    Hash {
        /// Of what was given.
        found: AttachmentHash,
        /// In the transaction.
        expected: AttachmentHash,
    },
    /// It is the one that the transaction names, and that breaks the rule *AttachmentLength*.
    #[error(transparent)]
    Length(TransactionError),
}

/// Checks that an attachment is the transaction's, and as long as that says.
///
/// # Errors
/// [`AttachmentError`] tells the sender's fault from the transaction's.
pub fn check_attachment(transaction: &Transaction, attachment: Option<&[u8]>) -> Result<(), AttachmentError> {
    let (named, attachment) = match (transaction.attachment(), attachment) {
        (None, None) => return Ok(()),
        (Some(named), Some(attachment)) => (named, attachment),
        (named, _) => return Err(AttachmentError::Presence { expected: named.is_some() }),
    };
    let found = AttachmentHash::of(attachment);
    if found != named.hash {
        return Err(AttachmentError::Hash { found, expected: named.hash });
    }
    check_attachment_length(transaction, attachment.len()).map_err(AttachmentError::Length)
}

/// Checks that an attachment is as long as the transaction that names it says.
///
/// # Errors
/// [`TransactionError::AttachmentLength`].
pub fn check_attachment_length(transaction: &Transaction, found: usize) -> Result<(), TransactionError> {
    match transaction.attachment() {
        Some(named) if found as u64 != u64::from(named.bytes) => {
            Err(TransactionError::AttachmentLength { found, expected: named.bytes })
        }
        _ => Ok(()),
    }
}

/// Compares a block's answer with this node's own.
///
/// # Errors
/// [`TransactionError::Answer`].
pub fn check_answer(found: &Classes, expected: &Classes) -> Result<(), TransactionError> {
    let differ = found.best.iter().zip(&expected.best).find(|(found, expected)| found != expected);
    let difference = match differ {
        Some((&found, &expected)) => AnswerDifference::Class { found, expected },
        None if found.best.len() != expected.best.len() => {
            AnswerDifference::Length { found: found.best.len(), expected: expected.best.len() }
        }
        None if found.digest != expected.digest => {
            AnswerDifference::Digest { found: found.digest, expected: expected.digest }
        }
        None => return Ok(()),
    };
    Err(TransactionError::Answer(difference))
}

/// Checks the file of a model against the `Publish` that names it and declares `facts`, and against the parts that the
/// sender's upload had in the state before the block. `read` finds the facts of a file, or says why it is none
/// (`docs/inference.md`).
///
/// # Errors
/// [`TransactionError::File`].
pub fn check_file(
    (model, facts): (ModelId, &ModelFacts),
    parts: PartsHash,
    file: &[u8],
    read: impl FnOnce(&[u8]) -> Result<ModelFacts, String>,
) -> Result<(), TransactionError> {
    let file_error = |reason: String| Err(TransactionError::File { reason });
    let found = ModelId::of(file);
    if found != model {
        return file_error(format!("it is the file of model {found}, expected {model}"));
    }
    if PartsHash::of_file(file) != parts {
        return file_error("cut into parts it is not what was uploaded".into());
    }
    match read(file) {
        Err(reason) => file_error(reason),
        Ok(found) if found != *facts => file_error(format!("it has {found}, declared were {facts}")),
        Ok(_) => Ok(()),
    }
}
