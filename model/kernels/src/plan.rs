//! From a network to steps over buffers, and running them.

use std::fmt;
use std::time::Instant;

use crate::direct::{Direct, RunDirect, Sites, To, Window};
use crate::finish::Skip;
use crate::input;
use crate::kernel::Kernel;
use crate::layout::Layout;
use crate::network::{Layer, Shape, Sums};
use crate::pool::{Fold, Pool, RunPool};
use crate::profile::{Method, StepProfile};
use crate::simd::{Job, Portable, Simd};
use crate::winograd::{Part, RunWinograd, Tiles, Winograd};

/// The most memory of one thread's buffers, in bytes; offsets in them are 32 bits wide.
const MAX_SCRATCH: usize = 1 << 30;
/// The bytes of activations that a group of images should take together: more than a second-level cache, since reading weights
/// once for several images is worth more than finding all activations there (measured on the residual network).
const GROUP_BYTES: usize = 640 << 10;
/// The most images in a group: beyond it, weights are read seldom enough.
const MAX_GROUP: usize = 8;
/// A step of more vector products, some microseconds' worth, is shared by two threads. Tests share every step.
const TOO_SMALL_TO_SHARE: usize = if cfg!(test) { 0 } else { 4000 };
/// The most pixels of one window.
const MAX_TAPS: usize = 1 << 20;

