//! Blocks: a header and the transactions with their answers that its body root commits to.
//!
//! A body root binds three things: the block short ids, by which an announcement names transactions in 8 bytes each; the
//! transactions, by their wtxids; and the answers. The ids are hashed with the parent's hash as the key, so that nobody can
//! make transactions ahead of time whose ids are equal; and they are bound, so that nobody can replace them on the way.

use std::collections::BTreeSet;

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use siphasher::sip::SipHasher24;

use crate::codec::{encode, unknown_tag};
use crate::hash::{BlockHash, LogitsDigest, ModelId, Root, WtxId, tagged};
use crate::header::Header;
use crate::merkle::{self, MerkleError, Tree};
use crate::transaction::{AnswerKind, Transaction};

/// How many of a model's classes an answer names, where it has as many.
pub const MAX_BEST: usize = 5;
/// The most bytes of an encoded answer, its kind included.
pub const MAX_ANSWER_BYTES: usize = 1 + 8 + 6 * MAX_BEST + 32;

/// What a block answers a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// Nothing was asked.
    #[default]
    None,
    /// What a model says of a picture.
    Classes(Classes),
}

/// What a model says of a picture: its best classes, and the digest of all its logits.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Classes {
    /// Class and logit, best first; of equal logits the lower class first.
    pub best: Vec<(u16, i32)>,
    pub digest: LogitsDigest,
}

/// Why [`Classes`] cannot be the answer of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerFormError {
    /// More or fewer than the five best.
    #[error("{found} classes, expected {expected}")]
    Length {
        /// In the answer.
        found: usize,
        /// Five, or as many as the model has.
        expected: usize,
    },
    /// A class that the model does not have.
    #[error("class {found} of a model of {classes}")]
    Class {
        /// In the answer.
        found: u16,
        /// The model's.
        classes: u32,
    },
    /// A class stands after one that is not better.
    #[error("class {class} does not follow on the one before it")]
    Order {
        /// The first that does not follow.
        class: u16,
    },
    /// A class stands there twice.
    #[error("class {class} stands there twice")]
    Twice { class: u16 },
}

impl Classes {
    /// The answer of a model that gives these logits, at most 2^16.
    pub fn of(logits: &[i32]) -> Self {
        let mut best: Vec<(u16, i32)> = (0..=u16::MAX).zip(logits.iter().copied()).collect();
        let by_rank = |(class, logit): &(u16, i32)| (std::cmp::Reverse(*logit), *class);
        if best.len() > MAX_BEST {
            best.select_nth_unstable_by_key(MAX_BEST - 1, by_rank);
            best.truncate(MAX_BEST);
        }
        best.sort_unstable_by_key(by_rank);
        Self { best, digest: LogitsDigest::of(logits) }
    }

    /// Checks that it can be the answer of a model of that many classes.
    ///
    /// # Errors
    /// [`AnswerFormError`].
    pub fn check_form(&self, classes: u32) -> Result<(), AnswerFormError> {
        let expected = MAX_BEST.min(usize::try_from(classes).unwrap_or(usize::MAX));
        if self.best.len() != expected {
            return Err(AnswerFormError::Length { found: self.best.len(), expected });
        }
        if let Some(&(found, _)) = self.best.iter().find(|(class, _)| u32::from(*class) >= classes) {
            return Err(AnswerFormError::Class { found, classes });
        }
        for (place, &(class, logit)) in self.best.iter().enumerate() {
            let before = &self.best[..place];
            if before.iter().any(|(other, _)| *other == class) {
                return Err(AnswerFormError::Twice { class });
            }
            let follows = |(other, better): &(u16, i32)| *better > logit || *better == logit && *other < class;
            if !before.last().is_none_or(follows) {
                return Err(AnswerFormError::Order { class });
            }
        }
        Ok(())
    }
}

impl Answer {
    /// Which byte stands before it.
    pub fn kind(&self) -> AnswerKind {
        match self {
            Self::None => AnswerKind::None,
            Self::Classes(_) => AnswerKind::Classes,
        }
    }

