//! What can go wrong: at the start, with a dial, with a request.

use std::error::Error;
use std::io;

use libp2p::core::transport::TransportError;
use libp2p::memory_connection_limits::MemoryUsageLimitExceeded;
use libp2p::swarm::{ConnectionDenied, DialError};

use super::Peer;
use super::gate::Refused;

/// Why the network did not start, or a command was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// An address that is no multiaddr.
    #[error("`{address}` is not a multiaddr; expected one like /ip4/127.0.0.1/tcp/9901 or /dns4/HOST/udp/9901/quic-v1")]
    BadAddress {
        /// What was given.
        address: String,
        /// What the parser says.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A multiaddr that no transport of ours takes.
    #[error("cannot use `{address}`: expected …/tcp/PORT or …/udp/PORT/quic-v1 after /ip4, /ip6, /dns4 or /dns6")]
    UnsupportedTransport {
        /// What was given.
        address: String,
    },
    /// Somebody listens there already.
    #[error("cannot listen on {address}: the port is in use; stop the other program or choose another port (0: any)")]
    PortInUse {
        /// Where we tried to listen.
        address: String,
    },
    /// The system refuses to listen there.
    #[error("cannot listen on {address}: {source}; choose an address of this machine and a port from 1024 on")]
    Listen {
        /// Where we tried to listen.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// A text that is no peer id.
    #[error("`{text}` is not a peer id (nor an IP address); expected one that starts with 12D3Koo")]
    BadPeer {
        /// What was given.
        text: String,
        /// What the parser says.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A protocol name that does not start with a slash.
    #[error("`{name}` is not a protocol name; expected one that starts with `/`")]
    BadProtocol {
        /// What was given.
        name: String,
    },
    /// Not one request protocol is configured.
    #[error("no request protocol is configured; expected at least one, of the network to join")]
    NoProtocol,
    /// The limits contradict each other.
    #[error("the gossip configuration does not hold: {reason}")]
    Gossip {
        /// What gossipsub says.
        reason: String,
    },
    /// The system gives no thread or no runtime.
    #[error("cannot start the network's threads: {source}")]
    Runtime {
        /// What the system says.
        source: io::Error,
    },
    /// A part of the transport does not start: encryption, or the resolver of names.
    #[error("cannot start the transport: {source}; if it is the resolver, look at /etc/resolv.conf")]
    Transport {
        /// What that part says.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A ban of this machine's own address.
    #[error("{ip} is this machine itself: ban the peer by its peer id instead")]
    BanLoopback {
        /// The address.
        ip: std::net::IpAddr,
    },
    /// The network has ended.
    #[error("the network has shut down")]
    Closed,
}

/// Why a dialled address gave no usable peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DialFailure {
    /// Nobody listens there.
    #[error("nobody listens there (connection refused)")]
    Refused,
    /// No answer in time.
    #[error("no answer in time: a firewall drops what comes, or nobody has that address")]
    TimedOut,
    /// The name in the address has no address.
    #[error("its name is not found in the DNS")]
    NameNotFound,
    /// This machine has no way there.
    #[error("this machine has no route there: {0}")]
    NoRoute(String),
    /// The address leads to ourselves.
    #[error("that is this node itself")]
    Myself,
    /// Another identity answers than the address names.
    #[error("peer {found} answers there, expected {}", expected.map_or("another".into(), |peer| peer.to_string()))]
    WrongPeer {
        /// Who answers.
        found: Peer,
        /// Whom the address names.
        expected: Option<Peer>,
    },
    /// The peer speaks none of our request protocols.
    #[error("{agent} answers there but is on another network or version: it does not speak {expected}")]
    OtherNetwork {
        /// How the peer calls itself, shortened.
        agent: String,
        /// Our protocols.
        expected: String,
    },
    /// The peer took the connection but does not say who it is.
    #[error("the peer takes the connection but does not say who it is")]
    NotIdentified,
    /// The peer closed the connection before it said who it is.
    #[error("the peer takes the connection and closes it at once (it may be full, or have banned this one)")]
    Closed,
    /// The peer is banned here.
    #[error("the peer is banned here")]
    Banned,
    /// The process takes more memory than it may; see [`Limits::max_memory_bytes`](super::Limits::max_memory_bytes).
    #[error("this program takes {used_mib} MiB of memory, more than the {allowed_mib} MiB up to which it connects")]
    Memory {
        /// What it takes.
        used_mib: usize,
        /// What it may take.
        allowed_mib: usize,
    },
    /// One of our own limits on connections is reached.
    #[error("a limit on connections is reached: {0}")]
    Limit(String),
    /// The address cannot be dialled with our transports.
    #[error("the address cannot be dialled: it is neither TCP nor QUIC")]
    Unsupported,
    /// Everything else, in the transport's words.
    #[error("{0}")]
    Other(String),
}

/// Why there is no response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestFailure {
    /// There is no connection with that peer.
    #[error("not connected with the peer")]
    NotConnected,
    /// The peer has not answered in time.
    #[error("the peer has not answered in time")]
    TimedOut,
    /// The connection closed first.
    #[error("the connection closed before the answer came")]
    ConnectionClosed,
    /// The peer does not answer requests.
    #[error("the peer does not speak the request protocol")]
    NotSupported,
    /// The peer closed the stream without an answer: it is busy, or refuses what it was asked.
    #[error("the peer closed the request without an answer (it may be busy)")]
    NoAnswer,
    /// Too many requests of ours are under way.
    #[error("{limit} requests are under way, as many as allowed")]
    TooManyRequests {
        /// The bound.
        limit: usize,
    },
    /// The request is larger than allowed.
    #[error("the request has {bytes} bytes, at most {limit} are allowed")]
    RequestTooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// The peer announces a response larger than allowed.
    #[error("the response has {bytes} bytes, at most {limit} are allowed")]
    ResponseTooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// Everything else, in the transport's words.
    #[error("the stream failed: {0}")]
    Stream(String),
}

impl DialFailure {
    /// What to try, as an imperative.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Refused => "check the port, and that a node runs there",
            Self::TimedOut => "check the address, and have its firewall or router let the port through",
            Self::NameNotFound => "check the spelling of the name, and this machine's DNS",
            Self::NoRoute(_) => "check this machine's network, and whether it has IPv6 if the address does",
            Self::Myself => "name another node",
            Self::WrongPeer { .. } => "correct /p2p/… at the end of the address, or leave it out",
            Self::OtherNetwork { .. } => {
                "name a node of this network, or the other network with --network; update the older"
            }
            Self::NotIdentified | Self::Closed => "try another node, or later",
            Self::Banned => "lift the ban with `ocelli peers unban`, if that peer is to be trusted",
            Self::Memory { .. } => "give the node more with --max-memory, or its database less with --db-cache",
            Self::Limit(_) => "wait until connections close",
            Self::Unsupported => "name an address with /tcp/PORT or /udp/PORT/quic-v1",
            Self::Other(_) => "try another node, or later",
        }
    }
}

