//! Commands that ask nodes, over real sockets on loopback.

use std::process::Stdio;

use ocelli_consensus::network::DEV_WALLET_SEED;
use ocelli_consensus::{Address, Amount};
use ocelli_node::wallet::Wallet;
use serde_json::Value;

use crate::environment::{Environment, Run};
use crate::scripted_node::{Answers, FEE_RATES, HEIGHT, NOBODY, NONCE, ROYALTY, Script, ScriptedNode, TIP};

fn dev_address() -> String {
    Address::of(&Wallet::from_seed(DEV_WALLET_SEED).public_key()).to_text("toc")
}

#[test]
fn pictures_are_submitted_to_every_node_and_confirmed() {
    let environment = Environment::new();
    let (file, network) = environment.network();
    let first = ScriptedNode::start(&network, 1, &[], Script::default());
    let second = ScriptedNode::start(&network, 2, &[&first], Script::default());
    let pictures: Vec<_> = (0..10).map(|seed| environment.picture(&format!("{seed}.bmp"), seed)).collect();
    let pictures: Vec<_> = pictures.iter().map(|path| path.to_str().unwrap()).collect();

    let mut args = vec!["submit", "--network", &file, "--wallet", "dev", "--wait", "2", "--json"];
    args.extend(["--peer", &first.address, "--peer", &second.address]);
    args.extend(&pictures);
    let run = environment.run(&args).ok();
    assert!(run.stderr.contains("becomes public"), "{}", run.stderr);
    let answers = run.json();
    let answers = answers.as_array().unwrap();
    assert_eq!(answers.len(), pictures.len());
    for (answer, picture) in answers.iter().zip(&pictures) {
        assert_eq!(answer["file"], *picture);
        assert_eq!(answer["answers"], 2, "{answer}");
        assert_eq!((&answer["groups"], &answer["local_answers"]), (&1.into(), &2.into()), "both run on this machine");
        assert_eq!(answer["identical"], true);
        assert_eq!(answer["height"], HEIGHT);
        assert_eq!(answer["confirmations"], TIP - HEIGHT + 1);
        assert_eq!(answer["logits"].as_array().unwrap().len(), 10);
        assert_eq!(answer["model"], "cifar10-cnn");
        let probability = answer["probability"].as_f64().unwrap();
        assert!((0.1..=1.0).contains(&probability), "{answer}");
        assert!(answer["latency_ms"].as_f64().unwrap() > 0.0);
    }
    // Scripts cut the array into lines, one for each object: no object may hold another.
    assert_eq!(run.stdout.matches("},{").count(), pictures.len() - 1);

    let again = environment.run(&args).ok();
    assert_eq!(again.stderr, "", "it is said only once");

    // The block and the transaction show the same, and what is raw has the same bytes.
    let shown =
        environment.run(&["chain", "block", "6", "--network", &file, "--peer", &first.address, "--json"]).ok().json();
    assert_eq!(shown["header"]["height"], HEIGHT);
    assert_eq!(shown["transactions"].as_array().unwrap().len(), pictures.len());
    assert_eq!(shown["transactions"][0]["nonce"], NONCE.to_string());
    assert_eq!(shown["transactions"][0]["sender"], dev_address());
    let best = |logits: &Value| logits.as_array().unwrap().iter().map(|logit| logit.as_i64().unwrap()).max();
    assert_eq!(shown["answers"][0]["best"][0]["logit"].as_i64(), best(&answers[0]["logits"]));
    assert_eq!(shown["answers"][0]["best"].as_array().unwrap().len(), 5);
    assert_eq!(shown["raw"]["attachments"][0].as_str().unwrap().len(), 2 * 3072);
    assert_eq!(shown["transactions"][0]["action"]["picture"], answers[0]["attachment"]);
    let txid = answers[3]["txid"].as_str().unwrap();
    let shown =
        environment.run(&["chain", "tx", txid, "--network", &file, "--peer", &second.address, "--json"]).ok().json();
    assert_eq!(shown["answer"]["best"][0]["logit"].as_i64(), best(&answers[3]["logits"]));
    assert_eq!(shown["transaction"]["nonce"], (NONCE + 3).to_string());
    assert_eq!((&shown["height"], &shown["confirmations"]), (&HEIGHT.into(), &3.into()));

    let text = environment.run(&["chain", "tx", txid, "--network", &file, "--peer", &second.address]).ok().stdout;
    assert!(text.contains(answers[3]["label"].as_str().unwrap()), "{text}");
}

