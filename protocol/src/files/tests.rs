//! The machine by hand.

use super::*;
use crate::origin::{Direction, Group};

type Out = FilesAction<u8>;

fn file(chunks: usize, rest: usize) -> Vec<u8> {
    (0..chunks * FILE_CHUNK_BYTES + rest).map(|index| (index / 7 % 251) as u8).collect()
}

fn wanted(file: &[u8]) -> (ModelId, u32) {
    (ModelId::of(file), file.len() as u32)
}

fn connected(peer: u8, direction: Direction) -> Input<u8> {
    Input::PeerConnected { peer, origin: Origin { direction, group: Group(peer.into()) } }
}

/// A machine with dialled peers.
fn machine(peers: impl IntoIterator<Item = u8>) -> Files<u8> {
    let mut files = Files::new();
    for peer in peers {
        assert_eq!(files.handle(connected(peer, Direction::Dialled), 0), []);
    }
    files
}

fn send(peer: u8, id: u64, model: ModelId, chunk: u32) -> Out {
    FilesAction::Send { peer, id, request: Request::File { model, chunk } }
}

fn chunk(file: &[u8], number: usize) -> Result<Response, Failure> {
    let end = file.len().min((number + 1) * FILE_CHUNK_BYTES);
    Ok(Response::File(file.get(number * FILE_CHUNK_BYTES..end).map(<[u8]>::to_vec)))
}

fn respond(files: &mut Files<u8>, peer: u8, id: u64, result: Result<Response, Failure>, now: u64) -> Vec<Out> {
    let out = files.handle(Input::Response { peer, id, result }, now);
    out.into_iter().filter(|output| !matches!(output, FilesAction::WakeAt(_))).collect()
}

#[test]
fn a_file_comes_in_chunks_and_in_any_order() {
    let whole = file(5, 17);
    let (model, size) = wanted(&whole);
    let mut files = machine([1]);
    let out = files.handle(Input::Wanted(vec![(model, size)]), 5);
    let asked: Vec<_> = (0..4).map(|number| send(1, number, model, number as u32)).collect();
    assert_eq!(out, [asked, vec![FilesAction::WakeAt(5 + CHUNK_TIMEOUT)]].concat());
    assert_eq!(respond(&mut files, 1, 2, chunk(&whole, 2), 6), [send(1, 4, model, 4)]);
    assert_eq!(respond(&mut files, 1, 0, chunk(&whole, 0), 6), [send(1, 5, model, 5)]);
    for id in [5, 4, 3] {
        assert_eq!(respond(&mut files, 1, id, chunk(&whole, id as usize), 7), []);
    }
    assert_eq!(respond(&mut files, 1, 9, chunk(&whole, 1), 7), [], "nobody asked for it");
    let done = respond(&mut files, 1, 1, chunk(&whole, 1), 8);
    assert_eq!(done, [FilesAction::File { model, peer: 1, bytes: whole }]);
    assert_eq!(files.handle(Input::Wanted(vec![]), 9), []);
}

/// Each row: what the first peer answers, what it is blamed for, and whether it rests. The next peer is asked at once.
#[test]
fn another_is_asked_when_one_fails() {
    let whole = file(0, 100);
    let (model, size) = wanted(&whole);
    let mut other = whole.clone();
    other[50] ^= 1;
    let sent = |bytes: &[u8]| Ok(Response::File(Some(bytes.to_vec())));
    let rows = [
        ("lacks it", Ok(Response::File(None)), None),
        ("busy", Ok(Response::failed("busy")), None),
        ("gone", Err(Failure::Network), None),
        ("gibberish", Err(Failure::Malformed), Some(Offence::WrongResponse)),
        ("another response", Ok(Response::NewTip), Some(Offence::WrongResponse)),
        ("too short", sent(&whole[1..]), Some(Offence::WrongResponse)),
        ("too long", sent(&[whole.clone(), vec![0]].concat()), Some(Offence::WrongResponse)),
        ("another file", sent(&other), Some(Offence::WrongFile)),
    ];
    for (what, result, offence) in rows {
        let mut files = machine([1, 2]);
        files.handle(Input::Wanted(vec![(model, size)]), 0);
        let penalty = offence.map(|offence| FilesAction::Penalize { peer: 1, offence });
        let expected: Vec<_> = penalty.into_iter().chain([send(2, 1, model, 0)]).collect();
        assert_eq!(respond(&mut files, 1, 0, result, 1), expected, "{what}");
        assert_eq!(respond(&mut files, 1, 0, chunk(&whole, 0), 1), [], "{what}: it has had its turn");
        let done = respond(&mut files, 2, 1, chunk(&whole, 0), 2);
        assert_eq!(done, [FilesAction::File { model, peer: 2, bytes: whole.clone() }], "{what}");
    }
}

