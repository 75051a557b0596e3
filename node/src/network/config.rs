//! What the network is told at its start.

use std::time::Duration;

use super::Ban;
use crate::clock::Clock;

/// The part a peer plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Serves: answers requests, gossips, is found by others.
    Full,
    /// Only asks: sends requests, answers none, gossips nothing, is not listed anywhere.
    Light,
}

/// The Kademlia protocol of the network whose genesis hash is `genesis` (printed as hexadecimal).
pub fn kademlia_protocol(genesis: &str) -> String {
    format!("/ocelli/{genesis}/kad/1")
}

/// The configuration of [`spawn`](super::spawn).
#[derive(Clone)]
pub struct NetworkConfig {
    /// The Ed25519 secret key (RFC 8032's seed) that the peer's identity derives from.
    pub identity: [u8; 32],
    /// The part this peer plays.
    pub role: Role,
    /// Names of the request protocol, best first. A full node has one, of its network; a client that does not know the
    /// network yet may have several, and learns from [`NetworkEvent::Connected`](super::NetworkEvent::Connected) which one it met.
    pub request_protocols: Vec<String>,
    /// The Kademlia protocol; `None` does without. A full node serves it, a light one only asks.
    pub kademlia: Option<String>,
    /// The gossip topics to take part in; ignored by a light peer.
    pub topics: Vec<String>,
    /// Multiaddrs to listen on, such as `/ip4/0.0.0.0/tcp/9901` and `/ip4/0.0.0.0/udp/9901/quic-v1`. Port 0 lets the
    /// system choose.
    pub listen: Vec<String>,
    /// Multiaddrs under which others reach this node, if those it listens on do not tell.
    pub external: Vec<String>,
    /// Multiaddrs to dial first, and again for as long as there is no peer. `/p2p/…` at the end is optional.
    pub bootstrap: Vec<String>,
    /// Addresses of earlier peers, as [`NetworkHandle::known_peers`](super::NetworkHandle::known_peers) gave them. Those that cannot
    /// be read are skipped.
    pub known: Vec<String>,
    /// Bans of earlier runs, as [`NetworkHandle::bans`](super::NetworkHandle::bans) gave them.
    pub bans: Vec<Ban>,
    /// Whether to look for peers on the local network by multicast DNS.
    pub mdns: bool,
    /// How to find out whether others can dial this node, and what to do if not; `None` neither asks nor helps. A node
    /// that listens on loopback only has no use for it.
    pub traversal: Option<Traversal>,
    /// All bounds and timeouts.
    pub limits: NetworkLimits,
    /// Where bans end by the clock on the wall is told by this one.
    pub clock: Clock,
}

/// Ways through NATs and firewalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traversal {
    /// Whether to ask the router to forward the ports (UPnP).
    pub upnp: bool,
    /// Whether to relay for others, within limits, once others can dial this node.
    pub relay_server: bool,
    /// How often addresses that others see this node at are tested.
    pub probe_interval: Duration,
}

impl Default for Traversal {
    fn default() -> Self {
        Self { upnp: true, relay_server: true, probe_interval: Duration::from_secs(5) }
    }
}

impl NetworkConfig {
    /// A full node's configuration that listens nowhere and knows nobody yet.
    pub fn full(identity: [u8; 32], request_protocol: String, topics: Vec<String>) -> Self {
        Self {
            identity,
            role: Role::Full,
            request_protocols: vec![request_protocol],
            kademlia: None,
            topics,
            listen: Vec::new(),
            external: Vec::new(),
            bootstrap: Vec::new(),
            known: Vec::new(),
            bans: Vec::new(),
            mdns: false,
            traversal: None,
            limits: NetworkLimits::default(),
            clock: Clock::system(),
        }
    }

    /// A light peer's configuration that speaks any of `request_protocols` and knows nobody yet.
    pub fn light(identity: [u8; 32], request_protocols: Vec<String>) -> Self {
        Self { role: Role::Light, request_protocols, ..Self::full(identity, String::new(), Vec::new()) }
    }
}

/// Connections that others may have dialled, unless told otherwise.
pub const DEFAULT_INBOUND: u32 = 64;

