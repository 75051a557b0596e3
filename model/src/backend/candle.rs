//! Models on candle: plain f32 operations, exact because of the proof (see [`crate::proof`]).
//!
//! Products have operands of at most 7 and 15 bits, sums stay below 2^24; multiplying by `2^-s` only changes the exponent,
//! and floor after it is the arithmetic shift, for negative sums too. No operation here may be replaced by one that
//! transforms its operands (Winograd, FFT) or that accumulates in less than f32.

use candle_core::{DType, Device, Result, Tensor};

use super::{Backend, BackendError, DeviceChoice, MAX_PREPARED_MODELS, check_images};
use crate::file::Parameters;
use crate::graph::{Graph, Operation};
use crate::id::ModelId;
use crate::model::Model;
use crate::proof::half;

/// The most images in one batch.
const MAX_BATCH: usize = 256;
/// The memory that the activations of one batch may take, in bytes; an estimate. 256 MiB is a guess that keeps a CPU node
/// small and still fills a GPU with pictures of 32 x 32.
const BATCH_BYTES: u64 = 256 << 20;
/// The memory that one image may take by itself, in bytes.
const IMAGE_BYTES: u64 = 4 << 30;

/// Runs models with candle on the CPU, a CUDA GPU or a Metal GPU.
#[derive(Debug)]
pub struct CandleBackend {
    device: Device,
    prepared: Vec<(ModelId, Prepared)>,
}

impl CandleBackend {
    /// Opens a device. For [`DeviceChoice::Auto`], the second value says why a GPU that the machine has is not used.
    ///
    /// # Errors
    /// If a device was asked for by name and cannot be used.
    pub fn open(choice: DeviceChoice) -> std::result::Result<(Self, Option<String>), BackendError> {
        let (device, reason) = choice.open()?;
        Ok((Self { device, prepared: Vec::new() }, reason))
    }

    /// Whether the device is the CPU.
    pub fn is_cpu(&self) -> bool {
        self.device.is_cpu()
    }

    /// The place of a model among the prepared ones, preparing it if needed.
    fn prepare(&mut self, model: &Model) -> std::result::Result<usize, BackendError> {
        if let Some(place) = self.prepared.iter().position(|(id, _)| *id == model.id()) {
            return Ok(place);
        }
        let prepared = Prepared::new(model, &self.device)?;
        if self.prepared.len() == MAX_PREPARED_MODELS {
            self.prepared.remove(0);
        }
        self.prepared.push((model.id(), prepared));
        Ok(self.prepared.len() - 1)
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
        let place = self.prepare(model)?;
        let prepared = &self.prepared[place].1;
        let mut logits = Vec::with_capacity(images.len());
        for batch in images.chunks(prepared.batch) {
            logits.extend(prepared.run(model.graph(), batch, &self.device)?);
        }
        Ok(logits)
    }
}

/// A model's tensors on a device.
#[derive(Debug)]
struct Prepared {
    layers: Vec<Step>,
    /// For every activation, the last layer that reads it.
    last_use: Vec<usize>,
    /// Images that run at once.
    batch: usize,
}

/// One layer, ready to run. Tensors per channel are `(1, O, 1, 1)`.
#[derive(Debug)]
enum Step {
    /// Weights `(O, I, K, K)`.
    Conv {
        weight: Tensor,
        bias: Tensor,
        finish: Finish,
        stride: usize,
        padding: usize,
    },
    /// Weights `(I, O)`, transposed.
    Linear {
        weight: Tensor,
        bias: Tensor,
        finish: Finish,
    },
    /// Weights `(I, O)`, transposed; bias `(1, O)`.
    Logits {
        weight: Tensor,
        bias: Tensor,
    },
    MaxPool {
        kernel: usize,
        stride: usize,
    },
    /// Ones `(1, 1, K, K)`: a sum over windows is a convolution of each channel with ones.
    SumPool {
        ones: Tensor,
        half: f64,
        scale: f64,
        stride: usize,
    },
}

