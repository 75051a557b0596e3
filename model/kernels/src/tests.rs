//! Every kernel that this processor can run gives what a few lines of scalar code give, on random networks of all operators.
//!
//! The crate depends on nothing, and neither do its tests, so that they run as one static program under an emulator for
//! instructions that the machine at hand lacks.

use crate::{Finish, Join, Kernel, Layer, Method, Operation, Plan, PlanError, Shape, Window};

/// A layer that owns its integers.
#[derive(Debug, Clone)]
struct OwnedLayer {
    /// The activations that it reads.
    from: Vec<usize>,
    /// What it computes.
    kind: Kind,
    /// Of a convolution or linear layer.
    weight: Vec<i8>,
    /// Of a convolution or linear layer.
    bias: Vec<i32>,
    /// One for each output channel, or one; empty where there is none.
    scale: Vec<f32>,
    /// Of a lookup.
    table: Box<[u8; 256]>,
    /// None in the last layer, a max-pool, a concatenation and a lookup.
    finish: Option<Finish>,
}

/// The operators, as [`Operation`] has them.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Conv { groups: usize, window: Window },
    Linear,
    Add { multipliers: [i32; 2], shift: u8 },
    Multiply,
    AveragePool { window: Window },
    MaxPool { window: Window },
    Concat,
    Lookup { zero_point: u8 },
}

impl OwnedLayer {
    /// A layer without integers.
    fn new(from: &[usize], kind: Kind) -> Self {
        let table = Box::new(std::array::from_fn(|byte| byte as u8));
        Self { from: from.to_vec(), kind, weight: vec![], bias: vec![], scale: vec![], table, finish: None }
    }

    /// The same, borrowed.
    fn layer(&self) -> Layer<'_> {
        let Self { weight, bias, scale, table, finish, .. } = self;
        let some = || finish.expect("the kind has one");
        let operation = match self.kind {
            Kind::Conv { groups, window } => Operation::Conv { groups, window, weight, bias, scale, finish: some() },
            Kind::Linear => Operation::Linear { weight, bias, scale, finish: *finish },
            Kind::Add { multipliers, shift } => Operation::Add { multipliers, shift, finish: some() },
            Kind::Multiply => Operation::Multiply { scale: scale[0], finish: some() },
            Kind::AveragePool { window } => Operation::AveragePool { window, scale: scale[0], finish: some() },
            Kind::MaxPool { window } => Operation::MaxPool { window },
            Kind::Concat => Operation::Concat,
            Kind::Lookup { zero_point } => Operation::Lookup { table, zero_point },
        };
        Layer { from: &self.from, operation }
    }
}

/// The shape that windows give.
fn over(from: Shape, channels: usize, Window { kernel, stride, padding }: Window) -> Shape {
    let out = |size: usize, way: usize| (size + padding[way] + padding[way + 2] - kernel[way]) / stride[way] + 1;
    Shape { channels, height: out(from.height, 0), width: out(from.width, 1) }
}

/// Two threads for every join: slow, and all that a test needs.
struct TwoThreads;

impl Join for TwoThreads {
    fn join<A: FnOnce() + Send, B: FnOnce() + Send>(&self, a: A, b: B) {
        std::thread::scope(|scope| {
            scope.spawn(b);
            a();
        });
    }
}

/// Steele, Lea and Flood's SplitMix64: enough for tests.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Between both, which are included.
    fn within(&mut self, least: i64, most: i64) -> i64 {
        least + (self.next() % (most - least + 1) as u64) as i64
    }

    fn size(&mut self, least: usize, most: usize) -> usize {
        self.within(least as i64, most as i64) as usize
    }

    fn one_of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.size(0, list.len() - 1)]
    }

    /// Once in so many times.
    fn once_in(&mut self, times: usize) -> bool {
        self.size(1, times) == 1
    }
}

/// What is known of an activation without running anything.
#[derive(Debug, Clone)]
struct Known {
    shape: Shape,
    zero_points: Vec<u8>,
    low: u8,
    high: u8,
}

impl Known {
    /// The greatest distance from a zero point.
    fn distance(&self, zero_point: u8) -> i64 {
        i64::from(zero_point - self.low).max(i64::from(self.high - zero_point))
    }

    fn one_zero_point(&self) -> Option<u8> {
        self.zero_points.iter().all(|z| *z == self.zero_points[0]).then_some(self.zero_points[0])
    }
}

fn random_finish(random: &mut Random) -> Finish {
    let any = random.size(0, 255) as u8;
    let high = random.one_of(&[127, 127, 127, 255, 255, any]);
    let any = random.size(0, high.into()) as u8;
    let zero_point = random.one_of(&[0, 0, high / 2, any, high]);
    let any = random.size(0, zero_point.into()) as u8;
    let low = random.one_of(&[0, 0, zero_point, any]);
    Finish { zero_point, low, high }
}

/// A scale for sums up to `bound`, of which `typical` is usual: one that spreads them over the bytes, a power of two less,
/// which makes ties, or one at the end of what is allowed.
fn random_scale(random: &mut Random, bound: i64, typical: f64) -> f32 {
    let most = 2f64.powi(8).min(2f64.powi(30) / bound.max(1) as f64) * 0.999_999;
    let wanted = 100.0 / typical.max(1.0) * random.within(500, 2000) as f64 / 1000.0;
    let scale = match random.size(0, 9) {
        0 => most,
        1 => 2f64.powi(-64),
        2 | 3 => 2f64.powi(wanted.log2().floor() as i32),
        _ => wanted,
    };
    scale.clamp(2f64.powi(-64), most) as f32
}

/// Fills weights, biases and scales of a convolution or linear layer with `taps` weights for each input channel of a group.
fn fill_sums(random: &mut Random, layer: &mut OwnedLayer, from: &Known, channels: usize, groups: usize, taps: usize) {
    let inputs = from.shape.channels / groups;
    let kind = random.size(0, 4);
    let largest = random.one_of(&[127, 127, 127, 40, 3]);
    for channel in 0..channels {
        let first = channel / (channels / groups) * inputs;
        let (mut bound, mut square) = (0, 0.0);
        for input in 0..inputs {
            let distance = from.distance(from.zero_points[first + input]);
            for _ in 0..taps {
                let weight = match kind {
                    0 => random.one_of(&[-largest, largest]),
                    1 => largest,
                    2 => -largest,
                    _ => random.within(-largest, largest),
                };
                layer.weight.push(weight as i8);
                bound += weight.abs() * distance;
                square += (weight * distance) as f64 * (weight * distance) as f64;
            }
        }
        let room = (1i64 << 31) - 1 - bound;
        let typical = square.sqrt();
        // Sums near +-2^31, and beyond 2^24 with odd last digits.
        let bias = match random.size(0, 9) {
            0 => room,
            1 => -room,
            2 => random.within(-room, room),
            3 => random.one_of(&[(1 << 24) + 1, -(1 << 24) - 3]),
            _ => random.within(-(typical as i64), typical as i64),
        };
        let bias = bias.clamp(-room, room);
        layer.bias.push(bias as i32);
        layer.scale.push(random_scale(random, bound + bias.abs(), typical + bias.abs() as f64));
    }
}

