//! Whether a transaction is taken, what goes for it, and what becomes ready with it.

use std::collections::{BTreeMap, BTreeSet};

use ocelli_consensus::object::{ObjectId, StateReader};
use ocelli_consensus::rules::{MODEL_BYTES_AT_LEAST, Sum, TransactionError, check_transaction, weight};
use ocelli_consensus::transaction::Access;
use ocelli_consensus::transition::Changes as Objects;
use ocelli_consensus::{Address, Amount, Transaction, TxId};

use super::entry::{self, Size};
use super::selection::Change;
use super::{
    AdmitError, FeeRate, MAX_GAP, MAX_PENDING, MIN_FEE_RATE, Mempool, MempoolEntry, MempoolError, SENDER_SHARE, Tip,
};

static NOTHING_PENDING: BTreeMap<u64, MempoolEntry> = BTreeMap::new();

/// What is to be taken, or might be.
#[derive(Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) transaction: &'a Transaction,
    pub(super) txid: TxId,
    pub(super) sender: Address,
    pub(super) size: Size,
    pub(super) bytes: usize,
}

/// What taking it would mean.
pub(super) struct Admission {
    /// Those that have to go for it.
    pub(super) victims: Vec<TxId>,
    /// The best fee rate of those that go for want of room.
    pub(super) dearest: Option<FeeRate>,
    /// Of the sender's account.
    pub(super) nonce: u64,
    /// The state after it; `None` where it has to wait.
    pub(super) after: Option<Objects>,
}

/// Whether those that become ready have to make room for themselves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    Made,
    /// It is looked for when all have.
    Later,
}

impl Mempool {
    /// What taking a transaction would mean.
    pub(super) fn admit<R: StateReader>(
        &self,
        new: &Candidate<'_>,
        tip: &Tip<'_, R>,
    ) -> Result<Admission, AdmitError<R::Error>> {
        self.check_alone(new, tip)?;
        let (nonce, next, pending) = match self.senders.get(&new.sender) {
            Some(sender) => (sender.nonce, sender.next, &sender.pending),
            None => {
                let account = tip.state.account(&new.sender).map_err(AdmitError::Reader)?.unwrap_or_default();
                (account.nonce, account.nonce, &NOTHING_PENDING)
            }
        };
        if new.nonce() < nonce {
            return Err(MempoolError::NonceUsed { found: new.nonce(), expected: nonce }.into());
        }
        let replaced = pending.get(&new.nonce());
        let own = minimum_fee(new.size.weight).0;
        let is_enough = |victims: &[&MempoolEntry]| {
            let fees = victims.iter().map(|victim| victim.fee().0).fold(own, u64::saturating_add);
            if replaced.is_none() || new.fee().0 >= fees {
                return Ok(());
            }
            Err(MempoolError::ReplacementFeeTooLow { found: new.fee(), expected: Amount(fees) })
        };
        let mut victims: Vec<&MempoolEntry> = replaced.into_iter().collect();
        // Before all that comes after it is applied again.
        is_enough(&victims)?;
        if replaced.is_none() && pending.len() >= MAX_PENDING {
            // The last gives way to what comes before it, unless that would cost one that is ready.
            let last = pending.last_key_value().map(|(_, last)| last);
            let last = last.filter(|last| !last.is_ready() && last.nonce() > new.nonce());
            victims.push(last.ok_or(MempoolError::TooManyPending { limit: MAX_PENDING })?);
        }
        let (mut after, mut dearest) = (None, None);
        if new.nonce() <= next {
            let mut objects = self.objects_before(new.sender, new.nonce(), tip).map_err(AdmitError::Reader)?;
            self.check_created(created(new.transaction), new.txid, replaced)?;
            let follow = tip.transact(&mut objects, new.transaction).map_err(AdmitError::Reader)?;
            follow.map_err(MempoolError::Rule)?;
            after = Some(objects.clone());
            // Those after it follow again, or go with the first that does not.
            let mut transact =
                |transaction: &Transaction| tip.transact(&mut objects, transaction).map_err(AdmitError::Reader);
            let mut follows = true;
            for entry in pending.range(new.nonce().saturating_add(1)..next.max(new.nonce().saturating_add(1))) {
                follows = follows && transact(entry.1.transaction())?.is_ok();
                if !follows {
                    victims.push(entry.1);
                }
            }
            let freed = victims.iter().filter(|victim| victim.is_ready()).map(|victim| victim.bytes()).sum();
            let room = self.victims_for_room(new, freed)?;
            dearest = room.iter().map(|victim| victim.fee_rate()).max();
            victims.extend(room);
        } else {
            self.check_gap(new, next)?;
            self.check_promise(new, pending, next, tip)?;
            self.make_room_to_wait(new, next, pending, &mut victims)?;
        }
        is_enough(&victims)?;
        Ok(Admission { victims: victims.iter().map(|victim| victim.txid()).collect(), dearest, nonce, after })
    }