/// A network that is packed for a kernel. Running it changes nothing in it: threads share it.
#[derive(Debug)]
pub struct Plan {
    kernel: Kernel,
    input: Shape,
    logits: usize,
    /// Images that are run together.
    group: usize,
    steps: Vec<Step>,
    buffers: Buffers,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanError {
    /// This processor cannot run the kernel.
    Kernel(Kernel),
    /// A list of a layer has the wrong length.
    Length {
        /// The layer, from 0.
        layer: usize,
        /// The list.
        list: &'static str,
        /// Its length.
        found: usize,
        /// What the shapes ask for.
        expected: usize,
    },
    /// A layer does not fit its input, or names no activation before it of the shape of its output, or gives logits without
    /// being the last.
    Shape {
        /// The layer, from 0.
        layer: usize,
    },
    /// One image would take too much memory in this form.
    Memory,
}

/// One thread's memory for running a plan.
#[derive(Debug)]
pub struct Scratch {
    buffers: Vec<Vec<u8>>,
    tiles: Tiles,
}

/// A step: what is done, from which buffer to which.
#[derive(Debug)]
struct Step {
    /// The layer, the first if it is two.
    layer: usize,
    operation: Operation,
    from: usize,
    /// None for the last, whose results are the logits.
    to: Option<usize>,
    skip: Option<usize>,
    split: Split,
}

/// How two threads share a step of one image.
#[derive(Debug, Clone, Copy)]
enum Split {
    /// Not at all: it takes less time than asking another thread.
    Not,
    /// By rows of the output: the first has so many pixels (before pooling), and its bytes end at `cut`.
    Rows { pixels: usize, cut: usize },
    /// By channels of the output, the first so many; the second thread's are copied from its own buffer.
    Channels(usize),
}

/// Runs two things, at the same time if it can.
pub trait Join {
    /// Returns when both are done.
    fn join<A: FnOnce() + Send, B: FnOnce() + Send>(&self, a: A, b: B);
}

#[derive(Debug)]
enum Operation {
    /// A convolution or linear layer, by pixels an image.
    Direct(Direct, usize),
    Winograd(Winograd),
    /// A pool, by pixels of the output an image.
    Pool(Pool, usize),
    /// The last layer.
    Logits(Direct),
}

/// The buffers that activations lie in. Activations that are never needed at the same time share one if they have the same
/// geometry, so that borders, which nothing writes to, stay zero.
#[derive(Debug)]
struct Buffers {
    layouts: Vec<Layout>,
    /// For every activation that is ever stored, its buffer.
    of: Vec<Option<usize>>,
}

impl Plan {
    /// Packs a network.
    ///
    /// # Errors
    /// If this processor lacks the instructions, the layers do not fit together, or the buffers of one image would be
    /// larger than 1 GiB.
    pub fn new(input: Shape, layers: &[Layer<'_>], kernel: Kernel) -> Result<Self, PlanError> {
        let shapes = shapes(input, layers)?;
        let (group, buffers, steps) =
            with(kernel, Make { shapes: &shapes, layers }).ok_or(PlanError::Kernel(kernel))??;
        let logits = shapes.last().map_or(0, |shape| shape.channels);
        Ok(Self { kernel, input, logits, group, steps, buffers })
    }

    /// The kernel that it was made for.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// The most images that [`Plan::run`] takes, and the number that it is fastest with.
    pub fn group(&self) -> usize {
        self.group
    }

    /// Memory for running it on one thread.
    pub fn scratch(&self) -> Scratch {
        let buffers = self.buffers.layouts.iter().map(|layout| vec![0; layout.buffer(self.group)]).collect();
        let mut tiles = Tiles::default();
        for step in &self.steps {
            if let Operation::Winograd(layer) = &step.operation {
                with(self.kernel, Reserve { layer, tiles: &mut tiles }).expect("the plan was made for this processor");
            }
        }
        Scratch { buffers, tiles }
    }

    /// The logits of some images: `logits` gets as many for each as the network has, one image after the other.
    ///
    /// # Panics
    /// If there are more images than [`Plan::group`], an image has another size than the input, `logits` another length
    /// than `images` needs, or `scratch` belongs to another plan.
    pub fn run(&self, scratch: &mut Scratch, images: &[&[u8]], logits: &mut [i32]) {
        self.pack(scratch, images, logits);
        for step in &self.steps {
            let to = scratch.take(step.to);
            let to = self.step(step, scratch, to, images.len(), logits);
            scratch.put_back(step.to, to);
        }
    }

    /// Runs some images again and again, and tells what each step took at best. Steps are in order; the first is laying out the
    /// pixels.
    ///
    /// # Panics
    /// As [`Plan::run`].
    pub fn profile(&self, scratch: &mut Scratch, images: &[&[u8]], rounds: usize) -> Vec<StepProfile> {
        let mut logits = vec![0; images.len() * self.logits];
        let mut profiles: Vec<StepProfile> = Vec::new();
        for round in 0..rounds {
            let mut begun = Instant::now();
            let mut note = |place: usize, layer: usize, method: Method, work: usize| {
                let time = begun.elapsed();
                let products = (work * images.len()) as u64;
                match profiles.get_mut(place) {
                    Some(profile) if round > 0 => profile.time = profile.time.min(time),
                    _ => profiles.push(StepProfile { layer, method, products, time }),
                }
                begun = Instant::now();
            };
            self.pack(scratch, images, &logits);
            note(0, 0, Method::Pack, 0);
            for (place, step) in self.steps.iter().enumerate() {
                let to = scratch.take(step.to);
                let to = self.step(step, scratch, to, images.len(), &mut logits);
                scratch.put_back(step.to, to);
                let (method, work) = match &step.operation {
                    Operation::Direct(layer, per_image) => (Method::Direct, layer.work(*per_image)),
                    Operation::Logits(layer) => (Method::Direct, layer.work(1)),
                    Operation::Winograd(layer) => (Method::Winograd, layer.work()),
                    Operation::Pool(..) => (Method::Pool, 0),
                };
                note(place + 1, step.layer, method, work);
            }
        }
        profiles
    }

    /// The logits of one image by two threads, which share the larger layers.
    ///
    /// # Panics
    /// As [`Plan::run`].
    pub fn run_shared(
        &self,
        scratch: &mut Scratch,
        other: &mut Scratch,
        image: &[u8],
        logits: &mut [i32],
        threads: &impl Join,
    ) {
        self.pack(scratch, &[image], logits);
        for step in &self.steps {
            let mut to = scratch.take(step.to);
            let from = scratch.buffers[step.from].as_slice();
            let skip = step.skip.map(|skip| Skip { from: &scratch.buffers[skip] });
            match (&step.operation, step.split) {
                (Operation::Direct(layer, per_image), Split::Rows { pixels, cut }) => {
                    let (above, below) = to.split_at_mut(cut);
                    let half = |pixels, to, base| {
                        let to = To::Activation(to);
                        with(self.kernel, RunDirect { layer, pixels, from, skip, to, base });
                    };
                    threads.join(|| half(0..pixels, above, 0), || half(pixels..*per_image, below, cut));
                }
                (Operation::Winograd(layer), Split::Channels(first)) => {
                    let mut others = other.take(step.to);
                    let half = |part, to, tiles| {
                        with(self.kernel, RunWinograd { layer, images: 1, from, skip, to, tiles, part });
                    };
                    let (tiles, others_tiles) = (&mut scratch.tiles, &mut other.tiles);
                    threads
                        .join(|| half(Part::First, &mut to, tiles), || half(Part::Second, &mut others, others_tiles));
                    let layout = &self.buffers.layouts[step.to.expect("a convolution is not the last layer")];
                    for y in 0..layout.height {
                        for x in 0..layout.width {
                            let pixel = layout.at(0, y, x) + first..layout.at(0, y, x) + layout.pitch;
                            to[pixel.clone()].copy_from_slice(&others[pixel]);
                        }
                    }
                    other.put_back(step.to, others);
                }
                _ => to = self.step(step, scratch, to, 1, logits),
            }
            scratch.put_back(step.to, to);
        }
    }

    /// Checks what the caller gave, and lays out the images.
    fn pack(&self, scratch: &mut Scratch, images: &[&[u8]], logits: &[i32]) {
        assert!(images.len() <= self.group, "{} images in a group of {}", images.len(), self.group);
        assert_eq!(logits.len(), images.len() * self.logits, "room for the logits");
        assert_eq!(scratch.buffers.len(), self.buffers.layouts.len(), "the plan's own scratch");
        for (image, pixels) in images.iter().enumerate() {
            assert_eq!(pixels.len(), self.input.elements(), "pixels of image {image}");
        }
        let (layout, group) = (&self.buffers.layouts[0], self.group);
        with(self.kernel, Pack { layout, group, input: self.input, images, to: &mut scratch.buffers[0] });
    }

    /// Runs a step of some images. A buffer is moved out of the scratch while it is written to, since no step reads what it
    /// writes.
    fn step(&self, step: &Step, scratch: &mut Scratch, mut to: Vec<u8>, images: usize, logits: &mut [i32]) -> Vec<u8> {
        let from = scratch.buffers[step.from].as_slice();
        let skip = step.skip.map(|skip| Skip { from: &scratch.buffers[skip] });
        match &step.operation {
            Operation::Direct(layer, per_image) => {
                let (pixels, to) = (0..images * per_image, To::Activation(&mut to));
                with(self.kernel, RunDirect { layer, pixels, from, skip, to, base: 0 });
            }
            Operation::Logits(layer) => {
                let to = To::Logits(logits);
                with(self.kernel, RunDirect { layer, pixels: 0..images, from, skip, to, base: 0 });
            }
            Operation::Winograd(layer) => {
                let (tiles, part) = (&mut scratch.tiles, Part::All);
                with(self.kernel, RunWinograd { layer, images, from, skip, to: &mut to, tiles, part });
            }
            Operation::Pool(layer, per_image) => {
                with(self.kernel, RunPool { layer, pixels: images * per_image, from, to: &mut to });
            }
        }
        to
    }
}

impl Scratch {
    fn take(&mut self, buffer: Option<usize>) -> Vec<u8> {
        buffer.map(|buffer| std::mem::take(&mut self.buffers[buffer])).unwrap_or_default()
    }

