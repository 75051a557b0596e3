//! Models on this crate's own integer kernels (`ocelli-kernels`), for CPUs.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, ThreadId};

use ocelli_kernels::{Finish, Join, Kernel, Layer, Operation, Plan, Scratch, Shape, StepProfile, Window};
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::prepared::PreparedModels;
use super::{Backend, BackendError, check_images};
use crate::file::Parameters;
use crate::graph;
use crate::model::Model;

/// Bounds the bytes in which threads run a model, all together but the first: on many cores a large model runs on some of them.
const MAX_SCRATCH_BYTES: usize = 1 << 30;

/// Runs models on the CPU with integer kernels, on several threads. One of them is the thread that calls, which stays one of the
/// backend's for good: what it leaves to rayon later is done by these threads, so it had better do nothing else.
#[derive(Debug)]
pub struct KernelBackend {
    kernel: Kernel,
    threads: usize,
    /// None for a single thread, and until the first call.
    pool: Option<ThreadPool>,
    /// The thread that is one of the pool's.
    owner: Option<ThreadId>,
    prepared: PreparedModels<Prepared>,
}

/// A model, packed, with memory for every thread that runs it.
#[derive(Debug)]
struct Prepared {
    plan: Plan,
    scratch: Vec<Scratch>,
}

impl KernelBackend {
    /// Takes the fastest kernel of this processor, and as many threads as it has cores.
    ///
    /// # Errors
    /// None that is known: the fastest kernel is one that this processor can run.
    pub fn open() -> Result<Self, BackendError> {
        Self::with(Kernel::best(), Self::cores())
    }

    /// The cores that this process may use, as far as the system tells.
    pub fn cores() -> NonZeroUsize {
        std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
    }

    /// Takes a kernel and a number of threads.
    ///
    /// # Errors
    /// If this processor cannot run the kernel.
    pub fn with(kernel: Kernel, threads: NonZeroUsize) -> Result<Self, BackendError> {
        if !kernel.is_available() {
            return Err(BackendError::Kernel { kernel });
        }
        Ok(Self { kernel, threads: threads.get(), pool: None, owner: None, prepared: PreparedModels::default() })
    }

    /// The bytes that the models which stay prepared take, with the memory in which threads run them.
    pub fn prepared_bytes(&self) -> u64 {
        self.prepared.bytes()
    }

    /// What each step of a model took at best, on one thread, for as many images as it is fastest with, and how many these
    /// are.
    ///
    /// # Errors
    /// If an image has another number of bytes than the model takes, or the model takes too much memory.
    pub fn profile(
        &mut self,
        model: &Model,
        images: &[&[u8]],
        rounds: usize,
    ) -> Result<(usize, Vec<StepProfile>), BackendError> {
        check_images(model, images)?;
        let Prepared { plan, scratch } =
            self.prepared.get(model, || Prepared::new(model, self.kernel, self.threads))?;
        let images = &images[..images.len().min(plan.group())];
        Ok((images.len(), plan.profile(&mut scratch[0], images, rounds)))
    }

    /// The memory that a model takes once it is packed, with the buffers of all threads, in bytes.
    ///
    /// # Errors
    /// If that is too much.
    pub fn memory(&mut self, model: &Model) -> Result<usize, BackendError> {
        let threads = self.threads;
        let Prepared { plan, .. } = self.prepared.get(model, || Prepared::new(model, self.kernel, threads))?;
        let memory = plan.bytes();
        Ok(memory.plan + threads * memory.scratch)
    }

    /// Starts the threads, at the first call and not before, and again for another caller: the thread that calls is to be one
    /// of them, since handing an image to another thread and being woken again takes about as long as running it.
    fn start_threads(&mut self) -> Result<(), BackendError> {
        let caller = Some(thread::current().id());
        if self.threads == 1 || (self.pool.is_some() && self.owner == caller) {
            return Ok(());
        }
        let builder = || ThreadPoolBuilder::new().thread_name(|index| format!("inference-{index}"));
        // A thread belongs to one pool for good. One that is another backend's works here too, but as a guest, and does not
        // share single images.
        let pool = builder().num_threads(self.threads).use_current_thread().build();
        let pool = pool.or_else(|_| builder().num_threads(self.threads - 1).build()).map_err(BackendError::Threads)?;
        (self.pool, self.owner) = (Some(pool), caller);
        Ok(())
    }
}

impl Backend for KernelBackend {
    fn name(&self) -> String {
        let Self { kernel, threads, .. } = self;
        format!("CPU (kernel {kernel}, {threads} thread{})", if *threads == 1 { "" } else { "s" })
    }

    fn kernel_name(&self) -> String {
        self.kernel.name().into()
    }

    fn threads(&self) -> usize {
        self.threads
    }