fn random_window(random: &mut Random, from: Shape, sizes: &[usize]) -> Option<Window> {
    let kernel = [random.one_of(sizes), random.one_of(sizes)];
    let kernel = if random.once_in(3) { kernel } else { [kernel[0]; 2] };
    let stride = [random.size(1, 3), random.size(1, 3)];
    let stride = if random.once_in(3) { stride } else { [random.one_of(&[1, 1, 2]); 2] };
    let mut padding = [0; 4];
    match random.size(0, 2) {
        0 => {}
        1 => padding = [kernel[0] / 2, kernel[1] / 2, kernel[0] / 2, kernel[1] / 2],
        _ => {
            for (side, padding) in padding.iter_mut().enumerate() {
                *padding = random.size(0, kernel[side % 2] - 1);
            }
        }
    }
    let fits = from.height + padding[0] + padding[2] >= kernel[0] && from.width + padding[1] + padding[3] >= kernel[1];
    fits.then_some(Window { kernel, stride, padding })
}

/// A network of random layers that fit, and the zero points of its input.
fn random_network(random: &mut Random) -> (Shape, Vec<u8>, Vec<OwnedLayer>) {
    let side = random.one_of(&[1, 2, 3, 5, 6, 8, 9, 12, 14, 17]);
    let input = Shape {
        channels: random.one_of(&[1, 2, 3, 3, 4, 5, 9, 16, 21]),
        height: side,
        width: match random.size(0, 5) {
            0 | 1 => random.size(1, 40),
            2 => random.size(1, 4),
            _ => side,
        },
    };
    let mut zero_points = vec![random.one_of(&[0, 128, 255, 103]); input.channels];
    if random.once_in(2) {
        zero_points.iter_mut().for_each(|zero_point| *zero_point = random.size(0, 255) as u8);
    }
    let mut known = vec![Known { shape: input, zero_points: zero_points.clone(), low: 0, high: 255 }];
    let mut layers = Vec::new();
    for _ in 0..random.size(0, 9) {
        if let Some((layer, next)) = random_layer(random, &known) {
            layers.push(layer);
            known.push(next);
        }
    }
    // The last layer, which may have scales.
    let from = random.size(0, known.len() - 1).max(known.len().saturating_sub(2));
    let mut last = OwnedLayer::new(&[from], Kind::Linear);
    let classes = random.one_of(&[1, 2, 5, 8, 10, 16, 19, 70]);
    let Shape { height, width, .. } = known[from].shape;
    fill_sums(random, &mut last, &known[from], classes, 1, height * width);
    match random.size(0, 2) {
        0 => {}
        1 => last.scale.iter_mut().for_each(|scale| *scale = 255.0),
        _ => last.scale.clear(),
    }
    layers.push(last);
    (input, zero_points, layers)
}

