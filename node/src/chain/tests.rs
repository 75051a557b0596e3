//! The chain on a real store: what it keeps, what it takes on work, what it waits for.

mod models;
mod tree;

use std::sync::Mutex;

use ocelli_consensus::fork_choice::BlockStatus;
use ocelli_consensus::rules;
use ocelli_consensus::rules::{AttachmentError, TransactionError};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use super::*;
use crate::store::tests::{Folder, Maker, PIXELS, network};
use crate::store::{Edge, Kept, Observer, Step, StoreOptions};

/// The store tests' network, with a short retention.
fn short_network(retention: u64) -> Network {
    let mut parameters = network().parameters;
    (parameters.retention, parameters.attachment_retention) = (retention, retention);
    Network::new(parameters, Vec::new())
}

struct TestChain {
    chain: Chain,
    folder: Folder,
}

impl TestChain {
    fn new(network: &Network) -> Self {
        let folder = Folder::new();
        let store = Store::open(&folder.path(), network).unwrap();
        Self { chain: Chain::open(network.clone(), store).unwrap(), folder }
    }

    fn keeping(self, prune: Option<Prune>, missing: MissingAttachments) -> Self {
        Self { chain: self.chain.keeping(prune, missing), ..self }
    }

    /// Closes the store and opens it again.
    fn reopen(self) -> Self {
        let Self { chain, folder } = self;
        let network = chain.network.clone();
        drop(chain);
        let store = Store::open_with(&folder.path(), &network, StoreOptions::default()).unwrap();
        Self { chain: Chain::open(network, store).unwrap(), folder }
    }

    /// Makes a block with so many tasks on random attachments, and takes it.
    fn grow(&mut self, random: &mut ChaCha8Rng, tasks: u8) -> (Header, BlockData) {
        let block = self.make(random, tasks);
        self.take(&block);
        block
    }

    fn make(&self, random: &mut ChaCha8Rng, tasks: u8) -> (Header, BlockData) {
        let overlay = Overlay::new(&self.chain.store).unwrap();
        let mut maker = Maker::new(&self.chain.network, &overlay);
        for task in 0..tasks {
            let mut pixels = vec![0; PIXELS];
            random.fill_bytes(&mut pixels);
            maker = maker.classify_image(task % 4, pixels);
        }
        let mut miner = [0; 20];
        random.fill_bytes(&mut miner);
        let (header, body, attachments) = maker.mine(Address(miner));
        (header, BlockData { body, attachments })
    }

    fn take(&mut self, (header, data): &(Header, BlockData)) {
        let hash = header.hash();
        self.headers(std::slice::from_ref(header));
        self.chain.accept_block(hash, data, &|_| false).unwrap();
        self.chain.set_answers(hash, Ok(())).unwrap();
        self.chain.advance().unwrap();
        assert_eq!(self.chain.tip().hash, hash);
    }

    fn headers(&mut self, headers: &[Header]) {
        let (taken, error) = self.chain.insert_headers(headers, u64::MAX).unwrap();
        assert!(error.is_none() && taken == headers.len(), "{error:?}");
    }

    fn kept(&self) -> Kept {
        self.chain.store.kept().unwrap()
    }
}

fn random() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(3)
}

fn without_pixels((_, data): &(Header, BlockData)) -> BlockData {
    BlockData { body: data.body.clone(), attachments: vec![None; data.attachments.len()] }
}

#[test]
fn a_size_bounds_the_disk_down_to_the_retention() {
    let network = short_network(16);
    // Enough for what is no attachments, and half the attachments.
    let (mut all, mut pruned) = (TestChain::new(&network), TestChain::new(&network));
    let (mut random, mut largest) = (random(), 0);
    let limit = 3 << 20;
    pruned = pruned.keeping(Some(Prune::Size(limit)), MissingAttachments::Insist);
    for _ in 0..60 {
        let block = all.grow(&mut random, 40);
        pruned.take(&block);
        pruned.chain.prune_all();
        largest = largest.max(pruned.chain.store.disk_bytes().unwrap());
    }
    let kept = pruned.kept();
    assert!(kept.attachments_from > 20 && kept.attachments_from <= 60 - 16 + 1, "{kept:?}");
    // Each pruning writes its memory table, and what is kept beside it is in the log twice as long.
    let unbounded = all.chain.store.disk_bytes().unwrap();
    assert!(largest < limit + (2 << 20) && largest < unbounded * 3 / 4, "{largest} bytes, {unbounded} unpruned");
    // Nothing else is different.
    assert_eq!(pruned.chain.tip().hash, all.chain.tip().hash);
    for height in [kept.attachments_from - 1, kept.attachments_from, 60] {
        let hash = all.chain.store.hash_at(height).unwrap().unwrap();
        assert_eq!(pruned.chain.block_data(&hash).unwrap().is_some(), height >= kept.attachments_from);
        let body = pruned.chain.kept_data(&hash).unwrap().unwrap().body;
        assert_eq!(body, all.chain.kept_data(&hash).unwrap().unwrap().body);
    }
}

