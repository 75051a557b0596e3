//! Networks by chance, and standard ones with weights by chance: for tests, fuzzers and benchmarks, which know no pictures.
//!
//! Chance comes as a function that gives the next number, from a seed ([`seeded`]) or from a fuzzer's bytes.

pub mod networks;
pub mod worst;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::display::Display;
use crate::file::{ModelFile, Parameters};
use crate::graph::{Activation, Finish, Graph, Input, Layer, MAX_MULTIPLIER, MAX_SHIFT, Operation, Shape, Window};
use crate::model::Model;
use crate::proof::{Bounds, EXACT_IN_F32, MAX_SCALED, MAX_SUM, SCALES, output_bounds};

/// The most layers of a random graph before the last.
const MAX_LAYERS: usize = 12;
/// The most channels of a random graph's input and convolutions.
const MAX_CHANNELS: usize = 20;
/// The most rows and columns of a random graph's input.
const MAX_SIDE: usize = 14;

/// Chance: the next number.
pub trait Chance: FnMut() -> u32 {}

impl<F: FnMut() -> u32> Chance for F {}

/// Numbers by a seed, the same everywhere.
pub fn seeded(seed: u64) -> impl Chance {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    move || random.next_u32()
}

/// A small model of any operators: its sums come up to the edges of the proof, and to those of what f32 holds.
pub fn model(chance: &mut impl Chance) -> Model {
    let graph = graph(chance);
    let parameters = parameters(&graph, Extent::Any, chance);
    build(graph, parameters)
}

/// A model of a graph with weights as if it had been trained: its sums keep to the middle of their activations.
pub fn trained(graph: Graph, chance: &mut impl Chance) -> Model {
    let parameters = parameters(&graph, Extent::Moderate, chance);
    build(graph, parameters)
}

fn build(graph: Graph, parameters: Vec<Parameters>) -> Model {
    let display = Display::numbered(graph.logits());
    ModelFile { graph, parameters, display }.build().expect("the numbers keep to the proof")
}

/// A number in `low..=high`.
pub fn within(chance: &mut impl Chance, low: usize, high: usize) -> usize {
    low + chance() as usize % (high - low + 1)
}

fn one_of<T: Copy>(chance: &mut impl Chance, all: &[T]) -> T {
    all[within(chance, 0, all.len() - 1)]
}

/// Rows or columns: seldom fewer than most kernels have.
fn side(chance: &mut impl Chance) -> usize {
    let least = one_of(chance, &[1, 4, 4, 4]);
    within(chance, least, MAX_SIDE)
}

fn byte(chance: &mut impl Chance) -> u8 {
    chance() as u8
}

/// A small graph of any operators.
pub fn graph(chance: &mut impl Chance) -> Graph {
    let mut input = Input::new(within(chance, 1, MAX_CHANNELS), side(chance), side(chance));
    input.crop = within(chance, 1, 256) as u16;
    match within(chance, 0, 3) {
        0 => input.zero_points.fill_with(|| byte(chance)),
        1 => input.zero_points.fill(byte(chance)),
        _ => {}
    }
    let mut known = vec![(crate::graph::INPUT.to_owned(), Activation::of_input(&input))];
    let mut layers: Vec<Layer> = Vec::new();
    for index in 0..within(chance, 1, MAX_LAYERS) {
        let name = format!("l{index}");
        // Most layers read one of the newest two activations.
        let newest = known.len() - 1 - within(chance, 0, 1).min(known.len() - 1);
        let place = if within(chance, 0, 3) == 0 { within(chance, 0, known.len() - 1) } else { newest };
        let Some((operation, sources)) = operation(&known, place, chance) else { continue };
        let from = sources.iter().map(|source| known[*source].0.clone()).collect();
        let layer = Layer { name: name.clone(), from, operation };
        let reads: Vec<&Activation> = sources.iter().map(|source| &known[*source].1).collect();
        // What does not fit, such as a kernel that is too large, is left out.
        if let Ok(output) = layer.output(&reads) {
            known.push((name, output));
            layers.push(layer);
        }
    }
    let last = known[known.len() - 1].0.clone();
    layers.push(Layer::logits("logits", &last, within(chance, 1, MAX_CHANNELS)));
    // What nobody reads is left out too.
    let mut read = vec![last];
    let mut kept = Vec::new();
    for layer in layers.into_iter().rev() {
        if kept.is_empty() || read.contains(&layer.name) {
            read.extend(layer.from.iter().cloned());
            kept.push(layer);
        }
    }
    kept.reverse();
    Graph::new(input, kept).expect("each layer was found to fit")
}

