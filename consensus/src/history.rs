//! The Merkle mountain range over headers that every header's `history` field commits to (FlyClient; Zcash's ZIP 221 is
//! a model). Each entry sums the work below it, so that a light client can sample a chain by its work.
//!
//! The node at level `l`, index `i` covers the leaves `i << l` up to `(i + 1) << l`. Only perfect subtrees are stored:
//! nodes never change once written, and going back to fewer leaves only means to ignore the later ones.

use crate::hash::tagged;
use ruint::aliases::U256;

const NODE_TAG: &str = "ocelli/history";
const ROOT_TAG: &str = "ocelli/history/root";

/// Why a history cannot be formed or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// The work of two entries does not fit into 256 bits together.
    #[error("sum of work exceeds 256 bits")]
    WorkOverflow,
    /// The range holds as many leaves as can be counted.
    #[error("history is full")]
    Full,
}

/// A node of the range: a stretch of headers summed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The block hash for a leaf; otherwise the tagged hash of both children.
    pub hash: [u8; 32],
    /// Work of all blocks of the stretch; see [`crate::target::Work`].
    pub work: U256,
    /// Time of the first block, in seconds since 1970.
    pub first_time: u64,
    /// Time of the last block, in seconds since 1970.
    pub last_time: u64,
    /// Target of the first block, compact.
    pub first_target: u32,
    /// Target of the last block, compact.
    pub last_target: u32,
}

impl HistoryEntry {
    /// Length of the encoding in bytes.
    pub const LEN: usize = 88;

    /// The entry of one block: `time` in seconds since 1970, `target` compact.
    pub fn leaf(block_hash: [u8; 32], work: U256, time: u64, target: u32) -> HistoryEntry {
        HistoryEntry {
            hash: block_hash,
            work,
            first_time: time,
            last_time: time,
            first_target: target,
            last_target: target,
        }
    }

    /// The fields in order of declaration, integers little-endian.
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..32].copy_from_slice(&self.hash);
        bytes[32..64].copy_from_slice(&self.work.to_le_bytes::<32>());
        bytes[64..72].copy_from_slice(&self.first_time.to_le_bytes());
        bytes[72..80].copy_from_slice(&self.last_time.to_le_bytes());
        bytes[80..84].copy_from_slice(&self.first_target.to_le_bytes());
        bytes[84..].copy_from_slice(&self.last_target.to_le_bytes());
        bytes
    }

    /// Reads what [`HistoryEntry::to_bytes`] wrote; every 88 bytes are some entry.
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> HistoryEntry {
        let (hash, rest) = take(bytes);
        let (work, rest) = take(rest);
        let (first_time, rest) = take(rest);
        let (last_time, rest) = take(rest);
        let (first_target, rest) = take(rest);
        let (last_target, _) = take(rest);
        HistoryEntry {
            hash,
            work: U256::from_le_bytes::<32>(work),
            first_time: u64::from_le_bytes(first_time),
            last_time: u64::from_le_bytes(last_time),
            first_target: u32::from_le_bytes(first_target),
            last_target: u32::from_le_bytes(last_target),
        }
    }
}

/// Splits the first `N` bytes off; the callers' lengths are constant.
fn take<const N: usize>(bytes: &[u8]) -> ([u8; N], &[u8]) {
    let (first, rest) = bytes.split_first_chunk::<N>().expect("an entry is as long as its fields together");
    (*first, rest)
}

/// The entry above two neighbours: their work summed, their ranges joined.
///
/// # Errors
/// If the sum of work overflows.
pub fn parent(left: &HistoryEntry, right: &HistoryEntry) -> Result<HistoryEntry, HistoryError> {
    Ok(HistoryEntry {
        hash: tagged(NODE_TAG, &[&left.to_bytes(), &right.to_bytes()]),
        work: left.work.checked_add(right.work).ok_or(HistoryError::WorkOverflow)?,
        first_time: left.first_time,
        last_time: right.last_time,
        first_target: left.first_target,
        last_target: right.last_target,
    })
}

/// Place of a node in the range. Ordered by level, then index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// 0 for leaves; a node at level `l` covers `2^l` of them.
    pub level: u8,
    /// Index within the level, from 0.
    pub index: u64,
}

