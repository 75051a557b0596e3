//! Every rule of the file format and of the proof, each with an input that breaks it and the exact error.

use ocelli_model::{Display, FileError, Graph, Model, ModelFile, Parameters, Shape};

const GRAPH: &str = r#"{"version":1,"input":{"channels":1,"height":2,"width":3},"layers":[{"name":"a","kind":"conv","channels":1,"kernel":1,"stride":1,"padding":0,"skip":"input"},{"name":"p","kind":"max_pool","kernel":1,"stride":1},{"name":"s","kind":"sum_pool","kernel":1,"stride":1,"shift":0},{"name":"b","kind":"linear","channels":2}]}"#;
const DISPLAY: &str = r#"{"name":"tiny","classes":["no","yes"],"scale":0.5,"card":"A card."}"#;
const TENSORS: &str = r#""a.bias":{"dtype":"I32","shape":[1],"data_offsets":[0,4]},"b.bias":{"dtype":"I32","shape":[2],"data_offsets":[4,12]},"a.multiplier":{"dtype":"I16","shape":[1],"data_offsets":[12,14]},"a.weight":{"dtype":"I8","shape":[1,1,1,1],"data_offsets":[14,15]},"b.weight":{"dtype":"I8","shape":[2,6],"data_offsets":[15,27]},"a.shift":{"dtype":"U8","shape":[1],"data_offsets":[27,28]}"#;
/// a.bias -1, b.bias 2 and -3, a.multiplier 258, a.weight -2, b.weight 1..=12, a.shift 3.
const DATA: [u8; 28] =
    [0xFF, 0xFF, 0xFF, 0xFF, 2, 0, 0, 0, 0xFD, 0xFF, 0xFF, 0xFF, 2, 1, 0xFE, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 3];

fn text(text: &str) -> String {
    serde_json::to_string(text).expect("a string")
}

fn header(metadata: &str, tensors: &str) -> String {
    format!("{{\"__metadata__\":{metadata},{tensors}}}")
}

fn metadata(display: &str, graph: &str) -> String {
    format!("{{\"display\":{},\"graph\":{}}}", text(display), text(graph))
}

fn container(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

fn whole(display: &str, graph: &str, tensors: &str, data: &[u8]) -> Vec<u8> {
    container(&header(&metadata(display, graph), tensors), data)
}

fn replaced(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "{from} stands once");
    text.replace(from, to)
}

fn refusal(bytes: &[u8]) -> String {
    Model::from_bytes(bytes).expect_err("must be refused").to_string()
}

fn tiny() -> ModelFile {
    ModelFile {
        graph: Graph::from_json(GRAPH).expect("valid"),
        parameters: vec![
            Parameters { weight: vec![-2], bias: vec![-1], shift: vec![3], multiplier: vec![258] },
            Parameters::default(),
            Parameters::default(),
            Parameters { weight: (1..=12).collect(), bias: vec![2, -3], shift: vec![], multiplier: vec![] },
        ],
        display: Display {
            name: "tiny".into(),
            classes: vec!["no".into(), "yes".into()],
            scale: 0.5,
            card: "A card.".into(),
        },
    }
}

#[test]
fn golden_bytes_of_a_tiny_model() {
    let mut header = header(&metadata(DISPLAY, GRAPH), TENSORS);
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    let bytes = tiny().to_bytes().expect("fits");
    assert_eq!(String::from_utf8_lossy(&bytes[8..8 + header.len()]), header);
    assert_eq!(bytes, container(&header, &DATA));
    for _ in 0..20 {
        assert_eq!(tiny().to_bytes().expect("fits"), bytes);
    }
    let model = Model::from_bytes(&bytes).expect("valid");
    assert_eq!(*model.file(), tiny());
    assert_eq!(model.bytes(), bytes);
    assert_eq!(model.id().to_string(), "812025235f66fcb22fabba63afd895c384423abc3dc26fe40eaeb969870298eb");
    // Input [1, 2, 3, 4, 5, 6]: (-2x - 1 + 258x) >> 3 = (256x - 1) >> 3 = 31, 63, 95, 127, 159, 191, clamped at 127.
    assert_eq!(
        ocelli_model::reference::logits(&model, &[2, 5, 7, 8, 11, 13]),
        [
            2 + 31 + 2 * 63 + 3 * 95 + 4 * 127 + 5 * 127 + 6 * 127,
            -3 + 7 * 31 + 8 * 63 + 9 * 95 + 10 * 127 + 11 * 127 + 12 * 127,
        ]
    );
}

