//! What everybody else holds of the network.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::identity::ed25519;
use tokio::sync::{mpsc, watch};

use super::event::{Acceptance, GossipId, RequestId, ResponseToken};
use super::untaken::{ResponseBytes, Untaken};
use super::{Ban, BanSubject, Misbehaviour, NetworkError, NetworkStatus, Peer, address};

/// Commands that wait for the swarm task. It takes them at once, so this only smooths bursts.
pub(super) const COMMAND_QUEUE: usize = 256;

/// Sends commands to the network. Cheap to clone; works from plain threads and from async code.
///
/// A call waits only while 256 commands are queued, and the swarm task, which has threads of its own, never
/// waits for anybody: no call waits long, whatever the caller does with the events. After the network has ended, calls
/// do nothing.
#[derive(Clone)]
pub struct NetworkHandle {
    pub(super) commands: mpsc::Sender<NetworkCommand>,
    pub(super) snapshot: watch::Receiver<Arc<Snapshot>>,
    pub(super) shared: Arc<Shared>,
    pub(super) asker: u8,
}

/// What all clones of a handle share.
pub(super) struct Shared {
    pub(super) key: ed25519::Keypair,
    pub(super) peer: Peer,
    pub(super) next_request: AtomicU64,
    pub(super) untaken: Untaken,
}

/// What the swarm task shows of itself.
pub(super) struct Snapshot {
    pub(super) status: NetworkStatus,
    pub(super) known: Arc<[String]>,
    pub(super) bans_version: u64,
}

/// What the swarm task is asked to do.
pub(crate) enum NetworkCommand {
    Publish { topic: String, data: Vec<u8> },
    Report { id: GossipId, acceptance: Acceptance },
    Request { id: RequestId, peer: Peer, data: Vec<u8> },
    Respond { token: ResponseToken, response: ResponseBytes },
    Penalize { peer: Peer, misbehaviour: Misbehaviour },
    Ban { subject: BanSubject, time: Duration, reason: String },
    Unban { subject: BanSubject },
    Disconnect { peer: Peer },
    Dial { address: Multiaddr },
    Add { address: Multiaddr },
    Shutdown,
}

impl NetworkHandle {
    /// Gossips a message of this node. If nobody takes part in the topic yet, it waits a minute for the first who does.
    pub fn publish(&self, topic: &str, data: Vec<u8>) {
        self.send(NetworkCommand::Publish { topic: topic.into(), data });
    }

    /// Judges a gossip message. To be called once for each; one that is not judged is not forwarded.
    pub fn report(&self, id: GossipId, acceptance: Acceptance) {
        self.send(NetworkCommand::Report { id, acceptance });
    }

    /// The same handle in other hands: the ids of what it asks tell whose the responses are.
    pub fn for_asker(&self, asker: u8) -> Self {
        Self { asker, ..self.clone() }
    }

    /// Asks a connected peer. [`NetworkEvent::Response`](super::NetworkEvent::Response) tells what became of it, failures included.
    pub fn request(&self, peer: Peer, data: Vec<u8>) -> RequestId {
        let number = self.shared.next_request.fetch_add(1, Ordering::Relaxed);
        let id = RequestId { number, asker: self.asker };
        self.send(NetworkCommand::Request { id, peer, data });
        id
    }

    /// Answers a request. Where too much waits to be taken, the peer gets no response.
    pub fn respond(&self, token: ResponseToken, data: Vec<u8>) {
        let bytes = data.len();
        match self.shared.untaken.begin(token.peer, data) {
            Some(response) => self.send(NetworkCommand::Respond { token, response }),
            // The dropped token tells the peer.
            None => tracing::debug!(peer = %token.peer, bytes, "a response is not sent: others wait to be taken"),
        }
    }

    /// Bytes of responses that are made and that nobody has taken yet.
    pub fn untaken(&self) -> usize {
        self.shared.untaken.all()
    }

    /// Gives a peer the [points](Misbehaviour::points) of a misbehaviour. They fade (100 in ten minutes), lower its gossip score by as much, and ban
    /// it for [`BanLimits::time`](super::BanLimits::time) when they reach
    /// [`BanLimits::points`](super::BanLimits::points).
    pub fn penalize(&self, peer: Peer, misbehaviour: Misbehaviour) {
        self.send(NetworkCommand::Penalize { peer, misbehaviour });
    }

    /// Disconnects whom it concerns and keeps them out for this time; a peer that is connected also by its address,
    /// loopback excepted.
    pub fn ban(&self, subject: BanSubject, time: Duration, reason: &str) {
        self.send(NetworkCommand::Ban { subject, time, reason: reason.into() });
    }

    /// Ends a ban and forgives all points.
    pub fn unban(&self, subject: BanSubject) {
        self.send(NetworkCommand::Unban { subject });
    }

