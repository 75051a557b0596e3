//! Every backend returns the scalar reference's bits, on random models of every kind of layer and at the proof's edge.

use ocelli_model::proof::{BOUND, half};
use ocelli_model::{
    Backend, CandleBackend, DeviceChoice, Display, Graph, Kernel, KernelBackend, Layer, Model, ModelFile, Operation,
    Parameters, ProofError, ReferenceBackend, Shape, golden, reference, zoo,
};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

const BATCHES: [usize; 4] = [1, 2, 3, 7];

fn candle() -> CandleBackend {
    CandleBackend::open(DeviceChoice::Cpu).expect("a CPU is always there").0
}

fn kernels(kernel: Kernel, threads: usize) -> KernelBackend {
    KernelBackend::with(kernel, threads.try_into().expect("not 0")).expect("available")
}

/// candle, and every kernel of this processor, on one thread and on three.
fn backends() -> Vec<Box<dyn Backend>> {
    let mut backends: Vec<Box<dyn Backend>> = vec![Box::new(candle())];
    for kernel in Kernel::available() {
        backends.push(Box::new(kernels(kernel, 1)));
        backends.push(Box::new(kernels(kernel, 3)));
    }
    backends
}

/// How many random models: few by default, more by `OCELLI_MODELS`.
fn models() -> u64 {
    std::env::var("OCELLI_MODELS").ok().and_then(|text| text.parse().ok()).unwrap_or(120)
}

/// A number in `low..=high`.
fn within(random: &mut ChaCha8Rng, low: i64, high: i64) -> i64 {
    low + (random.next_u64() % (high - low + 1) as u64) as i64
}

fn image(random: &mut ChaCha8Rng, pixels: usize) -> Vec<u8> {
    let mut image = vec![0; pixels];
    random.fill_bytes(&mut image);
    image
}

/// How a random layer fills its channels: within the middle of the proof's bounds, or right at their edge.
#[derive(Clone, Copy, PartialEq)]
enum Extent {
    Moderate,
    Edge,
}

/// Random layers over a small input, half of the convolutions with a skip, and a linear layer at the end.
fn random_graph(random: &mut ChaCha8Rng) -> Graph {
    loop {
        let input = Shape {
            channels: within(random, 1, 4) as usize,
            height: within(random, 1, 13) as usize,
            width: within(random, 1, 13) as usize,
        };
        let mut layers: Vec<Layer> = Vec::new();
        let mut shapes = vec![input];
        for index in 0..within(random, 1, 7) {
            let name = format!("layer{index}");
            let (kernel, stride) = (within(random, 1, 4) as usize, within(random, 1, 3) as usize);
            let layer = match within(random, 0, 9) {
                0..=2 => {
                    let padding = within(random, 0, kernel as i64 - 1) as usize;
                    Layer::conv(&name, within(random, 1, 6) as usize, kernel, stride, padding)
                }
                // A convolution that keeps the shape, so that skips are possible.
                3..=5 => Layer::conv(&name, shapes[shapes.len() - 1].channels, 3, 1, 1),
                6 => Layer::linear(&name, within(random, 1, 9) as usize),
                7 => Layer::max_pool(&name, kernel, stride),
                _ => Layer::sum_pool(&name, kernel, stride, within(random, 0, 6) as u8),
            };
            layers.push(layer);
            let mut whole = layers.clone();
            whole.push(Layer::linear("logits", 1));
            let Ok(graph) = Graph::new(input, whole) else {
                layers.pop();
                continue;
            };
            let output = graph.activations()[layers.len()];
            let candidates: Vec<usize> = (0..shapes.len()).filter(|place| shapes[*place] == output).collect();
            let pooling =
                matches!(layers[layers.len() - 1].operation, Operation::MaxPool { .. } | Operation::SumPool { .. });
            if !pooling && !candidates.is_empty() && within(random, 0, 3) > 0 {
                let place = candidates[within(random, 0, candidates.len() as i64 - 1) as usize];
                let name = if place == 0 { "input".into() } else { layers[place - 1].name.clone() };
                let last = layers.pop().expect("just pushed");
                layers.push(last.with_skip(&name));
            }
            shapes.push(output);
        }
        layers.push(Layer::linear("logits", within(random, 1, 12) as usize));
        if let Ok(graph) = Graph::new(input, layers) {
            return graph;
        }
    }
}

