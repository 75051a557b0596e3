//! The state and how a block changes it: objects, and with them the state tree and the history.
//!
//! Nothing here writes. [`connect`] and [`disconnect`] return what changes, for the store to write in one batch.

use std::collections::BTreeMap;

use crate::address::Address;
use crate::amount::Amount;
use crate::block::Body;
use crate::hash::{ModelId, Root, UploadHash};
use crate::header::{Header, Place};
use crate::history::{self, HistoryEntry, HistoryError, Peaks, Position};
use crate::object::{
    Account, MAX_ATTACHMENT_BYTES, ModelFacts, ModelRecord, Object, ObjectId, StateReader, UploadRecord, leaves,
};
use crate::parameters::Parameters;
use crate::rules::{RuleError, Sum, TransactionError};
use crate::state::{self, BranchChanges, BranchReader, Child, UpdateError};
use crate::target::Target;
use crate::transaction::{Action, Transaction};

/// How many blocks after an `Upload` its first `Part` may come: who copies a file that he sees comes too late.
pub const UPLOAD_DELAY: u64 = 8;

/// An object before and after a block; `None` where it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    pub before: Option<Object>,
    pub after: Option<Object>,
}

/// What a block does to objects, in ascending order of id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Delta {
    /// Each object that differs.
    pub objects: BTreeMap<ObjectId, Change>,
}

impl Delta {
    /// What takes the block back.
    pub fn undo(&self) -> Undo {
        let before = |(id, change): (&ObjectId, &Change)| (*id, change.before.map(|object| object.to_bytes()));
        Undo { objects: self.objects.iter().map(before).collect() }
    }

    /// What is to be stored: for each object that differs its bytes, `None` where it goes.
    pub fn written(&self) -> impl Iterator<Item = (ObjectId, Option<Vec<u8>>)> {
        self.objects.iter().map(|(id, change)| (*id, change.after.map(|object| object.to_bytes())))
    }
}

/// What a connected block replaced.
#[derive(Debug, Clone, PartialEq, Eq, Default, bincode::Encode, bincode::Decode)]
pub struct Undo {
    /// The bytes of each object that the block changed as they were before it; `None` where it was not.
    pub objects: Vec<(ObjectId, Option<Vec<u8>>)>,
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

/// Objects as transactions have left them, over a state that is read elsewhere.
///
/// What one sender's transactions do to another's account only adds to it, and models never change. So a sender's
/// transactions that follow on a state, one after the other, still do when others' come before or between them, unless two
/// publish the same model: the mempool rests on that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    objects: BTreeMap<ObjectId, Change>,
    fees: Amount,
}

/// What a transaction does to one object: what it was, what it becomes.
type Write = (ObjectId, Option<Object>, Option<Object>);

impl Changes {
    /// An object as it is now; `None` where there is none.
    ///
    /// # Errors
    /// The reader's.
    pub fn object<R: StateReader>(&self, id: &ObjectId, reader: &R) -> Result<Option<Object>, R::Error> {
        match self.objects.get(id) {
            Some(change) => Ok(change.after),
            None => reader.object(id),
        }
    }

    /// An account as it is now; `None` where there is none.
    ///
    /// # Errors
    /// The reader's.
    pub fn account<R: StateReader>(&self, address: &Address, reader: &R) -> Result<Option<Account>, R::Error> {
        Ok(self.object(&ObjectId::Account(*address), reader)?.and_then(Object::account))
    }

    fn model<R: StateReader>(&self, id: &ModelId, reader: &R) -> Result<Option<ModelRecord>, R::Error> {
        Ok(self.object(&ObjectId::Model(*id), reader)?.and_then(Object::model))
    }

    fn upload<R: StateReader>(&self, sender: &Address, reader: &R) -> Result<Option<UploadRecord>, R::Error> {
        Ok(self.object(&ObjectId::Upload(*sender), reader)?.and_then(Object::upload))
    }

    /// The fees of all transactions that have followed.
    pub fn fees(&self) -> Amount {
        self.fees
    }

