//! The state tree that every header's `state` field commits to: a compact sparse Merkle tree over 256-bit keys, read
//! from the most significant bit. An empty subtree is 32 zero bytes and a subtree of one leaf is that leaf, so the tree's
//! shape, and with it the root, depends on what it holds and never on the order in which that came and went.

use crate::hash::tagged;
use std::collections::BTreeMap;

const KEY_TAG: &str = "ocelli/state/key";
const LEAF_TAG: &str = "ocelli/state/leaf";
const NODE_TAG: &str = "ocelli/state/node";

/// The key of an object: `H("ocelli/state/key", kind || id)`; kinds are those of [`crate::object::ObjectId`].
pub fn key(kind: u8, id: &[u8]) -> [u8; 32] {
    tagged(KEY_TAG, &[&[kind], id])
}

/// The hash of a leaf: `H("ocelli/state/leaf", key || value)`.
pub fn leaf_hash(key: &[u8; 32], value: &[u8]) -> [u8; 32] {
    tagged(LEAF_TAG, &[key, value])
}

/// The hash of a branch: `H("ocelli/state/node", left || right)`.
pub fn node_hash(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    tagged(NODE_TAG, &[left, right])
}

/// A subtree as its parent, or whoever keeps the root, knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Child {
    /// Nothing.
    #[default]
    Empty,
    /// One leaf, wherever in the subtree its key leads.
    Leaf {
        /// The leaf's key.
        key: [u8; 32],
        /// Its hash, see [`leaf_hash`].
        hash: [u8; 32],
    },
    /// Two leaves or more; the [`Branch`] is stored under its [`Path`].
    Branch {
        /// Hash of the branch.
        hash: [u8; 32],
    },
}

impl Child {
    /// The hash of the subtree, zeros of an empty one. Of the whole tree it is the header's `state`.
    pub fn hash(&self) -> [u8; 32] {
        match *self {
            Child::Empty => [0; 32],
            Child::Leaf { hash, .. } | Child::Branch { hash } => hash,
        }
    }

    /// Encoding for the store: one byte 0, 1 or 2, then of a leaf key and hash, of a branch the hash.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Child::Empty => vec![0],
            Child::Leaf { key, hash } => [&[1], key.as_slice(), hash].concat(),
            Child::Branch { hash } => [&[2], hash.as_slice()].concat(),
        }
    }

    /// Reads what [`Child::to_bytes`] wrote, and nothing after it.
    ///
    /// # Errors
    /// If it is anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Child, DecodeError> {
        match Child::split_from(bytes)? {
            (child, []) => Ok(child),
            _ => Err(DecodeError::Length),
        }
    }

    fn split_from(bytes: &[u8]) -> Result<(Child, &[u8]), DecodeError> {
        let (tag, rest) = bytes.split_first().ok_or(DecodeError::Length)?;
        match tag {
            0 => Ok((Child::Empty, rest)),
            1 => {
                let (key, rest) = rest.split_first_chunk().ok_or(DecodeError::Length)?;
                let (hash, rest) = rest.split_first_chunk().ok_or(DecodeError::Length)?;
                Ok((Child::Leaf { key: *key, hash: *hash }, rest))
            }
            2 => {
                let (hash, rest) = rest.split_first_chunk().ok_or(DecodeError::Length)?;
                Ok((Child::Branch { hash: *hash }, rest))
            }
            tag => Err(DecodeError::Tag(*tag)),
        }
    }
}

/// A node with two leaves or more below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Branch {
    /// Where the next bit of the key is 0.
    pub left: Child,
    /// Where the next bit of the key is 1.
    pub right: Child,
}

impl Branch {
    /// The branch's hash, see [`node_hash`].
    pub fn hash(&self) -> [u8; 32] {
        node_hash(&self.left.hash(), &self.right.hash())
    }

    /// Encoding for the store: both children's.
    pub fn to_bytes(&self) -> Vec<u8> {
        [self.left.to_bytes(), self.right.to_bytes()].concat()
    }

    /// Reads what [`Branch::to_bytes`] wrote, and nothing after it.
    ///
    /// # Errors
    /// If it is anything else, or has fewer than two leaves.
    pub fn from_bytes(bytes: &[u8]) -> Result<Branch, DecodeError> {
        let (left, rest) = Child::split_from(bytes)?;
        let branch = Branch { left, right: Child::from_bytes(rest)? };
        if branch.collapsed().is_some() { Err(DecodeError::TooFewLeaves) } else { Ok(branch) }
    }

