//! Peers and a chain on virtual time: real headers, each of which takes one or two hashes, so that work is height + 1.
//! Insertion order breaks ties.

use std::sync::LazyLock;

use ocelli_consensus::block::Answer;
use ocelli_consensus::fork_choice::{BlockStatus, HeaderTree};
use ocelli_consensus::transaction::Form;
use ocelli_consensus::{AttachmentHash, CompactTarget, Work};

use super::*;

/// Milliseconds that a message takes.
const LATENCY: u64 = 20;
/// Milliseconds that a block's validation takes.
const VALIDATION: u64 = 2;
/// How long a slow peer takes for blocks.
const SLOW: u64 = 8_000;
/// How long a liar takes that is never too late.
const LATE: u64 = 9_500;
/// How long an honest peer on a bad line takes.
const SLUGGISH: u64 = 4_000;

/// How a peer behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Honest,
    /// Takes [`SLOW`] for blocks.
    Slow,
    /// Tells its status and nothing else.
    StallsData,
    /// Serves headers and no blocks.
    StallsBlocks,
    StallsAll,
    /// Claims the most work possible.
    ClaimsTooMuch,
    /// Claims the most work possible, and tells nothing else.
    ClaimsAndStalls,
    /// Has the blocks of even or odd heights.
    ServesParity(u64),
    /// Sends the data of another block.
    WrongData,
    /// Answers everything but its status with a failure.
    Refuses,
    /// Claims the most work possible, and whenever headers are asked for from the start, has other ones.
    Switches,
    /// Claims the most work possible, and sends one byte of its answers a second.
    Trickles,
    /// Claims the most work possible, sends headers of the start again and again, and has no block: all [`LATE`].
    KnownLate,
    /// As many headers as the honest have, and no block.
    Lacks,
    /// As [`Mode::Lacks`], but its answers come [`LATE`].
    LacksLate,
    /// Claims the most work possible, is of use for [`TURN`] answers, and says nothing any more.
    Turns,
    /// Blocks without their attachments.
    Pruned,
    /// All there is, but takes [`SLUGGISH`] for it.
    Sluggish,
}

impl Mode {
    fn claims_all(self) -> bool {
        matches!(
            self,
            Self::ClaimsTooMuch
                | Self::ClaimsAndStalls
                | Self::Switches
                | Self::Trickles
                | Self::KnownLate
                | Self::Turns
        )
    }

    /// Milliseconds until an answer is here.
    fn delay(self, request: &Request) -> u64 {
        match (self, request) {
            (_, Request::Status) => 2 * LATENCY,
            (Self::Slow, Request::Blocks { .. }) => SLOW,
            (Self::Trickles, _) => 3_600_000,
            (Self::KnownLate | Self::LacksLate, _) => LATE,
            (Self::Sluggish, _) => SLUGGISH,
            _ => 2 * LATENCY,
        }
    }
}

pub static NETWORK: LazyLock<Network> = LazyLock::new(|| {
    let mut parameters = Network::builtin("local").expect("built in").parameters;
    parameters.easiest_target = CompactTarget(0x2100_ffff);
    Network::new(parameters, vec![])
});

pub fn genesis() -> Header {
    NETWORK.genesis.clone()
}

/// A chain's work, by the number of its blocks without genesis.
pub fn work(blocks: u64) -> U256 {
    U256::from(blocks + 1)
}

/// `count` headers on a parent; another salt gives others. They come on time, so that the target never changes.
pub fn extend(parent: &Header, count: usize, salt: u64) -> Vec<Header> {
    extend_in(parent, count, salt, parent.version)
}

/// The same with another version.
pub fn extend_in(parent: &Header, count: usize, salt: u64, version: u32) -> Vec<Header> {
    let mut headers: Vec<Header> = Vec::new();
    let mut miner = [0; 20];
    miner[..8].copy_from_slice(&salt.to_le_bytes());
    for _ in 0..count {
        let parent = headers.last().unwrap_or(parent);
        let (height, time) = (parent.height + 1, parent.time + NETWORK.parameters.spacing);
        let (parent, miner) = (parent.hash(), Address(miner));
        let mut header = Header { version, parent, height, time, miner, nonce: 0, ..genesis() };
        let target = header.target.to_target().expect("the easiest");
        while !target.is_met_by(header.hash().0) {
            header.nonce += 1;
        }
        headers.push(header);
    }
    headers
}

