mod simulator;
mod starvation;

use ocelli_consensus::{Action, Address, Amount, Body, Header, ModelId, Transaction, U256, Unsigned, Work};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::presync::{Presync, Progress};
use super::*;
use crate::message::{BlockData, MAX_BLOCKS};
use crate::origin::MAX_BACKOFF;
use simulator::{
    Chain, Mode, NETWORK, Simulator, connected, data_of, extend, extend_in, genesis, pruned_data_of, work,
};

fn status(tip: &Header) -> Response {
    let (height, tip) = (tip.height, tip.hash());
    Response::Status(ChainStatus { genesis: genesis().hash(), height, tip, work: work(height), next_rules: None })
}

fn answer(peer: u16, id: u64, response: Response) -> Input<u16> {
    Input::Response { peer, id, result: Ok(response) }
}

fn timer(timer: Timer<u16>, at: u64) -> SyncAction<u16> {
    SyncAction::SetTimer { timer, at }
}

/// One peer, three blocks: every output, in order.
#[test]
fn a_whole_sync_by_hand() {
    let headers = extend(&genesis(), 3, 0);
    let hashes: Vec<_> = headers.iter().map(Header::hash).collect();
    let mut chain = Chain::new();
    let mut sync = Sync::new(&NETWORK, [7; 32]);
    assert_eq!(sync.state(), SyncState::Waiting);
    assert_eq!(sync.handle(Input::BlocksChanged, 0, &chain), []);

    assert_eq!(
        sync.handle(connected(1), 1000, &chain),
        [
            SyncAction::Send { peer: 1, id: 0, request: Request::Status },
            timer(Timer::Request(0), 11_000),
            SyncAction::State(SyncState::Contacting),
        ]
    );
    assert_eq!(
        sync.handle(answer(1, 0, status(&headers[2])), 1100, &chain),
        [
            timer(Timer::Status(1), 31_100),
            SyncAction::Send {
                peer: 1,
                id: 1,
                request: Request::Headers { locator: vec![genesis().hash()], limit: 2000 }
            },
            timer(Timer::Request(1), 11_100),
            SyncAction::State(SyncState::Headers { peer: 1 }),
        ]
    );
    // Due although answered: means nothing.
    assert_eq!(sync.handle(Input::TimerFired(Timer::Request(0)), 1150, &chain), []);
    assert_eq!(
        sync.handle(answer(1, 1, Response::Headers(headers.clone())), 1200, &chain),
        [SyncAction::ImportHeaders { peer: 1, headers: headers.clone() }]
    );
    chain.add_headers(&headers);
    let imported = Input::HeadersImported { peer: 1, result: HeaderImport::Connected };
    assert_eq!(
        sync.handle(imported, 1300, &chain),
        [
            SyncAction::Send { peer: 1, id: 2, request: Request::Blocks { hashes: hashes.clone() } },
            timer(Timer::Request(2), 11_300),
            SyncAction::State(SyncState::Blocks),
        ]
    );
    // A response that ends early: the rest is asked for at once.
    let blocks = headers[..2].iter().map(|header| Some(data_of(header))).collect();
    assert_eq!(
        sync.handle(answer(1, 2, Response::Blocks(blocks)), 1400, &chain),
        [
            SyncAction::ImportBlock { peer: 1, hash: hashes[0], data: data_of(&headers[0]) },
            SyncAction::ImportBlock { peer: 1, hash: hashes[1], data: data_of(&headers[1]) },
            SyncAction::Send { peer: 1, id: 3, request: Request::Blocks { hashes: vec![hashes[2]] } },
            timer(Timer::Request(3), 11_400),
        ]
    );
    chain.add_body(hashes[0]);
    chain.add_body(hashes[1]);
    assert_eq!(sync.handle(Input::BlocksChanged, 1450, &chain), []);
    assert_eq!(
        sync.handle(answer(1, 3, Response::Blocks(vec![Some(data_of(&headers[2]))])), 1500, &chain),
        [SyncAction::ImportBlock { peer: 1, hash: hashes[2], data: data_of(&headers[2]) }]
    );
    chain.add_body(hashes[2]);
    assert_eq!(sync.handle(Input::BlocksChanged, 1600, &chain), [SyncAction::State(SyncState::Synced)]);

    assert_eq!(
        sync.handle(Input::TimerFired(Timer::Status(1)), 31_100, &chain),
        [SyncAction::Send { peer: 1, id: 4, request: Request::Status }, timer(Timer::Request(4), 41_100)]
    );
    assert_eq!(sync.handle(answer(1, 4, status(&headers[2])), 31_200, &chain), [timer(Timer::Status(1), 61_200)]);
    assert_eq!(sync.handle(Input::PeerDisconnected(1), 31_300, &chain), [SyncAction::State(SyncState::Waiting)]);
}

