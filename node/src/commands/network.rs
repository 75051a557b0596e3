//! `ocelli network`.

use ocelli_consensus::codec::encode;
use ocelli_consensus::network::Network;
use ocelli_consensus::object::ModelFacts;
use ocelli_consensus::parameters::GenesisModel;
use serde_json::{Value, json};

use super::error::CommandError;
use super::network_option;
use super::output::{Printer, Whole};
use crate::json::{self, FactsFields, HeaderFields};

/// Look at a network's rules
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show a network's parameters and the genesis header that binds them
    Show {
        /// The network: local, testnet, or a network file
        #[arg(value_name = "NAME|FILE")]
        network: String,
    },
}

/// Runs the command.
///
/// # Errors
/// For a network that cannot be found.
pub fn run(command: &Command, output: &mut Printer) -> Result<(), CommandError> {
    let Command::Show { network } = command;
    let network = network_option::resolve(network)?;
    if output.is_json() { output.json(&to_json(&network)) } else { print(&network, output) }
}

fn to_json(network: &Network) -> Value {
    let parameters = &network.parameters;
    let accounts: Vec<_> = parameters
        .accounts
        .iter()
        .map(|account| {
            json!({
                "address": account.address.to_text(&parameters.address_prefix),
                "bytes": account.address.to_string(),
                "balance": Whole(account.balance.0),
            })
        })
        .collect();
    let models = parameters.models.iter();
    let models: Vec<_> =
        models.map(|model| json::both(json!({ "id": model.id }), json!(FactsFields::of(&model.facts)))).collect();
    let rules = network.schedule.entries().iter();
    let rules: Vec<_> = rules.map(|entry| json!({ "height": Whole(entry.height), "version": entry.version })).collect();
    json!({
        "name": parameters.name,
        "hash": network.genesis_hash(),
        "parameters": {
            "name": parameters.name,
            "address_prefix": parameters.address_prefix,
            "genesis_time": parameters.genesis_time,
            "spacing": parameters.spacing,
            "half_life": parameters.half_life,
            "easiest_target": parameters.easiest_target.0,
            "reward": Whole(parameters.reward.0),
            "halving": Whole(parameters.halving),
            "weight_limit": parameters.weight_limit,
            "minimum_balance": Whole(parameters.minimum_balance.0),
            "retention": Whole(parameters.retention),
            "attachment_retention": Whole(parameters.attachment_retention),
            "upload_window": Whole(parameters.upload_window),
            "model_delay": Whole(parameters.model_delay),
            "model_price": Whole(parameters.model_price.0),
            "accounts": accounts,
            "models": models,
        },
        "rules": rules,
        "header": HeaderFields::of(&network.genesis),
        "raw": {
            "parameters": hex::encode(encode(parameters)),
            "header": hex::encode(network.genesis.to_bytes()),
        },
        "bootstrap": network.bootstrap,
    })
}

fn print(network: &Network, output: &mut Printer) -> Result<(), CommandError> {
    let parameters = &network.parameters;
    let genesis = &network.genesis;
    let unit = "credits";
    output.rows(&[
        ("network", parameters.name.clone()),
        ("genesis", network.genesis_hash().to_string()),
        ("addresses", format!("{}1…", parameters.address_prefix)),
        ("spacing", format!("{} s between blocks; half-life {} s", parameters.spacing, parameters.half_life)),
        ("easiest target", format!("{:#010x}", parameters.easiest_target.0)),
        ("reward", format!("{} {unit} a block, halved every {} blocks", parameters.reward, parameters.halving)),
        ("weight limit", parameters.weight_limit.to_string()),
        ("minimum balance", format!("{} {unit}", parameters.minimum_balance)),
        (
            "retention",
            format!("{} blocks, attachments {} blocks", parameters.retention, parameters.attachment_retention),
        ),
        (
            "publishing",
            format!(
                "{} {unit} a byte; an upload takes {} blocks at most, and its model runs {} blocks later",
                parameters.model_price, parameters.upload_window, parameters.model_delay
            ),
        ),
        ("rules", rules(network)),
        ("genesis time", genesis.time.to_string()),
        ("genesis state", genesis.state.to_string()),
        ("parameters", format!("{} (their hash, the genesis header's parent)", genesis.parent)),
        ("bootstrap", if network.bootstrap.is_empty() { "none known".into() } else { network.bootstrap.join(" ") }),
    ])?;
    for account in &parameters.accounts {
        let address = account.address.to_text(&parameters.address_prefix);
        output.line(format_args!("account  {address}  {} {unit}", account.balance))?;
    }
    for model in &parameters.models {
        output.line(model_line(model))?;
    }
    Ok(())
}

/// The versions that the node's schedule has.
fn rules(network: &Network) -> String {
    let later = network.schedule.entries().iter();
    let later = later.map(|entry| format!(", version {} from block {} on", entry.version, entry.height));
    format!("version {}{}", network.schedule.version_at(0), later.collect::<String>())
}

fn model_line(model: &GenesisModel) -> String {
    let ModelFacts { size, channels, height, width, classes, cost } = model.facts;
    format!(
        "model    {}  {channels}x{height}x{width}, {classes} classes, cost {cost}, {size} bytes, from the beginning",
        model.id
    )
}