    /// What stands in the branch's place if it has fewer than two leaves.
    fn collapsed(&self) -> Option<Child> {
        match (self.left, self.right) {
            (child, Child::Empty) | (Child::Empty, child) if !matches!(child, Child::Branch { .. }) => Some(child),
            _ => None,
        }
    }
}

/// Why stored bytes are no [`Child`] or [`Branch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Too few or too many bytes.
    #[error("state node has the wrong length")]
    Length,
    /// An unknown first byte.
    #[error("state node has unknown tag {0}")]
    Tag(u8),
    /// A branch that would not be one.
    #[error("state branch has fewer than two leaves")]
    TooFewLeaves,
}

/// Place of a branch: the first `depth` bits of the keys below it. Ordered as its bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Path {
    depth: u8,
    prefix: [u8; 32],
}

impl Path {
    /// The path of the whole tree.
    pub const ROOT: Path = Path { depth: 0, prefix: [0; 32] };

    /// The path of the first `depth` bits of a key. No branch is deeper than 255: below it is room for one leaf only.
    pub fn new(depth: u8, key: &[u8; 32]) -> Path {
        let mut prefix = *key;
        let (whole, bits) = (usize::from(depth / 8), depth % 8);
        prefix[whole] &= !(0xff >> bits);
        prefix[whole + 1..].fill(0);
        Path { depth, prefix }
    }

    /// How many bits of the key lead here, 0 to 255.
    pub fn depth(&self) -> u8 {
        self.depth
    }

    /// These bits, the others zero.
    pub fn prefix(&self) -> [u8; 32] {
        self.prefix
    }

    /// Key for the store: the depth, one byte, then the prefix.
    pub fn to_bytes(&self) -> [u8; 33] {
        let mut bytes = [self.depth; 33];
        bytes[1..].copy_from_slice(&self.prefix);
        bytes
    }
}

/// Where stored branches are read from.
pub trait BranchReader {
    /// What can go wrong.
    type Error;

    /// The stored branch at `path`, `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be read.
    fn branch(&self, path: &Path) -> Result<Option<Branch>, Self::Error>;
}

/// Why a stored tree cannot be read or updated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError<E> {
    /// The reader failed.
    #[error("reading a state branch or value")]
    Reader(#[source] E),
    /// A branch that the tree refers to is not stored.
    #[error("state branch at depth {} is missing", .0.depth)]
    Missing(Path),
    /// What is stored there does not have the hash that its parent says, or its keys do not belong there.
    #[error("state branch at depth {} is damaged", .0.depth)]
    Damaged(Path),
    /// The value that an exclusion proof must show is not there or not the leaf's.
    #[error("value of a state leaf is missing or not the leaf's")]
    Value,
}

/// What an update changes in the store: at each path the new branch, or `None` where one goes away.
pub type BranchChanges = BTreeMap<Path, Option<Branch>>;

/// Applies changes, for each key the new leaf hash or `None` to delete the leaf (or leave it absent), to the tree with
/// that root. Returns the new root and the branches to write; those that stay as they are are not among them.
///
/// # Errors
/// If a branch cannot be read, is missing or damaged.
pub fn update<R: BranchReader>(
    reader: &R,
    root: Child,
    changes: &BTreeMap<[u8; 32], Option<[u8; 32]>>,
) -> Result<(Child, BranchChanges), UpdateError<R::Error>> {
    let changes: Vec<Change> = changes.iter().map(|(key, hash)| (*key, *hash)).collect();
    let mut written = BranchChanges::new();
    let root = apply(reader, 0, root, &changes, &mut written)?;
    Ok((root, written))
}

/// A key and the new leaf hash, `None` to delete.
type Change = ([u8; 32], Option<[u8; 32]>);

