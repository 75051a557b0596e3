//! From a network to steps over buffers, and running them.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::time::Instant;

use crate::add::{Add, RunAdd};
use crate::aligned::Aligned;
use crate::average_pool::{AveragePool, Places, RunAveragePool};
use crate::chain::{Chain, Link, Reads, chains};
use crate::conv::{Conv, RunConv, Sums, joined};
use crate::copy::{Copy, RunCopy};
use crate::depthwise::{Depthwise, RunDepthwise};
use crate::dot::{Dot, RunDot};
use crate::elementwise::Elements;
use crate::input::{Form, Kept, Pack};
use crate::kernel::Kernel;
use crate::layout::{Layout, PART};
use crate::lookup::{Lookup, RunLookup};
use crate::max_pool::{MaxPool, RunMaxPool};
use crate::multiply::{Multiply, RunMultiply};
use crate::network::{Finish, Layer, Operation, Shape, Window};
use crate::operator::{Room, Run, To, Work};
use crate::profile::{Method, StepProfile};
use crate::simd::{Job, Simd};
use crate::winograd::{self, RunWinograd, Winograd};

/// The most memory of one thread's buffers, in bytes. Networks within the limits of `docs/inference.md` need less.
const MAX_SCRATCH: usize = 1 << 30;
/// The bytes of activations that a group of images should take together: more than a second-level cache, since reading weights
/// once for several images is worth more than finding all activations there (measured on the residual network).
const GROUP_BYTES: usize = 640 << 10;
/// The most images in a group: beyond it, weights are read seldom enough.
const MAX_GROUP: usize = 8;
/// Images of fewer columns are stored with columns for rows, if they have twice as many rows: a row takes a time of its own to begin.
const NARROW: usize = 16;
/// An input of more bytes an image is laid out by strips of about so many: see [`Strips`]. Tests do it with every one.
const LARGE_INPUT: usize = if cfg!(test) { 1 } else { 512 << 10 };
const STRIP: usize = if cfg!(test) { 200 } else { 160 << 10 };
/// A step of more work, in vector products, is shared by two threads: it takes some microseconds. Tests share every step.
const WORTH_SHARING: usize = if cfg!(test) { 1 } else { 4001 };

/// A network that is packed for a kernel. Running it changes nothing in it: threads share it.
#[derive(Debug)]
pub struct Plan {
    kernel: Kernel,
    input: Shape,
    logits: usize,
    /// Images that are run together.
    group: usize,
    form: Form,
    steps: Vec<Step>,
    chains: Vec<Chain>,
    layouts: Vec<Layout>,
    room: Room,
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
        list: &'static str,
        /// Its length.
        found: usize,
        /// What the shapes ask for.
        expected: usize,
    },
    /// A layer does not fit its inputs, or names another number of them than it reads or one that is not before it; or gives
    /// logits without being the last, or is the last and gives none; or there is no layer.
    Shape {
        /// The layer, from 0.
        layer: usize,
    },
    /// One image would take too much memory in this form.
    Memory,
}

/// The memory that a plan takes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Of the plan: weights, for the most part.
    pub plan: usize,
    /// Of each [`Scratch`] of it.
    pub scratch: usize,
}

/// One thread's memory for running a plan.
#[derive(Debug)]
pub struct Scratch {
    buffers: Vec<Aligned>,
    /// Of an image of which some rows are stored at a time, those that are: see [`Strips`].
    held: Range<usize>,
    work: Work,
}

/// A step: what is done, from which buffers to which.
#[derive(Debug)]
struct Step {
    /// The layer, the first if it is two.
    layer: usize,
    operator: Operator,
    /// Rows of the output of an image.
    height: usize,
    strips: Option<Strips>,
    from: [usize; 2],
    /// None for the last, whose results are the logits.
    to: Option<usize>,
    /// Whether what it writes, it writes row by row.
    goes_by_rows: bool,
    /// None if it must come after all of what it reads.
    reads: Option<Reads>,
    split: Split,
}

impl Step {
    /// Vector products of one image.
    fn products(&self) -> usize {
        self.operator.method().1 * self.height / self.operator.height()
    }

    fn link(&self, layouts: &[Layout]) -> Link {
        // None follows what is not written row by row.
        let to = self.to.filter(|_| self.goes_by_rows);
        let (image, row) = to.map_or((0, 0), |to| (layouts[to].image(), layouts[to].row()));
        Link { from: self.from, to: self.to, reads: self.reads, image, row, unit: self.operator.unit() }
    }
}

/// How the first step goes where the input is large: some rows of the output at a time, for which the rows of the image that it reads
/// are laid out in one and the same place, so that they lie in a second-level cache. To the operator a strip is an image.
#[derive(Debug)]
struct Strips {
    /// Rows of the output, at most.
    rows: usize,
    reads: Reads,
    /// The image's rows that are stored, and a byte of the padding above and below for each channel.
    height: usize,
    padding: Vec<u8>,
}

/// How two threads share a step of one image.
#[derive(Debug, Clone, Copy)]
enum Split {
    /// Not at all: it takes less time than asking another thread.
    Not,
    /// By rows of the output: the first has so many, and its bytes end at `cut`.
    Rows { rows: usize, cut: usize },
    /// By tiles of output channels of one pixel: the first has so many, and its bytes or logits end at `cut`.
    Tiles { tiles: usize, cut: usize },
}

/// Runs two things, at the same time if it can.
pub trait Join {
    /// Returns when both are done.
    fn join<A: FnOnce() + Send, B: FnOnce() + Send>(&self, a: A, b: B);
}

#[derive(Debug)]
enum Operator {
    Conv(Conv),
    Depthwise(Depthwise),
    Dot(Dot),
    Winograd(Winograd),
    AveragePool(AveragePool),
    MaxPool(MaxPool),
    Add(Add),
    Multiply(Multiply),
    Lookup(Box<Lookup>),
    /// Of one activation, again and again.
    Copy(Vec<Copy>),
}

