//! `ocelli model publish`.
//!
//! What is to be done next follows from the upload's state alone, as the chain has it: so a publication that was interrupted, or
//! taken back by a reorganisation, goes on where it stands when the command is run again.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use ocelli_consensus::hash::{PartsHash, UploadHash};
use ocelli_consensus::object::{MAX_ATTACHMENT_BYTES, MAX_FILE_BYTES, ModelFacts, UploadRecord};
use ocelli_consensus::parameters::Parameters;
use ocelli_consensus::transaction::Unsigned;
use ocelli_consensus::{Action, Address, Amount, AttachmentHash, ModelId, Network, Transaction, TxId};
use ocelli_model::Model;
use ocelli_program::input_file::read_bounded;
use ocelli_protocol::message::{FeeSuggestion, Submission};
use serde_json::json;

use super::super::error::{CommandError, Explain as _};
use super::super::evidence;
use super::super::output::{Printer, Whole};
use super::super::peer_option::PeerOption;
use super::super::submit::Progress;
use super::super::turn;
use super::super::wallet::{check_depth, timeout_parser, too_little};
use super::super::wallet_option::{WalletOption, address_of};
use crate::client::Client;
use crate::client::account::Known;
use crate::client::confirmation::Confirmed;
use crate::client::fee::{default_fee, expiry, weight};
use crate::inference::{facts_of, model_id};
use crate::json::both;
use crate::turn::Turn;
use crate::wallet::Wallet;

/// Blocks between the beginning of an upload and its first part.
const PAUSE_BLOCKS: u64 = 8;
/// What publishing burns besides the price of the file's bytes, in bytes.
const PUBLISH_BYTES: u64 = 65_536;
/// Parts that are under way at a time: about what a block holds.
const BATCH: usize = 16;
/// How often it is looked whether the chain has gone on.
const POLL: Duration = Duration::from_millis(500);
/// For how many blocks the fee is to be enough.
const FEE_BLOCKS: u32 = 2;

/// Publish a model on a network: upload its file in parts and make it one that everybody can ask
///
/// Says first what it costs. What the file's bytes cost is burned, and cannot be had back. Whoever asks the model pays its author
/// the royalty; but a copy of the file with another byte in it is another model, whose author owes you nothing. A
/// publication that was interrupted goes on when the command is run again.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model file, as `ocelli model quantize` and `ocelli model import` write it
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// What the author gets for each task, in credits; it cannot be changed later
    #[arg(long, value_name = "AMOUNT")]
    royalty: Amount,

    /// Say what it would cost, and do nothing
    #[arg(long)]
    dry_run: bool,

    /// Give up another upload that this wallet has under way, or one whose time is over: what its parts have cost is lost
    #[arg(long)]
    replace: bool,

    /// Wait for so many confirmations of the publication
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    wait: u64,

    /// Stop waiting after so many seconds without progress
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = timeout_parser())]
    timeout: u64,

    #[command(flatten)]
    wallet: WalletOption,

    #[command(flatten)]
    peer: PeerOption,
}

/// The file that is published, and by whom.
struct Publication {
    file: Vec<u8>,
    name: String,
    id: ModelId,
    facts: ModelFacts,
    royalty: Amount,
    sender: Address,
}

/// What a publication costs from where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cost {
    /// What the parts and the publication burn.
    burned: Amount,
    fees: Amount,
}

impl Cost {
    fn total(self) -> Option<Amount> {
        self.burned.checked_add(self.fees)
    }
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Begin the upload.
    Begin,
    /// Upload parts from this one on.
    Parts {
        next: usize,
    },
    Publish,
}

