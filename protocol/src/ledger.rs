//! What blocks do to the balances of accounts, entry by entry: what a node keeps of each account, and what a client computes
//! again from what it is shown. The entries of an account add up to its balance, less what it began with in genesis.

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use ocelli_consensus::block::Body;
use ocelli_consensus::parameters::Parameters;
use ocelli_consensus::{Action, Address, Amount, Header, ModelId, Transaction, TxId};

use crate::wire;

/// What happened to an account, and where on the main chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub place: Place,
    pub event: Event,
}

/// Where an entry stands among those of its account. Places are ordered as the chain applies them; an account has at most one
/// entry at each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The block's height.
    pub height: u64,
    /// The transaction's place in the block, from 0; [`REWARD`] of what the block pays its miner.
    pub index: u32,
    /// A transaction may do both to one account: a transfer to its sender.
    pub side: Side,
}

/// Stands for a transaction's place where a block pays its miner, which it does last.
pub const REWARD: u32 = u32::MAX;

/// Whether an entry takes or gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Byte 0: of the transaction's sender.
    Debit = 0,
    /// Byte 1: of whom it pays.
    Credit = 1,
}

/// The encoded length of the longest event, a royalty.
pub const MAX_EVENT_BYTES: usize = 1 + 32 + 20 + 32 + 8;

/// What happened to an account. Each but [`Event::Reward`] is one side of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Tag 1: it mined the block.
    Reward {
        /// By the network's parameters.
        reward: Amount,
        /// Of all the block's transactions.
        fees: Amount,
    },
    /// Tag 2: somebody has sent it credits.
    Received { txid: TxId, from: Address, amount: Amount },
    /// Tag 3: somebody has asked its model.
    Royalty { txid: TxId, from: Address, model: ModelId, amount: Amount },
    /// Tag 4: it has sent credits.
    Sent { txid: TxId, fee: Amount, to: Address, amount: Amount },
    /// Tag 5: it has asked a model.
    Task { txid: TxId, fee: Amount, model: ModelId, royalty: Amount },
    /// Tag 6: it has begun an upload.
    Upload { txid: TxId, fee: Amount },
    /// Tag 7: it has uploaded a part.
    Part { txid: TxId, fee: Amount, burnt: Amount },
    /// Tag 8: it has published a model.
    Publish { txid: TxId, fee: Amount, burnt: Amount, model: ModelId },
}

impl Event {
    /// The transaction; none of a reward.
    pub fn txid(&self) -> Option<TxId> {
        match *self {
            Self::Reward { .. } => None,
            Self::Received { txid, .. }
            | Self::Royalty { txid, .. }
            | Self::Sent { txid, .. }
            | Self::Task { txid, .. }
            | Self::Upload { txid, .. }
            | Self::Part { txid, .. }
            | Self::Publish { txid, .. } => Some(txid),
        }
    }

    /// Whether it gives or takes.
    pub fn side(&self) -> Side {
        match self {
            Self::Reward { .. } | Self::Received { .. } | Self::Royalty { .. } => Side::Credit,
            Self::Sent { .. } | Self::Task { .. } | Self::Upload { .. } | Self::Part { .. } | Self::Publish { .. } => {
                Side::Debit
            }
        }
    }

    /// The fee that is part of what it takes.
    pub fn fee(&self) -> Option<Amount> {
        match *self {
            Self::Reward { .. } | Self::Received { .. } | Self::Royalty { .. } => None,
            Self::Sent { fee, .. }
            | Self::Task { fee, .. }
            | Self::Upload { fee, .. }
            | Self::Part { fee, .. }
            | Self::Publish { fee, .. } => Some(fee),
        }
    }

    /// By how many grains it changes the balance.
    pub fn change(&self) -> i128 {
        let (one, other) = match *self {
            Self::Reward { reward, fees } => (reward, fees),
            Self::Received { amount, .. } | Self::Royalty { amount, .. } => (amount, Amount::ZERO),
            Self::Sent { fee, amount, .. } => (fee, amount),
            Self::Task { fee, royalty, .. } => (fee, royalty),
            Self::Upload { fee, .. } => (fee, Amount::ZERO),
            Self::Part { fee, burnt, .. } | Self::Publish { fee, burnt, .. } => (fee, burnt),
        };
        let sum = i128::from(one.0) + i128::from(other.0);
        if self.side() == Side::Credit { sum } else { -sum }
    }
}

/// What a transaction takes from its sender; `None` of an action that this program does not know, which no block holds.
pub fn debit(parameters: &Parameters, transaction: &Transaction) -> Option<Event> {
    let (txid, fee) = (transaction.txid(), transaction.unsigned.fee);
    // Beyond 64 bits no transaction is valid.
    let burnt = || transaction.unsigned.action.paid(parameters).unwrap_or_default();
    Some(match transaction.unsigned.action {
        Action::Transfer { to, amount } => Event::Sent { txid, fee, to, amount },
        Action::Classify { model, royalty, .. } => Event::Task { txid, fee, model, royalty },
        Action::Upload { .. } => Event::Upload { txid, fee },
        Action::Part { .. } => Event::Part { txid, fee, burnt: burnt() },
        Action::Publish { model, .. } => Event::Publish { txid, fee, burnt: burnt(), model },
        Action::Unknown(_) => return None,
    })
}

