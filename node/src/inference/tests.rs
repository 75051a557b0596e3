//! The service with devices that wait for their orders, so that every test fixes what arrives while they are busy.

use super::device::Opener;
use super::*;
use crate::store::{ModelFiles, NoFiles, StoreError};
use ocelli_model::{BackendError, Display, Graph, Input, Kernel, Layer, ModelFile, Parameters, reference};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

type Logits = Vec<Vec<i32>>;
/// What the device makes of its right answers.
type Act = fn(Logits) -> Result<Logits, BackendError>;

const HONEST: Act = Ok;
const OFF_BY_ONE: Act = |mut answers| {
    answers[0][1] += 1;
    Ok(answers)
};
const FAILING: Act = |_| Err(BackendError::Kernel { kernel: Kernel::Portable });
const PANICKING: Act = |_| panic!("lost the device");
const ONE_SHORT: Act = |mut answers| {
    answers.pop();
    Ok(answers)
};
const ONE_LOGIT: Act = |mut answers| {
    answers[0].truncate(1);
    Ok(answers)
};

/// Answers rightly until it is armed; from then on reports every batch (the first byte of each image) and waits to be
/// told what to do.
struct Puppet {
    is_armed: Arc<AtomicBool>,
    batches: Sender<Vec<u8>>,
    acts: Receiver<Act>,
}

impl Backend for Puppet {
    fn name(&self) -> String {
        "puppet".into()
    }

    fn kernel_name(&self) -> String {
        "strings".into()
    }

    fn threads(&self) -> usize {
        1
    }

    fn logits(&mut self, model: &Model, images: &[&[u8]]) -> Result<Logits, BackendError> {
        let answers = images.iter().map(|pixels| reference::logits(model, pixels)).collect();
        if !self.is_armed.load(Ordering::SeqCst) {
            return Ok(answers);
        }
        self.batches.send(images.iter().map(|pixels| pixels[0]).collect()).expect("the stage outlives the puppet");
        // Once the stage has gone, the last batch is answered rightly.
        self.acts.recv().unwrap_or(HONEST)(answers)
    }
}

/// A request's name and its answer.
type Reply = (&'static str, Answer);

/// The service under test and the strings of its device.
struct Stage {
    handle: InferenceHandle,
    acts: Sender<Act>,
    batches: Receiver<Vec<u8>>,
    faults: Receiver<()>,
    model: Model,
    /// What replies came, by the name of the request.
    replies: (Sender<Reply>, Receiver<Reply>),
}

#[derive(Debug, Clone)]
enum Answer {
    Run(Result<Vec<TaskOutcome>, InferenceError>),
    Free(Result<Vec<super::Logits>, InferenceError>),
    Check(Result<AnswerCheck, InferenceError>),
}

const LIMITS: InferenceLimits = InferenceLimits {
    batch: 4,
    gather: Duration::ZERO,
    queue: 100 * PICTURE_BYTES,
    free: 2 * PICTURE_BYTES,
    cache: 100,
};

/// The files that strangers have published, and how often one was asked for.
#[derive(Default)]
struct Published {
    files: BTreeMap<ModelId, Vec<u8>>,
    asked: AtomicUsize,
}

impl Published {
    fn of(models: &[Model]) -> Arc<Self> {
        let files = models.iter().map(|model| (ModelId(model.id().0), model.bytes().to_vec())).collect();
        Arc::new(Self { files, ..Self::default() })
    }
}

impl ModelFiles for Published {
    fn file(&self, model: ModelId) -> Result<Option<Vec<u8>>, StoreError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(self.files.get(&model).cloned())
    }
}

impl Stage {
    fn new(limits: InferenceLimits) -> Self {
        Self::with_device(limits, |puppet| Device::new(puppet, FALLBACKS))
    }

    fn with_device(limits: InferenceLimits, device: impl FnOnce(Box<dyn Backend>) -> Device) -> Self {
        Self::with_files(limits, device, Arc::new(NoFiles))
    }

    fn with_files(
        limits: InferenceLimits,
        device: impl FnOnce(Box<dyn Backend>) -> Device,
        files: Arc<dyn ModelFiles>,
    ) -> Self {
        let (stage, is_ready, is_armed) = Self::begin(limits, device, files, AtomicBool::new(false));
        is_ready.recv().expect("the service lives");
        is_armed.store(true, Ordering::SeqCst);
        stage
    }

    /// Before the device is checked; also what is sent when it was, and what arms the puppet.
    fn begin(
        limits: InferenceLimits,
        device: impl FnOnce(Box<dyn Backend>) -> Device,
        files: Arc<dyn ModelFiles>,
        is_armed: AtomicBool,
    ) -> (Self, Receiver<()>, Arc<AtomicBool>) {
        let is_armed = Arc::new(is_armed);
        let (report, batches) = channel();
        let (acts, orders) = channel();
        let (fault, faults) = channel();
        let puppet = Box::new(Puppet { is_armed: Arc::clone(&is_armed), batches: report, acts: orders });
        let models = Models::new(vec![tiny_model(0), tiny_model(1)], files);
        let on_fault = move || fault.send(()).expect("the stage outlives the service");
        let (handle, is_ready) = InferenceService::begin_with(device(puppet), models, limits, on_fault);
        let stage = Self { handle, acts, batches, faults, model: tiny_model(0), replies: channel() };
        (stage, is_ready, is_armed)
    }

