//! Files in every form: keys and passwords that are read, and links, devices, pipes and limits where files are written.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ocelli_consensus::Address;
use ocelli_model::zoo;

use crate::environment::{Environment, Run};

/// The key of `tests/fixtures/keys`, that of RFC 8032, section 7.1, test 1.
const PUBLIC_KEY: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

fn key(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/keys").join(name).display().to_string()
}

fn address() -> String {
    let key: [u8; 32] = hex::decode(PUBLIC_KEY).unwrap().try_into().unwrap();
    format!("{}\n", Address::of(&key).to_text("toc"))
}

/// A shell's script with the binary as `$0`.
fn shell(environment: &Environment, shell: &str, script: &str) -> Command {
    let mut command = Command::new(shell);
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", environment.path(""))
        .current_dir(environment.path(""));
    command.args(["-c", script, env!("CARGO_BIN_EXE_ocelli")]).stdin(Stdio::null());
    command
}

fn names(environment: &Environment) -> Vec<String> {
    let entries = fs::read_dir(environment.path("")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn keys_and_passwords_open_in_every_form() {
    let environment = Environment::new();
    for name in ["00-scrypt", "20-one-line", "25-blank-lines-after", "26-spaces-at-ends", "30-public-key-first"] {
        for password in ["pw", "pw-bom"] {
            let (wallet, password) = (key(&format!("{name}.pem")), key(password));
            let run = environment.run(&["wallet", "address", "--wallet", &wallet, "--password-file", &password]).ok();
            assert_eq!(run.stdout, address(), "{name}");
        }
    }
    let run = environment.run_with_password("\u{feff}x y\n", &["wallet", "address", "--wallet", &key("3des.pem")]).ok();
    assert_eq!(run.stdout, address());
}

#[cfg(unix)]
#[test]
fn a_wallet_may_come_through_a_pipe() {
    let environment = Environment::new();
    let args = ["wallet", "address", "--wallet", "/dev/stdin", "--password-file", &key("pw")];
    let from_file = environment.command(&args).stdin(File::open(key("00-scrypt.pem")).unwrap()).output().unwrap();
    assert_eq!(Run::from(from_file).ok().stdout, address());

    let mut child =
        environment.command(&args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&fs::read(key("00-scrypt.pem")).unwrap()).unwrap();
    assert_eq!(Run::from(child.wait_with_output().unwrap()).ok().stdout, address());

    let script = format!(
        "\"$0\" wallet address --wallet <(cat '{}') --password-file <(cat '{}')",
        key("00-scrypt.pem"),
        key("pw-bom")
    );
    assert_eq!(Run::from(shell(&environment, "bash", &script).output().unwrap()).ok().stdout, address());
}

/// What `model export` writes.
fn model() -> Vec<u8> {
    zoo::get("cifar10-cnn").unwrap().bytes().to_vec()
}

fn export(environment: &Environment, file: &str) -> Output {
    environment.command(&["model", "export", "cifar10-cnn", "-o", file]).output().unwrap()
}

#[cfg(unix)]
#[test]
fn links_devices_and_pipes_are_written_through() {
    let environment = Environment::new();
    environment.write("target", "old");
    std::os::unix::fs::symlink("target", environment.path("link")).unwrap();
    Run::from(export(&environment, "link")).ok();
    assert!(environment.path("link").symlink_metadata().unwrap().is_symlink());
    assert_eq!(fs::read(environment.path("target")).unwrap(), model());

    Run::from(export(&environment, "/dev/null")).ok();
    assert!(!fs::metadata("/dev/null").unwrap().is_file());

    assert!(Command::new("mkfifo").arg(environment.path("fifo")).status().unwrap().success());
    let reader = std::thread::spawn({
        let fifo = environment.path("fifo");
        move || fs::read(fifo).unwrap()
    });
    Run::from(export(&environment, "fifo")).ok();
    assert_eq!(reader.join().unwrap(), model());

    // Standard output holds the model and nothing else; the result goes to stderr.
    let output = export(&environment, "/dev/stdout");
    assert_eq!((output.status.code(), output.stdout == model()), (Some(0), true));
    assert!(String::from_utf8(output.stderr).unwrap().contains("bytes, model "));
    let file = File::create(environment.path("redirected")).unwrap();
    let output = environment
        .command(&["model", "export", "cifar10-cnn", "-o", "/dev/stdout", "--json"])
        .stdout(file)
        .output()
        .unwrap();
    assert_eq!((output.status.code(), fs::read(environment.path("redirected")).unwrap() == model()), (Some(0), true));
    assert_eq!(names(&environment), ["fifo", "link", "redirected", "target"]);
}

#[cfg(target_os = "linux")]
#[test]
fn what_cannot_be_written_is_said_and_leaves_nothing() {
    let environment = Environment::new();
    let limited = |file: &str| -> Run {
        let script = format!("ulimit -f 1; exec \"$0\" model export cifar10-cnn -o {file}");
        shell(&environment, "sh", &script).output().unwrap().into()
    };
    let run = limited("out");
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{}", run.stderr);
    assert!(
        run.stderr.contains("cannot write out") && run.stderr.contains("File too large (os error 27)\n"),
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains("ulimit -f"), "{}", run.stderr);
    assert!(names(&environment).is_empty(), "{:?}", names(&environment));

    environment.write("out", "as it was");
    assert_eq!(limited("out").code, 1);
    assert_eq!(
        (fs::read(environment.path("out")).unwrap(), names(&environment)),
        (b"as it was".to_vec(), vec!["out".into()])
    );

    let run: Run = export(&environment, "/dev/full").into();
    assert!(run.code == 1 && run.stderr.contains("No space left") && run.stderr.contains("hint: "), "{}", run.stderr);
    let run: Run = export(&environment, ".").into();
    assert!(run.code == 1 && run.stderr.contains("is a directory"), "{}", run.stderr);
    let run: Run = export(&environment, "gone/out").into();
    assert!(run.code == 1 && run.stderr.contains("No such file or directory"), "{}", run.stderr);
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_may_not_be_written_is_said() {
    use std::os::unix::fs::PermissionsExt as _;
    let environment = Environment::new();
    let folder: PathBuf = environment.path("folder");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("out"), "as it was").unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o500)).unwrap();
    if File::create(folder.join("probe")).is_ok() {
        // Root writes anywhere.
        return;
    }
    let run: Run = export(&environment, "folder/out").into();
    assert!(run.code == 1 && run.stderr.contains("Permission denied"), "{}", run.stderr);
    assert_eq!(fs::read(folder.join("out")).unwrap(), b"as it was");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
}
