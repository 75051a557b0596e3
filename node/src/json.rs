//! What is told in JSON, by the command line and over HTTP alike.

pub mod status;

use ocelli_consensus::block::Classes;
use ocelli_consensus::codec::encode;
use ocelli_consensus::object::{ModelFacts, UploadRecord};
use ocelli_consensus::parameters::GenesisModel;
use ocelli_consensus::transaction::Form;
use ocelli_consensus::{Action, Address, Amount, Header, ModelId, Network, Transaction, TxId, rules};
use ocelli_model::Attachment;
use ocelli_model::attachment::{self, Done};
use ocelli_program::output::Whole;
use ocelli_protocol::ledger::{Entry, Event};
use ocelli_protocol::message::{Confirmation, FeeSuggestion, FoundBlock, NetworkModel};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::fee::task_weight;
use crate::ledger::{Kind, Signed};

/// Bytes of a transfer.
pub const TRANSFER_BYTES: u64 = 152;

/// A header's fields, in order; hashes and the address in hex. Height and time stay far below 2^53.
#[derive(Debug, Serialize, ToSchema)]
pub struct HeaderFields {
    version: u32,
    parent: String,
    history: String,
    state: String,
    body: String,
    miner: String,
    height: u64,
    time: u64,
    target: u32,
    #[schema(value_type = String, example = "7")]
    nonce: Whole,
}

impl HeaderFields {
    /// The fields of a header.
    pub fn of(header: &Header) -> Self {
        Self {
            version: header.version,
            parent: header.parent.to_string(),
            history: header.history.to_string(),
            state: header.state.to_string(),
            body: header.body.to_string(),
            miner: header.miner.to_string(),
            height: header.height,
            time: header.time,
            target: header.target.0,
            nonce: Whole(header.nonce),
        }
    }
}

/// A transaction's fields; addresses as this network writes them, and other hashes in hex.
#[derive(Debug, Serialize, ToSchema)]
pub struct TransactionFields {
    txid: String,
    /// Of the signature too.
    wtxid: String,
    sender: String,
    #[schema(value_type = String, example = "3")]
    nonce: Whole,
    /// What the miner gets, in grains.
    #[schema(value_type = String, example = "3532")]
    fee: Whole,
    /// The last block that may hold it.
    #[schema(value_type = String, example = "1000")]
    expires: Whole,
    action: ActionFields,
    public_key: String,
    signature: String,
}

/// What a transaction does.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum ActionFields {
    Transfer {
        to: String,
        /// In grains.
        #[schema(value_type = String, example = "250000000")]
        amount: Whole,
    },
    Classify {
        model: String,
        /// Of the attachment that holds it.
        picture: String,
        /// Of the attachment.
        bytes: u32,
        /// What the model's author gets, in grains.
        #[schema(value_type = String, example = "0")]
        royalty: Whole,
        form: FormFields,
    },
    Upload {
        /// Names the sender and the model, and tells nobody which it is.
        file: String,
        /// Bytes of the model's file.
        size: u32,
    },
    Part {
        /// From 0.
        number: u16,
        /// Of the attachment.
        bytes: u32,
        /// Of the attachment that holds it.
        data: String,
    },
    Publish {
        model: String,
        /// What its author gets for each task, in grains.
        #[schema(value_type = String, example = "0")]
        royalty: Whole,
        #[serde(flatten)]
        facts: FactsFields,
    },
    /// Of rules that this program does not know.
    Unknown { tag: u32 },
}

/// What a task's attachment is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum FormFields {
    Pixels,
    Jpeg { width: u16, height: u16 },
}

impl TransactionFields {
    /// The fields of a transaction.
    pub fn of(transaction: &Transaction, network: &Network) -> Self {
        let prefix = &network.parameters.address_prefix;
        Self {
            txid: transaction.txid().to_string(),
            wtxid: transaction.wtxid().to_string(),
            sender: transaction.sender().to_text(prefix),
            nonce: Whole(transaction.unsigned.nonce),
            fee: Whole(transaction.unsigned.fee.0),
            expires: Whole(transaction.unsigned.expires),
            action: ActionFields::of(&transaction.unsigned.action, network),
            public_key: hex::encode(transaction.public_key),
            signature: hex::encode(transaction.signature),
        }
    }
}

