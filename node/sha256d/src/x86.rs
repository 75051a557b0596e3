//! x86-64's SHA instructions, several hashes interleaved.
//!
//! As in Intel's "SHA Extensions" (Gulley and others, 2013): the state lies in two registers as ABEF and CDGH, from the
//! highest element down; `sha256rnds2` does two rounds, `sha256msg1` and `sha256msg2` continue the message schedule by four
//! words. An array of registers holds one for each lane, and each step is done for all lanes before the next step.

use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_extract_epi64, _mm_insert_epi32, _mm_set_epi32, _mm_sha256msg1_epu32,
    _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi32, _mm_unpackhi_epi64, _mm_unpacklo_epi64,
};

use super::{INITIAL, LANES, NONCE_WORD, Words, nonce_words};

/// FIPS 180-4 §4.2.2.
const K: [u32; 64] = [
    0x428a_2f98,
    0x7137_4491,
    0xb5c0_fbcf,
    0xe9b5_dba5,
    0x3956_c25b,
    0x59f1_11f1,
    0x923f_82a4,
    0xab1c_5ed5,
    0xd807_aa98,
    0x1283_5b01,
    0x2431_85be,
    0x550c_7dc3,
    0x72be_5d74,
    0x80de_b1fe,
    0x9bdc_06a7,
    0xc19b_f174,
    0xe49b_69c1,
    0xefbe_4786,
    0x0fc1_9dc6,
    0x240c_a1cc,
    0x2de9_2c6f,
    0x4a74_84aa,
    0x5cb0_a9dc,
    0x76f9_88da,
    0x983e_5152,
    0xa831_c66d,
    0xb003_27c8,
    0xbf59_7fc7,
    0xc6e0_0bf3,
    0xd5a7_9147,
    0x06ca_6351,
    0x1429_2967,
    0x27b7_0a85,
    0x2e1b_2138,
    0x4d2c_6dfc,
    0x5338_0d13,
    0x650a_7354,
    0x766a_0abb,
    0x81c2_c92e,
    0x9272_2c85,
    0xa2bf_e8a1,
    0xa81a_664b,
    0xc24b_8b70,
    0xc76c_51a3,
    0xd192_e819,
    0xd699_0624,
    0xf40e_3585,
    0x106a_a070,
    0x19a4_c116,
    0x1e37_6c08,
    0x2748_774c,
    0x34b0_bcb5,
    0x391c_0cb3,
    0x4ed8_aa4a,
    0x5b9c_ca4f,
    0x682e_6ff3,
    0x748f_82ee,
    0x78a5_636f,
    0x84c8_7814,
    0x8cc7_0208,
    0x90be_fffa,
    0xa450_6ceb,
    0xbef9_a3f7,
    0xc671_78f2,
];

/// A register for each lane.
type Lanes = [__m128i; LANES];

/// Whether this processor has the instructions.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("sha") && is_x86_feature_detected!("sse4.1") && is_x86_feature_detected!("ssse3")
}

/// As [`super::Hasher::high_bits`].
///
/// # Panics
/// If the processor does not have the instructions.
#[inline]
pub(super) fn high_bits(midstate: &Words, tail: &[u32; 16], nonces: [u64; LANES]) -> [u64; LANES] {
    assert!(is_available(), "the kernel is chosen where the processor has its instructions");
    // SAFETY: the processor has been found to have all features that the function is compiled with.
    unsafe { high_bits_with_sha(midstate, tail, nonces) }
}

/// ABEF and CDGH.
type State = [__m128i; 2];

