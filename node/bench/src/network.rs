//! `ocelli bench network`.

mod audit;
mod follow;
mod load;

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use follow::Follower;
use load::{Load, Plan};
use ocelli_consensus::network::Network;
use ocelli_model::Model;
use ocelli_node::client::{ANSWER_TIMEOUT, CONNECT_TIMEOUT, Client, ClientError, Reply};
use ocelli_node::commands::wallet_option::WalletOption;
use ocelli_node::network::Peer;
use ocelli_node::node::models;
use ocelli_program::device_option::DeviceOption;
use ocelli_program::error::CommandError;
use ocelli_program::output::Printer;
use ocelli_protocol::message::{Request, Response};
use serde::Serialize;

use super::process::Usage;
use super::{percentile, rounded};

/// How long credits may take to reach the senders.
const START_TIME: Duration = Duration::from_secs(120);
/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(5);
/// How long to wait for a reply before looking what else is due.
const TICK: Duration = Duration::from_millis(5);

/// Load a network with tasks, follow each to its block, and check that all nodes end with one chain and one total of credits
///
/// Takes part as a light peer. Each task is another picture of noise, signed by one of several senders that the wallet
/// funds first; each sender hands its tasks to one node and turns to another one when that is gone. What a node loses is
/// handed in again. Fails where a task is not confirmed exactly once, an answer is not this machine's own, the nodes'
/// tips differ at the end, or their balances do not add up to the coins issued.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A node's multiaddr; give all of them, one option each
    #[arg(long, value_name = "MULTIADDR", required = true)]
    peer: Vec<String>,

    /// The network: local, testnet, or a network file [default: testnet, local for `--wallet dev`]
    #[arg(long, value_name = "NAME|FILE")]
    network: Option<String>,

    #[command(flatten)]
    wallet: WalletOption,

    /// Hand in tasks for so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    seconds: u64,

    /// Hand in so many tasks per second, as far as the senders may have as many pending and a node takes as many: of one peer
    /// 50 a second, and 1,000 at once
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,

    /// Sign with so many keys, each of which has at most 60 tasks pending
    #[arg(long, value_name = "NUMBER", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    senders: u16,

    /// Ask this model, by its name [default: the network's first]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,

    /// Hand in JPEG files of so many pixels a side, rather than pixels
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u16).range(8..=1024))]
    jpeg: Option<u16>,

    /// At most so many bytes each
    #[arg(long, value_name = "BYTES", default_value_t = 25_600, requires = "jpeg", value_parser = clap::value_parser!(u32).range(1_000..=262_144))]
    jpeg_bytes: u32,

    /// Afterwards wait at most so many seconds for the last confirmations, and as long for one tip
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    settle: u64,

    /// Report processor time and memory of the process with this id, a node on this machine; may be repeated
    #[arg(long, value_name = "PROCESS")]
    pid: Vec<u32>,

    #[command(flatten)]
    device: DeviceOption,
}

#[derive(Debug, Serialize)]
struct Report {
    nodes: usize,
    /// Whether all nodes had one tip in the end.
    same_tip: bool,
    #[serde(flatten)]
    tasks: TaskReport,
    /// Of the final chain.
    height: u64,
    /// Blocks of the followed node that were taken back.
    disconnected_blocks: usize,
    /// Whether the balances on every node add up to the coins issued.
    balances_add_up: bool,
    /// Starting balances and rewards up to the final tip, in credits.
    coins_issued: String,
    /// Seconds over which tasks were handed in.
    seconds: f64,
    /// Of each process, mean over these seconds: 100 is one core; mining is part of it.
    cpu_percent: Vec<f64>,
    /// Of each process at the end, resident.
    memory_mib: Vec<f64>,
}

/// What became of the tasks.
#[derive(Debug, Serialize)]
struct TaskReport {
    confirmed_tasks: usize,
    /// From the first task handed in to the last confirmation.
    confirmed_tasks_per_second: f64,
    /// From handing a task in to its preliminary answer; `null` where there was none.
    preliminary_ms_p50: Option<f64>,
    preliminary_ms_p95: Option<f64>,
    /// From handing a task in to the first block with it.
    confirmed_s_p50: Option<f64>,
    confirmed_s_p95: Option<f64>,
    submitted_tasks: usize,
    /// Neither confirmed nor expired in the end.
    lost_tasks: usize,
    /// On the final chain more than once.
    repeated_tasks: usize,
    /// Preliminary answers and outputs in blocks that are not this machine's own.
    wrong_answers: usize,
    /// Handed in again, as a node refused, lost or forgot them.
    handed_in_again: usize,
}