/// Each row: what a peer that was asked for headers answers, and what it is penalised for.
#[test]
fn offences_in_headers() {
    let headers = extend(&genesis(), 2001, 0);
    let mut gap = headers[..3].to_vec();
    gap.remove(1);
    let cases = [
        (Response::Headers(headers.clone()), Offence::TooManyHeaders { found: 2001, limit: 2000 }),
        (Response::Headers(gap), Offence::UnlinkedHeaders),
        (Response::Blocks(vec![]), Offence::WrongResponse),
    ];
    for (response, offence) in cases {
        let chain = Chain::new();
        let mut sync = Sync::new(&NETWORK, [7; 32]);
        sync.handle(connected(1), 0, &chain);
        sync.handle(answer(1, 0, status(&headers[2])), 0, &chain);
        assert_eq!(
            sync.handle(answer(1, 1, response), 0, &chain),
            [
                SyncAction::Penalize { peer: 1, offence },
                timer(Timer::Wake, 1000),
                SyncAction::State(SyncState::Contacting)
            ]
        );
        // It rests, and is not asked again before its next status.
        assert_eq!(sync.handle(Input::TimerFired(Timer::Wake), 1000, &chain), []);
    }
}

#[test]
fn unconnected_headers_are_asked_for_once_more() {
    let headers = extend(&genesis(), 5, 0);
    let chain = Chain::new();
    let mut sync = Sync::new(&NETWORK, [7; 32]);
    sync.handle(connected(1), 0, &chain);
    sync.handle(answer(1, 0, status(&headers[4])), 0, &chain);
    let request = Request::Headers { locator: vec![genesis().hash()], limit: 2000 };
    assert_eq!(
        sync.handle(answer(1, 1, Response::Headers(headers[2..].to_vec())), 0, &chain),
        [SyncAction::Send { peer: 1, id: 2, request }, timer(Timer::Request(2), 10_000)]
    );
    let out = sync.handle(answer(1, 2, Response::Headers(headers[2..].to_vec())), 0, &chain);
    assert_eq!(out[0], SyncAction::Penalize { peer: 1, offence: Offence::UnconnectedHeaders });
}

#[test]
fn imports_that_fail() {
    let headers = extend(&genesis(), 5, 0);
    for (result, offence) in [(HeaderImport::Invalid, Some(Offence::InvalidHeader)), (HeaderImport::Held, None)] {
        let chain = Chain::new();
        let mut sync = Sync::new(&NETWORK, [7; 32]);
        sync.handle(connected(1), 0, &chain);
        sync.handle(answer(1, 0, status(&headers[4])), 0, &chain);
        sync.handle(answer(1, 1, Response::Headers(headers.clone())), 0, &chain);
        let imported = Input::HeadersImported { peer: 1, result };
        let out = sync.handle(imported, 0, &chain);
        let penalties = out.iter().filter(|output| matches!(output, SyncAction::Penalize { .. })).cloned();
        let expected = offence.map(|offence| SyncAction::Penalize { peer: 1, offence });
        assert_eq!(penalties.collect::<Vec<_>>(), expected.into_iter().collect::<Vec<_>>());
        assert!(!out.iter().any(|output| matches!(output, SyncAction::Send { .. })), "not asked again at once");
    }
}

/// Each row: what a peer that was asked for two blocks answers, and what it is penalised for.
#[test]
fn offences_in_blocks() {
    let headers = extend(&genesis(), 2, 0);
    let cases = [
        (Response::Blocks(vec![None; 3]), Offence::TooManyBlocks { found: 3, limit: 2 }),
        (Response::Blocks(vec![]), Offence::NoBlocks),
        (Response::Headers(vec![]), Offence::WrongResponse),
    ];
    for (response, offence) in cases {
        let mut chain = Chain::new();
        chain.add_headers(&headers);
        let mut sync = Sync::new(&NETWORK, [7; 32]);
        sync.handle(connected(1), 0, &chain);
        let out = sync.handle(answer(1, 0, status(&headers[1])), 0, &chain);
        let hashes = headers.iter().map(Header::hash).collect();
        assert_eq!(out[1], SyncAction::Send { peer: 1, id: 1, request: Request::Blocks { hashes } });
        let out = sync.handle(answer(1, 1, response), 0, &chain);
        assert_eq!(out[0], SyncAction::Penalize { peer: 1, offence });
    }
}

