//! The tree of headers, and which branch of it is the best.
//!
//! The best chain is the one with the most accumulated work; among equals, the first seen. A header counts as soon as it
//! is here ([`HeaderTree::best_header`]: what sync aims at); a block can become the tip once it and all before it are
//! verified ([`HeaderTree::best_candidate`]).
//!
//! Headers are never forgotten, since they cost work, so little is kept of each: its hash, its place, and what its children are
//! checked against. The header itself is wherever the tree's owner stores it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroU32;

use hashbrown::HashTable;

use crate::hash::BlockHash;
use crate::header::{Header, ParentBlock, TIME_LIMIT};
use crate::network::Network;
use crate::rules::{AnchorBlock, RuleError, check_header};
use crate::target::{CompactTarget, Target, U256, Work};

/// How far a block has been checked. Its header has been, or it would not be in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockStatus {
    /// It breaks a rule. No block on it can be connected.
    Invalid,
    /// Only the header is here.
    Header,
    /// Body and pixels are here; the answers are being checked.
    Received,
    /// The body's own rules hold and the answers are this node's own. Only the rules of the state are left.
    Verified,
}

/// What the tree says of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeNode {
    pub hash: BlockHash,
    pub height: u64,
    /// Its time, in seconds since 1970.
    pub time: u64,
    pub target: CompactTarget,
    /// Of all blocks from genesis to this one.
    pub work: Work,
    /// How far the block has been checked.
    pub status: BlockStatus,
    anchor: Option<AnchorBlock>,
}

impl TreeNode {
    /// Block 1 of this branch, from which its difficulty is counted; `None` at genesis.
    pub fn anchor(&self) -> Option<AnchorBlock> {
        self.anchor
    }
}

impl From<&TreeNode> for ParentBlock {
    fn from(node: &TreeNode) -> Self {
        Self { height: node.height, time: node.time }
    }
}

/// A header cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InsertError {
    /// Its parent is not in the tree.
    #[error("parent {parent} of header at height {height} is not known")]
    ParentUnknown {
        /// The parent's hash.
        parent: BlockHash,
        /// The header's height.
        height: u64,
    },
    /// A block before it is invalid.
    #[error("header at height {height} stands on an invalid block")]
    ParentInvalid {
        /// The header's height.
        height: u64,
    },
    /// It breaks a rule.
    #[error("header at height {height}")]
    Rule {
        /// The header's height.
        height: u64,
        source: RuleError,
    },
    /// The tree has as many headers as it can number, which is 1,300 years of a block every 10 s.
    #[error("the tree is full: it holds 2^32 headers")]
    Full,
}

/// A header's number, in the order in which they came; the genesis is number 0.
type Index = u32;

/// The order in which blocks are preferred: more work, then first seen.
type Rank = (Work, Reverse<Index>);

/// What is kept of a header.
#[derive(Debug, Clone)]
struct Entry {
    hash: BlockHash,
    /// Of all blocks from genesis to this one; [`VAST`] where that has more than 128 bits.
    work: [u64; 2],
    target: CompactTarget,
    /// Fits, for there is a header at each height below it.
    height: u32,
    /// The genesis' is itself.
    parent: Index,
    /// Block 1 of its branch.
    anchor: Option<NonZeroU32>,
    /// The one that came last; the others follow by `next_sibling`. The genesis is nobody's child.
    first_child: Option<NonZeroU32>,
    next_sibling: Option<NonZeroU32>,
    /// Little-endian, below 2^40 ([`TIME_LIMIT`]).
    time: [u8; 5],
    status: BlockStatus,
    /// Whether it and all before it are verified.
    connectable: bool,
    /// Whether it or one before it is invalid.
    condemned: bool,
}

/// Says that a work is in [`HeaderTree::vast`].
const VAST: [u64; 2] = [u64::MAX; 2];

// A byte more here is 3 MB more for a year of blocks every 10 s.
const _: () = assert!(size_of::<Entry>() == 80);

impl Entry {
    /// Of a header of which nothing more is known yet; its work is still to be filled in.
    fn of(header: &Header, hash: BlockHash, parent: Index, height: u32) -> Self {
        let [time @ .., _, _, _] = header.time.to_le_bytes();
        Self {
            hash,
            work: VAST,
            target: header.target,
            height,
            parent,
            anchor: None,
            first_child: None,
            next_sibling: None,
            time,
            status: BlockStatus::Header,
            connectable: false,
            condemned: false,
        }
    }

    fn time(&self) -> u64 {
        let [one, two, three, four, five] = self.time;
        u64::from_le_bytes([one, two, three, four, five, 0, 0, 0])
    }
}

