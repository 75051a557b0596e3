//! `ocelli wallet history`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use jiff::Timestamp;
use ocelli_consensus::network::Network;
use ocelli_consensus::{Address, Amount};
use ocelli_program::output_file::{Readers, write};
use ocelli_protocol::ledger::Event;
use ocelli_protocol::message::{MiningStatus, NodeStatus};
use serde_json::{Value, json};

use super::super::error::{CommandError, Explain as _};
use super::super::evidence;
use super::super::output::{Printer, Whole};
use super::super::peer_option::PeerOption;
use super::super::status::duration;
use super::super::wallet_option::WalletOption;
use super::connect_for;
use crate::client::ledger::{Evidence, KnownEntry, Statement};
use crate::client::printable;
use crate::json::{EntryFields, Unit, both};
use crate::ledger::{Filter, Kind, Signed, Time};

/// Show what has happened to the wallet's account, or to an address: each credit and debit, explained, with the balance after it
///
/// Entries are checked against the chain's headers as far as the node keeps what proves them, and together against the balance.
/// Times are UTC.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The address [default: the wallet's]
    #[arg(value_name = "ADDRESS")]
    address: Option<String>,

    /// Only from this time on: a day, such as 2026-11-30, or a time, such as 2026-11-30T12:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<Time>,

    /// Only up to this time; of a day, its end
    #[arg(long, value_name = "TIME")]
    until: Option<Time>,

    /// Only entries of this kind; may be repeated
    #[arg(long, value_name = "KIND")]
    kind: Vec<Kind>,

    /// Sum up by day, and say why mining has not earned more, by the word of the node that is asked
    #[arg(long)]
    mining: bool,

    /// Write a table to this file too
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,

    #[command(flatten)]
    wallet: WalletOption,

    #[command(flatten)]
    peer: PeerOption,
}

/// Of the table: the fields of an entry.
const COLUMNS: [&str; 12] =
    ["time", "height", "kind", "amount", "fee", "reward", "fees", "balance", "with", "model", "txid", "evidence"];

/// A time as it is shown: UTC, or the number itself where no calendar reaches.
fn shown(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or_else(|| format!("@{seconds}"), |time| time.to_string())
}

fn day(seconds: u64) -> String {
    shown(seconds).split('T').next().unwrap_or_default().to_owned()
}

/// Runs the command.
///
/// # Errors
/// For a wallet that cannot be used, a node that cannot be asked or believed, and a file that cannot be written.
pub fn run(args: &Args, output: &mut Printer) -> Result<(), CommandError> {
    let (mut client, network, address) = connect_for(args.address.as_deref(), &args.wallet, &args.peer)?;
    let filter = Filter::new(args.since, args.until, args.kind.clone());
    let statement = client.statement(address, filter.since)?;
    let status = if args.mining { Some(client.node_status()?) } else { None };
    evidence::warn_of_left(&client);
    let is_wanted = |known: &&KnownEntry| filter.wants(known.time, &known.entry.event);
    let entries: Vec<&KnownEntry> = statement.entries.iter().filter(is_wanted).collect();
    let report = Report { network: &network, address, statement: &statement, entries };
    if let Some(path) = &args.csv {
        output.leave_stdout_to(path);
        let table = report.csv().context(|| "cannot make the table")?;
        write(path, &table, Readers::Umask).context(|| format!("cannot write {}", path.display()))?;
    }
    let mining = status.as_ref().map(|status| Mining::of(status, &report, client.hashes_a_block()));
    if output.is_json() { output.json(&report.json(mining.as_ref())) } else { report.print(mining.as_ref(), output) }
}

/// What is shown.
struct Report<'a> {
    network: &'a Network,
    address: Address,
    statement: &'a Statement,
    /// Those asked for.
    entries: Vec<&'a KnownEntry>,
}

