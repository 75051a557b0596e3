//! What a run came to.

use std::collections::BTreeSet;
use std::sync::Arc;

use ocelli_consensus::BlockHash;

use super::{Block, Simulation};
use crate::config::SECOND;
use crate::report::{Percentiles, Report};

impl Simulation {
    pub(super) fn report(&self) -> Report {
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
            tasks: self.task_report(&chain),
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
