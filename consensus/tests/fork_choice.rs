//! The header tree against brute force.

mod chain;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use chain::{address, parameters};
use ocelli_consensus::fork_choice::{BlockStatus, HeaderTree, InsertError};
use ocelli_consensus::header::TIME_LIMIT;
use ocelli_consensus::rules::{AnchorBlock, RuleError, expected_target};
use ocelli_consensus::*;
use proptest::prelude::*;

/// About one hash a block, and targets that move fast.
fn easy() -> Network {
    Network::new(Parameters { easiest_target: CompactTarget(0x2100_ffff), half_life: 20, ..parameters() }, vec![])
}

/// A header of a generated tree, and what follows from its place.
#[derive(Debug, Clone)]
struct Known {
    header: Header,
    parent: usize,
    anchor: Option<AnchorBlock>,
    work: Work,
}

/// A tree, built from a shape: for each header after genesis how many before it its parent came, and the seconds
/// between them.
#[derive(Debug, Clone)]
struct Tree(Vec<Known>);

impl Tree {
    fn build(network: &Network, shape: &[(usize, u64)]) -> Self {
        let genesis = network.genesis.clone();
        let work = genesis.target.to_target().unwrap().work();
        let mut known = vec![Known { header: genesis, parent: 0, anchor: None, work }];
        for (number, (back, seconds)) in shape.iter().enumerate() {
            let parent = number.saturating_sub(*back);
            let before = &known[parent];
            let target = expected_target(&network.parameters, &before.header, before.anchor);
            let mut header = Header {
                version: 1,
                parent: before.header.hash(),
                history: Root([0; 32]),
                state: Root([0; 32]),
                body: Root([number as u8; 32]),
                miner: address(7),
                height: before.header.height + 1,
                time: before.header.time + seconds,
                target,
                nonce: 0,
            };
            let decoded = target.to_target().unwrap();
            while !decoded.is_met_by(header.hash().0) {
                header.nonce += 1;
            }
            let anchor = before.anchor.or(Some(AnchorBlock { target, time: header.time }));
            let work = before.work.checked_add(decoded.work()).unwrap();
            known.push(Known { header, parent, anchor, work });
        }
        Self(known)
    }

    fn hash(&self, index: usize) -> BlockHash {
        self.0[index].header.hash()
    }

    fn header(&self, hash: &BlockHash) -> &Header {
        self.0.iter().map(|known| &known.header).find(|header| header.hash() == *hash).unwrap()
    }

    /// From a header to genesis, itself first.
    fn ancestry(&self, index: usize) -> Vec<usize> {
        let mut ancestry = vec![index];
        while let Some(&last) = ancestry.last()
            && last > 0
        {
            ancestry.push(self.0[last].parent);
        }
        ancestry
    }

    /// By brute force: of the headers all of whose ancestry `holds`, the one with the most work; among equals the first.
    fn best(&self, order: &[usize], holds: impl Fn(usize) -> bool) -> usize {
        let whole = |index: usize| self.ancestry(index).into_iter().all(&holds);
        let mut best = 0;
        for &index in order {
            if whole(index) && self.0[index].work > self.0[best].work {
                best = index;
            }
        }
        best
    }
}

const STATUSES: [BlockStatus; 4] =
    [BlockStatus::Invalid, BlockStatus::Header, BlockStatus::Received, BlockStatus::Verified];

/// Statuses that come one after the other, each for a header by its number.
fn verdicts() -> impl Strategy<Value = Vec<(usize, BlockStatus)>> {
    prop::collection::vec((0usize..24, prop::sample::select(STATUSES.to_vec())), 0..60)
}

fn shapes(most: usize) -> impl Strategy<Value = Vec<(usize, u64)>> {
    // Parents are among the newest, so that branches grow; times few, so that branches of equal work are common.
    prop::collection::vec((0usize..4, prop::sample::select(vec![1, 10, 10, 40])), 1..most)
}

