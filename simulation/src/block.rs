//! Blocks that were found, what happened to them where, and which of their tasks a node has.

use std::collections::HashMap;
use std::sync::Arc;

use ocelli_consensus::block::BodyCommitment;
use ocelli_consensus::{BlockHash, Header, WtxId};
use ocelli_protocol::message::Submission;

use crate::config::{Behaviour, Load, SimulationConfig};

/// A block's announcement at a node: the block's number, and who sent it.
pub type Gossip = (usize, usize);

/// A block that was found.
#[derive(Debug)]
pub struct Block {
    pub number: usize,
    pub header: Header,
    pub hash: BlockHash,
    pub submissions: Vec<Submission>,
    pub wtxids: Vec<WtxId>,
    pub commitment: BodyCommitment,
    pub found_at: u64,
    pub by: usize,
    /// Whether its answers are right.
    pub is_right: bool,
}

impl Block {
    /// How many tasks it has.
    pub fn tasks(&self) -> u64 {
        self.wtxids.len() as u64
    }
}

/// All blocks that were found, by their numbers.
#[derive(Debug, Default)]
pub struct Blocks {
    pub all: Vec<Arc<Block>>,
    by_hash: HashMap<BlockHash, usize>,
    /// Of each task, its block and its place there.
    by_wtxid: HashMap<WtxId, (usize, usize)>,
    /// Of each block.
    pub times: Vec<Times>,
}

/// When what happened to a block, by node; never is [`NEVER`].
#[derive(Debug)]
pub struct Times {
    pub announced: Vec<u64>,
    /// All its tasks were there.
    pub complete: Vec<u64>,
    pub validated: Vec<u64>,
}

pub const NEVER: u64 = u64::MAX;

impl Blocks {
    /// By hash.
    pub fn get(&self, hash: &BlockHash) -> Option<&Arc<Block>> {
        self.by_hash.get(hash).map(|number| &self.all[*number])
    }

    /// The block of a task, and its place there.
    pub fn of_task(&self, wtxid: &WtxId) -> Option<(&Arc<Block>, usize)> {
        self.by_wtxid.get(wtxid).map(|(number, index)| (&self.all[*number], *index))
    }

    pub fn push(&mut self, block: Arc<Block>, nodes: usize) {
        self.by_hash.insert(block.hash, block.number);
        let places = block.wtxids.iter().enumerate();
        self.by_wtxid.extend(places.map(|(index, wtxid)| (*wtxid, (block.number, index))));
        let never = || vec![NEVER; nodes];
        self.times.push(Times { announced: never(), complete: never(), validated: never() });
        self.all.push(block);
    }
}

/// Which tasks of blocks a node has before it is told of them, where tasks are not simulated themselves: all but some, by chance.
#[derive(Debug, Clone, Copy)]
pub struct Tasks {
    seed: u64,
    missing_permille: u64,
    per_second: u64,
    /// Whose blocks have none that another has, if anybody's.
    hides: Option<usize>,
}

impl Tasks {
    pub fn new(config: &SimulationConfig) -> Self {
        let SimulationConfig { seed, nodes, load: Load { missing_permille, per_second, .. }, attack, .. } = *config;
        let hides = attack.filter(|attack| attack.behaviour == Behaviour::HidesTasks).map(|_| nodes - 1);
        Self { seed, missing_permille, per_second, hides }
    }

    /// Whether mempools say who has what.
    pub fn are_simulated(&self) -> bool {
        self.per_second > 0
    }

    /// Whether a node has a task of a block.
    pub fn has(&self, node: usize, block: &Block, index: usize) -> bool {
        if self.hides == Some(block.by) && node != block.by {
            return false;
        }
        // SplitMix64 (Steele, Lea and Flood, 2014), as a hash.
        let mut mixed = self.seed;
        for number in [node, block.number, index] {
            mixed = mixed.wrapping_add(number as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
            mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^= mixed >> 31;
        }
        mixed % 1_000 >= self.missing_permille
    }
}
