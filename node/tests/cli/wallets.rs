//! Several wallets: made, brought in, backed up, listed, watched; and what they sign.

use std::io::Write as _;
use std::process::Stdio;

use crate::environment::{Environment, Run};

/// RFC 8032, section 7.1, test 1, as BIP-39 writes 32 bytes; its public key begins d75a98.
const PHRASE: &str = "oval cover quality cream wisdom cup knife rhythm cause stuff wagon whisper uphold uniform hidden pilot giant \
                      bone glance mistake recycle divide mom dose";

fn run_with_stdin(environment: &Environment, stdin: &str, args: &[&str]) -> Run {
    let mut child = environment
        .command(args)
        .env("OCELLI_PASSWORD", "secret")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    child.wait_with_output().unwrap().into()
}

#[test]
fn a_phrase_restores_the_wallet_it_was_written_down_from() {
    let environment = Environment::new();
    let made = environment.run_with_password("secret", &["wallet", "new", "--wallet", "savings", "--json"]).ok().json();
    assert_eq!(made["wallet"], environment.path(".local/share/ocelli/wallets/savings.pem").display().to_string());
    let exported =
        environment.run_with_password("secret", &["wallet", "export", "--phrase", "--wallet", "savings"]).ok();
    assert_eq!(exported.stdout.split_whitespace().count(), 24, "{}", exported.stdout);

    let restored = run_with_stdin(
        &environment,
        &exported.stdout.replace(' ', "\n"),
        &["wallet", "import", "--phrase", "--wallet", "again", "--json"],
    );
    assert_eq!(restored.ok().json()["address"], made["address"]);
    let address = environment.run(&["wallet", "address", "--wallet", "again"]).ok();
    assert_eq!(address.stdout.trim_end(), made["address"]);

    let wrong = run_with_stdin(&environment, "zoo zoo", &["wallet", "import", "--phrase", "--wallet", "third"]);
    assert_eq!(wrong.code, 1);
    assert!(wrong.stderr.contains("2 words, expected 24"), "{}", wrong.stderr);
    assert!(!environment.path(".local/share/ocelli/wallets/third.pem").exists());
    assert_eq!(run_with_stdin(&environment, PHRASE, &["wallet", "import", "--phrase", "--wallet", "again"]).code, 1);
}

#[test]
fn a_key_of_openssl_becomes_a_wallet_and_goes_out_again() {
    let environment = Environment::new();
    // `openssl genpkey -algorithm ed25519`
    let key = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIE3bfm4IjnvMDi8p7zhpkFeO6KoGiVtZRaSyJF9H5lm4\n-----END PRIVATE KEY-----\n";
    environment.write("open.pem", key);
    let refused = environment.run(&["wallet", "address", "--wallet", "open.pem"]);
    assert!(refused.stderr.contains("ocelli wallet import open.pem --wallet NAME"), "{}", refused.stderr);

    let import = ["wallet", "import", "open.pem", "--wallet", "field", "--json"];
    let imported = environment.run_with_password("secret", &import).ok().json();
    let taken = environment.run_with_password("secret", &import);
    assert!(taken.stderr.contains("field.pem exists already"), "{}", taken.stderr);

    // What goes out opens with the same password, and comes in again as the same key.
    environment.run_with_password("secret", &["wallet", "export", "--wallet", "field", "-o", "copy.pem"]).ok();
    let again =
        environment.run_with_password("secret", &["wallet", "import", "copy.pem", "--wallet", "./b.pem", "--json"]);
    assert_eq!(again.ok().json()["address"], imported["address"]);
    let wrong = environment.run_with_password("guess", &["wallet", "import", "copy.pem", "--wallet", "c"]);
    assert!(wrong.stderr.contains("the password does not open copy.pem"), "{}", wrong.stderr);
    let over = environment.run_with_password("secret", &["wallet", "export", "--wallet", "field", "-o", "open.pem"]);
    assert!(over.stderr.contains("open.pem exists already"), "{}", over.stderr);
    assert_eq!(std::fs::read_to_string(environment.path("open.pem")).unwrap(), key);
}