/// Runs the command.
///
/// # Errors
/// Where the nodes cannot be reached or the wallet cannot pay, and, after the report, for what the network got wrong.
pub fn run(args: &Args, output: &mut Printer) -> Result<(), CommandError> {
    let network = args.wallet.network(args.network.as_deref())?;
    let models = models(&network)?;
    let model = match &args.model {
        None => models.first(),
        Some(name) => models.iter().find(|model| model.name() == name),
    };
    let model = model.ok_or_else(|| {
        let names: Vec<_> = models.iter().map(Model::name).collect();
        CommandError::usage(format!(
            "found {:?}, expected one of the network's models: {}",
            args.model,
            names.join(", ")
        ))
    })?;
    let mut backend = args.device.open(std::slice::from_ref(model))?;
    let wallet = args.wallet.open()?;

    let mut client = connect(&network, &args.peer)?;
    let jpeg = args.jpeg.map(|side| (side, args.jpeg_bytes as usize));
    let plan = Plan { senders: args.senders.into(), tasks: args.seconds.saturating_mul(args.rate.into()), jpeg };
    say(format_args!("paying {} senders", args.senders));
    let load = Load::fund(&mut client, &network, model, &wallet, plan, START_TIME)?;
    let follower = Follower::new(&network);
    let mut session = Session { client, network, follower, load };

    let before = Usage::of_all(&args.pid)?;
    let start = Instant::now();
    let (end, mut next_line) = (start + Duration::from_secs(args.seconds), start + PROGRESS);
    while Instant::now() < end {
        session.load.make(args.rate, Instant::now(), &mut *backend)?;
        session.pump(Instant::now() + TICK)?;
        session.tell_progress(start, &mut next_line);
    }
    let (duration, after) = (start.elapsed(), Usage::of_all(&args.pid)?);
    let settle = Duration::from_secs(args.settle);
    while !session.load.is_done() && Instant::now() < end + settle {
        session.pump(Instant::now() + TICK)?;
        session.tell_progress(start, &mut next_line);
    }
    say(format_args!("waiting for one tip"));
    let settled = audit::settle(&mut session, args.peer.len(), settle)?;
    let report = Report::new(args, &session, settled, duration, (&before, &after));
    if output.is_json() {
        output.json(&report)?
    } else {
        print(&report, output)?
    }
    report.verdict(&session.load)
}

/// Joins through all of these nodes.
fn connect(network: &Network, peers: &[String]) -> Result<Client, CommandError> {
    let mut client = Client::connect(std::slice::from_ref(network), peers)?;
    client.find_nodes(peers.len(), CONNECT_TIMEOUT)?;
    let found = client.connections().len();
    if found < peers.len() {
        return Err(CommandError::failed(format!("found {found} nodes, expected {}, one a --peer", peers.len()))
            .with_hint("look which of them runs with `ocelli status --peer MULTIADDR`"));
    }
    Ok(client)
}

/// A light peer, what it hands in and what it sees of the chain.
struct Session {
    client: Client,
    network: Network,
    follower: Follower,
    load: Load,
}

impl Session {
    /// Hands in what is due and takes replies until a time; at least one, if there is one.
    fn pump(&mut self, until: Instant) -> Result<(), ClientError> {
        loop {
            let now = Instant::now();
            self.load.send(&mut self.client, now);
            self.follower.poll(&mut self.client, now);
            match self.client.next_reply(until.min(now + TICK).max(now))? {
                Some(reply) => self.take(reply),
                None if now >= until => return Ok(()),
                None => {}
            }
            if Instant::now() >= until {
                return Ok(());
            }
        }
    }

    /// Asks all at once; the responses in the order of the requests, `None` where there is none in time.
    fn ask(&mut self, requests: impl Iterator<Item = (Peer, Request)>) -> Result<Vec<Option<Response>>, ClientError> {
        let ids: Vec<_> = requests.map(|(peer, request)| self.client.send(peer, &request)).collect();
        let mut responses: Vec<_> = ids.iter().map(|_| None).collect();
        let (mut open, deadline) = (ids.len(), Instant::now() + ANSWER_TIMEOUT);
        while open > 0 {
            let Some(reply) = self.client.next_reply(deadline)? else { break };
            match ids.iter().position(|id| *id == reply.id) {
                Some(place) => {
                    responses[place] = reply.result.ok();
                    open -= 1;
                }
                None => self.take(reply),
            }
        }
        Ok(responses)
    }

    fn take(&mut self, reply: Reply) {
        if let Some(reply) = self.load.on_reply(reply) {
            self.follower.on_reply(reply, |change| self.load.on_change(change));
        }
    }

    fn tell_progress(&self, start: Instant, next: &mut Instant) {
        let now = Instant::now();
        if now < *next {
            return;
        }
        *next = now + PROGRESS;
        say(format_args!(
            "{} s: {} tasks handed in, {} confirmed; block {}, {} nodes",
            (now - start).as_secs(),
            self.load.tasks().len(),
            self.load.seen().confirmed,
            self.follower.height(),
            self.client.connections().len()
        ));
    }
}

