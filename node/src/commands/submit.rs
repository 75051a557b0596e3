//! `ocelli submit`.

mod answer;
mod asker;
mod bill;
mod journal;
mod progress;
mod tabled;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ocelli_consensus::Amount;
use ocelli_consensus::block::Classes;
use ocelli_consensus::network::Network;
use ocelli_model::{Attachment, Backend as _, KernelBackend, reference};
use ocelli_protocol::mempool::MAX_PENDING;
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};

use super::error::CommandError;
use super::network_model::{Offered, Wanted};
use super::output::Printer;
use super::peer_option::local_node;
use super::wallet::{check_depth, timeout_parser, too_little};
use super::wallet_option::{WalletOption, address_of};
use super::{evidence, folders, pictures};
use crate::client::{Client, printable};
use answer::{Answer, check_identical, print};
use asker::{Asker, stop_on_signal};
use bill::{Bill, Offer, TOO_MUCH, check_price, check_total, dry_run, estimate, price};
pub(super) use progress::Progress;

/// How long more nodes than the first are looked for.
pub(super) const DISCOVERY_TIME: Duration = Duration::from_secs(3);

/// Tasks that are under way at a time: nodes keep at most [`MAX_PENDING`] of one sender, and some may be there already.
const BATCH: usize = MAX_PENDING / 2;

/// The file whose presence says that the user has been told that pictures become public.
const NOTICE_FILE: &str = "pictures-become-public";

/// Ask the network what is in pictures: sign and submit them, print the nodes' answers and the confirmation
///
/// A JPEG is sent as it is if the network takes it, else without its metadata or encoded anew, as `ocelli picture check` says;
/// what is sent becomes public. The first answers are preliminary, each one node's word; a confirmed answer is part of the
/// chain, where every node has checked it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Pictures (PNG, JPEG, WebP, GIF or BMP), folders of them, patterns, or `-` for a list of files on stdin
    #[arg(value_name = "PICTURE|FOLDER", required = true)]
    images: Vec<PathBuf>,

    /// The network: local, testnet, or a network file [default: testnet, local for `--wallet dev`]
    #[arg(long, value_name = "NAME|FILE")]
    network: Option<String>,

    /// Join the network through the node at this multiaddr; may be repeated [default: the node that runs on this machine,
    /// or the network's bootstrap nodes]
    #[arg(long, value_name = "MULTIADDR")]
    peer: Vec<String>,

    #[command(flatten)]
    wallet: WalletOption,

    /// The model: a name that is built in, the id of a published one or its first digits, its author's name for it, or a
    /// model file [default: the network's first]
    #[arg(long, value_name = "NAME|ID|FILE")]
    model: Option<String>,

    /// What the miner of each picture's block gets, in credits; the model's author gets the royalty besides [default: the
    /// least that nodes take]
    #[arg(long, value_name = "AMOUNT")]
    fee: Option<Amount>,

    /// Ask nothing that costs more than this, fee and royalty together
    #[arg(long, value_name = "AMOUNT")]
    max_fee: Option<Amount>,

    /// Spend at most so much in all; with --csv, what stands in the table already counts
    #[arg(long, value_name = "AMOUNT")]
    max_total: Option<Amount>,

    /// Write a row for each picture to this table, a few dozen tasks at a time, and go on after the last one if it is there: what
    /// it holds is not paid twice
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,

    /// Say what the pictures would cost, with --csv those that the table has no paid answer of, and send nothing
    #[arg(long)]
    estimate: bool,

    /// Say what would be asked, what it would cost and what the wallet would have left, and send nothing; no password is needed
    #[arg(long, conflicts_with = "estimate")]
    dry_run: bool,

    /// Wait for so many confirmations; 0 is content with the preliminary answers
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    wait: u64,

    /// Stop waiting for confirmations after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = timeout_parser())]
    timeout: u64,

    /// Submit to at most so many nodes
    #[arg(long, value_name = "NUMBER", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    nodes: u16,
}

/// A picture that is ready to be asked about.
struct Picture {
    file: String,
    attachment: Attachment,
    /// What this machine says.
    logits: Vec<i32>,
    offer: Offer,
}

impl Picture {
    /// What this machine says, as a block holds it.
    fn classes(&self) -> Classes {
        Classes::of(&self.logits)
    }
}

