//! What goes into the machine and what comes out.

use std::collections::BTreeSet;

use ocelli_consensus::fork_choice::{HeaderTree, TreeNode};
use ocelli_consensus::{BlockHash, Header, RuleError, WtxId};

use crate::Offence;
use crate::message::{
    Announcement, Assembled, BlockData, ChainStatus, NextRules, Request, Response, ShortId, Submission,
};
use crate::origin::Origin;
use crate::sync::{Failure, Parent};

/// The glimpse of the node that assembly needs. At every input it must show all that earlier outputs have led to.
pub trait AssemblyView {
    /// The stored headers.
    fn tree(&self) -> &HeaderTree;
    /// The last connected block.
    fn tip(&self) -> TreeNode;
    /// The next change of rules above the tip.
    fn next_rules(&self) -> Option<NextRules>;
    /// Whether a block's data are being validated.
    fn is_in_validation(&self, hash: &BlockHash) -> bool;
    /// Whether a block's chain has enough work for the block to be passed on before its answers are checked.
    fn is_worth_forwarding(&self, block: &TreeNode) -> bool;
    /// The ids of all transactions in the mempool.
    fn pending_ids(&self) -> impl Iterator<Item = WtxId>;
    /// A transaction of the mempool with its attachment.
    fn pending(&self, wtxid: &WtxId) -> Option<Submission>;
    /// The connected block at a height.
    fn connected_at(&self, height: u64) -> Option<BlockHash>;
    /// A stored block with its attachments, as far as they are kept.
    fn block_data(&self, hash: &BlockHash) -> Option<BlockData>;
}

/// What happened. `G` names a gossip message, for [`AssemblyAction::Report`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input<P, G> {
    /// A full node connected.
    PeerConnected { peer: P, origin: Origin },
    /// It is gone, and so are the questions to it.
    PeerDisconnected(P),
    /// A block was gossiped. Nothing of it has been checked. [`AssemblyAction::Report`] follows, now or later, exactly once.
    Announced { gossip: G, from: P, announcement: Announcement },
    /// What [`AssemblyAction::ImportHeader`] led to; the view shows the header already if it is stored.
    HeaderImported { hash: BlockHash, verdict: HeaderVerdict },
    /// A question has its end.
    Response {
        peer: P,
        /// The id that [`AssemblyAction::Send`] gave.
        id: u64,
        result: Result<Response, Failure>,
    },
    /// A peer has told the height of its tip, in the answer to a question for its status.
    Height { peer: P, height: u64 },
    /// A peer tells of its tip by itself.
    NewTip { peer: P, status: ChainStatus },
    /// A block's data came otherwise, or its validation has ended.
    BlocksChanged,
    /// Another block is the tip.
    TipMoved,
    /// A block of our own has been gossiped.
    Published(BlockHash),
    /// Gossip to a peer was lost.
    GossipLost(P),
    /// The time that [`AssemblyAction::WakeAt`] named has come.
    Woken,
}

/// What an announced header, whose parent is stored, is found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderVerdict {
    /// It is good, and stored.
    Stored,
    /// Good, and too far ahead of the wall clock.
    Early {
        /// Milliseconds until the wall clock, as it stands, lets it in.
        wait: u64,
    },
    /// Not stored, and who sent it is not to blame: on an invalid block, of too little work, of a later version.
    Unwanted,
    /// It breaks a rule that every forwarder checks.
    Broken,
}

/// What is to be done, in order, before the next input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AssemblyAction<P, G> {
    /// Check and store a header whose parent is stored; then tell [`Input::HeaderImported`].
    ImportHeader { from: P, header: Header },
    /// What gossip is to do with a message.
    Report { gossip: G, verdict: GossipVerdict },
    /// Ask a peer for transactions of a block; what comes of it is to be told under this id.
    Send { peer: P, id: u64, request: Request },
    /// Tell a peer of our tip ([`Request::NewTip`]); what it answers is of no interest.
    Tell { peer: P, status: ChainStatus },
    /// All of a block's transactions are here, with the attachments that they name, and give the transaction root that its header
    /// binds. To be validated, once its answers are found; if these do not give the answer root ([`Assembled::with_answers`]), the
    /// whole block is to be fetched, and nothing is said against it before.
    Complete {
        hash: BlockHash,
        /// Who announced it.
        from: P,
        block: Assembled,
    },
    /// No body can have the root that a block's header names: the block is invalid, and nobody who passed it on is to blame.
    Condemn { hash: BlockHash, rule: RuleError },
    /// Tell [`crate::sync::Input::Announced`].
    Announced { peer: P, hash: BlockHash, height: u64, parent: Parent },
    /// Tell [`crate::sync::Input::BlocksChanged`]: a block is left to sync.
    LeftToSync,
    /// Tell [`crate::relay::Input::InBlocks`]: transactions that came with blocks which are not validated yet.
    InBlocks(BTreeSet<ShortId>),
    /// A peer did what honest ones do not.
    Penalize {
        peer: P,
        /// The block concerned.
        hash: BlockHash,
        offence: Offence,
    },
    /// Say [`Input::Woken`] at this time; replaces the time named before.
    WakeAt(u64),
}

/// What gossip is to do with a block's announcement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GossipVerdict {
    /// Pass it on.
    Accept,
    /// Do not pass it on; nobody is to blame.
    Ignore,
    /// No honest node would have passed it on.
    Reject,
}
