//! A seed in JSON: written as a string of decimal digits, read as that or as a number.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serializer};

pub(super) fn serialize<S: Serializer>(seed: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(seed)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Seed {
        Number(u64),
        Digits(String),
    }
    match Seed::deserialize(deserializer).map_err(|_| D::Error::custom("seed: expected a whole number below 2^64"))? {
        Seed::Number(seed) => Ok(seed),
        Seed::Digits(text) => text
            .parse()
            .map_err(|_| D::Error::custom(format!("seed: found {text:?}, expected a whole number below 2^64"))),
    }
}

#[cfg(test)]
mod tests {
    use crate::train::Recipe;

    #[test]
    fn a_seed_is_written_in_digits_and_read_either_way() {
        let recipe = Recipe { seed: u64::MAX, ..Recipe::default() };
        let text = serde_json::to_string(&recipe).unwrap();
        assert!(text.contains(r#""seed":"18446744073709551615""#), "{text}");
        assert_eq!(serde_json::from_str::<Recipe>(&text).unwrap(), recipe);
        assert_eq!(serde_json::from_str::<Recipe>(r#"{"seed":7}"#).unwrap().seed, 7);
        for text in [r#"{"seed":-1}"#, r#"{"seed":"7 "}"#, r#"{"seed":1.5}"#, r#"{"seed":"18446744073709551616"}"#] {
            let error = serde_json::from_str::<Recipe>(text).unwrap_err().to_string();
            assert!(error.contains("expected a whole number below 2^64"), "{text}: {error}");
        }
    }
}
