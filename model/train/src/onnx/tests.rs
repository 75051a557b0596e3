//! What is refused, by operator, node and reason. Whole files are in `tests/onnx.rs`.

use super::proto::{
    AttributeProto, DimensionProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use super::*;
use ocelli_model::{ReferenceBackend, reference};

use crate::dataset::Dataset;
use crate::quantize::{Naming, Pictures, quantize_imported};

fn node(operator: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: operator.into(),
        name: format!("/{output}"),
        input: inputs.iter().map(|name| (*name).into()).collect(),
        output: vec![output.into()],
        ..NodeProto::default()
    }
}

fn ints(mut node: NodeProto, name: &str, values: &[i64]) -> NodeProto {
    let (i, ints, r#type) = match values {
        [value] => (*value, vec![], 2),
        values => (0, values.to_vec(), 7),
    };
    node.attribute.push(AttributeProto { name: name.into(), i, ints, r#type, ..AttributeProto::default() });
    node
}

fn text(mut node: NodeProto, name: &str, text: &str) -> NodeProto {
    let s = text.as_bytes().to_vec();
    node.attribute.push(AttributeProto { name: name.into(), s, r#type: 3, ..AttributeProto::default() });
    node
}

fn float(mut node: NodeProto, name: &str, f: f32) -> NodeProto {
    node.attribute.push(AttributeProto { name: name.into(), f, r#type: 1, ..AttributeProto::default() });
    node
}

fn tensor(name: &str, dims: &[i64]) -> TensorProto {
    let count = dims.iter().product::<i64>() as usize;
    let float_data = (0..count).map(|index| (index as f32 * 0.37).sin()).collect();
    TensorProto { name: name.into(), dims: dims.to_vec(), data_type: 1, float_data, ..TensorProto::default() }
}

fn whole(name: &str, numbers: &[i64]) -> TensorProto {
    let (dims, int64_data) = (vec![numbers.len() as i64], numbers.to_vec());
    TensorProto { name: name.into(), dims, data_type: 7, int64_data, ..TensorProto::default() }
}

/// A tensor of bytes or booleans, by the number of its type.
fn bytes(name: &str, dims: &[i64], data_type: i32, numbers: &[i32]) -> TensorProto {
    let (dims, int32_data) = (dims.to_vec(), numbers.to_vec());
    TensorProto { name: name.into(), dims, data_type, int32_data, ..TensorProto::default() }
}

fn value(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = dims.iter().map(|dim| DimensionProto { dim_value: *dim, ..DimensionProto::default() }).collect();
    let tensor_type = Some(TensorTypeProto { elem_type: 1, shape: Some(TensorShapeProto { dim }) });
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type }) }
}

/// A convolution, a Relu, a flattening and a linear layer, over 1x4x4.
fn graph() -> GraphProto {
    GraphProto {
        node: vec![
            node("Conv", &["x", "w1"], "c"),
            node("Relu", &["c"], "r"),
            node("Flatten", &["r"], "f"),
            ints(node("Gemm", &["f", "w2"], "y"), "transB", &[1]),
        ],
        initializer: vec![
            tensor("w1", &[2, 1, 3, 3]),
            tensor("w2", &[3, 8]),
            tensor("k", &[2, 1, 1]),
            tensor("one", &[]),
        ],
        input: vec![value("x", &[0, 1, 4, 4])],
        output: vec![value("y", &[0, 3])],
        ..GraphProto::default()
    }
}

/// A file with the operators of a version.
fn file(graph: GraphProto, version: i64) -> ModelProto {
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version }];
    ModelProto { producer_name: "a test".into(), graph: Some(graph), opset_import, ..ModelProto::default() }
}

fn read(graph: GraphProto) -> Result<OnnxNetwork, OnnxError> {
    read_of(17, graph)
}

fn read_of(version: i64, graph: GraphProto) -> Result<OnnxNetwork, OnnxError> {
    let bytes = file(graph, version).encode_to_vec();
    import(&bytes, &Preprocessing::default(), &mut |_| Err(io::ErrorKind::NotFound.into()))
}

fn refuse(change: impl FnOnce(&mut GraphProto)) -> String {
    let mut graph = graph();
    change(&mut graph);
    read(graph).expect_err("it is refused").to_string()
}

fn names(network: &OnnxNetwork) -> Vec<String> {
    network.layers().into_iter().map(|(name, _)| name).collect()
}

#[test]
fn the_plain_graph_is_read() {
    let imported = read(graph()).unwrap();
    assert_eq!(
        (names(&imported), imported.scale, imported.producer.as_str()),
        (vec!["conv1".to_owned(), "linear1".into()], 1.0 / 255.0, "a test")
    );
}

#[test]
fn the_first_operator_that_is_not_supported_is_named() {
    let of = |said: String| {
        let supported = operators::names().collect::<Vec<_>>().join(", ");
        said.replace(&format!(" is not supported; supported are {supported}"), " is not supported; supported are (all)")
    };
    let said = refuse(|graph| {
        graph.node[1].op_type = "Resize".into();
        graph.node[3].op_type = "Einsum".into();
    });
    assert_eq!(of(said), "operator \"Resize\" (node \"/r\") is not supported; supported are (all)");
    let said = refuse(|graph| graph.node[0].domain = "com.example".into());
    assert_eq!(of(said), "operator \"com.example.Conv\" (node \"/c\") is not supported; supported are (all)");
    let said = refuse(|graph| graph.node[0].domain = "com.microsoft".into());
    assert_eq!(of(said), "operator \"com.microsoft.Conv\" (node \"/c\") is not supported; supported are (all)");
    let said = refuse(|graph| (graph.node[1].op_type, graph.node[1].name) = ("LRN".into(), String::new()));
    assert_eq!(of(said), "operator \"LRN\" (node \"r\") is not supported; supported are (all)");
}

/// What the operators mean is said by their version, and by nobody else.
#[test]
fn only_versions_that_are_known_are_read() {
    let said = |model: ModelProto| {
        let error =
            import(&model.encode_to_vec(), &Preprocessing::default(), &mut |_| Err(io::ErrorKind::NotFound.into()))
                .expect_err("it is refused");
        format!("{error}\n{}", error.hint())
    };
    let hint = "export it again with opset 17, or convert it with onnx.version_converter";
    let expected = |found: &str| format!("found {found} of ONNX's operators, expected one from 7 to 28\n{hint}");
    assert_eq!(said(file(graph(), 6)), expected("version 6"));
    assert_eq!(said(file(graph(), 29)), expected("version 29"));
    assert_eq!(said(ModelProto { opset_import: vec![], ..file(graph(), 17) }), expected("no version"));
    let twice = ["", "ai.onnx"].map(|domain| OperatorSetIdProto { domain: domain.into(), version: 17 });
    assert_eq!(said(ModelProto { opset_import: twice.to_vec(), ..file(graph(), 17) }), expected("versions [17, 17]"));
    let functions = vec![FunctionProto { name: "Relu".into(), domain: "ai.onnx".into() }];
    assert_eq!(
        said(ModelProto { functions, ..file(graph(), 17) }),
        "operator \"Relu\" (node \"/r\") is a function of the file itself, expected ONNX's own operator\n\
         put what its functions do in their place with onnx.inliner.inline_local_functions"
    );
}

/// Each operator that is not read has something to try instead.
#[test]
fn what_to_try_is_said_of_each_refusal() {
    let table = [
        ("ArgMax", "it works on the answer: export the network up to its logits, without it"),
        (
            "ConvInteger",
            "its scales depend on the picture: quantise the network statically (onnxruntime's quantize_static), or import the float one",
        ),
        (
            "Expand",
            "most often it computes shapes: export with a fixed size and a batch of 1, and fold what is constant with `onnxsim IN.onnx OUT.onnx`",
        ),
        ("Hardmax", CHANGE),
        (
            "LSTM",
            "attention and recurrence cannot be computed exactly here: take a convolutional network, such as EfficientNet-Lite or MobileNetV2",
        ),
        (
            "LayerNormalization",
            "it divides by what the picture itself gives: take a network with batch normalisation, or train it so",
        ),
        (
            "Loop",
            "export the network without control flow: in eval mode, with torch.onnx.export's tracing, for pictures of one size",
        ),
        (
            "Pow",
            "as a function of its own it is not read: export the activation in whole, as Gelu, HardSwish or Mish with opset 20, or take another",
        ),
        (
            "Upsample",
            "it changes a picture's size: leave a Resize at the beginning to Ocelli, which resizes each picture; others have no like here",
        ),
    ];
    for (operator, expected) in table {
        let mut graph = graph();
        graph.node[1].op_type = operator.into();
        let error = read(graph).expect_err("it is refused");
        assert!(matches!(&error, OnnxError::Unsupported { operator: found, .. } if found == operator), "{error}");
        assert_eq!(error.hint(), expected, "{operator}");
    }
}

/// Has an operator work on the list of dimensions of the first convolution's output.
fn take(graph: &mut GraphProto, operator: &str, inputs: &[TensorProto]) {
    let names: Vec<&str> = std::iter::once("s").chain(inputs.iter().map(|input| &*input.name)).collect();
    graph.node.splice(1..1, [node("Shape", &["c"], "s"), node(operator, &names, "g")]);
    graph.initializer.extend_from_slice(inputs);
}

/// What to try, by what was wrong.
const CHANGE: &str =
    "`docs/models.md` says which networks can be imported: change that part, train on, and export it again";
const SHAPES: &str =
    "export with a fixed size and a batch of 1, and fold what is constant with `onnxsim IN.onnx OUT.onnx`";
const POOLS: &str =
    "`docs/models.md` says which pools and pads are read: change it to one of these, train on, and export it again";
const QUANTISE: &str = "quantise with onnxruntime's quantize_static (QuantFormat.QDQ, one scale for an activation), or import the float network";
const ANEW: &str = "export the network anew, as floats of 32 bits";
const LOGITS: &str = "export the network up to its logits, as its only output";
const ONE_SIZE: &str = "export the network for one picture of a fixed size: torch.onnx.export without dynamic_axes";
const SOFTMAX: &str = "end the network in its logits, (pictures, classes), or in one Softmax over its classes";

type Change = fn(&mut GraphProto);

/// Has each change refused, by its whole text and by what is said to try.
fn refused(table: &[(Change, &str, &str)]) {
    for (change, expected, hint) in table {
        let mut graph = graph();
        change(&mut graph);
        let error = read(graph).err().unwrap_or_else(|| panic!("it is not refused: {expected}"));
        assert_eq!((error.to_string().as_str(), error.hint()), (*expected, *hint));
    }
}

/// Has the network read a constant besides what a node reads already.
fn with(graph: &mut GraphProto, node: usize, constant: TensorProto) {
    graph.node[node].input.push(constant.name.clone());
    graph.initializer.push(constant);
}

#[test]
fn nodes_that_are_not_as_expected_are_named() {
    refused(&[
        (
            |graph| drop(graph.node.remove(1)),
            "operator \"Flatten\" (node \"/f\"): input \"r\" is given by no node before",
            SHAPES,
        ),
        (
            |graph| graph.node[0] = ints(graph.node[0].clone(), "group", &[2]),
            "operator \"Conv\" (node \"/c\"): the weights are [2, 1, 3, 3] over [-1, 1, 4, 4], expected (channels, 0.5, rows, columns) of 2 groups",
            CHANGE,
        ),
        (
            |graph| graph.node[0] = ints(graph.node[0].clone(), "strides", &[1, 0]),
            "operator \"Conv\" (node \"/c\"): strides is [1, 0], expected two numbers, of rows and columns",
            CHANGE,
        ),
        (
            |graph| graph.node[0] = ints(graph.node[0].clone(), "dilations", &[2, 2]),
            "operator \"Conv\" (node \"/c\"): a kernel of 5x5 is larger than the 1x4x4 it runs over",
            CHANGE,
        ),
        (
            |graph| graph.node[0] = ints(graph.node[0].clone(), "pads", &[3, 3, 3, 3]),
            "operator \"Conv\" (node \"/c\"): pads are [3, 3, 3, 3], expected four numbers below the kernel's [3, 3]",
            CHANGE,
        ),
        (
            |graph| graph.initializer[0] = tensor("w1", &[2, 1, 5, 5]),
            "operator \"Conv\" (node \"/c\"): a kernel of 5x5 is larger than the 1x4x4 it runs over",
            CHANGE,
        ),
        (
            |graph| graph.initializer[0] = tensor("w1", &[2, 3, 3, 3]),
            "operator \"Conv\" (node \"/c\"): the weights are [2, 3, 3, 3] over [-1, 1, 4, 4], expected (channels, 1, rows, columns) of 1 groups",
            CHANGE,
        ),
        (
            |graph| graph.initializer[1] = tensor("w2", &[3, 9]),
            "operator \"Gemm\" (node \"/y\"): the weights are [3, 9] over [-1, 8], expected a flattened activation of 8 and as many weights for each output",
            CHANGE,
        ),
        (
            |graph| graph.initializer[1].float_data[4] = f32::NAN,
            "tensor \"w2\" has an element that is not a finite number",
            ANEW,
        ),
        (
            |graph| graph.initializer[1].float_data.truncate(23),
            "tensor \"w2\" has 23 elements, expected 24 as its shape [3, 8] says",
            ANEW,
        ),
        (
            |graph| graph.initializer[1].dims = vec![i64::MAX, i64::MAX],
            "tensor \"w2\" has the shape [9223372036854775807, 9223372036854775807]",
            ANEW,
        ),
        (
            |graph| graph.initializer[1].data_type = 8,
            "tensor \"w2\" has elements of type 8, expected float (1), uint8 (2), int8 (3), int32 (6), int64 (7), bool (9), float16 (10), double (11) or bfloat16 (16)",
            ANEW,
        ),
        (
            |graph| graph.node.insert(1, node("Mul", &["x", "c"], "m")),
            "operator \"Mul\" (node \"/m\"): it multiplies activations of [-1, 1, 4, 4] and [-1, 2, 2, 2], expected the same dimensions, or one row and column in the second",
            CHANGE,
        ),
        (
            |graph| graph.node.insert(1, node("Add", &["x", "c"], "m")),
            "operator \"Add\" (node \"/m\"): it adds activations of [-1, 1, 4, 4] and [-1, 2, 2, 2], expected the same dimensions",
            CHANGE,
        ),
        (
            |graph| graph.node.insert(1, node("Div", &["x", "c"], "m")),
            "operator \"Div\" (node \"/m\"): it joins two activations, expected an activation and a constant",
            CHANGE,
        ),
        (
            |graph| graph.node[1] = node("MaxPool", &["x"], "r"),
            "operator \"MaxPool\" (node \"/r\"): kernel_shape is missing, expected two numbers, of rows and columns",
            POOLS,
        ),
        (
            |graph| {
                let pool = ints(node("AveragePool", &["x"], "r"), "kernel_shape", &[2, 2]);
                graph.node[1] = ints(pool, "pads", &[1, 1, 0, 0]);
            },
            "operator \"AveragePool\" (node \"/r\"): pads are [1, 1, 0, 0] and ceil_mode is 0, and what is outside is left out of the mean; expected windows that lie within, or count_include_pad 1",
            POOLS,
        ),
        (
            |graph| graph.node[2] = ints(graph.node[2].clone(), "axis", &[2]),
            "operator \"Flatten\" (node \"/f\"): axis is 2 of 4 dimensions, expected 1 or -3",
            SHAPES,
        ),
        (
            |graph| graph.node[1] = node("QuantizeLinear", &["c", "one"], "r"),
            "operator \"QuantizeLinear\" (node \"/r\"): the scale of an activation is [0.0], expected one number above 0",
            QUANTISE,
        ),
        (
            |graph| {
                graph.initializer[3].float_data[0] = 0.5;
                graph.node[1] = node("QuantizeLinear", &["c", "one"], "r");
            },
            "operator \"Gemm\" (node \"/y\"): it reads the bytes of a QuantizeLinear, expected a DequantizeLinear between the two",
            CHANGE,
        ),
        (
            |graph| {
                graph.initializer[3].float_data[0] = 0.5;
                graph.node[1] = node("DequantizeLinear", &["c", "one"], "r");
            },
            "operator \"DequantizeLinear\" (node \"/r\"): it reads what is not quantised, expected the bytes of QuantizeLinear",
            QUANTISE,
        ),
        (
            |graph| {
                graph.initializer.push(tensor("pads", &[8]));
                graph.node[1] = node("Pad", &["c", "pads"], "r");
            },
            "operator \"Pad\" (node \"/r\"): its pads are no whole numbers",
            POOLS,
        ),
        (
            |graph| {
                graph.initializer.extend([whole("pads", &[1, 1, 1, 1]), whole("axes", &[2, 4])]);
                graph.node[1] = node("Pad", &["c", "pads", "", "axes"], "r");
            },
            "operator \"Pad\" (node \"/r\"): its axes are [2, 4] with the pads [1, 1, 1, 1], expected two pads for each of four axes",
            POOLS,
        ),
        (
            |graph| take(graph, "Gather", &[whole("at", &[-5])]),
            "operator \"Gather\" (node \"/g\"): it takes number -5 of 4 dimensions, which is not there",
            SHAPES,
        ),
        (
            |graph| take(graph, "Gather", &[tensor("at", &[1])]),
            "operator \"Gather\" (node \"/g\"): input 1 is a constant of [1], expected a list of at most 16 whole numbers",
            SHAPES,
        ),
        (
            |graph| take(graph, "Concat", &[TensorProto { dims: vec![2, 1], ..whole("at", &[1, 2]) }]),
            "operator \"Concat\" (node \"/g\"): input 1 is a constant of [2, 1], expected a list of at most 16 whole numbers",
            SHAPES,
        ),
        (
            |graph| {
                take(
                    graph,
                    "Slice",
                    &[whole("from", &[0]), whole("to", &[4]), whole("axes", &[0]), whole("steps", &[2])],
                )
            },
            "operator \"Slice\" (node \"/g\"): its steps are [2], expected 1",
            SHAPES,
        ),
        (
            |graph| take(graph, "Slice", &[whole("from", &[0, 0]), whole("to", &[1, 1])]),
            "operator \"Slice\" (node \"/g\"): it starts at [0, 0] and ends at [1, 1], expected a number each",
            SHAPES,
        ),
        (
            |graph| graph.output.clear(),
            "found 0 outputs; expected one output, a number for each class, or their Softmax",
            LOGITS,
        ),
        (
            |graph| graph.output[0].name = "r".into(),
            "found [-1, 2, 2, 2]; expected one output, a number for each class, or their Softmax",
            LOGITS,
        ),
        (
            |graph| graph.input[0] = value("x", &[1, 1, 0, 4]),
            "input \"x\" is [1, 1, 0, 4] (0: not fixed); expected one input of (pictures, channels, rows, columns) or (pictures, rows, columns, channels), with 1 or 3 channels and fixed numbers of rows and columns",
            ONE_SIZE,
        ),
        (
            |graph| graph.node[0] = ints(graph.node[0].clone(), "strides", &[-1, 1, 1]),
            "operator \"Conv\" (node \"/c\"): strides is [-1, 1, 1], expected two numbers, of rows and columns",
            CHANGE,
        ),
        (
            |graph| graph.node[0] = ints(graph.node[0].clone(), "pads", &[-1, 1, 1, 1, 1]),
            "operator \"Conv\" (node \"/c\"): pads are [-1, 1, 1, 1, 1], expected four numbers from 0 on",
            CHANGE,
        ),
        (
            |graph| {
                let conv = ints(graph.node[0].clone(), "pads", &[1, 0, 0, 0]);
                graph.node[0] = text(conv, "auto_pad", "VALID");
            },
            "operator \"Conv\" (node \"/c\"): pads are [1, 0, 0, 0] and auto_pad is \"VALID\", expected one of them",
            CHANGE,
        ),
        (
            |graph| graph.node[0] = text(graph.node[0].clone(), "auto_pad", "SAME"),
            "operator \"Conv\" (node \"/c\"): auto_pad is \"SAME\", expected one of ONNX's",
            CHANGE,
        ),
        (
            |graph| graph.node[0] = ints(graph.node[0].clone(), "kernel_shape", &[2, 2]),
            "operator \"Conv\" (node \"/c\"): kernel_shape is [2, 2], expected that of the weights, [2, 1, 3, 3]",
            CHANGE,
        ),
        (
            |graph| with(graph, 0, tensor("b1", &[1])),
            "operator \"Conv\" (node \"/c\"): the bias is [1], expected [2]",
            CHANGE,
        ),
        (
            |graph| with(graph, 3, tensor("b2", &[3, 1])),
            "operator \"Gemm\" (node \"/y\"): the third input is [3, 1], expected [3]",
            CHANGE,
        ),
        (
            |graph| {
                graph.node[3] = node("MatMul", &["f", "w2"], "y");
                with(graph, 3, tensor("b2", &[3]));
            },
            "operator \"MatMul\" (node \"/y\"): found 3 inputs, expected 2",
            CHANGE,
        ),
        (
            |graph| graph.node[1].input.push("c".into()),
            "operator \"Relu\" (node \"/r\"): found 2 inputs, expected 1",
            CHANGE,
        ),
        (
            |graph| graph.node[1] = node("Add", &["c", ""], "r"),
            "operator \"Add\" (node \"/r\"): found 1 inputs, expected 2",
            CHANGE,
        ),
        (
            |graph| graph.node[1] = node("QLinearConcat", &["c"], "r"),
            "operator \"QLinearConcat\" (node \"/r\"): found 1 inputs, expected at least 5",
            CHANGE,
        ),
        (
            |graph| graph.node[1] = ints(graph.node[1].clone(), "axis", &[1]),
            "operator \"Relu\" (node \"/r\"): its attribute \"axis\" is not known, expected none",
            CHANGE,
        ),
        (
            |graph| graph.node[3] = ints(graph.node[3].clone(), "broadcast", &[1]),
            "operator \"Gemm\" (node \"/y\"): its attribute \"broadcast\" is not known, expected alpha, beta, transA, transB",
            CHANGE,
        ),
        (
            |graph| graph.node[3] = ints(graph.node[3].clone(), "transB", &[0]),
            "operator \"Gemm\" (node \"/y\"): its attribute \"transB\" is there twice, expected once",
            CHANGE,
        ),
        (
            |graph| graph.node[3] = ints(graph.node[3].clone(), "alpha", &[2]),
            "operator \"Gemm\" (node \"/y\"): its attribute \"alpha\" is of type INT, expected FLOAT",
            CHANGE,
        ),
        (
            |graph| graph.node[3].attribute[0].r#type = 99,
            "operator \"Gemm\" (node \"/y\"): its attribute \"transB\" is of type another, expected INT",
            CHANGE,
        ),
        (
            |graph| graph.node[3].attribute[0].ref_attr_name = "turned".into(),
            "operator \"Gemm\" (node \"/y\"): its attribute \"transB\" is the argument \"turned\" of a function, expected a value",
            CHANGE,
        ),
        (
            |graph| graph.node[3] = float(graph.node[3].clone(), "alpha", f32::NAN),
            "operator \"Gemm\" (node \"/y\"): its attribute \"alpha\" is NaN, expected a finite number",
            CHANGE,
        ),
        (
            |graph| graph.node[3] = ints(graph.node[3].clone(), "transA", &[1]),
            "operator \"Gemm\" (node \"/y\"): transA is 1, expected 0",
            CHANGE,
        ),
        (
            |graph| graph.node.insert(2, node("Tanh", &["c"], "r")),
            "operator \"Tanh\" (node \"/r\"): it gives \"r\", which is there before, expected another name",
            CHANGE,
        ),
        (
            |graph| graph.node[0].output[0] = "k".into(),
            "operator \"Conv\" (node \"/c\"): it gives \"k\", which is there before, expected another name",
            CHANGE,
        ),
        (
            |graph| graph.node[0].output.push("c".into()),
            "operator \"Conv\" (node \"/c\"): it gives \"c\", which is there before, expected another name",
            CHANGE,
        ),
        (|graph| graph.initializer.push(tensor("w1", &[2, 1, 3, 3])), "found two tensors \"w1\", expected one", ANEW),
        (
            |graph| graph.initializer[1].raw_data = vec![0; 96],
            "tensor \"w2\" has its elements twice, expected once",
            ANEW,
        ),
        (
            |graph| {
                graph.initializer[1].float_data.clear();
                graph.initializer[1].raw_data = vec![0; 97];
            },
            "tensor \"w2\" has 97 bytes, expected a multiple of 4",
            ANEW,
        ),
        (
            |graph| graph.initializer[1] = bytes("w2", &[3, 8], 2, &[256; 24]),
            "tensor \"w2\" has the element 256, expected 0 to 255",
            ANEW,
        ),
        (
            |graph| {
                graph.node[1] = node("Clip", &["c", "", "k2"], "r");
                graph.initializer.push(tensor("k2", &[2]));
            },
            "operator \"Clip\" (node \"/r\"): a constant is [2], expected one number",
            CHANGE,
        ),
        (
            |graph| graph.node[1] = float(float(node("Clip", &["c"], "r"), "min", 2.0), "max", 1.0),
            "operator \"Clip\" (node \"/r\"): the bounds are 2 and 1, expected the lower one first",
            CHANGE,
        ),
        (
            |graph| {
                graph.node[1] = node("Dropout", &["c", "", "training"], "r");
                graph.initializer.push(bytes("training", &[], 9, &[1]));
            },
            "operator \"Dropout\" (node \"/r\"): its training_mode is true, expected false",
            CHANGE,
        ),
        (
            |graph| {
                graph.node[1] = node("BatchNormalization", &["c", "k2", "k2", "k2", "k2"], "r");
                graph.node[1].output.push("mean".into());
                graph.initializer.push(tensor("k2", &[2]));
            },
            "operator \"BatchNormalization\" (node \"/r\"): it gives 2 outputs as in training, expected one",
            CHANGE,
        ),
        (
            |graph| {
                let node = node("BatchNormalization", &["c", "k2", "k2", "k2", "k2"], "r");
                graph.node[1] = ints(node, "spatial", &[0]);
                graph.initializer.push(tensor("k2", &[2]));
            },
            "operator \"BatchNormalization\" (node \"/r\"): spatial is 0, expected 1",
            CHANGE,
        ),
        (
            |graph| graph.node[1] = text(node("Gelu", &["c"], "r"), "approximate", "fast"),
            "operator \"Gelu\" (node \"/r\"): approximate is \"fast\", expected \"none\" or \"tanh\"",
            CHANGE,
        ),
        (
            |graph| {
                let pool = ints(ints(node("MaxPool", &["x"], "r"), "kernel_shape", &[3, 3]), "strides", &[2, 2]);
                graph.node[1] = text(ints(pool, "ceil_mode", &[1]), "auto_pad", "VALID");
            },
            "operator \"MaxPool\" (node \"/r\"): ceil_mode is 1 and auto_pad \"VALID\", expected one of them, as they contradict each other",
            POOLS,
        ),
        (
            |graph| {
                let pool = ints(ints(node("MaxPool", &["x"], "r"), "kernel_shape", &[2, 2]), "dilations", &[2, 2]);
                graph.node[1] = pool;
            },
            "operator \"MaxPool\" (node \"/r\"): dilations are [2, 2], expected 1",
            POOLS,
        ),
        (
            |graph| {
                graph.node[1] = ints(node("Transpose", &["c"], "t"), "perm", &[0, 2, 3, 1]);
                graph.node.insert(2, node("GlobalAveragePool", &["t"], "r"));
            },
            "operator \"GlobalAveragePool\" (node \"/r\"): it runs over Nhwc, expected Nchw",
            CHANGE,
        ),
        (
            |graph| {
                graph.node[1] = ints(node("Transpose", &["c"], "t"), "perm", &[0, 2, 3, 1]);
                graph.node.insert(2, node("GlobalMaxPool", &["t"], "r"));
            },
            "operator \"GlobalMaxPool\" (node \"/r\"): it runs over Nhwc, expected Nchw",
            CHANGE,
        ),
        (
            |graph| {
                graph.node.insert(1, node("GlobalAveragePool", &["c"], "g"));
                graph.node.insert(2, ints(node("Transpose", &["g"], "t"), "perm", &[0, 2, 3, 1]));
                graph.node.insert(3, node("Mul", &["c", "t"], "m"));
            },
            "operator \"Mul\" (node \"/m\"): it multiplies activations of [-1, 2, 2, 2] and [-1, 1, 1, 2], expected the same \
             dimensions, or one row and column in the second",
            CHANGE,
        ),
        (
            |graph| {
                graph.node.insert(1, node("GlobalAveragePool", &["c"], "g"));
                graph.node.insert(2, ints(node("Transpose", &["g"], "t"), "perm", &[0, 2, 3, 1]));
                graph.node.insert(3, node("Mul", &["g", "t"], "m"));
            },
            "operator \"Mul\" (node \"/m\"): it multiplies activations of [-1, 2, 1, 1] and [-1, 1, 1, 2], expected the same \
             dimensions, or one row and column in the second",
            CHANGE,
        ),
        (
            |graph| {
                graph.node[1] = node("Add", &["c", "wide"], "r");
                graph.initializer.push(tensor("wide", &[1, 1, 1, 1, 1]));
            },
            "operator \"Add\" (node \"/r\"): a constant of [1, 1, 1, 1, 1] meets [-1, 2, 2, 2], expected no more dimensions",
            CHANGE,
        ),
        (
            |graph| {
                graph.node[1] = node("Add", &["c", "byte"], "r");
                graph.initializer.push(bytes("byte", &[], 2, &[1]));
            },
            "operator \"Add\" (node \"/r\"): it joins an activation and whole numbers, expected floats",
            CHANGE,
        ),
        (
            |graph| {
                graph.node.insert(0, node("Add", &["byte", "byte"], "sum"));
                graph.initializer.push(bytes("byte", &[], 2, &[200]));
            },
            "operator \"Add\" (node \"/sum\"): it combines bytes, expected floats or integers of 32 or 64 bits",
            CHANGE,
        ),
        (
            |graph| graph.node.insert(0, ints(node("Cast", &["one"], "byte"), "to", &[4])),
            "operator \"Cast\" (node \"/byte\"): it makes a constant elements of type 4, expected floats or integers",
            CHANGE,
        ),
        (
            |graph| {
                graph.initializer[3].float_data[0] = -1.5;
                graph.node.insert(0, ints(node("Cast", &["one"], "byte"), "to", &[2]));
            },
            "operator \"Cast\" (node \"/byte\"): it makes -1 an element of type 2, expected 0 to 255",
            CHANGE,
        ),
        (
            |graph| graph.node[1] = ints(node("Cast", &["c"], "r"), "to", &[6]),
            "operator \"Cast\" (node \"/r\"): it makes an activation elements of type 6, expected floats",
            CHANGE,
        ),
        (
            |graph| graph.node.insert(0, node("Flatten", &["one"], "flat")),
            "operator \"Flatten\" (node \"/flat\"): axis is 1 of 0 dimensions, expected some dimensions",
            SHAPES,
        ),
        (
            |graph| graph.node[2] = ints(node("Squeeze", &["r"], "f"), "axes", &[4, 2]),
            "operator \"Squeeze\" (node \"/f\"): it names axis 4 of 4 dimensions, expected -4 to 3",
            SHAPES,
        ),
        (
            |graph| graph.node[2] = ints(node("Squeeze", &["r"], "f"), "axes", &[0, 1]),
            "operator \"Squeeze\" (node \"/f\"): it leaves out axis 0 of [-1, 2, 2, 2], expected one of size 1",
            SHAPES,
        ),
        (
            |graph| {
                graph.node[2] = node("Squeeze", &["r"], "f");
                with(graph, 2, tensor("axes", &[1]));
            },
            "operator \"Squeeze\" (node \"/f\"): its axes are no whole numbers",
            SHAPES,
        ),
        (
            |graph| {
                graph.node[2] = ints(node("Squeeze", &["r"], "f"), "axes", &[2, 3]);
                with(graph, 2, whole("axes", &[1]));
            },
            "operator \"Squeeze\" (node \"/f\"): its axes are an attribute and an input, expected one of them",
            SHAPES,
        ),
        (
            |graph| graph.node[2] = ints(node("Unsqueeze", &["r"], "f"), "axes", &[-7, 1]),
            "operator \"Unsqueeze\" (node \"/f\"): it names axis -7 of 6 dimensions, expected -6 to 5",
            SHAPES,
        ),
        (
            |graph| graph.node[2] = ints(node("Unsqueeze", &["r"], "f"), "axes", &[2, -4]),
            "operator \"Unsqueeze\" (node \"/f\"): its axes are [2, -4], expected each of them once",
            SHAPES,
        ),
        (
            |graph| graph.node[2] = node("Unsqueeze", &["r"], "f"),
            "operator \"Unsqueeze\" (node \"/f\"): it names no axes",
            SHAPES,
        ),
        (
            |graph| {
                graph.initializer.extend([whole("pads", &[1, 1, 1, 1]), whole("axes", &[3, -1])]);
                graph.node[1] = node("Pad", &["c", "pads", "", "axes"], "r");
            },
            "operator \"Pad\" (node \"/r\"): its axes are [3, -1], expected each of them once",
            POOLS,
        ),
        (
            |graph| {
                graph.node[0] = ints(node("Pad", &["x"], "p"), "pads", &[0, 0, 1, 1, 0, 0, 1, 1]);
                graph.node[1] = node("Shape", &["p"], "s");
            },
            "operator \"Shape\" (node \"/s\"): it reorders or measures what a Pad puts zeros around, expected a convolution after a Pad",
            SHAPES,
        ),
        (
            |graph| {
                graph.node[0] = node("GlobalAveragePool", &["x"], "g");
                graph.node[1] = ints(node("Pad", &["g"], "p"), "pads", &[0, 0, 1, 1, 0, 0, 1, 1]);
                graph.node[2] = node("GlobalAveragePool", &["p"], "r");
            },
            "operator \"GlobalAveragePool\" (node \"/r\"): it reads what a Pad puts [1, 1, 1, 1] zeros around, expected a convolution after a Pad",
            CHANGE,
        ),
        (
            |graph| take(graph, "Gather", &[whole("at", &[-1]), whole("more", &[0])]),
            "operator \"Gather\" (node \"/g\"): found 3 inputs, expected 2",
            SHAPES,
        ),
        (
            |graph| take(graph, "Add", &[whole("one_more", &[1])]),
            "operator \"Add\" (node \"/g\"): it computes with the number of pictures, expected a number that is known",
            CHANGE,
        ),
        (
            |graph| take(graph, "Concat", &[whole("a", &[1; 13])]),
            "operator \"Concat\" (node \"/g\"): it joins more than 16 numbers, expected the dimensions of an activation",
            SHAPES,
        ),
        (
            |graph| take(graph, "Slice", &[whole("from", &[0]), whole("to", &[4]), whole("axes", &[1])]),
            "operator \"Slice\" (node \"/g\"): its axes are [1], expected 0",
            SHAPES,
        ),
        (
            |graph| {
                graph.node[2] = node("Reshape", &["r", "to"], "f");
                graph.initializer.push(whole("to", &[2, -1]));
            },
            "operator \"Reshape\" (node \"/f\"): it reshapes [-1, 2, 2, 2] to [2, -1], expected as many pictures first: -1, 0 or 1",
            SHAPES,
        ),
        (
            |graph| {
                graph.node[2] = node("Reshape", &["r", "to"], "f");
                graph.initializer.push(whole("to", &[-1, -1]));
            },
            "operator \"Reshape\" (node \"/f\"): it reshapes [-1, 2, 2, 2] to [-1, -1], expected as many pictures first: -1, 0 or 1",
            SHAPES,
        ),
        (
            |graph| {
                graph.node[2] = ints(node("Reshape", &["r", "to"], "f"), "allowzero", &[1]);
                graph.initializer.push(whole("to", &[0, 8]));
            },
            "operator \"Reshape\" (node \"/f\"): allowzero is 1, expected 0",
            SHAPES,
        ),
        (
            |graph| {
                graph.node.push(ints(node("Softmax", &["y"], "p"), "axis", &[0]));
                graph.output[0].name = "p".into();
            },
            "operator \"Softmax\" (node \"/p\"): it is over axis 0 of [-1, 3], expected that of all classes",
            SOFTMAX,
        ),
        (
            |graph| {
                graph.node.push(ints(node("Unsqueeze", &["y"], "u"), "axes", &[2, 3]));
                graph.node.push(node("LogSoftmax", &["u"], "p"));
                graph.output[0].name = "p".into();
            },
            "operator \"LogSoftmax\" (node \"/p\"): it is over axis -1 of [-1, 3, 1, 1], expected that of all classes",
            SOFTMAX,
        ),
    ]);
}

/// The layers, with what they read, of a graph whose Relu is replaced.
fn layers(replaced: Vec<NodeProto>) -> Vec<String> {
    let mut graph = graph();
    graph.node.splice(1..2, replaced);
    let layers = read(graph).unwrap().layers();
    layers.into_iter().map(|(name, from)| format!("{name} of {}", from.join(", "))).collect()
}

#[test]
fn branches_have_layers_of_their_own() {
    let expected = ["conv1 of input", "conv2 of input", "add1 of conv2, conv1", "linear1 of add1"];
    // To what is clamped, and to another sum, as where a block changes the number of channels.
    let (relu, conv) = (node("Relu", &["c"], "r1"), node("Conv", &["x", "w1"], "c2"));
    let of = |other: &str| [node("Add", &["c2", other], "a"), node("Relu", &["a"], "r")];
    let [add, last] = of("r1");
    assert_eq!(layers(vec![relu, conv.clone(), add, last]), expected);
    let [add, last] = of("c");
    assert_eq!(layers(vec![conv, add, last]), expected);
}

#[test]
fn functions_that_are_written_out_are_one_layer() {
    let expected = ["conv1 of input", "lookup1 of conv1", "linear1 of lookup1"];
    let swish = vec![node("Sigmoid", &["c"], "s"), node("Mul", &["c", "s"], "r")];
    assert_eq!(layers(swish), expected);
    assert_eq!(layers(vec![node("HardSwish", &["c"], "r")]), expected);
    // What else sees a sum keeps it as it is.
    let twice = vec![node("Relu", &["c"], "r1"), node("Add", &["c", "r1"], "r")];
    assert_eq!(layers(twice), expected);
    // A clamp is a part of the layer before it, behind a max-pool as well.
    let pool = ints(node("MaxPool", &["c"], "p"), "kernel_shape", &[1, 1]);
    assert_eq!(layers(vec![pool, node("Relu", &["p"], "r")]), ["conv1 of input", "linear1 of conv1"]);
}

#[test]
fn what_nothing_needs_is_left_out() {
    let branch = vec![node("Tanh", &["c"], "t"), node("GlobalMaxPool", &["t"], "g"), node("Relu", &["c"], "r")];
    assert_eq!(layers(branch), ["conv1 of input", "lookup1 of conv1", "linear1 of lookup1"]);
}

#[test]
fn every_side_is_padded_by_itself() {
    let mut graph = graph();
    graph.node[0] = ints(graph.node[0].clone(), "pads", &[1, 0, 0, 1]);
    graph.initializer[1] = tensor("w2", &[3, 18]);
    let direct = read(graph.clone()).unwrap();
    let pixels: Vec<u8> = (0..16).map(|i| i * 13 + 7).collect();
    // The same by a Pad before it.
    graph.node[0].attribute.clear();
    graph.node[0].input[0] = "p".into();
    graph.node.insert(0, ints(node("Pad", &["x"], "p"), "pads", &[0, 0, 1, 0, 0, 0, 0, 1]));
    let padded = read(graph).unwrap();
    assert_eq!(padded.run(&pixels), direct.run(&pixels));
    assert_eq!(names(&padded), names(&direct));
    // The same of some axes, in any order, and counted from either end.
    for (axes, pads) in
        [(&[2, 3][..], &[1, 0, 0, 1][..]), (&[-1, -2], &[0, 1, 1, 0]), (&[3, 1, 0, 2], &[0, 0, 0, 1, 1, 0, 0, 0])]
    {
        let mut graph = self::graph();
        graph.node[0].input[0] = "p".into();
        graph.initializer[1] = tensor("w2", &[3, 18]);
        graph.initializer.extend([whole("pads", pads), whole("axes", axes)]);
        graph.node.insert(0, node("Pad", &["x", "pads", "", "axes"], "p"));
        assert_eq!(read(graph).unwrap().run(&pixels), direct.run(&pixels), "{axes:?}");
    }
}

/// Constants are combined as ONNX does: what would be repeated along one dimension of several is refused.
#[test]
fn constants_are_combined_place_by_place() {
    let pixels: Vec<u8> = (0..16).map(|i| i * 13 + 7).collect();
    let with = |left: &[i64], right: &[i64]| {
        let mut graph = graph();
        graph.initializer.extend([tensor("a", left), tensor("b", right)]);
        graph.node.insert(1, node("Add", &["a", "b"], "ab"));
        graph.node.insert(2, node("Add", &["c", "ab"], "m"));
        graph.node[4].input[0] = "m".into();
        read(graph).map(|network| network.run(&pixels)).map_err(|error| error.to_string())
    };
    let plain = with(&[2, 1, 1], &[2, 1, 1]).unwrap();
    assert_eq!(with(&[1, 2, 1, 1], &[2, 1, 1]).unwrap(), plain);
    assert_ne!(with(&[2, 1, 1], &[]).unwrap(), plain);
    for (left, right) in [(&[2, 1, 1][..], &[1, 2, 1][..]), (&[2, 1], &[2]), (&[2, 1, 1], &[3, 1, 1]), (&[2, 3], &[3])]
    {
        let said = with(left, right).unwrap_err();
        let expected = format!(
            "operator \"Add\" (node \"/ab\"): it combines constants of {left:?} and {right:?}, expected the same number of elements in \
             the same places, or one"
        );
        assert_eq!(said, expected);
    }
}

#[test]
fn an_axis_is_counted_from_either_end() {
    let pixels: Vec<u8> = (0..16).map(|i| i * 13 + 7).collect();
    let run = |nodes: Vec<NodeProto>, inputs: i64| {
        let mut graph = graph();
        graph.node.splice(2..3, nodes);
        graph.initializer[1] = tensor("w2", &[3, inputs]);
        read(graph).unwrap().run(&pixels)
    };
    let flatten = |axis| vec![ints(node("Flatten", &["r"], "f"), "axis", &[axis])];
    assert_eq!(run(flatten(-3), 8), run(flatten(1), 8));
    let mean = |axes: &[i64]| {
        let mean = ints(node("ReduceMean", &["r"], "m"), "axes", axes);
        vec![mean, ints(node("Squeeze", &["m"], "f"), "axes", axes)]
    };
    assert_eq!(run(mean(&[-1, -2]), 2), run(mean(&[2, 3]), 2));
    assert_eq!(run(mean(&[3, -2]), 2), run(mean(&[2, 3]), 2));
    let join = |axis| vec![ints(node("Concat", &["r", "r"], "j"), "axis", &[axis]), node("Flatten", &["j"], "f")];
    assert_eq!(run(join(-3), 16), run(join(1), 16));
}

/// What is easily read otherwise, against what onnxruntime 1.32.0 answered for the same networks.
#[test]
fn what_is_easily_read_otherwise_has_the_values_of_onnxruntime() {
    let pixels: Vec<u8> = (0..16).map(|i| i * 13 + 7).collect();
    let flat_and_linear =
        |from: &str| vec![node("Flatten", &[from], "f"), ints(node("Gemm", &["f", "w2"], "y"), "transB", &[1])];
    let check = |what: &str, version: i64, change: &dyn Fn(&mut GraphProto), expected: &[f32], within: f32| {
        let mut graph = graph();
        change(&mut graph);
        let found = read_of(version, graph).unwrap_or_else(|error| panic!("{what}: {error}")).run(&pixels);
        let same = |(a, b): (&f32, &f32)| (a - b).abs() < within;
        assert!(found.len() == expected.len() && found.iter().zip(expected).all(same), "{what}: {found:?}");
    };
    let of_type = |graph: &mut GraphProto, kind: i32| {
        graph.input[0].r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().elem_type = kind;
    };
    let number = |name: &str, number: f32| TensorProto { float_data: vec![number], ..tensor(name, &[]) };
    let plain = [-1.280_819, 3.239_463, -5.091_577];

    // Classes in the order of rows, columns and channels.
    let change = |graph: &mut GraphProto| {
        let turned = ints(node("Transpose", &["c"], "t"), "perm", &[0, 2, 3, 1]);
        graph.node.splice(1.., [turned, node("Reshape", &["t", "to"], "y")]);
        graph.initializer.push(whole("to", &[0, -1]));
    };
    let expected = [1.623_074, -1.412_119, 1.897_856, -1.686_724, 2.722_204, -2.510_541, 2.996_986, -2.785_147];
    check("classes of rows first", 17, &change, &expected, 1e-4);

    // Of the size that a Pad before it has made.
    for (mode, expected) in
        [("SAME_UPPER", [-2.310_941, 2.960_039, -3.511_794]), ("SAME_LOWER", [-0.338_288, 1.411_633, -2.438_558])]
    {
        let change = |graph: &mut GraphProto| {
            let conv = ints(node("Conv", &["p", "w1"], "c"), "strides", &[3, 3]);
            let pad = ints(node("Pad", &["x"], "p"), "pads", &[0, 0, 0, 0, 0, 0, 1, 1]);
            graph.node = [vec![pad, text(conv, "auto_pad", mode)], flat_and_linear("c")].concat();
        };
        check(mode, 10, &change, &expected, 1e-4);
    }

    // Without a zero point that of its type, 0.
    let change = |graph: &mut GraphProto| {
        graph.node = [vec![node("DequantizeLinear", &["x", "s"], "c")], flat_and_linear("c")].concat();
        graph.initializer[1] = tensor("w2", &[3, 16]);
        graph.initializer.push(number("s", 0.01));
        of_type(graph, element::INT8);
    };
    check("i8 without a zero point", 17, &change, &[-5.592_404, -4.552_611, -2.918_884], 1e-4);
    let change = |graph: &mut GraphProto| {
        let bytes = ints(node("QuantizeLinear", &["c", "s"], "q"), "output_dtype", &[3]);
        graph.node.splice(1..3, [bytes, node("DequantizeLinear", &["q", "s"], "d"), node("Flatten", &["d"], "f")]);
        graph.initializer.push(number("s", 0.01));
    };
    // Clamped to -1.28..=1.27, and rounded to a hundredth, which is not seen in floats.
    check("bytes of another type", 21, &change, &[-1.742_406, 2.807_684, -3.780_632], 0.05);

    // Its alpha is of what is added, too.
    let change = |graph: &mut GraphProto| {
        let product = node("QGemm", &["f", "s", "", "b", "s", "", "bias"], "y");
        let product = float(ints(product, "transB", &[1]), "alpha", 2.0);
        graph.node = vec![node("Flatten", &["x"], "f"), NodeProto { domain: "com.microsoft".into(), ..product }];
        let weights: Vec<i32> = (0..48).map(|i| i * 37 % 127 - 63).collect();
        graph.initializer.extend([
            number("s", 0.01),
            bytes("b", &[3, 16], 3, &weights),
            bytes("bias", &[3], 6, &[100_000, -5000, 7000]),
        ]);
        of_type(graph, element::UINT8);
    };
    check("QGemm with an alpha", 17, &change, &[18.087, -1.1886, 1.9198], 1e-3);

    // Weights of bytes with other dimensions.
    let change = |graph: &mut GraphProto| {
        graph.node = vec![
            node("Reshape", &["wb", "to"], "wr"),
            node("DequantizeLinear", &["wr", "s"], "w"),
            node("Conv", &["x", "w"], "c"),
            node("Flatten", &["c"], "y"),
        ];
        graph.initializer.extend([
            bytes("wb", &[2, 1, 3, 1], 3, &[10, -20, 30, -40, 50, 60]),
            whole("to", &[2, 1, 1, -1]),
            number("s", 0.01),
        ]);
    };
    let expected = [
        0.025_882, 0.036_078, 0.066_667, 0.076_863, 0.107_451, 0.117_647, 0.148_235, 0.158_431, 0.105_882, 0.141_569,
        0.248_627, 0.284_314, 0.391_373, 0.427_059, 0.534_118, 0.569_804,
    ];
    check("bytes that are reshaped", 17, &change, &expected, 1e-4);

    // Eight pictures at once, and each by itself.
    let eight = |to: &'static [i64]| {
        move |graph: &mut GraphProto| {
            graph.input[0] = value("x", &[8, 1, 4, 4]);
            graph.node[2] = node("Reshape", &["r", "to"], "f");
            graph.node[1].op_type = "Identity".into();
            graph.initializer.push(whole("to", to));
        }
    };
    for to in [&[8, -1][..], &[8, 8], &[-1, 8], &[0, -1], &[0, 8]] {
        check("a batch of 8", 17, &eight(to), &plain, 1e-4);
    }
    for to in [&[1, -1][..], &[4, -1], &[16, -1], &[64, -1], &[-1, 16], &[-1, 4], &[8, 4]] {
        let mut graph = graph();
        eight(to)(&mut graph);
        let expected = if to[0] > 0 && to[0] != 8 {
            "expected as many pictures first: -1, 0 or 8"
        } else {
            "expected to flatten (-1: pictures)"
        };
        let expected = format!("operator \"Reshape\" (node \"/f\"): it reshapes [-1, 2, 2, 2] to {to:?}, {expected}");
        assert_eq!(read(graph).unwrap_err().to_string(), expected);
    }

    // A dropout that drops nothing, and a softmax of all classes by the rule of each version.
    let change = |graph: &mut GraphProto| {
        graph.node[1] = node("Dropout", &["c", "", "training"], "r");
        graph.initializer.push(bytes("training", &[], 9, &[0]));
    };
    check("a dropout", 13, &change, &plain, 1e-4);
    for version in [12, 13] {
        let change = |graph: &mut GraphProto| {
            graph.node[1].op_type = "Identity".into();
            graph.node.push(node("Softmax", &["y"], "p"));
            graph.output[0].name = "p".into();
        };
        check("a softmax", version, &change, &plain, 1e-4);
    }
    let change = |graph: &mut GraphProto| {
        graph.node[1].op_type = "Identity".into();
        graph.node.push(ints(node("Unsqueeze", &["y"], "u"), "axes", &[2, 3]));
        graph.node.push(node("Softmax", &["u"], "p"));
        graph.output[0].name = "p".into();
    };
    check("a softmax of what is left before version 13", 12, &change, &plain, 1e-4);
}

