//! From a picture, as people have them, to the pixels that a model takes. Never part of consensus, where decoders may not
//! differ: [`Attachment`](crate::Attachment) goes another way wherever it can.
//!
//! Decode (of an animation its first frame), turn as EXIF says, crop the centre to the aspect of the model's input, lay
//! what is transparent on white, resize with a triangle filter whose width grows with the reduction (antialiased
//! bilinear), and write u8 in C×H×W order. A picture that already has the model's size is not resampled.

mod bmp;
mod gif;
mod jpeg;
mod webp;

use std::io::Cursor;

use image::imageops::FilterType;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, Rgb, RgbImage};
use jpeg_encoder::EncodingError;
use ocelli_picture::{Input, MAX_FILE_BYTES, Refusal, Sides, WHOLE};

use self::jpeg::Jpeg;
use crate::graph::{self, Shape};

/// The largest picture file, in bytes.
pub const MAX_PICTURE_BYTES: usize = 64 << 20;
/// The most pixels that a picture has: more than the 100 million of the largest common cameras.
pub const MAX_PICTURE_PIXELS: u64 = 1 << 27;
/// The longest side of a picture, in pixels.
pub const MAX_PICTURE_SIDE: u32 = 32_768;
/// The memory that decoding may take, in bytes.
pub const MAX_DECODER_BYTES: u64 = 512 << 20;

/// Why a file gives no pixels.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// The file is empty.
    #[error("the file is empty")]
    Empty,
    /// The file is too large.
    #[error("the file has {found} bytes, more than {MAX_PICTURE_BYTES}")]
    FileTooLarge {
        /// Its bytes.
        found: usize,
    },
    /// The file does not begin as any picture does.
    #[error("not a picture: expected PNG, JPEG, WebP, GIF or BMP")]
    NotAPicture,
    /// The file is a picture of a format that this program does not read.
    #[error("a {found} picture: expected PNG, JPEG, WebP, GIF or BMP")]
    Format { found: String },
    /// The picture has too many pixels.
    #[error("the picture is too large: {width}x{height} pixels")]
    TooLarge {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// Decoding the picture takes too much memory.
    #[error("decoding the picture takes more than {MAX_DECODER_BYTES} bytes of memory")]
    Memory,
    /// The picture is of a kind that is not decoded, or that decoders show differently.
    #[error("{found} is not read: open the picture in another program and save it as PNG")]
    Kind {
        /// The format, and what is special in it.
        found: String,
    },
    /// The picture ends before its data do.
    #[error("the picture is truncated: copy or download it again")]
    Truncated,
    /// The JPEG is damaged.
    #[error("the JPEG is damaged: {reason}")]
    DamagedJpeg {
        /// What is wrong in it.
        reason: String,
    },
    /// The picture is truncated or damaged.
    #[error("the picture is truncated or damaged")]
    Damaged {
        /// What the decoder says.
        #[source]
        source: ImageError,
    },
    /// The model takes neither one channel nor three.
    #[error("the model takes {found} channels, a picture has 1 or 3")]
    Channels {
        /// Channels of the model.
        found: usize,
    },
    /// The model takes no JPEG, and its pixels are more than a task carries.
    #[error("the model takes {found} bytes of pixels, more than the {MAX_FILE_BYTES} that a task carries")]
    TooManyPixels { found: usize },
    /// What was encoded is not taken, at any quality.
    #[error("the picture cannot be encoded for this model")]
    NotEncoded {
        /// Why the last try was refused.
        #[source]
        source: Refusal,
    },
    /// The encoder failed.
    #[error("the picture cannot be encoded")]
    Encoder {
        #[source]
        source: EncodingError,
    },
}

