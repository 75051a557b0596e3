//! Any bytes as a JPEG, for a model of some shape: refused, or the same pixels twice; and without its metadata no other ones.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocelli_picture::{Input, WHOLE, pixels, sides, without_metadata};

fuzz_target!(|file: &[u8]| {
    // The file is all that there is, so that JPEGs can be seeds; its length says which model.
    let side = |factor: usize| 1 + file.len() * factor % 60;
    let crop = if file.len().is_multiple_of(2) { WHOLE } else { 4 * side(11) };
    let channels = if file.len().is_multiple_of(3) { 1 } else { 3 };
    let input = Input { channels, height: side(7), width: side(5), crop };
    let found = pixels(file, input);
    assert_eq!(found, pixels(file, input));
    let bare = without_metadata(file);
    if let Ok(found) = found {
        assert_eq!(found.len(), channels * input.height * input.width);
        assert!(sides(file).is_ok());
        assert_eq!(bare.as_deref(), Ok(file), "there is none to leave out");
    } else if let Ok(bare) = bare {
        assert_eq!(without_metadata(&bare).as_ref(), Ok(&bare));
    }
});
