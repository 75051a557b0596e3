//! Targets, their compact encoding, and work. All 256-bit numbers are unsigned.

pub use ruint::aliases::U256;
use std::fmt;

/// What a block hash, as a number, must not exceed. **Lower is harder.**
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target(pub U256);

impl Target {
    /// The easiest target of all: every hash meets it.
    pub const MAX: Target = Target(U256::MAX);

    /// Expected number of hashes to meet this target: `floor(2^256 / (target + 1))`. Of target zero that would be 2^256;
    /// no [`CompactTarget`] decodes to zero, and the largest work is given for it.
    pub fn work(self) -> Work {
        let Some(divisor) = self.0.checked_add(U256::ONE) else { return Work(U256::ONE) };
        // 2^256 / d = (2^256 - d) / d + 1, and 2^256 - d = !target.
        Work((!self.0 / divisor).saturating_add(U256::ONE))
    }

    /// Whether a block hash, read as a little-endian number, is at or below the target.
    pub fn is_met_by(self, hash: [u8; 32]) -> bool {
        U256::from_le_bytes::<32>(hash) <= self.0
    }

    /// The compact encoding of the largest target that has one and is not above this: precision beyond 15 to 23 bits is
    /// lost, towards harder.
    pub fn to_compact_lossy(self) -> CompactTarget {
        let mut size = self.0.byte_len();
        let mut mantissa: u32 =
            if size <= 3 { self.0.to::<u32>() << (8 * (3 - size)) } else { (self.0 >> (8 * (size - 3))).to::<u32>() };
        if mantissa & SIGN != 0 {
            mantissa >>= 8;
            size += 1;
        }
        CompactTarget((size as u32) << 24 | mantissa)
    }
}

impl fmt::Display for Target {
    /// 64 hexadecimal digits, most significant first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:064x}", self.0)
    }
}

/// The sign bit of Bitcoin's compact numbers, which no target has.
const SIGN: u32 = 0x0080_0000;

/// A target as headers carry it, encoded as Bitcoin's `nBits`: the highest byte is the length `n` of the number in bytes,
/// the lower three are its most significant bytes, `mantissa * 256^(n - 3)`. Its order says nothing about difficulty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, bincode::Encode, bincode::Decode)]
pub struct CompactTarget(pub u32);

/// Why a compact target is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CompactTargetError {
    /// The sign bit is set.
    #[error("compact target {0:#010x} is negative")]
    Negative(u32),
    /// The number is zero.
    #[error("compact target {0:#010x} is zero")]
    Zero(u32),
    /// The number has more than 256 bits.
    #[error("compact target {0:#010x} exceeds 256 bits")]
    Overflow(u32),
    /// The same number is written in another way.
    #[error("compact target {0:#010x} is not canonical")]
    NotCanonical(u32),
}

impl CompactTarget {
    /// The target that this encodes.
    ///
    /// # Errors
    /// If it is negative, zero, above 256 bits, or not what [`Target::to_compact_lossy`] gives for the same number.
    pub fn to_target(self) -> Result<Target, CompactTargetError> {
        let size = (self.0 >> 24) as usize;
        let mantissa = U256::from(self.0 & 0x007f_ffff);
        if self.0 & SIGN != 0 {
            return Err(CompactTargetError::Negative(self.0));
        }
        let number = if size <= 3 {
            mantissa >> (8 * (3 - size))
        } else if mantissa.bit_len() + 8 * (size - 3) <= 256 || mantissa.is_zero() {
            mantissa << (8 * (size - 3))
        } else {
            return Err(CompactTargetError::Overflow(self.0));
        };
        if number.is_zero() {
            return Err(CompactTargetError::Zero(self.0));
        }
        let target = Target(number);
        if target.to_compact_lossy() != self {
            return Err(CompactTargetError::NotCanonical(self.0));
        }
        Ok(target)
    }
}

impl fmt::Display for CompactTarget {
    /// Eight hexadecimal digits after `0x`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

/// Expected number of hashes, of one block or summed over a chain. Sums compare chains: the greater is the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Work(pub U256);

impl Work {
    /// The work of no blocks.
    pub const ZERO: Work = Work(U256::ZERO);

