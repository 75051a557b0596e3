//! What a node is started with.

use std::path::PathBuf;

use ocelli_consensus::{ModelId, Network};
use ocelli_model::{Backend, Model};

use crate::chain::{MissingAttachments, Prune};
use crate::clock::Clock;
use crate::error::NodeError;
use crate::inference::{InferenceLimits, facts_of};
use crate::network::{DEFAULT_INBOUND, Traversal};
use crate::pool::{FaucetConfig, Mining};
use crate::store::StoreOptions;

/// What a node is started with.
pub struct NodeConfig {
    /// The network to join.
    pub network: Network,
    /// The folder for the chain, the identity and `node.json`.
    pub data: PathBuf,
    /// Multiaddrs to listen on.
    pub listen: Vec<String>,
    /// Multiaddrs at which others reach the node, where it cannot find out itself.
    pub external: Vec<String>,
    /// Multiaddrs of the peers to ask first.
    pub bootstrap: Vec<String>,
    /// Whether to look for peers on the local network too.
    pub discovery: Discovery,
    /// How many others may connect, and how much memory that may take.
    pub capacity: Capacity,
    /// How to get through NATs and firewalls; unused where the node listens on loopback only.
    pub traversal: Traversal,
    /// What runs the models.
    pub backend: Box<dyn Backend>,
    /// Every model of the network; see [`models`].
    pub models: Vec<Model>,
    /// Bounds of the inference service.
    pub inference: InferenceLimits,
    /// Whom to mine for, and with how many threads.
    pub mining: Option<Mining>,
    /// What newcomers are given, and from which wallet.
    pub faucet: Option<FaucetConfig>,
    /// What is kept, and how much memory that may take.
    pub storage: Storage,
    /// What tells the time.
    pub clock: Clock,
}

/// What a node keeps on its disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct Storage {
    /// How much of the past; `None` keeps everything.
    pub prune: Option<Prune>,
    /// What becomes of deep blocks whose attachments nobody has any more.
    pub missing_attachments: MissingAttachments,
    /// How the store is opened.
    pub store: StoreOptions,
}

/// What a node takes on for others.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    /// Connections that others have dialled.
    pub inbound: u32,
    /// Memory of the process in bytes, above which there are no new connections; `None` is three quarters of the machine's.
    pub memory_bytes: Option<usize>,
}

impl Default for Capacity {
    fn default() -> Self {
        Self { inbound: DEFAULT_INBOUND, memory_bytes: None }
    }
}

/// Whether to look for peers on the local network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discovery {
    /// With mDNS, besides bootstrap peers and Kademlia.
    LocalNetwork,
    /// Only through bootstrap peers and Kademlia.
    BootstrapOnly,
}

/// The models that a network uses, from those that are built in.
///
/// # Errors
/// If one is not built in, or is not what the network says of it.
pub fn models(network: &Network) -> Result<Vec<Model>, NodeError> {
    let parameters = &network.parameters;
    let built_in: Vec<Model> =
        ocelli_model::zoo::names().iter().filter_map(|name| ocelli_model::zoo::get(name)).collect();
    let wanted = parameters.models.iter().map(|offered| {
        let model = built_in.iter().find(|model| ModelId(model.id().0) == offered.id);
        let model =
            model.ok_or_else(|| NodeError::ModelMissing { network: parameters.name.clone(), model: offered.id })?;
        let facts = facts_of(model);
        if facts == offered.facts {
            Ok(model.clone())
        } else {
            let (found, expected) = (format!("{facts:?}"), format!("{:?}", offered.facts));
            Err(NodeError::ModelDiffers { network: parameters.name.clone(), model: offered.id, found, expected })
        }
    });
    wanted.collect()
}
