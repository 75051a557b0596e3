//! ASERT, `aserti3-2d`: the target follows from the anchor, the height and the time alone. A chain that is a half-life
//! behind its schedule has twice the anchor's target, one that is a half-life ahead has half. Integer for integer the
//! algorithm of Bitcoin Cash (its 2020 upgrade specification and Bitcoin Cash Node's `CalculateASERT`), with block
//! spacing and half-life as parameters.

use crate::target::{CompactTarget, Target};
use ruint::Uint;

type U512 = Uint<512, 8>;

/// The block that the schedule is counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// The anchor's height.
    pub height: u64,
    /// The anchor's target.
    pub target: Target,
    /// Time of the anchor's parent, in seconds since 1970. May be below zero, for it may be a made-up one.
    pub parent_time: i64,
}

/// The target of the block whose parent has that height and time (seconds since 1970). `spacing` and `half_life` are in
/// seconds, a half-life of zero counts as one second; the result is never easier than `easiest`.
///
/// Never overflows: where a number leaves 128 bits, the exponent is so far out that the answer is one of both ends.
pub fn next_target(
    anchor: Anchor,
    parent_height: u64,
    parent_time: u64,
    spacing: u64,
    half_life: u64,
    easiest: Target,
) -> CompactTarget {
    let blocks = i128::from(parent_height) - i128::from(anchor.height) + 1;
    let seconds = i128::from(parent_time) - i128::from(anchor.parent_time);
    let behind = seconds.saturating_sub(i128::from(spacing).saturating_mul(blocks));
    // Halvings and doublings in units of 2^-16; the division truncates towards zero as it does in C++.
    let exponent = behind.saturating_mul(1 << 16) / i128::from(half_life.max(1));
    let whole = exponent >> 16; // arithmetic: rounds down
    let fraction = (exponent & 0xffff) as u128;

    // 2^(fraction / 2^16) * 2^16 by a cubic, within 0.013%.
    let cubic = 195_766_423_245_049 * fraction
        + 971_821_376 * fraction * fraction
        + 5_127 * fraction * fraction * fraction
        + (1 << 47);
    let factor = 65_536 + (cubic >> 48);

    // Below 2^273; the bounds on the shift are beyond those where nothing is left and where 256 bits are exceeded.
    let scaled = U512::from(anchor.target.0) * U512::from(factor);
    let shift = whole.clamp(-600, 256) - 16;
    let next = if scaled.is_zero() {
        scaled
    } else if shift <= 0 {
        scaled >> shift.unsigned_abs() as usize
    } else if scaled.bit_len() + shift as usize > 256 {
        U512::MAX
    } else {
        scaled << shift as usize
    };
    let next = next.clamp(U512::ONE, U512::from(easiest.0).max(U512::ONE));
    Target(next.to()).to_compact_lossy()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::U256;

    const EASIEST: Target = Target(U256::MAX);

    fn at(anchor: u64, blocks: u64, time: u64) -> U256 {
        let anchor = Anchor { height: 1, target: Target(U256::from(anchor)), parent_time: 0 };
        next_target(anchor, 1 + blocks, time, 10, 3600, EASIEST).to_target().unwrap().0
    }

    #[test]
    fn schedule_and_half_lives() {
        assert_eq!(at(0x1000, 0, 10), U256::from(0x1000));
        assert_eq!(at(0x1000, 99, 1000), U256::from(0x1000));
        assert_eq!(at(0x1000, 99, 1000 + 3600), U256::from(0x2000));
        assert_eq!(at(0x1000, 459, 1000), U256::from(0x0800));
    }

    #[test]
    fn extremes_do_not_overflow() {
        let hardest = CompactTarget(0x0101_0000);
        for target in [Target(U256::ONE), Target(U256::from(0xffff) << 240), Target::MAX] {
            for (spacing, half_life) in [(0, 0), (1, 1), (10, 3600), (u64::MAX, 1), (u64::MAX, u64::MAX)] {
                for parent_time in [i64::MIN, 0, i64::MAX] {
                    let anchor = Anchor { height: 1, target, parent_time };
                    for height in [0, 1, u64::MAX] {
                        for time in [0, 1 << 40, u64::MAX] {
                            let next = next_target(anchor, height, time, spacing, half_life, EASIEST);
                            next.to_target().expect("always a valid target");
                        }
                    }
                }
            }
            let anchor = Anchor { height: 1, target, parent_time: 0 };
            assert_eq!(next_target(anchor, u64::MAX, 0, 10, 60, EASIEST), hardest);
            assert_eq!(next_target(anchor, 1, 1 << 40, 10, 60, EASIEST), EASIEST.to_compact_lossy());
        }
    }

    #[test]
    fn no_easier_than_easiest() {
        let easiest = CompactTarget(0x1f00_ffff).to_target().unwrap();
        let anchor = Anchor { height: 1, target: easiest, parent_time: 0 };
        assert_eq!(next_target(anchor, 1, 9999, 10, 3600, easiest), CompactTarget(0x1f00_ffff));
        assert_ne!(next_target(anchor, 1, 0, 10, 3600, easiest), CompactTarget(0x1f00_ffff));
    }
}