#[test]
fn more_nodes_are_found_than_the_one_that_was_named() {
    let environment = Environment::new();
    let (file, network) = environment.network();
    let first = ScriptedNode::start(&network, 11, &[], Script::default());
    let _second = ScriptedNode::start(&network, 12, &[&first], Script::default());
    let picture = environment.picture("picture.bmp", 1).display().to_string();
    let answers = environment
        .run(&["submit", "--network", &file, "--wallet", "dev", "--json", "--peer", &first.address, &picture])
        .ok()
        .json();
    assert_eq!(answers[0]["answers"], 2, "{answers}");
}

#[test]
fn an_answer_that_differs_is_loud() {
    let environment = Environment::new();
    let (file, network) = environment.network();
    let honest = ScriptedNode::start(&network, 21, &[], Script::default());
    let wrong = Script { answers: Answers::OffByOne, ..Script::default() };
    let wrong = ScriptedNode::start(&network, 22, &[], wrong);
    let picture = environment.picture("picture.bmp", 1).display().to_string();
    let args = ["submit", "--network", &file, "--wallet", "dev", "--json", "--peer", &honest.address];
    let run = environment.run(&[&args[..], &["--peer", &wrong.address, &picture]].concat());
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("ANSWERS DIFFER: 1 "), "{}", run.stderr);
    let answers = run.json();
    assert_eq!((&answers[0]["identical"], &answers[0]["answers"]), (&false.into(), &2.into()));
    let source = answers[0]["different"][0]["source"].as_str().unwrap();
    assert!(wrong.address.starts_with(source) || source.starts_with(&wrong.address), "{source} {}", wrong.address);
}

#[test]
fn an_answer_signed_by_somebody_else_counts_for_nobody() {
    let environment = Environment::new();
    let (file, network) = environment.network();
    let honest = ScriptedNode::start(&network, 31, &[], Script::default());
    let foreign = Script { answers: Answers::Foreign, ..Script::default() };
    let foreign = ScriptedNode::start(&network, 32, &[], foreign);
    let picture = environment.picture("picture.bmp", 1).display().to_string();
    let args = ["submit", "--network", &file, "--wallet", "dev", "--json", "--peer", &honest.address];
    let run = environment.run(&[&args[..], &["--peer", &foreign.address, &picture]].concat()).ok();
    assert_eq!(run.json()[0]["answers"], 1);
    assert!(run.stderr.contains("signed with another key"), "{}", run.stderr);
}

#[test]
fn what_nodes_forget_is_handed_in_again() {
    let environment = Environment::new();
    let (file, network) = environment.network();
    let node = ScriptedNode::start(&network, 41, &[], Script { forgets: 1, ..Script::default() });
    let picture = environment.picture("picture.bmp", 1).display().to_string();
    let args = ["submit", "--network", &file, "--wallet", "dev", "--json", "--peer", &node.address, &picture];
    let answers = environment.run(&args).ok().json();
    assert_eq!(answers[0]["height"], HEIGHT);
}

