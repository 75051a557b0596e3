//! What became of the blocks that this node's miner has found.

use std::collections::VecDeque;

use ocelli_consensus::BlockHash;

/// Blocks whose fate is followed: what is deeper stays as it is.
const FOLLOWED: usize = 1_024;

/// Blocks found since the node started.
#[derive(Debug, Default)]
pub(super) struct Mined {
    found: u64,
    stale: u64,
    /// The latest, and whether each is off the main chain.
    followed: VecDeque<(BlockHash, bool)>,
}

impl Mined {
    /// Counts one, which is off the main chain until it is connected.
    pub(super) fn found(&mut self, block: BlockHash) {
        self.found += 1;
        self.stale += 1;
        self.followed.push_back((block, true));
        if self.followed.len() > FOLLOWED {
            self.followed.pop_front();
        }
    }

    /// Notes that a block, of whomever, has come onto the main chain or left it.
    pub(super) fn moved(&mut self, block: &BlockHash, is_off: bool) {
        let followed = self.followed.iter_mut().rev().find(|(own, _)| own == block);
        let Some((_, was_off)) = followed.filter(|(_, was_off)| *was_off != is_off) else { return };
        *was_off = is_off;
        self.stale = if is_off { self.stale + 1 } else { self.stale.saturating_sub(1) };
    }

    /// How many were found, and how many of them are off the main chain.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.found, self.stale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_stale_until_it_is_connected_and_when_it_was_left() {
        let (one, other) = (BlockHash([1; 32]), BlockHash([2; 32]));
        let mut mined = Mined::default();
        mined.found(one);
        assert_eq!(mined.counts(), (1, 1));
        mined.moved(&one, false);
        mined.moved(&one, false);
        mined.moved(&other, true);
        assert_eq!(mined.counts(), (1, 0));
        mined.moved(&one, true);
        mined.found(other);
        assert_eq!(mined.counts(), (2, 2));
        for number in 0..FOLLOWED as u32 {
            let mut block = [3; 32];
            block[..4].copy_from_slice(&number.to_le_bytes());
            mined.found(BlockHash(block));
        }
        mined.moved(&one, false);
        assert_eq!(mined.counts(), (2 + FOLLOWED as u64, 2 + FOLLOWED as u64), "too long ago");
    }
}
