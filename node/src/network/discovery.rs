//! Whom to dial, and when.

use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};

use super::backoff::Backoff;
use super::book::Book;
use super::slots::Groups;
use super::{DialFailure, address};

/// The wait before a bootstrap address is dialled again; it doubles up to the second. Each is spread by a quarter.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// The wait for a bootstrap address on another network, which will hardly change.
const FOREIGN_RETRY: Duration = Duration::from_secs(300);

/// The wait between two lookups in Kademlia, which doubles up to the second: often while the network is new to us, then
/// seldom.
const FIRST_LOOKUP: Duration = Duration::from_secs(1);
const LAST_LOOKUP: Duration = Duration::from_secs(60);

/// Addresses added while the node runs.
const MAX_ADDED: usize = 64;

/// Dials begun at one time.
const DIALS_AT_ONCE: usize = 4;

/// A dial to begin, or under way.
#[derive(Clone, Debug)]
pub(super) struct Dial {
    pub(super) purpose: Purpose,
    pub(super) peer: Option<PeerId>,
    pub(super) addresses: Vec<Multiaddr>,
}

/// Why an address is dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It is the bootstrap address with this index.
    Bootstrap(usize),
    /// The peer is in the book.
    Found,
    /// To see whether a peer in the book is still there; the connection is closed again.
    Feeler,
    /// A command says so.
    Asked,
}

/// Bootstrap addresses, the address book, and the time of the next lookup.
pub(super) struct Discovery {
    pub(super) book: Book,
    bootstrap: Vec<Bootstrap>,
    /// How many of these were configured; the others were added later.
    configured: usize,
    target: usize,
    next_lookup: Instant,
    lookup_delay: Duration,
    /// `None` sends no feelers.
    feelers: Option<Duration>,
    next_feeler: Instant,
    backoff: Backoff,
}

struct Bootstrap {
    address: Multiaddr,
    /// Who is there, as named in the address or found out.
    peer: Option<PeerId>,
    dialling: bool,
    next_dial: Instant,
    /// In a row.
    failures: u32,
    /// The address leads to this node itself: not dialled any more.
    myself: bool,
}

impl Bootstrap {
    fn new(address: Multiaddr, me: PeerId, now: Instant) -> Self {
        Self {
            peer: address::peer(&address),
            myself: address::peer(&address) == Some(me),
            address,
            dialling: false,
            next_dial: now,
            failures: 0,
        }
    }
}

impl Discovery {
    /// `bootstrap` addresses may end in `/p2p/…`; `target` is the number of peers to dial of those in the book, and `feelers` the
    /// time between two probes of them. The seed is for the spread of waits.
    pub(super) fn new(
        book: Book,
        bootstrap: Vec<Multiaddr>,
        target: usize,
        feelers: Option<Duration>,
        me: PeerId,
        seed: u64,
        now: Instant,
    ) -> Self {
        let bootstrap: Vec<_> = bootstrap.into_iter().map(|address| Bootstrap::new(address, me, now)).collect();
        let configured = bootstrap.len();
        let mut backoff = Backoff::new(seed);
        Self {
            book,
            bootstrap,
            configured,
            target,
            next_lookup: now,
            lookup_delay: FIRST_LOOKUP,
            feelers,
            next_feeler: now + backoff.spread(feelers.unwrap_or_default()),
            backoff,
        }
    }

    /// Adds a bootstrap address, or dials one that is there already without further waiting.
    pub(super) fn add(&mut self, address: Multiaddr, me: PeerId, now: Instant) {
        if let Some(entry) = self.bootstrap.iter_mut().find(|entry| entry.address == address) {
            entry.next_dial = now;
            return;
        }
        let new = Bootstrap::new(address, me, now);
        if self.bootstrap.len() - self.configured < MAX_ADDED {
            self.bootstrap.push(new);
        } else if let Some(oldest) = self.bootstrap[self.configured..].iter_mut().find(|entry| !entry.dialling) {
            // In its place: dials under way name their address by its index.
            *oldest = new;
        }
    }

