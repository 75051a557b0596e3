//! The address book: peers that are known, and when to dial them next.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};

use super::backoff::Backoff;
use super::slots::Groups;

/// Peers in the book.
const MAX_PEERS: usize = 1024;

/// Addresses of one peer.
const MAX_ADDRESSES: usize = 8;

/// The wait after the first failed dial; it doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(5);

/// The longest wait between two dials.
const LAST_RETRY: Duration = Duration::from_secs(600);

/// A peer that never worked leaves the book after this many failed dials, one that did after the larger number.
const MAX_FAILURES: u32 = 4;
const MAX_FAILURES_PROVEN: u32 = 20;

/// Peers with their addresses. Bounded: a newcomer takes the place of the worst.
pub(super) struct Book {
    peers: HashMap<PeerId, Entry>,
    backoff: Backoff,
}

struct Entry {
    /// Most recently confirmed first, without `/p2p/…`.
    addresses: Vec<Multiaddr>,
    /// Whether it ever was a good peer, in this run or an earlier one.
    proven: bool,
    failures: u32,
    next_dial: Instant,
    /// Its place among those remembered from an earlier run, where the first were the best.
    place: usize,
    /// When it was last dialled or found good, if it was in this run.
    tried: Option<Instant>,
}

impl Entry {
    /// Smaller is better.
    fn rank(&self) -> (bool, u32, usize) {
        (!self.proven, self.failures, self.place)
    }
}

impl Book {
    /// An empty book. The seed is for the spread of waits.
    pub(super) fn new(seed: u64) -> Self {
        Self { peers: HashMap::new(), backoff: Backoff::new(seed) }
    }

    /// Takes up what an earlier run exported; to be called with its peers in the same order.
    pub(super) fn remember(&mut self, peer: PeerId, address: Multiaddr, now: Instant) {
        let place = self.peers.len();
        let is_new = !self.peers.contains_key(&peer);
        self.add(peer, address, now);
        if let Some(entry) = self.peers.get_mut(&peer)
            && is_new
        {
            (entry.proven, entry.place) = (true, place);
        }
    }

    /// Adds a claimed address.
    pub(super) fn add(&mut self, peer: PeerId, address: Multiaddr, now: Instant) {
        if !self.peers.contains_key(&peer) && self.peers.len() >= MAX_PEERS {
            let worst = self.peers.iter().max_by_key(|(_, entry)| entry.rank());
            if let Some(worst) = worst.map(|(peer, _)| *peer) {
                self.peers.remove(&worst);
            }
        }
        let entry = self.peers.entry(peer).or_insert_with(|| Entry {
            addresses: Vec::new(),
            proven: false,
            failures: 0,
            next_dial: now,
            place: usize::MAX,
            tried: None,
        });
        if entry.addresses.len() < MAX_ADDRESSES && !entry.addresses.contains(&address) {
            entry.addresses.push(address);
        }
    }

    /// Marks a peer as good: it is connected and of our network. `address` is where it was dialled.
    pub(super) fn prove(&mut self, peer: PeerId, address: Option<Multiaddr>, now: Instant) {
        if let Some(address) = address {
            self.add(peer, address.clone(), now);
            if let Some(entry) = self.peers.get_mut(&peer) {
                entry.addresses.retain(|other| *other != address);
                entry.addresses.insert(0, address);
                entry.addresses.truncate(MAX_ADDRESSES);
            }
        }
        if let Some(entry) = self.peers.get_mut(&peer) {
            entry.proven = true;
            entry.failures = 0;
            entry.next_dial = now;
            entry.tried = Some(now);
        }
    }

    /// A dial to the peer failed: waits longer, or forgets it.
    pub(super) fn fail(&mut self, peer: &PeerId, now: Instant) {
        let Some(entry) = self.peers.get_mut(peer) else { return };
        entry.failures += 1;
        entry.next_dial = now + self.backoff.wait(entry.failures, FIRST_RETRY, LAST_RETRY);
        if entry.failures >= if entry.proven { MAX_FAILURES_PROVEN } else { MAX_FAILURES } {
            self.peers.remove(peer);
        }
    }