fn random_layer(random: &mut Random, known: &[Known]) -> Option<(OwnedLayer, Known)> {
    let latest = known.len() - 1;
    let index = if random.once_in(3) { random.size(0, latest) } else { latest };
    let from = &known[index];
    let channels = random.one_of(&[1, 3, 4, 7, 8, 9, 16, 17, 24, 32, 33, 40, 64, 65, 96, 130]);
    let finish = random_finish(random);
    let written = |shape: Shape, finish: Finish| {
        let zero_points = vec![finish.zero_point; shape.channels];
        Known { shape, zero_points, low: finish.low, high: finish.high }
    };
    let few = from.shape.elements() <= 20_000;
    let kind = random.size(0, 13);
    let zero_point = from.one_zero_point();
    if zero_point.is_none() && !matches!(kind, 0..=6 | 12) {
        return None;
    }
    let zero_point = zero_point.unwrap_or_default();
    Some(match kind {
        0 if few => {
            let mut layer = OwnedLayer::new(&[index], Kind::Linear);
            fill_sums(random, &mut layer, from, channels, 1, from.shape.height * from.shape.width);
            layer.finish = Some(finish);
            (layer, written(Shape { channels, height: 1, width: 1 }, finish))
        }
        0..=2 => {
            let window = Window { kernel: [3; 2], stride: [1; 2], padding: [1; 4] };
            let window = if random.once_in(2) { window } else { random_window(random, from.shape, &[1, 2, 3, 3, 5])? };
            let fits = from.shape.height + window.padding[0] + window.padding[2] >= window.kernel[0];
            if !fits || from.shape.width + window.padding[1] + window.padding[3] < window.kernel[1] {
                return None;
            }
            let mut layer = OwnedLayer::new(&[index], Kind::Conv { groups: 1, window });
            fill_sums(random, &mut layer, from, channels, 1, window.kernel[0] * window.kernel[1]);
            layer.finish = Some(finish);
            (layer, written(over(from.shape, channels, window), finish))
        }
        3 => {
            let window = Window { kernel: [1; 2], stride: [random.size(1, 2); 2], padding: [0; 4] };
            let mut layer = OwnedLayer::new(&[index], Kind::Conv { groups: 1, window });
            fill_sums(random, &mut layer, from, channels, 1, 1);
            layer.finish = Some(finish);
            (layer, written(over(from.shape, channels, window), finish))
        }
        4 | 5 => {
            let window = random_window(random, from.shape, &[1, 2, 3, 3, 3, 4, 5, 5, 7, 9, 18])?;
            let channels = from.shape.channels;
            let mut layer = OwnedLayer::new(&[index], Kind::Conv { groups: channels, window });
            fill_sums(random, &mut layer, from, channels, channels, window.kernel[0] * window.kernel[1]);
            layer.finish = Some(finish);
            (layer, written(over(from.shape, channels, window), finish))
        }
        6 => {
            let window = random_window(random, from.shape, &[1, 2, 3])?;
            let divisors: Vec<usize> =
                (1..=from.shape.channels).filter(|groups| from.shape.channels.is_multiple_of(*groups)).collect();
            let groups = random.one_of(&divisors);
            let channels = groups * random.size(1, (140 / groups).max(2));
            let mut layer = OwnedLayer::new(&[index], Kind::Conv { groups, window });
            fill_sums(random, &mut layer, from, channels, groups, window.kernel[0] * window.kernel[1]);
            layer.finish = Some(finish);
            (layer, written(over(from.shape, channels, window), finish))
        }
        7 => {
            let alike: Vec<usize> = (0..known.len())
                .filter(|other| known[*other].shape == from.shape && known[*other].one_zero_point().is_some())
                .collect();
            let other = random.one_of(&alike);
            let shift = random.size(1, 30) as u8;
            let most = (1i64 << 21).min(1i64 << (shift + 1).min(21));
            let kind = random.size(0, 2);
            let multiplier = |random: &mut Random| match kind {
                0 => 1 << random.size(0, 21),
                _ => random.within(1, most) as i32,
            };
            let multipliers = [multiplier(random), multiplier(random)];
            let mut layer = OwnedLayer::new(&[index, other], Kind::Add { multipliers, shift });
            layer.finish = Some(finish);
            (layer, written(from.shape, finish))
        }
        8 => {
            let fits = |other: &Known| {
                let narrow = Shape { height: 1, width: 1, ..from.shape };
                [from.shape, narrow].contains(&other.shape) && other.one_zero_point().is_some()
            };
            let alike: Vec<usize> = (0..known.len()).filter(|other| fits(&known[*other])).collect();
            let other = random.one_of(&alike);
            let bound = from.distance(zero_point) * known[other].distance(known[other].zero_points[0]);
            let mut layer = OwnedLayer::new(&[index, other], Kind::Multiply);
            layer.scale.push(random_scale(random, bound, bound as f64));
            layer.finish = Some(finish);
            (layer, written(from.shape, finish))
        }
        9 => {
            let window = match random.once_in(3) {
                true => Window { kernel: [from.shape.height, from.shape.width], stride: [1; 2], padding: [0; 4] },
                false => random_window(random, from.shape, &[1, 2, 3, 5, 7])?,
            };
            let bound = (window.kernel[0] * window.kernel[1]) as i64 * from.distance(zero_point);
            let mut layer = OwnedLayer::new(&[index], Kind::AveragePool { window });
            layer.scale.push(random_scale(random, bound, bound as f64));
            layer.finish = Some(finish);
            (layer, written(over(from.shape, from.shape.channels, window), finish))
        }
        10 => {
            let halves = Window { kernel: [2; 2], stride: [2; 2], padding: [0; 4] };
            let window = if random.once_in(2) { halves } else { random_window(random, from.shape, &[1, 2, 3, 5, 7])? };
            if from.shape.height + window.padding[0] < window.kernel[0]
                || from.shape.width + window.padding[1] < window.kernel[1]
            {
                return None;
            }
            let shape = over(from.shape, from.shape.channels, window);
            (OwnedLayer::new(&[index], Kind::MaxPool { window }), Known { shape, ..from.clone() })
        }
        11 => {
            let alike: Vec<usize> = (0..known.len())
                .filter(|other| {
                    let other = &known[*other];
                    other.one_zero_point() == Some(zero_point)
                        && (other.shape.height, other.shape.width) == (from.shape.height, from.shape.width)
                })
                .collect();
            let list: Vec<usize> = (0..random.size(2, 4)).map(|_| random.one_of(&alike)).collect();
            let channels = list.iter().map(|other| known[*other].shape.channels).sum();
            let next = Known {
                shape: Shape { channels, ..from.shape },
                zero_points: vec![zero_point; channels],
                low: list.iter().map(|other| known[*other].low).min().expect("two or more"),
                high: list.iter().map(|other| known[*other].high).max().expect("two or more"),
            };
            if channels > 200 {
                return None;
            }
            (OwnedLayer::new(&list, Kind::Concat), next)
        }
        _ => {
            let zero_point = finish.zero_point;
            let mut layer = OwnedLayer::new(&[index], Kind::Lookup { zero_point });
            let halve = random.once_in(2);
            *layer.table = std::array::from_fn(|byte| {
                if halve { byte as u8 / 2 } else { random.size(finish.low.into(), finish.high.into()) as u8 }
            });
            let low = layer.table.iter().copied().min().expect("256").min(zero_point);
            let high = layer.table.iter().copied().max().expect("256").max(zero_point);
            (layer, written(from.shape, Finish { zero_point, low, high }))
        }
    })
}

/// `z + rne(clamp(f32(acc) * scale))`, as `docs/inference.md` has it.
fn requantise(acc: i64, scale: f32, Finish { zero_point, low, high }: Finish) -> u8 {
    let (z, low, high) = (f32::from(zero_point), f32::from(low), f32::from(high));
    let acc = i32::try_from(acc).expect("bounds keep sums within i32");
    let value = (acc as f32 * scale).max(low - z).min(high - z).round_ties_even();
    (value as i32 + i32::from(zero_point)) as u8
}

/// An activation of the reference.
#[derive(Debug, Clone)]
struct Value {
    shape: Shape,
    zero_points: Vec<u8>,
    bytes: Vec<u8>,
}

impl Value {
    fn at(&self, c: usize, y: usize, x: usize) -> u8 {
        self.bytes[(c * self.shape.height + y) * self.shape.width + x]
    }

    /// The elements of a channel's window, each less its zero point; none where there is padding.
    fn window(&self, c: usize, (y, x): (usize, usize), window: Window) -> Vec<Option<u8>> {
        let Window { kernel, stride, padding } = window;
        let mut list = Vec::new();
        for i in 0..kernel[0] {
            for j in 0..kernel[1] {
                let row = (y * stride[0] + i).checked_sub(padding[0]).filter(|row| *row < self.shape.height);
                let column = (x * stride[1] + j).checked_sub(padding[1]).filter(|column| *column < self.shape.width);
                list.push(row.zip(column).map(|(row, column)| self.at(c, row, column)));
            }
        }
        list
    }
}

