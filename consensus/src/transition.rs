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
use crate::transaction::{Action, Transaction};

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

/// Why a transaction cannot follow on a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// Its nonce is not its account's.
    #[error("nonce {found}, the account is at {expected}")]
    Nonce {
        /// In the transaction.
        found: u64,
        /// The account's.
        expected: u64,
    },
    /// The sender has too little.
    #[error("the sender holds {balance}, amount and fee need {needed}")]
    Balance {
        /// What the account has.
        balance: Amount,
        /// Amount and fee together.
        needed: Amount,
    },
    /// A transfer that creates an account carries less than the minimum.
    #[error("{amount} for an account that does not exist yet, at least {minimum} expected")]
    MinimumBalance {
        /// What it carries.
        amount: Amount,
        /// The network's.
        minimum: Amount,
    },
    /// A sum of amounts leaves 64 bits.
    #[error("amounts exceed 64 bits")]
    AmountOverflow,
}

impl TransactionError {
    /// The rule that a block breaks with this transaction at `index`.
    pub fn at(self, index: usize) -> RuleError {
        match self {
            Self::Nonce { found, expected } => RuleError::Nonce { index, found, expected },
            Self::Balance { balance, needed } => RuleError::Balance { index, balance, needed },
            Self::MinimumBalance { amount, minimum } => RuleError::MinimumBalance { index, amount, minimum },
            Self::AmountOverflow => RuleError::AmountOverflow { index },
        }
    }
}

/// Accounts as transactions have left them, over a state that is read elsewhere.
///
/// What one sender's transactions do to another's account only adds to it. So a sender's transactions that follow on a
/// state, one after the other, still do when others' come before or between them: the mempool rests on that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overlay {
    changes: BTreeMap<Address, Change>,
}

impl Overlay {
    /// An account as it is now; `None` where there is none.
    ///
    /// # Errors
    /// The reader's.
    pub fn account<R: StateReader>(&self, address: &Address, reader: &R) -> Result<Option<Account>, R::Error> {
        match self.changes.get(address) {
            Some(change) => Ok(Some(change.after)),
            None => reader.account(address),
        }
    }

    /// Lets a transaction follow: check, debit amount and fee, credit. The one way in which a transaction changes the state,
    /// in a block and on the way into the mempool. Signatures, expiry, models and outputs are checked elsewhere
    /// ([`crate::rules`], [`crate::CheckedTransaction`]).
    ///
    /// # Errors
    /// The reader's; inside, the rule that the transaction breaks. Nothing has changed then.
    pub fn transact<R: StateReader>(
        &mut self,
        parameters: &Parameters,
        transaction: &Transaction,
        reader: &R,
    ) -> Result<Result<(), TransactionError>, R::Error> {
        let (sender, unsigned) = (transaction.sender(), &transaction.unsigned);
        let before = self.account(&sender, reader)?;
        let mut account = before.unwrap_or_default();
        if unsigned.nonce != account.nonce {
            return Ok(Err(TransactionError::Nonce { found: unsigned.nonce, expected: account.nonce }));
        }
        let Some(needed) = transaction.total() else { return Ok(Err(TransactionError::AmountOverflow)) };
        let balance = account.balance;
        let Some(rest) = balance.checked_sub(needed) else {
            return Ok(Err(TransactionError::Balance { balance, needed }));
        };
        let Some(nonce) = account.nonce.checked_add(1) else { return Ok(Err(TransactionError::AmountOverflow)) };
        account = Account { nonce, balance: rest };
        let credited = match unsigned.action {
            Action::Transfer { to, amount } => {
                let (known, minimum) = (self.account(&to, reader)?, parameters.minimum_balance);
                if known.is_none() && to != sender && amount < minimum {
                    return Ok(Err(TransactionError::MinimumBalance { amount, minimum }));
                }
                let receiver = if to == sender { account } else { known.unwrap_or_default() };
                let Some(balance) = receiver.balance.checked_add(amount) else {
                    return Ok(Err(TransactionError::AmountOverflow));
                };
                Some((to, known, Account { balance, ..receiver }))
            }
            Action::Classify { .. } => None,
        };
        self.set(sender, before, account);
        if let Some((to, before, after)) = credited {
            self.set(to, before, after);
        }
        Ok(Ok(()))
    }

    /// Pays a miner. Pay of nothing creates no account, other than a transfer of nothing where the minimum balance is 0.
    ///
    /// # Errors
    /// The reader's; inside, that the sum leaves 64 bits.
    pub fn pay<R: StateReader>(
        &mut self,
        miner: Address,
        pay: Amount,
        reader: &R,
    ) -> Result<Result<(), TransactionError>, R::Error> {
        if pay > Amount::ZERO {
            let before = self.account(&miner, reader)?;
            let account = before.unwrap_or_default();
            let Some(balance) = account.balance.checked_add(pay) else {
                return Ok(Err(TransactionError::AmountOverflow));
            };
            self.set(miner, before, Account { balance, ..account });
        }
        Ok(Ok(()))
    }

    /// `before` is the account as it is now, which counts where it has not changed yet.
    fn set(&mut self, address: Address, before: Option<Account>, after: Account) {
        self.changes.entry(address).and_modify(|change| change.after = after).or_insert(Change { before, after });
    }

    fn into_delta(mut self) -> Delta {
        self.changes.retain(|_, change| change.before != Some(change.after));
        Delta { accounts: self.changes }
    }
}

/// Applies a body's transactions in order ([`Overlay::transact`]), then pays the miner.
///
/// # Errors
/// The first rule that a transaction breaks, or the reader's error.
pub fn apply<R: StateReader>(
    parameters: &Parameters,
    place: Place,
    body: &Body,
    reader: &R,
) -> Result<Delta, ConnectError<R::Error>> {
    let mut accounts = Overlay::default();
    let mut fees = Amount::ZERO;
    for (index, (transaction, _)) in body.transactions.iter().enumerate() {
        let result = accounts.transact(parameters, transaction, reader).map_err(ConnectError::Reader)?;
        result.map_err(|error| error.at(index))?;
        fees = fees.checked_add(transaction.unsigned.fee).ok_or(RuleError::AmountOverflow { index })?;
    }
    let index = body.transactions.len();
    let pay = parameters.reward_at(place.height).checked_add(fees).ok_or(RuleError::AmountOverflow { index })?;
    let paid = accounts.pay(place.miner, pay, reader).map_err(ConnectError::Reader)?;
    paid.map_err(|error| error.at(index))?;
    Ok(accounts.into_delta())
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