impl Plan {
    /// Packs a network; `zero_points` are those of the input, one for each channel.
    ///
    /// # Errors
    /// If this processor lacks the instructions, the layers do not fit together, or the buffers of one image would be
    /// larger than 1 GiB.
    pub fn new(input: Shape, zero_points: &[u8], layers: &[Layer<'_>], kernel: Kernel) -> Result<Self, PlanError> {
        if zero_points.len() != input.channels {
            let (found, expected) = (zero_points.len(), input.channels);
            return Err(PlanError::Length { layer: 0, list: "zero_points", found, expected });
        }
        let network = Network::new(input, zero_points, layers)?;
        let logits = network.activations.last().map_or(0, |last| last.shape.channels);
        let made = kernel.run(Make { network: &network }).ok_or(PlanError::Kernel(kernel))??;
        let Made { group, layouts, steps, room } = made;
        let mut chains = chains(&steps.iter().map(|step| step.link(&layouts)).collect::<Vec<_>>());
        if let Some(strips) = steps.first().and_then(|step| step.strips.as_ref()) {
            chains[0].rows = strips.rows;
        }
        let [rows, columns] = network.kept;
        let columns = (columns != Kept::ALL).then(|| columns.sources(input.width).collect());
        let form = Form {
            size: [input.height, input.width],
            rows,
            columns,
            is_turned: network.activations[0].is_turned,
            table: network.first_lookup().map(|table| Box::new(*table)),
        };
        Ok(Self { kernel, input, logits, group, form, steps, chains, layouts, room })
    }

    /// The kernel that it was made for.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// How many logits an image has.
    pub fn logits(&self) -> usize {
        self.logits
    }

    /// The most images that [`Plan::run`] takes, and the number that it is fastest with.
    pub fn group(&self) -> usize {
        self.group
    }

    /// Memory for running it on one thread.
    pub fn scratch(&self) -> Scratch {
        let buffers = self.layouts.iter().map(|layout| {
            let mut buffer = Aligned::zeros(layout.buffer(self.group));
            layout.fill_borders(self.group, buffer.bytes_mut());
            buffer
        });
        Scratch { buffers: buffers.collect(), held: 0..0, work: Work::new(self.room) }
    }

    /// The memory that it takes.
    pub fn bytes(&self) -> Memory {
        let of = |operator: &Operator| match operator {
            Operator::Conv(layer) => layer.bytes(),
            Operator::Depthwise(layer) => layer.bytes(),
            Operator::Dot(layer) => layer.bytes(),
            Operator::Winograd(layer) => layer.bytes(),
            Operator::Lookup(_) => size_of::<Lookup>(),
            _ => 0,
        };
        let columns = self.form.columns.as_ref().map_or(0, |columns| size_of_val(columns.as_slice()));
        let plan = columns + self.steps.iter().map(|step| size_of::<Step>() + of(&step.operator)).sum::<usize>();
        let buffers: usize = self.layouts.iter().map(|layout| layout.buffer(self.group)).sum();
        Memory { plan, scratch: buffers + self.room.bytes() }
    }

    /// The logits of some images: `logits` gets as many for each as the network has, one image after the other.
    ///
    /// # Panics
    /// If there are more images than [`Plan::group`], an image has another size than the input, `logits` another length
    /// than `images` needs, or `scratch` belongs to another plan.
    pub fn run(&self, scratch: &mut Scratch, images: &[&[u8]], logits: &mut [i32]) {
        self.pack(scratch, images, logits);
        for chain in &self.chains {
            match &self.steps[chain.steps.clone()] {
                [step @ Step { strips: None, .. }] => {
                    self.step(step, scratch, images, 0..images.len() * step.height, logits);
                }
                steps => {
                    (0..images.len()).for_each(|image| self.chain(steps, chain.rows, scratch, (images, image), logits))
                }
            }
        }
    }

    /// Runs the steps of a chain for one image, `strip` rows of the first at a time.
    fn chain(
        &self,
        steps: &[Step],
        strip: usize,
        scratch: &mut Scratch,
        (images, image): (&[&[u8]], usize),
        logits: &mut [i32],
    ) {
        let mut done = vec![0; steps.len()];
        // All rows of all: a convolution may leave out the last of its input, which others read.
        while steps.iter().zip(&done).any(|(step, done)| *done < step.height) {
            for (index, step) in steps.iter().enumerate() {
                let height = step.height;
                let end = match (index.checked_sub(1), step.reads) {
                    (Some(before), Some(reads)) => {
                        reads.ready(done[before], steps[before].height, height, step.operator.unit())
                    }
                    _ => (done[index] + strip).min(height),
                };
                if end > done[index] {
                    self.step(step, scratch, images, image * height + done[index]..image * height + end, logits);
                    done[index] = end;
                }
            }
        }
    }

    /// Runs some images again and again, and tells what each step took at best. Steps are in order; the first is laying out the
    /// pixels, unless the first layer does, strip by strip.
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
                self.step(step, scratch, images, 0..images.len() * step.height, &mut logits);
                let (method, work) = (step.operator.method().0, step.products());
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
        (scratch.held, other.held) = (0..0, 0..0);
        for step in &self.steps {
            let mut to = scratch.take(step.to);
            let all = step.height;
            if let (Some(strips), Split::Rows { rows, cut }) = (&step.strips, step.split) {
                let (above, below) = to.bytes_mut().split_at_mut(cut);
                threads.join(
                    || self.strips(step, strips, scratch, (image, 0, 0..rows), (above, 0)),
                    || self.strips(step, strips, other, (image, 0, rows..all), (below, cut)),
                );
                scratch.put_back(step.to, to);
                continue;
            }
            let from = step.from.map(|buffer| scratch.buffers[buffer].bytes());
            let (work, others) = (&mut scratch.work, &mut other.work);
            let run = |part, rows, to, work| self.operate(&step.operator, part, Run { rows, from, to, work });
            match step.split {
                Split::Not => {
                    scratch.put_back(step.to, to);
                    self.step(step, scratch, &[image], 0..all, logits);
                    continue;
                }
                Split::Rows { rows, cut } => {
                    let (above, below) = to.bytes_mut().split_at_mut(cut);
                    let above = To::Activation { bytes: above, base: 0 };
                    let below = To::Activation { bytes: below, base: cut };
                    threads.join(|| run(Part::All, 0..rows, above, work), || run(Part::All, rows..all, below, others));
                }
                Split::Tiles { tiles, cut } => {
                    let (first, second) = match step.to {
                        None => {
                            let (first, second) = logits.split_at_mut(cut);
                            (To::Logits { logits: first, base: 0 }, To::Logits { logits: second, base: cut })
                        }
                        Some(_) => {
                            let (first, second) = to.bytes_mut().split_at_mut(cut);
                            let first = To::Activation { bytes: first, base: 0 };
                            (first, To::Activation { bytes: second, base: cut })
                        }
                    };
                    threads.join(
                        || run(Part::Before(tiles), 0..1, first, work),
                        || run(Part::From(tiles), 0..1, second, others),
                    );
                }
            }
            scratch.put_back(step.to, to);
        }
    }