/// Gives the headers to a tree in that order, again and again until all have found their parent. Returns the order in
/// which they were taken.
fn deliver(tree: &mut HeaderTree, network: &Network, known: &Tree, order: &[usize]) -> Vec<usize> {
    let (mut waiting, mut taken) = (order.to_vec(), vec![]);
    while !waiting.is_empty() {
        waiting.retain(|&index| {
            let header = &known.0[index].header;
            match tree.insert(network, header) {
                Ok(hash) => {
                    assert_eq!(hash, header.hash());
                    taken.push(index);
                    false
                }
                Err(error) => {
                    let (parent, height) = (header.parent, header.height);
                    assert_eq!(error, InsertError::ParentUnknown { parent, height });
                    true
                }
            }
        });
    }
    taken
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_order_ends_at_the_same_work(
        shape in shapes(24),
        seed in any::<u64>(),
        verdicts in verdicts(),
    ) {
        let network = easy();
        let known = Tree::build(&network, &shape);
        let count = known.0.len();
        let forward: Vec<usize> = (1..count).collect();
        let mut shuffled = forward.clone();
        shuffled.sort_by_key(|&index| (index as u64 + 1).wrapping_mul(seed | 1).rotate_left(29));
        let mut work = vec![];
        for order in [forward, shuffled] {
            let mut tree = HeaderTree::new(&known.0[0].header);
            let taken = deliver(&mut tree, &network, &known, &order);
            let mut status = vec![BlockStatus::Header; count];
            status[0] = BlockStatus::Verified;
            let mut rounds = vec![];
            // Statuses come and go, invalidation and reconsideration among them.
            for (index, verdict) in &verdicts {
                let index = index % count;
                prop_assert!(tree.set_status(known.hash(index), *verdict));
                if index != 0 {
                    status[index] = *verdict;
                }
                let header = known.best(&taken, |index| status[index] != BlockStatus::Invalid);
                let candidate = known.best(&taken, |index| status[index] == BlockStatus::Verified);
                prop_assert_eq!(tree.best_header().hash, known.hash(header));
                prop_assert_eq!(tree.best_candidate().hash, known.hash(candidate));
                rounds.push((tree.best_header().work, tree.best_candidate().work));
                let condemned = |index| known.ancestry(index).iter().any(|&index| status[index] == BlockStatus::Invalid);
                for (index, &expected) in status.iter().enumerate() {
                    let hash = known.hash(index);
                    prop_assert_eq!(tree.is_condemned(&hash), condemned(index));
                    prop_assert_eq!(tree.get(&hash).unwrap().status, expected);
                }
                let missing: Vec<BlockHash> = known.ancestry(header).into_iter().rev()
                    .filter(|&index| status[index] == BlockStatus::Header).map(|index| known.hash(index)).collect();
                prop_assert_eq!(tree.missing(3), missing[..missing.len().min(3)].to_vec());
                prop_assert_eq!(tree.missing(1000), missing);
            }
            let heaviest = known.best(&taken, |index| status[index] != BlockStatus::Invalid);
            prop_assert_eq!(tree.best_header().hash, known.hash(heaviest));

            // What was stored comes back the same.
            let mut again = HeaderTree::new(&known.0[0].header);
            for node in tree.iter().skip(1) {
                prop_assert_eq!(again.restore(known.header(&node.hash), node.status), Some(node.hash));
            }
            prop_assert_eq!(again.best_header().hash, tree.best_header().hash);
            prop_assert_eq!(again.best_candidate().hash, tree.best_candidate().hash);
            prop_assert_eq!(again.missing(1000), tree.missing(1000));
            for (one, other) in tree.iter().zip(again.iter()) {
                prop_assert_eq!((one.hash, one.work, one.status), (other.hash, other.work, other.status));
                prop_assert_eq!(tree.is_condemned(&one.hash), again.is_condemned(&one.hash));
            }
            // And what is lifted is as if it had never been.
            let mut fresh = HeaderTree::new(&known.0[0].header);
            deliver(&mut fresh, &network, &known, &taken);
            for index in 1..count {
                again.set_status(known.hash(index), BlockStatus::Header);
            }
            prop_assert_eq!(again.best_header().hash, fresh.best_header().hash);
            prop_assert_eq!(again.best_candidate().hash, known.hash(0));
            work.push(rounds);
        }
        prop_assert_eq!(&work[0], &work[1], "work depends on no order");
    }

    #[test]
    fn ways_through_the_tree(shape in shapes(20)) {
        let network = easy();
        let known = Tree::build(&network, &shape);
        let mut tree = HeaderTree::new(&known.0[0].header);
        deliver(&mut tree, &network, &known, &(1..known.0.len()).collect::<Vec<_>>());
        prop_assert_eq!(tree.len(), known.0.len());
        for one in 0..known.0.len() {
            for other in 0..known.0.len() {
                let (above, below) = (known.ancestry(one), known.ancestry(other));
                let shared = *above.iter().find(|index| below.contains(index)).unwrap();
                let (one_hash, other_hash) = (known.hash(one), known.hash(other));
                prop_assert_eq!(tree.fork_point(&one_hash, &other_hash).unwrap().hash, known.hash(shared));
                prop_assert_eq!(tree.is_ancestor(&one_hash, &other_hash), below.contains(&one));
                let path = below.iter().position(|&index| index == one).map(|end| {
                    below[..end].iter().rev().map(|&index| known.hash(index)).collect::<Vec<_>>()
                });
                prop_assert_eq!(tree.path(&one_hash, &other_hash), path);
            }
        }
    }
}