#[test]
fn pixels_are_what_the_first_constant_takes_them_for() {
    let scale = |operator: &str, number: f32| {
        let mut graph = graph();
        graph.node.insert(0, node(operator, &["x", "k1"], "s"));
        graph.node[1].input[0] = "s".into();
        let raw_data = number.to_le_bytes().to_vec();
        graph.initializer.push(TensorProto { name: "k1".into(), data_type: 1, raw_data, ..TensorProto::default() });
        read(graph).unwrap().scale
    };
    let table = [("Div", 255.0), ("Mul", 1.0 / 255.0), ("Mul", 0.00784), ("Sub", 127.5)];
    assert!(table.iter().all(|(operator, number)| scale(operator, *number) == 1.0));
    let table = [("Div", 0.225), ("Mul", 4.4), ("Sub", 0.485), ("Add", -0.5)];
    assert!(table.iter().all(|(operator, number)| scale(operator, *number) == 1.0 / 255.0));
    // Its type says it too, and more surely.
    let of_type = |elem_type: i32| {
        let mut graph = graph();
        graph.input[0].r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().elem_type = elem_type;
        read(graph)
    };
    let pixels: Vec<u8> = (0..16).map(|i| i * 13 + 7).collect();
    let floats = read(graph()).unwrap();
    let bytes = of_type(element::UINT8).unwrap();
    assert_eq!((bytes.scale, bytes.reads_bytes, floats.reads_bytes), (1.0, true, false));
    assert_ne!(bytes.run(&pixels), floats.run(&pixels));
    // i8 is 128 less.
    let moved: Vec<u8> = pixels.iter().map(|pixel| pixel + 20).collect();
    assert_ne!(of_type(element::INT8).unwrap().run(&moved), bytes.run(&moved));
    let said = of_type(element::INT64).unwrap_err().to_string();
    assert_eq!(
        said,
        "input \"x\" has elements of type 7, not floats or bytes; expected one input of (pictures, channels, rows, columns) or \
         (pictures, rows, columns, channels), with 1 or 3 channels and fixed numbers of rows and columns"
    );
}