/// A layer that reads the activation at a place, and perhaps others.
fn operation(
    known: &[(String, Activation)],
    place: usize,
    chance: &mut impl Chance,
) -> Option<(Operation, Vec<usize>)> {
    let first = &known[place].1;
    let Shape { channels, height, width } = first.shape;
    let finish = finish(chance);
    let partner = |chance: &mut _, fits: &dyn Fn(&Activation) -> bool| {
        let all: Vec<usize> = (0..known.len()).filter(|other| fits(&known[*other].1)).collect();
        if all.is_empty() { None } else { Some(one_of(chance, &all)) }
    };
    Some(match within(chance, 0, 18) {
        0..=2 => {
            let groups: Vec<usize> = (1..=channels).filter(|groups| channels.is_multiple_of(*groups)).collect();
            let groups = one_of(chance, &groups);
            let outputs = groups * within(chance, 1, (MAX_CHANNELS / groups).max(1));
            (Operation::Conv { channels: outputs, groups, window: window(chance), finish }, vec![place])
        }
        // Ones that keep rows and columns, so that there is something to add and to join: 1x1, 3x3, and a channel for each.
        3..=5 => {
            let kernel = one_of(chance, &[1, 3, 3, 5]);
            let window = Window::square(kernel, 1, kernel / 2);
            let depthwise = within(chance, 0, 1) == 0;
            let outputs = if depthwise { channels } else { within(chance, 1, MAX_CHANNELS) };
            let groups = if depthwise { channels } else { 1 };
            (Operation::Conv { channels: outputs, groups, window, finish }, vec![place])
        }
        6 => (Operation::Linear { channels: within(chance, 1, MAX_CHANNELS), finish: Some(finish) }, vec![place]),
        7 | 8 => {
            let second = partner(chance, &|other| other.shape == first.shape)?;
            let mut multiplier = || match within(chance, 0, 5) {
                0 => 1,
                1 => MAX_MULTIPLIER,
                _ => within(chance, 1 << 18, 1 << 20) as u32,
            };
            let multipliers = [multiplier(), multiplier()];
            let shift = match within(chance, 0, 5) {
                0 => within(chance, 1, MAX_SHIFT.into()) as u8,
                _ => within(chance, 18, 21) as u8,
            };
            (Operation::Add { multipliers, shift, finish }, vec![place, second])
        }
        9 | 10 => {
            let single = Shape { channels, height: 1, width: 1 };
            let second = partner(chance, &|other| other.shape == first.shape || other.shape == single)?;
            (Operation::Multiply { finish }, vec![place, second])
        }
        // Of the whole activation, so that there is something to multiply by.
        11 => {
            let window = Window { kernel: [height, width], stride: [1; 2], padding: [0; 4] };
            (Operation::AveragePool { window, finish }, vec![place])
        }
        12 => (Operation::AveragePool { window: window(chance), finish }, vec![place]),
        13..=15 => (Operation::MaxPool { window: window(chance) }, vec![place]),
        16 | 17 => {
            let fits = |other: &Activation| {
                (other.shape.height, other.shape.width) == (height, width) && other.zero_points == first.zero_points
            };
            let mut sources = vec![place];
            for _ in 0..within(chance, 1, 3) {
                sources.push(partner(chance, &fits)?);
            }
            (Operation::Concat, sources)
        }
        _ => (Operation::Lookup { zero_point: finish.zero_point }, vec![place]),
    })
}

fn window(chance: &mut impl Chance) -> Window {
    let most = one_of(chance, &[2, 3, 3, 5]);
    let kernel = [within(chance, 1, most), within(chance, 1, most)];
    let stride = one_of(chance, &[[1, 1], [1, 1], [2, 2], [1, 3], [2, 1]]);
    let mut side = |kernel: usize| if within(chance, 0, 1) == 0 { 0 } else { within(chance, 0, kernel - 1) };
    let padding = [side(kernel[0]), side(kernel[1]), side(kernel[0]), side(kernel[1])];
    Window { kernel, stride, padding }
}

fn finish(chance: &mut impl Chance) -> Finish {
    match within(chance, 0, 5) {
        0 => {
            let mut bytes = [byte(chance), byte(chance), byte(chance)];
            bytes.sort_unstable();
            Finish { low: bytes[0], zero_point: bytes[1], high: bytes[2] }
        }
        1 => Finish::bytes(byte(chance)),
        2 => Finish::bytes(128),
        3 => Finish { zero_point: 64, ..Finish::RELU },
        _ => Finish::RELU,
    }
}

/// How numbers fill their layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// As in a trained network.
    Moderate,
    /// Each channel in one of many ways, some of them at an edge.
    Any,
}

