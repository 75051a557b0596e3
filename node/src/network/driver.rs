//! The swarm task: takes commands, turns swarm events into ours, and does what is due.
//!
//! This file holds its state, its loop and what it does by the clock; [`connections`] treats dials, peers and bans,
//! [`messages`] gossip, requests and responses, and [`traversal`] the ways through NATs.

mod connections;
mod messages;
mod traversal;

use std::collections::HashMap;
use std::hash::RandomState;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use libp2p::core::transport::{ListenerId, TransportError};
use libp2p::gossipsub::TopicHash;
use libp2p::identity::{Keypair, ed25519};
use libp2p::request_response::OutboundRequestId;
use libp2p::swarm::{ConnectionId, ListenError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, noise, ping, tcp, yamux};
use ocelli_consensus::hash::tagged;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use super::asked::Asked;
use super::behaviour::{self, Behaviour, BehaviourEvent, GRAYLIST_SCORE};
use super::book::Book;
use super::discovery::{Dial, Discovery};
use super::error::{chain, io_kind};
use super::failures::DialFailures;
use super::gossip_bytes::CountBytes;
use super::handle::{COMMAND_QUEUE, NetworkCommand, Shared, Snapshot};
use super::penalties::Penalties;
use super::queue::{EventQueue, Events, queue};
use super::reachability::Reachability;
use super::unsent::Unsent;
use super::untaken::Untaken;
use super::{
    BanSubject, Counters, DialFailure, NetworkConfig, NetworkError, NetworkEvent, NetworkHandle, NetworkLimits,
    NetworkStatus, Peer, PeerStatus, Role, address,
};
use crate::clock::Clock;
use crate::log_limit::LogLimit;
use connections::PeerState;
use traversal::Ways;

/// How long what can be seen of the network may be behind: it is put together anew with whatever changes, but not for each of a
/// thousand changes a second, as a flood brings about.
const SNAPSHOT_PAUSE: Duration = Duration::from_millis(10);
/// How often the clock is looked at.
const TICK: Duration = Duration::from_millis(250);

/// Ticks between two looks at what changes slowly: scores, bans, the snapshot.
const SLOW_TICKS: u32 = 4;

/// Streams of one connection, both ways: each may hold 256 KiB that nobody has read yet. Requests take 32 at most, and all else
/// few.
const MAX_STREAMS: usize = 128;

/// How long a dial may take. Below the ten seconds after which AutoNAT's server gives up a test without a word, so that a firewall that
/// drops everything is a finding.
const DIAL_TIMEOUT: Duration = Duration::from_secs(7);

/// All state of the swarm task.
pub(super) struct Driver {
    swarm: Swarm<Behaviour>,
    own: Own,
    limits: NetworkLimits,
    queue: EventQueue,
    discovery: Discovery,
    dials: Dials,
    penalties: Penalties,
    /// Everybody with a connection. Bounded by the limits on connections.
    peers: HashMap<PeerId, PeerState>,
    /// Makes evictions unpredictable for those who would like to profit.
    eviction_secret: RandomState,
    asked: Asked<OutboundRequestId>,
    unsent: Unsent,
    ways: Ways,
    counters: Counters,
    shown: Shown,
    logs: Logs,
}

/// What this node says of itself.
struct Own {
    agent: String,
    role: Role,
    /// Request protocols that it speaks, best first.
    protocols: Vec<StreamProtocol>,
    kademlia: Option<StreamProtocol>,
}

/// Own dials.
#[derive(Default)]
struct Dials {
    /// Bounded by the limit on pending connections.
    under_way: HashMap<ConnectionId, Dial>,
    failures: DialFailures,
}

/// What others see of the swarm task.
struct Shown {
    snapshot: watch::Sender<Arc<Snapshot>>,
    /// Whether it is out of date.
    is_old: bool,
    /// The addresses that worked, and the version of the book when they were looked up; `None` has them looked up again.
    known: Arc<[String]>,
    known_version: Option<u64>,
    /// Bans are shown with their ends by the clock on the wall.
    clock: Clock,
    /// Counted where gossip comes in.
    gossip_bytes: CountBytes,
}

