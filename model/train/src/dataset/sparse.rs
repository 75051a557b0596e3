//! Members of tar archives that were written without their holes: formats 0.0, 0.1 and 1.0 of PAX headers (GNU tar manual,
//! appendix D, "Storing Sparse Files"). macOS's tar writes the last by itself. GNU tar's old format is the `tar` crate's
//! matter.

use std::io::{self, Read};

use tar::PaxExtensions;

/// The blocks of an archive.
const BLOCK: usize = 512;
/// Bounds the map of a file's data: two numbers a piece, and a piece has a block at least.
const MAX_MAP_BYTES: usize = 4 << 20;

/// A sparse member by its PAX header.
#[derive(Debug, PartialEq, Eq)]
pub struct Sparse {
    /// The file's name, where the member has a made-up one.
    pub name: Option<String>,
    /// The file's bytes, holes included.
    pub size: u64,
    /// Offset and length of each piece of data; none where the map comes before the data.
    map: Option<Vec<(u64, u64)>>,
}

impl Sparse {
    /// What a member's PAX header says; none if the member is not sparse.
    ///
    /// # Errors
    /// If the header contradicts itself or is of another format.
    pub fn of(extensions: PaxExtensions<'_>) -> io::Result<Option<Self>> {
        let (mut name, mut size, mut version, mut listed, mut offsets) = (None, None, None, None, Vec::new());
        // Values may hold anything, line feeds too, after which the rest of a value looks like a broken record.
        for record in extensions.flatten() {
            let Ok(key) = record.key() else { continue };
            let text = String::from_utf8_lossy(record.value_bytes());
            match key {
                "GNU.sparse.name" => name = Some(text.into_owned()),
                "GNU.sparse.size" | "GNU.sparse.realsize" => size = Some(number(&text)?),
                "GNU.sparse.major" => version = Some(number(&text)?),
                "GNU.sparse.map" => {
                    listed = Some(text.split_terminator(',').map(number).collect::<io::Result<Vec<_>>>()?)
                }
                "GNU.sparse.offset" | "GNU.sparse.numbytes" => offsets.push(number(&text)?),
                "SCHILY.realsize" => return Err(broken("it is sparse in the format of star, which is not read")),
                _ => {}
            }
        }
        let map = match (version, listed) {
            (Some(1), _) => None,
            (Some(other), _) if other > 1 => {
                return Err(broken(&format!("it is sparse in format {other}, expected GNU's 0.0, 0.1 or 1.0")));
            }
            (_, Some(listed)) => Some(pairs(&listed)?),
            (_, None) if size.is_some() => Some(pairs(&offsets)?),
            (_, None) => return Ok(None),
        };
        let size = size.ok_or_else(|| broken("it is sparse and its size is missing"))?;
        Ok(Some(Self { name, size, map }))
    }

    /// Puts the holes back. The caller bounds the size.
    ///
    /// # Errors
    /// If the map reaches beyond the size, or the data ends early.
    pub fn expand(self, source: &mut impl Read) -> io::Result<Vec<u8>> {
        let map = match self.map {
            Some(map) => map,
            None => read_map(source)?,
        };
        let mut bytes = vec![0; usize::try_from(self.size).map_err(io::Error::other)?];
        for (offset, length) in map {
            let end = offset.checked_add(length).filter(|end| *end <= self.size);
            let end = end.ok_or_else(|| broken("its map of data reaches beyond its size"))?;
            source.read_exact(&mut bytes[offset as usize..end as usize])?;
        }
        Ok(bytes)
    }
}

/// Reads the map of format 1.0: the number of pieces, then offset and length of each, a number a line, filled up to whole
/// blocks.
fn read_map(source: &mut impl Read) -> io::Result<Vec<(u64, u64)>> {
    let (mut text, mut numbers, mut start) = (Vec::new(), Vec::new(), 0);
    loop {
        if let Some(end) = text[start..].iter().position(|byte| *byte == b'\n') {
            numbers.push(number(&String::from_utf8_lossy(&text[start..start + end]))?);
            start += end + 1;
        } else if text.len() < MAX_MAP_BYTES {
            let mut block = [0; BLOCK];
            source.read_exact(&mut block)?;
            text.extend(block);
        } else {
            return Err(broken("its map of data is too long"));
        }
        if let Some(pieces) = numbers.first()
            && (numbers.len() as u64 - 1) / 2 == *pieces
        {
            return pairs(&numbers[1..]);
        }
    }
}

fn pairs(numbers: &[u64]) -> io::Result<Vec<(u64, u64)>> {
    let (pairs, rest) = numbers.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(broken("its map of data ends with an offset without a length"));
    }
    Ok(pairs.iter().map(|[offset, length]| (*offset, *length)).collect())
}

fn number(text: &str) -> io::Result<u64> {
    text.parse().map_err(|_| broken(&format!("its map of data holds {text:?}, expected a number")))
}

fn broken(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
