//! Constant tensors.

use std::sync::Arc;

use super::proto::{TensorProto, element};
use super::{External, Fault};

/// The most dimensions of a constant.
const MAX_DIMENSIONS: usize = 8;

/// A constant, its elements in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub struct Constant {
    pub dims: Vec<usize>,
    pub elements: Elements,
    /// The number of its type in ONNX.
    pub data_type: i32,
    /// The integers that it was dequantised from.
    pub given: Option<Arc<GivenIntegers>>,
}

/// Elements of a constant.
#[derive(Debug, Clone, PartialEq)]
pub enum Elements {
    Floats(Vec<f32>),
    Integers(Vec<i64>),
}

/// Integers, counted from their zero point, and what a step of them is.
#[derive(Debug, Clone, PartialEq)]
pub struct GivenIntegers {
    pub values: Vec<i64>,
    /// One for all, or one for each place of `axis`.
    pub scale: Vec<f32>,
    pub axis: usize,
}

impl Constant {
    /// A list of whole numbers.
    pub fn integers(values: Vec<i64>) -> Self {
        Self { dims: vec![values.len()], elements: Elements::Integers(values), data_type: element::INT64, given: None }
    }

    /// Floats of these dimensions.
    pub fn of_floats(dims: Vec<usize>, values: Vec<f32>) -> Self {
        Self { dims, elements: Elements::Floats(values), data_type: element::FLOAT, given: None }
    }

    /// The elements as floats.
    pub fn floats(&self) -> Vec<f64> {
        match &self.elements {
            Elements::Floats(values) => values.iter().copied().map(f64::from).collect(),
            Elements::Integers(values) => values.iter().map(|value| *value as f64).collect(),
        }
    }

    /// The elements as whole numbers, if they are such.
    pub fn whole(&self) -> Option<&[i64]> {
        match &self.elements {
            Elements::Integers(values) => Some(values),
            Elements::Floats(_) => None,
        }
    }

