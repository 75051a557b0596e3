//! The network: the one module that touches libp2p.
//!
//! [`spawn`] starts a thread of its own with a small tokio runtime. The swarm lives there in one task; everybody else
//! holds a [`NetworkHandle`], which sends commands, and one consumer holds [`Events`]. Only bytes cross this border: what they
//! mean is `ocelli-protocol`'s business.
//!
//! **Nothing waits for a consumer.** The swarm task never blocks on the event queue, so it always goes on to take
//! commands, and a command can always be sent, from a plain thread and from async code alike: no order of calls can
//! deadlock. If the consumer is slow, gossip is dropped (*ignored*: not forwarded, at no cost to the sender), requests
//! are dropped (the peer sees a failure), and so is [`NetworkEvent::DialFailed`]; connections, disconnections, responses and
//! listening addresses are kept until there is room, and what is kept is bounded by what is open.
//!
//! **Gossip is anonymous.** Messages carry neither author, sequence number nor signature, and a message's id is the
//! SHA-256 of its topic and content. What we gossip proves itself (blocks carry work), so a second signature would only
//! cost time; and with ids from content, equal messages are one message, whoever sends them and how often.

mod address;
mod asked;
mod backoff;
mod bans;
mod behaviour;
mod book;
mod codec;
mod config;
mod discovery;
mod driver;
mod error;
mod event;
mod failures;
mod gate;
mod gossip_bytes;
mod group;
mod handle;
mod penalties;
mod queue;
mod reachability;
mod retest;
mod slots;
mod status;
mod text;
mod unsent;
mod untaken;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use libp2p::PeerId;

pub use bans::{Ban, BanSubject, MAX_BANS};
pub use config::{
    BanLimits, ConnectionLimits, DEFAULT_INBOUND, MessageLimits, NetworkConfig, NetworkLimits, QueueLimits, Role,
    Times, Traversal, kademlia_protocol,
};
pub use error::{DialFailure, NetworkError, RequestFailure};
pub use event::{Acceptance, GossipId, NetworkEvent, RequestId, ResponseToken};
pub use group::Group;
#[cfg(test)]
pub(crate) use handle::NetworkCommand;
pub use handle::NetworkHandle;
pub use penalties::Misbehaviour;
pub use queue::{Events, TryRecvError};
pub use reachability::Reachability;
pub use status::{Counters, GossipCounters, NetworkStatus, PeerStatus, RequestCounters, is_on_the_internet};

use driver::Driver;

/// How long the runtime waits for its tasks after the swarm is gone.
const RUNTIME_SHUTDOWN: Duration = Duration::from_secs(2);

/// Threads that encrypt, decrypt and hash for the connections.
const RUNTIME_THREADS: usize = 2;

/// A peer's identity: the hash of its public key, so it can be claimed by nobody else. Its text form starts with
/// `12D3Koo`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer(PeerId);

impl Peer {
    /// The peer whose identity is this Ed25519 public key; `None` if the bytes are no such key.
    pub fn of(public_key: &[u8; 32]) -> Option<Self> {
        let key = libp2p::identity::ed25519::PublicKey::try_from_bytes(public_key).ok()?;
        Some(Self(libp2p::identity::PublicKey::from(key).to_peer_id()))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({})", self.0)
    }
}

impl FromStr for Peer {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        text.parse().map(Self).map_err(|source| NetworkError::BadPeer { text: text.into(), source: Box::new(source) })
    }
}

/// Starts the network and listens on the configured addresses before it returns.
///
/// It ends when [`NetworkHandle::shutdown`] is called, or when [`Events`] or all handles are dropped. [`Events`] ends after
/// everything is closed, so ports are free again by then.
///
/// # Errors
/// A configuration that cannot work, a port in use, a system that gives no sockets: see [`NetworkError`].
pub fn spawn(config: NetworkConfig) -> Result<(NetworkHandle, Events), NetworkError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RUNTIME_THREADS)
        .thread_name("network")
        .enable_all()
        .build()
        .map_err(|source| NetworkError::Runtime { source })?;
    // Sockets register themselves with the runtime that is entered while they are made.
    let built = {
        let _inside = runtime.enter();
        Driver::new(config)
    };
    let (driver, commands, handle, events) = match built {
        Ok(parts) => parts,
        Err(error) => {
            // A plain drop would panic when called from async code.
            runtime.shutdown_background();
            return Err(error);
        }
    };
    std::thread::Builder::new()
        .name("network".into())
        .spawn(move || {
            let queue = runtime.block_on(driver.run(commands));
            runtime.shutdown_timeout(RUNTIME_SHUTDOWN);
            drop(queue);
        })
        .map_err(|source| NetworkError::Runtime { source })?;
    Ok((handle, events))
}