/// What is only said so often.
struct Logs {
    connected: LogLimit,
    banned: LogLimit,
    refused: LogLimit,
    /// When a slow peer was last told of.
    slow_peer: Option<Instant>,
}

impl Driver {
    /// Sets everything up and listens. Must be called inside of a tokio runtime.
    pub(super) fn new(
        config: NetworkConfig,
    ) -> Result<(Self, mpsc::Receiver<NetworkCommand>, NetworkHandle, Events), NetworkError> {
        let mut identity = config.identity;
        let secret = ed25519::SecretKey::try_from_bytes(&mut identity).expect("32 bytes are an Ed25519 secret key");
        let key = ed25519::Keypair::from(secret);
        let protocols = config.request_protocols.iter().map(|name| behaviour::protocol(name));
        let protocols = protocols.collect::<Result<Vec<_>, _>>()?;
        if protocols.is_empty() {
            return Err(NetworkError::NoProtocol);
        }
        let kademlia = config.kademlia.as_deref().map(behaviour::protocol).transpose()?;
        let bootstrap = config.bootstrap.iter().map(|text| address::parse(text)).collect::<Result<Vec<_>, _>>()?;
        let agent = match config.role {
            Role::Full => format!("ocelli/{}", env!("CARGO_PKG_VERSION")),
            Role::Light => format!("ocelli/{} light", env!("CARGO_PKG_VERSION")),
        };

        let gossip_bytes = CountBytes::default();
        let mut swarm = swarm(&config, Keypair::from(key.clone()), &protocols, &agent, gossip_bytes.clone())?;
        for text in &config.listen {
            check_port(text)?;
        }
        for text in &config.listen {
            listen(&mut swarm, text)?;
        }
        for text in &config.external {
            swarm.add_external_address(address::without_peer(address::parse(text)?));
        }

        let (me, now) = (*swarm.local_peer_id(), Instant::now());
        let feelers = (config.role == Role::Full).then_some(config.limits.times.feeler_interval);
        let seed = rand::random();
        // The same in each run: what worked has its place again.
        let book = Book::new(tagged("ocelli/secret of the address book", &[&config.identity]), seed);
        let target = config.limits.connections.target_outbound;
        let mut discovery = Discovery::new(book, bootstrap, target, feelers, me, seed, now);
        for text in &config.known {
            match address::parse(text).ok().and_then(|address| Some((address::peer(&address)?, address))) {
                Some((peer, address)) if peer != me => {
                    discovery.book.remember((peer, address::without_peer(address)), now);
                }
                Some(_) => {}
                None => tracing::warn!(address = %text, "skipped a known peer's address that cannot be read"),
            }
        }

        let untaken = Untaken::new(&config.limits.messages);
        let (queue, events) = queue(config.limits.queue.events, config.limits.queue.bytes);
        let (command_sender, commands) = mpsc::channel(COMMAND_QUEUE);
        let snapshot = Snapshot { status: empty_status(me, &agent), known: Arc::default(), bans_version: 0 };
        let mut driver = Self {
            ways: Ways::new(config.traversal.is_some() && config.role == Role::Full),
            asked: Asked::new(config.limits.messages.requests),
            shown: Shown {
                snapshot: watch::Sender::new(Arc::new(snapshot)),
                is_old: false,
                known: Arc::default(),
                known_version: None,
                clock: config.clock,
                gossip_bytes,
            },
            swarm,
            own: Own { agent, role: config.role, protocols, kademlia },
            limits: config.limits,
            queue,
            discovery,
            dials: Dials::default(),
            penalties: Penalties::default(),
            peers: HashMap::new(),
            eviction_secret: RandomState::new(),
            unsent: Unsent::default(),
            counters: Counters::default(),
            logs: Logs {
                connected: LogLimit::new("inbound peers"),
                banned: LogLimit::new("bans"),
                refused: LogLimit::new("connections refused for lack of memory"),
                slow_peer: None,
            },
        };
        driver.update_reachability();
        driver.publish_snapshot();
        let handle = NetworkHandle {
            commands: command_sender,
            snapshot: driver.shown.snapshot.subscribe(),
            shared: Arc::new(Shared { key, peer: Peer(me), next_request: AtomicU64::new(1), untaken }),
            asker: 0,
        };
        Ok((driver, commands, handle, events))
    }

