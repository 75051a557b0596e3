//! Following the chain: what is in a block leaves, and what is in none any more comes back.

use std::collections::BTreeSet;
use std::sync::Arc;

use ocelli_consensus::block::Output;
use ocelli_consensus::transaction::Touch;
use ocelli_consensus::transition::StateReader;
use ocelli_consensus::{Address, CheckedTransaction, Transaction, TxId};

use super::admission::{Room, weight_at};
use super::{Entry, MAX_GAP, MAX_PENDING, Mempool, SENDER_SHARE, Tip, WAITING_BLOCKS};

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
    /// Its pixels, if they are kept.
    pub pixels: Option<Arc<[u8]>>,
    /// Its output in the block, which this node has checked.
    pub output: Output,
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
        let is_lower = tip.height < self.height;
        (self.height, self.moves, self.handed_out) = (tip.height, self.moves + 1, None);
        let mut senders: BTreeSet<Address> = connected.into_iter().map(Transaction::sender).collect();
        for block in &disconnected {
            let touched = block.transactions.iter().flat_map(|returned| returned.transaction.touches());
            for address in touched.map(Touch::address).chain([block.miner]) {
                self.who_touches(address, &mut senders);
            }
        }
        let before: BTreeSet<TxId> = senders.iter().flat_map(|sender| self.ready_of(*sender)).collect();
        let mut changes = Changes::default();
        for returned in disconnected.into_iter().flat_map(|block| block.transactions) {
            changes.removed.extend(self.take_back(returned, tip)?);
        }
        changes.removed.extend(self.expire());
        if is_lower {
            // Below an upgrade its models are not offered.
            let is_early = |entry: &&Entry| weight_at(entry.transaction(), tip).is_err();
            let early: Vec<TxId> = self.iter().filter(is_early).map(Entry::txid).collect();
            changes.removed.extend(early.iter().filter_map(|txid| self.take(txid)).map(|entry| entry.txid()));
        }
        for sender in senders {
            self.apply_anew(sender, tip, &mut changes)?;
        }
        changes.removed.extend(self.end_waiting());
        while self.order.ready_bytes > self.ready_limit() {
            let Some(&(_, sender)) = self.order.tails.first() else { break };
            let tail = self.senders[&sender].ready().next_back().map(Entry::txid);
            let Some(txid) = tail.and_then(|txid| self.take(&txid)).map(|entry| entry.txid()) else { break };
            changes.removed.push(txid);
        }
        let gone: BTreeSet<TxId> = changes.removed.iter().copied().collect();
        changes.promoted.retain(|txid| !gone.contains(txid) && !before.contains(txid));
        Ok(changes)
    }

    /// Has a transaction of a disconnected block wait for its sender to be applied anew. What had to go for it.
    fn take_back<R: StateReader>(&mut self, returned: Returned, tip: &Tip<'_, R>) -> Result<Option<TxId>, R::Error> {
        let Ok(weight) = weight_at(&returned.transaction, tip) else { return Ok(None) };
        let Some(checked) = CheckedTransaction::from_connected(returned.transaction, returned.pixels) else {
            return Ok(None);
        };
        let nonce = tip.state.account(&checked.sender())?.unwrap_or_default().nonce;
        let unsigned = &checked.transaction().unsigned;
        if unsigned.nonce < nonce || unsigned.expires <= tip.height || self.places.contains_key(&checked.txid()) {
            return Ok(None);
        }
        let sender = self.senders.get(&checked.sender());
        let conflict = sender.and_then(|sender| sender.pending.get(&unsigned.nonce)).map(Entry::txid);
        let conflict = conflict.and_then(|txid| self.take(&txid)).map(|entry| entry.txid());
        self.put(Entry::new(checked, weight, returned.output, self.height), nonce);
        Ok(conflict)
    }

    /// Whose transactions read or write an account.
    fn who_touches(&self, address: Address, senders: &mut BTreeSet<Address>) {
        senders.insert(address);
        let (first, last) = (Address([0; 20]), Address([u8::MAX; 20]));
        let credits = self.credits.range((address, first, 0)..=(address, last, u64::MAX));
        senders.extend(credits.map(|(_, sender, _)| *sender));
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
            let txid = self.senders.get(address).and_then(|sender| sender.pending.get(nonce)).map(Entry::txid);
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
        let mut gone: Vec<TxId> = late.map(Entry::txid).collect();
        gone.iter().for_each(|txid| drop(self.take(txid)));
        let share = self.waiting_limit() / SENDER_SHARE;
        while let Some(&(length, address)) = self.order.queues.last()
            && (length > share || self.order.waiting_bytes > self.waiting_limit())
        {
            let last = self.senders[&address].waiting().next_back().map(Entry::txid);
            let Some(entry) = last.and_then(|txid| self.take(&txid)) else { break };
            gone.push(entry.txid());
        }
        gone
    }
}