#[test]
fn where_pixels_are_not_enough_bodies_go_down_to_the_retention_and_no_further() {
    let network = short_network(8);
    let mut pruned = TestChain::new(&network).keeping(Some(Prune::Size(1)), MissingAttachments::Insist);
    let mut random = random();
    for height in 1..=20u64 {
        pruned.grow(&mut random, 1);
        pruned.chain.prune_all();
        let from = height.saturating_sub(8) + 1;
        assert_eq!(pruned.kept(), Kept { attachments_from: from, bodies_from: from, answers_from: 1 });
    }
    let reopened = pruned.reopen();
    assert_eq!(reopened.kept().bodies_from, 13);
    assert_eq!(reopened.chain.tip().height, 20);
}

/// Where [`a_step_of_pruning_is_one_write`]'s store does what.
static STEPS: Mutex<Vec<(Step, Option<String>)>> = Mutex::new(Vec::new());

#[test]
fn a_step_of_pruning_is_one_write() {
    let network = short_network(16);
    let folder = Folder::new();
    let observer: Observer = |step, edge| {
        if edge == Edge::Begin && matches!(step, Step::Prune | Step::Free) {
            STEPS.lock().unwrap().push((step, std::thread::current().name().map(String::from)));
        }
    };
    let options = StoreOptions { observer: Some(observer), ..StoreOptions::default() };
    let store = Store::open_with(&folder.path(), &network, options).unwrap();
    let chain = Chain::open(network, store).unwrap();
    let mut chain = TestChain { chain, folder }.keeping(Some(Prune::Size(1)), MissingAttachments::Insist);
    let mut random = random();
    for _ in 0..36 {
        chain.grow(&mut random, 1);
    }

    // An eighth of the retention at a time, and until its files are free no more, however often it is called.
    let mut kept = chain.kept();
    let mut steps = 0;
    loop {
        let pruned = chain.chain.prune().unwrap();
        if let Some(now) = pruned {
            let (attachments, bodies) =
                (now.attachments_from - kept.attachments_from, now.bodies_from - kept.bodies_from);
            assert!(attachments.max(bodies) <= 2, "{kept:?}, then {now:?}");
            kept = now;
            steps += 1;
        } else if !chain.chain.is_pruning() {
            break;
        }
        assert_eq!(chain.kept(), kept);
    }
    assert_eq!((kept.attachments_from, kept.bodies_from), (21, 21));

    // All that takes long is on another thread, each time.
    let here = std::thread::current().name().map(String::from);
    let step = [(Step::Prune, here), (Step::Free, Some(pruning::freeing::THREAD.into()))];
    assert_eq!(*STEPS.lock().unwrap(), std::iter::repeat_n(step, steps).flatten().collect::<Vec<_>>());
    assert_eq!(steps, 20, "20 blocks' attachments, then their bodies, 2 at a time");
}

#[test]
fn an_age_keeps_what_is_younger_and_the_retention() {
    let network = short_network(4);
    let spacing = network.parameters.spacing;
    for (blocks, expected) in [(10, 10), (6, 14), (2, 17), (30, 1)] {
        let prune = Some(Prune::Age(blocks * spacing));
        let mut chain = TestChain::new(&network).keeping(prune, MissingAttachments::Insist);
        let mut random = random();
        for _ in 0..20 {
            chain.grow(&mut random, 1);
        }
        chain.chain.prune_all();
        assert_eq!(
            chain.kept(),
            Kept { attachments_from: expected, bodies_from: 1, answers_from: 1 },
            "{blocks} blocks"
        );
    }
}