#[test]
fn tensors_beside_the_file_are_read_from_its_folder_only() {
    let mut graph = graph();
    let bytes: Vec<u8> = graph.initializer[1].float_data.drain(..).flat_map(f32::to_le_bytes).collect();
    let outside = |graph: &GraphProto, entries: &[(&str, &str)]| {
        let mut graph = graph.clone();
        graph.initializer[1].data_location = 1;
        let entry = |(key, value): &(&str, &str)| StringStringEntryProto { key: (*key).into(), value: (*value).into() };
        graph.initializer[1].external_data = entries.iter().map(entry).collect();
        let file = file(graph, 17).encode_to_vec();
        let stored: Vec<u8> = [vec![9; 7], bytes.clone()].concat();
        import(&file, &Preprocessing::default(), &mut |name| match name {
            "net.data" => Ok(stored.clone()),
            _ => Err(io::ErrorKind::NotFound.into()),
        })
    };
    let found = outside(&graph, &[("location", "net.data"), ("offset", "7"), ("length", "96")]).unwrap();
    let pixels: Vec<u8> = (0..16).map(|i| i * 13 + 7).collect();
    assert_eq!(found.run(&pixels), read(self::graph()).unwrap().run(&pixels));
    for name in ["../net.data", "/etc/passwd", "..", "", "a/../../b", "a//b", "c:net", "gone"] {
        let error = outside(&graph, &[("location", name)]).unwrap_err();
        assert!(matches!(&error, OnnxError::External { file, .. } if file == name), "{error}");
    }
    for (offset, length) in [("8", "96"), ("7", "97"), ("-1", "96"), ("18446744073709551615", "96"), ("7", "x")] {
        let error = outside(&graph, &[("location", "net.data"), ("offset", offset), ("length", length)]).unwrap_err();
        assert_eq!(error.to_string(), "tensor \"w2\" lies outside of the file that is said to hold it");
    }
}

