//! `ocelli bench full-blocks`.

use std::time::Duration;

use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use ocelli_consensus::hash::UploadHash;
use ocelli_consensus::transaction::{Form, MAX_ATTACHMENT_BYTES, MAX_FILE_BYTES};
use ocelli_consensus::{Action, Address, Amount, AttachmentHash, ModelId, Network};
use ocelli_model::{Backend, Model};
use ocelli_node::fee::weight;
use ocelli_node::inference::facts_of;
use ocelli_node::node::models;
use ocelli_program::device_option::DeviceOption;
use ocelli_program::error::CommandError;
use ocelli_program::output::Printer;
use ocelli_protocol::message::BlockData;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::block_maker::{Block, BlockMaker, new_chain};
use super::validate::validate_block;
use super::{percentile, rounded};

/// Blocks between the beginning of an upload and its first part.
const PAUSE_BLOCKS: usize = 8;

/// Measure how long a full block of each kind of transaction takes to validate and connect, nothing of it known before
///
/// What a transaction weighs is to be what it takes: no kind is to take much longer than its weight says. Each block has as many
/// transactions of one kind as the weight limit of the network `local` lets, the dearest inputs included.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Validate each block so many times, and report the run of median time
    #[arg(long, value_name = "NUMBER", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: u16,

    #[command(flatten)]
    device: DeviceOption,
}

