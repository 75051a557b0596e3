//! The layers that the operators of a TFLite file become, one after the other.

mod elementwise;
mod pools;
mod sums;

use std::collections::BTreeMap;

use ocelli_model::graph::{INPUT, Input, Layer, MAX_DIMENSION, Operation, Shape, Window};
use ocelli_model::{Finish, Parameters};

use super::arithmetic::{self, Activation, Quantisation};
use super::file::{File, Operator, Table, Tensor, kind};
use super::{Fault, Pixels, TfliteError};

/// The most weights that are made on the way, so that a small file cannot ask for much memory.
const MAX_NUMBERS: usize = 1 << 27;
/// What the layer of an AVERAGE_POOL_2D is called, before its number.
pub const AVERAGE_POOL: &str = "average_pool";
/// The dimensions of a picture: one picture, rows, columns, channels.
const RANK: usize = 4;

/// What to try where a network was not quantised as we read it.
pub const QUANTISE: &str =
    "convert it to full-integer int8: a representative dataset, and OpsSet.TFLITE_BUILTINS_INT8 as supported_ops";
/// What to try where an operator, or a use of it, has no counterpart.
const OTHER: &str =
    "`docs/models.md` says which networks can be imported; change that part of the network and convert it again";

/// A tensor of the file as an activation of ours.
#[derive(Debug, Clone)]
pub struct Value {
    /// The layer that gives it, or `input`.
    pub from: String,
    /// The activation's shape.
    pub shape: Shape,
    /// The dimensions that the file gives it; rows, columns and channels in this order, or flattened.
    dims: Vec<usize>,
    pub quantisation: Quantisation,
    /// What the next operator has around it besides its own padding: top, left, bottom, right.
    pub padding: [usize; 4],
    /// The least and the greatest byte.
    low: u8,
    high: u8,
}

/// What the network becomes.
#[derive(Debug)]
pub struct Built {
    pub input: Input,
    pub layers: Vec<Layer>,
    pub parameters: Vec<Parameters>,
    /// Tensors of the file.
    pub values: BTreeMap<usize, Value>,
    /// The tensor that the logits are, and what they are multiplied by before a softmax.
    pub logits: usize,
    pub scale: f64,
    /// What each byte of a channel's pixels is to the network: as it takes it in, a number or, of floats, a real one.
    pub pixels: Vec<Vec<f32>>,
    /// The real numbers that pixels of 0 and of 255 are, in the first channel.
    pub range: [f64; 2],
}

/// Lowers what the logits of a network need.
pub fn lower(file: &File, pixels: &Pixels) -> Result<Built, TfliteError> {
    let (logits, softmax) = end(file)?;
    let mut needed = vec![false; file.tensors.len()];
    needed[logits] = true;
    let mut runs = vec![false; file.operators.len()];
    for (index, operator) in file.operators.iter().enumerate().rev() {
        if operator.outputs.iter().any(|output| needed[*output]) {
            runs[index] = true;
            operator.inputs.iter().flatten().for_each(|input| needed[*input] = true);
        }
    }
    let mut lowering = Lowering::new(file, pixels)?;
    for (index, operator) in file.operators.iter().enumerate().filter(|(index, _)| runs[*index]) {
        lowering.index = index;
        lowering.lower(operator).map_err(|fault| explain(file, index, fault))?;
    }
    let value = lowering.values.get(&logits).cloned();
    // One row: a softmax is over the last dimension.
    let is_list = |value: &Value| {
        let classes = value.shape.elements();
        value.padding == [0; 4]
            && value.dims.contains(&classes)
            && (softmax.is_none() || value.dims.last() == Some(&classes))
    };
    let Some(value) = value.filter(is_list) else {
        let Tensor { name, shape, .. } = &file.tensors[logits];
        let by = if softmax.is_some() { " and a SOFTMAX" } else { "" };
        return Err(output(format!("the network ends in {name:?} of the shape {shape:?}{by}")));
    };
    lowering.finish(&value).map_err(|fault| TfliteError::Output { fault })?;
    let Lowering { input, layers, parameters, values, read, range, .. } = lowering;
    let scale = f64::from(value.quantisation.scale) * f64::from(softmax.unwrap_or(1.0));
    Ok(Built { input, layers, parameters, values, logits, scale, pixels: read, range })
}

