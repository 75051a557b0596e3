//! The events of a run.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use ocelli_consensus::fork_choice::Status;
use ocelli_consensus::{Address, BlockHash, CompactTarget, Header, Network, Root, U256, rules};
use ocelli_protocol::message::{BLOCKS_BYTES, BlockData, ChainStatus, MAX_BLOCKS, MAX_HEADERS, Request, Response};
use ocelli_protocol::sync::{HeaderImport, Input, Output, Parent, Timer};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::config::{Behaviour, Config, SECOND};
use crate::cost;
use crate::line::{Line, Message, Outgoing};
use crate::node::{MESH, MESH_HIGH, MESH_LOW, Node, Peer};
use crate::queue::Queue;
use crate::report::{Percentiles, Report};
use crate::world;

/// Peers that a node dials, and that it lets in: the node's own limits.
const TARGET_OUTBOUND: usize = 8;
const MAX_INBOUND: usize = 64;
/// Nodes that everybody dials first, and again for as long as there is no connection with them.
const BOOTSTRAP: usize = 4;
/// Between two looks at the connections.
const UPKEEP: u64 = 10 * SECOND;
/// Time after which an announced block is left to sync.
const PARTIAL_TIME: u64 = 5 * SECOND;
/// Blocks below the best that are still passed on.
const WORTH_FORWARDING: u64 = 6;
/// Before the first block: connections are made.
const WARM_UP: u64 = 30 * SECOND;
/// Blocks after the last that is counted, far apart: two branches of the same work stay until one of them grows.
const CLOSING: usize = 3;
/// Time before each of these, and after the last.
const QUIET: u64 = 90 * SECOND;
/// Percent of a latency that varies from message to message.
const JITTER: u64 = 10;

/// A block that was found.
#[derive(Debug)]
pub struct Block {
    pub number: usize,
    pub header: Header,
    pub hash: BlockHash,
    pub tasks: u64,
    pub found_at: u64,
    pub by: usize,
    /// Whether its answers are right.
    pub is_right: bool,
}

#[derive(Debug)]
enum Event {
    /// A chunk has gone out.
    Sent {
        node: usize,
        life: u64,
    },
    Deliver {
        from: usize,
        to: usize,
        connection: u64,
        message: Message,
    },
    /// An announcement's header and root were found right.
    Checked {
        node: usize,
        life: u64,
        from: usize,
        block: Arc<Block>,
    },
    Validated {
        node: usize,
        life: u64,
        block: Arc<Block>,
    },
    Timer {
        node: usize,
        life: u64,
        timer: Timer<usize>,
        at: u64,
    },
    /// An announced block is left to sync.
    Overdue {
        node: usize,
        life: u64,
        hash: BlockHash,
    },
    Upkeep {
        node: usize,
    },
    /// Somebody finds a block.
    Found,
    Leave {
        node: usize,
    },
    Return {
        node: usize,
    },
    Split,
    Heal,
    End,
}

/// Simulates what a configuration says.
pub fn run(config: &Config) -> Report {
    let mut simulation = Simulation::new(config.clone());
    simulation.run();
    simulation.report()
}

struct Simulation {
    config: Config,
    network: Network,
    random: ChaCha8Rng,
    now: u64,
    queue: Queue<Event>,
    nodes: Vec<Node>,
    /// Of each node.
    lines: Vec<Line>,
    connections: u64,
    blocks: Vec<Arc<Block>>,
    by_hash: HashMap<BlockHash, usize>,
    /// By block and node: when the announcement came, and when the block was validated; never is `u64::MAX`.
    announced_at: Vec<Vec<u64>>,
    validated_at: Vec<Vec<u64>>,
    is_split: bool,
    healed_at: Option<u64>,
    last_found_at: u64,
    received_bytes: u64,
    sent_bytes: u64,
    disconnected: u64,
    deepest_reorganisation: u64,
    wrong_bans: usize,
    events: u64,
    is_over: bool,
}

