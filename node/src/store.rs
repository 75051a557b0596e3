//! What a node keeps on disk. The one module that touches RocksDB; the layout of keys and values is in `docs/store.md`.
//!
//! Blocks arrive in parts: headers ([`Store::add_headers`]), then bodies with attachments ([`Store::add_block`]), and what
//! the node finds out about them ([`Store::set_status`]). Outputs are part of a body and have no column of their own.
//! None of that moves the chain: a chain move is made in an [`Overlay`], which reads through its own changes to the
//! store, and is written by [`Store::commit`] in one atomic batch together with the tip that it leads to. So whenever
//! the process ends, the accounts, the state tree, the history and the transaction index are those of the stored tip.
//!
//! All methods take `&self`. Reads may come from any thread, and a [`Snapshot`] shows them the rows of one tip for as long as
//! it is held; writes are meant for the one thread that owns the chain.

mod columns;
mod copy;
mod error;
mod files;
mod folder;
mod forget;
mod ledger;
mod open;
mod options;
mod orders;
mod overlay;
mod prune;
mod rows;
mod schedule;
mod session;
mod snapshot;
#[cfg(test)]
pub(crate) mod tests;
mod write;

pub use error::{Cause, StoreError, WrongNetwork};
pub use files::{CHUNK_BYTES, ModelFiles, NoFiles};
pub use options::{DEFAULT_CACHE_BYTES, Edge, LedgerOption, MIN_CACHE_BYTES, Observer, Step, StoreOptions};
pub use orders::KeptOrder;
pub use overlay::{ChainMove, Overlay};
pub use prune::Kept;
pub use rows::{RefusedBlock, Tip, TransactionLocation};
pub use session::KeptBan;
pub use snapshot::{Frozen, Snapshot};
pub use write::{Durability, Extent, MAX_KNOWN_PEERS, MAX_REASON_BYTES};

use std::ops::Deref;
use std::path::Path;
use std::sync::{Arc, Mutex};

use ocelli_consensus::fork_choice::BlockStatus;
use ocelli_consensus::history::{HistoryEntry, HistoryReader, Peaks, Position};
use ocelli_consensus::object::{ModelRecord, Object, ObjectId, StateReader};
use ocelli_consensus::state::{self, Branch, BranchReader};
use ocelli_consensus::transition::Undo;
use ocelli_consensus::{BlockHash, Body, Header, ModelId, Network, TxId};
use rocksdb::{ColumnFamily, DB, DBIterator, Direction, IteratorMode, ReadOptions};

/// An open store. Another process cannot open it until this and all its snapshots are dropped. What is read is read through
/// its [`Rows`].
pub struct Store {
    rows: Rows<Live>,
    folder: folder::Folder,
    options: StoreOptions,
    /// The arrival number of the next new header. Held while writing what depends on what is stored.
    next_arrival: Mutex<u64>,
}

impl Store {
    /// Opens the store in the folder `path`, which holds nothing else; creates it with the network's genesis where there
    /// is none. A new one is made in `path` with `.new` appended and renamed when it is whole.
    ///
    /// # Errors
    /// If the folder cannot be used, is in use, is not a store, or is one of another version or network.
    pub fn open(path: &Path, network: &Network) -> Result<Store, StoreError> {
        Self::open_with(path, network, StoreOptions::default())
    }

    /// As [`Store::open`], with options.
    ///
    /// # Errors
    /// The same.
    pub fn open_with(path: &Path, network: &Network, options: StoreOptions) -> Result<Store, StoreError> {
        open::open(path, network, options)
    }

    /// Opens the store in the folder `path`, where there must be one.
    ///
    /// # Errors
    /// [`StoreError::NoStore`] where there is none; otherwise as [`Store::open`].
    pub fn open_existing(path: &Path, network: &Network, options: StoreOptions) -> Result<Store, StoreError> {
        open::open_existing(path, network, options)
    }

