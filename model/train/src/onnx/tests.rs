//! What is refused, by operator, node and reason. Whole files are in `tests/onnx.rs`.

use super::proto::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
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
    let (i, ints) = (values[0], if values.len() > 1 { values.to_vec() } else { vec![] });
    node.attribute.push(AttributeProto { name: name.into(), i, ints, ..AttributeProto::default() });
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

fn read(graph: GraphProto) -> Result<OnnxNetwork, OnnxError> {
    let bytes =
        ModelProto { producer_name: "a test".into(), graph: Some(graph), ..ModelProto::default() }.encode_to_vec();
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
    let said = refuse(|graph| {
        graph.node[1].op_type = "Resize".into();
        graph.node[3].op_type = "Einsum".into();
    });
    assert!(said.starts_with("operator \"Resize\" (node \"/r\") is not supported; supported are Add, "), "{said}");
    let said = refuse(|graph| graph.node[0].domain = "com.example".into());
    assert!(said.starts_with("operator \"com.example.Conv\" (node \"/c\")"), "{said}");
    let said = refuse(|graph| (graph.node[1].op_type, graph.node[1].name) = ("LRN".into(), String::new()));
    assert!(said.starts_with("operator \"LRN\" (node \"r\")"), "{said}");
}

/// Each refusal says what to try with what was found.
#[test]
fn what_to_try_is_said_of_each_refusal() {
    type Change = fn(&mut GraphProto);
    let table: [(Change, &str); 12] = [
        (|graph| graph.node[0].op_type = "ConvInteger".into(), "quantise the network statically"),
        (|graph| graph.node[3].op_type = "ArgMax".into(), "up to its logits, without it"),
        (|graph| graph.node[1].op_type = "Loop".into(), "without control flow"),
        (|graph| graph.node[1].op_type = "LayerNormalization".into(), "with batch normalisation"),
        (|graph| graph.node[1].op_type = "LSTM".into(), "take a convolutional network"),
        (|graph| graph.node[1].op_type = "Upsample".into(), "leave a Resize at the beginning to Ocelli"),
        (|graph| graph.node[1].op_type = "Pow".into(), "export the activation in whole"),
        (|graph| graph.node[1].op_type = "Expand".into(), "onnxsim"),
        (|graph| graph.node[1].op_type = "Hardmax".into(), "`docs/models.md` says which networks"),
        (|graph| take(graph, "Gather", &[whole("at", &[9])]), "a batch of 1"),
        (|graph| graph.input[0] = value("x", &[1, 1, 0, 4]), "without dynamic_axes"),
        (|graph| graph.initializer[1].data_type = 8, "as floats of 32 bits"),
    ];
    for (change, expected) in table {
        let mut graph = graph();
        change(&mut graph);
        let error = read(graph).expect_err("it is refused");
        assert!(error.hint().contains(expected), "{error}\n{}", error.hint());
    }
}

/// Has an operator work on the list of dimensions of the first convolution's output.
fn take(graph: &mut GraphProto, operator: &str, inputs: &[TensorProto]) {
    let names: Vec<&str> = std::iter::once("s").chain(inputs.iter().map(|input| &*input.name)).collect();
    graph.node.splice(1..1, [node("Shape", &["c"], "s"), node(operator, &names, "g")]);
    graph.initializer.extend_from_slice(inputs);
}

