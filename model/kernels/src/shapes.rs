//! Networks in the shape of well-known ones, with weights from a seed: for measuring, not for seeing.
//!
//! Weights are about normal with a largest of 127 in each channel, as quantisers make them, and scales spread outputs over
//! their range, so that kernels meet what they meet in real networks.

use crate::network::{Finish, Layer, Operation, Shape, Window};

/// A network that owns its integers.
#[derive(Debug, Clone)]
pub struct Network {
    /// What its name says it looks like.
    pub name: &'static str,
    pub input: Shape,
    /// The zero points of the input, one for each channel.
    pub zero_points: Vec<u8>,
    /// The layers, of which layer `i` writes activation `i + 1`.
    pub layers: Vec<OwnedLayer>,
}

/// A layer that owns its integers.
#[derive(Debug, Clone)]
pub struct OwnedLayer {
    /// The activations that it reads.
    pub from: Vec<usize>,
    /// What it computes.
    pub kind: Kind,
    /// Of a convolution or linear layer.
    pub weight: Vec<i8>,
    /// Of a convolution or linear layer.
    pub bias: Vec<i32>,
    /// One for each output channel, or one; empty where there is none.
    pub scale: Vec<f32>,
    /// Of a lookup.
    pub table: Box<[u8; 256]>,
    /// None in the last layer, a max-pool, a concatenation and a lookup.
    pub finish: Option<Finish>,
}

/// The operators, as [`Operation`] has them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
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
    pub fn new(from: &[usize], kind: Kind) -> Self {
        let table = Box::new(std::array::from_fn(|byte| byte as u8));
        Self { from: from.to_vec(), kind, weight: vec![], bias: vec![], scale: vec![], table, finish: None }
    }

    /// The same, borrowed.
    ///
    /// # Panics
    /// If the kind asks for a scale or a finish that is not there.
    pub fn layer(&self) -> Layer<'_> {
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

impl Network {
    /// Its layers, borrowed.
    pub fn layers(&self) -> Vec<Layer<'_>> {
        self.layers.iter().map(OwnedLayer::layer).collect()
    }

    /// All of the shapes, with activations of at most `high`: 127 or 255.
    pub fn all(high: u8) -> Vec<Self> {
        vec![mobilenet_v2(high), efficientnet_lite0(high), resnet50(high), cifar10_cnn(high)]
    }
}

/// Sandler et al., "MobileNetV2" (2018), table 2, of width 1: 301 million multiply-accumulates.
pub fn mobilenet_v2(high: u8) -> Network {
    let mut builder = Builder::new("mobilenet-v2", 224, high, 11);
    let mut x = builder.conv(0, 32, 3, 2, Act::Relu);
    let stages =
        [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)];
    for (expand, channels, blocks, stride) in stages {
        for block in 0..blocks {
            x = builder.inverted(x, expand, channels, 3, if block == 0 { stride } else { 1 });
        }
    }
    x = builder.conv(x, 1280, 1, 1, Act::Relu);
    builder.head(x, 1000)
}

/// EfficientNet-Lite0 (tensorflow/tpu, `efficientnet/lite`): 385 million multiply-accumulates.
pub fn efficientnet_lite0(high: u8) -> Network {
    let mut builder = Builder::new("efficientnet-lite0", 224, high, 12);
    let mut x = builder.conv(0, 32, 3, 2, Act::Relu);
    let stages = [
        (1, 3, 1, 1, 16),
        (2, 3, 2, 6, 24),
        (2, 5, 2, 6, 40),
        (3, 3, 2, 6, 80),
        (3, 5, 1, 6, 112),
        (4, 5, 2, 6, 192),
        (1, 3, 1, 6, 320),
    ];
    for (blocks, kernel, stride, expand, channels) in stages {
        for block in 0..blocks {
            x = builder.inverted(x, expand, channels, kernel, if block == 0 { stride } else { 1 });
        }
    }
    x = builder.conv(x, 1280, 1, 1, Act::Relu);
    builder.head(x, 1000)
}