    fn put_back(&mut self, buffer: Option<usize>, bytes: Vec<u8>) {
        if let Some(buffer) = buffer {
            self.buffers[buffer] = bytes;
        }
    }
}

/// Does a job with a kernel's instructions; `None` if this processor does not have them.
pub(crate) fn with<J: Job>(kernel: Kernel, job: J) -> Option<J::Output> {
    match kernel {
        #[cfg(test)]
        Kernel::Portable4 => Some(Portable::<4>.vectorize(job)),
        #[cfg(test)]
        Kernel::Portable16 => Some(Portable::<16>.vectorize(job)),
        Kernel::Portable => Some(Portable::<8>.vectorize(job)),
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx2 => crate::simd::Avx2::detect().map(|simd| simd.vectorize(job)),
        #[cfg(target_arch = "x86_64")]
        Kernel::AvxVnni => crate::simd::AvxVnni::detect().map(|simd| simd.vectorize(job)),
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx512Vnni => crate::simd::Avx512Vnni::detect().map(|simd| simd.vectorize(job)),
        #[cfg(target_arch = "aarch64")]
        Kernel::Neon => Some(crate::simd::Neon.vectorize(job)),
        #[cfg(target_arch = "aarch64")]
        Kernel::NeonDot => crate::simd::NeonDot::detect().map(|simd| simd.vectorize(job)),
        #[allow(unreachable_patterns)]
        _ => None,
    }
}

struct Pack<'a> {
    layout: &'a Layout,
    group: usize,
    input: Shape,
    images: &'a [&'a [u8]],
    to: &'a mut [u8],
}

