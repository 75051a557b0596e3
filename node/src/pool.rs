//! The pool: what is pending, on a thread of its own. It owns the mempool, relay, templates and the miner, what is run ahead of
//! any block, and who waits for an answer.
//!
//! The core tells it of each move of the tip, in order; between two of them it sees the chain at the tip that it has followed
//! to. It tells the core of a block that was found, and of an upload whose file is to be checked, and asks it for nothing.

mod admission;
mod ahead;
mod faucet;
mod mining;
mod own;
mod relaying;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};
use std::time::Duration;

use ocelli_consensus::block::Classes;
use ocelli_consensus::object::MAX_ATTACHMENT_BYTES;
use ocelli_consensus::{AttachmentHash, Header, Network, Transaction, TxId};
use ocelli_protocol::mempool::{AdmitError, Mempool, MempoolError, Tip, bytes_with};
use ocelli_protocol::message::{BlockData, Request, Response, ShortId, Submission};
use ocelli_protocol::sync::{Direction, Failure};

pub use ahead::{BLOCKS_AHEAD, RUN_AHEAD};
pub use faucet::FaucetConfig;
pub use mining::{Mine, Mining};
pub use own::{Order, OrderError, Spender};

use crate::chain::{AtTip, FinishedUpload, Moved};
use crate::clock::Clock;
use crate::dropped::Dropped;
use crate::error::NodeError;
use crate::full_message::full_message;
use crate::inbox::{Closed, Receiver, Sender, inbox};
use crate::inference::{InferenceError, InferenceHandle, PictureFault};
use crate::keeper;
use crate::log_limit::LogLimit;
use crate::network::{Group, NetworkHandle, Peer, RequestId};
use crate::reply::ReplyTo;
use crate::store::{Frozen, Rows, Store, StoreError};
use crate::traffic::{Asking, Counted};
use crate::view::{PoolView, View, Views};
use admission::{Refusal, Waiting};
use ahead::Ahead;
use faucet::Faucet;
use own::Ordered;
use relaying::Relaying;

/// How often what is due by time is looked at, at the latest.
const TICK: Duration = Duration::from_millis(200);
/// How often the mempool is written down: what a killed node loses of it.
const SAVE_MILLIS: u64 = 300_000;
/// How old what is shown of fees may be while nothing but the mempool changes.
const FEES_MILLIS: u64 = 250;
/// Bytes of transactions with their attachments that wait for a block.
pub const MEMPOOL_BYTES: usize = 64 << 20;
/// Moves of the tip that wait to be followed. Then the core waits: while it syncs, it must not run away from here.
const MOVES: usize = 4;

/// What comes to the pool.
pub enum Input {
    /// A full node connected, or a light peer.
    Connected {
        peer: Peer,
        /// Whether it only asks.
        light: bool,
        /// The group of its address.
        group: Group,
        /// Who dialled whom.
        direction: Direction,
    },
    /// It is gone.
    Disconnected(Peer),
    /// What somebody asks of what is pending.
    Ask(Box<Request>, ReplyTo),
    /// A task that this node is to pay for.
    Order(Box<Order>),
    /// What a request to a peer has brought, and of how many bytes.
    Response(RequestId, Peer, Result<Response, Failure>, usize),
    /// Transactions that are on their way with blocks.
    InBlocks(BTreeSet<ShortId>),
    /// Answers to tasks that were run ahead.
    Answers(Vec<TxId>, Result<Vec<Result<Classes, PictureFault>>, InferenceError>),
    /// The miner has found a nonce.
    Mined(Header),
    /// The device has turned out faulty: what it computed is worth nothing.
    DeviceFault,
    /// The owner will not have this attachment, which the store refuses by now. Who is told how many transactions carried it, once
    /// nobody sees them any more.
    Forget(AttachmentHash, mpsc::Sender<usize>),
    /// End, and write down what is pending.
    Stop,
}

/// Hears of blocks taken off, highest first, and of those put on, lowest first.
pub type OnMove = Box<dyn Fn(&[Moved], &[Moved]) + Send>;

/// A move of the tip.
pub struct TipMove {
    /// Blocks taken off, highest first.
    pub disconnected: Vec<Moved>,
    /// Blocks put on, lowest first.
    pub connected: Vec<Moved>,
    /// The chain at the new tip.
    pub chain: Arc<AtTip>,
}

/// A block that this node has found.
#[derive(Debug)]
pub struct Found {
    /// With its nonce.
    pub header: Header,
    /// Its answers are this node's own.
    pub data: BlockData,
}

/// How the core tells the pool.
#[derive(Clone)]
pub struct Link {
    /// For all but moves.
    pub inbox: Sender<Input>,
    moves: SyncSender<TipMove>,
}

/// What the pool takes from.
pub struct Sources {
    inbox: Receiver<Input>,
    moves: mpsc::Receiver<TipMove>,
}

