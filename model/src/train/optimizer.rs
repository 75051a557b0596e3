//! How weights follow their gradients.

use std::fmt;
use std::str::FromStr;

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use serde::{Deserialize, Serialize};

use super::TrainError;

/// How fast AdamW forgets gradients and their squares, and what it divides by at least: the paper's defaults.
const BETA: [f32; 2] = [0.9, 0.999];
const EPSILON: f32 = 1e-8;

/// A way to follow gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization", 2019, algorithm 2.
    AdamW,
    /// Stochastic gradient descent with momentum; weight decay is part of the gradient, as in PyTorch.
    Sgd,
}

/// A method that is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown optimizer {found:?}, expected adamw or sgd")]
pub struct ParseMethodError {
    /// What was given.
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
    /// The learning rate.
    pub learning_rate: f64,
    /// The weight decay of weights; biases have none.
    pub weight_decay: f64,
    /// The momentum of stochastic gradient descent.
    pub momentum: f64,
}

/// Variables, and what a method remembers of their gradients.
#[derive(Debug)]
pub struct Optimizer {
    method: Method,
    variables: Vec<Variable>,
    steps: u64,
}

#[derive(Debug)]
struct Variable {
    var: Var,
    decays: bool,
    /// The mean of the gradients, or their sum with momentum.
    first: Vec<f32>,
    /// The mean of the squares; empty for stochastic gradient descent.
    second: Vec<f32>,
}

impl Optimizer {
    /// Begins with weights, which decay, and biases, which do not.
    pub fn new(method: Method, weights: Vec<Var>, biases: Vec<Var>) -> Self {
        let weights = weights.into_iter().map(|var| (var, true));
        let variable = |(var, decays): (Var, bool)| {
            let count = var.elem_count();
            let second = if method == Method::AdamW { vec![0.0; count] } else { Vec::new() };
            Variable { var, decays, first: vec![0.0; count], second }
        };
        let variables = weights.chain(biases.into_iter().map(|var| (var, false))).map(variable).collect();
        Self { method, variables, steps: 0 }
    }

    /// Follows the gradients by one step.
    ///
    /// # Errors
    /// Candle's.
    pub fn step(&mut self, gradients: &GradStore, size: StepSize) -> Result<(), TrainError> {
        self.steps += 1;
        for Variable { var, decays, first, second } in &mut self.variables {
            let Some(gradient) = gradients.get(var) else { continue };
            let gradient = gradient.flatten_all()?.to_vec1::<f32>()?;
            let mut values = var.flatten_all()?.to_vec1::<f32>()?;
            let decay = if *decays { size.weight_decay } else { 0.0 };
            match self.method {
                Method::AdamW => adamw(&mut values, &gradient, [first, second], self.steps, size.learning_rate, decay),
                Method::Sgd => {
                    let (rate, momentum, decay) = (size.learning_rate as f32, size.momentum as f32, decay as f32);
                    for ((value, gradient), velocity) in values.iter_mut().zip(&gradient).zip(first) {
                        *velocity = *velocity * momentum + gradient + decay * *value;
                        *value -= rate * *velocity;
                    }
                }
            }
            var.set(&Tensor::from_vec(values, var.shape(), var.device())?)?;
        }
        Ok(())
    }

    /// What the method remembers, for each variable the one and then, if there is one, the other list.
    pub(super) fn memory(&mut self) -> impl Iterator<Item = &mut Vec<f32>> {
        self.variables
            .iter_mut()
            .flat_map(|variable| [&mut variable.first, &mut variable.second])
            .filter(|list| !list.is_empty())
    }

    /// How many steps were done.
    pub(super) fn steps_mut(&mut self) -> &mut u64 {
        &mut self.steps
    }
}

fn adamw(values: &mut [f32], gradient: &[f32], [first, second]: [&mut Vec<f32>; 2], steps: u64, rate: f64, decay: f64) {
    // From 2^31 steps on the power is 0 anyway.
    let power = i32::try_from(steps).unwrap_or(i32::MAX);
    let [correct_first, correct_second] = BETA.map(|beta| (1.0 / (1.0 - f64::from(beta).powi(power))) as f32);
    let (keep, rate) = ((1.0 - rate * decay) as f32, rate as f32);
    for (((value, gradient), first), second) in values.iter_mut().zip(gradient).zip(first).zip(second) {
        *first = *first * BETA[0] + gradient * (1.0 - BETA[0]);
        *second = *second * BETA[1] + gradient * gradient * (1.0 - BETA[1]);
        let step = *first * correct_first / ((*second * correct_second).sqrt() + EPSILON);
        *value = *value * keep - rate * step;
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use candle_nn::optim::{AdamW, Optimizer as _, ParamsAdamW, SGD};

    use super::*;

    /// The gradient of half the squared distance from 1 is the distance.
    fn gradients(var: &Var) -> GradStore {
        (var.as_tensor() - 1.0).unwrap().sqr().unwrap().sum_all().unwrap().affine(0.5, 0.0).unwrap().backward().unwrap()
    }

    fn var() -> Var {
        Var::from_vec(vec![3f32, -2.0, 0.5], 3, &Device::Cpu).unwrap()
    }

    fn close(a: &Var, b: &Var) {
        let (a, b) = (a.to_vec1::<f32>().unwrap(), b.to_vec1::<f32>().unwrap());
        a.iter().zip(&b).for_each(|(x, y)| assert!((x - y).abs() < 1e-5, "{a:?} and {b:?}"));
    }

    #[test]
    fn agrees_with_candle() {
        let size = StepSize { learning_rate: 0.05, weight_decay: 0.1, momentum: 0.0 };
        let parameters = ParamsAdamW { lr: 0.05, weight_decay: 0.1, ..ParamsAdamW::default() };
        let (ours, theirs) = (var(), var());
        let mut mine = Optimizer::new(Method::AdamW, vec![ours.clone()], vec![]);
        let mut candle = AdamW::new(vec![theirs.clone()], parameters).unwrap();
        for _ in 0..20 {
            mine.step(&gradients(&ours), size).unwrap();
            candle.step(&gradients(&theirs)).unwrap();
        }
        close(&ours, &theirs);
        let (ours, theirs) = (var(), var());
        let mut mine = Optimizer::new(Method::Sgd, vec![], vec![ours.clone()]);
        let mut candle = SGD::new(vec![theirs.clone()], 0.05).unwrap();
        for _ in 0..20 {
            mine.step(&gradients(&ours), size).unwrap();
            candle.step(&gradients(&theirs)).unwrap();
        }
        close(&ours, &theirs);
    }

    #[test]
    fn momentum_adds_up_by_hand() {
        let var = Var::from_vec(vec![2f32], 1, &Device::Cpu).unwrap();
        let mut optimizer = Optimizer::new(Method::Sgd, vec![var.clone()], vec![]);
        let size = StepSize { learning_rate: 0.5, weight_decay: 0.25, momentum: 0.5 };
        // Gradient 1 and decay 0.5: velocity 1.5, value 1.25.
        optimizer.step(&gradients(&var), size).unwrap();
        assert_eq!(var.to_vec1::<f32>().unwrap(), [1.25]);
        // Half of 1.5, gradient 0.25 and decay 0.3125: velocity 1.3125, value 0.59375.
        optimizer.step(&gradients(&var), size).unwrap();
        assert_eq!(var.to_vec1::<f32>().unwrap(), [0.59375]);
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
