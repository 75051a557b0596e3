//! Pictures of every format and kind, and files that are none.

use std::io::Cursor;

use image::codecs::gif::GifEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, Frame, GrayImage, ImageFormat, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use ocelli_model::picture::to_pixels;
use ocelli_model::{PictureError, Shape};

const SHAPE: Shape = Shape { channels: 3, height: 32, width: 32 };

/// A picture that no flip or turn leaves as it is, of few colours.
fn sample(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| match (x < width / 2, y < height / 3) {
        (true, true) => Rgb([250, 10, 20]),
        (false, true) => Rgb([10, 240, 30]),
        (true, false) => Rgb([20, 30, 230]),
        (false, false) => Rgb([200, 190, 40]),
    })
}

fn encode(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    picture.write_to(&mut file, format).expect("encodes");
    file.into_inner()
}

/// C×H×W of a picture of the right size.
fn planar(picture: &RgbImage) -> Vec<u8> {
    (0..3).flat_map(|channel| picture.pixels().map(move |pixel| pixel.0[channel])).collect()
}

fn at(pixels: &[u8], shape: Shape, row: usize, column: usize) -> [u8; 3] {
    [0, 1, 2].map(|channel| pixels[(channel * shape.height + row) * shape.width + column])
}

fn near(found: [u8; 3], expected: [u8; 3]) {
    let close = found.iter().zip(expected).all(|(found, expected)| found.abs_diff(expected) <= 12);
    assert!(close, "found {found:?}, expected about {expected:?}");
}

fn message(file: &[u8]) -> String {
    to_pixels(file, SHAPE).expect_err("must be refused").to_string()
}

#[test]
fn lossless_formats_of_the_right_size_come_through_unchanged() {
    let picture = sample(32, 32);
    let expected = planar(&picture);
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Gif, ImageFormat::Bmp] {
        let file = encode(&picture.clone().into(), format);
        assert_eq!(to_pixels(&file, SHAPE).expect("a picture"), expected, "{format:?}");
    }
    // Asymmetric: row 3, column 20 is green; row 20, column 3 is blue.
    assert_eq!(at(&expected, SHAPE, 3, 20), [10, 240, 30]);
    assert_eq!(at(&expected, SHAPE, 20, 3), [20, 30, 230]);
}

#[test]
fn jpeg_comes_close() {
    let mut file = Vec::new();
    JpegEncoder::new_with_quality(&mut file, 95).encode_image(&sample(64, 64)).expect("encodes");
    let pixels = to_pixels(&file, SHAPE).expect("a picture");
    near(at(&pixels, SHAPE, 3, 3), [250, 10, 20]);
    near(at(&pixels, SHAPE, 3, 28), [10, 240, 30]);
    near(at(&pixels, SHAPE, 28, 3), [20, 30, 230]);
    near(at(&pixels, SHAPE, 28, 28), [200, 190, 40]);
}

/// An APP1 segment with an EXIF orientation, put after the start of a JPEG.
fn with_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut exif = b"\xFF\xE1\x00\x22Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    [&jpeg[..2], &exif, &jpeg[2..]].concat()
}

#[test]
fn exif_orientation_is_applied() {
    // As stored, 48 wide and 24 high: left red, right blue.
    let stored = RgbImage::from_fn(48, 24, |x, _| if x < 24 { Rgb([240, 0, 0]) } else { Rgb([0, 0, 240]) });
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, 100).encode_image(&stored).expect("encodes");
    let upright = Shape { channels: 3, height: 24, width: 48 };
    let turned = Shape { channels: 3, height: 48, width: 24 };
    let (red, blue) = ([240, 0, 0], [0, 0, 240]);
    for (orientation, shape, first, last) in [
        (1, upright, red, blue),
        (2, upright, blue, red),
        (3, upright, blue, red),
        (4, upright, red, blue),
        // Turned by a quarter clockwise, the left is at the top.
        (6, turned, red, blue),
        (8, turned, blue, red),
        (9, upright, red, blue),
    ] {
        let pixels = to_pixels(&with_orientation(&jpeg, orientation), shape).expect("a picture");
        near(at(&pixels, shape, 2, 2), first);
        near(at(&pixels, shape, shape.height - 3, shape.width - 3), last);
    }
}

