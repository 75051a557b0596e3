//! How keys and values are written; the table is in `docs/store.md`.
//!
//! Integers in keys are big-endian, so that keys sort by them. Values are consensus encodings, whose integers are
//! little-endian. Reading returns `None` where bytes are not what writing makes.

use ocelli_consensus::codec::{MAX_ENCODED, decode, encode};
use ocelli_consensus::fork_choice::BlockStatus;
use ocelli_consensus::header::HEADER_BYTES;
use ocelli_consensus::history::{HistoryEntry, Position};
use ocelli_consensus::schedule::{Schedule, ScheduledVersion};
use ocelli_consensus::state::{Branch, Child};
use ocelli_consensus::transition::Undo;
use ocelli_consensus::{Address, BlockHash, Body, Header, ModelId};
use ocelli_protocol::ledger::{self, Event, MAX_EVENT_BYTES, Place};

use super::Kept;

/// The version of this layout.
pub(super) const SCHEMA: u32 = 3;

/// Key of the layout's version in the metadata.
pub(super) const SCHEMA_KEY: &[u8] = b"schema";
/// Key of what is kept of old blocks in the metadata.
pub(super) const KEPT_KEY: &[u8] = b"kept";
/// Key of the network's genesis hash in the metadata.
pub(super) const GENESIS_KEY: &[u8] = b"genesis";
/// Key of the network's name in the metadata.
pub(super) const NETWORK_KEY: &[u8] = b"network";
/// Key of the tip in the metadata.
pub(super) const TIP_KEY: &[u8] = b"tip";
/// Key of the schedule of rules that the headers were checked with, in the metadata.
pub(super) const SCHEDULE_KEY: &[u8] = b"rules";
/// Key of the height from which on entries of accounts are here, in the metadata; absent where none are kept.
pub(super) const LEDGER_KEY: &[u8] = b"ledger";
/// Key of the known peers in the metadata.
pub(super) const PEERS_KEY: &[u8] = b"peers";

/// The last block of a chain, and the state after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tip {
    pub hash: BlockHash,
    pub height: u64,
    /// The root of the state tree after it.
    pub state: Child,
}

/// Where on the main chain a transaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct TransactionLocation {
    /// The block that holds it.
    pub block: BlockHash,
    /// That block's height.
    pub height: u64,
    /// Its place in the block, from 0.
    pub index: u32,
}

/// Why a block was refused.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct RefusedBlock {
    pub block: BlockHash,
    pub height: u64,
    /// The rule that it breaks, in words.
    pub reason: String,
}

/// A height or an arrival number as a key.
pub(super) fn number_key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// Reads what [`number_key`] wrote.
pub(super) fn number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

/// Height, block hash: so that all blocks below a height are one range of keys.
pub(super) fn block_key(height: u64, hash: &BlockHash) -> [u8; 40] {
    let mut key = [0; 40];
    key[..8].copy_from_slice(&height.to_be_bytes());
    key[8..].copy_from_slice(hash.as_bytes());
    key
}

/// Height, block hash, index: so that the attachments of all blocks below a height are one range of keys.
pub(super) fn attachment_key(height: u64, hash: &BlockHash, index: u32) -> [u8; 44] {
    let mut key = [0; 44];
    key[..8].copy_from_slice(&height.to_be_bytes());
    key[8..40].copy_from_slice(hash.as_bytes());
    key[40..].copy_from_slice(&index.to_be_bytes());
    key
}

/// Level, index.
pub(super) fn position_key(position: Position) -> [u8; 9] {
    let mut key = [position.level; 9];
    key[1..].copy_from_slice(&position.index.to_be_bytes());
    key
}

