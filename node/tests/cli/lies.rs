//! A node that lies, alone and beside an honest one: every lie is a row. No command may print what such a node makes up.

use ocelli_consensus::network::DEV_WALLET_SEED;
use ocelli_consensus::{Address, Amount};
use ocelli_node::wallet::Wallet;
use serde_json::{Value, json};

use crate::environment::{Environment, Run};
use crate::scripted_node::{Answers, FEE_RATES, GAP, GIFT, HEIGHT, Lie, NONCE, Script, ScriptedNode, TIP, transfers};

/// More than a lying chain has, and less than the honest one: 5 of 9 blocks.
const MINIMUM_WORK: &str = "minimum_work = \"0x500\"\n";

/// What is asked.
#[derive(Clone, Copy, Debug)]
enum Question {
    Transaction,
    Block,
    Balance,
    ChainStatus,
    History,
}

use Question::{Balance, Block, ChainStatus, History, Transaction};

const ALL: &[Question] = &[Transaction, Block, Balance, ChainStatus];

struct Asking<'a> {
    environment: &'a Environment,
    file: &'a str,
    txid: String,
}

impl Asking<'_> {
    fn ask(&self, question: Question, nodes: &[&ScriptedNode]) -> Run {
        let height = HEIGHT.to_string();
        let mut args = match question {
            Transaction => vec!["chain", "tx", &self.txid],
            Block => vec!["chain", "block", &height],
            Balance => vec!["wallet", "balance", "--wallet", "dev"],
            ChainStatus => vec!["chain", "status"],
            History => vec!["wallet", "history", "--wallet", "dev"],
        };
        args.extend(["--json", "--network", self.file]);
        nodes.iter().for_each(|node| args.extend(["--peer", node.address.as_str()]));
        self.environment.run(&args)
    }
}

/// Each lie, the commands that ask for what it is about, and what is said of it.
const ROWS: &[(Lie, &[Question], &str)] = &[
    (Lie::OtherTransaction, &[Transaction], "asked for transaction"),
    (Lie::WrongBlock, &[Transaction], "what it shows of block 7 breaks a rule: rule 8 (BodyRoot): body root"),
    (Lie::Unsigned, &[Transaction, Block], "what it shows of block 6 breaks a rule"),
    (Lie::OtherAnswer, &[Transaction], "what it shows of block 6 breaks a rule: rule 8 (BodyRoot): body root"),
    (Lie::OtherBody, &[Block], "what it shows of block 6 breaks a rule: rule 8 (BodyRoot): body root"),
    (Lie::OtherHeight, &[Transaction], "as that of height 777777, which the headers that it shows do not hold"),
    (Lie::OtherHeight, &[Block], "asked for the block at height 6, it shows block"),
    (Lie::NoWork, ALL, "its header at height 6 breaks a rule: rule 5 (ProofOfWork): hash"),
    (
        Lie::EasyTarget,
        ALL,
        "its header at height 6 breaks a rule: rule 4 (Target): target 0x207fffff, expected 0x2000ffff",
    ),
    (Lie::EasyFork, ALL, "its chain has a work of 1024 hashes, and the network's `minimum_work` is 1280"),
    (Lie::MoreConfirmations, ALL, "it says that its tip is block 106"),
    (Lie::Truncated, ALL, "it says that its tip is block 8, and shows no headers that lead there"),
    (Lie::Unrelated, ALL, "its header at height 5 stands on"),
    (Lie::OtherGenesis, ALL, "its chain has the genesis 0808"),
    (Lie::MoreWork, ALL, "and its headers have 2304"),
    (Lie::HugeStatus, &[Transaction, Block, Balance], "it says that its tip is block 18446744073709551615"),
    (Lie::HugeHeader, &[Transaction], "as that of height 18446744073709551615, which the headers"),
    (Lie::HugeHeader, &[Block], "asked for the block at height 6, it shows block"),
    (Lie::Balance, &[Balance], "what it says of the account is not what the state of block 8 holds"),
    (Lie::BalanceInNoBlock, &[Balance], "as that of height 9, which the headers that it shows do not hold"),
    (
        Lie::NextNonce,
        &[Balance],
        "it says that the next nonce is 18446744073709551615, expected 9007199254740993 to 9007199254741057",
    ),
    (Lie::Balance, &[History], "what it says of the account is not what the state of block 8 holds"),
    (Lie::EntryAmount, &[History], "what it says that block 6 does to the account is not what the block does"),
    (Lie::EntryUnsigned, &[History], "what it shows of block 6 breaks a rule: rule 8 (BodyRoot): body root"),
    (Lie::EntryReward, &[History], "what it says that block 6 does to the account is not what the block does"),
    (Lie::EntryOrder, &[History], "in another order than the chain's"),
    (Lie::EntriesEndless, &[History], "in another order than the chain's"),
    (Lie::EntriesWhole, &[History], "does not add up: the balance is 1 credits"),
    (Lie::StateRoot, &[ChainStatus], "it says that block 8 has another time or state root than its header"),
];

