//! Every rule of the file format and of the proof, each with an input that breaks it and the exact error.

use ocelli_model::graph::products;
use ocelli_model::graph::{MAX_CLASSES, MAX_LAYERS};
use ocelli_model::sample::networks;
use ocelli_model::{
    Display, DisplayError, FileError, Finish, Graph, GraphError, Input, Layer, Model, ModelFile, Operation, Parameters,
    Window,
};

const GRAPH: &str = r#"{"version":2,"input":{"channels":1,"height":2,"width":3,"zero_points":[2],"crop":224},"layers":[{"name":"a","kind":"conv","from":["input"],"channels":2,"groups":1,"kernel":[1,1],"stride":[1,1],"padding":[0,0,0,0],"zero_point":3,"low":1,"high":200},{"name":"d","kind":"add","from":["a","a"],"multipliers":[1048576,3],"shift":20,"zero_point":3,"low":0,"high":255},{"name":"m","kind":"multiply","from":["d","a"],"zero_point":3,"low":2,"high":255},{"name":"c","kind":"concat","from":["m","d"]},{"name":"p","kind":"max_pool","from":["c"],"kernel":[1,2],"stride":[1,1],"padding":[0,1,0,0]},{"name":"v","kind":"average_pool","from":["p"],"kernel":[2,2],"stride":[1,1],"padding":[0,0,1,0],"zero_point":9,"low":0,"high":127},{"name":"t","kind":"lookup","from":["v"],"zero_point":7},{"name":"b","kind":"linear","from":["t"],"channels":2}]}"#;
const DISPLAY: &str = r#"{"name":"tiny","classes":["no","yes"],"scale":0.5,"card":"A card."}"#;
const TENSORS: &str = r#""a.scale":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"m.scale":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},"v.scale":{"dtype":"F32","shape":[1],"data_offsets":[12,16]},"a.bias":{"dtype":"I32","shape":[2],"data_offsets":[16,24]},"b.bias":{"dtype":"I32","shape":[2],"data_offsets":[24,32]},"a.weight":{"dtype":"I8","shape":[2,1,1,1],"data_offsets":[32,34]},"b.weight":{"dtype":"I8","shape":[2,16],"data_offsets":[34,66]},"t.table":{"dtype":"U8","shape":[256],"data_offsets":[66,322]}"#;

/// What the tensors of the file hold.
fn data() -> Vec<u8> {
    let mut data = Vec::new();
    // a.scale, m.scale, v.scale; a.bias, b.bias.
    data.extend([0.5f32, 0.75, 0.125, 0.25].iter().flat_map(|scale| scale.to_le_bytes()));
    data.extend([-1, 5, 2, -3i32].iter().flat_map(|bias| bias.to_le_bytes()));
    // a.weight: 2 and -3; b.weight: 1 to 32, the last of each row negative; t.table: 7 times the byte, modulo 256.
    data.extend([2, 0xFD]);
    data.extend((1..=16).chain([0xEF]).chain(18..=32u8));
    data.extend((0..=255u8).map(|byte| byte.wrapping_mul(7)));
    data
}
const INPUT: &str = r#"{"channels":1,"height":2,"width":3,"zero_points":[2],"crop":224}"#;

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

/// With the first of several.
fn replaced_first(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from} is there");
    text.replacen(from, to, 1)
}

fn refusal(bytes: &[u8]) -> String {
    Model::from_bytes(bytes).expect_err("must be refused").to_string()
}

