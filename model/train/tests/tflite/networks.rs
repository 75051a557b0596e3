//! Small networks by chance, of every operator that is imported, with scales as if they had been trained.

use ocelli_model::sample::{Chance, within};

use super::writer::{FLOAT32, Field, INT8, Network, Tensor, UINT8};

pub const CONV: (i32, i32) = (3, 3);
pub const DEPTHWISE: (i32, i32) = (4, 3);
pub const FULLY_CONNECTED: (i32, i32) = (9, 4);
pub const ADD: (i32, i32) = (0, 2);
pub const MUL: (i32, i32) = (18, 2);
pub const AVERAGE_POOL: (i32, i32) = (1, 2);
pub const MAX_POOL: (i32, i32) = (17, 2);
pub const MEAN: (i32, i32) = (40, 2);
pub const CONCATENATION: (i32, i32) = (2, 2);
pub const RESHAPE: (i32, i32) = (22, 1);
pub const PAD: (i32, i32) = (34, 2);
pub const SOFTMAX: (i32, i32) = (25, 2);
pub const LOGISTIC: (i32, i32) = (14, 2);
pub const HARD_SWISH: (i32, i32) = (117, 1);
pub const LEAKY_RELU: (i32, i32) = (98, 2);
pub const QUANTIZE: (i32, i32) = (114, 2);
pub const DEQUANTIZE: (i32, i32) = (6, 2);

/// Padding that keeps the size, and none.
pub const SAME: i8 = 0;
pub const VALID: i8 = 1;

/// A tensor that the next operator may read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Known {
    pub tensor: i32,
    pub height: i32,
    pub width: i32,
    pub channels: i32,
    pub scale: f32,
    pub zero_point: i64,
}

impl Known {
    pub fn shape(&self) -> [i32; 4] {
        [1, self.height, self.width, self.channels]
    }
}

/// Adds tensors and operators to a network.
pub struct Maker<'a, C> {
    pub network: Network,
    pub chance: &'a mut C,
}