    /// Runs until the end. Hands back the queue, whose drop tells the consumer that everything is closed.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<NetworkCommand>) -> EventQueue {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tick: u32 = 0;
        let mut published = tokio::time::Instant::now();
        loop {
            let due = published + SNAPSHOT_PAUSE;
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_swarm_event(event),
                command = commands.recv() => match command {
                    Some(NetworkCommand::Shutdown) | None => break,
                    Some(command) => self.on_command(command),
                },
                () = self.queue.deliver(), if self.queue.keeps() => {}
                () = tokio::time::sleep_until(due), if self.shown.is_old => {}
                _ = ticks.tick() => {
                    if self.queue.is_closed() {
                        break;
                    }
                    tick = tick.wrapping_add(1);
                    self.on_tick(Instant::now(), tick.is_multiple_of(SLOW_TICKS));
                }
            }
            let now = tokio::time::Instant::now();
            if self.shown.is_old && now >= due {
                self.publish_snapshot();
                published = now;
            }
        }
        self.publish_snapshot();
        let Self { queue, swarm, .. } = self;
        drop(swarm);
        queue
    }

    fn on_command(&mut self, command: NetworkCommand) {
        match command {
            NetworkCommand::Publish { topic, data } => self.publish(topic, data),
            NetworkCommand::Report { id, acceptance } => self.report(&id, acceptance),
            NetworkCommand::Request { id, peer, data } => self.request(id, peer, data),
            NetworkCommand::Respond { token, response } => self.respond(token, response),
            NetworkCommand::Penalize { peer, misbehaviour } => self.penalize(peer.0, misbehaviour),
            NetworkCommand::Ban { subject: BanSubject::Peer(peer), time, reason } => self.ban(peer.0, time, &reason),
            NetworkCommand::Ban { subject: BanSubject::Ip(ip), time, reason } => self.ban_ip(ip, time, reason),
            NetworkCommand::Unban { subject } => self.unban(subject),
            NetworkCommand::Disconnect { peer } => self.swarm.behaviour_mut().gate.close(peer.0),
            NetworkCommand::Dial { address } => self.dial_asked(address),
            NetworkCommand::Add { address } => {
                let me = *self.swarm.local_peer_id();
                self.discovery.add(address, me, Instant::now());
            }
            NetworkCommand::Shutdown => {}
        }
    }

    fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_connection_established(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, cause, .. } => {
                if let Some(cause) = cause {
                    tracing::debug!(peer = %peer_id, cause = %chain(&cause), "connection closed");
                }
                self.on_connection_closed(peer_id, connection_id, num_established);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                self.on_dial_error(connection_id, peer_id, &error);
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                tracing::debug!(address = %send_back_addr, error = %chain(&error), "an inbound connection failed");
                if let ListenError::Denied { cause } = &error
                    && let Some(failure) = DialFailure::of_memory(cause)
                    && self.logs.refused.has_room()
                {
                    tracing::warn!(reason = %failure, "a connection is refused; {}", failure.advice());
                }
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                let address = with_peer(&address, *self.swarm.local_peer_id());
                tracing::debug!(%address, "listening");
                // First, so that whoever hears of the address finds it in the status as well.
                self.publish_snapshot();
                self.queue.insist(NetworkEvent::Listening(address));
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                tracing::info!(%address, "no longer listening");
                self.shown.is_old = true;
            }
            SwarmEvent::ListenerClosed { listener_id, reason, .. } if self.on_relay_lost(&listener_id, &reason) => {}
            SwarmEvent::ListenerClosed { addresses, reason: Err(error), .. } => {
                tracing::error!(?addresses, %error, "a listener failed; restart the node to listen there again");
                self.shown.is_old = true;
            }
            SwarmEvent::ExternalAddrConfirmed { .. } | SwarmEvent::ExternalAddrExpired { .. } => {
                self.update_reachability();
            }
            SwarmEvent::ListenerError { error, .. } => tracing::debug!(%error, "a listener had an error"),
            _ => {}
        }
    }

    fn on_behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Identify(event) => self.on_identify(event),
            BehaviourEvent::Ping(ping::Event { peer, connection, result }) => self.on_ping(peer, connection, result),
            BehaviourEvent::Kademlia(event) => tracing::trace!(?event, "Kademlia"),
            BehaviourEvent::Mdns(event) => self.on_mdns(event),
            BehaviourEvent::Gossip(event) => self.on_gossip(event),
            BehaviourEvent::Requests(event) => self.on_request_response(event),
            BehaviourEvent::RelayClient(event) => self.on_relay_client(&event),
            BehaviourEvent::RelayServer(event) => tracing::debug!(?event, "as a relay"),
            BehaviourEvent::HolePunching(event) => self.on_hole_punched(&event),
            BehaviourEvent::AutonatClient(event) => self.on_tested(event),
            BehaviourEvent::AutonatServer(event) => tracing::debug!(?event, "tested a peer's address"),
            BehaviourEvent::Upnp(event) => self.on_upnp(&event),
            BehaviourEvent::Gate(never) | BehaviourEvent::Limits(never) => match never {},
        }
    }

    fn on_tick(&mut self, now: Instant, slow: bool) {
        self.dial_due(now);
        self.close_unidentified(now);
        self.look_up(now);
        self.expire_requests(now);
        if slow {
            self.penalties.forget_faded(now);
            self.swarm.behaviour_mut().gate.bans.forget_expired(Instant::now());
            self.check_scores(now);
            self.expire_unsent(now);
            self.look_for_relay(now);
            self.test_again(now);
            self.close_relayed(now);
            // Whom to come back to first changes with time.
            self.shown.known_version = None;
            self.shown.is_old = true;
        }
    }

    /// Tells gossipsub the penalties as they fade, and bans whom gossipsub finds unbearable.
    fn check_scores(&mut self, now: Instant) {
        let Some(gossip) = self.swarm.behaviour_mut().gossip.as_mut() else { return };
        let mut unbearable = Vec::new();
        for peer in self.peers.keys() {
            gossip.set_application_score(peer, -f64::from(self.penalties.points(peer, now)));
            if gossip.peer_score(peer).is_some_and(|score| score < GRAYLIST_SCORE) {
                unbearable.push(*peer);
            }
        }
        for peer in unbearable {
            self.ban(peer, self.limits.bans.time, "much invalid gossip");
        }
    }

    fn publish_snapshot(&mut self) {
        self.shown.is_old = false;
        self.counters.gossip.bytes_received = self.shown.gossip_bytes.0.load(Ordering::Relaxed);
        let version = self.discovery.book.version();
        if self.shown.known_version != Some(version) {
            self.shown.known = self.discovery.book.export(&self.anchors()).into();
            self.shown.known_version = Some(version);
        }
        let me = *self.swarm.local_peer_id();
        let now = Instant::now();
        let behaviour = self.swarm.behaviour();
        let mut topics: HashMap<PeerId, usize> = HashMap::new();
        if let Some(gossip) = behaviour.gossip.as_ref() {
            let ours: Vec<&TopicHash> = gossip.topics().collect();
            for (peer, theirs) in gossip.all_peers() {
                topics.insert(*peer, theirs.iter().filter(|topic| ours.contains(topic)).count());
            }
        }
        let mut peers: Vec<PeerStatus> = self
            .peers
            .iter()
            .filter_map(|(peer, state)| {
                let direct = state.connections.iter().find(|one| !one.relayed);
                let (identity, connection) = (state.identity.as_ref()?, direct.or(state.connections.first())?);
                Some(PeerStatus {
                    peer: Peer(*peer),
                    address: connection.address.to_string(),
                    inbound: connection.inbound,
                    light: identity.light,
                    agent: identity.agent.clone(),
                    connected: now.saturating_duration_since(state.since),
                    round_trip: state.round_trip,
                    score: behaviour.gossip.as_ref().and_then(|gossip| gossip.peer_score(peer)).unwrap_or(0.0),
                    penalty: self.penalties.points(peer, now),
                    topics: topics.get(peer).copied().unwrap_or(0),
                })
            })
            .collect();
        peers.sort_by_key(|peer| peer.peer);
        let addresses = self.swarm.listeners().chain(self.swarm.external_addresses());
        let status = NetworkStatus {
            addresses: addresses.map(|address| with_peer(address, me)).collect(),
            peers,
            reachability: self.ways.reachability.clone(),
            banned: behaviour.gate.bans.all(now, self.shown.clock.unix_seconds()),
            known_addresses: self.discovery.book.len(),
            failures: self.dials.failures.all(),
            counters: self.counters,
            ..empty_status(me, &self.own.agent)
        };
        let bans_version = behaviour.gate.bans.version();
        self.shown.snapshot.send_replace(Arc::new(Snapshot {
            status,
            known: Arc::clone(&self.shown.known),
            bans_version,
        }));
    }
}

