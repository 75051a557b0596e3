//! Nodes that are killed while they bring an old folder to this version's layout, and while they go on with that.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use ocelli_consensus::{Address, Amount};
use ocelli_node::inference::{InferenceService, Limits};
use ocelli_node::replay;
use ocelli_node::store::{Step, Store, StoreOptions};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use rocksdb::{DB, IteratorMode, Options};
use tempfile::TempDir;

use super::super::harness::{Maker, cpu, model};
use super::{Death, KILLS, MANNERS, Manner, SEED, Victim, is_cut_off, network, number};

/// Enough of them that their bodies are rewritten in several writes.
const BLOCKS: u64 = 16;
const TRANSFERS: u64 = 120;
/// Writes that rewrite rows, at least: two of bodies and one of undo records.
const REWRITES: u32 = 3;
/// Kills in a row at most, each while the node recovers from the one before.
const IN_A_ROW: u32 = 3;

/// How far a migration has come, by what lies on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reached {
    Nothing,
    Midway,
    All,
}

#[test]
fn killed_while_it_migrates_a_node_has_the_chain_that_it_had() {
    let (kills, mut random) = (number(KILLS, 12), ChaCha8Rng::seed_from_u64(number(SEED, 1)));
    let network = network();
    let mut maker = Maker::new(&network);
    for block in 0..BLOCKS {
        let to = |number: u64| Address(std::array::from_fn(|at| (block * TRANSFERS + number).to_le_bytes()[at % 8]));
        let transfers: Vec<_> =
            (0..TRANSFERS).map(|number| maker.transfer(number, to(number), Amount(1_000_000))).collect();
        maker.make(&transfers);
    }
    let task = maker.classify(0, 1);
    maker.make(&[task]);
    let original = maker.into_folder();
    let original = Store::open_existing(&original.path().join("chain"), &network, StoreOptions::default()).unwrap();
    let old = TempDir::new().unwrap();
    original.copy_to(&old.path().join("chain")).unwrap();
    make_old(&old.path().join("chain"));
    let inference = InferenceService::start(cpu(), vec![model()], Limits::default(), || {});

    let mut cut: BTreeMap<(Step, Manner), (u32, u32, u32)> = BTreeMap::new();
    let (mut folder, mut in_a_row, mut verified) = (copy(old.path()), 0, 0);
    for kill in 0..kills {
        let step = [Step::Rewrite, Step::Migrate][kill % 2];
        let manner = MANNERS[kill / 2 % MANNERS.len()];
        // One that goes on has as many columns to write and perhaps fewer rows.
        let count = match step {
            Step::Rewrite => random.random_range(1..=if in_a_row == 0 { REWRITES } else { 2 }),
            _ => 1,
        };
        let delay = if manner == Manner::Within { random.random_range(0..3_000) } else { 0 };
        let death = Death { step, count, manner, delay: Duration::from_micros(delay), head_start: 0 };
        let mut victim = Victim::start(folder.path(), None, Some(death));
        victim.until("the step", |victim| victim.is_there);
        victim.killed();
        let marks = fs::read_to_string(folder.path().join("marks")).unwrap();
        let reached = reached(&folder.path().join("chain"));
        let (all, hit, midway) = cut.entry((step, manner)).or_default();
        *all += 1;
        *hit += u32::from(is_cut_off(&marks, Step::Migrate));
        *midway += u32::from(reached == Reached::Midway);
        match (step, manner) {
            (Step::Rewrite, Manner::AtBegin | Manner::AtEnd) => assert_eq!(reached, Reached::Midway),
            (_, Manner::AtBegin) => assert_ne!(reached, Reached::All),
            (_, Manner::AtEnd) => assert_eq!(reached, Reached::All),
            (_, Manner::Within) => {}
        }

        in_a_row += 1;
        if reached != Reached::All && kill + 1 < kills && random.random_range(0..IN_A_ROW) >= in_a_row {
            continue;
        }
        verify(folder.path(), &original, &inference);
        (folder, in_a_row) = (copy(old.path()), 0);
        verified += 1;
    }
    let mut out = std::io::stdout().lock();
    for ((step, manner), (all, hit, midway)) in &cut {
        writeln!(out, "{step:?} {manner:?}: {all} kills, {hit} in the migration's midst, {midway} folders half done")
            .unwrap();
    }
    writeln!(out, "{kills} kills, {verified} folders verified").unwrap();
}

/// Opens the folder, which ends the migration; then all must be as it was before.
fn verify(folder: &Path, original: &Store, inference: &ocelli_node::inference::Handle) {
    let network = network();
    let store = Store::open_existing(&folder.join("chain"), &network, StoreOptions::default()).unwrap();
    assert_eq!(store.tip(), original.tip());
    assert_eq!(store.kept(), original.kept());
    assert_eq!(store.first_difference(original), Ok(None));
    let scratch = TempDir::new().unwrap();
    let verified = replay::verify(&store, &network, scratch.path(), inference, &mut |_| {});
    let verified = verified.unwrap_or_else(|error| panic!("{}", ocelli_node::chain::full_message(&error)));
    assert_eq!(Ok(verified.tip), original.tip());
    assert_eq!(verified.tasks, 1);
}

/// A copy of a data folder.
fn copy(from: &Path) -> TempDir {
    let to = TempDir::new().unwrap();
    fs::create_dir(to.path().join("chain")).unwrap();
    for entry in fs::read_dir(from.join("chain")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.path().join("chain").join(entry.file_name())).unwrap();
    }
    to
}

/// Makes a closed store one of version 1, as `docs/store.md` describes it: bodies and undo records under the block hash alone,
/// and nothing said of what is kept.
fn make_old(chain: &Path) {
    let columns = DB::list_cf(&Options::default(), chain).unwrap();
    let database = DB::open_cf(&Options::default(), chain, columns).unwrap();
    for column in ["bodies", "undo"] {
        let handle = database.cf_handle(column).unwrap();
        for (key, value) in database.iterator_cf(handle, IteratorMode::Start).map(Result::unwrap).collect::<Vec<_>>() {
            database.put_cf(handle, &key[8..], value).unwrap();
            database.delete_cf(handle, key).unwrap();
        }
    }
    let metadata = database.cf_handle("metadata").unwrap();
    database.delete_cf(metadata, "kept").unwrap();
    database.put_cf(metadata, "schema", 1u32.to_le_bytes()).unwrap();
}

/// How far the migration of a folder has come that nobody has open. The folder stays as it is.
fn reached(chain: &Path) -> Reached {
    let columns = DB::list_cf(&Options::default(), chain).unwrap();
    let database = DB::open_cf_for_read_only(&Options::default(), chain, columns, false).unwrap();
    let metadata = database.cf_handle("metadata").unwrap();
    let has = |key: &str| database.get_cf(metadata, key).unwrap().is_some();
    match (has("migration"), has("kept")) {
        (true, _) => Reached::Midway,
        (false, true) => Reached::All,
        (false, false) => Reached::Nothing,
    }
}
