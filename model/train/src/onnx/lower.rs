//! From the nodes of an ONNX graph to layers.
//!
//! Whatever is affine (batch normalisation, scaling and moving by constants, the factor of a mean) is folded into the
//! layer before it, where that is not clamped yet, or else into the layer after it. A sum becomes a layer when it is
//! clamped.

use std::collections::HashMap;
use std::rc::Rc;

use ocelli_model::graph::Shape;

use super::builder::Builder;
use super::node::Node;
use super::proto::{GraphProto, NodeProto};
use super::tensor::{Constant, Elements};
use super::value::{Activation, Layout, Sum, SumKind, Value};
use super::{External, Fault, OnnxError};

/// The operators that are read.
pub const OPERATORS: [&str; 33] = [
    "Add",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Clip",
    "Concat",
    "Constant",
    "Conv",
    "Div",
    "Dropout",
    "Flatten",
    "Gather",
    "Gemm",
    "GlobalAveragePool",
    "Identity",
    "LogSoftmax",
    "MatMul",
    "MaxPool",
    "Mul",
    "Neg",
    "ReduceMean",
    "Relu",
    "Reshape",
    "Shape",
    "Slice",
    "Softmax",
    "Squeeze",
    "Sub",
    "Sum",
    "Transpose",
    "Unsqueeze",
    "GlobalMaxPool",
    "Pad",
];

/// The values of the graph so far, and the layers they became.
pub struct Lowering<'a> {
    builder: Builder,
    values: HashMap<&'a str, Value>,
    external: &'a External,
}

/// What follows a constant in an operation of two values, and what is done to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
}