/// The tree as a plain map, which answers every question by walking all of it.
#[derive(Debug, Clone)]
struct Model {
    genesis: BlockHash,
    blocks: BTreeMap<BlockHash, ModelBlock>,
}

#[derive(Debug, Clone)]
struct ModelBlock {
    known: Known,
    status: BlockStatus,
    /// In which place it came.
    arrival: usize,
}

impl Model {
    fn new(known: &Known) -> Self {
        let block = ModelBlock { known: known.clone(), status: BlockStatus::Verified, arrival: 0 };
        let genesis = known.header.hash();
        Self { genesis, blocks: BTreeMap::from([(genesis, block)]) }
    }

    /// From a block to genesis, itself first.
    fn ancestry(&self, hash: BlockHash) -> Vec<BlockHash> {
        std::iter::successors(Some(hash), |hash| (*hash != self.genesis).then(|| self.blocks[hash].known.header.parent))
            .collect()
    }

    fn all(&self, hash: BlockHash, holds: impl Fn(BlockStatus) -> bool) -> bool {
        self.ancestry(hash).iter().all(|hash| holds(self.blocks[hash].status))
    }

    fn best(&self, holds: impl Fn(BlockStatus) -> bool + Copy) -> BlockHash {
        let good = self.blocks.iter().filter(|(hash, _)| self.all(**hash, holds));
        *good.max_by_key(|(_, block)| (block.known.work, Reverse(block.arrival))).unwrap().0
    }

    fn insert(&mut self, known: &Known) -> Result<BlockHash, InsertError> {
        let (hash, height, parent) = (known.header.hash(), known.header.height, known.header.parent);
        if self.blocks.contains_key(&hash) {
            return Ok(hash);
        }
        if !self.blocks.contains_key(&parent) {
            return Err(InsertError::ParentUnknown { parent, height });
        }
        if !self.all(parent, |status| status != BlockStatus::Invalid) {
            return Err(InsertError::ParentInvalid { height });
        }
        let arrival = self.blocks.len();
        self.blocks.insert(hash, ModelBlock { known: known.clone(), status: BlockStatus::Header, arrival });
        Ok(hash)
    }

