//! From files of every kind to what a task carries.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgb, RgbImage};
use ocelli_model::attachment::{Done, Form, Why};
use ocelli_model::picture::to_pixels;
use ocelli_model::{Attachment, PictureError, Shape, graph};
use ocelli_picture::{Input, MAX_FILE_BYTES, Refusal, Sides, WHOLE, kept, pixels, sides};
use sha2::{Digest as _, Sha256};

const LARGE: Input = Input { channels: 3, height: 224, width: 224, crop: WHOLE };
const SMALL: Input = Input { channels: 3, height: 32, width: 32, crop: WHOLE };

fn shape(input: Input) -> Shape {
    Shape { channels: input.channels, height: input.height, width: input.width }
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What a camera might see: slopes and an edge, different in every direction.
fn scene(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let edge = if x * 3 > width && y * 4 > height { 60 } else { 0 };
        Rgb([(x * 180 / width) as u8 + edge, (y * 150 / height) as u8 + edge, 200 - (x * 90 / width) as u8])
    })
}

fn noise(width: u32, height: u32) -> RgbImage {
    let mut state = 7u32;
    RgbImage::from_fn(width, height, |_, _| {
        Rgb([(); 3].map(|()| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        }))
    })
}

fn png(picture: impl Into<DynamicImage>) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    picture.into().write_to(&mut file, ImageFormat::Png).expect("encodes");
    file.into_inner()
}

/// Makes an attachment, and holds it against what everybody relies on.
fn make(file: &[u8], input: Input) -> Attachment {
    let made = Attachment::from_file(file, input).expect("a picture");
    assert!((1..=MAX_FILE_BYTES).contains(&made.bytes.len()));
    assert_eq!(made.pixels.len(), shape(input).elements());
    match made.form {
        Form::Pixels => assert_eq!(made.pixels, made.bytes),
        Form::Jpeg(expected) => {
            assert_eq!(sides(&made.bytes), Ok(expected));
            assert_eq!(pixels(&made.bytes, input).as_ref(), Ok(&made.pixels));
        }
    }
    assert_eq!(made.file_hash[..], Sha256::digest(file)[..]);
    assert_eq!(made.sent_hash[..], Sha256::digest(&made.bytes)[..]);
    made
}

fn mean_difference(one: &[u8], other: &[u8]) -> f64 {
    assert_eq!(one.len(), other.len());
    let sum: u64 = one.iter().zip(other).map(|(one, other)| u64::from(one.abs_diff(*other))).sum();
    sum as f64 / one.len() as f64
}

fn segment(marker: u8, body: &[u8]) -> Vec<u8> {
    [&[0xFF, marker], &(body.len() as u16 + 2).to_be_bytes()[..], body].concat()
}

fn oriented(orientation: u8) -> Vec<u8> {
    let entry = [0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0];
    segment(0xE1, &[b"Exif\0\0MM\0*\0\0\0\x08\0\x01", &entry[..], &[0; 4]].concat())
}

/// A JPEG that the network takes: one of its golden files, 500x375.
fn jpeg() -> Vec<u8> {
    fs::read(here("picture/tests/vectors/good/scene_500x375.jpg")).expect("a golden file")
}

#[test]
fn a_file_that_the_network_takes_is_sent_as_it_is() {
    let file = jpeg();
    let made = make(&file, LARGE);
    assert_eq!((made.form, &made.done), (Form::Jpeg(Sides { columns: 500, rows: 375 }), &Done::AsItIs));
    assert_eq!(made.bytes, file);
    assert_eq!(made.done.to_string(), "the file as it is");
    // Even where the model's pixels would be fewer bytes.
    assert_eq!(make(&file, SMALL).done, Done::AsItIs);
}

#[test]
fn metadata_are_left_out() {
    let file = jpeg();
    let metadata = [oriented(1), segment(0xE2, b"ICC_PROFILE\0 and so on"), segment(0xFE, b"where we were")].concat();
    let made = make(&[&file[..2], &metadata, &file[2..]].concat(), LARGE);
    assert_eq!(made.done, Done::WithoutMetadata { left_out: metadata.len() });
    assert_eq!(made.bytes, file);
    let words = format!("the file without {} bytes of metadata, its picture untouched", metadata.len());
    assert_eq!(made.done.to_string(), words);
}

