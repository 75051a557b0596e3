//! Quantised networks by chance, of convolutions, pools and linear layers with all of their attributes, beside ONNX Runtime where
//! Python has it (`pip install onnxruntime`).

use std::env;

use ocelli_model::sample::{self, Chance, within};
use ocelli_model::{ReferenceBackend, reference};

use super::proto::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use super::*;
use crate::quantize::{Naming, quantize_imported};
use crate::runtime::{Job, Runtime, RuntimeError, RuntimeKind};

/// How many networks are made, unless OCELLI_ONNX_NETWORKS says it.
const NETWORKS: u64 = 120;
/// Pictures that each is run on.
const PICTURES: usize = 3;
/// Two products of these with bytes fit the 16 bits that ONNX Runtime adds them in on x86 without VNNI.
const MOST_BESIDE_BYTES: usize = 63;

/// Bytes of the network that is made.
#[derive(Debug, Clone)]
struct Now {
    name: String,
    shape: Shape,
    scale: f32,
    /// As the file has it.
    zero: i32,
}

/// A network under construction.
struct Maker<'a, C> {
    chance: &'a mut C,
    graph: GraphProto,
    /// Whether its operators are between QuantizeLinear and DequantizeLinear.
    is_qdq: bool,
    /// Whether its activations have a sign.
    is_signed: bool,
}

/// What a window is in one direction.
struct Direction {
    kernel: usize,
    stride: usize,
    dilation: usize,
    pads: [usize; 2],
}

