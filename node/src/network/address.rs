//! Which multiaddrs are worth keeping.

use std::net::{IpAddr, SocketAddr};

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use super::NetworkError;

/// Reads a multiaddr that one of our transports can dial.
pub(super) fn parse(text: &str) -> Result<Multiaddr, NetworkError> {
    let address: Multiaddr =
        text.parse().map_err(|source| NetworkError::BadAddress { address: text.into(), source: Box::new(source) })?;
    if is_supported(&address) { Ok(address) } else { Err(NetworkError::UnsupportedTransport { address: text.into() }) }
}

/// The address with which the multiaddr begins.
pub(super) fn ip(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.to_canonical()),
        _ => None,
    }
}

/// The socket address of a TCP multiaddr without a name to resolve.
pub(super) fn tcp_socket(address: &Multiaddr) -> Option<SocketAddr> {
    match address.iter().nth(1)? {
        Protocol::Tcp(port) => Some(SocketAddr::new(ip(address)?, port)),
        _ => None,
    }
}

/// Whether it leads to the machine that dials it.
pub(super) fn is_loopback(address: &Multiaddr) -> bool {
    ip(address).is_some_and(|ip| ip.is_loopback())
}

/// The identity at the end, if it is named.
pub(super) fn peer(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last()? {
        Protocol::P2p(peer) => Some(peer),
        _ => None,
    }
}

/// The multiaddr without the identity at its end.
pub(super) fn without_peer(mut address: Multiaddr) -> Multiaddr {
    if peer(&address).is_some() {
        address.pop();
    }
    address
}

/// Whether an address that a peer claims for itself or another is worth a dial. A loopback address is one only for peers
/// on the same machine.
pub(super) fn is_worth_keeping(address: &Multiaddr, loopback: bool) -> bool {
    let port = address.iter().find_map(|part| match part {
        Protocol::Tcp(port) | Protocol::Udp(port) => Some(port),
        _ => None,
    });
    is_supported(address)
        && port != Some(0)
        && !ip(address).is_some_and(|ip| ip.is_unspecified() || ip.is_multicast())
        && (loopback || !is_loopback(address))
}

/// Exactly host and TCP, or host, UDP and QUIC, and perhaps an identity: no relays, no web sockets.
fn is_supported(address: &Multiaddr) -> bool {
    let parts: Vec<Protocol> = address.iter().collect();
    let parts = match parts.as_slice() {
        [rest @ .., Protocol::P2p(_)] => rest,
        all => all,
    };
    let (host, transport) = match parts {
        [host, transport @ ..] => (host, transport),
        [] => return false,
    };
    let host =
        matches!(host, Protocol::Ip4(_) | Protocol::Ip6(_) | Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_));
    host && matches!(transport, [Protocol::Tcp(_)] | [Protocol::Udp(_), Protocol::QuicV1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_judged() {
        let peer = "/p2p/12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X";
        // Address, whether it can be dialled, kept from a peer elsewhere, kept from one on this machine.
        let rows = [
            ("/ip4/1.2.3.4/tcp/9901", true, true, true),
            (&format!("/ip4/1.2.3.4/tcp/9901{peer}"), true, true, true),
            ("/ip6/2001:db8::1/udp/9901/quic-v1", true, true, true),
            ("/dns4/example.org/tcp/9901", true, true, true),
            ("/ip4/127.0.0.1/tcp/9901", true, false, true),
            ("/ip6/::1/udp/9901/quic-v1", true, false, true),
            ("/ip6/::ffff:127.0.0.1/tcp/1", true, false, true),
            ("/ip4/0.0.0.0/tcp/9901", true, false, false),
            ("/ip4/1.2.3.4/tcp/0", true, false, false),
            ("/ip4/224.0.0.1/udp/1/quic-v1", true, false, false),
            ("/ip4/1.2.3.4/udp/9901", false, false, false),
            ("/ip4/1.2.3.4/tcp/9901/ws", false, false, false),
            (&format!("/ip4/1.2.3.4/tcp/9901{peer}/p2p-circuit"), false, false, false),
            ("/memory/1", false, false, false),
        ];
        for (text, supported, elsewhere, here) in rows {
            let address: Multiaddr = text.parse().expect("a multiaddr");
            assert_eq!(parse(text).is_ok(), supported, "{text}");
            assert_eq!(is_worth_keeping(&address, false), elsewhere, "{text}");
            assert_eq!(is_worth_keeping(&address, true), here, "{text}");
        }
        assert!(matches!(parse("1.2.3.4:9901"), Err(NetworkError::BadAddress { .. })));
        assert!(matches!(parse("/ip4/1.2.3.4/udp/9901"), Err(NetworkError::UnsupportedTransport { .. })));
        assert_eq!(
            without_peer(format!("/ip4/1.2.3.4/tcp/9901{peer}").parse().expect("a multiaddr")).to_string(),
            "/ip4/1.2.3.4/tcp/9901"
        );
    }
}