fn tiny() -> ModelFile {
    let weights = (1..=16).chain([-17]).chain(18..=32).collect();
    ModelFile {
        graph: Graph::from_json(GRAPH).expect("valid"),
        parameters: vec![
            Parameters { weight: vec![2, -3], bias: vec![-1, 5], scale: vec![0.5, 0.75], table: vec![] },
            Parameters::default(),
            Parameters { scale: vec![0.125], ..Parameters::default() },
            Parameters::default(),
            Parameters::default(),
            Parameters { scale: vec![0.25], ..Parameters::default() },
            Parameters { table: (0..=255u8).map(|byte| byte.wrapping_mul(7)).collect(), ..Parameters::default() },
            Parameters { weight: weights, bias: vec![2, -3], scale: vec![], table: vec![] },
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
    assert_eq!(bytes, container(&header, &data()));
    for _ in 0..20 {
        assert_eq!(tiny().to_bytes().expect("fits"), bytes);
    }
    let model = Model::from_bytes(&bytes).expect("valid");
    assert_eq!((model.file(), model.display_error()), (&tiny(), None));
    assert_eq!(model.bytes(), bytes);
    assert_eq!(model.id().to_string(), "c02397725556b390dbfcb66dfd9bd013596edd4318bd8be86917b1210cebf72f");
    // As docs/examples/run_model.py says.
    assert_eq!(ocelli_model::reference::logits(&model, &[2, 5, 7, 8, 11, 255]), [10_205, 25_230]);
    // With a scale a class, these are rounded.
    let mut file = tiny();
    file.parameters[7].scale = vec![0.5, 0.001];
    let with_scale = file.build().expect("valid");
    assert_eq!(with_scale.file(), &file);
    assert_eq!(ocelli_model::reference::logits(&with_scale, &[2, 5, 7, 8, 11, 255]), [5102, 25]);
}

#[test]
fn the_safetensors_crate_reads_what_we_write() {
    let bytes = tiny().to_bytes().expect("fits");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("valid safetensors");
    assert_eq!(file.len(), 8);
    let weight = file.tensor("a.weight").expect("there");
    assert_eq!((weight.dtype(), weight.shape()), (safetensors::Dtype::I8, &[2, 1, 1, 1][..]));
    assert_eq!(weight.data(), [2, 0xFD]);
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
    let data = [&data()[66..], &data()[..66]].concat();
    let tensors = r#"
        "t.table": {"data_offsets": [0, 256], "shape": [256], "dtype": "U8"},
        "a.scale": {"dtype": "F32", "shape": [2], "data_offsets": [256, 264]},
        "m.scale": {"dtype": "F32", "shape": [1], "data_offsets": [264, 268]},
        "v.scale": {"dtype": "F32", "shape": [1], "data_offsets": [268, 272]},
        "a.\u0062ias": {"dtype": "I32", "shape": [2], "data_offsets": [272, 280]},
        "b.bias": {"dtype": "I32", "shape": [2], "data_offsets": [280, 288]},
        "a.weight": {"dtype": "I8", "shape": [2, 1, 1, 1], "data_offsets": [288, 290]},
        "b.weight": {"dtype": "I8", "shape": [2, 16], "data_offsets": [290, 322]}"#;
    let header = format!("{{{tensors}, \"__metadata__\": {{\"graph\": {}}} }}\n\t ", text(GRAPH));
    let model = Model::from_bytes(&container(&header, &data)).expect("valid");
    assert_eq!(model.file().parameters, tiny().parameters);
    assert_eq!(model.file().graph, tiny().graph);
    assert_eq!(*model.display(), Display::numbered(2));
    assert_ne!(model.id(), tiny().build().expect("valid").id(), "another file is another model");
}

#[test]
fn container_refusals() {
    let good = whole(DISPLAY, GRAPH, TENSORS, &data());
    Model::from_bytes(&good).expect("what the rows below break is valid");
    let metadata = metadata(DISPLAY, GRAPH);
    let with = |tensors: &str| container(&header(&metadata, tensors), &data());
    let swap = |from: &str, to: &str| with(&replaced(TENSORS, from, to));
    let meta = |metadata: &str| container(&header(metadata, TENSORS), &data());
    let mut long = container(&format!("{}{}", header(&metadata, TENSORS), " ".repeat(1 << 20)), &data());
    let rows: Vec<(Vec<u8>, &str)> = vec![
        (meta(&replaced(&metadata, "tiny", "t\\ud800iny")), "header: no valid JSON at line 1, column 48"),
        (meta(&replaced(&metadata, "tiny", "t\\udc00iny")), "header: no valid JSON at line 1, column 47"),
        (vec![], "the model file ends within its header"),
        (good[..7].to_vec(), "the model file ends within its header"),
        (good[..100].to_vec(), "the model file ends within its header"),
        (vec![0; 64], "the header does not begin with '{'"),
        (vec![0; (64 << 20) + 1], "the model file has 67108865 bytes, more than 67108864"),
        (vec![0xFF; 64], "the header has 18446744073709551615 bytes, more than 1048576"),
        (container(&format!(" {}", header(&metadata, TENSORS)), &data()), "the header does not begin with '{'"),
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
                    ",\"t.table\"",
                    &format!(",\"__metadata__\":{metadata},\"t.table\""),
                ),
                &data(),
            ),
            "header: key \"__metadata__\" appears twice",
        ),
        (swap("\"t.table\"", "\"a.bias\""), "header: key \"a.bias\" appears twice"),
        (swap("\"t.table\"", "\"t.tables\""), "tensor \"t.table\" is missing"),
        (
            with(&format!("{TENSORS},\"b.table\":{{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[322,322]}}")),
            "tensor \"b.table\" belongs to no layer",
        ),
        (
            with(&format!("{TENSORS},\"p.weight\":{{\"dtype\":\"I8\",\"shape\":[0],\"data_offsets\":[322,322]}}")),
            "tensor \"p.weight\" belongs to no layer",
        ),
        (with(&format!("{TENSORS},\"x\":1")), "tensor \"x\" belongs to no layer"),
        (swap("\"U8\"", "\"I8\""), "tensor \"t.table\" has dtype \"I8\", expected \"U8\""),
        (
            swap("\"m.scale\":{\"dtype\":\"F32\"", "\"m.scale\":{\"dtype\":\"BF16\""),
            "tensor \"m.scale\" has dtype \"BF16\", expected \"F32\"",
        ),
        (swap("\"m.scale\"", "\"d.scale\""), "tensor \"m.scale\" is missing"),
        (swap("[2,16]", "[16,2]"), "tensor \"b.weight\" has shape [16, 2], expected [2, 16]"),
        (swap("[2,16]", "[32]"), "tensor \"b.weight\" has shape [32], expected [2, 16]"),
        (
            swap("[2,16]", "[2,16.0]"),
            "header.b.weight.shape: expected a whole number, found a number with a sign, a fraction or an exponent, or beyond 64 bits",
        ),
        (swap("[2,1,1,1]", "[2]"), "tensor \"a.weight\" has shape [2], expected [2, 1, 1, 1]"),
        (swap("\"dtype\":\"U8\"", "\"dtype\":\"U8\",\"more\":0"), "header.t.table: unknown key \"more\""),
        (swap("\"dtype\":\"U8\"", "\"dtype\":\"U8\",\"dtype\":\"U8\""), "header.t.table: key \"dtype\" appears twice"),
        (swap("\"dtype\":\"U8\",", ""), "header.t.table: key \"dtype\" is missing"),
        (
            swap("[66,322]", "[66,322,323]"),
            "header.t.table.data_offsets: expected two whole numbers, found a list of another length",
        ),
        (swap("[66,322]", "[66,323]"), "tensor \"t.table\" lies at (66, 323) of the data, expected (66, 322)"),
        (swap("[66,322]", "[0,256]"), "tensor \"t.table\" lies at (0, 256) of the data, expected (8, 264)"),
        (swap("[66,322]", "[67,323]"), "tensor \"t.table\" lies at (67, 323) of the data, expected (66, 322)"),
        (swap("[66,322]", "[322,66]"), "tensor \"t.table\" lies at (322, 66) of the data, expected (66, 322)"),
        (swap("[0,8]", "[18446744073709551615,7]"), "tensor \"m.scale\" lies at (8, 12) of the data, expected (0, 4)"),
        ([&good[..], &[0]].concat(), "the tensors end after 322 bytes of data, the file after 323"),
        (good[..good.len() - 1].to_vec(), "the tensors end after 322 bytes of data, the file after 321"),
        (std::mem::take(&mut long), "the header has 1050196 bytes, more than 1048576"),
    ];
    for (bytes, expected) in rows {
        assert_eq!(refusal(&bytes), expected);
    }
}

