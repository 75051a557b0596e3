//! The miner: threads at the lowest priority that look for the nonce of one template.
//!
//! They own nothing but that template. A new one replaces it within one [`STRIDE`] of nonces; without one the threads
//! sleep. The owner sets the header's time and renews the template as the time or the tip moves.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ocelli_consensus::{Address, BlockHash, Header, Root, Target};
use prometheus_client::metrics::counter::Counter;

use crate::rate::Rate;
use search::{Nonces, Search, UNREACHABLE};

mod search;

/// Nonces tried between two looks at whether the template still holds: about a millisecond with SHA instructions.
const STRIDE: u64 = 8_192;

/// Mining threads and the template that they work on. Dropping it stops them and waits for that.
pub struct Miner {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Miner {
    /// Starts the threads, with no template yet.
    ///
    /// `found` gets a header whose hash meets its target: at most one for each template, which is then dropped, and never
    /// one for a template already replaced. It runs on the mining thread that won, with nothing locked, so it may set the
    /// next template.
    ///
    /// # Panics
    /// If the system gives no more threads.
    pub fn start(threads: usize, found: impl Fn(Header) + Send + Sync + 'static) -> Self {
        Self::start_with(threads, u64::MAX, found)
    }

    /// As [`Miner::start`]; no thread tries more than `share` nonces of a template.
    fn start_with(threads: usize, share: u64, found: impl Fn(Header) + Send + Sync + 'static) -> Self {
        let shared = Arc::new(Shared {
            current: Mutex::default(),
            changed: Condvar::new(),
            generation: AtomicU64::new(0),
            threads,
            hashes: Counter::default(),
            rate: Rate::new(Instant::now()),
            share,
        });
        let found = Arc::new(found);
        let start = |index| {
            let (shared, found) = (Arc::clone(&shared), Arc::clone(&found));
            thread::Builder::new()
                .name(format!("miner-{index}"))
                .spawn(move || {
                    lower_priority();
                    shared.work(index, &*found);
                })
                .expect("the system has room for the threads that a node starts with")
        };
        let threads = (0..threads).map(start).collect();
        Self { shared, threads }
    }

    /// Replaces what is mined; `None` stops mining until there is something again. A template whose compact target has no
    /// meaning is refused with an error in the log, and nothing is mined.
    pub fn set_template(&self, template: Option<Header>) {
        self.shared.replace(template);
    }

    /// Hashes per second over the last seconds, by all threads.
    pub fn hash_rate(&self) -> u64 {
        self.rate().get()
    }

    /// Tells the hash rate to others, and after the miner is gone that it has stopped.
    pub fn rate(&self) -> HashRate {
        HashRate(Arc::clone(&self.shared))
    }

    /// Hashes since the start, by all threads.
    pub fn hashes(&self) -> u64 {
        self.shared.hashes.get()
    }

    /// How many threads mine.
    pub fn threads(&self) -> usize {
        self.threads.len()
    }
}

/// How fast a miner is, for whoever wants to know.
#[derive(Clone)]
pub struct HashRate(Arc<Shared>);

impl HashRate {
    /// Hashes per second over the last seconds, by all threads.
    pub fn get(&self) -> u64 {
        self.0.rate.look(Instant::now(), self.0.hashes.get()) as u64
    }

    /// Hashes since the start, by all threads.
    pub fn hashes(&self) -> Counter {
        self.0.hashes.clone()
    }
}

impl Drop for Miner {
    fn drop(&mut self) {
        self.shared.stop();
        for thread in self.threads.drain(..) {
            // A miner may be dropped by its own `found`: that thread ends when it returns.
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                tracing::error!("a mining thread had panicked");
            }
        }
    }
}

/// What hashes the nonces on this processor, for people.
pub fn kernel() -> &'static str {
    ocelli_sha256d::Kernel::available().first().map_or("portable", |kernel| kernel.name())
}

/// Hashes per second of the calling thread, measured at its own priority for at least this long.
pub fn hash_rate_per_thread(duration: Duration) -> u64 {
    let header = Header {
        version: 1,
        parent: BlockHash::default(),
        history: Root::default(),
        state: Root::default(),
        body: Root::default(),
        miner: Address([0; 20]),
        height: 1,
        time: 1,
        target: UNREACHABLE.to_compact_lossy(),
        nonce: 0,
    };
    let mut search = Search::new(&header, UNREACHABLE);
    let mut nonces = Nonces::share(0, 0, 1);
    rate(duration, || {
        let Some((first, count)) = nonces.take(STRIDE) else { return 0 };
        std::hint::black_box(search.first_winner(first, count));
        count
    })
}

