//! Block assembly: an announced block on its way from gossip to validation.
//!
//! A block is announced by gossip: its header, what this binds of its body, and a short id of each transaction. A header is checked
//! and the announcement passed on at once (`announce`); then its transactions are put together (`fetch`): from the mempool,
//! from blocks that compete with it, from what another block is bringing anyway, and the rest from who announced it and from
//! others that are as far, round after round. The whole block is the last resort, and [`crate::sync`]'s. What was found for
//! short ids may be something else: then the whole ids are asked for. Answers do not travel: whoever runs the tasks finds them. A
//! block whose time has not come is held. When the tip moves to a block that was not gossiped here, peers are told.
//!
//! A machine without I/O, as [`crate::sync`] and [`crate::relay`] are: [`Assembly::handle`] takes what happened, the time in
//! milliseconds and a view of the node, and returns what is to be done. `on_*` methods treat one input; `poll_*` methods see
//! what can be done next, and run after each input. Peers are any ordered id, and `G` names a gossip message. Time never goes
//! back; of the wall clock the machine only hears how long a header is still too early
//! ([`HeaderVerdict::Early`]).
//!
//! To announce costs nothing, so who is asked first has answered before, or been dialled; a newcomer begins with the failures of its
//! address group, and has less time than who has answered.
//!
//! A peer has one block at a time that is not validated: its next one waits (*in turn*). So who finds invalid blocks keeps
//! us busy with one of them, however fast they come.

mod announce;
mod event;
mod fetch;
mod partial;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ocelli_consensus::block::BlockShortId;
use ocelli_consensus::fork_choice::BlockStatus;
use ocelli_consensus::{BlockHash, WtxId};

use crate::Offence;
use crate::message::{Announcement, ChainStatus, ShortId, Submission};
use crate::origin::{Groups, Origin};
use crate::sync::Parent;
use fetch::Question;
use partial::Partial;

pub use event::{AssemblyAction, AssemblyView, GossipVerdict, HeaderVerdict, Input};

/// Peers that take part: whose turn is kept, and who are asked and told. Announcements of others are judged all the same. More
/// than a node is likely to have connections; each takes a hundred bytes.
pub const MAX_ASSEMBLY_PEERS: usize = 4_096;
/// Announcements that wait until the block that the same peer announced before is validated, one a peer. Further ones come
/// through sync.
pub const MAX_IN_TURN: usize = 16;
/// Blocks from the future that are held, those whose time comes first. Others come through sync when their time has come.
pub const MAX_HELD: usize = 16;
/// Milliseconds after which a held block is tried again at the latest: the wall clock may be set.
pub const HELD_RETRY: u64 = 1_000;
/// Blocks that are put together at a time. Further ones come through sync.
pub const MAX_PARTIAL: usize = 16;
/// Milliseconds after which a block that is not complete is sync's alone.
pub const ASSEMBLY_TIME: u64 = 5_000;
/// Peers that are asked in one round for what a block lacks, each for a part of it.
pub const MAX_SOURCES: usize = 6;
/// Transactions that make a part of their own: what TCP sends of small pictures without waiting.
pub const MIN_SHARE: usize = 4;
/// Milliseconds until those are asked again that know the block and lack some of it, too.
pub const ROUND_PAUSE: u64 = 100;
/// Milliseconds without a transaction that was asked for after which sync may fetch the whole block as well: it is thousands of times as
/// much where few are missing.
pub const ALONE_TIME: u64 = 1_000;
/// Milliseconds that a block waits for one peer's answer before another is asked for the same as well.
pub const PATIENCE: u64 = 500;
/// Milliseconds more for each transaction asked for: small pictures at 500 a second, on a line of 12 Mbit/s.
pub const PATIENCE_PER_TRANSACTION: u64 = 2;
/// The most that this becomes; a peer whose last answer was late has twice or four times as long, and no more than this.
pub const MAX_PATIENCE: u64 = 2_500;
/// The most for a peer that has not answered any question yet.
pub const TRIAL_PATIENCE: u64 = 1_000;
/// So many blocks behind a block a peer may be, by what it told last, to be asked for it: peers tell their heights every 30 s, and
/// gossip has reached such a one as it has us. One that lacks it says so at once.
pub const NEAR_BLOCKS: u64 = CLOSE_BLOCKS;
/// Milliseconds after which an answer is not expected any more.
pub const QUESTION_TIME: u64 = 30_000;
/// Questions to one peer under way, late ones among them; it is not asked for more.
pub const MAX_QUESTIONS_PER_PEER: usize = 4;
/// Milliseconds after which a block that waits for another block looks again whether it has come.
pub const LOOK_INTERVAL: u64 = 20;
/// Blocks not yet validated of which it is remembered what was asked for with them.
pub const MAX_BRINGING: usize = 32;
/// Blocks remembered as gossiped.
pub const MAX_GOSSIPED: usize = 64;
/// So close to the best header each new tip is told to peers; before, they are not disturbed.
pub const CLOSE_BLOCKS: u64 = 3;
/// A block whose parent is unknown is taken seriously if its hash shows at least this part of the work that the best header's
/// block has. Difficulty moves by less in the time that an honest block takes to get here.
pub const ORPHAN_WORK_PART: u64 = 8;