#[test]
fn preprocessing_that_does_not_fit() {
    let read = |preprocessing: Preprocessing| {
        let bytes = file(graph(), 17).encode_to_vec();
        import(&bytes, &preprocessing, &mut |_| Err(io::ErrorKind::NotFound.into()))
            .map(|imported| imported.layers().len())
    };
    // A mean costs no layer.
    assert_eq!(read(Preprocessing { scale: Some(1.0), mean: vec![120.0], deviation: vec![60.0] }).unwrap(), 2);
    let table = [
        (Preprocessing { scale: Some(0.0), ..Preprocessing::default() }, "scale has 1"),
        (Preprocessing { mean: vec![1.0, 2.0], ..Preprocessing::default() }, "mean has 2"),
        (Preprocessing { deviation: vec![0.0], ..Preprocessing::default() }, "std has 1"),
        (Preprocessing { mean: vec![f64::NAN], ..Preprocessing::default() }, "mean has 1"),
    ];
    for (preprocessing, expected) in table {
        let said = read(preprocessing).unwrap_err().to_string();
        assert_eq!(said, format!("{expected} numbers, expected 1 or 1, none of them 0 where it divides or scales"));
    }
}

#[test]
fn a_small_file_cannot_ask_for_much() {
    // Every addition to a flattened activation makes as many numbers as it has elements.
    let mut graph = graph();
    graph.input[0] = value("x", &[1, 1, 1024, 1024]);
    graph.node = vec![node("Flatten", &["x"], "f0")];
    graph.initializer = vec![TensorProto { name: "k".into(), ..tensor("k", &[1, 1 << 20]) }];
    for index in 0..4000 {
        graph.node.push(node("Add", &[&format!("f{index}"), "k"], &format!("f{}", index + 1)));
    }
    let said = read(graph).unwrap_err().to_string();
    let (start, end) =
        said.split_once("\"/f").and_then(|(start, rest)| Some((start, rest.split_once('"')?.1))).unwrap();
    assert_eq!(
        (start, end),
        ("operator \"Add\" (node ", "): the network needs more than 134217728 numbers to be worked out")
    );
    let said = refuse(|graph| graph.node = vec![node("Relu", &["x"], "r"); 5000]);
    assert_eq!(said, "the graph has 5000 nodes, more than 4096");
}

