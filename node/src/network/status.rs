//! A snapshot of the network, for people to look at.

use std::time::Duration;

use super::{Ban, DialFailure, Peer, Reachability};

/// The network at one moment, at most about a second old.
#[derive(Clone, Debug)]
pub struct Status {
    /// This node's identity.
    pub peer: Peer,
    /// How this node calls itself.
    pub agent: String,
    /// Multiaddrs to reach this node, ending in `/p2p/…`: those it listens on and those it was told are its own.
    pub addresses: Vec<String>,
    /// Whether others can dial this node.
    pub reachability: Reachability,
    /// The peers told as connected, by identity.
    pub peers: Vec<PeerStatus>,
    /// The bans that hold, the longest first.
    pub banned: Vec<Ban>,
    /// Addresses of peers that could be dialled.
    pub known_addresses: usize,
    /// The latest failure of each dialled address, oldest first; an address that worked since is not here.
    pub failures: Vec<(String, DialFailure)>,
    /// What was counted since the start.
    pub counters: Counters,
}

/// One connected peer.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Who.
    pub peer: Peer,
    /// The multiaddr at the other end.
    pub address: String,
    /// Whether the peer dialled us.
    pub inbound: bool,
    /// Whether it is a light peer.
    pub light: bool,
    /// How it calls itself, shortened.
    pub agent: String,
    /// How long ago it connected.
    pub connected: Duration,
    /// The last ping's round trip.
    pub round_trip: Option<Duration>,
    /// Gossipsub's score for display: below zero is bad.
    pub score: f64,
    /// Penalty points that have not yet decayed.
    pub penalty: u32,
    /// How many of our topics it takes part in.
    pub topics: usize,
}

/// Counts since the start. Bytes are payload, without framing and encryption.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Gossip messages received.
    pub gossip_received: u64,
    /// Bytes of gossip messages received, every copy of each, with topic and framing.
    pub gossip_bytes_received: u64,
    /// Bytes of gossip messages published by this node, each once, however many peers it went to.
    pub gossip_bytes_published: u64,
    /// Gossip messages dropped because the consumer was busy.
    pub gossip_dropped: u64,
    /// Gossip messages published by this node.
    pub gossip_published: u64,
    /// Gossip messages of this node that found nobody in time, or no room.
    pub gossip_failed: u64,
    /// Requests received.
    pub requests_received: u64,
    /// Requests dropped because the consumer was busy.
    pub requests_dropped: u64,
    /// Requests sent.
    pub requests_sent: u64,
    /// Requests sent that failed.
    pub requests_failed: u64,
    /// Bytes received in gossip, requests and responses.
    pub bytes_received: u64,
    /// Bytes sent in own gossip, requests and responses.
    pub bytes_sent: u64,
    /// Dials that gave no usable peer.
    pub dials_failed: u64,
    /// Inbound peers that gave way to others.
    pub evicted: u64,
    /// Peers banned.
    pub bans: u64,
    /// Gossip messages not sent because a peer was too slow to take them.
    pub slow_peer_messages: u64,
}
