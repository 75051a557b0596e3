//! Trying nonces: which of them give a hash that meets the target.

use ocelli_consensus::{Header, Target, U256};
use ocelli_sha256d::{Hasher, LANES};

/// A header under search, and the target that its hash must meet.
#[derive(Clone)]
pub struct Search {
    header: Header,
    hasher: Hasher,
    target: Target,
    /// The target's highest 64 bits: almost every hash fails on these alone.
    target_high: u64,
}

impl Search {
    /// Begins a search; the header's own nonce does not matter.
    pub fn new(header: &Header, target: Target) -> Self {
        Self {
            hasher: Hasher::new(&header.to_bytes()),
            header: header.clone(),
            target,
            target_high: (target.0 >> 192_usize).to::<u64>(),
        }
    }

    /// The first of `count` nonces, from `first` on and around past the highest, whose hash meets the target.
    pub fn first_winner(&mut self, first: u64, count: u64) -> Option<u64> {
        let limit = self.target_high;
        (0..count).step_by(LANES).find_map(|step| {
            let group = first.wrapping_add(step);
            let high_bits = self.hasher.high_bits(group);
            // Looked at together: hardly ever does one pass.
            if high_bits.iter().all(|high| *high > limit) {
                return None;
            }
            let nonces = (step..count).zip(high_bits).map(|(step, high)| (first.wrapping_add(step), high));
            nonces.filter(|(_, high)| *high <= limit).map(|(nonce, _)| nonce).find(|nonce| self.wins(*nonce))
        })
    }

    #[cold]
    fn wins(&mut self, nonce: u64) -> bool {
        self.header.nonce = nonce;
        self.target.is_met_by(self.header.hash().0)
    }
}

/// Nonces that one thread has still to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nonces {
    next: u64,
    left: u64,
}

impl Nonces {
    /// The share of thread `index` among `threads`: a range as long as everybody's, that overlaps with no other and goes
    /// around past the highest nonce. `first` is where thread 0 begins. The division leaves out fewer nonces than there
    /// are threads.
    pub fn share(first: u64, index: usize, threads: usize) -> Self {
        let left = u64::MAX / threads as u64;
        Self { next: first.wrapping_add(left * index as u64), left }
    }

    /// At most `limit` of them.
    pub fn at_most(self, limit: u64) -> Self {
        Self { left: self.left.min(limit), ..self }
    }

    /// Takes up to `count` nonces: the first, and how many. `None` if all have been taken.
    pub fn take(&mut self, count: u64) -> Option<(u64, u64)> {
        let count = count.min(self.left);
        let first = self.next;
        self.next = first.wrapping_add(count);
        self.left -= count;
        (count > 0).then_some((first, count))
    }
}

/// A target that no hash will ever meet in practice, for measuring.
pub const UNREACHABLE: Target = Target(U256::ONE);

#[cfg(test)]
mod tests {
    use super::*;
    use ocelli_consensus::header::HEADER_BYTES;
    use proptest::prelude::*;

    proptest! {
        /// Against the slow way, with targets that about every 50th hash meets; the bound is tried exactly.
        #[test]
        fn the_first_winner_is_found(
            bytes in prop::collection::vec(any::<u8>(), HEADER_BYTES),
            first in any::<u64>(),
            exact in any::<bool>(),
        ) {
            let mut header = Header::from_bytes(&bytes.try_into().expect("180 bytes"));
            let mut hash = |nonce| {
                header.nonce = nonce;
                U256::from_le_bytes::<32>(header.hash().0)
            };
            let nonces: Vec<_> = (0..300).map(|step| first.wrapping_add(step)).collect();
            let target = if exact { hash(nonces[200]) } else { U256::MAX / U256::from(50) };
            let expected = nonces.iter().copied().find(|nonce| hash(*nonce) <= target);
            prop_assert_eq!(Search::new(&header, Target(target)).first_winner(first, 300), expected);
            if exact {
                let harder = Target(target - U256::ONE);
                prop_assert_eq!(Search::new(&header, harder).first_winner(nonces[200], 1), None);
            }
        }

        #[test]
        fn shares_are_disjoint(first in any::<u64>(), threads in 1usize..200) {
            let shares: Vec<_> = (0..threads).map(|index| Nonces::share(first, index, threads)).collect();
            let mut end = 0_u128;
            for share in shares {
                // As distances from `first`, nothing wraps.
                let begin = u128::from(share.next.wrapping_sub(first));
                prop_assert_eq!(begin, end);
                end = begin + u128::from(share.left);
            }
            prop_assert!(end <= 1 << 64 && end + threads as u128 >= 1 << 64);
        }
    }

    #[test]
    fn nonces_are_taken_once() {
        let mut nonces = Nonces::share(u64::MAX - 4, 0, 1).at_most(10);
        assert_eq!(nonces.take(7), Some((u64::MAX - 4, 7)));
        assert_eq!(nonces.take(7), Some((2, 3)));
        assert_eq!(nonces.take(7), None);
    }
}