impl<C: Chance> Maker<'_, C> {
    fn within(&mut self, low: i32, high: i32) -> i32 {
        within(self.chance, low as usize, high as usize) as i32
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[within(self.chance, 0, all.len() - 1)]
    }

    /// Between two numbers.
    fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * ((self.chance)() >> 8) as f32 / (1 << 24) as f32
    }

    fn zero_point(&mut self) -> i64 {
        let any = i64::from(self.within(0, 255)) - 128;
        self.one_of(&[-128, -128, any])
    }

    pub fn activation(&mut self, shape: [i32; 4], scale: f32, zero_point: i64) -> Known {
        let tensor = self.network.activation(&shape, scale, zero_point);
        let [_, height, width, channels] = shape;
        Known { tensor, height, width, channels, scale, zero_point }
    }

    fn numbers(&mut self, count: i32) -> Vec<i8> {
        (0..count).map(|_| (self.within(0, 254) - 127) as i8).collect()
    }

    /// Weights of this shape with scales along an axis, the biases, and the scale of sums' outputs.
    fn weights(&mut self, shape: &[i32], axis: usize, inputs: i32, x: &Known) -> (i32, i32, f32) {
        let outputs = shape[axis];
        let numbers = self.numbers(shape.iter().product());
        let base = self.between(0.002, 0.02);
        let scales: Vec<f32> = match self.within(0, 3) {
            0 => vec![base],
            _ => (0..outputs).map(|_| base * self.between(0.3, 1.0)).collect(),
        };
        let biases: Vec<i32> = (0..outputs).map(|_| self.within(0, 8000) - 4000).collect();
        let output = x.scale * base * 90.0 * (inputs as f32).sqrt() * self.between(0.3, 1.0);
        let of_biases = scales.iter().map(|scale| x.scale * scale).collect();
        let weights = self.network.weights(shape, &numbers, scales, axis as i32);
        let biases = self.network.integers(&[outputs], &biases);
        self.network.tensors[biases as usize].scales = of_biases;
        self.network.tensors[biases as usize].zero_points = vec![0; self.network.tensors[biases as usize].scales.len()];
        (weights, biases, output)
    }

    /// An activation for what has this scale without it: one that clamps to a few units is for a fine one.
    fn activation_code(&mut self, scale: f32) -> i8 {
        if scale < 1.0 { self.one_of(&[0, 0, 1, 1, 2, 3, 3]) } else { self.one_of(&[0, 1]) }
    }

    /// A zero point and scale of what an activation clamps: such that little is wasted.
    fn clamped(&mut self, activation: i8, scale: f32) -> (f32, i64) {
        match activation {
            1 => (scale, -128),
            2 => (1.0 / 120.0, i64::from(self.within(0, 10)) - 5),
            3 => (6.0 / self.between(200.0, 255.0), -128),
            _ => (scale, self.zero_point()),
        }
    }

    pub fn conv(
        &mut self,
        x: &Known,
        channels: i32,
        (kernel, stride, padding): ([i32; 2], [i32; 2], i8),
        groups: i32,
    ) -> Option<Known> {
        let spread = |dilation: i32| out(x, kernel.map(|size| (size - 1) * dilation + 1), stride, padding);
        let dilates = stride == [1, 1] && spread(2).is_some() && self.within(0, 5) == 0;
        let dilation = if dilates { 2 } else { 1 };
        let (height, width) = spread(dilation)?;
        let depthwise = groups == x.channels && groups > 1;
        let per_group = x.channels / groups;
        let inputs = kernel[0] * kernel[1] * per_group;
        let (shape, axis) = if depthwise {
            ([1, kernel[0], kernel[1], channels], 3)
        } else {
            ([channels, kernel[0], kernel[1], per_group], 0)
        };
        let (weights, biases, scale) = self.weights(&shape, axis, inputs, x);
        let activation = self.activation_code(scale);
        let (scale, zero_point) = self.clamped(activation, scale);
        let y = self.activation([1, height, width, channels], scale, zero_point);
        let mut fields = vec![(0, Field::I8(padding)), (1, Field::I32(stride[1])), (2, Field::I32(stride[0]))];
        if depthwise {
            fields.extend([(3, Field::I32(channels / groups)), (4, Field::I8(activation))]);
            fields.extend([(5, Field::I32(dilation)), (6, Field::I32(dilation))]);
        } else {
            fields.extend([(3, Field::I8(activation)), (4, Field::I32(dilation)), (5, Field::I32(dilation))]);
        }
        let (code, kind) = if depthwise { (DEPTHWISE, 2) } else { (CONV, 1) };
        self.network.operator(code, &[x.tensor, weights, biases], y.tensor, kind, &fields);
        Some(y)
    }

    pub fn linear(&mut self, x: i32, known: &Known, inputs: i32, outputs: i32, activation: i8) -> Known {
        let (weights, biases, scale) = self.weights(&[outputs, inputs], 0, inputs, known);
        let (scale, zero_point) = self.clamped(activation, scale);
        let tensor = self.network.activation(&[1, outputs], scale, zero_point);
        // Biases may be left out, in one of two ways.
        let read = [&[x, weights, biases][..], &[x, weights, -1], &[x, weights]];
        let read = self.one_of(&read);
        self.network.operator(FULLY_CONNECTED, read, tensor, 8, &[(0, Field::I8(activation))]);
        Known { tensor, height: 1, width: 1, channels: outputs, scale, zero_point }
    }

    pub fn pool(
        &mut self,
        code: (i32, i32),
        x: &Known,
        (kernel, stride, padding): ([i32; 2], [i32; 2], i8),
        activation: i8,
    ) -> Option<Known> {
        let (height, width) = out(x, kernel, stride, padding)?;
        let y = self.activation([1, height, width, x.channels], x.scale, x.zero_point);
        let sizes = [stride[1], stride[0], kernel[1], kernel[0]].map(Field::I32);
        let mut fields = vec![(0, Field::I8(padding)), (5, Field::I8(activation))];
        fields.extend((1..).zip(sizes));
        self.network.operator(code, &[x.tensor], y.tensor, 5, &fields);
        Some(y)
    }

    pub fn pad(&mut self, x: &Known, [top, left, bottom, right]: [i32; 4]) -> Known {
        let amounts = self.network.integers(&[4, 2], &[0, 0, top, bottom, left, right, 0, 0]);
        let shape = [1, x.height + top + bottom, x.width + left + right, x.channels];
        let y = self.activation(shape, x.scale, x.zero_point);
        self.network.operator(PAD, &[x.tensor, amounts], y.tensor, 22, &[]);
        y
    }

    pub fn mean(&mut self, x: &Known) -> Known {
        let axes = self.network.integers(&[2], &[1, 2]);
        let keeps = self.within(0, 1) as i8;
        let scale = x.scale * self.between(0.2, 1.0);
        let mut y = self.activation([1, 1, 1, x.channels], scale, x.zero_point);
        if keeps == 0 {
            self.network.tensors[y.tensor as usize].shape = vec![1, x.channels];
        }
        y.zero_point = x.zero_point;
        self.network.operator(MEAN, &[x.tensor, axes], y.tensor, 27, &[(0, Field::I8(keeps))]);
        y
    }

    fn lookup(&mut self, x: &Known) -> Known {
        let which = self.within(0, 3);
        let (scale, zero_point) = match which {
            0 => (1.0 / 256.0, -128),
            _ => (x.scale * self.between(0.4, 2.0), self.zero_point()),
        };
        let y = self.activation(x.shape(), scale, zero_point);
        let (code, kind, fields) = match which {
            0 => (LOGISTIC, 0, vec![]),
            1 => (HARD_SWISH, 0, vec![]),
            // Slopes that XNNPACK takes, and such that it does not.
            2 => (LEAKY_RELU, 75, vec![(0, Field::F32(self.between(0.001, 0.3)))]),
            _ => (QUANTIZE, 0, vec![]),
        };
        self.network.operator(code, &[x.tensor], y.tensor, kind, &fields);
        y
    }

    fn add(&mut self, a: &Known, b: &Known) -> Known {
        let scale = a.scale.max(b.scale) * self.between(0.7, 2.0);
        let activation = self.activation_code(scale);
        let (scale, zero_point) = self.clamped(activation, scale);
        let y = self.activation(a.shape(), scale, zero_point);
        self.network.operator(ADD, &[a.tensor, b.tensor], y.tensor, 11, &[(0, Field::I8(activation))]);
        y
    }

    fn multiply(&mut self, a: &Known, b: &Known) -> Known {
        let scale = a.scale * b.scale * 100.0 * self.between(0.3, 1.5);
        let activation = self.activation_code(scale);
        let (scale, zero_point) = self.clamped(activation, scale);
        let y = self.activation(a.shape(), scale, zero_point);
        let fields = [(0, Field::I8(activation))];
        let read = if self.within(0, 1) == 0 { [a.tensor, b.tensor] } else { [b.tensor, a.tensor] };
        self.network.operator(MUL, &read, y.tensor, 21, &fields);
        y
    }

    fn multiply_by_constant(&mut self, a: &Known) -> Known {
        let numbers = self.numbers(a.channels);
        let b = self.network.weights(&[1, 1, 1, a.channels], &numbers, vec![0.01], 0);
        let scale = a.scale * self.between(0.5, 1.5);
        let y = self.activation(a.shape(), scale, a.zero_point);
        self.network.operator(MUL, &[a.tensor, b], y.tensor, 21, &[(0, Field::I8(0))]);
        y
    }

    fn concat(&mut self, all: &[Known]) -> Known {
        let channels = all.iter().map(|known| known.channels).sum();
        let y = self.activation([1, all[0].height, all[0].width, channels], all[0].scale, all[0].zero_point);
        let read: Vec<i32> = all.iter().map(|known| known.tensor).collect();
        let axis = self.one_of(&[3, -1]);
        self.network.operator(CONCATENATION, &read, y.tensor, 10, &[(0, Field::I32(axis)), (1, Field::I8(0))]);
        y
    }
}

