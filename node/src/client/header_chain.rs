//! A chain of headers, each checked against the one before it.

use ocelli_consensus::fork_choice::work_of;
use ocelli_consensus::rules::{AnchorBlock, RuleError, check_header, expected_target};
use ocelli_consensus::{BlockHash, Header, Network, Target, Work};

use super::lie::Lie;

/// Headers from a root on: the genesis, or a block in whose ancestors one has to believe.
#[derive(Debug, Clone)]
pub struct HeaderChain {
    /// Lowest first; never empty.
    links: Vec<Link>,
    anchor: Option<AnchorBlock>,
}

/// A header of a branch.
#[derive(Debug, Clone)]
pub struct Link {
    pub header: Header,
    pub hash: BlockHash,
    /// The work from the root on, both included.
    pub work: Work,
}

impl HeaderChain {
    /// The genesis alone.
    pub fn genesis(genesis: &Header) -> Self {
        let link = Link { hash: genesis.hash(), work: work_of(genesis), header: genesis.clone() };
        Self { links: vec![link], anchor: None }
    }

    /// One block whose ancestors are not shown but for block 1, from which the difficulty is counted. Its target must not
    /// be easier than for the latest parent there can be, as the rule makes targets easier with time.
    ///
    /// # Errors
    /// If no chain of the network can hold the block.
    pub fn rooted(network: &Network, block_one: &Header, root: Header) -> Result<Self, Lie> {
        let height = root.height;
        let rule = |source| Lie::Header { height, source };
        let latest = Header { height: height.saturating_sub(1), time: root.time.saturating_sub(1), ..root.clone() };
        let anchor = AnchorBlock { target: block_one.target, time: block_one.time };
        let easiest = expected_target(&network.parameters, &latest, Some(anchor));
        let found = root.target.to_target().unwrap_or(Target::MAX);
        if found > easiest.to_target().unwrap_or(Target::MAX) {
            return Err(rule(RuleError::Target { found: root.target, expected: easiest }));
        }
        let hash = root.hash();
        if !found.is_met_by(hash.0) {
            return Err(rule(RuleError::ProofOfWork { hash, target: root.target }));
        }
        let expected = network.schedule.version_at(height);
        if root.version != expected {
            return Err(rule(RuleError::Version { found: root.version, expected, height }));
        }
        Ok(Self { links: vec![Link { hash, work: work_of(&root), header: root }], anchor: Some(anchor) })
    }

    /// Adds the next header.
    ///
    /// # Errors
    /// If it stands on another one than the last, or breaks a rule.
    pub fn push(&mut self, network: &Network, header: Header) -> Result<(), Lie> {
        let height = header.height;
        let tip = self.tip();
        if header.parent != tip.hash {
            return Err(Lie::Unlinked { height, parent: header.parent });
        }
        let rule = |source| Lie::Header { height, source };
        let work = check_header(network, &tip.header, self.anchor, tip.work, &header).map_err(rule)?;
        self.anchor = self.anchor.or(Some(AnchorBlock { target: header.target, time: header.time }));
        self.links.push(Link { hash: header.hash(), work, header });
        Ok(())
    }

    /// Takes the headers above a height back. The root stays.
    pub fn cut(&mut self, height: u64) {
        let kept = height.saturating_sub(self.root().header.height).saturating_add(1);
        self.links.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
        if self.tip().header.height == 0 {
            self.anchor = None;
        }
    }

    /// The lowest.
    pub fn root(&self) -> &Link {
        self.links.first().expect("a branch begins with its root, which is never taken back")
    }

    /// The highest.
    pub fn tip(&self) -> &Link {
        self.links.last().expect("a branch begins with its root, which is never taken back")
    }

    /// The header at a height.
    pub fn at(&self, height: u64) -> Option<&Link> {
        self.links.get(usize::try_from(height.checked_sub(self.root().header.height)?).ok()?)
    }

    /// Whether it has that block at that height.
    pub fn holds(&self, height: u64, hash: &BlockHash) -> bool {
        self.at(height).is_some_and(|link| link.hash == *hash)
    }

