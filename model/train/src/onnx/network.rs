//! A float network as a file has it, in the layers that a graph of ours will have: what is run to calibrate, and what becomes
//! integers.
//!
//! Activation 0 is the input, activation `i + 1` the output of layer `i`. All are (channels, rows, columns).

use std::sync::Arc;

use ocelli_model::graph::{Shape, Window};

/// A float network.
#[derive(Debug, Clone)]
pub struct Network {
    pub input: NetworkInput,
    pub layers: Vec<NetworkLayer>,
}

/// What the network reads: of a pixel `p`, 0..=255, `step * (p - zero)`.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkInput {
    pub shape: Shape,
    /// The step and the zero point of the file's own bytes; without one the step is 1, and layers over the input
    /// [read pixels](NetworkLayer::reads_pixels).
    pub grid: Option<GivenGrid>,
    /// For each channel the pixel that padding stands for: 0, or the mean that the network subtracts.
    pub zeros: Vec<f64>,
}

impl NetworkInput {
    /// The bytes that padding is filled with.
    pub fn zero_points(&self) -> Vec<u8> {
        self.zeros.iter().map(|zero| zero.round().clamp(0.0, 255.0) as u8).collect()
    }
}

/// A step.
#[derive(Debug, Clone)]
pub struct NetworkLayer {
    /// What it is called as a layer of ours.
    pub name: String,
    /// The node of the file that it begins with.
    pub node: String,
    pub from: Vec<usize>,
    pub kind: LayerKind,
    /// Between which numbers the output is clamped: `low <= 0 <= high`, or infinite.
    pub low: f64,
    pub high: f64,
    pub shape: Shape,
    /// The integers that the file gives the output.
    pub grid: Option<GivenGrid>,
    /// Between which numbers the output lies before it is clamped, by the statistics of a batch normalisation.
    pub likely: Option<(f64, f64)>,
}

/// What a layer does.
#[derive(Debug, Clone)]
pub enum LayerKind {
    Conv {
        sums: Sums,
        groups: usize,
        window: Window,
    },
    Linear(Sums),
    Add,
    Multiply,
    AveragePool(Window),
    MaxPool(Window),
    Concat,
    /// Each element by itself.
    Function(Arc<Function>),
}

/// The numbers of a convolution or linear layer.
#[derive(Debug, Clone)]
pub struct Sums {
    /// `(O, I / groups, rows, columns)`, or `(O, I)` in CHW order.
    pub weight: Arc<Vec<f32>>,
    pub bias: Vec<f64>,
    /// The same as the file's integers.
    pub given: Option<GivenSums>,
}

/// Weights and biases as a file's integers.
#[derive(Debug, Clone)]
pub struct GivenSums {
    /// Counted from their zero point, -255..=255.
    pub weight: Arc<Vec<i16>>,
    /// What a step of each output channel's weights is.
    pub scale: Vec<f32>,
    /// None where the file has them as floats.
    pub bias: Option<GivenBias>,
}

/// Biases as a file's integers.
#[derive(Debug, Clone)]
pub struct GivenBias {
    pub values: Vec<i32>,
    /// What a step of each is; none for zeros.
    pub scale: Option<Vec<f32>>,
}

/// What the bytes of an activation stand for: `scale * (byte - zero point)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GivenGrid {
    pub scale: f32,
    pub zero_point: u8,
}

/// A function of one number.
#[derive(Debug, Clone, PartialEq)]
pub enum Function {
    /// The number itself.
    Given,
    Constant(f64),
    Add(Arc<Function>, Arc<Function>),
    Multiply(Arc<Function>, Arc<Function>),
    Divide(Arc<Function>, Arc<Function>),
    Least(Arc<Function>, Arc<Function>),
    Greatest(Arc<Function>, Arc<Function>),
    Sigmoid(Arc<Function>),
    Tanh(Arc<Function>),
    Erf(Arc<Function>),
    Exp(Arc<Function>),
    Softplus(Arc<Function>),
    /// Below zero times a factor.
    LeakyRelu(f64, Arc<Function>),
    /// Below zero `factor * (exp(x) - 1)`.
    Elu(f64, Arc<Function>),
}

