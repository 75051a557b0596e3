//! Answers that the node pays for.

use std::net::SocketAddr;
use std::sync::Arc;

use ocelli_consensus::network::Network;
use ocelli_consensus::transaction::{Form, Unsigned};
use ocelli_consensus::{Action, Address, Amount, AttachmentHash, ModelId, Transaction};
use ocelli_model::{Attachment, attachment, reference};
use ocelli_node::api::{Config, Payer};
use ocelli_node::node::Spender;
use ocelli_node::store::Store;
use ocelli_node::turn::Turns;
use ocelli_node::wallet::Wallet;
use ocelli_protocol::message::{Submission, SubmitReply};
use serde_json::{Value, json};

use super::super::harness::{Maker, RawPeer, TestNode, cpu, easy_network, model, rich, wait};
use super::super::http::{Answer, Connection, ask, get, post};
use super::chain::{event, listen};
use super::{config, file, node, node_with, token, wait_until_ready};

const PAY: &str = "/v1/classify?confirm=1";
const CAT: &str = "assets/cifar10/cat-0000.jpg";
const DOG: &str = "assets/cifar10/dog-0001.jpg";

/// A day's limit that no test reaches.
const MUCH: Amount = Amount(100_000_000);

/// Whose wallet no other program uses.
pub(super) fn payer(wallet: Wallet, limit: Amount) -> Payer {
    Payer { spender: Arc::new(Spender { wallet, turns: Turns::in_folder(None) }), limit }
}

/// A wallet pays, which has much on the test's network.
fn paying(limit: Amount) -> Config {
    Config { payer: Some(payer(rich(), limit)), ..config() }
}

/// Asks for a picture to be paid for, with or without a key.
fn pay(node: &TestNode, key: Option<&str>, path: &str, picture: &str) -> Answer {
    pay_at(node.api(), &token(node), key, path, picture)
}

fn pay_at(api: SocketAddr, authorization: &str, key: Option<&str>, path: &str, picture: &str) -> Answer {
    let mut headers = vec![("Authorization", authorization)];
    headers.extend(key.map(|key| ("Idempotency-Key", key)));
    ask(api, "POST", path, &headers, &file(picture))
}

