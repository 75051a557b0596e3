//! What people get wrong: each with its exit code, what was found, and what to try next.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::environment::{Environment, Run};

/// Nobody listens there: port 1 needs privileges, and its service is long gone.
const DEAD: &str = "/ip4/127.0.0.1/tcp/1";

#[test]
fn mistakes_are_named() {
    let environment = Environment::new();
    let (network, _) = environment.network();
    let network = network.as_str();
    let picture = environment.picture("picture.bmp", 0).display().to_string();
    let picture = picture.as_str();
    environment.write("notes.txt", "These are words, and not a picture.");
    environment.write("empty.png", "");
    environment.write("broken.toml", "name = \"local\"\n");
    environment.write("long.toml", "x".repeat(1 << 20));
    environment.write("huge.toml", "x".repeat((16 << 20) + 1));
    environment.run_with_password("right", &["wallet", "new", "--wallet", "mine.pem"]).ok();
    let zeros = "0".repeat(64);
    let zeros = zeros.as_str();

    let submit = |args: &[&'static str]| -> Vec<String> {
        ["submit", "--network", network, "--peer", DEAD].iter().chain(args).map(|&arg| arg.to_owned()).collect()
    };
    let plain = |args: &[&str]| -> Vec<String> { args.iter().map(|&arg| arg.to_owned()).collect() };
    let rows: Vec<(&str, Vec<String>, i32, &[&str])> = vec![
        ("no command", plain(&[]), 2, &["Usage"]),
        ("unknown command", plain(&["sumbit"]), 2, &["sumbit", "submit"]),
        (
            "another name of --peer",
            plain(&["submit", "--bootstrap", DEAD, picture]),
            2,
            &["unexpected argument '--bootstrap'"],
        ),
        ("no image", plain(&["submit"]), 2, &["<PICTURE|FOLDER>"]),
        ("an API's host without an API", plain(&["node", "--api-host", "node.example"]), 2, &["--api", "--api-host"]),
        (
            "an origin with a path",
            plain(&["node", "--api", "--api-origin", "https://node.example/page"]),
            2,
            &["expected an origin such as https://example.org"],
        ),
        ("an API without a port", plain(&["node", "--api", "localhost"]), 2, &["invalid socket address"]),
        ("no terminal to draw in", plain(&["top", "--peer", DEAD]), 2, &["no terminal", "ocelli status"]),
        (
            "no picture",
            submit(&["--wallet", "dev", "notes.txt"]),
            1,
            &["1 of 1 pictures", "notes.txt: not a picture", "PNG", "nothing was sent"],
        ),
        ("empty picture", submit(&["--wallet", "dev", "empty.png"]), 1, &["empty.png: the file is empty"]),
        (
            "missing file",
            submit(&["--wallet", "dev", "picture.bmp", "gone.png", "notes.txt"]),
            1,
            &["2 of 3 pictures", "gone.png: ", "No such file"],
        ),
        (
            "unknown model",
            submit(&["--wallet", "dev", "--model", "resnet", "picture.bmp"]),
            1,
            // It may be one that the network has, so a node is asked.
            &["nobody answers at"],
        ),
        (
            "no model file",
            submit(&["--wallet", "dev", "--model", "notes.txt", "picture.bmp"]),
            1,
            &["notes.txt is not a model"],
        ),
        (
            "dead bootstrap",
            submit(&["--wallet", "dev", "picture.bmp"]),
            1,
            &["nobody answers at /ip4/127.0.0.1/tcp/1", "refused", "check the port, and that a node runs there"],
        ),
        (
            "bad multiaddr",
            plain(&["submit", "--network", network, "--wallet", "dev", "--peer", "localhost:3297", picture]),
            2,
            &["`localhost:3297` is not a multiaddr", "/ip4/"],
        ),
        (
            "unusable multiaddr",
            plain(&["status", "--peer", "/ip4/127.0.0.1/udp/7"]),
            2,
            &["/ip4/127.0.0.1/udp/7", "tcp"],
        ),
        (
            "testnet without bootstrap",
            plain(&["submit", "--network", "testnet", picture]),
            1,
            &["testnet has no public bootstrap node", "ocelli node --network testnet", "--peer"],
        ),
        (
            "unknown network",
            plain(&["network", "show", "mainnet"]),
            1,
            &[
                "no network `mainnet`",
                "local, testnet",
                "hint: give one of these names, or the path of a network file;",
            ],
        ),
        ("unknown network", plain(&["node", "--network", "mainnet"]), 1, &["no network `mainnet`"]),
        ("no network file", plain(&["network", "show", "./gone.toml"]), 1, &["./gone.toml", "No such file"]),
        ("bad network file", plain(&["network", "show", "broken.toml"]), 1, &["broken.toml", "missing field"]),
        ("long network file", plain(&["network", "show", "long.toml"]), 1, &["long.toml is not valid", "…"]),
        ("huge network file", plain(&["network", "show", "huge.toml"]), 1, &["huge.toml", "more than 16777216 bytes"]),
        ("no wallet", submit(&["picture.bmp"]), 1, &["no wallet at", "default.pem", "ocelli wallet new"]),
        ("no wallet", plain(&["wallet", "balance", "--peer", DEAD]), 1, &["no wallet at"]),
        (
            "wallet taken",
            plain(&["wallet", "new", "--wallet", "mine.pem"]),
            1,
            &["mine.pem exists already", "never overwritten"],
        ),
        ("dev needs no file", plain(&["wallet", "new", "--wallet", "dev"]), 2, &["development wallet"]),
        (
            "wrong password",
            plain(&["wallet", "send", "toc1x", "1", "--wallet", "mine.pem", "--peer", DEAD]),
            1,
            &["the password does not open mine.pem"],
        ),
        ("not a wallet", plain(&["wallet", "address", "--wallet", "notes.txt"]), 1, &["notes.txt is not a wallet"]),
        (
            "dev wallet elsewhere",
            plain(&["wallet", "address", "--wallet", "dev", "--network", "testnet"]),
            1,
            &["everybody has the key", "ocelli wallet new"],
        ),
        ("bad amount", plain(&["wallet", "send", "toc1x", "1e3", "--peer", DEAD]), 2, &["'1e3' is not an amount"]),
        ("no amount", plain(&["wallet", "send", "toc1x", "0", "--peer", DEAD]), 2, &["the amount is 0"]),
        ("bad height", plain(&["chain", "block", "seven", "--peer", DEAD]), 2, &["seven", "expected a height"]),
        ("negative height", plain(&["chain", "block", "--peer", DEAD, "--", "-1"]), 2, &["expected a height"]),
        ("bad txid", plain(&["chain", "tx", "abc", "--peer", DEAD]), 2, &["'abc' is not a transaction id", "64"]),
        (
            "no port",
            plain(&["status", "--peer", "/ip4/127.0.0.1/tcp/0"]),
            1,
            &["the system does not connect to such an address or port", "hint: correct the address"],
        ),
        ("dead peer", plain(&["chain", "tx", zeros, "--peer", DEAD]), 1, &["nobody answers at", "refused"]),
        ("no node here", plain(&["status"]), 1, &["found no node that runs on this machine", "ocelli node", "--peer"]),
        ("no node there", plain(&["status", "--data", "nowhere"]), 1, &["nowhere/node.json", "--data"]),
        (
            "bad address to mine for",
            plain(&["node", "--mine", "hello"]),
            1,
            &["'hello' is not an address", "wallet address"],
        ),
        (
            "bad address to listen at",
            plain(&["node", "--network", network, "--data", "data", "--listen", "0.0.0.0:1", "--device", "cpu"]),
            2,
            &["`0.0.0.0:1` is not a multiaddr"],
        ),
        ("bad device", plain(&["node", "--device", "tpu"]), 2, &["tpu", "cuda"]),
        ("endless timeout", plain(&["submit", "--timeout", "18446744073709551615", picture]), 2, &["--timeout"]),
        ("endless timeout", plain(&["wallet", "send", "toc1x", "1", "--timeout", "99999999999"]), 2, &["--timeout"]),
        ("nobody to mine for", plain(&["node", "--mine-threads", "2"]), 2, &["--mine <ADDRESS>"]),
        (
            "everybody's key for a faucet",
            plain(&["node", "--network", "testnet", "--faucet", "dev"]),
            1,
            &["everybody has the key of the development wallet"],
        ),
        (
            "a faucet that opens no account",
            plain(&["node", "--network", "local", "--faucet", "dev", "--faucet-amount", "0.0001"]),
            2,
            &["--faucet-amount is 0.0001 credits, expected 0.001 or more"],
        ),
        ("a faucet that pays nothing", plain(&["node", "--faucet-amount", "1"]), 2, &["--faucet <FILE|dev>"]),
        ("no threads", plain(&["node", "--mine-threads", "0"]), 2, &["--mine-threads"]),
    ];
    for (name, args, code, expected) in rows {
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let run = environment.run_with_password("wrong", &args);
        assert_eq!(run.code, code, "{name}: {}", run.stderr);
        assert_eq!(run.stdout, "", "{name}: results only");
        for text in expected {
            assert!(run.stderr.contains(text), "{name}: expected {text:?} in: {}", run.stderr);
        }
        assert!(run.stderr.len() < 10_000, "{name}: {} bytes", run.stderr.len());
        assert!(!run.stderr.contains("panicked"), "{name}: {}", run.stderr);
    }
}

