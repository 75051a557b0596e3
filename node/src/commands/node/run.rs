//! `ocelli node`: a node that runs until it is told to stop.

use std::time::Duration;

use ocelli_model::backend;

use super::NodeArgs;
use crate::clock::Clock;
use crate::inference::Limits;
use crate::network::Traversal;
use crate::node::{Config, Discovery, Mining, Node, NodeError, models, open_files};

/// How often the node is asked whether it has ended by itself.
const POLL: Duration = Duration::from_millis(200);

/// Runs a node until it is told to stop (SIGINT, SIGTERM or SIGHUP), or cannot go on.
///
/// # Errors
/// Why it cannot start or go on.
pub fn run(args: NodeArgs) -> Result<(), NodeError> {
    // Before anything is started: a signal from here on stops the node in order.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stop = runtime.block_on(async { Signals::new() })?;

    open_files::raise_limit(args.capacity.inbound)?;
    let parameters = &args.network.parameters;
    let (device, why_not) = backend::open(args.device)?;
    if let Some(reason) = why_not {
        tracing::warn!(reason, "no GPU is used");
    }
    if args.bootstrap.is_empty() {
        tracing::warn!(
            network = parameters.name,
            "no bootstrap peer is known: this node waits for others. Give others its address, printed below, as \
             --bootstrap; or start this one with --bootstrap MULTIADDR"
        );
    }
    let node = Node::start(Config {
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
        inference: Limits::default(),
        storage: args.storage,
        faucet: args.faucet,
        clock: Clock::system(),
    })?;
    runtime.block_on(stop.wait_or(|| node.ends_within(Duration::ZERO)));
    tracing::info!("stopping");
    node.stop()
}

/// The signals that stop a node.
struct Signals {
    #[cfg(unix)]
    signals: [tokio::signal::unix::Signal; 3],
}

impl Signals {
    #[cfg(unix)]
    fn new() -> Result<Self, NodeError> {
        use tokio::signal::unix::{SignalKind, signal};
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = kinds.map(signal);
        Ok(Self { signals: [interrupt?, terminate?, hangup?] })
    }

    #[cfg(not(unix))]
    fn new() -> Result<Self, NodeError> {
        Ok(Self {})
    }

    #[cfg(unix)]
    async fn wait_or(mut self, mut ended: impl FnMut() -> bool) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        while !ended() {
            tokio::select! {
                _ = interrupt.recv() => return,
                _ = terminate.recv() => return,
                _ = hangup.recv() => return,
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    #[cfg(not(unix))]
    async fn wait_or(self, mut ended: impl FnMut() -> bool) {
        while !ended() {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => return,
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }
}
