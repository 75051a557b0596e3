//! Pillow's `BILINEAR` (Resample.c): a triangle over the centre of each new sample, wider the more is left out.

use crate::Input;
use crate::crop::Rectangle;
use crate::plane::{LANES, Plane};

/// Appends what a channel has become: `input.height` rows of `input.width` bytes.
pub(crate) fn resize(channel: &Plane, kept: Rectangle, input: Input, out: &mut Vec<u8>) {
    let rows = resize_rows(channel, kept, input.width);
    resize_columns(&rows, kept.rows, input, out);
}

/// A channel whose rows lie one after the other, each filled up to a multiple of [`LANES`].
struct Rows {
    samples: Vec<u8>,
    stride: usize,
}

/// Gives each row its new width, rounded to 8 bits.
fn resize_rows(channel: &Plane, kept: Rectangle, width: usize) -> Rows {
    let stride = width.next_multiple_of(LANES);
    let (samples, column_stride) = channel.columns();
    let mut rows = Rows { samples: vec![0; stride * kept.rows], stride };
    let filters = filters(kept.columns, width);
    let mut group = vec![0; TURNED * column_stride];
    for (number, filters) in filters.chunks(TURNED).enumerate() {
        for (filter, out) in filters.iter().zip(group.chunks_exact_mut(column_stride)) {
            filter.apply(samples, column_stride, out);
        }
        turn(&group, column_stride, &mut rows, TURNED * number);
    }
    rows
}

/// Gives each column its new height.
fn resize_columns(rows: &Rows, height: usize, input: Input, out: &mut Vec<u8>) {
    let mut row = vec![0; rows.stride];
    for filter in filters(height, input.height) {
        filter.apply(&rows.samples, rows.stride, &mut row);
        out.extend_from_slice(&row[..input.width]);
    }
}

/// How many columns become rows at once.
const TURNED: usize = 8;

/// Writes columns of `group` into all rows, from a column on.
fn turn(group: &[u8], column_stride: usize, rows: &mut Rows, column: usize) {
    let stride = rows.stride;
    for (number, row) in rows.samples.chunks_exact_mut(stride).enumerate() {
        for (i, sample) in row[column..][..TURNED].iter_mut().enumerate() {
            *sample = group[i * column_stride + number];
        }
    }
}

/// What one new sample is made of.
struct Filter {
    /// The first old sample.
    first: usize,
    weights: Vec<Weight>,
}

/// A weight in 2^22ths, 0 to 2^22, in two parts of which the product with a sample fits 32 bits by far.
#[derive(Clone, Copy)]
struct Weight {
    /// The weight, shifted by [`LOW_BITS`].
    high: u16,
    low: u16,
}

const LOW_BITS: u32 = 11;

impl Filter {
    /// Adds up lines, the one after the other `stride` bytes on, each times its weight. Lines and `out` are as long as
    /// the stride, a multiple of [`LANES`].
    fn apply(&self, lines: &[u8], stride: usize, out: &mut [u8]) {
        let lines = &lines[self.first * stride..][..self.weights.len() * stride];
        if let [_] = self.weights.as_slice() {
            // All of one sample.
            out.copy_from_slice(lines);
            return;
        }
        for (number, out) in out.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            let (mut high, mut low) = ([0u32; LANES], [0u32; LANES]);
            for (weight, line) in self.weights.iter().zip(lines.chunks_exact(stride)) {
                let samples = &line.as_chunks::<LANES>().0[number];
                // Both below 2^15: so a product of 16-bit numbers does.
                let [by_high, by_low] = [weight.high, weight.low].map(|part| u32::from(part & 0x7FFF));
                for i in 0..LANES {
                    high[i] += u32::from(samples[i]) * by_high;
                    low[i] += u32::from(samples[i]) * by_low;
                }
            }
            for i in 0..LANES {
                out[i] = (((high[i] << LOW_BITS) + low[i] + (1 << 21)) >> 22) as u8;
            }
        }
    }
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
        let weight = |height: i64| ((height << 23) + sum) / (2 * sum);
        let parts =
            |weight: i64| Weight { high: (weight >> LOW_BITS) as u16, low: (weight & ((1 << LOW_BITS) - 1)) as u16 };
        Filter { first: first as usize, weights: heights.into_iter().map(|height| parts(weight(height))).collect() }
    };
    (0..t).map(filter).collect()
}