    /// Checks what the caller gave, and lays out the images, unless the first step does.
    fn pack(&self, scratch: &mut Scratch, images: &[&[u8]], logits: &[i32]) {
        assert!(images.len() <= self.group, "{} images in a group of {}", images.len(), self.group);
        assert_eq!(logits.len(), images.len() * self.logits, "room for the logits");
        assert_eq!(scratch.buffers.len(), self.layouts.len(), "the plan's own scratch");
        for (image, pixels) in images.iter().enumerate() {
            assert_eq!(pixels.len(), self.input.elements(), "pixels of image {image}");
        }
        if self.steps.first().is_some_and(|step| step.strips.is_some()) {
            return;
        }
        let (form, layout) = (&self.form, &self.layouts[0]);
        let rows = 0..if form.is_turned { layout.width } else { layout.height };
        for (image, pixels) in images.iter().enumerate() {
            let to = scratch.buffers[0].bytes_mut();
            self.kernel.run(Pack { form, layout, pixels, rows: rows.clone(), image, first: 0, to });
        }
    }

    /// Runs some rows of a step. A buffer is moved out of the scratch while it is written to, since no step reads what it
    /// writes.
    fn step(&self, step: &Step, scratch: &mut Scratch, images: &[&[u8]], rows: Range<usize>, logits: &mut [i32]) {
        let mut to = scratch.take(step.to);
        if let Some(strips) = &step.strips {
            let touched = rows.start / step.height..rows.end.div_ceil(step.height);
            for (image, pixels) in images.iter().enumerate().take(touched.end).skip(touched.start) {
                let first = image * step.height;
                let rows = rows.start.max(first) - first..rows.end.min(first + step.height) - first;
                if rows.start == 0 {
                    scratch.held = 0..0;
                }
                self.strips(step, strips, scratch, (pixels, image, rows), (to.bytes_mut(), 0));
            }
        } else {
            let from = step.from.map(|buffer| scratch.buffers[buffer].bytes());
            let to = match step.to {
                Some(_) => To::Activation { bytes: to.bytes_mut(), base: 0 },
                None => To::Logits { logits, base: 0 },
            };
            self.operate(&step.operator, Part::All, Run { rows, from, to, work: &mut scratch.work });
        }
        scratch.put_back(step.to, to);
    }

    fn operate(&self, operator: &Operator, part: Part, run: Run<'_>) {
        self.kernel.run(RunStep { operator, part, run });
    }

    /// Runs some rows of the first step, each strip of them after the rows of the image that it reads are laid out. Of these some may
    /// be there from the strip before. `bytes` are those of the output from `base` on.
    fn strips(
        &self,
        step: &Step,
        strips: &Strips,
        scratch: &mut Scratch,
        (pixels, image, rows): (&[u8], usize, Range<usize>),
        (bytes, base): (&mut [u8], usize),
    ) {
        let (form, layout) = (&self.form, &self.layouts[0]);
        let to = self.layouts[step.to.expect("what goes by rows is stored")].view();
        let Strips { rows: most, reads: Reads { kernel, stride, above }, height, ref padding } = *strips;
        for start in rows.clone().step_by(most) {
            let end = rows.end.min(start + most);
            // Counted from the first row of the padding.
            let wanted = start * stride..(end - 1) * stride + kernel;
            let (buffer, row, held) = (scratch.buffers[0].bytes_mut(), layout.row(), &mut scratch.held);
            let mut there = wanted.start;
            if held.contains(&wanted.start) {
                there = held.end.min(wanted.end);
                buffer.copy_within((wanted.start - held.start) * row..(there - held.start) * row, 0);
            }
            *held = wanted.clone();
            for place in (there..wanted.end).filter(|place| !(above..above + height).contains(place)) {
                layout.fill_row(place - wanted.start, padding, buffer);
            }
            let rows = there.max(above)..wanted.end.min(above + height);
            if !rows.is_empty() {
                let first = rows.start - wanted.start;
                let rows = rows.start - above..rows.end - above;
                self.kernel.run(Pack { form, layout, pixels, rows, image: 0, first, to: buffer });
            }
            let shift = image * to.image + start * to.row;
            let (bytes, base) = match shift.checked_sub(base) {
                Some(more) => (&mut bytes[more..], 0),
                None => (&mut bytes[..], base - shift),
            };
            let (from, to) = ([scratch.buffers[0].bytes(); 2], To::Activation { bytes, base });
            self.operate(&step.operator, Part::All, Run { rows: 0..end - start, from, to, work: &mut scratch.work });
        }
    }
}

impl Scratch {
    fn take(&mut self, buffer: Option<usize>) -> Aligned {
        buffer.map(|buffer| std::mem::take(&mut self.buffers[buffer])).unwrap_or_default()
    }

    fn put_back(&mut self, buffer: Option<usize>, bytes: Aligned) {
        if let Some(buffer) = buffer {
            self.buffers[buffer] = bytes;
        }
    }
}

/// Which tiles of a convolution.
#[derive(Debug, Clone, Copy)]
enum Part {
    All,
    Before(usize),
    From(usize),
}

struct RunStep<'a> {
    operator: &'a Operator,
    part: Part,
    run: Run<'a>,
}

impl Job for RunStep<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let run = self.run;
        match self.operator {
            Operator::Conv(layer) => {
                let tiles = match self.part {
                    Part::All => 0..layer.tiles(),
                    Part::Before(tiles) => 0..tiles,
                    Part::From(tiles) => tiles..layer.tiles(),
                };
                simd.vectorize(RunConv { layer, tiles, run });
            }
            Operator::Depthwise(layer) => simd.vectorize(RunDepthwise { layer, run }),
            Operator::Dot(layer) => simd.vectorize(RunDot { layer, run }),
            Operator::Winograd(layer) => simd.vectorize(RunWinograd { layer, run }),
            Operator::AveragePool(layer) => simd.vectorize(RunAveragePool { layer, run }),
            Operator::MaxPool(layer) => simd.vectorize(RunMaxPool { layer, run }),
            Operator::Add(layer) => simd.vectorize(RunAdd { layer, run }),
            Operator::Multiply(layer) => simd.vectorize(RunMultiply { layer, run }),
            Operator::Lookup(layer) => simd.vectorize(RunLookup { layer, run }),
            Operator::Copy(layers) => simd.vectorize(RunCopy { layers, run }),
        }
    }
}

