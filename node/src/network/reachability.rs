//! Whether others can dial this node: what was found out, and what follows from it. No sockets here; `driver` feeds it.
//!
//! Peers tell us the addresses that they see us at (identify), others try whether these answer (AutoNAT v2), and a router
//! may forward ports (UPnP). Where nothing answers, relays are asked for a reservation, and connections through them are
//! made direct by hole punching (DCUtR).

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use libp2p::core::transport::ListenerId;
use libp2p::{Multiaddr, PeerId};

use super::address;

/// Relays used at one time: one may go away.
pub(super) const MAX_RELAYS: usize = 2;

/// The wait before another relay is asked.
const RELAY_RETRY: Duration = Duration::from_secs(15);

/// The wait before addresses that could not be reached are tested again. A guess: a router that is set up meanwhile is found
/// out about soon enough, and it costs a connection.
const TEST_AGAIN: Duration = Duration::from_secs(600);

/// The wait before an address that answered is tested again: a router gets another address now and then, and a forwarded port may be
/// taken back.
const CONFIRM_AGAIN: Duration = Duration::from_secs(3600);

/// Peers by whose tests an address that answered before does so no more. One might lie.
const DOUBTERS: usize = 2;

/// Addresses whose tests are remembered, those that answered and those that did not.
const MAX_TESTED: usize = 64;

/// Whether others can dial this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reachability {
    /// Nobody has tried yet.
    #[default]
    Unknown,
    /// Others have dialled it at these addresses, or its router forwards them.
    Public(Vec<String>),
    /// It is behind a NAT or firewall, and can be dialled at these addresses through relays.
    Relayed(Vec<String>),
    /// Nobody reaches it.
    Unreachable {
        /// What to do about it.
        advice: String,
    },
}

/// What has been found out.
#[derive(Default)]
pub(super) struct Findings {
    /// By address, who could not dial it.
    failed: HashMap<Multiaddr, HashSet<PeerId>>,
    /// Addresses that answered a test.
    confirmed: HashMap<Multiaddr, Confirmed>,
    /// Reservations that are asked for or held.
    relays: HashMap<ListenerId, PeerId>,
    next_relay: Option<Instant>,
    /// When what has failed is tested again.
    next_test: Option<Instant>,
}

/// An address that answered.
struct Confirmed {
    /// Whose tests have failed since.
    doubters: HashSet<PeerId>,
    next_test: Instant,
}

impl Findings {
    /// A peer has tried an address of ours. Returns whether that ends what was known of it before: that it answers.
    pub(super) fn tested(&mut self, address: Multiaddr, server: PeerId, reached: bool, now: Instant) -> bool {
        // A peer at the other end of a relay has told us no address at all.
        if address::port(&address).is_none() {
            return false;
        }
        if reached {
            self.failed.remove(&address);
            if self.confirmed.len() < MAX_TESTED || self.confirmed.contains_key(&address) {
                let next_test = now + CONFIRM_AGAIN;
                self.confirmed.insert(address, Confirmed { doubters: HashSet::new(), next_test });
            }
            return false;
        }
        let mut doubters = HashSet::from([server]);
        if let Some(confirmed) = self.confirmed.get_mut(&address) {
            confirmed.doubters.insert(server);
            if confirmed.doubters.len() < DOUBTERS {
                confirmed.next_test = confirmed.next_test.min(now + TEST_AGAIN);
                return false;
            }
            doubters = std::mem::take(&mut confirmed.doubters);
        }
        let is_lost = self.confirmed.remove(&address).is_some();
        if self.failed.len() < MAX_TESTED || self.failed.contains_key(&address) {
            self.failed.entry(address).or_default().extend(doubters);
        }
        is_lost
    }

    /// The addresses that answered, when it is time to have them tested again.
    pub(super) fn due_for_confirmation(&mut self, now: Instant) -> Vec<Multiaddr> {
        let due = self.confirmed.iter_mut().filter(|(_, confirmed)| confirmed.next_test <= now);
        due.map(|(address, confirmed)| {
            // If nobody says anything.
            confirmed.next_test = now + TEST_AGAIN;
            address.clone()
        })
        .collect()
    }

    /// Whether a peer's test of one of these addresses has failed since it answered.
    pub(super) fn doubts(&self, peer: &PeerId, addresses: &[Multiaddr]) -> bool {
        addresses.iter().filter_map(|address| self.confirmed.get(address)).any(|one| one.doubters.contains(peer))
    }