    fn task(&self, first: u8) -> Task {
        task(&self.model, first)
    }

    fn right(&self, first: u8) -> Classes {
        right(&self.model, &self.task(first))
    }

    fn wrong(&self, first: u8) -> Classes {
        let mut logits = reference::logits(&self.model, bytes(&self.task(first)));
        logits[1] += 1;
        Classes::of(&logits)
    }

    fn run(&self, name: &'static str, firsts: &[u8]) {
        let sender = self.replies.0.clone();
        let reply = move |result| drop(sender.send((name, Answer::Run(result))));
        self.handle.run(firsts.iter().map(|first| self.task(*first)).collect(), reply);
    }

    fn run_free(&self, name: &'static str, firsts: &[u8]) {
        let sender = self.replies.0.clone();
        let reply = move |result| drop(sender.send((name, Answer::Free(result))));
        self.handle.run_free(&self.model, firsts.iter().map(|first| self.task(*first)).collect(), reply);
    }

    fn check(&self, name: &'static str, claims: Vec<(u8, Classes)>) {
        let sender = self.replies.0.clone();
        let reply = move |result| drop(sender.send((name, Answer::Check(result))));
        self.handle.check(claims.into_iter().map(|(first, claim)| (self.task(first), claim)).collect(), reply);
    }

    /// The batch that the device has been given.
    fn batch(&self) -> Vec<u8> {
        self.batches.recv().expect("the device lives")
    }

    fn act(&self, act: Act) {
        self.acts.send(act).expect("the device lives");
    }

    fn reply(&self) -> Reply {
        self.replies.1.recv().expect("the stage holds a sender")
    }

    fn expect_run(&self, name: &str, firsts: &[u8]) {
        let (found, answer) = self.reply();
        let Answer::Run(Ok(outcomes)) = answer else { panic!("{found}: {answer:?}") };
        assert_eq!((found, outcomes), (name, firsts.iter().map(|first| Ok(self.right(*first))).collect()));
    }

    fn expect_free(&self, name: &str, firsts: &[u8]) {
        let (found, answer) = self.reply();
        let Answer::Free(Ok(logits)) = answer else { panic!("{found}: {answer:?}") };
        let right = |first: &u8| Ok(reference::logits(&self.model, bytes(&self.task(*first))).into());
        assert_eq!((found, logits), (name, firsts.iter().map(right).collect()));
    }

    fn expect_verdict(&self, name: &str, expected: AnswerCheck) {
        let (found, answer) = self.reply();
        let Answer::Check(Ok(verdict)) = answer else { panic!("{found}: {answer:?}") };
        assert_eq!((found, verdict), (name, expected));
    }

    /// The device has been disabled once, for this reason, and goes on as `device`.
    fn expect_fault(&self, reason: &str, device: &str) {
        let status = self.handle.status();
        let disabled = status.disabled.expect("a device was disabled");
        assert!(disabled.starts_with("puppet: ") && disabled.contains(reason), "{disabled}");
        assert!(status.device.contains(device), "{}", status.device);
        assert_eq!(self.faults.try_iter().count(), 1);
        assert!(self.batches.try_recv().is_err(), "the puppet is asked no more");
    }

    /// Makes the device busy with image 0, until its [`Stage::act`].
    fn occupy(&self) {
        self.occupy_anew(0);
    }

    /// The same with an image that was not run before.
    fn occupy_anew(&self, first: u8) {
        self.run("occupy", &[first]);
        assert_eq!(self.batch(), [first]);
    }
}

/// Two pixels, three logits; models with other biases have other ids.
fn tiny_model(bias: i32) -> Model {
    let graph = Graph::new(Input::new(2, 1, 1), vec![Layer::logits("linear", "input", 3)]).unwrap();
    let weights = Parameters { weight: vec![1, 2, -3, 4, 5, -6], bias: vec![bias, 7, -7], ..Parameters::default() };
    ModelFile { graph, parameters: vec![weights], display: Display::numbered(3) }.build().unwrap()
}

fn task(model: &Model, first: u8) -> Task {
    let pixels = (0..model.pixels()).map(|i| if i == 0 { first } else { (i * 37 % 256) as u8 });
    with_bytes(model, Form::Pixels, pixels.collect())
}

fn with_bytes(model: &Model, form: Form, bytes: Arc<[u8]>) -> Task {
    Task::of(Key { model: model_id(model), attachment: AttachmentHash::of(&bytes), form }, bytes)
}

/// What a task carries.
fn bytes(task: &Task) -> &[u8] {
    let Content::Attached(bytes) = &task.content else { panic!("{task:?}") };
    bytes
}

/// What the reference says of a task that carries pixels.
fn right(model: &Model, task: &Task) -> Classes {
    Classes::of(&reference::logits(model, bytes(task)))
}

