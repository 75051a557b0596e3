//! Models: uploaded in parts, published, used, and taken back.

use ocelli_consensus::block::{Answer, Classes};
use ocelli_consensus::hash::UploadHash;
use ocelli_consensus::object::ModelFacts;
use ocelli_consensus::rules::TransactionError;
use ocelli_consensus::transaction::Form;
use ocelli_consensus::{Action, Amount, AttachmentHash, ModelId};
use ocelli_model::zoo;

use super::*;
use crate::inference::{describe_file, facts_of};
use crate::store::CHUNK_BYTES;
use crate::store::tests::address;

/// The blocks between an upload and its first part.
const BEFORE_PARTS: u64 = 8;
const DELAY: u64 = 3;

/// A network on which a model costs little, and may soon be used.
fn model_network() -> Network {
    let mut parameters = short_network(1000).parameters;
    (parameters.upload_window, parameters.model_delay, parameters.model_price) = (20, DELAY, Amount(1));
    Network::new(parameters, Vec::new())
}

/// A file of four parts.
fn file() -> &'static [u8] {
    zoo::bytes("cifar10-resnet").unwrap()
}

fn facts() -> ModelFacts {
    facts_of(&zoo::get("cifar10-resnet").unwrap())
}

fn upload(model: ModelId, size: u32) -> Action {
    Action::Upload { file: UploadHash::of(&address(0), &model), size }
}

fn parts(file: &[u8]) -> Vec<(Action, &[u8])> {
    let parts = (0u16..).zip(file.chunks(CHUNK_BYTES));
    let part = |(number, part): (u16, _)| {
        (Action::Part { number, bytes: <[u8]>::len(part) as u32, data: AttachmentHash::of(part) }, part)
    };
    parts.map(part).collect()
}

fn publish(model: ModelId, facts: ModelFacts) -> Action {
    Action::Publish { model, facts, royalty: Amount(5) }
}

fn classify(model: ModelId, pixels: &[u8]) -> Action {
    let (picture, bytes) = (AttachmentHash::of(pixels), pixels.len() as u32);
    Action::Classify { model, picture, bytes, royalty: Amount(5), form: Form::Pixels }
}

/// The tip's block, as one that was just connected.
fn moved(test: &TestChain) -> Moved {
    let hash = test.chain.tip().hash;
    let (header, _) = test.chain.store.header(&hash).unwrap().unwrap();
    let body = test.chain.store.body(header.height, &hash).unwrap().unwrap();
    Moved { hash, header, body }
}

impl TestChain {
    /// A block on the tip that is not given to the chain.
    fn with(&self, miner: u8, fill: impl for<'a> FnOnce(Maker<'a>) -> Maker<'a>) -> (Header, BlockData) {
        let overlay = Overlay::new(&self.chain.store).unwrap();
        let (header, body, attachments) = fill(Maker::new(&self.chain.network, &overlay)).mine(Address([miner; 20]));
        (header, BlockData { body, attachments })
    }

    /// Gives the chain a block, with right answers.
    fn give(&mut self, (header, data): &(Header, BlockData)) -> Advance {
        self.headers(std::slice::from_ref(header));
        self.chain.accept_block(header.hash(), data, &|_| false).unwrap();
        self.chain.set_answers(header.hash(), Ok(())).unwrap();
        self.chain.advance().unwrap()
    }

    fn put(&mut self, fill: impl for<'a> FnOnce(Maker<'a>) -> Maker<'a>) -> (Header, BlockData) {
        let block = self.with(1, fill);
        self.give(&block);
        assert_eq!(self.chain.tip().hash, block.0.hash());
        block
    }

    /// Uploads a file, as so much as another file may be declared; the blocks that did it.
    fn upload(&mut self, model: ModelId, file: &[u8]) -> Vec<(Header, BlockData)> {
        let mut blocks = vec![self.put(|maker| maker.act(0, upload(model, file.len() as u32), Answer::None, None))];
        blocks.extend((1..BEFORE_PARTS).map(|_| self.put(|maker| maker)));
        blocks.push(self.put(|maker| {
            let parts = parts(file).into_iter();
            parts.fold(maker, |maker, (part, bytes)| maker.act(0, part, Answer::None, Some(bytes)))
        }));
        blocks
    }

    /// What the node's thread for files does.
    fn check_files(&mut self, connected: &[Moved]) -> usize {
        let finished = self.chain.finished_uploads(connected).unwrap();
        for finished in &finished {
            let file = assemble(&self.chain.store, finished).unwrap().expect("its parts are here");
            self.chain.file_checked(CheckedFile::of(&file));
        }
        finished.len()
    }
}

