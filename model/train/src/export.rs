//! A model as an ONNX network whose logits are the same, bit for bit, in ONNX Runtime on any x86 and ARM64, by the table in
//! docs/inference.md ("Who else computes the same bits"). It reads `pixels`, u8 `(N, C, H, W)`, and gives `logits`, i32
//! `(N, classes)`.

use ocelli_model::file::Parameters;
use ocelli_model::graph::{Finish, Operation, Shape, Window};
use ocelli_model::model::Model;
use ocelli_program::model_export::WeightType;
use prost::Message as _;

use crate::onnx::proto::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto, element,
};

/// The name of the input.
pub const PIXELS: &str = "pixels";
/// The name of the output.
pub const LOGITS: &str = "logits";
/// The version of the operators that are written.
const OPERATORS: i64 = 17;
/// The domain of ONNX Runtime's own operators, and their version.
const OWN: (&str, i64) = ("com.microsoft", 1);
/// The version of the file format: that of ONNX 1.13, which ONNX Runtime reads since 1.14.
const FORMAT: i64 = 8;
/// The largest activation beside which two products with i8 weights fit the 16 bits that x86 without VNNI adds them in.
const MOST_BESIDE_I8: u8 = 127;

/// The bytes of the ONNX file of a model.
pub fn to_onnx(model: &Model, weights: WeightType) -> Vec<u8> {
    let mut network = Network { weights, nodes: Vec::new(), constants: Vec::new() };
    network.layers(model);
    let shape = model.input();
    let has_own = network.nodes.iter().any(|node| node.domain == OWN.0);
    let domains = [Some(("", OPERATORS)), has_own.then_some(OWN)].into_iter().flatten();
    let metadata = [("name", model.name().to_owned()), ("id", model.id().to_string())];
    let graph = GraphProto {
        name: "ocelli".into(),
        node: network.nodes,
        initializer: network.constants,
        input: vec![value(PIXELS, element::UINT8, &[shape.channels, shape.height, shape.width])],
        output: vec![value(LOGITS, element::INT32, &[model.logits()])],
    };
    let file = ModelProto {
        ir_version: FORMAT,
        producer_name: "ocelli".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: Some(graph),
        opset_import: domains.map(|(domain, version)| OperatorSetIdProto { domain: domain.into(), version }).collect(),
        metadata_props: metadata
            .into_iter()
            .map(|(key, value)| StringStringEntryProto { key: key.into(), value })
            .collect(),
        functions: Vec::new(),
    };
    file.encode_to_vec()
}

/// An input or output: any number of pictures, and these dimensions of each.
fn value(name: &str, elem_type: i32, dims: &[usize]) -> ValueInfoProto {
    let pictures = DimensionProto { dim_param: "N".into(), ..DimensionProto::default() };
    let known = dims.iter().map(|size| DimensionProto { dim_value: *size as i64, ..DimensionProto::default() });
    let shape = TensorShapeProto { dim: [pictures].into_iter().chain(known).collect() };
    let tensor_type = Some(TensorTypeProto { elem_type, shape: Some(shape) });
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type }) }
}

/// Nodes and constants under construction. A value is called by its name.
struct Network {
    weights: WeightType,
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
}

/// What a layer with products reads.
struct Read<'a> {
    name: &'a str,
    shape: Shape,
    /// Of each channel.
    zero_points: Vec<u8>,
    high: u8,
}

