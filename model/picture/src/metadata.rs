//! Leaving a file's metadata out, its scan untouched: a fixed procedure, so that anybody who has the first file finds the second.

use crate::exif;
use crate::markers::{APP0, DHT, DQT, DRI, EOI, RST0, SOF0, SOI, SOS, is_jfif};
use crate::refusal::Refusal;

const APP1: u8 = 0xE1;
const APP14: u8 = 0xEE;
const APP15: u8 = 0xEF;
const COM: u8 = 0xFE;

/// The file without what [`pixels`](crate::pixels) does not take for being metadata. Kept, in their order, are SOI, the first
/// APP0 of JFIF 1 without thumbnail, DQT, DHT, DRI, SOF0, SOS, the scan and EOI. Left out are all other APP0 to APP15 and
/// COM, fill bytes before a marker, and what follows EOI.
///
/// What is kept is not checked: it may still be refused. A file without metadata comes back as it is.
///
/// # Errors
/// If EXIF turns the picture, Adobe's marker may change its colours, or there is another segment that would have to go.
pub fn without_metadata(file: &[u8]) -> Result<Vec<u8>, Refusal> {
    if !file.starts_with(&[0xFF, SOI]) {
        return Err(Refusal::NoStart);
    }
    let mut kept = vec![0xFF, SOI];
    let (mut at, mut jfif, mut adobe, mut components) = (2, false, None, 0);
    loop {
        let first = *file.get(at).ok_or(Refusal::HeaderEnds)?;
        if first != 0xFF {
            return Err(Refusal::NoMarker { at, found: first });
        }
        let fill = file[at + 1..].iter().take_while(|byte| **byte == 0xFF).count();
        at += fill;
        let Some(&[_, marker, high, low]) = file[at..].first_chunk() else { return Err(Refusal::HeaderEnds) };
        let found = u16::from_be_bytes([high, low]);
        let segment = file[at..].get(..2 + usize::from(found)).filter(|_| found >= 2);
        let segment = segment.ok_or(Refusal::SegmentLength { at, marker, found })?;
        let body = &segment[4..];
        match marker {
            APP0 if !jfif && is_jfif(body) => {
                jfif = true;
                kept.extend_from_slice(segment);
            }
            DQT | DHT | DRI => kept.extend_from_slice(segment),
            SOF0 => {
                components = body.get(5).copied().unwrap_or(0);
                kept.extend_from_slice(segment);
            }
            SOS => {
                // With one component there is nothing to transform.
                if let Some(transform) = adobe.filter(|transform| components != 1 && *transform != 1) {
                    return Err(Refusal::Adobe { transform });
                }
                kept.extend_from_slice(segment);
                copy_scan(file, at + segment.len(), &mut kept)?;
                return Ok(kept);
            }
            APP0..=APP15 | COM => {
                if marker == APP1
                    && let Some(orientation) = body.strip_prefix(b"Exif\0\0").and_then(exif::orientation)
                    && orientation != 1
                {
                    return Err(Refusal::Turned { orientation });
                }
                if marker == APP14 && body.starts_with(b"Adobe") {
                    adobe = adobe.or(body.get(11).copied());
                }
            }
            found => return Err(Refusal::Marker { at, found }),
        }
        at += segment.len();
    }
}

/// Copies a scan from `from` up to and including EOI.
fn copy_scan(file: &[u8], from: usize, kept: &mut Vec<u8>) -> Result<(), Refusal> {
    let mut at = from;
    loop {
        at += file[at..].iter().position(|byte| *byte == 0xFF).ok_or(Refusal::ScanEnds)?;
        match *file.get(at + 1).ok_or(Refusal::ScanEnds)? {
            EOI => break,
            0 | RST0..=0xD7 => at += 2,
            found => return Err(Refusal::ScanMarker { at, found, expected: EOI }),
        }
    }
    kept.extend_from_slice(&file[from..at + 2]);
    Ok(())
}
