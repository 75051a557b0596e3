//! The state and how a block changes it: accounts, and with them the state tree and the history.
//!
//! Nothing here writes. [`connect`] and [`disconnect`] return what changes, for the store to write in one batch.

use std::collections::BTreeMap;

use crate::address::Address;
use crate::amount::Amount;
use crate::block::Body;
use crate::codec::encode;
use crate::hash::Root;
use crate::header::Header;
use crate::history::{self, Entry, HistoryError, Peaks, Position};
use crate::network::Parameters;
use crate::rules::RuleError;
use crate::state::{self, BranchChanges, BranchReader, Child, UpdateError};
use crate::target::Target;
use crate::transaction::Action;

/// The kind of state object that accounts are; the first byte under the key's hash.
pub const KIND_ACCOUNT: u8 = 0;

/// What an address owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, bincode::Encode, bincode::Decode)]
pub struct Account {
    /// Transactions it has sent.
    pub nonce: u64,
    /// What it has.
    pub balance: Amount,
}

impl Account {
    /// Key and hash of its leaf in the state tree. The value is its encoding, u64 nonce || u64 balance.
    pub fn leaf(&self, address: &Address) -> ([u8; 32], [u8; 32]) {
        let key = account_key(address);
        (key, state::leaf_hash(&key, &encode(self)))
    }
}

/// The key of an account in the state tree.
pub fn account_key(address: &Address) -> [u8; 32] {
    state::key(KIND_ACCOUNT, &address.0)
}

/// Where the state before a block is read from.
pub trait StateReader {
    /// What can go wrong.
    type Error;

    /// An account; `None` where there is none.
    ///
    /// # Errors
    /// If it cannot be read.
    fn account(&self, address: &Address) -> Result<Option<Account>, Self::Error>;
}

/// An account before and after a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// `None` where the block creates it.
    pub before: Option<Account>,
    /// What it becomes.
    pub after: Account,
}

/// What a block does to accounts, in ascending order of address. Accounts are never removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Delta {
    /// Each account that differs.
    pub accounts: BTreeMap<Address, Change>,
}

impl Delta {
    /// What takes the block back.
    pub fn undo(&self) -> Undo {
        Undo { accounts: self.accounts.iter().map(|(address, change)| (*address, change.before)).collect() }
    }

    fn leaves(&self) -> BTreeMap<[u8; 32], Option<[u8; 32]>> {
        let leaf = |(address, change): (&Address, &Change)| {
            let (key, hash) = change.after.leaf(address);
            (key, Some(hash))
        };
        self.accounts.iter().map(leaf).collect()
    }
}

/// What a connected block replaced.
#[derive(Debug, Clone, PartialEq, Eq, Default, bincode::Encode, bincode::Decode)]
pub struct Undo {
    /// Each account that the block changed as it was before; `None` where it was not.
    pub accounts: Vec<(Address, Option<Account>)>,
}

/// A block cannot be connected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError<E> {
    /// The block breaks a rule.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// The state could not be read; the block may be valid.
    #[error("reading the state")]
    Reader(#[source] E),
    /// The stored state tree is not whole; the block may be valid.
    #[error("the stored state tree")]
    Tree(#[source] UpdateError<E>),
}

/// The parameters of a block that its transactions run under.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The block's height.
    pub height: u64,
    /// Who gets reward and fees.
    pub miner: Address,
}

