//! Against Pillow, where Python has it: the same pixels for files that Pillow writes, and for changed ones that are taken.

use std::env;
use std::io::{BufReader, Read};
use std::process::{Command, Stdio};

use ocelli_picture::{Input, pixels};

/// How many files are made where OCELLI_PICTURES does not say it.
const FILES: usize = 1_000;

fn number(from: &mut impl Read) -> usize {
    let mut bytes = [0; 4];
    from.read_exact(&mut bytes).expect("a number from pillow.py");
    u32::from_le_bytes(bytes) as usize
}

fn bytes(from: &mut impl Read, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).expect("bytes from pillow.py");
    bytes
}

/// Where Python has no Pillow, there is nothing to compare with; the golden files are tested in any case.
#[test]
fn pixels_are_those_of_pillow() {
    let python = env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let question = "import sys, PIL.features; sys.exit(not PIL.features.check('libjpeg_turbo'))";
    let there = Command::new(&python).args(["-c", question]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        return;
    }
    let read = |name, default: usize| {
        env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
    };
    let (files, seed) = (read("OCELLI_PICTURES", FILES), read("OCELLI_SEED", 23));
    let mut child = Command::new(&python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pillow.py"))
        .args([seed, files].map(|number| number.to_string()))
        .stdout(Stdio::piped())
        .spawn()
        .expect("python was there");
    let mut from = BufReader::new(child.stdout.take().expect("piped"));
    let (mut changed, mut compared) = (0, 0);
    for at in 0..files {
        let [length, channels, height, width, crop, must, shown] = [(); 7].map(|()| number(&mut from));
        let file = bytes(&mut from, length);
        let expected = bytes(&mut from, shown);
        let input = Input { channels, height, width, crop };
        match pixels(&file, input) {
            Ok(found) => {
                changed += usize::from(must == 0);
                compared += found.len();
                if found != expected {
                    let place = env::temp_dir().join(format!("ocelli-picture-{seed}-{at}.jpg"));
                    std::fs::write(&place, &file).expect("written");
                    let differ = found.iter().zip(&expected).filter(|(found, expected)| found != expected).count();
                    panic!(
                        "file {at} of seed {seed}, kept as {}: {differ} of {} pixels differ for {input:?}; Pillow gave {}",
                        place.display(),
                        found.len(),
                        expected.len()
                    );
                }
            }
            Err(refusal) => assert_eq!(must, 0, "file {at} of seed {seed} is refused: {refusal}"),
        }
    }
    assert!(child.wait().expect("ended").success());
    // Seen with --nocapture, and what shows that the test compares at all.
    assert!(changed >= files / 40, "{changed} changed files were taken, {compared} pixels compared");
}