#[test]
fn answers_are_the_references_in_order_and_remembered() {
    let stage = Stage::new(LIMITS);
    stage.run("first", &[2, 1, 2, 3]);
    assert_eq!(stage.batch(), [2, 1, 3], "an image is run once");
    stage.act(HONEST);
    stage.expect_run("first", &[2, 1, 2, 3]);
    stage.run("second", &[3, 2]);
    stage.expect_run("second", &[3, 2]);
    stage.run("nothing", &[]);
    stage.expect_run("nothing", &[]);
    stage.check("empty block", vec![]);
    stage.expect_verdict("empty block", AnswerCheck::Right);

    let status = stage.handle.status();
    assert_eq!((status.computed, status.joined, status.cached), (3, 1, 2));
    assert_eq!((status.batches, status.queued), (1, 0));
    assert_eq!((status.device.as_str(), status.disabled), ("puppet", None));
    assert!(status.tasks_per_second > 0.0 && status.device_time > Duration::ZERO);
}

#[test]
fn what_arrives_while_the_device_is_busy_is_run_together() {
    let stage = Stage::new(InferenceLimits { gather: GATHER, ..LIMITS });
    stage.occupy();
    stage.run("a", &[1, 2]);
    stage.run("b", &[2, 3]);
    stage.run("c", &[4, 5]);
    assert_eq!(stage.handle.status().queued, 7);
    stage.act(HONEST);
    stage.expect_run("occupy", &[0]);
    assert_eq!(stage.batch(), [1, 2, 3, 4]);
    stage.act(HONEST);
    stage.expect_run("a", &[1, 2]);
    stage.expect_run("b", &[2, 3]);
    assert_eq!(stage.batch(), [5]);
    stage.act(HONEST);
    stage.expect_run("c", &[4, 5]);
    let status = stage.handle.status();
    assert_eq!((status.computed, status.joined, status.batches, status.queued), (6, 1, 3, 0));
    assert!(status.queue_time > Duration::ZERO);
}

#[test]
fn what_the_device_is_running_is_not_run_again() {
    let stage = Stage::new(LIMITS);
    stage.occupy();
    stage.run("the same and another", &[0, 1]);
    stage.check("block", vec![(0, stage.right(0))]);
    stage.act(HONEST);
    stage.expect_run("occupy", &[0]);
    stage.expect_verdict("block", AnswerCheck::Right);
    assert_eq!(stage.batch(), [1]);
    stage.act(HONEST);
    stage.expect_run("the same and another", &[0, 1]);
    let status = stage.handle.status();
    assert_eq!((status.computed, status.cached, status.joined, status.batches), (2, 2, 0, 2));
}

#[test]
fn models_are_not_mixed_in_a_batch() {
    let stage = Stage::new(LIMITS);
    let other = tiny_model(1);
    stage.occupy();
    let (sender, receiver) = channel();
    let tasks = vec![stage.task(1), task(&other, 1), stage.task(2)];
    let expected = [stage.right(1), right(&other, &tasks[1]), stage.right(2)].map(Ok);
    stage.handle.run(tasks, move |result| sender.send(result).unwrap());
    stage.act(HONEST);
    for batch in [vec![1, 2], vec![1]] {
        assert_eq!(stage.batch(), batch);
        stage.act(HONEST);
    }
    assert_eq!(receiver.recv().unwrap().unwrap(), expected);
}

#[test]
fn checks_go_before_runs() {
    let stage = Stage::new(LIMITS);
    stage.occupy();
    stage.run("run", &[1, 2]);
    stage.check("check", vec![(3, stage.right(3)), (2, stage.right(2))]);
    stage.act(HONEST);
    assert_eq!(stage.batch(), [3, 2]);
    stage.act(HONEST);
    assert_eq!(stage.batch(), [1]);
    stage.act(HONEST);
    stage.expect_run("occupy", &[0]);
    stage.expect_verdict("check", AnswerCheck::Right);
    stage.expect_run("run", &[1, 2]);
}

#[test]
fn what_makes_a_block_whole_goes_before_runs() {
    let stage = Stage::new(LIMITS);
    stage.occupy();
    stage.run("run", &[1]);
    let (sender, receiver) = channel();
    stage.handle.answer(vec![stage.task(2)], move |result| sender.send(result).unwrap());
    stage.act(HONEST);
    assert_eq!(stage.batch(), [2]);
    stage.act(HONEST);
    assert_eq!(receiver.recv().unwrap().unwrap(), [Ok(stage.right(2))]);
    assert_eq!(stage.batch(), [1]);
    stage.act(HONEST);
    stage.expect_run("occupy", &[0]);
    stage.expect_run("run", &[1]);
    assert_eq!(stage.handle.status().queued, 0);
}

#[test]
fn a_wrong_claim_is_wrong_and_the_device_stays() {
    let stage = Stage::new(LIMITS);
    let wrong = |index, first| AnswerCheck::Wrong { index, claimed: stage.wrong(first), expected: stage.right(first) };
    stage.check("fresh", vec![(1, stage.right(1)), (2, stage.wrong(2)), (3, stage.wrong(3))]);
    stage.batch();
    stage.act(HONEST);
    stage.expect_verdict("fresh", wrong(1, 2));
    stage.check("from the cache", vec![(3, stage.wrong(3))]);
    stage.expect_verdict("from the cache", wrong(0, 3));
    let claimed = Classes { best: vec![], ..stage.right(1) };
    stage.check("too few", vec![(1, claimed.clone())]);
    stage.expect_verdict("too few", AnswerCheck::Wrong { index: 0, claimed, expected: stage.right(1) });
    stage.check("right", vec![(1, stage.right(1)), (2, stage.right(2))]);
    stage.expect_verdict("right", AnswerCheck::Right);
    assert_eq!(stage.handle.status().disabled, None);
    assert_eq!(stage.faults.try_iter().count(), 0);
}