/// Random integers that pass the proof; at the edge, each channel's bound is exactly 2^24 - 1.
fn random_parameters(random: &mut ChaCha8Rng, graph: &Graph, extent: Extent) -> Vec<Parameters> {
    (0..graph.layers().len()).map(|layer| random_layer(random, graph, layer, extent)).collect()
}

fn random_layer(random: &mut ChaCha8Rng, graph: &Graph, layer: usize, extent: Extent) -> Parameters {
    let Some(shape) = graph.weight_shape(layer) else { return Parameters::default() };
    let inputs: usize = shape[1..].iter().product();
    let largest = ((BOUND - 1) / (127 * inputs as i64)).min(127) as i8;
    let mut parameters = Parameters::default();
    for _ in 0..shape[0] {
        let weights: Vec<i8> = match extent {
            Extent::Moderate => (0..inputs).map(|_| within(random, (-largest).into(), largest.into()) as i8).collect(),
            Extent::Edge => {
                (0..inputs).map(|_| if random.next_u32().is_multiple_of(2) { largest } else { -largest }).collect()
            }
        };
        let used: i64 = 127 * weights.iter().map(|weight| i64::from(weight.unsigned_abs())).sum::<i64>();
        let mut room = BOUND - 1 - used;
        if graph.skip(layer).is_some() {
            let most = (room / 127).min(32767);
            let multiplier = if extent == Extent::Edge { most } else { within(random, 0, most.min(300)) };
            parameters.multiplier.push(multiplier as i16);
            room -= 127 * multiplier;
        }
        let bias = match extent {
            Extent::Edge if random.next_u32().is_multiple_of(2) => room,
            Extent::Edge => -room,
            Extent::Moderate => within(random, -room.min(3000), room.min(3000)),
        };
        parameters.bias.push(bias as i32);
        parameters.weight.extend(weights);
        if !graph.is_last(layer) {
            let shift = if extent == Extent::Edge { within(random, 0, 24) } else { within(random, 4, 10) };
            parameters.shift.push(shift as u8);
        }
    }
    parameters
}

fn build(graph: Graph, parameters: Vec<Parameters>) -> Model {
    let display = Display::numbered(graph.logits());
    ModelFile { graph, parameters, display }.build().expect("made to pass")
}

#[test]
fn every_backend_equals_the_reference_on_random_models() {
    let mut backends = backends();
    let (mut skips, mut sum_pools, mut padded, mut strided, mut varied) = (0, 0, 0, 0, 0);
    for seed in 0..models() {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let graph = random_graph(&mut random);
        let extent = if seed % 3 == 0 { Extent::Edge } else { Extent::Moderate };
        let parameters = random_parameters(&mut random, &graph, extent);
        let model = build(graph, parameters);
        for layer in model.graph().layers() {
            skips += usize::from(layer.operation.skip().is_some());
            match layer.operation {
                Operation::Conv { padding, stride, .. } => {
                    padded += usize::from(padding > 0);
                    strided += usize::from(stride > 1);
                }
                Operation::SumPool { .. } => sum_pools += 1,
                Operation::Linear { .. } | Operation::MaxPool { .. } => {}
            }
        }
        let mut images: Vec<Vec<u8>> = (0..5).map(|_| image(&mut random, model.pixels())).collect();
        images.push(vec![255; model.pixels()]);
        images.push(vec![0; model.pixels()]);
        let expected: Vec<Vec<i32>> = images.iter().map(|image| reference::logits(&model, image)).collect();
        varied += usize::from(expected.iter().any(|logits| *logits != expected[0]));
        let images: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
        for backend in &mut backends {
            for batch in BATCHES {
                let found: Vec<Vec<i32>> =
                    images.chunks(batch).flat_map(|images| backend.logits(&model, images).expect("runs")).collect();
                let name = backend.name();
                assert_eq!(found, expected, "{name}, seed {seed}, batches of {batch}: {}", model.graph().to_json());
            }
            golden::check(backend.as_mut(), &model).expect("golden inputs agree");
        }
    }
    // The generator must keep making what this test is for.
    assert!(skips > 50 && sum_pools > 40 && padded > 50 && strided > 40, "{skips} {sum_pools} {padded} {strided}");
    assert!(varied > 50, "only {varied} models looked at their input");
}