impl Job for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for (image, pixels) in self.images.iter().enumerate() {
            let size = (self.input.height, self.input.width);
            input::pack(self.layout, size, image, pixels, self.to);
            if self.layout.has_tails {
                input::pack_tails(self.layout, self.group, size, image, pixels, self.to);
            }
        }
    }
}

struct Reserve<'a> {
    layer: &'a Winograd,
    tiles: &'a mut Tiles,
}

impl Job for Reserve<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.layer.reserve::<S>(self.tiles);
    }
}

/// The shapes of all activations.
fn shapes(input: Shape, layers: &[Layer<'_>]) -> Result<Vec<Shape>, PlanError> {
    let mut shapes = vec![input];
    for (layer, description) in layers.iter().enumerate() {
        let from = shapes[layer];
        let wrong = PlanError::Shape { layer };
        let out = |size: usize, padding: usize, kernel: usize, stride: usize| {
            (size + 2 * padding).checked_sub(kernel)?.checked_div(stride).map(|steps| steps + 1)
        };
        let over = |channels: usize, padding: usize, kernel: usize, stride: usize| {
            let (height, width) =
                (out(from.height, padding, kernel, stride)?, out(from.width, padding, kernel, stride)?);
            (kernel > 0 && padding < kernel.max(1)).then_some(Shape { channels, height, width })
        };
        let to = match *description {
            Layer::Conv { kernel, stride, padding, sums } => over(sums.bias.len(), padding, kernel, stride),
            Layer::Linear { sums } => Some(Shape { channels: sums.bias.len(), height: 1, width: 1 }),
            Layer::MaxPool { kernel, stride } | Layer::SumPool { kernel, stride, .. } => {
                over(from.channels, 0, kernel, stride)
            }
        };
        let to = to.filter(|to| to.elements() > 0).ok_or_else(|| wrong.clone())?;
        let last = layer + 1 == layers.len();
        if last && !matches!(description, Layer::Linear { sums } if sums.skip.is_none()) {
            return Err(wrong);
        }
        if let Some((sums, taps)) = sums(description, from) {
            let inputs = sums.weight.len() / to.channels;
            let length = |list, found, expected| match found == expected {
                true => Ok(()),
                false => Err(PlanError::Length { layer, list, found, expected }),
            };
            length("weight", sums.weight.len(), to.channels * from.channels * taps)?;
            length("shift", sums.shift.len(), if last { 0 } else { to.channels })?;
            length("multiplier", sums.multiplier.len(), if sums.skip.is_some() { to.channels } else { 0 })?;
            if sums.skip.is_some_and(|skip| skip > layer || shapes[skip] != to) || inputs == 0 {
                return Err(wrong);
            }
        }
        shapes.push(to);
    }
    if layers.is_empty() { Err(PlanError::Shape { layer: 0 }) } else { Ok(shapes) }
}

/// The integers of a layer that has any, and the pixels of its window.
fn sums<'a>(layer: &Layer<'a>, from: Shape) -> Option<(Sums<'a>, usize)> {
    match *layer {
        Layer::Conv { kernel, sums, .. } => Some((sums, kernel * kernel)),
        Layer::Linear { sums } => Some((sums, from.height * from.width)),
        Layer::MaxPool { .. } | Layer::SumPool { .. } => None,
    }
}

