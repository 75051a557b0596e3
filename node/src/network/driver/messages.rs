//! Gossip, requests and responses.

use std::time::{Duration, Instant};

use libp2p::PeerId;
use libp2p::gossipsub::{self, MessageAcceptance, MessageId, PublishError, TopicHash};
use libp2p::request_response::{self, InboundFailure, OutboundFailure, ResponseChannel};

use super::Driver;
use crate::network::asked::Outstanding;
use crate::network::codec::{Incoming, NotTaken, TooLarge, head};
use crate::network::error::chain;
use crate::network::event::{Acceptance, GossipId, RequestId, ResponseToken};
use crate::network::untaken::ResponseBytes;
use crate::network::{Misbehaviour, NetworkEvent, Peer, RequestFailure};

/// Requests that wait for their sender to say who it is.
const MAX_HELD: usize = 4;

/// What a request may take beyond its timeout before it is given up here as well: the streams' own timeout comes first.
const REQUEST_SLACK: Duration = Duration::from_secs(5);

/// The time between two warnings about slow peers.
const SLOW_WARNING: Duration = Duration::from_secs(60);

/// A request whose sender has not yet said who it is.
pub(super) struct HeldRequest {
    channel: ResponseChannel<ResponseBytes>,
    data: Vec<u8>,
}

impl Driver {
    /// Gossips a message of this node.
    pub(super) fn publish(&mut self, topic: String, data: Vec<u8>) {
        let Some(gossip) = self.swarm.behaviour_mut().gossip.as_mut() else {
            tracing::error!(topic, "a light peer cannot gossip");
            self.counters.gossip.failed += 1;
            return;
        };
        if data.len() > self.limits.messages.gossip_bytes {
            tracing::error!(
                topic,
                bytes = data.len(),
                limit = self.limits.messages.gossip_bytes,
                "own gossip is too large"
            );
            self.counters.gossip.failed += 1;
            return;
        }
        let bytes = data.len() as u64;
        match gossip.publish(TopicHash::from_raw(topic.as_str()), data.clone()) {
            Ok(_) => {
                self.counters.gossip.published += 1;
                self.counters.gossip.bytes_published += bytes;
                self.counters.bytes_sent += bytes;
            }
            Err(PublishError::Duplicate) => tracing::debug!(topic, "the network has seen this message already"),
            Err(PublishError::NoPeersSubscribedToTopic) => {
                self.counters.gossip.failed += u64::from(!self.unsent.keep(topic, data, Instant::now()));
            }
            Err(error) => {
                tracing::warn!(topic, %error, "own gossip could not be sent");
                self.counters.gossip.failed += 1;
            }
        }
    }

    /// Tries again what found nobody on this topic.
    fn publish_unsent(&mut self, topic: &str) {
        for data in self.unsent.take(topic) {
            self.publish(topic.into(), data);
        }
    }

    pub(super) fn expire_unsent(&mut self, now: Instant) {
        self.counters.gossip.failed += self.unsent.expire(now) as u64;
    }

    /// Passes a judgement on to gossipsub.
    pub(super) fn report(&mut self, id: &GossipId, acceptance: Acceptance) {
        if acceptance == Acceptance::Accept
            && let Some(state) = self.peers.get_mut(&id.source)
        {
            state.useful = Some(Instant::now());
        }
        let acceptance = match acceptance {
            Acceptance::Accept => MessageAcceptance::Accept,
            Acceptance::Ignore => MessageAcceptance::Ignore,
            Acceptance::Reject => MessageAcceptance::Reject,
        };
        if let Some(gossip) = self.swarm.behaviour_mut().gossip.as_mut() {
            // False if it was judged before, or so late that it is forgotten; neither needs anything done.
            gossip.report_message_validation_result(&MessageId::new(&id.message), &id.source, acceptance);
            self.shown.is_old = true;
        }
    }

