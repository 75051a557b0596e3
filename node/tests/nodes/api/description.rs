//! `/openapi.json`, against what the API does.

use std::env;
use std::process::Command;

use ocelli_node::api::Config;
use serde_json::Value;

use super::super::harness::{TestNode, cpu, easy_network};
use super::super::http::{Connection, ask, get};
use super::{file, node, token};

/// What the API says of itself. Its keys are names of what is told, and not what is told.
fn document(node: &TestNode) -> Value {
    serde_json::from_slice(&get(node.api(), "/openapi.json").body).unwrap()
}

#[test]
fn every_route_of_the_document_is_there() {
    let node = node();
    let document = document(&node);
    assert_eq!(document["openapi"].as_str().map(|version| &version[..3]), Some("3.1"));
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() >= 19, "{:?}", paths.keys());
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().unwrap() {
            assert!(operation["summary"].is_string() || operation["description"].is_string(), "{path}");
            let path = path.replace("{model}", "cifar10-cnn").replace("{block}", "0").replace("{address}", "x");
            let path = path.replace("{txid}", &"ab".repeat(32));
            let answer = match path.as_str() {
                // Without end.
                "/v1/events" => continue,
                _ => ask(node.api(), &method.to_uppercase(), &path, &[], b"{}"),
            };
            assert!(![405, 500].contains(&answer.status), "{method} {path}: {}", answer.text());
            let is_problem = answer.header("content-type") == Some("application/problem+json");
            assert_eq!(answer.status >= 400, is_problem, "{method} {path}: {}", answer.text());
            if is_problem {
                assert!(!answer.problem(answer.status)["detail"].as_str().unwrap().starts_with("found no /"), "{path}");
            }
        }
    }
    // And none is there that the document does not know.
    get(node.api(), "/v1/nothing").problem(404);
}

/// What docs/api.md says is open beyond the node's machine: the beginnings of paths, and how those of them end that are not.
fn open_paths() -> (Vec<String>, Vec<String>) {
    let docs = String::from_utf8(file("docs/api.md")).unwrap();
    let (_, said) = docs.split_once("what only reads what everybody may know:").expect("the list");
    let (said, _) = said.split_once("Of these an address may ask").expect("the list's end");
    let words = said.split('`').skip(1).step_by(2).map(str::to_owned);
    words.partition(|word| word.starts_with('/'))
}

#[test]
fn beyond_its_machine_the_node_answers_without_its_token_what_the_docs_say_and_nothing_else() {
    let node = TestNode::with_api(&easy_network(), Config::at("0.0.0.0:0".parse().unwrap()), cpu());
    let (beginnings, ends) = open_paths();
    assert!(beginnings.len() >= 10 && ends == ["infer"], "{beginnings:?} {ends:?}");
    let begins =
        |path: &str, with: &str| path.strip_prefix(with).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let is_open = |path: &str, method: &str| {
        beginnings.iter().any(|beginning| begins(path, beginning))
            && !ends.iter().any(|end| path.ends_with(&format!("/{end}")))
            // Of the chain everybody may read; what the inference protocol has is all by the paths.
            && (method == "GET" || begins(path, "/v2"))
    };
    let document = document(&node);
    let described = document["paths"].as_object().unwrap().iter().flat_map(|(path, methods)| {
        methods.as_object().unwrap().keys().map(move |method| (path.as_str(), method.to_uppercase()))
    });
    // And what the document does not describe.
    let version = "/v2/models/{model}/versions/1";
    let infer = format!("{version}/infer");
    let others = [("/openapi.json", "GET"), (version, "GET"), (infer.as_str(), "POST")];
    let routes: Vec<_> = described.chain(others.map(|(path, method)| (path, method.to_owned()))).collect();
    let open = routes.iter().filter(|(path, method)| is_open(path, method)).count();
    assert!(open >= 20 && routes.len() >= open + 7, "{routes:?}");
    let token = token(&node);
    for (path, method) in &routes {
        let asked = path.replace("{model}", "cifar10-cnn").replace("{block}", "0").replace("{address}", "x");
        let asked = asked.replace("{txid}", &"ab".repeat(32));
        let ask = |headers: &[(&str, &str)]| {
            let mut connection = Connection::open(node.api());
            connection.request(method, &asked, headers, b"{}");
            // Events have no end.
            connection.head().status
        };
        let (status, with_token) = (ask(&[]), ask(&[("Authorization", &token)]));
        assert_eq!(status == 401, !is_open(path, method), "{method} {path}: {status}");
        assert!(![401, 404, 405].contains(&with_token) || path.contains("{txid}"), "{method} {path}: {with_token}");
    }
}

/// Where Python has no schemathesis, what the document promises is tested above in any case.
#[test]
fn schemathesis_finds_nothing() {
    let python = env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let there = Command::new(&python).args(["-c", "import schemathesis"]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        return;
    }
    let node = node();
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(python)
        .args(["-c", "from schemathesis.cli import schemathesis; schemathesis()", "run"])
        .arg(format!("http://{}/openapi.json", node.api()))
        .args(["--max-examples", "20", "--seed", "23", "--exclude-path", "/v1/events", "--no-color"])
        // No schema says which bytes are a picture, and which text is an address.
        .args(["--exclude-checks", "positive_data_acceptance"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success(), "{said}");
}
