//! The published test vectors of `aserti3-2d`, all of `tests/vectors/asert`.

use ocelli_consensus::difficulty::{Anchor, next_target};
use ocelli_consensus::target::CompactTarget;
use std::{fs, path::Path};

#[test]
fn published_vectors() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/asert");
    let mut lines = 0;
    for file in fs::read_dir(folder).unwrap() {
        lines += check(&file.unwrap().path());
    }
    assert!(lines >= 3000, "only {lines} vectors were found");
}

/// Checks one file and returns how many vectors it has. The target of a line is that of the block *after* the one at its
/// height and time.
fn check(file: &Path) -> usize {
    let text = fs::read_to_string(file).unwrap();
    let parameter = |names: [&str; 2]| {
        let line = text.lines().find(|line| names.iter().any(|name| line.contains(name))).unwrap();
        line.rsplit(' ').next().unwrap()
    };
    let bits = |text: &str| CompactTarget(u32::from_str_radix(text.trim_start_matches("0x"), 16).unwrap());
    let easiest = CompactTarget(0x1d00_ffff).to_target().unwrap();
    let anchor = Anchor {
        height: parameter(["anchor height:"; 2]).parse().unwrap(),
        target: bits(parameter(["anchor nBits:"; 2])).to_target().unwrap(),
        parent_time: parameter(["anchor ancestor time:", "anchor parent time:"]).parse().unwrap(),
    };
    let rows = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let count = rows
        .map(|line| {
            let [_, height, time, expected] = line.split_whitespace().collect::<Vec<_>>()[..] else {
                panic!("{}: {line}", file.display())
            };
            let (height, time) = (height.parse().unwrap(), time.parse().unwrap());
            let found = next_target(anchor, height, time, 600, 2 * 24 * 3600, easiest);
            assert_eq!(found, bits(expected), "{}: {line}", file.display());
        })
        .count();
    assert_eq!(count, parameter(["iterations:"; 2]).parse::<usize>().unwrap(), "{}", file.display());
    count
}