impl Publication {
    fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.file.chunks(MAX_ATTACHMENT_BYTES)
    }

    /// Whether an upload is that of this file, as far as it has come.
    fn is_of(&self, upload: &UploadRecord) -> bool {
        let sent = self.parts().take(upload.next.into());
        let parts = sent.fold(PartsHash::default(), |parts, part| parts.with(AttachmentHash::of(part)));
        let file = UploadHash::of(&self.sender, &self.id);
        (upload.file, upload.size, upload.parts) == (file, self.facts.size, parts)
    }

    /// What is to be done next, by the upload that stands in the state. `height` is that of the next block.
    fn next(&self, upload: Option<&UploadRecord>, height: u64, parameters: &Parameters) -> (Step, Option<Lost>) {
        let Some(upload) = upload else { return (Step::Begin, None) };
        let lost = |why| (Step::Begin, (upload.next > 0).then_some(Lost { why, parts: upload.next }));
        if !self.is_of(upload) {
            return lost("it is of another file");
        }
        if height >= upload.since.saturating_add(parameters.upload_window) {
            return lost("its time is over");
        }
        let next = usize::from(upload.next);
        let step = if next < self.parts().count() { Step::Parts { next } } else { Step::Publish };
        (step, None)
    }

    fn begin(&self) -> Action {
        Action::Upload { file: UploadHash::of(&self.sender, &self.id), size: self.facts.size }
    }

    fn part(number: usize, part: &[u8]) -> Action {
        // A file has at most 256 parts of at most 2^18 bytes.
        Action::Part { number: number as u16, bytes: part.len() as u32, data: AttachmentHash::of(part) }
    }

    fn publish(&self) -> Action {
        Action::Publish { model: self.id, facts: self.facts, royalty: self.royalty }
    }

    /// What is left to pay from a step on; `None` where that exceeds all the credits there can be.
    fn cost(&self, step: &Step, price: Amount, fee: FeeSuggestion) -> Option<Cost> {
        let from = match step {
            Step::Begin => 0,
            Step::Parts { next } => *next,
            Step::Publish => usize::MAX,
        };
        let mut actions = vec![self.publish()];
        if *step == Step::Begin {
            actions.push(self.begin());
        }
        actions.extend(self.parts().enumerate().skip(from).map(|(number, part)| Self::part(number, part)));
        let bytes: u64 = self.parts().skip(from).map(|part| part.len() as u64).sum();
        let burned = bytes.checked_add(PUBLISH_BYTES)?.checked_mul(price.0)?;
        let fees = actions.iter().try_fold(Amount::ZERO, |sum, action| sum.checked_add(fee_of(action, fee)))?;
        Some(Cost { burned: Amount(burned), fees })
    }
}

/// An upload that would be given up.
#[derive(Debug, PartialEq, Eq)]
struct Lost {
    why: &'static str,
    /// How many parts of it are paid for.
    parts: u16,
}

fn fee_of(action: &Action, suggestion: FeeSuggestion) -> Amount {
    let weight = weight(action, None);
    default_fee(weight).max(suggestion.fee(weight))
}