#[test]
fn a_lying_node_is_not_believed() {
    let environment = Environment::new();
    let (file, network) = environment.network();
    let text = std::fs::read_to_string(&file).unwrap();
    let strict = environment.write("strict.toml", MINIMUM_WORK.to_owned() + &text).display().to_string();
    let txid = transfers(&network)[0].txid().to_string();
    let alone = Asking { environment: &environment, file: &strict, txid: txid.clone() };
    for (seed, &(lie, questions, words)) in (100..).zip(ROWS) {
        let script = Script { transfers: 2, lie: Some(lie), ..Script::default() };
        let liar = ScriptedNode::start(&network, seed, &[], script);
        for &question in questions {
            let run = alone.ask(question, &[&liar]);
            assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{lie:?} {question:?}: {}", run.stderr);
            assert!(run.stderr.contains(words), "{lie:?} {question:?}: {}", run.stderr);
            assert!(run.stderr.contains(&liar.address), "{lie:?} {question:?} names the node: {}", run.stderr);
        }
    }
}

#[test]
fn who_has_to_be_updated_is_said_by_the_exit_code() {
    let environment = Environment::new();
    let (file, network) = environment.network();
    let picture = environment.picture("picture.bmp", 1).display().to_string();
    for (lie, seed, words) in [
        (Lie::OtherVersion, 201, "follows version 9 of the rules from block 6 on, expected 1"),
        (Lie::Outdated, 202, "the node has to be updated, and confirms nothing: a chain of version 9 has more work"),
    ] {
        let node = ScriptedNode::start(&network, seed, &[], Script { lie: Some(lie), ..Script::default() });
        let run = environment.run(&[
            "submit",
            "--network",
            &file,
            "--wallet",
            "dev",
            "--peer",
            &node.address,
            "--wait",
            "1",
            &picture,
        ]);
        assert_eq!((run.code, run.stdout.as_str()), (3, ""), "{lie:?}: {}", run.stderr);
        assert!(run.stderr.contains(words) && run.stderr.contains("update"), "{lie:?}: {}", run.stderr);
    }
}

