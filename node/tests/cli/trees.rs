//! Trees of pictures as people have them, for both ends: `model run` and `submit`.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use ocelli_consensus::Amount;

use crate::environment::{Environment, Run, wait_until};
use crate::real_node::{Paid, rows_of};

/// Names that people, cameras and programs give to files.
#[cfg(target_os = "linux")]
const NAMES: [&[u8]; 11] = [
    b"a b.bmp",
    b"-dash.bmp",
    b"it's \"quoted\", twice.BMP",
    "図 ünï ‘x’.bmp".as_bytes(),
    b"two\nlines.bmp",
    b"a[1]*?.bmp",
    b"=1+1;$(x) `y` \\z.bmp",
    b"caf\xe9.bmp",
    b"caf\xe8.bmp",
    b"sub folder/\xff\xfe/deep.bmp",
    b"z.bmp",
];
/// Others take only names that are UTF-8.
#[cfg(not(target_os = "linux"))]
const NAMES: [&[u8]; 9] = [
    b"a b.bmp",
    b"-dash.bmp",
    b"it's \"quoted\", twice.BMP",
    "図 ünï ‘x’.bmp".as_bytes(),
    b"a[1]*?.bmp",
    b"=1+1;$(x) `y` \\z.bmp",
    b"b.bmp",
    b"sub folder/deep.bmp",
    b"z.bmp",
];

/// Puts a picture somewhere in the home folder.
fn put(environment: &Environment, path: &[u8], seed: u8) -> PathBuf {
    let made = environment.picture("made.bmp", seed);
    let path = environment.path("").join(OsStr::from_bytes(path));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::rename(made, &path).unwrap();
    path
}

fn plant(environment: &Environment, folder: &str) {
    for (name, seed) in NAMES.iter().zip(0..) {
        put(environment, &[folder.as_bytes(), b"/", name].concat(), seed);
    }
}

/// Files with an answer, none of them twice.
fn answered(environment: &Environment, table: &str) -> BTreeSet<String> {
    let rows = rows_of(environment, table).into_iter().filter(|row| row["problem"].is_empty());
    let files: Vec<_> = rows.map(|row| row["file"].clone()).collect();
    let set: BTreeSet<_> = files.iter().cloned().collect();
    assert_eq!(set.len(), files.len(), "{files:?}");
    set
}

/// A picture that is there when somebody writes it: who reads it waits, and so does the test until somebody reads it.
struct Gate(PathBuf);

impl Gate {
    fn new(environment: &Environment) -> Self {
        let path = environment.path("gate.bmp");
        drop(fs::remove_file(&path));
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        Self(path)
    }

    fn open(self, environment: &Environment, meanwhile: impl FnOnce()) {
        let mut gate = File::options().write(true).open(&self.0).unwrap();
        meanwhile();
        let mut picture = Vec::new();
        File::open(environment.picture("gate-picture.bmp", 99)).unwrap().read_to_end(&mut picture).unwrap();
        gate.write_all(&picture).unwrap();
    }
}

/// Runs a command that asks about a gate and the tree; the last file vanishes and another one comes while it is at the gate.
fn run_while_the_tree_changes(environment: &Environment, args: &[&str]) -> Run {
    let gate = Gate::new(environment);
    let mut command = environment.command(&[args, &["gate.bmp", "traps"]].concat());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    gate.open(environment, || {
        fs::remove_file(environment.path("traps/z.bmp")).unwrap();
        put(environment, b"traps/a later one.bmp", 50);
    });
    child.wait_with_output().unwrap().into()
}

/// The same of both: names are told apart, a file that is gone is a row with its reason, and what has come is found the next time.
fn check_names_and_changes(environment: &Environment, args: &[&str], table: &str) {
    let run = run_while_the_tree_changes(environment, args);
    assert_eq!(run.code, 1, "one is gone: {}", run.stderr);
    assert!(run.stderr.contains(&format!("1 of {} pictures", NAMES.len() + 1)), "{}", run.stderr);
    let gone = rows_of(environment, table).into_iter().find(|row| !row["problem"].is_empty()).unwrap();
    assert!(gone["file"].ends_with("z.bmp") && gone["problem"].contains("No such file"), "{gone:?}");
    let first = answered(environment, table);
    assert_eq!(first.len(), NAMES.len(), "{first:?}");
    assert!(first.contains("traps/図 ünï ‘x’.bmp"), "{first:?}");
    if cfg!(target_os = "linux") {
        assert!(first.contains("traps/caf\\xe9.bmp") && first.contains("traps/caf\\xe8.bmp"), "{first:?}");
        assert!(first.contains("traps/sub folder/\\xff\\xfe/deep.bmp") && first.contains("traps/two\nlines.bmp"));
    }
    let again = environment.run(&[args, &["traps", "--json"]].concat()).ok().json();
    let (before, now) = (again["answered_before"].as_u64(), again["answered"].as_u64());
    assert_eq!((before, now), (Some(NAMES.len() as u64 - 1), Some(1)), "{again}");
    assert!(answered(environment, table).contains("traps/a later one.bmp"));
}