#[test]
fn every_backend_equals_the_reference_on_the_reference_network() {
    let mut backends = backends();
    for (seed, extent) in [(1, Extent::Moderate), (2, Extent::Edge)] {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let model = if extent == Extent::Moderate {
            zoo::get("cifar10-cnn").expect("built in")
        } else {
            let parameters = random_reference_weights(&mut random);
            build(zoo::cifar10_cnn(), parameters)
        };
        // More images than one batch holds, so that the chunks' seam is crossed.
        let images: Vec<Vec<u8>> = (0..260).map(|_| image(&mut random, model.pixels())).collect();
        let images: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
        let expected = backends[0].logits(&model, &images).expect("runs");
        assert_eq!(expected.len(), images.len());
        for index in [0, 1, 127, 254, 255, 256, 259] {
            assert_eq!(expected[index], reference::logits(&model, images[index]), "image {index}");
        }
        for backend in &mut backends[1..] {
            let found = backend.logits(&model, &images).expect("runs");
            assert!(found == expected, "{} differs from candle", backend.name());
        }
    }
}

#[test]
fn neither_batch_nor_threads_change_a_logit() {
    let model = zoo::get("cifar10-cnn").expect("built in");
    let mut random = ChaCha8Rng::seed_from_u64(4);
    let images: Vec<Vec<u8>> = (0..65).map(|_| image(&mut random, model.pixels())).collect();
    let images: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
    let expected: Vec<Vec<i32>> = images.iter().map(|image| reference::logits(&model, image)).collect();
    for kernel in Kernel::available() {
        for threads in [1, 2, 5] {
            let mut backend = kernels(kernel, threads);
            for batch in 1..=images.len() {
                let found = backend.logits(&model, &images[..batch]).expect("runs");
                assert!(found == expected[..batch], "{}, batch {batch}", backend.name());
            }
        }
    }
}

#[test]
fn threads_that_share_an_image_change_no_logit() {
    for kernel in Kernel::available() {
        // A thread belongs to the first backend that it calls; only there are single images shared.
        let shared = std::thread::spawn(move || {
            let model = zoo::get("cifar10-cnn").expect("built in");
            let mut random = ChaCha8Rng::seed_from_u64(5);
            let mut backend = kernels(kernel, 2);
            for _ in 0..20 {
                let image = image(&mut random, model.pixels());
                let expected = reference::logits(&model, &image);
                assert_eq!(backend.logits(&model, &[&image]).expect("runs"), [expected], "{kernel}");
            }
        });
        shared.join().expect("no logit differs");
    }
}

/// Shapes that the kernels' buffers are too large for fall back to the reference.
#[test]
fn a_model_that_asks_for_gigabytes_of_zeros_still_runs() {
    let input = Shape { channels: 1, height: 3, width: 3 };
    let layers = vec![Layer::conv("conv", 1, 8000, 8000, 7999), Layer::linear("logits", 1)];
    let graph = Graph::new(input, layers).expect("fits");
    let mut weight = vec![0; 8000 * 8000];
    weight[..3].copy_from_slice(&[1, 2, 3]);
    *weight.last_mut().expect("not empty") = 5;
    let conv = Parameters { weight, bias: vec![0], shift: vec![0], multiplier: vec![] };
    let elements = graph.activations()[1].elements();
    let last = Parameters { weight: vec![1; elements], bias: vec![0], shift: vec![], multiplier: vec![] };
    let model = build(graph, vec![conv, last]);
    let pixels: Vec<u8> = (0..9).map(|pixel| pixel * 20).collect();
    let expected = reference::logits(&model, &pixels);
    assert_ne!(expected, [0], "the picture is seen");
    assert_eq!(kernels(Kernel::best(), 2).logits(&model, &[&pixels]).expect("runs"), [expected]);
}

#[test]
fn kernels_are_named_and_the_device_is_chosen() {
    let name = kernels(Kernel::Portable, 3).name();
    assert_eq!(name, "CPU (kernel portable, 3 threads)");
    let missing = if cfg!(target_arch = "x86_64") { Kernel::Neon } else { Kernel::Avx2 };
    let error = KernelBackend::with(missing, 1.try_into().expect("not 0")).expect_err("of another processor");
    assert_eq!(error.to_string(), format!("this processor cannot run the kernel {missing}"));
}

