//! Peers and a chain on virtual time. Work is height; insertion order breaks ties.

use super::*;

/// Milliseconds that a message takes.
const LATENCY: u64 = 20;
/// Milliseconds that a block's validation takes.
const VALIDATION: u64 = 2;

/// How a peer behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Honest,
    /// Tells its status and nothing else.
    StallsData,
    StallsAll,
    /// Claims the most work possible.
    ClaimsTooMuch,
    /// Has the blocks of even or odd heights.
    ServesParity(u64),
    /// Sends the data of another block.
    WrongData,
    /// Answers everything but its status with a failure.
    Refuses,
}

pub fn genesis() -> Header {
    Header {
        version: 1,
        parent: BlockHash([0; 32]),
        history: Root([0; 32]),
        state: Root([0; 32]),
        body: Root([0; 32]),
        miner: Address([0; 20]),
        height: 0,
        time: 0,
        target: CompactTarget(0x2000_ffff),
        nonce: 0,
    }
}

/// `count` headers on a parent; another salt gives others.
pub fn extend(parent: &Header, count: usize, salt: u64) -> Vec<Header> {
    let mut headers: Vec<Header> = Vec::new();
    for _ in 0..count {
        let parent = headers.last().unwrap_or(parent);
        headers.push(Header { parent: parent.hash(), height: parent.height + 1, nonce: salt, ..genesis() });
    }
    headers
}

/// A block's data: one transfer that names height and salt.
pub fn data_of(header: &Header) -> BlockData {
    let action = Action::Transfer { to: Address([0; 20]), amount: Amount(header.nonce) };
    let unsigned = Unsigned { nonce: header.height, fee: Amount(1), expires: 0, action };
    let transaction = Transaction { unsigned, public_key: [0; 32], signature: [0; 64] };
    BlockData { body: Body { transactions: vec![(transaction, None)] }, pixels: vec![None] }
}

/// Our side: headers, whose bodies are here, which are being validated.
pub struct Chain {
    headers: BTreeMap<BlockHash, Header>,
    /// The path to the header with most work, genesis first.
    best: Vec<BlockHash>,
    bodies: BTreeSet<BlockHash>,
    pub validating: BTreeSet<BlockHash>,
    /// Blocks that are taken without their pixels.
    pub may_lack_pixels: BTreeSet<BlockHash>,
}

impl Chain {
    pub fn new() -> Self {
        let hash = genesis().hash();
        Self {
            headers: BTreeMap::from([(hash, genesis())]),
            best: vec![hash],
            bodies: BTreeSet::from([hash]),
            validating: BTreeSet::new(),
            may_lack_pixels: BTreeSet::new(),
        }
    }

    pub fn add_headers(&mut self, headers: &[Header]) {
        for header in headers {
            assert!(self.headers.contains_key(&header.parent), "sync hands over only headers that connect");
            self.headers.insert(header.hash(), header.clone());
        }
        let Some(last) = headers.last().filter(|last| last.height > self.height()) else { return };
        let mut path = Vec::new();
        let mut at = last.clone();
        while self.best.get(at.height as usize) != Some(&at.hash()) {
            path.push(at.hash());
            at = self.headers[&at.parent].clone();
        }
        self.best.truncate(at.height as usize + 1);
        self.best.extend(path.into_iter().rev());
    }

    pub fn add_body(&mut self, hash: BlockHash) {
        self.validating.remove(&hash);
        self.bodies.insert(hash);
    }

    fn height(&self) -> u64 {
        self.best.len() as u64 - 1
    }

    pub fn tip(&self) -> BlockHash {
        *self.best.last().expect("genesis is there")
    }

    /// Height up to which all bodies are here.
    pub fn connected(&self) -> u64 {
        self.best.iter().take_while(|hash| self.bodies.contains(*hash)).count() as u64 - 1
    }
}

impl ChainView for Chain {
    fn locator(&self) -> Vec<BlockHash> {
        let mut locator = Vec::new();
        let (mut at, mut step) = (self.best.len() - 1, 1);
        while at > 0 {
            locator.push(self.best[at]);
            if locator.len() >= 10 {
                step *= 2;
            }
            at = at.saturating_sub(step);
        }
        locator.push(self.best[0]);
        locator
    }

    fn knows(&self, hash: &BlockHash) -> bool {
        self.headers.contains_key(hash)
    }

    fn missing(&self, max: usize) -> Vec<BlockHash> {
        let here = |hash: &BlockHash| self.bodies.contains(hash) || self.validating.contains(hash);
        self.best.iter().filter(|hash| !here(hash)).take(max).copied().collect()
    }

    fn in_validation(&self) -> usize {
        self.validating.len()
    }

    fn best_work(&self) -> U256 {
        U256::from(self.height())
    }

    fn may_lack_pixels(&self, hash: &BlockHash) -> bool {
        self.may_lack_pixels.contains(hash)
    }
}

struct Remote {
    chain: Vec<Header>,
    /// Height above genesis, counted from 0, by hash.
    places: BTreeMap<BlockHash, usize>,
    mode: Mode,
}

impl Remote {
    fn new(chain: &[Header], mode: Mode) -> Self {
        let places = chain.iter().enumerate().map(|(at, header)| (header.hash(), at)).collect();
        Self { chain: chain.to_vec(), places, mode }
    }
}

enum Event {
    Input(Input<u8>),
    Timer(Timer<u8>),
    Validated(BlockHash),
    Refused(u8, BlockHash),
}

