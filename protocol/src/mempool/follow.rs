//! Following the chain: what is in a block leaves, and what is in none any more comes back.

use std::collections::BTreeSet;
use std::sync::Arc;

use ocelli_consensus::block::Answer;
use ocelli_consensus::object::{ObjectId, StateReader};
use ocelli_consensus::{Address, CheckedTransaction, Transaction, TxId};

use super::admission::{Room, created, size_at};
use super::{MAX_GAP, MAX_PENDING, Mempool, MempoolEntry, SENDER_SHARE, Tip, WAITING_BLOCKS};

const FIRST: Address = Address([0; 20]);
const LAST: Address = Address([u8::MAX; 20]);

/// What a new tip changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Gone: included, stale, expired, no longer possible, or for want of room.
    pub removed: Vec<TxId>,
    /// Ready that were not before, those of disconnected blocks among them: to be forwarded now.
    pub promoted: Vec<TxId>,
}

/// A block that was taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disconnected {
    /// Whose pay went with it.
    pub miner: Address,
    /// In its order.
    pub transactions: Vec<Returned>,
}

/// A transaction of a disconnected block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Returned {
    /// What the block held.
    pub transaction: Transaction,
    /// Its attachment, if that is kept.
    pub attachment: Option<Arc<[u8]>>,
    /// Its answer in the block, which this node has checked.
    pub answer: Answer,
}

