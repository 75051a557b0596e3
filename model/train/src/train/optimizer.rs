//! How weights follow their gradients.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::widest::widest;

/// How fast AdamW forgets gradients and their squares, and what it divides by at least: the paper's defaults.
const BETA: [f32; 2] = [0.9, 0.999];
const EPSILON: f32 = 1e-8;

/// A way to follow gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization", 2019, algorithm 2.
    AdamW,
    /// Stochastic gradient descent with Nesterov's momentum (I. Sutskever et al., "On the importance of initialization and
    /// momentum in deep learning", 2013); weight decay is part of the gradient, as in PyTorch.
    Sgd,
}

/// A method that is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown optimizer {found:?}, expected adamw or sgd")]
pub struct ParseMethodError {
    pub found: String,
}

impl FromStr for Method {
    type Err = ParseMethodError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "adamw" => Ok(Self::AdamW),
            "sgd" => Ok(Self::Sgd),
            _ => Err(ParseMethodError { found: text.into() }),
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AdamW => "adamw",
            Self::Sgd => "sgd",
        })
    }
}

/// The numbers of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepSize {
    pub learning_rate: f64,
    /// The weight decay of weights; biases have none.
    pub weight_decay: f64,
    /// The momentum of stochastic gradient descent.
    pub momentum: f64,
}

/// What a method remembers of the gradients of a list of numbers.
#[derive(Debug)]
pub struct Optimizer {
    method: Method,
    /// How many of the numbers decay: those at the beginning.
    decaying: usize,
    /// The means of the gradients, or their sums with momentum.
    first: Vec<f32>,
    /// The means of the squares; empty for stochastic gradient descent.
    second: Vec<f32>,
    steps: u64,
}

impl Optimizer {
    /// Begins with so many numbers, of which the first decay.
    pub fn new(method: Method, count: usize, decaying: usize) -> Self {
        let second = if method == Method::AdamW { vec![0.0; count] } else { Vec::new() };
        Self { method, decaying, first: vec![0.0; count], second, steps: 0 }
    }

    /// Follows the gradient of the numbers by one step.
    pub fn step(&mut self, values: &mut [f32], gradient: &[f32], size: StepSize) {
        self.steps += 1;
        for (range, decay) in [(0..self.decaying, size.weight_decay), (self.decaying..self.first.len(), 0.0)] {
            let (values, gradient) = (&mut values[range.clone()], &gradient[range.clone()]);
            let first = &mut self.first[range.clone()];
            match self.method {
                Method::AdamW => {
                    let moments = [first, &mut self.second[range]];
                    adamw(values, gradient, moments, self.steps, size.learning_rate, decay);
                }
                Method::Sgd => sgd(values, gradient, first, size, decay),
            }
        }
    }

    /// What the method remembers: the one and then, if there is one, the other list.
    pub(super) fn memory(&mut self) -> impl Iterator<Item = &mut Vec<f32>> {
        [&mut self.first, &mut self.second].into_iter().filter(|list| !list.is_empty())
    }

    /// How many steps were done.
    pub(super) fn steps_mut(&mut self) -> &mut u64 {
        &mut self.steps
    }
}

fn adamw(values: &mut [f32], gradient: &[f32], [first, second]: [&mut [f32]; 2], steps: u64, rate: f64, decay: f64) {
    // From 2^31 steps on the power is 0 anyway.
    let power = i32::try_from(steps).unwrap_or(i32::MAX);
    let [correct_first, correct_second] = BETA.map(|beta| (1.0 / (1.0 - f64::from(beta).powi(power))) as f32);
    let (keep, rate) = ((1.0 - rate * decay) as f32, rate as f32);
    widest!({
        for (((value, gradient), first), second) in
            values.iter_mut().zip(gradient).zip(first.iter_mut()).zip(second.iter_mut())
        {
            *first = normal(*first * BETA[0] + gradient * (1.0 - BETA[0]));
            *second = normal(*second * BETA[1] + gradient * gradient * (1.0 - BETA[1]));
            let step = *first * correct_first / ((*second * correct_second).sqrt() + EPSILON);
            *value = *value * keep - rate * step;
        }
    });
}

fn sgd(values: &mut [f32], gradient: &[f32], velocities: &mut [f32], size: StepSize, decay: f64) {
    let (rate, momentum, decay) = (size.learning_rate as f32, size.momentum as f32, decay as f32);
    widest!({
        for ((value, gradient), velocity) in values.iter_mut().zip(gradient).zip(velocities.iter_mut()) {
            let gradient = gradient + decay * *value;
            *velocity = normal(*velocity * momentum + gradient);
            *value -= rate * (gradient + momentum * *velocity);
        }
    });
}

