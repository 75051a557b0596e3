//! `ocelli bench full-blocks`.

use std::collections::BTreeMap;
use std::time::Duration;

use ocelli_consensus::hash::UploadHash;
use ocelli_consensus::network::DEV_WALLET_SEED;
use ocelli_consensus::object::{MAX_ATTACHMENT_BYTES, MAX_FILE_BYTES};
use ocelli_consensus::parameters::GenesisModel;
use ocelli_consensus::rules::{MAX_BLOCK_MODEL_BYTES, MODEL_BYTES_AT_LEAST};
use ocelli_consensus::transaction::Form;
use ocelli_consensus::{Action, Address, Amount, AttachmentHash, ModelId, Network};
use ocelli_model::file::ModelFile;
use ocelli_model::sample::worst;
use ocelli_model::{Backend, Model, zoo};
use ocelli_node::fee::weight;
use ocelli_node::inference::facts_of;
use ocelli_node::wallet::Wallet;
use ocelli_program::error::CommandError;
use ocelli_program::output::Printer;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::block_maker::{Block, BlockMaker, Jpegs, classify, new_chain};
use super::runs::{Local, Machine, Runs};
use super::validate::validate_block;
use super::{percentile, rounded};

/// Blocks between the beginning of an upload and its first part.
const PAUSE_BLOCKS: usize = 8;
/// A model that is built in.
const PUBLISHED: &str = "person-96";
/// Of the largest models of strangers, those whose files have nearly 64 MiB.
const PUBLISHED_LARGE: [&str; 2] = ["depthwise", "linear"];
/// Of the largest models of strangers, those whose loading and planning are of different kinds.
const LARGE: [&str; 4] = ["deep", "dense", "heavy", "linear"];

/// Measure how long a full block of each kind of transaction takes to validate and connect, nothing of it known before
///
/// What a transaction weighs is to be what it takes: no kind is to take much longer than its weight says. Each block has as many
/// transactions of one kind as the weight limit of the network `local` lets, the dearest inputs included. But a publication stands
/// alone, and tasks of strangers' models, each of another that has to be loaded, are as many as the limit of the models' bytes lets.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    runs: Runs,
}

#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    machine: Machine,
    kinds: Vec<Row>,
}

/// A full block of one kind.
#[derive(Debug, Serialize)]
struct Row {
    kind: String,
    transactions: usize,
    weight: u64,
    seconds: f64,
    /// Nanoseconds for each unit of weight, over those of the tasks with pixels.
    ratio_to_pixels: f64,
}

/// The transactions of a block, with their attachments.
type Actions = Vec<(Action, Option<Vec<u8>>)>;

/// The transactions of a block, and of those before it.
struct Kind {
    name: String,
    before: Vec<Actions>,
    actions: Actions,
    /// Those that its tasks name.
    models: Vec<Model>,
    /// Whether these are others than the network's own, with files in the store.
    is_published: bool,
}

impl Kind {
    fn plain(name: impl Into<String>, actions: Actions, model: Option<&Model>) -> Self {
        let models = model.into_iter().cloned().collect();
        Self { name: name.into(), before: Vec::new(), actions, models, is_published: false }
    }

    fn weight(&self) -> u64 {
        let models: BTreeMap<_, _> = self.models.iter().map(|model| (ModelId(model.id().0), facts_of(model))).collect();
        let of = |action: &Action| weight(action, action.model().and_then(|model| models.get(&model)));
        self.actions.iter().map(|(action, _)| of(action)).sum()
    }

    /// The network on which its block is valid.
    fn network(&self, network: &Network) -> Network {
        let mut parameters = network.parameters.clone();
        if self.is_published {
            let offered = |model: &Model| GenesisModel { id: ModelId(model.id().0), facts: facts_of(model) };
            parameters.models.extend(self.models.iter().map(offered));
        }
        Network::new(parameters, Vec::new())
    }

    fn published(&self) -> &[Model] {
        if self.is_published { &self.models } else { &[] }
    }
}

/// Runs the command.
///
/// # Errors
/// For a device or a temporary folder that cannot be used, and a block that is refused.
pub fn run(args: &Args, output: &mut Printer) -> Result<(), CommandError> {
    let Local { network, models, mut backend } = args.runs.local()?;
    let mut rows: Vec<Row> = Vec::new();
    each_kind(&network, &models, false, |kind| {
        let (weight, network) = (kind.weight(), kind.network(&network));
        let (before, block) = make(&network, &models[0], &kind, &mut *backend)?;
        let mut times = Vec::new();
        for _ in 0..args.runs.runs {
            let device = args.runs.open(&models)?;
            times.push(validate_block(&network, &models, kind.published(), &before, &block, device)?.whole());
        }
        times.sort();
        let time = *percentile(&times, 50).expect("there is at least one run");
        rows.push(Row {
            kind: kind.name,
            transactions: kind.actions.len(),
            weight,
            seconds: time.as_micros() as f64 / 1e6,
            ratio_to_pixels: per_weight(time, weight),
        });
        Ok(())
    })?;
    let pixels = rows.first().map_or(1.0, |row| row.ratio_to_pixels);
    for row in &mut rows {
        row.ratio_to_pixels = rounded(row.ratio_to_pixels / pixels);
    }
    let report = Report { machine: args.runs.machine(&*backend), kinds: rows };
    if output.is_json() {
        return output.json(&report);
    }
    output.line(format_args!("{}, {} threads", report.machine.device, report.machine.threads))?;
    for Row { kind, transactions, weight, seconds, ratio_to_pixels } in &report.kinds {
        output.line(format_args!(
            "{kind:<40} {transactions:>6} transactions {weight:>9} weight {seconds:>8.3} s  {ratio_to_pixels:>6.2} times pixels"
        ))?;
    }
    Ok(())
}

