//! The one encoding: bincode 2.0.1 with fixed-width little-endian integers.
//!
//! u64 lengths, arrays without a prefix, u32 enum tags, no trailing bytes. A decode has a limit in bytes, so that a
//! length that a peer claims cannot make us allocate more than that.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian, standard};
use bincode::error::AllowedEnumVariants;

/// A value could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Longer than this kind of value may be.
    #[error("{found} bytes, at most {limit} expected")]
    TooLong {
        /// Bytes given.
        found: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Bytes are left over after the value.
    #[error("{0} bytes left over after the value")]
    TrailingBytes(usize),
    /// A choice that this program does not know.
    #[error("unknown {of} {found}")]
    UnknownTag {
        /// What is chosen there.
        of: &'static str,
        /// The tag given.
        found: u32,
    },
    /// Not an encoding of the value.
    #[error("malformed encoding: {0}")]
    Malformed(String),
}

/// No value on the wire or on disk is larger: the limit on what a decode may allocate.
pub const MAX_ENCODED: usize = 64 << 20;

fn config() -> Configuration<LittleEndian, Fixint, Limit<MAX_ENCODED>> {
    standard().with_fixed_int_encoding().with_limit::<MAX_ENCODED>()
}

/// The error of a decoder that meets a choice that it does not know; [`decode`] makes [`DecodeError::UnknownTag`] of it.
pub(crate) fn unknown_tag(of: &'static str, found: u32) -> bincode::error::DecodeError {
    const NONE: &AllowedEnumVariants = &AllowedEnumVariants::Allowed(&[]);
    bincode::error::DecodeError::UnexpectedVariant { type_name: of, allowed: NONE, found }
}

/// Encodes a value. All our types encode; only a value over [`MAX_ENCODED`] would not, and none is made.
pub fn encode<T: bincode::Encode>(value: &T) -> Vec<u8> {
    let config = standard().with_fixed_int_encoding();
    bincode::encode_to_vec(value, config).expect("our types hold nothing that bincode refuses, and a Vec always grows")
}

/// Decodes a value from all of `bytes`, of which there may be at most `limit`.
///
/// # Errors
/// [`DecodeError`], also when bytes are left over.
pub fn decode<T: bincode::Decode<()>>(bytes: &[u8], limit: usize) -> Result<T, DecodeError> {
    if bytes.len() > limit.min(MAX_ENCODED) {
        return Err(DecodeError::TooLong { found: bytes.len(), limit });
    }
    let (value, used) = bincode::decode_from_slice(bytes, config()).map_err(|error| match error {
        bincode::error::DecodeError::UnexpectedVariant { type_name, found, .. } => {
            DecodeError::UnknownTag { of: type_name, found }
        }
        other => DecodeError::Malformed(other.to_string()),
    })?;
    match bytes.len() - used {
        0 => Ok(value),
        left => Err(DecodeError::TrailingBytes(left)),
    }
}
