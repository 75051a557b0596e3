//! What the node tells of its peers, and what its owner changes about them.

use std::time::Duration;

use ocelli_protocol::message::{self, ConnectedPeer, Control, Cookie, MAX_PEERS, PeerList, Response};

use super::service::{Service, unix_seconds};
use crate::network::{self, BanSubject, NetworkError};

impl Service {
    /// Everybody who is connected, and every ban.
    pub(super) fn peer_list(&self) -> PeerList {
        let status = self.network.status();
        let now = unix_seconds();
        let peers = status.peers.into_iter().take(MAX_PEERS).map(|peer| ConnectedPeer {
            id: peer.peer.to_string(),
            address: peer.address,
            inbound: peer.inbound,
            light: peer.light,
            agent: peer.agent,
            height: self.peers.get(&peer.peer).copied().flatten(),
            // For display; a score beyond 64 bits is cut.
            score: (peer.score * 1000.0) as i64,
            points: peer.penalty,
            seconds: peer.connected.as_secs(),
            round_trip: peer.round_trip.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
        });
        let bans = status.banned.into_iter().map(|ban| message::Ban {
            subject: match ban.subject {
                BanSubject::Peer(peer) => message::BanSubject::Peer(peer.to_string()),
                BanSubject::Ip(ip) => message::BanSubject::Address(ip),
            },
            reason: ban.reason,
            seconds_left: ban.until.saturating_sub(now),
        });
        PeerList { peers: peers.collect(), bans: bans.collect(), known_addresses: status.known_addresses as u64 }
            .bounded()
    }

    /// Does what the node's owner says; nobody else has the cookie.
    pub(super) fn control(&self, cookie: Cookie, control: Control) -> Response {
        if !self.cookie.matches(&cookie) {
            tracing::warn!("refused a command: its cookie is not the one in the data folder");
            return Response::failed(
                "not the owner of this node: the cookie is not the one in its data folder (each start makes a new one)",
            );
        }
        match self.obey(control) {
            Ok(done) => Response::controlled(done),
            Err(error) => Response::failed(error),
        }
    }

    fn obey(&self, control: Control) -> Result<String, String> {
        let text = |error: NetworkError| error.to_string();
        match control {
            Control::Ban { subject, seconds, reason } => {
                let subject = parse(subject).map_err(text)?;
                if subject == BanSubject::Peer(self.network.local_peer()) {
                    return Err("that is this node itself".into());
                }
                self.network.ban(subject, Duration::from_secs(seconds), &reason);
                Ok(format!("banned {subject} for {seconds} s"))
            }
            Control::Unban { subject } => {
                let subject = parse(subject).map_err(text)?;
                if !self.network.bans().1.iter().any(|ban| ban.subject == subject) {
                    return Err(format!("{subject} is not banned; `ocelli peers list` shows who is"));
                }
                self.network.unban(subject);
                Ok(format!("{subject} may connect again"))
            }
            Control::Add { address } => {
                self.network.add(&address).map_err(text)?;
                Ok(format!(
                    "dialling {address}, again and again until it answers; `ocelli peers list` shows when it does"
                ))
            }
        }
    }

    /// What a node without peers waits for, and what its owner can do.
    pub(super) fn why_alone(&self, network: &network::Status) -> String {
        match network.failures.last() {
            Some((address, failure)) => format!("peers: {address}: {failure}; {}", failure.advice()),
            None if network.known_addresses == 0 => {
                "peers: none is known; give others this node's address, or one of theirs to `ocelli peers add MULTIADDR`".into()
            }
            None => format!("peers: {} addresses are known and being dialled", network.known_addresses),
        }
    }
}

/// The network's form of whom a message names.
fn parse(subject: message::BanSubject) -> Result<BanSubject, NetworkError> {
    match subject {
        message::BanSubject::Peer(id) => id.parse().map(BanSubject::Peer),
        message::BanSubject::Address(ip) => BanSubject::ip(ip),
    }
}