impl Link {
    /// Both ends.
    pub fn new() -> (Self, Sources) {
        let (sender, receiver) = inbox();
        let (moves, moved) = mpsc::sync_channel(MOVES);
        (Self { inbox: sender, moves }, Sources { inbox: receiver, moves: moved })
    }

    /// Tells of a move of the tip; waits while too many are to be followed. If the pool has ended, the node is about to.
    pub fn tell(&self, moved: TipMove) {
        drop(self.moves.send(moved));
        self.inbox.wake();
    }
}

/// What the pool has of the rest of the node.
pub struct Others {
    /// Where it shows itself.
    pub views: Arc<Views>,
    /// What time it is.
    pub clock: Clock,
    /// Where answers from inference and from the miner come back.
    pub inbox: Sender<Input>,
    /// Peers.
    pub network: NetworkHandle,
    /// Runs tasks.
    pub inference: InferenceHandle,
    /// Counts what is exchanged with peers.
    pub counted: Arc<Counted>,
    /// Writes the mempool down.
    pub keeper: Sender<keeper::Input>,
    /// Takes found blocks.
    pub found: Box<dyn Fn(Found) + Send>,
    /// Hears of moves of the tip that can be seen by whoever asks.
    pub moved: OnMove,
    /// Has the file of an upload checked, so that it may be published.
    pub unchecked: Box<dyn Fn(FinishedUpload) + Send>,
}

/// All that the pool's thread owns.
pub struct Pool {
    /// The tip that it has followed to.
    chain: Arc<AtTip>,
    mempool: Mempool,
    relaying: Relaying,
    waiting: Waiting,
    dropped: Dropped,
    ahead: Ahead,
    mine: Option<Mine>,
    faucet: Option<Faucet>,
    /// The mempool of before the restart, to be taken up again.
    left_over: VecDeque<Submission>,
    saved_at: u64,
    shown: PoolView,
    fees_at: Option<u64>,
    due: Due,
    complaints: LogLimit,
    others: Others,
}

/// What is said when what it tells of can be seen by whoever asks next.
#[derive(Default)]
struct Due {
    replies: Vec<(ReplyTo, Response)>,
    ordered: Vec<Ordered>,
    forgotten: Vec<(mpsc::Sender<usize>, usize)>,
}

