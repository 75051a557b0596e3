//! The rules that a block must keep, one variant of [`RuleError`] for each, and the checks that need no state.
//!
//! They are checked in this order: the header against its parent ([`check_header`]), that the body is the header's
//! ([`check_body_root`]), the body by itself ([`check_body`]), pixels ([`check_pixels`]), then state, history and state
//! root ([`crate::transition::connect`]), and apart from all of these the answers ([`check_output`]).

use crate::amount::Amount;
use crate::block::{Body, Output};
use crate::difficulty::{Anchor, next_target};
use crate::hash::{BlockHash, ImageHash, ModelId, Root};
use crate::header::Header;
use crate::network::{ModelParameters, Parameters};
use crate::signature::SignatureError;
use crate::target::{CompactTarget, Target};
use crate::transaction::{Action, MAX_TRANSACTION_BYTES, Transaction};

/// Header times are below 2^40 seconds since 1970.
pub const TIME_LIMIT: u64 = 1 << 40;
/// What every transaction weighs beside its bytes and its model's cost.
pub const BASE_WEIGHT: u64 = 256;
/// Model cost that weighs as much as one byte.
pub const COST_PER_WEIGHT: u64 = 4096;
/// A `Classify` in bytes, without pixels: the longest transaction.
const CLASSIFY_BYTES: u64 = MAX_TRANSACTION_BYTES as u64;
/// The most transactions that a block can hold whatever the network: they weigh more than [`BASE_WEIGHT`] each.
pub const fn max_transactions(weight_limit: u64) -> u64 {
    weight_limit / BASE_WEIGHT
}

