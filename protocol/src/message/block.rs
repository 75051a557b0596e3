//! Blocks and transactions with what travels beside them.

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use ocelli_consensus::block::Output;
use ocelli_consensus::{Body, Header, Root, Transaction, WtxId};

use super::{BLOCKS_BYTES, MAX_BLOCKS, MAX_LOGITS, MAX_PIXELS, MAX_TRANSACTIONS};
use crate::wire;

/// A new block, on the topic of blocks: enough to check proof of work and body root at once, before forwarding.
///
/// Every node receives it from several others, so outputs are written in as few bytes as they need, unlike everywhere else:
/// ten logits in about 25 bytes rather than 49.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The block's header.
    pub header: Header,
    /// Of each transaction in order, its hash and its output.
    pub entries: Vec<(WtxId, Output)>,
}

/// A transaction with the pixels that it names, in requests and responses.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct Submission {
    /// What is asked for. Nothing of it has been checked.
    pub transaction: Transaction,
    /// Of a `Classify` the image (u8, C×H×W), else nothing; also nothing where they are no longer kept.
    pub pixels: Option<Vec<u8>>,
}

/// A block without its header: the body, and what the body's transactions name by hash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode)]
pub struct BlockData {
    /// Transactions with their outputs.
    pub body: Body,
    /// Of each transaction in order, its pixels; `None` where it has none, or where they are no longer kept.
    pub pixels: Vec<Option<Vec<u8>>>,
}

impl Announcement {
    /// Announces a block.
    pub fn of(header: Header, body: &Body) -> Self {
        let entries =
            body.transactions.iter().map(|(transaction, output)| (transaction.wtxid(), output.clone())).collect();
        Self { header, entries }
    }

    /// The root over the entries, to be compared with the header's.
    pub fn body_root(&self) -> Root {
        ocelli_consensus::block::body_root(self.entries.iter().map(|(wtxid, output)| (*wtxid, output)))
    }
}

impl BlockData {
    /// Length of the encoding in bytes.
    pub fn encoded_len(&self) -> usize {
        let transactions = self.body.transactions.iter().map(|(transaction, output)| {
            transaction.encoded_len() + 1 + output.as_ref().map_or(0, |logits| 8 + 4 * logits.len())
        });
        let pixels = self.pixels.iter().map(|pixels| 1 + pixels.as_ref().map_or(0, |bytes| 8 + bytes.len()));
        16 + transactions.sum::<usize>() + pixels.sum::<usize>()
    }
}

/// Takes blocks for a response in the order of the request, stopping after [`MAX_BLOCKS`] or when [`BLOCKS_BYTES`] are
/// reached: at least one, if there is one. Pulls no block from the iterator that it does not return.
pub fn take_blocks(blocks: impl IntoIterator<Item = Option<BlockData>>) -> Vec<Option<BlockData>> {
    let mut taken = Vec::new();
    let mut bytes = 0;
    let mut blocks = blocks.into_iter();
    while taken.len() < MAX_BLOCKS && bytes < BLOCKS_BYTES {
        let Some(block) = blocks.next() else { break };
        bytes += 1 + block.as_ref().map_or(0, BlockData::encoded_len);
        taken.push(block);
    }
    taken
}

impl Encode for Announcement {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.header.encode(encoder)?;
        (self.entries.len() as u64).encode(encoder)?;
        for (wtxid, output) in &self.entries {
            wtxid.encode(encoder)?;
            encode_short_output(output, encoder)?;
        }
        Ok(())
    }
}

impl<C> Decode<C> for Announcement {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Self {
            header: Decode::decode(decoder)?,
            entries: wire::list(decoder, "transactions", MAX_TRANSACTIONS, |decoder| {
                Ok((WtxId::decode(decoder)?, decode_short_output(decoder)?))
            })?,
        })
    }
}

impl<C> Decode<C> for Submission {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Self { transaction: Decode::decode(decoder)?, pixels: decode_pixels(decoder)? })
    }
}

impl<C> Decode<C> for BlockData {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let transactions = wire::list(decoder, "transactions", MAX_TRANSACTIONS, |decoder| {
            Ok((Transaction::decode(decoder)?, decode_output(decoder)?))
        })?;
        let pixels = wire::list(decoder, "images", transactions.len(), decode_pixels)?;
        if pixels.len() != transactions.len() {
            let (found, expected) = (pixels.len(), transactions.len());
            return Err(DecodeError::OtherString(format!("{found} images, {expected} expected, one a transaction")));
        }
        Ok(Self { body: Body { transactions }, pixels })
    }
}

bincode::impl_borrow_decode!(BlockData);

pub(super) fn decode_output<D: Decoder>(decoder: &mut D) -> Result<Output, DecodeError> {
    wire::optional(decoder, decode_logits)
}

pub(super) fn decode_logits<D: Decoder>(decoder: &mut D) -> Result<Vec<i32>, DecodeError> {
    wire::list(decoder, "logits", MAX_LOGITS, i32::decode)
}

/// Writes 0 for no output, or one more than the number of logits, and then each of them.
fn encode_short_output<E: Encoder>(output: &Output, encoder: &mut E) -> Result<(), EncodeError> {
    let Some(logits) = output else { return wire::encode_varint(0, encoder) };
    let count = u32::try_from(logits.len()).ok().and_then(|count| count.checked_add(1));
    wire::encode_varint(count.ok_or(EncodeError::Other("more logits than can be counted"))?, encoder)?;
    logits.iter().try_for_each(|logit| wire::encode_signed(*logit, encoder))
}

fn decode_short_output<D: Decoder>(decoder: &mut D) -> Result<Output, DecodeError> {
    let Some(count) = wire::decode_varint(decoder)?.checked_sub(1) else { return Ok(None) };
    if count as usize > MAX_LOGITS {
        return Err(DecodeError::OtherString(format!("{count} logits, at most {MAX_LOGITS} expected")));
    }
    (0..count).map(|_| wire::decode_signed(decoder)).collect::<Result<_, _>>().map(Some)
}

fn decode_pixels<D: Decoder>(decoder: &mut D) -> Result<Option<Vec<u8>>, DecodeError> {
    wire::optional(decoder, decode_image)
}

pub(super) fn decode_image<D: Decoder>(decoder: &mut D) -> Result<Vec<u8>, DecodeError> {
    wire::bytes(decoder, "pixels", MAX_PIXELS)
}