/// The 180 bytes, then the status.
pub(super) fn header_bytes(header: &Header, status: BlockStatus) -> [u8; HEADER_BYTES + 1] {
    let mut bytes = [0; HEADER_BYTES + 1];
    bytes[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
    bytes[HEADER_BYTES] = match status {
        BlockStatus::Invalid => 0,
        BlockStatus::Header => 1,
        BlockStatus::Received => 2,
        BlockStatus::Verified => 3,
    };
    bytes
}

/// Reads what [`header_bytes`] wrote.
pub(super) fn header(bytes: &[u8]) -> Option<(Header, BlockStatus)> {
    let (header, status) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let status = match status {
        [0] => BlockStatus::Invalid,
        [1] => BlockStatus::Header,
        [2] => BlockStatus::Received,
        [3] => BlockStatus::Verified,
        _ => return None,
    };
    Some((Header::from_bytes(header), status))
}

/// Hash, height, then the state's root as [`Child::to_bytes`].
pub(super) fn tip_bytes(tip: &Tip) -> Vec<u8> {
    [encode(&(tip.hash, tip.height)), tip.state.to_bytes()].concat()
}

/// Reads what [`tip_bytes`] wrote.
pub(super) fn tip(bytes: &[u8]) -> Option<Tip> {
    let (head, state) = bytes.split_at_checked(40)?;
    let (hash, height) = decode(head, 40).ok()?;
    Some(Tip { hash, height, state: Child::from_bytes(state).ok()? })
}

/// Reads an encoded body.
pub(super) fn body(bytes: &[u8]) -> Option<Body> {
    decode(bytes, MAX_ENCODED).ok()
}

/// Reads an encoded undo record.
pub(super) fn undo(bytes: &[u8]) -> Option<Undo> {
    decode(bytes, MAX_ENCODED).ok()
}

/// A block of the main chain, and the bytes of all attachments up to it, u64 little-endian.
pub(super) fn height_bytes((block, attached): &(BlockHash, u64)) -> Vec<u8> {
    encode(&(block, attached))
}

/// Reads what [`height_bytes`] wrote.
pub(super) fn height(bytes: &[u8]) -> Option<(BlockHash, u64)> {
    decode(bytes, 40).ok()
}

/// Sender, height at which the upload began, number.
pub(super) fn part_key(sender: &Address, since: u64, number: u16) -> [u8; 30] {
    let mut key = [0; 30];
    key[..20].copy_from_slice(&sender.0);
    key[20..28].copy_from_slice(&since.to_be_bytes());
    key[28..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Reads what [`part_key`] wrote.
pub(super) fn part(key: &[u8]) -> Option<(Address, u64, u16)> {
    let (sender, rest) = key.split_first_chunk()?;
    let (since, number) = rest.split_first_chunk()?;
    Some((Address(*sender), u64::from_be_bytes(*since), u16::from_be_bytes(number.try_into().ok()?)))
}

/// Account, height, index, side: so that those of an account are one range of keys, in the order of their places.
pub(super) fn entry_key(account: &Address, place: &Place) -> [u8; 33] {
    let mut key = [place.side as u8; 33];
    key[..20].copy_from_slice(&account.0);
    key[20..28].copy_from_slice(&place.height.to_be_bytes());
    key[28..32].copy_from_slice(&place.index.to_be_bytes());
    key
}

/// Reads a row of an account's entry.
pub(super) fn account_entry(key: &[u8], value: &[u8]) -> Option<(Address, ledger::Entry)> {
    let (account, rest) = key.split_first_chunk()?;
    let (height, rest) = rest.split_first_chunk()?;
    let (index, side) = rest.split_first_chunk()?;
    let event: Event = decode(value, MAX_EVENT_BYTES).ok()?;
    let place = Place { height: u64::from_be_bytes(*height), index: u32::from_be_bytes(*index), side: event.side() };
    (*side == [place.side as u8]).then_some((Address(*account), ledger::Entry { place, event }))
}

/// Model id, number of the chunk.
pub(super) fn chunk_key(model: &ModelId, number: u16) -> [u8; 34] {
    let mut key = [0; 34];
    key[..32].copy_from_slice(model.as_bytes());
    key[32..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Reads a number of tasks, u64 little-endian.
pub(super) fn count(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_le_bytes)
}

/// Reads the length of a file, u32, and the name of its model.
pub(super) fn file(bytes: &[u8]) -> Option<(u32, String)> {
    decode(bytes, MAX_ENCODED).ok()
}

/// Reads a block hash.
pub(super) fn block_hash(bytes: &[u8]) -> Option<BlockHash> {
    bytes.try_into().ok().map(BlockHash)
}

/// Reads a branch of the state tree.
pub(super) fn branch(bytes: &[u8]) -> Option<Branch> {
    Branch::from_bytes(bytes).ok()
}

/// Reads a node of the history.
pub(super) fn entry(bytes: &[u8]) -> Option<HistoryEntry> {
    bytes.try_into().ok().map(HistoryEntry::from_bytes)
}

/// Reads an encoded [`TransactionLocation`].
pub(super) fn location(bytes: &[u8]) -> Option<TransactionLocation> {
    decode(bytes, 44).ok()
}

/// Reads an encoded [`RefusedBlock`].
pub(super) fn verdict(bytes: &[u8]) -> Option<RefusedBlock> {
    decode(bytes, MAX_ENCODED).ok()
}

/// Reads an encoded list of peers.
pub(super) fn peers(bytes: &[u8]) -> Option<Vec<String>> {
    decode(bytes, MAX_ENCODED).ok()
}

/// Reads the layout's version, u32 little-endian.
pub(super) fn schema(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_le_bytes)
}

/// Heights with their versions, in order: a list of u64 and u32.
pub(super) fn schedule_bytes(schedule: &Schedule) -> Vec<u8> {
    let entries: Vec<_> = schedule.entries().iter().map(|entry| (entry.height, entry.version)).collect();
    encode(&entries)
}

/// Reads what [`schedule_bytes`] wrote.
pub(super) fn schedule(bytes: &[u8]) -> Option<Schedule> {
    let entries: Vec<(u64, u32)> = decode(bytes, MAX_ENCODED).ok()?;
    let entries = entries.into_iter().map(|(height, version)| ScheduledVersion { height, version });
    Schedule::new(entries.collect()).ok()
}

/// The three heights, u64 little-endian.
pub(super) fn kept_bytes(kept: &Kept) -> Vec<u8> {
    encode(kept)
}

/// Reads what [`kept_bytes`] wrote.
pub(super) fn kept(bytes: &[u8]) -> Option<Kept> {
    decode(bytes, 24).ok()
}

/// Reads a network's name, UTF-8.
pub(super) fn network(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ocelli_consensus::object::ObjectId;
    use ocelli_consensus::schedule::TEST_VERSION;
    use ocelli_consensus::target::CompactTarget;
    use ocelli_consensus::{Amount, Root};
    use ocelli_protocol::ledger::{REWARD, Side};

    #[test]
    fn golden_bytes() {
        let hash = BlockHash([0xaa; 32]);
        assert_eq!(hex::encode(number_key(0x0102)), "0000000000000102");
        let key = attachment_key(0x0304, &hash, 5);
        assert_eq!(hex::encode(key), format!("0000000000000304{}00000005", "aa".repeat(32)));
        assert_eq!(hex::encode(block_key(0x0304, &hash)), format!("0000000000000304{}", "aa".repeat(32)));
        let kept_row = kept_bytes(&Kept { attachments_from: 0x0102, bodies_from: 3, answers_from: 4 });
        assert_eq!(hex::encode(kept_row), "020100000000000003000000000000000400000000000000");
        assert_eq!(hex::encode(position_key(Position { level: 3, index: 0x0607 })), "030000000000000607");
        let tip_row = tip_bytes(&Tip { hash, height: 2, state: Child::Branch { hash: [0xbb; 32] } });
        assert_eq!(hex::encode(tip_row), format!("{}020000000000000002{}", "aa".repeat(32), "bb".repeat(32)));
        let location = TransactionLocation { block: hash, height: 3, index: 4 };
        assert_eq!(hex::encode(encode(&location)), format!("{}030000000000000004000000", "aa".repeat(32)));
        let verdict = RefusedBlock { block: hash, height: 3, reason: "no".into() };
        assert_eq!(hex::encode(encode(&verdict)), format!("{}030000000000000002000000000000006e6f", "aa".repeat(32)));
        let objects =
            vec![(ObjectId::Account(Address([7; 20])), None), (ObjectId::Model(ModelId([8; 32])), Some(vec![0xee; 3]))];
        let (account, model) = (format!("00{}00", "07".repeat(20)), format!("01{}01", "08".repeat(32)));
        let expected = format!("0200000000000000{account}{model}0300000000000000eeeeee");
        assert_eq!(hex::encode(encode(&Undo { objects })), expected);
        assert_eq!(hex::encode(height_bytes(&(hash, 6))), format!("{}0600000000000000", "aa".repeat(32)));
        let key = part_key(&Address([7; 20]), 0x0809, 0x0a0b);
        assert_eq!(hex::encode(key), format!("{}00000000000008090a0b", "07".repeat(20)));
        let place = Place { height: 0x0809, index: 0x0a0b, side: Side::Credit };
        let key = entry_key(&Address([7; 20]), &place);
        assert_eq!(hex::encode(key), format!("{}000000000000080900000a0b01", "07".repeat(20)));
        assert_eq!(hex::encode(chunk_key(&ModelId([8; 32]), 3)), format!("{}0003", "08".repeat(32)));
        assert_eq!(hex::encode(encode(&(5u32, "ab"))), "0500000002000000000000006162");
        let schedule = Schedule::new(vec![ScheduledVersion { height: 4, version: TEST_VERSION }]).unwrap();
        let expected = format!("01000000000000000400000000000000{}", hex::encode(TEST_VERSION.to_le_bytes()));
        assert_eq!(hex::encode(schedule_bytes(&schedule)), expected);
    }

    #[test]
    fn rows_come_back_and_nothing_else_is_read() {
        let header_row = Header {
            version: 1,
            parent: BlockHash([2; 32]),
            history: Root([3; 32]),
            state: Root([4; 32]),
            body: Root([5; 32]),
            miner: Address([6; 20]),
            height: 7,
            time: 8,
            target: CompactTarget(9),
            nonce: 10,
        };
        for (byte, status) in [BlockStatus::Invalid, BlockStatus::Header, BlockStatus::Received, BlockStatus::Verified]
            .into_iter()
            .enumerate()
        {
            let bytes = header_bytes(&header_row, status);
            assert_eq!(usize::from(bytes[HEADER_BYTES]), byte);
            assert_eq!(header(&bytes), Some((header_row.clone(), status)));
        }
        let mut bytes = header_bytes(&header_row, BlockStatus::Verified);
        bytes[HEADER_BYTES] = 4;
        assert_eq!(header(&bytes), None);
        assert_eq!(header(&bytes[..HEADER_BYTES]), None);
        for state in [Child::Empty, Child::Leaf { key: [1; 32], hash: [2; 32] }, Child::Branch { hash: [3; 32] }] {
            let row = Tip { hash: BlockHash([1; 32]), height: u64::MAX, state };
            let bytes = tip_bytes(&row);
            assert_eq!(tip(&bytes), Some(row));
            assert_eq!(tip(&bytes[..bytes.len() - 1]), None);
            assert_eq!(tip(&[bytes, vec![0]].concat()), None);
        }
        assert_eq!(number(&number_key(77)), Some(77));
        let (sender, since) = (Address([7; 20]), 1 << 40);
        assert_eq!(part(&part_key(&sender, since, 9)), Some((sender, since, 9)));
        let event = Event::Reward { reward: Amount(5), fees: Amount(6) };
        let reward = ledger::Entry { place: Place { height: 1 << 40, index: REWARD, side: Side::Credit }, event };
        let key = entry_key(&sender, &reward.place);
        assert_eq!(account_entry(&key, &encode(&event)), Some((sender, reward)));
        let other_side = entry_key(&sender, &Place { side: Side::Debit, ..reward.place });
        assert_eq!(account_entry(&other_side, &encode(&event)), None);
        assert_eq!((account_entry(&key[1..], &encode(&event)), account_entry(&key, &[])), (None, None));
        let row = (BlockHash([4; 32]), 77);
        assert_eq!(height(&height_bytes(&row)), Some(row));
        for bytes in [&[][..], &[1], &[0; 200]] {
            assert_eq!((number(bytes), block_hash(bytes), height(bytes)), (None, None, None));
            assert_eq!((part(bytes), file(bytes), count(bytes)), (None, None, None));
            assert_eq!((entry(bytes), location(bytes), schema(bytes)), (None, None, None));
            assert_eq!((undo(bytes), body(bytes), peers(bytes), kept(bytes)), (None, None, None, None));
            assert_eq!((branch(bytes), verdict(bytes), tip(bytes), header(bytes)), (None, None, None, None));
        }
        assert_eq!(network(&[0xff]), None);
    }

    #[test]
    fn keys_sort_as_their_numbers() {
        let numbers = [0, 1, 255, 256, 1 << 32, u64::MAX];
        assert!(numbers.map(number_key).is_sorted());
        let low = attachment_key(255, &BlockHash([0xff; 32]), u32::MAX);
        assert!(low < attachment_key(256, &BlockHash([0; 32]), 0));
        assert!(low[..] < number_key(256)[..]);
    }
}
