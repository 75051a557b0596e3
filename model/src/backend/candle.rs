//! Models on candle: plain f32 operations that are exact because of the proof (see [`crate::proof`]).
//!
//! An activation is a tensor of bytes as f32, (C, N * H * W): channels first, so that a convolution is one matrix product of
//! each group's weights with patches, which an index gathers. What is summed are integers. Where a layer's bound is below 2^24,
//! no partial sum rounds; elsewhere the terms are cut into pieces of which none can reach 2^24, and the pieces are added up as
//! i64. The sum becomes an f32 by rounding to nearest, as the rule says, and is multiplied once. candle has no rounding to even:
//! adding 1.5 * 2^23 and taking it off again does it, since between 2^23 and 2^24 an f32 holds just the integers; the two are
//! operations of their own, which nothing can merge. What makes a byte of one or two bytes is a table, filled by the reference.
//!
//! No operation here may be replaced by one that transforms its operands (Winograd, FFT) or that accumulates in less than
//! f32. TF32's shorter operands (11 significant bits) hold weights and activations, zero points taken off.

use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor};

use super::prepared::PreparedModels;
use super::{Backend, BackendError, DeviceChoice, check_images};
use crate::graph::{Activation, Finish, Graph, Operation, Shape, Window};
use crate::model::Model;
use crate::proof::EXACT_IN_F32;
use crate::reference;

/// The most images in one batch.
const MAX_BATCH: usize = 256;
/// The memory that the activations of one batch may take, in bytes; an estimate. 256 MiB is a guess that keeps a CPU node
/// small and still fills a GPU with pictures of 32 x 32.
const BATCH_BYTES: usize = 256 << 20;
/// The memory that the patches of a convolution may take, in bytes, unless those of one element of its kernel take more.
const PATCH_BYTES: usize = 64 << 20;
/// Adding it to an f32 of less than 2^22 rounds to an integer, ties to even.
const ROUND: f64 = 1.5 * (1u32 << 23) as f64;

/// Runs models with candle on the CPU, a CUDA GPU or a Metal GPU.
#[derive(Debug)]
pub struct CandleBackend {
    device: Device,
    prepared: PreparedModels<Prepared>,
}

impl CandleBackend {
    /// Opens a device. For [`DeviceChoice::Auto`], the second value says why a GPU that the machine has is not used.
    ///
    /// # Errors
    /// If a device was asked for by name and cannot be used.
    pub fn open(choice: DeviceChoice) -> std::result::Result<(Self, Option<String>), BackendError> {
        let (device, reason) = choice.open()?;
        Ok((Self { device, prepared: PreparedModels::default() }, reason))
    }

    /// Whether the device is the CPU.
    pub fn is_cpu(&self) -> bool {
        self.device.is_cpu()
    }
}

impl Backend for CandleBackend {
    fn name(&self) -> String {
        match &self.device {
            Device::Cpu => "CPU (candle)".into(),
            Device::Cuda(_) => "CUDA GPU (candle)".into(),
            Device::Metal(_) => "Metal GPU (candle)".into(),
        }
    }

    fn kernel_name(&self) -> String {
        "candle".into()
    }

    fn threads(&self) -> usize {
        match &self.device {
            Device::Cpu => rayon::current_num_threads(),
            Device::Cuda(_) | Device::Metal(_) => 1,
        }
    }

    fn logits(&mut self, model: &Model, images: &[&[u8]]) -> std::result::Result<Vec<Vec<i32>>, BackendError> {
        check_images(model, images)?;
        let device = &self.device;
        let prepared = self.prepared.get(model, || Prepared::new(model, device))?;
        let mut logits = Vec::with_capacity(images.len());
        for batch in images.chunks(prepared.batch) {
            logits.extend(prepared.run(model, batch, device)?);
        }
        Ok(logits)
    }
}

/// A model's tensors on a device.
#[derive(Debug)]
struct Prepared {
    steps: Vec<Step>,
    /// For every activation, the last layer that reads it.
    last_reads: Vec<usize>,
    /// Images that run at once.
    batch: usize,
}

/// One layer, ready to run.
#[derive(Debug)]
enum Step {
    Sum {
        sum: Sum,
        patches: Option<Patches>,
        finish: Option<Rounding>,
    },
    MaxPool(Patches),
    Concat,
    /// A byte of one byte, or of two: a table of 256 or 65,536 as f32.
    Table(Tensor),
}