/// Our sync, our chain and the peers.
pub struct Simulator {
    pub sync: Sync<u8>,
    pub chain: Chain,
    pub penalties: Vec<(u8, Offence)>,
    pub asked_headers: usize,
    /// Blocks that no peer serves.
    pub withheld: BTreeSet<BlockHash>,
    pub honest: BTreeSet<u8>,
    now: u64,
    sequence: u64,
    queue: BTreeMap<(u64, u64), Event>,
    timers: BTreeMap<Timer<u8>, u64>,
    remotes: BTreeMap<u8, Remote>,
    /// Requests for headers or blocks under way, by peer.
    in_flight: BTreeMap<u8, u64>,
}

impl Simulator {
    pub fn new() -> Self {
        Self {
            sync: Sync::new(genesis().hash()),
            chain: Chain::new(),
            penalties: vec![],
            asked_headers: 0,
            withheld: BTreeSet::new(),
            honest: BTreeSet::new(),
            now: 0,
            sequence: 0,
            queue: BTreeMap::new(),
            timers: BTreeMap::new(),
            remotes: BTreeMap::new(),
            in_flight: BTreeMap::new(),
        }
    }

    pub fn connect(&mut self, peer: u8, chain: &[Header], mode: Mode) {
        self.remotes.insert(peer, Remote::new(chain, mode));
        self.input(Input::PeerConnected(peer));
    }

    pub fn disconnect(&mut self, peer: u8) {
        self.remotes.remove(&peer);
        self.in_flight.remove(&peer);
        self.input(Input::PeerDisconnected(peer));
    }

    pub fn grow(&mut self, peer: u8, chain: &[Header]) {
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
        while self.sync.state() != State::Synced && self.step(start + limit) {}
        assert_eq!(self.sync.state(), State::Synced, "after {limit} ms");
        self.now - start
    }

    pub fn input(&mut self, input: Input<u8>) {
        let outputs = self.sync.handle(input, self.now, &self.chain);
        assert!(self.sync.requests.len() <= 2 * self.remotes.len());
        assert!(self.sync.unavailable.len() <= LOOKAHEAD + MAX_BLOCKS);
        assert!(self.sync.peers.values().all(|peer| peer.lacks.len() <= LOOKAHEAD + MAX_BLOCKS));
        for output in outputs {
            self.carry_out(output);
        }
        assert!(self.chain.validating.len() < MAX_IN_VALIDATION + MAX_BLOCKS);
    }

    fn step(&mut self, end: u64) -> bool {
        let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= end) else { return false };
        let ((at, _), event) = entry.remove_entry();
        self.now = at;
        match event {
            Event::Input(Input::Response { peer, id, result }) => {
                if self.in_flight.get(&peer) == Some(&id) {
                    self.in_flight.remove(&peer);
                }
                self.input(Input::Response { peer, id, result });
            }
            Event::Input(input) => self.input(input),
            Event::Timer(timer) => {
                // Moved timers leave their old event behind.
                if self.timers.get(&timer) == Some(&at) {
                    self.timers.remove(&timer);
                    if let Timer::Request(id) = timer {
                        self.in_flight.retain(|_, other| *other != id);
                    }
                    self.input(Input::TimerFired(timer));
                }
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

    fn carry_out(&mut self, output: Output<u8>) {
        match output {
            Output::Send { peer, id, request } => {
                if request != Request::Status {
                    assert_eq!(self.in_flight.insert(peer, id), None, "one request in flight");
                }
                self.asked_headers += usize::from(matches!(request, Request::Headers { .. }));
                let Some(response) = self.remotes.get(&peer).and_then(|remote| self.serve(remote, &request)) else {
                    return;
                };
                self.schedule(2 * LATENCY, Event::Input(Input::Response { peer, id, result: Ok(response) }));
            }
            Output::ImportHeaders { peer, headers } => {
                let (count, tip) = (headers.len(), headers.last().expect("never empty").hash());
                self.chain.add_headers(&headers);
                let result = HeaderImport::Connected;
                self.schedule(1, Event::Input(Input::HeadersImported { peer, count, tip, result }));
            }
            Output::ImportBlock { peer, hash, data } => {
                assert!(!self.chain.bodies.contains(&hash) && !self.chain.validating.contains(&hash));
                self.chain.validating.insert(hash);
                let right = data == data_of(&self.chain.headers[&hash]);
                self.schedule(VALIDATION, if right { Event::Validated(hash) } else { Event::Refused(peer, hash) });
            }
            Output::Penalize { peer, offence } => self.penalties.push((peer, offence)),
            Output::SetTimer { timer, at } => {
                assert!(at > self.now);
                self.timers.insert(timer, at);
                self.schedule(at - self.now, Event::Timer(timer));
            }
            Output::State(_) => {}
        }
    }

    fn serve(&self, remote: &Remote, request: &Request) -> Option<Response> {
        match (remote.mode, request) {
            (Mode::StallsAll, _) => None,
            (_, Request::Status) => {
                let tip = remote.chain.last().cloned().unwrap_or_else(genesis);
                let work = if remote.mode == Mode::ClaimsTooMuch { U256::MAX } else { U256::from(tip.height) };
                let (genesis, height, tip) = (genesis().hash(), tip.height, tip.hash());
                Some(Response::Status(ChainStatus { genesis, height, tip, work }))
            }
            (Mode::StallsData, _) => None,
            (Mode::Refuses, _) => Some(Response::failed("busy")),
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
