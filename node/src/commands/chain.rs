//! `ocelli chain`.

mod stored;

use ocelli_consensus::block::Answer;
use ocelli_consensus::network::Network;
use ocelli_consensus::rules;
use ocelli_consensus::transaction::Form;
use ocelli_consensus::{Action, AttachmentHash, ModelId, Transaction, TxId};
use ocelli_model::zoo;
use ocelli_protocol::message::{Confirmation, Control, FeeSuggestion, FoundBlock};
use serde_json::{Value, json};

use super::error::CommandError;
use super::evidence;
use super::output::Printer;
use super::peer_option::{OwnNode, PeerOption};
use super::status::storage;
use crate::block_name::BlockName;
use crate::client::chains::Evidence;
use crate::client::confirmation::Found;
use crate::fee::task_weight;
use crate::inference::built_in;
use crate::json::status::{StorageFields, work};
use crate::json::{self, BlockFields, FeeFields, FoundTransaction, TRANSFER_BYTES};

/// Look at a node's chain
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Status(StatusArgs),
    Block(BlockArgs),
    Tx(TxArgs),
    Verify(stored::VerifyArgs),
    Export(stored::ExportArgs),
    Import(stored::ImportArgs),
    Reconsider(stored::ReconsiderArgs),
    Fee(FeeArgs),
    Forget(ForgetArgs),
}

/// Refuse to keep and serve one attachment, a picture or a part of a model, on the node that runs here
///
/// The answer and the transaction stay in the chain, and nothing else changes for the node: it goes on as one that has pruned
/// the attachment. This cannot be taken back; peers that keep it go on doing so.
#[derive(Debug, clap::Args)]
pub struct ForgetArgs {
    /// The attachment's hash, as `ocelli chain tx` shows it
    #[arg(value_name = "HASH")]
    hash: AttachmentHash,

    #[command(flatten)]
    node: OwnNode,
}

/// Suggest a fee by what waits in the node's mempool
///
/// A transaction that pays it comes before half of what fits into that many blocks, the other half being left to what is
/// still to come. No promise: others may pay more.
#[derive(Debug, clap::Args)]
pub struct FeeArgs {
    /// Within how many blocks the transaction should be confirmed
    #[arg(long, value_name = "NUMBER", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1000))]
    blocks: u32,

    #[command(flatten)]
    peer: PeerOption,
}

/// Show where the chain stands
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    #[command(flatten)]
    peer: PeerOption,
}

/// Show a block: its header, transactions and answers
#[derive(Debug, clap::Args)]
pub struct BlockArgs {
    /// The block's height on the best chain, or its hash
    #[arg(value_name = "HEIGHT|HASH")]
    block: BlockName,

    #[command(flatten)]
    peer: PeerOption,
}

/// Show a transaction: what it asks for, the answer, and how deep it is confirmed
#[derive(Debug, clap::Args)]
pub struct TxArgs {
    /// The transaction's id
    #[arg(value_name = "TXID")]
    txid: TxId,

    #[command(flatten)]
    peer: PeerOption,
}

/// Runs the command.
///
/// # Errors
/// When the node cannot be asked, or has no such block or transaction.
pub fn run(command: &Command, output: &mut Printer) -> Result<(), CommandError> {
    match command {
        Command::Status(args) => status(args, output),
        Command::Block(args) => block(args, output),
        Command::Tx(args) => tx(args, output),
        Command::Verify(args) => stored::verify(args, output),
        Command::Export(args) => stored::export(args, output),
        Command::Import(args) => stored::import(args, output),
        Command::Reconsider(args) => stored::reconsider(args, output),
        Command::Fee(args) => fee(args, output),
        Command::Forget(args) => forget(args, output),
    }
}

fn forget(args: &ForgetArgs, output: &mut Printer) -> Result<(), CommandError> {
    let done = args.node.command(Control::Forget { attachment: args.hash })?;
    if output.is_json() {
        return output.json(&json!({ "attachment": args.hash, "done": done }));
    }
    output.rows(&[("attachment", args.hash.to_string()), ("done", done)])
}

