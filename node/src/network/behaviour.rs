//! The libp2p protocols, put together and configured.

use std::time::{Duration, Instant};

use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::gossipsub::{
    self, IdentTopic, MessageAuthenticity, MessageId, PeerScoreParams, PeerScoreThresholds, TopicScoreParams,
    ValidationMode, score_parameter_decay,
};
use libp2p::identity::Keypair;
use libp2p::kad::store::MemoryStore;
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{
    PeerId, StreamProtocol, autonat, dcutr, identify, kad, mdns, memory_connection_limits, ping, relay, upnp,
};
use sha2::{Digest as _, Sha256};

use super::bans::Bans;
use super::codec::ByteCodec;
use super::gate::Gate;
use super::gossip_bytes::CountBytes;
use super::retest::Retesting;
use super::{NetworkConfig, NetworkError, NetworkLimits, Role};

/// A peer whose gossip score falls below this is ignored by gossipsub, and banned by us. One invalid message costs 10,
/// two 40, three 90, four 160, forgotten within about ten minutes; each penalty point costs 1.
pub(super) const GRAYLIST_SCORE: f64 = -100.0;

/// Below this, gossip about messages is neither sent nor heeded.
const GOSSIP_SCORE: f64 = -20.0;

/// Below this, own messages are not sent to the peer.
const PUBLISH_SCORE: f64 = -50.0;

/// What an RPC holds beside the message: topic, framing, control messages.
const GOSSIP_OVERHEAD: usize = 64 << 10;

/// Messages that wait for one peer. Few, since they may be large: a slow peer loses messages rather than we memory.
const GOSSIP_QUEUE: usize = 128;

/// How long a seen message is remembered, so that it is delivered only once. Much longer than it can circulate.
const SEEN_FOR: Duration = Duration::from_secs(180);

/// Streams of requests, both ways, on one connection.
const REQUEST_STREAMS: usize = 32;

/// Connections that are being set up at one time, each way.
const MAX_PENDING: u32 = 32;

/// The share of the machine's memory that the process may take, unless told otherwise.
const MEMORY_SHARE: f64 = 0.75;

/// Inbound connections beyond the limit, each open until it is found out who has to go.
const SPARE_INBOUND: u32 = 8;

/// All protocols of a node. A light peer has no gossip.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    pub(super) gate: Gate,
    limits: connection_limits::Behaviour,
    pub(super) identify: identify::Behaviour,
    ping: ping::Behaviour,
    pub(super) kademlia: Toggle<kad::Behaviour<MemoryStore>>,
    mdns: Toggle<mdns::tokio::Behaviour>,
    pub(super) gossip: Toggle<gossipsub::Behaviour<CountBytes>>,
    pub(super) requests: request_response::Behaviour<ByteCodec>,
    /// Set when the transport is built, of which it is the other half.
    pub(super) relay_client: Toggle<relay::client::Behaviour>,
    pub(super) relay_server: Toggle<relay::Behaviour>,
    hole_punching: Toggle<dcutr::Behaviour>,
    pub(super) autonat_client: Toggle<Retesting>,
    autonat_server: Toggle<autonat::v2::server::Behaviour>,
    upnp: Toggle<upnp::tokio::Behaviour>,
}

impl Behaviour {
    pub(super) fn new(
        config: &NetworkConfig,
        key: &Keypair,
        protocols: &[StreamProtocol],
        agent: &str,
        gossip_bytes: CountBytes,
    ) -> Result<Self, NetworkError> {
        let me = key.public().to_peer_id();
        let traversal = config.traversal.filter(|_| config.role == Role::Full);
        Ok(Self {
            gate: Gate::new(
                config.limits.connections.per_ip,
                memory_limit(&config.limits),
                Bans::of(&config.bans, Instant::now(), config.clock.unix_seconds()),
            ),
            limits: connection_limits::Behaviour::new(connection_limits(&config.limits)),
            identify: identify::Behaviour::new(
                identify::Config::new("ocelli/1".into(), key.public())
                    .with_agent_version(agent.into())
                    .with_push_listen_addr_updates(true),
            ),
            ping: ping::Behaviour::default(),
            kademlia: kademlia(config, me)?.into(),
            mdns: config.mdns.then(|| multicast(me)).flatten().into(),
            gossip: match config.role {
                Role::Full => Some(gossip(config, gossip_bytes)?).into(),
                Role::Light => None.into(),
            },
            requests: requests(config, protocols),
            relay_client: None.into(),
            relay_server: traversal.filter(|ways| ways.relay_server).map(|_| relay_server(me)).into(),
            hole_punching: traversal.map(|_| dcutr::Behaviour::new(me)).into(),
            autonat_client: traversal.map(|ways| Retesting::new(ways.probe_interval)).into(),
            autonat_server: traversal.map(|_| autonat::v2::server::Behaviour::default()).into(),
            upnp: traversal.filter(|ways| ways.upnp).map(|_| upnp::tokio::Behaviour::default()).into(),
        })
    }
}

