//! SHA-256 twice over headers that differ in their nonce, [`LANES`] at a time.
//!
//! A header has 180 bytes: two whole SHA-256 blocks, and 52 bytes that with their padding are the third. The nonce is the
//! last 8 bytes, so a nonce costs one compression from the state after the second block (the midstate) and one for the
//! second SHA-256 (FIPS 180-4). A compression is one long chain of dependent instructions, and a processor's SHA
//! instructions can do two or more such chains in the time of one: so several nonces are hashed side by side. The first
//! eight of the third block's rounds are the same for all nonces and are done once.
//!
//! [`Hasher::new`] takes the fastest way that the processor has. [`Kernel::Portable`] is `sha2`'s compression, one nonce
//! after the other, and what the other is tested against.

#[cfg(target_arch = "x86_64")]
mod x86;

use sha2::block_api::compress256;

/// Nonces that are hashed side by side.
pub const LANES: usize = 4;

/// Bytes of a header.
pub const HEADER_BYTES: usize = 180;

/// Length of a SHA-256 block.
const BLOCK: usize = 64;
/// Header bytes that the midstate covers.
const COVERED: usize = 2 * BLOCK;
/// Where the nonce is in the third block, in words: the last 8 bytes of the header.
const NONCE_WORD: usize = (HEADER_BYTES - COVERED) / 4 - 2;

/// SHA-256's initial state, FIPS 180-4 §5.3.3.
const INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// The eight words of a SHA-256 state.
type Words = [u32; 8];

/// How nonces are hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// x86-64's SHA instructions, [`LANES`] nonces interleaved.
    #[cfg(target_arch = "x86_64")]
    X86Sha,
    /// One nonce after the other, by `sha2`, which uses what SHA instructions the processor has.
    Portable,
}

impl Kernel {
    /// All that this processor can run, the fastest first.
    pub fn available() -> Vec<Self> {
        let mut kernels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        if x86::is_available() {
            kernels.push(Self::X86Sha);
        }
        kernels.push(Self::Portable);
        kernels
    }

    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::X86Sha => "x86 SHA, 4 nonces at a time",
            Self::Portable => "portable",
        }
    }
}

/// A header under search.
#[derive(Debug, Clone)]
pub struct Hasher {
    kernel: Kernel,
    midstate: Words,
    /// The third block, padded, as big-endian words; those of the nonce are zero.
    tail: [u32; 16],
}

impl Hasher {
    /// Takes a header, whose own nonce does not matter.
    pub fn new(header: &[u8; HEADER_BYTES]) -> Self {
        // The portable one is always there.
        Self::with(Kernel::available().first().copied().unwrap_or(Kernel::Portable), header)
    }

    /// As [`Hasher::new`], by one of [`Kernel::available`].
    pub fn with(kernel: Kernel, header: &[u8; HEADER_BYTES]) -> Self {
        let (covered, rest) = header.split_at(COVERED);
        let (blocks, _) = covered.as_chunks::<BLOCK>();
        let mut midstate = INITIAL;
        compress256(&mut midstate, blocks);
        let mut block = [0; BLOCK];
        block[..rest.len() - 8].copy_from_slice(&rest[..rest.len() - 8]);
        // FIPS 180-4 §5.1.1: a bit, zeros, and the message's length in bits.
        block[rest.len()] = 0x80;
        block[BLOCK - 8..].copy_from_slice(&(8 * HEADER_BYTES as u64).to_be_bytes());
        let (words, _) = block.as_chunks::<4>();
        Self { kernel, midstate, tail: std::array::from_fn(|at| u32::from_be_bytes(words[at])) }
    }

    /// Which kernel hashes.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// The highest 64 bits of the hashes of the header with the nonces `first`, `first + 1`, …, on past the highest to 0. A
    /// hash is a little-endian number, so these are its last 8 bytes.
    #[inline]
    pub fn high_bits(&self, first: u64) -> [u64; LANES] {
        let nonces = std::array::from_fn(|lane| first.wrapping_add(lane as u64));
        match self.kernel {
            #[cfg(target_arch = "x86_64")]
            Kernel::X86Sha => x86::high_bits(&self.midstate, &self.tail, nonces),
            Kernel::Portable => nonces.map(|nonce| self.high_bits_of(nonce)),
        }
    }

    fn high_bits_of(&self, nonce: u64) -> u64 {
        let mut tail = self.tail;
        [tail[NONCE_WORD], tail[NONCE_WORD + 1]] = nonce_words(nonce);
        let mut words = self.midstate;
        compress256(&mut words, &[bytes(tail)]);
        // The one block of the second SHA-256: the digest, padded.
        let mut digest = [0; 16];
        digest[..8].copy_from_slice(&words);
        digest[8] = 1 << 31;
        digest[15] = 256;
        words = INITIAL;
        compress256(&mut words, &[bytes(digest)]);
        u64::from(words[7].swap_bytes()) << 32 | u64::from(words[6].swap_bytes())
    }
}

/// A nonce as the two big-endian words that its little-endian bytes are to SHA-256.
fn nonce_words(nonce: u64) -> [u32; 2] {
    [(nonce as u32).swap_bytes(), ((nonce >> 32) as u32).swap_bytes()]
}

fn bytes(words: [u32; 16]) -> [u8; BLOCK] {
    let mut bytes = [0; BLOCK];
    for (bytes, word) in bytes.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sha2::{Digest as _, Sha256};

    use super::*;

    fn slowly(header: &[u8; HEADER_BYTES], nonce: u64) -> u64 {
        let mut header = *header;
        header[HEADER_BYTES - 8..].copy_from_slice(&nonce.to_le_bytes());
        let hash = Sha256::digest(Sha256::digest(header));
        u64::from_le_bytes(hash[24..].try_into().expect("8 bytes"))
    }

    proptest! {
        /// Every kernel against `sha2` over the whole header, on random bytes.
        #[test]
        fn all_kernels_hash_as_sha2_does(
            header in prop::collection::vec(any::<u8>(), HEADER_BYTES),
            first in prop_oneof![any::<u64>(), (0..8u64).prop_map(|below| u64::MAX - below)],
        ) {
            let header: [u8; HEADER_BYTES] = header.try_into().expect("180 bytes");
            for kernel in Kernel::available() {
                let found = Hasher::with(kernel, &header).high_bits(first);
                let expected = std::array::from_fn(|lane| slowly(&header, first.wrapping_add(lane as u64)));
                prop_assert_eq!(found, expected, "{:?}", kernel);
            }
        }
    }
}