#[test]
fn the_centre_is_cropped() {
    // 96 x 32: thirds of red, green, blue; the square centre is green.
    let wide = RgbImage::from_fn(96, 32, |x, _| {
        Rgb(match x / 32 {
            0 => [255, 0, 0],
            1 => [0, 255, 0],
            _ => [0, 0, 255],
        })
    });
    let pixels = to_pixels(&encode(&wide.clone().into(), ImageFormat::Png), SHAPE).expect("a picture");
    assert!((0..32).all(|i| at(&pixels, SHAPE, i, i) == [0, 255, 0]));
    let high = image::imageops::rotate90(&wide);
    let pixels = to_pixels(&encode(&high.into(), ImageFormat::Png), SHAPE).expect("a picture");
    assert!((0..32).all(|i| at(&pixels, SHAPE, i, 31 - i) == [0, 255, 0]));
    // A model of another aspect takes its own part: 3:1 takes all of it.
    let shape = Shape { channels: 3, height: 8, width: 24 };
    let pixels = to_pixels(&encode(&wide.into(), ImageFormat::Png), shape).expect("a picture");
    assert_eq!(at(&pixels, shape, 4, 1), [255, 0, 0]);
    assert_eq!(at(&pixels, shape, 4, 22), [0, 0, 255]);
    // A line of one pixel is a picture too.
    let line = RgbImage::from_pixel(500, 1, Rgb([7, 8, 9]));
    let pixels = to_pixels(&encode(&line.into(), ImageFormat::Png), SHAPE).expect("a picture");
    assert_eq!(at(&pixels, SHAPE, 31, 31), [7, 8, 9]);
}

#[test]
fn reducing_is_antialiased() {
    // Stripes of one pixel average to grey; picking single pixels would give black or white.
    let stripes = RgbImage::from_fn(320, 320, |x, _| Rgb([if x % 2 == 0 { 0 } else { 255 }; 3]));
    let pixels = to_pixels(&encode(&stripes.into(), ImageFormat::Png), SHAPE).expect("a picture");
    assert!(pixels.iter().all(|pixel| (118..=138).contains(pixel)), "{:?}", &pixels[..32]);
}

#[test]
fn grey_and_transparent_and_wide_pictures() {
    let grey = GrayImage::from_fn(32, 32, |x, y| Luma([(x * 3 + y * 5) as u8]));
    let pixels = to_pixels(&encode(&grey.clone().into(), ImageFormat::Png), SHAPE).expect("a picture");
    assert_eq!(pixels, [grey.as_raw().as_slice(); 3].concat());
    let one = Shape { channels: 1, ..SHAPE };
    assert_eq!(to_pixels(&encode(&grey.clone().into(), ImageFormat::Png), one).expect("a picture"), *grey.as_raw());

    // Transparent is white, half transparent half white, whatever colour lies below.
    let glass = RgbaImage::from_fn(32, 32, |x, _| Rgba([200, 100, 0, [0, 128, 255][(x % 3) as usize]]));
    let pixels = to_pixels(&encode(&glass.into(), ImageFormat::Png), SHAPE).expect("a picture");
    assert_eq!(at(&pixels, SHAPE, 5, 0), [255, 255, 255]);
    assert_eq!(at(&pixels, SHAPE, 5, 1), [227, 177, 127]);
    assert_eq!(at(&pixels, SHAPE, 5, 2), [200, 100, 0]);

    let deep = image::ImageBuffer::<Rgb<u16>, Vec<u16>>::from_pixel(32, 32, Rgb([65535, 257 * 128, 0]));
    let pixels = to_pixels(&encode(&deep.into(), ImageFormat::Png), SHAPE).expect("a picture");
    assert_eq!(at(&pixels, SHAPE, 0, 0), [255, 128, 0]);
}

#[test]
fn animations_show_their_first_frame() {
    let red = RgbaImage::from_pixel(32, 32, Rgba([255, 0, 0, 255]));
    let blue = RgbaImage::from_pixel(32, 32, Rgba([0, 0, 255, 255]));
    let mut gif = Vec::new();
    let mut encoder = GifEncoder::new(&mut gif);
    encoder.encode_frames([red.clone(), blue.clone()].map(Frame::new)).expect("encodes");
    drop(encoder);
    near(at(&to_pixels(&gif, SHAPE).expect("a picture"), SHAPE, 9, 9), [255, 0, 0]);

    // WebP container specification: VP8X with the animation flag, ANIM, and an ANMF around each frame's VP8L chunk,
    // which replaces the canvas and is not blended into it.
    let chunk = |name: &[u8], data: &[u8]| [name, &(data.len() as u32).to_le_bytes(), data].concat();
    let frame = |picture: RgbaImage| {
        let still = encode(&picture.into(), ImageFormat::WebP);
        let place = [&[0; 6][..], &[31, 0, 0, 31, 0, 0, 100, 0, 0, 2]].concat();
        chunk(b"ANMF", &[&place, &still[12..]].concat())
    };
    let body = [
        b"WEBP".to_vec(),
        chunk(b"VP8X", &[2, 0, 0, 0, 31, 0, 0, 31, 0, 0]),
        chunk(b"ANIM", &[0, 0, 0, 0, 0, 0]),
        frame(red),
        frame(blue),
    ]
    .concat();
    let webp = chunk(b"RIFF", &body);
    assert_eq!(at(&to_pixels(&webp, SHAPE).expect("a picture"), SHAPE, 9, 9), [255, 0, 0]);
}