#[test]
fn graph_refusals() {
    // So many layers, of which each reads the one before it.
    let long = |layers: usize| {
        let pool = |i: usize| {
            let from = if i == 1 { "input".into() } else { format!("l{}", i - 1) };
            format!(
                "{{\"name\":\"l{i}\",\"kind\":\"max_pool\",\"from\":[\"{from}\"],\"kernel\":[1,1],\"stride\":[1,1],\"padding\":[0,0,0,0]}}"
            )
        };
        let many: Vec<String> = (1..layers).map(pool).collect();
        let last = format!("{{\"name\":\"b\",\"kind\":\"linear\",\"from\":[\"l{}\"],\"channels\":2}}", layers - 1);
        format!("{{\"version\":2,\"input\":{INPUT},\"layers\":[{},{last}]}}", many.join(","))
    };
    assert_eq!(Graph::from_json(&long(MAX_LAYERS)).expect("as many as may be").layers().len(), 512);
    assert_eq!(Graph::from_json(GRAPH).expect("valid").to_json(), GRAPH);
    let fraction = "expected a whole number, found a number with a sign, a fraction or an exponent, or beyond 64 bits";
    let name = |name: &str| format!("layer 0: the name {name:?} is not 1 to 32 of a-z, 0-9 and _, or is \"input\"");
    let rows: Vec<(&str, &str, String)> = vec![
        ("{\"version\"", "[\"version\"", "graph: no valid JSON at line 1, column 11".into()),
        ("\"version\":2", "\"version\":1", "graph version 1 is not known, only 2 is".into()),
        ("\"version\":2", "\"version\":2.0", format!("graph.version: {fraction}")),
        ("\"version\":2", "\"version\":2e0", format!("graph.version: {fraction}")),
        ("\"version\":2", "\"version\":-0", format!("graph.version: {fraction}")),
        ("\"version\":2", "\"version\":18446744073709551616", format!("graph.version: {fraction}")),
        ("\"version\":2", "\"version\":\"2\"", "graph.version: expected a whole number, found a string".into()),
        ("\"version\":2", "\"version\":true", "graph.version: expected a whole number, found a boolean".into()),
        ("\"version\":2,", "", "graph: key \"version\" is missing".into()),
        ("\"version\":2,", "\"version\":2,\"version\":2,", "graph: key \"version\" appears twice".into()),
        ("\"version\":2,", "\"version\":2,\"name\":\"x\",", "graph: unknown key \"name\"".into()),
        ("\"version\":2,", "\"version\":2,\"\\ud83d\":1,", "graph: no valid JSON at line 1, column 21".into()),
        // The input.
        (INPUT, "[1,2,3]", "graph.input: expected an object, found a list".into()),
        (",\"width\":3", "", "graph.input: key \"width\" is missing".into()),
        (",\"zero_points\":[2]", "", "graph.input: key \"zero_points\" is missing".into()),
        (",\"crop\":224", "", "graph.input: key \"crop\" is missing".into()),
        (",\"crop\":224", ",\"crop\":224,\"depth\":1", "graph.input: unknown key \"depth\"".into()),
        ("{\"channels\":1", "{\"channels\":0", "input: channels is 0, not within 1..=65535".into()),
        ("\"height\":2", "\"height\":65536", "input: height is 65536, not within 1..=65535".into()),
        (
            "\"width\":3",
            "\"width\":18446744073709551615",
            "input: width is 18446744073709551615, not within 1..=65535".into(),
        ),
        ("\"zero_points\":[2]", "\"zero_points\":[256]", "input: zero_points is 256, not within 0..=255".into()),
        (
            "\"zero_points\":[2]",
            "\"zero_points\":2",
            "graph.input.zero_points: expected a list, found a whole number".into(),
        ),
        ("\"zero_points\":[2]", "\"zero_points\":[2,2]", "input: 2 zero points for 1 channels".into()),
        ("\"crop\":224", "\"crop\":0", "input: crop is 0, not within 1..=256".into()),
        ("\"crop\":224", "\"crop\":257", "input: crop is 257, not within 1..=256".into()),
        // Names, kinds, what is read.
        ("\"name\":\"a\"", "\"name\":\"\"", name("")),
        ("\"name\":\"a\"", "\"name\":\"input\"", name("input")),
        ("\"name\":\"a\"", "\"name\":\"A\"", name("A")),
        ("\"name\":\"a\"", "\"name\":\"a.b\"", name("a.b")),
        ("\"name\":\"a\"", "\"name\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"", name(&"a".repeat(33))),
        ("\"name\":\"d\"", "\"name\":\"a\"", "two layers are named \"a\"".into()),
        ("\"name\":\"a\",", "", "graph.layers[0]: key \"name\" is missing".into()),
        ("\"name\":\"a\"", "\"name\":7", "graph.layers[0].name: expected a string, found a whole number".into()),
        ("\"kind\":\"conv\"", "\"kind\":\"Conv\"", "layer \"a\": unknown kind \"Conv\"".into()),
        ("\"kind\":\"max_pool\"", "\"kind\":\"sum_pool\"", "layer \"p\": unknown kind \"sum_pool\"".into()),
        ("\"kind\":\"conv\",", "", "graph.layers[0]: key \"kind\" is missing".into()),
        (
            "\"kind\":\"conv\",",
            "\"kind\":\"conv\",\"kind\":\"conv\",",
            "graph.layers[0]: key \"kind\" appears twice".into(),
        ),
        ("\"kind\":\"conv\",", "\"kind\":\"conv\",\"skip\":\"input\",", "graph.layers[0]: unknown key \"skip\"".into()),
        ("\"from\":[\"input\"],", "", "graph.layers[0]: key \"from\" is missing".into()),
        ("\"from\":[\"input\"]", "\"from\":\"input\"", "graph.layers[0].from: expected a list, found a string".into()),
        ("\"from\":[\"input\"]", "\"from\":[null]", "graph.layers[0].from: expected a string, found null".into()),
        ("\"from\":[\"input\"]", "\"from\":[]", "layer \"a\": 0 activations in \"from\", conv reads 1".into()),
        ("\"from\":[\"a\",\"a\"]", "\"from\":[\"a\"]", "layer \"d\": 1 activations in \"from\", add reads 2".into()),
        (
            "\"from\":[\"d\",\"a\"]",
            "\"from\":[\"d\",\"a\",\"a\"]",
            "layer \"m\": 3 activations in \"from\", multiply reads 2".into(),
        ),
        (
            "\"from\":[\"m\",\"d\"]",
            "\"from\":[\"m\"]",
            "layer \"c\": 1 activations in \"from\", concat reads 2 to 64".into(),
        ),
        ("\"from\":[\"v\"]", "\"from\":[\"v\",\"v\"]", "layer \"t\": 2 activations in \"from\", lookup reads 1".into()),
        (
            "\"from\":[\"input\"]",
            "\"from\":[\"a\"]",
            "layer \"a\": \"a\" in \"from\" is neither the input nor an earlier layer".into(),
        ),
        (
            "\"from\":[\"input\"]",
            "\"from\":[\"p\"]",
            "layer \"a\": \"p\" in \"from\" is neither the input nor an earlier layer".into(),
        ),
        ("\"from\":[\"v\"]", "\"from\":[\"p\"]", "layer \"v\" is read by no other".into()),
        // Channels and groups.
        (
            "\"channels\":2,\"groups\":1",
            "\"channels\":0,\"groups\":1",
            "layer \"a\": channels is 0, not within 1..=65535".into(),
        ),
        (
            "\"channels\":2,\"groups\":1",
            "\"channels\":2,\"groups\":0",
            "layer \"a\": groups is 0, not within 1..=65535".into(),
        ),
        ("\"groups\":1,", "", "graph.layers[0]: key \"groups\" is missing".into()),
        (
            "\"groups\":1",
            "\"groups\":2",
            "layer \"a\": 2 groups do not divide both 1 input and 2 output channels".into(),
        ),
        // Windows.
        (
            "\"kernel\":[1,1]",
            "\"kernel\":[1]",
            "graph.layers[0].kernel: expected two whole numbers, found a list of another length".into(),
        ),
        ("\"kernel\":[1,1]", "\"kernel\":1", "graph.layers[0].kernel: expected a list, found a whole number".into()),
        ("\"kernel\":[1,1]", "\"kernel\":[1,0]", "layer \"a\": kernel is 0, not within 1..=65535".into()),
        ("\"kernel\":[1,1]", "\"kernel\":[65536,1]", "layer \"a\": kernel is 65536, not within 1..=65535".into()),
        (
            "\"kernel\":[1,1]",
            "\"kernel\":[3,1]",
            "layer \"a\": the kernel 3x1 is larger than the 2x3 it runs over".into(),
        ),
        (
            "\"kernel\":[1,2]",
            "\"kernel\":[1,5]",
            "layer \"p\": the kernel 1x5 is larger than the 2x4 it runs over".into(),
        ),
        (
            "[1,1],\"padding\":[0,0,0,0]",
            "[1,0],\"padding\":[0,0,0,0]",
            "layer \"a\": stride is 0, not within 1..=65535".into(),
        ),
        (
            "[1,1],\"padding\":[0,0,0,0]",
            "[1,1,1],\"padding\":[0,0,0,0]",
            "graph.layers[0].stride: expected two whole numbers, found a list of another length".into(),
        ),
        (
            "[1,1],\"padding\":[0,0,0,0]",
            "[1,65536],\"padding\":[0,0,0,0]",
            "layer \"a\": stride is 65536, not within 1..=65535".into(),
        ),
        (",\"padding\":[0,0,0,0]", "", "graph.layers[0]: key \"padding\" is missing".into()),
        (
            "\"padding\":[0,0,0,0]",
            "\"padding\":[0,0]",
            "graph.layers[0].padding: expected four whole numbers, found a list of another length".into(),
        ),
        ("\"padding\":[0,0,0,0]", "\"padding\":[0,0,0,-1]", format!("graph.layers[0].padding: {fraction}")),
        (
            "\"padding\":[0,0,0,0]",
            "\"padding\":[1,0,0,0]",
            "layer \"a\": the top padding 1 is not below the kernel's 1".into(),
        ),
        (
            "\"padding\":[0,0,0,0]",
            "\"padding\":[0,0,0,1]",
            "layer \"a\": the right padding 1 is not below the kernel's 1".into(),
        ),
        (
            "\"padding\":[0,1,0,0]",
            "\"padding\":[0,2,0,0]",
            "layer \"p\": the left padding 2 is not below the kernel's 2".into(),
        ),
        (
            "\"padding\":[0,0,1,0]",
            "\"padding\":[0,0,2,0]",
            "layer \"v\": the bottom padding 2 is not below the kernel's 2".into(),
        ),
        (
            "\"padding\":[0,0,1,0]",
            "\"padding\":[0,0,65536,0]",
            "layer \"v\": padding is 65536, not within 0..=65535".into(),
        ),
        // Values.
        ("\"zero_point\":3,\"low\":1,", "\"low\":1,", "graph.layers[0]: key \"zero_point\" is missing".into()),
        (
            "\"zero_point\":3,\"low\":1",
            "\"zero_point\":256,\"low\":1",
            "layer \"a\": zero_point is 256, not within 0..=255".into(),
        ),
        (
            "\"low\":1,\"high\":200",
            "\"low\":4,\"high\":200",
            "layer \"a\": the zero point 3 is not within low 4 and high 200".into(),
        ),
        (
            "\"low\":1,\"high\":200",
            "\"low\":1,\"high\":2",
            "layer \"a\": the zero point 3 is not within low 1 and high 2".into(),
        ),
        ("\"low\":1,\"high\":200", "\"low\":1,\"high\":256", "layer \"a\": high is 256, not within 0..=255".into()),
        (
            "\"lookup\",\"from\":[\"v\"],\"zero_point\":7",
            "\"lookup\",\"from\":[\"v\"]",
            "graph.layers[6]: key \"zero_point\" is missing".into(),
        ),
        ("\"zero_point\":7", "\"zero_point\":7,\"low\":0", "graph.layers[6]: unknown key \"low\"".into()),
        (
            "\"from\":[\"m\",\"d\"]",
            "\"from\":[\"m\",\"d\"],\"zero_point\":3",
            "graph.layers[3]: unknown key \"zero_point\"".into(),
        ),
        ("\"padding\":[0,1,0,0]", "\"padding\":[0,1,0,0],\"low\":0", "graph.layers[4]: unknown key \"low\"".into()),
        // Two activations.
        (
            "\"multipliers\":[1048576,3]",
            "\"multipliers\":[0,3]",
            "layer \"d\": multipliers is 0, not within 1..=2097152".into(),
        ),
        (
            "\"multipliers\":[1048576,3]",
            "\"multipliers\":[1,2097153]",
            "layer \"d\": multipliers is 2097153, not within 1..=2097152".into(),
        ),
        (
            "\"multipliers\":[1048576,3]",
            "\"multipliers\":[1]",
            "graph.layers[1].multipliers: expected two whole numbers, found a list of another length".into(),
        ),
        ("\"shift\":20", "\"shift\":0", "layer \"d\": shift is 0, not within 1..=30".into()),
        ("\"shift\":20", "\"shift\":31", "layer \"d\": shift is 31, not within 1..=30".into()),
        (
            "\"from\":[\"a\",\"a\"]",
            "\"from\":[\"a\",\"input\"]",
            "layer \"d\": it adds a 1x2x3 to a 2x2x3, expected one shape".into(),
        ),
        (
            "\"from\":[\"d\",\"a\"]",
            "\"from\":[\"d\",\"input\"]",
            "layer \"m\": it multiplies a 2x2x3 by a 1x2x3, expected 2x2x3 or 2x1x1".into(),
        ),
        (
            "\"from\":[\"m\",\"d\"]",
            "\"from\":[\"m\",\"input\"]",
            "layer \"c\": \"input\" has the zero point 2, expected 3 as of what it is joined to".into(),
        ),
        // The last layer.
        (
            ",{\"name\":\"b\",\"kind\":\"linear\",\"from\":[\"t\"],\"channels\":2}",
            "",
            "the last layer \"t\" is lookup, expected linear".into(),
        ),
        (
            "\"from\":[\"t\"],\"channels\":2",
            "\"from\":[\"t\"],\"channels\":2,\"zero_point\":0,\"low\":0,\"high\":9",
            "the last layer \"b\" has zero_point, low and high, which logits do not have".into(),
        ),
        (
            "\"from\":[\"t\"],\"channels\":2",
            "\"from\":[\"t\"],\"channels\":2,\"high\":9",
            "graph.layers[7]: key \"zero_point\" is missing".into(),
        ),
        (
            "\"from\":[\"t\"],\"channels\":2",
            "\"from\":[\"t\"],\"channels\":2},{\"name\":\"z\",\"kind\":\"linear\",\"from\":[\"b\"],\"channels\":2",
            "layer \"b\": it lacks zero_point, low and high, and is not the last".into(),
        ),
        (
            "\"from\":[\"t\"],\"channels\":2",
            "\"from\":[\"t\"],\"channels\":32769",
            "the graph has 32769 classes, more than 32768".into(),
        ),
        (
            "\"from\":[\"t\"],\"channels\":2",
            "\"from\":[\"t\"],\"channels\":65536",
            "layer \"b\": channels is 65536, not within 1..=65535".into(),
        ),
        (
            "\"from\":[\"t\"],\"channels\":2",
            "\"from\":[\"t\"],\"channels\":2,\"kernel\":[1,1]",
            "graph.layers[7]: unknown key \"kernel\"".into(),
        ),
    ];
    let rows: Vec<(String, String)> = rows
        .into_iter()
        .map(|(from, to, error)| (replaced_first(GRAPH, from, to), error))
        .chain([
            (long(MAX_LAYERS + 1), "the graph has 513 layers, more than 512".into()),
            (format!("{{\"version\":2,\"input\":{INPUT},\"layers\":[]}}"), "the graph has no layers".into()),
            ("{}".into(), "graph: key \"version\" is missing".into()),
            ("7".into(), "graph: expected an object, found a whole number".into()),
            (String::new(), "graph: no valid JSON at line 1, column 0".into()),
            ("[".repeat(200), "graph: no valid JSON at line 1, column 128".into()),
        ])
        .collect();
    for (text, expected) in rows {
        assert_eq!(Graph::from_json(&text).expect_err("must be refused").to_string(), expected, "{text}");
        // The same rule holds within a file.
        assert_eq!(refusal(&whole(DISPLAY, &text, TENSORS, &data())), expected);
    }
}

/// What the text of a graph cannot say in a few bytes.
#[test]
fn shapes_that_are_refused() {
    let said =
        |input: Input, layers: Vec<Layer>| Graph::new(input, layers).map(|_| ()).map_err(|error| error.to_string());
    let (conv, pool) = (
        |kernel| Window::square(kernel, 1, kernel - 1),
        |name, from| Layer::max_pool(name, from, Window::square(1, 1, 0)),
    );
    let concat = |from: &[&str]| Layer::new("c", from, Operation::Concat);
    let rows = [
        // 65,535 rows grow by padding.
        (
            Input::new(1, 65_535, 1),
            vec![Layer::conv("a", "input", 1, conv(2), Finish::RELU), Layer::logits("b", "a", 1)],
            "layer \"a\": the output is 1x65536x2, more than 65535 in a direction",
        ),
        (
            Input::new(32_768, 1, 1),
            vec![concat(&["input", "input"]), Layer::logits("b", "c", 1)],
            "layer \"c\": the output is 65536x1x1, more than 65535 in a direction",
        ),
        (
            Input::new(1, 2, 3),
            vec![
                Layer::max_pool("a", "input", Window::square(2, 1, 0)),
                concat(&["input", "a"]),
                Layer::logits("b", "c", 1),
            ],
            "layer \"c\": \"a\" is 1x1x2, expected rows and columns as in 1x2x3",
        ),
        (
            Input::new(1, 1, 1),
            vec![concat(&["input"; 65]), Layer::logits("b", "c", 1)],
            "layer \"c\": 65 activations in \"from\", concat reads 2 to 64",
        ),
        (
            Input { zero_points: vec![1, 2], ..Input::new(2, 1, 1) },
            vec![pool("a", "input"), Layer::logits("b", "a", 1)],
            "layer \"a\": max_pool cannot read an input whose zero points differ, only conv, linear and lookup can",
        ),
        (
            Input { zero_points: vec![1, 2], ..Input::new(2, 1, 1) },
            vec![concat(&["input", "input"]), Layer::logits("b", "c", 1)],
            "layer \"c\": concat cannot read an input whose zero points differ, only conv, linear and lookup can",
        ),
        (
            Input { zero_points: vec![1, 2], ..Input::new(2, 1, 1) },
            vec![
                Layer::new(
                    "d",
                    &["input", "input"],
                    Operation::Add { multipliers: [1, 1], shift: 1, finish: Finish::RELU },
                ),
                Layer::logits("b", "d", 1),
            ],
            "layer \"d\": add cannot read an input whose zero points differ, only conv, linear and lookup can",
        ),
    ];
    for (input, layers, expected) in rows {
        assert_eq!(said(input, layers), Err(expected.into()));
    }
    // What may: 64 in a concatenation, three kinds over zero points that differ.
    let differ = Input { zero_points: vec![1, 2], ..Input::new(2, 1, 1) };
    let lookup = Layer::new("t", &["input"], Operation::Lookup { zero_point: 3 });
    let layers = vec![
        lookup,
        Layer::conv("a", "input", 2, Window::square(1, 1, 0), Finish { zero_point: 3, ..Finish::RELU }),
        Layer::linear("l", "input", 2, Finish { zero_point: 3, ..Finish::RELU }),
        concat(&[["t"; 22], ["a"; 22]].concat().into_iter().chain(["l"; 20]).collect::<Vec<_>>()),
        Layer::logits("b", "c", MAX_CLASSES),
    ];
    assert_eq!(said(differ, layers), Ok(()));
}

/// The three sums over a graph, at their edges.
#[test]
fn cost_is_bounded() {
    let one = Window::square(1, 1, 0);
    let pool = |name: &str, from: &str| Layer::max_pool(name, from, one);
    // The first reads 8 channels and writes them, the second reads them and writes one element a channel.
    let graph = |channels: usize, rows: usize| {
        let window = Window { kernel: [rows, 1024], ..one };
        let average = Operation::AveragePool { window, finish: Finish::RELU };
        let layers = vec![pool("a", "input"), Layer::new("v", &["a"], average), Layer::logits("b", "v", 1)];
        Graph::new(Input::new(channels, rows, 1024), layers)
    };
    assert_eq!(graph(8, 2730).expect("it is allowed").cost().moved, 3 * 8 * 2730 * 1024 + 3 * 8);
    let error = graph(8, 2731).expect_err("it moves more");
    assert_eq!(error.to_string(), "layers move 67117064 elements an image by layer \"v\", more than 67108864");
    // A channel counts as 8: the same with an eighth of them.
    assert_eq!(graph(1, 2731), Err(error));
    // Padding counts: 2 * 1023 columns more.
    let wide = Window { kernel: [1, 1024], stride: [1, 1], padding: [0, 1023, 0, 1023] };
    let cost = |window| {
        let layers = vec![Layer::max_pool("a", "input", window), Layer::logits("b", "a", 1)];
        Graph::new(Input::new(1, 16, 1024), layers).expect("it is allowed").cost()
    };
    let outputs = 1024 + 2 * 1023 - 1023;
    assert_eq!(cost(wide).moved, 8 * 16 * (1024 + 2 * 1023) + 2 * 8 * 16 * outputs + 8);
    assert_eq!(cost(wide).operations, 8 * 16 * outputs * 1024 + 8 * (8 * 16 * outputs + 8) + 256);
    // An activation counts as often as it is named.
    let twice = vec![Layer::new("c", &["input", "input"], Operation::Concat), Layer::logits("b", "c", 1)];
    let twice = Graph::new(Input::new(8, 16, 16), twice).expect("it is allowed").cost();
    assert_eq!(twice.moved, 2 * 2048 + 4096 + 4096 + 8);
    // 2^20 inputs times 128 channels are 2^27 packed weights, and a channel more counts as 8.
    let linear = |channels| Graph::new(Input::new(16, 256, 256), vec![Layer::logits("b", "input", channels)]);
    assert_eq!(linear(128).expect("2^27").cost().packed_weights, 1 << 27);
    assert_eq!(
        linear(129).expect_err("too many").to_string(),
        "there are 142606336 packed weights by layer \"b\", more than 134217728"
    );
    // In groups of two and two channels, each pair counts as 8; a channel for a channel as it is.
    let grouped = |channels, groups| {
        let conv = Operation::Conv { channels, groups, window: Window::square(3, 1, 0), finish: Finish::RELU };
        let layers = vec![Layer::new("a", &["input"], conv), Layer::logits("b", "a", 1)];
        Graph::new(Input::new(12, 9, 9), layers).expect("it is allowed").cost()
    };
    let last = 8 * 49;
    assert_eq!(grouped(12, 6).packed_weights, 9 * 12 * 8 + 12 * last);
    assert_eq!(grouped(12, 12).packed_weights, 9 * 12 + 12 * last);
    assert_eq!(grouped(24, 12).packed_weights, 9 * 12 * 8 + 24 * last);
    // A layer costs at least 16,384; the last moves 16 * 49 and 8 elements.
    let classes = 256 + 16_384;
    assert_eq!(grouped(12, 6).operations, 49 * 9 * 12 * 8 + classes);
    // Here moving outweighs 49 * 9 * 16 products.
    assert_eq!(grouped(12, 12).operations, 8 * (16 * 81 + 16 * 49) + classes);
    // 2^33 products are as many as may be; with what else there is, they are too many.
    let deep = |channels: usize| {
        let layers = vec![
            Layer::conv("a", "input", channels, Window::square(1, 1, 0), Finish::RELU),
            Layer::logits("b", "a", 1),
        ];
        Graph::new(Input::new(8192, 16, 16), layers)
    };
    assert_eq!(deep(4088).expect("it is allowed").cost().operations, 256 * 8192 * 4088 + 8 * (4088 * 256 + 8) + 256);
    assert_eq!(
        deep(4096).expect_err("too much").to_string(),
        "an image costs 8598323264 operations by layer \"b\", more than 8589934592"
    );
    // Sums beyond 64 bits are too large as well.
    let huge = vec![
        Layer::conv("a", "input", 65_535, Window::square(65_535, 65_535, 65_534), Finish::RELU),
        Layer::logits("b", "a", 1),
    ];
    assert!(Graph::new(Input::new(65_535, 65_535, 65_535), huge).is_err());
}

/// The numbers of `docs/inference.md`.
#[test]
fn which_standard_networks_fit() {
    let cost = |graph: Result<Graph, GraphError>| graph.expect("fits").cost().operations;
    assert_eq!(cost(networks::mobilenet_v2(127)), 338_190_336);
    assert_eq!(cost(networks::efficientnet_lite0(127)), 415_052_928);
    assert_eq!(cost(networks::resnet([3, 4, 6, 3], 127)), 4_230_983_680);
    assert_eq!(cost(Ok(ocelli_model::zoo::cifar10_cnn())), 5_090_944);
    let products = |graph: &Graph, layer: usize| {
        products(&graph.layers()[layer].operation, graph.source_shape(layer), graph.output_shape(layer))
    };
    let mobilenet = networks::mobilenet_v2(127).expect("fits");
    assert_eq!((0..mobilenet.layers().len()).map(|layer| products(&mobilenet, layer)).sum::<u64>(), 300_836_992);
    for (name, graph) in [
        ("ResNet-101", networks::resnet([3, 4, 23, 3], 127)),
        ("DenseNet-121", networks::densenet121(127)),
        ("EfficientNet-B1", networks::efficientnet(1.0, 1.1, 127)),
    ] {
        let graph = graph.unwrap_or_else(|error| panic!("{name}: {error}"));
        let classes: Vec<String> = (0..1000).map(|class| class.to_string()).collect();
        assert_eq!(ModelFile::check_fits(&graph, &classes), Ok(()), "{name}");
    }
    let refused = |graph: Result<Graph, GraphError>| graph.expect_err("too large");
    assert!(matches!(refused(networks::resnet([3, 8, 36, 3], 127)), GraphError::Moved { .. }));
    assert!(matches!(refused(networks::efficientnet(1.2, 1.4, 127)), GraphError::Moved { .. }));
    assert!(matches!(refused(networks::vgg16(127)), GraphError::Cost { .. }));
}

#[test]
fn a_display_that_cannot_be_read_decides_nothing() {
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
        (replaced(DISPLAY, "0.5", "1e999"), "display: no valid JSON at line 1, column 51".into()),
        (replaced(DISPLAY, "tiny", "\\ud800"), "display: no valid JSON at line 1, column 16".into()),
        ("[".repeat(1000), "display: no valid JSON at line 1, column 128".into()),
    ];
    let pixels = [9, 200, 31, 4, 77, 0];
    let expected_logits = ocelli_model::reference::logits(&tiny().build().expect("valid"), &pixels);
    for (display, expected) in rows {
        let model = Model::from_bytes(&whole(&display, GRAPH, TENSORS, &data())).expect("only people see the display");
        assert_eq!(model.display_error().map(ToString::to_string), Some(expected));
        assert_eq!(*model.display(), Display::numbered(2));
        assert_eq!(ocelli_model::reference::logits(&model, &pixels), expected_logits);
    }
}