    /// The checks that need neither the state nor another transaction.
    fn check_alone<R>(&self, new: &Candidate<'_>, tip: &Tip<'_, R>) -> Result<(), MempoolError> {
        if self.places.contains_key(&new.txid) {
            return Err(MempoolError::AlreadyKnown(new.txid));
        }
        if new.size.weight > tip.network.parameters.weight_limit {
            return Err(MempoolError::TooHeavy { found: new.size.weight, limit: tip.network.parameters.weight_limit });
        }
        if new.bytes > self.ready_limit() {
            return Err(MempoolError::TooLarge { found: new.bytes, limit: self.ready_limit() });
        }
        let least = minimum_fee(new.size.weight).max(self.rolling_minimum().fee(new.size.weight));
        if new.fee() < least {
            return Err(MempoolError::FeeTooLow { found: new.fee(), expected: least });
        }
        Ok(())
    }

    /// Whether what only one transaction can create is not created by another that is ready.
    fn check_created(
        &self,
        mut created: impl Iterator<Item = ObjectId>,
        own: TxId,
        replaced: Option<&MempoolEntry>,
    ) -> Result<(), MempoolError> {
        let is_spared = |other: &&TxId| **other == own || replaced.is_some_and(|it| it.txid() == **other);
        match created.find_map(|object| self.creators.get(&object).filter(|other| !is_spared(other))) {
            Some(other) => Err(MempoolError::CreatedByAnother(*other)),
            None => Ok(()),
        }
    }

    fn check_gap(&self, new: &Candidate<'_>, next: u64) -> Result<(), MempoolError> {
        if new.nonce() - next > MAX_GAP {
            return Err(MempoolError::NonceTooFarAhead { found: new.nonce(), next, limit: MAX_GAP });
        }
        Ok(())
    }

    /// Whether a sender could pay what is to wait besides all that it has waiting.
    fn check_promise<R: StateReader>(
        &self,
        new: &Candidate<'_>,
        pending: &BTreeMap<u64, MempoolEntry>,
        next: u64,
        tip: &Tip<'_, R>,
    ) -> Result<(), AdmitError<R::Error>> {
        let objects = self.objects_before(new.sender, next, tip).map_err(AdmitError::Reader)?;
        let account = objects.account(&new.sender, tip.state).map_err(AdmitError::Reader)?;
        let balance = account.unwrap_or_default().balance;
        let others = pending.range(next..).filter(|(nonce, _)| **nonce != new.nonce());
        let waiting = others.map(|(_, entry)| entry.transaction()).chain([new.transaction]);
        let parameters = &tip.network.parameters;
        let total =
            |transaction: &Transaction| u128::from(transaction.total(parameters).map_or(u64::MAX, |total| total.0));
        let needed = waiting.map(total).sum::<u128>();
        if needed > u128::from(balance.0) {
            let needed = Amount(u64::try_from(needed).unwrap_or(u64::MAX));
            return Err(MempoolError::Rule(TransactionError::Balance { balance, needed }).into());
        }
        Ok(())
    }