/// The pixels of a picture file for a model's input, u8 in C×H×W order. For 3 channels red, green, blue; a grey picture
/// repeats its grey. For 1 channel the luma of the picture. Of a [`Shape`] the whole picture is seen, of a graph's input what
/// its `crop` says.
///
/// # Errors
/// If the file is no picture, is damaged, or is larger than the limits of this module.
pub fn to_pixels(file: &[u8], input: impl Into<Input>) -> Result<Vec<u8>, PictureError> {
    let input = input.into();
    check_channels(input.channels)?;
    Ok(from_decoded(decode(file)?, input))
}

/// Columns and rows as a file's header says them, so that whoever decodes many pictures can bound the memory that it takes
/// before; `None` where it says nothing, and decoding ends soon. Nothing is checked.
pub fn claimed_sides(file: &[u8]) -> Option<(u32, u32)> {
    match image::guess_format(file).ok()? {
        ImageFormat::Jpeg => {
            let mut decoder = jpeg_decoder::Decoder::new(file);
            decoder.read_info().ok()?;
            decoder.info().map(|info| (info.width.into(), info.height.into()))
        }
        format => ImageReader::with_format(Cursor::new(file), format).into_dimensions().ok(),
    }
}

/// As [`to_pixels`], of a picture that is decoded already.
///
/// # Errors
/// If the model takes neither one channel nor three.
pub fn from_rgb(picture: RgbImage, shape: Shape) -> Result<Vec<u8>, PictureError> {
    check_channels(shape.channels)?;
    Ok(from_decoded(DynamicImage::ImageRgb8(picture), shape.into()))
}

/// That a picture can be a model's input at all.
pub(crate) fn check_channels(found: usize) -> Result<(), PictureError> {
    if found == 1 || found == 3 { Ok(()) } else { Err(PictureError::Channels { found }) }
}

/// What a model of 1 or 3 channels sees of a picture.
pub(crate) fn from_decoded(picture: DynamicImage, input: Input) -> Vec<u8> {
    let rgb = on_white(&crop(picture, input));
    let rgb = resize(rgb, input.width, input.height);
    if input.channels == 1 {
        return DynamicImage::ImageRgb8(rgb).into_luma8().into_raw();
    }
    (0..3).flat_map(|channel| rgb.pixels().map(move |pixel| pixel.0[channel])).collect()
}

/// The picture, turned as its EXIF data say.
pub(crate) fn decode(file: &[u8]) -> Result<DynamicImage, PictureError> {
    if file.is_empty() {
        return Err(PictureError::Empty);
    }
    if file.len() > MAX_PICTURE_BYTES {
        return Err(PictureError::FileTooLarge { found: file.len() });
    }
    let format = match image::guess_format(file) {
        Ok(
            format @ (ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP | ImageFormat::Gif | ImageFormat::Bmp),
        ) => format,
        Ok(other) => return Err(PictureError::Format { found: format!("{other:?}").to_uppercase() }),
        Err(_) => return Err(PictureError::NotAPicture),
    };
    let (mut picture, exif) = match format {
        ImageFormat::Jpeg => {
            let jpeg = Jpeg::parse(file)?;
            let exif = jpeg.exif.map(<[u8]>::to_vec);
            (jpeg.decode()?, exif)
        }
        format => decode_other(file, format)?,
    };
    // EXIF data that cannot be read say nothing. Some writers put the prefix of JPEG's segment before them.
    let exif = exif.as_deref().map(|exif| exif.strip_prefix(b"Exif\0\0").unwrap_or(exif));
    picture.apply_orientation(exif.and_then(Orientation::from_exif_chunk).unwrap_or(Orientation::NoTransforms));
    Ok(picture)
}