#[test]
fn a_device_that_is_wrong_by_one_does_not_condemn_a_block() {
    let stage = Stage::new(LIMITS);
    stage.run("poisoned", &[9]);
    stage.batch();
    stage.act(OFF_BY_ONE);
    let (_, Answer::Run(Ok(outcomes))) = stage.reply() else { panic!("the device answers") };
    assert_eq!(outcomes, [Ok(stage.wrong(9))], "nothing has shown the fault yet");

    stage.check("block", vec![(1, stage.right(1)), (2, stage.right(2))]);
    stage.batch();
    stage.act(OFF_BY_ONE);
    stage.expect_verdict("block", AnswerCheck::Right);
    stage.expect_fault("the scalar reference", "CPU");

    stage.run("afterwards", &[9]);
    stage.expect_run("afterwards", &[9]);
}

#[test]
fn a_fault_found_in_the_cache_has_everything_run_again() {
    let stage = Stage::new(LIMITS);
    stage.run("poisoned", &[9]);
    stage.batch();
    stage.act(OFF_BY_ONE);
    stage.reply();
    stage.occupy();
    stage.run("waits", &[9, 1]);
    stage.check("block", vec![(9, stage.right(9))]);
    stage.act(HONEST);
    stage.expect_run("occupy", &[0]);
    stage.expect_verdict("block", AnswerCheck::Right);
    stage.expect_run("waits", &[9, 1]);
    stage.expect_fault("the scalar reference", "CPU");
}

#[test]
fn runs_in_the_batch_that_shows_a_fault_get_right_answers() {
    let stage = Stage::new(LIMITS);
    stage.occupy();
    stage.run("run", &[2]);
    stage.check("block", vec![(2, stage.right(2)), (1, stage.right(1))]);
    stage.act(HONEST);
    stage.expect_run("occupy", &[0]);
    assert_eq!(stage.batch(), [2, 1]);
    stage.act(OFF_BY_ONE);
    stage.expect_verdict("block", AnswerCheck::Right);
    stage.expect_run("run", &[2]);
    stage.expect_fault("the scalar reference", "CPU");
}

#[test]
fn device_and_claim_may_both_be_wrong() {
    let stage = Stage::new(LIMITS);
    let claimed = Classes::of(&[1, 2, 3]);
    stage.check("block", vec![(1, claimed.clone())]);
    stage.batch();
    stage.act(OFF_BY_ONE);
    stage.expect_verdict("block", AnswerCheck::Wrong { index: 0, claimed, expected: stage.right(1) });
    stage.expect_fault("the scalar reference", "CPU");
}

#[test]
fn a_device_that_fails_is_replaced() {
    let rows: [(Act, &str); 4] = [
        (FAILING, "the device failed: this processor cannot run the kernel portable"),
        (PANICKING, "panicked: lost the device"),
        (ONE_SHORT, "answered for 1 of 2 images"),
        (ONE_LOGIT, "returned 1 logits, the model has 3"),
    ];
    for (act, reason) in rows {
        let stage = Stage::new(LIMITS);
        stage.run("run", &[1, 2]);
        assert_eq!(stage.batch(), [1, 2]);
        stage.check("block", vec![(2, stage.right(2)), (3, stage.wrong(3))]);
        stage.act(act);
        stage.expect_verdict(
            "block",
            AnswerCheck::Wrong { index: 1, claimed: stage.wrong(3), expected: stage.right(3) },
        );
        stage.expect_run("run", &[1, 2]);
        stage.expect_fault(reason, "CPU");
    }
}

/// A device that fails or lies whenever it is asked.
struct Broken(Act);

impl Backend for Broken {
    fn name(&self) -> String {
        "puppet".into()
    }

    fn kernel_name(&self) -> String {
        "strings".into()
    }

    fn threads(&self) -> usize {
        1
    }

    fn logits(&mut self, model: &Model, images: &[&[u8]]) -> Result<Logits, BackendError> {
        (self.0)(images.iter().map(|pixels| reference::logits(model, pixels)).collect())
    }
}

#[test]
fn behind_every_device_stands_the_reference() {
    const BROKEN: &[Opener] = &[
        || Err(BackendError::Kernel { kernel: Kernel::Portable }),
        || panic!("no such driver"),
        || Ok(Box::new(Broken(OFF_BY_ONE))),
        || Ok(Box::new(Broken(PANICKING))),
    ];
    let stage = Stage::with_device(LIMITS, |puppet| Device::new(puppet, BROKEN));
    stage.check("block", vec![(1, stage.right(1))]);
    stage.batch();
    stage.act(PANICKING);
    stage.expect_verdict("block", AnswerCheck::Right);
    stage.expect_fault("lost the device", "scalar reference");
    stage.check("bad block", vec![(1, stage.wrong(1))]);
    let wrong = AnswerCheck::Wrong { index: 0, claimed: stage.wrong(1), expected: stage.right(1) };
    stage.expect_verdict("bad block", wrong);
}

