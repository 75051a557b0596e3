//! What a header takes of a node's memory. A process of its own: it looks at all that the process holds.

#![cfg(target_os = "linux")]

use ocelli_consensus::fork_choice::{BlockStatus, HeaderTree};
use ocelli_consensus::{CompactTarget, Header, Network};

/// Just beyond where the table of hashes has doubled, and most of its places are empty.
const CHAIN: u64 = (1 << 20) / 8 * 7 + 10_000;
/// Headers that stand on the same one: each is the end of a branch of its own.
const BRANCHES: u64 = 30_000;
const LIMIT: u64 = 100;

/// `VmRSS` of `/proc/self/status`, in bytes.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn a_header_takes_at_most_100_bytes() {
    let genesis = Network::builtin("local").unwrap().genesis;
    let begin = resident_bytes();
    let mut tree = HeaderTree::new(&genesis);
    let mut last = Header { parent: genesis.hash(), height: 1, target: CompactTarget(0x1e0f_ffff), ..genesis };
    for _ in 0..CHAIN {
        let parent = tree.restore(&last, BlockStatus::Verified).unwrap();
        last = Header { parent, height: last.height + 1, time: last.time + 10, ..last };
    }
    let chain = resident_bytes();
    for nonce in 0..BRANCHES {
        tree.restore(&Header { nonce, ..last.clone() }, BlockStatus::Header).unwrap();
    }
    let branches = resident_bytes();
    assert_eq!(tree.len() as u64, 1 + CHAIN + BRANCHES);
    let (of_chain, of_branches) = ((chain - begin) / CHAIN, (branches - chain) / BRANCHES);
    assert!(of_chain <= LIMIT, "{of_chain} bytes for each header of a chain");
    assert!(of_branches <= LIMIT, "{of_branches} bytes for each header of a branch of its own");
}
