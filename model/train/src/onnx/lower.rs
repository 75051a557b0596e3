//! From the nodes of an ONNX graph to layers.
//!
//! Quantised networks come in two forms: between QuantizeLinear and DequantizeLinear around each operator, or as operators that
//! do both themselves. The second is read as the first.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ocelli_model::graph::{Shape, Window};

use super::builder::{Builder, Running, biases, floats};
use super::network::{Function, GivenGrid, GivenSums, Network};
use super::node::Node;
use super::operators;
use super::proto::{GraphProto, NodeProto, element};
use super::tensor::{Constant, Elements, GivenIntegers};
use super::value::{Affine, Bytes, Layout, PICTURES, Tensor, Value, shown};
use super::{External, Fault, OnnxError};

/// The values of the graph so far, and the layers they became.
pub struct Lowering<'a> {
    builder: Builder,
    values: HashMap<&'a str, Value>,
    /// The nodes that take each value; the graph itself counts for one that it gives.
    takers: HashMap<&'a str, Vec<Option<&'a NodeProto>>>,
    external: &'a External,
    /// How many pictures there are at once, or 0 for any number.
    pictures: i64,
    /// The version of ONNX's operators.
    version: i64,
}

/// The pictures that a graph reads, and as what.
#[derive(Debug)]
pub struct Read<'a> {
    /// The name of the input.
    pub name: &'a str,
    pub shape: Shape,
    pub layout: Layout,
    /// How many there are at once, or 0 for any number.
    pub pictures: i64,
    /// The version of ONNX's operators.
    pub version: i64,
    /// What the input is of a pixel's byte.
    pub affine: Affine,
    /// What a byte of 0 is, where the input is bytes.
    pub least: Option<f64>,
}

/// What is done to two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Least,
    Greatest,
}

impl<'a> Lowering<'a> {
    /// Begins with the input and the constants of a graph.
    pub fn new(graph: &'a GraphProto, read: Read<'a>, external: &'a External) -> Result<Self, OnnxError> {
        let Read { name, shape, layout, pictures, version, affine, least } = read;
        let mut takers: HashMap<&str, Vec<Option<&NodeProto>>> = HashMap::new();
        for node in &graph.node {
            node.input.iter().for_each(|input| takers.entry(input.as_str()).or_default().push(Some(node)));
        }
        graph.output.iter().for_each(|output| takers.entry(output.name.as_str()).or_default().push(None));
        let builder = Builder::new(shape, least);
        let mut lowering = Self { builder, values: HashMap::new(), takers, external, pictures, version };
        let mut names = HashSet::new();
        for tensor in &graph.initializer {
            if !names.insert(&tensor.name) {
                return Err(OnnxError::Tensor { reason: format!("found two tensors {:?}, expected one", tensor.name) });
            }
            match Constant::read(tensor, external) {
                Ok(constant) => drop(lowering.values.insert(&tensor.name, Value::Constant(Arc::new(constant)))),
                // What nobody takes may be anything.
                Err(_) if !lowering.takers.contains_key(tensor.name.as_str()) => {}
                Err(fault) => return Err(OnnxError::Tensor { reason: fault.reason }),
            }
        }
        let pixels = Tensor { is_alone: lowering.is_taken_once(name), ..Tensor::plain(0, shape, layout) };
        let fault = |fault: Fault| OnnxError::Input { reason: fault.reason };
        let input = lowering.builder.affine(&pixels, affine).map_err(fault)?;
        lowering.values.insert(name, Value::Tensor(input));
        Ok(lowering)
    }

    /// Whether one node takes a value, or several that quantise or dequantise it alike.
    fn is_taken_once(&self, name: &str) -> bool {
        let takers = self.takers.get(name).map_or(&[][..], Vec::as_slice);
        let [Some(first), rest @ ..] = takers else { return takers.len() <= 1 };
        let quantises = |node: &NodeProto| {
            node.op_type == first.op_type
                && ["QuantizeLinear", "DequantizeLinear"].contains(&node.op_type.as_str())
                && node.input.first().is_some_and(|input| input == name)
        };
        let parameters = |node: &NodeProto| -> Option<Vec<&Constant>> {
            let number = |input: &String| match self.values.get(input.as_str()) {
                Some(Value::Constant(constant)) if constant.len() == 1 => Some(&**constant),
                _ => None,
            };
            node.input[1..].iter().map(number).collect()
        };
        rest.is_empty()
            || quantises(first)
                && parameters(first).is_some()
                && rest
                    .iter()
                    .all(|taker| taker.is_some_and(|taker| quantises(taker) && parameters(taker) == parameters(first)))
    }

    /// Runs through the nodes and ends with what the graph gives.
    pub fn finish(mut self, graph: &'a GraphProto) -> Result<Network, OnnxError> {
        let [output] = graph.output.as_slice() else {
            return Err(OnnxError::Output { reason: format!("found {} outputs", graph.output.len()) });
        };
        let mut given = HashSet::new();
        for node in &graph.node {
            let fault = |fault: Fault| OnnxError::Node {
                operator: node.op_type.clone(),
                node: name_of(node),
                reason: fault.reason,
            };
            self.builder.at(name_of(node));
            for output in node.output.iter().filter(|output| !output.is_empty()) {
                if self.values.contains_key(output.as_str()) || !given.insert(output) {
                    return Err(fault(Fault::new(format!(
                        "it gives {output:?}, which is there before, expected another name"
                    ))));
                }
            }
            let mut value = operators::check(node).and_then(|()| self.operate(Node(node))).map_err(fault)?;
            // Further outputs, such as the mask of a dropout, have no value; whoever needs one will miss it.
            let Some(name) = node.output.first() else { continue };
            if let Value::Tensor(tensor) | Value::Probabilities(tensor) = &mut value {
                tensor.is_alone &= self.is_taken_once(name);
            }
            self.values.insert(name, value);
        }
        match self.values.get(output.name.as_str()) {
            Some(Value::Tensor(logits) | Value::Probabilities(logits)) => {
                let logits = logits.clone();
                self.builder.finish(&logits).map_err(|fault| OnnxError::Output { reason: fault.reason })
            }
            Some(Value::Constant(_)) | None => {
                Err(OnnxError::Output { reason: format!("nothing that reads the pictures gives {:?}", output.name) })
            }
        }
    }

