//! Builds the worked example of docs/protocol.md and looks for each of its bytes there, and in what a program prints that
//! was written from that page alone: so page, code and program cannot drift apart.

mod chain;

use std::fs;
use std::path::Path;
use std::process::Command;

use chain::*;
use ocelli_consensus::block::{self, BodyCommitment};
use ocelli_consensus::codec::encode;
use ocelli_consensus::hash::{sha256, tagged};
use ocelli_consensus::history::Peaks;
use ocelli_consensus::object::leaf;
use ocelli_consensus::state::{node_hash, update};
use ocelli_consensus::transition;
use ocelli_consensus::*;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/worked_example.py");

/// Each value of the example, with its name.
fn values() -> Vec<(&'static str, Vec<u8>)> {
    let mut chain = Chain::new(example_parameters());
    let candidate = example_block(&chain);
    let genesis = chain.headers[0].clone();
    let before = chain.clone();
    chain.connect(&candidate);

    let mut values: Vec<(&str, Vec<u8>)> = Vec::new();
    let mut add = |name, bytes: &[u8]| values.push((name, bytes.to_vec()));
    let parameters = encode(chain.parameters());
    add("parameters", &parameters);
    add("parameters' hash", &tagged("ocelli/params", &[&parameters]));
    add("model", &example_model().0);
    add("attachment", &AttachmentHash::of(&EXAMPLE_PIXELS).0);
    for seed in 1..=3 {
        add("public key", key(seed).verifying_key().as_bytes());
        add("address", &address(seed).0);
    }
    add("body root of nothing", &Body::default().root(&chain.genesis).0);
    add("genesis header", &genesis.to_bytes());
    add("genesis hash", &genesis.hash().0);
    let mut add_transaction = |transaction: &Transaction| {
        add("unsigned", &encode(&transaction.unsigned));
        add("signing hash", &transaction.signing_hash(chain.genesis));
        add("signature", &transaction.signature);
        add("transaction", &transaction.to_bytes());
        add("txid", &transaction.txid().0);
        add("wtxid", &transaction.wtxid().0);
    };
    candidate.body.transactions.iter().for_each(|(transaction, _)| add_transaction(transaction));
    let form = Form::Jpeg { width: 640, height: 480 };
    let (picture, part) = (AttachmentHash::of(&EXAMPLE_PIXELS), AttachmentHash::of(b"another"));
    let jpeg = Action::Classify { model: example_model(), picture, bytes: 4, royalty: Amount(0), form };
    let facts = ModelFacts { size: 7, channels: 3, height: 32, width: 32, classes: 10, cost: 20_000 };
    let publish = Action::Publish { model: example_coming(), facts, royalty: Amount(5) };
    for (seed, nonce, fee, action) in
        [(2, 0, 2_000, jpeg), (1, 3, 1_000, Action::Part { number: 0, bytes: 7, data: part }), (1, 4, 1_000, publish)]
    {
        add_transaction(&example_transaction(&chain, seed, nonce, fee, action));
    }
    add("model to come", &example_coming().0);
    add("upload", &UploadHash::of(&address(1), &example_coming()).0);
    add("part", &part.0);
    add("parts", &PartsHash::default().with(part).0);

    for (transaction, answer) in &candidate.body.transactions {
        add("leaf of a transaction", &block::transaction_leaf(&transaction.wtxid()));
        add("answer", &encode(answer));
        add("leaf of an answer", &block::answer_leaf(answer));
    }
    let commitment = candidate.body.commitment(&chain.genesis);
    add("ids", &commitment.ids.iter().flat_map(encode).collect::<Vec<_>>());
    add("ids' hash", &BodyCommitment::ids_hash(&commitment.ids));
    add("transaction root", &commitment.transactions.0);
    add("answer root", &commitment.answers.0);
    add("body root", &commitment.root().0);
    add("encoded body", &encode(&candidate.body));
    add("rest of an announcement", &encode(&commitment));

    for ledger in [&before.ledger, &chain.ledger] {
        for (id, value) in &ledger.objects {
            let (key, hash) = leaf(&ObjectId::from_bytes(id).unwrap(), value);
            add("object", value);
            add("its key", &key);
            add("its leaf", &hash);
        }
    }
    for branch in before.ledger.branches.values().chain(chain.ledger.branches.values()) {
        add("state node", &branch.hash());
    }
    let upload = ObjectId::Upload(address(1)).key();
    let (without, branches) = update(&chain.ledger, chain.state, &[(upload, None)].into()).unwrap();
    branches.values().flatten().for_each(|branch| add("state node without the upload", &branch.hash()));
    let model = ObjectId::Model(example_model());
    let (_, model) = leaf(&model, &chain.ledger.objects[&model.to_bytes()]);
    let right = chain.ledger.branches[&state::Path::ROOT].right.hash();
    assert_eq!(without.hash(), node_hash(&model, &right), "the tree is the one that the page draws");

    let mut peaks = Peaks::default();
    let new = transition::append_header(&mut peaks, &genesis).unwrap();
    assert_eq!(peaks, before.peaks);
    add("history leaf", &new[0].1.to_bytes());
    add("history root", &candidate.header.history.0);
    add("header", &candidate.header.to_bytes());
    add("the first SHA-256", &sha256(&[&candidate.header.to_bytes()]));
    add("block hash", &candidate.header.hash().0);
    values
}

fn lacking(text: &str) -> Vec<String> {
    let text: String = text.split_whitespace().collect();
    let lacks = |(name, bytes): (&str, Vec<u8>)| {
        let digits = hex::encode(bytes);
        (!text.contains(&digits)).then(|| format!("{name}: {digits}"))
    };
    values().into_iter().filter_map(lacks).collect()
}

#[test]
fn every_byte_stands_in_the_page() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol.md");
    let page = fs::read_to_string(path).unwrap();
    let missing = lacking(&page);
    assert!(missing.is_empty(), "docs/protocol.md lacks:\n{}", missing.join("\n"));
    let chain = Chain::new(example_parameters());
    let nonce = format!("nonce {}", example_block(&chain).header.nonce);
    for text in [address(1).to_text("toc"), nonce] {
        assert!(page.contains(&text), "docs/protocol.md lacks {text}");
    }
}

/// Where there is no Python there is nothing to run; the page's bytes are checked by the test above in any case.
#[test]
fn a_program_of_the_page_finds_the_same() {
    let Ok(output) = Command::new("python3").arg(SCRIPT).output() else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let missing = lacking(&String::from_utf8(output.stdout).expect("hexadecimal digits"));
    assert!(missing.is_empty(), "docs/examples/worked_example.py lacks:\n{}", missing.join("\n"));
}
