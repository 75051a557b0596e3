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

/// Writes a number in as few bytes as it needs: seven bits a byte, the lowest first, all but the last with the high bit set
/// (unsigned LEB128, as in Protocol Buffers).
pub(crate) fn encode_varint<E: Encoder>(mut number: u32, encoder: &mut E) -> Result<(), EncodeError> {
    while number >= 0x80 {
        (number as u8 | 0x80).encode(encoder)?;
        number >>= 7;
    }
    (number as u8).encode(encoder)
}

/// Reads what [`encode_varint`] wrote, and nothing else: a number has one encoding.
pub(crate) fn decode_varint<D: Decoder>(decoder: &mut D) -> Result<u32, DecodeError> {
    let mut number = 0u32;
    for shift in (0..=28).step_by(7) {
        let byte = u8::decode(decoder)?;
        let bits = u32::from(byte & 0x7f);
        if bits << shift >> shift != bits || (byte == 0 && shift > 0) {
            break;
        }
        number |= bits << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(DecodeError::OtherString("a number of more bytes than it needs, or above 32 bits".into()))
}

/// Writes a signed number as [`encode_varint`] does its double, or for one below zero its double's absolute value less one
/// (zigzag, as in Protocol Buffers), so that small numbers of either sign are short.
pub(crate) fn encode_signed<E: Encoder>(number: i32, encoder: &mut E) -> Result<(), EncodeError> {
    encode_varint(((number << 1) ^ (number >> 31)) as u32, encoder)
}

/// Reads what [`encode_signed`] wrote.
pub(crate) fn decode_signed<D: Decoder>(decoder: &mut D) -> Result<i32, DecodeError> {
    let number = decode_varint(decoder)?;
    Ok((number >> 1) as i32 ^ -((number & 1) as i32))
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

    /// A number behind its variable-length encoding, for the tests.
    #[derive(Debug, PartialEq, Eq)]
    struct Signed(i32);

    impl Encode for Signed {
        fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
            encode_signed(self.0, encoder)
        }
    }

    impl<C> Decode<C> for Signed {
        fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
            decode_signed(decoder).map(Self)
        }
    }

    fn read(bytes: &[u8]) -> Option<i32> {
        ocelli_consensus::codec::decode::<Signed>(bytes, 16).ok().map(|signed| signed.0)
    }

    #[test]
    fn small_numbers_are_short_and_each_has_one_encoding() {
        let rows: [(i32, &[u8]); 13] = [
            (0, &[0]),
            (-1, &[1]),
            (1, &[2]),
            (-64, &[0x7f]),
            (64, &[0x80, 1]),
            (300, &[0xd8, 4]),
            (510, &[0xfc, 7]),
            (-510, &[0xfb, 7]),
            (-8_192, &[0xff, 0x7f]),
            (8_192, &[0x80, 0x80, 1]),
            (1 << 24, &[0x80, 0x80, 0x80, 0x10]),
            (i32::MAX, &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i32::MIN, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ];
        for (number, bytes) in rows {
            assert_eq!(ocelli_consensus::codec::encode(&Signed(number)), bytes, "{number}");
            assert_eq!(read(bytes), Some(number));
        }
        let refused: [&[u8]; 6] = [
            &[],
            &[0x80],
            &[0x80, 0],
            &[0xff, 0x80, 0],
            &[0xff, 0xff, 0xff, 0xff, 0x1f],
            &[0x80, 0x80, 0x80, 0x80, 0x80, 0],
        ];
        for bytes in refused {
            assert_eq!(read(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn texts_are_cut_at_characters() {
        for (text, limit, expected) in
            [("abc", 3, "abc"), ("abcd", 3, "abc"), ("aäb", 2, "a"), ("ä", 1, ""), ("", 0, "")]
        {
            assert_eq!(shorten(text.into(), limit), expected);
        }
    }
}