#[test]
fn display_never_touches_execution() {
    let other = r#"{"name":"","classes":["yes","no"],"scale":7,"card":"line\nline"}"#;
    let one = Model::from_bytes(&whole(DISPLAY, GRAPH, TENSORS, &data())).expect("valid");
    let two = Model::from_bytes(&whole(other, GRAPH, TENSORS, &data())).expect("valid");
    let pixels = [9, 200, 31, 4, 77, 0];
    assert_eq!(ocelli_model::reference::logits(&one, &pixels), ocelli_model::reference::logits(&two, &pixels));
    assert_eq!((one.cost(), one.logits()), (two.cost(), two.logits()));
    assert_ne!(one.id(), two.id());
}

#[test]
fn proof_refusals_at_the_edge() {
    type Change = fn(&mut ModelFile);
    // a reads bytes around 2: at most 253 away. b reads bytes of 0 to 255 around 7, at most 248 away: 248 * (1 + … + 16) = 33,728
    // of channel 0, 248 * (17 + … + 32) = 97,216 of channel 1. v sums 4 bytes of 0 to 255 around 3: 1008. m multiplies d, at most
    // 252 away, by a, at most 197: 49,644.
    const B: i32 = i32::MAX - 97_216;
    let below = |limit: f32, bound: f32| (limit / bound).next_down();
    assert_eq!(below(2f32.powi(30), 1008.0), (1u32 << 30) as f32 / 1008.0 - 0.0625);
    let allowed: [Change; 14] = [
        |file| file.parameters[0].weight[0] = -127,
        |file| file.parameters[0].weight[0] = 127,
        |file| file.parameters[0].bias[0] = i32::MAX - 506,
        |file| file.parameters[0].bias[0] = -(i32::MAX - 506),
        |file| file.parameters[0].scale[0] = 2f32.powi(-64),
        |file| file.parameters[0].scale[0] = 256f32.next_down(),
        |file| file.parameters[2].scale[0] = 256f32.next_down(),
        |file| file.parameters[5].scale[0] = 2f32.powi(-64),
        |file| file.parameters[7].bias[1] = B,
        |file| file.parameters[7].bias[1] = -B,
        // In the last layer a product is clamped.
        |file| (file.parameters[7].bias[1], file.parameters[7].scale) = (B, vec![1.0, 256f32.next_down()]),
        // 4,194,304 - 506 times 256 would be 2^30 - …
        |file| (file.parameters[0].bias[0], file.parameters[0].scale[0]) = ((1 << 22) - 507, 255.99998),
        |file| (file.parameters[0].bias[0], file.parameters[0].scale[0]) = ((1 << 23) - 507, 128.0),
        |file| (file.parameters[0].bias[0], file.parameters[0].scale[0]) = ((1 << 30) - 507, 1.0),
    ];
    for (row, change) in allowed.into_iter().enumerate() {
        let mut file = tiny();
        change(&mut file);
        assert_eq!(file.build().map(|_| ()), Ok(()), "row {row}");
    }
    let refused: [(Change, &str); 17] = [
        (|file| file.parameters[0].weight[0] = -128, "layer \"a\", channel 0: a weight is -128, below -127"),
        (|file| file.parameters[7].weight[31] = -128, "layer \"b\", channel 1: a weight is -128, below -127"),
        (
            |file| file.parameters[0].scale[1] = 0.0,
            "layer \"a\", channel 1: the scale 0e0 is not within 2^-64 and 2^8, or is 2^8",
        ),
        (
            |file| file.parameters[0].scale[1] = -0.5,
            "layer \"a\", channel 1: the scale -5e-1 is not within 2^-64 and 2^8, or is 2^8",
        ),
        (
            |file| file.parameters[0].scale[1] = f32::NAN,
            "layer \"a\", channel 1: the scale NaN is not within 2^-64 and 2^8, or is 2^8",
        ),
        (
            |file| file.parameters[0].scale[1] = f32::INFINITY,
            "layer \"a\", channel 1: the scale inf is not within 2^-64 and 2^8, or is 2^8",
        ),
        (
            |file| file.parameters[0].scale[1] = 2f32.powi(-64).next_down(),
            "layer \"a\", channel 1: the scale 5.4210105e-20 is not within 2^-64 and 2^8, or is 2^8",
        ),
        (
            |file| file.parameters[2].scale[0] = 256.0,
            "layer \"m\", channel 0: the scale 2.56e2 is not within 2^-64 and 2^8, or is 2^8",
        ),
        (
            |file| file.parameters[5].scale[0] = 256.0,
            "layer \"v\", channel 0: the scale 2.56e2 is not within 2^-64 and 2^8, or is 2^8",
        ),
        (
            |file| file.parameters[7].scale = vec![1.0, 256.0],
            "layer \"b\", channel 1: the scale 2.56e2 is not within 2^-64 and 2^8, or is 2^8",
        ),
        (
            |file| file.parameters[0].bias[0] = i32::MAX - 505,
            "layer \"a\", channel 0: a sum can reach 2147483648, not below 2147483648",
        ),
        (
            |file| file.parameters[0].bias[0] = i32::MIN,
            "layer \"a\", channel 0: a sum can reach 2147484154, not below 2147483648",
        ),
        (
            |file| file.parameters[7].bias[1] = B + 1,
            "layer \"b\", channel 1: a sum can reach 2147483648, not below 2147483648",
        ),
        (
            |file| file.parameters[7].bias[1] = -B - 1,
            "layer \"b\", channel 1: a sum can reach 2147483648, not below 2147483648",
        ),
        (
            |file| file.parameters[7].bias[0] = i32::MIN,
            "layer \"b\", channel 0: a sum can reach 2147517376, not below 2147483648",
        ),
        (
            |file| (file.parameters[0].bias[0], file.parameters[0].scale[0]) = ((1 << 23) - 506, 128.0),
            "layer \"a\", channel 0: a sum of 8388608 times 1.28e2 is not below 1073741824",
        ),
        (
            |file| (file.parameters[0].bias[0], file.parameters[0].scale[0]) = ((1 << 30) - 506, 1.0),
            "layer \"a\", channel 0: a sum of 1073741824 times 1e0 is not below 1073741824",
        ),
    ];
    for (change, expected) in refused {
        let mut file = tiny();
        change(&mut file);
        assert_eq!(file.build().expect_err("not exact").to_string(), expected);
    }
}

