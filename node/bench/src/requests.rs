//! `ocelli bench requests`.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ocelli_consensus::parameters::StartingAccount;
use ocelli_consensus::{Action, Address, Amount, Network, Transaction, TxId, Unsigned, rules};
use ocelli_model::{Backend, Model};
use ocelli_node::chain::Chain;
use ocelli_node::client::fee::default_fee;
use ocelli_node::client::{Client, ClientError};
use ocelli_node::clock::Clock;
use ocelli_node::commands::wallet_option::address_of;
use ocelli_node::inference::InferenceLimits;
use ocelli_node::network::Traversal;
use ocelli_node::node::{Addresses, Capacity, Discovery, Node, NodeConfig, Storage, models};
use ocelli_node::store::Store;
use ocelli_node::wallet::Wallet;
use ocelli_program::device_option::DeviceOption;
use ocelli_program::error::CommandError;
use ocelli_program::output::Printer;
use ocelli_protocol::mempool::MAX_PENDING;
use ocelli_protocol::message::{Request, Response, Submission, SubmitReply, TransactionStatus};
use serde::Serialize;

use super::block_maker::{BlockMaker, new_folder};
use super::{percentile, rounded};

/// Light peers that hand in transactions by turns: one alone may hand in 50 a second.
const SUBMITTERS: usize = 24;
/// How often what is due is handed in.
const TICK: Duration = Duration::from_millis(5);
/// Between an answer and the next question.
const PAUSE: Duration = Duration::from_millis(2);
/// How long the nodes may take to find each other.
const PATIENCE: Duration = Duration::from_secs(60);
/// What each sender holds: enough for all its fees.
const BALANCE: Amount = Amount(1 << 40);
/// Questions of each kind to the node that has nothing else to do.
const QUIET_QUESTIONS: usize = 200;

/// Measure how long a node takes to answer while full blocks connect and transactions are offered to it
///
/// A chain of full blocks of Classify tasks on a network like `local` is made first. One node serves it and another
/// syncs it, both in this process; so the second connects one full block after the other. Meanwhile light peers hand in signed
/// transfers to it, so many a second, and one more light peer asks it for its status, for a task in a block, and for an
/// account, by turns, and waits for each answer. Afterwards the same questions are asked of the node while it has nothing
/// else to do: that is what the first times are compared with.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Connect so many full blocks
    #[arg(long, value_name = "NUMBER", default_value_t = 128, value_parser = clap::value_parser!(u16).range(2..=10_000))]
    blocks: u16,

    /// Hand in so many transfers a second
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_200))]
    rate: u32,

    #[command(flatten)]
    device: DeviceOption,
}

/// How long answers took.
#[derive(Debug, Serialize)]
struct Times {
    answers: usize,
    ms_p50: f64,
    ms_p99: f64,
    /// The longest.
    ms_max: f64,
}

#[derive(Debug, Serialize)]
struct Answers {
    status: Times,
    transaction: Times,
    account: Times,
}

#[derive(Debug, Serialize)]
struct Report {
    blocks: u16,
    tasks: usize,
    /// Over which the blocks were connected.
    seconds: f64,
    /// Transfers handed in over that time, and those that were taken.
    offered: usize,
    taken: usize,
    /// While blocks connect.
    busy: Answers,
    /// Afterwards.
    quiet: Answers,
}

/// Runs the command.
///
/// # Errors
/// For a device or a temporary folder that cannot be used, and a node that fails or does not answer.
pub fn run(args: &Args, output: &mut Printer) -> Result<(), CommandError> {
    let built_in = Network::builtin("local").ok_or_else(|| CommandError::failed("found no network `local`"))?;
    let senders: Vec<Wallet> = (0..needed_senders(args)).map(wallet).collect();
    let mut parameters = built_in.parameters;
    parameters.name = "bench".into();
    let funded = senders.iter().map(|sender| StartingAccount { address: address_of(sender), balance: BALANCE });
    parameters.accounts.extend(funded);
    let network = Network::new(parameters, Vec::new());
    let models = models(&network)?;
    let model = models.first().ok_or_else(|| CommandError::failed("the network `local` has no model"))?;

    let folder = new_folder()?;
    let served = folder.path().join("served");
    let (tasks, txid) = make_chain(&network, model, args, &served)?;
    let transfers = sign(&network, &senders)?;
    let server = start(&network, args, &served, Vec::new())?;
    let bootstrap = vec![address(&server)?];
    let node = start(&network, args, &folder.path().join("synced"), bootstrap)?;
    let address = vec![address(&node)?];
    let mut client = Client::connect(std::slice::from_ref(&network), &address)?;

    let is_over = AtomicBool::new(false);
    let account = address_of(&senders[0]);
    let begin = Instant::now();
    let (busy, seconds, (offered, taken)) = thread::scope(|scope| {
        let offering = scope.spawn(|| offer(&network, &address, &transfers, args.rate, &is_over));
        let questions = [Request::Status, Request::Transaction { txid }, Request::Account { address: account }];
        let asked = ask(&mut client, &questions, |times, height| {
            if begin.elapsed() > PATIENCE && times[0].is_empty() {
                return Err(CommandError::failed("the node does not answer"));
            }
            Ok(height < u64::from(args.blocks))
        });
        let seconds = begin.elapsed().as_secs_f64();
        is_over.store(true, Ordering::Relaxed);
        let offered = offering.join().map_err(|_| CommandError::failed("the submitters have panicked"))?;
        Ok::<_, CommandError>((asked?, seconds, offered?))
    })?;
    let questions = [Request::Status, Request::Transaction { txid }, Request::Account { address: account }];
    let quiet = ask(&mut client, &questions, |times, _| Ok(times[0].len() < QUIET_QUESTIONS))?;
    let report = Report {
        blocks: args.blocks,
        tasks,
        seconds: rounded(seconds),
        offered,
        taken,
        busy: answers(busy),
        quiet: answers(quiet),
    };
    if output.is_json() { output.json(&report) } else { print(&report, output) }
}

