//! `ocelli bench store`.

use std::fs::File;
use std::hint::black_box;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ocelli_consensus::fork_choice::BlockStatus;
use ocelli_consensus::transition::ConnectError;
use ocelli_consensus::{Address, Body, CompactTarget, Header, Network};
use ocelli_node::chain::Chain;
use ocelli_node::clock::Clock;
use ocelli_node::inference::InferenceLimits;
use ocelli_node::network::Traversal;
use ocelli_node::node::{Addresses, Capacity, Discovery, Node, NodeConfig, Storage, models};
use ocelli_node::store::{Durability, Extent, Overlay, Store, StoreError};
use ocelli_program::device_option::DeviceOption;
use ocelli_program::error::{CommandError, Explain as _};
use ocelli_program::output::Printer;
use ocelli_protocol::message::Request;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::inference::resident_bytes;
use super::{percentile, rounded};

/// Blocks of the long chain that are written at once.
const BLOCKS_A_WRITE: u64 = 256;
/// Chain moves that are timed of each kind.
const MOVES: usize = 200;
/// Bytes of the bare write: about those of an empty block's move.
const BARE_BYTES: usize = 2048;
/// Starts that are timed; the one of median time is reported.
const STARTS: usize = 5;
/// Pictures of a block, and bytes of each: a full block of CIFAR-10 tasks of the network `local`.
const PICTURES: usize = 420;
const PICTURE_BYTES: usize = 3072;
/// Blocks between two snapshots, whose pictures the database has in memory then.
const BLOCKS_A_SNAPSHOT: u64 = 8;
/// Snapshots that are timed; the one of median time is reported.
const SNAPSHOTS: u64 = 5;
/// Blocks that are pruned at once: as many as a node prunes at most.
const BLOCKS_A_PRUNING: u64 = 128;
/// Prunings that are timed; the one of median time is reported.
const PRUNINGS: u64 = 4;

/// Measure how long a store holds a node up: for a block that is to outlive a power failure, at the start with a long chain, for a
/// snapshot and for pruning
///
/// The chain is one of empty blocks with the easiest target, made in a temporary folder (TMPDIR). A chain move that waits for
/// the disk stands beside one that does not, and beside a bare write and sync of a file there; the start of the chain beside
/// hashing its headers, each of which must be hashed. Snapshots and prunings are of a shorter chain whose blocks are full of
/// pictures, 0.7 GB; a snapshot stands beside the same without links, a plain write of what is in memory.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Blocks of the long chain
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 100_000,
        value_parser = clap::value_parser!(u64).range(1_000..=10_000_000)
    )]
    blocks: u64,

    /// Only take up the chain of this folder, and print the bytes of memory that this takes: how the command asks itself
    #[arg(long, value_name = "FOLDER", hide = true)]
    memory_of: Option<PathBuf>,

    #[command(flatten)]
    device: DeviceOption,
}

#[derive(Debug, Serialize)]
struct Report {
    blocks: u64,
    /// Median of adding one empty block and moving the chain to it, in microseconds.
    logged_move_us: u64,
    /// The same where the move waits for the disk.
    synced_move_us: u64,
    /// The peer: a write and sync of a file.
    bare_sync_us: u64,
    ratio_synced_to_bare: f64,
    ratio_synced_to_logged: f64,
    /// Median of opening the store and putting all headers into the tree.
    start_seconds: f64,
    /// The peer: hashing all headers on one thread.
    hashing_seconds: f64,
    ratio_start_to_hashing: f64,
    /// From nothing to the node's first answer, models and network included.
    node_seconds: f64,
    /// Memory of the opened chain, store included, over its headers; only on Linux.
    bytes_a_header: Option<u64>,
    disk_bytes: u64,
    pictures: PicturesReport,
}

/// Of the chain whose blocks are full of pictures. All times are medians.
#[derive(Debug, Serialize)]
struct PicturesReport {
    blocks: u64,
    disk_bytes: u64,
    /// Making a snapshot, for which the node waits, a few blocks after the last one.
    snapshot_ms: f64,
    /// The peer: writing what is in memory after as many blocks, without a snapshot.
    flush_ms: f64,
    ratio_snapshot_to_flush: f64,
    blocks_a_pruning: u64,
    /// The write of a pruning, for which the node waits.
    pruning_us: u64,
    ratio_pruning_to_logged_move: f64,
    /// Freeing the files afterwards, beside the node.
    freeing_ms: f64,
}

