//! The machine among simulated peers, honest and not.

mod simulator;

use simulator::{LATENCY, Mode, SMALL, Simulator, id_of, task, task_of};

use ocelli_consensus::object::MAX_ATTACHMENT_BYTES;

use super::*;
use crate::limits::UNKNOWN_BYTES;
use crate::mempool::{Blame, MAX_PENDING, Mempool};
use crate::message::{MAX_IDS, Submission};
use crate::origin::{Direction, Group};

const HONEST: [Mode; 8] = [Mode::Honest; 8];

/// Whom we have dialled, each in a group of its own.
fn connected(peer: u8) -> Input<u8> {
    Input::PeerConnected { peer, origin: Origin { direction: Direction::Dialled, group: Group(peer.into()) } }
}

/// Steady load in a full mesh: everybody gets every picture once, and hardly anything else.
#[test]
fn each_picture_comes_once() {
    let mut simulator = Simulator::mesh(&HONEST);
    let tasks: Vec<_> = (0..400).map(|seed| task(seed, SMALL)).collect();
    for (number, task) in tasks.iter().enumerate() {
        simulator.submit(number % HONEST.len(), task.clone(), 1_000 + 50 * number as u64);
    }
    simulator.run(60_000);
    let received: usize = simulator.nodes.iter().map(|node| node.received.values().sum::<usize>()).sum();
    assert_eq!(received, tasks.len() * (HONEST.len() - 1), "all but the submitter's own");
    for (at, node) in simulator.nodes.iter().enumerate() {
        assert!(tasks.iter().all(|task| simulator.has(at, id_of(task))));
        assert_eq!((node.relay.wanted(), &node.offences), (0, &vec![]));
        // An announcement crosses each of seven lines once, sometimes twice.
        assert!((3 * tasks.len()..6 * tasks.len()).contains(&node.announced), "{}", node.announced);
        let overhead = node.bytes as f64 / (tasks.len() * 7 / 8 * SMALL) as f64;
        assert!((1.06..1.11).contains(&overhead), "{overhead} bytes a byte of picture");
    }
}

/// Along a line, a picture comes to each from the one before.
#[test]
fn a_task_travels_along_a_line() {
    let mut simulator = Simulator::new(&[Mode::Honest; 6]);
    (1..6).for_each(|at| simulator.connect(at, at - 1, 0));
    let (small, large) = (task(1, SMALL), task(2, 100_000));
    simulator.submit(0, small.clone(), 1_000);
    simulator.submit(5, large.clone(), 1_000);
    simulator.run(1_000 + 5 * (ANNOUNCE_DELAY + 5 * LATENCY));
    for at in 0..6 {
        let has = [&small, &large].map(|task| simulator.has(at, id_of(task)));
        assert_eq!(has, [true, true], "node {at}");
    }
    assert!(
        simulator.nodes.iter().all(|node| !node.received.contains_key(&id_of(&large))),
        "large attachments come by themselves"
    );
}

/// Each row: how the first announcer behaves, what it is blamed for, and how long it may hold a task up.
#[test]
fn another_announcer_is_asked_when_one_fails() {
    let rows = [
        (Mode::Stalls, Some(Offence::Stalled), TRIAL_TIMEOUT),
        (Mode::Vanishes, None, 0),
        (Mode::Lies, Some(Offence::Unserved), 0),
        (Mode::WrongAttachment, Some(Offence::WrongAttachment), 0),
        (Mode::WrongTransaction, Some(Offence::WrongTransaction), 0),
    ];
    for (mode, offence, hold_up) in rows {
        // The liar has it first; an honest node has it when the liar has been asked.
        let mut simulator = Simulator::new(&[Mode::Honest, mode, Mode::Honest]);
        let task = task(1, SMALL);
        simulator.connect(0, 1, 0);
        simulator.connect(0, 2, 0);
        simulator.submit(1, task.clone(), 1_000);
        simulator.submit(2, task.clone(), 1_000 + ANNOUNCE_DELAY);
        simulator.run(1_000 + 2 * ANNOUNCE_DELAY + 8 * LATENCY + hold_up);
        assert!(simulator.has(0, id_of(&task)), "{mode:?}");
        let offences = &simulator.nodes[0].offences;
        assert_eq!(*offences, offence.map(|offence| (1, offence)).into_iter().collect::<Vec<_>>(), "{mode:?}");
    }
}

