//! What waits for the device, in which order it goes there, and in which company. Reads no clock.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use lru::LruCache;
use ocelli_consensus::ModelId;
use ocelli_consensus::transaction::Task as Key;

use super::Content;

/// Where a result is awaited: a job, and the index of the task in it.
pub type Waiter = (u64, usize);

/// What goes first. Lower is sooner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Validation of a block, which holds up the chain.
    Check,
    /// Work ahead for the mempool, which is paid for.
    Run,
    /// What is asked of this node alone, and paid by nobody.
    Free,
}

/// How long a batch that nobody pays for is expected to take at most: half of what a block that comes meanwhile may have to wait
/// by `docs/api.md`, so that one which takes twice as long as expected keeps that too.
const FREE_BATCH: Duration = Duration::from_millis(25);
/// Models of which it is remembered how long a picture takes.
const TIMED_MODELS: NonZeroUsize = NonZeroUsize::new(64).expect("64 is not 0");

/// What waits for the same model, with the same priority.
pub type Lane = (Priority, ModelId);

/// Pictures of one model that the device runs together, each once.
pub type Batch = Vec<(Key, Wanted)>;

/// A picture that one or more tasks want to have run.
#[derive(Debug)]
pub struct Wanted {
    pub content: Content,
    /// Who waits for the result.
    pub waiters: Vec<Waiter>,
    /// When the first of them asked.
    pub arrived: Instant,
    priority: Priority,
    ticket: u64,
}

/// What the device should do now.
#[derive(Debug)]
pub enum Next {
    /// Nothing waits.
    Idle,
    /// Wait until then, unless more arrives: the batch is not full and others are likely to join it.
    Wait(Instant),
    /// Run some of this lane, see [`Queue::take`].
    Run(Lane),
}

/// Pictures in order of arrival, by priority and model; each model's pictures are run together.
#[derive(Debug)]
pub struct Queue {
    batch: usize,
    gather: Duration,
    wanted: HashMap<Key, Wanted>,
    /// By ticket, which counts arrivals. No lane is empty.
    lanes: BTreeMap<Lane, BTreeMap<u64, Key>>,
    next_ticket: u64,
    /// When the latest batch had been run, and how long it had taken.
    last_ran: Option<(Instant, Duration)>,
    /// What a picture of each model is expected to take.
    picture_times: LruCache<ModelId, Duration>,
}

impl Queue {
    /// A queue in which `batch` pictures fill a batch, and that lets one that is not full wait for `gather` at most, and
    /// never longer than the latest batch took: for a fast device, company is not worth more.
    pub fn new(batch: usize, gather: Duration) -> Self {
        Self {
            batch: batch.max(1),
            gather,
            wanted: HashMap::new(),
            lanes: BTreeMap::new(),
            next_ticket: 0,
            last_ran: None,
            picture_times: LruCache::new(TIMED_MODELS),
        }
    }

    /// Adds a picture, or joins those who want it already: then true.
    pub fn push(&mut self, key: Key, content: &Content, waiter: Waiter, priority: Priority, arrived: Instant) -> bool {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let Some(wanted) = self.wanted.get_mut(&key) else {
            let content = content.clone();
            self.wanted.insert(key, Wanted { content, waiters: vec![waiter], arrived, priority, ticket });
            self.lanes.entry((priority, key.model)).or_default().insert(ticket, key);
            return false;
        };
        wanted.waiters.push(waiter);
        if priority < wanted.priority {
            let old = ((wanted.priority, key.model), wanted.ticket);
            (wanted.priority, wanted.ticket) = (priority, ticket);
            self.leave_lane(old.0, old.1);
            self.lanes.entry((priority, key.model)).or_default().insert(ticket, key);
        }
        true
    }

    /// What to do at this moment. Checks go before runs and never wait. Runs wait for company only if they arrived while
    /// the device was busy, for then others are likely to follow; an idle device starts at once.
    pub fn next(&self, now: Instant) -> Next {
        let oldest = self.lanes.iter().min_by_key(|((priority, _), lane)| (*priority, lane.keys().next().copied()));
        let Some((&(priority, model), lane)) = oldest else { return Next::Idle };
        if priority != Priority::Check && lane.len() < self.most((priority, model)) {
            let first = lane.values().next().expect("no lane is empty");
            let arrived = self.wanted[first].arrived;
            if let Some((_, took)) = self.last_ran.filter(|(ran, _)| arrived < *ran) {
                let until = arrived + self.gather.min(took);
                if now < until {
                    return Next::Wait(until);
                }
            }
        }
        Next::Run((priority, model))
    }

