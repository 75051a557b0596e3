//! The machine by hand, and among peers on virtual time.

mod simulator;
mod world;

use simulator::{LATENCY, Mode, Simulator};
use world::{Block, NETWORK, Out, Tested, connected, connected_from, mine, network, short, task, unmine, wtxid};

use ocelli_consensus::block::{Answer, BlockShortId};
use ocelli_consensus::rules::expected_target;
use ocelli_consensus::{CompactTarget, Header, Network, RuleError, Target, U256, WtxId};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::message::{MAX_INDEXES, Request, Response, Submission};
use crate::origin::{Direction, FADE, Group};
use crate::sync::Failure;

/// How long a peer is waited for that has answered before.
fn patience(transactions: usize, lateness: u32) -> u64 {
    fetch::patience(transactions, lateness, MAX_PATIENCE)
}

fn report(gossip: u32, verdict: GossipVerdict) -> Out {
    AssemblyAction::Report { gossip, verdict }
}

fn question(peer: u8, id: u64, block: &Block, indexes: &[u32]) -> Out {
    let request = Request::Transactions { block: block.hash(), indexes: indexes.to_vec() };
    AssemblyAction::Send { peer, id, request }
}

fn complete(block: &Block, from: u8) -> Out {
    AssemblyAction::Complete { hash: block.hash(), from, block: block.assembled() }
}

fn in_blocks(numbers: impl IntoIterator<Item = u64>) -> Out {
    AssemblyAction::InBlocks(numbers.into_iter().map(short).collect())
}

fn answer(block: &Block, indexes: &[u32]) -> Result<Response, Failure> {
    Ok(Response::Transactions(block.submissions(indexes).into_iter().map(Some).collect()))
}

fn lacks() -> Result<Response, Failure> {
    Ok(Response::Transactions(Vec::new()))
}

fn height(peer: u8, height: u64) -> Input<u8, u32> {
    Input::Height { peer, height }
}

/// One peer, one block with three tasks, one of which is here: every output, in order.
#[test]
fn a_whole_block_by_hand() {
    let mut tested = Tested::new([1]);
    let block = Block::on(&tested.genesis(), 0..3, 0);
    tested.world.pend(1);
    let (hash, header) = (block.hash(), block.header.clone());
    let announced = Input::Announced { gossip: 0, from: 1, announcement: block.announcement() };
    assert_eq!(tested.handle(announced), [AssemblyAction::ImportHeader { from: 1, header: header.clone() }]);
    tested.world.insert(&header);
    assert_eq!(
        tested.handle(Input::HeaderImported { hash, verdict: HeaderVerdict::Stored }),
        [report(0, GossipVerdict::Accept), question(1, 0, &block, &[0, 2]), AssemblyAction::WakeAt(patience(2, 0)),]
    );
    assert!(tested.machine.is_put_together(&hash));
    assert_eq!(tested.machine.height(&1), Some(1));
    // Others that lack the same may have what is here.
    let here: Vec<_> = (0..4).map(|index| tested.machine.submission(&hash, index).cloned()).collect();
    assert_eq!(here, [None, Some(task(1)), None, None]);
    tested.now = 100;
    let response = Input::Response { peer: 1, id: 0, result: answer(&block, &[0, 2]) };
    assert_eq!(tested.handle(response), [complete(&block, 1), in_blocks([0, 2])]);
    assert!(!tested.machine.is_put_together(&hash));
    assert_eq!(tested.connect(&block), [in_blocks([])]);
    assert_eq!(tested.handle(Input::TipMoved), [], "it was gossiped");
}

/// What is here already is not asked for.
#[test]
fn a_block_whose_transactions_are_all_here_is_complete_at_once() {
    let mut tested = Tested::new([1]);
    let genesis = tested.genesis();
    let full = Block::on(&genesis, 0..3, 0);
    (0..3).for_each(|number| tested.world.pend(number));
    assert_eq!(tested.announce(1, &full), [report(0, GossipVerdict::Accept), complete(&full, 1)]);
    tested.connect(&full);
    // They have left the mempool with a block that this one competes with.
    let rival = Block::on(&genesis, (0..3).rev(), 1);
    assert_eq!(tested.announce(1, &rival), [report(1, GossipVerdict::Accept), complete(&rival, 1)]);
    tested.connect(&rival);
    let empty = Block::on(&full.header, [], 0);
    assert_eq!(tested.announce(1, &empty), [report(2, GossipVerdict::Accept), complete(&empty, 1)]);
}

/// Each row: an announcement, what is found of its header, and what follows.
#[test]
fn announcements_are_judged() {
    let genesis = Tested::new([]).genesis();
    let good = Block::on(&genesis, 0..2, 0);
    let unknown = Block::on(&good.header, 0..2, 0);
    let changed = |change: &dyn Fn(&mut Announcement)| {
        let mut announcement = good.announcement();
        change(&mut announcement);
        announcement
    };
    let other_body = changed(&|it| it.commitment.answers.0[0] ^= 1);
    let other_ids = changed(&|it| it.commitment.ids.swap(0, 1));
    let without_work = changed(&|it| it.header = unmine(it.header.clone()));
    let broken_rule = changed(&|it| {
        it.header.height = 7;
        it.header = mine(it.header.clone());
    });
    let no_target = changed(&|it| it.header.target = ocelli_consensus::CompactTarget(0));
    let ignored = |found: Vec<Out>| [vec![report(0, GossipVerdict::Ignore)], found].concat();
    let rejected = |announcement: &Announcement, offence| {
        let hash = announcement.header.hash();
        vec![report(0, GossipVerdict::Reject), AssemblyAction::Penalize { peer: 1, hash, offence }]
    };
    let (hash, parent) = (unknown.hash(), Parent::Unknown);
    let orphan = AssemblyAction::Announced { peer: 1, hash, height: 2, parent };
    let taken = || vec![report(0, GossipVerdict::Accept), question(1, 0, &good, &[0, 1])];
    let early = HeaderVerdict::Early { wait: 1 };
    let rows = [
        ("good", good.announcement(), Some(HeaderVerdict::Stored), taken()),
        ("other body", other_body.clone(), Some(HeaderVerdict::Stored), rejected(&other_body, Offence::BodyRoot)),
        ("other ids", other_ids.clone(), Some(HeaderVerdict::Stored), rejected(&other_ids, Offence::BodyRoot)),
        (
            "broken rule",
            broken_rule.clone(),
            Some(HeaderVerdict::Broken),
            rejected(&broken_rule, Offence::InvalidHeader),
        ),
        ("no work", without_work.clone(), None, rejected(&without_work, Offence::NoWork)),
        ("no target", no_target.clone(), None, rejected(&no_target, Offence::NoWork)),
        ("unwanted", good.announcement(), Some(HeaderVerdict::Unwanted), ignored(vec![])),
        ("early", good.announcement(), Some(early), ignored(vec![])),
        ("early, other body", other_body.clone(), Some(early), rejected(&other_body, Offence::BodyRoot)),
        ("orphan", unknown.announcement(), None, ignored(vec![orphan])),
    ];
    for (what, announcement, verdict, expected) in rows {
        let mut tested = Tested::new([1]);
        let (header, hash) = (announcement.header.clone(), announcement.header.hash());
        let mut out = tested.handle(Input::Announced { gossip: 0, from: 1, announcement });
        if let Some(verdict) = verdict {
            assert_eq!(out, [AssemblyAction::ImportHeader { from: 1, header: header.clone() }], "{what}");
            if verdict == HeaderVerdict::Stored {
                tested.world.insert(&header);
            }
            out = tested.handle(Input::HeaderImported { hash, verdict });
        }
        out.retain(|output| !matches!(output, AssemblyAction::WakeAt(_)));
        assert_eq!(out, expected, "{what}");
    }
}

