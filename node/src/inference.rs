//! The inference service: one thread that owns the device and the models.
//!
//! It gathers requests into batches, remembers results by model and image, lets block validation go before work for the
//! mempool, and tells a wrong block from a faulty device: whenever a claim differs from the device's answer, the scalar
//! reference decides, and a device that it contradicts is replaced and none of its results used again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use ocelli_consensus::{ImageHash, ModelId};
use ocelli_model::{Backend, Model};
use prometheus_client::registry::Registry;

use crate::rate::Rate;
pub use device::DeviceFault;
use device::{Device, FALLBACKS};
use metrics::Metrics;
use queue::Priority;
use service::Service;

mod device;
mod metrics;
mod queue;
mod service;
#[cfg(test)]
mod tests;

/// Most images that the device runs together.
pub const BATCH_IMAGES: usize = 256;
/// How long a batch that is not full waits for more at most, if its images came while the device was busy. A guess for
/// devices whose batches take milliseconds; where one takes less, no batch waits longer than the latest one took.
pub const GATHER: Duration = Duration::from_millis(2);
/// Most images that wait, of checks and of paid runs each, so that the mempool cannot crowd out blocks.
pub const QUEUE_IMAGES: usize = 16_384;
/// Most images that wait of those that nobody pays for: some seconds of work for one processor and a small model.
pub const FREE_IMAGES: usize = 1_024;
/// Results remembered.
pub const CACHE_RESULTS: usize = 65_536;

/// One image for one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The model to run.
    pub model: ModelId,
    /// The hash of `pixels`.
    pub image: ImageHash,
    /// u8 in C×H×W order, exactly the model's input shape.
    pub pixels: Arc<[u8]>,
}

/// Whether a block's outputs are what its models answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// All are.
    Right,
    /// One is not, and the scalar reference says so too.
    Wrong {
        /// The first task with a wrong claim.
        index: usize,
        /// The logits that were claimed.
        claimed: Vec<i32>,
        /// The logits of the scalar reference.
        expected: Vec<i32>,
    },
}

/// Why there is no answer. None of these says anything about a block.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InferenceError {
    /// This node does not have the model.
    #[error("task {index}: this node has no model {model}")]
    UnknownModel {
        /// The task, from 0.
        index: usize,
        /// The model asked for.
        model: ModelId,
    },
    /// An image has another number of bytes than its model takes.
    #[error("task {index}: the image has {found} bytes, model {model} takes {expected}")]
    Length {
        /// The task, from 0.
        index: usize,
        /// The model asked for.
        model: ModelId,
        /// Bytes the model takes.
        expected: usize,
        /// Bytes the image has.
        found: usize,
    },
    /// A task names other pixels than it carries; its result would be remembered for the wrong image.
    #[error("task {index}: the pixels are those of image {found}, not of {expected}")]
    Image {
        /// The task, from 0.
        index: usize,
        /// The image that the task names.
        expected: ImageHash,
        /// The hash of the task's pixels.
        found: ImageHash,
    },
    /// Too much waits already: try again later.
    #[error("inference is busy: {waiting} images wait, {asked} more would exceed {limit}")]
    Busy {
        /// Images that wait.
        waiting: usize,
        /// Images of this request.
        asked: usize,
        /// Most that may wait.
        limit: usize,
    },
    /// Even the scalar reference failed.
    #[error("no device of this machine can run the model")]
    Device(#[source] Arc<DeviceFault>),
    /// The service has ended.
    #[error("inference has stopped")]
    Stopped,
}

/// The bounds of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most images that the device runs together.
    pub batch: usize,
    /// How long a batch that is not full waits for more at most, if its images came while the device was busy.
    pub gather: Duration,
    /// Most images that wait, of checks and of paid runs each. A larger request is taken when nothing else of its kind waits,
    /// for a block may be as large as the network's parameters let it be.
    pub queue: usize,
    /// The same of what nobody pays for.
    pub free: usize,
    /// Results remembered.
    pub cache: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { batch: BATCH_IMAGES, gather: GATHER, queue: QUEUE_IMAGES, free: FREE_IMAGES, cache: CACHE_RESULTS }
    }
}