/// Silent announcers of one group, each here for two seconds, tell of every task before the honest peer does. Each can keep little
/// from us, and the next of them no more than that together.
#[test]
fn silent_announcers_that_change_their_names_hold_little() {
    const LIARS: usize = 60;
    let mut modes = vec![Mode::Stalls; LIARS + 2];
    (modes[0], modes[1]) = (Mode::Honest, Mode::Honest);
    let mut simulator = Simulator::new(&modes);
    simulator.connect(0, 1, 0);
    for liar in 2..LIARS + 2 {
        (simulator.nodes[liar].group, simulator.nodes[liar].direction) = (7, Direction::Inbound);
        let at = 2_000 * (liar as u64 - 1);
        simulator.connect(0, liar, at);
        simulator.leave(0, liar, at + 2_000);
    }
    let tasks: Vec<_> = (0..240).map(|number| (1_000 + 500 * number, task(number, SMALL))).collect();
    for (at, task) in &tasks {
        (2..LIARS + 2).for_each(|liar| simulator.submit(liar, task.clone(), *at));
        simulator.submit(1, task.clone(), at + ANNOUNCE_DELAY);
    }
    let mut late = Vec::new();
    for (number, (at, task)) in tasks.iter().enumerate() {
        simulator.run(at + 2 * ANNOUNCE_DELAY + 5 * LATENCY);
        if !simulator.has(0, id_of(task)) {
            late.push(number);
        }
    }
    simulator.run(200_000);
    assert!(tasks.iter().all(|(_, task)| simulator.has(0, id_of(task))));
    let stalled = simulator.nodes[0].offences.len();
    assert!(late.len() <= 2 * TRIAL_FETCH, "{} of 240 are late, {stalled} fetches stalled: {late:?}", late.len());
    assert!(simulator.nodes[0].offences.iter().all(|(peer, _)| *peer != 1));
}

/// What is new while a newcomer is told of everything is in both lists, and told once.
#[test]
fn an_announcement_names_each_once() {
    let mut simulator = Simulator::new(&HONEST[..2]);
    (0..3).for_each(|seed| simulator.submit(0, task(seed, 16), 0));
    simulator.connect(0, 1, 1_000);
    (3..5).for_each(|seed| simulator.submit(0, task(seed, 16), 1_000));
    simulator.run(1_000 + ANNOUNCE_DELAY + LATENCY);
    assert_eq!(simulator.nodes[1].announced, 5);
}

/// Somebody who announces without end and serves nothing is asked ever more seldom, and blamed each time.
#[test]
fn who_stalls_rests_ever_longer() {
    let mut simulator = Simulator::new(&[Mode::Honest, Mode::Stalls]);
    simulator.connect(0, 1, 0);
    simulator.submit(1, task(1, SMALL), 1_000);
    simulator.run(10 * 60_000);
    let blamed = simulator.nodes[0].offences.len();
    assert!((8..16).contains(&blamed), "{blamed}");
    assert_eq!(simulator.nodes[0].relay.wanted(), 1, "still wanted, as long as it is connected");
}

/// What a peer did not hear, or could not note, it is told again.
#[test]
fn announcements_are_not_lost() {
    for mode in [Mode::BusyUntil(20_000), Mode::DeafUntil(20_000)] {
        let mut simulator = Simulator::new(&[Mode::Honest, mode]);
        simulator.connect(0, 1, 0);
        let tasks: Vec<_> = (0..100).map(|seed| task(seed, SMALL)).collect();
        tasks.iter().for_each(|task| simulator.submit(0, task.clone(), 1_000));
        simulator.run(19_000);
        assert!(!simulator.has(1, id_of(&tasks[0])), "{mode:?}");
        simulator.run(20_000 + MAX_REST);
        assert!(tasks.iter().all(|task| simulator.has(1, id_of(task))), "{mode:?}");
    }
}