impl Simulation {
    fn new(config: Config) -> Self {
        let mut parameters = Network::builtin("testnet").expect("built in").parameters;
        parameters.spacing = config.spacing;
        // One hash in two or so is a block, and the target never moves: how often blocks come is decided here.
        parameters.easiest_target = CompactTarget(0x207f_ffff);
        parameters.half_life = 1 << 40;
        let network = Network::new(parameters, Vec::new());
        let mut random = ChaCha8Rng::seed_from_u64(config.seed);
        let first_dishonest = config.nodes - config.dishonest;
        let nodes = (0..config.nodes).map(|at| {
            let behaviour = (at >= first_dishonest).then_some(config.behaviour);
            Node::new(&network, behaviour, &mut random)
        });
        let nodes: Vec<_> = nodes.collect();
        let lines = nodes.iter().map(|node| Line::new(world::bandwidth(node.region, &mut random))).collect();
        Self {
            config,
            network,
            random,
            now: 0,
            queue: Queue::new(),
            nodes,
            lines,
            connections: 0,
            blocks: Vec::new(),
            by_hash: HashMap::new(),
            announced_at: Vec::new(),
            validated_at: Vec::new(),
            is_split: false,
            healed_at: None,
            last_found_at: 0,
            received_bytes: 0,
            sent_bytes: 0,
            disconnected: 0,
            deepest_reorganisation: 0,
            wrong_bans: 0,
            events: 0,
            is_over: false,
        }
    }

    fn run(&mut self) {
        for node in 0..self.nodes.len() {
            let at = self.random.random_range(0..SECOND);
            self.queue.push(at, Event::Upkeep { node });
            if self.config.churn.is_some() && node >= self.config.miners.max(BOOTSTRAP) {
                self.schedule_leaving(node);
            }
        }
        if let Some(partition) = self.config.partition {
            for node in &mut self.nodes {
                node.is_on_small_side = self.random.random_range(0..100) < partition.percent;
            }
            self.queue.push(partition.begin * SECOND, Event::Split);
            self.queue.push((partition.begin + partition.duration) * SECOND, Event::Heal);
        }
        self.queue.push(WARM_UP, Event::Found);
        while let Some((at, event)) = self.queue.pop() {
            self.now = at;
            self.events += 1;
            if matches!(event, Event::End) {
                return;
            }
            self.happen(event);
        }
    }

    fn happen(&mut self, event: Event) {
        let lives = |nodes: &[Node], node: usize, life: u64| nodes[node].is_online && nodes[node].life == life;
        match event {
            Event::Sent { node, life } if lives(&self.nodes, node, life) => self.on_sent(node),
            Event::Checked { node, life, from, block } if lives(&self.nodes, node, life) => {
                self.on_checked(node, from, &block);
            }
            Event::Validated { node, life, block } if lives(&self.nodes, node, life) => self.on_validated(node, &block),
            Event::Timer { node, life, timer, at } if lives(&self.nodes, node, life) => {
                // Moved timers leave their old event behind.
                if self.nodes[node].timers.get(&timer) == Some(&at) {
                    self.nodes[node].timers.remove(&timer);
                    if let Timer::Request(id) = timer {
                        self.nodes[node].asked.remove(&id);
                    }
                    self.drive(node, Input::TimerFired(timer));
                }
            }
            Event::Overdue { node, life, hash } if lives(&self.nodes, node, life) => {
                if self.nodes[node].partial.remove(&hash).is_some() {
                    self.drive(node, Input::BlocksChanged);
                }
            }
            Event::Sent { .. }
            | Event::Checked { .. }
            | Event::Validated { .. }
            | Event::Timer { .. }
            | Event::Overdue { .. } => {}
            Event::Deliver { from, to, connection, message } => {
                if self.nodes[to].peers.get(&from).is_some_and(|peer| peer.connection == connection) {
                    self.on_message(from, to, message);
                }
            }
            Event::Upkeep { node } => self.on_upkeep(node),
            Event::Found => self.on_found(),
            Event::Leave { node } => self.on_leave(node),
            Event::Return { node } => {
                self.nodes[node].is_online = true;
                self.dial_some(node);
                self.schedule_leaving(node);
            }
            Event::Split => {
                self.is_split = true;
                self.cut();
            }
            Event::Heal => {
                self.is_split = false;
                self.healed_at = Some(self.now);
            }
            Event::End => {}
        }
    }
}

