//! What has happened to accounts: kept with the moves of the tip, and made later of what is there.

use ocelli_consensus::hash::UploadHash;
use ocelli_consensus::transition::UPLOAD_DELAY;
use ocelli_protocol::ledger::{self, Entry, Event, Place, REWARD, Side};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::*;
use crate::store::LedgerOption;

fn open(folder: &Folder, network: &Network, ledger: LedgerOption) -> Arc<Store> {
    let options = StoreOptions { ledger, ..StoreOptions::default() };
    Arc::new(Store::open_with(&folder.path(), network, options).unwrap())
}

/// The entries of blocks, by account and place.
fn entries_of(store: &Store, network: &Network, blocks: &[Made]) -> BTreeMap<(Address, Place), Event> {
    let author = |model: &ModelId| store.model(model).map(|record| record.unwrap().author);
    let entries =
        blocks.iter().flat_map(|(header, body, _)| ledger::entries(&network.parameters, header, body, author).unwrap());
    entries.map(|(account, entry)| ((account, entry.place), entry.event)).collect()
}

/// That the store has the entries of these blocks, all of its chain, from where it says on, and no others; and, if it has all,
/// that those of each account add up to its balance.
fn assert_ledger(store: &Store, network: &Network, blocks: &[Made]) {
    let from = store.ledger_from().unwrap();
    let mut expected = entries_of(store, network, blocks);
    expected.retain(|(_, place), _| from.is_some_and(|from| place.height >= from));
    let rows = dump(store, columns::LEDGER);
    let found: BTreeMap<_, _> = rows
        .iter()
        .map(|(key, value)| rows::account_entry(key, value).unwrap())
        .map(|(account, Entry { place, event })| ((account, place), event))
        .collect();
    assert_eq!(found, expected, "from {from:?}");
    if from == Some(1) {
        let mut sums: BTreeMap<_, _> = network.parameters.balances();
        for ((account, _), event) in &found {
            let sum = sums.entry(*account).or_default();
            *sum = Amount(u64::try_from(i128::from(sum.0) + event.change()).unwrap());
        }
        for (account, sum) in sums {
            assert_eq!(store.account(&account).unwrap().unwrap_or_default().balance, sum);
        }
    }
}

#[test]
fn an_account_is_paged_from_the_latest_on() {
    let (folder, network) = (Folder::new(), network());
    let store = open(&folder, &network, LedgerOption::AsFound);
    let blocks = grow(&store, &network, 1, 9);
    assert_ledger(&store, &network, &blocks);
    let all: Vec<Entry> = store.entries(&address(1), None).map(Result::unwrap).collect();
    // A transfer and a block each.
    assert_eq!(all.len(), 18);
    assert!(all.windows(2).all(|two| two[0].place > two[1].place));
    assert_eq!(all[0].place, Place { height: 9, index: REWARD, side: Side::Credit });
    for (at, entry) in all.iter().enumerate() {
        let rest: Vec<_> = store.entries(&address(1), Some(&entry.place)).map(Result::unwrap).collect();
        assert_eq!(rest, all[at + 1..]);
    }
    // Neither neighbours nor strangers.
    assert_eq!(store.entries(&Address([0xff; 20]), None).count(), 0);
    assert_eq!(store.entries(&Address([1; 20]), None).count(), 1);
}