/// 1024 inputs of +-127 still fit below 2^24 with a bias that fills the rest.
fn random_reference_weights(random: &mut ChaCha8Rng) -> Vec<Parameters> {
    random_parameters(random, &zoo::cifar10_cnn(), Extent::Edge)
}

#[test]
fn hand_computed_asymmetric_example() {
    // Input 1x2x3, pixels halved: [[1, 2, 3], [4, 5, 6]].
    let pixels = [2, 5, 6, 8, 11, 12];
    let input = Shape { channels: 1, height: 2, width: 3 };
    let layers = vec![Layer::conv("conv", 1, 2, 1, 1).with_skip("input"), Layer::linear("logits", 2)];
    // A 2x2 kernel padded by 1 gives 3x4, which is no longer the input's shape.
    assert!(Graph::new(input, layers).is_err());
    let layers = vec![
        Layer::conv("conv", 1, 2, 1, 1),
        Layer::conv("same", 1, 1, 1, 0).with_skip("conv"),
        Layer::linear("logits", 2),
    ];
    let graph = Graph::new(input, layers).expect("fits");
    // Kernel [[1, -2], [3, 4]], bias -5, shift 1, on the padded
    //   0 0 0 0 0
    //   0 1 2 3 0
    //   0 4 5 6 0
    //   0 0 0 0 0
    // row 0: 4*1 = 4, 3*1+4*2 = 11, 3*2+4*3 = 18, 3*3 = 9                        -> -1, 6, 13, 4 -> >>1 -1 (clamp 0), 3, 6, 2
    // row 1: -2*1+4*4 = 14, 1-4+12+20 = 29, 2-6+15+24 = 35, 3+18 = 21            -> 9, 24, 30, 16 -> 4, 12, 15, 8
    // row 2: -2*4 = -8, 4-10 = -6, 5-12 = -7, 6 = 6                              -> -13, -11, -12, 1 -> 0, 0, 0, 0
    let conv = Parameters { weight: vec![1, -2, 3, 4], bias: vec![-5], shift: vec![1], multiplier: vec![] };
    // Weight -6 and a skip of the same activation times 7: one more than the activation.
    let same = Parameters { weight: vec![-6], bias: vec![1], shift: vec![0], multiplier: vec![7] };
    // same = 1, 4, 7, 3 | 5, 13, 16, 9 | 1, 1, 1, 1
    // logit 0 = sum of i * same[i] + 100; logit 1 = -same[6] - 3
    let mut weight: Vec<i8> = (0..12).collect();
    weight.extend([0, 0, 0, 0, 0, 0, -1, 0, 0, 0, 0, 0]);
    let logits = Parameters { weight, bias: vec![100, -3], shift: vec![], multiplier: vec![] };
    let model = build(graph, vec![conv, same, logits]);
    // 0*1+1*4+2*7+3*3 = 27; 4*5+5*13+6*16+7*9 = 244; 8+9+10+11 = 38.
    let expected = vec![100 + 27 + 244 + 38, -16 - 3];
    assert_eq!(reference::logits(&model, &pixels), expected);
    assert_eq!(candle().logits(&model, &[&pixels]).expect("runs"), [expected]);
}

#[test]
fn the_skip_is_added_before_shift_and_clamp() {
    // (-3 + 2 * 1) >> 1 = -1, clamped to 0; (-3 + 2 * 3) >> 1 = 1. After the clamp, the skip would give 2 and 6.
    let input = Shape { channels: 1, height: 1, width: 2 };
    let layers = vec![Layer::conv("conv", 1, 1, 1, 0).with_skip("input"), Layer::linear("logits", 1)];
    let graph = Graph::new(input, layers).expect("fits");
    let conv = Parameters { weight: vec![0], bias: vec![-3], shift: vec![1], multiplier: vec![2] };
    let logits = Parameters { weight: vec![1, 100], bias: vec![0], shift: vec![], multiplier: vec![] };
    let model = build(graph, vec![conv, logits]);
    assert_eq!(reference::logits(&model, &[2, 6]), [100]);
    assert_eq!(candle().logits(&model, &[&[2, 6]]).expect("runs"), [[100]]);
}

