//! What the values of an ONNX graph stand for.

use std::sync::Arc;

use ocelli_model::graph::Shape;

use super::Fault;
use super::network::{Function, GivenGrid};
use super::tensor::Constant;

/// In a list of dimensions, the number of pictures.
pub const PICTURES: i64 = i64::MIN;

/// A value of the graph.
#[derive(Debug, Clone)]
pub enum Value {
    /// Known without a picture.
    Constant(Arc<Constant>),
    /// Of each picture.
    Tensor(Tensor),
    /// Logits after a softmax, which is not part of a model.
    Probabilities(Tensor),
}

/// How the dimensions of an ONNX tensor name the elements of an activation, whose own order is always CHW.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Pictures, channels, rows, columns: PyTorch's.
    Nchw,
    /// Pictures, rows, columns, channels: TensorFlow's.
    Nhwc,
    /// Pictures and all elements, in CHW order.
    FlatChw,
    /// Pictures and all elements, in HWC order.
    FlatHwc,
}

/// An activation of the network that is built, as a value sees it.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// 0 is the input, `i + 1` the output of layer `i`.
    pub activation: usize,
    pub shape: Shape,
    pub layout: Layout,
    pub map: Map,
    /// Zeros that are put above, left, below and right.
    pub padding: [usize; 4],
    /// Whether no other value sees the activation, so that its layer may still be changed.
    pub is_alone: bool,
    /// It is the integers themselves, and not what they stand for.
    pub bytes: Option<Bytes>,
}

/// Integers of eight bits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bytes {
    pub grid: GivenGrid,
    /// Whether the file counts them from -128 on.
    pub is_signed: bool,
}

/// What is done to an activation, and is not part of a layer yet.
#[derive(Debug, Clone)]
pub enum Map {
    Plain,
    /// Scaled and moved.
    Affine(Arc<Affine>),
    /// A function of each element.
    Function(Arc<Function>),
}

/// `scale * x + offset`, for every channel, or for every element in CHW order.
#[derive(Debug, Clone, PartialEq)]
pub struct Affine {
    pub scale: Vec<f64>,
    pub offset: Vec<f64>,
}

impl Layout {
    /// The dimensions of an ONNX tensor, -1 for the number of pictures.
    pub fn dims(self, shape: Shape) -> Vec<i64> {
        let [channels, height, width] = [shape.channels, shape.height, shape.width].map(|size| size as i64);
        match self {
            Self::Nchw => vec![-1, channels, height, width],
            Self::Nhwc => vec![-1, height, width, channels],
            Self::FlatChw | Self::FlatHwc => vec![-1, channels * height * width],
        }
    }

    /// The layout of the same elements in one row.
    pub fn flat(self) -> Self {
        match self {
            Self::Nchw | Self::FlatChw => Self::FlatChw,
            Self::Nhwc | Self::FlatHwc => Self::FlatHwc,
        }
    }

    /// Whether an element lies in the same place in both.
    pub fn is_like(self, other: Self, shape: Shape) -> bool {
        self == other || shape.plane() == 1 && self.dims(shape).len() == other.dims(shape).len()
    }

    /// The layout after a transposition.
    pub fn transposed(self, perm: &[i64]) -> Result<Self, Fault> {
        match (self, perm) {
            (Self::Nchw | Self::Nhwc, [0, 1, 2, 3]) | (Self::FlatChw | Self::FlatHwc, [0, 1]) => Ok(self),
            (Self::Nchw, [0, 2, 3, 1]) => Ok(Self::Nhwc),
            (Self::Nhwc, [0, 3, 1, 2]) => Ok(Self::Nchw),
            _ => Err(Fault::new(format!(
                "it permutes an activation by {perm:?}, expected a change between NCHW and NHWC"
            ))),
        }
    }