/// The tensor of the logits, and the factor of the softmax that follows, if one does. What only changes how the result is written
/// comes after it.
fn end(file: &File) -> Result<(usize, Option<f32>), TfliteError> {
    let [mut last] = file.outputs[..] else { return Err(output(format!("found {} outputs", file.outputs.len()))) };
    let before = |tensor: usize, kinds: &[&str]| {
        let operator = &file.operators[file.writer(tensor)?];
        let input = operator.inputs.first().copied().flatten()?;
        kinds.iter().any(|kind| operator.name() == *kind).then_some((operator, input))
    };
    if let Some((_, input)) = before(last, &["DEQUANTIZE"]) {
        last = input;
    }
    let mut shown = last;
    // A tensor may be written by what reads it, so the steps are counted.
    for _ in 0..file.operators.len() {
        match before(shown, &["QUANTIZE", "RESHAPE", "SQUEEZE"]) {
            Some((_, input)) => shown = input,
            None => break,
        }
    }
    let Some((softmax, input)) = before(shown, &["SOFTMAX"]) else { return Ok((last, None)) };
    let beta = options(softmax, 9).and_then(|options| Ok(options.f32(0, 0.0)?));
    match beta {
        Ok(beta) if beta.is_normal() && beta > 0.0 => Ok((input, Some(beta))),
        _ => Err(output("the beta of the SOFTMAX is not above 0".into())),
    }
}

fn output(found: String) -> TfliteError {
    TfliteError::Output { fault: Fault::new(found + ", expected one score for each class", OTHER) }
}

fn explain(file: &File, index: usize, fault: Fault) -> TfliteError {
    let operator = &file.operators[index];
    let name = operator.outputs.first().map_or("", |output| &file.tensors[*output].name);
    TfliteError::Operator { index, operator: operator.name(), name: name.into(), fault }
}

/// The options of an operator, whose number in the schema's union is given.
/// What a SQUEEZE makes of dimensions: those of 1 that are named, or all where none is, are left out. `None` where one is named that is
/// not there or not 1.
fn squeezed(dims: &[usize], named: &[i32]) -> Option<Vec<usize>> {
    let place = |number: &i32| {
        let from_the_end = if *number < 0 { dims.len() } else { 0 };
        from_the_end.checked_add_signed(*number as isize).filter(|place| dims.get(*place) == Some(&1))
    };
    let named: Vec<usize> = named.iter().map(place).collect::<Option<_>>()?;
    let stays = |(place, size): &(usize, &usize)| **size != 1 || !named.is_empty() && !named.contains(place);
    Some(dims.iter().enumerate().filter(stays).map(|(_, size)| *size).collect())
}

fn options<'a>(operator: &Operator<'a>, kind: u8) -> Result<Table<'a>, Fault> {
    match operator.options_kind {
        0 => Ok(Table::empty()),
        found if found == kind => Ok(operator.options),
        found => Err(Fault::new(format!("its options are of kind {found}, expected {kind}"), OTHER)),
    }
}

/// The numbers of options in the schema's union.
const RESHAPE_OPTIONS: u8 = 17;
const SQUEEZE_OPTIONS: u8 = 30;

struct Lowering<'a> {
    file: &'a File<'a>,
    pixels: &'a Pixels,
    input: Input,
    layers: Vec<Layer>,
    parameters: Vec<Parameters>,
    values: BTreeMap<usize, Value>,
    /// What each byte of each channel is to the network.
    read: Vec<Vec<f32>>,
    range: [f64; 2],
    numbers: usize,
    /// The operator at work.
    index: usize,
}

