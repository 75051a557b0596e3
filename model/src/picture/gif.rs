//! GIF89a. Decoded by `image`; here the first frame is held against the canvas.

use super::PictureError;

/// Refuses a first frame that is not within the canvas: some readers cut it, others enlarge the canvas.
pub(super) fn check(file: &[u8]) -> Result<(), PictureError> {
    // What ends before its first frame has its error from the decoder.
    let Some((canvas, frame)) = places(file) else { return Ok(()) };
    let ((left, top), (width, height)) = frame;
    if left + width > canvas.0 || top + height > canvas.1 {
        let found = format!(
            "a GIF whose first frame, {width}x{height} at {left},{top}, reaches beyond its canvas of {}x{}",
            canvas.0, canvas.1
        );
        return Err(PictureError::Kind { found });
    }
    Ok(())
}

type Pair = (u32, u32);

/// The size of the canvas, and the place and size of the first frame.
fn places(file: &[u8]) -> Option<(Pair, (Pair, Pair))> {
    let pair = |at: usize| {
        let bytes = file.get(at..at + 4)?;
        Some((u32::from(u16::from_le_bytes([bytes[0], bytes[1]])), u32::from(u16::from_le_bytes([bytes[2], bytes[3]]))))
    };
    let canvas = pair(6)?;
    let flags = *file.get(10)?;
    let mut at = 13 + if flags & 0x80 == 0 { 0 } else { 3 * (2 << (flags & 7)) };
    loop {
        match *file.get(at)? {
            0x2C => return Some((canvas, (pair(at + 1)?, pair(at + 5)?))),
            // An extension: its label, and blocks until an empty one.
            0x21 => {
                at += 2;
                while *file.get(at)? != 0 {
                    at += 1 + usize::from(file[at]);
                }
                at += 1;
            }
            // The decoder passes over lone zeros too.
            0 => at += 1,
            _ => return None,
        }
    }
}
