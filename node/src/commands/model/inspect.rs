//! `ocelli model inspect`.

use ocelli_consensus::network::Network;
use ocelli_model::graph::products;
use ocelli_model::{Bounds, Model, Operation, Shape};
use ocelli_program::model_option::{DEFAULT_MODEL, load};
use serde::Serialize;
use serde_json::json;

use super::super::error::CommandError;
use super::super::output::Printer;
use crate::fee::task_weight;
use crate::inference::facts_of;

/// The network whose blocks are filled.
const NETWORK: &str = "testnet";

/// Show what a model is made of, what it costs, and how large its sums can be
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
    from: Vec<String>,
    /// Kernel, stride and padding, multipliers and shift.
    details: String,
    output: Shape,
    /// Zero point and bounds of the output; none of the logits.
    values: Option<Values>,
    /// The shape of the weights.
    weights: Option<Vec<usize>>,
    parameters: usize,
    products: u64,
    /// What the magnitude of a sum can be; 0 where nothing is summed.
    bound: i64,
}

#[derive(Debug, Serialize)]
struct Values {
    zero_point: u8,
    low: u8,
    high: u8,
}

/// Runs the command.
///
/// # Errors
/// For an unknown model.
pub fn run(args: &Args, output: &mut Printer) -> Result<(), CommandError> {
    let model = load(&args.model)?;
    let layers = rows(&model);
    let id = model.id().to_string();
    let Weight { weight, tasks_a_block } = weight(&model);
    let products: u64 = layers.iter().map(|layer| layer.products).sum();
    let input = model.graph().input();
    if output.is_json() {
        return output.json(&json!({
            "name": model.name(),
            "id": id,
            "input": input,
            "classes": model.classes(),
            "scale": model.display().scale,
            "parameters": model.parameter_count(),
            "products": products,
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
        ("input", format!("{}, zero points {:?}, crop {} of 256", input.shape, input.zero_points, input.crop)),
        ("classes", model.classes().join(", ")),
        ("parameters", model.parameter_count().to_string()),
        ("products", products.to_string()),
        ("cost", format!("{} integer operations an image", model.cost())),
        ("weight in a block", format!("{weight} a task, {tasks_a_block} tasks fill a block of {NETWORK}")),
        ("file", format!("{} bytes", model.bytes().len())),
    ])?;
    output.line("")?;
    if let Some(error) = model.display_error() {
        output.line(format_args!("name, classes and card cannot be shown: {error}"))?;
    }
    output.line(format_args!(
        "{:<16} {:<12} {:>12} {:>13} {:>11} {:>12} {:>11}  details",
        "layer", "kind", "output", "values", "parameters", "products", "bound"
    ))?;
    for LayerRow { name, kind, from, details, output: shape, values, parameters, products, bound, .. } in layers {
        let values =
            values.map_or_else(String::new, |Values { zero_point, low, high }| format!("{low} {zero_point} {high}"));
        let (shape, from) = (shape.to_string(), from.join(", "));
        let line = format!(
            "{name:<16} {kind:<12} {shape:>12} {values:>13} {parameters:>11} {products:>12} {bound:>11}  of {from}{details}"
        );
        output.line(line)?;
    }
    Ok(())
}

/// What one task takes of a block's room, and how many such tasks fill a block.
struct Weight {
    weight: u64,
    tasks_a_block: u64,
}

fn weight(model: &Model) -> Weight {
    let parameters = Network::builtin(NETWORK).expect("a test loads every built-in network").parameters;
    let weight = task_weight(&facts_of(model));
    Weight { weight, tasks_a_block: parameters.weight_limit / weight }
}

fn rows(model: &Model) -> Vec<LayerRow> {
    let graph = model.graph();
    let row = |(index, layer): (usize, &ocelli_model::Layer)| {
        let (parameters, output) = (model.parameters(index), graph.output_shape(index));
        let values = |Bounds { low, high }: &Bounds| Values {
            zero_point: graph.activations()[index + 1].zero_point(0),
            low: *low,
            high: *high,
        };
        LayerRow {
            name: layer.name.clone(),
            kind: layer.operation.kind(),
            from: layer.from.clone(),
            details: details(&layer.operation),
            output,
            values: model.proof().activations.get(index + 1).map(values),
            weights: graph.weight_shape(index),
            parameters: parameters.weight.len() + parameters.bias.len(),
            products: products(&layer.operation, graph.source_shape(index), output),
            bound: model.proof().sums[index],
        }
    };
    graph.layers().iter().enumerate().map(row).collect()
}

fn details(operation: &Operation) -> String {
    let pair = |[one, other]: [usize; 2]| if one == other { one.to_string() } else { format!("{one}x{other}") };
    let mut details = String::new();
    if let Operation::Conv { groups, .. } = operation
        && *groups > 1
    {
        details += &format!(", {groups} groups");
    }
    if let Some(window) = operation.window() {
        details += &format!(", kernel {}, stride {}", pair(window.kernel), pair(window.stride));
        if window.padding != [0; 4] {
            details += &format!(", padding {:?}", window.padding);
        }
    }
    if let Operation::Add { multipliers: [a, b], shift, .. } = operation {
        details += &format!(", times {a} and {b} over 2^{shift}");
    }
    details
}