    /// The addresses that could not be reached, when it is time to have them tested again.
    pub(super) fn due_for_test(&mut self, now: Instant) -> Vec<Multiaddr> {
        if self.failed.is_empty() {
            self.next_test = None;
            return Vec::new();
        }
        let is_due = self.next_test.is_some_and(|when| when <= now);
        if is_due || self.next_test.is_none() {
            self.next_test = Some(now + TEST_AGAIN);
        }
        if is_due { self.failed.keys().cloned().collect() } else { Vec::new() }
    }

    /// What all of it means. `external` are the addresses confirmed as ours, `listening` those that we listen on.
    pub(super) fn reachability(&self, external: &[Multiaddr], listening: &[Multiaddr]) -> Reachability {
        let text = |addresses: Vec<&Multiaddr>| addresses.into_iter().map(ToString::to_string).collect();
        let (relayed, direct): (Vec<_>, Vec<_>) = external.iter().partition(|address| address::is_relayed(address));
        let (global, local): (Vec<_>, Vec<_>) = direct.into_iter().partition(|address| address::is_global(address));
        if !global.is_empty() {
            return Reachability::Public(text(global));
        }
        if self.is_behind_nat() {
            return if relayed.is_empty() {
                Reachability::Unreachable { advice: advice(listening) }
            } else {
                Reachability::Relayed(text(relayed))
            };
        }
        // On a network of its own, without the internet, this is all there is to reach.
        if local.is_empty() { Reachability::Unknown } else { Reachability::Public(text(local)) }
    }

    /// Whether a test from outside has failed. One that answers wins over it: see [`Findings::reachability`].
    pub(super) fn is_behind_nat(&self) -> bool {
        self.failed.keys().any(address::is_global)
    }

    /// Whether to ask another relay now.
    pub(super) fn wants_relay(&self, now: Instant) -> bool {
        self.relays.len() < MAX_RELAYS && self.next_relay.is_none_or(|when| when <= now)
    }

    /// Whether this relay is asked already.
    pub(super) fn has_relay(&self, relay: &PeerId) -> bool {
        self.relays.values().any(|other| other == relay)
    }

    /// A relay is asked.
    pub(super) fn asked(&mut self, listener: ListenerId, relay: PeerId, now: Instant) {
        self.relays.insert(listener, relay);
        self.next_relay = Some(now + RELAY_RETRY);
    }

    /// A reservation has ended, or was refused. Returns whose, if it was one.
    pub(super) fn lost(&mut self, listener: &ListenerId, now: Instant) -> Option<PeerId> {
        self.next_relay = Some(now + RELAY_RETRY);
        self.relays.remove(listener)
    }

    /// Reservations that are needed no longer.
    pub(super) fn give_up_relays(&mut self) -> Vec<ListenerId> {
        self.relays.drain().map(|(listener, _)| listener).collect()
    }
}