#[test]
fn a_channel_of_nearly_no_weights_keeps_its_bias() {
    let mut graph = graph();
    let weights = graph.initializer[0].float_data.iter_mut();
    weights.skip(9).for_each(|weight| *weight *= 1e-12);
    graph.node[0].input.push("b1".into());
    let bias = TensorProto { float_data: vec![0.1, 0.7], ..tensor("b1", &[2]) };
    graph.initializer.push(bias);
    let network = read(graph).unwrap();
    let pictures = (0..8u8).map(|n| (n.to_string(), 0, (0..16u8).map(|i| i.wrapping_mul(29 + n)).collect()));
    let classes = ["a", "b", "c"].map(String::from).to_vec();
    let data = Dataset::from_pixels(network.input(), classes.clone(), pictures.collect());
    let naming = Naming { name: String::new(), card: String::new() };
    let pictures = Pictures { calibration: &data, validation: &data };
    let mut backend = ReferenceBackend;
    let made =
        quantize_imported(&network.network, classes, &naming, 256, Some(pictures), &mut backend, &|_| ()).unwrap();
    let parameters = made.model.parameters(0);
    assert_eq!((parameters.bias[1], &parameters.weight[9..]), (1 << 22, &[0; 9][..]));
    for index in 0..data.len() {
        let integers = reference::logits(&made.model, data.pixels(index));
        let floats = network.run(data.pixels(index));
        for (integer, float) in integers.iter().zip(&floats) {
            let integer = f64::from(*integer) * made.report.scale;
            assert!((integer - f64::from(*float)).abs() < 0.1, "{integer} for {float}");
        }
    }
}
