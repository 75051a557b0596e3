//! The shapes of networks that are in use, for pictures of 224 by 224 and the 1000 classes of ImageNet. What a batch
//! normalisation does is part of the convolution before it. `high` is the greatest activation: 127 in 7 bits, 255 in 8.

use crate::graph::{Finish, Graph, GraphError, Input, Layer, Operation, Window};

const CLASSES: usize = 1000;

/// The names of those that fit, as [`by_name`] knows them.
pub const NAMES: [&str; 6] =
    ["mobilenet-v2", "efficientnet-lite0", "resnet-50", "resnet-101", "densenet-121", "efficientnet-b1"];

/// The network of a name, if it is one of [`NAMES`].
pub fn by_name(name: &str, high: u8) -> Option<Graph> {
    let graph = match name {
        "mobilenet-v2" => mobilenet_v2(high),
        "efficientnet-lite0" => efficientnet_lite0(high),
        "resnet-50" => resnet([3, 4, 6, 3], high),
        "resnet-101" => resnet([3, 4, 23, 3], high),
        "densenet-121" => densenet121(high),
        "efficientnet-b1" => efficientnet(1.0, 1.1, high),
        _ => return None,
    };
    Some(graph.expect("it fits"))
}

/// MobileNetV2 of width 1.0 (M. Sandler et al., 2018), padded alike on all sides, as PyTorch has it.
///
/// # Errors
/// None: it fits.
pub fn mobilenet_v2(high: u8) -> Result<Graph, GraphError> {
    let blocks = [
        (3, 1, 16, 1, 1),
        (3, 6, 24, 2, 2),
        (3, 6, 32, 3, 2),
        (3, 6, 64, 4, 2),
        (3, 6, 96, 3, 1),
        (3, 6, 160, 3, 2),
        (3, 6, 320, 1, 1),
    ];
    inverted_residuals(&blocks, high)
}

/// EfficientNet-Lite0 (TensorFlow, 2020): EfficientNet-B0 without squeeze and excitation, with ReLU6.
///
/// # Errors
/// None: it fits.
pub fn efficientnet_lite0(high: u8) -> Result<Graph, GraphError> {
    let blocks = [
        (3, 1, 16, 1, 1),
        (3, 6, 24, 2, 2),
        (5, 6, 40, 2, 2),
        (3, 6, 80, 3, 2),
        (5, 6, 112, 3, 1),
        (5, 6, 192, 4, 2),
        (3, 6, 320, 1, 1),
    ];
    inverted_residuals(&blocks, high)
}

/// Blocks of (kernel, expansion, channels, repeats, first stride).
fn inverted_residuals(blocks: &[(usize, usize, usize, usize, usize)], high: u8) -> Result<Graph, GraphError> {
    let mut net = Builder::new(high);
    net.conv(32, 3, 2, net.relu);
    for &(kernel, expansion, channels, repeats, stride) in blocks {
        for repeat in 0..repeats {
            let before = net.top.clone();
            let inputs = net.channels;
            if expansion > 1 {
                net.conv(inputs * expansion, 1, 1, net.relu);
            }
            net.depthwise(kernel, if repeat == 0 { stride } else { 1 }, net.relu);
            net.conv(channels, 1, 1, net.signed);
            if repeat > 0 {
                net.add(&before, net.signed);
            }
        }
    }
    net.conv(1280, 1, 1, net.relu);
    net.classify()
}

/// ResNet of 50, 101 or 152 layers, by the blocks of its four stages (K. He et al., 2015), with strides in the 3x3 convolutions.
///
/// # Errors
/// If it does not fit, as 152 layers do not.
pub fn resnet(stages: [usize; 4], high: u8) -> Result<Graph, GraphError> {
    let mut net = Builder::new(high);
    net.window(64, Window::square(7, 2, 3), net.relu);
    net.max_pool(Window::square(3, 2, 1));
    for (stage, blocks) in stages.into_iter().enumerate() {
        let width = 64 << stage;
        for block in 0..blocks {
            let before = (net.top.clone(), net.channels, net.size);
            let stride = if block == 0 && stage > 0 { 2 } else { 1 };
            net.conv(width, 1, 1, net.relu);
            net.window(width, Window::square(3, stride, 1), net.relu);
            net.conv(4 * width, 1, 1, net.signed);
            let branch = (net.top.clone(), net.channels, net.size);
            let mut shortcut = before.0.clone();
            if block == 0 {
                (net.top, net.channels, net.size) = before;
                net.conv(4 * width, 1, stride, net.signed);
                shortcut = net.top.clone();
            }
            (net.top, net.channels, net.size) = branch;
            net.add(&shortcut, net.relu);
        }
    }
    net.classify()
}

/// DenseNet-121 (G. Huang et al., 2016): what is normalised before a convolution is a convolution of each channel by itself.
///
/// # Errors
/// None: it fits.
pub fn densenet121(high: u8) -> Result<Graph, GraphError> {
    let mut net = Builder::new(high);
    net.window(64, Window::square(7, 2, 3), net.relu);
    net.max_pool(Window::square(3, 2, 1));
    for (block, layers) in [6, 12, 24, 16].into_iter().enumerate() {
        for _ in 0..layers {
            let (before, channels) = (net.top.clone(), net.channels);
            net.depthwise(1, 1, net.relu);
            net.conv(128, 1, 1, net.relu);
            net.conv(32, 3, 1, net.relu);
            let new = net.top.clone();
            net.push(&[&before, &new], Operation::Concat);
            net.channels = channels + 32;
        }
        net.depthwise(1, 1, net.relu);
        if block < 3 {
            net.conv(net.channels / 2, 1, 1, net.relu);
            net.average_pool(2);
        }
    }
    net.classify()
}