    /// The layout after the dimensions were changed to others that are as many elements, of so many pictures, or of any number where
    /// that is 0.
    pub fn reshaped(self, shape: Shape, pictures: i64, target: &[i64]) -> Result<Self, Fault> {
        let now = self.dims(shape);
        let shown = shown(target);
        let wrong = || Fault::new(format!("it reshapes {now:?} to {shown:?}, expected to flatten (-1: pictures)"));
        let mut target: Vec<i64> = target.to_vec();
        let (first, rest) = target.split_first_mut().filter(|(_, rest)| !rest.is_empty()).ok_or_else(wrong)?;
        // Each picture is to stay by itself.
        let pictures = pictures.max(1);
        if ![PICTURES, 0, pictures].contains(first) && (*first != -1 || rest.contains(&-1)) {
            return Err(Fault::new(format!(
                "it reshapes {now:?} to {shown:?}, expected as many pictures first: -1, 0 or {pictures}"
            )));
        }
        for (dim, now) in rest.iter_mut().zip(now[1..].iter().map(Some).chain(std::iter::repeat(None))) {
            if *dim == 0 {
                *dim = *now.ok_or_else(wrong)?;
            }
        }
        let elements = shape.elements() as i64;
        let known = rest.iter().filter(|dim| **dim != -1).try_fold(1i64, |all, dim| all.checked_mul(*dim));
        let known = known.filter(|known| *known > 0 && elements % known == 0).ok_or_else(wrong)?;
        let mut unknown = rest.iter_mut().filter(|dim| **dim == -1);
        if let Some(dim) = unknown.next() {
            *dim = elements / known;
        } else if known != elements {
            return Err(wrong());
        }
        if unknown.next().is_some() {
            return Err(wrong());
        }
        if rest.len() == 1 {
            return Ok(self.flat());
        }
        let order_is_free = shape.height * shape.width == 1;
        let fits = |layout: Self| layout.dims(shape)[1..] == *rest;
        match self {
            Self::Nchw | Self::FlatChw if fits(Self::Nchw) => Ok(Self::Nchw),
            Self::Nhwc | Self::FlatHwc if fits(Self::Nhwc) => Ok(Self::Nhwc),
            _ if order_is_free && fits(Self::Nchw) => Ok(Self::Nchw),
            _ if order_is_free && fits(Self::Nhwc) => Ok(Self::Nhwc),
            _ => Err(wrong()),
        }
    }

    /// Numbers for every element in this layout's flat order, in CHW order.
    pub fn to_chw<T: Copy>(self, shape: Shape, values: &[T]) -> Vec<T> {
        if matches!(self, Self::Nchw | Self::FlatChw) {
            return values.to_vec();
        }
        let Shape { channels, height, width } = shape;
        let places = height * width;
        (0..channels).flat_map(|channel| (0..places).map(move |place| values[place * channels + channel])).collect()
    }

    /// What a constant is for every channel, or for every element in CHW order, of an activation that it meets.
    pub fn broadcast(self, shape: Shape, constant: &Constant) -> Result<Vec<f64>, Fault> {
        let (values, dims) = (constant.floats(), self.dims(shape));
        let wrong = || {
            let found = &constant.dims;
            Fault::new(format!("a constant of {found:?} meets {dims:?}, expected one number, or one for each channel"))
        };
        // Dimensions are aligned at the end, and those that are missing are 1.
        let missing = dims.len().checked_sub(constant.dims.len()).ok_or_else(wrong)?;
        if let [value] = values[..] {
            return Ok(vec![value; shape.channels]);
        }
        let axis = if self == Self::Nhwc { 3 } else { 1 };
        let fits = constant
            .dims
            .iter()
            .zip(missing..)
            .all(|(dim, place)| *dim == 1 || (place == axis && i64::try_from(*dim) == Ok(dims[place])));
        if !fits {
            return Err(wrong());
        }
        Ok(if dims.len() == 2 { self.to_chw(shape, &values) } else { values })
    }
}

/// Dimensions as they are told: -1 for the number of pictures.
pub fn shown(dims: &[i64]) -> Vec<i64> {
    dims.iter().map(|dim| if *dim == PICTURES { -1 } else { *dim }).collect()
}

impl Tensor {
    /// An activation as it is, which nobody else sees yet.
    pub fn plain(activation: usize, shape: Shape, layout: Layout) -> Self {
        Self { activation, shape, layout, map: Map::Plain, padding: [0; 4], is_alone: true, bytes: None }
    }
}

impl Affine {
    /// Changes nothing.
    pub fn of_channels(channels: usize) -> Self {
        Self { scale: vec![1.0; channels], offset: vec![0.0; channels] }
    }

    /// First this, then the other.
    pub fn then(&self, other: &Self) -> Self {
        let lengths = [self.scale.len(), self.offset.len(), other.scale.len(), other.offset.len()];
        let count = lengths.into_iter().max().unwrap_or(0);
        let of = |values: &[f64], index: usize| values[index * values.len() / count];
        Self {
            scale: (0..count).map(|index| of(&self.scale, index) * of(&other.scale, index)).collect(),
            offset: (0..count)
                .map(|index| of(&self.offset, index) * of(&other.scale, index) + of(&other.offset, index))
                .collect(),
        }
    }

    /// Whether it changes nothing.
    pub fn is_identity(&self) -> bool {
        self.scale.iter().all(|scale| *scale == 1.0) && !self.moves()
    }

    /// Whether zero becomes something else.
    pub fn moves(&self) -> bool {
        self.offset.iter().any(|offset| *offset != 0.0)
    }

    /// As a function, if it is the same for all channels.
    pub fn as_function(&self) -> Option<Function> {
        let same = |values: &[f64]| values.iter().all(|value| *value == values[0]);
        if !same(&self.scale) || !same(&self.offset) {
            return None;
        }
        let (scale, offset) = (Function::Constant(self.scale[0]), Function::Constant(self.offset[0]));
        let scaled = Function::Multiply(Arc::new(Function::Given), Arc::new(scale));
        Some(Function::Add(Arc::new(scaled), Arc::new(offset)))
    }
}
