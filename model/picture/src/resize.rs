//! Pillow's `BILINEAR` (Resample.c): a triangle over the centre of each new sample, wider the more is left out.

use crate::Input;
use crate::crop::Rectangle;
use crate::plane::Plane;

/// How many columns become rows at once.
const TURNED: usize = 8;

/// Appends what N channels have become, one after the other: `input.height` rows of `input.width` bytes each. `column` gives
/// the columns of what is kept, of each channel, in their order.
pub(crate) fn resize<const N: usize>(
    mut column: impl FnMut(usize, [&mut [u8]; N]),
    kept: Rectangle,
    input: Input,
    out: &mut Vec<u8>,
) {
    let filters = filters(kept.columns, input.width);
    // The last columns, as many as a new one is made of, each in the place of the one before that is not needed any more.
    let places = filters.iter().map(|filter| filter.weights.len()).max().unwrap_or(1);
    let mut last = [(); N].map(|()| Plane::new(places, kept.rows));
    let mut seen = 0;
    let mut group = [(); N].map(|()| Plane::new(TURNED, kept.rows));
    let stride = input.width.next_multiple_of(TURNED);
    let mut rows = [(); N].map(|()| vec![0; stride * kept.rows]);
    for (x, filter) in filters.iter().enumerate() {
        while seen < filter.first + filter.weights.len() {
            column(seen, last.each_mut().map(|plane| plane.column_mut(seen % places)));
            seen += 1;
        }
        for (last, group) in last.iter().zip(&mut group) {
            filter.apply(|column| last.column(column % places), group.column_mut(x % TURNED));
        }
        if x % TURNED == TURNED - 1 || x + 1 == input.width {
            for (group, rows) in group.iter().zip(&mut rows) {
                turn(group, rows, stride, x - x % TURNED);
            }
        }
    }
    let filters = self::filters(kept.rows, input.height);
    for rows in rows {
        for filter in &filters {
            let begin = out.len();
            out.resize(begin + input.width, 0);
            filter.apply(|row| &rows[row * stride..][..input.width], &mut out[begin..]);
        }
    }
}

/// Writes a group of columns into all rows, from a column on.
fn turn(group: &Plane, rows: &mut [u8], stride: usize, column: usize) {
    let columns: [&[u8]; TURNED] = std::array::from_fn(|number| group.column(number));
    for (number, row) in rows.chunks_exact_mut(stride).enumerate() {
        let samples: [u8; TURNED] = std::array::from_fn(|column| columns[column][number]);
        row[column..][..TURNED].copy_from_slice(&samples);
    }
}

/// What one new sample is made of.
struct Filter {
    /// The first old sample.
    first: usize,
    /// Of the old samples from there on.
    weights: Vec<Weight>,
}

/// A weight in 2^22ths, 0 to 2^22, taken apart: with the high part sums fit 16 bits, with the low part products of 16 bits
/// suffice. A compiler that sees both parts come from one number puts them together again, and multiplies 32 bits.
#[derive(Clone, Copy)]
struct Weight {
    /// The weight without its [`LOW_BITS`]; of all weights of a filter 256 at most.
    high: u16,
    low: u16,
}

const LOW_BITS: u32 = 14;

/// How many sums are held at once where there are many weights.
const SUMS: usize = 64;

impl Filter {
    /// Adds up lines, each times its weight, and rounds. Each line is as long as `out`.
    fn apply<'a>(&self, line: impl Fn(usize) -> &'a [u8], out: &mut [u8]) {
        match *self.weights.as_slice() {
            // All of one sample.
            [_] => out.copy_from_slice(line(self.first)),
            [a, b] => add([a, b], [0, 1].map(|i| line(self.first + i)), out),
            [a, b, c] => add([a, b, c], [0, 1, 2].map(|i| line(self.first + i)), out),
            [a, b, c, d] => add([a, b, c, d], [0, 1, 2, 3].map(|i| line(self.first + i)), out),
            ref weights => {
                for (number, out) in out.chunks_mut(SUMS).enumerate() {
                    let (mut high, mut low) = ([0u16; SUMS], [0u32; SUMS]);
                    for (i, weight) in weights.iter().enumerate() {
                        let line = &line(self.first + i)[number * SUMS..][..out.len()];
                        for ((high, low), sample) in high.iter_mut().zip(&mut low).zip(line) {
                            let (by_high, by_low) = products(*weight, *sample);
                            *high += by_high;
                            *low += by_low;
                        }
                    }
                    for ((out, high), low) in out.iter_mut().zip(high).zip(low) {
                        *out = rounded(high, low);
                    }
                }
            }
        }
    }
}

