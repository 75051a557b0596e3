//! Builds the worked example of docs/protocol.md and looks for each of its bytes there, so that page and code cannot
//! drift apart.

mod chain;

use chain::*;
use ocelli_consensus::codec::encode;
use ocelli_consensus::hash::{sha256, tagged};
use ocelli_consensus::history::Peaks;
use ocelli_consensus::transition::{Account, account_key};
use ocelli_consensus::*;
use ocelli_consensus::{block, merkle, state, transition};
use std::{fs, path::Path};

/// The page without white space: long numbers are broken into lines there.
fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol.md");
    fs::read_to_string(path).unwrap().split_whitespace().collect()
}

#[test]
fn every_byte_stands_in_the_page() {
    let mut chain = Chain::new(example_parameters());
    let candidate = example_block(&chain);
    let genesis = chain.headers[0].clone();
    let before = chain.clone();
    chain.connect(&candidate);

    let mut values: Vec<(&str, Vec<u8>)> = Vec::new();
    let mut add = |name, bytes: &[u8]| values.push((name, bytes.to_vec()));
    let parameters = encode(&chain.parameters);
    add("parameters", &parameters);
    add("parameters' hash", &tagged("ocelli/params", &[&parameters]));
    add("model", &example_model().0);
    add("pixels", &EXAMPLE_PIXELS);
    add("image", &ImageHash::of(&EXAMPLE_PIXELS).0);
    for seed in 1..=3 {
        add("secret key", &[seed; 32]);
        add("public key", key(seed).verifying_key().as_bytes());
        add("address", &address(seed).0);
        add("state key", &account_key(&address(seed)));
    }
    let starting = Account { nonce: 0, balance: Amount(10_000_000_000) };
    add("starting account", &encode(&starting));
    add("its leaf, and the state root of genesis", &starting.leaf(&address(1)).1);
    add("genesis header", &genesis.to_bytes());
    add("genesis hash", &genesis.hash().0);
    for (transaction, output) in &candidate.body.transactions {
        add("unsigned", &encode(&transaction.unsigned));
        add("signing hash", &transaction.signing_hash(chain.genesis));
        add("signature", &transaction.signature);
        add("transaction", &encode(transaction));
        add("txid", &transaction.txid().0);
        add("wtxid", &transaction.wtxid().0);
        add("output", &output.as_ref().map(encode).unwrap_or_default());
        add("body leaf", &block::leaf(transaction.wtxid(), output));
    }
    let leaves: Vec<_> =
        candidate.body.transactions.iter().map(|(it, output)| block::leaf(it.wtxid(), output)).collect();
    add("Merkle root", &merkle::root(&leaves));
    add("body root", &candidate.body.root().0);
    add("encoded body", &encode(&candidate.body));
    let mut hashes = Vec::new();
    for seed in 1..=3 {
        let account = chain.ledger.accounts[&address(seed)];
        let (_, leaf) = account.leaf(&address(seed));
        add("account", &encode(&account));
        add("account leaf", &leaf);
        hashes.push(leaf);
    }
    // The keys begin with the bits 1100, 1110 and 1111.
    let pair = state::node_hash(&hashes[1], &hashes[2]);
    let three = state::node_hash(&hashes[0], &pair);
    let right = state::node_hash(&[0; 32], &three);
    assert_eq!(candidate.header.state.0, state::node_hash(&[0; 32], &right), "the tree is the one that the page draws");
    for node in [&pair, &three, &right, &candidate.header.state.0] {
        add("state node", node);
    }
    let mut peaks = Peaks::default();
    let new = transition::append_header(&mut peaks, &genesis).unwrap();
    assert_eq!(peaks, before.peaks);
    add("history leaf", &new[0].1.to_bytes());
    add("history root", &candidate.header.history.0);
    add("header", &candidate.header.to_bytes());
    add("the first SHA-256", &sha256(&[&candidate.header.to_bytes()]));
    add("block hash", &candidate.header.hash().0);

    let page = page();
    let mut missing = Vec::new();
    for (name, bytes) in &values {
        let digits = hex::encode(bytes);
        if !page.contains(&digits) {
            missing.push(format!("{name}: {digits}"));
        }
    }
    assert!(missing.is_empty(), "docs/protocol.md lacks:\n{}", missing.join("\n"));
    for text in [address(1).to_text("toc"), format!("nonce {}", candidate.header.nonce).replace(' ', "")] {
        assert!(page.contains(&text), "docs/protocol.md lacks {text}");
    }
}