/// The logits of a network, as `docs/inference.md` has it.
fn reference(input: Shape, zero_points: &[u8], layers: &[OwnedLayer], pixels: &[u8]) -> Vec<i32> {
    let mut values = vec![Value { shape: input, zero_points: zero_points.to_vec(), bytes: pixels.to_vec() }];
    for layer in layers {
        let from: Vec<&Value> = layer.from.iter().map(|from| &values[*from]).collect();
        let x = from[0];
        let finish = layer.finish.unwrap_or(Finish { zero_point: x.zero_points[0], low: 0, high: 255 });
        let sum = |o: usize, (y, z): (usize, usize), groups: usize, window: Window| {
            let inputs = x.shape.channels / groups;
            let taps = window.kernel[0] * window.kernel[1];
            let mut acc = i64::from(layer.bias[o]);
            for i in 0..inputs {
                let channel = o / (layer.bias.len() / groups) * inputs + i;
                let weights = &layer.weight[(o * inputs + i) * taps..][..taps];
                for (weight, value) in weights.iter().zip(x.window(channel, (y, z), window)) {
                    let centred = value.map_or(0, |value| i64::from(value) - i64::from(x.zero_points[channel]));
                    acc += i64::from(*weight) * centred;
                }
            }
            acc
        };
        let mut next = Value { shape: x.shape, zero_points: Vec::new(), bytes: Vec::new() };
        match layer.kind {
            Kind::Conv { groups, window } => {
                next.shape = over(x.shape, layer.bias.len(), window);
                for o in 0..next.shape.channels {
                    for place in 0..next.shape.height * next.shape.width {
                        let acc = sum(o, (place / next.shape.width, place % next.shape.width), groups, window);
                        next.bytes.push(requantise(acc, layer.scale[o], finish));
                    }
                }
            }
            Kind::Linear => {
                let window = Window { kernel: [x.shape.height, x.shape.width], stride: [1; 2], padding: [0; 4] };
                next.shape = Shape { channels: layer.bias.len(), height: 1, width: 1 };
                let sums = (0..layer.bias.len()).map(|o| sum(o, (0, 0), 1, window));
                if layer.finish.is_none() {
                    let scaled = |(o, acc): (usize, i64)| {
                        let acc = i32::try_from(acc).expect("bounds keep sums within i32");
                        let limit = 16_777_216.0;
                        layer
                            .scale
                            .get(o)
                            .map_or(acc, |scale| (acc as f32 * scale).max(-limit).min(limit).round_ties_even() as i32)
                    };
                    return sums.enumerate().map(scaled).collect();
                }
                next.bytes = sums.enumerate().map(|(o, acc)| requantise(acc, layer.scale[o], finish)).collect();
            }
            Kind::Add { multipliers, shift } => {
                for (a, b) in x.bytes.iter().zip(&from[1].bytes) {
                    let centred = |byte: u8, of: &Value| i64::from(byte) - i64::from(of.zero_points[0]);
                    let total =
                        i64::from(multipliers[0]) * centred(*a, x) + i64::from(multipliers[1]) * centred(*b, from[1]);
                    let value = ((total + (1 << (shift - 1))) >> shift) + i64::from(finish.zero_point);
                    next.bytes.push(value.clamp(finish.low.into(), finish.high.into()) as u8);
                }
            }
            Kind::Multiply => {
                let each = from[1].bytes.len() / x.shape.channels;
                for (index, a) in x.bytes.iter().enumerate() {
                    let plane = x.shape.height * x.shape.width;
                    let b = from[1].bytes[index / plane * each + if each == 1 { 0 } else { index % plane }];
                    let centred = |byte: u8, of: &Value| i64::from(byte) - i64::from(of.zero_points[0]);
                    next.bytes.push(requantise(centred(*a, x) * centred(b, from[1]), layer.scale[0], finish));
                }
            }
            Kind::AveragePool { window } | Kind::MaxPool { window } => {
                next.shape = over(x.shape, x.shape.channels, window);
                for c in 0..x.shape.channels {
                    for place in 0..next.shape.height * next.shape.width {
                        let values = x.window(c, (place / next.shape.width, place % next.shape.width), window);
                        next.bytes.push(if layer.kind == (Kind::MaxPool { window }) {
                            values.into_iter().map(Option::unwrap_or_default).max().expect("a window has an element")
                        } else {
                            let centred = |value: u8| i64::from(value) - i64::from(x.zero_points[c]);
                            let acc = values.into_iter().flatten().map(centred).sum();
                            requantise(acc, layer.scale[0], finish)
                        });
                    }
                }
            }
            Kind::Concat => {
                next.shape.channels = from.iter().map(|input| input.shape.channels).sum();
                next.bytes = from.iter().flat_map(|input| input.bytes.iter().copied()).collect();
            }
            Kind::Lookup { .. } => next.bytes = x.bytes.iter().map(|byte| layer.table[usize::from(*byte)]).collect(),
        }
        let zero_point = match layer.kind {
            Kind::Lookup { zero_point } => zero_point,
            _ => finish.zero_point,
        };
        next.zero_points = vec![zero_point; next.shape.channels];
        values.push(next);
    }
    unreachable!("the last layer gives logits")
}

fn random_image(random: &mut Random, length: usize) -> Vec<u8> {
    let kind = random.size(0, 4);
    (0..length)
        .map(|_| match kind {
            0 => 0,
            1 => 255,
            2 => random.one_of(&[0, 255]),
            _ => random.next() as u8,
        })
        .collect()
}

/// How many random networks: few by default, more by `OCELLI_KERNEL_NETWORKS`.
fn count() -> u64 {
    std::env::var("OCELLI_KERNEL_NETWORKS").ok().and_then(|text| text.parse().ok()).unwrap_or(400)
}

/// Runs a network on every kernel, all images as often as `sizes` says, so many at once.
fn check(seed: u64, input: Shape, zero_points: &[u8], layers: &[OwnedLayer], images: &[Vec<u8>]) {
    let borrowed: Vec<Layer<'_>> = layers.iter().map(OwnedLayer::layer).collect();
    let expected: Vec<Vec<i32>> = images.iter().map(|image| reference(input, zero_points, layers, image)).collect();
    let images: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
    for kernel in Kernel::available() {
        let plan = Plan::new(input, zero_points, &borrowed, kernel).expect("small enough");
        let mut scratch = plan.scratch();
        // The second round finds what the first has left in the buffers.
        for size in [plan.group(), 1, 3.min(plan.group())] {
            let mut found = Vec::new();
            for images in images.chunks(size) {
                let mut logits = vec![0; images.len() * expected[0].len()];
                plan.run(&mut scratch, images, &mut logits);
                found.extend(logits);
            }
            assert_eq!(
                found,
                expected.concat(),
                "seed {seed}, kernel {kernel}, {size} at once: {}",
                say(input, layers)
            );
        }
        let mut other = plan.scratch();
        for (image, expected) in images.iter().zip(&expected) {
            let mut logits = vec![0; expected.len()];
            plan.run_shared(&mut scratch, &mut other, image, &mut logits, &TwoThreads);
            assert_eq!(logits, *expected, "seed {seed}, kernel {kernel}, two threads: {}", say(input, layers));
        }
    }
}

