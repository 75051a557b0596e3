//! Import of TFLite files: of small ones that are written here, and of those in the folder that OCELLI_TFLITE names, beside
//! LiteRT where Python has it (`pip install ai-edge-litert`).

mod commands;
mod networks;
mod writer;

use std::collections::BTreeSet;
use std::env;
use std::fs;

use ocelli_model::file::ModelFile;
use ocelli_model::sample::{self, within};
use ocelli_model::{Display, Graph, Input, Layer, Model, reference};
use ocelli_train::runtime::{Job, Runtime, RuntimeError, RuntimeKind};
use ocelli_train::tflite::{Imported, Pixels, TensorOfLayer, TfliteError, ending_with, import};

use self::networks::{AVERAGE_POOL, Known, Maker};
use self::writer::{Field, Network, Operator, Tensor, UINT8};

/// How many small networks are made.
const NETWORKS: u64 = 60;
/// Pictures that each is run on.
const PICTURES: usize = 3;

fn read(file: &[u8]) -> Imported {
    import(file, &Pixels::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn model(imported: &Imported) -> Model {
    let classes = (0..imported.graph.logits()).map(|class| class.to_string()).collect();
    imported.model(String::new(), classes, String::new()).unwrap_or_else(|error| panic!("{error:?}"))
}

fn pictures(count: usize, pixels: usize, seed: u64) -> Vec<Vec<u8>> {
    let mut chance = sample::seeded(seed);
    // Noise, and large areas of one brightness.
    let picture = |index: usize| -> Vec<u8> {
        let (low, high) = if index.is_multiple_of(2) { (0, 255) } else { (100, 180) };
        (0..pixels).map(|_| within(&mut chance, low, high) as u8).collect()
    };
    (0..count).map(picture).collect()
}

/// A runtime, if Python has it.
fn runtime(kind: RuntimeKind) -> Option<Runtime> {
    let python = env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    match Runtime::start(kind, &python) {
        Ok(runtime) => Some(runtime),
        Err(RuntimeError::Start { .. } | RuntimeError::Missing { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

fn litert() -> Option<Runtime> {
    runtime(RuntimeKind::LiteRt)
}

/// The bytes of a tensor that LiteRT computes for each picture, in our order.
fn theirs(
    litert: &mut Runtime,
    file: &[u8],
    imported: &Imported,
    of: &TensorOfLayer,
    pictures: &[Vec<u8>],
) -> Vec<Vec<u8>> {
    let file = ending_with(file, of.tensor).expect("the tensor is there");
    let (shape, given) = (imported.graph.input().shape, &imported.given);
    let job = Job { file: &file, shape, given, outputs: of.shape.elements() };
    let pictures: Vec<&[u8]> = pictures.iter().map(Vec::as_slice).collect();
    let rows = litert.run(job, &pictures).unwrap_or_else(|error| panic!("tensor {}: {error}", of.tensor));
    let byte = |row: &[i32], at: usize| {
        let (channel, place) = (at / of.shape.plane(), at % of.shape.plane());
        (row[place * of.shape.channels + channel] - of.least) as u8
    };
    rows.iter().map(|row| (0..row.len()).map(|at| byte(row, at)).collect()).collect()
}

/// Every activation that is in the file too, and the logits, for a picture.
fn ours(model: &Model, picture: &[u8]) -> (Vec<Vec<u8>>, Vec<i32>) {
    let mut activations = Vec::new();
    let logits = reference::observe(model, picture, &mut |bytes| activations.push(bytes.to_vec()));
    (activations, logits)
}

/// Compares every tensor that LiteRT computes as we do, up to a layer, and names the first that differs. The number of bytes
/// compared.
fn compare(litert: &mut Runtime, name: &str, file: &[u8], pictures: &[Vec<u8>], end: usize) -> usize {
    let imported = read(file);
    let model = model(&imported);
    let found: Vec<_> = pictures.iter().map(|picture| ours(&model, picture)).collect();
    let mut compared = 0;
    for tensor in &imported.tensors {
        let Some(layer) = tensor.layer.filter(|layer| *layer < end) else { continue };
        let expected = theirs(litert, file, &imported, tensor, pictures);
        for (picture, ((activations, logits), expected)) in found.iter().zip(&expected).enumerate() {
            let found = &activations[layer];
            let differ = found.iter().zip(expected).filter(|(found, expected)| found != expected).count();
            let layer = &imported.graph.layers()[layer];
            assert_eq!(differ, 0, "{name}, picture {picture}: {differ} of {} of {layer:?} differ", found.len());
            compared += found.len();
            if tensor.tensor == imported.logits {
                assert_eq!(bytes(&imported, logits), *expected, "{name}: logits");
            }
        }
    }
    compared
}

/// Logits as bytes of the file's last tensor.
fn bytes(imported: &Imported, logits: &[i32]) -> Vec<u8> {
    let zero_point = i32::from(last(imported).zero_point);
    logits.iter().map(|logit| u8::try_from(logit + zero_point).expect("what is last has a byte")).collect()
}

fn last(imported: &Imported) -> &TensorOfLayer {
    imported.tensors.iter().find(|tensor| tensor.tensor == imported.logits).expect("the last tensor has a layer")
}

fn network(seed: u64) -> Network {
    networks::network(&mut sample::seeded(seed))
}

/// The bytes that LiteRT gave for the last tensor of each small network, a line each. With OCELLI_RECORD the test beside LiteRT
/// writes them anew.
const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tflite/litert.txt");

fn recorded() -> Vec<String> {
    let text = fs::read_to_string(RECORDED).unwrap_or_else(|error| panic!("{RECORDED}: {error}"));
    text.lines().map(str::to_owned).collect()
}

fn line(rows: &[Vec<u8>]) -> String {
    rows.iter().map(hex::encode).collect::<Vec<_>>().join(" ")
}

#[test]
fn small_networks_give_what_litert_gave() {
    let recorded = recorded();
    let mut operators = BTreeSet::new();
    let mut kinds = BTreeSet::new();
    let mut found = Vec::new();
    for seed in 0..NETWORKS {
        let network = network(seed);
        let file = network.to_bytes();
        let imported = read(&file);
        let model = model(&imported);
        let pictures = pictures(PICTURES, model.pixels(), seed);
        let rows = pictures.iter().map(|picture| bytes(&imported, &reference::logits(&model, picture)));
        found.push(line(&rows.collect::<Vec<_>>()));
        operators.extend(network.operators.iter().map(|operator| operator.code));
        kinds.extend(imported.graph.layers().iter().map(|layer| layer.operation.kind()));
    }
    assert_eq!(found.len(), recorded.len());
    let differ: Vec<usize> = (0..found.len()).filter(|seed| found[*seed] != recorded[*seed]).collect();
    assert!(differ.is_empty(), "seeds {differ:?} differ from {RECORDED}");
    // Each operator that can be imported, and each kind of layer.
    assert_eq!(operators.len(), 17, "{operators:?}");
    assert_eq!(kinds.len(), 8, "{kinds:?}");
}

#[test]
fn every_tensor_of_small_networks_has_the_bits_of_litert() {
    let Some(mut litert) = litert() else { return };
    let mut compared = 0;
    let mut expected = Vec::new();
    for seed in 0..NETWORKS {
        let file = network(seed).to_bytes();
        let imported = read(&file);
        let pictures = pictures(PICTURES, imported.graph.input().shape.elements(), seed);
        compared += compare(&mut litert, &format!("seed {seed}"), &file, &pictures, usize::MAX);
        expected.push(line(&theirs(&mut litert, &file, &imported, last(&imported), &pictures)));
    }
    assert!(compared > 100_000, "{compared}");
    if env::var_os("OCELLI_RECORD").is_some() {
        fs::write(RECORDED, expected.join("\n") + "\n").expect("writable");
    }
    assert!(expected == recorded(), "{RECORDED} has other bytes than LiteRT gives now");
}

/// LiteRT rounds the mean of signed bytes to the nearest, halves away from zero; we round what is counted from the zero point to
/// the nearest, halves to even. So they differ by one step, where there is a half, and nowhere else.
#[test]
fn average_pools_differ_from_litert_in_halves_only() {
    let Some(mut litert) = litert() else { return };
    let (mut halves, mut differing) = (0, 0);
    for (seed, (kernel, zero_point)) in
        [([2, 2], -128), ([2, 2], 3), ([4, 4], -7), ([8, 8], -128)].into_iter().enumerate()
    {
        let mut chance = sample::seeded(seed as u64);
        let mut maker = Maker { network: Network::default(), chance: &mut chance };
        let x = maker.activation([1, 16, 16, 3], 0.1, zero_point);
        maker.network.inputs = vec![x.tensor];
        let y: Known = maker.pool(AVERAGE_POOL, &x, (kernel, kernel, networks::VALID), 0).expect("it fits");
        networks::end(&mut maker, y);
        let file = maker.network.to_bytes();
        let imported = read(&file);
        assert!(imported.has_halves());
        let model = model(&imported);
        let pictures = pictures(4, model.pixels(), seed as u64);
        let pool = imported.tensors.iter().find(|tensor| tensor.tensor == y.tensor as usize).expect("it has a layer");
        let expected = theirs(&mut litert, &file, &imported, pool, &pictures);
        let [rows, columns] = kernel.map(|size| size as usize);
        for (picture, expected) in pictures.iter().zip(&expected) {
            let (activations, _) = ours(&model, picture);
            let found = &activations[pool.layer.expect("it is no input")];
            for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
                let (channel, place) = (at / pool.shape.plane(), at % pool.shape.plane());
                let (top, left) = (place / pool.shape.width * rows, place % pool.shape.width * columns);
                let window = (0..rows * columns).map(|tap| (top + tap / columns, left + tap % columns));
                let sum: i32 =
                    window.map(|(row, column)| i32::from(picture[channel * 256 + row * 16 + column]) - 128).sum();
                let count = (rows * columns) as i32;
                let is_half = sum.rem_euclid(count) * 2 == count;
                halves += i32::from(is_half);
                differing += i32::from(found != expected);
                // Away from zero.
                let theirs = (sum.abs() + count / 2) / count * sum.signum();
                assert_eq!(i32::from(*expected) - 128, theirs, "LiteRT, {sum} over {count}");
                let values = sum - count * zero_point as i32;
                let even = (f64::from(values) / f64::from(count)).round_ties_even() as i32;
                assert_eq!(i32::from(*found) - 128 - zero_point as i32, even, "ours, {sum} over {count}");
                assert!(is_half || found == expected, "{sum} over {count}");
            }
        }
    }
    assert!(halves > 100 && differing > halves / 4 && differing < halves, "{differing} of {halves} halves differ");
}

/// Compares what follows an average pool of all rows and columns, when it gets what LiteRT gives there; that differs in halves only.
fn compare_from_a_pool(litert: &mut Runtime, name: &str, file: &[u8], pictures: &[Vec<u8>], pool: usize) {
    let imported = read(file);
    let model = model(&imported);
    let graph = model.graph();
    let tensor = imported.tensors.iter().find(|tensor| tensor.layer == Some(pool)).expect("the pool has a tensor");
    assert_eq!(tensor.shape.plane(), 1, "{name}");
    let from = |layer: &Layer| {
        let renamed = |name: &String| if *name == graph.layers()[pool].name { "input".into() } else { name.clone() };
        Layer { from: layer.from.iter().map(renamed).collect(), ..layer.clone() }
    };
    let layers = graph.layers()[pool + 1..].iter().map(from).collect();
    let input = Input::new(tensor.shape.channels, 1, 1).with_zero_point(tensor.zero_point);
    let parameters = (pool + 1..graph.layers().len()).map(|layer| model.parameters(layer).clone()).collect();
    let graph = Graph::new(input, layers).expect("the layers were allowed");
    let display = Display::numbered(graph.logits());
    let rest = ModelFile { graph, parameters, display }.build().expect("it was exact");

    let pooled = theirs(litert, file, &imported, tensor, pictures);
    let expected = theirs(litert, file, &imported, last(&imported), pictures);
    let source = model.graph().sources(pool)[0];
    let count = model.graph().source_shape(pool).plane();
    for ((picture, pooled), expected) in pictures.iter().zip(&pooled).zip(&expected) {
        let (activations, _) = ours(&model, picture);
        for (channel, (found, expected)) in activations[pool].iter().zip(pooled).enumerate() {
            let window = &activations[source - 1][channel * count..(channel + 1) * count];
            let sum: usize = window.iter().map(|byte| usize::from(*byte)).sum();
            let is_half = (2 * sum).is_multiple_of(count) && !sum.is_multiple_of(count);
            assert!(found == expected || is_half && found.abs_diff(*expected) == 1, "{name}: {sum} over {count}");
        }
        assert_eq!(bytes(&imported, &reference::logits(&rest, pooled)), *expected, "{name}: after the pool");
    }
}

/// The networks of a folder, such as those that this project's documents name.
#[test]
fn whole_networks_have_the_bits_of_litert() {
    let (Some(folder), Some(mut litert)) = (env::var_os("OCELLI_TFLITE"), litert()) else { return };
    let mut compared = 0;
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for path in entries.map(|entry| entry.expect("readable").path()) {
        if path.extension().is_none_or(|ending| ending != "tflite") {
            continue;
        }
        let file = fs::read(&path).expect("readable");
        let imported = read(&file);
        let pictures = pictures(2, imported.graph.input().shape.elements(), 7);
        let name = path.display().to_string();
        let is_pool = |layer: &Layer| layer.name.starts_with("average_pool");
        let pool = imported.graph.layers().iter().position(is_pool);
        compare(&mut litert, &name, &file, &pictures, pool.unwrap_or(usize::MAX));
        if let Some(pool) = pool {
            compare_from_a_pool(&mut litert, &name, &file, &pictures, pool);
        }
        compared += 1;
    }
    assert!(compared > 0, "there are no TFLite files in {}", folder.display());
}

impl Network {
    /// Flattens to a shape first, and squeezes that.
    fn squeeze(&mut self, shape: &'static [i32], places: &'static [i32]) {
        let flat = self.tensors[FLAT].clone();
        let first = self.tensor(Tensor { shape: shape.to_vec(), ..flat });
        let to = self.integers(&[shape.len() as i32], shape);
        self.operators[RESHAPE_OPERATOR].inputs[1] = to;
        self.operators[RESHAPE_OPERATOR].outputs = vec![first];
        let options = (30, vec![(0, Field::List(places))]);
        let squeeze = Operator { code: 43, version: 1, inputs: vec![first], outputs: vec![FLAT as i32], options };
        self.operators.insert(RESHAPE_OPERATOR + 1, squeeze);
    }

    /// Ends in a softmax over the last dimension of what the logits are reshaped to.
    fn end_in_softmax(&mut self, shape: &[i32]) {
        let logits = self.tensors[self.outputs[0] as usize].clone();
        let to = self.integers(&[shape.len() as i32], shape);
        let reshaped = self.activation(shape, logits.scales[0], logits.zero_points[0]);
        self.operator(networks::RESHAPE, &[self.outputs[0], to], reshaped, 17, &[]);
        let after = self.activation(shape, 1.0 / 256.0, -128);
        self.operator(networks::SOFTMAX, &[reshaped], after, 9, &[(0, Field::F32(1.0))]);
        self.outputs = vec![after];
    }
}

/// A network of one convolution and one linear layer, to be made wrong.
fn plain() -> Network {
    let mut chance = sample::seeded(1);
    let mut maker = Maker { network: Network::default(), chance: &mut chance };
    let x = maker.activation([1, 6, 6, 3], 1.0 / 255.0, -128);
    maker.network.inputs = vec![x.tensor];
    let y = maker.conv(&x, 4, ([3, 3], [2, 2], networks::SAME), 1).expect("it fits");
    let flat = maker.network.activation(&[1, 36], y.scale, y.zero_point);
    let shape = maker.network.integers(&[2], &[1, 36]);
    maker.network.operator(networks::RESHAPE, &[y.tensor, shape], flat, 17, &[]);
    let logits = maker.linear(flat, &y, 36, 5, 0);
    maker.network.outputs = vec![logits.tensor];
    maker.network
}

/// Of the plain network: the convolution's weights, its output, and that flat.
const WEIGHTS: usize = 1;
const OUTPUT: usize = 3;
const FLAT: usize = 4;
const CONV_OPERATOR: usize = 0;
const RESHAPE_OPERATOR: usize = 1;

#[test]
fn what_has_no_counterpart_is_named() {
    type Change = fn(&mut Network);
    let table: &[(Change, &str)] = &[
        (
            |net| net.operators[CONV_OPERATOR].code = 41,
            "operator 0, SUB, which gives \"tensor 3\": the operator is not supported",
        ),
        (
            |net| net.operators[CONV_OPERATOR].code = 1000,
            "operator 0, operator 1000, which gives \"tensor 3\": the operator is not supported",
        ),
        (
            |net| net.operators[CONV_OPERATOR].options.0 = 8,
            "operator 0, CONV_2D, which gives \"tensor 3\": its options are of kind 8, expected 1",
        ),
        (
            |net| net.operators[CONV_OPERATOR].options.1[0].1 = Field::I8(2),
            "operator 0, CONV_2D, which gives \"tensor 3\": its padding is of kind 2, expected SAME or VALID",
        ),
        (
            |net| net.operators[CONV_OPERATOR].options.1[1].1 = Field::I32(0),
            "operator 0, CONV_2D, which gives \"tensor 3\": it has a kernel of [3, 3] and strides of [2, 0]",
        ),
        (
            |net| net.operators[CONV_OPERATOR].options.1[3].1 = Field::I8(4),
            "operator 0, CONV_2D, which gives \"tensor 3\": its activation is of kind 4, expected none, RELU, RELU6 or RELU_N1_TO_1",
        ),
        (
            |net| net.operators[CONV_OPERATOR].options.1[4].1 = Field::I32(1 << 20),
            "operator 0, CONV_2D, which gives \"tensor 3\": it has a kernel of [3, 3] and a dilation of [1, 1048576]",
        ),
        (
            |net| net.operators[CONV_OPERATOR].inputs.truncate(1),
            "operator 0, CONV_2D, which gives \"tensor 3\": it lacks its input 1",
        ),
        (
            |net| net.operators[CONV_OPERATOR].inputs.swap(0, 1),
            "operator 0, CONV_2D, which gives \"tensor 3\": its input 0, \"tensor 1\", is a constant",
        ),
        (
            |net| net.operators.swap(CONV_OPERATOR, RESHAPE_OPERATOR),
            "operator 0, RESHAPE, which gives \"tensor 4\": its input 0, \"tensor 3\", is given by no operator before",
        ),
        (
            |net| net.tensors[WEIGHTS].kind = UINT8,
            "operator 0, CONV_2D, which gives \"tensor 3\": its \"tensor 1\" is UINT8, expected INT8",
        ),
        (
            |net| net.tensors[WEIGHTS].data.truncate(5),
            "operator 0, CONV_2D, which gives \"tensor 3\": its \"tensor 1\" has 5 bytes for [4, 3, 3, 3]",
        ),
        (
            |net| net.tensors[WEIGHTS].data[7] = 0x80,
            "operator 0, CONV_2D, which gives \"tensor 3\": channel 0 has a weight of -128, expected -127 to 127",
        ),
        (
            |net| net.tensors[WEIGHTS].zero_points[0] = 3,
            "operator 0, CONV_2D, which gives \"tensor 3\": its weights have a zero point, expected 0",
        ),
        (
            |net| net.tensors[WEIGHTS].scales = vec![0.1; 3],
            "operator 0, CONV_2D, which gives \"tensor 3\": its weights have 3 scales along dimension 0, expected one or 4 along 0",
        ),
        (
            |net| net.tensors[WEIGHTS].scales = vec![f32::NAN; 4],
            "operator 0, CONV_2D, which gives \"tensor 3\": channel 0 scales its sums by NaN, expected 0 to 256",
        ),
        (
            |net| net.tensors[WEIGHTS].scales = vec![1e9; 4],
            "operator 0, CONV_2D, which gives \"tensor 3\": channel 0 scales its sums by 1.9858504e8, expected 0 to 256",
        ),
        (
            |net| net.tensors[WEIGHTS].shape = vec![4, 27],
            "operator 0, CONV_2D, which gives \"tensor 3\": its weights are [4, 27], expected four dimensions",
        ),
        (
            |net| net.tensors[WEIGHTS].shape = vec![2, 3, 3, 6],
            "operator 0, CONV_2D, which gives \"tensor 3\": its weights are for 6 channels, and it reads 3",
        ),
        (
            |net| net.tensors[WEIGHTS].shape = vec![-4, 3, 3, 3],
            "operator 0, CONV_2D, which gives \"tensor 3\": \"tensor 1\" has the shape [-4, 3, 3, 3]",
        ),
        (
            |net| net.tensors[OUTPUT].kind = 0,
            "operator 0, CONV_2D, which gives \"tensor 3\": it gives FLOAT32, expected INT8",
        ),
        (
            |net| net.tensors[OUTPUT].scales.clear(),
            "operator 0, CONV_2D, which gives \"tensor 3\": \"tensor 3\" has not one scale and one zero point",
        ),
        (
            |net| net.tensors[OUTPUT].scales = vec![0.0],
            "operator 0, CONV_2D, which gives \"tensor 3\": \"tensor 3\" has the scale 0e0 and the zero point 113, expected one above 0, and one of eight bits",
        ),
        (
            |net| net.tensors[OUTPUT].zero_points = vec![128],
            "operator 0, CONV_2D, which gives \"tensor 3\": \"tensor 3\" has the scale 1.9747553e-2 and the zero point 128, expected one above 0, and one of eight bits",
        ),
        (
            |net| net.tensors[OUTPUT].shape = vec![1, 4, 3, 3],
            "operator 0, CONV_2D, which gives \"tensor 3\": it gives [1, 3, 3, 4], and its output is [1, 4, 3, 3]",
        ),
        (
            |net| net.inputs.push(0),
            "the input: found 2 inputs, expected one picture of fixed rows and columns, (1, rows, columns, channels)",
        ),
        (
            |net| net.tensors[0].shape = vec![2, 6, 6, 3],
            "the input: input \"tensor 0\" has the shape [2, 6, 6, 3], expected one picture of fixed rows and columns, (1, rows, columns, channels)",
        ),
        (|net| net.outputs.clear(), "the output: found 0 outputs, expected one score for each class"),
        (
            |net| net.outputs = vec![OUTPUT as i32],
            "the output: the network ends in \"tensor 3\" of the shape [1, 3, 3, 4], expected one score for each class",
        ),
        (
            |net| net.outputs = vec![0],
            "the output: the network ends in \"tensor 0\" of the shape [1, 6, 6, 3], expected one score for each class",
        ),
        (
            |net| net.outputs = vec![99],
            "the file is damaged, or too large in one of its parts: number 99 of a list of 9",
        ),
        (
            |net| net.operators[1].outputs = net.operators[0].outputs.clone(),
            "the file is damaged, or too large in one of its parts: operators 0 and 1 both write tensor \"tensor 3\", expected one",
        ),
        (
            |net| net.tensors[WEIGHTS].is_variable = true,
            "operator 0, CONV_2D, which gives \"tensor 3\": its \"tensor 1\" is variable INT8, expected INT8",
        ),
        (
            |net| net.tensors[WEIGHTS].details = 1,
            "operator 0, CONV_2D, which gives \"tensor 3\": \"tensor 1\" is quantised in a way of its own, expected by scales",
        ),
        (
            |net| net.tensors[OUTPUT].details = 2,
            "operator 0, CONV_2D, which gives \"tensor 3\": \"tensor 3\" is quantised in a way of its own, expected by scales",
        ),
        (
            |net| net.tensors[0].signature = vec![-1, -1, 6, 3],
            "the input: input \"tensor 0\" has the open shape [-1, -1, 6, 3], expected one picture of fixed rows and columns, (1, rows, columns, channels)",
        ),
        (
            |net| net.operators[CONV_OPERATOR].inputs.push(1),
            "operator 0, CONV_2D, which gives \"tensor 3\": it has 4 inputs, expected at most 3",
        ),
        (
            |net| net.operators[RESHAPE_OPERATOR].inputs.push(1),
            "operator 1, RESHAPE, which gives \"tensor 4\": it has 3 inputs, expected at most 2",
        ),
        (
            |net| {
                let shape = net.operators[RESHAPE_OPERATOR].inputs[1] as usize;
                net.tensors[shape].data[0] = 4;
            },
            "operator 1, RESHAPE, which gives \"tensor 4\": it reshapes to [4, 36], and its output is [1, 36]",
        ),
        (
            |net| {
                let shape = net.operators[RESHAPE_OPERATOR].inputs[1] as usize;
                net.tensors[shape].shape = vec![1];
                net.tensors[shape].data.truncate(4);
            },
            "operator 1, RESHAPE, which gives \"tensor 4\": it reshapes to [1], and its output is [1, 36]",
        ),
        (
            |net| net.operators[CONV_OPERATOR].outputs = vec![WEIGHTS as i32],
            "the file is damaged, or too large in one of its parts: operator 0 writes tensor \"tensor 1\", which is an input or a constant, expected another",
        ),
        (
            |net| net.operators[RESHAPE_OPERATOR].outputs = vec![0],
            "the file is damaged, or too large in one of its parts: operator 1 writes tensor \"tensor 0\", which is an input or a constant, expected another",
        ),
        (
            |net| (net.tensors[OUTPUT].kind, net.tensors[OUTPUT].zero_points) = (UINT8, vec![0]),
            "operator 0, CONV_2D, which gives \"tensor 3\": it gives UINT8, expected INT8",
        ),
        (
            |net| (net.tensors[0].kind, net.tensors[0].zero_points) = (UINT8, vec![0]),
            "operator 0, CONV_2D, which gives \"tensor 3\": it reads \"tensor 0\", which is UINT8, expected INT8",
        ),
        (
            |net| {
                // Both terms are the input.
                (net.tensors[0].kind, net.tensors[0].zero_points) = (UINT8, vec![0]);
                let sum = net.tensor(net.tensors[0].clone());
                let (inputs, outputs) = (vec![0, 0], vec![sum]);
                net.operators.insert(0, Operator { code: 0, version: 1, inputs, outputs, options: (11, vec![]) });
                net.operators[CONV_OPERATOR + 1].inputs[0] = sum;
            },
            "operator 0, ADD, which gives \"tensor 9\": it reads \"tensor 0\", which is UINT8, expected INT8",
        ),
        (
            |net| (net.tensors[FLAT].kind, net.tensors[FLAT].zero_points) = (UINT8, vec![0]),
            "operator 1, RESHAPE, which gives \"tensor 4\": it reads INT8 and gives UINT8, expected one type",
        ),
        (
            |net| net.operators[RESHAPE_OPERATOR].inputs.truncate(1),
            "operator 1, RESHAPE, which gives \"tensor 4\": it says no shape to reshape to",
        ),
        (
            |net| {
                net.operators[RESHAPE_OPERATOR].inputs.truncate(1);
                net.operators[RESHAPE_OPERATOR].options.1.push((0, Field::List(&[36, 1])));
            },
            "operator 1, RESHAPE, which gives \"tensor 4\": it reshapes to [36, 1], and its output is [1, 36]",
        ),
        (
            |net| net.squeeze(&[1, 1, 36], &[-5]),
            "operator 2, SQUEEZE, which gives \"tensor 4\": it squeezes [1, 1, 36] to nothing that is there, and its output is [1, 36]",
        ),
        (
            |net| net.squeeze(&[1, 1, 36], &[2]),
            "operator 2, SQUEEZE, which gives \"tensor 4\": it squeezes [1, 1, 36] to nothing that is there, and its output is [1, 36]",
        ),
        (
            |net| net.squeeze(&[1, 1, 36], &[]),
            "operator 2, SQUEEZE, which gives \"tensor 4\": it squeezes [1, 1, 36] to [36], and its output is [1, 36]",
        ),
        (
            |net| {
                // A linear layer over each place, whose weights are for all places together.
                net.operators.remove(RESHAPE_OPERATOR);
                net.operators[1].inputs[0] = OUTPUT as i32;
                net.operators[1].options.1.push((2, Field::I8(1)));
            },
            "operator 1, FULLY_CONNECTED, which gives \"tensor 8\": it keeps the dimensions of [1, 3, 3, 4], and its weights are for 36 elements",
        ),
        (
            |net| net.end_in_softmax(&[5, 1]),
            "the output: the network ends in \"tensor 10\" of the shape [5, 1] and a SOFTMAX, expected one score for each class",
        ),
        (
            |net| net.tensors.resize(20_000, Tensor::default()),
            "the file is damaged, or too large in one of its parts: a list of 20000 tables, more than 16384",
        ),
    ];
    let is_read = |change: Change| {
        let mut network = plain();
        change(&mut network);
        import(&network.to_bytes(), &Pixels::default()).is_ok()
    };
    assert!(is_read(|_| ()));
    assert!(is_read(|net| net.tensors[0].signature = vec![-1, 6, 6, 3]));
    assert!(is_read(|net| net.operators[2].options.1.push((2, Field::I8(1)))));
    assert!(is_read(|net| net.end_in_softmax(&[1, 5])));
    assert!(is_read(|net| {
        net.operators[RESHAPE_OPERATOR].inputs.truncate(1);
        net.operators[RESHAPE_OPERATOR].options.1.push((0, Field::List(&[1, -1])));
    }));
    assert!(is_read(|net| net.squeeze(&[1, 1, 36], &[0])));
    assert!(is_read(|net| net.squeeze(&[1, 1, 36], &[-2])));
    for (number, (change, expected)) in table.iter().enumerate() {
        let mut network = plain();
        change(&mut network);
        let error = import(&network.to_bytes(), &Pixels::default()).expect_err(&format!("change {number}"));
        let said = error.to_string();
        assert_eq!(said, *expected, "change {number}");
    }
}

/// How many outputs each channel has is said twice.
#[test]
fn depth_multipliers_fit_the_weights() {
    let mut chance = sample::seeded(3);
    let mut maker = Maker { network: Network::default(), chance: &mut chance };
    let x = maker.activation([1, 6, 6, 3], 1.0 / 255.0, -128);
    maker.network.inputs = vec![x.tensor];
    let y = maker.conv(&x, 6, ([3, 3], [1, 1], networks::SAME), 3).expect("it fits");
    networks::end(&mut maker, y);
    let mut network = maker.network;
    assert!(import(&network.to_bytes(), &Pixels::default()).is_ok());
    let multiplier = network.operators[0].options.1.iter_mut().find(|(slot, _)| *slot == 3);
    multiplier.expect("a depthwise convolution has one").1 = Field::I32(3);
    let said = import(&network.to_bytes(), &Pixels::default()).map(drop).unwrap_err().to_string();
    let name = format!("tensor {}", y.tensor);
    assert_eq!(
        said,
        format!("operator 0, DEPTHWISE_CONV_2D, which gives {name:?}: its depth multiplier is 3, expected 2")
    );
}

/// A channel whose scale is next to nothing gives its zero point, whatever its bias; others have LiteRT's bits.
#[test]
fn dead_channels_give_their_zero_point() {
    let mut network = plain();
    network.tensors[WEIGHTS].scales = vec![0.01, 0.0, 1e-30, 0.02];
    let file = network.to_bytes();
    let model = model(&read(&file));
    let (activations, _) = ours(&model, &[200; 108]);
    let zero_point = (network.tensors[OUTPUT].zero_points[0] + 128) as u8;
    for channel in [1, 2] {
        assert_eq!(activations[0][9 * channel..9 * (channel + 1)], [zero_point; 9]);
    }
    if let Some(mut litert) = litert() {
        compare(&mut litert, "dead channels", &file, &pictures(PICTURES, 108, 1), usize::MAX);
    }
}

#[test]
fn pixels_are_scaled_as_they_were_in_training() {
    let file = plain().to_bytes();
    let given = |scale: Option<f64>, mean: &[f64], deviation: &[f64]| {
        import(&file, &Pixels { scale, mean: mean.to_vec(), deviation: deviation.to_vec(), crop: 224 })
    };
    // The network reads 0 to 1.
    assert_eq!(read(&file).range, [0.0, 1.0]);
    let same = given(Some(1.0 / 255.0), &[], &[]).expect("the same for all");
    assert_eq!((same.graph.layers(), same.graph.input().crop), (read(&file).graph.layers(), 224));
    // Twice as bright, and clamped.
    let other = given(Some(2.0 / 255.0), &[], &[0.5, 0.5, 0.5]).expect("the same for all");
    assert_eq!(other.graph.layers()[0].name, "pixels");
    let bright = model(&other);
    let expected = reference::logits(&model(&read(&file)), &[160; 108]);
    assert_eq!(reference::logits(&bright, &[40; 108]), expected);
    let said = |result: Result<Imported, TfliteError>| result.map(drop).unwrap_err().to_string();
    // Each channel by itself: what is 0 to 1 in the file is so, and moved.
    let (mean, deviation) = ([0.1, 0.0, -0.2], [0.5, 1.0, 0.7]);
    let channels = given(None, &mean, &deviation).expect("there are such integers");
    let (activations, _) = ours(&model(&channels), &(0..108).map(|at| (7 * at) as u8).collect::<Vec<_>>());
    for (at, found) in activations[0].iter().enumerate() {
        let channel = at / 36;
        let real = (f64::from((7 * at) as u8) / 255.0 - mean[channel]) / deviation[channel];
        assert_eq!(
            i32::from(*found),
            ((real / f64::from(1.0f32 / 255.0)).round_ties_even() as i32).clamp(0, 255),
            "{at}"
        );
    }
    assert!(said(given(None, &[0.1, 0.2], &[])).contains("mean has 2 numbers, expected 1 or 3"));
    assert!(said(given(None, &[], &[0.0])).contains("std has 1 numbers"));
    assert!(said(given(Some(f64::NAN), &[], &[])).contains("scale has 1 numbers"));
}

#[test]
fn damaged_files_are_refused_and_nothing_panics() {
    let pixels = Pixels::default();
    let whole = network(3).to_bytes();
    for length in 0..whole.len() {
        // A file may lack the end of what nobody reads.
        let _ = import(&whole[..length], &pixels);
    }
    assert!(import(&whole[..whole.len() / 2], &pixels).is_err());
    let mut chance = sample::seeded(7);
    let mut refused = 0;
    for seed in 0..8 {
        let whole = network(seed).to_bytes();
        for _ in 0..1500 {
            let mut bytes = whole.clone();
            for _ in 0..within(&mut chance, 1, 5) {
                let place = within(&mut chance, 0, bytes.len() - 1);
                // Small numbers, and the ends of ranges, are offsets and lengths more often than others.
                bytes[place] = match within(&mut chance, 0, 3) {
                    0 => 0xff,
                    1 => within(&mut chance, 0, 8) as u8,
                    _ => within(&mut chance, 0, 255) as u8,
                };
            }
            refused += usize::from(import(&bytes, &pixels).is_err());
        }
    }
    assert!(refused > 1000, "{refused}");
}

/// A file of a few kilobytes cannot ask for gigabytes: kernels that are nearly all zeros, and weights that many operators share.
#[test]
fn small_files_make_small_networks() {
    let mut network = plain();
    network.tensors[0].shape = vec![1, 60_000, 60_000, 3];
    for field in [4, 5] {
        network.operators[CONV_OPERATOR].options.1[field].1 = Field::I32(20_000);
    }
    let error = import(&network.to_bytes(), &Pixels::default()).map(drop).unwrap_err().to_string();
    assert!(error.contains("the network needs more than 134217728 weights"), "{error}");
}
