//! What a run came to.

use serde::{Deserialize, Serialize};

/// Times in milliseconds that are not exceeded in so many of a hundred cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Of half of them.
    pub p50: u64,
    /// Of 95 of a hundred.
    pub p95: u64,
    /// Of 99 of a hundred.
    pub p99: u64,
}

/// What became of the tasks, where they were simulated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskReport {
    /// Handed in.
    pub submitted: u64,
    /// On the final chain.
    pub confirmed: u64,
    /// On it more than once.
    pub repeated: u64,
    /// From handing a task in to its being in a node's mempool, over all nodes and tasks.
    pub arrival_ms: Option<Percentiles>,
    /// Of a million tasks in announced blocks, those that nodes did not have.
    pub missing_ppm: u64,
    /// Bytes that a node sent, and so received, to relay one task, mean over all nodes and tasks.
    pub relay_bytes: u64,
}

/// Blocks, without those found at the end to let branches meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockCounts {
    /// Found by honest miners.
    pub honest: usize,
    /// Of these, the ones that are not on the final chain.
    pub stale: usize,
    /// Found by dishonest nodes.
    pub dishonest: usize,
    /// Of these, the ones on the final chain.
    pub dishonest_on_chain: usize,
}

/// From finding a block to what the other honest miners do with it, mean in milliseconds over blocks and miners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waits {
    /// Its announcement has come.
    pub announced: u64,
    /// All its tasks are there.
    pub complete: u64,
    /// It has been validated: until then they mine on its parent. Over the spacing it is about the part of blocks that become
    /// stale, with less noise than their count.
    pub validated: u64,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub blocks: BlockCounts,
    /// From finding a block to its validation at a node, over all honest nodes and blocks of honest miners.
    pub validated_ms: Option<Percentiles>,
    /// Of the blocks of honest miners.
    pub waits: Option<Waits>,
    /// Of the blocks of dishonest nodes.
    pub dishonest_waits: Option<Waits>,
    /// Bytes that a node received, mean over all.
    pub received_bytes: u64,
    /// The most blocks that one node took back at once.
    pub deepest_reorganisation: u64,
    /// From the end of a partition until the nodes of the losing side had the winning chain.
    pub heal_ms: Option<Percentiles>,
    /// Tips among honest nodes at the end, after quiet time.
    pub tips: usize,
    /// Honest nodes whose tip at the end is not the first miner's: they do not keep up.
    pub behind: usize,
    /// Honest nodes that were there at the end.
    pub honest_online: usize,
    /// Honest nodes that banned an honest node.
    pub wrong_bans: usize,
    /// What became of the tasks, where they were simulated.
    pub tasks: Option<TaskReport>,
}

impl BlockCounts {
    /// On the final chain.
    pub fn on_chain(&self) -> usize {
        self.honest - self.stale + self.dishonest_on_chain
    }

    /// Of those on the final chain, the percentage of dishonest nodes.
    pub fn dishonest_percent(&self) -> f64 {
        100.0 * self.dishonest_on_chain as f64 / self.on_chain().max(1) as f64
    }
}

impl Waits {
    /// The stale blocks to expect, in percent, where a block comes every so many seconds.
    pub fn stale_percent(&self, spacing: u64) -> f64 {
        self.validated as f64 / 10.0 / spacing.max(1) as f64
    }
}

impl Percentiles {
    /// Of some times; `None` of none. By nearest rank.
    pub fn of(mut times: Vec<u64>) -> Option<Self> {
        times.sort_unstable();
        let rank = |percent: usize| times.get((times.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        Some(Self { p50: rank(50)?, p95: rank(95)?, p99: rank(99)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        assert_eq!(Percentiles::of(vec![]), None);
        assert_eq!(Percentiles::of(vec![7]), Some(Percentiles { p50: 7, p95: 7, p99: 7 }));
        let hundred = Percentiles::of((1..=100).rev().collect());
        assert_eq!(hundred, Some(Percentiles { p50: 50, p95: 95, p99: 99 }));
    }
}
