//! `ocelli submit`.

mod journal;
mod tabled;

use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use ocelli_consensus::block::Classes;
use ocelli_consensus::network::Network;
use ocelli_consensus::transaction::Unsigned;
use ocelli_consensus::{Action, Amount, AttachmentHash, Transaction};
use ocelli_model::{Attachment, Backend as _, KernelBackend, Model, attachment, reference};
use ocelli_program::output_file::{Readers, write};
use ocelli_protocol::mempool::MAX_PENDING;
use ocelli_protocol::message::Submission;
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use serde::Serialize;
use serde_json::json;

use super::error::CommandError;
use super::network_model::{Offered, Wanted};
use super::output::{Printer, Whole};
use super::peer_option::local_node;
use super::wallet::{check_depth, timeout_parser, too_little};
use super::wallet_option::{WalletOption, address_of};
use super::{evidence, folders, pictures};
use crate::client::chains::Evidence;
use crate::client::fee::{default_fee, expiry, weight};
use crate::client::submission::{NodeReply, SubmitOutcome};
use crate::client::{Client, printable};
use crate::inference::{facts_of, model_id};
use crate::network::Group;
use crate::task;
use crate::wallet::Wallet;

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

    /// Say what the pictures would cost, and send nothing
    #[arg(long, conflicts_with = "csv")]
    estimate: bool,

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

/// What is printed of one picture.
#[derive(Debug, Serialize)]
struct Answer {
    file: String,
    /// Of the file, whatever was done to it.
    file_sha256: String,
    /// Of what was sent.
    sent_sha256: String,
    /// What was done to the file, for people.
    sent_as: String,
    /// Names what was sent in the chain.
    attachment: String,
    /// Bytes of what was sent.
    bytes: usize,
    label: String,
    /// Of the label, 0 to 1, rounded to 6 decimals: for display.
    probability: f64,
    /// By this machine's own run.
    logits: Vec<i32>,
    /// Of these logits, as a block holds it.
    digest: String,
    /// Nodes that answered.
    answers: usize,
    /// Address groups that these nodes are in; all that run on this machine are one.
    groups: usize,
    /// Nodes that answered and run on this machine.
    local_answers: usize,
    /// Whether all that is known, the confirmed answer included, equals this machine's own run.
    identical: bool,
    txid: String,
    fee: Whole,
    royalty: Whole,
    height: Option<u64>,
    confirmations: u64,
    /// Of the block and those on it, in hexadecimal.
    work: Option<String>,
    /// The lowest height from which on headers were checked.
    checked_from: Option<u64>,
    /// Nodes whose chains hold the block.
    nodes: usize,
    model: String,
    /// From handing it in to the first preliminary answer.
    latency_ms: Option<f64>,
    /// Who said something else than this machine's own run, and what.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    different: Vec<Different>,
}

#[derive(Debug, Serialize)]
struct Different {
    source: String,
    /// The best classes with their logits; none where there is no answer.
    best: Option<Vec<(u16, i32)>>,
}

impl Different {
    fn of(source: String, answer: Option<&Classes>) -> Self {
        Self { source, best: answer.map(|classes| classes.best.clone()) }
    }
}

impl Answer {
    fn confirm(&mut self, evidence: &Evidence) {
        let Evidence { confirmations, work, checked_from, nodes } = *evidence;
        (self.confirmations, self.nodes) = (confirmations, nodes);
        (self.work, self.checked_from) = (Some(format!("{:#x}", work.0)), Some(checked_from));
    }

