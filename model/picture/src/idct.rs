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
    (within(&between, -MAX_BETWEEN, MAX_BETWEEN) && within(&samples, -512, 511))
        .then(|| samples.map(|row| row.map(clip)))
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
