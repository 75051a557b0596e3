//! Convolutions and linear layers.

use ocelli_model::Parameters;
use ocelli_model::graph::{MAX_DIMENSION, Operation, Shape};
use ocelli_model::proof::SCALES;

use super::super::Fault;
use super::super::file::{Operator, Tensor, kind};
use super::{Lowering, OTHER, QUANTISE, Value, activation_of, elements, options, slide, window};

impl<'a> Lowering<'a> {
    pub(super) fn conv(&mut self, operator: &Operator<'a>) -> Result<(), Fault> {
        let options = options(operator, 1)?;
        let x = self.picture(operator)?;
        let (weight, dims) = self.constant(operator, 1, kind::INT8)?;
        let [outputs, rows, columns, per_group] = dims[..] else {
            return Err(Fault::new(format!("its weights are {dims:?}, expected four dimensions"), OTHER));
        };
        if per_group == 0 || !x.shape.channels.is_multiple_of(per_group) {
            let channels = x.shape.channels;
            return Err(Fault::new(
                format!("its weights are for {per_group} channels, and it reads {channels}"),
                OTHER,
            ));
        }
        let kernel = Kernel { outputs, rows, columns, per_group, groups: x.shape.channels / per_group, axis: 0 };
        let dilation = [options.i32(5, 1)?, options.i32(4, 1)?];
        let stride = [options.i32(2, 0)?, options.i32(1, 0)?];
        let place = |o: usize, i: usize, y: usize, x: usize| ((o * rows + y) * columns + x) * per_group + i;
        self.convolve(operator, &x, weight, kernel, (options.i8(0, 0)?, stride, dilation), options.i8(3, 0)?, place)
    }

    pub(super) fn depthwise(&mut self, operator: &Operator<'a>) -> Result<(), Fault> {
        let options = options(operator, 2)?;
        let x = self.picture(operator)?;
        let (weight, dims) = self.constant(operator, 1, kind::INT8)?;
        let [1, rows, columns, outputs] = dims[..] else {
            return Err(Fault::new(format!("its weights are {dims:?}, expected four dimensions, the first 1"), OTHER));
        };
        let groups = x.shape.channels;
        if !outputs.is_multiple_of(groups) {
            return Err(Fault::new(format!("its weights are for {outputs} channels, and it reads {groups}"), OTHER));
        }
        let (multiplier, expected) = (options.i32(3, 0)?, outputs / groups);
        if usize::try_from(multiplier) != Ok(expected) {
            return Err(Fault::new(format!("its depth multiplier is {multiplier}, expected {expected}"), OTHER));
        }
        let kernel = Kernel { outputs, rows, columns, per_group: 1, groups, axis: 3 };
        let dilation = [options.i32(6, 1)?, options.i32(5, 1)?];
        let stride = [options.i32(2, 0)?, options.i32(1, 0)?];
        let place = |o: usize, _: usize, y: usize, x: usize| (y * columns + x) * outputs + o;
        self.convolve(operator, &x, weight, kernel, (options.i8(0, 0)?, stride, dilation), options.i8(4, 0)?, place)
    }

    #[expect(clippy::too_many_arguments)]
    fn convolve(
        &mut self,
        operator: &Operator<'a>,
        x: &Value,
        weight: &Tensor<'a>,
        kernel: Kernel,
        (padding, stride, dilation): (i8, [i32; 2], [i32; 2]),
        activation: i8,
        place: impl Fn(usize, usize, usize, usize) -> usize,
    ) -> Result<(), Fault> {
        let Kernel { outputs, rows, columns, per_group, groups, .. } = kernel;
        let [dilation, size] = spread(dilation, [rows, columns])?;
        let window = window(x, size, stride, padding)?;
        let finish = self.written(operator)?.finish(activation_of(activation)?);
        // Between the weights of a dilated kernel are zeros.
        self.spend(outputs.saturating_mul(per_group).saturating_mul(size[0]).saturating_mul(size[1]))?;
        let taps = size[0] * size[1];
        let data = weight.data.unwrap_or_default();
        let mut weights = vec![0; outputs * per_group * taps];
        for (index, plane) in weights.chunks_exact_mut(taps).enumerate() {
            let (o, i) = (index / per_group, index % per_group);
            for row in 0..rows {
                for column in 0..columns {
                    let at = row * dilation[0] * size[1] + column * dilation[1];
                    plane[at] = data[place(o, i, row, column)].cast_signed();
                }
            }
        }
        let parameters = self.parameters(operator, x, weight, weights, kernel)?;
        let shape = slide(x.shape, window, outputs)?;
        let name = if groups > 1 && groups == x.shape.channels { "depthwise" } else { "conv" };
        let operation = Operation::Conv { channels: outputs, groups, window, finish };
        let value = Self::output(shape, self.written(operator)?, finish);
        self.push(operator, name, &[&x.from], operation, parameters, value)
    }

