//! What is told in JSON, by the command line and over HTTP alike.

pub mod status;

use ocelli_consensus::block::{Answer, Classes};
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
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::fee::task_weight;
use crate::ledger::{Kind, Signed};

/// Bytes of a transfer.
pub const TRANSFER_BYTES: u64 = 152;

/// A header's fields, in order; hashes and the address in hex. Height and time stay far below 2^53.
#[derive(Debug, Serialize)]
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

/// A transaction's fields; addresses as this network writes them.
pub fn transaction(transaction: &Transaction, network: &Network) -> Value {
    let prefix = &network.parameters.address_prefix;
    let action = match &transaction.unsigned.action {
        Action::Transfer { to, amount } => {
            json!({ "kind": "transfer", "to": to.to_text(prefix), "amount": Whole(amount.0) })
        }
        Action::Classify { model, picture, bytes, royalty, form } => {
            let form = match form {
                Form::Pixels => json!({ "kind": "pixels" }),
                Form::Jpeg { width, height } => json!({ "kind": "jpeg", "width": width, "height": height }),
            };
            json!({
                "kind": "classify",
                "model": model,
                "picture": picture,
                "bytes": bytes,
                "royalty": Whole(royalty.0),
                "form": form,
            })
        }
        Action::Upload { file, size } => json!({ "kind": "upload", "file": file, "size": size }),
        Action::Part { number, bytes, data } => {
            json!({ "kind": "part", "number": number, "bytes": bytes, "data": data })
        }
        Action::Publish { model, facts, royalty } => both(
            json!({ "kind": "publish", "model": model, "royalty": Whole(royalty.0) }),
            json!(FactsFields::of(facts)),
        ),
        Action::Unknown(_) => json!({ "kind": "unknown", "tag": transaction.unsigned.action.tag() }),
    };
    json!({
        "txid": transaction.txid(),
        "wtxid": transaction.wtxid(),
        "sender": transaction.sender().to_text(prefix),
        "nonce": Whole(transaction.unsigned.nonce),
        "fee": Whole(transaction.unsigned.fee.0),
        "expires": Whole(transaction.unsigned.expires),
        "action": action,
        "public_key": hex::encode(transaction.public_key),
        "signature": hex::encode(transaction.signature),
    })
}

/// What a model says, as a block holds it; null where nothing is asked.
pub fn answer(answer: &Answer) -> Value {
    answer.classes().map_or(Value::Null, |classes| json!(AnswerFields::of(classes)))
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
pub fn block(found: &FoundBlock, confirmations: Option<u64>, network: &Network) -> Value {
    let transactions = &found.data.body.transactions;
    json!({
        "hash": found.header.hash(),
        "height": found.header.height,
        "main_chain": confirmations.is_some(),
        "confirmations": confirmations.unwrap_or(0),
        "header": HeaderFields::of(&found.header),
        "transactions": transactions.iter().map(|(tx, _)| transaction(tx, network)).collect::<Vec<_>>(),
        "answers": transactions.iter().map(|(_, answer)| self::answer(answer)).collect::<Vec<_>>(),
    })
}

/// The bytes of a block, in hexadecimal.
pub fn raw_block(found: &FoundBlock) -> Value {
    let transactions = &found.data.body.transactions;
    let attachments: Vec<_> = found.data.attachments.iter().map(|bytes| bytes.as_ref().map(hex::encode)).collect();
    json!({
        "raw": {
            "header": hex::encode(found.header.to_bytes()),
            "transactions": transactions.iter().map(|(tx, _)| hex::encode(tx.to_bytes())).collect::<Vec<_>>(),
            "answers": transactions.iter().map(|(_, answer)| hex::encode(encode(answer))).collect::<Vec<_>>(),
            "attachments": attachments,
        },
    })
}

/// A transaction that a block holds.
pub fn confirmed(confirmation: &Confirmation, confirmations: u64, network: &Network) -> Value {
    let tx = &confirmation.submission.transaction;
    json!({
        "txid": tx.txid(),
        "state": "confirmed",
        "transaction": transaction(tx, network),
        "answer": answer(&confirmation.answer),
        "block": confirmation.header.hash(),
        "height": confirmation.header.height,
        "index": confirmation.proof.index,
        "confirmations": confirmations,
    })
}

/// The bytes of a transaction that a block holds, in hexadecimal.
pub fn raw_confirmed(confirmation: &Confirmation) -> Value {
    let tx = &confirmation.submission.transaction;
    json!({
        "raw": {
            "header": hex::encode(confirmation.header.to_bytes()),
            "transaction": hex::encode(tx.to_bytes()),
            "answer": hex::encode(encode(&confirmation.answer)),
            "attachment": confirmation.submission.attachment.as_ref().map(hex::encode),
        },
    })
}

/// A transaction that waits for a block.
pub fn pending(txid: &TxId) -> Value {
    json!({
        "txid": txid,
        "state": "pending",
        "transaction": null,
        "answer": null,
        "block": null,
        "height": null,
        "confirmations": 0,
    })
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
