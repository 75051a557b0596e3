//! Dials, connections, who is at their other end, and who may stay.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use libp2p::core::ConnectedPoint;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError};
use libp2p::{Multiaddr, PeerId, StreamProtocol, identify, mdns, ping, relay};

use super::Driver;
use super::messages::HeldRequest;
use crate::network::discovery::{Dial, Purpose};
use crate::network::slots::{self, Groups, Inbound};
use crate::network::text::shorten;
use crate::network::{BanSubject, DialFailure, Group, Misbehaviour, NetworkEvent, Peer, Role, address};

/// The longest agent string that is kept of a peer.
const MAX_AGENT: usize = 64;

/// Addresses that are taken from one message of a peer about itself or another.
const MAX_ADDRESSES: usize = 16;

/// Peers that are taken from one answer on the local network.
const MAX_FOUND: usize = 64;

/// Pings without an answer after which a connection is given up.
const MAX_MISSED_PINGS: u32 = 2;

/// A peer on another network that dialled us is left this long to find out for itself, with a reason to show.
const REFUSAL_GRACE: Duration = Duration::from_secs(2);

/// What those speak that test others' addresses (AutoNAT v2).
const TEST_PROTOCOL: StreamProtocol = StreamProtocol::new("/libp2p/autonat/2/dial-request");

/// How long a peer on another network is not dialled again.
const FOREIGN_PAUSE: Duration = Duration::from_secs(600);

/// The longest time for which the address book puts a peer aside; a ban may be longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);

/// Somebody with at least one connection.
pub(super) struct PeerState {
    pub(super) connections: Vec<Connection>,
    /// Known, and told as connected, once it has said who it is.
    pub(super) identity: Option<Identity>,
    pub(super) round_trip: Option<Duration>,
    /// Requests that came before the identity.
    pub(super) held: Vec<HeldRequest>,
    pub(super) since: Instant,
    /// When it last brought valid gossip that was new.
    pub(super) useful: Option<Instant>,
    /// When the connections are to be closed, since the peer is not of our network.
    refused: Option<Instant>,
}

/// One connection with a peer.
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) address: Multiaddr,
    pub(super) inbound: bool,
    /// Whether it goes through a relay.
    pub(super) relayed: bool,
    pub(super) since: Instant,
    /// Whether it stays open while idle.
    kept: bool,
    missed_pings: u32,
    /// The dial that made it, until it is known whether it was a success.
    dial: Option<Dial>,
}

/// Who a peer says it is.
pub(super) struct Identity {
    pub(super) agent: String,
    pub(super) light: bool,
    /// Which of our request protocols it answers.
    pub(super) protocol: Option<String>,
    /// Whether it relays for others.
    pub(super) relays: bool,
    /// Whether it tests others' addresses.
    pub(super) tests: bool,
}

impl Driver {
    /// Begins a dial because of a command.
    pub(super) fn dial_asked(&mut self, address: Multiaddr) {
        let peer = address::peer(&address);
        self.dial(Dial { purpose: Purpose::Asked, peer, addresses: vec![address] });
    }

    /// Begins the dials that are due.
    pub(super) fn dial_due(&mut self, now: Instant) {
        let outbound = self.peers.values().filter_map(|state| state.connections.iter().find(|one| !one.inbound));
        let mut groups = Groups::default();
        let mut count = self.dials.under_way.len();
        for connection in outbound {
            count += 1;
            groups.add(&connection.address);
        }
        for address in self.dials.under_way.values().filter_map(|dial| dial.addresses.first()) {
            groups.add(address);
        }
        let (peers, gate) = (&self.peers, &self.swarm.behaviour().gate);
        let is_open = |peer: &PeerId| peers.contains_key(peer) || gate.is_banned(peer);
        for dial in self.discovery.due(now, count, groups, is_open) {
            self.dial(dial);
        }
    }

