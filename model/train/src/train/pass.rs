//! One pass of some pictures through a network, forward and backward, on one thread.
//!
//! This is what an automatic differentiation would record, written down for the few layers there are: nothing is added to
//! zeros, copied or allocated anew, and no thread waits for another.

use std::borrow::Cow;
use std::ops::Range;

use ocelli_model::graph::{Graph, Operation, Shape};

use super::activation::{Activation, Added, Affine, Clamp, Statistics};
use super::average_pool::AveragePool;
use super::batch::Reading;
use super::product::Product;
use super::window::POINT;

/// Where the trained numbers of a layer lie in the list of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// `(K, O)`, `K` in the order (row, column, channel) of the window or of the whole input.
    pub weight: Range<usize>,
    /// `(O)`.
    pub bias: Range<usize>,
    /// Of a layer whose sums are normalised.
    pub norm: Option<NormPlaces>,
}

/// Where the numbers of a batch normalisation lie, all `(O)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NormPlaces {
    pub gamma: Range<usize>,
    /// The running mean and variance, which stand in for the batch's once training is over.
    pub statistics: [Range<usize>; 2],
}

/// The numbers that a layer with weights works with.
#[derive(Debug)]
pub struct Numbers<'a> {
    /// `(K, O)`.
    pub weight: Cow<'a, [f32]>,
    /// `(O)`.
    pub bias: Cow<'a, [f32]>,
    /// The factor `(O)`, if sums are normalised by the statistics of the pictures of the pass.
    pub gamma: Option<&'a [f32]>,
    /// Where gradients go.
    pub places: &'a Places,
}

/// How the output of a layer is clamped and rounded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rounding {
    /// What it is clamped to, either of which may be infinite.
    pub low: f32,
    /// As `low`.
    pub high: f32,
    /// What it is rounded to multiples of.
    pub step: Option<f32>,
    /// What an addition multiplies its inputs by; the first is also what an average pool multiplies its sums by.
    pub factors: [f32; 2],
}

/// A network that is ready to be run.
#[derive(Debug)]
pub struct Pass<'a> {
    reading: &'a Reading,
    stages: Vec<Stage<'a>>,
    input: usize,
    classes: usize,
    activations: usize,
}

/// A layer, with the max-pool after it if there is one.
#[derive(Debug)]
struct Stage<'a> {
    layer: usize,
    /// The activations that are read and written.
    input: usize,
    output: usize,
    kind: Kind<'a>,
}

#[derive(Debug)]
enum Kind<'a> {
    Weights {
        product: Product,
        numbers: Numbers<'a>,
        activation: Activation,
    },
    /// The stage's input and another activation, each times its factor.
    Add {
        other: usize,
        factors: [f32; 2],
        activation: Activation,
    },
    MaxPool(Activation),
    AveragePool(AveragePool),
    Logits {
        product: Product,
        numbers: Numbers<'a>,
    },
}

/// The buffers of a pass, which are used again.
#[derive(Debug, Default)]
pub struct Workspace {
    /// The first is the pictures' `(N, H, W, C)`.
    activations: Vec<Vec<f32>>,
    /// The gradients of the activations.
    slopes: Vec<Vec<f32>>,
    stages: Vec<StageBuffers>,
    columns: Vec<f32>,
    passed: Vec<f32>,
}

#[derive(Debug, Default)]
struct StageBuffers {
    sums: Vec<f32>,
    origins: Vec<u32>,
    statistics: Option<Statistics>,
}

/// The activation that a layer reads, by its place among those that it reads: a lookup's output stands for the pictures, since
/// only the pictures are looked up.
pub fn source(graph: &Graph, layer: usize, place: usize) -> usize {
    match graph.sources(layer)[place] {
        0 => 0,
        source if matches!(graph.layers()[source - 1].operation, Operation::Lookup { .. }) => 0,
        source => source,
    }
}

/// The layer that reads an activation, if that is one alone.
pub fn only_reader(graph: &Graph, activation: usize) -> Option<usize> {
    let mut readers = (0..graph.layers().len()).filter(|layer| graph.sources(*layer).contains(&activation));
    readers.next().filter(|_| readers.next().is_none())
}

