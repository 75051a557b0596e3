//! The inverse cosine transform (T.81, A.3.3), with the integers of libjpeg's ISLOW (jidctint.c, `jpeg_idct_islow`: the
//! 12 constants of Loeffler, Ligtenberg and Moschytz), multiplied out.
//!
//! What one pass adds up is below 2^31 for any 16-bit inputs: 2 * 8192 + 15137 + 29693 = 61214 times 2^15, and the rounding.

/// Coefficients, row by row: each row has its frequencies along a row of samples.
pub(crate) type Block = [[i16; 8]; 8];

/// What is added to a sample.
const MIDDLE: i16 = 128;

/// Samples past ±16,400 between the passes give one out of range, whatever the others are.
const MAX_BETWEEN: i16 = 16_500;

/// The samples of a block, **column by column**; none if one of them is outside of -512 to 511 before 128 is added. `last`
/// is a coefficient, in zigzag order, after which all are 0.
pub(crate) fn samples(block: &Block, last: usize) -> Option<[[u8; 8]; 8]> {
    if last == 0 {
        // Both passes at once: 4 times the coefficient, which is exact, and then with 18 bits less.
        let sample = (block[0][0] + 4) >> 3;
        return (-512..=511).contains(&sample).then(|| [[clip(sample); 8]; 8]);
    }
    // The first ten in zigzag order lie in the first four rows and columns.
    if last < 10 { transform::<4>(block) } else { transform::<8>(block) }
}

/// [`samples`] of a block with zeros after its first N rows and columns.
fn transform<const N: usize>(block: &Block) -> Option<[[u8; 8]; 8]> {
    let between = turn(&pass::<N, 11>(block));
    let samples = pass::<N, 18>(&between);
    let within = |rows: &Block, low: i16, high: i16| {
        let (mut least, mut most) = ([0; 8], [0; 8]);
        for row in rows {
            for i in 0..8 {
                least[i] = row[i].min(least[i]);
                most[i] = row[i].max(most[i]);
            }
        }
        least.iter().all(|least| *least >= low) && most.iter().all(|most| *most <= high)
    };
    if !within(&between, -MAX_BETWEEN, MAX_BETWEEN) || !within(&samples, -512, 511) {
        return None;
    }
    let mut out = [[0; 8]; 8];
    for (out, samples) in out.as_flattened_mut().iter_mut().zip(samples.as_flattened()) {
        *out = clip(*samples);
    }
    Some(out)
}

#[inline(always)]
fn clip(sample: i16) -> u8 {
    (sample + MIDDLE).clamp(0, 255) as u8
}

/// Row x of the result is the sum of the rows, each times what its frequency adds to sample x, shifted to the right and
/// rounded; what does not fit 16 bits becomes the nearest that does. Rows from N on are 0.
#[inline(always)]
fn pass<const N: usize, const SHIFT: u32>(rows: &Block) -> Block {
    let mut out = [[0; 8]; 8];
    let narrow = |sum: i32| (sum >> SHIFT).clamp(-32_768, 32_767) as i16;
    for i in 0..8 {
        let row = |number: usize| if number < N { i32::from(rows[number][i]) } else { 0 };
        let (flat, middle) = (8192 * row(0) + (1 << (SHIFT - 1)), 8192 * row(4));
        let outer = 10703 * row(2) + 4433 * row(6);
        let inner = 4433 * row(2) - 10704 * row(6);
        let even = [flat + middle + outer, flat - middle + inner, flat - middle - inner, flat + middle - outer];
        let odd = [
            11363 * row(1) + 9633 * row(3) + 6437 * row(5) + 2260 * row(7),
            9633 * row(1) - 2259 * row(3) - 11362 * row(5) - 6436 * row(7),
            6437 * row(1) - 11362 * row(3) + 2261 * row(5) + 9633 * row(7),
            2260 * row(1) - 6436 * row(3) + 9633 * row(5) - 11363 * row(7),
        ];
        for x in 0..4 {
            out[x][i] = narrow(even[x] + odd[x]);
            out[7 - x][i] = narrow(even[x] - odd[x]);
        }
    }
    out
}

/// Rows become columns.
#[inline(always)]
fn turn(rows: &Block) -> Block {
    let mut out = [[0; 8]; 8];
    for (number, row) in rows.iter().enumerate() {
        for (column, value) in row.iter().enumerate() {
            out[column][number] = *value;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The matrix of `docs/picture.md`, section 4.
    fn matrix() -> [[i64; 8]; 8] {
        let above = [
            [8192, 11363, 10703, 9633, 8192, 6437, 4433, 2260],
            [8192, 9633, 4433, -2259, -8192, -11362, -10704, -6436],
            [8192, 6437, -4433, -11362, -8192, 2261, 10704, 9633],
            [8192, 2260, -10703, -6436, 8192, 9633, -4433, -11363],
        ];
        std::array::from_fn(
            |x| if x < 4 { above[x] } else { std::array::from_fn(|u| [1, -1][u % 2] * above[7 - x][u]) },
        )
    }

    /// Row by row.
    fn by_the_rule(block: &Block) -> Option<[[u8; 8]; 8]> {
        let m = matrix();
        let cell = |sum: &dyn Fn(usize) -> i64| (0..8).map(sum).sum::<i64>();
        let between: [[i64; 8]; 8] = std::array::from_fn(|x| {
            std::array::from_fn(|u| (cell(&|v| m[x][v] * i64::from(block[v][u])) + (1 << 10)) >> 11)
        });
        let samples: [[i64; 8]; 8] =
            std::array::from_fn(|x| std::array::from_fn(|y| (cell(&|u| between[x][u] * m[y][u]) + (1 << 17)) >> 18));
        let within = samples.as_flattened().iter().all(|sample| (-512..=511).contains(sample));
        within.then(|| samples.map(|row| row.map(|sample| (sample + 128).clamp(0, 255) as u8)))
    }

    #[test]
    fn blocks_are_those_of_the_matrix() {
        let mut state = 1u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut taken = 0;
        for _ in 0..60_000 {
            // From blocks of one coefficient to full ones, and from small values to the largest that are ever passed on.
            let (sides, share, most) =
                ([1, 2, 4, 8][random(4) as usize], 1 + random(8), [8, 60, 400, 1500, 4_200][random(5) as usize]);
            let mut block: Block = [[0; 8]; 8];
            for row in &mut block[..sides] {
                for value in &mut row[..sides] {
                    if random(8) < share {
                        *value = random(2 * most + 1) as i16 - most as i16;
                    }
                }
            }
            let last = match sides {
                1 => 0,
                8 => 63,
                _ => 9,
            };
            let turned = |block: [[u8; 8]; 8]| std::array::from_fn(|x| std::array::from_fn(|y| block[y][x]));
            let expected = by_the_rule(&block);
            assert_eq!(samples(&block, last).map(turned), expected, "{block:?}");
            taken += u32::from(expected.is_some());
        }
        assert!((10_000..50_000).contains(&taken), "{taken}");
    }
}
