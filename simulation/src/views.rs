//! What the sync machine sees of a simulated node.

use std::collections::{BTreeMap, BTreeSet};

use ocelli_consensus::fork_choice::{HeaderTree, Status};
use ocelli_consensus::{BlockHash, U256};
use ocelli_protocol::sync::{ChainView, Place};

/// A node's headers and the blocks that it is about to have.
pub struct View<'a> {
    pub tree: &'a HeaderTree,
    pub partial: &'a BTreeMap<BlockHash, usize>,
    pub validating: &'a BTreeSet<BlockHash>,
}

impl ChainView for View<'_> {
    fn locator(&self) -> Vec<BlockHash> {
        self.tree.locator(&self.tree.best_header().hash)
    }

    fn place(&self, hash: &BlockHash) -> Option<Place> {
        self.tree.get(hash).map(Place::of)
    }

    fn missing(&self, window: usize) -> Vec<BlockHash> {
        let nodes = self.tree.beyond_connectable().take(window).filter(|node| node.status == Status::Header);
        let is_open = |hash: &BlockHash| !self.partial.contains_key(hash) && !self.validating.contains(hash);
        nodes.map(|node| node.hash).filter(is_open).collect()
    }

    fn wants(&self, hash: &BlockHash) -> bool {
        let is_header = self.tree.get(hash).is_some_and(|node| node.status == Status::Header);
        is_header && !self.validating.contains(hash)
    }

    fn in_validation(&self) -> usize {
        self.validating.len()
    }

    fn best_work(&self) -> U256 {
        self.tree.best_header().work.0
    }

    fn may_lack_pixels(&self, _: &BlockHash) -> bool {
        false
    }

    fn minimum_work(&self) -> U256 {
        U256::ZERO
    }
}
