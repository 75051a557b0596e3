//! A short chain with real work, whose accounts and transactions are what the script says.

use std::collections::BTreeMap;
use std::convert::Infallible;

use ocelli_consensus::object::{Account, Object, ObjectId, leaf};
use ocelli_consensus::rules::{AnchorBlock, expected_target};
use ocelli_consensus::state::{self, Branch, BranchReader, Child, Path};
use ocelli_consensus::{Address, BlockHash, Body, CompactTarget, Header, Network, Root, Target, U256, Work};

/// How a chain is built, and what is wrong with it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mining {
    /// By the rules.
    Honest,
    /// By the rules, another one.
    Other,
    /// From one height on no header meets its target.
    NoWork,
    /// At one height the target is easier than the rules say.
    EasyTarget,
}

/// Headers by height, with gaps.
pub struct Chain {
    headers: Vec<Header>,
}

impl Chain {
    /// Builds the headers of these heights, each over its body, on the genesis; the tip has the state `state`. What
    /// is wrong is so from `from` on.
    pub fn build(network: &Network, bodies: &[(u64, &Body)], state: Root, mining: Mining, from: u64) -> Self {
        let mut headers = vec![network.genesis.clone()];
        let mut anchor = None;
        for (index, &(height, body)) in bodies.iter().enumerate() {
            let before = headers.last().unwrap();
            // Where there is a gap, a parent is made up that nobody will see.
            let time = |height| network.genesis.time + network.parameters.spacing * height;
            let parent = Header { height: height - 1, time: time(height - 1), ..before.clone() };
            let is_bad = height >= from;
            let hash = if before.height + 1 == height { before.hash() } else { BlockHash([9; 32]) };
            let mut header = Header {
                parent: hash,
                body: body.root(&hash),
                state: if index + 1 == bodies.len() { state } else { before.state },
                miner: Address([if mining == Mining::Other && is_bad { 2 } else { 1 }; 20]),
                height,
                time: time(height),
                target: expected_target(&network.parameters, &parent, anchor),
                // Beyond what a double holds.
                nonce: u64::MAX,
                ..before.clone()
            };
            if mining == Mining::EasyTarget && height == from {
                header.target = CompactTarget(0x207f_ffff);
            }
            let target = header.target.to_target().unwrap();
            while target.is_met_by(header.hash().0) == (is_bad && mining == Mining::NoWork) {
                header.nonce -= 1;
            }
            anchor = anchor.or(Some(AnchorBlock { target: header.target, time: header.time }));
            headers.push(header);
        }
        Self { headers }
    }

    pub fn tip(&self) -> &Header {
        self.headers.last().unwrap()
    }

    pub fn at(&self, height: u64) -> Option<&Header> {
        self.headers.iter().find(|header| header.height == height)
    }

    pub fn by_hash(&self, hash: &BlockHash) -> Option<&Header> {
        self.headers.iter().find(|header| header.hash() == *hash)
    }

    /// Of all headers but for gaps.
    pub fn work(&self) -> U256 {
        let work = |header: &Header| header.target.to_target().unwrap_or(Target::MAX).work();
        self.headers.iter().map(work).fold(Work::ZERO, |sum, work| sum.checked_add(work).unwrap()).0
    }

    /// What a node answers to the request for headers: those after the first of the locator that it has, up to a gap.
    pub fn after(&self, locator: &[BlockHash], limit: usize) -> Vec<Header> {
        let known = locator.iter().find_map(|hash| self.headers.iter().position(|header| header.hash() == *hash));
        // The parent of what stands above a gap is known as well.
        let above = locator.iter().find_map(|hash| self.headers.iter().position(|header| header.parent == *hash));
        let from = known.map(|known| known + 1).or(above).unwrap_or(1);
        let mut headers: Vec<Header> = Vec::new();
        for header in self.headers.iter().skip(from).take(limit) {
            if headers.last().is_some_and(|last| header.parent != last.hash()) {
                break;
            }
            headers.push(header.clone());
        }
        headers
    }
}

/// Accounts in a state tree.
#[derive(Default)]
pub struct State {
    pub accounts: BTreeMap<Address, Account>,
    branches: BTreeMap<Path, Branch>,
    root: Option<Child>,
}

impl State {
    pub fn insert(&mut self, address: Address, account: Account) {
        self.accounts.insert(address, account);
        let (key, leaf) = leaf(&ObjectId::Account(address), &Object::Account(account).to_bytes());
        let changes = BTreeMap::from([(key, Some(leaf))]);
        let root = self.root.unwrap_or(Child::Empty);
        let (root, written) = state::update(&*self, root, &changes).unwrap();
        self.root = Some(root);
        for (path, branch) in written {
            match branch {
                Some(branch) => drop(self.branches.insert(path, branch)),
                None => drop(self.branches.remove(&path)),
            }
        }
    }

    pub fn root(&self) -> Root {
        Root(self.root.unwrap_or(Child::Empty).hash())
    }

    /// The path to an account.
    pub fn path(&self, address: &Address) -> Option<Vec<[u8; 32]>> {
        self.accounts.get(address)?;
        let root = self.root.unwrap_or(Child::Empty);
        Some(state::prove(self, root, &ObjectId::Account(*address).key(), |_| Ok(None)).unwrap().siblings)
    }
}

impl BranchReader for State {
    type Error = Infallible;

    fn branch(&self, path: &Path) -> Result<Option<Branch>, Infallible> {
        Ok(self.branches.get(path).copied())
    }
}
