//! The chain thread: takes one input after the other, and does what is due.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use ocelli_consensus::{BlockHash, TxId};
use ocelli_protocol::limits::Limits;
use ocelli_protocol::mempool::Mempool;
use ocelli_protocol::message::{Announcement, Cookie, Request, Response, ShortId, Submission};
use ocelli_protocol::relay::{self, Relay};
use ocelli_protocol::sync::{self, Sync};
use ocelli_protocol::topic;

use super::admission::Delayed;
use super::config::Mining;
use super::faucet::{Faucet, FaucetConfig};
use super::input::{Input, ReplyTo, Results};
use super::mining::Mine;
use super::partial::{LOOK_MILLIS, Partial};
use super::progress::Progress;
use super::traffic::{Counted, Purpose};
use super::{NodeError, cookie, mempool_file, node_file};
use crate::chain::Chain;
use crate::inference;
use crate::log_limit::LogLimit;
use crate::network::{self, Event, GossipId, Peer, RequestId};
use crate::validation::Validation;

/// How often what is due by time is looked at, at the latest.
const TICK: Duration = Duration::from_millis(200);
/// And while old blocks are being pruned, a step of which begins when the one before has freed its files.
const PRUNING_TICK: Duration = Duration::from_millis(10);
/// How long to wait when inference has no room.
pub(super) const RETRY_MILLIS: u64 = 200;
/// How often the addresses of good peers are written down.
const SAVE_PEERS_MILLIS: u64 = 30_000;
/// How long bans wait to be written down after others were.
pub(super) const SAVE_BANS_MILLIS: u64 = 1_000;
/// How often the mempool is written down: what a killed node loses of it.
const SAVE_MEMPOOL_MILLIS: u64 = 300_000;
/// Bytes of transactions with their pixels that wait for a block.
const MEMPOOL_BYTES: usize = 64 << 20;

/// All that the chain thread owns. Its methods stand with their subject: blocks, transactions, requests, mining, peers.
pub(super) struct Service {
    pub(super) chain: Chain,
    pub(super) mempool: Mempool,
    pub(super) sync: Sync<Peer>,
    /// What the sync machine is to be told next.
    pub(super) sync_inputs: VecDeque<sync::Input<Peer>>,
    pub(super) is_driving_sync: bool,
    pub(super) relay: Relay<Peer>,
    /// What the relay machine is to be told next.
    pub(super) relay_inputs: VecDeque<relay::Input<Peer>>,
    pub(super) is_driving_relay: bool,
    /// When it wants to be woken, in milliseconds since 1970.
    pub(super) relay_wake: Option<u64>,
    pub(super) network: network::Handle,
    pub(super) inference: inference::Handle,
    pub(super) results: Results,
    pub(super) mine: Option<Mine>,
    pub(super) faucet: Option<Faucet>,
    pub(super) data: PathBuf,
    /// The gossip topic of this network's blocks.
    pub(super) blocks_topic: String,
    pub(super) started: Instant,
    /// What we have asked peers, by the network's name for it.
    pub(super) asked: HashMap<RequestId, (Asked, Purpose)>,
    pub(super) limits: Limits<Peer>,
    pub(super) delayed: Delayed,
    pub(super) traffic: Counted,
    /// Full peers, and what they last said of their chain.
    pub(super) peers: BTreeMap<Peer, Option<u64>>,
    /// Announced blocks whose transactions are being put together.
    pub(super) partial: BTreeMap<BlockHash, Partial>,
    /// What was asked for with blocks that are not yet validated.
    pub(super) in_blocks: BTreeMap<BlockHash, BTreeSet<ShortId>>,
    /// When it is looked next whether what they wait for has come, in milliseconds since 1970.
    look_at_waiting_at: u64,
    /// The last block that each peer has announced, and that was new.
    pub(super) announced: BTreeMap<Peer, BlockHash>,
    /// Announcements of peers whose last one is not yet validated: they wait their turn.
    pub(super) in_turn: VecDeque<(GossipId, Peer, Announcement)>,
    /// The latest blocks that this node has gossiped or passed on.
    pub(super) gossiped: VecDeque<BlockHash>,
    /// Blocks from the future, tried again when their time comes.
    pub(super) held: VecDeque<Announcement>,
    /// Blocks whose data or answers are being checked.
    pub(super) validation: Validation,
    /// Stored blocks whose answers a restart or a busy service has left unchecked.
    pub(super) to_check: VecDeque<BlockHash>,
    /// Blocks have been verified that may move the tip.
    pub(super) is_advance_due: bool,
    pub(super) progress: Progress,
    /// Who waits for which task's answer.
    pub(super) waiting: BTreeMap<TxId, Vec<ReplyTo>>,
    /// Tasks being run ahead of any block.
    pub(super) running: usize,
    /// When inference is asked again after it had no room, in milliseconds since 1970.
    pub(super) retry_at: u64,
    /// The mempool of before the restart, to be taken up again.
    pub(super) left_over: VecDeque<Submission>,
    pub(super) complaints: LogLimit,
    /// Of peers that have gone.
    pub(super) goings: LogLimit,
    timers: BTreeSet<(u64, sync::Timer<Peer>)>,
    /// The version of the bans that are on disk.
    pub(super) bans_saved: u64,
    pub(super) bans_saved_at: u64,
    /// What a [`Request::Control`] must hold.
    pub(super) cookie: Cookie,
    peers_saved_at: u64,
    mempool_saved_at: u64,
}

