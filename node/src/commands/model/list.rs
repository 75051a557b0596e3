//! `ocelli model list`.

use std::path::PathBuf;

use ocelli_model::zoo;
use serde_json::json;

use super::super::chain::short;
use super::super::error::CommandError;
use super::super::evidence;
use super::super::output::Printer;
use super::super::peer_option::PeerOption;
use crate::client::printable;
use crate::json::{self, ModelFields};

/// List the models that are built in, or those of a network
#[derive(Debug, clap::Args)]
pub struct Args {
    /// List the models of this network instead, as its nodes tell: local, testnet, or a network file [default: the one that
    /// the node is on]
    #[arg(long, value_name = "NAME|FILE", num_args = 0..=1)]
    network: Option<Option<String>>,

    /// Ask the node at this multiaddr; may be repeated
    #[arg(long, value_name = "MULTIADDR", conflicts_with = "data")]
    peer: Vec<String>,

    /// Ask the node that runs on this machine with this data folder
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// When stdout cannot be written, or no node answers.
pub fn run(args: &Args, output: &mut Printer) -> Result<(), CommandError> {
    if args.network.is_none() && args.peer.is_empty() && args.data.is_none() {
        return list_built_in(output);
    }
    let peer = PeerOption::of(args.peer.clone(), args.data.clone(), args.network.clone().flatten());
    let mut client = peer.connect()?;
    let models = client.models()?;
    evidence::warn_of_left(&client);
    if output.is_json() {
        let models: Vec<_> = models
            .iter()
            .map(|model| json::both(json!(ModelFields::of(model, client.network())), json!({ "checked": false })))
            .collect();
        return output.json(&models);
    }
    for model in &models {
        let (record, facts) = (&model.record, &model.record.facts);
        let name = if model.name.is_empty() { "no name known".into() } else { printable(&model.name) };
        let by = json::author(&record.author, client.network()).map_or("from the beginning".into(), |author| {
            format!("by {author}, royalty {} credits, from block {}", record.royalty, record.first)
        });
        output.line(format_args!(
            "{}  {name}  input {}x{}x{}, {} classes, cost {}, {} bytes, {by}, {} uses",
            short(&model.id),
            facts.channels,
            facts.height,
            facts.width,
            facts.classes,
            facts.cost,
            facts.size,
            model.uses
        ))?;
    }
    Ok(())
}

fn list_built_in(output: &mut Printer) -> Result<(), CommandError> {
    let models: Vec<_> =
        zoo::names().into_iter().filter_map(|name| zoo::get(name).map(|model| (name, model))).collect();
    if output.is_json() {
        let models: Vec<_> = models
            .iter()
            .map(|(name, model)| {
                json!({
                    "name": name,
                    "id": model.id().to_string(),
                    "input": model.input(),
                    "classes": model.classes(),
                    "parameters": model.parameter_count(),
                    "cost": model.cost(),
                    "bytes": model.bytes().len(),
                })
            })
            .collect();
        return output.json(&models);
    }
    for (name, model) in &models {
        output.line(format_args!(
            "{name}  input {}, {} classes, {} parameters, {} bytes, id {}",
            model.input(),
            model.logits(),
            model.parameter_count(),
            model.bytes().len(),
            model.id()
        ))?;
    }
    Ok(())
}
