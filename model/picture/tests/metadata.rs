//! Leaving metadata out.

use std::fs;
use std::path::Path;

use ocelli_picture::{Input, Refusal, WHOLE, pixels, without_metadata};

const INPUT: Input = Input { channels: 3, height: 16, width: 16, crop: WHOLE };

fn golden(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/good").join(name)).expect("a file")
}

fn segment(marker: u8, body: &[u8]) -> Vec<u8> {
    [&[0xFF, marker], &(body.len() as u16 + 2).to_be_bytes()[..], body].concat()
}

/// EXIF data with an orientation, in either order of bytes.
fn exif(orientation: u16, big: bool) -> Vec<u8> {
    let short = |value: u16| if big { value.to_be_bytes() } else { value.to_le_bytes() };
    let long = |value: u32| if big { value.to_be_bytes() } else { value.to_le_bytes() };
    let tiff: &[u8] = if big { b"MM\0*" } else { b"II*\0" };
    let make = [&short(0x010F)[..], &short(2), &long(2), b"a\0\0\0"].concat();
    let turn = [&short(0x0112)[..], &short(3), &long(1), &short(orientation), &[0, 0]].concat();
    let body = [b"Exif\0\0", tiff, &long(8), &short(2), &make, &turn, &long(0)].concat();
    segment(0xE1, &body)
}

fn adobe(transform: u8) -> Vec<u8> {
    segment(0xEE, &[b"Adobe\0\x64\0\0\0\0".as_slice(), &[transform]].concat())
}

/// A file with something behind its first segment, its APP0.
fn with(file: &[u8], what: &[u8]) -> Vec<u8> {
    [&file[..20], what, &file[20..]].concat()
}

#[test]
fn metadata_are_left_out_and_nothing_else() {
    for name in ["optimised.jpg", "restart_1.jpg", "tables_last.jpg", "size_grey_9x17.jpg", "no_app0.jpg"] {
        let file = golden(name);
        assert_eq!(without_metadata(&file).as_ref(), Ok(&file), "{name}: there are none");
    }
    let file = golden("optimised.jpg");
    let expected = pixels(&file, INPUT);
    let segments = [
        exif(1, true),
        exif(1, false),
        exif(0, true),
        exif(9, false),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>"),
        segment(0xE1, b"Exif\0\0II*\0"),
        segment(0xE2, b"ICC_PROFILE\0\x01\x01and so on"),
        adobe(1),
        segment(0xEE, b"Adobe"),
        segment(0xFE, b"a comment"),
        segment(0xE0, b"JFXX\0\x10"),
        file[2..20].to_vec(),
        vec![0xFF, 0xFF],
    ];
    for (number, what) in segments.iter().enumerate() {
        let full = with(&file, what);
        assert!(pixels(&full, INPUT).is_err(), "{number}");
        assert_eq!(without_metadata(&full).as_ref(), Ok(&file), "{number}");
    }
    let full = [with(&file, &segments.concat()), b"a second picture".to_vec()].concat();
    let bare = without_metadata(&full).expect("only metadata");
    assert_eq!(bare, file);
    assert_eq!(pixels(&bare, INPUT), expected);
}

#[test]
fn what_changes_the_picture_stays() {
    let file = golden("optimised.jpg");
    let at = |at: usize, found: u8| Refusal::Marker { at, found };
    let table = [
        (with(&file, &exif(6, true)), Refusal::Turned { orientation: 6 }),
        (with(&file, &exif(2, false)), Refusal::Turned { orientation: 2 }),
        (with(&file, &[exif(1, true), exif(8, true)].concat()), Refusal::Turned { orientation: 8 }),
        (with(&file, &adobe(0)), Refusal::Adobe { transform: 0 }),
        (with(&file, &adobe(2)), Refusal::Adobe { transform: 2 }),
        (with(&file, &segment(0xC2, &[])), at(20, 0xC2)),
        (with(&file, &segment(0xCC, &[])), at(20, 0xCC)),
        (with(&file, &[0]), Refusal::NoMarker { at: 20, found: 0 }),
        (with(&file, &[0xFF, 0xFE, 0, 1]), Refusal::SegmentLength { at: 20, marker: 0xFE, found: 1 }),
        (file[..20].to_vec(), Refusal::HeaderEnds),
        (file[..23].to_vec(), Refusal::HeaderEnds),
        (file[..file.len() - 1].to_vec(), Refusal::ScanEnds),
        (file[..file.len() - 2].to_vec(), Refusal::ScanEnds),
        (b"\x89PNG".to_vec(), Refusal::NoStart),
        (Vec::new(), Refusal::NoStart),
    ];
    for (number, (file, expected)) in table.into_iter().enumerate() {
        assert_eq!(without_metadata(&file), Err(expected), "{number}");
    }
    // Several scans.
    let scan = [&file[..file.len() - 2], &segment(0xC4, &[]), &[0xFF, 0xD9]].concat();
    let expected = Refusal::ScanMarker { at: file.len() - 2, found: 0xC4, expected: 0xD9 };
    assert_eq!(without_metadata(&scan), Err(expected));
    // Grey has no colours to change.
    let grey = golden("size_grey_9x17.jpg");
    assert_eq!(without_metadata(&with(&grey, &adobe(0))), Ok(grey));
}
