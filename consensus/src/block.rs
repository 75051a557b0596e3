//! Blocks: a header and the transactions with their outputs that its body root commits to.

use crate::codec::encode;
use crate::hash::{Root, WtxId, tagged};
use crate::header::Header;
use crate::merkle::{self, MerkleError};
use crate::transaction::Transaction;

/// The logits of a `Classify`; `None` for a transaction that has no output.
pub type Output = Option<Vec<i32>>;

/// Transactions in order, each with its output. Pixels travel apart: transactions bind them by their hash.
#[derive(Clone, Debug, Default, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Body {
    /// Each transaction with its output.
    pub transactions: Vec<(Transaction, Output)>,
}

/// A header with its body.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Block {
    /// What is hashed and mined.
    pub header: Header,
    /// What `header.body` commits to.
    pub body: Body,
}

impl Body {
    /// The root that a header holds.
    pub fn root(&self) -> Root {
        body_root(self.transactions.iter().map(|(transaction, output)| (transaction.wtxid(), output)))
    }

    /// The hashes that lead from the entry at `index` (from 0) to the root, lowest first; `None` where there is none.
    pub fn path(&self, index: usize) -> Option<Vec<[u8; 32]>> {
        let leaves: Vec<_> =
            self.transactions.iter().map(|(transaction, output)| leaf(transaction.wtxid(), output)).collect();
        merkle::inclusion_path(&leaves, index)
    }
}

/// `H("ocelli/body", u32 count || RFC 9162 root)`, from what an announcement carries.
pub fn body_root<'a>(entries: impl IntoIterator<Item = (WtxId, &'a Output)>) -> Root {
    let leaves: Vec<_> = entries.into_iter().map(|(wtxid, output)| leaf(wtxid, output)).collect();
    let count = u32::try_from(leaves.len()).expect("a block's weight bounds its transactions far below 2^32");
    counted_root(count, &merkle::root(&leaves))
}

/// The [`body_root`] of a body of `count` entries with this one at `index`, if `path` leads there; see [`Body::path`].
///
/// # Errors
/// If a body of so many entries has no such place, or the path has the wrong length for it.
pub fn body_root_by_path(
    (wtxid, output): (WtxId, &Output),
    index: u32,
    count: u32,
    path: &[[u8; 32]],
) -> Result<Root, MerkleError> {
    let root = merkle::root_by_path(leaf(wtxid, output), index.into(), count.into(), path)?;
    Ok(counted_root(count, &root))
}

fn counted_root(count: u32, root: &[u8; 32]) -> Root {
    Root(tagged("ocelli/body", &[&count.to_le_bytes(), root]))
}

/// The leaf hash of one transaction: its data is `wtxid || encoded output`, nothing after the wtxid without an output.
pub fn leaf(wtxid: WtxId, output: &Output) -> [u8; 32] {
    let mut data = wtxid.0.to_vec();
    if let Some(logits) = output {
        data.extend(encode(logits));
    }
    merkle::leaf_hash(&data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::sha256;
    use crate::transaction::Unsigned;
    use crate::{Action, Address, Amount};

    #[test]
    fn body_root_by_hand() {
        let empty = tagged("ocelli/body", &[&[0; 4], &sha256(&[])]);
        assert_eq!(Body::default().root(), Root(empty));
        let (first, second) = (WtxId([1; 32]), WtxId([2; 32]));
        let logits = Some(vec![1, -1]);
        let left = sha256(&[&[0], &[1; 32]]);
        let right = sha256(&[&[0], &[2; 32], &[2, 0, 0, 0, 0, 0, 0, 0], &[1, 0, 0, 0], &[255, 255, 255, 255]]);
        let root = sha256(&[&[1], &left, &right]);
        let expected = tagged("ocelli/body", &[&[2, 0, 0, 0], &root]);
        assert_eq!(body_root([(first, &None), (second, &logits)]), Root(expected));
    }

    #[test]
    fn every_entry_leads_to_the_root_and_no_other() {
        let transaction = |nonce| Transaction {
            unsigned: Unsigned {
                nonce,
                fee: Amount(1),
                expires: 9,
                action: Action::Transfer { to: Address([1; 20]), amount: Amount(nonce) },
            },
            public_key: [2; 32],
            signature: [3; 64],
        };
        for count in 1..9u32 {
            let transactions: Vec<_> = (0..count.into()).map(|nonce| (transaction(nonce), None)).collect();
            let body = Body { transactions };
            for (index, (transaction, output)) in (0..).zip(&body.transactions) {
                let (path, other) = (body.path(index as usize).unwrap(), Some(vec![]));
                let root =
                    |index, count, output| body_root_by_path((transaction.wtxid(), output), index, count, &path).ok();
                assert_eq!(root(index, count, output), Some(body.root()));
                assert_ne!(root(index, count, &other), Some(body.root()), "another output");
                assert_ne!(root(index, count + 1, output), Some(body.root()), "another count");
                assert_eq!(root(count, count, output), None, "no such place");
            }
            assert_eq!(body.path(count as usize), None);
        }
    }

    #[test]
    fn an_empty_output_is_not_no_output() {
        assert_ne!(leaf(WtxId([1; 32]), &None), leaf(WtxId([1; 32]), &Some(vec![])));
    }
}