/// All headers that are known. They are never forgotten, and the order in which they came breaks ties.
///
/// A header takes 80 bytes, 6 to 12 more to be found by its hash, and 4 on the path to the best header or 4 to 8 at the end of
/// another branch: at most 100, however many branches there are.
#[derive(Debug, Clone)]
pub struct HeaderTree {
    entries: Vec<Entry>,
    by_hash: HashTable<Index>,
    hasher: RandomState,
    /// Works of more than 128 bits. Nobody can make such a chain, but the rules allow it.
    vast: BTreeMap<Index, Work>,
    /// Connectable blocks without a connectable child, by rank.
    candidates: Vec<Index>,
    /// Blocks that are not condemned, without a child that is not, by rank.
    heads: Vec<Index>,
    /// The path to the best header, by height: what is asked most often must not walk all of it.
    best_path: Vec<Index>,
}

impl HeaderTree {
    /// A tree of the genesis alone, which is verified.
    pub fn new(genesis: &Header) -> Self {
        let mut tree = Self {
            entries: Vec::new(),
            by_hash: HashTable::new(),
            hasher: RandomState::new(),
            vast: BTreeMap::new(),
            candidates: vec![0],
            heads: vec![0],
            best_path: vec![0],
        };
        let entry =
            Entry { status: BlockStatus::Verified, connectable: true, ..Entry::of(genesis, genesis.hash(), 0, 0) };
        tree.push(0, entry, work_of(genesis));
        tree
    }

    /// Adds a header after checking it against its parent. Known ones are left as they are.
    ///
    /// # Errors
    /// [`InsertError`].
    pub fn insert(&mut self, network: &Network, header: &Header) -> Result<BlockHash, InsertError> {
        let hash = header.hash();
        if self.find(&hash).is_some() {
            return Ok(hash);
        }
        let height = header.height;
        let parent = self.find(&header.parent);
        let parent = parent.ok_or(InsertError::ParentUnknown { parent: header.parent, height })?;
        if self.entry(parent).condemned {
            return Err(InsertError::ParentInvalid { height });
        }
        let before = self.node(parent);
        let work = check_header(network, &before, before.anchor, before.work, header)
            .map_err(|source| InsertError::Rule { height, source })?;
        self.add(parent, header, hash, work).ok_or(InsertError::Full)?;
        self.update_best_path();
        Ok(hash)
    }

    /// Adds a header that was checked before and then stored, with the status it had; headers come in the order in which
    /// they were added first. `None` where that cannot be: its parent is not in the tree or cannot have this child, or the header
    /// has come before.
    pub fn restore(&mut self, header: &Header, status: BlockStatus) -> Option<BlockHash> {
        let hash = header.hash();
        let parent = self.find(&header.parent)?;
        let before = self.node(parent);
        let is_possible = header.height == before.height + 1 && header.time < TIME_LIMIT && self.find(&hash).is_none();
        let work = before.work.checked_add(work_of(header)).filter(|_| is_possible)?;
        let index = self.add(parent, header, hash, work)?;
        self.set(index, status);
        self.update_best_path();
        Some(hash)
    }

    /// Adds a new header, whose time and height have been checked. `None` if the tree is full.
    fn add(&mut self, parent: Index, header: &Header, hash: BlockHash, work: Work) -> Option<Index> {
        let number = NonZeroU32::new(u32::try_from(self.entries.len()).ok()?)?;
        let before = &mut self.entries[parent as usize];
        let mut entry = Entry::of(header, hash, parent, before.height + 1);
        entry.next_sibling = before.first_child.replace(number);
        entry.anchor = before.anchor.or(Some(number));
        entry.condemned = before.condemned;
        self.push(number.get(), entry, work);
        self.update_head(parent);
        self.update_head(number.get());
        Some(number.get())
    }

    fn push(&mut self, index: Index, mut entry: Entry, work: Work) {
        let [low, high, above @ ..] = work.0.into_limbs();
        if above == [0; 2] && [low, high] != VAST {
            entry.work = [low, high];
        } else {
            self.vast.insert(index, work);
        }
        let Self { entries, by_hash, hasher, .. } = self;
        let key = key(hasher, &entry.hash);
        entries.push(entry);
        by_hash.insert_unique(key, index, |&index| self::key(hasher, &entries[index as usize].hash));
    }

    /// Says how far a block has been checked. An invalid block condemns all on it; lifting that frees them again.
    /// `false` where the block is not in the tree; the genesis stays as it is.
    pub fn set_status(&mut self, hash: BlockHash, status: BlockStatus) -> bool {
        let Some(index) = self.find(&hash) else { return false };
        if index != 0 {
            self.set(index, status);
            self.update_best_path();
        }
        true
    }