#[test]
fn a_machine_on_which_even_the_reference_fails_says_so() {
    let stage = Stage::with_device(LIMITS, Device::last);
    stage.occupy();
    stage.check("check", vec![(1, stage.right(1))]);
    stage.run("shares it", &[1, 2]);
    stage.run("does not", &[3]);
    stage.act(HONEST);
    stage.expect_run("occupy", &[0]);
    assert_eq!(stage.batch(), [1]);
    stage.act(PANICKING);
    for _ in 0..2 {
        let (name, error) = match stage.reply() {
            (name, Answer::Check(Err(error))) if name == "check" => (name, error),
            (name, Answer::Run(Err(error))) if name == "shares it" => (name, error),
            other => panic!("{other:?}"),
        };
        let InferenceError::Device(fault) = error else { panic!("{name}: {error}") };
        assert!(matches!(&*fault, DeviceFault::Panicked { message } if message == "lost the device"), "{fault}");
    }
    assert_eq!(stage.batch(), [3], "nobody waits for image 2 any more");
    stage.act(OFF_BY_ONE);
    stage.reply();
    // The reference is asked once more where the claim differs, and then the claim has a witness.
    stage.check("block", vec![(3, stage.right(3))]);
    stage.expect_verdict("block", AnswerCheck::Right);
    let status = stage.handle.status();
    assert_eq!((status.queued, status.disabled), (0, None));
    assert_eq!(stage.faults.try_iter().count(), 0);
}

#[test]
fn nothing_is_answered_before_the_device_is_checked() {
    let device = |puppet| Device::new(puppet, FALLBACKS);
    let begin = || Stage::begin(LIMITS, device, Arc::new(NoFiles), AtomicBool::new(true));
    let (stage, is_ready, _) = begin();
    assert_eq!(stage.handle.status().device, "puppet, being checked");
    stage.run("run", &[1]);
    stage.check("check", vec![(2, stage.right(2))]);
    // Two batches for each of two models.
    for _ in 0..4 {
        stage.batch();
        assert!(stage.replies.1.try_recv().is_err() && is_ready.try_recv().is_err());
        stage.act(HONEST);
    }
    assert_eq!(stage.batch(), [2]);
    assert_eq!(stage.handle.status().device, "puppet");
    stage.act(HONEST);
    stage.expect_verdict("check", AnswerCheck::Right);
    assert_eq!(stage.batch(), [1]);
    stage.act(HONEST);
    stage.expect_run("run", &[1]);

    // A device that fails gives none of the answers.
    let (stage, ..) = begin();
    stage.run("run", &[1]);
    stage.batch();
    stage.act(OFF_BY_ONE);
    stage.expect_run("run", &[1]);
    let status = stage.handle.status();
    assert!(status.disabled.is_some() && status.device.contains("CPU"), "{status:?}");
    assert!(stage.batches.try_recv().is_err(), "the puppet is asked no more");
}

#[test]
fn a_device_that_is_not_exact_never_starts() {
    for act in [OFF_BY_ONE, FAILING, PANICKING] {
        let (broken, models) = (Box::new(Broken(act)), vec![tiny_model(0)]);
        let handle = InferenceService::start(broken, models, Arc::new(NoFiles), LIMITS, || {
            panic!("nobody has relied on it yet")
        });
        let status = handle.status();
        assert!(status.disabled.is_some() && status.device.contains("CPU"), "{status:?}");
        let (sender, receiver) = channel();
        let task = task(&tiny_model(0), 1);
        let expected = right(&tiny_model(0), &task);
        handle.run(vec![task], move |result| sender.send(result).unwrap());
        assert_eq!(receiver.recv().unwrap().unwrap(), [Ok(expected)]);
    }
}

#[test]
fn the_built_in_model_runs_on_the_processor() {
    let model = ocelli_model::zoo::get("cifar10-cnn").unwrap();
    let (backend, _) = ocelli_model::CandleBackend::open(ocelli_model::DeviceChoice::Cpu).unwrap();
    let (models, files) = (vec![model.clone()], Arc::new(NoFiles));
    let handle = InferenceService::start(Box::new(backend), models, files, InferenceLimits::default(), || {
        panic!("the processor is sound")
    });
    let claims = [10, 200].map(|first| {
        let task = task(&model, first);
        let answer = right(&model, &task);
        (task, answer)
    });
    let (sender, receiver) = channel();
    handle.check(claims.to_vec(), move |result| sender.send(result).unwrap());
    assert_eq!(receiver.recv().unwrap().unwrap(), AnswerCheck::Right);
    assert_eq!(handle.status().disabled, None);
}

#[test]
fn the_queue_is_bounded_for_each_kind() {
    let stage = Stage::new(InferenceLimits { queue: 3 * PICTURE_BYTES, ..LIMITS });
    stage.run("more than may wait, but alone", &[0, 1, 2, 3]);
    stage.batch();
    stage.run("one more", &[4]);
    let (_, answer) = stage.reply();
    let Answer::Run(Err(error)) = answer else { panic!("{answer:?}") };
    let busy = |error: &InferenceError| match error {
        InferenceError::Busy { waiting, asked, limit } => [waiting, asked, limit].map(|bytes| bytes / PICTURE_BYTES),
        other => panic!("{other}"),
    };
    assert_eq!(busy(&error), [4, 1, 3]);

    stage.check("block", vec![(4, stage.right(4)), (5, stage.right(5))]);
    stage.check("too much", vec![(6, stage.right(6)), (7, stage.right(7))]);
    let (_, answer) = stage.reply();
    let Answer::Check(Err(error)) = answer else { panic!("{answer:?}") };
    assert_eq!(busy(&error), [2, 2, 3]);

    stage.act(HONEST);
    stage.batch();
    stage.act(HONEST);
    stage.expect_run("more than may wait, but alone", &[0, 1, 2, 3]);
    stage.expect_verdict("block", AnswerCheck::Right);
    stage.run("room again", &[0]);
    stage.expect_run("room again", &[0]);
}