    /// The oldest of a lane, as many as there are and not more than `most`.
    pub fn take(&mut self, lane: Lane, most: usize) -> Batch {
        let Some(keys) = self.lanes.get(&lane) else { return Vec::new() };
        let most = if lane.0 == Priority::Free { most.min(self.most(lane)) } else { most };
        let taken: Vec<_> = keys.iter().take(most).map(|(ticket, key)| (*ticket, *key)).collect();
        let take = |(ticket, key)| {
            self.leave_lane(lane, ticket);
            (key, self.wanted.remove(&key).expect("what is in a lane is wanted"))
        };
        taken.into_iter().map(take).collect()
    }

    /// Notes that a batch has been run, in which the device had so many pictures of a model.
    pub fn ran(&mut self, model: ModelId, pictures: usize, begun: Instant, ended: Instant) {
        let took = ended.saturating_duration_since(begun);
        self.last_ran = Some((ended, took));
        let Some(each) = took.checked_div(u32::try_from(pictures).unwrap_or(u32::MAX)) else { return };
        // Dearer is believed at once, and cheaper by half: of several batches the slow ones count.
        let expected = self.picture_times.get(&model).map_or(each, |before| each.max((*before + each) / 2));
        self.picture_times.put(model, expected);
    }

    /// The pictures that fill a batch.
    fn most(&self, (priority, model): Lane) -> usize {
        if priority != Priority::Free {
            return self.batch;
        }
        let pictures = match self.picture_times.peek(&model) {
            // One shows what it takes.
            None => 1,
            Some(time) => usize::try_from(FREE_BATCH.as_nanos() / time.as_nanos().max(1)).unwrap_or(usize::MAX),
        };
        pictures.clamp(1, self.batch)
    }

    /// Forgets all that waits, and what pictures took: another device takes over.
    pub fn clear(&mut self) {
        self.wanted.clear();
        self.lanes.clear();
        self.picture_times.clear();
    }

    /// Forgets what only this job waits for.
    pub fn forget(&mut self, job: u64, keys: impl Iterator<Item = Key>) {
        for key in keys {
            let Some(wanted) = self.wanted.get_mut(&key) else { continue };
            wanted.waiters.retain(|waiter| waiter.0 != job);
            if wanted.waiters.is_empty() {
                let (lane, ticket) = ((wanted.priority, key.model), wanted.ticket);
                self.leave_lane(lane, ticket);
                self.wanted.remove(&key);
            }
        }
    }