/// Runs the command.
///
/// # Errors
/// Before anything is sent: for a picture, model, network or wallet that cannot be used, too little balance, and nodes
/// that cannot be reached. Afterwards: if no node takes a task, answers differ, or confirmations do not come in time.
pub fn run(args: &Args, output: &mut Printer) -> Result<(), CommandError> {
    let network = args.wallet.network(args.network.as_deref())?;
    let wanted = Wanted::parse(args.model.as_deref(), &network)?;
    let files = pictures::find(&args.images)?;
    // What can be said without a node is said first.
    let early = match &wanted {
        Wanted::Here(model) if args.csv.is_none() => Some(Bill::of(args, &files, model)?),
        Wanted::Here(_) | Wanted::Published(_) => None,
    };
    if args.estimate {
        return estimate(args, &network, wanted, &files, early, output);
    }
    if args.dry_run {
        return dry_run(args, &network, wanted, &files, early, output);
    }
    let addresses = find_bootstrap(&args.peer, &network)?;
    let wallet = args.wallet.open()?;

    let progress = Progress::start(files.len());
    progress.say("joining the network");
    let mut client = join(args, &network, &addresses)?;
    progress.say("looking for the model");
    let account = client.account(address_of(&wallet))?;
    let offered = wanted.find(&network, &mut client, account.height)?;
    say_that_pictures_become_public(&progress);
    let mut asker = Asker {
        args,
        network: &network,
        addresses: &addresses,
        offered,
        wallet,
        client,
        progress,
        said: BTreeSet::new(),
    };
    if let Some(path) = &args.csv {
        return asker.table(path, files, output);
    }
    let bill = early.map_or_else(|| Bill::of(args, &files, &asker.offered.model), Ok)?;
    let total = bill.check(args, &asker.offered)?;
    if account.balance < total {
        return Err(too_little(&network, address_of(&asker.wallet), account.balance, total));
    }
    let mut answers = Vec::new();
    let done = asker.ask_all(&files, bill.kept, &mut answers);
    asker.progress.finish();
    evidence::warn_of_left(&asker.client);
    // Whatever failed: these are on their way, and paid for.
    if done.is_ok() || !answers.is_empty() {
        print(&answers, output)?;
    }
    done?;
    check_identical(&answers)
}

/// A node that does not know the network's rules confirms nothing.
fn refuse_if_outdated(client: &mut Client) -> Result<(), CommandError> {
    let Some(why) = client.node_status()?.rules.update else { return Ok(()) };
    Err(CommandError::outdated(format!("the node has to be updated, and confirms nothing: {}", printable(&why)))
        .with_hint("update it, or ask another one with --peer"))
}

/// Joins the network, with as many nodes as are to answer.
fn join(args: &Args, network: &Network, addresses: &[String]) -> Result<Client, CommandError> {
    let mut client = Client::connect(std::slice::from_ref(network), addresses)?;
    client.await_named(&args.peer)?;
    client.find_nodes(args.nodes.into(), DISCOVERY_TIME)?;
    client.limit_receivers(args.nodes.into());
    refuse_if_outdated(&mut client)?;
    Ok(client)
}