/// A block's data: one transfer that names height and salt.
pub fn data_of(header: &Header) -> BlockData {
    let action = Action::Transfer { to: Address([0; 20]), amount: Amount(u64::from(header.miner.0[0])) };
    let unsigned = Unsigned { nonce: header.height, fee: Amount(1), expires: 0, action };
    let transaction = Transaction { unsigned, public_key: [0; 32], signature: [0; 64] };
    BlockData { body: Body { transactions: vec![(transaction, Answer::None)] }, attachments: vec![None] }
}

/// A block's data with a task whose picture is forgotten.
pub fn pruned_data_of(header: &Header) -> BlockData {
    let mut data = data_of(header);
    data.body.transactions[0].0.unsigned.action = Action::Classify {
        model: ModelId([1; 32]),
        picture: AttachmentHash([2; 32]),
        bytes: 1,
        royalty: Amount(0),
        form: Form::Pixels,
    };
    data
}

/// Our side: headers, whose bodies are here, which are being validated.
pub struct Chain {
    tree: HeaderTree,
    headers: BTreeMap<BlockHash, Header>,
    pub validating: BTreeSet<BlockHash>,
    /// Blocks that are taken without their attachments.
    pub may_lack_attachments: BTreeSet<BlockHash>,
    pub minimum_work: U256,
}

impl Chain {
    pub fn new() -> Self {
        Self {
            tree: HeaderTree::new(&genesis()),
            headers: BTreeMap::new(),
            validating: BTreeSet::new(),
            may_lack_attachments: BTreeSet::new(),
            minimum_work: U256::ZERO,
        }
    }

    pub fn add_headers(&mut self, headers: &[Header]) {
        for header in headers {
            let hash = self.tree.insert(&NETWORK, header).expect("sync hands over only good headers");
            self.headers.insert(hash, header.clone());
        }
    }

    pub fn add_body(&mut self, hash: BlockHash) {
        self.validating.remove(&hash);
        self.tree.set_status(hash, BlockStatus::Verified);
    }

    /// Headers stored, genesis among them.
    pub fn len(&self) -> usize {
        self.tree.len()
    }

    pub fn tip(&self) -> BlockHash {
        self.tree.best_header().hash
    }

    /// Height up to which all bodies are here.
    pub fn connected(&self) -> u64 {
        let first = self.tree.beyond_connectable().next();
        first.map_or(self.tree.best_header().height, |node| node.height - 1)
    }
}

impl ChainView for Chain {
    fn tree(&self) -> &HeaderTree {
        &self.tree
    }

    fn is_in_validation(&self, hash: &BlockHash) -> bool {
        self.validating.contains(hash)
    }

    fn in_validation(&self) -> usize {
        self.validating.len()
    }

    fn may_lack_attachments(&self, hash: &BlockHash) -> bool {
        self.may_lack_attachments.contains(hash)
    }

    fn minimum_work(&self) -> U256 {
        self.minimum_work
    }
}

struct Remote {
    chain: Vec<Header>,
    /// What it serves next, if it switches.
    other: Vec<Header>,
    /// Height above genesis, counted from 0, by hash.
    places: BTreeMap<BlockHash, usize>,
    mode: Mode,
    /// Questions for headers and blocks.
    asked: usize,
}

impl Remote {
    fn new(chain: &[Header], mode: Mode) -> Self {
        let other = if mode == Mode::Switches { extend(&genesis(), chain.len(), 99) } else { vec![] };
        Self { chain: chain.to_vec(), other, places: Self::places(chain), mode, asked: 0 }
    }

    fn places(chain: &[Header]) -> BTreeMap<BlockHash, usize> {
        chain.iter().enumerate().map(|(at, header)| (header.hash(), at)).collect()
    }
}

/// Answers of a peer that turns.
const TURN: usize = 3;

/// Peers that are replaced by new ones again and again.
#[derive(Clone, Copy, Debug)]
pub struct Churn {
    pub mode: Mode,
    pub group: u64,
    pub direction: Direction,
    /// Milliseconds that each stays.
    pub stay: u64,
}