/// Of an average pool and of a multiplication the bounds come from shapes and values alone.
#[test]
fn sums_without_weights_are_proven() {
    let file = |kernel: usize, zero_point: u8, scale: f32| {
        let window = Window::square(kernel, 1, 0);
        let layers = vec![
            Layer::new("v", &["input"], Operation::AveragePool { window, finish: Finish::RELU }),
            Layer::logits("b", "v", 1),
        ];
        let graph = Graph::new(Input::new(1, kernel, kernel).with_zero_point(zero_point), layers).expect("fits");
        let pool = Parameters { scale: vec![scale], ..Parameters::default() };
        let last = Parameters { weight: vec![1], bias: vec![0], ..Parameters::default() };
        ModelFile { graph, parameters: vec![pool, last], display: Display::numbered(1) }
    };
    let said = |file: ModelFile| file.build().map(|_| ()).map_err(|error| error.to_string());
    // No pool of bytes reaches 2^31: that would be 2,902 rows and columns, which move too many elements. But 2^30 it does.
    assert_eq!(said(file(2052, 0, 1.0)), Ok(()));
    let error = "layer \"v\", channel 0: a sum of 1074776295 times 1e0 is not below 1073741824";
    assert_eq!(said(file(2053, 0, 1.0)), Err(error.into()));
    assert_eq!(said(file(2053, 128, 1.99)), Ok(()));
    let two = |low: u8, high: u8, scale: f32| {
        let finish = Finish { zero_point: 100, low, high };
        let conv = |name| Layer::conv(name, "input", 1, Window::square(1, 1, 0), finish);
        let layers = vec![
            conv("x"),
            conv("y"),
            Layer::new("m", &["x", "y"], Operation::Multiply { finish: Finish::RELU }),
            Layer::logits("b", "m", 1),
        ];
        let graph = Graph::new(Input::new(1, 1, 1), layers).expect("fits");
        let conv = Parameters { weight: vec![1], bias: vec![0], scale: vec![1.0], ..Parameters::default() };
        let product = Parameters { scale: vec![scale], ..Parameters::default() };
        let last = Parameters { weight: vec![1], bias: vec![0], ..Parameters::default() };
        ModelFile { graph, parameters: vec![conv.clone(), conv, product, last], display: Display::numbered(1) }
    };
    let model = two(40, 131, 255.0).build().expect("60 * 60 * 255");
    assert_eq!(model.proof().sums, [255, 255, 3600, 127]);
    assert_eq!(two(90, 131, 255.0).build().expect("31 * 31 * 255").proof().sums, [255, 255, 961, 127]);
}

