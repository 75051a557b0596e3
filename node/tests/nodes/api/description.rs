//! `/openapi.json`, against what the API does.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::process::Command;

use ocelli_consensus::{Action, Address, Amount, UploadHash};
use ocelli_node::api::Config;
use ocelli_protocol::message::Submission;
use serde_json::{Value, json};

use super::super::harness::{Maker, TestNode, cpu, easy_network};
use super::super::http::{Connection, ask, get};
use super::{config, file, node, token};

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

/// Whether a value is as a schema of the document says, and says nothing else.
fn fits(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let schema = resolved(document, schema);
    if let Some(either) = schema["oneOf"].as_array() {
        let faults: Result<Vec<_>, ()> = either.iter().map(|one| fits(document, one, value).err().ok_or(())).collect();
        return faults.map_or(Ok(()), |faults| Err(faults.join(" | ")));
    }
    if let Some(among) = schema["enum"].as_array()
        && !among.contains(value)
    {
        return Err(format!("{value} is none of {among:?}"));
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let kinds = match &schema["type"] {
        Value::Array(kinds) => kinds.clone(),
        Value::Null if schema["allOf"].is_array() => vec!["object".into()],
        kind => vec![kind.clone()],
    };
    if !kinds.iter().any(|found| found == kind) {
        return Err(format!("{value} is {kind}, expected {kinds:?}"));
    }
    for item in value.as_array().into_iter().flatten() {
        fits(document, &schema["items"], item)?;
    }
    let Some(told) = value.as_object() else { return Ok(()) };
    let (mut properties, mut required) = (BTreeMap::new(), BTreeSet::new());
    members(document, schema, &mut properties, &mut required);
    if let Some(missing) = required.iter().find(|name| !told.contains_key(**name)) {
        return Err(format!("{missing} is missing"));
    }
    for (name, value) in told {
        let schema = properties.get(name.as_str()).ok_or_else(|| format!("{name} is not described"))?;
        fits(document, schema, value).map_err(|fault| format!("{name}: {fault}"))?;
    }
    Ok(())
}

fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    schema["$ref"].as_str().map_or(schema, |name| document.pointer(&name[1..]).expect(name))
}

/// What an object has, and what it must have.
fn members<'a>(
    document: &'a Value,
    schema: &'a Value,
    properties: &mut BTreeMap<&'a str, &'a Value>,
    required: &mut BTreeSet<&'a str>,
) {
    let schema = resolved(document, schema);
    for part in schema["allOf"].as_array().into_iter().flatten() {
        members(document, part, properties, required);
    }
    properties.extend(schema["properties"].as_object().into_iter().flatten().map(|(name, of)| (name.as_str(), of)));
    required.extend(schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str));
}

#[test]
fn answers_are_as_the_document_says() {
    let network = easy_network();
    let mut maker = Maker::new(&network);
    let task = maker.classify(0, 1);
    let upload = Action::Upload { file: UploadHash([3; 32]), size: 1_000 };
    let upload = Submission { transaction: maker.sign(2, upload), attachment: None };
    maker.make(&[task.clone(), maker.transfer(1, Address([5; 20]), Amount(9_000_000)), upload]);
    let pending = maker.transfer(0, Address([5; 20]), Amount(9_000_000));
    let sender = Address::of(&maker.wallet.public_key()).to_text(&network.parameters.address_prefix);
    let node = TestNode::with_api_on(&network, config(), maker.into_folder());
    node.submit(pending.clone());
    super::wait_until_ready(&node);
    let document = document(&node);
    let [task, pending] = [task, pending].map(|submission| submission.transaction.txid());
    let mut told = 0;
    for (path, asked) in [
        ("/v1/status", "/v1/status".to_owned()),
        ("/v1/blocks", "/v1/blocks".into()),
        ("/v1/blocks/{block}", "/v1/blocks/0".into()),
        ("/v1/blocks/{block}", "/v1/blocks/1?raw=1".into()),
        ("/v1/transactions/{txid}", format!("/v1/transactions/{task}")),
        ("/v1/transactions/{txid}", format!("/v1/transactions/{task}?raw=1")),
        ("/v1/transactions/{txid}", format!("/v1/transactions/{pending}")),
        ("/v1/accounts/{address}", format!("/v1/accounts/{sender}")),
        ("/v1/accounts/{address}/history", format!("/v1/accounts/{sender}/history")),
        ("/v1/mempool", "/v1/mempool".into()),
        ("/v1/fees", "/v1/fees".into()),
        ("/v1/models", "/v1/models".into()),
        ("/v1/models/{model}", "/v1/models/cifar10-cnn".into()),
        ("/v1/peers", "/v1/peers".into()),
        ("/v2", "/v2".into()),
        ("/v2/models/{model}", "/v2/models/cifar10-cnn".into()),
        ("/v2/models/{model}/config", "/v2/models/cifar10-cnn/config".into()),
    ] {
        let content = &document["paths"][path]["get"]["responses"]["200"]["content"];
        let answer = get(node.api(), &asked).ok();
        let fit = fits(&document, &content["application/json"]["schema"], &answer);
        assert_eq!(fit, Ok(()), "{asked}: {answer}");
        told += answer.as_object().unwrap().len();
    }
    assert!(told > 80, "{told}");
    // The check finds what is missing, and what is too much.
    let schema = json!({ "$ref": "#/components/schemas/MempoolInfo" });
    for wrong in [
        json!({ "bytes": 1 }),
        json!({ "bytes": 1, "transactions": 1, "more": 1 }),
        json!({ "bytes": 1, "transactions": "1" }),
    ] {
        assert!(fits(&document, &schema, &wrong).is_err(), "{wrong}");
    }
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