/// Lays out buffers and packs every layer.
struct Make<'a> {
    shapes: &'a [Shape],
    layers: &'a [Layer<'a>],
}

impl Job for Make<'_> {
    type Output = Result<(usize, Buffers, Vec<Step>), PlanError>;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> Self::Output {
        self.make::<S>()
    }
}

impl Make<'_> {
    #[inline(never)]
    fn make<S: Simd>(self) -> Result<(usize, Buffers, Vec<Step>), PlanError> {
        let buffers = self.buffers(S::LANES)?;
        let bytes: usize = buffers.layouts.iter().map(Layout::image).sum();
        let group = (GROUP_BYTES / bytes.max(1)).clamp(1, MAX_GROUP);
        let mut steps = Vec::new();
        let mut layer = 0;
        while layer < self.layers.len() {
            let pooled = self.pools_next(layer);
            let after = layer + if pooled { 2 } else { 1 };
            let from = buffers.of[layer].expect("every layer's input is stored");
            let to = buffers.of[after];
            let skip = sums(&self.layers[layer], self.shapes[layer])
                .and_then(|(sums, _)| sums.skip)
                .map(|skip| buffers.of[skip].expect("what is added is stored"));
            let operation = self.operation::<S>(layer, &buffers, group, pooled)?;
            let split = to.map_or(Split::Not, |to| Split::of::<S>(&operation, &buffers.layouts[to]));
            steps.push(Step { layer, operation, from, to, skip, split });
            layer = after;
        }
        Ok((group, buffers, steps))
    }

    /// Whether a layer is a convolution of which nothing is read but by the 2x2 max-pool that follows.
    fn pools_next(&self, layer: usize) -> bool {
        let pooled = matches!(
            (self.layers[layer], self.layers.get(layer + 1)),
            (Layer::Conv { .. }, Some(Layer::MaxPool { kernel: 2, stride: 2 }))
        );
        pooled && !self.skips().any(|skip| skip == layer + 1)
    }

    /// The activations that some layer adds.
    fn skips(&self) -> impl Iterator<Item = usize> {
        self.layers.iter().filter_map(|layer| sums(layer, self.shapes[0])?.0.skip)
    }

    /// For every activation the rows and columns, from the first, that some layer reads.
    fn needed(&self) -> Vec<(usize, usize)> {
        let mut needed = vec![(0, 0); self.shapes.len()];
        if let (Some(last), Some(shape)) = (needed.last_mut(), self.shapes.last()) {
            *last = (shape.height, shape.width);
        }
        for (layer, description) in self.layers.iter().enumerate().rev() {
            let ((height, width), from) = (needed[layer + 1], self.shapes[layer]);
            let read = |size: usize, all: usize, kernel: usize, stride: usize, padding: usize| {
                ((size - 1) * stride + kernel).saturating_sub(padding).clamp(1, all)
            };
            let over = |kernel, stride, padding| {
                let rows = read(height, from.height, kernel, stride, padding);
                (rows, read(width, from.width, kernel, stride, padding))
            };
            let (rows, columns) = match *description {
                Layer::Conv { kernel, stride, padding, .. } => over(kernel, stride, padding),
                Layer::Linear { .. } => (from.height, from.width),
                Layer::MaxPool { kernel, stride } | Layer::SumPool { kernel, stride, .. } => over(kernel, stride, 0),
            };
            let mut widen = |activation: usize, rows: usize, columns: usize| {
                let needed: &mut (usize, usize) = &mut needed[activation];
                *needed = (needed.0.max(rows), needed.1.max(columns));
            };
            widen(layer, rows, columns);
            if let Some((Sums { skip: Some(skip), .. }, _)) = sums(description, from) {
                widen(skip, height, width);
            }
        }
        needed
    }

    /// Lays out every activation that is stored, and gives it a buffer that is free while it is needed.
    fn buffers(&self, lanes: usize) -> Result<Buffers, PlanError> {
        let needed = self.needed();
        let mut last_use: Vec<usize> = (0..self.shapes.len()).collect();
        for (layer, description) in self.layers.iter().enumerate() {
            if let Some((Sums { skip: Some(skip), .. }, _)) = sums(description, self.shapes[layer]) {
                last_use[skip] = last_use[skip].max(layer);
            }
        }
        let mut layouts: Vec<Layout> = Vec::new();
        let mut of = vec![None; self.shapes.len()];
        // For every buffer the last layer that reads what it holds.
        let mut busy: Vec<usize> = Vec::new();
        let mut total: usize = 0;
        for activation in 0..self.layers.len() {
            if activation > 0 && self.pools_next(activation - 1) {
                continue;
            }
            let Shape { channels, .. } = self.shapes[activation];
            let (height, width) = needed[activation];
            let border = match self.layers[activation] {
                Layer::Conv { padding, .. } => padding,
                Layer::Linear { .. } | Layer::MaxPool { .. } | Layer::SumPool { .. } => 0,
            };
            let pitch = if activation == 0 { channels } else { channels.next_multiple_of(lanes) };
            // Later activations have a pitch of whole vectors, which a run of a row does not cross.
            let has_tails = activation == 0
                && channels % 4 == 3
                && matches!(self.layers[0], Layer::Conv { kernel: 3, .. })
                && width + 2 * border > 3;
            let layout = Layout { channels, height, width, pitch, border, has_tails };
            // The step that writes it still reads its own input and skip. A pooled convolution is one step of two layers.
            let is_pooled = activation > 1 && self.pools_next(activation - 2);
            let writer = activation.saturating_sub(if is_pooled { 2 } else { 1 });
            let free = (1..layouts.len()).find(|buffer| layouts[*buffer] == layout && busy[*buffer] < writer);
            let buffer = free.unwrap_or(layouts.len());
            if buffer == layouts.len() {
                total = layout.checked_image().and_then(|bytes| total.checked_add(bytes)).ok_or(PlanError::Memory)?;
                layouts.push(layout);
                busy.push(0);
            }
            if total > MAX_SCRATCH {
                return Err(PlanError::Memory);
            }
            busy[buffer] = last_use[activation];
            of[activation] = Some(buffer);
        }
        Ok(Buffers { layouts, of })
    }

    fn operation<S: Simd>(
        &self,
        layer: usize,
        buffers: &Buffers,
        group: usize,
        pooled: bool,
    ) -> Result<Operation, PlanError> {
        let layout = |activation: usize| &buffers.layouts[buffers.of[activation].expect("it is stored")];
        let from = layout(layer);
        let last = layer + 1 == self.layers.len();
        let is_small = |taps: usize| if taps > MAX_TAPS { Err(PlanError::Memory) } else { Ok(()) };
        Ok(match self.layers[layer] {
            Layer::Linear { sums } => {
                let window = Window { height: from.height, width: from.width };
                is_small(window.height * window.width)?;
                let to = |image: usize| if last { image } else { layout(layer + 1).at(image, 0, 0) };
                let sites = Sites {
                    from: (0..group).map(|image| from.at(image, 0, 0) as u32).collect(),
                    tail: Vec::new(),
                    to: (0..group).map(|image| to(image) as u32).collect(),
                    skip: sums.skip.map_or_else(Vec::new, |skip| {
                        (0..group).map(|image| layout(skip).at(image, 0, 0) as u32).collect()
                    }),
                    pooled: false,
                };
                let direct = Direct::new::<S>(&sums, from, window, sites);
                if last { Operation::Logits(direct) } else { Operation::Direct(direct, 1) }
            }
            Layer::Conv { kernel, stride, sums, .. } => {
                let to = layout(if pooled { layer + 2 } else { layer + 1 });
                let (height, width) = if pooled { (2 * to.height, 2 * to.width) } else { (to.height, to.width) };
                is_small(kernel * kernel)?;
                let (inputs, channels) = (from.channels, sums.bias.len());
                let direct = Direct::cost::<S>(from, channels, kernel * kernel) * (height * width) as u64;
                let winograd = Winograd::cost::<S>(inputs, channels) * Winograd::tiles(height, width) as u64;
                let skip = sums.skip.map(layout);
                if (kernel, stride) == (3, 1) && winograd < direct {
                    let layer = Winograd::new::<S>(&sums, from, to, skip, (height, width), group, pooled);
                    return Ok(Operation::Winograd(layer));
                }
                let mut sites = Sites { pooled, ..Sites::default() };
                for image in 0..group {
                    for (y, x) in pixels(height, width, pooled) {
                        sites.from.push(from.bordered(image, y * stride, x * stride) as u32);
                        if from.has_tails {
                            sites.tail.push(from.tail(group, image, y * stride, x * stride) as u32);
                        }
                        sites.skip.extend(skip.map(|skip| skip.at(image, y, x) as u32));
                        if !pooled {
                            sites.to.push(to.at(image, y, x) as u32);
                        } else if (y % 2, x % 2) == (0, 0) {
                            sites.to.push(to.at(image, y / 2, x / 2) as u32);
                        }
                    }
                }
                let window = Window { height: kernel, width: kernel };
                Operation::Direct(Direct::new::<S>(&sums, from, window, sites), height * width)
            }
            Layer::MaxPool { kernel, stride } => {
                Operation::pool(Fold::Max, kernel, stride, from, layout(layer + 1), group, is_small)?
            }
            Layer::SumPool { kernel, stride, shift } => {
                let half = if shift == 0 { 0 } else { 1 << (shift - 1) };
                let fold = Fold::Sum { half, shift: shift.into() };
                Operation::pool(fold, kernel, stride, from, layout(layer + 1), group, is_small)?
            }
        })
    }
}

