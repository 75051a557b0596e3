//! Bytes as instructions to build a network, so that most inputs are networks and not refused files.

use ocelli_model::{Model, sample};

/// Builds the network that the bytes describe: they are the chance by which it is made. After their end come zeros, and the
/// weights of a network, which are many, follow from few bytes.
pub fn cook(bytes: &[u8]) -> Model {
    let mut bytes = bytes.iter();
    let mut state = 0u32;
    let mut next = move || {
        let byte = bytes.next().copied().unwrap_or(0);
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223) ^ u32::from(byte) << 24;
        // The low bits of such a generator are poor.
        state.rotate_left(16) ^ u32::from(byte)
    };
    sample::model(&mut next)
}