    fn logits(&mut self, model: &Model, images: &[&[u8]]) -> Result<Vec<Vec<i32>>, BackendError> {
        check_images(model, images)?;
        self.start_threads()?;
        let prepared = self.prepared.get(model, || Prepared::new(model, self.kernel, self.threads))?;
        let mut logits = vec![0; images.len() * model.logits()];
        match &self.pool {
            Some(pool) if images.len() == 1 && pool.current_thread_index().is_some() => {
                prepared.run_one(images[0], &mut logits);
            }
            Some(pool) if images.len() > 1 => prepared.run_many(images, &mut logits, model.logits(), pool),
            _ => prepared.run_alone(images, &mut logits, model.logits()),
        }
        Ok(logits.chunks_exact(model.logits()).map(<[i32]>::to_vec).collect())
    }
}

/// Rayon's join, for threads of a pool.
struct PoolJoin;

impl Join for PoolJoin {
    fn join<A: FnOnce() + Send, B: FnOnce() + Send>(&self, a: A, b: B) {
        rayon::join(a, b);
    }
}

impl Prepared {
    /// For so many threads, or for as many as memory allows. The second value is the memory that it takes, in bytes.
    fn new(model: &Model, kernel: Kernel, threads: usize) -> Result<(Self, u64), BackendError> {
        let layers: Vec<Layer<'_>> = (0..model.graph().layers().len()).map(|index| layer(model, index)).collect();
        let graph::Input { shape, zero_points, .. } = model.graph().input();
        let input = Shape { channels: shape.channels, height: shape.height, width: shape.width };
        let plan = Plan::new(input, zero_points, &layers, kernel).map_err(BackendError::Plan)?;
        let memory = plan.bytes();
        let threads = threads.min(MAX_SCRATCH_BYTES / memory.scratch.max(1)).max(1);
        let bytes = memory.plan + threads * memory.scratch;
        Ok((Self { scratch: (0..threads).map(|_| plan.scratch()).collect(), plan }, bytes as u64))
    }

    /// One image, shared by two threads.
    fn run_one(&mut self, image: &[u8], logits: &mut [i32]) {
        match self.scratch.as_mut_slice() {
            [own, other, ..] => self.plan.run_shared(own, other, image, logits, &PoolJoin),
            [own] => self.plan.run(own, &[image], logits),
            [] => unreachable!("there is memory for one thread at least"),
        }
    }

    /// All images on the caller's thread.
    fn run_alone(&mut self, images: &[&[u8]], logits: &mut [i32], classes: usize) {
        let group = self.plan.group();
        for (images, logits) in images.chunks(group).zip(logits.chunks_mut(group * classes)) {
            self.plan.run(&mut self.scratch[0], images, logits);
        }
    }

    /// All images in groups, which threads take as they get to them, so that one that is held up does not hold up the
    /// others. The caller's thread works too.
    fn run_many(&mut self, images: &[&[u8]], logits: &mut [i32], classes: usize, pool: &ThreadPool) {
        let plan = &self.plan;
        let group = images.len().div_ceil(self.scratch.len()).clamp(1, plan.group());
        let workers = images.len().div_ceil(group).min(self.scratch.len());
        let groups = Mutex::new(images.chunks(group).zip(logits.chunks_mut(group * classes)));
        let work = |scratch: &mut Scratch| {
            while let Some((images, logits)) = {
                let mut groups = groups.lock().unwrap_or_else(PoisonError::into_inner);
                groups.next()
            } {
                plan.run(scratch, images, logits);
            }
        };
        let Some((own, others)) = self.scratch.split_first_mut() else { return };
        pool.in_place_scope(|scope| {
            for scratch in others.iter_mut().take(workers - 1) {
                scope.spawn(|_| work(scratch));
            }
            work(own);
        });
    }
}

fn layer(model: &Model, index: usize) -> Layer<'_> {
    let (graph, parameters) = (model.graph(), model.parameters(index));
    let Parameters { weight, bias, scale, table } = parameters;
    let operation = match graph.layers()[index].operation {
        graph::Operation::Conv { groups, window, finish, .. } => {
            Operation::Conv { groups, window: of_window(window), weight, bias, scale, finish: of_finish(finish) }
        }
        graph::Operation::Linear { finish, .. } => {
            Operation::Linear { weight, bias, scale, finish: finish.map(of_finish) }
        }
        graph::Operation::Add { multipliers, shift, finish } => {
            // At most 2^21.
            let multipliers = multipliers.map(|multiplier| multiplier as i32);
            Operation::Add { multipliers, shift, finish: of_finish(finish) }
        }
        graph::Operation::Multiply { finish } => Operation::Multiply { scale: scale[0], finish: of_finish(finish) },
        graph::Operation::AveragePool { window, finish } => {
            Operation::AveragePool { window: of_window(window), scale: scale[0], finish: of_finish(finish) }
        }
        graph::Operation::MaxPool { window } => Operation::MaxPool { window: of_window(window) },
        graph::Operation::Concat => Operation::Concat,
        graph::Operation::Lookup { zero_point } => {
            let table = table.as_slice().try_into().expect("a table has an entry for each byte");
            Operation::Lookup { table, zero_point }
        }
    };
    Layer { from: graph.sources(index), operation }
}

fn of_window(graph::Window { kernel, stride, padding }: graph::Window) -> Window {
    Window { kernel, stride, padding }
}

fn of_finish(graph::Finish { zero_point, low, high }: graph::Finish) -> Finish {
    Finish { zero_point, low, high }
}