/// What a request to a peer was for.
pub(super) enum Asked {
    /// The sync machine's, by its own name for it.
    Sync(u64),
    /// The transactions that an announced block lacks.
    Transactions(BlockHash),
    /// That a peer is told of our tip.
    NewTip,
    /// The relay machine's, by its own name for it.
    Relay(u64),
}

impl Service {
    pub(super) fn new(
        chain: Chain,
        network: network::Handle,
        inference: inference::Handle,
        results: Results,
        data: PathBuf,
        mining: Option<Mining>,
        faucet: Option<FaucetConfig>,
    ) -> Result<Self, NodeError> {
        let mine = mining.map(|mining| Mine::start(mining, results.clone()));
        let blocks_topic = topic::blocks(chain.genesis());
        let to_check = chain.unchecked().into();
        let checked = results.clone();
        let leave = move |found| checked.leave(Input::Checked(found));
        let validation = Validation::new(chain.body_check().clone(), inference.clone(), leave);
        let (left_over, problem) = mempool_file::read(&data, chain.genesis(), MEMPOOL_BYTES);
        if let Some(reason) = problem {
            tracing::warn!(reason, taken = left_over.len(), "the saved mempool is damaged");
        }
        let cookie = cookie::make(&data)?;
        let (mut salt, mut seed) = ([0; 32], [0; 32]);
        getrandom::fill(&mut salt).map_err(std::io::Error::other)?;
        getrandom::fill(&mut seed).map_err(std::io::Error::other)?;
        Ok(Self {
            mempool: Mempool::new(MEMPOOL_BYTES),
            sync: Sync::new(chain.network(), salt),
            sync_inputs: VecDeque::new(),
            is_driving_sync: false,
            relay: Relay::new(seed),
            relay_inputs: VecDeque::new(),
            is_driving_relay: false,
            relay_wake: None,
            chain,
            network,
            inference,
            results,
            mine,
            faucet: faucet.map(Faucet::new),
            data,
            blocks_topic,
            started: Instant::now(),
            asked: HashMap::new(),
            limits: Limits::new(unix_millis()),
            delayed: Delayed::new(),
            complaints: LogLimit::new("complaints about peers"),
            goings: LogLimit::new("peers gone"),
            traffic: Counted::default(),
            peers: BTreeMap::new(),
            partial: BTreeMap::new(),
            in_blocks: BTreeMap::new(),
            look_at_waiting_at: 0,
            announced: BTreeMap::new(),
            in_turn: VecDeque::new(),
            gossiped: VecDeque::new(),
            held: VecDeque::new(),
            validation,
            to_check,
            is_advance_due: false,
            progress: Progress::new(Instant::now()),
            waiting: BTreeMap::new(),
            running: 0,
            retry_at: 0,
            left_over: left_over.into(),
            timers: BTreeSet::new(),
            bans_saved: 0,
            bans_saved_at: 0,
            cookie,
            peers_saved_at: unix_millis(),
            mempool_saved_at: unix_millis(),
        })
    }

    /// Runs until it is told to stop, or its store fails.
    pub(super) fn run(mut self, inputs: &Receiver<Input>, results: &Receiver<Input>) -> Result<(), NodeError> {
        let result = self.take_inputs(inputs, results);
        if let Some(mine) = self.mine.take() {
            mine.stop();
        }
        self.save_peers();
        self.save_bans();
        self.save_mempool();
        self.network.shutdown();
        node_file::remove(&self.data);
        cookie::remove(&self.data);
        result
    }

    fn take_inputs(&mut self, inputs: &Receiver<Input>, results: &Receiver<Input>) -> Result<(), NodeError> {
        // What a kill left between a block's data and the tip's move is taken up here.
        self.advance()?;
        self.check_left_over()?;
        loop {
            let patience = if self.left_over.is_empty() { self.patience() } else { Duration::ZERO };
            match inputs.recv_timeout(patience) {
                Ok(Input::Stop) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Ok(input) => self.handle(input)?,
                Err(RecvTimeoutError::Timeout) => {}
            }
            while let Ok(result) = results.try_recv() {
                self.handle(result)?;
            }
            if std::mem::take(&mut self.is_advance_due) {
                self.advance()?;
                self.drive_sync(sync::Input::BlocksChanged)?;
            }
            self.do_what_is_due()?;
        }
    }

