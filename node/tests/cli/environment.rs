//! A home folder for one test, and the binary run in it.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ocelli_consensus::Network;
use ocelli_model::zoo;
use tempfile::TempDir;

use crate::numbers;

/// A home folder that goes when the test is over.
pub struct Environment {
    home: TempDir,
}

/// What a run of the binary came to.
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Environment {
    pub fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, contents).unwrap();
        path
    }

    /// The binary with an environment of its own, in the home folder.
    pub fn command(&self, args: &[&str]) -> Command {
        self.command_by(&[], args)
    }

    /// The same, started by another program with arguments before it.
    pub fn command_by(&self, starter: &[&str], args: &[&str]) -> Command {
        let mut words = [starter, &[env!("CARGO_BIN_EXE_ocelli")], args].concat().into_iter();
        let mut command = Command::new(words.next().unwrap());
        command
            .env_clear()
            .env("HOME", self.home.path())
            .current_dir(self.home.path())
            .args(words)
            .stdin(Stdio::null());
        command
    }

    /// The same, which Ctrl-C stops also where whoever runs the tests ignores it, as what a shell has put into the background does.
    pub fn command_for_ctrl_c(&self, args: &[&str]) -> Command {
        self.command_by(if cfg!(target_os = "linux") { &["env", "--default-signal=INT"] } else { &[] }, args)
    }

    /// The same, by a shell with a limit, as `ulimit` takes it.
    #[cfg(target_os = "linux")]
    pub fn limited_command(&self, limit: &str, args: &[&str]) -> Command {
        self.command_by(&["sh", "-c", &format!("ulimit {limit} && exec \"$@\""), "sh"], args)
    }

    pub fn run(&self, args: &[&str]) -> Run {
        self.command(args).output().unwrap().into()
    }

    /// Runs with a password for wallets.
    pub fn run_with_password(&self, password: &str, args: &[&str]) -> Run {
        self.command(args).env("OCELLI_PASSWORD", password).output().unwrap().into()
    }

    /// A picture of 32×32 pixels whose colours depend on `seed`: BMP, 24 bits, bottom row first.
    pub fn picture(&self, name: &str, seed: u8) -> PathBuf {
        let mut bmp = Vec::from(b"BM");
        for field in [54 + 3072, 0, 54, 40, 32, 32] {
            bmp.extend(u32::to_le_bytes(field));
        }
        bmp.extend([1, 0, 24, 0]);
        for field in [0, 3072, 2835, 2835, 0, 0] {
            bmp.extend(u32::to_le_bytes(field));
        }
        bmp.extend((0..3072u32).map(|index| (index.wrapping_mul(31 + u32::from(seed)) >> 3) as u8));
        self.write(name, bmp)
    }

    /// A network like `local`, by its name too, but with the built-in model whatever the built-in network says, and with so
    /// little work in a block that tests mine.
    pub fn network(&self) -> (String, Network) {
        let model = zoo::get("cifar10-cnn").unwrap();
        let text = format!(
            "name = \"local\"\naddress_prefix = \"toc\"\ngenesis_time = 1790000000\nspacing = 2\nhalf_life = 60\n\
             easiest_target = \"0x2000ffff\"\nreward = \"10\"\nhalving = 1000\nweight_limit = 2000000\n\
             minimum_balance = \"0.001\"\nretention = 1000\nattachment_retention = 500\nupload_window = 200\n\
             model_delay = 4\nmodel_price = \"0.00001\"\n\
             [[models]]\nid = \"{}\"\nsize = {}\nchannels = 3\nheight = 32\nwidth = 32\nclasses = {}\ncost = {}\n",
            model.id(),
            model.bytes().len(),
            model.logits(),
            model.cost()
        );
        let path = self.write("test-network.toml", &text);
        (path.display().to_string(), Network::from_toml(&text).unwrap())
    }
}

impl Run {
    /// Fails the test unless the command succeeded.
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// What was printed, which keeps to what all JSON keeps to.
    pub fn json(&self) -> serde_json::Value {
        let value = serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}\n{}", self.stdout, self.stderr));
        numbers::check(&value);
        value
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().expect("no signal ends it"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Polls until it is so, for a minute at most.
pub fn wait_until(what: &str, is_so: &dyn Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}
