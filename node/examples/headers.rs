//! Measures what headers cost a node: a chain of three million, which is a year of a block every 10 s. How many bytes of memory
//! the tree has for each, how long it takes to make one from a store, and what storing them takes.
//!
//! The headers have no proof of work: what is stored was checked before, and is not checked again when a node starts.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use ocelli_consensus::fork_choice::{BlockStatus, HeaderTree};
use ocelli_consensus::{Header, Network};
use ocelli_node::chain::Chain;
use ocelli_node::store::Store;

/// Headers that are stored at once: as many as a response has.
const HEADERS_A_WRITE: usize = 2_000;

/// Measure memory and time of a long chain's headers
#[derive(Debug, Parser)]
struct Args {
    /// How many headers
    #[arg(long, default_value_t = 3_000_000)]
    headers: u32,

    /// How often each time is measured; the median is shown
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=99))]
    runs: u16,

    /// What a process of its own measures: the tree alone, or with this store
    #[arg(long, value_name = "tree|FOLDER", hide = true)]
    only: Option<PathBuf>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let network = Network::builtin("local").ok_or("the network local is not built in")?;
    match args.only {
        Some(only) if only == Path::new("tree") => say(tree(&network, args.headers)?),
        Some(folder) => say(open(&network, &folder)?),
        None => measure(&network, &args),
    }
}

/// A chain of headers above genesis, a block every 10 s.
fn headers(network: &Network, count: u32) -> impl Iterator<Item = Header> {
    std::iter::successors(Some(network.genesis.clone()), |parent| {
        let (height, time) = (parent.height + 1, parent.time + 10);
        Some(Header { parent: parent.hash(), height, time, ..parent.clone() })
    })
    .skip(1)
    .take(count as usize)
}

/// Bytes and time of the tree alone.
fn tree(network: &Network, count: u32) -> io::Result<(u64, Duration)> {
    let (bytes, begin) = (resident_bytes()?, Instant::now());
    let mut tree = HeaderTree::new(&network.genesis);
    for header in headers(network, count) {
        tree.restore(&header, BlockStatus::Verified);
    }
    assert_eq!(tree.len(), count as usize + 1, "each is the child of the one before");
    Ok((resident_bytes()? - bytes, begin.elapsed()))
}

/// Bytes and time of the chain of a store, the database's own among them.
fn open(network: &Network, folder: &Path) -> Result<(u64, Duration), Box<dyn std::error::Error>> {
    let (bytes, begin) = (resident_bytes()?, Instant::now());
    let chain = Chain::open(network.clone(), Store::open(folder, network)?)?;
    let found = (resident_bytes()? - bytes, begin.elapsed());
    drop(chain);
    Ok(found)
}

fn measure(network: &Network, args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::Builder::new().prefix("ocelli-headers-").tempdir()?;
    let store = Store::open(folder.path(), network)?;
    let begin = Instant::now();
    let mut batch = Vec::with_capacity(HEADERS_A_WRITE);
    for header in headers(network, args.headers) {
        batch.push(header);
        if batch.len() == HEADERS_A_WRITE {
            store.add_headers(&batch)?;
            batch.clear();
        }
    }
    store.add_headers(&batch)?;
    let (storing, disk) = (begin.elapsed(), store.disk_bytes()?);
    drop(store);

    let of = |only: &Path| -> Result<(u64, Duration), Box<dyn std::error::Error>> {
        let mut runs = Vec::new();
        for _ in 0..args.runs {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["--headers", &args.headers.to_string(), "--only"]).arg(only).stderr(Stdio::inherit());
            let text = String::from_utf8(command.output()?.stdout)?;
            let (bytes, micros) = text.trim().split_once(' ').ok_or("the process that measures has failed")?;
            runs.push((Duration::from_micros(micros.parse()?), bytes.parse()?));
        }
        runs.sort();
        let (time, bytes) = runs[runs.len() / 2];
        Ok((bytes, time))
    };
    let ((tree_bytes, tree_time), (open_bytes, open_time)) = (of(Path::new("tree"))?, of(folder.path())?);
    let each = |bytes: u64| bytes as f64 / f64::from(args.headers);
    let mut out = io::stdout();
    writeln!(out, "headers                           {:>12}", args.headers)?;
    writeln!(out, "tree, bytes a header              {:>12.1}", each(tree_bytes))?;
    writeln!(out, "tree, made from headers, s        {:>12.2}", tree_time.as_secs_f64())?;
    writeln!(out, "opened chain, bytes a header      {:>12.1}", each(open_bytes))?;
    writeln!(out, "chain, opened from its store, s   {:>12.2}", open_time.as_secs_f64())?;
    writeln!(out, "store, bytes of the disk a header {:>12.1}", each(disk))?;
    writeln!(out, "store, written, s                 {:>12.2}", storing.as_secs_f64())?;
    Ok(())
}

fn say((bytes, time): (u64, Duration)) -> Result<(), Box<dyn std::error::Error>> {
    Ok(writeln!(io::stdout(), "{bytes} {}", time.as_micros())?)
}

/// `VmRSS` of `/proc/self/status`, in bytes.
fn resident_bytes() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kibibytes.map(|kibibytes| kibibytes * 1024).ok_or_else(|| io::Error::other("found no VmRSS in /proc/self/status"))
}
