//! The layers that the values of an ONNX graph become, one after the other.

use std::rc::Rc;

use ocelli_model::graph::{INPUT, Layer, MAX_ACTIVATIONS, MAX_LAYERS, Operation, Shape};

use super::Fault;
use super::value::{Activation, Affine, Layout, Sum, SumKind};
use crate::train::LayerWeights;

/// The most numbers that are made on the way, so that a small file cannot ask for much memory.
const MAX_NUMBERS: usize = 1 << 27;

/// Layers with their float weights. Every layer with weights but the last is clamped at 0, and at its cap if it has one.
#[derive(Debug)]
pub struct Builder {
    pub input: Shape,
    pub layers: Vec<Layer>,
    pub weights: Vec<Option<LayerWeights>>,
    pub caps: Vec<Option<f64>>,
    numbers: usize,
}

/// What becomes of a scaled and moved activation in a layer of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signs {
    /// Its positive part.
    Positive,
    /// Its positive part, and after these channels its negative part, both before the scale.
    Both,
}

impl Builder {
    /// Begins with the input alone.
    pub fn new(input: Shape) -> Self {
        Self { input, layers: Vec::new(), weights: Vec::new(), caps: Vec::new(), numbers: 0 }
    }

    /// Counts numbers that are about to be made.
    pub fn spend(&mut self, numbers: usize) -> Result<(), Fault> {
        self.numbers = self.numbers.saturating_add(numbers);
        if self.numbers > MAX_NUMBERS {
            return Err(Fault::new(format!("the network needs more than {MAX_NUMBERS} numbers to be worked out")));
        }
        Ok(())
    }

    /// The shape after a window has slid over another; none where it does not fit.
    pub fn slide(over: Shape, kernel: usize, stride: usize, padding: [usize; 4]) -> Result<Shape, Fault> {
        let [top, left, bottom, right] = padding;
        let size = |size: usize| size.checked_sub(kernel).map(|rest| rest / stride + 1);
        let (height, width) = (size(over.height + top + bottom), size(over.width + left + right));
        match (height, width) {
            (Some(height), Some(width)) => Ok(Shape { height, width, ..over }),
            _ => Err(Fault::new(format!("a kernel of {kernel} is larger than the {over} it runs over"))),
        }
    }

    /// Builds the layer of a sum, clamped at 0.
    pub fn clamped(&mut self, sum: &Sum, cap: Option<f64>) -> Result<Activation, Fault> {
        self.push_sum(sum, SumKind::Linear == sum.kind)?;
        *self.caps.last_mut().expect("a layer was built") = cap;
        if let Some((kernel, stride)) = sum.max_pool {
            self.push(Layer::max_pool(&self.name("pool"), kernel, stride), None)?;
        }
        Ok(Activation { index: self.layers.len(), shape: sum.shape, layout: sum.layout, affine: None })
    }

    /// Builds the last layer, which gives the logits.
    pub fn last(&mut self, sum: &Sum) -> Result<(), Fault> {
        if sum.skip.is_some() || sum.max_pool.is_some() {
            return Err(Fault::new("the logits are no plain sum, expected a linear layer at the end"));
        }
        let over = sum.input.shape;
        // A kernel over all of the activation is a linear layer.
        let whole = SumKind::Conv { kernel: over.height, stride: 1, padding: [0; 4] };
        let covers = match sum.kind {
            SumKind::Linear => true,
            SumKind::Conv { kernel, padding, .. } => {
                SumKind::Conv { kernel, stride: 1, padding } == whole && over.height == over.width
            }
        };
        if !covers {
            return Err(Fault::new("the network ends in a convolution, expected a linear layer"));
        }
        self.push_sum(sum, true)
    }

    /// Builds a max-pool over an activation.
    pub fn max_pool(&mut self, over: &Activation, kernel: usize, stride: usize) -> Result<Activation, Fault> {
        self.expect_newest(over)?;
        if over.affine().scale.iter().any(|scale| *scale < 0.0) {
            return Err(Fault::new("a max-pool follows a scale below 0"));
        }
        let shape = Self::slide(over.shape, kernel, stride, [0; 4])?;
        self.push(Layer::max_pool(&self.name("pool"), kernel, stride), None)?;
        Ok(Activation { index: self.layers.len(), shape, ..over.clone() })
    }

