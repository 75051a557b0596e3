//! Where files are kept: `$XDG_DATA_HOME/ocelli`, else `~/.local/share/ocelli`.

use std::env;
use std::path::PathBuf;

use super::error::CommandError;
use crate::turn::Turns;

/// The folder of everything Ocelli keeps for this user.
///
/// # Errors
/// When neither `XDG_DATA_HOME` nor `HOME` names an absolute path.
pub fn base() -> Result<PathBuf, CommandError> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .map(|share| share.join("ocelli"))
        .ok_or_else(|| {
            CommandError::failed("found no home folder: neither XDG_DATA_HOME nor HOME is an absolute path")
                .with_hint("set HOME, or name the files: --data FOLDER for a node's data, --wallet FILE for the wallet")
        })
}

/// The default data folder of a network's node.
///
/// # Errors
/// As [`base`].
pub fn data(network: &str) -> Result<PathBuf, CommandError> {
    Ok(base()?.join(network))
}

/// The folder of the wallets that have names.
///
/// # Errors
/// As [`base`].
pub fn wallets() -> Result<PathBuf, CommandError> {
    Ok(base()?.join("wallets"))
}

/// Where programs of this user take turns with their keys.
pub fn turns() -> Turns {
    Turns::in_folder(base().ok().map(|base| base.join("turns")))
}
