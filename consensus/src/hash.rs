//! SHA-256, tagged SHA-256 (BIP-340) and a type for each kind of hash.
//!
//! Hashes print as lower-case hex of their 32 bytes *in order*: what is printed is what is encoded. Bitcoin prints block
//! hashes reversed; we do not, so that every hash on a screen can be searched for in the bytes.

use std::cell::RefCell;
use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// SHA-256 of the parts, one after the other.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// `SHA256(SHA256(tag) || SHA256(tag) || data)`, the construction of BIP-340; `data` is the parts, one after the other.
pub fn tagged(tag: &'static str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = after_tag(tag);
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// SHA-256 once it has taken in `SHA256(tag) || SHA256(tag)`, one whole block. Two compressions less for each hash, as
/// BIP-340 has in mind; each thread remembers them for the few tags that there are.
fn after_tag(tag: &'static str) -> Sha256 {
    thread_local! {
        static KNOWN: RefCell<Vec<(&'static str, Sha256)>> = const { RefCell::new(Vec::new()) };
    }
    KNOWN.with_borrow_mut(|known| {
        if let Some((_, hasher)) = known.iter().find(|(name, _)| *name == tag) {
            return hasher.clone();
        }
        let hash = sha256(&[tag.as_bytes()]);
        let hasher = Sha256::new().chain_update(hash).chain_update(hash);
        known.push((tag, hasher.clone()));
        hasher
    })
}

/// The block hash: SHA-256 twice over the encoded header, as in Bitcoin. Takes any length.
pub fn block_hash(header: &[u8]) -> BlockHash {
    BlockHash(sha256(&[&sha256(&[header])]))
}

/// A text that is not the hex of 32 bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a {kind}: expected 64 hexadecimal digits")]
pub struct ParseHashError {
    /// What was asked for.
    pub kind: &'static str,
    /// What was found.
    pub text: String,
}

macro_rules! hash_types {
    ($($(#[$doc:meta])* $name:ident $kind:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, bincode::Encode, bincode::Decode)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The 32 bytes, in order.
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = ParseHashError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let mut bytes = [0; 32];
                hex::decode_to_slice(text, &mut bytes)
                    .map_err(|_| ParseHashError { kind: $kind, text: text.chars().take(80).collect() })?;
                Ok(Self(bytes))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

hash_types! {
    /// SHA-256d of a header; read as a little-endian number it is at most the target.
    BlockHash "block hash";
    /// Names a transaction whatever its signature: `H("ocelli/tx", unsigned || public key)`.
    TxId "transaction id";
    /// Names a transaction with its signature: `H("ocelli/wtx", txid || signature)`.
    WtxId "transaction hash (wtxid)";
    /// `H("ocelli/model", file bytes)`.
    ModelId "model id";
    /// `H("ocelli/attachment", bytes)`: names bytes that travel beside a transaction.
    AttachmentHash "attachment hash";
    /// `H("ocelli/upload", sender || model id)`: names the model that an upload will become, and tells nobody which.
    UploadHash "upload hash";
    /// `H("ocelli/parts", hash of the parts before || attachment hash of the part)` from part to part; zeros of none.
    PartsHash "hash of parts";
    /// `H("ocelli/logits", list of all logits)`.
    LogitsDigest "digest of logits";
    /// The root of one of the three trees that a header commits to.
    Root "root";
}

impl ModelId {
    /// Names a model by the bytes of its file.
    pub fn of(file: &[u8]) -> Self {
        Self(tagged("ocelli/model", &[file]))
    }
}

impl AttachmentHash {
    /// Names an attachment.
    pub fn of(bytes: &[u8]) -> Self {
        Self(tagged("ocelli/attachment", &[bytes]))
    }
}

impl PartsHash {
    /// The hash when one more part has come.
    #[must_use]
    pub fn with(self, part: AttachmentHash) -> Self {
        Self(tagged("ocelli/parts", &[&self.0, &part.0]))
    }
}

impl LogitsDigest {
    /// The digest of all logits that a model gives.
    pub fn of(logits: &[i32]) -> Self {
        let mut data = Vec::with_capacity(8 + 4 * logits.len());
        data.extend((logits.len() as u64).to_le_bytes());
        data.extend(logits.iter().flat_map(|logit| logit.to_le_bytes()));
        Self(tagged("ocelli/logits", &[&data]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Real Bitcoin headers: genesis, and block 100,000 (from the public chain). Bitcoin prints hashes reversed.
    #[test]
    fn block_hash_reproduces_bitcoin() {
        let cases = [
            (
                "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e\
                 67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c",
                "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f",
            ),
            (
                "0100000050120119172a610421a6c3011dd330d9df07b63616c2cc1f1cd00200000000006657a9252aacd5c0b2940996\
                 ecff952228c3067cc38d4885efb5a4ac4247e9f337221b4d4c86041b0f2b5710",
                "000000000003ba27aa200b1cecaad478d2b00432346c3f1f3986da1afd33e506",
            ),
        ];
        for (header, hash) in cases {
            let mut bytes = block_hash(&hex::decode(header).unwrap()).0;
            bytes.reverse();
            assert_eq!(hex::encode(bytes), hash);
        }
    }

    /// BIP-340's tag "BIP0340/challenge" over nothing, computed with Python's hashlib:
    /// `t=sha256(b'BIP0340/challenge').digest(); sha256(t+t+b'abc').hexdigest()`
    #[test]
    fn tagged_is_bip340() {
        let tag = sha256(&[b"BIP0340/challenge"]);
        assert_eq!(tagged("BIP0340/challenge", &[b"a", b"bc"]), sha256(&[&tag, &tag, b"abc"]));
        assert_eq!(hex::encode(tag), "7bb52d7a9fef58323eb1bf7a407db382d2f3f2d81bb1224f49fe518f6d48d37c");
    }

    #[test]
    fn hashes_print_in_byte_order() {
        let mut bytes = [0; 32];
        bytes[0] = 0xab;
        let hash = TxId(bytes);
        assert!(hash.to_string().starts_with("ab00"));
        assert_eq!(hash.to_string().parse::<TxId>().unwrap(), hash);
        assert_eq!("xyz".parse::<TxId>().unwrap_err().kind, "transaction id");
    }
}
