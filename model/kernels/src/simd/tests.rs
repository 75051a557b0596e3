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
fn weights(words: &[i32]) -> Vec<[i8; 4]> {
    words.iter().map(|word| word.to_ne_bytes().map(|byte| if byte == 128 { 127 } else { byte as i8 })).collect()
}

/// Scales that keep a product within +-2^30: from the smallest up, and ties.
fn scales(words: &[i32], seeds: &[i32]) -> Vec<i32> {
    let scale = |(word, seed): (&i32, &i32)| {
        let largest = (30 - (33 - word.unsigned_abs().leading_zeros() as i32)).min(7);
        let exponent = if seed % 4 == 0 { -64 } else { largest - (seed.unsigned_abs() % 24) as i32 };
        let mantissa = if seed % 3 == 0 { 1.0 } else { 1.0 + (seed.unsigned_abs() % 8_388_608) as f32 / 8_388_608.0 };
        (mantissa * 2f32.powi(exponent)).to_bits() as i32
    };
    words.iter().zip(seeds).map(scale).collect()
}

/// All that the operations make of some words, as lists.
struct Everything {
    seed: u32,
}

impl Job for Everything {
    type Output = Vec<Vec<i32>>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<Vec<i32>> {
        let (a, b, c) = (words(self.seed), words(self.seed + 1), words(self.seed + 2));
        let counts: Vec<i32> = c.iter().map(|count| count & 31).collect();
        let (bytes, signed, scale) = (activations(&a), weights(&b), scales(&a, &b));
        // Halves whose products two words can hold: not all four -2^15.
        let halves: Vec<i32> = a.iter().map(|word| word & 0x7fff_7fff).collect();
        let packed = |parts: usize, part: usize| -> Vec<i32> {
            signed.iter().map(|four| crate::conv::weights_word(*four, parts, part)).collect()
        };
        // What wide bytes lose is given back, as biases do.
        let lost = |index: usize| {
            let offset = crate::conv::offset::<S>(true);
            signed[index].iter().fold(0i32, |sum, weight| sum.wrapping_add(offset * i32::from(*weight)))
        };
        let lost: Vec<i32> = (0..64).map(lost).collect();
        let mut results = vec![Vec::new(); 17];
        for first in (0..64).step_by(S::LANES) {
            let load = |list: &[i32]| {
                let list = &list[first..][..S::LANES];
                // SAFETY: the slice has as many words as are read.
                unsafe { simd.load(list.as_ptr()) }
            };
            let (x, y, z) = (load(&a), load(&b), load(&c));
            let narrow = [load(&packed(1, 0)); 2];
            let parts = crate::conv::parts::<S>(true);
            let wide = [0, 1].map(|part| load(&packed(parts, part % parts)));
            let outcomes = [
                x,
                simd.dot4::<false>(z, simd.prepare::<false>(load(&bytes)), narrow),
                simd.dot4::<true>(simd.add(z, load(&lost)), simd.prepare::<true>(x), wide),
                simd.dot2(z, load(&halves), y),
                simd.add(x, y),
                simd.sub(x, y),
                simd.mul(x, y),
                simd.max(x, y),
                simd.shl::<2>(x),
                simd.sar(x, load(&counts)),
                simd.splat(a[first / 16 * 16]),
                simd.requantise(x, load(&scale)),
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
            let mut wide_halves = vec![0i16; 2 * S::LANES];
            // SAFETY: the lists have as many elements as are written.
            unsafe {
                simd.store(list.as_mut_ptr(), broadcast);
                results[12].extend_from_slice(&list);
                simd.store(list.as_mut_ptr(), wide);
                results[13].extend_from_slice(&list);
                for (place, outcome) in
                    [simd.add_halves(halves, other), simd.sub_halves(halves, other), simd.shl_halves::<2>(halves)]
                        .into_iter()
                        .enumerate()
                {
                    simd.store_halves(wide_halves.as_mut_ptr(), outcome);
                    results[14 + place].extend(wide_halves.iter().map(|half| i32::from(*half)));
                }
            }
        }
        results.extend(bytes_of(simd, &a, &b));
        results
    }
}

/// What the operations on bytes make of some words: in an order that does not depend on how wide vectors are.
#[inline(always)]
fn bytes_of<S: Simd>(simd: S, a: &[i32], b: &[i32]) -> [Vec<i32>; 5] {
    let mut results: [Vec<i32>; 5] = Default::default();
    let raw: Vec<u8> = a.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let width = 4 * S::LANES;
    let (zero_point, low, high) = ((b[1] & 255) as i16, (b[2] & 63) as u8, 255 - (b[4] & 63) as u8);
    let clamp = (simd.splat_halves(zero_point), simd.splat_bytes(low), simd.splat_bytes(high));
    let all = (simd.splat_halves(0), simd.splat_bytes(0), simd.splat_bytes(255));
    let mut out = [0u8; 64];
    for first in (0..64).step_by(width.min(64)) {
        // Words in the order of vectors.
        let four: [S::Words; 4] = std::array::from_fn(|vector| {
            let list = &a[(first + vector * S::LANES) % 64..][..S::LANES];
            // SAFETY: the slice has as many words as are read.
            unsafe { simd.load(list.as_ptr()) }
        });
        let bytes = simd.unshuffle(simd.narrow(four, clamp.0, clamp.1, clamp.2));
        // SAFETY: there are 64 bytes; a piece is at most a quarter of them, a half, or all.
        unsafe {
            let at = out.as_mut_ptr();
            simd.store_pieces([at], bytes);
            results[0].extend(out[..width].iter().map(|byte| i32::from(*byte)));
            simd.store_pieces([at.add(width / 2), at], bytes);
            let (second, first) = out[..width].split_at(width / 2);
            results[1].extend(first.iter().chain(second).map(|byte| i32::from(*byte)));
            simd.store_pieces([at.add(width / 4), at, at.add(width / 2), at.add(3 * width / 4)], bytes);
            for piece in [1, 0, 2, 3] {
                results[2].extend(out[piece * width / 4..][..width / 4].iter().map(|byte| i32::from(*byte)));
            }
        }
        // Four rows of bytes, and of their words each byte by itself: packing undoes the order of interleaving.
        let rows = std::array::from_fn(|row| {
            let row = &raw[64 * row + first..][..width];
            // SAFETY: the slice has as many bytes as are read.
            unsafe { simd.load_pieces([row.as_ptr()]) }
        });
        let words = simd.interleave(rows);
        for row in 0..4 {
            let mut one = [0i8; 4];
            one[row] = 1;
            let parts = crate::conv::parts::<S>(true);
            let weights = [0, 1].map(|part| simd.splat(crate::conv::weights_word(one, parts, part % parts)));
            let words = words.map(|words| {
                let start = simd.splat(crate::conv::offset::<S>(true));
                simd.dot4::<true>(start, simd.prepare::<true>(words), weights)
            });
            // SAFETY: there are 64 bytes.
            unsafe { simd.store_pieces([out.as_mut_ptr()], simd.narrow(words, all.0, all.1, all.2)) };
            assert_eq!(out[..width], raw[64 * row + first..][..width], "row {row} is found again");
        }
        // SAFETY: as before.
        unsafe { simd.store_pieces([out.as_mut_ptr()], simd.max_bytes(rows[0], rows[1])) };
        results[3].extend(out[..width].iter().map(|byte| i32::from(*byte)));
        let table = std::array::from_fn(|byte| raw[byte]);
        // SAFETY: as before.
        unsafe { simd.store_pieces([out.as_mut_ptr()], simd.look_up(&table, rows[0])) };
        let expected = raw[first..][..width].iter().map(|byte| table[usize::from(*byte)]);
        assert!(out[..width].iter().copied().eq(expected), "every byte is looked up");
        // Pieces of whole parts.
        let at = |piece: usize| raw[64 * piece..].as_ptr();
        // SAFETY: a piece is at most 64 bytes, and 256 are there; so is what is written.
        unsafe {
            let two = [simd.load_pieces([raw.as_ptr()]), simd.load_pieces([raw[width..].as_ptr()])];
            for pieces in [2, 4].into_iter().filter(|pieces| pieces * 4 <= S::LANES) {
                let halves = if pieces == 2 { simd.unzip::<2>(two) } else { simd.unzip::<4>(two) };
                for (half, bytes) in halves.into_iter().enumerate() {
                    simd.store_pieces([out.as_mut_ptr()], bytes);
                    for piece in 0..pieces {
                        let size = width / pieces;
                        let from = &raw[(2 * piece + half) * size..][..size];
                        assert_eq!(out[piece * size..][..size], *from, "every second piece");
                    }
                }
            }
            if S::LANES >= 8 {
                simd.store_pieces([out.as_mut_ptr()], simd.load_pieces([at(1), at(0)]));
                assert_eq!((&out[..width / 2], &out[width / 2..width]), (&raw[64..][..width / 2], &raw[..width / 2]));
            }
            if S::LANES >= 16 {
                simd.store_pieces([out.as_mut_ptr()], simd.load_pieces([at(1), at(0), at(3), at(2)]));
                for (place, piece) in [1, 0, 3, 2].into_iter().enumerate() {
                    assert_eq!(out[16 * place..][..16], raw[64 * piece..][..16]);
                }
            }
        }
    }
    results[4].extend([i32::from(zero_point), i32::from(low), i32::from(high)]);
    results
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
    let found = Portable::<4>.dot4::<false>([1; 4], [[byte(127); 4]; 2], [[byte(-127); 4]; 2]);
    assert_eq!(found, [1 - 4 * 127 * 127; 4]);
    let halves = |a: i16, b: i16| {
        let (a, b) = (a.to_ne_bytes(), b.to_ne_bytes());
        i32::from_ne_bytes([a[0], a[1], b[0], b[1]])
    };
    assert_eq!(Portable::<4>.dot2([0; 4], [halves(3, -2); 4], [halves(5, 7); 4]), [1; 4]);
    let bits = |scale: f32| [scale.to_bits() as i32; 4];
    // Ties go to even; 2^24 + 1 is rounded before it is multiplied.
    assert_eq!(Portable::<4>.requantise([1, 3, -1, -3], bits(0.5)), [0, 2, 0, -2]);
    assert_eq!(
        Portable::<4>.requantise([16_777_217, 16_777_219, 8_388_609, -8_388_611], bits(0.5)),
        [8_388_608, 8_388_610, 4_194_304, -4_194_306]
    );
}

#[cfg(target_arch = "x86_64")]
#[test]
fn x86() {
    let checked = [
        Avx2::detect().map(check).map(|()| "avx2"),
        AvxVnni::detect().map(check).map(|()| "avxvnni"),
        EvexVnni::detect().map(check).map(|()| "evexvnni"),
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
