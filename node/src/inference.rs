//! The inference service: one thread that owns the device and the models.
//!
//! It gathers requests into batches, decodes the pictures of tasks, remembers results by model and attachment, lets block validation
//! go before work for the mempool and that before free answers, and tells a wrong block from a faulty device: whenever a claim differs from the device's
//! answer, the scalar reference decides, and a device that it contradicts is replaced and none of its results used again.
//!
//! Published models are data from strangers. They are loaded from their files when a task names them, few stay loaded, and how
//! many pictures are run together follows from what one costs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ocelli_consensus::block::Classes;
use ocelli_consensus::transaction::{Form, Task as Key};
use ocelli_consensus::{AttachmentHash, ModelId};
use ocelli_model::{Attachment, Backend, Model};
use prometheus_client::registry::Registry;

use crate::rate::Rate;
use crate::store::ModelFiles;
use crate::task;
pub use device::DeviceFault;
use device::{Device, FALLBACKS};
use metrics::Metrics;
pub use models::{ModelFault, Models, built_in, describe_file, facts_of, is_id, is_meant, model_id};
pub use picture::{PictureFault, check_picture};
use queue::Priority;
use service::Service;

mod device;
mod metrics;
mod models;
mod picture;
mod queue;
mod service;
#[cfg(test)]
mod tests;

/// Most pictures that the device runs together.
pub const BATCH_PICTURES: usize = 256;
/// The most that a batch costs unless one picture costs more: a third of a second on two cores with AVX2, for which a block may
/// have to wait.
const BATCH_COST: u64 = 1 << 34;
/// The most bytes that the pictures of a batch have when they are decoded.
const BATCH_BYTES: usize = 64 << 20;
/// How long a batch that is not full waits for more at most, if its pictures came while the device was busy. A guess for
/// devices whose batches take milliseconds; where one takes less, no batch waits longer than the latest one took.
pub const GATHER: Duration = Duration::from_millis(2);
/// Most bytes of attachments that wait, of checks and of paid runs each, so that the mempool cannot crowd out blocks.
pub const QUEUE_BYTES: usize = 64 << 20;
/// The same of what nobody pays for, which waits as pixels: some seconds of work for one processor.
pub const FREE_BYTES: usize = 64 << 20;
/// What a picture that waits counts at least.
const PICTURE_BYTES: usize = 4 << 10;
/// Results remembered.
pub const CACHE_RESULTS: usize = 65_536;

/// One picture for one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Names the result: all that turns an attachment into the model's input. A JPEG may have as many bytes as pixels would.
    key: Key,
    content: Content,
}

/// What there is of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    /// What a transaction carries. Whoever has sent it may have sent anything: it is hashed when it is asked about, and decoded
    /// when it is run.
    Attached(Arc<[u8]>),
    /// What the model sees, of an attachment that was made, hashed and decoded here.
    Seen(Bytes),
}

impl Task {
    /// What a transaction asks for, with its attachment.
    pub fn of(key: Key, bytes: Arc<[u8]>) -> Self {
        Self { key, content: Content::Attached(bytes) }
    }

    /// What a transaction would ask for that carries pixels in the model's own shape.
    pub fn of_pixels(model: &Model, pixels: Bytes) -> Self {
        let key = Key { model: model_id(model), attachment: AttachmentHash::of(&pixels), form: Form::Pixels };
        Self { key, content: Content::Seen(pixels) }
    }

    /// What a transaction would ask for that carries what was made of a file for the model; takes its pixels.
    pub fn of_attachment(model: &Model, made: &mut Attachment) -> Self {
        let (model, attachment) = (model_id(model), AttachmentHash::of(&made.bytes));
        let key = Key { model, attachment, form: task::form(made.form) };
        Self { key, content: Content::Seen(std::mem::take(&mut made.pixels).into()) }
    }

    /// The model to run.
    pub fn model(&self) -> ModelId {
        self.key.model
    }

    /// Bytes that it takes while it waits.
    fn bytes(&self) -> usize {
        match &self.content {
            Content::Attached(bytes) => bytes.len(),
            Content::Seen(pixels) => pixels.len(),
        }
    }
}