impl DialFailure {
    /// What is said of a connection that was denied because of memory.
    pub(super) fn of_memory(cause: &ConnectionDenied) -> Option<Self> {
        let exceeded = cause.downcast_ref::<MemoryUsageLimitExceeded>()?;
        Some(Self::Memory {
            used_mib: exceeded.process_physical_memory_bytes() >> 20,
            allowed_mib: exceeded.max_allowed_bytes() >> 20,
        })
    }
}

impl From<&DialError> for DialFailure {
    fn from(error: &DialError) -> Self {
        match error {
            // No dial of ours is without addresses: the swarm removes those that it listens on itself.
            DialError::LocalPeerId { .. } | DialError::NoAddresses => Self::Myself,
            DialError::WrongPeerId { obtained, address } => {
                Self::WrongPeer { found: Peer(*obtained), expected: super::address::peer(address).map(Peer) }
            }
            DialError::Denied { cause } => match cause.downcast_ref::<Refused>() {
                Some(Refused::Banned) => Self::Banned,
                _ => Self::of_memory(cause).unwrap_or_else(|| Self::Limit(chain(cause))),
            },
            DialError::Transport(errors) => {
                errors.last().map_or_else(|| Self::Other(error.to_string()), |(_, error)| error.into())
            }
            DialError::Aborted => Self::Other("the attempt was given up".into()),
            DialError::DialPeerConditionFalse(_) => Self::Other(error.to_string()),
        }
    }
}

impl From<&TransportError<io::Error>> for DialFailure {
    fn from(error: &TransportError<io::Error>) -> Self {
        let TransportError::Other(error) = error else { return Self::Unsupported };
        match io_kind(error) {
            Some(io::ErrorKind::ConnectionRefused) => Self::Refused,
            Some(io::ErrorKind::TimedOut) => Self::TimedOut,
            Some(io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable) => Self::NoRoute(chain(error)),
            _ => {
                let text = chain(error);
                // The transports wrap some causes in texts only.
                if text.contains("Connection refused") {
                    Self::Refused
                } else if text.contains("Timeout has been reached") || text.contains("timed out") {
                    Self::TimedOut
                } else if text.contains("no records found") {
                    Self::NameNotFound
                } else if text.contains("unreachable") {
                    Self::NoRoute(text)
                } else {
                    Self::Other(text)
                }
            }
        }
    }
}

/// The kind of the innermost I/O error, which the transports wrap several times.
pub(super) fn io_kind(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    let mut kind = None;
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            if io.kind() != io::ErrorKind::Other {
                kind = Some(io.kind());
            }
            next = io.get_ref().map(|inner| inner as &(dyn Error + 'static));
        } else {
            next = error.source();
        }
    }
    kind
}

/// The longest text kept of what a transport or a peer says.
const MAX_TEXT: usize = 300;

/// An error with its causes in one line, shortened.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = cause.source();
    }
    shorten(&text, MAX_TEXT)
}

/// At most `limit` characters of `text`, without control characters: it goes to logs and terminals.
pub(super) fn shorten(text: &str, limit: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_kind_counts() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let wrapped = io::Error::other(io::Error::other(refused));
        assert_eq!(io_kind(&wrapped), Some(io::ErrorKind::ConnectionRefused));
        assert_eq!(DialFailure::from(&TransportError::Other(wrapped)), DialFailure::Refused);
        assert_eq!(io_kind(&io::Error::other("text")), None);
    }

    #[test]
    fn foreign_text_is_short_and_printable() {
        assert_eq!(shorten("a\u{1b}[31mb\n", 10), "a[31mb");
        assert_eq!(shorten("äöü", 2), "äö");
    }
}
