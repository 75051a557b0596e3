//! What a transaction offers when nobody says otherwise.

use ocelli_consensus::object::{MAX_ATTACHMENT_BYTES, ModelFacts};
use ocelli_consensus::rules;
use ocelli_consensus::transaction::{Action, Form, Transaction, Unsigned};
use ocelli_consensus::{Amount, AttachmentHash, ModelId};
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

/// What a task of a model weighs: with its pixels where a task may carry so many, else with the largest JPEG of the model's own
/// sides.
pub fn task_weight(facts: &ModelFacts) -> u64 {
    let pixels = u32::try_from(facts.pixels()).ok().filter(|bytes| *bytes as usize <= MAX_ATTACHMENT_BYTES);
    let (bytes, form) = match pixels {
        Some(bytes) => (bytes, Form::Pixels),
        None => (MAX_ATTACHMENT_BYTES as u32, Form::Jpeg { width: facts.width, height: facts.height }),
    };
    let (model, picture) = (ModelId([0; 32]), AttachmentHash([0; 32]));
    weight(&Action::Classify { model, picture, bytes, royalty: Amount::ZERO, form }, Some(facts))
}

/// What a transaction with that action weighs.
pub fn weight(action: &Action, model: Option<&ModelFacts>) -> u64 {
    let unsigned = Unsigned { nonce: 0, fee: Amount::ZERO, expires: 0, action: action.clone() };
    let transaction = Transaction { unsigned, public_key: [0; 32], signature: [0; 64] };
    // Without its model a task has no weight, and none is asked for here without.
    rules::weight(&transaction, model).unwrap_or(u64::MAX)
}