fn txid(answer: &Value) -> String {
    answer["task"]["txid"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

fn pending(node: &TestNode) -> u64 {
    get(node.api(), "/v1/mempool").ok()["transactions"].as_u64().unwrap()
}

fn wallet(node: &TestNode) -> Value {
    ask(node.api(), "GET", "/v1/wallet", &[("Authorization", &token(node))], &[]).ok()
}

/// The task of a picture as the node has signed it: signatures follow from what is signed.
fn task(network: &Network, nonce: u64, fee: &Value, picture: &str) -> Submission {
    let attachment = Attachment::from_file(&file(picture), model().graph().input().into()).unwrap();
    let attachment::Form::Jpeg(sides) = attachment.form else { panic!("{attachment:?}") };
    let action = Action::Classify {
        model: ModelId(model().id().0),
        picture: AttachmentHash::of(&attachment.bytes),
        bytes: attachment.bytes.len() as u32,
        royalty: Amount::ZERO,
        form: Form::Jpeg { width: sides.columns, height: sides.rows },
    };
    let unsigned = Unsigned { nonce, fee: Amount(fee.as_str().unwrap().parse().unwrap()), expires: 1_000, action };
    let wallet = rich();
    let transaction =
        Transaction::sign(unsigned, wallet.public_key(), network.genesis_hash(), |hash| wallet.sign(hash));
    Submission { transaction, attachment: Some(attachment.bytes.as_slice().into()) }
}

#[test]
fn a_paid_answer_is_the_free_one_and_is_confirmed() {
    let network = easy_network();
    let node = node_with(paying(MUCH), cpu());
    let free = post(node.api(), "/v1/classify", &file(CAT)).ok();
    let paid = pay(&node, None, PAY, CAT).ok();
    for field in ["label", "probability", "top", "model", "picture"] {
        assert_eq!(paid[field], free[field], "{field}");
    }
    assert_eq!(free.get("task"), None);
    let told = &paid["task"];
    assert_eq!((&told["state"], &told["confirmations"], &told["block"]), (&json!("pending"), &json!(0), &Value::Null));
    let task = task(&network, 0, &told["fee"], CAT);
    assert_eq!(told["txid"], json!(task.transaction.txid()));
    assert_eq!(wallet(&node)["spent"], told["fee"]);

    // A block that holds it comes while somebody waits.
    let address = node.api();
    let path = format!("/v1/transactions/{}?wait=1", txid(&paid));
    let waits = std::thread::spawn(move || get(address, &path).ok());
    let (peer, _) = RawPeer::connect(&network, &node);
    let mut maker = Maker::new(&network);
    let (header, data) = maker.make(std::slice::from_ref(&task));
    peer.announce(&header, &data.body);
    peer.serve_until(&data, header.hash(), || node.status().tip.hash == header.hash());
    let confirmed = waits.join().unwrap();
    assert_eq!((&confirmed["state"], &confirmed["block"]), (&json!("confirmed"), &json!(header.hash())));
    assert_eq!(
        (&confirmed["confirmations"], &confirmed["answer"]["best"][0]["class"]),
        (&json!(1), &free["top"][0]["index"])
    );
    // Who comes too late for more does not wait for ever.
    let late = get(node.api(), &format!("/v1/transactions/{}?wait=9&timeout=0", txid(&paid))).ok();
    assert_eq!(late["confirmations"], 1);
    get(node.api(), &format!("/v1/transactions/{}?timeout=601", txid(&paid))).problem(400);
}

/// The owner's commands send from the same wallet.
#[test]
fn the_node_waits_for_the_turn_of_its_wallet() {
    let network = easy_network();
    let folder = tempfile::tempdir().unwrap();
    let turns = Turns::in_folder(Some(folder.path().join("turns")));
    let spender = Arc::new(Spender { wallet: rich(), turns: turns.clone() });
    let node = node_with(Config { payer: Some(Payer { spender, limit: MUCH }), ..config() }, cpu());
    let turn = turns.take(Address::of(&rich().public_key())).unwrap().expect("nobody else has it");
    let (api, authorization) = (node.api(), token(&node));
    let waits = std::thread::spawn(move || pay_at(api, &authorization, None, PAY, CAT).ok());
    // What a command has asked the nonce for, and hands in.
    let transfer = Maker::new(&network).transfer(0, Address([5; 20]), Amount(1_000_000));
    assert_eq!(node.submit(transfer.clone()), SubmitReply::Accepted { answer: None });
    drop(turn);
    let paid = waits.join().unwrap();
    assert_eq!(txid(&paid), task(&network, 1, &paid["task"]["fee"], CAT).transaction.txid().to_string());
    assert!(node.is_pending(transfer.transaction.txid()) && pending(&node) == 2);
}

#[test]
fn what_is_sent_is_kept_with_the_hashes_of_both() {
    const PNG: &str = "model/tests/pictures/png/grey-1-clear.png";
    let node = node_with(paying(MUCH), cpu());
    let folder = node.folder().join("sent");
    let kept = |name: String| std::fs::read(folder.join(name));
    for picture in [CAT, PNG] {
        let answer = pay(&node, Some(picture), PAY, picture).ok();
        let (name, told) = (format!("{}.json", txid(&answer)), &answer["picture"]);
        let note: Value = serde_json::from_slice(&kept(name.clone()).unwrap()).unwrap();
        assert_eq!((&note["txid"], &note["file"]), (&answer["task"]["txid"], &Value::Null));
        for (field, of_answer) in [("file_sha256", "file_sha256"), ("sent_sha256", "sha256"), ("sent_as", "what")] {
            assert_eq!(note[field], told[of_answer], "{field}");
        }
        let attachment = Attachment::from_file(&file(picture), model().graph().input().into()).unwrap();
        assert_eq!(note["attachment"], json!(AttachmentHash::of(&attachment.bytes)));
        let ends = ["jpg", "pixels"];
        let bytes = ends.iter().find_map(|end| kept(format!("{}.{end}", note["attachment"].as_str().unwrap())).ok());
        assert_eq!(bytes, (picture == PNG).then_some(attachment.bytes), "{picture}");
        // As if the machine had gone down before that was written.
        std::fs::remove_file(folder.join(&name)).unwrap();
        assert_eq!(txid(&pay(&node, Some(picture), PAY, picture).ok()), txid(&answer));
        assert_eq!(serde_json::from_slice::<Value>(&kept(name).unwrap()).unwrap(), note);
    }
}

#[test]
fn what_is_asked_again_with_its_key_is_paid_for_once() {
    let node = node_with(paying(MUCH), cpu());
    let first = pay(&node, Some("one"), PAY, CAT).ok();
    for _ in 0..3 {
        assert_eq!(pay(&node, Some("one"), PAY, CAT).ok()["task"]["txid"], first["task"]["txid"]);
    }
    assert_eq!((pending(&node), &wallet(&node)["spent"]), (1, &first["task"]["fee"]));
    let problem = pay(&node, Some("one"), PAY, DOG).problem(422);
    assert!(problem["detail"].as_str().unwrap().contains(&txid(&first)), "{problem}");
    assert_eq!(pending(&node), 1);
    // Another key, or none, is another order.
    let others = [pay(&node, Some("two"), PAY, CAT), pay(&node, None, PAY, CAT), pay(&node, None, PAY, CAT)];
    let mut ids: Vec<_> = others.iter().map(|answer| txid(&answer.ok())).collect();
    ids.push(txid(&first));
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), pending(&node)), (4, 4));
    for key in ["", "a b", &"k".repeat(129)] {
        pay(&node, Some(key), PAY, CAT).problem(400);
    }
    assert_eq!(pending(&node), 4);
}

