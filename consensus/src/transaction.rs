//! Transactions: what an account asks for, and its signature.

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};

use crate::address::Address;
use crate::amount::Amount;
use crate::codec::{self, decode, encode, unknown_tag};
use crate::hash::{AttachmentHash, BlockHash, ModelId, TxId, UploadHash, WtxId, tagged};
use crate::object::{ModelFacts, ObjectId};
use crate::parameters::Parameters;
use crate::schedule::TEST_VERSION;
use crate::signature::{SignatureError, Signed};

/// The encoded length of the shortest transaction, a `Transfer`.
pub const MIN_TRANSACTION_BYTES: usize = 152;
/// The encoded length of the longest transaction, a `Classify` by JPEG.
pub const MAX_TRANSACTION_BYTES: usize = 208;
/// What a `Publish` burns as if it were bytes of a file, so that a million tiny models cost a week of all rewards.
pub const PUBLISH_BYTES: u64 = 65_536;

/// Nonce, fee and expiry.
const PREFIX_BYTES: usize = 24;
/// Key and signature.
const SUFFIX_BYTES: usize = 96;

/// How a picture travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// Tag 1: u8 in the model's shape, channel by channel, each row by row.
    Pixels,
    /// Tag 2: a JPEG of these sides, as `docs/picture.md` takes it.
    Jpeg {
        /// Columns.
        width: u16,
        /// Rows.
        height: u16,
    },
}

/// What a transaction does. The tag is a u32 with the values below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tag 1: moves credits.
    Transfer {
        /// Who gets them.
        to: Address,
        amount: Amount,
    },
    /// Tag 2: asks for a picture to be classified.
    Classify {
        /// The model that is to look at it.
        model: ModelId,
        /// The attachment that holds the picture.
        picture: AttachmentHash,
        /// The attachment's length.
        bytes: u32,
        /// Paid to the model's author: what the model's record asks for.
        royalty: Amount,
        /// What the attachment is.
        form: Form,
    },
    /// Tag 3: begins an upload, in place of one that the sender has under way.
    Upload {
        /// Binds the model that it will become.
        file: UploadHash,
        /// Bytes of the whole file.
        size: u32,
    },
    /// Tag 4: the next part of the sender's upload.
    Part {
        /// The part's number, from 0.
        number: u16,
        /// The attachment's length.
        bytes: u32,
        /// The attachment that holds the part.
        data: AttachmentHash,
    },
    /// Tag 5: makes the sender's finished upload a model.
    Publish {
        /// The model's id.
        model: ModelId,
        /// What the file must say.
        facts: ModelFacts,
        /// What each answer is to pay the sender.
        royalty: Amount,
    },
    /// A tag of an action, or of a choice within it, that this program does not know. No version allows it.
    Unknown(UnknownAction),
}

/// What is kept of an action that this program does not know: all of it, so that its transaction has the ids and the bytes
/// that it has for those who know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownAction {
    tag: u32,
    /// What stands between the tag and the public key.
    fields: Vec<u8>,
}

/// What an action asks a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Task {
    pub model: ModelId,
    pub attachment: AttachmentHash,
    /// How the attachment becomes the model's input.
    pub form: Form,
}

/// The attachment that an action names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachmentRef {
    pub hash: AttachmentHash,
    /// The length that the action says.
    pub bytes: u32,
}

const TAG_TRANSFER: u32 = 1;
const TAG_CLASSIFY: u32 = 2;
const TAG_UPLOAD: u32 = 3;
const TAG_PART: u32 = 4;
const TAG_PUBLISH: u32 = 5;

const TAG_PIXELS: u32 = 1;
const TAG_JPEG: u32 = 2;

// By hand because bincode's derive numbers variants from 0.
impl Encode for Form {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        match self {
            Self::Pixels => TAG_PIXELS.encode(encoder),
            Self::Jpeg { width, height } => (TAG_JPEG, width, height).encode(encoder),
        }
    }
}

impl<C> Decode<C> for Form {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        match u32::decode(decoder)? {
            TAG_PIXELS => Ok(Self::Pixels),
            TAG_JPEG => Ok(Self::Jpeg { width: Decode::decode(decoder)?, height: Decode::decode(decoder)? }),
            tag => Err(unknown_tag("form of a picture", tag)),
        }
    }
}