impl Network {
    fn layers(&mut self, model: &Model) {
        let graph = model.graph();
        let mut names = vec![PIXELS.to_owned()];
        for (index, layer) in graph.layers().iter().enumerate() {
            let (sources, parameters) = (graph.sources(index), model.parameters(index));
            let shape = graph.source_shape(index);
            let read = || {
                let activation = &graph.activations()[sources[0]];
                Read {
                    name: &names[sources[0]],
                    shape,
                    zero_points: (0..shape.channels).map(|channel| activation.zero_point(channel)).collect(),
                    high: model.proof().activations[sources[0]].high,
                }
            };
            let zero_point = |place: usize| graph.activations()[sources[place]].zero_point(0);
            let whole = Window { kernel: [shape.height, shape.width], stride: [1; 2], padding: [0; 4] };
            names.push(match layer.operation {
                Operation::Conv { groups, window, finish, .. } => {
                    self.sums(&read(), parameters, groups, window, finish)
                }
                Operation::Linear { finish: Some(finish), .. } => self.sums(&read(), parameters, 1, whole, finish),
                Operation::Linear { finish: None, .. } => self.logits(&read(), parameters),
                // A convolution of each channel by itself, of ones.
                Operation::AveragePool { window, finish } => {
                    let ones = Parameters {
                        weight: vec![1; shape.channels * window.taps()],
                        bias: vec![0; shape.channels],
                        scale: vec![parameters.scale[0]; shape.channels],
                        ..Parameters::default()
                    };
                    self.sums(&read(), &ones, shape.channels, window, finish)
                }
                Operation::MaxPool { window } => {
                    let attributes = of_window(window).collect();
                    self.node("MaxPool", &[&names[sources[0]]], attributes)
                }
                Operation::Concat => {
                    let read: Vec<&str> = sources.iter().map(|source| names[*source].as_str()).collect();
                    self.node("Concat", &read, vec![integer("axis", 1)])
                }
                Operation::Lookup { .. } => {
                    let (table, places) = (self.bytes(&[256], &parameters.table), &names[sources[0]]);
                    let places = self.cast(places, element::INT32);
                    self.node("Gather", &[&table, &places], vec![])
                }
                Operation::Multiply { finish } => {
                    let [a, b] = [0, 1].map(|place| self.counted(&names[sources[place]], zero_point(place)));
                    let product = self.node("Mul", &[&a, &b], vec![]);
                    let (product, scale) = (self.cast(&product, element::FLOAT), self.float(parameters.scale[0]));
                    let scaled = self.node("Mul", &[&product, &scale], vec![]);
                    let rounded = self.node("Round", &[&scaled], vec![]);
                    self.finished(&rounded, finish, Self::float_of_byte)
                }
                // Of scales of 1 its floats are whole numbers, which are the same wherever it runs.
                Operation::Add { multipliers, shift, finish } if multipliers == [1 << shift; 2] => {
                    let one = self.float(1.0);
                    let [a, b] = [0, 1].map(|place| self.byte(zero_point(place)));
                    let to = self.byte(finish.zero_point);
                    let [x, y] = [0, 1].map(|place| names[sources[place]].as_str());
                    let sum = self.node("QLinearAdd", &[x, &one, &a, y, &one, &b, &one, &to], vec![]);
                    if let Some(node) = self.nodes.last_mut() {
                        node.domain = OWN.0.into();
                    }
                    self.clipped(sum, finish)
                }
                Operation::Add { multipliers, shift, finish } => {
                    let [a, b] = [0, 1].map(|place| {
                        let value = self.counted(&names[sources[place]], zero_point(place));
                        let multiplier = self.integers(&[], &[multipliers[place] as i32]);
                        self.node("Mul", &[&value, &multiplier], vec![])
                    });
                    let half = 1i32 << (shift - 1);
                    let (sum, half_of_it) = (self.node("Add", &[&a, &b], vec![]), self.integers(&[], &[half]));
                    let sum = self.node("Add", &[&sum, &half_of_it], vec![]);
                    // A shift of integers rounds down, below zero too.
                    let (sum, factor) = (self.cast(&sum, element::DOUBLE), self.double(0.5 / f64::from(half)));
                    let shifted = self.node("Mul", &[&sum, &factor], vec![]);
                    let whole = self.node("Floor", &[&shifted], vec![]);
                    self.finished(&whole, finish, Self::double_of_byte)
                }
            });
        }
    }

    /// Activations of sums: a convolution with weights `(O, I / groups, rows, columns)`.
    fn sums(&mut self, read: &Read, parameters: &Parameters, groups: usize, window: Window, finish: Finish) -> String {
        let outputs = parameters.bias.len();
        let inputs = read.shape.channels / groups;
        let (x, window) = self.padded_alone(read, window);
        let taken = read.zero_points[0];
        let bias = moved_bias(read, parameters, outputs / groups, inputs, window.taps());
        let dims = [outputs, inputs, window.kernel[0], window.kernel[1]];
        let is_i8 = match self.weights {
            WeightType::U8 => false,
            WeightType::I8 => read.high <= MOST_BESIDE_I8,
            WeightType::I8Everywhere => true,
        };
        let (weight, zero_points) = if is_i8 {
            let bytes = parameters.weight.iter().map(|weight| *weight as u8).collect();
            (self.tensor(element::INT8, &dims, bytes), self.tensor(element::INT8, &[outputs], vec![0; outputs]))
        } else {
            (self.bytes(&dims, &moved_weights(&parameters.weight)), self.bytes(&[outputs], &vec![128; outputs]))
        };
        let scale = self.tensor(
            element::FLOAT,
            &[outputs],
            parameters.scale.iter().copied().flat_map(f32::to_le_bytes).collect(),
        );
        let (one, from, to) = (self.float(1.0), self.byte(taken), self.byte(finish.zero_point));
        let bias = self.integers(&[outputs], &bias);
        let inputs = [&x, &one, &from, &weight, &scale, &zero_points, &one, &to, &bias].map(String::as_str);
        let attributes = of_window(window).chain([integer("group", groups as i64)]).collect();
        let sums = self.node("QLinearConv", &inputs, attributes);
        self.clipped(sums, finish)
    }