#[test]
fn nodes_that_are_not_as_expected_are_named() {
    type Change = fn(&mut GraphProto);
    let table: [(Change, &str); 31] = [
        (
            |graph| drop(graph.node.remove(1)),
            "operator \"Flatten\" (node \"/f\"): input \"r\" is given by no node before",
        ),
        (
            |graph| graph.node[0] = ints(graph.node[0].clone(), "group", &[2]),
            "operator \"Conv\" (node \"/c\"): the weights are [2, 1, 3, 3] over [-1, 1, 4, 4], expected (channels, 0.5, rows, columns)",
        ),
        (
            |graph| graph.node[0] = ints(graph.node[0].clone(), "strides", &[1, 0]),
            "operator \"Conv\" (node \"/c\"): strides is Some([1, 0]), expected two numbers, of rows and columns",
        ),
        (
            |graph| graph.node[0] = ints(graph.node[0].clone(), "dilations", &[2, 2]),
            "operator \"Conv\" (node \"/c\"): a kernel of 5x5 is larger than the 1x4x4 it runs over",
        ),
        (
            |graph| graph.node[0] = ints(graph.node[0].clone(), "pads", &[3, 3, 3, 3]),
            "operator \"Conv\" (node \"/c\"): pads are [3, 3, 3, 3], expected four numbers below the kernel's [3, 3]",
        ),
        (
            |graph| graph.initializer[0] = tensor("w1", &[2, 1, 5, 5]),
            "operator \"Conv\" (node \"/c\"): a kernel of 5x5 is larger than the 1x4x4 it runs over",
        ),
        (
            |graph| graph.initializer[0] = tensor("w1", &[2, 3, 3, 3]),
            "operator \"Conv\" (node \"/c\"): the weights are [2, 3, 3, 3] over [-1, 1, 4, 4], expected (channels, 1, rows, columns)",
        ),
        (
            |graph| graph.initializer[1] = tensor("w2", &[3, 9]),
            "operator \"Gemm\" (node \"/y\"): the weights are [3, 9] over [-1, 8], expected a flattened activation of 8",
        ),
        (
            |graph| graph.initializer[1].float_data[4] = f32::NAN,
            "tensor \"w2\" has an element that is not a finite number",
        ),
        (|graph| graph.initializer[1].float_data.truncate(23), "tensor \"w2\" has 23 elements, expected 24"),
        (|graph| graph.initializer[1].dims = vec![i64::MAX, i64::MAX], "tensor \"w2\" has the shape"),
        (|graph| graph.initializer[1].data_type = 8, "tensor \"w2\" has elements of type 8, expected float (1)"),
        (
            |graph| graph.node.insert(1, node("Mul", &["x", "c"], "m")),
            "operator \"Mul\" (node \"/m\"): it multiplies activations of [-1, 1, 4, 4] and [-1, 2, 2, 2], expected the same",
        ),
        (
            |graph| graph.node.insert(1, node("Add", &["x", "c"], "m")),
            "operator \"Add\" (node \"/m\"): it adds activations of [-1, 1, 4, 4] and [-1, 2, 2, 2], expected the same",
        ),
        (
            |graph| graph.node.insert(1, node("Div", &["x", "c"], "m")),
            "operator \"Div\" (node \"/m\"): it joins two activations, expected an activation and a constant",
        ),
        (
            |graph| graph.node[1] = node("MaxPool", &["x"], "r"),
            "operator \"MaxPool\" (node \"/r\"): kernel_shape is None, expected two numbers, of rows and columns",
        ),
        (
            |graph| {
                let pool = ints(node("AveragePool", &["x"], "r"), "kernel_shape", &[2, 2]);
                graph.node[1] = ints(pool, "pads", &[1, 1, 0, 0]);
            },
            "operator \"AveragePool\" (node \"/r\"): pads are [1, 1, 0, 0] and ceil_mode is 0, and what is outside is left out",
        ),
        (
            |graph| graph.node[2] = ints(graph.node[2].clone(), "axis", &[2]),
            "operator \"Flatten\" (node \"/f\"): axis is 2, expected 1 or -3",
        ),
        (
            |graph| graph.node[1] = node("QuantizeLinear", &["c", "one"], "r"),
            "operator \"QuantizeLinear\" (node \"/r\"): the scale of an activation is [0.0], expected one number above 0",
        ),
        (
            |graph| {
                graph.initializer[3].float_data[0] = 0.5;
                graph.node[1] = node("QuantizeLinear", &["c", "one"], "r");
            },
            "operator \"Gemm\" (node \"/y\"): it reads the bytes of a QuantizeLinear, expected a DequantizeLinear between",
        ),
        (
            |graph| {
                graph.initializer[3].float_data[0] = 0.5;
                graph.node[1] = node("DequantizeLinear", &["c", "one"], "r");
            },
            "operator \"DequantizeLinear\" (node \"/r\"): it reads what is not quantised, expected the bytes of QuantizeLinear",
        ),
        (
            |graph| {
                graph.initializer.push(tensor("pads", &[8]));
                graph.node[1] = node("Pad", &["c", "pads"], "r");
            },
            "operator \"Pad\" (node \"/r\"): its pads are no whole numbers",
        ),
        (
            |graph| {
                graph.initializer.extend([whole("pads", &[1, 1, 1, 1]), whole("axes", &[2, 4])]);
                graph.node[1] = node("Pad", &["c", "pads", "", "axes"], "r");
            },
            "operator \"Pad\" (node \"/r\"): its axes are [2, 4] with the pads [1, 1, 1, 1], expected two pads for each of four axes",
        ),
        (
            |graph| take(graph, "Gather", &[whole("at", &[-5])]),
            "operator \"Gather\" (node \"/g\"): it takes number -5 of 4 dimensions, which is not there",
        ),
        (
            |graph| take(graph, "Gather", &[tensor("at", &[1])]),
            "operator \"Gather\" (node \"/g\"): input 1 is a constant of [1], expected a list of at most 16 whole numbers",
        ),
        (
            |graph| take(graph, "Concat", &[TensorProto { dims: vec![2, 1], ..whole("at", &[1, 2]) }]),
            "operator \"Concat\" (node \"/g\"): input 1 is a constant of [2, 1], expected a list of at most 16 whole numbers",
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
        ),
        (
            |graph| take(graph, "Slice", &[whole("from", &[0, 0]), whole("to", &[1, 1])]),
            "operator \"Slice\" (node \"/g\"): it starts at [0, 0] and ends at [1, 1], expected a number each",
        ),
        (|graph| graph.output.clear(), "found 0 outputs; expected one output"),
        (
            |graph| graph.output[0].name = "r".into(),
            "found [-1, 2, 2, 2]; expected one output, a number for each class",
        ),
        (
            |graph| graph.input[0] = value("x", &[1, 1, 0, 4]),
            "input \"x\" is [1, 1, 0, 4] (0: not fixed); expected one input",
        ),
    ];
    for (change, expected) in table {
        let said = refuse(change);
        assert!(said.starts_with(expected), "{said}\nis not\n{expected}");
    }
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
        assert!(said.starts_with(&expected), "{said}");
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
    assert!(said.starts_with("input \"x\" has elements of type 7, not floats or bytes"), "{said}");
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
        let file =
            ModelProto { producer_name: String::new(), graph: Some(graph), ..ModelProto::default() }.encode_to_vec();
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
        assert!(error.to_string().contains("lies outside of the file"), "{error}");
    }
}

