//! Models on everything that this machine can run them on.

use std::num::NonZeroUsize;

use ocelli_model::{Backend, CandleBackend, DeviceChoice, Kernel, KernelBackend, Model, golden};

/// Models that cost more are loaded but not run: an input should take milliseconds.
const MAX_COST: u64 = 2_000_000;

/// Runs a model on everything that this machine can run it on, and compares each logit with the scalar reference's.
///
/// # Panics
/// If one differs, or a backend refuses the model.
pub fn run_everywhere(model: &Model) {
    if model.cost() > MAX_COST {
        return;
    }
    for mut backend in backends() {
        if let Err(error) = golden::check(&mut *backend, model) {
            panic!("{error}");
        }
    }
}

fn backends() -> Vec<Box<dyn Backend>> {
    let (candle, _) = CandleBackend::open(DeviceChoice::Cpu).expect("a CPU is always there");
    let mut backends: Vec<Box<dyn Backend>> = vec![Box::new(candle)];
    for kernel in Kernel::available() {
        backends.push(Box::new(KernelBackend::with(kernel, NonZeroUsize::MIN).expect("it is available")));
    }
    backends
}