impl Prepared {
    /// The second value is an estimate of the bytes that it takes.
    fn new(model: &Model, device: &Device) -> Result<(Self, u64)> {
        let graph = model.graph();
        let batch = (BATCH_BYTES / image_bytes(graph)).clamp(1, MAX_BATCH);
        let steps = (0..graph.layers().len())
            .map(|layer| Step::new(model, layer, batch, device))
            .collect::<Result<Vec<_>>>()?;
        let bytes = steps.iter().map(Step::bytes).sum::<usize>() as u64;
        Ok((Self { steps, last_reads: graph.last_reads(), batch }, bytes))
    }

    /// The logits of a batch.
    fn run(&self, model: &Model, images: &[&[u8]], device: &Device) -> Result<Vec<Vec<i32>>> {
        let (graph, n) = (model.graph(), images.len());
        let shape = graph.input().shape;
        let pixels = Tensor::from_vec(images.concat(), (n, shape.channels, shape.plane()), device)?;
        let pixels = pixels.transpose(0, 1)?.contiguous()?.reshape((shape.channels, n * shape.plane()))?;
        let mut activations = vec![Some(pixels.to_dtype(DType::F32)?)];
        for (layer, step) in self.steps.iter().enumerate() {
            let read = |n: usize| {
                activations[graph.sources(layer)[n]].as_ref().expect("an activation lives till it is last read")
            };
            let (from, to) = (graph.source_shape(layer), graph.output_shape(layer));
            let output = match step {
                Step::Sum { sum, patches, finish } => {
                    let sums = match graph.layers()[layer].operation {
                        Operation::Linear { .. } => sum.linear(read(0), from, n)?,
                        _ => sum.convolve(read(0), from, patches.as_ref(), n)?,
                    };
                    match finish {
                        Some(finish) => finish.run(&sums)?,
                        None => return logits(&sums, &model.parameters(layer).scale),
                    }
                }
                Step::MaxPool(patches) => patches.maximum(read(0), from, n)?,
                Step::Concat => {
                    let count = graph.sources(layer).len();
                    Tensor::cat(&(0..count).map(read).collect::<Vec<_>>(), 0)?
                }
                Step::Table(table) => match graph.sources(layer).len() {
                    1 => look_up(table, read(0), None)?,
                    _ => look_up(table, read(0), Some(&spread(read(1), to, n)?))?,
                },
            };
            // What no later layer reads is freed at once.
            for (activation, last) in activations.iter_mut().zip(&self.last_reads) {
                if *last == layer {
                    *activation = None;
                }
            }
            activations.push(Some(output));
        }
        unreachable!("the last layer has returned the logits")
    }
}

impl Step {
    fn new(model: &Model, layer: usize, batch: usize, device: &Device) -> Result<Self> {
        let (graph, parameters) = (model.graph(), model.parameters(layer));
        let (from, to) = (graph.source_shape(layer), graph.output_shape(layer));
        let reads: Vec<&Activation> = graph.sources(layer).iter().map(|source| &graph.activations()[*source]).collect();
        let rounding = |finish| Rounding::new(&parameters.scale, finish, device);
        // Of every two bytes.
        let pairs = |byte: &dyn Fn(i32, i32) -> u8| {
            let [first, second] = [0, 1].map(|n| i32::from(reads[n].zero_point(0)));
            let table = (0..256 * 256).map(|i| f32::from(byte(i / 256 - first, i % 256 - second))).collect();
            Ok::<_, candle_core::Error>(Self::Table(Tensor::from_vec(table, 256 * 256, device)?))
        };
        Ok(match graph.layers()[layer].operation {
            Operation::Conv { groups, window, finish, .. } => {
                let patches = Patches::of(window, from, to, batch, device)?;
                let sum = Sum::new(model, layer, groups, window.taps(), patches.as_ref(), device)?;
                Self::Sum { sum, patches, finish: Some(rounding(finish)?) }
            }
            Operation::Linear { finish, .. } => Self::Sum {
                sum: Sum::new(model, layer, 1, 1, None, device)?,
                patches: None,
                finish: finish.map(rounding).transpose()?,
            },
            Operation::AveragePool { window, finish } => {
                let patches = Patches::of(window, from, to, batch, device)?;
                let sum = Sum::new(model, layer, from.channels, window.taps(), patches.as_ref(), device)?;
                Self::Sum { sum, patches, finish: Some(rounding(finish)?) }
            }
            Operation::MaxPool { window } => Self::MaxPool(Patches::new(window, from, to, batch, device)?),
            Operation::Concat => Self::Concat,
            Operation::Lookup { .. } => {
                let table = parameters.table.iter().map(|entry| f32::from(*entry)).collect();
                Self::Table(Tensor::from_vec(table, 256, device)?)
            }
            Operation::Add { multipliers, shift, finish } => {
                pairs(&|a, b| reference::add(multipliers, shift, finish, a, b))?
            }
            Operation::Multiply { finish } => pairs(&|a, b| reference::activation(a * b, parameters.scale[0], finish))?,
        })
    }