impl<'a> Lowering<'a> {
    /// Begins with the pixels.
    fn new(file: &'a File<'a>, pixels: &'a Pixels) -> Result<Self, TfliteError> {
        let refuse = |found: String| {
            let reason = found + ", expected one picture of fixed rows and columns, (1, rows, columns, channels)";
            TfliteError::Input { fault: Fault::new(reason, "convert the network for single pictures of one size") }
        };
        let [index] = file.inputs[..] else { return Err(refuse(format!("found {} inputs", file.inputs.len()))) };
        let tensor = &file.tensors[index];
        let dims: Vec<usize> = tensor.shape.iter().map(|size| usize::try_from(*size).unwrap_or(0)).collect();
        let shape = match dims[..] {
            [1, height, width, channels]
                if [height, width, channels].iter().all(|size| (1..=MAX_DIMENSION).contains(size)) =>
            {
                Shape { channels, height, width }
            }
            _ => return Err(refuse(format!("input {:?} has the shape {:?}", tensor.name, tensor.shape))),
        };
        if tensor.signature.iter().skip(1).any(|size| *size < 0) {
            return Err(refuse(format!("input {:?} has the open shape {:?}", tensor.name, tensor.signature)));
        }
        let input = Input { crop: pixels.crop, ..Input::new(shape.channels, shape.height, shape.width) };
        let (layers, parameters, values) = (Vec::new(), Vec::new(), BTreeMap::new());
        let mut lowering = Self {
            file,
            pixels,
            input,
            layers,
            parameters,
            values,
            read: Vec::new(),
            range: [0.0; 2],
            numbers: 0,
            index: 0,
        };
        pixels.check(shape.channels)?;
        if tensor.kind != kind::FLOAT32 {
            let begun = quantisation(tensor).and_then(|found| lowering.begin(index, found, tensor.kind));
            begun.map_err(|fault| TfliteError::Input { fault })?;
        }
        Ok(lowering)
    }

    /// Makes a tensor of the pixels: they are its bytes, unless it was said what they are to the network.
    fn begin(&mut self, tensor: usize, quantisation: Quantisation, read: u8) -> Result<(), Fault> {
        let shape = self.input.shape;
        let lines = self.pixels.lines(shape.channels);
        let tables: Vec<Vec<u8>> = match &lines[..] {
            [] => vec![(0..=255).collect()],
            lines => lines.iter().map(|line| line.table(quantisation)).collect(),
        };
        let is_plain = |table: &Vec<u8>| table.iter().copied().eq(0..=255);
        let finish = quantisation.finish(Activation::None);
        let mut from = INPUT.to_owned();
        if tables.iter().all(is_plain) {
            self.input = self.input.clone().with_zero_point(quantisation.zero_byte());
        } else {
            from = "pixels".into();
            let (operation, parameters) = match &tables[..] {
                [table] => {
                    let parameters = Parameters { table: table.clone(), ..Parameters::default() };
                    (Operation::Lookup { zero_point: finish.zero_point }, parameters)
                }
                _ => {
                    let sums = lines.iter().zip(&tables).map(|(line, table)| line.sum(quantisation, table));
                    let Some(sums) = sums.collect::<Option<Vec<_>>>() else {
                        return Err(Fault::new("no integers scale and move the channels of its pixels so", PIXELS));
                    };
                    let channels = shape.channels;
                    let window = Window::square(1, 1, 0);
                    (
                        Operation::Conv { channels, groups: channels, window, finish },
                        Parameters {
                            weight: sums.iter().map(|sum| sum.weight).collect(),
                            bias: sums.iter().map(|sum| sum.bias).collect(),
                            scale: sums.iter().map(|sum| sum.scale).collect(),
                            table: Vec::new(),
                        },
                    )
                }
            };
            self.layers.push(Layer::new(&from, &[INPUT], operation));
            self.parameters.push(parameters);
        }
        let real = |byte: u8| (f32::from(byte) - f32::from(quantisation.zero_byte())) * quantisation.scale;
        let read = |byte: &u8| match read {
            kind::UINT8 => f32::from(*byte),
            kind::INT8 => f32::from(*byte) - 128.0,
            _ => real(*byte),
        };
        self.range = [0, 255].map(|pixel| real(tables[0][pixel]).into());
        self.read = tables.iter().map(|table| table.iter().map(read).collect()).collect();
        let dims = vec![1, shape.height, shape.width, shape.channels];
        let value = Value { from, shape, dims, quantisation, padding: [0; 4], low: 0, high: 255 };
        self.values.insert(tensor, value);
        Ok(())
    }