impl<'a> Lowering<'a> {
    /// Begins with the input and the constants of a graph.
    pub fn new(graph: &'a GraphProto, input: (&'a str, Activation), external: &'a External) -> Result<Self, OnnxError> {
        let mut lowering = Self { builder: Builder::new(input.1.shape), values: HashMap::new(), external };
        for tensor in &graph.initializer {
            // Constants of other types may belong to what is not needed; whoever needs one will miss it.
            if let Ok(constant) = Constant::read(tensor, external) {
                lowering.values.insert(&tensor.name, Value::Constant(Rc::new(constant)));
            } else if matches!(tensor.data_type, 1 | 6 | 7 | 11) {
                Constant::read(tensor, external).map_err(|fault| OnnxError::Tensor { reason: fault.reason })?;
            }
        }
        lowering.values.insert(input.0, Value::Activation(input.1));
        Ok(lowering)
    }

    /// Runs through the nodes and builds the last layer from the output.
    pub fn finish(mut self, graph: &'a GraphProto) -> Result<Builder, OnnxError> {
        let [output] = graph.output.as_slice() else {
            return Err(OnnxError::Output { reason: format!("found {} outputs", graph.output.len()) });
        };
        for node in &graph.node {
            let fault = |fault: Fault| OnnxError::Node {
                operator: node.op_type.clone(),
                node: name_of(node),
                reason: fault.reason,
            };
            let value = self.operate(Node(node)).map_err(fault)?;
            if let Value::Sum(sum) | Value::Probabilities(sum) = &value {
                self.builder.spend(2 * sum.bias.len()).map_err(fault)?;
            }
            // Further outputs, such as the mask of a dropout, have no value; whoever needs one will miss it.
            if let Some(name) = node.output.first() {
                self.values.insert(name, value);
            }
        }
        match self.values.get(output.name.as_str()) {
            Some(Value::Sum(sum) | Value::Probabilities(sum)) => {
                let sum = sum.clone();
                self.builder.last(&sum).map_err(|fault| OnnxError::Output { reason: fault.reason })?;
            }
            Some(Value::Activation(_)) => {
                return Err(OnnxError::Output { reason: "found an activation that is clamped or pooled".into() });
            }
            Some(Value::Constant(_)) | None => {
                return Err(OnnxError::Output {
                    reason: format!("nothing that reads the pictures gives {:?}", output.name),
                });
            }
        }
        Ok(self.builder)
    }

    fn operate(&mut self, node: Node<'a>) -> Result<Value, Fault> {
        match node.0.op_type.as_str() {
            "Constant" => self.constant_node(node),
            "Identity" | "Dropout" => self.value(node, 0).cloned(),
            "Cast" => self.value(node, 0).cloned(),
            "Conv" => self.convolution(node),
            "Gemm" | "MatMul" => self.product(node),
            "BatchNormalization" => self.batch_normalization(node),
            "Relu" => self.clamp(node, None),
            "Clip" => self.clip(node),
            "MaxPool" => self.max_pool(node),
            "GlobalMaxPool" => self.global_max_pool(node),
            "AveragePool" => self.average_pool(node),
            "GlobalAveragePool" => self.global_average_pool(node),
            "ReduceMean" => self.reduce_mean(node),
            "Add" | "Sum" => self.arithmetic(node, Arithmetic::Add),
            "Sub" => self.arithmetic(node, Arithmetic::Subtract),
            "Mul" => self.arithmetic(node, Arithmetic::Multiply),
            "Div" => self.arithmetic(node, Arithmetic::Divide),
            "Neg" => {
                let value = self.value(node, 0)?.clone();
                self.affine(
                    value,
                    &Constant { dims: vec![], elements: Elements::Floats(vec![-1.0]) },
                    Arithmetic::Multiply,
                )
            }
            "Transpose" => self.transpose(node),
            "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze" => self.reshape(node),
            "Shape" => self.shape(node),
            "Gather" | "Slice" | "Concat" => self.integers(node),
            "Pad" => self.pad(node),
            "Softmax" | "LogSoftmax" => match self.value(node, 0)?.clone() {
                Value::Sum(sum) => Ok(Value::Probabilities(sum)),
                other => Err(unexpected(&other, "the logits, at the end of the network")),
            },
            other => Err(Fault::new(format!("operator {other:?} is not supported"))),
        }
    }

    fn value(&self, node: Node<'a>, index: usize) -> Result<&Value, Fault> {
        let name = node.input(index).ok_or_else(|| Fault::new(format!("input {index} is missing")))?;
        let missing =
            || Fault::new(format!("input {name:?} is given by no node before, or of a type that is not read"));
        self.values.get(name).ok_or_else(missing)
    }

    fn constant(&self, node: Node<'a>, index: usize) -> Result<Rc<Constant>, Fault> {
        match self.value(node, index)? {
            Value::Constant(constant) => Ok(constant.clone()),
            other => Err(unexpected(other, "a constant")),
        }
    }

    fn optional_constant(&self, node: Node<'a>, index: usize) -> Result<Option<Rc<Constant>>, Fault> {
        if node.input(index).is_some() { self.constant(node, index).map(Some) } else { Ok(None) }
    }

    fn activation(&self, node: Node<'a>, index: usize) -> Result<Activation, Fault> {
        match self.value(node, index)? {
            Value::Activation(activation) => Ok(activation.clone()),
            other => Err(unexpected(other, "an activation")),
        }
    }

    fn constant_node(&mut self, node: Node<'a>) -> Result<Value, Fault> {
        let constant = if let Some(tensor) = node.tensor("value") {
            Constant::read(tensor, self.external)?
        } else if let Some(values) = node.integers("value_ints") {
            Constant::integers(values.to_vec())
        } else if let Some(value) = node.optional_integer("value_int") {
            Constant { dims: vec![], elements: Elements::Integers(vec![value]) }
        } else if let Some(value) = node.optional_float("value_float") {
            Constant { dims: vec![], elements: Elements::Floats(vec![value]) }
        } else if let Some(values) = node.floats("value_floats") {
            Constant { dims: vec![values.len()], elements: Elements::Floats(values.to_vec()) }
        } else {
            return Err(Fault::new("found no tensor and no numbers"));
        };
        Ok(Value::Constant(Rc::new(constant)))
    }

    fn convolution(&mut self, node: Node<'a>) -> Result<Value, Fault> {
        let input = self.activation(node, 0)?;
        let weight = self.constant(node, 1)?;
        node.expect("group", 1)?;
        node.expect_no_dilation()?;
        let [outputs, inputs, rows, columns] = weight.dims[..] else {
            return Err(Fault::new(format!("the weights are {:?}, expected two directions", weight.dims)));
        };
        if input.layout != Layout::Nchw
            || inputs != input.shape.channels
            || rows != columns
            || rows == 0
            || outputs == 0
        {
            return Err(Fault::new(format!(
                "the weights are {:?} over {:?}, expected (channels, {}, kernel, kernel)",
                weight.dims,
                input.layout.dims(input.shape),
                input.shape.channels
            )));
        }
        let stride = node.square("strides", Some(1))?;
        let padding = node.padding([input.shape.height, input.shape.width], rows, stride)?;
        let shape = Shape { channels: outputs, ..Builder::slide(input.shape, rows, stride, padding)? };
        let Elements::Floats(values) = &weight.elements else { return Err(Fault::new("the weights are no floats")) };
        self.builder.spend(values.len() + 2 * outputs)?;
        let bias = bias(self.optional_constant(node, 2)?, outputs)?;
        Ok(Value::Sum(Sum {
            input,
            kind: SumKind::Conv { kernel: rows, stride, padding },
            weight: Rc::new(values.clone()),
            scale: vec![1.0; outputs],
            bias,
            skip: None,
            max_pool: None,
            shape,
            layout: Layout::Nchw,
        }))
    }

    fn product(&mut self, node: Node<'a>) -> Result<Value, Fault> {
        let input = self.activation(node, 0)?;
        let weight = self.constant(node, 1)?;
        let (mut alpha, mut beta, mut transposed) = (1.0, 1.0, false);
        if node.0.op_type == "Gemm" {
            node.expect("transA", 0)?;
            (alpha, beta) = (node.float("alpha", 1.0), node.float("beta", 1.0));
            transposed = node.integer("transB", 0) != 0;
        }
        let elements = input.shape.elements();
        let (inputs, outputs) = match weight.dims[..] {
            [outputs, inputs] if transposed => (inputs, outputs),
            [inputs, outputs] => (inputs, outputs),
            _ => (0, 0),
        };
        let is_flat = matches!(input.layout, Layout::FlatChw | Layout::FlatHwc);
        if !is_flat || inputs != elements || outputs == 0 {
            return Err(Fault::new(format!(
                "the weights are {:?} over {:?}, expected a flattened activation of {elements} and as many weights for \
                 each output",
                weight.dims,
                input.layout.dims(input.shape)
            )));
        }
        let Elements::Floats(values) = &weight.elements else { return Err(Fault::new("the weights are no floats")) };
        self.builder.spend(2 * values.len() + 2 * outputs)?;
        let mut rows = Vec::with_capacity(values.len());
        for output in 0..outputs {
            let row: Vec<f32> = if transposed {
                values[output * inputs..][..inputs].to_vec()
            } else {
                (0..inputs).map(|input| values[input * outputs + output]).collect()
            };
            rows.extend(input.layout.to_chw(input.shape, &row));
        }
        let mut bias = bias(self.optional_constant(node, 2)?, outputs)?;
        bias.iter_mut().for_each(|bias| *bias *= f64::from(beta));
        Ok(Value::Sum(Sum {
            input,
            kind: SumKind::Linear,
            weight: Rc::new(rows),
            scale: vec![f64::from(alpha); outputs],
            bias,
            skip: None,
            max_pool: None,
            shape: Shape { channels: outputs, height: 1, width: 1 },
            layout: Layout::FlatChw,
        }))
    }

    fn batch_normalization(&mut self, node: Node<'a>) -> Result<Value, Fault> {
        node.expect("training_mode", 0)?;
        let mut numbers = Vec::new();
        for index in 1..5 {
            numbers.push(self.constant(node, index)?.floats());
        }
        let value = self.value(node, 0)?.clone();
        let channels = shape_of(&value)?.0.channels;
        if numbers.iter().any(|numbers| numbers.len() != channels) {
            return Err(Fault::new(format!("found other than {channels} numbers for as many channels")));
        }
        let epsilon = f64::from(node.float("epsilon", 1e-5));
        let [gamma, beta, mean, variance] = &numbers[..] else { return Err(Fault::new("a constant is missing")) };
        let scale: Vec<f64> =
            gamma.iter().zip(variance).map(|(gamma, variance)| gamma / (variance + epsilon).sqrt()).collect();
        if !scale.iter().all(|scale| scale.is_finite()) {
            return Err(Fault::new("a variance is not positive"));
        }
        let offset: Vec<f64> =
            beta.iter().zip(mean).zip(&scale).map(|((beta, mean), scale)| beta - mean * scale).collect();
        self.then(value, &scale, &offset)
    }

    /// A value scaled and moved for every channel.
    fn then(&mut self, value: Value, scale: &[f64], offset: &[f64]) -> Result<Value, Fault> {
        match value {
            Value::Sum(sum) => Ok(Value::Sum(sum.then(scale, offset)?)),
            Value::Activation(activation) => {
                self.builder.spend(2 * scale.len().max(offset.len()).max(activation.affine().scale.len()))?;
                Ok(Value::Activation(activation.then(scale, offset)))
            }
            other => Err(unexpected(&other, "an activation or a sum")),
        }
    }

    fn clamp(&mut self, node: Node<'a>, cap: Option<f64>) -> Result<Value, Fault> {
        let value = self.value(node, 0)?.clone();
        Ok(Value::Activation(match value {
            Value::Sum(sum) => self.builder.clamped(&sum, cap)?,
            Value::Activation(activation) => self.builder.positive(&activation, cap)?,
            other => return Err(unexpected(&other, "an activation or a sum")),
        }))
    }

    fn clip(&mut self, node: Node<'a>) -> Result<Value, Fault> {
        // Before version 11 of the operators the bounds were attributes.
        let bound = |index: usize, attribute: &str| -> Result<Option<f64>, Fault> {
            let given = self.optional_constant(node, index)?.and_then(|constant| constant.floats().first().copied());
            Ok(given.or(node.optional_float(attribute).map(f64::from)))
        };
        let (low, high) = (bound(1, "min")?, bound(2, "max")?);
        if low != Some(0.0) || high.is_some_and(|high| high <= 0.0) {
            return Err(Fault::new(format!("the bounds are {low:?} and {high:?}, expected from 0 on")));
        }
        self.clamp(node, high)
    }

    fn max_pool(&mut self, node: Node<'a>) -> Result<Value, Fault> {
        node.expect_no_dilation()?;
        let kernel = node.square("kernel_shape", None)?;
        let stride = node.square("strides", Some(1))?;
        let value = self.value(node, 0)?.clone();
        let (shape, layout) = shape_of(&value)?;
        expect_nchw(layout)?;
        expect_plain_window(node, shape, kernel, stride)?;
        match value {
            Value::Activation(activation) => {
                Ok(Value::Activation(self.builder.max_pool(&activation, kernel, stride)?))
            }
            Value::Sum(sum) if sum.max_pool.is_none() => {
                let shape = Builder::slide(shape, kernel, stride, [0; 4])?;
                Ok(Value::Sum(Sum { max_pool: Some((kernel, stride)), shape, ..sum }))
            }
            other => Err(unexpected(&other, "an activation, or a sum that was not pooled yet")),
        }
    }

    fn global_max_pool(&mut self, node: Node<'a>) -> Result<Value, Fault> {
        let activation = self.activation(node, 0)?;
        let kernel = expect_square(&activation)?;
        Ok(Value::Activation(self.builder.max_pool(&activation, kernel, kernel)?))
    }

    fn average_pool(&mut self, node: Node<'a>) -> Result<Value, Fault> {
        node.expect_no_dilation()?;
        let kernel = node.square("kernel_shape", None)?;
        let stride = node.square("strides", Some(1))?;
        let activation = self.activation(node, 0)?;
        expect_nchw(activation.layout)?;
        expect_plain_window(node, activation.shape, kernel, stride)?;
        Ok(Value::Activation(self.builder.mean_pool(&activation, kernel, stride)?))
    }

    fn global_average_pool(&mut self, node: Node<'a>) -> Result<Value, Fault> {
        match self.value(node, 0)?.clone() {
            Value::Activation(activation) => {
                let kernel = expect_square(&activation)?;
                Ok(Value::Activation(self.builder.mean_pool(&activation, kernel, kernel)?))
            }
            // The mean of a 1x1 convolution is the convolution of the mean.
            Value::Sum(sum) if sum.kind == (SumKind::Conv { kernel: 1, stride: 1, padding: [0; 4] }) => {
                if sum.skip.is_some() || sum.max_pool.is_some() {
                    return Err(Fault::new("it is over a sum that is not clamped"));
                }
                let kernel = expect_square(&sum.input)?;
                let input = self.builder.mean_pool(&sum.input, kernel, kernel)?;
                let shape = Shape { channels: sum.shape.channels, height: 1, width: 1 };
                Ok(Value::Sum(Sum { input, shape, ..sum }))
            }
            other => Err(unexpected(&other, "an activation, or a 1x1 convolution")),
        }
    }

    /// A mean over rows and columns.
    fn reduce_mean(&mut self, node: Node<'a>) -> Result<Value, Fault> {
        let layout = shape_of(self.value(node, 0)?)?.1;
        let given = match node.integers("axes") {
            Some(axes) => axes.to_vec(),
            None => self.constant(node, 1)?.whole().unwrap_or_default().to_vec(),
        };
        let mut axes: Vec<i64> = given.iter().map(|axis| if *axis < 0 { axis + 4 } else { *axis }).collect();
        axes.sort_unstable();
        let expected = if layout == Layout::Nhwc { [1, 2] } else { [2, 3] };
        if !matches!(layout, Layout::Nchw | Layout::Nhwc) || axes != expected {
            return Err(Fault::new(format!(
                "its axes are {given:?}, expected rows and columns of a {layout:?} activation"
            )));
        }
        let value = self.global_average_pool(node)?;
        if node.integer("keepdims", 1) != 0 {
            return Ok(value);
        }
        let (shape, layout) = shape_of(&value)?;
        with_layout(value, layout.reshaped(shape, &[-1, shape.channels as i64])?)
    }

    fn arithmetic(&mut self, node: Node<'a>, operation: Arithmetic) -> Result<Value, Fault> {
        if node.0.input.len() != 2 {
            return Err(Fault::new(format!("found {} inputs, expected 2", node.0.input.len())));
        }
        match (self.value(node, 0)?.clone(), self.value(node, 1)?.clone()) {
            (Value::Constant(left), Value::Constant(right)) => folded(&left, &right, operation),
            (value, Value::Constant(constant)) => self.affine(value, &constant, operation),
            (Value::Constant(constant), value) if matches!(operation, Arithmetic::Add | Arithmetic::Multiply) => {
                self.affine(value, &constant, operation)
            }
            (Value::Constant(constant), value) if operation == Arithmetic::Subtract => {
                let minus = Constant { dims: vec![], elements: Elements::Floats(vec![-1.0]) };
                let value = self.affine(value, &minus, Arithmetic::Multiply)?;
                self.affine(value, &constant, Arithmetic::Add)
            }
            (Value::Sum(sum), Value::Activation(skip)) | (Value::Activation(skip), Value::Sum(sum))
                if operation == Arithmetic::Add =>
            {
                added(sum, skip)
            }
            (Value::Sum(sum), Value::Sum(other)) if operation == Arithmetic::Add => {
                let branch = self.builder.branch(&sum)?;
                added(other, branch)
            }
            (left, right) => Err(Fault::new(format!(
                "it joins {} and {}, expected the addition of a sum that is not clamped yet",
                kind_of(&left),
                kind_of(&right)
            ))),
        }
    }

    /// A value combined with a constant.
    fn affine(&mut self, value: Value, constant: &Constant, operation: Arithmetic) -> Result<Value, Fault> {
        let (shape, layout) = shape_of(&value)?;
        self.builder.spend(4 * constant.len().max(shape.channels))?;
        let numbers = layout.broadcast(shape, constant)?;
        let count = numbers.len();
        match operation {
            Arithmetic::Add => self.then(value, &vec![1.0; count], &numbers),
            Arithmetic::Subtract => {
                self.then(value, &vec![1.0; count], &numbers.iter().map(|number| -number).collect::<Vec<_>>())
            }
            Arithmetic::Multiply => self.then(value, &numbers, &vec![0.0; count]),
            Arithmetic::Divide if numbers.contains(&0.0) => Err(Fault::new("it divides by 0")),
            Arithmetic::Divide => {
                self.then(value, &numbers.iter().map(|number| 1.0 / number).collect::<Vec<_>>(), &vec![0.0; count])
            }
        }
    }

    fn transpose(&mut self, node: Node<'a>) -> Result<Value, Fault> {
        let perm = node.integers("perm");
        match self.value(node, 0)?.clone() {
            Value::Constant(constant) => {
                let ([rows, columns], None | Some([1, 0])) = (&constant.dims[..], perm) else {
                    return Err(Fault::new(format!("it permutes a constant of {:?}", constant.dims)));
                };
                let Elements::Floats(values) = &constant.elements else {
                    return Err(Fault::new("it permutes a constant of whole numbers"));
                };
                self.builder.spend(values.len())?;
                let turned = (0..*columns).flat_map(|column| (0..*rows).map(move |row| values[row * columns + column]));
                let dims = vec![*columns, *rows];
                Ok(Value::Constant(Rc::new(Constant { dims, elements: Elements::Floats(turned.collect()) })))
            }
            value => {
                let (_, layout) = shape_of(&value)?;
                with_layout(value, layout.transposed(perm.unwrap_or_default())?)
            }
        }
    }

    /// Flatten, Reshape, Squeeze and Unsqueeze: other dimensions, the same elements.
    fn reshape(&mut self, node: Node<'a>) -> Result<Value, Fault> {
        let value = self.value(node, 0)?.clone();
        let axes = || -> Result<Option<Vec<i64>>, Fault> {
            Ok(match node.integers("axes") {
                Some(axes) => Some(axes.to_vec()),
                None => self.optional_constant(node, 1)?.and_then(|axes| axes.whole().map(<[i64]>::to_vec)),
            })
        };
        let dims: Vec<i64> = match &value {
            // Dimensions of a list of dimensions: their order is all that matters.
            Value::Constant(constant) if constant.whole().is_some() => return Ok(value),
            Value::Constant(constant) => constant.dims.iter().map(|dim| *dim as i64).collect(),
            other => {
                let (shape, layout) = shape_of(other)?;
                layout.dims(shape)
            }
        };
        let place = |axis: i64, rank: usize| {
            let axis = if axis < 0 { axis + rank as i64 } else { axis };
            usize::try_from(axis).ok().filter(|axis| *axis < rank).ok_or_else(|| Fault::new(format!("axis {axis}")))
        };
        let target = match node.0.op_type.as_str() {
            "Flatten" => {
                node.expect("axis", 1)?;
                vec![-1, dims[1..].iter().product()]
            }
            "Reshape" => {
                let shape = match node.integers("shape") {
                    Some(shape) => shape.to_vec(),
                    None => self.constant(node, 1)?.whole().unwrap_or_default().to_vec(),
                };
                if shape.contains(&0) {
                    node.expect("allowzero", 0)?;
                }
                shape
            }
            "Squeeze" => {
                let axes = match axes()? {
                    Some(axes) => axes.iter().map(|axis| place(*axis, dims.len())).collect::<Result<Vec<_>, _>>()?,
                    None => (0..dims.len()).filter(|axis| dims[*axis] == 1).collect(),
                };
                if let Some(axis) = axes.iter().find(|axis| dims[**axis] != 1) {
                    return Err(Fault::new(format!("it leaves out axis {axis} of {dims:?}, expected one of size 1")));
                }
                (0..dims.len()).filter(|axis| !axes.contains(axis)).map(|axis| dims[axis]).collect()
            }
            _ => {
                let axes = axes()?.unwrap_or_default();
                let rank = (dims.len() + axes.len()).min(16);
                let axes = axes.iter().map(|axis| place(*axis, rank)).collect::<Result<Vec<_>, _>>()?;
                let mut rest = dims.iter();
                (0..rank).map(|axis| if axes.contains(&axis) { 1 } else { rest.next().copied().unwrap_or(1) }).collect()
            }
        };
        match value {
            Value::Constant(constant) => {
                let sizes: Option<Vec<usize>> = target.iter().map(|dim| usize::try_from(*dim).ok()).collect();
                let sizes = sizes.filter(|sizes| {
                    sizes.len() <= 16
                        && sizes.iter().try_fold(1usize, |all, size| all.checked_mul(*size)) == Some(constant.len())
                });
                let dims = sizes.ok_or_else(|| Fault::new(format!("it reshapes a constant to {target:?}")))?;
                self.builder.spend(constant.len())?;
                Ok(Value::Constant(Rc::new(Constant { dims, elements: constant.elements.clone() })))
            }
            value => {
                let (shape, layout) = shape_of(&value)?;
                with_layout(value, layout.reshaped(shape, &target)?)
            }
        }
    }

    fn shape(&mut self, node: Node<'a>) -> Result<Value, Fault> {
        let (shape, layout) = shape_of(self.value(node, 0)?)?;
        let dims = layout.dims(shape);
        let place = |at: i64| (if at < 0 { at + dims.len() as i64 } else { at }).clamp(0, dims.len() as i64) as usize;
        let (start, end) = (place(node.integer("start", 0)), place(node.integer("end", dims.len() as i64)));
        Ok(Value::Constant(Rc::new(Constant::integers(dims.get(start..end).unwrap_or_default().to_vec()))))
    }

    /// What is done to lists of dimensions.
    fn integers(&mut self, node: Node<'a>) -> Result<Value, Fault> {
        let list = |index: usize| -> Result<Vec<i64>, Fault> {
            let constant = self.constant(node, index)?;
            let whole = constant.whole().filter(|whole| whole.len() <= 16);
            whole.map(<[i64]>::to_vec).ok_or_else(|| Fault::new("it is of other than a few dimensions"))
        };
        let first = list(0)?;
        let place =
            |at: i64| (if at < 0 { at.saturating_add(first.len() as i64) } else { at }).clamp(0, first.len() as i64);
        let found = match node.0.op_type.as_str() {
            "Gather" => {
                let taken = list(1)?.into_iter().map(|at| first.get(place(at) as usize).copied());
                taken
                    .collect::<Option<Vec<i64>>>()
                    .ok_or_else(|| Fault::new("it takes a dimension that is not there"))?
            }
            "Slice" => {
                let (starts, ends) = (list(1)?, list(2)?);
                if node.input(4).is_some() && list(4)? != [1] {
                    return Err(Fault::new("its steps are other than 1"));
                }
                let ([start], [end]) = (&starts[..], &ends[..]) else { return Err(Fault::new("it has several axes")) };
                first.get(place(*start) as usize..place(*end) as usize).unwrap_or_default().to_vec()
            }
            _ => {
                let mut all = first.clone();
                for index in 1..node.0.input.len().min(16) {
                    all.extend(list(index)?);
                }
                all
            }
        };
        Ok(Value::Constant(Rc::new(Constant::integers(found))))
    }

    /// Only a padding of nothing: that of a convolution belongs to it.
    fn pad(&mut self, node: Node<'a>) -> Result<Value, Fault> {
        let pads = match node.integers("pads") {
            Some(pads) => pads.to_vec(),
            None => self.constant(node, 1)?.whole().unwrap_or_default().to_vec(),
        };
        if pads.iter().any(|pad| *pad != 0) {
            return Err(Fault::new(format!("its pads are {pads:?}, expected the padding in the convolution after it")));
        }
        self.value(node, 0).cloned()
    }
}