impl Asker<'_> {
    /// Asks about pictures, batch by batch, of which those of the only one may be kept; `answers` gets what is known of each. A signal to
    /// stop ends it once the nodes have said what they make of what was signed.
    fn ask_all(
        &mut self,
        files: &[PathBuf],
        mut kept: Vec<(String, Attachment)>,
        answers: &mut Vec<Answer>,
    ) -> Result<(), CommandError> {
        let stop = stop_on_signal()?;
        let is_stopped = || stop.load(Ordering::Relaxed);
        let mut spent = Amount::ZERO;
        let mut batches = files.chunks(BATCH).peekable();
        while let Some(batch) = batches.next() {
            if kept.is_empty() {
                kept = self.read_again(batch)?;
            }
            let pictures = self.run_model(std::mem::take(&mut kept))?;
            if is_stopped() {
                return Err(stopped(answers, files.len()));
            }
            let handed_in = self.send(&pictures, spent, |_, _| Ok(()))?;
            let first = answers.len();
            for ((picture, submission), replies) in pictures.iter().zip(&handed_in.submissions).zip(&handed_in.replies)
            {
                // If it fails, those after it would come out of turn.
                answers.push(Answer::of(picture, submission, replies, &self.offered.model, &self.progress)?);
                let total = submission.transaction.total(&self.network.parameters).unwrap_or(Amount(u64::MAX));
                spent = Amount(spent.0.saturating_add(total.0));
            }
            // The next batch has to wait until nodes have room for it.
            let depth = if batches.peek().is_some() { self.args.wait.max(1) } else { self.args.wait };
            if depth == 0 {
                self.progress.set(answers.len());
                continue;
            }
            let deadline = Instant::now() + self.patience();
            let states = self.wait_while(&handed_in.submissions, depth, deadline, |progress, states| {
                progress.set(first + states.iter().filter(|tracked| tracked.state.is_deep(depth)).count());
                !is_stopped()
            })?;
            for (answer, tracked) in answers[first..].iter_mut().zip(&states) {
                if let Some(confirmed) = tracked.state.confirmed() {
                    answer.confirm(confirmed);
                }
            }
            match check_depth(&states, depth, self.args.timeout) {
                Err(_) if is_stopped() => return Err(stopped(answers, files.len())),
                checked => checked?,
            }
        }
        Ok(())
    }

    /// Reads pictures that could be read before.
    fn read_again(&self, files: &[PathBuf]) -> Result<Vec<(String, Attachment)>, CommandError> {
        self.progress.say("reading pictures");
        let (mut found, mut problems) = (Vec::new(), pictures::Problems::default());
        for (file, read) in files.iter().zip(pictures::read_all(files, &self.offered.model)) {
            match read {
                Ok(seen) => found.push((pictures::name(file), seen.attachment)),
                Err(problem) => problems.add(&pictures::name(file), &problem),
            }
        }
        problems.check(files.len(), " any more; those before them were sent").map(|()| found)
    }

    /// What this machine itself says of each picture: with its kernels, and where the model does not fit them, by the reference.
    fn run_model(&self, pictures: Vec<(String, Attachment)>) -> Result<Vec<Picture>, CommandError> {
        self.progress.say("running the model here");
        let Offered { model, royalty } = &self.offered;
        let pixels: Vec<&[u8]> = pictures.iter().map(|(_, attachment)| attachment.pixels.as_slice()).collect();
        let mut backend = KernelBackend::open()?;
        let logits = match backend.logits(model, &pixels) {
            Ok(logits) => logits,
            Err(_) => pixels.into_par_iter().map(|pixels| reference::logits(model, pixels)).collect(),
        };
        let picture = |((file, attachment), logits)| {
            let offer = price(self.args, model, *royalty, &attachment);
            Picture { file, attachment, logits, offer }
        };
        Ok(pictures.into_iter().zip(logits).map(picture).collect())
    }
}

/// Says what a run that was told to stop leaves, and how to go on.
fn stopped(sent: &[Answer], asked: usize) -> CommandError {
    let waiting = sent.iter().filter(|answer| !answer.is_confirmed()).count();
    let sent = match sent.len() {
        0 => "nothing was sent".into(),
        count => format!("{count} of {asked} pictures were sent, {waiting} of which are in no block yet"),
    };
    CommandError::failed(format!("stopped: {sent}")).with_hint(
        "`ocelli chain tx TXID` follows what was sent; name the other pictures to ask about them. With --csv FILE the same command \
         goes on where it ended, and pays for nothing twice",
    )
}

/// Whom to join through: what was given, else the network's bootstrap nodes, else the node of this machine.
pub(super) fn find_bootstrap(given: &[String], network: &Network) -> Result<Vec<String>, CommandError> {
    if !given.is_empty() {
        return Ok(given.to_vec());
    }
    if let Ok(Some(node)) = local_node(network)
        && node.genesis == network.genesis_hash().to_string()
    {
        return Ok(node.addresses.into_iter().chain(network.bootstrap.iter().cloned()).collect());
    }
    if !network.bootstrap.is_empty() {
        return Ok(network.bootstrap.clone());
    }
    Err(no_bootstrap(network))
}

/// Says that nobody is known to join a network through.
fn no_bootstrap(network: &Network) -> CommandError {
    let name = &network.parameters.name;
    CommandError::failed(format!(
        "network {name} has no public bootstrap node yet, none was given, and no node of it runs on this machine"
    ))
    .with_hint(format!(
        "start a node with `ocelli node --network {name}`, or join through one you know with --peer MULTIADDR"
    ))
}

/// Says once, on stderr, that pictures become public.
fn say_that_pictures_become_public(progress: &Progress) {
    // Without a home folder it is said each time.
    let marker = folders::base().ok().map(|folder| folder.join(NOTICE_FILE));
    if marker.as_ref().is_some_and(|marker| marker.exists()) {
        return;
    }
    progress.note(
        "Note: what you submit becomes public. The picture as it is sent, and the answer, go to every node; the answer stays in \
         the chain. This is said only once.",
    );
    if let Some(marker) = marker {
        // If it cannot be written, the note comes again next time.
        let folder = marker.parent().map_or(Ok(()), fs::create_dir_all);
        drop(
            folder.and_then(|()| fs::write(&marker, "The user of this folder was told that pictures become public.\n")),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_without_bootstrap_nodes_says_how_to_start_one() {
        let text = no_bootstrap(&Network::builtin("local").expect("built in")).to_string();
        assert!(text.contains("ocelli node --network local") && text.contains("--peer"), "{text}");
    }
}
