//! Floods a node of this machine, with what is invalid or with what is allowed, and says what came of it: the attacks of
//! `scripts/bench flood`.
//!
//! An example and no command of `ocelli`, so that the program that people install attacks nobody.

#[allow(dead_code, reason = "the test of the same flood uses other parts")]
mod attacker;
mod lawful;

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Parser;
use libp2p::Multiaddr;
use ocelli_consensus::Network;

use attacker::{Flood, Kind};

/// Flood a node of this machine from many peers
#[derive(Debug, Parser)]
struct Args {
    /// The node's multiaddr
    #[arg(long, value_name = "MULTIADDR")]
    peer: Multiaddr,
    /// The network: a name that is built in
    #[arg(long, value_name = "NAME", default_value = "local")]
    network: String,
    /// Attackers, each with a connection of its own
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Messages a second, of all together
    #[arg(long, default_value_t = 10_000)]
    rate: u64,
    /// How long
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// What is sent: what no honest program sends, or all that any may; or nothing, and the attackers' accounts are only given
    /// something, from the account that the network funds
    #[arg(long, value_enum, default_value_t = What::Invalid)]
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    Invalid,
    Allowed,
    Fund,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let network =
        Network::builtin(&args.network).ok_or("found no built-in network of that name, expected local or testnet")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if args.what == What::Fund {
        return Ok(runtime.block_on(attacker::fund(args.peer, &network))?);
    }
    let kinds = if args.what == What::Allowed { Kind::ALLOWED } else { Kind::INVALID };
    let flood = Arc::new(Flood::new(args.peer, network, kinds, args.rate));
    runtime.block_on(async {
        let attackers: Vec<_> = (0..args.connections as usize)
            .map(|number| {
                let flood = flood.clone();
                tokio::spawn(async move { flood.attack(number).await })
            })
            .collect();
        tokio::time::sleep(Duration::from_secs(args.seconds)).await;
        let open = flood.open.load(Ordering::Relaxed);
        flood.end();
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let kinds = kinds.iter().zip(&flood.sent).map(|(kind, sent)| format!("\"{}\":{}", kind.name(), of(sent)));
        let report = format!(
            "{{\"attackers\":{},\"seconds\":{},\"tried\":{},\"let_in\":{},\"refused\":{},\"thrown_out\":{},\"open\":{open},\
             \"most_open\":{},\"sent\":{},\"sent_per_second\":{},\"answered\":{},\"refusals\":{},\"sent_by_kind\":{{{}}}}}",
            attackers.len(),
            args.seconds,
            of(&flood.tried),
            of(&flood.let_in),
            of(&flood.refused),
            of(&flood.thrown_out),
            flood.most_open.load(Ordering::Relaxed),
            flood.all_sent(),
            flood.all_sent() / args.seconds.max(1),
            of(&flood.answered),
            of(&flood.refusals),
            kinds.collect::<Vec<_>>().join(",")
        );
        writeln!(io::stdout(), "{report}")
    })?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(())
}
