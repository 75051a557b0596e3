//! What a run came to.

use std::collections::BTreeSet;

use ocelli_consensus::BlockHash;

use super::Simulation;
use crate::block::{Block, NEVER, Times};
use crate::report::{BlockCounts, Percentiles, Report, Waits};

impl Simulation {
    pub(super) fn report(&self) -> Report {
        let honest: Vec<usize> = (0..self.nodes.len()).filter(|at| self.nodes[*at].behaviour.is_none()).collect();
        let there: Vec<usize> = honest.iter().copied().filter(|at| self.nodes[*at].is_online).collect();
        let tips: BTreeSet<BlockHash> = there.iter().map(|at| self.nodes[*at].tree.best_candidate().hash).collect();
        let tree = &self.nodes[0].tree;
        let tip = tree.best_candidate();
        let chain = tree.path(&self.network.genesis_hash(), &tip.hash).unwrap_or_default();
        let chain: BTreeSet<usize> =
            chain.iter().filter_map(|hash| self.blocks.get(hash)).map(|block| block.number).collect();
        let (of_honest, of_dishonest): (Vec<&Block>, Vec<&Block>) =
            self.counted().partition(|block| self.nodes[block.by].behaviour.is_none());
        let on_chain = |blocks: &[&Block]| blocks.iter().filter(|block| chain.contains(&block.number)).count();
        let delays = of_honest.iter().flat_map(|block| {
            let others = honest.iter().filter(|at| **at != block.by);
            let times = others.map(|at| self.blocks.times[block.number].validated[*at]).filter(|at| *at != NEVER);
            times.map(|at| at.saturating_sub(block.found_at) / 1_000)
        });
        Report {
            blocks: BlockCounts {
                honest: of_honest.len(),
                stale: of_honest.len() - on_chain(&of_honest),
                dishonest: of_dishonest.len(),
                dishonest_on_chain: on_chain(&of_dishonest),
            },
            validated_ms: Percentiles::of(delays.collect()),
            waits: self.waits(&of_honest),
            dishonest_waits: self.waits(&of_dishonest),
            received_bytes: self.counts.received_bytes / self.nodes.len() as u64,
            deepest_reorganisation: self.counts.deepest_reorganisation,
            heal_ms: self.heal_times(&honest, &chain),
            tips: tips.len(),
            behind: there.iter().filter(|at| self.nodes[**at].tree.best_candidate().hash != tip.hash).count(),
            honest_online: there.len(),
            wrong_bans: self.counts.wrong_bans,
            tasks: self.task_report(&chain),
        }
    }

    /// All but the closing ones.
    fn counted(&self) -> impl Iterator<Item = &Block> {
        self.blocks.all.iter().take(self.config.blocks).map(AsRef::as_ref)
    }

    /// Of those that have validated a block; `None` if nobody has.
    fn waits(&self, blocks: &[&Block]) -> Option<Waits> {
        let (mut sums, mut count) = ([0; 3], 0);
        for block in blocks {
            let Times { announced, complete, validated } = &self.blocks.times[block.number];
            for at in (0..self.config.miners).filter(|at| *at != block.by && validated[*at] != NEVER) {
                // Sync may bring a block before its announcement comes.
                let times = [announced[at].min(complete[at]), complete[at], validated[at]];
                sums.iter_mut().zip(times).for_each(|(sum, time)| *sum += time - block.found_at);
                count += 1;
            }
        }
        let [announced, complete, validated] = sums.map(|sum| (sum / 1_000).checked_div(count));
        Some(Waits { announced: announced?, complete: complete?, validated: validated? })
    }

    /// From the end of the partition until a node had the last block that the winning side had found by then, of those nodes
    /// that did not have it.
    fn heal_times(&self, honest: &[usize], chain: &BTreeSet<usize>) -> Option<Percentiles> {
        let healed_at = self.healed_at?;
        let last = chain.iter().rev().find(|number| self.blocks.all[**number].found_at <= healed_at)?;
        let times = honest.iter().map(|at| self.blocks.times[*last].validated[*at]).filter(|at| *at > healed_at);
        // One that never had it counts as the whole rest of the run.
        Percentiles::of(times.map(|at| (at.min(self.now) - healed_at) / 1_000).collect())
    }
}
