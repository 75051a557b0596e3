//! `ocelli node`: a node that runs until it is told to stop.

use std::time::Duration;

use ocelli_model::backend;
use ocelli_program::signals::StopSignals;

use super::NodeArgs;
use crate::clock::Clock;
use crate::inference::InferenceLimits;
use crate::network::Traversal;
use crate::node::{Discovery, Mining, Node, NodeConfig, NodeError, models, open_files};

/// How often the node is asked whether it has ended by itself.
const POLL: Duration = Duration::from_millis(200);

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
    open_files::raise_limit(args.capacity.inbound)?;
    let (device, why_not) = backend::open(args.device)?;
    if let Some(reason) = why_not {
        tracing::warn!(reason, "no GPU is used");
    }
    if args.bootstrap.is_empty() {
        tracing::warn!(
            network = parameters.name,
            "no bootstrap peer is known: this node waits for others. Give others its address, printed below, as \
             --peer; or start this one with --peer MULTIADDR"
        );
    }
    let node = Node::start(NodeConfig {
        models: models(&args.network)?,
        mining: args.mine.map(|address| Mining { address, threads: args.mine_threads }),
        discovery: if args.mdns { Discovery::LocalNetwork } else { Discovery::BootstrapOnly },
        traversal: Traversal { upnp: args.upnp, relay_server: args.relay_server, ..Traversal::default() },
        capacity: args.capacity,
        network: args.network,
        data: args.data,
        listen: args.listen,
        external: args.external,
        bootstrap: args.bootstrap,
        backend: device,
        inference: InferenceLimits::default(),
        storage: args.storage,
        faucet: args.faucet,
        clock: Clock::system(),
    })?;
    runtime.block_on(async {
        while !node.ends_within(Duration::ZERO) && tokio::time::timeout(POLL, stop.next()).await.is_err() {}
    });
    tracing::info!("stopping");
    node.stop()
}