/// A node's name, or that of its output where it has none.
pub fn name_of(node: &NodeProto) -> String {
    if node.name.is_empty() { node.output.first().cloned().unwrap_or_default() } else { node.name.clone() }
}

fn bias(constant: Option<Rc<Constant>>, outputs: usize) -> Result<Vec<f64>, Fault> {
    let Some(constant) = constant else { return Ok(vec![0.0; outputs]) };
    let values = constant.floats();
    match values.len() {
        1 => Ok(vec![values[0]; outputs]),
        count if count == outputs => Ok(values),
        count => Err(Fault::new(format!("the bias has {count} elements, expected {outputs}"))),
    }
}

/// Two constants, one of them a single number.
fn folded(left: &Constant, right: &Constant, operation: Arithmetic) -> Result<Value, Fault> {
    let (a, b) = (left.floats(), right.floats());
    if a.len() != b.len() && a.len() != 1 && b.len() != 1 || a.is_empty() || b.is_empty() {
        return Err(Fault::new(format!("it combines constants of {:?} and {:?}", left.dims, right.dims)));
    }
    let count = a.len().max(b.len());
    let of = |values: &[f64], index: usize| values[if values.len() == 1 { 0 } else { index }];
    let combined: Vec<f32> = (0..count)
        .map(|index| {
            let (a, b) = (of(&a, index), of(&b, index));
            (match operation {
                Arithmetic::Add => a + b,
                Arithmetic::Subtract => a - b,
                Arithmetic::Multiply => a * b,
                Arithmetic::Divide => a / b,
            }) as f32
        })
        .collect();
    if !combined.iter().all(|value| value.is_finite()) {
        return Err(Fault::new("the result is no finite number"));
    }
    let dims = if left.len() >= right.len() { left.dims.clone() } else { right.dims.clone() };
    // Lists of dimensions stay whole numbers.
    let elements = match (left.whole(), right.whole()) {
        (Some(_), Some(_)) => Elements::Integers(combined.iter().map(|value| *value as i64).collect()),
        _ => Elements::Floats(combined),
    };
    Ok(Value::Constant(Rc::new(Constant { dims, elements })))
}

