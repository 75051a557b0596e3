//! `ocelli network`.

use ocelli_consensus::Header;
use ocelli_consensus::codec::encode;
use ocelli_consensus::network::{ModelParameters, Network};
use serde::Serialize;
use serde_json::{Value, json};

use super::error::CommandError;
use super::network_option;
use super::output::{Output, Whole};

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
pub fn run(command: &Command, output: &mut Output) -> Result<(), CommandError> {
    let Command::Show { network } = command;
    let network = network_option::resolve(network)?;
    if output.is_json() { output.json(&to_json(&network)) } else { print(&network, output) }
}

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
    let upgrades: Vec<_> = parameters
        .upgrades
        .iter()
        .map(|upgrade| json!({ "height": Whole(upgrade.height), "version": upgrade.version, "models": upgrade.models }))
        .collect();
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
            "accounts": accounts,
            "models": parameters.models,
            "upgrades": upgrades,
        },
        "header": HeaderFields::of(&network.genesis),
        "raw": {
            "parameters": hex::encode(encode(parameters)),
            "header": hex::encode(network.genesis.to_bytes()),
        },
        "bootstrap": network.bootstrap,
    })
}

fn print(network: &Network, output: &mut Output) -> Result<(), CommandError> {
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
        ("retention", format!("{} blocks", parameters.retention)),
        ("genesis time", genesis.time.to_string()),
        ("genesis state", genesis.state.to_string()),
        ("parameters", format!("{} (their hash, the genesis header's parent)", genesis.parent)),
        ("bootstrap", if network.bootstrap.is_empty() { "none known".into() } else { network.bootstrap.join(" ") }),
    ])?;
    for account in &parameters.accounts {
        let address = account.address.to_text(&parameters.address_prefix);
        output.line(format_args!("account  {address}  {} {unit}", account.balance))?;
    }
    let later =
        parameters.upgrades.iter().flat_map(|upgrade| upgrade.models.iter().map(move |model| (upgrade.height, model)));
    for (height, model) in parameters.models.iter().map(|model| (0, model)).chain(later) {
        output.line(model_line(height, model))?;
    }
    Ok(())
}

fn model_line(height: u64, model: &ModelParameters) -> String {
    format!(
        "model    {}  {} pixels, {} logits, cost {}, from block {height}",
        model.id, model.pixels, model.logits, model.cost
    )
}