impl Report<'_> {
    fn text_of(&self, address: &Address) -> String {
        address.to_text(&self.network.parameters.address_prefix)
    }

    /// What happened, for people.
    fn explanation(&self, known: &KnownEntry) -> String {
        match known.entry.event {
            Event::Reward { reward, fees } => {
                format!("mined block {}: reward {reward}, fees {fees}", known.entry.place.height)
            }
            Event::Received { txid, from, .. } if from == self.address => format!("from itself, transaction {txid}"),
            Event::Received { txid, from, .. } => format!("from {}, transaction {txid}", self.text_of(&from)),
            Event::Royalty { txid, model, .. } => format!("royalty of model {model} for task {txid}"),
            Event::Sent { txid, fee, to, amount } => {
                format!("{amount} to {}, fee {fee}, transaction {txid}", self.text_of(&to))
            }
            Event::Task { txid, fee, model, royalty: Amount::ZERO } => {
                format!("paid for task {txid} of model {model}: fee {fee}")
            }
            Event::Task { txid, fee, model, royalty } => {
                format!("paid for task {txid} of model {model}: fee {fee}, royalty {royalty}")
            }
            Event::Upload { txid, fee } => format!("began an upload: fee {fee}, transaction {txid}"),
            Event::Part { txid, fee, burnt } => {
                format!("burned {burnt} for a part of an upload, fee {fee}, transaction {txid}")
            }
            Event::Publish { txid, fee, burnt, model } => {
                format!("burned {burnt} to publish model {model}, fee {fee}, transaction {txid}")
            }
        }
    }

    fn evidence(&self, known: &KnownEntry) -> &'static str {
        match known.evidence {
            Evidence::Proven => "proven",
            Evidence::FeesByWord => "fees by word",
            Evidence::AuthorByWord => "author by word",
            Evidence::ByWord => "by word",
        }
    }

    fn csv(&self) -> Result<Vec<u8>, csv::Error> {
        let mut table = csv::Writer::from_writer(Vec::new());
        table.write_record(COLUMNS)?;
        for known in &self.entries {
            let mut entry = self.entry_json(known);
            entry["time"] = shown(known.time).into();
            table.write_record(COLUMNS.map(|column| match &entry[column] {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            }))?;
        }
        table.into_inner().map_err(|error| error.into_error().into())
    }

    fn json(&self, mining: Option<&Mining>) -> Value {
        let Statement { balance, nonce, height, is_checked, opening, is_whole, from, .. } = self.statement;
        let entries: Vec<_> = self.entries.iter().map(|known| self.entry_json(known)).collect();
        let mut report = json!({
            "address": self.text_of(&self.address),
            "network": self.network.parameters.name,
            "height": height,
            "balance": balance.to_string(),
            "grains": Whole(balance.0),
            "nonce": Whole(*nonce),
            "checked": is_checked,
            "whole": is_whole,
            "from": from,
            "opening": opening.to_string(),
            "entries": entries,
        });
        if let (Some(mining), Some(fields)) = (mining, report.as_object_mut()) {
            fields.insert("days".into(), self.days().into_iter().map(|(day, sums)| sums.json(&day)).collect());
            fields.insert("mining".into(), mining.json());
        }
        report
    }

    fn entry_json(&self, known: &KnownEntry) -> Value {
        let entry = EntryFields::of(&known.entry, known.time, Unit::Credits, self.network);
        let of_statement = json!({ "balance": Amount(known.balance).to_string(), "evidence": self.evidence(known) });
        both(json!(entry), of_statement)
    }

    fn print(&self, mining: Option<&Mining>, output: &mut Printer) -> Result<(), CommandError> {
        let Statement { balance, height, opening, is_whole, from, .. } = self.statement;
        let amounts = self.entries.iter().map(|known| Signed(known.entry.event.change()).to_string());
        let amounts: Vec<_> = amounts.collect();
        let width = amounts.iter().map(String::len).max().unwrap_or(0);
        for (known, amount) in self.entries.iter().zip(&amounts) {
            let mark = if known.evidence == Evidence::Proven { "" } else { " *" };
            output.line(format_args!(
                "{}  {amount:>width$}  {:<8}  {}{mark}; balance {}",
                shown(known.time),
                Kind::of(&known.entry.event).name(),
                self.explanation(known),
                Amount(known.balance)
            ))?;
        }
        if mining.is_some() {
            for (day, sums) in self.days() {
                output.line(format_args!("{day}  {sums}"))?;
            }
        }
        let mut rows = vec![
            ("address", self.text_of(&self.address)),
            ("balance", format!("{balance} credits on {} at block {height}", self.network.parameters.name)),
            ("entries", format!("{} shown of {}", self.entries.len(), self.statement.entries.len())),
        ];
        rows.push((
            "sum",
            match (is_whole, *from > 1) {
                (true, _) => "all entries together are the balance".into(),
                (false, false) => format!("{opening} credits before what was asked for, and these, are the balance"),
                (false, true) => format!(
                    "the node has nothing from before block {from}: {opening} credits are left over for what came earlier; \
                     ask another node for it with --peer"
                ),
            },
        ));
        rows.push(("checked", self.checked()));
        for reason in mining.map(Mining::rows).unwrap_or_default() {
            rows.push(reason);
        }
        output.rows(&rows)
    }

    /// What speaks for what is shown.
    fn checked(&self) -> String {
        if !self.statement.is_checked {
            return evidence::by_word_of(1);
        }
        let count = |evidence| self.entries.iter().filter(|known| known.evidence == evidence).count();
        let mut text = String::from("the balance by the state root, the entries by their blocks' headers");
        for (evidence, what) in [
            (Evidence::FeesByWord, "the fees in what was mined"),
            (Evidence::AuthorByWord, "that the model of a royalty is this account's"),
            (Evidence::ByWord, "entries of blocks that it has pruned"),
        ] {
            if count(evidence) > 0 {
                text.push_str(&format!("; {what} ({} entries, marked *) by the node's word", count(evidence)));
            }
        }
        text
    }

    /// What each day of blocks has brought and cost.
    fn days(&self) -> BTreeMap<String, Sums> {
        let mut days: BTreeMap<String, Sums> = BTreeMap::new();
        for known in &self.entries {
            let sums = days.entry(day(known.time)).or_default();
            match known.entry.event {
                Event::Reward { reward, fees } => {
                    sums.blocks += 1;
                    sums.mined += i128::from(reward.0) + i128::from(fees.0);
                }
                event => sums.other += event.change(),
            }
        }
        days
    }
}