    /// The dials that are due. `outbound` counts the dialled peers, those under way included, and `groups` where they are.
    pub(super) fn due(
        &mut self,
        now: Instant,
        outbound: usize,
        mut groups: Groups,
        is_open: impl Fn(&PeerId) -> bool,
    ) -> Vec<Dial> {
        let mut dials = Vec::new();
        for (index, entry) in self.bootstrap.iter_mut().enumerate() {
            let open = entry.peer.as_ref().is_some_and(&is_open);
            if open {
                entry.failures = 0;
                entry.next_dial = now + FIRST_RETRY;
            } else if !entry.myself && !entry.dialling && entry.next_dial <= now {
                entry.dialling = true;
                dials.push(Dial {
                    purpose: Purpose::Bootstrap(index),
                    peer: address::peer(&entry.address),
                    addresses: vec![entry.address.clone()],
                });
            }
        }
        let missing = self.target.saturating_sub(outbound + dials.len()).min(DIALS_AT_ONCE);
        let bootstrap: Vec<_> = dials.iter().filter_map(|dial| dial.peer).collect();
        let wanted = |peer: &PeerId| !is_open(peer) && !bootstrap.contains(peer);
        dials.extend(self.book.take_due(missing, now, &mut groups, wanted).into_iter().map(|(peer, addresses)| Dial {
            purpose: Purpose::Found,
            peer: Some(peer),
            addresses,
        }));
        if let Some(interval) = self.feelers
            && self.next_feeler <= now
        {
            self.next_feeler = now + self.backoff.spread(interval);
            let dialled: Vec<_> = dials.iter().filter_map(|dial| dial.peer).collect();
            let wanted = |peer: &PeerId| !is_open(peer) && !dialled.contains(peer);
            dials.extend(self.book.take_feeler(now, wanted).map(|(peer, addresses)| Dial {
                purpose: Purpose::Feeler,
                peer: Some(peer),
                addresses,
            }));
        }
        dials
    }

    /// A dial gave a connection; who it is will show.
    pub(super) fn on_connected(&mut self, dial: &Dial, peer: PeerId, now: Instant) {
        if let Purpose::Bootstrap(index) = dial.purpose
            && let Some(entry) = self.bootstrap.get_mut(index)
        {
            entry.dialling = false;
            entry.peer = Some(peer);
            entry.next_dial = now + FIRST_RETRY;
        }
    }

    /// A dial, or the peer that it found, is no good. Returns how long a bootstrap address waits now.
    pub(super) fn on_failed(&mut self, dial: &Dial, failure: &DialFailure, now: Instant) -> Option<Duration> {
        match dial.purpose {
            Purpose::Bootstrap(index) => {
                let entry = self.bootstrap.get_mut(index)?;
                entry.dialling = false;
                if *failure == DialFailure::Myself {
                    entry.myself = true;
                    return None;
                }
                entry.failures = entry.failures.saturating_add(1);
                let wait = match failure {
                    DialFailure::OtherNetwork { .. } => self.backoff.spread(FOREIGN_RETRY),
                    _ => self.backoff.wait(entry.failures, FIRST_RETRY, LAST_RETRY),
                };
                entry.next_dial = now + wait;
                Some(wait)
            }
            Purpose::Found | Purpose::Feeler => {
                if let Some(peer) = dial.peer {
                    self.book.fail(peer, &dial.addresses, now);
                }
                None
            }
            Purpose::Asked => None,
        }
    }

    /// A dial was not begun because the peer is connected, or being dialled, already.
    pub(super) fn on_needless(&mut self, dial: &Dial, now: Instant) {
        if let Purpose::Bootstrap(index) = dial.purpose
            && let Some(entry) = self.bootstrap.get_mut(index)
        {
            entry.dialling = false;
            entry.next_dial = now + FIRST_RETRY;
        }
    }

    /// A new peer: it may know others, so the next lookup comes soon.
    pub(super) fn look_soon(&mut self, now: Instant) {
        self.lookup_delay = FIRST_LOOKUP;
        self.next_lookup = now;
    }