impl Operator {
    /// Rows of the output of one image.
    fn height(&self) -> usize {
        match self {
            Self::Conv(layer) => layer.height(),
            Self::Depthwise(layer) => layer.height(),
            Self::Dot(_) => 1,
            Self::Winograd(layer) => layer.height(),
            Self::AveragePool(layer) => layer.places.rows,
            Self::MaxPool(layer) => layer.places.rows,
            Self::Add(layer) => layer.elements.height(),
            Self::Multiply(layer) => layer.elements.height(),
            Self::Lookup(layer) => layer.elements.height(),
            Self::Copy(layers) => layers[0].height(),
        }
    }

    /// The memory that it needs beside its buffers.
    fn room<S: Simd>(&self) -> Room {
        match self {
            Self::Conv(layer) => layer.room::<S>(),
            Self::Depthwise(layer) => layer.room::<S>(),
            Self::Winograd(layer) => layer.room::<S>(),
            Self::AveragePool(layer) => layer.room::<S>(),
            Self::MaxPool(layer) => layer.room::<S>(),
            Self::Multiply(layer) => layer.room(),
            _ => Room::default(),
        }
    }

    /// The rows that are made together: two threads share between them.
    fn unit(&self) -> usize {
        match self {
            Self::Depthwise(layer) => layer.unit(),
            Self::Winograd(layer) => layer.unit(),
            _ => 1,
        }
    }

    /// How it is done, and its vector products for one image.
    fn method(&self) -> (Method, usize) {
        match self {
            Self::Conv(layer) if layer.is_wide() => (Method::DirectWide, layer.products()),
            Self::Conv(layer) => (Method::Direct, layer.products()),
            Self::Depthwise(layer) if layer.is_wide() => (Method::DepthwiseWide, layer.products()),
            Self::Depthwise(layer) => (Method::Depthwise, layer.products()),
            Self::Dot(layer) if layer.is_wide() => (Method::DirectWide, layer.products()),
            Self::Dot(layer) => (Method::Direct, layer.products()),
            Self::Winograd(layer) => (Method::Winograd, layer.products()),
            Self::AveragePool(_) | Self::MaxPool(_) => (Method::Pool, 0),
            Self::Add(_) | Self::Multiply(_) | Self::Lookup(_) | Self::Copy(_) => (Method::Elementwise, 0),
        }
    }
}

/// An activation.
#[derive(Debug)]
struct Activation {
    /// As it is stored.
    shape: Shape,
    /// Whether rows are columns and columns are rows, as it is stored: see [`NARROW`].
    is_turned: bool,
    zero_points: Vec<u8>,
    /// No byte is larger.
    high: u8,
    /// The layers that read it.
    readers: Vec<usize>,
}

impl Activation {
    /// Of a shape as it is, if not `is_turned` already. It is stored as it is best read.
    fn new(shape: Shape, is_turned: bool, zero_points: Vec<u8>, high: u8) -> Self {
        let Shape { height, width, .. } = turned(shape, is_turned);
        let is_narrow = width < NARROW && height >= 2 * width;
        let shape = turned(shape, is_narrow != is_turned);
        Self { shape, is_turned: is_narrow, zero_points, high, readers: Vec::new() }
    }

    /// As it is, however it is stored.
    fn true_shape(&self) -> Shape {
        turned(self.shape, self.is_turned)
    }

    /// A window over it, as it is stored.
    fn turned(&self, window: Window) -> Window {
        let Window { kernel: [rows, columns], stride: [down, right], padding: [above, left, below, after] } = window;
        match self.is_turned {
            true => Window { kernel: [columns, rows], stride: [right, down], padding: [left, above, after, below] },
            false => window,
        }
    }

    /// The rows and columns of a kernel that meet anything but padding, as it is stored.
    fn taps(&self, window: Window) -> [Range<usize>; 2] {
        let Window { kernel, stride, padding } = self.turned(window);
        [(0, self.shape.height), (1, self.shape.width)].map(|(way, size)| {
            let before = padding[way];
            let last = (before + size + padding[way + 2] - kernel[way]) / stride[way] * stride[way];
            before.saturating_sub(last)..kernel[way].min(before + size)
        })
    }

    /// The same window without the rows and columns that only ever meet padding, which adds nothing to a sum.
    fn window(&self, window: Window) -> Window {
        let taps = self.taps(window);
        let Window { mut kernel, stride, mut padding } = self.turned(window);
        for (way, size) in [(0, self.shape.height), (1, self.shape.width)] {
            let last = (padding[way] + size + padding[way + 2] - kernel[way]) / stride[way] * stride[way];
            kernel[way] = taps[way].len();
            padding[way] -= taps[way].start;
            padding[way + 2] = (last + kernel[way]).saturating_sub(padding[way] + size);
        }
        Window { kernel, stride, padding }
    }

    /// The weights of such a window.
    fn weight<'a>(&self, weight: &'a [i8], window: Window) -> Cow<'a, [i8]> {
        let ([down, right], [rows, columns]) = (self.taps(window), window.kernel);
        let is_same = !self.is_turned || rows == 1 || columns == 1;
        if is_same && down.len() * right.len() == rows * columns {
            return weight.into();
        }
        let places = down.flat_map(|y| right.clone().map(move |x| (y, x)));
        let places = places.map(|(y, x)| if self.is_turned { x * columns + y } else { y * columns + x });
        weight.chunks_exact(rows * columns).flat_map(|weight| places.clone().map(|place| weight[place])).collect()
    }

    fn zero_point(&self) -> u8 {
        self.zero_points.first().copied().unwrap_or_default()
    }
}

/// A shape, or what it is with rows for columns.
fn turned(shape: Shape, is_turned: bool) -> Shape {
    let Shape { channels, height, width } = shape;
    if is_turned { Shape { channels, height: width, width: height } } else { shape }
}

/// A network whose layers fit together.
struct Network<'a> {
    layers: Vec<Layer<'a>>,
    activations: Vec<Activation>,
    /// The rows and columns of the input that are stored.
    kept: [Kept; 2],
}

