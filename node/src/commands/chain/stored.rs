//! `ocelli chain verify|export|import|reconsider`: on the data folder of a node, which does not run; `verify` asks one that runs
//! for a snapshot of its chain.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use indicatif::{ProgressBar, ProgressStyle};
use ocelli_consensus::BlockHash;
use ocelli_consensus::network::Network;
use ocelli_model::{DeviceChoice, backend};
use ocelli_protocol::message::Control;
use serde_json::json;

use crate::chain::{Bytes, Chain, MissingAttachments};
use crate::commands::device_option::OTHER_DEVICE;
use crate::commands::error::{CommandError, Explain as _};
use crate::commands::node_file::NodeFile;
use crate::commands::output::Printer;
use crate::commands::peer_option::OwnNode;
use crate::commands::{folders, network_option};
use crate::inference::{InferenceHandle, InferenceLimits, InferenceService};
use crate::node::{SNAPSHOT, models};
use crate::replay::{self, ExportError, Progress, Stopped, Why};
use crate::store::{ModelFiles, Store, StoreError, StoreOptions};
use ocelli_program::signals;

/// How often the progress bar is drawn.
const DRAW: Duration = Duration::from_millis(100);

/// The data folder of a node.
#[derive(Debug, clap::Args)]
pub struct DataOption {
    /// The node's data folder [default: ~/.local/share/ocelli/NETWORK]
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,

    /// The network: local, testnet, or a network file
    #[arg(long, value_name = "NAME|FILE", default_value = "testnet")]
    network: String,
}

/// Replay the whole chain of a node, every answer included, and compare it with what the node has stored
///
/// Of a node that runs, a snapshot is verified: its chain as it is when the command starts, beside which the node goes on.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    data: DataOption,

    /// Where models run
    #[arg(long, value_name = "auto|cpu|cuda|metal", default_value = "auto")]
    device: DeviceChoice,
}

/// Write the blocks of a stopped node to a file
#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    /// The file, which is replaced if it is there; a pipe or device is written through
    file: PathBuf,

    /// The first height [default: the first with a body, which is 1 unless the node prunes]
    #[arg(long, value_name = "HEIGHT")]
    from: Option<u64>,

    /// The last height [default: the tip's]
    #[arg(long, value_name = "HEIGHT")]
    to: Option<u64>,

    #[command(flatten)]
    data: DataOption,
}

/// Take the blocks of a file into the data folder of a stopped node, checked as if peers had sent them
///
/// What comes before a block that cannot be taken stays, also where a signal ends the command; it goes on when it is run again.
#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    /// A file that `ocelli chain export` wrote
    file: PathBuf,

    #[command(flatten)]
    data: DataOption,

    /// Where models run
    #[arg(long, value_name = "auto|cpu|cuda|metal", default_value = "auto")]
    device: DeviceChoice,

    /// Take no block without its attachments, however deep
    #[arg(long)]
    full: bool,
}

/// Lift the verdict on a block that a stopped node has refused: it is checked again when the node starts
#[derive(Debug, clap::Args)]
pub struct ReconsiderArgs {
    /// The block's hash
    hash: BlockHash,

    #[command(flatten)]
    data: DataOption,
}

impl DataOption {
    fn folder(&self, network: &Network) -> Result<PathBuf, CommandError> {
        self.data.clone().map_or_else(|| folders::data(&network.parameters.name), Ok)
    }

    /// The store of a node that has run and does not now.
    fn open(&self) -> Result<(Network, PathBuf, Store), CommandError> {
        let (network, data) = self.resolve()?;
        let store = open_store(&data, &network).map_err(explained)?;
        Ok((network, data, store))
    }

    fn resolve(&self) -> Result<(Network, PathBuf), CommandError> {
        let network = network_option::resolve(&self.network)?;
        let data = self.folder(&network)?;
        Ok((network, data))
    }
}

fn open_store(data: &Path, network: &Network) -> Result<Store, StoreError> {
    Store::open_existing(&data.join("chain"), network, StoreOptions::default())
}

/// The chain of the node that has the data folder open, copied by it into the folder `scratch` within.
fn snapshot(network: &Network, option: &DataOption, data: &Path, scratch: &Path) -> Result<Store, CommandError> {
    let folder = scratch.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let done = OwnNode::of(data.to_owned(), option.network.clone()).command(Control::Snapshot { folder })?;
    tracing::info!("the running node has {done}");
    Ok(Store::open_existing(&scratch.join(SNAPSHOT), network, StoreOptions::default())?)
}

