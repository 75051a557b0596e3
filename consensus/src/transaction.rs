//! Transactions: what an account asks for, and its signature.

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};

use crate::address::Address;
use crate::amount::Amount;
use crate::codec::encode;
use crate::hash::{BlockHash, ImageHash, ModelId, TxId, WtxId, tagged};
use crate::signature::{SignatureError, Signed};

/// The encoded length of the longest transaction of version 1, a `Classify`: 28 + 64 + 32 + 64 bytes.
pub const MAX_TRANSACTION_BYTES: usize = 188;

/// What a transaction does. The tag is a u32 with the values below; an unknown one does not decode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tag 1: moves credits.
    Transfer {
        /// Who gets them.
        to: Address,
        /// How many.
        amount: Amount,
    },
    /// Tag 2: asks for a picture to be classified. The pixels travel beside the transaction.
    Classify {
        /// The model that is to look at it.
        model: ModelId,
        /// The hash of the pixels.
        image: ImageHash,
    },
}

const TAG_TRANSFER: u32 = 1;
const TAG_CLASSIFY: u32 = 2;

// By hand because bincode's derive numbers variants from 0.
impl Encode for Action {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        match self {
            Self::Transfer { to, amount } => {
                TAG_TRANSFER.encode(encoder)?;
                to.encode(encoder)?;
                amount.encode(encoder)
            }
            Self::Classify { model, image } => {
                TAG_CLASSIFY.encode(encoder)?;
                model.encode(encoder)?;
                image.encode(encoder)
            }
        }
    }
}

impl<C> Decode<C> for Action {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        match u32::decode(decoder)? {
            TAG_TRANSFER => Ok(Self::Transfer { to: Decode::decode(decoder)?, amount: Decode::decode(decoder)? }),
            TAG_CLASSIFY => Ok(Self::Classify { model: Decode::decode(decoder)?, image: Decode::decode(decoder)? }),
            tag => Err(DecodeError::OtherString(format!("unknown action tag {tag}"))),
        }
    }
}

bincode::impl_borrow_decode!(Action);

/// What is signed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Unsigned {
    /// Equals the account's nonce: the number of transactions it has sent before, from 0.
    pub nonce: u64,
    /// Paid to the miner.
    pub fee: Amount,
    /// The last height at which the transaction may be included.
    pub expires: u64,
    /// What it does.
    pub action: Action,
}

/// A signed transaction. The signature has not been checked unless the type says so elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Transaction {
    /// What is asked for.
    pub unsigned: Unsigned,
    /// Who asks: an Ed25519 public key (RFC 8032).
    pub public_key: [u8; 32],
    /// Over [`Transaction::signing_hash`].
    pub signature: [u8; 64],
}

impl Transaction {
    /// Signs with whatever holds the key: `sign` gets the 32 bytes to sign.
    pub fn sign(
        unsigned: Unsigned,
        public_key: [u8; 32],
        genesis: BlockHash,
        sign: impl FnOnce(&[u8; 32]) -> [u8; 64],
    ) -> Self {
        let hash = signing_hash(&unsigned, &public_key, genesis);
        Self { signature: sign(&hash), unsigned, public_key }
    }

    /// `H("ocelli/tx", unsigned || public key)`.
    pub fn txid(&self) -> TxId {
        TxId(tagged("ocelli/tx", &[&encode(&self.unsigned), &self.public_key]))
    }

    /// `H("ocelli/wtx", txid || signature)`.
    pub fn wtxid(&self) -> WtxId {
        WtxId(tagged("ocelli/wtx", &[self.txid().as_bytes(), &self.signature]))
    }

    /// The account that sends it.
    pub fn sender(&self) -> Address {
        Address::of(&self.public_key)
    }

    /// `H("ocelli/sign", genesis hash || unsigned || public key)`: bound to one network.
    pub fn signing_hash(&self, genesis: BlockHash) -> [u8; 32] {
        signing_hash(&self.unsigned, &self.public_key, genesis)
    }

    /// What has to be verified of it, each by itself and without any state.
    pub fn signatures(&self, genesis: BlockHash) -> impl Iterator<Item = Signed> {
        let message = self.signing_hash(genesis);
        std::iter::once(Signed { public_key: self.public_key, message, signature: self.signature })
    }

