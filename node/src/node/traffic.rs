//! Bytes exchanged with peers, counted by what they are for.

use ocelli_protocol::message::{Request, Response, Traffic, TrafficStatus};

/// What a request, its response, or gossip is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Announcements,
    Transactions,
    Sync,
    Other,
}

impl Purpose {
    pub(super) fn of(request: &Request) -> Self {
        match request {
            Request::Announce { .. } => Self::Announcements,
            Request::Pending { .. } | Request::Pixels { .. } => Self::Transactions,
            Request::Status
            | Request::NewTip(_)
            | Request::Headers { .. }
            | Request::Blocks { .. }
            | Request::Transactions { .. } => Self::Sync,
            Request::Submit(_)
            | Request::Transaction { .. }
            | Request::Block { .. }
            | Request::Account { .. }
            | Request::NodeStatus
            | Request::Fee { .. }
            | Request::Control { .. }
            | Request::Faucet(_) => Self::Other,
        }
    }
}

/// Counts; gossip is counted by the network.
#[derive(Debug, Default)]
pub(super) struct Counted(TrafficStatus);

impl Counted {
    pub(super) fn received(&mut self, purpose: Purpose, bytes: usize) {
        self.of(purpose).received += bytes as u64;
    }

    pub(super) fn sent(&mut self, purpose: Purpose, bytes: usize) {
        self.of(purpose).sent += bytes as u64;
    }

    /// Notes what a peer has sent in answer to the relay machine.
    pub(super) fn relayed(&mut self, response: &Response) {
        let (count, bytes) = match response {
            Response::Pending(found) => {
                let pixels = found.iter().flatten().filter_map(|found| found.pixels.as_ref());
                (found.iter().flatten().count(), pixels.map(Vec::len).sum())
            }
            Response::Pixels(found) => (0, found.iter().flatten().map(Vec::len).sum::<usize>()),
            _ => return,
        };
        self.0.relayed += count as u64;
        self.0.relayed_pixels += bytes as u64;
    }

    /// All of it, with what the network has counted of gossip.
    pub(super) fn status(&self, blocks: Traffic) -> TrafficStatus {
        TrafficStatus { blocks, ..self.0 }
    }

    fn of(&mut self, purpose: Purpose) -> &mut Traffic {
        match purpose {
            Purpose::Announcements => &mut self.0.announcements,
            Purpose::Transactions => &mut self.0.transactions,
            Purpose::Sync => &mut self.0.sync,
            Purpose::Other => &mut self.0.other,
        }
    }
}