#[test]
fn what_nobody_pays_for_waits_for_all_else_and_fills_nobody_elses_queue() {
    let stage = Stage::new(InferenceLimits { free: 2 * PICTURE_BYTES, ..LIMITS });
    stage.occupy();
    stage.run_free("free", &[1, 2]);
    stage.run_free("one more", &[3]);
    let (_, answer) = stage.reply();
    let Answer::Free(Err(error)) = answer else { panic!("{answer:?}") };
    assert!(matches!(error, InferenceError::Busy { asked: PICTURE_BYTES, .. }), "{error}");
    stage.run("paid", &[4]);
    stage.check("block", vec![(5, stage.right(5))]);
    assert_eq!(stage.handle.status().queued, 5);
    stage.act(HONEST);
    stage.expect_run("occupy", &[0]);
    for (name, images) in [("block", &[5][..]), ("paid", &[4]), ("free", &[1, 2])] {
        assert_eq!(stage.batch(), images, "{name}");
        stage.act(HONEST);
        match name {
            "block" => stage.expect_verdict(name, AnswerCheck::Right),
            "paid" => stage.expect_run(name, images),
            _ => stage.expect_free(name, images),
        }
    }
    stage.run("paid for later", &[1, 2]);
    stage.expect_run("paid for later", &[1, 2]);
    assert_eq!(stage.handle.status().queued, 0);
}

#[test]
fn free_answers_are_all_logits_whoever_else_wants_the_picture() {
    let stage = Stage::new(LIMITS);
    stage.occupy();
    stage.run_free("free", &[1]);
    stage.run("paid", &[1, 2]);
    stage.act(HONEST);
    stage.expect_run("occupy", &[0]);
    assert_eq!(stage.batch(), [1, 2], "run once for both");
    stage.act(HONEST);
    stage.expect_run("paid", &[1, 2]);
    stage.expect_free("free", &[1]);
    // The answer is remembered, and not all logits.
    stage.run_free("again", &[1]);
    assert_eq!(stage.batch(), [1]);
    stage.act(HONEST);
    stage.expect_free("again", &[1]);
    // A device that is found faulty has all of it run again.
    stage.occupy_anew(9);
    stage.run_free("after a fault", &[1]);
    stage.act(FAILING);
    stage.expect_run("occupy", &[9]);
    stage.expect_free("after a fault", &[1]);
}

#[test]
fn the_cache_is_bounded_and_forgets_the_oldest() {
    let stage = Stage::new(InferenceLimits { cache: 2, ..LIMITS });
    for images in [vec![1, 2, 3], vec![1]] {
        stage.run("run", &images);
        assert_eq!(stage.batch(), images);
        stage.act(HONEST);
        stage.expect_run("run", &images);
    }
    stage.run("kept", &[1, 3]);
    stage.expect_run("kept", &[1, 3]);
}

#[test]
fn bytes_of_another_attachment_are_refused_at_once() {
    let stage = Stage::new(LIMITS);
    let good = stage.task(1);
    let bad = Task::of(Key { attachment: AttachmentHash([1; 32]), ..good.key }, bytes(&good).into());
    let (sender, receiver) = channel();
    stage.handle.run(vec![good, bad], move |result| sender.send(result).unwrap());
    let error = receiver.try_recv().expect("replied before the call returned").unwrap_err();
    assert!(matches!(error, InferenceError::Attachment { index: 1, .. }), "{error}");
    assert_eq!(stage.handle.status().queued, 0);
}

/// A model of three channels that takes a picture of its sides, or larger ones.
fn colour_model() -> Model {
    let graph = Graph::new(Input::new(3, 16, 16), vec![Layer::logits("linear", "input", 2)]).unwrap();
    let weight = (0..2 * 3 * 256).map(|i| (i % 7) as i8 - 3).collect();
    let weights = Parameters { weight, bias: vec![1, -1], ..Parameters::default() };
    ModelFile { graph, parameters: vec![weights], display: Display::numbered(2) }.build().unwrap()
}

/// What is made of a JPEG.
fn made(model: &Model) -> Attachment {
    let file = include_bytes!("../../../model/picture/tests/vectors/good/scene_320x240.jpg");
    Attachment::from_file(file, model.graph().input().into()).unwrap()
}

/// A JPEG that the network takes, as a program that sends pictures makes it.
fn jpeg(model: &Model) -> (Form, Arc<[u8]>, Vec<u8>) {
    let made = made(model);
    let ocelli_model::attachment::Form::Jpeg(sides) = made.form else { panic!("{:?}", made.form) };
    (Form::Jpeg { width: sides.columns, height: sides.rows }, made.bytes.into(), made.pixels)
}