    /// The sum, `None` if it has more than 256 bits.
    pub fn checked_add(self, other: Work) -> Option<Work> {
        self.0.checked_add(other.0).map(Work)
    }
}

impl fmt::Display for Work {
    /// In decimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bitcoin_genesis() {
        let target = CompactTarget(0x1d00_ffff).to_target().unwrap();
        assert_eq!(target.to_string(), format!("00000000ffff{}", "0".repeat(52)));
        assert_eq!(target.work().to_string(), "4295032833");
        // Its block hash, in the order of the bytes that SHA-256 gives.
        let mut hash = [0; 32];
        hex::decode_to_slice("6fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000", &mut hash).unwrap();
        assert!(target.is_met_by(hash));
        hash[28] = 1;
        assert!(!target.is_met_by(hash));
    }

    #[test]
    fn the_bound_itself_is_met() {
        assert!(Target(U256::from(5)).is_met_by(U256::from(5).to_le_bytes::<32>()));
        assert!(!Target(U256::from(5)).is_met_by(U256::from(6).to_le_bytes::<32>()));
    }

    #[test]
    fn work_at_the_ends() {
        assert_eq!(Target::MAX.work(), Work(U256::ONE));
        assert_eq!(Target(U256::MAX - U256::ONE).work(), Work(U256::ONE));
        assert_eq!(Target(U256::ONE).work(), Work(U256::ONE << 255));
        assert_eq!(Target((U256::ONE << 255) - U256::ONE).work(), Work(U256::from(2)));
        assert_eq!(Target(U256::ZERO).work(), Work(U256::MAX));
        assert_eq!(Work(U256::MAX).checked_add(Work(U256::ONE)), None);
    }

    #[test]
    fn only_canonical_compact_targets() {
        use CompactTargetError::*;
        for (bits, error) in [
            (0x1d80_ffff, Negative(0x1d80_ffff)),
            (0x0080_0000, Negative(0x0080_0000)),
            (0, Zero(0)),
            (0x1d00_0000, Zero(0x1d00_0000)),
            (0xff00_0000, Zero(0xff00_0000)),
            (0x0000_0001, Zero(1)),
            (0x0200_0001, Zero(0x0200_0001)),
            (0x0101_0001, NotCanonical(0x0101_0001)),
            (0x1d00_00ff, NotCanonical(0x1d00_00ff)),
            (0x1e00_0fff, NotCanonical(0x1e00_0fff)),
            (0x2101_0000, Overflow(0x2101_0000)),
            (0x2200_0100, Overflow(0x2200_0100)),
            (0x2300_0001, Overflow(0x2300_0001)),
            (0xff12_3456, Overflow(0xff12_3456)),
        ] {
            assert_eq!(CompactTarget(bits).to_target(), Err(error), "{bits:#010x}");
        }
        assert_eq!(CompactTarget(0x0101_0000).to_target(), Ok(Target(U256::ONE)));
        assert_eq!(CompactTarget(0x2200_00ff).to_target(), Err(NotCanonical(0x2200_00ff)));
        assert_eq!(Target::MAX.to_compact_lossy(), CompactTarget(0x2100_ffff));
        assert_eq!(CompactTarget(0x2100_ffff).to_target(), Ok(Target(U256::from(0xffff) << 240)));
        assert_eq!(CompactTarget(0x1d00_ffff).to_string(), "0x1d00ffff");
    }

    proptest! {
        #[test]
        fn compact_rounds_down_once(limbs in any::<[u64; 4]>(), shift in 0usize..255) {
            let number = (U256::from_limbs(limbs) >> shift) | U256::ONE;
            let compact = Target(number).to_compact_lossy();
            let target = compact.to_target().expect("what is encoded is canonical");
            prop_assert!(target.0 <= number && number - target.0 <= number >> 15);
            prop_assert_eq!(target.to_compact_lossy(), compact);
        }

        #[test]
        fn work_is_the_quotient(limbs in any::<[u64; 4]>(), shift in 0usize..255) {
            let target = (U256::from_limbs(limbs) >> shift) | U256::ONE;
            prop_assume!(target != U256::MAX);
            let (divisor, work) = (target + U256::ONE, Target(target).work().0);
            // work * divisor <= 2^256 < (work + 1) * divisor, modulo 2^256: the remainder is below the divisor.
            prop_assert!(U256::ZERO.wrapping_sub(work.wrapping_mul(divisor)) < divisor);
        }
    }
}
