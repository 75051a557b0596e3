//! The node itself, as a process.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStderr, Stdio};
use std::time::{Duration, Instant};

use crate::environment::{Environment, Run, wait_until};

/// Ends the process with the test.
pub struct Node(Child);

impl Node {
    /// Starts a node in the folder `data` and waits until it listens; also what it logs from then on.
    fn start(environment: &Environment, network: &str, options: &[&str]) -> (Self, Lines<BufReader<ChildStderr>>) {
        Self::start_with(environment, network, "data", options)
    }

    /// Starts a node of the network `local` in a folder, and waits until commands find it there.
    pub fn start_in(environment: &Environment, folder: &str) -> Self {
        Self::start_on(environment, "local", folder, &[])
    }

    /// The same on any network, with more options.
    pub fn start_on(environment: &Environment, network: &str, folder: &str, options: &[&str]) -> Self {
        // What another run left would be found too soon.
        drop(std::fs::remove_file(environment.path(&format!("{folder}/node.json"))));
        let (node, log) = Self::start_with(environment, network, folder, options);
        // The log is read to its end, so that the node never waits for a full pipe.
        std::thread::spawn(move || log.for_each(drop));
        wait_for(environment, folder);
        node
    }

    fn start_with(
        environment: &Environment,
        network: &str,
        folder: &str,
        options: &[&str],
    ) -> (Self, Lines<BufReader<ChildStderr>>) {
        let mut child = environment
            .command(&["node", "--network", network, "--data", folder, "--device", "cpu", "--no-mdns"])
            .args(["--listen", "/ip4/127.0.0.1/tcp/0"])
            .args(options)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let node = Self(child);
        assert!(log.any(|line| line.unwrap().contains("listening")), "the node says when it listens");
        (node, log)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_node_outlives_its_terminal() {
    let environment = Environment::new();
    let (mut node, log) = Node::start(&environment, "local", &[]);
    // From here on whatever the node logs, such as who connects, goes nowhere.
    drop(log);
    wait_for(&environment, "data");
    for _ in 0..3 {
        environment.run(&["status", "--data", "data"]).ok();
    }
    assert_eq!(node.0.try_wait().unwrap(), None, "the node still runs");
}

/// Whether a running process ignores a signal, by its number (proc_pid_status(5)).
#[cfg(target_os = "linux")]
fn ignores(pid: u32, signal: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap() >> (signal - 1) & 1 == 1
}

#[cfg(target_os = "linux")]
#[test]
fn signals_that_were_ignored_at_the_start_stay_ignored() {
    use rustix::process::{Pid, Signal, kill_process};
    let environment = Environment::new();
    let node = |wrapper: &[&str]| {
        let options = ["--network", "local", "--device", "cpu", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"];
        let mut command = environment.command_by(wrapper, &[&["node", "--data", "data"], &options[..]].concat());
        let mut child =
            command.env("PATH", "/usr/bin:/bin").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(log.any(|line| line.unwrap().contains("listening")), "the node says when it listens");
        std::thread::spawn(move || log.for_each(drop));
        Node(child)
    };
    let send = |node: &Node, signal| kill_process(Pid::from_child(&node.0), signal).unwrap();

    // Whoever runs the tests may have ignored them, too.
    let mut node_of_nohup = node(&["env", "--default-signal=INT", "nohup"]);
    assert!(ignores(node_of_nohup.0.id(), 1) && !ignores(node_of_nohup.0.id(), 2));
    send(&node_of_nohup, Signal::HUP);
    wait_for(&environment, "data");
    environment.run(&["status", "--data", "data"]).ok();
    send(&node_of_nohup, Signal::TERM);
    assert!(node_of_nohup.0.wait().unwrap().success());

    // As a shell without job control starts what is put into the background.
    let mut node_of_script = node(&["env", "--default-signal=HUP", "sh", "-c", "trap '' INT; exec \"$@\"", "sh"]);
    assert!(!ignores(node_of_script.0.id(), 1) && ignores(node_of_script.0.id(), 2));
    send(&node_of_script, Signal::INT);
    send(&node_of_script, Signal::HUP);
    assert!(node_of_script.0.wait().unwrap().success(), "it stops in order when its terminal is gone");
}

#[test]
fn commands_leave_no_line_in_the_log() {
    let environment = Environment::new();
    let (mut node, log) = Node::start(&environment, "local", &[]);
    let log = std::thread::spawn(move || log.map(Result::unwrap).collect::<Vec<_>>());
    wait_for(&environment, "data");
    for _ in 0..3 {
        environment.run(&["status", "--data", "data"]).ok();
    }
    node.0.kill().unwrap();
    let log = log.join().unwrap();
    let of_commands: Vec<_> = log.iter().filter(|line| line.contains("connected") || line.contains("gone")).collect();
    assert!(of_commands.is_empty(), "{of_commands:#?}");
}

#[test]
fn the_chain_of_a_running_node_is_verified() {
    let environment = Environment::new();
    let address = environment.run(&["wallet", "address", "--wallet", "dev"]).ok().stdout;
    let (_node, _log) = Node::start(&environment, "local", &["--mine", address.trim()]);
    wait_for(&environment, "data");
    let height = || environment.run(&["status", "--data", "data", "--json"]).ok().json()["height"].as_u64().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while height() < 2 {
        assert!(Instant::now() < deadline, "no block was mined");
    }
    let here = ["--network", "local", "--data", "data"];
    let verify = |options: &[&str]| environment.run(&[&["chain", "verify"], &here[..], options].concat()).ok();
    let verified = verify(&["--device", "cpu", "--json"]).json();
    assert_eq!(verified["is_snapshot"], true);
    assert!(verified["height"].as_u64() >= Some(2), "{verified}");
    let text = verify(&["--device", "cpu"]).stdout;
    assert!(text.contains("a snapshot of the running node"), "{text}");

    let left: Vec<_> =
        std::fs::read_dir(environment.path("data")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.iter().all(|path| !path.display().to_string().contains("verify-")), "{left:?}");
    let exported = environment.run(&[&["chain", "export", "blocks"], &here[..]].concat());
    assert!(exported.stderr.contains("stop the node first"), "only verify asks it: {}", exported.stderr);
}

/// Connections are files: the limit on these is raised as far as the connections need that are asked for.
#[cfg(target_os = "linux")]
#[test]
fn open_files_are_enough_for_all_connections() {
    let environment = Environment::new();
    let node = |limit: &str, inbound: &str| {
        let options =
            ["--network", "local", "--data", "data", "--device", "cpu", "--no-mdns", "--max-inbound", inbound];
        environment.limited_command(limit, &[&["node", "--listen", "/ip4/127.0.0.1/tcp/0"], &options[..]].concat())
    };
    let run: Run = node("-n 600", "300").output().unwrap().into();
    assert_eq!(run.code, 1, "{}", run.stderr);
    let expected =
        "found a limit of 600 open files, expected 812 for --max-inbound 300: raise it, as with `ulimit -n 812` or";
    assert!(run.stderr.contains(expected), "{}", run.stderr);

    let mut child = node("-Sn 600", "300").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let child = Node(child);
    assert!(log.any(|line| line.unwrap().contains("listening")), "the node says when it listens");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.0.id())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().nth(3), Some("812"), "{files}");
}

#[test]
fn a_slow_clock_is_said() {
    let environment = Environment::new();
    let (file, _) = environment.network();
    let text = std::fs::read_to_string(&file).unwrap().replace("1790000000", "500000000000");
    std::fs::write(&file, text).unwrap();
    let (_node, _log) = Node::start(&environment, &file, &[]);
    wait_for(&environment, "data");
    let status = environment.run(&["status", "--data", "data", "--network", &file, "--json"]).ok().json();
    let waits = status["waiting_for"].to_string();
    assert!(waits.contains("the clock of this machine"), "{waits}");
}

#[test]
fn a_newcomer_is_given_something_once() {
    let environment = Environment::new();
    let new = |name| {
        let args = ["wallet", "new", "--network", "local", "--wallet", name, "--json"];
        environment.run_with_password("secret", &args).ok().json()["address"].as_str().unwrap().to_owned()
    };
    let (first, second) = (new("first.pem"), new("second.pem"));
    let mining = ["--mine", &second, "--faucet", "dev", "--faucet-amount", "2.5"];
    let (_node, _log) = Node::start(&environment, "local", &mining);
    wait_for(&environment, "data");
    let file = std::fs::read_to_string(environment.path("data/node.json")).unwrap();
    let node: serde_json::Value = serde_json::from_str(&file).unwrap();
    let address = node["addresses"][0].as_str().unwrap();

    let claim = ["faucet", &first, "--network", "local", "--peer", address];
    let given = environment.run(&[&claim[..], &["--json"]].concat()).ok().json();
    assert_eq!((&given["address"], &given["amount"]), (&first.as_str().into(), &"2.5".into()));
    assert!(given["height"].as_u64() >= Some(1) && given["confirmations"].as_u64() >= Some(1), "{given}");
    let args = ["wallet", "balance", "--wallet", "first.pem", "--peer", address, "--json"];
    let balance = environment.run_with_password("secret", &args).ok().json();
    assert_eq!((&balance["balance"], &balance["checked"]), (&"2.5".into(), &true.into()));
    let txid = given["txid"].as_str().unwrap();
    let shown = environment.run(&["chain", "tx", txid, "--peer", address, "--json"]).ok().json();
    assert_eq!((&shown["txid"], &shown["evidence"]["checked_from"]), (&txid.into(), &0.into()), "{shown}");
    let block = shown["block"].as_str().unwrap();
    let block = environment.run(&["chain", "block", block, "--peer", address, "--json"]).ok().json();
    assert_eq!((&block["height"], &block["main_chain"]), (&shown["height"], &true.into()));
    assert_eq!(environment.run(&["chain", "status", "--peer", address, "--json"]).ok().json()["checked"], true);

    let fee = environment.run(&["chain", "fee", "--blocks", "3", "--peer", address, "--json"]).ok().json();
    assert_eq!(
        (&fee["blocks"], &fee["grains_per_million_weight"]),
        (&3.into(), &"1000000".into()),
        "nothing waits: {fee}"
    );
    assert_eq!(fee["minimum_grains_per_million_weight"], "1000000");
    let grains = |value: &serde_json::Value| value.as_str().unwrap().parse::<u64>().unwrap();
    let dearer = |task: &serde_json::Value| grains(&task["fee"]) > grains(&fee["transfer"]);
    assert!(fee["tasks"].as_array().unwrap().iter().all(dearer), "{fee}");

    // Without a wallet one is made. Its address group is another one: every socket on loopback is one of its own.
    let made = ["faucet", "--wallet", "made.pem", "--network", "local", "--peer", address, "--wait", "0", "--json"];
    let run = environment.run_with_password("secret", &made).ok();
    assert_eq!(run.json()["amount"], "2.5");
    assert!(run.stderr.contains("made a wallet: made.pem"), "{}", run.stderr);

    let again = environment.run(&claim);
    assert_eq!(again.code, 1);
    assert!(again.stderr.contains("has 2.5 credits already, and the faucet gives 2.5"), "{}", again.stderr);
}

#[test]
fn an_account_sees_what_has_happened_to_it() {
    let environment = Environment::new();
    let new = |name: &str| {
        let args = ["wallet", "new", "--network", "local", "--wallet", name, "--json"];
        environment.run_with_password("secret", &args).ok().json()["address"].as_str().unwrap().to_owned()
    };
    let (other, miner) = (new("other"), new("miner"));
    let (_node, log) = Node::start(&environment, "local", &["--mine", &miner]);
    std::thread::spawn(move || log.for_each(drop));
    wait_for(&environment, "data");
    let here = ["--network", "local", "--data", "data"];
    let run = |args: &[&str]| environment.run(&[args, &here[..]].concat());
    let sent = run(&["wallet", "send", &other, "2.5", "--wallet", "dev", "--wait", "1", "--json"]).ok().json();
    let back = ["wallet", "send", &miner, "1", "--wallet", "other", "--wait", "1", "--json"];
    let back = environment.run_with_password("secret", &[&back[..], &here[..]].concat()).ok().json();

    let history = run(&["wallet", "history", "--wallet", "other", "--json"]).ok().json();
    assert_eq!(
        (&history["whole"], &history["checked"], &history["opening"]),
        (&true.into(), &true.into(), &"0".into())
    );
    let entries = history["entries"].as_array().unwrap();
    let texts = |entry: &serde_json::Value| {
        ["kind", "amount", "with", "txid", "evidence"].map(|key| entry[key].as_str().unwrap().to_owned())
    };
    let dev = sent["from"].as_str().unwrap();
    let given = ["received", "+2.5", dev, sent["txid"].as_str().unwrap(), "proven"].map(str::to_owned);
    assert_eq!(texts(&entries[0]), given);
    assert_eq!((entries.len(), &entries[1]["kind"], &entries[1]["with"]), (2, &"sent".into(), &miner.as_str().into()));
    assert_eq!((&entries[1]["balance"], &entries[1]["txid"]), (&history["balance"], &back["txid"]));
    assert_eq!(entries[0]["height"], sent["height"]);

    // By kind and time, and as a table.
    let sent_only = run(&["wallet", "history", &other, "--kind", "sent", "--csv", "table.csv"]).ok().stdout;
    assert!(sent_only.contains(&format!("1 to {miner}, fee ")) && !sent_only.contains("received"), "{sent_only}");
    assert!(sent_only.contains("1 shown of 2") && sent_only.contains("all entries together are the balance"));
    let table = std::fs::read_to_string(environment.path("table.csv")).unwrap();
    assert_eq!(table.lines().count(), 2, "{table}");
    let (time, txid) = (&table.lines().nth(1).unwrap()[..5], back["txid"].as_str().unwrap());
    assert!(time.starts_with("20") && table.contains(&format!(",sent,{},", texts(&entries[1])[1])), "{table}");
    assert!(table.contains(&format!(",{miner},,{txid},proven\n")), "{table}");
    assert!(table.starts_with("time,height,kind,amount,fee,reward,fees,balance,with,model,txid,evidence\n"), "{table}");
    let none = run(&["wallet", "history", &other, "--since", "2100-01-01", "--json"]).ok().json();
    assert_eq!((&none["entries"], &none["whole"]), (&serde_json::json!([]), &false.into()));
    assert_eq!((&none["opening"], &none["balance"]), (&history["balance"], &history["balance"]));
    let none = run(&["wallet", "history", &other, "--until", "2000-01-01", "--json"]).ok().json();
    assert_eq!((&none["entries"], &none["whole"]), (&serde_json::json!([]), &true.into()));
    let wrong = run(&["wallet", "history", &other, "--since", "yesterday"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("such as 2026-11-30"), "{}", wrong.stderr);

    let mined = run(&["wallet", "history", &miner, "--mining", "--json"]).ok().json();
    assert!(mined["whole"] == true && mined["mining"]["found"].as_u64() >= Some(2), "{mined}");
    assert!(mined["mining"]["reasons"].to_string().contains("no peer is connected"), "{mined}");
    let days = mined["days"].as_array().unwrap();
    let blocks: u64 = days.iter().map(|day| day["blocks"].as_u64().unwrap()).sum();
    let rewards = mined["entries"].as_array().unwrap().iter().filter(|entry| entry["kind"] == "mined").count();
    assert_eq!(blocks, rewards as u64);
    let text = run(&["wallet", "history", &miner, "--mining"]).ok().stdout;
    assert!(text.contains("mined block 1: reward ") && text.contains("on average, by the node's word"), "{text}");
    let text = run(&["wallet", "history", &other, "--mining"]).ok().stdout;
    assert!(text.contains(&format!("the node mines for {miner}, not for this address")), "{text}");
}

#[cfg(unix)]
#[test]
fn a_transaction_that_waits_is_replaced_or_withdrawn() {
    let environment = Environment::new();
    let args = ["wallet", "new", "--network", "local", "--wallet", "other", "--json"];
    let other = environment.run_with_password("secret", &args).ok().json()["address"].as_str().unwrap().to_owned();
    let here = ["--network", "local", "--data", "data"];
    let run = |args: &[&str]| environment.run_with_password("secret", &[args, &here[..]].concat());
    let dev = |args: &[&str]| run(&[args, &["--wallet", "dev", "--json"]].concat());
    let mut node = Node::start_in(&environment, "data");

    // What it would be is said, and nothing is sent.
    let dry = dev(&["wallet", "send", &other, "2", "--dry-run"]).ok().json();
    let grains = |value: &serde_json::Value| value.as_str().unwrap().parse::<ocelli_consensus::Amount>().unwrap().0;
    assert_eq!(grains(&dry["left"]), grains(&dry["balance"]) - grains(&dry["amount"]) - grains(&dry["fee"]), "{dry}");
    assert_eq!((&dry["sent"], &dry["waiting"]), (&false.into(), &0.into()));
    let watched = ["wallet", "import", "--address", &other, "--wallet", "seen", "--network", "local"];
    environment.run(&watched).ok();
    let poor = run(&["wallet", "send", &other, "2", "--dry-run", "--wallet", "seen"]);
    assert!(poor.code == 1 && poor.stderr.contains("are needed"), "{}", poor.stderr);

    let sent = |amount: &str| dev(&["wallet", "send", &other, amount]).ok().json()["txid"].as_str().unwrap().to_owned();
    let (first, second) = (sent("2"), sent("3"));
    let dry = dev(&["wallet", "bump", &first, "--dry-run"]).ok().json();
    assert!(grains(&dry["fee"]) > grains(&dry["first_fee"]) && dry["waiting"] == 1, "{dry}");
    let low = dev(&["wallet", "bump", &first, "--fee", "0.00000001"]);
    assert!(low.code == 2 && low.stderr.contains("expected more than"), "{}", low.stderr);
    let bumped = dev(&["wallet", "bump", &first]).ok().json();
    assert_eq!((&bumped["replaces"], &bumped["fee"]), (&first.as_str().into(), &dry["fee"]));
    let gone = run(&["chain", "tx", &first]);
    assert!(gone.code == 1 && gone.stderr.contains("was dropped"), "{}", gone.stderr);
    let again = dev(&["wallet", "bump", &first]);
    assert!(again.code == 1 && again.stderr.contains("waits no more"), "{}", again.stderr);
    let foreign = run(&["wallet", "cancel", &second, "--wallet", "other"]);
    assert!(foreign.code == 1 && foreign.stderr.contains(&format!("not of {other}")), "{}", foreign.stderr);
    let nothing = dev(&["wallet", "cancel", &"ab".repeat(32)]);
    assert!(nothing.stderr.contains("no node that was asked has transaction abab"), "{}", nothing.stderr);
    let withdrawn = dev(&["wallet", "cancel", &second]).ok().json();
    assert_eq!(withdrawn["replaces"], second.as_str());

    // A miner comes: the first is paid once, and the second never.
    rustix::process::kill_process(rustix::process::Pid::from_child(&node.0), rustix::process::Signal::TERM).unwrap();
    assert!(node.0.wait().unwrap().success());
    let _node = Node::start_on(&environment, "local", "data", &["--mine", &other]);
    dev(&["wallet", "send", &other, "1", "--wait", "1"]).ok();
    let history = run(&["wallet", "history", &other, "--kind", "received", "--json"]).ok().json();
    let amounts: Vec<_> = history["entries"].as_array().unwrap().iter().map(|entry| &entry["amount"]).collect();
    assert_eq!(amounts, ["+2", "+1"]);
    let late = dev(&["wallet", "cancel", bumped["txid"].as_str().unwrap()]);
    assert!(late.stderr.contains("it can be neither replaced nor withdrawn"), "{}", late.stderr);
}

#[test]
fn a_node_without_a_faucet_says_so() {
    let environment = Environment::new();
    let (_node, _log) = Node::start(&environment, "local", &[]);
    wait_for(&environment, "data");
    let file = std::fs::read_to_string(environment.path("data/node.json")).unwrap();
    let node: serde_json::Value = serde_json::from_str(&file).unwrap();
    let claim = ["faucet", "--wallet", "dev", "--network", "local", "--peer", node["addresses"][0].as_str().unwrap()];
    let run = environment.run(&claim);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("none of 1 nodes of network local gives anything"), "{}", run.stderr);
    assert!(run.stderr.contains("this node runs no faucet"), "{}", run.stderr);
    assert!(run.stderr.contains("hint: join through a node that runs a faucet"), "{}", run.stderr);
}

#[test]
fn the_doctor_looks_at_the_machine_and_at_the_node() {
    let environment = Environment::new();
    let base = ["doctor", "--network", "local", "--data", "data", "--device", "cpu"];
    let check = |report: &serde_json::Value, name: &str| {
        let checks = report["checks"].as_array().unwrap();
        checks.iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("{name}: {report}")).clone()
    };

