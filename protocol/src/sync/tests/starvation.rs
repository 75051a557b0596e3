//! Liars that break no rule beside one honest peer: those that change their identities every few seconds, and those that
//! stay and are slow. What they do costs the honest peer's speed at most half.

use super::simulator::Churn;
use super::*;

const BLOCKS: usize = 3_000;
const HONEST: u16 = 1;
/// The liars' address group.
const THEIRS: u64 = 7;
/// Every kind of liar.
const LIARS: [Mode; 7] = [
    Mode::ClaimsAndStalls,
    Mode::KnownLate,
    Mode::Trickles,
    Mode::Lacks,
    Mode::LacksLate,
    Mode::WrongData,
    Mode::Turns,
];

static CHAIN: std::sync::LazyLock<Vec<Header>> = std::sync::LazyLock::new(|| extend(&genesis(), BLOCKS, 0));

/// Milliseconds that a sync takes with nobody but an honest peer.
fn undisturbed(mode: Mode, blocks: usize) -> u64 {
    let mut simulator = Simulator::new();
    simulator.connect(HONEST, &CHAIN[..blocks], mode);
    simulator.run_until_connected(blocks as u64, 10_000_000).expect("nobody is in its way")
}

/// Milliseconds that a sync takes beside others.
fn takes(simulator: &mut Simulator, blocks: usize, limit: u64, what: &str) -> u64 {
    let took = simulator.run_until_connected(blocks as u64, limit);
    let connected = simulator.chain.connected();
    let took = took.unwrap_or_else(|| panic!("{what}: {connected} of {blocks} blocks after {limit} ms"));
    assert!(simulator.penalties.iter().all(|(peer, _)| *peer != HONEST), "{what}");
    took
}

/// Eight identities at a time, of each of which another takes the place after a while.
fn churn(simulator: &mut Simulator, random: &mut ChaCha8Rng, mode: impl Fn(u64) -> Mode, group: impl Fn(u64) -> u64) {
    for number in 0..8u64 {
        let direction = Direction::Inbound;
        let churn =
            Churn { mode: mode(number), group: group(number), direction, stay: random.random_range(2_000..4_000) };
        simulator.churn(&CHAIN, churn, random.random_range(1..churn.stay));
    }
}

#[test]
fn churning_liars_beside_an_honest_peer() {
    let limit = 2 * undisturbed(Mode::Honest, BLOCKS);
    for (seed, mode) in (0..2).flat_map(|seed| LIARS.map(|mode| (seed, mode))) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut simulator = Simulator::new();
        churn(&mut simulator, &mut random, |_| mode, |_| THEIRS);
        // They are there first.
        simulator.run_for(random.random_range(0..20_000));
        simulator.connect(HONEST, &CHAIN, Mode::Honest);
        takes(&mut simulator, BLOCKS, limit, &format!("{mode:?}, seed {seed}"));
    }
}

#[test]
fn two_liars_that_stay() {
    let limit = 2 * undisturbed(Mode::Honest, BLOCKS);
    for (mode, direction) in LIARS.into_iter().flat_map(|mode| [(mode, Direction::Inbound), (mode, Direction::Dialled)])
    {
        let mut simulator = Simulator::new();
        for liar in 2..4 {
            simulator.connect_from(liar, &CHAIN, mode, THEIRS, direction);
        }
        simulator.connect(HONEST, &CHAIN, Mode::Honest);
        takes(&mut simulator, BLOCKS, limit, &format!("{mode:?}, {direction:?}"));
        // Their claims do not stay unpunished.
        simulator.run_for(300_000);
        let is_of_headers = matches!(mode, Mode::ClaimsAndStalls | Mode::Trickles | Mode::KnownLate);
        if is_of_headers {
            assert!(simulator.penalties.iter().any(|(peer, _)| *peer == 2 || *peer == 3), "{mode:?}");
        }
    }
}

#[test]
fn liars_of_every_kind_from_one_group_or_many() {
    let limit = 2 * undisturbed(Mode::Honest, BLOCKS);
    for seed in 0..4 {
        for many in [false, true] {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let mut simulator = Simulator::new();
            let kind = |number: u64| LIARS[(number + seed) as usize % LIARS.len()];
            churn(&mut simulator, &mut random, kind, |number| if many { number } else { THEIRS });
            for liar in 2..6 {
                let group = if many { 100 + u64::from(liar) } else { THEIRS };
                simulator.connect_from(liar, &CHAIN, kind(u64::from(liar)), group, Direction::Inbound);
            }
            simulator.run_for(random.random_range(0..5_000));
            simulator.connect(HONEST, &CHAIN, Mode::Honest);
            takes(&mut simulator, BLOCKS, limit, &format!("seed {seed}, many groups: {many}"));
        }
    }
}

/// Nobody was dialled. It takes a while to find the honest peer, longest where it comes from the liars' own group; then the
/// sync goes on at half its speed at least.
#[test]
fn an_honest_peer_that_dialled_us_is_found() {
    let undisturbed = undisturbed(Mode::Honest, BLOCKS);
    for (seed, mode) in (0..2).flat_map(|seed| LIARS.map(|mode| (seed, mode))) {
        for (group, search) in [(1, 10_000), (THEIRS, 60_000)] {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let mut simulator = Simulator::new();
            churn(&mut simulator, &mut random, |_| mode, |_| THEIRS);
            simulator.run_for(random.random_range(0..20_000));
            simulator.connect_from(HONEST, &CHAIN, Mode::Honest, group, Direction::Inbound);
            let what = format!("{mode:?}, seed {seed}, group {group}");
            takes(&mut simulator, BLOCKS, search + 2 * undisturbed, &what);
        }
    }
}