/// Numbers for every layer, within the proof.
fn parameters(graph: &Graph, extent: Extent, chance: &mut impl Chance) -> Vec<Parameters> {
    let mut bounds = vec![Bounds { low: 0, high: 255 }];
    let mut all = Vec::new();
    for (index, layer) in graph.layers().iter().enumerate() {
        let source = graph.sources(index)[0];
        let zero_points: Vec<u8> =
            (0..graph.source_shape(index).channels).map(|c| graph.activations()[source].zero_point(c)).collect();
        // The greatest distance of any channel.
        let distance = |zero_points: &[u8], Bounds { low, high }: Bounds| {
            zero_points.iter().map(|z| (z - low).max(high - z)).max().map_or(0, i64::from)
        };
        let first = distance(&zero_points, bounds[source]);
        let mut parameters = Parameters::default();
        match layer.operation {
            Operation::Conv { channels, finish, .. } => {
                fill(&mut parameters, graph, index, channels, first, Some(finish), extent, chance);
            }
            Operation::Linear { channels, finish } => {
                fill(&mut parameters, graph, index, channels, first, finish, extent, chance);
            }
            Operation::AveragePool { window, finish } => {
                let taps = window.taps() as i64;
                let usual = f64::from(finish.high - finish.low) / 255.0 / taps as f64;
                parameters.scale.push(scale(usual, taps * first, extent, chance));
            }
            Operation::Multiply { finish } => {
                let second = graph.sources(index)[1];
                let bound = first * distance(&graph.activations()[second].zero_points, bounds[second]);
                let usual = f64::from(finish.high - finish.low) / bound.max(1) as f64;
                parameters.scale.push(scale(usual, bound, extent, chance));
            }
            Operation::Lookup { .. } => {
                let (low, span) = (within(chance, 0, 128), within(chance, 0, 127));
                parameters.table = match extent {
                    Extent::Moderate => (0..=255u8).map(|byte| byte >> 1).collect(),
                    Extent::Any => (0..256).map(|_| within(chance, low, low + span) as u8).collect(),
                };
            }
            Operation::Add { .. } | Operation::MaxPool { .. } | Operation::Concat => {}
        }
        let reads = graph.sources(index).iter().map(|source| bounds[*source]);
        bounds.extend(output_bounds(layer.operation, &parameters, reads));
        all.push(parameters);
    }
    all
}

/// Weights, biases and scales; `distance` is the greatest of an activation from its zero point.
#[expect(clippy::too_many_arguments)]
fn fill(
    parameters: &mut Parameters,
    graph: &Graph,
    index: usize,
    channels: usize,
    distance: i64,
    finish: Option<Finish>,
    extent: Extent,
    chance: &mut impl Chance,
) {
    let shape = graph.weight_shape(index).expect("the layer has weights");
    let inputs: usize = shape[1..].iter().product();
    let largest = ((MAX_SUM - 1) / (distance.max(1) * inputs as i64)).min(127);
    let has_scale = !graph.is_last(index) || within(chance, 0, 1) == 0 && extent == Extent::Any;
    parameters.weight.reserve_exact(inputs * channels);
    for _ in 0..channels {
        let way = if extent == Extent::Moderate { 7 } else { within(chance, 0, 7) };
        let first = parameters.weight.len();
        parameters.weight.extend((0..inputs).map(|_| {
            let sign = if chance() & 1 == 0 { largest } else { -largest };
            let weight = match way {
                0 => largest,
                1 => -largest,
                2 => sign,
                3 => {
                    if chance().is_multiple_of(8) {
                        sign
                    } else {
                        0
                    }
                }
                // The sum of several is near the normal distribution.
                _ => (0..3).map(|_| (chance() >> 8) as i64 % (2 * largest + 1) - largest).sum::<i64>() / 3,
            };
            weight as i8
        }));
        let weights = &parameters.weight[first..];
        let used = distance * weights.iter().map(|weight| i64::from(weight.unsigned_abs())).sum::<i64>();
        // What a sum usually is, if half of the elements are at their zero point.
        let squares: i64 = weights.iter().map(|weight| i64::from(*weight).pow(2)).sum();
        let usual = (squares as f64).sqrt() * distance as f64 / 3.0 + 1.0;
        let room = match within(chance, 0, 7) {
            _ if extent == Extent::Moderate => (usual / 2.0) as i64,
            0 => MAX_SUM - 1 - used,
            1 if used < EXACT_IN_F32 => EXACT_IN_F32 - 1 - used,
            2 => 0,
            _ => (usual as i64).min(MAX_SUM - 1 - used),
        };
        let bias = match within(chance, 0, 3) {
            0 => room,
            1 => -room,
            _ => (i64::from(chance()) << 16 | i64::from(chance())) % (2 * room + 1) - room,
        };
        parameters.bias.push(bias as i32);
        if has_scale {
            let span = finish.map_or(4096.0, |finish| f64::from(finish.high - finish.low));
            let bound = if finish.is_some() { used + bias.abs() } else { 0 };
            parameters.scale.push(scale(span / 3.0 / usual, bound, extent, chance));
        }
    }
}

/// A scale near `usual`, or at an end of what the proof allows for sums of this bound.
fn scale(usual: f64, bound: i64, extent: Extent, chance: &mut impl Chance) -> f32 {
    let mut most = ((MAX_SCALED / bound.max(1) as f64) as f32).min(SCALES.end.next_down());
    while bound as f64 * f64::from(most) >= MAX_SCALED {
        most = most.next_down();
    }
    let usual = usual as f32;
    let found = match within(chance, 0, 7) {
        _ if extent == Extent::Moderate => usual,
        0 => SCALES.start,
        1 => most,
        // Powers of two, so that there are ties.
        2 | 3 => usual.log2().round().exp2(),
        _ => usual * (within(chance, 500, 2000) as f32 / 1000.0),
    };
    found.clamp(SCALES.start, most)
}