    fn lower(&mut self, operator: &Operator<'a>) -> Result<(), Fault> {
        let name = operator.name();
        let most = match name.as_str() {
            "CONV_2D" | "DEPTHWISE_CONV_2D" | "FULLY_CONNECTED" => 3,
            "ADD" | "MUL" | "MEAN" | "RESHAPE" | "PAD" => 2,
            "AVERAGE_POOL_2D" | "MAX_POOL_2D" | "SQUEEZE" | "LOGISTIC" | "HARD_SWISH" | "LEAKY_RELU" | "QUANTIZE" => 1,
            // As many as one likes, or an operator that is refused anyway.
            _ => usize::MAX,
        };
        if operator.inputs.len() > most {
            let found = operator.inputs.len();
            return Err(Fault::new(format!("it has {found} inputs, expected at most {most}"), OTHER));
        }
        // Only these make another type of what they read; what else reads bytes has an arithmetic of its own.
        let is_shaping = ["RESHAPE", "SQUEEZE"].contains(&name.as_str());
        if !is_shaping && !["QUANTIZE", "DEQUANTIZE"].contains(&name.as_str()) {
            let is_uint8 = |tensor: usize| {
                self.file.tensors[tensor].kind == kind::UINT8 && self.file.tensors[tensor].data.is_none()
            };
            if let Some(read) = operator.inputs.iter().flatten().copied().find(|tensor| is_uint8(*tensor)) {
                let reason = format!("it reads {:?}, which is UINT8, expected INT8", self.file.tensors[read].name);
                return Err(Fault::new(reason, QUANTISE));
            }
            if operator.outputs.first().copied().is_some_and(is_uint8) {
                return Err(Fault::new("it gives UINT8, expected INT8", QUANTISE));
            }
        }
        let kind = |tensor: Option<usize>| tensor.map(|tensor| self.file.tensors[tensor].kind);
        let (read, written) = (operator.inputs.first().copied().flatten(), operator.outputs.first().copied());
        if is_shaping && kind(read) != kind(written) {
            let name =
                |tensor: Option<usize>| tensor.map_or("nothing".into(), |tensor| self.file.tensors[tensor].kind_name());
            let reason = format!("it reads {} and gives {}, expected one type", name(read), name(written));
            return Err(Fault::new(reason, QUANTISE));
        }
        match name.as_str() {
            "CONV_2D" => self.conv(operator),
            "DEPTHWISE_CONV_2D" => self.depthwise(operator),
            "FULLY_CONNECTED" => self.linear(operator),
            "ADD" => self.add(operator),
            "MUL" => self.multiply(operator),
            "AVERAGE_POOL_2D" => self.average_pool(operator),
            "MEAN" => self.mean(operator),
            "MAX_POOL_2D" => self.max_pool(operator),
            "CONCATENATION" => self.concat(operator),
            "RESHAPE" | "SQUEEZE" => self.reshape(operator),
            "PAD" => self.pad(operator),
            "LOGISTIC" => self.lookup(operator, |from, to| Ok(arithmetic::logistic(from, to))),
            "HARD_SWISH" => self.lookup(operator, |from, to| {
                if from.scale >= 128.0 * to.scale {
                    return Err(Fault::new("its output's scale is less than a 128th of its input's", QUANTISE));
                }
                Ok(arithmetic::hard_swish(from, to))
            }),
            "LEAKY_RELU" => {
                let alpha = options(operator, 75)?.f32(0, 0.0)?;
                if !alpha.is_finite() {
                    return Err(Fault::new(format!("its alpha is {alpha}, expected a finite number"), OTHER));
                }
                self.lookup(operator, |from, to| Ok(arithmetic::leaky_relu(from, to, alpha)))
            }
            "QUANTIZE" => self.quantize(operator),
            "SOFTMAX" => Err(Fault::new("a SOFTMAX that is not the end", OTHER)),
            "DEQUANTIZE" => Err(Fault::new("found floats within the network", QUANTISE)),
            _ => Err(Fault::new("the operator is not supported", OTHER)),
        }
    }

