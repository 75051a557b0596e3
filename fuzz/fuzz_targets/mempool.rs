//! Any sequence of operations on a small mempool and the chain beside it: every template connects, and what else must hold
//! after each does.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocelli_fuzz::input::Input;
use ocelli_fuzz::pool_and_chain::World;

/// Steps that an input makes at most.
const MAX_STEPS: usize = 300;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let mut world = World::new();
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        world.step(&mut || input.byte());
    }
});