    /// What a model says of a picture.
    pub fn classes(&self) -> Option<&Classes> {
        if let Self::Classes(classes) = self { Some(classes) } else { None }
    }
}

impl Encode for Answer {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        (self.kind() as u8).encode(encoder)?;
        match self {
            Self::None => Ok(()),
            Self::Classes(classes) => classes.encode(encoder),
        }
    }
}

impl<C> Decode<C> for Answer {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        const NONE: u8 = AnswerKind::None as u8;
        const CLASSES: u8 = AnswerKind::Classes as u8;
        match u8::decode(decoder)? {
            NONE => Ok(Self::None),
            CLASSES => Ok(Self::Classes(Decode::decode(decoder)?)),
            kind => Err(unknown_tag("kind of answer", kind.into())),
        }
    }
}

bincode::impl_borrow_decode!(Answer);

/// Transactions in order, each with its answer. Attachments travel apart: transactions bind them by their hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Body {
    /// Each transaction with its answer.
    pub transactions: Vec<(Transaction, Answer)>,
}

/// A header with its body.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Block {
    /// What is hashed and mined.
    pub header: Header,
    /// What `header.body` commits to.
    pub body: Body,
}

/// Names a transaction within one block: SipHash-2-4 of its wtxid under a key that is the block's parent. Two of a block may
/// be equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct BlockShortId(pub u64);

/// Makes the [`BlockShortId`]s of a block.
#[derive(Clone, Copy, Debug)]
pub struct ShortIds(SipHasher24);

impl ShortIds {
    /// Those of a block with this parent: bytes 0 to 8 and 8 to 16 of its hash are the two halves of the key.
    pub fn new(parent: &BlockHash) -> Self {
        let [key @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = &parent.0;
        Self(SipHasher24::new_with_key(key))
    }

    /// The id of a transaction.
    pub fn of(&self, wtxid: &WtxId) -> BlockShortId {
        BlockShortId(self.0.hash(&wtxid.0))
    }
}

/// What a body root is the hash of, which is what an announcement carries after the header.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct BodyCommitment {
    /// Merkle root over the wtxids.
    pub transactions: Root,
    /// Merkle root over the encoded answers.
    pub answers: Root,
    /// One a transaction, in the block's order.
    pub ids: Vec<BlockShortId>,
}

impl BodyCommitment {
    /// The body root, which a header holds.
    pub fn root(&self) -> Root {
        body_root(count(self.ids.len()), &Self::ids_hash(&self.ids), &self.transactions, &self.answers)
    }

    /// `H("ocelli/ids", the ids one after the other)`.
    pub fn ids_hash(ids: &[BlockShortId]) -> [u8; 32] {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.0.to_le_bytes()).collect();
        tagged("ocelli/ids", &[&bytes])
    }
}

/// `H("ocelli/body", u32 count || hash of the ids || transaction root || answer root)`.
pub fn body_root(count: u32, ids_hash: &[u8; 32], transactions: &Root, answers: &Root) -> Root {
    Root(tagged("ocelli/body", &[&count.to_le_bytes(), ids_hash, &transactions.0, &answers.0]))
}

/// The Merkle root over the wtxids of a body, in its order.
pub fn transaction_root(wtxids: impl IntoIterator<Item = WtxId>) -> Root {
    let leaves: Vec<_> = wtxids.into_iter().map(|wtxid| transaction_leaf(&wtxid)).collect();
    Root(merkle::root(&leaves))
}

/// The Merkle root over the answers of a body, in its order, one for each transaction.
pub fn answer_root<'a>(answers: impl IntoIterator<Item = &'a Answer>) -> Root {
    let leaves: Vec<_> = answers.into_iter().map(answer_leaf).collect();
    Root(merkle::root(&leaves))
}

/// The hash of a leaf of the transactions' tree.
pub fn transaction_leaf(wtxid: &WtxId) -> [u8; 32] {
    merkle::leaf_hash(&wtxid.0)
}

/// The hash of a leaf of the answers' tree: its data is the answer's encoding, kind and all.
pub fn answer_leaf(answer: &Answer) -> [u8; 32] {
    merkle::leaf_hash(&encode(answer))
}

