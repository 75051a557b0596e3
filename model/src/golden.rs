//! Golden vectors: seeded images whose logits a device must get right before it is trusted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

use crate::backend::{Backend, BackendError};
use crate::model::Model;
use crate::reference;

/// How many images of noise are among the golden inputs.
const NOISE: u64 = 4;
/// Models whose golden logits are remembered: more than a network has.
const MAX_KNOWN: usize = 16;

/// The logits of each golden input.
type Logits = Arc<Vec<Vec<i32>>>;

/// Why a device is not trusted.
#[derive(Debug, thiserror::Error)]
pub enum GoldenError {
    /// The device gave no answer.
    #[error("{device} gave no answer for a golden input")]
    Backend {
        device: String,
        #[source]
        source: BackendError,
    },
    /// The device answered for another number of images.
    #[error("{device} answered for {found} of {expected} golden inputs")]
    Count {
        device: String,
        /// Images asked for.
        expected: usize,
        /// Answers given.
        found: usize,
    },
    /// The device's logits differ from the scalar reference's.
    #[error("{device} answered {found:?} for golden input {input}, the reference says {expected:?}")]
    Differs {
        device: String,
        /// Which golden input.
        input: usize,
        /// The reference's logits.
        expected: Vec<i32>,
        /// The device's logits.
        found: Vec<i32>,
    },
}

/// Runs the golden inputs through a backend, all in one batch and the last alone, and compares every logit with the
/// scalar reference.
///
/// # Errors
/// If the backend fails or a logit differs.
pub fn check(backend: &mut dyn Backend, model: &Model) -> Result<(), GoldenError> {
    let inputs = inputs(model.pixels());
    let expected = expected(model, &inputs);
    compare(backend, model, &inputs, &expected, 0)?;
    let last = inputs.len() - 1;
    compare(backend, model, &inputs[last..], &expected[last..], last)
}

/// What the scalar reference says of the golden inputs. It is slow, so all cores share the work, and a process that looks at a
/// model again (each device that it tries, each node of a test) remembers.
fn expected(model: &Model, inputs: &[Vec<u8>]) -> Logits {
    static KNOWN: Mutex<BTreeMap<[u8; 32], Logits>> = Mutex::new(BTreeMap::new());
    // A holder that panicked has left whole entries.
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let id = model.id().0;
    if let Some(expected) = known().get(&id) {
        return Arc::clone(expected);
    }
    let expected: Vec<_> = inputs.par_iter().map(|pixels| reference::logits(model, pixels)).collect();
    let expected = Arc::new(expected);
    let mut known = known();
    if known.len() >= MAX_KNOWN {
        known.clear();
    }
    known.insert(id, Arc::clone(&expected));
    expected
}

/// The golden inputs for images of this many bytes: nothing, all, bytes beside both ends, a ramp, stripes,
/// one bright pixel, and noise.
pub fn inputs(pixels: usize) -> Vec<Vec<u8>> {
    let pattern = |value: fn(usize) -> u8| (0..pixels).map(value).collect::<Vec<u8>>();
    let mut inputs = vec![
        pattern(|_| 0),
        pattern(|_| 255),
        pattern(|i| if i % 2 == 0 { 1 } else { 254 }),
        pattern(|i| (i % 256) as u8),
        pattern(|i| if i / 3 % 2 == 0 { 255 } else { 0 }),
        pattern(|i| if i == 0 { 255 } else { 0 }),
    ];
    for seed in 0..NOISE {
        let mut noise = vec![0; pixels];
        ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut noise);
        inputs.push(noise);
    }
    inputs
}

fn compare(
    backend: &mut dyn Backend,
    model: &Model,
    inputs: &[Vec<u8>],
    expected: &[Vec<i32>],
    first: usize,
) -> Result<(), GoldenError> {
    let device = backend.name();
    let images: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
    let found =
        backend.logits(model, &images).map_err(|source| GoldenError::Backend { device: device.clone(), source })?;
    if found.len() != expected.len() {
        return Err(GoldenError::Count { device, expected: expected.len(), found: found.len() });
    }
    for (i, (expected, found)) in expected.iter().zip(found).enumerate() {
        if *expected != found {
            return Err(GoldenError::Differs { device, input: first + i, expected: expected.clone(), found });
        }
    }
    Ok(())
}