/// The assembly machine; `P` names a peer, `G` a gossip message.
#[derive(Debug)]
pub struct Assembly<P, G> {
    genesis: BlockHash,
    peers: BTreeMap<P, Peer>,
    /// How often peers of each address group have let us wait.
    groups: Groups,
    /// Announcements that wait their turn.
    in_turn: VecDeque<Announced<P, G>>,
    /// The one whose header is being imported.
    judging: Option<Announced<P, G>>,
    held: BTreeMap<BlockHash, Held<P, G>>,
    partial: BTreeMap<BlockHash, Partial<P>>,
    questions: BTreeMap<u64, Question<P>>,
    next_id: u64,
    bringing: Bringing,
    /// Blocks handed over during the current input: the view does not show them yet.
    handed: BTreeSet<BlockHash>,
    /// The latest blocks that we have gossiped or passed on.
    gossiped: VecDeque<BlockHash>,
    /// When it is looked next whether what blocks wait for has come.
    look_at: Option<u64>,
    wake_at: Option<u64>,
}

/// What is known of a peer.
#[derive(Debug)]
struct Peer {
    origin: Origin,
    /// It has sent all that it was asked for at least once: it answers for itself, not for its address group.
    has_answered: bool,
    /// Of its tip, by its own word.
    height: Option<u64>,
    /// The last block that it announced and that was new.
    turn: Option<BlockHash>,
    /// It has let its last question wait for too long, and not answered since.
    is_silent: bool,
    /// Milliseconds that its answers take, smoothed; `None` as long as it has brought nothing.
    pace: Option<u64>,
    /// How often in a row its answers were late, less those in time; a power of two on its patience.
    lateness: u32,
}

impl Peer {
    fn new(origin: Origin) -> Self {
        Self { origin, has_answered: false, height: None, turn: None, is_silent: false, pace: None, lateness: 0 }
    }

    /// Whether it has let us wait, or, as long as it has not answered anything, others of its group have.
    fn is_failing(&self, groups: &Groups, now: u64) -> bool {
        self.is_silent || !self.has_answered && groups.of(self.origin).count(now) > 0
    }
}

/// A block as it was announced.
#[derive(Debug)]
struct Announced<P, G> {
    /// What gossip has still to be told about; `None` of a block that was held.
    gossip: Option<G>,
    from: P,
    hash: BlockHash,
    announcement: Announcement,
}

/// A block from the future.
#[derive(Debug)]
struct Held<P, G> {
    announced: Announced<P, G>,
    retry_at: u64,
}

/// What comes with blocks that are not yet validated.
#[derive(Debug, Default)]
struct Bringing {
    blocks: BTreeMap<BlockHash, Brought>,
    has_changed: bool,
}

/// What comes with one block.
#[derive(Debug)]
struct Brought {
    parent: BlockHash,
    /// Asked for. Blocks of the same parent, whose ids are alike, wait for it.
    asked: BTreeSet<BlockShortId>,
    /// Come from peers. Relay does not fetch it.
    came: BTreeSet<ShortId>,
}