fn status(args: &StatusArgs, output: &mut Printer) -> Result<(), CommandError> {
    let mut client = args.peer.connect()?;
    let (status, is_checked) = client.checked_status()?;
    evidence::warn_of_left(&client);
    if output.is_json() {
        return output.json(&json!({
            "network": client.network().parameters.name,
            "genesis": status.identity.genesis,
            "height": status.tip.height,
            "tip": status.tip.hash,
            "tip_time": status.tip.time,
            "header_height": status.sync.header_height,
            "work": work(status.tip.work),
            "state_root": status.tip.state_root,
            "storage": StorageFields::of(&status.storage),
            "checked": is_checked,
        }));
    }
    output.rows(&[
        ("network", format!("{}, genesis {}", client.network().parameters.name, status.identity.genesis)),
        ("height", format!("{}; headers up to {}", status.tip.height, status.sync.header_height)),
        ("tip", status.tip.hash.to_string()),
        ("time", status.tip.time.to_string()),
        ("work", work(status.tip.work)),
        ("state root", status.tip.state_root.to_string()),
        ("disk", storage(&status.storage)),
        (
            "checked",
            match is_checked {
                true => {
                    "tip, time, work and state root, by all headers from genesis on; the rest is the node's word".into()
                }
                false => {
                    "not at all: the chain is too long to check from genesis on, so this is the node's word".into()
                }
            },
        ),
    ])
}

fn block(args: &BlockArgs, output: &mut Printer) -> Result<(), CommandError> {
    let mut client = args.peer.connect()?;
    let found = client.find_block(args.block.0)?;
    evidence::warn_of_left(&client);
    let Some((found, evidence)) = found else {
        let status = client.node_status()?;
        let bodies_from = status.storage.bodies_from;
        let pruned = if bodies_from > 1 {
            format!(", and it has pruned bodies below block {bodies_from}")
        } else {
            String::new()
        };
        return Err(CommandError::failed(format!(
            "the node has no {}; its tip is at height {}{pruned}",
            args.block, status.tip.height
        ))
        .with_hint(
            "give a height from 0 to the tip's, or the hash of a block whose body the node keeps; or ask another node with \
             --peer",
        ));
    };
    let network = client.network();
    if output.is_json() {
        output.json(&block_json(&found, evidence.as_ref(), network))
    } else {
        print_block(&found, evidence.as_ref(), network, output)
    }
}

fn tx(args: &TxArgs, output: &mut Printer) -> Result<(), CommandError> {
    let mut client = args.peer.connect()?;
    let txid = args.txid;
    let found = client.find(txid)?;
    evidence::warn_of_left(&client);
    let nodes = client.connections().len();
    let (confirmation, evidence) = match found {
        Found::Unknown => {
            let message = format!("the node knows no transaction {txid} ({})", evidence::by_word_of(nodes));
            return Err(CommandError::failed(message).with_hint(
                "check the id and the network; a transaction that was lost before a block took it has to be sent again",
            ));
        }
        Found::Dropped(reason) => {
            let message = format!("transaction {txid} was dropped: {reason} ({})", evidence::by_word_of(nodes));
            return Err(
                CommandError::failed(message).with_hint("send it again, with a higher --fee if others pay more")
            );
        }
        Found::Pending if output.is_json() => {
            return output.json(&FoundTransaction::pending(&txid));
        }
        Found::Pending => {
            let state = format!("pending: waiting, in no block yet, {}", evidence::by_word_of(nodes));
            return output.rows(&[("transaction", txid.to_string()), ("state", state)]);
        }
        Found::Confirmed(confirmation, evidence) => (confirmation, evidence),
    };
    let network = client.network();
    if output.is_json() {
        let told = FoundTransaction::confirmed(&confirmation, evidence.confirmations, network).with_raw(&confirmation);
        output.json(&json::both(json!(told), json!({ "evidence": evidence::json(&evidence) })))
    } else {
        print_confirmation(&confirmation, &evidence, network, output)
    }
}

