//! Buckets, and honest and greedy peers on virtual time.

use ocelli_consensus::{Action, Address, Amount, BlockHash, Transaction, Unsigned};

use super::*;
use crate::message::{BLOCKS_BYTES, BlockId, MAX_LOCATOR, Submission};

fn submit() -> Request {
    let action = Action::Transfer { to: Address([0; 20]), amount: Amount(1) };
    let unsigned = Unsigned { nonce: 0, fee: Amount(1), expires: 1, action };
    Request::Submit(Submission {
        transaction: Transaction { unsigned, public_key: [0; 32], signature: [0; 64] },
        attachment: None,
    })
}

fn blocks() -> Request {
    Request::Blocks { hashes: vec![BlockHash([0; 32])] }
}

#[test]
fn a_bucket_fills_to_the_millisecond() {
    let mut bucket = Bucket::new(Limit { rate: 3, burst: 2 }, 1_000);
    assert!(bucket.is_full(1_000));
    bucket.charge(2, 1_000);
    // A third of a second a token, however often one looks.
    for now in 1_000..1_333 {
        assert_eq!(bucket.check(1, now), Err(1_334 - now));
    }
    assert_eq!(bucket.check(1, 1_334), Ok(()));
    assert_eq!(bucket.check(2, 1_334), Err(333));
    // A debt is earned first; a time that goes back, which it should not, earns nothing.
    bucket.charge(4, 1_334);
    assert_eq!(bucket.check(1, 1_000), Err(1_333));
    assert!(bucket.check(1, 2_667).is_ok() && !bucket.is_full(2_667) && bucket.is_full(3_100));
    let mut huge = Bucket::new(Limit { rate: u32::MAX, burst: u64::MAX }, 0);
    huge.charge(u64::MAX, u64::MAX);
    assert_eq!(huge.check(1, u64::MAX), Err(1));
}

/// Each row: a request, how many are served at once, and how many a second.
#[test]
fn beyond_the_limit_a_peer_is_told_then_slowed_then_penalised() {
    let rows = [
        (Request::Status, What::Requests, REQUESTS),
        (submit(), What::Submissions, SUBMISSIONS),
        (Request::NodeStatus, What::Requests, REQUESTS),
    ];
    for (request, what, limit) in rows {
        let mut limits = RequestLimits::new(0);
        for _ in 0..limit.burst {
            assert_eq!(limits.admit(1, &request, 0), Ok(()));
        }
        let wait = 1000u64.div_ceil(limit.rate.into());
        let excess = Excess { what, limit, wait };
        for _ in 0..TOLD {
            assert_eq!(limits.admit(1, &request, 0), Err(RequestRefusal::Tell(excess)));
        }
        for _ in TOLD..REFUSALS.burst {
            assert_eq!(limits.admit(1, &request, 0), Err(RequestRefusal::Slow(excess)));
        }
        for _ in 0..10 {
            assert_eq!(limits.admit(1, &request, 0), Err(RequestRefusal::Penalize(excess)));
        }
        // Nobody else pays for it, and after a while it is as good as anybody.
        assert_eq!(limits.admit(2, &request, 0), Ok(()));
        assert_eq!(limits.admit(1, &request, wait), Ok(()));
        let later = 1000 * REFUSALS.burst;
        for _ in 0..limit.burst.min(u64::from(limit.rate) * REFUSALS.burst) {
            assert_eq!(limits.admit(1, &request, later), Ok(()));
        }
        assert_eq!(limits.admit(1, &request, later), Err(RequestRefusal::Tell(excess)));
    }
}

#[test]
fn bytes_are_counted_after_the_response_and_in_all() {
    let mut limits = RequestLimits::new(0);
    assert_eq!(limits.admit(1, &blocks(), 0), Ok(()));
    limits.charge(1, (BYTES.burst + u64::from(BYTES.rate)) as usize, 0);
    let excess = Excess { what: What::Bytes, limit: BYTES, wait: 1_001 };
    assert_eq!(limits.admit(1, &blocks(), 0), Err(RequestRefusal::Tell(excess)));
    assert_eq!(
        excess.to_string(),
        "more than 134217728 bytes to a peer at once and 67108864 a second: ask again in 2 s"
    );
    // What is small is served all the same.
    assert_eq!(limits.admit(1, &Request::Status, 0), Ok(()));
    assert_eq!(limits.admit(1, &blocks(), 1_001), Ok(()));
}

/// Two peers that use all that they are given, of bytes or of work, and one that syncs at 25 MiB a second: it is never refused.
#[test]
fn what_some_use_up_is_not_taken_from_the_others() {
    let (mut greedy_bytes, mut refused) = (0_u64, 0);
    for greedy in [
        Request::Block { by: BlockId::Height(1) },
        Request::Headers { locator: vec![BlockHash([0; 32]); MAX_LOCATOR], limit: u32::MAX },
        Request::NodeStatus,
    ] {
        let bytes = if matches!(greedy, Request::Block { .. }) { 1_500_000 } else { 20_000 };
        let mut limits = RequestLimits::new(0);
        for now in (0..60_000).step_by(10) {
            for peer in 1..=2 {
                for _ in 0..4 {
                    match limits.admit(peer, &greedy, now) {
                        Ok(()) => {
                            limits.charge(peer, bytes, now);
                            greedy_bytes += bytes as u64;
                        }
                        Err(_) => refused += 1,
                    }
                }
            }
            if now % 160 == 0 {
                assert_eq!(limits.admit(3, &blocks(), now), Ok(()), "{greedy:?} at {now}");
                limits.charge(3, BLOCKS_BYTES, now);
            }
        }
    }
    assert!(refused > 1_000, "they wanted more than there is");
    assert!(greedy_bytes < 60 * u64::from(ALL_BYTES.rate) + ALL_BYTES.burst + 3 * 60 * 2 * 20_000 * 400);
}