    /// Reads a tensor. No more is held than the file, or the other file that it names, has.
    pub fn read(tensor: &TensorProto, external: &External) -> Result<Self, Fault> {
        let dims: Option<Vec<usize>> = tensor.dims.iter().map(|dim| usize::try_from(*dim).ok()).collect();
        let dims = dims.filter(|dims| dims.len() <= MAX_DIMENSIONS);
        let count = dims.as_ref().and_then(|dims| dims.iter().try_fold(1usize, |all, dim| all.checked_mul(*dim)));
        let (Some(dims), Some(count)) = (dims, count) else {
            return Err(Fault::new(format!("tensor {:?} has the shape {:?}", tensor.name, tensor.dims)));
        };
        let name = &tensor.name;
        let raw = if tensor.data_location == 1 { external.read(tensor)? } else { &tensor.raw_data };
        if !raw.is_empty() && typed(tensor) > 0 {
            return Err(Fault::new(format!("tensor {name:?} has its elements twice, expected once")));
        }
        let few = &tensor.int32_data;
        let integers = |least: i32, most: i32| match few.iter().find(|value| !(least..=most).contains(value)) {
            None => Ok(Elements::Integers(few.iter().copied().map(i64::from).collect())),
            Some(value) => {
                Err(Fault::new(format!("tensor {name:?} has the element {value}, expected {least} to {most}")))
            }
        };
        let (width, elements) = match (tensor.data_type, raw.is_empty()) {
            (element::FLOAT, true) => (4, Elements::Floats(tensor.float_data.clone())),
            (element::FLOAT, false) => (4, Elements::Floats(each(raw, f32::from_le_bytes))),
            (element::DOUBLE, true) => {
                (8, Elements::Floats(tensor.double_data.iter().map(|value| *value as f32).collect()))
            }
            (element::DOUBLE, false) => (8, Elements::Floats(each(raw, |bytes| f64::from_le_bytes(bytes) as f32))),
            // The bits of halves are kept in the low ones of integers.
            (element::FLOAT16, true) => (2, Elements::Floats(few.iter().map(|bits| half(*bits as u16)).collect())),
            (element::FLOAT16, false) => (2, Elements::Floats(each(raw, |bytes| half(u16::from_le_bytes(bytes))))),
            (element::BFLOAT16, true) => {
                (2, Elements::Floats(few.iter().map(|bits| brain_half(*bits as u16)).collect()))
            }
            (element::BFLOAT16, false) => {
                (2, Elements::Floats(each(raw, |bytes| brain_half(u16::from_le_bytes(bytes)))))
            }
            (element::INT64, true) => (8, Elements::Integers(tensor.int64_data.clone())),
            (element::INT64, false) => (8, Elements::Integers(each(raw, i64::from_le_bytes))),
            (element::INT32, true) => (4, integers(i32::MIN, i32::MAX)?),
            (element::INT32, false) => (4, Elements::Integers(each(raw, |bytes| i32::from_le_bytes(bytes).into()))),
            (element::UINT8, true) => (1, integers(0, 255)?),
            (element::INT8, true) => (1, integers(-128, 127)?),
            (element::BOOL, true) => (1, integers(0, 1)?),
            (element::UINT8 | element::BOOL, false) => {
                (1, Elements::Integers(each(raw, |bytes| u8::from_le_bytes(bytes).into())))
            }
            (element::INT8, false) => (1, Elements::Integers(each(raw, |bytes| i8::from_le_bytes(bytes).into()))),
            (other, _) => {
                return Err(Fault::new(format!(
                    "tensor {name:?} has elements of type {other}, expected float (1), uint8 (2), int8 (3), int32 (6), int64 (7), \
                     bool (9), float16 (10), double (11) or bfloat16 (16)"
                )));
            }
        };
        let constant = Self { dims, elements, data_type: tensor.data_type, given: None };
        if constant.len() != count {
            return Err(Fault::new(format!(
                "tensor {name:?} has {} elements, expected {count} as its shape {:?} says",
                constant.len(),
                tensor.dims
            )));
        }
        if !raw.len().is_multiple_of(width) {
            let found = raw.len();
            return Err(Fault::new(format!("tensor {name:?} has {found} bytes, expected a multiple of {width}")));
        }
        if let Elements::Floats(values) = &constant.elements
            && !values.iter().all(|value| value.is_finite())
        {
            return Err(Fault::new(format!("tensor {name:?} has an element that is not a finite number")));
        }
        Ok(constant)
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        match &self.elements {
            Elements::Floats(values) => values.len(),
            Elements::Integers(values) => values.len(),
        }
    }
}

/// How many elements a tensor has outside of its bytes.
fn typed(tensor: &TensorProto) -> usize {
    tensor.float_data.len() + tensor.int32_data.len() + tensor.int64_data.len() + tensor.double_data.len()
}

fn each<const N: usize, T>(raw: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    raw.as_chunks().0.iter().map(|bytes| read(*bytes)).collect()
}

/// IEEE 754 binary16, which f32 holds exactly.
fn half(bits: u16) -> f32 {
    let (exponent, fraction) = (bits >> 10 & 0x1f, f32::from(bits & 0x3ff));
    let magnitude = match exponent {
        0 => fraction * (-24f32).exp2(),
        0x1f if fraction == 0.0 => f32::INFINITY,
        0x1f => f32::NAN,
        _ => (1024.0 + fraction) * (f32::from(exponent) - 25.0).exp2(),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

/// The upper half of a binary32.
fn brain_half(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_read_exactly() {
        let table = [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x3555, 0.333_251_95),
            (0x0001, 5.960_464_5e-8),
            (0x7bff, 65504.0),
            (0x8000, 0.0),
        ];
        assert!(table.iter().all(|(bits, expected)| half(*bits) == *expected));
        assert!(half(0x7c00).is_infinite() && half(0x7e00).is_nan());
        assert_eq!((brain_half(0x3f80), brain_half(0xc049)), (1.0, -3.140_625));
    }
}