    fn operate(&mut self, node: Node<'a>) -> Result<Value, Fault> {
        let of_value = |function: Function| Arc::new(function);
        let number = |value: f64| Arc::new(Function::Constant(value));
        match node.0.op_type.as_str() {
            "Constant" => self.constant_node(node),
            "Identity" => self.value(node, 0).cloned(),
            "Dropout" => {
                let training = self.optional_constant(node, 2)?.map_or(Vec::new(), |training| training.floats());
                if training.iter().any(|training| *training != 0.0) {
                    return Err(Fault::new("its training_mode is true, expected false"));
                }
                self.value(node, 0).cloned()
            }
            "Cast" => self.cast(node),
            "QuantizeLinear" => self.quantize_linear(node),
            "DequantizeLinear" => self.dequantize_linear(node),
            "Conv" => self.convolution(node),
            "Gemm" | "MatMul" => self.product(node),
            "BatchNormalization" => self.batch_normalization(node),
            "Relu" => self.clamp(node, 0.0, f64::INFINITY),
            "Clip" => self.clip(node),
            "Sigmoid" => self.function(node, Function::Sigmoid),
            "Tanh" => self.function(node, Function::Tanh),
            "Erf" => self.function(node, Function::Erf),
            "Exp" => self.function(node, Function::Exp),
            "Softplus" => self.function(node, Function::Softplus),
            "Softsign" => self.function(node, |x| {
                let size = Function::Greatest(x.clone(), of_value(Function::Multiply(x.clone(), number(-1.0))));
                Function::Divide(x, of_value(Function::Add(of_value(size), number(1.0))))
            }),
            "Swish" => {
                let alpha = f64::from(node.float("alpha", 1.0));
                self.function(node, |x| {
                    let scaled = of_value(Function::Multiply(x.clone(), number(alpha)));
                    Function::Multiply(x, of_value(Function::Sigmoid(scaled)))
                })
            }
            "Mish" => self.function(node, |x| {
                Function::Multiply(x.clone(), of_value(Function::Tanh(of_value(Function::Softplus(x)))))
            }),
            "Gelu" => self.gelu(node),
            "HardSigmoid" => {
                let (alpha, beta) = (node.float("alpha", 0.2), node.float("beta", 0.5));
                self.function(node, |x| hard_sigmoid(x, f64::from(alpha), f64::from(beta)))
            }
            "HardSwish" => {
                self.function(node, |x| Function::Multiply(x.clone(), Arc::new(hard_sigmoid(x, 1.0 / 6.0, 0.5))))
            }
            "LeakyRelu" => {
                let alpha = f64::from(node.float("alpha", 0.01));
                self.function(node, |x| Function::LeakyRelu(alpha, x))
            }
            "PRelu" => {
                let slope = self.constant(node, 1)?.floats();
                match slope[..] {
                    [slope] => self.function(node, |x| Function::LeakyRelu(slope, x)),
                    _ => Err(Fault::new(format!("it has {} slopes, expected one for all channels", slope.len()))),
                }
            }
            "Elu" => {
                let alpha = f64::from(node.float("alpha", 1.0));
                self.function(node, |x| Function::Elu(alpha, x))
            }
            "Selu" => {
                let (alpha, gamma) = (node.float("alpha", 1.673_263_2), node.float("gamma", 1.050_701));
                self.function(node, |x| {
                    Function::Multiply(of_value(Function::Elu(f64::from(alpha), x)), number(f64::from(gamma)))
                })
            }
            "MaxPool" => self.max_pool(node),
            "GlobalMaxPool" => {
                let tensor = channels_first(self.any_tensor(node, 0)?)?;
                let pooled = self.builder.max_pool(&tensor, whole(&tensor)?)?;
                Ok(Value::Tensor(pooled))
            }
            "AveragePool" => {
                let tensor = self.tensor(node, 0)?;
                self.average_pool(node, &tensor).map(Value::Tensor)
            }
            "GlobalAveragePool" => {
                let tensor = channels_first(self.tensor(node, 0)?)?;
                let pooled = self.builder.average_pool(&tensor, whole(&tensor)?)?;
                Ok(Value::Tensor(pooled))
            }
            "ReduceMean" => {
                let tensor = self.tensor(node, 0)?;
                self.reduce_mean(node, &tensor).map(Value::Tensor)
            }
            "Add" | "Sum" => self.arithmetic(node, Arithmetic::Add),
            "Sub" => self.arithmetic(node, Arithmetic::Subtract),
            "Mul" => self.arithmetic(node, Arithmetic::Multiply),
            "Div" => self.arithmetic(node, Arithmetic::Divide),
            "Min" => self.arithmetic(node, Arithmetic::Least),
            "Max" => self.arithmetic(node, Arithmetic::Greatest),
            "Neg" => {
                let value = self.value(node, 0)?.clone();
                self.affine(value, &Constant::of_floats(vec![], vec![-1.0]), Arithmetic::Multiply)
            }
            "Transpose" => self.transpose(node),
            "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze" => self.reshape(node),
            "Shape" => self.shape(node),
            "Concat" if matches!(self.value(node, 0)?, Value::Tensor(_)) => self.concat(node),
            "Gather" | "Slice" | "Concat" => self.integers(node),
            "Pad" => self.pad(node),
            "Softmax" | "LogSoftmax" => {
                let (tensor, version) = (self.tensor(node, 0)?, self.version);
                softmax(node, tensor, version, if version < 13 { 1 } else { -1 }).map(Value::Probabilities)
            }
            operator if operator.starts_with('Q') => self.quantised_operator(node),
            other => Err(Fault::new(format!("operator {other:?} is not supported"))),
        }
    }

    fn value(&self, node: Node<'a>, index: usize) -> Result<&Value, Fault> {
        let name = node.input(index).ok_or_else(|| Fault::new(format!("input {index} is missing")))?;
        self.values.get(name).ok_or_else(|| Fault::new(format!("input {name:?} is given by no node before")))
    }

    fn constant(&self, node: Node<'a>, index: usize) -> Result<Arc<Constant>, Fault> {
        match self.value(node, index)? {
            Value::Constant(constant) => Ok(constant.clone()),
            other => Err(unexpected(other, &format!("a constant as input {index}"))),
        }
    }

    fn optional_constant(&self, node: Node<'a>, index: usize) -> Result<Option<Arc<Constant>>, Fault> {
        if node.input(index).is_some() { self.constant(node, index).map(Some) } else { Ok(None) }
    }

    /// Whole numbers, which older versions have as an attribute and newer ones as an input.
    fn numbers(&self, node: Node<'a>, name: &str, index: usize) -> Result<Option<Vec<i64>>, Fault> {
        match (node.integers(name), self.optional_constant(node, index)?) {
            (None, None) => Ok(None),
            (Some(numbers), None) => Ok(Some(numbers.to_vec())),
            (None, Some(constant)) => match constant.whole() {
                Some(numbers) => Ok(Some(numbers.to_vec())),
                None => Err(Fault::new(format!("its {name} are no whole numbers"))),
            },
            (Some(_), Some(_)) => {
                Err(Fault::new(format!("its {name} are an attribute and an input, expected one of them")))
            }
        }
    }

    /// An activation, of numbers or integers.
    fn any_tensor(&self, node: Node<'a>, index: usize) -> Result<Tensor, Fault> {
        match self.value(node, index)? {
            Value::Tensor(tensor) => Ok(tensor.clone()),
            other => Err(unexpected(other, "an activation")),
        }
    }

    /// An activation of numbers.
    fn tensor(&self, node: Node<'a>, index: usize) -> Result<Tensor, Fault> {
        let tensor = self.any_tensor(node, index)?;
        match tensor.bytes {
            None => Ok(tensor),
            Some(_) => {
                Err(Fault::new("it reads the bytes of a QuantizeLinear, expected a DequantizeLinear between the two"))
            }
        }
    }

    fn constant_node(&mut self, node: Node<'a>) -> Result<Value, Fault> {
        let constant = if let Some(tensor) = node.tensor("value") {
            Constant::read(tensor, self.external)?
        } else if let Some(values) = node.integers("value_ints") {
            Constant::integers(values.to_vec())
        } else if let Some(value) = node.optional_integer("value_int") {
            Constant { dims: vec![], ..Constant::integers(vec![value]) }
        } else if let Some(value) = node.optional_float("value_float") {
            Constant::of_floats(vec![], vec![value])
        } else if let Some(values) = node.floats("value_floats") {
            Constant::of_floats(vec![values.len()], values.to_vec())
        } else {
            return Err(Fault::new("found no tensor and no numbers"));
        };
        Ok(Value::Constant(Arc::new(constant)))
    }

    /// Numbers stay what they are; only those of constants are cut to whole ones.
    fn cast(&mut self, node: Node<'a>) -> Result<Value, Fault> {
        let to = node.integer("to", 0);
        let is_float =
            [element::FLOAT, element::FLOAT16, element::DOUBLE, element::BFLOAT16].map(i64::from).contains(&to);
        match self.value(node, 0)?.clone() {
            Value::Constant(constant) if is_float => {
                known(&constant)?;
                let values = constant.floats().into_iter().map(|value| value as f32).collect();
                Ok(Value::Constant(Arc::new(Constant::of_floats(constant.dims.clone(), values))))
            }
            Value::Constant(constant) => {
                let (data_type, least, most) = match i32::try_from(to) {
                    Ok(element::UINT8) => (element::UINT8, 0, 255),
                    Ok(element::INT8) => (element::INT8, -128, 127),
                    Ok(element::INT32) => (element::INT32, i32::MIN.into(), i32::MAX.into()),
                    Ok(element::INT64) => (element::INT64, i64::MIN, i64::MAX),
                    _ => {
                        return Err(Fault::new(format!(
                            "it makes a constant elements of type {to}, expected floats or integers"
                        )));
                    }
                };
                let values = match constant.whole() {
                    Some(values) => values.to_vec(),
                    None => constant.floats().into_iter().map(|value| value.trunc() as i64).collect(),
                };
                let is_list = [element::INT32, element::INT64].contains(&data_type);
                let fits = |value: &i64| (least..=most).contains(value) || is_list && *value == PICTURES;
                if let Some(value) = values.iter().find(|value| !fits(value)) {
                    return Err(Fault::new(format!(
                        "it makes {value} an element of type {to}, expected {least} to {most}"
                    )));
                }
                let (elements, given) = (Elements::Integers(values), None);
                Ok(Value::Constant(Arc::new(Constant { elements, data_type, given, ..(*constant).clone() })))
            }
            value if is_float => Ok(value),
            _ => Err(Fault::new(format!("it makes an activation elements of type {to}, expected floats"))),
        }
    }