    /// An identity that makes logits of bytes, in the file's order: what its network ends with has the bounds of a byte, and sums
    /// have none.
    fn finish(&mut self, value: &Value) -> Result<(), Fault> {
        let (classes, plane, channels) = (value.shape.elements(), value.shape.plane(), value.shape.channels);
        self.spend(classes.saturating_mul(classes))?;
        let mut weight = vec![0; classes * classes];
        for (class, row) in weight.chunks_exact_mut(classes).enumerate() {
            row[class % channels * plane + class / channels] = 1;
        }
        self.layers.push(Layer::logits("logits", &value.from, classes));
        self.parameters.push(Parameters { weight, bias: vec![0; classes], ..Parameters::default() });
        Ok(())
    }

    /// Counts numbers that are about to be made.
    fn spend(&mut self, numbers: usize) -> Result<(), Fault> {
        self.numbers = self.numbers.saturating_add(numbers);
        if self.numbers > MAX_NUMBERS {
            return Err(Fault::new(
                format!("the network needs more than {MAX_NUMBERS} weights"),
                "import a smaller network",
            ));
        }
        Ok(())
    }

    fn input_of(operator: &Operator<'a>, place: usize) -> Result<usize, Fault> {
        let input = operator.inputs.get(place).copied().flatten();
        input.ok_or_else(|| Fault::new(format!("it lacks its input {place}"), OTHER))
    }

    /// What an operator reads, which may have padding around it that is still to be done.
    fn padded(&self, operator: &Operator<'a>, place: usize) -> Result<Value, Fault> {
        let index = Self::input_of(operator, place)?;
        let tensor = &self.file.tensors[index];
        if tensor.data.is_some() {
            return Err(Fault::new(format!("its input {place}, {:?}, is a constant", tensor.name), OTHER));
        }
        self.values.get(&index).cloned().ok_or_else(|| {
            if tensor.kind == kind::INT8 {
                return Fault::new(
                    format!("its input {place}, {:?}, is given by no operator before", tensor.name),
                    OTHER,
                );
            }
            Fault::new(
                format!("its input {place}, {:?}, is {}, expected INT8", tensor.name, tensor.kind_name()),
                QUANTISE,
            )
        })
    }

    /// What an operator reads that takes no padding.
    fn value(&self, operator: &Operator<'a>, place: usize) -> Result<Value, Fault> {
        let value = self.padded(operator, place)?;
        if value.padding != [0; 4] {
            return Err(Fault::new("it reads what a PAD gives, expected a convolution or a pool after that", OTHER));
        }
        Ok(value)
    }

    /// What a convolution or pool reads: rows, columns and channels.
    fn picture(&self, operator: &Operator<'a>) -> Result<Value, Fault> {
        let value = self.padded(operator, 0)?;
        let [top, left, bottom, right] = value.padding;
        let Shape { channels, height, width } = value.shape;
        if value.dims != [1, height + top + bottom, width + left + right, channels] {
            return Err(Fault::new(format!("it reads {:?} of a {} in another order", value.dims, value.shape), OTHER));
        }
        Ok(value)
    }

