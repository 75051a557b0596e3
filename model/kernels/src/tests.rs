//! Every kernel that this processor can run gives what a few lines of scalar code give, on random networks.
//!
//! The crate depends on nothing, and neither do its tests, so that they run as one static program under an emulator for
//! instructions that the machine at hand lacks.

use crate::{Join, Kernel, Layer, Method, Plan, PlanError, Shape, Sums};

/// Two threads for every join: slow, and all that a test needs.
struct TwoThreads;

impl Join for TwoThreads {
    fn join<A: FnOnce() + Send, B: FnOnce() + Send>(&self, a: A, b: B) {
        std::thread::scope(|scope| {
            scope.spawn(b);
            a();
        });
    }
}

/// A layer that owns its integers.
#[derive(Debug, Clone)]
enum Owned {
    Conv { kernel: usize, stride: usize, padding: usize, sums: OwnedSums },
    Linear { sums: OwnedSums },
    MaxPool { kernel: usize, stride: usize },
    SumPool { kernel: usize, stride: usize, shift: u8 },
}

#[derive(Debug, Clone, Default)]
struct OwnedSums {
    weight: Vec<i8>,
    bias: Vec<i32>,
    shift: Vec<u8>,
    skip: Option<usize>,
    multiplier: Vec<i16>,
}

impl Owned {
    fn layer(&self) -> Layer<'_> {
        match self {
            Self::Conv { kernel, stride, padding, sums } => {
                Layer::Conv { kernel: *kernel, stride: *stride, padding: *padding, sums: sums.sums() }
            }
            Self::Linear { sums } => Layer::Linear { sums: sums.sums() },
            Self::MaxPool { kernel, stride } => Layer::MaxPool { kernel: *kernel, stride: *stride },
            Self::SumPool { kernel, stride, shift } => {
                Layer::SumPool { kernel: *kernel, stride: *stride, shift: *shift }
            }
        }
    }
}

impl OwnedSums {
    fn sums(&self) -> Sums<'_> {
        let Self { weight, bias, shift, skip, multiplier } = self;
        Sums { weight, bias, shift, skip: *skip, multiplier }
    }
}

/// Steele, Lea and Flood's SplitMix64: enough for tests.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Between both, which are included.
    fn within(&mut self, least: i64, most: i64) -> i64 {
        least + (self.next() % (most - least + 1) as u64) as i64
    }

    fn size(&mut self, least: usize, most: usize) -> usize {
        self.within(least as i64, most as i64) as usize
    }

    fn one_of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.size(0, list.len() - 1)]
    }
}

/// The integers of a layer with `inputs` weights a channel, within the bound of exactness and often at it.
fn random_sums(random: &mut Random, channels: usize, inputs: usize, skip: Option<usize>, last: bool) -> OwnedSums {
    let mut sums = OwnedSums { skip, ..OwnedSums::default() };
    let largest = (((1 << 24) - 1) / (127 * inputs as i64)).min(127);
    let kind = random.size(0, 3);
    for _ in 0..channels {
        let start = sums.weight.len();
        for _ in 0..inputs {
            sums.weight.push(match kind {
                0 => random.one_of(&[-largest, largest]) as i8,
                1 => largest as i8,
                _ => random.within(-largest, largest) as i8,
            });
        }
        let used: i64 = sums.weight[start..].iter().map(|weight| 127 * i64::from(weight.unsigned_abs())).sum();
        let mut room = (1 << 24) - 1 - used;
        if skip.is_some() {
            let most = (room / 127).min(32_767);
            let multiplier = if kind == 0 { most } else { random.within(0, most.min(300)) };
            sums.multiplier.push(multiplier as i16);
            room -= 127 * multiplier;
        }
        let bias = if kind == 0 { room } else { room.min(4000) };
        sums.bias.push(random.one_of(&[bias, -bias, 0, bias / 3]) as i32);
        if !last {
            let typical = 64 - (inputs as u64 * 40).leading_zeros() as i64;
            sums.shift
                .push(if kind == 0 { random.within(0, 24) } else { random.within(typical - 4, typical + 1) } as u8);
        }
    }
    sums
}