#[test]
fn what_is_no_picture_is_refused() {
    assert_eq!(message(b""), "the file is empty");
    assert_eq!(message(b"What is in this picture?\n"), "not a picture: expected PNG, JPEG, WebP, GIF or BMP");
    assert_eq!(message(&[0; 4096]), "not a picture: expected PNG, JPEG, WebP, GIF or BMP");
    assert_eq!(message(b"II*\0\x08\0\0\0"), "a TIFF picture: expected PNG, JPEG, WebP, GIF or BMP");
    assert_eq!(message(&vec![0; (64 << 20) + 1]), "the file has 67108865 bytes, more than 67108864");
    let file = encode(&sample(32, 32).into(), ImageFormat::Png);
    let shape = Shape { channels: 2, ..SHAPE };
    let error = to_pixels(&file, shape).expect_err("no such picture");
    assert_eq!(error.to_string(), "the model takes 2 channels, a picture has 1 or 3");
}

#[test]
fn truncated_pictures_are_refused() {
    // Noise, so that the data are spread over the whole file.
    let mut state = 1u32;
    let noise = RgbImage::from_fn(64, 64, |_, _| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Rgb([(state >> 24) as u8, (state >> 16) as u8, (state >> 8) as u8])
    });
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP, ImageFormat::Gif, ImageFormat::Bmp] {
        let file = encode(&noise.clone().into(), format);
        to_pixels(&file, SHAPE).expect("whole");
        for part in [3, 8, 20, 40, file.len() / 3, file.len() / 2, file.len() * 9 / 10] {
            let error = to_pixels(&file[..part], SHAPE).expect_err("cut");
            let right =
                matches!(error, PictureError::Truncated | PictureError::Damaged { .. } | PictureError::NotAPicture);
            assert!(right, "{format:?} cut at {part}: {error}");
        }
    }
    let jpeg = encode(&noise.into(), ImageFormat::Jpeg);
    assert_eq!(message(&jpeg[..jpeg.len() / 2]), "the picture is truncated");
    assert_eq!(message(&jpeg[..jpeg.len() - 2]), "the picture is truncated");
}

/// A PNG of a given size and depth that has no data.
fn png_header(width: u32, height: u32, depth: u8, colour: u8) -> Vec<u8> {
    let chunk = |name: &[u8; 4], data: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(name);
        crc.update(data);
        [&(data.len() as u32).to_be_bytes(), &name[..], data, &crc.sum().to_be_bytes()].concat()
    };
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[depth, colour, 0, 0, 0]].concat();
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &header), chunk(b"IDAT", &[]), chunk(b"IEND", &[])].concat()
}

#[test]
fn bombs_are_refused_before_they_are_unpacked() {
    assert_eq!(message(&png_header(100_000, 1, 8, 2)), "the picture is too large: 100000x1 pixels");
    assert_eq!(message(&png_header(20_000, 20_000, 8, 2)), "the picture is too large: 20000x20000 pixels");
    assert_eq!(
        message(&png_header(11_000, 11_000, 16, 6)),
        "decoding the picture takes more than 536870912 bytes of memory"
    );
    // A GIF of a few bytes that claims the largest canvas.
    let gif = b"GIF89a\xFF\xFF\xFF\xFF\x00\x00\x00\x2C\0\0\0\0\xFF\xFF\xFF\xFF\0\x02\x02\x44\x01\0\x3B";
    assert_eq!(message(gif), "the picture is too large: 65535x65535 pixels");
    // The largest that a picture may be is only damaged here, not too large.
    assert_eq!(message(&png_header(8192, 16_384, 8, 0)), "the picture is truncated or damaged");
}