impl ActionFields {
    fn of(action: &Action, network: &Network) -> Self {
        match *action {
            Action::Transfer { to, amount } => {
                Self::Transfer { to: to.to_text(&network.parameters.address_prefix), amount: Whole(amount.0) }
            }
            Action::Classify { model, picture, bytes, royalty, form } => Self::Classify {
                model: model.to_string(),
                picture: picture.to_string(),
                bytes,
                royalty: Whole(royalty.0),
                form: match form {
                    Form::Pixels => FormFields::Pixels,
                    Form::Jpeg { width, height } => FormFields::Jpeg { width, height },
                },
            },
            Action::Upload { file, size } => Self::Upload { file: file.to_string(), size },
            Action::Part { number, bytes, data } => Self::Part { number, bytes, data: data.to_string() },
            Action::Publish { model, ref facts, royalty } => {
                Self::Publish { model: model.to_string(), royalty: Whole(royalty.0), facts: FactsFields::of(facts) }
            }
            Action::Unknown(_) => Self::Unknown { tag: action.tag() },
        }
    }
}

/// What a model says of a picture, as a block holds it.
#[derive(Debug, Serialize, ToSchema)]
pub struct AnswerFields {
    /// The best classes, the best first.
    best: Vec<ClassFields>,
    /// Of all logits.
    digest: String,
}

/// A class and its logit.
#[derive(Debug, Serialize, ToSchema)]
struct ClassFields {
    class: u16,
    logit: i32,
}

impl AnswerFields {
    /// The fields of an answer.
    pub fn of(answer: &Classes) -> Self {
        let best = answer.best.iter().map(|&(class, logit)| ClassFields { class, logit });
        Self { best: best.collect(), digest: answer.digest.to_string() }
    }
}

/// A block, and how often it is confirmed if it is on the best chain.
#[derive(Debug, Serialize, ToSchema)]
pub struct BlockFields {
    hash: String,
    height: u64,
    /// Whether it is on the best chain.
    main_chain: bool,
    /// 0 off the best chain.
    confirmations: u64,
    header: HeaderFields,
    transactions: Vec<TransactionFields>,
    /// One for each transaction; null where nothing is asked.
    answers: Vec<Option<AnswerFields>>,
    /// Where it is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<RawBlock>,
}

/// The bytes of a block, in hexadecimal.
#[derive(Debug, Serialize, ToSchema)]
struct RawBlock {
    header: String,
    transactions: Vec<String>,
    answers: Vec<String>,
    /// One for each transaction; null where it has none, or none is kept.
    attachments: Vec<Option<String>>,
}

impl BlockFields {
    /// The fields of a block, without its bytes.
    pub fn of(found: &FoundBlock, confirmations: Option<u64>, network: &Network) -> Self {
        let transactions = &found.data.body.transactions;
        Self {
            hash: found.header.hash().to_string(),
            height: found.header.height,
            main_chain: confirmations.is_some(),
            confirmations: confirmations.unwrap_or(0),
            header: HeaderFields::of(&found.header),
            transactions: transactions.iter().map(|(tx, _)| TransactionFields::of(tx, network)).collect(),
            answers: transactions.iter().map(|(_, answer)| answer.classes().map(AnswerFields::of)).collect(),
            raw: None,
        }
    }

