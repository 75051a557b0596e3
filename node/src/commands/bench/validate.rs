//! `ocelli bench validate`.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use ocelli_consensus::block::Body;
use ocelli_consensus::network::DEV_WALLET_SEED;
use ocelli_consensus::{
    Action, Address, Amount, Header, ImageHash, ModelId, Network, Parameters, RuleError, Transaction, Unsigned, rules,
};
use ocelli_model::{Backend, BackendError, Model};
use ocelli_protocol::message::BlockData;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;
use tempfile::TempDir;

use super::super::error::{CommandError, Explain as _};
use super::super::output::Output;
use super::{DeviceOption, percentile, rounded};
use crate::chain::{Chain, tasks};
use crate::inference::{BATCH_IMAGES, InferenceService, Limits, Task, Verdict};
use crate::miner::Miner;
use crate::node::models;
use crate::store::Store;
use crate::wallet::Wallet;

/// The height of the block: the first after genesis.
const HEIGHT: u64 = 1;

/// Makes the images: each is another one.
const SEED: u64 = 1;

/// Measure how long a full block of the network `local` takes from its header to the tip, nothing of it known before
///
/// The block has as many Classify tasks as the weight limit lets. Each run begins with an empty store and an empty cache
/// of answers. Beside it are measured what no order of work can avoid: its signatures alone, and its images alone.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Put so many tasks into the block [default: as many as the weight limit lets]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    tasks: Option<u32>,

    /// Validate so many times, and report the run of median time
    #[arg(long, value_name = "NUMBER", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: u16,

    #[command(flatten)]
    device: DeviceOption,
}

#[derive(Debug, Serialize)]
struct Report {
    device: String,
    threads: usize,
    tasks: usize,
    runs: u16,
    seconds: Seconds,
    /// Of the whole.
    tasks_per_second: f64,
    /// Of the signatures alone.
    signatures_per_second: f64,
    /// Of the images alone.
    images_per_second: f64,
    /// Signatures alone and images alone, over the whole: 1 is the limit unless they run side by side.
    ratio_to_whole: f64,
}

#[derive(Debug, Serialize)]
struct Seconds {
    /// Checking and storing the header.
    header: f64,
    /// Body root, image hashes, weight and signatures; storing them.
    body: f64,
    /// Reading the tasks back, running the model on each and comparing.
    answers: f64,
    /// State, history, and the atomic write that moves the tip.
    connect: f64,
    whole: f64,
    signatures_alone: f64,
    images_alone: f64,
}

/// Runs the command.
///
/// # Errors
/// For more tasks than a block holds, a device or a temporary folder that cannot be used, and a block that is refused.
pub fn run(args: &Args, output: &mut Output) -> Result<(), CommandError> {
    let network = Network::builtin("local").ok_or_else(|| CommandError::failed("found no network `local`"))?;
    let models = models(&network)?;
    let model = models.first().ok_or_else(|| CommandError::failed("the network `local` has no model"))?;
    let mut backend = args.device.open(&models)?;
    let block = Block::make(&network, model, args.tasks, &mut *backend)?;

    let mut runs = Vec::new();
    for _ in 0..args.runs {
        // One right after the other, so that whatever else the machine does slows both.
        let parts = validate(&network, &models, &block, args.device.open(&models)?)?;
        runs.push((parts, check_signatures(&network, &block)?, run_images(model, &block, &mut *backend)?));
    }
    runs.sort_by_key(|(parts, ..)| parts.whole());
    let (parts, signatures, images) = *percentile(&runs, 50).expect("there is at least one run");

    let count = block.data.body.transactions.len();
    let per_second = |time: Duration| rounded(count as f64 / time.as_secs_f64());
    let report = Report {
        device: backend.name(),
        threads: backend.threads(),
        tasks: count,
        runs: args.runs,
        tasks_per_second: per_second(parts.whole()),
        signatures_per_second: per_second(signatures),
        images_per_second: per_second(images),
        ratio_to_whole: rounded((signatures + images).as_secs_f64() / parts.whole().as_secs_f64()),
        seconds: Seconds {
            header: seconds(parts.header),
            body: seconds(parts.body),
            answers: seconds(parts.answers),
            connect: seconds(parts.connect),
            whole: seconds(parts.whole()),
            signatures_alone: seconds(signatures),
            images_alone: seconds(images),
        },
    };
    if output.is_json() { output.json(&report) } else { print(&report, output) }
}

