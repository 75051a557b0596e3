//! What a node is started with.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ocelli_consensus::{ModelId, Network};
use ocelli_model::{Backend, Model};

use crate::api;
use crate::chain::{MissingAttachments, Prune};
use crate::clock::Clock;
use crate::error::NodeError;
use crate::inference::{InferenceLimits, facts_of, model_id};
use crate::network::{DEFAULT_INBOUND, Traversal};
use crate::pool::{FaucetConfig, Mining};
use crate::store::StoreOptions;

/// What a node is started with.
pub struct NodeConfig {
    /// The network to join.
    pub network: Network,
    /// The folder for the chain, the identity and `node.json`.
    pub data: PathBuf,
    /// Where it listens, and whom it asks first.
    pub addresses: Addresses,
    /// Whether to look for peers on the local network too.
    pub discovery: Discovery,
    /// How many others may connect, and how much memory that may take.
    pub capacity: Capacity,
    /// How to get through NATs and firewalls; unused where the node listens on loopback only.
    pub traversal: Traversal,
    /// What runs the models.
    pub backend: Box<dyn Backend>,
    /// The network's models that are built in; see [`models`].
    pub models: Vec<Model>,
    /// Models of its genesis that are not built in, to be kept with the chain; see [`is_of_genesis`]. Others are fetched from peers.
    pub files: Vec<Model>,
    /// Bounds of the inference service.
    pub inference: InferenceLimits,
    /// Whom to mine for, and with how many threads.
    pub mining: Option<Mining>,
    /// What newcomers are given, and from which wallet.
    pub faucet: Option<FaucetConfig>,
    /// How clients are answered over HTTP, if they are.
    pub api: Option<api::Config>,
    /// What is kept, and how much memory that may take.
    pub storage: Storage,
    /// What tells the time.
    pub clock: Clock,
}

/// Multiaddrs of a node and of others.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    /// To listen on.
    pub listen: Vec<String>,
    /// At which others reach the node, where it cannot find out itself.
    pub external: Vec<String>,
    /// The peers to ask first.
    pub bootstrap: Vec<String>,
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

/// The models that a network has from genesis on and that are built in.
///
/// # Errors
/// If one is not what the network says of it.
pub fn models(network: &Network) -> Result<Vec<Model>, NodeError> {
    let built_in = ocelli_model::zoo::names().into_iter().filter_map(ocelli_model::zoo::get);
    let by_id: BTreeMap<ModelId, Model> = built_in.map(|model| (model_id(&model), model)).collect();
    let offered = network.parameters.models.iter().filter_map(|offered| by_id.get(&offered.id).cloned());
    offered.map(|model| is_of_genesis(network, &model).map(|_| model)).collect()
}

/// Whether a network has a model from genesis on.
///
/// # Errors
/// If it does, and the model is not what the network says of it.
pub fn is_of_genesis(network: &Network, model: &Model) -> Result<bool, NodeError> {
    let id = model_id(model);
    let Some(expected) = network.parameters.genesis_facts(&id) else { return Ok(false) };
    let found = facts_of(model);
    if found == expected {
        return Ok(true);
    }
    let (network, found, expected) = (network.parameters.name.clone(), format!("{found:?}"), format!("{expected:?}"));
    Err(NodeError::ModelDiffers { network, model: id, found, expected })
}