/// A network without its integers.
fn say(input: Shape, layers: &[OwnedLayer]) -> String {
    let layers = layers
        .iter()
        .map(|layer| format!("\n{:?} {:?} {:?} to {}", layer.from, layer.kind, layer.finish, layer.bias.len()));
    format!("{input:?}{}", layers.collect::<String>())
}

#[test]
fn random_networks() {
    let mut kinds = [0usize; 8];
    for seed in 0..count() {
        let mut random = Random(seed);
        let (input, zero_points, layers) = random_network(&mut random);
        let images: Vec<Vec<u8>> = (0..9).map(|_| random_image(&mut random, input.elements())).collect();
        check(seed, input, &zero_points, &layers, &images);
        for layer in &layers {
            kinds[match layer.kind {
                Kind::Conv { .. } => 0,
                Kind::Linear => 1,
                Kind::Add { .. } => 2,
                Kind::Multiply => 3,
                Kind::AveragePool { .. } => 4,
                Kind::MaxPool { .. } => 5,
                Kind::Concat => 6,
                Kind::Lookup { .. } => 7,
            }] += 1;
        }
    }
    // For those who run this under an emulator: that what it is for was among them.
    eprintln!(
        "{} networks, layers of each kind {kinds:?}, kernels {:?}",
        count(),
        Kernel::available().collect::<Vec<_>>()
    );
    assert!(count() < 100 || kinds.iter().all(|count| *count > 0), "every kind of layer was among them: {kinds:?}");
}

/// A window of `kernel` rows and columns that pads nothing.
fn plain(kernel: usize, stride: usize) -> Window {
    Window { kernel: [kernel; 2], stride: [stride; 2], padding: [0; 4] }
}

const BYTES: Finish = Finish { zero_point: 0, low: 0, high: 127 };

#[test]
fn every_number_of_images() {
    let mut random = Random(7);
    let input = Shape { channels: 3, height: 9, width: 7 };
    let known = Known { shape: input, zero_points: vec![3, 200, 128], low: 0, high: 255 };
    let mut conv = OwnedLayer::new(&[0], Kind::Conv { groups: 1, window: Window { padding: [1; 4], ..plain(3, 1) } });
    fill_sums(&mut random, &mut conv, &known, 20, 1, 9);
    conv.finish = Some(BYTES);
    let known = Known { shape: Shape { channels: 20, ..input }, zero_points: vec![0; 20], low: 0, high: 127 };
    let mut linear = OwnedLayer::new(&[1], Kind::Linear);
    fill_sums(&mut random, &mut linear, &known, 5, 1, 63);
    let layers = [conv, linear];
    let images: Vec<Vec<u8>> = (0..65).map(|_| random_image(&mut random, input.elements())).collect();
    let expected: Vec<Vec<i32>> = images.iter().map(|image| reference(input, &[3, 200, 128], &layers, image)).collect();
    let borrowed: Vec<Layer<'_>> = layers.iter().map(OwnedLayer::layer).collect();
    let images: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
    for kernel in Kernel::available() {
        let plan = Plan::new(input, &[3, 200, 128], &borrowed, kernel).expect("fits");
        let mut scratch = plan.scratch();
        for count in 1..=images.len() {
            let mut found = vec![0; count * 5];
            for (images, logits) in images[..count].chunks(plan.group()).zip(found.chunks_mut(plan.group() * 5)) {
                plan.run(&mut scratch, images, logits);
            }
            assert_eq!(found, expected[..count].concat(), "{count} images, kernel {kernel}");
        }
    }
}

/// Sums that no random network is likely to reach: all weights and all bytes at their largest, near 2^31 and 2^25.
#[test]
fn the_largest_sums() {
    for (channels, high, sign) in [(16_900, 127, 1), (33_000, 255, -1), (130_000, 127, -1), (66_000, 255, 1)] {
        let input = Shape { channels, height: 1, width: 1 };
        let mut layer = OwnedLayer::new(&[0], Kind::Lookup { zero_point: 0 });
        *layer.table = std::array::from_fn(|byte| (byte as u8).min(high));
        let mut last = OwnedLayer::new(&[1], Kind::Linear);
        last.weight = vec![127 * sign; 3 * channels];
        let bound = 127 * i64::from(high) * channels as i64;
        assert!(bound < 1 << 31, "that is {bound}");
        let room = ((1i64 << 31) - 1 - bound) as i32 * i32::from(sign);
        last.bias = vec![room, 0, -room];
        last.scale = vec![2f32.powi(-8), 0.5, 255.9];
        let images = vec![vec![255; channels], vec![0; channels]];
        check(0, input, &vec![0; channels], &[layer, last], &images);
    }
    // Winograd's sums are exact below 2^25; these are on both sides of that.
    for (channels, weight) in [(231, 127), (232, 127), (115, 127), (400, -73)] {
        let input = Shape { channels, height: 9, width: 9 };
        for high in [127, 255] {
            let mut lookup = OwnedLayer::new(&[0], Kind::Lookup { zero_point: 0 });
            *lookup.table = std::array::from_fn(|byte| (byte as u8).min(high));
            let window = Window { padding: [1; 4], ..plain(3, 1) };
            let mut conv = OwnedLayer::new(&[1], Kind::Conv { groups: 1, window });
            conv.weight = vec![weight; 16 * 9 * channels];
            conv.bias = (0..16).map(|i| i * 1_000_000).collect();
            conv.scale = (0..16).map(|i| 2f32.powi(-18 - i % 3)).collect();
            conv.finish = Some(Finish { zero_point: 128, low: 0, high: 255 });
            let mut last = OwnedLayer::new(&[2], Kind::Linear);
            last.weight = (0..2 * 16 * 81).map(|i| (i % 251 - 125) as i8).collect();
            last.bias = vec![0; 2];
            let images = vec![vec![255; input.elements()]];
            check(0, input, &vec![0; channels], &[lookup, conv, last], &images);
        }
    }
}

/// Logits of an activation, so that each of its elements counts.
fn classes(random: &mut Random, from: usize, known: &Known) -> OwnedLayer {
    let mut last = OwnedLayer::new(&[from], Kind::Linear);
    fill_sums(random, &mut last, known, 3, 1, known.shape.height * known.shape.width);
    last.scale.clear();
    last
}