/// A picture that is no JPEG, and its EXIF data.
fn decode_other(file: &[u8], format: ImageFormat) -> Result<(DynamicImage, Option<Vec<u8>>), PictureError> {
    match format {
        ImageFormat::Gif => gif::check(file)?,
        ImageFormat::Bmp => bmp::check(file)?,
        ImageFormat::WebP => webp::check(file)?,
        _ => {}
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(file), format);
    reader.limits(limits);
    let failed = |source| match source {
        ImageError::Limits(_) => PictureError::Memory,
        source => PictureError::Damaged { source },
    };
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    if decoder.total_bytes() > MAX_DECODER_BYTES {
        return Err(PictureError::Memory);
    }
    let exif = match format {
        ImageFormat::Png => png_exif(file).map(<[u8]>::to_vec),
        _ => decoder.exif_metadata().ok().flatten(),
    };
    let mut picture = DynamicImage::from_decoder(decoder).map_err(failed)?;
    // A fourth channel of zeros is one that nobody filled in.
    if format == ImageFormat::Bmp && !has_visible(&picture) {
        picture = DynamicImage::ImageRgb8(picture.into_rgb8());
    }
    Ok((picture, exif))
}

fn check_size(width: u32, height: u32) -> Result<(), PictureError> {
    if width.max(height) > MAX_PICTURE_SIDE || u64::from(width) * u64::from(height) > MAX_PICTURE_PIXELS {
        return Err(PictureError::TooLarge { width, height });
    }
    Ok(())
}

/// Whether any pixel can be seen at all.
fn has_visible(picture: &DynamicImage) -> bool {
    picture.as_rgba8().is_none_or(|picture| picture.pixels().any(|pixel| pixel.0[3] != 0))
}

/// The EXIF data of a PNG: its chunk may come after the picture, where the decoder does not look for it.
fn png_exif(file: &[u8]) -> Option<&[u8]> {
    let mut rest = file.get(8..)?;
    loop {
        let (length, after) = rest.split_first_chunk()?;
        let (name, after) = after.split_first_chunk::<4>()?;
        let body = after.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        if name == b"eXIf" {
            return Some(body);
        }
        rest = after.get(body.len() + 4..)?;
    }
}

/// What a model sees of a picture, at the picture's own scale: the rectangle that the network keeps of a JPEG.
pub(crate) fn crop(picture: DynamicImage, input: Input) -> DynamicImage {
    // Sides are at most MAX_PICTURE_SIDE, or of formats with 16 bits for them.
    let [columns, rows] = [picture.width(), picture.height()].map(|side| u16::try_from(side).unwrap_or(u16::MAX));
    let kept = ocelli_picture::kept(Sides { columns, rows }, input);
    let [left, top, width, height] = [kept.left, kept.top, kept.columns, kept.rows].map(|pixels| pixels as u32);
    if (width, height) == (picture.width(), picture.height()) {
        return picture;
    }
    picture.crop_imm(left, top, width, height)
}

/// The picture in 8 bits a channel, what is transparent laid on white.
pub(crate) fn on_white(picture: &DynamicImage) -> RgbImage {
    if !picture.color().has_alpha() {
        return picture.to_rgb8();
    }
    let rgba = picture.to_rgba8();
    let mut rgb = RgbImage::new(rgba.width(), rgba.height());
    for (to, from) in rgb.pixels_mut().zip(rgba.pixels()) {
        let [red, green, blue, alpha] = from.0;
        let alpha = u32::from(alpha);
        let blend = |value: u8| ((u32::from(value) * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
        *to = Rgb([blend(red), blend(green), blend(blue)]);
    }
    rgb
}

pub(crate) fn resize(picture: RgbImage, width: usize, height: usize) -> RgbImage {
    let (width, height) = (width as u32, height as u32);
    if picture.dimensions() == (width, height) {
        return picture;
    }
    image::imageops::resize(&picture, width, height, FilterType::Triangle)
}

impl From<&graph::Input> for Input {
    fn from(input: &graph::Input) -> Self {
        Self { crop: input.crop.into(), ..input.shape.into() }
    }
}

impl From<Shape> for Input {
    fn from(shape: Shape) -> Self {
        Self { channels: shape.channels, height: shape.height, width: shape.width, crop: WHOLE }
    }
}