    /// Builds a mean over windows: a sum-pool whose shift is that of the next power of two, so that nothing is clipped;
    /// what is left of the factor goes into the next layer.
    pub fn mean_pool(&mut self, over: &Activation, kernel: usize, stride: usize) -> Result<Activation, Fault> {
        if kernel == 1 && stride == 1 {
            return Ok(over.clone());
        }
        self.expect_newest(over)?;
        let shape = Self::slide(over.shape, kernel, stride, [0; 4])?;
        let count = kernel * kernel;
        let shift = count.next_power_of_two().trailing_zeros() as u8;
        self.push(Layer::sum_pool(&self.name("mean"), kernel, stride, shift), None)?;
        let pooled = Activation { index: self.layers.len(), shape, ..over.clone() };
        let factor = f64::from(1u32 << shift) / count as f64;
        if factor == 1.0 {
            return Ok(pooled);
        }
        // The factor comes before what the activation is moved by.
        let mut affine = over.affine();
        affine.scale.iter_mut().for_each(|scale| *scale *= factor);
        Ok(Activation { affine: Some(Rc::new(affine)), ..pooled })
    }

    /// Builds the positive part of an activation, if it is not positive already.
    pub fn positive(&mut self, of: &Activation, cap: Option<f64>) -> Result<Activation, Fault> {
        let Affine { scale, offset } = of.affine();
        if scale.iter().chain(&offset).all(|value| *value >= 0.0) && cap.is_none() {
            return Ok(of.clone());
        }
        self.alone(of, Signs::Positive)?;
        *self.caps.last_mut().expect("a layer was built") = cap;
        Ok(Activation { index: self.layers.len(), affine: None, ..of.clone() })
    }

    /// Builds an activation scaled and moved in a layer of its own, a 1x1 convolution.
    fn alone(&mut self, of: &Activation, signs: Signs) -> Result<(), Fault> {
        let Affine { scale, offset } = of.affine();
        let channels = of.shape.channels;
        if scale.len() != channels || matches!(of.layout, Layout::FlatChw | Layout::FlatHwc) {
            return Err(Fault::new("single elements of an activation are changed, expected whole channels"));
        }
        let outputs = if signs == Signs::Both { 2 * channels } else { channels };
        self.spend(outputs * channels)?;
        self.expect_newest(of)?;
        let (mut weight, mut bias) = (vec![0f32; outputs * channels], vec![0f32; outputs]);
        for output in 0..outputs {
            let channel = output % channels;
            let (factor, moved) = match signs {
                Signs::Positive => (scale[channel], offset[channel]),
                Signs::Both if scale[channel] == 0.0 => return Err(Fault::new("a channel is multiplied by 0")),
                Signs::Both if output < channels => (1.0, offset[channel] / scale[channel]),
                Signs::Both => (-1.0, -offset[channel] / scale[channel]),
            };
            weight[output * channels + channel] = factor as f32;
            bias[output] = moved as f32;
        }
        self.push(Layer::conv(&self.name("scale"), outputs, 1, 1, 0), Some(LayerWeights { weight, bias }))
    }