    /// Lets a transaction follow: check, debit, act. The one way in which a transaction changes the state, in a block and on
    /// the way into the mempool. What needs no state is checked elsewhere ([`crate::rules`],
    /// [`crate::CheckedTransaction`]).
    ///
    /// # Errors
    /// The reader's; inside, the rule that the transaction breaks. Nothing has changed then.
    pub fn transact<R: StateReader>(
        &mut self,
        parameters: &Parameters,
        place: &Place,
        transaction: &Transaction,
        reader: &R,
    ) -> Result<Result<(), TransactionError>, R::Error> {
        let sender = transaction.sender();
        let before = self.account(&sender, reader)?;
        let (account, fees) = match self.debit(parameters, transaction, before.unwrap_or_default()) {
            Ok(debited) => debited,
            Err(error) => return Ok(Err(error)),
        };
        let action = Acting { changes: self, parameters, height: place.height, sender, account, reader };
        let written = match action.act(&transaction.unsigned.action)? {
            Ok(written) => written,
            Err(error) => return Ok(Err(error)),
        };
        self.fees = fees;
        self.set((ObjectId::Account(sender), before.map(Object::from), Some(account.into())));
        written.into_iter().for_each(|write| self.set(write));
        Ok(Ok(()))
    }

    /// The sender's account when it has paid, and the fees of all.
    fn debit(
        &self,
        parameters: &Parameters,
        transaction: &Transaction,
        Account { nonce, balance }: Account,
    ) -> Result<(Account, Amount), TransactionError> {
        let overflow = |sum| TransactionError::AmountOverflow { sum };
        let unsigned = &transaction.unsigned;
        if unsigned.nonce != nonce {
            return Err(TransactionError::Nonce { found: unsigned.nonce, expected: nonce });
        }
        let needed = transaction.total(parameters).ok_or(overflow(Sum::Total))?;
        let balance = balance.checked_sub(needed).ok_or(TransactionError::Balance { balance, needed })?;
        let nonce = nonce.checked_add(1).ok_or(overflow(Sum::Nonce))?;
        let fees = self.fees.checked_add(unsigned.fee).ok_or(overflow(Sum::Fees))?;
        Ok((Account { nonce, balance }, fees))
    }

    /// Pays a miner. Pay of nothing creates no account, other than a transfer of nothing where the minimum balance is 0.
    fn pay<R: StateReader>(
        &mut self,
        miner: Address,
        reward: Amount,
        reader: &R,
    ) -> Result<Result<(), TransactionError>, R::Error> {
        let overflow = TransactionError::AmountOverflow { sum: Sum::Pay };
        let Some(pay) = reward.checked_add(self.fees) else { return Ok(Err(overflow)) };
        if pay > Amount::ZERO {
            let before = self.account(&miner, reader)?;
            let account = before.unwrap_or_default();
            let Some(balance) = account.balance.checked_add(pay) else { return Ok(Err(overflow)) };
            let after = Account { balance, ..account };
            self.set((ObjectId::Account(miner), before.map(Object::from), Some(after.into())));
        }
        Ok(Ok(()))
    }

    /// `before` is the object as it is now, which counts where it has not changed yet.
    fn set(&mut self, (id, before, after): Write) {
        self.objects.entry(id).and_modify(|change| change.after = after).or_insert(Change { before, after });
    }

    fn into_delta(mut self) -> Delta {
        self.objects.retain(|_, change| change.before != change.after);
        Delta { objects: self.objects }
    }
}

/// An action of a sender who has paid: `account` is already debited, and not yet written.
struct Acting<'a, R> {
    changes: &'a Changes,
    parameters: &'a Parameters,
    height: u64,
    sender: Address,
    account: Account,
    reader: &'a R,
}

