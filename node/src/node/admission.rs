//! Which requests of peers are served.

use std::collections::VecDeque;

use ocelli_protocol::limits::{Refusal, SLOW_MILLIS};
use ocelli_protocol::message::{Request, Response};

use super::NodeError;
use super::input::ReplyTo;
use super::service::Service;
use super::traffic::Purpose;
use crate::network::{Misbehaviour, Peer, ResponseToken};

/// Refusals that wait to be said. Beyond it the peers hear nothing.
const MAX_DELAYED: usize = 1024;

/// Refusals that are said late, in the order in which they are due.
pub(super) type Delayed = VecDeque<(u64, ReplyTo, Response)>;

impl Service {
    /// Answers a peer's request if it is one, and within what the peer may ask for.
    pub(super) fn on_peer_request(&mut self, peer: Peer, token: ResponseToken, data: &[u8]) -> Result<(), NodeError> {
        let request = match Request::from_bytes(data) {
            Ok(request) => request,
            Err(error) => {
                self.network.penalize(peer, Misbehaviour::Malformed);
                let to = ReplyTo::Peer(peer, token, Purpose::Other);
                self.reply(to, &Response::failed(format!("not a request: {error}")));
                return Ok(());
            }
        };
        let purpose = Purpose::of(&request);
        self.traffic.received(purpose, data.len());
        let (to, now) = (ReplyTo::Peer(peer, token, purpose), self.clock.now());
        match self.limits.admit(peer, &request, now) {
            Ok(()) => return self.on_request(request, to),
            Err(Refusal::Tell(excess)) => self.reply(to, &Response::failed(excess.to_string())),
            Err(Refusal::Slow(excess)) => {
                if self.delayed.len() < MAX_DELAYED {
                    self.delayed.push_back((now + SLOW_MILLIS, to, Response::failed(excess.to_string())));
                }
            }
            Err(Refusal::Penalize(excess)) => {
                tracing::debug!(%peer, %excess, "a peer does not heed the limits");
                self.network.penalize(peer, Misbehaviour::Flood);
            }
        }
        Ok(())
    }

    /// Says the refusals whose time has come.
    pub(super) fn answer_delayed(&mut self, now: u64) {
        while self.delayed.front().is_some_and(|(at, ..)| *at <= now) {
            let Some((_, to, response)) = self.delayed.pop_front() else { return };
            self.reply(to, &response);
        }
    }
}