impl TaskReport {
    fn of(load: &Load, follower: &Follower) -> Self {
        let mut preliminary: Vec<_> = load.tasks().iter().filter_map(|task| task.preliminary).collect();
        let mut confirmed: Vec<_> = load.tasks().iter().filter_map(|task| task.confirmed).collect();
        preliminary.sort_unstable();
        confirmed.sort_unstable();
        let millis = |percent| percentile(&preliminary, percent).map(|time| rounded(time.as_secs_f64() * 1e3));
        let seconds = |percent| percentile(&confirmed, percent).map(|time| rounded(time.as_secs_f64()));
        let count = follower.count(load.txids());
        let span = load.confirming_time().as_secs_f64();
        Self {
            confirmed_tasks: count.once,
            confirmed_tasks_per_second: rounded(if span > 0.0 { count.once as f64 / span } else { 0.0 }),
            preliminary_ms_p50: millis(50),
            preliminary_ms_p95: millis(95),
            confirmed_s_p50: seconds(50),
            confirmed_s_p95: seconds(95),
            submitted_tasks: load.tasks().len(),
            lost_tasks: load.tasks().len() - count.once - count.repeated,
            repeated_tasks: count.repeated,
            wrong_answers: load.seen().wrong_answers,
            handed_in_again: load.seen().handed_in_again,
        }
    }
}

impl Report {
    fn new(
        args: &Args,
        session: &Session,
        settled: audit::Settled,
        duration: Duration,
        (before, after): (&[Usage], &[Usage]),
    ) -> Self {
        let Session { network, follower, load, .. } = session;
        Self {
            nodes: args.peer.len(),
            same_tip: settled.same_tip,
            tasks: TaskReport::of(load, follower),
            height: follower.height(),
            disconnected_blocks: follower.disconnected(),
            balances_add_up: settled.balances_add_up,
            coins_issued: audit::issued(&network.parameters, follower.height()).to_string(),
            seconds: rounded(duration.as_secs_f64()),
            cpu_percent: before.iter().zip(after).map(|(before, after)| rounded(after.percent_since(before))).collect(),
            memory_mib: after.iter().map(|usage| rounded(usage.resident_bytes as f64 / f64::from(1 << 20))).collect(),
        }
    }

    /// Fails for what the network got wrong.
    fn verdict(&self, load: &Load) -> Result<(), CommandError> {
        let mut faults = Vec::new();
        if !self.same_tip {
            faults.push("the nodes' tips differ".to_owned());
        }
        if !self.balances_add_up {
            faults.push("balances do not add up to the coins issued".to_owned());
        }
        if self.tasks.repeated_tasks > 0 {
            faults.push(format!("{} tasks are on the chain more than once", self.tasks.repeated_tasks));
        }
        if self.tasks.wrong_answers > 0 {
            faults.push(format!("{} answers are not this machine's own", self.tasks.wrong_answers));
        }
        if self.tasks.lost_tasks > 0 {
            faults.push(format!("{} tasks were not confirmed", self.tasks.lost_tasks));
            faults.extend(load.problems().take(3).map(|(txid, why)| format!("{txid}: {why}")));
        }
        if faults.is_empty() {
            return Ok(());
        }
        Err(CommandError::failed("the network failed under the load").with_causes(faults).with_hint(
            "see the nodes' logs; where the machine was only too slow, give a lower --rate or a longer --settle",
        ))
    }
}

fn print(report: &Report, output: &mut Printer) -> Result<(), CommandError> {
    let number = |value: Option<f64>| value.map_or_else(|| "none".into(), |value| format!("{value:.1}"));
    let all = |values: &[f64]| values.iter().map(|value| format!("{value:.0}")).collect::<Vec<_>>().join(", ");
    output.rows(&[
        ("nodes", format!("{}, one tip: {}", report.nodes, report.same_tip)),
        (
            "tasks",
            format!(
                "{} of {} confirmed, {:.1}/s",
                report.tasks.confirmed_tasks, report.tasks.submitted_tasks, report.tasks.confirmed_tasks_per_second
            ),
        ),
        (
            "preliminary answer, ms",
            format!("p50 {}, p95 {}", number(report.tasks.preliminary_ms_p50), number(report.tasks.preliminary_ms_p95)),
        ),
        (
            "confirmation, s",
            format!("p50 {}, p95 {}", number(report.tasks.confirmed_s_p50), number(report.tasks.confirmed_s_p95)),
        ),
        ("blocks", format!("{}, {} taken back", report.height, report.disconnected_blocks)),
        ("credits", format!("{} issued, balances add up: {}", report.coins_issued, report.balances_add_up)),
        ("processor, % of a core", all(&report.cpu_percent)),
        ("memory, MiB", all(&report.memory_mib)),
    ])
}

/// Progress goes to stderr; whether anybody reads it does not matter.
fn say(what: std::fmt::Arguments<'_>) {
    drop(writeln!(io::stderr(), "bench network: {what}"));
}