/// Asks one question after the other, by turns, while `goes_on` says so of the times and of the node's height. Only answers
/// count that hold what was asked for: a task in a block that is still to be connected is not found.
fn ask(
    client: &mut Client,
    questions: &[Request; 3],
    mut goes_on: impl FnMut(&[Vec<Duration>; 3], u64) -> Result<bool, CommandError>,
) -> Result<[Vec<Duration>; 3], CommandError> {
    let (mut times, mut height) = ([const { Vec::new() }; 3], 0);
    while goes_on(&times, height)? {
        for (question, times) in questions.iter().zip(&mut times) {
            let begin = Instant::now();
            let response = client.ask(question)?;
            let time = begin.elapsed();
            match response {
                Response::Status(status) => height = status.height,
                Response::Transaction(TransactionStatus::Confirmed(_)) | Response::Account(_) => {}
                Response::Transaction(_) => continue,
                other => return Err(CommandError::failed(format!("the node answers {other:?}"))),
            }
            times.push(time);
            client.pause(Instant::now() + PAUSE)?;
        }
    }
    Ok(times)
}

/// Hands in transfers at that rate until it is over. How many were handed in, and how many were taken.
fn offer(
    network: &Network,
    address: &[String],
    transfers: &[Submission],
    rate: u32,
    is_over: &AtomicBool,
) -> Result<(usize, usize), ClientError> {
    let clients = (0..SUBMITTERS).map(|_| Client::connect(std::slice::from_ref(network), address));
    let mut clients = clients.collect::<Result<Vec<_>, _>>()?;
    let (begin, mut offered, mut taken) = (Instant::now(), 0, 0);
    while !is_over.load(Ordering::Relaxed) {
        let due = (begin.elapsed().as_secs_f64() * f64::from(rate)) as usize;
        for transfer in &transfers[offered.min(transfers.len())..due.min(transfers.len())] {
            let client = &mut clients[offered % SUBMITTERS];
            if let Some(connection) = client.connections().first().cloned() {
                client.send(connection.peer, &Request::Submit(transfer.clone()));
            }
            offered += 1;
        }
        let next = Instant::now() + TICK;
        for client in &mut clients {
            while let Some(reply) = client.next_reply(Instant::now())? {
                let accepted = |response| matches!(response, Response::Submitted(SubmitReply::Accepted { .. }));
                taken += usize::from(reply.result.is_ok_and(accepted));
            }
        }
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok((offered, taken))
}

/// Makes the chain in the data folder of the node that is to serve it. How many tasks it has, and one of the first block's.
fn make_chain(network: &Network, model: &Model, args: &Args, data: &Path) -> Result<(usize, TxId), CommandError> {
    let mut backend: Box<dyn Backend> = args.device.open(std::slice::from_ref(model))?;
    let mut maker = BlockMaker::new(network, model);
    let count = maker.tasks_a_block(None)?;
    std::fs::create_dir_all(data)?;
    let mut chain = Chain::open(network.clone(), Store::open(&data.join("chain"), network)?)?;
    let mut txid = None;
    for _ in 0..args.blocks {
        let block = maker.make(&mut chain, count, &mut *backend)?;
        txid = txid.or_else(|| block.data.body.transactions.last().map(|(transaction, _)| transaction.txid()));
    }
    let txid = txid.ok_or_else(|| CommandError::failed("a full block holds nothing"))?;
    Ok((count * usize::from(args.blocks), txid))
}

/// As many as have transfers for a minute.
fn needed_senders(args: &Args) -> usize {
    (args.rate as usize * 60).div_ceil(MAX_PENDING)
}

fn wallet(number: usize) -> Wallet {
    let mut seed = [0x5e; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    Wallet::from_seed(seed)
}

/// All transfers that the senders may have pending, in such an order that the nonces of each ascend.
fn sign(network: &Network, senders: &[Wallet]) -> Result<Vec<Submission>, CommandError> {
    let (to, genesis) = (Address([1; 20]), network.genesis_hash());
    let action = Action::Transfer { to, amount: network.parameters.minimum_balance };
    let mut unsigned = Unsigned { nonce: 0, fee: Amount::ZERO, expires: u64::MAX, action };
    let draft = Transaction { unsigned: unsigned.clone(), public_key: [0; 32], signature: [0; 64] };
    let weight = rules::weight(&draft, None);
    unsigned.fee = weight.map(default_fee).ok_or_else(|| CommandError::failed("a transfer has no weight"))?;
    let mut transfers = Vec::new();
    for nonce in 0..MAX_PENDING as u64 {
        for sender in senders {
            let unsigned = Unsigned { nonce, ..unsigned.clone() };
            let transaction = Transaction::sign(unsigned, sender.public_key(), genesis, |hash| sender.sign(hash));
            transfers.push(Submission { transaction, attachment: None });
        }
    }
    Ok(transfers)
}

fn start(network: &Network, args: &Args, data: &Path, bootstrap: Vec<String>) -> Result<Node, CommandError> {
    let models = models(network)?;
    std::fs::create_dir_all(data)?;
    let config = NodeConfig {
        network: network.clone(),
        data: data.into(),
        addresses: Addresses { listen: vec!["/ip4/127.0.0.1/tcp/0".into()], bootstrap, ..Addresses::default() },
        discovery: Discovery::BootstrapOnly,
        capacity: Capacity::default(),
        traversal: Traversal::default(),
        backend: args.device.open(&models)?,
        models,
        files: Vec::new(),
        inference: InferenceLimits::default(),
        mining: None,
        storage: Storage::default(),
        api: None,
        faucet: None,
        clock: Clock::system(),
    };
    Ok(Node::start(config)?)
}

/// Where a node listens, once it does.
fn address(node: &Node) -> Result<String, CommandError> {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if let Some(address) = node.addresses().into_iter().next() {
            return Ok(address);
        }
        thread::sleep(TICK);
    }
    Err(CommandError::failed("a node does not say where it listens"))
}

fn answers(times: [Vec<Duration>; 3]) -> Answers {
    let [status, transaction, account] = times.map(|mut times| {
        times.sort_unstable();
        let at = |percent| percentile(&times, percent).map_or(0.0, |time| rounded(time.as_secs_f64() * 1e3));
        Times { answers: times.len(), ms_p50: at(50), ms_p99: at(99), ms_max: at(100) }
    });
    Answers { status, transaction, account }
}

fn print(report: &Report, output: &mut Printer) -> Result<(), CommandError> {
    let times = |busy: &Times, quiet: &Times| {
        let text = |times: &Times| {
            format!("p50 {:.2}, p99 {:.2}, most {:.2} of {}", times.ms_p50, times.ms_p99, times.ms_max, times.answers)
        };
        format!("{}; quiet: {}", text(busy), text(quiet))
    };
    let (busy, quiet) = (&report.busy, &report.quiet);
    output.rows(&[
        ("chain", format!("{} full blocks, {} tasks, in {:.1} s", report.blocks, report.tasks, report.seconds)),
        ("transfers", format!("{} offered, {} taken", report.offered, report.taken)),
        ("status, ms", times(&busy.status, &quiet.status)),
        ("transaction, ms", times(&busy.transaction, &quiet.transaction)),
        ("account, ms", times(&busy.account, &quiet.account)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sender_can_pay_and_nonces_ascend() {
        let network = Network::builtin("local").expect("built in");
        let senders: Vec<Wallet> = (0..3).map(wallet).collect();
        let transfers = sign(&network, &senders).expect("signed");
        assert_eq!(transfers.len(), 3 * MAX_PENDING);
        for sender in &senders {
            let own =
                transfers.iter().map(|transfer| &transfer.transaction).filter(|it| it.sender() == address_of(sender));
            let total: u64 = own
                .clone()
                .filter_map(|transaction| transaction.total(&network.parameters))
                .map(|amount| amount.0)
                .sum();
            assert!(total < BALANCE.0);
            assert!(own.map(|transaction| transaction.unsigned.nonce).eq(0..MAX_PENDING as u64));
        }
    }
}
