//! The columns, and how RocksDB is to keep them.

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, LogLevel, Options,
};

use super::options::{MIN_CACHE_BYTES, StoreOptions};

/// Arrival number -> header and status.
pub(super) const HEADERS: &str = "headers";
/// Block hash -> arrival number.
pub(super) const ARRIVALS: &str = "arrivals";
/// Height and block hash -> body.
pub(super) const BODIES: &str = "bodies";
/// Height, block hash and transaction index -> what the transaction has attached.
pub(super) const ATTACHMENTS: &str = "attachments";
/// Height and block hash -> undo record, of the main chain only.
pub(super) const UNDO: &str = "undo";
/// Height -> block hash, and the bytes of all attachments up to it; of the main chain.
pub(super) const HEIGHTS: &str = "heights";
/// Kind and id -> state object.
pub(super) const OBJECTS: &str = "objects";
/// Path -> branch of the state tree.
pub(super) const STATE: &str = "state";
/// Position -> node of the history.
pub(super) const HISTORY: &str = "history";
/// Transaction id -> where it is, of the main chain only.
pub(super) const TRANSACTIONS: &str = "transactions";
/// Sender, height at which its upload began, and number -> where the part is, of the main chain only.
pub(super) const PARTS: &str = "parts";
/// Model id -> tasks for it, of the main chain only.
pub(super) const USES: &str = "uses";
/// Model id -> length of its file and its name; model id and number -> chunk of it.
pub(super) const FILES: &str = "files";
/// Attachment hash -> nothing: it is not to be kept.
pub(super) const FORGOTTEN: &str = "forgotten";
/// Arrival number -> why a block was refused.
pub(super) const VERDICTS: &str = "verdicts";
/// Names -> what there is one of.
pub(super) const METADATA: &str = "metadata";

/// Every column of the chain.
pub(super) const ALL: [&str; 16] = [
    HEADERS,
    ARRIVALS,
    BODIES,
    ATTACHMENTS,
    UNDO,
    HEIGHTS,
    OBJECTS,
    STATE,
    HISTORY,
    TRANSACTIONS,
    PARTS,
    USES,
    FILES,
    FORGOTTEN,
    VERDICTS,
    METADATA,
];

/// What follows from the main chain, whichever way it came about.
pub(super) const OF_THE_CHAIN: [&str; 8] = [UNDO, HEIGHTS, OBJECTS, STATE, HISTORY, TRANSACTIONS, PARTS, USES];

/// Account, height, transaction's index and side -> what happened to the account, of the main chain only.
pub(super) const LEDGER: &str = "ledger";

/// Place -> ban.
pub(super) const BANS: &str = "bans";
/// Transaction id -> pending transaction with its attachments.
pub(super) const MEMPOOL: &str = "mempool";

/// Client's key -> task that was paid for.
pub(super) const ORDERS: &str = "orders";

/// Columns beside the chain, which are made where they are missing.
pub(super) const BESIDE: [&str; 4] = [BANS, MEMPOOL, LEDGER, ORDERS];

// What follows are guesses for a node on a small machine.

/// Bounds the rows of one column that are not in a sorted file yet.
const MEMORY_TABLE_BYTES: usize = 8 << 20;
/// Bounds the write-ahead log, and with it how long opening takes after a crash.
const LOG_BYTES: u64 = 64 << 20;
/// Bounds the open files; leaves room for sockets where a process may have 1024.
const OPEN_FILES: i32 = 256;
/// Bounds RocksDB's own diagnostic log, of which it keeps two.
const DIAGNOSTICS_BYTES: usize = 1 << 20;
/// Bits a key of the filters that say that a row is not there: about 1 % wrong.
const FILTER_BITS: f64 = 10.0;
/// The size of a part of an index or filter; RocksDB's own first choice.
const METADATA_BLOCK_BYTES: usize = 4096;
/// Values this large are kept apart in blob files, so that compaction does not copy them.
const BLOB_BYTES: u64 = 1024;
/// The size of a blob file: small enough that pruning soon frees whole ones.
const BLOB_FILE_BYTES: u64 = 32 << 20;
/// The size of the files that refer to blobs: about 30,000 pictures each, so that pruning rewrites few references to what
/// is kept.
const BLOB_TABLE_BYTES: u64 = 2 << 20;

/// Options of the database as a whole. It writes a log and keeps paranoid checks on.
pub(super) fn database_options(memory: &StoreOptions) -> Options {
    let mut options = Options::default();
    options.set_paranoid_checks(true);
    // The rest of the memory is the cache's.
    options.set_db_write_buffer_size(bytes_of(memory) / 3);
    options.set_max_total_wal_size(LOG_BYTES);
    options.set_max_open_files(OPEN_FILES);
    options.set_max_background_jobs(2);
    options.set_bytes_per_sync(1 << 20);
    options.set_log_level(LogLevel::Warn);
    options.set_max_log_file_size(DIAGNOSTICS_BYTES);
    options.set_keep_log_file_num(2);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options
}

/// These columns, each with its options.
pub(super) fn descriptors<'a>(
    names: impl IntoIterator<Item = &'a str>,
    memory: &StoreOptions,
) -> impl Iterator<Item = ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(bytes_of(memory) / 3 * 2);
    names.into_iter().map(move |name| ColumnFamilyDescriptor::new(name, column_options(name, &cache)))
}

fn bytes_of(memory: &StoreOptions) -> usize {
    memory.cache_bytes.max(MIN_CACHE_BYTES)
}

fn column_options(name: &str, cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    // In small parts: the filter of a large file is 2 MB, which a part of the cache would not even hold, so that each look for a row
    // would read it again.
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    table.set_metadata_block_size(METADATA_BLOCK_BYTES);
    table.set_pin_top_level_index_and_filter(true);
    table.set_bloom_filter(FILTER_BITS, false);
    table.set_optimize_filters_for_memory(true);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(MEMORY_TABLE_BYTES);
    if name == ATTACHMENTS || name == FILES {
        options.set_enable_blob_files(true);
        options.set_min_blob_size(BLOB_BYTES);
        options.set_blob_file_size(BLOB_FILE_BYTES);
        options.set_blob_compression_type(DBCompressionType::Lz4);
        options.set_target_file_size_base(BLOB_TABLE_BYTES);
        // Blobs come in about the order of heights and are pruned in it, so whole files end together and go by themselves.
        // Collecting would copy what is kept with each pruning.
        options.set_enable_blob_gc(false);
    }
    options
}