/// The bounds of what is pooled, joined and looked up.
#[test]
fn bounds_follow_the_values() {
    let model = tiny().build().expect("valid");
    let bounds: Vec<(u8, u8)> = model.proof().activations.iter().map(|bounds| (bounds.low, bounds.high)).collect();
    // Input, a, d, m, c, p, v, t: the table of t holds all bytes.
    assert_eq!(bounds, [(0, 255), (1, 200), (0, 255), (2, 255), (0, 255), (0, 255), (0, 127), (0, 255)]);
    let table = |entries: std::ops::Range<u8>, zero_point: u8| {
        let mut file = tiny();
        file.graph = Graph::from_json(&replaced(GRAPH, "\"zero_point\":7", &format!("\"zero_point\":{zero_point}")))
            .expect("valid");
        file.parameters[6].table = entries.clone().cycle().take(256).collect();
        let model = file.build().expect("valid");
        (model.proof().activations[7], model.proof().sums[7])
    };
    // The zero point is among the values, so that padding never leaves the bounds.
    let weights = (17..=32).sum::<i64>();
    assert_eq!(table(10..21, 7), (ocelli_model::Bounds { low: 7, high: 20 }, 13 * weights + 3));
    assert_eq!(table(10..21, 30), (ocelli_model::Bounds { low: 10, high: 30 }, 20 * weights + 3));
    assert_eq!(table(10..21, 12), (ocelli_model::Bounds { low: 10, high: 20 }, 8 * weights + 3));
}