    /// Where it is confirmed, for people.
    fn standing(&self) -> String {
        let (Some(height), Some(checked_from)) = (self.height, self.checked_from) else { return "unconfirmed".into() };
        let node = if self.nodes == 1 { "node" } else { "nodes" };
        let confirmations = evidence::confirmations(self.confirmations);
        let unchecked = if checked_from == 0 { "" } else { ", the chain before it not checked" };
        format!("block {height}, {confirmations} shown by {} {node}{unchecked}", self.nodes)
    }
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
        Wanted::Here(model) if args.csv.is_none() => Some(read_pictures(&files, model)?),
        Wanted::Here(_) | Wanted::Published(_) => None,
    };
    if args.estimate {
        return estimate(args, &network, wanted, &files, early, output);
    }
    let addresses = find_bootstrap(&args.peer, &network)?;
    let wallet = args.wallet.open()?;

    let progress = Progress::start(files.len());
    progress.say("joining the network");
    let mut client = join(args, &network, &addresses)?;
    progress.say("looking for the model");
    let height = client.account(address_of(&wallet))?.height;
    let offered = wanted.find(&network, &mut client, height)?;
    say_that_pictures_become_public(&progress);
    if let Some(path) = &args.csv {
        let asker = tabled::Asker { args, network: &network, addresses: &addresses, offered, wallet, client, progress };
        return asker.run(path, files, output);
    }
    let pictures = match early {
        Some(pictures) => pictures,
        None => read_pictures(&files, &offered.model)?,
    };
    progress.say("running the model here");
    let offers = pictures.iter().map(|(_, attachment)| price(args, &offered, attachment)).collect();
    let pictures = run_model(pictures, offers, &offered.model)?;
    let submissions = sign(args, &mut client, &network, &offered, &pictures, &wallet, Amount::ZERO)?;
    keep_what_is_sent(&pictures, &submissions, &progress);
    let model = &offered.model;

    let mut answers = Vec::new();
    let done = follow(args, &mut client, model, &pictures, &submissions, &progress, &mut answers);
    progress.finish();
    evidence::warn_of_left(&client);
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
    client.keep_nodes(args.nodes.into());
    refuse_if_outdated(&mut client)?;
    Ok(client)
}

/// Says what pictures would cost. No wallet is needed, and no node for a model that the network has from its beginning.
fn estimate(
    args: &Args,
    network: &Network,
    wanted: Wanted,
    files: &[PathBuf],
    early: Option<Vec<(String, Attachment)>>,
    output: &mut Printer,
) -> Result<(), CommandError> {
    let offered = match wanted {
        Wanted::Here(model) if network.parameters.genesis_facts(&model_id(&model)).is_some() => {
            Offered { model, royalty: Amount::ZERO }
        }
        wanted => {
            let mut client = join(args, network, &find_bootstrap(&args.peer, network)?)?;
            let height = client.chain_status()?.height;
            wanted.find(network, &mut client, height)?
        }
    };
    let pictures = match early {
        Some(pictures) => pictures,
        None => read_pictures(files, &offered.model)?,
    };
    let too_much = || CommandError::usage("fees and royalties together exceed all the credits there can be");
    let (mut fees, mut royalties, mut bytes) = (Amount::ZERO, Amount::ZERO, 0);
    for (_, attachment) in &pictures {
        let (_, fee) = price(args, &offered, attachment);
        fees = fees.checked_add(fee).ok_or_else(too_much)?;
        royalties = royalties.checked_add(offered.royalty).ok_or_else(too_much)?;
        bytes += attachment.bytes.len();
    }
    let total = fees.checked_add(royalties).ok_or_else(too_much)?;
    if output.is_json() {
        return output.json(&json!({
            "pictures": pictures.len(), "bytes": bytes, "fees": fees.to_string(), "royalties": royalties.to_string(),
            "total": total.to_string(), "model": offered.model.name(), "network": network.parameters.name,
        }));
    }
    output.rows(&[
        ("pictures", format!("{}, {bytes} bytes as they are sent", pictures.len())),
        ("fees", format!("{fees} credits, the least that nodes take unless --fee says otherwise")),
        ("royalties", format!("{royalties} credits to the author of {}", offered.model.name())),
        ("total", format!("{total} credits on network {}", network.parameters.name)),
    ])
}

/// What a task of a picture does, and the fee that it offers.
type Offer = (Action, Amount);

/// What one picture costs.
fn price(args: &Args, offered: &Offered, attachment: &Attachment) -> Offer {
    let action = task::classify(&offered.model, offered.royalty, attachment);
    let fee = args.fee.unwrap_or_else(|| default_fee(weight(&action, Some(&facts_of(&offered.model)))));
    (action, fee)
}

