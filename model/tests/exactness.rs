//! Every backend returns the scalar reference's bits, on random models of every kind of layer and at the proof's edge.

use std::collections::BTreeMap;

use ocelli_model::proof::EXACT_IN_F32;
use ocelli_model::sample::networks;
use ocelli_model::{
    Backend, CandleBackend, DeviceChoice, Display, Finish, Graph, Input, Kernel, KernelBackend, Layer, Model,
    ModelFile, Operation, Parameters, ReferenceBackend, Window, golden, reference, sample, zoo,
};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

const BATCHES: [usize; 4] = [1, 2, 3, 7];

fn candle() -> CandleBackend {
    CandleBackend::open(DeviceChoice::Cpu).expect("a CPU is always there").0
}

fn kernels(kernel: Kernel, threads: usize) -> KernelBackend {
    KernelBackend::with(kernel, threads.try_into().expect("not 0")).expect("available")
}

/// candle, on a GPU too if this build and the machine have one, and every kernel of this processor, on one thread and on three.
fn backends() -> Vec<Box<dyn Backend>> {
    let mut backends: Vec<Box<dyn Backend>> = vec![Box::new(candle())];
    let (auto, _) = CandleBackend::open(DeviceChoice::Auto).expect("falls back to the CPU");
    if !auto.is_cpu() {
        backends.push(Box::new(auto));
    }
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

fn image(random: &mut ChaCha8Rng, pixels: usize) -> Vec<u8> {
    let mut image = vec![0; pixels];
    random.fill_bytes(&mut image);
    image
}

fn build(graph: Graph, parameters: Vec<Parameters>) -> Model {
    let display = Display::numbered(graph.logits());
    ModelFile { graph, parameters, display }.build().expect("made to pass")
}

#[test]
fn every_backend_equals_the_reference_on_random_models() {
    let mut backends = backends();
    let (mut kinds, mut beyond_f32, mut varied) = (BTreeMap::new(), 0, 0);
    for seed in 0..models() {
        let model = sample::model(&mut sample::seeded(seed));
        for (layer, sum) in model.graph().layers().iter().zip(&model.proof().sums) {
            *kinds.entry(layer.operation.kind()).or_insert(0) += 1;
            beyond_f32 += usize::from(*sum >= EXACT_IN_F32);
        }
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut images: Vec<Vec<u8>> = (0..5).map(|_| image(&mut random, model.pixels())).collect();
        images.push(vec![255; model.pixels()]);
        images.push(vec![0; model.pixels()]);
        let expected: Vec<Vec<i32>> = images.iter().map(|image| reference::logits(&model, image)).collect();
        varied += u64::from(expected.iter().any(|logits| *logits != expected[0]));
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
    assert!(kinds.len() == 8 && kinds.values().all(|count| *count > 20), "{kinds:?}");
    assert!(beyond_f32 > 50 && varied > models() / 2, "{beyond_f32} {varied}");
}

#[test]
fn every_backend_equals_the_reference_on_the_reference_network() {
    let mut backends = backends();
    let model = zoo::get("cifar10-cnn").expect("built in");
    let mut random = ChaCha8Rng::seed_from_u64(1);
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

/// With weights by chance: depthwise and pointwise convolutions at 224x224, and what squeezes and excites.
#[test]
fn every_backend_equals_the_reference_on_standard_networks() {
    let mut backends = backends();
    for graph in [networks::mobilenet_v2(127), networks::efficientnet(1.0, 1.0, 127)] {
        let model = sample::trained(graph.expect("fits"), &mut sample::seeded(1));
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let images = [image(&mut random, model.pixels()), vec![255; model.pixels()]];
        let expected: Vec<Vec<i32>> = images.par_iter().map(|image| reference::logits(&model, image)).collect();
        assert_ne!(expected[0], expected[1], "the picture is seen");
        let images: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
        for backend in &mut backends {
            assert!(backend.logits(&model, &images).expect("runs") == expected, "{}", backend.name());
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

/// Kernels as large as their input, and padding that is nearly all of it.
#[test]
fn windows_larger_than_any_picture() {
    let rows = [
        (Input::new(1, 3, 3), Window::square(1200, 1200, 1199)),
        (
            Input::new(2, 1, 3000).with_zero_point(7),
            Window { kernel: [1, 2500], stride: [1, 1], padding: [0, 3, 0, 2000] },
        ),
        (Input::new(1, 500, 500).with_zero_point(255), Window::square(450, 9, 0)),
    ];
    let mut backends = backends();
    for (input, window) in rows {
        let graph = |operation: Operation| {
            let layers = vec![Layer::new("wide", &["input"], operation), Layer::logits("logits", "wide", 3)];
            Graph::new(input.clone(), layers).expect("it is allowed")
        };
        let finish = Finish { zero_point: 9, low: 3, high: 250 };
        for operation in [
            Operation::Conv { channels: 2, groups: 1, window, finish },
            Operation::Conv { channels: input.shape.channels, groups: input.shape.channels, window, finish },
            Operation::AveragePool { window, finish },
            Operation::MaxPool { window },
        ] {
            let model = sample::trained(graph(operation), &mut sample::seeded(3));
            let pixels = image(&mut ChaCha8Rng::seed_from_u64(3), model.pixels());
            let expected = reference::logits(&model, &pixels);
            for backend in &mut backends {
                assert_eq!(backend.logits(&model, &[&pixels]).expect("runs"), [&expected[..]], "{}", backend.name());
            }
        }
    }
}

#[test]
fn kernels_are_named_and_the_device_is_chosen() {
    let name = kernels(Kernel::Portable, 3).name();
    assert_eq!(name, "CPU (kernel portable, 3 threads)");
    let missing = if cfg!(target_arch = "x86_64") { Kernel::Neon } else { Kernel::Avx2 };
    let error = KernelBackend::with(missing, 1.try_into().expect("not 0")).expect_err("of another processor");
    assert_eq!(error.to_string(), format!("this processor cannot run the kernel {missing}"));
}

fn check(model: &Model, pixels: &[u8], expected: &[i32]) {
    assert_eq!(reference::logits(model, pixels), expected);
    for backend in &mut backends() {
        assert_eq!(backend.logits(model, &[pixels]).expect("runs"), [expected], "{}", backend.name());
    }
}

#[test]
fn hand_computed_asymmetric_example() {
    // Rows 1 2 3 and 4 5 6 around the zero point 1, padded by one column on the left and one row below:
    //   0 0 1 2
    //   0 3 4 5
    //   0 0 0 0
    // A kernel 1 -2 / 3 4 in steps of (1, 2), bias 1: row 0: 0+0+0+12 = 12, 1-4+12+20 = 29; row 1: -6, 4-10 = -6.
    let input = Input::new(1, 2, 3).with_zero_point(1);
    let window = Window { kernel: [2, 2], stride: [1, 2], padding: [0, 1, 1, 0] };
    let layers = vec![
        Layer::conv("conv", "input", 1, window, Finish { zero_point: 5, low: 4, high: 12 }),
        Layer::logits("logits", "conv", 2),
    ];
    let graph = Graph::new(input, layers).expect("fits");
    assert_eq!(graph.output_shape(0).to_string(), "1x2x2");
    // 13 * 0.5 = 6.5 -> 6, 30 * 0.5 = 15 -> clamped at 7, -5 * 0.5 = -2.5 -> clamped at -1. From 5 on: 11, 12, 4, 4.
    let conv = Parameters { weight: vec![1, -2, 3, 4], bias: vec![1], scale: vec![0.5], table: vec![] };
    // Without the zero point 6, 7, -1, -1.
    let logits = Parameters { weight: vec![1, 10, 100, 0, 0, 0, 0, -1], bias: vec![7, -7], ..Parameters::default() };
    let model = build(graph, vec![conv, logits]);
    check(&model, &[1, 2, 3, 4, 5, 6], &[6 + 70 - 100 + 7, 1 - 7]);
}

#[test]
fn halves_go_to_the_even_side() {
    // Sums -3, -1, 1, 3, 5 times one half.
    let input = Input::new(1, 1, 5).with_zero_point(10);
    let layers = vec![
        Layer::conv("conv", "input", 1, Window::square(1, 1, 0), Finish::bytes(100)),
        Layer::logits("logits", "conv", 5),
    ];
    let graph = Graph::new(input, layers).expect("fits");
    let conv = Parameters { weight: vec![1], bias: vec![0], scale: vec![0.5], table: vec![] };
    let each = (0..25).map(|i| i8::from(i % 6 == 0)).collect();
    let logits = Parameters { weight: each, bias: vec![0; 5], scale: vec![0.5; 5], table: vec![] };
    let mut file = ModelFile { graph, parameters: vec![conv, logits], display: Display::numbered(5) };
    check(&file.build().expect("exact"), &[7, 9, 11, 13, 15], &[-1, 0, 0, 1, 1]);
    // -2, 0, 0, 2, 2 are what the first layer says.
    file.parameters[1].scale.clear();
    check(&file.build().expect("exact"), &[7, 9, 11, 13, 15], &[-2, 0, 0, 2, 2]);
}

#[test]
fn an_addition_rounds_half_up_once() {
    // (3 * (a - 10) + 1 * (b - 10) + 2) >> 2, from 20 on.
    let input = Input::new(2, 1, 4).with_zero_point(10);
    let split = |channel: usize| Parameters {
        weight: (0..2).map(|c| i8::from(c == channel)).collect(),
        bias: vec![0],
        scale: vec![1.0],
        table: vec![],
    };
    let one = |name| Layer::conv(name, "input", 1, Window::square(1, 1, 0), Finish::bytes(10));
    let finish = Finish { zero_point: 20, low: 18, high: 30 };
    let layers = vec![
        one("a"),
        one("b"),
        Layer::new("sum", &["a", "b"], Operation::Add { multipliers: [3, 1], shift: 2, finish }),
        Layer::logits("logits", "sum", 4),
    ];
    let graph = Graph::new(input, layers).expect("fits");
    let each = (0..16).map(|i| i8::from(i % 5 == 0)).collect();
    let logits = Parameters { weight: each, bias: vec![0; 4], ..Parameters::default() };
    let model = build(graph, vec![split(0), split(1), Parameters::default(), logits]);
    // 3 * 1 + -1 = 2 -> 1; 3 * -1 + 1 = -2 -> 0; 3 * -2 + 0 = -6 -> -1; 3 * 20 + 0 -> 15, clamped at 10.
    check(&model, &[11, 9, 8, 30, 9, 11, 10, 10], &[1, 0, -1, 10]);
}

#[test]
fn products_pools_and_tables_by_hand() {
    // Two channels of 0 1 / 2 3 and 4 5 / 6 7.
    let pixels: Vec<u8> = (0..8).collect();
    let whole = Window::square(2, 1, 0);
    let finish = Finish { zero_point: 1, low: 0, high: 255 };
    let layers = vec![
        Layer::new(
            "mean",
            &["input"],
            Operation::AveragePool { window: Window { kernel: [2, 1], stride: [1, 1], padding: [0; 4] }, finish },
        ),
        // 3, 7.
        Layer::max_pool("most", "input", whole),
        // Times 1 and 5 of "most", each around 2.
        Layer::new("scaled", &["input", "most"], Operation::Multiply { finish }),
        Layer::new("table", &["scaled"], Operation::Lookup { zero_point: 4 }),
        Layer::max_pool("first", "table", Window::square(1, 1, 0)),
        Layer::new("both", &["table", "first"], Operation::Concat),
        Layer::linear("sums", "mean", 4, Finish::bytes(0)),
        Layer::linear("tables", "both", 16, Finish::bytes(0)),
        Layer::new("all", &["sums", "tables"], Operation::Concat),
        Layer::logits("logits", "all", 20),
    ];
    let graph = Graph::new(Input::new(2, 2, 2).with_zero_point(2), layers).expect("fits");
    let scale = |scale: f32| Parameters { scale: vec![scale], ..Parameters::default() };
    let identity = |n: usize, scale: usize| Parameters {
        weight: (0..n * n).map(|i| i8::from(i % (n + 1) == 0)).collect(),
        bias: vec![20; n],
        scale: vec![1.0; scale],
        table: vec![],
    };
    let table = Parameters { table: (0..=255).map(|byte: u8| byte.wrapping_add(9)).collect(), ..Parameters::default() };
    let none = Parameters::default;
    let mut parameters = vec![scale(0.5), none(), scale(0.5), table, none(), none(), identity(4, 4), identity(16, 16)];
    parameters.extend([none(), identity(20, 0)]);
    let model = build(graph, parameters);
    // Means: (-2 + 0) / 2 = -1, (-1 + 1) / 2 = 0, (2 + 4) / 2 = 3, (3 + 5) / 2 = 4.
    let means = [-1, 0, 3, 4].map(|value| value + 40);
    // Products: -2, -1, 0, 1 times 1, halved: -1, -0.5 -> 0, 0, 0.5 -> 0; 2, 3, 4, 5 times 5: 5, 7.5 -> 8, 10, 12.5 -> 12. From 1
    // on and through the table 10 more, around 4: 6 more.
    let products = [-1, 0, 0, 0, 5, 8, 10, 12].map(|value| value + 6 + 40);
    check(&model, &pixels, &[&means[..], &products, &products].concat());
}

#[test]
fn channels_and_flatten_are_in_chw_order() {
    // 2x1x2 input, one weight apart for each place, and a zero point for each channel.
    let input = Input { zero_points: vec![1, 3], ..Input::new(2, 1, 2) };
    let graph = Graph::new(input, vec![Layer::logits("logits", "input", 1)]).expect("fits");
    let weights = Parameters { weight: vec![1, 10, 100, -127], bias: vec![0], ..Parameters::default() };
    let model = build(graph, vec![weights]);
    check(&model, &[2, 4, 6, 8], &[1 + 30 + 300 - 635]);
}

#[test]
fn groups_read_their_own_channels() {
    // Four channels in two groups of three outputs; output 3 is the first of the second group.
    let operation =
        Operation::Conv { channels: 6, groups: 2, window: Window::square(1, 1, 0), finish: Finish::bytes(0) };
    let layers = vec![Layer::new("conv", &["input"], operation), Layer::logits("logits", "conv", 6)];
    let graph = Graph::new(Input::new(4, 1, 1), layers).expect("fits");
    let weight = vec![1, 0, 0, 1, 1, 1, 1, 0, 0, 1, 2, 1];
    let conv = Parameters { weight, bias: vec![0; 6], scale: vec![1.0; 6], table: vec![] };
    let each = (0..36).map(|i| i8::from(i % 7 == 0)).collect();
    let model = build(graph, vec![conv, Parameters { weight: each, bias: vec![0; 6], ..Parameters::default() }]);
    check(&model, &[1, 2, 30, 40], &[1, 2, 3, 30, 40, 100]);
}

#[test]
fn sums_at_every_edge() {
    // 4,352 inputs of 255 times 127 are 140,939,520; the bias leads up to what f32 holds, beyond, and to 2^31 - 1.
    let input = Input::new(17, 16, 16);
    let layers = vec![Layer::linear("sum", "input", 8, Finish::bytes(128)), Layer::logits("logits", "sum", 8)];
    let graph = Graph::new(input.clone(), layers).expect("fits");
    let most = 255 * 127 * 4352;
    let fill = i32::MAX - most;
    let mut weight = vec![127i8; 8 * 4352];
    weight[4352..2 * 4352].fill(-127);
    weight[2 * 4352..].chunks_exact_mut(2).for_each(|pair| pair[1] = -127);
    let bias = vec![fill, -fill, (1 << 24) - 1, 1 << 24, (1 << 24) + 1, -(1 << 24) - 1, 33_554_431, -33_554_433];
    let scale = [0.4999, 0.4999, 2f32.powi(-18), 2f32.powi(-18), 2f32.powi(-18), 2f32.powi(-18), 2f32.powi(-19), 1e-6];
    let sum = Parameters { weight, bias, scale: scale.to_vec(), table: vec![] };
    let each: Vec<i8> = (0..64).map(|i| i8::from(i % 9 == 0)).collect();
    let last = Parameters { weight: each, bias: vec![0; 8], ..Parameters::default() };
    let model = build(graph, vec![sum, last]);
    for pixels in [vec![255; 4352], vec![0; 4352], (0..4352).map(|i| (i % 251) as u8).collect()] {
        check(&model, &pixels, &reference::logits(&model, &pixels));
    }
    check(&model, &vec![255; 4352], &[127, -128, 64, 64, 64, -64, 64, -34]);
}

#[test]
fn logits_keep_their_sign_and_size_at_the_edge() {
    let graph = Graph::new(Input::new(1, 1, 1), vec![Layer::logits("logits", "input", 2)]).expect("fits");
    let fill = i32::MAX - 127 * 255;
    let logits = Parameters { weight: vec![127, -127], bias: vec![fill, -fill], ..Parameters::default() };
    let mut file = ModelFile { graph, parameters: vec![logits], display: Display::numbered(2) };
    check(&file.build().expect("exact"), &[255], &[i32::MAX, -i32::MAX]);
    // With a scale, they are clamped at 2^24, and rounded to even where f32 has fractions.
    file.parameters[0].scale = vec![1.0, 255.0];
    check(&file.build().expect("exact"), &[255], &[1 << 24, -(1 << 24)]);
    file.parameters[0].scale = vec![2f32.powi(-8), 2f32.powi(-64)];
    check(&file.build().expect("exact"), &[255], &[1 << 23, 0]);
    // 8,388,603 / 2 = 4,194,301.5, beyond what 1.5 * 2^23 would round.
    file.parameters[0] =
        Parameters { weight: vec![0, 0], bias: vec![8_388_603, -8_388_605], scale: vec![0.5; 2], table: vec![] };
    check(&file.build().expect("exact"), &[255], &[4_194_302, -4_194_302]);
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
    let model = sample::model(&mut sample::seeded(3));
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
}
