//! `ocelli node`: a node that runs until it is told to stop.

use std::time::{Duration, Instant};

use ocelli_model::backend;
use ocelli_program::signals::StopSignals;
use ocelli_program::status_line::StatusLine;
use ocelli_protocol::message::{NodeStatus, Request, Response};

use super::NodeArgs;
use crate::api::MAX_CONNECTIONS;
use crate::clock::Clock;
use crate::inference::InferenceLimits;
use crate::network::Traversal;
use crate::node::{Discovery, Mining, Node, NodeConfig, NodeError, models, open_files};

/// How often the node is asked whether it has ended by itself.
const POLL: Duration = Duration::from_millis(200);

/// How often the line in the terminal is renewed.
const REFRESH: Duration = Duration::from_secs(1);

/// Runs a node until it is told to stop (by one of [`StopSignals`]), or cannot go on.
///
/// # Errors
/// Why it cannot start or go on.
pub fn run(args: NodeArgs) -> Result<(), NodeError> {
    // Before anything is started: a signal from here on stops the node in order.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut stop = runtime.block_on(async { StopSignals::listen() })?;

    let parameters = &args.network.parameters;
    tracing::info!(network = parameters.name, data = %args.data.display(), "starting");
    open_files::raise_limit(args.capacity.inbound, args.api.as_ref().map_or(0, |_| MAX_CONNECTIONS))?;
    let (device, why_not) = backend::open(args.device)?;
    if let Some(reason) = why_not {
        tracing::warn!(reason, "no GPU is used");
    }
    if args.addresses.bootstrap.is_empty() {
        tracing::warn!(
            network = parameters.name,
            "no bootstrap peer is known: this node waits for others. Give others its address, printed below, as \
             --peer; or start this one with --peer MULTIADDR"
        );
    }
    let node = Node::start(NodeConfig {
        models: models(&args.network)?,
        files: args.models,
        mining: args.mine.map(|address| Mining { address, threads: args.mine_threads }),
        discovery: if args.mdns { Discovery::LocalNetwork } else { Discovery::BootstrapOnly },
        traversal: Traversal { upnp: args.upnp, relay_server: args.relay_server, ..Traversal::default() },
        capacity: args.capacity,
        network: args.network,
        data: args.data,
        addresses: args.addresses,
        backend: device,
        inference: InferenceLimits::default(),
        api: args.api,
        storage: args.storage,
        faucet: args.faucet,
        clock: Clock::system(),
    })?;
    let line = StatusLine::show();
    let mut said = None;
    while !node.ends_within(Duration::ZERO)
        && runtime.block_on(async { tokio::time::timeout(POLL, stop.next()).await }).is_err()
    {
        if line.is_seen() && said.is_none_or(|at: Instant| at.elapsed() >= REFRESH) {
            said = Some(Instant::now());
            if let Some(Response::NodeStatus(status)) = node.ask(Request::NodeStatus) {
                line.say(in_a_line(&status));
            }
        }
    }
    drop(line);
    tracing::info!("stopping");
    node.stop()
}

/// How a node is, in a line.
fn in_a_line(status: &NodeStatus) -> String {
    let (peers, pending) = (status.peers.total(), status.mempool.transactions);
    let mut text = format!("block {}, {}", status.tip.height, status.sync.state);
    text.push_str(&format!(", {peers} {}", if peers == 1 { "peer" } else { "peers" }));
    text.push_str(&format!(", {pending} pending"));
    if status.device.millitasks_per_second > 0 {
        text.push_str(&format!(", {:.1} tasks/s", status.device.millitasks_per_second as f64 / 1000.0));
    }
    if status.mining.address.is_some() {
        text.push_str(&format!(", mining {} hashes/s", status.mining.hash_rate));
    }
    if let Some(what) = status.sync.waiting_for.first() {
        text.push_str(&format!("; waiting for {what}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use ocelli_consensus::Address;
    use ocelli_protocol::message::{MiningStatus, PeerCounts};

    use super::*;

    #[test]
    fn a_line_says_what_matters() {
        let mut status = NodeStatus::default();
        (status.tip.height, status.sync.state) = (7, "synced".into());
        assert_eq!(in_a_line(&status), "block 7, synced, 0 peers, 0 pending");
        status.peers = PeerCounts { dialled: 1, inbound: 0 };
        status.mempool.transactions = 3;
        status.device.millitasks_per_second = 1_500;
        status.mining = MiningStatus { hash_rate: 9, address: Some(Address([1; 20])), ..MiningStatus::default() };
        status.sync.waiting_for = vec!["the data of block 8".into()];
        let text =
            "block 7, synced, 1 peer, 3 pending, 1.5 tasks/s, mining 9 hashes/s; waiting for the data of block 8";
        assert_eq!(in_a_line(&status), text);
    }
}