    /// Does not dial the peer before `until`: it is banned.
    pub(super) fn pause(&mut self, peer: &PeerId, until: Instant) {
        if let Some(entry) = self.peers.get_mut(peer) {
            entry.next_dial = until;
        }
    }

    /// Does not dial the peer before `until`, nor remember it over a restart: it is of another network.
    pub(super) fn avoid(&mut self, peer: &PeerId, until: Instant) {
        if let Some(entry) = self.peers.get_mut(peer) {
            entry.proven = false;
            entry.next_dial = until;
        }
    }

    /// Up to `count` peers that are due to be dialled, the best first, each in an address group that has room, which is
    /// then taken. They are not due again until a while later.
    pub(super) fn take_due(
        &mut self,
        count: usize,
        now: Instant,
        groups: &mut Groups,
        wanted: impl Fn(&PeerId) -> bool,
    ) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let mut due: Vec<_> =
            self.peers.iter_mut().filter(|(peer, entry)| entry.next_dial <= now && wanted(peer)).collect();
        due.sort_by_key(|(_, entry)| entry.rank());
        let mut taken = Vec::new();
        for (peer, entry) in due {
            let with_room = entry.addresses.iter().filter(|address| groups.has_room(address));
            let addresses: Vec<_> = with_room.cloned().collect();
            let Some(first) = addresses.first().filter(|_| taken.len() < count) else { continue };
            groups.add(first);
            entry.next_dial = now + FIRST_RETRY;
            entry.tried = Some(now);
            taken.push((*peer, addresses));
        }
        taken
    }

    /// A peer to look whether it is still there: rather one that nobody ever met, else the one longest not tried.
    pub(super) fn take_feeler(
        &mut self,
        now: Instant,
        wanted: impl Fn(&PeerId) -> bool,
    ) -> Option<(PeerId, Vec<Multiaddr>)> {
        let due = self
            .peers
            .iter_mut()
            .filter(|(peer, entry)| entry.next_dial <= now && !entry.addresses.is_empty() && wanted(peer));
        let (peer, entry) = due.min_by_key(|(_, entry)| (entry.proven, entry.tried))?;
        entry.next_dial = now + FIRST_RETRY;
        entry.tried = Some(now);
        Some((*peer, entry.addresses.clone()))
    }

    /// How many addresses it holds.
    pub(super) fn len(&self) -> usize {
        self.peers.values().map(|entry| entry.addresses.len()).sum()
    }

    /// The addresses of proven peers, each ending in `/p2p/…`: those of `first` in their order, then the others, the best
    /// first.
    pub(super) fn export(&self, first: &[PeerId]) -> Vec<String> {
        let mut proven: Vec<_> = self.peers.iter().filter(|(_, entry)| entry.proven).collect();
        let place = |peer: &PeerId| first.iter().position(|other| other == peer).unwrap_or(first.len());
        proven.sort_by_key(|(peer, entry)| (place(peer), entry.rank(), **peer));
        let lines = proven
            .into_iter()
            .flat_map(|(peer, entry)| entry.addresses.iter().map(move |address| format!("{address}/p2p/{peer}")));
        lines.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> Multiaddr {
        format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("a multiaddr")
    }

    fn due(
        book: &mut Book,
        count: usize,
        now: Instant,
        wanted: impl Fn(&PeerId) -> bool,
    ) -> Vec<(PeerId, Vec<Multiaddr>)> {
        book.take_due(count, now, &mut Groups::default(), wanted)
    }

    #[test]
    fn what_is_remembered_comes_in_its_order_and_anchors_go_first() {
        let peers = [(); 5].map(|()| PeerId::random());
        let start = Instant::now();
        let mut book = Book::new(1);
        for (port, peer) in (1..).zip(peers) {
            book.remember(peer, address(port), start);
            book.remember(peer, address(port + 100), start);
        }
        let order: Vec<_> = due(&mut book, 9, start, |_| true).into_iter().map(|(peer, _)| peer).collect();
        assert_eq!(order, peers);
        let lines = book.export(&[peers[3], peers[1]]);
        let expected = [3, 1, 0, 2, 4].map(|at| {
            [1, 101].map(|port| format!("{}/p2p/{}", address(port + u16::try_from(at).expect("small")), peers[at]))
        });
        assert_eq!(lines, expected.concat());
    }

    #[test]
    fn dials_are_spread_over_groups() {
        let start = Instant::now();
        let mut book = Book::new(1);
        // Five peers of one group, each with an address elsewhere only the last has.
        let peers = [(); 5].map(|()| PeerId::random());
        for (at, peer) in peers.into_iter().enumerate() {
            book.remember(peer, format!("/ip4/1.2.3.{at}/tcp/1").parse().expect("a multiaddr"), start);
        }
        let elsewhere: Multiaddr = "/ip4/9.9.9.9/tcp/1".parse().expect("a multiaddr");
        book.add(peers[4], elsewhere.clone(), start);
        let taken = due(&mut book, 9, start, |_| true);
        assert_eq!(taken.iter().map(|(peer, _)| *peer).collect::<Vec<_>>(), [peers[0], peers[1], peers[4]]);
        assert_eq!(taken[2].1, [elsewhere], "only where there is room");
    }

    #[test]
    fn feelers_go_to_the_unproven_first_and_then_to_the_longest_untried() {
        let [proven, new] = [(); 2].map(|()| PeerId::random());
        let start = Instant::now();
        let mut book = Book::new(1);
        book.remember(proven, address(1), start);
        book.add(new, address(2), start);
        let mut now = start;
        let mut feeler = |book: &mut Book| {
            now += FIRST_RETRY;
            book.take_feeler(now, |_| true).map(|(peer, _)| peer)
        };
        assert_eq!(feeler(&mut book), Some(new));
        book.prove(new, None, start + FIRST_RETRY);
        assert_eq!(feeler(&mut book), Some(proven));
        assert_eq!(feeler(&mut book), Some(new));
        assert_eq!(book.take_feeler(start, |_| true), None, "none is due");
    }

    #[test]
    fn dials_wait_longer_after_each_failure() {
        let (peer, start) = (PeerId::random(), Instant::now());
        let mut book = Book::new(1);
        book.add(peer, address(1), start);
        book.add(peer, address(1), start);
        assert_eq!(due(&mut book, 9, start, |_| false), []);
        assert_eq!(due(&mut book, 9, start, |_| true), [(peer, vec![address(1)])]);
        assert_eq!(due(&mut book, 9, start, |_| true), [], "it is being dialled");
        book.fail(&peer, start);
        book.fail(&peer, start);
        assert_eq!(due(&mut book, 9, start + FIRST_RETRY * 5 / 4, |_| true), []);
        assert_eq!(due(&mut book, 9, start + FIRST_RETRY * 5 / 2, |_| true).len(), 1);
        book.fail(&peer, start);
        book.fail(&peer, start);
        assert!(book.peers.is_empty(), "forgotten");
    }

    #[test]
    fn proven_peers_come_first_are_exported_and_stay() {
        let (good, new, start) = (PeerId::random(), PeerId::random(), Instant::now());
        let mut book = Book::new(1);
        book.add(new, address(1), start);
        book.add(good, address(2), start);
        book.prove(good, Some(address(3)), start);
        assert_eq!(due(&mut book, 1, start, |_| true), [(good, vec![address(3), address(2)])]);
        assert_eq!(book.export(&[]), [format!("{}/p2p/{good}", address(3)), format!("{}/p2p/{good}", address(2))]);
        for port in 0..2 * MAX_PEERS {
            book.add(PeerId::random(), address(u16::try_from(port).expect("small")), start);
        }
        assert_eq!(book.peers.len(), MAX_PEERS);
        assert_eq!(book.export(&[]).len(), 2);
        book.avoid(&good, start + LAST_RETRY);
        assert_eq!(book.export(&[]), Vec::<String>::new());
    }

    #[test]
    fn a_peer_has_few_addresses() {
        let (peer, now) = (PeerId::random(), Instant::now());
        let mut book = Book::new(1);
        for port in 1..100 {
            book.add(peer, address(port), now);
        }
        book.prove(peer, Some(address(200)), now);
        let due = due(&mut book, 1, now, |_| true);
        assert_eq!(due[0].1.len(), MAX_ADDRESSES);
        assert_eq!(due[0].1[0], address(200));
    }
}
