//! The store on a real folder: opened, reopened, reorganised, damaged, killed.

mod blocks;
mod chain;
mod crash;
mod damage;
#[cfg(unix)]
mod disk;
mod forget;
mod ledger;
mod opening;
mod power;
mod prune;
mod rules;
mod session;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use ed25519_dalek::{Signer, SigningKey};
use ocelli_consensus::block::{Answer, Classes};
use ocelli_consensus::fork_choice::{BlockStatus, HeaderTree};
use ocelli_consensus::object::{ModelFacts, Object, ObjectId, StateReader, leaf};
use ocelli_consensus::parameters::{GenesisModel, StartingAccount};
use ocelli_consensus::state::{self, Branch, BranchReader, Child};
use ocelli_consensus::transaction::Form;
use ocelli_consensus::{
    Action, Address, Amount, AttachmentHash, Body, CompactTarget, Header, ModelId, Network, Transaction, Unsigned,
};
use rocksdb::IteratorMode;
use tempfile::TempDir;

use super::{Durability, Extent, Kept, Overlay, Step, Store, StoreError, StoreOptions, columns, rows};

/// A temporary place for a store; gone when dropped.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("store")
    }
}

const MODEL: ModelId = ModelId([9; 32]);
/// Bytes of a picture: above the size from which attachments go to blob files.
pub(crate) const PIXELS: usize = 2048;

/// A network whose target nearly every hash meets, with four accounts.
pub(crate) fn network() -> Network {
    let mut parameters = Network::builtin("local").expect("it is built in").parameters;
    parameters.name = "test".into();
    parameters.easiest_target = CompactTarget(0x2100_ffff);
    let balance = Amount(1_000_000_000);
    parameters.accounts = (0..4).map(|number| StartingAccount { address: address(number), balance }).collect();
    parameters.accounts.sort_by_key(|account| account.address);
    let facts =
        ModelFacts { size: 1_000, channels: 1, height: 32, width: (PIXELS / 32) as u16, classes: 2, cost: 16_640 };
    parameters.models = vec![GenesisModel { id: MODEL, facts }];
    Network::new(parameters, Vec::new())
}

fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

pub(crate) fn address(number: u8) -> Address {
    Address::of(key(number).verifying_key().as_bytes())
}

/// Transactions for the block after an overlay's tip, with nonces counted on.
pub(crate) struct Maker<'a> {
    network: &'a Network,
    overlay: &'a Overlay<'a>,
    nonces: BTreeMap<u8, u64>,
    fee: Amount,
    body: Body,
    attachments: Vec<Option<Arc<[u8]>>>,
}

pub(crate) type Made = (Header, Body, Vec<Option<Arc<[u8]>>>);

impl<'a> Maker<'a> {
    pub(crate) fn new(network: &'a Network, overlay: &'a Overlay<'a>) -> Self {
        Self {
            network,
            overlay,
            nonces: BTreeMap::new(),
            fee: Amount(10),
            body: Body::default(),
            attachments: Vec::new(),
        }
    }

    /// Has what follows pay another fee.
    pub(crate) fn paying(self, fee: u64) -> Self {
        Self { fee: Amount(fee), ..self }
    }

    pub(crate) fn transfer(mut self, from: u8, to: Address, amount: u64) -> Self {
        let transaction = self.sign(from, Action::Transfer { to, amount: Amount(amount) });
        self.body.transactions.push((transaction, Answer::None));
        self.attachments.push(None);
        self
    }

    pub(crate) fn classify(self, from: u8, pixel: u8) -> Self {
        self.classify_image(from, vec![pixel; PIXELS])
    }

    /// A task whose answer is made of its first pixel.
    pub(crate) fn classify_image(self, from: u8, pixels: Vec<u8>) -> Self {
        self.ask(from, MODEL, Amount::ZERO, pixels)
    }

    /// The same of any model, for its royalty.
    pub(crate) fn ask(mut self, from: u8, model: ModelId, royalty: Amount, pixels: Vec<u8>) -> Self {
        let answer = Answer::Classes(Classes::of(&[i32::from(pixels[0]), -1]));
        let (picture, bytes) = (AttachmentHash::of(&pixels), pixels.len() as u32);
        let action = Action::Classify { model, picture, bytes, royalty, form: Form::Pixels };
        let transaction = self.sign(from, action);
        self.body.transactions.push((transaction, answer));
        self.attachments.push(Some(pixels.into()));
        self
    }

    /// Any action, with what the block answers.
    pub(crate) fn act(mut self, from: u8, action: Action, answer: Answer, attachment: Option<&[u8]>) -> Self {
        let transaction = self.sign(from, action);
        self.body.transactions.push((transaction, answer));
        self.attachments.push(attachment.map(Arc::from));
        self
    }

    pub(crate) fn sign(&mut self, from: u8, action: Action) -> Transaction {
        let stored = self.overlay.base().reader;
        let account = stored.account(&address(from)).expect("it is stored");
        let nonce = self.nonces.entry(from).or_insert(account.unwrap_or_default().nonce);
        let unsigned = Unsigned { nonce: *nonce, fee: self.fee, expires: u64::MAX, action };
        *nonce += 1;
        let key = key(from);
        let sign = |hash: &[u8; 32]| key.sign(hash).to_bytes();
        Transaction::sign(unsigned, key.verifying_key().to_bytes(), self.network.genesis_hash(), sign)
    }

