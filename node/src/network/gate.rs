//! A libp2p behaviour that says who may connect, and which connections stay open while idle.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::net::IpAddr;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::DeniedUpgrade;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished};
use libp2p::swarm::handler::ConnectionEvent;
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, NotifyHandler, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, memory_connection_limits};

use super::bans::{BanSubject, Bans};
use super::{Peer, address};

/// Why a connection is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("the peer or its address is banned")]
    Banned,
    #[error("more than {limit} connections from one address")]
    PerAddress { limit: usize },
}

/// Bans, the limits on connections from one address and on memory, and the keeping of connections.
pub(super) struct Gate {
    max_per_ip: usize,
    memory: memory_connection_limits::Behaviour,
    pub(super) bans: Bans,
    /// Inbound connections by address. As large as the connections are many.
    inbound: HashMap<IpAddr, usize>,
    commands: VecDeque<ToSwarm<Infallible, Keep>>,
    waker: Option<Waker>,
}

/// Tells a connection to stay open while idle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keep;

impl Gate {
    pub(super) fn new(max_per_ip: usize, memory: memory_connection_limits::Behaviour, bans: Bans) -> Self {
        Self { max_per_ip, memory, bans, inbound: HashMap::new(), commands: VecDeque::new(), waker: None }
    }

    /// Keeps a connection open while nothing happens on it.
    pub(super) fn keep(&mut self, peer_id: PeerId, connection: ConnectionId) {
        self.command(ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::One(connection), event: Keep });
    }

    /// Closes all connections with the peer.
    pub(super) fn close(&mut self, peer_id: PeerId) {
        self.command(ToSwarm::CloseConnection { peer_id, connection: CloseConnection::All });
    }

    /// Whether the peer is banned now.
    pub(super) fn is_banned(&self, peer: &PeerId) -> bool {
        self.bans.holds(&BanSubject::Peer(Peer(*peer)), Instant::now())
    }

    fn command(&mut self, command: ToSwarm<Infallible, Keep>) {
        self.commands.push_back(command);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn check_ip(&self, address: &Multiaddr) -> Result<(), ConnectionDenied> {
        let banned = |ip| self.bans.holds(&BanSubject::Ip(ip), Instant::now());
        if address::ip(address).is_some_and(banned) { Err(ConnectionDenied::new(Refused::Banned)) } else { Ok(()) }
    }

    fn check_peer(&self, peer: &PeerId) -> Result<(), ConnectionDenied> {
        if self.is_banned(peer) { Err(ConnectionDenied::new(Refused::Banned)) } else { Ok(()) }
    }
}

/// The other end of an inbound connection, if it counts.
fn inbound_ip(endpoint: &ConnectedPoint) -> Option<IpAddr> {
    match endpoint {
        ConnectedPoint::Listener { send_back_addr, .. } => address::ip(send_back_addr).filter(|ip| !ip.is_loopback()),
        ConnectedPoint::Dialer { .. } => None,
    }
}