impl Function {
    /// This one of what the other gives.
    pub fn after(&self, before: &Arc<Self>) -> Self {
        let of = |a: &Arc<Self>| Arc::new(a.after(before));
        match self {
            Self::Given => (**before).clone(),
            Self::Constant(value) => Self::Constant(*value),
            Self::Add(a, b) => Self::Add(of(a), of(b)),
            Self::Multiply(a, b) => Self::Multiply(of(a), of(b)),
            Self::Divide(a, b) => Self::Divide(of(a), of(b)),
            Self::Least(a, b) => Self::Least(of(a), of(b)),
            Self::Greatest(a, b) => Self::Greatest(of(a), of(b)),
            Self::Sigmoid(a) => Self::Sigmoid(of(a)),
            Self::Tanh(a) => Self::Tanh(of(a)),
            Self::Erf(a) => Self::Erf(of(a)),
            Self::Exp(a) => Self::Exp(of(a)),
            Self::Softplus(a) => Self::Softplus(of(a)),
            Self::LeakyRelu(factor, a) => Self::LeakyRelu(*factor, of(a)),
            Self::Elu(factor, a) => Self::Elu(*factor, of(a)),
        }
    }

    /// Its value; `x` is the number.
    pub fn of(&self, x: f64) -> f64 {
        match self {
            Self::Given => x,
            Self::Constant(value) => *value,
            Self::Add(a, b) => a.of(x) + b.of(x),
            Self::Multiply(a, b) => a.of(x) * b.of(x),
            Self::Divide(a, b) => a.of(x) / b.of(x),
            Self::Least(a, b) => a.of(x).min(b.of(x)),
            Self::Greatest(a, b) => a.of(x).max(b.of(x)),
            Self::Sigmoid(a) => 1.0 / (1.0 + (-a.of(x)).exp()),
            Self::Tanh(a) => a.of(x).tanh(),
            Self::Erf(a) => erf(a.of(x)),
            Self::Exp(a) => a.of(x).exp(),
            Self::Softplus(a) => {
                let value = a.of(x);
                value.max(0.0) + (-value.abs()).exp().ln_1p()
            }
            Self::LeakyRelu(factor, a) => {
                let value = a.of(x);
                if value < 0.0 { factor * value } else { value }
            }
            Self::Elu(factor, a) => {
                let value = a.of(x);
                if value < 0.0 { factor * value.exp_m1() } else { value }
            }
        }
    }

    /// How many operations it is made of; an operator that is written out has a few.
    pub fn size(&self) -> usize {
        match self {
            Self::Given | Self::Constant(_) => 1,
            Self::Add(a, b) | Self::Multiply(a, b) | Self::Divide(a, b) | Self::Least(a, b) | Self::Greatest(a, b) => {
                1 + a.size() + b.size()
            }
            Self::Sigmoid(a)
            | Self::Tanh(a)
            | Self::Erf(a)
            | Self::Exp(a)
            | Self::Softplus(a)
            | Self::LeakyRelu(_, a)
            | Self::Elu(_, a) => 1 + a.size(),
        }
    }
}

/// The error function: W. J. Cody's bounds are not needed here, its series and continued fraction to 1e-12 are.
fn erf(x: f64) -> f64 {
    let magnitude = x.abs();
    let value = if magnitude < 2.5 {
        // erf(x) = 2 / sqrt(pi) * exp(-x^2) * sum of 2^n x^(2n+1) / (1 * 3 * … * (2n+1)), all of one sign.
        let (mut term, mut sum) = (magnitude, magnitude);
        for n in 1..80 {
            term *= 2.0 * magnitude * magnitude / f64::from(2 * n + 1);
            sum += term;
        }
        sum * (-magnitude * magnitude).exp() * std::f64::consts::FRAC_2_SQRT_PI
    } else {
        // erfc(x) = exp(-x^2) / sqrt(pi) / (x + (1/2) / (x + 1 / (x + (3/2) / (x + …)))).
        let fraction = (1..60).rev().fold(magnitude, |below, n| magnitude + f64::from(n) / 2.0 / below);
        1.0 - (-magnitude * magnitude).exp() / std::f64::consts::PI.sqrt() / fraction
    };
    value.copysign(x)
}

impl GivenGrid {
    /// The byte of a number, as ONNX's QuantizeLinear rounds it: to the nearest, ties to even.
    pub fn byte(&self, value: f64) -> u8 {
        let steps = (value as f32 / self.scale).round_ties_even();
        (steps + f32::from(self.zero_point)).clamp(0.0, 255.0) as u8
    }

    /// What a byte stands for.
    pub fn value(&self, byte: u8) -> f64 {
        f64::from(self.scale * (f32::from(byte) - f32::from(self.zero_point)))
    }
}

