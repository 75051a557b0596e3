//! What is told of the chain, and what happens to it.

use ocelli_consensus::{Address, Amount};
use ocelli_protocol::message::{BlockId, Submission};
use serde_json::{Value, json};

use super::super::harness::{Maker, RawPeer, TestNode, easy_network, right, wait};
use super::super::http::{Connection, ask, get, numbers};
use super::{config, node};

/// What the reference says of a task, as it is told.
fn told(task: &Submission) -> Value {
    let answer = right(task);
    let best: Vec<_> = answer.best.iter().map(|(class, logit)| json!({ "class": class, "logit": logit })).collect();
    json!({ "best": best, "digest": answer.digest })
}

#[test]
fn the_chain_is_told_as_the_command_line_tells_it() {
    let network = easy_network();
    let mut maker = Maker::new(&network);
    let to = Address([5; 20]);
    let (first, _) = maker.make(&[]);
    let submissions = [maker.classify(0, 1), maker.transfer(1, to, Amount(90_000_000_000_001))];
    let (second, data) = maker.make(&submissions);
    let task = submissions[0].transaction.txid();
    let node = TestNode::with_api_on(&network, config(), maker.into_folder());
    let get = |path: &str| get(node.api(), path);

    let status = get("/v1/status").ok();
    assert_eq!((&status["height"], &status["tip"]), (&json!(2), &json!(second.hash())));

    let blocks = get("/v1/blocks").ok();
    let heights: Vec<_> = blocks["blocks"].as_array().unwrap().iter().map(|block| block["height"].clone()).collect();
    assert_eq!(heights, [2, 1, 0]);
    assert_eq!(get("/v1/blocks?limit=1&below=2").ok()["blocks"][0]["hash"], json!(first.hash()));
    assert_eq!(get("/v1/blocks?below=0").ok()["blocks"], json!([]));
    for limit in [0, 101] {
        get(&format!("/v1/blocks?limit={limit}")).problem(400);
    }
    get("/v1/blocks/2?raw=true").problem(400);

    for name in ["2".to_owned(), second.hash().to_string()] {
        let block = get(&format!("/v1/blocks/{name}")).ok();
        assert_eq!((&block["main_chain"], &block["confirmations"]), (&json!(true), &json!(1)));
        assert_eq!(block["header"]["parent"], json!(first.hash()));
        assert_eq!(block["transactions"][0]["txid"], json!(task));
        assert_eq!(block["answers"][0], told(&submissions[0]));
        assert_eq!((&block["answers"][1], block.get("raw")), (&Value::Null, None));
    }
    let raw = &get("/v1/blocks/2?raw=1").ok()["raw"];
    assert_eq!(raw["attachments"], json!([hex::encode(submissions[0].attachment.as_ref().unwrap()), null]));
    assert_eq!(raw["header"], hex::encode(second.to_bytes()));
    let problem = get("/v1/blocks/3").problem(404);
    assert_eq!(problem["detail"], "the node has no block at height 3; its tip is at height 2");
    for name in ["+1", "-1", "x", "%FF", "18446744073709551616"] {
        get(&format!("/v1/blocks/{name}")).problem(400);
    }

    let transaction = get(&format!("/v1/transactions/{task}")).ok();
    assert_eq!(
        (&transaction["state"], &transaction["height"], &transaction["index"]),
        (&json!("confirmed"), &json!(2), &json!(0))
    );
    assert_eq!(transaction["transaction"]["action"]["kind"], "classify");
    assert_eq!((&transaction["answer"], transaction.get("raw")), (&told(&submissions[0]), None));
    let raw = &get(&format!("/v1/transactions/{task}?raw=1")).ok()["raw"];
    assert_eq!(raw["transaction"], hex::encode(data.body.transactions[0].0.to_bytes()));
    let unknown = "ab".repeat(32);
    let problem = get(&format!("/v1/transactions/{unknown}")).problem(404);
    assert_eq!(problem["detail"], format!("the node knows no transaction {unknown}"));
    get("/v1/transactions/xyz").problem(400);

    let prefix = &network.parameters.address_prefix;
    let account = get(&format!("/v1/accounts/{}", to.to_text(prefix))).ok();
    assert_eq!(account["balance"], "90000000000001");
    assert_eq!((&account["nonce"], &account["next_nonce"], &account["height"]), (&json!("0"), &json!("0"), &json!(2)));
    let problem = get(&format!("/v1/accounts/{}", to.to_text("other"))).problem(400);
    assert!(problem["detail"].as_str().unwrap().contains("an address of another network"), "{problem}");

    assert_eq!(get("/v1/mempool").ok(), json!({ "transactions": 0, "bytes": 0 }));
    let fee = get("/v1/fees?blocks=3").ok();
    assert!(fee["blocks"] == 3 && fee["grains_per_million_weight"].is_string(), "{fee}");
    assert!(fee["transfer"].is_string() && fee["tasks"][0]["fee"].is_string(), "{fee}");
    get("/v1/fees?blocks=0").problem(400);
}