    /// Whether to look up peers now.
    pub(super) fn lookup_due(&mut self, now: Instant) -> bool {
        if now < self.next_lookup {
            return false;
        }
        self.next_lookup = now + self.lookup_delay;
        self.lookup_delay = LAST_LOOKUP.min(self.lookup_delay * 2);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Group;

    fn discovery(
        bootstrap: Vec<Multiaddr>,
        target: usize,
        feelers: Option<Duration>,
        me: PeerId,
        seed: u64,
        now: Instant,
    ) -> Discovery {
        Discovery::new(Book::new([7; 32], seed), bootstrap, target, feelers, me, seed, now)
    }

    fn source() -> Group {
        Group::V4([200, 1])
    }

    /// What is due with nobody dialled but `outbound` peers, in no group of note.
    fn due(discovery: &mut Discovery, now: Instant, outbound: usize, is_open: impl Fn(&PeerId) -> bool) -> Vec<Dial> {
        discovery.due(now, outbound, Groups::default(), is_open)
    }

    fn bootstrap_address() -> Multiaddr {
        "/ip4/1.2.3.4/tcp/1".parse().expect("a multiaddr")
    }

    #[test]
    fn bootstrap_is_dialled_for_ever_with_growing_waits() {
        let mut now = Instant::now();
        let me = PeerId::random();
        let mut discovery = discovery(vec![bootstrap_address()], 8, None, me, 1, now);
        for expected in [1, 2, 4, 8, 16, 30, 30, 30] {
            let dials = due(&mut discovery, now, 0, |_| false);
            assert_eq!(dials.len(), 1);
            assert!(due(&mut discovery, now, 0, |_| false).is_empty(), "under way");
            let wait = discovery.on_failed(&dials[0], &DialFailure::Refused, now).expect("a wait");
            let middle = Duration::from_secs(expected);
            assert!(wait >= middle * 3 / 4 && wait <= middle * 5 / 4, "{wait:?}, expected about {middle:?}");
            assert!(due(&mut discovery, now + wait - Duration::from_millis(1), 0, |_| false).is_empty());
            now += wait;
        }
        // Once it works it is left alone while it is open, and soon dialled again when it is gone.
        let dial = due(&mut discovery, now, 0, |_| false).remove(0);
        let peer = PeerId::random();
        discovery.on_connected(&dial, peer, now);
        now += 2 * LAST_RETRY;
        assert!(due(&mut discovery, now, 1, |other| *other == peer).is_empty());
        assert_eq!(due(&mut discovery, now + FIRST_RETRY, 0, |_| false).len(), 1);
    }

    #[test]
    fn itself_is_not_dialled_again() {
        let (now, me) = (Instant::now(), PeerId::random());
        let named = bootstrap_address().with_p2p(me).expect("no identity yet");
        let mut discovery = discovery(vec![bootstrap_address(), named], 8, None, me, 1, now);
        let dials = due(&mut discovery, now, 0, |_| false);
        assert_eq!(dials.len(), 1);
        assert_eq!(discovery.on_failed(&dials[0], &DialFailure::Myself, now), None);
        assert!(due(&mut discovery, now + 10 * LAST_RETRY, 0, |_| false).is_empty());
    }

    #[test]
    fn found_peers_are_dialled_up_to_the_target() {
        let now = Instant::now();
        let mut discovery = discovery(Vec::new(), 3, None, PeerId::random(), 1, now);
        for port in 1..10 {
            let address = format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("a multiaddr");
            discovery.book.add((PeerId::random(), address), source(), now);
        }
        assert_eq!(due(&mut discovery, now, 2, |_| false).len(), 1);
        assert!(due(&mut discovery, now, 3, |_| false).is_empty());
        assert!(due(&mut discovery, now, 0, |_| true).is_empty());
    }

    #[test]
    fn feelers_go_out_though_the_target_is_reached() {
        let start = Instant::now();
        let interval = Duration::from_secs(120);
        let mut discovery = discovery(Vec::new(), 3, Some(interval), PeerId::random(), 1, start);
        let peer = PeerId::random();
        discovery.book.add((peer, bootstrap_address()), source(), start);
        assert!(due(&mut discovery, start, 3, |_| false).is_empty(), "not yet");
        let now = start + interval * 5 / 4;
        let dials = due(&mut discovery, now, 3, |_| false);
        assert_eq!((dials.len(), dials[0].purpose, dials[0].peer), (1, Purpose::Feeler, Some(peer)));
        assert!(due(&mut discovery, now, 3, |_| false).is_empty());
        assert!(due(&mut discovery, now + 2 * interval, 3, |_| true).is_empty(), "it is connected");
    }

    #[test]
    fn added_addresses_are_dialled_and_few() {
        let (now, me) = (Instant::now(), PeerId::random());
        let mut discovery = discovery(vec![bootstrap_address()], 8, None, me, 1, now);
        for port in 1..200u16 {
            discovery.add(format!("/ip4/5.6.7.8/tcp/{port}").parse().expect("a multiaddr"), me, now);
        }
        let dials = due(&mut discovery, now, 0, |_| false);
        assert_eq!(dials.len(), 1 + MAX_ADDED);
        assert_eq!(dials[0].addresses, [bootstrap_address()], "what was configured stays");
        // One that has failed is dialled again at once when it is added again.
        discovery.on_failed(&dials[1], &DialFailure::Refused, now);
        assert!(due(&mut discovery, now, 0, |_| false).is_empty());
        discovery.add(dials[1].addresses[0].clone(), me, now);
        assert_eq!(due(&mut discovery, now, 0, |_| false).len(), 1);
    }

    #[test]
    fn lookups_grow_rare_until_there_is_somebody_new() {
        let start = Instant::now();
        let mut discovery = discovery(Vec::new(), 8, None, PeerId::random(), 1, start);
        let mut times = Vec::new();
        for second in 0..130 {
            if discovery.lookup_due(start + Duration::from_secs(second)) {
                times.push(second);
            }
        }
        assert_eq!(times, [0, 1, 3, 7, 15, 31, 63, 123]);
        discovery.look_soon(start + Duration::from_secs(130));
        assert!(discovery.lookup_due(start + Duration::from_secs(130)));
        assert!(discovery.lookup_due(start + Duration::from_secs(131)));
    }
}
