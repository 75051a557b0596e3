//! How a node is, as JSON.

use ocelli_consensus::{Network, U256};
use ocelli_program::output::Whole;
use ocelli_protocol::message::{
    InferenceStatus, NextRules, NodeStatus, Reachability, RulesStatus, StorageStatus, Traffic, TrafficStatus,
};
use serde::Serialize;
use utoipa::ToSchema;

/// How a node is, by its own word.
#[derive(Debug, Serialize, ToSchema)]
pub struct StatusFields {
    #[schema(example = "testnet")]
    network: String,
    /// The hash of the first block, in hexadecimal, as all hashes.
    genesis: String,
    /// Program and version.
    agent: String,
    peer_id: String,
    /// Its multiaddresses on the internet.
    addresses: Vec<String>,
    reachability: ReachabilityFields,
    /// The node's clock, in milliseconds since 1970.
    time: u64,
    /// Nodes that are connected.
    peers: u32,
    /// Those of them that have dialled this node.
    inbound_peers: u32,
    /// Of the tip.
    height: u64,
    tip: String,
    /// Seconds since 1970, by its miner's word.
    tip_time: u64,
    /// Of the header with most work.
    header_height: u64,
    /// Up to the tip, in hexadecimal.
    #[schema(example = "0x1a2b")]
    work: String,
    state_root: String,
    /// What sync does, for people.
    sync: String,
    /// For people.
    waiting_for: Vec<String>,
    mempool_transactions: u64,
    /// Attachments included.
    mempool_bytes: u64,
    /// What runs the models.
    device: String,
    /// Whether the device that the node started with gave a wrong answer and is no longer used.
    disabled_device: bool,
    tasks_per_second: f64,
    inference: InferenceFields,
    traffic: TrafficFields,
    /// Block hashes tried in a second.
    hash_rate: u64,
    /// Since the node started.
    mined_blocks: u64,
    /// How many of them are off the best chain.
    stale_blocks: u64,
    /// The address for which it mines, if it does.
    mining: Option<String>,
    uptime_seconds: u64,
    storage: StorageFields,
    rules: RulesFields,
    /// The latest blocks that it has refused.
    invalid: Vec<InvalidFields>,
    /// False: nothing of this is proven.
    checked: bool,
}

/// Whether others can dial a node.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum ReachabilityFields {
    /// Nobody has tried yet.
    Unknown,
    /// Directly.
    Public {
        /// Multiaddresses.
        at: Vec<String>,
    },
    /// Through relays.
    Relayed {
        /// Multiaddresses.
        at: Vec<String>,
    },
    Unreachable {
        /// What to do about it, for people.
        advice: String,
    },
}

/// What inference does, and has done since the node started.
#[derive(Debug, Serialize, ToSchema)]
pub struct InferenceFields {
    /// Pictures that wait.
    queued: u64,
    computed: u64,
    /// Answered from earlier results.
    cached: u64,
    /// That joined the same picture, which waited already.
    joined: u64,
    batches: u64,
    /// That pictures waited, added up.
    queue_microseconds: u64,
    /// That batches took, added up.
    device_microseconds: u64,
    /// Pictures of a batch.
    mean_batch: f64,
    /// That a picture waited.
    mean_queue_ms: f64,
    /// That a batch took.
    mean_device_ms: f64,
}

/// Bytes exchanged with peers since the node started, by what they were for.
#[derive(Debug, Serialize, ToSchema)]
struct TrafficFields {
    blocks: BothWays,
    announcements: BothWays,
    transactions: BothWays,
    sync: BothWays,
    other: BothWays,
    /// Transactions received from nodes.
    relayed: u64,
    /// Bytes of their attachments.
    relayed_attachments: u64,
}

#[derive(Debug, Serialize, ToSchema)]
struct BothWays {
    received: u64,
    sent: u64,
}

/// What a node keeps of old blocks.
#[derive(Debug, Serialize, ToSchema)]
pub struct StorageFields {
    disk_bytes: u64,
    /// The lowest block of which attachments are kept.
    attachments_from: u64,
    /// The lowest block of which bodies are kept.
    bodies_from: u64,
    /// The lowest block whose answers the node has checked itself.
    answers_from: u64,
}

/// The rules that a node follows.
#[derive(Debug, Serialize, ToSchema)]
struct RulesFields {
    /// Of the next block.
    version: u32,
    /// The next change.
    next: Option<NextRulesFields>,
    /// Why the node has to be updated.
    update: Option<String>,
}

/// A change of rules to come.
#[derive(Debug, Serialize, ToSchema)]
struct NextRulesFields {
    /// The first block that follows them: any.
    #[schema(value_type = String)]
    height: Whole,
    version: u32,
}

/// A block that was refused.
#[derive(Debug, Serialize, ToSchema)]
struct InvalidFields {
    hash: String,
    height: u64,
    /// The rule that it breaks.
    reason: String,
}

