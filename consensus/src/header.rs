//! Block headers: 180 bytes, written by hand.

use crate::address::Address;
use crate::hash::{BlockHash, Root, block_hash};
use crate::target::CompactTarget;

/// Header times are below 2^40 seconds since 1970.
pub const TIME_LIMIT: u64 = 1 << 40;

/// Length of an encoded header.
pub const HEADER_BYTES: usize = 180;
/// Where the nonce begins: the first 128 bytes are two whole SHA-256 blocks that a miner hashes once.
pub const NONCE_OFFSET: usize = 172;

/// A block header. Field order is encoding order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// By the network's schedule; 1 from genesis.
    pub version: u32,
    /// Hash of the parent header; in genesis the hash of the network's parameters.
    pub parent: BlockHash,
    /// Mountain-range root over headers 0 to height - 1.
    pub history: Root,
    /// State tree root after this block.
    pub state: Root,
    /// Root over transactions with their answers.
    pub body: Root,
    /// Paid by this block: reward and fees.
    pub miner: Address,
    /// The parent's + 1.
    pub height: u64,
    /// Seconds since 1970.
    pub time: u64,
    /// The target that the hash must meet.
    pub target: CompactTarget,
    /// What a miner varies.
    pub nonce: u64,
}

impl Header {
    /// The 180 bytes: integers little-endian, in field order.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut at = 0;
        let mut put = |part: &[u8]| {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        };
        put(&self.version.to_le_bytes());
        put(&self.parent.0);
        put(&self.history.0);
        put(&self.state.0);
        put(&self.body.0);
        put(&self.miner.0);
        put(&self.height.to_le_bytes());
        put(&self.time.to_le_bytes());
        put(&self.target.0.to_le_bytes());
        put(&self.nonce.to_le_bytes());
        bytes
    }

    /// Reads what [`Header::to_bytes`] wrote. Any 180 bytes are a header; whether it is valid is for the rules.
    pub fn from_bytes(bytes: &[u8; HEADER_BYTES]) -> Self {
        fn take<const N: usize>(bytes: &[u8], at: &mut usize) -> [u8; N] {
            let mut part = [0; N];
            part.copy_from_slice(&bytes[*at..*at + N]);
            *at += N;
            part
        }
        let at = &mut 0;
        Self {
            version: u32::from_le_bytes(take(bytes, at)),
            parent: BlockHash(take(bytes, at)),
            history: Root(take(bytes, at)),
            state: Root(take(bytes, at)),
            body: Root(take(bytes, at)),
            miner: Address(take(bytes, at)),
            height: u64::from_le_bytes(take(bytes, at)),
            time: u64::from_le_bytes(take(bytes, at)),
            target: CompactTarget(u32::from_le_bytes(take(bytes, at))),
            nonce: u64::from_le_bytes(take(bytes, at)),
        }
    }

    /// SHA-256d of the 180 bytes.
    pub fn hash(&self) -> BlockHash {
        block_hash(&self.to_bytes())
    }
}

impl bincode::Encode for Header {
    fn encode<E: bincode::enc::Encoder>(&self, encoder: &mut E) -> Result<(), bincode::error::EncodeError> {
        self.to_bytes().encode(encoder)
    }
}

impl<C> bincode::Decode<C> for Header {
    fn decode<D: bincode::de::Decoder<Context = C>>(decoder: &mut D) -> Result<Self, bincode::error::DecodeError> {
        Ok(Self::from_bytes(&bincode::Decode::decode(decoder)?))
    }
}

bincode::impl_borrow_decode!(Header);

/// What a header is checked against of its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParentBlock {
    pub height: u64,
    /// Its time, in seconds since 1970.
    pub time: u64,
}

impl From<&Header> for ParentBlock {
    fn from(header: &Header) -> Self {
        Self { height: header.height, time: header.time }
    }
}

/// What a block's transactions may depend on besides the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The block's height.
    pub height: u64,
    /// The block's version: which rules hold.
    pub version: u32,
    /// Who gets reward and fees.
    pub miner: Address,
    /// The time of the block before, in seconds since 1970.
    pub parent_time: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let header = Header {
            version: 1,
            parent: BlockHash([2; 32]),
            history: Root([3; 32]),
            state: Root([4; 32]),
            body: Root([5; 32]),
            miner: Address([6; 20]),
            height: 7,
            time: 8,
            target: CompactTarget(0x1e04_0000),
            nonce: 0x0102_0304_0506_0708,
        };
        let bytes = header.to_bytes();
        let expected = [
            "01000000",
            &"02".repeat(32),
            &"03".repeat(32),
            &"04".repeat(32),
            &"05".repeat(32),
            &"06".repeat(20),
            "0700000000000000",
            "0800000000000000",
            "0000041e",
            "0807060504030201",
        ]
        .concat();
        assert_eq!(hex::encode(bytes), expected);
        assert_eq!(bytes[NONCE_OFFSET..], header.nonce.to_le_bytes());
        assert_eq!(Header::from_bytes(&bytes), header);
        assert_eq!(crate::codec::encode(&header), bytes);
    }
}