bincode::impl_borrow_decode!(Form);

impl Encode for Action {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.tag().encode(encoder)?;
        match self {
            Self::Transfer { to, amount } => (to, amount).encode(encoder),
            Self::Classify { model, picture, bytes, royalty, form } => {
                (model, picture, bytes, royalty, form).encode(encoder)
            }
            Self::Upload { file, size } => (file, size).encode(encoder),
            Self::Part { number, bytes, data } => (number, bytes, data).encode(encoder),
            Self::Publish { model, facts, royalty } => (model, facts, royalty).encode(encoder),
            // No length before them: the transaction's tells it.
            Self::Unknown(UnknownAction { fields, .. }) => fields.iter().try_for_each(|byte| byte.encode(encoder)),
        }
    }
}

/// Only what this program knows: what it does not is told apart by [`Transaction::from_bytes`], which has the length.
impl<C> Decode<C> for Action {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(match u32::decode(decoder)? {
            TAG_TRANSFER => Self::Transfer { to: Decode::decode(decoder)?, amount: Decode::decode(decoder)? },
            TAG_CLASSIFY => Self::Classify {
                model: Decode::decode(decoder)?,
                picture: Decode::decode(decoder)?,
                bytes: Decode::decode(decoder)?,
                royalty: Decode::decode(decoder)?,
                form: Decode::decode(decoder)?,
            },
            TAG_UPLOAD => Self::Upload { file: Decode::decode(decoder)?, size: Decode::decode(decoder)? },
            TAG_PART => Self::Part {
                number: Decode::decode(decoder)?,
                bytes: Decode::decode(decoder)?,
                data: Decode::decode(decoder)?,
            },
            TAG_PUBLISH => Self::Publish {
                model: Decode::decode(decoder)?,
                facts: Decode::decode(decoder)?,
                royalty: Decode::decode(decoder)?,
            },
            tag => return Err(unknown_tag("action", tag)),
        })
    }
}

bincode::impl_borrow_decode!(Action);

impl Action {
    /// The number that stands before the fields.
    pub fn tag(&self) -> u32 {
        match self {
            Self::Transfer { .. } => TAG_TRANSFER,
            Self::Classify { .. } => TAG_CLASSIFY,
            Self::Upload { .. } => TAG_UPLOAD,
            Self::Part { .. } => TAG_PART,
            Self::Publish { .. } => TAG_PUBLISH,
            Self::Unknown(UnknownAction { tag, .. }) => *tag,
        }
    }

    /// Whether blocks of a version may hold it.
    pub fn is_allowed(&self, version: u32) -> bool {
        match self {
            Self::Transfer { .. } | Self::Classify { .. } => true,
            Self::Upload { .. } | Self::Part { .. } | Self::Publish { .. } => version != TEST_VERSION,
            Self::Unknown(_) => false,
        }
    }

    /// The attachment that travels beside it.
    pub fn attachment(&self) -> Option<AttachmentRef> {
        match *self {
            Self::Classify { picture: hash, bytes, .. } | Self::Part { data: hash, bytes, .. } => {
                Some(AttachmentRef { hash, bytes })
            }
            Self::Transfer { .. } | Self::Upload { .. } | Self::Publish { .. } | Self::Unknown(_) => None,
        }
    }

    /// What a model has to be run on.
    pub fn task(&self) -> Option<Task> {
        match *self {
            Self::Classify { model, picture: attachment, form, .. } => Some(Task { model, attachment, form }),
            Self::Transfer { .. }
            | Self::Upload { .. }
            | Self::Part { .. }
            | Self::Publish { .. }
            | Self::Unknown(_) => None,
        }
    }

    /// The model that has to be run.
    pub fn model(&self) -> Option<ModelId> {
        self.task().map(|task| task.model)
    }

    /// The model that it publishes.
    pub fn published(&self) -> Option<(ModelId, &ModelFacts)> {
        if let Self::Publish { model, facts, .. } = self { Some((*model, facts)) } else { None }
    }

    /// The kind of answer that stands beside it in a block.
    pub fn answer_kind(&self) -> AnswerKind {
        if self.task().is_some() { AnswerKind::Classes } else { AnswerKind::None }
    }