impl StatusFields {
    /// The fields of a status; addresses as this network writes them.
    pub fn of(status: &NodeStatus, network: &Network) -> Self {
        let NodeStatus { identity, tip, peers, mempool, device, mining, sync, .. } = status;
        let invalid = status.invalid.iter().map(|block| InvalidFields {
            hash: block.hash.to_string(),
            height: block.height,
            reason: block.reason.clone(),
        });
        Self {
            network: identity.network.clone(),
            genesis: identity.genesis.to_string(),
            agent: identity.agent.clone(),
            peer_id: identity.peer_id.clone(),
            addresses: identity.addresses.clone(),
            reachability: ReachabilityFields::of(&status.reachability),
            time: status.time,
            peers: peers.total(),
            inbound_peers: peers.inbound,
            height: tip.height,
            tip: tip.hash.to_string(),
            tip_time: tip.time,
            header_height: sync.header_height,
            work: work(tip.work),
            state_root: tip.state_root.to_string(),
            sync: sync.state.clone(),
            waiting_for: sync.waiting_for.clone(),
            mempool_transactions: mempool.transactions,
            mempool_bytes: mempool.bytes,
            device: device.name.clone(),
            disabled_device: device.disabled,
            tasks_per_second: tasks_per_second(status),
            inference: InferenceFields::of(&status.inference),
            traffic: TrafficFields::of(&status.traffic),
            hash_rate: mining.hash_rate,
            mined_blocks: mining.found,
            stale_blocks: mining.stale,
            mining: mining.address.map(|address| address.to_text(&network.parameters.address_prefix)),
            uptime_seconds: status.uptime_seconds,
            storage: StorageFields::of(&status.storage),
            rules: RulesFields::of(&status.rules),
            invalid: invalid.collect(),
            checked: false,
        }
    }
}

impl RulesFields {
    fn of(status: &RulesStatus) -> Self {
        let next = status.next.map(|NextRules { height, version }| NextRulesFields { height: Whole(height), version });
        Self { version: status.version, next, update: status.update.clone() }
    }
}

impl ReachabilityFields {
    fn of(reachability: &Reachability) -> Self {
        match reachability {
            Reachability::Unknown => Self::Unknown,
            Reachability::Public(at) => Self::Public { at: at.clone() },
            Reachability::Relayed(at) => Self::Relayed { at: at.clone() },
            Reachability::Unreachable { advice } => Self::Unreachable { advice: advice.clone() },
        }
    }
}

impl StorageFields {
    /// The fields of what is kept.
    pub fn of(storage: &StorageStatus) -> Self {
        let StorageStatus { disk_bytes, attachments_from, bodies_from, answers_from } = *storage;
        Self { disk_bytes, attachments_from, bodies_from, answers_from }
    }
}

impl TrafficFields {
    fn of(status: &TrafficStatus) -> Self {
        let TrafficStatus { blocks, announcements, transactions, sync, other, relayed, relayed_attachments } = *status;
        let [blocks, announcements, transactions, sync, other] = [blocks, announcements, transactions, sync, other]
            .map(|Traffic { received, sent }| BothWays { received, sent });
        Self { blocks, announcements, transactions, sync, other, relayed, relayed_attachments }
    }
}

impl InferenceFields {
    /// The fields of what was run.
    pub fn of(status: &InferenceStatus) -> Self {
        let Means { batch, queue_ms, device_ms } = Means::of(status);
        let InferenceStatus { queued, computed, cached, joined, batches, queue_microseconds, device_microseconds } =
            *status;
        Self {
            queued,
            computed,
            cached,
            joined,
            batches,
            queue_microseconds,
            device_microseconds,
            mean_batch: batch,
            mean_queue_ms: queue_ms,
            mean_device_ms: device_ms,
        }
    }
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
    use serde_json::{json, to_value};

    use super::*;

    /// A schedule may name any height, as `network show` says it.
    #[test]
    fn the_height_of_the_next_rules_is_a_string_of_digits() {
        let network = Network::builtin("local").unwrap();
        for height in [7, u64::MAX] {
            let next = Some(NextRules { height, version: 2 });
            let status = NodeStatus { rules: RulesStatus { next, ..RulesStatus::default() }, ..NodeStatus::default() };
            let expected = json!({ "height": height.to_string(), "version": 2 });
            assert_eq!(to_value(StatusFields::of(&status, &network)).unwrap()["rules"]["next"], expected);
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
        let text = serde_json::to_string(&StatusFields::of(&status, &network)).unwrap();
        let first = |key: &str| text.split_once(&format!("\"{key}\":")).unwrap().1.chars().next().unwrap();
        assert_eq!((first("peers"), first("height")), ('1', '7'), "{text}");
    }
}
