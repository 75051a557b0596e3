//! What is done to each element by itself, and what joins activations.

use ocelli_model::graph::{Operation, Shape, Window};
use ocelli_model::{Finish, Parameters};

use super::super::Fault;
use super::super::arithmetic::{self, Activation, Quantisation};
use super::super::file::{Operator, kind};
use super::{Lowering, OTHER, QUANTISE, Value, activation_of, options, quantisation};

impl<'a> Lowering<'a> {
    pub(super) fn add(&mut self, operator: &Operator<'a>) -> Result<(), Fault> {
        let activation = activation_of(options(operator, 11)?.i8(0, 0)?)?;
        let (a, b) = (self.value(operator, 0)?, self.value(operator, 1)?);
        if a.dims != b.dims || a.shape != b.shape {
            return Err(Fault::new(format!("it adds {:?} to {:?}, expected one shape", b.dims, a.dims), OTHER));
        }
        let quantisation = self.written(operator)?;
        let scales = [a.quantisation, b.quantisation, quantisation].map(|quantisation| quantisation.scale);
        let Some((multipliers, shift)) = arithmetic::addition(scales[0], scales[1], scales[2]) else {
            let reason = format!(
                "the scales of its terms are {} and {}, of its sum {}: too far from each other",
                scales[0], scales[1], scales[2]
            );
            return Err(Fault::new(reason, QUANTISE));
        };
        let finish = quantisation.finish(activation);
        let operation = Operation::Add { multipliers, shift, finish };
        let value = Value { dims: a.dims.clone(), ..Self::output(a.shape, quantisation, finish) };
        self.push(operator, "add", &[&a.from, &b.from], operation, Parameters::default(), value)
    }

    pub(super) fn multiply(&mut self, operator: &Operator<'a>) -> Result<(), Fault> {
        let activation = activation_of(options(operator, 21)?.i8(0, 0)?)?;
        let quantisation = self.written(operator)?;
        let finish = quantisation.finish(activation);
        let is_constant = |place: usize| {
            operator.inputs.get(place).copied().flatten().is_some_and(|input| self.file.tensors[input].data.is_some())
        };
        if is_constant(0) || is_constant(1) {
            let place = usize::from(is_constant(1));
            return self.multiply_by_constant(operator, place, quantisation, finish);
        }
        let (mut a, mut b) = (self.value(operator, 0)?, self.value(operator, 1)?);
        if a.shape.plane() == 1 && b.shape.plane() > 1 {
            (a, b) = (b, a);
        }
        let channels = Some(&a.shape.channels);
        let is_of_channels =
            b.shape == Shape { height: 1, width: 1, ..a.shape } && [a.dims.last(), b.dims.last()] == [channels; 2];
        if !(is_of_channels || a.dims == b.dims && a.shape == b.shape) {
            let reason = format!(
                "it multiplies {:?} by {:?}, expected one shape, or one number for each channel",
                a.dims, b.dims
            );
            return Err(Fault::new(reason, OTHER));
        }
        let scale = product_scale(a.quantisation, b.quantisation, quantisation)?;
        let parameters = Parameters { scale: vec![scale], ..Parameters::default() };
        let value = Value { dims: a.dims.clone(), ..Self::output(a.shape, quantisation, finish) };
        self.push(operator, "multiply", &[&a.from, &b.from], Operation::Multiply { finish }, parameters, value)
    }

    /// A product with numbers for each channel is a convolution of each channel by itself.
    fn multiply_by_constant(
        &mut self,
        operator: &Operator<'a>,
        place: usize,
        quantisation: Quantisation,
        finish: Finish,
    ) -> Result<(), Fault> {
        let x = self.value(operator, 1 - place)?;
        let (tensor, dims) = self.constant(operator, place, kind::INT8)?;
        let channels = x.shape.channels;
        let data = tensor.data.unwrap_or_default();
        let of_channels = dims.last() == Some(&channels) && data.len() == channels && x.dims.last() == Some(&channels);
        if !of_channels && data.len() != 1 {
            let reason = format!(
                "it multiplies {:?} by a constant {dims:?}, expected a number, or one for each channel",
                x.dims
            );
            return Err(Fault::new(reason, OTHER));
        }
        let by = self::quantisation(tensor)?;
        let weight = (0..channels).map(|channel| {
            let number = i16::from(data[channel % data.len()].cast_signed()) - i16::from(by.zero_point);
            i8::try_from(number).ok().filter(|number| *number != i8::MIN)
        });
        let Some(weight) = weight.collect::<Option<Vec<i8>>>() else {
            return Err(Fault::new("its constant is more than 127 steps from its zero point", OTHER));
        };
        let scale = product_scale(x.quantisation, by, quantisation)?;
        let parameters =
            Parameters { weight, bias: vec![0; channels], scale: vec![scale; channels], table: Vec::new() };
        let operation = Operation::Conv { channels, groups: channels, window: Window::square(1, 1, 0), finish };
        let value = Value { dims: x.dims.clone(), ..Self::output(x.shape, quantisation, finish) };
        self.push(operator, "scale", &[&x.from], operation, parameters, value)
    }