/// Inputs that are stored with columns for rows, of more pixels than are laid out in one go.
#[test]
fn narrow_inputs() {
    let mut random = Random(11);
    for (height, width) in [40, 70].into_iter().flat_map(|height| (7..=15).map(move |width| (height, width))) {
        for channels in [1, 2, 3, 4, 7, 16, 21] {
            let input = Shape { channels, height, width };
            let zero_points: Vec<u8> = (0..channels).map(|_| random.next() as u8).collect();
            let known = Known { shape: input, zero_points: zero_points.clone(), low: 0, high: 255 };
            let mut layers = vec![classes(&mut random, 0, &known)];
            if random.once_in(2) {
                let mut lookup = OwnedLayer::new(&[0], Kind::Lookup { zero_point: 7 });
                *lookup.table = std::array::from_fn(|_| random.next() as u8);
                let known = Known { zero_points: vec![7; channels], ..known };
                layers = vec![lookup, classes(&mut random, 1, &known)];
            }
            let images: Vec<Vec<u8>> = (0..2).map(|_| random_image(&mut random, input.elements())).collect();
            check(width as u64, input, &zero_points, &layers, &images);
        }
    }
}

/// Depthwise kernels of one row, of one column and of many of both, over few channels and many, with all that ends in the middle of a
/// vector.
#[test]
fn depthwise_kernels() {
    let mut random = Random(12);
    let mut done = 0;
    while done < count() {
        let input = Shape {
            channels: random.one_of(&[1, 2, 3, 4, 5, 8, 9, 12, 15, 16, 17, 20, 31, 33, 48, 64, 70]),
            height: random.one_of(&[1, 2, 3, 5, 8, 13, 33, 130]),
            width: random.one_of(&[1, 2, 3, 4, 5, 7, 9, 16, 17, 31, 57, 120]),
        };
        let long = random.one_of(&[2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 17, 27, 33, 65, 90]);
        let kernel = match random.size(0, 3) {
            0 => [1, long],
            1 => [long, 1],
            2 => [random.size(1, 3), long],
            _ => [long, random.one_of(&[2, 3, 5, long])],
        };
        let stride = [random.one_of(&[1, 1, 2, 3, 5]), random.one_of(&[1, 1, 2, 3, 4, 5, 7])];
        let mut padding = [0; 4];
        if random.once_in(2) {
            padding = std::array::from_fn(|side| random.size(0, kernel[side % 2] - 1));
        }
        let window = Window { kernel, stride, padding };
        let fits = |size: usize, way: usize| size + padding[way] + padding[way + 2] >= kernel[way];
        if !fits(input.height, 0) || !fits(input.width, 1) {
            continue;
        }
        let shape = over(input, input.channels, window);
        if shape.elements() * kernel[0] * kernel[1] > 100_000 {
            continue;
        }
        done += 1;
        let zero_points: Vec<u8> = (0..input.channels).map(|_| random.next() as u8).collect();
        let mut known = Known { shape: input, zero_points: zero_points.clone(), low: 0, high: 255 };
        let mut layers = Vec::new();
        if random.once_in(2) {
            let mut halve = OwnedLayer::new(&[0], Kind::Lookup { zero_point: 3 });
            *halve.table = std::array::from_fn(|byte| byte as u8 / 2);
            layers.push(halve);
            known = Known { shape: input, zero_points: vec![3; input.channels], low: 0, high: 127 };
        }
        let mut conv = OwnedLayer::new(&[layers.len()], Kind::Conv { groups: input.channels, window });
        fill_sums(&mut random, &mut conv, &known, input.channels, input.channels, kernel[0] * kernel[1]);
        let finish = random_finish(&mut random);
        conv.finish = Some(finish);
        layers.push(conv);
        let zero_points_of = vec![finish.zero_point; input.channels];
        let known = Known { shape, zero_points: zero_points_of, low: finish.low, high: finish.high };
        layers.push(classes(&mut random, layers.len(), &known));
        let images: Vec<Vec<u8>> = (0..2).map(|_| random_image(&mut random, input.elements())).collect();
        check(done, input, &zero_points, &layers, &images);
    }
}

/// Windows over the input that lie far apart, are longer than it, or have one row or column, after a lookup, an addition or nothing:
/// what no window has is not laid out, what only meets padding is not multiplied, and inputs of many rows are laid out by strips.
#[test]
fn windows_over_the_input() {
    let mut random = Random(13);
    let (mut done, mut of_each) = (0, [0; 5]);
    while done < count() {
        let input = Shape {
            channels: random.one_of(&[1, 2, 3, 3, 4, 5, 6, 8, 12, 16, 17, 20, 33, 70]),
            height: random.one_of(&[1, 2, 3, 7, 15, 16, 17, 40, 70, 130]),
            width: random.one_of(&[1, 2, 3, 5, 8, 9, 16, 17, 33, 64, 70, 130]),
        };
        let sizes = [1, 1, 2, 3, 4, 5, 7, 9, 20, 64, 127];
        let kernel: [usize; 2] = [random.one_of(&sizes), random.one_of(&sizes)];
        let kernel = if random.once_in(3) { [kernel[0]; 2] } else { kernel };
        let stride = [random.one_of(&[1, 1, 2, 2, 3, 5, 9, 64]), random.one_of(&[1, 1, 2, 2, 3, 5, 9, 64])];
        let padding = match random.size(0, 2) {
            0 => [0; 4],
            1 => [kernel[0] / 2, kernel[1] / 2, (kernel[0] - 1) / 2, (kernel[1] - 1) / 2],
            _ => std::array::from_fn(|side| random.size(0, kernel[side % 2] - 1)),
        };
        let window = Window { kernel, stride, padding };
        let fits = |size: usize, way: usize| size + padding[way] + padding[way + 2] >= kernel[way];
        if !fits(input.height, 0) || !fits(input.width, 1) {
            continue;
        }
        let kind = random.size(0, 4);
        let channels = input.channels;
        let groups = [1, channels, if channels.is_multiple_of(2) { 2 } else { channels }, 1, 1][kind];
        let outputs = match kind {
            0 => random.one_of(&[1, 3, 8, 17]),
            2 => groups * random.one_of(&[1, 2, 3, 17]),
            _ => channels,
        };
        let shape = over(input, outputs, window);
        if shape.elements() * kernel[0] * kernel[1] * (if kind < 3 { channels / groups } else { 1 }) > 60_000 {
            continue;
        }
        (done, of_each[kind]) = (done + 1, of_each[kind] + 1);
        let mut zero_points: Vec<u8> = (0..channels).map(|_| random.next() as u8).collect();
        let before = random.size(0, 3);
        if before == 2 || kind > 2 {
            zero_points.fill(random.one_of(&[0, 77, 255]));
        }
        let mut known = Known { shape: input, zero_points: zero_points.clone(), low: 0, high: 255 };
        let mut layers = Vec::new();
        if before == 1 {
            let mut halve = OwnedLayer::new(&[0], Kind::Lookup { zero_point: 3 });
            *halve.table = std::array::from_fn(|byte| byte as u8 / 2);
            layers.push(halve);
            known = Known { shape: input, zero_points: vec![3; channels], low: 0, high: 127 };
        }
        if before == 2 {
            let mut twice = OwnedLayer::new(&[0, 0], Kind::Add { multipliers: [3, 5], shift: 3 });
            let finish = random_finish(&mut random);
            twice.finish = Some(finish);
            layers.push(twice);
            let zero_points = vec![finish.zero_point; channels];
            known = Known { shape: input, zero_points, low: finish.low, high: finish.high };
        }
        let from = [layers.len()];
        let finish = random_finish(&mut random);
        let zero_points_of = if kind == 4 { known.zero_points.clone() } else { vec![finish.zero_point; outputs] };
        let mut layer = match kind {
            3 => OwnedLayer::new(&from, Kind::AveragePool { window }),
            4 => OwnedLayer::new(&from, Kind::MaxPool { window }),
            _ => OwnedLayer::new(&from, Kind::Conv { groups, window }),
        };
        let taps = kernel[0] * kernel[1];
        match kind {
            3 => {
                let bound = taps as i64 * known.distance(known.zero_points[0]);
                layer.scale.push(random_scale(&mut random, bound, bound as f64));
            }
            4 => {}
            _ => fill_sums(&mut random, &mut layer, &known, outputs, groups, taps),
        }
        let (low, high) = if kind == 4 { (known.low, known.high) } else { (finish.low, finish.high) };
        if kind != 4 {
            layer.finish = Some(finish);
        }
        layers.push(layer);
        let known = Known { shape, zero_points: zero_points_of, low, high };
        layers.push(classes(&mut random, layers.len(), &known));
        let images: Vec<Vec<u8>> = (0..2).map(|_| random_image(&mut random, input.elements())).collect();
        check(done, input, &zero_points, &layers, &images);
    }
    assert!(done < 100 || of_each.iter().all(|count| *count > 0), "each kind of window was among them: {of_each:?}");
}