#[test]
fn beside_an_honest_node_a_lying_one_is_named() {
    let environment = Environment::new();
    let (file, network) = environment.network();
    let transfer = &transfers(&network)[0];
    let asking = Asking { environment: &environment, file: &file, txid: transfer.txid().to_string() };
    let honest = ScriptedNode::start(&network, 99, &[], Script { transfers: 2, ..Script::default() });
    for (seed, &(lie, questions, words)) in (100..).zip(ROWS) {
        let script = Script { transfers: 2, lie: Some(lie), ..Script::default() };
        let liar = ScriptedNode::start(&network, seed, &[], script);
        for &question in questions {
            let run = asking.ask(question, &[&liar, &honest]).ok();
            let found = run.json();
            let context = format!("{lie:?} {question:?}: {found} {}", run.stderr);
            // If the honest one has shown the same tip before, nobody asks for these headers, and nothing false is said.
            let is_unsaid = matches!(lie, Lie::Truncated | Lie::Unrelated);
            let is_count = |nodes: &Value| nodes.as_u64() == Some(1) || is_unsaid && nodes.as_u64() == Some(2);
            match question {
                Transaction => {
                    assert_eq!((&found["txid"], &found["height"]), (&json!(asking.txid), &json!(HEIGHT)), "{context}");
                    assert_eq!(found["confirmations"], TIP - HEIGHT + 1, "{context}");
                    let evidence = &found["evidence"];
                    assert_eq!(
                        (&evidence["work"], &evidence["checked_from"]),
                        (&json!("0x300"), &json!(0)),
                        "{context}"
                    );
                    assert!(is_count(&evidence["nodes"]), "{context}");
                }
                Block => {
                    assert_eq!(found["transactions"].as_array().unwrap().len(), 2, "{context}");
                    assert_eq!((&found["confirmations"], &found["main_chain"]), (&json!(3), &json!(true)), "{context}");
                }
                Balance => {
                    assert_eq!(
                        (&found["balance"], &found["next_nonce"]),
                        (&json!("1"), &json!(NONCE.to_string())),
                        "{context}"
                    );
                    assert_eq!(found["checked"], true, "{context}");
                    assert!(is_count(&found["nodes"]), "{context}");
                }
                History => {
                    assert_eq!((&found["balance"], &found["whole"]), (&json!("1"), &json!(false)), "{context}");
                    let entries = found["entries"].as_array().unwrap();
                    assert_eq!((entries.len(), &entries[1]["balance"]), (2, &json!("1")), "{context}");
                    assert_eq!(found["opening"], "1.02002003", "{context}");
                    assert!(entries.iter().all(|entry| entry["evidence"] == "proven"), "{context}");
                }
                ChainStatus => {
                    assert_eq!((&found["height"], &found["checked"]), (&json!(TIP), &json!(true)), "{context}");
                }
            }
            // Of a block and of how a node is the first that can be believed is enough, and that may be the honest one.
            let words = if lie == Lie::EasyFork { "has less work: 1024 hashes, and that one 2304" } else { words };
            let is_asked = !is_unsaid && (questions.len() > 2 || matches!(question, Transaction | Balance | History));
            assert!(!is_asked || run.stderr.contains(words), "{context}");
            assert!(!is_asked || run.stderr.contains(&liar.address), "{context}");
        }
    }
}

#[test]
fn an_account_that_is_denied_is_shown_by_another_node() {
    let environment = Environment::new();
    let (file, network) = environment.network();
    let asking = Asking { environment: &environment, file: &file, txid: String::new() };
    let honest = ScriptedNode::start(&network, 99, &[], Script::default());
    let liar = ScriptedNode::start(&network, 98, &[], Script { lie: Some(Lie::NoAccount), ..Script::default() });
    // That there is none cannot be shown, and is said to be a word.
    let alone = asking.ask(Balance, &[&liar]).ok().json();
    assert_eq!((&alone["balance"], &alone["checked"]), (&json!("0"), &json!(false)));
    let run = asking.ask(Balance, &[&liar, &honest]).ok();
    assert_eq!((&run.json()["balance"], &run.json()["checked"]), (&json!("1"), &json!(true)));
    assert!(run.stderr.contains("there is no such account, which the state of block 8 holds"), "{}", run.stderr);

    let args = ["wallet", "balance", "--wallet", "dev", "--network", &file, "--peer"];
    let text = environment.run(&[&args[..], &[&liar.address]].concat()).ok().stdout;
    assert!(text.contains("according to 1 node, not checked"), "{text}");
    let text = environment.run(&[&args[..], &[&honest.address]].concat()).ok().stdout;
    assert!(text.contains("by the state root in the block's header"), "{text}");
}

