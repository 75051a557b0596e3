//! `/v2`: the Open Inference Protocol.

use std::env;
use std::process::Command;

use ocelli_model::{reference, zoo};
use serde_json::{Value, json};

use super::super::http::{Answer, ask, get, post};
use super::node;

const INFER: &str = "/v2/models/cifar10-cnn/infer";

/// Two pictures of the model's size.
fn pixels() -> Vec<u8> {
    (0..2 * 3072u32).map(|at| (at.wrapping_mul(37) >> 3) as u8).collect()
}

fn logits() -> Vec<Vec<i32>> {
    let model = zoo::get("cifar10-cnn").unwrap();
    pixels().chunks(3072).map(|pixels| reference::logits(&model, pixels)).collect()
}

fn request(inputs: Value, outputs: Option<Value>) -> Vec<u8> {
    let mut request = json!({ "id": "7", "inputs": inputs });
    if let Some(outputs) = outputs {
        request["outputs"] = outputs;
    }
    request.to_string().into_bytes()
}

fn input(data: &[u8]) -> Value {
    json!([{ "name": "pixels", "shape": [2, 3, 32, 32], "datatype": "UINT8", "data": data }])
}

#[test]
fn models_and_health_are_told() {
    let node = node();
    assert_eq!(get(node.api(), "/v2").ok()["name"], "ocelli");
    assert_eq!(get(node.api(), "/v2/health/live").ok(), json!({ "live": true }));
    assert_eq!(get(node.api(), "/v2/health/ready").ok(), json!({ "ready": true }));
    for path in ["/v2/models/cifar10-cnn", "/v2/models/cifar10-cnn/versions/1"] {
        let model = get(node.api(), path).ok();
        assert_eq!(model["inputs"], json!([{ "name": "pixels", "datatype": "UINT8", "shape": [-1, 3, 32, 32] }]));
        assert_eq!(model["outputs"][0], json!({ "name": "logits", "datatype": "INT32", "shape": [-1, 10] }));
        assert_eq!(get(node.api(), &format!("{path}/ready")).ok(), json!({ "ready": true }));
        assert_eq!(get(node.api(), &format!("{path}/config")).ok()["max_batch_size"], 256);
    }
    for path in ["/v2/models/none", "/v2/models/none/ready", "/v2/models/cifar10-cnn/versions/2"] {
        let problem = get(node.api(), path).problem(404);
        assert_eq!(problem["error"], problem["detail"], "where clients of the protocol look");
    }
    assert_eq!(post(node.api(), "/v2/repository/index", b"{}").ok()[0]["state"], "READY");
}