fn count(length: usize) -> u32 {
    u32::try_from(length).expect("a block's weight bounds its transactions far below 2^32")
}

impl Body {
    /// What its root commits to, in a block on `parent`.
    pub fn commitment(&self, parent: &BlockHash) -> BodyCommitment {
        let wtxids: Vec<WtxId> = self.transactions.iter().map(|(transaction, _)| transaction.wtxid()).collect();
        let ids = ShortIds::new(parent);
        BodyCommitment {
            ids: wtxids.iter().map(|wtxid| ids.of(wtxid)).collect(),
            transactions: transaction_root(wtxids),
            answers: answer_root(self.answers()),
        }
    }

    /// The root that the header of a block on `parent` holds.
    pub fn root(&self, parent: &BlockHash) -> Root {
        self.commitment(parent).root()
    }

    /// The answers, in order.
    pub fn answers(&self) -> impl Iterator<Item = &Answer> {
        self.transactions.iter().map(|(_, answer)| answer)
    }

    /// The models that its transactions ask.
    pub fn models(&self) -> BTreeSet<ModelId> {
        self.transactions.iter().filter_map(|(transaction, _)| transaction.unsigned.action.model()).collect()
    }

    /// Proves that the transaction at `index` (from 0) and its answer are in the block on `parent` with this body; `None`
    /// where there is none.
    pub fn prove(&self, parent: &BlockHash, index: usize) -> Option<BodyProof> {
        self.prover(parent).prove(index)
    }

    /// Hashes the body of a block on `parent` once, for any number of proofs.
    pub fn prover(&self, parent: &BlockHash) -> BodyProver {
        let wtxids: Vec<WtxId> = self.transactions.iter().map(|(transaction, _)| transaction.wtxid()).collect();
        let ids = ShortIds::new(parent);
        let ids: Vec<BlockShortId> = wtxids.iter().map(|wtxid| ids.of(wtxid)).collect();
        BodyProver {
            count: count(self.transactions.len()),
            ids: BodyCommitment::ids_hash(&ids),
            transactions: Tree::new(wtxids.iter().map(transaction_leaf).collect()),
            answers: Tree::new(self.answers().map(answer_leaf).collect()),
        }
    }
}

/// Proves what is in a body.
#[derive(Clone, Debug)]
pub struct BodyProver {
    count: u32,
    ids: [u8; 32],
    transactions: Tree,
    answers: Tree,
}

impl BodyProver {
    /// As [`Body::prove`].
    pub fn prove(&self, index: usize) -> Option<BodyProof> {
        Some(BodyProof {
            index: u32::try_from(index).ok()?,
            count: self.count,
            ids: self.ids,
            transaction_path: self.transactions.path(index)?,
            answer_path: self.answers.path(index)?,
        })
    }
}

/// Leads from a transaction and its answer to a body root.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct BodyProof {
    /// The transaction's place, from 0.
    pub index: u32,
    /// Transactions of the body.
    pub count: u32,
    /// Hash of the ids; any bytes, for a later version may bind more under it.
    pub ids: [u8; 32],
    /// From the wtxid's leaf to the transaction root, lowest first.
    pub transaction_path: Vec<[u8; 32]>,
    /// From the answer's leaf to the answer root, lowest first.
    pub answer_path: Vec<[u8; 32]>,
}