fn per_weight(time: Duration, weight: u64) -> f64 {
    time.as_secs_f64() * 1e9 / weight.max(1) as f64
}

/// Hands over all kinds, tasks with pixels first: one after the other, since strangers' models take hundreds of megabytes. In brief there
/// are two of each, and none of the largest.
fn each_kind(
    network: &Network,
    models: &[Model],
    is_brief: bool,
    mut take: impl FnMut(Kind) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    let limit = network.parameters.weight_limit;
    let count =
        |action: &Action, model: Option<&Model>| (limit / weight(action, model.map(facts_of).as_ref())) as usize;
    let mut random = ChaCha8Rng::seed_from_u64(1);
    for model in models {
        let mut task = || {
            let mut pixels = vec![0; model.pixels()];
            random.fill_bytes(&mut pixels);
            (classify(model, &pixels, Form::Pixels), Some(pixels))
        };
        let count = count(&task().0, Some(model));
        let actions = (0..count).map(|_| task()).collect();
        take(Kind::plain(format!("tasks with pixels, {}", model.name()), actions, Some(model)))?;
    }
    for (name, side, is_noise) in [
        ("tasks with a JPEG, 1024x1024, flat", 1_024, false),
        ("tasks with a JPEG, 1024x1024, noise", 1_024, true),
        ("tasks with a JPEG, 224x224, noise", 224, true),
    ] {
        let model = models.first().ok_or_else(|| CommandError::failed("the network `local` has no model"))?;
        let jpegs = Jpegs::new(side, is_noise, MAX_ATTACHMENT_BYTES, &mut random)?;
        let mut task = || {
            let file = jpegs.make(&mut random)?;
            Ok::<_, CommandError>((classify(model, &file, jpegs.form()), Some(file)))
        };
        let count = count(&task()?.0, Some(model));
        let mut actions: Vec<_> = (0..count).map(|_| task()).collect::<Result<_, _>>()?;
        // Files differ a little in their bytes.
        let facts = facts_of(model);
        while actions.iter().map(|(action, _)| weight(action, Some(&facts))).sum::<u64>() > limit {
            actions.pop();
        }
        take(Kind::plain(name, actions, Some(model)))?;
    }
    let minimum = network.parameters.minimum_balance;
    let transfer = |number: usize| {
        let mut to = [7; 20];
        to[..8].copy_from_slice(&(number as u64).to_le_bytes());
        (Action::Transfer { to: Address(to), amount: minimum }, None)
    };
    let transfers = (0..count(&transfer(0).0, None)).map(transfer).collect();
    take(Kind::plain("transfers to new accounts", transfers, None))?;
    let upload = |number: usize| {
        let mut file = [7; 32];
        file[..8].copy_from_slice(&(number as u64).to_le_bytes());
        (Action::Upload { file: UploadHash(file), size: MAX_FILE_BYTES }, None)
    };
    let uploads = (0..count(&upload(0).0, None)).map(upload).collect();
    take(Kind::plain("uploads, each in place of the last", uploads, None))?;
    let mut part = |number: usize| {
        let mut data = vec![0; MAX_ATTACHMENT_BYTES];
        random.fill_bytes(&mut data);
        let bytes = data.len() as u32;
        (Action::Part { number: number as u16, bytes, data: AttachmentHash::of(&data) }, Some(data))
    };
    let parts = (0..count(&part(0).0, None)).map(part).collect();
    let before = begin_upload(Action::Upload { file: UploadHash([7; 32]), size: MAX_FILE_BYTES });
    take(Kind { before, ..Kind::plain("parts of a model", parts, None) })?;
    let built_in = zoo::get(PUBLISHED).ok_or_else(|| CommandError::failed(format!("found no model {PUBLISHED}")))?;
    take(publication(PUBLISHED, built_in.file().clone(), limit)?)?;
    for name in PUBLISHED_LARGE.into_iter().filter(|_| !is_brief) {
        take(publication(&format!("the largest, {name}"), worst::by_name(name).expect("it has this name"), limit)?)?;
    }
    let most = if is_brief { 2 } else { usize::MAX };
    for name in worst::SMALL_NAMES {
        let file = worst::small_by_name(name).expect("it has this name");
        take(strangers(&format!("small, {name}"), file, most, limit)?)?;
    }
    for name in LARGE.into_iter().filter(|_| !is_brief) {
        let file = worst::by_name(name).expect("it has this name");
        take(strangers(&format!("large, {name}"), file, most, limit)?)?;
    }
    Ok(())
}

