//! Blocks and transactions with what travels beside them.

use std::sync::Arc;

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::enc::write::Writer as _;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use ocelli_consensus::block::{Answer, BlockShortId, BodyCommitment, Classes, answer_root};
use ocelli_consensus::codec::encode;
use ocelli_consensus::object::MAX_ATTACHMENT_BYTES;
use ocelli_consensus::{Action, AttachmentHash, Body, Header, Root, Transaction};

use super::{
    BLOCKS_BYTES, MAX_ATTACHMENTS, MAX_BLOCKS, MAX_CLASSES, MAX_TRANSACTIONS, MAX_UNKNOWN_TRANSACTION_BYTES,
    TRANSACTIONS_BYTES,
};
use crate::wire;

/// A new block, on the topic of blocks: enough to check proof of work and body root at once, before forwarding, and to find its
/// transactions. Whoever runs its tasks needs no answers.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct Announcement {
    /// The block's header.
    pub header: Header,
    /// What the header's body root binds.
    pub commitment: BodyCommitment,
}

/// A transaction with the attachment that it names, in requests and responses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// What is asked for. Nothing of it has been checked.
    pub transaction: Transaction,
    /// The bytes that it names by their hash, where it names any; also nothing where they are no longer kept. Of an action that this
    /// program does not know, the encoded list of what came, for whoever counts it.
    pub attachment: Option<Arc<[u8]>>,
}

/// A block without its header: the body, and what the body's transactions name by hash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockData {
    /// Transactions with their answers.
    pub body: Body,
    /// Of each transaction in order, its attachment; `None` where it has none, or where it is no longer kept.
    pub attachments: Vec<Option<Arc<[u8]>>>,
}

/// A block that was put together: all but its answers, which whoever runs its tasks finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assembled {
    /// In the block's order, each with its attachment. They give the block's transaction root.
    pub submissions: Vec<Submission>,
    /// To be given by the answers.
    pub answer_root: Root,
}

impl Announcement {
    /// Announces a block.
    pub fn of(header: Header, body: &Body) -> Self {
        let commitment = body.commitment(&header.parent);
        Self { header, commitment }
    }
}

impl Submission {
    /// Whether the attachment is the one that the transaction names: bytes with its hash, and none where it names none. Their
    /// length may be another than the transaction says, which is the transaction's fault.
    pub fn has_its_attachment(&self) -> bool {
        has_its_attachment(&self.transaction, self.attachment.as_ref())
    }

    /// Length of the encoding in bytes.
    pub fn encoded_len(&self) -> usize {
        8 + self.transaction.encoded_len() + attachments_len(&self.transaction, self.attachment.as_ref())
    }
}

impl Assembled {
    /// The whole block, if these are its answers.
    ///
    /// # Errors
    /// The block as it was, if they do not give its answer root.
    pub fn with_answers(self, answers: Vec<Answer>) -> Result<BlockData, Self> {
        if answers.len() != self.submissions.len() || answer_root(&answers) != self.answer_root {
            return Err(self);
        }
        let mut data = BlockData::default();
        for (Submission { transaction, attachment }, answer) in self.submissions.into_iter().zip(answers) {
            data.body.transactions.push((transaction, answer));
            data.attachments.push(attachment);
        }
        Ok(data)
    }
}

impl BlockData {
    /// Whether each attachment is the one that its transaction names, or is lacking.
    pub fn has_its_attachments(&self) -> bool {
        let mut pairs = self.pairs();
        pairs.all(|(transaction, attachment)| {
            attachment.is_none() || has_its_attachment(transaction, attachment.as_ref())
        })
    }

    /// Whether a transaction names an attachment that is not here.
    pub fn lacks_attachments(&self) -> bool {
        self.pairs().any(|(transaction, attachment)| attachment.is_none() && transaction.attachment().is_some())
    }

    /// Length of the encoding in bytes.
    pub fn encoded_len(&self) -> usize {
        let transactions = self.body.transactions.iter().map(|(transaction, answer)| {
            let best = answer.classes().map_or(0, |classes| 8 + 6 * classes.best.len() + 32);
            transaction.encoded_len() + 8 + 1 + best
        });
        let attachments =
            self.pairs().map(|(transaction, attachment)| attachments_len(transaction, attachment.as_ref()));
        16 + transactions.sum::<usize>() + attachments.sum::<usize>()
    }

    fn pairs(&self) -> impl Iterator<Item = (&Transaction, &Option<Arc<[u8]>>)> {
        self.body.transactions.iter().map(|(transaction, _)| transaction).zip(&self.attachments)
    }
}

fn has_its_attachment(transaction: &Transaction, attachment: Option<&Arc<[u8]>>) -> bool {
    transaction.attachment().map(|named| named.hash) == attachment.map(|bytes| AttachmentHash::of(bytes))
}

/// Takes blocks for a response in the order of the request, stopping after [`MAX_BLOCKS`] or when [`BLOCKS_BYTES`] are
/// reached: at least one, if there is one. Pulls no block from the iterator that it does not return.
pub fn take_blocks(blocks: impl IntoIterator<Item = Option<BlockData>>) -> Vec<Option<BlockData>> {
    let blocks = blocks.into_iter().take(MAX_BLOCKS);
    take(blocks, BLOCKS_BYTES, |block| 1 + block.encoded_len())
}

/// Takes transactions of a block for a response in the order of the request, stopping when [`TRANSACTIONS_BYTES`] are reached: at
/// least one, if there is one. Pulls nothing from the iterator that it does not return.
pub fn take_transactions(found: impl IntoIterator<Item = Option<Submission>>) -> Vec<Option<Submission>> {
    take(found, TRANSACTIONS_BYTES, |submission| 1 + submission.encoded_len())
}

