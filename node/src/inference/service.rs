//! The service's thread: takes requests in, runs batches, answers, and replaces a faulty device.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use lru::LruCache;
use ocelli_consensus::block::Classes;
use ocelli_consensus::transaction::{Form, Task as Key};
use ocelli_model::{Model, golden, reference};
use rayon::prelude::*;

use super::device::{Device, DeviceFault};
use super::models::{ModelFault, Models};
use super::queue::{Batch, Lane, Next, Priority, Queue, Wanted};
use super::{
    AnswerCheck, BATCH_BYTES, BATCH_COST, Content, InferenceError, InferenceLimits, InferenceRequest, Job, Logits,
    PictureFault, Shared, Task, TaskOutcome, picture,
};
use crate::full_message::full_message;

/// All that the thread owns.
pub struct Service {
    receiver: mpsc::Receiver<Job>,
    shared: Arc<Shared>,
    models: Models,
    device: Device,
    /// Results of the present device only.
    cache: LruCache<Key, TaskOutcome>,
    queue: Queue,
    /// Most pictures of a batch.
    batch: usize,
    /// By number, which counts arrivals.
    active: BTreeMap<u64, Active>,
    next_job: u64,
    on_fault: Box<dyn Fn() + Send>,
}

/// A job of which results are missing.
struct Active {
    job: Job,
    results: Vec<Option<Result<Computed, PictureFault>>>,
    missing: usize,
}

/// What a model says of a picture.
#[derive(Debug, Clone)]
enum Computed {
    /// As a block holds it; to all but free requests.
    Answer(Classes),
    /// All of it; to free requests.
    Logits(Arc<[i32]>),
}

impl Computed {
    fn into_answer(self) -> Classes {
        match self {
            Self::Answer(answer) => answer,
            Self::Logits(logits) => Classes::of(&logits),
        }
    }

    fn into_logits(self) -> Arc<[i32]> {
        match self {
            Self::Logits(logits) => logits,
            Self::Answer(_) => unreachable!("a free request takes nothing from the cache, and is given all logits"),
        }
    }
}

impl Active {
    fn new(job: Job) -> Self {
        Self { results: vec![None; job.tasks.len()], missing: job.tasks.len(), job }
    }

    fn forget_results(&mut self) {
        self.results.fill(None);
        self.missing = self.results.len();
    }
}

/// What a comparison of answers with claims has shown.
enum Judgement {
    /// The claims are right or wrong.
    Decided(AnswerCheck),
    /// A claim is wrong, and the device is as well.
    WrongAndFaulty(AnswerCheck, DeviceFault),
    /// The device is wrong where the claim is right, so the rest of its answers shows nothing.
    Faulty(DeviceFault),
}

impl Service {
    /// A service with nothing to do.
    pub fn new(
        receiver: Receiver<Job>,
        shared: Arc<Shared>,
        models: Models,
        device: Device,
        limits: InferenceLimits,
        on_fault: Box<dyn Fn() + Send>,
    ) -> Self {
        Self {
            receiver,
            shared,
            models,
            device,
            cache: LruCache::sparse(NonZeroUsize::new(limits.cache).unwrap_or(NonZeroUsize::MIN)),
            queue: Queue::new(limits.batch, limits.gather),
            batch: limits.batch.max(1),
            active: BTreeMap::new(),
            next_job: 0,
            on_fault,
        }
    }

    /// Tries the device on the golden inputs, before anybody relies on it.
    pub fn check_device(&mut self) {
        let (begun, device) = (Instant::now(), self.device.name());
        let pictures: usize = self.models.built_in().values().map(|model| golden::inputs(model.pixels()).len()).sum();
        tracing::info!(
            device,
            "checking the device: running {pictures} pictures on it and on the scalar reference; answers wait for that"
        );
        match self.device.check(self.models.built_in()) {
            Ok(()) => {
                tracing::info!(device, "the device is exact, as {:.1} s have shown", begun.elapsed().as_secs_f32());
                self.shared.status().device = device;
            }
            Err(fault) => self.disable_device(&fault),
        }
        self.shared.status().is_checked = true;
    }

    /// Serves until the last handle is dropped.
    pub fn serve(mut self) {
        while self.step().is_continue() {}
        for (_, Active { job, .. }) in std::mem::take(&mut self.active) {
            self.refuse(job, InferenceError::Stopped);
        }
    }