/// Why a picture is not asked about: it costs more than is allowed for one.
fn check_price(args: &Args, offered: &Offered, fee: Amount) -> Result<(), String> {
    let (price, most) = (fee.checked_add(offered.royalty), args.max_fee.unwrap_or(Amount(u64::MAX)));
    match price {
        Some(price) if price <= most => Ok(()),
        Some(price) => Err(format!("costs {price} credits, at most {most} are allowed by --max-fee")),
        None => Err("costs more than all the credits there can be".into()),
    }
}

/// Hands the pictures in, batch by batch, and waits for what becomes of them; `answers` gets what is known of each.
fn follow(
    args: &Args,
    client: &mut Client,
    model: &Model,
    pictures: &[Picture],
    submissions: &[Submission],
    progress: &Progress,
    answers: &mut Vec<Answer>,
) -> Result<(), CommandError> {
    let mut batches = pictures.chunks(BATCH).zip(submissions.chunks(BATCH)).peekable();
    while let Some((pictures, submissions)) = batches.next() {
        let first = answers.len();
        progress.say("waiting for preliminary answers");
        let replies = client.submit(submissions, |_, _| {})?;
        for ((picture, submission), replies) in pictures.iter().zip(submissions).zip(&replies) {
            // If it fails, those after it would come out of turn.
            answers.push(answer(picture, submission, replies, model, progress)?);
        }
        // The next batch has to wait until nodes have room for it.
        let depth = if batches.peek().is_some() { args.wait.max(1) } else { args.wait };
        if depth > 0 {
            progress.say("waiting for confirmations");
            let time = Duration::from_secs(args.timeout);
            let states = client.wait(submissions, depth, time, |states| {
                let done = states.iter().filter(|tracked| tracked.state.is_deep(depth)).count();
                progress.set(first + done);
            })?;
            for (answer, tracked) in answers[first..].iter_mut().zip(&states) {
                if let Some(confirmed) = tracked.state.confirmed() {
                    answer.height = Some(confirmed.header.height);
                    answer.confirm(&confirmed.evidence);
                    let found = confirmed.answer.classes();
                    if found != Some(&Classes::of(&answer.logits)) {
                        let source = format!("block {}", confirmed.header.height);
                        answer.identical = false;
                        answer.different.push(Different::of(source, found));
                    }
                }
            }
            check_depth(&states, depth, args.timeout)?;
        } else {
            progress.set(answers.len());
        }
    }
    Ok(())
}

/// Makes what is sent of all pictures: file and attachment of each. Says of all that cannot be used.
///
/// One after the other, as decoding a large picture takes much memory.
fn read_pictures(files: &[PathBuf], model: &Model) -> Result<Vec<(String, Attachment)>, CommandError> {
    let mut pictures = Vec::new();
    let mut problems = Vec::new();
    for path in files {
        let file = path.display().to_string();
        match pictures::read(path, model) {
            Ok((attachment, _)) => pictures.push((file, attachment)),
            Err(error) => problems.push(format!("{file}: {}", error.one_line())),
        }
    }
    if problems.is_empty() {
        return Ok(pictures);
    }
    Err(CommandError::failed(format!(
        "{} of {} pictures cannot be used; nothing was sent",
        problems.len(),
        files.len()
    ))
    .with_causes(problems)
    .with_hint("give PNG, JPEG, WebP, GIF or BMP files that you may read"))
}

/// What this machine itself says of each picture: with its kernels, and where the model does not fit them, by the reference.
fn run_model(
    pictures: Vec<(String, Attachment)>,
    offers: Vec<Offer>,
    model: &Model,
) -> Result<Vec<Picture>, CommandError> {
    let pixels: Vec<&[u8]> = pictures.iter().map(|(_, attachment)| attachment.pixels.as_slice()).collect();
    let mut backend = KernelBackend::open()?;
    let logits = match backend.logits(model, &pixels) {
        Ok(logits) => logits,
        Err(_) => pixels.into_par_iter().map(|pixels| reference::logits(model, pixels)).collect(),
    };
    let picture = |(((file, attachment), logits), offer)| Picture { file, attachment, logits, offer };
    Ok(pictures.into_iter().zip(logits).zip(offers).map(picture).collect())
}

