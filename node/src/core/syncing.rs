//! The sync machine put to work.

use std::collections::{BTreeSet, VecDeque};

use ocelli_consensus::fork_choice::{HeaderTree, InsertError};
use ocelli_consensus::rules::Blame;
use ocelli_consensus::{BlockHash, Header, Network, U256, Work};
use ocelli_protocol::assembly::{self, Assembly};
use ocelli_protocol::sync::{self, ChainView, HeaderImport, Sync, SyncAction, Timer};

use super::{Asked, Core};
use crate::chain::{Chain, HeaderError};
use crate::error::NodeError;
use crate::full_message::full_message;
use crate::network::{GossipId, Peer};
use crate::offence::misbehaviour;
use crate::validation::Validation;

/// The sync machine, and what it is to be told.
pub(super) struct Syncing {
    machine: Sync<Peer>,
    pub(super) inputs: VecDeque<sync::Input<Peer>>,
    /// By when they are due, in monotonic milliseconds.
    timers: BTreeSet<(u64, Timer<Peer>)>,
    /// What comes up meanwhile waits.
    is_driving: bool,
}

impl Syncing {
    pub(super) fn new(network: &Network, salt: [u8; 32]) -> Self {
        Self { machine: Sync::new(network, salt), inputs: VecDeque::new(), timers: BTreeSet::new(), is_driving: false }
    }

    /// When the next timer is due.
    pub(super) fn due_at(&self) -> Option<u64> {
        self.timers.first().map(|(at, _)| *at)
    }

    fn set(&mut self, timer: Timer<Peer>, at: u64) {
        self.timers.retain(|(_, other)| *other != timer);
        self.timers.insert((at, timer));
    }
}

/// What sync sees of the chain.
struct SyncView<'a> {
    chain: &'a Chain,
    validation: &'a Validation,
    assembly: &'a Assembly<Peer, GossipId>,
}

impl ChainView for SyncView<'_> {
    fn tree(&self) -> &HeaderTree {
        self.chain.tree()
    }

    fn is_in_validation(&self, hash: &BlockHash) -> bool {
        self.validation.contains(hash)
    }

    fn in_validation(&self) -> usize {
        self.validation.load()
    }

    fn may_lack_attachments(&self, hash: &BlockHash) -> bool {
        self.chain.may_lack_attachments(hash)
    }

    fn minimum_work(&self) -> U256 {
        self.chain.minimum_work().0
    }

    fn is_put_together(&self, hash: &BlockHash) -> bool {
        self.assembly.is_put_together(hash)
    }
}

impl Core {
    /// Gives the sync machine an input, and both machines what follows from that.
    pub(super) fn drive_sync(&mut self, input: sync::Input<Peer>) -> Result<(), NodeError> {
        self.syncing.inputs.push_back(input);
        self.drive()
    }

    /// Gives both machines what they are to be told, and does what they say, and so on with what follows from that. What comes
    /// up in the meantime waits its turn: a machine wants one input's outputs carried out before the next.
    pub(super) fn drive(&mut self) -> Result<(), NodeError> {
        if std::mem::replace(&mut self.syncing.is_driving, true) {
            return Ok(());
        }
        let result = self.drive_machines();
        self.syncing.is_driving = false;
        result
    }

    fn drive_machines(&mut self) -> Result<(), NodeError> {
        loop {
            let now = self.others.clock.now();
            if let Some(input) = self.syncing.inputs.pop_front() {
                let Self { chain, validation, assembling, .. } = self;
                let view = SyncView { chain, validation, assembly: &assembling.machine };
                for output in self.syncing.machine.handle(input, now, &view) {
                    self.carry_out_sync(output)?;
                }
            } else if let Some(input) = self.assembling.inputs.pop_front() {
                for output in self.handle_assembly(input, now)? {
                    self.carry_out_assembly(output)?;
                }
            } else if let Some(input) = self.files.inputs.pop_front() {
                for output in self.handle_files(input, now) {
                    self.carry_out_files(output);
                }
            } else {
                return Ok(());
            }
        }
    }

