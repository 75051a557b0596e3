//! The largest models that strangers may publish: each comes up to other limits of `docs/inference.md`. Weights are by a rule, not
//! by chance, since there are many.

use crate::display::Display;
use crate::file::{ModelFile, Parameters};
use crate::graph::{Finish, Graph, GraphError, Input, Layer, MAX_CLASSES, MAX_CONCAT, MAX_LAYERS, Operation, Window};

/// The names of all, as [`by_name`] knows them.
pub const NAMES: [&str; 14] = [
    "wide",
    "padded",
    "heavy",
    "deep",
    "joined",
    "alive",
    "tall",
    "depthwise",
    "grouped",
    "dense",
    "linear",
    "classes",
    "named",
    "narrow",
];

/// The names of the small ones, as [`small_by_name`] knows them.
pub const SMALL_NAMES: [&str; 4] = ["dense", "linear", "named", "narrow"];

/// The model of a name of [`SMALL_NAMES`], with the most layers or a file of nearly 262,144 bytes, and no larger one: that is the least that a
/// model counts in a block, which may have 512 of them.
pub fn small_by_name(name: &str) -> Option<ModelFile> {
    let graph = match name {
        "narrow" => deep(8),
        "dense" => convs(&[3, 164, 164], 4),
        "linear" => linear(504, Some(504), 2),
        "named" => named(),
        _ => return None,
    };
    Some(fill(graph.expect("it fits")))
}

/// The model of a name, if it is one of [`NAMES`].
pub fn by_name(name: &str) -> Option<ModelFile> {
    let graph = match name {
        "wide" => wide(),
        "padded" => padded(),
        "heavy" => convs(&[3, 512, 512, 512], 8),
        "deep" => deep(65_528),
        "narrow" => deep(8),
        "joined" => joined(),
        "alive" => alive(),
        "tall" => tall(),
        "depthwise" => depthwise(),
        "grouped" => grouped(),
        "dense" => convs(&[2_720, 2_720], 4),
        "linear" => linear(8_184, Some(8_184), 2),
        "classes" => linear(2_032, None, MAX_CLASSES),
        "named" => named(),
        _ => return None,
    };
    Some(fill(graph.expect("it fits")))
}

/// A file of a graph.
fn fill(graph: Graph) -> ModelFile {
    let parameters = (0..graph.layers().len()).map(|layer| {
        let operation = &graph.layers()[layer].operation;
        let count = graph.weight_shape(layer).map_or(0, |shape| shape.iter().product());
        // Where a sum has millions of terms, most are 0: it stays below 2^31.
        let every = if graph.source_shape(layer).elements() > 1 << 20 { 16 } else { 1 };
        let (has_weights, channels) = (count > 0, graph.output_shape(layer).channels);
        let scales = match operation {
            Operation::AveragePool { .. } | Operation::Multiply { .. } => 1,
            _ if has_weights && !graph.is_last(layer) => channels,
            _ => 0,
        };
        Parameters {
            weight: (0..count).map(|at| if at % every == 0 { (at * 7 % 5) as i8 - 2 } else { 0 }).collect(),
            bias: if has_weights { vec![3; channels] } else { Vec::new() },
            scale: vec![0.01; scales],
            table: if operation.kind() == "lookup" { (0..=255).rev().collect() } else { Vec::new() },
        }
    });
    let (parameters, display) = (parameters.collect(), Display::numbered(graph.logits()));
    ModelFile { graph, parameters, display }
}

fn conv(name: &str, from: &str, channels: usize, groups: usize, window: Window) -> Layer {
    Layer::new(name, &[from], Operation::Conv { channels, groups, window, finish: Finish::RELU })
}

/// The largest picture, as many channels as may be moved, and all of it pooled.
fn wide() -> Result<Graph, GraphError> {
    let pool = Operation::AveragePool { window: Window::square(1_024, 1_024, 0), finish: Finish::RELU };
    let layers = vec![
        conv("conv", "input", 24, 1, Window::square(1, 1, 0)),
        Layer::new("pool", &["conv"], pool),
        Layer::logits("out", "pool", 2),
    ];
    Graph::new(Input::new(3, 1_024, 1_024), layers)
}

/// One activation that many convolutions read, each with a padding of its own, so that none finds it where another did.
fn padded() -> Result<Graph, GraphError> {
    let names: Vec<String> = (0..MAX_CONCAT).map(|number| format!("conv{number}")).collect();
    let one = |(number, name): (usize, &String)| {
        let padding = [number / 7, number % 7, 13 - number / 7, 6 - number % 7];
        conv(name, "input", 8, 1, Window { kernel: [16, 8], stride: [40, 40], padding })
    };
    let mut layers: Vec<Layer> = names.iter().enumerate().map(one).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    layers.push(Layer::new("all", &names, Operation::Concat));
    layers.push(Layer::logits("out", "all", 3));
    Graph::new(Input::new(8, 200, 200), layers)
}