    fn bytes(&self) -> usize {
        let patches = |patches: &Patches| 4 * (patches.places.elem_count() + patches.offsets.elem_count());
        match self {
            Self::Sum { sum, patches: gathered, .. } => {
                let weights = sum.chunks.iter().flat_map(|chunk| &chunk.pieces).map(|(_, weight)| weight.elem_count());
                4 * weights.sum::<usize>() + gathered.as_ref().map_or(0, patches)
            }
            Self::MaxPool(gathered) => patches(gathered),
            Self::Concat => 0,
            Self::Table(table) => 4 * table.elem_count(),
        }
    }
}

/// The sums of a layer with weights (or of an average pool, whose weights are ones).
#[derive(Debug)]
struct Sum {
    /// What is taken off each input channel, (C, 1); none if all of it is 0.
    zero_points: Option<Tensor>,
    groups: usize,
    chunks: Vec<Chunk>,
    /// (O, 1), as f32 or i64.
    bias: Option<Tensor>,
    /// What partial sums are kept in: f32 where none can reach 2^24.
    dtype: DType,
}

/// Some elements of a kernel, for all channels.
#[derive(Debug)]
struct Chunk {
    elements: Range<usize>,
    /// Some of the terms of a sum, none of whose sums can reach 2^24, and their weights (groups, O / groups, terms).
    pieces: Vec<(Range<usize>, Tensor)>,
}

impl Sum {
    /// `elements` are those of the kernel.
    fn new(
        model: &Model,
        layer: usize,
        groups: usize,
        elements: usize,
        patches: Option<&Patches>,
        device: &Device,
    ) -> Result<Self> {
        let (graph, parameters) = (model.graph(), model.parameters(layer));
        let is_pool = parameters.weight.is_empty();
        let ones = || vec![1f32; groups * elements];
        let weights: Vec<f32> =
            if is_pool { ones() } else { parameters.weight.iter().map(|weight| f32::from(*weight)).collect() };
        let outputs = if is_pool { groups } else { parameters.bias.len() };
        let per_group = weights.len() / outputs / elements;
        let greatest = weights.iter().fold(1f32, |greatest, weight| greatest.max(weight.abs())) as i64;
        // An activation is at most 255 from its zero point.
        let exact_terms = ((EXACT_IN_F32 - 1) / (greatest * 255)) as usize;
        let is_exact = model.proof().sums[layer] < EXACT_IN_F32;
        let weights = Tensor::from_vec(weights, (groups, outputs / groups, per_group, elements), device)?;
        let at_once = patches.map_or(elements, |patches| patches.at_once);
        let mut chunks = Vec::new();
        for first in (0..elements).step_by(at_once) {
            let count = at_once.min(elements - first);
            let terms = per_group * count;
            let weights = weights.narrow(3, first, count)?.contiguous()?.reshape((groups, outputs / groups, terms))?;
            let step = if is_exact { terms } else { exact_terms };
            let mut pieces = Vec::new();
            for term in (0..terms).step_by(step) {
                let range = term..terms.min(term + step);
                pieces.push((range.clone(), weights.narrow(2, term, range.len())?.contiguous()?));
            }
            chunks.push(Chunk { elements: first..first + count, pieces });
        }
        let dtype = if is_exact { DType::F32 } else { DType::I64 };
        let bias = if is_pool {
            None
        } else {
            let bias = parameters.bias.iter().map(|bias| i64::from(*bias)).collect();
            Some(Tensor::from_vec(bias, (outputs, 1), device)?.to_dtype(dtype)?)
        };
        let read = &graph.activations()[graph.sources(layer)[0]];
        let zero_points: Vec<f32> =
            (0..read.shape.channels).map(|channel| f32::from(read.zero_point(channel))).collect();
        let zero_points = match zero_points.iter().all(|zero_point| *zero_point == 0.0) {
            true => None,
            false => Some(Tensor::from_vec(zero_points, (read.shape.channels, 1), device)?),
        };
        Ok(Self { zero_points, groups, chunks, bias, dtype })
    }