/// Who connects late is told of everything that waits, on both sides; and so is one whose queue was too short.
#[test]
fn who_connects_is_told_of_everything() {
    let mut simulator = Simulator::new(&[Mode::Honest; 2]);
    let count = MAX_QUEUE + 2 * MAX_IDS + 7;
    let tasks: Vec<_> = (0..count as u64).map(|seed| task(seed, 16)).collect();
    for (number, task) in tasks.iter().enumerate() {
        simulator.submit(usize::from(number % 5 == 0), task.clone(), 0);
    }
    simulator.connect(0, 1, 1_000);
    simulator.run(120_000);
    for at in 0..2 {
        assert!(tasks.iter().all(|task| simulator.has(at, id_of(task))), "node {at}");
    }
    // While it is deaf, more comes than its queue takes.
    let mut simulator = Simulator::new(&[Mode::Honest, Mode::DeafUntil(20_000)]);
    simulator.connect(0, 1, 0);
    tasks.iter().for_each(|task| simulator.submit(0, task.clone(), 1_000));
    simulator.run(240_000);
    assert!(tasks.iter().all(|task| simulator.has(1, id_of(task))));
}

/// Short ids say nothing of nonces: a sender's tasks come in any order, from several peers at once.
#[test]
fn all_that_a_sender_may_have_pending_arrives() {
    let mut simulator = Simulator::mesh(&HONEST[..4]);
    let tasks: Vec<_> = (0..MAX_PENDING as u64).map(|nonce| task_of(7, nonce, SMALL)).collect();
    for (number, task) in tasks.iter().enumerate() {
        simulator.submit(0, task.clone(), 1_000 + 20 * number as u64);
    }
    simulator.run(20_000);
    for (at, node) in simulator.nodes.iter().enumerate() {
        assert!(tasks.iter().all(|task| simulator.has(at, id_of(task))), "node {at}");
        assert!(node.received.values().all(|times| *times == 1));
    }
}

/// A view of nothing, which takes everything or nothing.
struct Nothing {
    mempool: Mempool,
    verdict: FetchVerdict,
}

impl Nothing {
    fn new(verdict: FetchVerdict) -> Self {
        Self { mempool: Mempool::default(), verdict }
    }
}

impl Pool for Nothing {
    fn mempool(&self) -> &Mempool {
        &self.mempool
    }

    fn would_take(&self, _: &Transaction) -> FetchVerdict {
        self.verdict
    }
}

fn numbered(numbers: std::ops::Range<u64>) -> Vec<ShortId> {
    numbers.map(|number| ShortId(number.to_be_bytes())).collect()
}

/// The first request to a peer among outputs.
fn sent(out: &[RelayAction<u8>], to: u8) -> Option<(u64, Request)> {
    out.iter().find_map(|output| match output {
        RelayAction::Send { peer, id, request } if *peer == to => Some((*id, request.clone())),
        _ => None,
    })
}

#[test]
fn what_peers_announce_is_bounded_and_they_are_told() {
    let pool = Nothing::new(FetchVerdict::Take);
    let mut relay = Relay::new([0; 32]);
    relay.handle(connected(1), 0, &pool);
    relay.handle(connected(2), 0, &pool);
    let mut noted = 0;
    for batch in 0..10 {
        let ids = numbered(batch * 256..(batch + 1) * 256);
        for output in relay.handle(Input::Announced { peer: 1, ids }, 0, &pool) {
            if let RelayAction::Noted { peer: 1, count } = output {
                noted += count as usize;
            }
        }
    }
    assert_eq!((noted, relay.wanted()), (MAX_NOTED, MAX_NOTED));
    // Room is looked for once a second: that is not to cost more than it is worth.
    let settled = numbered(1_000..1_001)[0];
    relay.handle(Input::Decided { id: settled, decision: Decision::Refuse(Holds::Tip) }, 0, &pool);
    for (now, expected) in [(TIDY_PAUSE - 1, 0), (TIDY_PAUSE, 1), (2 * TIDY_PAUSE, 0)] {
        let ids = numbered(5_000 + now..5_001 + now);
        let out = relay.handle(Input::Announced { peer: 1, ids }, now, &pool);
        assert!(out.contains(&RelayAction::Noted { peer: 1, count: expected }), "{now}: {out:?}");
    }
    // Another has a bound of its own, and what both announce is wanted once.
    let out = relay.handle(Input::Announced { peer: 2, ids: numbered(0..256) }, 0, &pool);
    assert!(out.contains(&RelayAction::Noted { peer: 2, count: 256 }));
    assert_eq!(relay.wanted(), MAX_NOTED);
    // A stranger has none.
    let out = relay.handle(Input::Announced { peer: 3, ids: numbered(0..256) }, 0, &pool);
    assert!(out.contains(&RelayAction::Noted { peer: 3, count: 0 }));
    // With its announcers everything goes.
    relay.handle(Input::PeerDisconnected(1), 0, &pool);
    assert_eq!(relay.wanted(), 256);
    relay.handle(Input::PeerDisconnected(2), 0, &pool);
    assert_eq!(relay.wanted(), 0);
    for peer in 0..=u8::MAX {
        relay.handle(connected(peer), 0, &pool);
    }
    assert_eq!(relay.peers.len(), MAX_RELAY_PEERS);
}