/// What follows a sum: `clamp(floor((sum + multiplier * skip) * scale), 0, 127)`.
#[derive(Debug)]
struct Finish {
    skip: Option<(usize, Tensor)>,
    scale: Tensor,
}

impl Prepared {
    fn new(model: &Model, device: &Device) -> std::result::Result<Self, BackendError> {
        let graph = model.graph();
        let image_bytes = image_bytes(graph);
        if image_bytes > IMAGE_BYTES {
            return Err(BackendError::Memory { needed: image_bytes, allowed: IMAGE_BYTES });
        }
        let batch = (BATCH_BYTES / image_bytes).clamp(1, MAX_BATCH as u64) as usize;
        let mut last_use: Vec<usize> = (0..graph.layers().len()).collect();
        for layer in 0..graph.layers().len() {
            if let Some(skip) = graph.skip(layer) {
                last_use[skip] = last_use[skip].max(layer);
            }
        }
        let layers =
            (0..graph.layers().len()).map(|layer| Step::new(model, layer, device)).collect::<Result<Vec<_>>>()?;
        Ok(Self { layers, last_use, batch })
    }

    /// The logits of a batch.
    fn run(&self, graph: &Graph, images: &[&[u8]], device: &Device) -> Result<Vec<Vec<i32>>> {
        let n = images.len();
        let input = graph.input();
        let pixels: Vec<u8> = images.iter().flat_map(|image| image.iter().map(|pixel| pixel >> 1)).collect();
        let input = Tensor::from_vec(pixels, (n, input.channels, input.height, input.width), device)?;
        let mut activations = vec![Some(input.to_dtype(DType::F32)?)];
        for (layer, step) in self.layers.iter().enumerate() {
            let output = step.run(&activations, layer)?;
            // What no later layer reads is freed at once.
            for (activation, last) in activations.iter_mut().zip(&self.last_use) {
                if *last == layer {
                    *activation = None;
                }
            }
            activations.push(Some(output));
        }
        let logits = activations.pop().flatten().expect("the last layer has an output that nobody freed");
        let rows = logits.reshape((n, graph.logits()))?.to_vec2::<f32>()?;
        // Every logit is an integer below 2^24 in magnitude.
        Ok(rows.into_iter().map(|row| row.into_iter().map(|logit| logit as i32).collect()).collect())
    }
}

impl Step {
    fn new(model: &Model, layer: usize, device: &Device) -> Result<Self> {
        let graph = model.graph();
        let parameters = model.parameters(layer);
        let channels = parameters.bias.len();
        let per_channel = |values: Vec<f32>| Tensor::from_vec(values, (1, channels, 1, 1), device);
        let bias = || parameters.bias.iter().map(|bias| *bias as f32).collect::<Vec<f32>>();
        let weight = |shape: &[usize]| {
            let values = parameters.weight.iter().map(|weight| f32::from(*weight)).collect::<Vec<f32>>();
            Tensor::from_vec(values, shape, device)
        };
        match graph.layers()[layer].operation {
            Operation::Conv { stride, padding, .. } => Ok(Self::Conv {
                weight: weight(&graph.weight_shape(layer).expect("a convolution has weights"))?,
                bias: per_channel(bias())?,
                finish: Finish::new(graph, layer, parameters, device)?,
                stride,
                padding,
            }),
            Operation::Linear { .. } => {
                let shape = graph.weight_shape(layer).expect("a linear layer has weights");
                let weight = weight(&shape)?.t()?.contiguous()?;
                if graph.is_last(layer) {
                    return Ok(Self::Logits { weight, bias: Tensor::from_vec(bias(), (1, channels), device)? });
                }
                let finish = Finish::new(graph, layer, parameters, device)?;
                Ok(Self::Linear { weight, bias: per_channel(bias())?, finish })
            }
            Operation::MaxPool { kernel, stride } => Ok(Self::MaxPool { kernel, stride }),
            Operation::SumPool { kernel, stride, shift } => Ok(Self::SumPool {
                ones: Tensor::ones((1, 1, kernel, kernel), DType::F32, device)?,
                half: f64::from(half(shift)),
                scale: f64::from(-i32::from(shift)).exp2(),
                stride,
            }),
        }
    }

