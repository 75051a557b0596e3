//! `ocelli faucet`.

use std::fmt;
use std::io::{self, Write as _};
use std::time::Duration;

use ocelli_consensus::Address;
use ocelli_protocol::message::Submission;
use serde_json::json;

use super::error::CommandError;
use super::evidence;
use super::output::Printer;
use super::submit::{DISCOVERY_TIME, find_bootstrap};
use super::wallet::timeout_parser;
use super::wallet_option::{WalletOption, address_of};
use crate::client::Client;
use crate::client::faucet::{MAX_BITS, work};

/// Nodes that are asked.
const NODES: usize = 16;

/// Ask a node that runs a faucet for a little to begin with, on a test network
///
/// Faucets give to addresses that have less than they give, once a day, and to few of one network address group; this
/// machine works for a moment first, so that asking many times costs something.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Who is to get it [default: the wallet's address; a wallet is made if there is none]
    #[arg(value_name = "ADDRESS")]
    address: Option<String>,

    #[command(flatten)]
    wallet: WalletOption,

    /// The network: local, testnet, or a network file [default: testnet, local for `--wallet dev`]
    #[arg(long, value_name = "NAME|FILE")]
    network: Option<String>,

    /// Join the network through the node at this multiaddr; may be repeated [default: the node that runs on this machine,
    /// or the network's bootstrap nodes]
    #[arg(long, value_name = "MULTIADDR")]
    peer: Vec<String>,

    /// Wait for so many confirmations; 0 is content with the promise
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    wait: u64,

    /// Stop waiting after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = timeout_parser())]
    timeout: u64,
}

/// The wallet's address; a newcomer has no wallet yet, and gets one.
fn address_or_new_wallet(option: &WalletOption) -> Result<Address, CommandError> {
    if option.is_dev() || option.path()?.symlink_metadata().is_ok() {
        return option.address();
    }
    let (path, wallet) = option.create()?;
    say(format_args!(
        "made a wallet: {}. Keep a copy of this file, and remember the password: nobody can restore either.",
        path.display()
    ));
    Ok(address_of(&wallet))
}

/// Tells the person at the terminal; there is nobody to tell that stderr is closed.
fn say(text: fmt::Arguments<'_>) {
    drop(writeln!(io::stderr(), "{text}"));
}

/// Runs the command.
///
/// # Errors
/// For an address or wallet that cannot be used, nodes that cannot be reached, when none gives anything, and when the
/// confirmations do not come in time.
pub fn run(args: &Args, output: &mut Printer) -> Result<(), CommandError> {
    let network = args.wallet.network(args.network.as_deref())?;
    let (parameters, prefix) = (&network.parameters, &network.parameters.address_prefix);
    let address = match &args.address {
        Some(text) => Address::from_text(text, prefix)?,
        None => address_or_new_wallet(&args.wallet)?,
    };
    let mut client = Client::connect(std::slice::from_ref(&network), &find_bootstrap(&args.peer, &network)?)?;
    client.await_named(&args.peer)?;
    client.find_nodes(NODES, DISCOVERY_TIME)?;

    let (faucets, others) = client.faucets()?;
    let asked = faucets.len() + others.len();
    let mut refusals = Vec::new();
    for (faucet, terms) in faucets {
        if terms.bits > MAX_BITS {
            let bits = terms.bits;
            refusals.push(format!("{}: wants {bits} bits of work, expected {MAX_BITS} at most", faucet.address));
            continue;
        }
        match client.claim(&faucet, &terms, work(network.genesis_hash(), &terms, address)) {
            Ok(transaction) => {
                let (txid, amount) = (transaction.txid(), terms.amount);
                let payment = Submission { transaction, attachment: None };
                let time = Duration::from_secs(args.timeout);
                let states = if args.wait > 0 {
                    client.wait(&[payment], args.wait, time, |_, incidents| evidence::tell_of(incidents))?
                } else {
                    Vec::new()
                };
                let found = states.first().and_then(|tracked| tracked.state.confirmed());
                let confirmations = found.map_or(0, |found| found.evidence.confirmations);
                let height = found.map(|found| found.header.height);
                evidence::warn_of_left(&client);
                let text = address.to_text(prefix);
                if output.is_json() {
                    output.json(&json!({
                        "address": text,
                        "amount": amount.to_string(),
                        "txid": txid,
                        "height": height,
                        "confirmations": confirmations,
                        "evidence": found.map(|found| evidence::json(&found.evidence)),
                        "faucet": faucet.address,
                        "network": parameters.name,
                    }))?;
                } else {
                    let state = match found {
                        Some(found) => format!("in block {}, {}", found.header.height, found.evidence),
                        None => format!("on its way: `ocelli chain tx {txid}` follows it"),
                    };
                    output.rows(&[
                        ("address", text),
                        ("given", format!("{amount} credits on {}", parameters.name)),
                        ("transaction", txid.to_string()),
                        ("state", state),
                    ])?;
                }
                if confirmations >= args.wait {
                    return Ok(());
                }
                return Err(CommandError::failed(format!(
                    "waited {} s in vain for {} of the payment",
                    args.timeout,
                    evidence::confirmations(args.wait)
                ))
                .with_hint(format!(
                    "look later with `ocelli chain tx {txid}`, and see with `ocelli status` whether blocks come at all"
                )));
            }
            Err(error) => refusals.push(CommandError::from(error).one_line()),
        }
    }
    if refusals.is_empty() {
        let name = &parameters.name;
        return Err(CommandError::failed(format!("none of {asked} nodes of network {name} gives anything"))
            .with_causes(others.into_iter().map(|error| CommandError::from(error).one_line()))
            .with_hint(format!(
                "join through a node that runs a faucet with --peer MULTIADDR, or mine: `ocelli node --network {name} \
                 --mine {}`",
                address.to_text(prefix)
            )));
    }
    Err(CommandError::failed("no faucet gives anything").with_causes(refusals))
}