/// Takes what a response may hold, stopping when there are `most` bytes.
pub(super) fn take<T>(
    found: impl IntoIterator<Item = Option<T>>,
    most: usize,
    length: impl Fn(&T) -> usize,
) -> Vec<Option<T>> {
    let (mut taken, mut bytes, mut found) = (Vec::new(), 0, found.into_iter());
    while bytes < most {
        let Some(one) = found.next() else { break };
        bytes += one.as_ref().map_or(1, &length);
        taken.push(one);
    }
    taken
}

impl<C> Decode<C> for Announcement {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let header = Decode::decode(decoder)?;
        let (transactions, answers) = Decode::decode(decoder)?;
        let ids = wire::list(decoder, "transactions", MAX_TRANSACTIONS, BlockShortId::decode)?;
        Ok(Self { header, commitment: BodyCommitment { transactions, answers, ids } })
    }
}

impl Encode for Submission {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.transaction.encode(encoder)?;
        encode_attachments(&self.transaction, self.attachment.as_ref(), encoder)
    }
}

impl<C> Decode<C> for Submission {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let transaction = decode_transaction(decoder)?;
        let attachment = decode_attachments(decoder, &transaction)?;
        Ok(Self { transaction, attachment })
    }
}

impl Encode for BlockData {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.body.encode(encoder)?;
        (self.attachments.len() as u64).encode(encoder)?;
        self.pairs().try_for_each(|(transaction, one)| encode_attachments(transaction, one.as_ref(), encoder))
    }
}

impl<C> Decode<C> for BlockData {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let transactions = wire::list(decoder, "transactions", MAX_TRANSACTIONS, |decoder| {
            Ok((decode_transaction(decoder)?, decode_answer(decoder)?))
        })?;
        let mut each = transactions.iter();
        let attachments =
            wire::list(decoder, "lists of attachments", transactions.len(), |decoder| match each.next() {
                Some((transaction, _)) => decode_attachments(decoder, transaction),
                None => Ok(None),
            })?;
        if attachments.len() != transactions.len() {
            let (found, expected) = (attachments.len(), transactions.len());
            let message = format!("{found} lists of attachments, {expected} expected, one a transaction");
            return Err(DecodeError::OtherString(message));
        }
        Ok(Self { body: Body { transactions }, attachments })
    }
}

bincode::impl_borrow_decode!(BlockData);

/// Reads a transaction as it is encoded everywhere, growing only with what is really there.
pub(super) fn decode_transaction<D: Decoder>(decoder: &mut D) -> Result<Transaction, DecodeError> {
    let bytes = wire::bytes(decoder, "bytes of a transaction", MAX_UNKNOWN_TRANSACTION_BYTES)?;
    Transaction::from_bytes(&bytes).map_err(|error| DecodeError::OtherString(error.to_string()))
}

/// Reads an answer as it is encoded everywhere, growing only with what is really there.
pub(super) fn decode_answer<D: Decoder>(decoder: &mut D) -> Result<Answer, DecodeError> {
    match u8::decode(decoder)? {
        0 => Ok(Answer::None),
        1 => decode_classes(decoder).map(Answer::Classes),
        kind => wire::unknown_tag("answer", kind.into()),
    }
}

pub(super) fn decode_classes<D: Decoder>(decoder: &mut D) -> Result<Classes, DecodeError> {
    Ok(Classes {
        best: wire::list(decoder, "classes", MAX_CLASSES, <(u16, i32)>::decode)?,
        digest: Decode::decode(decoder)?,
    })
}

/// Writes a transaction's list of attachments.
fn encode_attachments<E: Encoder>(
    transaction: &Transaction,
    attachment: Option<&Arc<[u8]>>,
    encoder: &mut E,
) -> Result<(), EncodeError> {
    match attachment {
        None => 0u64.encode(encoder),
        Some(list) if is_unknown(transaction) => encoder.writer().write(list),
        Some(bytes) => (1u64, bytes).encode(encoder),
    }
}

/// Bytes of what [`encode_attachments`] writes.
fn attachments_len(transaction: &Transaction, attachment: Option<&Arc<[u8]>>) -> usize {
    match attachment {
        None => 8,
        Some(list) if is_unknown(transaction) => list.len(),
        Some(bytes) => 16 + bytes.len(),
    }
}

/// Reads a transaction's list of attachments: none or one; of an action that this program does not know some, together no longer
/// than one, of which the encoding is kept.
fn decode_attachments<D: Decoder>(
    decoder: &mut D,
    transaction: &Transaction,
) -> Result<Option<Arc<[u8]>>, DecodeError> {
    if !is_unknown(transaction) {
        return Ok(wire::list(decoder, "attachments", 1, decode_attachment)?.pop());
    }
    let mut left = MAX_ATTACHMENT_BYTES;
    let all = wire::list(decoder, "attachments", MAX_ATTACHMENTS, |decoder| {
        let bytes = wire::bytes(decoder, "bytes of attachments", left)?;
        left -= bytes.len();
        Ok(bytes)
    })?;
    Ok((!all.is_empty()).then(|| Arc::from(encode(&all))))
}

fn is_unknown(transaction: &Transaction) -> bool {
    matches!(transaction.unsigned.action, Action::Unknown(_))
}

pub(super) fn decode_attachment<D: Decoder>(decoder: &mut D) -> Result<Arc<[u8]>, DecodeError> {
    wire::bytes(decoder, "bytes of an attachment", MAX_ATTACHMENT_BYTES).map(Arc::from)
}