/// He et al., "Deep Residual Learning" (2015), table 1, 50 layers, with the stride in the 3x3 convolution: 4.09 thousand
/// million multiply-accumulates.
pub fn resnet50(high: u8) -> Network {
    let mut builder = Builder::new("resnet-50", 224, high, 13);
    let x = builder.conv(0, 64, 7, 2, Act::Relu);
    let mut x = builder.max_pool(x, Window { kernel: [3; 2], stride: [2; 2], padding: [0, 0, 1, 1] });
    for (stage, (blocks, channels)) in [(3, 64), (4, 128), (6, 256), (3, 512)].into_iter().enumerate() {
        for block in 0..blocks {
            let stride = if block == 0 && stage > 0 { 2 } else { 1 };
            let y = builder.conv(x, channels, 1, 1, Act::Relu);
            let y = builder.conv(y, channels, 3, stride, Act::Relu);
            let y = builder.conv(y, 4 * channels, 1, 1, Act::None);
            let skip = if block == 0 { builder.conv(x, 4 * channels, 1, stride, Act::None) } else { x };
            x = builder.add(y, skip, Act::Relu);
        }
    }
    builder.head(x, 1000)
}

/// The zoo's classifier of CIFAR-10: three 3x3 convolutions without padding, max-pools after two of them, two linear layers.
pub fn cifar10_cnn(high: u8) -> Network {
    let mut builder = Builder::new("cifar10-cnn", 32, high, 14);
    let pool = Window { kernel: [2; 2], stride: [2; 2], padding: [0; 4] };
    let valid = Window { kernel: [3; 2], stride: [1; 2], padding: [0; 4] };
    let mut x = builder.halve(0);
    for channels in [32, 64] {
        x = builder.conv_of(x, channels, 1, valid, Act::Relu);
        x = builder.max_pool(x, pool);
    }
    x = builder.conv_of(x, 64, 1, valid, Act::Relu);
    let side = builder.known[x].0.height;
    x = builder.conv_of(x, 64, 1, Window { kernel: [side; 2], ..valid }, Act::Relu);
    builder.linear(x, 10)
}

/// What follows a convolution.
#[derive(Clone, Copy)]
enum Act {
    /// The zero point is the lowest byte.
    Relu,
    /// The zero point is in the middle.
    None,
}

/// Steele, Lea and Flood's SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In 0..1.
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 24) as f32
    }

    /// About normal, of deviation 1.
    fn normal(&mut self) -> f32 {
        ((0..6).map(|_| self.unit()).sum::<f32>() - 3.0) * std::f32::consts::SQRT_2
    }
}

/// The window whose outputs are one for each `stride` inputs, with TensorFlow's padding.
fn same(Shape { height, width, .. }: Shape, kernel: usize, stride: usize) -> Window {
    let total = |size: usize| ((size.div_ceil(stride) - 1) * stride + kernel).saturating_sub(size);
    let (rows, columns) = (total(height), total(width));
    let padding = [rows / 2, columns / 2, rows - rows / 2, columns - columns / 2];
    Window { kernel: [kernel; 2], stride: [stride; 2], padding }
}

/// The shape that windows give.
pub(crate) fn over(from: Shape, channels: usize, Window { kernel, stride, padding }: Window) -> Shape {
    let out = |size: usize, way: usize| (size + padding[way] + padding[way + 2] - kernel[way]) / stride[way] + 1;
    Shape { channels, height: out(from.height, 0), width: out(from.width, 1) }
}

struct Builder {
    network: Network,
    /// Of every activation its shape and range.
    known: Vec<(Shape, u8)>,
    random: Random,
    high: u8,
}

impl Builder {
    fn new(name: &'static str, side: usize, high: u8, seed: u64) -> Self {
        let input = Shape { channels: 3, height: side, width: side };
        let network = Network { name, input, zero_points: vec![127; 3], layers: Vec::new() };
        Self { network, known: vec![(input, 255)], random: Random(seed), high }
    }

    fn push(&mut self, layer: OwnedLayer, shape: Shape, high: u8) -> usize {
        self.network.layers.push(layer);
        self.known.push((shape, high));
        self.known.len() - 1
    }

    fn finish(&mut self, act: Act) -> Finish {
        let zero_point = match act {
            Act::Relu => 0,
            Act::None => self.high / 2 - 4 + (self.random.next() % 9) as u8,
        };
        Finish { zero_point, low: 0, high: self.high }
    }

