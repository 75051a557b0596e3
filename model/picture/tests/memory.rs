//! What a stranger's file makes the decoder allocate: bytes counted, of all golden files, all that must be refused, and changed ones.
//! The bound is that of `docs/picture.md`.

use std::fs;
use std::path::Path;

use allocation_counter::measure;
use ocelli_picture::{Input, WHOLE, check, pixels, sides, without_metadata};

/// Tables, filters of a resizing, and what is allocated beside what grows.
const SLACK: usize = 64 << 10;
/// Whatever the file and the model.
const MOST: u64 = 13_000_000;
/// Changed files of each.
const MUTANTS: usize = 24;

fn files() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let paths = ["good", "bad"].map(|name| fs::read_dir(folder.join(name)).expect("a folder"));
    let mut paths: Vec<_> = paths.into_iter().flatten().map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.display().to_string(), fs::read(&path).expect("a file"))).collect()
}

/// The most bytes at a time: nothing but copies of the file where its segments are refused, else planes of whole blocks, the columns at
/// work and what is half resized beside them, and the result.
fn bound(file: &[u8], input: Input) -> usize {
    let planes = sides(file).map_or(0, |sides| {
        let [columns, rows] = [sides.columns, sides.rows].map(|side| usize::from(side).next_multiple_of(16));
        4 * rows * (columns + input.width.next_multiple_of(64))
    });
    planes + 8 * input.height * input.width + 4 * file.len() + SLACK
}

fn hold(name: &str, file: &[u8], input: Input) {
    let bound = bound(file, input) as u64;
    let runs: [(&str, &dyn Fn()); 3] = [
        ("pixels", &|| drop(pixels(file, input))),
        ("check", &|| _ = check(file)),
        ("without metadata", &|| drop(without_metadata(file))),
    ];
    for (what, run) in runs {
        let found = measure(run);
        assert!(
            found.bytes_max <= bound.min(MOST) && found.bytes_total <= 2 * bound,
            "{name}, {what} for {input:?}: {} bytes at a time, {} in all, {bound} and twice that at most",
            found.bytes_max,
            found.bytes_total
        );
    }
}

#[test]
fn files_take_no_more_than_their_sides_and_the_models_say() {
    let input = |channels, height, width| Input { channels, height, width, crop: WHOLE };
    let inputs = [input(3, 1, 1), input(3, 224, 224), input(1, 32, 32), input(1, 1_024, 3), input(3, 3, 1_024)];
    // Numbers by a rule: those of Knuth's MMIX.
    let mut random = 1_u64;
    let mut next = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % below.max(1)
    };
    for (name, file) in files() {
        for input in inputs.into_iter().chain([input(3, 1_024, 1_024)]) {
            hold(&name, &file, input);
        }
        for number in 0..MUTANTS {
            let mut file = file.clone();
            for _ in 0..=next(3) {
                // Half of the changes in the segments, where sides and tables are.
                let reach = if next(2) == 0 { file.len().min(700) } else { file.len() };
                let at = next(reach);
                match (next(4), file.get_mut(at)) {
                    (0, Some(byte)) => *byte = 0xFF,
                    (1, Some(byte)) => *byte ^= 1 << next(8),
                    (2, Some(byte)) => *byte = next(256) as u8,
                    _ => file.truncate(at),
                }
            }
            hold(&format!("{name}, changed {number}"), &file, inputs[number % inputs.len()]);
        }
    }
}
