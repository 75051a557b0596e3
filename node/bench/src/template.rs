//! `ocelli bench template`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ed25519_dalek::{Signer as _, SigningKey};
use ocelli_consensus::block::{Answer, Body, Classes};
use ocelli_consensus::object::{Account, ModelRecord, Object, ObjectId, StateReader};
use ocelli_consensus::parameters::StartingAccount;
use ocelli_consensus::transaction::{Form, Unsigned};
use ocelli_consensus::{Address, Amount, CheckedTransaction, Network, Transaction, rules};
use ocelli_model::Model;
use ocelli_node::inference::facts_of;
use ocelli_node::node::{BLOCKS_AHEAD, RUN_AHEAD, models};
use ocelli_program::error::CommandError;
use ocelli_program::output::Printer;
use ocelli_protocol::mempool::{DEFAULT_LIMIT_BYTES, MAX_PENDING, Mempool, Tip};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::block_maker::{classify, new_chain};
use super::{percentile, rounded};

/// Draws the fees.
const SEED: u64 = 1;
/// What each sender holds: enough for all its fees.
const BALANCE: Amount = Amount(1 << 40);
/// The highest fee rate, in grains for a unit of weight.
const MAX_RATE: u64 = 1000;
/// A template is to take less.
const GOAL: Duration = Duration::from_millis(10);

/// Measure how long a miner's template takes to make from a full mempool
///
/// The mempool is filled to its limit with answered tasks of many senders, at random fees, nonces in order. A template is
/// the best of them by fee for weight, copied out, and a header with the state after them, as a mining node makes it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Make so many templates
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
}

#[derive(Debug, Serialize)]
struct Report {
    /// In the mempool.
    transactions: usize,
    senders: usize,
    bytes: usize,
    /// In the template.
    packed: usize,
    weight_limit: u64,
    milliseconds_p50: f64,
    milliseconds_p99: f64,
    /// Choosing and copying alone.
    packing_milliseconds_p50: f64,
    /// The goal of 10 ms over the median.
    ratio_of_goal: f64,
    /// Looking through the next blocks' worth for tasks to run, as each input to a node once did.
    tasks_walk_microseconds_p50: f64,
    /// Asking for tasks to run where nothing within that has changed.
    tasks_again_microseconds_p50: f64,
    ratio_walk_to_again: f64,
}

/// Runs the command.
///
/// # Errors
/// For a temporary folder that cannot be used.
pub fn run(args: &Args, output: &mut Printer) -> Result<(), CommandError> {
    let built_in = Network::builtin("local").ok_or_else(|| CommandError::failed("found no network `local`"))?;
    let models = models(&built_in)?;
    let model = models.first().ok_or_else(|| CommandError::failed("the network `local` has no model"))?;
    // As many senders as fill the mempool with all that one may have pending, and one more.
    let senders = DEFAULT_LIMIT_BYTES / model.pixels() / MAX_PENDING + 1;
    let mut parameters = built_in.parameters;
    let keys: Vec<SigningKey> = (0..senders).map(key).collect();
    let address = |key: &SigningKey| Address::of(key.verifying_key().as_bytes());
    parameters.accounts = keys.iter().map(|key| StartingAccount { address: address(key), balance: BALANCE }).collect();
    let network = Network::new(parameters, Vec::new());
    let mut mempool = fill(&network, model, &keys);

    let (_folder, chain) = new_chain(&network)?;
    let limit = network.parameters.weight_limit;
    let (mut whole, mut packing, mut packed) = (Vec::new(), Vec::new(), 0);
    for _ in 0..args.runs {
        let begin = Instant::now();
        let mut body = Body::default();
        let mut attachments = Vec::new();
        for entry in mempool.template(network.parameters.weight_limit) {
            attachments.push(entry.attachment().cloned());
            body.transactions.push((entry.transaction().clone(), entry.answer().clone()));
        }
        packing.push(begin.elapsed());
        let header = chain.template(Address([1; 20]), &body, network.genesis.time + 1)?;
        whole.push(begin.elapsed());
        std::hint::black_box((header, attachments));
        packed = body.transactions.len();
    }
    let (mut walks, mut agains) = ask_for_tasks(&mut mempool, limit, args.runs);
    [&mut whole, &mut packing, &mut walks, &mut agains].into_iter().for_each(|times| times.sort_unstable());
    let at = |times: &[Duration], percent| percentile(times, percent).copied().unwrap_or_default();
    let milliseconds = |time: Duration| rounded(time.as_secs_f64() * 1e3);
    let microseconds = |time: Duration| rounded(time.as_secs_f64() * 1e6);
    let median = at(&whole, 50);
    let report = Report {
        transactions: mempool.len(),
        senders,
        bytes: mempool.bytes(),
        packed,
        weight_limit: limit,
        milliseconds_p50: milliseconds(median),
        milliseconds_p99: milliseconds(at(&whole, 99)),
        packing_milliseconds_p50: milliseconds(at(&packing, 50)),
        ratio_of_goal: rounded(GOAL.as_secs_f64() / median.as_secs_f64()),
        tasks_walk_microseconds_p50: microseconds(at(&walks, 50)),
        tasks_again_microseconds_p50: microseconds(at(&agains, 50)),
        ratio_walk_to_again: rounded(at(&walks, 50).as_secs_f64() / at(&agains, 50).as_secs_f64()),
    };
    if output.is_json() {
        return output.json(&report);
    }
    output.rows(&[
        ("mempool", format!("{} tasks of {senders} senders, {} bytes", report.transactions, report.bytes)),
        ("template", format!("{packed} tasks, a block of network local")),
        (
            "p50, ms",
            format!(
                "{:.3}; choosing and copying alone {:.3}",
                report.milliseconds_p50, report.packing_milliseconds_p50
            ),
        ),
        ("p99, ms", format!("{:.3}", report.milliseconds_p99)),
        ("10 ms over the median", format!("{:.2}", report.ratio_of_goal)),
        (
            "looking for tasks to run, us",
            format!(
                "{:.1}; again, with nothing changed, {:.3}",
                report.tasks_walk_microseconds_p50, report.tasks_again_microseconds_p50
            ),
        ),
    ])
}

