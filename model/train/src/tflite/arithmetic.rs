//! The arithmetic of LiteRT, where it is not that of our layers but of one byte: each of these becomes a table. And what becomes of
//! real scales, as such files have them, in our layers.
//!
//! Most of it is XNNPACK's, which LiteRT hands operators to; LiteRT's own kernels compute what XNNPACK does not take:
//! `tensorflow/lite/kernels/internal/reference/{hard_swish,leaky_relu,requantize}.h`, with `gemmlowp`'s fixed-point products.

use std::ops::Range;

use ocelli_model::Finish;
use ocelli_model::graph::{MAX_MULTIPLIER, MAX_SHIFT};
use ocelli_model::proof::SCALES;
use ocelli_model::reference::activation;

/// What numbers of a tensor stand for: `scale * (number - zero_point)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantisation {
    /// A normal number above 0.
    pub scale: f32,
    /// Of numbers in -128..=127.
    pub zero_point: i8,
}

/// What a pixel is as a real number: `slope * pixel + offset`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// Not 0.
    pub slope: f64,
    pub offset: f64,
}

/// A pixel times a weight, with a bias and a scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sum {
    pub weight: i8,
    pub bias: i32,
    pub scale: f32,
}

/// A ReLU that is part of another operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    None,
    Relu,
    /// Between -1 and 1.
    ReluN1To1,
    Relu6,
}

impl Quantisation {
    /// The byte that stands for zero.
    pub fn zero_byte(&self) -> u8 {
        byte(self.zero_point.into())
    }

    /// The values of what has these scales.
    pub fn finish(&self, activation: Activation) -> Finish {
        let number = |real: f32| byte((real / self.scale + f32::from(self.zero_point)).round_ties_even() as i32);
        let (low, high) = match activation {
            Activation::None => (0, 255),
            Activation::Relu => (self.zero_byte(), 255),
            Activation::ReluN1To1 => (number(-1.0), number(1.0)),
            Activation::Relu6 => (self.zero_byte(), number(6.0)),
        };
        Finish { zero_point: self.zero_byte(), low, high }
    }

    /// The number nearest to a real one.
    pub fn number(&self, real: f64) -> u8 {
        let steps = (real / f64::from(self.scale)).round_ties_even();
        // Far outside of a byte, but well within an i32.
        byte(steps.clamp(-1e6, 1e6) as i32 + i32::from(self.zero_point))
    }
}

impl Line {
    /// What becomes of each pixel.
    pub fn table(&self, to: Quantisation) -> Vec<u8> {
        (0..256).map(|pixel| to.number(f64::from(pixel) * self.slope + self.offset)).collect()
    }

    /// A sum that gives this table, if one does.
    pub fn sum(&self, to: Quantisation, table: &[u8]) -> Option<Sum> {
        let finish = to.finish(Activation::None);
        (1..=127i8).rev().find_map(|weight| {
            let weight = if self.slope < 0.0 { -weight } else { weight };
            let bias = (self.offset / self.slope * f64::from(weight)).round_ties_even();
            let scale = (self.slope / f64::from(weight) / f64::from(to.scale)) as f32;
            if bias.abs() > MAX_BIAS || !SCALES.contains(&scale) {
                return None;
            }
            let sum = Sum { weight, bias: bias as i32, scale };
            let byte = |pixel: i32| activation(i32::from(weight) * pixel + sum.bias, scale, finish);
            (0..).zip(table).all(|(pixel, expected)| byte(pixel) == *expected).then_some(sum)
        })
    }
}

/// What a bias of pixels is at most; it leaves room for the pixels.
const MAX_BIAS: f64 = (1 << 22) as f64;

/// The byte of a number of eight bits with a sign, to which others are clamped.
fn byte(number: i32) -> u8 {
    (number.clamp(-128, 127) + 128) as u8
}

/// The multipliers and the shift of an addition; none for scales that are too far from each other: XNNPACK does not take these, and
/// LiteRT's own kernel rounds otherwise.
pub fn addition(first: f32, second: f32, sum: f32) -> Option<([u32; 2], u8)> {
    let ratios = [first / sum, second / sum];
    if !ratios.iter().all(|ratio| (1.0 / 1024.0..256.0).contains(ratio)) {
        return None;
    }
    let exponent = (ratios[0].max(ratios[1]).to_bits() >> 23) as i32 - 127;
    let shift = u8::try_from(20 - exponent).ok().filter(|shift| (1..=MAX_SHIFT).contains(shift))?;
    // As f64, of which the product is exact.
    let multipliers = ratios.map(|ratio| (f64::from(ratio) * f64::from(1u32 << shift)).round_ties_even() as u32);
    multipliers.iter().all(|multiplier| (1..=MAX_MULTIPLIER).contains(multiplier)).then_some((multipliers, shift))
}

/// What XNNPACK takes as the scale of a product; as for additions.
pub const PRODUCTS: Range<f32> = 1.0 / 65_536.0..256.0;

/// A table of what becomes of each byte. The function gets numbers counted from the zero point, and gives such.
fn table(from: Quantisation, to: Quantisation, of: impl Fn(i32) -> i32) -> Vec<u8> {
    let number = |byte: i32| of(byte - 128 - i32::from(from.zero_point));
    (0..256).map(|at| byte(number(at).saturating_add(to.zero_point.into()))).collect()
}

/// The logistic function.
pub fn logistic(from: Quantisation, to: Quantisation) -> Vec<u8> {
    table(from, to, |number| {
        let y = 1.0 / (1.0 + (-f64::from(number as f32 * from.scale)).exp());
        (y as f32 / to.scale).round_ties_even() as i32
    })
}

