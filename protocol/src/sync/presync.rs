//! Headers of a chain that has yet to show that it is worth storing.
//!
//! The defence of Bitcoin Core 24 against floods of cheap headers ("headers presync", bitcoin/bitcoin pull request
//! 25717): a chain with too little work so far is fetched twice. The first time every rule of its headers is checked and
//! nothing is kept of a header but one bit of a hash under a secret salt. Once the chain has shown enough work it is
//! fetched again, and a header is let through when [`CONFIRMING`] headers from it on have the bits that they had the first
//! time: another chain, which need not have that work, gets through with a probability of 2^-[`CONFIRMING`]. Bitcoin
//! keeps a bit for some 600 headers, because its difficulty rule cannot be checked so cheaply; ours can, and a bit for
//! each header makes the second pass simpler: 10 years of the testnet's headers are 4 MB.

use ocelli_consensus::fork_choice::TreeNode;
use ocelli_consensus::header::ParentBlock;
use ocelli_consensus::rules::{AnchorBlock, RuleError, check_header};
use ocelli_consensus::target::Target;
use ocelli_consensus::{BlockHash, Header, Network, U256, Work, hash};

/// Headers whose bits confirm one before it is let through.
pub const CONFIRMING: usize = 128;
/// Headers of one chain that are counted: 4 MiB of bits, ten years of blocks every 10 s. Each has cost its work.
pub const MAX_COUNTED: usize = 1 << 25;

/// A header's place in its chain, and what follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderPlace {
    /// The header's hash.
    pub hash: BlockHash,
    /// What its child is checked against.
    pub block: ParentBlock,
    /// Block 1 of its chain; `None` at genesis.
    pub anchor: Option<AnchorBlock>,
    /// Of all blocks from genesis to this one.
    pub work: Work,
}

impl HeaderPlace {
    /// The place of a header in a tree.
    pub fn of(node: &TreeNode) -> Self {
        Self { hash: node.hash, block: node.into(), anchor: node.anchor(), work: node.work }
    }

    /// The place of a child after all rules of its header have been checked, proof of work among them.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn child(&self, network: &Network, header: &Header) -> Result<Self, RuleError> {
        check_header(network, self.block, self.anchor, self.work, header).map(|work| self.of_child(header, work))
    }

    /// The same, whatever its version: the last of these rules, which changes none of the others.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub(super) fn child_of_any_version(&self, network: &Network, header: &Header) -> Result<Self, RuleError> {
        match check_header(network, self.block, self.anchor, self.work, header) {
            Ok(work) => Ok(self.of_child(header, work)),
            Err(RuleError::Version { .. }) => {
                let work = header.target.to_target().unwrap_or(Target::MAX).work();
                let work = self.work.checked_add(work).ok_or(RuleError::WorkOverflow)?;
                Ok(self.of_child(header, work))
            }
            Err(rule) => Err(rule),
        }
    }

    fn of_child(&self, header: &Header, work: Work) -> Self {
        let anchor = self.anchor.or(Some(AnchorBlock { target: header.target, time: header.time }));
        Self { hash: header.hash(), block: header.into(), anchor, work }
    }
}

/// A chain that is fetched twice.
#[derive(Debug)]
pub(super) struct Presync {
    salt: [u8; 32],
    /// Known before: what the chain stands on.
    start: HeaderPlace,
    /// The last header seen in this pass.
    last: HeaderPlace,
    bits: Bits,
    pass: Pass,
}

#[derive(Debug)]
enum Pass {
    Counting,
    Fetching {
        /// Headers whose bits were right.
        confirmed: usize,
        /// Those that are not let through yet.
        held: Vec<Header>,
    },
}

/// What a batch of headers has led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing yet: the headers after [`Presync::last`] are to be asked for.
    More,
    /// These may be stored, and the headers after [`Presync::last`] are to be asked for.
    Proven(Vec<Header>),
    /// These may be stored, and with them the chain has enough work.
    Done(Vec<Header>),
    /// The chain ends, or is longer than is counted, and has less work than needed.
    Poor,
    /// It is not the chain of the first pass.
    Changed,
    /// The header after [`Presync::last`] breaks a rule.
    Broken(RuleError),
}

impl Presync {
    /// Begins on a header that is known. `salt` is a secret: who knew it could make headers with the right bits.
    pub(super) fn new(salt: [u8; 32], start: HeaderPlace) -> Self {
        Self { salt, last: start, start, bits: Bits::default(), pass: Pass::Counting }
    }

    /// The header after which to ask.
    pub(super) fn last(&self) -> &HeaderPlace {
        &self.last
    }

    /// Takes a batch that begins after [`Presync::last`]; a batch that is not full is the chain's end.
    pub(super) fn take(&mut self, network: &Network, batch: &[Header], full: bool, minimum: U256) -> Progress {
        for header in batch {
            self.last = match self.last.child(network, header) {
                Ok(place) => place,
                Err(rule) => return Progress::Broken(rule),
            };
            let bit = self.bit();
            match &mut self.pass {
                Pass::Counting => self.bits.push(bit),
                Pass::Fetching { confirmed, held } => {
                    match self.bits.get(*confirmed) {
                        Some(expected) if expected != bit => return Progress::Changed,
                        Some(_) => *confirmed += 1,
                        None => {}
                    }
                    held.push(header.clone());
                }
            }
        }
        let is_enough = self.last.work.0 >= minimum;
        match &mut self.pass {
            Pass::Counting if is_enough => {
                self.pass = Pass::Fetching { confirmed: 0, held: Vec::new() };
                self.last = self.start;
                Progress::More
            }
            Pass::Counting if !full || self.bits.len() >= MAX_COUNTED => Progress::Poor,
            Pass::Counting => Progress::More,
            Pass::Fetching { held, .. } if is_enough => Progress::Done(std::mem::take(held)),
            Pass::Fetching { confirmed, .. } if !full || *confirmed == self.bits.len() => Progress::Changed,
            Pass::Fetching { held, .. } => {
                let proven = held.len().saturating_sub(CONFIRMING);
                if proven == 0 { Progress::More } else { Progress::Proven(held.drain(..proven).collect()) }
            }
        }
    }

    /// The bit of the last header.
    fn bit(&self) -> bool {
        hash::tagged("ocelli/presync", &[&self.salt, self.last.hash.as_bytes()])[0] & 1 == 1
    }
}

/// A list of bits.
#[derive(Debug, Default)]
struct Bits {
    bytes: Vec<u8>,
    len: usize,
}

impl Bits {
    fn push(&mut self, bit: bool) {
        if self.len.is_multiple_of(8) {
            self.bytes.push(0);
        }
        if let Some(last) = self.bytes.last_mut() {
            *last |= u8::from(bit) << (self.len % 8);
        }
        self.len += 1;
    }

    fn get(&self, index: usize) -> Option<bool> {
        let byte = self.bytes.get(index / 8)?;
        (index < self.len).then_some(byte >> (index % 8) & 1 == 1)
    }

    fn len(&self) -> usize {
        self.len
    }
}
