//! `ocelli bench weights`.
//!
//! A network's cost decides what a task on it pays, and how many of them a block may hold. So no network that is accepted may take
//! much more time than its cost says, nor a task on it than the task's weight says: here one is looked for. Graphs are made by chance and changed by chance, of each kind the worst
//! one is kept and changed again, and time is that of one image on one thread, beside MobileNetV2 in the same run.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::time::{Duration, Instant};

use ocelli_consensus::transaction::Form;
use ocelli_model::backend::{Kernel, KernelBackend};
use ocelli_model::sample::{self, Chance, networks, within};
use ocelli_model::{Backend as _, Finish, Graph, Input, Layer, Model, Operation, Window};
use ocelli_node::client::fee::weight;
use ocelli_node::inference::facts_of;
use ocelli_program::error::{CommandError, Explain as _};
use ocelli_program::output::Printer;
use serde::Serialize;

use super::block_maker::classify;
use super::rounded;

/// The side of the smallest JPEG, and about as many bytes as its tables take.
const SMALL_JPEG: u16 = 8;
const SMALL_JPEG_BYTES: usize = 300;

/// A candidate costs at most this, so that many are tried: as much as MobileNetV2.
const MOST: u64 = 340_000_000;
/// Weights of a candidate: making them takes longer than running them.
const MOST_WEIGHTS: usize = 4 << 20;
/// Genes of a graph, and how often they are repeated.
const GENES: usize = 3;
const REPEATS: usize = 16;
/// A candidate is run until it has been for so long, at least three times and at most so often: the best counts.
const ENOUGH: Duration = Duration::from_millis(6);
const MOST_RUNS: usize = 40;
/// How often the worst are run again, in turns with MobileNetV2.
const ROUNDS: usize = 5;

/// Look for networks that take longer than their cost says, beside MobileNetV2 on one thread
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Look for so long
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,

    /// What chance begins with; the same seed tries the same graphs as long as times agree
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,

    /// How many of the worst to show, each of another kind
    #[arg(long, value_name = "NUMBER", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    worst: u32,

    /// For which of the two they take long: the network's cost, or the weight of a task on it, which counts its bytes, signature and
    /// answer besides
    #[arg(long, value_name = "cost|weight", default_value = "cost")]
    by: Measure,

    /// Look for none, but measure this graph, as a search prints it; may be repeated
    #[arg(long = "graph", value_name = "GRAPH")]
    graphs: Vec<Recipe>,

    /// Instructions to use; the fastest that this processor has unless given
    #[arg(long, value_name = "NAME", default_value_t = Kernel::best())]
    kernel: Kernel,
}

/// What a network's time is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Measure {
    Cost,
    Weight,
}

#[derive(Debug, Serialize)]
struct Report {
    kernel: &'static str,
    tried: usize,
    mobilenet_v2_ms: f64,
    /// Of MobileNetV2, in a billionth of a millisecond.
    mobilenet_v2_time_for_cost: f64,
    worst: Vec<Found>,
}

#[derive(Debug, Clone, Serialize)]
struct Found {
    /// Time for its cost over that of MobileNetV2.
    ratio: f64,
    /// Time for the weight of a task on it over that of a task on MobileNetV2; the lightest tasks of both.
    weight_ratio: f64,
    milliseconds: f64,
    cost: u64,
    graph: String,
}