/// A network of random layers that fit.
fn random_network(random: &mut Random) -> (Shape, Vec<Owned>) {
    let side = random.one_of(&[1, 2, 3, 5, 6, 8, 9, 12, 14, 17]);
    let input = Shape {
        channels: random.one_of(&[1, 2, 3, 3, 4, 5, 16]),
        height: side,
        width: if random.size(0, 2) == 0 { random.size(1, 15) } else { side },
    };
    let mut shapes = vec![input];
    let mut layers = Vec::new();
    for _ in 0..random.size(0, 6) {
        let from = *shapes.last().expect("the input at least");
        let least = from.height.min(from.width);
        let channels = random.one_of(&[1, 3, 4, 7, 8, 9, 16, 17, 24, 32, 33, 40]);
        let (layer, to) = match random.size(0, 9) {
            0 => (
                Owned::Linear { sums: random_sums(random, channels, from.elements(), None, false) },
                Shape { channels, height: 1, width: 1 },
            ),
            kind @ (1 | 2) => {
                let kernel = random.size(1, least.min(3));
                let stride = random.size(1, 3);
                let layer = if kind == 1 {
                    Owned::MaxPool { kernel: if least > 1 { 2 } else { 1 }, stride: 2 }
                } else {
                    Owned::SumPool { kernel, stride, shift: random.size(0, 5) as u8 }
                };
                let (kernel, stride) = if kind == 1 { (if least > 1 { 2 } else { 1 }, 2) } else { (kernel, stride) };
                let out = |size: usize| (size - kernel) / stride + 1;
                (layer, Shape { height: out(from.height), width: out(from.width), ..from })
            }
            kind => {
                let kernel = if kind < 7 && least >= 1 { 3 } else { random.size(1, 5) };
                let padding = random.size(0, kernel - 1);
                let stride = if kind < 6 { 1 } else { random.size(1, 3) };
                if from.height + 2 * padding < kernel || from.width + 2 * padding < kernel {
                    continue;
                }
                let out = |size: usize| (size + 2 * padding - kernel) / stride + 1;
                let (height, width) = (out(from.height), out(from.width));
                let same =
                    shapes.iter().enumerate().filter(|(_, shape)| (shape.height, shape.width) == (height, width));
                let same: Vec<usize> = same.map(|(activation, _)| activation).collect();
                let skip = if same.is_empty() || random.size(0, 1) == 0 { None } else { Some(random.one_of(&same)) };
                let channels = skip.map_or(channels, |skip| shapes[skip].channels);
                let inputs = from.channels * kernel * kernel;
                let sums = random_sums(random, channels, inputs, skip, false);
                (Owned::Conv { kernel, stride, padding, sums }, Shape { channels, height, width })
            }
        };
        layers.push(layer);
        shapes.push(to);
    }
    let from = *shapes.last().expect("the input at least");
    let classes = random.one_of(&[1, 2, 10, 16, 19]);
    layers.push(Owned::Linear { sums: random_sums(random, classes, from.elements(), None, true) });
    (input, layers)
}

/// The meaning of a network, as `docs/inference.md` has it.
fn reference(input: Shape, layers: &[Owned], pixels: &[u8]) -> Vec<i32> {
    let mut activations: Vec<(Shape, Vec<i32>)> = vec![(input, pixels.iter().map(|p| i32::from(p >> 1)).collect())];
    for layer in layers {
        let (from, x) = activations.last().expect("the input at least").clone();
        let at = |c: usize, y: isize, z: isize| {
            let inside = y >= 0 && z >= 0 && y < from.height as isize && z < from.width as isize;
            if inside { x[(c * from.height + y as usize) * from.width + z as usize] } else { 0 }
        };
        let (kernel, stride, padding) = match *layer {
            Owned::Conv { kernel, stride, padding, .. } => (kernel, stride, padding),
            Owned::Linear { .. } => (1, 1, 0),
            Owned::MaxPool { kernel, stride } | Owned::SumPool { kernel, stride, .. } => (kernel, stride, 0),
        };
        let out = |size: usize| (size + 2 * padding - kernel) / stride + 1;
        let mut to = Shape { channels: from.channels, height: out(from.height), width: out(from.width) };
        let window = |c: usize, y: usize, z: usize| -> Vec<i32> {
            let place = |k: usize| {
                let (i, j) = (k / kernel, k % kernel);
                at(c, (y * stride + i) as isize - padding as isize, (z * stride + j) as isize - padding as isize)
            };
            (0..kernel * kernel).map(place).collect()
        };
        let finish = |sums: &OwnedSums, channel: usize, index: usize, acc: i32| {
            let mut sum = acc + sums.bias[channel];
            if let Some(skip) = sums.skip {
                sum += i32::from(sums.multiplier[channel]) * activations[skip].1[index];
            }
            sums.shift.get(channel).map_or(sum, |shift| (sum >> shift).clamp(0, 127))
        };
        let mut y = Vec::new();
        match layer {
            Owned::Linear { sums } => {
                to = Shape { channels: sums.bias.len(), height: 1, width: 1 };
                for (channel, row) in sums.weight.chunks_exact(x.len()).enumerate() {
                    let acc = row.iter().zip(&x).map(|(weight, x)| i32::from(*weight) * x).sum();
                    y.push(finish(sums, channel, channel, acc));
                }
            }
            Owned::Conv { sums, .. } => {
                to.channels = sums.bias.len();
                let inputs = from.channels * kernel * kernel;
                for channel in 0..to.channels {
                    for place in 0..to.height * to.width {
                        let values = (0..from.channels).flat_map(|c| window(c, place / to.width, place % to.width));
                        let row = &sums.weight[channel * inputs..][..inputs];
                        let acc = row.iter().zip(values).map(|(weight, x)| i32::from(*weight) * x).sum();
                        y.push(finish(sums, channel, y.len(), acc));
                    }
                }
            }
            Owned::MaxPool { .. } | Owned::SumPool { .. } => {
                for index in 0..to.elements() {
                    let (channel, place) = (index / (to.height * to.width), index % (to.height * to.width));
                    let values = window(channel, place / to.width, place % to.width);
                    y.push(match layer {
                        Owned::SumPool { shift, .. } => {
                            let half = if *shift == 0 { 0 } else { 1 << (shift - 1) };
                            ((values.iter().sum::<i32>() + half) >> shift).clamp(0, 127)
                        }
                        _ => *values.iter().max().expect("a window has an element"),
                    });
                }
            }
        }
        activations.push((to, y));
    }
    activations.pop().expect("the logits").1
}

