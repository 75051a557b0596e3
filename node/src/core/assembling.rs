//! The assembly machine put to work: announced blocks, from gossip to validation.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use ocelli_consensus::fork_choice::{HeaderTree, InsertError, TreeNode};
use ocelli_consensus::rules::Blame;
use ocelli_consensus::{BlockHash, Header, WtxId};
use ocelli_protocol::assembly::{self, Assembly, AssemblyAction, AssemblyView, GossipVerdict, HeaderVerdict};
use ocelli_protocol::message::{Announcement, BlockData, NextRules, Request, Submission};
use ocelli_protocol::sync;

use super::{Asked, Core};
use crate::chain::{Chain, HeaderError, MAX_AHEAD_SECONDS};
use crate::error::NodeError;
use crate::full_message::full_message;
use crate::network::{Acceptance, GossipId, Misbehaviour, Peer};
use crate::offence::misbehaviour;
use crate::pool;
use crate::store::StoreError;
use crate::validation::Validation;
use crate::view::{View as Shown, next_rules};

type Input = assembly::Input<Peer, GossipId>;

/// The assembly machine, and what it is to be told.
pub(super) struct Assembling {
    pub(super) machine: Assembly<Peer, GossipId>,
    pub(super) inputs: VecDeque<Input>,
    /// When it wants to be woken, in monotonic milliseconds.
    pub(super) wake_at: Option<u64>,
}

impl Assembling {
    pub(super) fn new(genesis: BlockHash) -> Self {
        Self { machine: Assembly::new(genesis), inputs: VecDeque::new(), wake_at: None }
    }
}

/// What assembly sees of the node. Of what is pending it sees what the pool has shown last, which is at most one of the pool's
/// inputs old: what came since is found when the machine looks again.
struct NodeView<'a> {
    chain: &'a Chain,
    validation: &'a Validation,
    shown: Arc<Shown>,
    /// The first error of the store.
    failure: RefCell<Option<StoreError>>,
}

impl NodeView<'_> {
    fn read<T>(&self, read: Result<Option<T>, StoreError>) -> Option<T> {
        read.unwrap_or_else(|error| {
            self.failure.borrow_mut().get_or_insert(error);
            None
        })
    }
}

impl AssemblyView for NodeView<'_> {
    fn tree(&self) -> &HeaderTree {
        self.chain.tree()
    }

    fn tip(&self) -> TreeNode {
        self.chain.tip()
    }

    fn is_in_validation(&self, hash: &BlockHash) -> bool {
        self.validation.contains(hash)
    }

    fn is_worth_forwarding(&self, block: &TreeNode) -> bool {
        self.chain.is_worth_forwarding(block)
    }

    fn pending(&self, wtxid: &WtxId) -> Option<Submission> {
        let checked = self.shown.pool.pending.get(wtxid)?;
        Some(Submission { transaction: checked.transaction().clone(), attachment: checked.attachment().cloned() })
    }

    fn connected_at(&self, height: u64) -> Option<BlockHash> {
        self.read(self.chain.store().hash_at(height))
    }

    fn block_data(&self, hash: &BlockHash) -> Option<BlockData> {
        self.read(self.chain.block_data(hash))
    }

    fn next_rules(&self) -> Option<NextRules> {
        next_rules(self.chain.network(), self.chain.tip().height)
    }

    fn pending_ids(&self) -> impl Iterator<Item = WtxId> {
        self.shown.pool.pending.wtxids()
    }
}

impl Core {
    pub(super) fn on_gossip(&mut self, id: GossipId, topic: &str, source: Peer, data: &[u8]) -> Result<(), NodeError> {
        if topic != self.blocks_topic {
            self.others.network.report(id, Acceptance::Ignore);
            return Ok(());
        }
        match Announcement::from_bytes(data) {
            Ok(announcement) => {
                self.drive_assembly(assembly::Input::Announced { gossip: id, from: source, announcement })
            }
            Err(error) => {
                if self.logs.complaints.has_room() {
                    tracing::warn!(%source, %error, "a gossiped block does not decode");
                }
                self.others.network.report(id, Acceptance::Reject);
                self.penalize(source, Misbehaviour::Malformed);
                Ok(())
            }
        }
    }

    /// Gives the assembly machine an input, and both machines what follows from that.
    pub(super) fn drive_assembly(&mut self, input: Input) -> Result<(), NodeError> {
        self.assembling.inputs.push_back(input);
        self.drive()
    }

