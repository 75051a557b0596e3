//! Ways through NATs and firewalls: what the libp2p protocols find out, and what is done about it.

use std::io;
use std::time::{Duration, Instant};

use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId, autonat, dcutr, relay, upnp};

use super::Driver;
use crate::network::reachability::Findings;
use crate::network::{Reachability, address};

/// A connection through a relay is closed this long after there is a direct one, which by then both ends use.
const RELAYED_GRACE: Duration = Duration::from_secs(3);

/// What is known of the ways to this node.
pub(super) struct Ways {
    /// Whether that is looked into at all.
    is_on: bool,
    findings: Findings,
    pub(super) reachability: Reachability,
}

impl Ways {
    pub(super) fn new(is_on: bool) -> Self {
        Self { is_on, findings: Findings::default(), reachability: Reachability::Unknown }
    }

    /// Whether somebody who dials a global address has proved that it leads here.
    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }
}

impl Driver {
    /// A peer has tried an address that others see us at.
    pub(super) fn on_tested(&mut self, event: autonat::v2::client::Event) {
        let autonat::v2::client::Event { tested_addr, server, result, .. } = event;
        tracing::debug!(address = %tested_addr, %server, reached = result.is_ok(), "a peer tested an address of ours");
        if self.ways.findings.tested(tested_addr.clone(), server, result.is_ok(), Instant::now()) {
            tracing::warn!(address = %tested_addr, "others no longer reach this node at an address where they did");
            self.swarm.remove_external_address(&tested_addr);
        }
        self.update_reachability();
    }

    pub(super) fn on_upnp(&mut self, event: &upnp::Event) {
        match event {
            upnp::Event::NewExternalAddr { external_addr, .. } => {
                tracing::info!(address = %external_addr, "the router forwards a port to this node (UPnP)");
            }
            upnp::Event::ExpiredExternalAddr { external_addr, .. } => {
                tracing::warn!(address = %external_addr, "the router no longer forwards a port to this node (UPnP)");
            }
            upnp::Event::GatewayNotFound => tracing::debug!("no router that forwards ports on request (UPnP)"),
            upnp::Event::NonRoutableGateway => {
                tracing::info!("the router is itself behind another: forwarding its ports (UPnP) would not help");
            }
        }
        self.update_reachability();
    }

    pub(super) fn on_relay_client(&mut self, event: &relay::client::Event) {
        match event {
            relay::client::Event::ReservationReqAccepted { relay_peer_id, renewal, .. } => {
                tracing::debug!(relay = %relay_peer_id, renewal, "a relay takes connections for this node");
                self.update_reachability();
            }
            other => tracing::debug!(event = ?other, "through a relay"),
        }
    }

    pub(super) fn on_hole_punched(&mut self, event: &dcutr::Event) {
        let peer = event.remote_peer_id;
        match &event.result {
            Ok(_) => tracing::info!(%peer, "connected directly by hole punching"),
            Err(error) => tracing::debug!(%peer, %error, "no direct connection by hole punching"),
        }
    }

    /// Whether the listener that closed was one at a relay.
    pub(super) fn on_relay_lost(&mut self, listener: &ListenerId, reason: &Result<(), io::Error>) -> bool {
        let Some(relay) = self.ways.findings.lost(listener, Instant::now()) else { return false };
        tracing::debug!(%relay, ?reason, "a relay takes no connections for this node any more");
        self.update_reachability();
        true
    }

    /// Sums up what was found out, and says it if it is new.
    pub(super) fn update_reachability(&mut self) {
        let external: Vec<_> = self.swarm.external_addresses().cloned().collect();
        let listening: Vec<_> = self.swarm.listeners().cloned().collect();
        let found = self.ways.findings.reachability(&external, &listening);
        self.shown.is_old = true;
        if found == self.ways.reachability {
            return;
        }
        if let Some(server) = self.swarm.behaviour_mut().relay_server.as_mut() {
            // Left to itself it would count an address through another relay as one of its own.
            let is_public = matches!(found, Reachability::Public(_));
            server.set_status(Some(if is_public { relay::Status::Enable } else { relay::Status::Disable }));
        }
        match &found {
            Reachability::Unknown => tracing::info!("it is no longer known whether others can dial this node"),
            Reachability::Public(addresses) => tracing::info!("reachable at {}", addresses.join(" and ")),
            Reachability::Relayed(addresses) => {
                tracing::info!("behind a NAT or firewall, using a relay: {}", addresses.join(" and "));
            }
            Reachability::Unreachable { advice } => tracing::warn!("not reachable from outside: {advice}"),
        }
        self.ways.reachability = found;
    }

