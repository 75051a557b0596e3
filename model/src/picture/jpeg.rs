//! JPEG (ITU-T T.81). The entropy-coded data are decoded by the crate `jpeg-decoder`; what it decodes otherwise than
//! libjpeg-turbo, or not at all, is found here by the markers and refused.

use image::{DynamicImage, GrayImage, RgbImage};
use jpeg_decoder::{ColorTransform, Decoder, PixelFormat};

use super::{MAX_DECODER_BYTES, PictureError, check_size};

/// The most scans of a picture; encoders write about ten. Each scan takes time for all blocks, however short it is.
const MAX_SCANS: usize = 256;

/// What is put behind the data of each restart interval. Its bits are ones, which no Huffman code consists of, so that
/// the decoder, which reads on in zeros where data are missing and says nothing, comes upon a code that does not exist.
/// Its buffer has to hold these six bytes and the last bits of the data at once.
const ONES: [u8; 12] = [0xFF, 0, 0xFF, 0, 0xFF, 0, 0xFF, 0, 0xFF, 0, 0xFF, 0];

/// A JPEG whose kind is known to be decoded rightly.
pub(super) struct Jpeg<'a> {
    /// The EXIF data of the first APP1 segment that has some.
    pub exif: Option<&'a [u8]>,
    /// The picture's segments and scans, with an end marker.
    file: Vec<u8>,
    colours: ColorTransform,
    /// Whether the file had an end marker.
    ends: bool,
}

/// A component of the frame.
struct Component {
    id: u8,
    horizontal: u32,
    vertical: u32,
    /// How many low bits of each coefficient the scans up to now have left out; `None` if they held nothing of it.
    missing: [Option<u8>; 64],
}

struct Frame {
    progressive: bool,
    width: u32,
    height: u32,
    components: Vec<Component>,
}

impl<'a> Jpeg<'a> {
    /// Reads all markers of a file that begins as a JPEG.
    ///
    /// # Errors
    /// If the picture is of a kind that is not decoded, is larger than the limits, or has not all its scans.
    pub(super) fn parse(file: &'a [u8]) -> Result<Self, PictureError> {
        let mut out = vec![0xFF, 0xD8];
        let (mut exif, mut jfif, mut adobe, mut frame) = (None, false, None, None::<Frame>);
        let (mut at, mut scans, mut ends) = (2, 0, false);
        loop {
            let whole = frame.as_ref().is_some_and(Frame::is_whole);
            // Bytes between segments are skipped, as other decoders do.
            let marker = match file.get(at..at + 2) {
                Some(&[0xFF, marker @ 1..=0xFE]) => marker,
                Some(_) => {
                    at += 1;
                    continue;
                }
                None if whole => break,
                None => return Err(PictureError::Truncated),
            };
            if marker == 0xD9 {
                ends = true;
                break;
            }
            // Without an end marker, what follows a whole picture is another file or its maker's bytes.
            if whole && matches!(marker, 0x02..=0xC3 | 0xC5..=0xD8 | 0xDC | 0xDE..=0xDF) {
                break;
            }
            if matches!(marker, 0x01 | 0xD0..=0xD8) {
                at += 2;
                continue;
            }
            let body = file
                .get(at + 2..at + 4)
                .map(|length| usize::from(u16::from_be_bytes([length[0], length[1]])))
                .and_then(|length| file.get(at + 4..at + 2 + length));
            let body = match body {
                Some(body) => body,
                None if whole => break,
                None => return Err(PictureError::Truncated),
            };
            let segment = &file[at..at + 4 + body.len()];
            at += segment.len();
            match marker {
                0xC0..=0xC2 => {
                    if frame.is_some() {
                        return Err(refused("several frames"));
                    }
                    frame = Some(Frame::parse(marker == 0xC2, body)?);
                    out.extend(segment);
                }
                0xC3 | 0xC7 | 0xCB | 0xCF => return Err(refused("lossless coding")),
                0xC9 | 0xCA | 0xCC => return Err(refused("arithmetic coding")),
                0xC5 | 0xC6 | 0xCD | 0xCE | 0xDE | 0xDF => return Err(refused("hierarchical coding")),
                0xDC => return Err(refused("its height after its first scan (DNL)")),
                0xDB if scans > 0 && frame.as_ref().is_some_and(|frame| frame.progressive) => {
                    return Err(refused("progressive scans that change their quantisation"));
                }
                0xC4 | 0xDB | 0xDD => out.extend(segment),
                0xDA => {
                    scans += 1;
                    if scans > MAX_SCANS {
                        return Err(refused(&format!("more than {MAX_SCANS} scans")));
                    }
                    let frame = frame.as_mut().ok_or_else(|| damaged("a scan comes before the frame"))?;
                    let scan = frame.scan(body)?;
                    out.extend(segment);
                    let bytes;
                    (at, bytes) = copy_data(file, at, &mut out);
                    if bytes < scan.least_bytes {
                        return Err(PictureError::Truncated);
                    }
                    out.extend(std::iter::repeat_n(ONES, scan.ones).flatten());
                }
                // Of the data of applications only those matter that say how to decode.
                0xE0 if body.starts_with(b"JFIF\0") && body.len() >= 14 => jfif = true,
                0xE0 if body.starts_with(b"AVI1") => out.extend(segment),
                0xE1 if exif.is_none() => exif = body.strip_prefix(b"Exif\0\0"),
                0xEE if body.starts_with(b"Adobe") && body.len() >= 12 => adobe = Some(body[11]),
                0xE0..=0xEF | 0xFE => {}
                other => return Err(refused(&format!("the marker 0xFF{other:02X}"))),
            }
        }
        let frame = frame.ok_or_else(|| damaged("it has no frame"))?;
        if scans == 0 {
            return Err(damaged("it has no scan"));
        }
        if !frame.is_whole() {
            return Err(refused("scans that leave out a part of it"));
        }
        out.extend([0xFF, 0xD9]);
        Ok(Self { exif, file: out, colours: frame.colours(jfif, adobe), ends })
    }

