//! The tree of headers, and which branch of it is the best.
//!
//! The best chain is the one with the most accumulated work; among equals, the first seen. A header counts as soon as it
//! is here ([`HeaderTree::best_header`]: what sync aims at); a block can become the tip once it and all before it are
//! verified ([`HeaderTree::best_candidate`]).

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use crate::hash::BlockHash;
use crate::header::Header;
use crate::network::Parameters;
use crate::rules::{AnchorBlock, RuleError, check_header};
use crate::target::{Target, Work};

/// How far a block has been checked. Its header has been, or it would not be in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// It breaks a rule. No block on it can be connected.
    Invalid,
    /// Only the header is here.
    Header,
    /// Body and pixels are here; the answers are being checked.
    Received,
    /// The body's own rules hold and the answers are this node's own. Only the rules of the state are left.
    Verified,
}

/// A header and what its place in the tree gives.
#[derive(Debug, Clone)]
pub struct Node {
    /// The header.
    pub header: Header,
    /// Its hash.
    pub hash: BlockHash,
    /// Of all blocks from genesis to this one.
    pub work: Work,
    /// How far the block has been checked.
    pub status: Status,
    parent: Option<usize>,
    children: Vec<usize>,
    anchor: Option<AnchorBlock>,
    /// Whether it and all before it are verified.
    connectable: bool,
    /// Whether it or one before it is invalid.
    condemned: bool,
}

impl Node {
    /// Block 1 of this branch, from which its difficulty is counted; `None` at genesis.
    pub fn anchor(&self) -> Option<AnchorBlock> {
        self.anchor
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
        /// The rule.
        source: RuleError,
    },
}

/// The order in which blocks are preferred: more work, then first seen.
type Rank = (Work, Reverse<usize>);

/// All headers that are known. They are never forgotten, and the order in which they came breaks ties.
#[derive(Debug, Clone)]
pub struct HeaderTree {
    nodes: Vec<Node>,
    by_hash: HashMap<BlockHash, usize>,
    /// Connectable blocks, by rank.
    candidates: BTreeSet<Rank>,
    /// Heads of branches that are not condemned, by rank.
    heads: BTreeSet<Rank>,
    /// The path to the best header, by height: what is asked most often must not walk all of it.
    best_path: Vec<usize>,
}

impl HeaderTree {
    /// A tree of the genesis alone, which is verified.
    pub fn new(genesis: Header) -> Self {
        let work = work_of(&genesis);
        let hash = genesis.hash();
        let node = Node {
            header: genesis,
            hash,
            work,
            status: Status::Verified,
            parent: None,
            children: Vec::new(),
            anchor: None,
            connectable: true,
            condemned: false,
        };
        let rank = BTreeSet::from([(work, Reverse(0))]);
        let by_hash = HashMap::from([(hash, 0)]);
        Self { nodes: vec![node], by_hash, candidates: rank.clone(), heads: rank, best_path: vec![0] }
    }

    /// Adds a header after checking it against its parent. Known ones are left as they are.
    ///
    /// # Errors
    /// [`InsertError`].
    pub fn insert(&mut self, parameters: &Parameters, header: Header) -> Result<BlockHash, InsertError> {
        let hash = header.hash();
        if self.by_hash.contains_key(&hash) {
            return Ok(hash);
        }
        let height = header.height;
        let &parent =
            (self.by_hash.get(&header.parent)).ok_or(InsertError::ParentUnknown { parent: header.parent, height })?;
        let before = &self.nodes[parent];
        if before.condemned {
            return Err(InsertError::ParentInvalid { height });
        }
        check_header(parameters, &before.header, before.anchor, &header)
            .map_err(|source| InsertError::Rule { height, source })?;
        let work = before.work.checked_add(work_of(&header));
        let work = work.ok_or(InsertError::Rule { height, source: RuleError::WorkOverflow })?;
        self.push(parent, header, hash, work);
        self.update_best_path();
        Ok(hash)
    }