    /// The height of a block on it.
    pub fn height_of(&self, hash: &BlockHash) -> Option<u64> {
        // What is looked for is near the tip.
        self.links.iter().rev().find(|link| link.hash == *hash).map(|link| link.header.height)
    }

    /// The work of the block at a height and of those on it.
    pub fn work_from(&self, height: u64) -> Work {
        let before = height.checked_sub(1).and_then(|below| self.at(below)).map_or(Work::ZERO, |link| link.work);
        Work(self.tip().work.0.saturating_sub(before.0))
    }

    /// The highest block that another branch holds too; `None` where they share none.
    pub fn fork_point(&self, other: &Self) -> Option<u64> {
        let lowest = self.root().header.height.max(other.root().header.height);
        let highest = self.tip().header.height.min(other.tip().header.height);
        (lowest..=highest)
            .rev()
            .find(|&height| self.at(height).zip(other.at(height)).is_some_and(|(one, other)| one.hash == other.hash))
    }

    /// Hashes from a height down to the root, ten one by one and then ever further apart, as the protocol's locators.
    pub fn locator(&self, from: u64) -> Vec<BlockHash> {
        let root = self.root().header.height;
        let (mut height, mut step, mut locator) = (from.clamp(root, self.tip().header.height), 1u64, Vec::new());
        loop {
            locator.extend(self.at(height).map(|link| link.hash));
            if height == root {
                return locator;
            }
            if locator.len() >= 10 {
                step = step.saturating_mul(2);
            }
            height = height.saturating_sub(step).max(root);
        }
    }
}

#[cfg(test)]
mod tests {
    use ocelli_consensus::{CompactTarget, Network};

    use super::*;

    /// Like the worked example's: 256 hashes a block.
    fn network() -> Network {
        let mut parameters = Network::builtin("local").expect("built in").parameters;
        parameters.easiest_target = CompactTarget(0x2000_ffff);
        Network::new(parameters, Vec::new())
    }

    /// The next header of a branch, `seconds` after the last and with that target, with a nonce that meets it.
    fn mined(network: &Network, branch: &HeaderChain, seconds: u64, salt: u64) -> Header {
        let tip = branch.tip();
        let target = expected_target(&network.parameters, &tip.header, branch.anchor);
        let (height, time) = (tip.header.height + 1, tip.header.time + seconds);
        let header = Header { parent: tip.hash, height, time, target, nonce: salt << 32, ..tip.header.clone() };
        with_work(header)
    }

    fn with_work(mut header: Header) -> Header {
        while !header.target.to_target().unwrap().is_met_by(header.hash().0) {
            header.nonce += 1;
        }
        header
    }

    fn extended(network: &Network, mut branch: HeaderChain, count: u64, salt: u64) -> HeaderChain {
        for _ in 0..count {
            let header = mined(network, &branch, network.parameters.spacing, salt);
            branch.push(network, header).unwrap();
        }
        branch
    }

    #[test]
    fn work_is_counted_and_blocks_are_found() {
        let network = network();
        let branch = extended(&network, HeaderChain::genesis(&network.genesis), 5, 0);
        assert_eq!(branch.tip().header.height, 5);
        let work = |blocks: u64| Work(ocelli_consensus::U256::from(256 * blocks));
        assert_eq!((branch.tip().work, branch.work_from(0), branch.work_from(4)), (work(6), work(6), work(2)));
        let hash = branch.at(3).unwrap().hash;
        assert!(branch.holds(3, &hash) && !branch.holds(2, &hash) && !branch.holds(u64::MAX, &hash));
        assert_eq!((branch.height_of(&hash), branch.height_of(&BlockHash([7; 32]))), (Some(3), None));
        let locator: Vec<_> = (0..=5).rev().map(|height| branch.at(height).unwrap().hash).collect();
        assert_eq!(branch.locator(u64::MAX), locator);
        assert_eq!(branch.locator(0), locator[5..]);

        let mut other = branch.clone();
        other.cut(2);
        let other = extended(&network, other, 4, 1);
        assert_eq!((branch.fork_point(&other), other.tip().header.height), (Some(2), 6));
        let mut cut = other;
        cut.cut(0);
        assert_eq!(cut.tip().hash, network.genesis_hash());
        // Block 1 is another one now, and so is what the difficulty is counted from.
        let header = mined(&network, &cut, 50, 2);
        cut.push(&network, header).unwrap();
        assert_eq!(extended(&network, cut, 3, 2).tip().header.height, 4);
    }