/// Rows and columns of what a window gives; none if it does not fit.
fn out(x: &Known, kernel: [i32; 2], stride: [i32; 2], padding: i8) -> Option<(i32, i32)> {
    let size = |size: i32, axis: usize| {
        if padding == SAME {
            (size + stride[axis] - 1) / stride[axis]
        } else {
            (size - kernel[axis]) / stride[axis] + 1
        }
    };
    let fits = padding == SAME || x.height >= kernel[0] && x.width >= kernel[1];
    fits.then(|| (size(x.height, 0), size(x.width, 1)))
}

/// A network of up to a dozen operators. An average pool has an odd number of elements, so that it has no halves.
pub fn network(chance: &mut impl Chance) -> Network {
    let mut maker = Maker { network: Network::default(), chance };
    let (height, width, channels) = (maker.within(5, 12), maker.within(5, 12), maker.one_of(&[1, 3, 4]));
    let mut known = vec![begin(&mut maker, height, width, channels)];
    for _ in 0..maker.within(2, 10) {
        let x = known[known.len() - 1];
        let kernel = maker.one_of(&[[1, 1], [3, 3], [3, 3], [5, 3], [2, 2]]);
        let stride = maker.one_of(&[[1, 1], [1, 1], [2, 2], [1, 2]]);
        let padding = maker.one_of(&[SAME, SAME, VALID]);
        let window = (kernel, stride, padding);
        let alike = known.iter().copied().find(|other| other.shape() == x.shape() && other.tensor != x.tensor);
        let next = match maker.within(0, 15) {
            0..=2 => {
                let channels = maker.within(1, 12);
                maker.conv(&x, channels, window, 1)
            }
            3 if x.channels % 2 == 0 => {
                let channels = 2 * maker.within(1, 6);
                maker.conv(&x, channels, window, if x.channels == 2 { 1 } else { 2 })
            }
            4 | 5 if x.channels > 1 => {
                let channels = x.channels * maker.one_of(&[1, 1, 2]);
                maker.conv(&x, channels, window, x.channels)
            }
            6 => {
                let activation = maker.one_of(&[0, 0, 1]);
                maker.pool(MAX_POOL, &x, window, activation)
            }
            7 => {
                let kernel = maker.one_of(&[[3, 3], [3, 1], [1, 5]]);
                maker.pool(AVERAGE_POOL, &x, (kernel, stride, VALID), 0)
            }
            8 | 9 => Some(maker.lookup(&x)),
            10 => alike.map(|other| maker.add(&x, &other)),
            11 => alike.map(|other| maker.multiply(&x, &other)),
            12 if x.height * x.width > 1 => {
                // How squeeze-and-excitation networks weigh their channels.
                let mean = maker.mean(&x);
                let mean = Known { height: 1, width: 1, ..mean };
                maker.network.tensors[mean.tensor as usize].shape = mean.shape().to_vec();
                maker.network.operators.last_mut().expect("the mean").options.1[0].1 = Field::I8(1);
                let gate = maker.conv(&mean, x.channels, ([1, 1], [1, 1], SAME), 1).expect("it fits");
                Some(maker.multiply(&x, &gate))
            }
            13 => {
                let alike: Vec<Known> = known
                    .iter()
                    .copied()
                    .filter(|other| {
                        (other.height, other.width) == (x.height, x.width)
                            && (other.scale, other.zero_point) == (x.scale, x.zero_point)
                    })
                    .collect();
                Some(maker.concat(&[&alike[..], &[x]].concat()))
            }
            14 => {
                // The kernel is larger than what is around.
                let padded = maker.pad(&x, [1, 0, 1, 2]);
                let channels = maker.within(1, 8);
                maker.conv(&padded, channels, ([3, 3], [1, 1], VALID), 1)
            }
            15 => Some(maker.multiply_by_constant(&x)),
            _ => None,
        };
        known.extend(next.filter(|next| next.channels <= 64));
    }
    end(&mut maker, known[known.len() - 1]);
    maker.network
}

