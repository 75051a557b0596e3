//! What the state holds: objects of several kinds, each found by its id. Their bytes are the values of the state tree
//! ([`crate::state`]), so whoever stores the state keeps bytes under [`ObjectId::to_bytes`] and need not know the kinds.

use std::collections::BTreeMap;
use std::fmt;

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};

use crate::address::Address;
use crate::amount::Amount;
use crate::codec::{self, decode, encode};
use crate::hash::{AttachmentHash, ModelId, PartsHash, UploadHash, tagged};
use crate::state;

/// Rows and columns of the largest picture that travels as a JPEG, and of what it becomes.
pub const MAX_SIDE: u16 = 1_024;
/// The most bytes of an attachment, and those of every part of a file but the last.
pub const MAX_ATTACHMENT_BYTES: usize = 262_144;
/// The most bytes of a model's file.
pub const MAX_FILE_BYTES: u32 = 67_108_864;

/// Bytes that a file of a model may have.
pub(crate) const FILE: (u64, u64) = (1, MAX_FILE_BYTES as u64);
/// The classes that a model may have.
const CLASSES: (u64, u64) = (1, 32_768);
/// The cost that a model may have: `docs/inference.md` allows no other.
const COST: (u64, u64) = (16_640, 1 << 33);

/// Names an object: its kind, and its id among those of the kind. Kinds are never used for anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectId {
    /// Kind 0, by address: an [`Account`].
    Account(Address),
    /// Kind 1, by model id: a [`ModelRecord`].
    Model(ModelId),
    /// Kind 2, by the sender's address: an [`UploadRecord`].
    Upload(Address),
}

const KIND_ACCOUNT: u8 = 0;
const KIND_MODEL: u8 = 1;
const KIND_UPLOAD: u8 = 2;

impl ObjectId {
    /// The id of a kind; `None` where there is no such kind or its ids have another length.
    pub fn new(kind: u8, id: &[u8]) -> Option<Self> {
        match kind {
            KIND_ACCOUNT => Some(Self::Account(Address(id.try_into().ok()?))),
            KIND_MODEL => Some(Self::Model(ModelId(id.try_into().ok()?))),
            KIND_UPLOAD => Some(Self::Upload(Address(id.try_into().ok()?))),
            _ => None,
        }
    }

    /// The kind's number.
    pub fn kind(&self) -> u8 {
        match self {
            Self::Account(_) => KIND_ACCOUNT,
            Self::Model(_) => KIND_MODEL,
            Self::Upload(_) => KIND_UPLOAD,
        }
    }

    /// 20 or 32 bytes, by the kind.
    pub fn id(&self) -> &[u8] {
        match self {
            Self::Account(address) | Self::Upload(address) => &address.0,
            Self::Model(model) => &model.0,
        }
    }

    /// The key in the state tree.
    pub fn key(&self) -> [u8; 32] {
        state::key(self.kind(), self.id())
    }

    /// `kind || id`, ordered as ids are.
    pub fn to_bytes(&self) -> Vec<u8> {
        [&[self.kind()], self.id()].concat()
    }

    /// Reads what [`ObjectId::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, id) = bytes.split_first()?;
        Self::new(*kind, id)
    }
}

impl Encode for ObjectId {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.kind().encode(encoder)?;
        match self {
            Self::Account(address) | Self::Upload(address) => address.encode(encoder),
            Self::Model(model) => model.encode(encoder),
        }
    }
}

impl<C> Decode<C> for ObjectId {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        match u8::decode(decoder)? {
            KIND_ACCOUNT => Ok(Self::Account(Decode::decode(decoder)?)),
            KIND_MODEL => Ok(Self::Model(Decode::decode(decoder)?)),
            KIND_UPLOAD => Ok(Self::Upload(Decode::decode(decoder)?)),
            kind => Err(codec::unknown_tag("kind of state object", kind.into())),
        }
    }
}

bincode::impl_borrow_decode!(ObjectId);

/// What an address owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct Account {
    /// Transactions it has sent.
    pub nonce: u64,
    /// What it has.
    pub balance: Amount,
}

/// What consensus knows of a model without its file. Field order is encoding order, wherever it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct ModelFacts {
    /// Bytes of its file.
    pub size: u32,
    /// Of its input.
    pub channels: u16,
    /// Rows of its input.
    pub height: u16,
    /// Columns of its input.
    pub width: u16,
    /// Logits that it gives.
    pub classes: u32,
    /// What an answer costs, as `docs/inference.md` counts it.
    pub cost: u64,
}

impl ModelFacts {
    /// Bytes of a picture in the model's shape.
    pub fn pixels(&self) -> u64 {
        u64::from(self.channels) * u64::from(self.height) * u64::from(self.width)
    }

    /// Whether a picture may come to it as a JPEG.
    pub fn takes_jpeg(&self) -> bool {
        matches!(self.channels, 1 | 3) && self.height <= MAX_SIDE && self.width <= MAX_SIDE
    }
}

