//! The small files of a data folder: the node's identity, and `node.json`, by which commands on this machine find it.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use ocelli_consensus::Network;
use ocelli_program::output_file::{self, Readers};

use crate::error::NodeError;

const IDENTITY: &str = "identity";
const NODE: &str = "node.json";

/// The secret key of the node's peer id, made on first use. It signs preliminary answers, and owns no credits.
pub fn identity(data: &Path) -> Result<[u8; 32], NodeError> {
    let path = data.join(IDENTITY);
    let file = |source| NodeError::File { path: path.clone(), source };
    fs::create_dir_all(data).map_err(file)?;
    match fs::read(&path) {
        Ok(bytes) => bytes.try_into().map_err(|_| NodeError::Identity { path: path.clone() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut secret = [0; 32];
            getrandom::fill(&mut secret).map_err(|error| file(io::Error::other(error)))?;
            output_file::write(&path, &secret, Readers::Owner).map_err(file)?;
            Ok(secret)
        }
        Err(error) => Err(file(error)),
    }
}

/// Writes `node.json`.
pub(super) fn write(
    data: &Path,
    peer_id: &str,
    addresses: &[String],
    network: &Network,
    api: Option<SocketAddr>,
) -> Result<(), NodeError> {
    let json = serde_json::json!({
        "peer_id": peer_id,
        "addresses": addresses,
        "network": network.parameters.name,
        "genesis": network.genesis_hash(),
        "pid": std::process::id(),
        "api": api.map(|api| format!("http://{api}")),
    });
    let text = format!("{json:#}\n");
    let path = data.join(NODE);
    output_file::write(&path, text.as_bytes(), Readers::Owner).map_err(|source| NodeError::File { path, source })
}

/// Takes `node.json` away: the node is no longer there.
pub(super) fn remove(data: &Path) {
    // It may never have been written.
    drop(fs::remove_file(data.join(NODE)));
}