/// A backtrace is for who mends a library, also where the environment asks for it.
#[test]
#[cfg(not(any(feature = "cuda", feature = "metal")))]
fn a_device_that_is_not_there_is_said_in_one_line() {
    let environment = Environment::new();
    let options = ["node", "--network", "local", "--data", "data", "--listen", "/ip4/127.0.0.1/tcp/0", "--device"];
    for device in ["cuda", "metal"] {
        let mut command = environment.command(&[&options[..], &[device]].concat());
        let run: Run = command.env("RUST_BACKTRACE", "full").output().unwrap().into();
        let expected = format!(
            "error: the device '{device}' cannot be used\n  caused by: this program was built without the feature \
             `{device}`\nhint: try --device cpu, and unset OCELLI_KERNEL if it is set\n"
        );
        let (log, error) = run.stderr.split_once("error: ").unwrap();
        assert_eq!((run.code, format!("error: {error}")), (1, expected));
        assert_eq!(log.lines().count(), 1, "the node says that it starts: {log}");
    }
}

#[test]
fn a_port_of_something_else_is_said() {
    let environment = Environment::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("/ip4/127.0.0.1/tcp/{}", listener.local_addr().unwrap().port());
    // One that speaks another protocol, then one that closes at once, for as many dials as come.
    let speaks = Arc::new(AtomicBool::new(true));
    let answers = Arc::clone(&speaks);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if answers.load(Ordering::Relaxed) {
                drop(stream.write_all(b"\x13/multistream/1.0.0\n\x03na\n"));
                drop(stream.read_to_end(&mut Vec::new()));
            }
        }
    });
    for (does_speak, expected, hint) in [
        (true, "something else than an Ocelli node answers there", "hint: check the port"),
        (false, "takes the connection and closes it at once", "hint: check that it is a node's port"),
    ] {
        speaks.store(does_speak, Ordering::Relaxed);
        let run = environment.run(&["status", "--peer", &address]);
        assert_eq!(run.code, 1);
        assert!(run.stderr.contains(expected) && run.stderr.contains(hint), "{}", run.stderr);
    }
}

