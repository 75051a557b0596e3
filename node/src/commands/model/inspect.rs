//! `ocelli model inspect`.

use ocelli_consensus::network::{ModelParameters, Network};
use ocelli_consensus::rules;
use ocelli_consensus::transaction::{Action, Transaction, Unsigned};
use ocelli_consensus::{Amount, ImageHash, ModelId};
use ocelli_model::proof::slack;
use ocelli_model::{Model, Operation, Shape};
use ocelli_program::model_option::{DEFAULT_MODEL, load};
use serde::Serialize;
use serde_json::json;

use super::super::error::CommandError;
use super::super::output::Output;

/// The network whose blocks are filled.
const NETWORK: &str = "testnet";

/// Show what a model is made of, what it costs, and how far it is from inexact
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model: a name that is built in, or a model file
    #[arg(value_name = "NAME|FILE", default_value = DEFAULT_MODEL)]
    model: String,
}

#[derive(Debug, Serialize)]
struct LayerRow {
    name: String,
    kind: &'static str,
    /// Kernel, stride and padding, or shift, and what is added.
    details: String,
    input: Shape,
    output: Shape,
    /// The shape of the weights.
    weights: Option<Vec<usize>>,
    parameters: usize,
    multiply_accumulates: u64,
    /// The smallest and the largest shift.
    shifts: Option<(u8, u8)>,
    /// The share of 2^24 that no partial sum can reach.
    proof_slack: Option<f64>,
}

/// Runs the command.
///
/// # Errors
/// For an unknown model.
pub fn run(args: &Args, output: &mut Output) -> Result<(), CommandError> {
    let model = load(&args.model)?;
    let layers = rows(&model);
    let id = model.id().to_string();
    let Weight { weight, tasks_a_block } = weight(&model);
    let multiply_accumulates: u64 = layers.iter().map(|layer| layer.multiply_accumulates).sum();
    if output.is_json() {
        return output.json(&json!({
            "name": model.name(),
            "id": id,
            "input": model.input(),
            "classes": model.classes(),
            "scale": model.display().scale,
            "parameters": model.parameter_count(),
            "multiply_accumulates": multiply_accumulates,
            "cost": model.cost(),
            "weight": weight,
            "tasks_a_block": tasks_a_block,
            "bytes": model.bytes().len(),
            "layers": layers,
            "card": model.display().card,
        }));
    }
    output.rows(&[
        ("model", model.name().to_owned()),
        ("id", id),
        ("input", model.input().to_string()),
        ("classes", model.classes().join(", ")),
        ("parameters", model.parameter_count().to_string()),
        ("multiply-accumulates", multiply_accumulates.to_string()),
        ("cost", format!("{} integer operations an image", model.cost())),
        ("weight in a block", format!("{weight} a task, {tasks_a_block} tasks fill a block of {NETWORK}")),
        ("file", format!("{} bytes", model.bytes().len())),
    ])?;
    output.line("")?;
    output.line(format_args!(
        "{:<16} {:<9} {:>12} {:>11} {:>12} {:>7} {:>11}  details",
        "layer", "kind", "output", "parameters", "mult.-acc.", "shifts", "proof slack"
    ))?;
    for layer in layers {
        let shifts = layer.shifts.map_or(String::new(), |(least, most)| format!("{least}..{most}"));
        let slack = layer.proof_slack.map_or(String::new(), |slack| format!("{:.1} %", slack * 100.0));
        let line = format!(
            "{:<16} {:<9} {:>12} {:>11} {:>12} {shifts:>7} {slack:>11}  {}",
            layer.name,
            layer.kind,
            layer.output.to_string(),
            layer.parameters,
            layer.multiply_accumulates,
            layer.details
        );
        output.line(line.trim_end())?;
    }
    Ok(())
}

/// What one task takes of a block's room, and how many such tasks fill a block.
struct Weight {
    weight: u64,
    tasks_a_block: u64,
}

fn weight(model: &Model) -> Weight {
    let mut parameters = Network::builtin(NETWORK).expect("a test loads every built-in network").parameters;
    let id = ModelId(*model.id().as_bytes());
    // A file has at most 2^22 pixels and logits.
    let (pixels, logits) = (model.pixels() as u32, model.logits() as u32);
    parameters.models = vec![ModelParameters { id, pixels, logits, cost: model.cost() }];
    let action = Action::Classify { model: id, image: ImageHash([0; 32]) };
    let unsigned = Unsigned { nonce: 0, fee: Amount::ZERO, expires: 0, action };
    let task = Transaction { unsigned, public_key: [0; 32], signature: [0; 64] };
    let weight = rules::weight(&task, &parameters, 0).expect("the parameters have this model alone");
    Weight { weight, tasks_a_block: parameters.weight_limit / weight }
}

fn rows(model: &Model) -> Vec<LayerRow> {
    let graph = model.graph();
    let row = |(index, layer): (usize, &ocelli_model::Layer)| {
        let (parameters, shape) = (model.parameters(index), graph.activations()[index + 1]);
        let places = match layer.operation {
            Operation::Conv { .. } => shape.height * shape.width,
            _ => 1,
        };
        let shifts = parameters.shift.iter().copied();
        LayerRow {
            name: layer.name.clone(),
            kind: layer.operation.kind(),
            details: details(&layer.operation),
            input: graph.activations()[index],
            output: shape,
            weights: graph.weight_shape(index),
            parameters: parameters.weight.len() + parameters.bias.len(),
            multiply_accumulates: parameters.weight.len() as u64 * places as u64,
            shifts: shifts.clone().min().zip(shifts.max()),
            proof_slack: slack(parameters),
        }
    };
    graph.layers().iter().enumerate().map(row).collect()
}

fn details(operation: &Operation) -> String {
    let details = match operation {
        Operation::Conv { kernel, stride, padding, .. } => {
            format!("kernel {kernel}, stride {stride}, padding {padding}")
        }
        Operation::Linear { .. } => String::new(),
        Operation::MaxPool { kernel, stride } => format!("kernel {kernel}, stride {stride}"),
        Operation::SumPool { kernel, stride, shift } => format!("kernel {kernel}, stride {stride}, shift {shift}"),
    };
    match operation.skip() {
        None => details,
        Some(skip) if details.is_empty() => format!("adds {skip}"),
        Some(skip) => format!("{details}, adds {skip}"),
    }
}
