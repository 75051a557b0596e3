//! What has happened to accounts, over HTTP.

use std::collections::BTreeSet;

use jiff::Timestamp;
use ocelli_consensus::{Address, Amount, Header};
use ocelli_node::chain::{MissingAttachments, Prune};
use ocelli_node::node::Storage;
use ocelli_node::store::LedgerOption;
use ocelli_protocol::message::Submission;
use serde_json::{Value, json};

use super::super::harness::{Maker, TestNode, easy_network, model, wait};
use super::super::history::{BLOCKS, keeping, made, miner, network, rich_address};
use super::super::http::get;
use super::config;

/// What each transaction of a [`Maker`] pays.
const FEE: i128 = 1_000_000;

fn entries(answer: &Value) -> Vec<Value> {
    answer["entries"].as_array().unwrap_or_else(|| panic!("{answer}")).clone()
}

/// A header's time as it is asked for.
fn time_of(header: &Header) -> String {
    Timestamp::from_second(header.time.try_into().unwrap()).unwrap().to_string()
}

#[test]
fn an_account_is_told_what_has_happened_to_it() {
    let network = easy_network();
    let text = |address: Address| address.to_text(&network.parameters.address_prefix);
    let mut maker = Maker::new(&network);
    let to = Address([5; 20]);
    let (first, _) = maker.make(&[]);
    let own = rich_address();
    let submissions =
        [maker.classify(0, 1), maker.transfer(1, to, Amount(2_000_000)), maker.transfer(2, own, Amount(3_000_000))];
    let (second, _) = maker.make(&submissions);
    let node = TestNode::with_api_on(&network, config(), maker.into_folder());
    let ask =
        |address: Address, query: &str| get(node.api(), &format!("/v1/accounts/{}/history{query}", text(address)));

    let whole = ask(own, "").ok();
    let entry = |kind: &str, submission: &Submission, change: i128, fee: i128, with: Option<Address>, model: Value| {
        json!({
            "time": second.time, "height": 2, "kind": kind, "amount": change.to_string(), "fee": fee.to_string(), "reward": "0",
            "fees": "0", "with": with.map(text), "model": model, "txid": submission.transaction.txid(),
        })
    };
    let [task, sent, back] = &submissions;
    let expected = [
        entry("received", back, 3_000_000, 0, Some(own), Value::Null),
        entry("sent", back, -FEE - 3_000_000, FEE, Some(own), Value::Null),
        entry("sent", sent, -FEE - 2_000_000, FEE, Some(to), Value::Null),
        entry("task", task, -FEE, FEE, None, json!(model().id().to_string())),
    ];
    assert_eq!(entries(&whole), expected);
    assert_eq!((&whole["address"], &whole["next"], &whole["from"]), (&json!(text(own)), &Value::Null, &json!(1)));
    assert_eq!((&whole["height"], &whole["tip"]), (&json!(2), &json!(second.hash())));
    // With what genesis gave it, they are the balance.
    let given = network.parameters.balances()[&own].0;
    assert_eq!(whole["balance"], (i128::from(given) - 3 * FEE - 2_000_000).to_string());
    assert_eq!(entries(&ask(to, "").ok())[0]["amount"], "2000000");
    assert_eq!(entries(&ask(Address([6; 20]), "").ok()), Vec::<Value>::new());

    // A miner's: block 1 has no fees.
    let mined = entries(&ask(miner(), "").ok());
    let reward = network.parameters.reward_at(2).0;
    assert_eq!((&mined[0]["reward"], &mined[0]["fees"]), (&json!(reward.to_string()), &json!((3 * FEE).to_string())));
    assert_eq!(mined[0]["amount"], (i128::from(reward) + 3 * FEE).to_string());
    assert_eq!((&mined[1]["height"], &mined[1]["fees"], &mined[1]["txid"]), (&json!(1), &json!("0"), &Value::Null));

    // One by one it is the same, whatever is asked for.
    for (filter, kinds) in [("", None), ("&kind=sent,task", Some(["sent", "task"])), ("&kind=task", Some(["task"; 2]))]
    {
        let wanted =
            expected.iter().filter(|entry| kinds.is_none_or(|kinds| kinds.contains(&entry["kind"].as_str().unwrap())));
        let (mut found, mut before) = (Vec::new(), String::new());
        loop {
            let page = ask(own, &format!("?limit=1{filter}{before}")).ok();
            assert!(entries(&page).len() <= 1, "{page}");
            found.extend(entries(&page));
            let Some(next) = page["next"].as_str() else { break };
            before = format!("&before={next}");
        }
        assert!(found.iter().eq(wanted), "{filter}: {found:?}");
    }

    // By time: from and to the second, or the day.
    let (early, late) = (time_of(&first), time_of(&second));
    let heights = |query: &str| -> BTreeSet<u64> {
        entries(&ask(miner(), query).ok()).iter().map(|entry| entry["height"].as_u64().unwrap()).collect()
    };
    assert_eq!(heights(&format!("?since={late}")), BTreeSet::from([2]));
    assert_eq!(heights(&format!("?until={early}")), BTreeSet::from([1]));
    assert_eq!(heights(&format!("?since={early}&until={late}")), BTreeSet::from([1, 2]));
    assert_eq!(heights("?until=1970-01-02"), BTreeSet::new());
    assert_eq!(heights("?since=2200-01-01"), BTreeSet::new());

    for (query, reason) in [
        ("?limit=0", "found a limit of 0 entries, expected 1 to 256"),
        ("?limit=257", "found a limit of 257 entries"),
        ("?kind=sent,gift", "found \"gift\", expected one of mined, royalty, "),
        ("?since=yesterday", "since: expected a day, such as 2026-11-30"),
        ("?until=2026-11-30T12:00:00", "until: expected a day"),
        ("?before=2", "before: expected the `next` of an answer"),
        ("?offset=2", "unknown field `offset`"),
    ] {
        let problem = ask(own, query).problem(400);
        assert!(problem["detail"].as_str().unwrap().contains(reason), "{query}: {problem}");
    }
    get(node.api(), "/v1/accounts/x/history").problem(400);
}