    /// The scale and the zero point of an activation's bytes, which have a sign if their zero point says so, or else if what is
    /// known says so.
    fn bytes(&self, node: Node<'a>, scale: usize, zero_point: usize, is_signed: Option<bool>) -> Result<Bytes, Fault> {
        node.expect("block_size", 0)?;
        let (scales, zeros) = (self.constant(node, scale)?, self.optional_constant(node, zero_point)?);
        let scale = match scales.floats()[..] {
            [scale] if (scale as f32) > 0.0 => scale as f32,
            ref other => {
                return Err(Fault::new(format!(
                    "the scale of an activation is {other:?}, expected one number above 0"
                )));
            }
        };
        let Some(zeros) = zeros else {
            let is_signed = is_signed.unwrap_or(false);
            return Ok(Bytes { grid: GivenGrid { scale, zero_point: if is_signed { 128 } else { 0 } }, is_signed });
        };
        let byte = match (zeros.whole(), zeros.data_type) {
            (Some([zero]), element::UINT8) => u8::try_from(*zero).ok(),
            (Some([zero]), element::INT8) => u8::try_from(zero.saturating_add(128)).ok(),
            _ => None,
        };
        let found = zeros.data_type;
        let zero_point = byte.ok_or_else(|| {
            Fault::new(format!(
                "the zero point of an activation is of type {found}, expected one uint8 (2) or int8 (3)"
            ))
        })?;
        Ok(Bytes { grid: GivenGrid { scale, zero_point }, is_signed: found == element::INT8 })
    }

    /// What a QuantizeLinear says of the type that it makes, besides its zero point.
    fn output_type(node: Node<'a>) -> Result<Option<i32>, Fault> {
        match i32::try_from(node.integer("output_dtype", 0)) {
            Ok(0) => Ok(None),
            Ok(kind @ (element::UINT8 | element::INT8)) => Ok(Some(kind)),
            _ => {
                let found = node.integer("output_dtype", 0);
                Err(Fault::new(format!("output_dtype is {found}, expected uint8 (2) or int8 (3)")))
            }
        }
    }

    fn quantize_linear(&mut self, node: Node<'a>) -> Result<Value, Fault> {
        match self.value(node, 0)?.clone() {
            Value::Tensor(tensor) => {
                let output = Self::output_type(node)?.map(|kind| kind == element::INT8);
                let bytes = self.bytes(node, 1, 2, output)?;
                of_one_type(output, bytes)?;
                Ok(Value::Tensor(self.builder.quantised(&tensor, bytes)?))
            }
            // What follows a softmax is left out as well.
            Value::Probabilities(tensor) => Ok(Value::Probabilities(tensor)),
            Value::Constant(constant) => {
                let (scale, zeros) = (self.constant(node, 1)?, self.optional_constant(node, 2)?);
                let given = zeros.as_ref().map(|zeros| zeros.data_type);
                let (low, high, data_type) = match (given, Self::output_type(node)?) {
                    (Some(element::INT8), None | Some(element::INT8)) | (None, Some(element::INT8)) => {
                        (-128, 127, element::INT8)
                    }
                    (Some(element::UINT8) | None, None | Some(element::UINT8)) => (0, 255, element::UINT8),
                    (given, output) => {
                        return Err(Fault::new(format!(
                            "its zero point is of type {}, and output_dtype {}, expected uint8 (2) or int8 (3) of both",
                            given.unwrap_or(0),
                            output.unwrap_or(0)
                        )));
                    }
                };
                let axis = axis_of(node, &constant.dims, &scale)?;
                let (scales, zeros) = steps(&scale, zeros.as_deref())?;
                self.builder.spend(constant.len())?;
                let quantised = constant.floats().into_iter().enumerate().map(|(index, value)| {
                    let steps = (value as f32 / scales[axis.place(index, scales.len())]).round_ties_even();
                    // Far beyond a byte already.
                    let steps = steps.clamp(-1e6, 1e6) as i64;
                    (steps + zeros[axis.place(index, zeros.len())]).clamp(low, high)
                });
                let (elements, given) = (Elements::Integers(quantised.collect()), None);
                Ok(Value::Constant(Arc::new(Constant { elements, data_type, given, ..(*constant).clone() })))
            }
        }
    }

    fn dequantize_linear(&mut self, node: Node<'a>) -> Result<Value, Fault> {
        self.dequantised(node, 0, 1, 2)
    }

    /// What an input stands for, given the places of its scale and zero point.
    fn dequantised(&mut self, node: Node<'a>, index: usize, scale: usize, zero: usize) -> Result<Value, Fault> {
        match self.value(node, index)?.clone() {
            Value::Tensor(tensor) => {
                let is_signed = self.builder.is_signed(&tensor);
                let bytes = self.bytes(node, scale, zero, is_signed)?;
                of_one_type(is_signed, bytes)?;
                Ok(Value::Tensor(self.builder.dequantised(&tensor, bytes.grid)?))
            }
            Value::Probabilities(tensor) => Ok(Value::Probabilities(tensor)),
            Value::Constant(constant) => {
                let (scale, zeros) = (self.constant(node, scale)?, self.optional_constant(node, zero)?);
                let axis = axis_of(node, &constant.dims, &scale)?;
                self.dequantised_constant(&constant, &scale, zeros.as_deref(), axis).map(Value::Constant)
            }
        }
    }

    fn dequantised_constant(
        &mut self,
        constant: &Constant,
        scale: &Constant,
        zeros: Option<&Constant>,
        axis: Axis,
    ) -> Result<Arc<Constant>, Fault> {
        let Some(values) = constant.whole() else {
            return Err(Fault::new("the bytes of a constant are floats, expected whole numbers"));
        };
        self.builder.spend(values.len().saturating_mul(3))?;
        if let Some(zeros) = zeros.filter(|zeros| zeros.data_type != constant.data_type) {
            let (of, zeros) = (constant.data_type, zeros.data_type);
            return Err(Fault::new(format!(
                "a constant of type {of} has zero points of type {zeros}, expected one type"
            )));
        }
        let (scale, zeros) = steps(scale, zeros)?;
        let counted: Vec<i64> =
            values.iter().enumerate().map(|(index, value)| value - zeros[axis.place(index, zeros.len())]).collect();
        let numbers =
            counted.iter().enumerate().map(|(index, value)| *value as f32 * scale[axis.place(index, scale.len())]);
        let floats = Constant::of_floats(constant.dims.clone(), numbers.collect());
        let given = GivenIntegers { values: counted, scale, axis: axis.number };
        Ok(Arc::new(Constant { given: Some(Arc::new(given)), ..floats }))
    }

    fn convolution(&mut self, node: Node<'a>) -> Result<Value, Fault> {
        let (input, weight) = (self.tensor(node, 0)?, self.constant(node, 1)?);
        let bias = self.optional_constant(node, 2)?;
        self.convolved(node, &input, &weight, bias.as_deref()).map(Value::Tensor)
    }

    fn convolved(
        &mut self,
        node: Node<'a>,
        input: &Tensor,
        weight: &Constant,
        bias: Option<&Constant>,
    ) -> Result<Tensor, Fault> {
        let [_, _, rows, columns] = weight.dims[..] else {
            return Err(Fault::new(format!("the weights are {:?}, expected two directions", weight.dims)));
        };
        if let Some(shape) = node.integers("kernel_shape").filter(|shape| **shape != [rows as i64, columns as i64]) {
            let weights = &weight.dims;
            return Err(Fault::new(format!("kernel_shape is {shape:?}, expected that of the weights, {weights:?}")));
        }
        if let Some(bias) = bias.filter(|bias| bias.dims != [weight.dims[0]]) {
            return Err(Fault::new(format!("the bias is {:?}, expected [{}]", bias.dims, weight.dims[0])));
        }
        let (stride, dilation) = (node.pair("strides", Some(1))?, node.pair("dilations", Some(1))?);
        let apart = |size: usize, dilation: usize| size.saturating_sub(1).saturating_mul(dilation).saturating_add(1);
        let kernel = [apart(rows, dilation[0]), apart(columns, dilation[1])];
        let [top, left, bottom, right] = input.padding;
        let size = [input.shape.height + top + bottom, input.shape.width + left + right];
        let padding = node.padding(size, kernel, stride)?;
        let groups = usize::try_from(node.integer("group", 1)).unwrap_or(0);
        self.builder.conv(input, weight, bias, Running { groups, stride, padding, dilation })
    }

