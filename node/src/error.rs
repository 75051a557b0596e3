//! Why a node cannot start, or ended.

use std::path::PathBuf;

use crate::inference::InferenceError;
use crate::network::NetworkError;
use crate::store::StoreError;

/// Why a node cannot start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The device that was asked for.
    #[error(transparent)]
    Device(#[from] ocelli_model::BackendError),
    /// The device or the models.
    #[error(transparent)]
    Inference(#[from] InferenceError),
    /// A file in the data folder.
    #[error("cannot use {}: check that you may read and write it, and that the disk has room", path.display())]
    File { path: PathBuf, source: std::io::Error },
    /// The system allows fewer open files than connections need.
    #[error(
        "found a limit of {found} open files, expected {expected} for --max-inbound {inbound}: raise it, as with `ulimit -n \
         {expected}` or LimitNOFILE= of systemd, or lower --max-inbound"
    )]
    OpenFiles {
        /// The highest limit that the process may give itself.
        found: u64,
        /// What is needed.
        expected: u64,
        /// For so many connections.
        inbound: u32,
    },
    /// The node's own identity is damaged.
    #[error("{} is damaged: expected 32 bytes; delete it, and the node gets a new peer id", path.display())]
    Identity { path: PathBuf },
    #[error("{} is damaged: expected 64 hexadecimal digits; delete it, and the API gets a new token", path.display())]
    Token { path: PathBuf },
    #[error(
        "others than its owner can use {} (mode {mode:04o}): run `chmod 600` on it, and delete it if they may have read it", path.display()
    )]
    TokenReadable { path: PathBuf, mode: u32 },
    #[error("cannot listen for HTTP at {address}: name another address with --api, or stop what listens there")]
    Api { address: std::net::SocketAddr, source: std::io::Error },
    /// The model is here, and does not fit what the network says of it.
    #[error("the network {network} says that model {model} has {expected}, it has {found}: the network file is wrong")]
    ModelDiffers {
        /// The network's name.
        network: String,
        /// The model's id.
        model: ocelli_consensus::ModelId,
        /// What the model has.
        found: String,
        /// What the network says.
        expected: String,
    },
    /// A defect in the node: what the mempool holds ready follows on the tip.
    #[error("the mempool's best transactions make no block on the tip; please report it, and start the node again")]
    Template(#[source] Box<ocelli_consensus::transition::ConnectError<StoreError>>),
    /// The system gives no thread.
    #[error("cannot start a thread")]
    Thread(#[from] std::io::Error),
    /// A defect in the node.
    #[error(
        "a thread of the node has panicked; the log above says where. What was confirmed is on disk: start the node again"
    )]
    Panicked,
}
