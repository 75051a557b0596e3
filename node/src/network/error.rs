//! What can go wrong: at the start, with a dial, with a request.

use std::error::Error;
use std::io;
use std::net::IpAddr;

use libp2p::Multiaddr;
use libp2p::core::transport::TransportError;
use libp2p::dns::ResolveError;
use libp2p::memory_connection_limits::MemoryUsageLimitExceeded;
use libp2p::swarm::{ConnectionDenied, DialError};

use super::Peer;
use super::gate::Refused;
use super::text::shorten;

/// Why the network did not start, or a command was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// An address that is no multiaddr.
    #[error("`{address}` is not a multiaddr; expected one like /ip4/127.0.0.1/tcp/9901 or /dns4/HOST/udp/9901/quic-v1")]
    BadAddress { address: String, source: Box<dyn Error + Send + Sync> },
    /// A multiaddr that no transport of ours takes.
    #[error("cannot use `{address}`: expected …/tcp/PORT or …/udp/PORT/quic-v1 after /ip4, /ip6, /dns4 or /dns6")]
    UnsupportedTransport { address: String },
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
        source: io::Error,
    },
    /// A text that is no peer id.
    #[error("`{text}` is not a peer id (nor an IP address); expected one that starts with 12D3Koo")]
    BadPeer { text: String, source: Box<dyn Error + Send + Sync> },
    /// A protocol name that does not start with a slash.
    #[error("`{name}` is not a protocol name; expected one that starts with `/`")]
    BadProtocol { name: String },
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
    Runtime { source: io::Error },
    /// A part of the transport does not start: encryption, or the resolver of names.
    #[error("cannot start the transport: {source}; if it is the resolver, look at /etc/resolv.conf")]
    Transport {
        /// What that part says.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A ban of this machine's own address.
    #[error("{ip} is this machine itself: ban the peer by its peer id instead")]
    BanLoopback { ip: std::net::IpAddr },
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
    #[error("no answer in time: a firewall drops what comes, nobody has that address, or no Ocelli node listens there")]
    TimedOut,
    /// The name in the address has no address.
    #[error("its name is not found in the DNS")]
    NameNotFound,
    /// The name could not be looked up.
    #[error("its name cannot be looked up: the DNS of this machine does not answer ({0})")]
    Dns(String),
    /// No node can have the address.
    #[error("{ip} is {kind}")]
    Reserved {
        ip: IpAddr,
        /// What it is instead.
        kind: &'static str,
    },
    /// The system does not connect to such an address or port.
    #[error("the system does not connect to such an address or port ({0})")]
    Impossible(String),
    /// The system forbids the connection.
    #[error("this machine forbids the connection, by a firewall of its own for example ({0})")]
    Forbidden(String),
    /// Somebody answers who does not speak libp2p.
    #[error("something else than an Ocelli node answers there: it does not speak libp2p")]
    NotLibp2p,
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
    #[error(
        "whoever listens there takes the connection and closes it at once: it may be full, have banned this one, or be no \
         Ocelli node"
    )]
    Closed,
    /// The peer is banned here.
    #[error("the peer is banned here")]
    Banned,
    /// The process takes more memory than it may; see [`ConnectionLimits`](super::config::ConnectionLimits).
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
    TooManyRequests { limit: usize },
    /// The request is larger than allowed.
    #[error("the request has {bytes} bytes, at most {limit} are allowed")]
    RequestTooLarge { bytes: usize, limit: usize },
    /// The peer announces a response larger than allowed.
    #[error("the response has {bytes} bytes, at most {limit} are allowed")]
    ResponseTooLarge { bytes: usize, limit: usize },
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
            Self::Dns(_) => "look at this machine's network and /etc/resolv.conf, or give the node's IP address",
            Self::Reserved { .. } | Self::Impossible(_) => {
                "correct the address: a node logs its own as `listening`, and its `ocelli status` shows them"
            }
            Self::Forbidden(_) => "look at the firewall of this machine",
            Self::NotLibp2p => "check the port: a node logs its own as `listening`, 3297 unless told otherwise",
            Self::NoRoute(_) => "check this machine's network, and whether it has IPv6 if the address does",
            Self::Myself => "name another node",
            Self::WrongPeer { .. } => "correct /p2p/… at the end of the address, or leave it out",
            Self::OtherNetwork { .. } => {
                "name a node of this network, or the other network with --network; update the older"
            }
            Self::NotIdentified => "try another node, or later",
            Self::Closed => "check that it is a node's port, and try another node, or later",
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
            DialError::Transport(errors) => errors
                .last()
                .map_or_else(|| Self::Other(error.to_string()), |(address, error)| Self::of_address(address, error)),
            DialError::Aborted => Self::Other("the attempt was given up".into()),
            DialError::DialPeerConditionFalse(_) => Self::Other(error.to_string()),
        }
    }
}

