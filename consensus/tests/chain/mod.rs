//! A chain in memory, with real signatures and real proof of work at an easy target.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::BTreeMap;
use std::convert::Infallible;

use ed25519_dalek::{Signer, SigningKey};
use ocelli_consensus::genesis::genesis_state;
use ocelli_consensus::header::Place;
use ocelli_consensus::history::Peaks;
use ocelli_consensus::object::StateReader;
use ocelli_consensus::parameters::{GenesisModel, StartingAccount};
use ocelli_consensus::rules::{self, AnchorBlock, AttachmentError};
use ocelli_consensus::state::{Branch, BranchChanges, BranchReader, Child, Path};
use ocelli_consensus::transition::{self, Base, Change, ConnectError, Connected, Delta, Undo};
use ocelli_consensus::*;

/// The model from genesis on: 4 pixels, 2 logits.
pub const MODEL: ModelId = ModelId([0x6d; 32]);
/// What the network knows of it.
pub const FACTS: ModelFacts =
    ModelFacts { size: 300_000, channels: 1, height: 2, width: 2, classes: 2, cost: 24_576 + 12_287 };

pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub fn address(seed: u8) -> Address {
    Address::of(key(seed).verifying_key().as_bytes())
}

/// A network of the accounts 1, 2 and 3 with 10,000 grains each, at about 256 hashes a block.
pub fn parameters() -> Parameters {
    Parameters {
        name: "test".into(),
        address_prefix: "toc".into(),
        genesis_time: 1_000_000,
        spacing: 10,
        half_life: 100,
        easiest_target: CompactTarget(0x2000_ffff),
        reward: Amount(50),
        halving: 3,
        weight_limit: 1_100_000,
        minimum_balance: Amount(100),
        retention: 100,
        attachment_retention: 90,
        upload_window: 20,
        model_delay: 2,
        model_price: Amount(0),
        accounts: starting((1..=3).map(|seed| (seed, 10_000))),
        models: vec![GenesisModel { id: MODEL, facts: FACTS }],
    }
}

/// Starting accounts of these seeds, in the order that the parameters ask for.
pub fn starting(balances: impl IntoIterator<Item = (u8, u64)>) -> Vec<StartingAccount> {
    let account = |(seed, balance)| StartingAccount { address: address(seed), balance: Amount(balance) };
    let mut accounts: Vec<_> = balances.into_iter().map(account).collect();
    accounts.sort_by_key(|account| account.address);
    accounts
}

/// What a model of this many classes says in these tests.
pub fn logits(picture: &[u8], classes: u32) -> Vec<i32> {
    let sum: i32 = picture.iter().map(|&pixel| i32::from(pixel)).sum();
    (0..).map(|class| sum * (1 - 2 * class)).take(classes as usize).collect()
}

/// The right answer to a transaction with this attachment.
pub fn answer(transaction: &Transaction, attachment: Option<&[u8]>, classes: u32) -> Answer {
    match (transaction.task(), attachment) {
        (Some(_), Some(picture)) => Answer::Classes(Classes::of(&logits(picture, classes))),
        _ => Answer::None,
    }
}

/// Objects, as bytes, and branches as a store would hold them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    pub objects: BTreeMap<Vec<u8>, Vec<u8>>,
    pub branches: BTreeMap<Path, Branch>,
}

impl StateReader for Ledger {
    type Error = Infallible;
    fn object(&self, id: &ObjectId) -> Result<Option<Object>, Infallible> {
        let value = self.objects.get(&id.to_bytes());
        Ok(value.map(|bytes| Object::from_bytes(id, bytes).expect("what was written is its kind's")))
    }
}

impl BranchReader for Ledger {
    type Error = Infallible;
    fn branch(&self, path: &Path) -> Result<Option<Branch>, Infallible> {
        Ok(self.branches.get(path).copied())
    }
}

impl Ledger {
    pub fn account(&self, address: &Address) -> Option<Account> {
        let Ok(account) = StateReader::account(self, address);
        account
    }

    pub fn model(&self, id: &ModelId) -> Option<ModelRecord> {
        let Ok(model) = StateReader::model(self, id);
        model
    }

    pub fn upload(&self, sender: &Address) -> Option<UploadRecord> {
        let Ok(upload) = StateReader::upload(self, sender);
        upload
    }

