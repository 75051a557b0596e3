//! Any sequence of inputs to the sync machine, of peers that lie, stall, and send whatever they like: it never panics, asks
//! within its limits, hands over only headers that hold and follow a stored one, and what it keeps of a peer stays small.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use ocelli_consensus::fork_choice::{BlockStatus, HeaderTree};
use ocelli_consensus::{BlockHash, CompactTarget, Header, Network, U256};
use ocelli_fuzz::input::Input as Bytes;
use ocelli_protocol::message::{BlockData, ChainStatus, MAX_BLOCKS, Request, Response};
use ocelli_protocol::sync::{
    ChainView, Direction, Failure, Group, HeaderImport, Input, MAX_BLOCK_REQUESTS, MAX_REQUESTS_PER_PEER, SyncAction, Parent, Sync, Timer,
};

/// Inputs of one run.
const STEPS: usize = 400;
/// Headers of each of three chains that peers may have.
const LENGTH: usize = 300;

static NETWORK: LazyLock<Network> = LazyLock::new(|| {
    let mut parameters = Network::builtin("local").expect("built in").parameters;
    parameters.easiest_target = CompactTarget(0x2100_ffff);
    Network::new(parameters, vec![])
});

/// A chain, and two that leave it: after 100 blocks, and after 20 with another version.
static CHAINS: LazyLock<[Vec<Header>; 3]> = LazyLock::new(|| {
    let first = extend(&NETWORK.genesis, LENGTH, 0);
    let second = [&first[..100], &extend(&first[99], LENGTH, 1)[..]].concat();
    let third = [&first[..20], &extend_in(&first[19], LENGTH, 2, 7)[..]].concat();
    [first, second, third]
});

/// Of each chain, where its headers are.
static PLACES: LazyLock<[BTreeMap<BlockHash, usize>; 3]> = LazyLock::new(|| {
    CHAINS.each_ref().map(|chain| chain.iter().enumerate().map(|(place, header)| (header.hash(), place)).collect())
});

fn extend(parent: &Header, count: usize, salt: u8) -> Vec<Header> {
    extend_in(parent, count, salt, parent.version)
}

fn extend_in(parent: &Header, count: usize, salt: u8, version: u32) -> Vec<Header> {
    let mut headers: Vec<Header> = Vec::new();
    for _ in 0..count {
        let parent = headers.last().unwrap_or(parent);
        let (height, time) = (parent.height + 1, parent.time + NETWORK.parameters.spacing);
        let (nonce, hash) = (u64::from(salt) << 32, parent.hash());
        let mut header = Header { version, parent: hash, height, time, nonce, ..parent.clone() };
        while !header.target.to_target().expect("the easiest").is_met_by(header.hash().0) {
            header.nonce += 1;
        }
        headers.push(header);
    }
    headers
}

struct Chain {
    tree: HeaderTree,
    validating: BTreeSet<BlockHash>,
    minimum_work: U256,
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
        hash.0[0].is_multiple_of(2)
    }

    fn minimum_work(&self) -> U256 {
        self.minimum_work
    }
}

struct World {
    sync: Sync<u8>,
    chain: Chain,
    now: u64,
    peers: BTreeSet<u8>,
    /// Asked and not answered, as the machine sees it.
    open: BTreeMap<u64, (u8, Request)>,
    timers: BTreeMap<Timer<u8>, u64>,
}

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = Bytes(bytes);
    let chain = Chain {
        tree: HeaderTree::new(&NETWORK.genesis),
        validating: BTreeSet::new(),
        // Some runs count a chain before they store it.
        minimum_work: U256::from(bytes.byte()),
    };
    let (sync, peers) = (Sync::new(&NETWORK, [7; 32]), BTreeSet::new());
    let mut world = World { sync, chain, now: 0, peers, open: BTreeMap::new(), timers: BTreeMap::new() };
    for _ in 0..STEPS {
        if bytes.is_empty() {
            break;
        }
        world.step(&mut bytes);
    }
});

impl World {
    fn step(&mut self, bytes: &mut Bytes<'_>) {
        let peer = bytes.byte() % 6;
        match bytes.byte() % 10 {
            0 => {
                self.peers.insert(peer);
                let group = Group(u64::from(bytes.byte() % 3));
                let direction = if bytes.byte().is_multiple_of(2) { Direction::Dialled } else { Direction::Inbound };
                self.handle(Input::PeerConnected { peer, group, direction });
            }
            1 => {
                self.peers.remove(&peer);
                self.open.retain(|_, (asked, _)| *asked != peer);
                self.handle(Input::PeerDisconnected(peer));
            }
            2 => {
                let chain = &CHAINS[bytes.below(3)];
                let header = &chain[bytes.below(chain.len())];
                let parent = if bytes.byte().is_multiple_of(2) { Parent::Known } else { Parent::Unknown };
                self.handle(Input::Announced { peer, hash: header.hash(), height: header.height, parent });
            }
            3 => self.fire(bytes),
            4 => {
                self.now += u64::from(bytes.u16());
            }
            5 => {
                // Validated, the lowest first or another.
                let place = bytes.below(8);
                if let Some(hash) = self.chain.validating.iter().nth(place).copied() {
                    self.chain.validating.remove(&hash);
                    match bytes.byte() % 4 {
                        0 => return self.handle(Input::BlockRefused { peer, hash }),
                        1 => drop(self.chain.tree.set_status(hash, BlockStatus::Invalid)),
                        _ => drop(self.chain.tree.set_status(hash, BlockStatus::Verified)),
                    }
                    self.handle(Input::BlocksChanged);
                }
            }
            _ => self.answer(bytes),
        }
    }

