//! Changed model files: refused, or run with the same answers everywhere. The short form of the fuzz target `model_file`.

use std::num::NonZeroUsize;

use ocelli_model::{Backend, CandleBackend, DeviceChoice, Kernel, KernelBackend, Model, golden};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A network with every kind of layer, of a few pixels.
const SEED_FILE: &[u8] = include_bytes!("../../fuzz/seeds/model_file/every_layer.safetensors");
const MUTANTS: u64 = 2_000;
/// A mutant that costs more is loaded but not run: a changed digit can make a large network.
const MAX_COST: u64 = 2_000_000;

fn backends() -> Vec<Box<dyn Backend>> {
    let (candle, _) = CandleBackend::open(DeviceChoice::Cpu).expect("a CPU is always there");
    let mut backends: Vec<Box<dyn Backend>> = vec![Box::new(candle)];
    for kernel in Kernel::available() {
        backends.push(Box::new(KernelBackend::with(kernel, NonZeroUsize::MIN).expect("it is available")));
    }
    backends
}

/// Changes a few places: bits and bytes anywhere, digits to other digits, and a piece to a copy of another.
fn mutant(random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = SEED_FILE.to_vec();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    for _ in 0..=random.next_u32() % 3 {
        let mut place = |from: usize| from + random.next_u64() as usize % (bytes.len() - from);
        let (anywhere, other, data) = (place(0), place(0), place(header));
        match random.next_u32() % 8 {
            0 => bytes[anywhere] ^= 1 << (random.next_u32() % 8),
            1 => {
                let digits: Vec<usize> = (8..header).filter(|at| bytes[*at].is_ascii_digit()).collect();
                bytes[digits[random.next_u64() as usize % digits.len()]] = b'0' + (random.next_u32() % 10) as u8;
            }
            2 => {
                let length = (random.next_u64() as usize % 16).min(bytes.len() - anywhere.max(other));
                bytes.copy_within(other..other + length, anywhere);
            }
            // Most in the integers: there, a changed file is still a file.
            3 => bytes[data] = 127,
            4 => bytes[data] = 129,
            _ => bytes[data] = random.next_u32() as u8,
        }
    }
    bytes
}

#[test]
fn changed_files_are_refused_or_run_alike_everywhere() {
    Model::from_bytes(SEED_FILE).expect("the seed is a model");
    let mut backends = backends();
    let (mut refused, mut ran) = (0, 0);
    for seed in 0..MUTANTS {
        let bytes = mutant(&mut ChaCha8Rng::seed_from_u64(seed));
        let Ok(model) = Model::from_bytes(&bytes) else {
            refused += 1;
            continue;
        };
        if model.cost() > MAX_COST {
            continue;
        }
        for backend in &mut backends {
            golden::check(&mut **backend, &model).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
        ran += 1;
    }
    assert!(refused > MUTANTS / 10 && ran > MUTANTS / 10, "{refused} refused, {ran} ran: one side is hardly tried");
}