/// What the service has done and is doing. Sums run from the start.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Status {
    /// The device in use.
    pub device: String,
    /// Whether the device has been checked, so that what is asked is answered.
    pub is_checked: bool,
    /// Why the device that the node started with is no longer used.
    pub disabled: Option<String>,
    /// Images of requests not answered yet.
    pub queued: usize,
    /// Images that the device has run.
    pub computed: u64,
    /// Tasks answered from earlier results.
    pub cached: u64,
    /// Tasks that joined one that waited already.
    pub joined: u64,
    /// Batches run; `computed / batches` is their mean size.
    pub batches: u64,
    /// Images of the latest batch.
    pub last_batch: usize,
    /// What the images waited before their batch began, added up.
    pub queue_time: Duration,
    /// What the device took, added up.
    pub device_time: Duration,
    /// Images that the device ran per second, over the last seconds.
    pub tasks_per_second: f64,
}

/// Starts the service.
pub struct InferenceService;

impl InferenceService {
    /// Runs the golden inputs of each model on the device, falls back with a warning if they differ from the scalar
    /// reference, and returns when the service is ready. `on_fault` is called, on the service's thread, when a device is
    /// found faulty later: results given before then may be wrong.
    ///
    /// # Panics
    /// If the system gives no more threads.
    pub fn start(
        backend: Box<dyn Backend>,
        models: Vec<Model>,
        limits: Limits,
        on_fault: impl Fn() + Send + 'static,
    ) -> Handle {
        let (handle, is_ready) = Self::begin_with(Device::new(backend, FALLBACKS), models, limits, on_fault);
        // An error means that the thread has panicked; the handle then answers everything with `Stopped`.
        let _ = is_ready.recv();
        handle
    }

    /// As [`InferenceService::start`], but returns at once: what is asked meanwhile waits until the device has been checked.
    ///
    /// # Panics
    /// If the system gives no more threads.
    pub fn begin(
        backend: Box<dyn Backend>,
        models: Vec<Model>,
        limits: Limits,
        on_fault: impl Fn() + Send + 'static,
    ) -> Handle {
        Self::begin_with(Device::new(backend, FALLBACKS), models, limits, on_fault).0
    }

    /// Also what is sent when the device has been checked.
    fn begin_with(
        device: Device,
        models: Vec<Model>,
        limits: Limits,
        on_fault: impl Fn() + Send + 'static,
    ) -> (Handle, mpsc::Receiver<()>) {
        let models: BTreeMap<_, _> = models.into_iter().map(|model| (ModelId(model.id().0), model)).collect();
        let shared = Arc::new(Shared {
            pixels: models.iter().map(|(id, model)| (*id, model.pixels())).collect(),
            limits,
            checks: AtomicUsize::new(0),
            runs: AtomicUsize::new(0),
            free: AtomicUsize::new(0),
            metrics: Metrics::default(),
            rate: Rate::new(Instant::now()),
            status: Mutex::new(Status { device: format!("{}, being checked", device.name()), ..Status::default() }),
        });
        let (jobs, receiver) = mpsc::channel();
        let (ready, is_ready) = mpsc::channel();
        let inside = Arc::clone(&shared);
        let work = move || {
            let mut service = Service::new(receiver, inside, models, device, limits, Box::new(on_fault));
            service.check_device();
            let _ = ready.send(()); // nobody need wait for it
            service.serve();
        };
        thread::Builder::new()
            .name("inference".into())
            .spawn(work)
            .expect("the system has room for the threads that a node starts with");
        (Handle { jobs, shared }, is_ready)
    }
}

/// Asks the service. The service ends when the last handle is dropped; what waits then gets [`InferenceError::Stopped`].
///
/// Replies are called exactly once, on the service's thread, and must be quick. A request that is refused outright is
/// replied to on the caller's thread before the call returns.
#[derive(Clone)]
pub struct Handle {
    jobs: mpsc::Sender<Job>,
    shared: Arc<Shared>,
}

impl Handle {
    /// Gives the logits of each task, in order.
    pub fn run(&self, tasks: Vec<Task>, reply: impl FnOnce(Result<Vec<Vec<i32>>, InferenceError>) + Send + 'static) {
        self.send(tasks, Request::Run { priority: Priority::Run, reply: Box::new(reply) });
    }

    /// As [`Handle::run`], after everything else: for what nobody pays for.
    pub fn run_free(
        &self,
        tasks: Vec<Task>,
        reply: impl FnOnce(Result<Vec<Vec<i32>>, InferenceError>) + Send + 'static,
    ) {
        self.send(tasks, Request::Run { priority: Priority::Free, reply: Box::new(reply) });
    }