fn print(report: &Report, output: &mut Output) -> Result<(), CommandError> {
    let Seconds { header, body, answers, connect, whole, signatures_alone, images_alone } = &report.seconds;
    output.rows(&[
        ("device", format!("{}, {} threads", report.device, report.threads)),
        ("tasks", report.tasks.to_string()),
        ("header, s", format!("{header:.4}")),
        ("body, s", format!("{body:.4}")),
        ("answers, s", format!("{answers:.4}")),
        ("connect, s", format!("{connect:.4}")),
        ("whole, s", format!("{whole:.4}, {:.0} tasks/s", report.tasks_per_second)),
        ("signatures alone, s", format!("{signatures_alone:.4}, {:.0}/s", report.signatures_per_second)),
        ("images alone, s", format!("{images_alone:.4}, {:.0}/s", report.images_per_second)),
        ("both over the whole", format!("{:.3}", report.ratio_to_whole)),
    ])
}

/// A good block on genesis.
struct Block {
    header: Header,
    data: BlockData,
}

impl Block {
    fn make(
        network: &Network,
        model: &Model,
        tasks: Option<u32>,
        backend: &mut dyn Backend,
    ) -> Result<Self, CommandError> {
        let wallet = Wallet::from_seed(DEV_WALLET_SEED);
        let limit = tasks_of_a_block(&network.parameters, &sign(&wallet, network, 0, model, &[]));
        let count = tasks.map_or(limit, |count| count as usize);
        if count > limit {
            return Err(CommandError::usage(format!(
                "found {count} tasks, expected at most {limit}: a block of the network `local` weighs no more"
            )));
        }
        let mut random = ChaCha8Rng::seed_from_u64(SEED);
        let mut data = BlockData::default();
        for nonce in 0..count as u64 {
            let mut pixels = vec![0; model.pixels()];
            random.fill_bytes(&mut pixels);
            data.body.transactions.push((sign(&wallet, network, nonce, model, &pixels), None));
            data.pixels.push(Some(pixels));
        }
        let images: Vec<&[u8]> = data.pixels.iter().flatten().map(Vec::as_slice).collect();
        for (images, transactions) in images.chunks(BATCH_IMAGES).zip(data.body.transactions.chunks_mut(BATCH_IMAGES)) {
            for ((_, output), logits) in transactions.iter_mut().zip(backend.logits(model, images)?) {
                *output = Some(logits);
            }
        }
        Ok(Self { header: mine(template(network, &data.body)?)?, data })
    }
}

/// How many transactions like this one fill a block.
fn tasks_of_a_block(parameters: &Parameters, transaction: &Transaction) -> usize {
    let weight = rules::weight(transaction, parameters, HEIGHT).unwrap_or(u64::MAX).max(1);
    (parameters.weight_limit / weight) as usize
}

fn sign(wallet: &Wallet, network: &Network, nonce: u64, model: &Model, pixels: &[u8]) -> Transaction {
    let action = Action::Classify { model: ModelId(model.id().0), image: ImageHash::of(pixels) };
    let unsigned = Unsigned { nonce, fee: Amount(1), expires: HEIGHT, action };
    Transaction::sign(unsigned, wallet.public_key(), network.genesis_hash(), |hash| wallet.sign(hash))
}

/// A header for the block, its nonce still to be found, by a chain of its own.
fn template(network: &Network, body: &Body) -> Result<Header, CommandError> {
    let (_folder, chain) = new_chain(network)?;
    let miner = Address::of(&Wallet::from_seed(DEV_WALLET_SEED).public_key());
    Ok(chain.template(miner, body, network.genesis.time + network.parameters.spacing)?)
}

/// A chain in a temporary folder, which goes with the first of the two.
fn new_chain(network: &Network) -> Result<(TempDir, Chain), CommandError> {
    let folder = tempfile::Builder::new()
        .prefix("ocelli-bench-")
        .tempdir()
        .context(|| "cannot make a temporary folder")
        .hint(|| "set TMPDIR to a folder that you may write to")?;
    let store = Store::open(&folder.path().join("chain"), network)?;
    Ok((folder, Chain::open(network.clone(), store)?))
}

/// Finds a nonce.
fn mine(header: Header) -> Result<Header, CommandError> {
    let (sender, found) = mpsc::channel();
    // An error only says that nobody waits any more.
    let miner = Miner::start(thread::available_parallelism()?.get(), move |header| drop(sender.send(header)));
    miner.set_template(Some(header));
    Ok(found.recv()?)
}

/// What a block's validation consists of.
#[derive(Debug, Clone, Copy)]
struct Parts {
    header: Duration,
    body: Duration,
    answers: Duration,
    connect: Duration,
}

impl Parts {
    fn whole(&self) -> Duration {
        self.header + self.body + self.answers + self.connect
    }
}

