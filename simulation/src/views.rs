//! What the sync machine sees of a simulated node.

use std::collections::{BTreeMap, BTreeSet};

use ocelli_consensus::fork_choice::HeaderTree;
use ocelli_consensus::{BlockHash, U256};
use ocelli_protocol::sync::ChainView;

/// A node's headers and the blocks that it is about to have.
pub struct View<'a> {
    pub tree: &'a HeaderTree,
    pub partial: &'a BTreeMap<BlockHash, usize>,
    pub validating: &'a BTreeSet<BlockHash>,
}

impl ChainView for View<'_> {
    fn tree(&self) -> &HeaderTree {
        self.tree
    }

    fn is_in_validation(&self, hash: &BlockHash) -> bool {
        self.validating.contains(hash)
    }

    fn in_validation(&self) -> usize {
        self.validating.len()
    }

    fn may_lack_pixels(&self, _: &BlockHash) -> bool {
        false
    }

    fn minimum_work(&self) -> U256 {
        U256::ZERO
    }

    fn is_put_together(&self, hash: &BlockHash) -> bool {
        self.partial.contains_key(hash)
    }
}