// Blocks.
impl Simulation {
    fn on_found(&mut self) {
        let Config { blocks, miners, dishonest, dishonest_hash_percent, behaviour, .. } = self.config;
        if self.blocks.len() >= blocks {
            return self.close();
        }
        let wait = -(1.0 - self.random.random::<f64>()).ln() * (self.config.spacing * SECOND) as f64;
        self.queue.push(self.now + wait as u64, Event::Found);
        let is_dishonest = dishonest > 0 && self.random.random_range(0..100) < dishonest_hash_percent;
        let miner = if is_dishonest {
            self.nodes.len() - 1 - self.random.random_range(0..dishonest)
        } else {
            self.random.random_range(0..miners)
        };
        let block = self.make_block(miner, !(is_dishonest && behaviour == Behaviour::Forges));
        self.take_own(miner, &block);
        if is_dishonest && behaviour == Behaviour::MinesSelfishly {
            let published = self.nodes[miner].selfish.on_found(block);
            return self.publish(miner, published);
        }
        self.pass_on(miner, None, &block);
        self.drive(miner, Input::BlocksChanged);
    }

    /// The last blocks that count were found: a miner finds some more, with time between them.
    fn close(&mut self) {
        if !self.is_over {
            self.is_over = true;
            for node in 0..self.nodes.len() {
                let left = self.nodes[node].selfish.finish();
                self.publish(node, left);
            }
        } else if self.blocks.len() < self.config.blocks + CLOSING {
            let block = self.make_block(0, true);
            self.take_own(0, &block);
            self.pass_on(0, None, &block);
            self.drive(0, Input::BlocksChanged);
        } else {
            return self.queue.push(self.now, Event::End);
        }
        self.queue.push(self.now + QUIET, Event::Found);
    }

    /// A miner's own block is on its chain at once; one with wrong answers is not.
    fn take_own(&mut self, miner: usize, block: &Block) {
        let node = &mut self.nodes[miner];
        node.tree.insert(&self.network.parameters, block.header.clone()).expect("made by the rules");
        node.tree.set_status(block.hash, if block.is_right { Status::Verified } else { Status::Invalid });
        self.announced_at[block.number][miner] = self.now;
        self.validated_at[block.number][miner] = self.now;
    }

    fn make_block(&mut self, miner: usize, is_right: bool) -> Arc<Block> {
        let parameters = &self.network.parameters;
        let parent = self.nodes[miner].tree.best_candidate();
        let number = self.blocks.len();
        let mut body = [0; 32];
        body[..8].copy_from_slice(&(number as u64).to_le_bytes());
        let mut address = [0; 20];
        address[..8].copy_from_slice(&(miner as u64).to_le_bytes());
        let mut header = Header {
            version: parameters.version_at(parent.header.height + 1),
            parent: parent.hash,
            history: Root([0; 32]),
            state: Root([0; 32]),
            body: Root(body),
            miner: Address(address),
            height: parent.header.height + 1,
            time: (parent.header.time + 1).max(parameters.genesis_time + self.now / SECOND),
            target: rules::expected_target(parameters, &parent.header, parent.anchor()),
            nonce: 0,
        };
        let target = header.target.to_target().expect("the rules give a target");
        while !target.is_met_by(header.hash().0) {
            header.nonce += 1;
        }
        let (hash, tasks) = (header.hash(), self.config.tasks_per_block);
        let block = Arc::new(Block { number, header, hash, tasks, found_at: self.now, by: miner, is_right });
        self.by_hash.insert(hash, number);
        self.blocks.push(block.clone());
        self.announced_at.push(vec![u64::MAX; self.nodes.len()]);
        self.validated_at.push(vec![u64::MAX; self.nodes.len()]);
        if number < self.config.blocks {
            self.last_found_at = self.now;
        }
        block
    }

    fn publish(&mut self, node: usize, blocks: Vec<Arc<Block>>) {
        for block in blocks {
            self.pass_on(node, None, &block);
        }
    }