#[test]
fn preprocessing_that_does_not_fit() {
    let read = |preprocessing: Preprocessing| {
        let bytes =
            ModelProto { producer_name: String::new(), graph: Some(graph()), ..ModelProto::default() }.encode_to_vec();
        import(&bytes, &preprocessing, &mut |_| Err(io::ErrorKind::NotFound.into()))
            .map(|imported| imported.layers().len())
    };
    // A mean costs no layer.
    assert_eq!(read(Preprocessing { scale: Some(1.0), mean: vec![120.0], deviation: vec![60.0] }).unwrap(), 2);
    let table = [
        (Preprocessing { scale: Some(0.0), ..Preprocessing::default() }, "scale has 1 numbers"),
        (Preprocessing { mean: vec![1.0, 2.0], ..Preprocessing::default() }, "mean has 2 numbers, expected 1 or 1"),
        (Preprocessing { deviation: vec![0.0], ..Preprocessing::default() }, "std has 1 numbers"),
        (Preprocessing { mean: vec![f64::NAN], ..Preprocessing::default() }, "mean has 1 numbers"),
    ];
    for (preprocessing, expected) in table {
        let said = read(preprocessing).unwrap_err().to_string();
        assert!(said.starts_with(expected), "{said}");
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
    assert!(said.contains("needs more than 134217728 numbers to be worked out"), "{said}");
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