/// A message's id: the SHA-256 of its topic (with its length as u64 little-endian before it) and its content.
pub(super) fn message_id(topic: &str, data: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update((topic.len() as u64).to_le_bytes());
    hash.update(topic);
    hash.update(data);
    hash.finalize().into()
}

/// Checks a protocol's name.
pub(super) fn protocol(name: &str) -> Result<StreamProtocol, NetworkError> {
    StreamProtocol::try_from_owned(name.into()).map_err(|_| NetworkError::BadProtocol { name: name.into() })
}

fn connection_limits(limits: &NetworkLimits) -> ConnectionLimits {
    ConnectionLimits::default()
        .with_max_pending_incoming(Some(MAX_PENDING))
        .with_max_pending_outgoing(Some(MAX_PENDING))
        .with_max_established_incoming(Some(limits.connections.inbound.saturating_add(SPARE_INBOUND)))
        .with_max_established_outgoing(Some(limits.connections.outbound))
        .with_max_established_per_peer(Some(limits.connections.per_peer))
}

/// Connections are what others make a process grow with most.
fn memory_limit(limits: &NetworkLimits) -> memory_connection_limits::Behaviour {
    limits.connections.memory_bytes.map_or_else(
        || memory_connection_limits::Behaviour::with_max_percentage(MEMORY_SHARE),
        memory_connection_limits::Behaviour::with_max_bytes,
    )
}

/// Kademlia serves us for finding peers only: records are not taken, and the table is filled by hand with peers that
/// have shown to be of our network.
fn kademlia(config: &NetworkConfig, me: PeerId) -> Result<Option<kad::Behaviour<MemoryStore>>, NetworkError> {
    let Some(name) = &config.kademlia else { return Ok(None) };
    let mut options = kad::Config::new(protocol(name)?);
    options
        .set_kbucket_inserts(kad::BucketInserts::Manual)
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_replication_interval(None)
        .set_publication_interval(None)
        .set_provider_publication_interval(None)
        .set_periodic_bootstrap_interval(None)
        .set_query_timeout(Duration::from_secs(20));
    let mut kademlia = kad::Behaviour::with_config(me, MemoryStore::new(me), options);
    // Said rather than guessed from confirmed external addresses, which a node at home or on loopback never has.
    kademlia.set_mode(Some(match config.role {
        Role::Full => kad::Mode::Server,
        Role::Light => kad::Mode::Client,
    }));
    Ok(Some(kademlia))
}

/// Circuits are for making connections direct, and short: 128 KiB and two minutes each, 16 at one time; reservations last
/// an hour, 128 of them, four a peer. Renewals and new circuits have rates for each peer and address (the crate's own).
fn relay_server(me: PeerId) -> relay::Behaviour {
    let config = relay::Config {
        max_reservations: 128,
        max_reservations_per_peer: 4,
        max_circuits: 16,
        max_circuits_per_peer: 4,
        max_circuit_duration: Duration::from_secs(120),
        max_circuit_bytes: 128 << 10,
        ..relay::Config::default()
    };
    let mut server = relay::Behaviour::new(me, config);
    // Until others reach this node.
    server.set_status(Some(relay::Status::Disable));
    server
}

fn multicast(me: PeerId) -> Option<mdns::tokio::Behaviour> {
    match mdns::tokio::Behaviour::new(mdns::Config::default(), me) {
        Ok(behaviour) => Some(behaviour),
        Err(error) => {
            tracing::warn!(%error, "peers on the local network will not be found: multicast DNS does not start");
            None
        }
    }
}

fn requests(config: &NetworkConfig, protocols: &[StreamProtocol]) -> request_response::Behaviour<ByteCodec> {
    let limits = &config.limits;
    let support = match config.role {
        Role::Full => ProtocolSupport::Full,
        Role::Light => ProtocolSupport::Outbound,
    };
    request_response::Behaviour::with_codec(
        ByteCodec::new(limits),
        protocols.iter().map(|name| (name.clone(), support.clone())),
        request_response::Config::default()
            .with_request_timeout(limits.times.request)
            .with_max_concurrent_streams(REQUEST_STREAMS),
    )
}

