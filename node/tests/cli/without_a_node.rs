//! What needs no network.

use std::io::Read as _;
use std::process::Stdio;

use ocelli_consensus::codec::decode;
use ocelli_consensus::network::{DEV_WALLET_SEED, Network};
use ocelli_consensus::parameters::Parameters;
use ocelli_consensus::{Address, Header};
use ocelli_node::wallet::Wallet;

use crate::environment::Environment;

#[test]
fn a_wallet_is_made_and_tells_its_address() {
    let environment = Environment::new();
    let made = environment.run_with_password("secret", &["wallet", "new", "--json"]).ok().json();
    let file = environment.path(".local/share/ocelli/wallets/default.pem");
    assert_eq!(made["wallet"], file.display().to_string());
    // An address is public: there is no password, and no terminal to ask for it.
    let told = environment.run(&["wallet", "address"]).ok();
    assert_eq!(told.stdout.trim_end(), made["address"]);
    assert!(told.stderr.is_empty(), "{}", told.stderr);

    // A wallet that does not state its public key, as those of OpenSSL, is opened, and the hint says how to add it.
    let text = std::fs::read_to_string(&file).unwrap();
    let (statement, pem) = text.split_once('\n').unwrap();
    environment.write("bare.pem", pem);
    let bare = ["wallet", "address", "--wallet", "bare.pem"];
    let closed = environment.run(&bare);
    assert_eq!((closed.code, closed.stdout.as_str()), (1, ""), "{}", closed.stderr);
    assert!(closed.stderr.contains("bare.pem does not state its public key"), "{}", closed.stderr);
    let password = environment.write("password", "secret\n").display().to_string();
    let opened = environment.run(&[&bare[..], &["--password-file", &password]].concat()).ok();
    assert_eq!(opened.stdout, told.stdout);
    let hint = format!("put this line at the top of the file: {statement}");
    assert!(opened.stderr.contains(&hint), "{}", opened.stderr);
    environment.write("bare.pem", format!("{statement}\n{pem}"));
    assert_eq!(environment.run(&bare).ok().stdout, told.stdout);
}

#[test]
fn the_data_folder_follows_xdg() {
    let environment = Environment::new();
    let share = environment.path("share");
    let made = environment
        .command(&["wallet", "new"])
        .env("OCELLI_PASSWORD", "secret")
        .env("XDG_DATA_HOME", &share)
        .output()
        .unwrap();
    assert!(made.status.success());
    assert!(share.join("ocelli/wallets/default.pem").is_file());
}

#[test]
fn the_development_wallet_prints_its_address_and_nothing_else() {
    let run = Environment::new().run(&["wallet", "address", "--wallet", "dev"]).ok();
    let address = Address::of(&Wallet::from_seed(DEV_WALLET_SEED).public_key());
    assert_eq!(run.stdout, format!("{}\n", address.to_text("toc")));
    assert_eq!(run.stderr, "");
}

#[test]
fn a_network_is_shown_with_what_its_genesis_hash_binds() {
    for name in Network::built_in_names() {
        let shown = Environment::new().run(&["network", "show", name, "--json"]).ok().json();
        let network = Network::builtin(name).unwrap();
        let parameters = hex::decode(shown["raw"]["parameters"].as_str().unwrap()).unwrap();
        assert_eq!(decode::<Parameters>(&parameters, 1 << 20).unwrap(), network.parameters);
        let header: [u8; 180] = hex::decode(shown["raw"]["header"].as_str().unwrap()).unwrap().try_into().unwrap();
        assert_eq!(Header::from_bytes(&header), network.genesis);
        assert_eq!(shown["hash"], network.genesis_hash().to_string());
        assert_eq!(shown["header"]["parent"], network.genesis.parent.to_string());
        assert_eq!(shown["parameters"]["weight_limit"], network.parameters.weight_limit);
    }
    let text = Environment::new().run(&["network", "show", "local"]).ok().stdout;
    assert!(text.contains(&Network::builtin("local").unwrap().genesis_hash().to_string()), "{text}");
}

#[test]
fn a_closed_pipe_is_quiet() {
    let environment = Environment::new();
    let mut child = environment
        .command(&["network", "show", "local", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""));
}

#[test]
fn help_is_there_for_every_command() {
    let environment = Environment::new();
    for command in [
        &["--help"][..],
        &["node", "--help"],
        &["status", "--help"],
        &["submit", "--help"],
        &["wallet", "send", "--help"],
        &["chain", "block", "--help"],
        &["network", "show", "--help"],
        &["--version"],
    ] {
        let run = environment.run(command).ok();
        assert!(!run.stdout.is_empty() && run.stderr.is_empty(), "{command:?}: {}", run.stderr);
    }
}