impl<P: Copy + Ord, G> Assembly<P, G> {
    /// A machine without peers, for the network of a genesis block.
    pub fn new(genesis: BlockHash) -> Self {
        Self {
            genesis,
            peers: BTreeMap::new(),
            groups: Groups::default(),
            in_turn: VecDeque::new(),
            judging: None,
            held: BTreeMap::new(),
            partial: BTreeMap::new(),
            questions: BTreeMap::new(),
            next_id: 0,
            bringing: Bringing::default(),
            handed: BTreeSet::new(),
            gossiped: VecDeque::new(),
            look_at: None,
            wake_at: None,
        }
    }

    /// Whether there is no full peer.
    pub fn is_alone(&self) -> bool {
        self.peers.is_empty()
    }

    /// The height of a peer's tip by its own word, if it has told one.
    pub fn height(&self, peer: &P) -> Option<u64> {
        self.peers.get(peer)?.height
    }

    /// Whether a block is being put together, and sync need not fetch it.
    pub fn is_put_together(&self, hash: &BlockHash) -> bool {
        self.partial.get(hash).is_some_and(|partial| !partial.is_left)
    }

    /// A transaction of a block that is being put together, if it is here.
    pub fn submission(&self, hash: &BlockHash, index: usize) -> Option<&Submission> {
        self.partial.get(hash)?.submission(index)
    }

    /// The ids of all transactions of a block that is being put together, if they had to be asked for.
    pub fn transaction_ids(&self, hash: &BlockHash) -> Option<&[WtxId]> {
        self.partial.get(hash)?.wtxids()
    }

    /// Treats one input at `now` (milliseconds, never less than before). All outputs must be carried out, as far as the
    /// view shows them, before the next input.
    pub fn handle(&mut self, input: Input<P, G>, now: u64, view: &impl AssemblyView) -> Vec<AssemblyAction<P, G>> {
        self.handed.clear();
        let mut out = Vec::new();
        match input {
            Input::PeerConnected { peer, origin } => self.on_connected(peer, origin),
            Input::PeerDisconnected(peer) => self.on_disconnected(peer, now, view, &mut out),
            Input::Announced { gossip, from, announcement } => {
                self.on_announced(gossip, from, announcement, now, view, &mut out);
            }
            Input::HeaderImported { hash, verdict } => self.on_header_imported(&hash, verdict, now, view, &mut out),
            Input::Response { peer, id, result } => self.on_response(peer, id, result, now, view, &mut out),
            Input::Height { peer, height } => self.note_height(peer, height),
            Input::NewTip { peer, status } => self.on_new_tip(peer, &status, view, &mut out),
            Input::BlocksChanged => {}
            Input::TipMoved => self.on_tip_moved(now, view, &mut out),
            Input::Published(hash) => self.note_gossiped(hash),
            Input::GossipLost(peer) => self.tell(|other| other == peer, view, &mut out),
            Input::Woken => self.wake_at = None,
        }
        self.poll_settled(view);
        self.poll_late(now, view, &mut out);
        self.poll_waiting(now, view, &mut out);
        self.poll_announced(now, view, &mut out);
        self.poll_bringing(view, &mut out);
        self.poll_wake(now, &mut out);
        out
    }

    fn on_connected(&mut self, peer: P, origin: Origin) {
        if self.peers.len() < MAX_ASSEMBLY_PEERS {
            self.peers.entry(peer).or_insert_with(|| Peer::new(origin));
        }
    }

    fn on_disconnected(&mut self, peer: P, now: u64, view: &impl AssemblyView, out: &mut Vec<AssemblyAction<P, G>>) {
        let gone = self.peers.remove(&peer).filter(|gone| !gone.has_answered);
        if let Some(gone) = gone.filter(|_| self.questions.values().any(|question| question.peer == peer)) {
            self.groups.entry(gone.origin, now).add(now);
        }
        let mut blocks = BTreeSet::new();
        self.questions.retain(|_, question| {
            let stays = question.peer != peer;
            if !stays {
                blocks.insert(question.block);
            }
            stays
        });
        blocks.into_iter().for_each(|hash| self.pursue(hash, now, view, out));
    }