    fn set(&mut self, index: Index, status: BlockStatus) {
        self.entries[index as usize].status = status;
        let (mut next, mut changed) = (Some(index), Vec::new());
        while let Some(index) = next.take().or_else(|| changed.pop()) {
            let entry = self.entry(index);
            let (parent, before) = (entry.parent, self.entry(entry.parent));
            let condemned = before.condemned || entry.status == BlockStatus::Invalid;
            let connectable = before.connectable && entry.status == BlockStatus::Verified;
            if (condemned, connectable) == (entry.condemned, entry.connectable) {
                continue;
            }
            let entry = &mut self.entries[index as usize];
            (entry.condemned, entry.connectable) = (condemned, connectable);
            changed.extend(self.children(index));
            for end in [index, parent] {
                self.update_head(end);
                self.update_candidate(end);
            }
        }
    }

    fn update_head(&mut self, index: Index) {
        let is_end = !self.entry(index).condemned && self.children(index).all(|child| self.entry(child).condemned);
        let mut heads = std::mem::take(&mut self.heads);
        self.set_end(&mut heads, index, is_end);
        self.heads = heads;
    }

    fn update_candidate(&mut self, index: Index) {
        let is_end = self.entry(index).connectable && !self.children(index).any(|child| self.entry(child).connectable);
        let mut candidates = std::mem::take(&mut self.candidates);
        self.set_end(&mut candidates, index, is_end);
        self.candidates = candidates;
    }

    /// Has a block in a list by rank, or not. A child has more work than its parent, so of a branch only the end can be the best;
    /// and the best branches, which are what changes, are at the list's end.
    fn set_end(&self, list: &mut Vec<Index>, index: Index, is_end: bool) {
        let place = list.binary_search_by_key(&self.rank(index), |&other| self.rank(other));
        match (place, is_end) {
            (Err(place), true) => list.insert(place, index),
            (Ok(place), false) => drop(list.remove(place)),
            _ => {}
        }
    }

    /// Follows the best header: as many steps as the path differs in.
    fn update_best_path(&mut self) {
        let (mut at, mut new) = (best(&self.heads), Vec::new());
        let place = |index: Index| self.entry(index).height as usize;
        while self.best_path.get(place(at)) != Some(&at) {
            new.push(at);
            at = self.entry(at).parent;
        }
        let kept = place(at) + 1;
        self.best_path.truncate(kept);
        self.best_path.extend(new.into_iter().rev());
    }

    fn find(&self, hash: &BlockHash) -> Option<Index> {
        // The next header stands on the last one, as a rule.
        if self.entries.last().is_some_and(|entry| entry.hash == *hash) {
            return Some((self.entries.len() - 1) as Index);
        }
        self.by_hash.find(key(&self.hasher, hash), |&index| self.entry(index).hash == *hash).copied()
    }

    fn entry(&self, index: Index) -> &Entry {
        &self.entries[index as usize]
    }

    /// The children of a block, the latest first.
    fn children(&self, index: Index) -> impl Iterator<Item = Index> {
        let first = self.entry(index).first_child;
        std::iter::successors(first, |child| self.entry(child.get()).next_sibling).map(NonZeroU32::get)
    }

    fn work(&self, index: Index) -> Work {
        let entry = self.entry(index);
        let [low, high] = entry.work;
        let vast = (entry.work == VAST).then(|| self.vast.get(&index)).flatten();
        vast.copied().unwrap_or(Work(U256::from_limbs([low, high, 0, 0])))
    }

    fn rank(&self, index: Index) -> Rank {
        (self.work(index), Reverse(index))
    }

    fn node(&self, index: Index) -> TreeNode {
        let &Entry { hash, target, height, anchor, status, .. } = self.entry(index);
        let anchor = anchor.map(|index| self.entry(index.get()));
        TreeNode {
            hash,
            height: height.into(),
            time: self.entry(index).time(),
            target,
            work: self.work(index),
            status,
            anchor: anchor.map(|block| AnchorBlock { target: block.target, time: block.time() }),
        }
    }

    pub fn genesis(&self) -> TreeNode {
        self.node(0)
    }

    /// What is known of a block.
    pub fn get(&self, hash: &BlockHash) -> Option<TreeNode> {
        self.find(hash).map(|index| self.node(index))
    }

    /// Whether a block's header is here.
    pub fn contains(&self, hash: &BlockHash) -> bool {
        self.find(hash).is_some()
    }

    /// The block that a block stands on; `None` of the genesis and of unknown ones.
    pub fn parent(&self, hash: &BlockHash) -> Option<TreeNode> {
        let index = self.find(hash).filter(|index| *index != 0)?;
        Some(self.node(self.entry(index).parent))
    }

