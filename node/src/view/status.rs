//! How the node itself is, for people.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ocelli_consensus::Address;
use ocelli_protocol::message::{
    DeviceStatus, InferenceStatus, InvalidBlock, MAX_ADDRESSES, MAX_INVALID, MempoolStatus, MiningStatus, NodeIdentity,
    NodeStatus, PeerCounts, Reachability, RulesStatus, StorageStatus, SyncStatus, TipStatus, Traffic,
};

use super::answers::next_rules;
use super::{CoreFigures, Views};
use crate::clock::Clock;
use crate::inference::InferenceHandle;
use crate::miner::HashRate;
use crate::network::{self, NetworkHandle, NetworkStatus};
use crate::store::StoreError;
use crate::traffic::Counted;

/// How this program names itself to others.
const AGENT: &str = concat!("ocelli/", env!("CARGO_PKG_VERSION"));

/// So far behind the tip's time this machine's clock may be before that is said: as far as a miner goes ahead.
const MAX_AHEAD_SECONDS: u64 = crate::chain::MAX_MINED_AHEAD_SECONDS;

/// What counts and measures, beside the views.
#[derive(Clone)]
pub struct Figures {
    /// Peers.
    pub network: NetworkHandle,
    /// Tasks.
    pub inference: InferenceHandle,
    /// Bytes.
    pub counted: Arc<Counted>,
    /// For whom is mined, and how fast.
    pub mining: Option<(Address, HashRate)>,
    /// When the node started.
    pub started: Instant,
    /// What time it is.
    pub clock: Clock,
}

impl Figures {
    /// How the node is.
    ///
    /// # Errors
    /// The store's.
    pub fn node_status(&self, views: &Views) -> Result<NodeStatus, StoreError> {
        let (view, core) = (views.view(), views.core());
        let (network, inference) = (self.network.status(), self.inference.status());
        let (chain, store) = (&view.chain, view.chain.rows.store());
        let kept = store.kept()?;
        // Those that only ask come and go, this request's own sender among them.
        let nodes = network.peers.iter().filter(|peer| !peer.light);
        let (inbound, dialled): (Vec<_>, Vec<_>) = nodes.partition(|peer| peer.inbound);
        let count = |peers: &[&network::PeerStatus]| u32::try_from(peers.len()).unwrap_or(u32::MAX);
        let invalid = store.verdicts(MAX_INVALID)?.into_iter();
        let height = chain.tip.height;
        let behind = core.best_height.saturating_sub(height);
        let status = NodeStatus {
            identity: NodeIdentity {
                agent: AGENT.into(),
                network: views.parameters().name.clone(),
                genesis: views.genesis,
                peer_id: network.peer.to_string(),
                addresses: network.public_addresses().take(MAX_ADDRESSES).cloned().collect(),
            },
            tip: TipStatus {
                height,
                hash: chain.tip.hash,
                time: chain.header.time,
                work: chain.work.0,
                state_root: chain.header.state,
            },
            peers: PeerCounts { dialled: count(&dialled), inbound: count(&inbound) },
            mempool: MempoolStatus { transactions: view.pool.pending.len() as u64, bytes: view.pool.bytes },
            device: DeviceStatus {
                name: inference.device.clone(),
                millitasks_per_second: (inference.tasks_per_second * 1000.0) as u64,
                disabled: inference.disabled.is_some(),
            },
            mining: MiningStatus {
                hash_rate: self.mining.as_ref().map_or(0, |(_, rate)| rate.get()),
                address: self.mining.as_ref().map(|(address, _)| *address),
                found: core.mined.0,
                stale: core.mined.1,
            },
            uptime_seconds: self.started.elapsed().as_secs(),
            sync: SyncStatus {
                header_height: core.best_height.max(height),
                state: if behind == 0 { "synced".into() } else { format!("{behind} blocks behind") },
                waiting_for: self.waiting_for(&core, chain.header.time, &network),
            },
            invalid: invalid
                .map(|verdict| InvalidBlock { hash: verdict.block, height: verdict.height, reason: verdict.reason })
                .collect(),
            rules: RulesStatus {
                version: views.network.schedule.version_at(height.saturating_add(1)),
                next: next_rules(&views.network, height),
                update: core.update.clone(),
            },
            storage: StorageStatus {
                disk_bytes: store.recent_disk_bytes()?,
                attachments_from: kept.attachments_from,
                bodies_from: kept.bodies_from,
                answers_from: kept.answers_from,
            },
            inference: InferenceStatus {
                queued: inference.queued as u64,
                computed: inference.computed,
                cached: inference.cached,
                joined: inference.joined,
                batches: inference.batches,
                queue_microseconds: microseconds(inference.queue_time),
                device_microseconds: microseconds(inference.device_time),
            },
            time: self.clock.unix_millis(),
            traffic: self.counted.status(Traffic {
                received: network.counters.gossip.bytes_received,
                sent: network.counters.gossip.bytes_published,
            }),
            reachability: match network.reachability {
                network::Reachability::Unknown => Reachability::Unknown,
                network::Reachability::Public(mut addresses) => {
                    addresses.retain(|address| network::is_on_the_internet(address));
                    Reachability::Public(addresses)
                }
                network::Reachability::Relayed(addresses) => Reachability::Relayed(addresses),
                network::Reachability::Unreachable { advice } => Reachability::Unreachable { advice },
            },
        };
        Ok(status.bounded())
    }

    /// Looks at what rises, so that its rates are of the last seconds whenever somebody asks.
    pub fn look(&self) {
        drop(self.inference.status());
        if let Some((_, rate)) = &self.mining {
            rate.get();
        }
    }

    fn waiting_for(&self, core: &CoreFigures, tip_time: u64, network: &NetworkStatus) -> Vec<String> {
        let mut waiting_for = Vec::new();
        if core.peers.is_empty() {
            waiting_for.push(why_alone(network));
        }
        waiting_for.extend(core.missing.map(|height| format!("the data of block {height}")));
        waiting_for.extend(core.files.first().map(|model| format!("the file of model {model}")));
        waiting_for.extend(core.checking.map(|height| format!("the checks of block {height}")));
        let ahead = tip_time.saturating_sub(self.clock.unix_seconds());
        if ahead > MAX_AHEAD_SECONDS {
            waiting_for.push(format!("the clock of this machine, which is {ahead} s behind the tip's time"));
        }
        waiting_for
    }
}

/// What a node without peers waits for, and what its owner can do.
fn why_alone(network: &NetworkStatus) -> String {
    match network.failures.last() {
        // Which address is for the owner alone, in the node's log.
        Some((_, failure)) => format!("peers: {failure}; {}", failure.advice()),
        None if network.known_addresses == 0 => {
            "peers: none is known; give others this node's address, or one of theirs to `ocelli peers add MULTIADDR`"
                .into()
        }
        None => format!("peers: {} addresses are known and being dialled", network.known_addresses),
    }
}

/// As far as 64 bits reach, which is half a million years.
fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
