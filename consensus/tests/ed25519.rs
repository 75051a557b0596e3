//! Published edge cases of Ed25519, `tests/vectors/ed25519`.

use ocelli_consensus::signature::{SignatureError, verify};
use serde_json::Value;
use std::{fs, path::Path};

fn read(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/ed25519").join(name);
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

/// "Taming the many EdDSAs", table 6c: of the twelve, only number 3 (mixed order, all canonical) satisfies the strict,
/// cofactorless rules.
#[test]
fn speccheck() {
    use SignatureError::*;
    let cases = read("speccheck-cases.json");
    let found: Vec<_> = (cases.as_array().unwrap().iter())
        .map(|case| {
            let key = bytes(&case["pub_key"]).try_into().unwrap();
            verify(&key, &bytes(&case["message"]), &bytes(&case["signature"]).try_into().unwrap())
        })
        .collect();
    let expected = [
        Err(PublicKeySmallOrder),
        Err(PublicKeySmallOrder),
        Err(RSmallOrder),
        Ok(()),
        Err(Mismatch),
        Err(Mismatch),
        Err(SNotReduced),
        Err(SNotReduced),
        Err(RNotCanonical),
        Err(RNotCanonical),
        Err(PublicKeyNotCanonical),
        Err(PublicKeyNotCanonical),
    ];
    assert_eq!(found, expected);
}

#[test]
fn wycheproof() {
    let file = read("wycheproof-ed25519.json");
    let mut count = 0;
    for group in file["testGroups"].as_array().unwrap() {
        let key = bytes(&group["publicKey"]["pk"]).try_into().unwrap();
        for test in group["tests"].as_array().unwrap() {
            // A signature of another length cannot even be expressed.
            let signature: Result<[u8; 64], _> = bytes(&test["sig"]).try_into();
            let accepted = signature.is_ok_and(|signature| verify(&key, &bytes(&test["msg"]), &signature).is_ok());
            let expected = match test["result"].as_str().unwrap() {
                "valid" => true,
                "invalid" => false,
                other => panic!("unknown result {other}"),
            };
            assert_eq!(accepted, expected, "test {}: {}", test["tcId"], test["comment"]);
            count += 1;
        }
    }
    assert_eq!(count, file["numberOfTests"].as_u64().unwrap());
}
