//! Fees for weight: the rate, and how much weight waits at each.

use std::collections::BTreeMap;
use std::fmt;

use ocelli_consensus::Amount;

/// Binary digits of a rate that [`RateIndex`] tells apart, after the first: steps of 1/64.
const STEP_BITS: u32 = 6;

/// Grains per weight unit, with 32 binary digits after the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FeeRate(u128);

impl FeeRate {
    /// The rate of a fee for a weight; of no weight, as for one unit.
    pub fn of(fee: Amount, weight: u64) -> Self {
        Self((u128::from(fee.0) << 32) / u128::from(weight.max(1)))
    }

    /// The least fee that has this rate for a weight, as far as 64 bits reach.
    pub fn fee(self, weight: u64) -> Amount {
        let scaled = self.0.saturating_mul(u128::from(weight.max(1)));
        Amount(u64::try_from(scaled.div_ceil(1 << 32)).unwrap_or(u64::MAX))
    }

    /// A little more: what outbids it.
    pub(super) fn above(self) -> Self {
        Self(self.0.saturating_add(self.0 >> STEP_BITS).max(self.0.saturating_add(1)))
    }

    /// Halved so many times.
    pub(super) fn halved(self, times: u32) -> Self {
        Self(self.0.checked_shr(times).unwrap_or(0))
    }

    /// The step that it is on: leading digits, as a float has them.
    fn step(self) -> u32 {
        let shift = (128 - self.0.leading_zeros()).saturating_sub(STEP_BITS + 1);
        // 128 digits give at most 8,000 steps.
        (shift << STEP_BITS) + u32::try_from(self.0 >> shift).unwrap_or(u32::MAX)
    }

    /// The lowest rate on a step.
    fn of_step(step: u32) -> Self {
        let shift = (step >> STEP_BITS).saturating_sub(1);
        Self(u128::from(step - (shift << STEP_BITS)).checked_shl(shift).unwrap_or(u128::MAX))
    }
}

impl fmt::Display for FeeRate {
    /// Grains per weight unit, three decimals.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let thousandths = ((self.0 & 0xffff_ffff) * 1000) >> 32;
        write!(f, "{}.{thousandths:03}", self.0 >> 32)
    }
}

/// How much weight pays how much, in steps of 1/64: an estimate looks at one number a step, however much waits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RateIndex {
    weights: BTreeMap<u32, u64>,
}

impl RateIndex {
    pub(super) fn add(&mut self, rate: FeeRate, weight: u64) {
        let sum = self.weights.entry(rate.step()).or_default();
        *sum = sum.saturating_add(weight);
    }

    pub(super) fn remove(&mut self, rate: FeeRate, weight: u64) {
        let step = rate.step();
        if let Some(sum) = self.weights.get_mut(&step) {
            *sum = sum.saturating_sub(weight);
            if *sum == 0 {
                self.weights.remove(&step);
            }
        }
    }

    /// All steps, dearest first: how much weight pays as much or more, and the rate that outbids the step.
    pub(super) fn steps(&self) -> Vec<(u64, FeeRate)> {
        let mut sum = 0_u64;
        let steps = self.weights.iter().rev().map(|(&step, &weight)| {
            sum = sum.saturating_add(weight);
            (sum, FeeRate::of_step(step + 1))
        });
        steps.collect()
    }

    /// The rate that outbids what does not fit `weight`, dearest first; `None` where all of it fits.
    pub(super) fn within(&self, weight: u64) -> Option<FeeRate> {
        let (mut left, mut last) = (weight, None);
        for (&step, &sum) in self.weights.iter().rev() {
            if sum > left {
                let outbid = if left == 0 { last.unwrap_or(step) } else { step };
                return Some(FeeRate::of_step(outbid + 1));
            }
            (left, last) = (left - sum, Some(step));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_ascend_with_rates_and_begin_where_they_say() {
        let mut last = 0;
        for power in 0..128 {
            for rate in [1u128 << power, (1 << power) | (1 << power >> 1), (1 << power) | ((1 << power) - 1)] {
                let (rate, step) = (FeeRate(rate), FeeRate(rate).step());
                assert!(step >= last && step < 8_000);
                assert!(FeeRate::of_step(step) <= rate);
                assert!(FeeRate::of_step(step + 1) > rate || rate.0 >> 121 == 127);
                last = step;
            }
        }
    }

    #[test]
    fn what_outbids_is_little_more() {
        let mut index = RateIndex::default();
        let rate = |fee| FeeRate::of(Amount(fee), 1);
        assert_eq!(index.within(0), None);
        for fee in [900, 800, 800, 700] {
            index.add(rate(fee), 10);
        }
        for (weight, fee) in [(0, 900), (10, 900), (11, 800), (29, 800), (30, 800), (31, 700)] {
            let found = index.within(weight).expect("not all fits");
            assert!(found > rate(fee) && found <= rate(fee).above(), "{weight}: {found}");
        }
        assert_eq!(index.within(40), None);
        [900, 800, 800, 700].into_iter().for_each(|fee| index.remove(rate(fee), 10));
        assert_eq!(index, RateIndex::default());
    }

    #[test]
    fn rates_order_and_print() {
        let rate = |fee, weight| FeeRate::of(Amount(fee), weight);
        assert!(rate(3, 2) > rate(4, 3));
        assert!(rate(u64::MAX, 1) > rate(u64::MAX, 2));
        assert_eq!(rate(3, 2).to_string(), "1.500");
        assert_eq!(rate(5, 0), rate(5, 1));
    }
}
