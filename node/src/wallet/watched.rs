//! Watch-only wallets: an address in a file, whose key is elsewhere.

use std::path::Path;

use ocelli_consensus::Address;

use super::{WalletError, read_bounded, write_new};

const PREFIX: &str = "Ocelli watch-only address ";

/// Writes the file of an address, given as its text on some network. It never replaces another.
///
/// # Errors
/// [`WalletError::Exists`], [`WalletError::Write`].
pub fn write_watched(path: &Path, address: &str) -> Result<(), WalletError> {
    write_new(path, format!("{PREFIX}{address}\n").as_bytes())
}

/// Reads the file of an address. The prefix of the network that it was written on does not matter: a key has one account on each.
///
/// # Errors
/// [`WalletError::Missing`], [`WalletError::Read`], [`WalletError::NotWatched`].
pub fn read_watched(path: &Path) -> Result<Address, WalletError> {
    let bytes = read_bounded(path).map_err(|source| WalletError::reading(path, source))?;
    let text = String::from_utf8_lossy(&bytes);
    let not_watched = || WalletError::NotWatched { path: path.into() };
    let address = text.strip_prefix(PREFIX).ok_or_else(not_watched)?.trim();
    let (network, _) = address.rsplit_once('1').ok_or_else(not_watched)?;
    Address::from_text(address, network).map_err(|_| not_watched())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_kept_and_anything_else_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wallets/field.address");
        assert!(matches!(read_watched(&path), Err(WalletError::Missing { .. })));
        write_watched(&path, &Address([7; 20]).to_text("toc")).unwrap();
        assert_eq!(read_watched(&path).unwrap(), Address([7; 20]));
        let taken = write_watched(&path, &Address([8; 20]).to_text("toc"));
        assert!(matches!(taken, Err(WalletError::Exists { .. })));

        for text in ["", "toc1qqqq", "Ocelli watch-only address ", "Ocelli watch-only address toc1qqqq\n", "\u{fffd}"] {
            std::fs::write(&path, text).unwrap();
            assert!(matches!(read_watched(&path), Err(WalletError::NotWatched { .. })), "{text}");
        }
    }
}