/// The input and the layers where only those rows and columns are stored that windows have, if all that reads the input is one layer of
/// windows that lie far apart, or elementwise layers before it.
fn compact<'a>(mut input: Shape, layers: &[Layer<'a>]) -> (Shape, Vec<Layer<'a>>, [Kept; 2]) {
    let (mut layers, mut kept) = (layers.to_vec(), [Kept::ALL; 2]);
    let mut activation = 0;
    loop {
        let mut readers = layers.iter_mut().enumerate().filter(|(_, layer)| layer.from.contains(&activation));
        let (Some((index, layer)), None) = (readers.next(), readers.next()) else { break };
        let is_one = layer.from.iter().all(|from| *from == activation) && activation <= index;
        match &mut layer.operation {
            Operation::Add { .. } | Operation::Multiply { .. } | Operation::Lookup { .. } if is_one => {
                activation = index + 1;
                continue;
            }
            Operation::Conv { window, .. } | Operation::AveragePool { window, .. } | Operation::MaxPool { window }
                if is_one =>
            {
                for (way, size) in [&mut input.height, &mut input.width].into_iter().enumerate() {
                    kept[way] = keep(window, way, size).unwrap_or(Kept::ALL);
                }
            }
            _ => {}
        }
        break;
    }
    (input, layers, kept)
}

/// Leaves out what lies between windows, if that is more than windows have; `None` if it is less, or there is no window.
fn keep(window: &mut Window, way: usize, size: &mut usize) -> Option<Kept> {
    let (kernel, stride) = (window.kernel[way], window.stride[way]);
    let (before, after) = (window.padding[way], window.padding[way + 2]);
    if kernel == 0 || before >= kernel || after >= kernel || stride < kernel.checked_mul(2)? {
        return None;
    }
    let last = size.checked_add(before)?.checked_add(after)?.checked_sub(kernel)? / stride;
    // Of the last window what is beyond the image.
    let beyond = (last * stride + kernel).saturating_sub(before + *size);
    *size = last * kernel + kernel - before - beyond;
    (window.stride[way], window.padding[way + 2]) = (kernel, beyond);
    Some(Kept { kernel, stride, before, count: *size })
}

impl<'a> Network<'a> {
    fn new(input: Shape, zero_points: &[u8], layers: &[Layer<'a>]) -> Result<Self, PlanError> {
        if layers.is_empty() || input.elements() == 0 {
            return Err(PlanError::Shape { layer: 0 });
        }
        let (input, layers, kept) = compact(input, layers);
        let mut activations = vec![Activation::new(input, false, zero_points.to_vec(), 255)];
        for (layer, description) in layers.iter().enumerate() {
            let last = layer + 1 == layers.len();
            let next = output(layer, description, &activations, last)?;
            for from in description.from {
                activations[*from].readers.push(layer);
            }
            activations.push(next);
        }
        Ok(Self { layers, activations, kept })
    }

    /// The table of the first layer, if that is a lookup and all that reads the input: pixels go through it as they come in.
    fn first_lookup(&self) -> Option<&'a [u8; 256]> {
        match self.layers[0] {
            Layer { from: [0], operation: Operation::Lookup { table, .. } } => {
                (self.activations[0].readers == [0]).then_some(table)
            }
            _ => None,
        }
    }

    /// Whether a layer is a convolution of which nothing is read but by the 2x2 max-pool that follows.
    fn pools_next(&self, layer: usize) -> bool {
        let Some(next) = self.layers.get(layer + 1) else { return false };
        let window = Window { kernel: [2, 2], stride: [2, 2], padding: [0; 4] };
        let pooled = matches!(next.operation, Operation::MaxPool { window: found } if found == window);
        let is_conv = matches!(self.layers[layer].operation, Operation::Conv { groups, .. }
            if !self.is_depthwise(layer, groups));
        is_conv && pooled && self.activations[layer + 1].readers == [layer + 1]
    }

    /// Whether an activation is stored in another way than what a layer reads, which is how the layer goes.
    fn turns(&self, layer: usize, activation: usize) -> bool {
        self.activations[self.layers[layer].from[0]].is_turned != self.activations[activation].is_turned
    }

    /// Whether a layer reads an activation that had better have no gaps between its pixels.
    fn is_dense(&self, activation: usize) -> bool {
        self.activations[activation].readers.iter().any(|layer| match self.layers[*layer].operation {
            Operation::Conv { groups, .. } => !self.is_depthwise(*layer, groups),
            Operation::Linear { .. } => true,
            _ => false,
        })
    }

    fn is_depthwise(&self, layer: usize, groups: usize) -> bool {
        let inputs = self.activations[self.layers[layer].from[0]].shape.channels;
        groups == inputs && groups == self.activations[layer + 1].shape.channels
    }

    /// Pixels around an activation, so that convolutions find their padding there. Where they ask for so different ones that
    /// the image would grow much, there are none, and each makes a copy with its own.
    fn border(&self, activation: usize) -> [usize; 4] {
        let Shape { height, width, .. } = self.activations[activation].shape;
        let size = |[above, left, below, right]: [usize; 4]| (above + height + below) * (left + width + right);
        let activation = &self.activations[activation];
        let paddings = activation.readers.iter().filter_map(|layer| match self.layers[*layer].operation {
            Operation::Conv { window, .. } => Some(activation.window(window).padding),
            _ => None,
        });
        let (mut border, mut apart) = ([0; 4], 0);
        for padding in paddings {
            apart += size(padding);
            border = std::array::from_fn(|side| padding[side].max(border[side]));
        }
        if size(border) <= apart { border } else { [0; 4] }
    }
}

