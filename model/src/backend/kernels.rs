//! Models on this crate's own integer kernels (`ocelli-kernels`), for CPUs.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use ocelli_kernels::{Kernel, Layer, Plan, PlanError, Scratch, Shape, Sums};
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::{Backend, BackendError, MAX_PREPARED_MODELS, check_images};
use crate::graph::Operation;
use crate::id::ModelId;
use crate::model::Model;
use crate::reference;

/// Runs models on the CPU with integer kernels, on several threads.
#[derive(Debug)]
pub struct KernelBackend {
    kernel: Kernel,
    threads: usize,
    /// Of one thread fewer: the caller's thread works too. None for a single thread.
    pool: Option<ThreadPool>,
    prepared: Vec<(ModelId, Option<Prepared>)>,
}

/// A model, packed, with memory for every thread.
#[derive(Debug)]
struct Prepared {
    plan: Plan,
    scratch: Vec<Scratch>,
}

impl KernelBackend {
    /// Takes the fastest kernel of this processor, and as many threads as it has cores.
    ///
    /// # Errors
    /// If the system starts no threads.
    pub fn open() -> Result<Self, BackendError> {
        Self::with(Kernel::best(), Self::cores())
    }

    /// The cores that this process may use, as far as the system tells.
    pub(super) fn cores() -> NonZeroUsize {
        std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
    }

    /// Takes a kernel and a number of threads.
    ///
    /// # Errors
    /// If this processor cannot run the kernel, or the system starts no threads.
    pub fn with(kernel: Kernel, threads: NonZeroUsize) -> Result<Self, BackendError> {
        if !kernel.is_available() {
            return Err(BackendError::Kernel { kernel });
        }
        let threads = threads.get();
        let pool = match threads {
            1 => None,
            _ => {
                let builder = ThreadPoolBuilder::new().num_threads(threads - 1);
                Some(builder.thread_name(|index| format!("inference-{index}")).build().map_err(BackendError::Threads)?)
            }
        };
        Ok(Self { kernel, threads, pool, prepared: Vec::new() })
    }

    /// The kernel.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// The number of threads.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The place of a model among the prepared ones, preparing it if needed.
    fn prepare(&mut self, model: &Model) -> usize {
        if let Some(place) = self.prepared.iter().position(|(id, _)| *id == model.id()) {
            return place;
        }
        let prepared = Prepared::new(model, self.kernel, self.threads);
        if self.prepared.len() == MAX_PREPARED_MODELS {
            self.prepared.remove(0);
        }
        self.prepared.push((model.id(), prepared));
        self.prepared.len() - 1
    }
}

impl Backend for KernelBackend {
    fn name(&self) -> String {
        let Self { kernel, threads, .. } = self;
        format!("CPU (kernel {kernel}, {threads} thread{})", if *threads == 1 { "" } else { "s" })
    }

    fn logits(&mut self, model: &Model, images: &[&[u8]]) -> Result<Vec<Vec<i32>>, BackendError> {
        check_images(model, images)?;
        let place = self.prepare(model);
        let (threads, pool) = (self.threads, self.pool.as_ref());
        let Some(Prepared { plan, scratch }) = &mut self.prepared[place].1 else {
            // A shape that no picture has: slow, and right by definition.
            return Ok(images.iter().map(|pixels| reference::logits(model, pixels)).collect());
        };
        let mut logits = vec![0; images.len() * model.logits()];
        let group = images.len().div_ceil(threads).clamp(1, plan.group());
        let groups = Mutex::new(images.chunks(group).zip(logits.chunks_mut(group * model.logits())));
        let workers = images.len().div_ceil(group).min(threads);
        let work = |scratch: &mut Scratch| {
            // Threads take groups as they get to them, so that one that is held up does not hold up the others.
            while let Some((images, logits)) = {
                let mut groups = groups.lock().unwrap_or_else(PoisonError::into_inner);
                groups.next()
            } {
                plan.run(scratch, images, logits);
            }
        };
        match (pool, scratch.split_first_mut()) {
            (Some(pool), Some((own, others))) if workers > 1 => pool.in_place_scope(|scope| {
                for scratch in others.iter_mut().take(workers - 1) {
                    scope.spawn(|_| work(scratch));
                }
                work(own);
            }),
            (_, Some((own, _))) => work(own),
            (_, None) => unreachable!("there is memory for every thread"),
        }
        drop(groups);
        Ok(logits.chunks_exact(model.logits()).map(<[i32]>::to_vec).collect())
    }
}

impl Prepared {
    /// None if the model's shapes are such that the kernels' form of it would take too much memory.
    fn new(model: &Model, kernel: Kernel, threads: usize) -> Option<Self> {
        let layers: Vec<Layer<'_>> = (0..model.graph().layers().len()).map(|index| layer(model, index)).collect();
        let input = model.input();
        let input = Shape { channels: input.channels, height: input.height, width: input.width };
        match Plan::new(input, &layers, kernel) {
            Ok(plan) => Some(Self { scratch: (0..threads).map(|_| plan.scratch()).collect(), plan }),
            Err(PlanError::Memory) => None,
            Err(error) => unreachable!("a loaded model fits together, and the kernel was found available: {error}"),
        }
    }
}

fn layer(model: &Model, index: usize) -> Layer<'_> {
    let (graph, parameters) = (model.graph(), model.parameters(index));
    let sums = Sums {
        weight: &parameters.weight,
        bias: &parameters.bias,
        shift: &parameters.shift,
        skip: graph.skip(index),
        multiplier: &parameters.multiplier,
    };
    match graph.layers()[index].operation {
        Operation::Conv { kernel, stride, padding, .. } => Layer::Conv { kernel, stride, padding, sums },
        Operation::Linear { .. } => Layer::Linear { sums },
        Operation::MaxPool { kernel, stride } => Layer::MaxPool { kernel, stride },
        Operation::SumPool { kernel, stride, shift } => Layer::SumPool { kernel, stride, shift },
    }
}
