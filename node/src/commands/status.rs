//! `ocelli status`.

use ocelli_consensus::network::Network;
use ocelli_protocol::message::{
    InferenceStatus, MiningStatus, NodeStatus, Reachability, RulesStatus, StorageStatus, Traffic, TrafficStatus,
};

use super::error::CommandError;
use super::output::Printer;
use super::peer_option::PeerOption;
use crate::chain::Bytes;
use crate::client::printable;
use crate::json::status::{Means, StatusFields, tasks_per_second, work};

/// Show how a node is: tip, sync, peers, device, and what it waits for
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    peer: PeerOption,
}

/// Runs the command.
///
/// # Errors
/// When the node cannot be asked.
pub fn run(args: &Args, output: &mut Printer) -> Result<(), CommandError> {
    let mut client = args.peer.connect()?;
    let status = client.node_status()?;
    let network = client.network();
    if output.is_json() { output.json(&StatusFields::of(&status, network)) } else { print(&status, network, output) }
}

fn print(status: &NodeStatus, network: &Network, output: &mut Printer) -> Result<(), CommandError> {
    let mut rows = vec![
        ("node", format!("{}, {}", printable(&status.identity.peer_id), printable(&status.identity.agent))),
        ("network", format!("{}, genesis {}", printable(&status.identity.network), status.identity.genesis)),
        ("tip", format!("block {}  {}", status.tip.height, status.tip.hash)),
        ("state", status.tip.state_root.to_string()),
        ("sync", format!("{}; headers up to {}", printable(&status.sync.state), status.sync.header_height)),
        ("work", work(status.tip.work)),
        ("peers", format!("{}, {} of them dialled this node", status.peers.total(), status.peers.inbound)),
        ("mempool", format!("{} transactions, {} bytes", status.mempool.transactions, status.mempool.bytes)),
        ("device", device(status)),
        ("inference", inference(&status.inference)),
        ("traffic", traffic(&status.traffic)),
        (
            "mining",
            match status.mining.address {
                Some(address) => {
                    let address = address.to_text(&network.parameters.address_prefix);
                    let MiningStatus { hash_rate, found, stale, .. } = status.mining;
                    format!("{hash_rate} hashes/s for {address}; {found} blocks found, {stale} of them stale")
                }
                None => "no".into(),
            },
        ),
        ("disk", storage(&status.storage)),
        ("rules", rules(&status.rules)),
        ("up", duration(status.uptime_seconds)),
    ];
    rows.push(("source", "the node's own word, not checked: `ocelli chain status` checks the tip".into()));
    rows.push(("reachable", reachability(&status.reachability)));
    for address in &status.identity.addresses {
        rows.push(("address", printable(address)));
    }
    for what in &status.sync.waiting_for {
        rows.push(("waiting for", printable(what)));
    }
    for block in &status.invalid {
        rows.push(("refused", format!("block {} {}: {}", block.height, block.hash, printable(&block.reason))));
    }
    output.rows(&rows)
}

/// The rules that the next block follows, the next change of them, and whether the node is too old for what others do.
pub(super) fn rules(status: &RulesStatus) -> String {
    let mut text = format!("version {}", status.version);
    if let Some(next) = &status.next {
        text.push_str(&format!(", version {} from block {} on", next.version, next.height));
    }
    if let Some(why) = &status.update {
        text.push_str(&format!("; UPDATE THIS NODE: {}", printable(why)));
    }
    text
}

/// Whether others can dial the node, and what to do if not.
fn reachability(reachability: &Reachability) -> String {
    let list = |addresses: &[String]| addresses.iter().map(|one| printable(one)).collect::<Vec<_>>().join(" and ");
    match reachability {
        Reachability::Unknown => "not known yet: no peer has tried".into(),
        Reachability::Public(addresses) => format!("at {}", list(addresses)),
        Reachability::Relayed(addresses) => format!("behind a NAT or firewall, through a relay at {}", list(addresses)),
        Reachability::Unreachable { advice } => format!("no: {}", printable(advice)),
    }
}

fn device(status: &NodeStatus) -> String {
    let device = printable(&status.device.name);
    if status.device.disabled {
        format!("{device}; the device gave a WRONG ANSWER and is no longer used: have it looked at")
    } else {
        format!("{device}, {:.1} tasks/s", tasks_per_second(status))
    }
}

/// What is kept, and what that takes.
pub(super) fn storage(storage: &StorageStatus) -> String {
    let mut text = Bytes(storage.disk_bytes).to_string();
    for (what, from) in [("attachments", storage.attachments_from), ("bodies", storage.bodies_from)] {
        if from > 1 {
            text.push_str(&format!("; {what} from block {from} on"));
        }
    }
    if storage.answers_from > 1 {
        text.push_str(&format!("; answers checked by this node from height {} on", storage.answers_from));
    }
    text
}

fn inference(status: &InferenceStatus) -> String {
    let InferenceStatus { queued, computed, cached, joined, batches, .. } = *status;
    let mut text =
        format!("{queued} images wait; {computed} run in {batches} batches, {} more remembered", cached + joined);
    if batches > 0 {
        let Means { batch, queue_ms, device_ms } = Means::of(status);
        text.push_str(&format!(
            "; on average {batch:.1} images a batch, {queue_ms:.2} ms in the queue, {device_ms:.2} ms on the device"
        ));
    }
    text
}

/// Bytes exchanged with peers, on one line.
fn traffic(status: &TrafficStatus) -> String {
    let parts = [
        ("blocks", status.blocks),
        ("announcements", status.announcements),
        ("tasks", status.transactions),
        ("sync", status.sync),
        ("other", status.other),
    ];
    let parts = parts.map(|(name, Traffic { received, sent })| format!("{name} {}/{}", Bytes(received), Bytes(sent)));
    format!("received/sent: {}", parts.join(", "))
}

pub(super) fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::json::status::InferenceFields;

    #[test]
    fn durations_are_short() {
        for (seconds, text) in [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3_661, "1 h 1 min"), (90_000, "1 d 1 h")]
        {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn inference_is_told_in_means() {
        let inference_json = |status: &InferenceStatus| json!(InferenceFields::of(status));
        let mut status = InferenceStatus { queued: 1, cached: 2, joined: 3, ..InferenceStatus::default() };
        assert_eq!(inference(&status), "1 images wait; 0 run in 0 batches, 5 more remembered");
        assert_eq!(inference_json(&status)["mean_batch"], 0.0);
        status = InferenceStatus {
            computed: 10,
            batches: 4,
            queue_microseconds: 5_000,
            device_microseconds: 6_000,
            ..status
        };
        assert_eq!(
            inference(&status),
            "1 images wait; 10 run in 4 batches, 5 more remembered; on average 2.5 images a batch, 0.50 ms in the queue, \
             1.50 ms on the device"
        );
        let json = inference_json(&status);
        assert_eq!((&json["mean_batch"], &json["mean_queue_ms"]), (&json!(2.5), &json!(0.5)));
        assert_eq!((&json["mean_device_ms"], &json["computed"]), (&json!(1.5), &json!(10)));
    }
}
