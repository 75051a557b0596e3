//! What the service counts, in Prometheus' terms.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

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
    pub batch_pictures: Histogram,
    /// What the device took for a batch.
    pub batch_seconds: Histogram,
    /// What the first picture of a batch waited.
    pub wait_seconds: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        // From 0.1 ms to 1.6 s.
        let seconds = || Histogram::new(exponential_buckets(0.000_1, 2.0, 15));
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
    pub fn register(&self, to: &mut Registry) {
        to.register("computed_pictures", "Pictures that the device has run", self.computed.clone());
        to.register("cached_pictures", "Pictures answered from earlier results", self.cached.clone());
        to.register("joined_pictures", "Pictures that joined one that waited already", self.joined.clone());
        to.register("batch_pictures", "Pictures of a batch", self.batch_pictures.clone());
        let took = "What the device took for a batch";
        to.register_with_unit("batch_duration", took, Unit::Seconds, self.batch_seconds.clone());
        let waited = "What the first picture of a batch waited for it";
        to.register_with_unit("wait", waited, Unit::Seconds, self.wait_seconds.clone());
    }
}