/// Runs the command.
///
/// # Errors
/// For a kernel that this processor cannot run, and when the result cannot be written.
pub fn run(args: &Args, output: &mut Printer) -> Result<(), CommandError> {
    let kernel = args.kernel;
    let peer = networks::by_name("mobilenet-v2", 127).expect("it has this name");
    let mut peer = Candidate::new(sample::trained(peer, &mut sample::seeded(args.seed)), kernel)?;
    let (tried, worst) = match args.graphs.as_slice() {
        [] => search(args, &mut peer)?,
        graphs => (graphs.len(), graphs.to_vec()),
    };
    let (mut found, mut base) = (Vec::new(), 0.0);
    for recipe in worst {
        let refused = || CommandError::failed(format!("no network may have the graph {recipe}"));
        let graph = recipe.graph().ok_or_else(refused)?;
        let mut candidate = Candidate::new(sample::trained(graph, &mut sample::seeded(1)), kernel)?;
        let (mut times, mut seconds) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..ROUNDS {
            (base, seconds) = (peer.best(ENOUGH)?, seconds.min(candidate.best(ENOUGH)?));
            times = times.min(seconds / base);
        }
        let ratio = |measure| rounded(times * peer.of(measure) / candidate.of(measure));
        found.push(Found {
            ratio: ratio(Measure::Cost),
            weight_ratio: ratio(Measure::Weight),
            milliseconds: rounded(seconds * 1e3),
            cost: candidate.model.cost(),
            graph: recipe.to_string(),
        });
    }
    let by = |found: &Found| if args.by == Measure::Cost { found.ratio } else { found.weight_ratio };
    found.sort_by(|one, other| by(other).total_cmp(&by(one)));
    let report = Report {
        kernel: kernel.name(),
        tried,
        mobilenet_v2_ms: rounded(base * 1e3),
        mobilenet_v2_time_for_cost: rounded(base * 1e12 / peer.of(Measure::Cost)),
        worst: found,
    };
    if output.is_json() { output.json(&report) } else { print(&report, output) }
}

/// How many graphs were tried, and the worst of them, each of another kind.
fn search(args: &Args, peer: &mut Candidate) -> Result<(usize, Vec<Recipe>), CommandError> {
    let kernel = args.kernel;
    let mut chance = sample::seeded(args.seed);
    let (begin, duration) = (Instant::now(), Duration::from_secs(args.seconds));
    let mut worst: BTreeMap<String, (f64, Recipe)> = BTreeMap::new();
    let mut tried = 0;
    let mut base = peer.best(ENOUGH)?;
    while begin.elapsed() < duration {
        // The machine's speed strays with what else it does.
        if tried % 32 == 0 {
            base = peer.best(ENOUGH)?;
        }
        let recipe = match within(&mut chance, 0, 3) {
            1.. if !worst.is_empty() => {
                let place = within(&mut chance, 0, worst.len() - 1);
                let (_, recipe) = worst.values().nth(place).expect("a place among them");
                recipe.changed(&mut chance)
            }
            _ => Recipe::random(&mut chance),
        };
        let Some(graph) = recipe.graph().filter(is_small) else { continue };
        tried += 1;
        // What a plan of it cannot be made of is refused for its memory, and takes no time.
        let Ok(mut candidate) = Candidate::new(sample::trained(graph, &mut sample::seeded(1)), kernel) else {
            continue;
        };
        let ratio = candidate.best(ENOUGH)? / base * peer.of(args.by) / candidate.of(args.by);
        let kept = worst.entry(recipe.kind()).or_insert((0.0, recipe.clone()));
        if ratio > kept.0 {
            *kept = (ratio, recipe);
        }
    }
    let mut worst: Vec<(f64, Recipe)> = worst.into_values().collect();
    worst.sort_by(|one, other| other.0.total_cmp(&one.0));
    worst.truncate(args.worst as usize);
    Ok((tried, worst.into_iter().map(|(_, recipe)| recipe).collect()))
}

fn print(report: &Report, output: &mut Printer) -> Result<(), CommandError> {
    let Report { kernel, tried, mobilenet_v2_ms, .. } = report;
    output.line(format_args!("kernel {kernel}, one thread, {tried} graphs; MobileNetV2 {mobilenet_v2_ms:.3} ms"))?;
    output.line(format_args!("{:>8} {:>8} {:>9} {:>12}  {}", "FOR COST", "WEIGHT", "MS", "COST", "GRAPH"))?;
    for Found { ratio, weight_ratio, milliseconds, cost, graph } in &report.worst {
        output.line(format_args!("{ratio:>8.2} {weight_ratio:>8.2} {milliseconds:>9.3} {cost:>12}  {graph}"))?;
    }
    Ok(())
}

fn is_small(graph: &Graph) -> bool {
    let shapes = (0..graph.layers().len()).filter_map(|layer| graph.weight_shape(layer));
    graph.cost().operations <= MOST
        && shapes.map(|shape| shape.iter().product::<usize>()).sum::<usize>() <= MOST_WEIGHTS
}

/// A model to be timed.
struct Candidate {
    model: Model,
    backend: KernelBackend,
    pixels: Vec<u8>,
}