    /// The folder that it lives in.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    fn of(database: DB, folder: folder::Folder, options: StoreOptions, genesis: Header, next_arrival: u64) -> Self {
        Self { rows: Rows { source: Live(database), genesis }, folder, options, next_arrival: Mutex::new(next_arrival) }
    }
}

impl Deref for Store {
    type Target = Rows<Live>;

    fn deref(&self) -> &Rows<Live> {
        &self.rows
    }
}

/// What is stored, for reading: as it is now, or in a [`Snapshot`] as it was.
pub struct Rows<S> {
    source: S,
    genesis: Header,
}

/// Where rows are read.
pub trait Source: source::Source {}

impl<S: source::Source> Source for S {}

/// The rows as they are now.
pub struct Live(DB);

mod source {
    use rocksdb::{ColumnFamily, DB, DBIterator, DBPinnableSlice, Error, IteratorMode, ReadOptions};

    use super::Live;

    /// What differs between reading the newest rows and those of a snapshot.
    pub trait Source {
        fn database(&self) -> &DB;
        fn row(&self, column: &ColumnFamily, key: &[u8]) -> Result<Option<DBPinnableSlice<'_>>, Error>;
        fn iterate(&self, column: &ColumnFamily, options: ReadOptions, mode: IteratorMode<'_>) -> DBIterator<'_>;
    }

    impl Source for Live {
        fn database(&self) -> &DB {
            &self.0
        }

        fn row(&self, column: &ColumnFamily, key: &[u8]) -> Result<Option<DBPinnableSlice<'_>>, Error> {
            self.0.get_pinned_cf(column, key)
        }

        fn iterate(&self, column: &ColumnFamily, options: ReadOptions, mode: IteratorMode<'_>) -> DBIterator<'_> {
            self.0.iterator_cf_opt(column, options, mode)
        }
    }
}

impl<S: Source> Rows<S> {
    /// The genesis header.
    pub fn genesis(&self) -> &Header {
        &self.genesis
    }

    /// All headers but the genesis in the order in which they arrived, for
    /// [`HeaderTree::restore`](ocelli_consensus::fork_choice::HeaderTree::restore).
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn headers(&self) -> impl Iterator<Item = Result<(Header, BlockStatus), StoreError>> {
        let start = rows::number_key(1);
        let headers = self.iterate(columns::HEADERS, IteratorMode::From(&start, Direction::Forward));
        headers.map(|row| row.and_then(|(key, value)| decoded(columns::HEADERS, &key, rows::header(&value))))
    }

    /// A header and how far its block has been checked.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn header(&self, hash: &BlockHash) -> Result<Option<(Header, BlockStatus)>, StoreError> {
        Ok(self.arrived(hash)?.map(|(_, header, status)| (header, status)))
    }