/// Peers of one group share its failures; who caused them is asked last.
#[test]
fn a_neighbour_of_a_silent_announcer_is_asked_before_it_is_asked_again() {
    let pool = Nothing::new(FetchVerdict::Take);
    let mut relay = Relay::new([0; 32]);
    for peer in [1, 2] {
        let origin = Origin { direction: Direction::Inbound, group: Group(7) };
        relay.handle(Input::PeerConnected { peer, origin }, 0, &pool);
        let out = relay.handle(Input::Announced { peer, ids: numbered(0..1) }, 0, &pool);
        assert_eq!(sent(&out, peer).is_some(), peer == 1);
    }
    relay.handle(Input::Woken, TRIAL_TIMEOUT, &pool);
    let out = relay.handle(Input::Woken, TRIAL_TIMEOUT + FIRST_REST, &pool);
    assert_eq!((sent(&out, 1).is_some(), sent(&out, 2).is_some()), (false, true), "{out:?}");
}

/// Each row: a response to a fetch of one task, what the peer is blamed for, and whether the task is still wanted.
#[test]
fn responses_are_judged() {
    let (right, other) = (task(1, SMALL), task(2, SMALL));
    let id = id_of(&right);
    let with = |attachment| Submission { transaction: right.transaction.clone(), attachment };
    let pending = |found| Ok(Response::Pending(found));
    type Row = (Result<Response, Failure>, Option<Offence>, bool);
    let rows: [Row; 11] = [
        (pending(vec![Some(right.clone())]), None, true),
        (pending(vec![None]), Some(Offence::Unserved), false),
        (pending(vec![Some(other.clone())]), Some(Offence::WrongTransaction), false),
        (pending(vec![Some(with(other.attachment))]), Some(Offence::WrongAttachment), false),
        (pending(vec![]), Some(Offence::WrongResponse), true),
        (pending(vec![None, None]), Some(Offence::WrongResponse), true),
        (Ok(Response::Attachments(vec![None])), Some(Offence::WrongResponse), true),
        (Ok(Response::Announce { noted: 1 }), Some(Offence::WrongResponse), true),
        (Ok(Response::failed("busy")), None, true),
        (Err(Failure::Network), None, true),
        (Err(Failure::Malformed), Some(Offence::WrongResponse), true),
    ];
    for (result, offence, wanted) in rows {
        let pool = Nothing::new(FetchVerdict::Take);
        let mut relay = Relay::new([0; 32]);
        relay.handle(connected(1), 0, &pool);
        let out = relay.handle(Input::Announced { peer: 1, ids: vec![id] }, 0, &pool);
        let (number, request) = sent(&out, 1).expect("it is asked for");
        assert_eq!(request, Request::Pending { ids: vec![id] });
        // Neither another's response nor another number's counts.
        for (peer, number) in [(2, number), (1, number + 1)] {
            let out = relay.handle(Input::Response { peer, id: number, result: result.clone() }, 0, &pool);
            assert!(
                !out.iter().any(|output| matches!(output, RelayAction::Take { .. } | RelayAction::Penalize { .. }))
            );
        }
        let out = relay.handle(Input::Response { peer: 1, id: number, result: result.clone() }, 0, &pool);
        let blamed = out.iter().find_map(|output| match output {
            RelayAction::Penalize { offence, .. } => Some(*offence),
            _ => None,
        });
        assert_eq!((blamed, relay.wanted() == 1), (offence, wanted), "{result:?}");
        let taken = out.iter().any(|output| matches!(output, RelayAction::Take { .. }));
        assert_eq!(taken, result == pending(vec![Some(right.clone())]));
    }
}