/// Lies that a submitter is told while it waits.
#[test]
fn a_submitter_waits_for_what_is_checked() {
    let environment = Environment::new();
    let (file, network) = environment.network();
    let text = std::fs::read_to_string(&file).unwrap();
    let strict = environment.write("strict.toml", MINIMUM_WORK.to_owned() + &text).display().to_string();
    let picture = environment.picture("picture.bmp", 1).display().to_string();
    let submit = |file: &str, nodes: &[&ScriptedNode]| {
        let count = nodes.len().to_string();
        let mut args = vec!["submit", "--network", file, "--wallet", "dev", "--json", "--wait", "2", "--timeout", "20"];
        args.extend(["--nodes", count.as_str(), picture.as_str()]);
        nodes.iter().for_each(|node| args.extend(["--peer", node.address.as_str()]));
        environment.run(&args)
    };
    for (seed, (lie, words)) in (100..).zip([
        (Lie::OtherTransaction, "asked for transaction"),
        (Lie::WrongBlock, "what it shows of block 7 breaks a rule"),
        (Lie::OtherAnswer, "what it shows of block 6 breaks a rule"),
        (Lie::OtherHeight, "the block is at 777777"),
        (Lie::HugeHeader, "the block is at 18446744073709551615"),
        (Lie::NoWork, "its header at height 6 breaks a rule"),
        (Lie::EasyFork, "and the network's `minimum_work` is 1280"),
        (Lie::MoreConfirmations, "it says that its tip is block 106"),
        (Lie::Balance, "what it says of the account is not"),
        (Lie::NoSubmission, "the node answers another question"),
    ]) {
        let script = Script { transfers: 1, lie: Some(lie), ..Script::default() };
        let liar = ScriptedNode::start(&network, seed, &[], script);
        let run = submit(&strict, &[&liar]);
        assert_eq!(run.code, 1, "{lie:?}: {} {}", run.stdout, run.stderr);
        assert!(run.stderr.contains(words), "{lie:?}: {}", run.stderr);
        if !run.stdout.is_empty() {
            let answer = &run.json()[0];
            assert_eq!((&answer["confirmations"], &answer["height"]), (&json!(0), &Value::Null), "{lie:?}: {answer}");
        }

        let honest = ScriptedNode::start(&network, 99, &[], Script { transfers: 1, ..Script::default() });
        let run = submit(&file, &[&liar, &honest]).ok();
        let answer = &run.json()[0];
        assert_eq!((&answer["height"], &answer["confirmations"]), (&json!(HEIGHT), &json!(3)), "{lie:?}: {answer}");
        assert_eq!((&answer["identical"], &answer["checked_from"]), (&json!(true), &json!(0)), "{lie:?}: {answer}");
        assert_eq!(answer["work"], "0x300", "{lie:?}: {answer}");
    }
}

/// Lies that whoever moves credits is told while it waits.
#[test]
fn who_moves_credits_waits_for_what_is_checked() {
    let environment = Environment::new();
    let (file, network) = environment.network();
    let text = std::fs::read_to_string(&file).unwrap();
    let strict = environment.write("strict.toml", MINIMUM_WORK.to_owned() + &text).display().to_string();
    let dev = Address::of(&Wallet::from_seed(DEV_WALLET_SEED).public_key()).to_text("toc");
    environment.run(&["model", "export", "cifar10-resnet", "-o", "model"]).ok();
    let waiting = transfers(&network).pop().unwrap().txid().to_string();
    let send = ["wallet", "send", &dev, "0.1"];
    let [bump, cancel] = ["bump", "cancel"].map(|command| ["wallet", command, &waiting]);
    let publish = ["model", "publish", "model", "--royalty", "0.5"];
    let run = |file: &str, nodes: &[&ScriptedNode], command: &[&str]| {
        let mut args = [command, &["--network", file, "--wallet", "dev", "--json", "--wait", "2"]].concat();
        args.extend(["--timeout", "20"]);
        nodes.iter().for_each(|node| args.extend(["--peer", node.address.as_str()]));
        environment.run(&args)
    };
    let honest = Script {
        transfers: 1,
        waits: true,
        balance: Amount(10_000_000_000),
        fee_rate: FEE_RATES[0],
        ..Script::default()
    };
    for (seed, (lie, words)) in (100..).zip([
        (Lie::WrongBlock, "what it shows of block 7 breaks a rule"),
        (Lie::OtherHeight, "the block is at 777777"),
        (Lie::NoWork, "its header at height 6 breaks a rule"),
        (Lie::Balance, "what it says of the account is not"),
    ]) {
        for (number, command) in (0..).zip([&send[..], &bump, &cancel, &publish]) {
            let liar = ScriptedNode::start(&network, seed + 10 * number, &[], Script { lie: Some(lie), ..honest });
            let alone = run(&strict, &[&liar], command);
            assert_eq!((alone.code, alone.stdout.as_str()), (1, ""), "{lie:?} {command:?}: {}", alone.stderr);
            assert!(alone.stderr.contains(words), "{lie:?} {command:?}: {}", alone.stderr);
            // What it shows next is not in the script: a publication takes several blocks.
            if command[0] == "model" {
                continue;
            }
            let node = ScriptedNode::start(&network, 99, &[], honest);
            let found = run(&file, &[&liar, &node], command).ok().json();
            let context = format!("{lie:?} {command:?}: {found}");
            assert_eq!((&found["height"], &found["confirmations"]), (&json!(HEIGHT), &json!(3)), "{context}");
            // The liar counts as long as the honest one alone was asked.
            let evidence = &found["evidence"];
            assert_eq!((&evidence["work"], &evidence["checked_from"]), (&json!("0x300"), &json!(0)), "{context}");
            assert!(matches!(evidence["nodes"].as_u64(), Some(1 | 2)), "{context}");
        }
    }
}

