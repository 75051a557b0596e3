//! `ocelli chain verify|export|import|reconsider`: on the data folder of a node that does not run.

use ocelli_consensus::fork_choice::BlockStatus;
use ocelli_consensus::{Address, Body, Network};
use ocelli_node::chain::Chain;
use ocelli_node::store::Store;
use ocelli_protocol::message::BlockData;

use crate::environment::Environment;

/// A network file with an easy target, and a data folder `data` with three empty blocks on that network.
fn made(environment: &Environment) -> (String, Chain) {
    made_with(environment, 3, |parent| parent + 2)
}

/// The same with so many blocks, whose times follow from their parents'.
fn made_with(environment: &Environment, blocks: usize, time: impl Fn(u64) -> u64) -> (String, Chain) {
    let (file, _) = environment.network();
    let text = std::fs::read_to_string(&file).unwrap().replace("0x1e0fffff", "0x207fffff");
    std::fs::write(&file, &text).unwrap();
    let network = Network::from_toml(&text).unwrap();
    let store = Store::open(&environment.path("data/chain"), &network).unwrap();
    let mut chain = Chain::open(network, store).unwrap();
    for _ in 0..blocks {
        let time = time(chain.tip().time);
        let mut header = chain.template(Address([1; 20]), &Body::default(), time).unwrap();
        while !header.target.to_target().unwrap().is_met_by(header.hash().0) {
            header.nonce += 1;
        }
        assert!(chain.insert_headers(std::slice::from_ref(&header), u64::MAX).unwrap().1.is_none());
        chain.accept_block(header.hash(), &BlockData::default(), &|_| false).unwrap();
        chain.set_answers(header.hash(), Ok(())).unwrap();
        chain.advance().unwrap();
    }
    (file, chain)
}

#[test]
fn a_chain_is_verified_exported_and_imported() {
    let environment = Environment::new();
    let (file, chain) = made(&environment);
    let tip = chain.tip().hash.to_string();
    let here = ["--network", &file, "--data", "data"];
    let run = |command: &[&str], place: &[&str]| environment.run(&[&["chain"], command, place].concat());

    let busy = run(&["verify", "--device", "cpu"], &here);
    assert_eq!(busy.code, 1);
    assert!(busy.stderr.contains("in use") && busy.stderr.contains("stop the node first"), "{}", busy.stderr);
    drop(chain);

    let verified = run(&["verify", "--device", "cpu", "--json"], &here).ok().json();
    assert_eq!((&verified["height"], &verified["tip"]), (&3.into(), &tip.clone().into()));
    let text = run(&["verify", "--device", "cpu"], &here).ok().stdout;
    assert!(text.contains("3 blocks, 0 answers computed again") && text.contains("genesis"), "{text}");
    let left: Vec<_> =
        std::fs::read_dir(environment.path("data")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["chain"], "nothing is left behind");

    let exported = run(&["export", "blocks", "--json"], &here).ok().json();
    assert_eq!((&exported["blocks"], &exported["from"], &exported["to"]), (&3.into(), &1.into(), &3.into()));
    let there = ["--network", &file, "--data", "other"];
    let imported = run(&["import", "blocks", "--device", "cpu", "--json"], &there).ok().json();
    assert_eq!((&imported["new"], &imported["tip"]), (&3.into(), &tip.into()));
    run(&["verify", "--device", "cpu"], &there).ok();

    let range = run(&["export", "blocks", "--from", "2", "--to", "4"], &here);
    assert_eq!(range.code, 2, "{}", range.stderr);
    assert!(range.stderr.contains("found blocks 1 to 3"), "{}", range.stderr);
    let foreign = run(&["import", "test-network.toml", "--device", "cpu"], &here);
    assert_eq!(foreign.code, 1);
    assert!(foreign.stderr.contains("is no file of blocks"), "{}", foreign.stderr);
    let nothing = run(&["verify", "--device", "cpu"], &["--network", &file, "--data", "nothing"]);
    assert_eq!(nothing.code, 1);
    assert!(nothing.stderr.contains("holds no chain yet"), "{}", nothing.stderr);
}

