//! What goes into the relay machine and what comes out.

use std::collections::BTreeSet;

use ocelli_consensus::Transaction;

use crate::Offence;
use crate::mempool::{Blame, Holds, Mempool};
use crate::message::{Request, Response, ShortId, Submission};
use crate::origin::Origin;
use crate::sync::Failure;

/// The glimpse of the mempool that relay needs. At every input it must show all that earlier outputs have led to.
pub trait Pool {
    fn mempool(&self) -> &Mempool;
    /// Whether a transaction whose attachment is still to be fetched would be taken: all that can be checked without it.
    fn would_take(&self, transaction: &Transaction) -> FetchVerdict;

    /// Whether a transaction is here, ready to be passed on or not.
    fn has(&self, id: ShortId) -> bool {
        self.mempool().get_by_short_id(id).is_some()
    }

    /// The first of those ready to be passed on in the order of ids, from one on, at most `limit`.
    fn ready_from(&self, from: ShortId, limit: usize) -> Vec<ShortId> {
        self.mempool().ready_from(from, limit)
    }
}

/// What is found of a transaction before its attachment is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchVerdict {
    /// Its attachment is worth fetching.
    Take,
    /// It is not.
    Refuse {
        /// For so long.
        holds: Holds,
        /// Who announced it.
        blame: Blame,
    },
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input<P> {
    /// A full node connected. It is told of all that waits here.
    PeerConnected {
        peer: P,
        /// Where it is, and who dialled whom.
        origin: Origin,
    },
    /// It is gone, and so are the requests to it.
    PeerDisconnected(P),
    /// A peer has announced transactions.
    Announced { peer: P, ids: Vec<ShortId> },
    /// A request has its end.
    Response {
        peer: P,
        /// The id that [`RelayAction::Send`] gave.
        id: u64,
        result: Result<Response, Failure>,
    },
    /// What became of a transaction that [`RelayAction::Take`] gave, or that is here for another reason.
    Decided {
        id: ShortId,
        /// What is to be done.
        decision: Decision,
    },
    /// The tip has moved: what was refused before may be taken now.
    TipMoved {
        /// Transactions that the chain holds now: not fetched again.
        included: Vec<ShortId>,
        /// Transactions that it holds no longer.
        returned: Vec<ShortId>,
        /// Blocks that were taken back.
        disconnected: usize,
    },
    /// The transactions that have come with blocks which are not validated yet: not fetched here in the meantime, whoever announces
    /// them. Takes the place of what was said before.
    InBlocks(BTreeSet<ShortId>),
    /// The time that [`RelayAction::WakeAt`] named has come.
    Woken,
}

/// What is to be done with a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is in the mempool and ready: announce it.
    Forward,
    /// It is in the mempool, and not to be announced before others have come.
    Keep,
    /// It is not taken, and not fetched again, from anybody, as long as that holds.
    Refuse(Holds),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayAction<P> {
    /// Ask a peer; what comes of it is to be told under this id.
    Send { peer: P, id: u64, request: Request },
    /// Answer the announcement that was the input: so many of its ids have been noted, from the first on.
    Noted {
        /// Who announced.
        peer: P,
        count: u32,
    },
    /// A transaction is here with its attachment, which has the hash that it names. Nothing else has been checked but what
    /// [`Pool::would_take`] did. [`Input::Decided`] must follow.
    Take {
        /// Who sent it.
        peer: P,
        submission: Submission,
    },
    /// A peer has announced a transaction that no block on this tip could hold. Its own tip may differ.
    CountInVain(P),
    /// A peer did what an honest one does not.
    Penalize { peer: P, offence: Offence },
    /// Say [`Input::Woken`] at this time; replaces the time named before.
    WakeAt(u64),
}