/// Where stored nodes are read from.
pub trait HistoryReader {
    /// What can go wrong, a node that is not there included.
    type Error;

    /// The stored node at `position`.
    ///
    /// # Errors
    /// If it cannot be read or was never stored.
    fn entry(&self, position: Position) -> Result<HistoryEntry, Self::Error>;
}

/// Positions of the peaks of a range of that many leaves, left to right: one for each bit that is set, highest first.
pub fn peak_positions(leaves: u64) -> Vec<Position> {
    (0..64u8)
        .rev()
        .filter(|level| leaves >> level & 1 == 1)
        .map(|level| Position { level, index: (leaves >> level) - 1 })
        .collect()
}

/// The peaks of a range, which is all that the root and the next append need.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peaks {
    leaves: u64,
    entries: Vec<HistoryEntry>,
}

impl Peaks {
    /// Reads the peaks of the range of that many leaves.
    ///
    /// # Errors
    /// The reader's.
    pub fn load<R: HistoryReader>(reader: &R, leaves: u64) -> Result<Peaks, R::Error> {
        let entries = peak_positions(leaves).into_iter().map(|position| reader.entry(position));
        Ok(Peaks { leaves, entries: entries.collect::<Result<_, _>>()? })
    }

    /// Number of leaves.
    pub fn leaves(&self) -> u64 {
        self.leaves
    }

    /// The peaks, left to right.
    pub fn entries(&self) -> &[HistoryEntry] {
        &self.entries
    }

    /// All peaks joined into one entry, from right to left (the last two first); `None` of no leaves.
    ///
    /// # Errors
    /// If the sum of work overflows.
    pub fn bagged(&self) -> Result<Option<HistoryEntry>, HistoryError> {
        let Some((last, rest)) = self.entries.split_last() else { return Ok(None) };
        rest.iter().rev().try_fold(*last, |right, left| parent(left, &right)).map(Some)
    }

    /// What a header's `history` field holds: `H("ocelli/history/root", u64 leaves || bagged entry)`, zeros of no leaves.
    ///
    /// # Errors
    /// If the sum of work overflows.
    pub fn root(&self) -> Result<[u8; 32], HistoryError> {
        Ok(match self.bagged()? {
            Some(entry) => tagged(ROOT_TAG, &[&self.leaves.to_le_bytes(), &entry.to_bytes()]),
            None => [0; 32],
        })
    }
}