/// A large attachment is fetched by itself, and only if the transaction would be taken.
#[test]
fn large_attachments_are_fetched_after_the_transaction_is_checked() {
    let large = task(1, 100_000);
    let id = id_of(&large);
    let bare = Submission { transaction: large.transaction.clone(), attachment: None };
    let pixels = large.attachment.clone().expect("a task");
    let rows = [
        (FetchVerdict::Take, None, true),
        (refuse(Holds::Tip, Blame::Nobody), None, false),
        (refuse(Holds::Tip, Blame::InVain), Some(RelayAction::CountInVain(1)), false),
        (
            refuse(Holds::Tip, Blame::Peer),
            Some(RelayAction::Penalize { peer: 1, offence: Offence::BrokenTransaction }),
            false,
        ),
    ];
    for (verdict, blamed, fetched) in rows {
        let pool = Nothing::new(verdict);
        let mut relay = Relay::new([0; 32]);
        relay.handle(connected(1), 0, &pool);
        let out = relay.handle(Input::Announced { peer: 1, ids: vec![id] }, 0, &pool);
        let (number, _) = sent(&out, 1).expect("it is asked for");
        let response = Response::Pending(vec![Some(bare.clone())]);
        let out = relay.handle(Input::Response { peer: 1, id: number, result: Ok(response) }, 0, &pool);
        let blames = |output: &&_| matches!(output, RelayAction::Penalize { .. } | RelayAction::CountInVain(_));
        assert_eq!(out.iter().find(blames), blamed.as_ref());
        let next = sent(&out, 1);
        assert_eq!(next.is_some(), fetched, "{verdict:?}");
        let Some((number, request)) = next else {
            // Not asked for again before the tip moves.
            let again = || Input::Announced { peer: 1, ids: vec![id] };
            assert_eq!(sent(&relay.handle(again(), 60_000, &pool), 1), None);
            relay.handle(Input::TipMoved { included: vec![], returned: vec![], disconnected: 0 }, 60_000, &pool);
            assert!(sent(&relay.handle(again(), 60_000, &pool), 1).is_some());
            continue;
        };
        assert_eq!(request, Request::Attachments { ids: vec![id] });
        let response = Response::Attachments(vec![Some(pixels.clone())]);
        let out = relay.handle(Input::Response { peer: 1, id: number, result: Ok(response) }, 0, &pool);
        assert!(out.contains(&RelayAction::Take { peer: 1, submission: large.clone() }));
    }
}

fn refuse(holds: Holds, blame: Blame) -> FetchVerdict {
    FetchVerdict::Refuse { holds, blame }
}

/// Each row: for how long a transaction is refused, and after which of these it is fetched again, from whomever: at once, after a
/// block, after one that is taken back. A hundred peers announce it each time.
#[test]
fn what_is_refused_is_not_fetched_again_while_that_holds() {
    let rows = [
        (Holds::Not, [true, true, true]),
        (Holds::Tip, [false, true, true]),
        (Holds::Branch, [false, false, true]),
        (Holds::Forever, [false, false, false]),
    ];
    for (holds, expected) in rows {
        for (moves, expected) in [vec![], vec![0], vec![0, 1]].into_iter().zip(expected) {
            let pool = Nothing::new(refuse(holds, Blame::Nobody));
            let mut relay = Relay::new([0; 32]);
            (0..100).for_each(|peer| drop(relay.handle(connected(peer), 0, &pool)));
            let task = task(1, SMALL);
            let ids = vec![id_of(&task)];
            let announce = |peer| Input::Announced { peer, ids: ids.clone() };
            let out = relay.handle(announce(0), 0, &pool);
            let (number, _) = sent(&out, 0).expect("it is asked for");
            let response = Response::Pending(vec![Some(task)]);
            relay.handle(Input::Response { peer: 0, id: number, result: Ok(response) }, 0, &pool);
            relay.handle(Input::Decided { id: ids[0], decision: Decision::Refuse(holds) }, 0, &pool);
            for disconnected in moves {
                relay.handle(Input::TipMoved { included: vec![], returned: vec![], disconnected }, 0, &pool);
            }
            let asked = (1..100).any(|peer| sent(&relay.handle(announce(peer), 60_000, &pool), peer).is_some());
            assert_eq!(asked, expected, "{holds:?}");
        }
    }
}

#[test]
fn what_the_chain_holds_is_not_fetched() {
    let pool = Nothing::new(FetchVerdict::Take);
    let mut relay = Relay::new([0; 32]);
    relay.handle(connected(1), 0, &pool);
    let ids = numbered(0..2);
    relay.handle(Input::TipMoved { included: ids.clone(), returned: vec![], disconnected: 0 }, 0, &pool);
    relay.handle(Input::TipMoved { included: vec![], returned: vec![ids[1]], disconnected: 1 }, 0, &pool);
    let out = relay.handle(Input::Announced { peer: 1, ids: ids.clone() }, 0, &pool);
    assert!(out.contains(&RelayAction::Noted { peer: 1, count: 2 }));
    assert_eq!(sent(&out, 1).map(|(_, request)| request), Some(Request::Pending { ids: vec![ids[1]] }));
}

