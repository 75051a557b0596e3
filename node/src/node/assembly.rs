//! Announced blocks: the assembly machine put to work.

use ocelli_consensus::fork_choice::{HeaderTree, InsertError, Node};
use ocelli_consensus::rules::Blame;
use ocelli_consensus::{BlockHash, Header, WtxId};
use ocelli_protocol::assembly::{GossipVerdict, HeaderVerdict, Input, Offence, Output, View};
use ocelli_protocol::mempool::Mempool;
use ocelli_protocol::message::{Announcement, BlockData, Request, ShortId, Submission};
use ocelli_protocol::relay::{self, Relay};
use ocelli_protocol::sync;

use super::NodeError;
use super::service::{Asked, Service, unix_millis};
use crate::chain::{Chain, HeaderError, MAX_AHEAD_SECONDS, full_message};
use crate::network::{Acceptance, GossipId, Misbehaviour, Peer};
use crate::store::StoreError;
use crate::validation::Validation;

/// What assembly sees of the node.
pub(super) struct AssemblyView<'a> {
    pub(super) chain: &'a Chain,
    pub(super) mempool: &'a Mempool,
    pub(super) validation: &'a Validation,
    pub(super) relay: &'a Relay<Peer>,
}

impl View for AssemblyView<'_> {
    fn tree(&self) -> &HeaderTree {
        self.chain.tree()
    }

    fn tip(&self) -> &Node {
        self.chain.tip()
    }

    fn is_in_validation(&self, hash: &BlockHash) -> bool {
        self.validation.contains(hash)
    }

    fn is_worth_forwarding(&self, block: &Node) -> bool {
        self.chain.is_worth_forwarding(block)
    }

    fn pending(&self, wtxid: &WtxId) -> Option<Submission> {
        let entry = self.mempool.get_by_wtxid(wtxid)?;
        let pixels = entry.pixels.as_deref().map(<[u8]>::to_vec);
        Some(Submission { transaction: entry.transaction.clone(), pixels })
    }

    fn connected_at(&self, height: u64) -> Option<BlockHash> {
        readable(self.chain.store().hash_at(height))
    }

    fn block_data(&self, hash: &BlockHash) -> Option<BlockData> {
        readable(self.chain.block_data(hash))
    }

    fn is_coming(&self, id: ShortId) -> bool {
        self.relay.is_coming(id, unix_millis())
    }
}

/// Where a block cannot be read, what it holds is asked of peers; the next write will end the node.
fn readable<T>(found: Result<Option<T>, StoreError>) -> Option<T> {
    found.unwrap_or_else(|error| {
        tracing::error!(reason = full_message(&error), "a block cannot be read");
        None
    })
}

impl Service {
    pub(super) fn on_announcement(&mut self, gossip: GossipId, from: Peer, data: &[u8]) -> Result<(), NodeError> {
        match Announcement::from_bytes(data) {
            Ok(announcement) => self.drive_assembly(Input::Announced { gossip, from, announcement }),
            Err(error) => {
                if self.complaints.has_room() {
                    tracing::warn!(%from, %error, "a gossiped block does not decode");
                }
                self.network.report(gossip, Acceptance::Reject);
                self.network.penalize(from, Misbehaviour::Malformed);
                Ok(())
            }
        }
    }

    /// Wakes the assembly machine when it is time.
    pub(super) fn wake_assembly(&mut self) -> Result<(), NodeError> {
        let now = self.monotonic_millis();
        if self.assembly_wake.take_if(|at| *at <= now).is_some() {
            self.drive_assembly(Input::Woken)?;
        }
        Ok(())
    }

    /// Gives the assembly machine an input and does what it says, and so on with what follows from that. What comes up in the
    /// meantime waits its turn: the machine wants one input's outputs carried out before the next.
    pub(super) fn drive_assembly(&mut self, input: Input<Peer, GossipId>) -> Result<(), NodeError> {
        self.assembly_inputs.push_back(input);
        if std::mem::replace(&mut self.is_driving_assembly, true) {
            return Ok(());
        }
        let result = self.drive_assembly_inputs();
        self.is_driving_assembly = false;
        result
    }

