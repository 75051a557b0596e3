//! Graphs as people write them: TOML, or the JSON of a model file.

use ocelli_model::{Finish, Graph, GraphError, JsonError, Operation, Window};

const RESIDUAL: &str = include_str!("../../docs/examples/residual.toml");

const TOML: &str = r#"
version = 2
input = { channels = 1, height = 4, width = 4 }
layers = [
    { name = "conv", kind = "conv", channels = 2, kernel = 3, stride = 1, padding = 1 },
    { name = "sum", kind = "add", from = ["conv", "input"] },
    { name = "out", kind = "linear", channels = 3 },
]
"#;

#[test]
fn toml_and_json_are_the_same_graph() {
    let graph = Graph::from_text(RESIDUAL).expect("the example is valid");
    assert_eq!(graph.layers().len(), 12);
    assert_eq!(Graph::from_text(&format!("\n {}", graph.to_json())).expect("its JSON is valid"), graph);
}

#[test]
fn what_is_usual_is_left_out() {
    let text = r#"
        version = 2
        input = { channels = 2, height = 9, width = 9 }
        layers = [
            { name = "a", kind = "conv", channels = 4, kernel = 3 },
            { name = "b", kind = "conv", channels = 4, groups = 4, kernel = [3, 1], stride = [1, 1], padding = [1, 0, 1, 0], zero_point = 128, high = 255 },
            { name = "c", kind = "add", from = ["a", "b"], high = 255 },
            { name = "d", kind = "average_pool", kernel = 7 },
            { name = "e", kind = "multiply", from = ["c", "d"] },
            { name = "f", kind = "linear", channels = 5 },
            { name = "g", kind = "linear", channels = 3 },
        ]"#;
    let graph = Graph::from_text(text).expect("it is valid");
    assert_eq!((&graph.input().zero_points[..], graph.input().crop), (&[0, 0][..], 256));
    let operations: Vec<Operation> = graph.layers().iter().map(|layer| layer.operation).collect();
    let window = Window { kernel: [3, 1], stride: [1, 1], padding: [1, 0, 1, 0] };
    assert_eq!(
        operations,
        [
            Operation::Conv { channels: 4, groups: 1, window: Window::square(3, 1, 0), finish: Finish::RELU },
            Operation::Conv { channels: 4, groups: 4, window, finish: Finish::bytes(128) },
            Operation::Add { multipliers: [1 << 20; 2], shift: 20, finish: Finish::bytes(0) },
            Operation::AveragePool { window: Window::square(7, 1, 0), finish: Finish::RELU },
            Operation::Multiply { finish: Finish::RELU },
            Operation::Linear { channels: 5, finish: Some(Finish::RELU) },
            Operation::Linear { channels: 3, finish: None },
        ]
    );
    let sources: Vec<&[usize]> = (0..7).map(|layer| graph.sources(layer)).collect();
    assert_eq!(sources, [&[0][..], &[1], &[1, 2], &[3], &[3, 4], &[5], &[6]]);
    // JSON leaves out nothing.
    let short = graph.to_json().replacen("\"groups\":1,", "", 1);
    let error = Graph::from_text(&short).expect_err("a model file says everything");
    assert_eq!(error.to_string(), "graph.layers[0]: key \"groups\" is missing");
}

#[test]
fn what_is_refused_names_its_place() {
    let refuse = |from: &str, to: &str| {
        assert!(TOML.contains(from), "{from}");
        Graph::from_text(&TOML.replacen(from, to, 1)).expect_err("it is not valid").to_string()
    };
    let table = [
        ("version = 2", "version = 1", "graph version 1 is not known, only 2 is"),
        ("version = 2", "version = 2\nversion = 2", "graph: no valid TOML at line 3: duplicate key"),
        ("version = 2", "version = ", "graph: no valid TOML at line 2: "),
        ("padding = 1", "padding = -1", "graph.layers[0].padding: expected a list, found a number with a sign"),
        ("stride = 1", "stride = 1.0", "graph.layers[0].stride: expected a list, found a number with a sign"),
        ("kernel = 3", "kernel = 2024-01-01", "graph.layers[0].kernel: expected a list, found an object"),
        ("kernel = 3", "kernels = 3", "graph.layers[0]: key \"kernel\" is missing"),
        ("stride = 1", "stride = 1, dilation = 2", "graph.layers[0]: unknown key \"dilation\""),
        ("kind = \"linear\"", "kind = \"softmax\"", "layer \"out\": unknown kind \"softmax\""),
        ("kind = \"linear\", ", "", "graph.layers[2]: key \"kind\" is missing"),
        ("height = 4", "height = 0", "input: height is 0, not within 1..=65535"),
        ("channels = 1", "channels = 99999999", "input: channels is 99999999, not within 1..=65535"),
    ];
    for (from, to, expected) in table {
        let said = refuse(from, to);
        assert!(said.starts_with(expected), "{to}: {said}");
    }
    // Channels differ: 1 of the input, 2 of the layer.
    assert!(matches!(Graph::from_text(TOML), Err(GraphError::AddShape { .. })));
    assert!(matches!(Graph::from_text("{"), Err(GraphError::Json(JsonError::Syntax { .. }))));
    assert!(matches!(Graph::from_text(""), Err(GraphError::Json(JsonError::MissingKey { key: "version", .. }))));
}