    /// A block's transactions with their outputs.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn body(&self, height: u64, hash: &BlockHash) -> Result<Option<Body>, StoreError> {
        self.get(columns::BODIES, &rows::block_key(height, hash), rows::body)
    }

    /// What a block's transactions have attached, one entry for each; `None` for those that name nothing and where it is not
    /// kept.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn attachments(
        &self,
        height: u64,
        hash: &BlockHash,
        body: &Body,
    ) -> Result<Vec<Option<Arc<[u8]>>>, StoreError> {
        let attachments = (0u32..).zip(&body.transactions).map(|(index, (transaction, _))| {
            if transaction.attachment().is_some() { self.attachment_at(height, hash, index) } else { Ok(None) }
        });
        attachments.collect()
    }

    /// What one transaction of a block has attached, by its place in the body; `None` where there is nothing, or it is not kept.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn attachment_at(&self, height: u64, hash: &BlockHash, index: u32) -> Result<Option<Arc<[u8]>>, StoreError> {
        self.get(columns::ATTACHMENTS, &rows::attachment_key(height, hash, index), |bytes| Some(bytes.into()))
    }

    /// What takes a block of the main chain back; `None` off the main chain, and where it is no longer kept.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn undo(&self, height: u64, hash: &BlockHash) -> Result<Option<Undo>, StoreError> {
        self.get(columns::UNDO, &rows::block_key(height, hash), rows::undo)
    }

    /// The main chain's block at a height.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn hash_at(&self, height: u64) -> Result<Option<BlockHash>, StoreError> {
        Ok(self.height_row(height)?.map(|(hash, _)| hash))
    }

    /// The bytes of all attachments of the main chain's blocks up to a height; 0 beyond the tip.
    ///
    /// # Errors
    /// If that cannot be read.
    pub fn attached_up_to(&self, height: u64) -> Result<u64, StoreError> {
        Ok(self.height_row(height)?.map_or(0, |(_, attached)| attached))
    }

    fn height_row(&self, height: u64) -> Result<Option<(BlockHash, u64)>, StoreError> {
        self.get(columns::HEIGHTS, &rows::number_key(height), rows::height)
    }

    /// The header of a block that is there, such as one of the main chain.
    fn stored_header(&self, hash: &BlockHash) -> Result<Header, StoreError> {
        let known = self.header(hash)?;
        known.map(|(header, _)| header).ok_or_else(|| StoreError::missing(columns::ARRIVALS, hash.as_bytes()))
    }

    /// Hash and header of the main chain's block at a height that it has.
    ///
    /// # Errors
    /// If they cannot be read, or are missing.
    pub fn main_header(&self, height: u64) -> Result<(BlockHash, Header), StoreError> {
        let hash = self.hash_at(height)?;
        let hash = hash.ok_or_else(|| StoreError::missing(columns::HEIGHTS, &rows::number_key(height)))?;
        Ok((hash, self.stored_header(&hash)?))
    }

    /// Headers of the main chain from a height on, lowest first, at most `limit`.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn headers_from(&self, height: u64, limit: usize) -> Result<Vec<Header>, StoreError> {
        let start = rows::number_key(height);
        let hashes = self.iterate(columns::HEIGHTS, IteratorMode::From(&start, Direction::Forward)).take(limit);
        let headers = hashes.map(|row| {
            let (key, value) = row?;
            let (hash, _) = decoded(columns::HEIGHTS, &key, rows::height(&value))?;
            self.stored_header(&hash)
        });
        headers.collect()
    }

    /// The last block of the main chain, and the state after it.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn tip(&self) -> Result<Tip, StoreError> {
        self.require(columns::METADATA, rows::TIP_KEY, rows::tip)
    }

    /// The history's peaks up to the tip, it included.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn peaks(&self) -> Result<Peaks, StoreError> {
        Peaks::load(self, self.tip()?.height.saturating_add(1))
    }

    /// The models of the tip's state in the order of their ids, from one on.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn models(&self, from: &ModelId) -> impl Iterator<Item = Result<(ModelId, ModelRecord), StoreError>> {
        let start = ObjectId::Model(*from).to_bytes();
        let rows = self.iterate(columns::OBJECTS, IteratorMode::From(&start, Direction::Forward));
        let models = rows.map(|row| {
            let (key, value) = row?;
            let id = decoded(columns::OBJECTS, &key, ObjectId::from_bytes(&key))?;
            let object = decoded(columns::OBJECTS, &key, Object::from_bytes(&id, &value).ok())?;
            Ok(if let ObjectId::Model(id) = id { object.model().map(|record| (id, record)) } else { None })
        });
        // Kinds come one after the other.
        models.map_while(Result::transpose)
    }

    /// Tasks for a model on the main chain.
    ///
    /// # Errors
    /// If that cannot be read.
    pub fn uses(&self, model: &ModelId) -> Result<u64, StoreError> {
        Ok(self.get(columns::USES, model.as_bytes(), rows::count)?.unwrap_or(0))
    }

    /// Where on the main chain a transaction is.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn transaction_location(&self, txid: &TxId) -> Result<Option<TransactionLocation>, StoreError> {
        self.get(columns::TRANSACTIONS, txid.as_bytes(), rows::location)
    }

    /// Why a block was refused; `None` unless it was.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn verdict(&self, hash: &BlockHash) -> Result<Option<RefusedBlock>, StoreError> {
        match self.arrived(hash)? {
            Some((arrival, ..)) => self.get(columns::VERDICTS, &rows::number_key(arrival), rows::verdict),
            None => Ok(None),
        }
    }

    /// Refused blocks, at most `limit`, those whose headers arrived last first.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn verdicts(&self, limit: usize) -> Result<Vec<RefusedBlock>, StoreError> {
        let verdicts = self.iterate(columns::VERDICTS, IteratorMode::End).take(limit);
        verdicts
            .map(|row| row.and_then(|(key, value)| decoded(columns::VERDICTS, &key, rows::verdict(&value))))
            .collect()
    }

    /// Multiaddrs of peers to try first, as [`Store::set_known_peers`] left them.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn known_peers(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.get(columns::METADATA, rows::PEERS_KEY, rows::peers)?.unwrap_or_default())
    }

    /// A header that has arrived: its arrival number, itself and its status.
    fn arrived(&self, hash: &BlockHash) -> Result<Option<(u64, Header, BlockStatus)>, StoreError> {
        let Some(arrival) = self.get(columns::ARRIVALS, hash.as_bytes(), rows::number)? else { return Ok(None) };
        let (header, status) = self.require(columns::HEADERS, &rows::number_key(arrival), rows::header)?;
        Ok(Some((arrival, header, status)))
    }

    fn database(&self) -> &DB {
        self.source.database()
    }

    fn column(&self, column: &'static str) -> &ColumnFamily {
        self.database().cf_handle(column).expect("a store is only opened if it has every column")
    }

    /// Reads a row; `None` where there is none.
    fn get<T>(
        &self,
        column: &'static str,
        key: &[u8],
        decode: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        match self.source.row(self.column(column), key)? {
            Some(bytes) => decoded(column, key, decode(&bytes)).map(Some),
            None => Ok(None),
        }
    }

    /// Reads a row that has to be there.
    fn require<T>(
        &self,
        column: &'static str,
        key: &[u8],
        decode: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<T, StoreError> {
        self.get(column, key, decode)?.ok_or_else(|| StoreError::missing(column, key))
    }

    /// Reads rows in the order of their keys, past the cache: such reads are rare and large.
    fn iterate<'a>(
        &'a self,
        column: &'static str,
        mode: IteratorMode<'_>,
    ) -> impl Iterator<Item = Result<Row, StoreError>> + use<'a, S> {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        let rows: DBIterator<'a> = self.source.iterate(self.column(column), options, mode);
        rows.map(|row| row.map_err(StoreError::from))
    }
}

/// A key with its value.
type Row = (Box<[u8]>, Box<[u8]>);

fn decoded<T>(column: &'static str, key: &[u8], value: Option<T>) -> Result<T, StoreError> {
    value.ok_or_else(|| StoreError::damaged(column, key))
}

impl<S: Source> StateReader for Rows<S> {
    type Error = StoreError;

    fn object(&self, id: &ObjectId) -> Result<Option<Object>, StoreError> {
        self.get(columns::OBJECTS, &id.to_bytes(), |bytes| Object::from_bytes(id, bytes).ok())
    }
}

impl<S: Source> BranchReader for Rows<S> {
    type Error = StoreError;

    fn branch(&self, path: &state::Path) -> Result<Option<Branch>, StoreError> {
        self.get(columns::STATE, &path.to_bytes(), rows::branch)
    }
}

impl<S: Source> HistoryReader for Rows<S> {
    type Error = StoreError;

    fn entry(&self, position: Position) -> Result<HistoryEntry, StoreError> {
        self.require(columns::HISTORY, &rows::position_key(position), rows::entry)
    }
}