/// What a transaction gives to whom; of a royalty, which may be nothing, `author` says who that is.
///
/// # Errors
/// Those of `author`.
pub fn credit<E>(
    transaction: &Transaction,
    author: impl FnOnce(&ModelId) -> Result<Address, E>,
) -> Result<Option<(Address, Event)>, E> {
    let (txid, from) = (transaction.txid(), transaction.sender());
    Ok(match transaction.unsigned.action {
        Action::Transfer { to, amount } => Some((to, Event::Received { txid, from, amount })),
        Action::Classify { model, royalty: amount, .. } if amount > Amount::ZERO => {
            Some((author(&model)?, Event::Royalty { txid, from, model, amount }))
        }
        _ => None,
    })
}

/// All entries that a valid block makes, each with its account, in the order of their places. `author` knows the authors of
/// the models that pay royalties.
///
/// # Errors
/// Those of `author`.
pub fn entries<E>(
    parameters: &Parameters,
    header: &Header,
    body: &Body,
    mut author: impl FnMut(&ModelId) -> Result<Address, E>,
) -> Result<Vec<(Address, Entry)>, E> {
    let mut entries = Vec::with_capacity(2 * body.transactions.len() + 1);
    let mut fees = Amount::ZERO;
    let entry =
        |index, event: Event| Entry { place: Place { height: header.height, index, side: event.side() }, event };
    for (index, (transaction, _)) in (0u32..).zip(&body.transactions) {
        fees = Amount(fees.0.saturating_add(transaction.unsigned.fee.0));
        entries.extend(debit(parameters, transaction).map(|event| (transaction.sender(), entry(index, event))));
        entries.extend(credit(transaction, &mut author)?.map(|(to, event)| (to, entry(index, event))));
    }
    let event = Event::Reward { reward: parameters.reward_at(header.height), fees };
    if event.change() > 0 {
        entries.push((header.miner, entry(REWARD, event)));
    }
    Ok(entries)
}

/// Where all these entries are, and perhaps one that is none: a miner's that got nothing.
///
/// # Errors
/// Those of `author`.
pub fn places<E>(
    header: &Header,
    body: &Body,
    mut author: impl FnMut(&ModelId) -> Result<Address, E>,
) -> Result<Vec<(Address, Place)>, E> {
    let mut places = Vec::with_capacity(2 * body.transactions.len() + 1);
    let place = |index, side| Place { height: header.height, index, side };
    for (index, (transaction, _)) in (0u32..).zip(&body.transactions) {
        places.push((transaction.sender(), place(index, Side::Debit)));
        places.extend(credit(transaction, &mut author)?.map(|(to, _)| (to, place(index, Side::Credit))));
    }
    places.push((header.miner, place(REWARD, Side::Credit)));
    Ok(places)
}

impl Encode for Side {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        (*self as u8).encode(encoder)
    }
}

impl<C> Decode<C> for Side {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        match u8::decode(decoder)? {
            0 => Ok(Self::Debit),
            1 => Ok(Self::Credit),
            side => wire::unknown_tag("side", side.into()),
        }
    }
}

impl Encode for Place {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        (self.height, self.index, self.side).encode(encoder)
    }
}

impl<C> Decode<C> for Place {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Self { height: Decode::decode(decoder)?, index: Decode::decode(decoder)?, side: Decode::decode(decoder)? })
    }
}

// The tag is a byte: a node keeps millions of these.
impl Encode for Event {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        match self {
            Self::Reward { reward, fees } => (1u8, reward, fees).encode(encoder),
            Self::Received { txid, from, amount } => (2u8, txid, from, amount).encode(encoder),
            Self::Royalty { txid, from, model, amount } => (3u8, txid, from, model, amount).encode(encoder),
            Self::Sent { txid, fee, to, amount } => (4u8, txid, fee, to, amount).encode(encoder),
            Self::Task { txid, fee, model, royalty } => (5u8, txid, fee, model, royalty).encode(encoder),
            Self::Upload { txid, fee } => (6u8, txid, fee).encode(encoder),
            Self::Part { txid, fee, burnt } => (7u8, txid, fee, burnt).encode(encoder),
            Self::Publish { txid, fee, burnt, model } => (8u8, txid, fee, burnt, model).encode(encoder),
        }
    }
}

impl<C> Decode<C> for Event {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let tag = u8::decode(decoder)?;
        if tag == 1 {
            return Ok(Self::Reward { reward: Decode::decode(decoder)?, fees: Decode::decode(decoder)? });
        }
        if !(2..=8).contains(&tag) {
            return wire::unknown_tag("event", tag.into());
        }
        let txid = Decode::decode(decoder)?;
        Ok(match tag {
            2 => Self::Received { txid, from: Decode::decode(decoder)?, amount: Decode::decode(decoder)? },
            3 => Self::Royalty {
                txid,
                from: Decode::decode(decoder)?,
                model: Decode::decode(decoder)?,
                amount: Decode::decode(decoder)?,
            },
            4 => Self::Sent {
                txid,
                fee: Decode::decode(decoder)?,
                to: Decode::decode(decoder)?,
                amount: Decode::decode(decoder)?,
            },
            5 => Self::Task {
                txid,
                fee: Decode::decode(decoder)?,
                model: Decode::decode(decoder)?,
                royalty: Decode::decode(decoder)?,
            },
            6 => Self::Upload { txid, fee: Decode::decode(decoder)? },
            7 => Self::Part { txid, fee: Decode::decode(decoder)?, burnt: Decode::decode(decoder)? },
            _ => Self::Publish {
                txid,
                fee: Decode::decode(decoder)?,
                burnt: Decode::decode(decoder)?,
                model: Decode::decode(decoder)?,
            },
        })
    }
}

bincode::impl_borrow_decode!(Event);

#[cfg(test)]
mod tests;