    /// All accounts.
    pub fn accounts(&self) -> impl Iterator<Item = (Address, Account)> {
        self.objects.iter().filter_map(|(key, value)| {
            let id = ObjectId::from_bytes(key).expect("ids were written");
            let ObjectId::Account(address) = id else { return None };
            Some((address, Object::from_bytes(&id, value).unwrap().account().unwrap()))
        })
    }

    /// Puts an object where no block has put it; the tree does not know.
    pub fn put(&mut self, id: ObjectId, object: impl Into<Object>) {
        self.objects.insert(id.to_bytes(), object.into().to_bytes());
    }

    pub fn write(&mut self, objects: impl IntoIterator<Item = (ObjectId, Option<Vec<u8>>)>, branches: BranchChanges) {
        for (id, value) in objects {
            match value {
                Some(value) => self.objects.insert(id.to_bytes(), value),
                None => self.objects.remove(&id.to_bytes()),
            };
        }
        for (path, branch) in branches {
            match branch {
                Some(branch) => self.branches.insert(path, branch),
                None => self.branches.remove(&path),
            };
        }
    }
}

/// What a delta says of an account.
pub fn account_in(delta: &Delta, address: Address) -> (Option<Account>, Option<Account>) {
    let Change { before, after } = delta.objects[&ObjectId::Account(address)];
    (before.and_then(Object::account), after.and_then(Object::account))
}

/// A block on its way, with the attachments beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub header: Header,
    pub body: Body,
    pub attachments: Vec<Option<Vec<u8>>>,
}

/// What it takes to go back before a block.
#[derive(Debug, Clone)]
struct Before {
    state: Child,
    peaks: Peaks,
    undo: Undo,
}

/// A chain of valid blocks and the state after it.
#[derive(Debug, Clone)]
pub struct Chain {
    pub network: Network,
    pub genesis: BlockHash,
    pub headers: Vec<Header>,
    pub ledger: Ledger,
    pub state: Child,
    pub peaks: Peaks,
    before: Vec<Before>,
}

impl Chain {
    pub fn new(parameters: Parameters) -> Self {
        Self::of(Network::new(parameters, vec![]))
    }

    pub fn of(network: Network) -> Self {
        let (state, branches, objects) = genesis_state(&network.parameters);
        let mut ledger = Ledger::default();
        ledger.write(objects.into_iter().map(|(id, object)| (id, Some(object.to_bytes()))), branches);
        let mut peaks = Peaks::default();
        transition::append_header(&mut peaks, &network.genesis).unwrap();
        let (genesis, headers) = (network.genesis_hash(), vec![network.genesis.clone()]);
        Self { network, genesis, headers, ledger, state, peaks, before: vec![] }
    }

    pub fn parameters(&self) -> &Parameters {
        &self.network.parameters
    }

    /// The work of all blocks.
    pub fn work(&self) -> Work {
        let blocks = self.headers.iter().map(|header| header.target.to_target().unwrap().work());
        blocks.fold(Work::ZERO, |sum, work| sum.checked_add(work).unwrap())
    }

    /// Where the next block stands.
    pub fn place(&self) -> Place {
        self.network.place_after(self.tip(), address(7))
    }

    pub fn tip(&self) -> &Header {
        self.headers.last().unwrap()
    }

    pub fn anchor(&self) -> Option<AnchorBlock> {
        self.headers.get(1).map(|header| AnchorBlock { target: header.target, time: header.time })
    }

    pub fn expected_target(&self) -> CompactTarget {
        rules::expected_target(self.parameters(), self.tip(), self.anchor())
    }

