//! Every template connects: whatever came before, the block that a miner makes of the mempool is valid.

mod pool_and_chain;

use pool_and_chain::World;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
    #[test]
    fn every_template_connects(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        let mut world = World::new();
        let mut left = bytes.iter().copied();
        while left.len() > 0 {
            world.step(&mut || left.next().unwrap_or(0));
        }
    }
}