    /// Compares the answers to tasks with claims. Goes before all runs, and condemns a claim only with the scalar
    /// reference's agreement.
    pub fn check(
        &self,
        tasks: Vec<(Task, Vec<i32>)>,
        reply: impl FnOnce(Result<Verdict, InferenceError>) + Send + 'static,
    ) {
        let (tasks, claimed) = tasks.into_iter().unzip();
        self.send(tasks, Request::Check { claimed, reply: Box::new(reply) });
    }

    /// What the service has done and is doing.
    pub fn status(&self) -> Status {
        let kinds = [Priority::Check, Priority::Run, Priority::Free];
        let queued = kinds.map(|kind| self.shared.waiting(kind).load(Ordering::Relaxed));
        let Metrics { computed, cached, joined, batches, .. } = &self.shared.metrics;
        let [computed, cached, joined, batches] = [computed, cached, joined, batches].map(|count| count.get());
        let tasks_per_second = self.shared.rate.look(Instant::now(), computed);
        let status = self.shared.status().clone();
        Status { queued: queued.iter().sum(), computed, cached, joined, batches, tasks_per_second, ..status }
    }

    /// Has what the service counts be told.
    pub fn register(&self, registry: &mut Registry) {
        self.shared.metrics.register(registry);
    }

    fn send(&self, tasks: Vec<Task>, request: Request) {
        let admitted = self.shared.validate(&tasks).and_then(|()| self.shared.admit(request.priority(), tasks.len()));
        if let Err(error) = admitted {
            return request.refuse(error);
        }
        let job = Job { tasks, request, arrived: Instant::now() };
        if let Err(mpsc::SendError(job)) = self.jobs.send(job) {
            self.shared.release(job.request.priority(), job.tasks.len());
            job.request.refuse(InferenceError::Stopped);
        }
    }
}

type Reply<T> = Box<dyn FnOnce(Result<T, InferenceError>) + Send>;

/// A request on its way to the service, valid and counted as waiting.
struct Job {
    tasks: Vec<Task>,
    request: Request,
    arrived: Instant,
}

enum Request {
    Run {
        priority: Priority,
        reply: Reply<Vec<Vec<i32>>>,
    },
    Check {
        /// As many as there are tasks.
        claimed: Vec<Vec<i32>>,
        reply: Reply<Verdict>,
    },
}

impl Request {
    fn priority(&self) -> Priority {
        match self {
            Self::Run { priority, .. } => *priority,
            Self::Check { .. } => Priority::Check,
        }
    }

    fn refuse(self, error: InferenceError) {
        match self {
            Self::Run { reply, .. } => reply(Err(error)),
            Self::Check { reply, .. } => reply(Err(error)),
        }
    }
}

/// What handles and the service both look at.
struct Shared {
    /// Bytes that an image of each model has.
    pixels: BTreeMap<ModelId, usize>,
    limits: Limits,
    checks: AtomicUsize,
    runs: AtomicUsize,
    free: AtomicUsize,
    metrics: Metrics,
    rate: Rate,
    /// All but what is counted.
    status: Mutex<Status>,
}

impl Shared {
    fn validate(&self, tasks: &[Task]) -> Result<(), InferenceError> {
        for (index, Task { model, image, pixels }) in tasks.iter().enumerate() {
            let (model, expected) = (*model, *image);
            let &bytes = self.pixels.get(&model).ok_or(InferenceError::UnknownModel { index, model })?;
            if pixels.len() != bytes {
                return Err(InferenceError::Length { index, model, expected: bytes, found: pixels.len() });
            }
            let found = ImageHash::of(pixels);
            if found != expected {
                return Err(InferenceError::Image { index, expected, found });
            }
        }
        Ok(())
    }

    /// Counts images as waiting, if there is room for them.
    fn admit(&self, priority: Priority, asked: usize) -> Result<(), InferenceError> {
        let limit = if priority == Priority::Free { self.limits.free } else { self.limits.queue };
        let more = |waiting: usize| {
            let sum = waiting.saturating_add(asked);
            (waiting == 0 || sum <= limit).then_some(sum)
        };
        match self.waiting(priority).fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(()),
            Err(waiting) => Err(InferenceError::Busy { waiting, asked, limit }),
        }
    }

    fn release(&self, priority: Priority, images: usize) {
        self.waiting(priority).fetch_sub(images, Ordering::Relaxed);
    }

    fn waiting(&self, priority: Priority) -> &AtomicUsize {
        match priority {
            Priority::Check => &self.checks,
            Priority::Run => &self.runs,
            Priority::Free => &self.free,
        }
    }

    /// Locked for a few assignments only, each whole in itself.
    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