    pub(super) fn concat(&mut self, operator: &Operator<'a>) -> Result<(), Fault> {
        let options = options(operator, 10)?;
        if activation_of(options.i8(1, 0)?)? != Activation::None {
            return Err(Fault::new("it has an activation, expected none", OTHER));
        }
        let values =
            (0..operator.inputs.len()).map(|place| self.value(operator, place)).collect::<Result<Vec<_>, _>>()?;
        let Some(first) = values.first() else { return Err(Fault::new("it reads nothing", OTHER)) };
        let (rank, axis) = (first.dims.len(), options.i32(0, 0)?);
        let axis = usize::try_from(if axis < 0 { axis.saturating_add(rank as i32) } else { axis }).unwrap_or(rank);
        let mut dims = first.dims.clone();
        let mut channels = 0usize;
        for value in &values {
            self.unchanged(operator, value)?;
            let Shape { height, width, .. } = value.shape;
            // The last dimension is that of channels.
            let joins = axis + 1 == rank
                && value.dims.last() == Some(&value.shape.channels)
                && value.dims[..axis.min(value.dims.len())] == first.dims[..axis]
                && (height, width) == (first.shape.height, first.shape.width);
            if !joins {
                let reason =
                    format!("it joins {:?} to {:?} along dimension {axis}, expected channels", value.dims, first.dims);
                return Err(Fault::new(reason, OTHER));
            }
            channels = channels.saturating_add(value.shape.channels);
        }
        dims[axis] = channels;
        let low = values.iter().map(|value| value.low).min().unwrap_or(0);
        let high = values.iter().map(|value| value.high).max().unwrap_or(255);
        let finish = Finish { low, high, ..first.quantisation.finish(Activation::None) };
        let shape = Shape { channels, ..first.shape };
        let value = Value { dims, ..Self::output(shape, first.quantisation, finish) };
        if values.len() == 1 {
            return self.write(operator, Value { from: first.from.clone(), ..value });
        }
        let from: Vec<&str> = values.iter().map(|value| value.from.as_str()).collect();
        self.push(operator, "concat", &from, Operation::Concat, Parameters::default(), value)
    }

    pub(super) fn lookup(
        &mut self,
        operator: &Operator<'a>,
        table: impl FnOnce(Quantisation, Quantisation) -> Result<Vec<u8>, Fault>,
    ) -> Result<(), Fault> {
        let x = self.value(operator, 0)?;
        let quantisation = self.written(operator)?;
        let table = table(x.quantisation, quantisation)?;
        let zero_point = quantisation.zero_byte();
        let entries = || table.iter().chain([&zero_point]);
        let (low, high) = (entries().min().copied().unwrap_or(0), entries().max().copied().unwrap_or(255));
        let value =
            Value { dims: x.dims.clone(), ..Self::output(x.shape, quantisation, Finish { zero_point, low, high }) };
        let parameters = Parameters { table, ..Parameters::default() };
        self.push(operator, "lookup", &[&x.from], Operation::Lookup { zero_point }, parameters, value)
    }

    /// Other scales of the same numbers; at the beginning, floats that become bytes.
    pub(super) fn quantize(&mut self, operator: &Operator<'a>) -> Result<(), Fault> {
        let input = Self::input_of(operator, 0)?;
        let quantisation = self.written(operator)?;
        if self.file.inputs == [input] && self.file.tensors[input].kind == kind::FLOAT32 {
            if !self.read.is_empty() {
                return Err(Fault::new("the network's input is quantised a second time", OTHER));
            }
            let [output] = operator.outputs[..] else { return Err(Fault::new("it has several outputs", OTHER)) };
            return self.begin(output, quantisation, kind::FLOAT32);
        }
        let x = self.value(operator, 0)?;
        if x.quantisation == quantisation {
            return self.write(operator, x);
        }
        self.lookup(operator, |from, to| Ok(arithmetic::requantise(from, to)))
    }
}

/// What products of activations are multiplied by.
fn product_scale(first: Quantisation, second: Quantisation, product: Quantisation) -> Result<f32, Fault> {
    let scale = first.scale * second.scale / product.scale;
    if !arithmetic::PRODUCTS.contains(&scale) {
        let reason = format!("its products are scaled by {scale:e}, expected {:?}", arithmetic::PRODUCTS);
        return Err(Fault::new(reason, QUANTISE));
    }
    Ok(scale)
}