/// Why a block is refused, one variant a rule. `index` is a transaction's place in the block, from 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The header's version is not the one that the upgrade table gives for its height.
    #[error("version {found}, expected {expected} at height {height}")]
    Version {
        /// In the header.
        found: u32,
        /// By the table.
        expected: u32,
        /// The header's height.
        height: u64,
    },
    /// The height is not the parent's + 1.
    #[error("height {found}, expected {expected}")]
    Height {
        /// In the header.
        found: u64,
        /// The parent's + 1.
        expected: u64,
    },
    /// The time is not after the parent's.
    #[error("time {found} is not after the parent's {parent}")]
    TimeNotAfterParent {
        /// In the header, in seconds since 1970.
        found: u64,
        /// In the parent's header.
        parent: u64,
    },
    /// The time is 2^40 seconds or more.
    #[error("time {found} is not below 2^40")]
    TimeTooLarge {
        /// In the header, in seconds since 1970.
        found: u64,
    },
    /// The target is not the computed one.
    #[error("target {found}, expected {expected}")]
    Target {
        /// In the header.
        found: CompactTarget,
        /// By ASERT.
        expected: CompactTarget,
    },
    /// The hash does not meet the target.
    #[error("hash {hash} does not meet target {target}")]
    ProofOfWork {
        /// The block hash.
        hash: BlockHash,
        /// What it must not exceed.
        target: CompactTarget,
    },
    /// The body is not the one that the header commits to.
    #[error("body root {found}, the header says {expected}")]
    BodyRoot {
        /// Of the body given.
        found: Root,
        /// In the header.
        expected: Root,
    },
    /// The history root is not that of the headers before.
    #[error("history root {found}, expected {expected}")]
    HistoryRoot {
        /// In the header.
        found: Root,
        /// Computed.
        expected: Root,
    },
    /// The state root is not that of the state after the block.
    #[error("state root {found}, expected {expected}")]
    StateRoot {
        /// In the header.
        found: Root,
        /// Computed.
        expected: Root,
    },
    /// The transactions weigh more than a block may.
    #[error("weight {found}, at most {limit} expected")]
    Weight {
        /// Of all transactions.
        found: u64,
        /// The network's.
        limit: u64,
    },
    /// A signature is not valid.
    #[error("transaction {index}: signature")]
    Signature {
        /// Which transaction.
        index: usize,
        /// What is wrong with it.
        source: SignatureError,
    },
    /// A transaction came too late.
    #[error("transaction {index}: expired at height {expires}, the block is at {height}")]
    Expired {
        /// Which transaction.
        index: usize,
        /// The last height it was valid at.
        expires: u64,
        /// The block's height.
        height: u64,
    },
    /// A transaction's nonce is not its account's.
    #[error("transaction {index}: nonce {found}, the account is at {expected}")]
    Nonce {
        /// Which transaction.
        index: usize,
        /// In the transaction.
        found: u64,
        /// The account's.
        expected: u64,
    },
    /// The network has no such model at this height.
    #[error("transaction {index}: model {model} is not offered at this height")]
    UnknownModel {
        /// Which transaction.
        index: usize,
        /// The model asked for.
        model: ModelId,
    },
    /// A task has no answer.
    #[error("transaction {index}: a task without its logits")]
    OutputMissing {
        /// Which transaction.
        index: usize,
    },
    /// A transaction that asks nothing has an answer.
    #[error("transaction {index}: logits where nothing was asked")]
    OutputUnexpected {
        /// Which transaction.
        index: usize,
    },
    /// An answer has the wrong number of logits.
    #[error("transaction {index}: {found} logits, expected {expected}")]
    OutputLength {
        /// Which transaction.
        index: usize,
        /// Logits in the block.
        found: usize,
        /// The model's.
        expected: u32,
    },
    /// An answer is not what the model says.
    #[error("transaction {index}: logit {class} is {found}, expected {expected}")]
    Output {
        /// Which transaction.
        index: usize,
        /// The first class that differs.
        class: usize,
        /// In the block.
        found: i32,
        /// Computed.
        expected: i32,
    },
    /// An image is not of the model's input shape.
    #[error("transaction {index}: an image of {found} pixels, the model takes {expected}")]
    ImageSize {
        /// Which transaction.
        index: usize,
        /// Bytes of the image.
        found: usize,
        /// The model's.
        expected: u32,
    },
    /// A sender has too little.
    #[error("transaction {index}: balance {balance}, needed {needed}")]
    Balance {
        /// Which transaction.
        index: usize,
        /// What the account has.
        balance: Amount,
        /// Amount and fee together.
        needed: Amount,
    },
    /// A transfer that creates an account carries less than the minimum.
    #[error("transaction {index}: {amount} for a new account, at least {minimum} expected")]
    MinimumBalance {
        /// Which transaction.
        index: usize,
        /// What it carries.
        amount: Amount,
        /// The network's.
        minimum: Amount,
    },
    /// A sum of amounts leaves 64 bits.
    #[error("transaction {index}: amounts exceed 64 bits")]
    AmountOverflow {
        /// Which transaction; the number of transactions where it is the miner's pay.
        index: usize,
    },
    /// The chain's work leaves 256 bits.
    #[error("the chain's work exceeds 256 bits")]
    WorkOverflow,
}

/// Who answers for a broken rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// Whoever sent it: an honest forwarder checks this before it forwards.
    Sender,
    /// The sender, and never the block: these bytes are not what the block hash commits to.
    SenderOnly,
    /// The block only: no forwarder could have noticed.
    Block,
    /// Nobody: the node may be too old to know.
    Nobody,
}

impl RuleError {
    /// Who answers for it (`docs/protocol.md`, "Who is blamed").
    pub fn blame(&self) -> Blame {
        match self {
            Self::Version { found, expected, .. } if found > expected => Blame::Nobody,
            Self::Version { .. }
            | Self::Height { .. }
            | Self::TimeNotAfterParent { .. }
            | Self::TimeTooLarge { .. }
            | Self::Target { .. }
            | Self::ProofOfWork { .. }
            | Self::WorkOverflow => Blame::Sender,
            Self::BodyRoot { .. } => Blame::SenderOnly,
            Self::HistoryRoot { .. }
            | Self::StateRoot { .. }
            | Self::Weight { .. }
            | Self::Signature { .. }
            | Self::Expired { .. }
            | Self::Nonce { .. }
            | Self::UnknownModel { .. }
            | Self::OutputMissing { .. }
            | Self::OutputUnexpected { .. }
            | Self::OutputLength { .. }
            | Self::Output { .. }
            | Self::ImageSize { .. }
            | Self::Balance { .. }
            | Self::MinimumBalance { .. }
            | Self::AmountOverflow { .. } => Blame::Block,
        }
    }
}

