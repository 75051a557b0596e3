//! `ocelli doctor`.

mod host;
mod joined;

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::error::CommandError;
use super::node_file::NodeFile;
use super::output::Printer;
use super::submit::find_bootstrap;
use super::{folders, network_option};
use crate::client::Client;

/// Check what a node needs on this machine, and say how to mend what is not well
///
/// Looks at the device and whether it is exact, its speed, the disk, the data folder and the ports; and, through a node that
/// runs here or a bootstrap node, at reachability, peers and the clock. Fails if anything has failed; a warning is none.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The network: local, testnet, or a network file
    #[arg(long, value_name = "NAME|FILE", default_value = "testnet")]
    network: String,

    /// Where the node keeps its data [default: ~/.local/share/ocelli/NETWORK]
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,

    /// Where models run
    #[arg(long, value_name = "auto|cpu|cuda|metal", default_value = "auto")]
    device: ocelli_model::DeviceChoice,

    /// Look at the network through the node at this multiaddr; may be repeated [default: the node that runs on this
    /// machine, or the network's bootstrap nodes]
    #[arg(long, value_name = "MULTIADDR")]
    peer: Vec<String>,
}

/// How well something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Health {
    Ok,
    Warning,
    Failed,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        })
    }
}

/// What a check has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    check: &'static str,
    health: Health,
    found: String,
    /// What to do about it; nothing where all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, health: Health::Ok, found: found.into(), fix: None }
    }

    fn warning(check: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check, health: Health::Warning, found: found.into(), fix: Some(fix.into()) }
    }

    fn failed(check: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check, health: Health::Failed, found: found.into(), fix: Some(fix.into()) }
    }
}

/// Runs the command.
///
/// # Errors
/// For a network that cannot be found, and if any check has failed.
pub fn run(args: &Args, output: &mut Printer) -> Result<(), CommandError> {
    let network = network_option::resolve(&args.network)?;
    let data = args.data.clone().map_or_else(|| folders::data(&network.parameters.name), Ok)?;
    let mut findings = Vec::new();
    let mut add = |output: &mut Printer, found: Vec<Finding>| {
        for finding in found {
            // Said as soon as it is known: some checks take seconds.
            if !output.is_json() {
                let Finding { check, health, found, .. } = &finding;
                output.line(format_args!("{health:<8} {check:<13} {found}"))?;
                if let Some(fix) = &finding.fix {
                    output.line(format_args!("{:<22} fix: {fix}", ""))?;
                }
            }
            findings.push(finding);
        }
        Ok::<_, CommandError>(())
    };
    add(output, host::device(args.device, &network))?;
    let (node, folder) = match NodeFile::read(&data) {
        Ok(node) => (node, host::data_folder(&data)),
        Err(error) => {
            let found = CommandError::from(error).one_line();
            (None, Finding::failed("data folder", found, "stop the node, delete the file and start the node again"))
        }
    };
    add(output, vec![folder, host::disk(&data, &network)])?;

    let addresses = match &node {
        _ if !args.peer.is_empty() => Ok(args.peer.clone()),
        Some(node) => Ok(node.addresses.clone()),
        None => find_bootstrap(&[], &network),
    };
    let client = addresses.and_then(|addresses| Ok(Client::connect(std::slice::from_ref(&network), &addresses)?));
    match (client, &node) {
        (Ok(mut client), node) => {
            let own = node.as_ref().map(|node| node.peer_id.as_str());
            if own.is_none() {
                add(output, vec![host::ports()])?;
            }
            add(output, joined::look(&mut client, own))?;
        }
        (Err(error), Some(node)) => {
            let fix = format!("the node with process id {} may have ended without a word: start it again", node.pid);
            add(output, vec![Finding::failed("node", error.one_line(), fix)])?;
        }
        (Err(error), None) => {
            let fix = "start a node with `ocelli node`, or name one with --peer MULTIADDR";
            add(output, vec![host::ports(), Finding::warning("network", error.one_line(), fix)])?;
        }
    }

    let failed = findings.iter().filter(|finding| finding.health == Health::Failed).count();
    let warnings = findings.iter().filter(|finding| finding.health == Health::Warning).count();
    if output.is_json() {
        output.json(
            &serde_json::json!({ "ok": failed == 0, "warnings": warnings, "failed": failed, "checks": findings }),
        )?;
    }
    if failed > 0 {
        return Err(CommandError::failed(format!("{failed} of {} checks failed", findings.len())));
    }
    Ok(())
}