/// Verifies.
///
/// # Errors
/// For a folder that cannot be used, and for a chain or an index that is wrong.
pub fn verify(args: &VerifyArgs, output: &mut Printer) -> Result<(), CommandError> {
    let (network, data) = args.data.resolve()?;
    let opened = open_store(&data, &network);
    let is_running = matches!(opened, Err(StoreError::Locked { .. })) && NodeFile::read(&data)?.is_some();
    if !is_running {
        opened.as_ref().map_err(|error| explained(error.clone()))?;
    }
    let scratch = tempfile::Builder::new()
        .prefix("verify-")
        .tempdir_in(&data)
        .context(|| format!("cannot make a folder in {}", data.display()))
        .hint(|| "make the data folder writable: the state is made anew beside it")?;
    let store = if is_running { snapshot(&network, &args.data, &data, scratch.path())? } else { opened? };
    let store = Arc::new(store);
    let inference = inference(&network, args.device, store.model_files())?;
    let bar = Bar::new();
    let verified = replay::verify(&store, &network, scratch.path(), &inference, &mut |progress| bar.show(progress));
    bar.clear();
    let verified = verified.hint(|| {
        "the data folder cannot be relied on: start the node on a new one to sync again, and have the disk looked at"
    })?;
    let kept = verified.kept;
    if output.is_json() {
        return output.json(&json!({
            "height": verified.tip.height,
            "tip": verified.tip.hash,
            "state_root": ocelli_consensus::Root(verified.tip.state.hash()),
            "bodies_from": kept.bodies_from,
            "answers_checked": verified.tasks,
            "answers_unchecked": verified.unchecked,
            "is_snapshot": is_running,
        }));
    }
    let mut what = format!("{} blocks, {} answers computed again", verified.tip.height, verified.tasks);
    if verified.unchecked > 0 {
        // Writing to a text cannot fail.
        let _ = write!(what, ", {} without their attachments taken as they are", verified.unchecked);
    }
    let from = match kept.bodies_from {
        0..=1 => "genesis".into(),
        height => format!("block {height}; only the headers before it, whose bodies were pruned"),
    };
    if is_running {
        what.push_str("; a snapshot of the running node");
    }
    output.rows(&[
        ("verified", what),
        ("from", from),
        ("tip", format!("block {}  {}", verified.tip.height, verified.tip.hash)),
        ("state root", ocelli_consensus::Root(verified.tip.state.hash()).to_string()),
    ])
}

/// Exports.
///
/// # Errors
/// For a folder that cannot be read and a file that cannot be written.
pub fn export(args: &ExportArgs, output: &mut Printer) -> Result<(), CommandError> {
    let (_, _, store) = args.data.open()?;
    output.leave_stdout_to(&args.file);
    let bar = Bar::new();
    let exported = replay::export(&store, &args.file, args.from, args.to, &mut |progress| bar.show(progress));
    bar.clear();
    let exported = exported.map_err(|error| match error {
        ExportError::Range { .. } => CommandError::usage(error.to_string()),
        other => other.into(),
    })?;
    if output.is_json() {
        return output.json(&json!({
            "blocks": exported.blocks,
            "from": exported.from,
            "to": exported.to,
            "bytes": exported.bytes,
        }));
    }
    output.rows(&[
        ("exported", format!("{} blocks, {} to {}", exported.blocks, exported.from, exported.to)),
        ("file", format!("{}, {}", args.file.display(), Bytes(exported.bytes))),
    ])
}