    fn product(&mut self, node: Node<'a>) -> Result<Value, Fault> {
        let (input, weight) = (self.tensor(node, 0)?, self.constant(node, 1)?);
        let bias = self.optional_constant(node, 2)?;
        self.multiplied(node, &input, &weight, bias.as_deref()).map(Value::Tensor)
    }

    fn multiplied(
        &mut self,
        node: Node<'a>,
        input: &Tensor,
        weight: &Constant,
        bias: Option<&Constant>,
    ) -> Result<Tensor, Fault> {
        let (mut alpha, mut beta, mut transposed) = (1.0, 1.0, false);
        if node.0.op_type.ends_with("Gemm") {
            node.expect("transA", 0)?;
            alpha = node.float("alpha", 1.0);
            // The integers of a QGemm's third input are steps of the product with its alpha.
            beta = if node.0.op_type == "QGemm" { alpha } else { node.float("beta", 1.0) };
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
        if let Some(bias) = bias.filter(|bias| bias.dims.len() > 2 || bias.dims.last().unwrap_or(&1) != &bias.len()) {
            return Err(Fault::new(format!("the third input is {:?}, expected [{outputs}]", bias.dims)));
        }
        let values = floats(weight)?;
        self.builder.spend(values.len().saturating_mul(3))?;
        let axis = if transposed { 0 } else { 1 };
        let given = weight.given.as_ref().filter(|_| alpha == 1.0 && beta == 1.0);
        let given = given.and_then(|given| GivenSums::read(given, outputs, axis, bias));
        let rows = in_rows(&values, inputs, outputs, transposed).iter().map(|weight| weight * alpha).collect();
        let given = given
            .map(|given| GivenSums { weight: Arc::new(in_rows(&given.weight, inputs, outputs, transposed)), ..given });
        let bias = biases(bias, outputs)?.into_iter().map(|bias| bias * f64::from(beta)).collect();
        self.builder.linear(input, rows, bias, given)
    }

    fn batch_normalization(&mut self, node: Node<'a>) -> Result<Value, Fault> {
        node.expect("training_mode", 0)?;
        node.expect("spatial", 1)?;
        let outputs = node.0.output.iter().filter(|output| !output.is_empty()).count();
        if outputs > 1 {
            return Err(Fault::new(format!("it gives {outputs} outputs as in training, expected one")));
        }
        let mut numbers = Vec::new();
        for index in 1..5 {
            numbers.push(self.constant(node, index)?.floats());
        }
        let tensor = self.tensor(node, 0)?;
        let channels = tensor.shape.channels;
        if numbers.iter().any(|numbers| numbers.len() != channels) || !has_channels(&tensor) {
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
        self.builder.normalised(&tensor, Affine { scale, offset }, beta, gamma).map(Value::Tensor)
    }

    fn clamp(&mut self, node: Node<'a>, low: f64, high: f64) -> Result<Value, Fault> {
        let tensor = self.tensor(node, 0)?;
        self.builder.clamp(&tensor, low, high).map(Value::Tensor)
    }

    fn clip(&mut self, node: Node<'a>) -> Result<Value, Fault> {
        // Before version 11 of the operators the bounds were attributes.
        let bound = |index: usize, attribute: &str, none: f64| -> Result<f64, Fault> {
            let given = self.optional_constant(node, index)?.map(|constant| one_number(&constant)).transpose()?;
            Ok(given.or(node.optional_float(attribute).map(f64::from)).unwrap_or(none))
        };
        let (low, high) = (bound(1, "min", f64::NEG_INFINITY)?, bound(2, "max", f64::INFINITY)?);
        if low > high {
            return Err(Fault::new(format!("the bounds are {low} and {high}, expected the lower one first")));
        }
        self.clamp(node, low, high)
    }

    fn function(&mut self, node: Node<'a>, of: impl Fn(Arc<Function>) -> Function) -> Result<Value, Fault> {
        let tensor = self.tensor(node, 0)?;
        self.builder.function(&tensor, of).map(Value::Tensor)
    }

    fn gelu(&mut self, node: Node<'a>) -> Result<Value, Fault> {
        let is_tanh = match node.text("approximate") {
            b"" | b"none" => false,
            b"tanh" => true,
            other => {
                let other = String::from_utf8_lossy(other);
                return Err(Fault::new(format!("approximate is {other:?}, expected \"none\" or \"tanh\"")));
            }
        };
        let number = |value: f64| Arc::new(Function::Constant(value));
        let times = |a: Arc<Function>, b: Arc<Function>| Arc::new(Function::Multiply(a, b));
        self.function(node, |x| {
            let inner = if is_tanh {
                let cube = times(times(x.clone(), x.clone()), times(x.clone(), number(0.044_715)));
                let sum = Arc::new(Function::Add(x.clone(), cube));
                Function::Tanh(times(sum, number((2.0 / std::f64::consts::PI).sqrt())))
            } else {
                Function::Erf(times(x.clone(), number(std::f64::consts::FRAC_1_SQRT_2)))
            };
            let share = Arc::new(Function::Add(Arc::new(inner), number(1.0)));
            Function::Multiply(times(x, number(0.5)), share)
        })
    }

    /// The window of a pool; where the last one is not whole and counts, what it lacks is put below and right.
    fn window(&self, node: Node<'a>, over: &Tensor) -> Result<(Window, bool), Fault> {
        let kernel = node.pair("kernel_shape", None)?;
        let (stride, dilation) = (node.pair("strides", Some(1))?, node.pair("dilations", Some(1))?);
        if dilation != [1; 2] {
            return Err(Fault::new(format!("dilations are {dilation:?}, expected 1")));
        }
        let over = channels_first(over.clone())?;
        let size = [over.shape.height, over.shape.width];
        let mut padding = node.padding(size, kernel, stride)?;
        let mut is_cut = false;
        if node.integer("ceil_mode", 0) != 0 {
            for direction in 0..2 {
                let padded = size[direction] + padding[direction] + padding[direction + 2];
                let Some(rest) = padded.checked_sub(kernel[direction]) else { continue };
                let last = rest.div_ceil(stride[direction]) * stride[direction];
                // A window that begins beyond what there is does not count.
                if last > rest && last < size[direction] + padding[direction] {
                    padding[direction + 2] += last - rest;
                    is_cut = true;
                }
            }
        }
        if is_cut && node.text("auto_pad") == b"VALID" {
            return Err(Fault::new(
                "ceil_mode is 1 and auto_pad \"VALID\", expected one of them, as they contradict each other",
            ));
        }
        Ok((Window { kernel, stride, padding }, is_cut))
    }

    fn max_pool(&mut self, node: Node<'a>) -> Result<Value, Fault> {
        let tensor = self.any_tensor(node, 0)?;
        let (window, _) = self.window(node, &tensor)?;
        self.builder.max_pool(&tensor, window).map(Value::Tensor)
    }

    fn average_pool(&mut self, node: Node<'a>, tensor: &Tensor) -> Result<Tensor, Fault> {
        let (window, is_cut) = self.window(node, tensor)?;
        let counts = node.integer("count_include_pad", 0) != 0;
        if is_cut || !counts && window.padding != [0; 4] {
            return Err(Fault::new(format!(
                "pads are {:?} and ceil_mode is {}, and what is outside is left out of the mean; expected windows that lie \
                 within, or count_include_pad 1",
                window.padding,
                node.integer("ceil_mode", 0)
            )));
        }
        self.builder.average_pool(tensor, window)
    }

    /// A mean over rows and columns.
    fn reduce_mean(&mut self, node: Node<'a>, tensor: &Tensor) -> Result<Tensor, Fault> {
        let layout = tensor.layout;
        let input = if node.0.op_type == "ReduceMean" { 1 } else { usize::MAX };
        let given = self.numbers(node, "axes", input)?.unwrap_or_default();
        let mut axes: Vec<i64> = given.iter().map(|axis| from_start(*axis, 4)).collect();
        axes.sort_unstable();
        let expected = if layout == Layout::Nhwc { [1, 2] } else { [2, 3] };
        if !matches!(layout, Layout::Nchw | Layout::Nhwc) || axes != expected {
            return Err(Fault::new(format!(
                "its axes are {given:?}, expected rows and columns of a {layout:?} activation"
            )));
        }
        let pooled = self.builder.average_pool(tensor, whole(tensor)?)?;
        if node.integer("keepdims", 1) != 0 {
            return Ok(pooled);
        }
        Ok(Tensor { layout: pooled.layout.flat(), ..pooled })
    }

    fn arithmetic(&mut self, node: Node<'a>, operation: Arithmetic) -> Result<Value, Fault> {
        let count = node.0.input.len();
        if count == 0 || count > 2 && operation == Arithmetic::Subtract {
            return Err(Fault::new(format!("found {count} inputs, expected 2")));
        }
        let mut found = self.value(node, 0)?.clone();
        for index in 1..count {
            let next = self.value(node, index)?.clone();
            found = self.combined(found, next, operation)?;
        }
        Ok(found)
    }

    fn combined(&mut self, left: Value, right: Value, operation: Arithmetic) -> Result<Value, Fault> {
        match (left, right) {
            (Value::Constant(left), Value::Constant(right)) => folded(&left, &right, operation),
            // Whole numbers would have results of their own type.
            (_, Value::Constant(constant)) | (Value::Constant(constant), _) if constant.whole().is_some() => {
                Err(Fault::new("it joins an activation and whole numbers, expected floats"))
            }
            (value, Value::Constant(constant)) => self.affine(value, &constant, operation),
            (Value::Constant(constant), value) => match operation {
                Arithmetic::Subtract => {
                    let value = self.affine(value, &Constant::of_floats(vec![], vec![-1.0]), Arithmetic::Multiply)?;
                    self.affine(value, &constant, Arithmetic::Add)
                }
                Arithmetic::Divide => {
                    let number = one_number(&constant)?;
                    let Value::Tensor(tensor) = value else { return Err(unexpected(&value, "an activation")) };
                    let of = |x| Function::Divide(Arc::new(Function::Constant(number)), x);
                    self.builder.function(&tensor, of).map(Value::Tensor)
                }
                _ => self.affine(value, &constant, operation),
            },
            (Value::Tensor(left), Value::Tensor(right)) => {
                let of_one = |operation: fn(Arc<Function>, Arc<Function>) -> Function| operation;
                let result = match operation {
                    Arithmetic::Add => self.builder.add(&left, &right)?,
                    Arithmetic::Multiply => self.builder.multiply(&left, &right)?,
                    Arithmetic::Subtract => {
                        let minus =
                            Affine { scale: vec![-1.0; right.shape.channels], offset: vec![0.0; right.shape.channels] };
                        let right = self.builder.affine(&right, minus)?;
                        self.builder.add(&left, &right)?
                    }
                    Arithmetic::Divide | Arithmetic::Least | Arithmetic::Greatest => {
                        let operation = of_one(match operation {
                            Arithmetic::Divide => Function::Divide,
                            Arithmetic::Least => Function::Least,
                            _ => Function::Greatest,
                        });
                        self.builder.of_one(&left, &right, operation)?.ok_or_else(|| {
                            Fault::new("it joins two activations, expected an activation and a constant")
                        })?
                    }
                };
                Ok(Value::Tensor(result))
            }
            (left, right) => {
                Err(Fault::new(format!("it joins {} and {}, expected activations", kind_of(&left), kind_of(&right))))
            }
        }
    }

    /// A value combined with a constant.
    fn affine(&mut self, value: Value, constant: &Constant, operation: Arithmetic) -> Result<Value, Fault> {
        let Value::Tensor(tensor) = value else { return Err(unexpected(&value, "an activation")) };
        let (dims, found) = (tensor.layout.dims(tensor.shape), &constant.dims);
        if found.len() > dims.len() {
            return Err(Fault::new(format!("a constant of {found:?} meets {dims:?}, expected no more dimensions")));
        }
        if let Arithmetic::Least | Arithmetic::Greatest = operation {
            let number = one_number(constant)?;
            let clamped = match operation {
                Arithmetic::Least => self.builder.clamp(&tensor, f64::NEG_INFINITY, number)?,
                _ => self.builder.clamp(&tensor, number, f64::INFINITY)?,
            };
            return Ok(Value::Tensor(clamped));
        }
        self.builder.spend(4 * constant.len().max(tensor.shape.channels))?;
        let numbers = tensor.layout.broadcast(tensor.shape, constant)?;
        let count = numbers.len();
        let affine = match operation {
            Arithmetic::Multiply => Affine { scale: numbers, offset: vec![0.0; count] },
            Arithmetic::Divide if numbers.contains(&0.0) => return Err(Fault::new("it divides by 0")),
            Arithmetic::Divide => {
                Affine { scale: numbers.iter().map(|number| 1.0 / number).collect(), offset: vec![0.0; count] }
            }
            Arithmetic::Subtract => {
                Affine { scale: vec![1.0; count], offset: numbers.iter().map(|number| -number).collect() }
            }
            _ => Affine { scale: vec![1.0; count], offset: numbers },
        };
        self.builder.affine(&tensor, affine).map(Value::Tensor)
    }

    fn concat(&mut self, node: Node<'a>) -> Result<Value, Fault> {
        let tensors =
            (0..node.0.input.len()).map(|index| self.any_tensor(node, index)).collect::<Result<Vec<_>, _>>()?;
        self.joined(node, &tensors).map(Value::Tensor)
    }

    fn joined(&mut self, node: Node<'a>, tensors: &[Tensor]) -> Result<Tensor, Fault> {
        let Some(first) = tensors.first() else { return Err(Fault::new("it joins nothing")) };
        let axis = from_start(node.integer("axis", 1), first.layout.dims(first.shape).len());
        let expected = if first.layout == Layout::Nhwc { 3 } else { 1 };
        let is_whole =
            |tensor: &Tensor| matches!(tensor.layout, Layout::Nchw | Layout::Nhwc) || tensor.shape.plane() == 1;
        if axis != expected || !tensors.iter().all(is_whole) {
            return Err(Fault::new(format!("its axis is {axis}, expected that of channels, {expected}")));
        }
        if tensors.len() == 1 { Ok(first.clone()) } else { self.builder.concat(tensors) }
    }

    /// An operator that reads and gives bytes.
    fn quantised_operator(&mut self, node: Node<'a>) -> Result<Value, Fault> {
        let operator = node.0.op_type.as_str();
        node.expect("channels_last", 0)?;
        if operator == "QLinearConcat" {
            let bytes = self.bytes(node, 0, 1, None)?;
            let mut tensors = Vec::new();
            for index in (2..node.0.input.len()).step_by(3) {
                match self.dequantised(node, index, index + 1, index + 2)? {
                    Value::Tensor(tensor) => tensors.push(tensor),
                    other => return Err(unexpected(&other, "an activation")),
                }
            }
            let joined = self.joined(node, &tensors)?;
            return self.builder.quantised(&joined, bytes).map(Value::Tensor);
        }
        let is_signed = match self.value(node, 0)? {
            Value::Tensor(tensor) => self.builder.is_signed(tensor),
            _ => None,
        };
        let read = match self.dequantised(node, 0, 1, 2)? {
            Value::Tensor(tensor) => tensor,
            other => return Err(unexpected(&other, "an activation")),
        };
        let (found, output) = match operator {
            "QLinearConv" | "QLinearMatMul" | "QGemm" => {
                let (integers, scale) = (self.constant(node, 3)?, self.constant(node, 4)?);
                let zeros = self.optional_constant(node, 5)?;
                // Scales are of output channels: of the columns of a matrix that is not turned, else of the rows.
                let by_column = operator != "QLinearConv" && node.integer("transB", 0) == 0;
                let axis = Axis::new(&integers.dims, if by_column { 1 } else { 0 }, scale.len())?;
                let weight = self.dequantised_constant(&integers, &scale, zeros.as_deref(), axis)?;
                let bias = if operator == "QLinearConv" { 8 } else { 6 };
                let bias = if operator == "QLinearMatMul" { None } else { self.optional_constant(node, bias)? };
                let bias = match bias {
                    None => None,
                    Some(bias) => {
                        let before = self.constant(node, 1)?.floats().first().copied().unwrap_or(1.0) as f32;
                        let scales = scale.floats().into_iter().map(|scale| before * scale as f32).collect();
                        let scales = Constant::of_floats(vec![scale.len()], scales);
                        let axis = Axis::new(&bias.dims, 0, scales.len())?;
                        Some(self.dequantised_constant(&bias, &scales, None, axis)?)
                    }
                };
                if operator == "QLinearConv" {
                    (self.convolved(node, &read, &weight, bias.as_deref())?, Some((6, 7)))
                } else {
                    let output = if operator == "QGemm" { (7, 8) } else { (6, 7) };
                    let found = self.multiplied(node, &read, &weight, bias.as_deref())?;
                    // A QGemm without a scale and a zero point gives numbers.
                    match [output.0, output.1].map(|at| node.input(at).is_some()) {
                        [true, true] => (found, Some(output)),
                        [false, false] => (found, None),
                        _ => {
                            return Err(Fault::new(
                                "it has one of the output's scale and zero point, expected both or none",
                            ));
                        }
                    }
                }
            }
            "QLinearAdd" | "QLinearMul" => {
                let operation = if operator == "QLinearAdd" { Arithmetic::Add } else { Arithmetic::Multiply };
                let other = self.dequantised(node, 3, 4, 5)?;
                match self.combined(Value::Tensor(read), other, operation)? {
                    Value::Tensor(found) => (found, Some((6, 7))),
                    other => return Err(unexpected(&other, "an activation")),
                }
            }
            "QLinearSigmoid" => (self.builder.function(&read, Function::Sigmoid)?, Some((3, 4))),
            "QLinearLeakyRelu" => {
                let alpha = f64::from(node.float("alpha", 0.01));
                (self.builder.function(&read, |x| Function::LeakyRelu(alpha, x))?, Some((3, 4)))
            }
            "QLinearSoftmax" => return softmax(node, read, node.integer("opset", 0), -1).map(Value::Probabilities),
            _ => {
                let found = match operator {
                    "QLinearAveragePool" => self.average_pool(node, &read)?,
                    "QLinearReduceMean" => self.reduce_mean(node, &read)?,
                    _ => {
                        let read = channels_first(read)?;
                        self.builder.average_pool(&read, whole(&read)?)?
                    }
                };
                (found, Some((3, 4)))
            }
        };
        match output {
            None => Ok(Value::Tensor(found)),
            Some((scale, zero_point)) => {
                let bytes = self.bytes(node, scale, zero_point, is_signed)?;
                self.builder.quantised(&found, bytes).map(Value::Tensor)
            }
        }
    }

    fn transpose(&mut self, node: Node<'a>) -> Result<Value, Fault> {
        let perm = node.integers("perm");
        match self.value(node, 0)?.clone() {
            Value::Constant(constant) => self.turned_constant(&constant, perm),
            value => {
                let (_, layout) = shape_of(&value)?;
                with_layout(value, layout.transposed(perm.unwrap_or_default())?)
            }
        }
    }

    /// A constant with its dimensions in another order, such as kernels of TensorFlow.
    fn turned_constant(&mut self, constant: &Constant, perm: Option<&[i64]>) -> Result<Value, Fault> {
        let dims = &constant.dims;
        let order: Option<Vec<usize>> = perm.map_or(Some((0..dims.len()).rev().collect()), |perm| {
            perm.iter().map(|axis| usize::try_from(*axis).ok()).collect()
        });
        let is_whole = |order: &Vec<usize>| {
            let mut seen = order.clone();
            seen.sort_unstable();
            seen == (0..dims.len()).collect::<Vec<_>>()
        };
        let Some(order) = order.filter(is_whole) else {
            return Err(Fault::new(format!("it permutes a constant of {dims:?} by {perm:?}")));
        };
        self.builder.spend(constant.len().saturating_mul(3))?;
        let elements = match &constant.elements {
            Elements::Floats(values) => Elements::Floats(permuted(values, dims, &order)),
            Elements::Integers(values) => Elements::Integers(permuted(values, dims, &order)),
        };
        let given = constant.given.as_ref().map(|given| {
            Arc::new(GivenIntegers {
                values: permuted(&given.values, dims, &order),
                scale: given.scale.clone(),
                axis: order.iter().position(|axis| *axis == given.axis).unwrap_or(given.axis),
            })
        });
        let dims = order.iter().map(|axis| dims[*axis]).collect();
        Ok(Value::Constant(Arc::new(Constant { dims, elements, given, data_type: constant.data_type })))
    }

    /// Flatten, Reshape, Squeeze and Unsqueeze: other dimensions, the same elements.
    fn reshape(&mut self, node: Node<'a>) -> Result<Value, Fault> {
        let value = self.value(node, 0)?.clone();
        let dims: Vec<i64> = match &value {
            Value::Constant(constant) => constant.dims.iter().map(|dim| *dim as i64).collect(),
            other => {
                let (shape, layout) = shape_of(other)?;
                [&[PICTURES], &layout.dims(shape)[1..]].concat()
            }
        };
        let place = |axis: i64, rank: usize| {
            let place = usize::try_from(from_start(axis, rank)).ok().filter(|place| *place < rank);
            let expected =
                || format!("it names axis {axis} of {rank} dimensions, expected -{rank} to {}", rank as i64 - 1);
            place.ok_or_else(|| {
                Fault::new(if rank == 0 { format!("it names axis {axis} of no dimensions") } else { expected() })
            })
        };
        let target = match node.0.op_type.as_str() {
            "Flatten" => {
                let axis = node.integer("axis", 1);
                let rest = dims.get(1..).filter(|_| from_start(axis, dims.len()) == 1);
                let Some(rest) = rest else {
                    let last = 1 - dims.len() as i64;
                    let expected = if dims.is_empty() { "some dimensions".into() } else { format!("1 or {last}") };
                    return Err(Fault::new(format!(
                        "axis is {axis} of {} dimensions, expected {expected}",
                        dims.len()
                    )));
                };
                vec![dims[0], rest.iter().product()]
            }
            "Reshape" => {
                let shape = self.constant(node, 1)?.whole().unwrap_or_default().to_vec();
                if shape.contains(&0) {
                    node.expect("allowzero", 0)?;
                }
                shape
            }
            "Squeeze" => {
                let axes = match self.numbers(node, "axes", 1)? {
                    Some(axes) => axes.iter().map(|axis| place(*axis, dims.len())).collect::<Result<Vec<_>, _>>()?,
                    None => (0..dims.len()).filter(|axis| dims[*axis] == 1).collect(),
                };
                if let Some(axis) = axes.iter().find(|axis| dims[**axis] != 1) {
                    let dims = shown(&dims);
                    return Err(Fault::new(format!("it leaves out axis {axis} of {dims:?}, expected one of size 1")));
                }
                (0..dims.len()).filter(|axis| !axes.contains(axis)).map(|axis| dims[axis]).collect()
            }
            _ => {
                let Some(given) = self.numbers(node, "axes", 1)? else { return Err(Fault::new("it names no axes")) };
                let rank = dims.len() + given.len();
                let axes = given.iter().map(|axis| place(*axis, rank)).collect::<Result<Vec<_>, _>>()?;
                once_each(&given, &axes)?;
                let mut rest = dims.iter();
                (0..rank).map(|axis| if axes.contains(&axis) { 1 } else { rest.next().copied().unwrap_or(1) }).collect()
            }
        };
        match value {
            Value::Constant(constant) => {
                let dims = sizes(&constant.dims, &target).filter(|dims| dims.len() <= 16).ok_or_else(|| {
                    Fault::new(format!("it reshapes a constant of {:?} to {:?}", constant.dims, shown(&target)))
                })?;
                self.builder.spend(constant.len())?;
                let given = constant
                    .given
                    .clone()
                    .filter(|given| given.scale.len() == 1 || dims.first() == constant.dims.first() && given.axis == 0);
                Ok(Value::Constant(Arc::new(Constant { dims, given, ..(*constant).clone() })))
            }
            value => {
                let (shape, layout) = shape_of(&value)?;
                with_layout(value, layout.reshaped(shape, self.pictures, &target)?)
            }
        }
    }

    fn shape(&mut self, node: Node<'a>) -> Result<Value, Fault> {
        let (shape, layout) = shape_of(self.value(node, 0)?)?;
        let dims = [&[PICTURES], &layout.dims(shape)[1..]].concat();
        let place = |at: i64| from_start(at, dims.len()).clamp(0, dims.len() as i64) as usize;
        let (start, end) = (place(node.integer("start", 0)), place(node.integer("end", dims.len() as i64)));
        Ok(Value::Constant(Arc::new(Constant::integers(dims.get(start..end).unwrap_or_default().to_vec()))))
    }

    /// What is done to lists of dimensions.
    fn integers(&mut self, node: Node<'a>) -> Result<Value, Fault> {
        let list = |index: usize| -> Result<Vec<i64>, Fault> {
            let constant = self.constant(node, index)?;
            let whole = constant.whole().filter(|whole| whole.len() <= 16 && constant.dims.len() <= 1);
            whole.map(<[i64]>::to_vec).ok_or_else(|| {
                Fault::new(format!(
                    "input {index} is a constant of {:?}, expected a list of at most 16 whole numbers",
                    constant.dims
                ))
            })
        };
        let first = list(0)?;
        let place = |at: i64| from_start(at, first.len());
        let mut dims = None;
        let found = match node.0.op_type.as_str() {
            "Gather" => {
                dims = Some(self.constant(node, 1)?.dims.clone());
                let taken = list(1)?.into_iter().map(|at| {
                    let found = usize::try_from(place(at)).ok().and_then(|index| first.get(index));
                    found.copied().ok_or_else(|| {
                        Fault::new(format!("it takes number {at} of {} dimensions, which is not there", first.len()))
                    })
                });
                taken.collect::<Result<Vec<i64>, Fault>>()?
            }
            "Slice" => {
                let (starts, ends) = (list(1)?, list(2)?);
                if node.input(4).is_some() && list(4)? != [1] {
                    return Err(Fault::new(format!("its steps are {:?}, expected 1", list(4)?)));
                }
                if node.input(3).is_some() && ![[0], [-1]].contains(&<[i64; 1]>::try_from(list(3)?).unwrap_or([1])) {
                    return Err(Fault::new(format!("its axes are {:?}, expected 0", list(3)?)));
                }
                let ([start], [end]) = (&starts[..], &ends[..]) else {
                    return Err(Fault::new(format!(
                        "it starts at {starts:?} and ends at {ends:?}, expected a number each"
                    )));
                };
                let within = |at: i64| place(at).clamp(0, first.len() as i64) as usize;
                first.get(within(*start)..within(*end)).unwrap_or_default().to_vec()
            }
            _ => {
                let mut all = first.clone();
                for index in 1..node.0.input.len() {
                    all.extend(list(index)?);
                    if all.len() > 16 {
                        return Err(Fault::new(
                            "it joins more than 16 numbers, expected the dimensions of an activation",
                        ));
                    }
                }
                all
            }
        };
        let found = Constant::integers(found);
        Ok(Value::Constant(Arc::new(Constant { dims: dims.unwrap_or(found.dims.clone()), ..found })))
    }

    /// Zeros around rows and columns, which a convolution after them takes over.
    fn pad(&mut self, node: Node<'a>) -> Result<Value, Fault> {
        let Some(pads) = self.numbers(node, "pads", 1)? else { return Err(Fault::new("it has no pads")) };
        let pads = match self.optional_constant(node, 3)? {
            Some(axes) => pads_of_all(&pads, axes.whole().unwrap_or_default())?,
            None => pads,
        };
        let value = self.value(node, 0)?.clone();
        if pads.iter().all(|pad| *pad == 0) {
            return Ok(value);
        }
        let fill = match self.optional_constant(node, 2)? {
            Some(fill) => one_number(&fill)?,
            None => f64::from(node.float("value", 0.0)),
        };
        let mode = node.text("mode");
        let Value::Tensor(tensor) = value else { return Err(unexpected(&value, "an activation")) };
        let sizes =
            |pads: &[i64]| pads.iter().map(|pad| usize::try_from(*pad).ok().filter(|pad| *pad < 1 << 12)).collect();
        let sizes: Option<Vec<usize>> = sizes(&pads);
        let padding = match (tensor.layout, sizes.as_deref()) {
            (Layout::Nchw, Some([0, 0, top, left, 0, 0, bottom, right]))
            | (Layout::Nhwc, Some([0, top, left, 0, 0, bottom, right, 0])) => Some([*top, *left, *bottom, *right]),
            _ => None,
        };
        let (Some(padding), true, None, true) =
            (padding, fill == 0.0, tensor.bytes, mode.is_empty() || mode == b"constant")
        else {
            return Err(Fault::new(format!(
                "its pads are {pads:?}, its mode {:?} and what it fills with {fill}, expected zeros around rows and columns",
                String::from_utf8_lossy(mode)
            )));
        };
        let mut all = tensor.padding;
        all.iter_mut().zip(padding).for_each(|(all, more)| *all += more);
        Ok(Value::Tensor(Tensor { padding: all, ..tensor }))
    }
}

/// A place of so many, which is counted from the end where it is less than 0.
fn from_start(place: i64, count: usize) -> i64 {
    if place < 0 { place.saturating_add(count as i64) } else { place }
}

/// Refuses axes of which one is named twice.
fn once_each(axes: &[i64], places: &[usize]) -> Result<(), Fault> {
    if (1..places.len()).all(|index| !places[..index].contains(&places[index])) {
        return Ok(());
    }
    Err(Fault::new(format!("its axes are {axes:?}, expected each of them once")))
}

/// The sizes of a constant's dimensions after they are changed to others, of which one may be -1 for what is left, and 0 keeps one.
fn sizes(dims: &[usize], target: &[i64]) -> Option<Vec<usize>> {
    let known = |(place, size): (usize, &i64)| match size {
        -1 => Some(1),
        0 => dims.get(place).copied(),
        size => usize::try_from(*size).ok(),
    };
    let mut sizes = target.iter().enumerate().map(known).collect::<Option<Vec<usize>>>()?;
    let count = |sizes: &[usize]| sizes.iter().try_fold(1usize, |all, size| all.checked_mul(*size));
    let (all, found) = (count(dims)?, count(&sizes)?);
    let mut open = target.iter().zip(&mut sizes).filter(|(size, _)| **size == -1);
    if let Some((_, size)) = open.next() {
        *size = all.checked_div(found)?;
    }
    let is_one = open.next().is_none();
    (is_one && count(&sizes)? == all).then_some(sizes)
}

/// The pads of all four dimensions, of which only those of some axes are given.
fn pads_of_all(pads: &[i64], axes: &[i64]) -> Result<Vec<i64>, Fault> {
    let mut all = vec![0; 8];
    let places = axes.iter().map(|axis| usize::try_from(from_start(*axis, 4)).ok());
    let places: Option<Vec<usize>> = places.map(|place| place.filter(|place| *place < 4)).collect();
    match places {
        Some(places) if !places.is_empty() && pads.len() == 2 * places.len() => {
            once_each(axes, &places)?;
            for (index, &place) in places.iter().enumerate() {
                all[place] = pads[index];
                all[4 + place] = pads[places.len() + index];
            }
            Ok(all)
        }
        _ => Err(Fault::new(format!(
            "its axes are {axes:?} with the pads {pads:?}, expected two pads for each of four axes"
        ))),
    }
}

/// The axis of a constant along which scales differ.
#[derive(Debug, Clone, Copy)]
struct Axis {
    number: usize,
    size: usize,
    /// How many elements lie between two places.
    stride: usize,
}

impl Axis {
    fn new(dims: &[usize], number: usize, scales: usize) -> Result<Self, Fault> {
        if scales == 1 {
            return Ok(Self { number: 0, size: 1, stride: 1 });
        }
        match dims.get(number) {
            Some(size) if *size == scales => {
                Ok(Self { number, size: *size, stride: dims[number + 1..].iter().product::<usize>().max(1) })
            }
            _ => Err(Fault::new(format!(
                "a constant of {dims:?} has {scales} scales along axis {number}, expected one, or one for each place there"
            ))),
        }
    }

    /// Which of so many values an element has.
    fn place(self, element: usize, values: usize) -> usize {
        if values == 1 { 0 } else { element / self.stride % self.size }
    }
}

fn axis_of(node: Node, dims: &[usize], scale: &Constant) -> Result<Axis, Fault> {
    node.expect("block_size", 0)?;
    let axis = node.integer("axis", 1);
    // Of what has one dimension, such as biases, that one is meant.
    let axis = if dims.len() == 1 { 0 } else { from_start(axis, dims.len()) };
    Axis::new(dims, usize::try_from(axis).unwrap_or(usize::MAX), scale.len())
}

/// Elements with their dimensions in another order.
fn permuted<T: Copy>(values: &[T], dims: &[usize], order: &[usize]) -> Vec<T> {
    let mut strides = vec![1; dims.len()];
    for axis in (1..dims.len()).rev() {
        strides[axis - 1] = strides[axis] * dims[axis];
    }
    let of_place = |mut place: usize| {
        let mut from = 0;
        for axis in order.iter().rev() {
            from += place % dims[*axis] * strides[*axis];
            place /= dims[*axis];
        }
        values[from]
    };
    (0..values.len()).map(of_place).collect()
}

/// A matrix's rows as columns.
fn turned<T: Copy>(values: &[T], rows: usize, columns: usize) -> Vec<T> {
    (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column])).collect()
}

