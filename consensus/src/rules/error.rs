//! One variant for each rule, with its number, and who answers for it.

use std::fmt;

use crate::amount::Amount;
use crate::block::AnswerFormError;
use crate::hash::{BlockHash, LogitsDigest, ModelId, Root, UploadHash};
use crate::signature::SignatureError;
use crate::target::CompactTarget;

/// A rule as `docs/protocol.md`, part 14, numbers and names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub number: u8,
    pub name: &'static str,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {} ({})", self.number, self.name)
    }
}

/// Why a block is refused, one variant a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The height is not the parent's + 1.
    #[error("{}: height {found}, expected {expected}", self.rule())]
    Height {
        /// In the header.
        found: u64,
        /// The parent's + 1.
        expected: u64,
    },
    /// The time is not after the parent's.
    #[error("{}: time {found} is not after the parent's {parent}", self.rule())]
    TimeNotAfterParent {
        /// In the header, in seconds since 1970.
        found: u64,
        /// In the parent's header.
        parent: u64,
    },
    /// The time is 2^40 seconds or more.
    #[error("{}: time {found} is not below 2^40", self.rule())]
    TimeTooLarge {
        /// In the header, in seconds since 1970.
        found: u64,
    },
    /// The target is not the computed one.
    #[error("{}: target {found}, expected {expected}", self.rule())]
    Target {
        /// In the header.
        found: CompactTarget,
        /// By ASERT.
        expected: CompactTarget,
    },
    /// The hash does not meet the target.
    #[error("{}: hash {hash} does not meet target {target}", self.rule())]
    ProofOfWork {
        /// The block hash.
        hash: BlockHash,
        /// What it must not exceed.
        target: CompactTarget,
    },
    /// The chain's work leaves 256 bits.
    #[error("{}: the chain's work exceeds 256 bits", self.rule())]
    WorkOverflow,
    /// The header's version is not the one that the schedule gives for its height.
    #[error("{}: version {found}, expected {expected} at height {height}", self.rule())]
    Version {
        /// In the header.
        found: u32,
        /// By the schedule.
        expected: u32,
        /// The header's height.
        height: u64,
    },
    /// The body is not the one that the header commits to.
    #[error("{}: body root {found}, the header says {expected}", self.rule())]
    BodyRoot {
        /// Of the body given.
        found: Root,
        /// In the header.
        expected: Root,
    },
    /// The models that have to be loaded are too large together.
    #[error("{}: models of {found} bytes, at most {limit} expected", self.rule())]
    ModelBytes {
        /// Of all models that the block uses, each counted at least as 262,144.
        found: u64,
        /// What a block may ask for.
        limit: u64,
    },
    /// The transactions weigh more than a block may.
    #[error("{}: weight {found}, at most {limit} expected", self.rule())]
    Weight {
        /// Of all transactions.
        found: u64,
        /// The network's.
        limit: u64,
    },
    /// A transaction breaks a rule.
    #[error("transaction {index}: {error}")]
    Transaction {
        /// Its place in the block, from 0; the number of transactions where it is the miner's pay.
        index: usize,
        error: TransactionError,
    },
    /// The history root is not that of the headers before.
    #[error("{}: history root {found}, expected {expected}", self.rule())]
    HistoryRoot {
        /// In the header.
        found: Root,
        /// Computed.
        expected: Root,
    },
    /// The state root is not that of the state after the block.
    #[error("{}: state root {found}, expected {expected}", self.rule())]
    StateRoot {
        /// In the header.
        found: Root,
        /// Computed.
        expected: Root,
    },
}