    /// Adds a header that was checked before and then stored, with the status it had; headers come in the order in which
    /// they were added first. `None` where the parent is not in the tree.
    pub fn restore(&mut self, header: Header, status: Status) -> Option<BlockHash> {
        let hash = header.hash();
        let &parent = self.by_hash.get(&header.parent)?;
        let work = self.nodes[parent].work.checked_add(work_of(&header))?;
        let index = self.push(parent, header, hash, work);
        self.set(index, status);
        self.update_best_path();
        Some(hash)
    }

    fn push(&mut self, parent: usize, header: Header, hash: BlockHash, work: Work) -> usize {
        let index = self.nodes.len();
        let before = &mut self.nodes[parent];
        before.children.push(index);
        let condemned = before.condemned;
        let anchor = before.anchor.or(Some(AnchorBlock { target: header.target, time: header.time }));
        if !condemned {
            let rank = (before.work, Reverse(parent));
            self.heads.remove(&rank);
            self.heads.insert((work, Reverse(index)));
        }
        self.nodes.push(Node {
            header,
            hash,
            work,
            status: Status::Header,
            parent: Some(parent),
            children: Vec::new(),
            anchor,
            connectable: false,
            condemned,
        });
        self.by_hash.insert(hash, index);
        index
    }

    /// Says how far a block has been checked. An invalid block condemns all on it; lifting that frees them again.
    /// `false` where the block is not in the tree; the genesis stays as it is.
    pub fn set_status(&mut self, hash: BlockHash, status: Status) -> bool {
        let Some(&index) = self.by_hash.get(&hash) else { return false };
        if index != 0 {
            self.set(index, status);
            self.update_best_path();
        }
        true
    }

    fn set(&mut self, index: usize, status: Status) {
        self.nodes[index].status = status;
        let mut changed = vec![index];
        while let Some(index) = changed.pop() {
            let node = &self.nodes[index];
            let parent = &self.nodes[node.parent.unwrap_or(0)];
            let condemned = parent.condemned || node.status == Status::Invalid;
            let connectable = parent.connectable && node.status == Status::Verified;
            if (condemned, connectable) == (node.condemned, node.connectable) {
                continue;
            }
            let (rank, parent) = ((node.work, Reverse(index)), node.parent);
            changed.extend(&node.children);
            let node = &mut self.nodes[index];
            (node.condemned, node.connectable) = (condemned, connectable);
            if connectable {
                self.candidates.insert(rank);
            } else {
                self.candidates.remove(&rank);
            }
            self.update_head(index);
            if let Some(parent) = parent {
                self.update_head(parent);
            }
        }
    }

    /// A head is a block that is not condemned, with no child that is not.
    fn update_head(&mut self, index: usize) {
        let node = &self.nodes[index];
        let rank = (node.work, Reverse(index));
        if !node.condemned && node.children.iter().all(|&child| self.nodes[child].condemned) {
            self.heads.insert(rank);
        } else {
            self.heads.remove(&rank);
        }
    }

    /// Follows the best header: as many steps as the path differs in.
    fn update_best_path(&mut self) {
        let (mut at, mut new) = (self.best(), Vec::new());
        let place = |index: usize| usize::try_from(self.nodes[index].header.height).unwrap_or(usize::MAX);
        while self.best_path.get(place(at)) != Some(&at) {
            new.push(at);
            at = self.nodes[at].parent.expect("the genesis is always on the path");
        }
        let kept = place(at).saturating_add(1);
        self.best_path.truncate(kept);
        self.best_path.extend(new.into_iter().rev());
    }

    fn best(&self) -> usize {
        let (_, Reverse(index)) = self.heads.last().expect("the genesis is never condemned, so some branch is not");
        *index
    }

    /// A block's header and what is known of it.
    pub fn get(&self, hash: &BlockHash) -> Option<&Node> {
        self.by_hash.get(hash).map(|&index| &self.nodes[index])
    }

    /// Whether a block or one before it is invalid; `false` also of unknown ones.
    pub fn is_condemned(&self, hash: &BlockHash) -> bool {
        self.get(hash).is_some_and(|node| node.condemned)
    }

