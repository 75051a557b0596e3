//! Bytes exchanged with peers, counted by what they are for, and what peers are being asked.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ocelli_protocol::message::{Request, Response, Traffic, TrafficStatus};

use crate::network::{NetworkHandle, Peer, RequestId};

/// What a request, its response, or gossip is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Announcements of transactions.
    Announcements,
    /// Transactions between nodes.
    Transactions,
    /// Headers, blocks, and what announced blocks lack.
    Sync,
    /// What submitters and people ask.
    Other,
}

impl Purpose {
    /// What a request is for.
    pub fn of(request: &Request) -> Self {
        match request {
            Request::Announce { .. } => Self::Announcements,
            Request::Pending { .. } | Request::Attachments { .. } => Self::Transactions,
            Request::Status
            | Request::NewTip(_)
            | Request::Headers { .. }
            | Request::Blocks { .. }
            | Request::Transactions { .. }
            | Request::TransactionIds { .. }
            | Request::File { .. } => Self::Sync,
            Request::Submit(_)
            | Request::Transaction { .. }
            | Request::Block { .. }
            | Request::Account { .. }
            | Request::NodeStatus
            | Request::Fee { .. }
            | Request::Control { .. }
            | Request::Models { .. }
            | Request::Upload { .. }
            | Request::Ledger { .. }
            | Request::Faucet(_) => Self::Other,
        }
    }
}

/// Counts since the start; gossip is counted by the network. Any thread may count.
#[derive(Debug, Default)]
pub struct Counted {
    /// By [`Purpose`]: received, sent.
    bytes: [[AtomicU64; 2]; 4],
    relayed: AtomicU64,
    relayed_attachments: AtomicU64,
}

impl Counted {
    /// Counts what came from a peer.
    pub fn received(&self, purpose: Purpose, bytes: usize) {
        self.bytes[purpose as usize][0].fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts what went to a peer.
    pub fn sent(&self, purpose: Purpose, bytes: usize) {
        self.bytes[purpose as usize][1].fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Notes what a peer has sent in answer to the relay machine.
    pub fn relayed(&self, response: &Response) {
        let (count, bytes) = match response {
            Response::Pending(found) => {
                let attachments = found.iter().flatten().filter_map(|found| found.attachment.as_ref());
                (found.iter().flatten().count(), attachments.map(|bytes| bytes.len()).sum())
            }
            Response::Attachments(found) => (0, found.iter().flatten().map(|bytes| bytes.len()).sum::<usize>()),
            _ => return,
        };
        self.relayed.fetch_add(count as u64, Ordering::Relaxed);
        self.relayed_attachments.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// All of it, with what the network has counted of gossip.
    pub fn status(&self, blocks: Traffic) -> TrafficStatus {
        let of = |purpose: Purpose| {
            let [received, sent] = &self.bytes[purpose as usize];
            Traffic { received: received.load(Ordering::Relaxed), sent: sent.load(Ordering::Relaxed) }
        };
        TrafficStatus {
            blocks,
            announcements: of(Purpose::Announcements),
            transactions: of(Purpose::Transactions),
            sync: of(Purpose::Sync),
            other: of(Purpose::Other),
            relayed: self.relayed.load(Ordering::Relaxed),
            relayed_attachments: self.relayed_attachments.load(Ordering::Relaxed),
        }
    }
}

/// What one room asks of peers; `T` says what for. As large as the network lets requests be under way.
pub struct Asking<T> {
    network: NetworkHandle,
    counted: Arc<Counted>,
    under_way: HashMap<RequestId, (T, Purpose)>,
}

impl<T> Asking<T> {
    /// Nothing is asked yet. The responses to what is asked come to the room that `network` is named for.
    pub fn new(network: NetworkHandle, counted: Arc<Counted>) -> Self {
        Self { network, counted, under_way: HashMap::new() }
    }

    /// Asks a peer, and remembers what for.
    pub fn ask(&mut self, peer: Peer, request: &Request, what: T) {
        let (bytes, purpose) = (request.to_bytes(), Purpose::of(request));
        self.counted.sent(purpose, bytes.len());
        let id = self.network.request(peer, bytes);
        self.under_way.insert(id, (what, purpose));
    }

    /// What a response of so many bytes is to.
    pub fn answered(&mut self, id: RequestId, bytes: usize) -> Option<T> {
        let (what, purpose) = self.under_way.remove(&id)?;
        self.counted.received(purpose, bytes);
        Some(what)
    }
}