    /// Takes in everything that has arrived, so that a check overtakes the runs before it, then does one thing.
    fn step(&mut self) -> ControlFlow<()> {
        loop {
            match self.receiver.try_recv() {
                Ok(job) => self.accept(job),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return ControlFlow::Break(()),
            }
        }
        match self.queue.next(Instant::now()) {
            Next::Run(lane) => self.run(lane),
            Next::Wait(until) => match self.receiver.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(job) => self.accept(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return ControlFlow::Break(()),
            },
            Next::Idle => match self.receiver.recv() {
                Ok(job) => self.accept(job),
                Err(mpsc::RecvError) => return ControlFlow::Break(()),
            },
        }
        ControlFlow::Continue(())
    }

    fn accept(&mut self, job: Job) {
        let id = self.next_job;
        self.next_job += 1;
        if let InferenceRequest::RunFree { model, .. } = &job.request {
            self.models.keep(model);
        }
        self.active.insert(id, Active::new(job));
        let (cached, joined) = self.enqueue(id);
        self.shared.metrics.cached.inc_by(cached);
        self.shared.metrics.joined.inc_by(joined);
        self.finish_if_complete(id);
    }

    /// Takes a job's results from the cache and queues what is missing. How many were there, and how many had been
    /// queued already.
    fn enqueue(&mut self, id: u64) -> (u64, u64) {
        let (mut cached, mut joined) = (0, 0);
        let Some(Active { job, results, missing }) = self.active.get_mut(&id) else { return (0, 0) };
        let priority = job.request.priority();
        for (index, (task, result)) in job.tasks.iter().zip(results).enumerate() {
            let key = task.key;
            // Of free answers all logits are told, which are too many to be remembered.
            let remembered = if priority == Priority::Free { None } else { self.cache.get(&key) };
            if let Some(outcome) = remembered {
                *result = Some(outcome.clone().map(Computed::Answer));
                *missing -= 1;
                cached += 1;
            } else if self.queue.push(key, &task.content, (id, index), priority, job.arrived) {
                joined += 1;
            }
        }
        (cached, joined)
    }

    fn run(&mut self, lane: Lane) {
        let model = match self.models.get(lane.1) {
            Ok(model) => model,
            Err(fault) => return self.give_up_model(lane, fault),
        };
        let batch = self.queue.take(lane, room(self.batch, model.cost(), model.pixels()));
        let begun = Instant::now();
        let pictures = decode(&batch, &model);
        let images: Vec<&[u8]> = pictures.iter().flatten().map(|pixels| &**pixels).collect();
        let outcome = match images.as_slice() {
            [] => Ok(Vec::new()),
            images => self.device.logits(lane.1, &model, images),
        };
        let ended = Instant::now();
        self.queue.ran(lane.1, images.len(), begun, ended);
        match outcome {
            Ok(answers) => {
                let mut answers = answers.iter();
                let logits = pictures.iter().map(|picture| match picture {
                    Ok(_) => Ok(answers.next().expect("the device was held to an answer for each").as_slice().into()),
                    Err(fault) => Err(*fault),
                });
                let logits: Vec<Logits> = logits.collect();
                self.measure(lane.0, &batch, begun, ended);
                drop(pictures);
                self.deliver(batch, logits);
            }
            Err(fault) if self.device.is_last() => {
                drop(pictures);
                tracing::error!(fault = full_message(&fault), "the scalar reference failed");
                let fault = Arc::new(fault);
                self.give_up(&batch, |_| InferenceError::Device(Arc::clone(&fault)));
            }
            Err(fault) => self.replace_device(&fault),
        }
    }

    fn measure(&self, priority: Priority, batch: &Batch, begun: Instant, ended: Instant) {
        let waited = batch.iter().map(|(_, wanted)| begun.saturating_duration_since(wanted.arrived));
        let (pictures, took, longest) = (batch.len(), ended - begun, waited.clone().max().unwrap_or_default());
        let mut status = self.shared.status();
        status.queue_time += waited.sum::<Duration>();
        status.device_time += took;
        drop(status);
        self.shared.metrics.batch(priority, pictures, took, longest);
    }