    /// The valid block of these transactions, paid to `miner`.
    pub(crate) fn mine(self, miner: Address) -> Made {
        let (parent, tip, parameters) = (self.overlay.header(), self.overlay.tip(), &self.network.parameters);
        let place = self.network.place_after(parent, miner);
        let roots = self.overlay.propose(parameters, &place, &self.body).expect("a valid body");
        let mut header = Header {
            version: place.version,
            parent: tip.hash,
            history: roots.history,
            state: roots.state,
            body: self.body.root(&tip.hash),
            miner,
            height: place.height,
            time: parent.time + parameters.spacing,
            target: parameters.easiest_target,
            nonce: 0,
        };
        let target = header.target.to_target().expect("it is canonical");
        while !target.is_met_by(header.hash().0) {
            header.nonce += 1;
        }
        (header, self.body, self.attachments)
    }
}

/// Adds a block as one that has been received and verified.
pub(crate) fn add(store: &Store, (header, body, attachments): &Made) {
    let hash = header.hash();
    store.add_header(header).unwrap();
    store.add_block(&hash, body, attachments, Extent::Body).unwrap();
    store.set_status(&hash, BlockStatus::Verified, None).unwrap();
}

/// Disconnects so many blocks, then connects these, and writes that.
fn reorganise(store: &Store, network: &Network, disconnects: usize, blocks: &[Made]) {
    let mut overlay = Overlay::new(store).unwrap();
    for _ in 0..disconnects {
        overlay.disconnect_tip().unwrap();
    }
    for block in blocks {
        add(store, block);
        overlay.connect(&network.parameters, &block.0, &block.1).unwrap();
    }
    store.commit(overlay.into_move(), Durability::Logged).unwrap();
}

/// Makes so many blocks of transfers and tasks on the stored tip, connects them and returns them.
fn grow(store: &Store, network: &Network, miner: u8, count: u8) -> Vec<Made> {
    let mut blocks = Vec::new();
    for number in 0..count {
        let overlay = Overlay::new(store).unwrap();
        let new = Address([number + miner; 20]);
        let maker = Maker::new(network, &overlay).transfer(0, new, 5_000_000).transfer(1, address(2), 7);
        blocks.push(maker.classify(2, number).mine(address(miner)));
        reorganise(store, network, 0, &blocks[usize::from(number)..]);
    }
    blocks
}

/// All rows of a column.
fn dump(store: &Store, column: &'static str) -> Vec<(Vec<u8>, Vec<u8>)> {
    store
        .iterate(column, IteratorMode::Start)
        .map(|row| row.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap())
        .collect()
}

/// That the stored chain equals one that is connected block by block in a new store.
fn assert_as_from_scratch(store: &Store, network: &Network, blocks: &[Made]) {
    let place = Folder::new();
    let scratch = Store::open(&place.path(), network).unwrap();
    for block in blocks {
        reorganise(&scratch, network, 0, std::slice::from_ref(block));
    }
    assert_eq!(store.tip(), scratch.tip());
    assert_eq!(store.peaks(), scratch.peaks());
    for column in columns::OF_THE_CHAIN.into_iter().chain([columns::LEDGER]) {
        assert_eq!(dump(store, column), dump(&scratch, column), "column {column}");
    }
}

/// That the tip's state is that of the stored accounts, the tree built anew, and the one that the tip's header has.
fn assert_state_root(store: &Store) {
    struct Nothing;
    impl BranchReader for Nothing {
        type Error = StoreError;
        fn branch(&self, _: &state::Path) -> Result<Option<Branch>, StoreError> {
            Ok(None)
        }
    }
    let leaves = dump(store, columns::OBJECTS).into_iter().map(|(key, value)| {
        let id = ObjectId::from_bytes(&key).unwrap();
        assert_eq!(Object::from_bytes(&id, &value).unwrap().to_bytes(), value);
        let (key, hash) = leaf(&id, &value);
        (key, Some(hash))
    });
    let (root, branches) = state::update(&Nothing, Child::Empty, &leaves.collect()).unwrap();
    let tip = store.tip().unwrap();
    assert_eq!(root, tip.state);
    assert_eq!(store.header(&tip.hash).unwrap().unwrap().0.state.0, root.hash());
    let branches: Vec<_> =
        branches.iter().map(|(path, branch)| (path.to_bytes().to_vec(), branch.unwrap().to_bytes())).collect();
    assert_eq!(dump(store, columns::STATE), branches);
}

/// The tree of the stored headers.
fn header_tree(store: &Store) -> HeaderTree {
    let mut tree = HeaderTree::new(store.genesis());
    for row in store.headers() {
        let (header, status) = row.unwrap();
        tree.restore(&header, status).expect("a parent arrives before its child");
    }
    tree
}

impl Store {
    /// Writes or deletes a row behind the store's back.
    pub(crate) fn damage(&self, column: &'static str, key: &[u8], value: Option<&[u8]>) {
        let column = self.column(column);
        match value {
            Some(value) => self.database().put_cf(column, key, value).unwrap(),
            None => self.database().delete_cf(column, key).unwrap(),
        }
    }
}

/// Bytes of rows that were read by key on this thread.
pub(crate) fn bytes_read<T>(run: impl FnOnce() -> T) -> (T, usize) {
    use rocksdb::perf::{PerfContext, PerfMetric, PerfStatsLevel, set_perf_stats};

    set_perf_stats(PerfStatsLevel::EnableCount);
    let mut context = PerfContext::default();
    context.reset();
    let done = run();
    let read = [PerfMetric::GetReadBytes, PerfMetric::MultigetReadBytes, PerfMetric::IterReadBytes];
    (done, read.into_iter().map(|metric| context.metric(metric) as usize).sum())
}