    /// What checking it costs in units of weight, whatever its bytes; `None` where that takes its model's facts and they are
    /// not given.
    pub fn work(&self, model: Option<&ModelFacts>) -> Option<u64> {
        match self {
            Self::Classify { form, .. } => {
                let model = model?;
                let decoding = match form {
                    Form::Pixels => 0,
                    Form::Jpeg { width, height } => {
                        let area = |width: u16, height: u16| u64::from(width) * u64::from(height);
                        (area(*width, *height) + area(model.width, model.height)) / PIXELS_PER_WEIGHT
                    }
                };
                Some(decoding + model.cost / COST_PER_WEIGHT)
            }
            Self::Publish { facts, .. } => Some(u64::from(facts.size) / FILE_BYTES_PER_WEIGHT),
            Self::Transfer { .. } | Self::Upload { .. } | Self::Part { .. } | Self::Unknown(_) => Some(0),
        }
    }

    /// What the sender pays besides the fee: amount, royalty, or what is burnt. `None` when it exceeds 64 bits.
    pub fn paid(&self, parameters: &Parameters) -> Option<Amount> {
        let burnt = |bytes: u64| parameters.model_price.0.checked_mul(bytes).map(Amount);
        match self {
            Self::Transfer { amount, .. } => Some(*amount),
            Self::Classify { royalty, .. } => Some(*royalty),
            Self::Upload { .. } | Self::Unknown(_) => Some(Amount::ZERO),
            Self::Part { bytes, .. } => burnt((*bytes).into()),
            Self::Publish { .. } => burnt(PUBLISH_BYTES),
        }
    }

    /// Bytes of its encoding.
    fn encoded_len(&self) -> usize {
        4 + match self {
            Self::Transfer { .. } => 28,
            Self::Classify { form: Form::Pixels, .. } => 80,
            Self::Classify { form: Form::Jpeg { .. }, .. } => 84,
            Self::Upload { .. } => 36,
            Self::Part { .. } => 38,
            Self::Publish { .. } => 62,
            Self::Unknown(UnknownAction { fields, .. }) => fields.len(),
        }
    }
}

/// Model cost that weighs as much as one byte.
pub const COST_PER_WEIGHT: u64 = 12_288;
/// Pixels that are decoded or resized for as much as one byte.
pub const PIXELS_PER_WEIGHT: u64 = 16;
/// Bytes of a model's file that are checked for as much as one byte.
pub const FILE_BYTES_PER_WEIGHT: u64 = 64;

/// What is signed.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct Unsigned {
    /// Equals the account's nonce: the number of transactions it has sent before, from 0.
    pub nonce: u64,
    /// Paid to the miner.
    pub fee: Amount,
    /// The last height at which the transaction may be included.
    pub expires: u64,
    pub action: Action,
}

