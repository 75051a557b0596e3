//! The address book: peers that are known, and when to dial them next.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};

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
#[derive(Default)]
pub(super) struct Book {
    peers: HashMap<PeerId, Entry>,
}

struct Entry {
    /// Most recently confirmed first, without `/p2p/…`.
    addresses: Vec<Multiaddr>,
    /// Whether it ever was a good peer, in this run or an earlier one.
    proven: bool,
    failures: u32,
    next_dial: Instant,
}

impl Entry {
    /// Smaller is better.
    fn rank(&self) -> (bool, u32) {
        (!self.proven, self.failures)
    }
}

impl Book {
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
        }
    }

    /// A dial to the peer failed: waits longer, or forgets it.
    pub(super) fn fail(&mut self, peer: &PeerId, now: Instant) {
        let Some(entry) = self.peers.get_mut(peer) else { return };
        entry.failures += 1;
        entry.next_dial = now + LAST_RETRY.min(FIRST_RETRY * 2u32.saturating_pow(entry.failures.min(16) - 1));
        if entry.failures >= if entry.proven { MAX_FAILURES_PROVEN } else { MAX_FAILURES } {
            self.peers.remove(peer);
        }
    }

    /// Does not dial the peer before `until`, nor pass it on: it is banned, or of another network.
    pub(super) fn avoid(&mut self, peer: &PeerId, until: Instant) {
        if let Some(entry) = self.peers.get_mut(peer) {
            entry.proven = false;
            entry.next_dial = until;
        }
    }

    /// Up to `count` peers that are due to be dialled, the best first. They are not due again until a while later.
    pub(super) fn take_due(
        &mut self,
        count: usize,
        now: Instant,
        wanted: impl Fn(&PeerId) -> bool,
    ) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let mut due: Vec<_> = self
            .peers
            .iter_mut()
            .filter(|(peer, entry)| entry.next_dial <= now && !entry.addresses.is_empty() && wanted(peer))
            .collect();
        due.sort_by_key(|(_, entry)| entry.rank());
        due.truncate(count);
        due.into_iter()
            .map(|(peer, entry)| {
                entry.next_dial = now + FIRST_RETRY;
                (*peer, entry.addresses.clone())
            })
            .collect()
    }

    /// How many addresses it holds.
    pub(super) fn len(&self) -> usize {
        self.peers.values().map(|entry| entry.addresses.len()).sum()
    }

    /// The addresses of proven peers, each ending in `/p2p/…`, by identity.
    pub(super) fn export(&self) -> Vec<String> {
        let mut lines: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, entry)| entry.proven)
            .flat_map(|(peer, entry)| entry.addresses.iter().map(move |address| format!("{address}/p2p/{peer}")))
            .collect();
        lines.sort();
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> Multiaddr {
        format!("/ip4/1.2.3.4/tcp/{port}").parse().expect("a multiaddr")
    }

    #[test]
    fn dials_wait_longer_after_each_failure() {
        let (peer, start) = (PeerId::random(), Instant::now());
        let mut book = Book::default();
        book.add(peer, address(1), start);
        book.add(peer, address(1), start);
        assert_eq!(book.take_due(9, start, |_| false), []);
        assert_eq!(book.take_due(9, start, |_| true), [(peer, vec![address(1)])]);
        assert_eq!(book.take_due(9, start, |_| true), [], "it is being dialled");
        book.fail(&peer, start);
        book.fail(&peer, start);
        assert_eq!(book.take_due(9, start + FIRST_RETRY, |_| true), []);
        assert_eq!(book.take_due(9, start + 2 * FIRST_RETRY, |_| true).len(), 1);
        book.fail(&peer, start);
        book.fail(&peer, start);
        assert!(book.peers.is_empty(), "forgotten");
    }

    #[test]
    fn proven_peers_come_first_are_exported_and_stay() {
        let (good, new, start) = (PeerId::random(), PeerId::random(), Instant::now());
        let mut book = Book::default();
        book.add(new, address(1), start);
        book.add(good, address(2), start);
        book.prove(good, Some(address(3)), start);
        assert_eq!(book.take_due(1, start, |_| true), [(good, vec![address(3), address(2)])]);
        assert_eq!(book.export(), [format!("{}/p2p/{good}", address(2)), format!("{}/p2p/{good}", address(3))]);
        for port in 0..2 * MAX_PEERS {
            book.add(PeerId::random(), address(u16::try_from(port).expect("small")), start);
        }
        assert_eq!(book.peers.len(), MAX_PEERS);
        assert_eq!(book.export().len(), 2);
        book.avoid(&good, start + LAST_RETRY);
        assert_eq!(book.export(), Vec::<String>::new());
    }

    #[test]
    fn a_peer_has_few_addresses() {
        let (peer, now) = (PeerId::random(), Instant::now());
        let mut book = Book::default();
        for port in 1..100 {
            book.add(peer, address(port), now);
        }
        book.prove(peer, Some(address(200)), now);
        let due = book.take_due(1, now, |_| true);
        assert_eq!(due[0].1.len(), MAX_ADDRESSES);
        assert_eq!(due[0].1[0], address(200));
    }
}