#[target_feature(enable = "sha,sse4.1,ssse3")]
fn high_bits_with_sha(midstate: &Words, tail: &[u32; 16], nonces: [u64; LANES]) -> [u64; LANES] {
    const { assert!(NONCE_WORD == 11, "the nonce is in the third and fourth group of words") };
    let (first, second) = (four(tail, 0), four(tail, 4));
    let [third, fourth] = [four(tail, 8), four(tail, 12)];
    let state = load(midstate);

    // The first eight rounds are the same for all nonces.
    let once = rounds4(1, rounds4(0, state, first), second);
    let low = nonces.map(|nonce| _mm_insert_epi32::<3>(third, nonce_words(nonce)[0] as i32));
    let high = nonces.map(|nonce| _mm_insert_epi32::<0>(fourth, nonce_words(nonce)[1] as i32));
    let mut states = [once; LANES];
    for (state, words) in states.iter_mut().zip(low) {
        *state = rounds4(2, *state, words);
    }
    for (state, words) in states.iter_mut().zip(high) {
        *state = rounds4(3, *state, words);
    }
    let sums = scheduled_rounds(states, [[first; LANES], [second; LANES], low, high]);

    // The digests are the message of the second hash, whose padding is always the same.
    let digests = sums.map(|sum| ordered(add(sum, state)));
    let padding = [1 << 31, 0, 0, 0, 0, 0, 0, 256];
    let schedule = [
        digests.map(|[first, _]| first),
        digests.map(|[_, second]| second),
        [four(&padding, 0); LANES],
        [four(&padding, 4); LANES],
    ];
    let initial = load(&INITIAL);
    let mut states = [initial; LANES];
    for (group, words) in schedule.into_iter().enumerate() {
        for (state, words) in states.iter_mut().zip(words) {
            *state = rounds4(group, *state, words);
        }
    }
    scheduled_rounds(states, schedule).map(|sum| {
        let [_, second] = ordered(add(sum, initial));
        // Words 6 and 7, the latter above; each is big-endian in the hash, which as a number is little-endian.
        (_mm_extract_epi64::<1>(second) as u64).swap_bytes().rotate_left(32)
    })
}

/// Rounds 16 to 63, with the schedule's first sixteen words.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn scheduled_rounds(mut states: [State; LANES], mut words: [Lanes; 4]) -> [State; LANES] {
    for group in 4..16 {
        for lane in 0..LANES {
            let [first, second, third, fourth] = [0, 1, 2, 3].map(|offset| words[(group + offset) % 4][lane]);
            let sum = _mm_add_epi32(_mm_sha256msg1_epu32(first, second), _mm_alignr_epi8::<4>(fourth, third));
            let next = _mm_sha256msg2_epu32(sum, fourth);
            words[group % 4][lane] = next;
            states[lane] = rounds4(group, states[lane], next);
        }
    }
    states
}

/// The four rounds of a group with their words.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn rounds4(group: usize, [abef, cdgh]: State, words: __m128i) -> State {
    let sum = _mm_add_epi32(words, four(&K, 4 * group));
    // Two rounds make the old ABEF the new CDGH.
    let middle = _mm_sha256rnds2_epu32(cdgh, abef, sum);
    [_mm_sha256rnds2_epu32(abef, middle, _mm_shuffle_epi32::<0b00_00_11_10>(sum)), middle]
}

#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn add(left: State, right: State) -> State {
    [_mm_add_epi32(left[0], right[0]), _mm_add_epi32(left[1], right[1])]
}

#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn load(words: &Words) -> State {
    let [a, b, c, d, e, f, g, h] = words.map(|word| word as i32);
    [_mm_set_epi32(a, b, e, f), _mm_set_epi32(c, d, g, h)]
}

/// A to D, and E to H, each from the lowest element up.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn ordered([abef, cdgh]: State) -> [__m128i; 2] {
    let (abef, cdgh) = (_mm_shuffle_epi32::<0b00_01_10_11>(abef), _mm_shuffle_epi32::<0b00_01_10_11>(cdgh));
    [_mm_unpacklo_epi64(abef, cdgh), _mm_unpackhi_epi64(abef, cdgh)]
}

/// Four words from `at` on, the first lowest.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn four(words: &[u32], at: usize) -> __m128i {
    let [first, second, third, fourth] = [0, 1, 2, 3].map(|offset| words[at + offset] as i32);
    _mm_set_epi32(fourth, third, second, first)
}