#[test]
fn another_network_and_late_or_foreign_responses() {
    let chain = Chain::new();
    let mut sync = Sync::new(&NETWORK, [7; 32]);
    sync.handle(connected(1), 0, &chain);
    sync.handle(connected(2), 0, &chain);
    assert_eq!(sync.handle(answer(2, 0, status(&genesis())), 1, &chain), []);
    assert_eq!(sync.handle(answer(1, 77, status(&genesis())), 1, &chain), []);
    let other = ChainStatus {
        genesis: BlockHash([9; 32]),
        height: 0,
        tip: BlockHash([9; 32]),
        work: U256::MAX,
        next_rules: None,
    };
    let out = sync.handle(answer(1, 0, Response::Status(other)), 1, &chain);
    assert!(out.contains(&SyncAction::Penalize { peer: 1, offence: Offence::WrongNetwork }));
    assert_eq!(sync.claim(1), None);
    let out = sync.handle(Input::TimerFired(Timer::Request(1)), 10_000, &chain);
    assert!(out.contains(&SyncAction::Penalize { peer: 2, offence: Offence::Stalled }));
    assert_eq!(sync.handle(answer(2, 1, status(&genesis())), 10_001, &chain), []);
    // Undecodable is an offence, a lost connection is not.
    sync.handle(Input::TimerFired(Timer::Status(2)), 40_000, &chain);
    let lost = Input::Response { peer: 2, id: 2, result: Err(Failure::Network) };
    assert!(!sync.handle(lost, 40_001, &chain).iter().any(|output| matches!(output, SyncAction::Penalize { .. })));
    sync.handle(Input::TimerFired(Timer::Status(2)), 70_001, &chain);
    let malformed = Input::Response { peer: 2, id: 3, result: Err(Failure::Malformed) };
    let out = sync.handle(malformed, 70_002, &chain);
    assert!(out.contains(&SyncAction::Penalize { peer: 2, offence: Offence::WrongResponse }));
}

/// The only peer lacks a block: asked again after 1, 2, 4, … 30 s, and again at once when the peer announces it.
#[test]
fn unavailable_blocks_are_asked_for_with_back_off() {
    let headers = extend(&genesis(), 1, 0);
    let hash = headers[0].hash();
    let mut chain = Chain::new();
    chain.add_headers(&headers);
    let mut sync = Sync::new(&NETWORK, [7; 32]);
    sync.handle(connected(1), 0, &chain);
    let mut out = sync.handle(answer(1, 0, status(&headers[0])), 0, &chain);
    let mut now = 0;
    let mut asked = 0;
    let mut pause = |sync: &mut Sync<u16>, out: &mut Vec<SyncAction<u16>>, seconds: u64| {
        asked += 1;
        let request = Request::Blocks { hashes: vec![hash] };
        assert!(out.contains(&SyncAction::Send { peer: 1, id: asked, request }), "{out:?}");
        *out = sync.handle(answer(1, asked, Response::Blocks(vec![None])), now, &chain);
        let at = now + seconds * 1000;
        assert!(out.contains(&timer(Timer::Wake, at)), "{out:?}");
        assert_eq!(sync.state(), SyncState::Unavailable { hash });
        assert_eq!(sync.unavailable().collect::<Vec<_>>(), [&hash]);
        assert_eq!(sync.handle(Input::BlocksChanged, at - 1, &chain), []);
        *out = sync.handle(Input::TimerFired(Timer::Wake), at, &chain);
        now = at;
    };
    for seconds in [1, 2, 4, 8, 16, 30, 30] {
        pause(&mut sync, &mut out, seconds);
    }
    let id = 8;
    sync.handle(answer(1, id, Response::Blocks(vec![None])), now, &chain);
    let announced = Input::Announced { peer: 1, hash, height: 1, parent: Parent::Known };
    let out = sync.handle(announced, now + 1, &chain);
    let request = Request::Blocks { hashes: vec![hash] };
    assert!(out.contains(&SyncAction::Send { peer: 1, id: id + 1, request }));
    // Wanted no longer: forgotten.
    chain.add_body(hash);
    sync.handle(answer(1, id + 1, Response::Blocks(vec![None])), now + 2, &chain);
    assert_eq!(sync.unavailable().count(), 0);
    assert_eq!(sync.state(), SyncState::Synced);
}

