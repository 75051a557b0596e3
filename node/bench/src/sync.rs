//! `ocelli bench sync`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ocelli_consensus::Network;
use ocelli_node::chain::{Bytes, Chain};
use ocelli_node::client::Client;
use ocelli_node::commands::node_file::NodeFile;
use ocelli_node::node::models;
use ocelli_node::replay;
use ocelli_node::store::{Store, Tip};
use ocelli_program::beside;
use ocelli_program::device_option::DeviceOption;
use ocelli_program::error::{CommandError, Explain as _};
use ocelli_program::output::Printer;
use serde::Serialize;

use super::block_maker::{BlockMaker, new_folder};
use super::process::{Usage, cpu_seconds_of_ended_children};
use super::{percentile, rounded};

/// How often a process is looked at.
const POLL: Duration = Duration::from_millis(10);
/// How long a node may take to say where it listens, and how long it may stay at one height.
const PATIENCE: Duration = Duration::from_secs(60);
/// Characters of a process's log that an error quotes.
const LOG_CHARACTERS: usize = 1500;

/// Measure how long a node takes to sync a chain from another one on this machine, beside validating it from a file
///
/// A chain of Classify tasks on the network `local` is made once, in a temporary folder (TMPDIR). A node process serves it on
/// loopback. Then by turns: a new node process syncs it into an empty folder, and `ocelli chain import` validates the same
/// blocks from a file into an empty folder. Both times are of whole processes, from their start until the last block is
/// connected. The processor time of the serving node counts too, as both nodes share this machine.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Tasks in the whole chain
    #[arg(long, value_name = "NUMBER", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    tasks: u32,

    /// Put so many tasks into each block [default: as many as the weight limit lets]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    tasks_a_block: Option<u32>,

    /// Take so many turns
    #[arg(long, value_name = "NUMBER", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,

    #[command(flatten)]
    device: DeviceOption,
}

/// Medians of the rounds, each by itself.
#[derive(Debug, Serialize)]
struct Report {
    blocks: u64,
    tasks: u32,
    /// Of the file of blocks.
    bytes: u64,
    rounds: u16,
    sync_seconds: f64,
    sync_tasks_per_second: f64,
    /// The peer: the same blocks from a file.
    import_seconds: f64,
    import_tasks_per_second: f64,
    /// Sync over import, round by round: the median, and all of them in the order in which they were measured.
    ratio: f64,
    ratios: Vec<f64>,
    /// Processor time of all threads.
    syncing_cpu_seconds: f64,
    serving_cpu_seconds: f64,
    import_cpu_seconds: f64,
    /// That of both nodes over the import's: the least that the ratio can be where neither leaves a core idle.
    processor_ratio: f64,
    /// Memory of the syncing node when it has the last block.
    syncing_resident_bytes: u64,
}

/// What one sync took.
#[derive(Debug, Clone, Copy)]
struct Sync {
    time: Duration,
    syncing_cpu: f64,
    serving_cpu: f64,
    resident_bytes: u64,
}

/// What one import took.
#[derive(Debug, Clone, Copy)]
struct Import {
    time: Duration,
    cpu: f64,
}

/// What all rounds use.
struct Bench<'a> {
    network: Network,
    device: &'a str,
    /// Where all data folders and logs are.
    folder: PathBuf,
    /// The blocks in a file.
    file: PathBuf,
    tip: Tip,
}