/// Runs the command.
///
/// # Errors
/// For a temporary folder that cannot be used.
pub fn run(args: &Args, output: &mut Printer) -> Result<(), CommandError> {
    let network = easy_network();
    if let Some(path) = &args.memory_of {
        let before = resident_bytes();
        let chain = Chain::open(network.clone(), Store::open(path, &network)?)?;
        let bytes = before.zip(resident_bytes()).map(|(before, after)| after.saturating_sub(before));
        return output.json(&(bytes, chain.tree().len()));
    }
    let folder = tempfile::Builder::new()
        .prefix("ocelli-bench-")
        .tempdir()
        .context(|| "cannot make a temporary folder")
        .hint(|| "set TMPDIR to a folder that you may write to")?;
    let path = folder.path().join("chain");
    let store = Store::open(&path, &network)?;
    while store.tip()?.height + 2 * (MOVES as u64) < args.blocks {
        let left = args.blocks - store.tip()?.height - 2 * MOVES as u64;
        grow(&store, &network, left.min(BLOCKS_A_WRITE), Durability::Logged)?;
    }
    let logged = timed(MOVES, || grow(&store, &network, 1, Durability::Logged))?;
    let (synced, bare) = synced_moves(&store, &network, folder.path())?;
    drop(store);

    let bytes_a_header = bytes_a_header(&path)?;
    let mut chain = Chain::open(network.clone(), Store::open(&path, &network)?)?;
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        drop(chain);
        let begin = Instant::now();
        chain = Chain::open(network.clone(), Store::open(&path, &network)?)?;
        starts.push(begin.elapsed());
    }
    starts.sort();
    let (height, disk_bytes) = (chain.tip().height, chain.store().disk_bytes()?);
    let headers = chain.store().headers().collect::<Result<Vec<_>, _>>()?;
    let begin = Instant::now();
    for (header, _) in &headers {
        black_box(black_box(header).hash());
    }
    let hashing = begin.elapsed();
    drop(chain);
    let node = node_start(&network, folder.path(), &args.device)?;
    let pictures = pictures(&network, &folder.path().join("pictures"), median(&logged))?;

    let (logged, synced, bare) = (median(&logged), median(&synced), median(&bare));
    let start = median(&starts);
    let ratio = |one: Duration, other: Duration| rounded(one.as_secs_f64() / other.as_secs_f64());
    let report = Report {
        blocks: height,
        logged_move_us: micros(logged),
        synced_move_us: micros(synced),
        bare_sync_us: micros(bare),
        ratio_synced_to_bare: ratio(synced, bare),
        ratio_synced_to_logged: ratio(synced, logged),
        start_seconds: rounded(start.as_secs_f64()),
        hashing_seconds: rounded(hashing.as_secs_f64()),
        ratio_start_to_hashing: ratio(start, hashing),
        node_seconds: rounded(node.as_secs_f64()),
        bytes_a_header,
        disk_bytes,
        pictures,
    };
    if output.is_json() { output.json(&report) } else { print(&report, output) }
}

fn print(report: &Report, output: &mut Printer) -> Result<(), CommandError> {
    let pictures = &report.pictures;
    output.rows(&[
        ("chain", format!("{} blocks, {} bytes on the disk", report.blocks, report.disk_bytes)),
        ("move, logged, us", report.logged_move_us.to_string()),
        ("move, synced, us", format!("{}, {} times logged", report.synced_move_us, report.ratio_synced_to_logged)),
        (
            "bare write and sync, us",
            format!("{}, synced is {} of it", report.bare_sync_us, report.ratio_synced_to_bare),
        ),
        ("start of the chain, s", report.start_seconds.to_string()),
        (
            "hashing its headers, s",
            format!("{}, the start is {} of it", report.hashing_seconds, report.ratio_start_to_hashing),
        ),
        ("start of the node, s", report.node_seconds.to_string()),
        ("memory a header, bytes", report.bytes_a_header.map_or("unknown".into(), |bytes| bytes.to_string())),
        ("blocks of pictures", format!("{}, {} bytes on the disk", pictures.blocks, pictures.disk_bytes)),
        ("snapshot, ms", format!("{}, {} times a flush", pictures.snapshot_ms, pictures.ratio_snapshot_to_flush)),
        (
            "pruning, us",
            format!(
                "{} for {} blocks, {} times a logged move; {} ms beside the node to free the files",
                pictures.pruning_us,
                pictures.blocks_a_pruning,
                pictures.ratio_pruning_to_logged_move,
                pictures.freeing_ms
            ),
        ),
    ])
}

