//! Commands that another program carries out, which stands beside this one: a script in its place tells what it gets.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::environment::Run;

/// The program in a folder of its own. It is no copy: a file that was just written may not be run yet, as long as a process
/// that another test is starting has it open.
struct Release(TempDir);

impl Release {
    /// With a script beside it under each of these names, which prints its process id, its name and its arguments.
    fn new(others: &[&str]) -> Self {
        let release = Self(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
        fs::hard_link(env!("CARGO_BIN_EXE_ocelli"), release.path("ocelli")).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/other-program");
        others.iter().for_each(|name| symlink(&script, release.path(name)).unwrap());
        release
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.path("ocelli"));
        command.env_clear().args(arguments).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Run {
        self.command(arguments).output().unwrap().into()
    }
}

#[test]
fn the_other_program_gets_the_command_line_and_takes_this_ones_place() {
    let release = Release::new(&["ocelli-train", "ocelli-bench"]);
    let rows: &[(&[&str], &str)] = &[
        (&["model", "train"], "[ocelli-train] [train]"),
        (&["model", "train", "--help"], "[ocelli-train] [train] [--help]"),
        (&["model", "train", "-vh", "--version"], "[ocelli-train] [train] [-vh] [--version]"),
        (
            &["--json", "model", "-v", "quantize", "a b", "--data", "x"],
            "[ocelli-train] [--json] [-v] [quantize] [a b] [--data] [x]",
        ),
        (&["model", "import", "--", "-x"], "[ocelli-train] [import] [--] [-x]"),
        (&["model", "evaluate", "--data", "model", "--json"], "[ocelli-train] [evaluate] [--data] [model] [--json]"),
        (&["model", "check", "x.tflite", "--with", "litert"], "[ocelli-train] [check] [x.tflite] [--with] [litert]"),
        (&["help", "model", "train"], "[ocelli-train] [help] [train]"),
        (&["model", "help", "evaluate"], "[ocelli-train] [help] [evaluate]"),
        (&["bench"], "[ocelli-bench]"),
        (&["bench", "--help"], "[ocelli-bench] [--help]"),
        (&["bench", "--version"], "[ocelli-bench] [--version]"),
        (&["--json", "bench", "sync", "--rounds", "0"], "[ocelli-bench] [--json] [sync] [--rounds] [0]"),
        (&["help", "bench", "sync"], "[ocelli-bench] [help] [sync]"),
    ];
    for (arguments, expected) in rows {
        let child = release.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let id = child.id();
        let run = Run::from(child.wait_with_output().unwrap());
        // One process, so that signals and the exit code are the other program's.
        assert_eq!((run.code, run.stdout), (7, format!("{id} {expected}")), "{arguments:?}");
        assert_eq!(run.stderr, "to stderr\n", "{arguments:?}");
    }
}

#[test]
fn what_is_not_beside_is_named() {
    let release = Release::new(&[]);
    let missing = |arguments: &[&str], name: &str| {
        let run = release.run(arguments);
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{arguments:?}: {}", run.stderr);
        let found = format!("found no {}", release.path(name).display());
        assert!(run.stderr.contains(&found), "{arguments:?}: {}", run.stderr);
        let hint =
            format!("put the `{name}` of the same release there, or build it: `cargo build --release -p {name}`");
        assert!(run.stderr.contains(&hint), "{arguments:?}: {}", run.stderr);
    };
    missing(&["model", "train", "--help"], "ocelli-train");
    missing(&["help", "model", "quantize"], "ocelli-train");
    missing(&["--json", "bench"], "ocelli-bench");

    fs::write(release.path("ocelli-train"), "no program").unwrap();
    let run = release.run(&["model", "train"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stderr.contains("cannot start ocelli-train"), "{}", run.stderr);
}

#[test]
fn help_lists_what_others_carry_out() {
    let release = Release::new(&[]);
    let help = release.run(&["model", "--help"]).ok().stdout;
    for command in ["train", "quantize", "evaluate", "import", "check", "inspect", "run"] {
        assert!(help.contains(&format!("\n  {command} ")), "{help}");
    }
    assert!(release.run(&["--help"]).ok().stdout.contains("\n  bench "));
    let run = release.run(&["model", "trian"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("'train'"), "{}", run.stderr);
}