/// How long it takes to find that there is no task to run: each time looked through the next blocks' worth, and asked again, which
/// is the mean of many.
fn ask_for_tasks(mempool: &mut Mempool, weight_limit: u64, runs: u16) -> (Vec<Duration>, Vec<Duration>) {
    let mut ask = |budget: u64, times: u32| {
        let begin = Instant::now();
        for _ in 0..times {
            std::hint::black_box(mempool.tasks_to_run(budget, RUN_AHEAD));
        }
        begin.elapsed() / times
    };
    let runs = (0..u64::from(runs)).map(|run| {
        // Another budget than the last is looked through anew.
        let budget = weight_limit * BLOCKS_AHEAD + run % 2;
        (ask(budget, 1), ask(budget, 1000))
    });
    runs.unzip()
}

/// A sender's key.
fn key(sender: usize) -> SigningKey {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&sender.to_le_bytes());
    SigningKey::from_bytes(&seed)
}

/// Every account holds the same, and every model is the one.
struct Funded(ModelRecord);

impl StateReader for Funded {
    type Error = Infallible;

    fn object(&self, id: &ObjectId) -> Result<Option<Object>, Infallible> {
        Ok(match id {
            ObjectId::Account(_) => Some(Account { nonce: 0, balance: BALANCE }.into()),
            ObjectId::Model(_) => Some(self.0.into()),
            ObjectId::Upload(_) => None,
        })
    }
}

/// A mempool that takes no more tasks at any fee that it has seen.
fn fill(network: &Network, model: &Model, keys: &[SigningKey]) -> Mempool {
    let mut mempool = Mempool::default();
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let pixels: Arc<[u8]> = vec![0; model.pixels()].into();
    let (action, genesis) = (classify(model, &pixels, Form::Pixels), network.genesis.hash());
    let facts = facts_of(model);
    let state = Funded(ModelRecord { author: Address([0; 20]), royalty: Amount::ZERO, first: 0, facts });
    let tip = Tip { network, height: 0, time: network.genesis.time, state: &state, now: 0 };
    let unsigned = Unsigned { nonce: 0, fee: Amount::ZERO, expires: u64::MAX, action: action.clone() };
    let draft = Transaction { unsigned, public_key: [0; 32], signature: [0; 64] };
    let weight = rules::weight(&draft, Some(&facts)).unwrap_or(u64::MAX);
    for nonce in 0..MAX_PENDING as u64 {
        for key in keys {
            let fee = Amount(weight * random.random_range(1..=MAX_RATE));
            let unsigned = Unsigned { nonce, fee, expires: u64::MAX, action: action.clone() };
            let public_key = key.verifying_key().to_bytes();
            let transaction = Transaction::sign(unsigned, public_key, genesis, |hash| key.sign(hash).to_bytes());
            // Once it is full only better ones get in, and none after a gap that an evicted one has left.
            let next = mempool.next_nonce(transaction.sender(), 0);
            if next < nonce || mempool.check(&transaction, &tip).is_err() {
                continue;
            }
            let txid = transaction.txid();
            let checked = CheckedTransaction::check(transaction, Some(Arc::clone(&pixels)), genesis);
            if checked.is_ok_and(|checked| mempool.insert(checked, &tip).is_ok()) {
                mempool.set_answer(&txid, Answer::Classes(Classes::of(&vec![0; model.logits()])));
            }
        }
    }
    mempool
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mempool_is_full_and_its_template_too() {
        let network = Network::builtin("local").expect("built in");
        let models = models(&network).expect("built in");
        let keys: Vec<_> = (0..DEFAULT_LIMIT_BYTES / models[0].pixels() / MAX_PENDING + 1).map(key).collect();
        let mempool = fill(&network, &models[0], &keys);
        // But for what is kept free for transactions that wait.
        assert!(mempool.bytes() > DEFAULT_LIMIT_BYTES * 8 / 10, "{}", mempool.bytes());
        assert_eq!(mempool.template(network.parameters.weight_limit).len(), 1189);
    }
}