    /// Adds those that must go so that `new` may wait: later ones of its sender where that has its share, and of whoever has
    /// most waiting where all have theirs, as long as that is more than `new`'s sender would have.
    fn make_room_to_wait<'a>(
        &'a self,
        new: &Candidate<'_>,
        next: u64,
        pending: &'a BTreeMap<u64, MempoolEntry>,
        victims: &mut Vec<&'a MempoolEntry>,
    ) -> Result<(), MempoolError> {
        let no_room = MempoolError::NoRoomToWait { found: new.nonce(), next };
        let is_spared = |entry: &&MempoolEntry, victims: &[&MempoolEntry]| {
            victims.iter().all(|victim| victim.txid() != entry.txid())
        };
        let mut freed: usize = victims.iter().map(|victim| victim.bytes()).sum();
        let held: usize = pending.range(next..).map(|(_, entry)| entry.bytes()).sum();
        let mut later = pending.range(next..).rev().map(|(_, entry)| entry).take_while(|e| e.nonce() > new.nonce());
        while held - freed + new.bytes > self.waiting_limit() / SENDER_SHARE {
            let last = later.find(|entry| is_spared(entry, victims)).ok_or_else(|| no_room.clone())?;
            freed += last.bytes();
            victims.push(last);
        }
        let own = held - freed + new.bytes;
        let mut excess = (self.order.waiting_bytes - freed + new.bytes).saturating_sub(self.waiting_limit());
        for (length, address) in self.order.queues.iter().rev().filter(|(_, address)| *address != new.sender) {
            let mut left = *length;
            for entry in self.senders[address].waiting().rev() {
                if excess == 0 || left <= own {
                    break;
                }
                left -= entry.bytes();
                excess = excess.saturating_sub(entry.bytes());
                victims.push(entry);
            }
            if excess == 0 || *length <= own {
                break;
            }
        }
        if excess > 0 { Err(no_room) } else { Ok(()) }
    }

    /// Makes those of a sender ready that follow on the ones that are, and returns what had to go: the first that does not
    /// follow, and what gave way for room.
    pub(super) fn promote<R: StateReader>(
        &mut self,
        address: Address,
        room: Room,
        tip: &Tip<'_, R>,
    ) -> Result<Vec<TxId>, R::Error> {
        let mut gone = Vec::new();
        let Some(next) = self.senders.get(&address).map(|sender| sender.next) else { return Ok(gone) };
        let mut after = self.objects_before(address, next, tip)?;
        while let Some(entry) = self.senders.get(&address).and_then(|sender| sender.pending.get(&sender.next)) {
            let (txid, rate) = (entry.txid(), entry.fee_rate());
            let is_alone = self.check_created(entry.created(), txid, None).is_ok();
            let follows = is_alone && tip.transact(&mut after, entry.transaction())?.is_ok();
            let candidate = Candidate::of_entry(entry);
            let victims = match room {
                Room::Made if follows => self.victims_for_room(&candidate, 0).ok(),
                Room::Made | Room::Later => follows.then(Vec::new),
            };
            let Some(victims) = victims else {
                gone.extend(self.take(&txid).map(|entry| entry.txid()));
                return Ok(gone);
            };
            let dearest = victims.iter().map(|victim| victim.fee_rate()).max();
            let victims: Vec<TxId> = victims.iter().map(|victim| victim.txid()).collect();
            gone.extend(victims.iter().filter_map(|victim| self.take(victim)).map(|victim| victim.txid()));
            self.raise_minimum(dearest);
            self.set_ready(address, after.clone(), tip.now);
            self.changed_at(rate, Change::New);
        }
        Ok(gone)
    }

    /// The state after a sender's ready transactions before a nonce.
    fn objects_before<R: StateReader>(
        &self,
        address: Address,
        nonce: u64,
        tip: &Tip<'_, R>,
    ) -> Result<Objects, R::Error> {
        let Some(sender) = self.senders.get(&address) else { return Ok(Objects::default()) };
        if let Some((_, after)) =
            sender.after.as_ref().filter(|(moves, _)| *moves == self.moves && nonce == sender.next)
        {
            return Ok(after.clone());
        }
        let mut objects = Objects::default();
        for (_, entry) in sender.pending.range(sender.nonce..nonce) {
            let followed = tip.transact(&mut objects, entry.transaction())?;
            debug_assert_eq!(followed, Ok(()), "what is ready has followed");
        }
        Ok(objects)
    }

    /// Ready transactions in the order in which they go for want of room: the last of a sender, the lowest fee rate first, then
    /// the one before it. Those of `spared` stay: what is to come may depend on them.
    pub(super) fn for_room(&self, spared: Option<Address>) -> impl Iterator<Item = &MempoolEntry> {
        let mut tails =
            self.order.tails.iter().copied().filter(move |(_, address)| Some(*address) != spared).peekable();
        let mut rests: BTreeMap<Address, _> = BTreeMap::new();
        // The next to last of those whose last goes already, and so on.
        let mut uncovered: BTreeSet<(FeeRate, Address)> = BTreeSet::new();
        std::iter::from_fn(move || {
            let from_uncovered = uncovered.first().is_some_and(|rest| tails.peek().is_none_or(|tail| rest < tail));
            let (_, address) = if from_uncovered { uncovered.pop_first() } else { tails.next() }?;
            let rest = rests.entry(address).or_insert_with(|| self.senders[&address].ready().rev().peekable());
            let victim = rest.next()?;
            uncovered.extend(rest.peek().map(|next| (next.fee_rate(), address)));
            Some(victim)
        })
    }

    /// Whom a transaction that is ready must displace so that the bound holds, when `freed` bytes go anyway.
    fn victims_for_room(&self, new: &Candidate<'_>, freed: usize) -> Result<Vec<&MempoolEntry>, MempoolError> {
        let mut excess = (self.order.ready_bytes - freed + new.bytes).saturating_sub(self.ready_limit());
        let (mut victims, mut all) = (Vec::new(), self.for_room(Some(new.sender)));
        while excess > 0 {
            let victim = all.next();
            let Some(victim) = victim.filter(|victim| victim.fee_rate() < new.fee_rate()) else {
                let lowest = victim.map_or(new.fee_rate(), MempoolEntry::fee_rate);
                return Err(MempoolError::Full { found: new.fee_rate(), lowest });
            };
            excess = excess.saturating_sub(victim.bytes());
            victims.push(victim);
        }
        Ok(victims)
    }

    /// The best of those that went for want of room paid so much.
    pub(super) fn raise_minimum(&mut self, dearest: Option<FeeRate>) {
        if let Some(rate) = dearest {
            self.rolling = Some((rate.above().max(self.rolling_minimum()), self.height));
        }
    }
}