/// What is said of a file that is not taken to its end, and what stays.
#[test]
fn an_import_says_where_it_stops() {
    let environment = Environment::new();
    let (file, chain) = made(&environment);
    drop(chain);
    let run = |command: &[&str], data: &str| {
        environment.run(&[&["chain"], command, &["--network", &file, "--data", data]].concat())
    };
    run(&["export", "blocks"], "data").ok();
    let whole = std::fs::read(environment.path("blocks")).unwrap();
    environment.write("cut", &whole[..whole.len() - 1]);
    for (data, new) in [("other", 2), ("other", 0)] {
        let stopped = run(&["import", "cut", "--device", "cpu", "--json"], data);
        let expected = format!(
            "error: cut is damaged after 2 blocks: it ends in the midst of a block\nhint: 2 blocks of the file are here, {new} of \
             them new, and the tip is block 2; copy the file again, or export it again\n"
        );
        assert_eq!((stopped.code, stopped.stdout, stopped.stderr), (1, String::new(), expected));
    }
    let rest = run(&["import", "blocks", "--device", "cpu", "--json"], "other").ok().json();
    assert_eq!((&rest["blocks"], &rest["new"], &rest["height"]), (&3.into(), &1.into(), &3.into()));

    run(&["export", "last", "--from", "3"], "data").ok();
    let stopped = run(&["import", "last", "--device", "cpu"], "empty");
    assert!(stopped.stderr.contains(" at height 3, has a parent that is not known here, "), "{}", stopped.stderr);
    let hint = "hint: 0 blocks of the file are here, 0 of them new, and the tip is block 0; import a file with the blocks before \
                it first\n";
    assert!(stopped.code == 1 && stopped.stderr.ends_with(hint), "{}", stopped.stderr);
}

#[test]
fn a_block_from_the_future_is_held_by_an_import() {
    let environment = Environment::new();
    // A century ahead.
    let (file, chain) = made_with(&environment, 1, |_| 5_000_000_000);
    let tip = chain.tip().hash;
    drop(chain);
    environment.run(&["chain", "export", "blocks", "--network", &file, "--data", "data"]).ok();
    let held = environment.run(&["chain", "import", "blocks", "--network", &file, "--data", "o", "--device", "cpu"]);
    let begin = format!("error: block 1 of the file, {tip} at height 1, is held: its time is ");
    let end = " s ahead of this clock\nhint: 0 blocks of the file are here, 0 of them new, and the tip is block 0; import the file \
               again when its time has come, or set this machine's clock right\n";
    assert_eq!(held.code, 1);
    assert!(held.stderr.starts_with(&begin) && held.stderr.ends_with(end), "{}", held.stderr);
}

#[test]
fn a_verdict_is_lifted() {
    let environment = Environment::new();
    let (file, chain) = made(&environment);
    let at = |height| chain.store().hash_at(height).unwrap().unwrap();
    let (second, third) = (at(2), at(3));
    chain.store().set_status(&second, BlockStatus::Invalid, Some("an answer is wrong")).unwrap();
    drop(chain);
    let run =
        |hash: &str| environment.run(&["chain", "reconsider", hash, "--network", &file, "--data", "data", "--json"]);

    let above = run(&third.to_string());
    assert_eq!(above.code, 1);
    assert!(above.stderr.contains(&format!("it stands on block {second} at height 2")), "{}", above.stderr);
    let unknown = run(&"77".repeat(32));
    assert!(unknown.stderr.contains("knows no block"), "{}", unknown.stderr);
    let lifted = run(&second.to_string()).ok().json();
    assert_eq!((&lifted["height"], &lifted["lifted"]), (&2.into(), &"an answer is wrong".into()));
    let again = run(&second.to_string());
    assert_eq!(again.code, 1);
    assert!(again.stderr.contains("was not refused"), "{}", again.stderr);

    let network = Network::from_toml(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let store = Store::open(&environment.path("data/chain"), &network).unwrap();
    assert_eq!(store.verdicts(9).unwrap(), []);
    // To be checked again when a node starts.
    assert_eq!(Chain::open(network, store).unwrap().unchecked(), [second]);
}

#[test]
fn pruning_is_asked_for_in_days_or_bytes() {
    let environment = Environment::new();
    for (value, word) in [("soon", "expected a number of days"), ("1MiB", "expected at least 256.0 MiB")] {
        let run = environment.run(&["node", "--prune", value]);
        assert_eq!(run.code, 2);
        assert!(run.stderr.contains(word), "{}", run.stderr);
    }
    assert_eq!(environment.run(&["node", "--db-cache", "1"]).code, 2);
}
