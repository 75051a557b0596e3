//! A node's word for an answer, before any block confirms it.

use bincode::de::Decoder;
use bincode::error::DecodeError;
use bincode::{Decode, Encode};
use ocelli_consensus::codec::encode;
use ocelli_consensus::hash::tagged;
use ocelli_consensus::signature::{self, SignatureError};
use ocelli_consensus::{BlockHash, ImageHash, ModelId, TxId};

use super::block::decode_logits;

/// A preliminary answer, signed by the identity key of the node that gives it. Unconfirmed: one node's word.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct SignedAnswer {
    /// What the node's own run gave.
    pub logits: Vec<i32>,
    /// The node's Ed25519 identity key, from which its peer id derives.
    pub public_key: [u8; 32],
    /// Over [`SignedAnswer::signing_hash`].
    pub signature: [u8; 64],
}

impl SignedAnswer {
    /// What is signed: `H("ocelli/answer", genesis hash || txid || model || image || encoded logits)`.
    pub fn signing_hash(genesis: BlockHash, txid: TxId, model: ModelId, image: ImageHash, logits: &[i32]) -> [u8; 32] {
        let logits = encode(&logits);
        tagged("ocelli/answer", &[&genesis.0, &txid.0, &model.0, &image.0, &logits])
    }

    /// Checks the signature. Whose key it is, the caller compares with the peer that it asked.
    ///
    /// # Errors
    /// [`SignatureError`] names the rule that it breaks.
    pub fn verify(
        &self,
        genesis: BlockHash,
        txid: TxId,
        model: ModelId,
        image: ImageHash,
    ) -> Result<(), SignatureError> {
        let hash = Self::signing_hash(genesis, txid, model, image, &self.logits);
        signature::verify(&self.public_key, &hash, &self.signature)
    }
}

impl<C> Decode<C> for SignedAnswer {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Self {
            logits: decode_logits(decoder)?,
            public_key: Decode::decode(decoder)?,
            signature: Decode::decode(decoder)?,
        })
    }
}