/// What a task comes to: the model's answer, or why there is no picture.
pub type TaskOutcome = Result<Classes, PictureFault>;

/// All that a model says of a picture, or why there is none.
pub type Logits = Result<Arc<[i32]>, PictureFault>;

/// Whether a block's answers are what its models say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnswerCheck {
    /// All are.
    Right,
    /// One is not, and the scalar reference says so too.
    Wrong {
        /// The first task with a wrong claim.
        index: usize,
        /// What was claimed.
        claimed: Classes,
        /// The scalar reference's.
        expected: Classes,
    },
    /// An attachment is no picture.
    Picture {
        /// The first task whose attachment is none.
        index: usize,
        fault: PictureFault,
    },
}

/// Why there is no answer. None of these says anything about a block.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InferenceError {
    /// This node does not have the model's file.
    #[error("task {index}: this node has no model {model}")]
    UnknownModel {
        /// The task, from 0.
        index: usize,
        /// The model asked for.
        model: ModelId,
    },
    /// The model cannot be loaded.
    #[error("model {model} cannot be run")]
    Model {
        /// The model asked for.
        model: ModelId,
        source: Arc<ModelFault>,
    },
    /// A task names another attachment than it carries; its result would be remembered for the wrong one.
    #[error("task {index}: the bytes are those of attachment {found}, not of {expected}")]
    Attachment {
        /// The task, from 0.
        index: usize,
        /// The attachment that the task names.
        expected: AttachmentHash,
        /// The hash of the task's bytes.
        found: AttachmentHash,
    },
    /// Too much waits already: try again later.
    #[error("inference is busy: {waiting} bytes of pictures wait, {asked} more would exceed {limit}")]
    Busy {
        /// Bytes that wait.
        waiting: usize,
        /// Bytes of this request.
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
pub struct InferenceLimits {
    /// Most pictures that the device runs together.
    pub batch: usize,
    /// How long a batch that is not full waits for more at most, if its pictures came while the device was busy.
    pub gather: Duration,
    /// Most bytes of attachments that wait, of checks and of paid runs each. A larger request is taken when nothing else of its
    /// kind waits, for a block may be as large as the network's parameters let it be.
    pub queue: usize,
    /// The same of what nobody pays for.
    pub free: usize,
    /// Results remembered.
    pub cache: usize,
}

impl Default for InferenceLimits {
    fn default() -> Self {
        Self { batch: BATCH_PICTURES, gather: GATHER, queue: QUEUE_BYTES, free: FREE_BYTES, cache: CACHE_RESULTS }
    }
}

/// What the service has done and is doing. Sums run from the start.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InferenceFigures {
    /// The device in use.
    pub device: String,
    /// Whether the device has been checked, so that what is asked is answered.
    pub is_checked: bool,
    /// Why the device that the node started with is no longer used.
    pub disabled: Option<String>,
    /// Pictures of requests not answered yet.
    pub queued: usize,
    /// Pictures that the device has run.
    pub computed: u64,
    /// Tasks answered from earlier results.
    pub cached: u64,
    /// Tasks that joined one that waited already.
    pub joined: u64,
    /// Batches run; `computed / batches` is their mean size.
    pub batches: u64,
    /// What the pictures waited before their batch began, added up.
    pub queue_time: Duration,
    /// What the device took, added up.
    pub device_time: Duration,
    /// Pictures that the device ran per second, over the last seconds.
    pub tasks_per_second: f64,
}

/// Starts the service.
pub struct InferenceService;