    fn pass_on(&mut self, node: usize, from: Option<usize>, block: &Arc<Block>) {
        let bytes = cost::announcement(block.tasks, self.config.announced_task_bytes);
        let peers = self.nodes[node].peers.iter();
        let peers = peers.filter(|(peer, state)| state.is_in_mesh && Some(**peer) != from).map(|(peer, _)| *peer);
        for peer in peers.collect::<Vec<_>>() {
            self.send(node, peer, Message::Announcement(block.clone()), bytes);
        }
    }

    fn on_announcement(&mut self, from: usize, to: usize, block: Arc<Block>) {
        // Gossip tells a message once.
        let seen = &mut self.announced_at[block.number][to];
        if *seen != u64::MAX {
            return;
        }
        *seen = self.now;
        let node = &self.nodes[to];
        if node.behaviour == Some(Behaviour::Withholds) {
            return;
        }
        if node.tree.get(&block.header.parent).is_none() {
            let (hash, height) = (block.hash, block.header.height);
            return self.drive(to, Input::Announced { peer: from, hash, height, parent: Parent::Unknown });
        }
        let at = self.now + cost::check_announcement(block.tasks);
        self.queue.push(at, Event::Checked { node: to, life: node.life, from, block });
    }

    fn on_checked(&mut self, at: usize, from: usize, block: &Arc<Block>) {
        let hash = block.hash;
        let node = &mut self.nodes[at];
        if node.tree.insert(&self.network.parameters, block.header.clone()).is_err() {
            return;
        }
        let is_wanted = node.tree.get(&hash).is_some_and(|node| node.status == Status::Header);
        let is_worth = block.header.height + WORTH_FORWARDING >= node.tree.best_candidate().header.height;
        if !is_wanted || node.partial.contains_key(&hash) || node.tree.is_condemned(&hash) || !is_worth {
            return;
        }
        let is_validating = node.validating.contains(&hash);
        self.pass_on(at, Some(from), block);
        if is_validating {
            return;
        }
        let missing = block.tasks * self.config.missing_permille / 1_000;
        if missing == 0 {
            self.validate(at, block.number, 0);
        } else if self.nodes[at].peers.contains_key(&from)
            && !self.nodes[at].partial.values().any(|other| *other == from)
        {
            let node = &mut self.nodes[at];
            node.partial.insert(hash, from);
            let life = node.life;
            self.queue.push(self.now + PARTIAL_TIME, Event::Overdue { node: at, life, hash });
            self.send(at, from, Message::Missing(hash, missing), 36 + 4 * missing);
        }
        self.drive(at, Input::BlocksChanged);
    }

    /// Somebody misses tasks of a block that was announced to it.
    fn on_missing(&mut self, from: usize, to: usize, hash: BlockHash, count: u64) {
        if self.nodes[to].behaviour == Some(Behaviour::Withholds) {
            return;
        }
        // Who has just passed it on may itself still miss some, others as a rule.
        let chance = (1.0 - self.config.missing_permille as f64 / 1_000.0).powi(count as i32);
        if self.nodes[to].has_data(&hash) || self.random.random::<f64>() < chance {
            self.send(to, from, Message::Found(hash), 12 + count * cost::WHOLE_TASK);
        }
    }

    fn validate(&mut self, at: usize, number: usize, missing: u64) {
        let block = self.blocks[number].clone();
        let node = &mut self.nodes[at];
        if node.validating.insert(block.hash) {
            node.busy_until = node.busy_until.max(self.now) + cost::validate(block.tasks, missing);
            self.queue.push(node.busy_until, Event::Validated { node: at, life: node.life, block });
        }
    }

    fn on_validated(&mut self, at: usize, block: &Arc<Block>) {
        let node = &mut self.nodes[at];
        let before = node.tree.best_candidate().hash;
        node.validating.remove(&block.hash);
        node.tree.set_status(block.hash, if block.is_right { Status::Verified } else { Status::Invalid });
        let validated = &mut self.validated_at[block.number][at];
        *validated = self.now.min(*validated);
        let after = node.tree.best_candidate().hash;
        if before != after
            && let Some(fork) = node.tree.fork_point(&before, &after)
        {
            let depth = node.tree.get(&before).map_or(0, |tip| tip.header.height - fork.header.height);
            self.disconnected += depth;
            self.deepest_reorganisation = self.deepest_reorganisation.max(depth);
        }
        if node.behaviour == Some(Behaviour::MinesSelfishly) && block.by != at {
            let published = self.nodes[at].selfish.on_public(block.header.height);
            self.publish(at, published);
        }
        self.drive(at, Input::BlocksChanged);
    }
}