/// Measures snapshots and prunings. `logged` is the median of logged moves.
fn pictures(network: &Network, path: &Path, logged: Duration) -> Result<PicturesReport, CommandError> {
    let store = Store::open(path, network)?;
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut grow = |blocks: u64| -> Result<(), StoreError> {
        for _ in 0..blocks {
            let pictures = (0..PICTURES).map(|_| {
                let mut picture = vec![0; PICTURE_BYTES];
                random.fill_bytes(&mut picture);
                Some(picture.into())
            });
            grow_by(&store, network, 1, &pictures.collect::<Vec<_>>(), Durability::Logged)?;
        }
        Ok(())
    };
    let (mut snapshots, mut flushes) = (Vec::new(), Vec::new());
    for number in 0..SNAPSHOTS {
        let copy = path.with_extension(format!("snapshot-{number}"));
        grow(BLOCKS_A_SNAPSHOT)?;
        snapshots.extend(timed(1, || store.copy_to(&copy))?);
        std::fs::remove_dir_all(&copy)?;
        grow(BLOCKS_A_SNAPSHOT)?;
        flushes.extend(timed(1, || store.free_log())?);
    }
    let blocks = BLOCKS_A_PRUNING * PRUNINGS;
    grow(blocks.saturating_sub(store.tip()?.height))?;
    store.free_log()?;
    let disk_bytes = store.disk_bytes()?;
    let (mut prunings, mut freeings) = (Vec::new(), Vec::new());
    for number in 1..=PRUNINGS {
        let before = store.kept()?;
        prunings.extend(timed(1, || store.prune(number * BLOCKS_A_PRUNING + 1, 0).map(drop))?);
        freeings.extend(timed(1, || store.free_pruned(before))?);
    }
    for times in [&mut snapshots, &mut flushes, &mut prunings, &mut freeings] {
        times.sort();
    }
    let millis = |times: &[Duration]| rounded(median(times).as_secs_f64() * 1e3);
    let ratio = |one: Duration, other: Duration| rounded(one.as_secs_f64() / other.as_secs_f64());
    Ok(PicturesReport {
        blocks,
        disk_bytes,
        snapshot_ms: millis(&snapshots),
        flush_ms: millis(&flushes),
        ratio_snapshot_to_flush: ratio(median(&snapshots), median(&flushes)),
        blocks_a_pruning: BLOCKS_A_PRUNING,
        pruning_us: micros(median(&prunings)),
        ratio_pruning_to_logged_move: ratio(median(&prunings), logged),
        freeing_ms: millis(&freeings),
    })
}

/// The network `local` with a target that every second hash meets.
pub(crate) fn easy_network() -> Network {
    let mut parameters = Network::builtin("local").expect("it is built in").parameters;
    parameters.easiest_target = CompactTarget(0x207f_ffff);
    Network::new(parameters, Vec::new())
}

/// The header of the next block with this body, on time and with its work.
pub(crate) fn mined(overlay: &Overlay<'_>, network: &Network, body: &Body) -> Result<Header, StoreError> {
    let (parameters, miner) = (&network.parameters, Address([1; 20]));
    let (parent, tip) = (overlay.header(), overlay.tip());
    let place = network.place_after(parent, miner);
    let roots = overlay.propose(parameters, &place, body).map_err(stored)?;
    let mut header = Header {
        version: place.version,
        parent: tip.hash,
        history: roots.history,
        state: roots.state,
        body: body.root(&tip.hash),
        miner,
        height: place.height,
        time: parent.time + parameters.spacing,
        // On time all along, so it never changes.
        target: parameters.easiest_target,
        nonce: 0,
    };
    while !header.target.to_target().is_ok_and(|target| target.is_met_by(header.hash().0)) {
        header.nonce += 1;
    }
    Ok(header)
}

/// Adds empty blocks as if they had been verified, in one move.
fn grow(store: &Store, network: &Network, count: u64, durability: Durability) -> Result<(), StoreError> {
    grow_by(store, network, count, &[], durability)
}

