//! The service's thread: takes requests in, runs batches, answers, and replaces a faulty device.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use lru::LruCache;
use ocelli_consensus::ModelId;
use ocelli_model::{Model, golden, reference};

use super::device::{Device, DeviceFault};
use super::queue::{Batch, Key, Next, Priority, Queue};
use super::{InferenceError, Job, Limits, Request, Shared, Task, Verdict};
use crate::chain::full_message;

/// All that the thread owns.
pub struct Service {
    receiver: mpsc::Receiver<Job>,
    shared: Arc<Shared>,
    models: BTreeMap<ModelId, Model>,
    device: Device,
    /// Results of the present device only.
    cache: LruCache<Key, Arc<[i32]>>,
    queue: Queue,
    /// By number, which counts arrivals.
    active: BTreeMap<u64, Active>,
    next_job: u64,
    on_fault: Box<dyn Fn() + Send>,
}

/// A job of which results are missing.
struct Active {
    job: Job,
    results: Vec<Option<Arc<[i32]>>>,
    missing: usize,
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
    Decided(Verdict),
    /// A claim is wrong, and the device is as well.
    WrongAndFaulty(Verdict, DeviceFault),
    /// The device is wrong where the claim is right, so the rest of its answers shows nothing.
    Faulty(DeviceFault),
}

impl Service {
    /// A service with nothing to do.
    pub fn new(
        receiver: Receiver<Job>,
        shared: Arc<Shared>,
        models: BTreeMap<ModelId, Model>,
        device: Device,
        limits: Limits,
        on_fault: Box<dyn Fn() + Send>,
    ) -> Self {
        Self {
            receiver,
            shared,
            models,
            device,
            cache: LruCache::sparse(NonZeroUsize::new(limits.cache).unwrap_or(NonZeroUsize::MIN)),
            queue: Queue::new(limits.batch, limits.gather),
            active: BTreeMap::new(),
            next_job: 0,
            on_fault,
        }
    }

    /// Tries the device on the golden inputs, before anybody relies on it.
    pub fn check_device(&mut self) {
        let (begun, device) = (Instant::now(), self.device.name());
        let pictures: usize = self.models.values().map(|model| golden::inputs(model.pixels()).len()).sum();
        tracing::info!(
            device,
            "checking the device: running {pictures} pictures on it and on the scalar reference; answers wait for that"
        );
        match self.device.check(&self.models) {
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
            Next::Run(batch) => self.run(batch),
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
            let key = (task.model, task.image);
            if let Some(logits) = self.cache.get(&key) {
                *result = Some(Arc::clone(logits));
                *missing -= 1;
                cached += 1;
            } else if self.queue.push(key, &task.pixels, (id, index), priority, job.arrived) {
                joined += 1;
            }
        }
        (cached, joined)
    }

    fn run(&mut self, batch: Batch) {
        let images: Vec<&[u8]> = batch.images.iter().map(|(_, wanted)| &*wanted.pixels).collect();
        let begun = Instant::now();
        let outcome = self.device.logits(batch.model, &self.models[&batch.model], &images);
        let ended = Instant::now();
        self.queue.ran(batch.model, images.len(), begun, ended);
        match outcome {
            Ok(answers) => {
                self.measure(&batch, begun, ended);
                self.deliver(batch, answers);
            }
            Err(fault) if self.device.is_last() => self.give_up(batch, fault),
            Err(fault) => self.replace_device(&fault),
        }
    }

    fn measure(&self, batch: &Batch, begun: Instant, ended: Instant) {
        let waited = batch.images.iter().map(|(_, wanted)| begun.saturating_duration_since(wanted.arrived));
        let (images, took, longest) = (batch.images.len(), ended - begun, waited.clone().max().unwrap_or_default());
        let mut status = self.shared.status();
        status.last_batch = images;
        status.queue_time += waited.sum::<Duration>();
        status.device_time += took;
        drop(status);
        let metrics = &self.shared.metrics;
        metrics.batches.inc();
        metrics.computed.inc_by(images as u64);
        metrics.batch_images.observe(images as f64);
        metrics.batch_seconds.observe(took.as_secs_f64());
        metrics.wait_seconds.observe(longest.as_secs_f64());
    }

