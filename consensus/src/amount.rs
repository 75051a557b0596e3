//! Amounts of credits, in grains, with checked arithmetic.

use std::fmt;
use std::str::FromStr;

/// Grains in a credit.
pub const GRAINS_PER_CREDIT: u64 = 100_000_000;

/// An amount in grains, 10^8 to a credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, bincode::Encode, bincode::Decode)]
pub struct Amount(pub u64);

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// The sum, unless it exceeds 64 bits.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, unless it is negative.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }
}

impl fmt::Display for Amount {
    /// In credits, without trailing zeros: `1.5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / GRAINS_PER_CREDIT, self.0 % GRAINS_PER_CREDIT);
        if part == 0 {
            return write!(f, "{whole}");
        }
        let part = format!("{part:08}");
        write!(f, "{whole}.{}", part.trim_end_matches('0'))
    }
}

/// A text that is not an amount of credits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an amount: expected credits with at most 8 decimals, such as 1.5")]
pub struct ParseAmountError(pub String);

impl FromStr for Amount {
    type Err = ParseAmountError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseAmountError(text.chars().take(40).collect());
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() > 8 {
            return Err(error());
        }
        let whole: u64 = whole.parse().map_err(|_| error())?;
        let part: u64 = format!("{part:0<8}").parse().map_err(|_| error())?;
        whole.checked_mul(GRAINS_PER_CREDIT).and_then(|grains| grains.checked_add(part)).map(Self).ok_or_else(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        for (text, grains) in [("0", 0), ("1.5", 150_000_000), ("0.00000001", 1), ("184467440737.09551615", u64::MAX)] {
            assert_eq!(text.parse::<Amount>().unwrap(), Amount(grains));
            assert_eq!(Amount(grains).to_string(), text);
        }
        for text in ["", ".", "1.", "-1", "1e3", "0.000000001", "184467440737.09551616", "+1"] {
            assert!(text.parse::<Amount>().is_err(), "{text}");
        }
    }
}
