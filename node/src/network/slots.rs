//! Who gets a connection: the rules against being surrounded, apart from all sockets and clocks.
//!
//! Somebody who holds every connection of a node decides what it sees (Heilman et al., *Eclipse Attacks on Bitcoin's
//! Peer-to-Peer Network*, USENIX Security 2015). What is cheap for one attacker is many addresses of one network, and
//! many connections; so dials are spread over networks ([`has_room`]), and when inbound slots are full, the one that gives
//! way comes from whichever network has most of them ([`evict`]), after some are spared for what an attacker cannot fake
//! all at once: Bitcoin Core's scheme (`src/node/eviction.cpp`), simplified and with another end.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use libp2p::{Multiaddr, PeerId};

use super::Group;

/// Dialled peers of one address [`Group`]. Two rather than Bitcoin Core's one, since a small network may live in few groups.
const MAX_OF_GROUP: usize = 2;

/// Inbound peers that are spared for the group they are from, for their short round trips, and for the blocks and
/// transactions that they were the first to bring.
const SPARED_BY_GROUP: usize = 4;
const SPARED_BY_PING: usize = 8;
const SPARED_BY_USE: usize = 4;

/// How many dialled peers each group has.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups(BTreeMap<Group, usize>);

impl Groups {
    /// Counts one more peer.
    pub(super) fn add(&mut self, address: &Multiaddr) {
        *self.0.entry(Group::dialled(address)).or_default() += 1;
    }

    /// Whether one more may be dialled there. Local ones always may, for test networks live there, and so may names and
    /// what is behind relays, of which it is not known where they are.
    pub(super) fn has_room(&self, address: &Multiaddr) -> bool {
        let group = Group::dialled(address);
        !matches!(group, Group::V4(_) | Group::V6(_)) || self.0.get(&group).is_none_or(|count| *count < MAX_OF_GROUP)
    }
}

/// An inbound peer, as [`evict`] judges it.
#[derive(Clone, Debug)]
pub(super) struct Inbound {
    pub(super) peer: PeerId,
    pub(super) group: Group,
    /// How long it has been connected.
    pub(super) connected: Duration,
    pub(super) round_trip: Option<Duration>,
    /// How long ago it brought something valid that was new.
    pub(super) useful: Option<Duration>,
}

/// The peer that gives way to a new one, of all that are inbound, the new one among them. `secret` orders the groups in a
/// way that nobody outside can foresee, and `random` is any number. `None` if there are so few that all are spared.
///
/// Of those that could go, any one does, where Bitcoin Core takes the youngest: that would always be the new one while its own
/// group floods the node, so that nobody of that group got in any more. So it stays for as long as luck has it, and for good
/// once it has been of use.
pub(super) fn evict(mut peers: Vec<Inbound>, secret: &RandomState, random: u32) -> Option<PeerId> {
    // One peer, the longest connected, of each of some groups.
    peers.sort_by_key(|peer| (secret.hash_one(peer.group), peer.group, std::cmp::Reverse(peer.connected)));
    let mut spared = Vec::new();
    for peer in &peers {
        if spared.len() < SPARED_BY_GROUP && spared.last().is_none_or(|(group, _)| *group != peer.group) {
            spared.push((peer.group, peer.peer));
        }
    }
    peers.retain(|peer| !spared.iter().any(|(_, spared)| *spared == peer.peer));

    spare(&mut peers, SPARED_BY_PING, |peer| peer.round_trip);
    spare(&mut peers, SPARED_BY_USE, |peer| peer.useful);
    // Half of the others for having been here longest.
    let half = peers.len() / 2;
    spare(&mut peers, half, |peer| Some(Duration::MAX - peer.connected));

    let mut groups: BTreeMap<Group, Vec<&Inbound>> = BTreeMap::new();
    for peer in &peers {
        groups.entry(peer.group).or_default().push(peer);
    }
    let youngest = |peers: &Vec<&Inbound>| peers.iter().map(|peer| peer.connected).min();
    // The largest group; of equal ones, the one with the youngest peer.
    let most = groups.into_values().max_by_key(|peers| (peers.len(), std::cmp::Reverse(youngest(peers))))?;
    most.get(random as usize % most.len().max(1)).map(|peer| peer.peer)
}

