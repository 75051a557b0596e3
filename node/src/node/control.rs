//! What the node tells of its peers, and what its owner changes about them.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use ocelli_protocol::message::{self, ConnectedPeer, Control, Cookie, MAX_PEERS, PeerList, Response};

use super::service::{Service, unix_seconds};
use crate::chain::full_message;
use crate::network::{self, BanSubject, NetworkError};

/// The name of a copy of the chain in the folder that is there for it.
pub(crate) const SNAPSHOT: &str = "snapshot";

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
            height: self.assembly.height(&peer.peer),
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
            Control::Snapshot { folder } => {
                let path = snapshot_path(&self.data, &folder)?;
                self.chain.store().copy_to(&path).map_err(|error| full_message(&error))?;
                Ok(format!("copied the chain up to block {}", self.chain.tip().header.height))
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

/// Where a snapshot is to be made: nowhere but in a folder directly in the data folder, and over nothing.
fn snapshot_path(data: &Path, folder: &str) -> Result<PathBuf, String> {
    let mut parts = Path::new(folder).components();
    let is_name = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
    if !is_name {
        return Err(format!("found {folder:?}, expected the name of a folder in the data folder"));
    }
    let parent = data.join(folder);
    let path = parent.join(SNAPSHOT);
    match fs::symlink_metadata(&parent) {
        Ok(found) if found.is_dir() && !path.exists() => Ok(path),
        _ => Err(format!("found no folder {folder} without a snapshot in the data folder; make an empty one first")),
    }
}

/// The network's form of whom a message names.
fn parse(subject: message::BanSubject) -> Result<BanSubject, NetworkError> {
    match subject {
        message::BanSubject::Peer(id) => id.parse().map(BanSubject::Peer),
        message::BanSubject::Address(ip) => BanSubject::ip(ip),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_stay_in_a_folder_of_the_data_folder() {
        let data = tempfile::tempdir().unwrap();
        let good = data.path().join("good");
        fs::create_dir(&good).unwrap();
        fs::create_dir_all(data.path().join("deep/er")).unwrap();
        fs::create_dir_all(data.path().join("full").join(SNAPSHOT)).unwrap();
        fs::write(data.path().join("file"), "").unwrap();
        assert_eq!(snapshot_path(data.path(), "good"), Ok(good.join(SNAPSHOT)));
        for bad in ["", ".", "..", "/", "/tmp", "good/..", "../good", "deep/er", "missing", "file", "full"] {
            let error = snapshot_path(data.path(), bad).expect_err(bad);
            assert!(error.starts_with("found "), "{error}");
        }
    }
}
