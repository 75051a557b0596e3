//! AutoNAT v2's client, which tests an address again when asked to.
//!
//! libp2p's client remembers for good what a test has found (its `AddressInfo` is never reset): whose router was switched on
//! late, or whom one liar has called unreachable, would stay so until a restart. Here the client is now and then replaced by
//! a new one that knows nothing. A client that has not seen a connection begin cannot use it, and panics over its end; so it
//! is told only of connections that began after it did, and whoever renews it dials a peer once more.

use std::collections::HashSet;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::autonat::v2::client;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished, NewExternalAddrCandidate};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

/// A client that can be made to begin anew.
pub(super) struct Retesting {
    client: client::Behaviour,
    probe_interval: Duration,
    /// The connections that this client has seen begin.
    connections: HashSet<ConnectionId>,
}

impl Retesting {
    /// A client that looks so often whether there is something to test.
    pub(super) fn new(probe_interval: Duration) -> Self {
        Self { client: new_client(probe_interval), probe_interval, connections: HashSet::new() }
    }

    /// Forgets all tests, and has these addresses tested by the next peers that are dialled.
    pub(super) fn renew<'a>(&mut self, candidates: impl Iterator<Item = &'a Multiaddr>) {
        *self = Self::new(self.probe_interval);
        for addr in candidates {
            let candidate = NewExternalAddrCandidate { addr };
            self.client.on_swarm_event(FromSwarm::NewExternalAddrCandidate(candidate));
        }
    }
}

fn new_client(probe_interval: Duration) -> client::Behaviour {
    client::Behaviour::new(rand::make_rng(), client::Config::default().with_probe_interval(probe_interval))
}

impl NetworkBehaviour for Retesting {
    type ConnectionHandler = THandler<client::Behaviour>;
    type ToSwarm = client::Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.client.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.client.handle_established_outbound_connection(connection, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished { connection_id, .. }) => {
                self.connections.insert(connection_id);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. })
                if !self.connections.remove(&connection_id) =>
            {
                return;
            }
            _ => {}
        }
        self.client.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        if self.connections.contains(&connection) {
            self.client.on_connection_handler_event(peer, connection, event);
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.client.poll(context)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Instant;

    use futures::StreamExt as _;
    use libp2p::swarm::SwarmEvent;
    use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
    use libp2p::{Swarm, SwarmBuilder, autonat, identify, memory_connection_limits, noise, tcp, yamux};

    use super::*;
    use crate::network::bans::{BanSubject, Bans};
    use crate::network::gate::Gate;

    #[derive(NetworkBehaviour)]
    struct Tested {
        gate: Gate,
        identify: identify::Behaviour,
        client: Retesting,
    }

    #[derive(NetworkBehaviour)]
    struct Tester {
        identify: identify::Behaviour,
        server: autonat::v2::server::Behaviour,
    }

    fn swarm<B: NetworkBehaviour>(behaviour: impl FnOnce(identify::Behaviour) -> B) -> Swarm<B> {
        let mut swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
            .expect("a transport")
            .with_behaviour(|key| {
                behaviour(identify::Behaviour::new(identify::Config::new("test".into(), key.public())))
            })
            .expect("a behaviour")
            .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
            .build();
        swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().expect("an address")).expect("a free port");
        swarm
    }

    async fn listening<B: NetworkBehaviour>(swarm: &mut Swarm<B>) -> Multiaddr {
        loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                return address;
            }
        }
    }

    /// Who is behind a closed door is not reached, and is reached once the door is open and it asks again.
    #[tokio::test]
    async fn an_address_that_failed_is_tested_again() {
        let here = BanSubject::Ip(Ipv4Addr::LOCALHOST.into());
        let mut tested = swarm(|identify| Tested {
            gate: Gate::new(16, memory_connection_limits::Behaviour::with_max_bytes(usize::MAX), Bans::default()),
            identify,
            client: Retesting::new(Duration::from_millis(20)),
        });
        let mut tester = swarm(|identify| Tester { identify, server: autonat::v2::server::Behaviour::default() });
        let (own, far) = (listening(&mut tested).await, listening(&mut tester).await);
        let peer = *tester.local_peer_id();
        tokio::spawn(async move {
            loop {
                tester.select_next_some().await;
            }
        });
        let dial = || {
            let options = DialOpts::peer_id(peer).condition(PeerCondition::Always);
            options.addresses(vec![far.clone()]).allocate_new_port().build()
        };
        tested.dial(dial()).expect("dialled");
        let mut outcomes = Vec::new();
        while outcomes.len() < 2 {
            match tested.select_next_some().await {
                SwarmEvent::ConnectionEstablished { .. } if outcomes.is_empty() => {
                    // From now on nobody comes in.
                    let hour = Duration::from_secs(3_600);
                    tested.behaviour_mut().gate.bans.add(here, hour, "closed", None, Instant::now());
                    let candidate = NewExternalAddrCandidate { addr: &own };
                    tested.behaviour_mut().client.on_swarm_event(FromSwarm::NewExternalAddrCandidate(candidate));
                }
                SwarmEvent::Behaviour(TestedEvent::Client(event)) if event.tested_addr == own => {
                    outcomes.push(event.result.is_ok());
                    let behaviour = tested.behaviour_mut();
                    behaviour.gate.bans.lift(&here);
                    behaviour.client.renew(std::iter::once(&own));
                    tested.dial(dial()).expect("dialled");
                }
                _ => {}
            }
        }
        assert_eq!(outcomes, [false, true]);
        // The first connection, which the new client knows nothing of, may end.
        tested.disconnect_peer_id(peer).expect("connected");
        while tested.is_connected(&peer) {
            tested.select_next_some().await;
        }
    }
}