/// Runs the command.
///
/// # Errors
/// For a file that is no model, a wallet that cannot be used or holds too little, nodes that cannot be reached, and where the
/// chain does not go on in time.
pub fn run(args: &Args, output: &mut Printer) -> Result<(), CommandError> {
    let path = args.file.display();
    let file =
        read_bounded(&args.file, MAX_FILE_BYTES as usize).context(|| format!("cannot read the model file {path}"))?;
    let model = Model::from_bytes(&file)
        .context(|| format!("{path} is not a model that nodes run"))
        .hint(|| "give a file that `ocelli model quantize`, `import` or `export` wrote")?;
    // A dry run needs no password.
    let (sender, wallet) = match args.dry_run {
        true => (args.wallet.address()?, None),
        false => {
            let wallet = args.wallet.open()?;
            (address_of(&wallet), Some(wallet))
        }
    };
    let (id, facts, name) = (model_id(&model), facts_of(&model), model.name().to_owned());
    let publication = Publication { file, name, id, facts, royalty: args.royalty, sender };
    let mut client = args.peer.connect()?;
    let network = client.network().clone();
    args.wallet.check(&network)?;
    if let Some(there) = client.model(id)? {
        let author = there.record.author.to_text(&network.parameters.address_prefix);
        return Err(CommandError::failed(format!(
            "network {} has model {id} already, by {author}",
            network.parameters.name
        ))
        .with_hint(
            "ask it with `ocelli submit --model`; another file, with another name in it for example, is another model",
        ));
    }
    let account = client.account(sender)?;
    let fee = client.fee(FEE_BLOCKS)?.fee;
    let upload = client.upload(sender)?;
    let (step, lost) = publication.next(upload.as_ref(), account.height.saturating_add(1), &network.parameters);
    let cost = publication.cost(&step, network.parameters.model_price, fee);
    let cost = cost.and_then(|cost| Some((cost, cost.total()?)));
    let (cost, total) = cost.ok_or_else(|| CommandError::failed("it costs more than all the credits there can be"))?;
    let terms = Terms { publication: &publication, network: &network, step: &step, cost, total };
    let wallet = match wallet {
        Some(wallet) => wallet,
        None => return terms.print(&account, output),
    };
    if let Some(Lost { why, parts }) = lost.filter(|_| !args.replace) {
        return Err(CommandError::failed(format!(
            "the wallet has an upload under way, {parts} parts of which are paid for, and it cannot go on: {why}"
        ))
        .with_hint("finish that one, or give it up with --replace"));
    }
    if account.balance < total {
        return Err(too_little(&network, sender, account.balance, total));
    }
    let progress = Progress::start(publication.parts().count());
    for line in terms.lines() {
        progress.note(&line);
    }
    let run = Run { args, publication: &publication, network: &network, wallet: &wallet, fee, progress: &progress };
    let done = run.to_the_end(&mut client);
    progress.finish();
    evidence::warn_of_left(&client);
    let published = done?;
    if output.is_json() {
        return output.json(&json!({
            "model": id,
            "name": publication.name,
            "bytes": publication.facts.size,
            "royalty": Whole(publication.royalty.0),
            "burned": Whole(cost.burned.0),
            "fees": Whole(cost.fees.0),
            "txid": published.txid,
            "height": published.confirmed.header.height,
            "confirmations": published.confirmed.evidence.confirmations,
            "evidence": evidence::json(&published.confirmed.evidence),
            "first": published.first,
        }));
    }
    output.rows(&[
        ("model", id.to_string()),
        ("transaction", published.txid.to_string()),
        ("published", format!("in block {}, {}", published.confirmed.header.height, published.confirmed.evidence)),
        ("asked", format!("from block {} on: `ocelli submit --model {id} PICTURE`", published.first)),
    ])
}

/// What is said before anything is paid.
struct Terms<'a> {
    publication: &'a Publication,
    network: &'a Network,
    step: &'a Step,
    cost: Cost,
    total: Amount,
}

impl Terms<'_> {
    fn lines(&self) -> Vec<String> {
        let Self { publication, network, cost, total, .. } = self;
        let all = publication.parts().count();
        let left = match self.step {
            Step::Begin => all,
            Step::Parts { next } => all - next,
            Step::Publish => 0,
        };
        let going_on = if left < all { format!(", {} of which are on the chain", all - left) } else { String::new() };
        vec![
            format!(
                "{} ({}), {} bytes in {all} parts{going_on}",
                publication.name, publication.id, publication.facts.size
            ),
            format!("costs {total} credits: {} are burned, {} are fees", cost.burned, cost.fees),
            format!(
                "whoever asks it pays {} credits to {}",
                publication.royalty,
                publication.sender.to_text(&network.parameters.address_prefix)
            ),
            "the file becomes public for good; a copy of it with another byte is another model, and owes you no royalty".into(),
        ]
    }

    fn print(&self, account: &Known, output: &mut Printer) -> Result<(), CommandError> {
        let Self { publication, cost, total, .. } = self;
        if output.is_json() {
            let fields = json!({
                "model": publication.id,
                "name": publication.name,
                "bytes": publication.facts.size,
                "parts": publication.parts().count(),
                "royalty": Whole(publication.royalty.0),
                "burned": Whole(cost.burned.0),
                "fees": Whole(cost.fees.0),
                "total": Whole(total.0),
                "balance": Whole(account.balance.0),
            });
            return output.json(&both(fields, evidence::account_json(account)));
        }
        for line in self.lines() {
            output.line(line)?;
        }
        let (balance, checked) = (account.balance, evidence::of_account(account));
        output.line(format_args!("the wallet has {balance} credits, {checked}; nothing was sent"))
    }
}