    fn convolve(&self, x: &Tensor, from: Shape, patches: Option<&Patches>, n: usize) -> Result<Tensor> {
        let x = self.centre(x)?;
        let x = match patches {
            Some(patches) => patches.pad(&x, from, n)?,
            None => x,
        };
        let mut sums = None;
        for chunk in &self.chunks {
            let gathered = match patches {
                Some(patches) => patches.gather(&x, chunk.elements.clone(), n)?,
                None => x.clone(),
            };
            let (channels, rest) = gathered.dims2()?;
            let columns = rest / chunk.elements.len();
            let terms = channels / self.groups * chunk.elements.len();
            self.add(&mut sums, chunk, &gathered.reshape((self.groups, terms, columns))?)?;
        }
        self.with_bias(sums)
    }

    fn linear(&self, x: &Tensor, from: Shape, n: usize) -> Result<Tensor> {
        let x = self.centre(x)?.reshape((from.channels, n, from.plane()))?;
        let x = x.transpose(1, 2)?.contiguous()?.reshape((1, from.elements(), n))?;
        let mut sums = None;
        for chunk in &self.chunks {
            self.add(&mut sums, chunk, &x)?;
        }
        self.with_bias(sums)
    }

    fn centre(&self, x: &Tensor) -> Result<Tensor> {
        match &self.zero_points {
            Some(zero_points) => x.broadcast_sub(zero_points),
            None => Ok(x.clone()),
        }
    }

    /// Adds the products of a chunk with (groups, terms, columns).
    fn add(&self, sums: &mut Option<Tensor>, chunk: &Chunk, x: &Tensor) -> Result<()> {
        for (terms, weights) in &chunk.pieces {
            let product =
                weights.matmul(&x.narrow(1, terms.start, terms.len())?.contiguous()?)?.to_dtype(self.dtype)?;
            *sums = Some(match sums.take() {
                Some(sums) => (sums + product)?,
                None => product,
            });
        }
        Ok(())
    }

    /// The sums as (O, columns).
    fn with_bias(&self, sums: Option<Tensor>) -> Result<Tensor> {
        let sums = sums.expect("a kernel has an element").flatten(0, 1)?;
        match &self.bias {
            Some(bias) => sums.broadcast_add(bias),
            None => Ok(sums),
        }
    }
}

/// What makes bytes of sums: one multiplication, clamp, rounding to even.
#[derive(Debug)]
struct Rounding {
    /// (O, 1), or (1, 1).
    scale: Tensor,
    finish: Finish,
}

impl Rounding {
    fn new(scale: &[f32], finish: Finish, device: &Device) -> Result<Self> {
        Ok(Self { scale: Tensor::from_vec(scale.to_vec(), (scale.len(), 1), device)?, finish })
    }

    fn run(&self, sums: &Tensor) -> Result<Tensor> {
        let [zero_point, low, high] = [self.finish.zero_point, self.finish.low, self.finish.high].map(f32::from);
        let values = sums.to_dtype(DType::F32)?.broadcast_mul(&self.scale)?;
        let rounded = ((values.clamp(low - zero_point, high - zero_point)? + ROUND)? - ROUND)?;
        if self.finish.zero_point == 0 { Ok(rounded) } else { rounded + f64::from(zero_point) }
    }
}

/// How a kernel's patches are gathered: (C, N * H * W) becomes (C, elements * N * H' * W').
#[derive(Debug)]
struct Patches {
    window: Window,
    /// For each output of a whole batch the place of its patch in the padded input, (N * H' * W').
    places: Tensor,
    /// For each element of the kernel how far it is from that place.
    offsets: Tensor,
    /// Outputs of one image.
    outputs: usize,
    /// How many elements of the kernel are gathered at once.
    at_once: usize,
}

impl Patches {
    /// None if the patches are the input itself.
    fn of(window: Window, from: Shape, to: Shape, batch: usize, device: &Device) -> Result<Option<Self>> {
        if window == Window::square(1, 1, 0) {
            return Ok(None);
        }
        Self::new(window, from, to, batch, device).map(Some)
    }

