//! Who a node talks to, whom it has banned, and how its owner changes either.

use std::net::{IpAddr, Ipv6Addr};

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use ocelli_consensus::AttachmentHash;

use super::{MAX_BANS, MAX_PEERS, MAX_TEXT_BYTES};
use crate::wire;

/// The peers of a node, as [`super::Response::Peers`] tells its owner of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerList {
    /// Those that are connected, light peers among them, at most [`MAX_PEERS`].
    pub peers: Vec<ConnectedPeer>,
    /// Bans that hold, at most [`MAX_BANS`].
    pub bans: Vec<Ban>,
    /// Addresses of peers that the node could dial.
    pub known_addresses: u64,
}

/// A connected peer.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct ConnectedPeer {
    /// Its libp2p peer id.
    pub id: String,
    /// The multiaddress at the other end.
    pub address: String,
    /// Whether it dialled the node rather than the node it.
    pub inbound: bool,
    /// Whether it only asks: it keeps no chain.
    pub light: bool,
    /// Its program and version, by its own word.
    pub agent: String,
    /// The height of its tip, by its own word.
    pub height: Option<u64>,
    /// Its score in gossip, in thousandths: below zero is bad.
    pub score: i64,
    /// Points for misbehaviour that have not faded yet. At 100 a peer is banned.
    pub points: u32,
    /// Seconds since it connected.
    pub seconds: u64,
    /// The last ping's round trip in microseconds.
    pub round_trip: Option<u64>,
}

/// A ban.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct Ban {
    /// Who or what is not let in.
    pub subject: BanSubject,
    /// Why, for people.
    pub reason: String,
    /// Seconds that are left of it.
    pub seconds_left: u64,
}

/// Whom a ban keeps out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BanSubject {
    /// Tag 1: a peer, by its libp2p peer id in text form.
    Peer(String),
    /// Tag 2: whoever comes from an IP address.
    Address(IpAddr),
}

/// Proves that whoever sends a [`Control`] may read the node's data folder: the content of its file `cookie`.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Cookie(pub [u8; 32]);

impl Cookie {
    /// Whether both are equal, in a time that does not tell where they differ.
    pub fn matches(&self, other: &Self) -> bool {
        let differences = self.0.iter().zip(&other.0).fold(0, |found, (a, b)| found | (a ^ b));
        std::hint::black_box(differences) == 0
    }
}

/// Secret: it is not for logs.
impl std::fmt::Debug for Cookie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cookie")
    }
}

/// What a node's owner tells it to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Tag 1: disconnect somebody and keep them out.
    Ban {
        subject: BanSubject,
        /// For how long.
        seconds: u64,
        /// Why, at most [`MAX_TEXT_BYTES`].
        reason: String,
    },
    /// Tag 2: let somebody in again.
    Unban { subject: BanSubject },
    /// Tag 3: dial a multiaddress now, and remember it.
    Add { address: String },
    /// Tag 4: copy the chain, as it is now, into `snapshot` in a folder that is there for that.
    Snapshot {
        /// The name of that folder, which lies in the data folder.
        folder: String,
    },
    /// Tag 5: say who the node talks to, and whom it has banned. [`super::Response::Peers`] answers it.
    Peers,
    /// Tag 6: neither keep nor serve an attachment.
    Forget { attachment: AttachmentHash },
}

impl PeerList {
    /// Cuts every list and text to its limit, so that the peer can read the whole.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        let shorten = |text: &mut String| *text = wire::shorten(std::mem::take(text), MAX_TEXT_BYTES);
        self.peers.truncate(MAX_PEERS);
        self.bans.truncate(MAX_BANS);
        self.peers.iter_mut().flat_map(|peer| [&mut peer.id, &mut peer.address, &mut peer.agent]).for_each(shorten);
        self.bans.iter_mut().map(|ban| &mut ban.reason).for_each(shorten);
        self
    }
}

impl Encode for PeerList {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        (&self.peers, &self.bans, self.known_addresses).encode(encoder)
    }
}

impl<C> Decode<C> for PeerList {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Self {
            peers: wire::list(decoder, "peers", MAX_PEERS, ConnectedPeer::decode)?,
            bans: wire::list(decoder, "bans", MAX_BANS, Ban::decode)?,
            known_addresses: Decode::decode(decoder)?,
        })
    }
}

impl<C> Decode<C> for ConnectedPeer {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Self {
            id: text(decoder)?,
            address: text(decoder)?,
            inbound: Decode::decode(decoder)?,
            light: Decode::decode(decoder)?,
            agent: text(decoder)?,
            height: Decode::decode(decoder)?,
            score: Decode::decode(decoder)?,
            points: Decode::decode(decoder)?,
            seconds: Decode::decode(decoder)?,
            round_trip: Decode::decode(decoder)?,
        })
    }
}

impl<C> Decode<C> for Ban {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Self { subject: Decode::decode(decoder)?, reason: text(decoder)?, seconds_left: Decode::decode(decoder)? })
    }
}

impl Encode for BanSubject {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        match self {
            Self::Peer(id) => (1u32, id).encode(encoder),
            Self::Address(ip) => (2u32, mapped(*ip).octets()).encode(encoder),
        }
    }
}

impl<C> Decode<C> for BanSubject {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        match u32::decode(decoder)? {
            1 => Ok(Self::Peer(text(decoder)?)),
            2 => Ok(Self::Address(Ipv6Addr::from(<[u8; 16]>::decode(decoder)?).to_canonical())),
            tag => wire::unknown_tag("ban subject", tag),
        }
    }
}

impl Encode for Control {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        match self {
            Self::Ban { subject, seconds, reason } => (1u32, subject, seconds, reason).encode(encoder),
            Self::Unban { subject } => (2u32, subject).encode(encoder),
            Self::Add { address } => (3u32, address).encode(encoder),
            Self::Snapshot { folder } => (4u32, folder).encode(encoder),
            Self::Peers => 5u32.encode(encoder),
            Self::Forget { attachment } => (6u32, attachment).encode(encoder),
        }
    }
}

impl<C> Decode<C> for Control {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        match u32::decode(decoder)? {
            1 => Ok(Self::Ban {
                subject: Decode::decode(decoder)?,
                seconds: Decode::decode(decoder)?,
                reason: text(decoder)?,
            }),
            2 => Ok(Self::Unban { subject: Decode::decode(decoder)? }),
            3 => Ok(Self::Add { address: text(decoder)? }),
            4 => Ok(Self::Snapshot { folder: text(decoder)? }),
            5 => Ok(Self::Peers),
            6 => Ok(Self::Forget { attachment: Decode::decode(decoder)? }),
            tag => wire::unknown_tag("control", tag),
        }
    }
}

/// An IPv4 address as the IPv6 address that stands for it (RFC 4291, 2.5.5.2).
fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

fn text<D: Decoder>(decoder: &mut D) -> Result<String, DecodeError> {
    wire::text(decoder, "bytes of text", MAX_TEXT_BYTES)
}