    fn leave_lane(&mut self, lane: Lane, ticket: u64) {
        if let Some(keys) = self.lanes.get_mut(&lane) {
            keys.remove(&ticket);
            if keys.is_empty() {
                self.lanes.remove(&lane);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ocelli_consensus::AttachmentHash;
    use ocelli_consensus::transaction::Form;
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const GATHER: Duration = Duration::from_millis(2);

    struct Driver {
        queue: Queue,
        start: Instant,
        jobs: u64,
    }

    impl Driver {
        fn new() -> Self {
            Self { queue: Queue::new(3, GATHER), start: Instant::now(), jobs: 0 }
        }

        fn at(&self, micros: u64) -> Instant {
            self.start + Duration::from_micros(micros)
        }

        fn push(&mut self, priority: Priority, model: u8, picture: u8, micros: u64) -> bool {
            self.jobs += 1;
            let key = key(model, picture);
            self.queue.push(key, &Content::Attached([picture].into()), (self.jobs, 0), priority, self.at(micros))
        }

        fn ran(&mut self, begun: u64, ended: u64) {
            self.ran_pictures(1, 1, begun, ended);
        }

        fn ran_pictures(&mut self, model: u8, pictures: usize, begun: u64, ended: u64) {
            self.queue.ran(ModelId([model; 32]), pictures, self.at(begun), self.at(ended));
        }

        /// The model and pictures of the batch to run, or the microseconds until when to wait.
        fn next(&mut self, micros: u64) -> Result<(u8, Vec<u8>), Option<u128>> {
            match self.queue.next(self.at(micros)) {
                Next::Idle => Err(None),
                Next::Wait(until) => Err(Some((until - self.start).as_micros())),
                Next::Run(lane) => {
                    let batch = self.queue.take(lane, self.queue.batch);
                    Ok((lane.1.0[0], batch.iter().map(|(key, _)| key.attachment.0[0]).collect()))
                }
            }
        }
    }

    fn key(model: u8, picture: u8) -> Key {
        Key { model: ModelId([model; 32]), attachment: AttachmentHash([picture; 32]), form: Form::Pixels }
    }

    use Priority::{Check, Free, Run};

    #[test]
    fn batches_are_of_one_model_and_size_oldest_first() {
        let mut driver = Driver::new();
        for (model, picture) in [(2, 1), (1, 1), (2, 2), (2, 3), (2, 4), (1, 2)] {
            assert!(!driver.push(Run, model, picture, 0));
        }
        assert_eq!(driver.next(0), Ok((2, vec![1, 2, 3])));
        assert_eq!(driver.next(0), Ok((1, vec![1, 2])));
        assert_eq!(driver.next(0), Ok((2, vec![4])));
        assert_eq!(driver.next(0), Err(None));
    }

    #[test]
    fn checks_go_first_and_take_along_what_they_share() {
        let mut driver = Driver::new();
        driver.push(Run, 1, 1, 0);
        driver.push(Run, 1, 2, 0);
        driver.push(Check, 1, 3, 0);
        assert!(driver.push(Check, 1, 2, 0), "somebody waits for it already");
        assert!(driver.push(Run, 1, 3, 0));
        let Next::Run(lane) = driver.queue.next(driver.start) else { panic!("something waits") };
        let batch = driver.queue.take(lane, 3);
        let waiters = batch.iter().map(|(key, wanted)| (key.attachment.0[0], wanted.waiters.clone()));
        let waiters: Vec<_> = waiters.collect();
        assert_eq!(waiters, [(3, vec![(3, 0), (5, 0)]), (2, vec![(2, 0), (4, 0)])]);
        assert_eq!(driver.next(0), Ok((1, vec![1])), "block validation does not wait for a fuller batch");
    }

    #[test]
    fn runs_gather_only_while_the_device_is_busy() {
        let mut driver = Driver::new();
        driver.push(Run, 1, 1, 0);
        assert_eq!(driver.next(0), Ok((1, vec![1])), "an idle device starts at once");
        driver.push(Run, 1, 2, 2_900);
        driver.ran(0, 3_000);
        assert_eq!(driver.next(3_000), Err(Some(4_900)));
        driver.push(Run, 1, 3, 3_100);
        assert_eq!(driver.next(4_899), Err(Some(4_900)), "the first one's deadline holds");
        assert_eq!(driver.next(4_900), Ok((1, vec![2, 3])));

        driver.push(Run, 1, 4, 5_000);
        driver.ran(4_900, 9_000);
        assert_eq!(driver.next(9_000), Ok((1, vec![4])), "it has waited long enough");

        driver.ran(10_000, 20_000);
        for picture in 5..=7 {
            driver.push(Run, 1, picture, 19_999);
        }
        assert_eq!(driver.next(20_000), Ok((1, vec![5, 6, 7])), "a full batch does not wait");

        driver.push(Run, 1, 8, 19_999);
        driver.push(Check, 1, 9, 19_999);
        assert_eq!(driver.next(20_000), Ok((1, vec![9])), "nor does a check");
        assert_eq!(driver.next(20_000), Err(Some(21_999)));
    }

    #[test]
    fn runs_never_wait_longer_than_the_latest_batch_took() {
        let mut driver = Driver::new();
        driver.ran(0, 30);
        driver.push(Run, 1, 1, 20);
        assert_eq!(driver.next(30), Err(Some(50)));
        driver.push(Run, 1, 2, 45);
        assert_eq!(driver.next(50), Ok((1, vec![1, 2])));
        driver.ran(50, 50);
        driver.push(Run, 1, 3, 49);
        assert_eq!(driver.next(50), Ok((1, vec![3])), "a batch that took no time is not worth waiting for");
    }

    #[test]
    fn what_nobody_pays_for_comes_last() {
        let mut driver = Driver::new();
        driver.push(Free, 1, 1, 0);
        driver.push(Free, 1, 2, 0);
        driver.push(Run, 1, 3, 0);
        driver.push(Check, 1, 4, 0);
        assert!(driver.push(Run, 1, 2, 0), "who pays for it takes it along");
        assert_eq!(driver.next(0), Ok((1, vec![4])));
        assert_eq!(driver.next(0), Ok((1, vec![3, 2])));
        assert_eq!(driver.next(0), Ok((1, vec![1])));
        assert_eq!(driver.next(0), Err(None));
    }

    #[test]
    fn a_block_waits_for_no_long_batch_that_nobody_pays_for() {
        let mut driver = Driver::new();
        driver.queue.batch = 100;
        let pictures = |driver: &mut Driver| driver.next(1 << 40).unwrap().1.len();
        let ask = |driver: &mut Driver, priority| {
            for picture in 0..200 {
                driver.push(priority, 1, picture, 0);
            }
        };
        ask(&mut driver, Free);
        assert_eq!(pictures(&mut driver), 1, "nobody knows what one takes");
        driver.ran_pictures(1, 1, 0, 5_000);
        assert_eq!(pictures(&mut driver), 5, "5 ms each");
        driver.ran_pictures(2, 1, 0, 1_000_000);
        driver.ran_pictures(1, 0, 0, 1_000_000);
        assert_eq!(pictures(&mut driver), 5, "neither other models nor files that are no pictures say anything");
        driver.ran_pictures(1, 5, 0, 500_000);
        assert_eq!(pictures(&mut driver), 1, "one at least");
        driver.ran_pictures(1, 100, 0, 100_000);
        assert_eq!(pictures(&mut driver), 1, "one fast batch among slow ones");
        for _ in 0..20 {
            driver.ran_pictures(1, 100, 0, 100_000);
        }
        assert_eq!(pictures(&mut driver), 24, "1 ms each, as many have shown");
        for _ in 0..20 {
            driver.ran_pictures(1, 1, 0, 0);
        }
        ask(&mut driver, Free);
        assert_eq!(pictures(&mut driver), 100, "a whole batch at most");
        driver.queue.clear();
        ask(&mut driver, Free);
        assert_eq!(pictures(&mut driver), 1, "another device takes its own time");
        driver.queue.clear();
        driver.ran_pictures(1, 1, 0, 500_000);
        ask(&mut driver, Run);
        assert_eq!(pictures(&mut driver), 100, "what is paid for is run in whole batches");
    }

    /// Whatever a picture costs, and though batches take up to twice as long as others.
    #[test]
    fn a_block_waits_for_50_ms_or_for_one_picture() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        for cost in [1, 40, 700, 4_000, 12_000, 26_000, 90_000] {
            let (mut driver, mut batches) = (Driver::new(), 0);
            driver.queue.batch = 256;
            for round in 0..200u16 {
                for picture in 0..random.random_range(1..=255) {
                    let attachment = AttachmentHash([picture; 32]);
                    let form = Form::Jpeg { width: round, height: 1 };
                    let key = Key { model: ModelId([1; 32]), attachment, form };
                    driver.jobs += 1;
                    driver.queue.push(key, &Content::Attached([picture].into()), (driver.jobs, 0), Free, driver.start);
                }
                while let Ok((_, batch)) = driver.next(1 << 40) {
                    let took = batch.len() as u64 * cost * random.random_range(1_000..=2_000) / 1_000;
                    assert!(took <= 50_000 || batch.len() == 1, "{} of {cost} us took {took}", batch.len());
                    driver.ran_pictures(1, batch.len(), 0, took);
                    batches += 1;
                }
            }
            assert!(batches >= 200);
        }
    }

    #[test]
    fn a_picture_in_another_form_is_another_picture() {
        let mut driver = Driver::new();
        let jpeg = |width| Key { form: Form::Jpeg { width, height: 1 }, ..key(1, 1) };
        for (number, key) in [key(1, 1), jpeg(1), jpeg(2)].into_iter().enumerate() {
            assert!(!driver.queue.push(key, &Content::Attached([1].into()), (number as u64, 0), Run, driver.start));
        }
        assert_eq!(driver.queue.take((Run, ModelId([1; 32])), 2).len(), 2, "not more than asked for");
        assert_eq!(driver.next(0), Ok((1, vec![1])));
    }

    #[test]
    fn a_job_given_up_leaves_what_others_want() {
        let mut driver = Driver::new();
        driver.push(Run, 1, 1, 0);
        driver.push(Run, 1, 2, 0);
        driver.push(Check, 1, 2, 0);
        driver.queue.forget(1, [key(1, 1)].into_iter());
        driver.queue.forget(2, [key(1, 2), key(1, 9)].into_iter());
        assert_eq!(driver.next(0), Ok((1, vec![2])));
        assert_eq!(driver.next(0), Err(None));
        driver.push(Run, 1, 1, 0);
        driver.queue.clear();
        assert_eq!(driver.next(0), Err(None));
    }
}