#[test]
fn what_nobody_has_is_unavailable_and_asked_for_again() {
    let (one, two) = (file(0, 10), file(0, 11));
    let mut files = machine([1]);
    files.handle(Input::Wanted(vec![wanted(&one), wanted(&two)]), 0);
    // The next file is not held up by the first.
    let out = respond(&mut files, 1, 0, Ok(Response::File(None)), 100);
    assert_eq!(out, [FilesAction::Unavailable(wanted(&one).0), send(1, 1, wanted(&two).0, 0)]);
    let out = files.handle(Input::Response { peer: 1, id: 1, result: chunk(&two, 0) }, 200);
    assert!(matches!(out[..], [FilesAction::File { .. }]), "{out:?}");
    assert_eq!(files.wake_at, Some(100 + LACK_TIME));
    assert_eq!(files.handle(Input::Woken, 100 + LACK_TIME)[..1], [send(1, 2, wanted(&one).0, 0)]);
    // It is said once; a peer that comes is asked at once.
    assert_eq!(respond(&mut files, 1, 2, Ok(Response::File(None)), 20_000), []);
    let out = files.handle(connected(2, Direction::Inbound), 20_001);
    assert_eq!(out[..1], [send(2, 3, wanted(&one).0, 0)]);
}

#[test]
fn who_is_silent_is_left_and_who_we_dialled_comes_first() {
    let whole = file(0, 9);
    let (model, size) = wanted(&whole);
    let mut files = Files::new();
    files.handle(connected(1, Direction::Inbound), 0);
    files.handle(connected(2, Direction::Dialled), 0);
    assert_eq!(files.handle(Input::Wanted(vec![(model, size)]), 0)[..1], [send(2, 0, model, 0)]);
    let out = files.handle(Input::Woken, CHUNK_TIMEOUT);
    assert_eq!(out[..2], [FilesAction::Penalize { peer: 2, offence: Offence::Stalled }, send(1, 1, model, 0)]);
    // Who goes takes its fetch along.
    files.handle(connected(3, Direction::Inbound), CHUNK_TIMEOUT);
    assert_eq!(files.handle(Input::PeerDisconnected(1), CHUNK_TIMEOUT + 1)[..1], [send(3, 2, model, 0)]);
    assert_eq!(files.handle(Input::Wanted(vec![]), CHUNK_TIMEOUT + 2), [], "not wanted any more");
    assert_eq!(respond(&mut files, 3, 2, chunk(&whole, 0), CHUNK_TIMEOUT + 3), []);
}

/// However many peers there are and files are wanted, and whatever sizes are said.
#[test]
fn all_is_bounded() {
    let mut files: Files<u16> = Files::new();
    for peer in 0..1_000 {
        let origin = Origin { direction: Direction::Inbound, group: Group(0) };
        files.handle(Input::PeerConnected { peer, origin }, 0);
    }
    let many = (0..10_000u32).map(|number| (ModelId::of(&number.to_le_bytes()), number % 3 * (MAX_FILE_BYTES / 2 + 1)));
    files.handle(Input::Wanted(many.collect()), 0);
    assert_eq!((files.peers.len(), files.wanted.len()), (MAX_FILE_PEERS, MAX_FILES / 3));
}
