//! The core: the chain, on a thread of its own. It owns the store's write side, the tree of headers, sync, block assembly,
//! validation and the moves of the tip.
//!
//! All that changes what the node believes happens here, in one order, so there are no locks around the chain, and a block is
//! connected while nothing else moves. Nobody waits for that who only reads: each tip is shown as soon as it is written. The
//! pool is told of each move; of what is pending, the core sees what the pool has shown last.

mod assembling;
mod blocks;
mod files;
mod mined;
mod progress;
mod syncing;
#[cfg(test)]
mod tests;
mod update;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ocelli_consensus::BlockHash;
use ocelli_protocol::assembly;
use ocelli_protocol::message::{ChainStatus, Response, Submission, take_transactions};
use ocelli_protocol::sync::{self, Direction, Failure};
use ocelli_protocol::topic;

use crate::chain::{Chain, FinishedUpload};
use crate::clock::Clock;
use crate::error::NodeError;
use crate::inbox::{Closed, Receiver, Sender};
use crate::inference::InferenceHandle;
use crate::log_limit::LogLimit;
use crate::network::{GossipId, Group, Misbehaviour, NetworkHandle, Peer, RequestId};
use crate::pool;
use crate::reply::ReplyTo;
use crate::store::StoreError;
use crate::traffic::{Asking, Counted};
use crate::validation::{Checked, Validation};
use crate::view::{CoreFigures, Views};
use assembling::Assembling;
use files::Files;
use mined::Mined;
use progress::Progress;
use syncing::Syncing;
use update::Update;

/// How often what is due by time is looked at, at the latest.
const TICK: Duration = Duration::from_millis(200);
/// And while old blocks are being pruned, a step of which begins when the one before has freed its files.
const PRUNING_TICK: Duration = Duration::from_millis(10);
/// How long to wait when inference has no room.
const RETRY_MILLIS: u64 = 200;
/// How often the addresses of good peers are written down.
const SAVE_PEERS_MILLIS: u64 = 30_000;

/// What comes to the core.
pub enum Input {
    /// A full node connected.
    Connected {
        peer: Peer,
        /// The group of its address.
        group: Group,
        /// Who dialled.
        direction: Direction,
    },
    /// A peer is gone.
    Disconnected(Peer),
    /// A gossip message, to be judged.
    Gossip {
        /// Names it.
        id: GossipId,
        /// Where it was said.
        topic: String,
        /// Who passed it on.
        source: Peer,
        data: Vec<u8>,
    },
    /// A peer has missed gossip.
    MissedGossip(Peer),
    /// What a request to a peer has brought, and of how many bytes.
    Response(RequestId, Peer, Result<Response, Failure>, usize),
    /// A peer tells of its tip.
    NewTip(Peer, ChainStatus),
    /// Somebody asks for transactions of a block that is not stored, and may be being put together.
    Announced(BlockHash, Vec<u32>, ReplyTo),
    /// What was found out about a block.
    Checked(Checked),
    /// A block of our own.
    Mined(pool::Found),
    /// Somebody asks for the transaction ids of a block that is not stored, and may be being put together.
    AnnouncedIds(BlockHash, ReplyTo),
    /// Somebody wants to publish what an upload holds.
    Unchecked(FinishedUpload),
    /// What became of work on a model's file.
    File(Result<files::Done, StoreError>),
    /// End.
    Stop,
}

/// What a request to a peer was for.
enum Asked {
    /// The sync machine's, by its own name for it.
    Sync(u64),
    /// The assembly machine's, by its own name for it.
    Assembly(u64),
    /// The files machine's, by its own name for it.
    Files(u64),
    /// That a peer is told of our tip.
    NewTip,
}

/// What the core has of the rest of the node.
pub struct Others {
    /// Where it shows itself, and sees what is pending.
    pub views: Arc<Views>,
    /// What time it is.
    pub clock: Clock,
    /// Where answers from other threads come back.
    pub inbox: Sender<Input>,
    /// Peers.
    pub network: NetworkHandle,
    /// Checks answers.
    pub inference: InferenceHandle,
    /// Counts what is exchanged with peers.
    pub counted: Arc<Counted>,
    /// What is pending follows the chain.
    pub pool: pool::Link,
}

/// All that the core's thread owns.
pub struct Core {
    chain: Chain,
    syncing: Syncing,
    assembling: Assembling,
    files: Files,
    update: Update,
    asking: Asking<Asked>,
    peers: Peers,
    /// Blocks whose data or answers are being checked.
    validation: Validation,
    unchecked: Unchecked,
    /// Blocks have been verified that may move the tip.
    is_advance_due: bool,
    progress: Progress,
    mined: Mined,
    /// The gossip topic of this network's blocks.
    blocks_topic: String,
    logs: Logs,
    others: Others,
}