#[test]
fn a_node_says_what_it_does_not_keep_of_accounts() {
    let network = network();
    let prefix = &network.parameters.address_prefix;
    let path = format!("/v1/accounts/{}/history", miner().to_text(prefix));
    let none = keeping(LedgerOption::Dropped);
    let archive = TestNode::with_api_keeping(&network, config(), made(&network).into_folder(), none);
    let problem = get(archive.api(), &path).problem(409);
    assert_eq!(problem["type"], "urn:ocelli:problem:no-ledger");
    assert!(problem["detail"].as_str().unwrap().contains("--no-index"), "{problem}");

    // One that begins with it after it has pruned.
    let storage = |ledger| Storage {
        prune: Some(Prune::Size(1)),
        missing_attachments: MissingAttachments::AcceptOnWork,
        ..keeping(ledger)
    };
    let tip = archive.status().tip;
    let pruned = TestNode::with_storage(&network, &[archive.address()], storage(LedgerOption::Dropped));
    pruned.wait_for_tip(tip.hash);
    let first = BLOCKS - 8 + 1;
    wait("the node to prune", || (pruned.status().storage.bodies_from == first).then_some(()));
    let kept = storage(LedgerOption::Kept);
    let late = TestNode::with_api_keeping(&network, config(), pruned.into_folder(), kept);
    let answer = wait("all that there is", || {
        let answer = get(late.api(), &path);
        // Of the blocks that it has not read yet it says so.
        if answer.status == 503 {
            assert!(answer.header("retry-after").is_some(), "{}", answer.text());
            assert_eq!(answer.problem(503)["type"], "urn:ocelli:problem:indexing");
            return None;
        }
        Some(answer.ok()).filter(|answer| answer["from"] == first)
    });
    let heights: Vec<_> = entries(&answer).iter().map(|entry| entry["height"].as_u64().unwrap()).collect();
    assert_eq!((heights, &answer["next"]), ((first..=BLOCKS).rev().collect::<Vec<_>>(), &Value::Null));
    let problem = get(late.api(), &format!("{path}?before={}-0-debit", first - 1)).problem(409);
    let detail = format!("the node has entries from block {first} on, and block {} is before that", first - 1);
    assert!(problem["detail"].as_str().unwrap().starts_with(&detail), "{problem}");
    assert_eq!(entries(&get(late.api(), &format!("{path}?before={first}-0-debit")).ok()), Vec::<Value>::new());
}