#[test]
fn those_who_ask_at_once_with_one_key_get_one_task() {
    let node = node_with(paying(MUCH), cpu());
    let ask = |key: String| {
        let (api, token) = (node.api(), token(&node));
        std::thread::spawn(move || txid(&pay_at(api, &token, Some(&key), PAY, CAT).ok()))
    };
    let asked: Vec<_> = (0..24).map(|number| ask(format!("key-{}", number % 3))).collect();
    let mut ids: Vec<_> = asked.into_iter().map(|thread| thread.join().unwrap()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), pending(&node)), (3, 3));
}

#[test]
fn those_who_ask_at_once_spend_no_more_than_the_limit() {
    let fee = {
        let told = pay(&node_with(paying(MUCH), cpu()), None, PAY, CAT).ok()["task"]["fee"].clone();
        told.as_str().unwrap().parse::<u64>().unwrap()
    };
    let node = node_with(paying(Amount(5 * fee + 1)), cpu());
    let asked: Vec<_> = (0..16)
        .map(|number| {
            let (api, token, picture) = (node.api(), token(&node), [CAT, DOG][number % 2]);
            std::thread::spawn(move || pay_at(api, &token, Some(&format!("key-{number}")), PAY, picture))
        })
        .collect();
    let mut paid = 0;
    for answer in asked.into_iter().map(|thread| thread.join().unwrap()) {
        match answer.status {
            200 => paid += 1,
            _ => assert_eq!(answer.problem(429)["type"], "urn:ocelli:problem:spending-limit"),
        }
    }
    let spent: u64 = wallet(&node)["spent"].as_str().unwrap().parse().unwrap();
    assert!(spent <= 5 * fee + 1 && paid > 0, "{paid} were paid for, {spent} of {fee} each");
    assert_eq!(pending(&node), paid);
}

/// All places to wait for what others have sent are taken: who pays has places of his own, and others are answered.
#[test]
fn those_who_look_leave_room_for_those_who_pay() {
    const WAITING: usize = 256;
    let node = node_with(paying(MUCH), cpu());
    let path = format!("/v1/transactions/{}?wait=1", txid(&pay(&node, None, PAY, CAT).ok()));
    let (path, brief) = (format!("{path}&timeout=600"), format!("{path}&timeout=0"));
    let begin = || {
        let mut connection = Connection::open(node.api());
        connection.request("GET", &path, &[], &[]);
        connection
    };
    let mut waiting: Vec<_> = (0..WAITING).map(|_| begin()).collect();
    // One that comes while this takes a place for a moment is refused: another takes its turn.
    let busy = wait("all places to be taken", || {
        waiting.push(begin());
        Some(get(node.api(), &brief)).filter(|answer| answer.status != 200)
    });
    busy.problem(503);
    assert!(busy.header("retry-after").is_some());
    let told = pay(&node, Some("one"), "/v1/classify?confirm=1&wait=1&timeout=0", CAT).ok();
    assert_eq!((&told["task"]["state"], pending(&node)), (&"pending".into(), 2));
    drop(waiting);
    wait("a place", || (get(node.api(), &brief).status == 200).then_some(()));
    get(node.api(), &path.replace("wait=1", "wait=101")).problem(400);
}

