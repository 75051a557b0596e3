//! The operators of ONNX that are read, and what to try instead of others.

use super::Fault;
use super::proto::NodeProto;

/// The versions of ONNX's operators that are read: before, some broadcast otherwise; after, some may mean something else.
pub const VERSIONS: std::ops::RangeInclusive<i64> = 7..=28;

/// An operator that is read, in any of the [`VERSIONS`].
#[derive(Debug)]
struct Operator {
    name: &'static str,
    /// How many inputs it has, at least and at most.
    inputs: [usize; 2],
    /// The attributes that it may have.
    attributes: &'static [&'static str],
}

const fn of(name: &'static str, inputs: [usize; 2], attributes: &'static [&'static str]) -> Operator {
    Operator { name, inputs, attributes }
}

/// As many inputs as one likes.
const ANY: usize = usize::MAX;
const CONV: &[&str] = &["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"];
const QUANTISE: &[&str] = &["axis", "block_size", "output_dtype", "precision", "saturate"];

const OPERATORS: [Operator; 64] = [
    of("Add", [2, 2], &[]),
    of(
        "AveragePool",
        [1, 1],
        &["auto_pad", "ceil_mode", "count_include_pad", "dilations", "kernel_shape", "pads", "strides"],
    ),
    of("BatchNormalization", [5, 5], &["epsilon", "momentum", "spatial", "training_mode"]),
    of("Cast", [1, 1], &["round_mode", "saturate", "to"]),
    of("Clip", [1, 3], &["max", "min"]),
    of("Concat", [1, ANY], &["axis"]),
    of("Constant", [0, 0], &["value", "value_float", "value_floats", "value_int", "value_ints"]),
    of("Conv", [2, 3], CONV),
    of("DequantizeLinear", [2, 3], QUANTISE),
    of("Div", [2, 2], &[]),
    of("Dropout", [1, 3], &["ratio", "seed"]),
    of("Elu", [1, 1], &["alpha"]),
    of("Erf", [1, 1], &[]),
    of("Exp", [1, 1], &[]),
    of("Flatten", [1, 1], &["axis"]),
    of("Gather", [2, 2], &["axis"]),
    of("Gelu", [1, 1], &["approximate"]),
    of("Gemm", [2, 3], &["alpha", "beta", "transA", "transB"]),
    of("GlobalAveragePool", [1, 1], &[]),
    of("GlobalMaxPool", [1, 1], &[]),
    of("HardSigmoid", [1, 1], &["alpha", "beta"]),
    of("HardSwish", [1, 1], &[]),
    of("Identity", [1, 1], &[]),
    of("LeakyRelu", [1, 1], &["alpha"]),
    of("LogSoftmax", [1, 1], &["axis"]),
    of("MatMul", [2, 2], &[]),
    of("Max", [1, ANY], &[]),
    of("MaxPool", [1, 1], &["auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "storage_order", "strides"]),
    of("Min", [1, ANY], &[]),
    of("Mish", [1, 1], &[]),
    of("Mul", [2, 2], &[]),
    of("Neg", [1, 1], &[]),
    of("PRelu", [2, 2], &[]),
    of("Pad", [1, 4], &["mode", "pads", "value"]),
    of("QGemm", [6, 9], &["alpha", "transA", "transB"]),
    of("QLinearAdd", [7, 8], &[]),
    of(
        "QLinearAveragePool",
        [4, 5],
        &["auto_pad", "ceil_mode", "channels_last", "count_include_pad", "kernel_shape", "pads", "strides"],
    ),
    of("QLinearConcat", [5, ANY], &["axis"]),
    of("QLinearConv", [8, 9], &["auto_pad", "channels_last", "dilations", "group", "kernel_shape", "pads", "strides"]),
    of("QLinearGlobalAveragePool", [5, 5], &["channels_last"]),
    of("QLinearLeakyRelu", [4, 5], &["alpha"]),
    of("QLinearMatMul", [8, 8], &[]),
    of("QLinearMul", [7, 8], &[]),
    of("QLinearReduceMean", [4, 5], &["axes", "keepdims"]),
    of("QLinearSigmoid", [4, 5], &[]),
    of("QLinearSoftmax", [5, 5], &["axis", "opset"]),
    of("QuantizeLinear", [2, 3], QUANTISE),
    of("ReduceMean", [1, 2], &["axes", "keepdims", "noop_with_empty_axes"]),
    of("Relu", [1, 1], &[]),
    of("Reshape", [2, 2], &["allowzero"]),
    of("Selu", [1, 1], &["alpha", "gamma"]),
    of("Shape", [1, 1], &["end", "start"]),
    of("Sigmoid", [1, 1], &[]),
    of("Slice", [3, 5], &[]),
    of("Softmax", [1, 1], &["axis"]),
    of("Softplus", [1, 1], &[]),
    of("Softsign", [1, 1], &[]),
    of("Squeeze", [1, 2], &["axes"]),
    of("Sub", [2, 2], &[]),
    of("Sum", [1, ANY], &[]),
    of("Swish", [1, 1], &["alpha"]),
    of("Tanh", [1, 1], &[]),
    of("Transpose", [1, 1], &["perm"]),
    of("Unsqueeze", [1, 2], &["axes"]),
];

/// The types of attributes, by their numbers in ONNX.
const TYPES: [&str; 15] = [
    "UNDEFINED",
    "FLOAT",
    "INT",
    "STRING",
    "TENSOR",
    "GRAPH",
    "FLOATS",
    "INTS",
    "STRINGS",
    "TENSORS",
    "GRAPHS",
    "SPARSE_TENSOR",
    "SPARSE_TENSORS",
    "TYPE_PROTO",
    "TYPE_PROTOS",
];

/// The number of an attribute's type, which is one for all operators but one.
fn type_of(operator: &str, attribute: &str) -> i32 {
    match attribute {
        "value" if operator == "Pad" => 1,
        "alpha" | "beta" | "epsilon" | "gamma" | "max" | "min" | "momentum" | "ratio" | "value_float" => 1,
        "approximate" | "auto_pad" | "mode" | "round_mode" => 3,
        "value" => 4,
        "value_floats" => 6,
        "axes" | "dilations" | "kernel_shape" | "pads" | "perm" | "strides" | "value_ints" => 7,
        _ => 2,
    }
}

/// The names of the operators that are read.
pub fn names() -> impl Iterator<Item = &'static str> {
    OPERATORS.iter().map(|operator| operator.name)
}

/// Refuses inputs and attributes that an operator does not have: whoever wrote them means something by them.
pub fn check(node: &NodeProto) -> Result<(), Fault> {
    let Some(operator) = OPERATORS.iter().find(|operator| operator.name == node.op_type) else { return Ok(()) };
    // Those that are left out at the end may be there without a name.
    let found = node.input.iter().rposition(|input| !input.is_empty()).map_or(0, |last| last + 1);
    let [least, most] = operator.inputs;
    if !(least..=most).contains(&found) {
        let expected = match most {
            ANY => format!("at least {least}"),
            most if most == least => format!("{least}"),
            most => format!("{least} to {most}"),
        };
        return Err(Fault::new(format!("found {found} inputs, expected {expected}")));
    }
    for (index, attribute) in node.attribute.iter().enumerate() {
        let name = attribute.name.as_str();
        let wrong = |reason: String| Err(Fault::new(format!("its attribute {name:?} {reason}")));
        if !operator.attributes.contains(&name) {
            let known = operator.attributes.join(", ");
            return wrong(format!("is not known, expected {}", if known.is_empty() { "none" } else { &known }));
        }
        if node.attribute[..index].iter().any(|other| other.name == name) {
            return wrong("is there twice, expected once".into());
        }
        let text =
            |number: i32| usize::try_from(number).ok().and_then(|number| TYPES.get(number)).unwrap_or(&"another");
        let expected = type_of(operator.name, name);
        if attribute.r#type != expected {
            return wrong(format!("is of type {}, expected {}", text(attribute.r#type), text(expected)));
        }
        if !attribute.ref_attr_name.is_empty() {
            let of = &attribute.ref_attr_name;
            return wrong(format!("is the argument {of:?} of a function, expected a value"));
        }
        if let Some(number) = [attribute.f].iter().chain(&attribute.floats).find(|number| !number.is_finite()) {
            return wrong(format!("is {number}, expected a finite number"));
        }
    }
    Ok(())
}

/// What to try instead of operators that are not read, or not as they are.
const ADVICE: [(&[&str], &str); 12] = [
    (
        &["LogSoftmax", "QLinearSoftmax", "Softmax"],
        "end the network in its logits, (pictures, classes), or in one Softmax over its classes",
    ),
    (
        &["Concat", "Flatten", "Gather", "Reshape", "Shape", "Slice", "Squeeze", "Transpose", "Unsqueeze"],
        "export with a fixed size and a batch of 1, and fold what is constant with `onnxsim IN.onnx OUT.onnx`",
    ),
    (
        &["DequantizeLinear", "QuantizeLinear"],
        "quantise with onnxruntime's quantize_static (QuantFormat.QDQ, one scale for an activation), or import the float network",
    ),
    (
        &["AveragePool", "MaxPool", "Pad"],
        "`docs/models.md` says which pools and pads are read: change it to one of these, train on, and export it again",
    ),
    (
        &["ConvInteger", "DynamicQuantizeLinear", "DynamicQuantizeMatMul", "MatMulInteger"],
        "its scales depend on the picture: quantise the network statically (onnxruntime's quantize_static), or import the float one",
    ),
    (
        &["ArgMax", "ArgMin", "NonMaxSuppression", "TopK", "ZipMap"],
        "it works on the answer: export the network up to its logits, without it",
    ),
    (
        &["If", "Loop", "Scan"],
        "export the network without control flow: in eval mode, with torch.onnx.export's tracing, for pictures of one size",
    ),
    (
        &[
            "GroupNormalization",
            "InstanceNormalization",
            "LayerNormalization",
            "LpNormalization",
            "LRN",
            "MeanVarianceNormalization",
        ],
        "it divides by what the picture itself gives: take a network with batch normalisation, or train it so",
    ),
    (
        &["Attention", "Einsum", "GRU", "LSTM", "MultiHeadAttention", "RNN"],
        "attention and recurrence cannot be computed exactly here: take a convolutional network, such as EfficientNet-Lite or MobileNetV2",
    ),
    (
        &["ConvTranspose", "DepthToSpace", "GridSample", "Resize", "SpaceToDepth", "Upsample"],
        "it changes a picture's size: leave a Resize at the beginning to Ocelli, which resizes each picture; others have no like here",
    ),
    (
        &[
            "Abs",
            "BitShift",
            "Ceil",
            "Cos",
            "Floor",
            "Log",
            "Mod",
            "Pow",
            "Reciprocal",
            "Round",
            "Sign",
            "Sin",
            "Sqrt",
            "Tan",
        ],
        "as a function of its own it is not read: export the activation in whole, as Gelu, HardSwish or Mish with opset 20, or take another",
    ),
    (
        &["Equal", "Expand", "Greater", "Less", "Range", "ScatterND", "Split", "Tile", "Where"],
        "most often it computes shapes: export with a fixed size and a batch of 1, and fold what is constant with `onnxsim IN.onnx OUT.onnx`",
    ),
];

/// What to try instead of an operator that is not read, or not as it is.
pub fn advice(operator: &str) -> &'static str {
    let found = ADVICE.iter().find(|(operators, _)| operators.contains(&operator));
    found.map_or(
        "`docs/models.md` says which networks can be imported: change that part, train on, and export it again",
        |(_, advice)| advice,
    )
}
