//! Chain moves: blocks connected and disconnected in memory, to be written at once.

use std::collections::BTreeMap;

use ocelli_consensus::codec::encode;
use ocelli_consensus::header::Place;
use ocelli_consensus::history::{HistoryEntry, HistoryReader, Peaks, Position};
use ocelli_consensus::object::{Object, ObjectId, StateReader};
use ocelli_consensus::state::{self, Branch, BranchChanges, BranchReader};
use ocelli_consensus::transition::{self, Base, ConnectError, Connected, Roots, Undo};
use ocelli_consensus::{Action, Address, BlockHash, Body, Header, ModelId, Parameters, Root, TxId};
use ocelli_protocol::ledger;
use rocksdb::WriteBatch;

use super::ledger::author;
use super::{Live, Rows, Source, Store, StoreError, Tip, TransactionLocation, columns, rows};

/// A chain as a move leaves it, before it is written: what the move changes, over what is stored. A reorganisation is
/// as many [`Overlay::disconnect_tip`] as it takes to the fork point and then [`Overlay::connect`] for each block of the
/// better branch. Dropping the overlay leaves everything as it was.
pub struct Overlay<'a, S = Live> {
    store: &'a Rows<S>,
    from: BlockHash,
    tip: Tip,
    header: Header,
    peaks: Peaks,
    /// Whether entries of accounts are kept.
    keeps_ledger: bool,
    changes: Changes,
}

/// A chain move to be written by [`Store::commit`].
#[must_use = "a chain move changes nothing until it is committed"]
pub struct ChainMove {
    pub(super) from: BlockHash,
    pub(super) to: Tip,
    pub(super) changes: Changes,
}

