//! `ocelli bench validate`.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use ocelli_consensus::rules::TransactionError;
use ocelli_consensus::{Header, Network, rules};
use ocelli_model::{Backend, BackendError, Model};
use ocelli_node::inference::{AnswerCheck, BATCH_PICTURES, InferenceLimits, InferenceService};
use ocelli_node::replay::Intake;
use ocelli_node::store::NoFiles;
use ocelli_node::validation::Claims;
use ocelli_program::error::CommandError;
use ocelli_program::output::Printer;
use ocelli_protocol::message::BlockData;
use rayon::prelude::*;
use serde::Serialize;

use super::block_maker::{Block, BlockMaker, advance, new_chain};
use super::runs::{Local, Machine, Runs};
use super::{percentile, rounded};

/// Measure how fast full blocks of the network `local` are validated and connected, nothing of them known before
///
/// The blocks have as many Classify tasks as the weight limit lets. A chain of them goes through the same pipeline as an
/// imported one; then one block alone is taken part by part. Each run begins with an empty store and an empty cache
/// of answers. Beside both are measured what no order of work can avoid: their signatures alone, and their images alone.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Put so many blocks into the chain
    #[arg(long, value_name = "NUMBER", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1000))]
    blocks: u16,

    /// Put so many tasks into each block [default: as many as the weight limit lets]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    tasks: Option<u32>,

    #[command(flatten)]
    runs: Runs,
}

#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    machine: Machine,
    blocks: usize,
    /// In all blocks.
    tasks: usize,
    seconds: f64,
    /// Of the chain.
    tasks_per_second: f64,
    /// Of the signatures alone.
    signatures_per_second: f64,
    /// Of the images alone.
    images_per_second: f64,
    /// Signatures alone and images alone, over the chain: 1 would be validation that does nothing else.
    ratio_to_whole: f64,
    block: BlockReport,
}

/// One block alone, its parts one after the other.
#[derive(Debug, Serialize)]
struct BlockReport {
    tasks: usize,
    seconds: Seconds,
    tasks_per_second: f64,
}

#[derive(Debug, Serialize)]
struct Seconds {
    /// Checking and storing the header.
    header: f64,
    /// Body root, image hashes, weight and signatures; storing them.
    body: f64,
    /// Reading the tasks back, running the model on each and comparing.
    answers: f64,
    /// State, history, and the atomic write that moves the tip, waiting for the disk included; and the files that it publishes.
    connect: f64,
    whole: f64,
    /// The same block where all its tasks were pending, and so checked and run before: header, body root, state and writes.
    known: f64,
}

/// What one run measured.
#[derive(Debug, Clone, Copy)]
struct Run {
    chain: Duration,
    signatures: Duration,
    images: Duration,
    parts: Parts,
    known: Duration,
}

/// Runs the command.
///
/// # Errors
/// For more tasks than a block holds, a device or a temporary folder that cannot be used, and a block that is refused.
pub fn run(args: &Args, output: &mut Printer) -> Result<(), CommandError> {
    let local = args.runs.local()?;
    let model = local.model()?.clone();
    let Local { network, models, mut backend } = local;
    // On a thread of its own: whichever runs a backend is one of its threads from then on, and would have it work for bodies.
    let blocks = thread::scope(|scope| {
        let made = scope.spawn(|| make_chain(&network, &model, args.blocks, args.tasks, &mut *backend));
        made.join().expect("blocks are made or not, without a panic")
    })?;
    let first = blocks.first().ok_or_else(|| CommandError::failed("no block was made"))?;

    let mut runs = Vec::new();
    for _ in 0..args.runs.runs {
        // One right after the other, so that whatever else the machine does slows all.
        runs.push(Run {
            chain: validate_chain(&network, &models, &blocks, args.runs.open(&models)?)?,
            signatures: check_signatures(&network, &blocks)?,
            images: run_images(&model, &blocks, &mut *backend)?,
            parts: validate_block(&network, &models, &[], &[], first, args.runs.open(&models)?)?,
            known: connect_known(&network, first)?,
        });
    }
    runs.sort_by_key(|run| run.chain);
    let Run { chain, signatures, images, .. } = *percentile(&runs, 50).expect("there is at least one run");
    runs.sort_by_key(|run| run.parts.whole());
    let parts = percentile(&runs, 50).expect("there is at least one run").parts;
    runs.sort_by_key(|run| run.known);
    let known = percentile(&runs, 50).expect("there is at least one run").known;

    let tasks = blocks.iter().map(|block| block.data.body.transactions.len()).sum();
    let of_a_block = first.data.body.transactions.len();
    let per_second = |count: usize, time: Duration| rounded(count as f64 / time.as_secs_f64());
    let report = Report {
        machine: args.runs.machine(&*backend),
        blocks: blocks.len(),
        tasks,
        seconds: seconds(chain),
        tasks_per_second: per_second(tasks, chain),
        signatures_per_second: per_second(tasks, signatures),
        images_per_second: per_second(tasks, images),
        ratio_to_whole: rounded((signatures + images).as_secs_f64() / chain.as_secs_f64()),
        block: BlockReport {
            tasks: of_a_block,
            seconds: Seconds {
                header: seconds(parts.header),
                body: seconds(parts.body),
                answers: seconds(parts.answers),
                connect: seconds(parts.connect),
                whole: seconds(parts.whole()),
                known: seconds(known),
            },
            tasks_per_second: per_second(of_a_block, parts.whole()),
        },
    };
    if output.is_json() { output.json(&report) } else { print(&report, output) }
}

