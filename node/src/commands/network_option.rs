//! `--network NAME|FILE`: a network that is built in, or one of a file.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use ocelli_consensus::network::Network;

use super::error::{CommandError, Explain as _};

/// Bounds a network file: at 10,000 starting accounts one has about 1 MB.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Finds a network by name, or reads its file.
///
/// # Errors
/// For a name that is neither, with the names that are known; for a file that cannot be read or is no network.
pub fn resolve(name: &str) -> Result<Network, CommandError> {
    if let Some(network) = Network::builtin(name) {
        return Ok(network);
    }
    let path = Path::new(name);
    let looks_like_a_file = name.contains(['/', '.', '\\']);
    let text = match read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !looks_like_a_file => {
            let known: Vec<_> = Network::built_in_names().collect();
            return Err(CommandError::failed(format!(
                "found no network `{name}`, expected {} or a network file",
                known.join(", ")
            ))
            .with_hint(
                "give one of these names, or the path of a network file; docs/network.md describes such files",
            ));
        }
        result => result
            .context(|| format!("cannot read the network file {name}"))
            .hint(|| "check the path and that you may read it; expected a TOML file in UTF-8")?,
    };
    Network::from_toml(&text)
        .context(|| format!("the network file {name} is not valid"))
        .hint(|| "docs/network.md, \"A network of your own\", has every key and a whole example")
}

/// All networks that are built in.
pub fn built_in() -> Vec<Network> {
    Network::built_in_names().filter_map(Network::builtin).collect()
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("it has more than {MAX_FILE_BYTES} bytes")));
    }
    Ok(text)
}