    /// The same with its bytes.
    #[must_use]
    pub fn with_raw(self, found: &FoundBlock) -> Self {
        let transactions = &found.data.body.transactions;
        let raw = RawBlock {
            header: hex::encode(found.header.to_bytes()),
            transactions: transactions.iter().map(|(tx, _)| hex::encode(tx.to_bytes())).collect(),
            answers: transactions.iter().map(|(_, answer)| hex::encode(encode(answer))).collect(),
            attachments: found.data.attachments.iter().map(|bytes| bytes.as_ref().map(hex::encode)).collect(),
        };
        Self { raw: Some(raw), ..self }
    }
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StateName {
    /// It waits for a block.
    Pending,
    /// A block holds it.
    Confirmed,
    /// No block has taken it, and none will as things stand.
    Dropped,
}

/// A transaction, and what became of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct FoundTransaction {
    txid: String,
    state: StateName,
    /// As the block holds it; null without a block.
    transaction: Option<TransactionFields>,
    /// Null without a block, and where nothing is asked.
    answer: Option<AnswerFields>,
    /// The hash of the block that holds it.
    block: Option<String>,
    /// Of that block.
    height: Option<u64>,
    /// Its place in that block, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u32>,
    confirmations: u64,
    /// Why it was dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Where it is asked for, and a block holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<RawTransaction>,
}

/// The bytes of a transaction that a block holds, in hexadecimal.
#[derive(Debug, Serialize, ToSchema)]
struct RawTransaction {
    header: String,
    transaction: String,
    answer: String,
    /// Null where it has none, or none is kept.
    attachment: Option<String>,
}

impl FoundTransaction {
    /// One that waits for a block.
    pub fn pending(txid: &TxId) -> Self {
        Self {
            txid: txid.to_string(),
            state: StateName::Pending,
            transaction: None,
            answer: None,
            block: None,
            height: None,
            index: None,
            confirmations: 0,
            reason: None,
            raw: None,
        }
    }

    /// One that no block will take.
    pub fn dropped(txid: &TxId, reason: String) -> Self {
        Self { state: StateName::Dropped, reason: Some(reason), ..Self::pending(txid) }
    }

    /// One that a block holds, without its bytes.
    pub fn confirmed(confirmation: &Confirmation, confirmations: u64, network: &Network) -> Self {
        let tx = &confirmation.submission.transaction;
        Self {
            state: StateName::Confirmed,
            transaction: Some(TransactionFields::of(tx, network)),
            answer: confirmation.answer.classes().map(AnswerFields::of),
            block: Some(confirmation.header.hash().to_string()),
            height: Some(confirmation.header.height),
            index: Some(confirmation.proof.index),
            confirmations,
            ..Self::pending(&tx.txid())
        }
    }

    /// The same with its bytes.
    #[must_use]
    pub fn with_raw(self, confirmation: &Confirmation) -> Self {
        let raw = RawTransaction {
            header: hex::encode(confirmation.header.to_bytes()),
            transaction: hex::encode(confirmation.submission.transaction.to_bytes()),
            answer: hex::encode(encode(&confirmation.answer)),
            attachment: confirmation.submission.attachment.as_ref().map(hex::encode),
        };
        Self { raw: Some(raw), ..self }
    }
}

/// In what amounts are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// For people: `+2.5`, `0.00000408`.
    Credits,
    /// For programs: `250000000`, `408`.
    Grains,
}

impl Unit {
    fn amount(self, amount: Amount) -> String {
        match self {
            Self::Credits => amount.to_string(),
            Self::Grains => amount.0.to_string(),
        }
    }

    /// Of grains by which a balance changes.
    fn change(self, grains: i128) -> String {
        match self {
            Self::Credits => Signed(grains).to_string(),
            Self::Grains => grains.to_string(),
        }
    }
}

/// Something that has happened to an account: a credit or a debit.
#[derive(Debug, Serialize, ToSchema)]
pub struct EntryFields {
    /// Of the block, in seconds since 1970, by its miner's word.
    time: u64,
    /// Of the block.
    height: u64,
    kind: Kind,
    /// By which the balance changes: with a minus where it is less.
    #[schema(example = "-250000408")]
    amount: String,
    /// The fee that is part of it.
    #[schema(example = "408")]
    fee: String,
    /// Of what was mined, the block's reward.
    #[schema(example = "0")]
    reward: String,
    /// Of what was mined, the fees of all the block's transactions.
    #[schema(example = "0")]
    fees: String,
    /// The address at the other end, if there is one.
    with: Option<String>,
    /// The model that was asked or published, if there is one.
    model: Option<String>,
    /// The transaction; null of what was mined.
    txid: Option<String>,
}