    /// Bytes within their bounds.
    fn clipped(&mut self, bytes: String, finish: Finish) -> String {
        if (finish.low, finish.high) == (0, 255) {
            return bytes;
        }
        let (low, high) = (self.byte(finish.low), self.byte(finish.high));
        self.node("Clip", &[&bytes, &low, &high], vec![])
    }

    /// What is read with its padding, where channels are padded with bytes of their own, and the window over that; elsewhere
    /// both as they are.
    fn padded_alone(&mut self, read: &Read, window: Window) -> (String, Window) {
        if !read.zero_points_differ() || window.padding == [0; 4] {
            return (read.name.to_owned(), window);
        }
        let [top, left, bottom, right] = window.padding.map(|padding| padding as i64);
        let padding = self.long_integers(&[0, 0, top, left, 0, 0, bottom, right]);
        let (axis, mut channels) = (self.long_integers(&[1]), Vec::new());
        for (channel, zero_point) in read.zero_points.iter().enumerate() {
            let [first, end] = [channel, channel + 1].map(|place| self.long_integers(&[place as i64]));
            let of_one = self.node("Slice", &[read.name, &first, &end, &axis], vec![]);
            let fill = self.byte(*zero_point);
            channels.push(self.node("Pad", &[&of_one, &padding, &fill], vec![]));
        }
        let channels: Vec<&str> = channels.iter().map(String::as_str).collect();
        (self.node("Concat", &channels, vec![integer("axis", 1)]), Window { padding: [0; 4], ..window })
    }

    fn logits(&mut self, read: &Read, parameters: &Parameters) -> String {
        let outputs = parameters.bias.len();
        let inputs = parameters.weight.len() / outputs;
        let rows: Vec<i8> =
            (0..inputs * outputs).map(|place| parameters.weight[place % outputs * inputs + place / outputs]).collect();
        let flat = self.node("Flatten", &[read.name], vec![]);
        let (weight, from) = (self.bytes(&[inputs, outputs], &moved_weights(&rows)), self.byte(read.zero_points[0]));
        let zero_point = self.byte(128);
        let sums = self.node("MatMulInteger", &[&flat, &weight, &from, &zero_point], vec![]);
        let bias = moved_bias(read, parameters, outputs, read.shape.channels, read.shape.plane());
        let bias = self.integers(&[outputs], &bias);
        if parameters.scale.is_empty() {
            return self.named(LOGITS, "Add", &[&sums, &bias], vec![]);
        }
        let sums = self.node("Add", &[&sums, &bias], vec![]);
        let sums = self.cast(&sums, element::FLOAT);
        let scale = self.tensor(
            element::FLOAT,
            &[outputs],
            parameters.scale.iter().copied().flat_map(f32::to_le_bytes).collect(),
        );
        let scaled = self.node("Mul", &[&sums, &scale], vec![]);
        let most = (1 << 24) as f32;
        let (low, high) = (self.float(-most), self.float(most));
        let clamped = self.node("Clip", &[&scaled, &low, &high], vec![]);
        let rounded = self.node("Round", &[&clamped], vec![]);
        self.named(LOGITS, "Cast", &[&rounded], vec![integer("to", element::INT32.into())])
    }

    /// Bytes as i32, counted from their zero point.
    fn counted(&mut self, bytes: &str, zero_point: u8) -> String {
        let (value, zero_point) = (self.cast(bytes, element::INT32), self.integers(&[], &[zero_point.into()]));
        self.node("Sub", &[&value, &zero_point], vec![])
    }