/// Why a transaction is refused, one variant a rule; in a block of that place, or on its way into a mempool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// The action is none that the block's version allows; in relay its sender may just be newer.
    #[error("{}: action {tag} is none of version {version}, or has a choice in it that is none", self.rule())]
    UnknownAction {
        /// The action's.
        tag: u32,
        /// The block's.
        version: u32,
    },
    /// A number is out of range.
    #[error("{}: {field} is {found}, expected {least} to {most}", self.rule())]
    Range {
        field: &'static str,
        /// In the transaction.
        found: u64,
        /// The least that it may be.
        least: u64,
        /// The most that it may be.
        most: u64,
    },
    /// It came too late.
    #[error("{}: expired at height {expires}, the block is at {height}", self.rule())]
    Expired {
        /// The last height it was valid at.
        expires: u64,
        /// The block's height.
        height: u64,
    },
    /// The network offers no such model at this height.
    #[error("{}: model {model} is not offered at height {height}", self.rule())]
    UnknownModel {
        /// The model asked for.
        model: ModelId,
        /// The block's height.
        height: u64,
    },
    /// The model does not take a picture in this form.
    #[error("{rule}: {0}", rule = self.rule())]
    Form(FormError),
    /// A transaction that asks nothing has an answer.
    #[error("{}: an answer where nothing was asked", self.rule())]
    AnswerUnexpected,
    /// A task has no answer.
    #[error("{}: a task without its answer", self.rule())]
    AnswerMissing,
    /// An answer is none that the model could give.
    #[error("{rule}: {0}", rule = self.rule())]
    AnswerForm(AnswerFormError),
    /// The attachment has the right hash and another length than the transaction says.
    #[error("{}: an attachment of {found} bytes, expected {expected}", self.rule())]
    AttachmentLength {
        /// Bytes of the attachment.
        found: usize,
        /// In the transaction.
        expected: u32,
    },
    /// A signature is not valid.
    #[error("{rule}: {0}", rule = self.rule())]
    Signature(SignatureError),
    /// The attachment is no JPEG that the network takes, or has other sides than the transaction says.
    #[error("{}: {reason}", self.rule())]
    Picture {
        /// What is wrong with it.
        reason: String,
    },
    /// The answer is not what the model says.
    #[error("{rule}: {0}", rule = self.rule())]
    Answer(AnswerDifference),
    /// What was uploaded is not the model that is declared.
    #[error("{}: {reason}", self.rule())]
    File {
        /// What is wrong with it.
        reason: String,
    },
    /// The nonce is not the account's.
    #[error("{}: nonce {found}, the account is at {expected}", self.rule())]
    Nonce {
        /// In the transaction.
        found: u64,
        /// The account's.
        expected: u64,
    },
    /// A sum of amounts, or a nonce, leaves 64 bits.
    #[error("{}: {sum} is 2^64 or more", self.rule())]
    AmountOverflow { sum: Sum },
    /// The sender has too little.
    #[error("{}: the sender holds {balance}, {needed} needed", self.rule())]
    Balance {
        /// What the account has.
        balance: Amount,
        /// The fee, and the amount, royalty or what is burnt.
        needed: Amount,
    },
    /// A transfer that creates an account carries less than the minimum.
    #[error("{}: {amount} for an account that does not exist yet, at least {minimum} expected", self.rule())]
    MinimumBalance {
        /// What it carries.
        amount: Amount,
        /// The network's.
        minimum: Amount,
    },
    /// The royalty is not what the model's author asks for.
    #[error("{}: a royalty of {found}, the model's is {expected}", self.rule())]
    Royalty {
        /// In the transaction.
        found: Amount,
        /// In the model's record.
        expected: Amount,
    },
    /// The sender has no upload under way.
    #[error("{}: the sender has no upload under way", self.rule())]
    NoUpload,
    /// The part is not the next one, or the file has no such part.
    #[error("{}: part {found}, the next of {parts} is {expected}", self.rule())]
    PartNumber {
        /// In the transaction.
        found: u16,
        /// The upload's next.
        expected: u16,
        /// Of the whole file.
        parts: u32,
    },
    /// The part is not as long as its place in the file asks for.
    #[error("{}: a part of {found} bytes, expected {expected}", self.rule())]
    PartLength {
        /// In the transaction.
        found: u32,
        /// 262,144, or what is left.
        expected: u32,
    },
    /// The upload was for another model, or another's.
    #[error("{}: the upload is bound to {found}, this model of this sender to {expected}", self.rule())]
    UploadFile {
        /// In the upload.
        found: UploadHash,
        /// Of sender and model.
        expected: UploadHash,
    },
    /// The upload has another size than is published.
    #[error("{}: a size of {found}, the upload's is {expected}", self.rule())]
    UploadSize {
        /// In the transaction.
        found: u32,
        /// In the upload.
        expected: u32,
    },
    /// Parts have not come yet.
    #[error("{}: {found} of {expected} parts are there", self.rule())]
    PartsMissing {
        /// Parts that have come.
        found: u16,
        /// Of the whole file.
        expected: u32,
    },
    /// It is too early or too late for the upload.
    #[error("{}: height {height}, expected {from} to {until} - 1", self.rule())]
    UploadWindow {
        /// The block's.
        height: u64,
        /// The first that it may be.
        from: u64,
        /// The first that is too late.
        until: u64,
    },
    /// The model is there already.
    #[error("{}: model {model} is published already", self.rule())]
    ModelExists { model: ModelId },
}

/// Why a model does not take a picture in a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// Pixels that are not of the model's shape.
    #[error("{found} bytes of pixels, the model takes {expected}")]
    Pixels {
        /// In the transaction.
        found: u32,
        /// The model's.
        expected: u64,
    },
    /// A JPEG for a model that takes none.
    #[error(
        "a JPEG for a model of shape {channels}x{height}x{width}, expected 1 or 3 channels and sides of at most 1,024"
    )]
    Jpeg {
        /// The model's.
        channels: u16,
        /// The model's rows.
        height: u16,
        /// The model's columns.
        width: u16,
    },
}

/// The first difference between two answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerDifference {
    /// At one place stands another class, or another logit.
    #[error("class {} with logit {}, expected class {} with logit {}", .found.0, .found.1, .expected.0, .expected.1)]
    Class {
        /// In the block.
        found: (u16, i32),
        /// Computed.
        expected: (u16, i32),
    },
    /// One names more classes.
    #[error("{found} classes, expected {expected}")]
    Length {
        /// In the block.
        found: usize,
        /// Computed.
        expected: usize,
    },
    /// A logit that is not among the best differs.
    #[error("digest {found}, expected {expected}")]
    Digest {
        /// In the block.
        found: LogitsDigest,
        /// Computed.
        expected: LogitsDigest,
    },
}