/// Applies sorted changes to the subtree at `depth`; all their keys share the bits that lead there.
fn apply<R: BranchReader>(
    reader: &R,
    depth: u16,
    node: Child,
    changes: &[Change],
    written: &mut BranchChanges,
) -> Result<Child, UpdateError<R::Error>> {
    let Some((first, _)) = changes.first() else { return Ok(node) };
    if !matches!(node, Child::Branch { .. }) {
        let mut leaves: BTreeMap<[u8; 32], [u8; 32]> = BTreeMap::new();
        if let Child::Leaf { key, hash } = node {
            leaves.insert(key, hash);
        }
        for (key, hash) in changes {
            match hash {
                Some(hash) => leaves.insert(*key, *hash),
                None => leaves.remove(key),
            };
        }
        return Ok(build(depth, &leaves.into_iter().collect::<Vec<_>>(), written));
    }
    let (path, old) = read(reader, depth, first, node)?;
    let (lefts, rights) = changes.split_at(changes.partition_point(|(key, _)| !bit(key, path.depth)));
    let new = Branch {
        left: apply(reader, depth + 1, old.left, lefts, written)?,
        right: apply(reader, depth + 1, old.right, rights, written)?,
    };
    if let Some(child) = new.collapsed() {
        written.insert(path, None);
        return Ok(child);
    }
    if new != old {
        written.insert(path, Some(new));
    }
    Ok(Child::Branch { hash: new.hash() })
}

/// Builds the subtree at `depth` from its sorted leaves.
fn build(depth: u16, leaves: &[([u8; 32], [u8; 32])], written: &mut BranchChanges) -> Child {
    match leaves {
        [] => Child::Empty,
        [(key, hash)] => Child::Leaf { key: *key, hash: *hash },
        [(first, _), ..] => {
            let path = Path::new(u8::try_from(depth).expect("two keys differ in one of 256 bits"), first);
            let (lefts, rights) = leaves.split_at(leaves.partition_point(|(key, _)| !bit(key, path.depth)));
            let branch = Branch { left: build(depth + 1, lefts, written), right: build(depth + 1, rights, written) };
            written.insert(path, Some(branch));
            Child::Branch { hash: branch.hash() }
        }
    }
}

/// Reads the branch at `depth` on the way to `key` and checks it against what its parent says of it.
fn read<R: BranchReader>(
    reader: &R,
    depth: u16,
    key: &[u8; 32],
    node: Child,
) -> Result<(Path, Branch), UpdateError<R::Error>> {
    let Ok(bits) = u8::try_from(depth) else { return Err(UpdateError::Damaged(Path::new(u8::MAX, key))) };
    let path = Path::new(bits, key);
    let branch = reader.branch(&path).map_err(UpdateError::Reader)?.ok_or(UpdateError::Missing(path))?;
    let belongs = |child: &Child, side: bool| match child {
        Child::Leaf { key, .. } => Path::new(bits, key) == path && bit(key, bits) == side,
        Child::Empty | Child::Branch { .. } => true,
    };
    if branch.hash() != node.hash() || !belongs(&branch.left, false) || !belongs(&branch.right, true) {
        return Err(UpdateError::Damaged(path));
    }
    Ok((path, branch))
}

/// The bit at `depth`, counted from the most significant.
fn bit(key: &[u8; 32], depth: u8) -> bool {
    key[usize::from(depth / 8)] >> (7 - depth % 8) & 1 == 1
}

/// What a key leads to in the tree, and the hashes that bind that to the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Hashes of the subtrees beside the way, from the root downwards; at most 256.
    pub siblings: Vec<[u8; 32]>,
    /// What is at the end of the way.
    pub terminal: Terminal,
}

/// The end of the way that a key leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Terminal {
    /// The key's own leaf.
    Found,
    /// An empty subtree: the key is absent.
    Empty,
    /// The leaf of another key, alone in its subtree: the key is absent. The value is needed to show whose leaf it is, for
    /// a hash alone could be anyone's.
    Other {
        /// The other leaf's key.
        key: [u8; 32],
        /// The other leaf's value.
        value: Vec<u8>,
    },
}