fn print(report: &Report, output: &mut Printer) -> Result<(), CommandError> {
    let Seconds { header, body, answers, connect, whole, known } = &report.block.seconds;
    let Machine { device, threads, .. } = &report.machine;
    output.rows(&[
        ("device", format!("{device}, {threads} threads")),
        ("chain", format!("{} blocks, {} tasks", report.blocks, report.tasks)),
        ("validated and connected in, s", format!("{:.4}, {:.0} tasks/s", report.seconds, report.tasks_per_second)),
        ("signatures alone", format!("{:.0}/s", report.signatures_per_second)),
        ("images alone", format!("{:.0}/s", report.images_per_second)),
        ("both over the whole", format!("{:.3}", report.ratio_to_whole)),
        ("one block alone, s", format!("{whole:.4}, {} tasks", report.block.tasks)),
        ("its header, s", format!("{header:.4}")),
        ("its body, s", format!("{body:.4}")),
        ("its answers, s", format!("{answers:.4}")),
        ("its connection, s", format!("{connect:.4}")),
        ("where its tasks were pending, s", format!("{known:.4}")),
    ])
}

/// A chain of good blocks, each with `tasks` tasks.
fn make_chain(
    network: &Network,
    model: &Model,
    blocks: u16,
    tasks: Option<u32>,
    backend: &mut dyn Backend,
) -> Result<Vec<Block>, CommandError> {
    let (_folder, mut chain) = new_chain(network)?;
    let mut maker = BlockMaker::new(network, model);
    let count = maker.tasks_a_block(tasks)?;
    (0..blocks).map(|_| maker.make(&mut chain, count, backend)).collect()
}

/// What a block's validation consists of.
#[derive(Debug, Clone, Copy)]
pub struct Parts {
    header: Duration,
    body: Duration,
    answers: Duration,
    connect: Duration,
}

impl Parts {
    /// All of them.
    pub fn whole(&self) -> Duration {
        self.header + self.body + self.answers + self.connect
    }
}

/// Takes the chain as a node does that has seen none of its tasks: an empty store, and no answers remembered.
fn validate_chain(
    network: &Network,
    models: &[Model],
    blocks: &[Block],
    backend: Box<dyn Backend>,
) -> Result<Duration, CommandError> {
    let (_folder, mut chain) = new_chain(network)?;
    let inference =
        InferenceService::start(backend, models.to_vec(), Arc::new(NoFiles), InferenceLimits::default(), || {});
    let headers: Vec<Header> = blocks.iter().map(|block| block.header.clone()).collect();
    // From a peer or a file they come decoded, and belong to whoever takes them.
    let data: Vec<BlockData> = blocks.iter().map(|block| block.data.clone()).collect();

    let begin = Instant::now();
    let now = headers.last().map_or(0, |header| header.time);
    chain.insert_headers(&headers, now)?.1.map_or(Ok(()), Err)?;
    let mut intake = Intake::new(&mut chain, &inference);
    for (header, data) in headers.iter().zip(data) {
        intake.take(header.hash(), header.height, data)?;
    }
    intake.finish()?;
    let time = begin.elapsed();

    if let Some(why) = inference.status().disabled {
        return Err(CommandError::failed(format!("the device failed while it was measured: {why}")));
    }
    if Some(chain.tip().hash) != headers.last().map(Header::hash) {
        return Err(CommandError::failed("the blocks were made by the rules and yet refused"));
    }
    Ok(time)
}

