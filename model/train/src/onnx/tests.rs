//! What is refused, by operator, node and reason. Whole files are in `tests/onnx.rs`.

use super::proto::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use super::*;

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
    }
}

fn read(graph: GraphProto) -> Result<Imported, OnnxError> {
    let bytes =
        ModelProto { producer_name: "a test".into(), graph: Some(graph), ..ModelProto::default() }.encode_to_vec();
    import(&bytes, &Preprocessing::default(), &mut |_| Err(io::ErrorKind::NotFound.into()))
}

fn refuse(change: impl FnOnce(&mut GraphProto)) -> String {
    let mut graph = graph();
    change(&mut graph);
    read(graph).expect_err("it is refused").to_string()
}

#[test]
fn the_plain_graph_is_read() {
    let imported = read(graph()).unwrap();
    let names: Vec<&str> = imported.graph.layers().iter().map(|layer| layer.name.as_str()).collect();
    assert_eq!(
        (names, imported.scale, imported.producer.as_str()),
        (vec!["half", "conv1", "linear1"], 1.0 / 255.0, "a test")
    );
}

#[test]
fn the_first_operator_that_is_not_supported_is_named() {
    let said = refuse(|graph| {
        graph.node[1].op_type = "Sigmoid".into();
        graph.node[3].op_type = "Einsum".into();
    });
    assert!(said.starts_with("operator \"Sigmoid\" (node \"/r\") is not supported; supported are Add, "), "{said}");
    let said = refuse(|graph| graph.node[0].domain = "com.example".into());
    assert!(said.starts_with("operator \"com.example.Conv\" (node \"/c\")"), "{said}");
    let said = refuse(|graph| (graph.node[1].op_type, graph.node[1].name) = ("Elu".into(), String::new()));
    assert!(said.starts_with("operator \"Elu\" (node \"r\")"), "{said}");
}

#[test]
fn nodes_that_are_not_as_expected_are_named() {
    type Change = fn(&mut GraphProto);
    let table: [(Change, &str); 18] = [
        (
            |graph| drop(graph.node.remove(1)),
            "operator \"Flatten\" (node \"/f\"): input \"r\" is given by no node before",
        ),
        (
            |graph| {
                graph.node.remove(1);
                graph.node[1].input[0] = "c".into();
            },
            "operator \"Gemm\" (node \"/y\"): found a sum that is not clamped (no Relu after a convolution or linear layer), \
             expected an activation",
        ),
        (
            |graph| graph.node[0] = ints(graph.node[0].clone(), "group", &[2]),
            "operator \"Conv\" (node \"/c\"): group is 2, expected 1",
        ),
        (
            |graph| graph.node[0] = ints(graph.node[0].clone(), "strides", &[1, 2]),
            "operator \"Conv\" (node \"/c\"): strides is Some([1, 2]), expected the same in both directions",
        ),
        (
            |graph| graph.node[0] = ints(graph.node[0].clone(), "dilations", &[2, 2]),
            "operator \"Conv\" (node \"/c\"): dilations are [2, 2], expected 1",
        ),
        (
            |graph| graph.node[0] = ints(graph.node[0].clone(), "pads", &[3, 3, 3, 3]),
            "operator \"Conv\" (node \"/c\"): pads are [3, 3, 3, 3], expected four numbers below the kernel's 3",
        ),
        (
            |graph| graph.initializer[0] = tensor("w1", &[2, 1, 5, 5]),
            "operator \"Conv\" (node \"/c\"): a kernel of 5 is larger than the 1x4x4 it runs over",
        ),
        (
            |graph| graph.initializer[0] = tensor("w1", &[2, 3, 3, 3]),
            "operator \"Conv\" (node \"/c\"): the weights are [2, 3, 3, 3] over [-1, 1, 4, 4], expected (channels, 1, kernel, kernel)",
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
        (
            |graph| graph.initializer[1].data_type = 10,
            "operator \"Gemm\" (node \"/y\"): input \"w2\" is given by no node before, or of a type that is not read",
        ),
        (
            |graph| {
                graph.node.insert(1, node("Mul", &["x", "c"], "m"));
            },
            "operator \"Mul\" (node \"/m\"): it joins an activation and a sum that is not clamped",
        ),
        (
            |graph| graph.node[1] = ints(node("MaxPool", &["x"], "r"), "kernel_shape", &[2, 3]),
            "operator \"MaxPool\" (node \"/r\"): kernel_shape is Some([2, 3]), expected the same in both directions",
        ),
        (|graph| graph.output.clear(), "found 0 outputs; expected one output"),
        (
            |graph| graph.output[0].name = "r".into(),
            "found an activation that is clamped or pooled; expected one output",
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

#[test]
fn branches_have_layers_of_their_own() {
    let layers = |branch: Vec<NodeProto>| {
        let mut graph = graph();
        graph.node.splice(1..2, branch);
        let layers = read(graph).unwrap().graph.layers().to_vec();
        layers.iter().map(|layer| format!("{} of {}", layer.name, layer.from.join(", "))).collect::<Vec<String>>()
    };
    let expected = ["half of input", "conv1 of half", "conv2 of half", "add1 of conv2, conv1", "linear1 of add1"];
    // To what is clamped, and to another sum, as where a block changes the number of channels.
    let (relu, conv) = (node("Relu", &["c"], "r1"), node("Conv", &["x", "w1"], "c2"));
    let of = |other: &str| [node("Add", &["c2", other], "a"), node("Relu", &["a"], "r")];
    let [add, last] = of("r1");
    assert_eq!(layers(vec![relu, conv.clone(), add, last]), expected);
    let [add, last] = of("c");
    assert_eq!(layers(vec![conv, add, last]), expected);
}

#[test]
fn every_side_is_padded_by_itself() {
    let mut graph = graph();
    graph.node[0] = ints(graph.node[0].clone(), "pads", &[1, 0, 0, 1]);
    graph.initializer[1] = tensor("w2", &[3, 18]);
    let window = read(graph).unwrap().graph.layers()[1].operation.window();
    assert_eq!(window.map(|window| (window.kernel, window.padding)), Some(([3, 3], [1, 0, 0, 1])));
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
    assert_eq!(found.weights, read(self::graph()).unwrap().weights);
    for name in ["../net.data", "/etc/passwd", "..", "", "a/b", "gone"] {
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
            .map(|imported| imported.graph.layers().len())
    };
    // A mean costs a layer only before a padded convolution.
    assert_eq!(read(Preprocessing { scale: Some(1.0), mean: vec![120.0], deviation: vec![60.0] }).unwrap(), 3);
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