/// Each row: what is known of a block whose header is here, whether it is passed on, and whether it is fetched.
#[test]
fn known_blocks_are_judged_without_their_header() {
    type Row = (&'static str, fn(&mut Tested, &Block), GossipVerdict, bool);
    let rows: [Row; 6] = [
        ("header only", |_, _| {}, GossipVerdict::Accept, true),
        ("in validation", |it, block| assert!(it.world.validating.insert(block.hash())), GossipVerdict::Accept, false),
        (
            "stored",
            |it, block| assert!(it.world.tree.set_status(block.hash(), BlockStatus::Received)),
            GossipVerdict::Accept,
            false,
        ),
        ("connected", |it, block| drop(it.connect(block)), GossipVerdict::Accept, false),
        (
            "invalid",
            |it, block| assert!(it.world.tree.set_status(block.hash(), BlockStatus::Invalid)),
            GossipVerdict::Ignore,
            false,
        ),
        ("far behind", |it, block| assert!(it.world.unworthy.insert(block.hash())), GossipVerdict::Ignore, false),
    ];
    for (what, prepare, verdict, is_fetched) in rows {
        let mut tested = Tested::new([1]);
        let block = Block::on(&tested.genesis(), 0..2, 0);
        tested.world.insert(&block.header);
        prepare(&mut tested, &block);
        let out = tested.announce(1, &block);
        assert_eq!(out[0], report(0, verdict), "{what}");
        assert_eq!(out.contains(&question(1, 0, &block, &[0, 1])), is_fetched, "{what}");
        // With another body it is not this block, whatever we know of it.
        let mut other = block.announcement();
        other.commitment.ids.pop();
        assert!(tested.announce_as(1, other).contains(&report(1, GossipVerdict::Reject)) || is_fetched, "{what}");
    }
}

/// What an unknown block's target promises is compared with our tip's: its own says nothing.
/// A machine whose best header is 16 blocks above its tip and has some 256 hashes of work: they came fast, and targets follow.
fn behind_hard_headers(peers: impl IntoIterator<Item = u8>) -> (Tested, Header) {
    let mut parameters = network(0x2100_ffff).parameters;
    (parameters.spacing, parameters.half_life) = (10, 18);
    let mut tested = Tested::in_network(&Network::new(parameters.clone(), vec![]), peers);
    let mut last = tested.genesis();
    for _ in 0..16 {
        let parent = tested.world.tree.get(&last.hash()).expect("inserted");
        let target = expected_target(&parameters, &parent, parent.anchor());
        last = mine(Header { parent: parent.hash, height: last.height + 1, time: last.time + 1, target, ..last });
        tested.world.insert(&last);
    }
    (tested, last)
}

/// A block on one that nobody knows.
fn orphan(target: CompactTarget, on: &Header) -> Block {
    let mut orphan = Block::on(&Block::on(on, [], 7).header, [], 0);
    orphan.header = mine(Header { target, ..orphan.header });
    orphan
}

#[test]
fn an_orphan_must_have_cost_something() {
    let (_, best) = behind_hard_headers([]);
    let easier = |factor: u64| Target(best.target.to_target().unwrap().0 * U256::from(factor)).to_compact_lossy();
    let rows = [
        (CompactTarget(0x2100_ffff), false),
        (easier(16), false),
        (easier(9), false),
        (easier(8), true),
        (easier(1), true),
    ];
    for (target, is_serious) in rows {
        let (mut tested, best) = behind_hard_headers([1]);
        let orphan = orphan(target, &best);
        let mut expected = vec![report(0, GossipVerdict::Ignore)];
        if is_serious {
            let (hash, height, parent) = (orphan.hash(), orphan.header.height, Parent::Unknown);
            expected.push(AssemblyAction::Announced { peer: 1, hash, height, parent });
        }
        assert_eq!(tested.announce(1, &orphan), expected, "{target}");
    }
}

/// Places among those that wait for their turn are few.
#[test]
fn what_has_cost_nothing_waits_for_no_turn() {
    let (mut tested, best) = behind_hard_headers(0..MAX_PARTIAL as u8);
    let hard = |parent: &Header, salt| Block::on(parent, [salt], salt);
    let mut rest = Vec::new();
    for peer in 0..MAX_PARTIAL as u8 {
        // So that each peer's next one would wait.
        let first = Block::on(&tested.genesis(), [u64::from(peer)], u64::from(peer));
        assert_eq!(tested.announce(peer, &first)[0], report(3 * u32::from(peer), GossipVerdict::Accept));
        let cheap =
            [orphan(CompactTarget(0x2100_ffff), &best), Block::on(&tested.genesis(), [99], 100 + u64::from(peer))];
        for (block, gossip) in cheap.iter().zip(3 * u32::from(peer) + 1..) {
            rest.extend(
                tested.announce(peer, block).into_iter().filter(|it| *it != report(gossip, GossipVerdict::Ignore)),
            );
        }
    }
    assert_eq!((rest, tested.machine.in_turn.len()), (vec![], 0));
    assert_eq!(tested.announce(3, &hard(&best, 50)), [], "it waits");
}

/// Whatever a header names: none of the network has a target that is easier than the genesis'.
#[test]
fn a_target_that_no_header_may_have_is_no_work() {
    let hard = network(0x2000_ffff);
    for (target, is_possible) in [(0x2001_0000, false), (0x2000_ffff, true)] {
        let mut tested = Tested::in_network(&hard, [1]);
        let orphan = orphan(CompactTarget(target), &tested.genesis());
        let hash = orphan.hash();
        let out = tested.announce(1, &orphan);
        let penalty = AssemblyAction::Penalize { peer: 1, hash, offence: Offence::NoWork };
        assert_eq!(out == [report(0, GossipVerdict::Reject), penalty], !is_possible, "{out:?}");
    }
}

/// A header that has cost something is announced once: with other bodies it would be another message each time.
#[test]
fn an_orphan_has_its_own_body() {
    let mut tested = Tested::new([1]);
    let orphan = orphan(tested.genesis().target, &tested.genesis());
    let mut other = orphan.announcement();
    other.commitment.answers.0[0] ^= 1;
    let penalty = AssemblyAction::Penalize { peer: 1, hash: orphan.hash(), offence: Offence::BodyRoot };
    assert_eq!(tested.announce_as(1, other), [report(0, GossipVerdict::Reject), penalty]);
}

#[test]
fn a_peers_next_block_waits_for_its_last_one() {
    let mut tested = Tested::new([1, 2]);
    let genesis = tested.genesis();
    let blocks: Vec<_> = (0..4).map(|salt| Block::on(&genesis, [salt], salt)).collect();
    assert_eq!(tested.announce(1, &blocks[0])[0], report(0, GossipVerdict::Accept));
    assert_eq!(tested.announce(1, &blocks[1]), [], "it waits");
    // A third is not kept; sync hears of it.
    let (hash, parent) = (blocks[2].hash(), Parent::Unknown);
    let expected = [report(2, GossipVerdict::Ignore), AssemblyAction::Announced { peer: 1, hash, height: 1, parent }];
    assert_eq!(tested.announce(1, &blocks[2]), expected);
    // Another peer has a turn of its own.
    assert_eq!(tested.announce(2, &blocks[3])[0], report(3, GossipVerdict::Accept));
    // Complete is not enough: it must be validated.
    assert_eq!(tested.respond(1, 0, answer(&blocks[0], &[0])), [complete(&blocks[0], 1), in_blocks([0])]);
    assert_eq!(tested.handle(Input::BlocksChanged), []);
    let out = tested.connect(&blocks[0]);
    assert_eq!(out, [in_blocks([]), report(1, GossipVerdict::Accept), question(1, 2, &blocks[1], &[0])]);
}

/// A turn ends, too, when a block is given up, when its peer goes, and when the block comes otherwise.
#[test]
fn a_turn_ends_with_its_block() {
    type End = fn(&mut Tested, &Block) -> Vec<Out>;
    let rows: [(&str, End); 4] = [
        ("given up", |it, _| it.run(ASSEMBLY_TIME)),
        ("gone", |it, _| {
            let out = it.handle(Input::PeerDisconnected(1));
            it.import(out)
        }),
        ("lacking", |it, _| it.respond(1, 0, lacks())),
        ("by sync", |it, block| it.connect(block)),
    ];
    for (what, end) in rows {
        let mut tested = Tested::new([1]);
        let genesis = tested.genesis();
        let (first, second) = (Block::on(&genesis, [1], 1), Block::on(&genesis, [2], 2));
        tested.announce(1, &first);
        assert_eq!(tested.announce(1, &second), []);
        assert!(end(&mut tested, &first).contains(&report(1, GossipVerdict::Accept)), "{what}");
    }
}

/// The same block from two peers, as two messages, is fetched once; the second has its turn for another.
#[test]
fn a_block_announced_twice_is_fetched_once() {
    let mut tested = Tested::new([1, 2]);
    let genesis = tested.genesis();
    let (block, other) = (Block::on(&genesis, 0..2, 0), Block::on(&genesis, [5], 1));
    tested.announce(1, &block);
    assert_eq!(tested.announce(2, &block), [report(1, GossipVerdict::Accept)]);
    assert_eq!(tested.announce(2, &other)[0], report(2, GossipVerdict::Accept));
}

/// Announcements that come while a header is being imported wait for that.
#[test]
fn one_header_is_imported_at_a_time() {
    let mut tested = Tested::new([1, 2]);
    let genesis = tested.genesis();
    let blocks = [Block::on(&genesis, [1], 1), Block::on(&genesis, [2], 2)];
    let announced = |gossip: u32, from| {
        let announcement = blocks[gossip as usize].announcement();
        Input::Announced { gossip, from, announcement }
    };
    let import = |from: u8| AssemblyAction::ImportHeader { from, header: blocks[from as usize - 1].header.clone() };
    assert_eq!(tested.handle(announced(0, 1)), [import(1)]);
    assert_eq!(tested.handle(announced(1, 2)), []);
    // An answer that nobody waits for means nothing.
    let verdict = HeaderVerdict::Broken;
    assert_eq!(tested.handle(Input::HeaderImported { hash: blocks[1].hash(), verdict }), []);
    let out = tested.handle(Input::HeaderImported { hash: blocks[0].hash(), verdict });
    let penalty = AssemblyAction::Penalize { peer: 1, hash: blocks[0].hash(), offence: Offence::InvalidHeader };
    assert_eq!(out, [report(0, GossipVerdict::Reject), penalty, import(2)]);
}

fn hold(tested: &mut Tested, from: u8, block: &Block, wait: u64) -> Vec<Out> {
    let gossip = 1_000 + u32::from(from);
    let out = tested.handle(Input::Announced { gossip, from, announcement: block.announcement() });
    assert!(matches!(out[..], [AssemblyAction::ImportHeader { .. }]), "{out:?}");
    tested.handle(Input::HeaderImported { hash: block.hash(), verdict: HeaderVerdict::Early { wait } })
}

/// A block from the future is held once, tried again, and put together when its time has come; peers are told when it is the
/// tip, for gossip has forgotten it.
#[test]
fn a_block_from_the_future_is_held_until_its_time() {
    let mut tested = Tested::new([1, 2]);
    let block = Block::on(&tested.genesis(), [1], 1);
    let import = |from| AssemblyAction::ImportHeader { from, header: block.header.clone() };
    let out = hold(&mut tested, 1, &block, 300);
    assert_eq!(out, [report(1_001, GossipVerdict::Ignore), AssemblyAction::WakeAt(300)]);
    // Said again, by whomever, it is held already: the first who said so is asked, and no header is checked again.
    for peer in [2, 1, 2] {
        let out = tested.announce(peer, &block);
        assert!(matches!(out[..], [AssemblyAction::Report { verdict: GossipVerdict::Ignore, .. }]), "{out:?}");
    }
    let mut other = block.announcement();
    other.commitment.transactions.0[0] ^= 1;
    let penalty = AssemblyAction::Penalize { peer: 2, hash: block.hash(), offence: Offence::BodyRoot };
    assert_eq!(tested.announce_as(2, other)[1..], [penalty]);
    assert_eq!(tested.machine.held.len(), 1);
    // The clock was set back meanwhile, and then on.
    tested.now = 300;
    assert_eq!(tested.handle(Input::Woken), [import(1)]);
    let early = HeaderVerdict::Early { wait: 3_600_000 };
    let out = tested.handle(Input::HeaderImported { hash: block.hash(), verdict: early });
    assert_eq!(out, [AssemblyAction::WakeAt(300 + HELD_RETRY)]);
    let out = tested.run(300 + HELD_RETRY);
    assert_eq!(out, [question(1, 0, &block, &[0])]);
    assert!(tested.machine.held.is_empty());
    assert_eq!(tested.respond(1, 0, answer(&block, &[0])), [complete(&block, 1), in_blocks([1])]);
    tested.connect(&block);
    let out = tested.handle(Input::TipMoved);
    assert!(matches!(out[..], [AssemblyAction::Tell { peer: 2, .. }]), "the first has it: {out:?}");
}

#[test]
fn of_blocks_from_the_future_the_next_are_held() {
    let mut tested = Tested::new(0..20);
    let genesis = tested.genesis();
    let blocks: Vec<_> = (0..20u64)
        .map(|number| {
            let mut block = Block::on(&genesis, [], 0);
            block.header.time += 100 - number;
            block.header = mine(block.header);
            block
        })
        .collect();
    for (peer, block) in (0..20).zip(&blocks) {
        hold(&mut tested, peer, block, 500);
    }
    let held: BTreeSet<_> = tested.machine.held.keys().copied().collect();
    assert_eq!(held, blocks[4..].iter().map(Block::hash).collect());
    // Sync brings one of them in before its time; that costs nobody anything.
    tested.world.insert(&blocks[19].header);
    tested.world.connect(blocks[19].hash(), blocks[19].data.clone());
    let out = tested.run(500);
    let completed = out.iter().filter(|output| matches!(output, AssemblyAction::Complete { .. }));
    assert_eq!((completed.count(), tested.machine.held.len()), (15, 0));
}

/// Who lets a question wait is not waited for: another is asked as well, and what comes first counts.
#[test]
fn a_silent_announcer_delays_a_block_by_half_a_second() {
    let mut tested = Tested::new([1, 2, 3, 4, 5]);
    let block = Block::on(&tested.genesis(), 0..2, 0);
    for (peer, told) in [(2, 0), (3, 1), (4, 1), (5, 1)] {
        tested.handle(height(peer, told));
    }
    let first = patience(2, 0);
    assert_eq!(tested.announce(1, &block)[1], question(1, 0, &block, &[0, 1]));
    assert_eq!(tested.run(first - 1), []);
    assert_eq!(tested.run(first), [question(3, 1, &block, &[0, 1])]);
    assert!(tested.machine.is_put_together(&block.hash()));
    // After a second sync may fetch the whole block; others are asked all the same, and an answer that comes first is taken.
    assert_eq!(tested.run(2 * first), [AssemblyAction::LeftToSync, question(4, 2, &block, &[0, 1])]);
    assert!(!tested.machine.is_put_together(&block.hash()));
    assert_eq!(tested.run(3 * first), [question(5, 3, &block, &[0, 1])]);
    assert_eq!(tested.run(4 * first), [question(2, 4, &block, &[0, 1])]);
    assert_eq!(tested.run(5 * first), [], "nobody is left");
    assert_eq!(tested.respond(3, 1, answer(&block, &[0, 1])), [complete(&block, 1), in_blocks(0..2)]);
    assert_eq!(tested.respond(1, 0, answer(&block, &[0, 1])), [], "once");
    tested.connect(&block);
    // Who is still silent is asked last next time, even what it has announced; who was late has longer.
    let next = Block::on(&block.header, [7], 0);
    assert_eq!(
        tested.announce(4, &next)[1],
        question(3, 5, &next, &[0]),
        "it was the faster of those that have answered"
    );
    let out = tested.run(tested.now + patience(1, 1));
    assert_eq!(out, [AssemblyAction::LeftToSync, question(1, 6, &next, &[0])], "a second without anything");
}

#[test]
fn what_takes_too_long_is_left_to_sync_alone() {
    let mut tested = Tested::new([1]);
    let block = Block::on(&tested.genesis(), 0..2, 0);
    tested.announce(1, &block);
    assert_eq!(tested.run(ASSEMBLY_TIME - 1), [AssemblyAction::LeftToSync]);
    assert_eq!(tested.machine.partial.len(), 1, "a late answer may be faster");
    assert_eq!(tested.run(ASSEMBLY_TIME), []);
    assert!(tested.machine.partial.is_empty());
    // Its turn has come back to the peer, which is not asked more than it may have open.
    let mut parent = block.header;
    for number in 1..6 {
        let block = Block::on(&parent, [10 + number], 0);
        let out = tested.announce(1, &block);
        let asked = out.iter().filter(|output| matches!(output, AssemblyAction::Send { .. })).count();
        assert_eq!(asked == 1, (number as usize) < MAX_QUESTIONS_PER_PEER, "{number}: {out:?}");
        tested.run(tested.now + ASSEMBLY_TIME);
        parent = block.header;
    }
    assert!(tested.machine.bringing.blocks.is_empty());
    tested.run(tested.now + QUESTION_TIME);
    tested.handle(Input::BlocksChanged);
    assert!(tested.machine.questions.is_empty());
}

/// Each row: how the announcer answers the question for two transactions, what it is blamed for, and what another is asked for at
/// once.
#[test]
fn another_is_asked_when_one_fails() {
    let block = Block::on(&Tested::new([]).genesis(), 0..2, 0);
    let mut wrong_attachment = block.submissions(&[0, 1]);
    wrong_attachment[1].attachment = Some([1].into());
    let mut no_attachment = block.submissions(&[0, 1]);
    no_attachment[0].attachment = None;
    let wrong = Some(Offence::WrongTransaction);
    let all = |submissions: Vec<Submission>| Ok(Response::Transactions(submissions.into_iter().map(Some).collect()));
    let some = |submissions| Ok(Response::Transactions(submissions));
    type Row<'a> = (&'a str, Result<Response, Failure>, Option<Offence>, &'a [u32]);
    let rows: [Row; 13] = [
        ("nothing", lacks(), None, &[0, 1]),
        ("one of two", answer(&block, &[0]), None, &[1]),
        ("the second of two", some(vec![None, Some(task(1))]), None, &[0]),
        ("neither", some(vec![None, None]), None, &[0, 1]),
        ("more than asked for", some(vec![None, None, Some(task(1))]), None, &[0, 1]),
        ("the first right", all(vec![task(0), task(5)]), wrong, &[1]),
        ("both wrong", all(vec![task(1), task(0)]), wrong, &[0, 1]),
        ("wrong attachment", all(wrong_attachment), wrong, &[1]),
        ("no attachment", all(no_attachment), wrong, &[0, 1]),
        ("ids", Ok(Response::TransactionIds(None)), None, &[0, 1]),
        ("another response", Ok(Response::NewTip), None, &[0, 1]),
        ("connection lost", Err(Failure::Network), None, &[0, 1]),
        ("no message", Err(Failure::Malformed), Some(Offence::WrongResponse), &[0, 1]),
    ];
    for (what, result, offence, rest) in rows {
        let mut tested = Tested::new([1, 2]);
        tested.handle(height(2, 1));
        tested.announce(1, &block);
        let penalty = offence.map(|offence| AssemblyAction::Penalize { peer: 1, hash: block.hash(), offence });
        let came: Vec<u64> = (0..2).filter(|place| !rest.contains(&(*place as u32))).collect();
        let told = (!came.is_empty()).then(|| in_blocks(came));
        let expected: Vec<_> = penalty.into_iter().chain([question(2, 1, &block, rest)]).chain(told).collect();
        assert_eq!(tested.respond(1, 0, result), expected, "{what}");
        // Neither another's answer nor an answer to another question counts.
        assert_eq!(tested.respond(1, 1, answer(&block, rest)), [], "{what}");
        assert_eq!(tested.respond(2, 0, answer(&block, rest)), [], "{what}");
        assert_eq!(tested.respond(2, 1, answer(&block, rest)), [complete(&block, 1), in_blocks(0..2)], "{what}");
    }
}

/// What lacks is shared among those that may have it: each share comes sooner than the whole. Who fails with its share leaves it to those
/// that have answered.
#[test]
fn what_lacks_is_asked_of_several_at_once() {
    let mut tested = Tested::new([1, 2, 3]);
    tested.handle(height(2, 1));
    tested.handle(height(3, 1));
    let block = Block::on(&tested.genesis(), 0..10, 0);
    let shares =
        [question(1, 0, &block, &[0, 1, 2, 3]), question(2, 1, &block, &[4, 5, 6, 7]), question(3, 2, &block, &[8, 9])];
    assert_eq!(tested.announce(1, &block)[1..], shares);
    // Nobody else is left, and others are still to answer.
    assert_eq!(tested.respond(3, 2, lacks()), []);
    assert_eq!(tested.respond(1, 0, answer(&block, &[0, 1, 2, 3]))[0], question(1, 3, &block, &[8, 9]));
    assert_eq!(tested.respond(1, 3, answer(&block, &[8, 9])), [in_blocks([0, 1, 2, 3, 8, 9])]);
    // A silent one is not waited for.
    assert_eq!(tested.run(patience(4, 0)), [question(1, 4, &block, &[4, 5, 6, 7])]);
    assert_eq!(tested.respond(1, 4, answer(&block, &[4, 5, 6, 7]))[0], complete(&block, 1));
}

/// Who knows the block and lacks some of it is putting it together, too: it is asked again, before anybody fetches all of it.
#[test]
fn who_is_putting_it_together_is_asked_again() {
    let mut tested = Tested::new([1, 2]);
    tested.handle(height(2, 1));
    let block = Block::on(&tested.genesis(), 0..3, 0);
    let some = |submissions: &[Option<u64>]| {
        Ok(Response::Transactions(submissions.iter().map(|number| number.map(task)).collect()))
    };
    tested.announce(1, &block);
    let out = tested.respond(1, 0, some(&[Some(0), None, None]));
    assert_eq!(out, [question(2, 1, &block, &[1, 2]), in_blocks([0])]);
    assert_eq!(tested.respond(2, 1, some(&[None, Some(2)])), [in_blocks([0, 2])]);
    // Meanwhile relay may bring it; and sync is not disturbed.
    assert!(tested.machine.is_put_together(&block.hash()));
    assert_eq!(tested.run(ROUND_PAUSE - 1), []);
    assert_eq!(tested.run(ROUND_PAUSE), [question(1, 2, &block, &[1])]);
    assert_eq!(tested.respond(1, 2, some(&[None])), [question(2, 3, &block, &[1])]);
    assert_eq!(tested.respond(2, 3, some(&[None])), []);
    tested.world.pend(1);
    assert_eq!(tested.run(2 * ROUND_PAUSE), [complete(&block, 1)]);
}

/// After a second of that sync may fetch the whole block; what comes first counts.
#[test]
fn a_block_that_nobody_has_whole_is_left_to_sync() {
    let mut tested = Tested::new([1]);
    let block = Block::on(&tested.genesis(), 0..2, 0);
    let lacking = || Ok(Response::Transactions(vec![None, None]));
    tested.announce(1, &block);
    let mut out = tested.respond(1, 0, lacking());
    for id in 1..=ALONE_TIME / ROUND_PAUSE {
        assert_eq!(out, [], "{id}");
        assert!(tested.machine.is_put_together(&block.hash()));
        assert_eq!(tested.run(id * ROUND_PAUSE), [question(1, id, &block, &[0, 1])]);
        out = tested.respond(1, id, lacking());
    }
    assert_eq!(out, [AssemblyAction::LeftToSync]);
    assert!(!tested.machine.is_put_together(&block.hash()));
    let id = ALONE_TIME / ROUND_PAUSE + 1;
    assert_eq!(tested.run(id * ROUND_PAUSE), [question(1, id, &block, &[0, 1])]);
    assert_eq!(tested.respond(1, id, answer(&block, &[0, 1])), [complete(&block, 1), in_blocks(0..2)]);
}

/// A response that is full ends early: the rest is asked of the same peer. One that ends early without being full is one of a peer
/// that would have us ask for each transaction alone: the rest is asked of another.
#[test]
fn a_large_answer_comes_in_pieces() {
    let mut tested = Tested::new([1, 2]);
    let block = world::large_block(&tested.genesis(), 6);
    assert_eq!(tested.announce(1, &block)[1], question(1, 0, &block, &[0, 1, 2, 3, 4, 5]));
    let out = tested.respond(1, 0, answer(&block, &[0, 1, 2, 3]));
    assert_eq!(out[0], question(1, 1, &block, &[4, 5]));
    tested.handle(height(2, 1));
    let out = tested.respond(1, 1, answer(&block, &[4]));
    assert_eq!(out[0], question(2, 2, &block, &[5]));
    assert_eq!(tested.respond(2, 2, answer(&block, &[5]))[0], complete(&block, 1));
}

/// Two transactions with the same short id in one block, which is allowed; somebody else's with the id of one in the block; and one that
/// was sent in place of another: what was found does not give the transaction root, nobody is to blame, and the whole ids are asked for.
#[test]
fn colliding_ids_are_told_apart_by_the_whole_ids() {
    let mut tested = Tested::new([1, 2]);
    tested.handle(height(2, 1));
    let block = Block::on(&tested.genesis(), 0..4, 0);
    tested.announce(1, &block);
    let partial = tested.machine.partial.get_mut(&block.hash()).expect("it was announced");
    // Nobody makes 2^32 signatures for a test: the ids of transactions 9 and 1 are said to be equal.
    partial.collide(wtxid(9), 1);
    let wrong = [0, 9, 2, 3].map(|number| Some(task(number)));
    let ids = |peer, id| AssemblyAction::Send { peer, id, request: Request::TransactionIds { block: block.hash() } };
    assert_eq!(tested.respond(1, 0, Ok(Response::Transactions(wrong.into()))), [ids(1, 1), in_blocks([0, 9, 2, 3])]);
    // Who tells other ids is to blame; who does not have them all is not.
    let told = |numbers: &[u64]| Ok(Response::TransactionIds(Some(numbers.iter().copied().map(wtxid).collect())));
    let penalty = AssemblyAction::Penalize { peer: 1, hash: block.hash(), offence: Offence::WrongTransaction };
    assert_eq!(tested.respond(1, 1, told(&[0, 9, 2, 3])), [penalty, ids(2, 2)]);
    assert_eq!(tested.respond(2, 2, Ok(Response::TransactionIds(None))), []);
    assert_eq!(tested.run(ROUND_PAUSE), [ids(1, 3)]);
    assert_eq!(tested.respond(1, 3, told(&[0, 1, 2, 3])), [question(1, 4, &block, &[1])]);
    assert_eq!(tested.machine.transaction_ids(&block.hash()).map(<[WtxId]>::len), Some(4));
    // From now on an id alone is not enough.
    let penalty = AssemblyAction::Penalize { peer: 1, hash: block.hash(), offence: Offence::WrongTransaction };
    assert_eq!(
        tested.respond(1, 4, Ok(Response::Transactions(vec![Some(task(9))]))),
        [penalty, question(2, 5, &block, &[1])]
    );
    let out = tested.respond(2, 5, answer(&block, &[1]));
    assert_eq!(out, [complete(&block, 1), in_blocks([0, 9, 1, 2, 3])]);
}

/// A miner binds ids that are not those of its transactions: no body has this root. The block is invalid, and nobody is to blame.
#[test]
fn ids_that_are_not_the_transactions_condemn_the_block() {
    type Change = fn(&mut Vec<BlockShortId>);
    let changes: [(&str, Change); 3] = [
        ("another", |ids| ids[1].0 ^= 1),
        ("one too few", |ids| ids.truncate(2)),
        ("two exchanged", |ids| ids.swap(0, 1)),
    ];
    for (what, change) in changes {
        let mut tested = Tested::new([1, 2]);
        let mut block = Block::on(&tested.genesis(), 0..3, 0);
        let mut announcement = block.announcement();
        change(&mut announcement.commitment.ids);
        block.header = mine(Header { body: announcement.commitment.root(), ..block.header });
        announcement.header = block.header.clone();
        let hash = block.hash();
        (0..3).for_each(|number| tested.world.pend(number));
        let out = tested.announce_as(1, announcement);
        assert_eq!(out[0], report(0, GossipVerdict::Accept), "{what}");
        let request = Request::TransactionIds { block: hash };
        if what == "another" {
            // Nothing that is here has the id: it is asked for, and who has it sends what the block holds.
            assert_eq!(out[1..], [question(1, 0, &block, &[1])]);
            let penalty = AssemblyAction::Penalize { peer: 1, hash, offence: Offence::WrongTransaction };
            assert_eq!(tested.respond(1, 0, answer(&block, &[1])), [penalty, AssemblyAction::LeftToSync], "{what}");
            continue;
        }
        assert_eq!(out[1..], [AssemblyAction::Send { peer: 1, id: 0, request }], "{what}");
        let ids = Ok(Response::TransactionIds(Some((0..3).map(wtxid).collect())));
        let out = tested.respond(1, 0, ids);
        assert!(
            matches!(out[..], [AssemblyAction::Condemn { rule: RuleError::BodyRoot { .. }, .. }]),
            "{what}: {out:?}"
        );
        assert!(tested.machine.partial.is_empty());
    }
}

/// What the block's own answers are is nobody's word: who has run the tasks finds them, and they are compared with the root.
#[test]
fn answers_are_taken_where_they_give_the_root() {
    let block = Block::on(&Tested::new([]).genesis(), 0..3, 0);
    let mut other = block.answers();
    other[1] = Answer::None;
    let assembled = block.assembled();
    for answers in [other, block.answers()[1..].to_vec()] {
        assert_eq!(assembled.clone().with_answers(answers), Err(assembled.clone()));
    }
    assert_eq!(assembled.with_answers(block.answers()), Ok(block.data));
}

/// Some blocks behind is near enough, for heights are told seldom. Further behind is not.
#[test]
fn who_may_have_a_block_is_asked() {
    let mut tested = Tested::new([1, 2, 3, 4]);
    let mut parent = tested.genesis();
    for _ in 0..4 {
        let block = Block::on(&parent, [], 0);
        tested.world.insert(&block.header);
        tested.connect(&block);
        parent = block.header;
    }
    let block = Block::on(&parent, [1], 0);
    tested.handle(height(2, 3));
    tested.handle(height(3, 4));
    tested.handle(height(4, 5 - NEAR_BLOCKS - 1));
    assert_eq!(tested.announce(1, &block)[1], question(1, 0, &block, &[0]));
    assert_eq!(tested.respond(1, 0, lacks()), [question(3, 1, &block, &[0])]);
    assert_eq!(tested.respond(3, 1, lacks()), [question(2, 2, &block, &[0])]);
    assert_eq!(tested.respond(2, 2, lacks()), [AssemblyAction::LeftToSync]);
    assert!(tested.machine.partial.is_empty());
}

#[test]
fn who_goes_is_not_waited_for() {
    let mut tested = Tested::new([1, 2]);
    let block = Block::on(&tested.genesis(), [1], 0);
    tested.handle(height(2, 1));
    tested.announce(1, &block);
    let out = tested.handle(Input::PeerDisconnected(1));
    assert_eq!(tested.import(out), [question(2, 1, &block, &[0])]);
    assert_eq!(tested.respond(1, 0, answer(&block, &[0])), []);
    assert_eq!(tested.respond(2, 1, answer(&block, &[0])), [complete(&block, 1), in_blocks([1])]);
}

/// Two blocks with the same task: it is asked for with the first of them, and found there when that is connected; or asked
/// for again when the first question is late.
#[test]
fn blocks_that_compete_bring_a_task_once() {
    for comes in [true, false] {
        let mut tested = Tested::new([1, 2]);
        let genesis = tested.genesis();
        let (first, second) = (Block::on(&genesis, [1], 0), Block::on(&genesis, [1, 2], 1));
        tested.announce(1, &first);
        assert_eq!(tested.announce(2, &second)[1], question(2, 1, &second, &[1]));
        assert_eq!(tested.respond(2, 1, answer(&second, &[1])), [in_blocks([2])]);
        if comes {
            assert_eq!(tested.respond(1, 0, answer(&first, &[0])), [complete(&first, 1), in_blocks([1, 2])]);
            assert_eq!(tested.run(PATIENCE), [], "it is being validated");
            tested.connect(&first);
            assert_eq!(tested.run(PATIENCE + LOOK_INTERVAL), [complete(&second, 2)]);
        } else {
            // The first question is late; while another is asked the same for the first block, the second goes on waiting.
            let out = tested.run(patience(1, 0) + LOOK_INTERVAL);
            assert_eq!(out, [question(2, 2, &first, &[0])]);
            assert_eq!(tested.respond(2, 2, lacks()), []);
            // Who has sent all that it was asked for is asked for the rest.
            let out = tested.run(tested.now + LOOK_INTERVAL);
            assert_eq!(out, [question(2, 3, &second, &[0])]);
        }
    }
}

/// What a block lacks may have come with one that is connected by now: it is taken from there at once, and nobody is asked for it.
#[test]
fn what_a_connected_block_brought_is_not_asked_for() {
    let mut tested = Tested::new([1, 2]);
    let genesis = tested.genesis();
    let (first, second) = (Block::on(&genesis, [1], 0), Block::on(&genesis, [1, 2], 1));
    tested.announce(1, &first);
    assert_eq!(tested.announce(2, &second)[1], question(2, 1, &second, &[1]));
    tested.respond(1, 0, answer(&first, &[0]));
    tested.connect(&first);
    // Before it is looked for again.
    assert_eq!(tested.respond(2, 1, answer(&second, &[1])), [complete(&second, 2), in_blocks([2])]);

    let mut tested = Tested::new([1]);
    tested.announce(1, &second);
    tested.world.insert(&first.header);
    tested.world.pend(2);
    tested.connect(&first);
    let out = tested.handle(Input::TipMoved);
    assert!(out.contains(&complete(&second, 1)), "{out:?}");
}

#[test]
fn peers_behind_are_told_of_a_tip_that_was_not_gossiped() {
    let mut tested = Tested::new([1, 2, 3]);
    let mut blocks = vec![Block::on(&tested.genesis(), [], 0)];
    for at in 0..7 {
        blocks.push(Block::on(&blocks[at].header, [], 0));
    }
    let status = |block: &Block| ChainStatus {
        genesis: NETWORK.genesis_hash(),
        height: block.header.height,
        tip: block.hash(),
        work: U256::from(block.header.height + 1),
        next_rules: None,
    };
    let tell = |peer, block| AssemblyAction::Tell { peer, status: status(block) };
    tested.handle(height(2, 1));
    tested.world.insert(&blocks[0].header);
    tested.connect(&blocks[0]);
    assert_eq!(tested.handle(Input::TipMoved), [tell(1, &blocks[0]), tell(3, &blocks[0])]);
    // Our own that was gossiped is not told, but to whom gossip was lost.
    tested.world.insert(&blocks[1].header);
    tested.handle(Input::Published(blocks[1].hash()));
    tested.connect(&blocks[1]);
    assert_eq!(tested.handle(Input::TipMoved), []);
    assert_eq!(tested.handle(Input::GossipLost(2)), [tell(2, &blocks[1])]);
    // Nor one on the way to a tip that is far ahead.
    blocks[2..].iter().for_each(|block| tested.world.insert(&block.header));
    tested.connect(&blocks[2]);
    assert_eq!(tested.handle(Input::TipMoved), []);
    // What a peer tells is passed to sync.
    let announced = |block: &Block, parent| AssemblyAction::Announced {
        peer: 3,
        hash: block.hash(),
        height: block.header.height,
        parent,
    };
    let tip = |peer, block| Input::NewTip { peer, status: status(block) };
    assert_eq!(tested.handle(tip(3, &blocks[7])), [announced(&blocks[7], Parent::Known)]);
    let unknown = Block::on(&blocks[7].header, [], 0);
    assert_eq!(tested.handle(tip(3, &unknown)), [announced(&unknown, Parent::Unknown)]);
    let other = ChainStatus { genesis: unknown.hash(), ..status(&unknown) };
    assert_eq!(tested.handle(Input::NewTip { peer: 3, status: other }), []);
    assert_eq!(tested.handle(tip(9, &unknown)), [], "a stranger");
    // What is told later may be older.
    tested.handle(height(3, 1));
    assert_eq!(tested.machine.height(&3), Some(9));
}

/// However many peers announce whatever they like: the bounds are checked after every input.
#[test]
fn what_peers_announce_is_bounded() {
    let mut tested = Tested::new(0..=u8::MAX);
    let genesis = tested.genesis();
    let mut left = 0;
    for peer in 0..=u8::MAX {
        for salt in 0..3 {
            let number = 3 * u64::from(peer) + salt;
            let out = tested.announce(peer, &Block::on(&genesis, [number], number));
            left += out.iter().filter(|output| matches!(output, AssemblyAction::LeftToSync)).count();
        }
    }
    assert_eq!((tested.machine.partial.len(), tested.machine.in_turn.len()), (MAX_PARTIAL, MAX_IN_TURN));
    assert!(left > 0);
    assert_eq!(tested.machine.gossiped.len(), MAX_GOSSIPED);
    let mut crowd = Assembly::<u32, u32>::new(NETWORK.genesis_hash());
    for peer in 0..MAX_ASSEMBLY_PEERS as u32 + 10 {
        let origin = Origin { direction: Direction::Dialled, group: Group(0) };
        crowd.handle(Input::PeerConnected { peer, origin }, 0, &tested.world);
    }
    assert_eq!(crowd.peers.len(), MAX_ASSEMBLY_PEERS);
    // Of one with more than can be asked for at once a part is asked for; a stranger's is left to sync.
    let mut tested = Tested::new([1]);
    let large = Block::on(&genesis, 0..=MAX_INDEXES as u64, 0);
    let first: Vec<u32> = (0..MAX_INDEXES as u32).collect();
    assert_eq!(tested.announce(1, &large)[1..], [question(1, 0, &large, &first)]);
    assert_eq!(tested.respond(1, 0, answer(&large, &first))[0], question(1, 1, &large, &[MAX_INDEXES as u32]));
    let mut tested = Tested::new([]);
    let block = Block::on(&genesis, [1], 1);
    assert_eq!(tested.announce(9, &block), [report(0, GossipVerdict::Accept), AssemblyAction::LeftToSync]);
}

#[test]
fn patience_grows_with_what_is_asked_for() {
    let rows = [(1, 0, 502), (100, 0, 700), (1, 1, 1_004), (1, 2, 2_008), (1_000, 0, 2_500), (4_096, 2, 2_500)];
    for (transactions, lateness, expected) in rows {
        assert_eq!(patience(transactions, lateness), expected, "{transactions} {lateness}");
    }
}

/// Each row: how the announcer behaves, and how long an honest peer that is as far may have to wait for its turn to be asked.
#[test]
fn no_announcer_holds_a_block() {
    let rows = [
        (Mode::Honest, 0),
        (Mode::Lacks, 0),
        (Mode::Lies, 0),
        (Mode::Vanishes, 0),
        (Mode::Silent, patience(4, 0)),
        (Mode::Slow(1_500), patience(4, 0)),
    ];
    for (mode, delay) in rows {
        let mut simulator = Simulator::new(&[mode, Mode::Honest]);
        let block = Block::on(&simulator.tested.genesis(), 0..4, 0);
        simulator.give(1, &block);
        simulator.announce(0, &block, 1_000);
        simulator.run(60_000);
        let completed = simulator.completed[&block.hash()];
        assert!(completed <= 1_000 + delay + 6 * LATENCY, "{mode:?}: after {} ms", completed - 1_000);
        let blamed: Vec<_> = simulator.offences.iter().map(|(peer, _)| *peer).collect();
        assert_eq!(blamed, if mode == Mode::Lies { vec![0] } else { vec![] }, "{mode:?}");
    }
}

/// Silent peers of one group, a new one for each block, announce every block before anybody else, and say that they are as far. The
/// honest peers are known to be far enough. The first block is late; the others are not, though nobody knows the newcomers; and
/// when the failures have faded, one is late again: one in two minutes.
#[test]
fn silent_announcers_that_change_their_names_delay_few_blocks() {
    let modes: Vec<Mode> = std::iter::repeat_n(Mode::Honest, 2).chain(std::iter::repeat_n(Mode::Silent, 40)).collect();
    let mut simulator = Simulator::new(&modes[..2]);
    simulator.modes = modes;
    let (mut parent, mut delays) = (simulator.tested.genesis(), Vec::new());
    for number in 0..40u64 {
        let at = 10_000 * (number + 1) + if number < 30 { 0 } else { 2 * FADE };
        let liar = 2 + number as u8;
        simulator.run(at - 1);
        simulator.tested.now = at - 1;
        simulator.tested.handle(connected_from(liar, Direction::Inbound, 99));
        let block = Block::on(&parent, 8 * number..8 * number + 4, number);
        // Both honest peers have it.
        simulator.give(0, &block);
        simulator.give(1, &block);
        simulator.announce(liar, &block, at);
        simulator.run(at + 5_000);
        delays.push((at, simulator.completed[&block.hash()] - at));
        simulator.tested.handle(Input::PeerDisconnected(liar));
        parent = block.header;
    }
    let late: Vec<u64> = delays.iter().filter(|(_, delay)| *delay > 4 * LATENCY).map(|(at, _)| *at).collect();
    // Each is remembered for two failures: it did not answer, and it left.
    assert!(late[0] == 10_000 && late.windows(2).all(|pair| pair[1] - pair[0] > 2 * FADE), "{delays:?}");
    assert!(delays.iter().all(|(_, delay)| *delay <= TRIAL_PATIENCE + 4 * LATENCY), "{delays:?}");
    assert!(simulator.offences.is_empty(), "who is gone is not blamed: {:?}", simulator.offences);
}

/// A peer that stays and never answers is waited for once, and blamed for each question.
#[test]
fn who_never_answers_is_blamed() {
    let mut tested = Tested::new([1]);
    let block = Block::on(&tested.genesis(), 0..2, 0);
    tested.announce(1, &block);
    tested.run(ASSEMBLY_TIME);
    let penalty = AssemblyAction::Penalize { peer: 1, hash: block.hash(), offence: Offence::Stalled };
    tested.now = QUESTION_TIME;
    assert_eq!(tested.handle(Input::BlocksChanged)[..1], *std::slice::from_ref(&penalty));
    let next = Block::on(&block.header, [9], 0);
    assert!(tested.announce(1, &next).contains(&question(1, 1, &next, &[0])), "there is nobody else");
    assert_eq!(tested.respond(1, 1, Err(Failure::Network)), [AssemblyAction::LeftToSync], "it may be gone");
}

/// Peers of all kinds, many of them liars that come and go, announce good blocks, forks and what they do not have. Whatever
/// they do, the machine holds what it promises, nobody honest is blamed, and a block that some honest peer has is completed
/// soon, or left to sync, which asks further peers.
#[test]
fn any_mixture_of_peers_is_borne() {
    let mut completed = 0;
    for seed in 0..40 {
        let mut simulator = Simulator::random(seed);
        simulator.run(120_000);
        completed += simulator.finish(seed);
    }
    assert!(completed > 40 * simulator::BLOCKS * 4 / 5, "only {completed} were put together");
}

/// Inputs of all kinds in any order, those that make no sense among them.
#[test]
fn whatever_comes_the_invariants_hold() {
    for seed in 0..200 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut tested = Tested::new(0..4);
        let mut blocks = vec![Block::on(&tested.genesis(), [0], 0)];
        for number in 1..16 {
            let parent = blocks[random.random_range(0..blocks.len())].header.clone();
            let tasks: Vec<u64> = (0..random.random_range(0..4)).map(|_| random.random_range(0..12)).collect();
            blocks.push(Block::on(&parent, tasks, number));
        }
        for gossip in 0..400 {
            let block = blocks[random.random_range(0..blocks.len())].clone();
            let (peer, hash, number) = (random.random_range(0..6), block.hash(), random.random_range(0..12));
            let status = ChainStatus {
                genesis: NETWORK.genesis_hash(),
                height: number,
                tip: hash,
                work: U256::ONE,
                next_rules: None,
            };
            let input = match random.random_range(0..16) {
                0..4 => Input::Announced { gossip, from: peer, announcement: block.announcement() },
                4 => connected(peer),
                5 => Input::PeerDisconnected(peer),
                6 => Input::Height { peer, height: number },
                7 => Input::NewTip { peer, status },
                8 => Input::GossipLost(peer),
                9 => Input::HeaderImported { hash, verdict: HeaderVerdict::Unwanted },
                10..12 => {
                    let questions: Vec<_> = tested.machine.questions.iter().map(|(id, it)| (*id, it.peer)).collect();
                    let Some(&(id, peer)) = questions.get(random.random_range(0..3)) else { continue };
                    let tasks = (0..random.random_range(0..3))
                        .map(|_| random.random_bool(0.8).then(|| task(random.random_range(0..12))))
                        .collect();
                    let results =
                        [Ok(Response::Transactions(tasks)), Err(Failure::Network), Ok(Response::TransactionIds(None))];
                    Input::Response { peer, id, result: results[random.random_range(0..3)].clone() }
                }
                12 => {
                    // Sync brings a block, or one is validated.
                    if tested.world.tree.get(&hash).is_some() {
                        tested.world.connect(hash, block.data);
                    }
                    Input::BlocksChanged
                }
                13 => {
                    tested.world.pend(number);
                    Input::TipMoved
                }
                _ => {
                    let until = tested.now + random.random_range(0..3_000);
                    tested.run(until);
                    continue;
                }
            };
            let mut out = tested.handle(input);
            while let Some(header) = out.iter().find_map(|output| match output {
                AssemblyAction::ImportHeader { header, .. } => Some(header.clone()),
                _ => None,
            }) {
                let verdicts = [
                    HeaderVerdict::Stored,
                    HeaderVerdict::Early { wait: 2_000 },
                    HeaderVerdict::Unwanted,
                    HeaderVerdict::Broken,
                ];
                let verdict = verdicts[random.random_range(0..4)];
                if verdict == HeaderVerdict::Stored {
                    tested.world.insert(&header);
                }
                out = tested.handle(Input::HeaderImported { hash: header.hash(), verdict });
            }
        }
    }
}