impl<C: Chance> Maker<'_, C> {
    fn within(&mut self, low: usize, high: usize) -> usize {
        within(self.chance, low, high)
    }

    fn is(&mut self, one_in: usize) -> bool {
        self.within(1, one_in) == 1
    }

    fn name(&self) -> String {
        format!("v{}", self.graph.node.len() + self.graph.initializer.len())
    }

    fn constant(&mut self, tensor: TensorProto) -> String {
        let name = self.name();
        self.graph.initializer.push(TensorProto { name: name.clone(), ..tensor });
        name
    }

    fn floats(&mut self, dims: &[usize], float_data: Vec<f32>) -> String {
        let dims = dims.iter().map(|dim| *dim as i64).collect();
        self.constant(TensorProto { dims, data_type: element::FLOAT, float_data, ..TensorProto::default() })
    }

    fn integers(&mut self, data_type: i32, dims: &[usize], int32_data: Vec<i32>) -> String {
        let dims = dims.iter().map(|dim| *dim as i64).collect();
        self.constant(TensorProto { dims, data_type, int32_data, ..TensorProto::default() })
    }

    fn node(&mut self, operator: &str, inputs: &[&str], attribute: Vec<AttributeProto>) -> String {
        let name = self.name();
        self.graph.node.push(NodeProto {
            op_type: operator.into(),
            name: name.clone(),
            domain: if operator == "QGemm" { "com.microsoft".into() } else { String::new() },
            input: inputs.iter().map(|input| (*input).into()).collect(),
            output: vec![name.clone()],
            attribute,
        });
        name
    }

    fn activation_type(&self) -> i32 {
        if self.is_signed { element::INT8 } else { element::UINT8 }
    }

    /// The constants of a scale and a zero point.
    fn grid(&mut self, scale: f32, zero: i32) -> [String; 2] {
        let data_type = self.activation_type();
        [self.floats(&[], vec![scale]), self.integers(data_type, &[], vec![zero])]
    }

    fn zero(&mut self) -> i32 {
        let byte = match self.within(0, 2) {
            0 => 0,
            _ => self.within(0, 255) as i32,
        };
        byte - if self.is_signed { 128 } else { 0 }
    }

    /// Weights, their scales and zero points, one for all or one for each place of an axis, and the scales.
    fn weights(&mut self, dims: &[usize], axis: usize) -> ([String; 3], Vec<f32>) {
        let count = dims.iter().product();
        let has_sign = self.is_signed || self.is(2);
        let kind = if has_sign { element::INT8 } else { element::UINT8 };
        let (numbers, zero) = if has_sign {
            let number = |maker: &mut Self| maker.within(0, 2 * MOST_BESIDE_BYTES) as i32 - MOST_BESIDE_BYTES as i32;
            ((0..count).map(|_| number(self)).collect::<Vec<_>>(), 0)
        } else {
            ((0..count).map(|_| self.within(0, 255) as i32).collect(), self.within(0, 255) as i32)
        };
        let scales = if self.is(2) { 1 } else { dims[axis] };
        let of: &[usize] = if scales == 1 { &[] } else { &[scales] };
        let scale: Vec<f32> = (0..scales).map(|_| self.within(20, 100) as f32 / 16_384.0).collect();
        let names = [
            self.integers(kind, dims, numbers),
            self.floats(of, scale.clone()),
            self.integers(kind, of, vec![zero; scales]),
        ];
        (names, scale)
    }

    /// One direction of a window over so many rows or columns.
    fn direction(&mut self, size: usize, dilates: bool, auto_pad: &str) -> Option<Direction> {
        // ONNX Runtime takes no dilation with SAME.
        let dilation = if dilates && !auto_pad.starts_with("SAME") && self.is(3) { 2 } else { 1 };
        let kernel = self.within(1, 4);
        // Nor a pool with SAME that leaves out what is between its windows.
        let is_whole = !dilates && auto_pad.starts_with("SAME");
        let stride = self.within(1, if is_whole { kernel.min(3) } else { 3 });
        let wide = (kernel - 1) * dilation + 1;
        let pads = if auto_pad.is_empty() { [self.within(0, wide - 1), self.within(0, wide - 1)] } else { [0; 2] };
        let fits = auto_pad.starts_with("SAME") || size + pads[0] + pads[1] >= wide;
        fits.then_some(Direction { kernel, stride, dilation, pads })
    }

    /// A window with its attributes and the rows and columns that it gives, by ONNX's documentation.
    fn window(&mut self, over: Shape, is_pool: bool) -> Option<([Direction; 2], Vec<AttributeProto>, [usize; 2])> {
        let auto_pad = ["", "", "", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"][self.within(0, 6)];
        let of = if auto_pad == "NOTSET" { "" } else { auto_pad };
        let both = [self.direction(over.height, !is_pool, of)?, self.direction(over.width, !is_pool, of)?];
        let is_ceil = is_pool && of.is_empty() && self.is(2);
        let all = |of: fn(&Direction) -> usize| both.iter().map(|direction| of(direction) as i64).collect::<Vec<_>>();
        let mut attributes = vec![];
        if is_pool || self.within(0, 1) == 0 {
            attributes.push(ints("kernel_shape", all(|direction| direction.kernel)));
        }
        if both.iter().any(|direction| direction.stride > 1) || self.within(0, 1) == 0 {
            attributes.push(ints("strides", all(|direction| direction.stride)));
        }
        if both.iter().any(|direction| direction.dilation > 1) {
            attributes.push(ints("dilations", all(|direction| direction.dilation)));
        }
        if both.iter().any(|direction| direction.pads != [0; 2]) {
            attributes
                .push(ints("pads", [all(|direction| direction.pads[0]), all(|direction| direction.pads[1])].concat()));
        }
        if !auto_pad.is_empty() {
            let s = auto_pad.as_bytes().to_vec();
            attributes.push(AttributeProto { name: "auto_pad".into(), s, r#type: 3, ..AttributeProto::default() });
        }
        if is_ceil {
            attributes.push(int("ceil_mode", 1));
        }
        let size = |size: usize, direction: &Direction| {
            let &Direction { kernel, stride, dilation, pads } = direction;
            if of.starts_with("SAME") {
                return size.div_ceil(stride);
            }
            let rest = size + pads[0] + pads[1] - ((kernel - 1) * dilation + 1);
            if !is_ceil {
                return rest / stride + 1;
            }
            let outputs = rest.div_ceil(stride) + 1;
            if (outputs - 1) * stride >= size + pads[0] { outputs - 1 } else { outputs }
        };
        let sizes = [size(over.height, &both[0]), size(over.width, &both[1])];
        Some((both, attributes, sizes))
    }

    fn conv(&mut self, now: &Now) -> Option<Now> {
        let ([rows, columns], mut attributes, [height, width]) = self.window(now.shape, false)?;
        let channels = now.shape.channels;
        let groups: Vec<usize> = (1..=channels).filter(|groups| channels.is_multiple_of(*groups)).collect();
        let groups = groups[self.within(0, groups.len() - 1)];
        if groups > 1 || self.is(2) {
            attributes.push(int("group", groups as i64));
        }
        let outputs = groups * self.within(1, 4);
        let (per_group, taps) = (channels / groups, rows.kernel * columns.kernel);
        let weights = self.weights(&[outputs, per_group, rows.kernel, columns.kernel], 0);
        let shape = Shape { channels: outputs, height, width };
        Some(self.sums(now, ("Conv", "QLinearConv"), weights, per_group * taps, shape, attributes))
    }

    /// A linear layer over what is flattened.
    fn linear(&mut self, now: &Now) -> Now {
        let inputs = now.shape.elements();
        let name = self.node("Flatten", &[&now.name], vec![]);
        let flat = Now { name, ..now.clone() };
        let outputs = self.within(2, 6);
        let shape = Shape { channels: outputs, height: 1, width: 1 };
        let is_turned = self.is(2);
        let dims = if is_turned { [outputs, inputs] } else { [inputs, outputs] };
        let weights = self.weights(&dims, usize::from(!is_turned));
        let attributes = if is_turned { vec![int("transB", 1)] } else { vec![] };
        self.sums(&flat, ("Gemm", "QGemm"), weights, inputs, shape, attributes)
    }

    fn sums(
        &mut self,
        now: &Now,
        (float, quantised): (&str, &str),
        ([weights, scales, zeros], scale): ([String; 3], Vec<f32>),
        inputs: usize,
        shape: Shape,
        attributes: Vec<AttributeProto>,
    ) -> Now {
        let most = scale.iter().copied().fold(0.0, f32::max);
        let after = now.scale * most * 40.0 * (inputs as f32).sqrt() * self.within(50, 200) as f32;
        let is_clamped = self.is_qdq && self.is(3);
        let zero = match (is_clamped, self.is_signed) {
            (true, true) => -128,
            (true, false) => 0,
            _ => self.zero(),
        };
        let bias = (!self.is(4)).then(|| {
            let biases = (0..shape.channels).map(|_| self.within(0, 8000) as i32 - 4000).collect();
            self.integers(element::INT32, &[shape.channels], biases)
        });
        let ([x_scale, x_zero], [y_scale, y_zero]) = (self.grid(now.scale, now.zero), self.grid(after, zero));
        let name = if self.is_qdq {
            // Of a matrix that is not turned, scales are of columns.
            let is_turned = attributes.iter().any(|attribute| attribute.name == "transB");
            let axis = if float == "Gemm" && !is_turned { 1 } else { 0 };
            let x = self.node("DequantizeLinear", &[&now.name, &x_scale, &x_zero], vec![]);
            let weights = self.node("DequantizeLinear", &[&weights, &scales, &zeros], vec![int("axis", axis)]);
            let bias = bias.map(|bias| {
                let of: &[usize] = if scale.len() == 1 { &[] } else { &[scale.len()] };
                let scales = self.floats(of, scale.iter().map(|scale| now.scale * scale).collect());
                self.node("DequantizeLinear", &[&bias, &scales], vec![int("axis", 0)])
            });
            let mut read = vec![x.as_str(), &weights];
            read.extend(bias.as_deref());
            let mut y = self.node(float, &read, attributes);
            if is_clamped {
                y = self.node("Relu", &[&y], vec![]);
            }
            self.node("QuantizeLinear", &[&y, &y_scale, &y_zero], vec![])
        } else {
            let read = [&now.name, &x_scale, &x_zero, &weights, &scales, &zeros].map(String::as_str);
            let bias = bias.as_deref().unwrap_or_default();
            let rest = if quantised == "QGemm" { [bias, &y_scale, &y_zero] } else { [&y_scale, &y_zero, bias] };
            let read = [&read[..], &rest].concat();
            let last = read.iter().rposition(|name| !name.is_empty()).unwrap_or(0);
            self.node(quantised, &read[..=last], attributes)
        };
        Now { name, shape, scale: after, zero }
    }

    fn pool(&mut self, now: &Now) -> Option<Now> {
        let (_, mut attributes, [height, width]) = self.window(now.shape, true)?;
        if self.is(4) {
            attributes.push(int("storage_order", 0));
        }
        let shape = Shape { height, width, ..now.shape };
        let name = if self.is_qdq {
            let [scale, zero] = self.grid(now.scale, now.zero);
            let x = self.node("DequantizeLinear", &[&now.name, &scale, &zero], vec![]);
            let y = self.node("MaxPool", &[&x], attributes);
            self.node("QuantizeLinear", &[&y, &scale, &zero], vec![])
        } else {
            self.node("MaxPool", &[&now.name], attributes)
        };
        Some(Now { name, shape, ..now.clone() })
    }
}

fn ints(name: &str, ints: Vec<i64>) -> AttributeProto {
    AttributeProto { name: name.into(), ints, r#type: 7, ..AttributeProto::default() }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i, r#type: 2, ..AttributeProto::default() }
}

/// A network, the picture that it reads, what its answer is, and between which numbers that is.
fn network(chance: &mut impl Chance) -> (ModelProto, Shape, Now, (i32, i32)) {
    let kind = within(chance, 0, 3);
    let shape =
        Shape { channels: [1, 3][within(chance, 0, 1)], height: within(chance, 4, 14), width: within(chance, 4, 14) };
    let mut maker = Maker { chance, graph: GraphProto::default(), is_qdq: kind.is_multiple_of(2), is_signed: false };
    let scale = maker.within(10, 100) as f32 / 8192.0;
    let mut now = Now { name: "x".into(), shape, scale, zero: maker.zero() };
    if kind == 2 {
        // The same numbers, with a sign.
        let [scale, zero] = maker.grid(now.scale, now.zero);
        let x = maker.node("DequantizeLinear", &["x", &scale, &zero], vec![]);
        (maker.is_signed, now.zero) = (true, now.zero - 128);
        let [scale, zero] = maker.grid(now.scale, now.zero);
        now.name = maker.node("QuantizeLinear", &[&x, &scale, &zero], vec![]);
    }
    for _ in 0..maker.within(1, 5) {
        // A pool of the input's bytes before anything says their scale is refused.
        let can_pool = maker.is_qdq || now.name != "x";
        let next = if can_pool && maker.is(3) { maker.pool(&now) } else { maker.conv(&now) };
        now = next.filter(|next| next.shape.elements() <= 4096).unwrap_or(now);
    }
    let now = maker.linear(&now);
    let ends = if maker.is_signed { (-128, 127) } else { (0, 255) };
    let mut graph = maker.graph;
    let pictures = DimensionProto { dim_param: "N".into(), ..DimensionProto::default() };
    let known = [shape.channels, shape.height, shape.width];
    let known = known.map(|size| DimensionProto { dim_value: size as i64, ..DimensionProto::default() });
    let dim = [pictures].into_iter().chain(known).collect();
    let tensor_type = Some(TensorTypeProto { elem_type: element::UINT8, shape: Some(TensorShapeProto { dim }) });
    graph.name = "net".into();
    graph.input = vec![ValueInfoProto { name: "x".into(), r#type: Some(TypeProto { tensor_type }) }];
    graph.output = vec![ValueInfoProto { name: now.name.clone(), r#type: None }];
    // Before version 22 its shapes of a ceil_mode count windows that its pools leave out.
    let opset_import = [("", 22), ("com.microsoft", 1)]
        .map(|(domain, version)| OperatorSetIdProto { domain: domain.into(), version })
        .to_vec();
    (ModelProto { ir_version: 10, graph: Some(graph), opset_import, ..ModelProto::default() }, shape, now, ends)
}

#[test]
fn quantised_networks_have_the_bits_of_onnxruntime() {
    let python = env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let mut runtime = match Runtime::start(RuntimeKind::OnnxRuntime, &python) {
        Ok(runtime) => runtime,
        Err(RuntimeError::Start { .. } | RuntimeError::Missing { .. }) => return,
        Err(error) => panic!("{error}"),
    };
    let networks = env::var("OCELLI_ONNX_NETWORKS").map_or(NETWORKS, |count| count.parse().expect("a number"));
    let (mut refused, mut saturated, mut compared) = (0, 0, 0);
    let mut differing = Vec::new();
    for seed in 0..networks {
        let mut chance = sample::seeded(seed);
        let (file, shape, answer, (low, high)) = network(&mut chance);
        let bytes = file.encode_to_vec();
        let pictures: Vec<Vec<u8>> =
            (0..PICTURES).map(|_| (0..shape.elements()).map(|_| chance() as u8).collect()).collect();
        let job = Job { file: &bytes, shape, given: &[], outputs: answer.shape.elements() };
        let read: Vec<&[u8]> = pictures.iter().map(Vec::as_slice).collect();
        let expected = runtime.run(job, &read).map_err(|error| error.to_string());
        let found = ours(&bytes, &answer, &pictures);
        match (found, expected) {
            (Ok(found), Ok(expected)) if found == expected => {
                let bytes = || expected.iter().flatten();
                saturated += bytes().filter(|byte| [low, high].contains(byte)).count();
                compared += bytes().count();
            }
            // Pools with windows of nothing but padding.
            (Err(said), Ok(_)) if said.contains("below the kernel's") => refused += 1,
            (found, expected) => differing.push(format!("seed {seed}: {found:?}, not {expected:?}\n{}", told(&file))),
        }
    }
    assert!(differing.is_empty(), "{} of {networks}:\n{}", differing.len(), differing.join("\n"));
    assert!(refused <= networks / 10, "{refused} of {networks} are refused");
    assert!(2 * saturated < compared, "{saturated} of {compared} are the ends of bytes");
}

/// What a file's network gives as integers, or why it is refused.
fn ours(file: &[u8], answer: &Now, pictures: &[Vec<u8>]) -> Result<Vec<Vec<i32>>, String> {
    let network = import(file, &Preprocessing::default(), &mut |_| Err(io::ErrorKind::NotFound.into()));
    let network = network.map_err(|error| error.to_string())?;
    let classes = (0..network.logits()).map(|class| class.to_string()).collect();
    let naming = Naming { name: String::new(), card: String::new() };
    let made = quantize_imported(&network.network, classes, &naming, 256, None, &mut ReferenceBackend, &|_| ());
    let model = made.map_err(|error| format!("{error:?}"))?.model;
    if model.display().scale != f64::from(answer.scale) {
        return Err(format!("the scale is {}, not {}", model.display().scale, answer.scale));
    }
    let of_one =
        |picture: &Vec<u8>| reference::logits(&model, picture).iter().map(|logit| logit + answer.zero).collect();
    Ok(pictures.iter().map(of_one).collect())
}

/// The nodes of a network, to be told.
fn told(file: &ModelProto) -> String {
    let attribute = |attribute: &AttributeProto| {
        let AttributeProto { name, i, s, ints, .. } = attribute;
        format!("{name} {i} {ints:?} {}", String::from_utf8_lossy(s))
    };
    let node =
        |node: &NodeProto| format!("{} {:?}", node.op_type, node.attribute.iter().map(attribute).collect::<Vec<_>>());
    file.graph.iter().flat_map(|graph| &graph.node).map(node).collect::<Vec<_>>().join("\n")
}
