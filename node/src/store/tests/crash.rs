//! A process that is killed while it writes.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use super::*;

/// Where the process that is to be killed finds its store.
const FOLDER: &str = "OCELLI_TEST_CRASH_FOLDER";

/// What is committed is there after a SIGKILL at any time, and nothing is there by halves.
#[test]
fn killed_while_writing() {
    let (folder, network) = (Folder::new(), network());
    let mut committed = 0;
    // Before its first report, after a few, and in the middle of many.
    for reports in [0, 3, 40, 90] {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::tests::crash::writer", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut reported = lines.by_ref().filter_map(report).take(reports).last();
        if reported.is_some() {
            assert_eq!(Store::open(&folder.path(), &network).err(), Some(StoreError::Locked { path: folder.path() }));
        }
        writer.kill().unwrap();
        writer.wait().unwrap();
        reported = lines.filter_map(report).last().or(reported);

        let store = Store::open(&folder.path(), &network).unwrap();
        let tip = store.tip().unwrap();
        if let Some((height, hash)) = reported {
            committed = height;
            assert!(tip.height > height || tip.hash.to_string() == hash);
        }
        // It may have been killed between a commit and its report.
        assert!((committed..=committed + 1).contains(&tip.height), "at {}, reported {committed}", tip.height);
        assert_state_root(&store);
        assert_eq!(header_tree(&store).get(&tip.hash).unwrap().height, tip.height);
        let mut overlay = Overlay::new(&store).unwrap();
        while overlay.tip().height > 0 {
            let (header, body) = overlay.disconnect_tip().unwrap();
            assert_eq!(store.hash_at(header.height), Ok(Some(header.hash())));
            let attachments = store.attachments(header.height, &header.hash(), &body).unwrap();
            assert!(
                attachments
                    .iter()
                    .zip(&body.transactions)
                    .all(|(attachments, (tx, _))| attachments.is_some() == tx.task().is_some())
            );
        }
        assert_eq!(overlay.tip().hash, network.genesis_hash());
        committed = tip.height;
    }
    assert!(committed >= 130);
}

/// A line that [`writer`] wrote.
fn report(line: String) -> Option<(u64, String)> {
    let (height, hash) = line.strip_prefix("committed ")?.split_once(' ')?;
    Some((height.parse().ok()?, hash.into()))
}

/// Not a test by itself: the process that [`killed_while_writing`] kills. Adds block after block, every third time as a
/// reorganisation that takes one block back, and reports each move once it is committed.
#[test]
fn writer() {
    let Some(path) = std::env::var_os(FOLDER) else { return };
    let network = network();
    let store = Store::open(path.as_ref(), &network).unwrap();
    for number in 0u64.. {
        let mut overlay = Overlay::new(&store).unwrap();
        let mut count = 1;
        if number % 3 == 2 {
            overlay.disconnect_tip().unwrap();
            count = 2;
        }
        for _ in 0..count {
            let miner = Address([number as u8; 20]);
            let block = Maker::new(&network, &overlay).transfer(0, address(1), 5).classify(1, number as u8).mine(miner);
            add(&store, &block);
            overlay.connect(&network.parameters, &block.0, &block.1).unwrap();
        }
        let tip = *overlay.tip();
        store.commit(overlay.into_move(), Durability::Logged).unwrap();
        let mut out = std::io::stdout().lock();
        // Without a newline first, the first report would stand behind the name of the test.
        write!(out, "\ncommitted {} {}\n", tip.height, tip.hash).unwrap();
        out.flush().unwrap();
    }
}