    /// Checks all its signatures by the rules of [`crate::signature::verify`].
    ///
    /// # Errors
    /// [`SignatureError`] names the first rule that one breaks.
    pub fn verify_signatures(&self, genesis: BlockHash) -> Result<(), SignatureError> {
        self.signatures(genesis).try_for_each(|signed| signed.verify())
    }

    /// The parts of the state that it reads and writes.
    pub fn touches(&self) -> impl Iterator<Item = Touch> {
        let credited = match self.unsigned.action {
            Action::Transfer { to, .. } => Some(Touch::Credits(to)),
            Action::Classify { .. } => None,
        };
        std::iter::once(Touch::Spends(self.sender())).chain(credited)
    }

    /// The model and image of a `Classify`.
    pub fn task(&self) -> Option<(ModelId, ImageHash)> {
        match self.unsigned.action {
            Action::Classify { model, image } => Some((model, image)),
            Action::Transfer { .. } => None,
        }
    }

    /// What the sender pays in all, fee included; `None` when that exceeds 64 bits.
    pub fn total(&self) -> Option<Amount> {
        match self.unsigned.action {
            Action::Transfer { amount, .. } => amount.checked_add(self.unsigned.fee),
            Action::Classify { .. } => Some(self.unsigned.fee),
        }
    }

    /// Length of the encoding in bytes, without pixels.
    pub fn encoded_len(&self) -> usize {
        match self.unsigned.action {
            Action::Transfer { .. } => 152,
            Action::Classify { .. } => 188,
        }
    }
}

/// A part of the state that a transaction reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// Its nonce and balance: other transactions that spend from it come before or after, never in any order.
    Spends(Address),
    /// Only added to, which no other transaction can mind. It matters whether it exists.
    Credits(Address),
}

impl Touch {
    /// Whose account it is.
    pub fn address(self) -> Address {
        match self {
            Self::Spends(address) | Self::Credits(address) => address,
        }
    }
}

fn signing_hash(unsigned: &Unsigned, public_key: &[u8; 32], genesis: BlockHash) -> [u8; 32] {
    tagged("ocelli/sign", &[genesis.as_bytes(), &encode(unsigned), public_key])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::decode;

    pub(crate) fn transfer() -> Transaction {
        Transaction {
            unsigned: Unsigned {
                nonce: 1,
                fee: Amount(2),
                expires: 3,
                action: Action::Transfer { to: Address([4; 20]), amount: Amount(5) },
            },
            public_key: [6; 32],
            signature: [7; 64],
        }
    }

    #[test]
    fn golden_bytes() {
        let bytes = encode(&transfer());
        let expected = [
            "0100000000000000", // nonce
            "0200000000000000", // fee
            "0300000000000000", // expires
            "01000000",         // tag of Transfer
            &"04".repeat(20),
            "0500000000000000",
            &"06".repeat(32),
            &"07".repeat(64),
        ]
        .concat();
        assert_eq!(hex::encode(&bytes), expected);
        assert_eq!(bytes.len(), transfer().encoded_len());
        let mut classify = transfer();
        classify.unsigned.action = Action::Classify { model: ModelId([8; 32]), image: ImageHash([9; 32]) };
        let bytes = encode(&classify);
        assert_eq!(hex::encode(&bytes[24..92]), ["02000000", &"08".repeat(32), &"09".repeat(32)].concat());
        assert_eq!(bytes.len(), classify.encoded_len());
        assert_eq!(bytes.len(), MAX_TRANSACTION_BYTES);
        assert_eq!(decode::<Transaction>(&bytes, 1000).unwrap(), classify);
    }

    #[test]
    fn unknown_tags_trailing_and_missing_bytes_do_not_decode() {
        let mut bytes = encode(&transfer());
        assert!(decode::<Transaction>(&bytes[..151], 1000).is_err());
        bytes.push(0);
        assert_eq!(decode::<Transaction>(&bytes, 1000), Err(crate::codec::DecodeError::TrailingBytes(1)));
        bytes.pop();
        for tag in [0, 3, 255] {
            bytes[24] = tag;
            assert!(decode::<Transaction>(&bytes, 1000).is_err());
        }
    }

    #[test]
    fn txid_ignores_the_signature_and_wtxid_does_not() {
        let (a, mut b) = (transfer(), transfer());
        b.signature[0] ^= 1;
        assert_eq!(a.txid(), b.txid());
        assert_ne!(a.wtxid(), b.wtxid());
    }
}
