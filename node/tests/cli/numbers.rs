//! What every JSON that a command prints keeps to, whichever test has it printed.

use serde_json::Value;

/// Integers that may exceed what a double holds exactly: strings of digits, however small they are. Texts of credits, which
/// some commands have under these names, are strings as well.
const WHOLE: &[&str] = &[
    "amount",
    "attachment_retention",
    "balance",
    "burned",
    "expires",
    "fee",
    "fees",
    "grains",
    "grains_per_million_weight",
    "halving",
    "minimum_balance",
    "minimum_grains_per_million_weight",
    "model_delay",
    "model_price",
    "next_nonce",
    "nonce",
    "retention",
    "reward",
    "royalty",
    "seed",
    "total",
    "transfer",
    "upload_window",
    "uses",
];

/// The largest number up to which doubles hold every integer.
const MAX_EXACT: u64 = (1 << 53) - 1;

/// Fails the test where an integer is one that JavaScript or jq would round, or may be.
pub fn check(value: &Value) {
    match value {
        Value::Array(list) => list.iter().for_each(check),
        Value::Object(map) => {
            for (key, value) in map {
                let is_whole = WHOLE.contains(&key.as_str());
                assert!(!is_whole || value.is_string(), "{key} is {value}, expected a string of digits");
                check(value);
            }
            let next_height = map.get("next").and_then(|next| next.get("height"));
            assert!(next_height.is_none_or(Value::is_string), "{next_height:?}");
            if let Some(rules) = map.get("rules").and_then(Value::as_array) {
                assert!(rules.iter().all(|entry| entry["height"].is_string()), "{rules:?}");
            }
        }
        Value::Number(number) => {
            let magnitude = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
            assert!(
                magnitude.is_none_or(|magnitude| magnitude <= MAX_EXACT),
                "{number} is rounded by those who read doubles"
            );
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

#[test]
#[should_panic(expected = "9007199254740992 is rounded")]
fn a_number_that_is_rounded_is_found() {
    check(&serde_json::json!([{ "a": [MAX_EXACT] }, { "a": [MAX_EXACT + 1] }]));
}

#[test]
#[should_panic(expected = "nonce is 7, expected a string of digits")]
fn a_small_number_that_may_be_large_is_found() {
    check(&serde_json::json!({ "header": { "nonce": 7 } }));
}