    /// Answers an open request, or one that was never made.
    fn answer(&mut self, bytes: &mut Bytes<'_>) {
        let place = bytes.below(self.open.len().max(1));
        let Some((id, (peer, request))) = self.open.iter().nth(place).map(|(id, asked)| (*id, asked.clone())) else {
            let result = Ok(Response::failed("unasked"));
            return self.handle(Input::Response { peer: bytes.byte() % 6, id: u64::from(bytes.u16()), result });
        };
        let result = match bytes.byte() % 8 {
            0 => Err(Failure::Network),
            1 => {
                let length = bytes.below(512);
                Response::from_bytes(bytes.bytes(length)).map_err(|_| Failure::Malformed)
            }
            _ => Ok(respond(&request, bytes)),
        };
        self.open.remove(&id);
        self.handle(Input::Response { peer, id, result });
    }

    fn fire(&mut self, bytes: &mut Bytes<'_>) {
        let place = bytes.below(self.timers.len().max(1));
        let Some((timer, at)) = self.timers.iter().nth(place).map(|(timer, at)| (*timer, *at)) else { return };
        self.timers.remove(&timer);
        self.now = self.now.max(at);
        if let Timer::Request(id) = timer {
            self.open.remove(&id);
        }
        self.handle(Input::TimerFired(timer));
    }

    fn handle(&mut self, input: Input<u8>) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            for output in self.sync.handle(input, self.now, &self.chain) {
                match output {
                    SyncAction::Send { peer, id, request } => {
                        assert!(self.peers.contains(&peer), "only who is there is asked");
                        assert!(self.open.insert(id, (peer, request)).is_none(), "ids are new");
                    }
                    SyncAction::ImportHeaders { peer, headers } => {
                        let parent = self.chain.tree.get(&headers[0].parent).map(|node| node.work.0);
                        assert!(parent.is_some(), "the first one's parent is stored");
                        for header in headers {
                            let stored = self.chain.tree.insert(&NETWORK, &header);
                            // On a block that was found invalid meanwhile.
                            if stored.is_err() {
                                inputs.push(Input::HeadersImported { peer, result: HeaderImport::Held });
                                break;
                            }
                        }
                        if inputs.is_empty() {
                            inputs.push(Input::HeadersImported { peer, result: HeaderImport::Connected });
                        }
                    }
                    SyncAction::ImportBlock { hash, .. } => {
                        assert!(self.chain.wants(&hash), "only what is wanted is handed over");
                        self.chain.validating.insert(hash);
                    }
                    SyncAction::SetTimer { timer, at } => {
                        assert!(at > self.now);
                        self.timers.insert(timer, at);
                    }
                    SyncAction::Penalize { peer, .. } => assert!(self.peers.contains(&peer)),
                    SyncAction::OtherVersion { peer, work, fork, .. } => {
                        // Where the chains part may stand on a block that was found invalid meanwhile.
                        assert!(self.peers.contains(&peer) && fork != BlockHash([0; 32]));
                        assert!(work.0 >= self.chain.minimum_work, "cheap ones are their sender's fault");
                    }
                    SyncAction::State(_) => {}
                }
            }
            let blocks = |peer: Option<u8>| {
                let asked = self.open.values().filter(|(asked, request)| {
                    matches!(request, Request::Blocks { .. }) && peer.is_none_or(|peer| peer == *asked)
                });
                asked.count()
            };
            assert!(blocks(None) <= MAX_BLOCK_REQUESTS);
            assert!(self.peers.iter().all(|peer| blocks(Some(*peer)) <= MAX_REQUESTS_PER_PEER));
            assert!(self.open.len() <= MAX_BLOCK_REQUESTS + 2 * self.peers.len(), "a status, headers, and blocks");
        }
    }
}

/// What somebody may answer to the question, true or not.
fn respond(request: &Request, bytes: &mut Bytes<'_>) -> Response {
    let number = bytes.below(3);
    let (chain, places) = (&CHAINS[number], &PLACES[number]);
    match request {
        Request::Status => {
            let tip = &chain[bytes.below(chain.len())];
            let genesis = if bytes.byte() == 0 { BlockHash::default() } else { NETWORK.genesis_hash() };
            let work = if bytes.byte().is_multiple_of(4) { U256::MAX } else { U256::from(tip.height + 1) };
            Response::Status(ChainStatus { genesis, height: tip.height, tip: tip.hash(), work, next_rules: None })
        }
        Request::Headers { locator, .. } => {
            let honest = bytes.byte();
            let start = if honest.is_multiple_of(8) {
                bytes.below(chain.len())
            } else {
                let known = locator.iter().filter_map(|hash| places.get(hash)).max();
                known.map_or(0, |place| place + 1)
            };
            let mut headers: Vec<_> = chain[start..].iter().take(bytes.below(LENGTH)).cloned().collect();
            if honest == 1
                && let Some(header) = headers.last_mut()
            {
                header.nonce ^= u64::from(bytes.u16());
            }
            Response::Headers(headers)
        }
        Request::Blocks { hashes } => {
            let count = bytes.below(MAX_BLOCKS + 2).min(hashes.len() + 1);
            Response::Blocks((0..count).map(|_| (!bytes.byte().is_multiple_of(4)).then(BlockData::default)).collect())
        }
        _ => Response::failed("not asked by sync"),
    }
}