impl<'a, S: Source> Overlay<'a, S> {
    /// Begins at the stored tip.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn new(store: &'a Rows<S>) -> Result<Self, StoreError> {
        let tip = store.tip()?;
        let header = store.stored_header(&tip.hash)?;
        let peaks = Peaks::load(store, tip.height.saturating_add(1))?;
        let keeps_ledger = store.ledger_from()?.is_some();
        Ok(Self { store, from: tip.hash, tip, header, peaks, keeps_ledger, changes: Changes::default() })
    }

    /// The tip as the overlay has it.
    pub fn tip(&self) -> &Tip {
        &self.tip
    }

    /// The tip's header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The history's peaks up to the tip, it included.
    pub fn peaks(&self) -> &Peaks {
        &self.peaks
    }

    /// What a block on the tip builds on.
    pub fn base(&self) -> Base<'_, Self> {
        Base { reader: self, state: self.tip.state, peaks: &self.peaks }
    }

    /// The roots of a block with this body on the tip, for a miner's template.
    ///
    /// # Errors
    /// As [`transition::propose`].
    pub fn propose(
        &self,
        parameters: &Parameters,
        place: &Place,
        body: &Body,
    ) -> Result<Roots, ConnectError<StoreError>> {
        transition::propose(parameters, &self.base(), place, body).map(|proposed| proposed.roots)
    }

    /// Connects a block to the tip. Its header and body have been checked by themselves.
    ///
    /// # Errors
    /// As [`transition::connect`], and if the block does not stand on the tip. The overlay is as before then.
    pub fn connect(
        &mut self,
        parameters: &Parameters,
        header: &Header,
        body: &Body,
    ) -> Result<(), ConnectError<StoreError>> {
        let (block, height, tip) = (header.hash(), header.height, self.tip);
        if header.parent != tip.hash || tip.height.checked_add(1) != Some(height) {
            let error = StoreError::NotOnTip { block, height, tip: tip.hash, tip_height: tip.height };
            return Err(ConnectError::Reader(error));
        }
        let attached = self.attached_up_to(tip.height).map_err(ConnectError::Reader)?;
        let parts = self.parts_of(body).map_err(ConnectError::Reader)?;
        let uses = self.uses_with(body, u64::saturating_add).map_err(ConnectError::Reader)?;
        let Connected { delta, branches, state, history, peaks } =
            transition::connect(parameters, &self.base(), header, body)?;
        let entries = match self.keeps_ledger {
            true => ledger::entries(parameters, header, body, |model| author(&*self, model))
                .map_err(ConnectError::Reader)?,
            false => Vec::new(),
        };
        let changes = &mut self.changes;
        changes.undo.insert((height, block), Some(delta.undo()));
        changes.objects.extend(delta.objects.into_iter().map(|(id, change)| (id, change.after)));
        changes.branches.extend(branches);
        changes.history.extend(history.into_iter().map(|(position, entry)| (position, Some(entry))));
        changes.heights.insert(height, Some((block, attached.saturating_add(attachment_bytes(body)))));
        let location = |index| TransactionLocation { block, height, index };
        for (index, (transaction, _)) in (0u32..).zip(&body.transactions) {
            changes.transactions.insert(transaction.txid(), Some(location(index)));
        }
        changes.parts.extend(parts.into_iter().map(|(part, index)| (part, Some(location(index)))));
        changes.uses.extend(uses);
        changes.ledger.extend(entries.into_iter().map(|(account, entry)| ((account, entry.place), Some(entry.event))));
        if self.keeps_ledger {
            changes.ledger_from = Some(changes.ledger_from.map_or(height, |from| from.min(height)));
        }
        self.tip = Tip { hash: block, height, state };
        self.header = header.clone();
        self.peaks = peaks;
        Ok(())
    }

    /// Takes the tip back and returns it.
    ///
    /// # Errors
    /// If it is the genesis, if what is needed is no longer kept or cannot be read, and if the state is then not the one
    /// that the block was connected to. The overlay is as before then.
    pub fn disconnect_tip(&mut self) -> Result<(Header, Body), StoreError> {
        let Tip { hash, height, state } = self.tip;
        let below = height.checked_sub(1).ok_or(StoreError::AtGenesis)?;
        let pruned = StoreError::Pruned { block: hash, height };
        let undo = self.undo(height, &hash)?.ok_or_else(|| pruned.clone())?;
        let body = self.store.body(height, &hash)?.ok_or(pruned)?;
        let parent = self.store.stored_header(&self.header.parent)?;
        let (state, branches) = transition::disconnect(self, state, &undo)?;
        let (found, expected) = (Root(state.hash()), parent.state);
        if found != expected {
            return Err(StoreError::Undone { block: hash, found, expected });
        }
        let peaks = Peaks::load(self, height)?;
        let uses = self.uses_with(&body, u64::saturating_sub)?;
        let mut before = Vec::new();
        for (id, bytes) in undo.objects {
            let object = bytes.map(|bytes| Object::from_bytes(&id, &bytes)).transpose();
            let damaged = || StoreError::damaged(columns::UNDO, &rows::block_key(height, &hash));
            before.push((id, object.map_err(|_| damaged())?));
        }

        let places = match self.keeps_ledger {
            true => ledger::places(&self.header, &body, |model| author(&*self, model))?,
            false => Vec::new(),
        };
        let changes = &mut self.changes;
        changes.ledger.extend(places.into_iter().map(|place| (place, None)));
        changes.undo.insert((height, hash), None);
        changes.objects.extend(before);
        changes.uses.extend(uses);
        changes.branches.extend(branches);
        changes.history.extend(completed_by(height).map(|position| (position, None)));
        changes.heights.insert(height, None);
        for (transaction, _) in &body.transactions {
            changes.transactions.insert(transaction.txid(), None);
        }
        self.tip = Tip { hash: self.header.parent, height: below, state };
        self.peaks = peaks;
        // The uploads that the block's parts belong to are again as they were before it.
        let parts = self.parts_of(&body)?;
        self.changes.parts.extend(parts.into_iter().map(|(part, _)| (part, None)));
        Ok((std::mem::replace(&mut self.header, parent), body))
    }

    /// All that is to be written.
    pub fn into_move(self) -> ChainMove {
        ChainMove { from: self.from, to: self.tip, changes: self.changes }
    }

    /// The bytes of all attachments of the main chain up to a height.
    fn attached_up_to(&self, height: u64) -> Result<u64, StoreError> {
        match self.changes.heights.get(&height) {
            Some(Some((_, attached))) => Ok(*attached),
            _ => Ok(self.store.height_row(height)?.map_or(0, |(_, attached)| attached)),
        }
    }

    /// The parts that a block's transactions add to uploads which there are before it, each with its transaction's index. A part
    /// of an upload that begins in the block itself is not among them: it comes too early to be valid.
    fn parts_of(&self, body: &Body) -> Result<Vec<(PartPlace, u32)>, StoreError> {
        let mut parts = Vec::new();
        for (index, (transaction, _)) in (0u32..).zip(&body.transactions) {
            let Action::Part { number, .. } = transaction.unsigned.action else { continue };
            let sender = transaction.sender();
            if let Some(upload) = self.upload(&sender)? {
                parts.push(((sender, upload.since, number), index));
            }
        }
        Ok(parts)
    }

    /// How often the models of a body's tasks have been used, with those counted in; `None` of never.
    fn uses_with(
        &self,
        body: &Body,
        count: impl Fn(u64, u64) -> u64,
    ) -> Result<BTreeMap<ModelId, Option<u64>>, StoreError> {
        let mut tasks: BTreeMap<ModelId, u64> = BTreeMap::new();
        for model in body.transactions.iter().filter_map(|(transaction, _)| transaction.unsigned.action.model()) {
            *tasks.entry(model).or_default() += 1;
        }
        let uses = tasks.into_iter().map(|(model, more)| {
            let before = match self.changes.uses.get(&model) {
                Some(uses) => uses.unwrap_or(0),
                None => self.store.uses(&model)?,
            };
            Ok((model, Some(count(before, more)).filter(|uses| *uses > 0)))
        });
        uses.collect()
    }

    fn undo(&self, height: u64, hash: &BlockHash) -> Result<Option<Undo>, StoreError> {
        match self.changes.undo.get(&(height, *hash)) {
            Some(undo) => Ok(undo.clone()),
            None => self.store.undo(height, hash),
        }
    }
}