#[test]
fn a_file_is_not_written_from_parts_that_do_not_fit() {
    let mut file = tiny();
    file.parameters.pop();
    assert_eq!(file.to_bytes(), Err(FileError::LayerCount { expected: 8, found: 7 }));
    let length = |change: fn(&mut ModelFile)| {
        let mut file = tiny();
        change(&mut file);
        file.to_bytes().expect_err("must be refused").to_string()
    };
    assert_eq!(
        length(|file| file.parameters[7].weight.truncate(31)),
        "tensor \"b.weight\" has 31 elements, expected 32"
    );
    assert_eq!(length(|file| file.parameters[7].scale = vec![1.0]), "tensor \"b.scale\" has 1 elements, expected 2");
    assert_eq!(length(|file| file.parameters[0].scale.clear()), "tensor \"a.scale\" has 0 elements, expected 2");
    assert_eq!(length(|file| file.parameters[1].bias = vec![0]), "tensor \"d.bias\" has 1 elements, expected 0");
    assert_eq!(length(|file| file.parameters[6].table.clear()), "tensor \"t.table\" has 0 elements, expected 256");
    let mut file = tiny();
    file.display.scale = f64::NAN;
    assert_eq!(file.to_bytes(), Err(DisplayError::Scale.into()));
    file.display = Display { classes: vec!["no".into()], ..tiny().display };
    assert_eq!(file.to_bytes(), Err(DisplayError::ClassCount { expected: 2, found: 1 }.into()));
}