/// A publication under way.
struct Run<'a> {
    args: &'a Args,
    publication: &'a Publication,
    network: &'a Network,
    wallet: &'a Wallet,
    fee: FeeSuggestion,
    progress: &'a Progress,
}

struct Published {
    txid: TxId,
    confirmed: Confirmed,
    /// The first block in which it may be asked.
    first: u64,
}

impl Run<'_> {
    fn to_the_end(&self, client: &mut Client) -> Result<Published, CommandError> {
        let mut last = (None, Instant::now());
        loop {
            let turn = turn::wait(self.publication.sender, Duration::from_secs(self.args.timeout))?;
            let account = client.account(self.publication.sender)?;
            let upload = client.upload(self.publication.sender)?;
            let height = account.height.saturating_add(1);
            // What is under way is waited for: the next step follows from what comes of it.
            let is_pending = account.next_nonce > account.nonce;
            let stands = Some((upload, account.nonce, height));
            if last.0 != stands {
                last = (stands, Instant::now());
            } else if last.1.elapsed() > Duration::from_secs(self.args.timeout) {
                return Err(CommandError::failed(format!("nothing has happened for {} s", self.args.timeout))
                    .with_hint("see with `ocelli status` whether blocks come at all; run the command again to go on"));
            }
            if is_pending {
                drop(turn);
                self.progress.say("waiting for what is under way");
                client.pause(Instant::now() + POLL)?;
                continue;
            }
            match self.publication.next(upload.as_ref(), height, &self.network.parameters) {
                (Step::Begin, Some(Lost { why, .. })) if !self.args.replace => {
                    return Err(CommandError::failed(format!("the upload cannot go on: {why}"))
                        .with_hint("begin again with --replace: what the parts have cost is lost"));
                }
                (Step::Begin, _) => {
                    self.progress.say("beginning the upload");
                    self.send(client, turn, vec![(self.publication.begin(), None)], &account, 1)?;
                }
                (Step::Parts { next }, _) => {
                    self.progress.set(next);
                    let since = upload.map_or(0, |upload| upload.since);
                    if height < since.saturating_add(PAUSE_BLOCKS) {
                        drop(turn);
                        self.progress.say("waiting until parts may come");
                        client.pause(Instant::now() + POLL)?;
                        continue;
                    }
                    self.progress.say("uploading");
                    let parts = self.publication.parts().enumerate().skip(next).take(BATCH);
                    let parts = parts.map(|(number, part)| (Publication::part(number, part), Some(part)));
                    self.send(client, turn, parts.collect(), &account, 1)?;
                }
                (Step::Publish, _) => {
                    self.progress.set(self.publication.parts().count());
                    self.progress.say("publishing");
                    let action = vec![(self.publication.publish(), None)];
                    let (txid, confirmed) = self.send(client, turn, action, &account, self.args.wait)?;
                    let first = confirmed.header.height.saturating_add(self.network.parameters.model_delay);
                    return Ok(Published { txid, confirmed, first });
                }
            }
        }
    }

    /// Sends transactions and waits until all are confirmed; the id of the last, and where it is.
    fn send(
        &self,
        client: &mut Client,
        turn: Turn,
        actions: Vec<(Action, Option<&[u8]>)>,
        account: &Known,
        depth: u64,
    ) -> Result<(TxId, Confirmed), CommandError> {
        let sign = |(nonce, (action, attachment)): (u64, (Action, Option<&[u8]>))| {
            let unsigned = Unsigned { nonce, fee: fee_of(&action, self.fee), expires: expiry(account.height), action };
            let (key, genesis) = (self.wallet.public_key(), self.network.genesis_hash());
            let transaction = Transaction::sign(unsigned, key, genesis, |hash| self.wallet.sign(hash));
            Submission { transaction, attachment: attachment.map(Into::into) }
        };
        let submissions: Vec<_> = (account.nonce..).zip(actions).map(sign).collect();
        for submission in &submissions {
            client.hand_in(submission)?;
        }
        drop(turn);
        let states = client.wait(&submissions, depth, Duration::from_secs(self.args.timeout), |_, incidents| {
            self.progress.tell_of(incidents);
        })?;
        check_depth(&states, depth, self.args.timeout)?;
        let last = states.last().and_then(|tracked| Some((tracked.txid, tracked.state.confirmed()?.clone())));
        last.ok_or_else(|| CommandError::failed("nothing was sent"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two whole parts and 7 bytes.
    fn publication() -> Publication {
        let file: Vec<u8> = (0..2 * MAX_ATTACHMENT_BYTES + 7).map(|i| (i % 251) as u8).collect();
        let size = file.len() as u32;
        let facts = ModelFacts { size, channels: 3, height: 8, width: 8, classes: 2, cost: 20_000 };
        let (name, id) = ("m".into(), ModelId::of(&file));
        Publication { file, name, id, facts, royalty: Amount(5), sender: Address([1; 20]) }
    }

    fn upload(publication: &Publication, next: u16) -> UploadRecord {
        let parts = publication.parts().take(next.into());
        let parts = parts.fold(PartsHash::default(), |parts, part| parts.with(AttachmentHash::of(part)));
        let file = UploadHash::of(&publication.sender, &publication.id);
        UploadRecord { file, parts, size: publication.facts.size, next, since: 100, last: 100 }
    }

    #[test]
    fn what_comes_next_follows_from_the_state() {
        let publication = publication();
        let parameters = Network::builtin("local").unwrap().parameters;
        let end = 100 + parameters.upload_window;
        let other = UploadRecord { size: 9, ..upload(&publication, 1) };
        let other_parts = UploadRecord { parts: PartsHash::default(), ..upload(&publication, 1) };
        let not_begun = UploadRecord { size: 9, ..upload(&publication, 0) };
        let lost = |why, parts| Some(Lost { why, parts });
        for (upload, height, expected) in [
            (None, 5, (Step::Begin, None)),
            (Some(upload(&publication, 0)), 101, (Step::Parts { next: 0 }, None)),
            (Some(upload(&publication, 2)), end - 1, (Step::Parts { next: 2 }, None)),
            (Some(upload(&publication, 3)), end - 1, (Step::Publish, None)),
            (Some(upload(&publication, 3)), end, (Step::Begin, lost("its time is over", 3))),
            (Some(upload(&publication, 0)), end, (Step::Begin, None)),
            (Some(other), 101, (Step::Begin, lost("it is of another file", 1))),
            (Some(other_parts), 101, (Step::Begin, lost("it is of another file", 1))),
            (Some(not_begun), 101, (Step::Begin, None)),
        ] {
            assert_eq!(publication.next(upload.as_ref(), height, &parameters), expected, "{upload:?} {height}");
        }
    }

    #[test]
    fn the_cost_is_that_of_what_is_left() {
        let publication = publication();
        let fee = FeeSuggestion { rate: 0, minimum: 0 };
        let cost = |step| publication.cost(&step, Amount(1_000), fee).unwrap();
        let burned = |step| cost(step).burned.0;
        assert_eq!(burned(Step::Begin), 1_000 * (2 * 262_144 + 7 + 65_536));
        assert_eq!(burned(Step::Parts { next: 2 }), 1_000 * (7 + 65_536));
        assert_eq!(burned(Step::Publish), 1_000 * 65_536);
        let weights = [256 + 160, 2 * (256 + 162 + 262_144), 256 + 162 + 7, 256 + 524_295 / 64];
        assert_eq!(cost(Step::Begin).fees, default_fee(weights.iter().sum()));
        assert!(cost(Step::Publish).fees < cost(Step::Parts { next: 2 }).fees);
        assert_eq!(publication.cost(&Step::Begin, Amount(u64::MAX), fee), None);
    }
}