    /// A constant, and its dimensions.
    fn constant(&self, operator: &Operator<'a>, place: usize, of: u8) -> Result<(&'a Tensor<'a>, Vec<usize>), Fault> {
        let file = self.file;
        let tensor = &file.tensors[Self::input_of(operator, place)?];
        let width = if of == kind::INT8 { 1 } else { 4 };
        if tensor.kind != of || tensor.special.is_some() {
            let expected = if of == kind::INT8 { "INT8" } else { "INT32" };
            let found = [tensor.special.unwrap_or_default(), &tensor.kind_name()].join(" ");
            let reason = format!("its {:?} is {}, expected {expected}", tensor.name, found.trim_start());
            return Err(Fault::new(reason, QUANTISE));
        }
        scaled(tensor)?;
        let Some(data) = tensor.data else {
            return Err(Fault::new(format!("its {:?} is no constant", tensor.name), OTHER));
        };
        let dims = dims(tensor)?;
        if elements(&dims).checked_mul(width) != Some(data.len()) {
            return Err(Fault::new(format!("its {:?} has {} bytes for {dims:?}", tensor.name, data.len()), OTHER));
        }
        Ok((tensor, dims))
    }

    /// The scales of what an operator writes.
    fn written(&self, operator: &Operator<'a>) -> Result<Quantisation, Fault> {
        let [output] = operator.outputs[..] else {
            return Err(Fault::new(format!("it has {} outputs, expected one", operator.outputs.len()), OTHER));
        };
        let tensor = &self.file.tensors[output];
        if ![kind::INT8, kind::UINT8].contains(&tensor.kind) {
            return Err(Fault::new(format!("it gives {}, expected INT8", tensor.kind_name()), QUANTISE));
        }
        quantisation(tensor)
    }

    /// That what is written has the scales of what is read.
    fn unchanged(&self, operator: &Operator<'a>, value: &Value) -> Result<(), Fault> {
        let (found, expected) = (self.written(operator)?, value.quantisation);
        if found != expected {
            let text = |of: Quantisation| format!("{} and {}", of.scale, of.zero_point);
            let (found, expected) = (text(found), text(expected));
            let reason = format!("its output's scale and zero point are {found}, expected {expected} as of its input");
            return Err(Fault::new(reason, QUANTISE));
        }
        Ok(())
    }

    /// Adds a layer, and makes its output the tensor that the operator writes.
    fn push(
        &mut self,
        operator: &Operator<'a>,
        kind: &str,
        from: &[&str],
        operation: Operation,
        parameters: Parameters,
        value: Value,
    ) -> Result<(), Fault> {
        let name = format!("{kind}_{}", self.index);
        self.layers.push(Layer::new(&name, from, operation));
        self.parameters.push(parameters);
        self.write(operator, Value { from: name, ..value })
    }

    /// Makes an activation the tensor that the operator writes.
    fn write(&mut self, operator: &Operator<'a>, value: Value) -> Result<(), Fault> {
        let [output] = operator.outputs[..] else {
            return Err(Fault::new(format!("it has {} outputs, expected one", operator.outputs.len()), OTHER));
        };
        let dims = dims(&self.file.tensors[output])?;
        // The dimensions of one place, with or without rows and columns.
        let same = dims == value.dims
            || value.shape.plane() == 1 && value.padding == [0; 4] && elements(&dims) == value.shape.channels;
        if !same {
            return Err(Fault::new(format!("it gives {:?}, and its output is {dims:?}", value.dims), OTHER));
        }
        self.values.insert(output, Value { dims, ..value });
        Ok(())
    }

    /// The value of a layer's output: one picture of the shape.
    fn output(shape: Shape, quantisation: Quantisation, finish: Finish) -> Value {
        let dims = vec![1, shape.height, shape.width, shape.channels];
        let Finish { low, high, .. } = finish;
        Value { from: String::new(), shape, dims, quantisation, padding: [0; 4], low, high }
    }