/// Proves that `key` is, or is not, in the tree with that root. `value` is asked for the value of another key's leaf, at
/// most once, where that is what shows the absence.
///
/// # Errors
/// If a branch or that value cannot be read, is missing or damaged.
pub fn prove<R: BranchReader>(
    reader: &R,
    root: Child,
    key: &[u8; 32],
    value: impl FnOnce(&[u8; 32]) -> Result<Option<Vec<u8>>, R::Error>,
) -> Result<Proof, UpdateError<R::Error>> {
    let (mut node, mut siblings) = (root, Vec::new());
    for depth in 0.. {
        if !matches!(node, Child::Branch { .. }) {
            break;
        }
        let (path, branch) = read(reader, depth, key, node)?;
        let (next, sibling) =
            if bit(key, path.depth) { (branch.right, branch.left) } else { (branch.left, branch.right) };
        siblings.push(sibling.hash());
        node = next;
    }
    let terminal = match node {
        Child::Leaf { key: found, .. } if found == *key => Terminal::Found,
        Child::Leaf { key: other, hash } => {
            let value = value(&other).map_err(UpdateError::Reader)?.ok_or(UpdateError::Value)?;
            if leaf_hash(&other, &value) != hash {
                return Err(UpdateError::Value);
            }
            Terminal::Other { key: other, value }
        }
        Child::Empty | Child::Branch { .. } => Terminal::Empty,
    };
    Ok(Proof { siblings, terminal })
}

/// Why a proof does not show what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// It has more hashes than a key has bits.
    #[error("proof of {0} hashes is deeper than the tree")]
    TooDeep(usize),
    /// It shows presence where absence was to be shown, or the other way round.
    #[error("proof is about presence where it should be about absence, or the reverse")]
    WrongKind,
    /// The other leaf is the key's own, or not on its way.
    #[error("the other leaf's key does not share the way")]
    OtherKey,
    /// The hashes lead to another root.
    #[error("proof leads to another root")]
    RootMismatch,
}

