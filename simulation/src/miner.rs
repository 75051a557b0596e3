//! Selfish mining: when to publish what was kept back (Eyal and Sirer, "Majority is not Enough: Bitcoin Mining is Vulnerable",
//! Financial Cryptography 2014, algorithm 1).

use std::collections::VecDeque;
use std::sync::Arc;

use crate::block::Block;

/// A selfish miner's blocks that nobody else has seen.
#[derive(Debug, Default)]
pub struct Selfish {
    private: VecDeque<Arc<Block>>,
    /// Both branches are public and equally long.
    is_racing: bool,
    /// Height of the best block of others, and of its own that are published.
    public_height: u64,
}

impl Selfish {
    /// It has found a block; what to publish now, lowest first.
    pub fn on_found(&mut self, block: Arc<Block>) -> Vec<Arc<Block>> {
        self.private.push_back(block);
        // It wins the race.
        if std::mem::take(&mut self.is_racing) { self.publish(u64::MAX) } else { Vec::new() }
    }

    /// It has seen a block of others; what to publish now, lowest first.
    pub fn on_public(&mut self, height: u64) -> Vec<Arc<Block>> {
        if height <= self.public_height {
            return Vec::new();
        }
        self.public_height = height;
        self.is_racing = false;
        let Some(own) = self.private.back().map(|block| block.header.height) else { return Vec::new() };
        match own.checked_sub(height) {
            // The others have won.
            None => {
                self.private.clear();
                Vec::new()
            }
            Some(0) => {
                self.is_racing = true;
                self.publish(u64::MAX)
            }
            // One more of the others' would make it a race.
            Some(1) => self.publish(u64::MAX),
            Some(_) => self.publish(height),
        }
    }

    /// Publishes what is left.
    pub fn finish(&mut self) -> Vec<Arc<Block>> {
        self.publish(u64::MAX)
    }

    /// Whether others know a block of its own.
    pub fn is_public(&self, block: &Block) -> bool {
        self.private.iter().all(|private| private.number != block.number)
    }

    /// The lowest block that others do not know.
    pub fn first_private(&self) -> Option<&Block> {
        self.private.front().map(AsRef::as_ref)
    }

    fn publish(&mut self, up_to: u64) -> Vec<Arc<Block>> {
        let count = self.private.iter().take_while(|block| block.header.height <= up_to).count();
        let published: Vec<_> = self.private.drain(..count).collect();
        let height = published.last().map_or(0, |block| block.header.height);
        self.public_height = self.public_height.max(height);
        published
    }
}

#[cfg(test)]
mod tests {
    use ocelli_consensus::{Body, Network};

    use super::*;

    fn block(height: u64) -> Arc<Block> {
        let header = ocelli_consensus::Header { height, ..Network::builtin("local").expect("built in").genesis };
        let hash = header.hash();
        Arc::new(Block {
            number: height as usize,
            header,
            hash,
            wtxids: vec![],
            submissions: vec![],
            commitment: Body::default().commitment(&hash),
            found_at: 0,
            by: 0,
            is_right: true,
        })
    }

    #[test]
    fn what_is_published_follows_the_algorithm() {
        let heights = |blocks: Vec<Arc<Block>>| blocks.iter().map(|block| block.header.height).collect::<Vec<_>>();
        // One ahead, the others catch up: a race, which the next own block wins.
        let mut miner = Selfish::default();
        assert!(miner.on_found(block(1)).is_empty());
        assert_eq!(heights(miner.on_public(1)), [1]);
        assert_eq!(heights(miner.on_found(block(2))), [2]);
        // Two ahead, then one: all is published.
        let mut miner = Selfish::default();
        assert!(miner.on_found(block(1)).is_empty());
        assert!(miner.on_found(block(2)).is_empty());
        assert_eq!(heights(miner.on_public(1)), [1, 2]);
        // Further ahead: only what the others have reached.
        let mut miner = Selfish::default();
        for height in 1..=4 {
            assert!(miner.on_found(block(height)).is_empty());
        }
        assert_eq!(heights(miner.on_public(1)), [1]);
        assert_eq!(heights(miner.on_public(2)), [2]);
        assert!(miner.on_public(2).is_empty(), "seen before");
        assert_eq!(heights(miner.on_public(3)), [3, 4]);
        // Behind: given up.
        let mut miner = Selfish::default();
        assert!(miner.on_found(block(1)).is_empty());
        assert!(miner.on_public(2).is_empty());
        assert!(miner.finish().is_empty());
    }
}
