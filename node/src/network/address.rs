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

/// Whether it leads through a relay.
pub(super) fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

/// The address at which the multiaddr begins; nothing for one through a relay, whose address says nothing of who is behind
/// it.
pub(super) fn ip(address: &Multiaddr) -> Option<IpAddr> {
    if is_relayed(address) {
        return None;
    }
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

/// Whether anybody on the internet could dial it: not a home network's or this machine's own.
pub(super) fn is_global(address: &Multiaddr) -> bool {
    !is_relayed(address) && !ip(address).is_some_and(is_local)
}

/// Whether an IP address is this machine's own, or a private network's.
pub(super) fn is_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            // 100.64.0.0/10 is for the NAT of providers (RFC 6598).
            let is_shared = a == 100 && (64..128).contains(&b);
            ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_unspecified() || is_shared
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// Whether it leads to the machine that dials it.
pub(super) fn is_loopback(address: &Multiaddr) -> bool {
    ip(address).is_some_and(|ip| ip.is_loopback())
}

/// The protocol and port of a multiaddr that leads to no relay and not only to this machine.
pub(super) fn port(address: &Multiaddr) -> Option<(&'static str, u16)> {
    if is_relayed(address) || is_loopback(address) {
        return None;
    }
    match address.iter().nth(1)? {
        Protocol::Tcp(port) => Some(("TCP", port)),
        Protocol::Udp(port) => Some(("UDP", port)),
        _ => None,
    }
}

/// The first port.
pub(super) fn port_number(address: &Multiaddr) -> Option<u16> {
    address.iter().find_map(|part| match part {
        Protocol::Tcp(port) | Protocol::Udp(port) => Some(port),
        _ => None,
    })
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
    (is_supported(address) || is_circuit(address))
        && port_number(address) != Some(0)
        && !ip(address).is_some_and(|ip| ip.is_unspecified() || ip.is_multicast())
        && (loopback || !is_loopback(address))
}

/// An address of a relay with its identity, and then the way through it, perhaps with the identity at its end.
fn is_circuit(address: &Multiaddr) -> bool {
    let parts: Vec<Protocol> = address.iter().collect();
    let Some(at) = parts.iter().position(|part| *part == Protocol::P2pCircuit) else { return false };
    let (relay, rest) = parts.split_at(at);
    let relay: Multiaddr = relay.iter().cloned().collect();
    let rest_is_right = matches!(rest, [_] | [_, Protocol::P2p(_)]);
    peer(&relay).is_some() && is_supported(&relay) && rest_is_right
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
    fn global_addresses_are_told_from_local_ones() {
        let relay = "/p2p/12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X/p2p-circuit";
        for (text, global) in [
            ("/ip4/1.2.3.4/tcp/1", true),
            ("/ip6/2001:db8::1/tcp/1", true),
            ("/dns4/example.org/tcp/1", true),
            ("/ip4/192.168.1.1/tcp/1", false),
            ("/ip4/127.0.0.1/tcp/1", false),
            ("/ip4/100.64.0.1/tcp/1", false),
            ("/ip4/100.128.0.1/tcp/1", true),
            ("/ip6/fd00::1/tcp/1", false),
            ("/ip6/::1/tcp/1", false),
            (&format!("/ip4/1.2.3.4/tcp/1{relay}"), false),
        ] {
            let address: Multiaddr = text.parse().expect("a multiaddr");
            assert_eq!(is_global(&address), global, "{text}");
        }
        let circuit: Multiaddr = format!("/ip4/1.2.3.4/tcp/1{relay}").parse().expect("a multiaddr");
        assert_eq!(ip(&circuit), None, "whoever is behind a relay does not answer for its address");
    }

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
            (&format!("/ip4/1.2.3.4/tcp/9901{peer}/p2p-circuit"), false, true, true),
            (&format!("/ip4/1.2.3.4/udp/9901/quic-v1{peer}/p2p-circuit{peer}"), false, true, true),
            ("/ip4/1.2.3.4/tcp/9901/p2p-circuit", false, false, false),
            (&format!("{peer}/p2p-circuit"), false, false, false),
            (&format!("/ip4/1.2.3.4/tcp/9901{peer}/p2p-circuit/tcp/1"), false, false, false),
            (&format!("/ip4/1.2.3.4/tcp/9901{peer}/p2p-circuit{peer}/p2p-circuit"), false, false, false),
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