/// A signed transaction. The signature has not been checked unless the type says so elsewhere.
///
/// Within anything else it is encoded as bytes of variable length, so that a reader who does not know its action still finds
/// what comes after it; by itself as [`Transaction::to_bytes`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
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

    /// Unsigned, public key, signature: what a transaction is measured by.
    pub fn to_bytes(&self) -> Vec<u8> {
        [encode(&self.unsigned).as_slice(), &self.public_key, &self.signature].concat()
    }

    /// Reads what [`Transaction::to_bytes`] wrote. An action that this program does not know becomes
    /// [`Action::Unknown`].
    ///
    /// # Errors
    /// If the bytes are no transaction, whoever reads them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, codec::DecodeError> {
        let malformed = |what: &str| codec::DecodeError::Malformed(format!("{} bytes, {what}", bytes.len()));
        let cut = bytes.len().checked_sub(SUFFIX_BYTES).filter(|cut| *cut >= PREFIX_BYTES + 4);
        let cut = cut.ok_or_else(|| malformed("fewer than a transaction of any kind has"))?;
        let (unsigned, suffix) = bytes.split_at(cut);
        let (prefix, action) = unsigned.split_at(PREFIX_BYTES);
        let (nonce, fee, expires) = decode(prefix, PREFIX_BYTES)?;
        let (public_key, signature) = decode(suffix, SUFFIX_BYTES)?;
        let action = match decode(action, action.len()) {
            Err(codec::DecodeError::UnknownTag { .. }) => {
                let (tag, fields) = action.split_at(4);
                Action::Unknown(UnknownAction { tag: decode(tag, 4)?, fields: fields.to_vec() })
            }
            known => known?,
        };
        Ok(Self { unsigned: Unsigned { nonce, fee, expires, action }, public_key, signature })
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

    /// The objects of the state that it reads and writes, by id. A model's author is not among them: the record alone says
    /// who that is, and that the royalty is added to its account matters to no other transaction.
    pub fn touches(&self) -> impl Iterator<Item = Touch> {
        let sender = self.sender();
        let [account, upload] = [ObjectId::Account(sender), ObjectId::Upload(sender)];
        let touch = |object, access| Some(Touch { object, access });
        let (second, third) = match self.unsigned.action {
            Action::Transfer { to, .. } => (touch(ObjectId::Account(to), Access::Adds), None),
            Action::Classify { model, .. } => (touch(ObjectId::Model(model), Access::Reads), None),
            Action::Upload { .. } | Action::Part { .. } => (touch(upload, Access::Owns), None),
            Action::Publish { model, .. } => {
                (touch(upload, Access::Owns), touch(ObjectId::Model(model), Access::Creates))
            }
            Action::Unknown(_) => (None, None),
        };
        touch(account, Access::Owns).into_iter().chain(second).chain(third)
    }

    /// The attachment that travels beside it.
    pub fn attachment(&self) -> Option<AttachmentRef> {
        self.unsigned.action.attachment()
    }

    /// Whether that is the attachment that travels beside it.
    pub fn carries(&self, attachment: &AttachmentHash) -> bool {
        self.attachment().is_some_and(|named| named.hash == *attachment)
    }

    /// What a model has to be run on.
    pub fn task(&self) -> Option<Task> {
        self.unsigned.action.task()
    }

    /// What the sender pays in all, fee included; `None` when that exceeds 64 bits.
    pub fn total(&self, parameters: &Parameters) -> Option<Amount> {
        self.unsigned.action.paid(parameters)?.checked_add(self.unsigned.fee)
    }

    /// Length of [`Transaction::to_bytes`].
    pub fn encoded_len(&self) -> usize {
        PREFIX_BYTES + self.unsigned.action.encoded_len() + SUFFIX_BYTES
    }
}

impl Encode for Transaction {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        (self.encoded_len() as u64).encode(encoder)?;
        self.unsigned.encode(encoder)?;
        self.public_key.encode(encoder)?;
        self.signature.encode(encoder)
    }
}

impl<C> Decode<C> for Transaction {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let bytes: Vec<u8> = Decode::decode(decoder)?;
        Self::from_bytes(&bytes).map_err(|error| DecodeError::OtherString(format!("transaction: {error}")))
    }
}

bincode::impl_borrow_decode!(Transaction);

/// An object of the state that a transaction reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touch {
    pub object: ObjectId,
    pub access: Access,
}

/// What a transaction does with an object, as far as it matters to the order of transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It is the sender's: other transactions that touch it so come before or after, never in any order.
    Owns,
    /// Only added to, which no other transaction can mind. It matters whether it exists.
    Adds,
    /// Only read; it never changes and never goes.
    Reads,
    /// Made, which only one transaction can.
    Creates,
}

fn signing_hash(unsigned: &Unsigned, public_key: &[u8; 32], genesis: BlockHash) -> [u8; 32] {
    tagged("ocelli/sign", &[genesis.as_bytes(), &encode(unsigned), public_key])
}

