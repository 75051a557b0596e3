//! What the node tells of its peers, and what its owner changes about them.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use ocelli_consensus::AttachmentHash;
use ocelli_protocol::message::{self, ConnectedPeer, Control, Cookie, MAX_PEERS, PeerList, Response};

use crate::clock::Clock;
use crate::full_message::full_message;
use crate::inbox::Sender;
use crate::network::{BanSubject, NetworkError, NetworkHandle};
use crate::pool;
use crate::reply::ReplyTo;
use crate::store::StoreError;
use crate::view::Views;

/// The name of a copy of the chain in the folder that is there for it.
pub const SNAPSHOT: &str = "snapshot";

/// What the node's owner is obeyed with; nobody else has the cookie.
pub struct Owner {
    cookie: Cookie,
    data: PathBuf,
    network: NetworkHandle,
    views: Arc<Views>,
    clock: Clock,
    pool: Sender<pool::Input>,
    /// Whether a command of the owner waits for the disk, on a thread of its own.
    is_busy: Arc<AtomicBool>,
}

impl Owner {
    /// Who shows this cookie is the owner of the node on that data folder.
    pub fn new(
        cookie: Cookie,
        data: PathBuf,
        network: NetworkHandle,
        views: Arc<Views>,
        clock: Clock,
        pool: Sender<pool::Input>,
    ) -> Self {
        Self { cookie, data, network, views, clock, pool, is_busy: Arc::default() }
    }

    /// Does what whoever shows the cookie says.
    pub fn on_control(&self, cookie: &Cookie, control: Control, to: ReplyTo) {
        if !self.cookie.matches(cookie) {
            tracing::warn!("refused a command: its cookie is not the one in the data folder");
            return to.send(&Response::failed(
                "not the owner of this node: the cookie is not the one in its data folder (each start makes a new one)",
            ));
        }
        let response = match control {
            Control::Peers => Ok(Response::Peers(Box::new(self.peer_list()))),
            Control::Snapshot { folder } => match snapshot_path(&self.data, &folder) {
                Ok(path) => return self.copy(path, to),
                Err(error) => Err(error),
            },
            Control::Ban { subject, seconds, reason } => self.ban(subject, seconds, &reason),
            Control::Unban { subject } => self.unban(subject),
            Control::Add { address } => self.add(&address),
            Control::Forget { attachment } => return self.forget(attachment, to),
        };
        to.send(&response.unwrap_or_else(Response::failed));
    }

    /// Everybody who is connected, and every ban.
    fn peer_list(&self) -> PeerList {
        let (status, core) = (self.network.status(), self.views.core());
        let now = self.clock.unix_seconds();
        let peers = status.peers.into_iter().take(MAX_PEERS).map(|peer| ConnectedPeer {
            id: peer.peer.to_string(),
            address: peer.address,
            inbound: peer.inbound,
            light: peer.light,
            agent: peer.agent,
            height: core.peers.get(&peer.peer).copied().flatten(),
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

    fn ban(&self, subject: message::BanSubject, seconds: u64, reason: &str) -> Result<Response, String> {
        let subject = parse(subject).map_err(text)?;
        if subject == BanSubject::Peer(self.network.local_peer()) {
            return Err("that is this node itself".into());
        }
        self.network.ban(subject, Duration::from_secs(seconds), reason);
        Ok(Response::controlled(format!("banned {subject} for {seconds} s")))
    }

    fn unban(&self, subject: message::BanSubject) -> Result<Response, String> {
        let subject = parse(subject).map_err(text)?;
        if !self.network.bans().1.iter().any(|ban| ban.subject == subject) {
            return Err(format!("{subject} is not banned; `ocelli peers list` shows who is"));
        }
        self.network.unban(subject);
        Ok(Response::controlled(format!("{subject} may connect again")))
    }

    fn add(&self, address: &str) -> Result<Response, String> {
        self.network.add(address).map_err(text)?;
        Ok(Response::controlled(format!(
            "dialling {address}, again and again until it answers; `ocelli peers list` shows when it does"
        )))
    }

    /// Forgets an attachment, wherever it is.
    fn forget(&self, attachment: AttachmentHash, to: ReplyTo) {
        let (store, pool) = (Arc::clone(self.views.newest().rows.store()), self.pool.clone());
        self.beside(to, move || {
            let forget = || {
                store.refuse(&attachment)?;
                let (dropped, told) = mpsc::channel();
                pool.send(pool::Input::Forget(attachment, dropped));
                // If the pool has ended, nothing of it is given to anybody, and it is refused after the restart.
                let pending = told.recv().unwrap_or(0);
                Ok::<_, StoreError>((pending, store.delete_refused(&attachment)?))
            };
            match forget() {
                Ok((pending, deleted)) => Response::controlled(format!(
                    "attachment {attachment} was deleted in {deleted} places, {pending} pending transactions with it were dropped, and it \
                     is neither kept nor served from now on"
                )),
                Err(error) => Response::failed(full_message(&error)),
            }
        });
    }

    /// Copies the chain.
    fn copy(&self, path: PathBuf, to: ReplyTo) {
        let newest = self.views.newest();
        let (store, height) = (Arc::clone(newest.rows.store()), newest.tip.height);
        drop(newest);
        self.beside(to, move || {
            // The tip may move meanwhile: the copy is at least so long.
            match store.copy_to(&path) {
                Ok(()) => Response::controlled(format!("copied the chain up to block {height}")),
                Err(error) => Response::failed(full_message(&error)),
            }
        });
    }

    /// Does what waits for the disk on a thread of its own, one thing at a time.
    fn beside(&self, to: ReplyTo, work: impl FnOnce() -> Response + Send + 'static) {
        let is_busy = Arc::clone(&self.is_busy);
        if is_busy.swap(true, Ordering::AcqRel) {
            return to.send(&Response::failed("another command is at work on the disk: try again when it is done"));
        }
        let thread = std::thread::Builder::new().name("owner".into()).spawn(move || {
            let response = work();
            is_busy.store(false, Ordering::Release);
            to.send(&response);
        });
        if let Err(error) = thread {
            self.is_busy.store(false, Ordering::Release);
            tracing::error!(%error, "no thread for what the owner asks");
        }
    }
}

fn text(error: NetworkError) -> String {
    error.to_string()
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