impl fmt::Display for ModelFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { size, channels, height, width, classes, cost } = self;
        write!(f, "{size} bytes, input {channels}x{height}x{width}, {classes} classes, cost {cost}")
    }
}

/// A model that the network offers. It never changes and never goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct ModelRecord {
    /// Who published it; zeros of a genesis model.
    pub author: Address,
    /// What an answer pays the author.
    pub royalty: Amount,
    /// The first height at which it may be used.
    pub first: u64,
    pub facts: ModelFacts,
}

/// A model on its way to the chain, one a sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct UploadRecord {
    /// Binds the model that it is to become.
    pub file: UploadHash,
    /// Of the parts that have come.
    pub parts: PartsHash,
    /// Bytes of the whole file.
    pub size: u32,
    /// The number of the next part, from 0.
    pub next: u16,
    /// The height at which it began.
    pub since: u64,
    /// The height of the last part, or at which it began.
    pub last: u64,
}

impl UploadRecord {
    /// How many bytes the part of a number has; `None` where the file has no such part.
    pub fn part_bytes(&self, number: u16) -> Option<u32> {
        let begin = u64::from(number) * MAX_ATTACHMENT_BYTES as u64;
        let rest = u64::from(self.size).checked_sub(begin).filter(|rest| *rest > 0)?;
        u32::try_from(rest.min(MAX_ATTACHMENT_BYTES as u64)).ok()
    }

    /// Whether all parts have come.
    pub fn is_complete(&self) -> bool {
        self.part_bytes(self.next).is_none()
    }
}

/// An object of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object {
    Account(Account),
    Model(ModelRecord),
    Upload(UploadRecord),
}

impl Object {
    /// The value in the state tree: 16, 58 or 86 bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Account(account) => encode(account),
            Self::Model(model) => encode(model),
            Self::Upload(upload) => encode(upload),
        }
    }

    /// Reads the value of the object with this id.
    ///
    /// # Errors
    /// If the bytes are none of its kind.
    pub fn from_bytes(id: &ObjectId, bytes: &[u8]) -> Result<Self, codec::DecodeError> {
        Ok(match id {
            ObjectId::Account(_) => Self::Account(decode(bytes, bytes.len())?),
            ObjectId::Model(_) => Self::Model(decode(bytes, bytes.len())?),
            ObjectId::Upload(_) => Self::Upload(decode(bytes, bytes.len())?),
        })
    }

    /// The account that it is.
    pub fn account(self) -> Option<Account> {
        if let Self::Account(account) = self { Some(account) } else { None }
    }

    /// The model that it is.
    pub fn model(self) -> Option<ModelRecord> {
        if let Self::Model(model) = self { Some(model) } else { None }
    }

    /// The upload that it is.
    pub fn upload(self) -> Option<UploadRecord> {
        if let Self::Upload(upload) = self { Some(upload) } else { None }
    }
}

impl From<Account> for Object {
    fn from(account: Account) -> Self {
        Self::Account(account)
    }
}

impl From<ModelRecord> for Object {
    fn from(model: ModelRecord) -> Self {
        Self::Model(model)
    }
}

impl From<UploadRecord> for Object {
    fn from(upload: UploadRecord) -> Self {
        Self::Upload(upload)
    }
}

/// Key and hash of an object's leaf in the state tree.
pub fn leaf(id: &ObjectId, value: &[u8]) -> ([u8; 32], [u8; 32]) {
    let key = id.key();
    (key, state::leaf_hash(&key, value))
}

impl UploadHash {
    /// What `sender` names an upload by that is to become `model`.
    pub fn of(sender: &Address, model: &ModelId) -> Self {
        Self(tagged("ocelli/upload", &[&sender.0, &model.0]))
    }
}

impl PartsHash {
    /// The hash of all parts of a file: 262,144 bytes each, but the last.
    pub fn of_file(file: &[u8]) -> Self {
        file.chunks(MAX_ATTACHMENT_BYTES).map(AttachmentHash::of).fold(Self::default(), Self::with)
    }
}

/// The first of a model's facts that is out of range: its name, its value, and the least and the most that it may be.
pub fn facts_out_of_range(facts: &ModelFacts) -> Option<(&'static str, u64, (u64, u64))> {
    let side = (1, u16::MAX.into());
    [
        ("size", facts.size.into(), FILE),
        ("channels", facts.channels.into(), side),
        ("height", facts.height.into(), side),
        ("width", facts.width.into(), side),
        ("classes", facts.classes.into(), CLASSES),
        ("cost", facts.cost, COST),
    ]
    .into_iter()
    .find(|(_, found, (least, most))| !(least..=most).contains(&found))
}

/// Keys and leaf hashes of objects by their bytes; `None` for those that go.
pub(crate) fn leaves(
    objects: impl IntoIterator<Item = (ObjectId, Option<Vec<u8>>)>,
) -> BTreeMap<[u8; 32], Option<[u8; 32]>> {
    let hashed = |(id, value): (ObjectId, Option<Vec<u8>>)| match value {
        Some(value) => {
            let (key, hash) = leaf(&id, &value);
            (key, Some(hash))
        }
        None => (id.key(), None),
    };
    objects.into_iter().map(hashed).collect()
}