#[test]
fn what_is_pending_and_who_is_connected_is_told() {
    let network = easy_network();
    let node = node();
    let (_peer, _) = RawPeer::connect(&network, &node);
    let peers = wait("the peer", || {
        Some(get(node.api(), "/v1/peers").ok()).filter(|peers| peers["peers"].as_array().unwrap().len() == 1)
    });
    assert_eq!((&peers["peers"][0]["inbound"], &peers["peers"][0]["light"]), (&json!(true), &json!(false)));
    let submission: Submission = Maker::new(&network).transfer(0, Address([5; 20]), Amount(1_000_000));
    let txid = submission.transaction.txid();
    let mut events = Connection::open(node.api());
    listen(&mut events, None);
    node.submit(submission);
    assert_eq!(get(node.api(), &format!("/v1/transactions/{txid}")).ok()["state"], "pending");
    let (kind, _, data) =
        wait("the event", || Some(event(&mut events)).filter(|(_, _, data)| data["transactions"] == 1));
    assert_eq!(kind, "mempool");
    assert_eq!(get(node.api(), "/v1/mempool").ok(), data);
}

#[test]
fn what_was_signed_elsewhere_is_handed_in_and_pays_once() {
    let network = easy_network();
    let node = node();
    let maker = Maker::new(&network);
    let task = maker.classify(0, 1);
    let post = |body: &[u8]| super::super::http::post(node.api(), "/v1/transactions", body);
    for _ in 0..2 {
        let answer = post(&task.to_bytes()).ok();
        assert_eq!(answer, json!({ "txid": task.transaction.txid(), "answer": told(&task) }));
        assert_eq!(get(node.api(), "/v1/mempool").ok()["transactions"], 1);
    }
    let transfer = maker.transfer(1, Address([5; 20]), Amount(1_000_000));
    assert_eq!(post(&transfer.to_bytes()).ok(), json!({ "txid": transfer.transaction.txid() }));
    let mut spoiled = maker.transfer(2, Address([5; 20]), Amount(1_000_000));
    spoiled.transaction.signature[5] ^= 1;
    let problem = post(&spoiled.to_bytes()).problem(422);
    assert!(problem["detail"].as_str().unwrap().contains("signature"), "{problem}");
    let problem = post(b"words").problem(400);
    assert!(problem["detail"].as_str().unwrap().contains("not a submission"), "{problem}");
}

#[test]
fn a_models_file_is_what_its_id_says() {
    let node = node();
    let file = get(node.api(), "/v1/models/cifar10-cnn/file");
    assert_eq!(file.status, 200);
    let model = ocelli_model::Model::from_bytes(&file.body).unwrap();
    assert_eq!(get(node.api(), "/v1/models").ok()["models"][0]["id"], json!(model.id().to_string()));
    get(node.api(), "/v1/models/none/file").problem(404);
}

/// Begins to listen.
pub fn listen(connection: &mut Connection, last: Option<&str>) -> Value {
    let headers: Vec<_> = last.map(|id| ("Last-Event-ID", id)).into_iter().collect();
    connection.request("GET", "/v1/events", &headers, &[]);
    let head = connection.head();
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    let (kind, _, start) = event(connection);
    assert_eq!(kind, "start");
    start
}