/// Applies a body's transactions in order, then pays the miner: check, debit amount and fee, credit. Signatures, expiry,
/// models and outputs are checked elsewhere ([`crate::rules`]).
///
/// # Errors
/// The first rule that a transaction breaks, or the reader's error.
pub fn apply<R: StateReader>(
    parameters: &Parameters,
    place: Place,
    body: &Body,
    reader: &R,
) -> Result<Delta, ConnectError<R::Error>> {
    let mut accounts = Accounts { reader, changes: BTreeMap::new() };
    let mut fees = Amount::ZERO;
    for (index, (transaction, _)) in body.transactions.iter().enumerate() {
        let overflow = RuleError::AmountOverflow { index };
        let sender = transaction.sender();
        let mut account = accounts.get(&sender)?.unwrap_or_default();
        let unsigned = &transaction.unsigned;
        if unsigned.nonce != account.nonce {
            return Err(RuleError::Nonce { index, found: unsigned.nonce, expected: account.nonce }.into());
        }
        let needed = transaction.total().ok_or_else(|| overflow.clone())?;
        let balance = account.balance;
        account.balance = balance.checked_sub(needed).ok_or(RuleError::Balance { index, balance, needed })?;
        account.nonce = account.nonce.checked_add(1).ok_or_else(|| overflow.clone())?;
        accounts.set(sender, account)?;
        fees = fees.checked_add(unsigned.fee).ok_or_else(|| overflow.clone())?;
        if let Action::Transfer { to, amount } = unsigned.action {
            let known = accounts.get(&to)?;
            let minimum = parameters.minimum_balance;
            if known.is_none() && amount < minimum {
                return Err(RuleError::MinimumBalance { index, amount, minimum }.into());
            }
            accounts.credit(to, known.unwrap_or_default(), amount, overflow)?;
        }
    }
    let overflow = RuleError::AmountOverflow { index: body.transactions.len() };
    let pay = parameters.reward_at(place.height).checked_add(fees).ok_or_else(|| overflow.clone())?;
    // Pay of nothing creates no account: every account has sent something or has a balance.
    if pay > Amount::ZERO {
        let account = accounts.get(&place.miner)?.unwrap_or_default();
        accounts.credit(place.miner, account, pay, overflow)?;
    }
    accounts.changes.retain(|_, change| change.before != Some(change.after));
    Ok(Delta { accounts: accounts.changes })
}

/// Accounts as the transactions so far have left them.
struct Accounts<'a, R> {
    reader: &'a R,
    changes: BTreeMap<Address, Change>,
}

impl<R: StateReader> Accounts<'_, R> {
    fn get(&self, address: &Address) -> Result<Option<Account>, ConnectError<R::Error>> {
        match self.changes.get(address) {
            Some(change) => Ok(Some(change.after)),
            None => self.reader.account(address).map_err(ConnectError::Reader),
        }
    }

    fn set(&mut self, address: Address, after: Account) -> Result<(), ConnectError<R::Error>> {
        let before = match self.changes.get(&address) {
            Some(change) => change.before,
            None => self.reader.account(&address).map_err(ConnectError::Reader)?,
        };
        self.changes.insert(address, Change { before, after });
        Ok(())
    }

    fn credit(
        &mut self,
        to: Address,
        account: Account,
        amount: Amount,
        overflow: RuleError,
    ) -> Result<(), ConnectError<R::Error>> {
        let balance = account.balance.checked_add(amount).ok_or(overflow)?;
        self.set(to, Account { balance, ..account })
    }
}

/// All that connecting a block changes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Connection {
    /// Accounts.
    pub delta: Delta,
    /// Branches of the state tree.
    pub branches: BranchChanges,
    /// The state tree after the block.
    pub state: Child,
    /// New nodes of the history: the block's leaf and what it completes.
    pub history: Vec<(Position, Entry)>,
    /// The history's peaks, this block included.
    pub peaks: Peaks,
}

/// The roots of a block that follow from its parent's state: what a miner fills in and a validator compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roots {
    /// Over the headers before.
    pub history: Root,
    /// After the block.
    pub state: Root,
}

/// The state that a block builds on: `state` and `peaks` are those of its parent, the readers what is stored of it.
#[derive(Debug, Clone)]
pub struct Base<'a, R> {
    /// Where accounts and branches are read from.
    pub reader: &'a R,
    /// The parent's state tree.
    pub state: Child,
    /// The history's peaks up to the parent, it included.
    pub peaks: &'a Peaks,
}