    /// Tells both machines that blocks have come, or have been judged.
    pub(super) fn blocks_changed(&mut self) -> Result<(), NodeError> {
        self.assembling.inputs.push_back(assembly::Input::BlocksChanged);
        self.drive_sync(sync::Input::BlocksChanged)
    }

    pub(super) fn fire_timers(&mut self, now: u64) -> Result<(), NodeError> {
        while let Some(&(at, timer)) = self.syncing.timers.first().filter(|(at, _)| *at <= now) {
            self.syncing.timers.remove(&(at, timer));
            self.drive_sync(sync::Input::TimerFired(timer))?;
        }
        Ok(())
    }

    fn carry_out_sync(&mut self, output: SyncAction<Peer>) -> Result<(), NodeError> {
        match output {
            SyncAction::Send { peer, id, request } => self.asking.ask(peer, &request, Asked::Sync(id)),
            SyncAction::ImportHeaders { peer, headers } => {
                let imported = self.import_headers(peer, &headers)?;
                self.syncing.inputs.push_back(imported);
            }
            SyncAction::ImportBlock { peer, hash, data } => {
                self.begin_block(Some(peer), hash, data)?;
                self.assembling.inputs.push_back(assembly::Input::BlocksChanged);
            }
            SyncAction::Penalize { peer, offence } => {
                if self.logs.complaints.has_room() {
                    tracing::warn!(%peer, ?offence, "a peer misbehaves");
                }
                self.penalize(peer, misbehaviour(offence));
            }
            SyncAction::SetTimer { timer, at } => self.syncing.set(timer, at),
            SyncAction::OtherVersion { peer, version, height, fork, work } => {
                self.on_other_version(peer, version, height, fork, work);
            }
            SyncAction::State(state) => tracing::info!(?state, "sync"),
        }
        Ok(())
    }

    /// A chain of other rules is followed without being stored. It is said once that it is the better one.
    fn on_other_version(&mut self, peer: Peer, version: u32, height: u64, fork: BlockHash, work: Work) {
        let own = self.chain.tip().work;
        let was_known = self.update.text(own).is_some();
        self.update.note(version, height, fork, work);
        match self.update.text(own) {
            Some(text) if !was_known => tracing::error!(%peer, "{text}"),
            _ => tracing::debug!(%peer, version, height, "a chain of another version"),
        }
    }

    fn import_headers(&mut self, peer: Peer, headers: &[Header]) -> Result<sync::Input<Peer>, NodeError> {
        let (taken, error) = self.chain.insert_headers(headers, self.others.clock.unix_seconds())?;
        let result = error.as_ref().map_or(HeaderImport::Connected, import_result);
        if let Some(error) = &error {
            tracing::debug!(%peer, taken, reason = full_message(error), "headers taken in part");
        }
        Ok(sync::Input::HeadersImported { peer, result })
    }
}

/// Whose fault it is that not all headers are stored.
fn import_result(error: &HeaderError) -> HeaderImport {
    match error {
        HeaderError::Insert(InsertError::ParentUnknown { .. }) => HeaderImport::Unconnected,
        HeaderError::Insert(InsertError::Rule { source, .. }) => match source.blame() {
            Blame::Sender | Blame::SenderOnly | Blame::Block => HeaderImport::Invalid,
            // Only chains worth storing are imported.
            Blame::SenderIfCheap => HeaderImport::Held,
        },
        // Too early, on a block that others may not know to be invalid, or of a branch too poor to keep.
        HeaderError::Ahead { .. }
        | HeaderError::Insert(InsertError::ParentInvalid { .. } | InsertError::Full)
        | HeaderError::LowWork { .. }
        | HeaderError::Store(_) => HeaderImport::Held,
    }
}
