//! Another schedule of rules than the store's blocks were checked with.

use ocelli_consensus::schedule::{Schedule, ScheduledVersion, TEST_VERSION};

use super::*;

fn scheduled(height: u64) -> Network {
    let schedule = Schedule::new(vec![ScheduledVersion { height, version: TEST_VERSION }]).unwrap();
    Network { schedule, ..network() }
}

#[test]
fn where_the_schedule_changes_the_chain_goes_back_to() {
    let folder = Folder::new();
    let later = scheduled(30);
    let store = Store::open(&folder.path(), &later).unwrap();
    let blocks = grow(&store, &later, 1, 12);
    // A stale block at the height of the change, and one below.
    let stale = |store: &Store, height: u64| {
        let (parent, _) = store.header(&store.hash_at(height - 1).unwrap().unwrap()).unwrap().unwrap();
        let header = Header { parent: parent.hash(), height, nonce: 77, ..parent };
        store.add_header(&header).unwrap();
        store.set_status(&header.hash(), BlockStatus::Invalid, Some("it is another")).unwrap();
        header.hash()
    };
    let (high, low) = (stale(&store, 8), stale(&store, 5));
    drop(store);

    // Nothing changes where the change is above all blocks.
    let store = Store::open(&folder.path(), &scheduled(20)).unwrap();
    assert_as_from_scratch(&store, &later, &blocks);
    drop(store);
    let store = Store::open(&folder.path(), &scheduled(8)).unwrap();
    assert_eq!(store.tip().unwrap().height, 7);
    assert_as_from_scratch(&store, &later, &blocks[..7]);
    assert_state_root(&store);
    assert_eq!((store.header(&high), store.verdicts(9).unwrap().len()), (Ok(None), 1));
    assert!(store.header(&low).unwrap().is_some());
    assert_eq!(header_tree(&store).len(), 1 + 7 + 1);
    // What belongs there now follows.
    let next = grow(&store, &scheduled(8), 2, 2);
    assert_eq!(next[0].0.version, TEST_VERSION);
    drop(store);
    // And the way back is the same.
    let store = Store::open(&folder.path(), &network()).unwrap();
    assert_as_from_scratch(&store, &network(), &blocks[..7]);
    reorganise(&store, &network(), 0, &blocks[7..]);
    assert_as_from_scratch(&store, &network(), &blocks);
}