impl<'a> Candidate<'a> {
    pub(super) fn of<R: StateReader>(
        transaction: &'a Transaction,
        (txid, sender): (TxId, Address),
        tip: &Tip<'_, R>,
    ) -> Result<Self, AdmitError<R::Error>> {
        let size = size_at(transaction, tip).map_err(AdmitError::Reader)?.map_err(MempoolError::Rule)?;
        Ok(Self { transaction, txid, sender, size, bytes: entry::bytes(transaction) })
    }

    fn of_entry(entry: &'a MempoolEntry) -> Self {
        let (txid, sender) = (entry.txid(), entry.checked().sender());
        Self { transaction: entry.transaction(), txid, sender, size: entry.size, bytes: entry.bytes() }
    }

    fn nonce(&self) -> u64 {
        self.transaction.unsigned.nonce
    }

    fn fee(&self) -> Amount {
        self.transaction.unsigned.fee
    }

    fn fee_rate(&self) -> FeeRate {
        FeeRate::of(self.fee(), self.size.weight)
    }
}

/// What a transaction takes of the next block, if that may hold it by itself and by the model that it uses.
pub(super) fn size_at<R: StateReader>(
    transaction: &Transaction,
    tip: &Tip<'_, R>,
) -> Result<Result<Size, TransactionError>, R::Error> {
    let (place, id) = (tip.place(), transaction.unsigned.action.model());
    let record = match id {
        Some(id) => tip.state.model(&id)?,
        None => None,
    };
    if let Err(error) = check_transaction(&place, transaction, record.as_ref()) {
        return Ok(Err(error));
    }
    if transaction.total(&tip.network.parameters).is_none() {
        return Ok(Err(TransactionError::AmountOverflow { sum: Sum::Total }));
    }
    let facts = record.map(|record| record.facts);
    let model = id.zip(facts).map(|(id, facts)| (id, u64::from(facts.size.max(MODEL_BYTES_AT_LEAST))));
    // The model is known: it was just looked at.
    Ok(Ok(Size { weight: weight(transaction, facts.as_ref()).unwrap_or(u64::MAX), model }))
}

/// What only one transaction can create.
pub(super) fn created(transaction: &Transaction) -> impl Iterator<Item = ObjectId> {
    transaction.touches().filter(|touch| touch.access == Access::Creates).map(|touch| touch.object)
}

fn minimum_fee(weight: u64) -> Amount {
    Amount(weight.saturating_mul(MIN_FEE_RATE))
}