/// The pixels: as they are, or from bytes without a sign, or from floats.
pub fn begin<C: Chance>(maker: &mut Maker<C>, height: i32, width: i32, channels: i32) -> Known {
    let shape = [1, height, width, channels];
    let (scale, zero_point) = maker.one_of(&[(1.0 / 255.0, -128), (0.007_843_138, -1), (1.0, -128)]);
    let kind = maker.one_of(&[INT8, INT8, UINT8, FLOAT32]);
    if kind == INT8 {
        let x = maker.activation(shape, scale, zero_point);
        maker.network.inputs = vec![x.tensor];
        return x;
    }
    let (scales, zero_points) = if kind == UINT8 { (vec![scale], vec![zero_point + 128]) } else { (vec![], vec![]) };
    let pixels = Tensor { kind, shape: shape.to_vec(), scales, zero_points, ..Tensor::default() };
    let pixels = maker.network.tensor(pixels);
    maker.network.inputs = vec![pixels];
    let x = maker.activation(shape, scale, zero_point);
    maker.network.operator(QUANTIZE, &[pixels], x.tensor, 0, &[]);
    x
}

/// Scores for a few classes, often with a softmax, and as bytes with or without a sign, or as floats.
pub fn end<C: Chance>(maker: &mut Maker<C>, x: Known) {
    let classes = maker.within(1, 9);
    let elements = x.height * x.width * x.channels;
    let logits = match maker.within(0, 2) {
        0 => {
            let flat = maker.network.activation(&[1, elements], x.scale, x.zero_point);
            let shape = maker.network.integers(&[2], &[1, elements]);
            maker.network.operator(RESHAPE, &[x.tensor, shape], flat, 17, &[]);
            maker.linear(flat, &x, elements, classes, 0)
        }
        1 => {
            let mean = maker.mean(&x);
            maker.linear(mean.tensor, &mean, x.channels, classes, 1)
        }
        _ => maker.conv(&x, classes, ([x.height, x.width], [1, 1], VALID), 1).expect("it fits"),
    };
    let shape = maker.network.tensors[logits.tensor as usize].shape.clone();
    let (mut output, mut scale, mut zero_point) = (logits.tensor, logits.scale, logits.zero_point);
    if maker.within(0, 2) > 0 {
        (scale, zero_point) = (1.0 / 256.0, -128);
        let after = maker.network.activation(&shape, scale, zero_point);
        output = maker.network.operator(SOFTMAX, &[output], after, 9, &[(0, Field::F32(1.0))]);
    }
    if maker.within(0, 2) == 0 {
        let (scales, zero_points) = (vec![scale], vec![zero_point + 128]);
        let bytes = Tensor { kind: UINT8, shape: shape.clone(), scales, zero_points, ..Tensor::default() };
        let bytes = maker.network.tensor(bytes);
        output = maker.network.operator(QUANTIZE, &[output], bytes, 0, &[]);
    }
    if maker.within(0, 3) == 0 && maker.network.tensors[output as usize].kind == INT8 {
        let floats = maker.network.tensor(Tensor { kind: FLOAT32, shape, ..Tensor::default() });
        output = maker.network.operator(DEQUANTIZE, &[output], floats, 0, &[]);
    }
    maker.network.outputs = vec![output];
}