#[derive(Debug, Serialize)]
struct Report {
    device: String,
    threads: usize,
    runs: u16,
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

/// The transactions of a block, and what stands before it.
struct Kind {
    name: String,
    /// Transactions of the first block; empty ones follow.
    first: Vec<Action>,
    empty: usize,
    /// Of the block that is measured, with their attachments.
    actions: Vec<(Action, Option<Vec<u8>>)>,
    model: Option<Model>,
}

/// Runs the command.
///
/// # Errors
/// For a device or a temporary folder that cannot be used, and a block that is refused.
pub fn run(args: &Args, output: &mut Printer) -> Result<(), CommandError> {
    let network = Network::builtin("local").ok_or_else(|| CommandError::failed("found no network `local`"))?;
    let models = models(&network)?;
    let mut backend = args.device.open(&models)?;
    let mut rows: Vec<Row> = Vec::new();
    for kind in kinds(&network, &models)? {
        let weight =
            kind.actions.iter().map(|(action, _)| weight(action, kind.model.as_ref().map(facts_of).as_ref())).sum();
        let (before, block) = make(&network, &models[0], &kind, &mut *backend)?;
        let mut times = Vec::new();
        for _ in 0..args.runs {
            let device = args.device.open(&models)?;
            times.push(validate_block(&network, &models, &before, &block, device)?.whole());
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
    }
    let pixels = rows.first().map_or(1.0, |row| row.ratio_to_pixels);
    for row in &mut rows {
        row.ratio_to_pixels = rounded(row.ratio_to_pixels / pixels);
    }
    let report = Report { device: backend.name(), threads: backend.threads(), runs: args.runs, kinds: rows };
    if output.is_json() {
        return output.json(&report);
    }
    output.line(format_args!("{}, {} threads", report.device, report.threads))?;
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

/// All kinds, tasks with pixels first.
fn kinds(network: &Network, models: &[Model]) -> Result<Vec<Kind>, CommandError> {
    let limit = network.parameters.weight_limit;
    let count =
        |action: &Action, model: Option<&Model>| (limit / weight(action, model.map(facts_of).as_ref())) as usize;
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut kinds = Vec::new();
    for model in models {
        let mut task = || {
            let mut pixels = vec![0; model.pixels()];
            random.fill_bytes(&mut pixels);
            (classify(model, &pixels, Form::Pixels), Some(pixels))
        };
        let count = count(&task().0, Some(model));
        let actions = (0..count).map(|_| task()).collect();
        kinds.push(plain(format!("tasks with pixels, {}", model.name()), actions, Some(model)));
    }
    for (name, side, noise) in [
        ("tasks with a JPEG, 1024x1024, flat", 1_024, 0),
        ("tasks with a JPEG, 1024x1024, noise", 1_024, 255),
        ("tasks with a JPEG, 224x224, noise", 224, 255),
    ] {
        let model = models.first().ok_or_else(|| CommandError::failed("the network `local` has no model"))?;
        let form = Form::Jpeg { width: side, height: side };
        let mut task = || {
            let file = jpeg(side, noise, &mut random)?;
            Ok::<_, CommandError>((classify(model, &file, form), Some(file)))
        };
        let count = count(&task()?.0, Some(model));
        let mut actions: Vec<_> = (0..count).map(|_| task()).collect::<Result<_, _>>()?;
        // Files differ a little in their bytes.
        let facts = facts_of(model);
        while actions.iter().map(|(action, _)| weight(action, Some(&facts))).sum::<u64>() > limit {
            actions.pop();
        }
        kinds.push(plain(name.into(), actions, Some(model)));
    }
    let minimum = network.parameters.minimum_balance;
    let transfer = |number: usize| {
        let mut to = [7; 20];
        to[..8].copy_from_slice(&(number as u64).to_le_bytes());
        (Action::Transfer { to: Address(to), amount: minimum }, None)
    };
    let transfers = (0..count(&transfer(0).0, None)).map(transfer).collect();
    kinds.push(plain("transfers to new accounts".into(), transfers, None));
    let mut part = |number: usize| {
        let mut data = vec![0; MAX_ATTACHMENT_BYTES];
        random.fill_bytes(&mut data);
        let bytes = data.len() as u32;
        (Action::Part { number: number as u16, bytes, data: AttachmentHash::of(&data) }, Some(data))
    };
    let parts = (0..count(&part(0).0, None)).map(part).collect();
    let upload = Action::Upload { file: UploadHash([7; 32]), size: MAX_FILE_BYTES };
    let first = vec![upload];
    kinds.push(Kind { first, empty: PAUSE_BLOCKS - 1, ..plain("parts of a model".into(), parts, None) });
    Ok(kinds)
}

fn plain(name: String, actions: Vec<(Action, Option<Vec<u8>>)>, model: Option<&Model>) -> Kind {
    Kind { name, first: Vec::new(), empty: 0, actions, model: model.cloned() }
}

fn classify(model: &Model, attachment: &[u8], form: Form) -> Action {
    let (picture, bytes) = (AttachmentHash::of(attachment), attachment.len() as u32);
    Action::Classify { model: ModelId(model.id().0), picture, bytes, royalty: Amount::ZERO, form }
}

/// A JPEG that the network takes, of grey with so much noise, at the highest quality that a task carries.
fn jpeg(side: u16, noise: u8, random: &mut ChaCha8Rng) -> Result<Vec<u8>, CommandError> {
    let mut samples = vec![0; 3 * usize::from(side) * usize::from(side)];
    random.fill_bytes(&mut samples);
    let grey = (random.next_u32() % 128) as u8;
    samples.iter_mut().for_each(|sample| *sample = if noise == 0 { grey } else { *sample });
    for quality in (1..=95).rev().step_by(2) {
        let mut file = Vec::new();
        let mut encoder = Encoder::new(&mut file, quality);
        encoder.set_sampling_factor(SamplingFactor::F_2_2);
        encoder.encode(&samples, side, side, ColorType::Rgb)?;
        if ocelli_picture::check(&file).is_ok() {
            return Ok(file);
        }
    }
    Err(CommandError::failed("no JPEG of noise is taken"))
}

/// The blocks before the one that is measured, and that one.
fn make(
    network: &Network,
    model: &Model,
    kind: &Kind,
    backend: &mut dyn Backend,
) -> Result<(Vec<Block>, Block), CommandError> {
    let (_folder, mut chain) = new_chain(network)?;
    let mut maker = BlockMaker::new(network, kind.model.as_ref().unwrap_or(model));
    let mut before = Vec::new();
    if !kind.first.is_empty() {
        let first = kind.first.iter().map(|action| (action.clone(), None)).collect::<Vec<_>>();
        let data = maker.answered(&first, backend)?;
        before.push(maker.put(&mut chain, data)?);
        for _ in 0..kind.empty {
            before.push(maker.put(&mut chain, BlockData::default())?);
        }
    }
    let data = maker.answered(&kind.actions, backend)?;
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
        let models = models(&network).expect("built in");
        for mut kind in kinds(&network, &models).expect("made") {
            let facts = kind.model.as_ref().map(facts_of);
            let weighs: u64 = kind.actions.iter().map(|(action, _)| weight(action, facts.as_ref())).sum();
            assert!(weighs <= network.parameters.weight_limit && 10 * weighs > 9 * network.parameters.weight_limit);
            kind.actions.truncate(2);
            let (before, block) = make(&network, &models[0], &kind, &mut ReferenceBackend).expect("made");
            validate_block(&network, &models, &before, &block, Box::new(ReferenceBackend)).expect("a good block");
        }
    }
}