/// All places of those who pay are taken: nobody pays who then could not wait.
#[test]
fn who_cannot_wait_pays_nothing() {
    const WAITING: usize = 256;
    let node = node_with(paying(MUCH), cpu());
    let authorization = token(&node);
    let first = pay(&node, Some("one"), PAY, CAT).ok();
    let waits = "/v1/classify?confirm=1&wait=1&timeout=600";
    let headers = [("Authorization", authorization.as_str()), ("Idempotency-Key", "one")];
    let begin = || {
        let mut connection = Connection::open(node.api());
        connection.request("POST", waits, &headers, &file(CAT));
        connection
    };
    let mut waiting: Vec<_> = (0..WAITING).map(|_| begin()).collect();
    let brief = waits.replace("timeout=600", "timeout=0");
    let busy = wait("all places to be taken", || {
        waiting.push(begin());
        Some(pay(&node, Some("one"), &brief, CAT)).filter(|answer| answer.status != 200)
    });
    busy.problem(503);
    pay(&node, Some("two"), &brief, CAT).problem(503);
    assert_eq!(pending(&node), 1, "nothing was paid for");
    assert_eq!(txid(&pay(&node, Some("one"), PAY, CAT).ok()), txid(&first));
    drop(waiting);
    wait("a place", || (pay(&node, Some("one"), &brief, CAT).status == 200).then_some(()));
}

#[test]
fn a_restart_forgets_no_order_and_no_limit() {
    let network = easy_network();
    let node = node_with(paying(MUCH), cpu());
    let first = pay(&node, Some("one"), PAY, CAT).ok();
    let fee: u64 = first["task"]["fee"].as_str().unwrap().parse().unwrap();
    let folder = node.into_folder();

    let node = TestNode::with_api_on(&network, paying(Amount(2 * fee - 1)), folder);
    wait_until_ready(&node);
    wait("what was pending", || (pending(&node) == 1).then_some(()));
    assert_eq!(txid(&pay(&node, Some("one"), PAY, CAT).ok()), txid(&first));
    assert_eq!((pending(&node), &wallet(&node)["spent"]), (1, &first["task"]["fee"]));
    let answer = pay(&node, Some("two"), PAY, CAT);
    let problem = answer.problem(429);
    assert_eq!(problem["type"], "urn:ocelli:problem:spending-limit");
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((86_000..=86_400).contains(&seconds), "{seconds}");
    assert_eq!(pending(&node), 1);
    let folder = node.into_folder();

    // As if the machine had gone down after the order was written and before anything else: it is handed in once more.
    let store = Store::open(&folder.path().join("chain"), &network).unwrap();
    let left: Vec<_> = store.pending().map(|row| row.unwrap().0).collect();
    assert_eq!(left.len(), 1);
    store.change_pending(left, []).unwrap();
    drop(store);
    let node = TestNode::with_api_on(&network, paying(MUCH), folder);
    wait_until_ready(&node);
    assert_eq!(pending(&node), 0);
    let again = pay(&node, Some("one"), PAY, CAT).ok();
    assert_eq!((&again["task"]["txid"], &again["task"]["state"]), (&first["task"]["txid"], &json!("pending")));
    assert_eq!(pending(&node), 1);
}

/// What was written is there even if the process is gone at once.
#[test]
fn an_order_is_pending_again_after_the_process_was_gone() {
    let network = easy_network();
    let node = node_with(paying(MUCH), cpu());
    let first = pay(&node, Some("one"), PAY, CAT).ok();
    // Nothing else has written what is pending yet, so a copy of the folder is what a killed process leaves.
    let copy = tempfile::tempdir().unwrap();
    let status = std::process::Command::new("cp").arg("-a").arg(node.folder().join(".")).arg(copy.path()).status();
    assert!(status.unwrap().success());
    drop(node);
    let node = TestNode::with_api_on(&network, paying(MUCH), copy);
    wait_until_ready(&node);
    wait("what was pending", || (pending(&node) == 1).then_some(()));
    assert_eq!(txid(&pay(&node, Some("one"), PAY, CAT).ok()), txid(&first));
    assert_eq!(pending(&node), 1);
}