    pub fn base(&self) -> Base<'_, Ledger> {
        Base { reader: &self.ledger, state: self.state, peaks: &self.peaks }
    }

    pub fn sign(&self, seed: u8, unsigned: Unsigned) -> Transaction {
        let key = key(seed);
        Transaction::sign(unsigned, key.verifying_key().to_bytes(), self.genesis, |hash| key.sign(hash).to_bytes())
    }

    pub fn transfer(&self, seed: u8, nonce: u64, to: Address, amount: u64, fee: u64) -> Transaction {
        let action = Action::Transfer { to, amount: Amount(amount) };
        self.sign(seed, Unsigned { nonce, fee: Amount(fee), expires: u64::MAX, action })
    }

    pub fn classify(&self, seed: u8, nonce: u64, pixels: &[u8], fee: u64) -> Transaction {
        self.sign(seed, Unsigned { nonce, fee: Amount(fee), expires: u64::MAX, action: pixels_for(MODEL, pixels) })
    }

    /// An action of account `seed` that pays no fee, with the nonce that follows `after` others of its block.
    pub fn act(&self, seed: u8, after: u64, action: Action) -> Transaction {
        let nonce = self.ledger.account(&address(seed)).map_or(0, |account| account.nonce) + after;
        self.sign(seed, Unsigned { nonce, fee: Amount(0), expires: u64::MAX, action })
    }

    /// A block on the tip, mined by account 7. Tasks come with their attachments and get the right answers.
    pub fn candidate(&self, transactions: Vec<(Transaction, Option<Vec<u8>>)>) -> Candidate {
        let parent = self.tip();
        let Place { height, version, miner, .. } = self.place();
        let mut attachments = Vec::new();
        let mut body = Body::default();
        for (transaction, attachment) in transactions {
            let model = transaction.unsigned.action.model().and_then(|model| self.ledger.model(&model));
            let classes = model.map_or(2, |model| model.facts.classes);
            let answer = answer(&transaction, attachment.as_deref(), classes);
            body.transactions.push((transaction, answer));
            attachments.push(attachment);
        }
        let header = Header {
            version,
            parent: parent.hash(),
            history: Root([0; 32]),
            state: Root([0; 32]),
            body: Root([0; 32]),
            miner,
            height,
            time: parent.time + self.parameters().spacing,
            target: self.expected_target(),
            nonce: 0,
        };
        let mut candidate = Candidate { header, body, attachments };
        self.seal(&mut candidate);
        candidate
    }

    /// Fills in all roots and mines. Where the body breaks a rule of the state, its state root stays as it is.
    pub fn seal(&self, candidate: &mut Candidate) {
        let header = &mut candidate.header;
        header.body = candidate.body.root(&header.parent);
        header.history = Root(self.peaks.root().unwrap());
        let place = Place { height: header.height, miner: header.miner, ..self.place() };
        if let Ok(proposed) = transition::propose(self.parameters(), &self.base(), &place, &candidate.body) {
            header.state = proposed.roots.state;
        }
        self.mine(header);
    }

    /// Finds a nonce for the target that the chain asks for.
    pub fn mine(&self, header: &mut Header) {
        let target = self.expected_target().to_target().unwrap();
        header.nonce = 0;
        while !target.is_met_by(header.hash().0) {
            header.nonce += 1;
        }
    }

    /// Every rule, in the order that docs/protocol.md gives, but for what a picture or a model's file shows.
    pub fn check(&self, candidate: &Candidate) -> Result<Connected, RuleError> {
        let Candidate { header, body, attachments } = candidate;
        rules::check_header(&self.network, self.tip(), self.anchor(), self.work(), header)?;
        rules::check_body_root(header, body.root(&header.parent))?;
        let place = Place { height: header.height, version: header.version, ..self.place() };
        let Ok(checked) = rules::check_body(self.parameters(), &place, body, &self.ledger);
        checked?;
        for (index, ((transaction, _), attachment)) in body.transactions.iter().zip(attachments).enumerate() {
            match rules::check_attachment(transaction, attachment.as_deref()) {
                Ok(()) => {}
                Err(AttachmentError::Length(error)) => return Err(error.at(index)),
                Err(other) => panic!("{other}"),
            }
        }
        for (index, (transaction, _)) in body.transactions.iter().enumerate() {
            rules::check_signature(transaction, self.genesis).map_err(|error| error.at(index))?;
        }
        for (index, ((transaction, found), attachment)) in body.transactions.iter().zip(attachments).enumerate() {
            let model = transaction.unsigned.action.model().and_then(|model| self.ledger.model(&model));
            let expected = answer(transaction, attachment.as_deref(), model.map_or(0, |model| model.facts.classes));
            if let (Answer::Classes(found), Answer::Classes(expected)) = (found, &expected) {
                rules::check_answer(found, expected).map_err(|error| error.at(index))?;
            }
        }
        transition::connect(self.parameters(), &self.base(), header, body).map_err(rule)
    }

    /// The same where only the verdict counts.
    pub fn verdict(&self, candidate: &Candidate) -> Result<(), RuleError> {
        self.check(candidate).map(|_| ())
    }

    pub fn connect(&mut self, candidate: &Candidate) {
        let Connected { delta, branches, state, peaks, .. } = self.check(candidate).unwrap();
        self.before.push(Before { state: self.state, peaks: self.peaks.clone(), undo: delta.undo() });
        self.ledger.write(delta.written(), branches);
        self.headers.push(candidate.header.clone());
        (self.state, self.peaks) = (state, peaks);
    }

    /// Takes the tip back by its undo record and says what the state tree was before it was connected.
    pub fn disconnect(&mut self) -> Child {
        let Before { state, peaks, undo } = self.before.pop().unwrap();
        let (restored, branches) = transition::disconnect(&self.ledger, self.state, &undo).unwrap();
        self.ledger.write(undo.objects, branches);
        self.headers.pop();
        (self.state, self.peaks) = (restored, peaks);
        state
    }

    /// Connects a block of these transactions.
    pub fn extend(&mut self, transactions: Vec<(Transaction, Option<Vec<u8>>)>) {
        let candidate = self.candidate(transactions);
        self.connect(&candidate);
    }
}

