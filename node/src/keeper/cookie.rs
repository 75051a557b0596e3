//! The file `cookie` of the data folder: whoever can read it may command the node, as with Bitcoin Core's `.cookie`.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use ocelli_program::output_file::{self, Readers};
use ocelli_protocol::message::Cookie;

use crate::error::NodeError;

/// The file's name in the data folder.
const NAME: &str = "cookie";

/// Makes a new cookie and writes it down in hexadecimal, readable by its owner only (mode 0600).
pub fn make(data: &Path) -> Result<Cookie, NodeError> {
    let file = |source| NodeError::File { path: data.join(NAME), source };
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| file(io::Error::other(error)))?;
    let text = format!("{}\n", hex::encode(bytes));
    output_file::write(&data.join(NAME), text.as_bytes(), Readers::Owner).map_err(file)?;
    Ok(Cookie(bytes))
}

/// Reads the cookie of the node that runs on a data folder.
///
/// # Errors
/// If there is none, it is not ours to read, or it holds something else.
pub fn read(data: &Path) -> io::Result<Cookie> {
    let mut text = String::new();
    File::open(data.join(NAME))?.take(100).read_to_string(&mut text)?;
    let mut bytes = [0; 32];
    hex::decode_to_slice(text.trim_end(), &mut bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("expected 64 hex digits: {error}")))?;
    Ok(Cookie(bytes))
}

/// Takes the file away: the node is no longer there.
pub(super) fn remove(data: &Path) {
    // It may never have been written.
    drop(fs::remove_file(data.join(NAME)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_read_back_and_only_its_owner_can() {
        let folder = tempfile::tempdir().unwrap();
        let cookie = make(folder.path()).unwrap();
        assert_eq!(read(folder.path()).unwrap(), cookie);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(folder.path().join(NAME)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_ne!(make(folder.path()).unwrap(), cookie, "each run has its own");
        for (text, kind) in [("", io::ErrorKind::InvalidData), ("zz", io::ErrorKind::InvalidData)] {
            fs::write(folder.path().join(NAME), text).unwrap();
            assert_eq!(read(folder.path()).unwrap_err().kind(), kind, "{text:?}");
        }
        remove(folder.path());
        assert_eq!(read(folder.path()).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