/// Imports.
///
/// # Errors
/// For a folder or file that cannot be used, and for a file of which not all blocks are taken.
pub fn import(args: &ImportArgs, output: &mut Printer) -> Result<(), CommandError> {
    let network = network_option::resolve(&args.data.network)?;
    let data = args.data.folder(&network)?;
    let store = Store::open(&data.join("chain"), &network).map_err(explained)?;
    let missing = if args.full { MissingAttachments::Insist } else { MissingAttachments::AcceptOnWork };
    let mut chain = Chain::open(network.clone(), store)?.keeping(None, missing);
    let inference = inference(&network, args.device, chain.store().model_files())?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let stop = signals::stop_flag().context(|| "cannot listen for signals")?;
    let (is_to_end, bar) = (|| stop.load(Ordering::Relaxed), Bar::new());
    let imported =
        replay::import(&mut chain, &args.file, now, &inference, &is_to_end, &mut |progress| bar.show(progress));
    bar.clear();
    let mut imported = imported?;
    let tip = chain.tip().hash;
    if let Some(stopped) = imported.stopped.take() {
        let here = format!(
            "{} blocks of the file are here, {} of them new, and the tip is block {}",
            imported.blocks, imported.new, imported.height
        );
        let next = what_to_try(&stopped);
        return Err(CommandError::from(stopped).with_hint(format!("{here}; {next}")));
    }
    if output.is_json() {
        return output.json(&json!({
            "blocks": imported.blocks,
            "new": imported.new,
            "height": imported.height,
            "tip": tip,
        }));
    }
    output.rows(&[
        ("imported", format!("{} blocks, {} of them new", imported.blocks, imported.new)),
        ("tip", format!("block {}  {tip}", imported.height)),
    ])
}

/// What to try after an import that ended before its file did.
fn what_to_try(stopped: &Stopped) -> String {
    let Stopped::AtBlock { hash, why, .. } = stopped else {
        return match stopped {
            Stopped::Interrupted { .. } => "import the file again to go on".into(),
            _ => "copy the file again, or export it again".into(),
        };
    };
    match why {
        Why::Held { .. } => "import the file again when its time has come, or set this machine's clock right".into(),
        Why::ParentUnknown(_) => "import a file with the blocks before it first".into(),
        Why::Refused => format!("`ocelli chain reconsider {hash}` has it checked again"),
        Why::NotValid | Why::OnRefused | Why::OtherData | Why::Other => {
            "get a file of the blocks after these from another node".into()
        }
    }
}

/// Reconsiders.
///
/// # Errors
/// For a folder that cannot be used, and a block that was not refused.
pub fn reconsider(args: &ReconsiderArgs, output: &mut Printer) -> Result<(), CommandError> {
    let (network, _, store) = args.data.open()?;
    let mut chain = Chain::open(network, store)?;
    let verdict = chain
        .reconsider(&args.hash)
        .hint(|| "`ocelli status` lists the blocks that a node has refused last, while it runs")?;
    if output.is_json() {
        return output.json(&json!({
            "hash": verdict.block,
            "height": verdict.height,
            "lifted": verdict.reason,
        }));
    }
    output.rows(&[
        ("block", format!("{}  {}", verdict.height, verdict.block)),
        ("lifted", verdict.reason),
        ("next", "start the node: it checks the block again".into()),
    ])
}

fn inference(
    network: &Network,
    device: DeviceChoice,
    files: Arc<dyn ModelFiles>,
) -> Result<InferenceHandle, CommandError> {
    let (device, why_not) = backend::open(device).hint(|| OTHER_DEVICE)?;
    if let Some(reason) = why_not {
        tracing::info!(reason, "no GPU is used");
    }
    // The verdict of a replaced device never counts: what it gave is computed again.
    Ok(InferenceService::start(device, models(network)?, files, InferenceLimits::default(), || {}))
}

fn explained(error: StoreError) -> CommandError {
    match error {
        StoreError::Locked { .. } => CommandError::from(error).with_hint("stop the node first"),
        other => other.into(),
    }
}

/// How far a replay has come, on stderr if that is a terminal.
struct Bar {
    bar: ProgressBar,
    drawn: std::cell::Cell<Instant>,
}

impl Bar {
    fn new() -> Self {
        let style = ProgressStyle::with_template("{bar:30} block {pos} of {len}, {per_sec}, {eta} left{msg}")
            .expect("the template is a constant, and a test draws it");
        Self { bar: ProgressBar::new(0).with_style(style), drawn: std::cell::Cell::new(Instant::now()) }
    }

    fn show(&self, progress: Progress) {
        if self.drawn.get().elapsed() < DRAW {
            return;
        }
        self.drawn.set(Instant::now());
        self.bar.set_length(progress.of);
        if progress.tasks > 0 {
            self.bar.set_message(format!(", {} answers", progress.tasks));
        }
        self.bar.set_position(progress.blocks);
    }

    fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_drawn() {
        let bar = Bar::new();
        bar.drawn.set(Instant::now().checked_sub(DRAW).unwrap_or_else(Instant::now));
        bar.show(Progress { blocks: 1, of: 2, tasks: 3 });
        bar.clear();
    }
}
