//! Opening and creating a store.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ocelli_consensus::fork_choice::BlockStatus;
use ocelli_consensus::genesis::genesis_state;
use ocelli_consensus::history::Peaks;
use ocelli_consensus::transition::append_header;
use ocelli_consensus::{Body, Network};
use rocksdb::{DB, IteratorMode, WriteBatch};

use super::folder::{Folder, error_at as folder_error};
use super::options::{LedgerOption, Step};
use super::overlay::Changes;
use super::write::Durability;
use super::{Kept, Store, StoreError, StoreOptions, Tip, WrongNetwork, columns, rows};

/// The file that every RocksDB folder has once it is whole.
const CURRENT: &str = "CURRENT";

pub(super) fn open(path: &Path, network: &Network, options: StoreOptions) -> Result<Store, StoreError> {
    options.observed(Step::Open, || {
        if is_new(path)? {
            create(path, network, &options)?;
        }
        open_stored(path, network, options)
    })
}

pub(super) fn open_existing(path: &Path, network: &Network, options: StoreOptions) -> Result<Store, StoreError> {
    if is_new(path)? {
        return Err(StoreError::NoStore { path: path.into() });
    }
    options.observed(Step::Open, || open_stored(path, network, options))
}

/// Whether there is nothing yet: no folder, or an empty one.
fn is_new(path: &Path) -> Result<bool, StoreError> {
    match fs::read_dir(path) {
        Ok(mut files) => Ok(files.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(folder_error(path)(error)),
    }
}

/// Makes a store of the genesis beside `path` and moves it there when it is whole, so that one is never found half made.
fn create(path: &Path, network: &Network, options: &StoreOptions) -> Result<(), StoreError> {
    let staging = staging(path);
    fs::create_dir_all(&staging).map_err(folder_error(&staging))?;
    // Left by a process that was killed here. Another that is still busy here holds the lock.
    DB::destroy(&columns::database_options(options), &staging).map_err(open_error(path))?;
    fs::create_dir_all(&staging).map_err(folder_error(&staging))?;

    let mut creating = columns::database_options(options);
    creating.create_if_missing(true);
    creating.create_missing_column_families(true);
    let descriptors = columns::descriptors(columns::ALL.into_iter().chain(columns::BESIDE), options);
    let database = DB::open_cf_descriptors(&creating, &staging, descriptors).map_err(open_error(path))?;
    let folder = Folder::of(&staging)?;
    let store = Store::of(database, folder, *options, network.genesis.clone(), 1);
    store.write(genesis_batch(&store, network), Durability::Synced)?;
    drop(store);

    if path.exists() {
        fs::remove_dir(path).map_err(folder_error(path))?;
    }
    fs::rename(&staging, path).map_err(folder_error(path))?;
    sync_folder(path.parent())
}

/// Has the name of a new folder outlive a power failure. Only Unix lets a folder be opened for that.
fn sync_folder(parent: Option<&Path>) -> Result<(), StoreError> {
    match parent.filter(|parent| cfg!(unix) && !parent.as_os_str().is_empty()) {
        Some(parent) => fs::File::open(parent).and_then(|folder| folder.sync_all()).map_err(folder_error(parent)),
        None => Ok(()),
    }
}

fn staging(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// All rows of a store of the genesis alone.
fn genesis_batch(store: &Store, network: &Network) -> WriteBatch {
    let genesis = &network.genesis;
    let hash = genesis.hash();
    let (state, branches, objects) = genesis_state(&network.parameters);
    let history = append_header(&mut Peaks::default(), genesis).expect("the work of one block fits into 256 bits");

    let mut batch = WriteBatch::default();
    let changes = Changes {
        objects: objects.into_iter().map(|(id, object)| (id, Some(object))).collect(),
        branches,
        history: history.into_iter().map(|(position, entry)| (position, Some(entry))).collect(),
        heights: [(0, Some((hash, 0)))].into(),
        ..Changes::default()
    };
    if store.options.ledger != LedgerOption::Dropped {
        store.put_ledger_from(&mut batch, 1);
    }
    changes.write(store, &Tip { hash, height: 0, state }, &mut batch);
    store.put_header(&mut batch, 0, genesis, BlockStatus::Verified);
    batch.put_cf(store.column(columns::ARRIVALS), hash.as_bytes(), rows::number_key(0));
    let body = ocelli_consensus::codec::encode(&Body::default());
    batch.put_cf(store.column(columns::BODIES), rows::block_key(0, &hash), body);
    let metadata = store.column(columns::METADATA);
    batch.put_cf(metadata, rows::SCHEMA_KEY, rows::SCHEMA.to_le_bytes());
    batch.put_cf(metadata, rows::KEPT_KEY, rows::kept_bytes(&Kept::ALL));
    batch.put_cf(metadata, rows::GENESIS_KEY, hash.as_bytes());
    batch.put_cf(metadata, rows::SCHEDULE_KEY, rows::schedule_bytes(&network.schedule));
    batch.put_cf(metadata, rows::NETWORK_KEY, network.parameters.name.as_bytes());
    batch
}

fn open_stored(path: &Path, network: &Network, options: StoreOptions) -> Result<Store, StoreError> {
    if !path.join(CURRENT).is_file() {
        return Err(StoreError::Foreign { path: path.into() });
    }
    let mut opening = columns::database_options(&options);
    opening.create_missing_column_families(true);
    let found = DB::list_cf(&opening, path).map_err(open_error(path))?;
    if !found.iter().any(|name| name == columns::METADATA) {
        return Err(StoreError::Foreign { path: path.into() });
    }
    // Whatever is there is opened, because a newer version may have more columns and should be told by its number.
    let missing = columns::BESIDE.into_iter().filter(|column| !found.iter().any(|name| name == column));
    let descriptors = columns::descriptors(found.iter().map(String::as_str).chain(missing), &options);
    let database = DB::open_cf_descriptors(&opening, path, descriptors).map_err(open_error(path))?;
    let folder = Folder::of(path)?;
    let store = Store::of(database, folder, options, network.genesis.clone(), 0);
    check(path, &store, network)?;
    let last = store.iterate(columns::HEADERS, IteratorMode::End).next().transpose()?;
    let (key, _) = last.ok_or_else(|| StoreError::missing(columns::HEADERS, &rows::number_key(0)))?;
    let next = rows::number(&key).and_then(|last| last.checked_add(1));
    let next_arrival = Mutex::new(next.ok_or_else(|| StoreError::damaged(columns::HEADERS, &key))?);
    store.tip()?;
    store.kept()?;
    let store = Store { next_arrival, ..store };
    store.take_schedule(&network.schedule)?;
    if !found.iter().any(|name| name == columns::LEDGER) {
        store.drop_ledger()?;
    }
    store.take_ledger_option()?;
    Ok(store)
}

/// Checks that a store is this network's, and has this layout.
fn check(path: &Path, store: &Store, network: &Network) -> Result<(), StoreError> {
    let found = store.get(columns::METADATA, rows::SCHEMA_KEY, rows::schema)?;
    let found = found.ok_or_else(|| StoreError::Foreign { path: path.into() })?;
    if found != rows::SCHEMA {
        return Err(StoreError::Schema { path: path.into(), found, expected: rows::SCHEMA });
    }
    if let Some(column) = columns::ALL.into_iter().find(|column| store.database().cf_handle(column).is_none()) {
        return Err(StoreError::MissingColumn(column));
    }
    let found_genesis = store.require(columns::METADATA, rows::GENESIS_KEY, rows::block_hash)?;
    let expected_genesis = network.genesis_hash();
    if found_genesis != expected_genesis {
        let found = store.require(columns::METADATA, rows::NETWORK_KEY, rows::network)?;
        let expected = network.parameters.name.clone();
        let wrong = WrongNetwork { path: path.into(), found, found_genesis, expected, expected_genesis };
        return Err(StoreError::Network(Box::new(wrong)));
    }
    Ok(())
}

/// RocksDB tells a lock that somebody holds from other failures only in words: "lock hold by current process" or "While
/// lock file: …/LOCK".
fn open_error(path: &Path) -> impl FnOnce(rocksdb::Error) -> StoreError {
    move |error| {
        let text = error.as_ref();
        if text.contains("lock hold by current process") || text.contains("While lock file") {
            return StoreError::Locked { path: path.into() };
        }
        if text.contains("Permission denied") {
            return StoreError::Folder { path: path.into(), kind: io::ErrorKind::PermissionDenied };
        }
        if text.contains("Read-only file system") {
            return StoreError::Folder { path: path.into(), kind: io::ErrorKind::ReadOnlyFilesystem };
        }
        error.into()
    }
}
