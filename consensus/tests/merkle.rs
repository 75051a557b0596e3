//! Published RFC 9162 inclusion proofs, right and wrong: all files of `tests/vectors/merkle`.

use base64::{Engine, prelude::BASE64_STANDARD};
use ocelli_consensus::merkle::verify_inclusion;
use serde_json::{Map, Value};
use std::{fs, path::Path};

#[test]
fn published_inclusion_proofs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/merkle");
    let (mut right, mut wrong) = (0, 0);
    for file in fs::read_dir(folder).unwrap() {
        let cases: Map<String, Value> = serde_json::from_slice(&fs::read(file.unwrap().path()).unwrap()).unwrap();
        for (name, case) in cases {
            let must_fail = case["wantErr"].as_bool().unwrap();
            assert_eq!(verifies(&case), !must_fail, "{name}");
            if must_fail { wrong += 1 } else { right += 1 }
        }
    }
    assert!(right >= 5 && wrong >= 80, "only {right} right and {wrong} wrong proofs were found");
}

/// Whether a proof verifies; one with a hash that is not 32 bytes long cannot even be expressed.
fn verifies(case: &Value) -> bool {
    let hash = |value: &Value| <[u8; 32]>::try_from(BASE64_STANDARD.decode(value.as_str().unwrap()).unwrap()).ok();
    let path = case["proof"].as_array().map_or(Some(Vec::new()), |path| path.iter().map(hash).collect());
    let number = |name: &str| case[name].as_u64().unwrap();
    let (Some(leaf), Some(root), Some(path)) = (hash(&case["leafHash"]), hash(&case["root"]), path) else {
        return false;
    };
    verify_inclusion(leaf, number("leafIdx"), number("treeSize"), &path, root).is_ok()
}
