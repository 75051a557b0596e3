//! A snapshot of the network, for people to look at.

use std::time::Duration;

use super::{Ban, DialFailure, Peer, Reachability, address};

/// The network at one moment, at most about a second old.
#[derive(Clone, Debug)]
pub struct NetworkStatus {
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

impl NetworkStatus {
    /// Those addresses of this node that anybody on the internet could dial: not a home network's or this machine's own.
    pub fn public_addresses(&self) -> impl Iterator<Item = &String> {
        self.addresses.iter().filter(|address| is_on_the_internet(address))
    }
}

/// Whether anybody on the internet could dial an address: not a home network's or a machine's own.
pub fn is_on_the_internet(address: &str) -> bool {
    address::parse(address).is_ok_and(|address| address::is_global(&address))
}

/// One connected peer.
#[derive(Clone, Debug)]
pub struct PeerStatus {
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
    /// Of gossip.
    pub gossip: GossipCounters,
    /// Of requests.
    pub requests: RequestCounters,
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
}

/// Counts of gossip messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GossipCounters {
    /// Received, each once.
    pub received: u64,
    /// Bytes received, every copy of each, with topic and framing.
    pub bytes_received: u64,
    /// Published by this node.
    pub published: u64,
    /// Bytes published by this node, each message once, however many peers it went to.
    pub bytes_published: u64,
    /// Dropped because the consumer was busy.
    pub dropped: u64,
    /// Of this node, and found nobody in time, or no room.
    pub failed: u64,
    /// Not sent because a peer was too slow to take them.
    pub missed: u64,
}

/// Counts of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestCounters {
    pub received: u64,
    /// Received, and dropped because the consumer was busy.
    pub dropped: u64,
    pub sent: u64,
    /// Sent, and failed.
    pub failed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_told_of_addresses_on_the_internet() {
        let peer = "/p2p/12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X";
        for (address, expected) in [
            ("/ip4/203.0.113.7/tcp/3297", true),
            ("/dns4/example.org/udp/3297/quic-v1", true),
            ("/ip4/127.0.0.1/tcp/3297", false),
            ("/ip4/192.168.0.7/tcp/3297", false),
            ("/ip6/fe80::1/tcp/3297", false),
            ("nonsense", false),
        ] {
            assert_eq!(is_on_the_internet(&format!("{address}{peer}")), expected, "{address}");
        }
    }
}