#[test]
fn paddings_of_two_readers_that_differ_much() {
    // One asks for 60 rows above, the other for 60 columns on the right: both at once would be 25 times the image.
    let input = Shape { channels: 5, height: 4, width: 4 };
    let mut random = Random(3);
    let known = Known { shape: input, zero_points: vec![9; 5], low: 0, high: 255 };
    let mut layers = Vec::new();
    for (kernel, padding) in [([61, 1], [60, 0, 0, 0]), ([1, 61], [0, 0, 0, 60])] {
        for groups in [1, 5] {
            let window = Window { kernel, stride: [3, 3], padding };
            let mut layer = OwnedLayer::new(&[0], Kind::Conv { groups, window });
            fill_sums(&mut random, &mut layer, &known, 5, groups, 61);
            layer.finish = Some(BYTES);
            layers.push(layer);
        }
    }
    let known =
        Known { shape: Shape { channels: 10, height: 2, width: 2 }, zero_points: vec![0; 10], low: 0, high: 127 };
    layers.push(OwnedLayer::new(&[1, 2], Kind::Concat));
    layers.push(OwnedLayer::new(&[3, 4], Kind::Concat));
    let mut sum = OwnedLayer::new(&[5, 6], Kind::Add { multipliers: [1, 2], shift: 1 });
    sum.finish = Some(BYTES);
    layers.push(sum);
    let mut last = OwnedLayer::new(&[7], Kind::Linear);
    fill_sums(&mut random, &mut last, &known, 4, 1, 4);
    layers.push(last);
    let images: Vec<Vec<u8>> = (0..3).map(|_| random_image(&mut random, input.elements())).collect();
    check(0, input, &[9; 5], &layers, &images);
}