/// The nodes of the history that come with the leaf at that index: itself, and a parent for each trailing bit that is set.
fn completed_by(leaf: u64) -> impl Iterator<Item = Position> {
    (0u8..).take(leaf.trailing_ones() as usize + 1).map(move |level| Position {
        level,
        // Shifted out whole only where the leaf is the last that can be counted.
        index: leaf.checked_shr(u32::from(level)).unwrap_or(0),
    })
}

impl<S: Source> StateReader for Overlay<'_, S> {
    type Error = StoreError;

    fn object(&self, id: &ObjectId) -> Result<Option<Object>, StoreError> {
        match self.changes.objects.get(id) {
            Some(object) => Ok(*object),
            None => self.store.object(id),
        }
    }
}

impl<S: Source> BranchReader for Overlay<'_, S> {
    type Error = StoreError;

    fn branch(&self, path: &state::Path) -> Result<Option<Branch>, StoreError> {
        match self.changes.branches.get(path) {
            Some(branch) => Ok(*branch),
            None => self.store.branch(path),
        }
    }
}

impl<S: Source> HistoryReader for Overlay<'_, S> {
    type Error = StoreError;

    fn entry(&self, position: Position) -> Result<HistoryEntry, StoreError> {
        match self.changes.history.get(&position) {
            Some(Some(entry)) => Ok(*entry),
            Some(None) => Err(StoreError::missing(columns::HISTORY, &rows::position_key(position))),
            None => self.store.entry(position),
        }
    }
}

/// What a chain move changes: the new row, or `None` where one goes away.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) objects: BTreeMap<ObjectId, Option<Object>>,
    pub(super) branches: BranchChanges,
    pub(super) history: BTreeMap<Position, Option<HistoryEntry>>,
    /// By height and block.
    pub(super) undo: BTreeMap<(u64, BlockHash), Option<Undo>>,
    /// The block, and the bytes of all attachments up to it.
    pub(super) heights: BTreeMap<u64, Option<(BlockHash, u64)>>,
    pub(super) transactions: BTreeMap<TxId, Option<TransactionLocation>>,
    pub(super) parts: BTreeMap<PartPlace, Option<TransactionLocation>>,
    pub(super) uses: BTreeMap<ModelId, Option<u64>>,
    /// By account and place.
    pub(super) ledger: BTreeMap<(Address, ledger::Place), Option<ledger::Event>>,
    /// The lowest block that was connected, where entries are kept.
    pub(super) ledger_from: Option<u64>,
}

/// Whose part: the sender, the height at which the upload began, and the part's number.
pub(super) type PartPlace = (Address, u64, u16);

/// The bytes of all that a body's transactions have attached.
fn attachment_bytes(body: &Body) -> u64 {
    let attached = body.transactions.iter().filter_map(|(transaction, _)| transaction.attachment());
    attached.map(|attachment| u64::from(attachment.bytes)).sum()
}

impl Changes {
    /// Whether a block of the stored chain is taken back.
    pub(super) fn disconnects(&self) -> bool {
        self.undo.values().any(Option::is_none)
    }

    /// Adds the changes, and the tip that they lead to, to a batch.
    pub(super) fn write(&self, store: &Store, tip: &Tip, batch: &mut WriteBatch) {
        let mut put = Put { store, batch };
        put.all(columns::OBJECTS, &self.objects, ObjectId::to_bytes, Object::to_bytes);
        put.all(columns::STATE, &self.branches, |path| path.to_bytes().to_vec(), Branch::to_bytes);
        put.all(
            columns::HISTORY,
            &self.history,
            |at| rows::position_key(*at).to_vec(),
            |entry| entry.to_bytes().to_vec(),
        );
        put.all(columns::UNDO, &self.undo, |(height, hash)| rows::block_key(*height, hash).to_vec(), encode);
        put.all(columns::HEIGHTS, &self.heights, |height| rows::number_key(*height).to_vec(), rows::height_bytes);
        put.all(columns::TRANSACTIONS, &self.transactions, |txid| txid.0.to_vec(), encode);
        let part_key = |(sender, since, number): &PartPlace| rows::part_key(sender, *since, *number).to_vec();
        put.all(columns::PARTS, &self.parts, part_key, encode);
        put.all(columns::USES, &self.uses, |model| model.0.to_vec(), encode);
        let entry_key = |(account, place): &(Address, ledger::Place)| rows::entry_key(account, place).to_vec();
        put.all(columns::LEDGER, &self.ledger, entry_key, encode);
        batch.put_cf(store.column(columns::METADATA), rows::TIP_KEY, rows::tip_bytes(tip));
    }
}

struct Put<'a> {
    store: &'a Store,
    batch: &'a mut WriteBatch,
}

impl Put<'_> {
    /// Puts the new rows of one column and deletes those that go away.
    fn all<K, V>(
        &mut self,
        column: &'static str,
        changes: &BTreeMap<K, Option<V>>,
        key: impl Fn(&K) -> Vec<u8>,
        value: impl Fn(&V) -> Vec<u8>,
    ) {
        let column = self.store.column(column);
        for (at, change) in changes {
            match change {
                Some(row) => self.batch.put_cf(column, key(at), value(row)),
                None => self.batch.delete_cf(column, key(at)),
            }
        }
    }
}
