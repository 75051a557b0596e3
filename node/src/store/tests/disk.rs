//! Disks that are full or read-only. A file system of the test's own where the system lets a user have one (`unshare`), and
//! besides what works everywhere: a limit on the size of files, and a folder that nobody may write to.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::{Command, Output};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use super::*;

/// Tells the process that a test starts which folder to use.
const FOLDER: &str = "OCELLI_TEST_DISK_FOLDER";

/// Runs the test `name` of this program in a shell, after `setup` there; `$FOLDER` is the folder.
fn rerun(wrapper: &[&str], setup: &str, name: &str, folder: &Path) -> Output {
    let script = format!("{setup} && exec \"$1\" --exact store::tests::disk::{name} --nocapture");
    let (program, arguments) = wrapper.split_first().expect("a program at least");
    Command::new(program)
        .args(arguments)
        .args(["sh", "-c", &script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .env(FOLDER, folder)
        .env("FOLDER", folder)
        .output()
        .unwrap()
}

fn assert_said(output: &Output, word: &str) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains(word), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

/// Whether a test may mount file systems for itself alone.
fn may_mount() -> bool {
    Command::new("unshare").args(["-rm", "true"]).status().is_ok_and(|status| status.success())
}

#[test]
fn a_full_disk_is_said_and_keeps_what_was_committed() {
    let place = Folder::new();
    fs::create_dir(place.path()).unwrap();
    // Blocks of 512 bytes; the signal is ignored so that the write fails instead.
    let limit = "trap '' XFSZ && ulimit -f 4096";
    assert_said(&rerun(&["env"], limit, "fill", &place.path()), "said to be full");
    if may_mount() {
        let place = Folder::new();
        fs::create_dir(place.path()).unwrap();
        let mount = "mount -t tmpfs -o size=48m none \"$FOLDER\"";
        assert_said(&rerun(&["unshare", "-rm"], mount, "fill", &place.path()), "said to be full");
    }
}

/// Not a test by itself: fills the disk that [`a_full_disk_is_said_and_keeps_what_was_committed`] gives it.
#[test]
fn fill() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let (network, path) = (network(), folder.join("store"));
    // What can be deleted later: room for all that is in memory and in the log.
    let fillers: Vec<_> = (0..16).map(|number| folder.join(format!("filler-{number}"))).collect();
    for filler in &fillers {
        fs::write(filler, vec![1; 1 << 20]).unwrap();
    }
    let store = Store::open(&path, &network).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut step = |store: &Store| -> Result<(), StoreError> {
        let mut overlay = Overlay::new(store)?;
        let mut maker = Maker::new(&network, &overlay);
        for from in 0..200u32 {
            let mut attachments = vec![0; PIXELS];
            random.fill_bytes(&mut attachments);
            maker = maker.classify_image((from % 4) as u8, attachments);
        }
        let (header, body, attachments) = maker.mine(address(0));
        store.add_header(&header)?;
        store.add_block(&header.hash(), &body, &attachments, Extent::Body)?;
        overlay.connect(&network.parameters, &header, &body).expect("it is valid");
        store.commit(overlay.into_move(), Durability::Synced)
    };
    let mut height = 0;
    let error = loop {
        match step(&store) {
            Ok(()) => height += 1,
            Err(error) => break error,
        }
        assert!(height < 1000, "the disk has a bound");
    };
    assert!(matches!(error, StoreError::DiskFull(_)), "{error:?}");
    assert!(error.to_string().contains("make room"), "{error}");
    assert!(height > 0, "there was room for a start");
    drop(store);

    // With some room, all is there.
    for filler in &fillers {
        fs::remove_file(filler).unwrap();
    }
    let store = Store::open(&path, &network).unwrap();
    // A write whose sync failed may yet be there.
    let tip = store.tip().unwrap();
    assert!((height..=height + 1).contains(&tip.height), "{} after {height} commits", tip.height);
    assert_state_root(&store);
    let mut overlay = Overlay::new(&store).unwrap();
    while overlay.tip().height > 0 {
        let (header, body) = overlay.disconnect_tip().unwrap();
        assert!(store.attachments(header.height, &header.hash(), &body).unwrap().iter().all(Option::is_some));
    }
    writeln!(std::io::stdout(), "said to be full after {height} blocks").unwrap();
}

#[test]
fn a_folder_that_cannot_be_written_is_said() {
    let network = network();
    // Nobody makes folders there, not even root.
    let nowhere = Path::new("/proc/self/ocelli");
    let Some(StoreError::Folder { path, kind }) = Store::open(nowhere, &network).err() else {
        panic!("it is not opened")
    };
    assert_eq!(path, Path::new("/proc/self/ocelli.new"));
    assert!(
        matches!(kind, ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem),
        "{kind}"
    );
    if may_mount() {
        let place = Folder::new();
        let store = Store::open(&place.path(), &network).unwrap();
        grow(&store, &network, 1, 3);
        drop(store);
        let mount = "mount --bind \"$FOLDER\" \"$FOLDER\" && mount -o remount,bind,ro \"$FOLDER\"";
        assert_said(&rerun(&["unshare", "-rm"], mount, "open_read_only", &place.path()), "said to be read-only");
        assert_eq!(Store::open(&place.path(), &network).unwrap().tip().unwrap().height, 3);
    }
}

/// Not a test by itself: opens the folder that [`a_folder_that_cannot_be_written_is_said`] gives it.
#[test]
fn open_read_only() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let error = Store::open(&folder, &network()).err();
    assert_eq!(error, Some(StoreError::Folder { path: folder, kind: ErrorKind::ReadOnlyFilesystem }));
    writeln!(std::io::stdout(), "said to be read-only").unwrap();
}
