//! What a transaction offers when nobody says otherwise.

use ocelli_consensus::Amount;
use ocelli_protocol::mempool::MIN_FEE_RATE;

/// Blocks that a transaction may wait to be included: under three hours on testnet. A guess at what a person calls lost.
pub const EXPIRY_BLOCKS: u64 = 1_000;

/// The least that nodes take for a transaction of this weight.
pub fn default_fee(weight: u64) -> Amount {
    Amount(weight.saturating_mul(MIN_FEE_RATE))
}

/// The last height at which a transaction made now may be included.
pub fn expiry(height: u64) -> u64 {
    height.saturating_add(EXPIRY_BLOCKS)
}