/// What a block's announcer was asked for is not fetched a second time; if it does not come, it is.
#[test]
fn what_comes_with_a_block_is_not_fetched_meanwhile() {
    let pool = Nothing::new(FetchVerdict::Take);
    let mut relay = Relay::new([0; 32]);
    relay.handle(connected(1), 0, &pool);
    let ids = numbered(0..3);
    relay.handle(Input::InBlocks([ids[0], ids[1]].into()), 0, &pool);
    let out = relay.handle(Input::Announced { peer: 1, ids: ids.clone() }, 0, &pool);
    assert!(out.contains(&RelayAction::Noted { peer: 1, count: 3 }));
    let (number, request) = sent(&out, 1).expect("the third is fetched");
    assert_eq!(request, Request::Pending { ids: vec![ids[2]] });
    relay.handle(Input::Response { peer: 1, id: number, result: Ok(Response::Pending(vec![None])) }, 0, &pool);
    // One block is connected, the other could not be had.
    relay.handle(Input::TipMoved { included: vec![ids[0]], returned: vec![], disconnected: 0 }, 10, &pool);
    let out = relay.handle(Input::InBlocks(BTreeSet::new()), 10, &pool);
    assert_eq!(sent(&out, 1).map(|(_, request)| request), Some(Request::Pending { ids: vec![ids[1]] }));
}

/// A transaction with an action of a later version, and as many bytes beside it as said.
fn later_version(seed: u64, attachment: usize) -> Submission {
    let bytes = task(seed, SMALL).transaction.to_bytes();
    let bytes = [&bytes[..24], &77u32.to_le_bytes(), &[1, 2, 3], &bytes[bytes.len() - 96..]].concat();
    let transaction = Transaction::from_bytes(&bytes).expect("it is kept whole");
    Submission { transaction, attachment: (attachment > 0).then(|| vec![0; attachment].into()) }
}

/// Who sends actions of a later version is not to blame: they are dropped, what came beside them is taken, and they are not fetched again. Who
/// sends a lot of them is not asked for a while, and asked again.
#[test]
fn unknown_actions_are_dropped_and_cost_their_bytes() {
    let pool = Nothing::new(FetchVerdict::Take);
    let mut relay = Relay::new([0; 32]);
    relay.handle(connected(1), 0, &pool);
    let (known, unknown) = (task(1, SMALL), later_version(2, 0));
    let ids = vec![id_of(&unknown), id_of(&known)];
    let out = relay.handle(Input::Announced { peer: 1, ids: ids.clone() }, 0, &pool);
    let (number, _) = sent(&out, 1).expect("they are asked for");
    let response = Response::Pending(vec![Some(unknown.clone()), Some(known.clone())]);
    let out = relay.handle(Input::Response { peer: 1, id: number, result: Ok(response) }, 0, &pool);
    assert_eq!(out, [RelayAction::Take { peer: 1, submission: known }]);
    relay.handle(connected(2), 0, &pool);
    let out = relay.handle(Input::Announced { peer: 2, ids: vec![ids[0]] }, 0, &pool);
    assert_eq!(sent(&out, 2), None, "nobody is asked for it again");

    let (mut fetched, mut asked) = (0, 0);
    for seed in 3.. {
        let unknown = later_version(seed, MAX_ATTACHMENT_BYTES);
        let out = relay.handle(Input::Announced { peer: 1, ids: vec![id_of(&unknown)] }, 0, &pool);
        let Some((number, _)) = sent(&out, 1) else { break };
        (fetched, asked) = (fetched + unknown.encoded_len(), asked + 1);
        let response = Response::Pending(vec![Some(unknown)]);
        let out = relay.handle(Input::Response { peer: 1, id: number, result: Ok(response) }, 0, &pool);
        assert!(!out.iter().any(|output| matches!(output, RelayAction::Penalize { .. })));
    }
    let (rate, burst) = (u64::from(UNKNOWN_BYTES.rate), UNKNOWN_BYTES.burst as usize);
    assert!((burst - 1_000..burst + MAX_ATTACHMENT_BYTES + 1_000).contains(&fetched), "{fetched} of {burst}");
    let wait = 1_000 * (fetched - burst + 1_000) as u64 / rate + 1_000;
    let out = relay.handle(Input::Woken, wait, &pool);
    assert!(sent(&out, 1).is_some(), "after {wait} ms it is asked again, for the {asked}th");
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut remembered = Remembered::default();
    let ids = numbered(0..MAX_REMEMBERED as u64 + 10);
    ids.iter().chain(&ids[10..]).for_each(|id| remembered.insert(*id));
    assert_eq!((remembered.ids.len(), remembered.order.len()), (MAX_REMEMBERED, MAX_REMEMBERED));
    assert!(remembered.contains(&ids[10]) && !remembered.contains(&ids[9]));
}