    pub(super) fn on_gossip(&mut self, event: gossipsub::Event) {
        match event {
            gossipsub::Event::Message { propagation_source, message_id, message } => {
                self.on_gossip_message(propagation_source, &message_id, message);
            }
            gossipsub::Event::Subscribed { topic, .. } => {
                self.publish_unsent(topic.as_str());
                self.shown.is_old = true;
            }
            gossipsub::Event::SlowPeer { peer_id, failed_messages } => {
                let lost = failed_messages.priority.saturating_add(failed_messages.non_priority);
                self.counters.gossip.missed += lost as u64;
                // If the consumer is busy the peer learns by and by: it asks for statuses itself.
                drop(self.queue.offer(NetworkEvent::MissedGossip { peer: Peer(peer_id) }));
                let now = Instant::now();
                if self.logs.slow_peer.is_none_or(|last| now.duration_since(last) >= SLOW_WARNING) {
                    self.logs.slow_peer = Some(now);
                    let all = self.counters.gossip.missed;
                    tracing::warn!(peer = %peer_id, lost, all, "a peer takes gossip too slowly and misses messages");
                }
            }
            _ => {}
        }
    }

    fn on_gossip_message(&mut self, source: PeerId, message_id: &MessageId, message: gossipsub::Message) {
        self.counters.gossip.received += 1;
        self.counters.bytes_received += message.data.len() as u64;
        let message_hash = <[u8; 32]>::try_from(message_id.0.as_slice()).expect("our message ids have 32 bytes");
        let id = GossipId { message: message_hash, source };
        // It was on its way when its source was banned.
        if self.swarm.behaviour().gate.is_banned(&source) {
            self.report(&id, Acceptance::Ignore);
            return;
        }
        // Gossipsub allows for framing on top; what we promise the consumer is exact.
        if message.data.len() > self.limits.messages.gossip_bytes {
            self.report(&id, Acceptance::Reject);
            return;
        }
        let topic = message.topic.into_string();
        let event = NetworkEvent::Gossip { id: id.clone(), topic, source: Peer(source), data: message.data };
        if self.queue.offer(event).is_err() {
            self.counters.gossip.dropped += 1;
            self.report(&id, Acceptance::Ignore);
        }
    }

    /// Sends a request, or tells at once why not.
    pub(super) fn request(&mut self, id: RequestId, peer: Peer, data: Vec<u8>) {
        let largest = (self.limits.messages.request_bytes)(&head(&data));
        let failure = match self.peers.get(&peer.0).and_then(|state| state.identity.as_ref()) {
            None => Some(RequestFailure::NotConnected),
            Some(identity) if identity.protocol.is_none() => Some(RequestFailure::NotSupported),
            Some(_) if data.len() > largest => {
                Some(RequestFailure::RequestTooLarge { bytes: data.len(), limit: largest })
            }
            Some(_) => self.asked.full().map(|limit| RequestFailure::TooManyRequests { limit }),
        };
        if let Some(failure) = failure {
            self.on_request_done(id, peer.0, Err(failure));
            return;
        }
        self.counters.requests.sent += 1;
        self.counters.bytes_sent += data.len() as u64;
        let sent = self.swarm.behaviour_mut().requests.send_request(&peer.0, Incoming::Whole(data));
        let deadline = Instant::now() + self.limits.times.request + REQUEST_SLACK;
        self.asked.begin(sent, Outstanding { id, peer: peer.0, deadline });
    }

    /// Gives up requests that the streams' own timeout missed, so that each has an end.
    pub(super) fn expire_requests(&mut self, now: Instant) {
        for request in self.asked.expire(now) {
            self.on_request_done(request.id, request.peer, Err(RequestFailure::TimedOut));
        }
    }

    fn on_request_done(&mut self, id: RequestId, peer: PeerId, result: Result<Vec<u8>, RequestFailure>) {
        match &result {
            Ok(data) => self.counters.bytes_received += data.len() as u64,
            Err(_) => self.counters.requests.failed += 1,
        }
        self.queue.insist(NetworkEvent::Response { id, peer: Peer(peer), result });
    }