/// What `work` counts, per second, done again and again for at least this long. Seconds are those that the calling thread
/// was running, as far as the system tells, so that a busy machine does not count for a slow one.
pub fn rate(duration: Duration, mut work: impl FnMut() -> u64) -> u64 {
    let (start, ran_before, mut count) = (Instant::now(), time_run(), 0_u64);
    loop {
        count += work();
        let elapsed = start.elapsed();
        if elapsed >= duration {
            let ran = time_run().zip(ran_before).and_then(|(now, before)| now.checked_sub(before));
            return (count as f64 / ran.filter(|ran| !ran.is_zero()).unwrap_or(elapsed).as_secs_f64()) as u64;
        }
    }
}

/// For how long the calling thread has been running: the first number, nanoseconds, of Linux's `schedstat` (see
/// `Documentation/scheduler/sched-stats.rst`). `None` elsewhere.
fn time_run() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

struct Shared {
    current: Mutex<Current>,
    /// Signalled when `current` has changed.
    changed: Condvar,
    /// A copy of `current.generation`, for a look without the lock.
    generation: AtomicU64,
    threads: usize,
    hashes: Counter,
    rate: Rate,
    /// Most nonces that a thread tries of one template.
    share: u64,
}

#[derive(Default)]
struct Current {
    /// Rises with every change.
    generation: u64,
    template: Option<Template>,
    is_stopped: bool,
}

#[derive(Clone)]
struct Template {
    header: Header,
    target: Target,
    /// Random, so that two nodes that mine for the same address on the same template do different work.
    first_nonce: u64,
}

impl Template {
    fn new(header: Header) -> Option<Self> {
        match header.target.to_target() {
            Ok(target) => Some(Self { header, target, first_nonce: rand::random() }),
            Err(error) => {
                tracing::error!(height = header.height, %error, "cannot mine on this template");
                None
            }
        }
    }
}

impl Shared {
    /// What a thread does all its life.
    fn work(&self, index: usize, found: &impl Fn(Header)) {
        let mut done = 0;
        while let Some((generation, template)) = self.wait_for_other_than(done) {
            done = generation;
            let mut search = Search::new(&template.header, template.target);
            let mut nonces = Nonces::share(template.first_nonce, index, self.threads).at_most(self.share);
            while self.generation.load(Ordering::Relaxed) == generation {
                // Out of nonces: nothing to do here until the next template, whose time or body differs.
                let Some((first, count)) = nonces.take(STRIDE) else { break };
                let winner = search.first_winner(first, count);
                let tried = winner.map_or(count, |nonce| nonce.wrapping_sub(first) + 1);
                self.hashes.inc_by(tried);
                if let Some(nonce) = winner {
                    if self.claim(generation) {
                        found(Header { nonce, ..template.header });
                    }
                    break;
                }
            }
        }
    }

