//! `ocelli status`.

use ocelli_consensus::U256;
use ocelli_consensus::network::Network;
use ocelli_protocol::message::{
    InferenceStatus, MiningStatus, NodeStatus, Reachability, RulesStatus, StorageStatus, Traffic, TrafficStatus,
};
use serde_json::{Value, json};

use super::error::CommandError;
use super::output::Printer;
use super::peer_option::PeerOption;
use crate::chain::Bytes;
use crate::client::printable;

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
    if output.is_json() { output.json(&to_json(&status, network)) } else { print(&status, network, output) }
}

/// How a node is, as `--json` prints it.
pub(crate) fn to_json(status: &NodeStatus, network: &Network) -> Value {
    let invalid: Vec<_> = status
        .invalid
        .iter()
        .map(|block| json!({ "hash": block.hash, "height": block.height, "reason": block.reason }))
        .collect();
    json!({
        "network": status.identity.network,
        "genesis": status.identity.genesis,
        "agent": status.identity.agent,
        "peer_id": status.identity.peer_id,
        "addresses": status.identity.addresses,
        "reachability": reachability_json(&status.reachability),
        "time": status.time,
        "peers": status.peers.total(),
        "inbound_peers": status.peers.inbound,
        "height": status.tip.height,
        "tip": status.tip.hash,
        "tip_time": status.tip.time,
        "header_height": status.sync.header_height,
        "work": work(status.tip.work),
        "state_root": status.tip.state_root,
        "sync": status.sync.state,
        "waiting_for": status.sync.waiting_for,
        "mempool_transactions": status.mempool.transactions,
        "mempool_bytes": status.mempool.bytes,
        "device": status.device.name,
        "disabled_device": status.device.disabled,
        "tasks_per_second": tasks_per_second(status),
        "inference": inference_json(&status.inference),
        "traffic": traffic_json(&status.traffic),
        "hash_rate": status.mining.hash_rate,
        "mined_blocks": status.mining.found,
        "stale_blocks": status.mining.stale,
        "mining": status.mining.address.map(|address| address.to_text(&network.parameters.address_prefix)),
        "uptime_seconds": status.uptime_seconds,
        "storage": storage_json(&status.storage),
        "rules": rules_json(&status.rules),
        "invalid": invalid,
        "checked": false,
    })
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

fn rules_json(status: &RulesStatus) -> Value {
    let next = status.next.as_ref().map(|next| json!({ "height": next.height, "version": next.version }));
    json!({ "version": status.version, "next": next, "update": status.update })
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

fn reachability_json(reachability: &Reachability) -> Value {
    match reachability {
        Reachability::Unknown => json!({ "kind": "unknown" }),
        Reachability::Public(addresses) => json!({ "kind": "public", "at": addresses }),
        Reachability::Relayed(addresses) => json!({ "kind": "relayed", "at": addresses }),
        Reachability::Unreachable { advice } => json!({ "kind": "unreachable", "advice": advice }),
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

pub(super) fn storage_json(storage: &StorageStatus) -> Value {
    json!({
        "disk_bytes": storage.disk_bytes,
        "attachments_from": storage.attachments_from,
        "bodies_from": storage.bodies_from,
        "answers_from": storage.answers_from,
    })
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

fn traffic_json(status: &TrafficStatus) -> Value {
    let both = |traffic: Traffic| json!({ "received": traffic.received, "sent": traffic.sent });
    json!({
        "blocks": both(status.blocks),
        "announcements": both(status.announcements),
        "transactions": both(status.transactions),
        "sync": both(status.sync),
        "other": both(status.other),
        "relayed": status.relayed,
        "relayed_attachments": status.relayed_attachments,
    })
}

fn inference_json(status: &InferenceStatus) -> Value {
    let means = Means::of(status);
    json!({
        "queued": status.queued,
        "computed": status.computed,
        "cached": status.cached,
        "joined": status.joined,
        "batches": status.batches,
        "queue_microseconds": status.queue_microseconds,
        "device_microseconds": status.device_microseconds,
        "mean_batch": means.batch,
        "mean_queue_ms": means.queue_ms,
        "mean_device_ms": means.device_ms,
    })
}

/// For display; 0 while nothing has been run.
struct Means {
    /// Images of a batch.
    batch: f64,
    /// What an image waited.
    queue_ms: f64,
    /// What a batch took.
    device_ms: f64,
}

impl Means {
    fn of(status: &InferenceStatus) -> Self {
        let mean = |sum: u64, count: u64| if count == 0 { 0.0 } else { sum as f64 / count as f64 };
        Self {
            batch: mean(status.computed, status.batches),
            queue_ms: mean(status.queue_microseconds, status.computed) / 1000.0,
            device_ms: mean(status.device_microseconds, status.batches) / 1000.0,
        }
    }
}

fn tasks_per_second(status: &NodeStatus) -> f64 {
    // For display: below 2^53 thousandths, exact.
    status.device.millitasks_per_second as f64 / 1000.0
}

/// Work as people compare it: in hexadecimal, without leading zeros.
pub(super) fn work(work: U256) -> String {
    format!("{work:#x}")
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
    use super::*;

    #[test]
    fn durations_are_short() {
        for (seconds, text) in [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3_661, "1 h 1 min"), (90_000, "1 d 1 h")]
        {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn inference_is_told_in_means() {
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

    #[test]
    fn scripts_find_the_count_of_peers_and_the_height_first() {
        let status = NodeStatus {
            tip: ocelli_protocol::message::TipStatus { height: 7, ..Default::default() },
            peers: ocelli_protocol::message::PeerCounts { dialled: 0, inbound: 1 },
            ..NodeStatus::default()
        };
        let network = Network::builtin("local").unwrap();
        let text = serde_json::to_string(&to_json(&status, &network)).unwrap();
        let first = |key: &str| text.split_once(&format!("\"{key}\":")).unwrap().1.chars().next().unwrap();
        assert_eq!((first("peers"), first("height")), ('1', '7'), "{text}");
    }
}
