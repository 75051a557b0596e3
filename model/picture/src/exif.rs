//! The one thing in EXIF data that changes a picture (CIPA DC-008, 4.6.5: tag 0x0112, a SHORT in the first directory).

/// 1 for upright, 2 to 8 for turned or mirrored; none if the data, which begin with TIFF's header, do not say.
pub(crate) fn orientation(data: &[u8]) -> Option<u8> {
    let big = match data.get(..4)? {
        b"MM\0*" => true,
        b"II*\0" => false,
        _ => return None,
    };
    let short = |bytes| if big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) };
    let long = |bytes| if big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
    let directory = data.get(usize::try_from(long(*data[4..].first_chunk()?)).ok()?..)?;
    let (count, entries) = directory.split_first_chunk()?;
    let entries = entries.as_chunks::<12>().0.iter().take(usize::from(short(*count)));
    for [tag0, tag1, kind0, kind1, n0, n1, n2, n3, value0, value1, ..] in entries {
        if short([*tag0, *tag1]) == 0x0112 && short([*kind0, *kind1]) == 3 && long([*n0, *n1, *n2, *n3]) == 1 {
            return u8::try_from(short([*value0, *value1])).ok().filter(|value| (1..=8).contains(value));
        }
    }
    None
}