#[test]
fn wallets_are_listed_without_a_password() {
    let environment = Environment::new();
    let empty = environment.run(&["wallet", "list"]).ok();
    assert!(empty.stdout.contains("`ocelli wallet new` makes one"), "{}", empty.stdout);
    let made = environment.run_with_password("secret", &["wallet", "new", "--json"]).ok().json();
    let address = made["address"].as_str().unwrap();
    environment.run(&["wallet", "import", "--address", address, "--wallet", "watched"]).ok();
    let folder = environment.path(".local/share/ocelli/wallets");
    std::fs::write(folder.join("broken.pem"), "no key").unwrap();
    std::fs::write(folder.join("notes.txt"), "no wallet").unwrap();

    let listed = environment.run(&["wallet", "list", "--json"]).ok().json();
    let wallets = listed["wallets"].as_array().unwrap();
    let told: Vec<_> = wallets.iter().map(|wallet| (&wallet["name"], &wallet["kind"], &wallet["address"])).collect();
    let text = |text: &str| serde_json::Value::from(text);
    let null = serde_json::Value::Null;
    let expected = [
        (&text("broken"), &text("key"), &null),
        (&text("default"), &text("key"), &made["address"]),
        (&text("watched"), &text("watch-only"), &made["address"]),
    ];
    assert_eq!(told, expected);
    assert!(wallets[0]["problem"].as_str().unwrap().contains("is not a wallet"));
    let shown = environment.run(&["wallet", "list", "--network", "local"]).ok().stdout;
    assert_eq!(shown.matches(address).count(), 2, "{shown}");
}

#[test]
fn a_watched_address_tells_and_signs_nothing() {
    let environment = Environment::new();
    let made = environment.run_with_password("secret", &["wallet", "new", "--json"]).ok().json();
    let address = made["address"].as_str().unwrap();
    let import = ["wallet", "import", "--address", address, "--wallet", "watched"];
    environment.run(&import).ok();
    assert_eq!(environment.run(&["wallet", "address", "--wallet", "watched"]).ok().stdout.trim_end(), address);
    for command in [&["sign", "hello"][..], &["export"], &["export", "--phrase"]] {
        let refused = environment.run(&[&["wallet"], command, &["--wallet", "watched"]].concat());
        assert_eq!(refused.code, 1);
        assert!(refused.stderr.contains("watch-only wallet, an address without its key"), "{}", refused.stderr);
    }
    let new = environment.run_with_password("secret", &["wallet", "new", "--wallet", "watched"]);
    assert!(new.stderr.contains("exists already"), "{}", new.stderr);
    let mistyped = environment.run(&["wallet", "import", "--address", &address[..30], "--wallet", "other"]);
    assert!(mistyped.stderr.contains("is not an address"), "{}", mistyped.stderr);
}

#[test]
fn a_signed_message_is_verified_by_anybody() {
    let environment = Environment::new();
    let made = environment.run_with_password("secret", &["wallet", "new", "--json"]).ok().json();
    let address = made["address"].as_str().unwrap();
    let signed = environment.run_with_password("secret", &["wallet", "sign", "I hold it"]).ok();
    let signature = signed.stdout.trim_end();
    environment.run(&["wallet", "verify", address, signature, "I hold it"]).ok();
    environment.write("letter", "I hold it");
    environment.run(&["wallet", "verify", address, signature, "--file", "letter"]).ok();
    let json = environment.run_with_password("secret", &["wallet", "sign", "--file", "letter", "--json"]).ok().json();
    assert_eq!((json["address"].as_str(), json["signature"].as_str()), (Some(address), Some(signature)));

    let other = environment.run(&["wallet", "address", "--wallet", "dev"]).ok().stdout;
    for (args, words) in [
        ([address, signature, "I held it"], "not of this message"),
        ([other.trim_end(), signature, "I hold it"], "by the key of another address"),
        ([address, "abc", "I hold it"], "128 characters"),
    ] {
        let refused = environment.run(&[&["wallet", "verify"][..], &args].concat());
        assert_eq!(refused.code, 1, "{args:?}");
        assert!(refused.stderr.contains(words), "{}", refused.stderr);
    }
}

#[test]
fn a_file_is_not_taken_for_a_name() {
    let environment = Environment::new();
    environment.run_with_password("secret", &["wallet", "new", "--wallet", "./mine"]).ok();
    let refused = environment.run(&["wallet", "address", "--wallet", "mine"]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("the file mine of this folder is --wallet ./mine"), "{}", refused.stderr);
    environment.run(&["wallet", "address", "--wallet", "./mine"]).ok();
    for (args, words) in [
        (&["wallet", "import", "--wallet", "x"][..], "required"),
        (&["wallet", "import", "a.pem", "--phrase", "--wallet", "x"], "cannot be used with"),
        (&["wallet", "import", "gone.pem", "--wallet", "x"], "no wallet at gone.pem"),
        (&["wallet", "sign"], "required"),
        (&["wallet", "export", "--wallet", "dev"], "has no file"),
    ] {
        let run = environment.run(args);
        assert!(run.code > 0 && run.stderr.contains(words), "{args:?}: {}", run.stderr);
    }
}
