//! A chain in memory, with real signatures and real proof of work at an easy target.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::BTreeMap;
use std::convert::Infallible;

use ed25519_dalek::{Signer, SigningKey};
use ocelli_consensus::block::Output;
use ocelli_consensus::history::Peaks;
use ocelli_consensus::network::{ModelParameters, StartingAccount, Upgrade};
use ocelli_consensus::rules::{self, AnchorBlock, PixelsError};
use ocelli_consensus::state::{Branch, BranchChanges, BranchReader, Child, Path};
use ocelli_consensus::transition::{self, Account, Base, ConnectError, Connection, Place, StateReader, Undo};
use ocelli_consensus::*;

/// The model from genesis on: 4 pixels, 2 logits.
pub const MODEL: ModelId = ModelId([0x6d; 32]);
/// The model that comes with version 2 at [`UPGRADE_HEIGHT`].
pub const LATER_MODEL: ModelId = ModelId([0x6e; 32]);
/// Where version 2 begins.
pub const UPGRADE_HEIGHT: u64 = 5;

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
        weight_limit: 100_000,
        minimum_balance: Amount(100),
        retention: 10,
        accounts: starting((1..=3).map(|seed| (seed, 10_000))),
        models: vec![ModelParameters { id: MODEL, pixels: 4, logits: 2, cost: 8192 + 4095 }],
        upgrades: vec![Upgrade {
            height: UPGRADE_HEIGHT,
            version: 2,
            models: vec![ModelParameters { id: LATER_MODEL, pixels: 1, logits: 3, cost: 0 }],
        }],
    }
}

/// Starting accounts of these seeds, in the order that the parameters ask for.
pub fn starting(balances: impl IntoIterator<Item = (u8, u64)>) -> Vec<StartingAccount> {
    let account = |(seed, balance)| StartingAccount { address: address(seed), balance: Amount(balance) };
    let mut accounts: Vec<_> = balances.into_iter().map(account).collect();
    accounts.sort_by_key(|account| account.address);
    accounts
}

/// What a model of this many logits says in these tests.
pub fn answer(pixels: &[u8], logits: usize) -> Vec<i32> {
    let sum: i32 = pixels.iter().map(|&pixel| i32::from(pixel)).sum();
    (0..).map(|class| sum * (1 - 2 * class)).take(logits).collect()
}

/// Accounts and branches as a store would hold them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    pub accounts: BTreeMap<Address, Account>,
    pub branches: BTreeMap<Path, Branch>,
}

impl StateReader for Ledger {
    type Error = Infallible;
    fn account(&self, address: &Address) -> Result<Option<Account>, Infallible> {
        Ok(self.accounts.get(address).copied())
    }
}

impl BranchReader for Ledger {
    type Error = Infallible;
    fn branch(&self, path: &Path) -> Result<Option<Branch>, Infallible> {
        Ok(self.branches.get(path).copied())
    }
}