    /// Builds the layer of a sum, linear or convolution.
    fn push_sum(&mut self, sum: &Sum, linear: bool) -> Result<(), Fault> {
        self.spend(sum.weight.len().saturating_mul(2))?;
        let outputs = sum.bias.len();
        let mut input = sum.input.clone();
        let mut weight: Vec<f64> = sum.weight.iter().copied().map(f64::from).collect();
        let inputs = weight.len() / outputs.max(1);
        let mut bias = sum.bias.clone();
        let padded = matches!(sum.kind, SumKind::Conv { padding, .. } if padding != [0; 4]);
        if let Some(affine) = input.affine.take().filter(|affine| !affine.is_identity()) {
            if !inputs.is_multiple_of(affine.scale.len()) || (!linear && affine.scale.len() != input.shape.channels) {
                return Err(Fault::new(
                    "single elements of a convolution's input are changed, expected whole channels",
                ));
            }
            let of_one = inputs / affine.scale.len();
            let mut moved = vec![0.0; outputs];
            for (row, moved) in weight.chunks_exact_mut(inputs).zip(&mut moved) {
                for (index, weight) in row.iter_mut().enumerate() {
                    *moved += *weight * affine.offset[index / of_one];
                    *weight *= affine.scale[index / of_one];
                }
            }
            if padded && affine.moves() {
                // Zeros around the moved activation are not zeros around the activation itself: both parts of the moved
                // one, of which each is 0 there, are built first.
                self.spend(weight.len())?;
                self.alone(&Activation { affine: Some(affine), ..input.clone() }, Signs::Both)?;
                let rows = weight.chunks_exact(inputs);
                weight = rows.flat_map(|row| row.iter().copied().chain(row.iter().map(|weight| -weight))).collect();
                input.index = self.layers.len();
                input.shape.channels *= 2;
            } else {
                for ((bias, moved), scale) in bias.iter_mut().zip(&moved).zip(&sum.scale) {
                    *bias += moved * scale;
                }
            }
        }
        self.expect_newest(&input)?;
        let inputs = weight.len() / outputs.max(1);
        let scaled = weight.chunks_exact(inputs.max(1)).zip(&sum.scale);
        let mut weight: Vec<f32> =
            scaled.flat_map(|(row, scale)| row.iter().map(move |weight| (weight * scale) as f32)).collect();
        let operation = match sum.kind {
            SumKind::Conv { kernel, stride, padding } if !linear => {
                let (kernel, padding) = self.evened(&mut weight, input.shape, kernel, stride, padding)?;
                Operation::Conv { channels: outputs, kernel, stride, padding, skip: None }
            }
            _ => Operation::Linear { channels: outputs, skip: None },
        };
        let name = self.name(if linear { "linear" } else { "conv" });
        let mut layer = Layer { name, operation };
        if let Some(skip) = &sum.skip {
            let name = match skip.index {
                0 => INPUT.to_owned(),
                index => self.layers[index - 1].name.clone(),
            };
            layer = layer.with_skip(&name);
        }
        let bias = bias.iter().map(|bias| *bias as f32).collect();
        self.push(layer, Some(LayerWeights { weight, bias }))
    }

    /// Kernel and padding of a convolution that pads every side alike: where it pads more below and to the right, zeros come
    /// before the kernel's first row and column.
    fn evened(
        &mut self,
        weight: &mut Vec<f32>,
        over: Shape,
        kernel: usize,
        stride: usize,
        padding: [usize; 4],
    ) -> Result<(usize, usize), Fault> {
        let [top, left, bottom, right] = padding;
        if padding.iter().all(|pad| *pad == top) {
            return Ok((kernel, top));
        }
        let more = top.max(left).max(bottom).max(right);
        let before = more - top;
        let (larger, wanted) = (kernel + before, Self::slide(over, kernel, stride, padding)?);
        let found = Self::slide(over, larger, stride, [more; 4])?;
        if top != left || bottom != right || found != wanted {
            return Err(Fault::new(format!("pads are {padding:?}, expected the same on all sides")));
        }
        self.spend((weight.len() / (kernel * kernel)).saturating_mul(larger * larger))?;
        let mut padded = Vec::with_capacity(weight.len() / (kernel * kernel) * larger * larger);
        for window in weight.chunks_exact(kernel * kernel) {
            padded.extend(std::iter::repeat_n(0.0, before * larger));
            for row in window.chunks_exact(kernel) {
                padded.extend(std::iter::repeat_n(0.0, before));
                padded.extend(row);
            }
        }
        *weight = padded;
        Ok((larger, more))
    }

    fn push(&mut self, layer: Layer, weights: Option<LayerWeights>) -> Result<(), Fault> {
        if self.layers.len() >= MAX_LAYERS {
            return Err(Fault::new(format!("the network becomes more than {MAX_LAYERS} layers")));
        }
        self.layers.push(layer);
        self.weights.push(weights);
        self.caps.push(None);
        Ok(())
    }

    /// Layers read what came just before them.
    fn expect_newest(&self, input: &Activation) -> Result<(), Fault> {
        if input.shape.elements() as u64 > MAX_ACTIVATIONS {
            return Err(Fault::new(format!("an activation is {}, more than {MAX_ACTIVATIONS} elements", input.shape)));
        }
        if input.index == self.layers.len() {
            return Ok(());
        }
        let name = |index: usize| index.checked_sub(1).map_or(INPUT, |layer| self.layers[layer].name.as_str());
        Err(Fault::new(format!(
            "it reads {}, expected the output of the layer before it, {}: of two branches only one may have layers, and \
             only an addition joins them",
            name(input.index),
            name(self.layers.len())
        )))
    }

    fn name(&self, kind: &str) -> String {
        format!("{kind}{}", 1 + self.layers.iter().filter(|layer| layer.name.starts_with(kind)).count())
    }
}
