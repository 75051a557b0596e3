//! `/openapi.json`, against what the API does.

use std::env;
use std::process::Command;

use super::super::http::{ask, get};
use super::node;

#[test]
fn every_route_of_the_document_is_there() {
    let node = node();
    let document = get(node.api(), "/openapi.json").ok();
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
