//! Any bytes as a model file: refused, or run everywhere with the same answers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocelli_model::Model;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(model) = Model::from_bytes(bytes) {
        ocelli_fuzz::run_everywhere(&model);
    }
});
