//! From a picture's file to what a task carries: one way, so that a free answer and a paid one are about the same pixels.
//!
//! In this order: the file as it is, if it is a JPEG that the network takes (`docs/picture.md`); the same without its
//! metadata, its scan untouched; a picture that is decoded here, turned, cropped, shrunk to the model's size and encoded
//! anew. Pixels are sent where the model takes no JPEG, where they are fewer bytes, and for small models if the file has
//! lost nothing yet. Encoding anew cannot be repeated with other programs, so who does it keeps what was sent.

use std::fmt;
use std::io::Cursor;

use image::{DynamicImage, GrayImage, ImageFormat, RgbImage};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use ocelli_picture::{Input, MAX_FILE_BYTES, MAX_SIDE, Refusal, Sides, WHOLE, without_metadata};
use sha2::{Digest as _, Sha256};

use crate::picture::{self, PictureError};

/// The quality of what is encoded anew; the lower ones are for pictures that are too large with it.
const QUALITIES: [u8; 5] = [95, 85, 60, 30, 5];

/// The most bytes of pixels that a lossless file is sent as: 64x64 in red, green and blue.
const MAX_LOSSLESS_BYTES: usize = 3 * 64 * 64;

/// What a task carries of a picture, and how it came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// What [`bytes`](Self::bytes) are.
    pub form: Form,
    /// What is sent, at most [`MAX_FILE_BYTES`].
    pub bytes: Vec<u8>,
    /// What the model sees: u8 in C×H×W order.
    pub pixels: Vec<u8>,
    /// What was done to the file.
    pub done: Done,
    /// SHA-256 of the file.
    pub file_hash: [u8; 32],
    /// SHA-256 of what is sent.
    pub sent_hash: [u8; 32],
}

/// How a picture is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// In the model's shape.
    Pixels,
    /// As a JPEG of these sides.
    Jpeg(Sides),
}

/// What was done to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// Nothing.
    AsItIs,
    /// Its metadata were left out.
    WithoutMetadata {
        /// How many bytes that made.
        left_out: usize,
    },
    /// Its picture was encoded anew.
    Encoded {
        /// JPEG's quality.
        quality: u8,
        /// The sides of what was encoded.
        sides: Sides,
        /// Why the file itself cannot be sent.
        why: Why,
    },
    /// Its picture was made pixels.
    Pixels {
        /// Why no JPEG was sent.
        why: Why,
    },
}

/// Why a file is not sent itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// It is no JPEG.
    OtherFormat,
    /// The network does not take it, with or without metadata; or the model takes no JPEG.
    Refused(Refusal),
    /// It is a picture without loss, and the model is small.
    Lossless,
    /// They are no more bytes than a JPEG.
    FewerBytes,
}

impl Attachment {
    /// Makes what a task of a model carries.
    ///
    /// # Errors
    /// If the file is no picture, is damaged, or is larger than the limits of [`picture`], and if the model takes neither 1
    /// nor 3 channels, or no JPEG and more pixels than a task carries.
    pub fn from_file(file: &[u8], input: Input) -> Result<Self, PictureError> {
        picture::check_channels(input.channels)?;
        let made = |form, bytes: Vec<u8>, pixels, done| {
            let file_hash = Sha256::digest(file).into();
            let sent_hash = if done == Done::AsItIs { file_hash } else { Sha256::digest(&bytes).into() };
            Self { form, bytes, pixels, done, file_hash, sent_hash }
        };
        let as_pixels = |pixels: Vec<u8>, why| {
            if pixels.len() > MAX_FILE_BYTES {
                return Err(PictureError::TooManyPixels { found: pixels.len() });
            }
            Ok(made(Form::Pixels, pixels.clone(), pixels, Done::Pixels { why }))
        };
        if let Err(refusal) = input.check() {
            return as_pixels(picture::from_decoded(picture::decode(file)?, input), Why::Refused(refusal));
        }
        let why = match taken(file, input) {
            Ok((sides, pixels)) => return Ok(made(Form::Jpeg(sides), file.to_vec(), pixels, Done::AsItIs)),
            Err(Refusal::NoStart) => Why::OtherFormat,
            Err(_) => {
                let bare = without_metadata(file).and_then(|bare| Ok((taken(&bare, input)?, bare)));
                match bare {
                    Ok(((sides, pixels), bare)) => {
                        let done = Done::WithoutMetadata { left_out: file.len() - bare.len() };
                        return Ok(made(Form::Jpeg(sides), bare, pixels, done));
                    }
                    Err(refusal) => Why::Refused(refusal),
                }
            }
        };
        let decoded = picture::decode(file)?;
        let size = input.channels * input.height * input.width;
        if size <= MAX_LOSSLESS_BYTES && is_lossless(file) {
            return as_pixels(picture::from_decoded(decoded, input), Why::Lossless);
        }
        let encoded = encode(decoded, input)?;
        if size <= encoded.bytes.len() {
            // Decoded once more, which is seldom, rather than kept twice, which may be large.
            return as_pixels(picture::from_decoded(picture::decode(file)?, input), Why::FewerBytes);
        }
        let done = Done::Encoded { quality: encoded.quality, sides: encoded.sides, why };
        Ok(made(Form::Jpeg(encoded.sides), encoded.bytes, encoded.pixels, done))
    }