/// A task without its picture is as good as no block.
#[test]
fn blocks_without_attachments_count_as_lacking() {
    let headers = extend(&genesis(), 1, 0);
    let mut chain = Chain::new();
    chain.add_headers(&headers);
    let mut sync = Sync::new(&NETWORK, [7; 32]);
    sync.handle(connected(1), 0, &chain);
    sync.handle(answer(1, 0, status(&headers[0])), 0, &chain);
    let data = pruned_data_of(&headers[0]);
    let hash = headers[0].hash();
    let out = sync.handle(answer(1, 1, Response::Blocks(vec![Some(data.clone())])), 0, &chain);
    assert_eq!(out, [timer(Timer::Wake, 1000), SyncAction::State(SyncState::Unavailable { hash })]);

    // Deep enough, it is taken without them once all have been asked in vain; no sooner.
    let respond = |sync: &mut Sync<u16>, chain: &Chain, id: u64, at: u64| {
        let data = data.clone();
        let out = sync.handle(answer(1, id, Response::Blocks(vec![Some(data.clone())])), at, chain);
        out.contains(&SyncAction::ImportBlock { peer: 1, hash, data })
    };
    sync.handle(Input::TimerFired(Timer::Wake), 1000, &chain);
    assert!(!respond(&mut sync, &chain, 2, 1001), "it may not lack them");
    chain.may_lack_attachments.insert(hash);
    sync.handle(Input::TimerFired(Timer::Wake), 3001, &chain);
    assert!(respond(&mut sync, &chain, 3, 3002));
    let mut fresh = Sync::new(&NETWORK, [7; 32]);
    fresh.handle(connected(1), 0, &chain);
    fresh.handle(answer(1, 0, status(&headers[0])), 0, &chain);
    assert!(!respond(&mut fresh, &chain, 1, 1), "another peer might have had them");
}

#[test]
fn no_more_blocks_are_asked_for_than_validation_takes() {
    let headers = extend(&genesis(), 100, 0);
    let mut chain = Chain::new();
    chain.add_headers(&headers);
    let mut sync = Sync::new(&NETWORK, [7; 32]);
    sync.handle(connected(1), 0, &chain);
    let mut out = sync.handle(answer(1, 0, status(&headers[99])), 0, &chain);
    let mut id = 0;
    while out.iter().any(|output| matches!(output, SyncAction::Send { .. })) {
        let blocks = headers[id * 16..][..16].iter().map(|header| Some(data_of(header))).collect();
        id += 1;
        out = sync.handle(answer(1, id as u64, Response::Blocks(blocks)), 0, &chain);
        out.iter().for_each(|output| {
            if let SyncAction::ImportBlock { hash, .. } = output {
                chain.validating.insert(*hash);
            }
        });
    }
    assert_eq!(chain.validating.len(), MAX_IN_VALIDATION);
    let done = chain.validating.pop_first().expect("32 are there");
    chain.add_body(done);
    let out = sync.handle(Input::BlocksChanged, 0, &chain);
    assert!(matches!(out[..], [SyncAction::Send { request: Request::Blocks { .. }, .. }, SyncAction::SetTimer { .. }]));
}

#[test]
fn a_long_chain_comes_in_batches() {
    let mut simulator = Simulator::new();
    let headers = extend(&genesis(), 4500, 0);
    simulator.connect(1, &headers, Mode::Honest);
    simulator.run_until_synced(60_000);
    assert_eq!(simulator.chain.connected(), 4500);
    assert_eq!(simulator.asked_headers, 3);
    assert_eq!(simulator.penalties, []);
}

/// The longer fork has over two batches below its fork point's end: continues from the batch's last, not from our tip.
#[test]
fn a_long_fork_with_less_work_at_first() {
    let mut simulator = Simulator::new();
    let ours = extend(&genesis(), 4100, 0);
    simulator.connect(1, &ours, Mode::Honest);
    simulator.run_until_synced(60_000);
    let theirs = extend(&genesis(), 4200, 1);
    simulator.connect(2, &theirs, Mode::Honest);
    simulator.run_for(100); // until its status is here
    simulator.run_until_synced(60_000);
    assert_eq!(simulator.chain.tip(), theirs[4199].hash());
    assert_eq!(simulator.chain.connected(), 4200);
    assert_eq!(simulator.penalties, []);
}

#[test]
fn a_stalling_peer_gives_way_to_the_next() {
    let mut simulator = Simulator::new();
    let headers = extend(&genesis(), 40, 0);
    simulator.connect(1, &headers, Mode::StallsData);
    simulator.connect(2, &headers, Mode::Honest);
    let took = simulator.run_until_synced(60_000);
    assert_eq!(simulator.chain.connected(), 40);
    assert!((REQUEST_TIMEOUT..2 * REQUEST_TIMEOUT + 2000).contains(&took), "{took} ms");
    assert!(simulator.penalties.iter().all(|penalty| *penalty == (1, Offence::Stalled)));
}