/// Convolutions of 3x3, whose plans are larger than files.
fn convs(channels: &[usize], side: usize) -> Result<Graph, GraphError> {
    let mut layers: Vec<Layer> = Vec::new();
    for (number, outputs) in channels[1..].iter().enumerate() {
        let from = layers.last().map_or("input".to_owned(), |layer| layer.name.clone());
        layers.push(conv(&format!("conv{number}"), &from, *outputs, 1, Window::square(3, 1, 1)));
    }
    let from = layers.last().map_or("input".to_owned(), |layer| layer.name.clone());
    layers.push(Layer::logits("out", &from, 2));
    Graph::new(Input::new(channels[0], side, side), layers)
}

/// The most layers, all but the last one chain of lookups: 65,528 channels are the most that may be moved so often.
fn deep(channels: usize) -> Result<Graph, GraphError> {
    let mut layers: Vec<Layer> = Vec::new();
    for number in 0..MAX_LAYERS - 1 {
        let from = layers.last().map_or("input".to_owned(), |layer| layer.name.clone());
        let lookup = Operation::Lookup { zero_point: (number % 256) as u8 };
        layers.push(Layer::new(&format!("l{number}"), &[&from], lookup));
    }
    layers.push(Layer::logits("out", &format!("l{}", MAX_LAYERS - 2), 1));
    let mut input = Input::new(channels, 1, 1);
    input.zero_points = (0..channels).map(|channel| channel as u8).collect();
    Graph::new(input, layers)
}

/// The largest concatenations, each of the most names, and added up.
fn joined() -> Result<Graph, GraphError> {
    let mut layers: Vec<Layer> = Vec::new();
    for number in 0..200 {
        layers.push(Layer::new(&format!("c{number}"), &["input"; MAX_CONCAT], Operation::Concat));
        if number > 0 {
            let before = if number == 1 { "c0".to_owned() } else { format!("s{}", number - 1) };
            let add = Operation::Add { multipliers: [1 << 19; 2], shift: 20, finish: Finish::RELU };
            layers.push(Layer::new(&format!("s{number}"), &[&before, &format!("c{number}")], add));
        }
    }
    layers.push(Layer::logits("out", "s199", 2));
    Graph::new(Input::new(1_016, 1, 1), layers)
}

/// Most that has to be kept at a time: a last concatenation reads what all layers wrote.
fn alive() -> Result<Graph, GraphError> {
    let names: Vec<String> = (0..MAX_CONCAT - 1).map(|number| format!("l{number}")).collect();
    let lookup = |name: &String| Layer::new(name, &["input"], Operation::Lookup { zero_point: 0 });
    let mut layers: Vec<Layer> = names.iter().map(lookup).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    layers.push(Layer::new("all", &names, Operation::Concat));
    layers.push(Layer::logits("out", "all", 1));
    Graph::new(Input::new(824, 16, 16), layers)
}

/// The most elements of an input, of one channel, for which kernels keep room for sixteen.
fn tall() -> Result<Graph, GraphError> {
    let window = Window { kernel: [2, 2], stride: [64, 64], padding: [0; 4] };
    let layers = vec![
        Layer::new("pool", &["input"], Operation::MaxPool { window: Window::square(1, 1, 0) }),
        conv("conv", "pool", 8, 1, window),
        Layer::logits("out", "conv", 2),
    ];
    Graph::new(Input::new(1, 65_535, 42), layers)
}

/// As many weights as a file holds, in the most channels, each with a kernel of its own.
fn depthwise() -> Result<Graph, GraphError> {
    let window = Window { kernel: [25, 40], stride: [1; 2], padding: [0; 4] };
    let layers = vec![conv("conv", "input", 65_528, 65_528, window), Layer::logits("out", "conv", 2)];
    Graph::new(Input::new(65_528, 25, 40), layers)
}

/// Groups of one output, which kernels pack as eight: the most packed weights.
fn grouped() -> Result<Graph, GraphError> {
    let window = Window { kernel: [1, 255], stride: [1; 2], padding: [0; 4] };
    let layers = vec![conv("conv", "input", 32_764, 32_764, window), Layer::logits("out", "conv", 2)];
    Graph::new(Input::new(65_528, 1, 255), layers)
}

/// As many weights as a file holds, each used once.
fn linear(inputs: usize, hidden: Option<usize>, classes: usize) -> Result<Graph, GraphError> {
    let hidden = hidden.map(|channels| Layer::linear("hidden", "input", channels, Finish::RELU));
    let logits = Layer::logits("out", if hidden.is_some() { "hidden" } else { "input" }, classes);
    Graph::new(Input::new(inputs, 1, 1), hidden.into_iter().chain([logits]).collect())
}

/// The most tensors: three of each layer.
fn named() -> Result<Graph, GraphError> {
    let mut layers: Vec<Layer> = Vec::new();
    for number in 0..MAX_LAYERS - 1 {
        let from = layers.last().map_or("input".to_owned(), |layer| layer.name.clone());
        layers.push(Layer::linear(&format!("a_name_as_long_as_may_be_{number:07}"), &from, 1, Finish::RELU));
    }
    layers.push(Layer::logits("out", &format!("a_name_as_long_as_may_be_{:07}", MAX_LAYERS - 2), 1));
    Graph::new(Input::new(1, 1, 1), layers)
}