    #[test]
    fn locators_are_dense_at_first_and_end_at_the_root() {
        let network = network();
        let branch = extended(&network, HeaderChain::genesis(&network.genesis), 40, 0);
        let heights: Vec<_> = branch.locator(40).iter().filter_map(|hash| branch.height_of(hash)).collect();
        assert_eq!(heights, [40, 39, 38, 37, 36, 35, 34, 33, 32, 31, 29, 25, 17, 1, 0]);
    }

    #[test]
    fn what_breaks_a_rule_is_not_added() {
        let network = network();
        let mut branch = extended(&network, HeaderChain::genesis(&network.genesis), 3, 0);
        let good = mined(&network, &branch, 2, 0);
        let rows = [
            (Header { parent: BlockHash([7; 32]), ..good.clone() }, "stands on 0707"),
            (Header { height: u64::MAX, ..good.clone() }, "height 18446744073709551615, expected 4"),
            (Header { height: 3, ..good.clone() }, "height 3, expected 4"),
            (Header { time: u64::MAX, ..good.clone() }, "not below 2^40"),
            (Header { time: 0, ..good.clone() }, "is not after the parent's"),
            (Header { target: CompactTarget(0x207f_ffff), ..good.clone() }, "target 0x207fffff, expected 0x2000ffff"),
            (Header { target: CompactTarget(0xffff_ffff), ..good.clone() }, "target 0xffffffff"),
            (with_work(Header { version: 0, ..good.clone() }), "version 0, expected 1"),
        ];
        for (header, words) in rows {
            let text = branch.push(&network, header).unwrap_err().to_string();
            assert!(text.contains(words), "{words}: {text}");
        }
        let mut idle = good.clone();
        while good.target.to_target().unwrap().is_met_by(idle.hash().0) {
            idle.nonce += 1;
        }
        let text = branch.push(&network, idle).unwrap_err().to_string();
        assert!(text.contains("its header at height 4 breaks a rule"), "{text}");
        assert_eq!(branch.push(&network, good), Ok(()));
    }

    #[test]
    fn a_root_without_ancestors_has_work_and_no_easier_target_than_there_can_be() {
        let network = network();
        let parameters = &network.parameters;
        let whole = extended(&network, HeaderChain::genesis(&network.genesis), 1, 0);
        let block_one = whole.tip().header.clone();
        // Ten half-lives ahead of its schedule: the target has to be a thousandth.
        let ahead = 10 * parameters.half_life / parameters.spacing;
        let early =
            Header { height: 1_000 + ahead, time: block_one.time + 1_000 * parameters.spacing, ..block_one.clone() };
        let text = HeaderChain::rooted(&network, &block_one, with_work(early)).unwrap_err().to_string();
        assert!(text.contains("target 0x2000ffff, expected 0x1e"), "{text}");
        let on_time = Header { height: 1_000, time: block_one.time + 999 * parameters.spacing, ..block_one.clone() };
        let root = HeaderChain::rooted(&network, &block_one, with_work(on_time)).unwrap();
        assert_eq!(extended(&network, root, 3, 0).tip().header.height, 1_003);
        for height in [0, 1, u64::MAX] {
            for time in [0, u64::MAX] {
                // Whatever comes of it, nothing panics.
                let header = Header { height, time, target: CompactTarget(0x2000_ffff), ..block_one.clone() };
                drop(HeaderChain::rooted(&network, &block_one, header));
            }
        }
    }
}
