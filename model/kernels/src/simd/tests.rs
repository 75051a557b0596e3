//! The operations of every set of instructions against plain Rust.

use super::*;

/// Some words: extremes, and noise.
fn words(seed: u32) -> Vec<i32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let extremes =
        [0, 1, -1, 127, 128, -127, -128, 255, 32_767, -32_768, 65_535, i32::MAX, i32::MIN, 1 << 24, -(1 << 24)];
    let mut noise = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as i32
    };
    (0..64).map(|i| if i % 3 == 0 { extremes[(i / 3 + seed as usize) % extremes.len()] } else { noise() }).collect()
}

/// The same words as bytes in 0..=127.
fn activations(words: &[i32]) -> Vec<i32> {
    words.iter().map(|word| i32::from_ne_bytes(word.to_ne_bytes().map(|byte| byte & 127))).collect()
}

/// The same words as bytes in -127..=127.
fn weights(words: &[i32]) -> Vec<i32> {
    words
        .iter()
        .map(|word| i32::from_ne_bytes(word.to_ne_bytes().map(|byte| if byte == 128 { 127 } else { byte })))
        .collect()
}

/// All that the operations make of some words, as one list.
struct Everything {
    seed: u32,
}

impl Job for Everything {
    type Output = Vec<Vec<i32>>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<Vec<i32>> {
        let (a, b, c) = (words(self.seed), words(self.seed + 1), words(self.seed + 2));
        let counts: Vec<i32> = c.iter().map(|count| count & 31).collect();
        let (bytes, signed) = (activations(&a), weights(&b));
        // Halves whose products two words can hold: not all four -2^15.
        let halves: Vec<i32> = a.iter().map(|word| word & 0x7fff_7fff).collect();
        let mut results = vec![Vec::new(); 16];
        for first in (0..64).step_by(S::LANES) {
            let load = |list: &[i32]| {
                let list = &list[first..][..S::LANES];
                // SAFETY: the slice has as many words as are read.
                unsafe { simd.load(list.as_ptr()) }
            };
            let (x, y, z) = (load(&a), load(&b), load(&c));
            let outcomes = [
                x,
                simd.dot4(z, load(&bytes), load(&signed)),
                simd.dot2(z, load(&halves), y),
                simd.add(x, y),
                simd.sub(x, y),
                simd.mul(x, y),
                simd.max(x, y),
                simd.shl::<2>(x),
                simd.sar(x, load(&counts)),
                simd.splat(a[first / 16 * 16]),
            ];
            let raw: Vec<u8> = a.iter().flat_map(|word| word.to_ne_bytes()).collect();
            let mut list = vec![0; S::LANES];
            for (result, outcome) in results.iter_mut().zip(outcomes) {
                // SAFETY: the list has as many words as are written.
                unsafe { simd.store(list.as_mut_ptr(), outcome) };
                result.extend_from_slice(&list);
            }
            // SAFETY: 64 words are 256 bytes; what is read begins before byte 64 + 3 and has at most 32.
            let (broadcast, wide, halves, other) = unsafe {
                let at = raw.as_ptr().add(first);
                (
                    simd.broadcast(raw.as_ptr().add(first / 16 * 16 + 3)),
                    simd.load_bytes(at),
                    simd.load_bytes_as_halves(raw.as_ptr().add(2 * first)),
                    simd.load_bytes_as_halves(raw.as_ptr().add(128 + 2 * first)),
                )
            };
            let mut bytes = vec![0u8; S::LANES];
            let mut wide_halves = vec![0i16; 2 * S::LANES];
            // SAFETY: the lists have as many elements as are written.
            unsafe {
                simd.store(list.as_mut_ptr(), broadcast);
                results[10].extend_from_slice(&list);
                simd.store(list.as_mut_ptr(), wide);
                results[11].extend_from_slice(&list);
                simd.store_clamped(bytes.as_mut_ptr(), x);
                results[12].extend(bytes.iter().map(|byte| i32::from(*byte)));
                for (place, outcome) in
                    [simd.add_halves(halves, other), simd.sub_halves(halves, other), simd.shl_halves::<2>(halves)]
                        .into_iter()
                        .enumerate()
                {
                    simd.store_halves(wide_halves.as_mut_ptr(), outcome);
                    results[13 + place].extend(wide_halves.iter().map(|half| i32::from(*half)));
                }
            }
        }
        results
    }
}

fn check<S: Simd>(simd: S) {
    for seed in 0..2000 {
        let expected = Portable::<16>.vectorize(Everything { seed });
        let found = simd.vectorize(Everything { seed });
        for (operation, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert_eq!(found, expected, "operation {operation}, seed {seed}");
        }
    }
}

#[test]
fn portable() {
    check(Portable::<4>);
    check(Portable::<8>);
    // By hand: 127 * -127 * 4, and 3 * 5 + -2 * 7.
    let byte = |byte: i8| i32::from_ne_bytes([byte as u8; 4]);
    assert_eq!(Portable::<4>.dot4([1; 4], [byte(127); 4], [byte(-127); 4]), [1 - 4 * 127 * 127; 4]);
    let halves = |a: i16, b: i16| {
        let (a, b) = (a.to_ne_bytes(), b.to_ne_bytes());
        i32::from_ne_bytes([a[0], a[1], b[0], b[1]])
    };
    assert_eq!(Portable::<4>.dot2([0; 4], [halves(3, -2); 4], [halves(5, 7); 4]), [1; 4]);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn x86() {
    let checked = [
        Avx2::detect().map(check).map(|()| "avx2"),
        AvxVnni::detect().map(check).map(|()| "avxvnni"),
        Avx512Vnni::detect().map(check).map(|()| "avx512vnni"),
    ];
    eprintln!("checked: {:?}", checked.iter().flatten().collect::<Vec<_>>());
}

#[cfg(target_arch = "aarch64")]
#[test]
fn aarch64() {
    check(Neon);
    let dot = NeonDot::detect().map(check);
    eprintln!("checked: neon{}", if dot.is_some() { ", neondot" } else { "" });
}
