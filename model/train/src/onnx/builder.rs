//! The layers that the values of an ONNX graph become, one after the other.

use ocelli_model::graph::{Finish, INPUT, Input, Layer, MAX_LAYERS, Operation, Shape, Window};

use super::Fault;
use super::value::{Activation, Affine, Layout, Sum, SumKind};
use crate::train::LayerWeights;

/// The most numbers that are made on the way, so that a small file cannot ask for much memory.
const MAX_NUMBERS: usize = 1 << 27;

/// The activation that the network's input is: the halved pixels.
pub const PIXELS: usize = 1;
/// What is added to something, and clamped only then: it has all of a byte, since no product is taken of it.
const BRANCH: Finish = Finish::bytes(128);

/// Layers with their float weights, and what the output of those is clipped at that have a cap.
#[derive(Debug)]
pub struct Builder {
    pub input: Input,
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
    /// Begins with the pixels, halved, so that all activations that products are taken of have 7 bits.
    pub fn new(shape: Shape) -> Self {
        let input = Input::new(shape.channels, shape.height, shape.width);
        let half = Layer::new("half", &[INPUT], Operation::Lookup { zero_point: 0 });
        Self { input, layers: vec![half], weights: vec![None], caps: vec![None], numbers: 0 }
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
        let linear = SumKind::Linear == sum.kind;
        match &sum.skip {
            None => self.push_sum(sum, linear, Some(Finish::RELU))?,
            Some(skip) => {
                self.push_sum(sum, linear, Some(BRANCH))?;
                let from = [self.layer_name(self.layers.len()), self.layer_name(skip.index)];
                // What the multipliers are is found when it is quantised.
                let operation = Operation::Add { multipliers: [1, 1], shift: 1, finish: Finish::RELU };
                self.push(Layer::new(&self.name("add"), &from.each_ref().map(String::as_str), operation), None)?;
            }
        }
        *self.caps.last_mut().expect("a layer was built") = cap;
        if let Some((kernel, stride)) = sum.max_pool {
            self.push_max_pool(self.layers.len(), kernel, stride)?;
        }
        Ok(Activation { index: self.layers.len(), shape: sum.shape, layout: sum.layout, affine: None })
    }

    /// Builds the layer of a sum that is added to another one.
    pub fn branch(&mut self, sum: &Sum) -> Result<Activation, Fault> {
        if sum.skip.is_some() || sum.max_pool.is_some() {
            return Err(Fault::new("it adds a second activation to a sum, or one to what was pooled"));
        }
        self.push_sum(sum, SumKind::Linear == sum.kind, Some(BRANCH))?;
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
        self.push_sum(sum, true, None)
    }

    /// Builds a max-pool over an activation.
    pub fn max_pool(&mut self, over: &Activation, kernel: usize, stride: usize) -> Result<Activation, Fault> {
        if over.affine().scale.iter().any(|scale| *scale < 0.0) {
            return Err(Fault::new("a max-pool follows a scale below 0"));
        }
        let shape = Self::slide(over.shape, kernel, stride, [0; 4])?;
        self.push_max_pool(over.index, kernel, stride)?;
        Ok(Activation { index: self.layers.len(), shape, ..over.clone() })
    }

    /// Builds a mean over windows.
    pub fn mean_pool(&mut self, over: &Activation, kernel: usize, stride: usize) -> Result<Activation, Fault> {
        if kernel == 1 && stride == 1 {
            return Ok(over.clone());
        }
        let shape = Self::slide(over.shape, kernel, stride, [0; 4])?;
        let operation = Operation::AveragePool { window: Window::square(kernel, stride, 0), finish: Finish::RELU };
        self.push(Layer::new(&self.name("mean"), &[&self.layer_name(over.index)], operation), None)?;
        Ok(Activation { index: self.layers.len(), shape, ..over.clone() })
    }

    fn push_max_pool(&mut self, over: usize, kernel: usize, stride: usize) -> Result<(), Fault> {
        let window = Window::square(kernel, stride, 0);
        self.push(Layer::max_pool(&self.name("pool"), &self.layer_name(over), window), None)
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
        let (name, from) = (self.name("scale"), self.layer_name(of.index));
        let layer = Layer::conv(&name, &from, outputs, Window::square(1, 1, 0), Finish::RELU);
        self.push(layer, Some(LayerWeights { weight, bias }))
    }

    /// Builds the layer of a sum, linear or convolution; without a finish the last one.
    fn push_sum(&mut self, sum: &Sum, linear: bool, finish: Option<Finish>) -> Result<(), Fault> {
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
        let inputs = weight.len() / outputs.max(1);
        let scaled = weight.chunks_exact(inputs.max(1)).zip(&sum.scale);
        let weight: Vec<f32> =
            scaled.flat_map(|(row, scale)| row.iter().map(move |weight| (weight * scale) as f32)).collect();
        let operation = match (sum.kind, finish) {
            (SumKind::Conv { kernel, stride, padding }, Some(finish)) if !linear => {
                let window = Window { kernel: [kernel; 2], stride: [stride; 2], padding };
                Operation::Conv { channels: outputs, groups: 1, window, finish }
            }
            _ => Operation::Linear { channels: outputs, finish },
        };
        let name = self.name(if linear { "linear" } else { "conv" });
        let layer = Layer::new(&name, &[&self.layer_name(input.index)], operation);
        let bias = bias.iter().map(|bias| *bias as f32).collect();
        self.push(layer, Some(LayerWeights { weight, bias }))
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

    /// What layers call an activation that they read.
    fn layer_name(&self, activation: usize) -> String {
        activation.checked_sub(1).map_or(INPUT, |layer| &self.layers[layer].name).to_owned()
    }

    fn name(&self, kind: &str) -> String {
        format!("{kind}{}", 1 + self.layers.iter().filter(|layer| layer.name.starts_with(kind)).count())
    }
}