impl<'a> Pass<'a> {
    /// Prepares a graph with its numbers, an item a layer, and how each layer's output is rounded.
    pub fn new(
        graph: &Graph,
        reading: &'a Reading,
        numbers: Vec<Option<Numbers<'a>>>,
        rounding: impl Fn(usize) -> Rounding,
    ) -> Self {
        let layers = graph.layers();
        let (mut stages, mut is_done) = (Vec::new(), vec![false; layers.len()]);
        for (layer, numbers) in numbers.into_iter().enumerate() {
            if is_done[layer] {
                continue;
            }
            let (over, shape) = (graph.source_shape(layer), graph.output_shape(layer));
            let Rounding { low, high, step, factors } = rounding(layer);
            let operation = layers[layer].operation;
            // A pool is done in the same pass, unless what it reads is needed elsewhere.
            let next = only_reader(graph, layer + 1).map(|next| (next, layers[next].operation));
            let (pool, output) = match (operation, next) {
                (Operation::MaxPool { .. } | Operation::AveragePool { .. } | Operation::Lookup { .. }, _) => {
                    (POINT, layer + 1)
                }
                (_, Some((next, Operation::MaxPool { window }))) => {
                    is_done[next] = true;
                    (window, next + 1)
                }
                _ => (POINT, layer + 1),
            };
            let activation = Activation { image: image(shape), clamp: Clamp { pool, low, high, step } };
            let kind = match (operation, numbers) {
                (Operation::MaxPool { window }, _) => {
                    let clamp = Clamp { pool: window, low: f32::NEG_INFINITY, high: f32::INFINITY, step: None };
                    Kind::MaxPool(Activation { image: image(over), clamp })
                }
                (Operation::AveragePool { window, .. }, _) => {
                    Kind::AveragePool(AveragePool { image: image(over), window, scale: factors[0], low, high, step })
                }
                (Operation::Add { .. }, _) => Kind::Add { other: source(graph, layer, 1), factors, activation },
                (_, None) => continue,
                (operation, Some(numbers)) => {
                    let product = match operation {
                        Operation::Conv { window, .. } => Product::convolution(image(over), window, shape.channels),
                        _ => Product::linear(over.elements(), shape.channels),
                    };
                    if graph.is_last(layer) {
                        Kind::Logits { product, numbers }
                    } else {
                        Kind::Weights { product, numbers, activation }
                    }
                }
            };
            stages.push(Stage { layer, input: source(graph, layer, 0), output, kind });
        }
        let (input, activations) = (graph.input().shape.elements(), graph.activations().len());
        Self { reading, stages, input, classes: graph.logits(), activations }
    }

    /// What the pixels of pictures stand for.
    pub fn reading(&self) -> &Reading {
        self.reading
    }

    /// Whether sums are normalised by the statistics of the pictures of a pass.
    pub fn normalises(&self) -> bool {
        self.stages.iter().any(|stage| matches!(&stage.kind, Kind::Weights { numbers, .. } if numbers.gamma.is_some()))
    }

