//! What the network tells, and the tokens that refer to it.

use std::fmt;

use libp2p::PeerId;
use libp2p::request_response::ResponseChannel;

use super::untaken::ResponseBytes;
use super::{DialFailure, Group, Peer, RequestFailure};

/// What the network tells its consumer.
#[derive(Debug)]
pub enum NetworkEvent {
    /// The network listens on this multiaddr, which ends in `/p2p/…` and is ready to be given to others.
    Listening(String),
    /// A peer of our network is connected and has said who it is. Told once a peer, however many connections it has.
    Connected {
        peer: Peer,
        /// The multiaddr at the other end.
        address: String,
        /// The group of that address.
        group: Group,
        /// Whether the peer dialled us.
        inbound: bool,
        /// Whether it is a light peer, which answers no requests.
        light: bool,
        /// Which of our request protocols it answers; none if it is light.
        protocol: Option<String>,
    },
    /// The last connection with a peer that was told as connected is closed.
    Disconnected { peer: Peer },
    /// A gossip message, to be judged with [`NetworkHandle::report`](super::NetworkHandle::report): it is forwarded when accepted, not
    /// before. It may come from a peer that is not told as connected yet.
    Gossip {
        /// Names the message in the report.
        id: GossipId,
        topic: String,
        /// Who forwarded it, not who wrote it.
        source: Peer,
        data: Vec<u8>,
    },
    /// A peer takes gossip too slowly, and has missed some of what was to be sent to it.
    MissedGossip { peer: Peer },
    /// A connected peer asks.
    Request {
        peer: Peer,
        /// Takes the response; dropping it tells the peer that there is none.
        token: ResponseToken,
        data: Vec<u8>,
    },
    /// What became of a request: exactly one for each [`NetworkHandle::request`](super::NetworkHandle::request).
    Response { id: RequestId, peer: Peer, result: Result<Vec<u8>, RequestFailure> },
    /// A dialled address gave no usable peer. Those that were given are dialled again later.
    DialFailed { address: String, reason: DialFailure },
}

impl NetworkEvent {
    /// The bytes that it holds, roughly: what the queue's bound counts.
    pub(super) fn size(&self) -> usize {
        let data = match self {
            Self::Gossip { data, .. } | Self::Request { data, .. } | Self::Response { result: Ok(data), .. } => {
                data.len()
            }
            _ => 0,
        };
        data + size_of::<Self>()
    }
}

/// Names a request of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    pub(super) number: u64,
    pub(super) asker: u8,
}

impl RequestId {
    /// Who has asked: what [`NetworkHandle::for_asker`](super::NetworkHandle::for_asker) was told, or 0.
    pub fn asker(self) -> u8 {
        self.asker
    }
}

/// Names a gossip message, as it came from one peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GossipId {
    pub(super) message: [u8; 32],
    pub(super) source: PeerId,
}

impl GossipId {
    /// A message that nobody has sent, for tests.
    #[cfg(test)]
    pub(crate) fn of(number: u8, source: Peer) -> Self {
        Self { message: [number; 32], source: source.0 }
    }
}

/// What gossip is found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceptance {
    /// Good: forward it.
    Accept,
    /// Neither good nor the sender's fault: do not forward it.
    Ignore,
    /// Bad: do not forward it, and lower the sender's score.
    Reject,
}

/// Takes the response to one request. Dropped, it tells the peer that there is none.
#[must_use = "dropping it leaves the peer without a response"]
pub struct ResponseToken {
    pub(super) channel: ResponseChannel<ResponseBytes>,
    pub(super) peer: PeerId,
    /// The most bytes that the response may have.
    pub(super) limit: usize,
}

impl ResponseToken {
    /// Whether the peer still waits.
    pub fn is_open(&self) -> bool {
        self.channel.is_open()
    }
}

impl fmt::Debug for ResponseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseToken")
    }
}