/// Of a day, in grains.
#[derive(Debug, Default, Clone, Copy)]
struct Sums {
    blocks: u64,
    mined: i128,
    other: i128,
}

impl Sums {
    fn json(&self, day: &str) -> Value {
        let Self { blocks, mined, other } = *self;
        json!({
            "day": day,
            "blocks": blocks,
            "mined": Signed(mined).to_string(),
            "other": Signed(other).to_string(),
        })
    }
}

impl fmt::Display for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { blocks, mined, other } = *self;
        write!(f, "{} mined in {blocks} blocks, {} else", Signed(mined), Signed(other))
    }
}

/// How the node's mining goes, by its own word, and why it has not earned more.
struct Mining {
    hash_rate: u64,
    found: u64,
    stale: u64,
    /// Seconds from one block to the next on average; nothing without a hash rate.
    expected: Option<f64>,
    reasons: Vec<String>,
}

impl Mining {
    /// `hashes` is how many one block takes on average.
    fn of(status: &NodeStatus, report: &Report<'_>, hashes: u64) -> Self {
        let MiningStatus { hash_rate, address: mines_for, found, stale } = status.mining;
        let expected = (hash_rate > 0).then(|| hashes as f64 / hash_rate as f64);
        let mut reasons = Vec::new();
        match mines_for {
            None => reasons.push(format!(
                "the node does not mine: start it with `ocelli node --mine {}`",
                report.text_of(&report.address)
            )),
            Some(address) if address != report.address => {
                reasons.push(format!("the node mines for {}, not for this address", report.text_of(&address)))
            }
            Some(_) => {
                if status.peers.total() == 0 {
                    reasons.push("no peer is connected: nobody hears of the blocks that are found here".into());
                }
                let behind = status.sync.header_height.saturating_sub(status.tip.height);
                if behind > 0 {
                    reasons.push(format!("the node is {behind} blocks behind: what it finds there comes too late"));
                }
                reasons.extend(
                    status.sync.waiting_for.iter().map(|what| format!("the node waits for {}", printable(what))),
                );
                if stale > 0 {
                    reasons.push(format!(
                        "{stale} of {found} blocks that it has found are stale: another block came first, and nothing is paid for them"
                    ));
                }
                match expected {
                    None => reasons.push("nothing is hashed yet".into()),
                    Some(seconds) if found == 0 => {
                        let unlucky = (-(status.uptime_seconds as f64) / seconds).exp();
                        reasons.push(format!(
                            "no block was found in {}; of nodes as fast as this one, {:.0} in 100 have found none by then",
                            duration(status.uptime_seconds),
                            100.0 * unlucky
                        ));
                    }
                    Some(_) => {}
                }
            }
        }
        Self { hash_rate, found, stale, expected, reasons }
    }

    fn json(&self) -> Value {
        let Self { hash_rate, found, stale, expected, reasons } = self;
        json!({
            "hash_rate": hash_rate,
            "found": found,
            "stale": stale,
            "expected_seconds": expected,
            "reasons": reasons,
        })
    }