    fn new(window: Window, from: Shape, to: Shape, batch: usize, device: &Device) -> Result<Self> {
        let [height, width] = window.padded(from);
        // The elements moved are bounded: no padded activation of a batch has 2^32 elements.
        let places: Vec<u32> = (0..batch * to.plane())
            .map(|i| {
                let (image, row, column) = (i / to.plane(), i % to.plane() / to.width, i % to.width);
                ((image * height + row * window.stride[0]) * width + column * window.stride[1]) as u32
            })
            .collect();
        let offsets: Vec<u32> =
            (0..window.taps()).map(|tap| (tap / window.kernel[1] * width + tap % window.kernel[1]) as u32).collect();
        let bytes = 4 * from.channels * places.len();
        Ok(Self {
            window,
            at_once: (PATCH_BYTES / bytes).clamp(1, offsets.len()),
            outputs: to.plane(),
            places: Tensor::new(places, device)?,
            offsets: Tensor::new(offsets, device)?,
        })
    }

    /// Surrounds each channel and image with zeros.
    fn pad(&self, x: &Tensor, from: Shape, n: usize) -> Result<Tensor> {
        let [top, left, bottom, right] = self.window.padding;
        let [height, width] = self.window.padded(from);
        let x = x.reshape((from.channels, n, from.height, from.width))?;
        let x = x.pad_with_zeros(2, top, bottom)?.pad_with_zeros(3, left, right)?;
        x.reshape((from.channels, n * height * width))
    }

    /// Some elements of all patches, of padded channels.
    fn gather(&self, x: &Tensor, elements: Range<usize>, n: usize) -> Result<Tensor> {
        let offsets = self.offsets.narrow(0, elements.start, elements.len())?.unsqueeze(1)?;
        let places = self.places.narrow(0, 0, n * self.outputs)?.unsqueeze(0)?;
        x.index_select(&offsets.broadcast_add(&places)?.flatten_all()?, 1)
    }

    /// The maximum of each window. Bytes are at least 0, so that padding is never greater than what is real.
    fn maximum(&self, x: &Tensor, from: Shape, n: usize) -> Result<Tensor> {
        let x = self.pad(x, from, n)?;
        let elements = self.window.taps();
        let mut greatest: Option<Tensor> = None;
        for first in (0..elements).step_by(self.at_once) {
            let count = self.at_once.min(elements - first);
            let patches = self.gather(&x, first..first + count, n)?;
            let found = patches.reshape((from.channels, count, n * self.outputs))?.max(1)?;
            greatest = Some(match greatest {
                Some(greatest) => greatest.maximum(&found)?,
                None => found,
            });
        }
        Ok(greatest.expect("a kernel has an element"))
    }
}

/// A byte for each byte, or for each pair.
fn look_up(table: &Tensor, a: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    let index = match b {
        Some(b) => ((a * 256.0)? + b)?,
        None => a.clone(),
    };
    table.index_select(&index.to_dtype(DType::U32)?.flatten_all()?, 0)?.reshape(a.shape())
}

/// An activation as large as an output: what has one element a channel is repeated.
fn spread(x: &Tensor, to: Shape, n: usize) -> Result<Tensor> {
    if x.elem_count() == n * to.elements() {
        return Ok(x.clone());
    }
    let x = x.reshape((to.channels, n, 1))?.broadcast_as((to.channels, n, to.plane()))?.contiguous()?;
    x.reshape((to.channels, n * to.plane()))
}

/// The logits of (O, N) sums.
fn logits(sums: &Tensor, scale: &[f32]) -> Result<Vec<Vec<i32>>> {
    let images = sums.to_dtype(DType::I64)?.t()?.to_vec2::<i64>()?;
    let logit = |(o, sum): (usize, i64)| scale.get(o).map_or(sum as i32, |scale| reference::logit(sum as i32, *scale));
    Ok(images.into_iter().map(|sums| sums.into_iter().enumerate().map(logit).collect()).collect())
}

/// An estimate of the memory that one image takes, in bytes: all activations twice (a layer's sums beside its output).
fn image_bytes(graph: &Graph) -> usize {
    8 * graph.activations().iter().map(|activation| activation.shape.elements()).sum::<usize>()
}