impl Candidate {
    /// Packs it, and runs it once.
    fn new(model: Model, kernel: Kernel) -> Result<Self, CommandError> {
        let mut backend = KernelBackend::with(kernel, NonZeroUsize::MIN).hint(|| "try: ocelli doctor")?;
        let pixels: Vec<u8> =
            (0..model.pixels() as u64).map(|place| (place.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        backend.logits(&model, &[&pixels])?;
        Ok(Self { model, backend, pixels })
    }

    /// How much its time stands for.
    fn of(&self, measure: Measure) -> f64 {
        match measure {
            Measure::Cost => self.model.cost() as f64,
            Measure::Weight => self.least_weight() as f64,
        }
    }

    /// Of the lightest task on it: of its pixels, or of the smallest JPEG that there is, if it takes one.
    fn least_weight(&self) -> u64 {
        let facts = facts_of(&self.model);
        let weigh = |form, bytes| weight(&classify(&self.model, &vec![0; bytes], form), Some(&facts));
        let pixels = weigh(Form::Pixels, self.model.pixels());
        if !facts.takes_jpeg() {
            return pixels;
        }
        pixels.min(weigh(Form::Jpeg { width: SMALL_JPEG, height: SMALL_JPEG }, SMALL_JPEG_BYTES))
    }

    /// Seconds for one image, at best.
    fn best(&mut self, enough: Duration) -> Result<f64, CommandError> {
        let (mut best, mut runs, begin) = (f64::INFINITY, 0, Instant::now());
        while runs < 3 || (runs < MOST_RUNS && begin.elapsed() < enough) {
            let begin = Instant::now();
            std::hint::black_box(self.backend.logits(&self.model, &[&self.pixels])?);
            best = best.min(begin.elapsed().as_secs_f64());
            runs += 1;
        }
        Ok(best)
    }
}

/// What a graph is made of: an input, some layers each of which reads the one before, all of that some times over, and logits.
#[derive(Debug, Clone, PartialEq)]
struct Recipe {
    input: [usize; 3],
    genes: Vec<Gene>,
    repeats: usize,
    classes: usize,
    high: u8,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Gene {
    /// So many groups or fewer, as many as divide the channels, of so many outputs each.
    Conv {
        groups: usize,
        outputs: usize,
        window: Window,
    },
    /// A channel for a channel.
    Depthwise {
        window: Window,
    },
    Linear {
        channels: usize,
    },
    /// Of what it reads with itself.
    Add,
    /// By itself, or by its mean.
    Multiply {
        by_mean: bool,
    },
    AveragePool {
        window: Window,
    },
    MaxPool {
        window: Window,
    },
    /// Of so many times the same.
    Concat {
        times: usize,
    },
    Lookup,
}

/// A number from `low` on, small ones as likely as large ones, and those next to a power of two more so.
fn size(chance: &mut impl Chance, low: usize, high: usize) -> usize {
    let bits = (high / low.max(1)).max(1).ilog2() as usize;
    let least = low.max(1) << within(chance, 0, bits);
    let number = match within(chance, 0, 3) {
        0 => least,
        1 => least + 1,
        2 => least.saturating_sub(1),
        _ => within(chance, least, 2 * least),
    };
    number.clamp(low, high)
}

fn window(chance: &mut impl Chance) -> Window {
    let (rows, columns) = match within(chance, 0, 5) {
        0 => (1, 1),
        1 => (size(chance, 1, 128), 1),
        2 => (1, size(chance, 1, 128)),
        3 => (size(chance, 1, 32), size(chance, 1, 32)),
        _ => {
            let side = within(chance, 2, 9);
            (side, side)
        }
    };
    let stride = match within(chance, 0, 4) {
        0 => [size(chance, 1, 16), size(chance, 1, 16)],
        1 => [2, 2],
        _ => [1, 1],
    };
    let padding = match within(chance, 0, 2) {
        0 => [0; 4],
        1 => halves([rows, columns]),
        _ => [rows - 1, columns - 1, rows - 1, columns - 1].map(|most| within(chance, 0, most)),
    };
    Window { kernel: [rows, columns], stride, padding }
}

impl Gene {
    fn random(chance: &mut impl Chance) -> Self {
        match within(chance, 0, 12) {
            0..=3 => {
                let groups = if within(chance, 0, 2) == 0 { 1 } else { size(chance, 1, 512) };
                Self::Conv { groups, outputs: size(chance, 1, 512), window: window(chance) }
            }
            4 | 5 => Self::Depthwise { window: window(chance) },
            6 => Self::Linear { channels: size(chance, 1, 4096) },
            7 => Self::Add,
            8 => Self::Multiply { by_mean: within(chance, 0, 1) == 0 },
            9 => Self::AveragePool { window: window(chance) },
            10 => Self::MaxPool { window: window(chance) },
            11 => Self::Concat { times: size(chance, 2, 64) },
            _ => Self::Lookup,
        }
    }

    /// The same with a number changed.
    fn changed(self, chance: &mut impl Chance) -> Self {
        match self {
            Self::Conv { groups, outputs, window } => match within(chance, 0, 3) {
                0 => Self::Conv { groups: near(groups, 512, chance), outputs, window },
                1 => Self::Conv { groups, outputs: near(outputs, 512, chance), window },
                _ => Self::Conv { groups, outputs, window: window_near(window, chance) },
            },
            Self::Depthwise { window } => Self::Depthwise { window: window_near(window, chance) },
            Self::Linear { channels } => Self::Linear { channels: near(channels, 4096, chance) },
            Self::AveragePool { window } => Self::AveragePool { window: window_near(window, chance) },
            Self::MaxPool { window } => Self::MaxPool { window: window_near(window, chance) },
            Self::Concat { times } => Self::Concat { times: near(times, 64, chance).max(2) },
            Self::Add | Self::Multiply { .. } | Self::Lookup => Self::random(chance),
        }
    }

    /// What kind of work it is.
    fn kind(self) -> &'static str {
        let size = |window: Window, names: [&'static str; 3]| match window.taps() {
            1 => names[0],
            2..=25 => names[1],
            _ => names[2],
        };
        match self {
            Self::Conv { groups: 1, window, .. } => size(window, ["conv 1x1", "conv", "large conv"]),
            Self::Conv { window, .. } => size(window, ["grouped 1x1", "grouped", "large grouped"]),
            Self::Depthwise { window } => size(window, ["depthwise 1x1", "depthwise", "large depthwise"]),
            Self::Linear { .. } => "linear",
            Self::Add => "add",
            Self::Multiply { by_mean: true } => "multiply by mean",
            Self::Multiply { by_mean: false } => "multiply",
            Self::AveragePool { window } => size(window, ["average pool 1x1", "average pool", "large average pool"]),
            Self::MaxPool { window } => size(window, ["max pool 1x1", "max pool", "large max pool"]),
            Self::Concat { .. } => "concat",
            Self::Lookup => "lookup",
        }
    }
}

/// A number near another, from 1 on.
fn near(old: usize, high: usize, chance: &mut impl Chance) -> usize {
    let new = match within(chance, 0, 4) {
        0 => old + 1,
        1 => old.saturating_sub(1),
        2 => 2 * old,
        3 => old / 2,
        _ => size(chance, 1, high),
    };
    new.clamp(1, high)
}

fn window_near(old: Window, chance: &mut impl Chance) -> Window {
    let mut new = old;
    match within(chance, 0, 6) {
        0 => new.kernel[0] = near(old.kernel[0], 256, chance),
        1 => new.kernel[1] = near(old.kernel[1], 256, chance),
        2 => new.stride[0] = near(old.stride[0], 64, chance),
        3 => new.stride[1] = near(old.stride[1], 64, chance),
        4 => new.stride = [1, 1],
        5 => new.padding = [0; 4],
        _ => new.padding = halves(old.kernel),
    }
    new
}

/// A padding that keeps rows and columns as they are, with a stride of 1.
fn halves([rows, columns]: [usize; 2]) -> [usize; 4] {
    [rows / 2, columns / 2, (rows - 1) / 2, (columns - 1) / 2]
}

impl Recipe {
    fn random(chance: &mut impl Chance) -> Self {
        let side = size(chance, 1, 512);
        Self {
            input: [size(chance, 1, 512), side, if within(chance, 0, 2) == 0 { size(chance, 1, 4096) } else { side }],
            genes: (0..within(chance, 1, GENES)).map(|_| Gene::random(chance)).collect(),
            repeats: size(chance, 1, REPEATS),
            classes: size(chance, 1, 1000),
            high: if within(chance, 0, 1) == 0 { 127 } else { 255 },
        }
    }

    fn changed(&self, chance: &mut impl Chance) -> Self {
        let mut new = self.clone();
        for _ in 0..within(chance, 1, 2) {
            let place = within(chance, 0, new.genes.len() - 1);
            match within(chance, 0, 9) {
                0 => new.input[0] = near(new.input[0], 4096, chance),
                1 => new.input[1] = near(new.input[1], 8192, chance),
                2 => new.input[2] = near(new.input[2], 8192, chance),
                3 => new.repeats = near(new.repeats, REPEATS, chance),
                4 => new.classes = near(new.classes, 1000, chance),
                5 => new.high = 255 - new.high / 255 * 128,
                6 if new.genes.len() > 1 => drop(new.genes.remove(place)),
                7 if new.genes.len() < GENES => new.genes.insert(place, Gene::random(chance)),
                _ => new.genes[place] = new.genes[place].changed(chance),
            }
        }
        new
    }

    /// What kinds of layers it has.
    fn kind(&self) -> String {
        let mut kinds: Vec<&str> = self.genes.iter().map(|gene| gene.kind()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds.join(", ")
    }

    /// None if it is not accepted.
    fn graph(&self) -> Option<Graph> {
        let [channels, height, width] = self.input;
        let input = Input::new(channels, height, width).with_zero_point(128);
        let finish = Finish { zero_point: self.high / 2, low: 0, high: self.high };
        let mut layers: Vec<Layer> = Vec::new();
        let mut top = "input".to_owned();
        // What a layer reads is known once the graph up to there is.
        let mut known = channels;
        let mut push = |from: &[&str], operation: Operation| {
            let name = format!("l{}", layers.len());
            layers.push(Layer::new(&name, from, operation));
            name
        };
        for _ in 0..self.repeats {
            for gene in &self.genes {
                let mut one = |operation: Operation| push(&[&top], operation);
                top = match *gene {
                    Gene::Conv { groups, outputs, window } => {
                        let groups = (1..=groups.min(known)).rev().find(|groups| known.is_multiple_of(*groups))?;
                        known = groups * outputs;
                        one(Operation::Conv { channels: known, groups, window, finish })
                    }
                    Gene::Depthwise { window } => {
                        one(Operation::Conv { channels: known, groups: known, window, finish })
                    }
                    Gene::Linear { channels } => {
                        known = channels;
                        one(Operation::Linear { channels, finish: Some(finish) })
                    }
                    Gene::Add => push(&[&top, &top], Operation::Add { multipliers: [1 << 19; 2], shift: 20, finish }),
                    Gene::Multiply { by_mean: false } => push(&[&top, &top], Operation::Multiply { finish }),
                    Gene::Multiply { by_mean: true } => {
                        // A pixel stands for the mean of all.
                        let window = Window::square(1, 512, 0);
                        let mean = push(&[&top], Operation::MaxPool { window });
                        push(&[&top, &mean], Operation::Multiply { finish })
                    }
                    Gene::AveragePool { window } => one(Operation::AveragePool { window, finish }),
                    Gene::MaxPool { window } => one(Operation::MaxPool { window }),
                    Gene::Concat { times } => {
                        known = known.checked_mul(times)?;
                        push(&vec![top.as_str(); times], Operation::Concat)
                    }
                    Gene::Lookup => one(Operation::Lookup { zero_point: finish.zero_point }),
                };
            }
        }
        layers.push(Layer::logits("logits", &top, self.classes));
        Graph::new(input, layers).ok()
    }
}

impl fmt::Display for Gene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let window = match *self {
            Self::Conv { groups, outputs, window } => {
                write!(f, "conv {outputs} of {groups} groups each")?;
                window
            }
            Self::Depthwise { window } => {
                write!(f, "depthwise")?;
                window
            }
            Self::AveragePool { window } => {
                write!(f, "average_pool")?;
                window
            }
            Self::MaxPool { window } => {
                write!(f, "max_pool")?;
                window
            }
            Self::Linear { channels } => return write!(f, "linear {channels}"),
            Self::Concat { times } => return write!(f, "concat {times}"),
            Self::Add => return write!(f, "add"),
            Self::Multiply { by_mean: false } => return write!(f, "multiply"),
            Self::Multiply { by_mean: true } => return write!(f, "multiply_by_mean"),
            Self::Lookup => return write!(f, "lookup"),
        };
        let Window { kernel: [rows, columns], stride: [down, right], padding: [above, left, below, after] } = window;
        write!(f, " {rows}x{columns}")?;
        if [down, right] != [1, 1] {
            write!(f, " by {down}x{right}")?;
        }
        if window.padding != [0; 4] {
            write!(f, " padded {above}x{left}x{below}x{after}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { input: [channels, height, width], genes, repeats, classes, high } = self;
        let bits = if *high > 127 { 8 } else { 7 };
        write!(f, "{channels}x{height}x{width}, {bits} bits, {repeats} times:")?;
        genes.iter().try_for_each(|gene| write!(f, " {gene},"))?;
        write!(f, " logits {classes}")
    }
}

/// No number of a graph is larger.
fn number(text: &str) -> Option<usize> {
    text.parse::<u16>().ok().map(usize::from)
}

/// Numbers with an x between.
fn numbers<const N: usize>(text: &str) -> Option<[usize; N]> {
    text.split('x').map(number).collect::<Option<Vec<usize>>>()?.try_into().ok()
}

impl Gene {
    fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split(' ').collect();
        let window = |words: &[&str]| {
            let [kernel, ref more @ ..] = *words else { return None };
            let mut window = Window { kernel: numbers(kernel)?, stride: [1, 1], padding: [0; 4] };
            for two in more.chunks(2) {
                match *two {
                    ["by", stride] => window.stride = numbers(stride)?,
                    ["padded", padding] => window.padding = numbers(padding)?,
                    _ => return None,
                }
            }
            Some(window)
        };
        Some(match *words {
            ["conv", outputs, "of", groups, "groups", "each", ref of @ ..] => {
                Self::Conv { groups: number(groups)?, outputs: number(outputs)?, window: window(of)? }
            }
            ["depthwise", ref of @ ..] => Self::Depthwise { window: window(of)? },
            ["average_pool", ref of @ ..] => Self::AveragePool { window: window(of)? },
            ["max_pool", ref of @ ..] => Self::MaxPool { window: window(of)? },
            ["linear", channels] => Self::Linear { channels: number(channels)? },
            ["concat", times] => Self::Concat { times: number(times)? },
            ["add"] => Self::Add,
            ["multiply"] => Self::Multiply { by_mean: false },
            ["multiply_by_mean"] => Self::Multiply { by_mean: true },
            ["lookup"] => Self::Lookup,
            _ => return None,
        })
    }
}

impl FromStr for Recipe {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (head, layers) = text.split_once(": ")?;
            let (head, layers): (Vec<&str>, Vec<&str>) = (head.split(", ").collect(), layers.split(", ").collect());
            let [input, bits, repeats] = *head.as_slice() else { return None };
            let high = match bits {
                "7 bits" => 127,
                "8 bits" => 255,
                _ => return None,
            };
            let (repeats, input) = (number(repeats.strip_suffix(" times")?)?, numbers(input)?);
            let [genes @ .., last] = layers.as_slice() else { return None };
            let genes = genes.iter().map(|gene| Gene::parse(gene)).collect::<Option<Vec<_>>>()?;
            let classes = number(last.strip_prefix("logits ")?)?;
            // More are more than a network may have.
            (genes.len() <= 512 && repeats <= 512).then_some(Self { input, genes, repeats, classes, high })
        };
        parse().ok_or_else(|| {
            "expected CHANNELSxHEIGHTxWIDTH, 7 or 8 bits, how many times, and layers, as in \
             \"3x32x32, 8 bits, 2 times: conv 8 of 1 groups each 3x3 by 2x2 padded 1x1x1x1, add, logits 10\""
                .to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_is_read_as_it_is_printed() {
        let mut chance = sample::seeded(1);
        for _ in 0..500 {
            let recipe = Recipe::random(&mut chance);
            assert_eq!(recipe.to_string().parse::<Recipe>(), Ok(recipe));
        }
        for text in ["", "3x32, 8 bits, 1 times: add, logits 2", "3x2x2, 8 bits, 1 times: conv 3x3, logits 2"] {
            let error = text.parse::<Recipe>().expect_err("no graph");
            assert!(error.starts_with("expected CHANNELSxHEIGHTxWIDTH"), "{error}");
        }
    }
}
