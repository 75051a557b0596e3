//! Whatever the bytes are: no panic, and what is taken gives the same pixels twice.

use std::fs;
use std::path::Path;

use ocelli_picture::{Input, MAX_FILE_BYTES, WHOLE, pixels, sides};
use proptest::prelude::*;
use proptest::sample::{Index, select};

fn golden() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/good");
    let mut paths: Vec<_> =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let files = paths.into_iter().map(|path| fs::read(path).expect("a file"));
    // The large ones take long and have nothing that the small ones lack.
    files.filter(|file| file.len() < 4_000).collect()
}

#[derive(Debug, Clone)]
enum Change {
    Byte(u8),
    Bit(u8),
    Remove,
    Insert(u8),
    Repeat(usize),
    Cut,
}

fn change() -> impl Strategy<Value = (Index, Change)> {
    let byte = prop_oneof![any::<u8>(), select(vec![0, 1, 0x7F, 0x80, 0xC0, 0xC4, 0xD0, 0xD7, 0xD9, 0xDA, 0xFF])];
    let change = prop_oneof![
        4 => byte.clone().prop_map(Change::Byte),
        4 => (0..8u8).prop_map(Change::Bit),
        1 => Just(Change::Remove),
        1 => byte.prop_map(Change::Insert),
        1 => (1..80usize).prop_map(Change::Repeat),
        1 => Just(Change::Cut),
    ];
    (any::<Index>(), change)
}

fn apply(file: &mut Vec<u8>, (at, change): &(Index, Change)) {
    if file.is_empty() {
        return;
    }
    let at = at.index(file.len());
    match change {
        Change::Byte(byte) => file[at] = *byte,
        Change::Bit(bit) => file[at] ^= 1 << bit,
        Change::Remove => drop(file.remove(at)),
        Change::Insert(byte) => file.insert(at, *byte),
        Change::Repeat(length) => {
            let part = file[at..file.len().min(at + length)].to_vec();
            file.splice(at..at, part);
        }
        Change::Cut => file.truncate(at),
    }
}

fn input() -> impl Strategy<Value = Input> {
    let side = prop_oneof![8 => 1..40usize, 1 => select(vec![1, 224, 1_024])];
    let crop = prop_oneof![Just(WHOLE), 1..=WHOLE];
    (select(vec![1usize, 3]), side.clone(), side, crop).prop_map(|(channels, height, width, crop)| Input {
        channels,
        height,
        width,
        crop,
    })
}

/// Whether it is taken.
fn check(file: &[u8], input: Input) -> Result<bool, TestCaseError> {
    let found = pixels(file, input);
    prop_assert_eq!(&found, &pixels(file, input));
    if let Ok(found) = &found {
        prop_assert_eq!(found.len(), input.channels * input.height * input.width);
        prop_assert!(file.len() <= MAX_FILE_BYTES && sides(file).is_ok());
    }
    Ok(found.is_ok())
}

proptest! {
    #[test]
    fn changed_files_are_pixels_or_refused(
        file in select(golden()),
        changes in prop::collection::vec(change(), 1..4),
        input in input(),
    ) {
        let mut file = file;
        for change in &changes {
            apply(&mut file, change);
        }
        check(&file, input)?;
    }

    #[test]
    fn any_scan_is_pixels_or_refused(
        file in select(golden()),
        scan in prop::collection::vec(any::<u8>(), 0..600),
        input in input(),
    ) {
        // Behind SOS, which is the last segment, and before EOI.
        let at = file.windows(2).rposition(|bytes| bytes == [0xFF, 0xDA]).expect("a scan");
        let length = usize::from(u16::from_be_bytes([file[at + 2], file[at + 3]]));
        let mut file = file[..at + 2 + length].to_vec();
        for byte in scan {
            file.push(byte);
            if byte == 0xFF {
                file.push(0);
            }
        }
        file.extend([0xFF, 0xD9]);
        check(&file, input)?;
    }

    #[test]
    fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..400), input in input()) {
        prop_assert!(!check(&bytes, input)?);
        prop_assert!(!check(&[&[0xFF, 0xD8, 0xFF][..], &bytes].concat(), input)?);
    }
}

/// The other way round: each file cut anywhere is refused.
#[test]
fn cut_files_are_refused() {
    let input = Input { channels: 3, height: 8, width: 8, crop: WHOLE };
    for file in golden() {
        assert!(pixels(&file, input).is_ok());
        for end in 0..file.len() {
            assert!(pixels(&file[..end], input).is_err(), "cut at {end} of {}", file.len());
        }
    }
}