/// Tasks that each name another model, and as many of them as a block may have, but at most `most`: models that differ in their names,
/// none of them loaded.
fn strangers(name: &str, mut file: ModelFile, most: usize, limit: u64) -> Result<Kind, CommandError> {
    let mut kind = Kind { is_published: true, ..Kind::plain(String::new(), Vec::new(), None) };
    let (mut bytes, mut weighs) = (0, 0);
    loop {
        file.display.name = format!("stranger-{}", kind.models.len());
        let model = file.build().map_err(|error| CommandError::failed(error.to_string()))?;
        let pixels = vec![kind.models.len() as u8; model.pixels()];
        let action = classify(&model, &pixels, Form::Pixels);
        bytes += u64::from(facts_of(&model).size.max(MODEL_BYTES_AT_LEAST));
        weighs += weight(&action, Some(&facts_of(&model)));
        if bytes > MAX_BLOCK_MODEL_BYTES || weighs > limit || kind.models.len() == most {
            kind.name = format!("tasks on strangers' models, {name}");
            return Ok(kind);
        }
        kind.actions.push((action, Some(pixels)));
        kind.models.push(model);
    }
}

/// One alone: as many as fill a block have 268 MB of files, each of another sender.
fn publication(name: &str, mut file: ModelFile, limit: u64) -> Result<Kind, CommandError> {
    // Under another name it is another model than the network's own.
    file.display.name = "published".into();
    let model = file.build().map_err(|error| CommandError::failed(error.to_string()))?;
    let (file, id) = (model.bytes(), ModelId(model.id().0));
    let sender = Address::of(&Wallet::from_seed(DEV_WALLET_SEED).public_key());
    let mut before = begin_upload(Action::Upload { file: UploadHash::of(&sender, &id), size: file.len() as u32 });
    let parts = (0..).zip(file.chunks(MAX_ATTACHMENT_BYTES)).map(|(number, part)| {
        let action = Action::Part { number, bytes: part.len() as u32, data: AttachmentHash::of(part) };
        (action, Some(part.to_vec()))
    });
    let parts: Actions = parts.collect();
    let dearest = parts.iter().map(|(action, _)| weight(action, None)).max().unwrap_or(1);
    before.extend(parts.chunks((limit / dearest) as usize).map(<[_]>::to_vec));
    let publish = Action::Publish { model: id, facts: facts_of(&model), royalty: Amount::ZERO };
    Ok(Kind { before, ..Kind::plain(format!("publication of {name}, alone"), vec![(publish, None)], None) })
}

/// The blocks up to the first part.
fn begin_upload(upload: Action) -> Vec<Actions> {
    let mut blocks = vec![vec![(upload, None)]];
    blocks.resize(PAUSE_BLOCKS, Vec::new());
    blocks
}

/// The blocks before the one that is measured, and that one.
fn make(
    network: &Network,
    model: &Model,
    kind: &Kind,
    backend: &mut dyn Backend,
) -> Result<(Vec<Block>, Block), CommandError> {
    let (_folder, mut chain) = new_chain(network)?;
    let mut maker = BlockMaker::new(network, model);
    let mut before = Vec::new();
    for actions in &kind.before {
        let data = maker.answered(actions, &kind.models, backend)?;
        before.push(maker.put(&mut chain, data)?);
    }
    let data = maker.answered(&kind.actions, &kind.models, backend)?;
    let block = maker.put(&mut chain, data)?;
    Ok((before, block))
}

#[cfg(test)]
mod tests {
    use ocelli_model::ReferenceBackend;

    use super::*;

    #[test]
    fn blocks_of_every_kind_are_made_and_validated() {
        let network = Network::builtin("local").expect("built in");
        let models = ocelli_node::node::models(&network).expect("built in");
        each_kind(&network, &models, true, |mut kind| {
            let weighs = kind.weight();
            let is_full = 10 * weighs > 9 * network.parameters.weight_limit;
            let is_as_said = kind.is_published || is_full != kind.name.ends_with("alone");
            assert!(weighs <= network.parameters.weight_limit && is_as_said, "{}", kind.name);
            kind.actions.truncate(2);
            let network = kind.network(&network);
            let (before, block) = make(&network, &models[0], &kind, &mut ReferenceBackend).expect("made");
            validate_block(&network, &models, kind.published(), &before, &block, Box::new(ReferenceBackend))
                .expect("a good block");
            Ok(())
        })
        .expect("made");
    }
}
