//! A node's word for an answer, before any block confirms it.

use bincode::de::Decoder;
use bincode::error::DecodeError;
use bincode::{Decode, Encode};
use ocelli_consensus::block::Classes;
use ocelli_consensus::codec::encode;
use ocelli_consensus::hash::tagged;
use ocelli_consensus::signature::{self, SignatureError};
use ocelli_consensus::transaction::Task;
use ocelli_consensus::{BlockHash, TxId};

use super::block::decode_classes;

/// A preliminary answer, signed by the identity key of the node that gives it. Unconfirmed: one node's word.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct SignedAnswer {
    /// What the node's own run gave.
    pub answer: Classes,
    /// The node's Ed25519 identity key, from which its peer id derives.
    pub public_key: [u8; 32],
    /// Over [`SignedAnswer::signing_hash`].
    pub signature: [u8; 64],
}

impl SignedAnswer {
    /// What is signed: `H("ocelli/answer", genesis hash || txid || model || attachment's hash || answer)`, the answer without its
    /// kind's byte.
    pub fn signing_hash(genesis: BlockHash, txid: TxId, task: &Task, answer: &Classes) -> [u8; 32] {
        let parts: [&[u8]; 5] = [&genesis.0, &txid.0, &task.model.0, &task.attachment.0, &encode(answer)];
        tagged("ocelli/answer", &parts)
    }

    /// Checks the signature. Whose key it is, the caller compares with the peer that it asked.
    ///
    /// # Errors
    /// [`SignatureError`] names the rule that it breaks.
    pub fn verify(&self, genesis: BlockHash, txid: TxId, task: &Task) -> Result<(), SignatureError> {
        let hash = Self::signing_hash(genesis, txid, task, &self.answer);
        signature::verify(&self.public_key, &hash, &self.signature)
    }
}

impl<C> Decode<C> for SignedAnswer {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Self {
            answer: decode_classes(decoder)?,
            public_key: Decode::decode(decoder)?,
            signature: Decode::decode(decoder)?,
        })
    }
}
