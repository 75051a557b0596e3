//! Brings each event of the network to the rooms that it concerns.

use ocelli_protocol::message::Response;
use ocelli_protocol::sync::{Direction, Failure};

use crate::inbox::Sender;
use crate::network::{Acceptance, Events, NetworkEvent, NetworkHandle, Peer, RequestFailure};
use crate::{core, keeper, pool, requests};

/// What the core's requests are named for.
pub(super) const CORE: u8 = 1;
/// What the pool's requests are named for.
pub(super) const POOL: u8 = 2;

/// Whom events go to.
pub(super) struct Router {
    pub(super) core: Sender<core::Input>,
    pub(super) pool: Sender<pool::Input>,
    pub(super) requests: Sender<requests::Input>,
    pub(super) keeper: Sender<keeper::Input>,
    pub(super) network: NetworkHandle,
}

impl Router {
    /// Runs until the network has ended.
    pub(super) fn run(&self, mut events: Events) {
        while let Some(event) = events.blocking_recv() {
            self.route(event);
        }
    }

    /// A room that has ended takes nothing; the node is about to end then.
    fn route(&self, event: NetworkEvent) {
        match event {
            NetworkEvent::Listening(address) => {
                self.keeper.send(keeper::Input::Listening(address));
            }
            NetworkEvent::Connected { peer, group, inbound, light, .. } => {
                let direction = if inbound { Direction::Inbound } else { Direction::Dialled };
                self.pool.send(pool::Input::Connected { peer, light, group, direction });
                if !light {
                    self.core.send(core::Input::Connected { peer, group, direction });
                }
            }
            NetworkEvent::Disconnected { peer } => {
                self.pool.send(pool::Input::Disconnected(peer));
                self.core.send(core::Input::Disconnected(peer));
            }
            NetworkEvent::Gossip { id, topic, source, data } => {
                let refused = self.core.offer(core::Input::Gossip { id, topic, source, data });
                if let Err(core::Input::Gossip { id, .. }) = refused {
                    self.network.report(id, Acceptance::Ignore);
                }
            }
            NetworkEvent::MissedGossip { peer } => drop(self.core.offer(core::Input::MissedGossip(peer))),
            // Where there is no room the token goes, which tells the peer that there is no answer.
            NetworkEvent::Request { peer, token, data } => {
                drop(self.requests.offer(requests::Input::Peer(peer, token, data)))
            }
            NetworkEvent::Response { id, peer, result } => {
                let bytes = result.as_ref().map_or(0, Vec::len);
                let result = decoded(peer, result);
                match id.asker() {
                    POOL => drop(self.pool.send(pool::Input::Response(id, peer, result, bytes))),
                    _ => drop(self.core.send(core::Input::Response(id, peer, result, bytes))),
                }
            }
            NetworkEvent::DialFailed { address, reason } => tracing::debug!(address, %reason, "no connection"),
        }
    }
}

/// Responses are decoded here: they may hold megabytes.
fn decoded(peer: Peer, result: Result<Vec<u8>, RequestFailure>) -> Result<Response, Failure> {
    match result {
        Ok(data) => Response::from_bytes(&data).map_err(|error| {
            tracing::warn!(%peer, %error, "a response does not decode");
            Failure::Malformed
        }),
        Err(failure) => {
            tracing::debug!(%peer, %failure, "a request failed");
            Err(Failure::Network)
        }
    }
}
