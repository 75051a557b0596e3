//! How often something happened lately, from counts by the second.

use std::time::{Duration, Instant};

/// Seconds that a [`Meter`] looks back over, the running one included.
pub const WINDOW_SECONDS: usize = 10;

/// Counts events by the second and gives their rate over the last [`WINDOW_SECONDS`]. Its size never changes.
#[derive(Debug, Clone)]
pub struct Meter {
    started: Instant,
    total: u64,
    /// By second since `started`, modulo the window: which second it is, and the events in it.
    buckets: [(u64, u64); WINDOW_SECONDS],
}

impl Meter {
    /// A meter that starts to count now.
    pub fn new(now: Instant) -> Self {
        Self { started: now, total: 0, buckets: [(0, 0); WINDOW_SECONDS] }
    }

    /// Counts events that happened just now.
    pub fn add(&mut self, now: Instant, count: u64) {
        self.total = self.total.saturating_add(count);
        let second = now.saturating_duration_since(self.started).as_secs();
        let bucket = &mut self.buckets[second as usize % WINDOW_SECONDS];
        if bucket.0 != second {
            *bucket = (second, 0);
        }
        bucket.1 = bucket.1.saturating_add(count);
    }

    /// Events since the meter started.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Events per second over the window, or since the start where that is later. For display. In its first second a
    /// meter divides by a whole second and so reads low, rather than wildly.
    pub fn rate(&self, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.started);
        let oldest = (elapsed.as_secs() + 1).saturating_sub(WINDOW_SECONDS as u64);
        let events: u64 = self.buckets.iter().filter(|(second, _)| *second >= oldest).map(|(_, count)| count).sum();
        let covered = elapsed - Duration::from_secs(oldest);
        events as f64 / covered.as_secs_f64().max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_cover_the_last_seconds_only() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut meter = Meter::new(start);
        assert_eq!(meter.rate(start), 0.0);
        meter.add(at(100), 30);
        assert_eq!(meter.rate(at(500)), 30.0, "a whole second is the least divisor");
        assert_eq!(meter.rate(at(3_000)), 10.0);
        meter.add(at(9_500), 65);
        assert_eq!(meter.rate(at(9_500)), 10.0);
        assert_eq!(meter.rate(at(10_500)), 65.0 / 9.5, "the first second has left the window");
        meter.add(at(10_500), 30);
        assert_eq!(meter.rate(at(10_500)), 10.0, "its bucket is used again");
        assert_eq!(meter.rate(at(60_000)), 0.0);
        assert_eq!(meter.total(), 125);
    }
}