/// Full peers.
struct Peers {
    connected: BTreeSet<Peer>,
    /// When their addresses were written down, in monotonic milliseconds.
    saved_at: u64,
}

/// What is said of peers, at most so often.
struct Logs {
    complaints: LogLimit,
    disconnections: LogLimit,
}

/// Stored blocks whose answers a restart or a busy service has left unchecked.
struct Unchecked {
    blocks: VecDeque<BlockHash>,
    /// When inference is asked again after it had no room, in monotonic milliseconds.
    retry_at: u64,
}

impl Core {
    /// A core of a chain.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn new(chain: Chain, others: Others) -> Result<Self, NodeError> {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).map_err(std::io::Error::other)?;
        let inbox = others.inbox.clone();
        let reply = move |found| inbox.reply(Input::Checked(found));
        let validation = Validation::new(chain.body_check().clone(), others.inference.clone(), reply);
        Ok(Self {
            syncing: Syncing::new(chain.network(), salt),
            assembling: Assembling::new(chain.genesis()),
            files: Files::new(),
            update: Update::default(),
            asking: Asking::new(others.network.clone(), Arc::clone(&others.counted)),
            peers: Peers { connected: BTreeSet::new(), saved_at: others.clock.now() },
            validation,
            unchecked: Unchecked { blocks: chain.unchecked().into(), retry_at: 0 },
            is_advance_due: false,
            progress: Progress::new(Instant::now()),
            mined: Mined::default(),
            blocks_topic: topic::blocks(chain.genesis()),
            logs: Logs {
                complaints: LogLimit::new("complaints about peers"),
                disconnections: LogLimit::new("peers gone"),
            },
            chain,
            others,
        })
    }

    /// Runs until it is told to stop, or its store fails.
    ///
    /// # Errors
    /// Why it cannot go on.
    pub fn run(mut self, inbox: &Receiver<Input>) -> Result<(), NodeError> {
        let result = self.take_inputs(inbox);
        self.save_peers();
        result
    }

    fn take_inputs(&mut self, inbox: &Receiver<Input>) -> Result<(), NodeError> {
        // What a kill left between a block's data and the tip's move is taken up here.
        self.advance()?;
        self.check_left_over()?;
        self.look_for_files()?;
        loop {
            match inbox.next(self.patience()) {
                Ok(Some(Input::Stop)) | Err(Closed) => return Ok(()),
                Ok(Some(input)) => self.handle(input)?,
                // The tip moves when all answers that are here have been taken.
                Ok(None) => {}
            }
            if !inbox.has_answers() && std::mem::take(&mut self.is_advance_due) {
                self.advance()?;
                self.blocks_changed()?;
            }
            self.do_what_is_due()?;
            self.show();
        }
    }

    /// How long there is nothing to do, at the longest.
    fn patience(&self) -> Duration {
        let tick = if self.chain.is_pruning() { PRUNING_TICK } else { TICK };
        let now = self.others.clock.now();
        let wakes = [self.syncing.due_at(), self.assembling.wake_at, self.files.wake_at].into_iter().flatten();
        wakes.map(|at| Duration::from_millis(at.saturating_sub(now))).fold(tick, Duration::min)
    }

    fn handle(&mut self, input: Input) -> Result<(), NodeError> {
        match input {
            Input::Connected { peer, group, direction } => self.on_connected(peer, group, direction),
            Input::Disconnected(peer) => self.on_disconnected(peer),
            Input::Gossip { id, topic, source, data } => self.on_gossip(id, &topic, source, &data),
            Input::MissedGossip(peer) => self.drive_assembly(assembly::Input::GossipLost(peer)),
            Input::Response(id, peer, result, bytes) => self.on_response(id, peer, result, bytes),
            Input::NewTip(peer, status) => self.drive_assembly(assembly::Input::NewTip { peer, status }),
            Input::Announced(block, indexes, to) => {
                let found = self.announced(&block, &indexes)?;
                to.send(&Response::Transactions(found));
                Ok(())
            }
            Input::AnnouncedIds(block, to) => {
                let ids = self.assembling.machine.transaction_ids(&block).map(<[_]>::to_vec);
                to.send(&Response::TransactionIds(ids));
                Ok(())
            }
            Input::Unchecked(upload) => {
                self.check_file(upload);
                Ok(())
            }
            Input::File(done) => self.on_file(done),
            Input::Checked(checked) => self.on_checked(checked),
            Input::Mined(found) => self.on_mined(found),
            Input::Stop => Ok(()), // is for the loop
        }
    }

    fn on_connected(&mut self, peer: Peer, group: Group, direction: Direction) -> Result<(), NodeError> {
        tracing::debug!(%peer, %group, ?direction, "peer connected");
        self.peers.connected.insert(peer);
        let group = sync::Group(group.id());
        let origin = sync::Origin { direction, group };
        self.assembling.inputs.push_back(assembly::Input::PeerConnected { peer, origin });
        self.files.inputs.push_back(ocelli_protocol::files::Input::PeerConnected { peer, origin });
        self.drive_sync(sync::Input::PeerConnected { peer, group, direction })
    }

    fn on_disconnected(&mut self, peer: Peer) -> Result<(), NodeError> {
        if !self.peers.connected.remove(&peer) {
            tracing::debug!(%peer, "light peer gone");
            return Ok(());
        }
        if self.logs.disconnections.has_room() {
            tracing::info!(%peer, "peer gone");
        }
        self.assembling.inputs.push_back(assembly::Input::PeerDisconnected(peer));
        self.files.inputs.push_back(ocelli_protocol::files::Input::PeerDisconnected(peer));
        self.drive_sync(sync::Input::PeerDisconnected(peer))
    }

    fn on_response(
        &mut self,
        id: RequestId,
        peer: Peer,
        result: Result<Response, Failure>,
        bytes: usize,
    ) -> Result<(), NodeError> {
        match self.asking.answered(id, bytes) {
            Some(Asked::Assembly(id)) => self.drive_assembly(assembly::Input::Response { peer, id, result }),
            Some(Asked::Files(id)) => {
                self.files.inputs.push_back(ocelli_protocol::files::Input::Response { peer, id, result });
                self.drive()
            }
            Some(Asked::Sync(id)) => {
                if let Ok(Response::Status(status)) = &result {
                    let height = status.height;
                    self.assembling.inputs.push_back(assembly::Input::Height { peer, height });
                }
                self.drive_sync(sync::Input::Response { peer, id, result })
            }
            // Who does not hear of our tip asks for statuses itself.
            Some(Asked::NewTip) | None => Ok(()),
        }
    }

    fn do_what_is_due(&mut self) -> Result<(), NodeError> {
        let now = self.others.clock.now();
        self.fire_timers(now)?;
        self.wake_assembly(now)?;
        self.wake_files(now)?;
        self.check_left_over()?;
        self.chain.prune()?;
        if now.saturating_sub(self.peers.saved_at) >= SAVE_PEERS_MILLIS {
            self.peers.saved_at = now;
            self.chain.store().check_folder()?;
            self.save_peers();
        }
        Ok(())
    }

    /// Transactions of a block that is being put together, as far as they are here and may be given; nothing if it is not.
    fn announced(&self, block: &BlockHash, indexes: &[u32]) -> Result<Vec<Option<Submission>>, StoreError> {
        if self.assembling.machine.transaction_ids(block).is_none() {
            return Ok(Vec::new());
        }
        let mut failure = None;
        let found = indexes.iter().map_while(|index| {
            let Some(found) = self.assembling.machine.submission(block, *index as usize) else { return Some(None) };
            let is_refused = self.chain.store().refuses(&found.transaction);
            let is_refused = is_refused.map_err(|error| failure = Some(error)).ok()?;
            Some((!is_refused).then(|| found.clone()))
        });
        let found = take_transactions(found);
        failure.map_or(Ok(found), Err)
    }

    /// Blames a peer.
    fn penalize(&mut self, peer: Peer, misbehaviour: Misbehaviour) {
        self.others.network.penalize(peer, misbehaviour);
    }

    /// Shows how the core is, if that has changed.
    fn show(&mut self) {
        let tree = self.chain.tree();
        let height = |hash: &BlockHash| tree.get(hash).map(|node| node.height);
        let figures = CoreFigures {
            best_height: tree.best_header().height,
            missing: tree.missing(1).first().and_then(height),
            checking: self.validation.lowest(),
            files: self.files.wanted().collect(),
            update: self.update.text(self.chain.tip().work),
            mined: self.mined.counts(),
            peers: self.peers.connected.iter().map(|peer| (*peer, self.assembling.machine.height(peer))).collect(),
        };
        if *self.others.views.core() != figures {
            self.others.views.show_core(figures);
        }
    }

    /// Writes down who is good to ask after a restart.
    fn save_peers(&self) {
        let peers = self.others.network.known_peers();
        if let Err(error) = self.chain.store().set_known_peers(&peers) {
            tracing::warn!(reason = crate::full_message::full_message(&error), "the list of peers could not be saved");
        }
    }
}