#[test]
fn the_safetensors_crate_reads_what_we_write() {
    let bytes = tiny().to_bytes().expect("fits");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("valid safetensors");
    assert_eq!(file.len(), 6);
    let weight = file.tensor("b.weight").expect("there");
    assert_eq!((weight.dtype(), weight.shape()), (safetensors::Dtype::I8, &[2, 6][..]));
    assert_eq!(weight.data(), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    // And in the very order in which it would have written the same tensors.
    let (_, read) = safetensors::SafeTensors::read_metadata(&bytes).expect("valid safetensors");
    let views: Vec<_> = file.tensors();
    let theirs = safetensors::serialize(views, None).expect("serializes");
    let (_, written) = safetensors::SafeTensors::read_metadata(&theirs).expect("valid safetensors");
    assert_eq!(read.offset_keys(), written.offset_keys());
}

#[test]
fn what_may_vary() {
    // The order of keys and of tensors, white space, escapes, and the lack of a display.
    let data = [&[3, 0xFE], &DATA[15..27], &DATA[..14]].concat();
    let tensors = r#"
        "b.weight": {"data_offsets": [2, 14], "shape": [2, 6], "dtype": "I8"},
        "a.shift": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        "a.weight": {"dtype": "I8", "shape": [1, 1, 1, 1], "data_offsets": [1, 2]},
        "a.\u0062ias": {"dtype": "I32", "shape": [1], "data_offsets": [14, 18]},
        "b.bias": {"dtype": "I32", "shape": [2], "data_offsets": [18, 26]},
        "a.multiplier": {"dtype": "I16", "shape": [1], "data_offsets": [26, 28]}"#;
    let header = format!("{{{tensors}, \"__metadata__\": {{\"graph\": {}}} }}\n\t ", text(GRAPH));
    let model = Model::from_bytes(&container(&header, &data)).expect("valid");
    assert_eq!(model.file().parameters, tiny().parameters);
    assert_eq!(model.file().graph, tiny().graph);
    assert_eq!(*model.display(), Display::numbered(2));
    assert_ne!(model.id(), tiny().build().expect("valid").id(), "another file is another model");
}

#[test]
fn container_refusals() {
    let good = whole(DISPLAY, GRAPH, TENSORS, &DATA);
    Model::from_bytes(&good).expect("what the rows below break is valid");
    let metadata = metadata(DISPLAY, GRAPH);
    let with = |tensors: &str| container(&header(&metadata, tensors), &DATA);
    let swap = |from: &str, to: &str| with(&replaced(TENSORS, from, to));
    let meta = |metadata: &str| container(&header(metadata, TENSORS), &DATA);
    let mut long = container(&format!("{}{}", header(&metadata, TENSORS), " ".repeat(1 << 20)), &DATA);
    let rows: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "the model file ends within its header"),
        (good[..7].to_vec(), "the model file ends within its header"),
        (good[..100].to_vec(), "the model file ends within its header"),
        (vec![0; 64], "the header does not begin with '{'"),
        (vec![0; (64 << 20) + 1], "the model file has 67108865 bytes, more than 67108864"),
        (vec![0xFF; 64], "the header has 18446744073709551615 bytes, more than 1048576"),
        (container(&format!(" {}", header(&metadata, TENSORS)), &DATA), "the header does not begin with '{'"),
        (container("{", &[]), "header: no valid JSON at line 1, column 1"),
        (container("{}{}", &[]), "header: no valid JSON at line 1, column 3"),
        (container("{}", &[]), "header: key \"__metadata__\" is missing"),
        (meta("{}"), "header.__metadata__: key \"graph\" is missing"),
        (meta("[]"), "header.__metadata__: expected an object, found a list"),
        (
            meta(&replaced(&metadata, "\"graph\":", "\"format\":\"pt\",\"graph\":")),
            "header.__metadata__: unknown key \"format\"",
        ),
        (meta(&format!("{{\"graph\":\"\",{}", &metadata[1..])), "header.__metadata__: key \"graph\" appears twice"),
        (
            meta(&format!("{{\"gr\\u0061ph\":\"\",{}", &metadata[1..])),
            "header.__metadata__: key \"graph\" appears twice",
        ),
        (meta("{\"graph\":1}"), "header.__metadata__.graph: expected a string, found a whole number"),
        (
            meta(&format!("{{\"display\":null,\"graph\":{}}}", text(GRAPH))),
            "header.__metadata__.display: expected a string, found null",
        ),
        (
            container(
                &replaced(
                    &header(&metadata, TENSORS),
                    ",\"a.shift\"",
                    &format!(",\"__metadata__\":{metadata},\"a.shift\""),
                ),
                &DATA,
            ),
            "header: key \"__metadata__\" appears twice",
        ),
        (swap("\"a.shift\"", "\"a.bias\""), "header: key \"a.bias\" appears twice"),
        (swap("\"a.shift\"", "\"a.shifts\""), "tensor \"a.shift\" is missing"),
        (
            with(&format!("{TENSORS},\"b.shift\":{{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[28,28]}}")),
            "tensor \"b.shift\" belongs to no layer",
        ),
        (
            with(&format!("{TENSORS},\"p.weight\":{{\"dtype\":\"I8\",\"shape\":[0],\"data_offsets\":[28,28]}}")),
            "tensor \"p.weight\" belongs to no layer",
        ),
        (with(&format!("{TENSORS},\"x\":1")), "tensor \"x\" belongs to no layer"),
        (swap("\"U8\"", "\"I8\""), "tensor \"a.shift\" has dtype \"I8\", expected \"U8\""),
        (swap("\"I16\"", "\"U16\""), "tensor \"a.multiplier\" has dtype \"U16\", expected \"I16\""),
        (swap("[2,6]", "[6,2]"), "tensor \"b.weight\" has shape [6, 2], expected [2, 6]"),
        (swap("[2,6]", "[12]"), "tensor \"b.weight\" has shape [12], expected [2, 6]"),
        (
            swap("[2,6]", "[2,6.0]"),
            "header.b.weight.shape: expected a whole number, found a number with a sign, a fraction or an exponent, or beyond 64 bits",
        ),
        (swap("[1,1,1,1]", "[1]"), "tensor \"a.weight\" has shape [1], expected [1, 1, 1, 1]"),
        (swap("\"dtype\":\"U8\"", "\"dtype\":\"U8\",\"more\":0"), "header.a.shift: unknown key \"more\""),
        (swap("\"dtype\":\"U8\"", "\"dtype\":\"U8\",\"dtype\":\"U8\""), "header.a.shift: key \"dtype\" appears twice"),
        (swap("\"dtype\":\"U8\",", ""), "header.a.shift: key \"dtype\" is missing"),
        (
            swap("[27,28]", "[27,28,29]"),
            "header.a.shift.data_offsets: expected two whole numbers, found a list of another length",
        ),
        (swap("[27,28]", "[27,29]"), "tensor \"a.shift\" lies at (27, 29) of the data, expected (27, 28)"),
        (swap("[27,28]", "[0,1]"), "tensor \"a.bias\" lies at (0, 4) of the data, expected (1, 5)"),
        (swap("[27,28]", "[28,29]"), "tensor \"a.shift\" lies at (28, 29) of the data, expected (27, 28)"),
        (swap("[27,28]", "[28,27]"), "tensor \"a.shift\" lies at (28, 27) of the data, expected (27, 28)"),
        (swap("[0,4]", "[18446744073709551615,3]"), "tensor \"b.bias\" lies at (4, 12) of the data, expected (0, 8)"),
        ([&good[..], &[0]].concat(), "the tensors end after 28 bytes of data, the file after 29"),
        (good[..good.len() - 1].to_vec(), "the tensors end after 28 bytes of data, the file after 27"),
        (std::mem::take(&mut long), "the header has 1049457 bytes, more than 1048576"),
    ];
    for (bytes, expected) in rows {
        assert_eq!(refusal(&bytes), expected);
    }
}

