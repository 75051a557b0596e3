//! Pictures of every format and kind, and files that are none.

use std::collections::BTreeSet;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::codecs::gif::GifEncoder;
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

/// The folder of pictures that `make.py` there makes, with what other programs show for them.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pictures")
}

/// The pictures of the table whose names begin so, each with its reference and the most that a sample may differ.
fn table(kind: &str) -> Vec<(String, String, u8)> {
    let table = fs::read_to_string(folder().join("table.tsv")).expect("a table");
    let row = |line: &str| {
        let [name, reference, tolerance] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        (name.to_owned(), reference.to_owned(), tolerance.parse().expect("a number"))
    };
    table.lines().map(row).filter(|(name, ..)| name.starts_with(kind)).collect()
}

/// The size and samples of a PPM, which is so plain that no decoder is needed that might be at fault itself.
fn ppm(path: &Path) -> (Shape, Vec<u8>) {
    let file = fs::read(path).expect("a reference");
    let end = file.iter().position(|byte| *byte == b'\n').expect("a header");
    let header: Vec<&str> = str::from_utf8(&file[..end]).expect("text").split(' ').collect();
    let [width, height] = [1, 2].map(|at| header[at].parse().expect("a number"));
    let shape = Shape { channels: 3, height, width };
    let planes = (0..3).flat_map(|channel| file[end + 1..].iter().skip(channel).step_by(3).copied());
    (shape, planes.collect())
}

