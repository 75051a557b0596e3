//! What comes to the chain thread.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel};

use ocelli_consensus::{Header, TxId};
use ocelli_protocol::message::{Request, Response};
use ocelli_protocol::sync::Failure;

use super::traffic::Purpose;
use crate::inference::InferenceError;
use crate::network::{Event, Peer, RequestId, ResponseToken};
use crate::validation::Checked;

/// One thing for the chain thread to do.
pub(super) enum Input {
    /// From the network.
    Network(Event),
    /// A question, answered as to a peer.
    Ask(Request, ReplyTo),
    /// Logits of tasks in the mempool.
    Outputs(Vec<TxId>, Result<Vec<Vec<i32>>, InferenceError>),
    /// What a request to a peer has brought, and of how many bytes.
    Response(RequestId, Peer, Result<Response, Failure>, usize),
    /// What was found out about a block.
    Checked(Checked),
    /// The miner has found a nonce.
    Mined(Header),
    /// The device has turned out faulty: what it computed is worth nothing.
    DeviceFault,
    /// There are results to take.
    Wake,
    /// Stop the node.
    Stop,
}

impl From<Event> for Input {
    /// Decodes responses here, on the thread that forwards: they may hold megabytes.
    fn from(event: Event) -> Self {
        let Event::Response { id, peer, result } = event else { return Self::Network(event) };
        let bytes = result.as_ref().map_or(0, Vec::len);
        let result = match result {
            Ok(data) => Response::from_bytes(&data).map_err(|error| {
                tracing::warn!(%peer, %error, "a response does not decode");
                Failure::Malformed
            }),
            Err(failure) => {
                tracing::debug!(%peer, %failure, "a request failed");
                Err(Failure::Network)
            }
        };
        Self::Response(id, peer, result, bytes)
    }
}

/// Where the node's own threads leave results, without ever waiting: the chain thread itself may be the one that leaves
/// them, when a service refuses at once. There are never more than requests under way, which are few.
#[derive(Clone)]
pub(super) struct Results {
    results: Sender<Input>,
    inbox: SyncSender<Input>,
}

impl Results {
    /// The place to leave results, and where they come out. `inbox` is what the chain thread sleeps on.
    pub(super) fn new(inbox: SyncSender<Input>) -> (Self, Receiver<Input>) {
        let (results, receiver) = channel();
        (Self { results, inbox }, receiver)
    }

    pub(super) fn leave(&self, input: Input) {
        // If the node has stopped, nobody needs it; if the inbox is full, the chain thread is awake.
        drop(self.results.send(input));
        drop(self.inbox.try_send(Input::Wake));
    }
}

/// Who waits for a response.
#[derive(Debug)]
pub(super) enum ReplyTo {
    /// A peer, which has asked for this purpose.
    Peer(Peer, ResponseToken, Purpose),
    /// Somebody in this process.
    Local(SyncSender<Response>),
}

impl ReplyTo {
    /// The peer that asks, if it is one.
    pub(super) fn peer(&self) -> Option<Peer> {
        match self {
            Self::Peer(peer, ..) => Some(*peer),
            Self::Local(_) => None,
        }
    }

    /// Whether somebody may still wait. In this process that is not known.
    pub(super) fn is_awaited(&self) -> bool {
        match self {
            Self::Peer(_, token, _) => token.is_open(),
            Self::Local(_) => true,
        }
    }
}