#[test]
fn pools_by_hand() {
    // 1x3x5 of 0..15; the last row and column do not fill a window of 2 and are left out.
    let pixels: Vec<u8> = (0..15).map(|value| value * 2).collect();
    let input = Shape { channels: 1, height: 3, width: 5 };
    let ones = Parameters { weight: vec![1, 100], bias: vec![0], shift: vec![], multiplier: vec![] };
    for (pool, expected) in [
        (Layer::max_pool("pool", 2, 2), 6 + 100 * 8),
        // 0+1+5+6 = 12 -> (12 + 2) >> 2 = 3; 2+3+7+8 = 20 -> 5 (rounded half up: 12.5 would be 13).
        (Layer::sum_pool("pool", 2, 2, 2), 3 + 100 * 5),
        // Shift 3: (12 + 4) >> 3 = 2, (20 + 4) >> 3 = 3. Shift 0: no half, 12 and 20.
        (Layer::sum_pool("pool", 2, 2, 3), 2 + 100 * 3),
        (Layer::sum_pool("pool", 2, 2, 0), 12 + 100 * 20),
    ] {
        let graph = Graph::new(input, vec![pool, Layer::linear("logits", 1)]).expect("fits");
        let model = build(graph, vec![Parameters::default(), ones.clone()]);
        assert_eq!(reference::logits(&model, &pixels), [expected]);
        assert_eq!(candle().logits(&model, &[&pixels]).expect("runs"), [[expected]]);
    }
}

#[test]
fn channels_and_flatten_are_in_chw_order() {
    // 2x1x2 input, one weight apart for each place.
    let input = Shape { channels: 2, height: 1, width: 2 };
    let graph = Graph::new(input, vec![Layer::linear("logits", 1)]).expect("fits");
    let weights = Parameters { weight: vec![1, 10, 100, -127], bias: vec![0], shift: vec![], multiplier: vec![] };
    let model = build(graph, vec![weights]);
    // channel 0 is [1, 2], channel 1 is [3, 4]
    assert_eq!(reference::logits(&model, &[2, 4, 6, 8]), [1 + 20 + 300 - 508]);
    assert_eq!(candle().logits(&model, &[&[2, 4, 6, 8]]).expect("runs"), [[1 + 20 + 300 - 508]]);
}

#[test]
fn a_bound_of_exactly_the_limit_is_exact_and_one_more_is_refused() {
    let input = Shape { channels: 8, height: 11, width: 11 };
    let layers = vec![Layer::conv("conv", 2, 11, 1, 0), Layer::linear("logits", 1)];
    let graph = Graph::new(input, layers).expect("fits");
    // 968 weights of 127: 127 * 127 * 968 = 15,612,872; the bias fills up to 2^24 - 1 = 16,777,215.
    let fill = (BOUND - 1) as i32 - 127 * 127 * 968;
    let mut conv =
        Parameters { weight: vec![127; 2 * 968], bias: vec![fill, -fill], shift: vec![17, 0], multiplier: vec![] };
    conv.weight[968..].fill(-127);
    let last = Parameters { weight: vec![1, -1], bias: vec![0], shift: vec![], multiplier: vec![] };
    let file =
        ModelFile { graph: graph.clone(), parameters: vec![conv.clone(), last.clone()], display: Display::numbered(1) };
    let model = file.build().expect("one below the bound");
    let images = [vec![255; model.pixels()], vec![0; model.pixels()], vec![254; model.pixels()]];
    let images: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
    let expected: Vec<Vec<i32>> = images.iter().map(|image| reference::logits(&model, image)).collect();
    assert_eq!(expected[0], [127], "16,777,215 >> 17");
    assert_eq!(candle().logits(&model, &images).expect("runs"), expected);

    conv.bias[1] -= 1;
    let file = ModelFile { graph, parameters: vec![conv, last], display: Display::numbered(1) };
    let expected = ProofError::Sum { layer: "conv".into(), channel: 1, bound: BOUND };
    assert_eq!(file.build().expect_err("at the bound"), expected.into());
}

