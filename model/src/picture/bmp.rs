//! BMP. Decoded by `image`; here what it shows otherwise than other readers is found and refused.

use super::PictureError;

const FILE_HEADER: usize = 14;

/// Refuses pixels that lie in the headers, and run lengths that leave pixels out: some readers show the first colour of
/// the palette there, others black or nothing.
pub(super) fn check(file: &[u8]) -> Result<(), PictureError> {
    // What ends in its headers has its error from the decoder.
    let (Some(pixels), Some(header)) = (number(file, 10), number(file, FILE_HEADER)) else { return Ok(()) };
    if pixels < FILE_HEADER + header {
        return Err(PictureError::Kind { found: "a BMP whose pixels begin in its headers".to_owned() });
    }
    if header < 40 {
        return Ok(());
    }
    let (Some(width), Some(height), Some(bits), Some(compression)) =
        (number(file, 18), number(file, 22), number(file, 28), number(file, 30))
    else {
        return Ok(());
    };
    let runs = matches!((bits & 0xFFFF, compression), (8, 1) | (4, 2));
    if runs && file.get(pixels..).and_then(|data| covers(data, compression == 2, width, height)) == Some(false) {
        return Err(PictureError::Kind { found: "a BMP whose run lengths leave pixels out".to_owned() });
    }
    Ok(())
}

/// Whether run lengths give all pixels; `None` if the data end before they say so.
fn covers(mut data: &[u8], half_bytes: bool, width: usize, height: usize) -> Option<bool> {
    let (mut column, mut row) = (0, 0);
    while row < height {
        let (&[count, value], mut rest) = data.split_first_chunk()?;
        match (count, value) {
            (0, 0) if column < width => return Some(false),
            (0, 0) => (column, row) = (0, row + 1),
            (0, 1) => return Some(row + 1 == height && column >= width),
            (0, 2) => return Some(false),
            (0, count) => {
                let bytes = if half_bytes { usize::from(count).div_ceil(2) } else { usize::from(count) };
                rest = rest.get(bytes.next_multiple_of(2)..)?;
                column += usize::from(count);
            }
            (count, _) => column += usize::from(count),
        }
        data = rest;
    }
    Some(true)
}

fn number(file: &[u8], at: usize) -> Option<usize> {
    let bytes = file.get(at..)?.first_chunk()?;
    usize::try_from(u32::from_le_bytes(*bytes)).ok()
}