    /// Hands results to those who wait, and answers the jobs that are complete with them.
    fn deliver(&mut self, batch: Batch, logits: Vec<Logits>) {
        // Checks first: they may find the device faulty, and then no run gets its results.
        let mut complete = BTreeSet::new();
        for ((key, wanted), logits) in batch.into_iter().zip(logits) {
            let outcome: TaskOutcome = logits.as_ref().map(|logits| Classes::of(logits)).map_err(|fault| *fault);
            for (id, index) in wanted.waiters {
                let Some(active) = self.active.get_mut(&id) else { continue };
                active.results[index] = Some(match active.job.request {
                    InferenceRequest::RunFree { .. } => logits.clone().map(Computed::Logits),
                    _ => outcome.clone().map(Computed::Answer),
                });
                active.missing -= 1;
                if active.missing == 0 {
                    complete.insert((active.job.request.priority(), id));
                }
            }
            self.cache.put(key, outcome);
        }
        for (_, id) in complete {
            self.finish_if_complete(id);
        }
    }

    fn finish_if_complete(&mut self, id: u64) {
        let is_complete = self.active.get(&id).is_some_and(|active| active.missing == 0);
        let Some(Active { job, results, .. }) = is_complete.then(|| self.active.remove(&id)).flatten() else { return };
        let results = results.into_iter().flatten();
        let Job { tasks, request, arrived } = job;
        match request {
            InferenceRequest::Run { priority, reply } => {
                self.shared.release(priority, &tasks);
                reply(Ok(results.map(|result| result.map(Computed::into_answer)).collect()));
            }
            InferenceRequest::RunFree { reply, .. } => {
                self.shared.release(Priority::Free, &tasks);
                reply(Ok(results.map(|result| result.map(Computed::into_logits)).collect()));
            }
            InferenceRequest::Check { claimed, reply } => {
                let outcomes: Vec<TaskOutcome> = results.map(|result| result.map(Computed::into_answer)).collect();
                let verdict = match self.judge(&tasks, &outcomes, &claimed) {
                    Ok(Judgement::Decided(verdict)) => Ok(verdict),
                    Ok(Judgement::WrongAndFaulty(verdict, fault)) => {
                        self.replace_device(&fault);
                        Ok(verdict)
                    }
                    Err(error) => Err(error),
                    Ok(Judgement::Faulty(fault)) => {
                        let job = Job { tasks, request: InferenceRequest::Check { claimed, reply }, arrived };
                        self.active.insert(id, Active::new(job));
                        return self.replace_device(&fault);
                    }
                };
                self.shared.release(Priority::Check, &tasks);
                reply(verdict);
            }
        }
    }

    /// Compares answers with claims, and lets the scalar reference decide where they differ.
    fn judge(
        &mut self,
        tasks: &[Task],
        outcomes: &[TaskOutcome],
        claims: &[Classes],
    ) -> Result<Judgement, InferenceError> {
        for (index, ((task, outcome), claimed)) in tasks.iter().zip(outcomes).zip(claims).enumerate() {
            let answer = match outcome {
                Ok(answer) if answer == claimed => continue,
                Ok(answer) => answer,
                // The decoder is the reference.
                Err(fault) => return Ok(Judgement::Decided(AnswerCheck::Picture { index, fault: *fault })),
            };
            let model = self.models.get(task.key.model).map_err(|fault| unavailable(index, task, fault))?;
            let Ok(pixels) = picture::pixels(task.key.form, &task.content, model.graph().input().into()) else {
                tracing::error!(picture = %task.key.attachment, "this machine has decoded a picture, and cannot do so again");
                continue;
            };
            let expected = Classes::of(&reference::logits(&model, &pixels));
            let fault = (expected != *answer).then(|| DeviceFault::Wrong {
                model: task.key.model,
                attachment: task.key.attachment,
                expected: Box::new(expected.clone()),
                found: Box::new(answer.clone()),
            });
            let verdict =
                (expected != *claimed).then(|| AnswerCheck::Wrong { index, claimed: claimed.clone(), expected });
            match (verdict, fault) {
                (Some(verdict), Some(fault)) if !self.device.is_last() => {
                    return Ok(Judgement::WrongAndFaulty(verdict, fault));
                }
                (Some(verdict), _) => return Ok(Judgement::Decided(verdict)),
                (None, Some(fault)) if !self.device.is_last() => return Ok(Judgement::Faulty(fault)),
                // The reference has contradicted itself, so the machine is at fault; the claim has a witness, though.
                (None, fault) => {
                    tracing::error!(fault = fault.map(|fault| full_message(&fault)), "this machine computes wrongly")
                }
            }
        }
        Ok(Judgement::Decided(AnswerCheck::Right))
    }

