//! The block hash, compact targets and work on a real Bitcoin header: block 125,552, the example of Bitcoin's page
//! "Block hashing algorithm".

use ocelli_consensus::hash::block_hash;
use ocelli_consensus::target::CompactTarget;

#[test]
fn block_125552() {
    let header = [
        "01000000",                                                         // version
        "81cd02ab7e569e8bcd9317e2fe99f2de44d49ab2b8851ba4a308000000000000", // previous block
        "e320b6c2fffc8d750423db8b1eb942ae710e951ed797f7affc8892b0f1fc122b", // Merkle root
        "c7f5d74d",                                                         // time
        "f2b9441a",                                                         // bits
        "42a14695",                                                         // nonce
    ];
    let bytes = hex::decode(header.concat()).unwrap();
    let hash = block_hash(&bytes).0;
    let reversed: Vec<u8> = hash.iter().rev().copied().collect();
    assert_eq!(hex::encode(reversed), "00000000000000001e8d6829a8a21adc5d38d0a473b144b6765798e61f98bd1d");
    let target = CompactTarget(0x1a44_b9f2).to_target().unwrap();
    assert!(target.is_met_by(hash));
    let mut wrong = bytes;
    wrong[79] ^= 1;
    assert!(!target.is_met_by(block_hash(&wrong).0));
    // Difficulty 244,112.49: so many times 2^32 hashes, and a little more (the easiest target is not quite 2^224).
    assert_eq!(target.work().0 >> 32, ocelli_consensus::U256::from(244_116));
}
