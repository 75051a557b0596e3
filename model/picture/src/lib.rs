//! From a JPEG file to the pixels that a model sees: the same bytes on every machine, or a refusal.
//!
//! Both are part of consensus, and `docs/picture.md` is the rule: a strict subset of baseline JPEG (ITU-T T.81), decoded
//! with the integers of libjpeg-turbo's defaults, cropped to its centre and resized as Pillow's `BILINEAR`. A file that is
//! accepted gives in Pillow the same pixels.
//!
//! Planes lie column by column until the columns are resized. So the second pass of the IDCT, the upsampling along rows and
//! the resizing of rows all run over bytes that lie side by side, and a block is turned once, between the passes, not twice.
//!
//! A file has at most [`MAX_FILE_BYTES`], a side at most [`MAX_SIDE`] pixels, which is seen before a table is built or a
//! sample decoded. So time and memory are bounded: planes, the columns at work, what is half resized and the result take
//! no more than 3 bytes a pixel each.

mod bits;
mod colour;
mod crop;
mod exif;
mod huffman;
mod idct;
mod markers;
mod metadata;
mod plane;
mod refusal;
mod resize;
mod scan;
mod upsample;

pub use crop::{Rectangle, kept};
pub use metadata::without_metadata;
pub use refusal::Refusal;

use markers::Header;
use upsample::Chroma;

/// The most bytes of a file.
pub const MAX_FILE_BYTES: usize = 262_144;
/// The most pixels of a side, of a picture and of a model's input.
pub const MAX_SIDE: usize = 1_024;
/// The `crop` of a model that sees all that its aspect lets it see.
pub const WHOLE: usize = 256;

/// Columns and rows of a picture, 1 to [`MAX_SIDE`] each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sides {
    /// Pixels in a row.
    pub columns: u16,
    pub rows: u16,
}

/// What a model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Input {
    /// 3 for red, green and blue, 1 for luma.
    pub channels: usize,
    /// Rows, 1 to [`MAX_SIDE`].
    pub height: usize,
    /// Columns, 1 to [`MAX_SIDE`].
    pub width: usize,
    /// The share of each side that is kept, in 256ths: 1 to [`WHOLE`].
    pub crop: usize,
}

impl Input {
    /// Whether a JPEG can be a model's input at all.
    ///
    /// # Errors
    /// Names what is out of range.
    pub fn check(self) -> Result<(), Refusal> {
        if self.channels != 1 && self.channels != 3 {
            return Err(Refusal::Channels { found: self.channels });
        }
        if let Some(found) = [self.height, self.width].into_iter().find(|side| !(1..=MAX_SIDE).contains(side)) {
            return Err(Refusal::Side { found });
        }
        if !(1..=WHOLE).contains(&self.crop) {
            return Err(Refusal::Crop { found: self.crop });
        }
        Ok(())
    }
}

/// The sides of a picture whose segments up to the scan are as they must be; the scan is not looked at.
///
/// # Errors
/// Names the first rule that a segment breaks.
pub fn sides(file: &[u8]) -> Result<Sides, Refusal> {
    Header::parse(file).map(|header| header.sides)
}

/// The sides of a picture that is accepted whole, its scan too: decoded, and thrown away.
///
/// # Errors
/// If the file breaks a rule.
pub fn check(file: &[u8]) -> Result<Sides, Refusal> {
    let header = Header::parse(file)?;
    scan::decode(&header, file)?;
    Ok(header.sides)
}

/// The pixels of a file for a model: `channels * height * width` bytes, one channel after the other, each row by row.
///
/// # Errors
/// If the file breaks a rule, or the model takes no JPEG.
pub fn pixels(file: &[u8], input: Input) -> Result<Vec<u8>, Refusal> {
    input.check()?;
    let header = Header::parse(file)?;
    let planes = scan::decode(&header, file)?;
    let kept = kept(header.sides, input);
    let mut pixels = Vec::with_capacity(3 * input.height * input.width);
    match planes.as_slice() {
        [luma, cb, cr] => {
            let mut chroma = [cb, cr].map(|plane| Chroma::new(plane, &header));
            let rgb = |column: usize, rgb: [&mut [u8]; 3]| {
                let luma = &luma.column(kept.left + column)[kept.top..][..kept.rows];
                let [cb, cr] = chroma.each_mut().map(|chroma| chroma.column(kept.left + column, kept.top, kept.rows));
                colour::to_rgb([luma, cb, cr], rgb);
            };
            resize::resize(rgb, kept, input, &mut pixels);
        }
        planes => {
            let grey = |column: usize, [grey]: [&mut [u8]; 1]| {
                for plane in planes {
                    grey.copy_from_slice(&plane.column(kept.left + column)[kept.top..][..kept.rows]);
                }
            };
            resize::resize(grey, kept, input, &mut pixels);
            pixels = pixels.repeat(3);
        }
    }
    Ok(if input.channels == 1 { colour::luma(&pixels) } else { pixels })
}