// Messages.
impl Simulation {
    fn send(&mut self, from: usize, to: usize, message: Message, bytes: u64) {
        let Some(peer) = self.nodes[from].peers.get(&to) else { return };
        let outgoing = Outgoing::new(to, peer.connection, message, bytes + cost::FRAMING);
        self.lines[from].push(outgoing);
        self.begin_sending(from);
    }

    fn begin_sending(&mut self, from: usize) {
        let (nodes, announced, now, percent) = (&self.nodes, &self.announced_at, self.now, self.config.latency_percent);
        let node = &nodes[from];
        let is_needless = |outgoing: &Outgoing| match &outgoing.message {
            _ if !node.peers.contains_key(&outgoing.to) => true,
            // Who no longer waits has closed the stream.
            Message::Response(id, _) => !nodes[outgoing.to].asked.contains(id),
            // Who has a block says so (gossipsub 1.2's IDONTWANT), and what has not begun need not be sent.
            Message::Announcement(block) if outgoing.is_whole() => {
                let way = world::round_trip(node.region, nodes[outgoing.to].region) * percent / 100 / 2;
                announced[block.number][outgoing.to].saturating_add(way) <= now
            }
            _ => false,
        };
        if let Some(time) = self.lines[from].begin(is_needless) {
            self.queue.push(self.now + time, Event::Sent { node: from, life: node.life });
        }
    }

    fn on_sent(&mut self, from: usize) {
        if let Some(Outgoing { to, connection, message, bytes, .. }) = self.lines[from].end() {
            self.sent_bytes += bytes;
            let round_trip = world::round_trip(self.nodes[from].region, self.nodes[to].region);
            let round_trip = round_trip * self.config.latency_percent / 100;
            let varied = round_trip * self.random.random_range(100 - JITTER..=100 + JITTER) / 100;
            let at = self.now + varied / 2 + varied * cost::round_trips(bytes);
            let at = self.lines[to].receive(at, bytes);
            self.received_bytes += bytes;
            self.queue.push(at, Event::Deliver { from, to, connection, message });
        }
        self.begin_sending(from);
    }

    fn on_message(&mut self, from: usize, to: usize, message: Message) {
        match message {
            Message::Announcement(block) => self.on_announcement(from, to, block),
            Message::Missing(hash, count) => self.on_missing(from, to, hash, count),
            Message::Found(hash) => {
                if self.nodes[to].partial.remove(&hash).is_some()
                    && let Some(&number) = self.by_hash.get(&hash)
                {
                    let tasks = self.blocks[number].tasks;
                    self.validate(to, number, tasks * self.config.missing_permille / 1_000);
                    self.drive(to, Input::BlocksChanged);
                }
            }
            Message::Request(id, request) => self.on_request(from, to, id, &request),
            Message::Response(id, response) => {
                self.nodes[to].asked.remove(&id);
                let response = Arc::unwrap_or_clone(response);
                self.drive(to, Input::Response { peer: from, id, result: Ok(response) });
            }
        }
    }

