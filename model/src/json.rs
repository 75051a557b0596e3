//! JSON read strictly: objects of known keys, each once, and of values no wider than strings, lists and whole numbers.
//!
//! Ordinary JSON readers let the last of two equal keys win and skip keys they do not know; two programs that differ there
//! would run two models from one file.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// How much of a text from a file an error repeats, in characters.
const MAX_QUOTE: usize = 80;

/// A text that is not the JSON that was expected. `at` is the place, such as `graph.layers[2]`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The text is no JSON at all.
    #[error("{at}: no valid JSON at line {line}, column {column}")]
    Syntax {
        /// Which text.
        at: String,
        /// The line of the fault, from 1.
        line: usize,
        /// The column of the fault, in bytes from 1.
        column: usize,
    },
    /// A value of another type.
    #[error("{at}: expected {expected}, found {found}")]
    Type {
        at: String,
        /// What belongs there.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// A key that stands twice in one object.
    #[error("{at}: key {key:?} appears twice")]
    DuplicateKey { at: String, key: String },
    /// A key that has no meaning there.
    #[error("{at}: unknown key {key:?}")]
    UnknownKey { at: String, key: String },
    /// A key that must be there and is not.
    #[error("{at}: key {key:?} is missing")]
    MissingKey { at: String, key: &'static str },
}

/// A JSON value. What no model file holds (null, booleans, fractions, negative numbers) is kept only by its kind.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    Integer(u64),
    Text(String),
    List(Vec<Json>),
    /// The entries in the order of the text, duplicates kept.
    Object(Vec<(String, Json)>),
    /// A number with a sign, a fraction or an exponent, or too large for a u64.
    Number(f64),
    /// Null, true or false.
    Other(&'static str),
}

/// Reads one JSON text; `at` names it in errors.
pub(crate) fn parse(at: &str, text: &[u8]) -> Result<Json, JsonError> {
    serde_json::from_slice(text).map_err(|error| JsonError::Syntax {
        at: at.into(),
        line: error.line(),
        column: error.column(),
    })
}

/// The first characters of a text of unknown length, for an error.
pub(crate) fn quote(text: &str) -> String {
    text.chars().take(MAX_QUOTE).collect()
}

impl Json {
    /// The value as a whole number.
    pub(crate) fn integer(self, at: &str) -> Result<u64, JsonError> {
        match self {
            Self::Integer(value) => Ok(value),
            other => Err(other.mismatch(at, "a whole number")),
        }
    }

    /// The value as a string.
    pub(crate) fn text(self, at: &str) -> Result<String, JsonError> {
        match self {
            Self::Text(value) => Ok(value),
            other => Err(other.mismatch(at, "a string")),
        }
    }

    /// The value as any number.
    pub(crate) fn number(self, at: &str) -> Result<f64, JsonError> {
        match self {
            Self::Integer(value) => Ok(value as f64),
            Self::Number(value) => Ok(value),
            other => Err(other.mismatch(at, "a number")),
        }
    }

    /// The value as a list.
    pub(crate) fn list(self, at: &str) -> Result<Vec<Json>, JsonError> {
        match self {
            Self::List(value) => Ok(value),
            other => Err(other.mismatch(at, "a list")),
        }
    }

    /// The value as an object without duplicate keys.
    pub(crate) fn object(self, at: &str) -> Result<Fields, JsonError> {
        let entries = match self {
            Self::Object(entries) => entries,
            other => return Err(other.mismatch(at, "an object")),
        };
        let mut fields = Fields { at: at.into(), entries: BTreeMap::new() };
        for (place, (key, value)) in entries.into_iter().enumerate() {
            match fields.entries.entry(key) {
                Entry::Vacant(entry) => drop(entry.insert((place, value))),
                Entry::Occupied(entry) => {
                    return Err(JsonError::DuplicateKey { at: at.into(), key: quote(entry.key()) });
                }
            }
        }
        Ok(fields)
    }

    fn mismatch(&self, at: &str, expected: &'static str) -> JsonError {
        let found = match self {
            Self::Integer(_) => "a whole number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
            Self::Number(_) => "a number with a sign, a fraction or an exponent, or beyond 64 bits",
            Self::Other(kind) => kind,
        };
        JsonError::Type { at: at.into(), expected, found }
    }
}

/// The entries of an object, taken out one by one. A stranger's header may have a hundred thousand of them, of which the tensors
/// of 512 layers are asked for: finding and taking one must not walk over all others.
#[derive(Debug)]
pub(crate) struct Fields {
    at: String,
    /// By key, each with its place in the text.
    entries: BTreeMap<String, (usize, Json)>,
}

impl Fields {
    /// Takes out an entry that must be there.
    pub(crate) fn take(&mut self, key: &'static str) -> Result<Json, JsonError> {
        self.take_optional(key).ok_or_else(|| JsonError::MissingKey { at: self.at.clone(), key })
    }

    /// Takes out an entry that may be there.
    pub(crate) fn take_optional(&mut self, key: &str) -> Option<Json> {
        self.entries.remove(key).map(|(_, value)| value)
    }

    /// Takes out a whole number that must be there.
    pub(crate) fn integer(&mut self, key: &'static str) -> Result<u64, JsonError> {
        let at = self.place(key);
        self.take(key)?.integer(&at)
    }

    /// Takes out a string that must be there.
    pub(crate) fn text(&mut self, key: &'static str) -> Result<String, JsonError> {
        let at = self.place(key);
        self.take(key)?.text(&at)
    }

    /// Takes out a list of whole numbers that must be there.
    pub(crate) fn integers(&mut self, key: &'static str) -> Result<Vec<u64>, JsonError> {
        let at = self.place(key);
        self.take(key)?.list(&at)?.into_iter().map(|value| value.integer(&at)).collect()
    }

    /// Whether there is an entry.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// The name of an entry's place, for errors.
    pub(crate) fn place(&self, key: &str) -> String {
        format!("{}.{key}", self.at)
    }

    /// The first key that is left, in the order of the text.
    pub(crate) fn first(&self) -> Option<&str> {
        self.entries.iter().min_by_key(|(_, (place, _))| *place).map(|(key, _)| key.as_str())
    }

    /// Checks that nothing is left.
    pub(crate) fn finish(self) -> Result<(), JsonError> {
        match self.first() {
            Some(key) => Err(JsonError::UnknownKey { key: quote(key), at: self.at }),
            None => Ok(()),
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Integer(value))
    }

    /// JSON's whole numbers come here only with a sign, TOML's always.
    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(u64::try_from(value).map_or(Json::Number(value as f64), Json::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.into()))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Other("a boolean"))
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Other("null"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut object = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            object.push(entry);
        }
        Ok(Json::Object(object))
    }
}