/// Adds a leaf at the right and returns the new nodes to store, the leaf first, then upwards.
///
/// # Errors
/// If the sum of work overflows or no more leaves can be counted; `peaks` is as before then.
pub fn append(peaks: &mut Peaks, leaf: HistoryEntry) -> Result<Vec<(Position, HistoryEntry)>, HistoryError> {
    let leaves = peaks.leaves.checked_add(1).ok_or(HistoryError::Full)?;
    let mut position = Position { level: 0, index: peaks.leaves };
    let mut new = vec![(position, leaf)];
    let mut top = leaf;
    // One peak is swallowed for each trailing bit that is set in the old number of leaves.
    let swallowed = peaks.leaves.trailing_ones() as usize;
    let kept = peaks.entries.len() - swallowed;
    for left in peaks.entries[kept..].iter().rev() {
        top = parent(left, &top)?;
        position = Position { level: position.level + 1, index: position.index >> 1 };
        new.push((position, top));
    }
    peaks.entries.truncate(kept);
    peaks.entries.push(top);
    peaks.leaves = leaves;
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    struct Stored(BTreeMap<Position, HistoryEntry>);

    impl HistoryReader for Stored {
        type Error = Position;

        fn entry(&self, position: Position) -> Result<HistoryEntry, Position> {
            self.0.get(&position).copied().ok_or(position)
        }
    }

    fn block(number: u8) -> HistoryEntry {
        HistoryEntry::leaf([number; 32], U256::from(1000 + u64::from(number)), 500 + u64::from(number), 0x1d00_ff00)
    }

    /// The perfect subtree over `leaves`, by its definition.
    fn perfect(leaves: &[HistoryEntry]) -> HistoryEntry {
        match leaves {
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(leaves.len() / 2);
                parent(&perfect(left), &perfect(right)).unwrap()
            }
        }
    }

    // import hashlib; from struct import pack
    // S = lambda b: hashlib.sha256(b).digest()
    // H = lambda t, d: S(S(t.encode()) * 2 + d)
    // leaf = lambda n: bytes([n])*32 + (1000+n).to_bytes(32, 'little') + pack('<QQII', 500+n, 500+n, 0x1d00ff00, 0x1d00ff00)
    // def parent(l, r):
    //     work = (int.from_bytes(l[32:64], 'little') + int.from_bytes(r[32:64], 'little')).to_bytes(32, 'little')
    //     return H("ocelli/history", l+r) + work + l[64:72] + r[72:80] + l[80:84] + r[84:88]
    // p = parent(leaf(1), leaf(2)); print(p.hex())
    // print(H("ocelli/history/root", pack('<Q', 3) + parent(p, leaf(3))).hex())
    #[test]
    fn golden_bytes() {
        let pair = parent(&block(1), &block(2)).unwrap();
        assert_eq!(
            hex::encode(pair.to_bytes()),
            "d3dd1a593de34caaeede68172ce57dd297f391cb98fce8a71ccf7393a445dfaed307000000000000000000000000000000000000000000000000000000000000f501000000000000f60100000000000000ff001d00ff001d"
        );
        let mut peaks = Peaks::default();
        assert_eq!(peaks.root(), Ok([0; 32]));
        for number in 1..=3 {
            append(&mut peaks, block(number)).unwrap();
        }
        assert_eq!(
            hex::encode(peaks.root().unwrap()),
            "6cc3ad8f5ab8ab02b6d0cfb7e31390a10597332c33bd5090c1402d93889ebd88"
        );
    }

    #[test]
    fn appending_equals_building_and_loading() {
        let leaves: Vec<HistoryEntry> = (0..70).map(block).collect();
        let (mut peaks, mut stored) = (Peaks::default(), Stored(BTreeMap::new()));
        for count in 1..=leaves.len() {
            for (position, entry) in append(&mut peaks, leaves[count - 1]).unwrap() {
                let start = (position.index as usize) << position.level;
                assert_eq!(entry, perfect(&leaves[start..start + (1 << position.level)]));
                assert_eq!(stored.0.insert(position, entry), None, "a node is written once");
            }
            assert_eq!(peaks.leaves(), count as u64);
            assert_eq!(Peaks::load(&stored, count as u64), Ok(peaks.clone()));
            let bagged = peaks.bagged().unwrap().unwrap();
            assert_eq!((bagged.first_time, bagged.last_time), (500, 499 + count as u64));
            assert_eq!(bagged.work, leaves[..count].iter().map(|leaf| leaf.work).sum::<U256>());
        }
        // A shorter chain is still there after the longer one was written.
        assert_eq!(Peaks::load(&stored, 33).unwrap().entries().len(), 2);
        assert_eq!(Peaks::load(&stored, 71), Err(Position { level: 0, index: 70 }));
    }

    #[test]
    fn peaks_are_bagged_from_the_right() {
        let mut peaks = Peaks::default();
        for number in 0..7 {
            append(&mut peaks, block(number)).unwrap();
        }
        let [four, two, one] = peaks.entries() else { panic!("seven leaves have three peaks") };
        assert_eq!(peaks.bagged().unwrap(), Some(parent(four, &parent(two, one).unwrap()).unwrap()));
    }

    #[test]
    fn bytes_and_back() {
        let entry = HistoryEntry { last_time: 7, last_target: 9, ..block(5) };
        assert_eq!(HistoryEntry::from_bytes(&entry.to_bytes()), entry);
    }

    #[test]
    fn work_never_wraps() {
        let mut peaks = Peaks::default();
        append(&mut peaks, HistoryEntry { work: U256::MAX, ..block(1) }).unwrap();
        let before = peaks.clone();
        assert_eq!(append(&mut peaks, block(2)), Err(HistoryError::WorkOverflow));
        assert_eq!(peaks, before);
    }

    #[test]
    fn positions_of_peaks() {
        let at = |level, index| Position { level, index };
        assert_eq!(peak_positions(0), []);
        assert_eq!(peak_positions(7), [at(2, 0), at(1, 2), at(0, 6)]);
        assert_eq!(peak_positions(u64::MAX).len(), 64);
    }
}