/// EfficientNet (M. Tan, Q. Le, 2019) with factors for width and depth: B1 is 1.0 and 1.1, B3 is 1.2 and 1.4. Swish and
/// sigmoid are tables.
///
/// # Errors
/// If it does not fit, as B3 does not.
pub fn efficientnet(width: f64, depth: f64, high: u8) -> Result<Graph, GraphError> {
    let channels = |base: usize| {
        let wanted = base as f64 * width;
        let rounded = ((wanted + 4.0) as usize / 8 * 8).max(8);
        if (rounded as f64) < 0.9 * wanted { rounded + 8 } else { rounded }
    };
    let blocks = [
        (3, 1, 16, 1, 1),
        (3, 6, 24, 2, 2),
        (5, 6, 40, 2, 2),
        (3, 6, 80, 3, 2),
        (5, 6, 112, 3, 1),
        (5, 6, 192, 4, 2),
        (3, 6, 320, 1, 1),
    ];
    let mut net = Builder::new(high);
    net.conv(channels(32), 3, 2, net.signed);
    net.lookup();
    for (kernel, expansion, base, repeats, stride) in blocks {
        for repeat in 0..(repeats as f64 * depth).ceil() as usize {
            let before = net.top.clone();
            let inputs = net.channels;
            if expansion > 1 {
                net.conv(inputs * expansion, 1, 1, net.signed);
                net.lookup();
            }
            net.depthwise(kernel, if repeat == 0 { stride } else { 1 }, net.signed);
            net.lookup();
            let (excited, wide, size) = (net.top.clone(), net.channels, net.size);
            net.average_pool(size);
            net.conv((inputs / 4).max(1), 1, 1, net.signed);
            net.lookup();
            net.conv(wide, 1, 1, net.signed);
            net.lookup();
            let factors = net.top.clone();
            net.push(&[&excited, &factors], Operation::Multiply { finish: net.relu });
            net.size = size;
            net.conv(channels(base), 1, 1, net.signed);
            if repeat > 0 {
                net.add(&before, net.signed);
            }
        }
    }
    net.conv(channels(1280), 1, 1, net.signed);
    net.lookup();
    net.classify()
}

/// VGG-16 (K. Simonyan, A. Zisserman, 2014).
///
/// # Errors
/// It costs too much.
pub fn vgg16(high: u8) -> Result<Graph, GraphError> {
    let mut net = Builder::new(high);
    for (channels, convolutions) in [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)] {
        (0..convolutions).for_each(|_| net.conv(channels, 3, 1, net.relu));
        net.max_pool(Window::square(2, 2, 0));
    }
    for _ in 0..2 {
        net.push(&[], Operation::Linear { channels: 4096, finish: Some(net.relu) });
    }
    net.logits()
}

/// Layers upon layers.
struct Builder {
    input: Input,
    layers: Vec<Layer>,
    /// The name of the newest activation, its channels, and its rows and columns.
    top: String,
    channels: usize,
    size: usize,
    /// After a convolution with ReLU, and without: as much below zero as above.
    relu: Finish,
    signed: Finish,
}

impl Builder {
    fn new(high: u8) -> Self {
        let (channels, size) = (3, 224);
        let input = Input::new(channels, size, size).with_zero_point(128);
        let relu = Finish { zero_point: 0, low: 0, high };
        let signed = Finish { zero_point: high.div_ceil(2), ..relu };
        Self { input, layers: Vec::new(), top: crate::graph::INPUT.into(), channels, size, relu, signed }
    }

    /// A layer over the newest activation, or over those that are named.
    fn push(&mut self, from: &[&str], operation: Operation) {
        let name = format!("{}{}", operation.kind(), self.layers.len());
        let from = if from.is_empty() { &[self.top.as_str()] } else { from };
        self.layers.push(Layer::new(&name, from, operation));
        self.top = name;
    }

    /// A convolution that keeps rows and columns, or halves them.
    fn conv(&mut self, channels: usize, kernel: usize, stride: usize, finish: Finish) {
        self.window(channels, Window::square(kernel, stride, kernel / 2), finish);
    }

    fn window(&mut self, channels: usize, window: Window, finish: Finish) {
        self.push(&[], Operation::Conv { channels, groups: 1, window, finish });
        self.channels = channels;
        self.slide(window);
    }

    fn depthwise(&mut self, kernel: usize, stride: usize, finish: Finish) {
        let (channels, window) = (self.channels, Window::square(kernel, stride, kernel / 2));
        self.push(&[], Operation::Conv { channels, groups: channels, window, finish });
        self.slide(window);
    }

    fn slide(&mut self, window: Window) {
        let [_, left, _, right] = window.padding;
        self.size = (self.size + left + right - window.kernel[1]) / window.stride[1] + 1;
    }

    fn max_pool(&mut self, window: Window) {
        self.push(&[], Operation::MaxPool { window });
        self.slide(window);
    }

    fn average_pool(&mut self, kernel: usize) {
        let window = Window::square(kernel, kernel, 0);
        self.push(&[], Operation::AveragePool { window, finish: self.relu });
        self.slide(window);
    }

    fn lookup(&mut self) {
        self.push(&[], Operation::Lookup { zero_point: 0 });
    }

    fn add(&mut self, other: &str, finish: Finish) {
        let top = self.top.clone();
        self.push(&[other, &top], Operation::Add { multipliers: [1 << 20; 2], shift: 20, finish });
    }

    fn classify(mut self) -> Result<Graph, GraphError> {
        self.average_pool(self.size);
        self.logits()
    }

    fn logits(mut self) -> Result<Graph, GraphError> {
        self.push(&[], Operation::Linear { channels: CLASSES, finish: None });
        Graph::new(self.input, self.layers)
    }
}
