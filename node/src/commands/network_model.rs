//! `--model NAME|ID|FILE` of commands that ask a network: built in, published, or a file of one that the network has.

use std::fs;
use std::path::{Path, PathBuf};

use ocelli_consensus::network::Network;
use ocelli_consensus::{Amount, ModelId};
use ocelli_model::{Model, zoo};
use ocelli_program::input_file::read_bounded;
use ocelli_program::model_option::load;
use ocelli_program::output_file::{Readers, write};
use ocelli_protocol::message::NetworkModel;

use super::chain::short;
use super::error::{CommandError, Explain as _};
use super::folders;
use crate::client::{Client, printable};
use crate::inference::{is_id, is_meant, model_id};

/// A model that can be asked on a network.
#[derive(Debug, Clone)]
pub struct Offered {
    pub model: Model,
    /// What its author gets for each task.
    pub royalty: Amount,
}

/// What names a model before anybody is asked.
#[derive(Debug)]
pub enum Wanted {
    /// It is here.
    Here(Model),
    /// One that the network's nodes give, by its id or the beginning of that in hexadecimal, or by its author's name for it.
    Published(String),
}

impl Wanted {
    /// Reads `--model`; without it, the network's first model.
    ///
    /// # Errors
    /// For a file that cannot be read or is no model, and a network without a model from its beginning.
    pub fn parse(name: Option<&str>, network: &Network) -> Result<Self, CommandError> {
        let Some(name) = name else { return first(network) };
        if is_id(name) {
            let here = built_in().find(|model| model.id().to_string().starts_with(name));
            return Ok(here.map_or(Self::Published(name.into()), Self::Here));
        }
        let is_file = zoo::get(name).is_none() && (Path::new(name).exists() || name.contains(['/', '\\']));
        if zoo::get(name).is_some() || is_file { Ok(Self::Here(load(name)?)) } else { Ok(Self::Published(name.into())) }
    }

    /// Finds out what the network knows of the model, and fetches its file if it is not here.
    ///
    /// # Errors
    /// For a model that the network does not have, or not yet, a name that several have, and a file that nobody gives.
    pub fn find(self, network: &Network, client: &mut Client, height: u64) -> Result<Offered, CommandError> {
        let name = &network.parameters.name;
        let (model, published) = match self {
            Self::Here(model) => {
                let id = model_id(&model);
                if network.parameters.genesis_facts(&id).is_some() {
                    return Ok(Offered { model, royalty: Amount::ZERO });
                }
                let published = client.model(id)?;
                let published = published.ok_or_else(|| none(name, &format!("{} ({id})", model.name())))?;
                (model, published)
            }
            Self::Published(text) => {
                let published = published(client, &text)?.ok_or_else(|| none(name, &text))?;
                (fetch(client, &published)?, published)
            }
        };
        let first = published.record.first;
        if first > height.saturating_add(1) {
            return Err(CommandError::failed(format!(
                "model {} may be asked from block {first} on, and the next is block {}",
                short(&published.id),
                height.saturating_add(1)
            ))
            .with_hint("wait until then: nodes need the time to fetch its file"));
        }
        Ok(Offered { model, royalty: published.record.royalty })
    }
}

/// A model as people tell models apart: names are their authors' and not unique, so the first digits of the id stand beside it.
pub fn named(model: &Model) -> String {
    let name = if model.name().is_empty() { "no name" } else { model.name() };
    format!("{name} ({})", short(&model_id(model)))
}

fn built_in() -> impl Iterator<Item = Model> {
    zoo::names().into_iter().filter_map(zoo::get)
}

fn first(network: &Network) -> Result<Wanted, CommandError> {
    let parameters = &network.parameters;
    let first = parameters.models.first().ok_or_else(|| {
        CommandError::failed(format!("network {} has no model from its beginning", parameters.name))
            .with_hint("name one of its models with --model: `ocelli model list --network` shows them")
    })?;
    let here = built_in().find(|model| model.id().0 == first.id.0);
    Ok(here.map_or_else(|| Wanted::Published(first.id.to_string()), Wanted::Here))
}

fn none(network: &str, model: &str) -> CommandError {
    CommandError::failed(format!("network {network} has no model {model}")).with_hint(
        "`ocelli model list --network` lists the models that it has, `ocelli model list` those that are built in",
    )
}

/// The published model of that id, beginning of an id, or name.
///
/// # Errors
/// If several have it.
pub fn published(client: &mut Client, text: &str) -> Result<Option<NetworkModel>, CommandError> {
    if let Some(id) = text.parse::<ModelId>().ok().filter(|_| text.len() == 64) {
        return Ok(client.model(id)?);
    }
    let is_meant = |model: &NetworkModel| is_meant(text, &model.id, &model.name);
    let mut found: Vec<_> = client.models()?.into_iter().filter(is_meant).collect();
    if found.len() > 1 {
        let named = |model: &NetworkModel| format!("{}: {}", model.id, printable(&model.name));
        return Err(CommandError::failed(format!("{} models are called `{text}`", found.len()))
            .with_causes(found.iter().map(named))
            .with_hint("names are their authors' and not unique: give the first digits of the id that you mean"));
    }
    Ok(found.pop())
}

/// The model of a published file: kept from before, or fetched now and kept.
fn fetch(client: &mut Client, published: &NetworkModel) -> Result<Model, CommandError> {
    let id = published.id;
    let path = kept(&id);
    let bound = published.record.facts.size as usize;
    let here = path.as_ref().and_then(|path| read_bounded(path, bound).ok());
    if let Some(model) = here.and_then(|file| Model::from_bytes(&file).ok()).filter(|model| model.id().0 == id.0) {
        return Ok(model);
    }
    let file = client.model_file(id, |_| {})?.ok_or_else(|| nobody_has(&id))?;
    let model = Model::from_bytes(&file).context(|| format!("model {id} is not one that this program runs"))?;
    if let Some(path) = path {
        // It is fetched again if it cannot be kept.
        let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
        drop(folder.and_then(|()| write(&path, &file, Readers::Umask)));
    }
    Ok(model)
}

/// Says that no node gives a model's file.
pub fn nobody_has(id: &ModelId) -> CommandError {
    CommandError::failed(format!("no node that was asked has the file of model {id}"))
        .with_hint("try again, or ask other nodes with --peer: every node fetches it before it may be asked")
}

/// Where a fetched model is kept.
fn kept(id: &ModelId) -> Option<PathBuf> {
    Some(folders::base().ok()?.join("models").join(format!("{id}.safetensors")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_a_model_is_told_apart() {
        let network = Network::builtin("local").unwrap();
        let parse = |name: Option<&str>| Wanted::parse(name, &network);
        let id = zoo::get("cifar10-cnn").unwrap().id().to_string();
        for here in [None, Some("cifar10-cnn"), Some(id.as_str()), Some(&id[..8])] {
            assert!(matches!(parse(here), Ok(Wanted::Here(model)) if model.name() == "cifar10-cnn"), "{here:?}");
        }
        for published in ["0123456789abcdef", "mobilenet", "0123abc"] {
            assert!(matches!(parse(Some(published)), Ok(Wanted::Published(text)) if text == published), "{published}");
        }
        let text = parse(Some("./none.safetensors")).unwrap_err().to_string();
        assert!(text.contains("cannot read the model file ./none.safetensors"), "{text}");
    }
}