impl<R: StateReader> Acting<'_, R> {
    /// What the action writes besides the sender's account; what it writes there stands last.
    fn act(&self, action: &Action) -> Result<Result<Vec<Write>, TransactionError>, R::Error> {
        match *action {
            Action::Transfer { to, amount } => self.transfer(to, amount),
            Action::Classify { model, royalty, .. } => self.classify(model, royalty),
            Action::Upload { file, size } => self.begin(file, size),
            Action::Part { number, bytes, data } => Ok(match self.upload()? {
                Some(upload) => self.part(upload, number, bytes).map(|()| {
                    let (parts, next) = (upload.parts.with(data), upload.next.saturating_add(1));
                    let after = UploadRecord { parts, next, last: self.height, ..upload };
                    vec![(ObjectId::Upload(self.sender), Some(upload.into()), Some(after.into()))]
                }),
                None => Err(TransactionError::NoUpload),
            }),
            Action::Publish { model, facts, royalty } => self.publish(model, facts, royalty),
            // The rule UnknownAction has refused it.
            Action::Unknown(_) => Ok(Ok(vec![])),
        }
    }

    /// Adds to an account, the sender's included.
    fn credit(&self, to: Address, known: Option<Account>, amount: Amount) -> Result<Vec<Write>, TransactionError> {
        let receiver = if to == self.sender { self.account } else { known.unwrap_or_default() };
        let overflow = TransactionError::AmountOverflow { sum: Sum::Credited };
        let balance = receiver.balance.checked_add(amount).ok_or(overflow)?;
        let after = Account { balance, ..receiver };
        Ok(vec![(ObjectId::Account(to), known.map(Object::from), Some(after.into()))])
    }

    fn transfer(&self, to: Address, amount: Amount) -> Result<Result<Vec<Write>, TransactionError>, R::Error> {
        let (known, minimum) = (self.changes.account(&to, self.reader)?, self.parameters.minimum_balance);
        if known.is_none() && to != self.sender && amount < minimum {
            return Ok(Err(TransactionError::MinimumBalance { amount, minimum }));
        }
        Ok(self.credit(to, known, amount))
    }

    fn classify(&self, model: ModelId, royalty: Amount) -> Result<Result<Vec<Write>, TransactionError>, R::Error> {
        let height = self.height;
        let record = self.changes.model(&model, self.reader)?.filter(|record| record.first <= height);
        let Some(record) = record else { return Ok(Err(TransactionError::UnknownModel { model, height })) };
        if royalty != record.royalty {
            return Ok(Err(TransactionError::Royalty { found: royalty, expected: record.royalty }));
        }
        if royalty == Amount::ZERO {
            return Ok(Ok(vec![]));
        }
        Ok(self.credit(record.author, self.changes.account(&record.author, self.reader)?, royalty))
    }

    fn upload(&self) -> Result<Option<UploadRecord>, R::Error> {
        self.changes.upload(&self.sender, self.reader)
    }

    fn begin(&self, file: UploadHash, size: u32) -> Result<Result<Vec<Write>, TransactionError>, R::Error> {
        let (since, last) = (self.height, self.height);
        let after = UploadRecord { file, parts: Default::default(), size, next: 0, since, last };
        let before = self.upload()?.map(Object::from);
        Ok(Ok(vec![(ObjectId::Upload(self.sender), before, Some(after.into()))]))
    }

    /// Whether a part may follow.
    fn part(&self, upload: UploadRecord, number: u16, bytes: u32) -> Result<(), TransactionError> {
        let expected = upload.part_bytes(number).filter(|_| number == upload.next);
        let Some(expected) = expected else {
            let parts = parts(upload.size);
            return Err(TransactionError::PartNumber { found: number, expected: upload.next, parts });
        };
        if bytes != expected {
            return Err(TransactionError::PartLength { found: bytes, expected });
        }
        self.within_window(upload, upload.since.saturating_add(UPLOAD_DELAY))
    }

    fn within_window(&self, upload: UploadRecord, from: u64) -> Result<(), TransactionError> {
        let (height, until) = (self.height, upload.since.saturating_add(self.parameters.upload_window));
        if (from..until).contains(&height) {
            return Ok(());
        }
        Err(TransactionError::UploadWindow { height, from, until })
    }

    fn publish(
        &self,
        model: ModelId,
        facts: ModelFacts,
        royalty: Amount,
    ) -> Result<Result<Vec<Write>, TransactionError>, R::Error> {
        let Some(upload) = self.upload()? else { return Ok(Err(TransactionError::NoUpload)) };
        if let Err(error) = self.finished(upload, model, facts) {
            return Ok(Err(error));
        }
        if self.changes.model(&model, self.reader)?.is_some() {
            return Ok(Err(TransactionError::ModelExists { model }));
        }
        let first = self.height.saturating_add(self.parameters.model_delay);
        let record = ModelRecord { author: self.sender, royalty, first, facts };
        Ok(Ok(vec![
            (ObjectId::Upload(self.sender), Some(upload.into()), None),
            (ObjectId::Model(model), None, Some(record.into())),
        ]))
    }

    /// Whether an upload is the one that is published, all of it, and in time.
    fn finished(&self, upload: UploadRecord, model: ModelId, facts: ModelFacts) -> Result<(), TransactionError> {
        let expected = UploadHash::of(&self.sender, &model);
        if upload.file != expected {
            return Err(TransactionError::UploadFile { found: upload.file, expected });
        }
        if facts.size != upload.size {
            return Err(TransactionError::UploadSize { found: facts.size, expected: upload.size });
        }
        if !upload.is_complete() {
            return Err(TransactionError::PartsMissing { found: upload.next, expected: parts(upload.size) });
        }
        self.within_window(upload, upload.last.saturating_add(1))
    }
}