/// Weights as a row for each output.
fn in_rows<T: Copy>(values: &[T], inputs: usize, outputs: usize, transposed: bool) -> Vec<T> {
    if transposed { values.to_vec() } else { turned(values, inputs, outputs) }
}

/// `min(max(alpha * x + beta, 0), 1)`
fn hard_sigmoid(x: Arc<Function>, alpha: f64, beta: f64) -> Function {
    let number = |value: f64| Arc::new(Function::Constant(value));
    let scaled = Function::Multiply(x, number(alpha));
    let moved = Function::Add(Arc::new(scaled), number(beta));
    Function::Least(Arc::new(Function::Greatest(Arc::new(moved), number(0.0))), number(1.0))
}

/// An activation of channels, rows and columns in this order, as operators over rows and columns take them.
fn channels_first(tensor: Tensor) -> Result<Tensor, Fault> {
    match tensor.layout {
        Layout::Nchw => Ok(tensor),
        other => Err(Fault::new(format!("it runs over {other:?}, expected Nchw"))),
    }
}

/// What a softmax over all classes reads; before version 13 it was over all dimensions from an axis on.
fn softmax(node: Node, tensor: Tensor, version: i64, axis: i64) -> Result<Tensor, Fault> {
    let dims = tensor.layout.dims(tensor.shape);
    let axis = node.integer("axis", axis);
    let place = usize::try_from(from_start(axis, dims.len())).ok().filter(|place| (1..dims.len()).contains(place));
    let over = place.map(|place| if version < 13 { &dims[place..] } else { &dims[place..=place] });
    if over.is_some_and(|over| over.iter().product::<i64>() == tensor.shape.elements() as i64) {
        return Ok(tensor);
    }
    Err(Fault::new(format!("it is over axis {axis} of {dims:?}, expected that of all classes")))
}