#[test]
fn a_jpeg_is_decoded_and_what_is_none_condemns_a_block() {
    let model = colour_model();
    let handle = InferenceService::start(
        Box::new(ocelli_model::ReferenceBackend),
        vec![model.clone()],
        Arc::new(NoFiles),
        LIMITS,
        || panic!("the reference is right"),
    );
    let (form, file, pixels) = jpeg(&model);
    let Form::Jpeg { width, height } = form else { panic!("{form:?}") };
    let expected = Classes::of(&reference::logits(&model, &pixels));
    let good = with_bytes(&model, form, Arc::clone(&file));
    let other_sides = with_bytes(&model, Form::Jpeg { width, height: height - 1 }, Arc::clone(&file));
    let torn = with_bytes(&model, form, file[..file.len() - 3].into());
    let no_pixels = with_bytes(&model, Form::Pixels, file);
    let pixels = with_bytes(&model, Form::Pixels, pixels.into());

    let (sender, receiver) = channel();
    let tasks = vec![good.clone(), other_sides.clone(), torn.clone(), no_pixels, pixels];
    handle.run(tasks, move |result| sender.send(result).unwrap());
    let outcomes = receiver.recv().unwrap().unwrap();
    assert_eq!([&outcomes[0], &outcomes[4]], [&Ok(expected.clone()); 2]);
    assert!(matches!(outcomes[1], Err(PictureFault::Sides { .. })), "{:?}", outcomes[1]);
    assert!(matches!(outcomes[2], Err(PictureFault::Refused(_))), "{:?}", outcomes[2]);
    assert!(matches!(outcomes[3], Err(PictureFault::Length { expected: 768, .. })), "{:?}", outcomes[3]);
    for task in [&good, &other_sides, &torn] {
        let expected = match check_picture(task.key.form, bytes(task)) {
            Ok(()) => AnswerCheck::Right,
            Err(fault) => AnswerCheck::Picture { index: 1, fault },
        };
        let (sender, receiver) = channel();
        let claims = vec![(good.clone(), outcomes[0].clone().unwrap()), (task.clone(), outcomes[0].clone().unwrap())];
        handle.check(claims, move |result| sender.send(result).unwrap());
        assert_eq!(receiver.recv().unwrap().unwrap(), expected);
    }
    assert!(check_picture(form, bytes(&good)).is_ok() && check_picture(form, bytes(&torn)).is_err());
}

#[test]
fn what_was_decoded_here_is_not_decoded_again_and_what_others_send_is() {
    let model = colour_model();
    let stage =
        Stage::with_files(LIMITS, |puppet| Device::new(puppet, FALLBACKS), Published::of(std::slice::from_ref(&model)));
    let (form, bytes, pixels) = jpeg(&model);
    let mut made = made(&model);
    let free = Task::of_attachment(&model, &mut made);
    assert_eq!(
        free,
        Task { key: with_bytes(&model, form, bytes.clone()).key, content: Content::Seen(pixels.clone().into()) }
    );
    assert_eq!(made.bytes, *bytes, "a paid task carries the same");
    let expected = reference::logits(&model, &pixels);
    let (sender, receiver) = channel();
    stage.handle.run_free(&model, vec![free], move |result| sender.send(result).unwrap());
    assert_eq!(stage.batch(), [pixels[0]]);
    stage.act(HONEST);
    assert_eq!(receiver.recv().unwrap().unwrap(), [Ok(expected.as_slice().into())]);

    // Nobody has looked at these bytes, whatever hash they are said to have.
    let torn: Arc<[u8]> = bytes[..bytes.len() - 3].into();
    let key = with_bytes(&model, form, bytes.clone()).key;
    let (sender, receiver) = channel();
    stage.handle.run(vec![Task::of(key, torn.clone())], move |result| sender.send(result).unwrap());
    assert!(matches!(receiver.recv().unwrap(), Err(InferenceError::Attachment { index: 0, .. })));
    let (sender, receiver) = channel();
    stage.handle.run(vec![with_bytes(&model, form, torn)], move |result| sender.send(result).unwrap());
    assert!(matches!(receiver.recv().unwrap().unwrap()[..], [Err(PictureFault::Refused(_))]));

    // The answer to these bytes is known.
    let claims = vec![(Task::of(key, bytes), Classes::of(&expected))];
    let (sender, receiver) = channel();
    stage.handle.check(claims, move |result| sender.send(result).unwrap());
    assert_eq!(receiver.recv().unwrap().unwrap(), AnswerCheck::Right);
    assert_eq!(stage.handle.status().computed, 2);
}

#[test]
fn a_model_that_is_loaded_elsewhere_is_not_loaded_for_free_answers() {
    let published = tiny_model(5);
    let files = Published::of(std::slice::from_ref(&published));
    let stage = Stage::with_files(LIMITS, |puppet| Device::new(puppet, FALLBACKS), files.clone());
    let (sender, receiver) = channel();
    let pixels = bytes::Bytes::from_static(&[1, 2]);
    let expected = reference::logits(&published, &pixels);
    let task = Task::of_pixels(&published, pixels);
    stage.handle.run_free(&published, vec![task], move |result| sender.send(result).unwrap());
    assert_eq!(stage.batch(), [1]);
    stage.act(HONEST);
    assert_eq!(receiver.recv().unwrap().unwrap(), [Ok(expected.into())]);
    assert_eq!(files.asked.load(Ordering::SeqCst), 0);
}