fn random_image(random: &mut Random, length: usize) -> Vec<u8> {
    let kind = random.size(0, 4);
    (0..length)
        .map(|_| match kind {
            0 => 0,
            1 => 255,
            2 => random.one_of(&[0, 255]),
            _ => random.next() as u8,
        })
        .collect()
}

/// How many random networks: few by default, more by `OCELLI_KERNEL_NETWORKS`.
fn count() -> u64 {
    std::env::var("OCELLI_KERNEL_NETWORKS").ok().and_then(|text| text.parse().ok()).unwrap_or(300)
}

#[test]
fn random_networks() {
    let mut runs = 0;
    for seed in 0..count() {
        let mut random = Random(seed);
        let (input, layers) = random_network(&mut random);
        let borrowed: Vec<Layer<'_>> = layers.iter().map(Owned::layer).collect();
        let images: Vec<Vec<u8>> = (0..9).map(|_| random_image(&mut random, input.elements())).collect();
        let expected: Vec<Vec<i32>> = images.iter().map(|image| reference(input, &layers, image)).collect();
        let images: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
        for kernel in Kernel::available() {
            let plan = Plan::new(input, &borrowed, kernel).expect("small enough");
            let mut scratch = plan.scratch();
            // The second round finds what the first has left in the buffers.
            for size in [plan.group(), 1, 3.min(plan.group())] {
                let mut found = Vec::new();
                for images in images.chunks(size) {
                    let mut logits = vec![0; images.len() * expected[0].len()];
                    plan.run(&mut scratch, images, &mut logits);
                    found.extend(logits);
                }
                assert_eq!(
                    found,
                    expected.concat(),
                    "seed {seed}, kernel {kernel}, {size} at once: {input:?} {layers:?}"
                );
                runs += 1;
            }
            let mut other = plan.scratch();
            for (image, expected) in images.iter().zip(&expected) {
                let mut logits = vec![0; expected.len()];
                plan.run_shared(&mut scratch, &mut other, image, &mut logits, &TwoThreads);
                assert_eq!(logits, *expected, "seed {seed}, kernel {kernel}, two threads: {input:?} {layers:?}");
            }
        }
    }
    // For those who run this under an emulator: that what it is for was among them.
    eprintln!("{runs} runs of {} networks, kernels {:?}", count(), Kernel::available().collect::<Vec<_>>());
}