#[test]
fn a_profile_has_every_step() {
    let mut random = Random(5);
    let input = Shape { channels: 3, height: 16, width: 16 };
    let mut layers = vec![OwnedLayer::new(&[0], Kind::Lookup { zero_point: 0 })];
    layers[0].table.iter_mut().for_each(|byte| *byte /= 2);
    let mut shape = input;
    for channels in [32, 48] {
        let from = Known { shape, zero_points: vec![0; shape.channels], low: 0, high: 127 };
        let mut conv = OwnedLayer::new(&[layers.len()], Kind::Conv { groups: 1, window: plain(3, 1) });
        fill_sums(&mut random, &mut conv, &from, channels, 1, 9);
        conv.finish = Some(BYTES);
        layers.push(conv);
        layers.push(OwnedLayer::new(&[layers.len()], Kind::MaxPool { window: plain(2, 2) }));
        shape = over(over(shape, channels, plain(3, 1)), channels, plain(2, 2));
    }
    layers.push(OwnedLayer::new(&[layers.len()], Kind::MaxPool { window: plain(2, 2) }));
    let known =
        Known { shape: Shape { channels: 48, height: 1, width: 1 }, zero_points: vec![0; 48], low: 0, high: 127 };
    let mut last = OwnedLayer::new(&[layers.len()], Kind::Linear);
    fill_sums(&mut random, &mut last, &known, 5, 1, 1);
    layers.push(last);
    let borrowed: Vec<Layer<'_>> = layers.iter().map(OwnedLayer::layer).collect();
    let plan = Plan::new(input, &[0; 3], &borrowed, Kernel::best()).expect("fits");
    let image = random_image(&mut random, input.elements());
    let profile = plan.profile(&mut plan.scratch(), &[&image, &image], 3);
    let steps: Vec<(usize, Method)> = profile.iter().map(|step| (step.layer, step.method)).collect();
    assert_eq!(steps[0], (0, Method::Pack), "the lookup is part of it");
    let layers: Vec<usize> = steps[1..].iter().map(|(layer, _)| *layer).collect();
    assert_eq!(layers, [1, 3, 5, 6], "the pools after layers 1 and 3 are part of their steps");
    for step in &profile {
        let has_limit = crate::limit(Kernel::best(), step.method).is_some_and(|products| products > 0.0);
        assert_eq!(step.products > 0, has_limit, "{step:?}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let input = Shape { channels: 1, height: 4, width: 4 };
    let plan = |layers: &[OwnedLayer]| {
        let layers: Vec<Layer<'_>> = layers.iter().map(OwnedLayer::layer).collect();
        Plan::new(input, &[0], &layers, Kernel::Portable).map(|_| ())
    };
    let linear = |from: usize, inputs: usize| {
        let mut layer = OwnedLayer::new(&[from], Kind::Linear);
        (layer.weight, layer.bias) = (vec![1; inputs], vec![0]);
        layer
    };
    let conv = |groups: usize, window: Window| {
        let mut layer = OwnedLayer::new(&[0], Kind::Conv { groups, window });
        let weights = window.kernel[0] * window.kernel[1];
        (layer.weight, layer.bias, layer.scale) = (vec![1; weights], vec![0], vec![1.0]);
        layer.finish = Some(BYTES);
        layer
    };
    let shape = |layer: usize| Err(PlanError::Shape { layer });
    let length = |layer, list, found, expected| Err(PlanError::Length { layer, list, found, expected });
    let same = |layer: OwnedLayer| plan(&[layer, linear(1, 16)]);
    assert_eq!(plan(&[linear(0, 16)]), Ok(()));
    assert_eq!(same(conv(1, plain(1, 1))), Ok(()));
    assert_eq!(plan(&[]), shape(0));
    assert_eq!(plan(&[linear(0, 15)]), length(0, "weight", 15, 16));
    assert_eq!(plan(&[linear(1, 16)]), shape(0));
    assert_eq!(plan(&[linear(0, 16), linear(1, 1)]), shape(0));
    assert_eq!(plan(&[conv(1, plain(1, 1))]), shape(0));
    assert_eq!(same(OwnedLayer::new(&[0], Kind::MaxPool { window: plain(5, 1) })), shape(0));
    assert_eq!(same(OwnedLayer::new(&[0], Kind::MaxPool { window: plain(2, 0) })), shape(0));
    assert_eq!(same(conv(2, plain(1, 1))), shape(0));
    assert_eq!(same(conv(0, plain(1, 1))), shape(0));
    assert_eq!(same(conv(1, Window { padding: [0, 0, 1, 0], ..plain(1, 1) })), shape(0));
    assert_eq!(same(OwnedLayer::new(&[0], Kind::Concat)), shape(0));
    let mut short = conv(1, plain(1, 1));
    short.scale.clear();
    assert_eq!(same(short), length(0, "scale", 0, 1));
    let mut scaled = linear(0, 16);
    scaled.scale = vec![1.0; 2];
    assert_eq!(plan(&[scaled]), length(0, "scale", 2, 1));
    let layers = [linear(0, 16)];
    let layers: Vec<Layer<'_>> = layers.iter().map(OwnedLayer::layer).collect();
    let found = Plan::new(input, &[0, 0], &layers, Kernel::Portable).map(|_| ());
    assert_eq!(found, length(0, "zero_points", 2, 1));
    // Only convolutions, linear layers and lookups read zero points that differ.
    let input = Shape { channels: 2, height: 1, width: 1 };
    let layers = [OwnedLayer::new(&[0], Kind::AveragePool { window: plain(1, 1) }), linear(1, 2)];
    let mut layers = layers.to_vec();
    (layers[0].scale, layers[0].finish) = (vec![1.0], Some(BYTES));
    let layers: Vec<Layer<'_>> = layers.iter().map(OwnedLayer::layer).collect();
    assert_eq!(Plan::new(input, &[0, 1], &layers, Kernel::Portable).map(|_| ()), shape(0));
    assert_eq!(Plan::new(input, &[1, 1], &layers, Kernel::Portable).map(|_| ()), Ok(()));
    // 20 rows of 5 columns are stored as 5 rows of 20, and those are something else.
    let input = Shape { channels: 1, height: 20, width: 5 };
    let window = Window { kernel: [1, 16], stride: [4, 1], padding: [0, 15, 0, 15] };
    assert_eq!(over(input, 1, window), Shape { channels: 1, height: 5, width: 20 });
    let kinds = [(Kind::Add { multipliers: [1, 1], shift: 1 }, 100), (Kind::Multiply, 100), (Kind::Concat, 200)];
    for (kind, inputs) in kinds {
        for (from, expected) in [([0, 1], shape(1)), ([0, 0], Ok(()))] {
            let mut both = OwnedLayer::new(&from, kind);
            (both.scale, both.finish) = (vec![1.0], Some(BYTES));
            let layers = [OwnedLayer::new(&[0], Kind::MaxPool { window }), both, linear(2, inputs)];
            let layers: Vec<Layer<'_>> = layers.iter().map(OwnedLayer::layer).collect();
            assert_eq!(Plan::new(input, &[0], &layers, Kernel::Portable).map(|_| ()), expected, "{kind:?} of {from:?}");
        }
    }
    // A kernel of 40,000 rows padded by 39,999 asks for 80,000 rows around one, all columns of which another layer reads.
    let input = Shape { channels: 8, height: 1, width: 3000 };
    let window = Window { kernel: [40_000, 1], stride: [1, 3000], padding: [39_999, 0, 39_999, 0] };
    let mut conv = conv(1, window);
    conv.weight = vec![1; 8 * 40_000];
    let layers = [conv, OwnedLayer::new(&[0], Kind::MaxPool { window: plain(1, 1) }), linear(1, 40_000)];
    let layers: Vec<Layer<'_>> = layers.iter().map(OwnedLayer::layer).collect();
    assert_eq!(Plan::new(input, &[0; 8], &layers, Kernel::Portable).map(|_| ()), Err(PlanError::Memory));
}

#[test]
fn a_kernel_that_this_processor_lacks_is_refused() {
    let input = Shape { channels: 1, height: 1, width: 1 };
    let mut layer = OwnedLayer::new(&[0], Kind::Linear);
    (layer.weight, layer.bias) = (vec![1], vec![0]);
    for kernel in Kernel::ALL.iter().copied() {
        let plan = Plan::new(input, &[0], &[layer.layer()], kernel);
        let expected = if kernel.is_available() { Ok(()) } else { Err(PlanError::Kernel(kernel)) };
        assert_eq!(plan.map(|_| ()), expected);
    }
}

#[test]
fn kernels_have_names() {
    for kernel in Kernel::ALL.iter().copied() {
        assert_eq!(kernel.to_string().parse(), Ok(kernel));
    }
    let error = "mmx".parse::<Kernel>().expect_err("no such kernel");
    let expected = "\"mmx\" is not a kernel: expected portable4, portable16, portable, neon, neondot, avx2, avxvnni, \
                    evexvnni or avx512vnni";
    assert_eq!(error.to_string(), expected);
    assert!(Kernel::best().is_available());
}