/// A number, or 0 instead of a subnormal one. The mean of what no longer has a gradient, such as that of a dead neuron, becomes
/// subnormal after some hundred steps and stays so, and processors take a hundred times as long over such numbers.
#[inline(always)]
fn normal(number: f32) -> f32 {
    if number.abs() < f32::MIN_POSITIVE { 0.0 } else { number }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};
    use candle_nn::optim::{AdamW, Optimizer as _, ParamsAdamW, SGD};

    use super::*;

    const START: [f32; 3] = [3.0, -2.0, 0.5];

    /// The gradient of half the squared distance from 1 is the distance.
    fn follow(optimizer: &mut Optimizer, values: &mut [f32], size: StepSize) {
        let gradient: Vec<f32> = values.iter().map(|value| value - 1.0).collect();
        optimizer.step(values, &gradient, size);
    }

    /// Where one of candle's optimizers gets after 20 steps.
    fn candle(mut optimizer: impl candle_nn::Optimizer, var: &Var) -> Vec<f32> {
        for _ in 0..20 {
            let loss = (var.as_tensor() - 1.0).unwrap().sqr().unwrap().sum_all().unwrap().affine(0.5, 0.0).unwrap();
            optimizer.step(&loss.backward().unwrap()).unwrap();
        }
        var.to_vec1().unwrap()
    }

    #[test]
    fn agrees_with_candle() {
        let size = StepSize { learning_rate: 0.05, weight_decay: 0.1, momentum: 0.0 };
        let parameters = ParamsAdamW { lr: 0.05, weight_decay: 0.1, ..ParamsAdamW::default() };
        let var = || Var::from_slice(&START, 3, &Device::Cpu).unwrap();
        let (adamw, sgd) = (var(), var());
        for (method, decaying, theirs) in [
            (Method::AdamW, 3, candle(AdamW::new(vec![adamw.clone()], parameters).unwrap(), &adamw)),
            (Method::Sgd, 0, candle(SGD::new(vec![sgd.clone()], 0.05).unwrap(), &sgd)),
        ] {
            let (mut ours, mut optimizer) = (START, Optimizer::new(method, 3, decaying));
            for _ in 0..20 {
                follow(&mut optimizer, &mut ours, size);
            }
            ours.iter().zip(&theirs).for_each(|(x, y)| assert!((x - y).abs() < 1e-5, "{ours:?} and {theirs:?}"));
        }
    }

    #[test]
    fn momentum_adds_up_by_hand() {
        let (mut values, mut optimizer) = ([2f32, 2.0], Optimizer::new(Method::Sgd, 2, 1));
        let size = StepSize { learning_rate: 0.5, weight_decay: 0.25, momentum: 0.5 };
        // The first decays: gradient 1.5, velocity 1.5, so 0.5 * (1.5 + 0.75) is subtracted. The second: 0.5 * (1 + 0.5).
        follow(&mut optimizer, &mut values, size);
        assert_eq!(values, [0.875, 1.25]);
        // Gradients -0.125 + 0.21875 and 0.25; velocities 0.84375 and 0.75.
        follow(&mut optimizer, &mut values, size);
        assert_eq!(values, [0.875 - 0.5 * (0.09375 + 0.421875), 1.25 - 0.5 * (0.25 + 0.375)]);
    }

    #[test]
    fn what_has_no_gradient_any_more_is_forgotten() {
        // 0.9^n is below the smallest normal number after 829 steps, 0.999^n after 87,000; the bound is twice that.
        for (method, steps) in [(Method::AdamW, 180_000), (Method::Sgd, 1_700)] {
            let (mut values, mut optimizer) = ([1f32; 9], Optimizer::new(method, 9, 0));
            let size = StepSize { learning_rate: 0.1, weight_decay: 0.0, momentum: 0.9 };
            optimizer.step(&mut values, &[1.0; 9], size);
            for _ in 0..steps {
                optimizer.step(&mut values, &[0.0; 9], size);
                assert!(optimizer.memory().flatten().all(|number| !number.is_subnormal()));
            }
            assert!(optimizer.memory().flatten().all(|number| *number == 0.0));
        }
    }

    #[test]
    fn names() {
        for method in [Method::AdamW, Method::Sgd] {
            assert_eq!(method.to_string().parse(), Ok(method));
            assert_eq!(serde_json::to_string(&method).unwrap(), format!("\"{method}\""));
        }
        assert_eq!("adam".parse::<Method>(), Err(ParseMethodError { found: "adam".into() }));
    }
}