    fn on_request(&mut self, from: usize, to: usize, id: u64, request: &Request) {
        let node = &self.nodes[to];
        let claims_all = node.behaviour == Some(Behaviour::Withholds);
        // What a selfish miner keeps back, it does not tell.
        let public = match node.selfish.first_private() {
            Some(block) => block.header.parent,
            None => node.tree.best_candidate().hash,
        };
        let mut bytes = 0;
        let response = match request {
            Request::Status => {
                let tip = node.tree.get(&public).expect("on the main chain");
                let work = if claims_all { U256::MAX } else { tip.work.0 };
                let (genesis, height) = (self.network.genesis_hash(), tip.header.height);
                Response::Status(ChainStatus { genesis, height, tip: tip.hash, work })
            }
            _ if claims_all => return,
            Request::Headers { locator, limit } => {
                let known = locator.iter().find(|hash| node.tree.is_ancestor(hash, &public));
                let path = known.and_then(|known| node.tree.path(known, &public)).unwrap_or_default();
                let headers = path.iter().filter_map(|hash| node.tree.get(hash)).map(|node| node.header.clone());
                Response::Headers(headers.take((*limit as usize).min(MAX_HEADERS)).collect())
            }
            Request::Blocks { hashes } => {
                let mut found = Vec::new();
                for hash in hashes.iter().take(MAX_BLOCKS) {
                    if bytes >= BLOCKS_BYTES as u64 {
                        break;
                    }
                    let block = self.by_hash.get(hash).map(|number| &self.blocks[*number]);
                    let block = block.filter(|block| node.selfish.is_public(block) && node.has_data(hash));
                    bytes += block.map_or(0, |block| block.tasks * cost::WHOLE_TASK);
                    found.push(block.map(|_| BlockData::default()));
                }
                Response::Blocks(found)
            }
            other => unreachable!("sync does not ask {other:?}"),
        };
        let bytes = cost::response(&response, bytes);
        self.send(to, from, Message::Response(id, Arc::new(response)), bytes);
    }

    /// Gives a node's sync an input and does what it says, and so on with what follows from that.
    fn drive(&mut self, at: usize, input: Input<usize>) {
        let mut inputs = VecDeque::from([input]);
        let mut unwanted = Vec::new();
        while let Some(input) = inputs.pop_front() {
            for output in self.nodes[at].handle(input, self.now / 1_000) {
                match output {
                    Output::Send { peer, id, request } => {
                        let bytes = cost::request(&request);
                        self.nodes[at].asked.insert(id);
                        self.send(at, peer, Message::Request(id, Arc::new(request)), bytes);
                    }
                    Output::ImportHeaders { peer, headers } => {
                        let tree = &mut self.nodes[at].tree;
                        let parameters = &self.network.parameters;
                        let taken =
                            headers.into_iter().try_for_each(|header| tree.insert(parameters, header).map(drop));
                        let result = if taken.is_ok() { HeaderImport::Connected } else { HeaderImport::Held };
                        inputs.push_back(Input::HeadersImported { peer, result });
                    }
                    Output::ImportBlock { hash, .. } => {
                        if let Some(&number) = self.by_hash.get(&hash) {
                            // Nothing of it was here before.
                            self.validate(at, number, self.blocks[number].tasks);
                        }
                    }
                    Output::Penalize { peer, offence } => {
                        if self.nodes[at].penalize(peer, offence) {
                            let is_wrong = self.nodes[at].behaviour.is_none() && self.nodes[peer].behaviour.is_none();
                            self.wrong_bans += usize::from(is_wrong);
                            unwanted.push(peer);
                        }
                    }
                    Output::SetTimer { timer, at: due } => {
                        let node = &mut self.nodes[at];
                        node.timers.insert(timer, due);
                        self.queue.push(due * 1_000, Event::Timer { node: at, life: node.life, timer, at: due });
                    }
                    Output::State(_) => {}
                }
            }
        }
        for peer in unwanted {
            self.disconnect(at, peer);
        }
    }
}

// Connections.
impl Simulation {
    fn on_upkeep(&mut self, at: usize) {
        self.queue.push(self.now + UPKEEP, Event::Upkeep { node: at });
        if !self.nodes[at].is_online {
            return;
        }
        self.dial_some(at);
        if let Some(interval) = self.config.exchange_seconds
            && self.now >= self.nodes[at].next_exchange
        {
            let first = self.nodes[at].next_exchange == 0;
            let wait = interval * SECOND;
            // Not all at the same time.
            let wait = if first { self.random.random_range(0..wait) } else { wait };
            self.nodes[at].next_exchange = self.now + wait;
            if !first {
                self.exchange(at);
            }
        }
        self.mend_mesh(at);
    }

    fn dial_some(&mut self, at: usize) {
        let bootstrap = self.random.random_range(0..BOOTSTRAP.min(self.nodes.len()));
        self.dial(at, bootstrap);
        for _ in 0..TARGET_OUTBOUND {
            if self.nodes[at].outbound() >= TARGET_OUTBOUND {
                break;
            }
            let other = self.random.random_range(0..self.nodes.len());
            self.dial(at, other);
        }
    }