#[test]
fn a_liar_about_work_is_found_out() {
    let mut simulator = Simulator::new();
    let headers = extend(&genesis(), 20, 0);
    simulator.connect(1, &headers, Mode::ClaimsTooMuch);
    simulator.connect(2, &headers, Mode::Honest);
    simulator.run_until_synced(5_000);
    assert_eq!(simulator.chain.connected(), 20);
    assert_eq!(simulator.penalties, []);
    simulator.run_for(2 * STATUS_INTERVAL + 1000);
    assert!(simulator.penalties.contains(&(1, Offence::UnprovenWork)));
    assert_eq!(simulator.sync.state(), SyncState::Synced);
}

#[test]
fn half_from_one_and_half_from_the_other() {
    let mut simulator = Simulator::new();
    let headers = extend(&genesis(), 100, 0);
    simulator.connect(1, &headers, Mode::ServesParity(0));
    simulator.connect(2, &headers, Mode::ServesParity(1));
    simulator.run_until_synced(20_000);
    assert_eq!(simulator.chain.connected(), 100);
    assert_eq!(simulator.penalties, []);
}

#[test]
fn wrong_data_are_asked_for_elsewhere() {
    let mut simulator = Simulator::new();
    let headers = extend(&genesis(), 30, 0);
    simulator.connect(1, &headers, Mode::WrongData);
    simulator.connect(2, &headers, Mode::Honest);
    simulator.run_until_synced(20_000);
    assert_eq!(simulator.chain.connected(), 30);
}

#[test]
fn a_vanishing_peer_and_none_left() {
    let mut simulator = Simulator::new();
    let headers = extend(&genesis(), 200, 0);
    simulator.connect(1, &headers, Mode::Honest);
    simulator.run_for(200);
    assert!(simulator.chain.connected() < 200);
    simulator.disconnect(1);
    assert_eq!(simulator.sync.state(), SyncState::Waiting);
    simulator.run_for(20_000);
    assert!(simulator.chain.connected() < 200);
    simulator.connect(2, &headers, Mode::Honest);
    simulator.run_until_synced(20_000);
    assert_eq!(simulator.chain.connected(), 200);
    assert_eq!(simulator.penalties, []);
}

#[test]
fn a_withheld_block_appears_later() {
    let mut simulator = Simulator::new();
    let headers = extend(&genesis(), 50, 0);
    let withheld = headers[24].hash();
    simulator.withheld.insert(withheld);
    simulator.connect(1, &headers, Mode::Honest);
    simulator.connect(2, &headers, Mode::Honest);
    simulator.run_for(100_000);
    assert_eq!(simulator.chain.connected(), 24);
    assert_eq!(simulator.sync.state(), SyncState::Unavailable { hash: withheld });
    simulator.withheld.clear();
    simulator.run_until_synced(MAX_BACKOFF + 2000);
    assert_eq!(simulator.chain.connected(), 50);
    assert_eq!(simulator.penalties, []);
}

#[test]
fn a_heavier_chain_appears_half_way() {
    let mut simulator = Simulator::new();
    let ours = extend(&genesis(), 300, 0);
    simulator.connect(1, &ours, Mode::Honest);
    simulator.run_for(300);
    let half = simulator.chain.connected();
    assert!((1..300).contains(&half), "{half}");
    let mut theirs = ours[..100].to_vec();
    theirs.extend(extend(&ours[99], 250, 7));
    simulator.connect(2, &theirs, Mode::Honest);
    simulator.run_until_synced(30_000);
    assert_eq!(simulator.chain.tip(), theirs[349].hash());
    assert_eq!(simulator.chain.connected(), 350);
    assert_eq!(simulator.penalties, []);
}

/// Announced with an unknown parent: asked for headers although its status has not told of them.
#[test]
fn an_announcement_ahead_of_us_brings_headers() {
    let mut simulator = Simulator::new();
    let headers = extend(&genesis(), 10, 0);
    simulator.connect(1, &headers[..5], Mode::Honest);
    simulator.run_until_synced(5_000);
    simulator.grow(1, &headers);
    let hash = headers[9].hash();
    simulator.input(Input::Announced { peer: 1, hash, height: 10, parent: Parent::Unknown });
    simulator.run_until_synced(5_000);
    assert_eq!(simulator.chain.connected(), 10);
}

/// Each row: headers of a peer, the work that is asked for, and how often it is asked: in two passes unless the first
/// batch has enough.
#[test]
fn headers_are_counted_before_they_are_stored() {
    for (count, minimum, asked) in [(4500, 0, 3), (1500, 1501, 1), (4500, 2001, 3), (4500, 2002, 5), (4500, 4501, 6)] {
        let mut simulator = Simulator::new();
        simulator.chain.minimum_work = U256::from(minimum);
        simulator.connect(1, &extend(&genesis(), count, 0), Mode::Honest);
        simulator.run_until_synced(600_000);
        assert_eq!(simulator.chain.connected(), count as u64);
        assert_eq!((simulator.asked_headers, simulator.penalties.len()), (asked, 0), "{count} headers of {minimum}");
    }
}