impl Mempool {
    /// Follows the chain to a new tip: what is in a block leaves, what is in none any more comes back, whatever it pays, and
    /// what else has the same sender and nonce gives way to it; what cannot be mined any more goes.
    ///
    /// `disconnected` are the blocks taken back and `connected` the transactions of those that took their place, both the
    /// lowest first.
    ///
    /// # Errors
    /// The reader's. Then this mempool is of no use any more.
    pub fn on_tip_moved<'a, R: StateReader>(
        &mut self,
        disconnected: Vec<Disconnected>,
        connected: impl IntoIterator<Item = &'a Transaction>,
        tip: &Tip<'_, R>,
    ) -> Result<Changes, R::Error> {
        let mut may_lack_models = tip.height < self.height;
        (self.height, self.moves, self.handed_out) = (tip.height, self.moves + 1, None);
        let mut senders: BTreeSet<Address> = BTreeSet::new();
        for transaction in connected {
            senders.insert(transaction.sender());
            created(transaction).for_each(|object| self.who_touches(object, &mut senders));
        }
        for block in &disconnected {
            self.who_touches(ObjectId::Account(block.miner), &mut senders);
            for transaction in block.transactions.iter().map(|returned| &returned.transaction) {
                transaction.touches().for_each(|touch| self.who_touches(touch.object, &mut senders));
                may_lack_models |= created(transaction).next().is_some();
                // The royalty is gone as well. Where the model is gone, its author has sent a transaction that is gone.
                if let Some(model) = transaction.unsigned.action.model()
                    && let Some(record) = tip.state.model(&model)?
                {
                    self.who_touches(ObjectId::Account(record.author), &mut senders);
                }
            }
        }
        self.who_uploads(&mut senders);
        let before: BTreeSet<TxId> = senders.iter().flat_map(|sender| self.ready_of(*sender)).collect();
        let mut changes = Changes::default();
        for returned in disconnected.into_iter().flat_map(|block| block.transactions) {
            changes.removed.extend(self.take_back(returned, tip)?);
        }
        changes.removed.extend(self.expire());
        if may_lack_models {
            let mut early = Vec::new();
            for entry in self.iter().filter(|entry| entry.size.model.is_some()) {
                if size_at(entry.transaction(), tip)?.is_err() {
                    early.push(entry.txid());
                }
            }
            changes.removed.extend(early.iter().filter_map(|txid| self.take(txid)).map(|entry| entry.txid()));
        }
        for sender in senders {
            self.apply_anew(sender, tip, &mut changes)?;
        }
        changes.removed.extend(self.end_waiting());
        while self.order.ready_bytes > self.ready_limit() {
            let Some(&(_, sender)) = self.order.tails.first() else { break };
            let tail = self.senders[&sender].ready().next_back().map(MempoolEntry::txid);
            let Some(txid) = tail.and_then(|txid| self.take(&txid)).map(|entry| entry.txid()) else { break };
            changes.removed.push(txid);
        }
        let gone: BTreeSet<TxId> = changes.removed.iter().copied().collect();
        changes.promoted.retain(|txid| !gone.contains(txid) && !before.contains(txid));
        Ok(changes)
    }

    /// Has a transaction of a disconnected block wait for its sender to be applied anew. What had to go for it.
    fn take_back<R: StateReader>(&mut self, returned: Returned, tip: &Tip<'_, R>) -> Result<Option<TxId>, R::Error> {
        let Ok(size) = size_at(&returned.transaction, tip)? else { return Ok(None) };
        let Some(checked) = CheckedTransaction::from_connected(returned.transaction, returned.attachment) else {
            return Ok(None);
        };
        let nonce = tip.state.account(&checked.sender())?.unwrap_or_default().nonce;
        let unsigned = &checked.transaction().unsigned;
        if unsigned.nonce < nonce || unsigned.expires <= tip.height || self.places.contains_key(&checked.txid()) {
            return Ok(None);
        }
        let sender = self.senders.get(&checked.sender());
        let conflict = sender.and_then(|sender| sender.pending.get(&unsigned.nonce)).map(MempoolEntry::txid);
        let conflict = conflict.and_then(|txid| self.take(&txid)).map(|entry| entry.txid());
        let mut entry = MempoolEntry::new(checked, size, returned.answer, self.height);
        // Whoever has had the block has had it.
        entry.ready_since = Some(0);
        self.put(entry, nonce);
        Ok(conflict)
    }

    /// Whose transactions own, add to or create an object.
    fn who_touches(&self, object: ObjectId, senders: &mut BTreeSet<Address>) {
        if let ObjectId::Account(owner) | ObjectId::Upload(owner) = object {
            senders.insert(owner);
        }
        senders.extend(self.touched.range((object, FIRST, 0)..=(object, LAST, u64::MAX)).map(|(_, sender, _)| *sender));
    }

    /// Who has a transaction of an upload pending: with each block it may come too late.
    fn who_uploads(&self, senders: &mut BTreeSet<Address>) {
        let uploads = (ObjectId::Upload(FIRST), FIRST, 0)..=(ObjectId::Upload(LAST), LAST, u64::MAX);
        senders.extend(self.touched.range(uploads).map(|(_, sender, _)| *sender));
    }

    /// Reads a sender's account anew and applies all that it has pending.
    fn apply_anew<R: StateReader>(
        &mut self,
        address: Address,
        tip: &Tip<'_, R>,
        changes: &mut Changes,
    ) -> Result<(), R::Error> {
        if !self.senders.contains_key(&address) {
            return Ok(());
        }
        let nonce = tip.state.account(&address)?.unwrap_or_default().nonce;
        self.leave_order(address);
        let Some(sender) = self.senders.get_mut(&address) else { return Ok(()) };
        (sender.nonce, sender.next, sender.after) = (nonce, nonce, None);
        for entry in sender.pending.values_mut() {
            entry.waits_since.get_or_insert(self.height);
        }
        let stale: Vec<TxId> = sender.pending.range(..nonce).map(|(_, entry)| entry.txid()).collect();
        self.enter_order(address);
        changes.removed.extend(stale.iter().filter_map(|txid| self.take(txid)).map(|entry| entry.txid()));
        changes.removed.extend(self.promote(address, Room::Later, tip)?);
        changes.promoted.extend(self.ready_of(address));
        // What came back may be more than one may have.
        if let Some(sender) = self.senders.get(&address) {
            let limit = sender.next.saturating_add(MAX_GAP);
            let surplus = sender
                .pending
                .values()
                .enumerate()
                .filter(|(index, entry)| *index >= MAX_PENDING || entry.nonce() > limit);
            let surplus: Vec<TxId> = surplus.map(|(_, entry)| entry.txid()).collect();
            changes.removed.extend(surplus.iter().rev().filter_map(|txid| self.take(txid)).map(|entry| entry.txid()));
        }
        Ok(())
    }

    /// Removes what no later block can hold.
    fn expire(&mut self) -> Vec<TxId> {
        let mut expired = Vec::new();
        while let Some((_, address, nonce)) = self.expiries.first().filter(|(expires, ..)| *expires <= self.height) {
            let txid = self.senders.get(address).and_then(|sender| sender.pending.get(nonce)).map(MempoolEntry::txid);
            let Some(entry) = txid.and_then(|txid| self.take(&txid)) else { break };
            expired.push(entry.txid());
        }
        expired
    }

    /// Removes what has waited too long, and what does not fit the room for what waits: the last of who has most.
    fn end_waiting(&mut self) -> Vec<TxId> {
        let since = self.height.saturating_sub(WAITING_BLOCKS);
        let waiting = self.order.queues.iter().flat_map(|(_, address)| self.senders[address].waiting());
        let late = waiting.filter(|entry| entry.waits_since.is_some_and(|from| from < since));
        let mut gone: Vec<TxId> = late.map(MempoolEntry::txid).collect();
        gone.iter().for_each(|txid| drop(self.take(txid)));
        let share = self.waiting_limit() / SENDER_SHARE;
        while let Some(&(length, address)) = self.order.queues.last()
            && (length > share || self.order.waiting_bytes > self.waiting_limit())
        {
            let last = self.senders[&address].waiting().next_back().map(MempoolEntry::txid);
            let Some(entry) = last.and_then(|txid| self.take(&txid)) else { break };
            gone.push(entry.txid());
        }
        gone
    }
}