    pub(super) fn linear(&mut self, operator: &Operator<'a>) -> Result<(), Fault> {
        let options = options(operator, 8)?;
        if options.i8(1, 0)? != 0 {
            return Err(Fault::new("its weights are shuffled", "convert it again without that option"));
        }
        let x = self.value(operator, 0)?;
        let (weight, dims) = self.constant(operator, 1, kind::INT8)?;
        let inputs = x.shape.elements();
        let [outputs, found] = dims[..] else {
            return Err(Fault::new(format!("its weights are {dims:?}, expected two dimensions"), OTHER));
        };
        if found != inputs {
            return Err(Fault::new(format!("its weights are for {found} elements, and it reads {inputs}"), OTHER));
        }
        if options.i8(2, 0)? != 0 && x.dims.last() != Some(&found) {
            let reason = format!("it keeps the dimensions of {:?}, and its weights are for {found} elements", x.dims);
            return Err(Fault::new(reason, OTHER));
        }
        let quantisation = self.written(operator)?;
        let finish = quantisation.finish(activation_of(options.i8(0, 0)?)?);
        self.spend(outputs.saturating_mul(inputs))?;
        // The file flattens rows, columns, channels; we flatten channels, rows, columns.
        let (plane, channels) = (x.shape.plane(), x.shape.channels);
        let data = weight.data.unwrap_or_default();
        let row = |row: &[u8]| -> Vec<i8> {
            (0..inputs).map(|at| row[at % plane * channels + at / plane].cast_signed()).collect()
        };
        let weights = data.chunks_exact(inputs).flat_map(row).collect();
        let kernel = Kernel { outputs, rows: 1, columns: 1, per_group: inputs, groups: 1, axis: 0 };
        let parameters = self.parameters(operator, &x, weight, weights, kernel)?;
        let operation = Operation::Linear { channels: outputs, finish: Some(finish) };
        let value = Self::output(Shape { channels: outputs, height: 1, width: 1 }, quantisation, finish);
        self.push(operator, "linear", &[&x.from], operation, parameters, value)
    }

    /// Weights, biases and scales of sums. A channel whose scale is so small that every sum is zero steps gets none.
    fn parameters(
        &self,
        operator: &Operator<'a>,
        x: &Value,
        weight: &Tensor<'a>,
        mut weights: Vec<i8>,
        kernel: Kernel,
    ) -> Result<Parameters, Fault> {
        let outputs = kernel.outputs;
        let mut bias = vec![0; outputs];
        if operator.inputs.get(2).copied().flatten().is_some() {
            let (tensor, dims) = self.constant(operator, 2, kind::INT32)?;
            if elements(&dims) != outputs {
                return Err(Fault::new(format!("its biases are {dims:?}, expected {outputs}"), OTHER));
            }
            bias =
                tensor.data.unwrap_or_default().as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect();
        }
        if weight.zero_points().any(|zero_point| zero_point != 0) {
            return Err(Fault::new("its weights have a zero point, expected 0", QUANTISE));
        }
        let scales: Vec<f32> = weight.scales().collect();
        let known = scales.len() == 1 || scales.len() == outputs && weight.axis == kernel.axis;
        if !known {
            let (found, axis) = (scales.len(), weight.axis);
            let reason = format!(
                "its weights have {found} scales along dimension {axis}, expected one or {outputs} along {}",
                kernel.axis
            );
            return Err(Fault::new(reason, QUANTISE));
        }
        let y = self.written(operator)?;
        let inputs = weights.len() / outputs.max(1);
        let mut scale = Vec::with_capacity(outputs);
        for (channel, weights) in weights.chunks_exact_mut(inputs.max(1)).enumerate() {
            let found = x.quantisation.scale * scales[channel % scales.len()] / y.scale;
            if !(0.0..SCALES.end).contains(&found) {
                let most = SCALES.end;
                return Err(Fault::new(
                    format!("channel {channel} scales its sums by {found:e}, expected 0 to {most}"),
                    QUANTISE,
                ));
            }
            if weights.contains(&i8::MIN) {
                let reason = format!("channel {channel} has a weight of -128, expected -127 to 127");
                return Err(Fault::new(
                    reason,
                    "convert it with a current converter, whose int8 weights are symmetric",
                ));
            }
            // 2^31 times this is nothing beside half a step.
            let is_dead = found < SCALES.start;
            if is_dead {
                weights.fill(0);
                bias[channel] = 0;
            }
            scale.push(if is_dead { 1.0 } else { found });
        }
        Ok(Parameters { weight: weights, bias, scale, ..Parameters::default() })
    }
}

/// The weights of a convolution or linear layer, as the file has them.
#[derive(Debug, Clone, Copy)]
struct Kernel {
    outputs: usize,
    rows: usize,
    columns: usize,
    per_group: usize,
    groups: usize,
    /// The dimension of the output channels.
    axis: i32,
}

/// The distances between the weights of a kernel, and its size with the zeros between them.
fn spread(dilation: [i32; 2], kernel: [usize; 2]) -> Result<[[usize; 2]; 2], Fault> {
    let by = dilation.map(|by| usize::try_from(by).unwrap_or(0));
    let size = [0, 1].map(|axis| kernel[axis].saturating_sub(1).saturating_mul(by[axis]).saturating_add(1));
    let fits = |axis: usize| kernel[axis] > 0 && by[axis] > 0 && size[axis] <= MAX_DIMENSION;
    if !(fits(0) && fits(1)) {
        return Err(Fault::new(format!("it has a kernel of {kernel:?} and a dilation of {dilation:?}"), OTHER));
    }
    Ok([by, size])
}