    /// The bans that hold, at most about a second ago, with a number that changes whenever they do: for
    /// [`NetworkConfig::bans`](super::NetworkConfig::bans) next time.
    pub fn bans(&self) -> (u64, Vec<Ban>) {
        let snapshot = self.snapshot.borrow();
        (snapshot.bans_version, snapshot.status.banned.clone())
    }

    /// The number of [`NetworkHandle::bans`] alone.
    pub fn bans_version(&self) -> u64 {
        self.snapshot.borrow().bans_version
    }

    /// Closes all connections with a peer. It may come back.
    pub fn disconnect(&self, peer: Peer) {
        self.send(NetworkCommand::Disconnect { peer });
    }

    /// Dials an address once; `/p2p/…` at its end is optional. An event tells how it went, unless the peer is connected
    /// already.
    ///
    /// # Errors
    /// [`NetworkError::BadAddress`], [`NetworkError::UnsupportedTransport`].
    pub fn dial(&self, address: &str) -> Result<(), NetworkError> {
        let address = address::parse(address)?;
        self.send(NetworkCommand::Dial { address });
        Ok(())
    }

    /// Dials an address now, and again while it is not connected, as [`NetworkConfig::bootstrap`](super::NetworkConfig::bootstrap)
    /// addresses are. Beyond 64 addresses the oldest one added so is forgotten.
    ///
    /// # Errors
    /// [`NetworkError::BadAddress`], [`NetworkError::UnsupportedTransport`].
    pub fn add(&self, address: &str) -> Result<(), NetworkError> {
        let address = address::parse(address)?;
        self.send(NetworkCommand::Add { address });
        Ok(())
    }

    /// How the network is, at most about a second ago.
    pub fn status(&self) -> NetworkStatus {
        self.snapshot.borrow().status.clone()
    }

    /// Addresses of peers that worked, each ending in `/p2p/…`: for [`NetworkConfig::known`](super::NetworkConfig::known) next time.
    pub fn known_peers(&self) -> Vec<String> {
        self.snapshot.borrow().known.to_vec()
    }

    /// This node's identity.
    pub fn local_peer(&self) -> Peer {
        self.shared.peer
    }

    /// The Ed25519 public key of this node's identity.
    pub fn public_key(&self) -> [u8; 32] {
        self.shared.key.public().to_bytes()
    }

    /// Signs with this node's identity (Ed25519, RFC 8032). The caller tags what it signs: the same key also signs
    /// libp2p's handshakes.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.shared.key.sign(message).try_into().expect("an Ed25519 signature has 64 bytes")
    }

    /// Closes all connections and ends the network; the events end when that is done.
    pub fn shutdown(&self) {
        self.send(NetworkCommand::Shutdown);
    }

    /// A handle of a network that is not there, for tests of whoever holds one: what it is told comes out.
    #[cfg(test)]
    pub(crate) fn detached() -> (Self, mpsc::Receiver<NetworkCommand>) {
        let (commands, told) = mpsc::channel(COMMAND_QUEUE);
        let key = ed25519::Keypair::generate();
        let peer = Peer(libp2p::identity::PublicKey::from(key.public()).to_peer_id());
        let status = NetworkStatus {
            peer,
            agent: "test".into(),
            addresses: Vec::new(),
            reachability: super::Reachability::Unknown,
            peers: Vec::new(),
            banned: Vec::new(),
            known_addresses: 0,
            failures: Vec::new(),
            counters: super::Counters::default(),
        };
        let (_, snapshot) = watch::channel(Arc::new(Snapshot { status, known: Arc::default(), bans_version: 0 }));
        let shared = Arc::new(Shared {
            key,
            peer,
            next_request: AtomicU64::new(1),
            untaken: Untaken::new(&super::MessageLimits::default()),
        });
        (Self { commands, snapshot, shared, asker: 0 }, told)
    }

    /// A response that nobody takes as long as it is held.
    #[cfg(test)]
    pub(crate) fn hold_untaken(&self, peer: Peer, bytes: usize) -> ResponseBytes {
        self.shared.untaken.begin(peer.0, vec![0; bytes]).expect("a peer's first has room")
    }

    fn send(&self, command: NetworkCommand) {
        let command = match self.commands.try_send(command) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => return,
            Err(mpsc::error::TrySendError::Full(command)) => command,
        };
        // Not tokio's `blocking_send`, which panics in async code. Unconstrained, since tokio's cooperative budget would
        // make the future yield to a scheduler that does not run while we block its thread.
        let sent = futures::executor::block_on(tokio::task::unconstrained(self.commands.send(command)));
        if sent.is_err() {
            tracing::debug!("a command came after the network's end");
        }
    }
}