    fn dial(&mut self, dial: Dial) {
        let is_tcp = |address: &Multiaddr| address.iter().any(|part| matches!(part, Protocol::Tcp(_)));
        let by_quic = !dial.addresses.iter().any(is_tcp);
        // A new port each: dialling from the listening port makes two nodes that dial each other at the same moment
        // open one TCP connection with two diallers, and makes a redial meet the remains of the last connection. QUIC knows
        // neither, and its listening port is what hole punching needs others to have seen.
        let options = match (dial.peer, dial.addresses.as_slice()) {
            (Some(peer), _) if by_quic => DialOpts::peer_id(peer)
                .condition(PeerCondition::DisconnectedAndNotDialing)
                .addresses(dial.addresses.clone())
                .build(),
            (None, [address, ..]) if by_quic => DialOpts::unknown_peer_id().address(address.clone()).build(),
            (Some(peer), _) => DialOpts::peer_id(peer)
                .condition(PeerCondition::DisconnectedAndNotDialing)
                .addresses(dial.addresses.clone())
                .allocate_new_port()
                .build(),
            (None, [address, ..]) => DialOpts::unknown_peer_id().address(address.clone()).allocate_new_port().build(),
            (None, []) => return,
        };
        let id = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => {
                self.dials.under_way.insert(id, dial);
            }
            Err(DialError::DialPeerConditionFalse(_)) => self.discovery.on_needless(&dial, Instant::now()),
            Err(error) => self.on_dial_failed(&dial, DialFailure::from(&error)),
        }
    }

    pub(super) fn on_dial_error(&mut self, id: ConnectionId, peer: Option<PeerId>, error: &DialError) {
        match self.dials.under_way.remove(&id) {
            Some(dial) => self.on_dial_failed(&dial, DialFailure::from(error)),
            None => tracing::debug!(?peer, %error, "a dial of a lookup failed"),
        }
    }

    /// A dial gave nothing, or a peer that is of no use. It is said once, and again when the reason changes.
    fn on_dial_failed(&mut self, dial: &Dial, failure: DialFailure) {
        self.counters.dials_failed += 1;
        let wait = self.discovery.on_failed(dial, &failure, Instant::now());
        let named = !matches!(dial.purpose, Purpose::Found | Purpose::Feeler);
        let alone = self.peers.values().all(|state| state.identity.is_none());
        let Some(address) = dial.addresses.first().filter(|_| named || alone && dial.purpose == Purpose::Found) else {
            tracing::debug!(peer = ?dial.peer, reason = %failure, "a found peer could not be reached");
            return;
        };
        let address = address.to_string();
        let said = self.dials.failures.is_said(&address, &failure);
        let advice = failure.advice();
        match (said, wait) {
            (true, _) => tracing::debug!(%address, reason = %failure, ?wait, "a dial failed again"),
            (false, _) if failure == DialFailure::Myself && !named => {}
            (false, _) if failure == DialFailure::Myself => tracing::info!(%address, "that is this node itself"),
            (false, Some(wait)) => tracing::warn!(
                %address, reason = %failure,
                "no connection: {advice}. It is tried again in {} s and so on; this is not said again until it changes",
                wait.as_secs().max(1)
            ),
            (false, None) => tracing::warn!(%address, reason = %failure, "no connection: {advice}"),
        }
        self.dials.failures.note(address.clone(), failure.clone());
        self.shown.is_old = true;
        if named && self.queue.offer(NetworkEvent::DialFailed { address, reason: failure }).is_err() {
            tracing::debug!("the consumer is busy: a failed dial is only in the status");
        }
    }

    pub(super) fn on_connection_established(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        let now = Instant::now();
        let (address, inbound) = match endpoint {
            ConnectedPoint::Dialer { address, .. } => (address.clone(), false),
            // Through a relay the other end has no address of its own here.
            ConnectedPoint::Listener { local_addr, .. } if endpoint.is_relayed() => {
                (local_addr.clone().with(Protocol::P2p(peer)), true)
            }
            ConnectedPoint::Listener { send_back_addr, .. } => (send_back_addr.clone(), true),
        };
        let dial = self.dials.under_way.remove(&id);
        if let Some(dial) = &dial {
            self.discovery.on_connected(dial, peer, now);
        }
        let state = self.peers.entry(peer).or_insert_with(|| PeerState {
            connections: Vec::new(),
            identity: None,
            round_trip: None,
            held: Vec::new(),
            since: now,
            useful: None,
            refused: None,
        });
        // Somebody from the internet has dialled a global address of this very machine: nothing is left to test. Not after a
        // connection through a relay, which may have punched a hole.
        let proof = match endpoint {
            ConnectedPoint::Listener { local_addr, .. }
                if self.ways.is_on()
                    && [local_addr, &address].iter().all(|one| address::is_global(one))
                    && !state.connections.iter().any(|one| one.relayed) =>
            {
                Some(address::without_peer(local_addr.clone()))
            }
            _ => None,
        };
        state.connections.push(Connection {
            id,
            address,
            inbound,
            relayed: endpoint.is_relayed(),
            since: now,
            kept: false,
            missed_pings: 0,
            dial,
        });
        let known = state.identity.is_some();
        if known {
            self.settle(peer);
        }
        if let Some(address) = proof
            && !self.swarm.external_addresses().any(|known| *known == address)
        {
            self.swarm.add_external_address(address);
            self.update_reachability();
        }
        if inbound {
            self.make_room(now);
        }
    }

    /// Closes the least valuable inbound connection if there are too many.
    fn make_room(&mut self, now: Instant) {
        let staying = self.peers.iter().filter(|(_, state)| state.refused.is_none());
        let inbound = staying.filter(|(_, state)| state.connections.iter().all(|one| one.inbound));
        let candidates: Vec<_> = inbound
            .filter_map(|(peer, state)| {
                Some(Inbound {
                    peer: *peer,
                    group: Group::inbound(&state.connections.first()?.address),
                    connected: now.saturating_duration_since(state.since),
                    round_trip: state.round_trip,
                    useful: state.useful.map(|when| now.saturating_duration_since(when)),
                })
            })
            .collect();
        if candidates.len() <= self.limits.connections.inbound as usize {
            return;
        }
        // Of so few that all are spared, the newcomer goes.
        let newest = candidates.iter().min_by_key(|one| one.connected).map(|one| one.peer);
        if let Some(peer) = slots::evict(candidates, &self.eviction_secret, rand::random()).or(newest) {
            tracing::debug!(%peer, "closing an inbound connection: there are too many");
            self.counters.evicted += 1;
            if let Some(state) = self.peers.get_mut(&peer) {
                state.refused = Some(now);
            }
            self.swarm.behaviour_mut().gate.close(peer);
        }
    }

    /// The dialled peers that have been useful longest: those to come back to first after a restart, so that whoever
    /// makes a node restart does not get to choose its new peers.
    pub(super) fn anchors(&self) -> Vec<PeerId> {
        let dialled = self.peers.iter().filter(|(_, state)| {
            state.identity.as_ref().is_some_and(|identity| !identity.light)
                && state.connections.iter().any(|one| !one.inbound)
        });
        let mut anchors: Vec<_> = dialled.collect();
        anchors.sort_by_key(|(peer, state)| (state.useful.is_none(), state.since, **peer));
        anchors.into_iter().map(|(peer, _)| *peer).collect()
    }

    /// Whether the peer was only dialled to see whether it is there, and there are others enough.
    fn is_only_felt(&self, peer: PeerId) -> bool {
        let is_feeler = |one: &Connection| one.dial.as_ref().is_some_and(|dial| dial.purpose == Purpose::Feeler);
        let is_dialled =
            |state: &PeerState| state.identity.is_some() && state.connections.iter().any(|one| !one.inbound);
        self.peers.get(&peer).is_some_and(|state| state.connections.iter().all(is_feeler))
            && self.peers.values().filter(|state| is_dialled(state)).count() >= self.limits.connections.target_outbound
    }

    /// The peer is there: that is all we wanted to know.
    fn end_feeler(&mut self, peer: PeerId, info: &identify::Info) {
        let now = Instant::now();
        let Some(state) = self.peers.get_mut(&peer) else { return };
        state.refused = Some(now);
        if let Some(connection) = state.connections.first() {
            let address = address::without_peer(connection.address.clone());
            self.discovery.book.prove((peer, address), now);
        }
        self.learn_addresses(peer, info);
        self.swarm.behaviour_mut().gate.close(peer);
    }

    pub(super) fn on_connection_closed(&mut self, peer: PeerId, id: ConnectionId, left: u32) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let dial = state.connections.iter().position(|one| one.id == id).and_then(|i| state.connections.remove(i).dial);
        let (known, refused) = (state.identity.is_some(), state.refused.is_some());
        if let Some(dial) = dial
            && !known
            && !refused
        {
            self.on_dial_failed(&dial, DialFailure::Closed);
        }
        if left > 0 && known {
            // Another connection takes the place of one that was kept.
            self.settle(peer);
        }
        if left == 0 {
            self.peers.remove(&peer);
            if known {
                tracing::debug!(%peer, "disconnected");
                self.queue.insist(NetworkEvent::Disconnected { peer: Peer(peer) });
            }
            self.shown.is_old = true;
        }
    }

    pub(super) fn on_identify(&mut self, event: identify::Event) {
        match event {
            identify::Event::Received { peer_id, info, .. } => self.on_identified(peer_id, &info),
            identify::Event::Error { peer_id, error, .. } => {
                tracing::debug!(peer = %peer_id, %error, "a peer does not say who it is");
                let unknown = self.peers.get(&peer_id).is_some_and(|state| {
                    state.identity.is_none() && state.refused.is_none() && state.connections.len() == 1
                });
                if unknown {
                    self.refuse(peer_id, DialFailure::NotIdentified);
                }
            }
            // A push that we sent. One of the peer's comes as `Received`.
            identify::Event::Sent { .. } | identify::Event::Pushed { .. } => {}
        }
    }

    fn on_identified(&mut self, peer: PeerId, info: &identify::Info) {
        let Some(state) = self.peers.get_mut(&peer).filter(|state| state.refused.is_none()) else { return };
        let agent = shorten(&info.agent_version, MAX_AGENT);
        let protocol = self.own.protocols.iter().find(|name| info.protocols.contains(name)).map(ToString::to_string);
        let light = protocol.is_none() && is_light(&info.agent_version);
        if protocol.is_none() && !(light && self.own.role == Role::Full) {
            let expected = self.own.protocols.iter().map(ToString::to_string).collect::<Vec<_>>().join(" nor ");
            if state.identity.is_none() {
                tracing::info!(%peer, %agent, "disconnecting: the peer is on another network, it does not speak {expected}");
                self.refuse(peer, DialFailure::OtherNetwork { agent, expected });
            }
            return;
        }
        let new = state.identity.is_none();
        if new && self.is_only_felt(peer) {
            self.end_feeler(peer, info);
            return;
        }
        let Some(state) = self.peers.get_mut(&peer) else { return };
        state.identity = Some(Identity {
            agent,
            light,
            protocol: protocol.clone(),
            relays: info.protocols.contains(&relay::HOP_PROTOCOL_NAME),
            tests: info.protocols.contains(&TEST_PROTOCOL),
        });
        let (address, inbound) = state
            .connections
            .first()
            .map_or((Multiaddr::empty(), true), |connection| (connection.address.clone(), connection.inbound));
        if new {
            let group = if inbound { Group::inbound(&address) } else { Group::dialled(&address) };
            let address = address.to_string();
            if light {
                // Every command of somebody is one, and comes and goes at once.
                tracing::debug!(%peer, %address, inbound, light, "connected");
            } else if !inbound || self.logs.connected.has_room() {
                tracing::info!(%peer, %address, inbound, light, "connected");
            }
            self.queue.insist(NetworkEvent::Connected { peer: Peer(peer), address, group, inbound, light, protocol });
            self.discovery.look_soon(Instant::now());
        }
        self.settle(peer);
        if !light {
            self.learn_addresses(peer, info);
        }
        let held = self.peers.get_mut(&peer).map(|state| std::mem::take(&mut state.held)).unwrap_or_default();
        for request in held {
            self.offer_request(peer, request);
        }
        self.shown.is_old = true;
    }

    /// Marks the dials of a good peer as successes, and keeps its connections open.
    fn settle(&mut self, peer: PeerId) {
        let dialled = self.peers.values().filter(|state| state.connections.iter().any(|one| !one.inbound)).count();
        let mut groups = Groups::default();
        for state in self.peers.iter().filter(|(other, _)| **other != peer).map(|(_, state)| state) {
            state.connections.iter().find(|one| !one.inbound).into_iter().for_each(|one| groups.add(&one.address));
        }
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let Some(identity) = &state.identity else { return };
        let now = Instant::now();
        let keep = match self.own.role {
            Role::Light => true,
            Role::Full => !identity.light,
        };
        let mut worked = Vec::new();
        let mut direct = state.connections.iter().any(|one| one.kept && !one.relayed);
        for connection in &mut state.connections {
            // Whom a lookup has dialled was chosen by those that were asked.
            let has_place = dialled <= self.limits.connections.target_outbound && groups.has_room(&connection.address);
            let wanted = connection.inbound || connection.dial.is_some() || has_place;
            // A dial of ours that nobody here began, to somebody who is connected: the test of an address.
            let is_test = !connection.inbound && connection.dial.is_none() && direct;
            let needless = is_test || connection.relayed && direct;
            if keep && wanted && !needless && !connection.kept {
                self.swarm.behaviour_mut().gate.keep(peer, connection.id);
                connection.kept = true;
                direct |= !connection.relayed;
            }
            if !connection.inbound {
                let address = address::without_peer(connection.address.clone());
                self.discovery.book.prove((peer, address), now);
                worked.extend(connection.dial.take().and_then(|dial| Some(dial.addresses.first()?.to_string())));
            }
        }
        for address in worked {
            if self.dials.failures.forget(&address) {
                tracing::info!(%address, "connected at last");
            }
        }
    }

    /// Puts what a good peer says of its own addresses into the book, as claims, and into Kademlia.
    fn learn_addresses(&mut self, peer: PeerId, info: &identify::Info) {
        let Some(state) = self.peers.get(&peer) else { return };
        let Some(source) = state.connections.first().map(|one| Group::inbound(&one.address)) else { return };
        let now = Instant::now();
        let here = state.connections.iter().any(|connection| address::is_loopback(&connection.address));
        let claimed = info.listen_addrs.iter().take(MAX_ADDRESSES).cloned().map(address::without_peer);
        let dialled = state.connections.iter().filter(|connection| !connection.inbound);
        let dialled = dialled.map(|connection| address::without_peer(connection.address.clone()));
        let served = self.own.kademlia.as_ref().is_some_and(|name| info.protocols.contains(name));
        for address in dialled.chain(claimed).filter(|address| address::is_worth_keeping(address, here)) {
            self.discovery.book.add((peer, address.clone()), source, now);
            if served && let Some(kademlia) = self.swarm.behaviour_mut().kademlia.as_mut() {
                kademlia.add_address(&peer, address);
            }
        }
    }

    /// Closes the connections with a peer of no use and says why.
    fn refuse(&mut self, peer: PeerId, failure: DialFailure) {
        let now = Instant::now();
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let dials: Vec<_> = state.connections.iter_mut().filter_map(|connection| connection.dial.take()).collect();
        let grace =
            if state.connections.iter().all(|connection| connection.inbound) { REFUSAL_GRACE } else { Duration::ZERO };
        state.refused = Some(now + grace);
        state.held.clear();
        for dial in dials {
            self.on_dial_failed(&dial, failure.clone());
        }
        self.discovery.book.avoid(&peer, now, now + FOREIGN_PAUSE);
        let behaviour = self.swarm.behaviour_mut();
        if let Some(kademlia) = behaviour.kademlia.as_mut() {
            kademlia.remove_peer(&peer);
        }
        if grace.is_zero() {
            behaviour.gate.close(peer);
        }
    }

    /// Closes connections whose peer is refused, or has not said in time who it is.
    pub(super) fn close_unidentified(&mut self, now: Instant) {
        let mut silent = Vec::new();
        for (peer, state) in &self.peers {
            match state.refused {
                Some(when) if when <= now => self.swarm.behaviour_mut().gate.close(*peer),
                Some(_) => {}
                None if state.identity.is_none() && state.since + self.limits.times.identify <= now => {
                    silent.push(*peer);
                }
                None => {}
            }
        }
        for peer in silent {
            self.refuse(peer, DialFailure::NotIdentified);
        }
    }

    /// Gives points, and bans at the limit.
    pub(super) fn penalize(&mut self, peer: PeerId, misbehaviour: Misbehaviour) {
        // What was on its way when it was banned.
        if self.swarm.behaviour().gate.is_banned(&peer) {
            return;
        }
        let (points, what) = (misbehaviour.points(), misbehaviour.what());
        let sum = self.penalties.add(peer, points, Instant::now());
        tracing::debug!(%peer, points, sum, what, "penalized");
        if let Some(gossip) = self.swarm.behaviour_mut().gossip.as_mut() {
            gossip.set_application_score(&peer, -f64::from(sum));
        }
        if sum >= self.limits.bans.points {
            self.ban(peer, self.limits.bans.time, what);
        }
        self.shown.is_old = true;
    }

    /// Closes a peer's connections and keeps it away, and whoever else comes from its addresses.
    pub(super) fn ban(&mut self, peer: PeerId, time: Duration, reason: &str) {
        if self.logs.banned.has_room() {
            tracing::info!(%peer, reason, seconds = time.as_secs(), "banned");
        }
        let ips: Vec<_> = self.peers.get(&peer).map_or_else(Vec::new, |state| {
            state.connections.iter().filter_map(|connection| address::ip(&connection.address)).collect()
        });
        self.penalties.clear(&peer);
        let now = Instant::now();
        let behaviour = self.swarm.behaviour_mut();
        let bans = &mut behaviour.gate.bans;
        bans.add(BanSubject::Peer(Peer(peer)), time, reason, None, now);
        for subject in ips.into_iter().filter_map(|ip| BanSubject::ip(ip).ok()) {
            bans.add(subject, time, &format!("{reason}, by {peer}"), Some(Peer(peer)), now);
        }
        if let Some(kademlia) = behaviour.kademlia.as_mut() {
            kademlia.remove_peer(&peer);
        }
        self.discovery.book.pause(&peer, now + time.min(LONGEST_PAUSE));
        self.swarm.behaviour_mut().gate.close(peer);
        self.counters.bans += 1;
        self.shown.is_old = true;
    }

    /// Closes all connections with an address and keeps it away.
    pub(super) fn ban_ip(&mut self, ip: IpAddr, time: Duration, reason: String) {
        if self.logs.banned.has_room() {
            tracing::info!(%ip, reason, seconds = time.as_secs(), "banned");
        }
        self.swarm.behaviour_mut().gate.bans.add(BanSubject::Ip(ip), time, &reason, None, Instant::now());
        let is_there = |state: &PeerState| state.connections.iter().any(|one| address::ip(&one.address) == Some(ip));
        let there: Vec<_> = self.peers.iter().filter(|(_, state)| is_there(state)).map(|(peer, _)| *peer).collect();
        for peer in there {
            self.swarm.behaviour_mut().gate.close(peer);
        }
        self.counters.bans += 1;
        self.shown.is_old = true;
    }

    /// Lifts a ban and forgives all points.
    pub(super) fn unban(&mut self, subject: BanSubject) {
        self.swarm.behaviour_mut().gate.bans.lift(&subject);
        if let BanSubject::Peer(peer) = subject {
            self.penalties.clear(&peer.0);
            self.discovery.book.pause(&peer.0, Instant::now());
        }
        self.shown.is_old = true;
    }

    pub(super) fn on_ping(&mut self, peer: PeerId, id: ConnectionId, result: Result<Duration, ping::Failure>) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let Some(connection) = state.connections.iter_mut().find(|connection| connection.id == id) else { return };
        match result {
            Ok(round_trip) => {
                connection.missed_pings = 0;
                state.round_trip = Some(round_trip);
            }
            Err(ping::Failure::Unsupported) => {}
            Err(ping::Failure::Timeout | ping::Failure::Other { .. }) => {
                connection.missed_pings += 1;
                if connection.missed_pings >= MAX_MISSED_PINGS {
                    tracing::debug!(%peer, "closing a connection that does not answer");
                    self.swarm.close_connection(id);
                }
            }
        }
    }

    /// Asks Kademlia for peers near to us, and for some near to nowhere in particular. It dials whom it finds, and these say who
    /// and where they are; what others say of them is not kept.
    pub(super) fn look_up(&mut self, now: Instant) {
        if self.peers.values().all(|state| state.identity.is_none()) || !self.discovery.lookup_due(now) {
            return;
        }
        let me = *self.swarm.local_peer_id();
        if let Some(kademlia) = self.swarm.behaviour_mut().kademlia.as_mut() {
            kademlia.get_closest_peers(me);
            kademlia.get_closest_peers(PeerId::random());
        }
    }

    pub(super) fn on_mdns(&mut self, event: mdns::Event) {
        if let mdns::Event::Discovered(found) = event {
            for (peer, address) in found.into_iter().take(MAX_FOUND) {
                self.on_found(peer, vec![address]);
            }
        }
    }

    fn on_found(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        if peer == *self.swarm.local_peer_id() {
            return;
        }
        // What others say leads to this machine only if they are on it.
        let here = |state: &PeerState| state.connections.iter().any(|one| address::is_loopback(&one.address));
        let here = self.peers.values().any(here);
        let now = Instant::now();
        for address in addresses.into_iter().take(MAX_ADDRESSES).map(address::without_peer) {
            if address::is_worth_keeping(&address, here) {
                let source = Group::inbound(&address);
                self.discovery.book.add((peer, address), source, now);
            }
        }
    }
}

/// Whether a peer without a request protocol says that it is one of ours.
fn is_light(agent: &str) -> bool {
    agent.starts_with("ocelli/") && agent.ends_with(" light")
}