/// What a body does to a state: what a miner needs to fill in a header's roots.
///
/// # Errors
/// As [`apply`], and if the stored tree cannot be read.
pub fn propose<R, E>(
    parameters: &Parameters,
    base: &Base<'_, R>,
    place: Place,
    body: &Body,
) -> Result<(Roots, Delta, BranchChanges, Child), ConnectError<E>>
where
    R: StateReader<Error = E> + BranchReader<Error = E>,
{
    let delta = apply(parameters, place, body, base.reader)?;
    let (state, branches) = state::update(base.reader, base.state, &delta.leaves()).map_err(ConnectError::Tree)?;
    let history = base.peaks.root().map_err(|_| RuleError::WorkOverflow)?;
    Ok((Roots { history: Root(history), state: Root(state.hash()) }, delta, branches, state))
}

/// Connects a block whose header and body have been checked by themselves: applies it, and compares both roots.
///
/// # Errors
/// The first rule that it breaks, or that the stored state cannot be read.
pub fn connect<R, E>(
    parameters: &Parameters,
    base: &Base<'_, R>,
    header: &Header,
    body: &Body,
) -> Result<Connection, ConnectError<E>>
where
    R: StateReader<Error = E> + BranchReader<Error = E>,
{
    let place = Place { height: header.height, miner: header.miner };
    let (roots, delta, branches, state) = propose(parameters, base, place, body)?;
    if header.history != roots.history {
        return Err(RuleError::HistoryRoot { found: header.history, expected: roots.history }.into());
    }
    if header.state != roots.state {
        return Err(RuleError::StateRoot { found: header.state, expected: roots.state }.into());
    }
    let mut peaks = base.peaks.clone();
    let history = append_header(&mut peaks, header).map_err(|_| RuleError::WorkOverflow)?;
    Ok(Connection { delta, branches, state, history, peaks })
}

/// Adds a header to the history and returns the new nodes.
///
/// # Errors
/// If the sum of work overflows.
pub fn append_header(peaks: &mut Peaks, header: &Header) -> Result<Vec<(Position, Entry)>, HistoryError> {
    let work = header.target.to_target().unwrap_or(Target::MAX).work();
    history::append(peaks, Entry::leaf(header.hash().0, work.0, header.time, header.target.0))
}

/// Takes a block back: the state tree as it was before it, and the branches that change.
///
/// # Errors
/// If the stored tree cannot be read.
pub fn disconnect<R: BranchReader>(
    reader: &R,
    state: Child,
    undo: &Undo,
) -> Result<(Child, BranchChanges), UpdateError<R::Error>> {
    let leaf = |(address, before): &(Address, Option<Account>)| match before {
        Some(account) => {
            let (key, hash) = account.leaf(address);
            (key, Some(hash))
        }
        None => (account_key(address), None),
    };
    state::update(reader, state, &undo.accounts.iter().map(leaf).collect())
}

/// The state tree of the network's starting accounts.
pub fn genesis_state(parameters: &Parameters) -> (Child, BranchChanges, BTreeMap<Address, Account>) {
    struct Nothing;
    impl BranchReader for Nothing {
        type Error = std::convert::Infallible;
        fn branch(&self, _: &state::Path) -> Result<Option<state::Branch>, Self::Error> {
            Ok(None)
        }
    }
    let accounts: BTreeMap<_, _> =
        parameters.balances().into_iter().map(|(address, balance)| (address, Account { nonce: 0, balance })).collect();
    let leaves = accounts.iter().map(|(address, account)| account.leaf(address));
    let leaves = leaves.map(|(key, hash)| (key, Some(hash))).collect();
    let (state, branches) =
        state::update(&Nothing, Child::Empty, &leaves).expect("an empty tree is built without reading any branch");
    (state, branches, accounts)
}