impl EntryFields {
    /// The fields of an entry in a block of that time.
    pub fn of(entry: &Entry, time: u64, unit: Unit, network: &Network) -> Self {
        let event = &entry.event;
        let (with, model) = parties(event);
        let (reward, fees) = match *event {
            Event::Reward { reward, fees } => (reward, fees),
            _ => (Amount::ZERO, Amount::ZERO),
        };
        Self {
            time,
            height: entry.place.height,
            kind: Kind::of(event),
            amount: unit.change(event.change()),
            fee: unit.amount(event.fee().unwrap_or_default()),
            reward: unit.amount(reward),
            fees: unit.amount(fees),
            with: with.map(|address| address.to_text(&network.parameters.address_prefix)),
            model: model.map(|model| model.to_string()),
            txid: event.txid().map(|txid| txid.to_string()),
        }
    }
}

/// Who else has part in what has happened, and which model.
fn parties(event: &Event) -> (Option<Address>, Option<ModelId>) {
    match *event {
        Event::Received { from, .. } => (Some(from), None),
        Event::Royalty { from, model, .. } => (Some(from), Some(model)),
        Event::Sent { to, .. } => (Some(to), None),
        Event::Task { model, .. } | Event::Publish { model, .. } => (None, Some(model)),
        Event::Reward { .. } | Event::Upload { .. } | Event::Part { .. } => (None, None),
    }
}

/// What the chain says of a model.
#[derive(Debug, Serialize, ToSchema)]
pub struct FactsFields {
    /// Bytes of its file.
    size: u32,
    channels: u16,
    height: u16,
    width: u16,
    /// How many there are.
    classes: u32,
    /// Integer operations for one picture.
    cost: u64,
}

impl FactsFields {
    /// The fields of a model's facts.
    pub fn of(facts: &ModelFacts) -> Self {
        let ModelFacts { size, channels, height, width, classes, cost } = *facts;
        Self { size, channels, height, width, classes, cost }
    }
}

/// A model of a network.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelFields {
    /// The hash of its file, in hexadecimal.
    id: String,
    /// Its author's name for it: not unique, and empty where the node has not got the file yet.
    #[schema(example = "cifar10-cnn")]
    name: String,
    /// Who gets its royalties; null where the network has had it from its beginning.
    author: Option<String>,
    /// In grains, for each task.
    #[schema(value_type = String, example = "0")]
    royalty: Whole,
    /// The first block that may hold its tasks.
    first: u64,
    /// Transactions of the chain that use it.
    #[schema(value_type = String, example = "7")]
    uses: Whole,
    #[serde(flatten)]
    facts: FactsFields,
}

impl ModelFields {
    /// The fields of a model.
    pub fn of(model: &NetworkModel, network: &Network) -> Self {
        let record = &model.record;
        Self {
            id: model.id.to_string(),
            name: model.name.clone(),
            author: author(&record.author, network),
            royalty: Whole(record.royalty.0),
            first: record.first,
            uses: Whole(model.uses),
            facts: FactsFields::of(&record.facts),
        }
    }
}

/// Who is paid for a model's tasks, if anybody is.
pub fn author(author: &Address, network: &Network) -> Option<String> {
    (author.0 != [0; 20]).then(|| author.to_text(&network.parameters.address_prefix))
}

/// An upload that is under way.
#[derive(Debug, Serialize, ToSchema)]
pub struct UploadFields {
    /// Names the sender and the model, and tells nobody which it is.
    file: String,
    /// Of the hashes of all parts so far.
    parts: String,
    /// Bytes of the model's file.
    size: u32,
    /// The number of the next part.
    next: u16,
    /// The block that began it.
    since: u64,
    /// The block of the last part.
    last: u64,
}

