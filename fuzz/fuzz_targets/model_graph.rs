//! Any bytes as a network that is within the proof: its file is read back, and it runs everywhere with the same answers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocelli_model::Model;

fuzz_target!(|bytes: &[u8]| {
    let model = ocelli_fuzz::cook(bytes);
    let read = Model::from_bytes(model.bytes()).expect("what was written is read");
    assert_eq!(read.file(), model.file());
    ocelli_fuzz::run_everywhere(&read);
});