/// A node is gone with the task in its hands, and comes back without it.
#[test]
fn a_node_that_vanishes_is_waited_for() {
    let environment = Environment::new();
    let (file, network) = environment.network();
    let picture = environment.picture("picture.bmp", 1).display().to_string();
    let vanishing = || ScriptedNode::start(&network, 42, &[], Script { vanishes: true, ..Script::default() });
    for table in [&[][..], &["--csv", "table.csv"]] {
        let node = vanishing();
        let address = node.address.clone();
        let args = ["submit", "--network", &file, "--wallet", "dev", "--json", "--timeout", "60", "--peer", &address];
        let mut command = environment.command(&[&args[..], table, &[&picture]].concat());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let listen = node.until_gone();
        let _again = ScriptedNode::start_at(&network, 42, &listen, &[], Script::default());
        let run = Run::from(child.wait_with_output().unwrap()).ok();
        assert!(run.stderr.contains("no node is left that answers: joining the network again"), "{}", run.stderr);
        let told = run.json();
        assert_eq!(told[0]["height"].as_u64().or(told["answered"].as_u64()), [Some(HEIGHT), Some(1)][table.len() / 2]);
    }
    // Beside another one it is only said.
    let (node, other) = (vanishing(), ScriptedNode::start(&network, 43, &[], Script::default()));
    let args = ["submit", "--network", &file, "--wallet", "dev", "--json", "--peer", &node.address];
    let run = environment.run(&[&args[..], &["--peer", &other.address, &picture]].concat()).ok();
    let told = run.json();
    assert_eq!((&told[0]["answers"], &told[0]["height"]), (&1.into(), &HEIGHT.into()), "{told}");
    assert!(run.stderr.contains("does not answer"), "{}", run.stderr);
}

#[test]
fn what_a_node_does_not_pass_on_another_one_is_given() {
    let environment = Environment::new();
    let (file, network) = environment.network();
    let keeper = ScriptedNode::start(&network, 44, &[], Script { keeps: true, ..Script::default() });
    let _other = ScriptedNode::start(&network, 45, &[&keeper], Script::default());
    let picture = environment.picture("picture.bmp", 1).display().to_string();
    let args = ["submit", "--network", &file, "--wallet", "dev", "--json", "--nodes", "1", "--peer", &keeper.address];
    let run = environment.run(&[&args[..], &[&picture]].concat()).ok();
    assert_eq!(run.json()[0]["height"], HEIGHT, "{}", run.stderr);
    let words = "has a transaction, and has not passed it on to the one at ";
    assert!(run.stderr.contains(words), "{}", run.stderr);
}

#[test]
fn what_a_reorganisation_drops_is_handed_in_again() {
    let environment = Environment::new();
    let (file, network) = environment.network();
    let node = ScriptedNode::start(&network, 46, &[], Script { reorganises: true, ..Script::default() });
    let picture = environment.picture("picture.bmp", 1).display().to_string();
    let args = ["submit", "--network", &file, "--wallet", "dev", "--json", "--wait", "4", "--peer", &node.address];
    let run = environment.run(&[&args[..], &[&picture]].concat()).ok();
    let told = run.json();
    assert_eq!((&told[0]["height"], &told[0]["confirmations"]), (&HEIGHT.into(), &4.into()), "{told}");
    let words = "block 6, which had a transaction, is no longer on the chain with the most work: handed in again";
    assert!(run.stderr.contains(words), "{}", run.stderr);
}