    /// Runs pictures, which `fill` writes as `(N, H, W, C)`, and gives the logits `(N, classes)`.
    pub fn forward<'w>(&self, work: &'w mut Workspace, images: usize, fill: impl FnOnce(&mut [f32])) -> &'w [f32] {
        work.activations.resize(self.activations, Vec::new());
        work.stages.resize_with(self.stages.len(), StageBuffers::default);
        work.activations[0].resize(images * self.input, 0.0);
        fill(&mut work.activations[0]);
        for (stage, buffers) in self.stages.iter().zip(&mut work.stages) {
            let mut output = std::mem::take(&mut work.activations[stage.output]);
            let input = &work.activations[stage.input];
            match &stage.kind {
                Kind::Weights { product, numbers, activation } => {
                    buffers.sums.resize(images * product.sums(), 0.0);
                    product.forward(input, &numbers.weight, &mut work.columns, &mut buffers.sums);
                    let sums = &buffers.sums;
                    buffers.statistics = numbers.gamma.map(|gamma| Statistics::of(sums, product.sums(), gamma.len()));
                    let affine = numbers.affine(buffers.statistics.as_ref());
                    output.resize(images * activation.outputs(), 0.0);
                    buffers.origins.resize(output.len(), 0);
                    activation.forward(sums, &affine, None, &mut output, &mut buffers.origins);
                }
                Kind::Add { other, factors: [first, second], activation } => {
                    let channels = activation.image[2];
                    let added = Added { values: &work.activations[*other], factor: &vec![*second; channels] };
                    output.resize(images * activation.outputs(), 0.0);
                    buffers.origins.resize(output.len(), 0);
                    let affine = Affine::factor(*first, channels);
                    activation.forward(input, &affine, Some(added), &mut output, &mut buffers.origins);
                }
                Kind::MaxPool(pool) => {
                    let same = Affine::factor(1.0, pool.image[2]);
                    output.resize(images * pool.outputs(), 0.0);
                    buffers.origins.resize(output.len(), 0);
                    pool.forward(input, &same, None, &mut output, &mut buffers.origins);
                }
                Kind::AveragePool(pool) => {
                    output.resize(images * pool.outputs(), 0.0);
                    pool.forward(input, &mut output);
                }
                Kind::Logits { product, numbers } => {
                    output.resize(images * product.sums(), 0.0);
                    product.forward(input, &numbers.weight, &mut work.columns, &mut output);
                    for logits in output.chunks_exact_mut(self.classes) {
                        logits.iter_mut().zip(&*numbers.bias).for_each(|(logit, bias)| *logit += bias);
                    }
                }
            }
            work.activations[stage.output] = output;
        }
        work.activations.last().map_or(&[], Vec::as_slice)
    }

    /// Shows the output of every layer that has a finish of its own, after a forward pass: the layer's index and the activation,
    /// after the max-pool where one follows.
    pub fn observe(&self, work: &Workspace, visit: &mut dyn FnMut(usize, &[f32])) {
        for stage in &self.stages {
            if matches!(stage.kind, Kind::Weights { .. } | Kind::Add { .. } | Kind::AveragePool(_)) {
                visit(stage.layer, &work.activations[stage.output]);
            }
        }
    }

    /// The statistics by which the sums of a forward pass were normalised, with where the running ones lie.
    pub fn statistics<'w>(&'w self, work: &'w Workspace) -> impl Iterator<Item = (&'w NormPlaces, &'w Statistics)> {
        self.stages.iter().zip(&work.stages).filter_map(|(stage, buffers)| match &stage.kind {
            Kind::Weights { numbers, .. } => numbers.places.norm.as_ref().zip(buffers.statistics.as_ref()),
            _ => None,
        })
    }

    /// Goes back over a forward pass: `slopes` are the gradient of the logits, `gradient` gets that of all trained numbers.
    pub fn backward(&self, work: &mut Workspace, slopes: &[f32], gradient: &mut [f32]) {
        work.slopes.resize(self.activations, Vec::new());
        for stage in &self.stages {
            let list = &mut work.slopes[stage.output];
            list.clear();
            list.resize(work.activations[stage.output].len(), 0.0);
        }
        if let Some(last) = work.slopes.last_mut() {
            last.copy_from_slice(slopes);
        }
        let stages = std::mem::take(&mut work.stages);
        for (stage, buffers) in self.stages.iter().zip(&stages).rev() {
            let slopes = std::mem::take(&mut work.slopes[stage.output]);
            match &stage.kind {
                Kind::Weights { product, numbers, activation } => {
                    work.passed.resize(buffers.sums.len(), 0.0);
                    let bias = &mut gradient[numbers.places.bias.clone()];
                    activation.backward(&buffers.origins, &slopes, &mut work.passed, bias);
                    if let (Some(statistics), Some(norm)) = (&buffers.statistics, &numbers.places.norm) {
                        let bias = gradient[numbers.places.bias.clone()].to_vec();
                        let affine = numbers.affine(Some(statistics));
                        let gamma = &mut gradient[norm.gamma.clone()];
                        affine.through_statistics(statistics, &buffers.sums, &bias, &mut work.passed, gamma);
                    }
                    let passed = std::mem::take(&mut work.passed);
                    work.through_product(stage, product, numbers, &passed, gradient);
                    work.passed = passed;
                }
                Kind::Logits { product, numbers } => {
                    let bias = &mut gradient[numbers.places.bias.clone()];
                    bias.fill(0.0);
                    for slopes in slopes.chunks_exact(self.classes) {
                        bias.iter_mut().zip(slopes).for_each(|(sum, slope)| *sum += slope);
                    }
                    work.through_product(stage, product, numbers, &slopes, gradient);
                }
                Kind::Add { other, factors, activation } => {
                    work.passed.resize(work.activations[stage.input].len(), 0.0);
                    let mut nothing = vec![0.0; activation.image[2]];
                    activation.backward(&buffers.origins, &slopes, &mut work.passed, &mut nothing);
                    // The picture needs no gradient.
                    let sources = [stage.input, *other].into_iter().zip(factors);
                    for (source, factor) in sources.filter(|(source, _)| *source > 0) {
                        let sums = work.slopes[source].iter_mut().zip(&work.passed);
                        sums.for_each(|(sum, passed)| *sum += passed * factor);
                    }
                }
                Kind::MaxPool(pool) if stage.input > 0 => {
                    work.passed.resize(work.activations[stage.input].len(), 0.0);
                    let mut nothing = vec![0.0; pool.image[2]];
                    pool.backward(&buffers.origins, &slopes, &mut work.passed, &mut nothing);
                    work.slopes[stage.input].iter_mut().zip(&work.passed).for_each(|(sum, passed)| *sum += passed);
                }
                Kind::AveragePool(pool) if stage.input > 0 => {
                    pool.backward(&work.activations[stage.output], &slopes, &mut work.slopes[stage.input]);
                }
                Kind::MaxPool(_) | Kind::AveragePool(_) => {}
            }
            work.slopes[stage.output] = slopes;
        }
        work.stages = stages;
    }
}

