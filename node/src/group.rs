//! Address groups: how many parties may stand behind a number of nodes.
//!
//! Whoever wants to look like many nodes pays for many addresses, not for many keys. So agreement counts once for all
//! nodes whose addresses come cheaply together.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The group of a multiaddr: of a public IPv4 address its /16, of an IPv6 address its /32. On loopback and in private
/// networks, where addresses say nothing, every socket is a group of its own; so is every name.
pub fn group(address: &str) -> String {
    let mut parts = address.split('/').skip(1);
    let ip = match (parts.next(), parts.next()) {
        (Some("ip4"), Some(text)) => text.parse().map(IpAddr::V4).ok(),
        (Some("ip6"), Some(text)) => text.parse::<Ipv6Addr>().map(|ip| ip.to_canonical()).ok(),
        _ => None,
    };
    match ip {
        Some(IpAddr::V4(ip)) if is_public_v4(ip) => {
            let [first, second, ..] = ip.octets();
            format!("{first}.{second}.0.0/16")
        }
        Some(IpAddr::V6(ip)) if is_public_v6(ip) => {
            let [first, second, ..] = ip.segments();
            format!("{}/32", Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0))
        }
        _ => socket(address),
    }
}

/// The multiaddr without the peer id: keys are free.
fn socket(address: &str) -> String {
    address.split("/p2p/").next().unwrap_or_default().to_owned()
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [first, second, ..] = ip.octets();
    // 100.64.0.0/10 is shared by the customers of a provider (RFC 6598).
    let is_shared = first == 100 && (64..128).contains(&second);
    !(ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified() || is_shared)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    !(ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_come_together_are_one_group() {
        for (address, expected) in [
            ("/ip4/203.0.113.7/tcp/3297/p2p/12D3KooWA", "203.0.0.0/16"),
            ("/ip4/203.0.1.1/udp/1/quic-v1", "203.0.0.0/16"),
            ("/ip4/203.1.113.7/tcp/3297", "203.1.0.0/16"),
            ("/ip6/2001:db8:1::1/tcp/3297", "2001:db8::/32"),
            ("/ip6/2001:db8:2::1/tcp/3298/p2p/12D3KooWA", "2001:db8::/32"),
            ("/ip6/::ffff:203.0.113.7/tcp/3297", "203.0.0.0/16"),
            ("/ip4/127.0.0.1/tcp/3297/p2p/12D3KooWA", "/ip4/127.0.0.1/tcp/3297"),
            ("/ip4/127.0.0.1/tcp/3298", "/ip4/127.0.0.1/tcp/3298"),
            ("/ip4/192.168.0.7/tcp/3297", "/ip4/192.168.0.7/tcp/3297"),
            ("/ip4/100.100.0.1/tcp/1", "/ip4/100.100.0.1/tcp/1"),
            ("/ip6/::1/tcp/3297", "/ip6/::1/tcp/3297"),
            ("/ip6/fd00::1/tcp/3297", "/ip6/fd00::1/tcp/3297"),
            ("/dns4/example.org/tcp/3297/p2p/12D3KooWA", "/dns4/example.org/tcp/3297"),
            ("/ip4/no/tcp/1", "/ip4/no/tcp/1"),
            ("", ""),
        ] {
            assert_eq!(group(address), expected, "{address}");
        }
    }
}
