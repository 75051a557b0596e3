//! Random trees of blocks, good and bad, in random orders of arrival: the state that is moved from tip to tip by deltas
//! and undo records is always that of a replay from genesis.

mod chain;

use std::collections::BTreeMap;

use chain::{Candidate, Chain, address, parameters};
use ocelli_consensus::fork_choice::{BlockStatus, HeaderTree};
use ocelli_consensus::rules::{AnchorBlock, expected_target};
use ocelli_consensus::*;
use proptest::prelude::*;

/// About one hash a block, and targets that move fast, so that branches of fewer blocks may have more work.
fn easy() -> Parameters {
    Parameters { easiest_target: CompactTarget(0x2100_ffff), half_life: 20, ..parameters() }
}

/// How a block is made.
#[derive(Debug, Clone)]
struct Plan {
    /// How many blocks before it its parent was made.
    back: usize,
    /// Seconds after its parent.
    seconds: u64,
    is_good: bool,
    /// Of each transaction: sender 1 to 3, recipient, amount; an amount of 0 is a task instead.
    transactions: Vec<(u8, u8, u64)>,
}

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let transactions = prop::collection::vec((1u8..4, 1u8..9, prop_oneof![Just(0), 100u64..400]), 0..4);
    // Parents are among the newest, so that branches grow.
    let plan = (0usize..5, prop::sample::select(vec![1, 10, 10, 40]), prop::bool::weighted(0.9), transactions);
    let plan = plan.prop_map(|(back, seconds, is_good, transactions)| Plan { back, seconds, is_good, transactions });
    prop::collection::vec(plan, 1..22)
}

/// A block, and the chain that ends in it unless that breaks a rule.
struct Made {
    candidate: Candidate,
    parent: usize,
    anchor: Option<AnchorBlock>,
    chain: Option<Chain>,
}

fn make(plans: &[Plan]) -> Vec<Made> {
    let start = Chain::new(easy());
    let genesis = Candidate { header: start.headers[0].clone(), body: Body::default(), attachments: vec![] };
    let mut made = vec![Made { candidate: genesis, parent: 0, anchor: None, chain: Some(start) }];
    for (number, plan) in plans.iter().enumerate() {
        let parent = number.saturating_sub(plan.back);
        let before = &made[parent];
        let (candidate, chain) = match &before.chain {
            Some(chain) => on_good(chain, plan),
            None => (on_bad(before, number, plan), None),
        };
        let (target, time) = (candidate.header.target, candidate.header.time);
        let anchor = before.anchor.or(Some(AnchorBlock { target, time }));
        made.push(Made { candidate, parent, anchor, chain });
    }
    made
}

fn on_good(chain: &Chain, plan: &Plan) -> (Candidate, Option<Chain>) {
    let mut nonces: BTreeMap<u8, u64> = BTreeMap::new();
    let mut transactions = Vec::new();
    for (index, &(sender, to, amount)) in plan.transactions.iter().enumerate() {
        let account = chain.ledger.account(&address(sender)).unwrap();
        let nonce = nonces.entry(sender).or_insert(account.nonce);
        let pixels = [index as u8, sender, to, chain.tip().height as u8];
        transactions.push(match amount {
            0 => (chain.classify(sender, *nonce, &pixels, 3), Some(pixels.to_vec())),
            _ => (chain.transfer(sender, *nonce, address(to), amount, 2), None),
        });
        *nonce += 1;
    }
    let mut candidate = chain.candidate(transactions);
    candidate.header.time = chain.tip().time + plan.seconds;
    chain.seal(&mut candidate);
    if !plan.is_good || chain.check(&candidate).is_err() {
        candidate.header.state = Root([9; 32]);
        chain.mine(&mut candidate.header);
        return (candidate, None);
    }
    let mut after = chain.clone();
    after.connect(&candidate);
    (candidate, Some(after))
}

/// A header that keeps all rules of headers, on a block that does not keep its own.
fn on_bad(before: &Made, number: usize, plan: &Plan) -> Candidate {
    let parent = &before.candidate.header;
    let target = expected_target(&easy(), parent, before.anchor);
    let mut header = Header {
        parent: parent.hash(),
        height: parent.height + 1,
        time: parent.time + plan.seconds,
        state: Root([number as u8; 32]),
        body: Body::default().root(&parent.hash()),
        target,
        ..parent.clone()
    };
    while !target.to_target().unwrap().is_met_by(header.hash().0) {
        header.nonce += 1;
    }
    Candidate { header, body: Body::default(), attachments: vec![] }
}

/// A node without disk or network: headers, bodies, and one state that moves.
struct Node {
    tree: HeaderTree,
    bodies: BTreeMap<BlockHash, Candidate>,
    chain: Chain,
}

impl Node {
    fn new() -> Self {
        let chain = Chain::new(easy());
        Self { tree: HeaderTree::new(&chain.headers[0]), bodies: BTreeMap::new(), chain }
    }

    fn add_body(&mut self, candidate: &Candidate) {
        let hash = candidate.header.hash();
        self.bodies.insert(hash, candidate.clone());
        assert!(self.tree.set_status(hash, BlockStatus::Verified));
    }