/// A sum to which an earlier activation is added.
fn added(sum: Sum, skip: Activation) -> Result<Value, Fault> {
    if sum.skip.is_some() || sum.max_pool.is_some() {
        return Err(Fault::new("it adds a second activation to a sum, or one to what was pooled"));
    }
    if sum.shape != skip.shape || sum.layout != skip.layout {
        return Err(Fault::new(format!("it adds an activation of {} to a sum of {}", skip.shape, sum.shape)));
    }
    if !skip.is_plain() {
        return Err(Fault::new("it adds an activation that was scaled or moved"));
    }
    Ok(Value::Sum(Sum { skip: Some(skip), ..sum }))
}

fn with_layout(value: Value, layout: Layout) -> Result<Value, Fault> {
    match value {
        Value::Activation(activation) => Ok(Value::Activation(Activation { layout, ..activation })),
        Value::Sum(sum) => Ok(Value::Sum(Sum { layout, ..sum })),
        Value::Probabilities(sum) => Ok(Value::Probabilities(Sum { layout, ..sum })),
        Value::Constant(_) => Err(unexpected(&value, "an activation or a sum")),
    }
}

fn shape_of(value: &Value) -> Result<(Shape, Layout), Fault> {
    match value {
        Value::Activation(activation) => Ok((activation.shape, activation.layout)),
        Value::Sum(sum) => Ok((sum.shape, sum.layout)),
        Value::Constant(_) | Value::Probabilities(_) => Err(unexpected(value, "an activation or a sum")),
    }
}