#[test]
fn a_faucet_pays_what_it_promised_to_whom_it_promised() {
    let environment = Environment::new();
    let (file, network) = environment.network();
    let dev = Address::of(&Wallet::from_seed(DEV_WALLET_SEED).public_key()).to_text("toc");
    let claim = |nodes: &[&ScriptedNode]| {
        let mut args = vec!["faucet", &dev, "--network", &file, "--json", "--timeout", "20"];
        nodes.iter().for_each(|node| args.extend(["--peer", node.address.as_str()]));
        environment.run(&args)
    };
    let honest = ScriptedNode::start(&network, 99, &[], Script::default());
    let given = claim(&[&honest]).ok().json();
    assert_eq!((&given["amount"], &given["height"]), (&json!(GIFT.to_string()), &json!(HEIGHT)), "{given}");
    assert_eq!((&given["confirmations"], &given["evidence"]["work"]), (&json!(3), &json!("0x300")), "{given}");

    for (seed, (lie, words)) in (100..).zip([
        (Lie::PaysOther, "its payment is a transfer to another address"),
        (Lie::PaysLess, "its payment is a transfer of 2.49999999 credits, expected a transfer of 2.5 credits"),
        (Lie::PaysUnsigned, "its payment is not signed"),
    ]) {
        let liar = ScriptedNode::start(&network, seed, &[], Script { lie: Some(lie), ..Script::default() });
        let run = claim(&[&liar]);
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{lie:?}: {}", run.stderr);
        assert!(run.stderr.contains(words), "{lie:?}: {}", run.stderr);
        let run = claim(&[&liar, &honest]).ok();
        assert_eq!(run.json()["amount"], GIFT.to_string(), "{lie:?}: {}", run.stderr);
    }
    // It pays rightly, and then nothing of it comes.
    let liar = ScriptedNode::start(&network, 110, &[], Script { lie: Some(Lie::NoAccount), ..Script::default() });
    let run =
        environment.run(&["faucet", &dev, "--network", &file, "--json", "--timeout", "1", "--peer", &liar.address]);
    assert_eq!((run.code, &run.json()["confirmations"]), (1, &json!(0)), "{}", run.stderr);
}