/// The address with our identity at its end, where those through relays have it already.
fn with_peer(address: &Multiaddr, me: PeerId) -> String {
    if address::peer(address) == Some(me) { address.to_string() } else { format!("{address}/p2p/{me}") }
}

fn empty_status(me: PeerId, agent: &str) -> NetworkStatus {
    NetworkStatus {
        peer: Peer(me),
        agent: agent.into(),
        addresses: Vec::new(),
        reachability: Reachability::Unknown,
        peers: Vec::new(),
        banned: Vec::new(),
        known_addresses: 0,
        failures: Vec::new(),
        counters: Counters::default(),
    }
}

/// How connections are shared among streams.
fn streams() -> yamux::Config {
    let mut config = yamux::Config::default();
    config.set_max_num_streams(MAX_STREAMS);
    config
}

fn swarm(
    config: &NetworkConfig,
    key: Keypair,
    protocols: &[StreamProtocol],
    agent: &str,
    gossip_bytes: CountBytes,
) -> Result<Swarm<Behaviour>, NetworkError> {
    let mut behaviour = Behaviour::new(config, &key, protocols, agent, gossip_bytes)?;
    let Ok(builder) = SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, streams)
        .map_err(|source: noise::Error| NetworkError::Transport { source: Box::new(source) })?
        .with_quic()
        .with_dns()
        .map_err(|source| NetworkError::Transport { source: Box::new(source) })?
        .with_relay_client(noise::Config::new, streams)
        .map_err(|source| NetworkError::Transport { source: Box::new(source) })?
        .with_behaviour(|_, relay| {
            behaviour.relay_client = Some(relay).into();
            behaviour
        });
    let idle = match config.role {
        Role::Full => config.limits.times.idle,
        // The one who asks decides how long it stays.
        Role::Light => config.limits.times.idle.max(Duration::from_secs(24 * 60 * 60)),
    };
    Ok(builder
        .with_swarm_config(|swarm| swarm.with_idle_connection_timeout(idle))
        .with_connection_timeout(DIAL_TIMEOUT)
        .build())
}