#[test]
fn a_tree_of_any_names_is_run_while_it_changes() {
    let environment = Environment::new();
    plant(&environment, "traps");
    check_names_and_changes(&environment, &["model", "run", "--csv", "table.csv"], "table.csv");
    // As JSON and as a list on stdin they have the same names.
    let found = environment.run(&["model", "run", "traps", "--json"]).ok().json();
    let names: BTreeSet<_> =
        found.as_array().unwrap().iter().map(|row| row["file"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names.len(), NAMES.len());
    assert!(names.is_subset(&answered(&environment, "table.csv")), "{names:?}");
    let mut command = environment.command(&["model", "run", "-", "--csv", "table.csv"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&[b"traps/a b.bmp\r\ntraps/", NAMES[7], b"\n\n"].concat()).unwrap();
    let run = Run::from(child.wait_with_output().unwrap()).ok();
    assert_eq!(run.stdout, "table.csv: 0 pictures answered, 2 were there already\n");
}

#[test]
fn a_tree_of_any_names_is_paid_for_while_it_changes() {
    let environment = Environment::new();
    plant(&environment, "traps");
    let paid = Paid::start(&environment);
    let submit = ["submit", "--csv", "paid.csv", "--network", &paid.network, "--wallet", "dev", "--peer", &paid.peer];
    check_names_and_changes(&environment, &submit, "paid.csv");
    assert_eq!(paid.nonce(&environment, "dev"), NAMES.len() as u64 + 1, "each is paid for once");
    let price = environment.run(&["submit", "traps", "--network", &paid.network, "--estimate", "--json"]).ok().json();
    assert_eq!(price["pictures"], NAMES.len());
}

/// How many pictures are paid for: as many as people have in `scripts/test --full`, a few batches otherwise.
fn submitted() -> usize {
    std::env::var("OCELLI_SUBMITTED").map_or(80, |text| text.parse().expect("OCELLI_SUBMITTED is a number"))
}

/// Pictures of one folder after another, no two of which are the same.
fn plant_many(environment: &Environment, folder: &str, count: usize) {
    let picture = fs::read(environment.picture("picture.bmp", 1)).unwrap();
    for number in 0..count {
        let path = environment.path(&format!("{folder}/{}/{number}.bmp", number / 100));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut picture = picture.clone();
        picture[100..108].copy_from_slice(&number.to_le_bytes());
        fs::write(path, picture).unwrap();
    }
}

/// Ctrl-C ends the first run, which says so and how to go on; the second one is killed in the middle; the third one ends.
#[cfg(unix)]
#[test]
fn many_pictures_are_paid_for_once_whatever_ends_a_run() {
    use rustix::process::{Pid, Signal, kill_process};

    let environment = Environment::new();
    let count = submitted();
    plant_many(&environment, "traps", count);
    let paid = Paid::start(&environment);
    let at = ["--network", &paid.network, "--wallet", "dev", "--peer", &paid.peer, "--json"];
    let submit = [&["submit", "traps", "--csv", "paid.csv"], &at[..]].concat();
    let estimate = || environment.run(&[&submit[..], &["--estimate"]].concat()).ok().json();
    let total = |price: &serde_json::Value| price["total"].as_str().unwrap().parse::<Amount>().unwrap().0;
    let (whole, pending) = (estimate(), environment.path("paid.csv.pending"));
    assert_eq!((&whole["pictures"], environment.path("paid.csv").exists()), (&count.into(), false), "{whole}");
    let start = || {
        let mut command = environment.command_for_ctrl_c(&submit);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };

    let stopped = start();
    wait_until("tasks are under way", &|| pending.exists());
    kill_process(Pid::from_child(&stopped), Signal::INT).unwrap();
    let run = Run::from(stopped.wait_with_output().unwrap());
    let told = run.json();
    let (done, left) = (told["answered"].as_u64().unwrap(), told["left"].as_u64().unwrap());
    assert!(done > 0 && left > 0 && done + left == count as u64, "{told}");
    let words = format!("stopped: {left} of {count} pictures are left");
    assert!(run.code == 1 && run.stderr.contains(&words), "{}: {}", run.code, run.stderr);

    // What is left is priced by itself, and as what a run would do.
    let price = estimate();
    assert_eq!((&price["pictures"], &price["problems"]), (&left.into(), &0.into()), "{price}");
    assert_eq!(total(&price) * count as u64, total(&whole) * left, "all cost the same");
    let dry = environment.run(&[&submit[..], &["--dry-run"]].concat()).ok().json();
    assert_eq!((&dry["pictures"], &dry["total"]), (&price["pictures"], &price["total"]), "{dry}");
    let most = Amount(total(&whole) - 1).to_string();
    let refused = environment.run(&[&submit[..], &["--dry-run", "--max-total", &most]].concat());
    assert!(refused.code == 1 && refused.stderr.contains("were spent before"), "{}", refused.stderr);

    let mut killed = start();
    let half = count / 2;
    let rows = || fs::read_to_string(environment.path("paid.csv")).unwrap().lines().count();
    while rows() <= half || !pending.exists() {
        assert_eq!(killed.try_wait().unwrap(), None, "it does not end before");
        std::thread::sleep(Duration::from_millis(1));
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    let told = environment.run(&submit).ok().json();
    assert_eq!((&told["left"], &told["problems"]), (&0.into(), &0.into()), "{told}");
    assert_eq!(answered(&environment, "paid.csv").len(), count);
    assert_eq!(paid.nonce(&environment, "dev"), count as u64, "each is paid for once");
    assert_eq!((&estimate()["pictures"], pending.exists()), (&0.into(), false));
}

/// A shell that lets no file grow beyond so many blocks of 512 bytes.
#[cfg(target_os = "linux")]
fn run_with_room_for(blocks: u32, environment: &Environment, args: &[&str]) -> Run {
    environment.limited_command(&format!("-f {blocks}"), args).output().unwrap().into()
}

#[cfg(target_os = "linux")]
const FULL: [&str; 2] = ["cannot write the table", "make room, and give the same command again"];

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_ends_a_run_that_goes_on_later() {
    let environment = Environment::new();
    plant(&environment, "traps");
    let args = ["model", "run", "traps", "--csv", "table.csv"];
    let run = run_with_room_for(2, &environment, &args);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{}", run.stderr);
    assert!(FULL.iter().all(|words| run.stderr.contains(words)), "{}", run.stderr);
    assert!(fs::metadata(environment.path("table.csv")).unwrap().len() <= 1024);
    environment.run(&args).ok();
    assert_eq!(answered(&environment, "table.csv").len(), NAMES.len());
    assert_eq!(rows_of(&environment, "table.csv").len(), NAMES.len());
}

/// The disk is full when the task has been paid for: the row comes later, and the task is not paid for again.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_costs_no_second_payment() {
    const BLOCKS: usize = 64;
    let environment = Environment::new();
    let paid = Paid::start(&environment);
    put(&environment, b"traps/one.bmp", 1);
    put(&environment, b"other.bmp", 2);
    environment.run(&["model", "run", "other.bmp", "--csv", "paid.csv"]).ok();
    let table = environment.path("paid.csv");
    let room = 512 * BLOCKS - fs::metadata(&table).unwrap().len() as usize - 100;
    let mut file = File::options().append(true).open(&table).unwrap();
    let filler = ["x".repeat(room - 19), ",".repeat(18), "\n".into()].concat();
    file.write_all(filler.as_bytes()).unwrap();
    let submit =
        ["submit", "traps", "--csv", "paid.csv", "--network", &paid.network, "--wallet", "dev", "--peer", &paid.peer];

    // Where nothing can be written down, nothing is sent.
    let run = run_with_room_for(2, &environment, &submit);
    assert!(run.code == 1 && run.stderr.contains("without which nothing is sent"), "{}", run.stderr);
    assert_eq!(paid.nonce(&environment, "dev"), 0);

    let run = run_with_room_for(BLOCKS as u32, &environment, &submit);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{}", run.stderr);
    assert!(FULL.iter().all(|words| run.stderr.contains(words)), "{}", run.stderr);
    assert_eq!(paid.nonce(&environment, "dev"), 1);
    environment.run(&submit).ok();
    assert_eq!(paid.nonce(&environment, "dev"), 1);
    let found = rows_of(&environment, "paid.csv");
    assert_eq!(found.iter().filter(|row| !row["txid"].is_empty()).count(), 1);
    assert!(!environment.path("paid.csv.pending").exists());
}

/// The most memory that a process has used, in KiB: looked at until it ends, for the figure only grows.
#[cfg(target_os = "linux")]
fn peak_of(environment: &Environment, args: &[&str]) -> (u64, serde_json::Value) {
    let mut child = environment.command(args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let found = line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|text| text.trim().parse().ok());
        peak = peak.max(found.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(1));
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    (peak, serde_json::from_slice(&output.stdout).unwrap())
}

#[cfg(target_os = "linux")]
#[test]
fn memory_does_not_grow_with_the_folder() {
    const FILES: usize = 10_000;
    let environment = Environment::new();
    let (network, _) = environment.network();
    plant_many(&environment, "few", 40);
    plant_many(&environment, "many", FILES);
    let most = |few: u64| few + (16 << 10) + FILES as u64;
    let run = |folder: &str| {
        let table = format!("{folder}.csv");
        peak_of(&environment, &["model", "run", folder, "--csv", &table, "--json"])
    };
    let ((few, _), (many, told)) = (run("few"), run("many"));
    assert_eq!(told["answered"], FILES);
    assert!(many <= most(few), "{few} KiB for 40 pictures, {many} for {FILES}");
    let (again, told) = run("many");
    assert_eq!((&told["answered"], &told["answered_before"]), (&0.into(), &FILES.into()));
    assert!(again <= most(few), "{few} KiB for 40 pictures, {again} for {FILES} that are done");
    let estimate = |folder| peak_of(&environment, &["submit", folder, "--network", &network, "--estimate", "--json"]);
    let ((few, _), (many, told)) = (estimate("few"), estimate("many"));
    assert_eq!(told["pictures"], FILES);
    assert!(many <= most(few), "{few} KiB for 40 pictures, {many} for {FILES}");
}