/// The network of docs/protocol.md's worked example.
pub fn example_parameters() -> Parameters {
    Parameters {
        name: "example".into(),
        address_prefix: "toc".into(),
        genesis_time: 1_800_000_000,
        spacing: 10,
        half_life: 3_600,
        easiest_target: CompactTarget(0x2000_ffff),
        reward: Amount(1_000_000_000),
        halving: 2_000_000,
        weight_limit: 2_000_000,
        minimum_balance: Amount(100_000),
        retention: 100,
        attachment_retention: 50,
        upload_window: 30,
        model_delay: 2,
        model_price: Amount(1_000),
        accounts: starting([(1, 10_000_000_000)]),
        models: vec![GenesisModel { id: example_model(), facts: EXAMPLE_FACTS }],
    }
}

pub fn example_model() -> ModelId {
    ModelId(hash::tagged("ocelli/model", &[b"not a real model"]))
}

/// What the worked example says of its model.
pub const EXAMPLE_FACTS: ModelFacts =
    ModelFacts { size: 1_000, channels: 1, height: 2, width: 2, classes: 2, cost: 24_576 };

/// The picture of the worked example.
pub const EXAMPLE_PIXELS: [u8; 4] = [0, 85, 170, 255];

/// The model that is on its way in the worked example.
pub fn example_coming() -> ModelId {
    ModelId(hash::tagged("ocelli/model", &[b"another"]))
}

/// A transaction of the worked example.
pub fn example_transaction(chain: &Chain, seed: u8, nonce: u64, fee: u64, action: Action) -> Transaction {
    chain.sign(seed, Unsigned { nonce, fee: Amount(fee), expires: 100, action })
}

/// Block 1 of the worked example: account 1 sends account 2 something, asks what is in a picture, and begins an upload; 3
/// mines.
pub fn example_block(chain: &Chain) -> Candidate {
    let transfer = Action::Transfer { to: address(2), amount: Amount(250_000_000) };
    let classify = pixels_for(example_model(), &EXAMPLE_PIXELS);
    let upload = Action::Upload { file: UploadHash::of(&address(1), &example_coming()), size: 7 };
    let mut transactions = Vec::new();
    for (nonce, action) in (0..).zip([transfer, classify, upload]) {
        transactions.push(example_transaction(chain, 1, nonce, 1_000 * (nonce + 1), action));
    }
    let attachments = [None, Some(EXAMPLE_PIXELS.to_vec()), None];
    let mut candidate = chain.candidate(transactions.into_iter().zip(attachments).collect());
    candidate.header.miner = address(3);
    chain.seal(&mut candidate);
    candidate
}

/// A `Classify` of pixels, without a royalty.
pub fn pixels_for(model: ModelId, pixels: &[u8]) -> Action {
    let (picture, bytes) = (AttachmentHash::of(pixels), pixels.len() as u32);
    Action::Classify { model, picture, bytes, royalty: Amount(0), form: Form::Pixels }
}

pub fn rule(error: ConnectError<Infallible>) -> RuleError {
    match error {
        ConnectError::Rule(error) => error,
        other => panic!("{other}"),
    }
}