#[test]
fn who_may_not_pay_or_cannot_is_told_why() {
    let node = node_with(paying(Amount(5)), cpu());
    let cat = file(CAT);
    for headers in [&[][..], &[("Authorization", "Bearer 00")], &[("Idempotency-Key", "one")]] {
        let answer = ask(node.api(), "POST", PAY, headers, &cat);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "on this machine too");
        answer.problem(401);
    }
    get(node.api(), "/v1/wallet").problem(401);
    // Dearer than a whole day may be: waiting does not help.
    let answer = pay(&node, Some("one"), PAY, CAT);
    assert_eq!((answer.header("retry-after"), &wallet(&node)["spent"]), (None, &json!("0")));
    let problem = answer.problem(429);
    assert!(problem["detail"].as_str().unwrap().ends_with("and 0.00000005 may be"), "{problem}");
    let authorization = token(&node);
    let headers = [("Authorization", authorization.as_str())];
    let (kind, body) = super::super::http::form(&[("a.jpg", &cat), ("b.jpg", &cat)]);
    let form = [headers[0], ("Content-Type", kind.as_str())];
    let problem = ask(node.api(), "POST", PAY, &form, &body).problem(400);
    assert!(problem["detail"].as_str().unwrap().starts_with("found 2 pictures"), "{problem}");
    drop(node);

    let without = self::node();
    assert_eq!(pay(&without, None, PAY, CAT).problem(403)["type"], "urn:ocelli:problem:no-wallet");
    drop(without);

    let poor = Config { payer: Some(payer(Wallet::from_seed([77; 32]), MUCH)), ..config() };
    let node = node_with(poor, cpu());
    let problem = pay(&node, Some("one"), PAY, CAT).problem(402);
    assert!(problem["detail"].as_str().unwrap().ends_with("the wallet has 0"), "{problem}");
    assert_eq!((pending(&node), &wallet(&node)["spent"]), (0, &json!("0")));
}

#[test]
fn what_else_the_wallet_has_pending_keeps_its_place() {
    let network = easy_network();
    let node = node_with(paying(MUCH), cpu());
    let maker = Maker::new(&network);
    let to = Address([5; 20]);
    node.submit(maker.transfer(0, to, Amount(1_000_000)));
    // Out of turn: it waits for what comes before it.
    node.submit(maker.transfer(2, to, Amount(1_000_000)));
    let first = pay(&node, None, PAY, CAT).ok();
    let second = pay(&node, None, PAY, DOG).ok();
    assert_eq!(pending(&node), 4);
    for (told, nonce, picture) in [(&first, 1, CAT), (&second, 3, DOG)] {
        let task = task(&network, nonce, &told["task"]["fee"], picture);
        assert_eq!(told["task"]["txid"], json!(task.transaction.txid()), "nonce {nonce}");
    }
}

#[test]
fn a_reorganisation_is_told_and_pays_nothing_twice() {
    let network = easy_network();
    let node = node_with(paying(MUCH), cpu());
    let mut events = Connection::open(node.api());
    listen(&mut events, None);
    let mut of_task = || loop {
        let (kind, _, data) = event(&mut events);
        if kind == "task" {
            return data;
        }
    };
    let first = pay(&node, Some("one"), PAY, CAT).ok();
    let id = txid(&first);
    let place = |state: &str, block: Value, height: Value| json!({ "txid": id, "state": state, "block": block, "height": height });
    assert_eq!(of_task(), place("pending", Value::Null, Value::Null));

    let (mut ours, mut theirs) = (Maker::new(&network), Maker::new(&network));
    let task = task(&network, 0, &first["task"]["fee"], CAT);
    let (with, data) = ours.make(std::slice::from_ref(&task));
    let (peer, _) = RawPeer::connect(&network, &node);
    peer.announce(&with, &data.body);
    peer.serve_until(&data, with.hash(), || node.status().tip.hash == with.hash());
    assert_eq!(of_task(), place("confirmed", json!(with.hash()), json!(1)));
    assert_eq!(pay(&node, Some("one"), "/v1/classify?confirm=1&wait=1", CAT).ok()["task"]["block"], json!(with.hash()));

    // A longer chain without it: it is pending again.
    for _ in 0..2 {
        theirs.make(&[]);
    }
    let tip = theirs.chain.tip().hash;
    let other = TestNode::on_folder(&network, theirs.into_folder(), &[]);
    node.add(&other.address());
    node.wait_for_tip(tip);
    assert_eq!(of_task(), place("pending", Value::Null, Value::Null));
    let again = pay(&node, Some("one"), PAY, CAT).ok();
    assert_eq!((&again["task"]["txid"], &again["task"]["state"]), (&json!(id), &json!("pending")));
    assert_eq!((pending(&node), &wallet(&node)["spent"]), (1, &first["task"]["fee"]));
}

#[test]
fn the_logits_are_those_of_the_reference() {
    let node = node_with(paying(MUCH), cpu());
    let attachment = Attachment::from_file(&file(CAT), model().graph().input().into()).unwrap();
    let paid = pay(&node, None, "/v1/classify?confirm=1&logits=1", CAT).ok();
    assert_eq!(paid["logits"], json!(reference::logits(&model(), &attachment.pixels)));
}