/// Refuses bytes with a sign for such without, and the reverse.
fn of_one_type(is_signed: Option<bool>, bytes: Bytes) -> Result<(), Fault> {
    let text = |is_signed: bool| if is_signed { "int8 (3)" } else { "uint8 (2)" };
    match is_signed {
        Some(expected) if expected != bytes.is_signed => Err(Fault::new(format!(
            "its zero point is {}, expected {} as its bytes are",
            text(bytes.is_signed),
            text(expected)
        ))),
        _ => Ok(()),
    }
}

/// Scales, and one zero point for all or each of them.
fn steps(scale: &Constant, zeros: Option<&Constant>) -> Result<(Vec<f32>, Vec<i64>), Fault> {
    let scale: Vec<f32> = scale.floats().into_iter().map(|scale| scale as f32).collect();
    let zeros = match zeros {
        None => vec![0],
        Some(zeros) => zeros.whole().ok_or_else(|| Fault::new("a zero point is no whole number"))?.to_vec(),
    };
    if ![1, scale.len()].contains(&zeros.len()) || !scale.iter().all(|scale| *scale > 0.0 && scale.is_finite()) {
        return Err(Fault::new(format!(
            "a constant has {} scales and {} zero points, expected as many, and scales above 0",
            scale.len(),
            zeros.len()
        )));
    }
    Ok((scale, zeros))
}