impl Network {
    /// Whether there is an activation for which the file gives no integers.
    pub fn needs_pictures(&self) -> bool {
        let last = self.layers.len() - 1;
        let is_open = |layer: &NetworkLayer| {
            layer.grid.is_none() && !matches!(layer.kind, LayerKind::MaxPool(_) | LayerKind::Concat)
        };
        self.layers[..last].iter().any(is_open)
    }

    /// The shape of an activation.
    pub fn shape(&self, activation: usize) -> Shape {
        activation.checked_sub(1).map_or(self.input.shape, |layer| self.layers[layer].shape)
    }

    /// The layers that read an activation.
    pub fn readers(&self, activation: usize) -> impl Iterator<Item = &NetworkLayer> {
        self.layers.iter().filter(move |layer| layer.from.contains(&activation))
    }
}

impl NetworkLayer {
    /// The numbers, of a convolution or linear layer.
    pub fn sums(&self) -> Option<&Sums> {
        match &self.kind {
            LayerKind::Conv { sums, .. } | LayerKind::Linear(sums) => Some(sums),
            _ => None,
        }
    }

    /// As [`NetworkLayer::sums`], to change.
    pub fn sums_mut(&mut self) -> Option<&mut Sums> {
        match &mut self.kind {
            LayerKind::Conv { sums, .. } | LayerKind::Linear(sums) => Some(sums),
            _ => None,
        }
    }

    /// Whether its numbers are for pixels themselves, and not for what is counted from their zero points.
    pub fn reads_pixels(&self, input: &NetworkInput) -> bool {
        self.from[0] == 0 && input.grid.is_none()
    }

    /// The biases for what is counted from `zeros`, one for each channel of the input, where the layer reads pixels.
    pub fn counted_bias(&self, input: &NetworkInput, zeros: &[f64]) -> Vec<f64> {
        let Some(sums) = self.sums() else { return Vec::new() };
        let mut bias = sums.bias.clone();
        if !self.reads_pixels(input) {
            return bias;
        }
        let (outputs, row) = (bias.len(), sums.weight.len() / bias.len());
        let (groups, plane) = match &self.kind {
            LayerKind::Conv { groups, window, .. } => (*groups, window.taps()),
            _ => (1, input.shape.plane()),
        };
        let inputs = row / plane;
        for (output, (bias, weights)) in bias.iter_mut().zip(sums.weight.chunks_exact(row)).enumerate() {
            let first = output / (outputs / groups) * inputs;
            for (channel, weights) in weights.chunks_exact(plane).enumerate() {
                let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
                *bias += sum * zeros[first + channel];
            }
        }
        bias
    }

    /// What it is called here and in the file.
    pub fn title(&self) -> String {
        format!("{} (node {})", self.name, self.node)
    }

    /// Whether its numbers may still be changed: nothing is done to its sums yet.
    pub fn is_open(&self) -> bool {
        self.low == f64::NEG_INFINITY && self.high == f64::INFINITY && self.grid.is_none()
    }
}

impl LayerKind {
    /// What layers of this kind are called, with a number.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Conv { .. } => "conv",
            Self::Linear(_) => "linear",
            Self::Add => "add",
            Self::Multiply => "multiply",
            Self::AveragePool(_) => "mean",
            Self::MaxPool(_) => "pool",
            Self::Concat => "concat",
            Self::Function(_) => "lookup",
        }
    }

    /// Whether the output is clamped where the sums are made bytes of.
    pub fn is_clamped_in_passing(&self) -> bool {
        !matches!(self, Self::MaxPool(_) | Self::Concat | Self::Function(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_have_the_values_of_others() {
        // Python's math.erf.
        let table = [
            (0.0, 0.0),
            (0.3, 0.3286267594591274),
            (1.0, 0.8427007929497149),
            (-2.4, -0.9993114861033549),
            (2.6, 0.9997639655834707),
            (5.0, 0.9999999999984626),
        ];
        for (x, expected) in table {
            assert!((erf(x) - expected).abs() < 1e-12, "erf({x}) is {}, not {expected}", erf(x));
        }
        let given = Arc::new(Function::Given);
        assert!((Function::Softplus(given.clone()).of(-3.0) - 0.04858735157374196).abs() < 1e-15);
        assert!((Function::Elu(0.5, given.clone()).of(-1.0) + 0.31606027941427883).abs() < 1e-15);
        assert_eq!(Function::LeakyRelu(0.25, given.clone()).of(-2.0), -0.5);
        assert!((Function::Sigmoid(given).of(2.0) - 0.8807970779778823).abs() < 1e-15);
    }
}