fn expect_nchw(layout: Layout) -> Result<(), Fault> {
    if layout == Layout::Nchw { Ok(()) } else { Err(Fault::new(format!("it runs over {layout:?}, expected Nchw"))) }
}

/// The side of an activation of as many rows as columns.
fn expect_square(activation: &Activation) -> Result<usize, Fault> {
    let Shape { height, width, .. } = activation.shape;
    if height == width && matches!(activation.layout, Layout::Nchw | Layout::Nhwc) {
        return Ok(height);
    }
    Err(Fault::new(format!("it runs over {}, expected as many rows as columns", activation.shape)))
}

/// Refuses padding, and windows that only begin within the activation.
fn expect_plain_window(node: Node, over: Shape, kernel: usize, stride: usize) -> Result<(), Fault> {
    let padding = node.padding([over.height, over.width], kernel, stride)?;
    if padding != [0; 4] {
        return Err(Fault::new(format!("pads are {padding:?}, expected none")));
    }
    let leaves_out = |size: usize| size >= kernel && !(size - kernel).is_multiple_of(stride);
    if node.integer("ceil_mode", 0) != 0 && (leaves_out(over.height) || leaves_out(over.width)) {
        return Err(Fault::new("ceil_mode is 1 and the last window is not whole, expected ceil_mode 0"));
    }
    Ok(())
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Constant(_) => "a constant",
        Value::Activation(_) => "an activation",
        Value::Sum(_) => "a sum that is not clamped (no Relu after a convolution or linear layer)",
        Value::Probabilities(_) => "probabilities (after a Softmax)",
    }
}

fn unexpected(found: &Value, expected: &str) -> Fault {
    Fault::new(format!("found {}, expected {expected}", kind_of(found)))
}
