//! What can go wrong: at the start, with a dial, with a request.

use std::error::Error;
use std::io;

use libp2p::core::transport::TransportError;
use libp2p::swarm::DialError;

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
    #[error("`{text}` is not a peer id; expected one that starts with 12D3Koo")]
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
    #[error("no answer in time")]
    TimedOut,
    /// The address leads to ourselves.
    #[error("that is this node itself")]
    Myself,
    /// Another identity answers than the address names.
    #[error("peer {found} answers there, another than the address names")]
    WrongPeer {
        /// Who answers.
        found: Peer,
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

impl From<&DialError> for DialFailure {
    fn from(error: &DialError) -> Self {
        match error {
            // No dial of ours is without addresses: the swarm removes those that it listens on itself.
            DialError::LocalPeerId { .. } | DialError::NoAddresses => Self::Myself,
            DialError::WrongPeerId { obtained, .. } => Self::WrongPeer { found: Peer(*obtained) },
            DialError::Denied { cause } => match cause.downcast_ref::<Refused>() {
                Some(Refused::Banned) => Self::Banned,
                _ => Self::Limit(chain(cause)),
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
            _ => {
                let text = chain(error);
                // The transports wrap some causes in texts only.
                if text.contains("Connection refused") {
                    Self::Refused
                } else if text.contains("Timeout has been reached") || text.contains("timed out") {
                    Self::TimedOut
                } else if text.contains("no records found") {
                    Self::Other("no such host (it has no record in the DNS)".into())
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
