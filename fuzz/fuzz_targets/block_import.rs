//! Mutations of a valid block through all rules. As they are: only the block itself is accepted, and beside it, one with
//! another time or nonce that has its own proof of work. With roots and proof of work made anew, as an attacker may: what is
//! accepted keeps every credit but what it burns, and its undo record takes it back exactly.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use ocelli_consensus::codec::{decode, encode};
use ocelli_consensus::rules::{self, AttachmentError};
use ocelli_consensus::{Action, Amount, AttachmentHash, Body, Header, ModelFacts, ModelId, Parameters, UploadHash, header::HEADER_BYTES};
use ocelli_fuzz::chain::{Candidate, Chain, FACTS, MODEL, address, answer, parameters, pixels_for, starting};
use ocelli_fuzz::input::Input;

struct Scene {
    chain: Chain,
    candidate: Candidate,
    bytes: Vec<u8>,
    /// For a block with other transactions: parts of it are put into the first.
    other: Vec<u8>,
}

/// Five accounts, two of them rich enough to publish.
fn funded() -> Parameters {
    let accounts = starting([(1, 10_000), (2, 10_000), (3, 10_000), (4, 1_000_000), (5, 1_000_000)]);
    Parameters { accounts, model_price: Amount(1), ..parameters() }
}

static SCENE: LazyLock<Scene> = LazyLock::new(|| {
    let mut chain = Chain::new(funded());
    let begin = |chain: &Chain, seed, model: u8, size| {
        let file = UploadHash::of(&address(seed), &ModelId([model; 32]));
        (chain.act(seed, 0, Action::Upload { file, size }), None)
    };
    let part = |chain: &Chain, seed, bytes: Vec<u8>| {
        let data = AttachmentHash::of(&bytes);
        (chain.act(seed, 0, Action::Part { number: 0, bytes: bytes.len() as u32, data }), Some(bytes))
    };
    chain.extend(vec![begin(&chain, 4, 1, 9), begin(&chain, 5, 2, 30)]);
    (0..7).for_each(|_| chain.extend(vec![]));
    chain.extend(vec![part(&chain, 4, vec![7; 9])]);
    let pixels = vec![1, 2, 3, 4];
    let classify = |chain: &Chain, seed, pixels: &Vec<u8>| {
        (chain.act(seed, 0, pixels_for(MODEL, pixels)), Some(pixels.clone()))
    };
    let send = |chain: &Chain, seed, to, amount| {
        (chain.act(seed, 0, Action::Transfer { to: address(to), amount: Amount(amount) }), None)
    };
    let facts = ModelFacts { size: 9, ..FACTS };
    let publish = Action::Publish { model: ModelId([1; 32]), facts, royalty: Amount(3) };
    let candidate = chain.candidate(vec![
        send(&chain, 1, 9, 700),
        classify(&chain, 2, &pixels),
        classify(&chain, 3, &pixels),
        (chain.act(4, 0, publish), None),
        part(&chain, 5, vec![8; 30]),
    ]);
    let other = chain.candidate(vec![
        send(&chain, 2, 1, 100),
        send(&chain, 3, 3, 9_000),
        classify(&chain, 1, &vec![9; 4]),
        begin(&chain, 4, 3, 5),
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
        assert_eq!((&mutated.body, &mutated.attachments), (&original.body, &original.attachments));
        let Header { time, nonce, .. } = mutated.header;
        assert_eq!(mutated.header, Header { time, nonce, ..original.header.clone() });
    }
    let mut after = chain.clone();
    after.connect(&mutated);
    let total = |chain: &Chain| chain.ledger.accounts().map(|(_, account)| account.balance.0).sum::<u64>();
    let parameters = chain.parameters();
    let burnt = mutated.body.transactions.iter().map(|(transaction, _)| match &transaction.unsigned.action {
        action @ (Action::Part { .. } | Action::Publish { .. }) => action.paid(parameters).map_or(0, |paid| paid.0),
        _ => 0,
    });
    let Amount(reward) = parameters.reward_at(mutated.header.height);
    assert_eq!(total(&after) + burnt.sum::<u64>(), total(chain) + reward, "no credit comes or goes unseen");
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
    let Candidate { header, body, attachments } = candidate;
    // A node finds the parent by its hash.
    if chain.headers.last().is_none_or(|tip| header.parent != tip.hash()) {
        return false;
    }
    let matches = attachments.len() == body.transactions.len()
        && body.transactions.iter().zip(attachments).all(|((transaction, found), attachment)| {
            let checked = rules::check_attachment(transaction, attachment.as_deref());
            let model = transaction.unsigned.action.model().and_then(|model| chain.ledger.model(&model));
            let expected = answer(transaction, attachment.as_deref(), model.map_or(0, |model| model.facts.classes));
            !matches!(checked, Err(AttachmentError::Hash { .. } | AttachmentError::Presence { .. }))
                && *found == expected
        });
    matches && chain.verdict(candidate).is_ok()
}

fn to_bytes(candidate: &Candidate) -> Vec<u8> {
    let Candidate { header, body, attachments } = candidate;
    [header.to_bytes().to_vec(), encode(&(body, attachments))].concat()
}

fn from_bytes(bytes: &[u8]) -> Option<Candidate> {
    let (header, data) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let (body, attachments) = decode::<(Body, Vec<Option<Vec<u8>>>)>(data, 1 << 20).ok()?;
    Some(Candidate { header: Header::from_bytes(header), body, attachments })
}