#[test]
fn an_honest_peer_that_dialled_us_beside_liars_of_many_groups() {
    let undisturbed = undisturbed(Mode::Honest, BLOCKS);
    for (seed, mode) in (0..2).flat_map(|seed| LIARS.map(|mode| (seed, mode))) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut simulator = Simulator::new();
        churn(&mut simulator, &mut random, |_| mode, |number| number);
        for liar in 2..6 {
            simulator.connect_from(liar, &CHAIN, mode, u64::from(liar), Direction::Inbound);
        }
        simulator.connect_from(HONEST, &CHAIN, Mode::Honest, 99, Direction::Inbound);
        takes(&mut simulator, BLOCKS, 60_000 + 2 * undisturbed, &format!("{mode:?}, seed {seed}"));
    }
}

/// The honest peer takes four seconds for everything. Others that bring nothing do not make it less welcome.
#[test]
fn an_honest_peer_on_a_bad_line_is_not_starved() {
    let blocks = 600;
    let limit = 2 * undisturbed(Mode::Sluggish, blocks);
    for mode in LIARS {
        for direction in [Direction::Dialled, Direction::Inbound] {
            let mut random = ChaCha8Rng::seed_from_u64(9);
            let mut simulator = Simulator::new();
            churn(&mut simulator, &mut random, |_| mode, |_| THEIRS);
            for liar in 2..4 {
                simulator.connect_from(liar, &CHAIN[..blocks], mode, THEIRS, Direction::Inbound);
            }
            simulator.connect_from(HONEST, &CHAIN[..blocks], Mode::Sluggish, 1, direction);
            takes(&mut simulator, blocks, limit, &format!("{mode:?}, {direction:?}"));
        }
    }
}

/// Blocks deep enough are taken without attachments once nobody has these. Who is silent is not waited for.
#[test]
fn pruned_blocks_beside_silent_peers() {
    let mut simulator = Simulator::new();
    simulator.chain.may_lack_attachments = CHAIN[..300].iter().map(Header::hash).collect();
    for liar in 2..5 {
        simulator.connect_from(liar, &CHAIN[..300], Mode::StallsBlocks, u64::from(liar), Direction::Inbound);
    }
    simulator.connect(HONEST, &CHAIN[..300], Mode::Pruned);
    takes(&mut simulator, 300, 120_000, "pruned");
}

/// A liar announces blocks that nobody knows, again and again, and takes its time to have no headers for them. What the honest
/// announce is here at once all the same.
#[test]
fn announcements_that_lead_nowhere_hold_up_nobody() {
    let mut simulator = Simulator::new();
    simulator.connect_from(2, &[], Mode::LacksLate, THEIRS, Direction::Inbound);
    simulator.connect_from(HONEST, &CHAIN[..1], Mode::Honest, 1, Direction::Inbound);
    simulator.run_for(1_000);
    for blocks in 2..60 {
        for _ in 0..5 {
            let hash = BlockHash([9; 32]);
            simulator.input(Input::Announced { peer: 2, hash, height: 9_999, parent: Parent::Unknown });
            simulator.run_for(1_000);
        }
        simulator.grow(HONEST, &CHAIN[..blocks]);
        let hash = CHAIN[blocks - 1].hash();
        simulator.input(Input::Announced { peer: HONEST, hash, height: blocks as u64, parent: Parent::Unknown });
        takes(&mut simulator, blocks, 2_000, "announced");
    }
}

/// Who has brought headers is asked for more before one that claims more and has not.
#[test]
fn what_was_brought_counts_and_not_what_is_claimed() {
    let mut simulator = Simulator::new();
    simulator.connect_from(9, &CHAIN[..10], Mode::Honest, 9, Direction::Inbound);
    simulator.run_until_connected(10, 1_000).expect("nobody is in its way");
    simulator.connect_from(2, &[], Mode::ClaimsAndStalls, THEIRS, Direction::Inbound);
    simulator.grow(9, &CHAIN[..20]);
    simulator.input(Input::Announced { peer: 9, hash: CHAIN[19].hash(), height: 20, parent: Parent::Unknown });
    // The liar's status is not here yet: both are candidates from now on.
    let asked = simulator.asked_headers;
    let took = simulator.run_until_connected(20, 1_000).expect("the liar is not waited for");
    assert!(took < 300 && simulator.asked_headers <= asked + 1, "{took} ms");
}

/// Time in milliseconds may begin anywhere: what sync does is the same, only later.
#[test]
fn time_begins_at_any_number() {
    let run = |start: u64| {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let mut simulator = Simulator::starting_at(start);
        churn(&mut simulator, &mut random, |number| LIARS[number as usize % LIARS.len()], |_| THEIRS);
        simulator.connect(HONEST, &CHAIN[..500], Mode::Honest);
        let took = simulator.run_until_connected(500, 60_000);
        (took, simulator.penalties, simulator.served)
    };
    let expected = run(0);
    assert!(expected.0.is_some());
    for start in [1, 123_456_789, 1_760_000_000_000, u64::MAX / 2] {
        assert_eq!(run(start), expected, "beginning at {start}");
    }
}