/// Runs the command.
///
/// # Errors
/// For more tasks than a block holds, a device or a temporary folder that cannot be used, and a process that fails.
pub fn run(args: &Args, output: &mut Printer) -> Result<(), CommandError> {
    let network = Network::builtin("local").ok_or_else(|| CommandError::failed("found no network `local`"))?;
    let folder = new_folder()?;
    let served = folder.path().join("served");
    let file = folder.path().join("blocks");
    let (tip, bytes) = make_chain(&network, args, &served, &file)?;
    let bench = Bench { network, device: args.device.text(), folder: folder.path().into(), file, tip };

    let server = bench.start_node("served", &[])?;
    let address = server.address(&served)?;
    let (mut syncs, mut imports, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..args.rounds {
        // What comes first in one round comes last in the next, so that neither has the better half of a machine that changes.
        let first = if round % 2 == 0 { Some(bench.import()?) } else { None };
        let sync = bench.sync(&server, &address)?;
        let import = first.map_or_else(|| bench.import(), Ok)?;
        ratios.push(rounded(sync.time.as_secs_f64() / import.time.as_secs_f64()));
        syncs.push(sync);
        imports.push(import);
    }
    let seconds = |time: Duration| rounded(time.as_secs_f64());
    let per_second = |time: f64| rounded(f64::from(args.tasks) / time);
    let cpu = |sync: &Sync| sync.syncing_cpu + sync.serving_cpu;
    let processor_ratios = syncs.iter().zip(&imports).map(|(sync, import)| cpu(sync) / import.cpu);
    let processor_ratio = rounded(median(processor_ratios));
    let sync_seconds = median(syncs.iter().map(|sync| seconds(sync.time)));
    let import_seconds = median(imports.iter().map(|import| seconds(import.time)));
    let report = Report {
        blocks: tip.height,
        tasks: args.tasks,
        bytes,
        rounds: args.rounds,
        sync_seconds,
        sync_tasks_per_second: per_second(sync_seconds),
        import_seconds,
        import_tasks_per_second: per_second(import_seconds),
        ratio: median(ratios.iter().copied()),
        ratios,
        syncing_cpu_seconds: rounded(median(syncs.iter().map(|sync| sync.syncing_cpu))),
        serving_cpu_seconds: rounded(median(syncs.iter().map(|sync| sync.serving_cpu))),
        import_cpu_seconds: rounded(median(imports.iter().map(|import| import.cpu))),
        processor_ratio,
        syncing_resident_bytes: median(syncs.iter().map(|sync| sync.resident_bytes)),
    };
    if output.is_json() { output.json(&report) } else { print(&report, output) }
}

fn print(report: &Report, output: &mut Printer) -> Result<(), CommandError> {
    let time = |seconds: f64, rate: f64| format!("{seconds:.2}, {rate:.0} tasks/s");
    let ratios: Vec<String> = report.ratios.iter().map(|ratio| format!("{ratio:.3}")).collect();
    output.rows(&[
        ("chain", format!("{} blocks, {} tasks, {}", report.blocks, report.tasks, Bytes(report.bytes))),
        ("synced from another process in, s", time(report.sync_seconds, report.sync_tasks_per_second)),
        ("imported from a file in, s", time(report.import_seconds, report.import_tasks_per_second)),
        ("sync over import", format!("{:.3} ({})", report.ratio, ratios.join(", "))),
        ("processor time of the syncing node, s", format!("{:.2}", report.syncing_cpu_seconds)),
        ("of the serving node, s", format!("{:.2}", report.serving_cpu_seconds)),
        ("of the import, s", format!("{:.2}", report.import_cpu_seconds)),
        ("both nodes over the import", format!("{:.3}", report.processor_ratio)),
        ("memory of the syncing node", Bytes(report.syncing_resident_bytes).to_string()),
    ])
}

/// The least of the values that half of them do not exceed.
fn median<T: PartialOrd + Copy + Default>(values: impl Iterator<Item = T>) -> T {
    let mut values: Vec<T> = values.collect();
    values.sort_by(|one, other| one.partial_cmp(other).unwrap_or(std::cmp::Ordering::Equal));
    percentile(&values, 50).copied().unwrap_or_default()
}

/// Makes the chain in the data folder of the node that is to serve it, and writes its blocks to a file too. Returns the tip and
/// the length of the file.
fn make_chain(network: &Network, args: &Args, data: &Path, file: &Path) -> Result<(Tip, u64), CommandError> {
    let models = models(network)?;
    let model = models.first().ok_or_else(|| CommandError::failed("the network `local` has no model"))?;
    let mut backend = args.device.open(&models)?;
    let mut maker = BlockMaker::new(network, model);
    let count = maker.tasks_a_block(args.tasks_a_block)?;
    fs::create_dir_all(data)?;
    let mut chain = Chain::open(network.clone(), Store::open(&data.join("chain"), network)?)?;
    let mut left = args.tasks as usize;
    while left > 0 {
        maker.make(&mut chain, count.min(left), &mut *backend)?;
        left = left.saturating_sub(count);
    }
    let exported = replay::export(chain.store(), file, None, None, &mut |_| {})?;
    // As a node leaves it that has stopped long ago: nothing in the log.
    chain.store().free_log()?;
    Ok((chain.store().tip()?, exported.bytes))
}

impl Bench<'_> {
    /// Syncs into an empty folder, from the start of a process until it has the tip.
    fn sync(&self, server: &Process, address: &str) -> Result<Sync, CommandError> {
        let served_before = server.usage()?;
        let begin = Instant::now();
        let node = self.start_node("synced", &["--peer", address])?;
        let data = self.folder.join("synced");
        let own = node.address(&data)?;
        let mut client = Client::connect(std::slice::from_ref(&self.network), &[own])?;
        let (mut height, mut moved) = (0, Instant::now());
        loop {
            let status = client.chain_status()?;
            if status.tip == self.tip.hash {
                break;
            }
            if status.height > height {
                (height, moved) = (status.height, Instant::now());
            } else if moved.elapsed() > PATIENCE {
                return Err(node.failed(&format!("it stays at block {height} of {}", self.tip.height)));
            }
            thread::sleep(POLL);
        }
        let time = begin.elapsed();
        let (synced, served) = (node.usage()?, server.usage()?);
        drop(node);
        fs::remove_dir_all(data)?;
        Ok(Sync {
            time,
            syncing_cpu: synced.cpu_seconds,
            serving_cpu: served.cpu_seconds - served_before.cpu_seconds,
            resident_bytes: synced.resident_bytes,
        })
    }

    /// Validates the blocks of the file into an empty folder, from the start of a process to its end.
    fn import(&self) -> Result<Import, CommandError> {
        let data = self.folder.join("imported");
        let cpu_before = cpu_seconds_of_ended_children()?;
        let begin = Instant::now();
        let mut command = Command::new(beside::find("ocelli")?);
        command.args(["chain", "import"]).arg(&self.file).arg("--data").arg(&data);
        let mut import = self.spawn("imported", command)?;
        let status = import.child.wait()?;
        let time = begin.elapsed();
        if !status.success() {
            return Err(import.failed(&format!("it ended with {status}")));
        }
        let cpu = cpu_seconds_of_ended_children()? - cpu_before;
        let tip = Store::open_existing(&data.join("chain"), &self.network, Default::default())?.tip()?;
        if tip != self.tip {
            return Err(import.failed(&format!("it ended at block {}, expected {}", tip.height, self.tip.height)));
        }
        fs::remove_dir_all(data)?;
        Ok(Import { time, cpu })
    }

    /// Starts a node on loopback whose data folder has this name.
    fn start_node(&self, name: &str, arguments: &[&str]) -> Result<Process, CommandError> {
        let mut command = Command::new(beside::find("ocelli")?);
        command.args(["node", "--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns", "--no-upnp", "--data"]);
        command.arg(self.folder.join(name)).args(arguments);
        self.spawn(name, command)
    }

    fn spawn(&self, name: &str, mut command: Command) -> Result<Process, CommandError> {
        let log = self.folder.join(format!("{name}.log"));
        command.args(["--network", "local", "--device", self.device]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        let child = command.spawn().context(|| "cannot start `ocelli`")?;
        Ok(Process { child, name: name.into(), log })
    }
}

/// A process of `ocelli`, which ends with this.
struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Waits until the node says in its data folder where it listens.
    fn address(&self, data: &Path) -> Result<String, CommandError> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(address) = NodeFile::read(data)?.and_then(|node| node.addresses.into_iter().next()) {
                return Ok(address);
            }
            self.usage().map_err(|_| self.failed("it has ended"))?;
            thread::sleep(POLL);
        }
        Err(self.failed("it does not say where it listens"))
    }

    fn usage(&self) -> Result<Usage, CommandError> {
        Usage::of(self.child.id())
    }

    /// Why it is of no use, with the end of what it has said.
    fn failed(&self, why: &str) -> CommandError {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let skipped = log.chars().count().saturating_sub(LOG_CHARACTERS);
        let end: String = log.chars().skip(skipped).collect();
        CommandError::failed(format!("the process `{}` failed: {why}; its log ends with: {end}", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_of_the_lower_half() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4, 1, 3, 2].into_iter()), 2);
        assert_eq!(median(std::iter::empty::<u64>()), 0);
    }
}