#[test]
fn an_upload_is_put_together_checked_once_and_kept() {
    let mut chain = TestChain::new(&model_network());
    let (model, file) = (ModelId::of(file()), file());
    chain.put(|maker| maker.act(0, upload(model, file.len() as u32), Answer::None, None));
    for _ in 1..BEFORE_PARTS {
        chain.put(|maker| maker);
    }
    let parts = parts(file);
    assert_eq!(parts.len(), 4);
    for (left, (part, bytes)) in (0..4).rev().zip(&parts) {
        let block = chain.with(1, |maker| maker.act(0, part.clone(), Answer::None, Some(bytes)));
        let advance = chain.give(&block);
        assert_eq!(chain.check_files(&advance.connected), usize::from(left == 0), "{left} parts are missing");
    }
    let advance = Advance { connected: vec![moved(&chain)], ..Advance::default() };
    assert_eq!(chain.check_files(&advance.connected), 0, "what it holds is remembered");

    let advance = chain.give(&chain.with(1, |maker| maker.act(0, publish(model, facts()), Answer::None, None)));
    let [wanted] = published_files(&advance.connected).collect::<Vec<_>>()[..] else { panic!("one model") };
    let found = assemble_published(&chain.chain.store, &wanted).unwrap().expect("its parts are here");
    assert_eq!(found, file);
    chain.chain.store.add_file(&found, "resnet").unwrap();
    // Kept for good, whatever else is pruned, and given in chunks.
    let store = &chain.chain.store;
    store.prune(store.tip().unwrap().height, store.tip().unwrap().height).unwrap();
    let chain = chain.reopen();
    let store = &chain.chain.store;
    assert_eq!(assemble_published(store, &wanted), Ok(None));
    assert_eq!((store.has_file(&model), store.name(&model)), (Ok(true), Ok(Some("resnet".into()))));
    for (number, (_, part)) in (0..).zip(&parts) {
        assert_eq!(store.chunk(&model, number).unwrap().as_deref(), Some(*part));
    }
    assert_eq!(store.chunk(&model, 4), Ok(None));
    assert_eq!(store.model_files().file(model).unwrap().as_deref(), Some(file));
    assert_eq!(store.file(&ModelId([3; 32])), Ok(None));
    store.damage("files", &[&model.0[..], &[0, 1]].concat(), Some(b"other bytes"));
    assert!(matches!(store.file(&model), Err(StoreError::Damaged { .. })));
}

#[test]
fn a_publication_waits_until_its_file_is_checked() {
    let mut chain = TestChain::new(&model_network());
    let model = ModelId::of(file());
    chain.upload(model, file());
    let block = chain.with(1, |maker| maker.act(0, publish(model, facts()), Answer::None, None));
    let next = chain.with(1, |maker| maker);
    let advance = chain.give(&block);
    assert!(advance.connected.is_empty() && advance.refused.is_empty());
    let (wanted, finished) = chain.chain.awaited_files().next().cloned().expect("it waits for a file");
    assert_eq!((wanted.model, wanted.size), (model, file().len() as u32));
    // Another branch is not held up by it.
    chain.give(&next);
    assert_eq!(chain.chain.tip().hash, next.0.hash());
    // Nor is it forgotten by a restart.
    let mut chain = chain.reopen();
    chain.chain.advance().unwrap();
    let file = assemble(&chain.chain.store, &finished).unwrap().expect("its parts are here");
    chain.chain.file_checked(CheckedFile::of(&file));
    let on_block = {
        let mut overlay = Overlay::new(&chain.chain.store).unwrap();
        overlay.disconnect_tip().unwrap();
        overlay.connect(&chain.chain.network.parameters, &block.0, &block.1.body).unwrap();
        let (header, body, attachments) = Maker::new(&chain.chain.network, &overlay).mine(Address([8; 20]));
        (header, BlockData { body, attachments })
    };
    let advance = chain.give(&on_block);
    assert_eq!(advance.connected.len(), 2);
    assert!(chain.chain.store.model(&model).unwrap().is_some());
}