impl DialFailure {
    /// What failed at an address. Whoever answers at one that no node can have, such as a proxy of this network, is none.
    fn of_address(address: &Multiaddr, error: &TransportError<io::Error>) -> Self {
        let reserved = super::address::ip(address).and_then(|ip| Some((ip, reserved(ip)?)));
        match (Self::from(error), reserved) {
            (Self::Unsupported, _) => Self::Unsupported,
            (_, Some((ip, kind))) => Self::Reserved { ip, kind },
            (failure, None) => failure,
        }
    }
}

/// What an address is at which there can be no node.
fn reserved(ip: IpAddr) -> Option<&'static str> {
    let (is_documentation, is_reserved) = match ip {
        IpAddr::V4(ip) => (ip.is_documentation(), ip.octets()[0] >= 240),
        IpAddr::V6(ip) => (ip.segments()[..2] == [0x2001, 0x0db8], false),
    };
    if ip.is_unspecified() {
        Some("where a node listens on all addresses of its machine, none to dial: 127.0.0.1 is this machine's own")
    } else if is_documentation {
        Some("an address of examples, which no machine has")
    } else if ip.is_multicast() {
        Some("a multicast address, which no single machine has")
    } else if is_reserved {
        Some("a reserved address, which no machine has")
    } else {
        None
    }
}

impl From<&TransportError<io::Error>> for DialFailure {
    fn from(error: &TransportError<io::Error>) -> Self {
        let TransportError::Other(error) = error else { return Self::Unsupported };
        if let Some(resolver) = causes(error).find_map(|cause| cause.downcast_ref::<ResolveError>()) {
            let is_absent = resolver.is_no_records_found() || resolver.is_nx_domain();
            return if is_absent { Self::NameNotFound } else { Self::Dns(chain(resolver)) };
        }
        let text = chain(error);
        // What wraps it says how the transports are put together.
        let words = || shorten(&causes(error).last().map(ToString::to_string).unwrap_or_default(), MAX_TEXT);
        match io_kind(error) {
            Some(io::ErrorKind::ConnectionRefused) => Self::Refused,
            Some(io::ErrorKind::TimedOut) => Self::TimedOut,
            Some(io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkDown) => {
                Self::NoRoute(words())
            }
            Some(io::ErrorKind::InvalidInput | io::ErrorKind::AddrNotAvailable) => Self::Impossible(words()),
            Some(io::ErrorKind::PermissionDenied) => Self::Forbidden(words()),
            Some(io::ErrorKind::InvalidData) => Self::NotLibp2p,
            Some(
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe,
            ) => Self::Closed,
            // The transports wrap some causes in texts only.
            _ if text.contains("Connection refused") => Self::Refused,
            _ if text.contains("Timeout has been reached") || text.contains("timed out") => Self::TimedOut,
            _ if text.contains("unreachable") => Self::NoRoute(words()),
            _ if text.contains("invalid remote address") => Self::Impossible(words()),
            _ if text.contains("Unsupported resolved address") => Self::Impossible("not one for TCP or QUIC".into()),
            _ if ENDINGS.iter().any(|ending| text.to_lowercase().contains(ending)) => Self::Closed,
            _ if text.contains("Handshake failed") || text.contains("Multistream select failed") => Self::NotLibp2p,
            _ => Self::Other(words()),
        }
    }
}

/// How a handshake's I/O error says that the other side has closed. The noise protocol shows its text and hides its kind.
const ENDINGS: [&str; 4] = ["unexpected end of file", "broken pipe", "connection reset", "connection aborted"];

/// The kind of the innermost I/O error, which the transports wrap several times.
pub(super) fn io_kind(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    let kinds = causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    kinds.filter(|kind| *kind != io::ErrorKind::Other).last()
}

/// An error and what is behind it; also behind an I/O error, which names what it wraps not as its source.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref::<io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
        None => error.source(),
    })
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

#[cfg(test)]
mod tests {
    use libp2p::PeerId;

    use super::*;