fn fee(args: &FeeArgs, output: &mut Printer) -> Result<(), CommandError> {
    let mut client = args.peer.connect()?;
    let suggested = client.fee(args.blocks)?;
    evidence::warn_of_left(&client);
    let suggestion = suggested.fee;
    let parameters = &client.network().parameters;
    let transfer = suggestion.fee(TRANSFER_BYTES + rules::BASE_WEIGHT);
    let tasks = parameters.models.iter().map(|model| (model.id, suggestion.fee(task_weight(&model.facts))));
    if output.is_json() {
        let told = FeeFields::of(&suggestion, args.blocks, client.network());
        return output.json(&json::both(json!(told), json!({ "nodes": suggested.nodes, "checked": false })));
    }
    let rate = |rate: u64| format!("{:.3} grains per weight", rate as f64 / FeeSuggestion::WEIGHT as f64);
    let mut rows = vec![
        ("within", format!("{} blocks", args.blocks)),
        ("rate", format!("{}; the node takes {} at least", rate(suggestion.rate), rate(suggestion.minimum))),
        ("transfer", format!("{transfer} credits")),
    ];
    let (lowest, highest) = suggested.rates;
    let source = match lowest == highest {
        true => evidence::by_word_of(suggested.nodes),
        false => format!(
            "{}, who say {} to {}; the middle is shown",
            evidence::by_word_of(suggested.nodes),
            rate(lowest),
            rate(highest)
        ),
    };
    rows.push(("source", source));
    rows.extend(tasks.map(|(model, fee)| ("task", format!("{fee} credits, model {model}"))));
    output.rows(&rows)
}

fn block_json(found: &FoundBlock, evidence: Option<&Evidence>, network: &Network) -> Value {
    let told = BlockFields::of(found, evidence.map(|evidence| evidence.confirmations), network).with_raw(found);
    json::both(json!(told), json!({ "evidence": evidence.map(evidence::json) }))
}

fn print_block(
    found: &FoundBlock,
    evidence: Option<&Evidence>,
    network: &Network,
    output: &mut Printer,
) -> Result<(), CommandError> {
    let header = &found.header;
    let standing = evidence.map_or("not on the best chain".into(), Evidence::to_string);
    output.rows(&[
        ("block", header.hash().to_string()),
        ("height", format!("{}, {standing}", header.height)),
        ("version", header.version.to_string()),
        ("parent", header.parent.to_string()),
        ("history", header.history.to_string()),
        ("state", header.state.to_string()),
        ("body", header.body.to_string()),
        ("miner", header.miner.to_text(&network.parameters.address_prefix)),
        ("time", header.time.to_string()),
        ("target", format!("{:#010x}", header.target.0)),
        ("nonce", header.nonce.to_string()),
        ("transactions", found.data.body.transactions.len().to_string()),
    ])?;
    for (transaction, answer) in &found.data.body.transactions {
        output.line(format_args!("{}  {}", transaction.txid(), describe(transaction, answer, network)))?;
    }
    Ok(())
}

fn print_confirmation(
    confirmation: &Confirmation,
    evidence: &Evidence,
    network: &Network,
    output: &mut Printer,
) -> Result<(), CommandError> {
    let transaction = &confirmation.submission.transaction;
    let mut rows = vec![
        ("transaction", transaction.txid().to_string()),
        ("what", describe(transaction, &confirmation.answer, network)),
        ("sender", transaction.sender().to_text(&network.parameters.address_prefix)),
        ("nonce", transaction.unsigned.nonce.to_string()),
        ("fee", format!("{} credits", transaction.unsigned.fee)),
    ];
    if let Some(model) = transaction.unsigned.action.model() {
        rows.push(("model", model.to_string()));
    }
    if let Some(attachment) = transaction.attachment() {
        rows.push(("attachment", format!("{}, {} bytes", attachment.hash, attachment.bytes)));
    }
    if let Some(classes) = confirmation.answer.classes() {
        let best: Vec<_> = classes.best.iter().map(|(class, logit)| format!("{class}: {logit}")).collect();
        rows.push(("best classes", best.join(", ")));
        rows.push(("digest", classes.digest.to_string()));
    }
    rows.push(("block", confirmation.header.hash().to_string()));
    rows.push(("height", format!("{}, {evidence}", confirmation.header.height)));
    output.rows(&rows)
}

