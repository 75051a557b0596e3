//! How long to wait before something that failed is tried again.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Waits that double, each spread at random by up to a quarter, so that nodes that lost the same peer at the same moment do
/// not all come back at the same moment.
pub(super) struct Backoff(ChaCha8Rng);

impl Backoff {
    pub(super) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// The wait after so many failures in a row, at least one: about `first`, and doubled for each more up to `last`.
    pub(super) fn wait(&mut self, failures: u32, first: Duration, last: Duration) -> Duration {
        let doubled = first * 2u32.saturating_pow(failures.clamp(1, 16) - 1);
        self.spread(doubled.min(last))
    }

    /// Three quarters to five quarters of a time.
    pub(super) fn spread(&mut self, time: Duration) -> Duration {
        time * self.0.random_range(750..=1250) / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_are_spread() {
        let (first, last) = (Duration::from_secs(1), Duration::from_secs(30));
        let mut backoff = Backoff::new(1);
        for (failures, seconds) in [(0, 1), (1, 1), (2, 2), (3, 4), (5, 16), (6, 30), (100, 30), (u32::MAX, 30)] {
            for _ in 0..100 {
                let wait = backoff.wait(failures, first, last);
                let middle = Duration::from_secs(seconds);
                assert!(wait >= middle * 3 / 4 && wait <= middle * 5 / 4, "{failures}: {wait:?}");
            }
        }
        assert_ne!(backoff.spread(last), backoff.spread(last));
    }
}