/// Ctrl-C ends a run without a table once the nodes have what was signed, and says what that was. One with a table waits for it; a
/// second Ctrl-C does not, and the next run hands in the same again.
#[cfg(unix)]
#[test]
fn ctrl_c_says_what_was_sent_and_loses_nothing() {
    use std::collections::BTreeSet;
    use std::io::{BufRead as _, BufReader};
    use std::process::Child;

    use rustix::process::{Pid, Signal, kill_process};

    use crate::environment::wait_until;
    use crate::real_node::rows_of;

    /// As many as are under way at a time.
    const BATCH: usize = 32;
    let environment = Environment::new();
    let (file, network) = environment.network();
    std::fs::create_dir(environment.path("traps")).unwrap();
    for number in 0..=BATCH as u8 {
        let made = environment.picture("made.bmp", number);
        std::fs::rename(made, environment.path(&format!("traps/{number:02}.bmp"))).unwrap();
    }
    // What waits there stays there.
    let keeper = ScriptedNode::start(&network, 47, &[], Script { keeps: true, ..Script::default() });
    let submit = |peer: &str, table: &[&str]| {
        let args =
            ["submit", "traps", "--network", &file, "--wallet", "dev", "--json", "--timeout", "60", "--peer", peer];
        let mut command = environment.command_for_ctrl_c(&[&args[..], table].concat());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let interrupt = |child: &Child| kill_process(Pid::from_child(child), Signal::INT).unwrap();
    let signed = || {
        let notes = std::fs::read_dir(environment.path(".local/share/ocelli/sent")).into_iter().flatten();
        let names = notes.map(|note| note.unwrap().file_name().into_string().unwrap());
        let txids = names.filter_map(|name| name.strip_suffix(".json").map(str::to_owned));
        txids.filter(|txid| txid.len() == 64).collect::<BTreeSet<_>>()
    };

    let child = submit(&keeper.address, &[]).spawn().unwrap();
    wait_until("the first are signed", &|| signed().len() == BATCH);
    interrupt(&child);
    let run = Run::from(child.wait_with_output().unwrap());
    assert_eq!(run.code, 1, "{}", run.stderr);
    for words in [
        "stopped: 32 of 33 pictures were sent, 32 of which are in no block yet",
        "With --csv FILE the same command goes on where it ended",
    ] {
        assert!(run.stderr.contains(words), "{words}: {}", run.stderr);
    }
    let told = run.json();
    let told = told.as_array().unwrap().iter().map(|answer| answer["txid"].as_str().unwrap().to_owned());
    assert_eq!(told.collect::<BTreeSet<_>>(), signed());

    let table = ["--csv", "table.csv"];
    let mut child = submit(&keeper.address, &table).spawn().unwrap();
    let pending = environment.path("table.csv.pending");
    wait_until("tasks are under way", &|| pending.exists());
    interrupt(&child);
    let mut notes = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(notes.any(|line| line.contains("stopping: 32 tasks that are under way are waited for")));
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let under_way: Value = serde_json::from_slice(&std::fs::read(&pending).unwrap()).unwrap();
    let under_way = under_way.as_array().unwrap().iter().map(|entry| entry["row"]["txid"].as_str().unwrap().to_owned());
    let under_way: BTreeSet<_> = under_way.collect();
    drop(keeper);

    let node = ScriptedNode::start(&network, 48, &[], Script::default());
    let run = Run::from(submit(&node.address, &table).output().unwrap()).ok();
    assert!(run.stderr.contains("32 tasks were under way: handing them in again"), "{}", run.stderr);
    let told = run.json();
    assert_eq!((&told["answered"], &told["left"]), (&33.into(), &0.into()), "{told}");
    let paid: BTreeSet<_> = rows_of(&environment, "table.csv").iter().map(|row| row["txid"].clone()).collect();
    assert!(paid.len() == BATCH + 1 && under_way.is_subset(&paid), "{paid:?}");
}

/// Nothing is sent, no password is asked for, and what is said is what the run then takes.
#[test]
fn a_dry_run_says_what_pictures_would_cost_and_leave() {
    let environment = Environment::new();
    let (file, network) = environment.network();
    let node = ScriptedNode::start(&network, 49, &[], Script::default());
    let new = ["wallet", "new", "--network", "local", "--wallet", "./mine.pem"];
    environment.run_with_password("secret", &new).ok();
    std::fs::create_dir(environment.path("traps")).unwrap();
    for number in 0..3 {
        let made = environment.picture("made.bmp", number);
        std::fs::rename(made, environment.path(&format!("traps/{number}.bmp"))).unwrap();
    }
    let at = ["--network", &file, "--wallet", "./mine.pem", "--peer", &node.address, "--json"];
    let grains = |value: &Value| value.as_str().unwrap().parse::<Amount>().unwrap().0;
    for (pictures, count, royalty) in [("traps/1.bmp", 1, 0), ("traps", 3, 0), ("traps", 3, ROYALTY.0)] {
        let model = if royalty > 0 { "stranger" } else { "cifar10-cnn" };
        let submit = ["submit", pictures, "--model", model];
        let run = environment.run(&[&submit[..], &["--dry-run"], &at].concat()).ok();
        assert_eq!(run.stderr, "", "nothing becomes public");
        let said = run.json();
        assert_eq!((&said["pictures"], &said["model"], &said["sent"]), (&count.into(), &model.into(), &false.into()));
        assert_eq!(grains(&said["royalties"]), count * royalty, "{said}");
        assert_eq!(grains(&said["total"]), grains(&said["fees"]) + count * royalty, "{said}");
        assert_eq!(grains(&said["left"]), 100_000_000 - grains(&said["total"]), "{said}");
        let estimate = environment.run(&[&submit[..], &["--estimate"], &at].concat()).ok().json();
        assert_eq!((&estimate["fees"], &estimate["total"]), (&said["fees"], &said["total"]));
        let answers = environment.run_with_password("secret", &[&submit[..], &at].concat()).ok().json();
        let whole = |answer: &Value, key: &str| answer[key].as_str().unwrap().parse::<u64>().unwrap();
        let paid = answers.as_array().unwrap().iter().map(|answer| whole(answer, "fee") + whole(answer, "royalty"));
        assert_eq!(paid.sum::<u64>(), grains(&said["total"]));
    }
    let text = environment.run(&[&["submit", "traps", "--dry-run"][..], &at[..6]].concat()).ok().stdout;
    assert!(text.contains("left ") && text.contains("nothing: this was a dry run"), "{text}");
    // What may not be spent, or is not there, is said as by the run itself.
    let dear = environment.run(&[&["submit", "traps", "--dry-run", "--max-total", "0.00000001"][..], &at].concat());
    assert!(dear.code == 1 && dear.stderr.contains("--max-total is 0.00000001"), "{}", dear.stderr);
    let dear = environment.run(&[&["submit", "traps", "--dry-run", "--fee", "1"][..], &at].concat());
    assert!(dear.code == 1 && dear.stderr.contains("3 are needed"), "{}", dear.stderr);
}

#[test]
fn waiting_has_an_end_and_says_what_it_waited_for() {
    let environment = Environment::new();
    let (file, network) = environment.network();
    let node = ScriptedNode::start(&network, 51, &[], Script::default());
    let picture = environment.picture("picture.bmp", 1).display().to_string();
    let args = ["submit", "--network", &file, "--wallet", "dev", "--json", "--wait", "4", "--timeout", "1"];
    let run = environment.run(&[&args[..], &["--peer", &node.address, &picture]].concat());
    assert_eq!(run.code, 1);
    assert_eq!(run.json()[0]["confirmations"], 3);
    let expected = "waited 1 s in vain for 4 confirmations of 1 of 1 transactions";
    assert!(run.stderr.contains(expected) && run.stderr.contains("in block 6"), "{}", run.stderr);
}

/// Who has refused a task has its signature: it is signed anew only when what has its nonce is confirmed as often as is waited for.
#[test]
fn an_overtaken_task_is_signed_anew_when_it_cannot_be_paid_for_any_more() {
    for (wait, signed) in [("1", 2), ("2", 1)] {
        let environment = Environment::new();
        let (file, network) = environment.network();
        let node = ScriptedNode::start(&network, 52, &[], Script { overtakes: true, ..Script::default() });
        let picture = environment.picture("picture.bmp", 1).display().to_string();
        let args = ["submit", "--network", &file, "--wallet", "dev", "--json", "--wait", wait, "--timeout", "8"];
        let run = environment.run(&[&args[..], &["--peer", &node.address, &picture]].concat());
        assert!(run.stderr.contains("have the nonces of 1 tasks, which no node has taken"), "{}", run.stderr);
        let sent = std::fs::read_dir(environment.path(".local/share/ocelli/sent")).unwrap();
        let is_note = |path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "json");
        assert_eq!(sent.map(|entry| entry.unwrap().path()).filter(is_note).count(), signed);
        if signed == 1 {
            assert_eq!(run.code, 1);
            let expected = "waited 8 s in vain for 2 confirmations of 1 of 1 transactions";
            assert!(run.stderr.contains(expected), "{}", run.stderr);
            continue;
        }
        assert_eq!(run.ok().json()[0]["height"], HEIGHT);
    }
}

