//! WebP. Decoded by `image`; here an animation's first frame is held against the canvas.

use super::PictureError;

/// Refuses an animation without alpha whose first frame leaves a part of the canvas out: readers show black, white or the
/// file's background there.
pub(super) fn check(file: &[u8]) -> Result<(), PictureError> {
    const ALPHA: u8 = 0x10;
    let (Some(b"VP8X"), Some(header)) = (file.get(12..16), file.get(20..30)) else { return Ok(()) };
    let sides = |bytes: &[u8]| [[bytes[0], bytes[1], bytes[2]], [bytes[3], bytes[4], bytes[5]]];
    let Some(frame) = first_frame(file) else { return Ok(()) };
    if header[0] & ALPHA == 0 && sides(&header[4..]) != sides(&frame[6..]) {
        let found = "a WebP animation without alpha whose first frame is smaller than its canvas".to_owned();
        return Err(PictureError::Kind { found });
    }
    Ok(())
}

/// The place and size of the first frame of an animation: the first twelve bytes of its chunk.
fn first_frame(file: &[u8]) -> Option<&[u8; 12]> {
    let mut rest = file.get(12..)?;
    loop {
        let (name, after) = rest.split_first_chunk::<4>()?;
        let (length, body) = after.split_first_chunk()?;
        if name == b"ANMF" {
            return body.first_chunk();
        }
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        rest = body.get(length.checked_next_multiple_of(2)?..)?;
    }
}