/// Checks a layer, and describes what it writes.
fn output(
    layer: usize,
    description: &Layer<'_>,
    activations: &[Activation],
    last: bool,
) -> Result<Activation, PlanError> {
    let wrong = || PlanError::Shape { layer };
    let inputs: Option<Vec<&Activation>> = description.from.iter().map(|from| activations.get(*from)).collect();
    let inputs = inputs.ok_or_else(wrong)?;
    let first = *inputs.first().ok_or_else(wrong)?;
    let length = |list, found, expected| match found == expected {
        true => Ok(()),
        false => Err(PlanError::Length { layer, list, found, expected }),
    };
    let uniform = |activation: &Activation| activation.zero_points.iter().all(|z| *z == activation.zero_point());
    let fits = |condition: bool| if condition { Ok(()) } else { Err(wrong()) };
    let over = |channels: usize, window: Window| {
        let Window { kernel, stride, padding } = first.turned(window);
        let out = |size: usize, way: usize| {
            let (before, after) = (padding[way], padding[way + 2]);
            let fits = kernel[way] > 0 && stride[way] > 0 && before < kernel[way] && after < kernel[way];
            let size = size.checked_add(before)?.checked_add(after)?.checked_sub(kernel[way])?;
            fits.then(|| size / stride[way] + 1)
        };
        let (height, width) = (out(first.shape.height, 0)?, out(first.shape.width, 1)?);
        Some(Shape { channels, height, width })
    };
    let next = |shape: Shape, finish: Finish| {
        Activation::new(shape, first.is_turned, vec![finish.zero_point; shape.channels], finish.high)
    };
    let count = match description.operation {
        Operation::Add { .. } | Operation::Multiply { .. } => 2..=2,
        Operation::Concat => 2..=usize::MAX,
        _ => 1..=1,
    };
    fits(count.contains(&inputs.len()))?;
    let is_logits = matches!(description.operation, Operation::Linear { finish: None, .. });
    fits(last == is_logits)?;
    match description.operation {
        Operation::Conv { groups, window, weight, bias, scale, finish } => {
            let channels = bias.len();
            let divides = groups > 0 && first.shape.channels.is_multiple_of(groups) && channels.is_multiple_of(groups);
            fits(divides && channels > 0)?;
            let shape = over(channels, window).ok_or_else(wrong)?;
            let taps = window.kernel[0].checked_mul(window.kernel[1]).ok_or_else(wrong)?;
            let expected =
                (first.shape.channels / groups).checked_mul(taps).and_then(|size| size.checked_mul(channels));
            length("weight", weight.len(), expected.ok_or_else(wrong)?)?;
            length("scale", scale.len(), channels)?;
            Ok(next(shape, finish))
        }
        Operation::Linear { weight, bias, scale, finish } => {
            let channels = bias.len();
            fits(channels > 0)?;
            length("weight", weight.len(), first.shape.elements().checked_mul(channels).ok_or_else(wrong)?)?;
            if finish.is_some() || !scale.is_empty() {
                length("scale", scale.len(), channels)?;
            }
            let finish = finish.unwrap_or(Finish { zero_point: 0, low: 0, high: 0 });
            Ok(next(Shape { channels, height: 1, width: 1 }, finish))
        }
        Operation::Add { finish, .. } => {
            let [one, other] = [inputs[0], inputs[1]];
            fits(one.true_shape() == other.true_shape() && uniform(one) && uniform(other))?;
            Ok(next(first.shape, finish))
        }
        Operation::Multiply { finish, .. } => {
            let shapes = [first.true_shape(), Shape { height: 1, width: 1, ..first.shape }];
            fits(shapes.contains(&inputs[1].true_shape()) && uniform(first) && uniform(inputs[1]))?;
            Ok(next(first.shape, finish))
        }
        Operation::AveragePool { window, finish, .. } => {
            fits(uniform(first))?;
            Ok(next(over(first.shape.channels, window).ok_or_else(wrong)?, finish))
        }
        Operation::MaxPool { window } => {
            let shape = over(first.shape.channels, window).ok_or_else(wrong)?;
            Ok(Activation::new(shape, first.is_turned, first.zero_points.clone(), first.high))
        }
        Operation::Concat => {
            let channels = inputs.iter().map(|input| input.shape.channels).sum();
            let size = |input: &Activation| (input.shape.height, input.shape.width, input.is_turned);
            fits(inputs.iter().all(|input| size(input) == size(first)))?;
            let zero_points = inputs.iter().flat_map(|input| input.zero_points.iter().copied()).collect();
            let high = inputs.iter().map(|input| input.high).max().unwrap_or(255);
            Ok(Activation::new(Shape { channels, ..first.shape }, first.is_turned, zero_points, high))
        }
        Operation::Lookup { table, zero_point } => {
            let high = table.iter().copied().max().unwrap_or(255).max(zero_point);
            Ok(next(first.shape, Finish { zero_point, low: 0, high }))
        }
    }
}

/// Lays out buffers and packs every layer.
struct Make<'a> {
    network: &'a Network<'a>,
}

impl Job for Make<'_> {
    type Output = Result<Made, PlanError>;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> Self::Output {
        make::<S>(self.network)
    }
}

/// What a plan is made of.
struct Made {
    group: usize,
    layouts: Vec<Layout>,
    steps: Vec<Step>,
    room: Room,
}

/// The buffers that activations lie in. Activations that are never needed at the same time share one if they have the same
/// geometry, so that borders, which nothing writes to, stay as they are.
#[derive(Debug, Default)]
struct Buffers {
    layouts: Vec<Layout>,
    /// For every activation that is ever stored, its buffer.
    of: Vec<Option<usize>>,
    /// For every buffer the last layer that reads what it holds.
    busy: Vec<usize>,
    /// Of one image.
    bytes: usize,
    /// The first layer that is a step, if it goes by strips.
    stripped: Option<usize>,
}

impl Buffers {
    /// A buffer of a layout that no layer from `writer` on needs, and that is needed until `reader`.
    fn take(&mut self, layout: Layout, writer: usize, reader: usize) -> Result<usize, PlanError> {
        let free =
            (1..self.layouts.len()).find(|buffer| self.layouts[*buffer] == layout && self.busy[*buffer] < writer);
        let buffer = free.unwrap_or(self.layouts.len());
        if buffer == self.layouts.len() {
            let bytes = layout.checked_buffer(1).and_then(|bytes| bytes.checked_add(self.bytes));
            self.bytes = bytes.filter(|bytes| *bytes <= MAX_SCRATCH).ok_or(PlanError::Memory)?;
            self.layouts.push(layout);
            self.busy.push(0);
        }
        self.busy[buffer] = reader;
        Ok(buffer)
    }

    fn layout(&self, activation: usize) -> &Layout {
        &self.layouts[self.buffer(activation)]
    }

    /// A window of a layer over what it reads, as that is stored. Of what goes by strips padding is stored as rows of the image.
    fn window(&self, network: &Network<'_>, layer: usize, window: Window) -> Window {
        let mut window = network.activations[network.layers[layer].from[0]].window(window);
        if self.stripped == Some(layer) {
            (window.padding[0], window.padding[2]) = (0, 0);
        }
        window
    }

    fn buffer(&self, activation: usize) -> usize {
        self.of[activation].expect("it is stored")
    }
}