    /// Dials one more, and leaves another one for it.
    fn exchange(&mut self, at: usize) {
        let other = self.random.random_range(0..self.nodes.len());
        if !self.dial(at, other) || self.nodes[at].outbound() <= TARGET_OUTBOUND {
            return;
        }
        let peers = self.nodes[at].peers.iter();
        let peers: Vec<usize> =
            peers.filter(|(peer, state)| state.is_outbound && **peer != other).map(|(peer, _)| *peer).collect();
        let left = peers[self.random.random_range(0..peers.len())];
        self.disconnect(at, left);
    }

    /// Whether they are connected now and were not before.
    fn dial(&mut self, from: usize, to: usize) -> bool {
        let (one, other) = (&self.nodes[from], &self.nodes[to]);
        let is_cut = self.is_split && one.is_on_small_side != other.is_on_small_side;
        let is_full = other.peers.len() - other.outbound() >= MAX_INBOUND;
        let is_banned = one.banned.contains(&to) || other.banned.contains(&from);
        if from == to || !other.is_online || one.peers.contains_key(&to) || is_cut || is_full || is_banned {
            return false;
        }
        let (a, b) = (one.mesh(), other.mesh());
        let is_in_mesh = a < MESH && b < MESH_HIGH || b < MESH_LOW && a < MESH_HIGH;
        self.connections += 1;
        for (one, other, is_outbound) in [(from, to, true), (to, from, false)] {
            let peer = Peer { connection: self.connections, is_in_mesh, is_outbound };
            self.nodes[one].peers.insert(other, peer);
        }
        self.drive(from, Input::PeerConnected(to));
        self.drive(to, Input::PeerConnected(from));
        true
    }

    fn mend_mesh(&mut self, at: usize) {
        let mut mesh = self.nodes[at].mesh();
        if mesh >= MESH_LOW {
            return;
        }
        let outside = self.nodes[at].peers.iter().filter(|(_, peer)| !peer.is_in_mesh);
        for other in outside.map(|(other, _)| *other).collect::<Vec<_>>() {
            if mesh >= MESH {
                break;
            }
            if self.nodes[other].mesh() < MESH_HIGH {
                for (one, other) in [(at, other), (other, at)] {
                    self.nodes[one].peers.entry(other).and_modify(|peer| peer.is_in_mesh = true);
                }
                mesh += 1;
            }
        }
    }

    fn disconnect(&mut self, one: usize, other: usize) {
        if self.nodes[one].peers.remove(&other).is_none() {
            return;
        }
        self.nodes[other].peers.remove(&one);
        for (at, peer) in [(one, other), (other, one)] {
            if self.nodes[at].is_online {
                self.nodes[at].partial.retain(|_, from| *from != peer);
                self.drive(at, Input::PeerDisconnected(peer));
            }
        }
    }

    fn cut(&mut self) {
        for at in 0..self.nodes.len() {
            let side = self.nodes[at].is_on_small_side;
            let across = self.nodes[at].peers.keys().filter(|peer| self.nodes[**peer].is_on_small_side != side);
            for peer in across.copied().collect::<Vec<_>>() {
                self.disconnect(at, peer);
            }
        }
    }

    fn schedule_leaving(&mut self, node: usize) {
        if let (Some(churn), false) = (self.config.churn, self.is_over) {
            let wait = -(1.0 - self.random.random::<f64>()).ln() * (churn.up * SECOND) as f64;
            self.queue.push(self.now + wait as u64, Event::Leave { node });
        }
    }

    fn on_leave(&mut self, node: usize) {
        let Some(churn) = self.config.churn.filter(|_| !self.is_over) else { return };
        let peers: Vec<usize> = self.nodes[node].peers.keys().copied().collect();
        self.nodes[node].stop(&self.network, &mut self.random);
        self.lines[node].clear();
        for peer in peers {
            self.nodes[peer].peers.remove(&node);
            self.nodes[peer].partial.retain(|_, from| *from != node);
            self.drive(peer, Input::PeerDisconnected(node));
        }
        let wait = -(1.0 - self.random.random::<f64>()).ln() * (churn.down * SECOND) as f64;
        self.queue.push(self.now + wait as u64, Event::Return { node });
    }
}