/// A peer that was dialled, in a group of its own.
pub fn connected(peer: u16) -> Input<u16> {
    Input::PeerConnected { peer, group: group_of(peer), direction: Direction::Dialled }
}

fn group_of(peer: u16) -> Group {
    Group(1_000 + u64::from(peer))
}

enum Event {
    /// A peer leaves, and the next takes its place.
    Replaced(u16, Churn),
    Input(Input<u16>),
    Timer(Timer<u16>),
    Validated(BlockHash),
    Refused(u16, BlockHash),
}

/// Our sync, our chain and the peers.
pub struct Simulator {
    pub sync: Sync<u16>,
    pub chain: Chain,
    pub penalties: Vec<(u16, Offence)>,
    /// Chains of another version that were followed: of whom, the first header's version and height, what it stands on, and their work.
    pub others: Vec<(u16, u32, u64, BlockHash, Work)>,
    pub asked_headers: usize,
    /// Blocks that no peer serves.
    pub withheld: BTreeSet<BlockHash>,
    pub honest: BTreeSet<u16>,
    now: u64,
    sequence: u64,
    queue: BTreeMap<(u64, u64), Event>,
    timers: BTreeMap<Timer<u16>, u64>,
    remotes: BTreeMap<u16, Remote>,
    origins: BTreeMap<u16, (Group, Direction)>,
    /// What churning peers claim to have.
    churn_chain: Vec<Header>,
    next_churning: u16,
    /// How many blocks each peer has served.
    pub served: BTreeMap<u16, usize>,
    /// Most requests for blocks that were under way at a time.
    pub most_requests: usize,
    /// Requests for headers (`true`) or blocks under way: peer and id.
    in_flight: BTreeMap<(u16, u64), bool>,
}

impl Simulator {
    pub fn new() -> Self {
        Self::starting_at(0)
    }

    pub fn starting_at(now: u64) -> Self {
        Self {
            sync: Sync::new(&NETWORK, [7; 32]),
            chain: Chain::new(),
            penalties: vec![],
            others: vec![],
            asked_headers: 0,
            withheld: BTreeSet::new(),
            honest: BTreeSet::new(),
            now,
            sequence: 0,
            queue: BTreeMap::new(),
            timers: BTreeMap::new(),
            remotes: BTreeMap::new(),
            origins: BTreeMap::new(),
            churn_chain: vec![],
            next_churning: 1_000,
            served: BTreeMap::new(),
            most_requests: 0,
            in_flight: BTreeMap::new(),
        }
    }

    pub fn connect(&mut self, peer: u16, chain: &[Header], mode: Mode) {
        self.connect_from(peer, chain, mode, group_of(peer).0, Direction::Dialled);
    }

    pub fn connect_from(&mut self, peer: u16, chain: &[Header], mode: Mode, group: u64, direction: Direction) {
        self.remotes.insert(peer, Remote::new(chain, mode));
        self.origins.insert(peer, (Group(group), direction));
        self.input(Input::PeerConnected { peer, group: Group(group), direction });
    }

    /// Connects a peer that is replaced after its `stay`, the first after `phase`; for ever.
    pub fn churn(&mut self, chain: &[Header], churn: Churn, phase: u64) {
        self.churn_chain = chain.to_vec();
        let peer = self.connect_next(churn);
        self.schedule(phase, Event::Replaced(peer, churn));
    }

    fn connect_next(&mut self, churn: Churn) -> u16 {
        let peer = self.next_churning;
        self.next_churning += 1;
        let chain = self.churn_chain.clone();
        self.connect_from(peer, &chain, churn.mode, churn.group, churn.direction);
        peer
    }

    pub fn disconnect(&mut self, peer: u16) {
        self.remotes.remove(&peer);
        self.origins.remove(&peer);
        self.in_flight.retain(|(asked, _), _| *asked != peer);
        self.input(Input::PeerDisconnected(peer));
    }

    pub fn grow(&mut self, peer: u16, chain: &[Header]) {
        let remote = self.remotes.get_mut(&peer).expect("is connected");
        *remote = Remote::new(chain, remote.mode);
    }

    pub fn run_for(&mut self, duration: u64) {
        let end = self.now + duration;
        while self.step(end) {}
        self.now = end;
    }