    fn on_new_tip(
        &mut self,
        peer: P,
        status: &ChainStatus,
        view: &impl AssemblyView,
        out: &mut Vec<AssemblyAction<P, G>>,
    ) {
        if status.genesis != self.genesis || !self.peers.contains_key(&peer) {
            return;
        }
        let (hash, height) = (status.tip, status.height);
        self.note_height(peer, height);
        let parent = if view.tree().contains(&hash) { Parent::Known } else { Parent::Unknown };
        out.push(AssemblyAction::Announced { peer, hash, height, parent });
    }

    fn on_tip_moved(&mut self, now: u64, view: &impl AssemblyView, out: &mut Vec<AssemblyAction<P, G>>) {
        // What other blocks lack may be in the one that was connected.
        self.look(now);
        if !is_far_behind(view) && !self.gossiped.contains(&view.tip().hash) {
            self.tell(|_| true, view, out);
        }
    }

    /// Tells peers of the tip that they may not know: those that `whom` picks and that are not known to be as far.
    fn tell(&self, whom: impl Fn(P) -> bool, view: &impl AssemblyView, out: &mut Vec<AssemblyAction<P, G>>) {
        let tip = view.tip();
        let (height, work) = (tip.height, tip.work.0);
        let status = ChainStatus { genesis: self.genesis, height, tip: tip.hash, work, next_rules: view.next_rules() };
        let behind = self.peers.iter().filter(|(_, peer)| peer.height.is_none_or(|known| known < height));
        let peers = behind.map(|(peer, _)| *peer).filter(|peer| whom(*peer));
        out.extend(peers.map(|peer| AssemblyAction::Tell { peer, status: status.clone() }));
    }

    /// What a peer says later may be older.
    fn note_height(&mut self, peer: P, height: u64) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.height = peer.height.max(Some(height));
        }
    }

    fn note_gossiped(&mut self, hash: BlockHash) {
        self.gossiped.push_back(hash);
        if self.gossiped.len() > MAX_GOSSIPED {
            self.gossiped.pop_front();
        }
    }

    /// Whether a block's data are under way here or being validated.
    fn is_open(&self, hash: &BlockHash, view: &impl AssemblyView) -> bool {
        self.partial.contains_key(hash) || self.is_handed_over(hash, view)
    }

    fn is_handed_over(&self, hash: &BlockHash, view: &impl AssemblyView) -> bool {
        self.handed.contains(hash) || view.is_in_validation(hash)
    }

    /// Forgets blocks whose data came otherwise, or that are not wanted any more.
    fn poll_settled(&mut self, view: &impl AssemblyView) {
        self.partial.retain(|hash, _| {
            let node = view.tree().get(hash);
            node.is_some_and(|node| node.status == BlockStatus::Header)
                && !view.is_in_validation(hash)
                && !view.tree().is_condemned(hash)
        });
    }

    fn poll_bringing(&mut self, view: &impl AssemblyView, out: &mut Vec<AssemblyAction<P, G>>) {
        let Self { bringing, partial, handed, .. } = self;
        bringing.blocks.retain(|hash, brought| {
            let stays = partial.contains_key(hash) || handed.contains(hash) || view.is_in_validation(hash);
            bringing.has_changed |= !stays && !brought.came.is_empty();
            stays
        });
        if std::mem::take(&mut bringing.has_changed) {
            let came = bringing.blocks.values().flat_map(|brought| &brought.came);
            out.push(AssemblyAction::InBlocks(came.copied().collect()));
        }
    }

    fn poll_wake(&mut self, now: u64, out: &mut Vec<AssemblyAction<P, G>>) {
        let answers = self.questions.values().filter(|question| !question.is_late).map(|question| question.due);
        let ends = self.partial.values().map(|partial| partial.since + ASSEMBLY_TIME);
        let held = self.held.values().map(|held| held.retry_at);
        // What is overdue waits for the import under way, and is looked at with its end.
        let Some(at) = answers.chain(ends).chain(held).chain(self.look_at).filter(|at| *at > now).min() else { return };
        if self.wake_at != Some(at) {
            self.wake_at = Some(at);
            out.push(AssemblyAction::WakeAt(at));
        }
    }
}

/// Whether blocks are being caught up with: a view of the tip is worth little to others.
pub fn is_far_behind(view: &impl AssemblyView) -> bool {
    view.tree().best_header().height > view.tip().height + CLOSE_BLOCKS
}

#[cfg(test)]
mod tests;