#[test]
fn what_was_there_before_gets_its_entries_while_the_chain_goes_on() {
    let (folder, network) = (Folder::new(), network());
    let store = open(&folder, &network, LedgerOption::Dropped);
    assert_eq!(store.ledger_from(), Ok(None));
    let mut blocks = grow(&store, &network, 1, 6);
    assert!(dump(&store, columns::LEDGER).is_empty());
    assert_eq!(store.extend_ledger(&network.parameters), Ok(false));
    drop(store);
    assert_eq!(open(&folder, &network, LedgerOption::AsFound).ledger_from(), Ok(None), "nobody has asked for it");

    let store = open(&folder, &network, LedgerOption::Kept);
    assert_eq!(store.ledger_from(), Ok(Some(7)));
    blocks.extend(grow(&store, &network, 2, 2));
    assert_ledger(&store, &network, &blocks);
    // Read before a reorganisation to below where the entries begin, and written after it.
    let older = store.older_entries(&network.parameters).unwrap().unwrap();
    let other_folder = Folder::new();
    let other = open(&other_folder, &network, LedgerOption::Kept);
    blocks[..4].iter().for_each(|block| reorganise(&other, &network, 0, std::slice::from_ref(block)));
    let branch = grow(&other, &network, 3, 5);
    reorganise(&store, &network, 4, &branch);
    blocks.truncate(4);
    blocks.extend(branch);
    assert_eq!(store.ledger_from(), Ok(Some(5)));
    store.add_older(older).unwrap();
    assert_ledger(&store, &network, &blocks);
    // Read before a block comes that changes nothing of it.
    let older = store.older_entries(&network.parameters).unwrap().unwrap();
    blocks.extend(grow(&store, &network, 1, 1));
    store.add_older(older).unwrap();
    assert_eq!((store.ledger_from(), store.extend_ledger(&network.parameters)), (Ok(Some(1)), Ok(false)));
    assert_ledger(&store, &network, &blocks);
    assert_as_from_scratch(&store, &network, &blocks);
    drop(store);

    assert_ledger(&open(&folder, &network, LedgerOption::AsFound), &network, &blocks);
    let store = open(&folder, &network, LedgerOption::Dropped);
    assert!(dump(&store, columns::LEDGER).is_empty() && store.ledger_from() == Ok(None));
    assert_state_root(&store);
}

#[test]
fn entries_outlive_pruned_bodies_and_are_made_of_those_that_are_kept() {
    let (folder, network) = (Folder::new(), network());
    let store = open(&folder, &network, LedgerOption::Kept);
    let blocks = grow(&store, &network, 1, 12);
    store.prune(0, 8).unwrap();
    store.free_pruned(Kept::ALL).unwrap();
    assert_ledger(&store, &network, &blocks);
    drop(store);
    drop(open(&folder, &network, LedgerOption::Dropped));
    let store = open(&folder, &network, LedgerOption::Kept);
    while store.extend_ledger(&network.parameters).unwrap() {}
    assert_eq!(store.ledger_from(), Ok(Some(8)));
    assert_ledger(&store, &network, &blocks);
    // Two stores compare theirs only where both have them from the same height on.
    let other_folder = Folder::new();
    let other = open(&other_folder, &network, LedgerOption::Kept);
    blocks.iter().for_each(|block| reorganise(&other, &network, 0, std::slice::from_ref(block)));
    other.prune(0, 8).unwrap();
    assert_eq!(store.first_difference(&other), Ok(None));
    let key = rows::entry_key(&address(1), &Place { height: 9, index: REWARD, side: Side::Credit });
    other.damage(columns::LEDGER, &key, None);
    assert_eq!(store.first_difference(&other), Ok(None));
    drop(store);
    let folder = Folder::new();
    let store = open(&folder, &network, LedgerOption::Kept);
    blocks.iter().for_each(|block| reorganise(&store, &network, 0, std::slice::from_ref(block)));
    store.prune(0, 8).unwrap();
    assert_eq!(store.first_difference(&other), Ok(Some((columns::LEDGER, key.to_vec()))));
}

#[test]
fn a_store_without_their_column_gets_them() {
    let (folder, network) = (Folder::new(), network());
    let mut store = Store::open(&folder.path(), &network).unwrap();
    let blocks = grow(&store, &network, 1, 3);
    // Or has lost them: it had them, and said so.
    store.rows.source.0.drop_cf(columns::LEDGER).unwrap();
    drop(store);
    let store = open(&folder, &network, LedgerOption::Kept);
    assert_eq!(store.extend_ledger(&network.parameters), Ok(true));
    assert_ledger(&store, &network, &blocks);
}

/// What a published model's author gets.
const ROYALTY: Amount = Amount(30_000);
const PUBLISHED: ModelId = ModelId([8; 32]);

