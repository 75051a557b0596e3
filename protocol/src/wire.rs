//! Decoding with bounds. bincode's own `Vec` reserves the length that a peer claims before it has seen the elements; these
//! refuse a length above the limit of its kind, and grow only with bytes that are really there.

use bincode::de::Decoder;
use bincode::de::read::Reader;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use ocelli_consensus::U256;

/// Bytes reserved ahead of reading them.
const CHUNK: usize = 64 << 10;

/// Reads a u64 length and as many elements, at most `limit`.
pub(crate) fn list<D: Decoder, T>(
    decoder: &mut D,
    what: &str,
    limit: usize,
    mut item: impl FnMut(&mut D) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let length = length(decoder, what, limit)?;
    let mut items = Vec::new();
    for _ in 0..length {
        items.push(item(decoder)?);
    }
    Ok(items)
}

/// Reads a u64 length and as many bytes, at most `limit`.
pub(crate) fn bytes<D: Decoder>(decoder: &mut D, what: &str, limit: usize) -> Result<Vec<u8>, DecodeError> {
    let length = length(decoder, what, limit)?;
    decoder.claim_bytes_read(length)?;
    let mut bytes = Vec::new();
    while bytes.len() < length {
        let start = bytes.len();
        bytes.resize(length.min(start + CHUNK), 0);
        decoder.reader().read(&mut bytes[start..])?;
    }
    Ok(bytes)
}

/// Reads a text in UTF-8 of at most `limit` bytes.
pub(crate) fn text<D: Decoder>(decoder: &mut D, what: &str, limit: usize) -> Result<String, DecodeError> {
    String::from_utf8(bytes(decoder, what, limit)?).map_err(|error| DecodeError::Utf8 { inner: error.utf8_error() })
}

/// Reads a byte 0, or a byte 1 and a value.
pub(crate) fn optional<D: Decoder, T>(
    decoder: &mut D,
    item: impl FnOnce(&mut D) -> Result<T, DecodeError>,
) -> Result<Option<T>, DecodeError> {
    match u8::decode(decoder)? {
        0 => Ok(None),
        1 => Ok(Some(item(decoder)?)),
        tag => Err(DecodeError::OtherString(format!("{tag} where 0 for nothing or 1 for something is expected"))),
    }
}

/// Writes a 256-bit number as 32 bytes, little-endian.
pub(crate) fn encode_u256<E: Encoder>(number: &U256, encoder: &mut E) -> Result<(), EncodeError> {
    number.to_le_bytes::<32>().encode(encoder)
}

/// Reads what [`encode_u256`] wrote.
pub(crate) fn decode_u256<D: Decoder>(decoder: &mut D) -> Result<U256, DecodeError> {
    Ok(U256::from_le_bytes::<32>(Decode::decode(decoder)?))
}

/// The error for an enum tag without a meaning.
pub(crate) fn unknown_tag<T>(what: &str, tag: u32) -> Result<T, DecodeError> {
    Err(DecodeError::OtherString(format!("unknown {what} tag {tag}")))
}

/// Cuts a text to `limit` bytes, at a character.
pub(crate) fn shorten(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        let end = (0..=limit).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

fn length<D: Decoder>(decoder: &mut D, what: &str, limit: usize) -> Result<usize, DecodeError> {
    let found = u64::decode(decoder)?;
    match usize::try_from(found) {
        Ok(length) if length <= limit => Ok(length),
        _ => Err(DecodeError::OtherString(format!("{found} {what}, at most {limit} expected"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_at_characters() {
        for (text, limit, expected) in
            [("abc", 3, "abc"), ("abcd", 3, "abc"), ("aäb", 2, "a"), ("ä", 1, ""), ("", 0, "")]
        {
            assert_eq!(shorten(text.into(), limit), expected);
        }
    }
}