/// Keeps what is sent where that is not the file itself, with the hashes of both, as encoding a picture anew cannot be repeated.
fn keep_what_is_sent(pictures: &[Picture], submissions: &[Submission], progress: &Progress) {
    let Ok(folder) = folders::base().map(|base| base.join("sent")) else { return };
    for (picture, submission) in pictures.iter().zip(submissions) {
        let Picture { file, attachment, .. } = picture;
        let (txid, hash) = (submission.transaction.txid(), AttachmentHash::of(&attachment.bytes));
        let note = json!({
            "txid": txid,
            "file": file,
            "file_sha256": hex::encode(attachment.file_hash),
            "sent_sha256": hex::encode(attachment.sent_hash),
            "attachment": hash,
            "sent_as": attachment.done.to_string(),
        });
        let end = if attachment.form == attachment::Form::Pixels { "pixels" } else { "jpg" };
        let kept = fs::create_dir_all(&folder).and_then(|()| {
            if attachment.done != attachment::Done::AsItIs {
                write(&folder.join(format!("{hash}.{end}")), &attachment.bytes, Readers::Owner)?;
            }
            write(&folder.join(format!("{txid}.json")), format!("{note}\n").as_bytes(), Readers::Owner)
        });
        if let Err(error) = kept {
            return progress.note(&format!("warning: what is sent is not kept in {}: {error}", folder.display()));
        }
    }
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

/// Signs a task for every picture, with consecutive nonces, after looking whether the wallet can pay for all and may: `spent` was
/// before.
fn sign(
    args: &Args,
    client: &mut Client,
    network: &Network,
    offered: &Offered,
    pictures: &[Picture],
    wallet: &Wallet,
    spent: Amount,
) -> Result<Vec<Submission>, CommandError> {
    let from = address_of(wallet);
    let account = client.account(from)?;
    let mut needed = Amount::ZERO;
    let mut submissions = Vec::new();
    for (nonce, picture) in (account.next_nonce..).zip(pictures) {
        let (action, fee) = picture.offer.clone();
        check_price(args, offered, fee).map_err(|problem| {
            CommandError::failed(format!("{} {problem}; nothing was sent", picture.file))
                .with_hint("allow more, or send smaller pictures: `ocelli submit --estimate` tells the price")
        })?;
        let unsigned = Unsigned { nonce, fee, expires: expiry(account.height), action };
        let transaction =
            Transaction::sign(unsigned, wallet.public_key(), network.genesis_hash(), |hash| wallet.sign(hash));
        let total = transaction.total(&network.parameters).and_then(|total| needed.checked_add(total));
        needed = total
            .ok_or_else(|| CommandError::usage("fees and royalties together exceed all the credits there can be"))?;
        let attachment = picture.attachment.bytes.as_slice().into();
        submissions.push(Submission { transaction, attachment: Some(attachment) });
    }
    if let Some(most) = args.max_total
        && spent.checked_add(needed).is_none_or(|total| total > most)
    {
        return Err(CommandError::failed(format!(
            "the next {} pictures cost {needed} credits, {spent} were spent before, and --max-total is {most}",
            pictures.len()
        ))
        .with_hint("allow more, or be content with what was answered"));
    }
    if account.balance < needed {
        return Err(too_little(network, from, account.balance, needed));
    }
    Ok(submissions)
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

/// Puts together what the nodes said of one picture.
fn answer(
    picture: &Picture,
    submission: &Submission,
    replies: &[NodeReply],
    model: &Model,
    progress: &Progress,
) -> Result<Answer, CommandError> {
    let txid = submission.transaction.txid();
    let problems: Vec<_> = replies
        .iter()
        .filter_map(|reply| reply.outcome.problem().map(|problem| format!("{}: {problem}", reply.address)))
        .collect();
    if problems.len() == replies.len() {
        return Err(CommandError::failed(format!("no node takes {}, transaction {txid}", picture.file))
            .with_causes(problems)
            .with_hint(
                "try again, one submission at a time from a wallet; if a fee is too low, offer more with --fee",
            ));
    }
    for problem in &problems {
        progress.note(&format!("warning: {}: {problem}", picture.file));
    }
    let answered: Vec<_> = replies
        .iter()
        .filter_map(|reply| match &reply.outcome {
            SubmitOutcome::Answered(classes) => Some((reply, classes)),
            _ => None,
        })
        .collect();
    let own = picture.classes();
    let different: Vec<_> = answered
        .iter()
        .filter(|(_, classes)| **classes != own)
        .map(|(reply, classes)| Different::of(reply.address.clone(), Some(classes)))
        .collect();
    let addresses = || answered.iter().map(|(reply, _)| reply.address.as_str());
    let sent = replies.iter().map(|reply| reply.sent).min();
    let received = answered.iter().map(|(reply, _)| reply.received).min();
    let latency = sent.zip(received).map(|(sent, received)| received.saturating_duration_since(sent));
    let label = model.label(&picture.logits);
    let probability = model.probabilities(&picture.logits).get(label).copied().unwrap_or_default();
    let Unsigned { fee, ref action, .. } = submission.transaction.unsigned;
    let royalty = if let Action::Classify { royalty, .. } = action { *royalty } else { Amount::ZERO };
    let sent = &picture.attachment;
    Ok(Answer {
        file: picture.file.clone(),
        file_sha256: hex::encode(sent.file_hash),
        sent_sha256: hex::encode(sent.sent_hash),
        sent_as: sent.done.to_string(),
        attachment: AttachmentHash::of(&sent.bytes).to_string(),
        bytes: sent.bytes.len(),
        label: model.classes().get(label).cloned().unwrap_or_else(|| label.to_string()),
        probability: (probability * 1e6).round() / 1e6,
        logits: picture.logits.clone(),
        digest: own.digest.to_string(),
        answers: answered.len(),
        groups: Group::count_answers(addresses()),
        local_answers: addresses().filter(|address| Group::is_this_machine(address)).count(),
        identical: different.is_empty(),
        txid: txid.to_string(),
        fee: Whole(fee.0),
        royalty: Whole(royalty.0),
        height: None,
        confirmations: 0,
        work: None,
        checked_from: None,
        nodes: 0,
        model: model.name().to_owned(),
        latency_ms: latency.map(|latency| (latency.as_secs_f64() * 1e6).round() / 1e3),
        different,
    })
}

fn print(answers: &[Answer], output: &mut Printer) -> Result<(), CommandError> {
    if output.is_json() {
        return output.json(&answers);
    }
    let widest =
        |text: fn(&Answer) -> &str| answers.iter().map(|answer| text(answer).chars().count()).max().unwrap_or(0);
    let (files, labels) = (widest(|answer| &answer.file), widest(|answer| &answer.label));
    for answer in answers {
        let nodes = who_answered(answer);
        output.line(format_args!(
            "{:<files$}  {:<labels$} {:>5.1} %  {nodes}; {}; {}",
            answer.file,
            answer.label,
            answer.probability * 100.0,
            answer.standing(),
            answer.txid
        ))?;
        output.line(format_args!(
            "{:<files$}  sent as {}, {} bytes; SHA-256 of the file {}, of what was sent {}",
            "", answer.sent_as, answer.bytes, answer.file_sha256, answer.sent_sha256
        ))?;
    }
    Ok(())
}

/// Who answered, and whether it is what this machine computes. Many nodes of one owner are cheap, so their groups count.
fn who_answered(answer: &Answer) -> String {
    let &Answer { answers, groups, local_answers, identical, .. } = answer;
    let nodes = if answers == 1 { "1 node".into() } else { format!("{answers} nodes") };
    let who = match (answers, local_answers) {
        (0, _) if identical => return "no preliminary answer".into(),
        (0, _) => "the chain".into(),
        (all, local) if all == local => format!("{nodes} of this machine"),
        (1, _) => nodes,
        (_, 0) => format!("{nodes} in {}", address_groups(groups)),
        (_, local) => format!("{nodes} in {} ({local} on this machine)", address_groups(groups)),
    };
    let agreement = if identical { "the same as" } else { "DIFFERENT from" };
    format!("{who} answered, {agreement} this machine's own run")
}

fn address_groups(count: usize) -> String {
    if count == 1 { "1 address group".into() } else { format!("{count} address groups") }
}

/// Fails loudly if anybody says something else than this machine's own run.
fn check_identical(answers: &[Answer]) -> Result<(), CommandError> {
    let differences: Vec<_> = answers
        .iter()
        .flat_map(|answer| {
            let own = Classes::of(&answer.logits).best;
            answer.different.iter().map(move |different| match &different.best {
                Some(best) => {
                    format!("{}: {} says {best:?}, this machine {own:?}", answer.file, different.source)
                }
                None => format!("{}: {} holds no answer", answer.file, different.source),
            })
        })
        .collect();
    if differences.is_empty() {
        return Ok(());
    }
    Err(CommandError::failed(format!("ANSWERS DIFFER: {} are not what this machine computes", differences.len()))
        .with_causes(differences)
        .with_hint(
            "one of the two computes wrongly or lies, and every run of a model must give the same bits: compare with \
             another machine, and report it",
        ))
}

/// A bar on stderr, where that is a terminal.
pub(super) struct Progress(ProgressBar);

impl Progress {
    pub(super) fn start(length: usize) -> Self {
        let bar = ProgressBar::new(length as u64);
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} ({elapsed})")
            .expect("the template is a constant, and a test draws it");
        Self(bar.with_style(style))
    }

    pub(super) fn say(&self, what: &'static str) {
        self.0.set_message(what);
        self.0.tick();
    }

    pub(super) fn set(&self, done: usize) {
        self.0.set_position(done as u64);
    }

    /// Writes a line to stderr, above the bar. Without a stderr nobody is told, and the work goes on.
    pub(super) fn note(&self, text: &str) {
        if io::stderr().is_terminal() {
            self.0.println(text);
        } else {
            drop(writeln!(io::stderr(), "{text}"));
        }
    }

    pub(super) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network {
        Network::builtin("local").expect("built in")
    }

    #[test]
    fn the_bar_draws() {
        let progress = Progress::start(2);
        progress.say("x");
        progress.set(1);
        progress.finish();
    }

    #[test]
    fn a_network_without_bootstrap_nodes_says_how_to_start_one() {
        let text = no_bootstrap(&network()).to_string();
        assert!(text.contains("ocelli node --network local") && text.contains("--peer"), "{text}");
    }

    fn answered() -> Answer {
        Answer {
            file: "cat.png".into(),
            file_sha256: String::new(),
            sent_sha256: String::new(),
            sent_as: "the file as it is".into(),
            attachment: String::new(),
            bytes: 1,
            label: "cat".into(),
            probability: 0.5,
            logits: vec![1, 2],
            digest: String::new(),
            answers: 1,
            groups: 1,
            local_answers: 0,
            identical: true,
            txid: String::new(),
            fee: Whole(1),
            royalty: Whole(0),
            height: None,
            confirmations: 0,
            work: None,
            checked_from: None,
            nodes: 0,
            model: "m".into(),
            latency_ms: None,
            different: Vec::new(),
        }
    }

    #[test]
    fn who_answered_is_said_as_it_is() {
        for (answers, groups, local_answers, identical, expected) in [
            (0, 0, 0, true, "no preliminary answer"),
            (0, 0, 0, false, "the chain answered, DIFFERENT from this machine's own run"),
            (1, 1, 0, true, "1 node answered, the same as this machine's own run"),
            (1, 1, 1, true, "1 node of this machine answered, the same as this machine's own run"),
            (3, 1, 3, true, "3 nodes of this machine answered, the same as this machine's own run"),
            (3, 1, 0, true, "3 nodes in 1 address group answered, the same as this machine's own run"),
            (3, 2, 0, false, "3 nodes in 2 address groups answered, DIFFERENT from this machine's own run"),
            (
                3,
                2,
                2,
                true,
                "3 nodes in 2 address groups (2 on this machine) answered, the same as this machine's own run",
            ),
        ] {
            let answer = Answer { answers, groups, local_answers, identical, ..answered() };
            assert_eq!(who_answered(&answer), expected);
        }
    }

    #[test]
    fn a_difference_is_loud() {
        let mut answer = answered();
        assert!(check_identical(std::slice::from_ref(&answer)).is_ok());
        answer.different.push(Different { source: "/ip4/127.0.0.1/tcp/1".into(), best: Some(vec![(1, 3), (0, 1)]) });
        let text = check_identical(&[answer]).unwrap_err().to_string();
        assert!(
            text.contains("cat.png: /ip4/127.0.0.1/tcp/1 says [(1, 3), (0, 1)], this machine [(1, 2), (0, 1)]"),
            "{text}"
        );
    }
}