    /// Bytes of whole numbers that are counted from the zero point; `constant` makes those of their type.
    fn finished(&mut self, whole: &str, finish: Finish, constant: fn(&mut Self, u8) -> String) -> String {
        let [zero_point, low, high] = [finish.zero_point, finish.low, finish.high].map(|byte| constant(self, byte));
        let moved = self.node("Add", &[whole, &zero_point], vec![]);
        let clamped = self.node("Clip", &[&moved, &low, &high], vec![]);
        self.cast(&clamped, element::UINT8)
    }

    fn cast(&mut self, value: &str, to: i32) -> String {
        self.node("Cast", &[value], vec![integer("to", to.into())])
    }

    fn node(&mut self, operator: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let name = format!("{operator}{}", self.nodes.len());
        self.named(&name, operator, inputs, attributes)
    }

    fn named(&mut self, name: &str, operator: &str, inputs: &[&str], attribute: Vec<AttributeProto>) -> String {
        self.nodes.push(NodeProto {
            op_type: operator.into(),
            name: name.into(),
            input: inputs.iter().map(|input| (*input).into()).collect(),
            output: vec![name.into()],
            attribute,
            ..NodeProto::default()
        });
        name.into()
    }

    fn tensor(&mut self, data_type: i32, dims: &[usize], raw_data: Vec<u8>) -> String {
        let name = format!("constant{}", self.constants.len());
        let dims = dims.iter().map(|size| *size as i64).collect();
        self.constants.push(TensorProto { name: name.clone(), dims, data_type, raw_data, ..TensorProto::default() });
        name
    }

    fn bytes(&mut self, dims: &[usize], values: &[u8]) -> String {
        self.tensor(element::UINT8, dims, values.to_vec())
    }

    fn byte(&mut self, value: u8) -> String {
        self.bytes(&[], &[value])
    }

    fn integers(&mut self, dims: &[usize], values: &[i32]) -> String {
        self.tensor(element::INT32, dims, values.iter().copied().flat_map(i32::to_le_bytes).collect())
    }

    fn long_integers(&mut self, values: &[i64]) -> String {
        let bytes = values.iter().copied().flat_map(i64::to_le_bytes).collect();
        self.tensor(element::INT64, &[values.len()], bytes)
    }

    fn float(&mut self, value: f32) -> String {
        self.tensor(element::FLOAT, &[], value.to_le_bytes().to_vec())
    }

    fn double(&mut self, value: f64) -> String {
        self.tensor(element::DOUBLE, &[], value.to_le_bytes().to_vec())
    }

    fn float_of_byte(&mut self, value: u8) -> String {
        self.float(value.into())
    }

    fn double_of_byte(&mut self, value: u8) -> String {
        self.double(value.into())
    }
}

impl Read<'_> {
    fn zero_points_differ(&self) -> bool {
        self.zero_points.iter().any(|zero_point| *zero_point != self.zero_points[0])
    }
}

/// Weights with a zero point of 128.
fn moved_weights(weights: &[i8]) -> Vec<u8> {
    weights.iter().map(|weight| (i16::from(*weight) + 128) as u8).collect()
}

/// The biases that make the same sums where all channels are counted from the zero point of the first: QLinearConv and
/// MatMulInteger know one only. `taps` weights in a row read one channel. The sums fit 31 bits, whatever wraps on the way.
fn moved_bias(read: &Read, parameters: &Parameters, outputs_of_group: usize, inputs: usize, taps: usize) -> Vec<i32> {
    let biases = parameters.bias.iter().zip(parameters.weight.chunks_exact(inputs * taps)).enumerate();
    let of_one = |(output, (bias, weights)): (usize, (&i32, &[i8]))| {
        let zero_points = &read.zero_points[output / outputs_of_group * inputs..][..inputs];
        let moved = weights.chunks_exact(taps).zip(zero_points).map(|(weights, zero_point)| {
            let weight: i32 = weights.iter().map(|weight| i32::from(*weight)).sum();
            weight.wrapping_mul(i32::from(read.zero_points[0]) - i32::from(*zero_point))
        });
        moved.fold(*bias, i32::wrapping_add)
    };
    biases.map(of_one).collect()
}

fn of_window(window: Window) -> impl Iterator<Item = AttributeProto> {
    let attribute = |name: &str, values: &[usize]| AttributeProto {
        name: name.into(),
        ints: values.iter().map(|value| *value as i64).collect(),
        r#type: 7,
        ..AttributeProto::default()
    };
    [
        attribute("kernel_shape", &window.kernel),
        attribute("strides", &window.stride),
        attribute("pads", &window.padding),
    ]
    .into_iter()
}

fn integer(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i, r#type: 2, ..AttributeProto::default() }
}