#[test]
fn a_profile_has_every_step() {
    let mut random = Random(1);
    let input = Shape { channels: 3, height: 8, width: 8 };
    let conv = random_sums(&mut random, 16, 27, None, false);
    let wide = random_sums(&mut random, 64, 144, None, false);
    let last = random_sums(&mut random, 10, 64, None, true);
    let layers = [
        Layer::Conv { kernel: 3, stride: 1, padding: 1, sums: conv.sums() },
        Layer::MaxPool { kernel: 2, stride: 2 },
        Layer::Conv { kernel: 3, stride: 1, padding: 1, sums: wide.sums() },
        Layer::SumPool { kernel: 4, stride: 4, shift: 4 },
        Layer::Linear { sums: last.sums() },
    ];
    let plan = Plan::new(input, &layers, Kernel::best()).expect("fits");
    let image = random_image(&mut random, input.elements());
    let profile = plan.profile(&mut plan.scratch(), &[&image, &image], 3);
    let steps: Vec<(usize, Method)> = profile.iter().map(|step| (step.layer, step.method)).collect();
    let first = [(0, Method::Pack), (0, Method::Direct)];
    assert_eq!(steps[..2], first, "the pool after layer 0 is part of its step");
    assert!(matches!(steps[2], (2, Method::Direct | Method::Winograd)), "{steps:?}");
    assert_eq!(steps[3..], [(3, Method::Pool), (4, Method::Direct)]);
    for step in &profile {
        assert_eq!(step.products > 0, limit_exists(step.method), "{step:?}");
    }
}

fn limit_exists(method: Method) -> bool {
    crate::limit(Kernel::best(), method).is_some_and(|products| products > 0.0)
}

#[test]
fn what_does_not_fit_is_refused() {
    let input = Shape { channels: 1, height: 4, width: 4 };
    let sums = |weight: &'static [i8], bias: &'static [i32], shift: &'static [u8]| Sums {
        weight,
        bias,
        shift,
        skip: None,
        multiplier: &[],
    };
    let plan = |layers: &[Layer<'_>]| Plan::new(input, layers, Kernel::Portable).map(|_| ());
    let last = Layer::Linear { sums: sums(&[1; 16], &[0], &[]) };
    assert_eq!(plan(&[last]), Ok(()));
    assert_eq!(plan(&[]), Err(PlanError::Shape { layer: 0 }));
    let short = Layer::Linear { sums: sums(&[1; 15], &[0], &[]) };
    assert_eq!(plan(&[short]), Err(PlanError::Length { layer: 0, list: "weight", found: 15, expected: 16 }));
    let pool = Layer::MaxPool { kernel: 5, stride: 1 };
    assert_eq!(plan(&[pool, last]), Err(PlanError::Shape { layer: 0 }));
    assert_eq!(plan(&[Layer::MaxPool { kernel: 2, stride: 0 }, last]), Err(PlanError::Shape { layer: 0 }));
    let conv = |sums| Layer::Conv { kernel: 1, stride: 1, padding: 0, sums };
    assert_eq!(plan(&[conv(sums(&[1], &[0], &[1]))]), Err(PlanError::Shape { layer: 0 }));
    assert_eq!(
        plan(&[conv(sums(&[1], &[0], &[])), last]),
        Err(PlanError::Length { layer: 0, list: "shift", found: 0, expected: 1 })
    );
    let later = Sums { skip: Some(1), multiplier: &[1], ..sums(&[1], &[0], &[1]) };
    assert_eq!(plan(&[conv(later), last]), Err(PlanError::Shape { layer: 0 }));
    // A kernel of 8,000 rows padded by 7,999 asks for 16,000 rows and columns of zeros.
    let weight = vec![0i8; 8000 * 8000];
    let sums = Sums { weight: &weight, bias: &[0], shift: &[0], skip: None, multiplier: &[] };
    let huge = Layer::Conv { kernel: 8000, stride: 8000, padding: 7999, sums };
    let last = Layer::Linear { sums: Sums { weight: &[1; 4], bias: &[0], shift: &[], skip: None, multiplier: &[] } };
    assert_eq!(plan(&[huge, last]), Err(PlanError::Memory));
}

#[test]
fn a_kernel_that_this_processor_lacks_is_refused() {
    let input = Shape { channels: 1, height: 1, width: 1 };
    let sums = Sums { weight: &[1], bias: &[0], shift: &[], skip: None, multiplier: &[] };
    for kernel in Kernel::ALL.iter().copied() {
        let plan = Plan::new(input, &[Layer::Linear { sums }], kernel);
        let expected = if kernel.is_available() { Ok(()) } else { Err(PlanError::Kernel(kernel)) };
        assert_eq!(plan.map(|_| ()), expected);
    }
}

#[test]
fn kernels_have_names() {
    for kernel in Kernel::ALL.iter().copied() {
        assert_eq!(kernel.to_string().parse(), Ok(kernel));
    }
    let error = "mmx".parse::<Kernel>().expect_err("no such kernel");
    let expected = "\"mmx\" is not a kernel: expected portable4, portable16, portable, neon, neondot, avx2, avxvnni or \
                    avx512vnni";
    assert_eq!(error.to_string(), expected);
    assert!(Kernel::best().is_available());
}