/// Where a state is read from.
pub trait StateReader {
    /// What can go wrong, a value that is not its object's included ([`Object::from_bytes`]).
    type Error;

    /// An object, of the kind that its id says; `None` where there is none.
    ///
    /// # Errors
    /// If it cannot be read.
    fn object(&self, id: &ObjectId) -> Result<Option<Object>, Self::Error>;

    /// An account; `None` where there is none.
    ///
    /// # Errors
    /// If it cannot be read.
    fn account(&self, address: &Address) -> Result<Option<Account>, Self::Error> {
        Ok(self.object(&ObjectId::Account(*address))?.and_then(Object::account))
    }

    /// The record of a model; `None` where there is none.
    ///
    /// # Errors
    /// If it cannot be read.
    fn model(&self, id: &ModelId) -> Result<Option<ModelRecord>, Self::Error> {
        Ok(self.object(&ObjectId::Model(*id))?.and_then(Object::model))
    }

    /// What a sender has under way; `None` where that is nothing.
    ///
    /// # Errors
    /// If it cannot be read.
    fn upload(&self, sender: &Address) -> Result<Option<UploadRecord>, Self::Error> {
        Ok(self.object(&ObjectId::Upload(*sender))?.and_then(Object::upload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> ModelFacts {
        ModelFacts { size: 0x0102_0304, channels: 3, height: 5, width: 7, classes: 10, cost: 0x1112 }
    }

    #[test]
    fn golden_bytes() {
        let account = Account { nonce: 1, balance: Amount(2) };
        let model = ModelRecord { author: Address([9; 20]), royalty: Amount(8), first: 7, facts: facts() };
        let upload =
            UploadRecord { file: UploadHash([1; 32]), parts: PartsHash([2; 32]), size: 3, next: 4, since: 5, last: 6 };
        let facts = "04030201030005000700".to_owned() + "0a0000001211000000000000";
        for (id, object, expected) in [
            (ObjectId::Account(Address([1; 20])), Object::from(account), "01000000000000000200000000000000".to_owned()),
            (
                ObjectId::Model(ModelId([1; 32])),
                model.into(),
                "09".repeat(20) + "08000000000000000700000000000000" + &facts,
            ),
            (
                ObjectId::Upload(Address([1; 20])),
                upload.into(),
                "01".repeat(32) + &"02".repeat(32) + "03000000040005000000000000000600000000000000",
            ),
        ] {
            let bytes = object.to_bytes();
            assert_eq!(hex::encode(&bytes), expected);
            assert_eq!(Object::from_bytes(&id, &bytes), Ok(object));
            assert!(Object::from_bytes(&id, &bytes[1..]).is_err());
            assert_eq!(id.to_bytes(), [&[id.kind()], id.id()].concat());
            assert_eq!(ObjectId::from_bytes(&id.to_bytes()), Some(id));
            assert_eq!(encode(&id), id.to_bytes());
            assert_eq!(decode::<ObjectId>(&id.to_bytes(), 100), Ok(id));
            assert_eq!(leaf(&id, &bytes), (id.key(), state::leaf_hash(&id.key(), &bytes)));
        }
        assert_eq!(ObjectId::new(3, &[0; 20]), None);
        assert_eq!(ObjectId::new(1, &[0; 20]), None);
        assert_eq!(
            decode::<ObjectId>(&[3; 21], 100),
            Err(codec::DecodeError::UnknownTag { of: "kind of state object", found: 3 })
        );
    }

    #[test]
    fn an_upload_knows_its_parts() {
        let upload = |size, next| UploadRecord {
            file: UploadHash::default(),
            parts: PartsHash::default(),
            size,
            next,
            since: 0,
            last: 0,
        };
        assert_eq!(upload(1, 0).part_bytes(0), Some(1));
        assert_eq!(upload(262_144, 0).part_bytes(0), Some(262_144));
        assert_eq!(upload(262_144, 0).part_bytes(1), None);
        assert_eq!(upload(262_145, 0).part_bytes(1), Some(1));
        assert_eq!(upload(67_108_864, 0).part_bytes(255), Some(262_144));
        assert_eq!(upload(67_108_864, 0).part_bytes(u16::MAX), None);
        assert!(!upload(262_145, 1).is_complete() && upload(262_145, 2).is_complete() && !upload(1, 0).is_complete());
    }

    #[test]
    fn which_models_take_a_jpeg() {
        let takes = |channels, height, width| ModelFacts { channels, height, width, ..facts() }.takes_jpeg();
        assert!(takes(1, 1, 1_024) && takes(3, 1_024, 1));
        assert!(!takes(2, 8, 8) && !takes(4, 8, 8) && !takes(3, 1_025, 8) && !takes(3, 8, 1_025));
    }
}