/// What blocks have attached that are older than the network demands is bounded by itself, whatever else the folder holds.
#[test]
fn a_surplus_is_kept_up_to_its_bytes() {
    let (network, attached) = (short_network(4), 3 * PIXELS as u64);
    for (bytes, expected) in [(5 * attached, 12), (5 * attached - 1, 13), (0, 17), (u64::MAX, 1)] {
        let prune = Some(Prune::Surplus(bytes));
        let mut chain = TestChain::new(&network).keeping(prune, MissingAttachments::Insist);
        let mut random = random();
        for _ in 0..20 {
            chain.grow(&mut random, 3);
        }
        chain.chain.prune_all();
        assert_eq!(chain.chain.store.attached_up_to(20), Ok(20 * attached));
        let expected = Kept { attachments_from: expected, bodies_from: 1, answers_from: 1 };
        assert_eq!(chain.kept(), expected, "{bytes} bytes");
    }
}

#[test]
fn deep_blocks_are_taken_without_pixels_and_shallow_ones_are_not() {
    let network = short_network(5);
    let mut source = TestChain::new(&network);
    let mut random = random();
    let blocks: Vec<_> = (0..12).map(|_| source.grow(&mut random, 2)).collect();
    let headers: Vec<_> = blocks.iter().map(|(header, _)| header.clone()).collect();

    let mut chain = TestChain::new(&network);
    // As long as nothing stands on them, they are not deep.
    chain.headers(&headers[..5]);
    assert!(!chain.chain.may_lack_attachments(&headers[0].hash()));
    chain.headers(&headers[5..]);
    for (index, block) in blocks.iter().enumerate() {
        let (hash, bare) = (headers[index].hash(), without_pixels(block));
        let is_deep = index < 7;
        assert_eq!(chain.chain.may_lack_attachments(&hash), is_deep);
        match chain.chain.accept_block(hash, &bare, &|_| false) {
            Ok(()) => assert!(is_deep),
            Err(AcceptError::NotTheBlock {
                source: BodyError::Attachment { source: AttachmentError::Presence { expected: true }, .. },
                ..
            }) => {
                assert!(!is_deep);
                chain.chain.accept_block(hash, &block.1, &|_| false).unwrap();
                chain.chain.set_answers(hash, Ok(())).unwrap();
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(chain.chain.advance().unwrap().connected.len(), 12);
    assert_eq!(chain.kept(), Kept { attachments_from: 8, bodies_from: 1, answers_from: 8 });
    let chain = chain.reopen();
    assert_eq!(chain.chain.tip().hash, source.chain.tip().hash);
    assert_eq!(chain.kept().answers_from, 8);

    let mut full = TestChain::new(&network).keeping(None, MissingAttachments::Insist);
    full.headers(&headers);
    let refused = full.chain.accept_block(headers[0].hash(), &without_pixels(&blocks[0]), &|_| false);
    assert!(matches!(refused, Err(AcceptError::NotTheBlock { .. })), "{refused:?}");
    assert_eq!(full.chain.tree.get(&headers[0].hash()).unwrap().status, BlockStatus::Header);
}

#[test]
fn a_block_without_pixels_is_checked_as_far_as_it_can_be() {
    let network = short_network(2);
    let mut source = TestChain::new(&network);
    let mut random = random();
    // Its one signature is wrong, and it has the work.
    let (mut header, mut data) = source.make(&mut random, 1);
    data.body.transactions[0].0.signature[40] ^= 1;
    header.body = data.body.root(&header.parent);
    let target = header.target.to_target().unwrap();
    while !target.is_met_by(header.hash().0) {
        header.nonce += 1;
    }
    // Headers on it, whose roots nobody can check without its body.
    let mut headers = vec![header];
    for _ in 0..3 {
        let mut next = source.make(&mut random, 0).0;
        let parent = &headers[headers.len() - 1];
        (next.parent, next.height, next.time) = (parent.hash(), parent.height + 1, parent.time + 2);
        next.target = rules::expected_target(&network.parameters, parent, Some(anchor(&headers[0])));
        while !next.target.to_target().unwrap().is_met_by(next.hash().0) {
            next.nonce += 1;
        }
        headers.push(next);
    }
    let hash = headers[0].hash();
    source.headers(&headers);
    assert!(source.chain.may_lack_attachments(&hash));
    // Other bytes than the block's say nothing about it.
    let other = BlockData { body: Body::default(), attachments: vec![] };
    let refused = source.chain.accept_block(hash, &other, &|_| false);
    assert!(matches!(refused, Err(AcceptError::NotTheBlock { .. })), "{refused:?}");
    let bare = BlockData { attachments: vec![None; data.attachments.len()], body: data.body };
    let refused = source.chain.accept_block(hash, &bare, &|_| false);
    assert!(
        matches!(
            refused,
            Err(AcceptError::Refused {
                source: RuleError::Transaction { error: TransactionError::Signature(_), .. },
                ..
            })
        ),
        "{refused:?}"
    );
    assert_eq!(source.kept(), Kept::ALL);
    assert!(!source.chain.may_lack_attachments(&hash), "it is no longer on the way to the best header");
}

fn anchor(block: &Header) -> rules::AnchorBlock {
    rules::AnchorBlock { target: block.target, time: block.time }
}

#[test]
fn a_reorganisation_below_what_is_kept_stops_with_instructions_and_moves_nothing() {
    let network = short_network(4);
    let (mut one, mut other) = (TestChain::new(&network), TestChain::new(&network));
    let mut random = random();
    for _ in 0..3 {
        let block = one.grow(&mut random, 1);
        other.take(&block);
    }
    for _ in 0..9 {
        one.grow(&mut random, 1);
    }
    let branch: Vec<_> = (0..11).map(|_| other.grow(&mut random, 1)).collect();
    one.chain.store.prune(5, 5).unwrap();
    let tip = one.chain.tip().hash;
    let headers: Vec<_> = branch.iter().map(|(header, _)| header.clone()).collect();
    one.headers(&headers);
    for (header, data) in &branch {
        one.chain.accept_block(header.hash(), data, &|_| false).unwrap();
        one.chain.set_answers(header.hash(), Ok(())).unwrap();
    }
    let error = one.chain.advance().unwrap_err();
    let block = one.chain.store.hash_at(4).unwrap().unwrap();
    assert_eq!(error, StoreError::Pruned { block, height: 4 });
    assert!(error.to_string().contains("Start it on a new data folder"), "{error}");
    assert_eq!(one.chain.tip().hash, tip);
    // The same after a restart: it is not forgotten.
    let mut one = one.reopen();
    assert_eq!(one.chain.tip().hash, tip);
    assert_eq!(one.chain.advance().unwrap_err(), error);
}

#[test]
fn a_long_way_is_gone_in_parts_and_a_reorganisation_is_not_left_half_way() {
    let network = short_network(1000);
    let (mut short, mut long) = (TestChain::new(&network), TestChain::new(&network));
    let mut random = random();
    for _ in 0..100 {
        short.grow(&mut random, 0);
    }
    let branch: Vec<_> = (0..230).map(|_| long.grow(&mut random, 0)).collect();
    short.headers(&branch.iter().map(|(header, _)| header.clone()).collect::<Vec<_>>());
    for (header, data) in &branch {
        let hash = header.hash();
        short.chain.accept_block(hash, data, &|_| false).unwrap();
        short.chain.set_answers(hash, Ok(())).unwrap();
    }
    // The first part is not left before the branch has more work than what it replaces.
    let best = branch[229].0.hash();
    let MoveEnd::Moved(disconnected, connected) = short.chain.move_towards(&best).unwrap() else { panic!("it moves") };
    assert_eq!((disconnected.len(), connected.len()), (100, 101));
    let rest = short.chain.advance().unwrap();
    assert_eq!((rest.disconnected.len(), rest.connected.len()), (0, 129));
    assert_eq!(short.chain.tip().hash, best);
}

#[test]
fn a_block_whose_pixels_were_pruned_before_its_answers_were_checked_is_asked_for_again() {
    let network = short_network(2);
    let mut chain = TestChain::new(&network);
    let mut random = random();
    let stale = chain.make(&mut random, 1);
    for _ in 0..6 {
        chain.grow(&mut random, 1);
    }
    let hash = stale.0.hash();
    chain.headers(std::slice::from_ref(&stale.0));
    chain.chain.accept_block(hash, &stale.1, &|_| false).unwrap();
    assert_eq!(chain.chain.unchecked(), [hash]);
    chain.chain.store.prune(4, 0).unwrap();
    let chain = chain.reopen();
    assert_eq!(chain.chain.unchecked(), []);
    assert_eq!(chain.chain.tree.get(&hash).unwrap().status, BlockStatus::Header);
}