    /// Only how the file counts the elements changes.
    fn reshape(&mut self, operator: &Operator<'a>) -> Result<(), Fault> {
        let value = self.value(operator, 0)?;
        self.unchanged(operator, &value)?;
        let [output] = operator.outputs[..] else {
            return Err(Fault::new(format!("it has {} outputs, expected one", operator.outputs.len()), OTHER));
        };
        let dims = dims(&self.file.tensors[output])?;
        if elements(&dims) != value.shape.elements() {
            return Err(Fault::new(format!("it makes {dims:?} of {:?}", value.dims), OTHER));
        }
        if operator.name() == "SQUEEZE" {
            let found = squeezed(&value.dims, &options(operator, SQUEEZE_OPTIONS)?.numbers(0)?.unwrap_or_default());
            if found.as_ref() != Some(&dims) {
                let found = found.map_or("nothing that is there".into(), |dims| format!("{dims:?}"));
                return Err(Fault::new(
                    format!("it squeezes {:?} to {found}, and its output is {dims:?}", value.dims),
                    OTHER,
                ));
            }
        } else {
            let numbers = if operator.inputs.get(1).copied().flatten().is_some() {
                let (tensor, _) = self.constant(operator, 1, kind::INT32)?;
                let bytes = tensor.data.unwrap_or_default().as_chunks().0.iter();
                Some(bytes.map(|bytes| i32::from_le_bytes(*bytes)).collect())
            } else {
                options(operator, RESHAPE_OPTIONS)?.numbers(0)?
            };
            let is_size = |(number, size): (&i32, &usize)| *number == -1 || usize::try_from(*number) == Ok(*size);
            let Some(numbers) = numbers else { return Err(Fault::new("it says no shape to reshape to", OTHER)) };
            if numbers.len() != dims.len() || !numbers.iter().zip(&dims).all(is_size) {
                return Err(Fault::new(format!("it reshapes to {numbers:?}, and its output is {dims:?}"), OTHER));
            }
        }
        self.values.insert(output, Value { dims, ..value });
        Ok(())
    }

    fn pad(&mut self, operator: &Operator<'a>) -> Result<(), Fault> {
        let value = self.padded(operator, 0)?;
        self.unchanged(operator, &value)?;
        let (amounts, dims) = self.constant(operator, 1, kind::INT32)?;
        let amounts = amounts.data.unwrap_or_default().as_chunks().0.iter();
        let amounts: Vec<Option<usize>> =
            amounts.take(2 * RANK).map(|bytes| usize::try_from(i32::from_le_bytes(*bytes)).ok()).collect();
        let padding = match amounts[..] {
            [Some(0), Some(0), Some(top), Some(bottom), Some(left), Some(right), Some(0), Some(0)]
                if dims == [RANK, 2]
                    && value.dims.len() == RANK
                    && [top, bottom, left, right].iter().all(|by| *by <= MAX_DIMENSION) =>
            {
                [top, left, bottom, right]
            }
            _ => {
                return Err(Fault::new(
                    format!("it pads {:?} by {amounts:?}, expected rows and columns only", value.dims),
                    OTHER,
                ));
            }
        };
        let mut padded = value;
        for (total, by) in padded.padding.iter_mut().zip(padding) {
            *total += by;
        }
        padded.dims[1] += padding[0] + padding[2];
        padded.dims[2] += padding[1] + padding[3];
        self.write(operator, padded)
    }
}

/// What to try where pixels cannot be brought to the network.
const PIXELS: &str =
    "give one --mean and one --std for all channels, or convert the network with its normalisation inside of it";