    #[test]
    fn the_innermost_kind_counts() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let wrapped = io::Error::other(io::Error::other(refused));
        assert_eq!(io_kind(&wrapped), Some(io::ErrorKind::ConnectionRefused));
        assert_eq!(DialFailure::from(&TransportError::Other(wrapped)), DialFailure::Refused);
        assert_eq!(io_kind(&io::Error::other("text")), None);
    }

    /// As a transport wraps what has failed.
    #[derive(Debug, thiserror::Error)]
    #[error("{words}")]
    struct Wrapped {
        words: &'static str,
        source: Box<dyn Error + Send + Sync>,
    }

    #[test]
    fn every_failure_of_a_dial_has_its_words_and_its_hint() {
        let (any, myself) = ("/ip4/198.51.1.1/tcp/3297", PeerId::random());
        let transport = |address: &str, error: io::Error| {
            let wrapped = Wrapped { words: "Multiple dial errors occurred:\n - x", source: error.into() };
            DialError::Transport(vec![(address.parse().unwrap(), TransportError::Other(io::Error::other(wrapped)))])
        };
        let of_kind = |kind: io::ErrorKind| transport(any, kind.into());
        let in_handshake = |kind: io::ErrorKind| {
            transport(
                any,
                io::Error::other(Wrapped { words: "Handshake failed", source: io::Error::from(kind).into() }),
            )
        };
        let of_text = |text: &'static str| transport(any, io::Error::other(text));
        let of_resolver = |error: ResolveError| transport("/dns4/node.example.org/tcp/3297", io::Error::other(error));
        let at = |address: &str| transport(address, io::ErrorKind::InvalidData.into());
        let correct = "correct the address";
        let rows = [
            (of_kind(io::ErrorKind::ConnectionRefused), "nobody listens there", "check the port, and that a node runs"),
            (of_text("Connection refused (os error 111)"), "nobody listens there", "check the port"),
            (of_kind(io::ErrorKind::TimedOut), "no answer in time", "firewall"),
            (of_text("Timeout has been reached"), "no answer in time", "firewall"),
            (of_text("Handshake with the remote timed out."), "no answer in time", "firewall"),
            (of_kind(io::ErrorKind::NetworkUnreachable), "no route there", "check this machine's network"),
            (of_kind(io::ErrorKind::HostUnreachable), "no route there", "check this machine's network"),
            (of_kind(io::ErrorKind::NetworkDown), "no route there", "check this machine's network"),
            (of_kind(io::ErrorKind::InvalidInput), "the system does not connect to such an address or port", correct),
            (of_kind(io::ErrorKind::AddrNotAvailable), "the system does not connect to such", correct),
            (of_text("invalid remote address: 127.0.0.1:0"), "the system does not connect to such", correct),
            (of_kind(io::ErrorKind::PermissionDenied), "this machine forbids the connection", "look at the firewall"),
            (in_handshake(io::ErrorKind::InvalidData), "it does not speak libp2p", "check the port"),
            (of_text("Handshake failed: decrypt error"), "it does not speak libp2p", "check the port"),
            (
                of_text("Multistream select failed: Protocol negotiation failed."),
                "does not speak libp2p",
                "check the port",
            ),
            (in_handshake(io::ErrorKind::UnexpectedEof), "closes it at once", "try another node"),
            (of_text("Handshake failed: unexpected end of file"), "closes it at once", "a node's port"),
            (of_text("Handshake failed: Broken pipe (os error 32)"), "closes it at once", "a node's port"),
            (
                of_text("Handshake failed: Connection reset by peer (os error 104)"),
                "closes it at once",
                "a node's port",
            ),
            (of_text("Handshake failed: invalid data"), "it does not speak libp2p", "check the port"),
            (of_text("Unsupported resolved address: /ip4/127.0.0.1/tcp/0"), "the system does not connect to", correct),
            (of_kind(io::ErrorKind::ConnectionReset), "closes it at once", "try another node"),
            (of_kind(io::ErrorKind::BrokenPipe), "closes it at once", "try another node"),
            (of_resolver(ResolveError::Timeout), "its name cannot be looked up", "/etc/resolv.conf"),
            (of_resolver(ResolveError::NoConnections), "its name cannot be looked up", "/etc/resolv.conf"),
            (
                of_resolver(io::Error::from(io::ErrorKind::ConnectionRefused).into()),
                "cannot be looked up",
                "resolv.conf",
            ),
            (at("/ip4/240.0.0.1/tcp/3297"), "240.0.0.1 is a reserved address, which no machine has", correct),
            (at("/ip4/255.255.255.255/tcp/3297"), "255.255.255.255 is a reserved address", correct),
            (at("/ip4/192.0.2.1/tcp/3297"), "192.0.2.1 is an address of examples", correct),
            (at("/ip6/2001:db8::1/tcp/3297"), "2001:db8::1 is an address of examples", correct),
            (at("/ip4/224.0.0.1/udp/3297/quic-v1"), "224.0.0.1 is a multicast address", correct),
            (at("/ip6/ff02::1/tcp/3297"), "ff02::1 is a multicast address", correct),
            (at("/ip4/0.0.0.0/tcp/3297"), "0.0.0.0 is where a node listens on all addresses", correct),
            (at("/ip6/::/tcp/3297"), ":: is where a node listens", correct),
            (at("/ip4/127.0.0.1/tcp/3297"), "it does not speak libp2p", "check the port"),
            (DialError::NoAddresses, "that is this node itself", "name another node"),
            (
                DialError::WrongPeerId { obtained: myself, address: any.parse().unwrap() },
                "answers there, expected another",
                "correct /p2p/…",
            ),
            (DialError::Aborted, "the attempt was given up", "try another node"),
            (of_text("a new kind"), "a new kind", "try another node"),
        ];
        for (error, words, hint) in rows {
            let failure = DialFailure::from(&error);
            let text = failure.to_string();
            assert!(text.contains(words), "{error:?}: {text}");
            assert!(failure.advice().contains(hint), "{error:?}: {}", failure.advice());
            let is_plain = !text.contains("Multiple dial errors") && !text.contains("Handshake failed");
            assert!(is_plain && !text.contains('\n'), "{text}");
        }
    }
}
