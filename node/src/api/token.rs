//! The file `api-token` of the data folder: whoever can read it may have the node work and pay. Unlike the cookie it stays, so
//! that clients can keep it.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use ocelli_program::output_file::{self, Readers};

use crate::error::NodeError;

/// The file's name in the data folder.
pub const TOKEN_FILE: &str = "api-token";

/// Bytes of a token, in hexadecimal.
const DIGITS: usize = 64;

/// Reads the token, or makes one, readable by its owner only (mode 0600).
pub(super) fn read_or_make(data: &Path) -> Result<String, NodeError> {
    let path = data.join(TOKEN_FILE);
    let file = |source| NodeError::File { path: path.clone(), source };
    match File::open(&path) {
        Ok(opened) => {
            if let Some(mode) = others_read(&opened).map_err(file)? {
                return Err(NodeError::TokenReadable { path, mode });
            }
            let mut text = String::new();
            opened.take(DIGITS as u64 + 2).read_to_string(&mut text).map_err(file)?;
            let token = text.trim_end();
            if token.len() != DIGITS || !token.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(NodeError::Token { path });
            }
            Ok(token.to_owned())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut bytes = [0; DIGITS / 2];
            getrandom::fill(&mut bytes).map_err(|error| file(io::Error::other(error)))?;
            let token = hex::encode(bytes);
            fs::create_dir_all(data).map_err(file)?;
            output_file::write(&path, format!("{token}\n").as_bytes(), Readers::Owner).map_err(file)?;
            Ok(token)
        }
        Err(error) => Err(file(error)),
    }
}

/// The permissions of a file that others than its owner can read.
#[cfg(unix)]
fn others_read(file: &File) -> io::Result<Option<u32>> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = file.metadata()?.permissions().mode() & 0o7777;
    Ok((mode & 0o077 != 0).then_some(mode))
}

#[cfg(not(unix))]
fn others_read(_: &File) -> io::Result<Option<u32>> {
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_stays_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let token = read_or_make(folder.path()).unwrap();
        assert_eq!(token.len(), DIGITS);
        assert_eq!(read_or_make(folder.path()).unwrap(), token, "it stays");
        let path = folder.path().join(TOKEN_FILE);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            mode(0o640);
            let error = read_or_make(folder.path()).unwrap_err();
            assert!(matches!(error, NodeError::TokenReadable { mode: 0o640, .. }), "{error}");
            mode(0o600);
        }
        for text in ["", "short", &"g".repeat(DIGITS), &"a".repeat(DIGITS + 2)] {
            fs::write(&path, text).unwrap();
            let error = read_or_make(folder.path()).unwrap_err();
            assert!(matches!(error, NodeError::Token { .. }), "{text}: {error}");
        }
    }
}