/// However many there are, all together get what there is for all, and about the same.
#[test]
fn what_there_is_for_all_is_shared() {
    let mut limits = RequestLimits::new(0);
    let mut served = [0_u64; 40];
    // At first they find full buckets, and those who come first get more.
    for now in (0..40_000).step_by(10) {
        if now == 10_000 {
            served = [0; 40];
        }
        for (peer, served) in served.iter_mut().enumerate() {
            if limits.admit(peer, &blocks(), now).is_ok() {
                limits.charge(peer, BLOCKS_BYTES, now);
                *served += BLOCKS_BYTES as u64;
            }
        }
    }
    let (all, least, most) = (served.iter().sum::<u64>(), served.iter().min().unwrap(), served.iter().max().unwrap());
    let given = 30 * u64::from(ALL_BYTES.rate);
    assert!(all <= given * 12 / 10, "{all} of {given}");
    assert!(all >= given * 8 / 10, "{all} of {given}");
    assert!(*most <= *least * 3 / 2, "{least} to {most}");
}

/// Ten minutes of a sync at 200 Mbit/s beside the requests of a relaying peer, and of a client that asks for 128
/// transactions twice a second.
#[test]
fn honest_peers_are_never_refused() {
    let mut limits = RequestLimits::new(0);
    for now in (0..600_000).step_by(10) {
        let mut ask = |peer, request: &Request, bytes| {
            assert_eq!(limits.admit(peer, request, now), Ok(()), "{request:?} at {now}");
            limits.charge(peer, bytes, now);
        };
        // 4 MiB a time.
        if now % 160 == 0 {
            ask(1, &blocks(), BLOCKS_BYTES);
        }
        if now % 500 == 0 {
            ask(1, &Request::Announce { ids: vec![] }, 8);
            ask(1, &Request::Headers { locator: vec![], limit: 2_000 }, 360_000);
            ask(1, &Request::Status, 80);
            for _ in 0..128 {
                ask(2, &Request::Transaction { txid: ocelli_consensus::TxId([0; 32]) }, 3_600);
            }
        }
        if now % 50 == 0 {
            ask(1, &Request::Pending { ids: vec![] }, 200_000);
        }
        // A whole account's worth with each block.
        if now % 2_000 == 0 {
            for _ in 0..64 {
                ask(3, &submit(), 200);
            }
        }
    }
}

#[test]
fn memory_is_bounded() {
    let mut limits = RequestLimits::new(0);
    for peer in 0..2 * MAX_LIMITED as u32 {
        assert_eq!(limits.admit(peer, &Request::Status, 0), Ok(()));
    }
    assert_eq!(limits.peers.len(), MAX_LIMITED);
    assert_eq!(limits.admit(u32::MAX, &Request::Status, 1_000), Ok(()));
    assert_eq!(limits.peers.len(), 1, "the others are as good as new");
}

/// Time in milliseconds may begin anywhere.
#[test]
fn time_begins_at_any_number() {
    let run = |start: u64| {
        let mut limits = RequestLimits::new(start);
        let mut results = Vec::new();
        for step in 0..6_000u64 {
            let now = start + step / 2;
            results.push(limits.admit(1, &if step % 3 == 0 { blocks() } else { submit() }, now));
            limits.charge(1, if step % 7 == 0 { BLOCKS_BYTES } else { 100 }, now);
        }
        results
    };
    let expected = run(0);
    assert!(expected.iter().any(Result::is_ok) && expected.iter().any(Result::is_err));
    for start in [1, 123_456_789, 1_760_000_000_000, u64::MAX / 2] {
        assert_eq!(run(start), expected, "beginning at {start}");
    }
}

/// An honest peer whose tip differs relays, with each of ten blocks in a row, all that a block took from its mempool meanwhile and
/// that nobody can mine any more here; one that sends as much as it can is found out within a second.
#[test]
fn what_is_sent_in_vain_is_forgiven_only_to_a_few() {
    let mut in_vain = InVain::default();
    for block in 0..10 {
        for sent in 0..48 {
            assert_eq!(in_vain.sent(1, 10_000 * block + 10 * sent), Ok(()));
        }
    }
    let refused = (0..1_000).filter(|now| in_vain.sent(2, *now).is_err()).count() as u64;
    assert_eq!(refused, 1_000 - IN_VAIN.burst - u64::from(IN_VAIN.rate) + 1);
    let excess = in_vain.sent(2, 999).unwrap_err();
    assert!(excess.to_string().starts_with("more than 512 transactions of a peer that no block could hold at once"));
    assert_eq!(in_vain.sent(1, 100_000), Ok(()), "another's are its own");
    assert_eq!(in_vain.sent(2, 2_000), Ok(()), "forgiven with time");
    // Whoever changes identities is remembered only so far.
    for peer in 3..3 + 2 * MAX_LIMITED as u32 {
        assert_eq!(in_vain.sent(peer, 2_000), Ok(()));
    }
    assert_eq!(in_vain.0.len(), MAX_LIMITED);
}