/// A mempool without anything, and how often it is asked whether it has something.
#[derive(Default)]
struct Looked {
    pool: Mempool,
    times: std::cell::Cell<usize>,
}

impl Pool for Looked {
    fn mempool(&self) -> &Mempool {
        &self.pool
    }

    fn would_take(&self, _: &Transaction) -> FetchVerdict {
        FetchVerdict::Take
    }

    fn has(&self, _: ShortId) -> bool {
        self.times.set(self.times.get() + 1);
        false
    }
}

/// Thirty peers have announced the same thousand transactions, and some are asked for all of them. Whatever else happens, what the
/// others have announced is not looked through again, until something of it can be asked for.
#[test]
fn busy_announcements_are_not_looked_through_at_each_input() {
    let (mut relay, pool) = (Relay::new([1; 32]), Looked::default());
    let ids: Vec<ShortId> = (0..1_000u64).map(|number| ShortId(number.to_le_bytes())).collect();
    let mut asked = Vec::new();
    for peer in 0..30 {
        relay.handle(connected(peer), 0, &pool);
        // Each has served before.
        relay.peers.get_mut(&peer).expect("it is connected").service.succeed(1);
        for ids in ids.chunks(MAX_IDS) {
            let outputs = relay.handle(Input::Announced { peer, ids: ids.to_vec() }, 0, &pool);
            asked.extend(outputs.into_iter().filter_map(|output| match output {
                RelayAction::Send { peer, id, request: Request::Pending { ids } } => Some((peer, id, ids)),
                _ => None,
            }));
        }
    }
    let under_way: usize = asked.iter().map(|(.., ids)| ids.len()).sum();
    assert_eq!(under_way, ids.len());
    pool.times.set(0);
    for number in 0..1_000u64 {
        let unrelated = ShortId((1_000_000 + number).to_le_bytes());
        relay.handle(Input::Decided { id: unrelated, decision: Decision::Keep }, 1, &pool);
    }
    assert!(pool.times.get() <= 30 * ids.len(), "{} looks", pool.times.get());
    // One that fails to serve is followed by another at once.
    let (peer, id, lost) = asked.remove(0);
    let outputs = relay.handle(Input::Response { peer, id, result: Err(Failure::Network) }, 2, &pool);
    let again: Vec<_> = outputs.iter().filter(|output| matches!(output, RelayAction::Send { .. })).collect();
    assert!(
        matches!(&again[..], [RelayAction::Send { peer: other, request: Request::Pending { ids }, .. }] if *other != peer && *ids == lost),
        "{again:?}"
    );
}

/// Time in milliseconds may begin anywhere: what relay does is the same, only later.
#[test]
fn time_begins_at_any_number() {
    let run = |start: u64| {
        let modes = [Mode::Honest, Mode::Stalls, Mode::Honest, Mode::Lies, Mode::BusyUntil(9_000), Mode::Honest];
        let mut simulator = Simulator::mesh(&modes);
        simulator.start = start;
        for seed in 0..60 {
            simulator.submit(seed as usize % modes.len(), task(seed, SMALL), 500 + 100 * seed);
        }
        simulator.run(60_000);
        let seen = |node: &simulator::Node| (node.received.clone(), node.bytes, node.announced, node.offences.clone());
        simulator.nodes.iter().map(seen).collect::<Vec<_>>()
    };
    let expected = run(0);
    assert!(expected[0].0.len() >= 30);
    for start in [1, 123_456_789, 1_760_000_000_000, u64::MAX / 2] {
        assert_eq!(run(start), expected, "beginning at {start}");
    }
}