/// The next event: its kind, id and data. How the stream is cut into chunks does not matter.
pub fn event(connection: &mut Connection) -> (String, String, Value) {
    let (mut kind, mut id, mut data) = (None, None, None);
    loop {
        let line = connection.line().expect("events never end");
        if let Some((field, value)) = line.split_once(": ") {
            match field {
                "event" => kind = Some(value.to_owned()),
                "id" => id = Some(value.to_owned()),
                "data" => {
                    let told = serde_json::from_str(value).unwrap();
                    numbers::check(&told);
                    data = Some(told);
                }
                _ => {}
            }
        }
        if let Some(data) = data.take_if(|_| line.is_empty()) {
            return (kind.unwrap(), id.unwrap(), data);
        }
    }
}

/// The next event that is not about what is pending.
fn of_chain(connection: &mut Connection) -> (String, String, Value) {
    loop {
        let found = event(connection);
        if found.0 != "mempool" {
            return found;
        }
    }
}

#[test]
fn events_tell_of_blocks_and_reorganisations_and_are_taken_up_again() {
    let network = easy_network();
    let (mut ours, mut theirs) = (Maker::new(&network), Maker::new(&network));
    let (old, _) = ours.make(&[]);
    // Another block 1, and one on it.
    let transfer = theirs.transfer(0, Address([5; 20]), Amount(1_000_000));
    let (first, _) = theirs.make(&[transfer]);
    let (second, _) = theirs.make(&[]);
    let node = TestNode::with_api_on(&network, config(), ours.into_folder());
    let mut events = Connection::open(node.api());
    let start = listen(&mut events, None);
    assert_eq!(start, json!({ "height": 1, "tip": old.hash(), "missed": false }));

    let other = TestNode::on_folder(&network, theirs.into_folder(), &[]);
    node.add(&other.address());
    let (kind, first_id, data) = of_chain(&mut events);
    assert_eq!((kind.as_str(), data), ("reorganization", json!({ "fork_height": 0, "disconnected": [old.hash()] })));
    let (kind, _, data) = of_chain(&mut events);
    assert_eq!(kind, "block");
    let expected = json!({
        "height": 1, "hash": first.hash(), "parent": network.genesis_hash(), "time": first.time, "transactions": 1
    });
    assert_eq!(data, expected);
    let (_, last_id, data) = of_chain(&mut events);
    assert_eq!(data["hash"], json!(second.hash()));
    // What is told can be seen.
    assert_eq!(get(node.api(), "/v1/status").ok()["tip"], json!(second.hash()));
    assert_eq!(node.block(BlockId::Height(2)).unwrap().header.hash(), second.hash());

    // Where a connection breaks, the next one goes on.
    drop(events);
    let mut again = Connection::open(node.api());
    assert_eq!(listen(&mut again, Some(&first_id))["missed"], false);
    let after: Vec<_> = (0..2).map(|_| of_chain(&mut again).2["hash"].clone()).collect();
    assert_eq!(after, [json!(first.hash()), json!(second.hash())]);
    let mut later = Connection::open(node.api());
    assert_eq!(listen(&mut later, Some(&last_id))["missed"], false);
    let mut of_another_run = Connection::open(node.api());
    assert_eq!(listen(&mut of_another_run, Some("000000000000-1"))["missed"], true);
}

#[test]
fn two_hundred_listeners_hear_the_same() {
    let network = easy_network();
    let mut maker = Maker::new(&network);
    let node = node();
    let (peer, _) = RawPeer::connect(&network, &node);
    let mut listeners: Vec<_> = (0..200).map(|_| Connection::open(node.api())).collect();
    for listener in &mut listeners {
        listen(listener, None);
    }
    let (header, data) = maker.make(&[maker.transfer(0, Address([5; 20]), Amount(1_000_000))]);
    peer.announce(&header, &data.body);
    peer.serve_until(&data, header.hash(), || node.status().tip.hash == header.hash());
    for listener in &mut listeners {
        assert_eq!(of_chain(listener).2["hash"], json!(header.hash()));
    }
    // Others are answered meanwhile.
    assert_eq!(ask(node.api(), "GET", "/v1/mempool", &[], &[]).status, 200);
}