/// Which sum leaves 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sum {
    /// The fee with the amount, the royalty, or what is burnt.
    Total,
    /// The sender's nonce and 1.
    Nonce,
    /// The fees of the transactions so far.
    Fees,
    /// The balance of who gets an amount or a royalty.
    Credited,
    /// The reward and the fees, or the miner's balance with them.
    Pay,
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Total => "the fee with what is paid besides",
            Self::Nonce => "the sender's next nonce",
            Self::Fees => "the sum of the block's fees",
            Self::Credited => "the balance of who is paid",
            Self::Pay => "the miner's pay, or the balance with it,",
        })
    }
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
    /// Nobody, for this node may be too old to know, if the header's chain has the work to be stored; else the sender.
    SenderIfCheap,
}

impl RuleError {
    /// The rule that is broken.
    pub fn rule(&self) -> Rule {
        let (number, name) = match self {
            Self::Height { .. } => (1, "Height"),
            Self::TimeNotAfterParent { .. } => (2, "TimeNotAfterParent"),
            Self::TimeTooLarge { .. } => (3, "TimeTooLarge"),
            Self::Target { .. } => (4, "Target"),
            Self::ProofOfWork { .. } => (5, "ProofOfWork"),
            Self::WorkOverflow => (6, "WorkOverflow"),
            Self::Version { .. } => (7, "Version"),
            Self::BodyRoot { .. } => (8, "BodyRoot"),
            Self::ModelBytes { .. } => (18, "ModelBytes"),
            Self::Weight { .. } => (19, "Weight"),
            Self::Transaction { error, .. } => return error.rule(),
            Self::HistoryRoot { .. } => (41, "HistoryRoot"),
            Self::StateRoot { .. } => (42, "StateRoot"),
        };
        Rule { number, name }
    }

    /// Who answers for it (`docs/protocol.md`, "Who is blamed").
    pub fn blame(&self) -> Blame {
        match self {
            Self::Height { .. }
            | Self::TimeNotAfterParent { .. }
            | Self::TimeTooLarge { .. }
            | Self::Target { .. }
            | Self::ProofOfWork { .. }
            | Self::WorkOverflow => Blame::Sender,
            Self::Version { .. } => Blame::SenderIfCheap,
            Self::BodyRoot { .. } => Blame::SenderOnly,
            Self::ModelBytes { .. }
            | Self::Weight { .. }
            | Self::Transaction { .. }
            | Self::HistoryRoot { .. }
            | Self::StateRoot { .. } => Blame::Block,
        }
    }
}

impl TransactionError {
    /// The rule that is broken.
    pub fn rule(&self) -> Rule {
        let (number, name) = match self {
            Self::UnknownAction { .. } => (10, "UnknownAction"),
            Self::Range { .. } => (11, "Range"),
            Self::Expired { .. } => (12, "Expired"),
            Self::UnknownModel { .. } => (13, "UnknownModel"),
            Self::Form(_) => (14, "Form"),
            Self::AnswerUnexpected => (15, "AnswerUnexpected"),
            Self::AnswerMissing => (16, "AnswerMissing"),
            Self::AnswerForm(_) => (17, "AnswerForm"),
            Self::AttachmentLength { .. } => (20, "AttachmentLength"),
            Self::Signature(_) => (21, "Signature"),
            Self::Picture { .. } => (22, "Picture"),
            Self::Answer(_) => (23, "Answer"),
            Self::File { .. } => (24, "File"),
            Self::Nonce { .. } => (25, "Nonce"),
            Self::AmountOverflow { sum: Sum::Total } => (26, "AmountOverflow"),
            Self::Balance { .. } => (27, "Balance"),
            Self::AmountOverflow { sum: Sum::Nonce | Sum::Fees } => (28, "AmountOverflow"),
            Self::MinimumBalance { .. } => (29, "MinimumBalance"),
            Self::Royalty { .. } => (30, "Royalty"),
            Self::AmountOverflow { sum: Sum::Credited } => (31, "AmountOverflow"),
            Self::NoUpload => (32, "NoUpload"),
            Self::PartNumber { .. } => (33, "PartNumber"),
            Self::PartLength { .. } => (34, "PartLength"),
            Self::UploadFile { .. } => (35, "UploadFile"),
            Self::UploadSize { .. } => (36, "UploadSize"),
            Self::PartsMissing { .. } => (37, "PartsMissing"),
            Self::UploadWindow { .. } => (38, "UploadWindow"),
            Self::ModelExists { .. } => (39, "ModelExists"),
            Self::AmountOverflow { sum: Sum::Pay } => (40, "AmountOverflow"),
        };
        Rule { number, name }
    }

    /// What a block with this transaction at `index` breaks.
    pub fn at(self, index: usize) -> RuleError {
        RuleError::Transaction { index, error: self }
    }
}