/// One line on what a transaction did.
pub(super) fn describe(transaction: &Transaction, answer: &Answer, network: &Network) -> String {
    match &transaction.unsigned.action {
        Action::Transfer { to, amount } => {
            format!("{amount} credits to {}", to.to_text(&network.parameters.address_prefix))
        }
        Action::Classify { model, form, bytes, .. } => {
            let picture = match form {
                Form::Pixels => format!("{bytes} bytes of pixels"),
                Form::Jpeg { width, height } => format!("a JPEG of {width}x{height}"),
            };
            match answer.classes().and_then(|classes| classes.best.first()) {
                Some(&(class, _)) => format!("{}, for {picture}", class_name(model, class)),
                None => format!("a task without an answer, for {picture}"),
            }
        }
        Action::Upload { size, .. } => format!("begins the upload of a model of {size} bytes"),
        Action::Part { number, bytes, .. } => format!("part {number} of a model, {bytes} bytes"),
        Action::Publish { model, royalty, .. } => format!("publishes model {model} for {royalty} credits a task"),
        Action::Unknown(_) => {
            format!("an action with tag {}, which this program does not know", transaction.unsigned.action.tag())
        }
    }
}

/// What a model's author calls a class, where that is built in.
fn class_name(id: &ModelId, class: u16) -> String {
    match built_in(id).and_then(|(name, _)| zoo::get(name)) {
        Some(model) => {
            let name = model.classes().get(usize::from(class)).map_or("?", String::as_str);
            format!("{name} by {}", model.name())
        }
        None => format!("class {class} by model {}", short(id)),
    }
}

/// A model's id as people tell models apart by it.
pub(super) fn short(id: &ModelId) -> String {
    hex::encode(&id.0[..4])
}

#[cfg(test)]
mod tests {
    use ocelli_consensus::block::Classes;
    use ocelli_consensus::transaction::Unsigned;
    use ocelli_consensus::{Amount, U256, Work};
    use ocelli_protocol::message::BlockData;

    use super::*;

    #[test]
    fn what_is_raw_decodes_to_what_is_shown() {
        let network = Network::builtin("local").unwrap();
        let transaction = Transaction {
            unsigned: Unsigned {
                nonce: 0,
                fee: Amount(1),
                expires: 9,
                action: Action::Transfer { to: Default::default(), amount: Amount(2) },
            },
            public_key: [3; 32],
            signature: [4; 64],
        };
        let mut data = BlockData::default();
        let classes = Classes::of(&[1, -1]);
        data.body.transactions =
            vec![(transaction.clone(), Answer::None), (transaction.clone(), Answer::Classes(classes.clone()))];
        data.attachments = vec![None, Some([5, 6].into())];
        let found = FoundBlock { header: network.genesis.clone(), data };
        let evidence = Evidence { confirmations: 3, work: Work(U256::from(768)), checked_from: 0, nodes: 2 };
        let json = block_json(&found, Some(&evidence), &network);
        assert_eq!(json["evidence"], json!({ "work": "0x300", "checked_from": 0, "nodes": 2 }));
        assert_eq!(block_json(&found, None, &network)["confirmations"], 0);
        assert_eq!(json["confirmations"], 3);
        assert_eq!(json["header"]["height"], 0);
        assert_eq!(json["raw"]["header"], hex::encode(network.genesis.to_bytes()));
        assert_eq!(json["raw"]["transactions"][0], hex::encode(transaction.to_bytes()));
        let raw = format!("0102000000000000000000010000000100ffffffff{}", classes.digest);
        assert_eq!(json["raw"]["answers"], json!(["00", raw]));
        assert_eq!(json["raw"]["attachments"], json!([null, "0506"]));
        let best = json!([{ "class": 0, "logit": 1 }, { "class": 1, "logit": -1 }]);
        assert_eq!(json["answers"], json!([null, { "best": best, "digest": classes.digest }]));
        assert_eq!(json["transactions"][0]["txid"], transaction.txid().to_string());
    }
}