/// Holds all pictures of a kind against their references.
fn agree(kind: &str) {
    let rows = table(kind);
    assert!(!rows.is_empty(), "no pictures of the kind {kind}");
    let mut wrong = Vec::new();
    for (name, reference, tolerance) in rows {
        let (shape, expected) = ppm(&folder().join(reference));
        match to_pixels(&fs::read(folder().join(&name)).expect("a picture"), shape) {
            Ok(found) => {
                let most = found.iter().zip(&expected).map(|(found, expected)| found.abs_diff(*expected)).max();
                if found.len() != expected.len() || most > Some(tolerance) {
                    wrong.push(format!("{name}: differs by {}, at most {tolerance} is right", most.unwrap_or(0)));
                }
            }
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A test for each kind of picture, and the list of kinds.
macro_rules! kinds {
    ($($test:ident $kind:literal)*) => {
        $(
            #[test]
            fn $test() {
                agree($kind);
            }
        )*

        const KINDS: &[&str] = &[$($kind),*];
    };
}

kinds! {
    jpeg_sampling_factors_are_decoded_right "jpeg/sampling-"
    jpeg_odd_sampling_factors_are_decoded_right "jpeg/odd-sampling-"
    jpeg_restart_markers_are_decoded_right "jpeg/restarts-"
    jpeg_baseline_of_several_scans_is_decoded_right "jpeg/scans-"
    jpeg_progressive_is_decoded_right "jpeg/progressive-"
    jpeg_of_small_sizes_is_decoded_right "jpeg/size-"
    jpeg_extended_sequential_is_decoded_right "jpeg/extended-"
    jpeg_grey_is_decoded_right "jpeg/grey"
    jpeg_rgb_is_decoded_right "jpeg/rgb-"
    jpeg_ycc_is_decoded_right_whatever_its_markers "jpeg/ycc-"
    jpeg_cmyk_is_decoded_right "jpeg/cmyk-"
    jpeg_ycck_is_decoded_right "jpeg/ycck-"
    jpeg_profile_is_ignored "jpeg/app2-icc"
    jpeg_comments_are_skipped "jpeg/comment"
    jpeg_fill_bytes_are_skipped "jpeg/fill-bytes"
    jpeg_thumbnail_is_skipped "jpeg/thumbnail"
    jpeg_bytes_after_the_end_are_ignored "jpeg/trailing-"
    jpeg_that_is_whole_but_for_its_end_marker_is_read "jpeg/no-end"
    jpeg_is_turned_by_exif "jpeg/orientation-"
    png_rgb_is_decoded_right "png/rgb"
    png_grey_is_decoded_right "png/grey"
    png_palettes_are_decoded_right "png/palette-"
    png_profile_is_ignored "png/icc"
    png_gamma_is_ignored "png/gamma"
    png_animation_shows_its_first_frame "png/animated"
    png_is_turned_by_exif "png/orientation-"
    gif_plain_is_decoded_right "gif/plain"
    gif_without_trailer_is_read "gif/no-trailer"
    gif_background_is_ignored "gif/background"
    gif_interlaced_is_decoded_right "gif/interlaced"
    gif_local_palettes_are_decoded_right "gif/local-palette"
    gif_without_global_palette_is_decoded_right "gif/only-local-palette"
    gif_clear_colour_is_white "gif/clear"
    gif_frame_smaller_than_the_canvas_lies_on_white "gif/smaller"
    gif_frame_lies_where_it_belongs "gif/offset"
    gif_animation_shows_its_first_frame "gif/animated-"
    bmp_core_header_is_decoded_right "bmp/core-"
    bmp_info_header_is_decoded_right "bmp/info-"
    bmp_v2_header_is_decoded_right "bmp/v2-"
    bmp_v3_header_is_decoded_right "bmp/v3-"
    bmp_v4_header_is_decoded_right "bmp/v4-"
    bmp_v5_header_is_decoded_right "bmp/v5-"
    bmp_top_down_is_decoded_right "bmp/top-down-"
    bmp_gap_is_skipped "bmp/gap-"
    bmp_run_lengths_are_decoded_right "bmp/rle"
    webp_lossless_is_decoded_right "webp/lossless"
    webp_lossy_is_decoded_right "webp/lossy"
    webp_profile_is_ignored "webp/icc"
    webp_unknown_chunks_are_skipped "webp/unknown-"
    webp_animation_shows_its_first_frame "webp/animated-"
    webp_is_turned_by_exif "webp/orientation-"
    reported_pictures_are_decoded_right "reported/"
}

#[test]
fn each_picture_of_the_table_has_a_test_and_each_file_a_row() {
    let named: BTreeSet<String> = table("").into_iter().map(|(name, ..)| name).collect();
    for name in &named {
        assert!(KINDS.iter().any(|kind| name.starts_with(kind)), "{name} is of no kind");
    }
    for kind in ["jpeg", "png", "gif", "bmp", "webp"] {
        for entry in fs::read_dir(folder().join(kind)).expect("a folder") {
            let name = format!("{kind}/{}", entry.expect("an entry").file_name().display());
            assert!(named.contains(&name), "{name} is in no row");
        }
    }
}

#[test]
fn what_would_be_decoded_wrongly_is_refused_in_words() {
    let cut = "the picture is truncated: copy or download it again";
    let short = "the JPEG is damaged: invalid JPEG format: failed to decode huffman code";
    let broken = "the picture is truncated or damaged";
    let kinds = [
        ("jpeg-12-bit.jpg", "a JPEG with 12 bits a sample"),
        ("jpeg-arithmetic.jpg", "a JPEG with arithmetic coding"),
        ("jpeg-arithmetic-progressive.jpg", "a JPEG with arithmetic coding"),
        ("jpeg-lossless.jpg", "a JPEG with lossless coding"),
        ("jpeg-lossless-arithmetic.jpg", "a JPEG with lossless coding"),
        ("jpeg-hierarchical.jpg", "a JPEG with hierarchical coding"),
        ("jpeg-two-components.jpg", "a JPEG with 2 components"),
        ("jpeg-height-after-scan.jpg", "a JPEG with its height after its first scan (DNL)"),
        ("jpeg-fractional-sampling.jpg", "a JPEG with the sampling factors 3x2,2x1,1x1"),
        ("jpeg-sampling-y-4x1-chroma-2x1.jpg", "a JPEG with the sampling factors 4x1,2x1,2x1"),
        ("jpeg-sampling-y-4x1-cb-2x1.jpg", "a JPEG with the sampling factors 4x1,2x1,1x1"),
        ("jpeg-narrow.jpg", "a JPEG with a width of 4 and fewer samples of colour"),
        ("jpeg-dc-only.jpg", "a JPEG with scans that leave out a part of it"),
        ("jpeg-bits-left-out.jpg", "a JPEG with scans that leave out a part of it"),
        ("jpeg-scan-missing.jpg", "a JPEG with scans that leave out a part of it"),
        ("gif-outside-right.gif", "a GIF whose first frame, 8x5 at 7,0, reaches beyond its canvas of 13x9"),
        ("gif-outside-below.gif", "a GIF whose first frame, 8x5 at 0,6, reaches beyond its canvas of 13x9"),
        ("gif-outside-corner.gif", "a GIF whose first frame, 8x5 at 10,7, reaches beyond its canvas of 13x9"),
        ("gif-outside-larger.gif", "a GIF whose first frame, 15x12 at 0,0, reaches beyond its canvas of 13x9"),
        ("gif-outside-wholly.gif", "a GIF whose first frame, 8x5 at 30,0, reaches beyond its canvas of 13x9"),
        ("gif-outside-only-lower.gif", "a GIF whose first frame, 13x9 at 0,4, reaches beyond its canvas of 13x9"),
        ("../reported/gif-outside.gif", "a GIF whose first frame, 8x8 at 12,12, reaches beyond its canvas of 16x16"),
        ("webp-animated-smaller.webp", "a WebP animation without alpha whose first frame is smaller than its canvas"),
        ("bmp-pixels-in-header.bmp", "a BMP whose pixels begin in its headers"),
        ("bmp-rle8-row-ends-early.bmp", "a BMP whose run lengths leave pixels out"),
        ("bmp-rle8-jump.bmp", "a BMP whose run lengths leave pixels out"),
        ("bmp-rle8-ends-early.bmp", "a BMP whose run lengths leave pixels out"),
    ];
    let kinds = kinds.map(|(file, found)| {
        (file, format!("{found} is not read: open the picture in another program and save it as PNG"))
    });
    let others = [
        ("jpeg-no-scan.jpg", "the JPEG is damaged: it has no scan"),
        ("jpeg-restart-missing.jpg", "the JPEG is damaged: invalid JPEG format: found RST1 where RST0 was expected"),
        ("jpeg-restart-short.jpg", short),
        ("jpeg-cut.jpg", cut),
        ("jpeg-cut-two-bytes.jpg", cut),
        ("jpeg-cut-with-end.jpg", short),
        ("jpeg-cut-one-byte-with-end.jpg", short),
        ("jpeg-cut-progressive.jpg", cut),
        ("jpeg-cut-progressive-with-end.jpg", short),
        ("jpeg-cut-progressive-half.jpg", cut),
        ("jpeg-cut-scans.jpg", cut),
        ("jpeg-cut-scans-with-end.jpg", short),
        ("jpeg-cut-scans-half.jpg", cut),
        ("jpeg-cut-restarts.jpg", cut),
        ("jpeg-cut-restarts-with-end.jpg", short),
        ("jpeg-cut-restarts-half.jpg", cut),
        ("png-cut.png", broken),
        ("png-checksum.png", broken),
        ("png-short.png", broken),
        ("gif-cut.gif", broken),
        ("gif-few-pixels.gif", broken),
        ("gif-no-frame.gif", broken),
        ("gif-no-palette.gif", broken),
        ("bmp-cut.bmp", broken),
        ("bmp-os2-64.bmp", broken),
        ("bmp-jpeg-inside.bmp", broken),
        ("webp-cut.webp", broken),
        ("webp-lossy-cut.webp", broken),
        ("webp-other-size.webp", broken),
        ("webp-outside.webp", broken),
    ];
    let rows: Vec<(&str, String)> =
        kinds.into_iter().chain(others.map(|(file, words)| (file, words.to_owned()))).collect();
    let mut wrong = Vec::new();
    for (name, words) in &rows {
        match to_pixels(&fs::read(folder().join("refused").join(name)).expect("a picture"), SHAPE) {
            Ok(_) => wrong.push(format!("{name}: is read, expected: {words}")),
            Err(error) if error.to_string() != *words => wrong.push(format!("{name}: {error}, expected: {words}")),
            Err(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for entry in fs::read_dir(folder().join("refused")).expect("a folder") {
        let name = entry.expect("an entry").file_name();
        assert!(rows.iter().any(|(row, _)| **row == *name), "{} has no words", name.display());
    }
}

/// A JPEG of the folder with an EXIF orientation that is none.
#[test]
fn an_unknown_orientation_turns_nothing() {
    let mut jpeg = fs::read(folder().join("jpeg/orientation-1.jpg")).expect("a picture");
    let shape = Shape { channels: 3, height: 9, width: 13 };
    let upright = to_pixels(&jpeg, shape).expect("a picture");
    let entry = b"\x12\x01\x03\0\x01\0\0\0\x01";
    let at = jpeg.windows(entry.len()).position(|bytes| bytes == entry).expect("an orientation");
    jpeg[at + entry.len() - 1] = 9;
    assert_eq!(to_pixels(&jpeg, shape).expect("a picture"), upright);
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
    let jpeg = fs::read(folder().join("jpeg/sampling-420.jpg")).expect("a picture");
    let others = [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Gif, ImageFormat::Bmp];
    let others = others.map(|format| encode(&noise.clone().into(), format));
    for file in others.iter().chain([&jpeg]) {
        to_pixels(file, SHAPE).expect("whole");
        for part in [3, 8, 20, 40, file.len() / 3, file.len() / 2, file.len() * 9 / 10] {
            let error = to_pixels(&file[..part], SHAPE).expect_err("cut");
            let right =
                matches!(error, PictureError::Truncated | PictureError::Damaged { .. } | PictureError::NotAPicture);
            assert!(right, "cut at {part}: {error}");
        }
    }
    // All of a JPEG's cuts are seen, down to the one that takes only its end marker.
    let words = "the picture is truncated: copy or download it again";
    for end in 4..jpeg.len() - 3 {
        assert_eq!(message(&jpeg[..end]), words, "cut at {end}");
    }
}

#[test]
fn damaged_pictures_are_pixels_or_errors() {
    // Eight damaged copies of each picture; a panic fails the test.
    let mut state = 1u32;
    let mut random = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    for (name, ..) in table("") {
        let whole = fs::read(folder().join(&name)).expect("a picture");
        for _ in 0..8 {
            let mut file = whole.clone();
            for _ in 0..=random(4) {
                let at = random(file.len());
                match random(4) {
                    0 => file[at] = random(256) as u8,
                    1 => file[at] ^= 1 << random(8),
                    2 => file[at] = [0, 0x7F, 0x80, 0xFF][random(4)],
                    _ => drop(file.remove(at)),
                }
            }
            if let Ok(pixels) = to_pixels(&file, SHAPE) {
                assert_eq!(pixels.len(), 3 * 32 * 32, "{name}");
            }
        }
    }
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