/// Bounds on all that peers can make grow, and timeouts. The defaults are first guesses for a node on a home line.
#[derive(Clone, Debug, Default)]
pub struct NetworkLimits {
    /// On requests, responses and gossip.
    pub messages: MessageLimits,
    /// On connections.
    pub connections: ConnectionLimits,
    /// On events that wait for the consumer.
    pub queue: QueueLimits,
    /// How long things may take.
    pub times: Times,
    /// When misbehaviour bans.
    pub bans: BanLimits,
}

/// Bounds on messages.
#[derive(Clone, Debug)]
pub struct MessageLimits {
    /// The most bytes of a request, sent or received, that begins with these four.
    pub request_bytes: fn(&[u8; 4]) -> usize,
    /// The most bytes of a response, sent or received, to this request.
    pub response_bytes: fn(&[u8]) -> usize,
    /// The largest gossip message in bytes.
    pub gossip_bytes: usize,
    /// Own requests under way at one time.
    pub requests: usize,
    /// Bytes of requests that one connection may have sent in part.
    pub half_read_bytes: usize,
    /// Bytes of responses to one peer that are made and not taken. One response is sent whatever its size.
    pub untaken_bytes: usize,
    /// The same of all peers; beyond it each has one response.
    pub all_untaken_bytes: usize,
}

/// Bounds on connections.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// Connections that this node has dialled.
    pub outbound: u32,
    /// Connections that others have dialled. When there are more, the least valuable one is closed.
    pub inbound: u32,
    /// Memory that the process may take, in bytes: above it connections are neither taken nor opened, and those there are go
    /// on. `None` is three quarters of the machine's.
    pub memory_bytes: Option<usize>,
    /// Connections with one peer. Two arise when both dial at the same time, a third while one is dying, and more for a
    /// moment while reachability is found out.
    pub per_peer: u32,
    /// Connections from one address (loopback is exempt).
    pub per_ip: usize,
    /// As many peers as this are dialled of those that are found.
    pub target_outbound: usize,
}

/// Bounds on events that wait for the consumer, before gossip and requests are dropped.
#[derive(Clone, Debug)]
pub struct QueueLimits {
    pub events: usize,
    /// Bytes in them.
    pub bytes: usize,
}

/// How long things may take.
#[derive(Clone, Debug)]
pub struct Times {
    /// From sending a request to the whole response; also how long a peer's request may wait for its answer.
    pub request: Duration,
    /// How long a peer may take to send a request once it has opened a stream for it, and to take a piece of a response.
    pub piece: Duration,
    /// How long a new connection may take to say who it is.
    pub identify: Duration,
    /// After this long without any request a connection with a light peer is closed (one that exceeds
    /// [`ConnectionLimits::target_outbound`] too). Full nodes keep theirs, and a light peer itself closes none.
    pub idle: Duration,
    /// Between two probes of remembered addresses (feelers); a light peer sends none.
    pub feeler_interval: Duration,
}

/// When misbehaviour bans.
#[derive(Clone, Debug)]
pub struct BanLimits {
    /// Penalty points (see [`NetworkHandle::penalize`](super::NetworkHandle::penalize)) that ban a peer.
    pub points: u32,
    /// How long such a ban lasts.
    pub time: Duration,
}

impl Default for MessageLimits {
    fn default() -> Self {
        Self {
            request_bytes: |_| 4 << 20,
            response_bytes: |_| 16 << 20,
            gossip_bytes: 2 << 20,
            requests: 128,
            half_read_bytes: 4 << 20,
            untaken_bytes: 32 << 20,
            all_untaken_bytes: 128 << 20,
        }
    }
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { outbound: 24, inbound: DEFAULT_INBOUND, memory_bytes: None, per_peer: 5, per_ip: 16, target_outbound: 8 }
    }
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self { events: 1024, bytes: 64 << 20 }
    }
}

impl Default for Times {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(30),
            piece: Duration::from_secs(15),
            identify: Duration::from_secs(10),
            idle: Duration::from_secs(180),
            feeler_interval: Duration::from_secs(120),
        }
    }
}

impl Default for BanLimits {
    fn default() -> Self {
        Self { points: 100, time: Duration::from_secs(60 * 60) }
    }
}