#[test]
fn a_task_that_nobody_takes_is_said() {
    let environment = Environment::new();
    let (file, network) = environment.network();
    let node = ScriptedNode::start(&network, 61, &[], Script { answers: Answers::Refused, ..Script::default() });
    let picture = environment.picture("picture.bmp", 1).display().to_string();
    let run = environment.run(&["submit", "--network", &file, "--wallet", "dev", "--peer", &node.address, &picture]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("no node takes") && run.stderr.contains("the mempool is full"), "{}", run.stderr);
}

#[test]
fn an_empty_wallet_says_what_is_needed_and_where_credits_come_from() {
    let environment = Environment::new();
    let (file, network) = environment.network();
    let node = ScriptedNode::start(&network, 71, &[], Script { balance: Amount(9), ..Script::default() });
    let picture = environment.picture("picture.bmp", 1).display().to_string();
    environment.run_with_password("x", &["wallet", "new", "--wallet", "mine.pem"]).ok();
    let address = environment.run_with_password("x", &["wallet", "address", "--wallet", "mine.pem"]).ok().stdout;
    let wallet = ["--network", &file, "--wallet", "mine.pem"];
    for command in [
        [&["submit", "--peer", &node.address, &picture][..], &wallet].concat(),
        [&["wallet", "send", "--peer", &node.address, &dev_address(), "1"][..], &wallet].concat(),
    ] {
        let run = environment.run_with_password("x", &command);
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{}", run.stderr);
        for text in ["0.00000009 credits", address.trim_end(), "are needed", "--wallet dev"] {
            assert!(run.stderr.contains(text), "expected {text:?} in: {}", run.stderr);
        }
    }
}

