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

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Blocks found by honest miners.
    pub honest_blocks: usize,
    /// Of these, the ones that are not on the final chain.
    pub stale_blocks: usize,
    /// Blocks on the final chain; like all of these figures without those found at the end to let branches meet.
    pub chain_blocks: usize,
    /// Of these, blocks of dishonest nodes.
    pub dishonest_on_chain: usize,
    /// Blocks of dishonest nodes in all.
    pub dishonest_blocks: usize,
    /// From finding a block to its announcement at a node, over all honest nodes and blocks.
    pub announced_ms: Option<Percentiles>,
    /// The same to the block's validation there.
    pub validated_ms: Option<Percentiles>,
    /// From finding a block to its validation by the other miners, mean: while it lasts they mine on the parent. Over the
    /// spacing it is about the part of blocks that become stale, with less noise than their count.
    pub miners_ms: Option<u64>,
    /// Bytes that a node received, mean over all.
    pub received_bytes: u64,
    /// Bytes that a node sent, mean over all.
    pub sent_bytes: u64,
    /// Virtual seconds from the first event to the last block.
    pub seconds: u64,
    /// Blocks that nodes took back, mean over all.
    pub disconnected_permille: u64,
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
    /// Events, for whoever wonders where the time went.
    pub events: u64,
}

impl Report {
    /// Of the honest miners' blocks, the percentage that is not on the final chain.
    pub fn stale_percent(&self) -> f64 {
        100.0 * self.stale_blocks as f64 / self.honest_blocks.max(1) as f64
    }

    /// The stale blocks to expect of the time that blocks take to other miners, in percent: less noisy than their count.
    pub fn expected_stale_percent(&self, spacing: u64) -> Option<f64> {
        self.miners_ms.map(|time| time as f64 / 10.0 / spacing.max(1) as f64)
    }

    /// Of the blocks on the final chain, the percentage of dishonest nodes.
    pub fn dishonest_percent(&self) -> f64 {
        100.0 * self.dishonest_on_chain as f64 / self.chain_blocks.max(1) as f64
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