impl Workspace {
    fn through_product(
        &mut self,
        stage: &Stage,
        product: &Product,
        numbers: &Numbers,
        slopes: &[f32],
        gradient: &mut [f32],
    ) {
        let input = &self.activations[stage.input];
        product.weight_gradient(input, slopes, &mut self.columns, &mut gradient[numbers.places.weight.clone()]);
        if stage.input > 0 {
            product.input_gradient(&numbers.weight, slopes, &mut self.columns, &mut self.slopes[stage.input]);
        }
    }
}

impl Numbers<'_> {
    fn affine(&self, statistics: Option<&Statistics>) -> Affine {
        match (self.gamma, statistics) {
            (Some(gamma), Some(statistics)) => Affine::normalization(statistics, gamma, &self.bias),
            _ => Affine::bias(&self.bias),
        }
    }
}

fn image(Shape { channels, height, width }: Shape) -> [usize; 3] {
    [height, width, channels]
}

#[cfg(test)]
mod tests {
    use ocelli_model::graph::{Finish, Input, Layer, Window};

    use super::super::batch::Target;
    use super::super::shards::cross_entropy;
    use super::super::{FloatNetwork, Normalization};
    use super::*;

    const CLOSED: Finish = Finish::RELU;
    const OPEN: Finish = Finish { zero_point: 64, low: 0, high: 127 };