#[test]
fn a_published_model_is_loaded_once_and_runs() {
    let (published, unknown) = (tiny_model(5), tiny_model(6));
    let files = Published::of(std::slice::from_ref(&published));
    let stage = Stage::with_files(LIMITS, |puppet| Device::new(puppet, FALLBACKS), files.clone());
    for first in [1, 2] {
        let (sender, receiver) = channel();
        let task = task(&published, first);
        let expected = right(&published, &task);
        stage.handle.run(vec![task], move |result| sender.send(result).unwrap());
        assert_eq!(stage.batch(), [first]);
        stage.act(HONEST);
        assert_eq!(receiver.recv().unwrap().unwrap(), [Ok(expected)]);
    }
    assert_eq!(files.asked.load(Ordering::SeqCst), 1);

    // A file that is not here says nothing of a block, and holds up nobody else.
    let (sender, receiver) = channel();
    let claims = vec![(stage.task(3), stage.right(3)), (task(&unknown, 1), stage.right(1))];
    stage.occupy();
    stage.handle.check(claims, move |result| sender.send(result).unwrap());
    stage.run("another", &[4]);
    stage.act(HONEST);
    stage.expect_run("occupy", &[0]);
    assert_eq!(stage.batch(), [3]);
    stage.act(HONEST);
    let error = receiver.recv().unwrap().unwrap_err();
    assert!(matches!(error, InferenceError::UnknownModel { index: 1, model } if model.0 == unknown.id().0), "{error}");
    assert_eq!(stage.batch(), [4]);
    stage.act(HONEST);
    stage.expect_run("another", &[4]);
    assert_eq!(stage.handle.status().queued, 0);
}

#[test]
fn a_file_that_is_not_its_models_is_not_run() {
    let (wanted, other) = (tiny_model(5), tiny_model(6));
    let id = ModelId(wanted.id().0);
    for bytes in [other.bytes().to_vec(), b"not a model".to_vec()] {
        let files = Published { files: BTreeMap::from([(id, bytes)]), ..Published::default() };
        let stage = Stage::with_files(LIMITS, |puppet| Device::new(puppet, FALLBACKS), Arc::new(files));
        let (sender, receiver) = channel();
        stage.handle.run(vec![task(&wanted, 1)], move |result| sender.send(result).unwrap());
        let error = receiver.recv().unwrap().unwrap_err();
        assert!(matches!(error, InferenceError::Model { model, .. } if model == id), "{error}");
    }
}

/// What consensus cannot compare, as it reads no files.
#[test]
fn built_in_networks_declare_their_models_as_they_are() {
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../model/zoo")).unwrap();
    let files =
        folder.map(|entry| entry.unwrap().path()).filter(|path| path.extension() == Some("safetensors".as_ref()));
    let zoo: Vec<Model> = files.map(|path| Model::from_bytes(&std::fs::read(path).unwrap()).unwrap()).collect();
    for name in ocelli_consensus::Network::built_in_names() {
        let network = ocelli_consensus::Network::builtin(name).unwrap();
        for model in &network.parameters.models {
            let file = zoo.iter().find(|file| file.id().0 == model.id.0).expect("it is in the zoo");
            assert_eq!(model.facts, facts_of(file), "{name}: {}", file.name());
        }
    }
}

#[test]
fn few_published_models_stay_loaded() {
    let published: Vec<_> = (10..20).map(tiny_model).collect();
    let files = Published::of(&published);
    let mut models = Models::new(Vec::new(), files.clone());
    let mut get = |number: usize| models.get(ModelId(published[number].id().0)).unwrap();
    (0..8).for_each(|number| drop(get(number)));
    get(0);
    assert_eq!(files.asked.load(Ordering::SeqCst), 8);
    get(8);
    get(0);
    assert_eq!(files.asked.load(Ordering::SeqCst), 9);
    assert_eq!(get(1).id(), published[1].id());
    assert_eq!(files.asked.load(Ordering::SeqCst), 10, "the one that was used least recently has gone");
}

#[test]
fn dear_and_large_models_run_in_small_batches() {
    for (limit, cost, pixels, expected) in [
        (256, 12_000_000, 3_072, 256),
        (4, 12_000_000, 3_072, 4),
        (256, 1 << 33, 3_072, 2),
        (256, 1 << 36, 3_072, 1),
        (256, 1 << 27, 3 << 20, 21),
        (256, 1 << 27, usize::MAX, 1),
    ] {
        assert_eq!(service::room(limit, cost, pixels), expected, "{cost} {pixels}");
    }
}

#[test]
fn the_service_ends_with_its_last_handle() {
    let Stage { handle, acts, batches, faults, replies, .. } = {
        let stage = Stage::new(LIMITS);
        stage.occupy();
        stage.run("left over", &[1]);
        stage
    };
    drop(handle.clone());
    drop(handle);
    acts.send(HONEST).unwrap();
    let (name, answer) = replies.1.recv().unwrap();
    assert!(matches!((name, answer), ("occupy", Answer::Run(Ok(_)))));
    let (name, answer) = replies.1.recv().unwrap();
    assert!(matches!((name, answer), ("left over", Answer::Run(Err(InferenceError::Stopped)))));
    assert!(faults.recv().is_err() && batches.recv().is_err(), "thread and device are gone");
}
