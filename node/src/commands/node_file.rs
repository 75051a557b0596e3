//! `node.json`: how the other commands on this machine find the node of a data folder.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The file's name in the data folder.
pub const NAME: &str = "node.json";

/// Bounds what is read; a node with many addresses writes a few kilobytes.
const MAX_BYTES: u64 = 256 * 1024;

/// What a running node says of itself in its data folder.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
pub struct NodeFile {
    /// Its libp2p peer id.
    pub peer_id: String,
    /// Multiaddrs that it listens on, each with its peer id.
    pub addresses: Vec<String>,
    /// The network's name.
    pub network: String,
    /// The network's genesis hash, in hex.
    pub genesis: String,
    /// Its process id.
    pub pid: u32,
}

/// Why there is no use in a `node.json`.
#[derive(Debug, thiserror::Error)]
pub enum NodeFileError {
    /// It is not there, or not readable.
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It holds something else.
    #[error("{} is not what a node writes", path.display())]
    Syntax {
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
}

impl NodeFile {
    /// Reads the file in a data folder; `None` if there is none, so that no node runs there.
    ///
    /// # Errors
    /// [`NodeFileError`] when it is there but of no use.
    pub fn read(data: &Path) -> Result<Option<Self>, NodeFileError> {
        let path = data.join(NAME);
        let mut bytes = Vec::new();
        match File::open(&path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes)) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(source) => return Err(NodeFileError::Read { path, source }),
        }
        serde_json::from_slice(&bytes).map(Some).map_err(|source| NodeFileError::Syntax { path, source })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_node_that_says_where_it_is_is_found() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(NodeFile::read(folder.path()).unwrap(), None);
        let file = NodeFile {
            peer_id: "12D3KooW".into(),
            addresses: vec!["/ip4/127.0.0.1/tcp/4001/p2p/12D3KooW".into()],
            network: "local".into(),
            genesis: "ab".repeat(32),
            pid: 7,
        };
        fs::write(folder.path().join(NAME), serde_json::to_string_pretty(&file).unwrap()).unwrap();
        assert_eq!(NodeFile::read(folder.path()).unwrap(), Some(file));
        fs::write(folder.path().join(NAME), "{").unwrap();
        assert!(matches!(NodeFile::read(folder.path()).unwrap_err(), NodeFileError::Syntax { .. }));
    }
}