impl Pool {
    /// A pool at the tip that `others.views` shows, with nothing in it but what is left of before.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn new(
        others: Others,
        mine: Option<Mine>,
        faucet: Option<FaucetConfig>,
        left_over: Vec<Submission>,
    ) -> Result<Self, NodeError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(std::io::Error::other)?;
        let (chain, now) = (others.views.newest(), others.clock.now());
        let asking = Asking::new(others.network.clone(), Arc::clone(&others.counted));
        Ok(Self {
            mempool: Mempool::new(MEMPOOL_BYTES, chain.tip.height),
            chain,
            relaying: Relaying::new(seed, asking),
            waiting: Waiting::default(),
            dropped: Dropped::default(),
            ahead: Ahead::default(),
            mine,
            faucet: faucet.map(Faucet::new),
            left_over: left_over.into(),
            saved_at: now,
            shown: PoolView::default(),
            fees_at: None,
            due: Due::default(),
            complaints: LogLimit::new("transactions of peers"),
            others,
        })
    }

    /// Runs until it is told to stop.
    ///
    /// # Errors
    /// If the store cannot be read, or a template does not connect.
    pub fn run(mut self, sources: &Sources) -> Result<(), NodeError> {
        let result = self.take_inputs(sources);
        if let Some(mine) = self.mine.take() {
            mine.stop();
        }
        self.save();
        result
    }

    fn take_inputs(&mut self, sources: &Sources) -> Result<(), NodeError> {
        loop {
            let patience = if self.left_over.is_empty() { self.patience() } else { Duration::ZERO };
            let input = match sources.inbox.next(patience) {
                Ok(Some(Input::Stop)) | Err(Closed) => return Ok(()),
                Ok(input) => input,
            };
            // Before what else has come: nothing is judged by an old tip where a new one is known.
            while let Ok(moved) = sources.moves.try_recv() {
                self.follow(moved)?;
            }
            if let Some(input) = input {
                self.handle(input)?;
            }
            self.do_what_is_due()?;
            self.show();
        }
    }

    /// How long there is nothing to do, at the longest.
    fn patience(&self) -> Duration {
        let now = self.others.clock.now();
        let wake = self.relaying.wake_at.map(|at| Duration::from_millis(at.saturating_sub(now)));
        wake.map_or(TICK, |wake| wake.min(TICK))
    }

    fn handle(&mut self, input: Input) -> Result<(), NodeError> {
        match input {
            Input::Connected { peer, light, group, direction } => self.on_connected(peer, light, group, direction),
            Input::Disconnected(peer) => self.on_disconnected(peer),
            Input::Ask(request, to) => self.on_request(*request, to),
            Input::Order(order) => self.on_order(*order),
            Input::Response(id, peer, result, bytes) => self.on_response(id, peer, result, bytes),
            Input::InBlocks(ids) => self.drive_relay(ocelli_protocol::relay::Input::InBlocks(ids)),
            Input::Answers(txids, result) => self.on_answers(&txids, result),
            Input::Mined(header) => self.on_mined(header),
            Input::DeviceFault => self.on_device_fault(),
            Input::Forget(attachment, to) => self.on_forget(&attachment, to),
            Input::Stop => {} // is for the loop
        }
        Ok(())
    }

    fn on_request(&mut self, request: Request, to: ReplyTo) {
        match request {
            Request::Submit(submission) => self.on_submit(submission, to),
            Request::Faucet(request) => self.on_faucet(request, to),
            Request::Announce { ids } => self.on_announced(ids, to),
            Request::Pending { ids } => self.reply(to, self.pending(&ids)),
            Request::Attachments { ids } => self.reply(to, self.attachments(&ids)),
            other => tracing::error!(?other, "a question came to the pool that is not the pool's"),
        }
    }

    fn do_what_is_due(&mut self) -> Result<(), NodeError> {
        let now = self.others.clock.now();
        self.wake_relay(now);
        self.take_up_left_over();
        self.run_ahead();
        self.refresh_template(now)?;
        if now.saturating_sub(self.saved_at) >= SAVE_MILLIS {
            self.saved_at = now;
            self.save();
        }
        Ok(())
    }

    /// Whether the core is catching up with many blocks: what is known here of accounts is old.
    fn is_far_behind(&self) -> bool {
        self.others.views.core().best_height > self.chain.tip.height + ocelli_protocol::assembly::CLOSE_BLOCKS
    }

    /// Answers when all that has happened is shown.
    fn reply(&mut self, to: ReplyTo, response: Response) {
        self.due.replies.push((to, response));
    }

    /// Follows a move of the tip: what is in a block leaves, what is in none any more comes back.
    fn follow(&mut self, moved: TipMove) -> Result<(), NodeError> {
        let TipMove { disconnected, connected, chain } = moved;
        self.chain = chain;
        self.follow_chain(&disconnected, &connected)?;
        self.tip_moved();
        self.fees_at = None;
        self.show();
        (self.others.moved)(&disconnected, &connected);
        Ok(())
    }

    /// Replaces the view if anything has changed, and says what has waited for that.
    fn show(&mut self) {
        let now = self.others.clock.now();
        let pending = self.mempool.pending();
        if self.fees_at.is_none_or(|at| now.saturating_sub(at) >= FEES_MILLIS) {
            self.fees_at = Some(now);
            self.shown.fees = Arc::new(self.mempool.fee_rates(bytes_with(MAX_ATTACHMENT_BYTES)));
        }
        self.shown.bytes = self.mempool.bytes() as u64;
        self.shown.pending = pending;
        self.shown.dropped = self.dropped.reasons();
        let view = View { chain: Arc::clone(&self.chain), pool: self.shown.clone() };
        self.others.views.show(view);
        for (to, response) in self.due.replies.drain(..) {
            to.send(&response);
        }
        for (to, result) in self.due.ordered.drain(..) {
            // Whoever has ordered may have gone.
            drop(to.send(result));
        }
        for (to, count) in self.due.forgotten.drain(..) {
            let _ = to.send(count); // who has asked may have gone
        }
    }

    /// Has the mempool written down.
    fn save(&self) {
        // What has not been taken up yet is not lost either.
        let left_over = self.left_over.iter().cloned().collect();
        self.others.keeper.send(keeper::Input::Mempool { pending: self.mempool.snapshot(), left_over });
    }
}

/// The chain as admission sees it, at a monotonic time.
fn tip<'a>(network: &'a Network, chain: &'a AtTip, now: u64) -> Tip<'a, Rows<Frozen>> {
    Tip { network, height: chain.tip.height, time: chain.header.time, state: &*chain.rows, now }
}

/// All of admission that is cheap: whether the mempool would take a transaction, and whether the node's owner would.
fn check(
    mempool: &Mempool,
    transaction: &Transaction,
    tip: &Tip<'_, Rows<Frozen>>,
    store: &Store,
) -> Result<(), Refusal> {
    mempool.check(transaction, tip)?;
    let Some(named) = transaction.attachment() else { return Ok(()) };
    // By the store as it is now: the tip's rows may be older than what the owner has said since.
    match store.is_forgotten(&named.hash) {
        Ok(false) => Ok(()),
        Ok(true) => Err(MempoolError::Forgotten(named.hash).into()),
        Err(error) => Err(AdmitError::Reader(error)),
    }
}

/// A store that cannot be read here is said; its core finds whether the node can go on.
fn say_unreadable(error: &StoreError) {
    tracing::error!(reason = full_message(error), "the pool cannot read the store");
}

/// A question that the store fails is answered so.
fn failed(error: &StoreError) -> Response {
    say_unreadable(error);
    Response::failed(format!("the node cannot read its store: {}", full_message(error)))
}

/// Who waits for which task's answer.
type Awaited = BTreeMap<TxId, Vec<ReplyTo>>;