#[test]
fn a_publication_of_another_file_is_refused() {
    let good = file();
    let mut cut = good.to_vec();
    cut.truncate(good.len() - 1);
    let dear = ModelFacts { cost: facts().cost + 1, ..facts() };
    let short = ModelFacts { size: cut.len() as u32, ..facts() };
    let rows: [(&[u8], ModelId, ModelFacts, &str); 3] = [
        (good, ModelId::of(good), dear, "declared are"),
        (good, ModelId([7; 32]), facts(), "the parts make the file of model"),
        (&cut, ModelId::of(&cut), short, &describe_file(&cut).unwrap_err()),
    ];
    for (file, model, facts, expected) in rows {
        let mut chain = TestChain::new(&model_network());
        let blocks = chain.upload(model, file);
        assert_eq!(blocks.len(), 9);
        chain.check_files(&[moved(&chain)]);
        let advance = chain.give(&chain.with(1, |maker| maker.act(0, publish(model, facts), Answer::None, None)));
        let [(_, _, RuleError::Transaction { index: 0, error: TransactionError::File { reason } })] =
            &advance.refused[..]
        else {
            panic!("{:?}", advance.refused)
        };
        assert!(reason.contains(expected), "{reason}");
        assert_eq!(chain.chain.tip().height, 9);
    }
}

/// A published model may be used after the delay, on its own branch and on no other.
#[test]
fn a_model_is_what_its_branch_has() {
    let mut chain = TestChain::new(&model_network());
    let (model, facts) = (ModelId::of(file()), facts());
    let mut blocks = chain.upload(model, file());
    chain.check_files(&[moved(&chain)]);
    let mut other = TestChain::new(&model_network());
    for block in &blocks {
        other.give(block);
    }
    blocks.push(chain.put(|maker| maker.act(0, publish(model, facts), Answer::None, None)));
    let pixels = vec![9; facts.pixels() as usize];
    let answer = || Answer::Classes(Classes::of(&vec![7; facts.classes as usize]));
    let task = (classify(model, &pixels), answer());
    // A task that comes too early is refused: its block is made as if there were no such rule.
    let early = |test: &TestChain| {
        let (mut header, mut data) = test.with(2, |maker| maker);
        let overlay = Overlay::new(&test.chain.store).unwrap();
        let transaction = Maker::new(&test.chain.network, &overlay).sign(1, classify(model, &pixels));
        data.body.transactions.push((transaction, answer()));
        data.attachments.push(Some(pixels.clone().into()));
        header.body = data.body.root(&header.parent);
        while !header.target.to_target().unwrap().is_met_by(header.hash().0) {
            header.nonce += 1;
        }
        (header, data)
    };
    for _ in 1..DELAY {
        let block = early(&chain);
        chain.headers(std::slice::from_ref(&block.0));
        let refused = chain.chain.accept_block(block.0.hash(), &block.1, &|_| false);
        let Err(AcceptError::Refused { source: RuleError::Transaction { error, .. }, .. }) = refused else {
            panic!("{refused:?}")
        };
        assert!(matches!(error, TransactionError::UnknownModel { .. }), "{error}");
        blocks.push(chain.put(|maker| maker));
    }
    let author = chain.chain.account(&address(0)).unwrap().balance;
    blocks.push(chain.put(|maker| maker.act(1, task.0, task.1, Some(&pixels))));
    assert_eq!(chain.chain.store.uses(&model), Ok(1));
    assert_eq!(chain.chain.account(&address(0)).unwrap().balance, Amount(author.0 + 5), "its author is paid");

    // The other branch never sees the model, and gets more work.
    let without: Vec<_> = (0..6).map(|_| other.put(|maker| maker)).collect();
    for block in &without {
        chain.give(block);
    }
    assert_eq!(chain.chain.tip().hash, without[5].0.hash());
    assert_eq!((chain.chain.store.model(&model), chain.chain.store.uses(&model)), (Ok(None), Ok(0)));
    let block = early(&chain);
    chain.headers(std::slice::from_ref(&block.0));
    assert!(matches!(
        chain.chain.accept_block(block.0.hash(), &block.1, &|_| false),
        Err(AcceptError::Refused { source: RuleError::Transaction { .. }, .. })
    ));

    // A node on that branch takes the first one's blocks all the same, from their bodies before any of them is connected.
    for block in &without {
        other.headers(std::slice::from_ref(&block.0));
    }
    let headers: Vec<_> = blocks[9..].iter().map(|(header, _)| header.clone()).collect();
    other.headers(&headers);
    let (header, data) = blocks.last().unwrap();
    assert!(matches!(other.chain.accept_block(header.hash(), data, &|_| false), Err(AcceptError::Early(_))));
    for (header, data) in &blocks[9..] {
        other.chain.accept_block(header.hash(), data, &|_| false).unwrap();
        other.chain.set_answers(header.hash(), Ok(())).unwrap();
    }
    assert_eq!(other.chain.store.first_difference(&chain.chain.store).unwrap(), None);
}