/// Refuses to compute with the number of pictures.
fn known(constant: &Constant) -> Result<(), Fault> {
    if constant.whole().is_some_and(|numbers| numbers.contains(&PICTURES)) {
        return Err(Fault::new("it computes with the number of pictures, expected a number that is known"));
    }
    Ok(())
}

/// A window over all rows and columns.
fn whole(tensor: &Tensor) -> Result<Window, Fault> {
    let Shape { height, width, .. } = tensor.shape;
    if !matches!(tensor.layout, Layout::Nchw | Layout::Nhwc) {
        return Err(Fault::new(format!("it runs over {:?}, expected rows and columns", tensor.layout)));
    }
    Ok(Window { kernel: [height, width], stride: [1; 2], padding: [0; 4] })
}

/// Whether the second dimension of a tensor is its channels.
fn has_channels(tensor: &Tensor) -> bool {
    let is_second = tensor.layout.dims(tensor.shape)[1] == tensor.shape.channels as i64;
    tensor.layout == Layout::Nchw || tensor.shape.plane() == 1 && is_second
}

fn one_number(constant: &Constant) -> Result<f64, Fault> {
    match constant.floats()[..] {
        [number] => Ok(number),
        _ => Err(Fault::new(format!("a constant is {:?}, expected one number", constant.dims))),
    }
}

