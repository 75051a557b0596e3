//! What goes into the sync machine and what comes out.

use ocelli_consensus::fork_choice::{BlockStatus, HeaderTree};
use ocelli_consensus::{BlockHash, Header, U256, Work};

use super::{Direction, Group, HeaderPlace};
use crate::Offence;
use crate::message::{BlockData, Request, Response};

/// The glimpse of the chain that sync needs. At every input it must show all that earlier outputs have led to.
pub trait ChainView {
    /// The stored headers.
    fn tree(&self) -> &HeaderTree;
    /// Whether a block's data are being validated.
    fn is_in_validation(&self, hash: &BlockHash) -> bool;
    /// How many blocks handed over wait for their validation. Large ones may count as several.
    fn in_validation(&self) -> usize;
    /// Whether a block whose attachments no peer has is taken without them, on the work above it.
    fn may_lack_attachments(&self, hash: &BlockHash) -> bool;
    /// Work without which a chain of headers is not stored.
    fn minimum_work(&self) -> U256;
    /// Whether a block's data are being put together by others than sync.
    fn is_put_together(&self, _hash: &BlockHash) -> bool {
        false
    }

    /// Hashes of the chain of the header with most work, from it back to genesis, in growing steps; at most
    /// [`crate::message::MAX_LOCATOR`].
    fn locator(&self) -> Vec<BlockHash> {
        self.tree().locator(&self.tree().best_header().hash)
    }

    /// A stored header and its place.
    fn place(&self, hash: &BlockHash) -> Option<HeaderPlace> {
        self.tree().get(hash).as_ref().map(HeaderPlace::of)
    }

    /// Of the first `window` blocks that are not validated on the path to the header with most work, those whose data are
    /// neither stored nor being validated nor put together, lowest first.
    fn missing(&self, window: usize) -> Vec<BlockHash> {
        let nodes = self.tree().beyond_connectable().take(window).filter(|node| node.status == BlockStatus::Header);
        let is_open = |hash: &BlockHash| !self.is_put_together(hash) && !self.is_in_validation(hash);
        nodes.map(|node| node.hash).filter(is_open).collect()
    }

    /// Whether a block's header is stored and its data are neither stored nor being validated.
    fn wants(&self, hash: &BlockHash) -> bool {
        let node = self.tree().get(hash);
        node.is_some_and(|node| node.status == BlockStatus::Header) && !self.is_in_validation(hash)
    }

    /// Work accumulated up to the header with most.
    fn best_work(&self) -> U256 {
        self.tree().best_header().work.0
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input<P> {
    /// A full node connected; light peers serve no chain and are not reported.
    PeerConnected {
        peer: P,
        /// Where it is.
        group: Group,
        /// Who dialled.
        direction: Direction,
    },
    /// It is gone, and so are the requests to it.
    PeerDisconnected(P),
    /// A request has its end.
    Response {
        peer: P,
        /// The id that [`SyncAction::Send`] gave.
        id: u64,
        result: Result<Response, Failure>,
    },
    /// A peer announced a block.
    Announced {
        peer: P,
        hash: BlockHash,
        /// Its height, by the announcement.
        height: u64,
        /// Whether its parent's header is stored.
        parent: Parent,
    },
    /// What [`SyncAction::ImportHeaders`] led to; the view shows the new headers already.
    HeadersImported {
        /// Who sent them.
        peer: P,
        result: HeaderImport,
    },
    /// The data that a peer sent for a block are not the block's: no fault of the block.
    BlockRefused {
        /// Who sent them.
        peer: P,
        /// The block that was asked for.
        hash: BlockHash,
    },
    /// A block connected, was found invalid, or is missing now.
    BlocksChanged,
    /// A timer is due.
    TimerFired(Timer<P>),
}

/// Why a request has no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It could not be delivered, or the connection was lost.
    Network,
    /// The response is no encoding of one.
    Malformed,
}

/// Whether the parent of an announced block is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parent {
    /// It is: the announced header has been imported already.
    Known,
    /// It is not: headers in between are to be asked for.
    Unknown,
}

/// How an import of headers went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderImport {
    /// All are stored.
    Connected,
    /// One breaks a rule.
    Invalid,
    /// The first one's parent is not stored.
    Unconnected,
    /// One could not be stored yet, through nobody's fault: it is too far ahead of the clock.
    Held,
}

/// What is to be done, in order, before the next input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyncAction<P> {
    /// Ask a peer.
    Send {
        peer: P,
        /// To be given back with the response.
        id: u64,
        request: Request,
    },
    /// Check and store headers, each the parent of the next, the first one's parent stored, whose chain has the
    /// [`ChainView::minimum_work`]; then tell [`Input::HeadersImported`].
    ImportHeaders {
        /// Who sent them.
        peer: P,
        /// Ascending, never empty.
        headers: Vec<Header>,
    },
    /// Check a block's data against its header, then validate and connect it; then tell [`Input::BlocksChanged`] or
    /// [`Input::BlockRefused`].
    ImportBlock {
        /// Who sent them.
        peer: P,
        /// The block asked for; that the data are its own has not been checked.
        hash: BlockHash,
        /// With all its attachments, unless no peer has them; that they are the right ones has not been checked.
        data: BlockData,
    },
    /// A peer follows a chain of headers that keep all rules but that of the version, and that have the work to be stored. Nobody is to
    /// blame, and none of them is stored: this node may have to be updated.
    OtherVersion {
        peer: P,
        /// Of the first such header.
        version: u32,
        /// Of the first such header.
        height: u64,
        /// The last block before it.
        fork: BlockHash,
        /// Of the chain, as far as it was followed: to its end, or until it had more than our best header.
        work: Work,
    },
    /// A peer did what honest ones do not.
    Penalize { peer: P, offence: Offence },
    /// Give the timer back at a time. Setting one again moves it.
    SetTimer {
        timer: Timer<P>,
        /// In milliseconds.
        at: u64,
    },
    /// What sync does has changed.
    State(SyncState<P>),
}

/// A timer, as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer<P> {
    /// Due when a peer is to be asked for its status again.
    Status(P),
    /// Due when a request has taken too long.
    Request(u64),
    /// Due when a peer has rested, or unavailable blocks are to be asked for again.
    Wake,
}

/// What sync does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncState<P> {
    /// Waiting for a peer: there is none.
    Waiting,
    /// No peer has told yet where its chain stands.
    Contacting,
    /// Fetching headers.
    Headers {
        /// From whom.
        peer: P,
    },
    /// Fetching or validating blocks.
    Blocks,
    /// Blocks are missing that no peer has.
    Unavailable {
        /// The lowest.
        hash: BlockHash,
    },
    /// No peer claims more work, and no block is missing.
    Synced,
}