    /// Returns the milliseconds it took.
    pub fn run_until_synced(&mut self, limit: u64) -> u64 {
        let start = self.now;
        while self.sync.state() != SyncState::Synced && self.step(start + limit) {}
        assert_eq!(self.sync.state(), SyncState::Synced, "after {limit} ms");
        self.now - start
    }

    /// Returns the milliseconds until so many blocks were connected, or nothing if they were not.
    pub fn run_until_connected(&mut self, blocks: u64, limit: u64) -> Option<u64> {
        let start = self.now;
        while self.chain.connected() < blocks && self.step(start + limit) {}
        (self.chain.connected() >= blocks).then_some(self.now - start)
    }

    pub fn input(&mut self, input: Input<u16>) {
        let outputs = self.sync.handle(input, self.now, &self.chain);
        assert!(self.sync.requests.len() <= MAX_BLOCK_REQUESTS + 2 * self.remotes.len());
        assert!(self.sync.in_flight.len() <= MAX_BLOCK_REQUESTS * MAX_BLOCKS);
        assert!(self.sync.unavailable.len() <= WINDOW);
        assert!(self.sync.peers.values().all(|peer| peer.lacks.len() <= WINDOW + MAX_BLOCK_REQUESTS * MAX_BLOCKS));
        for output in outputs {
            self.carry_out(output);
        }
        assert!(self.chain.validating.len() < MAX_IN_VALIDATION + MAX_BLOCK_REQUESTS * MAX_BLOCKS);
    }

    /// Our node is stopped and started again: what it was about is forgotten, what is stored is not.
    pub fn restart(&mut self) {
        self.sync = Sync::new(&NETWORK, [8; 32]);
        self.chain.validating.clear();
        self.queue.clear();
        self.timers.clear();
        self.in_flight.clear();
        let peers: Vec<u16> = self.remotes.keys().copied().collect();
        for peer in peers {
            let (group, direction) = self.origins[&peer];
            self.input(Input::PeerConnected { peer, group, direction });
        }
    }

