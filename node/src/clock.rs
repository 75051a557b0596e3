//! The two clocks of a node.
//!
//! What waits, times out, fills a bucket or is tried again goes by *monotonic* time, which nobody can set. The *wall* clock is
//! for what others see or a restart must know: header times, blocks that are held until their time comes, the ends of bans on
//! disk, and what people read. It may be stepped either way at any moment; then nothing of the first kind notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

/// Both clocks. All clones are one clock.
#[derive(Debug, Clone)]
pub struct Clock(Arc<Source>);

#[derive(Debug)]
struct Source {
    started: Instant,
    /// Milliseconds by which the wall clock was stepped.
    step: AtomicI64,
    /// Of a clock that tests move: milliseconds since it was made, and since 1970 when it was made.
    by_hand: Option<(AtomicU64, u64)>,
}

impl Clock {
    /// This machine's clocks.
    pub fn system() -> Self {
        Self(Arc::new(Source { started: Instant::now(), step: AtomicI64::new(0), by_hand: None }))
    }

    /// A clock that stands still but for [`Clock::advance`], made at that many seconds since 1970.
    pub fn by_hand(unix_seconds: u64) -> Self {
        let by_hand = Some((AtomicU64::new(0), unix_seconds.saturating_mul(1000)));
        Self(Arc::new(Source { started: Instant::now(), step: AtomicI64::new(0), by_hand }))
    }

    /// Monotonic milliseconds since the clock was made.
    pub fn now(&self) -> u64 {
        match &self.0.by_hand {
            Some((now, _)) => now.load(Ordering::Relaxed),
            None => u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Milliseconds since 1970 by the wall clock. Nothing that is valid or not depends on it.
    pub fn unix_millis(&self) -> u64 {
        let unstepped = match &self.0.by_hand {
            Some((now, made)) => made.saturating_add(now.load(Ordering::Relaxed)),
            None => {
                let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
            }
        };
        unstepped.saturating_add_signed(self.0.step.load(Ordering::Relaxed))
    }

    /// Seconds since 1970 by the wall clock.
    pub fn unix_seconds(&self) -> u64 {
        self.unix_millis() / 1000
    }

    /// Lets time pass on a clock that is moved by hand; others go by themselves.
    pub fn advance(&self, millis: u64) {
        if let Some((now, _)) = &self.0.by_hand {
            now.fetch_add(millis, Ordering::Relaxed);
        }
    }

    /// Steps the wall clock, as its owner or a time server may; monotonic time goes on.
    pub fn step_wall(&self, seconds: i64) {
        self.0.step.fetch_add(seconds.saturating_mul(1000), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_wall_clock_steps() {
        for clock in [Clock::by_hand(1_000_000), Clock::system()] {
            let (now, wall) = (clock.now(), clock.unix_seconds());
            clock.step_wall(-3600);
            assert!(clock.now() >= now && clock.unix_seconds() < wall);
            clock.step_wall(7200);
            assert!(clock.unix_seconds() >= wall + 3600);
        }
        let clock = Clock::by_hand(1_000_000);
        clock.advance(2_500);
        assert_eq!((clock.now(), clock.unix_millis()), (2_500, 1_000_002_500));
        clock.step_wall(i64::MIN);
        assert_eq!(clock.unix_seconds(), 0);
    }
}