    /// Hands results to those who wait, and answers the jobs that are complete with them.
    fn deliver(&mut self, batch: Batch, answers: Vec<Arc<[i32]>>) {
        // Checks first: they may find the device faulty, and then no run gets its results.
        let mut complete = BTreeSet::new();
        for ((image, wanted), logits) in batch.images.into_iter().zip(answers) {
            for (id, index) in wanted.waiters {
                let Some(active) = self.active.get_mut(&id) else { continue };
                active.results[index] = Some(Arc::clone(&logits));
                active.missing -= 1;
                if active.missing == 0 {
                    complete.insert((active.job.request.priority(), id));
                }
            }
            self.cache.put((batch.model, image), logits);
        }
        for (_, id) in complete {
            self.finish_if_complete(id);
        }
    }

    fn finish_if_complete(&mut self, id: u64) {
        let is_complete = self.active.get(&id).is_some_and(|active| active.missing == 0);
        let Some(Active { job, results, .. }) = is_complete.then(|| self.active.remove(&id)).flatten() else { return };
        let answers: Vec<Arc<[i32]>> = results.into_iter().flatten().collect();
        let Job { tasks, request, arrived } = job;
        match request {
            Request::Run { priority, reply } => {
                self.shared.release(priority, tasks.len());
                reply(Ok(answers.iter().map(|logits| logits.to_vec()).collect()));
            }
            Request::Check { claimed, reply } => {
                let verdict = match self.judge(&tasks, &answers, &claimed) {
                    Judgement::Decided(verdict) => verdict,
                    Judgement::WrongAndFaulty(verdict, fault) => {
                        self.replace_device(&fault);
                        verdict
                    }
                    Judgement::Faulty(fault) => {
                        let job = Job { tasks, request: Request::Check { claimed, reply }, arrived };
                        self.active.insert(id, Active::new(job));
                        return self.replace_device(&fault);
                    }
                };
                self.shared.release(Priority::Check, tasks.len());
                reply(Ok(verdict));
            }
        }
    }

    /// Compares answers with claims, and lets the scalar reference decide where they differ.
    fn judge(&self, tasks: &[Task], answers: &[Arc<[i32]>], claims: &[Vec<i32>]) -> Judgement {
        for (index, ((task, answer), claimed)) in tasks.iter().zip(answers).zip(claims).enumerate() {
            if **answer == **claimed {
                continue;
            }
            let expected = reference::logits(&self.models[&task.model], &task.pixels);
            let fault = (*expected != **answer).then(|| DeviceFault::Wrong {
                model: task.model,
                image: task.image,
                expected: expected.clone(),
                found: answer.to_vec(),
            });
            let verdict = (expected != *claimed).then(|| Verdict::Wrong { index, claimed: claimed.clone(), expected });
            match (verdict, fault) {
                (Some(verdict), Some(fault)) if !self.device.is_last() => {
                    return Judgement::WrongAndFaulty(verdict, fault);
                }
                (Some(verdict), _) => return Judgement::Decided(verdict),
                (None, Some(fault)) if !self.device.is_last() => return Judgement::Faulty(fault),
                // The reference has contradicted itself, so the machine is at fault; the claim has a witness, though.
                (None, fault) => {
                    tracing::error!(fault = fault.map(|fault| full_message(&fault)), "this machine computes wrongly")
                }
            }
        }
        Judgement::Decided(Verdict::Right)
    }

    /// Nothing is left to fall back to: fails all jobs that wait for an image of the batch.
    fn give_up(&mut self, batch: Batch, fault: DeviceFault) {
        tracing::error!(fault = full_message(&fault), "the scalar reference failed");
        let fault = Arc::new(fault);
        let waiters: BTreeSet<u64> =
            batch.images.iter().flat_map(|(_, wanted)| &wanted.waiters).map(|waiter| waiter.0).collect();
        for id in waiters {
            let Some(Active { job, .. }) = self.active.remove(&id) else { continue };
            self.queue.forget(id, job.tasks.iter().map(|task| (task.model, task.image)));
            self.refuse(job, InferenceError::Device(Arc::clone(&fault)));
        }
    }

    fn disable_device(&mut self, fault: &DeviceFault) {
        let (device, fault) = (self.device.name(), full_message(fault));
        tracing::error!(device, fault, "THE DEVICE IS FAULTY and no longer used; its results are dropped");
        self.cache.clear();
        self.device.fall_back(&self.models);
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
        self.shared.release(job.request.priority(), job.tasks.len());
    }
}