#[test]
fn chains_of_little_work_are_never_stored() {
    let mut simulator = Simulator::new();
    simulator.chain.minimum_work = U256::from(5000);
    simulator.connect(1, &extend(&genesis(), 4998, 0), Mode::Honest);
    simulator.run_for(2 * STATUS_INTERVAL);
    assert_eq!((simulator.asked_headers, simulator.chain.len()), (0, 1), "by its own word it has not enough");
    simulator.connect(2, &extend(&genesis(), 4998, 1), Mode::ClaimsTooMuch);
    simulator.run_for(3 * STATUS_INTERVAL);
    assert_eq!(simulator.chain.len(), 1);
    assert!(simulator.asked_headers >= 6, "three batches for each claim");
    assert!(simulator.penalties.iter().all(|penalty| *penalty == (2, Offence::UnprovenWork)));
    assert!(!simulator.penalties.is_empty());
    // Somebody who has enough is found all the same.
    let best = extend(&genesis(), 6000, 2);
    simulator.connect(3, &best, Mode::Honest);
    simulator.run_for(60_000);
    assert_eq!(simulator.chain.tip(), best[5999].hash());
    assert_eq!(simulator.chain.len(), 6001);
}

/// It shows enough work, and when it is asked again has another chain, as if that one had no work.
#[test]
fn another_chain_in_the_second_pass_is_not_stored() {
    let mut simulator = Simulator::new();
    simulator.chain.minimum_work = U256::from(4000);
    simulator.connect(1, &extend(&genesis(), 4500, 0), Mode::Switches);
    simulator.run_for(5_000);
    assert!(simulator.asked_headers >= 3);
    assert_eq!(simulator.chain.len(), 1);
    assert_eq!(simulator.penalties, [], "it may have been a reorganisation");
}

/// Others follow rules that this node does not know, from a height on: their headers are followed, none is stored, nobody is to blame, and
/// the node's own chain goes on. Each row: how many blocks both share, how many of the other version follow, how many our own chain has
/// on top, what work a chain must have to be stored, and how far the others are followed: to their end, or until they have more than we.
#[test]
fn headers_of_another_version_are_followed_and_not_stored() {
    let rows = [
        ("a little ahead", 10, 3, 1, 0, Some(3)),
        ("behind", 10, 3, 5, 0, None),
        ("far ahead", 10, 9_000, 5, 0, Some(2_000)),
        ("far back, and more than is asked for", 10, 4_500, 2_500, 2_400, Some(4_000 - 10)),
        ("from the start", 0, 3_000, 100, 2_500, Some(3_000)),
    ];
    for (what, shared, other, own, minimum, followed) in rows {
        let ours = extend(&genesis(), shared + own, 0);
        let fork = if shared == 0 { genesis() } else { ours[shared - 1].clone() };
        let theirs = [&ours[..shared], &extend_in(&fork, other, 1, 7)].concat();
        let mut simulator = Simulator::new();
        simulator.connect(1, &ours, Mode::Honest);
        simulator.run_for(20_000);
        assert_eq!(simulator.chain.connected() as usize, shared + own);
        simulator.chain.minimum_work = U256::from(minimum);
        simulator.connect(2, &theirs, Mode::Honest);
        simulator.run_for(20_000);
        assert_eq!(simulator.penalties, [], "{what}");
        assert_eq!(simulator.chain.len(), shared + own + 1, "{what}");
        let work = |blocks: usize| Work(work((shared + blocks) as u64));
        let expected = followed.map(|blocks| (2, 7, shared as u64 + 1, fork.hash(), work(blocks)));
        assert_eq!(simulator.others.first().copied(), expected, "{what}");
        assert!(simulator.others.len() <= 2, "{what}: once a status");
    }
}

/// Who sends cheap headers of another version could have made them in no time: it is to blame, as for any headers that break a rule. So is
/// who breaks another rule in them.
#[test]
fn cheap_headers_of_another_version_are_their_senders_fault() {
    let ours = extend(&genesis(), 100, 0);
    let cheap = extend_in(&genesis(), 50, 1, 7);
    let mut broken = extend_in(&genesis(), 200, 1, 7);
    broken[150].time = 0;
    let repaired = extend_in(&broken[150], 100, 1, 7);
    broken.truncate(151);
    broken.extend(repaired);
    for (chain, mode) in [(&cheap, Mode::ClaimsTooMuch), (&broken, Mode::Honest)] {
        let mut simulator = Simulator::new();
        simulator.connect(1, &ours, Mode::Honest);
        simulator.run_for(5_000);
        simulator.chain.minimum_work = work(80);
        simulator.connect(2, chain, mode);
        simulator.run_for(5_000);
        assert_eq!(simulator.penalties.first(), Some(&(2, Offence::InvalidHeader)));
        assert_eq!((simulator.others.len(), simulator.chain.len()), (0, 101));
    }
}