    /// Wakes the assembly machine when it is time.
    pub(super) fn wake_assembly(&mut self, now: u64) -> Result<(), NodeError> {
        match self.assembling.wake_at.take_if(|at| *at <= now) {
            Some(_) => self.drive_assembly(assembly::Input::Woken),
            None => Ok(()),
        }
    }

    pub(super) fn handle_assembly(
        &mut self,
        input: Input,
        now: u64,
    ) -> Result<Vec<AssemblyAction<Peer, GossipId>>, StoreError> {
        let Self { chain, validation, others, .. } = self;
        let view = NodeView { chain, validation, shown: others.views.view(), failure: RefCell::new(None) };
        let outputs = self.assembling.machine.handle(input, now, &view);
        view.failure.into_inner().map_or(Ok(outputs), Err)
    }

    pub(super) fn carry_out_assembly(&mut self, output: AssemblyAction<Peer, GossipId>) -> Result<(), NodeError> {
        match output {
            AssemblyAction::ImportHeader { from, header } => {
                let (hash, verdict) = (header.hash(), self.import_announced(from, &header)?);
                self.assembling.inputs.push_front(assembly::Input::HeaderImported { hash, verdict });
            }
            AssemblyAction::Report { gossip, verdict } => {
                let acceptance = match verdict {
                    GossipVerdict::Accept => Acceptance::Accept,
                    GossipVerdict::Ignore => Acceptance::Ignore,
                    GossipVerdict::Reject => Acceptance::Reject,
                };
                self.others.network.report(gossip, acceptance);
            }
            AssemblyAction::Send { peer, id, request } => self.asking.ask(peer, &request, Asked::Assembly(id)),
            AssemblyAction::Tell { peer, status } => self.asking.ask(peer, &Request::NewTip(status), Asked::NewTip),
            AssemblyAction::Complete { hash, block, .. } => {
                self.begin_assembled(hash, block)?;
                self.syncing.inputs.push_back(sync::Input::BlocksChanged);
            }
            AssemblyAction::Condemn { hash, rule } => {
                if let Some(height) = self.chain.tree().get(&hash).map(|node| node.height) {
                    self.chain.refuse(hash, height, &rule)?;
                }
                self.assembling.inputs.push_back(assembly::Input::BlocksChanged);
                self.syncing.inputs.push_back(sync::Input::BlocksChanged);
            }
            AssemblyAction::Announced { peer, hash, height, parent } => {
                self.syncing.inputs.push_back(sync::Input::Announced { peer, hash, height, parent });
            }
            AssemblyAction::LeftToSync => self.syncing.inputs.push_back(sync::Input::BlocksChanged),
            AssemblyAction::InBlocks(ids) => {
                // If the pool has ended, the node is about to.
                self.others.pool.inbox.send(pool::Input::InBlocks(ids));
            }
            AssemblyAction::Penalize { peer, hash, offence } => {
                if self.logs.complaints.has_room() {
                    tracing::warn!(%peer, %hash, ?offence, "a peer is to blame for an announced block");
                }
                self.penalize(peer, misbehaviour(offence));
            }
            AssemblyAction::WakeAt(at) => self.assembling.wake_at = Some(at),
        }
        Ok(())
    }

    /// Checks and stores the header of an announced block.
    fn import_announced(&mut self, from: Peer, header: &Header) -> Result<HeaderVerdict, StoreError> {
        let wall = self.others.clock.unix_millis();
        let Some(error) = self.chain.insert_announced(header, wall / 1000)? else { return Ok(HeaderVerdict::Stored) };
        let verdict = match &error {
            HeaderError::Ahead { .. } => {
                let limit = header.time.saturating_sub(MAX_AHEAD_SECONDS).saturating_mul(1000);
                HeaderVerdict::Early { wait: limit.saturating_sub(wall) }
            }
            HeaderError::Insert(InsertError::Rule { source, .. }) => match source.blame() {
                Blame::Sender | Blame::SenderOnly => HeaderVerdict::Broken,
                Blame::SenderIfCheap if !self.chain.is_worth_storing(header) => HeaderVerdict::Broken,
                Blame::SenderIfCheap | Blame::Block => HeaderVerdict::Unwanted,
            },
            // Not even an honest forwarder need know which blocks we have found invalid.
            HeaderError::Insert(
                InsertError::ParentUnknown { .. } | InsertError::ParentInvalid { .. } | InsertError::Full,
            )
            | HeaderError::LowWork { .. }
            | HeaderError::Store(_) => HeaderVerdict::Unwanted,
        };
        tracing::debug!(%from, reason = full_message(&error), "the header of an announced block is not stored");
        Ok(verdict)
    }
}
