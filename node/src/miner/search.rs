//! Trying nonces: SHA-256d over a header whose first 128 bytes are hashed once.
//!
//! A header has 180 bytes: two whole SHA-256 blocks, and 52 bytes that with their padding are the third. The nonce is in
//! the third, so a nonce costs one compression from the state after the second block (the midstate) and one for the
//! second SHA-256. FIPS 180-4 §5.1.1 gives the padding, §5.3.3 the initial state. `compress256` uses the processor's SHA
//! instructions where it has them.

use ocelli_consensus::header::{HEADER_BYTES, NONCE_OFFSET};
use ocelli_consensus::{Header, Target, U256};
use sha2::block_api::compress256;

/// Length of a SHA-256 block.
const BLOCK: usize = 64;
/// Header bytes that the midstate covers.
const COVERED: usize = 2 * BLOCK;
/// Where the nonce is in the third block.
const NONCE_IN_TAIL: std::ops::Range<usize> = NONCE_OFFSET - COVERED..HEADER_BYTES - COVERED;

/// SHA-256's initial state.
const INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// A header under search, and the target that its hash must meet.
#[derive(Clone)]
pub struct Search {
    midstate: [u32; 8],
    /// The header's last 52 bytes, padded.
    tail: [u8; BLOCK],
    /// The block of the second SHA-256: a digest, padded.
    digest: [u8; BLOCK],
    target: Target,
    /// The target's highest 64 bits: almost every hash fails on these alone.
    target_high: u64,
}

impl Search {
    /// Begins a search; the header's own nonce does not matter.
    pub fn new(header: &Header, target: Target) -> Self {
        let bytes = header.to_bytes();
        let (covered, rest) = bytes.split_at(COVERED);
        let (blocks, _) = covered.as_chunks::<BLOCK>();
        let mut midstate = INITIAL;
        compress256(&mut midstate, blocks);
        Self {
            midstate,
            tail: padded(rest, HEADER_BYTES),
            digest: padded(&[0; 32], 32),
            target,
            target_high: (target.0 >> 192_usize).to::<u64>(),
        }
    }

    /// The first of `count` nonces, from `first` on and around past the highest, whose hash meets the target.
    pub fn first_winner(&mut self, first: u64, count: u64) -> Option<u64> {
        (0..count).map(|step| first.wrapping_add(step)).find(|nonce| {
            let words = self.compress(*nonce);
            // The hash is a little-endian number, so its last bytes, which the last words hold in reverse, are highest.
            let high = u64::from(words[7].swap_bytes()) << 32 | u64::from(words[6].swap_bytes());
            high <= self.target_high && self.is_met_by(words)
        })
    }

    #[cold]
    fn is_met_by(&self, words: [u32; 8]) -> bool {
        let mut hash = [0; 32];
        write_words(&mut hash, words);
        self.target.is_met_by(hash)
    }

    /// The eight words of the second SHA-256.
    fn compress(&mut self, nonce: u64) -> [u32; 8] {
        self.tail[NONCE_IN_TAIL].copy_from_slice(&nonce.to_le_bytes());
        let mut words = self.midstate;
        compress256(&mut words, std::slice::from_ref(&self.tail));
        write_words(&mut self.digest[..32], words);
        words = INITIAL;
        compress256(&mut words, std::slice::from_ref(&self.digest));
        words
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

/// The last block of a message of `length` bytes that ends in `end`.
fn padded(end: &[u8], length: usize) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..end.len()].copy_from_slice(end);
    block[end.len()] = 0x80;
    block[BLOCK - 8..].copy_from_slice(&(8 * length as u64).to_be_bytes());
    block
}

fn write_words(bytes: &mut [u8], words: [u32; 8]) {
    for (bytes, word) in bytes.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn hashes_are_the_headers_own(
            bytes in prop::collection::vec(any::<u8>(), HEADER_BYTES),
            nonces in any::<[u64; 3]>(),
        ) {
            let mut header = Header::from_bytes(&bytes.try_into().expect("180 bytes"));
            let mut search = Search::new(&header, UNREACHABLE);
            for nonce in nonces {
                header.nonce = nonce;
                let mut hash = [0; 32];
                write_words(&mut hash, search.compress(nonce));
                prop_assert_eq!(hash, header.hash().0);
            }
        }

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