/// A node's name, or that of its output where it has none.
pub fn name_of(node: &NodeProto) -> String {
    if node.name.is_empty() { node.output.first().cloned().unwrap_or_default() } else { node.name.clone() }
}

/// Two constants, one of them a single number.
fn folded(left: &Constant, right: &Constant, operation: Arithmetic) -> Result<Value, Fault> {
    known(left)?;
    known(right)?;
    let is_byte = |constant: &Constant| [element::UINT8, element::INT8, element::BOOL].contains(&constant.data_type);
    if is_byte(left) || is_byte(right) {
        return Err(Fault::new("it combines bytes, expected floats or integers of 32 or 64 bits"));
    }
    let (a, b) = (left.floats(), right.floats());
    let count = a.len().max(b.len());
    // What is repeated along some dimensions only is in no network that is known.
    let dims = broadcast(&left.dims, &right.dims).filter(|dims| {
        dims.iter().product::<usize>() == count && [a.len(), b.len()].iter().all(|length| [1, count].contains(length))
    });
    let Some(dims) = dims.filter(|_| count > 0) else {
        return Err(Fault::new(format!(
            "it combines constants of {:?} and {:?}, expected the same number of elements in the same places, or one",
            left.dims, right.dims
        )));
    };
    let of = |values: &[f64], index: usize| values[if values.len() == 1 { 0 } else { index }];
    let combined: Vec<f64> = (0..count)
        .map(|index| {
            let (a, b) = (of(&a, index), of(&b, index));
            match operation {
                Arithmetic::Add => a + b,
                Arithmetic::Subtract => a - b,
                Arithmetic::Multiply => a * b,
                Arithmetic::Divide => a / b,
                Arithmetic::Least => a.min(b),
                Arithmetic::Greatest => a.max(b),
            }
        })
        .collect();
    if !combined.iter().all(|value| (*value as f32).is_finite()) {
        return Err(Fault::new("the result is no finite number"));
    }
    // Lists of dimensions stay whole numbers.
    let constant = match (left.whole(), right.whole()) {
        (Some(_), Some(_)) => {
            Constant { dims, ..Constant::integers(combined.iter().map(|value| *value as i64).collect()) }
        }
        _ => Constant::of_floats(dims, combined.into_iter().map(|value| value as f32).collect()),
    };
    Ok(Value::Constant(Arc::new(constant)))
}

/// The dimensions of what is made of both element by element, their last ones side by side; where one is 1, it is repeated.
fn broadcast(left: &[usize], right: &[usize]) -> Option<Vec<usize>> {
    let count = left.len().max(right.len());
    let of = |dims: &[usize], index: usize| (index + dims.len()).checked_sub(count).map_or(1, |index| dims[index]);
    (0..count)
        .map(|index| match (of(left, index), of(right, index)) {
            (one, 1) | (1, one) => Some(one),
            (one, other) => (one == other).then_some(one),
        })
        .collect()
}

fn with_layout(value: Value, layout: Layout) -> Result<Value, Fault> {
    match value {
        Value::Tensor(tensor) => Ok(Value::Tensor(Tensor { layout, ..tensor })),
        Value::Probabilities(tensor) => Ok(Value::Probabilities(Tensor { layout, ..tensor })),
        Value::Constant(_) => Err(unexpected(&value, "an activation")),
    }
}

fn shape_of(value: &Value) -> Result<(Shape, Layout), Fault> {
    match value {
        Value::Tensor(tensor) | Value::Probabilities(tensor) if tensor.padding == [0; 4] => {
            Ok((tensor.shape, tensor.layout))
        }
        Value::Tensor(_) | Value::Probabilities(_) => {
            Err(Fault::new("it reorders or measures what a Pad puts zeros around, expected a convolution after a Pad"))
        }
        Value::Constant(_) => Err(unexpected(value, "an activation")),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Constant(_) => "a constant",
        Value::Tensor(_) => "an activation",
        Value::Probabilities(_) => "probabilities (after a Softmax)",
    }
}

fn unexpected(found: &Value, expected: &str) -> Fault {
    Fault::new(format!("found {}, expected {expected}", kind_of(found)))
}
