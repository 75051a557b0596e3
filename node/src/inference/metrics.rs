//! What the service counts, in Prometheus' terms.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::queue::Priority;

/// Since the start.
#[derive(Debug)]
pub struct Metrics {
    /// Pictures that the device has run.
    pub computed: Counter,
    /// Tasks answered from earlier results.
    pub cached: Counter,
    /// Tasks that joined one that waited already.
    pub joined: Counter,
    pub batches: Counter,
    /// Pictures of a batch.
    batch_pictures: Histogram,
    /// What the device took for a batch.
    batch_seconds: Seconds,
    /// What the picture of a batch waited that had waited longest.
    wait_seconds: Seconds,
}

type Seconds = Family<Purpose, Histogram, fn() -> Histogram>;

/// What a batch is run for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Purpose {
    purpose: &'static str,
}

impl Purpose {
    fn of(priority: Priority) -> Self {
        let purpose = match priority {
            Priority::Check => "blocks",
            Priority::Run => "paid",
            Priority::Free => "free",
        };
        Self { purpose }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let seconds = || {
            // From 0.1 ms to 1.6 s.
            let seconds = Seconds::new_with_constructor(|| Histogram::new(exponential_buckets(0.000_1, 2.0, 15)));
            // Shown before there are any.
            for priority in [Priority::Check, Priority::Run, Priority::Free] {
                drop(seconds.get_or_create(&Purpose::of(priority)));
            }
            seconds
        };
        Self {
            computed: Counter::default(),
            cached: Counter::default(),
            joined: Counter::default(),
            batches: Counter::default(),
            batch_pictures: Histogram::new(exponential_buckets(1.0, 2.0, 9)),
            batch_seconds: seconds(),
            wait_seconds: seconds(),
        }
    }
}

impl Metrics {
    /// Counts a batch of so many pictures: what the device took, and what the picture waited that had waited longest.
    pub fn batch(&self, priority: Priority, pictures: usize, took: Duration, waited: Duration) {
        self.batches.inc();
        self.computed.inc_by(pictures as u64);
        self.batch_pictures.observe(pictures as f64);
        let purpose = Purpose::of(priority);
        self.batch_seconds.get_or_create(&purpose).observe(took.as_secs_f64());
        self.wait_seconds.get_or_create(&purpose).observe(waited.as_secs_f64());
    }

    pub fn register(&self, to: &mut Registry) {
        to.register("computed_pictures", "Pictures that the device has run", self.computed.clone());
        to.register("cached_pictures", "Pictures answered from earlier results", self.cached.clone());
        to.register("joined_pictures", "Pictures that joined one that waited already", self.joined.clone());
        to.register("batch_pictures", "Pictures of a batch", self.batch_pictures.clone());
        let took = "What the device took for a batch, by what it was run for";
        to.register_with_unit("batch_duration", took, Unit::Seconds, self.batch_seconds.clone());
        let waited = "What the picture of a batch waited that had waited longest, by what it was run for";
        to.register_with_unit("wait", waited, Unit::Seconds, self.wait_seconds.clone());
    }
}