/// The same real numbers with other scales.
pub fn requantise(from: Quantisation, to: Quantisation) -> Vec<u8> {
    let ratio = from.scale / to.scale;
    if (SMALLEST..=LARGEST).contains(&ratio) {
        let multiplier = in_256ths(ratio);
        return table(from, to, |number| shifted(number * multiplier));
    }
    let multiplier = Multiplier::new(f64::from(from.scale) / f64::from(to.scale));
    table(from, to, |number| multiplier.times(number))
}

/// What is below zero times `alpha`.
pub fn leaky_relu(from: Quantisation, to: Quantisation, alpha: f32) -> Vec<u8> {
    let ratio = from.scale / to.scale;
    let below = ratio * alpha;
    let fits =
        (SMALLEST..=LARGEST).contains(&ratio) && below.abs() >= SMALLEST && (-LARGEST..=LARGEST).contains(&below);
    if fits {
        let (above, below) = (in_256ths(ratio), in_256ths(below));
        return table(from, to, |number| shifted(number * if number >= 0 { above } else { below }));
    }
    let above = Multiplier::new(ratio.into());
    let below = Multiplier::new((from.scale * alpha / to.scale).into());
    table(from, to, |number| if number >= 0 { above.times(number) } else { below.times(number) })
}

/// `x * min(max(x + 3, 0), 6) / 6`, in 16 bits.
pub fn hard_swish(from: Quantisation, to: Quantisation) -> Vec<u8> {
    let fine = from.scale * (1.0 / 128.0);
    let output = Multiplier::new((fine / to.scale).into());
    let relu = Multiplier::new((fine / (3.0 / 32768.0)).into());
    let [of_output, of_relu] = [&output, &relu].map(|multiplier| {
        if multiplier.fixed >= i32::MAX - (1 << 15) { i16::MAX } else { ((multiplier.fixed + (1 << 15)) >> 16) as i16 }
    });
    let saturated = |number: i32, by: i32| {
        // Beyond 16 bits all the same.
        let number = i64::from(number) << by.min(32);
        number.clamp(i16::MIN.into(), i16::MAX.into()) as i32
    };
    table(from, to, |number| {
        let number = number << 7;
        let scaled = high_product_16(number, of_output);
        let mut gate = number;
        if relu.exponent > 0 {
            gate = saturated(gate, relu.exponent - 1);
        }
        gate = high_product_16(gate, of_relu);
        if relu.exponent > 0 {
            gate = saturated(gate, 1);
        } else {
            gate = divided(gate.into(), -relu.exponent) as i32;
        }
        let gate = (gate + (1 << 15)) >> 1;
        divided((i64::from(gate) * i64::from(scaled)) / (1 << 15), -output.exponent) as i32
    })
}

/// What XNNPACK takes as a ratio of scales.
const SMALLEST: f32 = 1.0 / 256.0;
const LARGEST: f32 = 128.0;

/// A ratio in 256ths.
fn in_256ths(ratio: f32) -> i32 {
    (ratio * 256.0).round_ties_even() as i32
}

/// 256ths, rounded to the nearest, halves up.
fn shifted(number: i32) -> i32 {
    (number + 128) >> 8
}

/// A number above 0 as a fraction of 31 bits and an exponent, as `gemmlowp` multiplies by it.
#[derive(Debug)]
struct Multiplier {
    /// 2^30 to 2^31 - 1, or 0; of a number below 0, the negative of it.
    fixed: i32,
    exponent: i32,
}

impl Multiplier {
    fn new(real: f64) -> Self {
        let bits = real.to_bits();
        let mut exponent = ((bits >> 52) & 0x7ff) as i32 - 1022;
        // The fraction, in 0.5..1.
        let fraction = f64::from_bits(bits & !(0x7ff << 52) | 1022 << 52);
        let mut fixed = (fraction * (1u64 << 31) as f64).round() as i64;
        if fixed.abs() == 1 << 31 {
            fixed /= 2;
            exponent += 1;
        }
        if real == 0.0 || exponent < -31 {
            return Self { fixed: 0, exponent: 0 };
        }
        Self { fixed: fixed as i32, exponent }
    }

    /// The product, rounded twice.
    fn times(&self, number: i32) -> i32 {
        // Beyond this, whatever is not 0 is beyond a byte.
        let left = self.exponent.clamp(0, 22);
        let product = (i64::from(number) << left) * i64::from(self.fixed);
        let nudge = if product >= 0 { 1 << 30 } else { 1 - (1 << 30) };
        divided((product + nudge) / (1 << 31), -self.exponent.min(0)) as i32
    }
}

/// The upper half of twice a product of 16 bits, rounded.
fn high_product_16(number: i32, by: i16) -> i32 {
    let product = i64::from(number) * i64::from(by);
    let nudge = if product >= 0 { 1 << 14 } else { 1 - (1 << 14) };
    (((product + nudge) / (1 << 15)) as i32).min(i16::MAX.into())
}

/// Divided by a power of two, rounded to the nearest, halves away from zero.
fn divided(number: i64, exponent: i32) -> i64 {
    if exponent <= 0 {
        return number;
    }
    let exponent = exponent.min(40);
    let mask = (1i64 << exponent) - 1;
    let threshold = (mask >> 1) + i64::from(number < 0);
    (number >> exponent) + i64::from((number & mask) > threshold)
}