/// Finds out whether a TCP port is in use. libp2p binds with `SO_REUSEPORT`, so that two nodes of one user could listen on
/// the same port, and the system would deal connections to either; a plain socket is told. All are tried before one is
/// listened on, since a plain socket on `::` also takes the port of `0.0.0.0`.
fn check_port(text: &str) -> Result<(), NetworkError> {
    match address::tcp_socket(&address::parse(text)?).filter(|socket| socket.port() != 0).map(TcpListener::bind) {
        Some(Err(error)) if error.kind() == io::ErrorKind::AddrInUse => {
            Err(NetworkError::PortInUse { address: text.into() })
        }
        // Other failures meet `listen` again.
        _ => Ok(()),
    }
}

fn listen(swarm: &mut Swarm<Behaviour>, text: &str) -> Result<ListenerId, NetworkError> {
    let address: Multiaddr = address::without_peer(address::parse(text)?);
    swarm.listen_on(address).map_err(|error| match error {
        TransportError::MultiaddrNotSupported(_) => NetworkError::UnsupportedTransport { address: text.into() },
        TransportError::Other(error) if io_kind(&error) == Some(io::ErrorKind::AddrInUse) => {
            NetworkError::PortInUse { address: text.into() }
        }
        TransportError::Other(source) => NetworkError::Listen { address: text.into(), source },
    })
}