/// It does not wait for what will not come.
#[test]
fn who_waits_for_what_was_dropped_is_told() {
    let environment = Environment::new();
    let (file, network) = environment.network();
    let node = ScriptedNode::start(&network, 84, &[], Script { drops: true, ..Script::default() });
    environment.write("node.json", node.node_file(&network));
    let data = ["--data", ".", "--network", &file];
    let send = ["wallet", "send", &dev_address(), "0.5", "--wallet", "dev", "--wait", "1", "--timeout", "100000"];
    let run = environment.run(&[&send[..], &data].concat());
    assert_eq!(run.code, 1, "{}", run.stdout);
    let expected = "it was dropped (replaced), and refused when handed in again: the account has used this nonce";
    assert!(run.stderr.contains(expected) && run.stderr.contains("hint: send it again"), "{}", run.stderr);
}

#[test]
fn a_node_is_found_by_its_data_folder() {
    let environment = Environment::new();
    let (file, network) = environment.network();
    let node = ScriptedNode::start(&network, 81, &[], Script::default());
    environment.write("node.json", node.node_file(&network));
    let data = ["--data", ".", "--network", &file];
    let json = |command: &[&str]| -> Value { environment.run(&[command, &data, &["--json"]].concat()).ok().json() };

    let status = json(&["status"]);
    assert_eq!((&status["peers"], &status["height"]), (&2.into(), &TIP.into()));
    assert_eq!(status["inbound_peers"], 2);
    let text = environment.run(&[&["status"][..], &data].concat()).ok().stdout;
    assert!(text.contains("scripted/1") && text.contains("a [31mred[0m thing"), "{text}");

    assert_eq!(json(&["chain", "status"])["header_height"], TIP + 1);
    let balance = json(&["wallet", "balance", "--wallet", "dev"]);
    assert_eq!((&balance["balance"], &balance["address"]), (&"1".into(), &dev_address().into()));

    let sent = json(&["wallet", "send", &dev_address(), "0.5", "--wallet", "dev", "--wait", "1"]);
    assert_eq!((&sent["height"], &sent["amount"]), (&HEIGHT.into(), &"0.5".into()));

    let nobody = NOBODY.to_text("toc");
    let too_few = environment.run(&[&["wallet", "send", &nobody, "0.0009", "--wallet", "dev"][..], &data].concat());
    assert_eq!(too_few.code, 1);
    assert!(too_few.stderr.contains("0.001 or more"), "{}", too_few.stderr);

    let missing = environment.run(&[&["chain", "block", "99"][..], &data].concat());
    assert_eq!(missing.code, 1);
    assert!(missing.stderr.contains("no block at height 99; its tip is at height 8"), "{}", missing.stderr);
    let unknown = environment.run(&[&["chain", "tx", &"0".repeat(64)][..], &data].concat());
    assert_eq!(unknown.code, 1);
    assert!(unknown.stderr.contains("knows no transaction"), "{}", unknown.stderr);
}