#[test]
fn what_the_second_pass_lets_through() {
    let headers = extend(&genesis(), 1000, 0);
    let start = Chain::new().place(&genesis().hash()).expect("genesis");
    let network = &NETWORK;
    let minimum = work(900);
    let counted = |salt| {
        let mut presync = Presync::new(salt, start);
        assert_eq!(presync.take(network, &headers[..500], true, minimum), Progress::More);
        assert_eq!(presync.last().hash, headers[499].hash());
        assert_eq!(presync.take(network, &headers[500..950], true, minimum), Progress::More);
        assert_eq!(presync.last().hash, genesis().hash(), "from the start again");
        presync
    };
    let mut presync = counted([1; 32]);
    assert_eq!(presync.take(network, &headers[..CONFIRMING], true, minimum), Progress::More);
    let proven = Progress::Proven(headers[..300 - CONFIRMING].to_vec());
    assert_eq!(presync.take(network, &headers[CONFIRMING..300], true, minimum), proven);
    let done = Progress::Done(headers[300 - CONFIRMING..900].to_vec());
    assert_eq!(presync.take(network, &headers[300..900], true, minimum), done);

    // 64 salts see 128 other headers each: all but one in 2^128 notice.
    let mut others = headers[..200].to_vec();
    others.extend(extend(&headers[199], 300, 5));
    for salt in 0..64 {
        let mut presync = counted([salt; 32]);
        assert_eq!(presync.take(network, &others, true, minimum), Progress::Changed);
    }
    assert_eq!(counted([2; 32]).take(network, &headers[..500], false, minimum), Progress::Changed, "it has shrunk");
    let mut late = headers[0].clone();
    late.time = 0;
    assert!(matches!(counted([3; 32]).take(network, &[late], true, minimum), Progress::Broken(_)));
    let mut short = Presync::new([4; 32], start);
    assert_eq!(short.take(network, &headers[..500], false, minimum), Progress::Poor);
    assert_eq!(short.last().work.0, work(500));
}

#[test]
fn several_peers_serve_at_once() {
    let mut simulator = Simulator::new();
    let headers = extend(&genesis(), 2000, 0);
    for peer in 1..=4 {
        simulator.connect(peer, &headers, Mode::Honest);
    }
    simulator.run_until_synced(60_000);
    assert_eq!(simulator.most_requests, MAX_BLOCK_REQUESTS);
    assert!(simulator.served.values().all(|served| *served >= 300), "{:?}", simulator.served);
    assert_eq!(simulator.served.values().sum::<usize>(), 2000, "each block comes once");
    assert_eq!(simulator.penalties, []);
}

/// Eight seconds for each response are not misbehaviour. The others do not wait for it, and it gets less to do.
#[test]
fn a_slow_peer_holds_up_nobody() {
    let mut simulator = Simulator::new();
    let headers = extend(&genesis(), 3000, 0);
    simulator.connect(1, &headers, Mode::Slow);
    simulator.connect(2, &headers, Mode::Honest);
    simulator.connect(3, &headers, Mode::Honest);
    let took = simulator.run_until_synced(60_000);
    assert_eq!(simulator.chain.connected(), 3000);
    assert!(took < 15_000, "{took} ms, of which validation is 6000");
    assert_eq!(simulator.penalties, []);
    assert!(simulator.served.get(&1).is_none_or(|served| *served <= 100), "{:?}", simulator.served);
}

/// Where everybody is slow, it is our own line: patience grows, and little is asked for twice.
#[test]
fn many_that_claim_everything_and_say_nothing_do_not_hold_up_headers() {
    let chain = extend(&genesis(), 50, 0);
    let mut simulator = Simulator::new();
    for peer in 0..12 {
        simulator.connect(peer, &chain, Mode::ClaimsAndStalls);
    }
    simulator.connect(200, &chain, Mode::Honest);
    // Each of them is asked at most once before the one that has not failed; what they claim stays to be seen.
    simulator.run_for(12 * REQUEST_TIMEOUT + 60_000);
    assert_eq!(simulator.chain.connected(), 50);
}