#[test]
fn logits_keep_their_sign_and_size_at_the_edge() {
    let input = Shape { channels: 1, height: 1, width: 1 };
    let graph = Graph::new(input, vec![Layer::linear("logits", 2)]).expect("fits");
    let fill = (BOUND - 1) as i32 - 127 * 127;
    let logits = Parameters { weight: vec![127, -127], bias: vec![fill, -fill], shift: vec![], multiplier: vec![] };
    let model = build(graph, vec![logits]);
    assert_eq!(reference::logits(&model, &[255]), [16_777_215, -16_777_215]);
    assert_eq!(candle().logits(&model, &[&[255]]).expect("runs"), [[16_777_215, -16_777_215]]);
}

#[test]
fn golden_check_notices_one_wrong_logit() {
    /// The reference, but for one logit of one image.
    struct Faulty;
    impl Backend for Faulty {
        fn name(&self) -> String {
            "faulty".into()
        }

        fn kernel_name(&self) -> String {
            "faulty".into()
        }

        fn threads(&self) -> usize {
            1
        }
        fn logits(&mut self, model: &Model, images: &[&[u8]]) -> Result<Vec<Vec<i32>>, ocelli_model::BackendError> {
            let mut logits = ReferenceBackend.logits(model, images)?;
            logits[2][0] += 1;
            Ok(logits)
        }
    }
    let input = Shape { channels: 1, height: 2, width: 2 };
    let graph = Graph::new(input, vec![Layer::linear("logits", 2)]).expect("fits");
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let parameters = random_parameters(&mut random, &graph, Extent::Moderate);
    let model = build(graph, parameters);
    golden::check(&mut ReferenceBackend, &model).expect("right by definition");
    let error = golden::check(&mut Faulty, &model).expect_err("one logit is off");
    assert!(error.to_string().starts_with("faulty answered ["), "{error}");
    assert!(error.to_string().contains("for golden input 2, the reference says ["), "{error}");
}

#[test]
fn an_image_of_another_size_is_refused() {
    let model = zoo::get("cifar10-cnn").expect("built in");
    for backend in [&mut candle() as &mut dyn Backend, &mut ReferenceBackend] {
        let error = backend.logits(&model, &[&[0; 3072], &[0; 3071]]).expect_err("too short");
        assert_eq!(error.to_string(), "image 1 has 3071 bytes, the model takes 3072");
        assert!(backend.logits(&model, &[]).expect("nothing to do").is_empty());
    }
}

#[test]
fn devices() {
    for (text, choice) in [
        ("auto", DeviceChoice::Auto),
        ("cpu", DeviceChoice::Cpu),
        ("cuda", DeviceChoice::Cuda),
        ("metal", DeviceChoice::Metal),
    ] {
        assert_eq!(text.parse(), Ok(choice));
        assert_eq!(choice.to_string(), text);
    }
    let error = "gpu".parse::<DeviceChoice>().expect_err("no such device");
    assert_eq!(error.to_string(), "\"gpu\" is not a device: expected auto, cpu, cuda or metal");
    let (backend, reason) = CandleBackend::open(DeviceChoice::Auto).expect("falls back to the CPU");
    assert!(backend.name() == "CPU (candle)" || reason.is_none(), "a GPU is used, in spite of {reason:?}");
    if !cfg!(feature = "cuda") {
        let error = CandleBackend::open(DeviceChoice::Cuda).expect_err("not built in");
        assert_eq!(error.to_string(), "the device 'cuda' cannot be used");
    }
}

#[test]
fn labels_and_probabilities() {
    let mut file = zoo::get("cifar10-cnn").expect("built in").file().clone();
    file.display.scale = 0.5;
    let model = file.build().expect("as before");
    assert_eq!(model.label(&[-5, 7, 7, 2]), 1);
    assert_eq!(model.label(&[i32::MIN, i32::MIN]), 0);
    let probabilities = model.probabilities(&[2, 0]);
    assert!((probabilities[0] - 1.0 / (1.0 + (-1f64).exp())).abs() < 1e-12, "{probabilities:?}");
    let extreme = model.probabilities(&[i32::MAX, i32::MIN]);
    assert_eq!(extreme, [1.0, 0.0]);
    assert_eq!([half(0), half(1), half(24)], [0, 1, 1 << 23]);
}
