//! What the sync and assembly machines see of a simulated node.

use std::collections::{BTreeMap, BTreeSet};

use ocelli_consensus::block::{Answer, Body};
use ocelli_consensus::fork_choice::{HeaderTree, TreeNode};
use ocelli_consensus::{BlockHash, U256, WtxId};
use ocelli_protocol::assembly::{Assembly, AssemblyView};
use ocelli_protocol::mempool::Mempool;
use ocelli_protocol::message::{BlockData, NextRules, Submission};
use ocelli_protocol::sync::ChainView;

use crate::block::{Blocks, Gossip, Tasks};

/// Blocks below the best that are still passed on.
const WORTH_FORWARDING: u64 = 6;

/// A node's headers and the blocks that it is about to have.
pub struct SyncView<'a> {
    pub tree: &'a HeaderTree,
    pub assembly: &'a Assembly<usize, Gossip>,
    pub validating: &'a BTreeSet<BlockHash>,
}

impl ChainView for SyncView<'_> {
    fn tree(&self) -> &HeaderTree {
        self.tree
    }

    fn is_in_validation(&self, hash: &BlockHash) -> bool {
        self.validating.contains(hash)
    }

    fn in_validation(&self) -> usize {
        self.validating.len()
    }

    fn may_lack_attachments(&self, _: &BlockHash) -> bool {
        false
    }

    fn minimum_work(&self) -> U256 {
        U256::ZERO
    }

    fn is_put_together(&self, hash: &BlockHash) -> bool {
        self.assembly.is_put_together(hash)
    }
}

/// A node's headers, and the tasks that it has.
pub struct NodeView<'a> {
    pub node: usize,
    pub tree: &'a HeaderTree,
    pub validating: &'a BTreeSet<BlockHash>,
    pub mempool: &'a Mempool,
    /// Announced blocks that are not validated: of their tasks it has all but the missing ones.
    pub open: &'a BTreeMap<usize, u64>,
    pub blocks: &'a Blocks,
    pub tasks: Tasks,
}

impl AssemblyView for NodeView<'_> {
    fn tree(&self) -> &HeaderTree {
        self.tree
    }

    fn tip(&self) -> TreeNode {
        self.tree.best_candidate()
    }

    fn next_rules(&self) -> Option<NextRules> {
        None
    }

    fn is_in_validation(&self, hash: &BlockHash) -> bool {
        self.validating.contains(hash)
    }

    fn is_worth_forwarding(&self, block: &TreeNode) -> bool {
        block.height + WORTH_FORWARDING >= self.tree.best_candidate().height
    }

    fn pending_ids(&self) -> impl Iterator<Item = WtxId> {
        let pending = self.mempool.iter().map(|entry| entry.checked().wtxid());
        let of_block = |number: &usize| {
            let block = &self.blocks.all[*number];
            let here = block.wtxids.iter().enumerate().filter(|(index, _)| self.tasks.has(self.node, block, *index));
            here.map(|(_, wtxid)| *wtxid)
        };
        // Where tasks are simulated, mempools have them.
        let open = self.open.keys().filter(|_| !self.tasks.are_simulated()).flat_map(of_block);
        pending.chain(open)
    }

    fn pending(&self, wtxid: &WtxId) -> Option<Submission> {
        if let Some(entry) = self.mempool.get_by_wtxid(wtxid) {
            let attachment = entry.attachment().cloned();
            return Some(Submission { transaction: entry.transaction().clone(), attachment });
        }
        let (block, index) = self.blocks.of_task(wtxid)?;
        self.tasks.has(self.node, block, index).then(|| block.submissions[index].clone())
    }

    fn connected_at(&self, height: u64) -> Option<BlockHash> {
        // Where tasks are not simulated, each block has its own: those that compete have none in common.
        let mut node = Some(self.tree.best_candidate()).filter(|_| self.tasks.are_simulated());
        while let Some(above) = node.filter(|node| node.height > height) {
            node = self.tree.parent(&above.hash);
        }
        node.filter(|node| node.height == height).map(|node| node.hash)
    }

    fn block_data(&self, hash: &BlockHash) -> Option<BlockData> {
        let block = self.blocks.get(hash)?;
        let tasks = block.submissions.iter().cloned();
        let (transactions, attachments) = tasks.map(|task| ((task.transaction, Answer::None), task.attachment)).unzip();
        Some(BlockData { body: Body { transactions }, attachments })
    }
}