/// Checks that the tree with that root hash has the leaf `leaf` (see [`leaf_hash`]) under `key`, or with `None` that it
/// has none there.
///
/// # Errors
/// If the proof does not show that.
pub fn verify(root_hash: &[u8; 32], key: &[u8; 32], leaf: Option<&[u8; 32]>, proof: &Proof) -> Result<(), ProofError> {
    if proof.siblings.len() > 256 {
        return Err(ProofError::TooDeep(proof.siblings.len()));
    }
    let mut hash = match (&proof.terminal, leaf) {
        (Terminal::Found, Some(leaf)) => *leaf,
        (Terminal::Empty, None) => [0; 32],
        (Terminal::Other { key: other, value }, None) => {
            let differ = (0..=u8::MAX).find(|&depth| bit(other, depth) != bit(key, depth));
            if differ.is_none_or(|depth| usize::from(depth) < proof.siblings.len()) {
                return Err(ProofError::OtherKey);
            }
            leaf_hash(other, value)
        }
        _ => return Err(ProofError::WrongKind),
    };
    for (depth, sibling) in (0..=u8::MAX).zip(&proof.siblings).rev() {
        hash = if bit(key, depth) { node_hash(sibling, &hash) } else { node_hash(&hash, sibling) };
    }
    if hash == *root_hash { Ok(()) } else { Err(ProofError::RootMismatch) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::convert::Infallible;

    #[derive(Debug, Clone, Default, PartialEq)]
    struct Stored(BTreeMap<Path, Branch>);

    impl BranchReader for Stored {
        type Error = Infallible;

        fn branch(&self, path: &Path) -> Result<Option<Branch>, Infallible> {
            Ok(self.0.get(path).copied())
        }
    }

    impl Stored {
        /// Applies changes of values and writes what comes out, through the encodings.
        fn change(&mut self, root: Child, changes: &BTreeMap<[u8; 32], Option<Vec<u8>>>) -> Child {
            let hashed =
                changes.iter().map(|(key, value)| (*key, value.as_ref().map(|value| leaf_hash(key, value)))).collect();
            let (root, written) = update(self, root, &hashed).expect("the tree is whole");
            for (path, branch) in written {
                match branch {
                    Some(branch) => {
                        assert_eq!(Branch::from_bytes(&branch.to_bytes()), Ok(branch));
                        assert_ne!(self.0.insert(path, branch), Some(branch), "only changes are written");
                    }
                    None => assert!(self.0.remove(&path).is_some(), "only what was there goes away"),
                }
            }
            assert_eq!(Child::from_bytes(&root.to_bytes()), Ok(root));
            root
        }
    }

    /// The tree by its definition: filter the leaves by each next bit.
    fn naive(depth: usize, leaves: &[([u8; 32], Vec<u8>)]) -> [u8; 32] {
        match leaves {
            [] => [0; 32],
            [(key, value)] => leaf_hash(key, value),
            _ => {
                let (rights, lefts) =
                    leaves.iter().cloned().partition(|(key, _)| key[depth / 8] & (0x80 >> (depth % 8)) != 0);
                let (lefts, rights): (Vec<_>, Vec<_>) = (lefts, rights);
                node_hash(&naive(depth + 1, &lefts), &naive(depth + 1, &rights))
            }
        }
    }

    /// Few different keys, many of which share long prefixes, up to all but the last bit.
    fn keys() -> impl Strategy<Value = [u8; 32]> {
        prop_oneof![
            (0u8..8).prop_map(|last| {
                let mut key = [0x5a; 32];
                key[31] = last;
                key
            }),
            (0u16..256).prop_map(|bit| {
                let mut key = [0x5a; 32];
                key[usize::from(bit / 8)] ^= 0x80 >> (bit % 8);
                key
            }),
            (0u8..40).prop_map(|id| key(0, &[id])),
        ]
    }

    fn changes() -> impl Strategy<Value = BTreeMap<[u8; 32], Option<Vec<u8>>>> {
        prop::collection::btree_map(keys(), prop::option::of(prop::collection::vec(any::<u8>(), 0..3)), 0..12)
    }

    proptest! {
        #[test]
        fn any_history_gives_the_naive_tree(history in prop::collection::vec(changes(), 1..12), probe in keys()) {
            let (mut stored, mut root, mut values) = (Stored::default(), Child::Empty, BTreeMap::new());
            for changes in history {
                root = stored.change(root, &changes);
                for (key, value) in changes {
                    match value {
                        Some(value) => values.insert(key, value),
                        None => values.remove(&key),
                    };
                }
                let leaves: Vec<_> = values.clone().into_iter().collect();
                prop_assert_eq!(root.hash(), naive(0, &leaves));
            }
            let mut fresh = Stored::default();
            let all = values.iter().map(|(key, value)| (*key, Some(value.clone()))).collect();
            prop_assert_eq!(fresh.change(Child::Empty, &all), root);
            prop_assert_eq!(&fresh, &stored);

            for key in values.keys().chain([&probe]) {
                let proof = prove(&stored, root, key, |other| Ok(values.get(other).cloned())).expect("whole");
                let leaf = values.get(key).map(|value| leaf_hash(key, value));
                prop_assert_eq!(verify(&root.hash(), key, leaf.as_ref(), &proof), Ok(()));
                prop_assert!(verify(&root.hash(), key, Some(&[1; 32]), &proof).is_err());
                prop_assert!(verify(&[9; 32], key, leaf.as_ref(), &proof).is_err());
                if leaf.is_some() {
                    prop_assert_eq!(verify(&root.hash(), key, None, &proof), Err(ProofError::WrongKind));
                }
            }
        }

        #[test]
        fn deletion_undoes_insertion(before in changes(), added in changes()) {
            let mut stored = Stored::default();
            let root = stored.change(Child::Empty, &before);
            let as_it_was = stored.clone();
            let middle = stored.change(root, &added);
            let back = added.keys().map(|key| (*key, before.get(key).cloned().flatten())).collect();
            prop_assert_eq!(stored.change(middle, &back), root);
            prop_assert_eq!(stored, as_it_was);
        }
    }

    // import hashlib; from struct import pack
    // S = lambda b: hashlib.sha256(b).digest()
    // H = lambda t, d: S(S(t.encode()) * 2 + d)
    // k = H("ocelli/state/key", bytes([0]) + bytes(range(20))); print(k.hex())
    // l = H("ocelli/state/leaf", k + pack('<QQ', 1, 2)); print(l.hex())
    // print(H("ocelli/state/node", l + bytes(32)).hex())
    #[test]
    fn golden_bytes() {
        let id: Vec<u8> = (0..20).collect();
        let key = key(0, &id);
        assert_eq!(hex::encode(key), "1513ea57b9a670af634783dba42f056445786e0a2124913612cbbf45f8e03640");
        let leaf = leaf_hash(&key, &[1u64.to_le_bytes(), 2u64.to_le_bytes()].concat());
        assert_eq!(hex::encode(leaf), "a8de149dc4e22f524f1af6c03d0aefac59301dd0dac0c2f17b70de7bd9fdeb29");
        let node = hex::encode(node_hash(&leaf, &[0; 32]));
        assert_eq!(node, "ac68019b10254d570e1654852433a9725bdce21ce1351cccabfc069036829ce4");
    }

    #[test]
    fn a_leaf_alone_is_the_root() {
        let mut stored = Stored::default();
        let changes = [([7; 32], Some(vec![1]))].into();
        assert_eq!(stored.change(Child::Empty, &changes).hash(), leaf_hash(&[7; 32], &[1]));
        assert_eq!(stored, Stored::default());
        assert_eq!(Child::Empty.hash(), [0; 32]);
    }

    #[test]
    fn missing_and_damaged_branches_are_errors() {
        let mut stored = Stored::default();
        let root = stored.change(Child::Empty, &[([0; 32], Some(vec![1])), ([0xff; 32], Some(vec![2]))].into());
        let change = [([0; 32], None)].into();
        let whole = stored.0[&Path::ROOT];

        stored.0.insert(Path::ROOT, Branch { left: Child::Leaf { key: [0; 32], hash: [3; 32] }, ..whole });
        assert_eq!(update(&stored, root, &change), Err(UpdateError::Damaged(Path::ROOT)));
        let elsewhere = Child::Leaf { key: [0xff; 32], hash: whole.left.hash() };
        stored.0.insert(Path::ROOT, Branch { left: elsewhere, ..whole });
        assert_eq!(update(&stored, root, &change), Err(UpdateError::Damaged(Path::ROOT)));
        stored.0.clear();
        assert_eq!(update(&stored, root, &change), Err(UpdateError::Missing(Path::ROOT)));
        assert_eq!(prove(&stored, root, &[0; 32], |_| Ok(None)), Err(UpdateError::Missing(Path::ROOT)));
    }

    #[test]
    fn absence_cannot_be_forged_from_a_leaf() {
        let mut stored = Stored::default();
        let root = stored.change(Child::Empty, &[([0; 32], Some(vec![1])), ([0xff; 32], Some(vec![2]))].into());
        let mut proof = prove(&stored, root, &[0; 32], |_| Ok(None)).unwrap();
        assert_eq!(proof.terminal, Terminal::Found);
        proof.terminal = Terminal::Other { key: [0; 32], value: vec![1] };
        assert_eq!(verify(&root.hash(), &[0; 32], None, &proof), Err(ProofError::OtherKey));
        proof.terminal = Terminal::Other { key: [1; 32], value: vec![1] };
        assert_eq!(verify(&root.hash(), &[0; 32], None, &proof), Err(ProofError::RootMismatch));
        proof.siblings = vec![[0; 32]; 257];
        assert_eq!(verify(&root.hash(), &[0; 32], None, &proof), Err(ProofError::TooDeep(257)));
    }

    #[test]
    fn paths_cut_keys_and_order_as_bytes() {
        assert_eq!(Path::new(0, &[0xff; 32]), Path::ROOT);
        assert_eq!(Path::new(12, &[0xff; 32]).prefix()[..3], [0xff, 0xf0, 0]);
        assert_eq!(Path::new(255, &[0xff; 32]).prefix()[31], 0xfe);
        let mut paths: Vec<Path> = (0..=255).map(|depth| Path::new(depth, &key(0, &[depth % 3]))).collect();
        paths.sort();
        assert!(paths.is_sorted_by_key(Path::to_bytes));
    }

    #[test]
    fn stored_bytes_have_one_form() {
        let leaf = Child::Leaf { key: [1; 32], hash: [2; 32] };
        assert_eq!(leaf.to_bytes().len(), 65);
        assert_eq!(Child::from_bytes(&[]), Err(DecodeError::Length));
        assert_eq!(Child::from_bytes(&[0, 0]), Err(DecodeError::Length));
        assert_eq!(Child::from_bytes(&[2; 32]), Err(DecodeError::Length));
        assert_eq!(Child::from_bytes(&[3]), Err(DecodeError::Tag(3)));
        for branch in [
            Branch { left: leaf, right: Child::Empty },
            Branch { left: Child::Empty, right: leaf },
            Branch { left: Child::Empty, right: Child::Empty },
        ] {
            assert_eq!(Branch::from_bytes(&branch.to_bytes()), Err(DecodeError::TooFewLeaves));
        }
    }
}
