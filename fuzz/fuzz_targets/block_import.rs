//! Mutations of a valid block through all rules. As they are: only the block itself is accepted, and beside it, one with
//! another time or nonce that has its own proof of work. With roots and proof of work made anew, as an attacker may: what is
//! accepted keeps every credit, and its undo record takes it back exactly.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use ocelli_consensus::codec::{decode, encode};
use ocelli_consensus::rules::{self, PixelsError};
use ocelli_consensus::{Amount, Header, header::HEADER_BYTES};
use ocelli_fuzz::chain::{Candidate, Chain, address, answer, parameters};
use ocelli_fuzz::input::Input;
use ocelli_protocol::message::BlockData;

struct Scene {
    chain: Chain,
    candidate: Candidate,
    bytes: Vec<u8>,
    /// For a block with other transactions: parts of it are put into the first.
    other: Vec<u8>,
}

static SCENE: LazyLock<Scene> = LazyLock::new(|| {
    let mut chain = Chain::new(parameters());
    chain.extend(vec![(chain.transfer(1, 0, address(2), 500, 3), None)]);
    let pixels = vec![1, 2, 3, 4];
    let candidate = chain.candidate(vec![
        (chain.transfer(1, 1, address(9), 700, 5), None),
        (chain.classify(2, 0, &pixels, 7), Some(pixels.clone())),
        (chain.classify(3, 0, &pixels, 2), Some(pixels.clone())),
    ]);
    let other = chain.candidate(vec![
        (chain.transfer(2, 0, address(1), 100, 1), None),
        (chain.transfer(3, 0, address(3), 9_000, 1), None),
        (chain.classify(1, 1, &[9; 4], 7), Some(vec![9; 4])),
    ]);
    let [bytes, other] = [&candidate, &other].map(to_bytes);
    Scene { chain, candidate, bytes, other }
});

fuzz_target!(|bytes: &[u8]| {
    let Scene { chain, candidate: original, .. } = &*SCENE;
    let mut input = Input(bytes);
    let seal = input.byte().is_multiple_of(2);
    let Some(mut mutated) = from_bytes(&mutate(&mut input)) else { return };
    if seal {
        chain.seal(&mut mutated);
    }
    if !is_accepted(chain, &mutated) {
        return;
    }
    if !seal {
        assert_eq!((&mutated.body, &mutated.pixels), (&original.body, &original.pixels));
        let Header { time, nonce, .. } = mutated.header;
        assert_eq!(mutated.header, Header { time, nonce, ..original.header.clone() });
    }
    let mut after = chain.clone();
    after.connect(&mutated);
    let total = |chain: &Chain| chain.ledger.accounts.values().map(|account| account.balance.0).sum::<u64>();
    let Amount(reward) = chain.parameters.reward_at(mutated.header.height);
    assert_eq!(total(&after), total(chain) + reward, "no credit comes or goes");
    let before = after.disconnect();
    assert_eq!(before, after.state);
    assert_eq!((&after.ledger, after.state), (&chain.ledger, chain.state), "taken back as it was");
});

/// Changes bytes, leaves some out, and puts in some of the block itself, of the other one, or of the input.
fn mutate(input: &mut Input<'_>) -> Vec<u8> {
    let Scene { bytes, other, .. } = &*SCENE;
    let mut bytes = bytes.clone();
    for _ in 0..8 {
        if input.is_empty() || bytes.is_empty() {
            break;
        }
        let at = input.below(bytes.len());
        match input.byte() % 5 {
            0 => bytes[at] ^= input.byte(),
            1 => drop(bytes.drain(at..bytes.len().min(at + input.below(256)))),
            2 => {
                let length = input.below(16);
                bytes.splice(at..at, input.bytes(length).iter().copied());
            }
            3 => {
                let from = input.below(other.len());
                let part = other[from..other.len().min(from + input.below(300))].to_vec();
                let end = bytes.len().min(at + part.len());
                bytes.splice(at..end, part);
            }
            _ => {
                let from = input.below(bytes.len());
                let part = bytes[from..bytes.len().min(from + input.below(300))].to_vec();
                bytes.splice(at..at, part);
            }
        }
    }
    bytes
}

/// All rules, in the order of docs/protocol.md, as a node applies them to data from a peer.
fn is_accepted(chain: &Chain, candidate: &Candidate) -> bool {
    let Candidate { header, body, pixels } = candidate;
    // A node finds the parent by its hash.
    if chain.headers.last().is_none_or(|tip| header.parent != tip.hash()) {
        return false;
    }
    let matches = body.transactions.iter().zip(pixels).enumerate().all(|(index, ((transaction, output), pixels))| {
        let checked = rules::check_pixels(&chain.parameters, header.height, index, transaction, pixels.as_deref());
        let is_right = match (output, pixels) {
            (Some(output), Some(pixels)) => *output == answer(pixels, output.len()),
            _ => true,
        };
        !matches!(checked, Err(PixelsError::Hash { .. } | PixelsError::Presence { .. })) && is_right
    });
    matches && chain.verdict(candidate).is_ok()
}

fn to_bytes(candidate: &Candidate) -> Vec<u8> {
    let data = BlockData { body: candidate.body.clone(), pixels: candidate.pixels.clone() };
    [candidate.header.to_bytes().to_vec(), encode(&data)].concat()
}

fn from_bytes(bytes: &[u8]) -> Option<Candidate> {
    let (header, data) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let BlockData { body, pixels } = decode(data, 1 << 20).ok()?;
    Some(Candidate { header: Header::from_bytes(header), body, pixels })
}