#[test]
fn numbers_in_json_are_answered_in_json() {
    let node = node();
    let answer = post(node.api(), INFER, &request(input(&pixels()), None)).ok();
    assert_eq!(
        (&answer["id"], &answer["model_name"], &answer["model_version"]),
        (&json!("7"), &json!("cifar10-cnn"), &json!("1"))
    );
    let [logits_out, probabilities] = answer["outputs"].as_array().unwrap().as_slice() else { panic!("{answer}") };
    assert_eq!(logits_out["data"], json!(logits().concat()));
    assert_eq!((&probabilities["datatype"], &probabilities["shape"]), (&json!("FP32"), &json!([2, 10])));
    let sum: f64 = probabilities["data"].as_array().unwrap().iter().map(|one| one.as_f64().unwrap()).sum();
    assert!((sum - 2.0).abs() < 1e-5, "{sum}");
    // Lists of lists are the same.
    let nested: Vec<Vec<Vec<u8>>> =
        pixels().chunks(3072).map(|picture| picture.chunks(32).map(<[u8]>::to_vec).collect()).collect();
    let nested = json!([{ "name": "pixels", "shape": [2, 3, 32, 32], "datatype": "UINT8", "data": nested }]);
    let outputs = json!([{ "name": "logits" }]);
    let again = post(node.api(), INFER, &request(nested, Some(outputs))).ok();
    assert_eq!(again["outputs"], json!([logits_out]));
    // Classes by their names.
    let outputs = json!([{ "name": "logits", "parameters": { "classification": 2 } }]);
    let classes = post(node.api(), INFER, &request(input(&pixels()), Some(outputs))).ok();
    let model = zoo::get("cifar10-cnn").unwrap();
    let expected: Vec<String> = logits()
        .iter()
        .flat_map(|logits| {
            let text = |index: usize| format!("{}:{index}:{}", logits[index], model.classes()[index]);
            model.best(logits, 2).into_iter().map(text).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(classes["outputs"][0]["data"], json!(expected));
    assert_eq!(
        (&classes["outputs"][0]["datatype"], &classes["outputs"][0]["shape"]),
        (&json!("BYTES"), &json!([2, 2]))
    );
}

/// Sends JSON with bytes behind it.
fn infer_binary(address: std::net::SocketAddr, json: &[u8], tail: &[u8]) -> Answer {
    let length = json.len().to_string();
    ask(address, "POST", INFER, &[("Inference-Header-Content-Length", &length)], &[json, tail].concat())
}

#[test]
fn bytes_behind_the_json_are_answered_with_bytes() {
    let node = node();
    let input = json!([{
        "name": "pixels", "shape": [2, 3, 32, 32], "datatype": "UINT8", "parameters": { "binary_data_size": 6144 }
    }]);
    let outputs = json!([
        { "name": "logits", "parameters": { "binary_data": true } },
        { "name": "probabilities", "parameters": { "classification": 1 } },
    ]);
    let answer = infer_binary(node.api(), &request(input, Some(outputs)), &pixels());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let length: usize = answer.header("inference-header-content-length").unwrap().parse().unwrap();
    let (head, tail) = answer.body.split_at(length);
    let head: Value = serde_json::from_slice(head).unwrap();
    assert_eq!(head["outputs"][0]["parameters"]["binary_data_size"], 80);
    let expected: Vec<u8> = logits().concat().into_iter().flat_map(i32::to_le_bytes).collect();
    assert_eq!(tail, expected);
    assert_eq!(head["outputs"][1]["shape"], json!([2, 1]));
}

#[test]
fn requests_that_make_no_sense_say_why() {
    let node = node();
    let good = input(&pixels());
    let with = |key: &str, value: Value| {
        let mut inputs = good.clone();
        inputs[0][key] = value;
        inputs
    };
    for (inputs, outputs, detail) in [
        (json!([]), None, "found 0 inputs, expected one, `pixels`"),
        (json!([good[0], good[0]]), None, "found 2 inputs"),
        (
            with("name", json!("image")),
            None,
            "found the input \"image\" of \"UINT8\", expected \"pixels\" of \"UINT8\"",
        ),
        (with("datatype", json!("FP32")), None, "found the input \"pixels\" of \"FP32\""),
        (
            with("shape", json!([3, 32, 32])),
            None,
            "found the shape [3, 32, 32], expected [N, 3, 32, 32] with N from 1 to 256",
        ),
        (with("shape", json!([0, 3, 32, 32])), None, "found the shape [0, 3, 32, 32]"),
        (with("shape", json!([257, 3, 32, 32])), None, "found the shape [257, 3, 32, 32]"),
        (with("shape", json!([1, 3, 32, 32])), None, "found 6144 bytes of data, the shape has 3072"),
        (with("shape", json!([-1, 3, 32, 32])), None, "invalid value"),
        (with("data", json!([256])), None, "found 256, expected 0 to 255"),
        (with("data", Value::Null), None, "expected either `data` or `binary_data_size`"),
        (with("parameters", json!({ "binary_data_size": 5 })), None, "expected either `data` or `binary_data_size`"),
        (
            good.clone(),
            Some(json!([{ "name": "label" }])),
            "found the output \"label\", expected logits or probabilities",
        ),
        (
            good.clone(),
            Some(json!([{ "name": "logits" }, { "name": "logits" }, { "name": "logits" }])),
            "found 3 outputs",
        ),
    ] {
        let problem = post(node.api(), INFER, &request(inputs, outputs)).problem(400);
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{detail}: {problem}");
        assert_eq!(problem["error"], problem["detail"]);
    }
    post(node.api(), INFER, b"{").problem(400);
    let binary = request(
        json!([{
            "name": "pixels", "shape": [2, 3, 32, 32], "datatype": "UINT8", "parameters": { "binary_data_size": 7 }
        }]),
        None,
    );
    let problem = infer_binary(node.api(), &binary, &pixels()).problem(400);
    assert_eq!(problem["detail"], "binary_data_size is 7, and 6144 bytes follow the JSON");
    let far = ask(node.api(), "POST", INFER, &[("Inference-Header-Content-Length", "99")], b"{}").problem(400);
    assert!(far["detail"].as_str().unwrap().contains("up to the body's 2 bytes"), "{far}");
}

/// Where Python has no tritonclient, there is nothing that could show it; the protocol is tested above in any case.
#[test]
fn tritonclient_works_unchanged() {
    let python = env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let there = Command::new(&python).args(["-c", "import tritonclient.http"]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        return;
    }
    let node = node();
    let output = Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/nodes/api/triton.py"))
        .args([node.api().to_string(), serde_json::to_string(&(pixels(), logits())).unwrap()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
