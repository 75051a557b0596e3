//! A machine that dies: what was synced is there, and nothing by halves. And a folder that goes away.

use std::fs::{self, OpenOptions};
use std::io::Write as _;

use super::*;

/// How often the write-ahead log was brought to the disk, as RocksDB counts.
fn syncs(store: &Store) -> u64 {
    let stats = store.database().property_value("rocksdb.dbstats").unwrap().unwrap();
    let line = stats.lines().find(|line| line.starts_with("Cumulative WAL")).expect("RocksDB counts this");
    line.split(", ").find_map(|part| part.strip_suffix(" syncs")).expect("and this").parse().unwrap()
}

/// The write-ahead log, of which a small store has one.
fn log(folder: &Folder) -> PathBuf {
    let logs: Vec<_> = (fs::read_dir(folder.path()).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    assert_eq!(logs.len(), 1);
    logs[0].clone()
}

fn commit_one(store: &Store, network: &Network, number: u8, durability: Durability) -> Made {
    let mut overlay = Overlay::new(store).unwrap();
    let maker = Maker::new(network, &overlay).transfer(0, Address([number + 1; 20]), 5_000_000);
    let block = maker.classify(1, number).mine(address(2));
    add(store, &block);
    overlay.connect(&network.parameters, &block.0, &block.1).unwrap();
    store.commit(overlay.into_move(), durability).unwrap();
    block
}

#[test]
fn a_synced_move_waits_for_the_disk_and_no_other_does() {
    let (folder, network) = (Folder::new(), network());
    let store = Store::open(&folder.path(), &network).unwrap();
    for (number, durability) in [Durability::Logged, Durability::Synced, Durability::Logged].into_iter().enumerate() {
        let before = syncs(&store);
        commit_one(&store, &network, number as u8, durability);
        assert_eq!(syncs(&store) - before, u64::from(durability == Durability::Synced), "{durability:?}");
    }
}

/// The log as a power failure may leave it: cut anywhere behind what was synced, with nothing, zeros or rubbish after it.
#[test]
fn a_log_that_is_cut_behind_what_was_synced_keeps_that_and_nothing_by_halves() {
    let (folder, network) = (Folder::new(), network());
    let store = Store::open(&folder.path(), &network).unwrap();
    // The log's length when a move had been synced, and the tip then.
    let mut synced = vec![(0, 0)];
    for number in 0..12 {
        let is_synced = number % 3 == 0;
        commit_one(&store, &network, number, if is_synced { Durability::Synced } else { Durability::Logged });
        if is_synced {
            synced.push((fs::metadata(log(&folder)).unwrap().len(), u64::from(number) + 1));
        }
    }
    drop(store);
    let whole = fs::read(log(&folder)).unwrap();
    let mut heights = std::collections::BTreeSet::new();
    for (cut, tail) in
        (0..whole.len()).step_by(whole.len() / 30).zip([&[][..], &[0; 5000], &[0xa5; 700]].iter().cycle())
    {
        let copy = Folder::new();
        fs::create_dir(copy.path()).unwrap();
        for entry in fs::read_dir(folder.path()).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
        let mut file = OpenOptions::new().write(true).truncate(true).open(log(&copy)).unwrap();
        file.write_all(&whole[..cut]).unwrap();
        file.write_all(tail).unwrap();
        drop(file);

        let store = Store::open(&copy.path(), &network).unwrap();
        let height = store.tip().unwrap().height;
        let least = synced.iter().rev().find(|(length, _)| *length <= cut as u64).unwrap().1;
        assert!(height >= least, "cut at {cut}: at {height}, {least} was synced");
        heights.insert(height);
        assert_state_root(&store);
        assert_eq!(store.peaks().unwrap().leaves(), height + 1);
        assert_eq!(store.undo(height + 1, &ocelli_consensus::BlockHash::default()), Ok(None));
        let mut overlay = Overlay::new(&store).unwrap();
        while overlay.tip().height > 0 {
            overlay.disconnect_tip().unwrap();
        }
        drop(overlay);
        // And it goes on from there.
        commit_one(&store, &network, 100, Durability::Synced);
    }
    assert!(heights.len() > 8, "the cuts lie between all moves: {heights:?}");
}

#[test]
fn a_folder_that_is_deleted_moved_or_replaced_is_noticed_by_the_next_write() {
    let network = network();
    type Change = fn(&Folder);
    let changes: [Change; 3] = [
        |folder| fs::remove_dir_all(folder.path()).unwrap(),
        |folder| fs::rename(folder.path(), folder.0.path().join("elsewhere")).unwrap(),
        |folder| {
            fs::rename(folder.path(), folder.0.path().join("elsewhere")).unwrap();
            let new = folder.0.path().join("other");
            drop(Store::open(&new, &super::network()).unwrap());
            fs::rename(new, folder.path()).unwrap();
        },
    ];
    for change in changes {
        let folder = Folder::new();
        let store = Store::open(&folder.path(), &network).unwrap();
        let block = grow(&store, &network, 1, 1).remove(0);
        let hash = block.0.hash();
        assert_eq!(store.check_folder(), Ok(()));
        change(&folder);
        let gone = Err(StoreError::FolderGone { path: folder.path() });
        assert_eq!(store.check_folder(), gone);
        assert_eq!(store.add_headers(std::slice::from_ref(&block.0)), gone);
        assert_eq!(store.add_block(&hash, &block.1, &block.2, Extent::Body), gone);
        assert_eq!(store.set_status(&hash, BlockStatus::Verified, None), gone);
        assert_eq!(store.set_known_peers(&[]), gone);
        assert_eq!(store.prune(2, 2), Err(StoreError::FolderGone { path: folder.path() }));
        let mut overlay = Overlay::new(&store).unwrap();
        overlay.disconnect_tip().unwrap();
        assert_eq!(store.commit(overlay.into_move(), Durability::Synced), gone);
    }
}

#[test]
fn a_move_is_observed_as_what_it_is() {
    use std::sync::Mutex;

    use crate::store::Edge;
    static SEEN: Mutex<Vec<(Step, Edge)>> = Mutex::new(Vec::new());
    let (folder, network) = (Folder::new(), network());
    let observer: crate::store::Observer = |step, edge| SEEN.lock().unwrap().push((step, edge));
    let store =
        Store::open_with(&folder.path(), &network, StoreOptions { observer: Some(observer), ..Default::default() })
            .unwrap();
    let block = commit_one(&store, &network, 0, Durability::Logged);
    reorganise(&store, &network, 1, &[]);
    reorganise(&store, &network, 0, &[block]);
    store.prune(1, 1).unwrap();
    store.prune(2, 1).unwrap();
    let steps = [
        Step::Open,
        Step::Headers,
        Step::Block,
        Step::Connect,
        Step::Reorganise,
        Step::Headers,
        Step::Block,
        Step::Connect,
        Step::Prune,
    ];
    let expected: Vec<_> = steps.into_iter().flat_map(|step| [(step, Edge::Begin), (step, Edge::End)]).collect();
    assert_eq!(*SEEN.lock().unwrap(), expected);
}
