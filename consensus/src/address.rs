//! Addresses: 20 bytes, written as Bech32m (BIP-350).

use std::fmt;

use bech32::primitives::decode::{CheckedHrpstring, CheckedHrpstringError};
use bech32::{Bech32m, Hrp};

use crate::hash::tagged;

/// The kind of address that a public key has; the first byte under the Bech32m text.
const TYPE_KEY: u8 = 0;

/// The first 20 bytes of `H("ocelli/address", public key)`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, bincode::Encode, bincode::Decode)]
pub struct Address(pub [u8; 20]);

/// A text that is not an address of this network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not Bech32m at all, or mistyped.
    #[error("'{text}' is not an address: {reason}; expected one like {prefix}1…")]
    NotBech32m {
        /// What was found.
        text: String,
        /// What Bech32m says of it.
        reason: String,
        /// The prefix expected.
        prefix: String,
    },
    /// An address of another network.
    #[error("'{text}' is an address of another network: its prefix is {found}, expected {expected}")]
    Prefix {
        text: String,
        /// Its prefix.
        found: String,
        /// This network's prefix.
        expected: String,
    },
    /// A type byte that this version does not know, or a wrong length.
    #[error("'{text}' is no address this version knows: type {kind}, {length} bytes; expected type 0 with 20 bytes")]
    Kind {
        text: String,
        /// Its type byte.
        kind: u8,
        /// Bytes after the type byte.
        length: usize,
    },
}

impl Address {
    /// The address of an Ed25519 public key.
    pub fn of(public_key: &[u8; 32]) -> Self {
        let hash = tagged("ocelli/address", &[public_key]);
        let mut bytes = [0; 20];
        bytes.copy_from_slice(&hash[..20]);
        Self(bytes)
    }

    /// Writes the address as Bech32m with a network's prefix (`oc`, on test networks `toc`).
    pub fn to_text(&self, prefix: &str) -> String {
        let mut payload = [TYPE_KEY; 21];
        payload[1..].copy_from_slice(&self.0);
        let hrp = Hrp::parse(prefix).expect("a network's address prefix is checked when the network is read");
        bech32::encode::<Bech32m>(hrp, &payload).expect("21 bytes are well below Bech32m's length limit")
    }

    /// Reads an address of the network with this prefix.
    ///
    /// # Errors
    /// [`AddressError`] says what is wrong with the text.
    pub fn from_text(text: &str, prefix: &str) -> Result<Self, AddressError> {
        let shown: String = text.chars().take(100).collect();
        let checked = CheckedHrpstring::new::<Bech32m>(text).map_err(|error| AddressError::NotBech32m {
            text: shown.clone(),
            reason: match error {
                // By itself it says no more than that parsing failed.
                CheckedHrpstringError::Parse(cause) => cause.to_string(),
                other => other.to_string(),
            },
            prefix: prefix.into(),
        })?;
        let found = checked.hrp().to_lowercase();
        if found != prefix {
            return Err(AddressError::Prefix { text: shown, found, expected: prefix.into() });
        }
        let payload: Vec<u8> = checked.byte_iter().collect();
        match payload.split_first() {
            Some((&TYPE_KEY, id)) if id.len() == 20 => {
                let mut bytes = [0; 20];
                bytes.copy_from_slice(id);
                Ok(Self(bytes))
            }
            Some((&kind, id)) => Err(AddressError::Kind { text: shown, kind, length: id.len() }),
            None => Err(AddressError::Kind { text: shown, kind: 0, length: 0 }),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({})", hex::encode(self.0))
    }
}

impl fmt::Display for Address {
    /// Hex of the 20 bytes: where no network is at hand to give the prefix.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_mistakes_are_named() {
        let address = Address::of(&[7; 32]);
        let text = address.to_text("toc");
        assert!(text.starts_with("toc1"));
        assert_eq!(Address::from_text(&text, "toc").unwrap(), address);
        assert!(matches!(Address::from_text(&text, "oc"), Err(AddressError::Prefix { .. })));
        assert!(matches!(Address::from_text("hello", "toc"), Err(AddressError::NotBech32m { .. })));
        let typo = text.replace(&text[8..9], if &text[8..9] == "q" { "p" } else { "q" });
        assert!(matches!(Address::from_text(&typo, "toc"), Err(AddressError::NotBech32m { .. })));
        let other = bech32::encode::<Bech32m>(Hrp::parse("toc").unwrap(), &[1; 21]).unwrap();
        assert!(matches!(Address::from_text(&other, "toc"), Err(AddressError::Kind { kind: 1, length: 20, .. })));
    }
}