    fn drive_assembly_inputs(&mut self) -> Result<(), NodeError> {
        while let Some(input) = self.assembly_inputs.pop_front() {
            let now = self.monotonic_millis();
            let Self { chain, mempool, validation, relay, .. } = self;
            let view = AssemblyView { chain, mempool, validation, relay };
            for output in self.assembly.handle(input, now, &view) {
                self.carry_out_assembly(output)?;
            }
        }
        Ok(())
    }

    fn carry_out_assembly(&mut self, output: Output<Peer, GossipId>) -> Result<(), NodeError> {
        match output {
            Output::ImportHeader { from, header } => {
                let verdict = self.import_announced(from, &header)?;
                self.assembly_inputs.push_back(Input::HeaderImported { hash: header.hash(), verdict });
            }
            Output::Report { gossip, verdict } => self.network.report(gossip, acceptance(verdict)),
            Output::Send { peer, id, request } => self.ask(peer, &request, Asked::Assembly(id)),
            Output::Tell { peer, status } => self.ask(peer, &Request::NewTip(status), Asked::NewTip),
            Output::Complete { hash, from, data } => {
                self.begin_block(Some(from), hash, data)?;
                self.drive_sync(sync::Input::BlocksChanged)?;
            }
            Output::Announced { peer, hash, height, parent } => {
                self.drive_sync(sync::Input::Announced { peer, hash, height, parent })?;
            }
            Output::LeftToSync => self.drive_sync(sync::Input::BlocksChanged)?,
            Output::InBlocks(ids) => self.drive_relay(relay::Input::InBlocks(ids)),
            Output::Penalize { peer, hash, offence } => {
                if self.complaints.has_room() {
                    tracing::warn!(%peer, %hash, ?offence, "a peer misbehaves in the name of a block");
                }
                self.network.penalize(peer, misbehaviour(offence));
            }
            Output::WakeAt(at) => self.assembly_wake = Some(at),
        }
        Ok(())
    }

    fn import_announced(&mut self, from: Peer, header: &Header) -> Result<HeaderVerdict, NodeError> {
        let now = unix_millis();
        let Some(error) = self.chain.insert_announced(header, now / 1000)? else { return Ok(HeaderVerdict::Stored) };
        tracing::debug!(%from, reason = full_message(&error), "an announced header is not taken");
        Ok(match &error {
            HeaderError::Ahead { .. } => {
                let let_in = header.time.saturating_sub(MAX_AHEAD_SECONDS).saturating_mul(1000);
                HeaderVerdict::Early { wait: let_in.saturating_sub(now) }
            }
            HeaderError::Insert(InsertError::Rule { source, .. }) => match source.blame() {
                Blame::Sender | Blame::SenderOnly => HeaderVerdict::Broken,
                Blame::Nobody => {
                    tracing::warn!(reason = full_message(&error), "a block of a later version: update this node");
                    HeaderVerdict::Unwanted
                }
                Blame::Block => HeaderVerdict::Unwanted,
            },
            // Not even an honest forwarder need know which blocks we have found invalid.
            HeaderError::Insert(InsertError::ParentInvalid { .. } | InsertError::ParentUnknown { .. })
            | HeaderError::LowWork { .. }
            | HeaderError::Store(_) => HeaderVerdict::Unwanted,
        })
    }
}

fn acceptance(verdict: GossipVerdict) -> Acceptance {
    match verdict {
        GossipVerdict::Accept => Acceptance::Accept,
        GossipVerdict::Ignore => Acceptance::Ignore,
        GossipVerdict::Reject => Acceptance::Reject,
    }
}

/// What an offence is among all misbehaviours.
fn misbehaviour(offence: Offence) -> Misbehaviour {
    match offence {
        Offence::NoWork | Offence::BrokenHeader | Offence::BodyRoot => Misbehaviour::BrokenRule,
        Offence::WrongTransaction => Misbehaviour::NotTheBlock,
        Offence::Malformed => Misbehaviour::Malformed,
    }
}
