//! How people name a block.

use std::fmt;
use std::str::FromStr;

use ocelli_consensus::BlockHash;
use ocelli_protocol::message::BlockId;

/// A height or a hash.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockName(pub(crate) BlockId);

/// A text that names no block.
#[derive(Debug, thiserror::Error)]
#[error("expected a height, such as 7, or a block hash of 64 hexadecimal digits")]
pub struct BlockNameError;

impl FromStr for BlockName {
    type Err = BlockNameError;

    fn from_str(text: &str) -> Result<Self, BlockNameError> {
        // A hash first: 64 digits may all be decimal, and no height is that long.
        if let Ok(hash) = text.parse::<BlockHash>() {
            return Ok(Self(BlockId::Hash(hash)));
        }
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(height) if is_number => Ok(Self(BlockId::Height(height))),
            _ => Err(BlockNameError),
        }
    }
}

impl fmt::Display for BlockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            BlockId::Height(height) => write!(f, "block at height {height}"),
            BlockId::Hash(hash) => write!(f, "block {hash}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_named_by_height_or_hash() {
        let parse = |text: &str| text.parse::<BlockName>().ok().map(|name| name.0);
        assert_eq!(parse("0"), Some(BlockId::Height(0)));
        assert_eq!(parse(&u64::MAX.to_string()), Some(BlockId::Height(u64::MAX)));
        assert_eq!(parse(&"11".repeat(32)), Some(BlockId::Hash(BlockHash([0x11; 32]))));
        for text in ["", "-1", "+1", "1.5", "seven", "18446744073709551616", "abcd"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
