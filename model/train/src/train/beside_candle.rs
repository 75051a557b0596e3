//! What the tests of the backward pass share: seeded numbers, and the comparison with candle's autograd.

use candle_core::{Device, Tensor, Var};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub fn random(count: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
}

pub fn var(numbers: &[f32], shape: &[usize]) -> Var {
    Var::from_tensor(&Tensor::from_slice(numbers, shape, &Device::Cpu).unwrap()).unwrap()
}

pub fn close(ours: &[f32], theirs: &Tensor, bound: f32, what: &str) {
    let theirs: Vec<f32> = theirs.flatten_all().unwrap().to_vec1().unwrap();
    assert_eq!(ours.len(), theirs.len(), "{what}");
    ours.iter().zip(&theirs).for_each(|(a, b)| assert!((a - b).abs() < bound, "{what}: {a} and {b}"));
}