    /// A model cannot be loaded: fails all jobs that wait for it.
    fn give_up_model(&mut self, lane: Lane, fault: ModelFault) {
        let batch = self.queue.take(lane, usize::MAX);
        let fault = match fault {
            ModelFault::Missing => None,
            fault => {
                tracing::error!(model = %lane.1, fault = full_message(&fault), "a model cannot be run");
                Some(Arc::new(fault))
            }
        };
        self.give_up(&batch, |job| match &fault {
            Some(source) => InferenceError::Model { model: lane.1, source: Arc::clone(source) },
            None => {
                let index = job.tasks.iter().position(|task| task.key.model == lane.1).unwrap_or(0);
                InferenceError::UnknownModel { index, model: lane.1 }
            }
        });
    }

    /// Fails all jobs that wait for a picture of the batch.
    fn give_up(&mut self, batch: &Batch, error: impl Fn(&Job) -> InferenceError) {
        let waiters: BTreeSet<u64> =
            batch.iter().flat_map(|(_, wanted)| &wanted.waiters).map(|waiter| waiter.0).collect();
        for id in waiters {
            let Some(Active { job, .. }) = self.active.remove(&id) else { continue };
            self.queue.forget(id, job.tasks.iter().map(|task| task.key));
            let error = error(&job);
            self.refuse(job, error);
        }
    }

    fn disable_device(&mut self, fault: &DeviceFault) {
        let (device, fault) = (self.device.name(), full_message(fault));
        tracing::error!(device, fault, "THE DEVICE IS FAULTY and no longer used; its results are dropped");
        self.cache.clear();
        self.device.fall_back(self.models.built_in());
        let now = self.device.name();
        tracing::warn!(device = now, "inference goes on, slower, on another device");
        let mut status = self.shared.status();
        status.disabled.get_or_insert_with(|| format!("{device}: {fault}"));
        status.device = now;
    }

    /// Disables the device and has everything that waits run again from the start.
    fn replace_device(&mut self, fault: &DeviceFault) {
        self.disable_device(fault);
        (self.on_fault)();
        self.queue.clear();
        let ids: Vec<u64> = self.active.keys().copied().collect();
        for id in ids {
            if let Some(active) = self.active.get_mut(&id) {
                active.forget_results();
            }
            self.enqueue(id);
        }
    }

    fn refuse(&self, job: Job, error: InferenceError) {
        self.release(&job);
        job.request.refuse(error);
    }

    fn release(&self, job: &Job) {
        self.shared.release(job.request.priority(), &job.tasks);
    }
}

/// The most pictures of a model that are run together: what follows is not to wait long, nor to find the memory full.
pub(super) fn room(limit: usize, cost: u64, pixels: usize) -> usize {
    let by_cost = usize::try_from(BATCH_COST / cost.max(1)).unwrap_or(usize::MAX);
    limit.min(by_cost).min(BATCH_BYTES / pixels.max(1)).max(1)
}

fn unavailable(index: usize, task: &Task, fault: ModelFault) -> InferenceError {
    match fault {
        ModelFault::Missing => InferenceError::UnknownModel { index, model: task.key.model },
        fault => InferenceError::Model { model: task.key.model, source: Arc::new(fault) },
    }
}

/// What the model sees of each picture: JPEGs are decoded on all cores.
fn decode<'a>(batch: &'a Batch, model: &Model) -> Vec<Result<Cow<'a, [u8]>, PictureFault>> {
    let input = model.graph().input().into();
    let pixels = |(key, wanted): &'a (Key, Wanted)| picture::pixels(key.form, &wanted.content, input);
    let is_encoded =
        |(key, wanted): &(Key, Wanted)| key.form != Form::Pixels && matches!(wanted.content, Content::Attached(_));
    match batch.iter().any(is_encoded) {
        true => batch.par_iter().map(pixels).collect(),
        false => batch.iter().map(pixels).collect(),
    }
}