#[test]
fn fewer_requests_are_under_way_when_they_time_out() {
    let chain = extend(&genesis(), 300, 0);
    let mut simulator = Simulator::new();
    for peer in 0..4 {
        simulator.connect(peer, &chain, Mode::Honest);
    }
    simulator.run_until_synced(10_000);
    assert_eq!(simulator.sync.line.requests(), MAX_BLOCK_REQUESTS);
    // Nobody's blocks come in time any more, as on a line that is too slow for all of them at once.
    let longer = [chain.clone(), extend(chain.last().unwrap(), 300, 0)].concat();
    for peer in 0..4 {
        simulator.disconnect(peer);
        simulator.connect(10 + peer, &longer, Mode::StallsBlocks);
    }
    simulator.run_for(60_000);
    assert_eq!(simulator.sync.line.requests(), 1);
    simulator.connect(30, &longer, Mode::Honest);
    simulator.run_until_synced(120_000);
    assert_eq!(simulator.sync.line.requests(), MAX_BLOCK_REQUESTS, "as blocks come, more are asked for again");
}

#[test]
fn patience_grows_where_all_are_slow() {
    let mut simulator = Simulator::new();
    let headers = extend(&genesis(), 600, 0);
    for peer in 1..=3 {
        simulator.connect(peer, &headers, Mode::Slow);
    }
    simulator.run_until_synced(400_000);
    assert_eq!(simulator.chain.connected(), 600);
    let served: usize = simulator.served.values().sum();
    assert!(served < 900, "{served} blocks for 600");
    assert_eq!(simulator.penalties, []);
}

#[test]
fn the_window_does_not_move_past_a_withheld_block() {
    let mut simulator = Simulator::new();
    let headers = extend(&genesis(), 2000, 0);
    simulator.withheld.insert(headers[9].hash());
    simulator.connect(1, &headers, Mode::Honest);
    simulator.connect(2, &headers, Mode::Honest);
    simulator.run_for(60_000);
    let served: usize = simulator.served.values().sum();
    assert_eq!((simulator.chain.connected(), served), (9, 9 + WINDOW - 1));
    assert_eq!(simulator.sync.state(), SyncState::Unavailable { hash: headers[9].hash() });
}

#[test]
fn a_restart_at_any_point_resumes() {
    let headers = extend(&genesis(), 2500, 0);
    for minimum in [0, 2400] {
        let mut simulator = Simulator::new();
        simulator.chain.minimum_work = U256::from(minimum);
        simulator.connect(1, &headers, Mode::Honest);
        simulator.connect(2, &headers, Mode::Honest);
        for round in 0..40 {
            simulator.run_for(17 + 31 * round);
            simulator.restart();
        }
        simulator.run_until_synced(60_000);
        assert_eq!(simulator.chain.connected(), 2500);
        assert_eq!(simulator.penalties, []);
    }
}

/// Random peers, of whom one is honest, some vanish, and our own node restarts: always the heaviest chain, and never a
/// penalty for the honest.
#[test]
fn one_honest_peer_is_enough() {
    for seed in 0..60 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut simulator = Simulator::new();
        let best = extend(&genesis(), random.random_range(1..400), 0);
        let honest = random.random_range(1..6);
        for peer in 1..6 {
            let fork = random.random_range(0..best.len());
            let parent = if fork == 0 { genesis() } else { best[fork - 1].clone() };
            let mut chain = best[..fork].to_vec();
            chain.extend(extend(&parent, random.random_range(0..=best.len() - fork), u64::from(peer)));
            let mode = match random.random_range(0..9) {
                0 => Mode::StallsData,
                1 => Mode::StallsAll,
                2 => Mode::ClaimsTooMuch,
                3 => Mode::ServesParity(random.random_range(0..2)),
                4 => Mode::WrongData,
                5 => Mode::Refuses,
                6 => Mode::Slow,
                7 => Mode::Switches,
                _ => Mode::Honest,
            };
            if peer == honest {
                simulator.connect(peer, &best, Mode::Honest);
            } else {
                simulator.connect(peer, &chain, mode);
                if mode == Mode::Honest {
                    simulator.honest.insert(peer);
                }
            }
            simulator.run_for(random.random_range(0..500));
            match random.random_range(0..10) {
                0 => simulator.restart(),
                1 if peer != honest => simulator.disconnect(peer),
                _ => {}
            }
        }
        simulator.honest.insert(honest);
        simulator.run_for(200_000);
        assert_eq!(simulator.chain.connected(), best.len() as u64, "seed {seed}");
        assert!(simulator.penalties.iter().all(|(peer, _)| !simulator.honest.contains(peer)), "seed {seed}");
    }
}
