//! Constant tensors.

use super::proto::TensorProto;
use super::{External, Fault};

/// The most dimensions of a constant.
const MAX_DIMENSIONS: usize = 8;

/// A constant, its elements in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub struct Constant {
    pub dims: Vec<usize>,
    pub elements: Elements,
}

/// Elements of a constant.
#[derive(Debug, Clone, PartialEq)]
pub enum Elements {
    Floats(Vec<f32>),
    Integers(Vec<i64>),
}

impl Constant {
    /// A list of whole numbers.
    pub fn integers(values: Vec<i64>) -> Self {
        Self { dims: vec![values.len()], elements: Elements::Integers(values) }
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
        let raw = if tensor.data_location == 1 { external.read(tensor)? } else { &tensor.raw_data };
        let elements = match tensor.data_type {
            1 if raw.is_empty() => Elements::Floats(tensor.float_data.clone()),
            1 => Elements::Floats(raw.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()),
            11 if raw.is_empty() => Elements::Floats(tensor.double_data.iter().map(|value| *value as f32).collect()),
            11 => Elements::Floats(raw.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes) as f32).collect()),
            7 if raw.is_empty() => Elements::Integers(tensor.int64_data.clone()),
            7 => Elements::Integers(raw.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()),
            6 if raw.is_empty() => Elements::Integers(tensor.int32_data.iter().copied().map(i64::from).collect()),
            6 => Elements::Integers(raw.as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes).into()).collect()),
            other => {
                return Err(Fault::new(format!(
                    "tensor {:?} has elements of type {other}, expected float (1), double (11), int32 (6) or int64 (7)",
                    tensor.name
                )));
            }
        };
        let constant = Self { dims, elements };
        if constant.len() != count {
            return Err(Fault::new(format!(
                "tensor {:?} has {} elements, expected {count} as its shape {:?} says",
                tensor.name,
                constant.len(),
                tensor.dims
            )));
        }
        if let Elements::Floats(values) = &constant.elements
            && !values.iter().all(|value| value.is_finite())
        {
            return Err(Fault::new(format!("tensor {:?} has an element that is not a finite number", tensor.name)));
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