    /// Whether a block or one before it is invalid; `false` also of unknown ones.
    pub fn is_condemned(&self, hash: &BlockHash) -> bool {
        self.find(hash).is_some_and(|index| self.entry(index).condemned)
    }

    /// Number of headers, the genesis included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Never: the genesis is always there.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All headers, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = TreeNode> {
        (0..self.entries.len()).map(|index| self.node(index as Index))
    }

    /// The header with the most work that does not stand on an invalid block.
    pub fn best_header(&self) -> TreeNode {
        self.node(best(&self.heads))
    }

    /// The block with the most work that can become the tip.
    pub fn best_candidate(&self) -> TreeNode {
        self.node(best(&self.candidates))
    }

    /// The last block that two branches share; `None` where one is unknown.
    pub fn fork_point(&self, one: &BlockHash, other: &BlockHash) -> Option<TreeNode> {
        let (one, other) = (self.find(one)?, self.find(other)?);
        let height = self.entry(one).height.min(self.entry(other).height);
        let (mut one, mut other) = (self.ancestor(one, height), self.ancestor(other, height));
        while one != other {
            (one, other) = (self.entry(one).parent, self.entry(other).parent);
        }
        Some(self.node(one))
    }

    /// The blocks after `from` up to and with `to`, lowest first; `None` unless `from` is before `to` or the same.
    pub fn path(&self, from: &BlockHash, to: &BlockHash) -> Option<Vec<BlockHash>> {
        let (from, mut at) = (self.find(from)?, self.find(to)?);
        let mut path = Vec::new();
        while at != from {
            let entry = self.entry(at);
            if entry.height <= self.entry(from).height {
                return None;
            }
            path.push(entry.hash);
            at = entry.parent;
        }
        path.reverse();
        Some(path)
    }

    /// The first blocks, lowest first, of which only the header is here, on the way to the best header. Takes as long as
    /// there are blocks between the first that is not connectable and the last that is returned.
    pub fn missing(&self, max: usize) -> Vec<BlockHash> {
        self.beyond_connectable()
            .filter(|node| node.status == BlockStatus::Header)
            .take(max)
            .map(|node| node.hash)
            .collect()
    }

    /// Blocks on the way to the best header that cannot become the tip yet, lowest first.
    pub fn beyond_connectable(&self) -> impl Iterator<Item = TreeNode> {
        // What is connectable is here, and so is all before it.
        let first = self.best_path.partition_point(|&index| self.entry(index).connectable);
        self.best_path[first..].iter().map(|&index| self.node(index))
    }

    /// Hashes from a block down to genesis, ten one by one and then ever further apart (as Bitcoin's locators): a peer
    /// finds the fork point by the first that it knows. Empty where the block is unknown.
    pub fn locator(&self, from: &BlockHash) -> Vec<BlockHash> {
        let Some(mut at) = self.find(from) else { return Vec::new() };
        let (mut locator, mut step) = (vec![self.entry(at).hash], 1u32);
        while at != 0 {
            at = self.ancestor(at, self.entry(at).height.saturating_sub(step));
            locator.push(self.entry(at).hash);
            if locator.len() >= 10 {
                step = step.saturating_mul(2);
            }
        }
        locator
    }

    /// The block at a height, at most its own, on the branch that ends in `at`: looked up where that is the best path.
    fn ancestor(&self, mut at: Index, height: u32) -> Index {
        let on_path = |height: u32| self.best_path.get(height as usize).copied();
        while self.entry(at).height > height {
            if on_path(self.entry(at).height) == Some(at) {
                return on_path(height).unwrap_or(0);
            }
            at = self.entry(at).parent;
        }
        at
    }

    /// Whether `hash` is on the branch that ends in `head`, the head included.
    pub fn is_ancestor(&self, hash: &BlockHash, head: &BlockHash) -> bool {
        let (Some(one), Some(head)) = (self.find(hash), self.find(head)) else { return false };
        self.ancestor(head, self.entry(one).height) == one
    }
}

/// What a hash is looked up by: the first of its bytes, which the work asks nothing of, through a function with a secret, so that
/// nobody can make blocks that all fall into one place.
fn key(hasher: &RandomState, BlockHash([a, b, c, d, e, f, g, h, ..]): &BlockHash) -> u64 {
    hasher.hash_one(u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]))
}

/// Of the ends of branches, by rank.
fn best(ends: &[Index]) -> Index {
    *ends.last().expect("the genesis is connectable and never condemned, so some branch is neither")
}

/// The work of one block. Targets in the tree have been checked.
pub fn work_of(header: &Header) -> Work {
    header.target.to_target().unwrap_or(Target::MAX).work()
}
