//! Tensors: numbers in lists of lists come in, and JSON or bytes go out.

use std::fmt;
use std::sync::Arc;

use ocelli_model::Model;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Numbers from 0 to 255, in one list or in lists of lists.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flat(pub(super) Vec<u8>);

impl<'de> Deserialize<'de> for Flat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut bytes = Vec::new();
        serde::de::DeserializeSeed::deserialize(Level(&mut bytes), deserializer)?;
        Ok(Self(bytes))
    }
}

/// A number or a list, whose numbers are added. How deep lists go is bounded by serde_json.
struct Level<'a>(&'a mut Vec<u8>);

impl<'de> serde::de::DeserializeSeed<'de> for Level<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number from 0 to 255, or a list")
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<(), E> {
        let byte = u8::try_from(number).map_err(|_| E::custom(format!("found {number}, expected 0 to 255")))?;
        self.0.push(byte);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Level(&mut *self.0))?.is_some() {
            if self.0.len() > super::MAX_BODY_BYTES {
                return Err(A::Error::custom("too many numbers"));
            }
        }
        Ok(())
    }
}

/// What a model gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Exactly what the model answers.
    Logits,
    /// Their softmax: for display.
    Probabilities,
}

impl Kind {
    pub(super) const ALL: [Self; 2] = [Self::Logits, Self::Probabilities];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Logits => "logits",
            Self::Probabilities => "probabilities",
        }
    }

    pub(super) fn datatype(self) -> &'static str {
        match self {
            Self::Logits => "INT32",
            Self::Probabilities => "FP32",
        }
    }
}

/// What a client wants of a model's answer, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    pub(super) kind: Kind,
    pub(super) is_binary: bool,
    /// How many classes are named; 0 for the whole tensor.
    pub(super) classes: usize,
}

/// A tensor of the answer.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Output {
    #[schema(example = "probabilities")]
    name: &'static str,
    /// `INT32`, `FP32`, or `BYTES` for classes.
    #[schema(example = "FP32")]
    datatype: &'static str,
    /// Pictures, classes.
    #[schema(example = json!([1, 10]))]
    shape: [usize; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<BinarySize>,
    /// One list; none if bytes follow the JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data>,
}

#[derive(Debug, Serialize, ToSchema)]
struct BinarySize {
    /// Bytes of this tensor behind the JSON.
    binary_data_size: usize,
}

/// The elements of a tensor.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum Data {
    Integers(Vec<i32>),
    Floats(Vec<f32>),
    /// Each `value:index:label`.
    Classes(Vec<String>),
}

impl Wish {
    /// The tensor for JSON, and the bytes that follow it.
    pub(super) fn output(&self, model: &Model, logits: &[Arc<[i32]>]) -> (Output, Vec<u8>) {
        let classes = self.classes.min(model.logits());
        let (datatype, width) = if classes > 0 { ("BYTES", classes) } else { (self.kind.datatype(), model.logits()) };
        let data = if classes > 0 {
            Data::Classes(logits.iter().flat_map(|logits| self.classes(model, logits, classes)).collect())
        } else {
            match self.kind {
                Kind::Logits => Data::Integers(logits.concat()),
                Kind::Probabilities => {
                    let rows = logits.iter().flat_map(|logits| model.probabilities(logits));
                    Data::Floats(rows.map(|probability| probability as f32).collect())
                }
            }
        };
        let (name, shape) = (self.kind.name(), [logits.len(), width]);
        if !self.is_binary {
            return (Output { name, datatype, shape, parameters: None, data: Some(data) }, Vec::new());
        }
        let bytes = data.to_bytes();
        let parameters = Some(BinarySize { binary_data_size: bytes.len() });
        (Output { name, datatype, shape, parameters, data: None }, bytes)
    }

    /// The best classes of one picture, as Triton writes them.
    fn classes(&self, model: &Model, logits: &[i32], count: usize) -> Vec<String> {
        let probabilities = model.probabilities(logits);
        let text = |index: usize| {
            let label = &model.classes()[index];
            match self.kind {
                Kind::Logits => format!("{}:{index}:{label}", logits[index]),
                Kind::Probabilities => format!("{:.6}:{index}:{label}", probabilities[index]),
            }
        };
        model.best(logits, count).into_iter().map(text).collect()
    }
}

impl Data {
    /// Little-endian; texts each with their length before them.
    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Integers(numbers) => numbers.iter().flat_map(|number| number.to_le_bytes()).collect(),
            Self::Floats(numbers) => numbers.iter().flat_map(|number| number.to_le_bytes()).collect(),
            Self::Classes(texts) => {
                let with_length = |text: &String| {
                    // A class name has at most 100 bytes.
                    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
                    [&length.to_le_bytes(), text.as_bytes()].concat()
                };
                texts.iter().flat_map(with_length).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_lists_are_flattened_and_bounded() {
        let flat = |text: &str| serde_json::from_str::<Flat>(text).map_err(|error| error.to_string());
        assert_eq!(flat("[1,2,255]"), Ok(Flat(vec![1, 2, 255])));
        assert_eq!(flat("[[1,[2]],[],3]"), Ok(Flat(vec![1, 2, 3])));
        for (text, reason) in [
            ("[256]", "found 256, expected 0 to 255"),
            ("[-1]", "expected a number from 0 to 255"),
            ("[1.5]", "expected a number from 0 to 255"),
            ("[\"1\"]", "expected a number from 0 to 255"),
            ("{}", "expected a number from 0 to 255"),
        ] {
            let error = flat(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(flat(&deep).unwrap_err().contains("recursion limit"));
    }

    #[test]
    fn bytes_are_little_endian_and_texts_have_their_length() {
        assert_eq!(Data::Integers(vec![1, -2]).to_bytes(), [1, 0, 0, 0, 254, 255, 255, 255]);
        assert_eq!(Data::Floats(vec![1.0]).to_bytes(), [0, 0, 128, 63]);
        assert_eq!(Data::Classes(vec!["ab".into(), "c".into()]).to_bytes(), *b"\x02\0\0\0ab\x01\0\0\0c");
    }
}