    fn agrees_with(&self, tree: &HeaderTree) {
        let mut hashes: Vec<BlockHash> = self.blocks.keys().copied().collect();
        hashes.sort_by_key(|hash| self.blocks[hash].arrival);
        assert_eq!(tree.iter().map(|node| node.hash).collect::<Vec<_>>(), hashes);
        let best = self.best(|status| status != BlockStatus::Invalid);
        assert_eq!(tree.best_header().hash, best);
        assert_eq!(tree.best_candidate().hash, self.best(|status| status == BlockStatus::Verified));
        let (mut to_best, is_verified) = (self.ancestry(best), |status| status == BlockStatus::Verified);
        to_best.reverse();
        to_best.retain(|hash| !self.all(*hash, is_verified));
        assert_eq!(tree.beyond_connectable().map(|node| node.hash).collect::<Vec<_>>(), to_best);
        to_best.retain(|hash| self.blocks[hash].status == BlockStatus::Header);
        assert_eq!(tree.missing(usize::MAX), to_best);
        for &hash in &hashes {
            let ModelBlock { known, status, .. } = &self.blocks[&hash];
            let node = tree.get(&hash).unwrap();
            let Header { height, time, target, parent, .. } = known.header;
            assert_eq!((node.hash, node.height, node.time, node.target), (hash, height, time, target));
            assert_eq!((node.work, node.status, node.anchor()), (known.work, *status, known.anchor));
            assert_eq!(tree.parent(&hash).map(|node| node.hash), self.blocks.contains_key(&parent).then_some(parent));
            assert_eq!(tree.is_condemned(&hash), !self.all(hash, |status| status != BlockStatus::Invalid));
            let ancestry = self.ancestry(hash);
            let (mut locator, mut at, mut step) = (vec![hash], 0, 1);
            while at + 1 < ancestry.len() {
                at = (at + step).min(ancestry.len() - 1);
                locator.push(ancestry[at]);
                step *= if locator.len() >= 10 { 2 } else { 1 };
            }
            assert_eq!(tree.locator(&hash), locator);
            for &other in &hashes {
                let others = self.ancestry(other);
                let fork = ancestry.iter().find(|hash| others.contains(hash));
                assert_eq!(tree.fork_point(&hash, &other).map(|node| node.hash).as_ref(), fork);
                let path = others.iter().position(|it| *it == hash);
                assert_eq!(tree.is_ancestor(&hash, &other), path.is_some());
                let path = path.map(|end| others[..end].iter().rev().copied().collect::<Vec<_>>());
                assert_eq!(tree.path(&hash, &other), path);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Headers come in any order, again and again, between verdicts that come and go; and the tree is stored and restored.
    #[test]
    fn a_plain_map_agrees(
        shape in shapes(16),
        steps in prop::collection::vec((0usize..16, prop::sample::select(STATUSES.to_vec()), 0u8..4), 1..48),
    ) {
        let network = easy();
        let known = Tree::build(&network, &shape);
        let (mut tree, mut model) = (HeaderTree::new(&known.0[0].header), Model::new(&known.0[0]));
        for (index, status, what) in steps {
            let block = &known.0[index % known.0.len()];
            let hash = block.header.hash();
            if what == 0 {
                let is_known = model.blocks.contains_key(&hash);
                prop_assert_eq!(tree.set_status(hash, status), is_known);
                if let Some(block) = model.blocks.get_mut(&hash).filter(|block| block.arrival > 0) {
                    block.status = status;
                }
            } else {
                prop_assert_eq!(tree.insert(&network, &block.header), model.insert(block));
            }
            model.agrees_with(&tree);
        }
        let mut again = HeaderTree::new(&known.0[0].header);
        for node in tree.iter().skip(1) {
            let header = known.header(&node.hash);
            prop_assert_eq!(again.restore(header, node.status), Some(node.hash));
            prop_assert_eq!(again.restore(header, node.status), None, "once is enough");
        }
        model.agrees_with(&again);
    }
}

#[test]
fn what_no_child_can_be_is_not_restored() {
    let network = easy();
    let known = Tree::build(&network, &[(0, 10)]);
    let mut tree = HeaderTree::new(&known.0[0].header);
    let good = &known.0[1].header;
    for bad in [
        Header { height: 2, ..good.clone() },
        Header { height: u64::MAX, ..good.clone() },
        Header { time: TIME_LIMIT, ..good.clone() },
    ] {
        assert_eq!(tree.restore(&bad, BlockStatus::Header), None);
    }
    assert_eq!((tree.len(), tree.restore(good, BlockStatus::Header)), (1, Some(good.hash())));
}

#[test]
fn among_equals_the_first_seen() {
    let network = easy();
    let known = Tree::build(&network, &[(0, 10), (1, 10)]);
    assert_eq!(known.0[1].work, known.0[2].work);
    for order in [[1, 2], [2, 1]] {
        let mut tree = HeaderTree::new(&known.0[0].header);
        deliver(&mut tree, &network, &known, &order);
        assert_eq!(tree.best_header().hash, known.hash(order[0]));
        // The header that came first stays ahead, even where the other block was verified first.
        for index in [order[1], order[0]] {
            tree.set_status(known.hash(index), BlockStatus::Verified);
            assert_eq!(tree.best_candidate().hash, known.hash(index));
        }
    }
}

#[test]
fn what_cannot_be_added() {
    let network = easy();
    let known = Tree::build(&network, &[(0, 10), (0, 10)]);
    let (first, second) = (known.0[1].header.clone(), known.0[2].header.clone());
    let mut tree = HeaderTree::new(&known.0[0].header);
    let orphan = InsertError::ParentUnknown { parent: first.hash(), height: 2 };
    assert_eq!(tree.insert(&network, &second), Err(orphan));
    assert_eq!(tree.restore(&second, BlockStatus::Header), None);
    let late = Header { time: 0, ..first.clone() };
    let source = RuleError::TimeNotAfterParent { found: 0, parent: network.parameters.genesis_time };
    assert_eq!(tree.insert(&network, &late), Err(InsertError::Rule { height: 1, source }));
    assert_eq!(tree.len(), 1);

    tree.insert(&network, &first).unwrap();
    assert!(tree.set_status(first.hash(), BlockStatus::Invalid));
    assert_eq!(tree.insert(&network, &second), Err(InsertError::ParentInvalid { height: 2 }));
    assert_eq!(tree.insert(&network, &first), Ok(first.hash()), "known already");
    assert!(tree.set_status(first.hash(), BlockStatus::Header));
    assert_eq!(tree.insert(&network, &second), Ok(second.hash()));
    assert_eq!((tree.len(), tree.is_empty()), (3, false));

    assert!(tree.set_status(known.hash(0), BlockStatus::Invalid));
    assert_eq!(tree.get(&known.hash(0)).unwrap().status, BlockStatus::Verified, "genesis stays as it is");
    let nowhere = BlockHash([1; 32]);
    assert!(!tree.set_status(nowhere, BlockStatus::Verified));
    assert!(tree.get(&nowhere).is_none() && !tree.is_condemned(&nowhere) && !tree.is_ancestor(&nowhere, &nowhere));
    assert!(tree.fork_point(&nowhere, &known.hash(0)).is_none());
    assert_eq!(tree.path(&known.hash(0), &nowhere), None);
    assert_eq!(tree.path(&known.hash(2), &known.hash(1)), None, "not downwards");
    assert_eq!(tree.locator(&nowhere), []);
}

/// A chain that needs no proof of work: what is restored was checked before.
fn restored(network: &Network, targets: impl IntoIterator<Item = CompactTarget>) -> (HeaderTree, Vec<Header>) {
    let mut headers = vec![network.genesis.clone()];
    let mut tree = HeaderTree::new(&headers[0]);
    for target in targets {
        let before = headers.last().unwrap();
        let (height, time) = (before.height + 1, before.time + (1 << 30));
        let header = Header { parent: before.hash(), height, time, target, ..before.clone() };
        assert_eq!(tree.restore(&header, BlockStatus::Header), Some(header.hash()));
        headers.push(header);
    }
    (tree, headers)
}

#[test]
fn locators_reach_ever_further() {
    let (tree, headers) = restored(&easy(), [CompactTarget(0x2100_ffff); 300]);
    let heights = |from: usize| -> Vec<u64> {
        let locator = tree.locator(&headers[from].hash());
        locator.iter().map(|hash| tree.get(hash).unwrap().height).collect()
    };
    assert_eq!(heights(0), [0]);
    assert_eq!(heights(3), [3, 2, 1, 0]);
    assert_eq!(heights(300), [300, 299, 298, 297, 296, 295, 294, 293, 292, 291, 289, 285, 277, 261, 229, 165, 37, 0]);
    for from in 0..=300 {
        let (mut expected, mut step) = (vec![from as u64], 1);
        while let Some(&last) = expected.last()
            && last > 0
        {
            if expected.len() >= 10 {
                step *= 2;
            }
            expected.push(last.saturating_sub(step));
        }
        assert_eq!(heights(from), expected);
    }
}

#[test]
fn the_chains_work_stays_within_256_bits() {
    // Targets whose work fills up what is left of 2^256 - 1, down to less than an easiest block's.
    let harder = Parameters { easiest_target: CompactTarget(0x2000_ffff), ..easy().parameters };
    let network = Network::new(harder, vec![]);
    let one = network.parameters.easiest_target.to_target().unwrap().work();
    let (mut left, mut targets) = (U256::MAX - one.0, vec![]);
    while left >= one.0 {
        let mut compact = Target(!left / left + U256::ONE).to_compact_lossy();
        while compact.to_target().unwrap().work().0 > left {
            compact.0 += 1;
        }
        left -= compact.to_target().unwrap().work().0;
        targets.push(compact);
    }
    let (mut tree, headers) = restored(&network, targets.iter().copied());
    let tip = headers.last().unwrap();
    assert_eq!(tree.best_header().hash, tip.hash());
    assert_eq!(tree.best_header().work, Work(U256::MAX - left));
    let anchor = AnchorBlock { target: headers[1].target, time: headers[1].time };
    let target = expected_target(&network.parameters, tip, Some(anchor));
    assert_eq!(target, network.parameters.easiest_target, "2^30 s a block is late enough");
    let height = tip.height + 1;
    let mut next = Header { parent: tip.hash(), height, time: tip.time + 1, target, ..tip.clone() };
    while !target.to_target().unwrap().is_met_by(next.hash().0) {
        next.nonce += 1;
    }
    let overflow = InsertError::Rule { height, source: RuleError::WorkOverflow };
    assert_eq!(tree.insert(&network, &next), Err(overflow));
    assert_eq!(tree.restore(&next, BlockStatus::Header), None);
}
