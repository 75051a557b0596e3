//! How fast a count rises, for people: Prometheus works it out from the count itself.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How far back a rate looks.
const WINDOW: Duration = Duration::from_secs(10);
/// How far looks that are remembered lie apart.
const APART: Duration = Duration::from_secs(1);

/// A count, as it was lately. It remembers at most one look for each second of the window, and one before.
#[derive(Debug)]
pub struct Rate(Mutex<VecDeque<(Instant, u64)>>);

impl Rate {
    /// Of a count that begins now.
    pub fn new(now: Instant) -> Self {
        Self(Mutex::new([(now, 0)].into()))
    }

    /// By how much the count rises in a second, over the last [`WINDOW`] or as far back as somebody has looked. For display: in
    /// its first second it reads low, rather than wildly.
    pub fn look(&self, now: Instant, count: u64) -> f64 {
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while looks.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= WINDOW) {
            looks.pop_front();
        }
        let (since, before) = looks.front().copied().unwrap_or((now, count));
        if looks.back().is_none_or(|(at, _)| now.saturating_duration_since(*at) >= APART) {
            looks.push_back((now, count));
        }
        count.saturating_sub(before) as f64 / now.saturating_duration_since(since).as_secs_f64().max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_cover_the_last_seconds_only() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let rate = Rate::new(start);
        assert_eq!(rate.look(start, 0), 0.0);
        assert_eq!(rate.look(at(500), 30), 30.0, "a whole second is the least divisor");
        assert_eq!(rate.look(at(2_000), 30), 15.0);
        assert_eq!(rate.look(at(10_000), 100), 10.0);
        assert_eq!(rate.look(at(12_000), 130), 10.0, "since the look at 2 s");
        assert_eq!(rate.look(at(20_000), 130), 3.0, "since the one at 10 s");
        for second in 21..1_000 {
            rate.look(at(second * 1_000), 130);
        }
        assert_eq!(rate.look(at(1_000_000), 130), 0.0);
        assert!(rate.0.lock().unwrap().len() <= 12);
        assert_eq!(rate.look(at(2_000_000), 1_130), 1.0, "nobody has looked for long");
    }
}
