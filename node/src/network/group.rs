//! Address groups: how many parties may stand behind a number of peers.
//!
//! Whoever wants to look like many peers pays for many addresses, not for many keys. So addresses that come cheaply together
//! count once: for whom we dial, for who makes room, for whom sync believes, for what a faucet gives, and for how many nodes
//! agree on an answer.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use ocelli_consensus::hash::sha256;

use super::address;

/// Addresses that one owner tends to have many of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// A /16 of public IPv4: the first two bytes.
    V4([u8; 2]),
    /// A /32 of public IPv6: the first four bytes.
    V6([u8; 4]),
    /// On this machine or in a private network addresses say nothing of who pays: a host, and its port if we dialled it. The
    /// port of one that dialled us is any.
    Local(IpAddr, u16),
    /// A name, or a relay, which says nothing of who is behind it: eight bytes of the hash of its address.
    Other([u8; 8]),
}

impl Group {
    /// The group of an address that we dialled, or could.
    pub(super) fn dialled(address: &Multiaddr) -> Self {
        Self::of(address, address::port_number(address).unwrap_or(0))
    }

    /// The group of an address that dialled us.
    pub(super) fn inbound(address: &Multiaddr) -> Self {
        Self::of(address, 0)
    }

    /// The group of the text of an address that we dialled.
    pub fn of_dialled(address: &str) -> Self {
        address.parse().map_or_else(|_| Self::hashed(address), |address| Self::dialled(&address))
    }