/// What training learns is written hours later.
#[test]
fn what_no_file_can_hold_is_known_before_anything_is_learnt() {
    let graph = Graph::from_json(GRAPH).expect("it is allowed");
    let check = |classes: [&str; 2]| ModelFile::check_fits(&graph, &classes.map(String::from));
    let (fits, long) = ("猫".repeat(33), "猫".repeat(34));
    assert_eq!(check(["no", &fits]), Ok(()));
    for name in ["", "a\tb", &long] {
        assert!(matches!(check(["no", name]), Err(FileError::Display(DisplayError::ClassName { .. }))), "{name:?}");
    }
    let one = ModelFile::check_fits(&graph, &["no".to_owned()]);
    assert_eq!(one, Err(DisplayError::ClassCount { expected: 2, found: 1 }.into()));
    // 4096 times 16,384 weights are 64 MiB, and a header beside them.
    let layers = vec![Layer::logits("b", "input", 4096)];
    let graph = Graph::new(Input::new(1, 128, 128), layers).expect("it is allowed");
    let classes: Vec<String> = (0..4096).map(|class| class.to_string()).collect();
    let found = ModelFile::check_fits(&graph, &classes);
    assert!(matches!(found, Err(FileError::TooLarge { .. })), "{found:?}");
}

#[test]
fn no_cut_or_changed_byte_makes_a_panic() {
    let good = whole(DISPLAY, GRAPH, TENSORS, &data());
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