    /// Asks for a reservation at a connected relay if others cannot dial this node, and gives reservations back if they can.
    pub(super) fn look_for_relay(&mut self, now: Instant) {
        if !self.ways.is_on {
            return;
        }
        if matches!(self.ways.reachability, Reachability::Public(_)) {
            for listener in self.ways.findings.give_up_relays() {
                self.swarm.remove_listener(listener);
            }
            return;
        }
        if !self.ways.findings.is_behind_nat() || !self.ways.findings.wants_relay(now) {
            return;
        }
        let Some((relay, address)) = self.find_relay() else { return };
        let circuit = address::without_peer(address).with(Protocol::P2p(relay)).with(Protocol::P2pCircuit);
        match self.swarm.listen_on(circuit) {
            Ok(listener) => self.ways.findings.asked(listener, relay, now),
            Err(error) => tracing::debug!(%relay, %error, "a relay cannot be asked"),
        }
    }

    /// Has addresses tested again that could not be reached a while ago, or that answered long ago, on a new connection with a peer
    /// that we have dialled: see [`Retesting`](crate::network::retest::Retesting).
    pub(super) fn test_again(&mut self, now: Instant) {
        if !self.ways.is_on {
            return;
        }
        let mut addresses = self.ways.findings.due_for_confirmation(now);
        if !matches!(self.ways.reachability, Reachability::Public(_)) {
            addresses.extend(self.ways.findings.due_for_test(now));
        }
        if addresses.is_empty() {
            return;
        }
        let tester =
            self.peers.iter().filter(|(_, state)| state.identity.as_ref().is_some_and(|identity| identity.tests));
        let tester = tester.filter_map(|(peer, state)| {
            let direct = state.connections.iter().find(|one| !one.inbound && !one.relayed)?;
            Some((*peer, direct.address.clone()))
        });
        // Rather one that has not said no before, and otherwise in no particular order, so that it is not always the same peer's
        // word.
        let Some((peer, address)) = tester.min_by_key(|(peer, _)| self.ways.findings.doubts(peer, &addresses)) else {
            return;
        };
        let Some(client) = self.swarm.behaviour_mut().autonat_client.as_mut() else { return };
        client.renew(addresses.iter());
        let options = DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(vec![address]);
        if let Err(error) = self.swarm.dial(options.build()) {
            tracing::debug!(%peer, %error, "no connection for another test of our addresses");
        }
    }

    /// A peer that relays, with the address at which we have dialled it; the longest connected first.
    fn find_relay(&self) -> Option<(PeerId, Multiaddr)> {
        let relays = self.peers.iter().filter(|(peer, state)| {
            state.identity.as_ref().is_some_and(|identity| identity.relays) && !self.ways.findings.has_relay(peer)
        });
        let dialled = relays.filter_map(|(peer, state)| {
            let direct = state.connections.iter().find(|one| !one.inbound && !one.relayed)?;
            Some((state.since, *peer, direct.address.clone()))
        });
        dialled.min_by_key(|(since, ..)| *since).map(|(_, peer, address)| (peer, address))
    }

    /// Closes connections through relays to peers that are connected directly too. Only the side that was dialled does: where both
    /// close, each waits for the other.
    pub(super) fn close_relayed(&mut self, now: Instant) {
        let mut needless = Vec::new();
        for state in self.peers.values() {
            if state.connections.iter().any(|one| !one.relayed && one.since + RELAYED_GRACE <= now) {
                needless.extend(state.connections.iter().filter(|one| one.relayed && one.inbound).map(|one| one.id));
            }
        }
        for connection in needless {
            self.swarm.close_connection(connection);
        }
    }
}