#[test]
fn graph_refusals() {
    let graph = |layers: usize| {
        let many: Vec<String> = (1..layers)
            .map(|i| format!("{{\"name\":\"l{i}\",\"kind\":\"max_pool\",\"kernel\":1,\"stride\":1}}"))
            .collect();
        let last = "{\"name\":\"b\",\"kind\":\"linear\",\"channels\":2}";
        let comma = if many.is_empty() { "" } else { "," };
        format!(
            "{{\"version\":1,\"input\":{{\"channels\":1,\"height\":2,\"width\":3}},\"layers\":[{}{comma}{last}]}}",
            many.join(",")
        )
    };
    assert_eq!(Graph::from_json(&graph(256)).expect("as many as may be").layers().len(), 256);
    assert_eq!(Graph::from_json(GRAPH).expect("valid").to_json(), GRAPH);
    let conv = r#""padding":0,"skip":"input""#;
    let input = r#"{"channels":1,"height":2,"width":3}"#;
    let rows: Vec<(String, &str)> = [
        ("{\"version\"", "[\"version\"", "graph: no valid JSON at line 1, column 11"),
        ("\"version\":1", "\"version\":2", "graph version 2 is not known, only 1 is"),
        ("\"version\":1", "\"version\":1.0", "graph.version: expected a whole number, found a number with a sign, a fraction or an exponent, or beyond 64 bits"),
        ("\"version\":1", "\"version\":-0", "graph.version: expected a whole number, found a number with a sign, a fraction or an exponent, or beyond 64 bits"),
        ("\"version\":1", "\"version\":18446744073709551616", "graph.version: expected a whole number, found a number with a sign, a fraction or an exponent, or beyond 64 bits"),
        ("\"version\":1", "\"version\":\"1\"", "graph.version: expected a whole number, found a string"),
        ("\"version\":1", "\"version\":true", "graph.version: expected a whole number, found a boolean"),
        ("\"version\":1,", "", "graph: key \"version\" is missing"),
        ("\"version\":1,", "\"version\":1,\"version\":1,", "graph: key \"version\" appears twice"),
        ("\"version\":1,", "\"version\":1,\"name\":\"x\",", "graph: unknown key \"name\""),
        (input, "[1,2,3]", "graph.input: expected an object, found a list"),
        (input, r#"{"channels":1,"height":2}"#, "graph.input: key \"width\" is missing"),
        (input, r#"{"channels":1,"height":2,"width":3,"depth":1}"#, "graph.input: unknown key \"depth\""),
        (input, r#"{"channels":0,"height":2,"width":3}"#, "input: channels is 0, not within 1..=65535"),
        (input, r#"{"channels":1,"height":65536,"width":3}"#, "input: height is 65536, not within 1..=65535"),
        (input, r#"{"channels":1,"height":1,"width":65536}"#, "input: width is 65536, not within 1..=65535"),
        ("\"name\":\"a\"", "\"name\":\"\"", "layer 0: the name \"\" is not 1 to 32 of a-z, 0-9 and _, or is \"input\""),
        ("\"name\":\"a\"", "\"name\":\"input\"", "layer 0: the name \"input\" is not 1 to 32 of a-z, 0-9 and _, or is \"input\""),
        ("\"name\":\"a\"", "\"name\":\"A\"", "layer 0: the name \"A\" is not 1 to 32 of a-z, 0-9 and _, or is \"input\""),
        ("\"name\":\"a\"", "\"name\":\"a.b\"", "layer 0: the name \"a.b\" is not 1 to 32 of a-z, 0-9 and _, or is \"input\""),
        ("\"name\":\"a\"", "\"name\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"", "layer 0: the name \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\" is not 1 to 32 of a-z, 0-9 and _, or is \"input\""),
        ("\"name\":\"p\"", "\"name\":\"a\"", "two layers are named \"a\""),
        ("\"name\":\"a\",", "", "graph.layers[0]: key \"name\" is missing"),
        ("\"name\":\"a\"", "\"name\":7", "graph.layers[0].name: expected a string, found a whole number"),
        ("\"kind\":\"conv\"", "\"kind\":\"Conv\"", "layer \"a\": unknown kind \"Conv\""),
        ("\"kind\":\"conv\",", "", "graph.layers[0]: key \"kind\" is missing"),
        ("\"kind\":\"conv\",", "\"kind\":\"conv\",\"kind\":\"conv\",", "graph.layers[0]: key \"kind\" appears twice"),
        ("\"kind\":\"conv\",", "\"kind\":\"conv\",\"groups\":1,", "graph.layers[0]: unknown key \"groups\""),
        ("\"padding\":0,", "", "graph.layers[0]: key \"padding\" is missing"),
        ("\"padding\":0", "\"padding\":1", "layer \"a\": padding 1 is not below the kernel 1"),
        ("\"channels\":1,\"kernel\":1", "\"channels\":0,\"kernel\":1", "layer \"a\": channels is 0, not within 1..=65535"),
        ("\"channels\":1,\"kernel\":1,\"stride\":1", "\"channels\":1,\"kernel\":0,\"stride\":1", "layer \"a\": kernel is 0, not within 1..=65535"),
        ("\"channels\":1,\"kernel\":1,\"stride\":1", "\"channels\":1,\"kernel\":1,\"stride\":0", "layer \"a\": stride is 0, not within 1..=65535"),
        ("\"channels\":1,\"kernel\":1,\"stride\":1", "\"channels\":1,\"kernel\":3,\"stride\":1", "layer \"a\": kernel 3 is larger than the 2x3 it runs over"),
        (conv, r#""padding":0,"skip":null"#, "graph.layers[0].skip: expected a string, found null"),
        (conv, r#""padding":0,"skip":"a""#, "layer \"a\": the skip \"a\" is neither the input nor an earlier layer"),
        (conv, r#""padding":0,"skip":"p""#, "layer \"a\": the skip \"p\" is neither the input nor an earlier layer"),
        ("\"channels\":1,\"kernel\":1,\"stride\":1", "\"channels\":2,\"kernel\":1,\"stride\":1", "layer \"a\": the skip \"input\" is 1x2x3, the output 2x2x3"),
        ("\"max_pool\",\"kernel\":1", "\"max_pool\",\"kernel\":3", "layer \"p\": kernel 3 is larger than the 2x3 it runs over"),
        ("\"max_pool\",\"kernel\":1,\"stride\":1", "\"max_pool\",\"kernel\":1,\"stride\":1,\"padding\":0", "graph.layers[1]: unknown key \"padding\""),
        ("\"max_pool\",\"kernel\":1,\"stride\":1", "\"max_pool\",\"kernel\":1,\"stride\":1,\"skip\":\"a\"", "graph.layers[1]: unknown key \"skip\""),
        ("\"shift\":0", "\"shift\":25", "layer \"s\": shift 25 is above 24"),
        ("\"shift\":0", "\"shift\":256", "layer \"s\": shift 256 is above 24"),
        (",\"shift\":0", "", "graph.layers[2]: key \"shift\" is missing"),
        ("\"linear\",\"channels\":2", "\"linear\",\"channels\":65536", "layer \"b\": channels is 65536, not within 1..=65535"),
        ("\"linear\",\"channels\":2", "\"linear\",\"channels\":2,\"kernel\":1", "graph.layers[3]: unknown key \"kernel\""),
        (",{\"name\":\"b\",\"kind\":\"linear\",\"channels\":2}", "", "the last layer \"s\" is not linear without a skip"),
        ("\"linear\",\"channels\":2", "\"linear\",\"channels\":2},{\"name\":\"c\",\"kind\":\"linear\",\"channels\":2,\"skip\":\"b\"", "the last layer \"c\" is not linear without a skip"),
    ]
    .into_iter()
    .map(|(from, to, error)| (replaced(GRAPH, from, to), error))
    .chain([
        (graph(257), "the graph has 257 layers, more than 256"),
        (r#"{"version":1,"input":{"channels":1,"height":2,"width":3},"layers":[]}"#.into(), "the graph has no layers"),
        ("{}".into(), "graph: key \"version\" is missing"),
        ("7".into(), "graph: expected an object, found a whole number"),
        (String::new(), "graph: no valid JSON at line 1, column 0"),
        ("[".repeat(200), "graph: no valid JSON at line 1, column 128"),
    ])
    .collect();
    for (text, expected) in rows {
        assert_eq!(Graph::from_json(&text).expect_err("must be refused").to_string(), expected, "{text}");
        // The same rule holds within a file.
        assert_eq!(refusal(&whole(DISPLAY, &text, TENSORS, &DATA)), expected);
    }
}

#[test]
fn activations_are_bounded_at_the_edge() {
    // 2048 * 2047 inputs, 2047 of the linear layer, 1 logit: exactly 2^22 elements.
    let graph = |width: usize, channels: usize| {
        let layers = vec![ocelli_model::Layer::linear("a", channels), ocelli_model::Layer::linear("b", 1)];
        Graph::new(Shape { channels: 1, height: 2048, width }, layers)
    };
    graph(2047, 2047).expect("4,194,304 elements");
    assert_eq!(
        graph(2047, 2048).expect_err("one more").to_string(),
        "input and outputs have 4194305 elements an image by layer \"b\", more than 4194304"
    );
    assert_eq!(
        graph(2049, 1).expect_err("the input alone").to_string(),
        "input and outputs have 4196352 elements an image by layer \"input\", more than 4194304"
    );
}

#[test]
fn display_refusals() {
    let long = "x".repeat(101);
    let card = "x".repeat((64 << 10) + 1);
    let rows: Vec<(String, String)> = vec![
        (
            replaced(DISPLAY, "\"tiny\"", "\"Tiny\""),
            "display: the name \"Tiny\" is not at most 64 of a-z, 0-9, '.', '_' and '-'".into(),
        ),
        (
            replaced(DISPLAY, "tiny", &"t".repeat(65)),
            format!("display: the name \"{}\" is not at most 64 of a-z, 0-9, '.', '_' and '-'", "t".repeat(65)),
        ),
        (replaced(DISPLAY, "[\"no\",\"yes\"]", "[\"no\"]"), "display: 1 class names for 2 logits".into()),
        (
            replaced(DISPLAY, "\"yes\"", "\"\""),
            "display: the class name \"\" is not 1 to 100 bytes without control characters".into(),
        ),
        (
            replaced(DISPLAY, "\"yes\"", "\"\\u001b[2J\""),
            "display: the class name \"\\u{1b}[2J\" is not 1 to 100 bytes without control characters".into(),
        ),
        (
            replaced(DISPLAY, "yes", &long),
            format!("display: the class name \"{}\" is not 1 to 100 bytes without control characters", &long[..80]),
        ),
        (replaced(DISPLAY, "\"yes\"", "7"), "display.classes: expected a string, found a whole number".into()),
        (replaced(DISPLAY, "0.5", "0"), "display: the scale is not a finite number above 0".into()),
        (replaced(DISPLAY, "0.5", "-0.5"), "display: the scale is not a finite number above 0".into()),
        (replaced(DISPLAY, "0.5", "\"1\""), "display.scale: expected a number, found a string".into()),
        (
            replaced(DISPLAY, "A card.", "\\r"),
            "display: the card is not at most 65536 bytes without control characters but line feeds".into(),
        ),
        (
            replaced(DISPLAY, "A card.", &card),
            "display: the card is not at most 65536 bytes without control characters but line feeds".into(),
        ),
        (replaced(DISPLAY, "\"card\":", "\"more\":1,\"card\":"), "display: unknown key \"more\"".into()),
        (replaced(DISPLAY, "\"card\":", "\"name\":\"x\",\"card\":"), "display: key \"name\" appears twice".into()),
        (replaced(DISPLAY, ",\"card\":\"A card.\"", ""), "display: key \"card\" is missing".into()),
        ("x".into(), "display: no valid JSON at line 1, column 1".into()),
    ];
    for (display, expected) in rows {
        assert_eq!(refusal(&whole(&display, GRAPH, TENSORS, &DATA)), expected);
    }
}

#[test]
fn display_never_touches_execution() {
    let other = r#"{"name":"","classes":["yes","no"],"scale":7,"card":"line\nline"}"#;
    let one = Model::from_bytes(&whole(DISPLAY, GRAPH, TENSORS, &DATA)).expect("valid");
    let two = Model::from_bytes(&whole(other, GRAPH, TENSORS, &DATA)).expect("valid");
    let pixels = [9, 200, 31, 4, 77, 0];
    assert_eq!(ocelli_model::reference::logits(&one, &pixels), ocelli_model::reference::logits(&two, &pixels));
    assert_eq!((one.cost(), one.logits()), (two.cost(), two.logits()));
    assert_ne!(one.id(), two.id());
}

#[test]
fn proof_refusals_at_the_edge() {
    type Change = fn(&mut ModelFile);
    // For channel 1 of b: 127 * (7 + 8 + … + 12) = 7239 of the sum; for a: 127 * (2 + 258) + 1 = 33,021.
    let allowed: [Change; 8] = [
        |file| file.parameters[0].weight[0] = -127,
        |file| file.parameters[0].weight[0] = 127,
        |file| file.parameters[0].shift[0] = 24,
        |file| file.parameters[0].shift[0] = 0,
        |file| file.parameters[0].multiplier[0] = 32767,
        |file| file.parameters[0].multiplier[0] = 0,
        |file| file.parameters[3].bias[1] = 16_777_215 - 7239,
        |file| file.parameters[3].bias[1] = -(16_777_215 - 7239),
    ];
    for (row, change) in allowed.into_iter().enumerate() {
        let mut file = tiny();
        change(&mut file);
        assert!(file.build().is_ok(), "row {row}");
    }
    let refused: [(Change, &str); 9] = [
        (|file| file.parameters[0].weight[0] = -128, "layer \"a\", channel 0: a weight is -128, below -127"),
        (|file| file.parameters[3].weight[11] = -128, "layer \"b\", channel 1: a weight is -128, below -127"),
        (|file| file.parameters[0].shift[0] = 25, "layer \"a\", channel 0: shift 25 is above 24"),
        (|file| file.parameters[0].shift[0] = 255, "layer \"a\", channel 0: shift 255 is above 24"),
        (|file| file.parameters[0].multiplier[0] = -1, "layer \"a\", channel 0: multiplier -1 is negative"),
        (
            |file| file.parameters[3].bias[1] = 16_777_216 - 7239,
            "layer \"b\", channel 1: a sum can reach 16777216, not below 16777216",
        ),
        (
            |file| file.parameters[3].bias[1] = -(16_777_216 - 7239),
            "layer \"b\", channel 1: a sum can reach 16777216, not below 16777216",
        ),
        (
            |file| file.parameters[3].bias[0] = i32::MIN,
            "layer \"b\", channel 0: a sum can reach 2147486315, not below 16777216",
        ),
        (
            |file| {
                // 127 * 32767 = 4,161,409 of the skip and 127 * 127 of the weight leave 12,599,678 for the bias.
                file.parameters[0].multiplier[0] = 32767;
                file.parameters[0].weight[0] = 127;
                file.parameters[0].bias[0] = 12_599_678;
            },
            "layer \"a\", channel 0: a sum can reach 16777216, not below 16777216",
        ),
    ];
    for (change, expected) in refused {
        let mut file = tiny();
        change(&mut file);
        assert_eq!(file.build().expect_err("not exact").to_string(), expected);
    }
}

#[test]
fn sum_pools_are_proven() {
    // 127 * 363^2 = 16,734,663; the largest half that still fits is 2^15 = 32,768 of shift 16.
    let file = |kernel: usize, shift: u8| {
        let layers = vec![ocelli_model::Layer::sum_pool("s", kernel, 1, shift), ocelli_model::Layer::linear("b", 1)];
        let graph = Graph::new(Shape { channels: 1, height: 364, width: 364 }, layers).expect("fits");
        let pixels = graph.activations()[1].elements();
        let last = Parameters { weight: vec![1; pixels], bias: vec![0], shift: vec![], multiplier: vec![] };
        let display = Display::numbered(1);
        ModelFile { graph, parameters: vec![Parameters::default(), last], display }
    };
    file(363, 16).build().expect("16,767,431");
    assert_eq!(
        file(363, 17).build().expect_err("half is 65,536").to_string(),
        "layer \"s\", channel 0: a sum can reach 16800199, not below 16777216"
    );
    assert_eq!(
        file(364, 0).build().expect_err("127 * 364^2").to_string(),
        "layer \"s\", channel 0: a sum can reach 16826992, not below 16777216"
    );
}

#[test]
fn a_file_is_not_written_from_parts_that_do_not_fit() {
    let mut file = tiny();
    file.parameters.pop();
    assert_eq!(file.to_bytes(), Err(FileError::LayerCount { expected: 4, found: 3 }));
    let mut file = tiny();
    file.parameters[3].weight.pop();
    assert_eq!(file.to_bytes(), Err(FileError::Length { tensor: "b.weight".into(), expected: 12, found: 11 }));
    let mut file = tiny();
    file.parameters[3].shift = vec![0, 0];
    assert_eq!(file.to_bytes(), Err(FileError::Length { tensor: "b.shift".into(), expected: 0, found: 2 }));
    let mut file = tiny();
    file.parameters[1].bias = vec![0];
    assert_eq!(file.to_bytes(), Err(FileError::Length { tensor: "p.bias".into(), expected: 0, found: 1 }));
    let mut file = tiny();
    file.display.scale = f64::NAN;
    assert_eq!(file.to_bytes(), Err(FileError::Scale));
}

/// What training learns is written hours later.
#[test]
fn what_no_file_can_hold_is_known_before_anything_is_learnt() {
    let graph = Graph::from_json(GRAPH).expect("it is allowed");
    let check = |classes: [&str; 2]| ModelFile::check_fits(&graph, &classes.map(String::from));
    let (fits, long) = ("猫".repeat(33), "猫".repeat(34));
    assert_eq!(check(["no", &fits]), Ok(()));
    for name in ["", "a\tb", &long] {
        assert!(matches!(check(["no", name]), Err(FileError::ClassName { .. })), "{name:?}");
    }
    let one = ModelFile::check_fits(&graph, &["no".to_owned()]);
    assert_eq!(one, Err(FileError::ClassCount { expected: 2, found: 1 }));
    let wide = replaced(GRAPH, r#""kind":"conv","channels":1"#, r#""kind":"conv","channels":65535"#);
    let wide = replaced(&wide, r#","skip":"input""#, "");
    let deep = replaced(
        &wide,
        r#"{"name":"p""#,
        r#"{"name":"c","kind":"conv","channels":65535,"kernel":1,"stride":1,"padding":0},{"name":"p""#,
    );
    let deep = Graph::from_json(&deep).expect("it is allowed");
    let found = ModelFile::check_fits(&deep, &["no".to_owned(), "yes".to_owned()]);
    assert!(matches!(found, Err(FileError::TooLarge { .. })), "{found:?}");
}

#[test]
fn tensors_beyond_any_file_are_refused() {
    // Two convolutions of 65535^4 weights each, over an input of 65535x1x1: the sum of their bytes is beyond 64 bits.
    let conv = |name: &str| {
        format!(
            "{{\"name\":\"{name}\",\"kind\":\"conv\",\"channels\":65535,\"kernel\":65535,\"stride\":65535,\"padding\":32767}}"
        )
    };
    let graph = format!(
        "{{\"version\":1,\"input\":{{\"channels\":65535,\"height\":1,\"width\":1}},\"layers\":[{},{},{{\"name\":\"z\",\"kind\":\"linear\",\"channels\":1}}]}}",
        conv("x"),
        conv("y")
    );
    Graph::from_json(&graph).expect("shapes fit");
    let size = 65535u64.pow(4);
    let tensor = |name: &str, dtype: &str, shape: &str, start: u64, end: u64| {
        format!("\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":[{start},{end}]}}")
    };
    let weights = "[65535,65535,65535,65535]";
    let tensors = [
        tensor("x.weight", "I8", weights, 0, size),
        tensor("y.weight", "I8", weights, size, u64::MAX),
        tensor("z.weight", "I8", "[1,65535]", u64::MAX, u64::MAX),
        tensor("x.bias", "I32", "[65535]", u64::MAX, u64::MAX),
        tensor("y.bias", "I32", "[65535]", u64::MAX, u64::MAX),
        tensor("z.bias", "I32", "[1]", u64::MAX, u64::MAX),
        tensor("x.shift", "U8", "[65535]", u64::MAX, u64::MAX),
        tensor("y.shift", "U8", "[65535]", u64::MAX, u64::MAX),
    ];
    let metadata = format!("{{\"graph\":{}}}", text(&graph));
    assert_eq!(
        refusal(&container(&header(&metadata, &tensors.join(",")), &[])),
        "the tensors end after 18446744073709551615 bytes of data, the file after 0"
    );
}

#[test]
fn no_cut_or_changed_byte_makes_a_panic() {
    let good = whole(DISPLAY, GRAPH, TENSORS, &DATA);
    for end in 0..good.len() {
        Model::from_bytes(&good[..end]).expect_err("a part is no file");
    }
    for at in 0..good.len() {
        for flip in [1, 0x20, 0x80, 0xFF] {
            let mut bytes = good.clone();
            bytes[at] ^= flip;
            // Either is right; what must not happen is a panic.
            let _ = Model::from_bytes(&bytes);
        }
    }
}
