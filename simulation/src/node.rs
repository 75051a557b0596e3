//! One simulated node.

use std::collections::{BTreeMap, BTreeSet};

use ocelli_consensus::fork_choice::{BlockStatus, HeaderTree};
use ocelli_consensus::{Address, BlockHash, Network};
use ocelli_protocol::Offence;
use ocelli_protocol::assembly::Assembly;
use ocelli_protocol::mempool::Mempool;
use ocelli_protocol::relay::Relay;
use ocelli_protocol::sync::{Input, Sync, SyncAction, Timer};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use crate::block::Gossip;
use crate::config::Behaviour;
use crate::miner::Selfish;
use crate::views::SyncView;
use crate::world::{self, Region};

/// Peers that each node passes blocks on to, and the fewest and most that there may be: gossipsub's mesh as the node sets it.
pub const MESH: usize = 6;
pub const MESH_LOW: usize = 4;
pub const MESH_HIGH: usize = 12;
/// Points at which a peer is banned.
const BAN_POINTS: u32 = 100;

/// A connected peer.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// Names the connection.
    pub connection: u64,
    /// Whether blocks are passed on to it as soon as they come.
    pub is_in_mesh: bool,
    /// Whether this node dialled it.
    pub is_outbound: bool,
}

/// What a node is.
#[derive(Debug)]
pub struct Node {
    pub region: Region,
    /// `None` of honest ones.
    pub behaviour: Option<Behaviour>,
    pub selfish: Selfish,
    /// Which side of a partition it is on: the smaller?
    pub is_on_small_side: bool,
    pub is_online: bool,
    /// How often it was started: what was to happen in an earlier life does not.
    pub life: u64,
    pub tree: HeaderTree,
    pub mempool: Mempool,
    /// Senders of the tasks on its chain.
    pub confirmed: BTreeSet<Address>,
    points: BTreeMap<usize, u32>,
    pub banned: BTreeSet<usize>,
    /// When a peer is exchanged for another next.
    pub next_exchange: u64,
    pub session: Session,
}

/// What a node forgets when it stops.
#[derive(Debug)]
pub struct Session {
    pub peers: BTreeMap<usize, Peer>,
    pub sync: Sync<usize>,
    pub timers: BTreeMap<Timer<usize>, u64>,
    pub assembly: Assembly<usize, Gossip>,
    /// When assembly wants to be woken, in milliseconds.
    pub assembly_wake_at: Option<u64>,
    pub relay: Relay<usize>,
    /// When its relay wants to be woken, in milliseconds.
    pub relay_wake_at: Option<u64>,
    /// Requests that it waits for.
    pub asked: BTreeSet<u64>,
    /// Announced blocks that are not validated, each with how many of its tasks were not here.
    pub open: BTreeMap<usize, u64>,
    pub validating: BTreeSet<BlockHash>,
    /// When all that is being validated will be.
    pub busy_until: u64,
}

impl Session {
    fn new(network: &Network, random: &mut ChaCha8Rng) -> Self {
        Self {
            peers: BTreeMap::new(),
            sync: Sync::new(network, random.random()),
            timers: BTreeMap::new(),
            assembly: Assembly::new(network.genesis_hash()),
            assembly_wake_at: None,
            relay: Relay::new(random.random()),
            relay_wake_at: None,
            asked: BTreeSet::new(),
            open: BTreeMap::new(),
            validating: BTreeSet::new(),
            busy_until: 0,
        }
    }
}

impl Node {
    /// A node that has genesis alone, and is not connected.
    pub fn new(network: &Network, behaviour: Option<Behaviour>, random: &mut ChaCha8Rng) -> Self {
        Self {
            region: world::region(random),
            behaviour,
            selfish: Selfish::default(),
            is_on_small_side: false,
            is_online: true,
            life: 0,
            tree: HeaderTree::new(&network.genesis),
            mempool: Mempool::default(),
            confirmed: BTreeSet::new(),
            points: BTreeMap::new(),
            banned: BTreeSet::new(),
            next_exchange: 0,
            session: Session::new(network, random),
        }
    }

    /// Forgets what is not stored.
    pub fn stop(&mut self, network: &Network, random: &mut ChaCha8Rng) {
        self.is_online = false;
        self.life += 1;
        self.session = Session::new(network, random);
    }

    /// Gives the sync machine an input at a time in milliseconds.
    pub fn handle(&mut self, input: Input<usize>, now: u64) -> Vec<SyncAction<usize>> {
        let Session { sync, assembly, validating, .. } = &mut self.session;
        sync.handle(input, now, &SyncView { tree: &self.tree, assembly, validating })
    }

    /// Whether the block's tasks are all here.
    pub fn has_data(&self, hash: &BlockHash) -> bool {
        let is_verified = self.tree.get(hash).is_some_and(|node| node.status == BlockStatus::Verified);
        is_verified || self.session.validating.contains(hash)
    }

    /// Peers that it has dialled.
    pub fn outbound(&self) -> usize {
        self.session.peers.values().filter(|peer| peer.is_outbound).count()
    }

    /// Peers in its mesh.
    pub fn mesh(&self) -> usize {
        self.session.peers.values().filter(|peer| peer.is_in_mesh).count()
    }

    /// Counts what assembly finds; true when the peer has to go.
    pub fn penalize_for_block(&mut self, peer: usize, offence: Offence) -> bool {
        // It fades faster than it adds up.
        offence != Offence::Stalled && self.banned.insert(peer)
    }

    /// Counts an offence as a node does (`docs/protocol.md`); true when the peer has to go.
    pub fn penalize(&mut self, peer: usize, offence: Offence) -> bool {
        let points = match offence {
            // It fades faster than it adds up.
            Offence::Stalled => 0,
            Offence::UnconnectedHeaders | Offence::UnprovenWork => 50,
            _ => 100,
        };
        let sum = self.points.entry(peer).or_default();
        *sum += points;
        *sum >= BAN_POINTS && self.banned.insert(peer)
    }
}