    /// Sends a response.
    pub(super) fn respond(&mut self, token: ResponseToken, response: ResponseBytes) {
        let (bytes, limit) = (response.data.len(), token.limit);
        if bytes > limit {
            // The dropped token tells the peer that there is no response.
            tracing::error!(bytes, limit, "an own response is too large");
            return;
        }
        match self.swarm.behaviour_mut().requests.send_response(token.channel, response) {
            Ok(()) => self.counters.bytes_sent += bytes as u64,
            Err(_) => tracing::debug!("a response came too late: the peer no longer waits"),
        }
    }

    pub(super) fn on_request_response(&mut self, event: request_response::Event<Incoming, ResponseBytes>) {
        match event {
            request_response::Event::Message { peer, message, .. } => match message {
                request_response::Message::Request { request: Incoming::Whole(data), channel, .. } => {
                    self.on_request(peer, HeldRequest { channel, data });
                }
                // The dropped channel tells the peer.
                request_response::Message::Request { request: Incoming::Unreadable(misbehaviour), .. } => {
                    self.penalize(peer, misbehaviour);
                }
                request_response::Message::Response { request_id, response } => {
                    if let Some(request) = self.asked.end(&request_id) {
                        self.on_request_done(request.id, peer, Ok(response.take()));
                    }
                }
            },
            request_response::Event::OutboundFailure { peer, request_id, error, .. } => {
                if let Some(request) = self.asked.end(&request_id) {
                    let failure = failure(&error);
                    if matches!(failure, RequestFailure::ResponseTooLarge { .. }) {
                        self.penalize(peer, Misbehaviour::Oversize);
                    }
                    self.on_request_done(request.id, peer, Err(failure));
                }
            }
            request_response::Event::InboundFailure { peer, error, .. } => {
                tracing::debug!(%peer, error = %chain(&error), "a peer's request failed");
                if let InboundFailure::Io(error) = &error
                    && let Some(NotTaken { .. }) = error.get_ref().and_then(|inner| inner.downcast_ref())
                {
                    self.penalize(peer, Misbehaviour::Untaken);
                }
            }
            request_response::Event::ResponseSent { .. } => {}
        }
    }

    fn on_request(&mut self, peer: PeerId, request: HeldRequest) {
        self.counters.requests.received += 1;
        self.counters.bytes_received += request.data.len() as u64;
        if self.swarm.behaviour().gate.is_banned(&peer) {
            return;
        }
        match self.peers.get_mut(&peer) {
            Some(state) if state.identity.is_none() => {
                if state.held.len() < MAX_HELD {
                    state.held.push(request);
                } else {
                    self.counters.requests.dropped += 1;
                }
            }
            Some(_) => self.offer_request(peer, request),
            None => {}
        }
    }

    /// Hands a request to the consumer, or, if it is busy, drops it, which tells the peer.
    pub(super) fn offer_request(&mut self, peer: PeerId, HeldRequest { channel, data }: HeldRequest) {
        let token = ResponseToken { channel, peer, limit: (self.limits.messages.response_bytes)(&data) };
        if self.queue.offer(NetworkEvent::Request { peer: Peer(peer), token, data }).is_err() {
            self.counters.requests.dropped += 1;
        }
    }
}

fn failure(error: &OutboundFailure) -> RequestFailure {
    match error {
        OutboundFailure::DialFailure => RequestFailure::NotConnected,
        OutboundFailure::Timeout => RequestFailure::TimedOut,
        OutboundFailure::ConnectionClosed => RequestFailure::ConnectionClosed,
        OutboundFailure::UnsupportedProtocols => RequestFailure::NotSupported,
        OutboundFailure::Io(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<TooLarge>()) {
            Some(&TooLarge { bytes, limit }) => RequestFailure::ResponseTooLarge { bytes, limit },
            None if error.kind() == std::io::ErrorKind::UnexpectedEof => RequestFailure::NoAnswer,
            None => RequestFailure::Stream(chain(error)),
        },
    }
}