    fn step(&mut self, end: u64) -> bool {
        let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= end) else { return false };
        let ((at, _), event) = entry.remove_entry();
        self.now = at;
        match event {
            Event::Input(Input::Response { peer, id, result }) => {
                self.in_flight.remove(&(peer, id));
                if let Ok(Response::Blocks(blocks)) = &result {
                    *self.served.entry(peer).or_default() += blocks.iter().flatten().count();
                }
                self.input(Input::Response { peer, id, result });
            }
            Event::Input(input) => self.input(input),
            Event::Timer(timer) => {
                // Moved timers leave their old event behind.
                if self.timers.get(&timer) == Some(&at) {
                    self.timers.remove(&timer);
                    if let Timer::Request(id) = timer {
                        self.in_flight.retain(|(_, other), _| *other != id);
                    }
                    self.input(Input::TimerFired(timer));
                }
            }
            Event::Replaced(peer, churn) => {
                self.disconnect(peer);
                let next = self.connect_next(churn);
                self.schedule(churn.stay, Event::Replaced(next, churn));
            }
            Event::Validated(hash) => {
                self.chain.add_body(hash);
                self.input(Input::BlocksChanged);
            }
            Event::Refused(peer, hash) => {
                self.chain.validating.remove(&hash);
                self.input(Input::BlockRefused { peer, hash });
            }
        }
        true
    }

    fn schedule(&mut self, after: u64, event: Event) {
        self.queue.insert((self.now + after, self.sequence), event);
        self.sequence += 1;
    }

    fn carry_out(&mut self, output: SyncAction<u16>) {
        match output {
            SyncAction::Send { peer, id, request } => {
                if request != Request::Status {
                    let is_headers = matches!(request, Request::Headers { .. });
                    self.in_flight.insert((peer, id), is_headers);
                    let with = |peer, headers| {
                        self.in_flight.iter().filter(|((to, _), kind)| *to == peer && **kind == headers).count()
                    };
                    assert!(with(peer, true) <= 1 && with(peer, false) <= MAX_REQUESTS_PER_PEER);
                    let blocks = self.in_flight.values().filter(|is_headers| !**is_headers).count();
                    self.most_requests = self.most_requests.max(blocks);
                    assert!(blocks <= MAX_BLOCK_REQUESTS);
                }
                self.asked_headers += usize::from(matches!(request, Request::Headers { .. }));
                let Some(remote) = self.remotes.get(&peer) else { return };
                if remote.mode == Mode::Switches
                    && matches!(&request, Request::Headers { locator, .. } if locator[0] == genesis().hash())
                    && let Some(remote) = self.remotes.get_mut(&peer)
                {
                    std::mem::swap(&mut remote.chain, &mut remote.other);
                    remote.places = Remote::places(&remote.chain);
                }
                if let Some(remote) = self.remotes.get_mut(&peer) {
                    remote.asked += usize::from(request != Request::Status);
                }
                let remote = &self.remotes[&peer];
                let Some(response) = self.serve(remote, &request) else { return };
                self.schedule(
                    remote.mode.delay(&request),
                    Event::Input(Input::Response { peer, id, result: Ok(response) }),
                );
            }
            SyncAction::ImportHeaders { peer, headers } => {
                assert!(!headers.is_empty());
                self.chain.add_headers(&headers);
                self.schedule(1, Event::Input(Input::HeadersImported { peer, result: HeaderImport::Connected }));
            }
            SyncAction::ImportBlock { peer, hash, data } => {
                assert!(self.chain.wants(&hash));
                self.chain.validating.insert(hash);
                let header = &self.chain.headers[&hash];
                let right = data == data_of(header) || data == pruned_data_of(header);
                self.schedule(VALIDATION, if right { Event::Validated(hash) } else { Event::Refused(peer, hash) });
            }
            SyncAction::OtherVersion { peer, version, height, fork, work } => {
                self.others.push((peer, version, height, fork, work));
            }
            SyncAction::Penalize { peer, offence } => self.penalties.push((peer, offence)),
            SyncAction::SetTimer { timer, at } => {
                assert!(at > self.now);
                self.timers.insert(timer, at);
                self.schedule(at - self.now, Event::Timer(timer));
            }
            SyncAction::State(_) => {}
        }
    }

    fn serve(&self, remote: &Remote, request: &Request) -> Option<Response> {
        match (remote.mode, request) {
            (Mode::StallsAll, _) => None,
            (Mode::Turns, Request::Headers { .. } | Request::Blocks { .. }) if remote.asked > TURN => None,
            (_, Request::Status) => {
                let tip = remote.chain.last().cloned().unwrap_or_else(genesis);
                let work = if remote.mode.claims_all() { U256::MAX } else { work(tip.height) };
                let (genesis, height, tip) = (genesis().hash(), tip.height, tip.hash());
                Some(Response::Status(ChainStatus { genesis, height, tip, work, next_rules: None }))
            }
            (Mode::StallsData | Mode::ClaimsAndStalls, _) | (Mode::StallsBlocks, Request::Blocks { .. }) => None,
            (Mode::Refuses, _) => Some(Response::failed("busy")),
            (Mode::KnownLate, Request::Headers { limit, .. }) => {
                Some(Response::Headers(remote.chain.iter().take(*limit as usize).cloned().collect()))
            }
            (Mode::KnownLate | Mode::Lacks | Mode::LacksLate, Request::Blocks { hashes }) => {
                Some(Response::Blocks(vec![None; hashes.len()]))
            }
            (_, Request::Headers { locator, limit }) => {
                let known = |hash: &BlockHash| remote.places.get(hash).map(|at| at + 1);
                let start = locator.iter().find_map(known).unwrap_or(0);
                let headers = remote.chain[start..].iter().take(*limit as usize).cloned().collect();
                Some(Response::Headers(headers))
            }
            (mode, Request::Blocks { hashes: asked }) => {
                let blocks = asked.iter().map(|hash| {
                    let header = &remote.chain[*remote.places.get(hash)?];
                    match mode {
                        _ if self.withheld.contains(hash) => None,
                        Mode::ServesParity(parity) if header.height % 2 != parity => None,
                        Mode::Pruned => Some(pruned_data_of(header)),
                        Mode::WrongData => Some(data_of(&genesis())),
                        _ => Some(data_of(header)),
                    }
                });
                Some(Response::Blocks(blocks.collect()))
            }
            (_, request) => panic!("sync does not ask {request:?}"),
        }
    }
}
