//! Graphs as people write them: TOML, or the JSON of a model file.

use ocelli_model::{Graph, GraphError, JsonError};

const RESIDUAL: &str = include_str!("../../docs/examples/residual.toml");

const TOML: &str = r#"
version = 1
input = { channels = 1, height = 4, width = 4 }
layers = [
    { name = "conv", kind = "conv", channels = 2, kernel = 3, stride = 1, padding = 1, skip = "input" },
    { name = "out", kind = "linear", channels = 3 },
]
"#;

#[test]
fn toml_and_json_are_the_same_graph() {
    let graph = Graph::from_text(RESIDUAL).expect("the example is valid");
    assert_eq!(graph.layers().len(), 9);
    assert_eq!((graph.skip(2), graph.skip(5), graph.skip(7)), (Some(1), Some(4), Some(7)));
    assert_eq!(Graph::from_text(&format!("\n {}", graph.to_json())).expect("its JSON is valid"), graph);
}

#[test]
fn what_is_refused_names_its_place() {
    let refuse = |from: &str, to: &str| {
        assert!(TOML.contains(from), "{from}");
        Graph::from_text(&TOML.replacen(from, to, 1)).expect_err("it is not valid").to_string()
    };
    let table = [
        ("version = 1", "version = 2", "graph version 2 is not known, only 1 is"),
        ("version = 1", "version = 1\nversion = 1", "graph: no valid TOML at line 3: duplicate key"),
        ("version = 1", "version = ", "graph: no valid TOML at line 2: "),
        ("padding = 1", "padding = -1", "graph.layers[0].padding: expected a whole number, found a number with a sign"),
        ("stride = 1", "stride = 1.0", "graph.layers[0].stride: expected a whole number, found a number with a sign"),
        ("kernel = 3", "kernel = 2024-01-01", "graph.layers[0].kernel: expected a whole number, found an object"),
        ("kernel = 3", "kernels = 3", "graph.layers[0]: key \"kernel\" is missing"),
        ("stride = 1", "stride = 1, dilation = 2", "graph.layers[0]: unknown key \"dilation\""),
        ("kind = \"linear\"", "kind = \"softmax\"", "layer \"out\": unknown kind \"softmax\""),
        ("height = 4", "height = 0", "input: height is 0, not within 1..=65535"),
    ];
    for (from, to, expected) in table {
        let said = refuse(from, to);
        assert!(said.starts_with(expected), "{to}: {said}");
    }
    // Channels differ: 1 of the input, 2 of the layer.
    assert!(matches!(Graph::from_text(TOML), Err(GraphError::SkipShape { .. })));
    assert!(matches!(Graph::from_text("{"), Err(GraphError::Json(JsonError::Syntax { .. }))));
    assert!(matches!(Graph::from_text(""), Err(GraphError::Json(JsonError::MissingKey { key: "version", .. }))));
}