    let alone = environment.run(&[&base[..], &["--json"]].concat()).json();
    assert_eq!(check(&alone, "exactness")["health"], "ok", "{alone}");
    assert!(check(&alone, "speed")["found"].as_str().unwrap().contains("images/s"), "{alone}");
    assert_eq!(check(&alone, "data folder")["health"], "ok");
    assert!(check(&alone, "disk")["found"].as_str().unwrap().contains("GiB free"));
    let network = check(&alone, "network");
    assert_eq!(network["health"], "warning");
    assert!(network["fix"].as_str().unwrap().contains("start a node with `ocelli node`"), "{alone}");

    let (_node, _log) = Node::start(&environment, "local", &[]);
    wait_for(&environment, "data");
    let run = environment.run(&base);
    assert_eq!(run.code, 1, "a node without peers: {}", run.stdout);
    assert!(run.stderr.contains("1 of "), "{}", run.stderr);
    let line = run.stdout.lines().find(|line| line.starts_with("failed")).unwrap_or_default();
    assert!(line.contains("peers") && line.contains("the node has none"), "{}", run.stdout);
    assert!(run.stdout.contains("fix: join through a node you know"), "{}", run.stdout);
    assert!(run.stdout.contains("warning  clock         there is no other node to compare with"), "{}", run.stdout);
}