#[test]
fn large_numbers_are_strings_in_every_json() {
    let environment = Environment::new();
    let (file, network) = environment.network();
    let script = Script { balance: Amount(u64::MAX), ..Script::default() };
    let node = ScriptedNode::start(&network, 85, &[], script);
    environment.write("node.json", node.node_file(&network));
    environment.write("cookie", "00".repeat(32));
    let data = ["--data", ".", "--network", &file];
    // Each is looked through as it is read.
    let json = |command: &[&str]| -> Value { environment.run(&[command, &data, &["--json"]].concat()).ok().json() };

    json(&["status"]);
    json(&["chain", "status"]);
    let peers = json(&["peers", "list"]);
    assert_eq!(peers["peers"][0]["height"], u64::MAX.to_string(), "a lie is told as it is");
    let balance = json(&["wallet", "balance", "--wallet", "dev"]);
    assert_eq!((&balance["grains"], &balance["nonce"]), (&u64::MAX.to_string().into(), &NONCE.to_string().into()));
    assert_eq!((&balance["next_nonce"], &balance["balance"]), (&balance["nonce"], &"184467440737.09551615".into()));

    let fee = json(&["chain", "fee"]);
    let [minimum, rate] = FEE_RATES.map(|rate| Value::from(rate.to_string()));
    assert_eq!((&fee["minimum_grains_per_million_weight"], &fee["grains_per_million_weight"]), (&minimum, &rate));
    let grains = |value: &Value| value.as_str().unwrap().parse::<u64>().unwrap();
    assert!(grains(&fee["tasks"][0]["fee"]) > grains(&fee["transfer"]), "{fee}");

    // More than 2^53 grains.
    let sent = json(&["wallet", "send", &dev_address(), "100000000.00000001", "--wallet", "dev", "--wait", "1"]);
    let transaction = json(&["chain", "tx", sent["txid"].as_str().unwrap()]);
    assert_eq!(transaction["transaction"]["action"]["amount"], "10000000000000001");
    assert_eq!(transaction["transaction"]["nonce"], NONCE.to_string());
    let block = json(&["chain", "block", &HEIGHT.to_string()]);
    assert!(block["header"]["nonce"].as_str().unwrap().parse::<u64>().unwrap() > 1 << 53, "{block}");
    assert_eq!((&block["header"]["height"], &block["transactions"][0]), (&HEIGHT.into(), &transaction["transaction"]));

    // Of a network file whose numbers are as large as they may be.
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace("reward = \"10\"", "reward = \"0\"");
    let text = text.replace("halving = 1000\n", &format!("halving = {}\n", i64::MAX));
    let rules = format!("[[rules]]\nheight = {}\nversion = 1\n", i64::MAX);
    environment.write("large.toml", text + &rules);
    let shown = environment.run(&["network", "show", "large.toml", "--json"]).ok().json();
    for value in [&shown["parameters"]["halving"], &shown["rules"][0]["height"]] {
        assert_eq!(*value, i64::MAX.to_string());
    }
}

#[test]
fn a_node_of_another_network_is_named_as_such() {
    let environment = Environment::new();
    let (_, network) = environment.network();
    let node = ScriptedNode::start(&network, 91, &[], Script::default());
    let run = environment.run(&["status", "--network", "testnet", "--peer", &node.address]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("another network") && run.stderr.contains("--network"), "{}", run.stderr);
}