impl Ledger {
    pub fn write(&mut self, accounts: impl IntoIterator<Item = (Address, Option<Account>)>, branches: BranchChanges) {
        for (address, account) in accounts {
            match account {
                Some(account) => self.accounts.insert(address, account),
                None => self.accounts.remove(&address),
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

/// A block on its way, with the pixels beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub header: Header,
    pub body: Body,
    pub pixels: Vec<Option<Vec<u8>>>,
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
    pub parameters: Parameters,
    pub genesis: BlockHash,
    pub headers: Vec<Header>,
    pub ledger: Ledger,
    pub state: Child,
    pub peaks: Peaks,
    before: Vec<Before>,
}

impl Chain {
    pub fn new(parameters: Parameters) -> Self {
        let network = Network::new(parameters.clone(), vec![]);
        let (state, branches, accounts) = transition::genesis_state(&parameters);
        let mut ledger = Ledger::default();
        ledger.write(accounts.into_iter().map(|(address, account)| (address, Some(account))), branches);
        let mut peaks = Peaks::default();
        transition::append_header(&mut peaks, &network.genesis).unwrap();
        let (genesis, headers) = (network.genesis_hash(), vec![network.genesis]);
        Self { parameters, genesis, headers, ledger, state, peaks, before: vec![] }
    }

    pub fn tip(&self) -> &Header {
        self.headers.last().unwrap()
    }

    pub fn anchor(&self) -> Option<AnchorBlock> {
        self.headers.get(1).map(|header| AnchorBlock { target: header.target, time: header.time })
    }

    pub fn expected_target(&self) -> CompactTarget {
        rules::expected_target(&self.parameters, self.tip(), self.anchor())
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
        let action = Action::Classify { model: MODEL, image: ImageHash::of(pixels) };
        self.sign(seed, Unsigned { nonce, fee: Amount(fee), expires: u64::MAX, action })
    }

    /// A block on the tip, mined by account 7. Tasks come with their pixels and get the right answers.
    pub fn candidate(&self, transactions: Vec<(Transaction, Option<Vec<u8>>)>) -> Candidate {
        let parent = self.tip();
        let mut pixels = Vec::new();
        let mut body = Body::default();
        for (transaction, picture) in transactions {
            let logits = |(model, _)| self.parameters.model_at(model, parent.height + 1).map_or(2, |it| it.logits);
            let output = transaction.task().map(logits).zip(picture.as_deref());
            let output: Output = output.map(|(logits, pixels)| answer(pixels, logits as usize));
            body.transactions.push((transaction, output));
            pixels.push(picture);
        }
        let header = Header {
            version: self.parameters.version_at(parent.height + 1),
            parent: parent.hash(),
            history: Root([0; 32]),
            state: Root([0; 32]),
            body: Root([0; 32]),
            miner: address(7),
            height: parent.height + 1,
            time: parent.time + self.parameters.spacing,
            target: self.expected_target(),
            nonce: 0,
        };
        let mut candidate = Candidate { header, body, pixels };
        self.seal(&mut candidate);
        candidate
    }

    /// Fills in all roots and mines. Where the body breaks a rule of the state, its state root stays as it is.
    pub fn seal(&self, candidate: &mut Candidate) {
        let header = &mut candidate.header;
        header.body = candidate.body.root();
        header.history = Root(self.peaks.root().unwrap());
        let place = Place { height: header.height, miner: header.miner };
        if let Ok((roots, ..)) = transition::propose(&self.parameters, &self.base(), place, &candidate.body) {
            header.state = roots.state;
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

    /// Every rule, in the order that docs/protocol.md gives.
    pub fn check(&self, candidate: &Candidate) -> Result<Connection, RuleError> {
        let Candidate { header, body, pixels } = candidate;
        rules::check_header(&self.parameters, self.tip(), self.anchor(), header)?;
        rules::check_body_root(header, body.root())?;
        rules::check_body(&self.parameters, header.height, body)?;
        for (index, ((transaction, _), pixels)) in body.transactions.iter().zip(pixels).enumerate() {
            match rules::check_pixels(&self.parameters, header.height, index, transaction, pixels.as_deref()) {
                Ok(()) => {}
                Err(PixelsError::Rule(error)) => return Err(error),
                Err(other) => panic!("{other}"),
            }
        }
        for (index, (transaction, _)) in body.transactions.iter().enumerate() {
            rules::check_signature(index, transaction, self.genesis)?;
        }
        for (index, ((_, output), pixels)) in body.transactions.iter().zip(pixels).enumerate() {
            if let (Some(output), Some(pixels)) = (output, pixels) {
                rules::check_output(index, output, &answer(pixels, output.len()))?;
            }
        }
        transition::connect(&self.parameters, &self.base(), header, body).map_err(rule)
    }

    /// The same where only the verdict counts.
    pub fn verdict(&self, candidate: &Candidate) -> Result<(), RuleError> {
        self.check(candidate).map(|_| ())
    }

    pub fn connect(&mut self, candidate: &Candidate) {
        let Connection { delta, branches, state, peaks, .. } = self.check(candidate).unwrap();
        self.before.push(Before { state: self.state, peaks: self.peaks.clone(), undo: delta.undo() });
        self.ledger.write(delta.accounts.iter().map(|(address, change)| (*address, Some(change.after))), branches);
        self.headers.push(candidate.header.clone());
        (self.state, self.peaks) = (state, peaks);
    }

    /// Takes the tip back by its undo record and says what the state tree was before it was connected.
    pub fn disconnect(&mut self) -> Child {
        let Before { state, peaks, undo } = self.before.pop().unwrap();
        let (restored, branches) = transition::disconnect(&self.ledger, self.state, &undo).unwrap();
        self.ledger.write(undo.accounts, branches);
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
        weight_limit: 10_000,
        minimum_balance: Amount(100_000),
        retention: 100,
        accounts: starting([(1, 10_000_000_000)]),
        models: vec![ModelParameters { id: example_model(), pixels: 4, logits: 2, cost: 8_192 }],
        upgrades: vec![Upgrade { height: 1_000, version: 2, models: vec![] }],
    }
}

pub fn example_model() -> ModelId {
    ModelId(hash::tagged("ocelli/model", &[b"not a real model"]))
}

/// The image of the worked example.
pub const EXAMPLE_PIXELS: [u8; 4] = [0, 85, 170, 255];

/// Block 1 of the worked example: account 1 sends account 2 something and asks what is in a picture; 3 mines.
pub fn example_block(chain: &Chain) -> Candidate {
    let transfer = Action::Transfer { to: address(2), amount: Amount(250_000_000) };
    let classify = Action::Classify { model: example_model(), image: ImageHash::of(&EXAMPLE_PIXELS) };
    let mut transactions = Vec::new();
    for (nonce, fee, action) in [(0, 1_000, transfer), (1, 2_000, classify)] {
        transactions.push(chain.sign(1, Unsigned { nonce, fee: Amount(fee), expires: 100, action }));
    }
    let pictures = [None, Some(EXAMPLE_PIXELS.to_vec())];
    let mut candidate = chain.candidate(transactions.into_iter().zip(pictures).collect());
    candidate.header.miner = address(3);
    chain.seal(&mut candidate);
    candidate
}

pub fn rule(error: ConnectError<Infallible>) -> RuleError {
    match error {
        ConnectError::Rule(error) => error,
        other => panic!("{other}"),
    }
}