    /// Grey or RGB.
    ///
    /// # Errors
    /// If data are damaged or missing.
    pub(super) fn decode(self) -> Result<DynamicImage, PictureError> {
        let mut decoder = Decoder::new(self.file.as_slice());
        decoder.set_color_transform(self.colours);
        decoder.set_max_decoding_buffer_size(MAX_DECODER_BYTES as usize);
        let samples = decoder
            .decode()
            .map_err(|source| if self.ends { damaged(&source.to_string()) } else { PictureError::Truncated })?;
        let info = decoder.info().ok_or_else(|| damaged("it has no frame"))?;
        let (width, height) = (u32::from(info.width), u32::from(info.height));
        let picture = match info.pixel_format {
            PixelFormat::L8 => GrayImage::from_raw(width, height, samples).map(DynamicImage::from),
            PixelFormat::RGB24 => RgbImage::from_raw(width, height, samples).map(DynamicImage::from),
            PixelFormat::CMYK32 => RgbImage::from_raw(width, height, from_inks(&samples)).map(DynamicImage::from),
            PixelFormat::L16 => None,
        };
        picture.ok_or_else(|| damaged("its samples are not as many as its pixels"))
    }
}

impl Frame {
    fn parse(progressive: bool, body: &[u8]) -> Result<Self, PictureError> {
        let [precision, h0, h1, w0, w1, count, rest @ ..] = body else {
            return Err(damaged("its frame header is too short"));
        };
        let (width, height) = (u32::from(u16::from_be_bytes([*w0, *w1])), u32::from(u16::from_be_bytes([*h0, *h1])));
        if *precision != 8 {
            return Err(refused(&format!("{precision} bits a sample")));
        }
        if height == 0 {
            return Err(refused("its height after its first scan (DNL)"));
        }
        if !matches!(count, 1 | 3 | 4) {
            return Err(refused(&format!("{count} components")));
        }
        if width == 0 || rest.len() != 3 * usize::from(*count) {
            return Err(damaged("its frame header does not fit its width or its components"));
        }
        check_size(width, height)?;
        let components: Vec<Component> = rest
            .chunks_exact(3)
            .map(|bytes| Component {
                id: bytes[0],
                horizontal: u32::from(bytes[1] >> 4),
                vertical: u32::from(bytes[1] & 15),
                missing: [None; 64],
            })
            .collect();
        let frame = Self { progressive, width, height, components };
        let (horizontal, vertical) = frame.most();
        // The decoder counts the blocks of a scan of one component wrongly if its factor lies between 1 and the largest.
        let known = |component: &Component| {
            [1, horizontal].contains(&component.horizontal) && [1, vertical].contains(&component.vertical)
        };
        if !frame.components.iter().all(known) || horizontal > 4 || vertical > 4 {
            let factors: Vec<String> =
                frame.components.iter().map(|of| format!("{}x{}", of.horizontal, of.vertical)).collect();
            return Err(refused(&format!("the sampling factors {}", factors.join(","))));
        }
        // libjpeg does not interpolate what is at most two samples wide, and this decoder does.
        let halved = frame.components.iter().any(|component| component.horizontal < horizontal);
        if halved && width <= 4 {
            return Err(refused(&format!("a width of {width} and fewer samples of colour")));
        }
        Ok(frame)
    }

    /// The largest sampling factors, horizontal and vertical.
    fn most(&self) -> (u32, u32) {
        let most = |of: fn(&Component) -> u32| self.components.iter().map(of).max().unwrap_or(1);
        (most(|component| component.horizontal), most(|component| component.vertical))
    }

    fn is_whole(&self) -> bool {
        self.components.iter().all(|component| component.missing == [Some(0); 64])
    }