impl UploadFields {
    /// The fields of an upload.
    pub fn of(upload: &UploadRecord) -> Self {
        let UploadRecord { file, parts, size, next, since, last } = *upload;
        Self { file: file.to_string(), parts: parts.to_string(), size, next, since, last }
    }
}

/// What it costs to be mined soon, in grains.
#[derive(Debug, Serialize, ToSchema)]
pub struct FeeFields {
    blocks: u32,
    /// For a weight of 1,000,000, for which half of so many blocks is not worth more.
    #[schema(value_type = String, example = "1000000")]
    grains_per_million_weight: Whole,
    /// The least that the node takes.
    #[schema(value_type = String, example = "1000000")]
    minimum_grains_per_million_weight: Whole,
    /// For a transfer.
    #[schema(value_type = String, example = "408")]
    transfer: Whole,
    /// For a task of each model that the network has had from its beginning.
    tasks: Vec<TaskFee>,
}

/// What a task of a model costs, in grains.
#[derive(Debug, Serialize, ToSchema)]
struct TaskFee {
    model: String,
    #[schema(value_type = String, example = "3532")]
    fee: Whole,
}

impl FeeFields {
    /// The fields of a suggestion for so many blocks.
    pub fn of(suggestion: &FeeSuggestion, blocks: u32, network: &Network) -> Self {
        let fee = |weight| Whole(suggestion.fee(weight).0);
        let task = |model: &GenesisModel| TaskFee { model: model.id.to_string(), fee: fee(task_weight(&model.facts)) };
        Self {
            blocks,
            grains_per_million_weight: Whole(suggestion.rate),
            minimum_grains_per_million_weight: Whole(suggestion.minimum),
            transfer: fee(TRANSFER_BYTES + rules::BASE_WEIGHT),
            tasks: network.parameters.models.iter().map(task).collect(),
        }
    }
}

/// The fields of both objects.
pub fn both(mut one: Value, mut other: Value) -> Value {
    if let (Some(one), Some(other)) = (one.as_object_mut(), other.as_object_mut()) {
        one.append(other);
    }
    one
}

/// What to try where a file cannot be used.
pub const PICTURE_HINT: &str = "give a PNG, JPEG, WebP, GIF or BMP file that other programs open";

/// What became of a file before a model sees it; what a task carries of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Picture {
    /// What was done, for people.
    #[schema(example = "the file as it is")]
    pub what: String,
    done: DoneName,
    /// Whether the network gets a JPEG, or pixels in the model's shape.
    pub form: FormName,
    /// Of the JPEG or the pixels.
    pub width: usize,
    /// Of the JPEG or the pixels.
    pub height: usize,
    /// Of the JPEG or the pixels.
    pub bytes: usize,
    /// Of the JPEG or the pixels, in hexadecimal.
    pub sha256: String,
    pub file_bytes: usize,
    /// Of the file, in hexadecimal.
    pub file_sha256: String,
}

/// What was done to a file.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum DoneName {
    AsItIs,
    WithoutMetadata,
    Encoded,
    Pixels,
}

/// What a task carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FormName {
    Jpeg,
    Pixels,
}

impl Picture {
    /// What was made of a file of so many bytes, for a model with an input of these columns and rows.
    pub fn new(file_bytes: usize, attachment: &Attachment, (width, height): (usize, usize)) -> Self {
        let (form, width, height) = match attachment.form {
            attachment::Form::Jpeg(sides) => (FormName::Jpeg, sides.columns.into(), sides.rows.into()),
            attachment::Form::Pixels => (FormName::Pixels, width, height),
        };
        Self {
            what: attachment.done.to_string(),
            done: match attachment.done {
                Done::AsItIs => DoneName::AsItIs,
                Done::WithoutMetadata { .. } => DoneName::WithoutMetadata,
                Done::Encoded { .. } => DoneName::Encoded,
                Done::Pixels { .. } => DoneName::Pixels,
            },
            form,
            width,
            height,
            bytes: attachment.bytes.len(),
            sha256: hex::encode(attachment.sent_hash),
            file_bytes,
            file_sha256: hex::encode(attachment.file_hash),
        }
    }
}
