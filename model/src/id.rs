//! What names a model: the hash of its file.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// The tag of a model's hash, in the construction of BIP-340.
const TAG: &[u8] = b"ocelli/model";

/// A model's id, `SHA256(SHA256(tag) || SHA256(tag) || file bytes)` with the tag `ocelli/model`. Prints as lower-case hex
/// of the 32 bytes in order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelId(pub [u8; 32]);

impl ModelId {
    /// The id of the model whose file holds these bytes. Does not look into them.
    pub fn of(file: &[u8]) -> Self {
        let tag = Sha256::digest(TAG);
        Self(Sha256::new().chain_update(tag).chain_update(tag).chain_update(file).finalize().into())
    }

    /// The 32 bytes, in order.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// A text that is not a model's id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a model id: expected 64 hexadecimal digits")]
pub struct ParseModelIdError {
    /// What was found, at most 80 characters of it.
    pub text: String,
}

impl FromStr for ModelId {
    type Err = ParseModelIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| ParseModelIdError { text: text.chars().take(80).collect() })?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModelId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_is_the_tagged_hash() {
        // python3: t=sha256(b"ocelli/model").digest(); sha256(t+t+b"abc").hexdigest()
        let id = ModelId::of(b"abc");
        assert_eq!(id.to_string(), EXPECTED);
        assert_eq!(EXPECTED.parse(), Ok(id));
        assert_eq!("xy".parse::<ModelId>(), Err(ParseModelIdError { text: "xy".into() }));
    }

    const EXPECTED: &str = "73bc60a47906ff6c12c345ed0d5b154027935cf09cfb95283f08868ed54518ef";
}