    /// Notes what the header of a scan says that its data hold.
    fn scan(&mut self, body: &[u8]) -> Result<Scan, PictureError> {
        let wrong = || damaged("the header of a scan does not fit the frame");
        let count = usize::from(*body.first().ok_or_else(wrong)?);
        if !(1..=self.components.len()).contains(&count) || body.len() != 4 + 2 * count {
            return Err(wrong());
        }
        let [first, last, bits] = [1, 2, 3].map(|at| usize::from(body[2 * count + at]));
        let (before, after) = ((bits >> 4) as u8, (bits & 15) as u8);
        if first > last || last > 63 || (!self.progressive && (first, last, bits) != (0, 63, 0)) {
            return Err(wrong());
        }
        let (horizontal, vertical) = self.most();
        let (width, height) = (self.width, self.height);
        let mut blocks = 0;
        for id in (0..count).map(|at| body[1 + 2 * at]) {
            let component = self.components.iter_mut().find(|component| component.id == id);
            let component = component.ok_or_else(wrong)?;
            for missing in &mut component.missing[first..=last] {
                if missing.unwrap_or(0) != before || (before == 0 && missing.is_some()) {
                    return Err(refused("scans that do not follow on each other"));
                }
                *missing = Some(after);
            }
            blocks += if count > 1 {
                component.horizontal
                    * width.div_ceil(8 * horizontal)
                    * component.vertical
                    * height.div_ceil(8 * vertical)
            } else {
                let side = |side: u32, factor: u32, most: u32| (side * factor).div_ceil(most).div_ceil(8);
                side(width, component.horizontal, horizontal) * side(height, component.vertical, vertical)
            };
        }
        let blocks = blocks as usize;
        // Refining takes bits that are no codes: of the first coefficient one a block and nothing else; of the others at
        // most 63 a block until the next code, which comes after 32,767 blocks at the latest.
        Ok(match (before, first) {
            (0, _) => Scan { least_bytes: 0, ones: 1 },
            (_, 0) => Scan { least_bytes: blocks.div_ceil(8), ones: 1 },
            _ => Scan { least_bytes: 0, ones: 1 + 2 * blocks.min(32_767) },
        })
    }

    /// How the components become colours, as libjpeg decides it.
    fn colours(&self, jfif: bool, adobe: Option<u8>) -> ColorTransform {
        let ids: Vec<u8> = self.components.iter().map(|component| component.id).collect();
        match (ids.as_slice(), adobe) {
            ([_], _) => ColorTransform::Grayscale,
            ([_, _, _], _) if jfif => ColorTransform::YCbCr,
            ([_, _, _], Some(0)) => ColorTransform::RGB,
            ([b'R', b'G', b'B'], None) => ColorTransform::RGB,
            ([_, _, _], _) => ColorTransform::YCbCr,
            (_, None | Some(0)) => ColorTransform::CMYK,
            _ => ColorTransform::YCCK,
        }
    }
}

struct Scan {
    /// The fewest bytes that its data can have.
    least_bytes: usize,
    /// How many times [`ONES`] is put behind them.
    ones: usize,
}

/// Copies the entropy-coded data from `at` on, [`ONES`] before each restart marker; where they end, and their bytes.
fn copy_data(file: &[u8], mut at: usize, out: &mut Vec<u8>) -> (usize, usize) {
    let mut bytes = 0;
    loop {
        let rest = &file[at..];
        let run = rest.iter().position(|byte| *byte == 0xFF).unwrap_or(rest.len());
        out.extend(&rest[..run]);
        (at, bytes) = (at + run, bytes + run);
        match file.get(at + 1) {
            None => return (file.len(), bytes),
            Some(0) => {
                out.extend([0xFF, 0]);
                (at, bytes) = (at + 2, bytes + 1);
            }
            // A fill byte before a marker.
            Some(0xFF) => at += 1,
            Some(marker @ 0xD0..=0xD7) => {
                out.extend(ONES);
                out.extend([0xFF, *marker]);
                at += 2;
            }
            Some(_) => return (at, bytes),
        }
    }
}

/// RGB of the four inks of each pixel, 255 where there is most ink, as Pillow mixes them.
fn from_inks(samples: &[u8]) -> Vec<u8> {
    let mix = |ink: u8, light: u32| {
        let product = u32::from(ink) * light + 128;
        (light - ((product >> 8) + product) / 256) as u8
    };
    let pixels = samples.chunks_exact(4);
    pixels.flat_map(|inks| [0, 1, 2].map(|ink| mix(inks[ink], 255 - u32::from(inks[3])))).collect()
}

fn damaged(reason: &str) -> PictureError {
    PictureError::DamagedJpeg { reason: reason.to_owned() }
}

fn refused(what: &str) -> PictureError {
    PictureError::Kind { found: format!("a JPEG with {what}") }
}