    /// In how many groups the nodes of these addresses are that have answered the same: nodes of one machine count once,
    /// whatever their ports, and all of loopback is one machine.
    pub fn count_answers<'a>(addresses: impl Iterator<Item = &'a str>) -> usize {
        let machine = |address: &str| match Self::of_dialled(address) {
            Self::Local(ip, _) if ip.is_loopback() => Self::Local(Ipv6Addr::LOCALHOST.into(), 0),
            Self::Local(ip, _) => Self::Local(ip, 0),
            Self::Other(_) => Self::hashed(address.split('/').nth(2).unwrap_or_default()),
            public => public,
        };
        addresses.map(machine).collect::<BTreeSet<_>>().len()
    }

    /// Whether the address is one of this machine alone.
    pub fn is_this_machine(address: &str) -> bool {
        matches!(Self::of_dialled(address), Self::Local(ip, _) if ip.is_loopback())
    }

    /// Whether the addresses say nothing of who pays for them.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Local(..))
    }

    /// A number that differs wherever groups differ, short of a collision of hashes.
    pub fn id(&self) -> u64 {
        let hash = sha256(&[format!("{self:?}").as_bytes()]);
        hash.first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
    }

    fn of(address: &Multiaddr, port: u16) -> Self {
        match address::ip(address) {
            Some(ip) if address::is_local(ip) => Self::Local(ip, port),
            Some(IpAddr::V4(ip)) => {
                let [a, b, ..] = ip.octets();
                Self::V4([a, b])
            }
            Some(IpAddr::V6(ip)) => {
                let [a, b, c, d, ..] = ip.octets();
                Self::V6([a, b, c, d])
            }
            None => {
                // Without identities: keys are free.
                let host: Multiaddr = address.iter().take_while(|part| !matches!(part, Protocol::P2p(_))).collect();
                Self::hashed(&host.to_string())
            }
        }
    }

    fn hashed(text: &str) -> Self {
        Self::Other(sha256(&[text.as_bytes()]).first_chunk().copied().unwrap_or_default())
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4([a, b]) => write!(f, "{a}.{b}.0.0/16"),
            Self::V6([a, b, c, d]) => {
                let (first, second) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
                write!(f, "{}/32", Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0))
            }
            Self::Local(ip, _) => ip.fmt(f),
            Self::Other(_) => f.write_str("of a name or relay"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_come_together_are_one_group() {
        let peer = "/p2p/12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X";
        for (address, expected) in [
            (format!("/ip4/203.0.113.7/tcp/3297{peer}"), "203.0.0.0/16"),
            ("/ip4/203.0.1.1/udp/1/quic-v1".into(), "203.0.0.0/16"),
            ("/ip4/203.1.113.7/tcp/3297".into(), "203.1.0.0/16"),
            ("/ip6/2001:db8:1::1/tcp/3297".into(), "2001:db8::/32"),
            (format!("/ip6/2001:db8:2::1/tcp/3298{peer}"), "2001:db8::/32"),
            ("/ip6/::ffff:203.0.113.7/tcp/3297".into(), "203.0.0.0/16"),
        ] {
            let group = Group::of_dialled(&address);
            assert_eq!((group.to_string().as_str(), group.is_local()), (expected, false), "{address}");
            assert_eq!(group, Group::inbound(&address.parse().expect("a multiaddr")), "whoever dialled");
        }
        for host in ["127.0.0.1", "192.168.0.7", "10.1.2.3", "172.16.0.1", "169.254.1.1", "100.100.0.1", "0.0.0.0"] {
            let [one, other] = [1, 2].map(|port| format!("/ip4/{host}/tcp/{port}{peer}"));
            assert_eq!(Group::of_dialled(&one), Group::Local(host.parse().expect("an address"), 1), "{host}");
            assert_ne!(Group::of_dialled(&one), Group::of_dialled(&other), "we dial one of several there");
            let inbound = [one, other].map(|text| Group::inbound(&text.parse().expect("a multiaddr")));
            assert_eq!(inbound[0], inbound[1], "the port of one that dials us is any");
            assert_eq!(inbound[0].to_string(), host);
        }
        for host in ["::1", "fd00::1", "fe80::1", "::"] {
            assert!(Group::of_dialled(&format!("/ip6/{host}/tcp/1")).is_local(), "{host}");
        }
        let name = Group::of_dialled(&format!("/dns4/example.org/tcp/3297{peer}"));
        assert_eq!(name, Group::of_dialled("/dns4/example.org/tcp/3297"));
        assert_ne!(name, Group::of_dialled("/dns4/example.org/tcp/3298"));
        let relayed = |relay: &str| Group::of_dialled(&format!("/ip4/{relay}/tcp/1{peer}/p2p-circuit{peer}"));
        assert_eq!(relayed("1.2.3.4"), relayed("1.2.3.4"));
        assert_ne!(relayed("1.2.3.4"), relayed("1.2.3.5"));
        assert!(matches!(relayed("1.2.3.4"), Group::Other(_)), "whoever is behind a relay does not answer for it");
        assert!(matches!(Group::of_dialled("no multiaddr"), Group::Other(_)));
    }

    #[test]
    fn ids_differ_as_groups_do() {
        let groups = [
            Group::V4([1, 2]),
            Group::V4([2, 1]),
            Group::V6([1, 2, 0, 0]),
            Group::Local([127, 0, 0, 1].into(), 1),
            Group::Local([127, 0, 0, 1].into(), 2),
            Group::Other([1, 2, 0, 0, 0, 0, 0, 0]),
        ];
        let ids: std::collections::BTreeSet<u64> = groups.iter().map(Group::id).collect();
        assert_eq!(ids.len(), groups.len());
    }

    #[test]
    fn answers_of_one_machine_count_once() {
        let rows: &[(&[&str], usize)] = &[
            (&[], 0),
            (
                &[
                    "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X",
                    "/ip4/127.0.0.1/tcp/2",
                    "/ip6/::1/tcp/3",
                    "/ip4/127.0.0.2/tcp/1",
                ],
                1,
            ),
            (&["/ip4/192.168.0.7/tcp/1", "/ip4/192.168.0.7/udp/2/quic-v1", "/ip4/192.168.0.8/tcp/1"], 2),
            (&["/dns4/example.org/tcp/1", "/dns4/example.org/tcp/2", "/dns4/example.net/tcp/1"], 2),
            (&["/ip4/203.0.113.7/tcp/1", "/ip4/203.0.1.1/tcp/1", "/ip4/127.0.0.1/tcp/1"], 2),
        ];
        for (addresses, expected) in rows {
            assert_eq!(Group::count_answers(addresses.iter().copied()), *expected, "{addresses:?}");
        }
    }
}