/// Parts of a file.
fn parts(size: u32) -> u32 {
    size.div_ceil(MAX_ATTACHMENT_BYTES as u32)
}

/// Applies a body's transactions in order ([`Changes::transact`]), then pays the miner.
///
/// # Errors
/// The first rule that a transaction breaks, or the reader's error.
pub fn apply<R: StateReader>(
    parameters: &Parameters,
    place: &Place,
    body: &Body,
    reader: &R,
) -> Result<Delta, ConnectError<R::Error>> {
    let mut changes = Changes::default();
    for (index, (transaction, _)) in body.transactions.iter().enumerate() {
        let result = changes.transact(parameters, place, transaction, reader).map_err(ConnectError::Reader)?;
        result.map_err(|error| error.at(index))?;
    }
    let paid = changes.pay(place.miner, parameters.reward_at(place.height), reader).map_err(ConnectError::Reader)?;
    paid.map_err(|error| error.at(body.transactions.len()))?;
    Ok(changes.into_delta())
}

/// All that connecting a block changes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Connected {
    /// Objects.
    pub delta: Delta,
    /// Branches of the state tree.
    pub branches: BranchChanges,
    /// The state tree after the block.
    pub state: Child,
    /// New nodes of the history: the block's leaf and what it completes.
    pub history: Vec<(Position, HistoryEntry)>,
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
    /// Where objects and branches are read from.
    pub reader: &'a R,
    /// The parent's state tree.
    pub state: Child,
    /// The history's peaks up to the parent, it included.
    pub peaks: &'a Peaks,
}

/// What a body does to a state.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Proposed {
    /// What a header holds with this body.
    pub roots: Roots,
    /// Objects.
    pub delta: Delta,
    /// Branches of the state tree.
    pub branches: BranchChanges,
    /// The state tree after the block.
    pub state: Child,
}

/// Applies a body to a state: what a miner needs to fill in a header's roots.
///
/// # Errors
/// As [`apply`], and if the stored tree cannot be read.
pub fn propose<R, E>(
    parameters: &Parameters,
    base: &Base<'_, R>,
    place: &Place,
    body: &Body,
) -> Result<Proposed, ConnectError<E>>
where
    R: StateReader<Error = E> + BranchReader<Error = E>,
{
    let delta = apply(parameters, place, body, base.reader)?;
    let changed = leaves(delta.written());
    let (state, branches) = state::update(base.reader, base.state, &changed).map_err(ConnectError::Tree)?;
    let history = base.peaks.root().map_err(|_| RuleError::WorkOverflow)?;
    let roots = Roots { history: Root(history), state: Root(state.hash()) };
    Ok(Proposed { roots, delta, branches, state })
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
) -> Result<Connected, ConnectError<E>>
where
    R: StateReader<Error = E> + BranchReader<Error = E>,
{
    // The parent is the last leaf; genesis, which has none, is not connected.
    let parent_time = base.peaks.entries().last().map_or(0, |entry| entry.last_time);
    let place = Place { height: header.height, version: header.version, miner: header.miner, parent_time };
    let Proposed { roots, delta, branches, state } = propose(parameters, base, &place, body)?;
    if header.history != roots.history {
        return Err(RuleError::HistoryRoot { found: header.history, expected: roots.history }.into());
    }
    if header.state != roots.state {
        return Err(RuleError::StateRoot { found: header.state, expected: roots.state }.into());
    }
    let mut peaks = base.peaks.clone();
    let history = append_header(&mut peaks, header).map_err(|_| RuleError::WorkOverflow)?;
    Ok(Connected { delta, branches, state, history, peaks })
}

/// Adds a header to the history and returns the new nodes.
///
/// # Errors
/// If the sum of work overflows.
pub fn append_header(peaks: &mut Peaks, header: &Header) -> Result<Vec<(Position, HistoryEntry)>, HistoryError> {
    let work = header.target.to_target().unwrap_or(Target::MAX).work();
    history::append(peaks, HistoryEntry::leaf(header.hash().0, work.0, header.time, header.target.0))
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
    state::update(reader, state, &leaves(undo.objects.iter().cloned()))
}