impl BodyProof {
    /// The body root that it leads to: compare it with a header's.
    ///
    /// # Errors
    /// If a body of so many transactions has no such place, or a path has the wrong length for it.
    pub fn root(&self, wtxid: &WtxId, answer: &Answer) -> Result<Root, MerkleError> {
        let (index, count) = (self.index.into(), self.count.into());
        let transactions = merkle::root_by_path(transaction_leaf(wtxid), index, count, &self.transaction_path)?;
        let answers = merkle::root_by_path(answer_leaf(answer), index, count, &self.answer_path)?;
        Ok(body_root(self.count, &self.ids, &Root(transactions), &Root(answers)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{self, decode};
    use crate::hash::sha256;
    use crate::transaction::Unsigned;
    use crate::{Action, Address, Amount};
    use proptest::prelude::*;

    const PARENT: BlockHash = BlockHash([7; 32]);

    fn transaction(nonce: u64) -> Transaction {
        let action = Action::Transfer { to: Address([1; 20]), amount: Amount(nonce) };
        Transaction {
            unsigned: Unsigned { nonce, fee: Amount(1), expires: 9, action },
            public_key: [2; 32],
            signature: [3; 64],
        }
    }

    /// The reference vector of SipHash-2-4 (J.-P. Aumasson and D. J. Bernstein, appendix A): key 00 to 0f, input 00 to 0e.
    /// Ours is always of 32 bytes; that of 00 to 1f is the 33rd of the reference implementation's `vectors_sip64`.
    #[test]
    fn short_ids_are_siphash_2_4() {
        let mut parent = [0xff; 32];
        (0..16).for_each(|byte| parent[usize::from(byte)] = byte);
        let ids = ShortIds::new(&BlockHash(parent));
        let input: Vec<u8> = (0..15).collect();
        assert_eq!(ids.0.hash(&input), 0xa129_ca61_49be_45e5);
        let mut wtxid = [0; 32];
        (0..32).for_each(|byte| wtxid[usize::from(byte)] = byte);
        assert_eq!(ids.of(&WtxId(wtxid)).0.to_le_bytes(), [0xce, 0x7c, 0xf2, 0x72, 0x2f, 0x51, 0x27, 0x71]);
    }

    #[test]
    fn body_root_by_hand() {
        let of_nothing = sha256(&[]);
        let ids = tagged("ocelli/ids", &[]);
        let empty = tagged("ocelli/body", &[&[0; 4], &ids, &of_nothing, &of_nothing]);
        assert_eq!(Body::default().root(&PARENT), Root(empty));
        assert_eq!(Body::default().root(&BlockHash([1; 32])), Root(empty), "no ids, no key");

        let classes = Classes { best: vec![(1, 1), (0, -1)], digest: LogitsDigest([9; 32]) };
        let body =
            Body { transactions: vec![(transaction(0), Answer::None), (transaction(1), Answer::Classes(classes))] };
        let [first, second] = [0, 1].map(|index| body.transactions[index].0.wtxid());
        let pair = |one: [u8; 32], other: [u8; 32]| sha256(&[&[1], &one, &other]);
        let transactions = pair(sha256(&[&[0], &first.0]), sha256(&[&[0], &second.0]));
        let answer =
            [&[1, 2, 0, 0, 0, 0, 0, 0, 0][..], &[1, 0, 1, 0, 0, 0], &[0, 0, 255, 255, 255, 255], &[9; 32]].concat();
        let answers = pair(sha256(&[&[0], &[0]]), sha256(&[&[0], &answer]));
        let ids = ShortIds::new(&PARENT);
        let ids = [first, second].map(|wtxid| ids.of(&wtxid).0.to_le_bytes()).concat();
        let ids = tagged("ocelli/ids", &[&ids]);
        let expected = tagged("ocelli/body", &[&[2, 0, 0, 0], &ids, &transactions, &answers]);
        assert_eq!(body.root(&PARENT), Root(expected));
        assert_ne!(body.root(&BlockHash([8; 32])), Root(expected), "the ids depend on the parent");
        assert_eq!(answer_root(body.answers()), Root(answers));
        assert_eq!(transaction_root([first, second]), Root(transactions));
    }

    #[test]
    fn an_announcement_of_a_thousand_tasks_has_8072_bytes_after_the_header() {
        let transactions = (0..1_000).map(|nonce| (transaction(nonce), Answer::None)).collect();
        assert_eq!(encode(&Body { transactions }.commitment(&PARENT)).len() + 180, 8_252);
    }

    #[test]
    fn every_entry_leads_to_the_root_and_no_other() {
        for count in 1..9u32 {
            let answer = |nonce: u64| match nonce % 2 {
                0 => Answer::None,
                _ => Answer::Classes(Classes::of(&[nonce as i32, 3])),
            };
            let transactions: Vec<_> = (0..count.into()).map(|nonce| (transaction(nonce), answer(nonce))).collect();
            let body = Body { transactions };
            for (index, (transaction, answer)) in body.transactions.iter().enumerate() {
                let proof = body.prove(&PARENT, index).unwrap();
                assert_eq!(decode::<BodyProof>(&encode(&proof), 10_000), Ok(proof.clone()));
                let root = |proof: BodyProof, answer: &Answer| proof.root(&transaction.wtxid(), answer).ok();
                assert_eq!(root(proof.clone(), answer), Some(body.root(&PARENT)));
                let other = Answer::Classes(Classes::of(&[5]));
                assert_ne!(root(proof.clone(), &other), Some(body.root(&PARENT)), "another answer");
                let more = BodyProof { count: count + 1, ..proof.clone() };
                assert_ne!(root(more, answer), Some(body.root(&PARENT)), "another count");
                assert_eq!(root(BodyProof { index: count, ..proof.clone() }, answer), None, "no such place");
                let mut longer = proof.clone();
                longer.answer_path.push([0; 32]);
                assert_eq!(root(longer, answer), None, "a path too long");
                let ids = BodyProof { ids: [0; 32], ..proof };
                assert_ne!(root(ids, answer), Some(body.root(&PARENT)), "other ids");
            }
            assert_eq!(body.prove(&PARENT, count as usize), None);
        }
    }

    #[test]
    fn answers_in_bytes() {
        assert_eq!(encode(&Answer::None), [0]);
        let answer = Answer::Classes(Classes::of(&[3, -1, 3, 7, 0, 0, -9]));
        let bytes = encode(&answer);
        assert_eq!(bytes.len(), MAX_ANSWER_BYTES);
        let best = ["030007000000", "000003000000", "020003000000", "040000000000", "050000000000"].concat();
        assert_eq!(hex::encode(&bytes[..39]), "010500000000000000".to_owned() + &best);
        assert_eq!(decode::<Answer>(&bytes, 100), Ok(answer));
        let unknown = codec::DecodeError::UnknownTag { of: "kind of answer", found: 2 };
        assert_eq!(decode::<Answer>(&[2], 100), Err(unknown));
    }

    #[test]
    fn each_fault_of_an_answer() {
        let check = |best: &[(u16, i32)], classes| {
            Classes { best: best.to_vec(), digest: LogitsDigest::default() }.check_form(classes)
        };
        assert_eq!(check(&[(1, 5), (0, 4)], 2), Ok(()));
        assert_eq!(check(&[(0, 5), (1, 5), (4, 5), (3, 4), (2, i32::MIN)], 9), Ok(()));
        assert_eq!(check(&[(1, 5)], 2), Err(AnswerFormError::Length { found: 1, expected: 2 }));
        assert_eq!(check(&[(0, 5); 6], 9), Err(AnswerFormError::Length { found: 6, expected: 5 }));
        assert_eq!(check(&[(0, 5), (2, 4)], 2), Err(AnswerFormError::Class { found: 2, classes: 2 }));
        assert_eq!(check(&[(0, 4), (1, 5)], 2), Err(AnswerFormError::Order { class: 1 }));
        assert_eq!(check(&[(1, 5), (0, 5)], 2), Err(AnswerFormError::Order { class: 0 }));
        assert_eq!(check(&[(1, 5), (1, 5)], 2), Err(AnswerFormError::Twice { class: 1 }));
        assert_eq!(check(&[(1, 5), (1, 4)], 2), Err(AnswerFormError::Twice { class: 1 }));
    }

    proptest! {
        /// Against sorting all of them.
        #[test]
        fn the_best_are_the_best(logits in prop::collection::vec(-4i32..4, 0..40)) {
            let answer = Classes::of(&logits);
            prop_assert_eq!(answer.check_form(logits.len() as u32), Ok(()));
            let mut sorted: Vec<(u16, i32)> = (0..).zip(logits.iter().copied()).collect();
            sorted.sort_by_key(|(class, logit)| (-logit, *class));
            sorted.truncate(5);
            prop_assert_eq!(answer.best, sorted);
            prop_assert_eq!(answer.digest, LogitsDigest(tagged("ocelli/logits", &[&encode(&logits)])));
        }
    }
}