/// Takes the block as a node does that has seen none of its tasks: a store that has only the blocks before it and the files of `published`
/// models, none of which is loaded, and no answers remembered.
pub fn validate_block(
    network: &Network,
    models: &[Model],
    published: &[Model],
    before: &[Block],
    block: &Block,
    backend: Box<dyn Backend>,
) -> Result<Parts, CommandError> {
    let (_folder, mut chain) = new_chain(network)?;
    for model in published {
        chain.store().add_file(model.bytes(), model.name())?;
    }
    let files = chain.store().model_files();
    let inference = InferenceService::start(backend, models.to_vec(), files, InferenceLimits::default(), || {});
    for Block { header, data } in before {
        chain.insert_headers(std::slice::from_ref(header), header.time)?.1.map_or(Ok(()), Err)?;
        chain.accept_block(header.hash(), data, &|_| false)?;
        chain.set_answers(header.hash(), Ok(()))?;
        advance(&mut chain)?;
    }
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
    let (reply, verdict) = mpsc::channel();
    // An error only says that nobody waits any more.
    inference.check(Claims::of(&stored).claims, move |verdict| drop(reply.send(verdict)));
    let verdict = verdict.recv()??;
    let answers_time = begin.elapsed();

    let begin = Instant::now();
    if verdict != AnswerCheck::Right {
        return Err(CommandError::failed(format!("the device does not repeat its own answers: {verdict:?}")));
    }
    chain.set_answers(hash, Ok(()))?;
    advance(&mut chain)?;
    let connect_time = begin.elapsed();

    if let Some(why) = inference.status().disabled {
        return Err(CommandError::failed(format!("the device failed while it was measured: {why}")));
    }
    if chain.tip().hash != hash {
        return Err(CommandError::failed("the block was made by the rules and yet refused"));
    }
    Ok(Parts { header: header_time, body: body_time, answers: answers_time, connect: connect_time })
}

/// Takes the block as a node does in whose mempool all its tasks were, with their answers: nothing is left to verify or to run.
fn connect_known(network: &Network, Block { header, data }: &Block) -> Result<Duration, CommandError> {
    let (_folder, mut chain) = new_chain(network)?;
    let hash = header.hash();
    let begin = Instant::now();
    chain.insert_headers(std::slice::from_ref(header), header.time)?.1.map_or(Ok(()), Err)?;
    chain.accept_block(hash, data, &|_| true)?;
    chain.set_answers(hash, Ok(()))?;
    advance(&mut chain)?;
    let time = begin.elapsed();
    if chain.tip().hash != hash {
        return Err(CommandError::failed("the block was made by the rules and yet refused"));
    }
    Ok(time)
}

/// Checks the signatures and nothing else, on all cores, as a chain does.
fn check_signatures(network: &Network, blocks: &[Block]) -> Result<Duration, TransactionError> {
    let genesis = network.genesis_hash();
    let begin = Instant::now();
    for block in blocks {
        let checks = block.data.body.transactions.par_iter();
        checks.map(|(transaction, _)| rules::check_signature(transaction, genesis)).collect::<Result<(), _>>()?;
    }
    Ok(begin.elapsed())
}

/// Runs the model on the images and nothing else: on a thread of its own and in batches, as the inference service does.
fn run_images(model: &Model, blocks: &[Block], backend: &mut dyn Backend) -> Result<Duration, BackendError> {
    let images: Vec<&[u8]> =
        blocks.iter().flat_map(|block| block.data.attachments.iter().flatten()).map(AsRef::as_ref).collect();
    let run = || {
        let begin = Instant::now();
        for images in images.chunks(BATCH_PICTURES) {
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
    fn a_chain_is_made_and_validated() {
        let network = Network::builtin("local").expect("built in");
        let models = ocelli_node::node::models(&network).expect("built in");
        let mut backend = ocelli_model::ReferenceBackend;
        let blocks = make_chain(&network, &models[0], 2, Some(3), &mut backend).expect("made");
        assert_eq!(blocks.iter().map(|block| block.data.body.transactions.len()).collect::<Vec<_>>(), [3, 3]);
        validate_chain(&network, &models, &blocks, Box::new(backend)).expect("a good chain");
        let parts = validate_block(&network, &models, &[], &[], &blocks[0], Box::new(backend)).expect("a good block");
        assert_eq!(parts.whole(), parts.header + parts.body + parts.answers + parts.connect);
        connect_known(&network, &blocks[0]).expect("a good block");
        check_signatures(&network, &blocks).expect("good signatures");
        run_images(&models[0], &blocks, &mut backend).expect("the reference runs");
    }
}
