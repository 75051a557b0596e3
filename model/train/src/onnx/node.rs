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

    /// The same positive number in both directions.
    pub fn square(&self, name: &str, default: Option<usize>) -> Result<usize, Fault> {
        let expected =
            || Fault::new(format!("{name} is {:?}, expected the same in both directions", self.integers(name)));
        match (self.integers(name), default) {
            (None, Some(default)) => Ok(default),
            (Some([rows, columns]), _) if rows == columns && *rows > 0 => {
                usize::try_from(*rows).ok().filter(|size| *size <= MAX_WINDOW).ok_or_else(expected)
            }
            _ => Err(expected()),
        }
    }

    /// Zeros above, left, below and right of an activation of so many rows and columns.
    pub fn padding(&self, size: [usize; 2], kernel: usize, stride: usize) -> Result<[usize; 4], Fault> {
        let wrong = |found: String| Fault::new(format!("{found}, expected four numbers below the kernel's {kernel}"));
        match self.text("auto_pad") {
            b"" | b"NOTSET" => {
                let Some(pads) = self.integers("pads") else { return Ok([0; 4]) };
                let padding: Vec<usize> = pads.iter().filter_map(|pad| usize::try_from(*pad).ok()).collect();
                <[usize; 4]>::try_from(padding)
                    .ok()
                    .filter(|padding| padding.iter().all(|pad| *pad < kernel))
                    .ok_or_else(|| wrong(format!("pads are {pads:?}")))
            }
            b"VALID" => Ok([0; 4]),
            mode @ (b"SAME_UPPER" | b"SAME_LOWER") => {
                let all = size.map(|size| ((size.div_ceil(stride).max(1) - 1) * stride + kernel).saturating_sub(size));
                let less = all.map(|all| all / 2);
                let more = [all[0] - less[0], all[1] - less[1]];
                let padding = if mode == b"SAME_UPPER" {
                    [less[0], less[1], more[0], more[1]]
                } else {
                    [more[0], more[1], less[0], less[1]]
                };
                if padding.iter().all(|pad| *pad < kernel) {
                    Ok(padding)
                } else {
                    Err(wrong(format!("pads are {padding:?}")))
                }
            }
            other => Err(wrong(format!("auto_pad is {:?}", String::from_utf8_lossy(other)))),
        }
    }

    /// Refuses an attribute that changes what the operator does.
    pub fn expect(&self, name: &str, default: i64) -> Result<(), Fault> {
        let found = self.integer(name, default);
        if found == default { Ok(()) } else { Err(Fault::new(format!("{name} is {found}, expected {default}"))) }
    }

    /// Refuses dilated windows.
    pub fn expect_no_dilation(&self) -> Result<(), Fault> {
        match self.integers("dilations") {
            Some(dilations) if dilations.iter().any(|dilation| *dilation != 1) => {
                Err(Fault::new(format!("dilations are {dilations:?}, expected 1")))
            }
            _ => Ok(()),
        }
    }
}

/// The largest kernel or stride.
const MAX_WINDOW: usize = 1 << 12;