impl Split {
    /// How a step whose output lies in `to` is shared.
    fn of<S: Simd>(operation: &Operation, to: &Layout) -> Self {
        match operation {
            Operation::Direct(layer, per_image) if to.height >= 2 && layer.work(*per_image) > TOO_SMALL_TO_SHARE => {
                let rows = to.height / 2;
                Self::Rows { pixels: per_image / to.height * rows, cut: to.at(0, rows, 0) }
            }
            Operation::Winograd(layer) if layer.work() > TOO_SMALL_TO_SHARE => {
                let channels = layer.half::<S>() * S::LANES;
                if channels < to.pitch { Self::Channels(channels) } else { Self::Not }
            }
            _ => Self::Not,
        }
    }
}

impl Operation {
    fn pool(
        fold: Fold,
        kernel: usize,
        stride: usize,
        from: &Layout,
        to: &Layout,
        group: usize,
        is_small: impl Fn(usize) -> Result<(), PlanError>,
    ) -> Result<Self, PlanError> {
        is_small(kernel * kernel)?;
        let taps = (0..kernel * kernel).map(|tap| (tap / kernel * from.row() + tap % kernel * from.pitch) as u32);
        let mut sites = Vec::new();
        for image in 0..group {
            for (y, x) in pixels(to.height, to.width, false) {
                sites.push((from.at(image, y * stride, x * stride) as u32, to.at(image, y, x) as u32));
            }
        }
        let pool = Pool { fold, taps: taps.collect(), sites, channels: to.channels };
        Ok(Self::Pool(pool, to.height * to.width))
    }
}

/// Rows and columns of the outputs: row by row, or window by window of a 2x2 pool.
fn pixels(height: usize, width: usize, pooled: bool) -> impl Iterator<Item = (usize, usize)> {
    let size = if pooled { 2 } else { 1 };
    (0..height).step_by(size).flat_map(move |y| {
        (0..width)
            .step_by(size)
            .flat_map(move |x| (0..size).flat_map(move |dy| (0..size).map(move |dx| (y + dy, x + dx))))
    })
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel(kernel) => write!(f, "this processor cannot run the kernel {kernel}"),
            Self::Length { layer, list, found, expected } => {
                write!(f, "layer {layer}: {list} has {found} elements, its shapes ask for {expected}")
            }
            Self::Shape { layer } => write!(f, "layer {layer} does not fit what is before it"),
            Self::Memory => {
                write!(f, "the buffers of one image would take more than {MAX_SCRATCH} bytes in the form kernels want")
            }
        }
    }
}

impl std::error::Error for PlanError {}