/// How a kernel runs over an activation, its own padding and that before it together. Padding is 0 for what keeps the size, 1 for
/// none.
fn window(x: &Value, kernel: [usize; 2], stride: [i32; 2], padding: i8) -> Result<Window, Fault> {
    let steps = stride.map(|step| usize::try_from(step).unwrap_or(0));
    let fits = |number: &usize| (1..=MAX_DIMENSION).contains(number);
    if !kernel.iter().chain(&steps).all(fits) {
        return Err(Fault::new(format!("it has a kernel of {kernel:?} and strides of {stride:?}"), OTHER));
    }
    let mut total = x.padding;
    match padding {
        1 => {}
        0 => {
            for (axis, size) in [x.shape.height, x.shape.width].into_iter().enumerate() {
                let size = size + x.padding[axis] + x.padding[axis + 2];
                let outputs = size.div_ceil(steps[axis]);
                let around = ((outputs - 1) * steps[axis] + kernel[axis]).saturating_sub(size);
                total[axis] += around / 2;
                total[axis + 2] += around - around / 2;
            }
        }
        other => return Err(Fault::new(format!("its padding is of kind {other}, expected SAME or VALID"), OTHER)),
    }
    if (0..4).any(|side| total[side] >= kernel[side % 2]) {
        let reason = format!(
            "with the PAD before it there are {total:?} elements around (top, left, bottom, right), expected fewer than the kernel has, {kernel:?}"
        );
        return Err(Fault::new(reason, OTHER));
    }
    Ok(Window { kernel, stride: steps, padding: total })
}

/// The shape of what a window gives.
fn slide(over: Shape, window: Window, channels: usize) -> Result<Shape, Fault> {
    let padded = window.padded(over);
    let size = |axis: usize| padded[axis].checked_sub(window.kernel[axis]).map(|rest| rest / window.stride[axis] + 1);
    match (size(0), size(1)) {
        (Some(height), Some(width)) => Ok(Shape { channels, height, width }),
        _ => Err(Fault::new(
            format!("a kernel of {:?} is larger than the {padded:?} it runs over", window.kernel),
            OTHER,
        )),
    }
}

fn activation_of(code: i8) -> Result<Activation, Fault> {
    match code {
        0 => Ok(Activation::None),
        1 => Ok(Activation::Relu),
        2 => Ok(Activation::ReluN1To1),
        3 => Ok(Activation::Relu6),
        other => Err(Fault::new(
            format!("its activation is of kind {other}, expected none, RELU, RELU6 or RELU_N1_TO_1"),
            OTHER,
        )),
    }
}

/// Refuses numbers that stand for others in any other way than by scales and zero points.
fn scaled(tensor: &Tensor) -> Result<(), Fault> {
    if tensor.has_details {
        let name = &tensor.name;
        return Err(Fault::new(format!("{name:?} is quantised in a way of its own, expected by scales"), QUANTISE));
    }
    Ok(())
}

/// The scale and zero point of an activation, as of signed bytes.
fn quantisation(tensor: &Tensor) -> Result<Quantisation, Fault> {
    let name = &tensor.name;
    let offset = match tensor.kind {
        kind::INT8 => 0,
        kind::UINT8 => 128,
        _ => return Err(Fault::new(format!("{name:?} is {}, expected INT8", tensor.kind_name()), QUANTISE)),
    };
    scaled(tensor)?;
    let scales: Vec<f32> = tensor.scales().take(2).collect();
    let zero_points: Vec<i64> = tensor.zero_points().take(2).collect();
    let ([scale], [zero_point]) = (&scales[..], &zero_points[..]) else {
        return Err(Fault::new(format!("{name:?} has not one scale and one zero point"), QUANTISE));
    };
    let number = zero_point.checked_sub(offset).and_then(|number| i8::try_from(number).ok());
    let Some(zero_point) = number.filter(|_| scale.is_normal() && *scale > 0.0) else {
        let reason = format!(
            "{name:?} has the scale {scale:e} and the zero point {zero_point}, expected one above 0, and one of eight bits"
        );
        return Err(Fault::new(reason, QUANTISE));
    };
    Ok(Quantisation { scale: *scale, zero_point })
}

fn dims(tensor: &Tensor) -> Result<Vec<usize>, Fault> {
    let dims = tensor.shape.iter().map(|size| usize::try_from(*size).ok().filter(|size| *size > 0));
    dims.collect::<Option<_>>()
        .ok_or_else(|| Fault::new(format!("{:?} has the shape {:?}", tensor.name, tensor.shape), OTHER))
}

fn elements(dims: &[usize]) -> usize {
    dims.iter().fold(1, |product, size| product.saturating_mul(*size))
}
