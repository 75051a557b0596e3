//! Merkle trees over lists, as RFC 9162 §2.1 defines them: leaves and nodes have different prefixes, an odd node is
//! carried up, and nothing is duplicated.

use crate::hash::sha256;

/// Why an inclusion path does not lead from a leaf to a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MerkleError {
    /// The index is not one of the tree's.
    #[error("leaf {index} is not in a tree of {size} leaves")]
    IndexOutOfRange {
        /// Place of the leaf, from 0.
        index: u64,
        /// Number of leaves.
        size: u64,
    },
    /// The path is shorter or longer than the leaf's place in a tree of that size asks for.
    #[error("path of {found} hashes has the wrong length for leaf {index} of {size}")]
    PathLength {
        /// Number of hashes in the path.
        found: usize,
        /// Place of the leaf, from 0.
        index: u64,
        /// Number of leaves.
        size: u64,
    },
    /// The path leads to another root.
    #[error("path leads to another root")]
    RootMismatch,
}

/// `SHA256(0x00 || data)`, the hash of a leaf (RFC 9162 §2.1.1).
pub fn leaf_hash(data: &[u8]) -> [u8; 32] {
    sha256(&[&[0x00], data])
}

/// `SHA256(0x01 || left || right)`, the hash of an inner node (RFC 9162 §2.1.1).
pub fn node_hash(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    sha256(&[&[0x01], left, right])
}

/// The root over leaves that are already hashed with [`leaf_hash`]; of none, SHA-256 of nothing (RFC 9162 §2.1.1).
pub fn root(leaves: &[[u8; 32]]) -> [u8; 32] {
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        level = parents(&level);
    }
    level.first().copied().unwrap_or_else(|| sha256(&[]))
}

/// A tree with all its nodes, for whoever asks for many paths.
#[derive(Debug, Clone)]
pub struct Tree {
    /// The leaves, their parents, and so on, up to the root.
    levels: Vec<Vec<[u8; 32]>>,
}

impl Tree {
    /// Over leaves that are already hashed with [`leaf_hash`].
    pub fn new(leaves: Vec<[u8; 32]>) -> Self {
        let mut levels = vec![leaves];
        while let Some(level) = levels.last().filter(|level| level.len() > 1) {
            let parents = parents(level);
            levels.push(parents);
        }
        Self { levels }
    }

    /// The hashes that lead from the leaf at `index` (from 0) to the root, lowest first (RFC 9162 §2.1.3.1); `None` where
    /// there is no such leaf.
    pub fn path(&self, mut index: usize) -> Option<Vec<[u8; 32]>> {
        self.levels.first()?.get(index)?;
        let mut path = Vec::new();
        for level in &self.levels {
            path.extend(level.get(index ^ 1)); // the last of an odd number has no sibling, and neither has the root
            index /= 2;
        }
        Some(path)
    }
}

/// Checks that `leaf`, already hashed, is at `index` (from 0) in the tree of `size` leaves with that `root`
/// (RFC 9162 §2.1.3.2).
///
/// # Errors
/// If there is no such place in a tree of that size, the path has the wrong length for it, or it leads to another root.
pub fn verify_inclusion(
    leaf: [u8; 32],
    index: u64,
    size: u64,
    path: &[[u8; 32]],
    root: [u8; 32],
) -> Result<(), MerkleError> {
    if root_by_path(leaf, index, size, path)? == root { Ok(()) } else { Err(MerkleError::RootMismatch) }
}

/// The root of the tree of `size` leaves that has `leaf`, already hashed, at `index` (from 0), if `path` leads there
/// (RFC 9162 §2.1.3.2).
///
/// # Errors
/// If there is no such place in a tree of that size, or the path has the wrong length for it.
pub fn root_by_path(leaf: [u8; 32], index: u64, size: u64, path: &[[u8; 32]]) -> Result<[u8; 32], MerkleError> {
    if index >= size {
        return Err(MerkleError::IndexOutOfRange { index, size });
    }
    let wrong_length = MerkleError::PathLength { found: path.len(), index, size };
    let (mut place, mut last, mut hash) = (index, size - 1, leaf);
    for sibling in path {
        if last == 0 {
            return Err(wrong_length);
        }
        if place & 1 == 1 || place == last {
            hash = node_hash(sibling, &hash);
            while place & 1 == 0 && place != 0 {
                place >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        place >>= 1;
        last >>= 1;
    }
    if last == 0 { Ok(hash) } else { Err(wrong_length) }
}

fn parents(level: &[[u8; 32]]) -> Vec<[u8; 32]> {
    level
        .chunks(2)
        .map(|pair| match pair {
            [left, right] => node_hash(left, right),
            rest => rest[0],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The recursive definition, word for word: split at the largest power of two below the number of leaves.
    fn defined(leaves: &[[u8; 32]]) -> [u8; 32] {
        match leaves {
            [] => sha256(&[]),
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
                node_hash(&defined(left), &defined(right))
            }
        }
    }

    proptest! {
        #[test]
        fn matches_definition_and_paths_verify(data in prop::collection::vec(any::<[u8; 4]>(), 0..70)) {
            let leaves: Vec<_> = data.iter().map(|item| leaf_hash(item)).collect();
            let size = leaves.len() as u64;
            let top = root(&leaves);
            prop_assert_eq!(top, defined(&leaves));
            let tree = Tree::new(leaves.clone());
            for (index, leaf) in leaves.iter().enumerate() {
                let path = tree.path(index).expect("index is in range");
                prop_assert_eq!(verify_inclusion(*leaf, index as u64, size, &path, top), Ok(()));
                prop_assert!(verify_inclusion(leaf_hash(b"absent"), index as u64, size, &path, top).is_err());
            }
            prop_assert_eq!(tree.path(leaves.len()), None);
        }
    }
}