    /// The output of the layer, `(N, C, H, W)`; it reads the activation of its own number and its skip.
    fn run(&self, activations: &[Option<Tensor>], layer: usize) -> Result<Tensor> {
        let read = |activation: usize| activations[activation].as_ref().expect("an activation lives till its last use");
        let x = read(layer);
        match self {
            Self::Conv { weight, bias, finish, stride, padding } => {
                let sums = x.conv2d(weight, *padding, *stride, 1, 1)?.broadcast_add(bias)?;
                finish.run(sums, read)
            }
            Self::Linear { weight, bias, finish } => {
                let sums = x.flatten_from(1)?.matmul(weight)?.unsqueeze(2)?.unsqueeze(3)?.broadcast_add(bias)?;
                finish.run(sums, read)
            }
            Self::Logits { weight, bias } => x.flatten_from(1)?.matmul(weight)?.broadcast_add(bias),
            Self::MaxPool { kernel, stride } => x.max_pool2d_with_stride(*kernel, *stride),
            Self::SumPool { ones, half, scale, stride } => {
                let (n, c, h, w) = x.dims4()?;
                let sums = x.reshape((n * c, 1, h, w))?.conv2d(ones, 0, *stride, 1, 1)?;
                let (_, _, h, w) = sums.dims4()?;
                (sums + *half)?.affine(*scale, 0.0)?.floor()?.clamp(0f32, 127f32)?.reshape((n, c, h, w))
            }
        }
    }
}

impl Finish {
    fn new(graph: &Graph, layer: usize, parameters: &Parameters, device: &Device) -> Result<Self> {
        let shape = (1, parameters.bias.len(), 1, 1);
        let scale: Vec<f32> = parameters.shift.iter().map(|shift| (-f32::from(*shift)).exp2()).collect();
        let skip = match graph.skip(layer) {
            Some(skip) => {
                let multiplier: Vec<f32> = parameters.multiplier.iter().map(|value| f32::from(*value)).collect();
                Some((skip, Tensor::from_vec(multiplier, shape, device)?))
            }
            None => None,
        };
        Ok(Self { skip, scale: Tensor::from_vec(scale, shape, device)? })
    }

    fn run<'a>(&self, mut sums: Tensor, read: impl Fn(usize) -> &'a Tensor) -> Result<Tensor> {
        if let Some((skip, multiplier)) = &self.skip {
            sums = (sums + read(*skip).broadcast_mul(multiplier)?)?;
        }
        sums.broadcast_mul(&self.scale)?.floor()?.clamp(0f32, 127f32)
    }
}

/// An estimate of the memory that one image takes, in bytes: all activations twice (a layer's sums beside its output),
/// and the largest matrix of patches.
fn image_bytes(graph: &Graph) -> u64 {
    let activations: u64 = graph.activations().iter().map(|shape| shape.elements() as u64).sum();
    let patches = (0..graph.layers().len()).map(|layer| {
        let (from, to) = (graph.activations()[layer], graph.activations()[layer + 1]);
        let plane = (to.height * to.width) as u64;
        match graph.layers()[layer].operation {
            Operation::Conv { kernel, .. } => plane * from.channels as u64 * (kernel * kernel) as u64,
            Operation::SumPool { kernel, .. } => plane * from.channels as u64 * (kernel * kernel) as u64,
            Operation::Linear { .. } | Operation::MaxPool { .. } => 0,
        }
    });
    4 * (2 * activations + patches.max().unwrap_or(0))
}