/// What stands beside a transaction in a block; its number is the byte before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerKind {
    /// Nothing.
    None = 0,
    /// [`Classes`](crate::block::Classes). Whoever validates has run the model.
    Classes = 1,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::DecodeError;
    use proptest::prelude::*;

    fn with(action: Action) -> Transaction {
        Transaction {
            unsigned: Unsigned { nonce: 1, fee: Amount(2), expires: 3, action },
            public_key: [6; 32],
            signature: [7; 64],
        }
    }

    fn transfer() -> Transaction {
        with(Action::Transfer { to: Address([4; 20]), amount: Amount(5) })
    }

    fn classify(form: Form) -> Action {
        let (model, picture) = (ModelId([8; 32]), AttachmentHash([9; 32]));
        Action::Classify { model, picture, bytes: 0x0a0b, royalty: Amount(0x0c), form }
    }

    fn facts() -> ModelFacts {
        ModelFacts { size: 0x0102, channels: 3, height: 4, width: 5, classes: 6, cost: 7 }
    }

    /// Each kind, the bytes from the action's tag to its last field, and those of the whole transaction.
    fn kinds() -> Vec<(Action, String, usize)> {
        let asked = "02000000".to_owned() + &"08".repeat(32) + &"09".repeat(32) + "0b0a00000c00000000000000";
        let facts_in_hex = "02010000030004000500060000000700000000000000";
        vec![
            (transfer().unsigned.action, "01000000".to_owned() + &"04".repeat(20) + "0500000000000000", 152),
            (classify(Form::Pixels), asked.clone() + "01000000", 204),
            (classify(Form::Jpeg { width: 0x0d, height: 0x0e }), asked + "020000000d000e00", 208),
            (
                Action::Upload { file: UploadHash([8; 32]), size: 0x0102 },
                "03000000".to_owned() + &"08".repeat(32) + "02010000",
                160,
            ),
            (
                Action::Part { number: 0x0102, bytes: 3, data: AttachmentHash([9; 32]) },
                "04000000020103000000".to_owned() + &"09".repeat(32),
                162,
            ),
            (
                Action::Publish { model: ModelId([8; 32]), facts: facts(), royalty: Amount(9) },
                "05000000".to_owned() + &"08".repeat(32) + facts_in_hex + "0900000000000000",
                186,
            ),
        ]
    }

    #[test]
    fn golden_bytes() {
        let prefix = "010000000000000002000000000000000300000000000000";
        let suffix = "06".repeat(32) + &"07".repeat(64);
        for (tag, (action, expected, length)) in [1, 2, 2, 3, 4, 5].into_iter().zip(kinds()) {
            let transaction = with(action);
            let bytes = transaction.to_bytes();
            assert_eq!(hex::encode(&bytes), prefix.to_owned() + &expected + &suffix);
            assert_eq!((bytes.len(), transaction.encoded_len()), (length, length));
            assert!((MIN_TRANSACTION_BYTES..=MAX_TRANSACTION_BYTES).contains(&length));
            assert_eq!(transaction.unsigned.action.tag(), tag);
            assert_eq!(Transaction::from_bytes(&bytes), Ok(transaction.clone()));
            // Within something else, its length comes first.
            let within = encode(&transaction);
            assert_eq!(within, [&(length as u64).to_le_bytes(), bytes.as_slice()].concat());
            assert_eq!(decode::<Transaction>(&within, 1000), Ok(transaction.clone()));
            for end in 0..bytes.len() {
                assert!(Transaction::from_bytes(&bytes[..end]).is_err(), "{end} bytes");
            }
            assert!(Transaction::from_bytes(&[bytes, vec![0]].concat()).is_err());
        }
    }

    /// One that this program does not know stands among others, has its ids, and is written as it was read.
    #[test]
    fn unknown_actions_spoil_nothing() {
        let mut unknown = transfer().to_bytes();
        unknown[24] = 6;
        unknown.splice(28..28, [1; 1000]);
        let ids = |bytes: &[u8]| {
            let (unsigned, suffix) = bytes.split_at(bytes.len() - 96);
            let txid = tagged("ocelli/tx", &[unsigned, &suffix[..32]]);
            (TxId(txid), WtxId(tagged("ocelli/wtx", &[&txid, &suffix[32..]])))
        };
        let mut unknown_form = with(classify(Form::Pixels)).to_bytes();
        unknown_form[104] = 3;
        let no_tag = [&[0; 28][..], &[1; 96]].concat();
        for (bytes, tag) in [(unknown, 6), (unknown_form, 2), (no_tag, 0)] {
            let list = encode(&(transfer(), bytes.clone(), transfer()));
            let [first, found, last] = decode::<[Transaction; 3]>(&list, 10_000).unwrap();
            assert_eq!((&first, &last), (&transfer(), &transfer()));
            assert_eq!(found.to_bytes(), bytes);
            assert_eq!(found.encoded_len(), bytes.len());
            assert_eq!((found.txid(), found.wtxid()), ids(&bytes));
            let action = &found.unsigned.action;
            assert_eq!((action.tag(), action.is_allowed(1), action.attachment()), (tag, false, None));
            assert_eq!((action.task(), action.work(None), action.answer_kind()), (None, Some(0), AnswerKind::None));
        }
        // Too short for any: no ids.
        assert!(matches!(Transaction::from_bytes(&[9; 123]), Err(DecodeError::Malformed(_))));
    }

    proptest! {
        /// Whatever the bytes: what decodes is written as it was read, whether its action is known or not.
        #[test]
        fn bytes_have_one_meaning(
            kind in 0usize..6,
            tag in prop_oneof![3 => Just(None), 1 => (0u32..9).prop_map(Some)],
            changed in prop::collection::vec((0usize..208, any::<u8>()), 0..3),
            extra in prop_oneof![3 => Just(0usize), 1 => 0usize..40],
        ) {
            let mut bytes = with(kinds()[kind].0.clone()).to_bytes();
            if let Some(tag) = tag {
                bytes[24..28].copy_from_slice(&tag.to_le_bytes());
            }
            for (at, byte) in changed {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            bytes.splice(28..28, std::iter::repeat_n(1, extra));
            if let Ok(transaction) = Transaction::from_bytes(&bytes) {
                prop_assert_eq!(transaction.to_bytes(), bytes.clone());
                prop_assert_eq!(transaction.encoded_len(), bytes.len());
                prop_assert_eq!(decode::<Transaction>(&encode(&transaction), 1_000), Ok(transaction));
            }
        }
    }

    #[test]
    fn what_actions_are_asked() {
        let parameters = crate::Network::builtin("testnet").unwrap().parameters;
        let attached = |bytes| Some(AttachmentRef { hash: AttachmentHash([9; 32]), bytes });
        let model = ModelFacts { channels: 3, height: 10, width: 20, cost: 12_287 + 12_288, ..facts() };
        let sender = transfer().sender();
        let [account, upload, of_model] =
            [ObjectId::Account(sender), ObjectId::Upload(sender), ObjectId::Model(ModelId([8; 32]))];
        let touch = |object, access| Touch { object, access };
        let owned = touch(account, Access::Owns);
        let asks = vec![owned, touch(of_model, Access::Reads)];
        let uploads = vec![owned, touch(upload, Access::Owns)];
        let publishes = [uploads.clone(), vec![touch(of_model, Access::Creates)]].concat();
        let pays = vec![owned, touch(ObjectId::Account(Address([4; 20])), Access::Adds)];
        for ((action, ..), (attachment, kind, work, paid, touches)) in kinds().into_iter().zip([
            (None, AnswerKind::None, 0, 5, pays),
            (attached(0x0a0b), AnswerKind::Classes, 1, 0x0c, asks.clone()),
            // 13 * 14 + 10 * 20 pixels.
            (attached(0x0a0b), AnswerKind::Classes, 23 + 1, 0x0c, asks),
            (None, AnswerKind::None, 0, 0, uploads.clone()),
            (attached(3), AnswerKind::None, 0, 3_000, uploads),
            (None, AnswerKind::None, 0x0102 / 64, 65_536_000, publishes),
        ]) {
            assert_eq!(action.attachment(), attachment);
            assert_eq!(action.answer_kind(), kind);
            assert_eq!(action.work(Some(&model)), Some(work));
            assert_eq!(action.work(None), (kind == AnswerKind::None).then_some(work));
            assert_eq!(action.paid(&parameters), Some(Amount(paid)));
            assert_eq!(action.task().map(|task| task.model), action.model());
            let is_public = !matches!(action, Action::Transfer { .. } | Action::Classify { .. });
            assert_eq!((action.is_allowed(1), action.is_allowed(TEST_VERSION)), (true, !is_public));
            assert_eq!(with(action).touches().collect::<Vec<_>>(), touches);
        }
        let dear = Parameters { model_price: Amount(u64::MAX), ..parameters };
        assert_eq!(kinds()[4].0.paid(&dear), None);
        assert_eq!(with(Action::Transfer { to: Address([4; 20]), amount: Amount(u64::MAX) }).total(&dear), None);
    }

    #[test]
    fn txid_ignores_the_signature_and_wtxid_does_not() {
        let (a, mut b) = (transfer(), transfer());
        b.signature[0] ^= 1;
        assert_eq!(a.txid(), b.txid());
        assert_ne!(a.wtxid(), b.wtxid());
    }
}
