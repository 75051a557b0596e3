//! Bytes as instructions to build a network, so that most inputs are networks and not refused files.

use ocelli_model::proof::BOUND;
use ocelli_model::{Display, Graph, Layer, Model, ModelFile, Parameters, Shape};

const MAX_LAYERS: u8 = 8;

/// Builds the network that the bytes describe, if there is one. Its sums come up to the edge of the proof.
pub fn cook(bytes: &[u8]) -> Option<Model> {
    let mut bytes = Bytes(bytes);
    let input = Shape { channels: bytes.within(1, 12), height: bytes.within(1, 14), width: bytes.within(1, 14) };
    let mut layers = Vec::new();
    let mut shapes = vec![input];
    for index in 0..bytes.next() % MAX_LAYERS {
        let name = format!("layer{index}");
        let (kernel, stride) = (bytes.within(1, 5), bytes.within(1, 3));
        let layer = match bytes.next() % 8 {
            0..=2 => Layer::conv(&name, bytes.within(1, 20), kernel, stride, bytes.within(0, kernel - 1)),
            // One that keeps the shape, so that skips are possible.
            3 | 4 => Layer::conv(&name, shapes.last()?.channels, 3, 1, 1),
            5 => Layer::linear(&name, bytes.within(1, 20)),
            6 => Layer::max_pool(&name, kernel, stride),
            _ => Layer::sum_pool(&name, kernel, stride, bytes.within(0, 24) as u8),
        };
        let is_pool = matches!(layer.operation.kind(), "max_pool" | "sum_pool");
        let graph = graph_of(input, &layers, layer.clone())?;
        let output = graph.activations()[layers.len() + 1];
        let skip = bytes.next() as usize % (2 * shapes.len());
        layers.push(if !is_pool && shapes.get(skip) == Some(&output) {
            layer.with_skip(&skip.checked_sub(1).map_or("input".into(), |earlier| format!("layer{earlier}")))
        } else {
            layer
        });
        shapes.push(output);
    }
    layers.push(Layer::linear("logits", bytes.within(1, 20)));
    let graph = Graph::new(input, layers).ok()?;
    let parameters = (0..graph.layers().len()).map(|layer| weigh(&mut bytes, &graph, layer)).collect();
    let display = Display::numbered(graph.logits());
    Some(ModelFile { graph, parameters, display }.build().expect("recipes keep to the proof"))
}

fn graph_of(input: Shape, layers: &[Layer], next: Layer) -> Option<Graph> {
    let layers = layers.iter().cloned().chain([next, Layer::linear("logits", 1)]).collect();
    Graph::new(input, layers).ok()
}

/// The integers of a layer: each channel is made in one of a few ways, between zero and the edge of the proof.
fn weigh(bytes: &mut Bytes, graph: &Graph, layer: usize) -> Parameters {
    let Some(shape) = graph.weight_shape(layer) else { return Parameters::default() };
    let inputs: usize = shape[1..].iter().product();
    let largest = ((BOUND - 1) / (127 * inputs as i64)).min(127);
    let mut parameters = Parameters::default();
    for _ in 0..shape[0] {
        let (way, mut state) = (bytes.next(), u32::from(bytes.next()) << 8 | u32::from(bytes.next()));
        let mut random = |limit: i64| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            i64::from(state >> 8) % (2 * limit + 1) - limit
        };
        let weights: Vec<i64> = (0..inputs)
            .map(|_| match way & 3 {
                0 => random(largest),
                1 => largest,
                2 => -largest,
                _ => random(1) * largest,
            })
            .collect();
        let mut room = BOUND - 1 - 127 * weights.iter().map(|weight| weight.abs()).sum::<i64>();
        if graph.skip(layer).is_some() {
            let most = (room / 127).min(i64::from(i16::MAX));
            let multiplier = if way & 4 == 0 { most } else { random(most).abs() };
            parameters.multiplier.push(multiplier as i16);
            room -= 127 * multiplier;
        }
        parameters.bias.push(match way >> 3 & 3 {
            0 => room as i32,
            1 => -room as i32,
            2 => 0,
            _ => random(room) as i32,
        });
        if !graph.is_last(layer) {
            parameters.shift.push(way >> 3 & 24 | bytes.next() % 8);
            let last = parameters.shift.last_mut().expect("just pushed");
            *last = (*last).min(24);
        }
        parameters.weight.extend(weights.iter().map(|weight| *weight as i8));
    }
    parameters
}

/// A source that never runs dry: after its end come zeros.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number in `low..=high`.
    fn within(&mut self, low: usize, high: usize) -> usize {
        low + usize::from(self.next()) % (high - low + 1)
    }
}
