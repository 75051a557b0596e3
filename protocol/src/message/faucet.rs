//! A faucet: a node of a test network that gives newcomers a little to begin with.
//!
//! Whoever asks first does some work, so that asking a thousand times costs something: it looks for a number with which a hash
//! begins with enough zero bits (as in Hashcash, A. Back, 2002). The hash names a late block, so that nothing can be worked out in
//! advance, and the address that is paid, so that nobody can use another's work.

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use ocelli_consensus::hash::tagged;
use ocelli_consensus::{Address, Amount, BlockHash, Transaction};

use crate::wire;

/// What may be asked of a faucet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaucetRequest {
    /// Tag 1: what it gives, and for how much work.
    Terms,
    /// Tag 2: a payment.
    Claim(FaucetClaim),
}

/// Asks for a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct FaucetClaim {
    /// Who is to be paid.
    pub address: Address,
    /// A late block of the main chain, such as the one that the terms name.
    pub block: BlockHash,
    /// Found by trying.
    pub nonce: u64,
}

impl FaucetClaim {
    /// The leading zero bits of `H("ocelli/faucet", genesis hash || block || address || nonce)`, the nonce as u64
    /// little-endian, the hash read from the highest bit of its first byte on.
    pub fn work(&self, genesis: BlockHash) -> u32 {
        let hash = tagged(
            "ocelli/faucet",
            &[genesis.as_bytes(), self.block.as_bytes(), &self.address.0, &self.nonce.to_le_bytes()],
        );
        let zeros = hash.iter().take_while(|byte| **byte == 0).count();
        8 * zeros as u32 + hash.get(zeros).map_or(0, |byte| byte.leading_zeros())
    }
}

/// What a faucet says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaucetReply {
    /// Tag 1.
    Terms(FaucetTerms),
    /// Tag 2: a transfer is on its way.
    Paid(Transaction),
}

/// On which terms a faucet pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct FaucetTerms {
    /// What it pays.
    pub amount: Amount,
    /// The [`FaucetClaim::work`] that it wants, in bits.
    pub bits: u32,
    /// A block that a claim may name for some minutes.
    pub block: BlockHash,
}

impl Encode for FaucetRequest {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        match self {
            Self::Terms => 1u32.encode(encoder),
            Self::Claim(claim) => (2u32, claim).encode(encoder),
        }
    }
}

impl<C> Decode<C> for FaucetRequest {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        match u32::decode(decoder)? {
            1 => Ok(Self::Terms),
            2 => Ok(Self::Claim(Decode::decode(decoder)?)),
            tag => wire::unknown_tag("faucet request", tag),
        }
    }
}

impl Encode for FaucetReply {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        match self {
            Self::Terms(terms) => (1u32, terms).encode(encoder),
            Self::Paid(transaction) => (2u32, transaction).encode(encoder),
        }
    }
}

impl<C> Decode<C> for FaucetReply {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        match u32::decode(decoder)? {
            1 => Ok(Self::Terms(Decode::decode(decoder)?)),
            2 => Ok(Self::Paid(Decode::decode(decoder)?)),
            tag => wire::unknown_tag("faucet reply", tag),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against Python's hashlib:
    /// `t=sha256(b'ocelli/faucet').digest(); sha256(t+t+b'\x01'*32+b'\x02'*32+b'\x03'*20+(n).to_bytes(8,'little'))`
    #[test]
    fn work_is_the_zeros_of_the_hash() {
        let claim = |nonce| FaucetClaim { address: Address([3; 20]), block: BlockHash([2; 32]), nonce };
        for (nonce, bits) in GOLDEN {
            assert_eq!(claim(nonce).work(BlockHash([1; 32])), bits, "{nonce}");
        }
    }

    const GOLDEN: [(u64, u32); 4] = [(0, 0), (16, 3), (687, 9), (380_342, 17)];
}