#[inline(never)]
fn make<S: Simd>(network: &Network<'_>) -> Result<Made, PlanError> {
    let layers = &network.layers;
    let mut buffers = Buffers { of: vec![None; layers.len() + 1], ..Buffers::default() };
    // For every layer that needs one, the buffer of a copy of its input with its padding around, or without gaps.
    let mut padded = vec![None; layers.len()];
    let first = usize::from(network.first_lookup().is_some());
    let mut strips = None;
    for activation in first..layers.len() {
        // One that is pooled at once is never stored.
        if activation == first || !network.pools_next(activation - 1) {
            let Activation { shape, zero_points, readers, .. } = &network.activations[activation];
            let Shape { channels, height, width } = *shape;
            let mut layout = Layout {
                channels,
                height,
                width,
                pitch: if activation == first && network.is_dense(first) {
                    channels
                } else {
                    channels.next_multiple_of(PART)
                },
                border: network.border(activation),
                zero_points: zero_points.clone(),
            }
            .spread();
            if activation == first {
                strips = Strips::new(network, first, &mut layout);
                buffers.stripped = strips.is_some().then_some(first);
            }
            // The step that writes it still reads its own inputs. A pooled convolution is one step of two layers.
            let is_pooled = activation > 1 && network.pools_next(activation - 2);
            let writer = activation.saturating_sub(if is_pooled { 2 } else { 1 });
            let reader = readers.iter().copied().max().unwrap_or(writer);
            buffers.of[activation] = Some(buffers.take(layout, writer, reader)?);
        }
        let read = &network.activations[layers[activation].from[0]];
        let window = match layers[activation].operation {
            Operation::Conv { window, groups, bias, .. } => {
                let window = buffers.window(network, activation, window);
                let [inputs, outputs] = [read.shape.channels, bias.len()].map(|channels| channels / groups);
                let joined = joined::<S>(groups, inputs, outputs, window.kernel[0] * window.kernel[1]);
                let is_one = !network.is_depthwise(activation, groups) && joined == groups;
                Some((window.padding, window.kernel[1], is_one))
            }
            Operation::Linear { .. } => Some(([0; 4], read.shape.width, true)),
            _ => None,
        };
        if let Some((padding, columns, is_one)) = window {
            let from = buffers.layout(layers[activation].from[0]).clone();
            let is_loose = is_one && is_loose(&from, columns);
            if is_loose || !from.covers(padding) {
                let pitch = if is_loose { from.channels } else { from.pitch };
                let layout = Layout { border: padding, pitch, ..from };
                padded[activation] = Some(buffers.take(layout, activation, activation)?);
            }
        }
    }
    let group = (GROUP_BYTES / buffers.bytes.max(1)).clamp(1, MAX_GROUP);
    let mut steps = Vec::new();
    let mut layer = first;
    while layer < layers.len() {
        let strips = strips.take();
        let pooled = network.pools_next(layer);
        let output = layer + if pooled { 2 } else { 1 };
        let to = buffers.of[output];
        let mut from = [0, 1].map(|input| {
            let from = layers[layer].from;
            buffers.buffer(from[input.min(from.len() - 1)])
        });
        let step = |operator: Operator, strips: Option<Strips>, from: [usize; 2], to: Option<usize>| {
            let goes_by_rows = !network.turns(layer, output);
            // A copy into a wider border, and of one of several inputs, is of whole images.
            let reads = match &operator {
                Operator::Copy(_) => None,
                _ if !goes_by_rows => None,
                _ => reads(network, layer, pooled),
            };
            let height = match strips {
                Some(_) => network.activations[output].shape.height,
                None => operator.height(),
            };
            let mut step = Step { layer, operator, height, strips, from, to, goes_by_rows, reads, split: Split::Not };
            if goes_by_rows {
                step.split = Split::of(&step, to.map(|to| &buffers.layouts[to]));
            }
            step
        };
        if let Operation::Concat = layers[layer].operation {
            let mut first = 0;
            for inputs in layers[layer].from.chunk_by(|one, next| one == next) {
                let (from, layout) = (buffers.buffer(inputs[0]), buffers.layout(output));
                let channels = network.activations[inputs[0]].shape.channels;
                let copies = (0..inputs.len())
                    .map(|copy| Copy::new(&buffers.layouts[from], (layout, layout.view()), first + copy * channels));
                steps.push(step(Operator::Copy(copies.collect()), None, [from; 2], to));
                first += inputs.len() * channels;
            }
        } else {
            if let Some(copy) = padded[layer] {
                let layout = &buffers.layouts[copy];
                let operator = Copy::new(&buffers.layouts[from[0]], (layout, layout.view()), 0);
                steps.push(step(Operator::Copy(vec![operator]), None, from, Some(copy)));
                from = [copy; 2];
            }
            let operator = operator::<S>(network, layer, from, to, &buffers, group, pooled);
            steps.push(step(operator, strips, from, to));
        }
        layer = output;
    }
    let rooms = steps.iter().map(|step| step.operator.room::<S>());
    let room = rooms.fold(Room::default(), Room::max);
    Ok(Made { group, layouts: buffers.layouts, steps, room })
}

/// Whether words of four bytes hold so little of a row of a window, as pixels have gaps between them, that a copy without gaps
/// pays: in time, and in memory for the weights.
fn is_loose(layout: &Layout, columns: usize) -> bool {
    let Layout { channels, pitch, .. } = *layout;
    pitch > channels && 2 * channels.div_ceil(4) * columns >= 3 * (channels * columns).div_ceil(4)
}

/// Which rows of its input a layer reads, with the pool that follows, for a row of its output.
fn reads(network: &Network<'_>, layer: usize, pooled: bool) -> Option<Reads> {
    match network.layers[layer].operation {
        Operation::Conv { window, .. } | Operation::AveragePool { window, .. } | Operation::MaxPool { window } => {
            let window = network.activations[network.layers[layer].from[0]].window(window);
            let Window { kernel: [kernel, _], stride: [stride, _], padding: [above, ..] } = window;
            Some(match pooled {
                true => Reads { kernel: kernel + stride, stride: 2 * stride, above },
                false => Reads { kernel, stride, above },
            })
        }
        Operation::Add { .. } | Operation::Lookup { .. } => Some(Reads { kernel: 1, stride: 1, above: 0 }),
        // The second input of a multiplication may have a single row; a linear layer reads all.
        Operation::Multiply { .. } | Operation::Linear { .. } | Operation::Concat => None,
    }
}