fn gossip(config: &NetworkConfig, count: CountBytes) -> Result<gossipsub::Behaviour<CountBytes>, NetworkError> {
    let wrong = |reason: String| NetworkError::Gossip { reason };
    let options = gossipsub::ConfigBuilder::default()
        .validate_messages()
        // Goes with the anonymous authenticity below: a message that names an author is invalid.
        .validation_mode(ValidationMode::Anonymous)
        .message_id_fn(|message| MessageId::new(&message_id(message.topic.as_str(), &message.data)))
        .duplicate_cache_time(SEEN_FOR)
        .max_transmit_size(config.limits.messages.gossip_bytes.saturating_add(GOSSIP_OVERHEAD))
        .connection_handler_queue_len(GOSSIP_QUEUE)
        // Large messages on slow lines take longer than the defaults of 5 s and 1 s.
        .publish_queue_duration(Duration::from_secs(10))
        .forward_queue_duration(Duration::from_secs(5))
        // Only announcements of blocks are gossiped. They come whole, so the first copy is all that a node needs, and what is
        // lost is found by sync: few lines carry them at once, as in Bitcoin, where three peers send compact blocks unasked
        // (BIP-152). A mesh of fewer peers than the lower bound is no error: with two or three nodes everybody is in it.
        .mesh_n_low(3)
        .mesh_n(4)
        // Each grafts four and is grafted by as many: with the usual upper bound of twice as many lines, all of them stay.
        .mesh_n_high(5)
        .mesh_outbound_min(1)
        // Smaller than an announcement of an empty block: whoever has one says at once that it needs no more copies.
        .idontwant_message_size_threshold(256)
        .heartbeat_initial_delay(Duration::from_millis(300))
        .heartbeat_interval(Duration::from_millis(700))
        .flood_publish(true)
        .build()
        .map_err(|error| wrong(error.to_string()))?;
    let mut gossip = gossipsub::Behaviour::new_with_transform(MessageAuthenticity::Anonymous, options, count)
        .map_err(|e| wrong(e.into()))?;

    let topics: Vec<_> = config.topics.iter().map(IdentTopic::new).collect();
    let scores = PeerScoreParams {
        topics: topics.iter().map(|topic| (topic.hash(), topic_score())).collect(),
        topic_score_cap: 50.0,
        app_specific_weight: 1.0,
        // A household or a small office shares an address; a test network shares loopback.
        ip_colocation_factor_weight: -5.0,
        ip_colocation_factor_threshold: config.limits.connections.per_ip.max(1) as f64,
        ip_colocation_factor_whitelist: [[127, 0, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()].into(),
        // Some broken promises and early grafts are honest: peers restart, and lines stall.
        behaviour_penalty_weight: -1.0,
        behaviour_penalty_threshold: 6.0,
        behaviour_penalty_decay: score_parameter_decay(Duration::from_secs(600)),
        slow_peer_weight: -0.1,
        slow_peer_threshold: 10.0,
        ..PeerScoreParams::default()
    };
    let thresholds = PeerScoreThresholds {
        gossip_threshold: GOSSIP_SCORE,
        publish_threshold: PUBLISH_SCORE,
        graylist_threshold: GRAYLIST_SCORE,
        accept_px_threshold: 100.0,
        opportunistic_graft_threshold: 1.0,
    };
    gossip.with_peer_score(scores, thresholds).map_err(wrong)?;
    for topic in &topics {
        gossip.subscribe(topic).map_err(|error| wrong(error.to_string()))?;
    }
    Ok(gossip)
}

/// Blocks come too seldom for a rule about how many a mesh peer must deliver (P3), which would punish quiet networks.
fn topic_score() -> TopicScoreParams {
    TopicScoreParams {
        topic_weight: 1.0,
        time_in_mesh_weight: 0.01,
        time_in_mesh_quantum: Duration::from_secs(1),
        time_in_mesh_cap: 1000.0,
        first_message_deliveries_weight: 0.5,
        first_message_deliveries_decay: score_parameter_decay(Duration::from_secs(600)),
        first_message_deliveries_cap: 40.0,
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        invalid_message_deliveries_weight: -10.0,
        invalid_message_deliveries_decay: score_parameter_decay(Duration::from_secs(600)),
        ..TopicScoreParams::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_from_topic_and_content() {
        let id = message_id("ab", b"c");
        assert_eq!(id, <[u8; 32]>::from(Sha256::digest(b"\x02\0\0\0\0\0\0\0abc")));
        assert_ne!(id, message_id("a", b"bc"));
    }
}