    /// Number of headers, the genesis included.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Never: the genesis is always there.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// All headers, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter()
    }

    /// The header with the most work that does not stand on an invalid block.
    pub fn best_header(&self) -> &Node {
        &self.nodes[self.best()]
    }

    /// The block with the most work that can become the tip.
    pub fn best_candidate(&self) -> &Node {
        let (_, Reverse(index)) = self.candidates.last().expect("the genesis is always connectable");
        &self.nodes[*index]
    }

    /// The last block that two branches share; `None` where one is unknown.
    pub fn fork_point(&self, one: &BlockHash, other: &BlockHash) -> Option<&Node> {
        let (mut one, mut other) = (*self.by_hash.get(one)?, *self.by_hash.get(other)?);
        while one != other {
            let (height, other_height) = (self.nodes[one].header.height, self.nodes[other].header.height);
            if height >= other_height {
                one = self.nodes[one].parent?;
            }
            if other_height >= height {
                other = self.nodes[other].parent?;
            }
        }
        Some(&self.nodes[one])
    }

    /// The blocks after `from` up to and with `to`, lowest first; `None` unless `from` is before `to` or the same.
    pub fn path(&self, from: &BlockHash, to: &BlockHash) -> Option<Vec<BlockHash>> {
        let (from, mut at) = (*self.by_hash.get(from)?, *self.by_hash.get(to)?);
        let mut path = Vec::new();
        while at != from {
            path.push(self.nodes[at].hash);
            at = self.nodes[at].parent?;
        }
        path.reverse();
        Some(path)
    }

    /// The first blocks, lowest first, of which only the header is here, on the way to the best header. Takes as long as
    /// there are blocks between the first that is not connectable and the last that is returned.
    pub fn missing(&self, max: usize) -> Vec<BlockHash> {
        self.beyond_connectable().filter(|node| node.status == Status::Header).take(max).map(|node| node.hash).collect()
    }

    /// Blocks on the way to the best header that cannot become the tip yet, lowest first.
    pub fn beyond_connectable(&self) -> impl Iterator<Item = &Node> {
        // What is connectable is here, and so is all before it.
        let first = self.best_path.partition_point(|&index| self.nodes[index].connectable);
        self.best_path[first..].iter().map(|&index| &self.nodes[index])
    }

    /// Hashes from a block down to genesis, ten one by one and then ever further apart (as Bitcoin's locators): a peer
    /// finds the fork point by the first that it knows. Empty where the block is unknown.
    pub fn locator(&self, from: &BlockHash) -> Vec<BlockHash> {
        let Some(&start) = self.by_hash.get(from) else { return Vec::new() };
        let (mut locator, mut at, mut step) = (vec![self.nodes[start].hash], start, 1u64);
        while at != 0 {
            at = self.ancestor(at, self.nodes[at].header.height.saturating_sub(step));
            locator.push(self.nodes[at].hash);
            if locator.len() >= 10 {
                step = step.saturating_mul(2);
            }
        }
        locator
    }

    /// The block at a height, at most its own, on the branch that ends in `at`: looked up where that is the best path.
    fn ancestor(&self, mut at: usize, height: u64) -> usize {
        let on_path = |height: u64| usize::try_from(height).ok().and_then(|height| self.best_path.get(height)).copied();
        while let (true, Some(parent)) = (self.nodes[at].header.height > height, self.nodes[at].parent) {
            if on_path(self.nodes[at].header.height) == Some(at) {
                return on_path(height).unwrap_or(0);
            }
            at = parent;
        }
        at
    }

    /// Whether `hash` is on the branch that ends in `head`, the head included.
    pub fn is_ancestor(&self, hash: &BlockHash, head: &BlockHash) -> bool {
        let (Some(&one), Some(&head)) = (self.by_hash.get(hash), self.by_hash.get(head)) else { return false };
        self.ancestor(head, self.nodes[one].header.height) == one
    }
}

/// The work of one block. Targets in the tree have been checked.
pub fn work_of(header: &Header) -> Work {
    header.target.to_target().unwrap_or(Target::MAX).work()
}