// The report.
impl Simulation {
    fn report(&self) -> Report {
        let honest: Vec<usize> = (0..self.nodes.len()).filter(|at| self.nodes[*at].behaviour.is_none()).collect();
        let there: Vec<usize> = honest.iter().copied().filter(|at| self.nodes[*at].is_online).collect();
        let tips: BTreeSet<BlockHash> = there.iter().map(|at| self.nodes[*at].tree.best_candidate().hash).collect();
        let tree = &self.nodes[0].tree;
        let tip = tree.best_candidate();
        let chain = tree.path(&self.network.genesis_hash(), &tip.hash).unwrap_or_default();
        let chain: BTreeSet<usize> = chain.iter().filter_map(|hash| self.by_hash.get(hash)).copied().collect();
        let is_dishonest = |block: &Block| self.nodes[block.by].behaviour.is_some();
        let of_honest = || self.counted().filter(|block| !is_dishonest(block));
        let delays = |times: &[Vec<u64>]| {
            let pairs = of_honest().flat_map(|block| {
                let others = honest.iter().filter(|at| **at != block.by).map(|at| times[block.number][*at]);
                others.filter(|at| *at != u64::MAX).map(|at| at.saturating_sub(block.found_at) / 1_000)
            });
            Percentiles::of(pairs.collect())
        };
        let nodes = self.nodes.len() as u64;
        Report {
            honest_blocks: of_honest().count(),
            stale_blocks: of_honest().filter(|block| !chain.contains(&block.number)).count(),
            chain_blocks: self.counted().filter(|block| chain.contains(&block.number)).count(),
            dishonest_on_chain: chain.iter().filter(|number| is_dishonest(&self.blocks[**number])).count(),
            dishonest_blocks: self.counted().filter(|block| is_dishonest(block)).count(),
            announced_ms: delays(&self.announced_at),
            validated_ms: delays(&self.validated_at),
            miners_ms: self.mean_among_miners(),
            received_bytes: self.received_bytes / nodes,
            sent_bytes: self.sent_bytes / nodes,
            seconds: self.last_found_at / SECOND,
            disconnected_permille: self.disconnected * 1_000 / nodes,
            deepest_reorganisation: self.deepest_reorganisation,
            heal_ms: self.heal_times(&honest, &chain),
            tips: tips.len(),
            behind: there.iter().filter(|at| self.nodes[**at].tree.best_candidate().hash != tip.hash).count(),
            honest_online: there.len(),
            wrong_bans: self.wrong_bans,
            events: self.events,
        }
    }

    /// All but the closing ones.
    fn counted(&self) -> impl Iterator<Item = &Arc<Block>> {
        self.blocks.iter().take(self.config.blocks)
    }

    fn mean_among_miners(&self) -> Option<u64> {
        let is_honest = |block: &&Arc<Block>| self.nodes[block.by].behaviour.is_none();
        let times = self.counted().filter(is_honest).flat_map(|block| {
            let others = (0..self.config.miners).filter(|at| *at != block.by);
            others
                .map(|at| self.validated_at[block.number][at])
                .filter(|at| *at != u64::MAX)
                .map(|at| at - block.found_at)
        });
        let (sum, count) = times.fold((0, 0), |(sum, count), time| (sum + time, count + 1));
        (sum / 1_000).checked_div(count)
    }

    /// From the end of the partition until a node had the last block that the winning side had found by then, of those nodes
    /// that did not have it.
    fn heal_times(&self, honest: &[usize], chain: &BTreeSet<usize>) -> Option<Percentiles> {
        let healed_at = self.healed_at?;
        let last = chain.iter().rev().find(|number| self.blocks[**number].found_at <= healed_at)?;
        let times = honest.iter().map(|at| self.validated_at[*last][*at]).filter(|at| *at > healed_at);
        // One that never had it counts as the whole rest of the run.
        Percentiles::of(times.map(|at| (at.min(self.now) - healed_at) / 1_000).collect())
    }
}