/// [`Filter::apply`] for few lines.
fn add<const N: usize>(weights: [Weight; N], lines: [&[u8]; N], out: &mut [u8]) {
    let lines = lines.map(|line| &line[..out.len()]);
    for (number, out) in out.iter_mut().enumerate() {
        let (mut high, mut low) = (0, 0);
        for i in 0..N {
            let (by_high, by_low) = products(weights[i], lines[i][number]);
            high += by_high;
            low += by_low;
        }
        *out = rounded(high, low);
    }
}

/// The products of a sample with both parts of a weight.
#[inline(always)]
fn products(weight: Weight, sample: u8) -> (u16, u32) {
    // The mask says what is known anyway: below 2^15, so that an instruction for signed numbers does.
    (weight.high * u16::from(sample), u32::from(weight.low & 0x3FFF) * u32::from(sample))
}

/// What the sums of both parts make: a sample, rounded to the nearest.
#[inline(always)]
fn rounded(high: u16, low: u32) -> u8 {
    (((u32::from(high) << LOW_BITS) + low + (1 << 21)) >> 22) as u8
}

/// The filters for each of `target` samples out of `source`.
///
/// Pillow computes the weights in doubles and rounds them to 22 bits; these are the same for all sides up to 1,024.
fn filters(source: usize, target: usize) -> Vec<Filter> {
    let (s, t) = (source as i64, target as i64);
    let m = s.max(t);
    let filter = |x: i64| {
        let centre = (2 * x + 1) * s;
        let first = ((centre - 2 * m + t).div_euclid(2 * t)).max(0);
        let last = ((centre + 2 * m + t).div_euclid(2 * t)).min(s - 1);
        let height = |i: i64| (2 * m - ((2 * i + 1) * t - centre).abs()).max(0);
        // What weighs nothing is left out, so that a line is copied where sides are equal.
        let first = (first..=last).find(|i| height(*i) > 0).unwrap_or(first);
        let heights: Vec<i64> = (first..=last).map(height).take_while(|height| *height > 0).collect();
        let sum: i64 = heights.iter().sum();
        let weight = |height: i64| {
            let weight = ((height << 23) + sum) / (2 * sum);
            Weight { high: (weight >> LOW_BITS) as u16, low: (weight & ((1 << LOW_BITS) - 1)) as u16 }
        };
        Filter { first: first as usize, weights: heights.into_iter().map(weight).collect() }
    };
    (0..t).map(filter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The formula of `docs/picture.md`, section 7.
    fn by_the_rule(line: &[u8], target: usize) -> Vec<u8> {
        let (s, t) = (line.len() as i64, target as i64);
        let m = s.max(t);
        let sample = |x: i64| {
            let n = |i: i64| (2 * m - ((2 * i + 1) * t - (2 * x + 1) * s).abs()).max(0);
            let sum: i64 = (0..s).map(n).sum();
            let total: i64 = (0..s).zip(line).map(|(i, p)| ((n(i) << 23) + sum) / (2 * sum) * i64::from(*p)).sum();
            u8::try_from(((1 << 21) + total) >> 22).expect("never more than 255")
        };
        (0..t).map(sample).collect()
    }

    #[test]
    fn lines_are_those_of_the_rule() {
        let noise = |length: usize| (0..length).map(|i| (i * i * 31 + i * 7) as u8).collect::<Vec<u8>>();
        let pairs = (1..40).flat_map(|s| (1..40).map(move |t| (s, t)));
        let large =
            [(448, 224), (320, 224), (1, 1_024), (1_024, 1), (1_024, 1_023), (1_023, 1_024), (700, 96), (1_024, 341)];
        for (s, t) in pairs.chain(large) {
            for line in [noise(s), vec![255; s]] {
                let kept = Rectangle { left: 0, top: 0, columns: s, rows: 1 };
                let across = Input { channels: 1, height: 1, width: t, crop: crate::WHOLE };
                let mut found = Vec::new();
                resize(|column, [out]| out[0] = line[column], kept, across, &mut found);
                assert_eq!(found, by_the_rule(&line, t), "{s} to {t} in a row");
                let kept = Rectangle { columns: 1, rows: s, ..kept };
                let down = Input { height: t, width: 1, ..across };
                found.clear();
                resize(|_, [out]| out.copy_from_slice(&line), kept, down, &mut found);
                assert_eq!(found, by_the_rule(&line, t), "{s} to {t} in a column");
            }
        }
    }
}