#[test]
fn a_stale_node_file_says_that_the_node_may_be_gone() {
    let environment = Environment::new();
    let genesis = ocelli_consensus::Network::builtin("local").unwrap().genesis_hash();
    let node =
        format!(r#"{{"peer_id":"x","addresses":["{DEAD}"],"network":"local","genesis":"{genesis}","pid":4194305}}"#);
    environment.write("node.json", node);
    let run = environment.run(&["status", "--data", "."]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("nobody answers") && run.stderr.contains("4194305"), "{}", run.stderr);

    environment.write("node.json", "{}");
    let run = environment.run(&["status", "--data", "."]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("node.json is not what a node writes"), "{}", run.stderr);
}

#[test]
fn no_password_is_asked_for_what_is_no_wallet() {
    let environment = Environment::new();
    environment.write("notes.txt", "These are words.");
    let run = environment.run(&["wallet", "address", "--wallet", "notes.txt"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("notes.txt is not a wallet"), "{}", run.stderr);
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_under_the_result_is_said() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = Environment::new().command(&["network", "show", "local"]).stdout(full).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("cannot write the result to standard output"), "{stderr}");
}

#[test]
fn no_home_folder_is_said() {
    let environment = Environment::new();
    let output = environment.command(&["wallet", "address"]).env_remove("HOME").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("HOME") && stderr.contains("--wallet"), "{stderr}");
}