#[test]
fn of_a_long_chain_it_is_said_what_was_not_checked() {
    let environment = Environment::new();
    let (file, network) = environment.network();
    let txid = transfers(&network)[0].txid().to_string();
    let asking = Asking { environment: &environment, file: &file, txid: txid.clone() };
    let long = Script { transfers: 1, is_long: true, ..Script::default() };
    let [honest, same] = [97, 99].map(|seed| ScriptedNode::start(&network, seed, &[], long));
    let found = asking.ask(Transaction, &[&honest, &same]).ok().json();
    assert_eq!((&found["height"], &found["confirmations"]), (&json!(GAP + HEIGHT), &json!(3)), "{found}");
    let evidence = json!({ "work": "0x300", "checked_from": GAP + HEIGHT, "nodes": 2 });
    assert_eq!(found["evidence"], evidence, "{found}");
    let text = environment.run(&["chain", "tx", &txid, "--network", &file, "--peer", &honest.address]).ok().stdout;
    let words = "3 confirmations worth 768 hashes, shown by 1 node; the chain before the block was not checked";
    assert!(text.contains(words), "{text}");
    let balance = asking.ask(Balance, &[&honest]).ok().json();
    assert_eq!((&balance["balance"], &balance["checked"]), (&json!("1"), &json!(false)), "{balance}");

    // Whatever tells of a balance or of a block says so.
    let script = Script { waits: true, fee_rate: FEE_RATES[0], ..long };
    let node = ScriptedNode::start(&network, 95, &[], script);
    let at = ["--network", &file, "--peer", &node.address, "--wallet", "dev"];
    let run = |args: &[&str]| environment.run(&[args, &at].concat()).ok();
    let waiting = transfers(&network).pop().unwrap().txid().to_string();
    let dev = Address::of(&Wallet::from_seed(DEV_WALLET_SEED).public_key()).to_text("toc");
    let picture = environment.picture("picture.bmp", 1).display().to_string();
    environment.run(&["model", "export", "cifar10-resnet", "-o", "model"]).ok();
    let (send, submit) = (["wallet", "send", &dev, "0.1"], ["submit", &picture]);
    let [bump, cancel] = ["bump", "cancel"].map(|command| ["wallet", command, &waiting]);
    let publish = ["model", "publish", "model", "--royalty", "0.5"];
    for command in [&send[..], &submit, &publish, &bump, &cancel] {
        let dry = [command, &["--dry-run"]].concat();
        let said = run(&[&dry[..], &["--json"]].concat()).json();
        assert_eq!((&said["checked"], &said["nodes"]), (&json!(false), &json!(1)), "{command:?}: {said}");
        let text = run(&dry).stdout;
        assert!(text.contains("according to 1 node, not checked"), "{command:?}: {text}");
    }
    for (seed, command) in [(103, &send[..]), (104, &bump)] {
        let node = ScriptedNode::start(&network, seed, &[], script);
        let at = ["--network", &file, "--peer", &node.address, "--wallet", "dev", "--wait", "1", "--json"];
        let said = environment.run(&[command, &at].concat()).ok().json();
        let evidence = (&said["evidence"]["checked_from"], &said["evidence"]["nodes"]);
        assert_eq!(evidence, (&json!(GAP + HEIGHT), &json!(1)), "{command:?}: {said}");
    }
    let tabled = run(&[&submit[..], &["--csv", "table.csv", "--json"]].concat());
    let words = "1 answers are in blocks before which the chain was not checked";
    assert!(tabled.stderr.contains(words), "{}", tabled.stderr);
    assert_eq!(tabled.json()["unchecked"], 1);

    // Two that disagree: who is right cannot be seen.
    let other = Script { lie: Some(Lie::EasyFork), ..long };
    let other = ScriptedNode::start(&network, 98, &[], other);
    let run = asking.ask(Transaction, &[&honest, &other]);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{}", run.stderr);
    assert!(run.stderr.contains(&format!("has another block at height {}", GAP + HEIGHT)), "{}", run.stderr);
    let rich = Script { lie: Some(Lie::EasyFork), balance: Amount(2), ..long };
    let rich = ScriptedNode::start(&network, 96, &[], rich);
    let run = asking.ask(Balance, &[&honest, &rich]);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{}", run.stderr);
    assert!(run.stderr.contains("the nodes disagree") && run.stderr.contains("0.00000002 credits"), "{}", run.stderr);

    // What can be checked of a long chain is.
    for (seed, lie, words) in [
        (100, Lie::HugeStatus, "it says that its tip is block 18446744073709551615"),
        (101, Lie::HugeHeader, "its header at height 18446744073709551615 breaks a rule"),
        (102, Lie::WrongBlock, "breaks a rule"),
    ] {
        let liar = ScriptedNode::start(&network, seed, &[], Script { lie: Some(lie), ..long });
        let run = asking.ask(Transaction, &[&liar]);
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{lie:?}: {}", run.stderr);
        assert!(run.stderr.contains(words), "{lie:?}: {}", run.stderr);
    }
}

#[test]
fn an_honest_node_that_is_behind_is_no_liar() {
    let environment = Environment::new();
    let (file, network) = environment.network();
    let asking = Asking { environment: &environment, file: &file, txid: transfers(&network)[0].txid().to_string() };
    let first = ScriptedNode::start(&network, 97, &[], Script { transfers: 2, ..Script::default() });
    // It lacks a transaction, so its last three blocks are others.
    let second = Script { transfers: 1, answers: Answers::Right, ..Script::default() };
    let second = ScriptedNode::start(&network, 98, &[], second);
    let run = asking.ask(Balance, &[&first, &second]).ok();
    assert_eq!((&run.json()["balance"], run.stderr.as_str()), (&json!("1"), ""));
    let run = asking.ask(Transaction, &[&first, &second]).ok();
    assert_eq!((&run.json()["confirmations"], run.stderr.as_str()), (&json!(3), ""));
}