    fn rows(&self) -> Vec<(&'static str, String)> {
        let Self { hash_rate, found, stale, expected, reasons } = self;
        let every = match expected {
            Some(seconds) => format!("a block every {} on average", duration(seconds.ceil() as u64)),
            None => "no block is to be expected".into(),
        };
        let mut rows = vec![
            ("mining", format!("{hash_rate} hashes/s: {every}, by the node's word")),
            ("found", format!("{found} blocks since the node started, {stale} of them stale")),
        ];
        rows.extend(reasons.iter().map(|reason| ("note", reason.clone())));
        rows
    }
}

#[cfg(test)]
mod tests {
    use ocelli_protocol::message::{PeerCounts, SyncStatus, TipStatus};

    use super::*;

    /// Why a miner earned nothing, by what its node says.
    #[test]
    fn why_mining_has_not_earned_more_is_said() {
        let network = Network::builtin("local").unwrap();
        let (address, other) = (Address([1; 20]), Address([2; 20]));
        let statement = Statement {
            balance: Amount(0),
            nonce: 0,
            height: 9,
            is_checked: true,
            opening: Amount(0),
            is_whole: true,
            from: 1,
            entries: Vec::new(),
        };
        let report = Report { network: &network, address, statement: &statement, entries: Vec::new() };
        let text = |address: Address| address.to_text(&network.parameters.address_prefix);
        let well = || NodeStatus {
            tip: TipStatus { height: 9, ..TipStatus::default() },
            sync: SyncStatus { header_height: 9, ..SyncStatus::default() },
            peers: PeerCounts { dialled: 1, inbound: 1 },
            mining: MiningStatus { hash_rate: 100, address: Some(address), found: 3, stale: 0 },
            uptime_seconds: 120,
            ..NodeStatus::default()
        };
        let mining = || well().mining;
        let first = |words: &str| vec![words.to_owned()];
        let rows = [
            ("all is well", well(), vec![]),
            (
                "it does not mine",
                NodeStatus { mining: MiningStatus::default(), peers: PeerCounts::default(), ..well() },
                vec![format!("the node does not mine: start it with `ocelli node --mine {}`", text(address))],
            ),
            (
                "for somebody else",
                NodeStatus { mining: MiningStatus { address: Some(other), ..mining() }, ..well() },
                vec![format!("the node mines for {}, not for this address", text(other))],
            ),
            (
                "no peers",
                NodeStatus { peers: PeerCounts::default(), ..well() },
                first("no peer is connected: nobody hears of the blocks that are found here"),
            ),
            (
                "behind",
                NodeStatus { tip: TipStatus { height: 2, ..TipStatus::default() }, ..well() },
                first("the node is 7 blocks behind: what it finds there comes too late"),
            ),
            (
                "waiting",
                NodeStatus {
                    sync: SyncStatus { waiting_for: vec!["a \u{1b}[31mclock".into()], ..well().sync },
                    ..well()
                },
                first("the node waits for a [31mclock"),
            ),
            (
                "stale",
                NodeStatus { mining: MiningStatus { stale: 2, ..mining() }, ..well() },
                first(
                    "2 of 3 blocks that it has found are stale: another block came first, and nothing is paid for them",
                ),
            ),
            (
                "nothing hashed",
                NodeStatus { mining: MiningStatus { hash_rate: 0, found: 0, ..mining() }, ..well() },
                first("nothing is hashed yet"),
            ),
            (
                // A block every 60 s on average: e^-2 of all are without one after 120.
                "bad luck",
                NodeStatus { mining: MiningStatus { found: 0, ..mining() }, ..well() },
                vec![format!(
                    "no block was found in {}; of nodes as fast as this one, 14 in 100 have found none by then",
                    duration(120)
                )],
            ),
        ];
        for (row, status, expected) in rows {
            let found = Mining::of(&status, &report, 6_000);
            assert_eq!(found.reasons, expected, "{row}");
            let rate = status.mining.hash_rate;
            assert_eq!(found.expected, (rate > 0).then_some(60.0), "{row}");
            assert_eq!(found.json()["reasons"], json!(expected), "{row}");
            assert_eq!(found.rows().len(), 2 + expected.len(), "{row}");
        }
    }

    #[test]
    fn times_are_shown_as_far_as_a_calendar_reaches() {
        assert_eq!((shown(86_400), day(86_400)), ("1970-01-02T00:00:00Z".into(), "1970-01-02".into()));
        assert_eq!((shown(1 << 40), day(u64::MAX)), ("@1099511627776".into(), format!("@{}", u64::MAX)));
    }
}