    /// What the model sees, as a PNG.
    ///
    /// # Errors
    /// If the encoder fails.
    pub fn to_png(&self, input: Input) -> Result<Vec<u8>, PictureError> {
        let (width, height) = (input.width as u32, input.height as u32);
        let area = input.width * input.height;
        let seen = if input.channels == 1 {
            GrayImage::from_raw(width, height, self.pixels.clone()).map(DynamicImage::from)
        } else {
            let interleaved = (0..area).flat_map(|at| [0, 1, 2].map(|channel| self.pixels[channel * area + at]));
            RgbImage::from_raw(width, height, interleaved.collect()).map(DynamicImage::from)
        };
        let mut file = Cursor::new(Vec::new());
        let seen = seen.ok_or(PictureError::Channels { found: input.channels })?;
        seen.write_to(&mut file, ImageFormat::Png).map_err(|source| PictureError::Damaged { source })?;
        Ok(file.into_inner())
    }
}

/// The sides and pixels of a file that the network takes.
fn taken(file: &[u8], input: Input) -> Result<(Sides, Vec<u8>), Refusal> {
    Ok((ocelli_picture::sides(file)?, ocelli_picture::pixels(file, input)?))
}

/// Whether a file of a readable picture is in a format without loss.
fn is_lossless(file: &[u8]) -> bool {
    match image::guess_format(file) {
        Ok(ImageFormat::Png | ImageFormat::Gif | ImageFormat::Bmp) => true,
        // What is not the simple lossless kind may have its pixels in either.
        Ok(ImageFormat::WebP) => file.get(12..16) == Some(b"VP8L"),
        _ => false,
    }
}

/// A picture that was encoded.
struct Encoded {
    bytes: Vec<u8>,
    quality: u8,
    sides: Sides,
    pixels: Vec<u8>,
}

/// Crops a picture, shrinks it so that the model sees it without another change of size, and encodes it.
fn encode(picture: DynamicImage, input: Input) -> Result<Encoded, PictureError> {
    let (columns, rows) = around(input);
    let grey = input.channels == 1 || !picture.color().has_color();
    let rgb = picture::on_white(&picture::crop(picture, Input { height: rows, width: columns, crop: WHOLE, ..input }));
    // A smaller picture stays as it is: what it has not is not sent.
    let larger = rgb.width() as usize > columns || rgb.height() as usize > rows;
    let rgb = if larger { picture::resize(rgb, columns, rows) } else { rgb };
    // At most MAX_SIDE.
    let sides = Sides { columns: rgb.width() as u16, rows: rgb.height() as u16 };
    let (samples, kind) = if grey {
        (DynamicImage::ImageRgb8(rgb).into_luma8().into_raw(), ColorType::Luma)
    } else {
        (rgb.into_raw(), ColorType::Rgb)
    };
    let mut refused = Refusal::NoStart;
    for quality in QUALITIES {
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, quality);
        // Tables for this picture alone would cut it into a scan for each component, which is not taken.
        encoder.set_sampling_factor(SamplingFactor::F_2_2);
        encoder.encode(&samples, sides.columns, sides.rows, kind).map_err(|source| PictureError::Encoder { source })?;
        match ocelli_picture::pixels(&bytes, input) {
            Ok(pixels) => return Ok(Encoded { bytes, quality, sides, pixels }),
            Err(refusal) => refused = refusal,
        }
    }
    Err(PictureError::NotEncoded { source: refused })
}

/// Columns and rows of a picture of which a model sees as many as it takes: its own size, and what its `crop` leaves out.
/// For models that are not square and have a `crop`, rounding to their aspect may make it one less.
fn around(input: Input) -> (usize, usize) {
    let side = |side: usize| (side * WHOLE).div_ceil(input.crop).clamp(1, MAX_SIDE);
    (side(input.width), side(input.height))
}

/// What was done, after "sent as" or "seen as".
impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AsItIs => write!(f, "the file as it is"),
            Self::WithoutMetadata { left_out } => {
                write!(f, "the file without {left_out} bytes of metadata, its picture untouched")
            }
            Self::Encoded { quality, sides: Sides { columns, rows }, why } => {
                write!(f, "a new JPEG of {columns}x{rows} pixels at quality {quality}: {why}")
            }
            Self::Pixels { why } => write!(f, "pixels: {why}"),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherFormat => write!(f, "the network takes no other format"),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Lossless => write!(f, "the file has lost nothing, and the model takes few"),
            Self::FewerBytes => write!(f, "a JPEG would have more bytes"),
        }
    }
}
