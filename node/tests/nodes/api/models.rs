//! Models that strangers have published, and that are published, over HTTP.

use ocelli_consensus::hash::UploadHash;
use ocelli_consensus::{Action, Address, AttachmentHash};
use ocelli_model::{Attachment, reference, zoo};
use ocelli_node::store::CHUNK_BYTES;
use serde_json::{Value, json};

use super::super::harness::{Maker, TestNode};
use super::super::http::{get, post};
use super::super::models::{DELAY, PUBLISHED, act, id, made, make, network, published, wait_for_file};
use super::{config, file, wait_until_ready};

#[test]
fn a_strangers_model_is_told_given_and_run() {
    let network = network();
    let maker = made(&network);
    let author = Address::of(&maker.wallet.public_key());
    let node = TestNode::with_api_on(&network, config(), maker.into_folder());
    wait_until_ready(&node);
    wait_for_file(&node);
    let get = |path: &str| get(node.api(), path);

    let models = get("/v1/models").ok();
    let names: Vec<&Value> = models["models"].as_array().unwrap().iter().map(|model| &model["name"]).collect();
    assert_eq!(
        names,
        ["cifar10-cnn", "person-96", "cifar10-resnet"],
        "the one first that is meant where none is named"
    );
    let stranger = &models["models"][2];
    let expected = json!({
        "id": id(), "name": "cifar10-resnet", "author": author.to_text(&network.parameters.address_prefix), "royalty": "7",
        "first": PUBLISHED + DELAY, "uses": "2", "size": published().bytes().len(), "channels": 3, "height": 32, "width": 32,
        "classes": 10, "cost": published().cost(),
    });
    assert_eq!(stranger, &expected);
    assert_eq!(models["models"][0]["author"], Value::Null);

    let (cat, id) = (file("assets/cifar10/cat-0000.jpg"), id().to_string());
    let attachment = Attachment::from_file(&cat, published().graph().input().into()).unwrap();
    let logits = json!(reference::logits(&published(), &attachment.pixels));
    for name in ["cifar10-resnet", &id, &id[..8]] {
        let model = get(&format!("/v1/models/{name}")).ok();
        assert_eq!((&model["id"], &model["labels"]), (&json!(id), &json!(published().classes())));
        let sent = get(&format!("/v1/models/{name}/file"));
        assert_eq!((sent.status, sent.header("content-length")), (200, Some(stranger["size"].to_string().as_str())));
        assert!(sent.body == zoo::bytes("cifar10-resnet").unwrap(), "the file is whole");
        let answer = post(node.api(), &format!("/v1/classify?logits=1&model={name}"), &cat).ok();
        assert_eq!((&answer["logits"], &answer["model"]["name"]), (&logits, &json!("cifar10-resnet")));
        assert_eq!(get(&format!("/v2/models/{name}")).ok()["inputs"][0]["shape"], json!([-1, 3, 32, 32]));
        assert_eq!(get(&format!("/v2/models/{name}/ready")).ok(), json!({ "ready": true }));
    }
    let problem = get(&format!("/v1/models/{}", &id[..7])).problem(404);
    assert!(
        problem["detail"].as_str().unwrap().ends_with("expected cifar10-cnn, person-96, or the name or id of another"),
        "{problem}"
    );
}

#[test]
fn a_model_is_published_by_transactions_that_are_signed_elsewhere() {
    let network = network();
    let mut maker = Maker::new(&network);
    let (author, bytes) = (Address::of(&maker.wallet.public_key()), zoo::bytes("cifar10-resnet").unwrap());
    let upload = Action::Upload { file: UploadHash::of(&author, &id()), size: bytes.len() as u32 };
    let upload = act(&maker, 0, upload, None);
    make(&mut maker, std::slice::from_ref(&upload));
    while maker.chain.tip().height < 8 {
        make(&mut maker, &[]);
    }
    let first = &bytes[..CHUNK_BYTES];
    let part = Action::Part { number: 0, bytes: first.len() as u32, data: AttachmentHash::of(first) };
    let part = act(&maker, 0, part, Some(first));
    let node = TestNode::with_api_on(&network, config(), maker.into_folder());

    let account = get(node.api(), &format!("/v1/accounts/{}", author.to_text(&network.parameters.address_prefix))).ok();
    let Action::Upload { file, .. } = &upload.transaction.unsigned.action else { panic!("an upload") };
    let expected = json!({
        "file": file, "parts": "00".repeat(32), "size": bytes.len(), "next": 0, "since": 1, "last": 1
    });
    assert_eq!((&account["nonce"], &account["upload"]), (&json!("1"), &expected));
    let answer = post(node.api(), "/v1/transactions", &part.to_bytes()).ok();
    assert_eq!(answer, json!({ "txid": part.transaction.txid() }));
    assert_eq!(get(node.api(), "/v1/mempool").ok()["transactions"], 1);
}