    /// Sleeps until there is a template of another generation than `done`; `None` when it is time to stop.
    fn wait_for_other_than(&self, done: u64) -> Option<(u64, Template)> {
        let mut current = lock(&self.current);
        loop {
            match &current.template {
                _ if current.is_stopped => return None,
                Some(template) if current.generation != done => return Some((current.generation, template.clone())),
                _ => current = self.changed.wait(current).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn replace(&self, template: Option<Header>) {
        let template = template.and_then(Template::new);
        self.change(&mut lock(&self.current), template);
    }

    /// Whether the template of this generation is still the current one; if so it is dropped, for it has been solved.
    fn claim(&self, generation: u64) -> bool {
        let mut current = lock(&self.current);
        let is_current = current.generation == generation && !current.is_stopped;
        if is_current {
            self.change(&mut current, None);
        }
        is_current
    }

    fn stop(&self) {
        let mut current = lock(&self.current);
        current.is_stopped = true;
        self.change(&mut current, None);
    }

    fn change(&self, current: &mut Current, template: Option<Template>) {
        current.generation += 1;
        current.template = template;
        self.generation.store(current.generation, Ordering::Relaxed);
        self.changed.notify_all();
    }
}

/// What is locked here is whole after every statement, so that a panic elsewhere leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets everything else on the machine go first. Linux keeps a nice value for each thread; elsewhere it belongs to the
/// process, and the rest of the node must stay quick.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, 19) {
        tracing::warn!(%error, "cannot mine at the lowest priority");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ocelli_consensus::CompactTarget;
    use std::sync::mpsc;

    fn header(height: u64, target: Target) -> Header {
        Header {
            version: 1,
            parent: BlockHash([1; 32]),
            history: Root([2; 32]),
            state: Root([3; 32]),
            body: Root([4; 32]),
            miner: Address([5; 20]),
            height,
            time: 1_700_000_000 + height,
            target: target.to_compact_lossy(),
            nonce: 0,
        }
    }

    fn easy() -> Target {
        CompactTarget(0x2000_ffff).to_target().unwrap()
    }

    fn start(threads: usize, share: u64) -> (Miner, mpsc::Receiver<Header>) {
        let (sender, receiver) = mpsc::channel();
        (Miner::start_with(threads, share, move |header| sender.send(header).unwrap()), receiver)
    }

    #[test]
    fn finds_one_block_for_a_template() {
        let (miner, found) = start(4, u64::MAX);
        for height in 1..=20 {
            let template = header(height, easy());
            miner.set_template(Some(template.clone()));
            let block = found.recv().unwrap();
            assert_eq!(Header { nonce: 0, ..block.clone() }, template);
            assert!(easy().is_met_by(block.hash().0), "{block:?}");
        }
        assert!(miner.hashes() >= 20);
        drop(miner);
        assert_eq!(found.iter().count(), 0, "no thread found a second block for any of them");
    }

    #[test]
    fn a_new_template_replaces_the_old() {
        let (miner, found) = start(2, u64::MAX);
        for height in 1..=5 {
            miner.set_template(Some(header(2 * height, UNREACHABLE)));
            miner.set_template(Some(header(2 * height + 1, easy())));
            assert_eq!(found.recv().unwrap().height, 2 * height + 1);
        }
    }

    #[test]
    fn a_win_on_a_replaced_template_is_no_win() {
        let (miner, _found) = start(0, u64::MAX);
        miner.set_template(Some(header(1, easy())));
        let (generation, template) = miner.shared.wait_for_other_than(0).unwrap();
        assert_eq!(template.header.height, 1);
        miner.set_template(Some(header(2, easy())));
        assert!(!miner.shared.claim(generation));
        let (generation, _) = miner.shared.wait_for_other_than(generation).unwrap();
        assert!(miner.shared.claim(generation));
        assert!(!miner.shared.claim(generation), "nor is the second on the same");
    }

    #[test]
    fn threads_out_of_nonces_wait_for_the_next_template() {
        let (miner, found) = start(3, STRIDE + 5);
        miner.set_template(Some(header(1, UNREACHABLE)));
        while miner.hashes() < 3 * (STRIDE + 5) {
            thread::yield_now();
        }
        miner.set_template(Some(header(2, Target::MAX)));
        assert_eq!(found.recv().unwrap().height, 2);
    }

    #[test]
    fn stops_while_mining_and_while_asleep() {
        let (miner, found) = start(2, u64::MAX);
        miner.set_template(Some(header(1, UNREACHABLE)));
        while miner.hashes() == 0 {
            thread::yield_now();
        }
        drop(miner);
        assert_eq!(found.iter().count(), 0);

        let (miner, found) = start(2, u64::MAX);
        miner.set_template(Some(header(1, UNREACHABLE)));
        miner.set_template(None);
        drop(miner);
        assert_eq!(found.iter().count(), 0);
    }

    #[test]
    fn found_may_set_the_next_template_and_drop_the_miner() {
        let slot: Arc<Mutex<Option<Miner>>> = Arc::default();
        let (sender, found) = mpsc::channel();
        let inside = Arc::clone(&slot);
        let miner = Miner::start(2, move |block| {
            let mut miner = lock(&inside);
            match block.height {
                1 => miner.as_ref().unwrap().set_template(Some(header(2, easy()))),
                _ => drop(miner.take()),
            }
            sender.send(block.height).unwrap();
        });
        lock(&slot).insert(miner).set_template(Some(header(1, easy())));
        assert_eq!([found.recv().unwrap(), found.recv().unwrap()], [1, 2]);
    }

    #[test]
    fn a_template_without_a_target_is_not_mined() {
        let (miner, found) = start(1, u64::MAX);
        miner.set_template(Some(Header { target: CompactTarget(0), ..header(1, easy()) }));
        miner.set_template(Some(header(2, easy())));
        assert_eq!(found.recv().unwrap().height, 2);
    }

    #[test]
    fn hash_rates_are_measured() {
        assert!(hash_rate_per_thread(Duration::from_millis(20)) > 1_000);
        let (miner, _found) = start(1, u64::MAX);
        assert_eq!(miner.hash_rate(), 0);
        miner.set_template(Some(header(1, UNREACHABLE)));
        while miner.hash_rate() == 0 {
            thread::yield_now();
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn only_the_mining_thread_is_nice() {
        let own = || rustix::process::getpriority_process(None).unwrap();
        let before = own();
        let inside = thread::spawn(move || {
            lower_priority();
            own()
        });
        assert_eq!((inside.join().unwrap(), own()), (19, before));
    }
}
