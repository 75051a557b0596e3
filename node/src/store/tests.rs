//! The store on a real folder: opened, reopened, reorganised, damaged, killed.

mod blocks;
mod chain;
mod crash;
mod damage;
#[cfg(unix)]
mod disk;
mod migration;
mod opening;
mod power;
mod prune;
mod session;

use std::collections::BTreeMap;
use std::path::PathBuf;

use ed25519_dalek::{Signer, SigningKey};
use ocelli_consensus::fork_choice::{BlockStatus, HeaderTree};
use ocelli_consensus::network::{ModelParameters, StartingAccount};
use ocelli_consensus::state::{self, Branch, BranchReader, Child};
use ocelli_consensus::transition::Place;
use ocelli_consensus::{
    Action, Address, Amount, Body, CompactTarget, Header, ImageHash, ModelId, Network, Transaction, Unsigned,
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
/// Above the size from which pixels go to blob files.
pub(crate) const PIXELS: usize = 2048;

/// A network whose target nearly every hash meets, with four accounts.
pub(crate) fn network() -> Network {
    let mut parameters = Network::builtin("local").expect("it is built in").parameters;
    parameters.name = "test".into();
    parameters.easiest_target = CompactTarget(0x2100_ffff);
    let balance = Amount(1_000_000_000);
    parameters.accounts = (0..4).map(|number| StartingAccount { address: address(number), balance }).collect();
    parameters.accounts.sort_by_key(|account| account.address);
    parameters.models = vec![ModelParameters { id: MODEL, pixels: PIXELS as u32, logits: 2, cost: 1 }];
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
    pixels: Vec<Option<Vec<u8>>>,
}

pub(crate) type Made = (Header, Body, Vec<Option<Vec<u8>>>);

impl<'a> Maker<'a> {
    pub(crate) fn new(network: &'a Network, overlay: &'a Overlay<'a>) -> Self {
        Self { network, overlay, nonces: BTreeMap::new(), fee: Amount(10), body: Body::default(), pixels: Vec::new() }
    }

    /// Has what follows pay another fee.
    pub(crate) fn paying(self, fee: u64) -> Self {
        Self { fee: Amount(fee), ..self }
    }

    pub(crate) fn transfer(mut self, from: u8, to: Address, amount: u64) -> Self {
        let transaction = self.sign(from, Action::Transfer { to, amount: Amount(amount) });
        self.body.transactions.push((transaction, None));
        self.pixels.push(None);
        self
    }

    pub(crate) fn classify(self, from: u8, pixel: u8) -> Self {
        self.classify_image(from, vec![pixel; PIXELS])
    }

    /// A task whose answer is made of its first pixel.
    pub(crate) fn classify_image(mut self, from: u8, pixels: Vec<u8>) -> Self {
        let pixel = pixels[0];
        let transaction = self.sign(from, Action::Classify { model: MODEL, image: ImageHash::of(&pixels) });
        self.body.transactions.push((transaction, Some(vec![i32::from(pixel), -1])));
        self.pixels.push(Some(pixels));
        self
    }

    fn sign(&mut self, from: u8, action: Action) -> Transaction {
        let stored = self.overlay.base().reader;
        let account = ocelli_consensus::transition::StateReader::account(stored, &address(from)).expect("it is stored");
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
        let height = tip.height + 1;
        let roots = self.overlay.propose(parameters, Place { height, miner }, &self.body).expect("a valid body");
        let mut header = Header {
            version: 1,
            parent: tip.hash,
            history: roots.history,
            state: roots.state,
            body: self.body.root(),
            miner,
            height,
            time: parent.time + parameters.spacing,
            target: parameters.easiest_target,
            nonce: 0,
        };
        let target = header.target.to_target().expect("it is canonical");
        while !target.is_met_by(header.hash().0) {
            header.nonce += 1;
        }
        (header, self.body, self.pixels)
    }
}

/// Adds a block as one that has been received and verified.
pub(crate) fn add(store: &Store, (header, body, pixels): &Made) {
    let hash = header.hash();
    store.add_header(header).unwrap();
    store.add_block(&hash, body, pixels, Extent::Body).unwrap();
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

/// The columns that follow from the main chain, whichever way it came about.
const OF_THE_CHAIN: [&str; 6] =
    [columns::UNDO, columns::HEIGHTS, columns::ACCOUNTS, columns::STATE, columns::HISTORY, columns::TRANSACTIONS];

/// That the stored chain equals one that is connected block by block in a new store.
fn assert_as_from_scratch(store: &Store, network: &Network, blocks: &[Made]) {
    let place = Folder::new();
    let scratch = Store::open(&place.path(), network).unwrap();
    for block in blocks {
        reorganise(&scratch, network, 0, std::slice::from_ref(block));
    }
    assert_eq!(store.tip(), scratch.tip());
    assert_eq!(store.peaks(), scratch.peaks());
    for column in OF_THE_CHAIN {
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
    let leaves = dump(store, columns::ACCOUNTS).into_iter().map(|(key, value)| {
        let (key, hash) = rows::account(&value).unwrap().leaf(&Address(key.try_into().unwrap()));
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