/// The rows of a table of pictures.
fn rows(environment: &Environment) -> Vec<BTreeMap<String, String>> {
    rows_of(environment, "table.csv")
}

pub fn rows_of(environment: &Environment, table: &str) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_path(environment.path(table)).unwrap();
    let columns = reader.headers().unwrap().clone();
    reader.records().map(|row| row.unwrap().deserialize(Some(&columns)).unwrap()).collect()
}

#[test]
fn a_folder_is_paid_for_once_whatever_ends_the_run() {
    let environment = Environment::new();
    let (network, _) = environment.network();
    let folder = environment.path("traps");
    std::fs::create_dir(&folder).unwrap();
    let add = |name: &str, seed| std::fs::rename(environment.picture("made.bmp", seed), folder.join(name)).unwrap();
    for (name, seed) in [("a, b.bmp", 1), ("c \"d\".bmp", 2), ("図.bmp", 3)] {
        add(name, seed);
    }
    std::fs::write(folder.join("torn.png"), "torn").unwrap();

    // The price is told without a node and a wallet.
    let estimate = ["submit", "traps/*.bmp", "--network", &network, "--estimate", "--json"];
    let told = environment.run(&estimate).ok().json();
    let total: f64 = told["total"].as_str().unwrap().parse().unwrap();
    assert!(told["pictures"] == 3 && total > 0.0 && told["total"] == told["fees"], "{told}");

    let paid = Paid::start(&environment);
    let common = ["--network", &network, "--wallet", "dev", "--peer", &paid.peer, "--json"];
    let submit = [&["submit", "traps", "--csv", "table.csv"], &common[..]].concat();
    let dear = environment.run(&[&submit[..], &["--max-fee", "0.0000001"]].concat());
    assert_eq!((dear.code, dear.json()["answered"].as_u64()), (1, Some(0)), "{}", dear.stderr);
    assert!(rows(&environment).iter().all(|row| row["txid"].is_empty() && !row["problem"].is_empty()));
    let poor = environment.run(&[&submit[..], &["--max-total", "0.0000001"]].concat());
    assert!(poor.code == 1 && poor.stderr.contains("--max-total is 0.0000001"), "{}", poor.stderr);
    assert_eq!(paid.nonce(&environment, "dev"), 0);

    let first = environment.run(&submit);
    let told = first.json();
    assert_eq!((told["answered"].as_u64(), told["problems"].as_u64()), (Some(3), Some(1)), "{}", first.stderr);
    assert_eq!(paid.nonce(&environment, "dev"), 3);
    let with_txid = || rows(&environment).into_iter().filter(|row| !row["txid"].is_empty());
    assert_eq!(with_txid().count(), 3);
    for row in with_txid() {
        assert!(row["block"].parse::<u64>().unwrap() > 0 && row["paid"].parse::<f64>().unwrap() > 0.0, "{row:?}");
        assert!(!row["label_5"].is_empty() && row["problem"].is_empty(), "{row:?}");
    }

    // Killed with tasks written down as under way: handed in or not, each is paid for once.
    std::fs::remove_file(folder.join("torn.png")).unwrap();
    add("later.bmp", 4);
    add("latest.bmp", 5);
    let mut killed = environment.command(&submit).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let pending = environment.path("table.csv.pending");
    while !pending.exists() {
        assert_eq!(killed.try_wait().unwrap(), None, "it does not end before");
        std::thread::sleep(Duration::from_millis(1));
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    environment.run(&submit).ok();
    assert_eq!(paid.nonce(&environment, "dev"), 5);
    assert!(!pending.exists());
    let told = environment.run(&submit).ok().json();
    assert_eq!((told["answered"].as_u64(), told["answered_before"].as_u64()), (Some(0), Some(5)));
    assert_eq!(paid.nonce(&environment, "dev"), 5);
    assert_eq!(with_txid().map(|row| row["txid"].clone()).collect::<BTreeSet<_>>().len(), 5);
}

/// Two runs sign with one key at once, and its file is replaced by another wallet's meanwhile.
#[test]
fn runs_with_one_key_pay_once_whatever_becomes_of_its_file() {
    let environment = Environment::new();
    let new = |file: &str| {
        let args = ["wallet", "new", "--network", "local", "--wallet", file, "--json"];
        environment.run_with_password("secret", &args).ok().json()["address"].as_str().unwrap().to_owned()
    };
    let (ours, _) = (new("./ours.pem"), new("./other.pem"));
    // As an editor or a program that syncs folders does.
    let put = |wallet: &str| {
        std::fs::copy(environment.path(wallet), environment.path("new.pem")).unwrap();
        std::fs::rename(environment.path("new.pem"), environment.path("used.pem")).unwrap();
    };
    put("ours.pem");
    let paid = Paid::start_for(&environment, &ours, "ours.pem");
    let add = |folder: &str, seed: u8| {
        std::fs::create_dir_all(environment.path(folder)).unwrap();
        let made = environment.picture("made.bmp", seed);
        std::fs::rename(made, environment.path(&format!("{folder}/{seed}.bmp"))).unwrap();
    };
    let submit = |folder: &str, table: &str| {
        let args = ["submit", folder, "--csv", table, "--network", &paid.network, "--peer", &paid.peer, "--json"];
        let mut command = environment.command(&[&args[..], &["--wallet", "./used.pem"]].concat());
        command.env("OCELLI_PASSWORD", "secret").stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let tables = ["one.csv", "two.csv"];
    for seed in 0..6 {
        add(["one", "two"][usize::from(seed) % 2], seed);
    }
    let runs = [("one", tables[0]), ("two", tables[1])].map(|(folder, table)| submit(folder, table).spawn().unwrap());
    // Whoever has a table has the key.
    wait_until("both begin", &|| tables.iter().all(|table| environment.path(table).exists()));
    put("other.pem");
    for run in runs {
        let told = Run::from(run.wait_with_output().unwrap()).ok().json();
        assert_eq!((&told["answered"], &told["left"]), (&3.into(), &0.into()), "{told}");
    }
    let txids = || {
        let all = tables.iter().flat_map(|table| rows_of(&environment, table));
        let txids: Vec<_> = all.map(|row| row["txid"].clone()).filter(|txid| !txid.is_empty()).collect();
        assert_eq!(txids.iter().collect::<BTreeSet<_>>().len(), txids.len(), "{txids:?}");
        txids.len()
    };
    assert_eq!((txids(), paid.nonce(&environment, "./ours.pem"), paid.nonce(&environment, "./other.pem")), (6, 6, 0));

    // A run is killed with what it has signed, and goes on with the other wallet: what the first has signed is what is paid.
    put("ours.pem");
    (6..9).for_each(|seed| add("one", seed));
    let mut killed = submit("one", tables[0]).spawn().unwrap();
    wait_until("tasks are signed", &|| environment.path("one.csv.pending").exists());
    killed.kill().unwrap();
    killed.wait().unwrap();
    put("other.pem");
    Run::from(submit("one", tables[0]).output().unwrap()).ok();
    assert_eq!((txids(), paid.nonce(&environment, "./ours.pem"), paid.nonce(&environment, "./other.pem")), (9, 9, 0));
    // One table has one writer.
    let table = std::fs::File::open(environment.path("one.csv")).unwrap();
    table.lock().unwrap();
    let second = Run::from(submit("one", tables[0]).output().unwrap());
    assert!(second.code == 1 && second.stderr.contains("another command writes to the table"), "{}", second.stderr);
}

/// Another machine with the same key uses the nonce of a task that waits: the task is signed anew, and said so. Unless it is
/// the same task, for a higher fee.
#[cfg(unix)]
#[test]
fn a_task_whose_nonce_is_used_elsewhere_is_asked_anew() {
    for (command, nonce) in [("cancel", "2"), ("bump", "1")] {
        let environment = Environment::new();
        let mut node = Node::start_in(&environment, "data");
        let peer = address_in(&environment, "data");
        let here = ["--network", "local", "--wallet", "dev", "--peer", &peer, "--json"];
        let picture = environment.picture("picture.bmp", 1).display().to_string();
        let submit = ["submit", &picture, "--csv", "table.csv"];
        let mut submit = environment.command(&[&submit[..], &here].concat());
        let child = submit.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // As soon as it waits in the node's mempool, it is replaced.
        let start = Instant::now();
        let (first, second) = loop {
            assert!(start.elapsed() < Duration::from_secs(60), "the task is handed in");
            let text = std::fs::read_to_string(environment.path("table.csv.pending")).unwrap_or_default();
            let entries: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            if let Some(txid) = entries[0]["row"]["txid"].as_str() {
                let replaced = environment.run(&[&["wallet", command, txid][..], &here].concat());
                if replaced.code == 0 {
                    break (txid.to_owned(), replaced.json()["txid"].clone());
                }
            }
        };
        // Then blocks come, from the same node at the same place.
        rustix::process::kill_process(rustix::process::Pid::from_child(&node.0), rustix::process::Signal::TERM)
            .unwrap();
        assert!(node.0.wait().unwrap().success());
        let miner = environment.run(&["wallet", "address", "--wallet", "dev"]).ok().stdout;
        let listen = peer.split("/p2p/").next().unwrap();
        let _node = Node::start_on(&environment, "local", "data", &["--mine", miner.trim(), "--listen", listen]);
        let run = Run::from(child.wait_with_output().unwrap()).ok();
        assert_eq!(run.json()["answered"], 1);
        let late = "too late: another transaction of its sender has its nonce, 0; asking anew";
        assert_eq!(run.stderr.contains(late), command == "cancel", "{}", run.stderr);
        let found = rows(&environment);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_ne!(found[0]["txid"], first);
        assert_eq!(found[0]["txid"] == second.as_str().unwrap(), command == "bump", "{found:?}");
        let balance = environment.run(&[&["wallet", "balance"][..], &here].concat()).ok().json();
        assert_eq!(balance["nonce"], nonce, "{command}");
    }
}

/// A node that mines for a wallet, which has got something by now.
pub struct Paid {
    /// The network's file.
    pub network: String,
    pub peer: String,
    _node: Node,
}

impl Paid {
    /// For the development wallet.
    pub fn start(environment: &Environment) -> Self {
        let miner = environment.run(&["wallet", "address", "--wallet", "dev"]).ok().stdout;
        Self::start_for(environment, miner.trim(), "dev")
    }

    fn start_for(environment: &Environment, miner: &str, wallet: &str) -> Self {
        let (network, _) = environment.network();
        let node = Node::start_on(environment, &network, "data", &["--mine", miner]);
        let paid = Self { peer: address_in(environment, "data"), network, _node: node };
        let start = Instant::now();
        while paid.account(environment, wallet)["balance"] == "0" {
            assert!(start.elapsed() < Duration::from_secs(60), "blocks come");
            std::thread::sleep(Duration::from_millis(100));
        }
        paid
    }

    fn account(&self, environment: &Environment, wallet: &str) -> serde_json::Value {
        let wallet = if wallet == "dev" { wallet.into() } else { format!("./{}", wallet.trim_start_matches("./")) };
        let args =
            ["wallet", "balance", "--network", &self.network, "--wallet", &wallet, "--peer", &self.peer, "--json"];
        environment.run(&args).ok().json()
    }

    /// How many transactions of a wallet are confirmed.
    pub fn nonce(&self, environment: &Environment, wallet: &str) -> u64 {
        self.account(environment, wallet)["nonce"].as_str().unwrap().parse().unwrap()
    }
}

/// Where a node of this home folder listens.
fn address_in(environment: &Environment, folder: &str) -> String {
    let file = std::fs::read(environment.path(&format!("{folder}/node.json"))).unwrap();
    let node: serde_json::Value = serde_json::from_slice(&file).unwrap();
    node["addresses"][0].as_str().unwrap().to_owned()
}

#[test]
fn a_node_that_answers_over_http_says_where() {
    use std::io::{Read as _, Write as _};
    let environment = Environment::new();
    let (_node, log) = Node::start(&environment, "local", &["--api", "127.0.0.1:0"]);
    std::thread::spawn(move || log.for_each(drop));
    wait_for(&environment, "data");
    let file = std::fs::read_to_string(environment.path("data/node.json")).unwrap();
    let node: serde_json::Value = serde_json::from_str(&file).unwrap();
    let address = node["api"].as_str().unwrap().strip_prefix("http://").unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    // The same as the command says, but for what passes meanwhile.
    let over_http: serde_json::Value = serde_json::from_str(body).unwrap();
    let status = environment.run(&["status", "--data", "data", "--json"]).ok().json();
    for field in ["network", "genesis", "height", "tip", "peer_id", "work", "state_root", "checked"] {
        assert_eq!(over_http[field], status[field], "{field}");
    }
    // Where something else listens, the node says so.
    let taken = environment.run(&[
        "node",
        "--network",
        "local",
        "--data",
        "other",
        "--device",
        "cpu",
        "--no-mdns",
        "--listen",
        "/ip4/127.0.0.1/tcp/0",
        "--api",
        address,
    ]);
    assert_eq!(taken.code, 1, "{}", taken.stderr);
    assert!(
        taken.stderr.contains(&format!("cannot listen for HTTP at {address}: name another address with --api")),
        "{}",
        taken.stderr
    );
}

/// The node's own thread writes `node.json` right after the log has said that it listens.
fn wait_for(environment: &Environment, folder: &str) {
    let file = environment.path(&format!("{folder}/node.json"));
    let start = Instant::now();
    while !file.exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "the node writes node.json");
        std::thread::sleep(Duration::from_millis(10));
    }
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains("/ip4/127.0.0.1/tcp/"), "the file has the address: {text}");
}