/// Block 1 of a branch, from which its difficulty is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnchorBlock {
    pub target: CompactTarget,
    /// Its time, in seconds since 1970.
    pub time: u64,
}

/// What a header is checked against of its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParentBlock {
    pub height: u64,
    /// Its time, in seconds since 1970.
    pub time: u64,
}

impl From<&Header> for ParentBlock {
    fn from(header: &Header) -> Self {
        Self { height: header.height, time: header.time }
    }
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

/// Checks a header against its parent: version, height, time, target, proof of work.
///
/// # Errors
/// The first rule that it breaks.
pub fn check_header(
    parameters: &Parameters,
    parent: impl Into<ParentBlock>,
    anchor: Option<AnchorBlock>,
    header: &Header,
) -> Result<(), RuleError> {
    let parent = parent.into();
    let expected = parent.height.saturating_add(1);
    if header.height != expected {
        return Err(RuleError::Height { found: header.height, expected });
    }
    let version = parameters.version_at(header.height);
    if header.version != version {
        return Err(RuleError::Version { found: header.version, expected: version, height: header.height });
    }
    if header.time <= parent.time {
        return Err(RuleError::TimeNotAfterParent { found: header.time, parent: parent.time });
    }
    if header.time >= TIME_LIMIT {
        return Err(RuleError::TimeTooLarge { found: header.time });
    }
    let target = expected_target(parameters, parent, anchor);
    if header.target != target {
        return Err(RuleError::Target { found: header.target, expected: target });
    }
    let hash = header.hash();
    if !target.to_target().is_ok_and(|target| target.is_met_by(hash.0)) {
        return Err(RuleError::ProofOfWork { hash, target });
    }
    Ok(())
}

/// Checks that a body's root is the header's.
///
/// # Errors
/// [`RuleError::BodyRoot`], which says nothing about the block: the body may be another's.
pub fn check_body_root(header: &Header, found: Root) -> Result<(), RuleError> {
    if found == header.body { Ok(()) } else { Err(RuleError::BodyRoot { found, expected: header.body }) }
}

/// What a transaction uses of a block's room at a height: its bytes, its pixels, its model's cost / 4096, and 256.
/// `None` where its model is not offered.
pub fn weight(transaction: &Transaction, parameters: &Parameters, height: u64) -> Option<u64> {
    match transaction.unsigned.action {
        Action::Transfer { .. } => Some(transaction.encoded_len() as u64 + BASE_WEIGHT),
        Action::Classify { model, .. } => Some(task_weight(parameters.model_at(model, height)?)),
    }
}

/// The [`weight`] of every task of a model.
pub fn task_weight(model: &ModelParameters) -> u64 {
    (CLASSIFY_BYTES + BASE_WEIGHT).saturating_add(u64::from(model.pixels)).saturating_add(model.cost / COST_PER_WEIGHT)
}

/// Checks what a body shows by itself: models, expiry, outputs' presence and length, and weight. Signatures are for
/// [`check_signature`], so that a node can check many at once.
///
/// # Errors
/// The first rule that it breaks.
pub fn check_body(parameters: &Parameters, height: u64, body: &Body) -> Result<(), RuleError> {
    let mut total = 0u64;
    for (index, (transaction, output)) in body.transactions.iter().enumerate() {
        let expires = transaction.unsigned.expires;
        if expires < height {
            return Err(RuleError::Expired { index, expires, height });
        }
        check_output_shape(parameters, height, index, transaction, output)?;
        // The model is known: its output was just looked at.
        total = total.saturating_add(weight(transaction, parameters, height).unwrap_or(u64::MAX));
    }
    if total > parameters.weight_limit {
        return Err(RuleError::Weight { found: total, limit: parameters.weight_limit });
    }
    Ok(())
}

fn check_output_shape(
    parameters: &Parameters,
    height: u64,
    index: usize,
    transaction: &Transaction,
    output: &Output,
) -> Result<(), RuleError> {
    match (transaction.task(), output) {
        (None, None) => Ok(()),
        (None, Some(_)) => Err(RuleError::OutputUnexpected { index }),
        (Some((model, _)), output) => {
            let offered = parameters.model_at(model, height).ok_or(RuleError::UnknownModel { index, model })?;
            let logits = output.as_ref().ok_or(RuleError::OutputMissing { index })?;
            if logits.len() as u64 == u64::from(offered.logits) {
                Ok(())
            } else {
                Err(RuleError::OutputLength { index, found: logits.len(), expected: offered.logits })
            }
        }
    }
}

/// Checks the signatures of the transaction at `index`.
///
/// # Errors
/// [`RuleError::Signature`].
pub fn check_signature(index: usize, transaction: &Transaction, genesis: BlockHash) -> Result<(), RuleError> {
    transaction.verify_signatures(genesis).map_err(|source| RuleError::Signature { index, source })
}

/// What is wrong with pixels that came for a transaction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PixelsError {
    /// They are not the image that the transaction names: whoever sent them is to blame, never the transaction.
    #[error("transaction {index}: pixels hash to {found}, expected {expected}")]
    Hash {
        /// Which transaction.
        index: usize,
        /// Of the pixels given.
        found: ImageHash,
        /// In the transaction.
        expected: ImageHash,
    },
    /// A task without pixels, or pixels where nothing was asked: whoever sent them is to blame.
    #[error("transaction {index}: pixels {}", if *.expected { "are missing" } else { "where nothing was asked" })]
    Presence {
        /// Which transaction.
        index: usize,
        /// Whether there should be pixels.
        expected: bool,
    },
    /// They are the image that the transaction names, and that breaks a rule.
    #[error(transparent)]
    Rule(#[from] RuleError),
}

/// Checks that pixels are the transaction's, and of its model's input shape.
///
/// # Errors
/// [`PixelsError`] tells the sender's fault from the transaction's.
pub fn check_pixels(
    parameters: &Parameters,
    height: u64,
    index: usize,
    transaction: &Transaction,
    pixels: Option<&[u8]>,
) -> Result<(), PixelsError> {
    let (model, image, pixels) = match (transaction.task(), pixels) {
        (None, None) => return Ok(()),
        (Some((model, image)), Some(pixels)) => (model, image, pixels),
        (task, _) => return Err(PixelsError::Presence { index, expected: task.is_some() }),
    };
    let found = ImageHash::of(pixels);
    if found != image {
        return Err(PixelsError::Hash { index, found, expected: image });
    }
    let offered = parameters.model_at(model, height).ok_or(RuleError::UnknownModel { index, model })?;
    if pixels.len() as u64 != u64::from(offered.pixels) {
        return Err(RuleError::ImageSize { index, found: pixels.len(), expected: offered.pixels }.into());
    }
    Ok(())
}

/// Compares a block's answer with this node's own.
///
/// # Errors
/// [`RuleError::Output`] for the first class that differs, [`RuleError::OutputLength`] where the lengths do.
pub fn check_output(index: usize, found: &[i32], expected: &[i32]) -> Result<(), RuleError> {
    if found.len() != expected.len() {
        let expected = u32::try_from(expected.len()).unwrap_or(u32::MAX);
        return Err(RuleError::OutputLength { index, found: found.len(), expected });
    }
    match found.iter().zip(expected).enumerate().find(|(_, (found, expected))| found != expected) {
        None => Ok(()),
        Some((class, (&found, &expected))) => Err(RuleError::Output { index, class, found, expected }),
    }
}