/// Packs a layer that is no concatenation.
fn operator<S: Simd>(
    network: &Network<'_>,
    layer: usize,
    from: [usize; 2],
    to: Option<usize>,
    buffers: &Buffers,
    group: usize,
    pooled: bool,
) -> Operator {
    let inputs = network.layers[layer].from;
    let first = &network.activations[inputs[0]];
    let layouts = from.map(|buffer| &buffers.layouts[buffer]);
    let from = layouts[0];
    let is_turned = network.turns(layer, layer + if pooled { 2 } else { 1 });
    let output = to.map(|to| {
        let layout = &buffers.layouts[to];
        (layout, if is_turned { layout.view().turned() } else { layout.view() })
    });
    let stored = || output.expect("all but logits are stored");
    let zero_points = || [inputs[0], inputs[inputs.len() - 1]].map(|input| network.activations[input].zero_point());
    let wide = first.high > 127;
    match network.layers[layer].operation {
        Operation::Conv { groups, window, weight, bias, scale, finish } => {
            let weight = &first.weight(weight, window);
            let window = buffers.window(network, layer, window);
            let sums = Sums { weight, bias, scale, groups, finish: Some(finish), high: first.high };
            if network.is_depthwise(layer, groups) {
                return Operator::Depthwise(Depthwise::new::<S>(&sums, finish, window, from, stored(), group));
            }
            let [mut height, mut width] = [(0, from.height), (1, from.width)].map(|(way, size)| {
                (window.padding[way] + size + window.padding[way + 2] - window.kernel[way]) / window.stride[way] + 1
            });
            if (groups, height, width) == (1, 1, 1)
                && let Some(dot) = Dot::new::<S>(&sums, window, from, output.map(|(_, view)| view), group)
            {
                return Operator::Dot(dot);
            }
            if pooled {
                (height, width) = (height / 2 * 2, width / 2 * 2);
            }
            let taps = window.kernel[0] * window.kernel[1];
            let direct = Conv::cost::<S>(from, bias.len(), taps, wide) * (height * width) as u64;
            let fits = || winograd::fits(weight, from.channels, first.high);
            if (groups, window.kernel, window.stride) == (1, [3, 3], [1, 1])
                && Winograd::cost::<S>(from.channels, bias.len(), (height, width), group) < direct
                && fits()
            {
                let windows = (from, from.windows(window.padding, window.stride));
                let size = (height, width);
                return Operator::Winograd(Winograd::new::<S>(&sums, finish, windows, stored().1, size, group, pooled));
            }
            Operator::Conv(Conv::new::<S>(&sums, window, from, output, group, pooled))
        }
        Operation::Linear { weight, bias, scale, finish } => {
            let Shape { height, width, .. } = first.shape;
            let window = Window { kernel: [height, width], stride: [1, 1], padding: [0; 4] };
            let weight = &first.weight(weight, first.turned(window));
            let sums = Sums { weight, bias, scale, groups: 1, finish, high: first.high };
            match Dot::new::<S>(&sums, window, from, output.map(|(_, view)| view), group) {
                Some(dot) => Operator::Dot(dot),
                None => Operator::Conv(Conv::new::<S>(&sums, window, from, output, group, false)),
            }
        }
        Operation::Add { multipliers, shift, finish } => {
            let elements = Elements::new(layouts, stored());
            Operator::Add(Add::new(elements, multipliers, shift, zero_points(), finish))
        }
        Operation::Multiply { scale, finish } => {
            let elements = Elements::new(layouts, stored());
            Operator::Multiply(Multiply { elements, zero_points: zero_points(), scale, finish })
        }
        Operation::AveragePool { window, scale, finish } => {
            let places = Places::new(buffers.window(network, layer, window), from, stored());
            Operator::AveragePool(AveragePool::new(places, scale, first.zero_point(), finish))
        }
        Operation::MaxPool { window } => {
            let window = buffers.window(network, layer, window);
            Operator::MaxPool(MaxPool::new::<S>(Places::new(window, from, stored())))
        }
        Operation::Lookup { table, .. } => {
            let elements = Elements::new(layouts, stored());
            Operator::Lookup(Box::new(Lookup { elements, table: *table }))
        }
        Operation::Concat => unreachable!("copies are made of it"),
    }
}

impl Strips {
    /// How the layer goes that reads the first activation, which is about to be stored in `layout`; `None` if that is not large, other
    /// layers read it too, or the layer does not go row by row. Changes the layout to that of a strip.
    fn new(network: &Network<'_>, layer: usize, layout: &mut Layout) -> Option<Self> {
        let pooled = network.pools_next(layer);
        let output = layer + if pooled { 2 } else { 1 };
        let activation = &network.activations[layer];
        let is_alone = activation.readers.iter().all(|reader| *reader == layer);
        if layout.image() <= LARGE_INPUT || activation.is_turned || network.turns(layer, output) || !is_alone {
            return None;
        }
        let reads = reads(network, layer, pooled)?;
        let rows = (STRIP / layout.row()).saturating_sub(reads.kernel) / reads.stride + 1;
        // So many that rows of the image are moved once at most, and whole rows of tiles.
        let rows = rows.max(reads.kernel / reads.stride).next_multiple_of(4);
        if rows >= network.activations[output].shape.height {
            return None;
        }
        let is_max = matches!(network.layers[layer].operation, Operation::MaxPool { .. });
        let padding = if is_max { vec![0; layout.channels] } else { layout.zero_points.clone() };
        let height = layout.height;
        layout.height = (rows - 1) * reads.stride + reads.kernel;
        (layout.border[0], layout.border[2]) = (0, 0);
        Some(Self { rows, reads, height, padding })
    }
}

impl Split {
    /// How a step whose output lies in `to` is shared.
    fn of(step: &Step, to: Option<&Layout>) -> Self {
        let Step { operator, height, .. } = step;
        let height = *height;
        let work = match (step.products(), to) {
            (0, Some(to)) => to.image() / 16,
            (products, _) => products,
        };
        if work < WORTH_SHARING {
            return Self::Not;
        }
        let rows = (height / 2).next_multiple_of(operator.unit());
        match (operator, to) {
            (_, Some(to)) if rows > 0 && rows < height => Self::Rows { rows, cut: to.view().at(0, rows, 0) },
            (Operator::Conv(layer), _) => match layer.half() {
                Some((tiles, channel)) => Self::Tiles { tiles, cut: to.map_or(0, |to| to.view().first) + channel },
                None => Self::Not,
            },
            _ => Self::Not,
        }
    }
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