#[test]
fn a_turned_picture_is_encoded_upright() {
    let file = jpeg();
    let turned = [&file[..2], &oriented(6), &file[2..]].concat();
    let made = make(&turned, LARGE);
    let sides = Sides { columns: 224, rows: 224 };
    let why = Why::Refused(Refusal::Turned { orientation: 6 });
    assert_eq!(made.done, Done::Encoded { quality: 95, sides, why });
    assert_eq!(made.form, Form::Jpeg(sides));
    let expected = to_pixels(&turned, shape(LARGE)).expect("a picture");
    assert!(mean_difference(&made.pixels, &expected) < 3.0);
    assert!(mean_difference(&made.pixels, &make(&file, LARGE).pixels) > 10.0, "it is turned");
    assert_eq!(
        made.done.to_string(),
        "a new JPEG of 224x224 pixels at quality 95: EXIF turns or mirrors the picture (orientation 6)"
    );
}

#[test]
fn other_formats_and_kinds_are_encoded_at_the_size_of_the_model() {
    let made = make(&png(scene(640, 480)), LARGE);
    let sides = Sides { columns: 224, rows: 224 };
    assert_eq!(made.done, Done::Encoded { quality: 95, sides, why: Why::OtherFormat });
    let expected = to_pixels(&png(scene(640, 480)), shape(LARGE)).expect("a picture");
    assert!(mean_difference(&made.pixels, &expected) < 2.0);
    assert!(made.bytes.len() < 25_000);
    // What is smaller than the model's input is not enlarged before it is sent.
    let made = make(&png(scene(60, 50)), LARGE);
    assert_eq!(made.form, Form::Jpeg(Sides { columns: 50, rows: 50 }));
    // A model of another aspect.
    let wide = Input { height: 100, width: 300, ..LARGE };
    assert_eq!(make(&png(scene(640, 480)), wide).form, Form::Jpeg(Sides { columns: 300, rows: 100 }));
    // Progressive.
    let file = fs::read(here("tests/pictures/jpeg/progressive-420.jpg")).expect("a picture");
    let Done::Encoded { why, .. } = make(&file, LARGE).done else { panic!("it is encoded anew") };
    assert!(matches!(why, Why::Refused(Refusal::Marker { found: 0xC2, .. })), "{why}");
}

#[test]
fn a_model_that_sees_less_gets_what_is_around() {
    for (crop, height, width) in [(224, 224, 224), (255, 200, 100), (200, 96, 160), (177, 80, 77), (131, 77, 300)] {
        let input = Input { height, width, crop, ..LARGE };
        let Form::Jpeg(sides) = make(&png(scene(1_500, 1_200)), input).form else { panic!("a JPEG") };
        let kept = kept(sides, input);
        let off = (height - kept.rows).max(width - kept.columns);
        assert!(off <= usize::from(height != width), "{input:?} keeps {kept:?} of {sides:?}");
    }
    // There is no picture large enough.
    let input = Input { crop: 1, ..LARGE };
    assert_eq!(make(&png(scene(1_500, 1_200)), input).form, Form::Jpeg(Sides { columns: 1_024, rows: 1_024 }));
    let input = Input { crop: 224, ..LARGE };
    let made = make(&png(scene(1_500, 1_200)), input);
    assert_eq!(made.form, Form::Jpeg(Sides { columns: 256, rows: 256 }));
}

#[test]
fn grey_pictures_and_grey_models_get_grey_files() {
    let components = |file: &[u8]| {
        let at = file.windows(2).position(|bytes| bytes == [0xFF, 0xC0]).expect("SOF0");
        file[at + 9]
    };
    let grey = GrayImage::from_fn(300, 300, |x, y| Luma([(x * 2 / 3) as u8 ^ (y / 7) as u8]));
    assert_eq!(components(&make(&png(grey), LARGE).bytes), 1);
    let model = Input { channels: 1, ..LARGE };
    assert_eq!(components(&make(&png(scene(300, 300)), model).bytes), 1);
    assert_eq!(components(&make(&png(scene(300, 300)), LARGE).bytes), 3);
}

