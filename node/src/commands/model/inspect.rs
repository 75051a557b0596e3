//! `ocelli model inspect`.

use ocelli_model::quantize::proof_slack;
use ocelli_model::{Model, Operation, Shape};
use serde::Serialize;
use serde_json::json;

use super::super::error::CommandError;
use super::super::output::Output;
use super::{DEFAULT_MODEL, load};

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
    output: Shape,
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
        ("cost", model.cost().to_string()),
        ("file", format!("{} bytes", model.bytes().len())),
    ])?;
    output.line("")?;
    output.line(format_args!(
        "{:<16} {:<9} {:>12} {:>11} {:>12} {:>7} {:>11}",
        "layer", "kind", "output", "parameters", "mult.-acc.", "shifts", "proof slack"
    ))?;
    for layer in layers {
        let shifts = layer.shifts.map_or(String::new(), |(least, most)| format!("{least}..{most}"));
        let slack = layer.proof_slack.map_or(String::new(), |slack| format!("{:.1} %", slack * 100.0));
        output.line(format_args!(
            "{:<16} {:<9} {:>12} {:>11} {:>12} {shifts:>7} {slack:>11}",
            layer.name,
            layer.kind,
            layer.output.to_string(),
            layer.parameters,
            layer.multiply_accumulates
        ))?;
    }
    Ok(())
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
            output: shape,
            parameters: parameters.weight.len() + parameters.bias.len(),
            multiply_accumulates: parameters.weight.len() as u64 * places as u64,
            shifts: shifts.clone().min().zip(shifts.max()),
            proof_slack: proof_slack(model, index),
        }
    };
    graph.layers().iter().enumerate().map(row).collect()
}
