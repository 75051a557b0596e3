//! Trees of blocks that arrive in any order, and the chain that comes of them, which a replay from genesis must agree with.

use rand::RngExt as _;
use rand::seq::IndexedRandom as _;

use super::*;

/// What is wrong with a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// An answer, which shows when its answers are checked.
    Answer,
    /// The state root, which shows when it is connected.
    State,
}

struct Planted {
    header: Header,
    data: BlockData,
    fault: Fault,
    parent: Option<usize>,
    /// Whether neither it nor a block before it has a fault.
    is_good: bool,
}

/// A random tree with one best good block, and that block.
fn plant(network: &Network, random: &mut ChaCha8Rng) -> (Vec<Planted>, usize) {
    let folder = Folder::new();
    // Stays at the genesis: branches only ever live in overlays.
    let store = Store::open(&folder.path(), network).unwrap();
    let mut blocks: Vec<Planted> = Vec::new();
    for _ in 0..random.random_range(8..24) {
        // Mostly near the top, so that branches get long. Nothing stands on a wrong state root.
        let parents: Vec<_> = (0..blocks.len()).filter(|&at| blocks[at].fault != Fault::State).collect();
        let recent = &parents[parents.len().saturating_sub(5)..];
        let parent = if random.random_ratio(1, 8) { None } else { recent.choose(random).copied() };
        let fault = match random.random_range(0..12) {
            0 => Fault::Answer,
            1 => Fault::State,
            _ => Fault::None,
        };
        blocks.push(block_on(&store, network, &blocks, parent, fault, random));
    }
    // One more on a best one, so that no two are the best.
    let best = (0..blocks.len()).filter(|&at| blocks[at].is_good).max_by_key(|&at| blocks[at].header.height);
    blocks.push(block_on(&store, network, &blocks, best, Fault::None, random));
    let last = blocks.len() - 1;
    (blocks, last)
}

fn path(blocks: &[Planted], mut at: Option<usize>) -> Vec<usize> {
    let mut path = Vec::new();
    while let Some(index) = at {
        path.push(index);
        at = blocks[index].parent;
    }
    path.reverse();
    path
}

fn block_on(
    store: &Store,
    network: &Network,
    blocks: &[Planted],
    parent: Option<usize>,
    fault: Fault,
    random: &mut ChaCha8Rng,
) -> Planted {
    let mut overlay = Overlay::new(store).unwrap();
    for index in path(blocks, parent) {
        overlay.connect(&network.parameters, &blocks[index].header, &blocks[index].data.body).unwrap();
    }
    let mut maker = Maker::new(network, &overlay);
    for _ in 0..random.random_range(0..4) {
        let from = random.random_range(0..4);
        maker = match random.random_range(0..3) {
            0 => maker.classify(from, random.random()),
            _ => maker.transfer(from, Address([random.random_range(1..9); 20]), random.random_range(200_000..900_000)),
        };
    }
    // Another miner each, so that no two blocks are the same.
    let (mut header, body, attachments) = maker.mine(Address([100 + blocks.len() as u8; 20]));
    if fault == Fault::State {
        header.state.0[0] ^= 1;
    }
    while !header.target.to_target().unwrap().is_met_by(header.hash().0) {
        header.nonce += 1;
    }
    let is_good = fault == Fault::None && parent.is_none_or(|parent| blocks[parent].is_good);
    Planted { header, data: BlockData { body, attachments }, fault, parent, is_good }
}

/// How much of a block has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arrived {
    Nothing,
    Header,
    Data,
    Answers,
}

#[test]
fn any_tree_in_any_order_ends_as_if_only_the_best_branch_had_ever_been() {
    for seed in 0..4 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let network = short_network(1000);
        let (blocks, best) = plant(&network, &mut random);
        for _ in 0..2 {
            let mut test = TestChain::new(&network);
            let mut arrived = vec![Arrived::Nothing; blocks.len()];
            let mut events = 0;
            let branch = path(&blocks, Some(best));
            // All of the best branch, and as much of the others as chance has it.
            while branch.iter().any(|&at| arrived[at] != Arrived::Answers) || random.random_ratio(9, 10) {
                let index = random.random_range(0..blocks.len());
                arrived[index] = arrive(&mut test.chain, &blocks[index], arrived[index]);
                events += 1;
                assert!(events < 100_000, "seed {seed}: the best block never comes");
                if random.random_ratio(1, 60) {
                    test = test.reopen();
                    test.chain.advance().unwrap();
                }
                // Always the best of what is here and good.
                let here = (0..blocks.len()).filter(|&at| {
                    path(&blocks, Some(at)).iter().all(|&at| blocks[at].is_good && arrived[at] == Arrived::Answers)
                });
                let height = here.map(|at| blocks[at].header.height).max().unwrap_or(0);
                assert_eq!(test.chain.tip().height, height, "seed {seed}, event {events}");
            }
            let tip = test.chain.store.tip().unwrap();
            assert_eq!(tip.hash, blocks[best].header.hash(), "seed {seed}");
            assert_eq!(tip.state.hash(), blocks[best].header.state.0);

            let mut oracle = TestChain::new(&network);
            for &index in &branch {
                oracle.take(&(blocks[index].header.clone(), blocks[index].data.clone()));
            }
            assert_eq!(oracle.chain.store.tip().unwrap(), tip, "seed {seed}");
            assert_eq!(oracle.chain.store.peaks().unwrap().root(), test.chain.store.peaks().unwrap().root());
            assert_eq!(oracle.chain.store.first_difference(&test.chain.store).unwrap(), None, "seed {seed}");
        }
    }
}

/// Gives the chain what comes next of a block, if it can take it now.
fn arrive(chain: &mut Chain, block: &Planted, arrived: Arrived) -> Arrived {
    let hash = block.header.hash();
    match arrived {
        Arrived::Nothing => match chain.insert_headers(std::slice::from_ref(&block.header), u64::MAX).unwrap() {
            (1, None) => Arrived::Header,
            (0, Some(HeaderError::Insert(InsertError::ParentUnknown { .. } | InsertError::ParentInvalid { .. }))) => {
                Arrived::Nothing
            }
            other => panic!("{other:?}"),
        },
        Arrived::Header => {
            chain.accept_block(hash, &block.data, &|_| false).unwrap();
            Arrived::Data
        }
        Arrived::Data => {
            let wrong = TransactionError::File { reason: "it is wrong".into() }.at(0);
            chain.set_answers(hash, if block.fault == Fault::Answer { Err(wrong) } else { Ok(()) }).unwrap();
            for (refused, ..) in chain.advance().unwrap().refused {
                assert_eq!(chain.store.header(&refused).unwrap().unwrap().1, BlockStatus::Invalid);
            }
            Arrived::Answers
        }
        Arrived::Answers => Arrived::Answers,
    }
}