    /// All kinds of layers: pools that are done with the layer before them and pools that are not, additions of each kind of
    /// activation, with and without a clamp, and what is read several times.
    fn layers() -> Vec<Layer> {
        let (three, two) = (Window::square(3, 1, 1), Window::square(2, 1, 0));
        let add = |name, from: &[&str], finish| {
            Layer::new(name, from, Operation::Add { multipliers: [1, 1], shift: 1, finish })
        };
        vec![
            Layer::conv("mixed", "input", 2, three, OPEN),
            add("added", &["mixed", "input"], CLOSED),
            Layer::conv("stem", "added", 4, two, CLOSED),
            Layer::max_pool("pool", "stem", Window::square(2, 2, 0)),
            Layer::conv("block_a", "pool", 4, three, CLOSED),
            Layer::conv("block_b", "block_a", 4, three, OPEN),
            add("block", &["block_b", "pool"], CLOSED),
            Layer::max_pool("alone", "block", two),
            Layer::conv("wide", "block", 4, two, OPEN),
            add("open", &["wide", "alone"], OPEN),
            add("again", &["open", "wide"], CLOSED),
            Layer::new("mean", &["again"], Operation::AveragePool { window: Window::square(2, 1, 0), finish: OPEN }),
            Layer::linear("hidden", "mean", 4, CLOSED),
            Layer::logits("out", "hidden", 3),
        ]
    }

    fn network(layers: Vec<Layer>) -> FloatNetwork {
        let graph = Graph::new(Input::new(2, 7, 7), layers).unwrap();
        let normalization = Normalization { mean: vec![0.3, 0.2], deviation: vec![0.5, 0.4] };
        FloatNetwork::new(graph, ["a", "b", "c"].map(String::from).to_vec(), 1.5, &normalization, 3).unwrap()
    }

    /// The mean loss of a few pictures, and its gradient.
    fn loss(network: &FloatNetwork) -> (f64, Vec<f32>) {
        let (pass, mut work) = (network.training_pass(), Workspace::default());
        let targets: Vec<Target> = (0..32).map(|picture| Target::whole(picture * 5 % 3)).collect();
        let logits = pass.forward(&mut work, targets.len(), |images| {
            // Numbers without a pattern.
            images.iter_mut().enumerate().for_each(|(place, pixel)| *pixel = (place * place % 101) as f32 / 101.0);
        });
        let mut slopes = vec![0.0; logits.len()];
        let score = cross_entropy(logits, &targets, 0.1, 1.0 / 32.0, &mut slopes);
        let mut gradient = vec![f32::NAN; network.trained()];
        pass.backward(&mut work, &slopes, &mut gradient);
        drop(pass);
        network.through_centring(&mut gradient);
        (score.loss / 32.0, gradient)
    }

    #[test]
    fn gradients_are_those_of_small_differences() {
        let second = Operation::AveragePool { window: Window::square(2, 2, 0), finish: OPEN };
        let pools = vec![
            Layer::max_pool("first", "input", Window::square(2, 1, 0)),
            Layer::new("second", &["first"], second),
            Layer::logits("out", "second", 3),
        ];
        let networks = [
            ("plain", network(layers())),
            ("batch norm", network(layers()).with_batch_norm()),
            // What reads the picture passes nothing on.
            ("pools", network(pools)),
        ];
        for (what, mut network) in networks {
            // Gammas of zero would hide what is before them.
            let trained = network.trained();
            for (place, number) in network.numbers_mut()[..trained].iter_mut().enumerate() {
                *number += 0.2 + (place % 7) as f32 * 0.05;
            }
            let (_, gradient) = loss(&network);
            assert!(gradient.iter().all(|slope| slope.is_finite()), "{what}");
            // Along a direction, as single differences drown in what f32 rounds.
            for seed in 0..8 {
                let direction: Vec<f32> =
                    (0..trained).map(|place| if (place * 7 + seed * 3) % 11 < 5 { 1.0 } else { -1.0 }).collect();
                let along: f64 = gradient.iter().zip(&direction).map(|(a, b)| f64::from(a * b)).sum();
                let mut moved = |by: f32| {
                    let before = network.numbers_mut().clone();
                    network.numbers_mut()[..trained]
                        .iter_mut()
                        .zip(&direction)
                        .for_each(|(number, way)| *number += by * way);
                    let (moved, _) = loss(&network);
                    *network.numbers_mut() = before;
                    moved
                };
                let expected = (moved(2e-4) - moved(-2e-4)) / 4e-4;
                assert!((along - expected).abs() < 0.05 * expected.abs().max(0.1), "{what}: {along} and {expected}");
            }
        }
    }
}