/// Takes the block as a node does that has seen none of its tasks: an empty store, and no answers remembered.
fn validate(
    network: &Network,
    models: &[Model],
    block: &Block,
    backend: Box<dyn Backend>,
) -> Result<Parts, CommandError> {
    let (_folder, mut chain) = new_chain(network)?;
    let inference = InferenceService::start(backend, models.to_vec(), Limits::default(), || {});
    let Block { header, data } = block;
    let hash = header.hash();

    let begin = Instant::now();
    let (_, refused) = chain.insert_headers(std::slice::from_ref(header), header.time)?;
    refused.map_or(Ok(()), Err)?;
    let header_time = begin.elapsed();

    let begin = Instant::now();
    chain.accept_block(hash, data, &|_| false)?;
    let body_time = begin.elapsed();

    let begin = Instant::now();
    let stored = chain.block_data(&hash)?.ok_or_else(|| CommandError::failed("the stored block is not there"))?;
    let claims = tasks(&stored.body).filter_map(|(index, (transaction, output))| {
        let ((model, image), pixels) = transaction.task().zip(stored.pixels.get(index)?.as_deref())?;
        Some((Task { model, image, pixels: Arc::from(pixels) }, output.clone()?))
    });
    let (reply, verdict) = mpsc::channel();
    // An error only says that nobody waits any more.
    inference.check(claims.collect(), move |verdict| drop(reply.send(verdict)));
    let verdict = verdict.recv()??;
    let answers_time = begin.elapsed();

    let begin = Instant::now();
    if verdict != Verdict::Right {
        return Err(CommandError::failed(format!("the device does not repeat its own answers: {verdict:?}")));
    }
    chain.set_answers(hash, Ok(()))?;
    chain.advance()?;
    let connect_time = begin.elapsed();

    if let Some(why) = inference.status().disabled {
        return Err(CommandError::failed(format!("the device failed while it was measured: {why}")));
    }
    if chain.tip().hash != hash {
        return Err(CommandError::failed("the block was made by the rules and yet refused"));
    }
    Ok(Parts { header: header_time, body: body_time, answers: answers_time, connect: connect_time })
}

/// Checks the signatures and nothing else, on all cores, as a chain does.
fn check_signatures(network: &Network, block: &Block) -> Result<Duration, RuleError> {
    let genesis = network.genesis_hash();
    let begin = Instant::now();
    let checks = block.data.body.transactions.par_iter().enumerate();
    checks
        .map(|(index, (transaction, _))| rules::check_signature(index, transaction, genesis))
        .collect::<Result<(), _>>()?;
    Ok(begin.elapsed())
}

/// Runs the model on the images and nothing else: on a thread of its own and in batches, as the inference service does.
fn run_images(model: &Model, block: &Block, backend: &mut dyn Backend) -> Result<Duration, BackendError> {
    let images: Vec<&[u8]> = block.data.pixels.iter().flatten().map(Vec::as_slice).collect();
    let run = || {
        let begin = Instant::now();
        for images in images.chunks(BATCH_IMAGES) {
            backend.logits(model, images)?;
        }
        Ok(begin.elapsed())
    };
    thread::scope(|scope| scope.spawn(run).join().expect("backends answer or fail, and do not panic"))
}

/// For display: to the microsecond.
fn seconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_block_has_no_room_for_one_more_task() {
        let network = Network::builtin("local").expect("built in");
        let model = &models(&network).expect("built in")[0];
        let transaction = sign(&Wallet::from_seed(DEV_WALLET_SEED), &network, 0, model, &[]);
        let count = tasks_of_a_block(&network.parameters, &transaction) as u64;
        let weight = rules::weight(&transaction, &network.parameters, HEIGHT).expect("the model is the network's");
        assert!(count * weight <= network.parameters.weight_limit);
        assert!((count + 1) * weight > network.parameters.weight_limit);
    }

    #[test]
    fn a_block_is_made_and_validated_part_by_part() {
        let network = Network::builtin("local").expect("built in");
        let models = models(&network).expect("built in");
        let mut backend = ocelli_model::ReferenceBackend;
        let block = Block::make(&network, &models[0], Some(3), &mut backend).expect("made");
        assert_eq!(block.data.body.transactions.len(), 3);
        let parts = validate(&network, &models, &block, Box::new(backend)).expect("a good block");
        assert_eq!(parts.whole(), parts.header + parts.body + parts.answers + parts.connect);
        check_signatures(&network, &block).expect("good signatures");
        run_images(&models[0], &block, &mut backend).expect("the reference runs");
    }

    #[test]
    fn more_tasks_than_a_block_holds_are_refused() {
        let network = Network::builtin("local").expect("built in");
        let models = models(&network).expect("built in");
        let made = Block::make(&network, &models[0], Some(u32::MAX), &mut ocelli_model::ReferenceBackend);
        let text = made.err().expect("too many").to_string();
        assert!(text.contains("found 4294967295 tasks, expected at most"), "{text}");
    }
}