    /// Moves to the best candidate, over as many refused blocks as it takes. What was told of each move leads from the old
    /// chain to the new one.
    fn advance(&mut self) {
        loop {
            let (best, tip) = (self.tree.best_candidate(), self.chain.tip().hash());
            if best.work <= self.tree.get(&tip).unwrap().work && !self.tree.is_condemned(&tip) {
                return;
            }
            let (best, before) = (best.hash, self.chain.clone());
            match self.move_to(&best) {
                Ok((disconnected, connected)) => {
                    let mut hashes: Vec<BlockHash> = before.headers.iter().map(Header::hash).collect();
                    for hash in &disconnected {
                        assert_eq!(hashes.pop().as_ref(), Some(hash), "highest first");
                    }
                    hashes.extend(connected);
                    assert_eq!(hashes, self.chain.headers.iter().map(Header::hash).collect::<Vec<_>>());
                }
                Err(refused) => {
                    self.chain = before;
                    self.tree.set_status(refused, BlockStatus::Invalid);
                }
            }
        }
    }

    fn move_to(&mut self, best: &BlockHash) -> Result<(Vec<BlockHash>, Vec<BlockHash>), BlockHash> {
        let fork = self.tree.fork_point(&self.chain.tip().hash(), best).unwrap().hash;
        let mut disconnected = Vec::new();
        while self.chain.tip().hash() != fork {
            disconnected.push(self.chain.tip().hash());
            let expected = self.chain.disconnect();
            assert_eq!(self.chain.state, expected, "the undo record restores the tree");
        }
        let path = self.tree.path(&fork, best).unwrap();
        for hash in &path {
            let candidate = &self.bodies[hash];
            if self.chain.check(candidate).is_err() {
                return Err(*hash);
            }
            self.chain.connect(candidate);
        }
        Ok((disconnected, path))
    }
}

/// What arrives: a header, or the body of a block whose header has come.
#[derive(Debug, Clone, Copy)]
enum Arrival {
    Header(usize),
    Body(usize),
}

/// Headers and bodies in an order that a seed gives; each comes again later if it comes too early.
fn deliver(node: &mut Node, made: &[Made], seed: u64) {
    let mut waiting: Vec<Arrival> =
        (1..made.len()).flat_map(|index| [Arrival::Header(index), Arrival::Body(index)]).collect();
    let place = |arrival: &Arrival| {
        let number = match arrival {
            Arrival::Header(index) => 2 * index,
            Arrival::Body(index) => 2 * index + 1,
        };
        (number as u64).wrapping_mul(seed | 1).rotate_left(29)
    };
    if seed != 0 {
        waiting.sort_by_key(place);
    }
    let mut left = usize::MAX;
    while waiting.len() < left {
        left = waiting.len();
        waiting.retain(|arrival| {
            let (Arrival::Header(index) | Arrival::Body(index)) = *arrival;
            let candidate = &made[index].candidate;
            let parent = &candidate.header.parent;
            match arrival {
                _ if node.tree.is_condemned(parent) => false,
                Arrival::Header(_) => node.tree.insert(&node.chain.network, &candidate.header).is_err(),
                Arrival::Body(_) if !node.tree.contains(&candidate.header.hash()) => true,
                Arrival::Body(_) => {
                    node.add_body(candidate);
                    node.advance();
                    false
                }
            }
        });
    }
    // What never finds its place stands on a bad block.
    for Arrival::Header(index) | Arrival::Body(index) in waiting {
        assert!(made[index].chain.is_none() && made[made[index].parent].chain.is_none());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_order_of_arrival_ends_in_the_state_of_a_replay(plans in plans(), seeds in any::<[u64; 3]>()) {
        let made = make(&plans);
        let work = |index: usize| {
            let mut node = index;
            let mut sum = U256::ZERO;
            while node != 0 {
                sum += made[node].candidate.header.target.to_target().unwrap().work().0;
                node = made[node].parent;
            }
            sum
        };
        let good = (0..made.len()).filter(|&index| made[index].chain.is_some());
        let most = good.clone().map(work).max().unwrap();
        let best: Vec<usize> = good.filter(|&index| work(index) == most).collect();
        for seed in [0, seeds[0], seeds[1], seeds[2]] {
            let mut node = Node::new();
            deliver(&mut node, &made, seed);
            let tip = node.chain.tip().hash();
            // Among equals the first that could be connected stays.
            let index = best.iter().copied().find(|&index| made[index].candidate.header.hash() == tip);
            prop_assert!(index.is_some(), "the tip has not the most work");

            let mut ancestry = vec![index.unwrap()];
            while let Some(&last) = ancestry.last() && last != 0 {
                ancestry.push(made[last].parent);
            }
            let mut oracle = Chain::new(easy());
            for &index in ancestry.iter().rev().skip(1) {
                oracle.connect(&made[index].candidate);
            }
            prop_assert_eq!(&node.chain.headers, &oracle.headers);
            prop_assert_eq!(node.chain.state, oracle.state);
            prop_assert_eq!(node.chain.peaks.root(), oracle.peaks.root());
            prop_assert_eq!(&node.chain.ledger, &oracle.ledger, "no row is left over or missing");
            prop_assert_eq!(Root(oracle.state.hash()), oracle.tip().state);
        }
    }
}