/// The same, with pictures that belong to no task beside each.
fn grow_by(
    store: &Store,
    network: &Network,
    count: u64,
    pictures: &[Option<Arc<[u8]>>],
    durability: Durability,
) -> Result<(), StoreError> {
    let (parameters, body) = (&network.parameters, Body::default());
    let mut overlay = Overlay::new(store)?;
    let mut headers = Vec::new();
    for _ in 0..count {
        let header = mined(&overlay, network, &body)?;
        overlay.connect(parameters, &header, &body).map_err(stored)?;
        headers.push(header);
    }
    store.add_headers(&headers)?;
    for header in &headers {
        let hash = header.hash();
        store.add_block(&hash, &body, pictures, Extent::Body)?;
        store.set_status(&hash, BlockStatus::Verified, None)?;
    }
    store.commit(overlay.into_move(), durability)
}

/// Of blocks that break no rule: only the store can fail.
pub(crate) fn stored(error: ConnectError<StoreError>) -> StoreError {
    match error {
        ConnectError::Reader(error) => error,
        ConnectError::Tree(error) => error.into(),
        ConnectError::Rule(rule) => unreachable!("an empty block on the tip breaks no rule: {rule}"),
    }
}

fn timed<E>(count: usize, mut work: impl FnMut() -> Result<(), E>) -> Result<Vec<Duration>, E> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let begin = Instant::now();
        work()?;
        times.push(begin.elapsed());
    }
    times.sort();
    Ok(times)
}

/// Moves that wait for the disk, and bare writes that do. By turns, because a disk's mood changes from one second to the next.
fn synced_moves(
    store: &Store,
    network: &Network,
    folder: &Path,
) -> Result<(Vec<Duration>, Vec<Duration>), CommandError> {
    let mut file = File::create(folder.join("bare"))?;
    let (mut synced, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..MOVES {
        synced.extend(timed(1, || grow(store, network, 1, Durability::Synced))?);
        bare.extend(timed(1, || file.write_all(&[0; BARE_BYTES]).and_then(|()| file.sync_data()))?);
    }
    synced.sort();
    bare.sort();
    Ok((synced, bare))
}

/// Memory that a chain takes when it is opened, over its headers: in a process of its own, for this one has memory left from
/// the chain's making.
fn bytes_a_header(path: &Path) -> Result<Option<u64>, CommandError> {
    let program = std::env::current_exe()?;
    let child = Command::new(program).args(["store", "--memory-of"]).arg(path).output()?;
    let (bytes, headers): (Option<u64>, u64) = serde_json::from_slice(&child.stdout)
        .context(|| format!("cannot measure the memory: {}", String::from_utf8_lossy(&child.stderr)))?;
    Ok(bytes.map(|bytes| bytes / headers.max(1)))
}

/// From nothing to the first answer.
fn node_start(network: &Network, data: &Path, device: &DeviceOption) -> Result<Duration, CommandError> {
    let models = models(network)?;
    let backend = device.open(&models)?;
    let begin = Instant::now();
    let node = Node::start(NodeConfig {
        network: network.clone(),
        data: data.to_owned(),
        addresses: Addresses { listen: vec!["/ip4/127.0.0.1/tcp/0".into()], ..Addresses::default() },
        discovery: Discovery::BootstrapOnly,
        traversal: Traversal::default(),
        capacity: Capacity::default(),
        backend,
        models,
        files: Vec::new(),
        inference: InferenceLimits::default(),
        mining: None,
        storage: Storage::default(),
        api: None,
        faucet: None,
        clock: Clock::system(),
    })?;
    node.ask(Request::Status).ok_or_else(|| CommandError::failed("the node has stopped"))?;
    let time = begin.elapsed();
    node.stop()?;
    Ok(time)
}

fn median(ascending: &[Duration]) -> Duration {
    percentile(ascending, 50).copied().unwrap_or_default()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_long_chain_is_one_that_a_node_takes_up() {
        let (network, folder) = (easy_network(), tempfile::tempdir().expect("a temporary folder"));
        let store = Store::open(&folder.path().join("chain"), &network).expect("opened");
        grow(&store, &network, 300, Durability::Logged).expect("grown");
        grow(&store, &network, 1, Durability::Synced).expect("grown");
        let chain = Chain::open(network.clone(), store).expect("opened");
        assert_eq!((chain.tip().height, chain.tree().best_candidate().height), (301, 301));
        // A header more by all rules.
        let mut other =
            Chain::open(network.clone(), Store::open(&folder.path().join("other"), &network).expect("opened"))
                .expect("opened");
        let headers: Vec<_> = chain.store().headers().map(|row| row.unwrap().0).collect();
        let (taken, error) = other.insert_headers(&headers, u64::MAX).expect("stored");
        assert_eq!((taken, error.is_none()), (301, true));
    }
}