/// Which ports to open.
fn advice(listening: &[Multiaddr]) -> String {
    let mut ports: Vec<_> = listening.iter().filter_map(address::port).collect();
    ports.sort_unstable();
    ports.dedup();
    let ports: Vec<_> = ports.iter().map(|(protocol, port)| format!("{protocol} port {port}")).collect();
    format!(
        "open {} in the firewall, or forward it in the router (or switch on UPnP there), and start the node again",
        ports.join(" and ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(texts: &[&str]) -> Vec<Multiaddr> {
        texts.iter().map(|text| text.parse().expect("a multiaddr")).collect()
    }

    #[test]
    fn findings_are_summed_up() {
        let relayed = "/ip4/9.9.9.9/tcp/1/p2p/12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X/p2p-circuit";
        let (global, home, seen) = ("/ip4/1.2.3.4/tcp/1", "/ip4/192.168.1.2/tcp/1", "/ip4/1.2.3.4/udp/1/quic-v1");
        let listening =
            at(&["/ip4/192.168.1.2/tcp/3297", "/ip4/127.0.0.1/tcp/3297", "/ip4/192.168.1.2/udp/3298/quic-v1", relayed]);
        let unreachable = Reachability::Unreachable {
            advice: "open TCP port 3297 and UDP port 3298 in the firewall, or forward it in the router (or switch on UPnP there), and start the node again"
                .into(),
        };
        let public = |address: &str| Reachability::Public(vec![address.into()]);
        // What was confirmed, what could not be reached, and what that means.
        let rows: [(&[&str], &[&str], Reachability); 8] = [
            (&[], &[], Reachability::Unknown),
            (&[global], &[], public(global)),
            (&[home], &[], public(home)),
            (&[home, global], &[], public(global)),
            (&[global], &[seen], public(global)),
            (&[], &[seen], unreachable.clone()),
            (&[home], &[seen], unreachable),
            (&[home, relayed], &[seen], Reachability::Relayed(vec![relayed.into()])),
        ];
        for (external, failed, expected) in rows {
            let mut findings = Findings::default();
            for address in at(failed) {
                findings.tested(address, PeerId::random(), false, Instant::now());
            }
            assert_eq!(findings.reachability(&at(external), &listening), expected, "{external:?} {failed:?}");
        }
    }

    #[test]
    fn a_test_that_succeeds_ends_the_doubt_and_memory_is_bounded() {
        let mut findings = Findings::default();
        let address = at(&["/ip4/1.2.3.4/tcp/1"]).remove(0);
        let now = Instant::now();
        findings.tested(address.clone(), PeerId::random(), false, now);
        assert!(findings.is_behind_nat());
        findings.tested(address, PeerId::random(), true, now);
        assert!(!findings.is_behind_nat());
        for port in 0..1000 {
            for (ip, reached) in [("1.2.3.4", false), ("1.2.3.5", true)] {
                let address = at(&[&format!("/ip4/{ip}/tcp/{port}")]).remove(0);
                findings.tested(address, PeerId::random(), reached, now);
            }
        }
        assert_eq!((findings.failed.len(), findings.confirmed.len()), (MAX_TESTED, MAX_TESTED));
    }

    #[test]
    fn what_failed_is_tested_again_after_a_while() {
        let (now, mut findings) = (Instant::now(), Findings::default());
        let address = at(&["/ip4/1.2.3.4/tcp/1"]).remove(0);
        assert!(findings.due_for_test(now).is_empty());
        findings.tested(address.clone(), PeerId::random(), false, now);
        assert!(findings.due_for_test(now).is_empty(), "it has just failed");
        assert!(findings.due_for_test(now + TEST_AGAIN / 2).is_empty());
        assert_eq!(findings.due_for_test(now + TEST_AGAIN), std::slice::from_ref(&address));
        assert!(findings.due_for_test(now + TEST_AGAIN).is_empty(), "once");
        assert_eq!(findings.due_for_test(now + 2 * TEST_AGAIN), std::slice::from_ref(&address));
        findings.tested(address, PeerId::random(), true, now);
        assert!(findings.due_for_test(now + 9 * TEST_AGAIN).is_empty());
    }

    #[test]
    fn what_answered_is_tested_again_and_two_peers_take_it_back() {
        let (now, mut findings) = (Instant::now(), Findings::default());
        let address = at(&["/ip4/1.2.3.4/tcp/1"]).remove(0);
        let [honest, other, liar] = [(); 3].map(|()| PeerId::random());
        assert!(!findings.tested(address.clone(), honest, true, now));
        assert!(findings.due_for_confirmation(now + CONFIRM_AGAIN / 2).is_empty());
        let then = now + CONFIRM_AGAIN;
        assert_eq!(findings.due_for_confirmation(then), std::slice::from_ref(&address));
        assert!(findings.due_for_confirmation(then).is_empty(), "once");
        // One peer's word is not enough, however often it is given, and is forgotten once somebody gets through.
        for _ in 0..3 {
            assert!(!findings.tested(address.clone(), liar, false, then));
        }
        assert!(!findings.is_behind_nat() && findings.doubts(&liar, std::slice::from_ref(&address)));
        assert_eq!(findings.due_for_confirmation(then + TEST_AGAIN), std::slice::from_ref(&address));
        assert!(!findings.tested(address.clone(), honest, true, then));
        assert!(!findings.doubts(&liar, std::slice::from_ref(&address)));
        assert!(!findings.tested(address.clone(), other, false, then));
        assert!(findings.tested(address.clone(), liar, false, then), "the second");
        assert!(findings.is_behind_nat() && findings.due_for_confirmation(then + 9 * CONFIRM_AGAIN).is_empty());
        assert!(!findings.tested(address, honest, true, then) && !findings.is_behind_nat());
    }

    #[test]
    fn relays_are_few_and_asked_in_turn() {
        let (mut now, mut findings) = (Instant::now(), Findings::default());
        let mut listeners = Vec::new();
        while findings.wants_relay(now) {
            let (listener, relay) = (ListenerId::next(), PeerId::random());
            findings.asked(listener, relay, now);
            assert!(findings.has_relay(&relay) && !findings.wants_relay(now));
            listeners.push((listener, relay));
            now += RELAY_RETRY;
        }
        assert_eq!(listeners.len(), MAX_RELAYS);
        assert_eq!(findings.lost(&listeners[0].0, now), Some(listeners[0].1));
        assert_eq!(findings.lost(&listeners[0].0, now), None);
        assert!(!findings.wants_relay(now) && findings.wants_relay(now + RELAY_RETRY));
        assert_eq!(findings.give_up_relays(), [listeners[1].0]);
    }
}
