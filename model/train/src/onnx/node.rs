//! A node of the ONNX graph and its attributes.

use super::Fault;
use super::proto::{AttributeProto, NodeProto, TensorProto};

/// A node, as the operators look at it.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a>(pub &'a NodeProto);

impl<'a> Node<'a> {
    fn attribute(&self, name: &str) -> Option<&'a AttributeProto> {
        self.0.attribute.iter().find(|attribute| attribute.name == name)
    }

    /// A whole number.
    pub fn integer(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).map_or(default, |attribute| attribute.i)
    }

    /// A number.
    pub fn float(&self, name: &str, default: f32) -> f32 {
        self.attribute(name).map_or(default, |attribute| attribute.f)
    }

    /// A number that may be missing.
    pub fn optional_float(&self, name: &str) -> Option<f32> {
        self.attribute(name).map(|attribute| attribute.f)
    }

    /// Several numbers that may be missing.
    pub fn floats(&self, name: &str) -> Option<&'a [f32]> {
        self.attribute(name).map(|attribute| attribute.floats.as_slice())
    }

    /// A whole number that may be missing.
    pub fn optional_integer(&self, name: &str) -> Option<i64> {
        self.attribute(name).map(|attribute| attribute.i)
    }

    /// Several whole numbers that may be missing.
    pub fn integers(&self, name: &str) -> Option<&'a [i64]> {
        self.attribute(name).map(|attribute| attribute.ints.as_slice())
    }

    /// A text.
    pub fn text(&self, name: &str) -> &'a [u8] {
        self.attribute(name).map_or(b"", |attribute| attribute.s.as_slice())
    }

    /// A tensor.
    pub fn tensor(&self, name: &str) -> Option<&'a TensorProto> {
        self.attribute(name).and_then(|attribute| attribute.t.as_ref())
    }

    /// The name of an input, if it is given.
    pub fn input(&self, index: usize) -> Option<&'a str> {
        self.0.input.get(index).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// Positive numbers for rows and columns.
    pub fn pair(&self, name: &str, default: Option<usize>) -> Result<[usize; 2], Fault> {
        let given = self.integers(name);
        let sizes = |values: &[i64]| <[usize; 2]>::try_from(within(values, 1)?).ok();
        match (given, default) {
            (None, Some(default)) => Ok([default; 2]),
            (Some(values), _) if sizes(values).is_some() => Ok(sizes(values).unwrap_or_default()),
            (found, _) => {
                let found = found.map_or("missing".into(), |found| format!("{found:?}"));
                Err(Fault::new(format!("{name} is {found}, expected two numbers, of rows and columns")))
            }
        }
    }

    /// What is put above, left, below and right of an activation of so many rows and columns, with what a Pad put there before.
    pub fn padding(&self, size: [usize; 2], kernel: [usize; 2], stride: [usize; 2]) -> Result<[usize; 4], Fault> {
        let pads = self.integers("pads").unwrap_or(&[0; 4]);
        match self.text("auto_pad") {
            b"" | b"NOTSET" => within(pads, 0)
                .and_then(|padding| <[usize; 4]>::try_from(padding).ok())
                .ok_or_else(|| Fault::new(format!("pads are {pads:?}, expected four numbers from 0 on"))),
            mode if pads.iter().any(|pad| *pad != 0) => {
                let mode = String::from_utf8_lossy(mode);
                Err(Fault::new(format!("pads are {pads:?} and auto_pad is {mode:?}, expected one of them")))
            }
            b"VALID" => Ok([0; 4]),
            mode @ (b"SAME_UPPER" | b"SAME_LOWER") => {
                let all = [0, 1].map(|direction| {
                    let (size, stride) = (size[direction], stride[direction]);
                    ((size.div_ceil(stride).max(1) - 1) * stride + kernel[direction]).saturating_sub(size)
                });
                let less = all.map(|all| all / 2);
                let more = [all[0] - less[0], all[1] - less[1]];
                Ok(if mode == b"SAME_UPPER" {
                    [less[0], less[1], more[0], more[1]]
                } else {
                    [more[0], more[1], less[0], less[1]]
                })
            }
            other => {
                Err(Fault::new(format!("auto_pad is {:?}, expected one of ONNX's", String::from_utf8_lossy(other))))
            }
        }
    }

    /// Refuses an attribute that changes what the operator does.
    pub fn expect(&self, name: &str, default: i64) -> Result<(), Fault> {
        let found = self.integer(name, default);
        if found == default { Ok(()) } else { Err(Fault::new(format!("{name} is {found}, expected {default}"))) }
    }
}

/// The largest kernel or stride.
const MAX_WINDOW: usize = 1 << 12;

/// Sizes from a least one on, if all of the numbers are such.
fn within(numbers: &[i64], least: usize) -> Option<Vec<usize>> {
    let size = |number: &i64| usize::try_from(*number).ok().filter(|size| (least..=MAX_WINDOW).contains(size));
    numbers.iter().map(size).collect()
}