    /// How long there is nothing to do, at the longest.
    fn patience(&self) -> Duration {
        let relay = self.relay_wake.map(|at| Duration::from_millis(at.saturating_sub(unix_millis())));
        let block = self.is_a_block_waiting().then_some(Duration::from_millis(LOOK_MILLIS));
        let tick = if self.chain.is_pruning() { PRUNING_TICK } else { TICK };
        [relay, block].into_iter().flatten().fold(tick, Duration::min)
    }

    fn handle(&mut self, input: Input) -> Result<(), NodeError> {
        match input {
            Input::Network(event) => self.on_event(event),
            Input::Ask(request, reply) => self.on_request(request, reply),
            Input::Outputs(txids, result) => self.on_outputs(&txids, result),
            Input::Response(id, peer, result, bytes) => self.on_response(id, peer, result, bytes),
            Input::Checked(checked) => self.on_checked(checked),
            Input::Mined(header) => self.on_mined(header),
            Input::DeviceFault => {
                self.on_device_fault();
                Ok(())
            }
            Input::Wake | Input::Stop => Ok(()), // both are for the loop
        }
    }

    fn on_event(&mut self, event: Event) -> Result<(), NodeError> {
        match event {
            Event::Listening(address) => self.on_listening(&address),
            Event::Connected { peer, light, group, inbound, .. } => {
                if let Some(faucet) = &mut self.faucet {
                    faucet.connected(peer, group);
                }
                let direction = if inbound { sync::Direction::Inbound } else { sync::Direction::Dialled };
                self.on_connected(peer, light, sync::Group(group.id()), direction)
            }
            Event::Disconnected { peer } => {
                if let Some(faucet) = &mut self.faucet {
                    faucet.disconnected(peer);
                }
                self.on_disconnected(peer)
            }
            Event::Gossip { id, topic, source, data } => self.on_gossip(id, &topic, source, &data),
            Event::Request { peer, token, data } => self.on_peer_request(peer, token, &data),
            Event::MissedGossip { peer } => {
                self.tell_tip(|other| other == peer);
                Ok(())
            }
            Event::Response { .. } => Ok(()), // decoded before it gets here
            Event::DialFailed { address, reason } => {
                tracing::debug!(address, %reason, "no connection");
                Ok(())
            }
        }
    }

    fn do_what_is_due(&mut self) -> Result<(), NodeError> {
        let now = unix_millis();
        while let Some(&(at, timer)) = self.timers.first().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, timer));
            self.drive_sync(sync::Input::TimerFired(timer))?;
        }
        self.wake_relay(now);
        self.answer_delayed(now);
        self.take_next_in_turn()?;
        self.try_held()?;
        if now >= self.look_at_waiting_at {
            self.look_at_waiting_at = now + LOOK_MILLIS;
            self.look_at_waiting()?;
        }
        self.forget_partial(now);
        self.check_left_over()?;
        self.take_up_mempool();
        self.run_ahead();
        self.refresh_template(now)?;
        self.chain.prune()?;
        self.save_bans_at(now);
        if now.saturating_sub(self.mempool_saved_at) >= SAVE_MEMPOOL_MILLIS {
            self.mempool_saved_at = now;
            self.save_mempool();
        }
        if now.saturating_sub(self.peers_saved_at) >= SAVE_PEERS_MILLIS {
            self.peers_saved_at = now;
            self.chain.store().check_folder()?;
            self.save_peers();
        }
        Ok(())
    }

    pub(super) fn set_timer(&mut self, timer: sync::Timer<Peer>, at: u64) {
        self.timers.retain(|(_, other)| *other != timer);
        self.timers.insert((at, timer));
    }

    /// Asks a peer, and remembers what for.
    pub(super) fn ask(&mut self, peer: Peer, request: &Request, asked: Asked) {
        let (bytes, purpose) = (request.to_bytes(), Purpose::of(request));
        self.traffic.sent(purpose, bytes.len());
        let id = self.network.request(peer, bytes);
        self.asked.insert(id, (asked, purpose));
    }

    /// Answers whoever waits.
    pub(super) fn reply(&mut self, to: ReplyTo, response: &Response) {
        match to {
            ReplyTo::Peer(peer, token, purpose) => {
                let bytes = response.to_bytes();
                self.traffic.sent(purpose, bytes.len());
                self.limits.charge(peer, bytes.len(), unix_millis());
                self.network.respond(token, bytes);
            }
            // Whoever asked may have gone.
            ReplyTo::Local(sender) => drop(sender.try_send(response.clone())),
        }
    }
}

/// Milliseconds since 1970 by this machine's clock. Nothing that is valid or not depends on it.
pub(crate) fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Seconds since 1970 by this machine's clock.
pub(super) fn unix_seconds() -> u64 {
    unix_millis() / 1000
}