impl NetworkBehaviour for Gate {
    type ConnectionHandler = Keeper;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.check_ip(remote)?;
        // Commands of this machine ask what is wrong, and go again.
        if !address::ip(remote).is_some_and(|ip| ip.is_loopback()) {
            self.memory.handle_pending_inbound_connection(id, local, remote)?;
        }
        let open = address::ip(remote).and_then(|ip| self.inbound.get(&ip)).copied().unwrap_or(0);
        if open >= self.max_per_ip {
            return Err(ConnectionDenied::new(Refused::PerAddress { limit: self.max_per_ip }));
        }
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.check_peer(&peer)?;
        Ok(Keeper { keep: false })
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        endpoint: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        if let Some(peer) = peer {
            self.check_peer(&peer)?;
        }
        self.memory.handle_pending_outbound_connection(id, peer, addresses, endpoint)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.check_peer(&peer)?;
        self.check_ip(remote)?;
        Ok(Keeper { keep: false })
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished { endpoint, .. }) => {
                if let Some(ip) = inbound_ip(endpoint) {
                    *self.inbound.entry(ip).or_default() += 1;
                }
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { endpoint, .. }) => {
                if let Some(ip) = inbound_ip(endpoint)
                    && let Some(open) = self.inbound.get_mut(&ip)
                {
                    *open = open.saturating_sub(1);
                    if *open == 0 {
                        self.inbound.remove(&ip);
                    }
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        if let Some(command) = self.commands.pop_front() {
            return Poll::Ready(command);
        }
        self.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

/// A connection's side of [`Gate`]: speaks no protocol, only says whether to stay open.
pub(super) struct Keeper {
    keep: bool,
}

impl ConnectionHandler for Keeper {
    type FromBehaviour = Keep;
    type ToBehaviour = Infallible;
    type InboundProtocol = DeniedUpgrade;
    type OutboundProtocol = DeniedUpgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<DeniedUpgrade> {
        SubstreamProtocol::new(DeniedUpgrade, ())
    }

    fn connection_keep_alive(&self) -> bool {
        self.keep
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<DeniedUpgrade, (), Infallible>> {
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, Keep: Keep) {
        self.keep = true;
    }

    fn on_connection_event(&mut self, _: ConnectionEvent<'_, DeniedUpgrade, DeniedUpgrade>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bans_keep_out_peers_and_addresses() {
        let (peer, other) = (PeerId::random(), PeerId::random());
        let at = |text: &str| text.parse::<Multiaddr>().expect("a multiaddr");
        let mut gate = Gate::new(1, memory(usize::MAX), Bans::default());
        for subject in [BanSubject::Peer(Peer(peer)), BanSubject::Ip("1.2.3.4".parse().expect("an address"))] {
            gate.bans.add(subject, std::time::Duration::MAX, "", None, Instant::now());
        }
        assert!(gate.is_banned(&peer) && !gate.is_banned(&other));
        assert!(gate.check_peer(&peer).is_err() && gate.check_peer(&other).is_ok());
        for (address, allowed) in [
            ("/ip4/1.2.3.4/tcp/1", false),
            ("/ip6/::ffff:1.2.3.4/tcp/1", false),
            ("/ip4/1.2.3.5/tcp/1", true),
            ("/ip4/127.0.0.1/tcp/1", true),
        ] {
            assert_eq!(gate.check_ip(&at(address)).is_ok(), allowed, "{address}");
        }
    }

    fn memory(bytes: usize) -> memory_connection_limits::Behaviour {
        memory_connection_limits::Behaviour::with_max_bytes(bytes)
    }

    #[test]
    fn without_memory_only_this_machine_gets_in() {
        let mut gate = Gate::new(1, memory(1), Bans::default());
        let local: Multiaddr = "/ip4/9.9.9.9/tcp/1".parse().expect("a multiaddr");
        let id = ConnectionId::new_unchecked(1);
        for (remote, allowed) in
            [("/ip4/1.2.3.4/tcp/5", false), ("/ip4/127.0.0.1/tcp/5", true), ("/ip6/::1/tcp/5", true)]
        {
            let remote: Multiaddr = remote.parse().expect("a multiaddr");
            assert_eq!(gate.handle_pending_inbound_connection(id, &local, &remote).is_ok(), allowed, "{remote}");
        }
        let denied = gate.handle_pending_outbound_connection(id, None, &[], Endpoint::Dialer).expect_err("no memory");
        assert!(denied.downcast_ref::<memory_connection_limits::MemoryUsageLimitExceeded>().is_some(), "{denied}");
    }

    #[test]
    fn one_address_has_few_connections() {
        let mut gate = Gate::new(2, memory(usize::MAX), Bans::default());
        let local: Multiaddr = "/ip4/9.9.9.9/tcp/1".parse().expect("a multiaddr");
        for (remote, connections, allowed) in
            [("/ip4/1.2.3.4/tcp/5", 1, true), ("/ip4/1.2.3.4/tcp/5", 2, false), ("/ip4/127.0.0.1/tcp/5", 9, true)]
        {
            let remote: Multiaddr = remote.parse().expect("a multiaddr");
            let endpoint = ConnectedPoint::Listener { local_addr: local.clone(), send_back_addr: remote.clone() };
            gate.inbound.clear();
            for id in 0..connections {
                gate.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
                    peer_id: PeerId::random(),
                    connection_id: ConnectionId::new_unchecked(id),
                    endpoint: &endpoint,
                    failed_addresses: &[],
                    other_established: 0,
                }));
            }
            let result = gate.handle_pending_inbound_connection(ConnectionId::new_unchecked(99), &local, &remote);
            assert_eq!(result.is_ok(), allowed, "{remote} with {connections}");
        }
    }
}