impl InferenceService {
    /// Runs the golden inputs of each of `models` on the device, falls back with a warning if they differ from the scalar
    /// reference, and returns when the service is ready. Other models come from `files`. `on_fault` is called, on the service's thread, when a device is
    /// found faulty later: results given before then may be wrong.
    ///
    /// # Panics
    /// If the system gives no more threads.
    pub fn start(
        backend: Box<dyn Backend>,
        models: Vec<Model>,
        files: Arc<dyn ModelFiles>,
        limits: InferenceLimits,
        on_fault: impl Fn() + Send + 'static,
    ) -> InferenceHandle {
        let (handle, is_ready) =
            Self::begin_with(Device::new(backend, FALLBACKS), Models::new(models, files), limits, on_fault);
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
        files: Arc<dyn ModelFiles>,
        limits: InferenceLimits,
        on_fault: impl Fn() + Send + 'static,
    ) -> InferenceHandle {
        Self::begin_with(Device::new(backend, FALLBACKS), Models::new(models, files), limits, on_fault).0
    }

    /// Also what is sent when the device has been checked.
    fn begin_with(
        device: Device,
        models: Models,
        limits: InferenceLimits,
        on_fault: impl Fn() + Send + 'static,
    ) -> (InferenceHandle, mpsc::Receiver<()>) {
        let shared = Arc::new(Shared {
            limits,
            waiting: Mutex::default(),
            metrics: Metrics::default(),
            rate: Rate::new(Instant::now()),
            status: Mutex::new(InferenceFigures {
                device: format!("{}, being checked", device.name()),
                ..InferenceFigures::default()
            }),
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
        (InferenceHandle { jobs, shared }, is_ready)
    }
}

/// Asks the service. The service ends when the last handle is dropped; what waits then gets [`InferenceError::Stopped`].
///
/// Replies are called exactly once, on the service's thread, and must be quick. A request that is refused outright is
/// replied to on the caller's thread before the call returns.
#[derive(Clone)]
pub struct InferenceHandle {
    jobs: mpsc::Sender<Job>,
    shared: Arc<Shared>,
}

impl InferenceHandle {
    /// Gives the answer to each task, in order.
    pub fn run(&self, tasks: Vec<Task>, reply: impl FnOnce(Result<Vec<TaskOutcome>, InferenceError>) + Send + 'static) {
        self.send(tasks, InferenceRequest::Run { priority: Priority::Run, reply: Box::new(reply) });
    }

    /// As [`InferenceHandle::run`], before all runs: a block on its way is made whole with the answers.
    pub fn answer(
        &self,
        tasks: Vec<Task>,
        reply: impl FnOnce(Result<Vec<TaskOutcome>, InferenceError>) + Send + 'static,
    ) {
        self.send(tasks, InferenceRequest::Run { priority: Priority::Check, reply: Box::new(reply) });
    }

    /// Gives all logits of each task of a model, in order, after everything else is done: for what nobody pays for. The model is
    /// not loaded anew.
    pub fn run_free(
        &self,
        model: &Model,
        tasks: Vec<Task>,
        reply: impl FnOnce(Result<Vec<Logits>, InferenceError>) + Send + 'static,
    ) {
        self.send(tasks, InferenceRequest::RunFree { model: model.clone(), reply: Box::new(reply) });
    }

    /// Compares the answers to tasks with claims. Goes before all runs, and condemns a claim only with the scalar
    /// reference's agreement.
    pub fn check(
        &self,
        tasks: Vec<(Task, Classes)>,
        reply: impl FnOnce(Result<AnswerCheck, InferenceError>) + Send + 'static,
    ) {
        let (tasks, claimed) = tasks.into_iter().unzip();
        self.send(tasks, InferenceRequest::Check { claimed, reply: Box::new(reply) });
    }

    /// What the service has done and is doing.
    pub fn status(&self) -> InferenceFigures {
        let queued = self.shared.waiting().iter().map(|waiting| waiting.tasks).sum();
        let Metrics { computed, cached, joined, batches, .. } = &self.shared.metrics;
        let [computed, cached, joined, batches] = [computed, cached, joined, batches].map(|count| count.get());
        let tasks_per_second = self.shared.rate.look(Instant::now(), computed);
        let status = self.shared.status().clone();
        InferenceFigures { queued, computed, cached, joined, batches, tasks_per_second, ..status }
    }

    /// Has what the service counts be told.
    pub fn register(&self, registry: &mut Registry) {
        self.shared.metrics.register(registry);
    }

    fn send(&self, tasks: Vec<Task>, request: InferenceRequest) {
        let admitted = validate(&tasks).and_then(|()| self.shared.admit(request.priority(), &tasks));
        if let Err(error) = admitted {
            return request.refuse(error);
        }
        let job = Job { tasks, request, arrived: Instant::now() };
        if let Err(mpsc::SendError(job)) = self.jobs.send(job) {
            self.shared.release(job.request.priority(), &job.tasks);
            job.request.refuse(InferenceError::Stopped);
        }
    }
}

type Reply<T> = Box<dyn FnOnce(Result<T, InferenceError>) + Send>;

/// A request on its way to the service, valid and counted as waiting.
struct Job {
    tasks: Vec<Task>,
    request: InferenceRequest,
    arrived: Instant,
}

enum InferenceRequest {
    Run {
        priority: Priority,
        reply: Reply<Vec<TaskOutcome>>,
    },
    RunFree {
        model: Model,
        reply: Reply<Vec<Logits>>,
    },
    Check {
        /// As many as there are tasks.
        claimed: Vec<Classes>,
        reply: Reply<AnswerCheck>,
    },
}

impl InferenceRequest {
    fn priority(&self) -> Priority {
        match self {
            Self::Run { priority, .. } => *priority,
            Self::RunFree { .. } => Priority::Free,
            Self::Check { .. } => Priority::Check,
        }
    }

    fn refuse(self, error: InferenceError) {
        match self {
            Self::Run { reply, .. } => reply(Err(error)),
            Self::RunFree { reply, .. } => reply(Err(error)),
            Self::Check { reply, .. } => reply(Err(error)),
        }
    }
}

/// What handles and the service both look at.
struct Shared {
    limits: InferenceLimits,
    /// By priority.
    waiting: Mutex<[Waiting; 3]>,
    metrics: Metrics,
    rate: Rate,
    /// All but what is counted.
    status: Mutex<InferenceFigures>,
}

/// What waits of one kind.
#[derive(Debug, Default, Clone, Copy)]
struct Waiting {
    tasks: usize,
    bytes: usize,
}

impl Waiting {
    fn of(tasks: &[Task]) -> Self {
        Self { tasks: tasks.len(), bytes: tasks.iter().map(|task| task.bytes().max(PICTURE_BYTES)).sum() }
    }
}

/// Looks at what others have sent: the service remembers results by the hashes of attachments.
fn validate(tasks: &[Task]) -> Result<(), InferenceError> {
    for (index, Task { key, content }) in tasks.iter().enumerate() {
        let Content::Attached(bytes) = content else { continue };
        let (expected, found) = (key.attachment, AttachmentHash::of(bytes));
        if found != expected {
            return Err(InferenceError::Attachment { index, expected, found });
        }
    }
    Ok(())
}

impl Shared {
    /// Counts pictures as waiting, if there is room for them.
    fn admit(&self, priority: Priority, tasks: &[Task]) -> Result<(), InferenceError> {
        let more = Waiting::of(tasks);
        let limit = if priority == Priority::Free { self.limits.free } else { self.limits.queue };
        let mut kinds = self.waiting();
        let waiting = &mut kinds[priority as usize];
        let sum = waiting.bytes.saturating_add(more.bytes);
        if waiting.bytes > 0 && sum > limit {
            return Err(InferenceError::Busy { waiting: waiting.bytes, asked: more.bytes, limit });
        }
        *waiting = Waiting { tasks: waiting.tasks + more.tasks, bytes: sum };
        Ok(())
    }

    fn release(&self, priority: Priority, tasks: &[Task]) {
        let less = Waiting::of(tasks);
        let mut kinds = self.waiting();
        let waiting = &mut kinds[priority as usize];
        waiting.tasks -= less.tasks;
        waiting.bytes -= less.bytes;
    }

    /// Locked for a few assignments only, each whole in itself; so is the next.
    fn waiting(&self) -> MutexGuard<'_, [Waiting; 3]> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Shared::waiting`].
    fn status(&self) -> MutexGuard<'_, InferenceFigures> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