    /// Fills the integers of `channels` sums of `inputs` products each.
    fn sums(&mut self, layer: &mut OwnedLayer, channels: usize, inputs: usize, from_high: u8, wanted: f32) {
        for _ in 0..channels {
            let row: Vec<f32> = (0..inputs).map(|_| self.random.normal()).collect();
            let most = row.iter().fold(f32::MIN_POSITIVE, |most, weight| most.max(weight.abs()));
            let row: Vec<i8> = row.iter().map(|weight| (weight / most * 127.0).round() as i8).collect();
            let norm = row.iter().map(|weight| f32::from(*weight).powi(2)).sum::<f32>().sqrt();
            let deviation = norm.max(1.0) * f32::from(from_high) * 0.27;
            layer.scale.push((wanted / deviation * (0.7 + 0.6 * self.random.unit())).max(1e-9));
            layer.bias.push((self.random.normal() * deviation * 0.3) as i32);
            layer.weight.extend(row);
        }
    }

    fn conv_of(&mut self, from: usize, channels: usize, groups: usize, window: Window, act: Act) -> usize {
        let (shape, from_high) = self.known[from];
        let mut layer = OwnedLayer::new(&[from], Kind::Conv { groups, window });
        let (wanted, taps) = (f32::from(self.high) * 0.3, window.kernel[0] * window.kernel[1]);
        self.sums(&mut layer, channels, shape.channels / groups * taps, from_high, wanted);
        layer.finish = Some(self.finish(act));
        self.push(layer, over(shape, channels, window), self.high)
    }

    fn conv(&mut self, from: usize, channels: usize, kernel: usize, stride: usize, act: Act) -> usize {
        self.conv_of(from, channels, 1, same(self.known[from].0, kernel, stride), act)
    }

    fn inverted(&mut self, from: usize, expand: usize, channels: usize, kernel: usize, stride: usize) -> usize {
        let inner = self.known[from].0.channels * expand;
        let x = if expand > 1 { self.conv(from, inner, 1, 1, Act::Relu) } else { from };
        let x = self.conv_of(x, inner, inner, same(self.known[x].0, kernel, stride), Act::Relu);
        let x = self.conv(x, channels, 1, 1, Act::None);
        if stride == 1 && self.known[from].0.channels == channels { self.add(x, from, Act::None) } else { x }
    }

    fn add(&mut self, a: usize, b: usize, act: Act) -> usize {
        let multipliers = [600_000, 700_000];
        let mut layer = OwnedLayer::new(&[a, b], Kind::Add { multipliers, shift: 20 });
        layer.finish = Some(self.finish(act));
        self.push(layer, self.known[a].0, self.high)
    }

    fn max_pool(&mut self, from: usize, window: Window) -> usize {
        let (shape, high) = self.known[from];
        self.push(OwnedLayer::new(&[from], Kind::MaxPool { window }), over(shape, shape.channels, window), high)
    }

    fn halve(&mut self, from: usize) -> usize {
        let mut layer = OwnedLayer::new(&[from], Kind::Lookup { zero_point: 0 });
        *layer.table = std::array::from_fn(|byte| byte as u8 / 2);
        self.push(layer, self.known[from].0, 127)
    }

    fn head(mut self, from: usize, classes: usize) -> Network {
        let (shape, high) = self.known[from];
        let window = Window { kernel: [shape.height, shape.width], stride: [1; 2], padding: [0; 4] };
        let mut layer = OwnedLayer::new(&[from], Kind::AveragePool { window });
        layer.scale.push(0.99 / (shape.height * shape.width) as f32);
        layer.finish = Some(self.finish(Act::Relu));
        let x = self.push(layer, Shape { height: 1, width: 1, ..shape }, high);
        self.linear(x, classes)
    }

    fn linear(mut self, from: usize, classes: usize) -> Network {
        let (shape, high) = self.known[from];
        let mut layer = OwnedLayer::new(&[from], Kind::Linear);
        self.sums(&mut layer, classes, shape.elements(), high, 100.0);
        layer.scale.clear();
        self.network.layers.push(layer);
        self.network
    }
}