#[test]
fn small_models_get_pixels_without_loss() {
    let file = png(scene(640, 480));
    let made = make(&file, SMALL);
    assert_eq!((made.form, &made.done), (Form::Pixels, &Done::Pixels { why: Why::Lossless }));
    assert_eq!(made.pixels, to_pixels(&file, shape(SMALL)).expect("a picture"));
    // A file that has lost something, where a JPEG is larger still.
    let tiny = Input { height: 8, width: 8, ..SMALL };
    let progressive = fs::read(here("tests/pictures/jpeg/progressive-420.jpg")).expect("a picture");
    let made = make(&progressive, tiny);
    assert_eq!((made.form, &made.done), (Form::Pixels, &Done::Pixels { why: Why::FewerBytes }));
}

#[test]
fn what_is_too_large_is_encoded_at_a_lower_quality() {
    let input = Input { height: 1_024, width: 1_024, ..LARGE };
    let made = make(&png(noise(1_024, 1_024)), input);
    let Done::Encoded { quality, .. } = made.done else { panic!("it is encoded anew") };
    assert!(quality < 95);
}

#[test]
fn models_that_take_no_jpeg_get_pixels_or_an_error() {
    let file = png(scene(640, 480));
    let line = Input { height: 2, width: 2_000, ..LARGE };
    let made = make(&file, line);
    assert_eq!(made.done, Done::Pixels { why: Why::Refused(Refusal::Side { found: 2_000 }) });
    let error = |input| Attachment::from_file(&file, input).expect_err("no such model").to_string();
    assert_eq!(
        error(Input { height: 1_025, width: 1_025, ..LARGE }),
        "the model takes 3151875 bytes of pixels, more than the 262144 that a task carries"
    );
    assert_eq!(error(Input { channels: 2, ..LARGE }), "the model takes 2 channels, a picture has 1 or 3");
}

#[test]
fn what_is_no_picture_is_an_error() {
    let error = |file: &[u8]| Attachment::from_file(file, LARGE).expect_err("no picture");
    assert!(matches!(error(b""), PictureError::Empty));
    assert!(matches!(error(b"What is in this picture?\n"), PictureError::NotAPicture));
    let file = jpeg();
    assert!(matches!(error(&file[..file.len() / 2]), PictureError::Truncated));
}

#[test]
fn pictures_of_every_kind_are_sent_and_seen_the_same() {
    for kind in ["jpeg", "png", "gif", "bmp", "webp"] {
        for entry in fs::read_dir(here("tests/pictures").join(kind)).expect("a folder") {
            let path = entry.expect("an entry").path();
            let file = fs::read(&path).expect("a picture");
            for input in [SMALL, LARGE, Input { channels: 1, height: 30, width: 90, crop: 200 }] {
                make(&file, input);
            }
        }
    }
}

#[test]
fn what_the_model_sees_is_a_png() {
    for channels in [1, 3] {
        let input = Input { channels, height: 40, width: 50, crop: WHOLE };
        let made = make(&jpeg(), input);
        let file = made.to_png(input).expect("encodes");
        assert_eq!(to_pixels(&file, shape(input)).expect("a picture"), made.pixels);
    }
}

#[test]
fn a_models_crop_is_heeded() {
    let mut input = graph::Input::new(3, 4, 4);
    input.crop = 128;
    // Of 8x8 pixels the model sees the 4x4 in the middle, as they are.
    let picture = RgbImage::from_fn(8, 8, |x, y| Rgb([x as u8 * 9, y as u8 * 7, (x * y) as u8]));
    let mut file = Cursor::new(Vec::new());
    picture.write_to(&mut file, ImageFormat::Png).expect("encodes");
    let places = || (2..6).flat_map(|y| (2..6).map(move |x| (x, y)));
    let middle: Vec<u8> = (0..3)
        .flat_map(|channel| places().map(move |(x, y)| (x, y, channel)))
        .map(|(x, y, channel)| picture.get_pixel(x, y).0[channel])
        .collect();
    assert_eq!(to_pixels(file.get_ref(), &input).expect("a picture"), middle);
}
