//! Whom an answer goes to, and what it costs whoever has asked.

use std::sync::Arc;
use std::sync::mpsc::{Sender, SyncSender};

use ocelli_protocol::message::Response;

use crate::network::{NetworkHandle, Peer, ResponseToken};
use crate::traffic::{Counted, Purpose};

/// Who waits for a response. Dropped, it tells a peer that there is none.
pub enum ReplyTo {
    /// A peer.
    Peer(Box<PeerReply>),
    /// Somebody in this process.
    Local(SyncSender<Response>),
}

/// A peer that waits for a response.
pub struct PeerReply {
    pub peer: Peer,
    /// Takes the response.
    pub token: ResponseToken,
    /// What it has asked for.
    pub purpose: Purpose,
    /// How the response gets there, and who counts it.
    pub till: Till,
}

/// Where responses are sent and charged.
#[derive(Clone)]
pub struct Till {
    /// Sends them.
    pub network: NetworkHandle,
    /// Counts them.
    pub counted: Arc<Counted>,
    /// Takes what was spent on whom. Nobody waits for whoever takes it, and there is one for each response.
    pub spent: Sender<Spent>,
}

/// Bytes that a peer was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    pub peer: Peer,
    pub bytes: usize,
}

impl ReplyTo {
    /// Answers whoever waits.
    pub fn send(self, response: &Response) {
        match self {
            Self::Peer(reply) => {
                let PeerReply { peer, token, purpose, till } = *reply;
                let bytes = response.to_bytes();
                till.counted.sent(purpose, bytes.len());
                // Whoever charges may have ended before.
                let _ = till.spent.send(Spent { peer, bytes: bytes.len() });
                till.network.respond(token, bytes);
            }
            // Whoever asked may have gone.
            Self::Local(sender) => drop(sender.try_send(response.clone())),
        }
    }

    /// The peer that asks, if it is one.
    pub fn peer(&self) -> Option<Peer> {
        match self {
            Self::Peer(reply) => Some(reply.peer),
            Self::Local(_) => None,
        }
    }

    /// Whether somebody may still wait. In this process that is not known.
    pub fn is_awaited(&self) -> bool {
        match self {
            Self::Peer(reply) => reply.token.is_open(),
            Self::Local(_) => true,
        }
    }
}