/// Blocks after which a model of the third account may be asked.
fn publish(store: &Store, network: &Network) -> Vec<Made> {
    let file = [5; 7];
    let facts = ModelFacts { size: file.len() as u32, ..network.parameters.models[0].facts };
    let (upload, data) = (UploadHash::of(&address(2), &PUBLISHED), AttachmentHash::of(&file));
    let mut acts = BTreeMap::from([
        (0, (Action::Upload { file: upload, size: facts.size }, None)),
        (UPLOAD_DELAY, (Action::Part { number: 0, bytes: facts.size, data }, Some(&file[..]))),
        (UPLOAD_DELAY + 1, (Action::Publish { model: PUBLISHED, facts, royalty: ROYALTY }, None)),
    ]);
    let mut blocks = Vec::new();
    for number in 0..=UPLOAD_DELAY + network.parameters.model_delay {
        let overlay = Overlay::new(store).unwrap();
        let maker = Maker::new(network, &overlay);
        let maker = match acts.remove(&number) {
            Some((action, attachment)) => maker.act(2, action, Answer::None, attachment),
            None => maker,
        };
        blocks.push(maker.mine(address(9)));
        reorganise(store, network, 0, &blocks[blocks.len() - 1..]);
    }
    blocks
}

/// Whatever comes between: moves of the tip, steps of making what is older, starts with and without.
#[test]
fn random_chains_have_the_entries_of_their_blocks() {
    let mut royalties = 0;
    for seed in 0..6 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let (folder, network) = (Folder::new(), network());
        let mut store = open(&folder, &network, LedgerOption::AsFound);
        let mut chain = publish(&store, &network);
        let first = chain.len();
        let mut left = None;
        for _ in 0..60 {
            match random.random_range(0..10) {
                0 => {
                    left = None;
                    drop(store);
                    let option = [LedgerOption::AsFound, LedgerOption::Kept, LedgerOption::Dropped];
                    store = open(&folder, &network, option[random.random_range(0..3)]);
                }
                1 | 2 => drop(store.extend_ledger(&network.parameters).unwrap()),
                3 => left = store.older_entries(&network.parameters).unwrap(),
                4 => left.take().into_iter().for_each(|older| store.add_older(older).unwrap()),
                _ => {
                    let depth = random.random_range(0..=(chain.len() - first).min(4));
                    let mut overlay = Overlay::new(&store).unwrap();
                    (0..depth).for_each(|_| drop(overlay.disconnect_tip().unwrap()));
                    chain.truncate(chain.len() - depth);
                    for _ in 0..random.random_range(0..=4) {
                        let mut maker = Maker::new(&network, &overlay);
                        for _ in 0..random.random_range(0..4) {
                            let (from, to) = (random.random_range(0..4), random.random_range(0..8));
                            maker = match random.random_range(0..5) {
                                0 => maker.classify(from, random.random()),
                                1 => maker.ask(from, PUBLISHED, ROYALTY, vec![random.random(); PIXELS]),
                                _ => maker.transfer(from, address(to), random.random_range(200_000..2_000_000)),
                            };
                        }
                        let block = maker.mine(address(random.random_range(0..10)));
                        add(&store, &block);
                        overlay.connect(&network.parameters, &block.0, &block.1).unwrap();
                        chain.push(block);
                    }
                    store.commit(overlay.into_move(), Durability::Logged).unwrap();
                }
            }
            assert_ledger(&store, &network, &chain);
        }
        drop(store);
        let store = open(&folder, &network, LedgerOption::Kept);
        while store.extend_ledger(&network.parameters).unwrap() {}
        assert_eq!(store.ledger_from(), Ok(Some(1)));
        assert_as_from_scratch(&store, &network, &chain);
        let paid = |entry: &Entry| matches!(entry.event, Event::Royalty { amount: ROYALTY, .. });
        royalties += store.entries(&address(2), None).map(Result::unwrap).filter(paid).count();
    }
    assert!(royalties > 6, "{royalties}");
}
