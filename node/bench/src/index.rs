//! `ocelli bench index`.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ocelli_consensus::block::Answer;
use ocelli_consensus::fork_choice::BlockStatus;
use ocelli_consensus::network::DEV_WALLET_SEED;
use ocelli_consensus::{Action, Address, Amount, Body, Header, Network, Transaction, Unsigned};
use ocelli_node::store::{Durability, Extent, LedgerOption, Overlay, Store, StoreError, StoreOptions};
use ocelli_node::wallet::Wallet;
use ocelli_program::error::{CommandError, Explain as _};
use ocelli_program::output::Printer;
use serde::Serialize;

use super::rounded;
use super::store::{easy_network, mined, stored};

/// Accounts that get something, in turn.
const RECEIVERS: u64 = 10_000;
/// Entries of a page.
const PAGE: usize = 256;

/// Measure what the ledger of accounts costs: bytes of the disk, and time of connecting blocks
///
/// The chain is one of transfers with the easiest target, made in a temporary folder (TMPDIR), whose signatures nobody looks at.
/// It is written to a store with a ledger and to one without; the ledger of the latter is then made as a node makes it that
/// had none.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Blocks of the chain
    #[arg(long, value_name = "NUMBER", default_value_t = 500, value_parser = clap::value_parser!(u64).range(10..=100_000))]
    blocks: u64,

    /// Transfers of a block
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    transfers: u64,
}

#[derive(Debug, Serialize)]
struct Report {
    transactions: u64,
    entries: u64,
    /// Of the folder with a ledger, less that of the one without, over its transactions.
    bytes_a_transaction: f64,
    disk_bytes_without: u64,
    ratio_with_to_without: f64,
    /// Transactions a second that are stored and connected, with the ledger written in the same batch and without one.
    connected_with: u64,
    connected_without: u64,
    /// Transactions a second whose ledger is made later.
    made_later: u64,
    /// Reading the latest 256 entries of the account that has sent all.
    page_us: u64,
}

/// Runs the command.
///
/// # Errors
/// For a temporary folder that cannot be used.
pub fn run(args: &Args, output: &mut Printer) -> Result<(), CommandError> {
    let network = easy_network();
    let folder = tempfile::Builder::new()
        .prefix("ocelli-bench-")
        .tempdir()
        .context(|| "cannot make a temporary folder")
        .hint(|| "set TMPDIR to a folder that you may write to")?;
    let blocks = made(&network, &folder.path().join("made"), args)?;
    let transactions = args.blocks * args.transfers;
    // Alternately, so that what the machine does besides falls on both.
    let (mut times, mut disk) = ([Duration::MAX; 2], [0; 2]);
    for round in 0..2 {
        for (at, ledger) in [LedgerOption::Dropped, LedgerOption::Kept].into_iter().enumerate() {
            let store = open(&folder.path().join(format!("{at}-{round}")), &network, ledger)?;
            let begin = Instant::now();
            for (header, body) in &blocks {
                put(&store, &network, header, body)?;
            }
            times[at] = times[at].min(begin.elapsed());
            store.free_log()?;
            disk[at] = store.disk_bytes()?;
        }
    }
    let store = open(&folder.path().join("0-0"), &network, LedgerOption::Kept)?;
    let begin = Instant::now();
    while store.extend_ledger(&network.parameters)? {}
    let later = begin.elapsed();
    store.free_log()?;
    let sender = Address::of(&Wallet::from_seed(DEV_WALLET_SEED).public_key());
    let begin = Instant::now();
    let page = store.entries(&sender, None).take(PAGE).collect::<Result<Vec<_>, _>>()?;
    let page_time = begin.elapsed();
    if page.len() != PAGE.min(usize::try_from(transactions).unwrap_or(PAGE)) {
        return Err(CommandError::failed("the ledger that was made later lacks entries"));
    }
    let rate = |time: Duration| (transactions as f64 / time.as_secs_f64()) as u64;
    let report = Report {
        transactions,
        entries: 2 * transactions + args.blocks,
        bytes_a_transaction: rounded(disk[1].saturating_sub(disk[0]) as f64 / transactions as f64),
        disk_bytes_without: disk[0],
        ratio_with_to_without: rounded(disk[1] as f64 / disk[0] as f64),
        connected_with: rate(times[1]),
        connected_without: rate(times[0]),
        made_later: rate(later),
        page_us: u64::try_from(page_time.as_micros()).unwrap_or(u64::MAX),
    };
    if output.is_json() {
        return output.json(&report);
    }
    output.rows(&[
        ("chain", format!("{} transfers in {} blocks, {} entries", report.transactions, args.blocks, report.entries)),
        (
            "disk",
            format!(
                "{} bytes a transaction; {} times the {} bytes without a ledger",
                report.bytes_a_transaction, report.ratio_with_to_without, report.disk_bytes_without
            ),
        ),
        (
            "connected a second",
            format!("{} transactions with it, {} without", report.connected_with, report.connected_without),
        ),
        ("made later, a second", format!("{} transactions", report.made_later)),
        ("a page of 256 entries, us", report.page_us.to_string()),
    ])
}

fn open(path: &Path, network: &Network, ledger: LedgerOption) -> Result<Arc<Store>, StoreError> {
    Store::open_with(path, network, StoreOptions { ledger, ..StoreOptions::default() }).map(Arc::new)
}

/// Makes the chain.
fn made(network: &Network, path: &Path, args: &Args) -> Result<Vec<(Header, Body)>, StoreError> {
    let store = open(path, network, LedgerOption::Dropped)?;
    let (public_key, parameters) = (Wallet::from_seed(DEV_WALLET_SEED).public_key(), &network.parameters);
    let (mut blocks, mut nonce) = (Vec::new(), 0);
    for _ in 0..args.blocks {
        let mut body = Body::default();
        for _ in 0..args.transfers {
            let mut to = [1; 20];
            to[..8].copy_from_slice(&(nonce % RECEIVERS).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
            let action = Action::Transfer { to: Address(to), amount: parameters.minimum_balance };
            let unsigned = Unsigned { nonce, fee: Amount(1_000), expires: u64::MAX, action };
            // As random as signatures are.
            let (mut signature, hash) = ([0; 64], nonce.wrapping_mul(0xd134_2543_de82_ef95).to_le_bytes());
            signature.chunks_mut(8).zip(1u8..).for_each(|(part, turn)| {
                part.copy_from_slice(&hash);
                part.iter_mut().for_each(|byte| *byte = byte.rotate_left(turn.into()) ^ turn.wrapping_mul(37));
            });
            body.transactions.push((Transaction { unsigned, public_key, signature }, Answer::None));
            nonce += 1;
        }
        let header = mined(&Overlay::new(&store)?, network, &body)?;
        put(&store, network, &header, &body)?;
        blocks.push((header, body));
    }
    Ok(blocks)
}

/// Stores and connects a block as one that has been checked.
fn put(store: &Store, network: &Network, header: &Header, body: &Body) -> Result<(), StoreError> {
    let hash = header.hash();
    store.add_header(header)?;
    store.add_block(&hash, body, &[], Extent::Body)?;
    store.set_status(&hash, BlockStatus::Verified, None)?;
    let mut overlay = Overlay::new(store)?;
    overlay.connect(&network.parameters, header, body).map_err(stored)?;
    store.commit(overlay.into_move(), Durability::Logged)
}
