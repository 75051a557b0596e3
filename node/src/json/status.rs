//! How a node is, as JSON.

use ocelli_consensus::{Network, U256};
use ocelli_program::output::Whole;
use ocelli_protocol::message::{
    InferenceStatus, NodeStatus, Reachability, RulesStatus, StorageStatus, Traffic, TrafficStatus,
};
use serde_json::{Value, json};

/// How a node is, as `--json` prints it.
pub fn of(status: &NodeStatus, network: &Network) -> Value {
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

fn rules_json(status: &RulesStatus) -> Value {
    let next = status.next.as_ref().map(|next| json!({ "height": Whole(next.height), "version": next.version }));
    json!({ "version": status.version, "next": next, "update": status.update })
}

fn reachability_json(reachability: &Reachability) -> Value {
    match reachability {
        Reachability::Unknown => json!({ "kind": "unknown" }),
        Reachability::Public(addresses) => json!({ "kind": "public", "at": addresses }),
        Reachability::Relayed(addresses) => json!({ "kind": "relayed", "at": addresses }),
        Reachability::Unreachable { advice } => json!({ "kind": "unreachable", "advice": advice }),
    }
}

pub fn storage_json(storage: &StorageStatus) -> Value {
    json!({
        "disk_bytes": storage.disk_bytes,
        "attachments_from": storage.attachments_from,
        "bodies_from": storage.bodies_from,
        "answers_from": storage.answers_from,
    })
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

pub fn inference_json(status: &InferenceStatus) -> Value {
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
pub struct Means {
    /// Images of a batch.
    pub batch: f64,
    /// What an image waited.
    pub queue_ms: f64,
    /// What a batch took.
    pub device_ms: f64,
}

impl Means {
    pub fn of(status: &InferenceStatus) -> Self {
        let mean = |sum: u64, count: u64| if count == 0 { 0.0 } else { sum as f64 / count as f64 };
        Self {
            batch: mean(status.computed, status.batches),
            queue_ms: mean(status.queue_microseconds, status.computed) / 1000.0,
            device_ms: mean(status.device_microseconds, status.batches) / 1000.0,
        }
    }
}

pub fn tasks_per_second(status: &NodeStatus) -> f64 {
    // For display: below 2^53 thousandths, exact.
    status.device.millitasks_per_second as f64 / 1000.0
}

/// Work as people compare it: in hexadecimal, without leading zeros.
pub fn work(work: U256) -> String {
    format!("{work:#x}")
}

#[cfg(test)]
mod tests {
    use ocelli_protocol::message::NextRules;

    use super::*;

    /// A schedule may name any height, as `network show` says it.
    #[test]
    fn the_height_of_the_next_rules_is_a_string_of_digits() {
        let network = Network::builtin("local").unwrap();
        for height in [7, u64::MAX] {
            let next = Some(NextRules { height, version: 2 });
            let status = NodeStatus { rules: RulesStatus { next, ..RulesStatus::default() }, ..NodeStatus::default() };
            let expected = json!({ "height": height.to_string(), "version": 2 });
            assert_eq!(of(&status, &network)["rules"]["next"], expected);
        }
    }

    #[test]
    fn scripts_find_the_count_of_peers_and_the_height_first() {
        let status = NodeStatus {
            tip: ocelli_protocol::message::TipStatus { height: 7, ..Default::default() },
            peers: ocelli_protocol::message::PeerCounts { dialled: 0, inbound: 1 },
            ..NodeStatus::default()
        };
        let network = Network::builtin("local").unwrap();
        let text = serde_json::to_string(&of(&status, &network)).unwrap();
        let first = |key: &str| text.split_once(&format!("\"{key}\":")).unwrap().1.chars().next().unwrap();
        assert_eq!((first("peers"), first("height")), ('1', '7'), "{text}");
    }
}