/// Takes out up to `count` peers, those with the smallest key first; those without one stay.
fn spare(peers: &mut Vec<Inbound>, count: usize, key: impl Fn(&Inbound) -> Option<Duration>) {
    peers.sort_by_key(|peer| key(peer).unwrap_or(Duration::MAX));
    let spared = peers.iter().take(count).take_while(|peer| key(peer).is_some()).count();
    peers.drain(..spared);
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn at(text: &str) -> Multiaddr {
        text.parse().expect("a multiaddr")
    }

    fn inbound(group: u8, connected: u64) -> Inbound {
        Inbound {
            peer: PeerId::random(),
            group: Group::V4([group, 0]),
            connected: Duration::from_secs(connected),
            round_trip: None,
            useful: None,
        }
    }

    #[test]
    fn dials_are_spread_over_groups() {
        let mut groups = Groups::default();
        for (address, room) in [
            ("/ip4/1.2.3.4/tcp/1", true),
            ("/ip4/1.2.9.9/tcp/1", true),
            ("/ip4/1.2.9.10/tcp/1", false),
            ("/ip4/1.3.9.10/tcp/1", true),
            ("/ip6/2001:db8::1/tcp/1", true),
            ("/ip6/2001:db8:1::1/tcp/1", true),
            ("/ip6/2001:db8:2::1/tcp/1", false),
            ("/ip4/127.0.0.1/tcp/1", true),
            ("/ip4/127.0.0.1/tcp/2", true),
            ("/ip4/127.0.0.1/tcp/3", true),
        ] {
            assert_eq!(groups.has_room(&at(address)), room, "{address}");
            groups.add(&at(address));
        }
    }

    #[test]
    fn a_crowd_of_one_group_pushes_out_only_itself() {
        // Twenty peers of twenty groups, connected for long, and a flood from one group that does everything well.
        let honest: Vec<_> = (1..=20).map(|group| inbound(group, 1000)).collect();
        let secret = RandomState::new();
        let mut peers = honest.clone();
        for second in 0..200u64 {
            let mut flood = inbound(99, second % 7);
            flood.round_trip = Some(Duration::from_millis(second % 3));
            flood.useful = Some(Duration::ZERO);
            peers.push(flood);
            if peers.len() > 64 {
                let gone = evict(peers.clone(), &secret, second as u32 * 31).expect("there is somebody to push out");
                assert!(!honest.iter().any(|peer| peer.peer == gone), "a flood pushed out an honest peer");
                peers.retain(|peer| peer.peer != gone);
            }
        }
    }

    #[test]
    fn what_cannot_be_faked_spares() {
        let crowd = |special: Inbound| {
            let mut peers: Vec<_> = (0..40).map(|second| inbound(1, 100 + second)).collect();
            peers.push(special);
            peers
        };
        // Each is the youngest of the only group, and could go.
        let plain = inbound(1, 1);
        let fast = Inbound { round_trip: Some(Duration::from_millis(1)), ..inbound(1, 1) };
        let useful = Inbound { useful: Some(Duration::from_secs(1)), ..inbound(1, 1) };
        let stranger = Inbound { group: Group::V4([2, 2]), ..inbound(1, 1) };
        let old = inbound(1, 1000);
        for (what, special, may_go) in [
            ("nothing special", plain, true),
            ("a short round trip", fast, false),
            ("something useful", useful, false),
            ("another group", stranger, false),
            ("a long connection", old, false),
        ] {
            let (peers, secret) = (crowd(special.clone()), RandomState::new());
            let gone: Vec<_> =
                (0..100).map(|random| evict(peers.clone(), &secret, random).expect("one goes")).collect();
            let times = gone.iter().filter(|gone| **gone == special.peer).count();
            // One of 40 is spared for its group, and half of the others for their age.
            assert_eq!(times, if may_go { 100 / 20 } else { 0 }, "{what}");
        }
    }

    #[test]
    fn a_newcomer_gets_in_beside_a_flood_from_its_own_group() {
        let secret = RandomState::new();
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut stays = Vec::new();
        for _ in 0..200 {
            let newcomer = inbound(1, 0);
            let mut peers: Vec<_> = (0..64).map(|second| inbound(1, second)).collect();
            peers.push(newcomer.clone());
            let mut flood = 0;
            loop {
                let gone = evict(peers.clone(), &secret, random.random_range(0..1000)).expect("one goes");
                peers.retain(|peer| peer.peer != gone);
                if gone == newcomer.peer {
                    break;
                }
                peers.push(inbound(1, 0));
                flood += 1;
            }
            stays.push(flood);
        }
        stays.sort_unstable();
        // 32 of 65 can go. Half of the newcomers outlast 20 attackers, and nearly all the first.
        assert!((15..30).contains(&stays[100]) && stays[20] > 1, "{stays:?}");
    }

    #[test]
    fn few_are_all_spared() {
        assert_eq!(evict(Vec::new(), &RandomState::new(), 5), None);
        assert_eq!(evict(vec![inbound(1, 1)], &RandomState::new(), 5), None);
    }
}
